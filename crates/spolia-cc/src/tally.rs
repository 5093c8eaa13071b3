//! What every call did, one line each: written with one `write(2)`, read by `spolia stats` and `spolia why`.
//! Knows no compiler.
//!
//! ```text
//! v1/cc/tally/<YYYYMMDD>    = line*                 the day in UTC
//! line                      = one Record as JSON "\n"
//! ```
//!
//! The file is opened for appending, so lines of many processes do not mix; one that a crash cut short, or that
//! is longer than [`LINE_BYTES_MAX`], is skipped by readers and counted.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spolia_core::{ActionKey, Digest, DigestFunction};
use spolia_store::{LocalStore, RunId, StoreError, journal, uses};

use crate::Outcome;

/// The longest line that is written, bytes.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// What one call did. A field that was not observed is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it ended, µs since 1970.
    pub at_us: u64,
    /// `hit`, `miss`, `not-cacheable`, `pass-through`, `internal`.
    pub outcome: String,
    /// The reason's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the reason is about: a file, an argument, a variable, an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why a miss was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_stored: Option<String>,
    /// `c`, `c++`, `rust`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The compiler's name, as it was called.
    pub compiler: String,
    /// The source or crate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where it ran.
    pub folder: String,
    /// The session it ran in: who started make, cargo or ninja.
    pub session: String,
    /// CPU time of Spolia itself, µs.
    pub own_cpu_us: Option<u64>,
    /// CPU time of the compile that ran, or that did not have to, µs.
    pub compile_cpu_us: Option<u64>,
    /// Wall time of the same, µs.
    pub compile_wall_us: Option<u64>,
    /// Bytes of the outputs that were put back or kept.
    pub bytes: Option<u64>,
    /// Bytes of rustc's incremental data that were given back before it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental_given_back_bytes: Option<u64>,
    /// Bytes of it that were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental_kept_bytes: Option<u64>,
    /// The key under which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental_key: Option<String>,
    /// Whether it waited for an identical compile longer than it may.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waited_in_vain: bool,
    /// For a hit that was compiled again: whether that gave the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// For a hit that was compiled again and gave something else: whether the compiler also differs from itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub varies: bool,
    /// The fast key, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Record {
    /// Takes in how it went.
    pub fn tell(&mut self, outcome: &Outcome) {
        let (word, reason, detail) = match outcome {
            Outcome::Hit { saved, .. } => {
                self.compile_wall_us = saved.wall_us;
                self.compile_cpu_us = saved.user_us.zip(saved.sys_us).map(|(user, sys)| user + sys);
                ("hit", None, None)
            }
            Outcome::Miss { reason, not_stored } => {
                self.not_stored.clone_from(not_stored);
                ("miss", Some(reason.name()), reason.detail().map(str::to_owned))
            }
            Outcome::NotCacheable { reason, argument } => {
                ("not-cacheable", Some(reason.name()), argument.clone())
            }
            Outcome::PassThrough(reason) => ("pass-through", Some(reason.name()), None),
            Outcome::Internal(error) => ("internal", None, Some(error.clone())),
        };
        self.outcome = word.to_owned();
        self.reason = reason.map(str::to_owned);
        self.detail = detail;
    }
}

/// Appends a record. What cannot be written is not counted.
pub fn append(store: &LocalStore, record: &Record) {
    if !store.is_writable() {
        return;
    }
    let Ok(mut line) = serde_json::to_vec(record) else { return };
    line.push(b'\n');
    if line.len() > LINE_BYTES_MAX {
        return;
    }
    let path = store.base().join("cc/tally").join(journal::day_of(record.at_us));
    // Statistics may be lost; a build may not.
    let _lost = journal::create(&path).and_then(|mut file| file.write_all(&line));
}

/// Bytes that have been appended so far: more of them later means that calls ended in between.
pub fn size_bytes(store: &LocalStore) -> u64 {
    let days = std::fs::read_dir(store.base().join("cc/tally"));
    days.into_iter().flatten().flatten().filter_map(|day| Some(day.metadata().ok()?.len())).sum()
}

/// What [`read`] found.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// In the order they were written, day by day.
    pub records: Vec<Record>,
    /// Lines that are no records.
    pub unreadable: u64,
}

/// All records since `since_us`, µs since 1970.
///
/// # Errors
/// Those of listing the folder; one that is not there is empty.
pub fn read(store: &LocalStore, since_us: u64) -> std::io::Result<Tally> {
    let mut tally = Tally::default();
    let mut days = Vec::new();
    match std::fs::read_dir(store.base().join("cc/tally")) {
        Ok(entries) => {
            for entry in entries {
                days.push(entry?.path());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(tally),
        Err(error) => return Err(error),
    }
    days.sort();
    let first = journal::day_of(since_us);
    for day in days {
        let name = day.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name >= first {
            read_day(&day, since_us, &mut tally);
        }
    }
    Ok(tally)
}

fn read_day(path: &Path, since_us: u64, tally: &mut Tally) {
    let Ok(text) = std::fs::read(path) else { return };
    let (records, unreadable) = parse(&text);
    tally.records.extend(records.into_iter().filter(|record| record.at_us >= since_us));
    tally.unreadable += unreadable;
}

/// The records of a day's file, and how many lines are none.
pub fn parse(text: &[u8]) -> (Vec<Record>, u64) {
    let (mut records, mut unreadable) = (Vec::new(), 0);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            Err(_) => unreadable += 1,
        }
    }
    (records, unreadable)
}

/// A day, µs.
const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Notes for a collection which results calls have used since `since_us`: a hit itself writes nothing but its line
/// here. A result counts as used at the last use of its day.
///
/// # Errors
/// Those of reading and writing. Losing it means that results may be collected early.
pub fn note_uses(store: &LocalStore, since_us: u64) -> Result<(), StoreError> {
    let tally = read(store, since_us).map_err(|source| StoreError::Io {
        verb: "read",
        path: store.base().join("cc/tally"),
        source,
    })?;
    for (at_us, keys) in uses_by_day(&tally.records) {
        uses::record(store, &RunId::new(at_us), &keys, at_us, None)?;
    }
    Ok(())
}

/// For each day its last use and what was used in it.
fn uses_by_day(records: &[Record]) -> Vec<(u64, Vec<ActionKey>)> {
    let mut days: BTreeMap<u64, (u64, Vec<ActionKey>)> = BTreeMap::new();
    for record in records {
        let Some(key) = record.key.as_deref().and_then(key_of) else { continue };
        let (at_us, keys) = days.entry(record.at_us / DAY_US).or_default();
        *at_us = record.at_us.max(*at_us);
        keys.push(key);
    }
    days.into_values().collect()
}

/// A result by the calls that used it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The compiler's name, as it was called last.
    pub compiler: String,
    /// The source or crate, where it was told.
    pub source: Option<String>,
    /// Where it ran last.
    pub folder: String,
    /// Calls that were answered by it.
    pub hits: u64,
}

impl Called {
    /// `gcc src/x.c`.
    pub fn label(&self) -> String {
        let compiler = self.compiler.rsplit('/').next().unwrap_or_default();
        match &self.source {
            Some(source) => format!("{compiler} {source}"),
            None => compiler.to_owned(),
        }
    }
}

/// The results that calls have used or made.
pub fn by_key(records: &[Record]) -> HashMap<ActionKey, Called> {
    let mut calls: HashMap<ActionKey, Called> = HashMap::new();
    for record in records {
        if let Some(key) = record.incremental_key.as_deref().and_then(key_of) {
            let source = record.source.as_ref().map(|source| format!("{source}, incremental data"));
            let (compiler, folder) = (record.compiler.clone(), record.folder.clone());
            calls.insert(key, Called { compiler, source, folder, hits: 0 });
        }
        let Some(key) = record.key.as_deref().and_then(key_of) else { continue };
        let hits = calls.get(&key).map_or(0, |called| called.hits) + u64::from(record.outcome == "hit");
        let (compiler, source) = (record.compiler.clone(), record.source.clone());
        calls.insert(key, Called { compiler, source, folder: record.folder.clone(), hits });
    }
    calls
}

fn key_of(hex: &str) -> Option<ActionKey> {
    Digest::from_hex(DigestFunction::Blake3, hex).ok().map(ActionKey)
}

/// Forgets everything: `spolia stats --zero`. How many days were forgotten.
///
/// # Errors
/// Those of listing and removing.
pub fn zero(store: &LocalStore) -> std::io::Result<u64> {
    let mut removed = 0;
    match std::fs::read_dir(store.base().join("cc/tally")) {
        Ok(entries) => {
            for entry in entries {
                std::fs::remove_file(entry?.path())?;
                removed += 1;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_gathered_by_day() {
        let key = |byte: u8| ActionKey(Digest::new(DigestFunction::Blake3, [byte; 32]));
        let record = |at_us: u64, key: Option<ActionKey>| Record {
            at_us,
            key: key.map(|key| key.0.to_hex()),
            ..Record::default()
        };
        let odd = Record { key: Some("not a digest".to_owned()), ..Record::default() };
        let day = DAY_US;
        let records = [
            record(day + 7, Some(key(1))),
            record(day + 5, Some(key(2))),
            record(day + 9, None),
            odd,
            record(2 * day, Some(key(1))),
        ];
        let expect = [(day + 7, vec![key(1), key(2)]), (2 * day, vec![key(1)])];
        assert_eq!(uses_by_day(&records), expect);
        let called = |outcome: &str, compiler: &str| Record {
            outcome: outcome.to_owned(),
            compiler: compiler.to_owned(),
            source: Some("x.c".to_owned()),
            ..record(day, Some(key(7)))
        };
        let calls = by_key(&[called("miss", "gcc"), called("hit", "gcc"), called("hit", "/usr/bin/gcc")]);
        assert_eq!((calls[&key(7)].label().as_str(), calls[&key(7)].hits), ("gcc x.c", 2));
    }
}
