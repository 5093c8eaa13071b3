//! `spolia sweep`: target directories, looked at, planned and swept.

mod caches;
mod past;
pub(in crate::commands) mod report;
mod schedule;

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spolia_core::RelPath;
use spolia_engine::Cancel;
use spolia_sweep::apply::{self, Applied, Guide, PutAside};
use spolia_sweep::cargo::Asker;
use spolia_sweep::find::{self, FindOptions};
use spolia_sweep::manifest::{self, SweepConf};
use spolia_sweep::quarantine::{self, Quarantine};
use spolia_sweep::survey::{self, Request, Survey, Surveyed};
use spolia_sweep::{Policy, SweepError, SweepPlan, fingerprint, plan};

use super::build::cancel_on_signals;
use crate::cli::{SweepArgs, SweepCommand, SweepPolicy};
use crate::exit::{Exit, Failure};
use crate::project::{self, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;
const GB: u64 = 1_000_000_000;
/// Where `--stamp` writes down the time, in each target directory.
const STAMP: &str = ".spolia-stamp";
/// Answers of Cargo that nobody asked for in so long are forgotten.
const MEMO_AGE: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Runs it.
pub(crate) fn run(args: &SweepArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    if let Some(SweepCommand::Undo { paths }) = &args.command {
        return undo(&absolute(paths, settings), args.no_wait, shell);
    }
    if args.schedule {
        return schedule::print(args, settings, shell);
    }
    if args.caches {
        return caches::run(args, settings, shell);
    }
    let cancel = cancel_on_signals()?;
    let env = settings.whole_env();
    let program = std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot find spolia's own program: {error}")))?;
    let store = open_store(settings).ok();
    let memo =
        store.as_ref().filter(|store| store.is_writable()).map(|store| store.base().join("sweep/names"));
    let conf = conf(settings)?;
    let scratch = scratch(settings);
    let asker = Asker::new(&env, &program, &scratch, memo.clone(), &cancel);
    let keep_last = conf.keep_last.unwrap_or(manifest::KEEP_LAST);
    let policy = &args.policy;
    let request = Request {
        paths: absolute(&args.paths, settings),
        find: FindOptions { recursive: args.recursive, hidden: args.hidden },
        declared: conf.commands.clone(),
        journal: store.as_ref().map(|store| past::builds(store, keep_last)).unwrap_or_default(),
        threads: settings.processors(),
        keep_live: policy.all
            || policy.for_cache_save
            || policy.max_size.is_some()
            || policy.min_free.is_some(),
        sizes: args.sizes,
        // When a unit was built stands beside its fingerprint.
        notes: policy.time.is_some() || policy.file || policy.auto || args.quarantine,
        details: shell.is_json() || policy.installed || !policy.toolchains.is_empty(),
        everything: policy.all,
    };
    let line = report::Line::new(settings, shell);
    let go_on = |progress: survey::Progress<'_>| {
        line.show(&progress);
        !cancel.is_cancelled()
    };
    let survey = survey::survey(&request, &asker, &go_on);
    line.clear();
    // The process is about to end: giving back every name one by one is a few hundredths of a sweep.
    let survey = ManuallyDrop::new(survey.map_err(|error| failure(&error))?);
    // Only where something new was remembered.
    if let Some(memo) = memo.filter(|_| asker.spent().processes > 0) {
        forget_old(&memo);
    }
    Sweep { args, conf: &conf, asker: &asker, cancel: &cancel, shell, line }.all(&survey)
}

struct Sweep<'s> {
    args: &'s SweepArgs,
    conf: &'s SweepConf,
    asker: &'s Asker<'s>,
    cancel: &'s Cancel,
    shell: &'s Shell,
    line: report::Line,
}

impl Sweep<'_> {
    fn all(&self, survey: &Survey) -> Result<Exit, Failure> {
        let mut exit = Exit::Success;
        for (path, why) in &survey.problems {
            report::left(path, why, self.shell);
            exit = Exit::Problems;
        }
        if survey.targets.is_empty() && survey.problems.is_empty() {
            report::nothing(self.args, self.shell);
        }
        let mut total = report::Total::default();
        for surveyed in &survey.targets {
            match self.one(surveyed, &mut total)? {
                Exit::Success => {}
                Exit::Interrupted => {
                    report::total(&total, self.args, self.shell, Exit::Interrupted);
                    return Ok(Exit::Interrupted);
                }
                other => exit = other,
            }
        }
        report::total(&total, self.args, self.shell, exit);
        Ok(exit)
    }

    fn one(&self, surveyed: &Surveyed, total: &mut report::Total) -> Result<Exit, Failure> {
        let scan = match &surveyed.scan {
            Ok(scan) => scan,
            Err(why) => {
                report::left(&surveyed.target, why, self.shell);
                return Ok(Exit::Problems);
            }
        };
        let now = now_us();
        if self.args.policy.stamp {
            return stamp(&surveyed.target, now, self.shell).map(|()| Exit::Success);
        }
        let policy = self.policy(surveyed, now)?;
        let mut plan = plan::plan(scan, &surveyed.live, &policy, now);
        let root = apply::open_target(&surveyed.target).map_err(|error| failure(&error))?;
        plan.explain(report::SHOWN, &surveyed.live, &policy, &mut |path| {
            fingerprint::read_below(&root, path)
        });
        report::plan(surveyed, &plan, self.asker.spent(), self.shell);
        let mut exit = if scan.unreadable.is_empty() && surveyed.unknown.is_empty() && !plan.above_limit {
            Exit::Success
        } else {
            Exit::Problems
        };
        total.planned += plan.bytes;
        if self.args.dry_run {
            return Ok(exit);
        }
        let age_us = self.conf.quarantine_age_s.unwrap_or(manifest::QUARANTINE_AGE_S) * 1_000_000;
        let kept_from = if self.args.policy.all { u64::MAX } else { now.saturating_sub(age_us) };
        if let Err(error) = quarantine::drop_older(&surveyed.target, kept_from) {
            self.shell.warning(&spolia_engine::perform::chain(&error), &[]);
            exit = Exit::Problems;
        }
        if !plan.entries.is_empty() {
            let applied = self.apply(surveyed, &plan, now)?;
            total.freed += applied.bytes;
            total.parts += applied.parts;
            report::applied(&surveyed.target, &applied, self.args, self.shell);
            if applied.stopped || self.cancel.is_cancelled() {
                return Ok(Exit::Interrupted);
            }
            if !applied.left.is_empty() || applied.outdated || applied.hindered.is_some() {
                exit = Exit::Problems;
            }
        }
        if self.args.policy.file {
            // It has said what it had to say.
            let _gone = std::fs::remove_file(surveyed.target.join(STAMP));
        }
        Ok(exit)
    }

    fn apply(&self, surveyed: &Surveyed, plan: &SweepPlan, now: u64) -> Result<Applied, Failure> {
        let mut waiting = Waiting::new(&surveyed.target, self.args.no_wait, self.cancel, self.shell);
        let mut guide = Guide {
            wait: &mut |profile| waiting.goes_on(profile),
            still_true: &mut || {
                surveyed.workspaces.iter().all(|workspace| {
                    self.args.policy.all
                        || self.asker.workspace(&workspace.root).is_ok_and(|now| now.basis == workspace.basis)
                })
            },
            go_on: &mut |freed| {
                self.line.removing(freed);
                !self.cancel.is_cancelled()
            },
        };
        let applied = if self.args.quarantine {
            let mut aside = Quarantine::open(&surveyed.target, now).map_err(|error| failure(&error))?;
            let mut put = |root: &_, part: &_| aside.put(root, part);
            let put: &mut PutAside<'_> = &mut put;
            apply::apply(&surveyed.target, plan, &mut guide, Some(put))
        } else {
            apply::apply(&surveyed.target, plan, &mut guide, None)
        };
        self.line.clear();
        applied.map_err(|error| failure(&error))
    }

    fn policy(&self, surveyed: &Surveyed, now: u64) -> Result<Policy, Failure> {
        let SweepPolicy {
            time,
            installed,
            toolchains,
            workspace,
            stamp: _,
            file,
            max_size,
            min_free,
            auto,
            for_cache_save,
            all,
        } = &self.args.policy;
        let members = surveyed.workspaces.iter().flat_map(|workspace| &workspace.members);
        let mut policy = Policy {
            members: members.map(|member| (member.name.clone(), member.version.clone())).collect(),
            unknown_profiles: surveyed.unknown.keys().cloned().collect(),
            built_before_us: time.map(|days| now.saturating_sub(days.saturating_mul(DAY_US))),
            max_bytes: *max_size,
            for_cache_save: *for_cache_save,
            all: *all,
            ..Policy::default()
        };
        if *workspace {
            policy.only_packages = Some(policy.members.keys().cloned().collect());
        }
        if *file {
            let at = read_stamp(&surveyed.target)?;
            policy.built_before_us = Some(policy.built_before_us.map_or(at, |before| before.min(at)));
        }
        let free = free_bytes(&surveyed.target)?;
        // With room enough, what became stale lately may be wanted again. Nothing live goes by this.
        if *auto && free >= 20 * GB {
            policy.built_before_us = Some(now.saturating_sub(7 * DAY_US));
        }
        policy.free_bytes = min_free.map(|wanted| wanted.saturating_sub(free));
        if *installed || !toolchains.is_empty() {
            let root = surveyed.workspaces.first().map_or(surveyed.target.as_path(), |one| &one.root);
            let mut names: Vec<Option<String>> = toolchains.iter().cloned().map(Some).collect();
            if *installed {
                names.extend(self.asker.installed(root).into_iter().map(Some));
                names.push(None);
            }
            let mut kept = std::collections::BTreeSet::new();
            for name in &names {
                kept.insert(self.asker.compiler(name.as_deref()).map_err(|error| failure(&error))?);
            }
            if *installed {
                policy.installed = Some(kept.clone());
            }
            policy.keep_compilers = Some(kept);
        }
        Ok(policy)
    }
}

/// Waits for a build in a target directory, and says so once.
struct Waiting<'w> {
    target: &'w Path,
    no_wait: bool,
    cancel: &'w Cancel,
    shell: &'w Shell,
    said: Option<String>,
}

impl<'w> Waiting<'w> {
    fn new(target: &'w Path, no_wait: bool, cancel: &'w Cancel, shell: &'w Shell) -> Self {
        Self { target, no_wait, cancel, shell, said: None }
    }

    fn goes_on(&mut self, profile: &str) -> bool {
        if self.no_wait || self.cancel.is_cancelled() {
            return false;
        }
        if self.said.as_deref() != Some(profile) {
            self.said = Some(profile.to_owned());
            let place = self.target.join(profile);
            self.shell.status(Tone::Dim, "waiting", &format!("a build runs in {}", place.display()));
        }
        true
    }
}

fn failure(error: &SweepError) -> Failure {
    match error {
        SweepError::Stopped => Failure::new(Exit::Interrupted, "stopped; nothing was removed"),
        SweepError::Start { program, .. } if program == "cargo" => {
            Failure::from_error(Exit::Environment, error).hint("without Cargo nobody can say what is live")
        }
        SweepError::Cargo { .. } | SweepError::NoQuarantine { .. } => Failure::from_error(Exit::Usage, error),
        error => Failure::from_error(Exit::Environment, error),
    }
}

fn absolute(paths: &[PathBuf], settings: &Settings) -> Vec<PathBuf> {
    if paths.is_empty() {
        return vec![settings.cwd.clone()];
    }
    paths.iter().map(|path| settings.cwd.join(path)).collect()
}

/// `[sweep]` of the manifest here, if there is one.
fn conf(settings: &Settings) -> Result<SweepConf, Failure> {
    let Ok((root, name)) = project::find(settings) else {
        return match &settings.manifest {
            Some(_) => project::find(settings).map(|_| SweepConf::default()),
            None => Ok(SweepConf::default()),
        };
    };
    let text = std::fs::read_to_string(root.join(&name)).unwrap_or_default();
    let file = RelPath::new(&name).unwrap_or_else(|_| RelPath::root());
    manifest::parse(file, &text).map_err(|diagnostics| Failure {
        exit: Exit::Usage,
        message: String::new(),
        hints: Vec::new(),
        diagnostics,
    })
}

/// Where skeletons are made: on a full disk, which is why one sweeps, they find room in memory.
fn scratch(settings: &Settings) -> PathBuf {
    const ROOM_BYTES: u64 = 256 << 20;
    let usual = settings.temp_dir();
    let memory = PathBuf::from("/dev/shm");
    let has_room = |folder: &Path| free_bytes(folder).is_ok_and(|free| free >= ROOM_BYTES);
    if !has_room(&usual) && has_room(&memory) { memory } else { usual }
}

fn forget_old(memo: &Path) {
    for entry in std::fs::read_dir(memo).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > MEMO_AGE) {
            let _gone = std::fs::remove_file(entry.path());
        }
    }
}

/// Bytes that this user may still write to the file system of a folder.
fn free_bytes(folder: &Path) -> Result<u64, Failure> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|error| Failure::environment(format!("cannot look at `{}`: {error}", folder.display())))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn stamp(target: &Path, now: u64, shell: &Shell) -> Result<(), Failure> {
    let path = target.join(STAMP);
    std::fs::write(&path, format!("spolia stamp 1\n{now}\n"))
        .map_err(|error| Failure::environment(format!("cannot write `{}`: {error}", path.display())))?;
    if shell.is_json() {
        let target = target.display().to_string();
        shell.json_line(&serde_json::json!({ "kind": "sweep-stamp", "target": target, "at_us": now }));
    } else {
        shell.status(Tone::Good, "stamped", &target.display().to_string());
    }
    Ok(())
}

fn read_stamp(target: &Path) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(target.join(STAMP)).unwrap_or_default();
    let at = text.strip_prefix("spolia stamp 1\n").and_then(|rest| rest.trim_end().parse().ok());
    at.ok_or_else(|| {
        Failure::usage(format!("there is no stamp in `{}`", target.display()))
            .hint("`spolia sweep --stamp` writes one")
    })
}

/// Puts the newest quarantine of every target directory back.
fn undo(paths: &[PathBuf], no_wait: bool, shell: &Shell) -> Result<Exit, Failure> {
    let mut targets = find::find(paths, FindOptions::default()).targets;
    // One that was swept wholly may have no profile left to be known by.
    let named = paths.iter().flat_map(|path| [path.clone(), path.join("target")]);
    targets.extend(
        named
            .filter(|path| path.join(quarantine::FOLDER).is_dir())
            .filter_map(|path| path.canonicalize().ok()),
    );
    targets.sort();
    targets.dedup();
    let (mut exit, cancel) = (None, cancel_on_signals()?);
    for target in &targets {
        let Some(name) = quarantine::names(target).pop() else { continue };
        let mut waiting = Waiting::new(target, no_wait, &cancel, shell);
        let restored = quarantine::restore(target, &name, &mut |profile| waiting.goes_on(profile));
        let restored = restored.map_err(|error| failure(&error))?;
        report::restored(target, &restored, shell);
        let one = if restored.left.is_empty() { Exit::Success } else { Exit::Problems };
        exit = Some(exit.filter(|exit| *exit == Exit::Problems).unwrap_or(one));
    }
    exit.ok_or_else(|| {
        Failure::usage("nothing was put aside here")
            .hint("`spolia sweep --quarantine` puts aside instead of deleting")
    })
}
