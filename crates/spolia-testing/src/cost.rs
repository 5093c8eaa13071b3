//! What a program asks of the system: counts that do not depend on how busy the machine is.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions};

/// System calls, as strace counts them.
pub struct SystemCalls {
    /// Of all processes and threads.
    pub total: usize,
    /// How many of each, for a person.
    pub table: String,
}

/// Runs `command`, which sets its whole environment and must succeed, under strace, which writes to the file `counts`.
#[expect(clippy::disallowed_methods, reason = "a test plays the user")]
pub fn system_calls(command: &Command, counts: &Path) -> SystemCalls {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(counts).arg(command.get_program()).args(command.get_args());
    strace.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    assert!(strace.stdin(Stdio::null()).status().expect("strace is installed").success());
    let table = std::fs::read_to_string(counts).expect("strace wrote its counts");
    // `% time, seconds, usecs/call, calls, errors, total`: the errors may be left out.
    let total = table.lines().find(|line| line.trim_end().ends_with(" total"));
    let total = total.and_then(|line| line.split_whitespace().nth(3)).and_then(|calls| calls.parse().ok());
    SystemCalls { total: total.unwrap_or_else(|| panic!("{table}")), table }
}

/// Page faults of `command`, which must succeed: those that needed no disk, from the kernel's own count of the ended
/// process.
pub fn page_faults(mut command: Command) -> u64 {
    let mut child = command.spawn().expect("it starts");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
    rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .expect("it ends");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it is not reaped yet");
    assert!(child.wait().expect("it ended").success());
    minor_faults(&stat)
}

/// From a process's `stat`. After its name in brackets: state, ppid, pgrp, session, tty, tpgid, flags, minflt.
fn minor_faults(stat: &str) -> u64 {
    let faults = stat.rsplit(") ").next().and_then(|rest| rest.split_whitespace().nth(7));
    faults.and_then(|faults| faults.parse().ok()).unwrap_or_else(|| panic!("{stat}"))
}

/// What a program has cost when it makes a certain system call for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// System calls.
    pub calls: u64,
    /// Page faults that needed no disk.
    pub page_faults: u64,
}

/// Runs `command`, which sets its whole environment, until it makes the system call `name` for the first time; then it is
/// killed. strace writes to the file `trace`.
#[expect(clippy::disallowed_methods, reason = "a test plays the user")]
pub fn before_first(command: &Command, name: &str, trace: &Path) -> Before {
    let mut strace = Command::new("strace");
    strace.args(["-o"]).arg(trace).args(["-e", &format!("inject={name}:signal=STOP:when=1")]);
    strace.arg(command.get_program()).args(command.get_args());
    strace.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    let mut strace = strace.stdin(Stdio::null()).spawn().expect("strace is installed");
    let is_there = |text: &str| text.lines().any(|line| line.starts_with("--- stopped by SIGSTOP"));
    let read = || String::from_utf8_lossy(&std::fs::read(trace).unwrap_or_default()).into_owned();
    crate::wait_until("the program has come so far", || is_there(&read()));
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let child = std::fs::read_to_string(children).expect("strace is there");
    let child = child.trim().to_owned();
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).expect("it is stopped");
    strace.kill().expect("our own child");
    strace.wait().expect("our own child");
    // It is nobody's to wait for now; that it is killed is what is asked, not when.
    let child = child.parse().ok().and_then(Pid::from_raw).expect("a process has a number");
    let _gone = rustix::process::kill_process(child, rustix::process::Signal::KILL);
    let text = read();
    let before = text.lines().take_while(|line| !line.starts_with(&format!("{name}(")));
    Before { calls: before.count() as u64, page_faults: minor_faults(&stat) }
}
