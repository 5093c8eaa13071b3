//! `spolia perf compare`, and how a comparison is shown.

use spolia_perf::compare::{Comparison, StepComparison, compare, mark_accepted};
use spolia_perf::record::Record;
use spolia_perf::verdict::{Test, percent};
use spolia_perf::{Rule, Verdict, Word};

use super::monitor::write_text;
use super::{Perf, failure, operand, words};
use crate::cli::perf::CompareArgs;
use crate::exit::{Exit, Failure};
use crate::shell::{Shell, Tone};

/// Runs it.
pub(crate) fn run(args: &CompareArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let of = |name: &str| -> Result<Vec<Record>, Failure> {
        let mut records = operand::records(name, perf)?;
        if let Some(subject) = &args.subject {
            records.retain(|record| record.facts.subject == *subject);
            if records.is_empty() {
                return Err(Failure::usage(format!("`{name}` has no measurements of `{subject}`")));
            }
        }
        Ok(records)
    };
    let (before, after) = (of(&args.before)?, of(&args.after)?);
    let mut found = compare(&before, &after, &Rule::default()).map_err(|error| failure(&error))?;
    if found.iter().any(Comparison::is_worse) {
        let baselines = perf.index()?.baselines(Some(&perf.root_text())).map_err(|error| failure(&error))?;
        mark_accepted(&mut found, &before, &after, &baselines);
    }
    if let Some(path) = &args.export_markdown {
        write_text(&perf.settings.cwd.join(path), &markdown(&found))?;
    }
    let exit = if found.iter().any(Comparison::is_worse) { Exit::Regression } else { Exit::Success };
    if perf.settings.json {
        let value = serde_json::json!({
            "before": args.before, "after": args.after, "rule": Rule::default(), "comparisons": found,
            "exit_code": exit.code(),
        });
        perf.shell.json_line(&value);
    } else {
        found.iter().for_each(|comparison| show(comparison, perf.shell));
    }
    Ok(exit)
}

fn tone(word: Word) -> Tone {
    match word {
        Word::Faster => Tone::Good,
        Word::Slower => Tone::Error,
        Word::Same => Tone::Plain,
        Word::Inconclusive => Tone::Warning,
    }
}

/// One comparison, for a person.
pub(super) fn show(comparison: &Comparison, shell: &Shell) {
    let platform = comparison.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
    let state = comparison.state.map(|state| format!(", {}", state.text())).unwrap_or_default();
    shell.out(&format!("{}{platform}{state}\n", comparison.subject));
    show_verdicts(comparison, shell);
}

/// The same without saying of what.
pub(super) fn show_verdicts(comparison: &Comparison, shell: &Shell) {
    verdict("CPU", &comparison.cpu, shell);
    verdict("wall", &comparison.wall, shell);
    if let Some(because) = &comparison.accepted {
        shell.status(Tone::Plain, "accepted", &format!("as the new normal: {because}"));
    }
    for line in &comparison.machines {
        shell.warning(&format!("the machines differ: {line}"), &[]);
    }
    for line in comparison.warnings.iter().filter(|_| comparison.machines.is_empty()) {
        shell.warning(line, &[]);
    }
    let decided =
        |step: &&StepComparison| step.cpu.is_decided() || step.wall.is_decided() || step.cpu.runs.0 > 5;
    for step in comparison.steps.iter().filter(decided) {
        shell.out(&format!("  step {}\n", step.name));
        verdict("CPU", &step.cpu, shell);
        verdict("wall", &step.wall, shell);
    }
}

/// `    CPU slower  +19.8% (+15.2% to +23.9%)  12.3 s → 14.7 s, 20 and 20 runs, p 0.0001`.
pub(super) fn verdict(name: &str, verdict: &Verdict, shell: &Shell) {
    let word = shell.paint(tone(verdict.word), &format!("{:<12}", verdict.word.text()));
    let mut line = format!("  {name:>6}  {word}");
    if let Some(effect) = verdict.effect {
        line.push_str(&format!("  {:>7}", percent(effect)));
    }
    if let Some(interval) = verdict.interval {
        line.push_str(&format!(" ({} to {})", percent(interval.low), percent(interval.high)));
    }
    if let (Some(one), Some(other)) = verdict.medians {
        line.push_str(&format!("  {} → {}", words::time(one), words::time(other)));
    }
    line.push_str(&match verdict.test {
        Test::Ranks => format!("  {} + {} runs", verdict.runs.0, verdict.runs.1),
        Test::Pairs => format!("  {} pairs of runs", verdict.runs.0),
    });
    if let Some(p) = verdict.p {
        line.push_str(&format!(", p {p:.2}").replace("p 0.00", "p < 0.005"));
    }
    shell.out(&format!("{line}\n"));
    if let Some(even) = verdict.even {
        let part = even.explained * 100.0;
        shell.out(&format!(
            "          at an even speed of the processor, which explains {part:.0}% of the scatter\n"
        ));
    }
    if let Some(because) = &verdict.because {
        let more = verdict.more_runs.map(|more| format!("; about {more} more runs of each would decide"));
        shell.out(&format!("          {because}{}\n", more.unwrap_or_default()));
    }
}

/// A table for a pull request.
pub(super) fn markdown(comparisons: &[Comparison]) -> String {
    let mut text = "| subject | cost | verdict | difference | 99% interval | before | after | runs |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for comparison in comparisons {
        let state = comparison.state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
        for (name, verdict) in [("CPU", &comparison.cpu), ("wall", &comparison.wall)] {
            let time = |us: Option<f64>| us.map_or_else(|| "not observed".to_owned(), words::time);
            let word = match verdict.word {
                Word::Slower => "**slower**",
                Word::Faster => "**faster**",
                other => other.text(),
            };
            let even = if verdict.even.is_some() { ", at an even speed of the processor" } else { "" };
            let more =
                verdict.more_runs.map(|more| format!(", {more} more runs would decide")).unwrap_or_default();
            text.push_str(&format!(
                "| `{}`{state} | {name} | {word}{even}{more} | {} | {} | {} | {} | {} + {} |\n",
                comparison.subject.replace('|', "\\|"),
                verdict.effect.map(percent).unwrap_or_else(|| "-".to_owned()),
                verdict.interval.map_or_else(
                    || "-".to_owned(),
                    |all| format!("{} to {}", percent(all.low), percent(all.high))
                ),
                time(verdict.medians.0),
                time(verdict.medians.1),
                verdict.runs.0,
                verdict.runs.1,
            ));
        }
        for warning in comparison.machines.iter().chain(&comparison.warnings) {
            text.push_str(&format!("\n> {warning}\n\n"));
        }
    }
    text
}
