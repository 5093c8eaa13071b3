//! One file for each command.

mod build;

use crate::cli::Command;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::shell::Shell;

/// Runs a command to its exit code.
pub(crate) fn run(command: Command, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    match command {
        Command::Build(args) => build::run(&args, settings, shell),
    }
}
