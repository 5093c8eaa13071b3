//! The real binary called as cargo calls its wrapper, around a compiler that is a shell script: it keeps sessions as rustc
//! does and says whether it found one. What the real rustc makes of them is `crates/spolia-cc/tests/incremental.rs`.

#![allow(clippy::disallowed_methods, reason = "a test starts programs")]

mod budget;

use std::path::PathBuf;
use std::process::{Command, Output};

use spolia_testing::{Engine, TestEnv};

/// Session files of one compile, and what each holds is the number of the source's line.
const FILES: usize = 5;

/// Reads the sources that `lib.rs` names, takes some CPU, and writes what it read with what it found in the incremental folder.
const RUSTC: &str = r#"#!/bin/sh
sysroot=${0%/*}/..
while [ $# -gt 0 ]; do
    case $1 in
        incremental=*) incremental=${1#incremental=} ;;
        --out-dir) out=$2; shift ;;
        -C) ;;
        *.rs) source=$1 ;;
    esac
    shift
done
read -r driver < "$sysroot/lib/librustc_driver.so"
text=
while read -r name; do
    read -r line < "${source%/*}/$name"
    text="$text $line"
done < "$source"
count=0
while [ $count -lt 400000 ]; do count=$((count + 1)); done
found=whole
if [ -n "$incremental" ]; then
    unit=$incremental/app-1
    mkdir -p "$unit"
    for old in "$unit"/s-*-svh; do
        [ -d "$old" ] || continue
        [ -e "${old%-svh}.lock" ] || { rm -rf "$old"; continue; }
        read -r found < "$old/part1"
        [ -e "$old/broken" ] && { echo "internal compiler error" >&2; exit 101; }
        rm -rf "$old" "${old%-svh}.lock"
    done
    new=$unit/s-$$-a
    : > "$new.lock"
    mkdir "$new-working"
    for part in 1 2 3 4 5; do echo "session of$text $part" > "$new-working/part$part"; done
    [ -e "$sysroot/breaks" ] && : > "$new-working/broken"
    mv "$new-working" "$new-svh"
fi
mkdir -p "$out"
case $text in *mistake*) echo "error: a mistake" >&2; exit 1 ;; esac
# As rustc does: what is there may be the store's own file, which nobody but root could write to.
rm -f "$out/libapp-1.rlib"
echo "$found |$text" > "$out/libapp-1.rlib"
echo "$out/libapp-1.rlib: $source" > "$out/app-1.d"
"#;

/// A checkout with a compiler.
struct Stand {
    env: TestEnv,
}

impl Stand {
    fn new() -> Self {
        let env = TestEnv::new(env!("CARGO_BIN_EXE_spolia"), Engine::Host);
        env.write_program("tools/bin/rustc", RUSTC);
        env.write("tools/lib/rustlib/x", "");
        env.write("tools/lib/librustc_driver.so", "one\n");
        let stand = Self { env };
        stand.sources("one", "a");
        stand
    }

    fn sources(&self, checkout: &str, line: &str) {
        self.env.write(format!("{checkout}/src/lib.rs"), "part.rs\n");
        self.env.write(format!("{checkout}/src/part.rs"), format!("{line}\n"));
        settle();
    }

    fn call(&self, checkout: &str, more: &[&str]) -> Command {
        let folder = self.env.path(checkout);
        let path = |name: &str| folder.join(name).display().to_string();
        let rustc = self.env.path("tools/bin/rustc").display().to_string();
        let (out, incremental) = (path("target/debug/deps"), path("target/debug/incremental"));
        // As cargo does.
        std::fs::create_dir_all(&out).unwrap();
        let incremental = format!("incremental={incremental}");
        let mut args = vec![rustc.as_str(), "--crate-name", "app", "src/lib.rs", "--crate-type", "lib"];
        args.extend(["--emit=dep-info,link", "-C", "metadata=1", "-C", "extra-filename=-1"]);
        args.extend(["--out-dir", &out, "-C", &incremental]);
        args.extend(more);
        let mut command = self.env.command(args);
        command.current_dir(folder);
        command
    }

    /// What the library says, and the record of the call.
    fn compile(&self, checkout: &str, more: &[&str]) -> (String, serde_json::Value) {
        let output = self.call(checkout, more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (self.env.read_text(format!("{checkout}/target/debug/deps/libapp-1.rlib")), self.last())
    }

    fn last(&self) -> serde_json::Value {
        let output = self.env.command(["--json", "why", "--last-compile"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn clean(&self, checkout: &str) {
        self.env.remove(format!("{checkout}/target"));
    }

    fn incremental(&self, checkout: &str) -> PathBuf {
        self.env.path(format!("{checkout}/target/debug/incremental"))
    }

    /// The store's blobs that hold a line of a session.
    fn session_blobs(&self) -> Vec<PathBuf> {
        let holds = |path: &PathBuf| std::fs::read(path).unwrap().starts_with(b"session of");
        TestEnv::files_below(&self.env.store().join("v1/blob")).into_iter().filter(holds).collect()
    }
}

/// Until files are old enough to be believed.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(120));
}

const FOUND: &str = "session of a 1 | b\n";

#[test]
fn after_a_change_in_an_empty_target_folder_the_session_of_before_is_there() {
    let stand = Stand::new();
    let (said, record) = stand.compile("one", &[]);
    assert_eq!(said, "whole | a\n");
    assert!(record["incremental_kept_bytes"].as_u64().unwrap() > 0, "{record}");
    assert_eq!(stand.session_blobs().len(), FILES);
    let listed = stand.env.command(["cache", "ls"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("rustc app, incremental data"), "{listed}");
    // Hits in between leave no session, and the target folder goes once more.
    for _ in 0..2 {
        stand.clean("one");
        let (said, record) = stand.compile("one", &[]);
        assert_eq!((said.as_str(), &record["outcome"]), ("whole | a\n", &"hit".into()));
        assert!(!stand.incremental("one").exists());
    }
    stand.clean("one");
    stand.sources("one", "b");
    let (said, record) = stand.compile("one", &[]);
    assert_eq!((said.as_str(), &record["outcome"]), (FOUND, &"miss".into()));
    let given = record["incremental_given_back_bytes"].as_u64().unwrap();
    assert_eq!(given, FILES as u64 * "session of a 1\n".len() as u64);
    // The newest is the one that counts.
    stand.clean("one");
    stand.sources("one", "c");
    assert_eq!(stand.compile("one", &[]).0, "session of b 1 | c\n");
    // A session that is there is left alone, whatever the store has.
    stand.sources("one", "d");
    let (said, record) = stand.compile("one", &[]);
    assert_eq!(said, "session of c 1 | d\n");
    assert_eq!(record["incremental_given_back_bytes"], serde_json::Value::Null);
    let text = stand.env.command(["stats"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("incremental data: 2 times given back (150 B), 4 times kept"), "{text}");
}

#[test]
fn a_session_serves_no_other_flags_folder_or_compiler() {
    let stand = Stand::new();
    stand.compile("one", &[]);
    stand.clean("one");
    stand.sources("one", "b");
    let whole = |(said, record): (String, serde_json::Value)| {
        assert_eq!(said, "whole | b\n");
        assert_eq!(record["incremental_given_back_bytes"], serde_json::Value::Null, "{record}");
    };
    whole(stand.compile("one", &["-O"]));
    stand.sources("two", "b");
    whole(stand.compile("two", &["-g"]));
    stand.clean("one");
    // Another compiler under the same name.
    stand.env.write("tools/lib/librustc_driver.so", "two\n");
    settle();
    whole(stand.compile("one", &[]));
    // And the first one again: it kept nothing since.
    stand.clean("one");
    stand.env.write("tools/lib/librustc_driver.so", "one\n");
    stand.sources("one", "c");
    assert_eq!(stand.compile("one", &[]).0, "whole | c\n");
}

#[test]
fn turned_off_nothing_is_kept_or_given_back() {
    let mut stand = Stand::new();
    stand.env.set_var("SPOLIA_INCREMENTAL", "0");
    let (_, record) = stand.compile("one", &[]);
    assert_eq!(record["incremental_kept_bytes"], serde_json::Value::Null);
    assert!(stand.session_blobs().is_empty());
    stand.env.unset_var("SPOLIA_INCREMENTAL");
    stand.sources("one", "b");
    stand.compile("one", &[]);
    stand.clean("one");
    stand.sources("one", "c");
    for (name, value) in [("SPOLIA_INCREMENTAL", "0"), ("SPOLIA_RECACHE", "1")] {
        stand.env.set_var(name, value);
        assert_eq!(stand.compile("one", &[]).0, "whole | c\n");
        stand.clean("one");
        stand.env.unset_var(name);
    }
}

#[test]
fn a_damaged_session_is_no_session() {
    let stand = Stand::new();
    stand.compile("one", &[]);
    for (number, line) in ["b", "c", "d"].iter().enumerate() {
        stand.clean("one");
        stand.sources("one", line);
        let blob = stand.session_blobs().remove(number);
        let whole = std::fs::read(&blob).unwrap();
        std::fs::remove_file(&blob).unwrap();
        match number {
            0 => {}
            1 => std::fs::write(&blob, &whole[..whole.len() - 1]).unwrap(),
            _ => std::fs::write(&blob, b"session of nothing").unwrap(),
        }
        let (said, record) = stand.compile("one", &[]);
        assert_eq!(said, format!("whole | {line}\n"), "{number}");
        assert_eq!(record["incremental_given_back_bytes"], serde_json::Value::Null);
        let left = TestEnv::files_below(&stand.incremental("one"));
        assert_eq!(left.len(), FILES + 1, "only the new session and its lock: {left:?}");
    }
}

#[test]
fn a_compiler_that_breaks_down_over_a_session_is_run_again_without_it() {
    let stand = Stand::new();
    stand.env.write("tools/breaks", "");
    stand.compile("one", &[]);
    stand.clean("one");
    stand.sources("one", "b");
    let (said, record) = stand.compile("one", &[]);
    assert_eq!(said, "whole | b\n");
    assert_eq!(record["incremental_given_back_bytes"], serde_json::Value::Null);
    // A mistake of the user's is no breakdown: it is said once, and what was given back stays for the next try.
    stand.env.remove("tools/breaks");
    stand.clean("one");
    settle();
    stand.compile("one", &["--cfg=x"]);
    stand.clean("one");
    stand.sources("one", "mistake");
    let output: Output = stand.call("one", &["--cfg=x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("a mistake").count(), 1);
}

#[test]
fn killed_at_any_link_it_makes_it_leaves_a_store_that_is_right() {
    // The first link is the library's, one more is in the middle of a session, and so on.
    for number in [1, 3, FILES, FILES + 1, FILES * 2] {
        let stand = Stand::new();
        let kill = |at: usize| {
            let call = stand.call("one", &[]);
            let mut strace = Command::new("strace");
            let inject = format!("inject=linkat:signal=KILL:when={at}");
            strace.args(["-f", "-o", "/dev/null", "-e", "trace=linkat", "-e", &inject]);
            strace.arg(call.get_program()).args(call.get_args());
            strace.current_dir(stand.env.path("one")).env_clear();
            for (name, value) in call.get_envs() {
                if let Some(value) = value {
                    strace.env(name, value);
                }
            }
            strace.output().expect("strace is installed").status.success()
        };
        if number <= FILES {
            // While it keeps the first session.
            assert!(!kill(number), "it made no {number} links");
        } else {
            // While it gives one back.
            stand.compile("one", &[]);
            stand.clean("one");
            stand.sources("one", "b");
            assert!(!kill(number - FILES), "it made no {number} links");
            let left = std::fs::read_dir(stand.incremental("one").join("app-1")).unwrap();
            assert!(left.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with("s-")));
        }
        let line = stand.env.read_text("one/src/part.rs");
        let (said, _) = stand.compile("one", &[]);
        let found = if number <= FILES { "" } else { "session of a 1" };
        let ends = format!("| {line}");
        assert!(said.starts_with(found) && said.ends_with(&ends), "{number}: {said}");
        let left = TestEnv::files_below(&stand.incremental("one"));
        assert!(left.iter().all(|path| !path.display().to_string().contains("app-1/spolia-")), "{left:?}");
    }
}

/// As `spolia cc --target-dir` has it.
#[test]
fn what_is_read_from_a_target_folder_beside_the_store_counts() {
    let stand = Stand::new();
    let dependency = stand.env.store().join("targets/one-1/debug/deps/libdependency.rmeta");
    std::fs::create_dir_all(dependency.parent().unwrap()).unwrap();
    let name = format!("{}{}", "../".repeat(20), dependency.display().to_string().trim_start_matches('/'));
    stand.env.write("one/src/lib.rs", format!("part.rs\n{name}\n"));
    for (content, outcome) in [("first", "miss"), ("first", "hit"), ("second", "miss"), ("first", "hit")] {
        std::fs::write(&dependency, format!("{content}\n")).unwrap();
        settle();
        let (said, record) = stand.compile("one", &[]);
        assert_eq!(record["outcome"], outcome, "{content}");
        stand.clean("one");
        assert!(said.ends_with(&format!("| a {content}\n")), "{said}");
    }
}

/// A build script that starts the C compiler, which always asks for the time of day.
#[test]
fn what_a_build_script_compiles_in_c_is_kept_unless_its_source_names_the_time() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_spolia"), Engine::Host);
    let real = env.path("target/debug/build/foo-1/build_script_build-1.real").display().to_string();
    env.write_program(
        "target/debug/build/foo-1/build_script_build-1.real",
        "#!/bin/sh\necho 'int gone;' > \"$OUT_DIR/gone.c\"\ngcc -c \"$OUT_DIR/gone.c\" -o \"$OUT_DIR/gone.o\"\n\
         rm \"$OUT_DIR/gone.c\"\nexec gcc -Ione -Itwo -c x.c -o \"$OUT_DIR/x.o\"\n",
    );
    let out = env.path("target/debug/build/foo-1/out");
    let run = || {
        let _not_there = std::fs::remove_dir_all(&out);
        std::fs::create_dir_all(&out).unwrap();
        settle();
        let mut command = env.command(["__build-script", &"7".repeat(64), &real, "build-script-build"]);
        command.env("OUT_DIR", &out).env("CARGO_PKG_NAME", "foo");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let last = env.command(["--json", "why", "--last-compile", "foo"]).output().unwrap();
        let last: serde_json::Value = serde_json::from_slice(&last.stdout).unwrap();
        let word = |name: &str| last[name].as_str().unwrap_or_default().to_owned();
        (word("outcome"), word("detail"), std::fs::read(out.join("x.o")).unwrap())
    };
    env.write("two/h.h", "#define V 1\n");
    env.write("x.c", "#include <h.h>\nint v = V;\n");
    let (outcome, detail, first) = run();
    assert_eq!(outcome, "miss", "{detail}");
    assert_eq!(run(), ("hit".to_owned(), String::new(), first.clone()));
    env.write("two/h.h", "#define V 2\n");
    let (outcome, _, second) = run();
    assert!(outcome == "miss" && second != first);
    env.write("one/h.h", "#define V 3\n");
    let (outcome, _, third) = run();
    assert!(outcome == "miss" && third != second);
    env.write("one/h.h", "#define V 3\nconst char *when = __TIME__;\n");
    for _ in 0..2 {
        let (outcome, detail, _) = run();
        assert_eq!(outcome, "not-cacheable");
        let header = env.path("one/h.h").display().to_string();
        assert!(detail.contains("cc1` asks for the time") && detail.contains(&header), "{detail}");
    }
    // Its text is gone, and the time is in what it gave.
    env.write("one/h.h", "#define V 3\n");
    env.write_program(
        "target/debug/build/foo-1/build_script_build-1.real",
        "#!/bin/sh\necho 'const char *t = __TI''ME__;' > \"$OUT_DIR/gone.c\"\ngcc -c \"$OUT_DIR/gone.c\" -o \"$OUT_DIR/x.o\"\n\
         rm \"$OUT_DIR/gone.c\"\n",
    );
    // Another script would have another digest.
    std::fs::remove_dir_all(env.store().join("v1/result")).unwrap();
    let (outcome, detail, _) = run();
    assert!(outcome == "not-cacheable" && detail.contains("gone.c"), "{outcome} {detail}");
}
