//! `Run → Record`s: what the events of one run say about cost. Pure.

use std::collections::BTreeMap;

use spolia_core::event::{EventKind, StepId, StepOutcome, Summary, Tier};
use spolia_store::journal::Run;

use crate::accept::Baseline;
use crate::record::{Ending, Facts, RECORD_VERSION, Record, Sample, State, StepSpan};

/// One run, with what was measured in it.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Its name.
    pub run: String,
    /// When it started, µs since 1970.
    pub at_us: u64,
    /// The project's folder.
    pub root: String,
    /// The project's name.
    pub project: Option<String>,
    /// Its measurements; a build that was not measured is one with what its own events tell.
    pub records: Vec<Record>,
    /// Baselines that were accepted in it.
    pub baselines: Vec<Baseline>,
    /// Whether its end was recorded: not so of a run that was killed or still runs.
    pub ended: bool,
    /// Lines that could not be read, and facts or samples in them that are none.
    pub unreadable: u64,
}

/// What the events say. `None` where there is no `run-started` or nothing to do with cost.
pub fn of_run(run: &Run) -> Option<Past> {
    let mut past = Past { run: run.id.to_string(), unreadable: run.unreadable_lines, ..Past::default() };
    let mut series: BTreeMap<u32, Record> = BTreeMap::new();
    let mut steps = Steps::default();
    let mut words: Vec<String> = Vec::new();
    let mut jobs_at_once = None;
    let mut end: Option<(Summary, i32)> = None;
    for event in &run.events {
        match &event.kind {
            EventKind::RunStarted { command, root, project, jobs, .. } => {
                past.at_us = event.at_us;
                past.root.clone_from(root);
                past.project.clone_from(project);
                words.clone_from(command);
                jobs_at_once = Some(*jobs);
                steps.began_us = event.at_us;
            }
            EventKind::Measuring { series: number, facts } => {
                match serde_json::from_value::<Facts>(facts.clone()) {
                    Ok(facts) if facts.version <= RECORD_VERSION => {
                        series.entry(*number).or_default().facts = facts
                    }
                    _ => past.unreadable += 1,
                }
            }
            EventKind::Measured { series: number, sample } => {
                match serde_json::from_value::<Sample>(sample.clone()) {
                    Ok(sample) => series.entry(*number).or_default().samples.push(sample),
                    Err(_) => past.unreadable += 1,
                }
            }
            EventKind::Accepted { baseline } => match serde_json::from_value(baseline.clone()) {
                Ok(baseline) => past.baselines.push(baseline),
                Err(_) => past.unreadable += 1,
            },
            EventKind::StepStarted { id, needs, .. } => steps.started(id, event.at_us, needs),
            EventKind::StepFinished { id, outcome, .. } => steps.finished(id, event.at_us, outcome),
            EventKind::RunFinished { summary, exit_code } => end = Some((summary.clone(), *exit_code)),
            _ => {}
        }
    }
    if past.at_us == 0 && past.root.is_empty() {
        return None;
    }
    past.ended = end.is_some();
    // A series whose beginning could not be read is of an unknown subject; one without runs has not begun.
    series.retain(|_, record| !record.facts.subject.is_empty() && !record.samples.is_empty());
    let spans = steps.spans();
    if series.is_empty()
        && let Some(subject) = build_subject(&words)
        && let Some((summary, exit_code)) = &end
    {
        series.insert(0, of_build(subject, words.clone(), summary, *exit_code, &spans, past.at_us));
    }
    for record in series.values_mut() {
        record.run = Some(past.run.clone());
        record.spolia_perf = Some(RECORD_VERSION);
        record.jobs = jobs_at_once;
        record.steps.clone_from(&spans);
    }
    past.records = series.into_values().collect();
    Some(past).filter(|past| !past.records.is_empty() || !past.baselines.is_empty())
}

/// What `build` was asked for, without options; `None` where it was no build.
fn build_subject(words: &[String]) -> Option<String> {
    const WITH_VALUE: &[&str] = &[
        "-C",
        "--directory",
        "--manifest",
        "--cache-dir",
        "--color",
        "--progress",
        "-p",
        "--platform",
        "-j",
        "--jobs",
        "--engine",
        "--variant",
    ];
    let mut plain = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word.as_str()) {
            words.next();
        } else if !word.starts_with('-') {
            plain.push(word.as_str());
        }
    }
    match plain.split_first() {
        Some((&"build", [])) => Some("build".to_owned()),
        Some((&"build", steps)) => Some(steps.join(" ")),
        _ => None,
    }
}

/// Cold where nothing came from a cache, warm where nothing ran.
pub fn state_of(ran: u64, hits: u64) -> Option<State> {
    match (ran, hits) {
        (0, 0) => None,
        (0, _) => Some(State::Warm),
        (_, 0) => Some(State::Cold),
        _ => Some(State::Partial),
    }
}

/// A build that nobody measured: its own account of itself.
fn of_build(
    subject: String,
    command: Vec<String>,
    summary: &Summary,
    exit_code: i32,
    spans: &[StepSpan],
    at_us: u64,
) -> Record {
    let hits = summary.up_to_date + summary.restored;
    let ending = match exit_code {
        0 => Ending::Ok,
        130 => Ending::Cancelled,
        _ => Ending::Failed,
    };
    let not_measured = || "the build was not run by `spolia perf`".to_owned();
    let mut not_observed: BTreeMap<String, String> = ["user_us", "together_bytes", "read_bytes", "processes"]
        .map(|name| (name.to_owned(), not_measured()))
        .into();
    if summary.store_bytes.is_none() {
        not_observed.insert("store_bytes".to_owned(), "the store was not counted".to_owned());
    }
    let sample = Sample {
        started_at_us: Some(at_us),
        wall_us: summary.wall_us,
        largest_process_bytes: spans.iter().filter_map(|span| span.max_rss_bytes).max(),
        ending,
        exit_code: Some(exit_code),
        cache_hits: Some(hits),
        cache_misses: Some(summary.ran + summary.failed),
        build_size_bytes: summary.output_bytes,
        store_bytes: summary.store_bytes,
        dependencies: Some(hits + summary.ran + summary.failed + summary.skipped),
        not_observed,
        ..Sample::default()
    };
    let facts = Facts {
        version: RECORD_VERSION,
        purpose: "build".to_owned(),
        subject,
        command,
        state: state_of(summary.ran, hits),
        not_observed: [("git".to_owned(), not_measured()), ("host".to_owned(), not_measured())].into(),
        ..Facts::default()
    };
    Record { facts, samples: vec![sample], ..Record::default() }
}

/// The steps of a run while its events are read.
#[derive(Default)]
struct Steps {
    began_us: u64,
    order: Vec<StepId>,
    spans: BTreeMap<StepId, StepSpan>,
}

impl Steps {
    fn span(&mut self, id: &StepId) -> &mut StepSpan {
        if !self.spans.contains_key(id) {
            self.order.push(id.clone());
        }
        self.spans
            .entry(id.clone())
            .or_insert_with(|| StepSpan { name: id.to_string(), ..StepSpan::default() })
    }

    fn started(&mut self, id: &StepId, at_us: u64, needs: &[StepId]) {
        // A clock that was set back gives no time before the start.
        let start = at_us.checked_sub(self.began_us);
        let span = self.span(id);
        span.start_us = start;
        span.needs = Some(needs.iter().map(ToString::to_string).collect());
    }

    fn finished(&mut self, id: &StepId, at_us: u64, outcome: &StepOutcome) {
        let began_us = self.began_us;
        let span = self.span(id);
        let since_start = |span: &StepSpan| at_us.checked_sub(began_us)?.checked_sub(span.start_us?);
        match outcome {
            StepOutcome::Hit { tier, saved, restored_bytes, .. } => {
                span.outcome = if *tier == Tier::UpToDate { "fresh" } else { "hit" }.to_owned();
                span.saved_us = saved.wall_us;
                span.output_bytes = Some(*restored_bytes).filter(|bytes| *bytes > 0);
                span.wall_us = since_start(span);
            }
            StepOutcome::Ran { miss, cost, output_bytes, .. } => {
                span.outcome = "ran".to_owned();
                span.miss = Some(miss.to_string());
                span.miss_kind = Some(kind_of_miss(miss));
                span.output_bytes = Some(*output_bytes);
                span.cpu_us = cost.user_us.zip(cost.sys_us).map(|(user, sys)| user + sys);
                span.max_rss_bytes = cost.max_rss_bytes;
                // With what was done around the command: that is what others waited for.
                span.wall_us = since_start(span).or(cost.wall_us).max(cost.wall_us);
            }
            StepOutcome::Failed { miss, cost, .. } => {
                span.outcome = "failed".to_owned();
                span.miss = miss.as_ref().map(ToString::to_string);
                span.miss_kind = miss.as_ref().map(kind_of_miss);
                span.cpu_us = cost.user_us.zip(cost.sys_us).map(|(user, sys)| user + sys);
                span.max_rss_bytes = cost.max_rss_bytes;
                span.wall_us = since_start(span).or(cost.wall_us);
            }
            StepOutcome::Skipped { .. } => span.outcome = "skipped".to_owned(),
        }
    }

    fn spans(mut self) -> Vec<StepSpan> {
        self.order.iter().filter_map(|id| self.spans.remove(id)).collect()
    }
}

/// The variant's own word, as in the journal.
fn kind_of_miss(miss: &spolia_core::MissReason) -> String {
    let value = serde_json::to_value(miss).unwrap_or_default();
    let word = value.as_str().map(str::to_owned).or_else(|| Some(value.get("reason")?.as_str()?.to_owned()));
    word.or_else(|| value.as_object()?.keys().next().cloned()).unwrap_or_else(|| "unknown".to_owned())
}
