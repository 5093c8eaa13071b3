//! Two samples of a cost → one word that can be relied on, and what it rests on. Pure.
//!
//! | word | when |
//! |---|---|
//! | `slower`, `faster` | chance alone would hardly separate the samples so far (p below [`Rule::p_max`]), **and** the medians differ by more than [`Rule::effect_min`], **and** so does the near end of the shift's interval: the difference is not only there, it is known to matter |
//! | `same` | the whole interval of the difference lies within [`Rule::effect_min`] |
//! | `inconclusive` | neither: more runs are needed, and about how many is said |
//!
//! Runs that were taken in turn are judged in pairs ([`judge_in_turn`]): each is compared with those that ran near it,
//! so that what slows a machine for a tenth of a second slows both. Runs of different times are judged by all their
//! ranks ([`judge`]).
//!
//! Where it is known of each run how fast the processor was meanwhile, and the costs follow that, runs in turn are judged by
//! what they would have cost at an even speed ([`Even`]); medians are as measured.
//!
//! A comparison has one verdict for CPU time and one for wall time: a build that waits for a lock or a remote
//! burns no CPU, and a busy machine changes wall time only. A comparison may be wrong in 0.5% of the cases in which
//! nothing differs; its two verdicts share that ([`both_in_turn`]).

use serde::{Deserialize, Serialize};

use crate::statistics::bootstrap::{DRAWS, ratio_interval};
use crate::statistics::even::Even;
use crate::statistics::rank::mann_whitney;
use crate::statistics::shift::{Interval, hodges_lehmann, median_ratio, shift_interval};
use crate::statistics::turns::{Pair, Turns};
use crate::statistics::{median, normal_exceeded_with};

/// How often a real difference should be found by the runs that are said to be needed: 9 in 10.
const POWER: f64 = 0.9;
/// How sure it must be that a difference is more than [`Rule::effect_min`]: 95% at the end that is near.
const NEAR_CONFIDENCE: f64 = 0.9;
/// CPU time's part of what a comparison of runs in turn may be wrong in; the rest is wall time's. A busy machine blurs
/// wall time so much more that little is found there with a larger part.
const CPU_PART: f64 = 0.8;
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

    /// The rule for a verdict that gets `part` of what both of a comparison may be wrong in.
    fn for_part(&self, part: f64) -> Self {
        Self { p_max: 2.0 * self.p_max * part, ..*self }
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

    /// The fewest pairs with which `slower` or `faster` can be said: 2 / 2ⁿ is the smallest p that n of them can give.
    pub fn pairs_min(&self) -> usize {
        (2.0 / self.p_max).log2().ceil().max(1.0) as usize
    }
}

/// How the runs were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// All of one side with all of the other, by rank: Mann–Whitney.
    Ranks,
    /// Each with those that ran near it, by the coins that put the sides of each pair in order ([`Turns`]).
    Pairs,
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
    /// How they were compared.
    pub test: Test,
    /// How the costs were brought to an even speed of the processor; `None` where they were judged as they are.
    pub even: Option<Even>,
    /// The relative difference: 0.2 is 20% more in the second. Of [`Test::Ranks`] that of the medians, of [`Test::Pairs`]
    /// [`Turns::middle`].
    pub effect: Option<f64>,
    /// Where the true difference lies, with [`Rule::confidence`].
    pub interval: Option<Interval>,
    /// Of [`Test::Ranks`]: the median of all differences between the samples, relative to the first median.
    pub shift: Option<f64>,
    /// Of the test, two-sided.
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
            test: Test::Ranks,
            even: None,
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

    /// Whether `slower` or `faster` was found.
    fn differs(&self) -> bool {
        matches!(self.word, Word::Slower | Word::Faster)
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
    let shift = hodges_lehmann(first, second).zip(medians.0).map(|(shift, median)| shift / median);
    let found = Found {
        runs,
        medians,
        test: Test::Ranks,
        even: None,
        fewest: rule.runs_min(),
        p: test.p,
        effect,
        interval: interval.filter(|_| runs.0.min(runs.1) > 1),
        near: near_end(first, second, medians.0.unwrap_or(1.0)),
        to_differ: 6.0 * (test.superiority(runs.0, runs.1) - 0.5).powi(2),
    };
    Verdict { shift, ..found.verdict(rule) }
}

/// One cost of two sides that took turns.
#[derive(Clone, Debug, Default)]
pub struct InTurn {
    /// Of each run of the first side; `None` was not measured.
    pub first: Vec<Option<f64>>,
    /// Of each run of the second side; those at the same place ran beside each other.
    pub second: Vec<Option<f64>>,
    /// For each place, whether the second side went first.
    pub second_led: Vec<bool>,
    /// What a fixed piece of work took while each run of the first side ran, in one unit; empty or with `None` where that is
    /// not known.
    pub first_works: Vec<Option<f64>>,
    /// The same of the second side.
    pub second_works: Vec<Option<f64>>,
}

impl InTurn {
    /// All pairs; `None` where a run has nothing beside it, or a value is not above zero.
    fn pairs(&self) -> Option<Vec<Pair>> {
        let sides = self.first.iter().zip(&self.second).zip(&self.second_led);
        let is_whole = self.first.len() == self.second.len() && self.first.len() == self.second_led.len();
        let pair = |((first, second), second_led): ((&Option<f64>, &Option<f64>), &bool)| {
            Some(Pair { first: (*first)?, second: (*second)?, second_led: *second_led })
        };
        let pairs = sides.map(pair).collect::<Option<Vec<Pair>>>().filter(|_| is_whole)?;
        pairs.iter().all(|pair| pair.first > 0.0 && pair.second > 0.0).then_some(pairs)
    }

    /// `pairs`, which are all of them, at an even speed of the processor.
    fn evened(&self, pairs: &[Pair]) -> Option<(Even, Vec<Pair>)> {
        let works = self.first_works.iter().zip(&self.second_works);
        let works = works.map(|(first, second)| Some(((*first)?, (*second)?)));
        let works = works.collect::<Option<Vec<(f64, f64)>>>().filter(|works| works.len() == pairs.len())?;
        let runs: Vec<(f64, f64)> = pairs
            .iter()
            .zip(&works)
            .flat_map(|(pair, work)| pair.in_order((pair.first, work.0), (pair.second, work.1)))
            .collect();
        let even = Even::of(&runs)?;
        let cost = |pair: &Pair, work: &(f64, f64)| Pair {
            first: even.cost((pair.first, work.0)),
            second: even.cost((pair.second, work.1)),
            ..*pair
        };
        Some((even, pairs.iter().zip(&works).map(|(pair, work)| cost(pair, work)).collect()))
    }
}

/// Compares the second side to the first. Where the pairs are too few for their test, or not all are whole, all
/// runs are compared with all, as by [`judge`].
pub fn judge_in_turn(sides: &InTurn, rule: &Rule) -> Verdict {
    let found = sides.pairs().filter(|pairs| pairs.len() >= rule.pairs_min()).and_then(|pairs| {
        let (even, judged) = match sides.evened(&pairs) {
            Some((even, evened)) => (Some(even), evened),
            None => (None, pairs.clone()),
        };
        let turns = Turns::of(&judged);
        let (coins, middle) = (turns.coins()?, turns.middle()?);
        let interval = |confidence: f64| {
            let ends = turns.interval(confidence)?;
            Some(Interval { low: ends.low.exp_m1(), high: ends.high.exp_m1() })
        };
        let side = |of: fn(&Pair) -> f64| median(&pairs.iter().map(of).collect::<Vec<f64>>());
        Some(Found {
            runs: (pairs.len(), pairs.len()),
            medians: (side(|pair| pair.first), side(|pair| pair.second)),
            test: Test::Pairs,
            even,
            fewest: rule.pairs_min(),
            p: coins.p,
            effect: middle.exp_m1(),
            interval: interval(rule.confidence),
            near: interval(NEAR_CONFIDENCE).unwrap_or(Interval { low: 0.0, high: 0.0 }),
            to_differ: coins.z.powi(2) / pairs.len() as f64,
        })
    });
    match found {
        Some(found) => found.verdict(rule),
        None => {
            let known = |side: &[Option<f64>]| side.iter().flatten().copied().collect::<Vec<f64>>();
            judge(&known(&sides.first), &known(&sides.second), rule)
        }
    }
}

/// The verdicts of CPU and of wall time of the same runs. They share what a comparison may be wrong in, and where one
/// differs the other gets all of it: it would be wrong only where that was no error. Source: Holm, "A simple sequentially
/// rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979), with weights.
pub fn both_in_turn(cpu: &InTurn, wall: &InTurn, rule: &Rule) -> (Verdict, Verdict) {
    let (of_cpu, of_wall) =
        (judge_in_turn(cpu, &rule.for_part(CPU_PART)), judge_in_turn(wall, &rule.for_part(1.0 - CPU_PART)));
    match (of_cpu.differs(), of_wall.differs()) {
        (true, false) => (of_cpu, judge_in_turn(wall, &rule.for_part(1.0))),
        (false, true) => (judge_in_turn(cpu, &rule.for_part(1.0)), of_wall),
        _ => (of_cpu, of_wall),
    }
}

/// What a test found, from which the word follows.
struct Found {
    runs: (usize, usize),
    medians: (Option<f64>, Option<f64>),
    test: Test,
    even: Option<Even>,
    /// With fewer runs of each side nothing can be said.
    fewest: usize,
    p: f64,
    effect: f64,
    interval: Option<Interval>,
    /// The same with [`NEAR_CONFIDENCE`].
    near: Interval,
    /// The number of runs needed to see the difference is z² by this. Of ranks: Noether, "Sample size determination for some
    /// common nonparametric tests", JASA 82 (1987).
    to_differ: f64,
}

impl Found {
    fn verdict(self, rule: &Rule) -> Verdict {
        let verdict = Verdict {
            word: self.word(rule),
            runs: self.runs,
            medians: self.medians,
            test: self.test,
            even: self.even,
            effect: Some(self.effect),
            interval: self.interval,
            shift: None,
            p: Some(self.p),
            more_runs: None,
            because: None,
        };
        if verdict.is_decided() {
            return verdict;
        }
        Verdict { because: Some(self.because(rule)), more_runs: self.more_runs(rule), ..verdict }
    }

    fn word(&self, rule: &Rule) -> Word {
        let differs = self.p < rule.p_max;
        let enough = self.runs.0.min(self.runs.1) >= self.fewest;
        if differs && self.effect.min(self.near.low) > rule.effect_min {
            Word::Slower
        } else if differs && self.effect.max(self.near.high) < -rule.effect_min {
            Word::Faster
        } else if enough && self.interval.is_some_and(|all| all.is_within(-rule.effect_min, rule.effect_min))
        {
            Word::Same
        } else {
            Word::Inconclusive
        }
    }

    fn because(&self, rule: &Rule) -> String {
        let (fewest, effect) = (self.runs.0.min(self.runs.1), percent(self.effect));
        if fewest < self.fewest {
            let runs = if fewest == 1 { "run" } else { "runs" };
            return format!("{fewest} {runs} of each cannot decide: at least {} are needed", self.fewest);
        }
        let limit = format!("{}%", rule.effect_min * 100.0);
        if self.effect.abs() > rule.effect_min {
            return if self.p < rule.p_max {
                format!("the difference is {effect}, and it may still be below {limit}")
            } else {
                format!("the difference is {effect}, and chance alone gives as much with p = {:.3}", self.p)
            };
        }
        match self.interval {
            Some(Interval { low, high }) => format!(
                "the difference lies between {} and {}: it may be more than {limit} and may be less",
                percent(low),
                percent(high)
            ),
            None => format!("whether the difference is below {limit} is not known"),
        }
    }

    /// How many more of each side: for a difference see [`Found::to_differ`]; for sameness an interval shrinks with the square root
    /// of the number of values.
    fn more_runs(&self, rule: &Rule) -> Option<u32> {
        let have = self.runs.0.min(self.runs.1) as f64;
        let needed = if self.effect.abs() > rule.effect_min {
            let z = normal_exceeded_with(rule.p_max / 2.0) + normal_exceeded_with(1.0 - POWER);
            let reach =
                if self.effect > 0.0 { self.effect - self.near.low } else { self.near.high - self.effect };
            let to_matter = have * (reach / (self.effect.abs() - rule.effect_min)).powi(2);
            (z * z / self.to_differ).max(to_matter)
        } else {
            let Interval { low, high } = self.interval?;
            let reach = (high - self.effect).max(self.effect - low);
            have * (reach / (rule.effect_min - self.effect.abs())).powi(2)
        };
        let more = (needed.max(self.fewest as f64) - have).ceil().max(1.0);
        (more <= MORE_MAX).then_some(more as u32)
    }
}

/// The interval of the shift relative to the first median, with [`NEAR_CONFIDENCE`].
fn near_end(first: &[f64], second: &[f64], median: f64) -> Interval {
    let shift = shift_interval(first, second, NEAR_CONFIDENCE).unwrap_or(Interval { low: 0.0, high: 0.0 });
    Interval { low: shift.low / median, high: shift.high / median }
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

    /// Two sides run in turn on a machine that is sometimes half as slow again, for `stay` runs at a time.
    fn in_turn(factor: f64, stay: usize) -> InTurn {
        let mut sides = InTurn::default();
        for number in 0..40 {
            let side = crate::benchmark::side(number, 2, 7);
            let slow = if number / stay % 2 == 1 { 1.5 } else { 1.0 };
            let jitter = 1.0 + (number * 7919 % 40) as f64 / 1000.0;
            let cost = Some(100.0 * slow * jitter * if side == 1 { factor } else { 1.0 });
            if number % 2 == 0 {
                sides.second_led.push(side == 1);
            }
            if side == 1 { sides.second.push(cost) } else { sides.first.push(cost) }
        }
        sides
    }

    fn swapped(sides: &InTurn) -> InTurn {
        let second_led = sides.second_led.iter().map(|led| !led).collect();
        InTurn {
            first: sides.second.clone(),
            second: sides.first.clone(),
            second_led,
            first_works: sides.second_works.clone(),
            second_works: sides.first_works.clone(),
        }
    }

    #[test]
    fn pairs_see_what_a_restless_machine_hides() {
        let slower = in_turn(1.2, 10);
        let rule = Rule::default();
        let verdict = judge_in_turn(&slower, &rule);
        assert_eq!((verdict.word, verdict.test, verdict.runs), (Word::Slower, Test::Pairs, (20, 20)));
        assert!((verdict.effect.unwrap() - 0.2).abs() < 0.03, "{verdict:?}");
        let all = |side: &[Option<f64>]| -> Vec<f64> { side.iter().flatten().copied().collect() };
        assert_eq!(judge(&all(&slower.first), &all(&slower.second), &rule).word, Word::Inconclusive);
        let faster = judge_in_turn(&swapped(&slower), &rule);
        assert_eq!((faster.word, faster.p), (Word::Faster, verdict.p));
        assert_eq!(judge_in_turn(&in_turn(1.0, 10), &rule).word, Word::Same);
        assert!(!judge_in_turn(&in_turn(1.03, 10), &rule).is_worse());
    }

    #[test]
    fn the_processor_s_speed_is_taken_away_where_it_is_known() {
        // Every run meets another machine, so its neighbours say nothing of it.
        let sides = |factor: f64, is_known: bool| {
            let mut sides = in_turn(factor, 40);
            let slow = |at: usize, of: usize| 1.0 + ((at * 7919 + of * 31) % 20) as f64 / 20.0;
            for at in 0..20 {
                for (of, costs, works) in [
                    (0, &mut sides.first, &mut sides.first_works),
                    (1, &mut sides.second, &mut sides.second_works),
                ] {
                    costs[at] = costs[at].map(|cost| cost * slow(at, of));
                    works.push(is_known.then(|| 3000.0 * slow(at, of)));
                }
            }
            sides
        };
        let rule = Rule::default();
        let verdict = judge_in_turn(&sides(1.2, true), &rule);
        let even = verdict.even.unwrap();
        assert!(even.explained > 0.8 && (even.slope - 1.0).abs() < 0.2, "{even:?}");
        assert_eq!((verdict.word, verdict.test), (Word::Slower, Test::Pairs));
        assert!((verdict.effect.unwrap() - 0.2).abs() < 0.03, "{verdict:?}");
        // What is shown is what was measured.
        let hidden = judge_in_turn(&sides(1.2, false), &rule);
        assert_eq!((hidden.word, hidden.even, hidden.medians), (Word::Inconclusive, None, verdict.medians));
        let faster = judge_in_turn(&swapped(&sides(1.2, true)), &rule);
        assert_eq!((faster.word, faster.p), (Word::Faster, verdict.p));
        assert_eq!(judge_in_turn(&sides(1.0, true), &rule).word, Word::Same);
        // One run without it, and none is changed.
        let mut hole = sides(1.2, true);
        hole.second_works[7] = None;
        assert_eq!(judge_in_turn(&hole, &rule), hidden);
    }

    #[test]
    fn too_few_pairs_and_zeros_are_compared_by_rank() {
        let rule = Rule::default();
        assert_eq!(rule.pairs_min(), 10);
        let check = |first: Vec<Option<f64>>, second: Vec<Option<f64>>, test: Test, word: Word| {
            let second_led = (0..first.len()).map(|at| at % 3 == 1).collect();
            let verdict = judge_in_turn(&InTurn { first, second, second_led, ..InTurn::default() }, &rule);
            assert_eq!((verdict.test, verdict.word), (test, word), "{verdict:?}");
        };
        let many = |value: f64, count: usize| -> Vec<Option<f64>> {
            (0..count).map(|at| Some(value + at as f64 / 100.0)).collect()
        };
        check(many(1.0, 9), many(2.0, 9), Test::Ranks, Word::Slower);
        check(many(1.0, 10), many(2.0, 10), Test::Pairs, Word::Slower);
        check(many(0.0, 12), many(2.0, 12), Test::Ranks, Word::Slower);
        // What was not measured on one side leaves nothing beside the other.
        let mut holes = many(2.0, 12);
        holes[3] = None;
        check(many(1.0, 12), holes, Test::Ranks, Word::Slower);
        check(vec![None; 12], many(1.0, 12), Test::Ranks, Word::Inconclusive);
    }

    #[test]
    fn what_one_cost_has_shown_the_other_need_not_share() {
        let rule = Rule::default();
        // Eleven of twelve pairs lean one way: p is between wall time's part and the whole.
        let mut wall = in_turn(1.2, 40);
        wall.first.truncate(12);
        wall.second.truncate(12);
        wall.second_led.truncate(12);
        std::mem::swap(&mut wall.first[11], &mut wall.second[11]);
        let p = judge_in_turn(&wall, &rule).p.unwrap();
        assert!(2.0 * rule.p_max * (1.0 - CPU_PART) < p && p < 2.0 * rule.p_max, "{p}");
        let (cpu, alone) = both_in_turn(&in_turn(1.0, 10), &wall, &rule);
        assert_eq!((cpu.word, alone.word), (Word::Same, Word::Inconclusive));
        let (cpu, beside) = both_in_turn(&in_turn(1.2, 10), &wall, &rule);
        assert_eq!((cpu.word, beside.word), (Word::Slower, Word::Slower));
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
