//! Tables of runs, limits and what is found.

use std::collections::BTreeMap;

use super::*;
use crate::manifest::{Context, parse};
use crate::record::{Ending, Facts, HitsMisses, Host};
use crate::statistics::random::Random;

fn thresholds(text: &str) -> Vec<Thresholds> {
    let file = spolia_core::RelPath::new("spolia.toml").unwrap();
    let text = format!("[perf.thresholds]\n{text}\n");
    parse(file, &text, &Context { steps: None, platforms: None }).unwrap().thresholds
}

fn record(subject: &str, state: Option<State>, samples: Vec<Sample>) -> Record {
    let host = Host { fingerprint: "here".into(), ..Host::default() };
    let facts = Facts { subject: subject.to_owned(), state, host, ..Facts::default() };
    Record { run: Some("now-1".into()), facts, samples, ..Record::default() }
}

fn sample() -> Sample {
    Sample {
        started_at_us: Some(1_000_000),
        wall_us: Some(60_000_000),
        user_us: Some(70_000_000),
        sys_us: Some(10_000_000),
        largest_process_bytes: Some(500),
        write_bytes: Some(2_000_000),
        cache_hits: Some(8),
        cache_misses: Some(2),
        ..Sample::default()
    }
}

#[track_caller]
fn check(records: &[Record], limit: &str, expect: &[(&str, Outcome)]) {
    let found = limits(records, &thresholds(limit));
    let found: Vec<(&str, Outcome)> =
        found.iter().map(|one| (one.what.map_or("", What::key), one.outcome)).collect();
    assert_eq!(found, expect, "{limit}");
}

#[test]
fn limits_are_held_against_what_was_observed() {
    use Outcome::{DoesNotApply, NotObserved, Ok, Over};
    let run = [record("build", Some(State::Warm), vec![sample()])];
    check(&run, "build = { time = '1m', cpu = '79s' }", &[("time", Ok), ("cpu", Over)]);
    check(&run, "build = { hit-rate = '80%' }", &[("hit-rate", Ok)]);
    check(&run, "build = { hit-rate = '81%' }", &[("hit-rate", Over)]);
    check(&run, "build = { disk = '1MB', memory = '1kB' }", &[("memory", Ok), ("disk", Over)]);
    check(
        &run,
        "build = { output-size = '1GB', store-size = '1GB' }",
        &[("output-size", NotObserved), ("store-size", NotObserved)],
    );
    // Cold and warm apart.
    check(&run, "build = { time = '2m', warm = { time = '1s' } }", &[("time", Over)]);
    check(&run, "build = { cold = { time = '1s' } }", &[("", DoesNotApply)]);
    let unknown = [record("build", None, vec![sample()])];
    check(&unknown, "build = { cold = { time = '1s' } }", &[("", NotObserved)]);
    // What is not there is no pass.
    check(&run, "app = { time = '1h' }", &[("", NotObserved)]);
    let failed = Sample { ending: Ending::Failed, ..sample() };
    check(&[record("build", None, vec![failed])], "build = { time = '1h' }", &[("", NotObserved)]);
    let nothing = Sample { cache_hits: Some(0), cache_misses: Some(0), ..sample() };
    check(&[record("build", None, vec![nothing])], "build.hit-rate = '1%'", &[("hit-rate", NotObserved)]);
    // A command has no steps, but may have compiler calls.
    let calls: BTreeMap<_, _> = [("cc".to_owned(), HitsMisses { hits: 1, misses: 3 })].into();
    let command = Sample { cache_hits: None, cache_misses: None, compilers: calls, ..sample() };
    check(&[record("make", None, vec![command])], "make.hit-rate = '30%'", &[("hit-rate", Over)]);
    // The median decides, not the last.
    let slow = Sample { wall_us: Some(600_000_000), ..sample() };
    let many = [record("x", None, vec![slow.clone(), sample(), sample()])];
    check(&many, "x.time = '1m'", &[("time", Ok)]);
    let many = [record("x", None, vec![slow.clone(), slow, sample()])];
    check(&many, "x.time = '1m'", &[("time", Over)]);
}

#[test]
fn a_step_is_held_to_its_own_part_of_the_build() {
    use Outcome::{DoesNotApply, NotObserved, Ok, Over};
    let step = |name: &str, outcome: &str| StepSpan {
        name: name.to_owned(),
        wall_us: Some(5_000_000),
        cpu_us: Some(4_000_000).filter(|_| outcome == "ran"),
        output_bytes: Some(10),
        outcome: outcome.to_owned(),
        ..StepSpan::default()
    };
    let mut run = record("build", Some(State::Partial), vec![sample()]);
    run.steps =
        vec![step("fio (linux/amd64)", "ran"), step("fio (linux/arm64)", "hit"), step("app", "failed")];
    let run = [run];
    check(
        &run,
        "fio = { time = '6s', platform.'linux/arm64' = { time = '1s' } }",
        &[("time", Ok), ("time", Over)],
    );
    check(&run, "fio = { cpu = '1s' }", &[("cpu", Over), ("cpu", DoesNotApply)]);
    check(&run, "fio = { disk = '1GB' }", &[("disk", NotObserved), ("disk", NotObserved)]);
    check(&run, "app = { time = '1h' }", &[("", NotObserved)]);
}

/// Measurements before the one that is asked about, each with its runs' CPU times.
fn history(runs: &[Vec<f64>]) -> Vec<Row> {
    let row = |(at, cpus): (usize, &Vec<f64>)| Row {
        run: format!("run-{at}"),
        at_us: at as u64,
        subject: "x".to_owned(),
        host: Some("here".to_owned()),
        good: cpus.len() as u64,
        cpu_us: median(cpus),
        cpus_us: cpus.clone(),
        ..Row::default()
    };
    runs.iter().enumerate().map(row).collect()
}

fn asked(cpus: &[f64], rows: &[Row], baselines: &[Baseline]) -> Finding {
    let of = |cpu: &f64| Sample { user_us: Some(*cpu as u64), sys_us: Some(0), ..sample() };
    let mut run = record("x", None, cpus.iter().map(of).collect());
    run.samples.iter_mut().for_each(|sample| sample.wall_us = None);
    regressions(&[run], &[], &Past { rows, baselines, steps: &[] }).remove(0)
}

fn around(middle: f64, count: usize) -> Vec<f64> {
    (0..count).map(|at| middle * (1.0 + (at * 7919 % count) as f64 / count as f64 / 50.0)).collect()
}

#[test]
fn a_regression_is_a_verdict_above_all_before_or_a_change_of_level() {
    let rows = history(&[around(1000.0, 20), around(1010.0, 20)]);
    let found = asked(&around(1200.0, 20), &rows, &[]);
    assert_eq!((found.outcome, found.cost), (Outcome::Over, Some(Cost::Cpu)), "{found:?}");
    assert!(found.found.is_some_and(|growth| (growth - 0.19).abs() < 0.02), "{found:?}");
    assert_eq!(asked(&around(1005.0, 20), &rows, &[]).outcome, Outcome::Ok);
    assert_eq!(asked(&around(900.0, 20), &rows, &[]).outcome, Outcome::Ok);
    assert_eq!(asked(&[1200.0], &rows, &[]).outcome, Outcome::Undecided);
    assert_eq!(asked(&[1200.0], &[], &[]).because.unwrap(), "nothing was measured before");
    // Once it was as slow by itself: a busy hour.
    let busy = history(&[around(1000.0, 20), around(1250.0, 5), around(1010.0, 20)]);
    assert_eq!(asked(&around(1200.0, 20), &busy, &[]).outcome, Outcome::Undecided);
    // One run each: the level tells.
    let level = |at: usize| vec![if at < 12 { 1000.0 } else { 1200.0 } + (at * 37 % 11) as f64];
    let rows = history(&(0..17).map(level).collect::<Vec<_>>());
    let found = asked(&[1203.0], &rows, &[]);
    assert_eq!(found.outcome, Outcome::Over, "{found:?}");
    assert!(found.because.as_ref().is_some_and(|because| because.contains("with run 12")), "{found:?}");
    // Accepted: what was before does not count.
    let mut baseline = Baseline::new("x".into(), None, "run-12".into(), 12, 99);
    assert_eq!(asked(&[1203.0], &rows, std::slice::from_ref(&baseline)).outcome, Outcome::Undecided);
    baseline.from_us = 50;
    let because = asked(&[1203.0], &rows, &[baseline]).because.unwrap();
    assert!(because.contains("since the accepted baseline"), "{because}");
    // Another machine is another story.
    let mut rows = rows;
    rows.iter_mut().for_each(|row| row.host = Some("elsewhere".into()));
    assert!(asked(&[1203.0], &rows, &[]).because.unwrap().contains("other machines"));
}

#[test]
fn what_stays_the_same_is_hardly_ever_a_regression() {
    let runs: Vec<[f64; 4]> = serde_json::from_str(include_str!("../../tests/data/aa-runs.json")).unwrap();
    let mut random = Random::new(21);
    let mut alarms = 0;
    let questions = 600;
    for _ in 0..questions {
        let mut one = || runs[random.below(runs.len())][1] * 1e6;
        let rows = history(&(0..24).map(|_| vec![one()]).collect::<Vec<_>>());
        alarms += usize::from(asked(&[one()], &rows, &[]).outcome == Outcome::Over);
    }
    assert!(alarms <= 3, "{alarms} of {questions}");
}
