//! One child from start to end: its output, its time limit, its cost. Knows no action.
//!
//! With [`run`] the child leads a process group of its own. Whatever of that group is left when the leader has ended is
//! killed before the leader is reaped, while the group's number cannot have been given to anyone else. With
//! [`run_beside`] it stays in the caller's group, as a compiler does that is called by way of us.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use spolia_core::Cost;
use spolia_core::codec::unfinished_utf8;
use spolia_core::result::{Log, Stream};

use crate::cancel::Cancel;
use crate::executor::End;
use crate::sys;

/// How long a stopped child may take to end by itself.
pub const GRACE: Duration = Duration::from_secs(3);
/// How long output is waited for after the child has ended, where someone else keeps its pipe open.
const DRAIN: Duration = Duration::from_millis(200);
/// The most output that is kept of one run, bytes; what comes after is shown but not stored.
pub const LOG_BYTES_MAX: usize = 64 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// How a child ended and what it left.
pub struct Ended {
    /// How.
    pub end: End,
    /// What it printed, in the order it arrived.
    pub log: Log,
    /// Whether more was printed than [`LOG_BYTES_MAX`].
    pub log_cut: bool,
    /// What it and its waited-for descendants cost.
    pub cost: Cost,
}

/// What bounds a child.
pub struct Limits<'l> {
    /// Stops it when set.
    pub cancel: &'l Cancel,
    /// Wall time.
    pub timeout: Option<Duration>,
}

/// Starts `command` in a process group of its own with pipes for its output, and waits for its end. Its
/// standard input is the caller's to choose.
///
/// # Errors
/// It could not be started, or the kernel would not let us watch it (it is killed then).
#[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
pub fn run(
    mut command: Command,
    limits: &Limits<'_>,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> std::io::Result<Ended> {
    use std::os::unix::process::CommandExt as _;
    let (out, out_writer) = std::io::pipe()?;
    let (err, err_writer) = std::io::pipe()?;
    command.stdout(out_writer).stderr(err_writer).process_group(0);
    let began = Instant::now();
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    // It keeps the writers, so that the pipes do not wake us as the child lets go of them, just before it ends.
    let pipes = Pipes { readers: (out.into(), err.into()), writers: Some(command) };
    let watched = open_pidfd(pid)
        .and_then(|pidfd| watch(&pidfd, Whom::Group(pid), pipes, began, Some(limits), on_output));
    if watched.is_err() {
        signal(pid, Signal::KILL);
    }
    reap(pid, began, watched)
}

/// Starts `command` in the caller's process group with pipes for its output, and waits for its end. What it leaves
/// running is left alone. Its standard input is the caller's to choose.
///
/// # Errors
/// It could not be started, or the kernel would not let us watch it (it is killed then).
#[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
pub fn run_beside(mut command: Command, on_output: &mut dyn FnMut(Stream, &[u8])) -> std::io::Result<Ended> {
    let (out, out_writer) = std::io::pipe()?;
    let (err, err_writer) = std::io::pipe()?;
    command.stdout(out_writer).stderr(err_writer);
    let began = Instant::now();
    let mut child = command.spawn()?;
    // Its closures may hold descriptors that somebody waits to see closed.
    drop(command);
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    let pipes = Pipes { readers: (out.into(), err.into()), writers: None::<()> };
    let watched = open_pidfd(pid).and_then(|pidfd| watch(&pidfd, Whom::Alone, pipes, began, None, on_output));
    if watched.is_err() {
        let _gone = child.kill();
    }
    reap(pid, began, watched)
}

/// Waits for the end of the first process of a pid namespace, which is another's child: `pidfd` is a descriptor of it, and
/// its death the end of all there. When this comes back it has ended.
#[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
pub(crate) fn await_namespace(
    pidfd: &OwnedFd,
    readers: (OwnedFd, OwnedFd),
    writers: (OwnedFd, OwnedFd),
    limits: &Limits<'_>,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> std::io::Result<(Watched, Duration)> {
    let began = Instant::now();
    let pipes = Pipes { readers, writers: Some(writers) };
    let watched = watch(pidfd, Whom::Namespace, pipes, began, Some(limits), on_output);
    if watched.is_err() {
        Whom::Namespace.signal(pidfd, Signal::KILL);
        poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None)?;
    }
    Ok((watched?, began.elapsed()))
}

fn reap(pid: i32, began: Instant, watched: std::io::Result<Watched>) -> std::io::Result<Ended> {
    let (_, ended, usage) = sys::wait4(pid)?;
    let wall = began.elapsed();
    let Watched { log, log_cut, stopped } = watched?;
    let end = match (stopped, ended) {
        (Some(stopped), _) => stopped,
        (None, sys::Ended::Exited(code)) => End::Exited(code),
        (None, sys::Ended::Signalled(number)) => End::Signalled(number),
    };
    let cost = Cost {
        wall_us: u64::try_from(wall.as_micros()).ok(),
        user_us: Some(usage.user_us),
        sys_us: Some(usage.sys_us),
        max_rss_bytes: Some(usage.max_rss_bytes),
    };
    Ok(Ended { end, log, log_cut, cost })
}

/// A standard input that has ended. `/dev/null` is opened once: another descriptor of it costs less.
pub(crate) fn nothing() -> Stdio {
    static NULL: OnceLock<Option<File>> = OnceLock::new();
    let file = NULL.get_or_init(|| File::open("/dev/null").ok());
    let copy = file.as_ref().and_then(|file| file.try_clone().ok());
    copy.map_or_else(Stdio::null, Stdio::from)
}

/// What a child printed, and how it was stopped, if it was.
pub(crate) struct Watched {
    pub(crate) log: Log,
    pub(crate) log_cut: bool,
    pub(crate) stopped: Option<End>,
}

/// The child's output.
struct Pipes<W> {
    readers: (OwnedFd, OwnedFd),
    /// Dropped when it has ended.
    writers: Option<W>,
}

/// Who is stopped.
#[derive(Clone, Copy)]
enum Whom {
    /// The process group of this number.
    Group(i32),
    /// The child, which is the first of its pid namespace: only killing it does anything, and that ends the namespace.
    Namespace,
    /// Nobody: the child is waited for.
    Alone,
}

impl Whom {
    fn signal(self, pidfd: &OwnedFd, what: Signal) {
        match self {
            Self::Group(group) => signal(group, what),
            Self::Namespace => {
                let _gone = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
            Self::Alone => {}
        }
    }
}

struct Pipe {
    reader: Option<OwnedFd>,
    stream: Stream,
    /// The beginning of a character whose rest has not arrived: a piece is text where the output is.
    held: Vec<u8>,
}

/// When the child is to be looked at next, whatever happens.
struct Deadlines {
    /// It has run too long.
    timeout: Option<Instant>,
    /// It was asked to end and has not.
    kill: Option<Instant>,
    /// It has ended and someone else holds its pipe.
    drain: Option<Instant>,
}

impl Deadlines {
    fn next(&self) -> Option<Instant> {
        [self.timeout, self.kill, self.drain].into_iter().flatten().min()
    }
}

#[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
fn watch<W>(
    pidfd: &OwnedFd,
    whom: Whom,
    Pipes { readers, mut writers }: Pipes<W>,
    began: Instant,
    limits: Option<&Limits<'_>>,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> std::io::Result<Watched> {
    let mut out = Pipe { reader: Some(readers.0), stream: Stream::Stdout, held: Vec::new() };
    let mut err = Pipe { reader: Some(readers.1), stream: Stream::Stderr, held: Vec::new() };
    let mut watched = Watched { log: Log::default(), log_cut: false, stopped: None };
    let mut deadlines = Deadlines {
        timeout: limits.and_then(|limits| limits.timeout).map(|limit| began + limit),
        kill: None,
        drain: None,
    };
    let mut ended = false;
    let mut buffer = Vec::new();
    loop {
        if ended && out.reader.is_none() && err.reader.is_none() {
            return Ok(watched);
        }
        let asked = deadlines.kill.is_some() || deadlines.drain.is_some();
        let ready = {
            // A place for every source, so that the answers are found by their number.
            let out_fd = out.reader.as_ref().map(AsFd::as_fd);
            let err_fd = err.reader.as_ref().map(AsFd::as_fd);
            let end_fd = (!ended).then(|| pidfd.as_fd());
            let stop_fd = limits.filter(|_| !ended && !asked).map(|limits| limits.cancel.as_fd());
            let mut fds = [out_fd, err_fd, end_fd, stop_fd].map(|fd| match fd {
                Some(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN),
                None => PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::empty()),
            });
            poll(&mut fds, deadlines.next())?;
            [0, 1, 2, 3].map(|at: usize| {
                let stops = limits.is_some() && !ended && !asked;
                let used = [out.reader.is_some(), err.reader.is_some(), !ended, stops][at];
                if used { fds[at].revents() } else { PollFlags::empty() }
            })
        };
        take(&mut out, ready[0], &mut buffer, &mut watched, on_output)?;
        take(&mut err, ready[1], &mut buffer, &mut watched, on_output)?;
        let ready = ready.map(|events| !events.is_empty());
        if ready[2] {
            ended = true;
            drop(writers.take());
            deadlines = Deadlines { timeout: None, kill: None, drain: Some(Instant::now() + DRAIN) };
            // The rest of its group, so that the pipes close.
            whom.signal(pidfd, Signal::KILL);
        }
        let now = Instant::now();
        if ready[3] {
            watched.stopped = Some(End::Cancelled);
            whom.signal(pidfd, Signal::TERM);
            deadlines.kill = Some(now + GRACE);
            deadlines.timeout = None;
        }
        if deadlines.timeout.is_some_and(|at| at <= now) {
            watched.stopped = Some(End::TimedOut);
            whom.signal(pidfd, Signal::TERM);
            deadlines.kill = Some(now + GRACE);
            deadlines.timeout = None;
        }
        if deadlines.kill.is_some_and(|at| at <= now) {
            whom.signal(pidfd, Signal::KILL);
            deadlines.kill = Some(now + GRACE);
        }
        if ended && deadlines.drain.is_some_and(|at| at <= now) {
            keep(out.stream, &out.held, &mut watched, on_output);
            keep(err.stream, &err.held, &mut watched, on_output);
            return Ok(watched);
        }
    }
}

fn open_pidfd(pid: i32) -> std::io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| std::io::Error::other("no process id"))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

pub(crate) fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> std::io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
    let now = Instant::now();
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(now);
        Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
    });
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads what `events` say is there.
fn take(
    pipe: &mut Pipe,
    events: PollFlags,
    buffer: &mut Vec<u8>,
    watched: &mut Watched,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> std::io::Result<()> {
    let Some(reader) = pipe.reader.as_ref().filter(|_| !events.is_empty()) else { return Ok(()) };
    buffer.clear();
    buffer.extend_from_slice(&pipe.held);
    // Nobody has the other end, and nothing is left in it.
    let mut ended = events == PollFlags::HUP;
    if !ended {
        // Most runs print nothing.
        buffer.reserve(CHUNK_BYTES);
        ended = match rustix::io::read(reader, rustix::buffer::spare_capacity(buffer)) {
            Ok(length) => length == 0,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
    }
    pipe.held.clear();
    if ended {
        pipe.reader = None;
        keep(pipe.stream, buffer, watched, on_output);
        return Ok(());
    }
    let (piece, held) = buffer.split_at(buffer.len() - unfinished_utf8(buffer));
    pipe.held.extend_from_slice(held);
    keep(pipe.stream, piece, watched, on_output);
    Ok(())
}

fn keep(stream: Stream, piece: &[u8], watched: &mut Watched, on_output: &mut dyn FnMut(Stream, &[u8])) {
    if piece.is_empty() {
        return;
    }
    on_output(stream, piece);
    if watched.log.as_bytes().len() + piece.len() > LOG_BYTES_MAX {
        watched.log_cut = true;
    } else {
        watched.log.push(stream, piece);
    }
}

/// To the whole group; that it is gone already is no error.
fn signal(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _gone = rustix::process::kill_process_group(group, signal);
    }
}
