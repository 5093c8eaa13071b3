//! A crash at every step of a build that changes the disk: whatever is published is whole, and the next build is right.
//!
//! What a build does is taken from a trace of it; then it is started again once for each of its system calls that change
//! the disk, and killed as that call begins. So no step of publishing can be left out, be it of the store, of outputs or
//! of the folders that steps run in. A failure names its seed and call.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use spolia_core::Digest;
use spolia_testing::{Engine, Random, TestEnv};

/// Of so many calls one is tried, by the seed; all of them where the tests that are ignored are run.
const ONE_IN: u64 = 12;

#[test]
fn at_some_steps_of_a_build_on_the_host() {
    for (case, prepare) in CASES.into_iter().enumerate() {
        crash(&crate::env(Engine::Host), 1 + case as u64, ONE_IN, prepare);
    }
}

#[test]
fn at_some_steps_of_a_build_in_the_sandbox() {
    for (case, prepare) in CASES.into_iter().enumerate() {
        crash(&crate::env(Engine::Sandbox), 11 + case as u64, ONE_IN, prepare);
    }
}

#[test]
#[ignore = "minutes"]
fn at_every_step_of_a_build() {
    for engine in [Engine::Host, Engine::Sandbox] {
        for (case, prepare) in CASES.into_iter().enumerate() {
            crash(&crate::env(engine), 21 + case as u64, 1, prepare);
        }
    }
}

/// Makes what a build begins with, by a seed.
type Prepare = fn(&TestEnv, u64);

const CASES: [Prepare; 3] = [a_first_build, a_changed_one, a_restore];

/// System calls that change the disk whatever they are given.
const CHANGES: [&str; 22] = [
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "truncate",
    "ftruncate",
    "pwrite64",
    "copy_file_range",
    "ioctl",
    "write",
];

/// What stands at a path: a folder, a link and where it leads, or a file, whether it can be run, and its content.
type State = BTreeMap<String, String>;

fn a_first_build(env: &TestEnv, seed: u64) {
    write(env, seed, 'a');
}

/// Another tree is to be published where one is: some files are the same, some change, some go.
fn a_changed_one(env: &TestEnv, seed: u64) {
    write(env, seed, 'a');
    env.build(&["--jobs", "1"]);
    write(env, seed, 'b');
}

/// All comes out of the store: a folder that is gone, and some of the files of another.
fn a_restore(env: &TestEnv, seed: u64) {
    write(env, seed, 'a');
    env.build(&["--jobs", "1"]);
    env.remove(".spolia/out/tree");
    env.write("dist/one", "damaged");
    env.remove("dist/below");
}

/// A project whose steps publish a tree of their own, files among others, and nothing.
fn write(env: &TestEnv, seed: u64, version: char) {
    let mut random = Random::new(seed);
    let mut script = String::from("cd $1\n");
    for number in 0..2 + random.below(4) {
        let folder = ["d", "d/e", "d/f/g"][random.below(3) as usize];
        // The other version has some files that this one has not, and others with other content.
        let content = if random.one_in(2) { 'a' } else { version };
        let name = if random.one_in(3) { format!("{number}{version}") } else { number.to_string() };
        let path = format!("{folder}/{name}");
        script.push_str(&format!("mkdir -p {folder}\n"));
        script.push_str(&match random.below(5) {
            0 => format!("ln -s ./{content} {path}\n"),
            1 => format!("echo {content} > {path}; chmod +x {path}\n"),
            2 => format!("mkdir {path}\n"),
            _ => format!("for n in 1 2 3 4 5 6 7 8; do seq 300; done > {path}; echo {content} >> {path}\n"),
        });
    }
    env.write("tree.sh", script);
    env.write("in.txt", format!("{version}\n"));
    let second = if version == 'a' { "below/two" } else { "three" };
    env.manifest(&format!(
        r#"
        [project]
        [steps.tree]
        platforms = "any"
        run = ["sh", "tree.sh", "${{out}}"]
        inputs = ["tree.sh"]
        outputs = [{{ path = "d", allow-empty = true }}]
        [steps.files]
        platforms = "any"
        needs = ["tree"]
        run = "mkdir ${{out}}/below; cp in.txt ${{out}}/one; cp in.txt ${{out}}/{second}; echo said"
        inputs = ["in.txt"]
        outputs = ["one", "{second}"]
        to = "dist"
        [steps.check]
        platforms = "any"
        run = "grep -q . in.txt"
        inputs = ["in.txt"]
        outputs = []
        "#
    ));
    env.write("dist/from elsewhere", "left alone");
}

fn crash(env: &TestEnv, seed: u64, one_in: u64, prepare: Prepare) {
    let start = |env: &TestEnv| {
        for path in [env.root(), env.store()] {
            let _not_there = std::fs::remove_dir_all(&path);
        }
        std::fs::create_dir(env.root()).unwrap();
        prepare(env, seed);
    };
    start(env);
    let before = published(env);
    let trace = env.folder().join("trace");
    assert!(traced(env, &["-o", trace.to_str().unwrap()]).status().expect("strace is installed").success());
    let calls = changes(&String::from_utf8_lossy(&std::fs::read(&trace).unwrap()));
    let after = published(env);
    assert_ne!(before, after);
    assert!(calls.len() > 20, "{calls:?} cannot be all that changes the disk");
    let mut random = Random::new(seed);
    let (mut crashes, mut tried) = (0, 0);
    for (name, number) in calls.iter().filter(|_| random.one_in(one_in)) {
        let case = format!("seed {seed}, killed as `{name}` number {number} began");
        tried += 1;
        start(env);
        let inject = format!("inject={name}:error=EIO:signal=KILL:when={number}");
        let status =
            traced(env, &["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject]).status();
        // Where it went another way than the first time, there was no such call.
        crashes += usize::from(!status.unwrap().success());
        check_whole(&published(env), &before, &after, &case);
        env.build(&["--jobs", "1"]);
        let healed = published(env);
        let wrong = differences(&healed, &after);
        assert!(wrong.is_empty(), "{case}: {wrong:?}");
        let verified = env.command(["cache", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{case}: {}", String::from_utf8_lossy(&verified.stdout));
        env.build(&["--jobs", "1"]).assert_up_to_date();
        let left: Vec<_> =
            env.left_overs().into_iter().filter(|path| !path.starts_with(env.store())).collect();
        assert!(left.is_empty(), "{case}: {left:?}");
    }
    assert!(crashes > 0 && crashes + 3 >= tried, "only {crashes} of {tried} calls were met");
}

/// The build under strace, which follows nobody that it starts.
#[expect(clippy::disallowed_methods, reason = "a test plays the user")]
fn traced(env: &TestEnv, strace: &[&str]) -> Command {
    let build = env.build_command(["--jobs", "1"]);
    let mut command = Command::new("strace");
    command.args(strace).arg(build.get_program()).args(build.get_args());
    command.env_clear().envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(env.root());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The calls in `trace` that change the disk: their names, and how many of that name there were with them.
fn changes(trace: &str) -> Vec<(String, usize)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut changes = Vec::new();
    for line in trace.lines() {
        let Some((name, arguments)) = line.split_once('(') else { continue };
        let number = seen.entry(name).or_default();
        *number += 1;
        let made =
            name.starts_with("open") && (arguments.contains("O_CREAT") || arguments.contains("O_TMPFILE"));
        let said = name == "write" && ["1,", "2,"].iter().any(|output| arguments.starts_with(output));
        let asked = name == "ioctl" && !arguments.contains("FICLONE") && !arguments.contains("SETFLAGS");
        // A token for a job.
        let token = arguments.contains("\"+\", 1)");
        if made || (CHANGES.contains(&name) && !said && !asked && !token) {
            changes.push((name.to_owned(), *number));
        }
    }
    changes
}

/// Everything that is published.
fn published(env: &TestEnv) -> State {
    let mut state = State::new();
    for place in [".spolia/out", "dist"] {
        note(&env.path(place), place, &mut state);
    }
    state
}

fn note(path: &Path, name: &str, state: &mut State) {
    let Ok(found) = path.symlink_metadata() else { return };
    let what = if found.is_symlink() {
        format!("link to {}", path.read_link().unwrap().display())
    } else if found.is_dir() {
        for entry in path.read_dir().unwrap() {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            // Put together beside its place, and left by who was killed.
            if !entry.starts_with(".spolia-stage-") {
                note(&path.join(&entry), &format!("{name}/{entry}"), state);
            }
        }
        "folder".to_owned()
    } else {
        let run = if found.permissions().mode() & 0o100 == 0 { "" } else { "program " };
        let content = std::fs::read(path).unwrap();
        format!("{run}{} bytes {}", content.len(), Digest::blake3(&content))
    };
    state.insert(name.to_owned(), what);
}

/// What is, and what should be, where that is not the same.
fn differences<'s>(
    found: &'s State,
    right: &'s State,
) -> Vec<(&'s str, Option<&'s String>, Option<&'s String>)> {
    let paths: BTreeSet<&String> = found.keys().chain(right.keys()).collect();
    let pairs = paths.into_iter().map(|path| (path.as_str(), found.get(path), right.get(path)));
    pairs.filter(|(_, found, right)| found != right).collect()
}

/// A folder that is a step's own is as it was before or as it will be, or gone; among others, each file is.
fn check_whole(found: &State, before: &State, after: &State, case: &str) {
    let below = |state: &State, folder: &str| -> State {
        let inside = state.iter().filter(|(path, _)| path.starts_with(folder));
        inside.map(|(path, what)| (path.clone(), what.clone())).collect()
    };
    let own = ".spolia/out/tree/any";
    let there = below(found, own);
    let whole = there.is_empty() || there == below(before, own) || there == below(after, own);
    assert!(whole, "{case}: half a tree: {there:?}");
    for (path, what) in below(found, "dist") {
        let known = [before, after].iter().any(|state| state.get(&path) == Some(&what));
        assert!(known, "{case}: `{path}` is {what:?}");
    }
}
