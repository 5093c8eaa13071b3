//! `spolia perf history`: what was measured.

use spolia_perf::accept::Baseline;
use spolia_perf::history::{Index, LevelChange, Row, RowFilter, level_changes};
use spolia_perf::verdict::percent;

use super::{Perf, failure, words};
use crate::cli::perf::HistoryArgs;
use crate::exit::{Exit, Failure};
use crate::recorder::now_us;

/// Measurements that are looked at for changes, however few are shown.
const LOOKED_AT_MAX: usize = 2000;

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
    let or_fail = |error| failure(&error);
    let rows = index.rows(&filter).map_err(or_fail)?;
    let changes = if args.all {
        // Folders of the same name need not hold the same thing.
        Vec::new()
    } else {
        let newest = Some(filter.newest.unwrap_or(0).max(LOOKED_AT_MAX));
        level_changes(&index.rows(&RowFilter { newest, ..filter.clone() }).map_err(or_fail)?)
    };
    let mut baselines = index.baselines(filter.root.as_deref()).map_err(or_fail)?;
    baselines.retain(|one| filter.subject.as_ref().is_none_or(|subject| one.subject == *subject));
    if perf.settings.json {
        perf.shell.json_line(&serde_json::json!({
            "history": index.told(), "measurements": rows, "changes": changes, "accepted": baselines,
        }));
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
    if !changes.is_empty() {
        perf.shell.out("\nwhere the level changed\n");
        perf.shell.out(&words::table(&changes.iter().map(change).collect::<Vec<_>>(), &[]));
    }
    if !baselines.is_empty() {
        perf.shell.out("\naccepted as normal\n");
        perf.shell.out(&words::table(&baselines.iter().map(accepted).collect::<Vec<_>>(), &[]));
    }
    Ok(Exit::Success)
}

fn short(run: &str) -> &str {
    run.rsplit('-').next().unwrap_or(run)
}

fn named(subject: &str, platform: Option<&String>, state: Option<spolia_perf::record::State>) -> String {
    let platform = platform.map(|name| format!(" on {name}")).unwrap_or_default();
    let state = state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
    format!("{}{platform}{state}", subject.chars().take(40).collect::<String>())
}

fn change(change: &LevelChange) -> Vec<String> {
    let commit = change.commit.as_ref().map(|commit| {
        let title: String = change.title.iter().flat_map(|title| title.chars()).take(50).collect();
        format!(", commit {} {title}", commit.get(..10).unwrap_or(commit))
    });
    vec![
        format!("  {}", named(&change.subject, change.platform.as_ref(), change.state)),
        change.cost.text().to_owned(),
        percent(change.after_us / change.before_us - 1.0),
        format!("{} → {}", words::time(change.before_us), words::time(change.after_us)),
        format!("from run {} on{}", short(&change.run), commit.unwrap_or_default()),
    ]
}

fn accepted(baseline: &Baseline) -> Vec<String> {
    vec![
        format!("  {}", named(&baseline.subject, baseline.platform.as_ref(), baseline.state)),
        format!("from run {} on", short(&baseline.run)),
        baseline.because.clone().unwrap_or_default(),
    ]
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
        short(&row.run).to_owned(),
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
