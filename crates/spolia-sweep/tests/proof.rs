//! What holds after a sweep, proven by Cargo itself on small workspaces: the live commands compile nothing, and
//! nothing is left that a fresh tree would not have.
//!
//! The test binary is its own stand-in for the compiler ([`spolia_sweep::skeleton`]), so it has a `main` of its
//! own. Dependencies come from a folder that the test writes: no network.

#![expect(clippy::print_stdout, reason = "a test harness prints")]
#![expect(clippy::disallowed_methods, reason = "the edge: tests look at the clock and start programs")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use spolia_engine::Cancel;
use spolia_sweep::apply::{self, Applied, Guide};
use spolia_sweep::cargo::Asker;
use spolia_sweep::survey::{self, Request, Survey};
use spolia_sweep::{CargoCommand, Policy, SweepPlan, Why, fingerprint, plan, skeleton};

const TESTS: &[(&str, fn())] = &[
    ("an_older_lock_file_goes_and_nothing_live", an_older_lock_file_goes_and_nothing_live),
    ("moved_restored_and_copied_trees", moved_restored_and_copied_trees),
    ("what_was_built_otherwise_is_detected", what_was_built_otherwise_is_detected),
    ("declared_commands_are_all_that_counts", declared_commands_are_all_that_counts),
    ("two_directories_and_one_that_is_shared", two_directories_and_one_that_is_shared),
    ("a_dependency_outside", a_dependency_outside),
    ("a_dependency_that_its_workspace_does_not_list", a_dependency_that_its_workspace_does_not_list),
    ("the_new_layout", the_new_layout),
    ("a_build_for_a_triple", a_build_for_a_triple),
    ("a_lock_file_that_must_change_stops_it", a_lock_file_that_must_change_stops_it),
    ("a_running_build_is_left_alone", a_running_build_is_left_alone),
    ("a_second_sweep_starts_no_process", a_second_sweep_starts_no_process),
    ("what_was_not_looked_at_is_in_no_sum", what_was_not_looked_at_is_in_no_sum),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if skeleton::is_asked_for(args.next().as_deref()) {
        return ExitCode::from(skeleton::main(std::env::args_os()));
    }
    let words: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let wanted = |name: &str| {
        let names: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|word| name.contains(word.as_str()))
    };
    if words.iter().any(|word| word == "--list") {
        if !words.iter().any(|word| word == "--ignored") {
            TESTS.iter().filter(|(name, _)| wanted(name)).for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        test();
        println!("{name} ... ok");
    }
    ExitCode::SUCCESS
}

/// A workspace of two packages over two versions of a dependency.
struct Stand {
    temp: tempfile::TempDir,
    env: Vec<(String, OsString)>,
}

const APP: &str = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                   [features]\nextra = []\nwide = [\"extra\"]\n\
                   [dependencies]\nutil = { path = \"../util\" }\ntiny = \"1\"\n";

impl Stand {
    fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("spolia-proof-").tempdir().unwrap();
        let stand = Self { env: surroundings(), temp };
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let folder = format!("vendor/tiny-{version}");
            stand.write(
                &format!("{folder}/Cargo.toml"),
                &format!("[package]\nname = \"tiny\"\nversion = \"{version}\"\nedition = \"2021\"\nbuild = \"build.rs\"\n"),
            );
            stand.write(&format!("{folder}/.cargo-checksum.json"), "{\"files\":{}}");
            stand.write(
                &format!("{folder}/build.rs"),
                "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }",
            );
            stand.write(&format!("{folder}/src/lib.rs"), &format!("pub const V: &str = \"{version}\";"));
        }
        stand.write(
            ".cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"vendor\"\n[source.vendor]\ndirectory = \"vendor\"\n",
        );
        stand.write("ws/Cargo.toml", "[workspace]\nmembers = [\"app\", \"util\"]\nresolver = \"2\"\n");
        stand.write("ws/app/Cargo.toml", APP);
        stand.write("ws/app/src/main.rs", "fn main() { println!(\"{}{}\", util::two(), tiny::V); }");
        stand.write("ws/app/src/bin/other.rs", "fn main() {}");
        stand.write("ws/app/examples/shown.rs", "fn main() {}");
        stand.write("ws/app/tests/it.rs", "#[test] fn it() {}");
        stand.write(
            "ws/util/Cargo.toml",
            "[package]\nname = \"util\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        );
        stand.write("ws/util/src/lib.rs", "pub fn two() -> u32 { 2 }");
        stand.lock("1.1.0");
        stand
    }

    fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes the lock file hold a version of `tiny`.
    fn lock(&self, version: &str) {
        if !self.path("ws/Cargo.lock").exists() {
            self.cargo("ws", "cargo generate-lockfile --offline", &[]);
        }
        // `cargo update --precise` does nothing where crates come from a folder.
        let text = fs::read_to_string(self.path("ws/Cargo.lock")).unwrap();
        let (before, after) = text.split_once("name = \"tiny\"\nversion = \"").unwrap();
        let (_, after) = after.split_once('"').unwrap();
        self.write("ws/Cargo.lock", &format!("{before}name = \"tiny\"\nversion = \"{version}\"{after}"));
    }

    /// Runs Cargo; what it says of units.
    fn cargo(&self, folder: &str, line: &str, env: &[(&str, &str)]) -> String {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(self.path(folder)).env_clear();
        command.envs(self.env.iter().map(|(name, value)| (name, value))).envs(env.iter().copied());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        said
    }

    /// Units that each of the commands compiles now.
    fn compiled(&self, folder: &str, commands: &[&str], env: &[(&str, &str)]) -> usize {
        let is_unit = |line: &&str| {
            let verb = line.trim_start().split(' ').next().unwrap_or_default();
            matches!(verb, "Compiling" | "Checking" | "Documenting" | "Dirty")
        };
        let count = |line: &&str| self.cargo(folder, line, env).lines().filter(is_unit).count();
        commands.iter().map(count).sum()
    }

    fn build(&self, commands: &[&str], env: &[(&str, &str)]) {
        for command in commands {
            self.cargo("ws", command, env);
        }
    }

    fn survey(&self, request: Request) -> (Survey, Vec<(PathBuf, SweepPlan)>) {
        self.survey_with(request, &Policy::default())
    }

    fn survey_with(&self, request: Request, policy: &Policy) -> (Survey, Vec<(PathBuf, SweepPlan)>) {
        let (survey, _) = self.ask(Request { details: true, threads: 2, ..request });
        let plans = survey.targets.iter().filter_map(|one| {
            let plan = plan::plan(one.scan.as_ref().ok()?, &one.live, policy, now_us());
            Some((one.target.clone(), plan))
        });
        let plans = plans.collect();
        (survey, plans)
    }

    /// What is there, and how many processes were started to know it.
    fn ask(&self, request: Request) -> (Survey, u64) {
        let env: Vec<(OsString, OsString)> =
            self.env.iter().map(|(name, value)| (name.into(), value.clone())).collect();
        let (program, cancel) = (std::env::current_exe().unwrap(), Cancel::new().unwrap());
        let scratch = self.path("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let asker = Asker::new(&env, &program, &scratch, Some(self.path("memo")), &cancel);
        let request = Request { threads: request.threads.max(1), ..request };
        let survey = survey::survey(&request, &asker, &|_| true).unwrap();
        (survey, asker.spent().processes)
    }

    /// Sweeps `folder`, as it was asked; what was planned and done.
    fn sweep(&self, folder: &str, declared: &[&str]) -> (Vec<SweepPlan>, Vec<Applied>) {
        let declared = declared.iter().map(|text| CargoCommand::parse(text).unwrap()).collect();
        let request = Request { paths: vec![self.path(folder)], declared, ..Request::default() };
        let (survey, plans) = self.survey(request);
        for surveyed in &survey.targets {
            assert!(surveyed.scan.is_ok(), "{:?}", surveyed.scan);
            assert_eq!(surveyed.unknown.len(), 0, "{:?}", surveyed.unknown);
        }
        assert!(!plans.is_empty(), "{:?}", survey.problems);
        let applied = plans.iter().map(|(target, plan)| carry_out(target, plan)).collect();
        (plans.into_iter().map(|(_, plan)| plan).collect(), applied)
    }

    /// What a fresh tree would have: the same commands in another target directory.
    fn fresh(&self, commands: &[&str], env: &[(&str, &str)]) -> BTreeSet<PathBuf> {
        let fresh = self.path("fresh");
        let _absent = fs::remove_dir_all(&fresh);
        let mut env = env.to_vec();
        let target = fresh.display().to_string();
        env.push(("CARGO_TARGET_DIR", &target));
        self.build(commands, &env);
        files(&fresh)
    }
}

/// The names of the files of a target directory, without those that only say how a compiler went on.
fn files(target: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut open = vec![target.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(target).unwrap().to_owned();
            // Sessions in an incremental folder have names of their own each time.
            let session =
                below.parent().is_some_and(|folder| folder.file_name().is_some_and(|x| x == "incremental"));
            if session || !path.is_dir() {
                all.insert(below);
            } else {
                open.push(path);
            }
        }
    }
    all
}

fn carry_out(target: &Path, plan: &SweepPlan) -> Applied {
    let mut guide = Guide { wait: &mut |_| false, still_true: &mut || true, go_on: &mut |_| true };
    let applied = apply::apply(target, plan, &mut guide, None).unwrap();
    assert_eq!(applied.left, [], "{applied:?}");
    applied
}

fn now_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// What Cargo and rustup need of this process's own surroundings.
fn surroundings() -> Vec<(String, OsString)> {
    let names = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "TMPDIR"];
    names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect()
}

const LIVE: &[&str] = &["cargo build", "cargo build --release", "cargo test --no-run", "cargo check"];

fn an_older_lock_file_goes_and_nothing_live() {
    let stand = Stand::new();
    // A library whose file has no hash in its name.
    let util = fs::read_to_string(stand.path("ws/util/Cargo.toml")).unwrap();
    stand.write("ws/util/Cargo.toml", &format!("{util}[lib]\ncrate-type = [\"rlib\", \"cdylib\"]\n"));
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.lock("1.1.0");
    stand.build(LIVE, &[("RUSTFLAGS", "-C debuginfo=1")]);
    stand.lock("1.2.0");
    stand.build(LIVE, &[]);
    let before = files(&stand.path("ws/target"));
    let fresh = stand.fresh(LIVE, &[]);
    let stale: BTreeSet<_> = before.difference(&fresh).collect();
    assert!(stale.len() > 50, "{stale:?}");
    let (plans, applied) = stand.sweep("ws", &[]);
    let of_entries: u64 = plans[0].entries.iter().map(|entry| entry.bytes).sum();
    assert_eq!((plans[0].bytes, applied[0].bytes), (of_entries, of_entries), "{applied:?}");
    assert!(of_entries > 0);
    let after = files(&stand.path("ws/target"));
    let left: Vec<_> = after.difference(&fresh).collect();
    assert!(left.is_empty(), "stale files are left: {left:?}");
    let lost: Vec<_> = fresh.intersection(&before).filter(|path| !after.contains(*path)).collect();
    assert!(lost.is_empty(), "live files are gone: {lost:?}");
    assert_eq!(stand.compiled("ws", LIVE, &[]), 0);
    let whys: BTreeSet<&Why> = plans[0].entries.iter().filter_map(|entry| entry.why.as_ref()).collect();
    assert!(whys.iter().any(|why| matches!(why, Why::Superseded { .. })), "{whys:?}");
    assert!(whys.iter().any(|why| matches!(why, Why::FlagsNotDeclared { .. })), "{whys:?}");
    // A second sweep finds nothing.
    assert_eq!(stand.sweep("ws", &[]).0[0].entries, []);
}

fn moved_restored_and_copied_trees() {
    let stand = Stand::new();
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.lock("1.1.0");
    stand.build(LIVE, &[]);
    fs::rename(stand.path("ws"), stand.path("moved")).unwrap();
    let tar = |line: &str| {
        let status = Command::new("tar").args(line.split(' ')).current_dir(stand.temp.path()).status();
        assert!(status.unwrap().success(), "tar {line}");
    };
    tar("--format=posix -cf tree.tar moved");
    fs::remove_dir_all(stand.path("moved")).unwrap();
    tar("-xf tree.tar");
    assert_eq!(stand.compiled("moved", LIVE, &[]), 0, "cargo itself takes the restored tree as it is");
    let (plans, _) = stand.sweep("moved", &[]);
    assert!(plans[0].stale_units >= 6, "{:?}", plans[0]);
    assert_eq!(stand.compiled("moved", LIVE, &[]), 0);
    assert_eq!(stand.sweep("moved", &[]).0[0].entries, []);
}

fn what_was_built_otherwise_is_detected() {
    let stand = Stand::new();
    let odd: &[(&str, &[(&str, &str)])] = &[
        ("cargo build -p util", &[]),
        ("cargo build -p app --features extra", &[]),
        ("cargo test --no-run -p app --features wide", &[]),
        ("cargo check --all-features", &[]),
        ("cargo clippy --all-targets", &[]),
        ("cargo doc", &[]),
        ("cargo build", &[("RUSTFLAGS", "-C debuginfo=1")]),
        ("cargo bench --no-run", &[]),
    ];
    stand.write(
        "ws/Cargo.toml",
        "[workspace]\nmembers = [\"app\", \"util\"]\nresolver = \"2\"\n[profile.small]\ninherits = \"release\"\n",
    );
    stand.build(&["cargo build --profile small"], &[]);
    for (command, env) in odd {
        stand.build(&[command], env);
    }
    let (plans, _) = stand.sweep("ws", &[]);
    assert_eq!(plans[0].entries, [], "everything was built with the lock file as it is");
    assert_eq!(stand.compiled("ws", &["cargo build --profile small"], &[]), 0);
    for (command, env) in odd {
        assert_eq!(stand.compiled("ws", &[command], env), 0, "{command}");
    }
    // A program of a package that is gone goes with it; what lies there without Cargo's list of its sources stays.
    fs::write(stand.path("ws/target/small/mine"), "the user's own").unwrap();
    assert!(stand.path("ws/target/small/app").exists());
    // What nobody builds any more is none.
    stand.write("ws/Cargo.toml", "[workspace]\nmembers = [\"app\", \"util\"]\nresolver = \"2\"\n");
    let (plans, _) = stand.sweep("ws", &[]);
    assert!(plans[0].entries.iter().all(|entry| &*entry.profile == "small"), "{:?}", plans[0].entries);
    assert!(plans[0].entries.iter().any(|entry| entry.why == Some(Why::ProfileNotDeclared)));
    assert!(!stand.path("ws/target/small/app").exists() && stand.path("ws/target/small/mine").exists());
    assert_eq!(stand.compiled("ws", &["cargo build -p util"], &[]), 0);
}

fn a_second_sweep_starts_no_process() {
    let mut stand = Stand::new();
    // A script of this name would be asked each time.
    let is_program = |path: PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
    let (_, search) = stand.env.iter_mut().find(|(name, _)| name == "PATH").unwrap();
    let folders: Vec<PathBuf> = std::env::split_paths(search).collect();
    let is_plain = |folder: &&PathBuf| !folder.join("cargo").exists() || is_program(folder.join("cargo"));
    *search = std::env::join_paths(folders.iter().filter(is_plain)).unwrap();
    stand.write("ws/Cargo.toml", "[workspace]\nmembers = [\"app\", \"u*\"]\nresolver = \"2\"\n");
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.lock("1.1.0");
    stand.build(LIVE, &[]);
    let ask = || stand.ask(Request { paths: vec![stand.path("ws")], threads: 2, ..Request::default() });
    let plan = |survey: &Survey| {
        let one = &survey.targets[0];
        let plan = plan::plan(one.scan.as_ref().unwrap(), &one.live, &Policy::default(), now_us());
        assert!(plan.stale_units > 0);
        plan.entries.iter().flat_map(|entry| plan.parts(entry)).map(|part| part.path).collect::<BTreeSet<_>>()
    };
    let (first, processes) = ask();
    assert!(processes > 0);
    let (second, processes) = ask();
    assert_eq!((processes, plan(&second)), (0, plan(&first)), "everything is remembered");
    // Whatever may change an answer is seen.
    let members = |survey: &Survey| survey.targets[0].workspaces[0].members.len();
    stand.write("ws/.cargo/config.toml", "");
    let (_, processes) = ask();
    assert!(processes > 0, "a new configuration");
    assert_eq!(ask().1, 0);
    assert_eq!(members(&second), 2);
    stand.write(
        "ws/umore/Cargo.toml",
        "[package]\nname = \"umore\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    stand.write("ws/umore/src/lib.rs", "");
    let (third, processes) = ask();
    assert!(processes > 0 && members(&third) == 3, "a new member by the pattern");
    fs::remove_dir_all(stand.path("ws/umore")).unwrap();
    let (last, processes) = ask();
    assert_eq!((processes, members(&last)), (1, 2), "what they need was known before");
    // A lock file of before makes other units live.
    stand.lock("1.0.0");
    let (other, processes) = ask();
    assert!(processes > 0);
    assert!(plan(&other).is_disjoint(&plan(&last)) && !plan(&other).is_empty());
}

/// Without the flags that ask for more, the same goes and the sums say what they are not.
fn what_was_not_looked_at_is_in_no_sum() {
    let stand = Stand::new();
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.lock("1.1.0");
    stand.build(LIVE, &[]);
    let plan = |request: Request| {
        let (survey, _) = stand.ask(Request { paths: vec![stand.path("ws")], ..request });
        let one = survey.targets.into_iter().next().unwrap();
        (plan::plan(&one.scan.unwrap(), &one.live, &Policy::default(), now_us()), one.live)
    };
    let parts = |plan: &SweepPlan| {
        plan.entries.iter().flat_map(|entry| plan.parts(entry)).map(|part| part.path).collect::<BTreeSet<_>>()
    };
    let (all, _) = plan(Request { sizes: true, details: true, threads: 4, ..Request::default() });
    let (threads_1, _) = plan(Request { sizes: true, details: true, threads: 1, ..Request::default() });
    let (mut some, live) = plan(Request { threads: 3, ..Request::default() });
    assert_eq!(parts(&all), parts(&some));
    assert_eq!((all.bytes, all.live_bytes), (threads_1.bytes, threads_1.live_bytes));
    assert!(!all.is_partial && some.is_partial && some.bytes < all.bytes);
    assert_eq!((all.live_units, all.stale_units), (some.live_units, some.stale_units));
    assert_eq!((some.live_bytes, some.unknown_bytes), (None, None));
    assert!(all.live_bytes > Some(0) && all.unknown_bytes.is_some());
    // What is read afterwards of what is shown says the same.
    let target = stand.path("ws/target");
    let root = apply::open_target(&target).unwrap();
    some.explain(usize::MAX, &live, &Policy::default(), &mut |path| fingerprint::read_below(&root, path));
    let mut told = 0;
    for entry in &all.entries {
        let same =
            some.entries.iter().find(|same| (same.hash, &same.profile) == (entry.hash, &entry.profile));
        if let (Some(same), Some(_)) = (same, entry.hash) {
            assert_eq!((&same.why, same.rebuild_us), (&entry.why, entry.rebuild_us));
            assert_eq!((some.targets(same), &same.package), (all.targets(entry), &entry.package));
            told += 1;
        }
    }
    assert!(told > 3);
    assert_eq!(carry_out(&target, &some).bytes, all.bytes, "what went was looked at as it went");
    assert_eq!(stand.compiled("ws", LIVE, &[]), 0);
}

fn declared_commands_are_all_that_counts() {
    let stand = Stand::new();
    stand.build(LIVE, &[]);
    stand.build(&["cargo build --features extra"], &[("RUSTFLAGS", "-C debuginfo=1")]);
    let declared = ["cargo test", "RUSTFLAGS='-C debuginfo=1' cargo build --features extra"];
    stand.sweep("ws", &declared);
    assert_eq!(stand.compiled("ws", &["cargo test --no-run"], &[]), 0);
    let flags = [("RUSTFLAGS", "-C debuginfo=1")];
    assert_eq!(stand.compiled("ws", &["cargo build --features extra"], &flags), 0);
    let left = files(&stand.path("ws/target"));
    assert!(!left.iter().any(|path| path.starts_with("release/deps")), "{left:?}");
}

fn two_directories_and_one_that_is_shared() {
    let stand = Stand::new();
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.build(LIVE, &[("CARGO_TARGET_DIR", "target-two")]);
    let shared = stand.path("shared").display().to_string();
    let shared = [("CARGO_TARGET_DIR", shared.as_str())];
    stand.build(&["cargo build"], &shared);
    stand.write(
        "second/Cargo.toml",
        "[package]\nname = \"second\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    stand.write("second/src/main.rs", "fn main() {}");
    stand.cargo("second", "cargo build", &shared);
    stand.lock("1.1.0");
    stand.build(LIVE, &[]);
    stand.build(LIVE, &[("CARGO_TARGET_DIR", "target-two")]);
    stand.build(&["cargo build"], &shared);
    let (plans, _) = stand.sweep("ws", &[]);
    assert_eq!(plans.len(), 2, "target and target-two");
    assert!(plans.iter().all(|plan| plan.stale_units > 0));
    assert_eq!(stand.compiled("ws", LIVE, &[]), 0);
    assert_eq!(stand.compiled("ws", LIVE, &[("CARGO_TARGET_DIR", "target-two")]), 0);
    // The directory alone says who builds in it.
    let (plans, _) = stand.sweep("shared", &[]);
    assert!(plans[0].stale_units > 0);
    assert_eq!(stand.compiled("ws", &["cargo build"], &shared), 0);
    assert_eq!(stand.compiled("second", &["cargo build"], &shared), 0);
}

fn a_dependency_outside() {
    let stand = Stand::new();
    stand.write(
        "out/far/Cargo.toml",
        "[package]\nname = \"far\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\non = []\n",
    );
    stand.write("out/far/src/lib.rs", "pub fn far() {}");
    stand.write("ws/app/Cargo.toml", &format!("{APP}far = {{ path = \"../../out/far\" }}\n"));
    stand.cargo("ws", "cargo update --offline --workspace", &[]);
    stand.build(LIVE, &[]);
    assert_eq!(stand.sweep("ws", &[]).0[0].entries, []);
    stand.write(
        "ws/app/Cargo.toml",
        &format!("{APP}far = {{ path = \"../../out/far\", features = [\"on\"] }}\n"),
    );
    stand.build(LIVE, &[]);
    let (plans, _) = stand.sweep("ws", &[]);
    assert!(plans[0].entries.iter().any(|entry| entry.package.as_deref() == Some("far")), "{:?}", plans[0]);
    assert_eq!(stand.compiled("ws", LIVE, &[]), 0);
    // A change outside of the workspace is no answer that was remembered.
    stand.write("out/far/Cargo.toml", "[package]\nname = \"far\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\non = [\"more\"]\nmore = []\n");
    stand.build(LIVE, &[]);
    let (plans, _) = stand.sweep("ws", &[]);
    assert!(plans[0].stale_units > 0, "{:?}", plans[0]);
    assert_eq!(stand.compiled("ws", LIVE, &[]), 0);
}

fn a_dependency_that_its_workspace_does_not_list() {
    let stand = Stand::new();
    let package =
        |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    stand.write("out/Cargo.toml", "[workspace]\nmembers = [\"near\"]\nresolver = \"2\"\n");
    for name in ["near", "far", "further"] {
        stand.write(&format!("out/{name}/Cargo.toml"), &package(name));
        stand.write(&format!("out/{name}/src/lib.rs"), "");
    }
    let far = format!("{}[dependencies]\nfurther = {{ path = \"../further\" }}\n", package("far"));
    stand.write("out/far/Cargo.toml", &far);
    stand.write("ws/app/Cargo.toml", &format!("{APP}far = {{ path = \"../../out/far\" }}\n"));
    stand.cargo("ws", "cargo update --offline --workspace", &[]);
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.lock("1.1.0");
    stand.build(LIVE, &[]);
    let (plans, _) = stand.sweep("ws", &[]);
    assert!(plans[0].stale_units >= 6, "{:?}", plans[0]);
    assert_eq!(stand.compiled("ws", LIVE, &[]), 0);
    // What was answered is remembered, until a manifest out there changes.
    let asked_anew = || {
        let request = Request { paths: vec![stand.path("ws")], ..Request::default() };
        let asked = &stand.survey(request).0.targets[0].asked;
        asked.iter().filter(|(_, asked)| !asked.remembered).count()
    };
    assert_eq!(asked_anew(), 0);
    stand.write("out/further/Cargo.toml", &format!("{}[features]\non = []\n", package("further")));
    assert!(asked_anew() > 0);
}

fn the_new_layout() {
    let stand = Stand::new();
    let env = [("RUSTC_BOOTSTRAP", "1"), ("CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT", "true")];
    let live = ["cargo -Zbuild-dir-new-layout build", "cargo -Zbuild-dir-new-layout test --no-run"];
    stand.lock("1.0.0");
    stand.build(&live, &env);
    stand.lock("1.1.0");
    stand.build(&live, &env);
    let fresh = stand.fresh(&live, &env);
    assert!(stand.path("ws/target/debug/build/tiny").is_dir(), "Cargo has this layout");
    let (plans, _) = stand.sweep("ws", &[]);
    assert!(plans[0].stale_units >= 4, "{:?}", plans[0]);
    assert_eq!(stand.compiled("ws", &live, &env), 0);
    let left = files(&stand.path("ws/target"));
    let left: Vec<_> = left.difference(&fresh).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Cargo tags the folder of a triple like a target directory: it was once taken for one, and all in it for stale.
fn a_build_for_a_triple() {
    let about = Command::new("rustc").arg("-vV").output().unwrap();
    let about = String::from_utf8(about.stdout).unwrap();
    let triple = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    let named = format!("cargo build --target {triple}");
    let check = |live: &[&str], config: &str| {
        let stand = Stand::new();
        stand.write("ws/.cargo/config.toml", config);
        stand.lock("1.0.0");
        stand.build(live, &[]);
        stand.lock("1.1.0");
        stand.build(live, &[]);
        assert!(stand.path(&format!("ws/target/{triple}/debug")).is_dir());
        let fresh = stand.fresh(live, &[]);
        let (plans, _) = stand.sweep("ws", &[]);
        assert_eq!(plans.len(), 1, "one target directory");
        let below: BTreeSet<&str> = plans[0].entries.iter().map(|entry| &*entry.profile).collect();
        assert!(below.contains(format!("{triple}/debug").as_str()), "{below:?}");
        assert_eq!(stand.compiled("ws", live, &[]), 0, "{live:?} {config}");
        let left = files(&stand.path("ws/target"));
        let left: Vec<_> = left.difference(&fresh).collect();
        assert!(left.is_empty(), "{left:?}");
    };
    check(&["cargo build", &named], "");
    check(&["cargo build", "cargo test --no-run"], &format!("[build]\ntarget = \"{triple}\"\n"));
}

fn a_lock_file_that_must_change_stops_it() {
    let stand = Stand::new();
    stand.build(&["cargo build"], &[]);
    stand.write("ws/app/Cargo.toml", &APP.replace("tiny = \"1\"", "tiny = \"=1.2.0\""));
    let before = fs::read(stand.path("ws/Cargo.lock")).unwrap();
    let request = Request { paths: vec![stand.path("ws")], ..Request::default() };
    let (survey, plans) = stand.survey(request);
    assert!(plans.is_empty());
    let why = survey.targets[0].scan.as_ref().unwrap_err();
    assert!(why.contains("lock file"), "{why}");
    assert_eq!(fs::read(stand.path("ws/Cargo.lock")).unwrap(), before);
}

fn a_running_build_is_left_alone() {
    let stand = Stand::new();
    stand.lock("1.0.0");
    stand.build(LIVE, &[]);
    stand.lock("1.1.0");
    stand.build(LIVE, &[]);
    let request = Request { paths: vec![stand.path("ws")], ..Request::default() };
    let (_, plans) = stand.survey(request);
    let (target, plan) = &plans[0];
    let held = fs::File::open(stand.path("ws/target/debug/.cargo-lock")).unwrap();
    held.lock().unwrap();
    let before = files(&target.join("debug"));
    let mut asked = 0;
    let mut guide = Guide {
        wait: &mut |profile| {
            assert_eq!(profile, "debug");
            asked += 1;
            asked < 3
        },
        still_true: &mut || true,
        go_on: &mut |_| true,
    };
    let applied = apply::apply(target, plan, &mut guide, None).unwrap();
    assert_eq!(applied.busy, ["debug"]);
    assert_eq!(files(&target.join("debug")), before);
    assert!(applied.bytes > 0, "the other profile was swept");
    drop(held);
    let mut guide = Guide { wait: &mut |_| false, still_true: &mut || false, go_on: &mut |_| true };
    let applied = apply::apply(target, plan, &mut guide, None).unwrap();
    assert!(applied.outdated);
    assert_eq!(files(&target.join("debug")), before);
}
