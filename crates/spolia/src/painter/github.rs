//! Plain lines with workflow commands of GitHub Actions: a group for each step's output, annotations for
//! failures and warnings, a table on the run's page.
//!
//! ```text
//! ::group::app (linux/amd64)
//! …output…
//! ::endgroup::
//! ::error title=app (linux/amd64) failed,file=spolia.toml,line=12::exit code 2 after 1.3 s%0A…
//! ```
//!
//! Groups do not nest and steps run at once, so a step's output is held back until it ends. All is said on
//! stderr: the runner looks for commands on both streams, and one stream keeps the order.
//!
//! Commands in what a step prints are not obeyed (`::stop-commands::`). A step's output is replayed from the
//! cache, comes from other people's builds, and may be any text that a compiler found in a source file; it
//! must not set variables of the job or mask words in its log. What a step must tell the job belongs in
//! its outputs; what must be masked is masked by the workflow, before Spolia starts.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use spolia_core::Event;
use spolia_core::event::{EventKind, StepId, StepOutcome, Summary};

use super::report::Report;
use super::{Definitions, Painter, plain, text, words};
use crate::settings::Settings;
use crate::shell::Shell;

/// Lines of a failed step's output that its annotation repeats: the group is folded.
const QUOTED_LINES: usize = 10;
/// Of those, bytes.
const QUOTED_BYTES_MAX: usize = 2048;
/// Rows in a table of the summary.
const ROWS_MAX: usize = 10;

pub(crate) struct Github {
    report: Report,
    definitions: Definitions,
    summary: Option<PathBuf>,
    /// What ran: wall time, where it was observed, and name.
    ran: Vec<(Option<u64>, String)>,
    /// What failed, and how.
    failed: Vec<(String, String)>,
}

impl Github {
    pub(crate) fn new(shell: &Shell, settings: &Settings) -> Self {
        Self {
            report: Report::new(shell, settings.verbose).without_output(),
            definitions: Definitions::new(),
            summary: settings.github_summary.clone(),
            ran: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Lines of our own. They quote names and messages, which may be anything.
    fn say(&self, lines: &str) {
        if !lines.is_empty() {
            self.report.shell.err(&disarm(lines));
        }
    }

    fn finished(&mut self, id: &StepId, outcome: &StepOutcome, event: &Event) {
        let mut output = String::new();
        if let Some(step) = self.report.board.running.iter_mut().find(|step| step.id == *id) {
            let all = step.output.take_all();
            output = text::tame_lines(&all, self.report.shell.is_coloured());
        }
        let failed = matches!(outcome, StepOutcome::Failed { .. });
        if !output.is_empty() && (failed || !self.report.shell.is_quiet()) {
            let title = data(&id.to_string());
            self.report.shell.err(&format!("::group::{title}\n{}::endgroup::\n", disarm(&output)));
        }
        let said = self.report.take(event);
        if failed && !self.report.board.was_stopped(outcome) {
            self.failure(id, outcome, &output);
            return;
        }
        if let StepOutcome::Ran { cost, .. } = outcome {
            self.ran.push((cost.wall_us, id.to_string()));
        }
        self.say(&said);
    }

    fn failure(&mut self, id: &StepId, outcome: &StepOutcome, output: &str) {
        let StepOutcome::Failed { error, hints, cost, .. } = outcome else { return };
        let after = cost.wall_us.map(|us| format!(" after {}", words::duration(us))).unwrap_or_default();
        let mut message = format!("{error}{after}");
        for line in last_lines(output) {
            message.push('\n');
            message.push_str(line);
        }
        for hint in hints {
            message.push_str(&format!("\nhint: {hint}"));
        }
        let mut properties = vec![("title", format!("{id} failed"))];
        if let Some((file, line)) = self.definitions.get(&id.step) {
            properties.push(("file", file.clone()));
            properties.push(("line", line.to_string()));
        }
        self.report.shell.err(&command("error", &properties, &message));
        self.failed.push((id.to_string(), error.clone()));
    }

    fn append_summary(&self, summary: &Summary, exit_code: i32) {
        let Some(path) = &self.summary else { return };
        let page = page(summary, exit_code, &self.failed, &self.ran);
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(page.as_bytes())) {
            let message = format!("cannot write the summary `{}`: {error}", path.display());
            self.report.shell.err(&command("warning", &[("title", "spolia".to_owned())], &message));
        }
    }
}

impl Painter for Github {
    fn paint(&mut self, event: &Event) {
        match &event.kind {
            EventKind::StepFinished { id, outcome, .. } => self.finished(id, outcome, event),
            EventKind::Warning { message, hint } => {
                let hint = hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                let title = [("title", "spolia".to_owned())];
                self.report.shell.err(&command("warning", &title, &format!("{message}{hint}")));
            }
            EventKind::RunFinished { summary, exit_code } => {
                let said = self.report.take(event);
                self.say(&said);
                self.append_summary(summary, *exit_code);
            }
            _ => {
                let said = self.report.take(event);
                self.say(&said);
            }
        }
    }

    fn pace(&self) -> Option<Duration> {
        (!self.report.board.running.is_empty()).then_some(plain::PACE)
    }

    fn tick(&mut self, now_us: u64) {
        let said = plain::heartbeats(&mut self.report, now_us);
        self.say(&said);
    }

    fn stopping(&mut self) {
        let said = self.report.stopping();
        self.say(&said);
    }

    fn locate(&mut self, definitions: Definitions) {
        self.definitions = definitions;
    }
}

/// The data of a command. Source: the workflow command reference, and the `core` package of the toolkit.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn command(name: &str, properties: &[(&str, String)], message: &str) -> String {
    let properties: Vec<_> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    format!("::{name} {}::{}\n", properties.join(","), data(message))
}

/// Whether the runner would look for a command in a line: the form of today, and the one before it.
fn is_command(line: &str) -> bool {
    line.trim_start().starts_with("::") || line.contains("##[")
}

/// Whole lines, said so that no command in them is obeyed.
fn disarm(lines: &str) -> String {
    if !lines.lines().any(is_command) {
        return lines.to_owned();
    }
    // Made after the step has printed, so it cannot have known it.
    let random = RandomState::new();
    let token = format!("spolia-{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
    format!("::stop-commands::{token}\n{lines}::{token}::\n")
}

/// The end of an output, short enough for an annotation.
fn last_lines(output: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut bytes = 0;
    for line in output.lines().rev().filter(|line| !line.trim().is_empty()).take(QUOTED_LINES) {
        bytes += line.len();
        if bytes > QUOTED_BYTES_MAX {
            break;
        }
        lines.push(line);
    }
    lines.reverse();
    lines
}

/// A cell of a table in Markdown.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '!' => cell.extend(['\\', c]),
            c if c.is_control() => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}

/// The table on the run's page.
fn page(
    summary: &Summary,
    exit_code: i32,
    failed: &[(String, String)],
    ran: &[(Option<u64>, String)],
) -> String {
    let observed = |us: Option<u64>| us.map_or_else(|| "not observed".to_owned(), words::duration);
    let (_, verb) = words::ending(summary, exit_code);
    let mut page = format!(
        "### spolia {verb}\n\n\
         | ran | restored | up to date | failed | skipped | time | step time saved | bytes restored |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|\n\
         | {} | {} | {} | {} | {} | {} | {} | {} |\n\n",
        summary.ran,
        summary.restored,
        summary.up_to_date,
        summary.failed,
        summary.skipped,
        observed(summary.wall_us),
        observed(summary.saved_us),
        words::size(summary.restored_bytes),
    );
    let mut table = |head: &str, rows: Vec<String>| {
        if !rows.is_empty() {
            page.push_str(&format!("{head}\n|---|---|\n"));
            for row in rows.iter().take(ROWS_MAX) {
                page.push_str(row);
            }
            if rows.len() > ROWS_MAX {
                page.push_str(&format!("| … and {} more | |\n", rows.len() - ROWS_MAX));
            }
            page.push('\n');
        }
    };
    let row = |(name, error): &(String, String)| format!("| {} | {} |\n", cell(name), cell(error));
    table("| failed | why |", failed.iter().map(row).collect());
    let mut slowest: Vec<_> = ran.iter().collect();
    slowest.sort_by(|one, two| two.cmp(one));
    let row = |(us, name): &&(Option<u64>, String)| format!("| {} | {} |\n", cell(name), observed(*us));
    table("| ran, slowest first | time |", slowest.iter().map(row).collect());
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_properties_are_escaped() {
        assert_eq!(data("50%\r\na:b,c"), "50%25%0D%0Aa:b,c");
        assert_eq!(property("50%\r\na:b,c"), "50%25%0D%0Aa%3Ab%2Cc");
        let properties = [("title", "a,b".to_owned()), ("line", "3".to_owned())];
        assert_eq!(command("error", &properties, "x\ny"), "::error title=a%2Cb,line=3::x%0Ay\n");
    }

    #[test]
    fn commands_in_output_are_not_obeyed() {
        let harmless = "a::b\nsome # [text]\n: :error::\n";
        assert_eq!(disarm(harmless), harmless);
        for bad in ["::set-output name=a::b\n", "x\n  ::error::y\n", "see ##[error]z\n"] {
            let said = disarm(bad);
            let lines: Vec<&str> = said.lines().collect();
            let token = lines[0].strip_prefix("::stop-commands::").unwrap();
            assert_eq!(*lines.last().unwrap(), format!("::{token}::"));
            assert_eq!(lines[1..lines.len() - 1].join("\n") + "\n", bad);
            assert_ne!(disarm(bad), said, "each token is new");
        }
    }

    #[test]
    fn the_page_is_a_table_whatever_names_and_errors_hold() {
        let summary = Summary { ran: 2, failed: 1, wall_us: Some(1_500_000), ..Summary::default() };
        let failed = [("a|b".to_owned(), "exit\ncode <1>".to_owned())];
        let ran = [
            (None, "unseen".to_owned()),
            (Some(5_000), "fast".to_owned()),
            (Some(7_000_000), "slow".to_owned()),
        ];
        let page = page(&summary, 1, &failed, &ran);
        assert!(page.starts_with("### spolia failed\n\n| ran |"), "{page}");
        assert!(page.contains("| 2 | 0 | 0 | 1 | 0 | 1.5 s | not observed | 0 B |\n"), "{page}");
        assert!(page.contains("| a\\|b | exit code &lt;1> |\n"), "{page}");
        assert!(page.ends_with("| slow | 7.0 s |\n| fast | 5 ms |\n| unseen | not observed |\n\n"), "{page}");
        let many: Vec<_> = (0..30).map(|at| (Some(at), at.to_string())).collect();
        let page = super::page(&summary, 0, &[], &many);
        assert!(page.contains("| … and 20 more | |\n"), "{page}");
    }

    #[test]
    fn an_annotation_quotes_the_end() {
        let output: String = (0..50).map(|line| format!("line {line}\n\n")).collect();
        let lines = last_lines(&output);
        assert_eq!((lines.len(), lines[0], lines[9]), (10, "line 40", "line 49"));
        assert!(last_lines(&"x".repeat(5000)).is_empty());
    }
}
