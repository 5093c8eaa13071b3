//! What a build may cost, one in which nothing changed and one in which everything runs: system calls and page
//! faults, which do not depend on how busy the machine is.

#![allow(clippy::disallowed_methods, reason = "a test reads where it runs")]

use std::process::{Command, Stdio};

use spolia_testing::cost::{page_faults, system_calls};

const STEPS: usize = 200;
/// Each step has three inputs in a folder of its own and one output; two of the folders above have no ignore
/// file, and are looked at too.
const CALLS_PER_STEP: usize = 7;
/// Starting, finding the manifest, opening the store, the journal. Measured: 1560 in all.
const CALLS_ONCE: usize = 260;
/// Of 4 KiB each: the program itself, its heap, what is read. Measured in a debug build: 720. It was 469 before `perf`, `dist`,
/// `sweep` and `cc` were in the program: the loader writes to every page that holds an address.
const PAGE_FAULTS_MAX: u64 = 850;

const COLD_STEPS: usize = 40;
/// The first build, Spolia's own calls. Measured: 126 a step and 380 once.
const COLD_CALLS_PER_STEP: usize = 131;
const COLD_CALLS_ONCE: usize = 500;
/// Of them, files and folders made: one to run in that becomes what is published, blob and result without a name, and
/// until the store has them all two folders for those. Measured: 221 for 40 steps.
const COLD_MADE_PER_STEP: usize = 6;
/// Files and folders removed in the whole build. Where ext4 has no journal each one makes the next ones dear for
/// minutes: half a cold build's CPU went there once.
const COLD_REMOVED_MAX: usize = 10;

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(steps: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = "[project]\nname = \"many\"\n".to_owned();
        for number in 0..steps {
            let package = format!("packages/p{number}");
            let source = folder.path().join("tree").join(&package).join("src");
            std::fs::create_dir_all(&source).unwrap();
            for name in ["a", "b", "c"] {
                std::fs::write(source.join(name), format!("{number} {name}")).unwrap();
            }
            manifest.push_str(&format!(
                "[steps.p{number}]\nplatforms = \"any\"\nrun = [\"cp\", \"{package}/src/a\", \"${{out}}/o\"]\n\
                 inputs = [\"{package}/src/**\"]\noutputs = [\"o\"]\nto = \"{package}/dist\"\n"
            ));
        }
        std::fs::write(folder.path().join("tree/spolia.toml"), manifest).unwrap();
        Self { folder }
    }

    fn build(&self, before: &[&str]) -> Command {
        let spolia =
            std::env::var_os("SPOLIA_TEST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_spolia").into());
        let mut words = before.iter().map(std::ffi::OsString::from).chain([spolia]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["build", "--engine", "host", "--quiet"]);
        command.current_dir(self.folder.path().join("tree")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command.env("SPOLIA_CACHE_DIR", self.folder.path().join("store"));
        command.stdin(Stdio::null());
        command
    }

    /// Builds until nothing changes and files are old enough to be believed.
    fn settle(&self) {
        for _ in 0..4 {
            assert!(self.build(&[]).status().unwrap().success());
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let fresh = self.folder.path().join("tree/.spolia/fresh");
        assert_eq!(std::fs::read_dir(fresh).unwrap().count(), 1, "the build was not written down as fresh");
    }
}

#[test]
fn a_build_in_which_nothing_changed_stays_within_its_budget() {
    let project = Project::new(STEPS);
    project.settle();
    // Answered from memory, and yet with all that a run's record says.
    let said = project.build(&["env"]).arg("--json").output().unwrap();
    let first = String::from_utf8(said.stdout).unwrap().lines().next().unwrap_or_default().to_owned();
    assert!(first.contains("\"run-started\"") && first.contains("\"project\":\"many\""), "{first}");
    let calls = system_calls(&project.build(&[]), &project.folder.path().join("counts")).total;
    assert!(calls > STEPS, "{calls} system calls cannot have looked at everything");
    assert!(
        calls <= CALLS_ONCE + STEPS * CALLS_PER_STEP,
        "{calls} system calls for {STEPS} steps in which nothing changed"
    );
    let faults = page_faults(project.build(&[]));
    assert!(faults > 0);
    assert!(faults <= PAGE_FAULTS_MAX, "{faults} page faults for {STEPS} steps in which nothing changed");
}

#[test]
fn a_build_in_which_everything_runs_stays_within_its_budget() {
    let project = Project::new(COLD_STEPS);
    let trace = project.folder.path().join("trace");
    let strace = ["strace", "-f", "-o", trace.to_str().unwrap()];
    let mut build = project.build(&strace);
    let status = build.args(["--jobs", "1"]).status().expect("strace is installed");
    assert!(status.success());
    let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
    let (mut own, mut made, mut removed) = (0, 0, 0);
    let calls = || text.lines().filter_map(|line| line.trim_start().split_once(' '));
    // The first line is our own start; whoever else starts a program is a step.
    let steps: std::collections::HashSet<&str> = calls()
        .skip(1)
        .filter(|(_, call)| call.trim_start().starts_with("execve("))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(steps.len(), COLD_STEPS);
    for (_, call) in calls().filter(|(id, _)| !steps.contains(id)) {
        let call = call.trim_start();
        let name = call.split('(').next().unwrap();
        // The standard library's own debug assertions ask for flags.
        if call.starts_with(['<', '-', '+']) || call.contains("F_GETFD") {
            continue;
        }
        own += 1;
        let is_made =
            name.starts_with("mkdir") || call.contains("O_CREAT|O_EXCL") || call.contains("O_TMPFILE");
        made += usize::from(is_made && !call.contains(" = -1 "));
        removed += usize::from(name.starts_with("unlink") || name == "rmdir");
    }
    assert!(
        own > 20 * COLD_STEPS && made > 4 * COLD_STEPS,
        "{own} calls that make {made} files cannot be all"
    );
    assert!(
        own <= COLD_CALLS_ONCE + COLD_STEPS * COLD_CALLS_PER_STEP,
        "{own} system calls for {COLD_STEPS} steps"
    );
    assert!(made <= COLD_STEPS * COLD_MADE_PER_STEP, "{made} files and folders made for {COLD_STEPS} steps");
    assert!(removed <= COLD_REMOVED_MAX, "{removed} files and folders removed");
}
