//! The statistics beside what scipy says of the same numbers, and what the default rule says of runs that were
//! really taken.

#![allow(clippy::print_stdout, reason = "a test tells how often each word was said")]

use serde_json::Value;
use spolia_perf::benchmark::{seed_of, side};
use spolia_perf::statistics::bootstrap::{draw, median_interval};
use spolia_perf::statistics::change::best_division;
use spolia_perf::statistics::outlier::{outliers, scores};
use spolia_perf::statistics::random::Random;
use spolia_perf::statistics::rank::{EXACT_MAX, mann_whitney};
use spolia_perf::statistics::shift::{hodges_lehmann, shift_interval};
use spolia_perf::statistics::trend::trend;
use spolia_perf::statistics::turns::{self, Pair, Turns};
use spolia_perf::statistics::{deviation, median_deviation, normal_above, normal_exceeded_with, quantile};
use spolia_perf::{InTurn, Rule, Word, both_in_turn, judge, judge_in_turn};

const REFERENCE: &str = include_str!("data/scipy.json");
const AA_RUNS: &str = include_str!("data/aa-runs.json");
/// Wall and CPU µs of 2000 runs of one 10 ms command, one after the other with nothing else running, on a machine whose
/// cores are at times half as slow again (2026-11-22).
const RESTLESS_RUNS: &str = include_str!("data/restless-runs.json");
/// CPU µs of 1300 runs of one 10 ms command kept on one processor, one after the other, and the mean ns of a piece of work
/// timed meanwhile (2026-11-22).
const PROBED_RUNS: &str = include_str!("data/probed-runs.json");

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|one| one.as_f64().expect("a number")).collect()
}

#[track_caller]
fn near(ours: f64, theirs: f64, what: &str) {
    let scale = theirs.abs().max(1e-12);
    assert!((ours - theirs).abs() / scale < 1e-7, "{what}: {ours} is not {theirs}");
}

#[test]
fn rank_tests_agree_with_scipy() {
    let reference: Value = serde_json::from_str(REFERENCE).unwrap();
    let mut exact = 0;
    for (name, sample) in reference["samples"].as_object().unwrap() {
        let (first, second) = (numbers(&sample["first"]), numbers(&sample["second"]));
        let ours = mann_whitney(&first, &second).unwrap();
        near(ours.u, sample["u"].as_f64().unwrap(), name);
        assert_eq!(ours.exact, first.len() + second.len() <= EXACT_MAX);
        if !ours.exact {
            near(ours.p, sample["p_normal"].as_f64().unwrap(), name);
        } else if let Some(p) = sample["p_exact"].as_f64() {
            near(ours.p, p, name);
            exact += 1;
        } else if name != "all_equal" {
            // No exact value to compare to: the approximation is close.
            let p = sample["p_normal"].as_f64().unwrap();
            assert!((ours.p - p).abs() < 0.02, "{name}: {} and {p}", ours.p);
        }
        let shift = hodges_lehmann(&first, &second).unwrap();
        near(shift, sample["hodges_lehmann"].as_f64().unwrap(), name);
        let interval = shift_interval(&first, &second, 0.99).unwrap();
        assert!(interval.low <= shift && shift <= interval.high, "{name}");
    }
    assert!(exact >= 5, "{exact} exact values were compared");
}

#[test]
fn coins_of_pairs_agree_with_scipy() {
    let reference: Value = serde_json::from_str(REFERENCE).unwrap();
    let (mut exact, mut approximate) = (0, 0);
    for (name, sample) in reference["turns"].as_object().unwrap() {
        let (first, second) = (numbers(&sample["first"]), numbers(&sample["second"]));
        let led = sample["second_led"].as_array().unwrap().iter().map(|led| led.as_bool().unwrap());
        let pairs: Vec<Pair> = first
            .into_iter()
            .zip(second)
            .zip(led)
            .map(|((first, second), second_led)| Pair { first, second, second_led })
            .collect();
        let turns = Turns::of(&pairs);
        let ours = turns.coins().unwrap();
        for (ours, theirs) in turns.leans(0.0).into_iter().zip(numbers(&sample["leans"])) {
            near(ours, theirs, name);
        }
        near(ours.z, sample["z"].as_f64().unwrap(), name);
        assert_eq!(ours.exact, pairs.len() <= turns::EXACT_MAX, "{name}");
        if let Some(p) = sample["p_exact"].as_f64() {
            near(ours.p, p, name);
            exact += 1;
        } else if !ours.exact {
            near(ours.p, sample["p_normal"].as_f64().unwrap(), name);
            approximate += 1;
        }
        let middle = turns.middle().unwrap();
        assert!((middle - sample["middle"].as_f64().unwrap()).abs() < 1e-7, "{name}: {middle}");
        for confidence in [0.9, 0.99] {
            let Some(interval) = turns.interval(confidence) else {
                // So few coins make nothing that unlikely.
                assert!(pairs.len() < 7, "{name}");
                continue;
            };
            assert!(interval.low <= middle && middle <= interval.high, "{name}");
            // The ends are where the leans are as lopsided as coins make them with that probability.
            let z = |shift: f64| {
                let leans = turns.leans(shift);
                leans.iter().sum::<f64>() / leans.iter().map(|lean| lean * lean).sum::<f64>().sqrt()
            };
            let limit = normal_exceeded_with((1.0 - confidence) / 2.0);
            if pairs.len() < 7 {
                // All clipped alike, they lean hardly further than that: the ends may be beyond.
                continue;
            }
            assert!((z(interval.low) - limit).abs() < 1e-3, "{name}: {}", z(interval.low));
            assert!((z(interval.high) + limit).abs() < 1e-3, "{name}: {}", z(interval.high));
        }
    }
    assert!(exact >= 3 && approximate >= 1, "{exact} and {approximate} were compared");
    assert_eq!(Turns::of(&[]).coins(), None);
    assert_eq!(Turns::of(&[]).middle(), None);
    let alike = [Pair { first: 2.0, second: 2.0, second_led: false }; 12];
    assert!((Turns::of(&alike).coins().unwrap().p - 1.0).abs() < 1e-12);
}

#[test]
fn descriptions_of_one_series_agree_with_scipy() {
    let reference: Value = serde_json::from_str(REFERENCE).unwrap();
    for (name, series) in reference["series"].as_object().unwrap() {
        let values = numbers(&series["values"]);
        for (at, theirs) in [0.0, 0.1, 0.25, 0.5, 0.9, 1.0].into_iter().zip(numbers(&series["quantiles"])) {
            near(quantile(&values, at).unwrap(), theirs, name);
        }
        near(deviation(&values).unwrap(), series["deviation"].as_f64().unwrap(), name);
        near(median_deviation(&values).unwrap(), series["median_deviation"].as_f64().unwrap(), name);
        let found = trend(&values).unwrap();
        near(found.tau, series["tau"].as_f64().unwrap(), name);
        near(found.p, series["tau_p"].as_f64().unwrap(), name);
    }
    for pair in reference["normal_above"].as_array().unwrap() {
        let [z, above] = numbers(pair)[..] else { panic!("{pair}") };
        near(normal_above(z), above, "the normal distribution");
        assert!((normal_exceeded_with(above) - z).abs() < 1e-6);
    }
    // Two generators draw differently: the intervals differ by little.
    let wall = numbers(&reference["series"]["wall"]["values"]);
    let theirs = numbers(&reference["wall_median_interval_99"]);
    let ours = median_interval(&wall, 0.99, 20_000, 1).unwrap();
    for (ours, theirs) in [(ours.low, theirs[0]), (ours.high, theirs[1])] {
        assert!((ours / theirs - 1.0).abs() < 0.01, "{ours} and {theirs}");
    }
}

#[test]
fn the_division_of_a_series_maximises_the_energy_distance() {
    let reference: Value = serde_json::from_str(REFERENCE).unwrap();
    let sample = &reference["samples"]["apart"];
    let (first, second) = (numbers(&sample["first"]), numbers(&sample["second"]));
    let all: Vec<f64> = first.iter().chain(&second).copied().collect();
    let (at, clearness) = best_division(&all).unwrap();
    assert_eq!(at, first.len());
    let (m, k) = (first.len() as f64, second.len() as f64);
    near(clearness, m * k / (m + k) * sample["energy_distance_squared"].as_f64().unwrap(), "energy");
}

#[test]
fn outliers_are_those_far_from_the_median() {
    let mut values: Vec<f64> = (0..20).map(|at| 10.0 + f64::from(at % 5) / 10.0).collect();
    assert_eq!(outliers(&values), [] as [usize; 0]);
    values[7] = 14.0;
    assert_eq!(outliers(&values), [7]);
    // More than half alike: the median deviation is zero, and the mean one takes its place.
    let mut same = vec![1.0; 20];
    assert_eq!(scores(&same).unwrap(), vec![0.0; 20]);
    same[3] = 2.0;
    assert_eq!(outliers(&same), [3]);
    assert_eq!(outliers(&[]), [] as [usize; 0]);
}

/// Wall and CPU seconds of the same command, run 60 times on a busy machine.
fn aa_runs() -> (Vec<f64>, Vec<f64>) {
    let runs: Vec<[f64; 4]> = serde_json::from_str(AA_RUNS).unwrap();
    runs.iter().map(|run| (run[0], run[1])).unzip()
}

/// What is said of two samples of 20, the second made `factor` times as slow.
#[derive(Debug, Default)]
struct Said {
    cpu: [usize; 4],
    wall: [usize; 4],
    either_alarmed: usize,
}

impl Said {
    fn add(&mut self, cpu: Word, wall: Word) {
        self.cpu[cpu as usize] += 1;
        self.wall[wall as usize] += 1;
        let alarm = |word: Word| matches!(word, Word::Slower | Word::Faster);
        self.either_alarmed += usize::from(alarm(cpu) || alarm(wall));
    }
}

/// How they are judged.
#[derive(Clone, Copy, Debug)]
enum How {
    Ranks,
    Pairs,
}

/// Samples drawn from [`aa_runs`].
fn resampled(how: How, comparisons: usize, factor: f64, seed: u64) -> Said {
    let (wall, cpu) = aa_runs();
    let mut random = Random::new(seed);
    // The words need no fine interval.
    let rule = Rule { draws: 100, ..Rule::default() };
    let mut said = Said::default();
    let mut sample = |values: &[f64], factor: f64| -> Vec<f64> {
        draw(values, &mut random)[..20].iter().map(|value| value * factor).collect()
    };
    for number in 0..comparisons {
        let (cpu, slow_cpu) = (sample(&cpu, 1.0), sample(&cpu, factor));
        let (wall, slow_wall) = (sample(&wall, 1.0), sample(&wall, factor));
        let (of_cpu, of_wall) = match how {
            How::Ranks => (judge(&cpu, &slow_cpu, &rule).word, judge(&wall, &slow_wall, &rule).word),
            How::Pairs => {
                let led: Vec<bool> = (0..20).map(|pair| side(2 * pair, 2, number as u64) == 1).collect();
                let in_turn = |first: Vec<f64>, second: Vec<f64>| {
                    let some = |side: Vec<f64>| side.into_iter().map(Some).collect();
                    InTurn {
                        first: some(first),
                        second: some(second),
                        second_led: led.clone(),
                        ..InTurn::default()
                    }
                };
                let both = both_in_turn(&in_turn(cpu, slow_cpu), &in_turn(wall, slow_wall), &rule);
                (both.0.word, both.1.word)
            }
        };
        said.add(of_cpu, of_wall);
    }
    said
}

/// Forty runs in the order they were really taken, from every so-manyth of [`RESTLESS_RUNS`], dealt to the sides by coins.
fn in_their_order(factor: f64, step: usize) -> (Said, usize) {
    let runs: Vec<[f64; 2]> = serde_json::from_str(RESTLESS_RUNS).unwrap();
    let rule = Rule { draws: 100, ..Rule::default() };
    let mut said = Said::default();
    let starts = (0..runs.len() - 40).step_by(step);
    let count = starts.len();
    for start in starts {
        let mut sides = [InTurn::default(), InTurn::default()];
        for number in 0..40 {
            let side = side(number, 2, seed_of(&format!("{start}")));
            for (sides, cost) in sides.iter_mut().zip(runs[start + number]) {
                let side_runs = if side == 1 { &mut sides.second } else { &mut sides.first };
                side_runs.push(Some(cost * if side == 1 { factor } else { 1.0 }));
                if number % 2 == 0 {
                    sides.second_led.push(side == 1);
                }
            }
        }
        let (cpu, wall) = both_in_turn(&sides[1], &sides[0], &rule);
        said.add(cpu.word, wall.word);
    }
    (said, count)
}

const FASTER: usize = Word::Faster as usize;
const SLOWER: usize = Word::Slower as usize;

#[test]
fn identical_code_is_hardly_ever_called_different() {
    let comparisons = 4000;
    for how in [How::Ranks, How::Pairs] {
        let said = resampled(how, comparisons, 1.0, 11);
        let limit = comparisons / 200;
        let alarms = |counts: &[usize; 4]| counts[FASTER] + counts[SLOWER];
        println!("{how:?}: cpu {:?}, wall {:?}, either {}", said.cpu, said.wall, said.either_alarmed);
        assert!(alarms(&said.cpu) <= limit, "{how:?}: {:?}", said.cpu);
        assert!(alarms(&said.wall) <= limit, "{how:?}: {:?}", said.wall);
        // A comparison alarms where either does.
        assert!(said.either_alarmed <= limit, "{how:?}: {}", said.either_alarmed);
    }
}

#[test]
fn a_fifth_more_cpu_is_called_slower() {
    for how in [How::Ranks, How::Pairs] {
        let said = resampled(how, 1000, 1.2, 12);
        println!("{how:?}: cpu {:?}, wall {:?}", said.cpu, said.wall);
        assert!(said.cpu[SLOWER] >= 950, "{how:?}: {:?}", said.cpu);
    }
}

#[test]
fn three_percent_more_is_never_called_faster() {
    for how in [How::Ranks, How::Pairs] {
        let said = resampled(how, 2000, 1.03, 13);
        println!("{how:?}: cpu {:?}, wall {:?}", said.cpu, said.wall);
        assert!(said.cpu[FASTER] <= 10 && said.wall[FASTER] <= 10, "{how:?}: {:?} {:?}", said.cpu, said.wall);
        assert!(said.cpu[SLOWER] <= 30 && said.wall[SLOWER] <= 20, "{how:?}: {:?}", said.cpu);
    }
}

#[test]
fn a_restless_machine_hides_little() {
    for (factor, step) in [(1.0, 2), (1.2, 5), (1.03, 5)] {
        let (said, count) = in_their_order(factor, step);
        println!("{factor}: {count} comparisons, {said:?}");
        if factor > 1.1 {
            assert!(said.cpu[SLOWER] * 100 >= 93 * count, "{said:?}");
        } else {
            assert!(said.cpu[FASTER] * 200 <= count && said.wall[FASTER] * 200 <= count, "{said:?}");
            assert!(said.cpu[SLOWER] * 25 <= count && said.wall[SLOWER] * 25 <= count, "{said:?}");
        }
        if factor == 1.0 {
            assert!(said.either_alarmed * 200 <= count, "{said:?}");
        }
    }
}

/// How many of all forty runs in the order they were really taken, dealt to the sides by coins, are called slower, and how
/// many faster.
fn called_probed(factor: f64, is_known: bool) -> (usize, usize, usize) {
    let runs: Vec<[f64; 2]> = serde_json::from_str(PROBED_RUNS).unwrap();
    let rule = Rule::default();
    let (mut slower, mut faster, mut count) = (0, 0, 0);
    for start in (0..runs.len() - 40).step_by(3) {
        let mut sides = InTurn::default();
        for (number, [cost, work]) in runs[start..start + 40].iter().enumerate() {
            let side = side(number, 2, seed_of(&format!("{start}")));
            let (costs, works) = match side {
                0 => (&mut sides.first, &mut sides.first_works),
                _ => (&mut sides.second, &mut sides.second_works),
            };
            costs.push(Some(cost * if side == 1 { factor } else { 1.0 }));
            works.push(is_known.then_some(*work));
            if number % 2 == 0 {
                sides.second_led.push(side == 1);
            }
        }
        let word = judge_in_turn(&sides, &rule).word;
        slower += usize::from(word == Word::Slower);
        faster += usize::from(word == Word::Faster);
        count += 1;
    }
    (slower, faster, count)
}

#[test]
fn the_processor_s_speed_explains_what_hides_a_difference() {
    for (factor, least, most) in [(1.2, 98, 100), (1.1, 45, 100), (1.0, 0, 1), (1.03, 0, 2)] {
        let (hidden, seen) = (called_probed(factor, false), called_probed(factor, true));
        println!("{factor}: {seen:?}, and {hidden:?} where it is not known");
        let (slower, faster, count) = seen;
        assert!((least * count..=most * count).contains(&(slower * 100)), "{factor}: {seen:?}");
        assert!(faster * 200 <= count, "{factor}: {seen:?}");
        assert!(factor < 1.05 || slower > hidden.0, "{factor}: {seen:?} {hidden:?}");
    }
}
