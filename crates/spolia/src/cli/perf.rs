//! The words of `spolia perf`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;

use super::How;

/// Measure builds, and say only what that supports
///
/// Every measurement is one run in the store's journal. A run is named as `perf history` shows it, by its start or by
/// its last eight letters; `latest` is the newest one of this project.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct PerfArgs {
    #[command(subcommand)]
    pub(crate) command: PerfCommand,
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum PerfCommand {
    Monitor(MonitorArgs),
    Analyze(AnalyzeArgs),
    Benchmark(BenchmarkArgs),
    Compare(CompareArgs),
    Check(CheckArgs),
    Bisect(BisectArgs),
    History(HistoryArgs),
    Accept(AcceptArgs),
    Report(ReportArgs),
    Trace(TraceArgs),
}

/// Run a build or a command once and write down what it cost
///
/// Without `--` it builds steps of the manifest as `spolia build` does; after `--` it runs any command, with no standard
/// input. Exit code 1 where it fails: the run is recorded as failed and never compared with.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct MonitorArgs {
    /// Steps to build, with all they need [default: every step]
    #[arg(value_name = "STEP")]
    pub(crate) steps: Vec<String>,
    #[command(flatten)]
    pub(crate) how: How,
    /// Run every step, or this one, even where its result is known
    #[arg(long, value_name = "STEP", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) no_cache: Vec<String>,
    #[command(flatten)]
    pub(crate) label: Label,
    /// Also write it to this file, as JSON
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true, conflicts_with_all = ["steps", "no_cache"])]
    pub(crate) command: Vec<OsString>,
}

/// What a measurement of a command is called.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct Label {
    /// What it is called in the history [default: the steps, or the command as one line]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Caches are empty: compared with cold runs only
    #[arg(long, conflicts_with = "warm")]
    pub(crate) cold: bool,
    /// Caches are full: compared with warm runs only
    #[arg(long)]
    pub(crate) warm: bool,
}

/// Show what was measured, by subject
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct HistoryArgs {
    /// Only this step, or the command of this name
    #[arg(value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// At most so many measurements, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: u32,
    /// Of every project
    #[arg(long)]
    pub(crate) all: bool,
    /// Make the index anew from the journal
    #[arg(long)]
    pub(crate) rebuild: bool,
}

/// Compare two measurements: of runs, files, commits or branches
///
/// Each side is a run, a file (of Spolia's, of hyperfine's `--export-json`, or with the plain fields), or what git
/// takes for a commit; of a commit, all its runs count. CPU time and wall time each get a verdict: `slower` or `faster`
/// where chance is ruled out and the difference is known to be above 5%, `same` where it is known to be below, else
/// `inconclusive` with how many more runs would decide. Exit code 5 where one of them is `slower`.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct CompareArgs {
    /// What it was
    #[arg(value_name = "BEFORE")]
    pub(crate) before: String,
    /// What it is
    #[arg(value_name = "AFTER")]
    pub(crate) after: String,
    /// Only this subject
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Also write it to this file, as Markdown for a pull request
    #[arg(long, value_name = "FILE")]
    pub(crate) export_markdown: Option<PathBuf>,
}

/// Hold a run against the thresholds and against what it cost before, for CI
///
/// The limits are those of `[perf.thresholds]` in the manifest; of a step, its own part in the build counts. A cost has
/// regressed where its level in the history went up and stayed there, or where this run is judged slower than, and lies
/// above, all measurements since; only those of the same machine and since the last `perf accept` count. Exit code 6
/// where something is over its limit or has regressed; 7 where nothing is, but something that has a limit was not
/// observed: that is no pass.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct CheckArgs {
    /// The run or file
    #[arg(value_name = "RUN|FILE", default_value = "latest")]
    pub(crate) what: String,
    /// Only this subject: a step, `build`, or the command's name in the history
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Vec<String>,
    /// Only the thresholds: look for no regression
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Exit code 7 also where the history cannot tell whether a cost regressed
    #[arg(long)]
    pub(crate) strict: bool,
    /// What was not observed is said, and is no reason for exit code 7
    #[arg(long)]
    pub(crate) allow_unobserved: bool,
}

/// Find the commit that made a command slower
///
/// Commits are checked out in clones of their own: the tree here is not touched. Each is compared with the good one, runs
/// of the two in turn, until it is known to be nearer to the good or to the bad one; one that cannot be measured or told
/// is skipped. The cost is CPU time where that grew, else wall time. Exit code 7 where the runs do not decide.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct BisectArgs {
    /// A commit where it was fast
    #[arg(value_name = "GOOD")]
    pub(crate) good: String,
    /// A later one where it is slow
    #[arg(value_name = "BAD")]
    pub(crate) bad: String,
    /// Run this in a shell after each checkout, such as a build; its cost does not count, and where it fails the commit
    /// is skipped
    #[arg(long, value_name = "CMD")]
    pub(crate) setup: Option<String>,
    /// At most so many runs of each commit
    #[arg(short = 'n', long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    pub(crate) runs: u32,
    /// Keep all runs on one processor; `auto`: where the warm-ups were short and used one at a time
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) one_cpu: OneCpuArg,
    /// Show what the commands print
    #[arg(long)]
    pub(crate) show_output: bool,
    /// The command and its arguments, run in this folder of each commit
    #[arg(value_name = "CMD", last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// Whether runs are kept on one processor.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneCpuArg {
    Auto,
    Always,
    Never,
}

/// Run a build or a command many times, beside another one where it is to be compared
///
/// Runs of the two alternate, in pairs A B or B A as a coin falls, so that a machine that changes changes both.
/// Steps are built as `spolia build` would, with --cold (the default) every run without the cache, with --warm with
/// everything in place. Exit code 1 where a run fails: it ends there. Exit code 5 where the command is slower than
/// that of --vs. A command that takes less than a second and uses one processor at a time is kept on one, so that it
/// matters less that one processor is slower than the other at times.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct BenchmarkArgs {
    /// Steps to build, with all they need [default: every step]
    #[arg(value_name = "STEP")]
    pub(crate) steps: Vec<String>,
    #[command(flatten)]
    pub(crate) how: How,
    /// The command to compare with, as one text of words; it is what the other is faster or slower than
    #[arg(long, value_name = "CMD")]
    pub(crate) vs: Option<String>,
    /// Runs of each command
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "until_decided")]
    pub(crate) runs: u32,
    /// Go on until both verdicts are decided: at most 160 runs of each
    #[arg(long, requires = "vs")]
    pub(crate) until_decided: bool,
    /// Runs of each command before those that count [default: 1, with --cold 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) warmup: Option<u32>,
    /// Run this in a shell before every run; its cost does not count
    #[arg(long, value_name = "CMD")]
    pub(crate) prepare: Option<String>,
    /// Keep all runs on one processor; `auto`: where the warm-ups were short and used one at a time
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) one_cpu: OneCpuArg,
    #[command(flatten)]
    pub(crate) label: Label,
    /// Show what the commands print
    #[arg(long)]
    pub(crate) show_output: bool,
    /// Write all of it to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) export_json: Option<PathBuf>,
    /// Write each run to this file, as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) export_csv: Option<PathBuf>,
    /// Write the comparison to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) export_markdown: Option<PathBuf>,
    /// Write the wall times to this file, as hyperfine's `--export-json` does
    #[arg(long, value_name = "FILE")]
    pub(crate) export_hyperfine: Option<PathBuf>,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true, conflicts_with = "steps")]
    pub(crate) command: Vec<OsString>,
}

/// Say where the time of a build went, and what to do next
///
/// Of a run of this project, or of a file: Spolia's own, hyperfine's `--export-json`, the page of `cargo build --timings`,
/// or ninja's `.ninja_log`. The critical path needs to know what steps need; ninja's log does not say it.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct AnalyzeArgs {
    /// The run or file [default: the newest build with steps]
    #[arg(value_name = "RUN|FILE")]
    pub(crate) what: Option<String>,
}

/// Draw what was measured: one page that needs no network, a picture, or a comment
///
/// The page has the timeline of a build with its critical path, costs over time with where they changed, what the cache
/// answered, sizes, and the steps that ran most.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct ReportArgs {
    /// The run or file whose timeline is drawn [default: the newest build that ran a step]
    #[arg(value_name = "RUN|FILE")]
    pub(crate) what: Option<String>,
    /// Write it to this file; `.html`, `.svg` (the timeline alone) or `.md`
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub(crate) output: PathBuf,
}

/// Write the steps of a build as a trace for other programs
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct TraceArgs {
    /// The run or file [default: the newest build with steps]
    #[arg(value_name = "RUN|FILE")]
    pub(crate) what: Option<String>,
    /// What is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = TraceFormat::Chrome)]
    pub(crate) format: TraceFormat,
    /// Write it to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TraceFormat {
    /// For Perfetto and `chrome://tracing`
    Chrome,
    /// OpenTelemetry's protocol as JSON
    Otlp,
}

/// Call the cost of a subject the new normal
///
/// What was measured before is then not compared with any more. Kept in the journal, with the reason.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct AcceptArgs {
    /// The step, or the command's name in the history
    #[arg(value_name = "SUBJECT")]
    pub(crate) subject: String,
    /// The first run that counts [default: the newest that measured it]
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) because: Option<String>,
}
