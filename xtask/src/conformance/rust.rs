//! The conformance rows for Rust: real cargo builds, and what the built program then says.
//!
//! A row is a small package whose program prints what got into it. It is built through the cache until that gives hits, each
//! time into an empty target folder; then something is changed, and it is built once more. Right is what the program says
//! that cargo builds without a cache after the same change. The same rows are tried on sccache where it is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::packages;
use crate::run::{self, Done};

/// How long after it was written a file is old enough for every cache to believe its time.
const SETTLE: Duration = Duration::from_millis(120);
const MAIN: &str = "src/main.rs";

/// One row.
struct Row {
    /// What is changed.
    name: &'static str,
    /// Whether Spolia must have answered the program's own crate from its cache before the change.
    cached: bool,
    /// Whether it must do so after the change as well: what changes is nothing that a compile depends on.
    shared: bool,
    /// Writes the package.
    write: fn(&Bench),
    /// Changes something.
    change: fn(&mut Bench),
}

const fn row(name: &'static str, write: fn(&Bench), change: fn(&mut Bench)) -> Row {
    Row { name, cached: true, shared: false, write, change }
}

const fn uncached(name: &'static str, write: fn(&Bench), change: fn(&mut Bench)) -> Row {
    Row { name, cached: false, shared: false, write, change }
}

const ROWS: &[Row] = &[
    row(
        "a proc-macro reads a file",
        |b| b.macros("std::fs::read_to_string(\"data.txt\").unwrap()"),
        |b| {
            b.write("data.txt", "two");
        },
    ),
    row(
        "a proc-macro reads a variable",
        |b| b.macros("std::env::var(\"VALUE\").unwrap_or_default()"),
        |b| {
            b.var("VALUE", "two");
        },
    ),
    row(
        "a proc-macro walks over all variables",
        |b| b.macros("std::env::vars().filter(|v| v.0 == \"VALUE\").map(|v| v.1).collect()"),
        |b| b.var("VALUE", "two"),
    ),
    row(
        "a proc-macro lists a folder",
        |b| {
            b.write("list/one", "");
            b.macros("std::fs::read_dir(\"list\").unwrap().count().to_string()");
        },
        |b| b.write("list/two", ""),
    ),
    row(
        "a proc-macro asks for a file that was not there",
        |b| b.macros("std::path::Path::new(\"maybe.txt\").exists().to_string()"),
        |b| b.write("maybe.txt", ""),
    ),
    row(
        "`env!` changes",
        |b| {
            b.var("VALUE", "one");
            b.write(MAIN, "fn main() { println!(\"{}\", env!(\"VALUE\")); }");
        },
        |b| b.var("VALUE", "two"),
    ),
    row(
        "`option_env!` is set",
        |b| b.write(MAIN, "fn main() { println!(\"{:?}\", option_env!(\"VALUE\")); }"),
        |b| b.var("VALUE", "two"),
    ),
    row(
        "`include_str!` and `include_bytes!` change",
        |b| {
            b.write("a.txt", "one");
            b.write("b.txt", "one");
            let both = "include_str!(\"../a.txt\"), include_bytes!(\"../b.txt\")";
            b.write(MAIN, &format!("fn main() {{ println!(\"{{}}{{:?}}\", {both}); }}"));
        },
        |b| b.write("b.txt", "two"),
    ),
    row("a module's file changes, same time and size", Bench::module, |b| {
        b.rewrite_keeping_times("src/part.rs", "pub const V: i32 = 2;");
    }),
    row("a second file for a module appears", Bench::module, |b| {
        b.write("src/part/mod.rs", "pub const V: i32 = 2;");
    }),
    row(
        "what a build script writes to OUT_DIR changes",
        |b| {
            b.script("println!(\"cargo:rerun-if-changed=data.txt\"); std::fs::copy(\"data.txt\", out.join(\"m\")).unwrap();");
            b.write("data.txt", "one");
            b.write(
                MAIN,
                "fn main() { println!(\"{}\", include_str!(concat!(env!(\"OUT_DIR\"), \"/m\"))); }",
            );
        },
        |b| b.write("data.txt", "two"),
    ),
    row(
        "a build script reads a variable that it does not declare",
        |b| b.script_value("std::env::var(\"VALUE\").unwrap_or_default()"),
        |b| b.var("VALUE", "two"),
    ),
    row(
        "a build script lists a folder that it does not declare",
        |b| {
            b.write("list/one", "");
            b.script_value("std::fs::read_dir(\"list\").unwrap().count()");
        },
        |b| b.write("list/two", ""),
    ),
    row(
        "a build script starts a program that reads a file",
        |b| {
            b.write("data.txt", "one");
            b.script_value(
                "String::from_utf8_lossy(&std::process::Command::new(\"cat\").arg(\"data.txt\").output().unwrap().stdout)",
            );
        },
        |b| b.write("data.txt", "two"),
    ),
    row(
        "a header of what a build script compiles changes",
        |b| {
            b.write("value.h", "#define VALUE \"one\"");
            b.compiles_c();
        },
        |b| b.write("value.h", "#define VALUE \"two\""),
    ),
    row(
        "a header of what a build script compiles appears",
        |b| {
            b.write("later/value.h", "#define VALUE \"one\"");
            b.compiles_c();
        },
        |b| b.write("value.h", "#define VALUE \"two\""),
    ),
    row(
        "a build script asks for the time of day",
        |b| {
            b.script_value(
                "std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() > 0",
            )
        },
        |_| (),
    ),
    row(
        "a static library changes",
        |b| {
            b.library("one");
            b.script(
                "println!(\"cargo:rustc-link-search=native={}\", std::env::var(\"CARGO_MANIFEST_DIR\").unwrap()); \
                 println!(\"cargo:rustc-link-lib=static=given\");",
            );
            b.given();
        },
        |b| b.library("two"),
    ),
    row(
        "the linker is replaced",
        |b| {
            b.linker("one");
            b.given();
        },
        |b| b.linker("two"),
    ),
    row(
        "another checkout: CARGO_MANIFEST_DIR, file!()",
        |b| b.write(MAIN, "fn main() { println!(\"{} {}\", env!(\"CARGO_MANIFEST_DIR\"), file!()); }"),
        |b| b.move_to("other"),
    ),
    row(
        "another checkout: where a panic says it was",
        |b| {
            b.write("src/part.rs", "pub fn f() { let _ = std::panic::catch_unwind(|| panic!(\"x\")); }");
            let hook = "std::panic::set_hook(Box::new(|p| println!(\"{}\", p.location().unwrap())));";
            b.write(MAIN, &format!("mod part; fn main() {{ {hook} part::f(); }}"));
        },
        |b| b.move_to("other"),
    ),
    row("another checkout: OUT_DIR in the program", Bench::names_out_dir, |b| b.move_to("other")),
    row("another checkout, a source differs", Bench::module, |b| {
        b.move_to("other");
        b.write("src/part.rs", "pub const V: i32 = 2;");
    }),
    row("another target folder: OUT_DIR in the program", Bench::names_out_dir, |b| {
        b.target = "elsewhere".to_owned();
    }),
    row(
        "a warning is printed again",
        |b| b.write(MAIN, "fn main() { let unused = 1; println!(\"x\"); }"),
        |_| (),
    ),
    uncached("an error stays an error", |b| b.write(MAIN, "fn main() { let x: i32 = \"\"; }"), |_| ()),
    row(
        "RUSTC_LOG is unset again",
        |b| {
            b.var("RUSTC_LOG", "rustc_driver_impl=error");
            b.write(MAIN, "fn main() { println!(\"x\"); }");
        },
        |b| b.var("RUSTC_LOG", ""),
    )
    .without_hits(),
    row(
        "RUSTC_BOOTSTRAP is set for a build script's question",
        |b| {
            b.script_value(
                "{ let rustc = std::env::var(\"RUSTC\").unwrap(); \
                 let mut c = match std::env::var(\"RUSTC_WRAPPER\") { \
                 Ok(w) => { let mut c = std::process::Command::new(w); c.arg(rustc); c } \
                 Err(_) => std::process::Command::new(rustc) }; \
                 c.args([\"--print=cfg\", \"-Zunstable-options\"]).output().unwrap().status.success() }",
            );
        },
        |b| b.var("RUSTC_BOOTSTRAP", "1"),
    ),
    row(
        "a `cdylib` and its C program: a source changes",
        |b| b.library_for_c("cdylib"),
        |b| {
            b.write("src/part.rs", "pub const V: i32 = 2;");
        },
    ),
    row(
        "a `staticlib` and its C program: a source changes",
        |b| b.library_for_c("staticlib"),
        |b| {
            b.write("src/part.rs", "pub const V: i32 = 2;");
        },
    ),
    row("a `cdylib` in another checkout", |b| b.library_for_c("cdylib"), |b| b.move_to("other"))
        .with_hits_after(),
    row("a `staticlib` in another checkout", |b| b.library_for_c("staticlib"), |b| b.move_to("other"))
        .with_hits_after(),
    row("another user's home, a crate from its registry", Bench::crate_from_home, |b| b.move_home())
        .with_hits_after(),
    row(
        "another target folder, by a variable that a macro may have walked over",
        |b| b.macros("std::env::vars().filter(|v| v.0 == \"CARGO_TARGET_DIR\").map(|v| v.1).collect()"),
        |b| b.target = "elsewhere".to_owned(),
    ),
    row("another target folder", Bench::module, |b| b.target = "elsewhere".to_owned()).with_hits_after(),
    row(
        "incremental, a module changes",
        |b| {
            b.var("CARGO_INCREMENTAL", "1");
            b.module();
        },
        |b| b.write("src/part.rs", "pub const V: i32 = 2;"),
    ),
    row(
        "incremental, a crate beneath changes",
        |b| {
            b.var("CARGO_INCREMENTAL", "1");
            b.with_crate_beneath();
        },
        |b| b.write("beneath/src/lib.rs", "pub fn v() -> i32 { 2 }"),
    ),
    row(
        "incremental, `env!` changes",
        |b| {
            b.var("CARGO_INCREMENTAL", "1");
            b.var("VALUE", "one");
            b.write(MAIN, "fn main() { println!(\"{}\", env!(\"VALUE\")); }");
        },
        |b| b.var("VALUE", "two"),
    ),
    row(
        "incremental, another checkout: file!()",
        |b| {
            b.var("CARGO_INCREMENTAL", "1");
            b.write(MAIN, "fn main() { println!(\"{} {}\", env!(\"CARGO_MANIFEST_DIR\"), file!()); }");
        },
        |b| b.move_to("other"),
    ),
    row(
        "a flag changes",
        |b| b.write(MAIN, "fn main() { println!(\"{}\", cfg!(given)); }"),
        |b| b.var("RUSTFLAGS", "--cfg given"),
    ),
    row("kept files are cut short", Bench::module, |b| b.cut_kept_files()),
    row("a tool writes through what was put back", Bench::module, |b| b.write_through_outputs()),
    uncached(
        "a file changes while it is compiled",
        |b| {
            b.write("data.txt", "one");
            // The compiler takes `data.txt`, then the macro, as an editor would, writes it anew.
            b.macros_after(
                "include_str!(\"../data.txt\")",
                "std::fs::write(\"data.txt\", \"two\").unwrap(); String::new()",
            );
        },
        |b| b.write("data.txt", "two"),
    ),
];

impl Row {
    const fn without_hits(self) -> Self {
        Self { cached: false, ..self }
    }

    const fn with_hits_after(self) -> Self {
        Self { shared: true, ..self }
    }
}

/// A cache that wraps rustc.
struct Wrapper {
    name: &'static str,
    program: PathBuf,
}

/// A package, a cache, and where it is built.
struct Bench {
    wrapper: Option<PathBuf>,
    folder: PathBuf,
    /// The package's folder.
    cwd: PathBuf,
    target: String,
}

/// What a build and its program gave.
struct Gave {
    built: bool,
    said: String,
    printed: Vec<u8>,
    names_others: bool,
}

impl Bench {
    fn new(wrapper: &Wrapper, folder: &Path) -> Self {
        let cwd = folder.join("one");
        let bench = Self {
            wrapper: Some(wrapper.program.clone()),
            folder: folder.to_owned(),
            cwd,
            target: "target".to_owned(),
        };
        bench.write("Cargo.toml", "[package]\nname = \"row\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        bench
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.cwd.join(name);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder of our own");
        std::fs::write(path, content).expect("a file of our own");
    }

    /// Sets a variable for the builds to come; the last value counts.
    fn var(&self, name: &str, value: &str) {
        let path = self.folder.join("vars");
        let mut vars = std::fs::read_to_string(&path).unwrap_or_default();
        vars.push_str(&format!("{name}={value}\n"));
        std::fs::write(path, vars).expect("a file of our own");
    }

    fn module(&self) {
        self.write("src/part.rs", "pub const V: i32 = 1;");
        self.write(MAIN, "mod part; fn main() { println!(\"{}\", part::V); }");
    }

    fn given(&self) {
        self.write(
            MAIN,
            "extern \"C\" { fn given() -> i32; } fn main() { println!(\"{}\", unsafe { given() }); }",
        );
    }

    fn names_out_dir(&self) {
        self.script("std::fs::write(out.join(\"m\"), out.display().to_string()).unwrap();");
        let both = "env!(\"OUT_DIR\"), include_str!(concat!(env!(\"OUT_DIR\"), \"/m\"))";
        self.write(MAIN, &format!("fn main() {{ println!(\"{{}} {{}}\", {both}); }}"));
    }

    /// A macro `given!()` that becomes the text of `expression`.
    fn macros(&self, expression: &str) {
        self.write("data.txt", "one");
        self.macros_after("\"\"", expression);
    }

    fn macros_after(&self, first: &str, expression: &str) {
        let package =
            |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        self.write("Cargo.toml", &(package("row") + "[dependencies]\nmacros = { path = \"macros\" }\n"));
        self.write("macros/Cargo.toml", &(package("macros") + "[lib]\nproc-macro = true\n"));
        let body = format!("let text: String = {{ {expression} }}; format!(\"{{text:?}}\").parse().unwrap()");
        let stream = "proc_macro::TokenStream";
        self.write(
            "macros/src/lib.rs",
            &format!("#[proc_macro] pub fn given(_: {stream}) -> {stream} {{ {body} }}"),
        );
        self.write(MAIN, &format!("fn main() {{ println!(\"{{}}{{}}\", {first}, macros::given!()); }}"));
    }

    /// A library for C, and the program that cargo leaves beside it: what the library says through C.
    fn library_for_c(&self, kind: &str) {
        self.module();
        let manifest = "[package]\nname = \"row\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
        self.write("Cargo.toml", &format!("{manifest}[lib]\nname = \"row\"\ncrate-type = [\"{kind}\"]\n"));
        let _none = std::fs::remove_file(self.cwd.join(MAIN));
        self.write("src/lib.rs", "mod part; #[no_mangle] pub extern \"C\" fn given() -> i32 { part::V }");
        self.write(
            "main.c",
            "#include <stdio.h>\nint given(void); int main(void) { printf(\"%d\\n\", given()); return 0; }",
        );
    }

    /// The program of a library for C, linked anew.
    fn link_for_c(&self, target: &Path) {
        let folder = target.join("debug");
        let library =
            ["librow.so", "librow.a"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        let Some(library) = library else { return };
        let words = [library, folder.join("row"), folder].map(|path| path.display().to_string());
        let search = format!("-Wl,-rpath,{}", words[2]);
        self.ask("cc", &["main.c", &words[0], &search, "-lpthread", "-ldl", "-lm", "-o", &words[1]]);
    }

    fn with_crate_beneath(&self) {
        let package =
            |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        self.write("Cargo.toml", &(package("row") + "[dependencies]\nbeneath = { path = \"beneath\" }\n"));
        self.write("beneath/Cargo.toml", &package("beneath"));
        self.write("beneath/src/lib.rs", "pub fn v() -> i32 { 1 }");
        self.write(MAIN, "fn main() { println!(\"{}\", beneath::v()); }");
    }

    /// A home with a crate in it that cargo takes for one of a registry.
    fn crate_from_home(&self) {
        let manifest = "[package]\nname = \"row\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
        self.write("Cargo.toml", &format!("{manifest}[dependencies]\nhomely = \"1\"\n"));
        self.write(MAIN, "fn main() { println!(\"{}\", homely::v()); }");
        self.write(
            "../home/.cargo/vendor/homely/Cargo.toml",
            "[package]\nname = \"homely\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
        );
        self.write(
            "../home/.cargo/vendor/homely/src/lib.rs",
            "pub fn v() -> String { format!(\"{}\", std::panic::Location::caller().line()) }",
        );
        self.write("../home/.cargo/vendor/homely/.cargo-checksum.json", "{\"files\":{},\"package\":null}");
        self.live_in("home");
    }

    /// Goes by the home of this name from now on; the toolchain stays where it is.
    fn live_in(&self, name: &str) {
        let home = self.folder.join(name);
        let vendor = home.join(".cargo/vendor");
        let config = format!(
            "[source.crates-io]\nreplace-with = \"home\"\n[source.home]\ndirectory = \"{}\"\n",
            vendor.display()
        );
        std::fs::write(home.join(".cargo/config.toml"), config).expect("a file of our own");
        self.var("HOME", &home.to_string_lossy());
        self.var("CARGO_HOME", &home.join(".cargo").to_string_lossy());
    }

    fn move_home(&self) {
        let (from, to) = (self.folder.join("home"), self.folder.join("other-home"));
        self.ask("cp", &["-r", &from.to_string_lossy(), &to.to_string_lossy()]);
        std::fs::remove_dir_all(from).expect("a folder of our own");
        self.live_in("other-home");
    }

    fn script(&self, body: &str) {
        let out = "let out = std::path::PathBuf::from(std::env::var(\"OUT_DIR\").unwrap()); let _ = &out;";
        self.write("build.rs", &format!("fn main() {{ {out} {body} }}"));
    }

    /// A build script that hands a value to the program.
    fn script_value(&self, expression: &str) {
        self.script(&format!("println!(\"cargo:rustc-env=MADE={{}}\", {expression});"));
        self.write(MAIN, "fn main() { println!(\"{}\", env!(\"MADE\")); }");
    }

    /// A build script that has a library made of C, with headers here and in `later`.
    fn compiles_c(&self) {
        self.write("given.c", "#include \"value.h\"\nconst char *given(void) { return VALUE; }\n");
        self.script(
            "let run = |program: &str, args: &[&str]| assert!(std::process::Command::new(program).args(args).status().unwrap().success()); \
             let path = |name: &str| out.join(name).display().to_string(); \
             run(\"cc\", &[\"-Ilater\", \"-c\", \"given.c\", \"-o\", &path(\"given.o\")]); \
             run(\"ar\", &[\"crs\", &path(\"libgiven.a\"), &path(\"given.o\")]); \
             println!(\"cargo:rustc-link-search=native={}\", out.display()); \
             println!(\"cargo:rustc-link-lib=static=given\");",
        );
        self.write(
            MAIN,
            "unsafe extern \"C\" { fn given() -> *const std::ffi::c_char; }\n\
             fn main() { println!(\"{:?}\", unsafe { std::ffi::CStr::from_ptr(given()) }); }",
        );
    }

    fn ask(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).current_dir(&self.cwd).status();
        assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
    }

    fn object(&self, value: &str, to: &str) {
        let number = if value == "one" { 1 } else { 2 };
        self.write("given.c", &format!("int given(void) {{ return {number}; }}"));
        self.ask("cc", &["-c", "given.c", "-o", to]);
    }

    fn library(&self, value: &str) {
        self.object(value, "given.o");
        let _none = std::fs::remove_file(self.cwd.join("libgiven.a"));
        self.ask("ar", &["crs", "libgiven.a", "given.o"]);
    }

    /// A linker that adds an object of its own.
    fn linker(&self, value: &str) {
        let object = format!("{value}.o");
        self.object(value, &object);
        let linker = self.cwd.join("tools/gcc");
        self.write(
            "tools/gcc",
            &format!("#!/bin/sh\nexec cc \"$@\" '{}'\n", self.cwd.join(object).display()),
        );
        set_mode(&linker, 0o755);
        self.var("RUSTFLAGS", &format!("-Clinker={}", linker.display()));
    }

    fn rewrite_keeping_times(&self, name: &str, content: &str) {
        let path = self.cwd.join(name);
        let before = std::fs::metadata(&path).and_then(|found| found.modified()).expect("a file of our own");
        std::fs::write(&path, content).expect("a file of our own");
        let file = std::fs::File::options().write(true).open(path).expect("a file of our own");
        file.set_modified(before).expect("a file of our own");
    }

    fn move_to(&mut self, name: &str) {
        let to = self.folder.join(name);
        self.ask("cp", &["-r", &self.cwd.to_string_lossy(), &to.to_string_lossy()]);
        self.cwd = to;
    }

    fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn cut_kept_files(&self) {
        let all = files_below(&self.store().join("v1/blob"));
        for path in all.into_iter().chain(files_below(&self.folder.join("sccache"))) {
            set_mode(&path, 0o644);
            let file = std::fs::File::options().write(true).open(path).expect("the store is ours");
            let length = file.metadata().expect("the store is ours").len();
            file.set_len(length / 2).expect("the store is ours");
        }
    }

    fn write_through_outputs(&self) {
        use std::os::unix::fs::FileExt;
        for path in files_below(&self.folder.join(&self.target)) {
            let raw = path.to_string_lossy();
            if raw.contains("/deps/") && !raw.ends_with(".d") {
                set_mode(&path, 0o755);
                let file =
                    std::fs::File::options().write(true).open(&path).expect("the target folder is ours");
                file.write_all_at(&[0; 64], 0).expect("the target folder is ours");
            }
        }
    }

    /// Builds into an empty target folder and runs what comes out.
    fn build(&self) -> Done<Gave> {
        std::thread::sleep(SETTLE);
        let target = self.folder.join(&self.target);
        let _none = std::fs::remove_dir_all(&target);
        let mut cargo = Command::new(run::cargo_path());
        cargo.args(["build", "--offline", "--quiet"]).current_dir(&self.cwd).stdin(Stdio::null());
        let ours = [
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_LOG",
            "RUSTC_BOOTSTRAP",
            "VALUE",
        ];
        for name in ours {
            cargo.env_remove(name);
        }
        cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_INCREMENTAL", "0");
        cargo.env("SPOLIA_CACHE_DIR", self.store()).env("SCCACHE_DIR", self.folder.join("sccache"));
        let vars = std::fs::read_to_string(self.folder.join("vars")).unwrap_or_default();
        for (name, value) in vars.lines().filter_map(|line| line.split_once('=')) {
            if value.is_empty() {
                cargo.env_remove(name)
            } else {
                cargo.env(name, value)
            };
        }
        if let Some(wrapper) = &self.wrapper {
            cargo.env("RUSTC_WRAPPER", wrapper);
        }
        let built = cargo.output().map_err(|error| format!("cargo: {error}"))?;
        if self.cwd.join("main.c").exists() {
            self.link_for_c(&target);
        }
        let program = target.join("debug/row");
        let said = Command::new(&program).output().map(|ran| text(&ran)).unwrap_or_default();
        let content = std::fs::read(&program).unwrap_or_default();
        let first = self.folder.join("one");
        let needle = first.to_string_lossy().into_owned().into_bytes();
        let names_others = self.cwd != first && content.windows(needle.len()).any(|part| part == needle);
        Ok(Gave { built: built.status.success(), said, printed: built.stderr, names_others })
    }

    /// How often the package's own crate was a hit.
    fn hits(&self) -> usize {
        let files = files_below(&self.store().join("v1/cc/tally"));
        let all: String =
            files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect();
        let is_one =
            |line: &&str| line.contains("\"outcome\":\"hit\"") && line.contains("\"source\":\"row\"");
        all.lines().filter(is_one).count()
    }
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("a file of our own");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

/// The cell of a row for a cache, and whether it is a mistake.
fn judge(row: &Row, wrapper: &Wrapper) -> Done<(String, bool)> {
    let temp =
        tempfile::Builder::new().prefix("conformance-").tempdir().map_err(|error| error.to_string())?;
    let folder = temp.path().canonicalize().map_err(|error| error.to_string())?;
    let mut bench = Bench::new(wrapper, &folder);
    (row.write)(&bench);
    bench.build()?;
    bench.build()?;
    let hits = bench.hits();
    (row.change)(&mut bench);
    let found = bench.build()?;
    let hits_after = bench.hits() - hits;
    bench.wrapper = None;
    let right = bench.build()?;
    let wrong = if found.built != right.built {
        Some("the build's success differs")
    } else if found.said != right.said {
        Some("the program says something else")
    } else if found.names_others {
        Some("it names the other checkout")
    } else if found.printed != right.printed {
        Some("what cargo prints differs")
    } else {
        None
    };
    if wrong.is_some() && wrapper.name == "spolia" {
        let show = |gave: &Gave| format!("{}{}", gave.said, String::from_utf8_lossy(&gave.printed));
        eprintln!("found:\n{}\nright:\n{}", show(&found), show(&right));
    }
    Ok(match wrong {
        Some(what) => (format!("**WRONG** ({what})"), true),
        None if row.cached && wrapper.name == "spolia" && hits == 0 => {
            ("right, but never cached".to_owned(), true)
        }
        None if row.shared && wrapper.name == "spolia" && hits_after == 0 => {
            ("right, but not from the cache".to_owned(), true)
        }
        None => ("ok".to_owned(), false),
    })
}

/// What CI tries of the rows: one of each kind.
const SAMPLE: &[&str] = &[
    "a proc-macro reads a file",
    "a proc-macro walks over all variables",
    "what a build script writes to OUT_DIR changes",
    "the linker is replaced",
    "another checkout: OUT_DIR in the program",
    "a warning is printed again",
    "a `cdylib` in another checkout",
    "another user's home, a crate from its registry",
    "incremental, a crate beneath changes",
];

/// Prints the table; `--tool spolia` only ours, `--row WORD` only rows with it, `--sample` only what CI tries. Fails where
/// Spolia is wrong.
pub(crate) fn run(args: &[String]) -> Done {
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1).cloned());
    let spolia = match std::env::var_os("SPOLIA_TEST_BIN") {
        Some(program) => PathBuf::from(program),
        None => {
            run::cargo(&["build", "--quiet", "--package", "spolia"])?;
            run::root()?.join("target/debug/spolia")
        }
    };
    let mut wrappers = vec![Wrapper { name: "spolia", program: spolia }];
    if packages::has("sccache") {
        wrappers.push(Wrapper { name: "sccache", program: PathBuf::from("sccache") });
    }
    let only = value("--tool");
    wrappers.retain(|wrapper| only.as_ref().is_none_or(|only| only == wrapper.name));
    let word = value("--row").unwrap_or_default();
    let names: Vec<&str> = wrappers.iter().map(|wrapper| wrapper.name).collect();
    println!("| what changes (Rust) | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    let mut wrong = Vec::new();
    let sample = args.iter().any(|arg| arg == "--sample");
    for row in ROWS.iter().filter(|row| row.name.contains(&word) && (!sample || SAMPLE.contains(&row.name))) {
        let mut cells = Vec::new();
        for wrapper in &wrappers {
            let (cell, is_wrong) = judge(row, wrapper)?;
            if is_wrong && wrapper.name == "spolia" {
                wrong.push(format!("{}: {cell}", row.name));
            }
            cells.push(cell);
        }
        println!("| {} | {} |", row.name, cells.join(" | "));
    }
    if wrappers.iter().any(|wrapper| wrapper.name == "sccache") {
        let _not_running = Command::new("sccache").arg("--stop-server").output();
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("Spolia is wrong:\n{}", wrong.join("\n"))) }
}
