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

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::event::{EventKind, StepId, StepOutcome, Summary, Tier};
    use spolia_core::result::Stream;
    use spolia_core::{ActionKey, Cost, Digest, MissReason, Platform};

    use crate::painter::fancy::Fancy;

    fn id(step: &str) -> StepId {
        StepId { step: step.to_owned(), platform: Platform::Any }
    }

    fn key() -> ActionKey {
        ActionKey(Digest::blake3(b""))
    }

    fn paint(painter: &mut dyn Painter, at_us: u64, kind: EventKind) {
        painter.paint(&Event { at_us, seq: 0, kind });
    }

    fn start(painter: &mut dyn Painter, at_us: u64, step: &str) {
        let miss = Some(MissReason::NeverRun);
        paint(painter, at_us, EventKind::StepStarted { id: id(step), key: key(), miss, needs: Vec::new() });
    }

    fn end(painter: &mut dyn Painter, at_us: u64, step: &str, outcome: StepOutcome) {
        paint(painter, at_us, EventKind::StepFinished { id: id(step), key: Some(key()), outcome });
    }

    fn up_to_date() -> StepOutcome {
        let saved = Cost::default();
        StepOutcome::Hit { tier: Tier::UpToDate, saved, restored_files: 0, restored_bytes: 0 }
    }

    fn failed(exit_code: Option<i32>) -> StepOutcome {
        StepOutcome::Failed {
            miss: None,
            error: "it ended".to_owned(),
            hints: vec!["look".to_owned()],
            cost: Cost::default(),
            exit_code,
        }
    }

    fn print(painter: &mut dyn Painter, step: &str, text: &str) {
        let stream = Stream::Stdout;
        paint(painter, 0, EventKind::StepOutput { id: id(step), stream, text: text.to_owned() });
    }

    #[test]
    fn a_thousand_steps_that_are_up_to_date_are_one_line_and_want_no_clock() {
        let shell = Shell::for_test(false, false);
        let painters: [Box<dyn Painter>; 2] =
            [Box::new(Plain::new(&shell, false)), Box::new(Fancy::new(&shell, false))];
        for mut painter in painters {
            for number in 0..1000 {
                end(&mut *painter, 0, &format!("step-{number}"), up_to_date());
                assert_eq!(painter.pace(), None);
            }
            assert_eq!(shell.heard(), "");
            let summary = Summary { up_to_date: 1000, ..Summary::default() };
            paint(&mut *painter, 0, EventKind::RunFinished { summary, exit_code: 0 });
            painter.close();
            assert_eq!(shell.heard(), "     built 1000 up to date\n");
        }
    }

    #[test]
    fn a_step_that_runs_long_is_told_of_each_minute() {
        const SECOND: u64 = 1_000_000;
        let shell = Shell::for_test(false, false);
        let mut plain = Plain::new(&shell, false);
        assert_eq!(plain.pace(), None);
        start(&mut plain, 0, "app");
        assert_eq!(shell.heard(), "      miss app: never run here\n");
        assert_eq!(plain.pace(), Some(PACE));
        let mut heard = |at_s: u64| {
            plain.tick(at_s * SECOND);
            shell.heard()
        };
        assert_eq!(heard(59), "");
        assert_eq!(heard(62), "   running app for 1m 02s\n");
        assert_eq!(heard(90), "");
        // A clock that is set back says nothing.
        assert_eq!(heard(1), "");
        assert_eq!(heard(122), "   running app for 2m 02s\n");
        end(&mut plain, 0, "app", up_to_date());
        assert_eq!(plain.pace(), None);
    }

    #[test]
    fn only_a_step_that_fails_shows_what_it_printed() {
        for (quiet, miss) in [(false, "      miss app: never run here\n"), (true, "")] {
            let shell = Shell::for_test(quiet, false);
            let mut plain = Plain::new(&shell, false);
            start(&mut plain, 0, "app");
            print(&mut plain, "app", "half a");
            print(&mut plain, "app", " line\n\x1b[31mred");
            assert_eq!(shell.heard(), miss);
            end(&mut plain, 0, "app", failed(Some(1)));
            assert_eq!(
                shell.heard(),
                "--- output of app\nhalf a line\nred\n---\nerror: app failed: it ended\nhint: look\n"
            );
        }
    }

    #[test]
    fn verbose_output_comes_in_whole_lines_with_names() {
        let shell = Shell::for_test(false, true);
        let mut plain = Plain::new(&shell, true);
        print(&mut plain, "app", "half a");
        assert_eq!(shell.heard(), "");
        print(&mut plain, "app", " line\nand \x1b[31mred");
        assert_eq!(shell.heard(), "\x1b[2mapp |\x1b[0m half a line\n");
        end(&mut plain, 0, "app", up_to_date());
        assert_eq!(
            shell.heard(),
            "\x1b[2mapp |\x1b[0m and \x1b[31mred\x1b[0m\n\x1b[2m     fresh\x1b[0m app\n"
        );
    }

    #[test]
    fn a_stopped_build_does_not_call_its_steps_failed() {
        let shell = Shell::for_test(false, false);
        let mut plain = Plain::new(&shell, false);
        start(&mut plain, 0, "app");
        print(&mut plain, "app", "no matter\n");
        shell.heard();
        plain.stopping();
        assert_eq!(shell.heard(), "stopping: waiting for app to end; Ctrl-C again ends at once\n");
        end(&mut plain, 0, "app", failed(None));
        assert_eq!(shell.heard(), "   stopped app\n");
        for number in 0..7 {
            let because = "the build was stopped".to_owned();
            end(&mut plain, 0, &format!("s{number}"), StepOutcome::Skipped { because });
        }
        assert_eq!(shell.heard(), "");
        let summary = Summary { skipped: 8, ..Summary::default() };
        paint(&mut plain, 0, EventKind::RunFinished { summary, exit_code: 130 });
        assert_eq!(
            shell.heard(),
            "   skipped s0, s1, s2, s3, s4 and 2 more: the build was stopped\n   stopped 8 skipped\n"
        );
    }

    #[test]
    fn the_live_display_is_replaced_by_the_lines_that_stay() {
        let shell = Shell::for_test(false, false);
        let mut fancy = Fancy::new(&shell, false);
        start(&mut fancy, 0, "app");
        assert_eq!(shell.heard(), "");
        assert!(fancy.pace().is_some());
        fancy.tick(1_000_000);
        assert_eq!(
            shell.heard(),
            "   running app    1.0 s  never run here\x1b[K\n  building 0/0 in 1.0 s\x1b[K\n"
        );
        // The same frame is not drawn again.
        fancy.tick(1_000_001);
        assert_eq!(shell.heard(), "");
        print(&mut fancy, "app", "some\x1b[2J\twords");
        fancy.tick(1_000_002);
        assert_eq!(
            shell.heard(),
            "\x1b[2A\r   running app    1.0 s  some words\x1b[K\n  building 0/0 in 1.0 s\x1b[K\n"
        );
        end(&mut fancy, 0, "app", failed(Some(1)));
        assert_eq!(shell.heard(), "");
        paint(
            &mut fancy,
            0,
            EventKind::RunFinished { summary: Summary { failed: 1, ..Summary::default() }, exit_code: 1 },
        );
        assert_eq!(
            shell.heard(),
            "\x1b[2A\r\x1b[J--- output of app\nsome\twords\n---\nerror: app failed: it ended\n\
             hint: look\n    failed 1 failed\n"
        );
        assert_eq!(fancy.pace(), None);
        fancy.tick(2_000_000);
        fancy.close();
        assert_eq!(shell.heard(), "");
    }
}
