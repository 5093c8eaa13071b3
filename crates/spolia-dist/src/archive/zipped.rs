//! `members → zip`: deflate, names in UTF-8, modes as on Unix, times in UTC. One thread: a zip compresses each file by
//! itself.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use spolia_core::Digest;
use spolia_core::calendar::civil;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::Options;
use super::source::{Source, check_machine};
use crate::facts::FIXED_EPOCH;
use crate::plan::{Kind, Member};

/// The longest name a zip can hold, bytes.
const NAME_BYTES_MAX: usize = u16::MAX as usize;
/// From this size on a file needs the larger fields.
const LARGE: u64 = u32::MAX as u64;

/// Whether a zip can hold it.
pub(super) fn fits(member: &Member) -> Result<(), String> {
    let path = member.path.as_bytes();
    if path.len() >= NAME_BYTES_MAX {
        return Err(format!("its path is longer than {NAME_BYTES_MAX} bytes"));
    }
    let Ok(path) = std::str::from_utf8(path) else { return Err("its name is not UTF-8".to_owned()) };
    if path.contains('\\') {
        // Readers on other systems take it for the end of a folder's name.
        return Err("its name holds a backslash".to_owned());
    }
    match &member.kind {
        Kind::Symlink { target } if std::str::from_utf8(target).is_err() => {
            Err("its target is not UTF-8".to_owned())
        }
        Kind::Symlink { target } if target.is_empty() => Err("its target is empty".to_owned()),
        _ => Ok(()),
    }
}

/// Writes them all and the directory; SHA-256 of each file.
pub(super) fn write(
    members: &[Member],
    file: &File,
    options: &Options<'_>,
) -> io::Result<Vec<Option<Digest>>> {
    let mut writer = ZipWriter::new(BufWriter::with_capacity(128 << 10, file));
    let shared = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(i64::from(options.level.unwrap_or(6))))
        .last_modified_time(time(options.epoch));
    let mut digests = Vec::with_capacity(members.len());
    for member in members {
        let path = String::from_utf8_lossy(member.path.as_bytes()).into_owned();
        let own = shared.unix_permissions(member.mode);
        let digest = match &member.kind {
            Kind::File { digest, size, at } => {
                let mut source = Source::open(at, *digest, *size, options)?;
                writer.start_file(path, own.large_file(*size >= LARGE)).map_err(io::Error::from)?;
                io::copy(&mut source, &mut writer)?;
                check_machine(&source, member, options)?;
                Some(source.finish()?)
            }
            Kind::Symlink { target } => {
                let target = String::from_utf8_lossy(target).into_owned();
                writer.add_symlink(path, target, own).map_err(io::Error::from)?;
                None
            }
            Kind::Folder => {
                writer.add_directory(path, own).map_err(io::Error::from)?;
                None
            }
        };
        digests.push(digest);
    }
    writer.finish().map_err(io::Error::from)?.flush()?;
    Ok(digests)
}

/// The nearest time that a zip can hold: even seconds from 1980 to 2107.
fn time(epoch: u64) -> DateTime {
    let at = civil(epoch.max(FIXED_EPOCH));
    let part = |value: u64| u8::try_from(value).unwrap_or(1);
    let year = u16::try_from(at.year).unwrap_or(u16::MAX);
    DateTime::from_date_and_time(
        year,
        part(at.month),
        part(at.day),
        part(at.hour),
        part(at.minute),
        part(at.second),
    )
    .unwrap_or_default()
}
