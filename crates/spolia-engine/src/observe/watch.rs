//! Answers the stopped calls of an observed program and notes what they were about. Knows no store.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use spolia_store::StatKey;

use super::board::{self, Board, Came, Note};
use super::filter::{self, Kind, Watched};
use super::late::Late;
use super::preload::{TELL, Word};
use super::{Executed, Found, NOTES_MAX, Seen};
use crate::sys::{self, Notification, NotificationBuffer};

/// Longest path the kernel takes, with its final zero.
const PATH_MAX: usize = 4096;
/// What one reading of a path takes first; most are shorter.
const PATH_FIRST: usize = 256;
const PAGE: u64 = 4096;

/// Answers until nobody is left to be answered or `stop` becomes readable, and gives back what was noted, on the `board` as
/// well. `late` is the program that has installed its filter itself. Where somebody is left, the listener comes back too: whoever closes it makes their calls fail.
pub(super) fn watch(
    listener: OwnedFd,
    stop: &OwnedFd,
    board: Option<&Board>,
    late: Option<Late>,
) -> (Seen, Option<OwnedFd>) {
    sys::notification_sync_wake_up(&listener);
    let Ok(buffer) = NotificationBuffer::new() else {
        return (Seen { unreadable: 1, ..Seen::default() }, Some(listener));
    };
    let mut watcher = Watcher { listener, buffer, notes: Notes { late, ..Notes::default() }, board };
    let left = watcher.answer_all(stop);
    if let Some(board) = board {
        match board.content() {
            Ok(content) => watcher.notes.take(&content),
            Err(_) => watcher.notes.unreadable += 1,
        }
    }
    let seen = watcher.notes.into_seen();
    (seen, left.then_some(watcher.listener))
}

/// Goes on answering, noting nothing, until nobody is left.
pub(super) fn answer_rest(listener: &OwnedFd) {
    let Ok(mut buffer) = NotificationBuffer::new() else { return };
    loop {
        match next(&mut buffer, listener, None) {
            Next::Call(call) => drop(buffer.let_go_on(listener, call.id)),
            Next::Again => {}
            Next::Over | Next::Stopped => return,
        }
    }
}

enum Next {
    Call(Notification),
    Again,
    Stopped,
    Over,
}

fn next(buffer: &mut NotificationBuffer, listener: &OwnedFd, stop: Option<&OwnedFd>) -> Next {
    let ready = {
        let second = stop.unwrap_or(listener);
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
        if let Err(error) = poll(&mut fds, None) {
            return if error == Errno::INTR { Next::Again } else { Next::Over };
        }
        [fds[0].revents(), fds[1].revents()]
    };
    if ready[0].contains(PollFlags::IN) {
        return match buffer.receive(listener) {
            Ok(call) => Next::Call(call),
            // The caller was killed before we looked.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Next::Again,
            Err(_) => Next::Over,
        };
    }
    if ready[0].intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Next::Over;
    }
    if stop.is_some() && !ready[1].is_empty() { Next::Stopped } else { Next::Again }
}

struct Watcher<'w> {
    listener: OwnedFd,
    buffer: NotificationBuffer,
    notes: Notes,
    board: Option<&'w Board>,
}

impl Watcher<'_> {
    /// Whether somebody is left.
    fn answer_all(&mut self, stop: &OwnedFd) -> bool {
        loop {
            match next(&mut self.buffer, &self.listener, Some(stop)) {
                Next::Call(call) => {
                    self.notes.stopped += 1;
                    let wants_board = self.note(&call);
                    let given = wants_board.then_some(self.board).flatten().is_some_and(|board| {
                        sys::notification_give(&self.listener, call.id, board.file()).is_ok()
                    });
                    if !given {
                        // ENOENT: the caller was killed meanwhile.
                        drop(self.buffer.let_go_on(&self.listener, call.id));
                    }
                }
                Next::Again => {}
                Next::Stopped => return true,
                Next::Over => return false,
            }
        }
    }

    /// Whether the caller has just loaded the library, and is to be given the board.
    fn note(&mut self, call: &Notification) -> bool {
        let Some(watched) = filter::watched(call.data.arch, call.data.nr) else { return false };
        // Notes are made of a process that cannot have gone while its call waits; if it was killed, they are of
        // whoever has its number, and only then is the second look needed.
        let noted = match watched.kind {
            Kind::Connect => {
                self.notes.connected |= is_network(call);
                Ok(false)
            }
            Kind::List => self.note_listing(call).map(|()| false),
            _ => self.note_path(call, watched),
        };
        if noted.is_err() && sys::notification_is_valid(&self.listener, call.id) {
            self.notes.unreadable += 1;
        }
        noted.unwrap_or(false)
    }

    fn note_listing(&mut self, call: &Notification) -> io::Result<()> {
        let link = format!("/proc/{}/fd/{}", call.pid, call.data.args[0] as i32);
        let Some(folder) = read_link(link)? else { return Ok(()) };
        if folder.starts_with(b"/proc/") {
            return Ok(());
        }
        if sys::notification_is_valid(&self.listener, call.id) && self.notes.has_room() {
            self.notes.listed.insert(folder);
        }
        Ok(())
    }

    fn note_path(&mut self, call: &Notification, watched: Watched) -> io::Result<bool> {
        let Some(path) = read_path(call, watched.path)? else { return Ok(false) };
        let folder = watched.folder.map(|index| call.data.args[usize::from(index)] as i32);
        if folder == Some(TELL) {
            let Some(word) = Word::parse(&path) else { return Ok(false) };
            self.notes.say(call.pid, &word);
            return Ok(word == Word::Loaded);
        }
        let Some(full) = full_path(call, folder, path)? else { return Ok(false) };
        if is_aside(&full) || !self.notes.has_room() {
            return Ok(false);
        }
        let Some(intent) = intent(call, watched)? else { return Ok(false) };
        match intent {
            Intent::Read => self.notes.read(full),
            Intent::Write => drop(self.notes.written.insert(full)),
            Intent::Both => {
                self.notes.read(full.clone());
                self.notes.written.insert(full);
            }
            Intent::Look => self.notes.look(full),
            Intent::Run => self.notes.run(call.pid, full),
        }
        Ok(false)
    }
}

/// What a call is about to do with its path.
enum Intent {
    Read,
    Write,
    Both,
    Look,
    Run,
}

fn intent(call: &Notification, watched: Watched) -> io::Result<Option<Intent>> {
    let flags = match watched.kind {
        Kind::Execute => return Ok(Some(Intent::Run)),
        Kind::Look => return Ok(Some(Intent::Look)),
        Kind::Create => return Ok(Some(Intent::Write)),
        Kind::List | Kind::Connect => return Ok(None),
        Kind::Open(flags) => call.data.args[usize::from(flags)],
        Kind::OpenHow(how) => {
            let mut field = [0; 8];
            if sys::read_memory(call.pid, call.data.args[usize::from(how)], &mut field)? < field.len() {
                return Ok(None);
            }
            u64::from_ne_bytes(field)
        }
    };
    let has = |flag: i32| flags & flag as u64 != 0;
    if has(libc::O_PATH) {
        return Ok(Some(Intent::Look));
    }
    let truncated = has(libc::O_TRUNC) || (has(libc::O_CREAT) && has(libc::O_EXCL));
    Ok(Some(match (flags & libc::O_ACCMODE as u64) as i32 {
        libc::O_RDONLY if has(libc::O_CREAT) => Intent::Both,
        libc::O_RDONLY => Intent::Read,
        libc::O_WRONLY => Intent::Write,
        _ if truncated => Intent::Write,
        _ => Intent::Both,
    }))
}

/// Whether an address leads to another machine, or to a server on this one.
fn is_network(call: &Notification) -> bool {
    let mut address = [0; 128];
    let Ok(count) = sys::read_memory(call.pid, call.data.args[1], &mut address) else { return true };
    let family = i32::from(u16::from_ne_bytes([address[0], address[1]]));
    // The name service's cache and the log are asked by libc itself, and answer nothing that a compiler keeps.
    let is_libcs =
        |address: &[u8]| address[2..].starts_with(b"/var/run/nscd/") || address[2..].starts_with(b"/dev/log");
    match family {
        libc::AF_UNIX => !is_libcs(&address[..count.max(2)]),
        libc::AF_INET | libc::AF_INET6 => true,
        _ => false,
    }
}

/// The path argument; none if it is empty or no path at all.
fn read_path(call: &Notification, index: u8) -> io::Result<Option<Vec<u8>>> {
    let address = call.data.args[usize::from(index)];
    if address == 0 {
        return Ok(None);
    }
    let mut buffer = [0; PATH_MAX];
    let mut length = 0;
    while length < PATH_MAX {
        // Not over the end of a page more than needed: the next may not be there.
        let at = address + length as u64;
        let to_page_end = (PAGE - at % PAGE) as usize;
        let wanted = if length == 0 && to_page_end >= PATH_FIRST { PATH_FIRST } else { to_page_end };
        let end = (length + wanted).min(PATH_MAX);
        let count = match sys::read_memory(call.pid, at, &mut buffer[length..end]) {
            // The call itself will fail the same way, or its process is gone.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EFAULT | libc::ESRCH)) => {
                return Ok(None);
            }
            other => other?,
        };
        if let Some(zero) = buffer[length..length + count].iter().position(|byte| *byte == 0) {
            let path = &buffer[..length + zero];
            return Ok((!path.is_empty()).then(|| path.to_vec()));
        }
        if count == 0 {
            return Ok(None);
        }
        length += count;
    }
    Ok(None)
}

/// Makes the path absolute, as the caller spells it; none if the call will fail anyway.
fn full_path(call: &Notification, folder: Option<i32>, path: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    if path.first() == Some(&b'/') {
        return Ok(Some(path));
    }
    let link = match folder {
        None | Some(libc::AT_FDCWD) => format!("/proc/{}/cwd", call.pid),
        Some(fd) if fd < 0 => return Ok(None),
        Some(fd) => format!("/proc/{}/fd/{fd}", call.pid),
    };
    Ok(read_link(link)?.map(|folder| join(&folder, &path)))
}

/// A path as it is spelled, made absolute.
pub(super) fn join(folder: &[u8], path: &[u8]) -> Vec<u8> {
    if path.first() == Some(&b'/') {
        return path.to_vec();
    }
    let mut full = Vec::with_capacity(folder.len() + 1 + path.len());
    full.extend_from_slice(folder);
    if full.last() != Some(&b'/') {
        full.push(b'/');
    }
    full.extend_from_slice(path.strip_prefix(b"./").unwrap_or(path));
    full
}

/// What is `/proc/self` for one is it not for another, and nothing there is a file.
fn is_aside(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") || path.starts_with(b"/dev/")
}

/// What a link in `/proc` leads to; none if it is not there any more.
fn read_link(link: String) -> io::Result<Option<Vec<u8>>> {
    match rustix::fs::readlink(link, Vec::with_capacity(PATH_FIRST)) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What was noted so far.
#[derive(Default)]
struct Notes {
    read: HashMap<Vec<u8>, Option<StatKey>>,
    looked: HashMap<Vec<u8>, bool>,
    resolved: BTreeSet<Vec<u8>>,
    missing: HashSet<Vec<u8>>,
    written: HashSet<Vec<u8>>,
    listed: HashSet<Vec<u8>>,
    executed: BTreeMap<Vec<u8>, Executed>,
    /// By process: the program that it has become and that has not said that it is watched.
    silent: HashMap<u32, Vec<u8>>,
    variables: BTreeSet<Vec<u8>>,
    clock: BTreeSet<Vec<u8>>,
    programs: HashMap<u32, Vec<u8>>,
    /// The first program, while it has not said that it is watched: its start was not.
    late: Option<Late>,
    connected: bool,
    unreadable: u64,
    count: usize,
    stopped: usize,
}

impl Notes {
    /// What stands on the board. Its calls were made between those that were stopped, in an order that is not known.
    fn take(&mut self, content: &[u8]) {
        for note in board::notes(content) {
            match note {
                Note::Named(name) => drop(self.variables.insert(name.to_vec())),
                Note::Lost => self.unreadable += 1,
                Note::Opened(path, _) | Note::Looked(path, _) | Note::Resolved(path, _)
                    if is_aside(&path) || !self.has_room() => {}
                Note::Resolved(path, Came::Found(..)) => drop(self.resolved.insert(path)),
                Note::Resolved(..) => {}
                Note::Opened(path, Came::Found(_, true)) => drop(self.looked.insert(path, true)),
                Note::Opened(path, Came::Found(key, false)) => self.read_at(path, key),
                Note::Opened(path, Came::Refused) => drop(self.read.entry(path).or_insert(None)),
                Note::Looked(path, Came::Found(_, folder)) => {
                    if !self.read.contains_key(&path) && !self.missing.contains(&path) {
                        self.looked.entry(path).or_insert(folder);
                    }
                }
                Note::Looked(_, Came::Refused) => {}
                Note::Opened(path, Came::Missing) => {
                    if !self.read.contains_key(&path) {
                        self.missing.insert(path);
                    }
                }
                Note::Looked(path, Came::Missing) => {
                    if !self.read.contains_key(&path) && !self.looked.contains_key(&path) {
                        self.missing.insert(path);
                    }
                }
            }
        }
    }

    /// It had this `stat` when it was read, and may have been read before or after.
    fn read_at(&mut self, path: Vec<u8>, key: StatKey) {
        match self.read.entry(path) {
            Entry::Vacant(entry) => drop(entry.insert(Some(key))),
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                *known = known.map(|known| earlier(known, key));
            }
        }
    }

    fn count_of_paths(&self) -> usize {
        let found = self.read.len() + self.looked.len() + self.resolved.len();
        found + self.missing.len() + self.written.len()
    }

    fn has_room(&mut self) -> bool {
        self.count += 1;
        self.count_of_paths() < NOTES_MAX
    }

    /// Noted before the call goes on, so that this is what was there when the caller opened it.
    fn read(&mut self, path: Vec<u8>) {
        if self.read.contains_key(&path) || self.missing.contains(&path) && !is_there(&path) {
            return;
        }
        match rustix::fs::stat(path.as_slice()) {
            Ok(stat) => {
                let folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
                // Opening a folder reads nothing yet; that it is there was learnt.
                if folder {
                    self.looked.insert(path, true);
                } else {
                    self.read.insert(path, Some(StatKey::of(&stat)));
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => drop(self.missing.insert(path)),
            Err(_) => drop(self.read.insert(path, None)),
        }
    }

    fn look(&mut self, path: Vec<u8>) {
        if self.looked.contains_key(&path) || self.missing.contains(&path) || self.read.contains_key(&path) {
            return;
        }
        match rustix::fs::stat(path.as_slice()) {
            Ok(stat) => {
                let folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
                self.looked.insert(path, folder);
            }
            Err(Errno::NOENT | Errno::NOTDIR) => drop(self.missing.insert(path)),
            Err(_) => {}
        }
    }

    fn run(&mut self, pid: u32, path: Vec<u8>) {
        let Ok(stat) = rustix::fs::stat(path.as_slice()) else {
            self.missing.insert(path);
            return;
        };
        self.started(pid, path, StatKey::of(&stat));
    }

    fn started(&mut self, pid: u32, path: Vec<u8>, key: StatKey) {
        self.executed.entry(path.clone()).or_insert(Executed { key, says_variables: true, asks_time: false });
        if let Some(earlier) = self.silent.insert(pid, path.clone()) {
            self.mark_silent(&earlier);
        }
        self.programs.insert(pid, path);
    }

    fn mark_silent(&mut self, program: &[u8]) {
        if let Some(executed) = self.executed.get_mut(program) {
            executed.says_variables = false;
        }
    }

    fn say(&mut self, pid: u32, word: &Word<'_>) {
        match word {
            Word::Loaded => {
                if let Some(Late { program, key }) = self.late.take() {
                    self.started(pid, program, key);
                }
                self.silent.remove(&pid);
            }
            Word::Variable(name) => drop(self.variables.insert(name.to_vec())),
            Word::Clock => {
                let program = self.program_of(pid).cloned().unwrap_or_default();
                self.clock.insert(program);
            }
        }
    }

    /// What a thread runs, or a copy of a process that has become nothing else: calls come from threads, programs are started
    /// as processes.
    fn program_of(&self, thread: u32) -> Option<&Vec<u8>> {
        const COPIES_MAX: usize = 16;
        let mut at = thread;
        for _ in 0..COPIES_MAX {
            if let Some(program) = self.programs.get(&at) {
                return Some(program);
            }
            let status = std::fs::read_to_string(format!("/proc/{at}/status")).ok()?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u32>().ok()
            };
            let process = field("Tgid:")?;
            at = if process == at { field("PPid:")? } else { process };
        }
        None
    }

    fn into_seen(mut self) -> Seen {
        let silent: Vec<Vec<u8>> = self.silent.drain().map(|(_, path)| path).collect();
        for program in silent {
            self.mark_silent(&program);
        }
        let path = |raw: Vec<u8>| PathBuf::from(OsString::from_vec(raw));
        let truncated = self.count_of_paths() >= NOTES_MAX;
        let (clock, written) = (self.clock, self.written);
        let asks_time = |program: &Vec<u8>| clock.contains(program);
        let executed = self.executed.into_iter().map(|(program, executed)| {
            let asks_time = asks_time(&program);
            (path(program), Executed { asks_time, ..executed })
        });
        let executed = executed.collect();
        // What was made by the program itself was not found by it.
        let missing = self.missing.into_iter().filter(|raw| !written.contains(raw) && !is_there(raw));
        let mut seen = Seen {
            read: self.read.into_iter().map(|(raw, key)| Found { path: path(raw), key }).collect(),
            looked: self.looked.into_iter().map(|(raw, folder)| (path(raw), folder)).collect(),
            resolved: self.resolved.into_iter().map(path).collect(),
            missing: missing.map(path).collect(),
            listed: self.listed.into_iter().map(path).collect(),
            executed,
            variables: self.variables.into_iter().map(OsString::from_vec).collect(),
            connected: self.connected,
            truncated,
            unreadable: self.unreadable,
            calls: self.count,
            stopped: self.stopped,
            written: written.into_iter().map(path).collect(),
        };
        // Paths are compared part by part, which takes several times as long.
        seen.read.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        seen.looked.sort_unstable_by(|(a, _), (b, _)| a.as_os_str().cmp(b.as_os_str()));
        for paths in [&mut seen.missing, &mut seen.listed, &mut seen.written] {
            paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        }
        seen
    }
}

/// The first of two states of one file; one that no file has, where it was exchanged.
fn earlier(a: StatKey, b: StatKey) -> StatKey {
    if (a.dev, a.ino) != (b.dev, b.ino) {
        return StatKey { dev: u64::MAX, ino: u64::MAX, size: u64::MAX, mtime_ns: 0, ctime_ns: 0 };
    }
    if b.ctime_ns < a.ctime_ns { b } else { a }
}

fn is_there(path: &[u8]) -> bool {
    rustix::fs::stat(path).is_ok()
}
