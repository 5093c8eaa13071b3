//! Locks among all processes of this machine, which the kernel drops when their holder dies in any way.
//! Knows no actions.
//!
//! - [`LockFile`]: as many locks as there are names, in one file that stays. A lock is an open file description
//!   lock (`F_OFD_SETLK`) on the one byte whose offset the name's digest gives, so that taking one makes
//!   and removes no file: where ext4 has no journal, each file removed makes the next ones dear for minutes.
//! - [`KeyLock`]: one file for one lock, by `flock(2)`. It holds the holder's process id for messages, and is
//!   unlinked by the holder before it lets go; whoever got the lock on a file that has lost its name
//!   meanwhile starts again.
//!
//! ```text
//! lock file = record{0..1024}             no record where nobody is told who has a lock; else record n is of the last holder alone of a name with digest mod 1024 = n
//! record    = tag8 u32le(pid) zero4       tag = bytes 8..16 of the name's digest; for messages only
//! ```

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::FcntlArg;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use spolia_core::Digest;

use crate::digests::StatKey;
use crate::local::{LocalStore, io};
use crate::store::StoreError;

/// How long the first wait is, ms; each next one is twice as long, up to the second number.
const WAIT_MS: (u64, u64) = (1, 50);
/// How often a file that vanishes under the lock is opened again before giving up.
const REOPENS_MAX: usize = 10_000;
/// The holders that a lock file remembers.
const RECORDS: u64 = 1024;
/// How many descriptions of a lock file stay open for the next lock: a removed and a made one cost more than a look.
const SPARE_MAX: usize = 32;
/// The length of one such record.
const RECORD_BYTES: usize = 16;
/// The lock file of a store, below `locks/`.
pub(crate) const KEYS_FILE: &str = "keys";

/// Someone else has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long the caller has waited.
    pub waited: Duration,
    /// The holder's process id, where it could be read; in a namespace of the holder's own perhaps.
    pub holder: Option<u32>,
}

/// Whether others may hold a lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nobody else.
    Alone,
    /// Others who share it.
    Shared,
}

/// A file of locks, one for each name.
#[derive(Clone, Debug)]
pub struct LockFile {
    path: PathBuf,
    /// Whether holders are written down.
    names_holders: bool,
    /// Opened before, with no lock held by them.
    spare: Arc<Mutex<Vec<File>>>,
}

/// A lock in a [`LockFile`]. Dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    /// Each lock has a file description of its own while it is held; `None` once it is let go.
    file: Option<File>,
    byte: i64,
    spare: Arc<Mutex<Vec<File>>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        // Where that fails, closing it lets go.
        if set_lock(&file, libc::F_UNLCK, self.byte).is_ok() {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < SPARE_MAX {
                spare.push(file);
            }
        }
    }
}

impl LockFile {
    /// The file at `path`, which is made with its folder by the first lock.
    pub fn new(path: PathBuf) -> Self {
        Self { path, names_holders: true, spare: Arc::default() }
    }

    /// The same, where nobody is told who has a lock: that costs a write for each.
    pub fn without_holders(path: PathBuf) -> Self {
        Self { names_holders: false, ..Self::new(path) }
    }

    /// A description of the file with no lock held by it.
    fn open(&self) -> Result<File, StoreError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // One that has lost its name is nobody else's file.
        match spare.filter(|file| rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)) {
            Some(file) => Ok(file),
            None => open(&self.path),
        }
    }

    /// Takes the lock called `name`. While someone else has it, `wait` is called before every next try, a
    /// few times a second at least; once it answers `false`, this gives up with `None`.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the file cannot be made or the file system has no locks.
    pub fn acquire(
        &self,
        name: &Digest,
        hold: Hold,
        wait: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<Lock>, StoreError> {
        let file = self.open()?;
        let record = Record::of(name);
        let mut patience = Patience::new();
        loop {
            match record.try_lock(&file, hold) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    if !patience.wait(wait, &|| record.holder(&file)) {
                        return Ok(None);
                    }
                }
                Err(errno) => return Err(io("lock", &self.path, errno)),
            }
        }
        if hold == Hold::Alone && self.names_holders {
            record.write_holder(&file);
        }
        Ok(Some(Lock { file: Some(file), byte: record.byte, spare: self.spare.clone() }))
    }
}

/// Where the lock of one name is, and who has it.
struct Record {
    /// The byte that is locked.
    byte: i64,
    /// Where the holder is written.
    at: u64,
    tag: [u8; 8],
}

impl Record {
    fn of(name: &Digest) -> Self {
        let words = name.as_bytes();
        let (mut first, mut tag) = ([0; 8], [0; 8]);
        first.copy_from_slice(&words[..8]);
        tag.copy_from_slice(&words[8..16]);
        let number = u64::from_le_bytes(first);
        Self {
            // Half of what an offset can be, so that its end is one as well.
            byte: (number >> 2).cast_signed(),
            at: number % RECORDS * RECORD_BYTES as u64,
            tag,
        }
    }

    fn try_lock(&self, file: &File, hold: Hold) -> Result<(), Errno> {
        let kind = match hold {
            Hold::Alone => libc::F_WRLCK,
            Hold::Shared => libc::F_RDLCK,
        };
        set_lock(file, kind, self.byte)
    }

    fn write_holder(&self, file: &File) {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&self.tag);
        record[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        // For messages only.
        let _unwritten = file.write_all_at(&record, self.at);
    }

    fn holder(&self, file: &File) -> Option<u32> {
        let mut record = [0; RECORD_BYTES];
        file.read_exact_at(&mut record, self.at).ok()?;
        let mut pid = [0; 4];
        pid.copy_from_slice(&record[8..12]);
        (record[..8] == self.tag).then(|| u32::from_le_bytes(pid))
    }
}

/// `kind` is one of `F_WRLCK`, `F_RDLCK` and `F_UNLCK`.
fn set_lock(file: &File, kind: libc::c_int, byte: i64) -> Result<(), Errno> {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    let locked = nix::fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&range));
    locked.map(drop).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Waits longer each time.
struct Patience {
    pause_ms: u64,
    since: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { pause_ms: WAIT_MS.0, since: monotonic() }
    }

    /// Tells `wait` who has the lock, and waits a little; `false` where it would rather give up.
    fn wait(&mut self, wait: &mut dyn FnMut(Waiting) -> bool, holder: &dyn Fn() -> Option<u32>) -> bool {
        let waited = monotonic().saturating_sub(self.since);
        if !wait(Waiting { waited, holder: holder() }) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(self.pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(WAIT_MS.1);
        true
    }
}

/// A lock that is a file. Dropping it lets go and removes the file.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    // Closing it is what lets go.
    _file: File,
}

impl LocalStore {
    /// The lock on `key`, alone: see [`LockFile::acquire`].
    ///
    /// # Errors
    /// Those of [`LockFile::acquire`]. To go on without a lock is harmless: at worst one action runs twice.
    pub fn lock(
        &self,
        key: &Digest,
        wait: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<Lock>, StoreError> {
        let locks = self.locks.get_or_init(|| LockFile::new(self.base().join("locks").join(KEYS_FILE)));
        locks.acquire(key, Hold::Alone, wait)
    }
}

impl KeyLock {
    /// Takes the lock on the file `path`, which is made where it is missing, with its folder. While
    /// someone else has it, `wait` is called before every next try, a few times a second at least; once
    /// it answers `false`, this gives up with `None`.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the file cannot be made or the file system has no locks.
    pub fn acquire(path: &Path, wait: &mut dyn FnMut(Waiting) -> bool) -> Result<Option<Self>, StoreError> {
        let Some(file) = take(path, FlockOperation::NonBlockingLockExclusive, wait)? else { return Ok(None) };
        // For messages only.
        let _unwritten =
            file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
        Ok(Some(Self { path: path.to_owned(), _file: file }))
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // While it is still held: nobody else can be using the name. What stays is collected later.
        let _unremoved = rustix::fs::unlink(&self.path);
    }
}

/// The file `path` with a lock on it and still of that name; `None` once `wait` answers `false`.
pub(crate) fn take(
    path: &Path,
    operation: FlockOperation,
    wait: &mut dyn FnMut(Waiting) -> bool,
) -> Result<Option<File>, StoreError> {
    let mut patience = Patience::new();
    for _ in 0..REOPENS_MAX {
        let file = open(path)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    if !patience.wait(wait, &|| holder(&file)) {
                        return Ok(None);
                    }
                }
                Err(errno) => return Err(io("lock", path, errno)),
            }
        }
        if names(path, &file) {
            return Ok(Some(file));
        }
    }
    Err(io("lock", path, Errno::AGAIN))
}

fn open(path: &Path) -> Result<File, StoreError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o666));
    match open() {
        Err(Errno::NOENT) => {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).map_err(|source| io("create", folder, source))?;
            open()
        }
        other => other,
    }
    .map(File::from)
    .map_err(|errno| io("create", path, errno))
}

/// Whether `path` is still the name of `file`.
pub(crate) fn names(path: &Path, file: &File) -> bool {
    let (Ok(by_name), Ok(by_file)) = (rustix::fs::lstat(path), rustix::fs::fstat(file)) else { return false };
    let (by_name, by_file) = (StatKey::of(&by_name), StatKey::of(&by_file));
    (by_name.dev, by_name.ino) == (by_file.dev, by_file.ino)
}

fn holder(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.parse().ok()
}

/// A clock that only goes forward.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_holder_at_a_time_and_the_file_goes_with_the_last() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("locks/x");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = KeyLock::acquire(&path, &mut |_| true).unwrap().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn who_waits_is_told_and_may_give_up() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        let held = KeyLock::acquire(&path, &mut |_| panic!("nobody has it")).unwrap().unwrap();
        let mut seen = Vec::new();
        let found = KeyLock::acquire(&path, &mut |waiting| {
            seen.push(waiting);
            seen.len() < 3
        });
        assert!(found.unwrap().is_none());
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[0].holder, Some(std::process::id()));
        assert!(seen[0].waited < seen[2].waited);
        drop(held);
        assert!(KeyLock::acquire(&path, &mut |_| false).unwrap().is_some());
    }

    #[test]
    fn a_file_of_locks_keeps_names_apart() {
        let temp = tempfile::tempdir().unwrap();
        let locks = LockFile::new(temp.path().join("deep/locks"));
        let (one, other) = (Digest::blake3(b"one"), Digest::blake3(b"other"));
        let now = |name, hold| locks.acquire(name, hold, &mut |_| false).unwrap();
        let (first, second) = (now(&one, Hold::Shared).unwrap(), now(&one, Hold::Shared).unwrap());
        assert!(now(&one, Hold::Alone).is_none(), "it is shared");
        let apart = now(&other, Hold::Alone).unwrap();
        assert!(now(&other, Hold::Shared).is_none() && now(&other, Hold::Alone).is_none());
        drop((first, apart));
        assert!(now(&one, Hold::Alone).is_none(), "one of two is left");
        drop(second);
        let alone = now(&one, Hold::Alone).unwrap();
        let mut told = None;
        let waited = locks.acquire(&one, Hold::Shared, &mut |waiting| {
            told = waiting.holder;
            false
        });
        assert!(waited.unwrap().is_none());
        assert_eq!(told, Some(std::process::id()));
        drop(alone);
        assert!(now(&one, Hold::Shared).is_some());
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = locks.acquire(&one, Hold::Alone, &mut |_| true).unwrap().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(lock);
                    }
                });
            }
        });
        let length = std::fs::metadata(temp.path().join("deep/locks")).unwrap().len();
        assert!(length <= RECORDS * RECORD_BYTES as u64, "{length} bytes");
    }

    #[test]
    fn what_a_dead_process_left_is_no_lock() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        std::fs::write(&path, "999999").unwrap();
        assert!(KeyLock::acquire(&path, &mut |_| false).unwrap().is_some());
    }
}
