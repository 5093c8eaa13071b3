//! Whether two sides differ that took turns, where a coin decided for each pair of runs which side went first.
//!
//! What disturbs a machine comes and goes, so runs near in time are alike and their difference is nearly free of it. Each
//! run is scored by how much dearer it was than the runs around it: near ones count more, and no difference counts for
//! more than [`CLIP`], so that a run that was disturbed alone weighs little. Where the sides do not differ, the coins
//! alone decide which of a pair's two scores belongs to which side: all ways they could have fallen are counted, so
//! the probability holds whatever the noise is like. Source of such tests: Fisher, "The Design of Experiments" (1935),
//! chapter 3; of the scores: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

use super::shift::Interval;
use super::{normal_above, normal_exceeded_with};

/// The largest difference of two logarithms that counts as it is: 22%. Of the values tried on runs that were really taken,
/// 0.1 to 0.4, it found the most.
pub const CLIP: f64 = 0.2;
/// A run one further away counts so much less.
pub const FADE: f64 = 0.3;
/// No run further away counts.
pub const REACH: usize = 8;
/// Up to so many pairs the ways of the coins are counted out; above, their sum is taken for normal.
pub const EXACT_MAX: usize = 60;
/// For counting, scores are rounded to one part in so many of their sum.
pub const PARTS: f64 = 4000.0;
/// A bracket as wide as the data is halved so often.
const HALVINGS: usize = 30;

/// Two runs beside each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// What the first side cost, above zero.
    pub first: f64,
    /// What the second side cost, above zero.
    pub second: f64,
    /// Whether the second side went first.
    pub second_led: bool,
}

/// Pairs in the order they were taken.
#[derive(Clone, Debug)]
pub struct Turns {
    /// The logarithm of each run's cost, and whether it is the second side's.
    runs: Vec<(f64, bool)>,
    /// What a run so much further away than the next counts.
    weights: [f64; REACH],
}

impl Pair {
    /// What belongs to each of the two, in the order they ran.
    pub(crate) fn in_order<T>(&self, first: T, second: T) -> [T; 2] {
        if self.second_led { [second, first] } else { [first, second] }
    }
}

/// What the coins say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coins {
    /// Two-sided: how often coins alone would part the sides as far.
    pub p: f64,
    /// Whether `p` was counted out rather than approximated.
    pub exact: bool,
    /// The sum of the leans in standard deviations of what coins give; above zero where the second side costs more.
    pub z: f64,
}

impl Turns {
    /// Of these pairs.
    pub fn of(pairs: &[Pair]) -> Self {
        let runs =
            pairs.iter().flat_map(|pair| pair.in_order((pair.first.ln(), false), (pair.second.ln(), true)));
        Self { runs: runs.collect(), weights: weights() }
    }

    /// How far each pair leans: above zero where its second side was the dearer one, were the second side's
    /// logarithms smaller by `shift`.
    pub fn leans(&self, shift: f64) -> Vec<f64> {
        let costs: Vec<f64> =
            self.runs.iter().map(|(ln, is_second)| if *is_second { ln - shift } else { *ln }).collect();
        let mut scores = vec![0.0; costs.len()];
        for (at, there, weight) in near(costs.len(), &self.weights) {
            let dearer = weight * (costs[there] - costs[at]).clamp(-CLIP, CLIP);
            scores[there] += dearer;
            scores[at] -= dearer;
        }
        let pairs = scores.chunks_exact(2).zip(self.runs.chunks_exact(2));
        pairs
            .map(|(scores, runs)| if runs[0].1 { scores[0] - scores[1] } else { scores[1] - scores[0] })
            .collect()
    }

    /// The test of no difference; `None` without pairs.
    pub fn coins(&self) -> Option<Coins> {
        let leans = self.leans(0.0);
        if leans.is_empty() {
            return None;
        }
        let z = z(&leans);
        if leans.len() > EXACT_MAX {
            return Some(Coins { p: (2.0 * normal_above(z.abs())).min(1.0), exact: false, z });
        }
        Some(Coins { p: counted(&leans), exact: true, z })
    }

    /// By how much the second side's logarithms are larger: with that taken away, the leans add up to zero. `None`
    /// without pairs. Such estimates are Huber's (1964) of the differences of near runs.
    pub fn middle(&self) -> Option<f64> {
        self.crossing(|leans| leans.iter().sum())
    }

    /// The differences that the test would not reject, by the normal approximation. `None` where so few pairs
    /// cannot give that confidence. Source: as for [`super::shift::shift_interval`].
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let limit = normal_exceeded_with((1.0 - confidence) / 2.0);
        // All pairs leaning one way, alike, give no more than this.
        if ((self.runs.len() / 2) as f64).sqrt() <= limit {
            return None;
        }
        let low = self.crossing(|leans| z(leans) - limit)?;
        let high = self.crossing(|leans| z(leans) + limit)?;
        Some(Interval { low, high })
    }

    /// The shift at which what falls while it grows is zero.
    fn crossing(&self, falling: impl Fn(&[f64]) -> f64) -> Option<f64> {
        let logs = || self.runs.iter().map(|(ln, _)| *ln);
        let (least, most) = (logs().reduce(f64::min)?, logs().reduce(f64::max)?);
        // So far apart that every difference of the sides is clipped.
        let mut high = most - least + 2.0 * CLIP;
        let mut low = -high;
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if falling(&self.leans(middle)) > 0.0 { low = middle } else { high = middle }
        }
        Some(f64::midpoint(low, high))
    }
}

/// What a run so much further away than the next counts.
pub(super) fn weights() -> [f64; REACH] {
    std::array::from_fn(|further| FADE.powi(further as i32))
}

/// All runs that are near each other: the earlier, the later, and what the two count.
pub(super) fn near(runs: usize, weights: &[f64; REACH]) -> impl Iterator<Item = (usize, usize, f64)> {
    let later = move |at: usize| weights.iter().zip(at + 1..runs);
    (0..runs).flat_map(move |at| later(at).map(move |(weight, there)| (at, there, *weight)))
}

/// The sum in standard deviations of what coins give it.
fn z(leans: &[f64]) -> f64 {
    let spread = leans.iter().map(|lean| lean * lean).sum::<f64>().sqrt();
    if spread > 0.0 { leans.iter().sum::<f64>() / spread } else { 0.0 }
}

/// Twice the smaller tail of the sum of the leans above zero, over all signs they could have, by the shift algorithm (see
/// [`super::rank::mann_whitney`]) of the leans rounded to [`PARTS`].
fn counted(leans: &[f64]) -> f64 {
    let all: f64 = leans.iter().map(|lean| lean.abs()).sum();
    if all <= 0.0 {
        return 1.0;
    }
    let parts: Vec<usize> = leans.iter().map(|lean| (lean.abs() / all * PARTS).round() as usize).collect();
    let above = parts.iter().zip(leans).filter(|(_, lean)| **lean > 0.0);
    let observed: usize = above.map(|(part, _)| part).sum();
    let mut ways = vec![0.0f64; parts.iter().sum::<usize>() + 1];
    ways[0] = 1.0;
    let mut most = 0;
    for part in parts {
        most += part;
        for sum in (part..=most).rev() {
            ways[sum] += if part == 0 { ways[sum] } else { ways[sum - part] };
        }
    }
    let total: f64 = ways.iter().sum();
    let (below, above): (f64, f64) = (ways[..=observed].iter().sum(), ways[observed..].iter().sum());
    (2.0 * below.min(above) / total).min(1.0)
}
