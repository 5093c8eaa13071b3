//! The piece of memory through which caller and launcher talk: `SandboxSpec` in, `Report` out. Knows no command.
//!
//! Nothing is made on disk for a run: the caller writes the spec, the sandbox's pid 1 overwrites it with the report when
//! the command has ended. The first eight bytes say which of the two it is (see [`super::spec`]); a report's are written
//! last, so a killed sandbox never leaves half a report.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::spec::{FormatError, HEADER_BYTES, Report, SandboxSpec};

/// The caller's end.
#[derive(Debug)]
pub struct Exchange(File);

/// Why there is no spec or report.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// There is no report: the sandbox was killed.
    #[error("the sandbox was killed before it could report")]
    NoReport,
    /// The memory cannot be had, written or read.
    #[error("cannot exchange data with the sandbox")]
    Memory(#[source] io::Error),
    /// What is there does not decode, or what shall be there does not encode.
    #[error("cannot understand the data exchanged with the sandbox")]
    Format(#[from] FormatError),
}

impl Exchange {
    /// Writes a spec for a launcher to find.
    pub(super) fn new(spec: &SandboxSpec) -> Result<Self, ExchangeError> {
        let file = File::from(make_memory().map_err(|error| ExchangeError::Memory(error.into()))?);
        file.write_all_at(&spec.encode()?, 0).map_err(ExchangeError::Memory)?;
        Ok(Self(file))
    }

    /// What the other end is made of, too.
    pub(super) fn memory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The report. For when the sandbox has ended.
    pub fn report(&self) -> Result<Report, ExchangeError> {
        let bytes = read_all(&self.0).map_err(ExchangeError::Memory)?;
        match Report::decode(&bytes) {
            Err(FormatError::Header) => Err(ExchangeError::NoReport),
            other => Ok(other?),
        }
    }
}

fn make_memory() -> Result<OwnedFd, Errno> {
    // Some systems refuse memory that could be executed; kernels before 6.3 do not know how to say it is not.
    match rustix::fs::memfd_create("spolia", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("spolia", MemfdFlags::CLOEXEC),
        other => other,
    }
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The sandbox's side.
pub(super) struct SandboxEnd(File);

impl SandboxEnd {
    pub(super) fn new(memory: OwnedFd) -> Self {
        Self(memory.into())
    }

    pub(super) fn spec(&self) -> Option<SandboxSpec> {
        read_all(&self.0).ok().and_then(|bytes| SandboxSpec::decode(&bytes).ok())
    }

    /// Replaces the spec by the report.
    pub(super) fn write_report(&self, report: &Report) -> io::Result<()> {
        let bytes = report.encode().map_err(io::Error::other)?;
        let (header, body) = bytes.split_at(HEADER_BYTES);
        self.0.set_len(0)?;
        self.0.write_all_at(body, HEADER_BYTES as u64)?;
        self.0.write_all_at(header, 0)
    }
}
