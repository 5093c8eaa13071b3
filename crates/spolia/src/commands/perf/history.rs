//! `spolia perf history`: what was measured.

use spolia_perf::history::{Index, Row, RowFilter};

use super::{Perf, failure, words};
use crate::cli::perf::HistoryArgs;
use crate::exit::{Exit, Failure};
use crate::recorder::now_us;

/// Runs it.
pub(crate) fn run(args: &HistoryArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let index = if args.rebuild {
        let index = Index::rebuild(&perf.store, now_us()).map_err(|error| failure(&error))?;
        perf.tell(&index);
        index
    } else {
        perf.index()?
    };
    let filter = RowFilter {
        root: (!args.all).then(|| perf.root_text()),
        subject: args.subject.clone(),
        newest: Some(args.last as usize),
    };
    let rows = index.rows(&filter).map_err(|error| failure(&error))?;
    if perf.settings.json {
        perf.shell.json_line(&serde_json::json!({ "history": index.told(), "measurements": rows }));
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        let of = args.subject.as_ref().map(|subject| format!(" of `{subject}`")).unwrap_or_default();
        return Err(failure(&spolia_perf::PerfError::NothingMeasured {
            what: format!("no run{of} in this project"),
        }));
    }
    let mut table = vec![header()];
    table.extend(rows.iter().map(cells));
    perf.shell.out(&words::table(&table, &[3, 4, 5, 6]));
    Ok(Exit::Success)
}

fn header() -> Vec<String> {
    ["RUN", "WHEN", "SUBJECT", "RUNS", "CPU", "WALL", "MEMORY", "CACHE", "COMMIT"].map(str::to_owned).into()
}

fn cells(row: &Row) -> Vec<String> {
    let time = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), words::time);
    let state = row.state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
    let runs = if row.bad > 0 { format!("{}+{} failed", row.good, row.bad) } else { row.good.to_string() };
    let cache = match (row.hits, row.misses) {
        (Some(hits), Some(misses)) => format!("{hits}/{}", hits + misses),
        _ => "-".to_owned(),
    };
    let dirty = if row.dirty == Some(true) { "+" } else { "" };
    let commit = row.commit.as_ref().map(|commit| format!("{}{dirty}", commit.get(..10).unwrap_or(commit)));
    let mut subject: String = row.subject.chars().take(40).collect();
    subject.push_str(&state);
    vec![
        row.run.rsplit('-').next().unwrap_or(&row.run).to_owned(),
        words::date(row.at_us),
        subject,
        runs,
        time(row.cpu_us),
        time(row.wall_us),
        row.memory_bytes.map_or_else(|| "-".to_owned(), |bytes| crate::painter::words::size(bytes as u64)),
        cache,
        commit.unwrap_or_else(|| "-".to_owned()),
    ]
}
