//! A display that is redrawn while steps run, below the lines that stay. Knows no terminal codes.
//!
//! Events only change what is to be shown; the clock draws it, [`PACE`] apart, so a thousand steps that end
//! at once are one redraw. Nothing is drawn, and no clock wanted, before a step begins: a build in which
//! all is up to date is over by then.

use std::time::Duration;

use spolia_core::Event;
use spolia_core::event::EventKind;

use super::report::Report;
use super::screen::Screen;
use super::{Painter, frame};
use crate::shell::Shell;

/// Between two redraws: 12 a second.
const PACE: Duration = Duration::from_millis(83);
/// A build that has been looking at its steps for so long without one to run shows how far it is, µs.
const SILENCE_US_MAX: u64 = 300_000;
/// Lines that wait for the next redraw are written sooner if there are more of them than this, bytes.
const WAITING_BYTES_MAX: usize = 256 << 10;

pub(crate) struct Fancy {
    report: Report,
    screen: Screen,
    /// Lines that stay and are not written yet.
    waiting: String,
    /// Whether there is something to be seen moving.
    live: bool,
}

impl Fancy {
    pub(crate) fn new(shell: &Shell, verbose: bool) -> Self {
        let report = Report::new(shell, verbose).without_reasons();
        Self { report, screen: Screen::new(shell), waiting: String::new(), live: false }
    }

    /// Takes the display away, so that what waits comes last.
    fn end(&mut self) {
        self.live = false;
        let waiting = std::mem::take(&mut self.waiting);
        self.screen.draw(&waiting, &[]);
    }
}

impl Painter for Fancy {
    fn paint(&mut self, event: &Event) {
        let said = self.report.take(event);
        self.waiting.push_str(&said);
        match &event.kind {
            EventKind::RunStarted { .. }
            | EventKind::Warning { .. }
            | EventKind::Collected { .. }
            | EventKind::Healed { .. } => {}
            EventKind::StepStarted { .. } => self.live = true,
            EventKind::RunFinished { .. } => self.end(),
            _ => self.live |= event.at_us.saturating_sub(self.report.board.began_us) > SILENCE_US_MAX,
        }
        // Without a clock nobody else would write it; and memory has an end.
        if !self.live || self.waiting.len() > WAITING_BYTES_MAX {
            let waiting = std::mem::take(&mut self.waiting);
            self.screen.above(&waiting);
        }
    }

    fn pace(&self) -> Option<Duration> {
        self.live.then_some(PACE)
    }

    fn tick(&mut self, now_us: u64) {
        if self.live {
            let lines = frame::lines(&self.report.board, now_us, self.report.shell.size());
            let waiting = std::mem::take(&mut self.waiting);
            self.screen.draw(&waiting, &lines);
        }
    }

    fn stopping(&mut self) {
        let said = self.report.stopping();
        self.waiting.push_str(&said);
    }

    fn close(&mut self) {
        self.end();
    }
}
