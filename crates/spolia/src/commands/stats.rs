//! `spolia stats` and `spolia why --last-compile`: what the compiler cache did.

use serde_json::json;
use spolia_cc::summary::{self, Counts, Summary};
use spolia_cc::tally::{self, Record, Tally};
use spolia_store::{LocalOptions, LocalStore};

use super::cache::table;
use crate::cli::StatsArgs;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// Reasons that are shown; `--json` has all.
const REASONS_SHOWN: usize = 12;

/// Runs it.
pub(crate) fn run(args: &StatsArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open(settings)?;
    if args.zero {
        let days = tally::zero(&store)
            .map_err(|error| Failure::environment(format!("cannot remove the statistics: {error}")))?;
        if shell.is_json() {
            shell.json_line(&json!({ "days_forgotten": days }));
        } else {
            shell.status(Tone::Good, "forgot", &format!("{days} days of statistics"));
        }
        return Ok(Exit::Success);
    }
    let since_us = args
        .since
        .map_or(0, |since| now_us().saturating_sub(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)));
    let tally = read(&store, since_us)?;
    let records = if args.session { summary::last_session(&tally.records) } else { &tally.records };
    let mut found = summary::summarise(records);
    found.unreadable = tally.unreadable;
    if shell.is_json() {
        shell.json_line(&found);
    } else {
        shell.out(&text(&found));
    }
    Ok(Exit::Success)
}

fn open(settings: &Settings) -> Result<LocalStore, Failure> {
    let dir = settings.cache_dir()?;
    LocalStore::open(&dir, LocalOptions::default())
        .map_err(|error| Failure::from_error(Exit::Environment, &error))
}

fn read(store: &LocalStore, since_us: u64) -> Result<Tally, Failure> {
    let mut tally = tally::read(store, since_us)
        .map_err(|error| Failure::environment(format!("cannot read the statistics: {error}")))?;
    // Lines are written when calls end, and calls overlap.
    tally.records.sort_by_key(|record| record.at_us);
    Ok(tally)
}

fn time(us: Option<u64>) -> String {
    us.map_or_else(|| "–".to_owned(), words::duration)
}

fn row(name: &str, counts: &Counts) -> Vec<String> {
    let percent = counts.hit_percent().map_or_else(|| "–".to_owned(), |percent| format!("{percent}%"));
    vec![
        name.to_owned(),
        counts.hits.to_string(),
        counts.misses.to_string(),
        percent,
        counts.not_cacheable.to_string(),
        counts.internal.to_string(),
        time(counts.saved_cpu_us),
        time(counts.own_cpu_us),
    ]
}

fn text(found: &Summary) -> String {
    if found.first_at_us.is_none() {
        return "no compiler calls were counted\n".to_owned();
    }
    let header = ["", "hits", "misses", "hit rate", "not cacheable", "errors", "CPU saved", "own CPU"];
    let mut rows = vec![header.map(str::to_owned).to_vec(), row("all calls", &found.all)];
    rows.extend(found.languages.iter().map(|(name, counts)| row(name, counts)));
    rows.extend(found.compilers.iter().map(|(name, counts)| row(name, counts)));
    let mut text = table(&rows, &[1, 2, 3, 4, 5, 6, 7]);
    text.push_str(&format!(
        "\n{} build sessions; {} put back, {} kept\n",
        found.sessions,
        words::size(found.all.restored_bytes),
        words::size(found.all.kept_bytes)
    ));
    let (given, kept) = (found.incremental_given_back, found.incremental_kept);
    if given.count + kept.count > 0 {
        text.push_str(&format!(
            "rustc's incremental data: {} times given back ({}), {} times kept ({})\n",
            given.count,
            words::size(given.bytes),
            kept.count,
            words::size(kept.bytes)
        ));
    }
    let faults = [
        ("read errors", found.read_errors),
        ("write errors", found.write_errors),
        ("waits that were too long", found.timeouts),
        ("hits compiled again and the same", found.verified),
        ("hits compiled again and NOT the same", found.verify_differs),
        ("hits compiled again, whose compiler differs from itself", found.verify_varies),
        ("lines that could not be read", found.unreadable),
    ];
    for (what, count) in faults.into_iter().filter(|(_, count)| *count > 0) {
        text.push_str(&format!("{count} {what}\n"));
    }
    if !found.reasons.is_empty() {
        let mut rows = vec![["why not", "", "calls", "mostly"].map(str::to_owned).to_vec()];
        for reason in found.reasons.iter().take(REASONS_SHOWN) {
            let mostly = reason.mostly.clone().unwrap_or_default();
            rows.push(vec![reason.outcome.clone(), reason.reason.clone(), reason.count.to_string(), mostly]);
        }
        text.push('\n');
        text.push_str(&table(&rows, &[2]));
    }
    text
}

/// `spolia why --last-compile`: the last call, or the last whose source ends with `source`.
pub(crate) fn last_compile(source: &str, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let tally = read(&open(settings)?, 0)?;
    let is_it = |record: &&Record| match &record.source {
        Some(found) => found.ends_with(source),
        None => source.is_empty(),
    };
    let Some(record) = tally.records.iter().rev().find(is_it) else {
        return Err(match source {
            "" => {
                Failure::usage("no compiler call was counted").hint("`spolia cc --help` says how to make one")
            }
            _ => Failure::usage(format!("no counted compiler call has a source that ends with `{source}`")),
        });
    };
    if shell.is_json() {
        shell.json_line(record);
        return Ok(Exit::Success);
    }
    shell.out(&told(record));
    shell.status(Tone::Dim, "more", "with SPOLIA_LOG=FILE a call writes down every step it takes");
    Ok(Exit::Success)
}

fn told(record: &Record) -> String {
    let mut text = String::new();
    let source = record.source.as_deref().unwrap_or("no source");
    text.push_str(&format!("{} of {source} in {}\n", record.compiler, record.folder));
    let detail = record.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let reason = record.reason.as_deref().unwrap_or_default();
    text.push_str(&match record.outcome.as_str() {
        "hit" => "a hit: every file, name and variable that it depends on is as it was\n".to_owned(),
        "miss" => format!("a miss, {reason}{detail}\n"),
        "not-cacheable" => format!("not cacheable, {reason}{detail}\n"),
        "pass-through" => format!("passed through, {reason}\n"),
        _ => format!("a failure of Spolia's{detail}; the compiler ran\n"),
    });
    if let Some(why) = &record.not_stored {
        text.push_str(&format!("its result was not kept: {why}\n"));
    }
    if let Some(bytes) = record.incremental_given_back_bytes {
        text.push_str(&format!("rustc was given back its incremental data, {}\n", words::size(bytes)));
    }
    if let Some(bytes) = record.incremental_kept_bytes {
        text.push_str(&format!("rustc's incremental data was kept, {}\n", words::size(bytes)));
    }
    let verb = if record.outcome == "hit" { "saved" } else { "took" };
    text.push_str(&format!(
        "the compile {verb} {} of CPU, Spolia itself {}\n",
        time(record.compile_cpu_us),
        time(record.own_cpu_us)
    ));
    if let Some(key) = &record.key {
        text.push_str(&format!("key {key}\n"));
    }
    text
}
