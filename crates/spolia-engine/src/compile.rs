//! A compiler as a child of a wrapper: in the wrapper's own process group, so that the terminal's keys
//! reach it, with its output both passed on and kept. Knows no cache.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use spolia_core::Cost;
use spolia_core::result::{Log, Stream};

use crate::executor::End;
use crate::process::LOG_BYTES_MAX;
use crate::sys;

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

/// What a child left.
pub struct Captured {
    /// How it ended.
    pub end: End,
    /// What it printed, in the order it arrived.
    pub log: Log,
    /// Whether it printed more than is kept.
    pub log_cut: bool,
    /// What it and the children it waited for cost.
    pub cost: Cost,
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

    /// Runs it to its end with nothing to read, and gives what it printed on both streams. For short questions
    /// to a compiler.
    ///
    /// # Errors
    /// It could not be started or waited for.
    pub fn ask(&self) -> std::io::Result<Captured> {
        let mut command = self.command();
        command.stdin(Stdio::null());
        capture(command, &mut |_, _| {})
    }

    /// Runs it to its end; what it prints is handed to `on_output` as it arrives, and kept.
    ///
    /// # Errors
    /// It could not be started or waited for.
    pub fn capture(&self, on_output: &mut dyn FnMut(Stream, &[u8])) -> std::io::Result<Captured> {
        capture(self.command(), on_output)
    }

    /// Runs it as [`crate::observe::run`] does.
    ///
    /// # Errors
    /// It could not be started.
    pub fn observe(
        &self,
        library: Option<&Path>,
        callers_preload: Option<&OsStr>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> std::io::Result<crate::observe::Observed> {
        crate::observe::run(self.command(), library, callers_preload, on_output)
    }
}

#[expect(clippy::disallowed_methods, reason = "the engine measures what it runs")]
fn capture(mut command: Command, on_output: &mut dyn FnMut(Stream, &[u8])) -> std::io::Result<Captured> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let mut captured =
        Captured { end: End::Exited(0), log: Log::default(), log_cut: false, cost: Cost::default() };
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let mut buffer = vec![0; 16 << 10];
    while out.is_some() || err.is_some() {
        let ready = {
            let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
            fds.extend(out.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
            fds.extend(err.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            match (out.is_some(), err.is_some()) {
                (true, _) => (is_ready(0), is_ready(1)),
                (false, _) => (false, is_ready(0)),
            }
        };
        if ready.0 {
            read_once(&mut out, Stream::Stdout, &mut buffer, &mut captured, on_output)?;
        }
        if ready.1 {
            read_once(&mut err, Stream::Stderr, &mut buffer, &mut captured, on_output)?;
        }
    }
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    let (_, ended, usage) = sys::wait4(pid)?;
    captured.end = match ended {
        sys::Ended::Exited(code) => End::Exited(code),
        sys::Ended::Signalled(number) => End::Signalled(number),
    };
    captured.cost = Cost {
        wall_us: u64::try_from(began.elapsed().as_micros()).ok(),
        user_us: Some(usage.user_us),
        sys_us: Some(usage.sys_us),
        max_rss_bytes: Some(usage.max_rss_bytes),
    };
    Ok(captured)
}

fn read_once<R: Read>(
    pipe: &mut Option<R>,
    stream: Stream,
    buffer: &mut [u8],
    captured: &mut Captured,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> std::io::Result<()> {
    let Some(reader) = pipe else { return Ok(()) };
    let length = match reader.read(buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
        Err(error) => return Err(error),
    };
    if length == 0 {
        *pipe = None;
        return Ok(());
    }
    on_output(stream, &buffer[..length]);
    if captured.log.as_bytes().len() + length > LOG_BYTES_MAX {
        captured.log_cut = true;
    } else {
        captured.log.push(stream, &buffer[..length]);
    }
    Ok(())
}
