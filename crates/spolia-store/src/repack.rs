//! Packs blobs again, more tightly than a build has time for: `packed blobs × level → Repacked`. Only when it is asked for.
//!
//! A blob that was packed on its way in (zstd level 1) is unpacked, checked, packed at the wanted level, and renamed over
//! the old file where that is smaller. So that it is not tried again, the file ends with a mark, a frame that every zstd
//! reader skips (RFC 8878, 3.1.2):
//!
//! ```text
//! blob.zst = zstd-frame [mark]
//! mark     = u32le(0x184D2A5A) u32le(4) "spo" level-u8      level that was tried, whether its result or the older frame was kept
//! ```
//!
//! Names, contents and times stay what they were, so a reader notices nothing, and who reads the old file keeps it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, Stat, Timespec, Timestamps};
use spolia_core::Digest;

use crate::hash::{At, Hasher};
use crate::local::{CHUNK_BYTES, Form, LocalStore, Temp, io};
use crate::lock::KeyLock;
use crate::size;
use crate::store::{Space, StoreError};

/// The level where none is asked for: some five times slower to pack than the first one, a tenth to a fifth smaller, and
/// as fast to unpack.
pub const LEVEL: i32 = 9;
/// The levels that can be asked for.
pub const LEVELS: std::ops::RangeInclusive<i32> = 2..=19;

const MARK: [u8; 11] = [0x5A, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, b's', b'p', b'o'];
const MARK_BYTES: u64 = MARK.len() as u64 + 1;

/// What packing again has done, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repacked {
    /// Packed blobs that are in the store.
    pub blobs: u64,
    /// Those that had been packed at this level or a higher one already.
    pub done_before: u64,
    /// Those that became smaller.
    pub smaller: u64,
    /// Bytes of those before and after.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// Those that could not be read, or are not what their name says; they stay as they are.
    pub damaged: u64,
}

impl Repacked {
    /// Bytes by which the store became smaller.
    pub fn saved_bytes(&self) -> u64 {
        self.bytes_before.saturating_sub(self.bytes_after)
    }
}

struct Blob {
    digest: Digest,
    path: PathBuf,
    bytes: u64,
}

/// Packs every packed blob again at `level`, one of [`LEVELS`]; with `dry_run` only finds out what that would give. `go_on` is
/// told how many blobs of how many are done, and ends the work by answering `false`: what is done by then stays.
/// `None` where another process is collecting.
///
/// # Errors
/// Those of listing and of writing.
pub fn repack(
    store: &LocalStore,
    level: i32,
    dry_run: bool,
    now_us: u64,
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Option<Repacked>, StoreError> {
    let lock = match dry_run {
        true => None,
        false => match KeyLock::acquire(&store.base().join("locks/gc"), &mut |_| false)? {
            Some(lock) => Some(lock),
            None => return Ok(None),
        },
    };
    let mut blobs = Vec::new();
    store.scan(Space::Blob, &mut |found| {
        if let Some((entry, Form::Zstd)) = found.name {
            blobs.push(Blob { digest: entry.digest, path: found.path, bytes: found.bytes });
        }
    })?;
    let mut done = Repacked { blobs: blobs.len() as u64, ..Repacked::default() };
    for (number, blob) in (0..).zip(&blobs) {
        if !go_on(number, done.blobs) {
            break;
        }
        done.take(blob, store.repack_one(blob, level, dry_run)?);
    }
    if !dry_run
        && done.saved_bytes() > 0
        && let Some(size) = size::read(store)
    {
        size::set(store, size.bytes().saturating_sub(done.saved_bytes()), now_us)?;
    }
    drop(lock);
    Ok(Some(done))
}

enum Outcome {
    DoneBefore,
    Smaller(u64),
    NotSmaller,
    Damaged,
    /// It was removed meanwhile.
    Gone,
}

impl Repacked {
    fn take(&mut self, blob: &Blob, outcome: Outcome) {
        match outcome {
            Outcome::DoneBefore => self.done_before += 1,
            Outcome::Smaller(bytes) => {
                self.smaller += 1;
                self.bytes_before += blob.bytes;
                self.bytes_after += bytes;
            }
            Outcome::Damaged => self.damaged += 1,
            Outcome::NotSmaller | Outcome::Gone => {}
        }
    }
}

impl LocalStore {
    fn repack_one(&self, blob: &Blob, level: i32, dry_run: bool) -> Result<Outcome, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(old) = rustix::fs::open(&blob.path, flags, Mode::empty()).map(File::from) else {
            return Ok(Outcome::Gone);
        };
        let Ok(stat) = rustix::fs::fstat(&old) else { return Ok(Outcome::Damaged) };
        let old_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let (frame_bytes, tried) = match mark_of(&old, old_bytes) {
            Some(tried) => (old_bytes - MARK_BYTES, Some(tried)),
            None => (old_bytes, None),
        };
        if tried.is_some_and(|tried| i32::from(tried) >= level) {
            return Ok(Outcome::DoneBefore);
        }
        let temp = if dry_run { None } else { Some(self.temp()?) };
        let mut into = Into { temp: temp.as_ref(), bytes: 0, failed: None };
        let packed = pack_again(&old, blob.digest, level, &mut into);
        let Into { bytes: packed_bytes, failed, .. } = into;
        if let Some(error) = failed {
            return Err(error);
        }
        if packed.is_err() {
            return Ok(Outcome::Damaged);
        }
        let new_bytes = MARK_BYTES + packed_bytes.min(frame_bytes);
        if let Some(packed) = temp {
            let temp = if packed_bytes < frame_bytes { packed } else { self.copy_frame(&old, frame_bytes)? };
            let tried = u8::try_from(level).unwrap_or(u8::MAX);
            temp.write(&[&MARK[..], &[tried]].concat())?;
            keep_times(&temp.file, &stat).map_err(|errno| io("write", &temp.path, errno))?;
            self.place(temp, &blob.path)?;
        }
        Ok(if new_bytes < blob.bytes { Outcome::Smaller(new_bytes) } else { Outcome::NotSmaller })
    }

    fn copy_frame(&self, old: &File, bytes: u64) -> Result<Temp<'_>, StoreError> {
        let temp = self.temp()?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut frame = At { file: old, at: 0 }.take(bytes);
        loop {
            match frame.read(&mut chunk).map_err(StoreError::Peer)? {
                0 => return Ok(temp),
                length => temp.write(&chunk[..length])?,
            }
        }
    }
}

/// It is as old as it was: collections go by that.
fn keep_times(file: &File, stat: &Stat) -> rustix::io::Result<()> {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(file, &times)
}

/// Where packed bytes go: into a file of the store, or nowhere but into the count.
struct Into<'t> {
    temp: Option<&'t Temp<'t>>,
    bytes: u64,
    /// What the store said, since a writer can only say less.
    failed: Option<StoreError>,
}

impl Write for Into<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes += bytes.len() as u64;
        if let Some(temp) = self.temp
            && let Err(error) = temp.write(bytes)
        {
            self.failed = Some(error);
            return Err(std::io::ErrorKind::Other.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The level that the file's end says was tried.
fn mark_of(file: &File, bytes: u64) -> Option<u8> {
    let mut end = [0; MARK.len() + 1];
    file.read_exact_at(&mut end, bytes.checked_sub(MARK_BYTES)?).ok()?;
    end.strip_prefix(&MARK[..]).map(|level| level[0])
}

/// Writes one frame of what `old` holds; an error where that is not `digest`.
fn pack_again(old: &File, digest: Digest, level: i32, into: &mut dyn Write) -> std::io::Result<()> {
    let mut head = [0; 32];
    let length = old.read_at(&mut head, 0)?;
    let size = zstd::zstd_safe::get_frame_content_size(&head[..length]).ok().flatten();
    let mut from = zstd::stream::read::Decoder::new(At { file: old, at: 0 })?;
    let mut packed = zstd::stream::write::Encoder::new(into, level)?;
    // A reader makes room for short content before it unpacks.
    packed.set_pledged_src_size(size)?;
    let mut hasher = Hasher::new(digest.function());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        hasher.update(&chunk[..length]);
        packed.write_all(&chunk[..length])?;
    }
    if hasher.finish() != digest {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    packed.finish().map(drop)
}
