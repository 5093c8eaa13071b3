//! Whether what was measured in pairs differs, by the ranks of the differences alone. What disturbs both of a pair
//! falls out of their difference, so pairs see more on a machine whose speed comes and goes.

use super::shift::Interval;
use super::{normal_above, normal_exceeded_with, of_sorted, ranks};

/// Up to so many differences the distribution is counted out; above, it is approximated.
pub const EXACT_MAX: usize = 60;

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// The sum of the ranks of the differences above zero.
    pub w: f64,
    /// How many differences are not zero; the others say nothing and are left out.
    pub count: usize,
    /// Two-sided: how often chance alone would give differences as lopsided.
    pub p: f64,
    /// Whether `p` was counted out rather than approximated.
    pub exact: bool,
}

impl SignedRank {
    /// The share of the rank sum that is above zero: 0.5 where the pairs are alike.
    pub fn share_above(&self) -> f64 {
        if self.count == 0 { 0.5 } else { self.w / most(self.count) }
    }
}

/// The sum of the ranks 1 to `count`.
fn most(count: usize) -> f64 {
    (count * (count + 1)) as f64 / 2.0
}

/// Wilcoxon's signed-rank test of `differences` against zero, two-sided; `None` where there are none. Source: Wilcoxon,
/// "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945).
///
/// Up to [`EXACT_MAX`] differences all choices of signs are counted out, ties included, by the shift algorithm (see
/// [`super::rank::mann_whitney`]); `p` is twice the smaller tail. Above it the normal approximation with correction for
/// ties and continuity is used (Hollander and Wolfe, "Nonparametric Statistical Methods", 1973, chapter 3.1).
pub fn signed_rank(differences: &[f64]) -> Option<SignedRank> {
    if differences.is_empty() {
        return None;
    }
    let moved: Vec<f64> = differences.iter().copied().filter(|one| *one != 0.0).collect();
    let count = moved.len();
    let sizes: Vec<f64> = moved.iter().map(|one| one.abs()).collect();
    let (ranks, ties) = ranks(&sizes);
    let w: f64 = ranks.iter().zip(&moved).filter(|(_, one)| **one > 0.0).map(|(rank, _)| rank).sum();
    if count <= EXACT_MAX {
        let ways = ways(&ranks);
        let observed = (w * 2.0).round() as usize;
        let total: f64 = ways.iter().sum();
        let (below, above): (f64, f64) = (ways[..=observed].iter().sum(), ways[observed..].iter().sum());
        return Some(SignedRank { w, count, p: (2.0 * below.min(above) / total).min(1.0), exact: true });
    }
    let distance = ((w - most(count) / 2.0).abs() - 0.5).max(0.0);
    let p = (2.0 * normal_above(distance / deviation(count, ties))).min(1.0);
    Some(SignedRank { w, count, p, exact: false })
}

/// The standard deviation of the rank sum where signs are chance. `ties` is Σ(t³ − t).
fn deviation(count: usize, ties: f64) -> f64 {
    let n = count as f64;
    (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ties / 48.0).sqrt()
}

/// In how many ways signs can be given so that twice the ranks above zero add up to the index.
fn ways(ranks: &[f64]) -> Vec<f64> {
    // Shared ranks are halves: twice a rank is whole.
    let doubled: Vec<usize> = ranks.iter().map(|rank| (rank * 2.0).round() as usize).collect();
    let mut ways = vec![0.0f64; doubled.iter().sum::<usize>() + 1];
    ways[0] = 1.0;
    for rank in doubled {
        for sum in (rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    ways
}

/// Where differences lie, as [`signed_rank`] sees it: the means of all two of them, each with itself as well, in order.
#[derive(Clone, Debug)]
pub struct Location {
    count: usize,
    means: Vec<f64>,
}

impl Location {
    /// Of these differences.
    pub fn of(differences: &[f64]) -> Self {
        let from = |at: usize| differences[at..].iter().map(move |other| (differences[at] + other) / 2.0);
        let mut means: Vec<f64> = (0..differences.len()).flat_map(from).collect();
        means.sort_by(f64::total_cmp);
        Self { count: differences.len(), means }
    }

    /// The pseudo-median; `None` where there are no differences. Source: Hodges and Lehmann (1963), as for
    /// [`super::shift::hodges_lehmann`].
    pub fn middle(&self) -> Option<f64> {
        of_sorted(&self.means, 0.5)
    }

    /// The locations that the test would not reject. `None` where so few differences cannot give that confidence.
    /// Source: Hollander and Wolfe (1973), chapter 3.3, after Tukey.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let last = self.means.len().checked_sub(1)?;
        let cut = cut(self.count, (1.0 - confidence) / 2.0)?.min(last / 2);
        Some(Interval { low: self.means[cut], high: self.means[last - cut] })
    }
}

/// The largest rank sum that chance stays at or below with at most the probability `tail`.
fn cut(count: usize, tail: f64) -> Option<usize> {
    if count > EXACT_MAX {
        let at = most(count) / 2.0 - normal_exceeded_with(tail) * deviation(count, 0.0);
        return (at >= 0.0).then_some(at.floor() as usize);
    }
    let plain: Vec<f64> = (1..=count).map(|rank| rank as f64).collect();
    let ways = ways(&plain);
    let total: f64 = ways.iter().sum();
    let mut below = 0.0;
    let fits = ways.iter().step_by(2).take_while(|one| {
        below += **one;
        below / total <= tail
    });
    fits.count().checked_sub(1)
}
