//! The caller's side of a launcher: `SandboxSpec → Running`. Knows no namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::Signal;

use super::exchange::{Exchange, ExchangeError};
use super::launch::Request;
use super::root::Context as _;
use super::spec::{SandboxSpec, Stage, StartError};
use crate::words;

/// Starts sandboxes, as many at once as asked for, by one process that is started with the first and ends with this. Its
/// end, however it comes, is the end of all of them.
#[derive(Debug, Default)]
pub struct Launcher(Mutex<Vec<Server>>);

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launcher cannot be started, or ends as soon as it is asked something.
    #[error("cannot start the sandbox's launcher")]
    NoLauncher(#[source] io::Error),
    /// The spec cannot be handed over.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The kernel makes no process in new namespaces.
    #[error("cannot make the sandbox: {0}")]
    Refused(StartError),
}

/// A sandbox that was started. It goes on if this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Readable when it has ended.
    pub descriptor: OwnedFd,
    /// Where its report will be then.
    pub exchange: Exchange,
}

impl Running {
    /// Ends it and all that runs in it. That it has ended is no error.
    pub fn kill(&self) {
        let _gone = rustix::process::pidfd_send_signal(&self.descriptor, Signal::KILL);
    }
}

impl Launcher {
    /// Starts a sandbox that prints to `stdout` and `stderr`, which it keeps open until it has ended; its standard input is
    /// `/dev/null`.
    ///
    /// # Errors
    /// See [`LaunchError`]. What goes wrong later is in the report.
    pub fn start(
        &self,
        spec: &SandboxSpec,
        stdout: impl AsFd,
        stderr: impl AsFd,
    ) -> Result<Running, LaunchError> {
        let exchange = Exchange::new(spec)?;
        let fds = [exchange.memory(), stdout.as_fd(), stderr.as_fd()];
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What the command inherits, its launcher has inherited.
        let known = servers.iter().position(|server| server.keep_fds == spec.keep_fds);
        let answer = match known.map(|at| servers[at].ask(fds)) {
            Some(Ok(answer)) => answer,
            gone => {
                // It was killed since; the sandboxes it had started ended with it.
                if let (Some(at), Some(Err(_))) = (known, gone) {
                    servers.swap_remove(at);
                }
                let server = Server::start(&spec.keep_fds).map_err(LaunchError::NoLauncher)?;
                let answer = server.ask(fds).map_err(LaunchError::NoLauncher)?;
                servers.push(server);
                answer
            }
        };
        let descriptor = answer.at(Stage::Namespaces, "").map_err(LaunchError::Refused)?;
        Ok(Running { descriptor, exchange })
    }

    /// The process ids of its launchers: one, once something was started, and one more for each other set of inherited
    /// descriptors.
    pub fn pids(&self) -> Vec<u32> {
        let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().map(|server| server.child.id()).collect()
    }
}

#[derive(Debug)]
struct Server {
    child: Child,
    /// Its end is the launcher's end.
    socket: Option<OwnedFd>,
    keep_fds: Vec<i32>,
}

impl Server {
    fn start(keep_fds: &[i32]) -> io::Result<Self> {
        let (ours, theirs) = words::pair()?;
        let mut command = super::ourselves(super::FROM_STDIN.as_ref());
        let child = command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, socket: Some(ours), keep_fds: keep_fds.to_vec() })
    }

    /// The outer error: it is gone. The inner one: it has asked the kernel in vain.
    fn ask(&self, fds: [BorrowedFd<'_>; 3]) -> io::Result<Result<OwnedFd, Errno>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        Request::send(socket, fds)?;
        match words::receive_fd(socket) {
            Ok(descriptor) => Ok(Ok(descriptor)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(error),
            Err(error) => Errno::from_io_error(&error).map(Err).ok_or_else(gone),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.socket.take());
        let _ended = self.child.wait();
    }
}
