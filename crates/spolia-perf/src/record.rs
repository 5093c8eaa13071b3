//! What is written down of a measurement: [`Facts`] once, a [`Sample`] for each run of the command.
//!
//! In the journal they are the events `measuring` and `measured`; a file that `-o` writes is a [`Record`], which has the
//! same fields and beside them those of older tools, filled from the last sample:
//!
//! ```text
//! { "spolia_perf": 1, "run": "20261121T…", "facts": {…}, "samples": [{…}, …], "steps": [{…}, …],
//!   "build_target": "app", "start_time": "2026-11-21T14:44:47Z", "end_time": "…", "duration_ms": 1200,
//!   "cache_hits": 3, "cache_misses": 1, "build_size_bytes": 81920, "dependencies": 4, "go_version": null,
//!   "os": "linux", "arch": "amd64", "num_cpu": 2, "memory_usage_bytes": 52428800, "optimizations": null }
//! ```
//!
//! Every field may be left out on reading. What was not observed is `null`, and `not_observed` says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spolia_engine::measure::{PeakFrom, Speed, Taken};
use spolia_engine::{End, measure};

/// The version of facts, samples and files.
pub const RECORD_VERSION: u32 = 1;

/// Whether caches were empty or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was taken from a cache.
    Cold,
    /// Everything was there already.
    Warm,
    /// Some of it was: between the two, and compared with its like only.
    Partial,
}

impl State {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Partial => "partial",
        }
    }

    /// The other way.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Cold, Self::Warm, Self::Partial].into_iter().find(|state| state.text() == text)
    }
}

/// What is measured, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// `monitor`, `benchmark` or `bisect`.
    pub purpose: String,
    /// What two measurements must share to be compared: a step's name, or the command as one line.
    pub subject: String,
    /// The command as words.
    pub command: Vec<String>,
    /// The platform, where it is a step's.
    pub platform: Option<String>,
    /// Cold or warm, where that is known.
    pub state: Option<State>,
    /// The commit.
    pub git: Option<Git>,
    /// Program → its own words about its version.
    pub toolchain: BTreeMap<String, String>,
    /// The machine.
    pub host: Host,
    /// The machine's load over 1, 5 and 15 minutes before the first run.
    pub load_before: Option<[f64; 3]>,
    /// Why something above is missing.
    pub not_observed: BTreeMap<String, String>,
}

/// The commit that was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Git {
    /// Its full name.
    pub commit: String,
    /// The branch, where there is one.
    pub branch: Option<String>,
    /// Whether files differ from the commit, or are new.
    pub dirty: Option<bool>,
    /// When it was committed, seconds since 1970.
    pub time_s: Option<i64>,
    /// Its first line.
    pub title: Option<String>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// A digest of the fields below: machines that have it in common may be compared.
    pub fingerprint: String,
    /// As Go names it.
    pub os: String,
    /// As Go names it.
    pub arch: String,
    /// The processor's own name.
    pub cpu: Option<String>,
    /// Processors this process may use.
    pub num_cpu: Option<u64>,
    /// Memory, GiB, rounded: it varies a little from boot to boot.
    pub memory_gib: Option<u64>,
    /// The kernel's release.
    pub kernel: Option<String>,
}

impl Host {
    /// What differs between two machines, each as `what: one → other`; empty where nothing known does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let text = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".to_owned());
        let rows = [
            ("system", self.os.clone(), other.os.clone()),
            ("architecture", self.arch.clone(), other.arch.clone()),
            ("processor", word(&self.cpu), word(&other.cpu)),
            ("processors", text(self.num_cpu), text(other.num_cpu)),
            ("memory GiB", text(self.memory_gib), text(other.memory_gib)),
            ("kernel", word(&self.kernel), word(&other.kernel)),
        ];
        let differs =
            rows.into_iter().filter(|(_, one, other)| one != other && !one.is_empty() && !other.is_empty());
        differs.map(|(what, one, other)| format!("{what}: {one} → {other}")).collect()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Well: only such runs are compared with.
    #[default]
    Ok,
    /// It failed.
    Failed,
    /// It ran into its time limit.
    Timeout,
    /// It was stopped.
    Cancelled,
}

/// One run of the command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Which run it was of all that two commands took in turn, from 0; absent where there was one command. A record without
    /// it was taken A B B A ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// The processor that it was kept on; absent where it ran wherever the kernel chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_on_cpu: Option<u32>,
    /// How fast that processor was meanwhile; absent where it was not looked, or the run was too short for a look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// When it started, µs since 1970 by the machine's clock, which may be set meanwhile.
    pub started_at_us: Option<u64>,
    /// From start to exit by a clock that is never set, µs.
    pub wall_us: Option<u64>,
    /// User CPU time of the whole tree, µs.
    pub user_us: Option<u64>,
    /// System CPU time of the whole tree, µs.
    pub sys_us: Option<u64>,
    /// Peak resident memory of the largest process, bytes.
    pub largest_process_bytes: Option<u64>,
    /// Peak memory of all processes together, bytes.
    pub together_bytes: Option<u64>,
    /// How that was found.
    pub together_from: Option<PeakFrom>,
    /// Bytes read from storage.
    pub read_bytes: Option<u64>,
    /// Bytes written towards storage.
    pub write_bytes: Option<u64>,
    /// Bytes that read calls got, from whatever source.
    pub read_call_bytes: Option<u64>,
    /// Bytes handed to write calls.
    pub write_call_bytes: Option<u64>,
    /// Processes started.
    pub processes: Option<u64>,
    /// Different processes seen in samples: there were at least so many.
    pub processes_seen: Option<u64>,
    /// CPU time by a cgroup's account, µs: also of processes that nobody waited for.
    pub cgroup_cpu_us: Option<u64>,
    /// Processes that were still running at its end.
    pub left_running: Option<u64>,
    /// CPU time that measuring took meanwhile, µs.
    pub own_cpu_us: Option<u64>,
    /// How it ended.
    pub ending: Ending,
    /// The exit code, where there was one.
    pub exit_code: Option<i32>,
    /// Load over 1, 5 and 15 minutes after it.
    pub load_after: Option<[f64; 3]>,
    /// Steps answered from a cache.
    pub cache_hits: Option<u64>,
    /// Steps that had to run.
    pub cache_misses: Option<u64>,
    /// Compiler calls, by compiler.
    pub compilers: BTreeMap<String, HitsMisses>,
    /// Bytes of the outputs.
    pub build_size_bytes: Option<u64>,
    /// Size of the store after it, bytes.
    pub store_bytes: Option<u64>,
    /// Steps that the measured ones need, themselves included.
    pub dependencies: Option<u64>,
    /// Why something above is missing.
    pub not_observed: BTreeMap<String, String>,
}

/// Hits and misses of one compiler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitsMisses {
    /// Answered from the cache.
    pub hits: u64,
    /// Run.
    pub misses: u64,
}

impl Sample {
    /// From what the engine observed of a command.
    pub fn of(taken: &Taken, started_at_us: u64) -> Self {
        let mut not_observed = BTreeMap::new();
        let mut known = |name: &str, why: &str| {
            not_observed.insert(name.to_owned(), why.to_owned());
        };
        let together = taken.together_bytes.as_ref();
        together.err().into_iter().for_each(|why| known("together_bytes", why));
        let io = taken.io.as_ref();
        io.err().into_iter().for_each(|why| known("read_bytes", why));
        taken.processes.as_ref().err().into_iter().for_each(|why| known("processes", why));
        taken.cgroup_cpu_us.as_ref().err().into_iter().for_each(|why| known("cgroup_cpu_us", why));
        taken
            .largest_process_bytes
            .as_ref()
            .err()
            .into_iter()
            .for_each(|why| known("largest_process_bytes", why));
        let command_only = "only the steps of a build are known by hit and miss, not a command";
        known("cache_hits", command_only);
        known("build_size_bytes", "a command does not say what its outputs are");
        known("dependencies", "a command does not say what it needs");
        let io = io.ok();
        let (ending, exit_code) = match taken.end {
            End::Exited(0) => (Ending::Ok, Some(0)),
            End::Exited(code) => (Ending::Failed, Some(code)),
            End::Signalled(signal) => (Ending::Failed, Some(128 + signal)),
            End::TimedOut => (Ending::Timeout, None),
            End::Cancelled => (Ending::Cancelled, None),
        };
        Self {
            started_at_us: Some(started_at_us),
            wall_us: u64::try_from(taken.wall.as_micros()).ok(),
            user_us: Some(taken.user_us),
            sys_us: Some(taken.sys_us),
            largest_process_bytes: taken.largest_process_bytes.clone().ok(),
            together_bytes: together.ok().map(|(bytes, _)| *bytes),
            together_from: together.ok().map(|(_, from)| *from),
            read_bytes: io.map(|io| io.read_bytes),
            write_bytes: io.map(|io| io.write_bytes),
            read_call_bytes: io.map(|io| io.read_call_bytes),
            write_call_bytes: io.map(|io| io.write_call_bytes),
            processes: taken.processes.clone().ok(),
            processes_seen: taken.processes_seen,
            cgroup_cpu_us: taken.cgroup_cpu_us.clone().ok(),
            left_running: Some(taken.left_running),
            speed: taken.speed.as_ref().ok().copied(),
            own_cpu_us: Some(taken.own_cpu_us),
            ending,
            exit_code,
            not_observed,
            ..Self::default()
        }
    }

    /// With what was read and written.
    #[must_use]
    pub fn with_io(mut self, io: measure::Observed<measure::Io>) -> Self {
        match io {
            Ok(io) => {
                self.read_bytes = Some(io.read_bytes);
                self.write_bytes = Some(io.write_bytes);
                self.read_call_bytes = Some(io.read_call_bytes);
                self.write_call_bytes = Some(io.write_call_bytes);
            }
            Err(why) => {
                self.not_observed.insert("read_bytes".to_owned(), why);
            }
        }
        self
    }

    /// User and system CPU time, µs.
    pub fn cpu_us(&self) -> Option<u64> {
        Some(self.user_us? + self.sys_us?)
    }

    /// Whether it may be compared with: it succeeded.
    pub fn is_ok(&self) -> bool {
        self.ending == Ending::Ok
    }
}

/// A step of a build, as it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepSpan {
    /// Its name and platform.
    pub name: String,
    /// From the start of the build, µs; `None` where it did not start.
    pub start_us: Option<u64>,
    /// How long, µs.
    pub wall_us: Option<u64>,
    /// CPU time, µs.
    pub cpu_us: Option<u64>,
    /// Peak memory of its largest process, bytes.
    pub max_rss_bytes: Option<u64>,
    /// `ran`, `hit`, `fresh`, `failed` or `skipped`.
    pub outcome: String,
    /// Why it had to run.
    pub miss: Option<String>,
    /// What kind of reason that is.
    pub miss_kind: Option<String>,
    /// What a hit saved, µs of wall time.
    pub saved_us: Option<u64>,
    /// Bytes of its outputs.
    pub output_bytes: Option<u64>,
    /// Steps it needs, by name; `None` where that is not known.
    pub needs: Option<Vec<String>>,
}

/// A measurement as a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub spolia_perf: Option<u32>,
    /// The run's name in the journal.
    pub run: Option<String>,
    /// What and where.
    pub facts: Facts,
    /// Each run.
    pub samples: Vec<Sample>,
    /// The steps of the last run, where it was a build.
    pub steps: Vec<StepSpan>,
    /// The most steps at once.
    pub jobs: Option<u64>,
    /// The thresholds of the manifest, and what was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<crate::check::Finding>,
    /// The fields that other tools know.
    #[serde(flatten)]
    pub plain: Plain,
}

/// The fields of older tools. Filled on writing; on reading, what our own fields lack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plain {
    /// What was built.
    pub build_target: Option<String>,
    /// RFC 3339, UTC.
    pub start_time: Option<String>,
    /// RFC 3339, UTC.
    pub end_time: Option<String>,
    /// Wall time.
    pub duration_ms: Option<f64>,
    /// Answered from a cache.
    pub cache_hits: Option<u64>,
    /// Not.
    pub cache_misses: Option<u64>,
    /// Size of what came out.
    pub build_size_bytes: Option<u64>,
    /// How many it needs.
    pub dependencies: Option<u64>,
    /// What `go version` says.
    pub go_version: Option<String>,
    /// As Go names it.
    pub os: Option<String>,
    /// As Go names it.
    pub arch: Option<String>,
    /// Processors.
    pub num_cpu: Option<u64>,
    /// Peak memory of the largest process of the build; not the measuring program's own.
    pub memory_usage_bytes: Option<u64>,
    /// How it was built, where somebody says so.
    pub optimizations: Option<serde_json::Value>,
}

impl Record {
    /// From what was measured.
    pub fn new(run: String, facts: Facts, samples: Vec<Sample>, steps: Vec<StepSpan>) -> Self {
        let last = samples.last().cloned().unwrap_or_default();
        let started = last.started_at_us;
        let ended = started.zip(last.wall_us).map(|(start, wall)| start + wall);
        let plain = Plain {
            build_target: Some(facts.subject.clone()),
            start_time: started.map(rfc3339),
            end_time: ended.map(rfc3339),
            duration_ms: last.wall_us.map(|us| us as f64 / 1000.0),
            cache_hits: last.cache_hits,
            cache_misses: last.cache_misses,
            build_size_bytes: last.build_size_bytes,
            dependencies: last.dependencies,
            go_version: facts.toolchain.get("go").cloned(),
            os: Some(facts.host.os.clone()),
            arch: Some(facts.host.arch.clone()),
            num_cpu: facts.host.num_cpu,
            memory_usage_bytes: last.largest_process_bytes,
            optimizations: None,
        };
        Self {
            spolia_perf: Some(RECORD_VERSION),
            run: Some(run),
            facts,
            samples,
            steps,
            plain,
            ..Self::default()
        }
    }

    /// The runs that may be compared with.
    pub fn good(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.is_ok())
    }

    /// One figure of every good run, in order.
    pub fn values(&self, figure: impl Fn(&Sample) -> Option<u64>) -> Vec<f64> {
        self.good().filter_map(|sample| figure(sample).map(|value| value as f64)).collect()
    }
}

/// `2026-11-21T14:44:47Z` of µs since 1970.
pub fn rfc3339(us: u64) -> String {
    let day = spolia_store::journal::day_of(us);
    let second = us / 1_000_000 % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{}-{}-{}T{hour:02}:{minute:02}:{second:02}Z", &day[..4], &day[4..6], &day[6..])
}
