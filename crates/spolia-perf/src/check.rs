//! `Record`s, thresholds and the history → findings: what is above its limit, what costs more than it did. Pure.
//!
//! A limit of `build` is one of the whole build. A limit of a step is one of that step's own part in the build; where a
//! run has no steps, as a benchmark or a file, it is one of the measurement that has the step's name.
//!
//! A cost has regressed where its level in the history went up and stayed there (a change point, see
//! [`crate::statistics::change`]), or where the runs of the newest measurement are judged slower than those since the
//! last change **and** it lies above every measurement among them: runs of one measurement share the moment they were
//! taken in, so a verdict alone would take a busy hour for a regression. Only measurements of the same machine, since
//! the last accepted baseline, count.

use serde::{Deserialize, Serialize};

use crate::accept::Baseline;
use crate::history::Row;
use crate::manifest::{Limit, Thresholds, WHOLE, What};
use crate::record::{Record, Sample, State, StepSpan};
use crate::statistics::change::{Change, Options, changes};
use crate::statistics::median;
use crate::verdict::{Rule, Word, judge, percent};

/// Measurements before the newest that count.
pub const LOOKED_BACK_MAX: usize = 60;
/// A change of level counts where chance gives it less often: each measurement asks twice, for CPU and wall time.
const CHANGE_P_MAX: f64 = 0.0025;
/// Enough random orders for that.
const CHANGE_ORDERS: usize = 999;

/// What came of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Above its limit, or regressed.
    Over,
    /// It should have been observed and was not.
    NotObserved,
    /// The history cannot tell.
    Undecided,
    /// It is about another kind of run.
    DoesNotApply,
    /// Within its limit, or not regressed.
    Ok,
}

impl Outcome {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Over => "over",
            Self::NotObserved => "not observed",
            Self::Undecided => "undecided",
            Self::DoesNotApply => "does not apply",
            Self::Ok => "ok",
        }
    }
}

/// A cost that may regress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// CPU time of the whole process tree.
    Cpu,
    /// Wall time.
    Wall,
}

impl Cost {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Wall => "wall",
        }
    }

    pub(crate) fn of_row(self, row: &Row) -> (Option<f64>, &[f64]) {
        match self {
            Self::Cpu => (row.cpu_us, &row.cpus_us),
            Self::Wall => (row.wall_us, &row.walls_us),
        }
    }

    pub(crate) fn of_sample(self, sample: &Sample) -> Option<u64> {
        match self {
            Self::Cpu => sample.cpu_us(),
            Self::Wall => sample.wall_us,
        }
    }
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Of what.
    pub subject: String,
    /// On which platform.
    pub platform: Option<String>,
    /// Cold or warm.
    pub state: Option<State>,
    /// What has the limit; `None` where it is about all of them.
    pub what: Option<What>,
    /// For a regression: of which cost.
    pub cost: Option<Cost>,
    /// In the unit of [`What`]; for a regression the growth that counts.
    pub limit: Option<f64>,
    /// The same of what was measured; for a regression the relative growth.
    pub found: Option<f64>,
    /// The answer.
    pub outcome: Outcome,
    /// What it rests on, or why there is none.
    pub because: Option<String>,
}

/// What a measurement is compared by.
#[derive(Clone, Debug, Default, PartialEq)]
struct Key {
    subject: String,
    platform: Option<String>,
    state: Option<State>,
}

impl Key {
    fn of(record: &Record) -> Self {
        let facts = &record.facts;
        Self { subject: facts.subject.clone(), platform: facts.platform.clone(), state: facts.state }
    }

    fn finding(&self, outcome: Outcome, because: impl Into<String>) -> Finding {
        Finding {
            subject: self.subject.clone(),
            platform: self.platform.clone(),
            state: self.state,
            what: None,
            cost: None,
            limit: None,
            found: None,
            outcome,
            because: Some(because.into()),
        }
    }
}

/// The thresholds beside what one run measured.
pub fn limits(records: &[Record], thresholds: &[Thresholds]) -> Vec<Finding> {
    let all = thresholds.iter().map(|one| (one, concerned(records, one)));
    let or_none = |(one, found): (&Thresholds, Vec<Finding>)| match found.is_empty() {
        false => found,
        true => {
            let key = Key { subject: one.subject.clone(), ..Key::default() };
            vec![key.finding(Outcome::NotObserved, "this run did not measure it")]
        }
    };
    all.flat_map(or_none).collect()
}

/// The same, without a word about subjects that the run did not measure.
pub fn limits_of_measured(records: &[Record], thresholds: &[Thresholds]) -> Vec<Finding> {
    thresholds.iter().flat_map(|one| concerned(records, one)).collect()
}

fn concerned(records: &[Record], thresholds: &Thresholds) -> Vec<Finding> {
    let subject = thresholds.subject.as_str();
    let mut findings = Vec::new();
    if subject != WHOLE {
        for record in records {
            for step in record.steps.iter().filter(|step| name_of(step).0 == subject) {
                findings.extend(of_step(step, thresholds));
            }
        }
    }
    if findings.is_empty() {
        for record in records.iter().filter(|record| record.facts.subject == subject) {
            findings.extend(of_record(record, thresholds));
        }
    }
    findings
}

/// `fio (linux/arm64)` → `fio`, `linux/arm64`.
fn name_of(step: &StepSpan) -> (&str, Option<&str>) {
    match step.name.strip_suffix(')').and_then(|name| name.split_once(" (")) {
        Some((name, platform)) => (name, Some(platform)),
        None => (&step.name, None),
    }
}

/// What was observed, or why it was not, and a word about it.
type Seen = Result<(f64, Option<String>), String>;

fn of_record(record: &Record, thresholds: &Thresholds) -> Vec<Finding> {
    let key = Key::of(record);
    if record.good().next().is_none() {
        return vec![
            key.finding(Outcome::NotObserved, "the run failed: it has no figures to hold against limits"),
        ];
    }
    let mut findings = other_states(&key, thresholds);
    for limit in thresholds.of(key.platform.as_deref(), key.state) {
        if limit.what != What::Regression {
            findings.push(held(&key, limit, figure(record, limit.what)));
        }
    }
    findings
}

fn other_states(key: &Key, thresholds: &Thresholds) -> Vec<Finding> {
    let others = thresholds.other_states(key.platform.as_deref(), key.state);
    let finding = |other: State| match key.state {
        Some(state) => {
            let because = format!("the limits of {} runs: this one was {}", other.text(), state.text());
            key.finding(Outcome::DoesNotApply, because)
        }
        None => {
            let because = format!(
                "the limits of {} runs: whether this one was is not known; `--cold` or `--warm` says it",
                other.text()
            );
            key.finding(Outcome::NotObserved, because)
        }
    };
    others.into_iter().map(finding).collect()
}

fn held(key: &Key, limit: Limit, seen: Seen) -> Finding {
    let (outcome, found, because) = match seen {
        Ok((found, because)) => {
            let over = match limit.what {
                What::HitRate => found < limit.value,
                _ => found > limit.value,
            };
            (if over { Outcome::Over } else { Outcome::Ok }, Some(found), because)
        }
        Err(why) => (Outcome::NotObserved, None, Some(why)),
    };
    Finding {
        what: Some(limit.what),
        limit: Some(limit.value),
        found,
        because,
        ..key.finding(outcome, String::new())
    }
}

/// The median over the good runs.
fn figure(record: &Record, what: What) -> Seen {
    let last = record.good().last().cloned().unwrap_or_default();
    let reason = |fields: &[&str]| {
        let known = fields.iter().find_map(|field| last.not_observed.get(*field).cloned());
        known.unwrap_or_else(|| "the measurement does not have it".to_owned())
    };
    let middle = |figure: fn(&Sample) -> Option<u64>, fields: &[&str]| {
        median(&record.values(figure)).map(|value| (value, None)).ok_or_else(|| reason(fields))
    };
    match what {
        What::Time => middle(|sample| sample.wall_us, &["wall_us"]),
        What::Cpu => middle(Sample::cpu_us, &["user_us", "sys_us"]),
        What::OutputSize => middle(|sample| sample.build_size_bytes, &["build_size_bytes"]),
        What::StoreSize => middle(|sample| sample.store_bytes, &["store_bytes"]),
        What::Disk => middle(|sample| sample.write_bytes, &["write_bytes", "read_bytes"]),
        What::Memory => middle(|sample| sample.together_bytes, &["together_bytes"]).or_else(|why| {
            let largest = median(&record.values(|sample| sample.largest_process_bytes));
            largest.map(|bytes| (bytes, Some(format!("of the largest process alone: {why}")))).ok_or(why)
        }),
        What::HitRate => hit_rate(&last).unwrap_or_else(|| Err(reason(&["cache_hits", "compilers"]))),
        What::Regression => Err("it is no figure of one measurement".to_owned()),
    }
}

/// Of steps, else of compiler calls; `None` where neither was counted.
fn hit_rate(sample: &Sample) -> Option<Seen> {
    let of = |hits: u64, misses: u64, of: &str| match hits + misses {
        0 => Err(format!("there were no {of}")),
        all => Ok((hits as f64 / all as f64, Some(format!("{hits} of {all} {of}")))),
    };
    if let (Some(hits), Some(misses)) = (sample.cache_hits, sample.cache_misses) {
        return Some(of(hits, misses, "steps"));
    }
    let calls = sample.compilers.values();
    let (hits, misses) = calls.fold((0, 0), |(hits, misses), one| (hits + one.hits, misses + one.misses));
    (!sample.compilers.is_empty()).then(|| of(hits, misses, "compiler calls"))
}

fn of_step(step: &StepSpan, thresholds: &Thresholds) -> Vec<Finding> {
    let (name, platform) = name_of(step);
    let state = match step.outcome.as_str() {
        "ran" => State::Cold,
        "hit" | "fresh" => State::Warm,
        other => {
            let key = Key { subject: name.to_owned(), platform: platform.map(str::to_owned), state: None };
            return vec![key.finding(Outcome::NotObserved, format!("the step {}", ended(other)))];
        }
    };
    let key = Key { subject: name.to_owned(), platform: platform.map(str::to_owned), state: Some(state) };
    let mut findings = other_states(&key, thresholds);
    let clock = "a clock was set while it ran";
    for limit in thresholds.of(platform, Some(state)) {
        let of_run = match limit.what {
            What::Cpu | What::Memory => true,
            // It was in place already: nothing began and nothing ended.
            What::Time => step.wall_us.is_none(),
            _ => false,
        };
        let seen = match limit.what {
            What::Regression => continue,
            _ if of_run && state == State::Warm => {
                let because = "it was answered from a cache and did not run";
                let finding = key.finding(Outcome::DoesNotApply, because);
                findings.push(Finding { what: Some(limit.what), limit: Some(limit.value), ..finding });
                continue;
            }
            What::Time => step.wall_us.ok_or_else(|| clock.to_owned()),
            What::Cpu => step.cpu_us.ok_or_else(|| "its CPU time was not observed".to_owned()),
            What::Memory => step.max_rss_bytes.ok_or_else(|| "its memory was not observed".to_owned()),
            What::OutputSize => {
                step.output_bytes.ok_or_else(|| "the bytes of its outputs are not known".to_owned())
            }
            What::HitRate => Ok(u64::from(state == State::Warm)),
            What::StoreSize | What::Disk => {
                let why =
                    format!("of one step in a build it is not known; `spolia perf monitor {name}` alone");
                Err(why)
            }
        };
        findings.push(held(&key, limit, seen.map(|value| (value as f64, None))));
    }
    findings
}

fn ended(outcome: &str) -> &'static str {
    match outcome {
        "failed" => "failed",
        "skipped" => "was skipped",
        _ => "did not end",
    }
}

/// What a regression is looked for in.
pub struct Past<'p> {
    /// Measurements of the project, oldest first.
    pub rows: &'p [Row],
    /// Accepted baselines, in the order they were decided.
    pub baselines: &'p [Baseline],
    /// The runs of each step of [`steps_asked`], oldest first.
    pub steps: &'p [Row],
}

/// The steps whose own history is asked for: those with a `regression` in the thresholds.
pub fn steps_asked(thresholds: &[Thresholds]) -> Vec<&str> {
    let asked = |one: &&Thresholds| one.subject != WHOLE && one.has_regression();
    thresholds.iter().filter(asked).map(|one| one.subject.as_str()).collect()
}

/// Whether what the run measured costs more than before.
pub fn regressions(records: &[Record], thresholds: &[Thresholds], past: &Past<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for record in records {
        let key = Key::of(record);
        if record.good().next().is_none() {
            findings.push(key.finding(Outcome::NotObserved, "the run failed: it is compared with nothing"));
            continue;
        }
        let newest = Newest {
            run: record.run.as_deref().unwrap_or_default(),
            at_us: record.samples.first().and_then(|sample| sample.started_at_us),
            host: Some(record.facts.host.fingerprint.as_str()).filter(|print| !print.is_empty()),
        };
        for cost in [Cost::Cpu, Cost::Wall] {
            let values = record.values(|sample| cost.of_sample(sample));
            findings.push(regression(&key, cost, &values, &newest, thresholds, past.rows, past.baselines));
        }
        for step in record.steps.iter().filter(|step| step.outcome == "ran") {
            let (name, platform) = name_of(step);
            if !steps_asked(thresholds).contains(&name) || record.facts.subject == name {
                continue;
            }
            let key = Key {
                subject: name.to_owned(),
                platform: platform.map(str::to_owned),
                state: Some(State::Cold),
            };
            for (cost, value) in [(Cost::Cpu, step.cpu_us), (Cost::Wall, step.wall_us)] {
                let values: Vec<f64> = value.map(|value| value as f64).into_iter().collect();
                findings.push(regression(
                    &key,
                    cost,
                    &values,
                    &newest,
                    thresholds,
                    past.steps,
                    past.baselines,
                ));
            }
        }
    }
    findings
}

/// The measurement that is asked about.
struct Newest<'n> {
    run: &'n str,
    at_us: Option<u64>,
    host: Option<&'n str>,
}

fn regression(
    key: &Key,
    cost: Cost,
    values: &[f64],
    newest: &Newest<'_>,
    thresholds: &[Thresholds],
    rows: &[Row],
    baselines: &[Baseline],
) -> Finding {
    let platform = key.platform.as_deref();
    let own = thresholds.iter().find(|one| one.subject == key.subject);
    let effect_min = own.and_then(|one| one.regression(platform, key.state));
    let effect_min = effect_min.unwrap_or(Rule::default().effect_min);
    let finding = |outcome: Outcome, found: Option<f64>, because: String| Finding {
        what: Some(What::Regression),
        cost: Some(cost),
        limit: Some(effect_min),
        found,
        ..key.finding(outcome, because)
    };
    let Some(now) = median(values) else {
        // Where nobody asked, it is no fault.
        let is_asked = own.is_some_and(Thresholds::has_regression);
        let outcome = if is_asked { Outcome::NotObserved } else { Outcome::Undecided };
        return finding(outcome, None, format!("its {} time was not observed", cost.text()));
    };
    let of_it = |row: &&Row| {
        row.good > 0
            && row.run != newest.run
            // Old commits that were measured for another reason are no part of what happened since.
            && row.purpose != "bisect"
            && newest.at_us.is_none_or(|at| row.at_us <= at)
            && (row.subject.as_str(), row.platform.as_deref(), row.state)
                == (key.subject.as_str(), platform, key.state)
            && cost.of_row(row).0.is_some()
    };
    let all: Vec<&Row> = rows.iter().filter(of_it).collect();
    let accepted = baselines.iter().rfind(|one| one.concerns(&key.subject, platform, key.state));
    let since: Vec<&Row> = all
        .iter()
        .filter(|row| accepted.is_none_or(|baseline| row.at_us >= baseline.from_us))
        .copied()
        .collect();
    let here: Vec<&Row> = since.iter().filter(|row| row.host.as_deref() == newest.host).copied().collect();
    if here.is_empty() {
        let because = match (all.is_empty(), since.is_empty()) {
            (true, _) => "nothing was measured before",
            (_, true) => "nothing was measured since the accepted baseline",
            _ if newest.host.is_none() => "this run does not say on what machine it was made",
            _ => "it was measured on other machines only",
        };
        return finding(Outcome::Undecided, None, because.to_owned());
    }
    let before = &here[here.len().saturating_sub(LOOKED_BACK_MAX)..];
    let mut series: Vec<f64> = before.iter().filter_map(|row| cost.of_row(row).0).collect();
    series.push(now);
    let options = Options { p_max: CHANGE_P_MAX, orders: CHANGE_ORDERS, effect_min, ..Options::default() };
    let level = changes(&series, &options).pop();
    if let Some(change) = level.filter(|change| change.after > change.before) {
        let growth = change.after / change.before - 1.0;
        return finding(Outcome::Over, Some(growth), where_it_changed(&change, before));
    }
    let level = &before[level.map_or(0, |change| change.at.min(before.len() - 1))..];
    let mut pool: Vec<f64> = level.iter().flat_map(|row| cost.of_row(row).1.iter().copied()).collect();
    pool.drain(..pool.len().saturating_sub(LOOKED_BACK_MAX));
    let verdict = judge(&pool, values, &Rule { effect_min, ..Rule::default() });
    let highest = level.iter().filter_map(|row| cost.of_row(row).0).fold(0.0, f64::max);
    let measurements = match level.len() {
        1 => "the measurement before".to_owned(),
        many => format!("the {many} measurements before"),
    };
    match verdict.word {
        Word::Slower if now > highest => {
            let because = format!("slower than {measurements}, p {:.4}", verdict.p.unwrap_or(1.0));
            finding(Outcome::Over, verdict.effect, because)
        }
        Word::Slower => {
            let because = format!("slower, but {measurements} have been as slow by themselves");
            finding(Outcome::Undecided, verdict.effect, because)
        }
        Word::Same | Word::Faster => {
            finding(Outcome::Ok, verdict.effect, format!("{} beside {measurements}", verdict.word.text()))
        }
        Word::Inconclusive => {
            let because = verdict.because.unwrap_or_default();
            finding(Outcome::Undecided, verdict.effect, format!("beside {measurements}: {because}"))
        }
    }
}

fn where_it_changed(change: &Change, before: &[&Row]) -> String {
    let Some(first) = before.get(change.at) else {
        return format!("the level went up with this run, p {:.4}", change.p);
    };
    let commit = first.commit.as_ref().map(|commit| {
        let title = first.title.as_ref().map(|title| format!(" ({title})")).unwrap_or_default();
        format!(", commit {}{title}", commit.get(..10).unwrap_or(commit))
    });
    let short = first.run.rsplit('-').next().unwrap_or(&first.run);
    format!(
        "the level went up by {} with run {short}{}, p {:.4}",
        percent(change.after / change.before - 1.0),
        commit.unwrap_or_default(),
        change.p
    )
}

#[cfg(test)]
mod tests;
