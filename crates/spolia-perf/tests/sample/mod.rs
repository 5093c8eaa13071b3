//! A report of a history that never was: the same bytes each time, with everything in it that a page can show.

use spolia_perf::accept::Baseline;
use spolia_perf::history::{Row, StepTotal};
use spolia_perf::record::{Facts, Git, Host, Record, Sample, State, StepSpan};
use spolia_perf::report::Report;
use spolia_perf::statistics::random::Random;

const DAY_US: u64 = 86_400_000_000;
/// 2026-01-01.
const BEGAN_US: u64 = 1_767_225_600_000_000;

fn step(name: &str, times: (u64, u64), outcome: &str, needs: &[&str]) -> StepSpan {
    let ran = outcome == "ran";
    StepSpan {
        name: name.to_owned(),
        start_us: Some(times.0 * 100_000),
        wall_us: Some(times.1 * 100_000),
        cpu_us: Some(times.1 * 90_000).filter(|_| ran),
        outcome: outcome.to_owned(),
        miss: ran.then(|| "`src/main.c` changed".to_owned()),
        miss_kind: ran.then(|| "key-changed".to_owned()),
        needs: Some(needs.iter().map(|need| (*need).to_owned()).collect()),
        ..StepSpan::default()
    }
}

fn build() -> Record {
    let steps = vec![
        step("zlib (linux/amd64)", (0, 24), "ran", &[]),
        step("zlib (linux/arm64)", (0, 2), "hit", &[]),
        step("fio (linux/amd64)", (2, 61), "ran", &[]),
        step("libs & <headers>", (24, 18), "ran", &["zlib (linux/amd64)"]),
        step("app (linux/amd64)", (63, 40), "ran", &["fio (linux/amd64)", "libs & <headers>"]),
        step("app (linux/arm64)", (64, 31), "ran", &["zlib (linux/arm64)", "libs & <headers>"]),
        step("lint", (103, 12), "failed", &["app (linux/amd64)"]),
    ];
    let host = Host { fingerprint: "here".into(), os: "linux".into(), num_cpu: Some(2), ..Host::default() };
    let git = Git {
        commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        title: Some("Read the index once".to_owned()),
        dirty: Some(true),
        ..Git::default()
    };
    let facts = Facts {
        subject: "build".to_owned(),
        state: Some(State::Partial),
        git: Some(git),
        host,
        ..Facts::default()
    };
    let sample = Sample {
        started_at_us: Some(BEGAN_US + 200 * DAY_US),
        wall_us: Some(11_500_000),
        user_us: Some(15_000_000),
        sys_us: Some(1_500_000),
        largest_process_bytes: Some(310 << 20),
        together_bytes: Some(520 << 20),
        cache_hits: Some(1),
        cache_misses: Some(6),
        build_size_bytes: Some(41 << 20),
        store_bytes: Some(900 << 20),
        ..Sample::default()
    };
    Record { facts, samples: vec![sample], steps, jobs: Some(2), ..Record::default() }
}

/// A report of `runs` measurements of a few things. After two thirds of them a build costs a fifth more; later that is
/// accepted.
pub(crate) fn report(runs: usize) -> Report {
    let mut random = Random::new(7);
    let changed = runs * 2 / 3;
    let row = |at: usize| {
        let subject = ["build", "build", "app", "make -j4 'all of it'"][at % 4];
        let state = [Some(State::Cold), Some(State::Warm), Some(State::Partial), None][at % 4];
        let level = [30e6, 2e6, 9e6, 14e6][at % 4] * if at >= changed && at % 4 != 1 { 1.2 } else { 1.0 };
        let count = if at % 4 == 3 { 12 } else { 1 };
        let mut values = |share: f64| -> Vec<f64> {
            let one = |_| (level * share * (1.0 + random.below(1000) as f64 / 16_000.0)).round();
            (0..count).map(one).collect()
        };
        let (cpus, walls) = (values(1.6), values(1.0));
        Row {
            run: format!("run-{at}"),
            at_us: BEGAN_US + at as u64 * 200 * DAY_US / runs.max(1) as u64,
            purpose: "monitor".to_owned(),
            subject: subject.to_owned(),
            state,
            commit: Some(format!("{:040x}", at as u128 * 0x9e37_79b9_7f4a_7c15)),
            host: Some("here".to_owned()),
            good: count as u64,
            bad: u64::from(at % 97 == 5),
            wall_us: Some(walls[walls.len() / 2]),
            cpu_us: Some(cpus[cpus.len() / 2]),
            size_bytes: Some(4e7 + at as f64 * 100.0).filter(|_| at % 4 < 2),
            store_bytes: Some(8e8 + at as f64 * 1e5).filter(|_| at % 4 < 2),
            hits: [Some(0), Some(7), Some(at as u64 % 7), None][at % 4],
            misses: [Some(7), Some(0), Some(7 - at as u64 % 7), None][at % 4],
            walls_us: walls,
            cpus_us: cpus,
            ..Row::default()
        }
    };
    let rows: Vec<Row> = (0..runs).map(row).collect();
    let accepted = rows.get(runs * 5 / 6).map(|row| {
        let mut baseline = Baseline::new("build".into(), None, row.run.clone(), row.at_us, row.at_us);
        baseline.because = Some("it signs now".to_owned());
        baseline
    });
    let total = |name: &str, ran: u64, reason: &str| StepTotal {
        name: name.to_owned(),
        ran,
        hit: 200 - ran,
        ran_us: ran * 3_000_000,
        reason: Some(reason.to_owned()),
    };
    let totals = vec![
        total("fio (linux/amd64)", 31, "key-changed"),
        total("app (linux/amd64)", 90, "key-changed"),
        total("lint", 12, "not-stored"),
    ];
    let made = BEGAN_US + 201 * DAY_US;
    Report::gather("perf & spect".to_owned(), made, Some(build()), &rows, accepted.as_slice(), totals)
}
