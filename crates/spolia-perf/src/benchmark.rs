//! Runs of one or two commands in an order that lets neither profit: in pairs A B or B A, as a coin falls. Knows no
//! processes: whoever calls runs them.

use crate::record::{Ending, Sample};
use crate::statistics::outlier::outliers;
use crate::statistics::random::Random;
use crate::statistics::trend::trend;
use crate::verdict::{InTurn, Rule, Verdict, both_in_turn};

/// How many runs of each side there are when the data is looked at, with `--until-decided`.
pub const LOOKS: [usize; 5] = [10, 20, 40, 80, 160];
/// A trend is mentioned where chance gives it less often, …
const DRIFT_P_MAX: f64 = 0.01;
/// … and it orders the values at least so far.
const DRIFT_TAU_MIN: f64 = 0.3;

/// A command that takes longer than this is not kept on one processor without being asked: what disturbs a machine for
/// tenths of a second evens out in it.
pub const KEPT_WALL_MAX_US: u64 = 1_000_000;
/// Of a processor it must have used so much, or how fast processors are is not what its cost hangs on, …
pub const KEPT_CPUS_MIN: f64 = 0.5;
/// … and no more than this, or parts of it ran beside each other.
pub const KEPT_CPUS_MAX: f64 = 1.02;

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many runs of each side.
    Runs(usize),
    /// Both verdicts are decided, or the last of [`LOOKS`] is reached.
    Decided,
}

/// Why it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// It was done.
    Done,
    /// A run of this side did not succeed.
    Failed(usize),
    /// It was stopped from outside.
    Cancelled,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The runs of each side, warm-ups left out.
    pub samples: Vec<Vec<Sample>>,
    /// Why it ended.
    pub stopped: Stopped,
    /// How often the data was looked at before it ended: the rule must be shared among as many.
    pub looks: u32,
}

/// Which side is run `number`-th. Of two, both are run in each pair, and a coin says which of them first: so a machine
/// that grows slower slows both, nothing that comes and goes keeps step with one side, and how likely a difference
/// is by chance can be counted (see [`crate::statistics::turns`]). `seed` makes the coins.
pub fn side(number: usize, sides: usize, seed: u64) -> usize {
    match sides {
        2 => {
            let coin = Random::new(seed.wrapping_add(number as u64 / 2)).next_u64() >> 63;
            (number + coin as usize) % 2
        }
        _ => 0,
    }
}

/// A seed for [`side`] from a run's name, which is another every time: FNV-1a.
pub fn seed_of(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// One figure of two sides' runs, as they took turns: by [`Sample::turn`], and where that was not written down A B B A …,
/// as runs once were taken.
pub fn in_turn(first: &[Sample], second: &[Sample], figure: impl Fn(&Sample) -> Option<u64>) -> InTurn {
    let turns = first.iter().zip(second).map(|(first, second)| first.turn.zip(second.turn));
    let led =
        turns.enumerate().map(|(at, turns)| turns.map_or(at % 2 == 1, |(first, second)| second < first));
    let works = |side: &[Sample]| side.iter().map(|sample| sample.speed.map(|speed| speed.work_ns)).collect();
    InTurn {
        first: figures(first, &figure),
        second: figures(second, &figure),
        second_led: led.collect(),
        first_works: works(first),
        second_works: works(second),
    }
}

/// The two verdicts of two sides whose runs were taken in turn, CPU and wall.
pub fn verdicts(first: &[Sample], second: &[Sample], rule: &Rule) -> (Verdict, Verdict) {
    let (cpu, wall) =
        (in_turn(first, second, Sample::cpu_us), in_turn(first, second, |sample| sample.wall_us));
    both_in_turn(&cpu, &wall, rule)
}

/// One figure of each run, in their order; `None` of those that failed or were not measured.
pub fn figures(samples: &[Sample], figure: impl Fn(&Sample) -> Option<u64>) -> Vec<Option<f64>> {
    let one = |sample: &Sample| figure(sample).filter(|_| sample.is_ok()).map(|value| value as f64);
    samples.iter().map(one).collect()
}

/// Whether a command is measured better on one processor, going by a run of it: it is short and used one at a time. Its
/// runs are then alike where one processor is slower than another at times, and it loses nothing.
pub fn fits_one_cpu(sample: &Sample) -> bool {
    let (Some(cpu), Some(wall)) = (sample.cpu_us(), sample.wall_us) else { return false };
    let cpus = cpu as f64 / wall.max(1) as f64;
    sample.is_ok() && wall <= KEPT_WALL_MAX_US && (KEPT_CPUS_MIN..=KEPT_CPUS_MAX).contains(&cpus)
}

/// Runs `sides` commands by `run`, each first `warm_ups` times without counting, in the order that `seed` gives. `run` gets the
/// side, and which of the runs that count it is; `None` for a warm-up.
///
/// # Errors
/// Those of `run`.
pub fn run<E>(
    sides: usize,
    warm_ups: usize,
    until: Until,
    rule: &Rule,
    seed: u64,
    run: &mut dyn FnMut(usize, Option<u32>) -> Result<Sample, E>,
) -> Result<Runs, E> {
    match until {
        Until::Runs(count) => run_until(sides, warm_ups, &[count], &|_| true, seed, run),
        Until::Decided => {
            let is_decided = |samples: &[Vec<Sample>]| {
                let [first, second] = samples else { return true };
                let (cpu, wall) = verdicts(first, second, &rule.for_looks(LOOKS.len() as u32));
                cpu.is_decided() && wall.is_decided()
            };
            run_until(sides, warm_ups, &LOOKS, &is_decided, seed, run)
        }
    }
}

/// The same until `is_decided` by the runs at one of `looks`, or the last of them is reached.
///
/// # Errors
/// Those of `run`.
pub fn run_until<E>(
    sides: usize,
    warm_ups: usize,
    looks: &[usize],
    is_decided: &dyn Fn(&[Vec<Sample>]) -> bool,
    seed: u64,
    run: &mut dyn FnMut(usize, Option<u32>) -> Result<Sample, E>,
) -> Result<Runs, E> {
    let mut runs =
        Runs { samples: vec![Vec::new(); sides], stopped: Stopped::Done, looks: looks.len() as u32 };
    let most = looks.last().copied().unwrap_or(0);
    for number in 0..warm_ups * sides {
        let side = side(number, sides, seed);
        let sample = run(side, None)?;
        if let Some(stopped) = unwell(&sample, side) {
            // A failure is written down, whether it would have counted or not.
            runs.samples[side].push(sample);
            return Ok(Runs { stopped, ..runs });
        }
    }
    for number in 0..most * sides {
        let side = side(number, sides, seed);
        let turn = Some(number as u32);
        let sample = Sample { turn: turn.filter(|_| sides > 1), ..run(side, turn)? };
        let unwell = unwell(&sample, side);
        runs.samples[side].push(sample);
        if let Some(stopped) = unwell {
            return Ok(Runs { stopped, ..runs });
        }
        let each = (number + 1) / sides;
        let is_look = (number + 1) % sides == 0 && looks.contains(&each);
        if is_look && each < most && is_decided(&runs.samples) {
            break;
        }
    }
    Ok(runs)
}

fn unwell(sample: &Sample, side: usize) -> Option<Stopped> {
    match sample.ending {
        Ending::Ok => None,
        Ending::Cancelled => Some(Stopped::Cancelled),
        Ending::Failed | Ending::Timeout => Some(Stopped::Failed(side)),
    }
}

/// Takes one figure out of a sample.
type Figure = fn(&Sample) -> Option<u64>;

/// What makes the runs of one side doubtful, in sentences.
pub fn doubts(samples: &[Sample], name: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    let figures: [(&str, Figure); 2] = [("CPU", Sample::cpu_us), ("wall", |one| one.wall_us)];
    for (what, figure) in figures {
        let values: Vec<f64> =
            samples.iter().filter_map(|one| figure(one).map(|value| value as f64)).collect();
        let far = outliers(&values).len();
        if far > 0 {
            let runs = if far == 1 { "run lies" } else { "runs lie" };
            doubts.push(format!(
                "{name}: {far} of {} {runs} far from the others in {what} time; medians and ranks bear that",
                values.len()
            ));
        }
        if let Some(trend) = trend(&values)
            && trend.p < DRIFT_P_MAX
            && trend.tau.abs() > DRIFT_TAU_MIN
        {
            let way = if trend.tau > 0.0 { "grew" } else { "shrank" };
            doubts.push(format!(
                "{name}: {what} time {way} from run to run: the machine changed, or a cache filled"
            ));
        }
    }
    let left: u64 = samples.iter().filter_map(|sample| sample.left_running).sum();
    if left > 0 {
        doubts.push(format!("{name}: processes were left running, and were beside the runs that followed"));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Word;

    fn sample(cpu: u64) -> Sample {
        Sample { wall_us: Some(cpu), user_us: Some(cpu), sys_us: Some(0), ..Sample::default() }
    }

    #[test]
    fn neither_side_is_favoured() {
        let order = |seed: u64| -> Vec<usize> { (0..400).map(|number| side(number, 2, seed)).collect() };
        for seed in [0, 7, seed_of("a"), seed_of("b")] {
            let order = order(seed);
            assert!(order.chunks(2).all(|pair| pair[0] != pair[1]), "both sides are in each pair");
            let led: usize = order.iter().step_by(2).sum();
            assert!((70..=130).contains(&led), "{led} of 200 coins fell one way");
        }
        assert_eq!(order(seed_of("a")), order(seed_of("a")));
        assert_ne!(order(seed_of("a")), order(seed_of("b")));
        assert!((0..5).all(|number| side(number, 1, 3) == 0));
        let mut seen = Vec::new();
        let runs = run(2, 1, Until::Runs(3), &Rule::default(), 5, &mut |side, turn| {
            seen.push((side, turn));
            Ok::<_, ()>(sample(1))
        });
        assert_eq!(seen.iter().filter(|(_, turn)| turn.is_none()).count(), 2);
        let runs = runs.unwrap();
        assert_eq!((runs.samples[0].len(), runs.samples[1].len(), runs.stopped), (3, 3, Stopped::Done));
        for (side, turn) in seen.into_iter().filter(|(_, turn)| turn.is_some()) {
            assert!(runs.samples[side].iter().any(|sample| sample.turn == turn), "{turn:?} is written down");
        }
    }

    #[test]
    fn what_was_taken_before_turns_were_written_down_was_taken_abba() {
        let sides = |turns: [Option<u32>; 4]| {
            let sample = |turn: &Option<u32>| Sample { turn: *turn, ..sample(1) };
            let first: Vec<Sample> = turns[..2].iter().map(sample).collect();
            let second: Vec<Sample> = turns[2..].iter().map(sample).collect();
            in_turn(&first, &second, Sample::cpu_us).second_led
        };
        assert_eq!(sides([None; 4]), [false, true]);
        assert_eq!(sides([Some(1), Some(2), Some(0), Some(3)]), [true, false]);
    }

    #[test]
    fn a_failed_run_ends_it_and_is_kept() {
        let runs = run(2, 0, Until::Runs(5), &Rule::default(), 5, &mut |side, _| {
            let ending = if side == 1 { Ending::Failed } else { Ending::Ok };
            Ok::<_, ()>(Sample { ending, ..sample(1) })
        });
        let runs = runs.unwrap();
        assert_eq!((runs.stopped, runs.samples[1].len()), (Stopped::Failed(1), 1));
    }

    #[test]
    fn it_goes_on_until_it_is_decided_and_no_longer() {
        let count = |cost: &dyn Fn(usize, usize) -> u64| {
            let mut number = 0;
            let rule = Rule { draws: 200, ..Rule::default() };
            let runs = run(2, 0, Until::Decided, &rule, 5, &mut |side, _| {
                number += 1;
                Ok::<_, ()>(sample(cost(side, number)))
            });
            let runs = runs.unwrap();
            let (cpu, _) = verdicts(&runs.samples[0], &runs.samples[1], &rule.for_looks(runs.looks));
            (runs.samples[0].len(), cpu.word)
        };
        assert_eq!(count(&|side, number| 1000 + 300 * side as u64 + number as u64 % 7), (10, Word::Slower));
        assert_eq!(count(&|_, number| 1000 + number as u64 % 7), (10, Word::Same));
        // Five percent, the limit itself: no word is found.
        let at_limit = count(&|side, number| 1000 + 50 * side as u64 + 100 * (number as u64 * 7919 % 5));
        assert_eq!(at_limit, (160, Word::Inconclusive));
    }

    #[test]
    fn what_used_one_processor_at_a_time_fits_one() {
        let check = |cpu: u64, wall: u64, expect: bool| {
            let sample = Sample { wall_us: Some(wall), ..sample(cpu) };
            assert_eq!(fits_one_cpu(&sample), expect, "{cpu} of {wall}");
        };
        check(9_000, 10_000, true);
        check(10_100, 10_000, true);
        check(18_000, 10_000, false);
        check(1_000, 10_000, false);
        check(2_000_000, 2_000_000, false);
        assert!(!fits_one_cpu(&Sample { ending: Ending::Failed, ..sample(1000) }));
        assert!(!fits_one_cpu(&Sample { user_us: None, ..sample(1000) }));
    }

    #[test]
    fn doubts_are_said() {
        let steady: Vec<Sample> = (0..20).map(|at| sample(1000 + at * 7919 % 13)).collect();
        assert_eq!(doubts(&steady, "a"), [] as [String; 0]);
        let grows: Vec<Sample> = (0..20).map(|at| sample(1000 + at * 10)).collect();
        assert!(doubts(&grows, "a").iter().any(|doubt| doubt.contains("CPU time grew")));
        let mut odd = steady;
        odd[3] = sample(5000);
        assert!(doubts(&odd, "a")[0].contains("1 of 20 run lies far"));
    }
}
