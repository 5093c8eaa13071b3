//! Which steps run after which change, and why they say they do.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use spolia_core::MissReason;
use spolia_testing::TestEnv;

both!(
    content_and_nothing_else_counts,
    the_executable_bit_counts,
    files_come_and_go_in_globs,
    the_same_bytes_stop_the_wave,
    variables_count,
    flags_and_salt_count,
    platform_variables_count_where_they_are_used,
    tools_count,
    overrides_touch_one_platform,
    variants_are_keyed_by_what_they_change,
    included_files_are_part_of_it,
    an_older_state_is_a_hit,
    lost_outputs_come_back,
    bumping_one_tool_runs_its_steps,
    no_cache_and_no_store,
    a_check_is_remembered,
    only_what_was_asked_for_runs,
    lists_run_without_a_shell,
);

const AMD: &str = "linux/amd64";
const ARM: &str = "linux/arm64";

/// A list sorted once for all, and for each platform a library of it and a program of that.
fn three_floors(env: &TestEnv) {
    env.write("src/list.txt", "b\na\n");
    env.write("src/lib/one.c", "one\n");
    env.write("src/lib/deep/two.c", "two\n");
    env.write("src/app.c", "app\n");
    env.manifest(
        r#"
        [project]
        name = "floors"
        platforms = ["linux/amd64", "linux/arm64"]

        [steps.gen]
        platforms = "any"
        run = "sort src/list.txt > ${out}/list"
        inputs = ["src/list.txt"]
        outputs = ["list"]

        [steps.lib]
        needs = ["gen"]
        run = "cat ${step.gen}/list $(find src/lib -type f | sort) > ${out}/lib.a; echo ${platform} >> ${out}/lib.a"
        inputs = ["src/lib/**"]
        outputs = ["lib.a"]

        [steps.app]
        needs = ["lib"]
        run = "cat ${step.lib}/lib.a src/app.c > ${out}/app"
        inputs = ["src/app.c"]
        outputs = ["app"]
        "#,
    );
}

const ALL: &[&str] =
    &["gen", "lib (linux/amd64)", "lib (linux/arm64)", "app (linux/amd64)", "app (linux/arm64)"];
const LIBS: &[&str] = &["lib (linux/amd64)", "lib (linux/arm64)"];
const APPS: &[&str] = &["app (linux/amd64)", "app (linux/arm64)"];

fn app(env: &TestEnv, platform: &str) -> String {
    env.read_text(format!(".spolia/out/app/{platform}/app"))
}

fn content_and_nothing_else_counts(env: &mut TestEnv) {
    three_floors(env);
    env.build(&[]).assert_ran(ALL).assert_miss("gen", "never run here");
    assert_eq!(app(env, AMD), "a\nb\ntwo\none\nlinux/amd64\napp\n");
    assert_eq!(app(env, ARM), "a\nb\ntwo\none\nlinux/arm64\napp\n");
    env.build(&[]).assert_up_to_date();

    // Touched, even into the past and the future.
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(TestEnv::now_us());
    let day = Duration::from_secs(86_400);
    for time in [now, now - 400 * day, now + 400 * day] {
        let file = std::fs::File::options().append(true).open(env.path("src/app.c")).unwrap();
        file.set_modified(time).unwrap();
        env.build(&[]).assert_up_to_date();
    }
    // Written again with the same bytes, and replaced by another file with the same bytes.
    env.write("src/app.c", "app\n");
    env.write("src/other", "app\n");
    std::fs::rename(env.path("src/other"), env.path("src/app.c")).unwrap();
    env.build(&[]).assert_up_to_date();
    // Files that nobody declared.
    env.write("src/readme.md", "new");
    env.build(&[]).assert_up_to_date();

    env.write("src/app.c", "new\n");
    let built = env.build(&[]);
    built.assert_ran(APPS);
    for step in APPS {
        built.assert_miss(step, "input `src/app.c` changed");
    }
    assert!(app(env, ARM).ends_with("new\n"));
    env.build(&[]).assert_up_to_date();
}

fn the_executable_bit_counts(env: &mut TestEnv) {
    three_floors(env);
    env.build(&[]).assert_ran(ALL);
    env.chmod("src/lib/one.c", 0o755);
    let built = env.build(&[]);
    built.assert_ran(LIBS).assert_miss(LIBS[0], "input `src/lib/one.c` changed");
    assert_eq!(built.up_to_date().len(), 3, "{built}");
    // Bits that git does not keep do not count.
    env.chmod("src/lib/one.c", 0o700);
    env.build(&[]).assert_up_to_date();
    env.chmod("src/lib/one.c", 0o644);
    env.build(&[]).assert_ran(&[]);
}

fn files_come_and_go_in_globs(env: &mut TestEnv) {
    three_floors(env);
    env.build(&[]).assert_ran(ALL);
    env.write("src/lib/deep/er/three.c", "three\n");
    let built = env.build(&[]);
    assert_eq!(built.ran().len(), 4, "{built}");
    built.assert_miss(LIBS[1], "input `src/lib/deep/er/three.c` is new");
    assert_eq!(built.changes(APPS[1]), ["needs.lib lib.a"]);
    env.remove("src/lib/one.c");
    env.build(&[]).assert_miss(LIBS[0], "input `src/lib/one.c` is gone");
    assert_eq!(app(env, AMD), "a\nb\nthree\ntwo\nlinux/amd64\napp\n");
    // Renamed: another order of the same bytes.
    std::fs::rename(env.path("src/lib/deep/two.c"), env.path("src/lib/deep/2.c")).unwrap();
    let built = env.build(&[]);
    assert_eq!(built.changes(LIBS[0]), ["inputs src/lib/deep/2.c", "inputs src/lib/deep/two.c"]);
    assert_eq!(app(env, AMD), "a\nb\ntwo\nthree\nlinux/amd64\napp\n");
}

fn the_same_bytes_stop_the_wave(env: &mut TestEnv) {
    three_floors(env);
    env.build(&[]).assert_ran(ALL);
    env.write("src/list.txt", "a\nb\n");
    let built = env.build(&[]);
    built.assert_ran(&["gen"]);
    assert_eq!(built.up_to_date().len(), 4, "{built}");
    env.write("src/list.txt", "a\nb\nc\n");
    let built = env.build(&[]);
    built.assert_ran(ALL);
    assert_eq!(built.changes("gen"), ["inputs src/list.txt"]);
    assert_eq!(built.changes(LIBS[0]), ["needs.gen list"]);
    built.assert_miss(LIBS[0], "`list` from step `gen` changed");
}

fn variables_count(env: &mut TestEnv) {
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "echo [${FLAVOUR-unset}] [${FIXED}] [${SECRET-unset}] > ${out}/a"
        pass-env = ["FLAVOUR"]
        env = { FIXED = "one" }
        outputs = ["a"]
        "#,
    );
    let a = |env: &TestEnv| env.read_text(".spolia/out/a/any/a");
    env.set_var("SECRET", "not passed");
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(a(env), "[unset] [one] [unset]\n");
    env.set_var("SECRET", "not passed either");
    env.set_var("CFLAGS", "-O3");
    env.build(&[]).assert_up_to_date();
    env.set_var("FLAVOUR", "");
    env.build(&[]).assert_miss("a", "variable `FLAVOUR` is new");
    assert_eq!(a(env), "[] [one] [unset]\n");
    env.set_var("FLAVOUR", "sweet");
    env.build(&[]).assert_miss("a", "variable `FLAVOUR` changed");
    env.edit_manifest("one", "two");
    env.build(&[]).assert_miss("a", "variable `FIXED` changed");
    assert_eq!(a(env), "[sweet] [two] [unset]\n");
    env.unset_var("FLAVOUR");
    env.build(&[]).assert_miss("a", "variable `FLAVOUR` is gone");
    // What is set here goes before what is passed.
    env.set_var("FLAVOUR", "sour");
    env.edit_manifest("FIXED = \"two\"", "FIXED = \"two\", FLAVOUR = \"salt\"");
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(a(env), "[salt] [two] [unset]\n");
}

fn flags_and_salt_count(env: &mut TestEnv) {
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "echo -O1 > ${out}/a"
        outputs = ["a"]
        timeout = "10m"
        "#,
    );
    env.build(&[]).assert_ran(&["a"]);
    env.edit_manifest("-O1", "-O2");
    assert_eq!(env.build(&[]).changes("a"), ["run 2"]);
    env.edit_manifest("outputs = [\"a\"]", "outputs = [\"a\"]\nsalt = \"again\"");
    assert_eq!(env.build(&[]).changes("a"), ["salt"]);
    // What cannot change the result is no part of the key.
    env.edit_manifest("timeout = \"10m\"", "timeout = \"20m\"\nretries = 3");
    env.build(&[]).assert_up_to_date();
    env.edit_manifest("outputs = [\"a\"]", "outputs = [{ path = \"a\", allow-empty = true }]");
    assert_eq!(env.build(&[]).ran().len(), 1);
}

fn platform_variables_count_where_they_are_used(env: &mut TestEnv) {
    env.manifest(
        r#"
        [project]
        platforms = ["linux/amd64", "linux/arm64"]
        [platform."linux/arm64"]
        opt = "-Os"
        [platform."linux/amd64"]
        opt = "-O2"
        [steps.used]
        run = "echo ${platform.opt} > ${out}/a"
        outputs = ["a"]
        [steps.unused]
        run = "echo ${platform.arch} > ${out}/a"
        outputs = ["a"]
        "#,
    );
    assert_eq!(env.build(&[]).ran().len(), 4);
    assert_eq!(env.read_text(".spolia/out/used/linux/arm64/a"), "-Os\n");
    assert_eq!(env.read_text(".spolia/out/unused/linux/arm64/a"), "arm64\n");
    env.edit_manifest("-Os", "-O1");
    let built = env.build(&[]);
    built.assert_ran(&["used (linux/arm64)"]);
    assert_eq!(built.changes("used (linux/arm64)"), ["platform opt"]);
    assert_eq!(env.read_text(".spolia/out/used/linux/arm64/a"), "-O1\n");
}

fn tools_count(env: &mut TestEnv) {
    let tools = env.folder().join("home/tools");
    std::fs::create_dir_all(&tools).unwrap();
    let write = |name: &str, word: &str| {
        std::fs::write(tools.join(name), format!("#!/bin/sh\necho {word}\n")).unwrap();
        std::fs::set_permissions(tools.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("stamp", "one");
    write("other", "x");
    env.set_var("PATH", format!("{}:/usr/bin:/bin", tools.display()));
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "stamp > ${out}/a"
        tools = ["stamp"]
        outputs = ["a"]
        [steps.b]
        platforms = "any"
        run = "echo b > ${out}/a"
        tools = ["cat"]
        outputs = ["a"]
        "#,
    );
    env.build(&[]).assert_ran(&["a", "b"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "one\n");
    env.build(&[]).assert_up_to_date();
    write("stamp", "two");
    let built = env.build(&[]);
    built.assert_ran(&["a"]).assert_miss("a", "tool `stamp` changed");
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "two\n");
    write("stamp", "one");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "one\n");
    std::fs::remove_file(tools.join("stamp")).unwrap();
    let built = env.build_fails(1, &["--keep-going"]);
    assert!(built.error("a").contains("the tool `stamp` is not installed"), "{built}");
    assert_eq!(built.up_to_date().len(), 1, "{built}");
}

fn overrides_touch_one_platform(env: &mut TestEnv) {
    env.manifest(
        r#"
        [project]
        platforms = ["linux/amd64", "linux/arm64", "linux/386"]
        [steps.a]
        run = "echo ${LTO} > ${out}/a"
        env = { LTO = "yes" }
        outputs = ["a"]
        [steps.a.platform."linux/arm64"]
        env = { LTO = "no" }
        [steps.once]
        platforms = "any"
        run = "echo once > ${out}/a"
        outputs = ["a"]
        [steps.some]
        platforms = ["linux/386"]
        needs = ["a", "once"]
        run = "cat ${step.a}/a ${step.once}/a > ${out}/a"
        outputs = ["a"]
        "#,
    );
    let built = env.build(&[]);
    let all = ["a (linux/386)", "a (linux/amd64)", "a (linux/arm64)", "once", "some (linux/386)"];
    built.assert_ran(&all);
    assert_eq!(env.read_text(".spolia/out/a/linux/arm64/a"), "no\n");
    assert_eq!(env.read_text(".spolia/out/a/linux/amd64/a"), "yes\n");
    assert_eq!(env.read_text(".spolia/out/some/linux/386/a"), "yes\nonce\n");
    env.edit_manifest("LTO = \"no\"", "LTO = \"thin\"");
    let built = env.build(&[]);
    built.assert_ran(&["a (linux/arm64)"]).assert_miss("a (linux/arm64)", "variable `LTO` changed");
    // Only one platform was asked for.
    env.edit_manifest("LTO = \"yes\"", "LTO = \"full\"");
    let built = env.build(&["--platform", "linux/amd64"]);
    built.assert_ran(&["a (linux/amd64)"]);
    assert_eq!(built.outcomes().len(), 2, "{built}");
}

fn variants_are_keyed_by_what_they_change(env: &mut TestEnv) {
    env.manifest(
        r#"
        [project]
        platforms = ["linux/amd64", "linux/arm64"]
        [steps.a]
        run = "echo ${OPT-none} > ${out}/a"
        outputs = ["a"]
        [steps.b]
        run = "echo b ${OPT-none} > ${out}/a"
        outputs = ["a"]
        [variant.dev]
        platforms = ["linux/amd64"]
        steps.a.env = { OPT = "-O0" }
        "#,
    );
    assert_eq!(env.build(&[]).ran().len(), 4);
    let built = env.build(&["--variant", "dev"]);
    built.assert_ran(&["a (linux/amd64)"]).assert_miss("a (linux/amd64)", "variable `OPT` is new");
    assert_eq!(built.up_to_date().len(), 1, "{built}");
    assert_eq!(env.read_text(".spolia/out/a/linux/amd64/a"), "-O0\n");
    // Back, and forth: both are known.
    let built = env.build(&[]);
    assert_eq!((built.ran().len(), built.restored().len()), (0, 1), "{built}");
    assert_eq!(env.read_text(".spolia/out/a/linux/amd64/a"), "none\n");
    env.build(&["--variant", "dev"]).assert_ran(&[]);
    env.build_fails(2, &["--variant", "prod"]);
}

fn included_files_are_part_of_it(env: &mut TestEnv) {
    env.manifest("include = [\"tools/spolia.toml\"]\n[steps.a]\nneeds = [\"t\"]\nplatforms = \"any\"\nrun = \"cp ${step.t}/t ${out}/a\"\noutputs = [\"a\"]\n");
    let included = |flag: &str| {
        format!(
            "[steps.t]\nplatforms = \"any\"\nrun = \"cat in.txt > ${{out}}/t; echo {flag} >> ${{out}}/t\"\n\
             inputs = [\"in.txt\"]\noutputs = [\"t\"]\n"
        )
    };
    env.write("tools/spolia.toml", included("-O1"));
    env.write("tools/in.txt", "in\n");
    env.build(&[]).assert_ran(&["a", "t"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "in\n-O1\n");
    env.write("tools/spolia.toml", included("-O2"));
    env.build(&[]).assert_ran(&["a", "t"]);
    env.write("tools/in.txt", "out\n");
    let built = env.build(&[]);
    built.assert_ran(&["a", "t"]).assert_miss("t", "input `tools/in.txt` changed");
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "out\n-O2\n");
}

fn an_older_state_is_a_hit(env: &mut TestEnv) {
    three_floors(env);
    env.build(&[]).assert_ran(ALL);
    let before = app(env, AMD);
    env.write("src/list.txt", "z\n");
    env.build(&[]).assert_ran(ALL);
    assert_ne!(app(env, AMD), before);
    env.write("src/list.txt", "b\na\n");
    let built = env.build(&[]);
    assert_eq!((built.ran().len(), built.restored().len()), (0, 5), "{built}");
    assert_eq!(app(env, AMD), before);
    assert!(built.summary().saved_us.is_some(), "{built}");
    env.build(&[]).assert_up_to_date();
}

fn lost_outputs_come_back(env: &mut TestEnv) {
    three_floors(env);
    env.build(&[]).assert_ran(ALL);
    let before = app(env, AMD);
    env.remove(".spolia/out/app");
    let built = env.build(&[]);
    assert_eq!((built.ran().len(), built.restored().len()), (0, 2), "{built}");
    assert_eq!(app(env, AMD), before);
    // All of Spolia's memory of the tree.
    env.remove(".spolia");
    let built = env.build(&[]);
    assert_eq!((built.ran().len(), built.restored().len()), (0, 5), "{built}");
    assert_eq!(app(env, AMD), before);
    // All of the store: what is in place is known to be right.
    std::fs::remove_dir_all(env.store()).unwrap();
    env.build(&[]).assert_ran(&[]);
    // And nothing at all.
    std::fs::remove_dir_all(env.store()).unwrap();
    env.remove(".spolia");
    env.build(&[]).assert_ran(ALL);
    assert_eq!(app(env, AMD), before);
    // Gone outputs with the store gone too: the step runs, for a reason.
    std::fs::remove_dir_all(env.store()).unwrap();
    env.remove(".spolia/out/lib");
    let built = env.build(&[]);
    assert_eq!(built.failed().len() + built.skipped().len(), 0, "{built}");
    assert!(matches!(built.miss(LIBS[0]), MissReason::OutputGone { .. }), "{built}");
    assert_eq!(app(env, AMD), before);
}

/// Two tools of a pinned source each, and a program of both.
fn two_tools(env: &TestEnv, one: (&str, &str), two: (&str, &str)) {
    let digest = |content: &str| spolia_core::Digest::sha256(format!("{content}\n").as_bytes()).to_hex();
    let tool = |name: &str, (content, flag): (&str, &str)| {
        format!(
            r#"
            [steps.{name}-src]
            platforms = "any"
            source = {{ name = "{name}", version = "{content}", sha256 = "{}" }}
            run = "echo {content} > ${{out}}/{name}.tar"
            outputs = ["{name}.tar"]
            [steps.{name}]
            needs = ["{name}-src"]
            run = "cut -c1-3 ${{step.{name}-src}}/{name}.tar > ${{out}}/{name}; : {flag}; echo ${{platform}} >> ${{out}}/{name}"
            outputs = ["{name}"]
            "#,
            digest(content)
        )
    };
    let app = r#"
        [steps.app]
        needs = ["one", "two"]
        run = "cat ${step.one}/one ${step.two}/two > ${out}/app"
        outputs = ["app"]
        "#;
    let project = "[project]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    env.manifest(&[project, &tool("one", one), &tool("two", two), app].concat());
}

fn bumping_one_tool_runs_its_steps(env: &mut TestEnv) {
    two_tools(env, ("1.0", "-g"), ("2.0", "-g"));
    assert_eq!(env.build(&[]).ran().len(), 8);
    // A new source: its fetch, its steps, and what is made of them.
    two_tools(env, ("1.1", "-g"), ("2.0", "-g"));
    let built = env.build(&[]);
    built.assert_ran(&[
        "one-src",
        "one (linux/amd64)",
        "one (linux/arm64)",
        "app (linux/amd64)",
        "app (linux/arm64)",
    ]);
    assert_eq!(built.changes("one (linux/arm64)"), ["needs.one-src one.tar"]);
    assert_eq!(built.changes("app (linux/arm64)"), ["needs.one one"]);
    assert!(built.changes("one-src").contains(&"source".to_owned()), "{:?}", built.changes("one-src"));
    // A flag that changes no byte: its steps and nothing after them. `why` names the field before and after.
    two_tools(env, ("1.1", "-g"), ("2.0", "-g0"));
    let planned = why(env, "two");
    assert_eq!(planned["plan"], "run", "{planned:#}");
    assert_eq!(field_names(&planned["changes"]), ["run 2"], "{planned:#}");
    assert_eq!(why(env, "one")["plan"], "fresh", "{:#}", why(env, "one"));
    let built = env.build(&[]);
    let ran = why(env, "two");
    assert_eq!(field_names(&ran["last"]["ran_because_changes"]), ["run 2"], "{ran:#}");
    built.assert_ran(&["two (linux/amd64)", "two (linux/arm64)"]);
    assert_eq!(built.changes("two (linux/amd64)"), ["run 2"]);
    assert_eq!(built.up_to_date().len(), 6, "{built}");
    // A source with other bytes of which the tool makes the same: the wave stops at the tool.
    two_tools(env, ("1.1", "-g"), ("2.0.1", "-g0"));
    env.build(&[]).assert_ran(&["two-src", "two (linux/amd64)", "two (linux/arm64)"]);
    // All the way back: nothing runs.
    two_tools(env, ("1.0", "-g"), ("2.0", "-g"));
    env.build(&[]).assert_ran(&[]);
}

fn why(env: &TestEnv, step: &str) -> serde_json::Value {
    let args = ["--json", "why", step, "--platform", AMD, "--engine", env.engine.name()];
    let output = env.command(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn field_names(changes: &serde_json::Value) -> Vec<String> {
    let fields = changes.as_array().into_iter().flatten();
    let name = |change: &serde_json::Value| format!("{} {}", text(&change["group"]), text(&change["name"]));
    fields.map(name).collect()
}

fn no_cache_and_no_store(env: &mut TestEnv) {
    three_floors(env);
    let built = env.build(&["--no-store"]);
    built.assert_ran(ALL);
    assert_eq!(built.not_stored("gen").as_deref(), Some("asked for with --no-store"));
    assert_eq!(built.summary().stored_bytes, 0, "{built}");
    assert!(TestEnv::files_below(&env.store().join("v1/result")).is_empty());
    assert!(TestEnv::files_below(&env.store().join("v1/blob")).is_empty());
    // Nothing was kept, so it runs again, and says that this is why.
    let built = env.build(&[]);
    built.assert_ran(ALL).assert_miss("gen", "the result of its last run here was not stored");
    env.build(&[]).assert_up_to_date();

    let built = env.build(&["--no-cache"]);
    built.assert_ran(ALL).assert_miss("gen", "asked for with --no-cache");
    let built = env.build(&["--no-cache=lib"]);
    built.assert_ran(LIBS).assert_miss(LIBS[0], "asked for with --no-cache");
    assert_eq!(built.up_to_date().len(), 3, "{built}");
    let built = env.build_fails(2, &["--no-cache=libb"]);
    assert!(built.others[0]["message"].as_str().unwrap().contains("`libb`"), "{built}");
    env.build(&[]).assert_up_to_date();
}

fn a_check_is_remembered(env: &mut TestEnv) {
    env.write("a.c", "fine\n");
    env.manifest(
        r#"
        [steps.lint]
        platforms = "any"
        run = "echo looked; grep -q fine a.c"
        inputs = ["*.c"]
        outputs = []
        [steps.after]
        needs = ["lint"]
        platforms = "any"
        run = "ls ${step.lint} > ${out}/a"
        outputs = [{ path = "a", allow-empty = true }]
        "#,
    );
    let built = env.build(&[]);
    built.assert_ran(&["after", "lint"]);
    assert_eq!(built.output("lint"), "looked\n");
    env.build(&[]).assert_up_to_date();
    // What it printed is shown again where that is asked for.
    assert_eq!(env.build(&["--verbose"]).output("lint"), "looked\n");
    env.write("a.c", "bad\n");
    let built = env.build_fails(1, &[]);
    assert_eq!(built.error("lint"), "it ended with exit code 1");
    assert_eq!(built.skipped().len(), 1, "{built}");
    // A failed one is not remembered.
    assert_eq!(env.build_fails(1, &[]).failed().len(), 1);
    env.write("a.c", "fine again\n");
    env.build(&[]).assert_ran(&["lint"]);
}

fn only_what_was_asked_for_runs(env: &mut TestEnv) {
    three_floors(env);
    let built = env.build(&["lib", "--platform", ARM]);
    built.assert_ran(&["gen", "lib (linux/arm64)"]);
    assert_eq!(built.outcomes().len(), 2, "{built}");
    let built = env.build_fails(2, &["lip"]);
    assert_eq!(built.others[0]["hints"][0], "a step named `lib` exists", "{built}");
    env.build_fails(2, &["--platform", "linux/riscv64"]);
}

fn lists_run_without_a_shell(env: &mut TestEnv) {
    env.write("a file; rm -rf $HOME", "odd\n");
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = ["cp", "a file; rm -rf $HOME", "${out}/$x *"]
        inputs = ["a file; rm -rf $HOME"]
        outputs = ["$x *"]
        [steps.b]
        needs = ["a"]
        platforms = "any"
        run = ["cp", "${step.a}/$x *", "${out}/b"]
        outputs = ["b"]
        "#,
    );
    env.build(&[]).assert_ran(&["a", "b"]);
    assert_eq!(env.read_text(".spolia/out/b/any/b"), "odd\n");
}
