//! Builds that the journal has: `runs → (folder, command, when)`. A step that calls Cargo is one.

use std::collections::HashMap;

use spolia_core::event::{EventKind, StepOutcome};
use spolia_core::key::Line;
use spolia_core::{ActionKey, Explanation};
use spolia_engine::perform;
use spolia_store::LocalStore;
use spolia_store::journal::{self, RunFilter};
use spolia_sweep::CargoCommand;

/// In how many of the newest runs of all projects is looked.
const RUNS_MAX: usize = 500;

/// The Cargo commands in the newest `keep_last` runs of each project.
pub(super) fn builds(store: &LocalStore, keep_last: u32) -> Vec<(std::path::PathBuf, CargoCommand, u64)> {
    let mut runs: Vec<(String, Vec<(ActionKey, u64)>)> = Vec::new();
    let filter = RunFilter { newest: Some(RUNS_MAX), ..RunFilter::default() };
    // A journal that cannot be read knows of no builds; what is live is still asked of Cargo.
    let _unreadable = journal::read_runs(store, &filter, &mut |run| {
        let (mut root, mut keys) = (None, Vec::new());
        for event in run.events {
            match event.kind {
                EventKind::RunStarted { root: folder, .. } => root = Some(folder),
                EventKind::StepFinished {
                    key: Some(key),
                    outcome: StepOutcome::Ran { .. } | StepOutcome::Hit { .. },
                    ..
                } => {
                    keys.push((key, event.at_us));
                }
                _ => {}
            }
        }
        runs.extend(root.map(|root| (root, keys)));
    });
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut found: HashMap<(std::path::PathBuf, CargoCommand), u64> = HashMap::new();
    for (root, keys) in runs.into_iter().rev() {
        let count = counts.entry(root.clone()).or_insert(0);
        *count += 1;
        if *count > keep_last {
            continue;
        }
        for (key, at_us) in keys {
            let Some(description) = perform::describe(store, key) else { continue };
            for command in commands(&description.explanation) {
                let last = found.entry((root.clone().into(), command)).or_insert(0);
                *last = at_us.max(*last);
            }
        }
    }
    let mut all: Vec<_> = found.into_iter().map(|((root, command), at_us)| (root, command, at_us)).collect();
    all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    all
}

/// The calls of Cargo in what a step ran, with the variables of the step that Cargo goes by.
fn commands(explanation: &Explanation) -> Vec<CargoCommand> {
    let of = |group: &'static str| explanation.lines.iter().filter(move |line| line.group == group);
    let words: Vec<&Line> = of("run").collect();
    let scripts: Vec<String> = match words.as_slice() {
        [shell, flags, script] if shell.value == "/bin/sh" && flags.value.starts_with('-') => {
            script.value.split(['\n', ';']).flat_map(|line| line.split("&&")).map(str::to_owned).collect()
        }
        words => vec![words.iter().map(|word| quoted(&word.value)).collect::<Vec<_>>().join(" ")],
    };
    let env: Vec<(String, String)> = of("env")
        .filter(|line| line.name.starts_with("CARGO") || line.name.starts_with("RUST"))
        .map(|line| (line.name.clone(), line.value.clone()))
        .collect();
    let with_env = |mut command: CargoCommand| {
        let own = command.env.clone();
        let inherited = env.iter().filter(|(name, _)| !own.iter().any(|(set, _)| set == name));
        command.env.splice(0..0, inherited.cloned());
        command
    };
    scripts.iter().filter_map(|line| CargoCommand::parse(line.trim()).ok()).map(with_env).collect()
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_cargo_are_found_in_scripts_and_lists() {
        let line = |group: &str, name: &str, value: &str| Line {
            group: group.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let check = |lines: Vec<Line>, expect: &[&str]| {
            let found = commands(&Explanation { lines });
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
        };
        let script = "cd x && cargo build --release\ncargo test; make";
        check(
            vec![
                line("run", "0", "/bin/sh"),
                line("run", "1", "-euc"),
                line("run", "2", script),
                line("env", "RUSTFLAGS", "-C debuginfo=1"),
                line("env", "V", "1"),
            ],
            &["RUSTFLAGS='-C debuginfo=1' cargo build --release", "RUSTFLAGS='-C debuginfo=1' cargo test"],
        );
        check(vec![line("run", "0", "cargo"), line("run", "1", "clippy")], &["cargo clippy"]);
        check(vec![line("run", "0", "make")], &[]);
    }
}
