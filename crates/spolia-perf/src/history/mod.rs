//! The history: the journal is what counts, the index only makes it quick to ask.
//!
//! ```text
//! v1/journal/DAY/RUN.jsonl ─of_run→ Past ─index→ v1/perf/history.sqlite
//! ```

mod index;
mod level;
mod of_run;

pub use index::{Index, Row, RowFilter, StepTotal, Told};
pub use level::{LEVELS_MAX, LevelChange, level_changes};
pub use of_run::{Past, of_run, state_of};

use std::path::PathBuf;

use spolia_store::LocalStore;
use spolia_store::journal::{RunFilter, list_runs, read_run};

use crate::error::PerfError;

/// Perf's own folder in the store.
pub fn folder(store: &LocalStore) -> PathBuf {
    store.base().join("perf")
}

/// The run whose name is or starts with `name`, read from the journal; the newest with something measured in it for
/// `latest`. `None` where nothing fits.
///
/// # Errors
/// The journal cannot be read, or `name` fits several runs.
pub fn find_run(store: &LocalStore, name: &str, root: Option<&str>) -> Result<Option<Past>, PerfError> {
    let runs = list_runs(store, &RunFilter::default())?;
    if name == "latest" {
        for (id, path) in runs.iter().rev() {
            let past = read_run(id, path).ok().as_ref().and_then(of_run);
            let here = |past: &Past| root.is_none_or(|root| past.root == root);
            if let Some(past) = past.filter(|past| !past.records.is_empty() && here(past)) {
                return Ok(Some(past));
            }
        }
        return Ok(None);
    }
    if name.len() < 4 {
        return Ok(None);
    }
    let short = |id: &str| id.rsplit('-').next().unwrap_or_default().to_owned();
    let fits: Vec<_> = runs
        .iter()
        .filter(|(id, _)| id.as_str().starts_with(name) || (name.len() == 8 && short(id.as_str()) == name))
        .collect();
    match fits.as_slice() {
        [] => Ok(None),
        [(id, path)] => Ok(of_run(&read_run(id, path)?)),
        several => Err(PerfError::Ambiguous {
            name: name.to_owned(),
            runs: several.iter().take(4).map(|(id, _)| id.to_string()).collect(),
        }),
    }
}
