//! Whether values grow or shrink in the order they were taken.

use super::normal_above;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// From −1 (always shrinking) to 1 (always growing): Kendall's tau-b of the values and their places.
    pub tau: f64,
    /// Two-sided: how often chance alone would give as much.
    pub p: f64,
}

/// The Mann–Kendall test. Sources: Mann, "Nonparametric tests against trend", Econometrica 13 (1945); Kendall,
/// "Rank Correlation Methods" (1975), with its variance under ties and without correction for continuity.
pub fn trend(values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if n < 3 {
        return None;
    }
    let mut score = 0i64;
    for (at, earlier) in values.iter().enumerate() {
        for later in &values[at + 1..] {
            score += i64::from(later > earlier) - i64::from(later < earlier);
        }
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = n as f64;
    let (mut tied_pairs, mut tied_variance) = (0.0, 0.0);
    for group in sorted.chunk_by(|one, next| one == next) {
        let t = group.len() as f64;
        tied_pairs += t * (t - 1.0) / 2.0;
        tied_variance += t * (t - 1.0) * (2.0 * t + 5.0);
    }
    let pairs = n * (n - 1.0) / 2.0;
    let variance = (n * (n - 1.0) * (2.0 * n + 5.0) - tied_variance) / 18.0;
    let scale = (pairs * (pairs - tied_pairs)).sqrt();
    if variance <= 0.0 || scale <= 0.0 {
        return Some(Trend { tau: 0.0, p: 1.0 });
    }
    let z = score as f64 / variance.sqrt();
    Some(Trend { tau: score as f64 / scale, p: (2.0 * normal_above(z.abs())).min(1.0) })
}
