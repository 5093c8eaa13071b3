//! What is said of packing: the plan, how far it is, what was made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use spolia_build::Planned;
use spolia_core::calendar::civil;
use spolia_dist::plan::{Kind, Origin};
use spolia_dist::record;
use spolia_dist::release::Made;
use spolia_dist::{DistError, PlatformPlan, Release};

use super::gather::{self, TreeFiles};
use super::{Chosen, Dist, Work, failure, status};
use crate::commands::look::{look, names, word};
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::settings::Settings;
use crate::shell::Shell;

/// How a release came to be in its place.
pub(super) enum How {
    /// It was there.
    Fresh,
    /// From the store.
    Restored,
    /// Made now.
    Packed {
        /// How long it took.
        wall_us: Option<u64>,
    },
}

/// Says what is there now.
pub(super) fn done(shell: &Shell, release: &Release<'_>, made: &[Made], out: &Path, how: How) {
    let (verb, word, wall_us) = match how {
        How::Fresh => ("Fresh", "fresh", None),
        How::Restored => ("Restored", "restored", None),
        How::Packed { wall_us } => ("Packed", "packed", wall_us),
    };
    if shell.is_json() {
        let files: Vec<_> = made
            .iter()
            .map(|made| json!({ "name": made.name, "size": made.size, "digest": made.digest }))
            .collect();
        shell.json_line(&json!({
            "kind": "release",
            "name": release.dist.name,
            "outcome": word,
            "folder": out,
            "dirty": release.facts.is_dirty(),
            "wall_us": wall_us,
            "files": files,
        }));
        return;
    }
    let size = |name: &str| made.iter().find(|made| made.name == name).map(|made| words::size(made.size));
    for plan in release.plans {
        let files = plan.members.iter().filter(|member| matches!(member.kind, Kind::File { .. })).count();
        let size = size(&plan.archive).unwrap_or_default();
        let counted = crate::commands::why::counted(files, "file");
        status(shell, verb, &format!("{} ({counted}, {size})", out.join(&plan.archive).display()));
    }
    let more = made.len().saturating_sub(release.plans.len());
    let time = wall_us.map(|us| format!(" in {}", words::duration(us))).unwrap_or_default();
    let dirty = if release.facts.is_dirty() == Some(true) {
        "; the tree has changes that are in no commit"
    } else {
        ""
    };
    status(shell, verb, &format!("{} and {more} files beside the archives{time}{dirty}", release.dist.name));
}

/// Tells how far packing is, on a terminal.
pub(super) struct Progress<'p> {
    shell: &'p Shell,
    name: String,
    total: u64,
    done: AtomicU64,
    drawn: AtomicBool,
    last: Mutex<Option<Instant>>,
    on: bool,
}

/// How often it is drawn.
const PACE: Duration = Duration::from_millis(100);

impl<'p> Progress<'p> {
    pub(super) fn new(settings: &Settings, shell: &'p Shell, name: &str, total: u64) -> Self {
        Self {
            shell,
            name: name.to_owned(),
            total,
            done: AtomicU64::new(0),
            drawn: AtomicBool::new(false),
            last: Mutex::new(None),
            on: settings.fancy,
        }
    }

    /// So many bytes more were read.
    #[expect(clippy::disallowed_methods, reason = "the edge: the display has its own pace")]
    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !self.on {
            return;
        }
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.duration_since(last) < PACE) {
            return;
        }
        *last = Some(now);
        drop(last);
        self.drawn.store(true, Ordering::Relaxed);
        let percent = (done * 100).checked_div(self.total).unwrap_or(100).min(100);
        let what = format!("{} {percent}% of {}", self.name, words::size(self.total));
        let line = self.shell.status_line(crate::shell::Tone::Good, "Packing", &what);
        self.shell.err(&format!("\r{line}\x1b[K"));
    }

    /// Takes the line away.
    pub(super) fn close(&self) {
        if self.drawn.load(Ordering::Relaxed) {
            self.shell.err("\r\x1b[K");
        }
    }
}

/// `run.json`: what is true of this run only.
pub(super) fn write_run(
    folder: &Path,
    work: &Work<'_>,
    release: &Release<'_>,
    began_us: u64,
    wall_us: Option<u64>,
    outcome: &str,
) -> Result<(), DistError> {
    let uname = rustix::system::uname();
    let words = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let keys: BTreeMap<String, String> =
        release.steps().iter().map(|built| (built.id.to_string(), built.key.to_string())).collect();
    let run = json!({
        "format": "spolia dist run",
        "format_version": 1,
        "outcome": outcome,
        "began_at": civil(began_us / 1_000_000).rfc3339(),
        "wall_us": wall_us,
        "host": words(uname.nodename()),
        "system": format!("{} {} {}", words(uname.sysname()), words(uname.release()), words(uname.machine())),
        "uid": rustix::process::geteuid().as_raw(),
        "folder": work.root(),
        "spolia": release.spolia,
        "action_keys": keys,
        "steps": work.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    });
    let path = folder.join(record::RUN);
    std::fs::write(&path, record::to_json(&run)).map_err(|source| DistError::io("write", path, source))
}

/// `--dry-run`: what would be packed, where that is known before the steps have run.
pub(super) fn dry_run(work: &Work<'_>, all: &[Dist], chosen: &[Chosen<'_>]) -> Result<Exit, Failure> {
    let cancel = work.cancel_never()?;
    let facts = work.facts_of(all, chosen, &cancel)?;
    let options = gather::options(work, chosen);
    let mut built = BTreeMap::new();
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    if !options.steps.is_empty() {
        look(work.project, &options, work.settings, work.shell, |build, plan| {
            for (id, planned) in &plan.nodes {
                match planned {
                    Planned::UpToDate(known) | Planned::Restore(known, _) => {
                        let outputs = known.result.outputs.clone();
                        let explanation = build.explain_now(plan, *id);
                        let one = gather::of_node(work, build.graph(), *id, known.key, outputs, explanation);
                        built.insert(one.id.clone(), one);
                    }
                    Planned::Run(..) | Planned::Depends(_) | Planned::Broken(_) => {
                        open.insert(names(build, &[*id]), word(planned).to_owned());
                    }
                }
            }
            Ok(())
        })?;
    }
    for (step, word) in &open {
        if work.shell.is_json() {
            work.shell.json_line(&json!({ "kind": "planned", "step": step, "plan": word }));
        } else {
            work.shell.out(&format!("{word:<8} {step}\n"));
        }
    }
    let files = TreeFiles::new(work, all, chosen)?;
    for (one, facts) in chosen.iter().zip(&facts) {
        match work.plans(one, facts, &built, &files) {
            Ok(plans) => plans.iter().for_each(|plan| show_plan(work.shell, one, plan)),
            // Not known before these have run.
            Err(DistError::NotBuilt { .. }) if !open.is_empty() => {
                let line = format!("[dist.{}] is known when these steps have run\n", one.dist.name);
                if !work.shell.is_json() {
                    work.shell.out(&line);
                }
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    Ok(Exit::Success)
}

fn show_plan(shell: &Shell, one: &Chosen<'_>, plan: &PlatformPlan) {
    if shell.is_json() {
        let files: Vec<_> =
            plan.members.iter().map(|member| record::MemberRecord::new(member, None)).collect();
        shell.json_line(&json!({
            "kind": "planned-archive",
            "name": one.dist.name,
            "platform": plan.platform,
            "archive": plan.archive,
            "files": files,
        }));
        return;
    }
    shell.out(&format!(
        "pack     {} ({}): {}\n",
        plan.archive,
        plan.platform,
        words::size(plan.size_bytes())
    ));
    for member in &plan.members {
        let from = match &member.origin {
            Origin::Step(id) => format!("  from {id}"),
            Origin::Tree(path) if *path != member.path => format!("  from {path}"),
            _ => String::new(),
        };
        let end = if member.kind == Kind::Folder { "/" } else { "" };
        shell.out(&format!("  {:04o} {}{end}{from}\n", member.mode, member.path));
    }
}
