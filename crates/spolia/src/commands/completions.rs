//! `spolia completions SHELL`: a script made from the command line's own definition.

use crate::cli::{Args, CompletionsArgs};
use crate::exit::{Exit, Failure};
use crate::shell::Shell;

/// Runs it.
pub(crate) fn run(args: &CompletionsArgs, shell: &Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "spolia", &mut script);
    let script = String::from_utf8_lossy(&script);
    if shell.is_json() {
        shell.json_line(&serde_json::json!({ "shell": args.shell.to_string(), "script": script }));
    } else {
        shell.out(&script);
    }
    Ok(Exit::Success)
}
