//! One holder for each key among all processes of this machine. Knows no actions.
//!
//! A lock is an advisory `flock(2)` on `v1/locks/<name>`: the kernel drops it when its holder dies in any
//! way. The file holds the holder's process id for messages, and is unlinked by the holder before it
//! lets go; whoever got the lock on a file that has lost its name meanwhile starts again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Someone else has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long the caller has waited.
    pub waited: Duration,
    /// The holder's process id, where it could be read; in a namespace of the holder's own perhaps.
    pub holder: Option<u32>,
}

/// The lock on one key. Dropping it lets go.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    // Closing it is what lets go.
    _file: File,
}

impl LocalStore {
    /// The lock on `key`: see [`KeyLock::acquire`].
    ///
    /// # Errors
    /// Those of [`KeyLock::acquire`].
    pub fn lock(
        &self,
        key: &Digest,
        wait: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<KeyLock>, StoreError> {
        KeyLock::acquire(&self.base().join("locks").join(key.to_hex()), wait)
    }
}

impl KeyLock {
    /// Takes the lock on the file `path`, which is made where it is missing, with its folder. While
    /// someone else has it, `wait` is called before every next try, a few times a second at least; once
    /// it answers `false`, this gives up with `None`.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the file cannot be made or the file system has no locks. To go on
    /// without a lock is harmless: at worst one action runs twice.
    pub fn acquire(path: &Path, wait: &mut dyn FnMut(Waiting) -> bool) -> Result<Option<Self>, StoreError> {
        let mut pause_ms = WAIT_MS.0;
        let mut since: Option<Duration> = None;
        for _ in 0..REOPENS_MAX {
            let file = open(path)?;
            loop {
                match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => {
                        let now = monotonic();
                        let waited = now.saturating_sub(*since.get_or_insert(now));
                        if !wait(Waiting { waited, holder: holder(&file) }) {
                            return Ok(None);
                        }
                        std::thread::sleep(Duration::from_millis(pause_ms));
                        pause_ms = (pause_ms * 2).min(WAIT_MS.1);
                    }
                    Err(errno) => return Err(io("lock", path, errno)),
                }
            }
            if names(path, &file) {
                // For messages only.
                let _unwritten = file
                    .set_len(0)
                    .and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
                return Ok(Some(Self { path: path.to_owned(), _file: file }));
            }
        }
        Err(io("lock", path, Errno::AGAIN))
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // While it is still held: nobody else can be using the name. What stays is collected later.
        let _unremoved = rustix::fs::unlink(&self.path);
    }
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
    use std::os::unix::fs::FileExt;
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
    fn what_a_dead_process_left_is_no_lock() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        std::fs::write(&path, "999999").unwrap();
        assert!(KeyLock::acquire(&path, &mut |_| false).unwrap().is_some());
    }
}
