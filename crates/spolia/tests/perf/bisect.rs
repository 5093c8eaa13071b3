//! `spolia perf bisect` on a slowdown that is planted in a real repository.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use spolia_testing::process::processes_with;
use spolia_testing::{TestEnv, wait_until};

use crate::{count_to, env};

#[expect(clippy::disallowed_methods, reason = "a test plays the user")]
fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]);
    command.args(args).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits `0` to `7`; what they cost grows sixfold with `5`, and `4` does not run.
fn repository(env: &TestEnv) -> Vec<String> {
    let root = &env.root();
    git(root, &["init", "-q", "-b", "main"]);
    (0..8)
        .map(|number| {
            let work = match number {
                4 => "exit 9\n".to_owned(),
                0..5 => count_to(8_000) + "\n",
                _ => count_to(48_000) + "\n",
            };
            env.write("part/work", format!("# {number}\n{work}"));
            git(root, &["add", "part/work"]);
            git(root, &["commit", "-q", "-m", &format!("change {number}")]);
            git(root, &["rev-parse", "HEAD"])
        })
        .collect()
}

fn left_behind(env: &TestEnv) -> usize {
    std::fs::read_dir(env.store().join("v1/perf/bisect")).map_or(0, Iterator::count)
}

#[test]
fn the_planted_commit_is_found_and_the_tree_is_not_touched() {
    let env = env();
    let commits = repository(&env);
    env.write("part/work", "mine, not committed\n");
    let before = git(&env.root(), &["status", "--porcelain=v2", "--branch"]);
    let mut command =
        env.command(["--json", "-C", "part", "perf", "bisect", &commits[0], "main", "--", "sh", "work"]);
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    // The commit before the planted one does not run: it is one of the two, and that is said.
    assert_eq!(output.status.code(), Some(7), "{found}");
    assert_eq!(found["one_of"], serde_json::json!([commits[4], commits[5]]).sorted_as(&found["one_of"]));
    assert_eq!(found["cost"], "cpu");
    let kind = |commit: &str| {
        let all = found["commits"].as_array().unwrap();
        all.iter().find(|one| one["commit"] == commit).map(|one| one["kind"].as_str().unwrap().to_owned())
    };
    assert_eq!(kind(&commits[3]).as_deref(), Some("good"), "{found}");
    assert_eq!(kind(&commits[5]).as_deref(), Some("bad"), "{found}");
    assert_eq!(kind(&commits[4]).as_deref(), Some("skipped"), "{found}");
    // Without it the answer is one commit.
    let mut command = env.command(["-C", "part", "perf", "bisect", "--setup"]);
    command.args(["grep -q exit work && echo 'true' > work; true", &commits[3], "HEAD", "--", "sh", "work"]);
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains(&format!("{} is the first slow commit: change 5", commits[5])), "{out}");
    assert_eq!(git(&env.root(), &["status", "--porcelain=v2", "--branch"]), before);
    assert_eq!(git(&env.root(), &["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
    assert_eq!(left_behind(&env), 0);
    // What was measured is in the history, by commit.
    let mut command = env.command(["--json", "perf", "compare", &commits[3], &commits[5]]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same items in another's order.
trait SortedAs {
    fn sorted_as(self, other: &Value) -> Value;
}

impl SortedAs for Value {
    fn sorted_as(self, other: &Value) -> Value {
        let mut items = self.as_array().cloned().unwrap_or_default();
        let place = |item: &Value| other.as_array().and_then(|all| all.iter().position(|one| one == item));
        items.sort_by_key(place);
        Value::Array(items)
    }
}

#[test]
fn what_cannot_be_searched_is_said() {
    let env = env();
    let check = |args: &[&str], code: i32, expect: &str| {
        let output = env.command(["perf", "bisect"].iter().chain(args)).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(expect), "{args:?}: {err}");
    };
    check(&["a", "b", "--", "true"], 2, "no git repository");
    let commits = repository(&env);
    check(&["nowhere", "HEAD", "--", "true"], 2, "`nowhere` is no commit");
    check(&["HEAD", "main", "--", "true"], 2, "the same commit");
    check(&["HEAD", &commits[0], "--", "true"], 2, "is no ancestor of");
    check(&["--", "true"], 2, "GOOD");
    check(&["-n", "8", &commits[0], "HEAD", "--", "true"], 7, "not known to be slower");
    check(&[&commits[0], &commits[4], "--", "sh", "part/work"], 1, "failed at the bad commit");
    check(&[&commits[0], "HEAD", "--", "no-such-program"], 2, "cannot run `no-such-program`");
    check(&["--setup", "exit 3", &commits[0], "HEAD", "--", "true"], 1, "`--setup` failed with exit code 3");
    assert_eq!(left_behind(&env), 0);
}

#[test]
fn a_stopped_search_leaves_nothing_and_a_killed_one_is_cleaned_up() {
    let env = env();
    let commits = repository(&env);
    let signalled = |signal: Signal, mark: &str| {
        let mut command = env.command(["perf", "bisect", &commits[0], "HEAD", "--", "sleep", mark]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The search has the mark among its arguments too, and so has a copy of it that becomes another program.
        let sleeps =
            |pid: &u32| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
        wait_until("the command runs", || processes_with(mark).iter().any(sleeps));
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let code = child.wait().unwrap().code();
        for sleeper in processes_with(mark) {
            let pid = Pid::from_raw(sleeper.cast_signed()).unwrap();
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
        code
    };
    let own = std::process::id();
    assert_eq!(signalled(Signal::INT, &format!("83.{own}")), Some(130));
    assert_eq!(left_behind(&env), 0);
    assert_eq!(signalled(Signal::KILL, &format!("84.{own}")), None);
    assert_eq!(left_behind(&env), 1);
    let output =
        env.command(["perf", "bisect", "-n", "8", &commits[0], "HEAD", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(left_behind(&env), 0);
}
