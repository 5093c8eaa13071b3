//! One file for each command.

mod build;
mod cache;
mod cc;
mod collect;
mod completions;
mod dist;
mod doctor;
mod graph;
mod init;
mod labels;
mod look;
mod perf;
mod pin;
mod recompress;
mod run;
mod schema;
mod stats;
mod sweep;
mod targets;
mod why;

use crate::cli::Command;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::shell::Shell;

/// Runs a command to its exit code.
pub(crate) fn run(command: Command, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    match command {
        Command::Build(args) => build::run(&args, settings, shell),
        Command::Why(args) => why::run(&args, settings, shell),
        Command::Graph(args) => graph::run(&args, settings, shell),
        // Whatever a command's own exit codes mean, they are not to be confused with Spolia's.
        Command::Run(args) => {
            run::run(&args, settings, shell).map_err(|failure| failure.with_exit(Exit::NotRun))
        }
        Command::Cc(args) => cc::run(&args, settings, shell),
        Command::Stats(args) => stats::run(&args, settings, shell),
        Command::Dist(args) => dist::run(&args, settings, shell),
        Command::Cache(args) => cache::run(&args, settings, shell),
        Command::Doctor(args) => doctor::run(&args, settings, shell),
        Command::Init(args) => init::run(&args, settings, shell),
        Command::Perf(args) => perf::run(&args, settings, shell),
        Command::Sweep(args) => sweep::run(&args, settings, shell),
        Command::Schema => schema::run(shell),
        Command::Completions(args) => completions::run(&args, shell),
    }
}
