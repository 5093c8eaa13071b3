//! A compiler as a child of a wrapper: in the wrapper's own process group, so that the terminal's keys
//! reach it, with its output both passed on and kept. Knows no cache.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use spolia_core::result::Stream;

use crate::observe::{self, Observed};
use crate::process::{Ended, run_beside};

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Program<'p> {
    /// The file.
    pub path: &'p Path,
    /// What it is told it is called.
    pub arg0: &'p OsStr,
    /// Its arguments.
    pub args: &'p [OsString],
    /// Variables set on top of the inherited ones; `None` takes one away.
    pub env: &'p [(OsString, Option<OsString>)],
    /// Where it runs; the current folder where `None`.
    pub folder: Option<&'p Path>,
}

impl Program<'_> {
    #[expect(clippy::disallowed_methods, reason = "the engine starts processes")]
    fn command(&self) -> Command {
        let mut command = Command::new(self.path);
        command.arg0(self.arg0).args(self.args);
        for (name, value) in self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Becomes the program; comes back only with the reason why not.
    pub fn become_it(&self) -> std::io::Error {
        self.command().exec()
    }

    /// Starts it on its own, with nothing to read or to write to, and does not wait for it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn leave_running(&self) -> std::io::Result<()> {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(drop)
    }

    /// Runs it to its end with nothing to read, and gives what it printed on both streams. For short questions
    /// to a compiler.
    ///
    /// # Errors
    /// It could not be started or waited for.
    pub fn ask(&self) -> std::io::Result<Ended> {
        let mut command = self.command();
        command.stdin(Stdio::null());
        run_beside(command, &mut |_, _| {})
    }

    /// Runs it to its end; what it prints is handed to `on_output` as it arrives, and kept.
    ///
    /// # Errors
    /// It could not be started or waited for.
    pub fn capture(&self, on_output: &mut dyn FnMut(Stream, &[u8])) -> std::io::Result<Ended> {
        run_beside(self.command(), on_output)
    }

    /// The same, and says what it and its children looked at; see [`observe::run`].
    ///
    /// # Errors
    /// It could not be started.
    pub fn observe(
        &self,
        library: Option<&Path>,
        callers_preload: Option<&OsStr>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> std::io::Result<Observed> {
        observe::run(self.command(), library, callers_preload, observe::Since::Start, on_output)
    }

    /// The same, but for what its loader looks for in vain; see [`observe::Since::Loaded`].
    ///
    /// # Errors
    /// It could not be started.
    pub fn observe_loaded(
        &self,
        library: Option<&Path>,
        callers_preload: Option<&OsStr>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> std::io::Result<Observed> {
        observe::run(self.command(), library, callers_preload, observe::Since::Loaded(self.path), on_output)
    }
}
