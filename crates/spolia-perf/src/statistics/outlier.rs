//! Values that lie far from the rest.

use super::{mean, median, median_deviation};

/// Above this a value is an outlier.
pub const SCORE_MAX: f64 = 3.5;

/// How far each value lies from the median, in units that make 1 a standard deviation where the values are
/// normal. Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers", ASQC 1993, the modified Z-score
/// with the median absolute deviation; where that is zero, with the mean absolute deviation, as they advise.
pub fn scores(values: &[f64]) -> Option<Vec<f64>> {
    let middle = median(values)?;
    let by_median = median_deviation(values)? * 1.4826;
    let unit = if by_median > 0.0 {
        by_median
    } else {
        mean(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())? * 1.253_314
    };
    let score = |value: &f64| if unit > 0.0 { (value - middle) / unit } else { 0.0 };
    Some(values.iter().map(score).collect())
}

/// The places of the outliers, by [`SCORE_MAX`].
pub fn outliers(values: &[f64]) -> Vec<usize> {
    let scores = scores(values).unwrap_or_default();
    scores.iter().enumerate().filter(|(_, score)| score.abs() > SCORE_MAX).map(|(at, _)| at).collect()
}
