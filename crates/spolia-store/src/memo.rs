//! The digests of files by what `stat` says of them, for programs that live for a few milliseconds: one
//! small read finds one record, one small write keeps one. Shared by processes without locks. Knows no paths.
//!
//! They lie in a hash table, whose format is in `memo/table.rs`:
//!
//! ```text
//! name  = of (dev, ino / 8), and the last three bits of ino: files that were made one after the other lie together
//! state = u64le(dev) u64le(ino) u64le(size) i64le(mtime_ns) i64le(ctime_ns)
//! marks = what a scan of the content found, in the scanner's own bits; 0 where it was not scanned; the highest
//!         bit: vouched for
//! ```
//!
//! A digest is kept only for a file that was settled when its hashing began, as in [`crate::digests`], or that the
//! caller vouches for: it made the file itself and nobody else knows of it yet.
//!
//! A digest may also be kept under the digest of a name that is no file ([`StatMemo::remember`]). Its state is 8 bytes of ones,
//! which no device has for a number, and that digest.

mod table;

use std::cell::OnceCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use spolia_core::{Digest, DigestFunction};

use crate::digests::{DigestCache, StatKey, machine_now_ns};
use crate::hash;
use crate::local::{LocalStore, content};
use crate::lock::{Hold, KEYS_FILE, Lock, LockFile, Waiting};
pub use table::probe;
use table::{State, Table};

/// The longest word that a scan may look for, bytes.
const WORD_BYTES_MAX: usize = 64;
/// The mark of a file that its maker vouches for.
const VOUCHED: u64 = 1 << 63;
/// The device of what is no file.
const NO_FILE: u64 = u64::MAX;
/// How often a file that changes while it is read is read again.
const TRIES_MAX: usize = 3;
/// A file of so many bytes is hashed by one process at a time: the first compiles of a build all want the compiler's own.
const ALONE_BYTES_MIN: u64 = 8 << 20;
/// How long another process is waited for that may be hashing it.
const ALONE_WAIT_MAX: Duration = Duration::from_secs(2);

/// The digests of files that have been hashed before, on this machine. One thread at a time.
pub struct StatMemo {
    table: Table,
    locks: LockFile,
    writable: bool,
    now_ns: i64,
    clock: OnceCell<DigestCache>,
    clock_folder: PathBuf,
}

impl StatMemo {
    /// That of a store. Nothing is opened before it is needed.
    pub fn new(store: &LocalStore) -> Self {
        let tmp = store.base().join("tmp");
        Self {
            table: Table::new(store.base().join("memo-2"), tmp.clone()),
            locks: LockFile::without_holders(store.base().join("locks").join(KEYS_FILE)),
            writable: store.is_writable(),
            now_ns: machine_now_ns(),
            clock: OnceCell::new(),
            clock_folder: tmp,
        }
    }

    /// The digest of the file with this `stat`, if it is known for certain.
    pub fn lookup(&self, key: &StatKey) -> Option<Digest> {
        self.lookup_marked(key).map(|(digest, _)| digest)
    }

    /// The same with the marks of its scan.
    pub fn lookup_marked(&self, key: &StatKey) -> Option<(Digest, u64)> {
        if key.dev == NO_FILE {
            return None;
        }
        let (digest, marks) = self.table.find(name_of(key.dev, key.ino), &encode(key))?;
        // Guards against a clock that was set back since the record was made.
        if marks & VOUCHED == 0 && !key.is_settled(self.now_ns) {
            return None;
        }
        Some((Digest::new(DigestFunction::Blake3, digest), marks & !VOUCHED))
    }

    /// What was last kept under the digest of a name that is no file's.
    pub fn recall(&self, name: &Digest) -> Option<Digest> {
        let (short, state) = name_of_no_file(name);
        self.table.find(short, &state).map(|(digest, _)| Digest::new(DigestFunction::Blake3, digest))
    }

    /// Keeps a digest under that of a name. Losing it must lose nothing but time or words.
    pub fn remember(&self, name: &Digest, digest: &Digest) {
        if self.writable && digest.function() == DigestFunction::Blake3 {
            let (short, state) = name_of_no_file(name);
            self.table.keep(short, &state, digest.as_bytes(), 0);
        }
    }

    /// Keeps the digest of a file that the caller has just made or put in place, and of which nobody else knows yet:
    /// there is no earlier writer whose last write could still be within the same tick of the clock.
    pub fn vouch(&self, key: &StatKey, digest: &Digest) {
        if self.writable && digest.function() == DigestFunction::Blake3 {
            self.write(key, digest, VOUCHED);
        }
    }

    /// Keeps a digest that was computed from the file with this `stat`, where it can be trusted. `began_ns`
    /// is what [`StatMemo::clock_ns`] said before the first byte was read.
    pub fn note(&self, key: &StatKey, digest: &Digest, marks: u64, began_ns: i64) {
        if !self.writable || digest.function() != DigestFunction::Blake3 || !key.is_settled(began_ns) {
            return;
        }
        self.write(key, digest, marks & !VOUCHED);
    }

    fn write(&self, key: &StatKey, digest: &Digest, marks: u64) {
        if key.dev != NO_FILE {
            self.table.keep(name_of(key.dev, key.ino), &encode(key), digest.as_bytes(), marks);
        }
    }

    /// The clock that the kernel stamps files of local file systems with, ns since 1970.
    pub fn clock_ns_now(&self) -> i64 {
        machine_now_ns()
    }

    /// A moment that the clock of the file's file system has reached, ns since 1970, never later than now.
    pub fn clock_ns(&self, key: &StatKey) -> i64 {
        let clock = self.clock.get_or_init(|| {
            let clock = DigestCache::load(Path::new(""));
            clock.add_clock(&self.clock_folder);
            clock
        });
        clock.file_system_now_ns(key)
    }

    /// Lets files on the file system of `folder` be believed as soon as those of the store's.
    pub fn add_clock(&self, folder: &Path) {
        let clock = self.clock.get_or_init(|| {
            let clock = DigestCache::load(Path::new(""));
            clock.add_clock(&self.clock_folder);
            clock
        });
        clock.add_clock(folder);
    }

    /// The digest of the regular file that `path` leads to, symlinks followed; read only where it is not known.
    ///
    /// # Errors
    /// Those of looking up and reading; [`std::io::ErrorKind::ResourceBusy`] for a file that keeps changing,
    /// [`std::io::ErrorKind::InvalidInput`] for what is no regular file.
    pub fn digest(&self, path: &Path) -> std::io::Result<(StatKey, Digest)> {
        let stat = rustix::fs::stat(path)?;
        let key = StatKey::of(&stat);
        if let Some(digest) = self.lookup(&key) {
            return Ok((key, digest));
        }
        let alone = self.alone(&key);
        if let Some(digest) = alone.is_some().then(|| self.lookup(&key)).flatten() {
            return Ok((key, digest));
        }
        let (key, digest, _) = self.read(path, &|_| 0)?;
        Ok((key, digest))
    }

    /// The right to hash a long file, for whose hashing by another process it was perhaps waited; none for a short one, or where
    /// there are no locks: then two hash it.
    fn alone(&self, key: &StatKey) -> Option<Lock> {
        if key.size < ALONE_BYTES_MIN || !self.writable {
            return None;
        }
        let name = Digest::blake3(&[b"hashing".as_slice(), &encode(key)].concat());
        let mut wait = |waiting: Waiting| waiting.waited < ALONE_WAIT_MAX;
        self.locks.acquire(&name, Hold::Alone, &mut wait).ok().flatten()
    }

    /// The same with the marks that `scan` gives its content; it must not give 0. Read only where both are not
    /// known.
    ///
    /// # Errors
    /// Those of [`StatMemo::digest`].
    pub fn scan(&self, path: &Path, scan: &dyn Fn(&[u8]) -> u64) -> std::io::Result<(StatKey, Digest, u64)> {
        let key = StatKey::of(&rustix::fs::stat(path)?);
        match self.lookup_marked(&key) {
            Some((digest, marks)) if marks != 0 => Ok((key, digest, marks)),
            _ => self.read(path, scan),
        }
    }

    fn read(&self, path: &Path, scan: &dyn Fn(&[u8]) -> u64) -> std::io::Result<(StatKey, Digest, u64)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut key = StatKey::of(&stat);
        let mut content = Vec::new();
        for _ in 0..TRIES_MAX {
            let began_ns = self.clock_ns(&key);
            let (digest, size, marks) = if content::read_small(&file, &mut content)? {
                (Digest::blake3(&content), content.len() as u64, scan(&content))
            } else {
                // Longer than most sources: piece by piece. A word may lie across two of them.
                let (mut marks, mut pieces) = (0, Vec::new());
                let (digest, size) = hash::file_seen(&file, &mut |piece| {
                    let kept = pieces.len().saturating_sub(WORD_BYTES_MAX);
                    pieces.drain(..kept);
                    pieces.extend_from_slice(piece);
                    marks |= scan(&pieces);
                })?;
                (digest, size, marks)
            };
            let after = StatKey::of(&rustix::fs::fstat(&file)?);
            if after == key && size == key.size {
                self.note(&key, &digest, marks, began_ns);
                return Ok((key, digest, marks));
            }
            key = after;
        }
        Err(std::io::Error::new(std::io::ErrorKind::ResourceBusy, "it changes while it is read"))
    }
}

/// The name of a file: of eight whose numbers follow each other all but the last three bits are the same.
fn name_of(dev: u64, ino: u64) -> u64 {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut mixed = ((ino >> 3) ^ dev.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) << 3 | (ino & 7)
}

fn name_of_no_file(name: &Digest) -> (u64, State) {
    let mut state = [0xff; 40];
    state[8..].copy_from_slice(name.as_bytes());
    let short = name.as_bytes().first_chunk().copied().unwrap_or_default();
    (u64::from_le_bytes(short), state)
}

fn encode(key: &StatKey) -> State {
    let mut raw = [0; 40];
    raw[..8].copy_from_slice(&key.dev.to_le_bytes());
    raw[8..16].copy_from_slice(&key.ino.to_le_bytes());
    raw[16..24].copy_from_slice(&key.size.to_le_bytes());
    raw[24..32].copy_from_slice(&key.mtime_ns.to_le_bytes());
    raw[32..].copy_from_slice(&key.ctime_ns.to_le_bytes());
    raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalOptions;

    fn key(ino: u64) -> StatKey {
        StatKey { dev: 1, ino, size: 5, mtime_ns: 1_000, ctime_ns: 2_000 }
    }

    fn memo(folder: &Path) -> StatMemo {
        StatMemo::new(&LocalStore::open(folder, LocalOptions::default()).unwrap())
    }

    #[test]
    fn what_was_noted_is_found_by_another_process_until_the_stat_differs() {
        let temp = tempfile::tempdir().unwrap();
        for ino in 0..1000 {
            memo(temp.path()).note(&key(ino), &Digest::blake3(&ino.to_le_bytes()), 3, machine_now_ns());
        }
        let memo = memo(temp.path());
        for ino in 0..1000 {
            assert_eq!(memo.lookup(&key(ino)), Some(Digest::blake3(&ino.to_le_bytes())), "{ino}");
        }
        assert_eq!(memo.lookup(&StatKey { ctime_ns: 2_001, ..key(3) }), None);
        assert_eq!(memo.lookup(&StatKey { size: 6, ..key(3) }), None);
        assert_eq!(memo.lookup(&key(1001)), None);
    }

    #[test]
    fn a_name_that_is_no_file_never_answers_for_one() {
        let temp = tempfile::tempdir().unwrap();
        let name = Digest::blake3(b"name");
        memo(temp.path()).remember(&name, &Digest::blake3(b"one"));
        memo(temp.path()).remember(&name, &Digest::blake3(b"two"));
        let memo = memo(temp.path());
        assert_eq!(memo.recall(&name), Some(Digest::blake3(b"two")));
        assert_eq!(memo.recall(&Digest::blake3(b"other")), None);
        let number = |at: usize| u64::from_le_bytes(*name.as_bytes()[at..].first_chunk().unwrap());
        let alike = StatKey {
            dev: NO_FILE,
            ino: number(0),
            size: number(8),
            mtime_ns: number(16) as i64,
            ctime_ns: number(24) as i64,
        };
        memo.vouch(&alike, &Digest::blake3(b"three"));
        assert_eq!(memo.lookup(&alike), None);
        assert_eq!(memo.recall(&name), Some(Digest::blake3(b"two")));
    }

    #[test]
    fn a_long_file_is_hashed_by_one_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("long");
        std::fs::write(&path, vec![1; ALONE_BYTES_MIN as usize]).unwrap();
        let key = StatKey::of(&rustix::fs::stat(&path).unwrap());
        let (first, second) = (memo(temp.path()), memo(temp.path()));
        let alone = first.alone(&key).unwrap();
        let told = Digest::blake3(b"told by who hashed it");
        let found = std::thread::scope(|scope| {
            let found = scope.spawn(|| memo(temp.path()).digest(&path).unwrap().1);
            second.vouch(&key, &told);
            drop(alone);
            found.join().unwrap()
        });
        assert_eq!(found, told);
        assert!(first.alone(&StatKey { size: ALONE_BYTES_MIN - 1, ..key }).is_none());
    }

    #[test]
    fn a_file_that_may_still_change_within_a_tick_is_not_noted() {
        let temp = tempfile::tempdir().unwrap();
        let now = machine_now_ns();
        let young = StatKey { ctime_ns: now, ..key(1) };
        memo(temp.path()).note(&young, &Digest::blake3(b"x"), 0, now);
        assert_eq!(memo(temp.path()).lookup(&young), None);
    }
}
