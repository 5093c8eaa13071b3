//! `spolia sweep`: target directories, looked at, planned and swept.

use std::path::Path;

use serde_json::json;
use spolia_sweep::apply::{self, Applied, Guide};
use spolia_sweep::cargo::Asker;
use spolia_sweep::find::FindOptions;
use spolia_sweep::plan::Entry;
use spolia_sweep::survey::{self, Progress, Request, Surveyed};
use spolia_sweep::{Policy, SweepError, SweepPlan, Why, plan};

use super::build::cancel_on_signals;
use super::why::counted;
use crate::cli::SweepArgs;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::project::open_store;
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// How many entries of a plan are listed, without `--json`.
const SHOWN: usize = 20;

/// Runs it.
pub(crate) fn run(args: &SweepArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let cancel = cancel_on_signals()?;
    let env = settings.whole_env();
    let program = std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot find spolia's own program: {error}")))?;
    let memo = open_store(settings).ok().filter(|store| store.is_writable());
    let memo = memo.map(|store| store.base().join("sweep/names"));
    let scratch = settings.temporary();
    let asker = Asker::new(&env, &program, &scratch, memo, &cancel);
    let paths = if args.paths.is_empty() {
        vec![settings.cwd.clone()]
    } else {
        args.paths.iter().map(|path| settings.cwd.join(path)).collect()
    };
    let request = Request {
        paths,
        find: FindOptions { recursive: args.recursive, hidden: args.hidden },
        threads: settings.processors(),
        ..Request::default()
    };
    let report = |_: Progress<'_>| !cancel.is_cancelled();
    let survey = survey::survey(&request, &asker, &report).map_err(|error| failure(&error))?;
    for (path, why) in &survey.problems {
        shell.warning(&format!("`{}`: {why}", path.display()), &[]);
    }
    let mut exit = Exit::Success;
    for surveyed in &survey.targets {
        let scan = match &surveyed.scan {
            Ok(scan) => scan,
            Err(why) => {
                shell.warning(&format!("`{}` is left as it is: {why}", surveyed.target.display()), &[]);
                exit = Exit::Problems;
                continue;
            }
        };
        let policy = policy(surveyed);
        let plan = plan::plan(scan, &surveyed.live, &policy, now_us());
        show(surveyed, &plan, shell);
        if args.dry_run || plan.entries.is_empty() {
            continue;
        }
        let mut guide = Guide {
            wait: &mut |_| false,
            still_true: &mut || {
                surveyed.workspaces.iter().all(|workspace| {
                    asker.workspace(&workspace.root).is_ok_and(|now| now.basis == workspace.basis)
                })
            },
            go_on: &mut |_| !cancel.is_cancelled(),
        };
        let applied =
            apply::apply(&surveyed.target, &plan, &mut guide, None).map_err(|error| failure(&error))?;
        said(&surveyed.target, &applied, shell);
    }
    Ok(exit)
}

fn failure(error: &SweepError) -> Failure {
    match error {
        SweepError::Stopped => Failure::new(Exit::Interrupted, "stopped"),
        error => Failure::from_error(Exit::Environment, error),
    }
}

fn policy(surveyed: &Surveyed) -> Policy {
    let members = surveyed.workspaces.iter().flat_map(|workspace| &workspace.members);
    Policy {
        members: members.map(|member| (member.name.clone(), member.version.clone())).collect(),
        unknown_profiles: surveyed.unknown.keys().cloned().collect(),
        ..Policy::default()
    }
}

fn show(surveyed: &Surveyed, plan: &SweepPlan, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "sweep-plan",
            "target": surveyed.target.display().to_string(),
            "configurations": surveyed.live.configurations,
            "plan": plan,
        }));
        return;
    }
    let mut lines: Vec<Vec<String>> =
        plan.entries.iter().take(SHOWN).map(|entry| columns(entry, surveyed)).collect();
    if plan.entries.len() > SHOWN {
        let rest = &plan.entries[SHOWN..];
        let bytes = rest.iter().map(|entry| entry.bytes).sum();
        lines.push(vec![
            words::size(bytes),
            format!("{} more; `--json` lists all", counted(rest.len(), "entry")),
        ]);
    }
    let mut text = format!("{}\n", surveyed.target.display());
    text.push_str(&super::cache::table(&lines, &[0]));
    shell.out(&text);
    shell.status(
        Tone::Plain,
        "stale",
        &format!(
            "{} ({}); live {} ({})",
            counted(plan.stale_units, "unit"),
            words::size(plan.bytes),
            counted(plan.live_units, "unit"),
            words::size(plan.live_bytes)
        ),
    );
}

/// Bytes, what, and why.
fn columns(entry: &Entry, surveyed: &Surveyed) -> Vec<String> {
    let path = entry.parts.first().map(|part| part.path.display().to_string()).unwrap_or_default();
    let what = match (&entry.package, entry.hash) {
        (Some(package), Some(hash)) => {
            let targets = entry.targets.join(", ");
            let targets = if targets.is_empty() { String::new() } else { format!(" ({targets})") };
            format!("{}/ {package}-{hash}{targets}", entry.profile)
        }
        _ => path,
    };
    vec![words::size(entry.bytes), what, because(&entry.why, surveyed)]
}

/// A reason in a few words.
fn because(why: &Why, surveyed: &Surveyed) -> String {
    match why {
        Why::DependencyGone => "nothing needs this package any more".to_owned(),
        Why::Superseded { by } => format!("superseded by {by}"),
        Why::TargetGone => "the package has no such target any more".to_owned(),
        Why::ToolchainGone => "its compiler is not installed any more".to_owned(),
        Why::ToolchainNotUsed => "no configuration uses its compiler".to_owned(),
        Why::FlagsNotDeclared { rustflags } => {
            format!("no configuration has RUSTFLAGS `{}`", rustflags.join(" "))
        }
        Why::ProfileNotDeclared => "no configuration builds in this profile".to_owned(),
        Why::Orphan => "Cargo remembers no unit it belongs to".to_owned(),
        Why::CompilerScratch => "left by a compiler that was killed".to_owned(),
        Why::TestScratch => "scratch of tests, not touched for a day".to_owned(),
        Why::PackageOld => "packed from another version".to_owned(),
        Why::ReportOld => "a newer report is there".to_owned(),
        Why::DocGone => "no configuration documents this crate".to_owned(),
        Why::NotWorthSaving => "of no use to a fresh checkout".to_owned(),
        Why::LeastRecentlyUsed { configuration } => {
            let number = usize::try_from(*configuration).unwrap_or(usize::MAX);
            let command = surveyed.live.configurations.get(number).map(|one| one.command.to_string());
            format!("least recently used: {}", command.unwrap_or_default())
        }
        Why::All => "everything was asked for".to_owned(),
    }
}

fn said(target: &Path, applied: &Applied, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(
            &json!({ "kind": "sweep-applied", "target": target.display().to_string(), "applied": applied }),
        );
        return;
    }
    for (path, why) in &applied.left {
        shell.warning(&format!("`{}` stays: {why}", target.join(path).display()), &[]);
    }
    shell.status(Tone::Good, "removed", &format!("{} in {}", words::size(applied.bytes), target.display()));
}
