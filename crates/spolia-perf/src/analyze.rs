//! Where the time of one build went: `Record → Analysis`. Pure.
//!
//! The critical path is the chain that made the build as long as it was: from the step that ended last, back over
//! whichever needed step ended last, to one that waited for none. What-if answers come from replaying the build: steps
//! begin in the order they did, as soon as what they need is there and one of the `jobs` places is free. How far that
//! replay is from what happened is said beside them.

use serde::Serialize;

use crate::record::{Record, StepSpan};

/// How many of the slowest steps and of the misses are told.
pub const TOLD_MAX: usize = 10;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Analysis {
    /// Of what.
    pub subject: String,
    /// From the first start to the last end of a step, µs; `None` where no step has times.
    pub span_us: Option<u64>,
    /// Steps with times.
    pub steps: usize,
    /// The critical path, first step first; `None` where what steps need is not known.
    pub critical: Option<Vec<Link>>,
    /// Of the span, the share that steps of the critical path ran.
    pub critical_share: Option<f64>,
    /// How many steps ran at once, on average over the span.
    pub parallelism: Option<f64>,
    /// Time with 0, 1, 2, … steps at once, µs.
    pub at_once_us: Vec<u64>,
    /// Steps by how long they took.
    pub slowest: Vec<Slow>,
    /// How much shorter the build would be without one step's work, the largest gain first.
    pub what_if: Vec<WhatIf>,
    /// The replay's length beside the real one: 1 is the same. `None` where nothing can be replayed.
    pub replay_ratio: Option<f64>,
    /// Steps that had to run, why, and what that cost.
    pub misses: Vec<Miss>,
    /// Step time that caches saved, µs.
    pub saved_us: u64,
    /// Why something above is missing.
    pub not_known: Vec<String>,
    /// What to do next, in sentences.
    pub next: Vec<String>,
}

/// One step of the critical path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The step.
    pub name: String,
    /// Its place in the record.
    pub step: usize,
    /// When it began, µs.
    pub start_us: u64,
    /// How long it took, µs.
    pub wall_us: u64,
    /// How long it could have run and did not, µs: no place was free.
    pub waited_us: u64,
}

/// A step and its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slow {
    /// The step.
    pub name: String,
    /// µs.
    pub wall_us: u64,
    /// µs, where observed.
    pub cpu_us: Option<u64>,
    /// Whether it is on the critical path, where that is known.
    pub is_critical: Option<bool>,
}

/// What one step is worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WhatIf {
    /// The step.
    pub name: String,
    /// How much shorter the replay is where it takes no time, µs.
    pub saved_us: u64,
}

/// A step that was not answered from a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// The step.
    pub name: String,
    /// Why.
    pub reason: Option<String>,
    /// What kind of reason.
    pub kind: Option<String>,
    /// How long it took, µs.
    pub wall_us: Option<u64>,
}

/// A step that has times.
struct Timed<'r> {
    step: usize,
    span: &'r StepSpan,
    start: u64,
    end: u64,
    /// Places of the needed ones that have times too.
    needs: Vec<usize>,
}

/// Looks at the steps of a record.
pub fn analyze(record: &Record) -> Analysis {
    let mut analysis = Analysis { subject: record.facts.subject.clone(), ..Analysis::default() };
    let timed = timed(&record.steps);
    let without = record.steps.iter().filter(|step| step.outcome == "ran" && step.start_us.is_none()).count();
    if without > 0 {
        analysis.not_known.push(format!("{without} steps have no start: a clock was set while they ran"));
    }
    analysis.steps = timed.len();
    analysis.misses = misses(&record.steps);
    analysis.saved_us = record.steps.iter().filter_map(|step| step.saved_us).sum();
    let Some((begin, end)) = bounds(&timed) else {
        let why =
            if record.steps.is_empty() { "the run has no steps" } else { "no step ran: all was in place" };
        analysis.not_known.push(why.to_owned());
        analysis.next = next(&analysis, record);
        return analysis;
    };
    let span = end - begin;
    analysis.span_us = Some(span);
    analysis.at_once_us = at_once(&timed, begin, end);
    let work: u64 = timed.iter().map(|one| one.end - one.start).sum();
    analysis.parallelism = (span > 0).then(|| work as f64 / span as f64);
    let knows_needs = timed.iter().all(|one| one.span.needs.is_some());
    let mut critical_steps = Vec::new();
    if knows_needs {
        let path = critical(&timed);
        critical_steps = path.iter().map(|link| link.step).collect();
        let on_path: u64 = path.iter().map(|link| link.wall_us).sum();
        analysis.critical_share = (span > 0).then(|| (on_path as f64 / span as f64).min(1.0));
        let jobs = record.jobs.map_or(analysis.at_once_us.len() - 1, |jobs| jobs as usize).max(1);
        let whole = replay(&timed, jobs, None);
        analysis.replay_ratio = (span > 0).then(|| whole as f64 / span as f64);
        let worth = |at: usize| WhatIf {
            name: timed[at].span.name.clone(),
            saved_us: whole.saturating_sub(replay(&timed, jobs, Some(at))),
        };
        // Only what is dear can save much: the replay of all steps would be slow for large builds.
        let mut dear: Vec<usize> = (0..timed.len()).collect();
        dear.sort_by_key(|at| std::cmp::Reverse(timed[*at].end - timed[*at].start));
        dear.truncate(4 * TOLD_MAX);
        analysis.what_if = dear.into_iter().map(worth).filter(|what| what.saved_us > 0).collect();
        analysis
            .what_if
            .sort_by(|one, other| other.saved_us.cmp(&one.saved_us).then(one.name.cmp(&other.name)));
        analysis.what_if.truncate(TOLD_MAX);
        analysis.critical = Some(path);
    } else {
        let why = "what steps need is not in this file: no critical path and no what-if";
        analysis.not_known.push(why.to_owned());
    }
    analysis.slowest = timed
        .iter()
        .map(|one| Slow {
            name: one.span.name.clone(),
            wall_us: one.end - one.start,
            cpu_us: one.span.cpu_us,
            is_critical: knows_needs.then(|| critical_steps.contains(&one.step)),
        })
        .collect();
    analysis.slowest.sort_by(|one, other| other.wall_us.cmp(&one.wall_us).then(one.name.cmp(&other.name)));
    analysis.slowest.truncate(TOLD_MAX);
    analysis.next = next(&analysis, record);
    analysis
}

fn timed(steps: &[StepSpan]) -> Vec<Timed<'_>> {
    let ran = |step: &StepSpan| step.start_us.zip(step.wall_us);
    let mut timed: Vec<Timed<'_>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        if let Some((start, wall)) = ran(step) {
            places.insert(step.name.as_str(), timed.len());
            timed.push(Timed {
                step: at,
                span: step,
                start,
                end: start.saturating_add(wall),
                needs: Vec::new(),
            });
        }
    }
    for one in &mut timed {
        let needs = one.span.needs.iter().flatten().filter_map(|need| places.get(need.as_str()).copied());
        one.needs = needs.collect();
    }
    timed
}

fn bounds(timed: &[Timed<'_>]) -> Option<(u64, u64)> {
    Some((timed.iter().map(|one| one.start).min()?, timed.iter().map(|one| one.end).max()?))
}

fn at_once(timed: &[Timed<'_>], begin: u64, end: u64) -> Vec<u64> {
    let mut moments: Vec<(u64, i64)> = timed.iter().flat_map(|one| [(one.start, 1), (one.end, -1)]).collect();
    moments.sort_unstable();
    let mut times = vec![0];
    let (mut before, mut count) = (begin, 0i64);
    for (moment, change) in moments.into_iter().chain([(end, 0)]) {
        let level = usize::try_from(count).unwrap_or(0);
        if times.len() <= level {
            times.resize(level + 1, 0);
        }
        times[level] += moment - before;
        before = moment;
        count += change;
    }
    times
}

fn critical(timed: &[Timed<'_>]) -> Vec<Link> {
    let mut path = Vec::new();
    let mut seen = vec![false; timed.len()];
    let mut at = (0..timed.len()).max_by_key(|at| (timed[*at].end, std::cmp::Reverse(*at)));
    while let Some(now) = at {
        // A file may say anything: no step is looked at twice.
        if std::mem::replace(&mut seen[now], true) {
            break;
        }
        let one = &timed[now];
        let before =
            one.needs.iter().copied().filter(|need| !seen[*need]).max_by_key(|need| timed[*need].end);
        let ready = before.map_or(0, |before| timed[before].end);
        path.push(Link {
            name: one.span.name.clone(),
            step: one.step,
            start_us: one.start,
            wall_us: one.end - one.start,
            waited_us: one.start.saturating_sub(ready),
        });
        at = before;
    }
    path.reverse();
    path
}

/// How long the build is where one step takes no time: steps begin in their order, in `jobs` places.
fn replay(timed: &[Timed<'_>], jobs: usize, free: Option<usize>) -> u64 {
    let mut order: Vec<usize> = (0..timed.len()).collect();
    order.sort_by_key(|at| (timed[*at].start, *at));
    let mut ends: Vec<Option<u64>> = vec![None; timed.len()];
    let mut places: std::collections::BinaryHeap<std::cmp::Reverse<u64>> =
        (0..jobs.min(timed.len().max(1))).map(|_| std::cmp::Reverse(0)).collect();
    let mut waiting = order;
    let mut last = 0;
    while !waiting.is_empty() {
        // The one that can begin first; of several the one that was first.
        let ready = |at: usize| {
            timed[at].needs.iter().map(|need| ends[*need]).try_fold(0, |most, end| Some(most.max(end?)))
        };
        let place = places.peek().map_or(0, |place| place.0);
        let next = waiting
            .iter()
            .enumerate()
            .filter_map(|(number, at)| Some((ready(*at)?.max(place), number)))
            .min();
        // Needs in a circle, in a file that says nonsense: what is left follows one by one.
        let (begin, number) = next.unwrap_or((last, 0));
        let at = waiting.remove(number);
        places.pop();
        let wall = if free == Some(at) { 0 } else { timed[at].end - timed[at].start };
        let end = begin.saturating_add(wall);
        places.push(std::cmp::Reverse(end));
        ends[at] = Some(end);
        last = last.max(end);
    }
    last
}

fn misses(steps: &[StepSpan]) -> Vec<Miss> {
    let mut misses: Vec<Miss> = steps
        .iter()
        .filter(|step| step.miss.is_some() && (step.outcome == "ran" || step.outcome == "failed"))
        .map(|step| Miss {
            name: step.name.clone(),
            reason: step.miss.clone(),
            kind: step.miss_kind.clone(),
            wall_us: step.wall_us,
        })
        .collect();
    misses.sort_by(|one, other| other.wall_us.cmp(&one.wall_us).then(one.name.cmp(&other.name)));
    misses.truncate(TOLD_MAX);
    misses
}

fn next(analysis: &Analysis, record: &Record) -> Vec<String> {
    let mut next = Vec::new();
    let span = analysis.span_us.unwrap_or(0);
    let percent = |us: u64| (us * 100).checked_div(span).unwrap_or(0);
    if let Some(first) = analysis.what_if.first()
        && percent(first.saved_us) >= 10
    {
        next.push(format!(
            "look at `{}` first: without its work the build would be about {}% shorter",
            first.name,
            percent(first.saved_us)
        ));
    }
    if let (Some(share), Some(parallelism), Some(jobs)) =
        (analysis.critical_share, analysis.parallelism, record.jobs)
    {
        if jobs > 1 && share > 0.8 && parallelism < 0.6 * jobs as f64 && analysis.steps > 2 {
            next.push(format!(
                "more processors would not help: {:.0}% of the time one chain of steps ran, {parallelism:.1} of {jobs} \
                 places were in use; split a step of the chain, or let it need less",
                share * 100.0
            ));
        } else if share < 0.5 && parallelism > 0.85 * jobs as f64 && analysis.steps > jobs as usize {
            next.push(format!("the {jobs} places were full most of the time: more processors would help"));
        }
    }
    for miss in analysis.misses.iter().take(3) {
        let name = &miss.name;
        let step = name.split(' ').next().unwrap_or(name);
        match miss.kind.as_deref() {
            Some("not-stored") => next.push(format!(
                "`{step}` runs every time: its result is not stored; `spolia build` warns why when it runs"
            )),
            Some("key-changed") => {
                next.push(format!("`spolia why {step}` lists all that changed since `{step}` ran last"))
            }
            Some("output-gone") => next.push(format!(
                "`{step}` ran because its result had left the store: `[cache] max-size` may be too small"
            )),
            Some("corrupt") => {
                next.push("`spolia cache verify` looks for more damage in the store".to_owned())
            }
            _ => {}
        }
    }
    next.dedup();
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, start: u64, wall: u64, needs: &[&str]) -> StepSpan {
        StepSpan {
            name: name.to_owned(),
            start_us: Some(start),
            wall_us: Some(wall),
            outcome: "ran".to_owned(),
            miss: Some("never run here".to_owned()),
            miss_kind: Some("never-run".to_owned()),
            needs: Some(needs.iter().map(|need| (*need).to_owned()).collect()),
            ..StepSpan::default()
        }
    }

    fn record(steps: Vec<StepSpan>, jobs: u64) -> Record {
        Record { steps, jobs: Some(jobs), ..Record::default() }
    }

    /// ```text
    /// a ████████          c needs a and b, d needs b
    /// b ███         d ██
    /// c         █████
    /// ```
    fn diamond() -> Record {
        record(
            vec![
                step("a", 0, 80, &[]),
                step("b", 0, 30, &[]),
                step("c", 80, 50, &["a", "b"]),
                step("d", 30, 20, &["b"]),
            ],
            2,
        )
    }

    #[test]
    fn the_critical_path_goes_back_over_the_last_to_end() {
        let found = analyze(&diamond());
        let names: Vec<&str> =
            found.critical.as_ref().unwrap().iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!((found.span_us, found.critical_share), (Some(130), Some(1.0)));
        assert_eq!(found.at_once_us, [0, 80, 50]);
        assert_eq!(found.parallelism, Some(180.0 / 130.0));
        assert_eq!(found.replay_ratio, Some(1.0));
    }

    #[test]
    fn what_if_is_what_the_replay_saves() {
        let found = analyze(&diamond());
        let saved: Vec<(&str, u64)> =
            found.what_if.iter().map(|what| (what.name.as_str(), what.saved_us)).collect();
        // Without `a` the build waits for `b` and then `c`: 80; without `c` it ends with `a`.
        assert_eq!(saved, [("a", 50), ("c", 50)]);
        assert!(found.next[0].contains("look at `a` first"), "{:?}", found.next);
    }

    #[test]
    fn waiting_for_a_place_is_told_from_waiting_for_a_step() {
        let found = analyze(&record(vec![step("a", 0, 50, &[]), step("b", 50, 50, &[])], 1));
        let path = found.critical.unwrap();
        assert_eq!((path.len(), path[0].name.as_str(), path[0].waited_us), (1, "b", 50));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let mut ninja = diamond();
        ninja.steps.iter_mut().for_each(|step| step.needs = None);
        let found = analyze(&ninja);
        assert!(found.critical.is_none() && found.what_if.is_empty());
        assert!(found.not_known[0].contains("no critical path"));
        assert_eq!(found.slowest[0].name, "a");
        assert!(analyze(&Record::default()).not_known[0].contains("no steps"));
        // Needs in a circle, and of itself.
        let odd = record(vec![step("a", 0, 10, &["b"]), step("b", 0, 10, &["a", "b"])], 2);
        assert!(analyze(&odd).span_us.is_some());
    }
}
