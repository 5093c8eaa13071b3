//! `spolia dist --check FILE`: a release as somebody got it. Needs no manifest, no store and no network.

use std::path::Path;

use serde_json::json;
use spolia_dist::{check, signature};

use super::failure;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// Runs it.
pub(super) fn run(
    path: &Path,
    key: Option<&str>,
    settings: &Settings,
    shell: &Shell,
) -> Result<Exit, Failure> {
    let key = key.map(signature::public_key).transpose().map_err(|error| failure(&error))?;
    let report = check::check(&settings.cwd.join(path), key.as_ref()).map_err(|error| failure(&error))?;
    let exit = if report.problems.is_empty() { Exit::Success } else { Exit::Problems };
    if shell.is_json() {
        shell.json_line(&json!({ "kind": "dist-check", "report": report, "exit_code": exit.code() }));
        return Ok(exit);
    }
    for good in &report.good {
        shell.status(Tone::Good, "Good", good);
    }
    for unchecked in &report.unchecked {
        shell.warning(&format!("not checked: {unchecked}"), &[]);
    }
    for problem in &report.problems {
        shell.err(&shell.spoken(Tone::Error, "error", problem, &[]));
    }
    Ok(exit)
}
