//! A blob's bytes on their way in and out: packing, unpacking, checking. Knows no names.

use std::fs::File;
use std::io::{Read, Write};

use rustix::io::Errno;
use spolia_core::Digest;

use super::publish::Temp;
use super::{CHUNK_BYTES, Form, SMALL_BYTES_MAX};
use crate::hash::{self, Hasher};
use crate::store::StoreError;

/// Content shorter than this is never packed, bytes: a file takes a block anyway.
pub(crate) const PACK_BYTES_MIN: usize = 4096;
/// A sample of this size is tried first, bytes …
const SAMPLE_BYTES: usize = 16 << 10;
/// … of content longer than this: zstd gives up quickly on what does not pack.
const SAMPLED_BYTES_MIN: usize = 256 << 10;
/// Packed content has to be smaller than this share of the original.
const WORTH_PERCENT: usize = 80;
/// zstd's fastest level but the negative ones.
const LEVEL: i32 = 1;
/// Up to so many bytes, zstd's table of what was seen before has half the entries that its level gives it, and fits beside the content into the
/// fastest cache: as small a result for an eighth less time. Longer content packs worse by it.
const SMALL_TABLE_BYTES_MAX: usize = 128 << 10;
const SMALL_TABLE_LOG: u32 = 12;
/// A work area's buffers are given back beyond this, bytes.
const KEEP_BYTES_MAX: usize = 2 << 20;

fn is_worth(packed: usize, plain: usize) -> bool {
    packed < plain / 100 * WORTH_PERCENT + plain % 100 * WORTH_PERCENT / 100
}

/// Whether a piece out of the middle of `content` packs well. Archives and pictures do not.
pub(crate) fn sample_packs(content: &[u8]) -> bool {
    let from = content.len().saturating_sub(SAMPLE_BYTES) / 2;
    let sample = &content[from..content.len().min(from + SAMPLE_BYTES)];
    sample.len() >= PACK_BYTES_MIN
        && zstd::bulk::compress(sample, LEVEL).is_ok_and(|packed| is_worth(packed.len(), sample.len()))
}

/// Packs content that is in memory.
#[derive(Default)]
pub(crate) struct Packer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    /// One zstd frame of `content`, or `None` where it is not worth it.
    pub(crate) fn pack_if_worth(&mut self, content: &[u8]) -> Option<&[u8]> {
        if content.len() < PACK_BYTES_MIN {
            return None;
        }
        if content.len() > SAMPLED_BYTES_MIN {
            let from = (content.len() - SAMPLE_BYTES) / 2;
            let packed = self.pack(&content[from..from + SAMPLE_BYTES])?;
            if !is_worth(packed, SAMPLE_BYTES) {
                return None;
            }
        }
        let length = self.pack(content)?;
        is_worth(length, content.len()).then(|| &self.packed[..length])
    }

    fn pack(&mut self, content: &[u8]) -> Option<usize> {
        if self.compressor.is_none() {
            self.compressor = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(content.len()));
        let compressor = self.compressor.as_mut()?;
        // Zero stands for what the level says.
        let log = if content.len() <= SMALL_TABLE_BYTES_MAX { SMALL_TABLE_LOG } else { 0 };
        compressor.set_parameter(zstd::zstd_safe::CParameter::HashLog(log)).ok()?;
        compressor.compress_to_buffer(content, &mut self.packed).ok()
    }
}

/// A work area that is kept from one entry to the next, so that small entries allocate nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) plain: Vec<u8>,
    pub(crate) pack: Packer,
    raw: Vec<u8>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

/// Why a blob could not be copied out.
pub(crate) enum ReadError {
    /// It is not what its name says.
    Damaged(String),
    /// It could not be read.
    Disk(std::io::Error),
    /// The other side failed.
    Peer(std::io::Error),
}

impl Scratch {
    /// Gives back what an unusually large entry took.
    pub(crate) fn trim(&mut self) {
        for buffer in [&mut self.plain, &mut self.raw, &mut self.pack.packed] {
            if buffer.capacity() > KEEP_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }

    /// Copies the content of `file` into `into` if it is `digest`; its length. Where the content is
    /// short, nothing is written before it has been checked.
    pub(crate) fn copy_out(
        &mut self,
        file: &File,
        form: Form,
        digest: Digest,
        into: &mut dyn Write,
    ) -> Result<u64, ReadError> {
        if !read_small(file, &mut self.raw).map_err(ReadError::Disk)? {
            return copy_long(file, form, digest, into);
        }
        let content = match form {
            Form::Plain => &self.raw,
            Form::Zstd => match self.unpack()? {
                true => &self.plain,
                false => return copy_long(file, form, digest, into),
            },
        };
        let found = hash::digest(digest.function(), content);
        if found != digest {
            return Err(ReadError::Damaged(format!("it holds {found}")));
        }
        into.write_all(content).map_err(ReadError::Peer)?;
        Ok(content.len() as u64)
    }

    /// Unpacks `raw` into `plain` where its header says that it is short; whether it was.
    fn unpack(&mut self) -> Result<bool, ReadError> {
        let size = match zstd::zstd_safe::get_frame_content_size(&self.raw) {
            Ok(Some(size)) if size <= 2 * SMALL_BYTES_MAX as u64 => size as usize,
            Ok(_) => return Ok(false),
            Err(_) => return Err(ReadError::Damaged("it is no zstd frame".to_owned())),
        };
        if self.decompressor.is_none() {
            self.decompressor = Some(zstd::bulk::Decompressor::new().map_err(ReadError::Disk)?);
        }
        let Some(decompressor) = self.decompressor.as_mut() else { return Ok(false) };
        self.plain.clear();
        self.plain.reserve(size);
        match decompressor.decompress_to_buffer(&self.raw, &mut self.plain) {
            Ok(_) => Ok(true),
            Err(error) => Err(ReadError::Damaged(error.to_string())),
        }
    }
}

fn copy_long(file: &File, form: Form, digest: Digest, into: &mut dyn Write) -> Result<u64, ReadError> {
    let mut plain = hash::At { file, at: 0 };
    match form {
        Form::Plain => copy_checked(&mut plain, false, digest, into),
        Form::Zstd => {
            let mut unpacked = zstd::stream::read::Decoder::new(plain).map_err(ReadError::Disk)?;
            copy_checked(&mut unpacked, true, digest, into)
        }
    }
}

fn copy_checked(
    from: &mut dyn Read,
    packed: bool,
    digest: Digest,
    into: &mut dyn Write,
) -> Result<u64, ReadError> {
    let mut hasher = Hasher::new(digest.function());
    let mut chunk = vec![0u8; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // An error without a system's number comes from the decoder, not from the disk.
            Err(error) if packed && error.raw_os_error().is_none() => {
                return Err(ReadError::Damaged(error.to_string()));
            }
            Err(error) => return Err(ReadError::Disk(error)),
        };
        hasher.update(&chunk[..length]);
        into.write_all(&chunk[..length]).map_err(ReadError::Peer)?;
        size += length as u64;
    }
    let found = hasher.finish();
    if found != digest {
        return Err(ReadError::Damaged(format!("it holds {found}")));
    }
    Ok(size)
}

/// Reads all of `file` if it is at most [`SMALL_BYTES_MAX`] long; whether it was.
pub(crate) fn read_small(file: &File, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    into.clear();
    let expected = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if expected > SMALL_BYTES_MAX {
        return Ok(false);
    }
    // One byte more than expected, so that one read sees the end of a file that did not change.
    into.reserve(expected + 1);
    while into.len() <= SMALL_BYTES_MAX {
        if into.len() == into.capacity() {
            into.reserve(into.len().max(4096));
        }
        let at = into.len() as u64;
        // Into memory that was not cleared first.
        match rustix::io::pread(file, rustix::buffer::spare_capacity(into), at) {
            Ok(0) => return Ok(true),
            Ok(_) if into.len() == expected && into.len() < into.capacity() => return Ok(true),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Where a long content goes: straight into the file, or through the packer.
pub(crate) enum Sink<'t> {
    Plain(&'t Temp<'t>),
    Packed(zstd::stream::write::Encoder<'static, Through<'t>>, &'t Temp<'t>),
}

/// Lets the packer write through the store's own steps.
pub(crate) struct Through<'t>(&'t Temp<'t>);

impl Write for Through<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(StoreError::Io { source, .. } | StoreError::Peer(source)) => Err(source),
            Err(other) => Err(std::io::Error::other(other.to_string())),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'t> Sink<'t> {
    pub(crate) fn new(temp: &'t Temp<'t>, packs: bool) -> Result<Self, StoreError> {
        if !packs {
            return Ok(Self::Plain(temp));
        }
        let encoder = zstd::stream::write::Encoder::new(Through(temp), LEVEL)
            .map_err(|source| super::io("write", &temp.path, source))?;
        Ok(Self::Packed(encoder, temp))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Plain(temp) => temp.write(bytes),
            Self::Packed(encoder, temp) => {
                encoder.write_all(bytes).map_err(|source| super::io("write", &temp.path, source))
            }
        }
    }

    pub(crate) fn finish(self) -> Result<(), StoreError> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Packed(encoder, temp) => match encoder.finish() {
                Ok(_) => Ok(()),
                Err(source) => Err(super::io("write", &temp.path, source)),
            },
        }
    }
}
