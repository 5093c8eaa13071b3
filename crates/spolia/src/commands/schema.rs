//! `spolia schema`: the manifest's JSON Schema, made from the parser's own table of keys.

use spolia_build::manifest;

use crate::exit::{Exit, Failure};
use crate::shell::Shell;

/// Runs it. With `--json` it is one line.
pub(crate) fn run(shell: &Shell) -> Result<Exit, Failure> {
    let mut schema = manifest::schema();
    // Tables that other rooms read are described by them.
    schema["properties"]["dist"] = spolia_dist::manifest::schema();
    schema["properties"]["perf"] = spolia_perf::manifest::schema();
    schema["properties"]["sweep"] = spolia_sweep::manifest::schema();
    if shell.is_json() {
        shell.json_line(&schema);
    } else {
        let text = serde_json::to_string_pretty(&schema)
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot write the schema: {error}")))?;
        shell.out(&format!("{text}\n"));
    }
    Ok(Exit::Success)
}
