//! `spolia sweep --caches`: one table of who holds how much, and one budget.

use serde_json::json;
use spolia_sweep::caches::{self, Cache, Done, Owner, Step, Surroundings};

use super::super::cache::{listing, table};
use super::super::{build::cancel_on_signals, collect};
use super::failure;
use crate::cli::SweepArgs;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::project::{self, Project, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// Runs it.
pub(super) fn run(args: &SweepArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let conf = match project::find(settings) {
        Ok(_) => Project::load(settings, shell, None)?.manifest.cache,
        Err(error) if settings.manifest.is_some() => return Err(error),
        Err(_) => spolia_build::manifest::CacheConf::default(),
    };
    let budget = args.budget.or(conf.budget_bytes);
    let cancel = cancel_on_signals()?;
    let env = settings.whole_env();
    let around = Surroundings { env: &env, home: &settings.home, cancel: &cancel };
    let mut found = caches::look(&around, None).map_err(|error| failure(&error))?;
    found.push(own(settings)?);
    found.sort_by_key(|cache| (std::cmp::Reverse(cache.bytes), cache.owner));
    let steps = caches::plan(&found, budget, args.older_than);
    show(&found, budget, &steps, shell);
    if args.dry_run {
        if !shell.is_json() {
            shell.status(Tone::Dim, "dry run", "nothing was removed");
        }
        return Ok(Exit::Success);
    }
    let mut exit = Exit::Success;
    // Planned anew after each step: what one owner could not free is another's to free.
    while let Some(step) = caches::plan(&found, budget, args.older_than).first() {
        let before = found.iter().find(|cache| cache.owner == step.owner);
        let done = match step.owner {
            Owner::Spolia => collect_own(step, before, &conf, args, settings),
            _ => caches::carry_out(step, &found, args.older_than, &around, now_us())
                .map_err(|error| failure(&error)),
        };
        let error = match done {
            Ok(()) => None,
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) => Some(failure.message),
        };
        let after = match step.owner {
            Owner::Spolia => own(settings)?.bytes,
            owner => {
                let now = caches::look(&around, Some(owner)).map_err(|error| failure(&error))?;
                now.iter().find(|cache| cache.owner == owner).map_or(Some(0), |cache| cache.bytes)
            }
        };
        let done = Done::new(step, before.and_then(|cache| cache.bytes), after, error);
        if done.error.is_some() {
            exit = Exit::Problems;
        }
        said(&done, shell);
        let cache = found.iter_mut().find(|cache| cache.owner == done.owner);
        // Each owner once: it has done what it could.
        if let Some(cache) = cache {
            (cache.bytes, cache.shrinks) = (done.after_bytes, false);
            cache.why = done.why.or(cache.why.take());
        }
    }
    let is_above = budget.is_some_and(|budget| !kept(&found, budget, shell));
    Ok(if is_above { Exit::Problems } else { exit })
}

/// Whether all that is left is within the budget; says who holds what, and why no less, where it is not.
fn kept(found: &[Cache], budget: u64, shell: &Shell) -> bool {
    let total: u64 = found.iter().filter_map(|cache| cache.bytes).sum();
    let kept = total <= budget;
    if shell.is_json() {
        // Of a cache whose size is not known nobody can say that it is within a budget.
        let known = !kept || found.iter().all(|cache| cache.bytes.is_some());
        let kept_or_unknown = known.then_some(kept);
        shell.json_line(&json!({
            "kind": "sweep-caches-left", "caches": found, "bytes": total, "budget_bytes": budget,
            "kept": kept_or_unknown,
        }));
        return kept;
    }
    if !kept {
        let left = format!("{} are left of a budget of {}", words::size(total), words::size(budget));
        let holds = found.iter().filter(|cache| cache.bytes != Some(0)).filter_map(|cache| {
            let bytes = cache.bytes.map_or_else(|| "an unknown number of bytes".to_owned(), words::size);
            Some(format!("`{}` holds {bytes}: {}", cache.owner.name(), cache.why.as_ref()?))
        });
        shell.warning(&left, &holds.collect::<Vec<_>>());
    }
    kept
}

/// Spolia's own store.
fn own(settings: &Settings) -> Result<Cache, Failure> {
    let store = open_store(settings)?;
    let bytes = listing(&store)?.bytes();
    Ok(Cache {
        owner: Owner::Spolia,
        folders: vec![store.dir().to_owned()],
        bytes: Some(bytes),
        why: None,
        shrinks: store.is_writable(),
    })
}

fn collect_own(
    step: &Step,
    before: Option<&Cache>,
    conf: &spolia_build::manifest::CacheConf,
    args: &SweepArgs,
    settings: &Settings,
) -> Result<(), Failure> {
    let store = open_store(settings)?;
    let running = spolia_store::journal::running(&store, &collect::is_alive);
    if running.is_ok_and(|running| !running.is_empty()) {
        return Err(Failure::environment("a build runs with the store"));
    }
    let mut policy = collect::policy(conf, &store);
    policy.max_age = args.older_than.or(policy.max_age);
    if args.older_than.is_none() {
        let bytes = before.and_then(|cache| cache.bytes).unwrap_or(0);
        policy.max_bytes = Some(bytes.saturating_sub(step.wanted_bytes));
    }
    let report =
        collect::now(&store, &policy).map_err(|error| Failure::from_error(Exit::Environment, &error))?;
    report.map(|_| ()).ok_or_else(|| Failure::environment("another process is collecting the store"))
}

fn show(found: &[Cache], budget: Option<u64>, steps: &[Step], shell: &Shell) {
    let total: u64 = found.iter().filter_map(|cache| cache.bytes).sum();
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "sweep-caches", "caches": found, "bytes": total, "budget_bytes": budget, "steps": steps,
        }));
        return;
    }
    let wanted = |owner: Owner| {
        let step = steps.iter().find(|step| step.owner == owner);
        let wanted = step.map(|step| match step.wanted_bytes {
            bytes if budget.is_some() => words::size(bytes),
            _ => "what is old".to_owned(),
        });
        wanted.unwrap_or_else(|| "-".to_owned())
    };
    let mut rows = vec![["CACHE", "HOLDS", "TO FREE", "WHERE"].map(str::to_owned).to_vec()];
    for cache in found {
        let places: Vec<String> = cache.folders.iter().map(|folder| folder.display().to_string()).collect();
        let mut place = places.join(", ");
        if let Some(why) = &cache.why {
            place = format!("{place}{}({why})", if place.is_empty() { "" } else { "  " });
        }
        rows.push(vec![
            cache.owner.name().to_owned(),
            cache.bytes.map_or_else(|| "not known".to_owned(), words::size),
            wanted(cache.owner),
            place,
        ]);
    }
    let limit = budget.map_or_else(|| "no budget".to_owned(), |budget| format!("of {}", words::size(budget)));
    rows.push(vec!["together".to_owned(), words::size(total), String::new(), limit]);
    shell.out(&table(&rows, &[1, 2]));
}

fn said(done: &Done, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(&json!({ "kind": "sweep-cache-done", "done": done }));
        return;
    }
    let name = done.owner.name();
    if let Some(error) = &done.error {
        shell.warning(&format!("`{name}` is as it was: {error}"), &[]);
        return;
    }
    let what = match (done.before_bytes, done.after_bytes) {
        (Some(before), Some(after)) => {
            format!(
                "{name}: {} freed, {} left",
                words::size(before.saturating_sub(after)),
                words::size(after)
            )
        }
        _ => format!("{name}: how much was not observed"),
    };
    shell.status(Tone::Good, "freed", &what);
}
