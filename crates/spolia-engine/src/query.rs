//! Questions put to other programs: what they say is wanted, not what they make. Knows no action.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::process::{self, Ended, Limits};

/// A program and how it is to be started.
#[derive(Clone, Debug)]
pub struct Query {
    /// The program, by name or by path.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it is started.
    pub folder: PathBuf,
}

/// Starts it without standard input and waits for its end.
///
/// # Errors
/// It could not be started or watched.
pub fn ask(query: &Query, cancel: &Cancel, timeout: Option<Duration>) -> std::io::Result<Ended> {
    #[expect(clippy::disallowed_methods, reason = "this is the executor of questions")]
    let mut command = std::process::Command::new(&query.program);
    command.args(&query.args).current_dir(&query.folder).env_clear().stdin(std::process::Stdio::null());
    command.envs(query.env.iter().map(|(name, value)| (name, value)));
    process::run(command, &Limits { cancel, timeout }, &mut |_, _| {})
}
