//! Intervals by drawing again from what was measured.

use super::median;
use super::random::Random;
use super::shift::{Interval, between, median_ratio};

/// How often is drawn where nothing else is said.
pub const DRAWS: usize = 2000;

/// The interval of the median. Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of
/// Statistics 7 (1979), the percentile interval. The same seed gives the same interval.
pub fn median_interval(values: &[f64], confidence: f64, draws: usize, seed: u64) -> Option<Interval> {
    interval(confidence, draws, seed, |random| median(&draw(values, random)))
}

/// The interval of [`median_ratio`], each sample drawn from by itself; otherwise as [`median_interval`].
pub fn ratio_interval(
    first: &[f64],
    second: &[f64],
    confidence: f64,
    draws: usize,
    seed: u64,
) -> Option<Interval> {
    interval(confidence, draws, seed, |random| median_ratio(&draw(first, random), &draw(second, random)))
}

fn interval(
    confidence: f64,
    draws: usize,
    seed: u64,
    mut one: impl FnMut(&mut Random) -> Option<f64>,
) -> Option<Interval> {
    let mut random = Random::new(seed);
    let mut drawn: Vec<f64> = (0..draws).map(|_| one(&mut random)).collect::<Option<_>>()?;
    drawn.sort_by(f64::total_cmp);
    between(&drawn, confidence)
}

/// As many values as there are, each of them drawn anew.
pub fn draw(values: &[f64], random: &mut Random) -> Vec<f64> {
    values.iter().map(|_| values[random.below(values.len())]).collect()
}
