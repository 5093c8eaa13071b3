//! The digests of files that have been hashed before, by what `stat` says of them. Knows no paths.
//!
//! ```text
//! file     = "spolia digests 1" checksum32 u64le(count) u64le(0) record{count}     64 + 80 × count bytes
//! record   = u64le(dev) u64le(ino) u64le(size) i64le(mtime_ns) i64le(ctime_ns) digest32 u64le(idle)
//! checksum = BLAKE3(record*)        digest = BLAKE3 of the content
//! idle     = how often the file was saved since the record was last used
//! ```
//!
//! Records are sorted by `(dev, ino)` and unique, so that loading is one read and one hash, and looking
//! up is a search in the bytes as they were read. A file that is damaged counts as empty.
//!
//! **Racy files.** `stat` cannot tell two contents apart that were written within one tick of the file
//! system's clock. So a digest is kept only where the file was already [`MARGIN_NS`] old when the hashing
//! began, by the clock of *its* file system (a nameless file made there is asked for its ctime; the
//! machine's clock and a server's may differ). A time in the future is never old, and so neither is
//! anything right after the clock was set back: such files are hashed each time, which is slow and right.
//!
//! **Files whose writers have ended** (the outputs of a step) need not be old where each change gets a time of its own: since
//! Linux 6.13 the large local file systems stamp a change more finely once the last stamp has been looked at, so the
//! same `stat` before and after reading, and later on, means that nothing was written. Whether a file system does that is tried on the
//! nameless file ([`DigestCache::note_ended`]). For all other files the margin stays: a `write` that is under way has
//! stamped the file before its bytes are there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::time::ClockId;
use spolia_core::{Digest, DigestFunction};

use crate::hash;

/// How old a file must be for its digest to be kept. Clock ticks are 1 to 10 ms; exFAT counts 10 ms.
pub const MARGIN_NS: i64 = 50_000_000;
/// The same where the file's times have whole seconds: FAT counts 2 s, old ext 1 s.
pub const MARGIN_COARSE_NS: i64 = 2_100_000_000;
/// The same where nothing could be made on the file's file system to read its clock, such as `/usr`.
pub const MARGIN_UNKNOWN_CLOCK_NS: i64 = 60_000_000_000;
/// After this many saves without use a record is dropped.
pub const IDLE_SAVES_MAX: u64 = 50;
/// The most records that are kept.
pub const RECORDS_MAX: usize = 1_000_000;

const MAGIC: &[u8; 16] = b"spolia digests 1";
const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 80;
const KEY_BYTES: usize = 40;
/// How often a file that changes while it is read is read again.
const TRIES_MAX: usize = 3;

/// What `stat` says of a file's identity and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatKey {
    /// The file system.
    pub dev: u64,
    /// The file on it.
    pub ino: u64,
    /// Length, bytes.
    pub size: u64,
    /// Last change of content, ns since 1970; anyone can set it.
    pub mtime_ns: i64,
    /// Last change of content or attributes, ns since 1970; the kernel sets it.
    pub ctime_ns: i64,
}

/// `seconds` and `fraction` as one count of nanoseconds, at the ends of what fits where it does not.
pub(crate) fn nanoseconds(seconds: impl TryInto<i64>, fraction: impl TryInto<i64>) -> i64 {
    let seconds: i64 = seconds.try_into().unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000_000).saturating_add(fraction.try_into().unwrap_or(0))
}

impl StatKey {
    /// From the result of a system call.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "widths differ by architecture")]
    pub fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// From what the standard library read.
    pub fn of_metadata(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether nothing that happens to the file at `now_ns` or later can leave the key as it is.
    pub fn is_settled(&self, now_ns: i64) -> bool {
        let newest = self.mtime_ns.max(self.ctime_ns);
        let whole = self.mtime_ns % 1_000_000_000 == 0 && self.ctime_ns % 1_000_000_000 == 0;
        let margin = if whole { MARGIN_COARSE_NS } else { MARGIN_NS };
        newest.saturating_add(margin) <= now_ns
    }

    fn encode(&self) -> [u8; KEY_BYTES] {
        let mut raw = [0; KEY_BYTES];
        raw[..8].copy_from_slice(&self.dev.to_le_bytes());
        raw[8..16].copy_from_slice(&self.ino.to_le_bytes());
        raw[16..24].copy_from_slice(&self.size.to_le_bytes());
        raw[24..32].copy_from_slice(&self.mtime_ns.to_le_bytes());
        raw[32..40].copy_from_slice(&self.ctime_ns.to_le_bytes());
        raw
    }
}

/// A file's digest, its length and what `stat` said of it before and after it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// What the content goes with.
    pub key: StatKey,
    /// Whether it was known without reading.
    pub known: bool,
}

/// The clock of one file system.
struct Clock {
    /// Where a nameless file can be made; `None` where that failed.
    folder: Option<PathBuf>,
    /// That file: one for all questions, since making files is dear.
    file: Option<OwnedFd>,
    /// The machine's clock when it was last asked, and what it said.
    asked: Option<(i64, i64)>,
    /// Whether each change gets a time of its own; `None` until that was tried.
    tells_changes_apart: Option<bool>,
}

/// The digests of files that have been hashed before. Shared by threads.
pub struct DigestCache {
    path: PathBuf,
    /// The file as it was read, empty or whole.
    table: Vec<u8>,
    used: Vec<AtomicBool>,
    /// Where the next look-up probably hits: files are mostly asked for in the order they were made.
    hint: AtomicUsize,
    loaded_at_ns: i64,
    fresh: Mutex<HashMap<(u64, u64), (StatKey, Digest)>>,
    has_fresh: AtomicBool,
    clocks: Mutex<HashMap<u64, Clock>>,
}

impl DigestCache {
    /// Reads the cache; an empty one where the file is not there or damaged.
    pub fn load(path: &Path) -> Self {
        let table = read_table(path).unwrap_or_default();
        let count = table.len().saturating_sub(HEADER_BYTES) / RECORD_BYTES;
        let mut used = Vec::new();
        used.resize_with(count, || AtomicBool::new(false));
        Self {
            path: path.to_owned(),
            table,
            used,
            hint: AtomicUsize::new(0),
            loaded_at_ns: machine_now_ns(),
            fresh: Mutex::new(HashMap::new()),
            has_fresh: AtomicBool::new(false),
            clocks: Mutex::new(HashMap::new()),
        }
    }

    /// Names a folder where nameless files may be made to read its file system's clock. Without one for
    /// a file system, files there must be [`MARGIN_UNKNOWN_CLOCK_NS`] old.
    pub fn add_clock(&self, folder: &Path) {
        if let Ok(stat) = rustix::fs::stat(folder)
            && let Ok(mut clocks) = self.clocks.lock()
        {
            let clock =
                Clock { folder: Some(folder.to_owned()), file: None, asked: None, tells_changes_apart: None };
            clocks.insert(StatKey::of(&stat).dev, clock);
        }
    }

    /// The digest of the file with this `stat`, if it is known for certain.
    pub fn lookup(&self, key: &StatKey) -> Option<Digest> {
        // Guards against a clock that was set back since the record was made.
        if !key.is_settled(self.loaded_at_ns) && !self.has_fresh.load(Ordering::Relaxed) {
            return None;
        }
        if self.has_fresh.load(Ordering::Acquire)
            && let Ok(fresh) = self.fresh.lock()
            && let Some((known, digest)) = fresh.get(&(key.dev, key.ino))
        {
            return (known == key).then_some(*digest);
        }
        if !key.is_settled(self.loaded_at_ns) {
            return None;
        }
        let at = self.position(key)?;
        let record = self.record(at);
        if record[..KEY_BYTES] != key.encode() {
            return None;
        }
        self.used[at].store(true, Ordering::Relaxed);
        let mut digest = [0; 32];
        digest.copy_from_slice(&record[KEY_BYTES..KEY_BYTES + 32]);
        Some(Digest::new(DigestFunction::Blake3, digest))
    }

    fn record(&self, at: usize) -> &[u8] {
        let from = HEADER_BYTES + at * RECORD_BYTES;
        &self.table[from..from + RECORD_BYTES]
    }

    fn position(&self, key: &StatKey) -> Option<usize> {
        let wanted = (key.dev, key.ino);
        let hint = self.hint.load(Ordering::Relaxed);
        let found = if hint < self.used.len() && identity(self.record(hint)) == wanted {
            hint
        } else {
            let (mut low, mut high) = (0, self.used.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if identity(self.record(middle)) < wanted { low = middle + 1 } else { high = middle }
            }
            if low == self.used.len() || identity(self.record(low)) != wanted {
                return None;
            }
            low
        };
        self.hint.store(found + 1, Ordering::Relaxed);
        Some(found)
    }

    /// The digest of an open regular file, read only where it is not known.
    ///
    /// # Errors
    /// Those of reading; [`std::io::ErrorKind::ResourceBusy`] for a file that keeps changing.
    pub fn hash(&self, file: &File) -> std::io::Result<Hashed> {
        self.hash_from(file, StatKey::of(&rustix::fs::fstat(file)?))
    }

    /// The same for a file whose `stat` has just been `key`.
    fn hash_from(&self, file: &File, mut key: StatKey) -> std::io::Result<Hashed> {
        if let Some(digest) = self.lookup(&key) {
            return Ok(Hashed { digest, key, known: true });
        }
        for _ in 0..TRIES_MAX {
            let began_ns = self.file_system_now_ns(&key);
            let (digest, size) = hash::file_of(file, key.size)?;
            let after = StatKey::of(&rustix::fs::fstat(file)?);
            if after == key && size == key.size {
                self.note(key, digest, began_ns);
                return Ok(Hashed { digest, key, known: false });
            }
            key = after;
        }
        Err(std::io::Error::new(std::io::ErrorKind::ResourceBusy, "it changes while it is read"))
    }

    /// The same for the file at `path`, which is no symlink.
    ///
    /// # Errors
    /// Those of [`DigestCache::hash`] and of opening.
    pub fn hash_path(&self, path: &Path) -> std::io::Result<Hashed> {
        self.hash_at(CWD, path)
    }

    /// The same for the file at `path` below an open folder.
    ///
    /// # Errors
    /// Those of [`DigestCache::hash`] and of opening; an error for what is no regular file.
    pub fn hash_at(
        &self,
        folder: impl rustix::fd::AsFd,
        path: impl rustix::path::Arg,
    ) -> std::io::Result<Hashed> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(folder, path, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        self.hash_from(&file, StatKey::of(&stat))
    }

    /// The digest for a `stat` the caller has just made of `path` below `folder`; reads only on a miss.
    ///
    /// # Errors
    /// Those of [`DigestCache::hash_at`].
    pub fn digest_at(
        &self,
        folder: impl rustix::fd::AsFd,
        path: impl rustix::path::Arg,
        key: &StatKey,
    ) -> std::io::Result<Digest> {
        match self.lookup(key) {
            Some(digest) => Ok(digest),
            None => self.hash_at(folder, path).map(|hashed| hashed.digest),
        }
    }

    /// Keeps a digest that was computed from the file with this `stat`, where it can be trusted.
    /// `began_ns` is what [`DigestCache::file_system_now_ns`] said before the first byte was read.
    pub fn note(&self, key: StatKey, digest: Digest, began_ns: i64) {
        if key.is_settled(began_ns) {
            self.keep(key, digest);
        }
    }

    /// Keeps a digest that was computed from a file which nobody writes any more: its `stat` was `key` before the first byte was
    /// read and after the last. Its age does not matter where every change gets a time of its own; elsewhere nothing is
    /// kept.
    pub fn note_ended(&self, key: StatKey, digest: Digest) {
        if self.tells_changes_apart(key.dev) {
            self.keep(key, digest);
        }
    }

    /// Whether each change of a file or folder on this file system gets a time of its own, if the time of the last one was
    /// looked at.
    pub fn tells_changes_apart(&self, dev: u64) -> bool {
        let Ok(mut clocks) = self.clocks.lock() else { return false };
        clocks.get_mut(&dev).is_some_and(|clock| clock.tells_changes_apart(dev))
    }

    fn keep(&self, key: StatKey, digest: Digest) {
        if digest.function() != DigestFunction::Blake3 {
            return;
        }
        if let Ok(mut fresh) = self.fresh.lock()
            && fresh.len() < RECORDS_MAX
        {
            fresh.insert((key.dev, key.ino), (key, digest));
            self.has_fresh.store(true, Ordering::Release);
        }
    }

    /// A moment that the clock of the file's file system has reached, ns since 1970, never later than now.
    pub fn file_system_now_ns(&self, key: &StatKey) -> i64 {
        let machine = machine_now_ns();
        let unknown = machine.saturating_sub(MARGIN_UNKNOWN_CLOCK_NS);
        let Ok(mut clocks) = self.clocks.lock() else { return unknown };
        let Some(clock) = clocks.get_mut(&key.dev) else { return unknown };
        if let Some((asked, said)) = clock.asked
            && (asked..asked.saturating_add(MARGIN_NS)).contains(&machine)
        {
            return said;
        }
        let Some(said) = clock.ask(key.dev) else {
            (clock.folder, clock.file) = (None, None);
            return unknown;
        };
        clock.asked = Some((machine, said));
        said
    }

    /// The same for any file on a file system: what is settled at this moment was not touched after it.
    pub fn clock_ns(&self, dev: u64) -> i64 {
        let never_old = i64::MAX / 2;
        self.file_system_now_ns(&StatKey { dev, ino: 0, size: 0, mtime_ns: never_old, ctime_ns: never_old })
    }

    /// Writes the cache if anything is new in it; whether it was written.
    ///
    /// # Errors
    /// Those of writing. Losing the file costs time only.
    pub fn save(&self) -> std::io::Result<bool> {
        let Ok(fresh) = self.fresh.lock() else { return Ok(false) };
        if fresh.is_empty() {
            return Ok(false);
        }
        let table = self.merge(&fresh);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let temp = folder.join(format!(".{}", crate::local::temp_name()));
        let written = create(&temp, folder).and_then(|mut file| file.write_all(&table));
        let renamed = written.and_then(|()| std::fs::rename(&temp, &self.path));
        if renamed.is_err() {
            // It may not be there at all; what stays is collected later.
            let _unremoved = std::fs::remove_file(&temp);
        }
        renamed.map(|()| true)
    }

    fn merge(&self, fresh: &HashMap<(u64, u64), (StatKey, Digest)>) -> Vec<u8> {
        let mut records: Vec<[u8; RECORD_BYTES]> = Vec::with_capacity(self.used.len() + fresh.len());
        for (at, used) in self.used.iter().enumerate() {
            let mut record = [0; RECORD_BYTES];
            record.copy_from_slice(self.record(at));
            let idle = if used.load(Ordering::Relaxed) { 0 } else { word(&record, 72).saturating_add(1) };
            if idle <= IDLE_SAVES_MAX && !fresh.contains_key(&identity(&record)) {
                record[72..].copy_from_slice(&idle.to_le_bytes());
                records.push(record);
            }
        }
        for (key, digest) in fresh.values() {
            let mut record = [0; RECORD_BYTES];
            record[..KEY_BYTES].copy_from_slice(&key.encode());
            record[KEY_BYTES..72].copy_from_slice(digest.as_bytes());
            records.push(record);
        }
        if records.len() > RECORDS_MAX {
            records.sort_unstable_by_key(|record| word(record, 72));
            records.truncate(RECORDS_MAX);
        }
        records.sort_unstable_by_key(|record| identity(record));
        encode(&records)
    }

    /// How many records there are, for a person.
    pub fn len(&self) -> usize {
        self.used.len() + self.fresh.lock().map_or(0, |fresh| fresh.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn encode(records: &[[u8; RECORD_BYTES]]) -> Vec<u8> {
    let body = records.as_flattened();
    let mut table = Vec::with_capacity(HEADER_BYTES + body.len());
    table.extend_from_slice(MAGIC);
    table.extend_from_slice(blake3::hash(body).as_bytes());
    table.extend_from_slice(&(records.len() as u64).to_le_bytes());
    table.extend_from_slice(&[0; 8]);
    table.extend_from_slice(body);
    table
}

/// The file's bytes, if they are whole and right.
fn read_table(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let count = length.checked_sub(HEADER_BYTES)? / RECORD_BYTES;
    if count > RECORDS_MAX || length != HEADER_BYTES + count * RECORD_BYTES {
        return None;
    }
    let mut table = vec![0; length];
    file.read_exact(&mut table).ok()?;
    let sound = table.starts_with(MAGIC)
        && word(&table, 48) == count as u64
        && *blake3::hash(&table[HEADER_BYTES..]).as_bytes() == table[16..48];
    sound.then_some(table)
}

/// Whether the file at `path` is whole and right.
pub(crate) fn is_sound(path: &Path) -> bool {
    read_table(path).is_some()
}

fn create(path: &Path, folder: &Path) -> std::io::Result<File> {
    let create = || std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    create().or_else(|error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            return Err(error);
        }
        std::fs::create_dir_all(folder)?;
        create()
    })
}

fn word(raw: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&raw[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn identity(record: &[u8]) -> (u64, u64) {
    (word(record, 0), word(record, 8))
}

/// The machine's clock as the kernel stamps files with it, ns since 1970.
pub(crate) fn machine_now_ns() -> i64 {
    now_ns(ClockId::RealtimeCoarse)
}

fn now_ns(clock: ClockId) -> i64 {
    let now = rustix::time::clock_gettime(clock);
    nanoseconds(now.tv_sec, now.tv_nsec)
}

impl Clock {
    /// Whether each change of a file there gets a time of its own.
    fn tells_changes_apart(&mut self, dev: u64) -> bool {
        if self.tells_changes_apart.is_none() {
            // Asking makes the nameless file.
            let asked = self.ask(dev);
            let tried = asked.and(self.file.as_ref()).map(|file| has_fine_times(file).unwrap_or(false));
            self.tells_changes_apart = Some(tried.unwrap_or(false));
        }
        self.tells_changes_apart == Some(true)
    }

    /// The ctime of a file on `dev` that is changed now.
    fn ask(&mut self, dev: u64) -> Option<i64> {
        if self.file.is_none() {
            self.file = Some(nameless(self.folder.as_deref()?)?);
        }
        let file = self.file.as_ref()?;
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        rustix::fs::futimens(file, &times).ok()?;
        let key = StatKey::of(&rustix::fs::fstat(file).ok()?);
        (key.dev == dev).then_some(key.ctime_ns)
    }
}

/// The kernel's own numbers (`linux/magic.h`) of the local file systems that are believed: a server may keep the times of
/// its files as it likes.
const EXT4: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;
const TMPFS: u32 = 0x0102_1994;
/// So many changes in a row must all be told apart, …
const CHANGES: usize = 8;
/// … within less than the ticks that this takes where a tick is a millisecond, the shortest there is: then it is not the tick
/// that tells them apart.
const CHANGES_NS_MAX: i64 = (CHANGES as i64 - 2) * 1_000_000;

/// Whether changes of `file` in quick succession all leave different times.
fn has_fine_times(file: &OwnedFd) -> rustix::io::Result<bool> {
    #[allow(clippy::unnecessary_cast, reason = "widths differ by architecture")]
    let kind = rustix::fs::fstatfs(file)?.f_type as u32;
    if ![EXT4, XFS, BTRFS, TMPFS].contains(&kind) {
        return Ok(false);
    }
    // Another process may have the processor meanwhile: then it is tried again.
    for _ in 0..3 {
        let began = now_ns(ClockId::Monotonic);
        let mut last = StatKey::of(&rustix::fs::fstat(file)?);
        let mut apart = true;
        for _ in 0..CHANGES {
            rustix::io::pwrite(file, b"+", 0)?;
            let next = StatKey::of(&rustix::fs::fstat(file)?);
            apart &= next.ctime_ns > last.ctime_ns && next.mtime_ns > last.mtime_ns;
            last = next;
        }
        if now_ns(ClockId::Monotonic) - began < CHANGES_NS_MAX {
            return Ok(apart);
        }
    }
    Ok(false)
}

/// A file without a name on the file system of `folder`.
fn nameless(folder: &Path) -> Option<OwnedFd> {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
        return Some(file);
    }
    let path = folder.join(format!(".{}", crate::local::temp_name()));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode).ok()?;
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).ok()?;
    Some(file)
}
