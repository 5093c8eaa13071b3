//! `spolia perf accept`: what a subject costs from a run on is the new normal.

use spolia_core::event::EventKind;
use spolia_perf::PerfError;
use spolia_perf::accept::Baseline;
use spolia_perf::history::{RowFilter, find_run};
use spolia_store::RunId;

use super::monitor::{Journal, value};
use super::{Perf, failure};
use crate::cli::perf::AcceptArgs;
use crate::exit::{Exit, Failure};
use crate::recorder::now_us;
use crate::shell::Tone;

/// Runs it.
pub(crate) fn run(args: &AcceptArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let root = perf.root_text();
    let name = match &args.run {
        Some(name) => name.clone(),
        None => newest(&args.subject, &root, perf)?.unwrap_or_else(|| "latest".to_owned()),
    };
    let found = find_run(&perf.store, &name, Some(&root)).map_err(|error| failure(&error))?;
    let past = found.ok_or_else(|| failure(&PerfError::NoSuchRun { name }))?;
    let of = |record: &&spolia_perf::record::Record| record.facts.subject == args.subject;
    let Some(record) = past.records.iter().find(of) else {
        let names: Vec<&str> = past.records.iter().map(|record| record.facts.subject.as_str()).collect();
        let message = format!("run `{}` has no measurement of `{}`", past.run, args.subject);
        return Err(Failure::usage(message).hint(format!("it has `{}`", names.join("`, `"))));
    };
    if record.good().next().is_none() {
        return Err(Failure::usage(format!("run `{}` failed: what failed is no baseline", past.run)));
    }
    if !perf.store.is_writable() {
        return Err(Failure::environment("the store cannot be written"));
    }
    let now = now_us();
    let mut baseline =
        Baseline::new(args.subject.clone(), record.facts.state, past.run.clone(), past.at_us, now);
    baseline.platform.clone_from(&record.facts.platform);
    baseline.because.clone_from(&args.because);
    let run = RunId::new(now);
    let mut journal = Journal::new(perf, &run);
    journal.take(perf.run_started(run.as_str()));
    journal.take(EventKind::Accepted { baseline: value(&baseline) });
    journal.end(Exit::Success);
    if perf.settings.json {
        perf.shell.json_line(&baseline);
    } else {
        let what = format!("`{}` from run {} on", args.subject, past.run);
        perf.shell.status(Tone::Good, "accepted", &what);
    }
    Ok(Exit::Success)
}

/// The newest run in which it succeeded.
fn newest(subject: &str, root: &str, perf: &Perf<'_>) -> Result<Option<String>, Failure> {
    let filter =
        RowFilter { root: Some(root.to_owned()), subject: Some(subject.to_owned()), ..RowFilter::default() };
    let rows = perf.index()?.rows(&filter).map_err(|error| failure(&error))?;
    Ok(rows.into_iter().rev().find(|row| row.good > 0).map(|row| row.run))
}
