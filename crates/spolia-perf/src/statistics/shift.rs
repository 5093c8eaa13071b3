//! How far one sample lies from another.

use super::{median, normal_exceeded_with, of_sorted, ranks};

/// A value with the interval that holds the true one with the confidence that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether all of it lies strictly between `low` and `high`.
    pub fn is_within(&self, low: f64, high: f64) -> bool {
        self.low > low && self.high < high
    }
}

/// The median of all differences `second − first`. Source: Hodges and Lehmann, "Estimates of location based
/// on rank tests", Annals of Mathematical Statistics 34 (1963).
pub fn hodges_lehmann(first: &[f64], second: &[f64]) -> Option<f64> {
    median(&differences(first, second))
}

/// The interval that belongs to [`hodges_lehmann`]: the differences that the Mann–Whitney test would not
/// reject, by the normal approximation with ties. Source: Hollander and Wolfe, "Nonparametric Statistical
/// Methods" (1973), chapter 4.3; Bauer, "Constructing confidence sets using rank statistics", JASA 67 (1972).
pub fn shift_interval(first: &[f64], second: &[f64], confidence: f64) -> Option<Interval> {
    let mut differences = differences(first, second);
    let count = differences.len();
    if count == 0 {
        return None;
    }
    differences.sort_by(f64::total_cmp);
    let (n, m) = (first.len() as f64, second.len() as f64);
    let both: Vec<f64> = first.iter().chain(second).copied().collect();
    let (_, ties) = ranks(&both);
    let all = n + m;
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    let z = normal_exceeded_with((1.0 - confidence) / 2.0);
    let cut = (n * m / 2.0 - z * variance.max(0.0).sqrt()).floor().max(0.0) as usize;
    let cut = cut.min((count - 1) / 2);
    Some(Interval { low: differences[cut], high: differences[count - 1 - cut] })
}

/// The relative difference of medians, `second / first − 1`: 0.05 is five percent more. `None` where the
/// first median is not above zero.
pub fn median_ratio(first: &[f64], second: &[f64]) -> Option<f64> {
    let (first, second) = (median(first)?, median(second)?);
    (first > 0.0).then(|| second / first - 1.0)
}

fn differences(first: &[f64], second: &[f64]) -> Vec<f64> {
    first.iter().flat_map(|one| second.iter().map(move |other| other - one)).collect()
}

/// The interval between two quantiles of values that are in order.
pub(crate) fn between(sorted: &[f64], confidence: f64) -> Option<Interval> {
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval { low: of_sorted(sorted, tail)?, high: of_sorted(sorted, 1.0 - tail)? })
}
