//! Runs a program where it is, without a sandbox, and says what it and its children looked at: `Command → Observed`.
//! Knows no project, key or store entry.
//!
//! ```text
//! caller ── program ── its children      each open, exec, listing and look-up is stopped by a seccomp filter …
//!   └─ watcher thread                    … and let go on once its path is noted, with its `stat` at that moment
//! ```
//!
//! It works for root and for an ordinary user, who may look into the memory of what he started. What is no system call
//! is said by a library that is preloaded (`preload.c`): variables asked for by name, and the time of day. Not seen: a walk
//! over all variables (see [`may_read_all_variables`]), `readlink` but for libc's `realpath`, and what a program that was not preloaded asks.
//!
//! To stop a call costs two switches between processes, which was most of what a miss of ours cost. So the same library notes what a program
//! opens to read and looks for in memory that it shares with us (`board.rs`), and the filter lets those calls by; only those. What comes by
//! other ways (libc's own calls, programs without libc, everything that writes, starts or lists) is stopped as before.
//!
//! Where a program's own loader has nothing to find but what does not matter, the filter is installed after it ([`Since::Loaded`], `late.rs`).
//!
//! What cannot be observed runs all the same; [`Observed::seen`] then says why nothing is known.

mod board;
mod filter;
mod late;
mod preload;
mod watch;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use spolia_core::result::Stream;
use spolia_store::StatKey;

pub use preload::{TableSearch, install, loads_into, may_read_all_variables};

use crate::process::{self, Ended};
use crate::{End, sys, words};

/// The most different paths that are noted in one run.
pub const NOTES_MAX: usize = 200_000;

/// A file that was opened for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it was spelled, made absolute. Links and `..` are as they were.
    pub path: PathBuf,
    /// What `stat` said when it was first opened; `None` where it refused to say.
    pub key: Option<StatKey>,
}

/// A program that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// What `stat` said of its file then.
    pub key: StatKey,
    /// Whether every run of it said which variables it asked for. A static program does not.
    pub says_variables: bool,
    /// Whether it asked for the time of day.
    pub asks_time: bool,
}

/// What a program and its children looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Files opened for reading, links followed, in the order of their paths' bytes. What was both read and written is in both lists.
    pub read: Vec<Found>,
    /// What was there when it was looked for and is not in `read`; whether it is a folder.
    pub looked: Vec<(PathBuf, bool)>,
    /// Paths that were there when the library was asked where they lead, in order: what came of it may be part of what the program gives.
    pub resolved: Vec<PathBuf>,
    /// What was looked for, was not there, and is not there now.
    pub missing: Vec<PathBuf>,
    /// Folders whose names were listed.
    pub listed: Vec<PathBuf>,
    /// Programs started, by path. A script is here, and its interpreter in `read` only if it opened itself.
    pub executed: std::collections::BTreeMap<PathBuf, Executed>,
    /// Files opened for writing or made, in the same order.
    pub written: Vec<PathBuf>,
    /// Names of variables asked for.
    pub variables: Vec<OsString>,
    /// Whether a socket was connected: then anything may have been read.
    pub connected: bool,
    /// Whether there was more than [`NOTES_MAX`].
    pub truncated: bool,
    /// How many calls could not be looked into.
    pub unreadable: u64,
    /// How many calls were noted, stopped or not.
    pub calls: usize,
    /// How many of them were stopped.
    pub stopped: usize,
}

impl Seen {
    /// Whether everything that can be seen was seen.
    pub fn is_whole(&self) -> bool {
        !self.truncated && self.unreadable == 0
    }

    /// Whether a file of this spelling was opened for reading.
    pub fn has_read(&self, path: &Path) -> bool {
        self.read.binary_search_by(|found| found.path.as_os_str().cmp(path.as_os_str())).is_ok()
    }

    /// Whether a file of this spelling was opened for writing or made.
    pub fn has_written(&self, path: &Path) -> bool {
        self.written.binary_search_by(|known| known.as_os_str().cmp(path.as_os_str())).is_ok()
    }
}

/// What came of a run.
pub struct Observed {
    /// How it ended, what it printed, what it cost.
    pub ended: Ended,
    /// What it looked at; an error says why that is not known.
    pub seen: io::Result<Seen>,
}

/// From when on a program is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since<'f> {
    /// From its start.
    Start,
    /// Once its loader is done, where this program (its absolute path) can be left to itself until then: what its loader looks for in
    /// vain goes unseen, what it loads does not.
    Loaded(&'f Path),
}

/// Runs `command` in the caller's process group with the caller's standard input and pipes for its output. `library`
/// is what [`install`] gave; without it no variables are seen. `callers_preload` is the caller's own `LD_PRELOAD`.
/// If the thread that calls this dies, the program is killed.
///
/// # Errors
/// The program could not be started.
pub fn run(
    mut command: Command,
    library: Option<&Path>,
    callers_preload: Option<&OsStr>,
    since: Since<'_>,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<Observed> {
    let library = library.filter(|library| preload::can_be_named(library));
    if let Some(library) = library {
        command.env("LD_PRELOAD", preload::variable(library, callers_preload));
    }
    if !filter::KNOWN_MACHINE {
        let ended = process::run_beside(command, on_output)?;
        return Ok(Observed { ended, seen: Err(io::ErrorKind::Unsupported.into()) });
    }
    let (ours, theirs) = words::pair()?;
    let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // Without one every call is stopped.
    let board = library.and_then(|_| board::Board::new().ok());
    let pass = board.as_ref().map(board::Board::pass);
    let alone = callers_preload.is_none_or(OsStr::is_empty);
    let late = match since {
        Since::Loaded(program) if alone && board.is_some() => late::Late::of(program),
        Since::Loaded(_) | Since::Start => None,
    };
    match &late {
        Some(_) => late::offer(&mut command, &filter::program(pass), &ours, theirs)?,
        None => sys::observe_when_started(&mut command, filter::program(pass), theirs),
    }
    let is_late = late.is_some();
    let watcher = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        let listener = words::receive_fd_before(&ours, &stopped)?;
        io::Result::Ok(watch::watch(listener, &stopped, board.as_ref(), late))
    })?;
    // The command, and with it our copy of the other end, is gone when this returns.
    let ended = process::run_beside(command, on_output);
    drop(stop);
    let watched = watcher.join().map_err(|_| io::Error::other("the watcher ended with a bug"))?;
    let killed = End::Signalled(Signal::KILL.as_raw());
    if is_late && watched.is_err() && ended.as_ref().is_ok_and(|ended| ended.end == killed) {
        // By its own hand, or by somebody's who will do it again.
        return Err(io::Error::other("it was killed before it could be watched"));
    }
    let seen = watched.map(|(seen, left)| {
        if let Some(listener) = left {
            leave_behind(listener);
        }
        seen
    });
    Ok(Observed { ended: ended?, seen })
}

/// What still runs has to be answered for as long as it does: a copy of this process stays for that.
fn leave_behind(listener: OwnedFd) {
    match sys::fork() {
        Ok(sys::Fork::Child) => {
            let _in_one_already = rustix::process::setsid();
            sys::close_all_but(&listener);
            watch::answer_rest(&listener);
            sys::exit_now(0)
        }
        Ok(sys::Fork::Parent(_)) => {}
        // With more threads there is no copy to be made; then one of them stays as long as this process does.
        Err(_) => drop(std::thread::Builder::new().spawn(move || watch::answer_rest(&listener))),
    }
}
