//! Pure functions over numbers: no clock, no files, no global state. Each names the source of its method;
//! `tests/statistics.rs` compares them with what scipy gives.
//!
//! Samples are slices of finite numbers in the order they were taken. A function that needs more values than
//! it gets answers `None`.

pub mod bootstrap;
pub mod change;
pub mod even;
pub mod outlier;
pub mod random;
pub mod rank;
pub mod shift;
pub mod trend;
pub mod turns;

/// The arithmetic mean.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation with n − 1.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The middle value; between the two middle ones where their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile at `at` from 0 to 1, with linear interpolation: type 7 of Hyndman and Fan, "Sample Quantiles
/// in Statistical Packages", The American Statistician 50 (1996), which is what numpy uses.
pub fn quantile(values: &[f64], at: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    of_sorted(&sorted, at)
}

/// [`quantile`] of values that are in order already.
pub fn of_sorted(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = at.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

/// The median distance from the median, not scaled.
pub fn median_deviation(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// The probability that a normal variable lies above `z`. Source: W. J. Cody, "Rational Chebyshev
/// approximations for the error function", Mathematics of Computation 23 (1969), by way of the continued
/// fraction for large arguments and the series for small ones (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub fn normal_above(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal_above(-z);
    }
    let x = z / std::f64::consts::SQRT_2;
    if x < 2.5 {
        // erf by its series: all terms are positive, so nothing cancels.
        let (mut term, mut sum) = (x, x);
        let mut n = 0.0;
        while term > sum * 1e-17 && n < 200.0 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 0.5 * (1.0 - std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum);
    }
    // erfc by its continued fraction, from the inside out.
    let fraction = (1..=80).rev().fold(0.0, |inner, k| f64::from(k) / 2.0 / (x + inner));
    0.5 * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / (x + fraction)
}

/// The z that a normal variable exceeds with probability `above`, by bisection of [`normal_above`]; from −9 to 9.
pub fn normal_exceeded_with(above: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if normal_above(middle) > above { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Ranks from 1; equal values share the mean of their ranks. Also gives Σ(t³ − t) over the groups of equal values.
pub fn ranks(values: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut ranks = vec![0.0; values.len()];
    let mut ties = 0.0;
    let mut at = 0;
    while at < order.len() {
        let same = |next: &&usize| values[**next] == values[order[at]];
        let count = order[at..].iter().take_while(same).count();
        let rank = at as f64 + (count as f64 + 1.0) / 2.0;
        for place in &order[at..at + count] {
            ranks[*place] = rank;
        }
        let count_f = count as f64;
        ties += count_f.powi(3) - count_f;
        at += count;
    }
    (ranks, ties)
}
