//! How fast the processor is that a command shares with this thread, looked at while the command runs.
//!
//! A processor's two hardware threads share its units, and neighbours on it come and go within milliseconds: the same
//! work then costs up to twice the CPU time. What a fixed piece of work took in the same milliseconds tells how much of a
//! run's cost was the machine's.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::thread_cpu;

/// Rounds of the work: some 3 µs where nothing disturbs, most of which is not the asking for the time.
const ROUNDS: u32 = 2500;
/// The shortest time between two probes; the first is after half of it, so that there is one in each such time. Waking for
/// a probe costs ten times the work (30 µs on a virtual machine, whose timer is the host's), and what the processor's
/// neighbour does seldom lasts less than a millisecond.
const PROBE_EVERY: Duration = Duration::from_millis(3);
/// The share of the processor that probes may use.
const PROBING_SHARE: f64 = 0.009;
/// One in so many probes, the slowest, is left out: an interrupt fell into it.
const DROPPED_PART: usize = 10;
/// More probes of one run are not kept.
const PROBES_MAX: usize = 1 << 16;

/// What the probes of one run found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// How often it was looked.
    pub probes: u64,
    /// What the same work took, ns: the mean, without the slowest tenth.
    pub work_ns: f64,
}

/// Times the work again and again.
#[derive(Debug)]
pub(super) struct Prober {
    took_ns: Vec<u64>,
    /// CPU time of this thread when it had last looked: what it used since is what a look costs. `None` before the first,
    /// as starting the command is no part of that.
    spent: Option<Duration>,
    next: Instant,
}

impl Prober {
    pub(super) fn from(began: Instant) -> Self {
        Self { took_ns: Vec::with_capacity(256), spent: None, next: began + PROBE_EVERY / 2 }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks once, where it is time.
    #[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
    pub(super) fn look(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        let before = Instant::now();
        work(ROUNDS);
        let after = Instant::now();
        if self.took_ns.len() < PROBES_MAX {
            self.took_ns.push((after - before).as_nanos() as u64);
        }
        let spent = thread_cpu();
        let cost = self.spent.replace(spent).map_or(Duration::ZERO, |last| spent.saturating_sub(last));
        self.next = after + PROBE_EVERY.max(cost.div_f64(PROBING_SHARE));
    }

    pub(super) fn speed(self) -> Option<Speed> {
        let probes = self.took_ns.len() as u64;
        undisturbed(self.took_ns).map(|work_ns| Speed { probes, work_ns })
    }
}

/// The mean without the slowest tenth, but without one at least where there is another.
fn undisturbed(mut took_ns: Vec<u64>) -> Option<f64> {
    took_ns.sort_unstable();
    let dropped = took_ns.len().div_ceil(DROPPED_PART).min(took_ns.len().saturating_sub(1));
    took_ns.truncate(took_ns.len() - dropped);
    (!took_ns.is_empty()).then(|| took_ns.iter().sum::<u64>() as f64 / took_ns.len() as f64)
}

/// Sums and shifts that need no memory, several at a time: what a neighbour on the same core takes away from.
#[inline(never)]
fn work(rounds: u32) {
    let [mut a, mut b, mut c, mut d, mut e, mut f] = black_box([1u32, 2, 3, 4, 5, 6]);
    for round in 0..rounds {
        a = a.wrapping_mul(5).wrapping_add(b);
        b = b.wrapping_add(c ^ round);
        c = (c << 1).wrapping_add(d);
        d ^= e.wrapping_add(round);
        e = e.wrapping_add(f);
        f = f.wrapping_mul(3).wrapping_add(round);
        a ^= d;
        c = c.wrapping_add(7);
    }
    black_box([a, b, c, d, e, f]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_left_out() {
        let check =
            |took: &[u64], expect: Option<f64>| assert_eq!(undisturbed(took.to_vec()), expect, "{took:?}");
        check(&[], None);
        check(&[7], Some(7.0));
        check(&[90, 7], Some(7.0));
        check(&[3, 90, 5], Some(4.0));
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 90, 80], Some(5.5));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a look has its time")]
    fn it_looks_when_it_is_time_and_then_waits_for_what_that_cost() {
        let now = Instant::now();
        let mut prober = Prober::from(now);
        prober.look(now);
        assert_eq!((prober.next(), prober.took_ns.len()), (now + PROBE_EVERY / 2, 0));
        prober.look(now + PROBE_EVERY / 2);
        assert!(prober.next() >= now + PROBE_EVERY);
        let before = Instant::now();
        prober.look(prober.next());
        assert!(prober.next() >= before + PROBE_EVERY);
        let speed = prober.speed().unwrap();
        assert!(speed.probes == 2 && speed.work_ns > 0.0, "{speed:?}");
    }
}
