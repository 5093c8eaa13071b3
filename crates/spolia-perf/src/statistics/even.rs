//! Costs as they would have been had the processor been as fast in every run, where each run is known with what a fixed
//! piece of work took meanwhile.
//!
//! How much of a difference in the work is one in the cost is found by least squares over the differences of near runs, as
//! [`super::turns`] weighs them, and without asking which side a run is of: so the coins say as much of what is left as
//! they say of the costs themselves. Source of that: Rosenbaum, "Covariance adjustment in randomized experiments and
//! observational studies", Statistical Science 17 (2002).

use serde::Serialize;

use super::median;
use super::turns::{near, weights};

/// The largest difference of two logarithms that counts as it is.
const CLIP: f64 = 0.5;
/// No cost falls by more than this where the work falls by one part.
const SLOPE_MAX: f64 = 1.5;
/// What explains less of the costs' differences is taken for nothing.
const EXPLAINED_MIN: f64 = 0.1;
/// The largest logarithm by which a cost is changed, before the slope.
const CHANGE_MAX: f64 = 0.7;

/// How a cost follows the processor's speed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Even {
    /// A cost changes by this power of the work's time: 1 is a cost that doubles with it.
    pub slope: f64,
    /// The part of the squared differences of near runs that it explains: 1 is all.
    pub explained: f64,
    /// The work's time that costs are brought to, in the work's unit.
    pub work: f64,
}

impl Even {
    /// From each run's cost and the work's time meanwhile, in the order of the runs, all above zero; `None` where the one
    /// does not follow the other.
    pub fn of(runs: &[(f64, f64)]) -> Option<Self> {
        let logs: Vec<(f64, f64)> = runs.iter().map(|(cost, work)| (cost.ln(), work.ln())).collect();
        let weights = weights();
        let difference = |(at, later, weight): (usize, usize, f64)| {
            let (cost, work) = (logs[later].0 - logs[at].0, logs[later].1 - logs[at].1);
            (weight, cost.clamp(-CLIP, CLIP), work.clamp(-CLIP, CLIP))
        };
        let differences: Vec<(f64, f64, f64)> = near(logs.len(), &weights).map(difference).collect();
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            differences.iter().map(|(weight, cost, work)| weight * of(*cost, *work)).sum()
        };
        let all = sum(&|cost, _| cost * cost);
        let slope = (sum(&|cost, work| cost * work) / sum(&|_, work| work * work)).min(SLOPE_MAX);
        let explained = 1.0 - sum(&|cost, work| (cost - slope * work).powi(2)) / all;
        let works: Vec<f64> = runs.iter().map(|(_, work)| *work).collect();
        let even = Self { slope, explained, work: median(&works)? };
        (slope > 0.0 && explained >= EXPLAINED_MIN).then_some(even)
    }

    /// A run's cost at the even speed.
    pub fn cost(&self, (cost, work): (f64, f64)) -> f64 {
        cost * (-self.slope * (work / self.work).ln().clamp(-CHANGE_MAX, CHANGE_MAX)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    /// Costs of 100 and works of 3 on a machine that is up to twice as slow, whose slowness the costs feel to this power.
    fn runs(power: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut random = Random::new(seed);
        let mut part = || random.next_u64() as f64 / u64::MAX as f64;
        (0..40)
            .map(|_| {
                let slow = 1.0 + part();
                (100.0 * slow.powf(power) * (1.0 + 0.02 * part()), 3.0 * slow * (1.0 + 0.02 * part()))
            })
            .collect()
    }

    #[test]
    fn what_the_machine_did_is_taken_away() {
        let check = |power: f64, seed: u64| {
            let runs = runs(power, seed);
            let even = Even::of(&runs).unwrap();
            assert!((even.slope - power).abs() < 0.05 && even.explained > 0.95, "{even:?}");
            let costs: Vec<f64> = runs.iter().map(|run| even.cost(*run)).collect();
            let (least, most) =
                (costs.iter().copied().reduce(f64::min), costs.iter().copied().reduce(f64::max));
            assert!(most.unwrap() / least.unwrap() < 1.1, "{costs:?}");
        };
        for seed in 0..20 {
            check(1.0, seed);
            check(0.6, seed);
        }
    }

    #[test]
    fn costs_that_do_not_follow_are_left_alone() {
        let mut taken = 0;
        for seed in 0..200 {
            let (costs, works) = (runs(1.0, seed), runs(1.0, 1000 + seed));
            let apart: Vec<(f64, f64)> =
                costs.iter().zip(&works).map(|(one, other)| (one.0, other.1)).collect();
            taken += usize::from(Even::of(&apart).is_some());
        }
        assert!(taken < 20, "{taken} of 200");
        assert_eq!(Even::of(&[]), None);
        assert_eq!(Even::of(&[(1.0, 3.0); 40]), None);
        assert_eq!(Even::of(&runs(-1.0, 3)), None);
        // A work that hardly ended moves a cost no further than a factor of two or so.
        let even = Even { slope: 1.0, explained: 0.5, work: 3.0 };
        assert!((even.cost((100.0, 3000.0)) - 100.0 * (-CHANGE_MAX).exp()).abs() < 1e-9);
    }
}
