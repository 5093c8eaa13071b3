//! `members → zip`: deflate, names in UTF-8, modes as on Unix, times in UTC; zip64 where something is that large or there
//! are that many.
//!
//! A file is one deflate stream made of blocks, as in gzip (`codec.rs`), and the blocks of several files are compressed
//! at once: this thread reads, the workers compress, one more writes them in order. Sizes and sums follow a file's data
//! (APPNOTE.TXT 4.3.9), so that nothing waits for the end of a file.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rawzip::extra_fields::ExtraFieldId;
use rawzip::path::{EntryPath, ZipFilePath};
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, DataDescriptorOutput, Header, ZipArchiveWriter};
use spolia_core::Digest;

use super::Options;
use super::blocks::{Answer, Job, Pool, pooled};
use super::codec;
use super::source::{Source, check_machine};
use crate::facts::FIXED_EPOCH;
use crate::plan::{Kind, Member};

/// The longest name a zip can hold, bytes.
const NAME_BYTES_MAX: usize = u16::MAX as usize;
/// What a mode says of a regular file, a link, a folder (`inode(7)`).
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const FOLDER: u32 = 0o040_000;

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
    if !path.is_ascii() && ZipFilePath::from_str(path).as_str() != path {
        return Err("its name holds a colon, and letters that only UTF-8 has".to_owned());
    }
    match &member.kind {
        Kind::Symlink { target } if std::str::from_utf8(target).is_err() => {
            Err("its target is not UTF-8".to_owned())
        }
        Kind::Symlink { target } if target.is_empty() => Err("its target is empty".to_owned()),
        _ => Ok(()),
    }
}

/// What goes from the reader to the writer.
enum Piece<'m> {
    /// A folder.
    Folder(&'m Member),
    /// A part of a file or link; the first and the last are told by `last` alone.
    Block { member: &'m Member, answer: Receiver<Answer>, last: bool },
}

/// Writes them all and the directory; SHA-256 of each file.
pub(super) fn write(
    members: &[Member],
    into: &mut (dyn Write + Send),
    options: &Options<'_>,
) -> io::Result<Vec<Option<Digest>>> {
    let threads = codec::deflate_threads(options.threads);
    let worker = codec::deflate(options.level.unwrap_or(codec::DEFLATE_LEVEL));
    pooled(threads, &worker, |pool| {
        std::thread::scope(|scope| {
            let (send, pieces) = sync_channel(threads * 2);
            let writer = scope.spawn(move || container(&pieces, into, options.epoch));
            let read = members.iter().map(|member| read(member, pool, &send, options)).collect();
            drop(send);
            let written = writer.join().map_err(|_| io::Error::other("the writer of the zip panicked"))?;
            match (read, written) {
                // Whoever was cut short by the other says nothing of its own.
                (Err(error), Ok(()) | Err(None)) | (_, Err(Some(error))) => Err(error),
                (Ok(digests), Ok(())) => Ok(digests),
                (Ok(_), Err(None)) => Err(cut()),
            }
        })
    })
}

fn cut() -> io::Error {
    io::Error::other("the writer of the zip ended early")
}

/// Hands out the blocks of one member.
fn read<'m>(
    member: &'m Member,
    pool: &Pool,
    send: &SyncSender<Piece<'m>>,
    options: &Options<'_>,
) -> io::Result<Option<Digest>> {
    let give = |piece| send.send(piece).map_err(|_| cut());
    let blocks = |from: &mut dyn Read| {
        let shape = codec::DEFLATE;
        let mut before = Vec::new();
        let mut next = fill(from, shape.block)?;
        loop {
            let bytes = next;
            next = if bytes.len() < shape.block { Vec::new() } else { fill(from, shape.block)? };
            let last = next.is_empty();
            let tail = bytes[bytes.len().saturating_sub(shape.before)..].to_vec();
            let job = Job { bytes, before: std::mem::replace(&mut before, tail), last };
            give(Piece::Block { member, answer: pool.compress(job)?, last })?;
            if last {
                return Ok::<(), io::Error>(());
            }
        }
    };
    match &member.kind {
        Kind::File { digest, size, at } => {
            let mut source = Source::open(at, *digest, *size, options)?;
            blocks(&mut source)?;
            check_machine(&source, member, options)?;
            source.finish().map(Some)
        }
        Kind::Symlink { target } => blocks(&mut target.as_slice()).map(|()| None),
        Kind::Folder => give(Piece::Folder(member)).map(|()| None),
    }
}

fn fill(from: &mut dyn Read, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size.min(64 << 10));
    from.take(size as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts the pieces together. `None`: the reader stopped.
fn container(
    pieces: &Receiver<Piece<'_>>,
    into: &mut (dyn Write + Send),
    epoch: u64,
) -> Result<(), Option<io::Error>> {
    let when = UtcDateTime::from_unix(i64::try_from(epoch.max(FIXED_EPOCH)).unwrap_or(i64::MAX));
    let seconds = u32::try_from(epoch.max(FIXED_EPOCH)).unwrap_or(u32::MAX).to_le_bytes();
    // Info-ZIP's extended timestamp: what has changed, and when; without it a time is the reader's local one.
    let stamp = [1, seconds[0], seconds[1], seconds[2], seconds[3]];
    let failed = |error: rawzip::Error| Some(io::Error::other(error));
    let mut archive = ZipArchiveWriter::new(into);
    while let Ok(piece) = pieces.recv() {
        let (member, mut answer, mut last) = match piece {
            Piece::Folder(member) => {
                let path = [member.path.as_bytes(), b"/"].concat();
                let entry = archive.new_dir(named(&path)).unix_permissions(FOLDER | member.mode);
                let entry = entry.extra_field(ExtraFieldId::EXTENDED_TIMESTAMP, &stamp, Header::LOCAL);
                entry.map_err(failed)?.last_modified(when).create().map_err(failed)?;
                continue;
            }
            Piece::Block { member, answer, last } => (member, answer, last),
        };
        let kind = if matches!(member.kind, Kind::Symlink { .. }) { LINK } else { FILE };
        let entry = archive.new_file(named(member.path.as_bytes())).unix_permissions(kind | member.mode);
        let entry = entry.extra_field(ExtraFieldId::EXTENDED_TIMESTAMP, &stamp, Header::LOCAL);
        let entry = entry.map_err(failed)?.compression_method(CompressionMethod::DEFLATE).last_modified(when);
        let (mut entry, _) = entry.start().map_err(failed)?;
        let (mut crc, mut length) = (crc32fast::Hasher::new(), 0);
        loop {
            let done = answer.recv().map_err(|_| None)??;
            entry.write_all(&done.out)?;
            if let Some(part) = &done.crc {
                crc.combine(part);
            }
            length += done.length;
            if last {
                break;
            }
            let Ok(Piece::Block { answer: next, last: end, .. }) = pieces.recv() else { return Err(None) };
            (answer, last) = (next, end);
        }
        entry.finish(DataDescriptorOutput::new(crc.finalize(), length)).map_err(failed)?;
    }
    archive.finish().map(drop).map_err(failed)
}

/// As it is. The crate's other way marks what is not ASCII as UTF-8, and takes `c:` for a drive.
fn named(path: &[u8]) -> EntryPath<'_> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_ascii() => EntryPath::conformant(text),
        _ => EntryPath::verbatim(path),
    }
}
