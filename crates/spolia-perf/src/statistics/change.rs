//! Where in a series its level changed: E-divisive with means of distances.
//!
//! Source: Matteson and James, "A nonparametric approach for multiple change point analysis of multivariate
//! data", JASA 109 (2014), with α = 1. As in Daly et al., "The use of change point detection to identify software
//! performance regressions in a continuous integration system", ICPE 2020, a candidate divides a whole segment
//! in two. Whether it counts is found by putting the segment's values in random orders; drawing stops early
//! where the answer is plain (Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991).

use super::median;
use super::random::Random;

/// Longer series must be thinned by the caller: the work grows with the square.
pub const VALUES_MAX: usize = 500;
/// The fewest values between two changes.
const SEGMENT_MIN: usize = 4;

/// How changes are told from noise.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A change is kept where chance gives as much less often than this.
    pub p_max: f64,
    /// How many random orders are looked at, at the most.
    pub orders: usize,
    /// The smallest relative change of the median that counts: 0.05 is five percent.
    pub effect_min: f64,
    /// The generator's seed.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { p_max: 0.01, orders: 299, effect_min: 0.05, seed: 0x005b_011a }
    }
}

/// One change of level.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Change {
    /// The place of the first value of the new level.
    pub at: usize,
    /// The median between the change before and this one.
    pub before: f64,
    /// The median from here to the next change.
    pub after: f64,
    /// How often a random order of the values gave a division as clear.
    pub p: f64,
}

/// The changes of `values`, in order. Only the first [`VALUES_MAX`] values are looked at.
pub fn changes(values: &[f64], options: &Options) -> Vec<Change> {
    let values = &values[..values.len().min(VALUES_MAX)];
    let mut random = Random::new(options.seed);
    let mut found: Vec<(usize, f64)> = Vec::new();
    let mut open = vec![(0, values.len())];
    while let Some((from, to)) = open.pop() {
        let segment = &values[from..to];
        let Some((at, clearness)) = best_division(segment) else { continue };
        let p = chance(segment, clearness, options, &mut random);
        if p <= options.p_max {
            found.push((from + at, p));
            open.extend([(from, from + at), (from + at, to)]);
        }
    }
    found.sort_by_key(|(at, _)| *at);
    told(values, found, options.effect_min)
}

/// With medians, and without those changes that are too small to matter: the smallest goes first, as its
/// neighbours' medians change with it.
fn told(values: &[f64], mut found: Vec<(usize, f64)>, effect_min: f64) -> Vec<Change> {
    loop {
        let end = |next: usize| found.get(next).map_or(values.len(), |(at, _)| *at);
        let start = |number: usize| number.checked_sub(1).map_or(0, |before| found[before].0);
        let one = |number: usize| {
            let (at, p) = found[number];
            let before = median(&values[start(number)..at]).unwrap_or_default();
            let after = median(&values[at..end(number + 1)]).unwrap_or_default();
            Change { at, before, after, p }
        };
        let changes: Vec<Change> = (0..found.len()).map(one).collect();
        let effect = |change: &Change| match change.before.abs() {
            0.0 => f64::INFINITY,
            before => (change.after - change.before).abs() / before,
        };
        let smallest =
            changes.iter().enumerate().min_by(|(_, one), (_, other)| effect(one).total_cmp(&effect(other)));
        match smallest {
            Some((number, change)) if effect(change) < effect_min => {
                found.remove(number);
            }
            _ => return changes,
        }
    }
}

/// The division of `values` in two with the largest scaled energy distance, and that distance.
pub fn best_division(values: &[f64]) -> Option<(usize, f64)> {
    let n = values.len();
    if n < 2 * SEGMENT_MIN {
        return None;
    }
    // Sums of distances: within the left part, within the right part, and between them; moved value by value.
    let mut left = 0.0;
    let mut right: f64 = 0.0;
    for (at, one) in values.iter().enumerate() {
        right += values[at + 1..].iter().map(|other| (one - other).abs()).sum::<f64>();
    }
    let mut between = 0.0;
    let mut best: Option<(usize, f64)> = None;
    for (at, moved) in values.iter().enumerate() {
        let to_left: f64 = values[..at].iter().map(|other| (moved - other).abs()).sum();
        let to_right: f64 = values[at + 1..].iter().map(|other| (moved - other).abs()).sum();
        left += to_left;
        right -= to_right;
        between += to_right - to_left;
        let (m, k) = (at + 1, n - at - 1);
        if m < SEGMENT_MIN || k < SEGMENT_MIN {
            continue;
        }
        let clearness = scaled_distance(left, right, between, m as f64, k as f64);
        if best.is_none_or(|(_, known)| clearness > known) {
            best = Some((m, clearness));
        }
    }
    best
}

/// mk/(m+k) · (2 E|X−Y| − E|X−X'| − E|Y−Y'|), from sums over unordered pairs.
fn scaled_distance(left: f64, right: f64, between: f64, m: f64, k: f64) -> f64 {
    let distance = 2.0 * between / (m * k) - 2.0 * left / (m * m) - 2.0 * right / (k * k);
    m * k / (m + k) * distance
}

/// How often a random order divides as clearly as `clearness`.
fn chance(values: &[f64], clearness: f64, options: &Options, random: &mut Random) -> f64 {
    // With so many as clear ones the answer is no, however many more are looked at.
    let enough = ((options.orders + 1) as f64 * options.p_max).floor() as usize + 1;
    let mut shuffled = values.to_vec();
    let mut as_clear = 0;
    for looked_at in 1..=options.orders {
        random.shuffle(&mut shuffled);
        as_clear += usize::from(best_division(&shuffled).is_some_and(|(_, other)| other >= clearness));
        if as_clear >= enough {
            return (as_clear + 1) as f64 / (looked_at + 1) as f64;
        }
    }
    (as_clear + 1) as f64 / (options.orders + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(random: &mut Random) -> f64 {
        // Sum of twelve uniform numbers: near normal with deviation 1.
        (0..12).map(|_| random.below(1 << 30) as f64 / f64::from(1 << 30)).sum::<f64>() - 6.0
    }

    #[test]
    fn planted_changes_are_found_where_they_are() {
        let mut random = Random::new(1);
        let level = |at: usize| match at {
            0..40 => 100.0,
            40..70 => 120.0,
            _ => 90.0,
        };
        let values: Vec<f64> = (0..110).map(|at| level(at) + 3.0 * noise(&mut random)).collect();
        let found = changes(&values, &Options::default());
        assert_eq!(found.iter().map(|change| change.at).collect::<Vec<_>>(), [40, 70]);
        assert!((found[0].before - 100.0).abs() < 2.0 && (found[0].after - 120.0).abs() < 2.0);
    }

    #[test]
    fn noise_alone_has_hardly_any() {
        let mut random = Random::new(2);
        let series = 60;
        let alarms = (0..series)
            .filter(|_| {
                let values: Vec<f64> = (0..60).map(|_| 100.0 + 10.0 * noise(&mut random)).collect();
                !changes(&values, &Options { effect_min: 0.0, ..Options::default() }).is_empty()
            })
            .count();
        assert!(alarms <= 3, "{alarms} of {series}");
    }

    #[test]
    fn small_and_short_series_are_left_alone() {
        assert_eq!(changes(&[], &Options::default()), []);
        assert_eq!(changes(&[1.0, 2.0, 3.0], &Options::default()), []);
        let small: Vec<f64> = (0..60).map(|at| if at < 30 { 100.0 } else { 101.0 }).collect();
        assert_eq!(changes(&small, &Options::default()), []);
        let same = [5.0; 50];
        assert_eq!(changes(&same, &Options::default()), []);
    }
}
