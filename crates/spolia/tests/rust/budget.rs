//! A hit is on the path of every unit of a build: what it may ask of the system, whatever the machine's speed.

use std::process::Command;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{Stand, settle};

/// Sources of the crate, each a fact of its own.
const SOURCES: usize = 60;
/// System calls of a hit but for those about sources.
const CALLS_ONCE: usize = 330;
/// Of one source: its `stat` and its record.
const CALLS_PER_SOURCE: usize = 3;
/// Of 4 KiB each.
const PAGE_FAULTS_MAX: u64 = 650;

#[test]
fn a_hit_stays_within_its_budget() {
    let stand = Stand::new();
    let names: Vec<String> = (0..SOURCES).map(|number| format!("m{number}.rs")).collect();
    for name in &names {
        stand.env.write(format!("one/src/{name}"), format!("{name}\n"));
    }
    stand.env.write("one/src/lib.rs", names.join("\n") + "\n");
    settle();
    for _ in 0..3 {
        stand.compile("one", &[]);
    }
    assert_eq!(stand.last()["outcome"], "hit");

    let counts = stand.env.path("counts");
    let call = stand.call("one", &[]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&counts).arg(call.get_program()).args(call.get_args());
    strace.current_dir(stand.env.path("one")).env_clear();
    for (name, value) in call.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    assert!(strace.status().expect("strace is installed").success());
    let text = stand.env.read_text("counts");
    let total =
        text.lines().find(|line| line.trim_end().ends_with(" total")).unwrap_or_else(|| panic!("{text}"));
    let calls: usize = total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).unwrap();
    assert!(calls > SOURCES, "{calls} system calls cannot have looked at every source");
    let most = CALLS_ONCE + SOURCES * CALLS_PER_SOURCE;
    assert!(calls <= most, "{calls} system calls of {most}:\n{text}");

    let mut child = stand.call("one", &[]).spawn().unwrap();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    assert!(child.wait().unwrap().success());
    let after_name = stat.rsplit(") ").next().unwrap();
    let faults: u64 = after_name.split_whitespace().nth(7).unwrap().parse().unwrap();
    assert!(faults > 0 && faults <= PAGE_FAULTS_MAX, "{faults} page faults");
}
