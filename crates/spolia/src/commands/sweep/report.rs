//! What `spolia sweep` says: `SweepPlan, Applied → lines or JSON`.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use spolia_sweep::apply::Applied;
use spolia_sweep::cargo::Spent;
use spolia_sweep::plan::Entry;
use spolia_sweep::quarantine::Restored;
use spolia_sweep::survey::{Progress, Surveyed};
use spolia_sweep::{Origin, SweepPlan, Why};

use super::super::cache::table;
use super::super::why::{ago, counted};
use crate::cli::SweepArgs;
use crate::exit::Exit;
use crate::painter::words;
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// How many entries of a plan are listed, without `--json`.
pub(super) const SHOWN: usize = 20;
/// Between two changes of the line that is redrawn.
const PACE_US: u64 = 100_000;

/// One line that is redrawn on a terminal while it goes on; nothing elsewhere.
pub(in crate::commands) struct Line {
    shell: Option<Shell>,
    last: AtomicU64,
    seen: Mutex<(u64, u64)>,
}

impl Line {
    pub(in crate::commands) fn new(settings: &Settings, shell: &Shell) -> Self {
        let shell = settings.fancy.then(|| shell.clone());
        Self { shell, last: AtomicU64::new(0), seen: Mutex::default() }
    }

    pub(super) fn show(&self, progress: &Progress<'_>) {
        if self.shell.is_none() {
            return;
        }
        match progress {
            Progress::Asking(command) => {
                let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                seen.1 += 1;
                let number = seen.1;
                drop(seen);
                self.draw("asking", &format!("question {number}: {command}"));
            }
            Progress::Scanning(target, seen) => {
                self.draw("looking", &format!("{} ({seen} entries)", target.display()));
            }
        }
    }

    pub(super) fn removing(&self, freed: u64) {
        if self.shell.is_some() {
            self.draw("removing", &format!("{} freed", words::size(freed)));
        }
    }

    pub(in crate::commands) fn draw(&self, verb: &str, what: &str) {
        let (Some(shell), now) = (&self.shell, now_us()) else { return };
        if now.saturating_sub(self.last.swap(now, Ordering::Relaxed)) < PACE_US {
            return;
        }
        let columns = shell.size().columns.saturating_sub(13);
        let what: String = what.chars().take(columns).collect();
        shell.err(&format!("\r\x1b[K{}", shell.status_line(Tone::Dim, verb, &what)));
    }

    pub(in crate::commands) fn clear(&self) {
        if let Some(shell) = &self.shell {
            shell.err("\r\x1b[K");
        }
    }
}

/// Sums over all target directories.
#[derive(Default)]
pub(super) struct Total {
    pub(super) planned: u64,
    pub(super) freed: u64,
    pub(super) parts: u64,
}

/// Something that was not looked at, or not swept.
pub(super) fn left(path: &Path, why: &str, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(&json!({ "kind": "sweep-left", "path": path.display().to_string(), "why": why }));
        return;
    }
    let hints: &[&str] = if why.contains("lock file") {
        &["Cargo would change `Cargo.lock` first: build once, or `cargo update --workspace`"]
    } else if why.contains("offline") || why.contains("download") {
        &["`cargo fetch` brings the sources that Cargo needs to say what is live"]
    } else if why.contains("no project") {
        &["name the folder of the project that builds in it as well, or `--all` removes all of it"]
    } else {
        &[]
    };
    let hints: Vec<String> = hints.iter().map(|hint| (*hint).to_owned()).collect();
    shell.warning(&format!("`{}` is left as it is: {why}", path.display()), &hints);
}

pub(super) fn nothing(args: &SweepArgs, shell: &Shell) {
    if !shell.is_json() {
        shell.status(Tone::Dim, "nothing", "there is no target directory of Cargo's");
        if !args.recursive && !shell.is_quiet() {
            shell.err("hint: `--recursive` looks below the folder as well\n");
        }
    }
}

/// A plan as JSON, written as it is: a tree of values would take several times the plan's memory.
#[derive(serde::Serialize)]
struct PlanLine<'p> {
    kind: &'static str,
    target: String,
    configurations: Vec<serde_json::Value>,
    refused: Vec<serde_json::Value>,
    unknown_profiles: &'p std::collections::BTreeMap<String, String>,
    unreadable: Vec<serde_json::Value>,
    questions: usize,
    questions_remembered: usize,
    questions_us: u64,
    processes: u64,
    processes_us: u64,
    scan_us: u64,
    scanned: Option<u64>,
    measured: Option<u64>,
    plan: &'p SweepPlan,
}

/// The plan of one target directory.
pub(super) fn plan(surveyed: &Surveyed, plan: &SweepPlan, spent: Spent, shell: &Shell) {
    let target = surveyed.target.display().to_string();
    let scan = surveyed.scan.as_deref().ok();
    let asked_us: u64 = surveyed.asked.iter().map(|(_, one)| micros(one.wall)).sum();
    let remembered = surveyed.asked.iter().filter(|(_, one)| one.remembered).count();
    if shell.is_json() {
        let configuration = |one: &spolia_sweep::Configuration| json!({ "command": one.command.to_string(), "origin": one.origin, "used_at_us": one.used_at_us });
        let configurations: Vec<_> = surveyed.live.configurations.iter().map(configuration).collect();
        let refused: Vec<_> = surveyed
            .refused
            .iter()
            .map(|(command, why)| json!({ "command": command.to_string(), "why": why }))
            .collect();
        let unreadable: Vec<_> = scan
            .map(|scan| scan.unreadable.as_slice())
            .unwrap_or_default()
            .iter()
            .map(|(path, why)| json!({ "path": path.display().to_string(), "why": why }))
            .collect();
        shell.json_stream(&PlanLine {
            kind: "sweep-plan",
            target,
            configurations,
            refused,
            unknown_profiles: &surveyed.unknown,
            unreadable,
            questions: surveyed.asked.len(),
            questions_remembered: remembered,
            questions_us: asked_us,
            processes: spent.processes,
            processes_us: micros(spent.wall),
            scan_us: micros(surveyed.scanned_in),
            scanned: scan.map(|scan| scan.seen),
            measured: scan.map(|scan| scan.measured),
            plan,
        });
        return;
    }
    let mut lines: Vec<Vec<String>> =
        plan.entries.iter().take(SHOWN).map(|entry| columns(entry, plan, surveyed)).collect();
    if plan.entries.len() > SHOWN {
        let rest = &plan.entries[SHOWN..];
        let bytes = rest.iter().map(|entry| entry.bytes).sum();
        lines.push(vec![words::size(bytes), format!("{} more; `--json` lists all", rest.len())]);
    }
    if !shell.is_quiet() {
        shell.out(&format!("{target}\n{}", table(&lines, &[0])));
    }
    for (profile, why) in &surveyed.unknown {
        left(&surveyed.target.join(profile), why, shell);
    }
    for (path, why) in scan.map(|scan| scan.unreadable.as_slice()).unwrap_or_default() {
        shell.warning(&format!("cannot look at `{}`: {why}", surveyed.target.join(path).display()), &[]);
    }
    let origins = surveyed.live.configurations.iter().map(|one| one.origin);
    let declared = origins.clone().filter(|origin| *origin == Origin::Declared).count();
    let journal = origins.filter(|origin| *origin == Origin::Journal).count();
    let detected = surveyed.live.configurations.len() - declared - journal;
    let by: Vec<String> = [(declared, "declared"), (journal, "from the journal"), (detected, "detected")]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    // Cargo's own notes of what goes are not in the sum then.
    let at_least = if plan.is_partial { "at least " } else { "" };
    let goes = format!("{at_least}{} in {}", words::size(plan.bytes), counted(plan.entries.len(), "thing"));
    shell.status(Tone::Plain, "stale", &format!("{goes}{}", compiled_in(plan)));
    let bytes = plan.live_bytes.map(|bytes| format!(" ({})", words::size(bytes))).unwrap_or_default();
    let live = format!("{}{bytes}", counted(plan.live_units, "unit"));
    shell.status(Tone::Plain, "live", &format!("{live}, by configurations {}", by.join(", ")));
    if let Some(bytes) = plan.unknown_bytes.filter(|bytes| *bytes > 0) {
        let bytes = words::size(bytes);
        shell.status(Tone::Dim, "beside", &format!("{bytes} that is not Cargo's, and stays"));
    }
    if plan.above_limit {
        shell.warning("the limit cannot be kept: what is left may not go", &[]);
    }
}

/// How long the compilers of what goes took, as far as that was looked at.
fn compiled_in(plan: &SweepPlan) -> String {
    let units = || plan.entries.iter().filter(|entry| entry.hash.is_some());
    if !plan.is_partial {
        let whole: Option<u64> = units().map(|entry| entry.rebuild_us).sum();
        let whole = whole.filter(|us| *us > 0);
        return whole.map(|us| format!("; it took {} to compile", words::duration(us))).unwrap_or_default();
    }
    let known: Vec<u64> = units().take(SHOWN).filter_map(|entry| entry.rebuild_us).collect();
    match known.len() {
        0 => String::new(),
        1 => format!("; one of them took {} to compile", words::duration(known[0])),
        count => format!("; {count} of the largest took {} to compile", words::duration(known.iter().sum())),
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Bytes, what, and why.
fn columns(entry: &Entry, plan: &SweepPlan, surveyed: &Surveyed) -> Vec<String> {
    let path = plan.parts(entry).next().map(|part| part.path.display().to_string()).unwrap_or_default();
    let what = match (&entry.package, entry.hash) {
        (Some(package), Some(hash)) => {
            let targets = plan.targets(entry).join(", ");
            let targets = if targets.is_empty() { String::new() } else { format!(" ({targets})") };
            format!("{}/ {package}-{hash}{targets}", entry.profile)
        }
        _ => path,
    };
    let why = entry.why.as_ref().map(|why| because(why, surveyed));
    vec![words::size(entry.bytes), what, why.unwrap_or_default()]
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
        Why::ProgramGone => "made of a program that no configuration builds".to_owned(),
        Why::DocGone => "no configuration documents this crate".to_owned(),
        Why::NotWorthSaving => "of no use to a fresh checkout".to_owned(),
        Why::LeastRecentlyUsed { configuration } => {
            let number = usize::try_from(*configuration).unwrap_or(usize::MAX);
            let one = surveyed.live.configurations.get(number);
            let used = one.and_then(|one| one.used_at_us).map(|at| format!(", used {}", ago(at)));
            let command = one.map(|one| one.command.to_string()).unwrap_or_default();
            format!("least recently used: {command}{}", used.unwrap_or_default())
        }
        Why::All => "everything was asked for".to_owned(),
    }
}

/// What was done to one target directory.
pub(super) fn applied(target: &Path, applied: &Applied, args: &SweepArgs, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "sweep-applied",
            "target": target.display().to_string(),
            "quarantine": args.quarantine,
            "applied": applied,
        }));
        return;
    }
    for (path, why) in &applied.left {
        shell.warning(&format!("`{}` stays: {why}", target.join(path).display()), &[]);
    }
    for profile in &applied.busy {
        shell.warning(&format!("`{}` stays: a build runs in it", target.join(profile).display()), &[]);
    }
    if applied.outdated {
        shell.warning(
            &format!("`{}` is left as it is: its project changed since the plan was made", target.display()),
            &["`spolia sweep` again makes a new plan".to_owned()],
        );
        return;
    }
    if let Some(why) = &applied.hindered {
        shell.warning(
            &format!("nothing more can be put aside in `{}`: {why}", target.display()),
            &["without `--quarantine` it is deleted, which needs no room".to_owned()],
        );
    }
    let verb = if args.quarantine { "aside" } else { "removed" };
    let what = format!(
        "{} ({})",
        words::size(applied.bytes),
        counted(usize::try_from(applied.parts).unwrap_or(0), "file or folder")
    );
    let what = what.replace("file or folders", "files and folders");
    shell.status(if applied.stopped { Tone::Warning } else { Tone::Good }, verb, &what);
    if args.quarantine && applied.parts > 0 && !shell.is_quiet() {
        shell.err("hint: the room is free once the quarantine is dropped, in a week; `spolia sweep undo` puts it back\n");
    }
}

/// What was put back.
pub(super) fn restored(target: &Path, restored: &Restored, shell: &Shell) {
    if shell.is_json() {
        let target = target.display().to_string();
        shell.json_line(&json!({ "kind": "sweep-undo", "target": target, "restored": restored }));
        return;
    }
    for (path, why) in &restored.left {
        shell.warning(&format!("`{}` stays in quarantine: {why}", path.display()), &[]);
    }
    let count = counted(usize::try_from(restored.parts).unwrap_or(0), "thing");
    shell.status(Tone::Good, "restored", &format!("{count} in {}", target.display()));
}

/// The end.
pub(super) fn total(total: &Total, args: &SweepArgs, shell: &Shell, exit: Exit) {
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "sweep-total",
            "dry_run": args.dry_run,
            "planned_bytes": total.planned,
            "freed_bytes": total.freed,
            "removed": total.parts,
            "exit_code": exit.code(),
        }));
    } else if args.dry_run {
        shell.status(Tone::Dim, "dry run", "nothing was removed");
    }
}
