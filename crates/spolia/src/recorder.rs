//! The one stream of events: stamped here, then shown and written to the journal. Keeps the time for what
//! is shown, in a thread that lives only while something moves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use spolia_core::Event;
use spolia_core::event::EventKind;
use spolia_engine::Cancel;
use spolia_store::JournalWriter;

use crate::painter::Painter;

/// Stamps events and hands them on. Shared by threads.
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    seq: u64,
    journal: Option<JournalWriter>,
    painter: Box<dyn Painter>,
    /// What stops the build, until the painter was told of it.
    cancel: Option<Arc<Cancel>>,
    clock: Option<Clock>,
    closed: bool,
}

/// The thread that keeps the time.
struct Clock {
    thread: JoinHandle<()>,
    /// Ends it.
    end: Arc<Cancel>,
}

impl Recorder {
    pub(crate) fn new(painter: Box<dyn Painter>, journal: Option<JournalWriter>) -> Self {
        let inner = Inner { seq: 0, journal, painter, cancel: None, clock: None, closed: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Shows when `cancel` is set.
    pub(crate) fn heed(self, cancel: &Arc<Cancel>) -> Self {
        lock(&self.inner).cancel = Some(Arc::clone(cancel));
        self
    }

    /// Takes what happened.
    pub(crate) fn take(&self, kind: EventKind) {
        let mut inner = lock(&self.inner);
        inner.tell_of_cancel();
        let event = Event { at_us: now_us(), seq: inner.seq, kind };
        inner.seq += 1;
        inner.painter.paint(&event);
        inner.record(&event);
        if inner.clock.is_none()
            && let Some(pace) = inner.painter.pace()
        {
            // Without it the display stands still, which is no reason to fail.
            inner.clock = start_clock(&self.inner, inner.cancel.clone(), pace).ok();
        }
    }

    /// Ends the display.
    pub(crate) fn close(self) {
        drop(self);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.painter.close();
        let clock = inner.clock.take();
        drop(inner);
        if let Some(Clock { thread, end }) = clock {
            end.cancel();
            // It ends by itself where it has panicked.
            let _panicked = thread.join();
        }
    }
}

impl Inner {
    fn tell_of_cancel(&mut self) {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.is_cancelled()) {
            self.cancel = None;
            self.painter.stopping();
        }
    }

    fn record(&mut self, event: &Event) {
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
        if let Some(journal) = &mut self.journal {
            // A journal that cannot be written costs reports, not the build.
            let _unwritten = journal.append(event);
            if flush {
                let _unwritten = journal.flush();
            }
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_clock(
    inner: &Arc<Mutex<Inner>>,
    cancel: Option<Arc<Cancel>>,
    pace: Duration,
) -> std::io::Result<Clock> {
    let end = Arc::new(Cancel::new()?);
    let (inner, ended) = (Arc::clone(inner), Arc::clone(&end));
    let keep = move || keep_time(&inner, cancel, &ended, pace);
    let thread = std::thread::Builder::new().name("display".to_owned()).spawn(keep)?;
    Ok(Clock { thread, end })
}

/// Ticks until nothing moves any more. Wakes early to show that the build is being stopped.
fn keep_time(inner: &Mutex<Inner>, mut cancel: Option<Arc<Cancel>>, end: &Cancel, mut pace: Duration) {
    loop {
        wait(end, cancel.as_deref(), pace);
        let mut inner = lock(inner);
        if inner.closed {
            return;
        }
        inner.tell_of_cancel();
        inner.painter.tick(now_us());
        let Some(next) = inner.painter.pace() else {
            inner.clock = None;
            return;
        };
        pace = next;
        // It stays readable: looked at again, it would end every wait at once.
        cancel = cancel.filter(|cancel| !cancel.is_cancelled());
    }
}

fn wait(end: &Cancel, cancel: Option<&Cancel>, pace: Duration) {
    let mut sources: Vec<_> = [Some(end), cancel]
        .into_iter()
        .flatten()
        .map(|source| PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN))
        .collect();
    let pace = Timespec { tv_sec: pace.as_secs().cast_signed(), tv_nsec: i64::from(pace.subsec_nanos()) };
    // Interrupted is a tick that comes early.
    let _ready = rustix::event::poll(&mut sources, Some(&pace));
}

/// µs since 1970 by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the edge: this is where events get their time")]
pub(crate) fn now_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| u64::try_from(now.as_micros()).ok()).unwrap_or(0)
}
