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
    History(HistoryArgs),
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

/// Show what was measured, by subject, with where its cost changed
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
