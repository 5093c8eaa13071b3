//! One word to every thread that waits on a child: stop. Knows no signals.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;

/// Set once; can be polled for as a descriptor that becomes readable and stays so.
pub struct Cancel {
    set: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// Not cancelled.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn new() -> std::io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { set: AtomicBool::new(false), event })
    }

    /// Stops everything that waits, now and later.
    pub fn cancel(&self) {
        self.set.store(true, Ordering::SeqCst);
        // It can only fail where the counter is full, and then it is readable already.
        let _full = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Readable once cancelled; nobody reads it empty.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
