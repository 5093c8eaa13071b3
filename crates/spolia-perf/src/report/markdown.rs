//! The report for a pull-request comment.

use std::fmt::Write as _;

use super::html::reason;
use super::{Report, date, size, time};
use crate::verdict::{Verdict, Word, percent};

/// Lines in each table.
const LINES_MAX: usize = 8;

/// Text in a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

fn verdict(verdict: &Verdict) -> String {
    let word = match verdict.word {
        Word::Slower => "**slower**".to_owned(),
        Word::Faster => "**faster**".to_owned(),
        other => other.text().to_owned(),
    };
    let effect = verdict.effect.map(|effect| format!(" {}", percent(effect))).unwrap_or_default();
    let more = verdict.more_runs.map(|more| format!(" ({more} more runs would decide)")).unwrap_or_default();
    format!("{word}{effect}{more}")
}

/// The text.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("### {}: build report\n\n", cell(&report.title));
    if let Some((record, analysis)) = &report.build {
        let sample = record.samples.last().cloned().unwrap_or_default();
        let state = record.facts.state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
        let when = sample.started_at_us.map(|at| format!(", {} UTC", date(at))).unwrap_or_default();
        let _ = writeln!(text, "`{}`{state}{when}\n", cell(&record.facts.subject));
        let figure = |us: Option<u64>| us.map_or_else(|| "not observed".to_owned(), |us| time(us as f64));
        let bytes =
            |bytes: Option<u64>| bytes.map_or_else(|| "not observed".to_owned(), |bytes| size(bytes as f64));
        let cache = match sample.cache_hits.zip(sample.cache_misses) {
            Some((hits, misses)) => format!("{hits} of {}", hits + misses),
            None => "not observed".to_owned(),
        };
        let _ = writeln!(
            text,
            "| wall | CPU | from the cache | largest process | outputs |\n|---|---|---|---|---|\n| {} | {} | {cache} | {} | {} |\n",
            figure(sample.wall_us),
            figure(sample.cpu_us()),
            bytes(sample.largest_process_bytes),
            bytes(sample.build_size_bytes),
        );
        if !analysis.slowest.is_empty() {
            text.push_str("| slowest steps | took | critical |\n|---|---|---|\n");
            for step in analysis.slowest.iter().take(LINES_MAX) {
                let critical = match step.is_critical {
                    Some(true) => "yes",
                    Some(false) => "",
                    None => "not known",
                };
                let _ =
                    writeln!(text, "| `{}` | {} | {critical} |", cell(&step.name), time(step.wall_us as f64));
            }
            text.push('\n');
        }
        for line in &analysis.next {
            let _ = writeln!(text, "- {line}");
        }
        if !analysis.next.is_empty() {
            text.push('\n');
        }
    }
    let judged: Vec<_> = report.trends.iter().filter(|trend| trend.newest.is_some()).collect();
    if !judged.is_empty() {
        text.push_str("| newest beside the runs before | CPU | wall |\n|---|---|---|\n");
        for trend in judged {
            let Some((cpu, wall)) = &trend.newest else { continue };
            let state = trend.state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
            let _ = writeln!(
                text,
                "| `{}`{state} | {} | {} |",
                cell(&trend.subject),
                verdict(cpu),
                verdict(wall)
            );
        }
        text.push('\n');
    }
    if !report.steps.is_empty() {
        text.push_str("| ran most | time | ran | answered | mostly because |\n|---|---|---|---|---|\n");
        for step in report.steps.iter().take(LINES_MAX) {
            let why = step.reason.as_deref().map(reason).unwrap_or("");
            let name = cell(&step.name);
            let _ = writeln!(
                text,
                "| `{name}` | {} | {} | {} | {why} |",
                time(step.ran_us as f64),
                step.ran,
                step.hit
            );
        }
        text.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(text, "> {note}\n");
    }
    text
}
