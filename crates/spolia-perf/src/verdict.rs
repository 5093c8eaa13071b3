//! Two samples of a cost → one word that can be relied on, and what it rests on. Pure.
//!
//! | word | when |
//! |---|---|
//! | `slower`, `faster` | chance alone would hardly separate the samples so far (p below [`Rule::p_max`]), **and** the medians differ by more than [`Rule::effect_min`], **and** so does the near end of the shift's interval: the difference is not only there, it is known to matter |
//! | `same` | the whole interval of the difference lies within [`Rule::effect_min`] |
//! | `inconclusive` | neither: more runs are needed, and about how many is said |
//!
//! A comparison has one verdict for CPU time and one for wall time: a build that waits for a lock or a remote
//! burns no CPU, and a busy machine changes wall time only. A comparison may be wrong in 0.5% of the cases in which
//! nothing differs; its two verdicts share that.

use serde::{Deserialize, Serialize};

use crate::statistics::bootstrap::{DRAWS, ratio_interval};
use crate::statistics::rank::mann_whitney;
use crate::statistics::shift::{Interval, hodges_lehmann, median_ratio, shift_interval};
use crate::statistics::{median, normal_exceeded_with};

/// How often a real difference should be found by the runs that are said to be needed: 9 in 10.
const POWER: f64 = 0.9;
/// How sure it must be that a difference is more than [`Rule::effect_min`]: 95% at the end that is near.
const NEAR_CONFIDENCE: f64 = 0.9;
/// More runs than this are not proposed: the difference lies at the limit itself.
const MORE_MAX: f64 = 5000.0;

/// What must hold before something is said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// The largest probability that chance alone gave the difference, for one verdict: half of what a comparison
    /// may be wrong in, as it has one for CPU and one for wall time.
    pub p_max: f64,
    /// The smallest relative difference of the medians that matters: 0.05 is five percent.
    pub effect_min: f64,
    /// How sure the interval is.
    pub confidence: f64,
    /// How often is drawn for the interval.
    pub draws: usize,
    /// For the drawing: the same samples and seed give the same answer.
    pub seed: u64,
}

impl Default for Rule {
    fn default() -> Self {
        Self { p_max: 0.005 / 2.0, effect_min: 0.05, confidence: 0.99, draws: DRAWS, seed: 0x005b_011a }
    }
}

impl Rule {
    /// The rule where the same data is looked at `looks` times while it grows, stopping at the first answer: each
    /// look gets its share, so that all together are wrong no more often than one (Bonferroni).
    #[must_use]
    pub fn for_looks(self, looks: u32) -> Self {
        let looks = f64::from(looks.max(1));
        Self { p_max: self.p_max / looks, confidence: 1.0 - (1.0 - self.confidence) / looks, ..self }
    }

    /// The fewest runs of each side with which `slower` or `faster` can be said at all.
    pub fn runs_min(&self) -> usize {
        let mut choices = 1.0;
        // 2 / C(2n, n) is the smallest p that n runs of each can give.
        for n in 1..=30 {
            choices *= 2.0 * (2.0 * n as f64 - 1.0) / n as f64;
            if 2.0 / choices < self.p_max {
                return n;
            }
        }
        30
    }
}

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The second costs less.
    Faster,
    /// The difference is known to be too small to matter.
    Same,
    /// The runs cannot tell.
    Inconclusive,
    /// The second costs more.
    Slower,
}

impl Word {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Same => "same",
            Self::Inconclusive => "inconclusive",
            Self::Slower => "slower",
        }
    }
}

/// A word and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The word.
    pub word: Word,
    /// Values of the first and of the second sample.
    pub runs: (usize, usize),
    /// Their medians.
    pub medians: (Option<f64>, Option<f64>),
    /// The relative difference of the medians: 0.2 is 20% more in the second.
    pub effect: Option<f64>,
    /// Where the true difference lies, with [`Rule::confidence`].
    pub interval: Option<Interval>,
    /// The median of all differences between the samples, relative to the first median.
    pub shift: Option<f64>,
    /// Of the Mann–Whitney test, two-sided.
    pub p: Option<f64>,
    /// About how many more runs of each side would decide, where that can be told.
    pub more_runs: Option<u32>,
    /// Why nothing was decided; `None` where something was.
    pub because: Option<String>,
}

impl Verdict {
    /// Nothing can be said.
    fn none(runs: (usize, usize), because: String) -> Self {
        Self {
            word: Word::Inconclusive,
            runs,
            medians: (None, None),
            effect: None,
            interval: None,
            shift: None,
            p: None,
            more_runs: None,
            because: Some(because),
        }
    }

    /// Whether the second is known to cost more.
    pub fn is_worse(&self) -> bool {
        self.word == Word::Slower
    }

    /// Whether a word other than `inconclusive` was found.
    pub fn is_decided(&self) -> bool {
        self.word != Word::Inconclusive
    }
}

/// Compares `second` to `first`: costs, where less is better.
pub fn judge(first: &[f64], second: &[f64], rule: &Rule) -> Verdict {
    let runs = (first.len(), second.len());
    let Some(test) = mann_whitney(first, second) else {
        return Verdict::none(runs, "one side was not measured".to_owned());
    };
    let medians = (median(first), median(second));
    let Some(effect) = median_ratio(first, second) else {
        let verdict =
            Verdict::none(runs, "the first side's median is zero: nothing to compare to".to_owned());
        return Verdict { medians, p: Some(test.p), ..verdict };
    };
    let interval = ratio_interval(first, second, rule.confidence, rule.draws, rule.seed);
    let interval = interval.filter(|_| runs.0.min(runs.1) > 1);
    let shift = hodges_lehmann(first, second).zip(medians.0).map(|(shift, median)| shift / median);
    let enough = runs.0.min(runs.1) >= rule.runs_min();
    let near = near_end(first, second, medians.0.unwrap_or(1.0));
    let differs = test.p < rule.p_max;
    let word = if differs && effect.min(near.low) > rule.effect_min {
        Word::Slower
    } else if differs && effect.max(near.high) < -rule.effect_min {
        Word::Faster
    } else if enough && interval.is_some_and(|all| all.is_within(-rule.effect_min, rule.effect_min)) {
        Word::Same
    } else {
        Word::Inconclusive
    };
    let verdict = Verdict {
        word,
        runs,
        medians,
        effect: Some(effect),
        interval,
        shift,
        p: Some(test.p),
        more_runs: None,
        because: None,
    };
    if verdict.is_decided() {
        return verdict;
    }
    let superiority = test.superiority(runs.0, runs.1);
    let more_runs = more_runs(&verdict, effect, superiority, near, rule);
    Verdict { because: Some(because(&verdict, effect, rule)), more_runs, ..verdict }
}

/// The interval of the shift relative to the first median, with [`NEAR_CONFIDENCE`].
fn near_end(first: &[f64], second: &[f64], median: f64) -> Interval {
    let shift = shift_interval(first, second, NEAR_CONFIDENCE).unwrap_or(Interval { low: 0.0, high: 0.0 });
    Interval { low: shift.low / median, high: shift.high / median }
}

fn because(verdict: &Verdict, effect: f64, rule: &Rule) -> String {
    let fewest = verdict.runs.0.min(verdict.runs.1);
    if fewest < rule.runs_min() {
        let runs = if fewest == 1 { "run" } else { "runs" };
        return format!("{fewest} {runs} of each cannot decide: at least {} are needed", rule.runs_min());
    }
    let limit = format!("{}%", rule.effect_min * 100.0);
    if effect.abs() > rule.effect_min {
        let p = verdict.p.unwrap_or(1.0);
        if p < rule.p_max {
            return format!(
                "the medians differ by {}, and the difference may still be below {limit}",
                percent(effect)
            );
        }
        return format!(
            "the medians differ by {}, and chance alone gives as much with p = {p:.3}",
            percent(effect)
        );
    }
    match verdict.interval {
        Some(Interval { low, high }) => format!(
            "the difference lies between {} and {}: it may be more than {limit} and may be less",
            percent(low),
            percent(high)
        ),
        None => format!("whether the difference is below {limit} is not known"),
    }
}

/// How many more of each side.
///
/// For a difference: Noether, "Sample size determination for some common nonparametric tests", JASA 82 (1987). For
/// sameness: an interval shrinks with the square root of the number of values.
fn more_runs(verdict: &Verdict, effect: f64, superiority: f64, near: Interval, rule: &Rule) -> Option<u32> {
    let have = verdict.runs.0.min(verdict.runs.1) as f64;
    let needed = if effect.abs() > rule.effect_min {
        let z = normal_exceeded_with(rule.p_max / 2.0) + normal_exceeded_with(1.0 - POWER);
        let to_differ = z * z / (6.0 * (superiority - 0.5).powi(2));
        let reach = if effect > 0.0 { effect - near.low } else { near.high - effect };
        to_differ.max(have * (reach / (effect.abs() - rule.effect_min)).powi(2))
    } else {
        let Interval { low, high } = verdict.interval?;
        let reach = (high - effect).max(effect - low);
        have * (reach / (rule.effect_min - effect.abs())).powi(2)
    };
    let more = (needed.max(rule.runs_min() as f64) - have).ceil().max(1.0);
    (more <= MORE_MAX).then_some(more as u32)
}

/// `+20.0%`.
pub fn percent(ratio: f64) -> String {
    format!("{:+.1}%", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(middle: f64, spread: f64, count: usize) -> Vec<f64> {
        (0..count).map(|at| middle + spread * ((at * 7919 % count) as f64 / count as f64 - 0.5)).collect()
    }

    #[test]
    fn words_follow_the_rule() {
        let check = |first: f64, second: f64, spread: f64, count: usize, expect: Word| {
            let (one, other) = (around(first, spread, count), around(second, spread * 1.01, count));
            let verdict = judge(&one, &other, &Rule::default());
            assert_eq!(verdict.word, expect, "{verdict:?}");
            assert_eq!(verdict.because.is_some(), expect == Word::Inconclusive);
        };
        check(100.0, 120.0, 10.0, 20, Word::Slower);
        check(120.0, 100.0, 10.0, 20, Word::Faster);
        check(100.0, 100.0, 4.0, 20, Word::Same);
        check(100.0, 103.0, 1.0, 20, Word::Same);
        check(100.0, 103.0, 30.0, 20, Word::Inconclusive);
        check(100.0, 200.0, 1.0, 5, Word::Inconclusive);
        check(100.0, 200.0, 1.0, 6, Word::Slower);
        check(100.0, 100.0, 1.0, 3, Word::Inconclusive);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let verdict = judge(&[], &[1.0], &Rule::default());
        assert_eq!((verdict.word, verdict.p, verdict.effect), (Word::Inconclusive, None, None));
        let verdict = judge(&[0.0, 0.0], &[1.0, 1.0], &Rule::default());
        assert_eq!((verdict.word, verdict.effect), (Word::Inconclusive, None));
        assert!(verdict.because.is_some_and(|because| because.contains("zero")));
        let one = judge(&[1.0], &[2.0], &Rule::default());
        assert_eq!((one.interval, one.effect), (None, Some(1.0)));
    }

    #[test]
    fn the_runs_that_are_asked_for_decide() {
        let (first, second) = (around(100.0, 60.0, 10), around(112.0, 60.0, 10));
        let verdict = judge(&first, &second, &Rule::default());
        let more = verdict.more_runs.unwrap() as usize;
        assert!((10..300).contains(&more), "{more}");
        let verdict =
            judge(&around(100.0, 60.0, 10 + more), &around(112.0, 60.0, 10 + more), &Rule::default());
        assert_eq!(verdict.word, Word::Slower);
        // At the limit itself no number of runs is likely to decide.
        let (first, second) = (around(100.0, 8.0, 20), around(104.0, 8.0, 20));
        let effect_min = median_ratio(&first, &second).unwrap() + 1e-4;
        let at_limit = judge(&first, &second, &Rule { effect_min, ..Rule::default() });
        assert_eq!((at_limit.word, at_limit.more_runs), (Word::Inconclusive, None));
    }

    #[test]
    fn six_runs_are_the_fewest_for_the_default_rule() {
        assert_eq!(Rule::default().runs_min(), 6);
        assert_eq!(Rule { p_max: 0.05, ..Rule::default() }.runs_min(), 4);
        assert_eq!(Rule::default().for_looks(5).runs_min(), 8);
    }
}
