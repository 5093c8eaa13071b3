//! `spolia cache`: the local store, listed, checked, collected and cleared.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use spolia_build::manifest::CacheConf;
use spolia_build::state::State;
use spolia_core::event::{EventKind, StepOutcome};
use spolia_core::{ActionKey, Digest};
use spolia_store::gc::{self, GcPlan, GcReport, Listing, Policy, Why};
use spolia_store::journal::{self, RunFilter};
use spolia_store::{LocalStore, Space, StoreError, disk, uses, verify};

use super::collect;
use super::labels::Labels;
use super::why::{ago, counted};
use crate::cli::{CacheArgs, CacheCommand, GcArgs};
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::project::{self, Project, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// In how many of the newest runs hits are counted.
const RUNS_COUNTED: usize = 200;
/// Between two looks at whether a build runs.
const WAIT: Duration = Duration::from_millis(250);
/// How many entries of a plan are listed, without `--json`.
const PLANNED_SHOWN: usize = 20;

/// Runs it.
pub(crate) fn run(args: &CacheArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    match &args.command {
        CacheCommand::Ls { step } => ls(step.as_deref(), settings, shell),
        CacheCommand::Verify { heal } => check(*heal, settings, shell),
        CacheCommand::Gc(args) => collect(args, settings, shell),
        CacheCommand::Recompress { level, dry_run } => {
            super::recompress::run(*level, *dry_run, settings, shell)
        }
        CacheCommand::Pin { names } => super::pin::pin(names, settings, shell),
        CacheCommand::Unpin { names } => super::pin::unpin(names, settings, shell),
        CacheCommand::Clear { step, yes } => clear(step.as_deref(), *yes, settings, shell),
        CacheCommand::Dir => dir(settings, shell),
        CacheCommand::Size => size(settings, shell),
    }
}

pub(super) fn unreadable(error: &StoreError) -> Failure {
    Failure::from_error(Exit::Environment, error).hint("`spolia doctor` looks at the store")
}

/// One result as `ls` shows it.
struct Row {
    key: ActionKey,
    label: Option<String>,
    /// Of `spolia run`, quoted for a shell.
    command: Option<String>,
    project: Option<String>,
    stored_at_us: u64,
    used_at_us: u64,
    /// On disk, with its blobs, also those that it shares.
    bytes: u64,
    /// Whether all its blobs are there.
    whole: bool,
    hits: u64,
}

fn ls(step: Option<&str>, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    let listing = listing(&store)?;
    let (hits, runs) = hits(&store);
    let mut rows = rows(&store, &listing, &hits);
    if let Some(step) = step {
        rows.retain(|row| row.is_of(step));
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.used_at_us), row.key));
    if shell.is_json() {
        let results: Vec<_> = rows.iter().map(Row::json).collect();
        shell.json_line(&json!({
            "kind": "cache-ls",
            "dir": store.dir().display().to_string(),
            "results": results,
            "hits_counted_in_runs": runs,
            "store_bytes": listing.bytes(),
        }));
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        shell.err(&match step {
            Some(step) => format!("the store holds no result of `{step}`\n"),
            None => "the store holds no results\n".to_owned(),
        });
        return Ok(Exit::Success);
    }
    let heads = ["KEY", "RAN", "LAST USED", "SIZE", "HITS", "STEP"].map(str::to_owned);
    let mut lines = vec![heads.to_vec()];
    lines.extend(rows.iter().map(Row::columns));
    shell.out(&table(&lines, &[3, 4]));
    shell.status(
        Tone::Dim,
        "store",
        &format!(
            "{}, {} in all; hits are those of the last {}, and of all compiler calls that are counted",
            counted(rows.len(), "result"),
            words::size(listing.bytes()),
            counted(runs, "recorded run"),
        ),
    );
    Ok(Exit::Success)
}

impl Row {
    fn is_of(&self, step: &str) -> bool {
        let label = self.label.as_deref().unwrap_or_default();
        label == step || label.split_once(" (").is_some_and(|(name, _)| name == step)
    }

    fn columns(&self) -> Vec<String> {
        let label = self.label.as_deref().unwrap_or("(not recorded)");
        let command = self.command.as_ref().map(|command| format!(": {}", cut(command))).unwrap_or_default();
        let project = self.project.as_ref().map(|project| format!("  [{project}]")).unwrap_or_default();
        let damaged = if self.whole { "" } else { "  (damaged: not all of it is there)" };
        vec![
            self.key.0.short(),
            ago(self.stored_at_us),
            ago(self.used_at_us),
            words::size(self.bytes),
            self.hits.to_string(),
            format!("{label}{command}{project}{damaged}"),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "key": self.key,
            "step": self.label.as_deref().map(|label| label.split_once(" (").map_or(label, |(name, _)| name)),
            "label": self.label,
            "command": self.command,
            "project": self.project,
            "stored_at_us": self.stored_at_us,
            "used_at_us": self.used_at_us,
            "bytes": self.bytes,
            "whole": self.whole,
            "hits": self.hits,
        })
    }
}

/// One line of a terminal at most.
fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let text = text.replace('\n', " ");
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    let kept: String = text.chars().take(CHARS_MAX).collect();
    format!("{kept}…")
}

pub(super) fn listing(store: &LocalStore) -> Result<Listing, Failure> {
    let uses = uses::load(store).map_err(|error| unreadable(&error))?;
    gc::list(store, &uses, &gc::result_blobs).map_err(|error| unreadable(&error))
}

fn rows(store: &LocalStore, listing: &Listing, hits: &HashMap<ActionKey, u64>) -> Vec<Row> {
    let mut blob_bytes: HashMap<Digest, u64> = HashMap::new();
    for (digest, file) in &listing.blobs {
        *blob_bytes.entry(*digest).or_insert(0) += file.bytes;
    }
    let labels = Labels::of(store);
    let actions: HashMap<ActionKey, u64> =
        listing.actions.iter().map(|(key, file)| (*key, file.bytes)).collect();
    let row = |result: &gc::ListedResult| {
        let description = labels.describe(result.key);
        let script =
            description.explanation.lines.iter().find(|line| line.group == "run" && line.name == "2");
        let is_run = description.label.as_ref().is_some_and(|label| label.starts_with(super::run::NAME));
        let command = script.filter(|_| is_run).and_then(|line| super::run::command_in(&line.value));
        let blobs = result.blobs.as_deref().unwrap_or_default();
        let of_blobs: u64 = blobs.iter().filter_map(|digest| blob_bytes.get(digest)).sum();
        Row {
            key: result.key,
            command: command.map(str::to_owned),
            label: description.label,
            project: description.project,
            stored_at_us: u64::try_from(result.file.mtime_ns / 1000).unwrap_or(0),
            used_at_us: result.used_at_us,
            bytes: result.file.bytes + actions.get(&result.key).copied().unwrap_or(0) + of_blobs,
            whole: result.blobs.is_some() && blobs.iter().all(|digest| blob_bytes.contains_key(digest)),
            hits: hits.get(&result.key).copied().unwrap_or(0)
                + labels.called(result.key).map_or(0, |called| called.hits),
        }
    };
    listing.results.iter().map(row).collect()
}

/// How often each result was a hit in the newest runs of the journal, and how many runs these are.
fn hits(store: &LocalStore) -> (HashMap<ActionKey, u64>, usize) {
    let filter = RunFilter { newest: Some(RUNS_COUNTED), ..RunFilter::default() };
    let (mut hits, mut runs) = (HashMap::new(), 0);
    // A journal that cannot be read costs the rest of the count, which says of how many runs it is.
    let _unreadable = journal::read_runs(store, &filter, &mut |run| {
        runs += 1;
        for event in run.events {
            if let EventKind::StepFinished { key: Some(key), outcome: StepOutcome::Hit { .. }, .. } =
                event.kind
            {
                *hits.entry(key).or_insert(0) += 1;
            }
        }
    });
    (hits, runs)
}

/// Columns as wide as their widest cell; `right` ones are aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = widths[at];
            let cell =
                if right.contains(&at) { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn check(heal: bool, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    if heal && !store.is_writable() {
        return Err(Failure::environment(format!("`{}` cannot be written", store.dir().display()))
            .hint("without --heal it is only looked at"));
    }
    let report = verify::verify(&store, heal, now_us()).map_err(|error| unreadable(&error))?;
    let exit = if report.damaged.is_empty() { Exit::Success } else { Exit::Problems };
    if shell.is_json() {
        let damaged: Vec<_> = report.damaged.iter().map(damage_json).collect();
        shell.json_line(&json!({
            "kind": "cache-verify",
            "dir": store.dir().display().to_string(),
            "blobs": report.blobs,
            "results": report.results,
            "actions": report.actions,
            "bytes": report.bytes,
            "damaged": damaged,
            "healed": report.healed,
            "exit_code": exit.code(),
        }));
        return Ok(exit);
    }
    for damage in &report.damaged {
        shell.out(&format!("{damage}\n"));
    }
    let looked_at = format!(
        "{}, {}, {} ({})",
        counted(count(report.results), "result"),
        counted(count(report.actions), "action"),
        counted(count(report.blobs), "blob"),
        words::size(report.bytes)
    );
    if report.damaged.is_empty() {
        shell.status(Tone::Good, "sound", &looked_at);
        return Ok(exit);
    }
    let found = counted(report.damaged.len(), "problem");
    shell.status(Tone::Error, "damaged", &format!("{found} in {looked_at}"));
    let left = report.damaged.len() - count(report.healed);
    if !heal {
        shell.err("hint: `spolia cache verify --heal` removes what is damaged; builds make it again\n");
    } else if left == 0 {
        shell.status(Tone::Good, "healed", "all of it; what was removed is built again when it is needed");
    } else {
        shell.status(Tone::Warning, "healed", &format!("{} of {found}", report.healed));
        shell.err(
            "hint: what is left are files that are not the store's, or parts of a journal, which stay\n",
        );
    }
    Ok(exit)
}

pub(super) fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn damage_json(damage: &verify::Damage) -> serde_json::Value {
    use verify::Damage;
    let (kind, path) = match damage {
        Damage::Content { path, .. } => ("content", Some(path)),
        Damage::Unreadable { path, .. } => ("unreadable", Some(path)),
        Damage::Mode { path, .. } => ("mode", Some(path)),
        Damage::Stranger { path } => ("stranger", Some(path)),
        Damage::NotAResult { path, .. } => ("not-a-result", Some(path)),
        Damage::BlobsGone { .. } => ("blobs-gone", None),
        Damage::ResultGone { .. } => ("result-gone", None),
        Damage::Beside { path, .. } => ("beside", Some(path)),
    };
    let path = path.map(|path| spolia_core::path::escape(path.as_os_str().as_encoded_bytes()));
    json!({ "damage": kind, "path": path, "message": damage.to_string() })
}

/// `[cache]` of the project here; the default where there is none.
fn conf(settings: &Settings, shell: &Shell) -> Result<CacheConf, Failure> {
    if settings.manifest.is_none() && project::find(settings).is_err() {
        return Ok(CacheConf::default());
    }
    Project::load(settings, shell, None).map(|project| project.manifest.cache)
}

fn collect(args: &GcArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let GcArgs { max_size, max_age, min_free, no_wait, dry_run } = *args;
    let conf = conf(settings, shell)?;
    let store = open_store(settings)?;
    if !dry_run && !store.is_writable() {
        return Err(Failure::environment(format!("`{}` cannot be written", store.dir().display())));
    }
    if !dry_run {
        wait_for_builds(&store, no_wait, shell)?;
    }
    let mut policy = collect::policy(&conf, &store);
    policy.free_bytes = min_free.map_or(policy.free_bytes, |wanted| collect::missing_room(&store, wanted));
    policy.max_bytes = max_size.or(policy.max_bytes);
    policy.max_age = max_age.or(policy.max_age);
    let plan = collect::plan(&store, &policy).map_err(|error| unreadable(&error))?;
    if !shell.is_json() {
        show_plan(&plan, &policy, &store, shell);
        if let Some(bytes) = above_limit(&plan, &policy) {
            let what =
                format!("{} stay above the limit: pinned, or used in the last hour", words::size(bytes));
            shell.status(Tone::Dim, "kept", &what);
        }
    }
    let report = if dry_run {
        GcReport { plan, ..GcReport::default() }
    } else {
        let report = collect::now(&store, &policy).map_err(|error| unreadable(&error))?;
        report.ok_or_else(|| {
            Failure::environment("another process is collecting this store")
                .hint("try again when it has ended")
        })?
    };
    if shell.is_json() {
        shell.json_line(&gc_json(&report, &policy, dry_run));
    } else if dry_run {
        shell.status(Tone::Dim, "dry run", "nothing was removed");
    } else {
        let swept = if report.swept > 0 {
            format!(", and {} beside", counted(count(report.swept), "left-over"))
        } else {
            String::new()
        };
        let mounts = match report.removed_mounts {
            0 => String::new(),
            some => format!(" and {}", counted(count(some), "cache mount")),
        };
        let what = format!(
            "{}{mounts} ({}){swept}",
            counted(count(report.removed), "file"),
            words::size(report.removed_bytes)
        );
        shell.status(Tone::Good, "removed", &what);
    }
    Ok(Exit::Success)
}

/// Until no build runs with the store: what one has read is not noted as used before it ends.
fn wait_for_builds(store: &LocalStore, no_wait: bool, shell: &Shell) -> Result<(), Failure> {
    let running = || journal::running(store, &collect::is_alive).map_err(|error| unreadable(&error));
    let Some(run) = running()?.into_iter().next() else { return Ok(()) };
    if no_wait {
        return Err(Failure::environment(format!("a build runs with this store: {run}"))
            .hint("without --no-wait its end is waited for"));
    }
    shell.status(Tone::Dim, "waiting", &format!("for the build {run} to end"));
    let cancel = super::build::cancel_on_signals()?;
    while !running()?.is_empty() {
        if cancel.is_cancelled() {
            return Err(Failure::new(Exit::Interrupted, "stopped; nothing was removed"));
        }
        std::thread::sleep(WAIT);
    }
    Ok(())
}

fn show_plan(plan: &GcPlan, policy: &Policy, store: &LocalStore, shell: &Shell) {
    let limit = policy.max_bytes.map_or_else(|| "no limit".to_owned(), words::size);
    shell.out(&format!("the store holds {} (limit {limit})\n", words::size(plan.bytes_before)));
    let of = |why: Why| plan.removals.iter().filter(move |(_, reason, _)| *reason == why);
    for (why, words) in [
        (Why::Old, "not used for too long"),
        (Why::Size, "least recently used, to get below the limit"),
        (Why::Unreadable, "cannot be read"),
        (Why::Unreferenced, "needed by no result that stays"),
    ] {
        let bytes: u64 = of(why).map(|(_, _, file)| file.bytes).sum();
        if of(why).next().is_some() {
            let files = counted(of(why).count(), "file");
            shell.out(&format!("  {files}, {}: {words}\n", words::size(bytes)));
        }
    }
    for (mount, why) in &plan.mounts {
        let why = if *why == Why::Old { "not used for too long" } else { "least recently used" };
        let path = mount.path.strip_prefix(store.base()).unwrap_or(&mount.path).display();
        shell.out(&format!(
            "  {path}, {}: a cache mount, {why}, used {}\n",
            words::size(mount.bytes),
            ago(mount.used_at_us)
        ));
    }
    let results = plan.removals.iter().filter(|(entry, ..)| entry.space == Space::Result);
    let labels = Labels::of(store);
    for (entry, ..) in results.clone().take(PLANNED_SHOWN) {
        shell.out(&format!("    {}  {}\n", entry.digest.short(), labels.shown(ActionKey(entry.digest))));
    }
    let more = results.count().saturating_sub(PLANNED_SHOWN);
    if more > 0 {
        shell.out(&format!("    and {}\n", counted(more, "more result")));
    }
    shell.out(&format!(
        "to remove: {} of {}\n",
        words::size(plan.bytes_freed),
        words::size(plan.bytes_before)
    ));
}

/// Bytes by which a store stays above its limit; `None` where it does not.
fn above_limit(plan: &GcPlan, policy: &Policy) -> Option<u64> {
    let left = plan.bytes_before.saturating_sub(plan.bytes_freed);
    left.checked_sub(policy.max_bytes?).filter(|bytes| *bytes > 0)
}

fn gc_json(report: &GcReport, policy: &Policy, dry_run: bool) -> serde_json::Value {
    let removals = report.plan.removals.iter().map(|(entry, why, file)| {
        let why = match why {
            Why::Old => "old",
            Why::Size => "size",
            Why::Unreadable => "unreadable",
            Why::Unreferenced => "unreferenced",
        };
        json!({ "space": entry.space, "digest": entry.digest, "why": why, "bytes": file.bytes })
    });
    let mounts = report.plan.mounts.iter().map(|(mount, why)| {
        let why = if *why == Why::Old { "old" } else { "size" };
        json!({ "path": mount.path.display().to_string(), "why": why, "bytes": mount.bytes, "used_at_us": mount.used_at_us })
    });
    json!({
        "kind": "cache-gc",
        "dry_run": dry_run,
        "max_bytes": policy.max_bytes,
        "max_age_s": policy.max_age.map(|age| age.as_secs()),
        "bytes_before": report.plan.bytes_before,
        "bytes_planned": report.plan.bytes_freed,
        "bytes_above_limit": above_limit(&report.plan, policy),
        "planned": removals.collect::<Vec<_>>(),
        "planned_mounts": mounts.collect::<Vec<_>>(),
        "removed": report.removed,
        "removed_mounts": report.removed_mounts,
        "removed_bytes": report.removed_bytes,
        "swept": report.swept,
    })
}

/// The project whose memory a clearing concerns: its folder, and the name its results carry.
struct Here {
    root: std::path::PathBuf,
    project: String,
}

impl Here {
    fn find(settings: &Settings, shell: &Shell) -> Option<Self> {
        project::find(settings).ok()?;
        // One with mistakes has no name that could be told.
        let project = Project::load(settings, shell, None).ok()?;
        let name = project.manifest.name.clone();
        Some(Self { project: name.unwrap_or_else(|| project.root.display().to_string()), root: project.root })
    }
}

fn clear(step: Option<&str>, yes: bool, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    if !store.is_writable() {
        return Err(Failure::environment(format!("`{}` cannot be written", store.dir().display())));
    }
    let here = Here::find(settings, shell);
    let listing = listing(&store)?;
    let (only, what, bytes) = match step {
        None => {
            let what =
                format!("all {} of `{}`", counted(listing.results.len(), "result"), store.dir().display());
            (None, what, listing.bytes())
        }
        Some(step) => {
            let rows = rows(&store, &listing, &HashMap::new());
            let is_here = |row: &Row| {
                here.as_ref().is_none_or(|here| row.project.as_ref().is_none_or(|p| *p == here.project))
            };
            let rows: Vec<Row> = rows.into_iter().filter(|row| row.is_of(step) && is_here(row)).collect();
            let keys: HashSet<ActionKey> = rows.iter().map(|row| row.key).collect();
            let what = format!("{} of step `{step}`", counted(keys.len(), "result"));
            let bytes = rows.iter().map(|row| row.bytes).sum();
            (Some(keys), what, bytes)
        }
    };
    // `None` where nobody can answer; with `--json` that is a dry run, and said so.
    let answer = if yes { Some(true) } else { confirmed(&what, bytes, shell) };
    let agreed = answer == Some(true);
    let mut removed = (0, 0);
    if agreed {
        removed = gc::clear(&store, only.as_ref()).map_err(|error| unreadable(&error))?;
        if let Some(only) = &only {
            removed.1 += drop_blobs(&store, &listing, only);
        }
        if let Some(here) = &here {
            forget(&here.root, only.as_ref());
        }
        recount(&store)?;
    }
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "cache-clear",
            "step": step,
            "results": only.as_ref().map_or(listing.results.len(), HashSet::len),
            "bytes": bytes,
            "dry_run": !agreed,
            "removed": removed.0,
            "removed_bytes": removed.1,
        }));
    } else if agreed {
        shell.status(Tone::Good, "removed", &format!("{what} ({})", words::size(removed.1)));
    } else {
        shell.status(Tone::Dim, "kept", &format!("{what} ({}); nothing was removed", words::size(bytes)));
        shell.err("hint: `--yes` removes without asking\n");
        if answer.is_none() {
            return Ok(Exit::Usage);
        }
    }
    Ok(Exit::Success)
}

/// Asks, where somebody can answer.
fn confirmed(what: &str, bytes: u64, shell: &Shell) -> Option<bool> {
    let stdin = std::io::stdin();
    if shell.is_json() || !stdin.is_terminal() || !shell.talks_to_a_terminal() {
        return None;
    }
    shell.err(&format!("remove {what} ({})? [y/N] ", words::size(bytes)));
    let mut answer = String::new();
    Some(stdin.lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Removes the blobs that only the results in `gone` needed; their bytes. What a running build may be about
/// to name is as young as the grace of a collection, and stays.
fn drop_blobs(store: &LocalStore, listing: &Listing, gone: &HashSet<ActionKey>) -> u64 {
    let is_gone = |result: &&gc::ListedResult| gone.contains(&result.key);
    let kept: HashSet<Digest> = listing
        .results
        .iter()
        .filter(|result| !is_gone(result))
        .flat_map(|r| r.blobs.iter().flatten())
        .copied()
        .collect();
    let dropped: HashSet<Digest> = listing
        .results
        .iter()
        .filter(is_gone)
        .flat_map(|result| result.blobs.iter().flatten())
        .filter(|digest| !kept.contains(digest))
        .copied()
        .collect();
    let mut bytes = 0;
    for (digest, file) in listing.blobs.iter().filter(|(digest, _)| dropped.contains(digest)) {
        // A build that loses a blob it has just found sees a miss.
        if spolia_store::Store::remove(store, spolia_store::Entry::blob(*digest)).unwrap_or(false) {
            bytes += file.bytes;
        }
    }
    bytes
}

/// Forgets in a tree what was cleared, so that its next build does not take it from there. The outputs stay.
fn forget(root: &Path, only: Option<&HashSet<ActionKey>>) {
    let own = root.join(spolia_build::build::OWN_FOLDER);
    // Losing it costs the next build a look at everything.
    let _unremoved = std::fs::remove_dir_all(own.join("fresh"));
    let path = own.join("state");
    let mut state = State::load(&path);
    let before = state.steps.len();
    state.steps.retain(|_, step| only.is_some_and(|only| !only.contains(&step.key)));
    state.uses = None;
    if state.steps.len() != before {
        // At worst the next build finds the outputs in place and keeps them.
        let _unwritten = state.save(&path);
    }
}

fn recount(store: &LocalStore) -> Result<(), Failure> {
    let bytes = listing(store)?.bytes();
    spolia_store::size::set(store, bytes, now_us()).map_err(|error| unreadable(&error))
}

fn dir(settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let dir = settings.cache_dir()?;
    if shell.is_json() {
        shell.json_line(&json!({ "kind": "cache-dir", "dir": dir.display().to_string() }));
    } else {
        shell.out_bytes(&[dir.as_os_str().as_encoded_bytes(), b"\n"].concat());
    }
    Ok(Exit::Success)
}

fn size(settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    let listing = listing(&store)?;
    let sum =
        |files: &mut dyn Iterator<Item = u64>| files.fold((0usize, 0u64), |(n, sum), b| (n + 1, sum + b));
    let kinds = [
        ("results", sum(&mut listing.results.iter().map(|result| result.file.bytes))),
        ("actions", sum(&mut listing.actions.iter().map(|(_, file)| file.bytes))),
        ("blobs", sum(&mut listing.blobs.iter().map(|(_, file)| file.bytes))),
        ("mounts", {
            let files = listing.mounts.iter().map(|mount| count(mount.files)).sum();
            (files, listing.mounts.iter().map(|mount| mount.bytes).sum())
        }),
    ];
    let beside = [("journal", "journal"), ("digests", "digests")]
        .map(|(word, folder)| (word, disk::usage(&store.base().join(folder))))
        .map(|(word, usage)| (word, (usage.files, usage.bytes)));
    let limit = conf(settings, shell)?.max_size_bytes.unwrap_or(collect::MAX_SIZE_BYTES);
    if store.is_writable() {
        spolia_store::size::set(&store, listing.bytes(), now_us()).map_err(|error| unreadable(&error))?;
    }
    if shell.is_json() {
        let each = |all: &[(&str, (usize, u64))]| -> serde_json::Map<String, serde_json::Value> {
            let one = |(word, (files, bytes)): &(&str, (usize, u64))| {
                ((*word).to_owned(), json!({ "files": files, "bytes": bytes }))
            };
            all.iter().map(one).collect()
        };
        shell.json_line(&json!({
            "kind": "cache-size",
            "dir": store.dir().display().to_string(),
            "bytes": listing.bytes(),
            "max_bytes": limit,
            "entries": each(&kinds),
            "beside": each(&beside),
        }));
        return Ok(Exit::Success);
    }
    let line = |word: &str, (files, bytes): (usize, u64)| {
        vec![word.to_owned(), words::size(bytes), counted(files, "file")]
    };
    let mut rows: Vec<Vec<String>> = kinds.iter().map(|(word, sum)| line(word, *sum)).collect();
    rows.push(vec![
        "together".to_owned(),
        words::size(listing.bytes()),
        format!("of {}", words::size(limit)),
    ]);
    rows.extend(beside.iter().filter(|(_, (files, _))| *files > 0).map(|(word, sum)| line(word, *sum)));
    shell.out(&table(&rows, &[1]));
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned(), "x".to_owned()];
        assert_eq!(table(&[row("a", "1"), row("long", "100")], &[1]), "a       1  x\nlong  100  x\n");
    }
}
