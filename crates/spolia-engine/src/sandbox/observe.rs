//! Watches which project files the command looks for in vain: system call notification → root-relative path.
//! Knows no mounts.
//!
//! A seccomp filter stops each call that looks a path up and asks the watcher, a thread of pid 1 of the sandbox. The
//! watcher reads the path out of the caller's memory, tries it itself, notes it if it is not there, and lets the call go
//! on. The answer never changes what the call does, so a caller that swaps its path meanwhile fools the notes only.
//!
//! Seen: `open` (not when it may create), `stat` and its kin, `access` and its kin, `execve`, `execveat`, on the native
//! ABI and, on x86_64, on the 32-bit one too (x32 calls and 32-bit calls on arm64 go by unseen). Not seen: `readlink`,
//! directory listings, calls relative to a descriptor with an empty path, and absolute paths that do not begin with
//! the root's own path (a link from elsewhere into the tree; relative paths and links within the tree are followed).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::spec::{Bytes, Lookups};
use crate::filter::Stopped;
use crate::sys::{self, BpfInstruction, Notification, NotificationBuffer};
use crate::words;

/// The most different paths that are noted in one run.
pub const LOOKUPS_MAX: usize = 20_000;

/// The kernel follows no more links than this in one look-up.
const LINKS_MAX: usize = 40;

/// Longest path the kernel takes, with its final zero.
const PATH_MAX: usize = 4096;

const NO_FOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;

/// How a watched call names its file.
#[derive(Clone, Copy)]
struct Shape {
    /// Which argument is the folder descriptor; none: the working directory.
    folder: Option<u8>,
    /// Which argument points to the path.
    path: u8,
    /// Which argument holds flags; with one of `pass` among them the call is not a look-up by path.
    flags: Option<u8>,
    pass: u32,
    /// Flags that say that a final link is itself the thing looked for. `u64::MAX`: always so.
    no_follow: u64,
    /// The flags argument points to a `struct open_how` (whose first field are the flags of `open`).
    how: bool,
}

const fn plain(path: u8) -> Shape {
    Shape { folder: None, path, flags: None, pass: 0, no_follow: 0, how: false }
}

const fn at(flags: Option<u8>) -> Shape {
    Shape {
        folder: Some(0),
        path: 1,
        flags,
        pass: libc::AT_EMPTY_PATH as u32,
        no_follow: NO_FOLLOW,
        how: false,
    }
}

const fn open(folder: Option<u8>, path: u8) -> Shape {
    let no_follow = libc::O_NOFOLLOW as u64;
    Shape { folder, path, flags: Some(path + 1), pass: libc::O_CREAT as u32, no_follow, how: false }
}

const LSTAT: Shape = Shape { no_follow: u64::MAX, ..plain(0) };
const FACCESSAT: Shape = Shape { folder: Some(0), ..plain(1) };
const OPENAT2: Shape = Shape { pass: 0, flags: Some(2), how: true, ..open(Some(0), 1) };

/// One ABI: the audit number of the architecture, and its calls by number.
struct Abi {
    arch: u32,
    calls: &'static [(u32, Shape)],
}

#[cfg(target_arch = "x86_64")]
const ABIS: &[Abi] = &[
    Abi {
        arch: 0xc000_003e,
        calls: &[
            (257, open(Some(0), 1)),
            (262, at(Some(3))),
            (332, at(Some(2))),
            (21, plain(0)),
            (4, plain(0)),
            (6, LSTAT),
            (2, open(None, 0)),
            (59, plain(0)),
            (269, FACCESSAT),
            (439, at(Some(3))),
            (437, OPENAT2),
            (322, at(Some(4))),
        ],
    },
    // The 32-bit ABI: the numbers differ, the arguments do not.
    Abi {
        arch: 0x4000_0003,
        calls: &[
            (295, open(Some(0), 1)),
            (300, at(Some(3))),
            (383, at(Some(2))),
            (33, plain(0)),
            (195, plain(0)),
            (196, LSTAT),
            (106, plain(0)),
            (107, LSTAT),
            (5, open(None, 0)),
            (11, plain(0)),
            (307, FACCESSAT),
            (439, at(Some(3))),
            (437, OPENAT2),
            (358, at(Some(4))),
        ],
    },
];

#[cfg(target_arch = "aarch64")]
const ABIS: &[Abi] = &[Abi {
    arch: 0xc000_00b7,
    calls: &[
        (56, open(Some(0), 1)),
        (79, at(Some(3))),
        (291, at(Some(2))),
        (221, plain(0)),
        (48, FACCESSAT),
        (439, at(Some(3))),
        (437, OPENAT2),
        (281, at(Some(4))),
    ],
}];

// Elsewhere nothing is watched: the filter lets all calls by.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ABIS: &[Abi] = &[];

/// Whether this build knows the system call numbers of the machine.
pub(super) const KNOWN_MACHINE: bool = !ABIS.is_empty();

/// The filter that stops the watched calls.
pub(super) fn filter() -> Vec<BpfInstruction> {
    let abis = ABIS.iter().map(|abi| {
        let stopped = abi.calls.iter().map(|(number, shape)| {
            let pass = shape.flags.filter(|_| shape.pass != 0).map(|flags| (flags, shape.pass));
            Stopped { number: *number, pass }
        });
        (abi.arch, stopped.collect())
    });
    crate::filter::program(abis, None)
}

/// What was noted so far.
#[derive(Default)]
struct Notes {
    missing: HashSet<Vec<u8>>,
    /// Full paths as they were asked for that led to a note, so that asking again costs one `stat`.
    asked: HashSet<Vec<u8>>,
    truncated: bool,
    unreadable: u64,
}

/// The watching thread's results.
pub(super) struct Watcher {
    root: Vec<u8>,
    notes: Arc<Mutex<Notes>>,
}

impl Watcher {
    /// Starts answering calls that arrive at `listener`. `root` is the project's inside path. The thread lasts as
    /// long as the process: each note is made before the call it is about goes on, so whoever outlives the callers
    /// reads all of them.
    pub(super) fn start(listener: OwnedFd, root: &[u8]) -> io::Result<Self> {
        sys::notification_sync_wake_up(&listener);
        let buffer = NotificationBuffer::new()?;
        let notes = Arc::new(Mutex::new(Notes::default()));
        let mut work = Work { listener, buffer, root: root.to_vec(), notes: Arc::clone(&notes) };
        let body = move || {
            // Without answers the command would hang; a bug here ends the sandbox instead.
            let _guard = EndWithPanic;
            work.answer_all();
        };
        std::thread::Builder::new().stack_size(128 * 1024).spawn(body)?;
        Ok(Self { root: root.to_vec(), notes })
    }

    /// What was noted, split by what is there now. For when the command and all its descendants are gone.
    pub(super) fn finish(self) -> Lookups {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Vec<u8>> = notes.missing.drain().collect();
        all.sort_unstable();
        let is_there =
            |path: &Vec<u8>| rustix::fs::lstat([&self.root[..], b"/", &path[..]].concat().as_slice()).is_ok();
        let (made, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(is_there);
        Lookups {
            missing: missing.into_iter().map(Bytes).collect(),
            made: made.into_iter().map(Bytes).collect(),
            truncated: notes.truncated,
            unreadable: notes.unreadable,
        }
    }
}

/// Ends the process when a panic passes by, instead of unwinding into what this process is a forked copy of.
pub(super) struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            sys::exit_now(super::launch::EXIT_BUG);
        }
    }
}

/// The watching thread's own.
struct Work {
    listener: OwnedFd,
    buffer: NotificationBuffer,
    root: Vec<u8>,
    notes: Arc<Mutex<Notes>>,
}

impl Work {
    /// Answers until no caller is left.
    fn answer_all(&mut self) {
        loop {
            match self.buffer.receive(&self.listener) {
                Ok(call) => {
                    self.note(&call);
                    // ENOENT: the caller was killed meanwhile.
                    drop(self.buffer.let_go_on(&self.listener, call.id));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The caller was killed before we looked, or the last one is gone.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !self.is_over() => {}
                Err(_) => return,
            }
        }
    }

    fn is_over(&self) -> bool {
        words::is_hung_up(&self.listener)
    }

    fn note(&mut self, call: &Notification) {
        match self.missing_of(call) {
            Ok(Some((asked, missing))) => {
                // Only now: while the call waits its process cannot have gone and its number cannot be another's.
                if sys::notification_is_valid(&self.listener, call.id) {
                    self.lock().add(asked, missing);
                }
            }
            Ok(None) => {}
            Err(_) => {
                if sys::notification_is_valid(&self.listener, call.id) {
                    self.lock().unreadable += 1;
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The full path asked for and the root-relative path that is not there; none if all is there or outside.
    fn missing_of(&self, call: &Notification) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(shape) = shape_of(call) else { return Ok(None) };
        let Some(path) = read_path(call, shape, &self.root)? else { return Ok(None) };
        let Some(full) = self.full_path(call, shape, path)? else { return Ok(None) };
        let Some(follow) = follows(call, shape)? else { return Ok(None) };
        let tried =
            if follow { rustix::fs::stat(full.as_slice()) } else { rustix::fs::lstat(full.as_slice()) };
        if !matches!(tried, Err(Errno::NOENT | Errno::NOTDIR)) || self.lock().asked.contains(&full) {
            return Ok(None);
        }
        Ok(first_missing(&full, &self.root, follow).map(|missing| (full, missing)))
    }

    /// Makes the path absolute; none if it cannot lie in the root.
    fn full_path(&self, call: &Notification, shape: Shape, path: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        if path.first() == Some(&b'/') {
            return Ok(Some(path));
        }
        let folder = shape.folder.map(|index| call.data.args[usize::from(index)] as i32);
        let link = match folder {
            None | Some(libc::AT_FDCWD) => format!("/proc/{}/cwd", call.pid),
            // The call will fail with EBADF.
            Some(fd) if fd < 0 => return Ok(None),
            Some(fd) => format!("/proc/{}/fd/{fd}", call.pid),
        };
        let mut full = match rustix::fs::readlink(link, Vec::with_capacity(256)) {
            Ok(base) => base.into_bytes(),
            // Not an open descriptor, or a process that ended.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let climbs = path.windows(2).any(|pair| pair == b"..");
        if !climbs && !is_within(&full, &self.root) {
            return Ok(None);
        }
        full.push(b'/');
        full.extend_from_slice(&path);
        Ok(Some(full))
    }
}

impl Notes {
    fn add(&mut self, asked: Vec<u8>, missing: Vec<u8>) {
        if self.missing.len() >= LOOKUPS_MAX && !self.missing.contains(&missing) {
            self.truncated = true;
            return;
        }
        if self.asked.len() < LOOKUPS_MAX {
            self.asked.insert(asked);
        }
        self.missing.insert(missing);
    }
}

fn shape_of(call: &Notification) -> Option<Shape> {
    let abi = ABIS.iter().find(|abi| abi.arch == call.data.arch)?;
    abi.calls.iter().find(|(number, _)| *number == call.data.nr as u32).map(|(_, shape)| *shape)
}

/// Whether a final link is followed; none if the call may create the file.
fn follows(call: &Notification, shape: Shape) -> io::Result<Option<bool>> {
    if shape.no_follow == u64::MAX {
        return Ok(Some(false));
    }
    let Some(index) = shape.flags else { return Ok(Some(true)) };
    let mut flags = call.data.args[usize::from(index)];
    if shape.how {
        let mut field = [0; 8];
        if sys::read_memory(call.pid, flags, &mut field)? < field.len() {
            return Ok(None);
        }
        flags = u64::from_ne_bytes(field);
        if flags & libc::O_CREAT as u64 != 0 {
            return Ok(None);
        }
    }
    Ok(Some(flags & shape.no_follow == 0))
}

/// The path argument; none if it is empty, no path at all, or surely outside the root.
fn read_path(call: &Notification, shape: Shape, root: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let address = call.data.args[usize::from(shape.path)];
    if address == 0 {
        return Ok(None);
    }
    let mut buffer = [0; PATH_MAX];
    // Most paths are short; a second, longer reading is rare.
    for len in [256, PATH_MAX] {
        let count = match sys::read_memory(call.pid, address, &mut buffer[..len]) {
            // The call itself will fail the same way, or its process is gone.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EFAULT | libc::ESRCH)) => {
                return Ok(None);
            }
            other => other?,
        };
        let end = buffer[..count].iter().position(|byte| *byte == 0);
        let path = &buffer[..end.unwrap_or(count)];
        if path.is_empty() || surely_outside(path, root) {
            return Ok(None);
        }
        if end.is_some() {
            return Ok(Some(path.to_vec()));
        }
    }
    // Longer than any path.
    Ok(None)
}

/// Whether an absolute path, or the beginning of one, cannot be in `root` as it is spelled.
fn surely_outside(path: &[u8], root: &[u8]) -> bool {
    let odd = |path: &[u8]| path.windows(2).any(|pair| pair == b"//" || pair == b"/.");
    path[0] == b'/' && !is_within(path, root) && !odd(path)
}

/// Whether `path` is `root` or beneath it, by spelling.
fn is_within(path: &[u8], root: &[u8]) -> bool {
    path.strip_prefix(root).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Walks `full` as the kernel would, through links, to the first thing that is not there. Gives the root-relative path
/// that was looked for; none if it is there after all, or lies outside `root`.
fn first_missing(full: &[u8], root: &[u8], follow: bool) -> Option<Vec<u8>> {
    let (mut here, rest) = match full.strip_prefix(root) {
        Some(rest) if matches!(rest.first(), Some(b'/')) => (root.to_vec(), rest),
        _ => (Vec::new(), full),
    };
    let mut todo: Vec<Vec<u8>> = components(rest).rev().map(<[u8]>::to_vec).collect();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            here.truncate(here.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            continue;
        }
        let parent = here.len();
        here.push(b'/');
        here.extend_from_slice(&name);
        match rustix::fs::lstat(here.as_slice()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return relative_missing(here, todo, root),
            Err(_) => return None,
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink => {}
            Ok(_) if todo.is_empty() && !follow => return None,
            Ok(_) => {
                links += 1;
                let target = rustix::fs::readlink(here.as_slice(), Vec::new()).ok()?.into_bytes();
                if links > LINKS_MAX {
                    return None;
                }
                here.truncate(if target.first() == Some(&b'/') { 0 } else { parent });
                todo.extend(components(&target).rev().map(<[u8]>::to_vec));
            }
        }
    }
    None
}

/// The missing thing with what was wanted of it, relative to the root. A `..` behind a missing folder leads nowhere:
/// then it is the folder that was looked for.
fn relative_missing(mut missing: Vec<u8>, mut rest: Vec<Vec<u8>>, root: &[u8]) -> Option<Vec<u8>> {
    if rest.iter().any(|name| name == b"..") {
        rest.clear();
    }
    for name in rest.iter().rev() {
        missing.push(b'/');
        missing.extend_from_slice(name);
    }
    let relative = missing.strip_prefix(root)?.strip_prefix(b"/")?;
    (!relative.is_empty()).then(|| relative.to_vec())
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// Whether `/proc` is this pid namespace's own, so that processes can be looked up there by number.
pub(super) fn proc_is_ours() -> bool {
    rustix::fs::readlink("/proc/self", Vec::new()).is_ok_and(|me| {
        Path::new(OsStr::from_bytes(me.as_bytes())) == Path::new(&std::process::id().to_string())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    /// Runs the filter as the kernel would.
    fn run(program: &[BpfInstruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = vec![number, arch, 0, 0];
        data.extend(args.iter().flat_map(|arg| [*arg as u32, (*arg >> 32) as u32]));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let code = u32::from(step.code);
            let test = match code & 0xf0 {
                libc::BPF_JSET => accumulator & step.k != 0,
                _ => accumulator == step.k,
            };
            match code & 7 {
                libc::BPF_LD => accumulator = data[step.k as usize / 4],
                libc::BPF_JMP => at += usize::from(if test { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn filter_stops_look_ups_and_nothing_else() {
        let program = filter();
        let (notify, allow) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        for abi in ABIS {
            for (number, shape) in abi.calls {
                assert_eq!(run(&program, abi.arch, *number, [0; 6]), notify, "{number}");
                if let Some(flags) = shape.flags.filter(|_| shape.pass != 0) {
                    let mut args = [0; 6];
                    args[usize::from(flags)] = u64::from(shape.pass) | 1;
                    assert_eq!(run(&program, abi.arch, *number, args), allow, "{number} {}", shape.pass);
                }
            }
            // `read` and `readlinkat`, or their like: no table holds them.
            for number in [0, 267, 999, 0x4000_0101] {
                assert!(!abi.calls.iter().any(|(known, _)| *known == number));
                assert_eq!(run(&program, abi.arch, number, [0; 6]), allow, "{number}");
            }
        }
        assert_eq!(run(&program, 1, 257, [0; 6]), allow);
    }

    #[test]
    fn spelling_decides_only_what_it_can() {
        let check = |path: &[u8], expect| assert_eq!(surely_outside(path, b"/s/root"), expect, "{path:?}");
        check(b"/usr/include/stdio.h", true);
        check(b"/s/rootling", true);
        check(b"/s/root", false);
        check(b"/s/root/a", false);
        check(b"//s/root/a", false);
        check(b"/usr/../s/root/a", false);
        check(b"a", false);
    }

    #[test]
    fn walk_finds_what_is_missing_through_links() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap().into_os_string().into_vec();
        let path = |name: &str| [&root[..], b"/", name.as_bytes()].concat();
        let fs_path = |name: &str| std::path::PathBuf::from(OsStr::from_bytes(&path(name)));
        std::fs::create_dir_all(fs_path("sub/deep")).unwrap();
        std::fs::write(fs_path("file"), "").unwrap();
        std::os::unix::fs::symlink("sub/deep", fs_path("link")).unwrap();
        std::os::unix::fs::symlink("gone", fs_path("dangling")).unwrap();
        std::os::unix::fs::symlink("/nowhere-at-all/x", fs_path("out")).unwrap();
        std::os::unix::fs::symlink("loop", fs_path("loop")).unwrap();
        let check = |name: &str, follow, expect: Option<&str>| {
            let found = first_missing(&path(name), &root, follow);
            assert_eq!(found.as_deref().map(String::from_utf8_lossy).as_deref(), expect, "{name}");
        };
        check("a", true, Some("a"));
        check("sub/x/y", true, Some("sub/x/y"));
        check("./sub//x", true, Some("sub/x"));
        check("link/x", true, Some("sub/deep/x"));
        check("link/../x", true, Some("sub/x"));
        check("gone/../file", true, Some("gone"));
        check("file/x", true, Some("file/x"));
        check("dangling", true, Some("gone"));
        check("dangling", false, None);
        check("out", true, None);
        check("loop", true, None);
        check("file", true, None);
        check("../nowhere-at-all", true, None);
    }
}
