//! `event → the lines that stay`: shared by every painter that talks to a person.

use spolia_core::Event;
use spolia_core::event::{EventKind, StepId, StepOutcome, Tier};

use super::board::{Board, Running};
use super::{text, words};
use crate::shell::{Shell, Tone};

/// Steps that are named where several were not reached.
const NAMED_MAX: usize = 5;

/// Follows a build and words it.
pub(crate) struct Report {
    pub(crate) shell: Shell,
    pub(crate) board: Board,
    /// Show all output as it comes, and every step.
    verbose: bool,
    /// Say why a step runs when it begins.
    tells_why: bool,
    /// Say nothing of what steps print: the painter does.
    holds_output: bool,
}

impl Report {
    pub(crate) fn new(shell: &Shell, verbose: bool) -> Self {
        let shell = shell.clone();
        Self { shell, board: Board::default(), verbose, tells_why: true, holds_output: false }
    }

    /// One for a display that shows the reason while the step runs.
    pub(crate) fn without_reasons(mut self) -> Self {
        self.tells_why = self.verbose;
        self
    }

    /// One for a painter that shows output in its own way.
    pub(crate) fn without_output(mut self) -> Self {
        self.holds_output = true;
        self
    }

    /// What there is to say about an event: whole lines, or nothing.
    pub(crate) fn take(&mut self, event: &Event) -> String {
        self.board.see(event.at_us, &event.kind);
        match &event.kind {
            EventKind::StepStarted { id, miss: Some(miss), .. } if self.tells_why => {
                self.status(Tone::Plain, "miss", &format!("{id}: {miss}"))
            }
            // `spolia perf` shows what it measures itself.
            EventKind::RunStarted { .. }
            | EventKind::StepStarted { .. }
            | EventKind::Measuring { .. }
            | EventKind::Measured { .. }
            | EventKind::Accepted { .. } => String::new(),
            EventKind::StepOutput { id, .. } if self.verbose && !self.holds_output => self.new_lines(id),
            EventKind::StepOutput { .. } => String::new(),
            EventKind::StepFinished { id, outcome, .. } => {
                let ended = self.board.end(id);
                let mut said = self.output_of(outcome, ended);
                said.push_str(&self.finished(id, outcome));
                said
            }
            EventKind::Collected { removed, removed_bytes, .. } => {
                let what = format!("{removed} files of the store ({})", words::size(*removed_bytes));
                self.status(Tone::Dim, "collected", &what)
            }
            EventKind::Healed { what } => self.status(Tone::Warning, "healed", what),
            EventKind::Warning { message, hint } => {
                self.shell.spoken(Tone::Warning, "warning", message, hint.as_slice())
            }
            EventKind::RunFinished { summary, exit_code } => {
                let mut said = self.skipped();
                let (tone, verb) = words::ending(summary, *exit_code);
                said.push_str(&self.status(tone, verb, &words::summary(summary)));
                said
            }
        }
    }

    /// That the user asked for the end.
    pub(crate) fn stopping(&mut self) -> String {
        self.board.stopping = true;
        if self.shell.is_quiet() {
            return String::new();
        }
        let what = match self.board.running.len() {
            0 => "no step is running".to_owned(),
            1 => format!("waiting for {} to end; Ctrl-C again ends at once", self.board.running[0].id),
            more => format!("waiting for {more} steps to end; Ctrl-C again ends at once"),
        };
        self.shell.spoken(Tone::Warning, "stopping", &what, &[])
    }

    /// A line, unless quiet.
    pub(crate) fn status(&self, tone: Tone, verb: &str, what: &str) -> String {
        if self.shell.is_quiet() {
            return String::new();
        }
        let mut line = self.shell.status_line(tone, verb, what);
        line.push('\n');
        line
    }

    /// What a step has printed in whole lines, each with the step's name before it.
    fn new_lines(&mut self, id: &StepId) -> String {
        let running = self.board.running.iter_mut().find(|step| step.id == *id);
        let lines = running.map(|step| step.output.take_lines()).unwrap_or_default();
        self.named(id, &lines)
    }

    fn named(&self, id: &StepId, lines: &str) -> String {
        let name = self.shell.paint(Tone::Dim, &format!("{id} |"));
        let line = |line| format!("{name} {}\n", text::tame(line, self.shell.is_coloured()));
        lines.lines().map(line).collect()
    }

    /// What is still to be shown of what a step printed.
    fn output_of(&self, outcome: &StepOutcome, ended: Option<Running>) -> String {
        let Some(mut ended) = ended.filter(|_| !self.holds_output) else { return String::new() };
        if self.verbose {
            return self.named(&ended.id, &ended.output.take_all());
        }
        let failed = matches!(outcome, StepOutcome::Failed { .. }) && !self.board.was_stopped(outcome);
        let all = if failed { ended.output.take_all() } else { String::new() };
        if all.is_empty() {
            return all;
        }
        format!("--- output of {}\n{}---\n", ended.id, text::tame_lines(&all, self.shell.is_coloured()))
    }

    /// The line of a step that ended.
    fn finished(&self, id: &StepId, outcome: &StepOutcome) -> String {
        let (tone, verb, rest) = words::outcome(outcome);
        match outcome {
            _ if self.board.was_stopped(outcome) => self.status(Tone::Warning, "stopped", &id.to_string()),
            StepOutcome::Failed { hints, .. } => {
                self.shell.spoken(tone, "error", &format!("{id} failed{rest}"), hints)
            }
            // A thousand of them say nothing that the summary does not.
            StepOutcome::Hit { tier: Tier::UpToDate, .. } | StepOutcome::Skipped { .. } if !self.verbose => {
                String::new()
            }
            _ => self.status(tone, verb, &format!("{id}{rest}")),
        }
    }

    /// The steps that were not reached, one line for each reason.
    fn skipped(&mut self) -> String {
        let skipped = self.board.take_skipped();
        if self.verbose {
            return String::new();
        }
        let lines = skipped.into_iter().map(|(because, ids)| {
            let named = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let more = ids.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.status(Tone::Warning, "skipped", &format!("{named}{more}: {because}"))
        });
        lines.collect()
    }
}
