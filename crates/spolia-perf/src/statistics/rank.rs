//! Whether one sample tends to be larger than another, by ranks alone: outliers weigh no more than any other
//! value.

use super::{normal_above, ranks};

/// Up to this many values in both samples together the distribution is counted out; above, it is approximated.
pub const EXACT_MAX: usize = 60;

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// U of the first sample: in how many pairs its value is the larger one, ties counting half.
    pub u: f64,
    /// Two-sided: how often chance alone would separate the samples as far.
    pub p: f64,
    /// Whether `p` was counted out rather than approximated.
    pub exact: bool,
}

impl MannWhitney {
    /// The share of pairs in which the first sample's value is the larger one: 0.5 where the samples are alike.
    pub fn superiority(&self, first: usize, second: usize) -> f64 {
        self.u / (first * second) as f64
    }
}

/// Mann–Whitney U test, two-sided. Source: Mann and Whitney, "On a test of whether one of two random variables
/// is stochastically larger than the other", Annals of Mathematical Statistics 18 (1947).
///
/// Up to [`EXACT_MAX`] values the permutation distribution of the rank sum is counted out, ties included, by
/// the shift algorithm of Streitberg and Röhmel, "Exact distributions for permutation and rank tests",
/// Statistical Software Newsletter 12 (1986); `p` is twice the smaller tail. Above it the normal approximation
/// with correction for ties and continuity is used (Lehmann, "Nonparametrics", 1975, 1.4 and appendix).
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    let (n, m) = (first.len(), second.len());
    if n == 0 || m == 0 {
        return None;
    }
    let both: Vec<f64> = first.iter().chain(second).copied().collect();
    let (ranks, ties) = ranks(&both);
    let sum: f64 = ranks[..n].iter().sum();
    let u = sum - (n * (n + 1)) as f64 / 2.0;
    if n + m <= EXACT_MAX {
        return Some(MannWhitney { u, p: exact(&ranks, n), exact: true });
    }
    let (n, m) = (n as f64, m as f64);
    let all = n + m;
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return Some(MannWhitney { u, p: 1.0, exact: false });
    }
    let distance = (u - n * m / 2.0).abs() - 0.5;
    let p = (2.0 * normal_above(distance.max(0.0) / variance.sqrt())).min(1.0);
    Some(MannWhitney { u, p, exact: false })
}

/// Twice the smaller tail of the rank sum of the first `n` ranks, over all ways to choose `n` of them.
fn exact(ranks: &[f64], n: usize) -> f64 {
    // Shared ranks are halves: twice a rank is whole.
    let doubled: Vec<usize> = ranks.iter().map(|rank| (rank * 2.0).round() as usize).collect();
    let observed: usize = doubled[..n].iter().sum();
    let mut largest = doubled.clone();
    largest.sort_unstable_by(|one, other| other.cmp(one));
    let most: usize = largest[..n].iter().sum();
    // ways[k * width + s]: how many choices of k ranks add up to s.
    let width = most + 1;
    let mut ways = vec![0.0f64; (n + 1) * width];
    ways[0] = 1.0;
    for (seen, rank) in doubled.iter().enumerate() {
        for k in (1..=n.min(seen + 1)).rev() {
            let (fewer, with) = ways.split_at_mut(k * width);
            let fewer = &fewer[(k - 1) * width..];
            for sum in *rank..width {
                with[sum] += fewer[sum - rank];
            }
        }
    }
    let row = &ways[n * width..];
    let total: f64 = row.iter().sum();
    let below: f64 = row[..=observed].iter().sum();
    let above: f64 = row[observed..].iter().sum();
    (2.0 * below.min(above) / total).min(1.0)
}
