//! One line for each thing that happened. For logs, pipes and terminals without cursor movement.

use std::collections::HashMap;

use spolia_core::Event;
use spolia_core::event::{EventKind, StepId, StepOutcome, Tier};
use spolia_core::result::Stream;

use super::{Painter, words};
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// The most output of one step that is kept to be shown should it fail, bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Plain<'s> {
    shell: &'s Shell,
    verbose: bool,
    /// What steps printed that have not ended.
    kept: HashMap<StepId, String>,
}

impl<'s> Plain<'s> {
    pub(crate) fn new(shell: &'s Shell, settings: &Settings) -> Self {
        Self { shell, verbose: settings.verbose, kept: HashMap::new() }
    }

    fn output(&mut self, id: &StepId, stream: Stream, text: &str) {
        if self.verbose {
            let mark = if stream == Stream::Stderr { "!" } else { "|" };
            for line in text.lines() {
                self.shell.err(&format!("{id} {mark} {line}\n"));
            }
            return;
        }
        let kept = self.kept.entry(id.clone()).or_default();
        kept.push_str(text);
        if kept.len() > KEPT_BYTES_MAX {
            let mut cut = kept.len() - KEPT_BYTES_MAX / 2;
            while !kept.is_char_boundary(cut) {
                cut += 1;
            }
            *kept = format!("[… {cut} bytes not shown]\n{}", &kept[cut..]);
        }
    }

    fn finished(&mut self, id: &StepId, outcome: &StepOutcome) {
        let kept = self.kept.remove(id);
        let (tone, verb, rest) = words::outcome(outcome);
        match outcome {
            StepOutcome::Failed { hints, .. } => {
                if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
                    let end = if kept.ends_with('\n') { "" } else { "\n" };
                    self.shell.err(&format!("--- output of {id}\n{kept}{end}---\n"));
                }
                self.shell.err(&self.shell.spoken(tone, "error", &format!("{id} failed{rest}"), hints));
            }
            StepOutcome::Hit { tier: Tier::UpToDate, .. } if !self.verbose => {}
            _ => self.shell.status(tone, verb, &format!("{id}{rest}")),
        }
    }
}

impl Painter for Plain<'_> {
    fn paint(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { .. } => {}
            EventKind::StepStarted { id, miss: Some(miss), .. } => {
                self.shell.status(Tone::Plain, "miss", &format!("{id}: {miss}"));
            }
            EventKind::StepStarted { miss: None, .. } => {}
            EventKind::StepOutput { id, stream, text } => self.output(id, *stream, text),
            EventKind::StepFinished { id, outcome, .. } => self.finished(id, outcome),
            EventKind::Collected { removed, removed_bytes, .. } => {
                let what = format!("{removed} entries of the store ({})", words::size(*removed_bytes));
                self.shell.status(Tone::Dim, "collected", &what);
            }
            EventKind::Healed { what } => self.shell.status(Tone::Warning, "healed", what),
            EventKind::Warning { message, hint } => {
                self.shell.warning(message, hint.as_slice());
            }
            EventKind::RunFinished { summary, .. } => {
                let tone = if summary.failed > 0 { Tone::Error } else { Tone::Good };
                self.shell.status(tone, "build", &words::summary(summary));
            }
        }
    }
}
