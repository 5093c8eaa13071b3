//! A hit is on the path of every compile: what it may ask of the system, whatever the machine's speed.

use std::process::Command;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{TestEnv, outcome};

/// Headers of the source.
const HEADERS: usize = 50;
/// System calls of a hit but for those about headers.
const CALLS_ONCE: usize = 330;
/// Of one header: its `stat`, its record, and what was looked for beside it and not there.
const CALLS_PER_HEADER: usize = 4;
/// Measured 2026-11-21: 473 in a debug build, 140 in a release one.
const PAGE_FAULTS_MAX: u64 = 650;

fn warm() -> TestEnv {
    let env = super::env();
    let mut source = String::new();
    for number in 0..HEADERS {
        env.write(format!("inc/h{number}.h"), format!("int v{number}(void);\n"));
        source.push_str(&format!("#include \"h{number}.h\"\n"));
    }
    env.write("many.c", source);
    std::thread::sleep(std::time::Duration::from_millis(120));
    for _ in 0..3 {
        assert!(env.command(ARGS).status().unwrap().success());
    }
    assert_eq!(outcome(&env), "hit");
    env
}

const ARGS: [&str; 7] = ["cc", "gcc", "-Iinc", "-c", "many.c", "-o", "many.o"];

#[test]
fn a_hit_stays_within_its_budget() {
    let env = warm();
    let counts = env.path("counts");
    let mut strace = Command::new("strace");
    let spolia = env.command(ARGS);
    strace.args(["-f", "-c", "-o"]).arg(&counts).arg(spolia.get_program()).args(ARGS);
    strace.current_dir(env.root()).env_clear();
    for (name, value) in spolia.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    assert!(strace.status().expect("strace is installed").success());
    let text = env.read_text("counts");
    let total =
        text.lines().find(|line| line.trim_end().ends_with(" total")).unwrap_or_else(|| panic!("{text}"));
    let calls: usize = total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).unwrap();
    assert!(calls > HEADERS, "{calls} system calls cannot have looked at every header");
    let most = CALLS_ONCE + HEADERS * CALLS_PER_HEADER;
    assert!(calls <= most, "{calls} system calls of {most}:\n{text}");

    let mut child = env.command(ARGS).spawn().unwrap();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    assert!(child.wait().unwrap().success());
    let after_name = stat.rsplit(") ").next().unwrap();
    let faults: u64 = after_name.split_whitespace().nth(7).unwrap().parse().unwrap();
    assert!(faults > 0 && faults <= PAGE_FAULTS_MAX, "{faults} page faults");
}
