//! `cargo xtask perf-aa`: what the default rule says of a real command beside itself, and beside itself with more work
//! planted. `--sample` is a few comparisons that are checked for being made and judged, and for nothing about time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::build;
use crate::run::{self, Done};

/// Runs of each side, as the rule's figures are stated for.
const RUNS: &str = "20";
/// What the command should cost where nothing else is said, ms of CPU.
const COST_MS: usize = 10;
/// Of identical commands at most so many in a thousand may be called different, …
const ALARMS_PER_MILLE: usize = 5;
/// … a fifth more must be called slower by CPU time in so many of a hundred, …
const FOUND_PERCENT: usize = 95;
/// … and three percent more never faster, but for so many in a thousand.
const WRONG_PER_MILLE: usize = 5;

const WORDS: [&str; 4] = ["faster", "same", "inconclusive", "slower"];

/// How often each word was said.
#[derive(Default)]
struct Said {
    comparisons: usize,
    cpu: [usize; 4],
    wall: [usize; 4],
    /// Either cost was called different.
    either: usize,
}

impl Said {
    fn row(&self, name: &str) -> String {
        let list = |counts: &[usize; 4]| counts.map(|count| format!("{count:>5}")).join(" | ");
        format!(
            "| {name} | {} | {} | {} | {} |",
            self.comparisons,
            list(&self.cpu),
            list(&self.wall),
            self.either
        )
    }
}

struct Bench {
    spolia: PathBuf,
    folder: TempDir,
}

/// Runs it.
pub(crate) fn run(args: &[String]) -> Done {
    let (mut same, mut planted, mut cost_ms, mut sample) = (300, 200, COST_MS, false);
    let mut spolia = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = |into: &mut usize| -> Done {
            let text = args.next().ok_or_else(|| format!("`{arg}` needs a number"))?;
            *into = text.parse().map_err(|error| format!("`{arg} {text}`: {error}"))?;
            Ok(())
        };
        match arg.as_str() {
            "--comparisons" => number(&mut same)?,
            "--planted" => number(&mut planted)?,
            "--cost-ms" => number(&mut cost_ms)?,
            "--sample" => sample = true,
            "--spolia" => spolia = Some(PathBuf::from(args.next().ok_or("`--spolia` needs a file")?)),
            other => return Err(format!("`perf-aa` has no flag `{other}`")),
        }
    }
    if sample {
        (same, planted) = (2, 1);
    }
    let bench = Bench::new(sample, spolia)?;
    let work = bench.calibrate(cost_ms)?;
    println!(
        "\n| beside itself | comparisons | CPU faster | same | inconclusive | slower | wall faster | same | inconclusive | slower | either differs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let equal = bench.compare("the same", work(1.0), same)?;
    let fifth = bench.compare("+20%", work(1.2), planted)?;
    let little = bench.compare("+3%", work(1.03), planted)?;
    if sample {
        println!(
            "{} comparisons were made and judged",
            equal.comparisons + fifth.comparisons + little.comparisons
        );
        return Ok(());
    }
    let mut wrong = Vec::new();
    if equal.either * 1000 > ALARMS_PER_MILLE * equal.comparisons {
        wrong.push(format!("{} of {} alarms on the same command", equal.either, equal.comparisons));
    }
    if fifth.cpu[3] * 100 < FOUND_PERCENT * fifth.comparisons {
        wrong.push(format!("+20% was called slower in {} of {}", fifth.cpu[3], fifth.comparisons));
    }
    if little.cpu[0].max(little.wall[0]) * 1000 > WRONG_PER_MILLE * little.comparisons {
        wrong.push(format!("+3% was called faster in {} or {}", little.cpu[0], little.wall[0]));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

impl Bench {
    /// A debug build is enough for a sample; figures are made with a release.
    fn new(sample: bool, spolia: Option<PathBuf>) -> Done<Self> {
        let spolia = spolia.map_or_else(|| Self::built(sample), Ok)?;
        let folder = TempDir::new().map_err(|error| format!("a temporary folder: {error}"))?;
        let bench = Self { spolia, folder };
        bench.write("base", 1000)?;
        Ok(bench)
    }

    fn built(sample: bool) -> Done<PathBuf> {
        if !sample {
            return build::program("release");
        }
        run::cargo(&["build", "--quiet", "--package", "spolia"])?;
        Ok(run::target()?.join("debug/spolia"))
    }

    fn write(&self, name: &str, count: u64) -> Done {
        let text = format!("i=0; while [ $i -lt {count} ]; do i=$((i+1)); done\n");
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// `spolia perf benchmark` of two scripts.
    fn benchmark(&self, other: &str, runs: &str) -> Done<Value> {
        let mut command = Command::new(&self.spolia);
        command.args(["--json", "--cache-dir"]).arg(self.folder.path().join("cache"));
        command.args(["perf", "benchmark", "-n", runs, "--vs", "sh base", "--", "sh", other]);
        command.current_dir(self.folder.path()).stderr(Stdio::null());
        let output = command.output().map_err(|error| format!("{}: {error}", self.spolia.display()))?;
        let said: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("`spolia perf benchmark` ended with {}: {error}", output.status))?;
        let code = output.status.code();
        if said["exit_code"].as_i64() != code.map(i64::from) || !matches!(code, Some(0 | 5)) {
            return Err(format!("it ended with {} and says {}", output.status, said["exit_code"]));
        }
        Ok(said)
    }

    /// The count that costs `cost_ms`, and how many more cost a share more: what a shell costs before it counts is
    /// not part of that.
    fn calibrate(&self, cost_ms: usize) -> Done<impl Fn(f64) -> u64> {
        let counts = [5_000.0, 40_000.0];
        self.write("base", counts[0] as u64)?;
        self.write("other", counts[1] as u64)?;
        let said = self.benchmark("other", "40")?;
        // The least of many runs: what a restless machine adds is not the command's.
        let least = |side: usize| -> Option<f64> {
            let samples = said["records"][side]["samples"].as_array()?;
            let costs = samples.iter().map(|one| Some(one["user_us"].as_f64()? + one["sys_us"].as_f64()?));
            costs.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
        };
        let (Some(one), Some(other)) = (least(0), least(1)) else {
            return Err(format!("no CPU time was measured: {said}"));
        };
        let each = (other - one) / (counts[1] - counts[0]);
        let fixed = one - each * counts[0];
        if each <= 0.0 {
            return Err(format!("more work costs no more: {one} and {other} µs"));
        }
        let cost_us = cost_ms as f64 * 1000.0;
        let count = move |share: f64| ((cost_us * share - fixed).max(0.0) / each) as u64;
        self.write("base", count(1.0))?;
        println!(
            "a shell that counts to {} costs at least {cost_ms} ms; {fixed:.0} µs of that before it counts",
            count(1.0)
        );
        Ok(count)
    }

    fn compare(&self, name: &str, count: u64, comparisons: usize) -> Done<Said> {
        self.write("other", count)?;
        let mut said = Said::default();
        for number in 0..comparisons {
            let found = self.benchmark("other", RUNS)?;
            let comparison = &found["comparison"];
            let place = |cost: &str| {
                let word = comparison[cost]["word"].as_str().unwrap_or_default();
                WORDS.iter().position(|known| *known == word)
            };
            let (Some(cpu), Some(wall)) = (place("cpu"), place("wall")) else {
                return Err(format!("no verdict: {comparison}"));
            };
            let runs = comparison["cpu"]["runs"].to_string();
            if runs != format!("[{RUNS},{RUNS}]") {
                return Err(format!("{runs} runs were judged, and {RUNS} of each were asked for"));
            }
            let exit = i64::from(cpu == 3 || wall == 3) * 5;
            if found["exit_code"].as_i64() != Some(exit) {
                return Err(format!("exit code {} with {comparison}", found["exit_code"]));
            }
            said.comparisons += 1;
            said.cpu[cpu] += 1;
            said.wall[wall] += 1;
            said.either += usize::from([cpu, wall].iter().any(|word| *word == 0 || *word == 3));
            if (number + 1) % 50 == 0 {
                eprintln!("{name}: {} of {comparisons}", number + 1);
                self.forget()?;
            }
        }
        println!("{}", said.row(name));
        Ok(said)
    }

    /// The history is not what is measured here.
    fn forget(&self) -> Done {
        let cache: &Path = &self.folder.path().join("cache");
        match std::fs::remove_dir_all(cache) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", cache.display()))
            }
            _ => Ok(()),
        }
    }
}
