//! One line for each thing that happened. For logs, pipes and terminals without cursor movement.

use std::time::Duration;

use spolia_core::Event;

use super::report::Report;
use super::{Painter, words};
use crate::shell::{Shell, Tone};

/// A step that says nothing for so long is said to be still running, µs.
pub(crate) const HEARTBEAT_US: u64 = 60_000_000;
/// How often that is looked at.
pub(crate) const PACE: Duration = Duration::from_secs(5);

pub(crate) struct Plain {
    report: Report,
}

impl Plain {
    pub(crate) fn new(shell: &Shell, verbose: bool) -> Self {
        Self { report: Report::new(shell, verbose) }
    }

    fn say(&self, text: &str) {
        if !text.is_empty() {
            self.report.shell.err(text);
        }
    }
}

impl Painter for Plain {
    fn paint(&mut self, event: &Event) {
        let said = self.report.take(event);
        self.say(&said);
    }

    fn pace(&self) -> Option<Duration> {
        (!self.report.board.running.is_empty()).then_some(PACE)
    }

    fn tick(&mut self, now_us: u64) {
        let said = heartbeats(&mut self.report, now_us);
        self.say(&said);
    }

    fn stopping(&mut self) {
        let said = self.report.stopping();
        self.say(&said);
    }
}

/// A line for each step that has run for another minute, so that a log shows that something is going on.
pub(crate) fn heartbeats(report: &mut Report, now_us: u64) -> String {
    let mut due = Vec::new();
    for step in &mut report.board.running {
        if now_us.saturating_sub(step.told_us) >= HEARTBEAT_US {
            step.told_us = now_us;
            due.push(format!("{} for {}", step.id, words::duration(now_us.saturating_sub(step.since_us))));
        }
    }
    due.iter().map(|what| report.status(Tone::Dim, "running", what)).collect()
}
