//! The rows for C and C++, but for those about files beside the object: [`super::outputs`].

use crate::conformance::Row;
use crate::conformance::bench::{Bench, Compiler, Verdict};
use crate::run::Done;

pub(super) const X: &[&str] = &["-c", "x.c", "-o", "x.o"];
pub(super) const O: &[&str] = &["x.o"];

pub(super) fn all(_: &Compiler) -> bool {
    true
}

pub(super) fn gcc(compiler: &Compiler) -> bool {
    compiler.is_gcc()
}

pub(super) fn clang(compiler: &Compiler) -> bool {
    !compiler.is_gcc()
}

/// Rows that are tried with `zig cc` as well: what it reads, and what is in the key. Its other forms are not cached.
const WITH_ZIG: &[&str] = &[
    "a header appears earlier on the -I path",
    "a header appears beside the source",
    "an include folder that was not there appears",
    "a file that `__has_include` asks for appears",
    "a file that `__has_include` asks for goes",
    "what assembler `.include` names changes",
    "what `.incbin` names changes",
    "SOURCE_DATE_EPOCH changes, `__DATE__`",
    "the clock moves on, `__TIME__`",
    "a response file changes",
    "two checkouts, a header differs",
    "two checkouts, debug information",
    "two checkouts, `__FILE__` of an absolute path",
    "two checkouts, warnings name files",
    "a header is edited, same time and size",
    "a header is a link that leads elsewhere",
    "CPATH changes",
    "the same header as C and as C++",
    "warnings and colour are given again",
    "a compile that fails",
    "a stored object is cut",
    "a file of `#embed` changes",
];

/// Whether a row is tried with a compiler.
pub(crate) fn is_for(row: &Row, compiler: &Compiler) -> bool {
    if compiler.is_zig() { WITH_ZIG.contains(&row.name) } else { (row.with)(compiler) }
}

pub(super) const fn row(
    name: &'static str,
    with: fn(&Compiler) -> bool,
    run: fn(&mut Bench<'_>) -> Done<Verdict>,
) -> Row {
    Row { name, with, cached: true, run }
}

pub(super) const fn uncached(
    name: &'static str,
    with: fn(&Compiler) -> bool,
    run: fn(&mut Bench<'_>) -> Done<Verdict>,
) -> Row {
    Row { name, with, cached: false, run }
}

/// Rows about what is read.
pub(crate) const ROWS: &[Row] = &[
    row("a header appears earlier on the -I path", all, |b| {
        b.write("first/.keep", "");
        b.write("second/h.h", "#define V 1\n");
        b.write("x.c", "#include <h.h>\nint v = V;\n");
        let args = ["-Ifirst", "-Isecond", "-c", "x.c", "-o", "x.o"];
        b.after(&args, O, |b| b.write("first/h.h", "#define V 2\n"))
    }),
    row("a header appears beside the source", all, |b| {
        b.write("inc/h.h", "#define V 1\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        b.after(&["-Iinc", "-c", "x.c", "-o", "x.o"], O, |b| b.write("h.h", "#define V 2\n"))
    }),
    row("an include folder that was not there appears", all, |b| {
        b.write("second/h.h", "#define V 1\n");
        b.write("x.c", "#include <h.h>\nint v = V;\n");
        let args = ["-Ifirst", "-Isecond", "-c", "x.c", "-o", "x.o"];
        b.after(&args, O, |b| b.write("first/h.h", "#define V 2\n"))
    }),
    row("a file that `__has_include` asks for appears", all, |b| {
        b.write("x.c", "#if __has_include(\"maybe.h\")\nint v = 2;\n#else\nint v = 1;\n#endif\n");
        b.after(X, O, |b| b.write("maybe.h", ""))
    }),
    row("a file that `__has_include` asks for goes", all, |b| {
        b.write("maybe.h", "");
        b.write("x.c", "#if __has_include(\"maybe.h\")\nint v = 2;\n#else\nint v = 1;\n#endif\n");
        b.after(X, O, |b| std::fs::remove_file(b.cwd.join("maybe.h")).expect("our own file"))
    }),
    row("what assembler `.include` names changes", all, |b| {
        b.write("part.inc", ".byte 1\n");
        b.write("x.S", ".data\n.include \"part.inc\"\n");
        b.after(&["-c", "x.S", "-o", "x.o"], O, |b| b.write("part.inc", ".byte 2\n"))
    }),
    row("what `.incbin` names changes", all, |b| {
        b.write("data.bin", "one");
        b.write("x.c", "__asm__(\".data\\n.incbin \\\"data.bin\\\"\\n\");\nint v;\n");
        b.after(X, O, |b| b.write("data.bin", "two"))
    }),
    row("the compiler is replaced, same time and size", all, |b| {
        let script = |b: &Bench<'_>, v: u32| format!("#!/bin/sh\nexec {} -DV={v} \"$@\"\n", b.compiler.name);
        let name = b.compiler.name;
        b.write_program(&format!("bin/{name}"), &script(b, 1));
        b.write("x.c", "int v = V;\n");
        b.program = b.cwd.join("bin").join(name).display().to_string();
        b.after(X, O, |b| b.rewrite_keeping_times(&format!("bin/{name}"), &script(b, 2)))
    }),
    uncached("the compiler is replaced while it runs, and put back", all, |b| {
        // Where it is older than the source, this one puts another in its place and becomes that.
        let name = b.compiler.name;
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = -c ] && [ bin/{name} -ot x.c ]; then cp bin/two bin/new; mv bin/new bin/{name}; exec bin/{name} \"$@\"; fi\nexec {name} -DV=1 \"$@\"\n"
        );
        b.write_program(&format!("bin/{name}"), &script);
        b.write_program("bin/two", &format!("#!/bin/sh\nexec {name} -DV=2 \"$@\"\n"));
        b.settle();
        b.write("x.c", "int v = V;\n");
        b.program = b.cwd.join("bin").join(name).display().to_string();
        b.settle();
        b.call(true, X, O)?;
        b.write_program(&format!("bin/{name}"), &script);
        b.compare(X, O)
    }),
    row("the assembler is swapped by -B", gcc, |b| {
        b.write_program("tools/as", "#!/bin/sh\nexec as \"$@\"\n");
        b.write("x.c", "int v = 1;\n");
        b.after(&["-Btools", "-c", "x.c", "-o", "x.o"], O, |b| {
            b.write_program("tools/as", "#!/bin/sh\nexec as --gen-debug \"$@\"\n");
        })
    }),
    row("an assembler appears where -B looks first", gcc, |b| {
        b.write("tools/.keep", "");
        b.write("x.c", "int v = 1;\n");
        b.after(&["-Btools", "-c", "x.c", "-o", "x.o"], O, |b| {
            b.write_program("tools/as", "#!/bin/sh\nexec as --gen-debug \"$@\"\n");
        })
    }),
    row("SOURCE_DATE_EPOCH changes, `__DATE__`", all, |b| {
        b.write("x.c", "const char *d = __DATE__;\n");
        b.set("SOURCE_DATE_EPOCH", "1000000000");
        b.after(X, O, |b| b.set("SOURCE_DATE_EPOCH", "1100000000"))
    }),
    uncached("the clock moves on, `__TIME__`", all, |b| {
        b.write("x.c", "const char *t = __TIME__;\n");
        b.warm(X, O)?;
        std::thread::sleep(std::time::Duration::from_millis(1100));
        for _ in 0..3 {
            // Both within one second, or it is tried again.
            let found = b.call(true, X, O)?;
            let right = b.call(false, X, O)?;
            if found.differs(&right).is_none() {
                return Ok(Verdict::of(None));
            }
        }
        Ok(Verdict::of(Some("`x.o` differs".to_owned())))
    }),
    row("the file of -specs= changes", gcc, |b| {
        b.write("my.specs", "*cpp:\n-DV=1\n");
        b.write("x.c", "int v = V;\n");
        b.after(&["-specs=my.specs", "-c", "x.c", "-o", "x.o"], O, |b| b.write("my.specs", "*cpp:\n-DV=2\n"))
    }),
    row("a response file changes", all, |b| {
        b.write("args.rsp", "-DV=1 -c x.c\n");
        b.write("x.c", "int v = V;\n");
        b.after(&["@args.rsp", "-o", "x.o"], O, |b| b.write("args.rsp", "-DV=2 -c x.c\n"))
    }),
    row("two checkouts, a header differs", all, |b| {
        b.write("h.h", "#define V 1\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        b.warm(X, O)?;
        b.cwd = b.beside("other");
        b.write("h.h", "#define V 2\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        b.compare(X, O)
    }),
    row("two checkouts, debug information", all, |b| {
        b.write(".git/HEAD", "");
        b.write("x.c", "int v(void) { return 1; }\n");
        let args = ["-g", "-c", "x.c", "-o", "x.o"];
        b.set("SPOLIA_REMAP", "1");
        b.warm(&args, O)?;
        let first = b.cwd.display().to_string();
        b.cwd = b.beside("other");
        b.write(".git/HEAD", "");
        b.write("x.c", "int v(void) { return 1; }\n");
        b.settle();
        let found = b.call(true, &args, O)?.files["x.o"].clone().unwrap_or_default();
        let names_first = found.windows(first.len()).any(|part| part == first.as_bytes());
        Ok(Verdict::of(names_first.then(|| "it names the other checkout".to_owned())))
    }),
    row("two checkouts, `__FILE__` of an absolute path", all, |b| {
        b.write("x.c", "const char *f = __FILE__;\n");
        let source = b.cwd.join("x.c").display().to_string();
        b.warm(&["-c", &source, "-o", "x.o"], O)?;
        b.cwd = b.beside("other");
        b.write("x.c", "const char *f = __FILE__;\n");
        let source = b.cwd.join("x.c").display().to_string();
        b.compare(&["-c", &source, "-o", "x.o"], O)
    }),
    row("two checkouts, warnings name files", all, |b| {
        let text = "int v(void) { int unused; return 1; }\n";
        b.write("x.c", text);
        let source = b.cwd.join("x.c").display().to_string();
        b.warm(&["-Wall", "-c", &source, "-o", "x.o"], O)?;
        b.cwd = b.beside("other");
        b.write("x.c", text);
        let source = b.cwd.join("x.c").display().to_string();
        b.compare(&["-Wall", "-c", &source, "-o", "x.o"], O)
    }),
    row("a header goes, under -MD", all, |b| {
        b.write("h.h", "#define V 1\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        let outputs = ["x.o"];
        b.after(&["-MD", "-c", "x.c", "-o", "x.o"], &outputs, |b| {
            std::fs::remove_file(b.cwd.join("h.h")).expect("our own file");
        })
    }),
    row("a header is edited, same time and size", all, |b| {
        b.write("h.h", "#define V 1\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        b.after(X, O, |b| b.rewrite_keeping_times("h.h", "#define V 2\n"))
    }),
    row("a header is a link that leads elsewhere", all, |b| {
        b.write("one.h", "#define V 1\n");
        b.write("two.h", "#define V 2\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        std::os::unix::fs::symlink("one.h", b.cwd.join("h.h")).expect("our own link");
        b.after(X, O, |b| {
            std::fs::remove_file(b.cwd.join("h.h")).expect("our own link");
            std::os::unix::fs::symlink("two.h", b.cwd.join("h.h")).expect("our own link");
        })
    }),
    row("CPATH changes", all, |b| {
        b.write("one/h.h", "#define V 1\n");
        b.write("two/h.h", "#define V 2\n");
        b.write("x.c", "#include <h.h>\nint v = V;\n");
        b.set("CPATH", "one");
        b.after(X, O, |b| b.set("CPATH", "two"))
    }),
    row("the same header as C and as C++", all, |b| {
        b.write("x.h", "#ifdef __cplusplus\nint v = 2;\n#else\nint v = 1;\n#endif\n");
        b.warm(&["-x", "c", "-c", "x.h", "-o", "x.o"], O)?;
        b.compare(&["-x", "c++", "-c", "x.h", "-o", "x.o"], O)
    }),
    row("the same source by the C and the C++ driver", all, |b| {
        b.write("x.c", "int f(void) { return sizeof('a'); }\n");
        b.warm(X, O)?;
        b.program = b.compiler.cpp.to_owned();
        b.compare(X, O)
    }),
    row("warnings and colour are given again", all, |b| {
        b.write("x.c", "int v(void) { int unused; return 1; }\n");
        let args = ["-Wall", "-fdiagnostics-color=always", "-c", "x.c", "-o", "x.o"];
        b.after(&args, O, |_| {})
    }),
    uncached("a compile that fails", all, |b| {
        b.write("x.c", "int v = nothing;\n");
        b.after(X, O, |_| {})
    }),
    row("a stored object is cut", all, |b| {
        let lines: String = (0..200).map(|n| format!("int f{n}(int a) {{ return a * {n}; }}\n")).collect();
        b.write("x.c", lines);
        b.after(X, O, |b| b.truncate_store())
    }),
    uncached("a header is edited while the compiler runs", gcc, |b| {
        // The assembler runs when the header has been read: this one edits it, once.
        b.write_program(
            "tools/as",
            "#!/bin/sh\n[ -e once ] || { touch once; echo '#define V 2' > h.h; }\nexec as \"$@\"\n",
        );
        b.write("h.h", "#define V 1\n");
        b.write("x.c", "#include \"h.h\"\nint v = V;\n");
        b.settle();
        let args = ["-Btools", "-c", "x.c", "-o", "x.o"];
        b.call(true, &args, O)?;
        b.compare(&args, O)
    }),
    row("a file of `#embed` changes", all, |b| {
        let knows = if b.compiler.is_gcc() { b.compiler.version >= 15 } else { b.compiler.version >= 19 };
        if !knows {
            return Ok(Verdict::impossible());
        }
        b.write("data.bin", "1");
        b.write("x.c", "const unsigned char v[] = {\n#embed \"data.bin\"\n};\n");
        b.after(&["-std=c23", "-c", "x.c", "-o", "x.o"], O, |b| b.write("data.bin", "2"))
    }),
    uncached("a Clang module's header changes", clang, |b| {
        b.write("m/module.modulemap", "module M { header \"m.h\" }\n");
        b.write("m/m.h", "#define V 1\n");
        b.write("x.c", "#include \"m.h\"\nint v = V;\n");
        let args = ["-fmodules", "-fmodules-cache-path=cache", "-Im", "-c", "x.c", "-o", "x.o"];
        b.after(&args, O, |b| b.write("m/m.h", "#define V 2\n"))
    }),
];
