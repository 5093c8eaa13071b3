//! What a user names → the measurements it means: a file, a run, or a commit.

use std::path::Path;

use spolia_engine::Cancel;
use spolia_perf::history::{Row, RowFilter, find_run};
use spolia_perf::record::Record;
use spolia_perf::{PerfError, foreign};

use super::{Perf, failure};
use crate::exit::Failure;

/// How many builds are looked at for steps.
const LOOKED_AT_MAX: usize = 50;

/// The measurements that `name` means. Never none.
pub(super) fn records(name: &str, perf: &Perf<'_>) -> Result<Vec<Record>, Failure> {
    find(name, perf).map_err(|error| failure(&error))
}

/// The same, and where nothing is named the newest build with steps, or else the newest measurement.
pub(super) fn records_or_newest_build(name: Option<&str>, perf: &Perf<'_>) -> Result<Vec<Record>, Failure> {
    if let Some(name) = name {
        return records(name, perf);
    }
    let filter = RowFilter { root: Some(perf.root_text()), ..RowFilter::default() };
    let rows = perf.index()?.rows(&filter).map_err(|error| failure(&error))?;
    let builds = rows.iter().rev().filter(|row| row.hits.or(row.misses).is_some());
    match newest(perf, builds, |record| !record.steps.is_empty())? {
        Some(record) => Ok(vec![record]),
        None => records("latest", perf),
    }
}

/// The first record that is as asked, among the first so many rows.
pub(super) fn newest<'r>(
    perf: &Perf<'_>,
    rows: impl Iterator<Item = &'r Row>,
    is_wanted: impl Fn(&Record) -> bool,
) -> Result<Option<Record>, Failure> {
    for row in rows.take(LOOKED_AT_MAX) {
        let past = find_run(&perf.store, &row.run, None).map_err(|error| failure(&error))?;
        if let Some(record) = past.and_then(|past| past.records.into_iter().find(&is_wanted)) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn find(name: &str, perf: &Perf<'_>) -> Result<Vec<Record>, PerfError> {
    let path = perf.cwd.join(name);
    let is_file = std::fs::metadata(&path).is_ok_and(|found| !found.is_dir());
    let meant_as_file = name.contains('/') && Path::new(name).extension().is_some();
    if is_file || meant_as_file || [".json", ".html"].iter().any(|ending| name.ends_with(ending)) {
        return foreign::read(&path);
    }
    let root = perf.root_text();
    if let Some(past) = find_run(&perf.store, name, Some(&root))? {
        return match past.records.is_empty() {
            false => Ok(past.records),
            true => Err(PerfError::NothingMeasured { what: format!("run `{name}` has no measurements") }),
        };
    }
    if name == "latest" {
        return Err(PerfError::NothingMeasured { what: "this project has no measurements".to_owned() });
    }
    of_commit(name, perf, &root)
}

fn of_commit(name: &str, perf: &Perf<'_>, root: &str) -> Result<Vec<Record>, PerfError> {
    let no_such = || PerfError::NoSuchRun { name: name.to_owned() };
    // A name that git would take for an option names no commit.
    if name.starts_with('-') || !perf.cwd.ancestors().any(|folder| folder.join(".git").exists()) {
        return Err(no_such());
    }
    let Ok(cancel) = Cancel::new() else { return Err(no_such()) };
    let asked =
        perf.programs(&cancel).ask_git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]);
    let Ok(commit) = asked else { return Err(no_such()) };
    let commit = commit.trim().to_owned();
    let index = spolia_perf::history::Index::open(&perf.store, crate::recorder::now_us())?;
    let mut records = Vec::new();
    for run in index.runs_of_commit(Some(root), &commit)? {
        if let Some(past) = find_run(&perf.store, &run, None)? {
            let of_it = |record: &Record| record.facts.git.as_ref().is_some_and(|git| git.commit == commit);
            records.extend(past.records.into_iter().filter(of_it));
        }
    }
    if records.is_empty() {
        let short = commit.get(..10).unwrap_or(&commit);
        return Err(PerfError::NothingMeasured {
            what: format!("commit {short} (`{name}`) has no measurements"),
        });
    }
    Ok(records)
}
