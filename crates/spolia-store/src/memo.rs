//! The digests of files by what `stat` says of them, for programs that live for a few milliseconds: one
//! small read finds one record, one small write keeps one. Shared by processes without locks. Knows no paths.
//!
//! ```text
//! v1/memo-1 = page{6144}                         a sparse file; what was never written reads as zero
//! page      = bucket{11} zero{224}               4096 bytes
//! bucket    = record{4}
//! record    = check8 u64le(dev) u64le(ino) u64le(size) i64le(mtime_ns) i64le(ctime_ns) digest32 u64le(marks)
//! marks     = what a scan of the content found, in the scanner's own bits; 0 where it was not scanned; the highest
//!             bit: vouched for
//! check     = the first 8 bytes of BLAKE3("spolia memo 1\n" and the rest of the record)
//! ```
//!
//! The page follows from `(dev, ino / 16)`, the bucket in it from `ino`: files that were made one after the other lie together, and
//! a small store takes few blocks of the disk. A record that was torn by two writers, cut or flipped fails its
//! check and counts as absent, so no lock is needed. A full bucket loses a record: a file is hashed again.
//!
//! A digest is kept only for a file that was settled when its hashing began, as in [`crate::digests`], or that the
//! caller vouches for: it made the file itself and nobody else knows of it yet.

use std::cell::OnceCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use spolia_core::{Digest, DigestFunction};

use crate::digests::{DigestCache, StatKey, machine_now_ns};
use crate::hash;
use crate::local::{LocalStore, content};

const PAGES: u64 = 6144;
const PAGE_BYTES: u64 = 4096;
const PAGE_BUCKETS: u64 = 11;
/// So many files with numbers that follow each other share a page: two such runs always fit.
const RUN: u64 = 16;
const WAYS: usize = 4;
const RECORD_BYTES: usize = 88;
const BUCKET_BYTES: usize = WAYS * RECORD_BYTES;
/// The longest word that a scan may look for, bytes.
const WORD_BYTES_MAX: usize = 64;
/// The mark of a file that its maker vouches for.
const VOUCHED: u64 = 1 << 63;
/// How often a file that changes while it is read is read again.
const TRIES_MAX: usize = 3;

/// The digests of files that have been hashed before, on this machine. One thread at a time.
pub struct StatMemo {
    path: PathBuf,
    reader: OnceCell<Option<File>>,
    writer: OnceCell<Option<File>>,
    writable: bool,
    now_ns: i64,
    clock: OnceCell<DigestCache>,
    clock_folder: PathBuf,
}

impl StatMemo {
    /// That of a store. Nothing is opened before it is needed.
    pub fn new(store: &LocalStore) -> Self {
        Self {
            path: store.base().join("memo-1"),
            reader: OnceCell::new(),
            writer: OnceCell::new(),
            writable: store.is_writable(),
            now_ns: machine_now_ns(),
            clock: OnceCell::new(),
            clock_folder: store.base().join("tmp"),
        }
    }

    /// The digest of the file with this `stat`, if it is known for certain.
    pub fn lookup(&self, key: &StatKey) -> Option<Digest> {
        self.lookup_marked(key).map(|(digest, _)| digest)
    }

    /// The same with the marks of its scan.
    pub fn lookup_marked(&self, key: &StatKey) -> Option<(Digest, u64)> {
        let reader = self.reader.get_or_init(|| File::open(&self.path).ok()).as_ref()?;
        let bucket = read_bucket(reader, bucket_of(key))?;
        let found =
            bucket.as_chunks::<RECORD_BYTES>().0.iter().find(|record| record[8..48] == encode(key))?;
        let mut digest = [0; 32];
        digest.copy_from_slice(&found[48..80]);
        let mut marks = [0; 8];
        marks.copy_from_slice(&found[80..]);
        let digest = Digest::new(DigestFunction::Blake3, digest);
        let marks = u64::from_le_bytes(marks);
        // Guards against a clock that was set back since the record was made.
        if marks & VOUCHED == 0 && !key.is_settled(self.now_ns) {
            return None;
        }
        (found[..8] == check(&found[8..])).then_some((digest, marks & !VOUCHED))
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
        let Some(writer) = self.writer.get_or_init(|| open_for_writing(&self.path)) else { return };
        let at = bucket_of(key);
        let bucket = read_bucket(writer, at).unwrap_or([0; BUCKET_BYTES]);
        let records = bucket.as_chunks::<RECORD_BYTES>().0;
        let same = records.iter().position(|record| record[8..24] == encode(key)[..16]);
        let empty = || records.iter().position(|record| record.iter().all(|byte| *byte == 0));
        let any = usize::from(digest.as_bytes()[0]) % WAYS;
        let way = same.or_else(empty).unwrap_or(any);
        let mut record = [0; RECORD_BYTES];
        record[8..48].copy_from_slice(&encode(key));
        record[48..80].copy_from_slice(digest.as_bytes());
        record[80..].copy_from_slice(&marks.to_le_bytes());
        let sum = check(&record[8..]);
        record[..8].copy_from_slice(&sum);
        // What is not written is hashed again.
        let _lost = writer.write_all_at(&record, at + (way * RECORD_BYTES) as u64);
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
        let (key, digest, _) = self.read(path, &|_| 0)?;
        Ok((key, digest))
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

fn open_for_writing(path: &Path) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
}

/// Offset of the bucket, bytes.
fn bucket_of(key: &StatKey) -> u64 {
    let mixed = ((key.ino / RUN) ^ key.dev.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) % PAGES * PAGE_BYTES + key.ino % PAGE_BUCKETS * BUCKET_BYTES as u64
}

fn read_bucket(file: &File, at: u64) -> Option<[u8; BUCKET_BYTES]> {
    let mut bucket = [0; BUCKET_BYTES];
    let length = file.read_at(&mut bucket, at).ok()?;
    (length > 0).then_some(bucket)
}

fn encode(key: &StatKey) -> [u8; 40] {
    let mut raw = [0; 40];
    raw[..8].copy_from_slice(&key.dev.to_le_bytes());
    raw[8..16].copy_from_slice(&key.ino.to_le_bytes());
    raw[16..24].copy_from_slice(&key.size.to_le_bytes());
    raw[24..32].copy_from_slice(&key.mtime_ns.to_le_bytes());
    raw[32..].copy_from_slice(&key.ctime_ns.to_le_bytes());
    raw
}

fn check(rest: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"spolia memo 1\n").update(rest);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
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
    fn files_that_were_made_together_lie_together() {
        let temp = tempfile::tempdir().unwrap();
        let memo = memo(temp.path());
        for ino in 1600..1600 + 8 * RUN {
            memo.note(&key(ino), &Digest::blake3(&ino.to_le_bytes()), 0, machine_now_ns());
        }
        let pages: std::collections::BTreeSet<u64> =
            (1600..1600 + 8 * RUN).map(|ino| bucket_of(&key(ino)) / PAGE_BYTES).collect();
        assert!(pages.len() <= 8, "{} pages", pages.len());
        let last = (0..100_000).map(|ino| bucket_of(&key(ino)) % PAGE_BYTES).max();
        assert_eq!(last, Some((PAGE_BUCKETS - 1) * BUCKET_BYTES as u64));
    }

    #[test]
    fn a_flipped_or_cut_record_is_absent() {
        let temp = tempfile::tempdir().unwrap();
        memo(temp.path()).note(&key(7), &Digest::blake3(b"x"), 0, machine_now_ns());
        let path = temp.path().join("v1/memo-1");
        let whole = std::fs::read(&path).unwrap();
        let from = usize::try_from(bucket_of(&key(7))).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in whole.iter().copied().enumerate().skip(from).take(RECORD_BYTES) {
            let flipped = byte ^ 1;
            file.write_all_at(&[flipped], at as u64).unwrap();
            assert_eq!(memo(temp.path()).lookup(&key(7)), None, "{at}");
            file.write_all_at(&[byte], at as u64).unwrap();
        }
        std::fs::write(&path, &whole[..from + 9]).unwrap();
        assert_eq!(memo(temp.path()).lookup(&key(7)), None);
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
