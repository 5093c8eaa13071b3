//! Runs one command where only what it declared is there: `SandboxSpec → Report`. Knows no actions, keys or store.
//!
//! Three processes, because a pid namespace begins with its first process, which must be one of ours:
//!
//! ```text
//! caller ── A launcher   one for all runs: makes namespaces, forks B, ends when the caller does
//!           └─ B init    pid 1: builds the root, forks C, answers observed calls, reaps, writes the report
//!              └─ C      gives up its rights and becomes the command
//! ```
//!
//! A is a fresh, single-threaded process of our own binary (`__sandbox -`), so that forking in it is sound
//! whatever threads the caller has; starting a program costs more than forking one, so it stays. If A dies, each B gets
//! `SIGKILL`, and with pid 1 the kernel ends the whole namespace.

mod copy;
mod exchange;
pub mod launch;
mod launcher;
mod network;
mod observe;
mod probe;
mod root;
mod scratch;
mod spec;

use std::process::{Command, Stdio};

pub use exchange::{Exchange, ExchangeError};
pub use launcher::{LaunchError, Launcher, Running};
pub use observe::LOOKUPS_MAX;
pub use probe::{Hint, Refusal, Support, probe};
pub use scratch::{
    is_as_made, is_empty_folder, note_ended, prepare_scratch_parent, remove_scratch, reset_scratch,
    take_ended,
};
pub use spec::{
    Bind, Bytes, Cost, End, FormatError, Lookups, Observe, Overlay, ProjectRoot, Report, SandboxSpec, Stage,
    StartError,
};

/// The hidden subcommand by which the binary becomes a launcher.
pub const SUBCOMMAND: &str = "__sandbox";

/// What follows the subcommand where the caller is on standard input.
const FROM_STDIN: &str = "-";

/// This binary again, in a process group of its own, as what the argument says.
fn ourselves(argument: &std::ffi::OsStr) -> Command {
    use std::os::unix::process::CommandExt as _;
    #[expect(clippy::disallowed_methods, reason = "the sandbox is how the executor runs things")]
    let mut command = Command::new("/proc/self/exe");
    command.arg0("spolia").arg(SUBCOMMAND).arg(argument);
    command.env_clear().stdin(Stdio::null()).process_group(0);
    command
}

/// The system folders that are shown unless someone says otherwise.
pub fn default_system() -> Vec<Bytes> {
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/var"]
        .iter()
        .map(Bytes::from)
        .collect()
}
