//! `events → what runs, what has ended, and what it printed`. Prints nothing and asks no clock.

use spolia_core::event::{EventKind, StepId, StepOutcome, Summary, Tier};

/// The most output of one step that is kept to be shown when it ends, bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// How far back the last line is looked for, bytes.
const LAST_LINE_BYTES_MAX: usize = 4096;

/// Output of one step that has not been shown yet.
#[derive(Default)]
pub(crate) struct Output {
    text: String,
    dropped_bytes: usize,
    /// The last line of what was taken.
    last_taken: String,
}

impl Output {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() <= KEPT_BYTES_MAX {
            return;
        }
        // The end says why something failed. Half goes at once, so that the rest is not moved each time.
        let least = self.text.len() - KEPT_BYTES_MAX / 2;
        let after_line = self.text.as_bytes()[least..].iter().position(|b| *b == b'\n');
        let mut cut = after_line.map_or(least, |at| least + at + 1);
        while !self.text.is_char_boundary(cut) {
            cut += 1;
        }
        self.text.drain(..cut);
        self.dropped_bytes += cut;
    }

    /// The whole lines so far, which are then not kept any more.
    pub(crate) fn take_lines(&mut self) -> String {
        let end = self.text.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.split_off(end);
        let lines = std::mem::replace(&mut self.text, rest);
        if let Some(last) = last_line(&lines) {
            self.last_taken = last.to_owned();
        }
        self.with_dropped(lines)
    }

    /// Everything, the last line with a newline.
    pub(crate) fn take_all(&mut self) -> String {
        let mut all = std::mem::take(&mut self.text);
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        self.with_dropped(all)
    }

    fn with_dropped(&mut self, text: String) -> String {
        match std::mem::take(&mut self.dropped_bytes) {
            0 => text,
            dropped => format!("[… {dropped} bytes before this are not shown]\n{text}"),
        }
    }

    /// The last line that is not blank, perhaps without its end or its start.
    pub(crate) fn last_line(&self) -> &str {
        last_line(&self.text).unwrap_or(&self.last_taken)
    }
}

fn last_line(text: &str) -> Option<&str> {
    let mut from = text.len().saturating_sub(LAST_LINE_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].rsplit(['\n', '\r']).find(|line| !line.trim().is_empty())
}

/// A step that has begun and not ended.
pub(crate) struct Running {
    pub(crate) id: StepId,
    /// By the machine's clock, µs since 1970.
    pub(crate) since_us: u64,
    /// Why it runs; `None` where it is being restored.
    pub(crate) why: Option<String>,
    pub(crate) output: Output,
    /// When its running was last told of.
    pub(crate) told_us: u64,
}

/// The state of a build as far as events tell it.
#[derive(Default)]
pub(crate) struct Board {
    /// In the order they began.
    pub(crate) running: Vec<Running>,
    /// Counts so far; the rest of it is as in [`Summary::default`].
    pub(crate) counts: Summary,
    /// Steps that were selected.
    pub(crate) total: u64,
    /// µs since 1970.
    pub(crate) began_us: u64,
    /// Whether the user wants it to end.
    pub(crate) stopping: bool,
    /// Steps that were not reached, by why.
    skipped: Vec<(String, Vec<StepId>)>,
}

impl Board {
    /// Takes what happened.
    pub(crate) fn see(&mut self, at_us: u64, kind: &EventKind) {
        match kind {
            EventKind::RunStarted { steps, .. } => {
                self.total = *steps;
                self.began_us = at_us;
            }
            EventKind::StepStarted { id, miss, .. } => {
                let step = self.running_step(id, at_us);
                step.why = miss.as_ref().map(ToString::to_string);
            }
            EventKind::StepOutput { id, text, .. } => self.running_step(id, at_us).output.push(text),
            EventKind::StepFinished { outcome, id, .. } => self.count(id, outcome),
            _ => {}
        }
    }

    fn running_step(&mut self, id: &StepId, at_us: u64) -> &mut Running {
        let at = self.running.iter().position(|step| step.id == *id).unwrap_or_else(|| {
            let output = Output::default();
            self.running.push(Running { id: id.clone(), since_us: at_us, why: None, output, told_us: at_us });
            self.running.len() - 1
        });
        &mut self.running[at]
    }

    fn count(&mut self, id: &StepId, outcome: &StepOutcome) {
        match outcome {
            StepOutcome::Hit { tier: Tier::UpToDate, .. } => self.counts.up_to_date += 1,
            StepOutcome::Hit { restored_bytes, .. } => {
                self.counts.restored += 1;
                self.counts.restored_bytes += restored_bytes;
            }
            StepOutcome::Ran { .. } => self.counts.ran += 1,
            StepOutcome::Failed { .. } if self.was_stopped(outcome) => self.counts.skipped += 1,
            StepOutcome::Failed { .. } => self.counts.failed += 1,
            StepOutcome::Skipped { because } => {
                self.counts.skipped += 1;
                match self.skipped.iter_mut().find(|(why, _)| why == because) {
                    Some((_, ids)) => ids.push(id.clone()),
                    None => self.skipped.push((because.clone(), vec![id.clone()])),
                }
            }
        }
    }

    /// Whether a step did not fail by itself but was ended with the build.
    pub(crate) fn was_stopped(&self, outcome: &StepOutcome) -> bool {
        self.stopping && matches!(outcome, StepOutcome::Failed { exit_code: None, .. })
    }

    /// Takes a step that has ended from those that run.
    pub(crate) fn end(&mut self, id: &StepId) -> Option<Running> {
        let at = self.running.iter().position(|step| step.id == *id)?;
        Some(self.running.remove(at))
    }

    /// Steps that have ended in any way.
    pub(crate) fn done(&self) -> u64 {
        let Summary { up_to_date, restored, ran, failed, skipped, .. } = self.counts;
        up_to_date + restored + ran + failed + skipped
    }

    /// The steps that were not reached since the last call, by why.
    pub(crate) fn take_skipped(&mut self) -> Vec<(String, Vec<StepId>)> {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_keeps_its_end_and_says_what_is_missing() {
        let mut output = Output::default();
        for number in 0..300_000 {
            output.push(&format!("línea {number}\n"));
        }
        assert_eq!(output.last_line(), "línea 299999");
        let length = output.text.len();
        assert!(length <= KEPT_BYTES_MAX);
        let dropped = output.dropped_bytes;
        let all = output.take_all();
        let (first, rest) = all.split_once('\n').unwrap();
        assert_eq!(first, format!("[… {dropped} bytes before this are not shown]"));
        assert!(rest.starts_with("línea ") && rest.ends_with("línea 299999\n"));
        assert_eq!(rest.len(), length);
        assert_eq!(output.take_all(), "");
        // One line without an end is cut too, between characters.
        output.push(&"漢".repeat(KEPT_BYTES_MAX));
        assert!(output.text.len() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn lines_are_taken_whole() {
        let mut output = Output::default();
        output.push("one\ntw");
        assert_eq!(output.take_lines(), "one\n");
        assert_eq!(output.take_lines(), "");
        assert_eq!(output.last_line(), "tw");
        output.push("o\r\n  \n");
        assert_eq!(output.last_line(), "two");
        assert_eq!(output.take_lines(), "two\r\n  \n");
        assert_eq!(output.last_line(), "two");
        output.push("three");
        assert_eq!(output.take_all(), "three\n");
    }
}
