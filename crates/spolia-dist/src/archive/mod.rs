//! `members → one file`: the formats, and what every one of them shares. Knows no steps.
//!
//! Whatever could differ between two machines is fixed: entries in the order of the plan, the time that was given,
//! owner 0 without a name, modes of the plan, no access times, no extended headers but for names that need them.
//! A gzip header holds no name and no time.

mod blocks;
mod codec;
mod source;
mod tape;
mod zipped;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use spolia_core::Digest;
use spolia_core::elf::Machine;
use spolia_engine::Cancel;

use crate::checksums::{Summing, Sums};
use crate::error::DistError;
use crate::manifest::Checksum;
use crate::plan::Member;
pub use codec::Codec;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// tar, not compressed.
    Tar,
    /// tar in gzip.
    TarGz,
    /// tar in zstd.
    TarZst,
    /// tar in xz.
    TarXz,
    /// zip with deflate.
    Zip,
}

impl Format {
    /// Endings of names, the usual one of each format first.
    pub const ENDINGS: [(&'static str, Self); 8] = [
        (".tar.gz", Self::TarGz),
        (".tgz", Self::TarGz),
        (".tar.zst", Self::TarZst),
        (".tzst", Self::TarZst),
        (".tar.xz", Self::TarXz),
        (".txz", Self::TarXz),
        (".zip", Self::Zip),
        (".tar", Self::Tar),
    ];

    /// The format of a file of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }

    /// The usual ending.
    pub fn ending(self) -> &'static str {
        Self::ENDINGS.iter().find(|(_, format)| *format == self).map_or("", |(ending, _)| ending)
    }

    /// The highest level of its compressor.
    pub fn level_max(self) -> u32 {
        match self {
            Self::Tar => 0,
            Self::TarGz | Self::TarXz | Self::Zip => 9,
            Self::TarZst => 22,
        }
    }

    /// Whether it can hold `member`.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn fits(self, member: &Member) -> Result<(), String> {
        match self {
            Self::Tar | Self::TarGz | Self::TarZst | Self::TarXz => tape::fits(member),
            Self::Zip => zipped::fits(member),
        }
    }

    fn codec(self, level: Option<u32>) -> Codec {
        match self {
            Self::Tar | Self::Zip => Codec::Plain,
            Self::TarZst => Codec::Zstd { level: level.unwrap_or(6) },
            Self::TarXz => Codec::Xz { level: level.unwrap_or(6) },
            Self::TarGz => Codec::Gzip { level: level.unwrap_or(6) },
        }
    }
}

/// How an archive is written. None of it but format, level and time decides a byte.
pub struct Options<'o> {
    /// The archive's name, for messages.
    pub archive: &'o str,
    /// What is written.
    pub format: Format,
    /// How hard it is compressed.
    pub level: Option<u32>,
    /// The time of every entry, seconds since 1970.
    pub epoch: u64,
    /// Compressors at once, at least 1.
    pub threads: usize,
    /// The machine that programs must be for, and the platform's name; `None`: any.
    pub machine: Option<(Machine, String)>,
    /// Sums of the archive besides SHA-256.
    pub sums: &'o [Checksum],
    /// Stops it.
    pub cancel: &'o Cancel,
    /// Told of every so many bytes that were read.
    pub on_bytes: &'o (dyn Fn(u64) + Sync),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The archive's sums.
    pub sums: Sums,
    /// SHA-256 of each member that is a file, in their order.
    pub members: Vec<Option<Digest>>,
    /// SHA-256 of the tar inside; `None` for what is no tar.
    pub tar_sha256: Option<Digest>,
}

/// Writes `members` into `file`, which is empty.
///
/// # Errors
/// A file that is not what the plan says; the disk's; cancelled.
pub fn write(
    members: &[Member],
    file: &File,
    path: &Path,
    options: &Options<'_>,
) -> Result<Written, DistError> {
    let mut into = Summing::new(BufWriter::with_capacity(128 << 10, file), options.sums);
    let codec = options.format.codec(options.level);
    let failed = |error: std::io::Error| {
        // What a source says of itself passes through the archive's own writer as an error of the system.
        match error.downcast::<DistError>() {
            Ok(own) => own,
            Err(source) => DistError::io("write", path, source),
        }
    };
    if options.format == Format::Zip {
        let members = zipped::write(members, &mut into, options).map_err(failed)?;
        return finish(into, members, None).map_err(failed);
    }
    let (members, tar_sha256) = codec::run(&codec, options.threads, &mut into, |tar| {
        let mut tar = Summing::new(tar, &[]);
        let members = tape::write(members, &mut tar, options)?;
        Ok((members, Some(tar.finish().1.sha256)))
    })
    .map_err(failed)?;
    finish(into, members, tar_sha256).map_err(failed)
}

fn finish(
    into: Summing<BufWriter<&File>>,
    members: Vec<Option<Digest>>,
    tar_sha256: Option<Digest>,
) -> std::io::Result<Written> {
    let (buffer, sums) = into.finish();
    buffer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok(Written { sums, members, tar_sha256 })
}

/// The tar in an archive; [`Format::Zip`] has none and comes out as it is.
///
/// # Errors
/// A compressor that will not start.
pub fn reader<'r>(
    format: Format,
    file: impl std::io::BufRead + 'r,
) -> std::io::Result<Box<dyn std::io::Read + 'r>> {
    Ok(match format {
        Format::TarGz => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Format::TarZst => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        Format::TarXz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file)),
        Format::Tar | Format::Zip => Box::new(file),
    })
}
