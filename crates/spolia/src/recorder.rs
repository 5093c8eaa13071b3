//! The one stream of events: stamped here, then shown and written to the journal.

use std::sync::Mutex;

use spolia_core::Event;
use spolia_core::event::EventKind;
use spolia_store::JournalWriter;

use crate::painter::Painter;

/// Stamps events and hands them on. Shared by threads.
pub(crate) struct Recorder<'r> {
    inner: Mutex<Inner<'r>>,
}

struct Inner<'r> {
    seq: u64,
    journal: Option<JournalWriter>,
    painter: Box<dyn Painter + 'r>,
}

impl<'r> Recorder<'r> {
    pub(crate) fn new(painter: Box<dyn Painter + 'r>, journal: Option<JournalWriter>) -> Self {
        Self { inner: Mutex::new(Inner { seq: 0, journal, painter }) }
    }

    /// Takes what happened.
    pub(crate) fn take(&self, kind: EventKind) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let event = Event { at_us: now_us(), seq: inner.seq, kind };
        inner.seq += 1;
        inner.painter.paint(&event);
        // What is worth surviving a kill is written at once; the rest of a build is its end.
        let flush = matches!(
            &event.kind,
            EventKind::RunFinished { .. }
                | EventKind::StepFinished {
                    outcome: spolia_core::event::StepOutcome::Ran { .. }
                        | spolia_core::event::StepOutcome::Failed { .. },
                    ..
                }
        );
        if let Some(journal) = &mut inner.journal {
            // A journal that cannot be written costs reports, not the build.
            let _unwritten = journal.append(&event);
            if flush {
                let _unwritten = journal.flush();
            }
        }
    }

    /// Ends the display.
    pub(crate) fn close(self) {
        let mut inner = self.inner.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.painter.close();
    }
}

/// µs since 1970 by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the edge: this is where events get their time")]
pub(crate) fn now_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| u64::try_from(now.as_micros()).ok()).unwrap_or(0)
}
