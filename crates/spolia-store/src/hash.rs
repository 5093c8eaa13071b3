//! Hashing content piece by piece, by the function a digest names. Knows no names of files.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use crate::local::CHUNK_BYTES;
use sha2::Digest as _;
use spolia_core::{Digest, DigestFunction};

/// A hash that is being computed.
pub(crate) enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(sha2::Sha256),
}

impl Hasher {
    pub(crate) fn new(function: DigestFunction) -> Self {
        match function {
            DigestFunction::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
            DigestFunction::Sha256 => Self::Sha256(sha2::Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Blake3(hasher) => Digest::new(DigestFunction::Blake3, *hasher.finalize().as_bytes()),
            Self::Sha256(hasher) => Digest::new(DigestFunction::Sha256, hasher.finalize().into()),
        }
    }
}

/// The digest of `bytes` by `function`.
pub(crate) fn digest(function: DigestFunction, bytes: &[u8]) -> Digest {
    match function {
        DigestFunction::Blake3 => Digest::blake3(bytes),
        DigestFunction::Sha256 => Digest::sha256(bytes),
    }
}

/// BLAKE3 and length of a file's content, read from its start whatever its offset.
pub(crate) fn file(file: &File) -> std::io::Result<(Digest, u64)> {
    file_seen(file, &mut |_| {})
}

/// The same for a file that had `expected` bytes a moment ago: where it has them its end is not asked for.
/// Whether it still has no more is for the caller to see.
pub(crate) fn file_of(file: &File, expected: u64) -> std::io::Result<(Digest, u64)> {
    with_chunk(&mut |chunk| file_by(file, Some(expected), chunk, &mut |_| {}))
}

/// BLAKE3 and length of a file's content as [`file()`] gives them, with each piece handed to `look` as it is read: a long
/// file need not be in memory whole.
///
/// # Errors
/// Those of reading.
pub fn file_seen(file: &File, look: &mut dyn FnMut(&[u8])) -> std::io::Result<(Digest, u64)> {
    with_chunk(&mut |chunk| file_by(file, None, chunk, look))
}

fn with_chunk<R>(work: &mut dyn FnMut(&mut [u8]) -> R) -> R {
    thread_local! {
        /// Kept: to get, clear and give back so much memory costs more than to hash a short file.
        static CHUNK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    CHUNK.with(|chunk| match chunk.try_borrow_mut() {
        Ok(mut chunk) => {
            chunk.resize(CHUNK_BYTES, 0);
            work(&mut chunk)
        }
        Err(_) => work(&mut vec![0; CHUNK_BYTES]),
    })
}

fn file_by(
    file: &File,
    expected: Option<u64>,
    chunk: &mut [u8],
    look: &mut dyn FnMut(&[u8]),
) -> std::io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0u64;
    loop {
        match file.read_at(chunk, size) {
            Ok(0) => break,
            Ok(length) => {
                hasher.update(&chunk[..length]);
                look(&chunk[..length]);
                size += length as u64;
                // A piece that fills the memory may not be the last.
                if length < chunk.len() && Some(size) == expected {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((Digest::new(DigestFunction::Blake3, *hasher.finalize().as_bytes()), size))
}

/// Reads a file from a place of its own, so that its offset stays where it is.
pub(crate) struct At<'f> {
    pub(crate) file: &'f File,
    pub(crate) at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.read_at(into, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}
