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
    // After the name in brackets: state, ppid, pgrp, session, tty, tpgid, flags, minflt.
    let faults = stat.rsplit(") ").next().and_then(|rest| rest.split_whitespace().nth(7));
    faults.and_then(|faults| faults.parse().ok()).unwrap_or_else(|| panic!("{stat}"))
}
