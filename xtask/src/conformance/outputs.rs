//! The rows for C and C++ about what lies beside an object: dependencies, debug information, profiles, compiled headers.

use std::path::Path;

use crate::conformance::Row;
use crate::conformance::bench::{Bench, Verdict};
use crate::conformance::c::{O, X, all, clang, gcc, row, uncached};
use crate::run::Done;

/// Whether an object made after `change` writes its profile where it would without a cache. A time stamp in it is another each
/// time: only the path can be compared.
fn profile_goes_to(
    b: &mut Bench<'_>,
    flags: &[&str],
    data: &str,
    output: &str,
    change: impl FnOnce(&mut Bench<'_>),
) -> Done<Verdict> {
    let source = "int v(int a) { return a ? 1 : 2; }\n";
    b.write("x.c", source);
    b.warm(&[flags, &["-c", "x.c", "-o", "a/x.o"]].concat(), &["a/x.o"])?;
    change(b);
    b.write("x.c", source);
    b.settle();
    let found = b.call(true, &[flags, &["-c", "x.c", "-o", output]].concat(), &[output])?;
    let object = found.files[output].clone().unwrap_or_default();
    let names_it = object.windows(data.len()).any(|part| part == data.as_bytes());
    Ok(Verdict::of((!names_it).then(|| "the object writes its counts elsewhere".to_owned())))
}

/// The map of this checkout's path, then of another's: two names for one call.
fn own_map(b: &mut Bench<'_>, option: &str) -> Done<Verdict> {
    let write = |b: &Bench<'_>| {
        b.write(".git/HEAD", "");
        b.write("sub/h.h", "static const char *h = __FILE__;\n");
        b.write("x.c", "#include \"sub/h.h\"\nconst char *v(void) { return h; }\n");
        [option, "=", &b.cwd.display().to_string(), "=/src"].concat()
    };
    let args = |map: &str| ["-g", map, "-MD", "-c", "x.c", "-o", "x.o"].map(str::to_owned);
    let map = write(b);
    b.warm(&args(&map).each_ref().map(String::as_str), &["x.o", "x.d"])?;
    let before = b.hits();
    b.cwd = b.beside("other");
    let map = write(b);
    let mut verdict = b.compare(&args(&map).each_ref().map(String::as_str), &["x.o", "x.d"])?;
    verdict.hits = Some(b.hits() - before);
    Ok(verdict)
}

/// A header in a folder that is named by a link, and the same header in another folder that the link is set to.
fn linked_folder(b: &mut Bench<'_>, option: &str, flags: &[&str]) -> Done<Verdict> {
    for version in ["v1", "v2"] {
        b.write(&format!("{version}/h.h"), "static inline int f(void) { return 1; }\n");
    }
    b.write("x.c", "#include <h.h>\nint g(void) { return f(); }\n");
    let link = b.cwd.join("include");
    link_to(&link, Path::new("v1"));
    let named = link.display().to_string();
    let args = [flags, &[option, &named, "-c", "x.c", "-o", "x.o"]].concat();
    b.after(&args, &["x.o", "x.d"], |_| link_to(&link, Path::new("v2")))
}

fn link_to(link: &Path, target: &Path) {
    let _not_there = std::fs::remove_file(link);
    std::os::unix::fs::symlink(target, link).expect("our own link");
}

/// Every one of them.
pub(crate) const ROWS: &[Row] = &[
    row("-gsplit-dwarf, other output folder", all, |b| {
        b.write("x.c", "int v = 1;\n");
        b.write("a/.keep", "");
        b.write("b/.keep", "");
        b.warm(&["-g", "-gsplit-dwarf", "-c", "x.c", "-o", "a/x.o"], &["a/x.o", "a/x.dwo"])?;
        b.compare(&["-g", "-gsplit-dwarf", "-c", "x.c", "-o", "b/x.o"], &["b/x.o", "b/x.dwo"])
    }),
    row("--coverage, other output folder", all, |b| {
        b.write("x.c", "int v(void) { return 1; }\n");
        b.write("a/.keep", "");
        b.write("b/.keep", "");
        b.warm(&["--coverage", "-c", "x.c", "-o", "a/x.o"], &["a/x.o", "a/x.gcno"])?;
        // A time stamp ties notes to their object: only whether both are there and agree can be compared.
        b.settle();
        let found = b.call(true, &["--coverage", "-c", "x.c", "-o", "b/x.o"], &["b/x.o", "b/x.gcno"])?;
        let notes = found.files["b/x.gcno"].clone();
        let object = found.files["b/x.o"].clone().unwrap_or_default();
        let names_b = object.windows(8).any(|part| part == b"b/x.gcda");
        Ok(Verdict::of(match notes {
            None => Some("`b/x.gcno` is missing".to_owned()),
            Some(_) if !names_b => Some("the object writes its counts elsewhere".to_owned()),
            Some(_) => None,
        }))
    }),
    row("-fprofile-generate, other output folder", gcc, |b| {
        b.write("a/.keep", "");
        b.write("b/.keep", "");
        profile_goes_to(b, &["-fprofile-generate"], "b/x.gcda", "b/x.o", |_| {})
    }),
    row("-fprofile-generate=DIR, two checkouts", gcc, |b| {
        b.write("a/.keep", "");
        profile_goes_to(b, &["-fprofile-generate=counts"], "#other#a#x.gcda", "a/x.o", |b| {
            b.cwd = b.beside("other");
            b.write("a/.keep", "");
        })
    }),
    row("-fprofile-use, other output folder", gcc, |b| {
        b.write("x.c", "int v(int a) { return a ? 1 : 2; }\n");
        b.write("a/.keep", "");
        b.write("b/.keep", "");
        b.warm(&["-fprofile-use", "-Wmissing-profile", "-c", "x.c", "-o", "a/x.o"], &["a/x.o"])?;
        b.compare(&["-fprofile-use", "-Wmissing-profile", "-c", "x.c", "-o", "b/x.o"], &["b/x.o"])
    }),
    uncached("dependencies to /dev/null, then to a file", all, |b| {
        b.write("h.h", "");
        b.write("x.c", "#include \"h.h\"\nint v;\n");
        b.warm(&["-MD", "-MF", "/dev/null", "-c", "x.c", "-o", "x.o"], O)?;
        b.compare(&["-MD", "-MF", "x.d", "-c", "x.c", "-o", "x.o"], &["x.o", "x.d"])
    }),
    uncached("dependencies to the terminal or a pipe", all, |b| {
        b.write("x.c", "int v;\n");
        b.after(&["-MD", "-MF", "/dev/stderr", "-c", "x.c", "-o", "x.o"], O, |_| {})?;
        b.after(&["-MD", "-MF", "/dev/stdout", "-c", "x.c", "-o", "x.o"], O, |_| {})
    }),
    row("a link to another file stands where the object goes", all, |b| {
        b.write("x.c", "int v;\n");
        b.warm(X, O)?;
        let mut left = Vec::new();
        for cached in [true, false] {
            b.write("real.o", "old");
            let _not_there = std::fs::remove_file(b.cwd.join("x.o"));
            std::os::unix::fs::symlink("real.o", b.cwd.join("x.o")).expect("our own link");
            b.call(cached, X, &[])?;
            let is_link = b.cwd.join("x.o").is_symlink();
            left.push((is_link, std::fs::read(b.cwd.join("real.o")).expect("our own file")));
        }
        Ok(Verdict::of((left[0] != left[1]).then(|| "the link, or what it names, is another".to_owned())))
    }),
    row("the folder of the dependencies goes", all, |b| {
        b.write("x.c", "int v;\n");
        b.write("deps/.keep", "");
        b.after(&["-MD", "-MF", "deps/x.d", "-c", "x.c", "-o", "x.o"], O, |b| {
            std::fs::remove_dir_all(b.cwd.join("deps")).expect("our own folder");
        })
    }),
    row("-isystem through a link that is set to another folder", gcc, |b| {
        linked_folder(b, "-isystem", &["-MD", "-g"])
    }),
    row("-idirafter through a link that is set to another folder", all, |b| {
        linked_folder(b, "-idirafter", &["-MD"])
    }),
    row("-I through a link that is set to another folder", all, |b| linked_folder(b, "-I", &["-MD", "-g"])),
    row("a system header is a link and set to another file", all, |b| {
        for version in ["v1", "v2"] {
            b.write(&format!("{version}/h.h"), "static inline int f(void) { return 1; }\n");
        }
        b.write("inc/deep/.keep", "");
        let link = b.cwd.join("inc/deep/other-name-of-it.h");
        let header = |b: &Bench<'_>, version: &str| b.cwd.join(version).join("h.h");
        link_to(&link, &header(b, "v1"));
        b.write("x.c", "#include <other-name-of-it.h>\nint g(void) { return f(); }\n");
        let folder = b.cwd.join("inc/deep").display().to_string();
        b.after(&["-MD", "-isystem", &folder, "-c", "x.c", "-o", "x.o"], &["x.o", "x.d"], |b| {
            link_to(&link, &header(b, "v2"));
        })
    }),
    row("-ffile-prefix-map of two checkouts", all, |b| own_map(b, "-ffile-prefix-map")),
    row("-fdebug-prefix-map of two checkouts", all, |b| own_map(b, "-fdebug-prefix-map")),
    row("packed debug information (-gz), two checkouts", all, |b| {
        let source = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint v;\n";
        let args = ["-g3", "-gz", "-c", "x.c", "-o", "x.o"];
        b.write(".git/HEAD", "");
        b.write("x.c", source);
        b.warm(&args, O)?;
        b.cwd = b.beside("other");
        b.write(".git/HEAD", "");
        b.write("x.c", source);
        b.compare(&args, O)
    }),
    row("-flto and `__FILE__`, two checkouts", all, |b| {
        let source = "const char *v(void) { return __FILE__; }\n";
        for name in ["tree", "other"] {
            b.cwd = b.beside(name);
            b.write(".git/HEAD", "");
            b.write("x.c", source);
        }
        let gives = |b: &mut Bench<'_>, name: &str, warm: bool| {
            b.cwd = b.beside(name);
            let source = b.cwd.join("x.c").display().to_string();
            let args = ["-flto", "-frandom-seed=1", "-O1", "-c", &source, "-o", "x.o"];
            if warm { b.warm(&args, O).map(|_| Verdict::of(None)) } else { b.compare(&args, O) }
        };
        gives(b, "tree", true)?;
        gives(b, "other", false)
    }),
    row("-MD without -MF, other -o", all, |b| {
        b.write("h.h", "");
        b.write("x.c", "#include \"h.h\"\nint v;\n");
        b.write("a/.keep", "");
        b.write("b/.keep", "");
        b.warm(&["-MD", "-c", "x.c", "-o", "a/x.o"], &["a/x.o", "a/x.d"])?;
        b.compare(&["-MD", "-c", "x.c", "-o", "b/x.o"], &["b/x.o", "b/x.d"])
    }),
    row("depfiles of every form", all, |b| {
        b.write("a b$.h", "");
        b.write("h.h", "#include <stddef.h>\n");
        b.write("x.c", "#include \"a b$.h\"\n#include \"h.h\"\nint v;\n");
        for form in [
            &["-MMD"][..],
            &["-MD", "-MP"],
            &["-MD", "-MF", "deps.d"],
            &["-MMD", "-MF", "deps.d", "-MT", "other target"],
            &["-MD", "-MF", "deps.d", "-MQ", "a$b c"],
            &["-Wp,-MD,deps.d"],
            &["-Wp,-MMD,deps.d", "-MT", "t"],
        ] {
            let args: Vec<&str> = form.iter().copied().chain(["-c", "x.c", "-o", "x.o"]).collect();
            b.warm(&args, &["x.o", "x.d", "deps.d"])?;
            let verdict = b.compare(&args, &["x.o", "x.d", "deps.d"])?;
            if let Some(what) = verdict.differs {
                return Ok(Verdict::of(Some(format!("{}: {what}", form.join(" ")))));
            }
        }
        Ok(Verdict::of(None))
    }),
    row("a profile changes (gcda)", gcc, |b| {
        b.write("x.c", "int v(int a) { if (a) return 1; return 2; }\n");
        b.write("main.c", "int v(int);\nint main(int c, char **a) { int s = 0; for (int i = 0; i < 1000; i++) s += v(c > 1); return s & 1; }\n");
        let train = |b: &mut Bench<'_>, word: &[&str]| {
            let calls = [
                &["-O2", "-fprofile-generate", "-c", "x.c", "-o", "x.o"][..],
                &["-O2", "-fprofile-generate", "x.o", "main.c", "-o", "train"],
            ];
            for args in calls {
                b.call(false, args, &[]).expect("the compiler runs");
            }
            let _not_there = std::fs::remove_file(b.cwd.join("x.gcda"));
            let mut run = std::process::Command::new(b.cwd.join("train"));
            run.args(word).current_dir(&b.cwd).output().expect("it runs");
        };
        train(b, &[]);
        let args = ["-O2", "-fprofile-use", "-Wno-missing-profile", "-c", "x.c", "-o", "x.o"];
        b.after(&args, O, |b| train(b, &["more"]))
    }),
    row("a precompiled header changes", all, |b| {
        let (header, use_it): (&[&str], &[&str]) = if b.compiler.is_gcc() {
            (&["-x", "c-header", "p.h", "-o", "p.h.gch"], &["-include", "p.h", "-c", "x.c", "-o", "x.o"])
        } else {
            (&["-x", "c-header", "p.h", "-o", "p.pch"], &["-include-pch", "p.pch", "-c", "x.c", "-o", "x.o"])
        };
        b.write("p.h", "#define V 1\n");
        b.write("x.c", "int v = V;\n");
        b.call(false, header, &[])?;
        b.after(use_it, O, |b| {
            b.write("p.h", "#define V 2\n");
            b.call(false, header, &[]).expect("the compiler runs");
        })
    }),
    row("a precompiled header is compiled again", all, |b| {
        b.write("in.h", "#define V 1\n");
        b.write("p.h", "#include \"in.h\"\n");
        b.write("x.c", "#include \"p.h\"\nint v = V;\n");
        // Clang's is not cached where it holds the times of its headers: the next row.
        let times: &[&str] = if b.compiler.is_gcc() { &[] } else { &["-Xclang", "-fno-pch-timestamp"] };
        let header = [times, &["-x", "c-header", "p.h", "-o", "p.h.gch"]].concat();
        b.warm(&header, &["p.h.gch"])?;
        b.write("in.h", "#define V 2\n");
        b.settle();
        b.call(true, &header, &["p.h.gch"])?;
        let use_it = if b.compiler.is_gcc() {
            X.to_vec()
        } else {
            vec!["-include-pch", "p.h.gch", "-c", "x.c", "-o", "x.o"]
        };
        let found = b.call(false, &use_it, O)?;
        b.call(false, &header, &["p.h.gch"])?;
        let right = b.call(false, &use_it, O)?;
        Ok(Verdict::of(found.differs(&right)))
    }),
    uncached("a precompiled header's header gets another time", all, |b| {
        b.write("in.h", "#define V 1\n");
        b.write("p.h", "#include \"in.h\"\n");
        b.write("x.c", "int v = V;\n");
        let header = ["-x", "c-header", "p.h", "-o", "p.h.gch"];
        b.warm(&header, &["p.h.gch"])?;
        b.set_time("in.h", 1_000_000_000);
        b.settle();
        b.call(true, &header, &["p.h.gch"])?;
        let use_it: &[&str] =
            if b.compiler.is_gcc() { &["-include", "p.h"] } else { &["-include-pch", "p.h.gch"] };
        let use_it = [use_it, X].concat();
        let found = b.call(false, &use_it, O)?;
        b.call(false, &header, &["p.h.gch"])?;
        Ok(Verdict::of(found.differs(&b.call(false, &use_it, O)?)))
    }),
    row("a precompiled header by way of -Xclang, as CMake says it", clang, |b| {
        b.write("p.h", "#define V 1\n");
        b.write("x.c", "int v = V;\n");
        let header = [
            "-Xclang",
            "-emit-pch",
            "-Xclang",
            "-include",
            "-Xclang",
            "p.h",
            "-x",
            "c-header",
            "-c",
            "/dev/null",
            "-o",
            "p.pch",
        ];
        b.call(false, &header, &["p.pch"])?;
        let use_it = ["-Xclang", "-include-pch", "-Xclang", "p.pch", "-c", "x.c", "-o", "x.o"];
        b.after(&use_it, O, |b| {
            b.write("p.h", "#define V 2\n");
            b.call(false, &header, &["p.pch"]).expect("the compiler runs");
        })
    }),
    row("a compiled header appears beside its header", gcc, |b| {
        b.write("p.h", "#define V 1\n");
        b.write("x.c", "#include \"p.h\"\nint v = V;\n");
        b.after(X, O, |b| {
            b.write("q.h", "#define V 2\n");
            b.call(false, &["-x", "c-header", "q.h", "-o", "p.h.gch"], &[]).expect("the compiler runs");
        })
    }),
    row("stack usage, other output folder", gcc, |b| {
        b.write("x.c", "int v(void) { return 1; }\n");
        b.write("a/.keep", "");
        b.write("b/.keep", "");
        b.warm(&["-fstack-usage", "-c", "x.c", "-o", "a/x.o"], &["a/x.o", "a/x.su"])?;
        b.compare(&["-fstack-usage", "-c", "x.c", "-o", "b/x.o"], &["b/x.o", "b/x.su"])
    }),
    uncached("an option that writes more files", all, |b| {
        b.write("x.c", "int v(void) { return 1; }\n");
        b.after(&["-save-temps", "-c", "x.c", "-o", "x.o"], &["x.o", "x.i", "x.s"], |_| {})
    }),
];
