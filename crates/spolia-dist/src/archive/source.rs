//! One file of the plan as a reader that checks: exactly the bytes that were planned come out of it, or an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use sha2::Sha256;
use sha2::digest::Digest as _;
use spolia_core::elf::{self, HEADER_BYTES};
use spolia_core::{Digest, DigestFunction};

use super::Options;
use crate::error::DistError;
use crate::plan::Member;

/// A file that is being packed.
pub(super) struct Source<'s> {
    file: File,
    at: &'s Path,
    wanted: Digest,
    left: u64,
    blake3: blake3::Hasher,
    sha256: Sha256,
    header: Vec<u8>,
    checked: bool,
    options: &'s Options<'s>,
}

impl<'s> Source<'s> {
    /// Opens the file of `member` without following a link, and without waiting for a pipe's other end.
    pub(super) fn open(
        at: &'s Path,
        wanted: Digest,
        size: u64,
        options: &'s Options<'s>,
    ) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::openat(CWD, at, flags, Mode::empty());
        let file = File::from(opened.map_err(|errno| match errno {
            rustix::io::Errno::LOOP | rustix::io::Errno::NOENT | rustix::io::Errno::NXIO => changed(at),
            errno => io::Error::other(DistError::io("read", at, errno.into())),
        })?);
        let found = file.metadata().map_err(|source| io::Error::other(DistError::io("read", at, source)))?;
        if !found.is_file() || found.len() != size {
            return Err(changed(at));
        }
        Ok(Self {
            file,
            at,
            wanted,
            left: size,
            blake3: blake3::Hasher::new(),
            sha256: Sha256::new(),
            header: Vec::with_capacity(HEADER_BYTES),
            checked: false,
            options,
        })
    }

    /// SHA-256 of all that was read, once everything was.
    ///
    /// # Errors
    /// The archive's writer stopped before the end.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        if !self.checked {
            // A file of no bytes is read by nobody.
            self.check_end()?;
        }
        Ok(Digest::new(DigestFunction::Sha256, self.sha256.finalize().into()))
    }

    fn check_end(&mut self) -> io::Result<()> {
        self.checked = true;
        let more = self.file.read(&mut [0]).map_err(|error| self.failed(error))?;
        let found = Digest::new(DigestFunction::Blake3, *self.blake3.finalize().as_bytes());
        if self.left > 0 || more > 0 || found != self.wanted {
            return Err(changed(self.at));
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> io::Error {
        io::Error::other(DistError::io("read", self.at, source))
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.options.cancel.is_cancelled() {
            return Err(io::Error::other(DistError::Cancelled));
        }
        if self.left == 0 {
            if !self.checked {
                self.check_end()?;
            }
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = loop {
            match self.file.read(&mut buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| self.failed(error))?,
            }
        };
        if length == 0 {
            return Err(changed(self.at));
        }
        let bytes = &buffer[..length];
        self.blake3.update(bytes);
        self.sha256.update(bytes);
        if self.header.len() < HEADER_BYTES {
            let missing = (HEADER_BYTES - self.header.len()).min(length);
            self.header.extend_from_slice(&bytes[..missing]);
        }
        self.left -= length as u64;
        (self.options.on_bytes)(length as u64);
        Ok(length)
    }
}

/// Says of a program that it is for another machine than the archive.
pub(super) fn check_machine(source: &Source<'_>, member: &Member, options: &Options<'_>) -> io::Result<()> {
    let Some((wanted, platform)) = &options.machine else { return Ok(()) };
    match elf::machine(&source.header) {
        Some(found) if found != *wanted => Err(io::Error::other(DistError::Machine {
            archive: options.archive.to_owned(),
            path: member.path.clone(),
            found: found.to_string(),
            platform: platform.clone(),
        })),
        _ => Ok(()),
    }
}

fn changed(path: &Path) -> io::Error {
    io::Error::other(DistError::Changed { path: PathBuf::from(path) })
}
