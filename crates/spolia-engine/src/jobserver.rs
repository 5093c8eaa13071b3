//! A make jobserver: one pipe of tokens that every step, and every make in it, draws from.
//!
//! Protocol: GNU make manual, "POSIX Jobserver Interaction". A process may run one job for free and one
//! more for each byte it has read from the pipe, and writes the byte back. Given as
//! `--jobserver-auth=R,W` (inherited descriptors), which makes older than 4.4 understand as well.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The pipe.
pub struct Jobserver {
    read: OwnedFd,
    write: OwnedFd,
    /// The same pipe opened again, not blocking: that flag is shared with whoever inherits a descriptor.
    own: OwnedFd,
    tokens: usize,
}

impl Jobserver {
    /// For `jobs` jobs at once in all: as many tokens, one of which each step takes before it starts.
    ///
    /// # Errors
    /// No pipe was to be had.
    pub fn new(jobs: usize) -> std::io::Result<Self> {
        // Not closed on exec: every child inherits the pair, as the protocol wants.
        let (read, write) = rustix::pipe::pipe()?;
        let again = format!("/proc/self/fd/{}", read.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let own = rustix::fs::open(again, flags, Mode::empty())?;
        let server = Self { read, write, own, tokens: jobs.clamp(1, 4096) };
        for _ in 0..server.tokens {
            server.put();
        }
        Ok(server)
    }

    /// Takes a token if there is one.
    pub fn try_take(&self) -> bool {
        let mut token = [0];
        loop {
            match rustix::io::read(&self.own, &mut token) {
                Ok(1) => return true,
                Err(Errno::INTR) => {}
                _ => return false,
            }
        }
    }

    /// Gives a token back.
    pub fn put(&self) {
        while let Err(Errno::INTR) = rustix::io::write(&self.write, b"+") {}
    }

    /// Puts the number of tokens right while no step runs: a killed make takes its tokens with it.
    pub fn reset(&self) {
        while self.try_take() {}
        for _ in 0..self.tokens {
            self.put();
        }
    }

    /// Readable while there is a token.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }

    /// The descriptors that children must inherit.
    pub fn descriptors(&self) -> [i32; 2] {
        [self.read.as_raw_fd(), self.write.as_raw_fd()]
    }

    /// The variables that tell make and cargo of it.
    pub fn variables(&self) -> [(String, OsString); 2] {
        let [read, write] = self.descriptors();
        let flags = format!("-j{} --jobserver-auth={read},{write}", self.tokens);
        let make = OsString::from(format!(" {flags}"));
        [("MAKEFLAGS".to_owned(), make.clone()), ("CARGO_MAKEFLAGS".to_owned(), OsString::from(flags))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_and_come_back() {
        let server = Jobserver::new(2).unwrap();
        assert!(server.try_take());
        assert!(server.try_take());
        assert!(!server.try_take());
        server.put();
        assert!(server.try_take());
        server.reset();
        assert!(server.try_take() && server.try_take() && !server.try_take());
    }
}
