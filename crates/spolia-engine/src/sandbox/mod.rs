//! Runs one command where only what it declared is there: `SandboxSpec → Report`. Knows no actions, keys or store.
//!
//! Three processes, because a pid namespace begins with a child and its first process must be one of ours:
//!
//! ```text
//! caller ── A launcher   makes namespaces, forks B, ends when B or the caller does
//!           └─ B init    pid 1: builds the root, forks C, answers observed calls, reaps, writes the report
//!              └─ C      gives up its rights and becomes the command
//! ```
//!
//! A is a fresh, single-threaded process of our own binary (`__sandbox -`), so that forking in it is sound
//! whatever threads the caller has. If A dies, B gets `SIGKILL`, and with pid 1 the kernel ends the whole namespace.

mod copy;
mod exchange;
pub mod launch;
mod observe;
mod probe;
mod root;
mod scratch;
mod spec;

use std::process::{Child, Command, Stdio};

pub use exchange::{Exchange, ExchangeError};
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

use crate::sys;

/// The hidden subcommand by which the binary becomes a launcher.
pub const SUBCOMMAND: &str = "__sandbox";

/// What follows the subcommand where the spec is on standard input.
const FROM_STDIN: &str = "-";

/// A command that runs the spec: this binary again (`__sandbox -`), in a process group of its own; and where its report
/// will be. The caller sets stdout and stderr, which the command in the sandbox inherits; its stdin is `/dev/null`. The
/// launcher's exit code says only whether there is a report.
pub fn command(spec: &SandboxSpec) -> Result<(Command, Exchange), ExchangeError> {
    let exchange = Exchange::new(spec)?;
    let mut command = launcher(FROM_STDIN.as_ref());
    command.stdin(exchange.other_end()?);
    Ok((command, exchange))
}

fn launcher(argument: &std::ffi::OsStr) -> Command {
    use std::os::unix::process::CommandExt as _;
    #[expect(clippy::disallowed_methods, reason = "the sandbox is how the executor runs things")]
    let mut command = Command::new("/proc/self/exe");
    command.arg0("spolia").arg(SUBCOMMAND).arg(argument);
    command.env_clear().stdin(Stdio::null()).process_group(0);
    command
}

/// Waits for a launcher: its exit code (none: killed by a signal), and the cost of it together with the command's tree.
/// Less [`Report::cost`], the CPU times are the sandbox's own. `wall_us` is not measured here and 0.
pub fn wait_launcher(launcher: Child) -> std::io::Result<(Option<i32>, Cost)> {
    let pid = i32::try_from(launcher.id()).map_err(std::io::Error::other)?;
    let (_, ended, usage) = sys::wait4(pid)?;
    let code = match ended {
        sys::Ended::Exited(code) => Some(code),
        sys::Ended::Signalled(_) => None,
    };
    let sys::Rusage { user_us, sys_us, max_rss_bytes } = usage;
    Ok((code, Cost { wall_us: 0, user_us, sys_us, max_rss_bytes }))
}

/// The system folders that are shown unless someone says otherwise.
pub fn default_system() -> Vec<Bytes> {
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/var"]
        .iter()
        .map(Bytes::from)
        .collect()
}
