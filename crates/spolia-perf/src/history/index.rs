//! The journal's measurements in SQLite. It may be lost, damaged or of another version at any time: then it is made anew
//! from the journal. Only whole files of the journal enter it, each in one transaction.
//!
//! A run that had not ended when it was read is read again when its file has grown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use spolia_store::LocalStore;
use spolia_store::journal::{RunFilter, list_runs, read_run};

use super::of_run::{Past, of_run};
use crate::accept::Baseline;
use crate::error::PerfError;
use crate::record::{Record, State};
use crate::statistics::median;

/// Another number is another layout: the file is made anew.
const LAYOUT: i64 = 2;
/// Runs that are read in one transaction.
const BATCH: usize = 500;
/// The clock may be so far behind the machine that measured: later than this a run comes from the future.
const FUTURE_US: u64 = 86_400_000_000;

const TABLES: &str = "
CREATE TABLE files (run TEXT PRIMARY KEY, size INTEGER NOT NULL, ended INTEGER NOT NULL, unreadable INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE records (
  run TEXT NOT NULL, series INTEGER NOT NULL, at_us INTEGER NOT NULL, root TEXT NOT NULL, project TEXT,
  purpose TEXT NOT NULL, subject TEXT NOT NULL, platform TEXT, state TEXT,
  git_commit TEXT, branch TEXT, dirty INTEGER, title TEXT, host TEXT,
  good INTEGER NOT NULL, bad INTEGER NOT NULL, wall_us REAL, cpu_us REAL, memory REAL, size REAL, store REAL,
  hits INTEGER, misses INTEGER, walls TEXT NOT NULL, cpus TEXT NOT NULL,
  PRIMARY KEY (run, series)) WITHOUT ROWID;
CREATE INDEX by_time ON records (root, at_us);
CREATE TABLE steps (
  run TEXT NOT NULL, name TEXT NOT NULL, outcome TEXT NOT NULL, miss TEXT, miss_kind TEXT, wall_us INTEGER, cpu_us INTEGER,
  saved_us INTEGER, bytes INTEGER, PRIMARY KEY (run, name)) WITHOUT ROWID;
CREATE TABLE baselines (run TEXT NOT NULL, root TEXT NOT NULL, json TEXT NOT NULL);
CREATE INDEX baselines_by_run ON baselines (run);
";

/// One measurement in few words.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Row {
    /// The run it was made in.
    pub run: String,
    /// When, µs since 1970.
    pub at_us: u64,
    /// `monitor`, `benchmark`, `build`, ….
    pub purpose: String,
    /// Of what.
    pub subject: String,
    /// For which platform.
    pub platform: Option<String>,
    /// Cold or warm.
    pub state: Option<State>,
    /// The commit.
    pub commit: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// Whether files differed from the commit.
    pub dirty: Option<bool>,
    /// The commit's first line.
    pub title: Option<String>,
    /// The machine's fingerprint.
    pub host: Option<String>,
    /// Runs that succeeded and that did not.
    pub good: u64,
    /// See `good`.
    pub bad: u64,
    /// The median, µs.
    pub wall_us: Option<f64>,
    /// The median, µs.
    pub cpu_us: Option<f64>,
    /// The median of the largest process, bytes.
    pub memory_bytes: Option<f64>,
    /// Bytes of the outputs.
    pub size_bytes: Option<f64>,
    /// Bytes of the store.
    pub store_bytes: Option<f64>,
    /// Steps answered from a cache.
    pub hits: Option<u64>,
    /// Steps that ran.
    pub misses: Option<u64>,
    /// Each good run's wall time, µs.
    pub walls_us: Vec<f64>,
    /// Each good run's CPU time, µs.
    pub cpus_us: Vec<f64>,
}

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct RowFilter {
    /// Of this project.
    pub root: Option<String>,
    /// Of this subject.
    pub subject: Option<String>,
    /// At most so many, the newest.
    pub newest: Option<usize>,
}

/// A step over all runs.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StepTotal {
    /// The step and its platform.
    pub name: String,
    /// How often it ran.
    pub ran: u64,
    /// How often it was answered from a cache.
    pub hit: u64,
    /// Wall time of the runs, µs.
    pub ran_us: u64,
    /// The commonest reason to run.
    pub reason: Option<String>,
}

/// What is to be said about the history as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// Runs that were read.
    pub runs: u64,
    /// Lines in them that could not be.
    pub unreadable_lines: u64,
    /// Files that could not be read at all.
    pub unreadable_files: u64,
    /// Runs dated after now: a clock was set.
    pub from_the_future: u64,
    /// Whether the index was damaged or of another version, and was made anew.
    pub made_anew: bool,
}

/// The open index, up to date with the journal.
pub struct Index {
    db: Connection,
    path: PathBuf,
    told: Told,
}

impl Index {
    /// Opens it and reads what the journal has more. In a store that may not be written, or where the file cannot be
    /// made, it is built in memory.
    ///
    /// # Errors
    /// The journal cannot be listed, or SQLite fails also on a new file.
    pub fn open(store: &LocalStore, now_us: u64) -> Result<Self, PerfError> {
        let path = super::folder(store).join("history.sqlite");
        let on_disk = store.is_writable() && std::fs::create_dir_all(super::folder(store)).is_ok();
        let mut index = match on_disk.then(|| Self::at(&path)) {
            Some(Ok(index)) => index,
            // Somebody else has it: his answer and ours come from the same journal.
            Some(Err(error)) if is_busy(&error) => Self::in_memory()?,
            Some(Err(_)) => Self::anew(&path)?,
            None => Self::in_memory()?,
        };
        match index.catch_up(store, now_us) {
            Ok(()) => Ok(index),
            Err(error @ PerfError::Index { .. }) if on_disk => {
                if is_busy(&error) {
                    let mut index = Self::in_memory()?;
                    index.catch_up(store, now_us)?;
                    return Ok(index);
                }
                // Damaged further in: what SQLite finds only when it gets there.
                drop(index);
                let mut index = Self::anew(&path)?;
                index.catch_up(store, now_us)?;
                Ok(index)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the file and makes it anew from the journal.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn rebuild(store: &LocalStore, now_us: u64) -> Result<Self, PerfError> {
        let path = super::folder(store).join("history.sqlite");
        remove(&path);
        let mut index = Self::open(store, now_us)?;
        index.told.made_anew = true;
        Ok(index)
    }

    fn anew(path: &Path) -> Result<Self, PerfError> {
        remove(path);
        // A full disk, or one that SQLite cannot lock: the answer matters more than its speed next time.
        let mut index = Self::at(path).or_else(|_| Self::in_memory())?;
        index.told.made_anew = true;
        Ok(index)
    }

    fn in_memory() -> Result<Self, PerfError> {
        let path = PathBuf::from(":memory:");
        let db = Connection::open_in_memory().map_err(failed(&path))?;
        Self::prepared(db, path)
    }

    fn at(path: &Path) -> Result<Self, PerfError> {
        let db = Connection::open(path).map_err(failed(path))?;
        Self::prepared(db, path.to_owned())
    }

    fn prepared(mut db: Connection, path: PathBuf) -> Result<Self, PerfError> {
        let mut set_up = || -> rusqlite::Result<bool> {
            db.busy_timeout(std::time::Duration::from_secs(20))?;
            // It can be made anew: nothing needs to reach the disk before the next power cut.
            db.pragma_update(None, "synchronous", "OFF")?;
            let journal_mode = db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
            let _rollback_journal_where_not = journal_mode;
            let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let layout: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if layout == 0 {
                change.execute_batch(TABLES)?;
                change.pragma_update(None, "user_version", LAYOUT)?;
            }
            change.commit()?;
            Ok(layout == 0 || layout == LAYOUT)
        };
        match set_up() {
            Ok(true) => Ok(Self { db, path, told: Told::default() }),
            Ok(false) => {
                let other = rusqlite::Error::InvalidParameterName("another version's layout".to_owned());
                Err(PerfError::Index { path, source: other })
            }
            Err(source) => Err(PerfError::Index { path, source }),
        }
    }

    /// Reads what the journal has more, and forgets what it has no more.
    fn catch_up(&mut self, store: &LocalStore, now_us: u64) -> Result<(), PerfError> {
        let failed = failed(&self.path);
        let mut known: HashMap<String, (u64, bool)> = HashMap::new();
        let mut read_known = || -> rusqlite::Result<()> {
            let mut query = self.db.prepare("SELECT run, size, ended FROM files")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                known.insert(row.get(0)?, (row.get::<_, i64>(1)?.cast_unsigned(), row.get(2)?));
            }
            Ok(())
        };
        read_known().map_err(&failed)?;
        let runs = list_runs(store, &RunFilter::default())?;
        self.told.runs = runs.len() as u64;
        let mut new = Vec::new();
        for (id, path) in runs {
            match known.remove(id.as_str()) {
                Some((_, true)) => {}
                Some((size, false)) if std::fs::metadata(&path).is_ok_and(|found| found.len() == size) => {}
                _ => new.push((id, path)),
            }
        }
        let gone: Vec<String> = known.into_keys().collect();
        for batch in new.chunks(BATCH) {
            let change = self.db.transaction().map_err(&failed)?;
            for (id, path) in batch {
                // Its size from before it is read: what is added meanwhile is found next time.
                let size = std::fs::metadata(path).map_or(0, |found| found.len());
                match read_run(id, path) {
                    Ok(run) => {
                        let past = of_run(&run);
                        let is_end = |event: &spolia_core::Event| {
                            matches!(event.kind, spolia_core::EventKind::RunFinished { .. })
                        };
                        let ended = run.events.iter().any(is_end);
                        enter(&change, id.as_str(), size, ended, run.unreadable_lines, past.as_ref())
                            .map_err(&failed)?;
                    }
                    Err(_) => self.told.unreadable_files += 1,
                }
            }
            change.commit().map_err(&failed)?;
        }
        if !gone.is_empty() {
            let change = self.db.transaction().map_err(&failed)?;
            for run in &gone {
                forget(&change, run).map_err(&failed)?;
            }
            change.commit().map_err(&failed)?;
        }
        let count = |sql: &str, limit: i64| self.db.query_row(sql, [limit], |row| row.get::<_, i64>(0));
        let unreadable =
            count("SELECT coalesce(sum(unreadable), 0) FROM files WHERE ?1 = 0", 0).map_err(&failed)?;
        self.told.unreadable_lines = unreadable.cast_unsigned();
        let now = i64::try_from(now_us.saturating_add(FUTURE_US)).unwrap_or(i64::MAX);
        let future =
            count("SELECT count(DISTINCT run) FROM records WHERE at_us > ?1", now).map_err(&failed)?;
        self.told.from_the_future = future.cast_unsigned();
        Ok(())
    }

    /// What is to be said about all of it.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// The measurements, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rows(&self, filter: &RowFilter) -> Result<Vec<Row>, PerfError> {
        let newest = filter.newest.and_then(|newest| i64::try_from(newest).ok()).unwrap_or(-1);
        let query = || -> rusqlite::Result<Vec<Row>> {
            let mut query = self.db.prepare(
                "SELECT run, at_us, purpose, subject, platform, state, git_commit, branch, dirty, title, host, good, bad,
                        wall_us, cpu_us, memory, size, store, hits, misses, walls, cpus
                 FROM records WHERE (?1 IS NULL OR root = ?1) AND (?2 IS NULL OR subject = ?2)
                 ORDER BY at_us DESC, run DESC, series DESC LIMIT ?3",
            )?;
            let rows = query.query_map(params![filter.root, filter.subject, newest], row)?;
            rows.collect()
        };
        let mut rows = query().map_err(failed(&self.path))?;
        rows.reverse();
        Ok(rows)
    }

    /// What steps have cost over the newest `runs` builds of a project, the dearest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn steps(&self, root: Option<&str>, runs: usize, most: usize) -> Result<Vec<StepTotal>, PerfError> {
        let query = || -> rusqlite::Result<Vec<StepTotal>> {
            let mut query = self.db.prepare(
                "WITH recent AS (SELECT DISTINCT run FROM records WHERE ?1 IS NULL OR root = ?1 ORDER BY run DESC LIMIT ?2),
                      of AS (SELECT s.* FROM steps s JOIN recent USING (run)),
                      reasons AS (SELECT name, miss_kind, count(*) AS n FROM of WHERE miss_kind IS NOT NULL
                                  GROUP BY name, miss_kind)
                 SELECT name, sum(outcome = 'ran') AS ran, sum(outcome IN ('hit', 'fresh')),
                        coalesce(sum(CASE WHEN outcome = 'ran' THEN wall_us END), 0) AS us,
                        (SELECT miss_kind FROM reasons r WHERE r.name = of.name ORDER BY n DESC, miss_kind LIMIT 1)
                 FROM of GROUP BY name ORDER BY us DESC, name LIMIT ?3",
            )?;
            let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            let rows = query.query_map(params![root, limit(runs), limit(most)], |row| {
                Ok(StepTotal {
                    name: row.get(0)?,
                    ran: row.get::<_, i64>(1)?.cast_unsigned(),
                    hit: row.get::<_, i64>(2)?.cast_unsigned(),
                    ran_us: row.get::<_, i64>(3)?.cast_unsigned(),
                    reason: row.get(4)?,
                })
            })?;
            rows.collect()
        };
        query().map_err(failed(&self.path))
    }

    /// The runs whose commit starts with `commit`, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn runs_of_commit(&self, root: Option<&str>, commit: &str) -> Result<Vec<String>, PerfError> {
        let query = || -> rusqlite::Result<Vec<String>> {
            let mut query = self.db.prepare(
                "SELECT DISTINCT run FROM records
                 WHERE substr(git_commit, 1, length(?1)) = ?1 AND (?2 IS NULL OR root = ?2) ORDER BY at_us, run",
            )?;
            let rows = query.query_map(params![commit, root], |row| row.get(0))?;
            rows.collect()
        };
        query().map_err(failed(&self.path))
    }

    /// The runs of a step, on whichever platform, in builds of a project, oldest first: each as a measurement of its own.
    ///
    /// # Errors
    /// SQLite's.
    pub fn step_rows(&self, root: Option<&str>, step: &str, newest: usize) -> Result<Vec<Row>, PerfError> {
        let query = || -> rusqlite::Result<Vec<Row>> {
            let mut query = self.db.prepare(
                "SELECT s.run, r.at_us, s.name, r.git_commit, r.branch, r.dirty, r.title, r.host, s.wall_us, s.cpu_us
                 FROM steps s JOIN records r ON r.run = s.run
                 WHERE r.series = (SELECT min(series) FROM records WHERE run = s.run) AND s.outcome = 'ran'
                   AND (?1 IS NULL OR r.root = ?1) AND (s.name = ?2 OR substr(s.name, 1, length(?2) + 2) = ?2 || ' (')
                 ORDER BY r.at_us DESC, s.run DESC, s.name LIMIT ?3",
            )?;
            let newest = i64::try_from(newest).unwrap_or(i64::MAX);
            let rows = query.query_map(params![root, step, newest], |row| {
                let name: String = row.get(2)?;
                let platform = name.strip_suffix(')').and_then(|name| name.split_once(" ("));
                let cost = |at: usize| -> rusqlite::Result<Option<f64>> {
                    Ok(row.get::<_, Option<i64>>(at)?.map(|us| us as f64))
                };
                let (wall_us, cpu_us) = (cost(8)?, cost(9)?);
                Ok(Row {
                    run: row.get(0)?,
                    at_us: row.get::<_, i64>(1)?.cast_unsigned(),
                    purpose: "build".to_owned(),
                    subject: step.to_owned(),
                    platform: platform.map(|(_, platform)| platform.to_owned()),
                    state: Some(State::Cold),
                    commit: row.get(3)?,
                    branch: row.get(4)?,
                    dirty: row.get(5)?,
                    title: row.get(6)?,
                    host: row.get(7)?,
                    good: 1,
                    wall_us,
                    cpu_us,
                    walls_us: wall_us.into_iter().collect(),
                    cpus_us: cpu_us.into_iter().collect(),
                    ..Row::default()
                })
            })?;
            rows.collect()
        };
        let mut rows = query().map_err(failed(&self.path))?;
        rows.reverse();
        Ok(rows)
    }

    /// The newest accepted baseline of such measurements.
    ///
    /// # Errors
    /// SQLite's.
    pub fn baseline(
        &self,
        root: Option<&str>,
        subject: &str,
        platform: Option<&str>,
        state: Option<State>,
    ) -> Result<Option<Baseline>, PerfError> {
        let mut all = self.baselines(root)?;
        all.retain(|baseline| baseline.concerns(subject, platform, state));
        Ok(all.pop())
    }

    /// Every accepted baseline, in the order they were decided.
    ///
    /// # Errors
    /// SQLite's.
    pub fn baselines(&self, root: Option<&str>) -> Result<Vec<Baseline>, PerfError> {
        let query = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT json FROM baselines WHERE ?1 IS NULL OR root = ?1 ORDER BY run";
            let mut query = self.db.prepare(sql)?;
            let rows = query.query_map(params![root], |row| row.get(0))?;
            rows.collect()
        };
        let all = query().map_err(failed(&self.path))?;
        let mut all: Vec<Baseline> = all.iter().filter_map(|json| serde_json::from_str(json).ok()).collect();
        all.sort_by_key(|baseline| baseline.at_us);
        Ok(all)
    }

    /// The newest run of a project that has measurements.
    ///
    /// # Errors
    /// SQLite's.
    pub fn newest_run(&self, root: Option<&str>) -> Result<Option<String>, PerfError> {
        let sql =
            "SELECT run FROM records WHERE ?1 IS NULL OR root = ?1 ORDER BY at_us DESC, run DESC LIMIT 1";
        self.db.query_row(sql, params![root], |row| row.get(0)).optional().map_err(failed(&self.path))
    }
}

fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> PerfError {
    let path = path.to_owned();
    move |source| PerfError::Index { path: path.clone(), source }
}

fn is_busy(error: &PerfError) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    let PerfError::Index { source, .. } = error else { return false };
    matches!(source.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// With the files that SQLite keeps beside it.
fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _none = std::fs::remove_file(name);
    }
}

fn forget(change: &Transaction<'_>, run: &str) -> rusqlite::Result<()> {
    for table in ["files", "records", "steps", "baselines"] {
        change.execute(&format!("DELETE FROM {table} WHERE run = ?1"), [run])?;
    }
    Ok(())
}

fn enter(
    change: &Transaction<'_>,
    run: &str,
    size: u64,
    ended: bool,
    unreadable_lines: u64,
    past: Option<&Past>,
) -> rusqlite::Result<()> {
    forget(change, run)?;
    let unreadable = past.map_or(unreadable_lines, |past| past.unreadable);
    let mut file = change.prepare_cached("INSERT INTO files VALUES (?1, ?2, ?3, ?4)")?;
    file.execute(params![run, size.cast_signed(), ended, unreadable.cast_signed()])?;
    let Some(past) = past else { return Ok(()) };
    for (series, record) in past.records.iter().enumerate() {
        enter_record(change, past, series, record)?;
    }
    let steps = past.records.first().map(|record| record.steps.as_slice()).unwrap_or_default();
    let mut insert =
        change.prepare_cached("INSERT OR REPLACE INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    let signed = |number: Option<u64>| number.map(u64::cast_signed);
    for step in steps {
        insert.execute(params![
            run,
            step.name,
            step.outcome,
            step.miss,
            step.miss_kind,
            signed(step.wall_us),
            signed(step.cpu_us),
            signed(step.saved_us),
            signed(step.output_bytes)
        ])?;
    }
    for baseline in &past.baselines {
        let json = serde_json::to_string(baseline).unwrap_or_default();
        change.execute("INSERT INTO baselines VALUES (?1, ?2, ?3)", params![run, past.root, json])?;
    }
    Ok(())
}

fn enter_record(
    change: &Transaction<'_>,
    past: &Past,
    series: usize,
    record: &Record,
) -> rusqlite::Result<()> {
    let facts = &record.facts;
    let walls = record.values(|sample| sample.wall_us);
    let cpus = record.values(crate::record::Sample::cpu_us);
    let middle = |figure: fn(&crate::record::Sample) -> Option<u64>| median(&record.values(figure));
    let last = record.samples.last().cloned().unwrap_or_default();
    let good = record.good().count();
    let json = |values: &[f64]| serde_json::to_string(values).unwrap_or_default();
    let mut insert = change.prepare_cached(
        "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
         ?20, ?21, ?22, ?23, ?24, ?25)",
    )?;
    insert.execute(params![
        past.run,
        series as i64,
        past.at_us.cast_signed(),
        past.root,
        past.project,
        facts.purpose,
        facts.subject,
        facts.platform,
        facts.state.map(State::text),
        facts.git.as_ref().map(|git| &git.commit),
        facts.git.as_ref().and_then(|git| git.branch.as_ref()),
        facts.git.as_ref().and_then(|git| git.dirty),
        facts.git.as_ref().and_then(|git| git.title.as_ref()),
        Some(&facts.host.fingerprint).filter(|print| !print.is_empty()),
        good as i64,
        (record.samples.len() - good) as i64,
        median(&walls),
        median(&cpus),
        middle(|sample| sample.largest_process_bytes),
        middle(|sample| sample.build_size_bytes),
        middle(|sample| sample.store_bytes),
        last.cache_hits.map(u64::cast_signed),
        last.cache_misses.map(u64::cast_signed),
        json(&walls),
        json(&cpus),
    ])?;
    Ok(())
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let list = |at: usize| -> rusqlite::Result<Vec<f64>> {
        Ok(serde_json::from_str(&row.get::<_, String>(at)?).unwrap_or_default())
    };
    let count = |at: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(i64::cast_unsigned))
    };
    Ok(Row {
        run: row.get(0)?,
        at_us: row.get::<_, i64>(1)?.cast_unsigned(),
        purpose: row.get(2)?,
        subject: row.get(3)?,
        platform: row.get(4)?,
        state: row.get::<_, Option<String>>(5)?.as_deref().and_then(State::parse),
        commit: row.get(6)?,
        branch: row.get(7)?,
        dirty: row.get(8)?,
        title: row.get(9)?,
        host: row.get(10)?,
        good: count(11)?.unwrap_or(0),
        bad: count(12)?.unwrap_or(0),
        wall_us: row.get(13)?,
        cpu_us: row.get(14)?,
        memory_bytes: row.get(15)?,
        size_bytes: row.get(16)?,
        store_bytes: row.get(17)?,
        hits: count(18)?,
        misses: count(19)?,
        walls_us: list(20)?,
        cpus_us: list(21)?,
    })
}
