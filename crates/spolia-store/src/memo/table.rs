//! A hash table of digests in one file, for all processes at once and without locks, no longer than what it holds asks
//! for. Knows neither files nor clocks.
//!
//! ```text
//! v1/memo-2 = page{2^n}           n at most 12; what was never written reads as zero
//! page      = record{64}          4096 bytes
//! record    = u64le(name) digest32 u64le(marks) check16              all zero: none
//! check     = the first 16 bytes of BLAKE3("spolia memo 2\n" state40 digest32 u64le(marks))
//! ```
//!
//! Who asks knows the **state** that the digest was taken in, which is not written down: a record whose check is not that of
//! the asked state, for whatever reason, does not answer. So a record that was torn by two writers, cut or flipped counts as
//! absent, as does one of an earlier state, and nothing depends on where in the file a record lies.
//!
//! A record is looked for from page `(name >> 3) mod 2^n` on, up to four pages on, and no further than the first that has room. One of the same
//! name is replaced. Where there is no room a table twice as long takes the place of this one, by a rename; what another process writes
//! to the old one meanwhile is lost, and found out again. The longest table replaces some other record instead.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

const PAGE_BYTES: usize = 4096;
const RECORD_BYTES: usize = 64;
const DIGEST: std::ops::Range<usize> = 8..40;
const MARKS: std::ops::Range<usize> = 40..48;
const CHECK: std::ops::Range<usize> = 48..64;
/// Of a new table.
const PAGES_MIN: u64 = 2;
/// A quarter of a million records, 16 MiB.
const PAGES_MAX: u64 = 4096;
/// In how many pages a record may lie.
const PROBES_MAX: u64 = 4;
/// After so many pages that were read one by one, all are read at once …
const READS_MAX: u32 = 12;
/// … of a table that has no more than these.
const WHOLE_PAGES_MAX: u64 = 64;

type Page = [u8; PAGE_BYTES];
type Record = [u8; RECORD_BYTES];

/// What a digest was taken in: compared whole, by a sum.
pub(super) type State = [u8; 40];

/// The table at a path. One thread at a time.
pub(super) struct Table {
    path: PathBuf,
    /// Where a longer one is put together.
    tmp: PathBuf,
    opened: RefCell<Opened>,
}

enum Opened {
    Not,
    /// It is not there, or cannot be opened.
    Never,
    ToRead(Pages),
    ToWrite(Pages),
}

/// An open table and what was read of it.
struct Pages {
    file: File,
    count: u64,
    /// The pages from `first` on.
    read: Vec<u8>,
    first: u64,
    reads: u32,
}

impl Table {
    /// The one at `path`. Nothing is opened before it is needed. `tmp`: a folder for files that get their name later.
    pub(super) fn new(path: PathBuf, tmp: PathBuf) -> Self {
        Self { path, tmp, opened: RefCell::new(Opened::Not) }
    }

    /// The digest that was kept under this name in this state, and its marks.
    pub(super) fn find(&self, name: u64, state: &State) -> Option<([u8; 32], u64)> {
        let mut opened = self.opened.borrow_mut();
        if matches!(*opened, Opened::Not) {
            let file = File::open(&self.path).ok();
            *opened = file.and_then(Pages::new).map_or(Opened::Never, Opened::ToRead);
        }
        let (Opened::ToRead(pages) | Opened::ToWrite(pages)) = &mut *opened else { return None };
        for number in probes(name, pages.count) {
            let records = records(pages.page(number)?);
            if let Some(found) = records.iter().find(|record| record[..8] == name.to_le_bytes()) {
                return answer(found, state);
            }
            if records.iter().any(is_empty) {
                return None;
            }
        }
        None
    }

    /// Keeps a digest. What cannot be written is found out again.
    pub(super) fn keep(&self, name: u64, state: &State, digest: &[u8; 32], marks: u64) {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&name.to_le_bytes());
        record[DIGEST].copy_from_slice(digest);
        record[MARKS].copy_from_slice(&marks.to_le_bytes());
        let sum = check(state, &record);
        record[CHECK].copy_from_slice(&sum);
        let mut opened = self.opened.borrow_mut();
        if !matches!(*opened, Opened::ToWrite(_)) {
            *opened = self.open_to_write();
        }
        let Opened::ToWrite(pages) = &mut *opened else { return };
        let mut place = pages.place(name);
        if place.is_none() && pages.count < PAGES_MAX {
            self.grow(pages);
            *opened = self.open_to_write();
        }
        let Opened::ToWrite(pages) = &mut *opened else { return };
        place = place.or_else(|| pages.place(name));
        let some = || (home(name) % pages.count, usize::from(digest[0]) % (PAGE_BYTES / RECORD_BYTES));
        let (number, at) = place.unwrap_or_else(some);
        pages.write(number, at, &record);
    }

    fn open_to_write(&self) -> Opened {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(file) = rustix::fs::open(&self.path, flags, Mode::from_raw_mode(0o666)) else {
            return Opened::Never;
        };
        let file = File::from(file);
        let is_short = file.metadata().is_ok_and(|metadata| metadata.len() < PAGE_BYTES as u64);
        if is_short {
            // Only ever longer: whoever else sees that it is short does the same.
            let _still_short = file.set_len(PAGES_MIN * PAGE_BYTES as u64);
            // What took its place before; a later version may name others here.
            let _not_there = rustix::fs::unlink(self.path.with_file_name("memo-1"));
        }
        Pages::new(file).map_or(Opened::Never, Opened::ToWrite)
    }

    /// Puts a table twice as long in place of `old`, unless another process has.
    fn grow(&self, old: &Pages) {
        let same = |file: &File| {
            let ours = rustix::fs::fstat(file).ok()?;
            let now = rustix::fs::stat(&self.path).ok()?;
            Some((ours.st_dev, ours.st_ino) == (now.st_dev, now.st_ino))
        };
        if same(&old.file) != Some(true) {
            return;
        }
        let count = old.count * 2;
        let mut raw = vec![0; old.count as usize * PAGE_BYTES];
        read_from(&old.file, &mut raw, 0);
        let mut longer = vec![0; count as usize * PAGE_BYTES];
        for record in raw.as_chunks::<RECORD_BYTES>().0.iter().filter(|record| !is_empty(record)) {
            let (name, _) = record.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
            for number in probes(u64::from_le_bytes(*name), count) {
                let from = number as usize * PAGE_BYTES;
                let page = longer[from..from + PAGE_BYTES].as_chunks_mut::<RECORD_BYTES>().0;
                if let Some(room) = page.iter_mut().find(|record| is_empty(record)) {
                    *room = *record;
                    break;
                }
            }
        }
        let temp = self.tmp.join(crate::local::temp_name());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(&temp, flags, Mode::from_raw_mode(0o666)) else { return };
        let written = File::from(file).write_all_at(&longer, 0).is_ok();
        if !written || rustix::fs::rename(&temp, &self.path).is_err() {
            // It stays as long as it was, and replaces.
            let _unremoved = rustix::fs::unlink(&temp);
        }
    }
}

impl Pages {
    /// `None` for a file that is too short to be a table.
    fn new(file: File) -> Option<Self> {
        let pages = file.metadata().ok()?.len() / PAGE_BYTES as u64;
        // A file that was cut to an odd length is a shorter table; what is then not found is kept again.
        let count = 1u64.checked_shl(pages.checked_ilog2()?)?.min(PAGES_MAX);
        Some(Self { file, count, read: Vec::new(), first: 0, reads: 0 })
    }

    /// As it was when it was read.
    fn page(&mut self, number: u64) -> Option<&Page> {
        let held = (self.read.len() / PAGE_BYTES) as u64;
        if !(self.first..self.first + held).contains(&number) {
            self.reads += 1;
            let all = self.reads > READS_MAX && self.count <= WHOLE_PAGES_MAX;
            let (first, count) = if all { (0, self.count) } else { (number, 1) };
            self.read.resize(count as usize * PAGE_BYTES, 0);
            self.first = first;
            read_from(&self.file, &mut self.read, first);
        }
        let from = (number - self.first) as usize * PAGE_BYTES;
        self.read.get(from..)?.first_chunk()
    }

    /// Where a record of this name lies or may lie, as the file is now: the page and the number in it.
    fn place(&mut self, name: u64) -> Option<(u64, usize)> {
        for number in probes(name, self.count) {
            let mut page = [0; PAGE_BYTES];
            read_from(&self.file, &mut page, number);
            let records = records(&page);
            let same = records.iter().position(|record| record[..8] == name.to_le_bytes());
            let place = same.or_else(|| records.iter().position(is_empty));
            if let Some(at) = place {
                return Some((number, at));
            }
        }
        None
    }

    fn write(&mut self, number: u64, at: usize, record: &Record) {
        let from = number * PAGE_BYTES as u64 + (at * RECORD_BYTES) as u64;
        if self.file.write_all_at(record, from).is_err() {
            return;
        }
        let held = (self.read.len() / PAGE_BYTES) as u64;
        if (self.first..self.first + held).contains(&number) {
            let from = (number - self.first) as usize * PAGE_BYTES + at * RECORD_BYTES;
            self.read[from..from + RECORD_BYTES].copy_from_slice(record);
        }
    }
}

/// Reads from page `first` on; what is not there is zero.
fn read_from(file: &File, into: &mut [u8], first: u64) {
    let from = first * PAGE_BYTES as u64;
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    into[filled..].fill(0);
}

fn home(name: u64) -> u64 {
    name >> 3
}

fn probes(name: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..PROBES_MAX.min(count)).map(move |probe| (home(name) + probe) % count)
}

fn records(page: &Page) -> &[Record] {
    page.as_chunks::<RECORD_BYTES>().0
}

fn is_empty(record: &Record) -> bool {
    *record == [0; RECORD_BYTES]
}

fn check(state: &State, record: &Record) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"spolia memo 2\n").update(state).update(&record[DIGEST.start..MARKS.end]);
    let mut sum = [0; 16];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    sum
}

/// What a record says of this state.
fn answer(record: &Record, state: &State) -> Option<([u8; 32], u64)> {
    if record[CHECK] != check(state, record) {
        return None;
    }
    let (mut digest, mut marks) = ([0; 32], [0; 8]);
    digest.copy_from_slice(&record[DIGEST]);
    marks.copy_from_slice(&record[MARKS]);
    Some((digest, u64::from_le_bytes(marks)))
}

/// Whatever the bytes of a file are, it answers nothing that is not in them: for the fuzzer.
#[doc(hidden)]
pub fn probe(folder: &Path, file: &[u8]) {
    let path = folder.join("memo-2");
    let state = |number: u64| {
        let mut state = [0; 40];
        state[..8].copy_from_slice(&number.to_le_bytes());
        state
    };
    std::fs::write(&path, file).unwrap_or_default();
    for name in 0..40 {
        let table = Table::new(path.clone(), folder.to_owned());
        if let Some((digest, _)) = table.find(name, &state(name)) {
            assert!(file.windows(32).any(|bytes| *bytes == digest), "it made up a digest");
        }
        table.keep(name, &state(name), &[7; 32], name);
        assert_eq!(table.find(name, &state(name)), Some(([7; 32], name)), "it lost what it was given");
        assert_eq!(table.find(name, &state(name + 1)), None, "it confused two states");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(folder: &Path) -> Table {
        Table::new(folder.join("memo-2"), folder.to_owned())
    }

    fn state(number: u64) -> State {
        let mut state = [0; 40];
        state[32..].copy_from_slice(&number.to_le_bytes());
        state
    }

    fn digest(number: u64) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    fn name(number: u64) -> u64 {
        super::super::name_of(1, number)
    }

    fn length(folder: &Path) -> u64 {
        std::fs::metadata(folder.join("memo-2")).unwrap().len()
    }

    #[test]
    fn it_grows_as_it_fills_and_keeps_all() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("memo-1"), "of an earlier version").unwrap();
        for number in 0..20_000 {
            if number % 500 == 0 {
                // What one process holds open must not hide what another has made longer.
                assert_eq!(table(temp.path()).find(name(number), &state(number)), None);
            }
            table(temp.path()).keep(name(number), &state(number), &digest(number), number);
            if number == 80 {
                assert_eq!(length(temp.path()), 2 * 4096, "80 records");
            }
        }
        assert!(length(temp.path()) <= 1024 * 4096, "{} bytes for 20,000 records", length(temp.path()));
        let table = table(temp.path());
        let kept = (0..20_000)
            .filter(|number| table.find(name(*number), &state(*number)) == Some((digest(*number), *number)));
        assert_eq!(kept.count(), 20_000);
        assert!(!temp.path().join("memo-1").exists());
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_later_state_of_the_same_name_takes_the_place_of_an_earlier() {
        let temp = tempfile::tempdir().unwrap();
        let table = table(temp.path());
        for number in 0..1000 {
            table.keep(name(5), &state(number), &digest(number), 0);
        }
        assert_eq!(table.find(name(5), &state(999)), Some((digest(999), 0)));
        assert_eq!(table.find(name(5), &state(998)), None);
        assert_eq!(length(temp.path()), 2 * 4096);
    }

    #[test]
    fn a_flipped_or_cut_record_is_absent_and_healed() {
        let temp = tempfile::tempdir().unwrap();
        table(temp.path()).keep(name(7), &state(7), &digest(7), 3);
        let path = temp.path().join("memo-2");
        let whole = std::fs::read(&path).unwrap();
        let from = whole.iter().position(|byte| *byte != 0).unwrap() / RECORD_BYTES * RECORD_BYTES;
        for at in from..from + RECORD_BYTES {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                std::fs::write(&path, &flipped).unwrap();
                assert_eq!(table(temp.path()).find(name(7), &state(7)), None, "{at}");
            }
        }
        for length in [0, 1, from + 9, 4096, 5000, whole.len()] {
            std::fs::write(&path, &whole[..length]).unwrap();
            table(temp.path()).keep(name(7), &state(7), &digest(7), 3);
            assert_eq!(table(temp.path()).find(name(7), &state(7)), Some((digest(7), 3)), "{length}");
        }
    }

    #[test]
    fn processes_that_write_at_once_lose_some_and_confuse_nothing() {
        let temp = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4u64 {
                let folder = temp.path();
                scope.spawn(move || {
                    for number in (writer..4000).step_by(4) {
                        let table = table(folder);
                        table.keep(name(number), &state(number), &digest(number), number);
                        let earlier = number / 2;
                        if let Some(found) = table.find(name(earlier), &state(earlier)) {
                            assert_eq!(found, (digest(earlier), earlier));
                        }
                    }
                });
            }
        });
        let table = table(temp.path());
        let mut kept = 0;
        for number in 0..4000 {
            if let Some(found) = table.find(name(number), &state(number)) {
                assert_eq!(found, (digest(number), number));
                kept += 1;
            }
        }
        assert!(kept > 2000, "{kept} of 4000");
    }

    #[test]
    fn the_longest_table_replaces_instead() {
        let temp = tempfile::tempdir().unwrap();
        let file = File::create(temp.path().join("memo-2")).unwrap();
        file.set_len(PAGES_MAX * 4096).unwrap();
        let table = table(temp.path());
        // All of one page and its neighbours.
        for number in 0..300u64 {
            table.keep(8 * PAGES_MAX * number, &state(number), &digest(number), 0);
        }
        assert_eq!(length(temp.path()), PAGES_MAX * 4096);
        let kept = (0..300u64).filter(|number| {
            table.find(8 * PAGES_MAX * number, &state(*number)) == Some((digest(*number), 0))
        });
        assert!(kept.count() >= 200);
    }
}
