//! The record of every run: one file of events for each, appended and never changed. Knows events as
//! lines; what they mean is for others.
//!
//! ```text
//! v1/journal/<YYYYMMDD>/<run>.jsonl         the day in UTC
//! run  = <YYYYMMDD>T<hhmmss>.<micros, 6 digits>-<pid>-<8 hex digits>      sorts by start
//! file = line*        line = one event as JSON (see `spolia_core::event`) "\n"
//! ```
//!
//! Lines are buffered and written at the points that the caller names, each time with one `write(2)` of
//! whole lines. A run that was killed ends without `run-finished`, and perhaps in the middle of a line:
//! readers skip what is no event and count it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use spolia_core::calendar::{Civil, civil};
use spolia_core::event::{Event, EventKind};

use crate::local::{LocalStore, io, names};
use crate::store::StoreError;

/// The longest line that is read, bytes.
pub const LINE_BYTES_MAX: u64 = 16 << 20;
/// How many of the newest runs may still be running.
const RUNNING_LOOKED_AT: usize = 64;

/// The name of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    /// A name for a run that starts at `now_us`, µs since 1970.
    pub fn new(now_us: u64) -> Self {
        let Civil { year, month, day, hour, minute, second } = civil(now_us / 1_000_000);
        let random = crate::local::random() as u32;
        Self(format!(
            "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:06}-{}-{random:08x}",
            now_us % 1_000_000,
            std::process::id(),
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The day it started, as in the journal's folders.
    pub fn day(&self) -> &str {
        &self.0[..8]
    }

    /// The process of the run, by its number then.
    pub fn process(&self) -> Option<u32> {
        self.0.split('-').nth(1)?.parse().ok()
    }

    /// A name from the journal; `None` where it is no run's.
    pub fn parse(text: &str) -> Option<Self> {
        let raw = text.as_bytes();
        let shaped = raw.len() > 23
            && raw[..8].iter().all(u8::is_ascii_digit)
            && raw[8] == b'T'
            && raw[9..].iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'.'));
        shaped.then(|| Self(text.to_owned()))
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes the events of one run.
pub struct JournalWriter {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl JournalWriter {
    /// A writer for the run; nothing is made on disk before the first [`JournalWriter::flush`].
    pub fn new(store: &LocalStore, run: &RunId) -> Self {
        let path = folder(store).join(run.day()).join(format!("{run}.jsonl"));
        Self { path, file: None, buffer: Vec::new() }
    }

    /// The run's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the event for the next flush. What a step prints is left out: it is in the store.
    ///
    /// # Errors
    /// An event that cannot be written as JSON.
    pub fn append(&mut self, event: &Event) -> Result<(), StoreError> {
        if matches!(event.kind, EventKind::StepOutput { .. }) {
            return Ok(());
        }
        let before = self.buffer.len();
        if let Err(error) = serde_json::to_writer(&mut self.buffer, event) {
            self.buffer.truncate(before);
            return Err(io("write", &self.path, std::io::Error::from(error)));
        }
        self.buffer.push(b'\n');
        Ok(())
    }

    /// Writes what was kept. What could not be written is dropped, so that a full disk costs no memory.
    ///
    /// # Errors
    /// Those of making and writing the file.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.write();
        self.buffer.clear();
        written.map_err(|source| io("write", &self.path, source))
    }

    fn write(&mut self) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path)?),
        };
        file.write_all(&self.buffer)
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        // The caller flushes where it wants to know; this saves the lines of a run that ends early.
        let _unwritten = self.flush();
    }
}

/// A new or existing file to append to, with its folder.
///
/// # Errors
/// Those of making either.
pub fn create(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o666));
    let made = match open() {
        Err(rustix::io::Errno::NOENT) => {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            open()
        }
        other => other,
    };
    Ok(File::from(made?))
}

fn folder(store: &LocalStore) -> PathBuf {
    store.base().join("journal")
}

/// One run as it was recorded.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// Its file.
    pub path: PathBuf,
    /// Its events in order.
    pub events: Vec<Event>,
    /// Lines that are no event of a version known here, such as one cut short by a crash.
    pub unreadable_lines: u64,
}

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// The first day, `YYYYMMDD`; the oldest where `None`.
    pub from_day: Option<String>,
    /// The last day; the newest where `None`.
    pub to_day: Option<String>,
    /// At most so many, the newest.
    pub newest: Option<usize>,
}

/// The runs that are recorded, oldest first, with their files. Nothing is read but the folders.
///
/// # Errors
/// Those of listing; no journal is an empty one.
pub fn list_runs(store: &LocalStore, filter: &RunFilter) -> Result<Vec<(RunId, PathBuf)>, StoreError> {
    let mut days = names(&folder(store))?;
    days.sort();
    let mut runs = Vec::new();
    for (day, path) in days.into_iter().rev() {
        let Ok(day) = std::str::from_utf8(&day) else { continue };
        let before = filter.from_day.as_deref().is_some_and(|from| day < from);
        let after = filter.to_day.as_deref().is_some_and(|to| day > to);
        if before || after {
            continue;
        }
        let mut of_day: Vec<_> = names(&path)?.into_iter().filter_map(named_run).collect();
        of_day.sort();
        runs.extend(of_day.into_iter().rev());
        if filter.newest.is_some_and(|newest| runs.len() >= newest) {
            break;
        }
    }
    runs.truncate(filter.newest.unwrap_or(usize::MAX));
    runs.reverse();
    Ok(runs)
}

fn named_run((name, path): (Vec<u8>, PathBuf)) -> Option<(RunId, PathBuf)> {
    let name = String::from_utf8(name).ok()?;
    Some((RunId::parse(name.strip_suffix(".jsonl")?)?, path))
}

/// Runs of other processes that have begun and not ended: their process is alive. A hit of theirs is not yet
/// noted as a use. Processes of another machine or container are not seen.
///
/// # Errors
/// Those of listing.
pub fn running(store: &LocalStore, is_alive: &dyn Fn(u32) -> bool) -> Result<Vec<RunId>, StoreError> {
    let filter = RunFilter { newest: Some(RUNNING_LOOKED_AT), ..RunFilter::default() };
    let mut running = Vec::new();
    for (id, path) in list_runs(store, &filter)? {
        let alive = id.process().is_some_and(|pid| pid != std::process::id() && is_alive(pid));
        if !alive {
            continue;
        }
        let ended = |run: &Run| run.events.iter().any(|e| matches!(e.kind, EventKind::RunFinished { .. }));
        if read_run(&id, &path).is_ok_and(|run| !run.events.is_empty() && !ended(&run)) {
            running.push(id);
        }
    }
    Ok(running)
}

/// Reads the runs that `filter` lets through, oldest first, one in memory at a time. A run whose file
/// vanishes meanwhile is left out.
///
/// # Errors
/// Those of listing and reading.
pub fn read_runs(
    store: &LocalStore,
    filter: &RunFilter,
    visit: &mut dyn FnMut(Run),
) -> Result<(), StoreError> {
    for (id, path) in list_runs(store, filter)? {
        match read_run(&id, &path) {
            Ok(run) => visit(run),
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads one run's file.
///
/// # Errors
/// Those of reading; a line that is no event is counted, not an error.
pub fn read_run(id: &RunId, path: &Path) -> Result<Run, StoreError> {
    let file = File::open(path).map_err(|source| io("read", path, source))?;
    let mut lines = BufReader::new(file);
    let mut run = Run { id: id.clone(), path: path.to_owned(), events: Vec::new(), unreadable_lines: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|source| io("read", path, source))? == 0 {
            return Ok(run);
        }
        match serde_json::from_slice(&line) {
            Ok(event) if line.ends_with(b"\n") => run.events.push(event),
            _ => run.unreadable_lines += 1,
        }
    }
}

/// The days that have a folder in the journal, oldest first.
///
/// # Errors
/// Those of listing.
pub fn days(store: &LocalStore) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let is_day = |day: &String| day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    let parse = |(name, path)| Some((String::from_utf8(name).ok().filter(is_day)?, path));
    let mut days: Vec<_> = names(&folder(store))?.into_iter().filter_map(parse).collect();
    days.sort();
    Ok(days)
}

/// The day of a moment, µs since 1970, as in the journal's folders.
pub fn day_of(now_us: u64) -> String {
    let Civil { year, month, day, .. } = civil(now_us / 1_000_000);
    format!("{year:04}{month:02}{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_parse() {
        let (one, two) = (RunId::new(1_700_000_000_000_001), RunId::new(1_700_000_000_000_002));
        assert!(one < two);
        assert!(one.as_str().starts_with("20231114T221320.000001-"));
        assert_eq!(RunId::parse(one.as_str()), Some(one));
        assert_eq!(RunId::parse("../../../../../etc/passwd-and-more"), None);
        assert_eq!(RunId::parse(""), None);
    }
}
