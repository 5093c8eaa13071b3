//! Which of several commits made a command slower: what one comparison says of a commit, and which commit is next.
//! Knows no git and no processes: whoever calls asks git and runs commands.
//!
//! A commit is compared with the good one, runs of the two in turn. What separates them is half of the difference
//! between the good and the bad commit: beyond it a commit is as the bad one, below it as the good one.

use crate::benchmark::{LOOKS, Runs, Stopped, in_turn, run_until};
use crate::check::Cost;
use crate::record::Sample;
use crate::verdict::{Rule, Verdict, Word, judge_in_turn};

/// What a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As fast as the good one.
    Good,
    /// As slow as the bad one.
    Bad,
    /// It could not be told, or not be measured.
    Skipped,
}

impl Kind {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// The verdict of one cost of two sides.
pub fn verdict(samples: &[Vec<Sample>], cost: Cost, rule: &Rule) -> Verdict {
    let side = |at: usize| samples.get(at).map(Vec::as_slice).unwrap_or_default();
    judge_in_turn(&in_turn(side(0), side(1), |sample| cost.of_sample(sample)), rule)
}

/// Runs good and bad in turn until it is known which cost grew, at most `most` runs of each.
///
/// # Errors
/// Those of `run`.
pub fn ends_apart<E>(
    most: usize,
    seed: u64,
    run: &mut dyn FnMut(usize, Option<u32>) -> Result<Sample, E>,
) -> Result<(Runs, Option<(Cost, Verdict)>), E> {
    let looks = looks(most);
    let rule = Rule::default().for_looks(looks.len() as u32);
    let of =
        |samples: &[Vec<Sample>]| [Cost::Cpu, Cost::Wall].map(|cost| (cost, verdict(samples, cost, &rule)));
    let is_decided = |samples: &[Vec<Sample>]| {
        let both = of(samples);
        both.iter().any(|(_, one)| one.is_worse()) || both.iter().all(|(_, one)| one.is_decided())
    };
    let runs = run_until(2, 1, &looks, &is_decided, seed, run)?;
    let worse = of(&runs.samples).into_iter().find(|(_, one)| one.is_worse());
    Ok((runs, worse))
}

/// Runs good and one commit in turn until it is known which end it is like, at most `most` runs of each. `effect` is the
/// relative difference between good and bad in `cost`.
///
/// # Errors
/// Those of `run`.
pub fn weigh<E>(
    cost: Cost,
    effect: f64,
    most: usize,
    seed: u64,
    run: &mut dyn FnMut(usize, Option<u32>) -> Result<Sample, E>,
) -> Result<(Runs, Verdict, Kind), E> {
    let looks = looks(most);
    let rule = Rule { effect_min: effect / 2.0, ..Rule::default() }.for_looks(looks.len() as u32);
    let of = |samples: &[Vec<Sample>]| verdict(samples, cost, &rule);
    let is_decided = |samples: &[Vec<Sample>]| kind(&of(samples), &rule) != Kind::Skipped;
    let runs = run_until(2, 1, &looks, &is_decided, seed, run)?;
    let verdict = of(&runs.samples);
    let kind = if runs.stopped == Stopped::Done { kind(&verdict, &rule) } else { Kind::Skipped };
    Ok((runs, verdict, kind))
}

/// How much faster than good a commit is matters not.
fn kind(verdict: &Verdict, rule: &Rule) -> Kind {
    let enough = verdict.runs.0.min(verdict.runs.1) >= rule.runs_min();
    let is_below = verdict.interval.is_some_and(|all| all.high < rule.effect_min);
    match verdict.word {
        Word::Slower => Kind::Bad,
        Word::Same | Word::Faster => Kind::Good,
        Word::Inconclusive if enough && is_below => Kind::Good,
        Word::Inconclusive => Kind::Skipped,
    }
}

/// The numbers of runs at which the data is looked at.
fn looks(most: usize) -> Vec<usize> {
    let mut looks: Vec<usize> = LOOKS.into_iter().filter(|look| *look < most).collect();
    looks.push(most);
    looks
}

/// What is left to ask of commits that git has put in order, the most telling first; `bad` is known to be bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This one.
    Ask(String),
    /// Nothing: it is this one.
    Found(String),
    /// Nothing: it is one of these, and those in it other than the bad one could not be measured.
    OneOf(Vec<String>),
}

/// Chooses from the output of `git rev-list --bisect-all BAD ^GOOD…`, one commit a line.
pub fn next(listed: &str, bad: &str, skipped: &[String]) -> Next {
    let commits = || listed.lines().filter_map(|line| line.split_whitespace().next());
    let is_open = |commit: &&str| *commit != bad && !skipped.iter().any(|known| known == commit);
    if let Some(commit) = commits().find(is_open) {
        return Next::Ask(commit.to_owned());
    }
    match commits().filter(|commit| *commit != bad).count() {
        0 => Next::Found(bad.to_owned()),
        _ => Next::OneOf(commits().map(str::to_owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_commit_is_the_first_that_is_open() {
        let check = |listed: &str, skipped: &[&str], expect: Next| {
            let skipped: Vec<String> = skipped.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(next(listed, "d", &skipped), expect);
        };
        let all = "b (dist=2)\nc (dist=1)\na (dist=1)\nd (dist=0)\n";
        check(all, &[], Next::Ask("b".into()));
        check(all, &["b"], Next::Ask("c".into()));
        let every = ["b", "c", "a", "d"].map(str::to_owned).to_vec();
        check(all, &["a", "b", "c"], Next::OneOf(every));
        check("d (dist=0)\n", &[], Next::Found("d".into()));
    }

    fn sample(cpu: u64) -> Sample {
        Sample { user_us: Some(cpu), sys_us: Some(0), wall_us: Some(1000), ..Sample::default() }
    }

    #[test]
    fn half_of_the_difference_parts_good_from_bad() {
        let weighed = |cost: u64| {
            let mut number = 0;
            let done = weigh(Cost::Cpu, 0.4, 40, 5, &mut |side, _| {
                number += 1;
                Ok::<_, ()>(sample([1000, cost][side] + number % 7))
            });
            let (runs, _, kind) = done.unwrap();
            (runs.samples[0].len(), kind)
        };
        assert_eq!(weighed(1000), (10, Kind::Good));
        assert_eq!(weighed(1100), (10, Kind::Good));
        assert_eq!(weighed(1400), (10, Kind::Bad));
        assert_eq!(weighed(1200).1, Kind::Skipped);
        assert_eq!(weighed(800), (10, Kind::Good));
    }

    #[test]
    fn the_cost_that_grew_is_found() {
        let mut number = 0;
        let (runs, worse) = ends_apart(20, 5, &mut |side, _| {
            number += 1;
            Ok::<_, ()>(sample(1000 + 400 * side as u64 + number % 7))
        })
        .unwrap();
        assert_eq!((runs.samples[1].len(), worse.unwrap().0), (10, Cost::Cpu));
        let (runs, worse) = ends_apart(20, 5, &mut |_, _| Ok::<_, ()>(sample(1000))).unwrap();
        assert_eq!((runs.samples[1].len(), worse), (10, None));
    }
}
