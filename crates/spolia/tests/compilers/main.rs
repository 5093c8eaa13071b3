//! The real binary called as a C compiler, around the real gcc: what is replayed, what is said, and that nothing
//! that is wrong with the cache costs a build. What gives right and wrong results is `cargo xtask conformance`.

#![allow(clippy::disallowed_methods, reason = "a test starts programs")]

mod budget;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use spolia_testing::{Engine, TestEnv};

const PROGRAM: &str = "#include \"v.h\"\nint v(void) { int unused; return V; }\n";

fn env() -> TestEnv {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_spolia"), Engine::Host);
    env.write("v.h", "#define V 1\n");
    env.write("x.c", PROGRAM);
    // Old enough to be believed.
    std::thread::sleep(std::time::Duration::from_millis(120));
    env
}

/// The same, and the object is too long to lie in the manifest.
fn env_of_a_long_object() -> TestEnv {
    let env = env();
    env.write("x.c", format!("{PROGRAM}\nconst char long_one[20000] = {{1}};\n"));
    std::thread::sleep(std::time::Duration::from_millis(120));
    env
}

fn gcc(env: &TestEnv, args: &[&str]) -> Output {
    let all = ["cc", "gcc"].iter().chain(args);
    env.command(all).output().expect("spolia starts")
}

fn compile(env: &TestEnv) -> Output {
    let _not_there = std::fs::remove_file(env.path("x.o"));
    let output = gcc(env, &["-Wall", "-MMD", "-c", "x.c", "-o", "x.o"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(env.has("x.o") && env.has("x.d"));
    output
}

/// The last record of the tally.
fn last(env: &TestEnv) -> serde_json::Value {
    let output = env.command(["--json", "why", "--last-compile"]).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn outcome(env: &TestEnv) -> String {
    last(env)["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn the_second_compile_is_a_hit_with_the_same_files_and_words() {
    let env = env();
    let first = compile(&env);
    assert_eq!(outcome(&env), "miss");
    let (object, depfile) = (env.read("x.o"), env.read("x.d"));
    env.remove("x.d");
    let second = compile(&env);
    assert_eq!(outcome(&env), "hit");
    assert_eq!((env.read("x.o"), env.read("x.d")), (object, depfile));
    assert_eq!(first.stderr, second.stderr);
    assert!(String::from_utf8_lossy(&second.stderr).contains("unused variable"));
    env.write("v.h", "#define V 2\n");
    compile(&env);
    let record = last(&env);
    assert_eq!(
        (record["outcome"].as_str(), record["reason"].as_str()),
        (Some("miss"), Some("input-changed"))
    );
    assert!(record["detail"].as_str().unwrap().ends_with("v.h"));
}

#[test]
fn a_miss_says_which_argument_differs() {
    let env = env();
    compile(&env);
    gcc(&env, &["-O2", "-MMD", "-c", "x.c", "-o", "x.o"]);
    let record = last(&env);
    assert_eq!(record["reason"], "key-changed");
    assert_eq!(record["detail"], "argument `-Wall` is now `-O2`");
    let said = env.command(["why", "--last-compile", "x.c"]).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("argument `-Wall` is now `-O2`"));
}

#[test]
fn another_checkout_hits_and_names_itself() {
    let env = env();
    for name in ["one", "two"] {
        env.write(format!("{name}/.git/HEAD"), "");
        env.write(format!("{name}/x.c"), "int v(void) { int unused; return 1; }\n");
    }
    std::thread::sleep(std::time::Duration::from_millis(120));
    let call = |name: &str| {
        let folder = env.path(name);
        let source = folder.join("x.c").display().to_string();
        let args = ["cc", "gcc", "-Wall", "-g", "-MD", "-c", &source, "-o", "x.o"];
        let output = env.command(args).current_dir(&folder).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let first = call("one");
    let second = call("two");
    assert_eq!(outcome(&env), "hit");
    let (one, two) = (env.path("one").display().to_string(), env.path("two").display().to_string());
    assert!(first.contains(&one) && !second.contains(&one) && second.contains(&two), "{second}");
    assert!(env.read_text("two/x.d").contains(&two) && !env.read_text("two/x.d").contains(&one));
    let object = env.read("two/x.o");
    assert!(
        !object.windows(one.len()).any(|part| part == one.as_bytes()),
        "the object names the other checkout"
    );
}

#[test]
fn a_map_of_the_checkouts_path_is_the_same_map_in_another_checkout() {
    let mut env = env();
    env.set_var("SPOLIA_REMAP", "0");
    for name in ["one", "two", "alike", "alike-deps"] {
        env.write(format!("{name}/.git/HEAD"), "");
        env.write(format!("{name}/sub/h.h"), "static const char *h = __FILE__;\n");
        let source = "#include \"sub/h.h\"\nconst char *v(void) { return h + __FILE__[0]; }\n";
        env.write(format!("{name}/x.c"), source);
    }
    std::thread::sleep(std::time::Duration::from_millis(120));
    // What it is called with in a checkout, and whether another checkout's result is that of here.
    let check = |name: &str, from: &str, expect: &str| {
        let (folder, from) = (env.path(name), env.path(from).display().to_string());
        let source = folder.join("x.c").display().to_string();
        for kind in ["file", "debug", "macro"] {
            let own = format!("-f{kind}-prefix-map={from}=.");
            let whole = format!("-ffile-prefix-map={from}=/src");
            for compiler in ["gcc", "g++"] {
                let args = [&whole, &own, "-g", "-MD", "-c", &source, "-o", "x.o"];
                let gave = |mut command: Command| {
                    assert!(command.args(args).current_dir(&folder).status().unwrap().success());
                    // Where its lines are broken depends on how long the names are.
                    let rule = env.read_text(format!("{name}/x.d")).replace('\\', " ");
                    let rule: Vec<String> = rule.split_whitespace().map(str::to_owned).collect();
                    (env.read(format!("{name}/x.o")), rule)
                };
                let found = gave(env.command(["cc", compiler]));
                assert_eq!(outcome(&env), expect, "{name} {own} {compiler}");
                let right = gave(Command::new(compiler));
                assert!(found == right, "{name} {own} {compiler}");
            }
        }
    };
    check("one", "one", "miss");
    check("two", "two", "hit");
    check("one", "one", "hit");
    // Another meaning: the other checkout's path.
    check("two", "one", "miss");
    // The compilers take it for the beginning of the path beside it as well.
    check("alike", "alike", "miss");
    check("alike-deps", "alike-deps", "hit");
}

#[test]
fn a_folder_beside_the_checkout_whose_name_begins_alike_is_no_part_of_it() {
    let env = env();
    env.write("one-deps/h.h", "static const char *file = __FILE__;\nstatic int unused;\n");
    let deps = env.path("one-deps").display().to_string();
    for name in ["one", "two"] {
        env.write(format!("{name}/.git/HEAD"), "");
        env.write(
            format!("{name}/x.c"),
            format!("#include \"{deps}/h.h\"\nconst char *v(void) {{ return file; }}\n"),
        );
    }
    std::thread::sleep(std::time::Duration::from_millis(120));
    for (name, expect) in [("one", "miss"), ("two", "hit")] {
        let args = ["cc", "gcc", "-Wall", "-g", "-MD", "-c", "x.c", "-o", "x.o"];
        let output = env.command(args).current_dir(env.path(name)).output().unwrap();
        assert!(output.status.success());
        assert_eq!(outcome(&env), expect);
        let header = format!("{deps}/h.h");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&header));
        assert!(
            env.read_text(format!("{name}/x.d")).contains(&header),
            "{}",
            env.read_text(format!("{name}/x.d"))
        );
        let object = env.read(format!("{name}/x.o"));
        assert!(
            object.windows(header.len()).any(|part| part == header.as_bytes()),
            "the object does not name it"
        );
    }
}

#[test]
fn a_log_says_what_a_call_did_step_by_step() {
    let mut env = env();
    let log = env.path("log");
    env.set_var("SPOLIA_LOG", log.display().to_string());
    compile(&env);
    compile(&env);
    env.write("v.h", "#define V 2\n");
    compile(&env);
    gcc(&env, &["x.c", "-o", "x"]);
    env.command(["cc", "sh", "-c", "true"]).status().unwrap();
    let text = env.read_text("log");
    let calls: Vec<&str> = text.split("\n\n").filter(|call| !call.is_empty()).collect();
    assert_eq!(calls.len(), 5, "{text}");
    let check = |number: usize, wanted: &[&str]| {
        for words in wanted {
            assert!(calls[number].contains(words), "`{words}` in {}", calls[number]);
        }
    };
    check(
        0,
        &[
            "called     gcc -Wall -MMD -c x.c -o x.o",
            "identity   Gcc of",
            "taken      as c of `x.c`",
            "keyed      arguments: -Wall",
        ],
    );
    check(
        0,
        &[
            "set        nothing is kept at this key",
            "runs ",
            "ended      Exited(0)",
            "kept       o, ",
            "outcome    miss: never-seen; the result was kept",
        ],
    );
    assert!(
        calls[0].lines().any(|line| line.contains("input      file ") && line.contains("/v.h")),
        "{}",
        calls[0]
    );
    check(
        1,
        &[
            "set        1 of 1, the newest, ",
            "all are as they were",
            "put back   o, ",
            "put back   d, ",
            "outcome    hit",
        ],
    );
    check(2, &["v.h` changed", "outcome    miss: input-changed: "]);
    check(3, &["outcome    not-cacheable: link"]);
    check(4, &["outcome    pass-through: unknown-compiler"]);
    // What cannot be written costs nothing and says nothing.
    env.set_var("SPOLIA_LOG", env.path("no/folder/log").display().to_string());
    assert!(compile(&env).stderr.starts_with(b"x.c"));
    let told = env.command(["why", "--last-compile"]).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stderr).contains("SPOLIA_LOG=FILE"));
}

#[test]
fn links_of_the_compilers_names_lead_here() {
    let env = env();
    let output = env.command(["cc", "--install-links", "links"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(env.has("links/gcc"));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", env.path("links").display());
    for _ in 0..2 {
        let mut call = Command::new(env.path("links/gcc"));
        call.args(["-c", "x.c", "-o", "x.o"]).current_dir(env.root()).env_clear().env("PATH", &path);
        call.env("SPOLIA_CACHE_DIR", env.store()).env("HOME", env.folder().join("home"));
        assert!(call.output().unwrap().status.success());
    }
    assert_eq!(outcome(&env), "hit");
    // A link step goes to the compiler as it is.
    env.write("main.c", "int main(void) { return 0; }\n");
    let mut link = Command::new(env.path("links/gcc"));
    link.args(["main.c", "-o", "main"]).current_dir(env.root()).env_clear().env("PATH", &path);
    link.env("SPOLIA_CACHE_DIR", env.store());
    assert!(link.status().unwrap().success());
    assert_eq!(last(&env)["reason"], "link");
}

/// A call by a link of ours in `links`, with `before` and then `links` first in `PATH`, that ends in time.
fn by_link(env: &TestEnv, before: &str, args: &[&str]) -> Output {
    let path = [before, "links"].map(|folder| env.path(folder).display().to_string()).join(":");
    let mut call = Command::new("timeout");
    call.arg("60").arg("gcc").args(args).current_dir(env.root()).env_clear();
    call.env("PATH", format!("{path}:/usr/local/bin:/usr/bin:/bin")).env("HOME", env.folder().join("home"));
    call.env("SPOLIA_CACHE_DIR", env.store()).output().unwrap()
}

#[test]
fn a_script_of_a_compilers_name_may_call_the_cache_again() {
    let env = env();
    assert!(env.command(["cc", "--install-links", "links"]).status().unwrap().success());
    // What `timeout` finds first is this; we find it too, behind our own link.
    env.write(
        "script/gcc",
        "#!/bin/sh\nexec \"$0/../../links/gcc\" -DV2 \"$@\"\n"
            .replace("$0/../..", &env.root().display().to_string())
            .as_str(),
    );
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(env.path("script/gcc"), mode).unwrap();
    for _ in 0..2 {
        let output = by_link(&env, "script", &["-c", "x.c", "-o", "x.o"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(outcome(&env), "hit");
    env.write("main.c", "int main(void) { return 0; }\n");
    assert!(by_link(&env, "script", &["main.c", "-o", "main"]).status.success());
}

#[test]
fn links_of_another_cache_are_passed_over() {
    let env = env();
    assert!(env.command(["cc", "--install-links", "links"]).status().unwrap().success());
    // It does what such caches do: it looks for a compiler of its name in `PATH` that is not itself, which is us.
    let path = env.root().display().to_string();
    env.write(
        "other/ccache",
        format!("#!/bin/sh\necho asked >> {path}/asked\nexec {path}/links/gcc \"$@\"\n"),
    );
    std::fs::set_permissions(env.path("other/ccache"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("ccache", env.path("other/gcc")).unwrap();
    let calls = |args: &[&str]| {
        let output = env.command(args).env("PATH", format!("{path}/other:/usr/bin:/bin")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for _ in 0..2 {
        calls(&["cc", "gcc", "-c", "x.c", "-o", "x.o"]);
    }
    assert_eq!(outcome(&env), "hit");
    let other = format!("{path}/other/gcc");
    calls(&["cc", &other, "-c", "x.c", "-o", "x.o"]);
    assert!(!env.has("asked"));
    // First in `PATH` it is asked, and its compiler is the one behind us.
    for _ in 0..2 {
        let output = by_link(&env, "other", &["-c", "x.c", "-o", "x.o"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(env.has("asked"));
    assert_eq!(outcome(&env), "hit");
}

#[test]
fn a_header_in_a_target_folder_beside_the_store_counts() {
    let env = env();
    let folder = env.store().join("targets/one-1/debug/build/foo-1/out");
    std::fs::create_dir_all(&folder).unwrap();
    env.write("y.c", "#include <made.h>\nint v = MADE;\n");
    let folder_named = folder.display().to_string();
    let mut objects = Vec::new();
    for (value, expect) in [("1", "miss"), ("1", "hit"), ("2", "miss")] {
        std::fs::write(folder.join("made.h"), format!("#define MADE {value}\n")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(120));
        assert!(gcc(&env, &["-I", &folder_named, "-c", "y.c", "-o", "y.o"]).status.success());
        assert_eq!(outcome(&env), expect);
        objects.push(env.read("y.o"));
    }
    assert!(objects[0] == objects[1] && objects[1] != objects[2]);
}

#[test]
fn a_failed_compile_is_shown_as_it_is_and_not_kept() {
    let env = env();
    env.write("bad.c", "int v = nothing;\n");
    let mut bare = Command::new("/usr/bin/gcc");
    let bare = bare.args(["-c", "bad.c"]).current_dir(env.root()).env_clear().env("PATH", "/usr/bin:/bin");
    let bare = bare.output().unwrap();
    for _ in 0..2 {
        let output = gcc(&env, &["-c", "bad.c"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(last(&env)["reason"], "compile-failed");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing"));
        assert_eq!(output.stderr, bare.stderr);
    }
}

#[test]
fn whatever_is_wrong_with_the_store_the_compiler_runs() {
    let mut env = env_of_a_long_object();
    let works = |env: &TestEnv, what: &str| {
        let _not_there = std::fs::remove_file(env.path("x.o"));
        let output = gcc(env, &["-c", "x.c", "-o", "x.o"]);
        assert!(
            output.status.success() && env.has("x.o"),
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stderr.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    };
    works(&env, "a first time");
    // Read-only: what is there is used, nothing is added.
    let modes = |mode| {
        for folder in ["", "v1", "v1/tmp", "v1/result", "v1/blob", "v1/cc"] {
            let path = env.store().join(folder);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    modes(0o555);
    works(&env, "a read-only store");
    modes(0o755);
    // A file where a folder should be.
    std::fs::remove_dir_all(env.store()).unwrap();
    std::fs::write(env.store(), "not a folder").unwrap();
    works(&env, "a store that is a file");
    // No place at all.
    let mut call = env.command(["cc", "gcc", "-c", "x.c", "-o", "x.o"]);
    call.env_remove("HOME").env_remove("SPOLIA_CACHE_DIR");
    assert!(call.status().unwrap().success());
    // Another version's store.
    std::fs::remove_file(env.store()).unwrap();
    std::fs::create_dir_all(env.store().join("v1")).unwrap();
    std::fs::write(env.store().join("v1/format"), "spolia store 999\n").unwrap();
    works(&env, "a store of another version");
    env.set_var("SPOLIA_DISABLE", "1");
    works(&env, "turned off");
}

#[test]
fn every_byte_of_a_store_may_be_lost_or_flipped() {
    let env = env_of_a_long_object();
    compile(&env);
    assert!(env.store().join("v1/blob").exists());
    let right = env.read("x.o");
    let files: Vec<_> = TestEnv::files_below(&env.store().join("v1"))
        .into_iter()
        .filter(|path| path.metadata().is_ok_and(|found| found.len() > 0))
        .collect();
    assert!(files.len() > 5);
    for path in files {
        let Ok(whole) = std::fs::read(&path) else { continue };
        if whole.len() > 1 << 20 {
            continue;
        }
        for damage in 0..2 {
            let mut bytes = whole.clone();
            match damage {
                0 => bytes.truncate(whole.len() / 2),
                _ => bytes[whole.len() / 2] ^= 0x55,
            }
            let _not_there = std::fs::remove_file(&path);
            std::fs::write(&path, bytes).unwrap();
            compile(&env);
            assert_eq!(env.read("x.o"), right, "{}", path.display());
        }
    }
}

#[test]
fn verifying_says_where_a_hit_would_have_been_wrong() {
    let mut env = env();
    compile(&env);
    env.set_var("SPOLIA_VERIFY", "1");
    let output = compile(&env);
    assert_eq!(last(&env)["verified"], true);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("verify"));
    // A compiler that gives something else than it did, which no cache can know.
    env.write_program("bin/gcc", "#!/bin/sh\nexec /usr/bin/gcc -DV2=$WHICH \"$@\"\n");
    env.write("y.c", "int v = V2;\n");
    std::thread::sleep(std::time::Duration::from_millis(120));
    env.unset_var("SPOLIA_VERIFY");
    env.set_var("WHICH", "1");
    let program = env.path("bin/gcc").display().to_string();
    let call = |env: &TestEnv| env.command(["cc", &program, "-c", "y.c", "-o", "y.o"]).output().unwrap();
    assert!(call(&env).status.success());
    env.set_var("SPOLIA_VERIFY", "1");
    env.set_var("WHICH", "2");
    let output = call(&env);
    assert!(output.status.success());
    assert_eq!(last(&env)["verified"], false);
    assert!(String::from_utf8_lossy(&output.stderr).contains("verify: output `o` of `y.c` is not"));
}

#[test]
fn verifying_a_compiler_that_differs_from_itself_raises_no_alarm() {
    let mut env = env();
    for flags in [&["-flto"][..], &["--coverage"]] {
        env.unset_var("SPOLIA_VERIFY");
        let args = [flags, &["-MMD", "-c", "x.c", "-o", "x.o"]].concat();
        assert!(gcc(&env, &args).status.success());
        env.set_var("SPOLIA_VERIFY", "1");
        let output = gcc(&env, &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("the compiler's own output varies"), "{said}");
        assert!(!said.contains("is not what was kept"), "{said}");
        assert_eq!(
            (&last(&env)["verified"], &last(&env)["varies"]),
            (&serde_json::Value::Null, &true.into())
        );
        // What stands there is what was kept of the second compile.
        env.unset_var("SPOLIA_VERIFY");
        let second = env.read("x.o");
        assert!(gcc(&env, &args).status.success());
        assert_eq!(outcome(&env), "hit");
        assert_eq!(env.read("x.o"), second);
        assert!(
            std::fs::read_dir(env.path("."))
                .unwrap()
                .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains("spolia-verify") })
        );
    }
    let stats = env.command(["stats", "--json"]).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!((&stats["verify_varies"], &stats["verify_differs"]), (&2.into(), &0.into()));
}

#[test]
fn identical_compiles_at_once_run_one() {
    let env = env();
    env.write_program(
        "bin/gcc",
        "#!/bin/sh\ncase \"$*\" in *x.c*) sleep 0.7;; esac\nexec /usr/bin/gcc \"$@\"\n",
    );
    std::thread::sleep(std::time::Duration::from_millis(120));
    let program = env.path("bin/gcc").display().to_string();
    let start = |number: usize| {
        let output = format!("x{number}.o");
        let mut call = env.command(["cc", &program, "-c", "x.c", "-o", &output]);
        call.stdout(Stdio::null()).stderr(Stdio::null());
        call.spawn().unwrap()
    };
    let calls: Vec<_> = (0..3).map(start).collect();
    for mut call in calls {
        assert!(call.wait().unwrap().success());
    }
    let first = env.read("x0.o");
    assert!((1..3).all(|number| env.read(format!("x{number}.o")) == first));
    let output = env.command(["--json", "stats"]).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((stats["all"]["misses"].as_u64(), stats["all"]["hits"].as_u64()), (Some(1), Some(2)));
}

#[test]
fn statistics_are_counted_shown_and_forgotten() {
    let env = env();
    compile(&env);
    compile(&env);
    let output = env.command(["--json", "stats"]).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((stats["all"]["hits"].as_u64(), stats["all"]["misses"].as_u64()), (Some(1), Some(1)));
    assert_eq!(stats["languages"]["c"]["hits"], 1);
    assert!(stats["all"]["saved_cpu_us"].as_u64().is_some());
    let text = env.command(["stats", "--since", "1h", "--session"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("hit rate") && text.contains("never-seen"), "{text}");
    assert!(env.command(["stats", "--zero"]).status().unwrap().success());
    let text = env.command(["stats"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&text.stdout), "no compiler calls were counted\n");
}

#[test]
fn setup_writes_for_cargo_and_prints_for_the_others() {
    let env = env();
    for _ in 0..2 {
        assert!(env.command(["cc", "--setup"]).status().unwrap().success());
        assert_eq!(env.read_text(".cargo/config.toml"), "[build]\nrustc-wrapper = \"spolia\"\n");
    }
    env.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"sccache\"\n");
    let refused = env.command(["cc", "--setup"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    for (system, word) in [
        ("cmake", "CMAKE_C_COMPILER_LAUNCHER"),
        ("meson", "[binaries]"),
        ("autotools", "CC=\"spolia cc gcc\""),
    ] {
        let output = env.command(["cc".to_owned(), format!("--setup={system}")]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(word), "{system}");
    }
}

#[test]
fn each_checkout_has_a_kept_target_folder_until_it_is_gone() {
    let mut env = env();
    // What cargo answers is its own tests' matter; here it is what Spolia makes of the answer.
    let cargo = "#!/bin/sh\nif [ \"$1\" = locate-project ]; then [ -e Cargo.toml ] || { echo 'error: could not find' >&2; \
                 exit 101; }; echo \"$PWD/Cargo.toml\"; else echo \"$1 in $CARGO_TARGET_DIR\"; fi\n";
    env.write_program("bin/cargo", cargo);
    env.set_var("PATH", format!("{}:/usr/bin:/bin", env.path("bin").display()));
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let in_folder = |folder: &str, args: &[&str]| {
        let place = env.path(folder);
        let first = ["-C", place.to_str().unwrap(), "cc", "--target-dir"];
        env.command(first.iter().chain(args)).output().unwrap()
    };
    assert_eq!(in_folder(".", &[]).status.code(), Some(2), "there is no workspace");
    env.write("one/app/Cargo.toml", "");
    env.write("two/app/Cargo.toml", "");
    let (one, two) = (text(&in_folder("one/app", &[])), text(&in_folder("two/app", &[])));
    assert!(one != two && std::path::Path::new(one.trim_end()).is_dir(), "{one} {two}");
    assert_eq!(text(&in_folder("one/app", &[])), one);
    assert_eq!(text(&in_folder("one/app", &["--", "cargo", "build"])), format!("build in {one}"));
    let both = in_folder("one/app", &["--setup"]);
    assert_eq!(text(&both), format!("export CARGO_TARGET_DIR={one}"));
    assert!(env.read_text("one/app/.cargo/config.toml").contains("rustc-wrapper = \"spolia\""));
    assert_eq!(in_folder("one/app", &["--setup=meson"]).status.code(), Some(2));
    std::fs::write(std::path::Path::new(one.trim_end()).join("big"), vec![1; 100_000]).unwrap();
    // Gone with what held it: that may be a disk that is not mounted, so only `--prune` takes it.
    std::fs::remove_dir_all(env.path("one")).unwrap();
    in_folder("two/app", &[]);
    let listed = text(&in_folder("two/app", &["--list"]));
    assert!(listed.contains("one/app  (gone") && listed.contains("two/app  (there)"), "{listed}");
    let planned = in_folder("two/app", &["--prune", "--dry-run"]);
    assert!(String::from_utf8_lossy(&planned.stderr).contains("would remove"));
    assert!(std::path::Path::new(one.trim_end()).is_dir());
    assert!(in_folder("two/app", &["--prune"]).status.success());
    assert!(!std::path::Path::new(one.trim_end()).exists() && std::path::Path::new(two.trim_end()).is_dir());
    // Gone from where it was: the next call takes it.
    env.write("other/Cargo.toml", "");
    std::fs::remove_dir_all(env.path("two/app")).unwrap();
    in_folder("other", &[]);
    assert!(!std::path::Path::new(two.trim_end()).exists());
}

#[test]
fn results_of_compilers_are_listed_by_what_was_compiled() {
    let env = env();
    compile(&env);
    compile(&env);
    let output = env.command(["--json", "cache", "ls"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = listed["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!((&results[0]["label"], &results[0]["hits"]), (&"gcc x.c".into(), &1.into()));
}

#[test]
fn a_compiler_that_is_not_there_is_127() {
    let env = env();
    let output = env.command(["cc", "no-such-target-gcc", "-c", "x.c"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
}

#[test]
fn hard_links_are_used_and_a_tool_that_writes_through_one_costs_a_miss() {
    use std::os::unix::fs::MetadataExt;
    let mut env = env();
    env.set_var("SPOLIA_HARD_LINKS", "1");
    compile(&env);
    let right = env.read("x.o");
    compile(&env);
    assert_eq!(outcome(&env), "hit");
    assert!(std::fs::metadata(env.path("x.o")).unwrap().nlink() > 1);
    // In place, through the link, as some tools do.
    let file = std::fs::OpenOptions::new().write(true).open(env.path("x.o")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"broken", 64).unwrap();
    drop(file);
    std::thread::sleep(std::time::Duration::from_millis(120));
    compile(&env);
    assert_eq!(outcome(&env), "miss");
    assert_eq!(env.read("x.o"), right);
    compile(&env);
    assert_eq!((outcome(&env).as_str(), env.read("x.o")), ("hit", right));
}

#[test]
fn where_nothing_can_be_observed_the_preprocessed_text_is_the_key() {
    let env = env();
    compile(&env);
    let unobserved = env.store().join("v1/cc/unobserved");
    std::fs::write(&unobserved, "").unwrap();
    compile(&env);
    assert_eq!(outcome(&env), "miss");
    compile(&env);
    assert_eq!(outcome(&env), "hit");
    // A comment does not change the text, a definition does.
    env.write("v.h", "#define V 1\n// a comment\n");
    compile(&env);
    assert_eq!(outcome(&env), "hit");
    env.write("v.h", "#define V 2\n");
    std::thread::sleep(std::time::Duration::from_millis(120));
    let _not_there = std::fs::remove_file(env.path("x.o"));
    compile(&env);
    assert_eq!(outcome(&env), "miss");
    env.write("asm.c", "__asm__(\".incbin \\\"v.h\\\"\");\n");
    gcc(&env, &["-c", "asm.c", "-o", "asm.o"]);
    assert_eq!(last(&env)["reason"], "hidden-inputs");
}

#[test]
fn what_is_hit_outlives_what_is_not() {
    let env = env();
    // Long enough to be blobs, and too different to share one.
    for name in ["old", "new"] {
        let table: Vec<String> = (0..4000).map(|number| format!("\"{name} {number}\"")).collect();
        env.write(format!("{name}.c"), format!("const char *const {name}[] = {{{}}};\n", table.join(",")));
    }
    std::thread::sleep(std::time::Duration::from_millis(120));
    let compile = |name: &str| {
        let (source, object) = (format!("{name}.c"), format!("{name}.o"));
        assert!(gcc(&env, &["-c", &source, "-o", &object]).status.success());
        outcome(&env)
    };
    assert_eq!([compile("old"), compile("new")], ["miss", "miss"]);
    // Of long ago and in no record, so that nothing but its use keeps one of them.
    assert!(env.command(["stats", "--zero"]).output().unwrap().status.success());
    let base = env.store().join("v1");
    for space in ["result", "blob"] {
        for file in TestEnv::files_below(&base.join(space)) {
            let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(5 * 60 * 60);
            std::fs::File::open(&file).unwrap().set_modified(long_ago).unwrap();
        }
    }
    assert_eq!(compile("old"), "hit");
    let collected = env.command(["cache", "gc", "--max-size", "1B"]).output().unwrap();
    assert!(collected.status.success(), "{}", String::from_utf8_lossy(&collected.stderr));
    assert_eq!([compile("old"), compile("new")], ["hit", "miss"]);
}
