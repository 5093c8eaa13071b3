//! Two sets of records → a comparison of each subject they share. Pure.

use serde::Serialize;

use crate::accept::Baseline;
use crate::benchmark;
use crate::error::PerfError;
use crate::record::{Record, Sample, State, StepSpan};
use crate::verdict::{Rule, Verdict, judge};

/// One subject on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What is compared.
    pub subject: String,
    /// For which platform.
    pub platform: Option<String>,
    /// Cold or warm.
    pub state: Option<State>,
    /// Of CPU time.
    pub cpu: Verdict,
    /// Of wall time.
    pub wall: Verdict,
    /// How the machines differ; empty where they do not.
    pub machines: Vec<String>,
    /// What makes it doubtful.
    pub warnings: Vec<String>,
    /// Why the second was called the new normal, where it was since the first: then it is no regression.
    pub accepted: Option<String>,
    /// Steps, where both sides know them.
    pub steps: Vec<StepComparison>,
}

/// One step on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct StepComparison {
    /// The step and its platform.
    pub name: String,
    /// Of CPU time.
    pub cpu: Verdict,
    /// Of wall time.
    pub wall: Verdict,
}

impl Comparison {
    /// Whether neither cost was observed on both sides.
    fn is_empty(&self) -> bool {
        [&self.cpu, &self.wall].iter().all(|verdict| verdict.runs.0 == 0 || verdict.runs.1 == 0)
    }

    /// Whether either cost is known to be worse, and nobody has accepted that.
    pub fn is_worse(&self) -> bool {
        self.accepted.is_none() && (self.cpu.is_worse() || self.wall.is_worse())
    }
}

/// Marks what lies on both sides of an accepted baseline.
pub fn mark_accepted(found: &mut [Comparison], first: &[Record], second: &[Record], baselines: &[Baseline]) {
    for one in found {
        let (subject, platform, state) = (one.subject.as_str(), one.platform.as_deref(), one.state);
        let times = |records: &[Record]| -> Vec<u64> {
            let of = records.iter().filter(|record| key(record) == (subject, platform, state));
            of.flat_map(|record| &record.samples).filter_map(|sample| sample.started_at_us).collect()
        };
        let (before, after) = (times(first), times(second));
        let (Some(last), Some(start)) = (before.iter().max(), after.iter().min()) else { continue };
        let between = baselines.iter().rfind(|base| {
            base.concerns(subject, platform, state) && *last < base.from_us && base.from_us <= *start
        });
        one.accepted =
            between.map(|base| base.because.clone().unwrap_or_else(|| "no reason was given".to_owned()));
    }
}

/// The good runs of one subject on one side, of all its records.
#[derive(Default)]
struct Side<'r> {
    records: Vec<&'r Record>,
}

impl Side<'_> {
    fn values(&self, figure: impl Fn(&Sample) -> Option<u64>) -> Vec<f64> {
        self.records.iter().flat_map(|record| record.values(&figure)).collect()
    }

    fn step(&self, name: &str, figure: impl Fn(&StepSpan) -> Option<u64>) -> Vec<f64> {
        let steps = self.records.iter().flat_map(|record| &record.steps);
        let of = steps.filter(|step| step.name == name && step.outcome == "ran");
        of.filter_map(|step| figure(step).map(|value| value as f64)).collect()
    }
}

/// What two records must share.
type Key<'r> = (&'r str, Option<&'r str>, Option<State>);

fn key(record: &Record) -> Key<'_> {
    let facts = &record.facts;
    (&facts.subject, facts.platform.as_deref(), facts.state)
}

fn keys(records: &[Record]) -> Vec<Key<'_>> {
    let mut keys: Vec<Key<'_>> = Vec::new();
    for record in records {
        if !keys.contains(&key(record)) {
            keys.push(key(record));
        }
    }
    keys
}

/// Compares the second of two commands to the first, whose runs one benchmark took in turn: they are the same thing under
/// two names, and runs at the same place were beside each other.
///
/// # Errors
/// No cost was observed on both sides.
pub fn compare_in_turn(first: &Record, second: &Record, rule: &Rule) -> Result<Comparison, PerfError> {
    let (left, right) = (Side { records: vec![first] }, Side { records: vec![second] });
    let judged = benchmark::verdicts(&first.samples, &second.samples, rule);
    let found = of(&left, &right, key(second), judged, rule);
    if found.is_empty() { Err(nothing_observed()) } else { Ok(found) }
}

/// Compares `second` to `first`, what was measured at different times.
///
/// # Errors
/// They share nothing that can be compared; why.
pub fn compare(first: &[Record], second: &[Record], rule: &Rule) -> Result<Vec<Comparison>, PerfError> {
    let (ones, others) = (keys(first), keys(second));
    let mut pairs: Vec<(Key<'_>, Key<'_>)> =
        ones.iter().filter(|one| others.contains(one)).map(|one| (*one, *one)).collect();
    if pairs.is_empty()
        && let ([one], [other]) = (ones.as_slice(), others.as_slice())
        && one.0 == other.0
        && one.2 == other.2
    {
        pairs.push((*one, *other));
    }
    if pairs.is_empty() {
        return Err(PerfError::Incomparable { why: why_not(&ones, &others) });
    }
    let comparisons = pairs.into_iter().map(|(one, other)| {
        let side = |records: &'_ [Record], of: Key<'_>| -> Vec<usize> {
            (0..records.len()).filter(|at| key(&records[*at]) == of).collect()
        };
        let (firsts, seconds) = (side(first, one), side(second, other));
        let left = Side { records: firsts.iter().map(|at| &first[*at]).collect() };
        let right = Side { records: seconds.iter().map(|at| &second[*at]).collect() };
        let judged =
            |figure: fn(&Sample) -> Option<u64>| judge(&left.values(figure), &right.values(figure), rule);
        of(&left, &right, other, (judged(Sample::cpu_us), judged(|sample| sample.wall_us)), rule)
    });
    let comparisons: Vec<Comparison> = comparisons.collect();
    if comparisons.iter().all(Comparison::is_empty) { Err(nothing_observed()) } else { Ok(comparisons) }
}

fn nothing_observed() -> PerfError {
    PerfError::Incomparable { why: "no cost was observed in a successful run on both sides".to_owned() }
}

fn why_not(ones: &[Key<'_>], others: &[Key<'_>]) -> String {
    let name = |(subject, platform, state): &Key<'_>| {
        let platform = platform.map(|platform| format!(" ({platform})")).unwrap_or_default();
        let state = state.map(|state| format!(", {}", state.text())).unwrap_or_default();
        format!("`{subject}`{platform}{state}")
    };
    let list = |keys: &[Key<'_>]| match keys {
        [] => "nothing".to_owned(),
        keys => keys.iter().map(name).collect::<Vec<_>>().join(" and "),
    };
    let same_subject = ones.iter().any(|one| others.iter().any(|other| one.0 == other.0));
    let rule = if same_subject {
        "cold and warm runs, and platforms, are compared with their like only"
    } else {
        "they are of different things"
    };
    format!("one side has {}, the other {}: {rule}", list(ones), list(others))
}

fn of(
    left: &Side<'_>,
    right: &Side<'_>,
    key: Key<'_>,
    (cpu, wall): (Verdict, Verdict),
    rule: &Rule,
) -> Comparison {
    let mut machines: Vec<String> = Vec::new();
    for one in &left.records {
        for other in &right.records {
            let differences = one.facts.host.differences(&other.facts.host);
            machines
                .extend(differences.into_iter().filter(|line| !machines.contains(line)).collect::<Vec<_>>());
        }
    }
    let mut warnings = Vec::new();
    if !machines.is_empty() {
        warnings.push("the machines differ: a difference may be theirs".to_owned());
    }
    let unknown =
        |side: &Side<'_>| side.records.iter().any(|record| record.facts.host.fingerprint.is_empty());
    if machines.is_empty() && (unknown(left) != unknown(right)) {
        warnings.push("one side does not say on what machine it was measured".to_owned());
    }
    for (side, name) in [(left, "first"), (right, "second")] {
        let bad: usize = side.records.iter().map(|record| record.samples.len() - record.good().count()).sum();
        if bad > 0 {
            warnings.push(format!("{bad} failed runs of the {name} side are left out"));
        }
    }
    Comparison {
        subject: key.0.to_owned(),
        platform: key.1.map(str::to_owned),
        state: key.2,
        cpu,
        wall,
        machines,
        warnings,
        accepted: None,
        steps: steps(left, right, rule),
    }
}

fn steps(left: &Side<'_>, right: &Side<'_>, rule: &Rule) -> Vec<StepComparison> {
    let mut names: Vec<&str> = Vec::new();
    for step in left.records.iter().flat_map(|record| &record.steps) {
        if step.outcome == "ran" && !names.contains(&step.name.as_str()) {
            names.push(&step.name);
        }
    }
    let both = |name: &&str| !right.step(name, |step| step.wall_us).is_empty();
    let one = |name: &str| StepComparison {
        name: name.to_owned(),
        cpu: judge(&left.step(name, |step| step.cpu_us), &right.step(name, |step| step.cpu_us), rule),
        wall: judge(&left.step(name, |step| step.wall_us), &right.step(name, |step| step.wall_us), rule),
    };
    names.into_iter().filter(both).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ending, Facts, Host};
    use crate::verdict::Word;

    fn record(subject: &str, state: Option<State>, walls: &[u64]) -> Record {
        let facts = Facts { subject: subject.to_owned(), state, ..Facts::default() };
        let sample = |wall: &u64| Sample { wall_us: Some(*wall), ..Sample::default() };
        Record { facts, samples: walls.iter().map(sample).collect(), ..Record::default() }
    }

    const FAST: [u64; 8] = [100, 101, 102, 103, 104, 105, 106, 107];
    const SLOW: [u64; 8] = [130, 131, 132, 133, 134, 135, 136, 137];

    #[test]
    fn like_is_compared_with_like() {
        let rule = Rule::default();
        let first = [record("a", Some(State::Warm), &FAST), record("a", Some(State::Cold), &SLOW)];
        let second = [record("a", Some(State::Warm), &SLOW)];
        let found = compare(&first, &second, &rule).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].wall.word, found[0].state), (Word::Slower, Some(State::Warm)));
        // CPU time was not observed: that is no verdict, and no error.
        assert_eq!((found[0].cpu.word, found[0].cpu.runs), (Word::Inconclusive, (0, 0)));
        let why = |one: &[Record], other: &[Record]| compare(one, other, &rule).unwrap_err().to_string();
        assert!(why(&first[..1], &first[1..]).contains("cold and warm"));
        assert!(why(&[record("a", None, &FAST)], &[record("b", None, &FAST)]).contains("different things"));
        assert!(why(&[record("a", None, &[])], &[record("a", None, &FAST)]).contains("no cost was observed"));
        let named = compare_in_turn(&record("a", None, &FAST), &record("b", None, &SLOW), &rule).unwrap();
        assert!(named.is_worse());
    }

    #[test]
    fn what_was_accepted_between_is_no_regression() {
        let at = |mut record: Record, start: u64| {
            let count = record.samples.len() as u64;
            let times = start..start + count;
            record.samples.iter_mut().zip(times).for_each(|(one, at)| one.started_at_us = Some(at));
            [record]
        };
        let (first, second) = (at(record("a", None, &FAST), 100), at(record("a", None, &SLOW), 200));
        let is_worse = |from_us: u64, subject: &str| {
            let mut found = compare(&first, &second, &Rule::default()).unwrap();
            let baseline = Baseline::new(subject.to_owned(), None, "r".into(), from_us, 300);
            mark_accepted(&mut found, &first, &second, &[baseline]);
            found[0].is_worse()
        };
        assert!(!is_worse(150, "a") && !is_worse(200, "a"));
        assert!(is_worse(50, "a") && is_worse(203, "a") && is_worse(150, "b"));
    }

    #[test]
    fn failed_runs_and_other_machines_are_said() {
        let mut first = record("a", None, &FAST);
        first.samples[0].ending = Ending::Failed;
        first.facts.host =
            Host { os: "linux".into(), num_cpu: Some(2), fingerprint: "x".into(), ..Host::default() };
        let mut second = record("a", None, &FAST);
        second.facts.host =
            Host { os: "linux".into(), num_cpu: Some(4), fingerprint: "y".into(), ..Host::default() };
        let found = compare(&[first], &[second], &Rule::default()).unwrap();
        assert_eq!(found[0].wall.runs, (7, 8));
        assert_eq!(found[0].machines, ["processors: 2 → 4"]);
        assert_eq!(found[0].warnings.len(), 2, "{:?}", found[0].warnings);
    }
}
