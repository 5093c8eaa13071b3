//! A unit's outputs into the store and back to where cargo wants them. Knows no arguments.
//!
//! | output | kept as | put back as |
//! |---|---|---|
//! | rlib | a hard link, then read-only for everybody | a hard link, else a reflink or copy: nothing rewrites it in place |
//! | rmeta | a hard link | the same, and it may be written: rustc refuses to replace one that may not, and cargo leaves it there |
//! | programs and shared libraries | a hard link | reflink, else a copy: tools strip and patch them |
//! | what build scripts write | reflink, else a copy: they write it again in its place | the same |
//! | texts (`.d`) | their bytes, with the folders hidden | written |
//!
//! What a hard link shares may be written through its other name, so it is hashed again unless its `stat` is the one that
//! was vouched for. What is put back gets the time of now, as if it had been compiled: cargo goes by it.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use spolia_core::{Digest, DigestFunction};
use spolia_engine::observe::TableSearch;
use spolia_store::{Entry, StatKey, Store};

use super::folders::Search;
use super::reads;
use crate::Room;
use crate::replay::{self, Place, ReplayError, Share};
use crate::sets::KeptOutput;

/// The name of an rmeta among outputs.
const METADATA: &str = "metadata";

/// How an output gets to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// A hard link will do.
    Link,
    /// A file of its own.
    Copy,
    /// The same, and another in the store: who made it writes it again in its place.
    Apart,
    /// Bytes with the folders hidden.
    Text,
    /// A folder with nothing in it.
    Folder,
}

fn at(verb: &'static str, path: &Path, source: impl Into<std::io::Error>) -> ReplayError {
    ReplayError::Place { verb, path: path.to_owned(), source: source.into() }
}

/// Keeps the file at `path`; `search` goes through its content. `None` where it is not there.
///
/// # Errors
/// It cannot be read; the store cannot be written.
pub(super) fn keep(
    room: &Room,
    name: &str,
    path: &Path,
    how: How,
    search: &mut Search<'_>,
) -> Result<Option<KeptOutput>, ReplayError> {
    let read = |error: std::io::Error| at("read", path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    // What others will run or load; so it need not be read for that once more.
    let mut table = (how == How::Copy).then(TableSearch::default);
    let mut look = |piece: &[u8]| {
        search.push(piece);
        if let Some(table) = &mut table {
            table.push(piece);
        }
    };
    let (digest, size) = spolia_store::hash_seen(&file, &mut look).map_err(read)?;
    search.end();
    if let Some(table) = table {
        reads::remember_reads_all_variables(room, &digest, table.may_read_all_variables());
    }
    let metadata = file.metadata().map_err(read)?;
    let executable = metadata.mode() & 0o100 != 0;
    if how == How::Link && name != METADATA {
        // A tool that is not the superuser's cannot write through either name now.
        let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o555);
        file.set_permissions(mode).map_err(|error| at("write", path, error))?;
    }
    let kept =
        KeptOutput { name: name.to_owned(), digest: *digest.as_bytes(), size, executable, inline: None };
    if how == How::Apart || size != metadata.len() || !room.store.adopt(path, digest)? {
        let imported = room.store.import(&file)?;
        let digest = *imported.digest.as_bytes();
        return Ok(Some(KeptOutput { digest, size: imported.size, ..kept }));
    }
    // Nobody knows of the outputs before this process ends, or of a program before its link does.
    vouch(room, path, &digest);
    Ok(Some(kept))
}

/// Keeps the digest of a file that this call has made or put in place.
pub(super) fn vouch(room: &Room, path: &Path, digest: &Digest) {
    if let Ok(stat) = rustix::fs::lstat(path) {
        room.memo.vouch(&StatKey::of(&stat), digest);
    }
}

/// Whether a file is known to hold `digest`, and nobody has changed it since.
pub(super) fn is_vouched(room: &Room, path: &Path, digest: &Digest) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| room.memo.lookup(&StatKey::of(&stat)).as_ref() == Some(digest))
}

/// Puts a kept output at `path`.
///
/// # Errors
/// It is gone from the store, or no longer what it was; the place cannot be written.
pub(super) fn put(room: &Room, kept: &KeptOutput, path: &Path, how: How) -> Result<(), ReplayError> {
    let digest = Digest::new(DigestFunction::Blake3, kept.digest);
    if kept.inline.is_none() {
        let blob = room.store.plain_path(digest);
        if is_sound(room, &blob, &digest, kept)? {
            match how {
                How::Link if link(&blob, path)? => {
                    if kept.name == METADATA {
                        allow_writing(path);
                    }
                    vouch(room, path, &digest);
                    return Ok(());
                }
                _ => {
                    if copy(&blob, path, kept.executable)? {
                        vouch(room, path, &digest);
                        return Ok(());
                    }
                }
            }
        }
    }
    clear(path)?;
    replay::put(room, kept, &Place::new(&kept.name, path.to_owned(), Share::Copy))?;
    vouch(room, path, &digest);
    Ok(())
}

/// Whether the plain file of a blob is there and holds what its name says.
///
/// # Errors
/// It does not; it is no more.
pub(super) fn is_sound(
    room: &Room,
    blob: &Path,
    digest: &Digest,
    kept: &KeptOutput,
) -> Result<bool, ReplayError> {
    let Ok(stat) = rustix::fs::lstat(blob) else { return Ok(false) };
    let key = StatKey::of(&stat);
    if room.memo.lookup(&key).as_ref() == Some(digest) {
        return Ok(true);
    }
    let found = if key.size == kept.size { room.memo.digest(blob).ok() } else { None };
    if let Some((key, found)) = found
        && found == *digest
    {
        room.memo.vouch(&key, digest);
        return Ok(true);
    }
    // Somebody wrote through another name of it, or a crash cut it short.
    let _kept = room.store.remove(Entry::blob(*digest));
    Err(ReplayError::Gone { name: kept.name.clone() })
}

/// Whether a hard link could be made.
fn link(blob: &Path, path: &Path) -> Result<bool, ReplayError> {
    clear(path)?;
    if rustix::fs::linkat(CWD, blob, CWD, path, AtFlags::empty()).is_err() {
        return Ok(false);
    }
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| at("write", path, errno))?;
    Ok(true)
}

/// Lets the owner write to what was kept read-only by an earlier version.
fn allow_writing(path: &Path) {
    if let Ok(stat) = rustix::fs::lstat(path)
        && stat.st_mode & 0o200 == 0
    {
        // What cannot be changed is removed before it is compiled again.
        let _stays = rustix::fs::chmod(path, Mode::from_raw_mode((stat.st_mode & 0o777) | 0o200));
    }
}

/// Removes an output that may not be written, where rustc is to make it anew: it would refuse.
pub(super) fn make_way(path: &Path) {
    let refuses = |stat: rustix::fs::Stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_mode & 0o222 == 0
    };
    if rustix::fs::lstat(path).is_ok_and(refuses) {
        let _stays = rustix::fs::unlink(path);
    }
}

/// Whether the blob's file could be opened and copied.
fn copy(blob: &Path, path: &Path, executable: bool) -> Result<bool, ReplayError> {
    let Ok(from) = File::open(blob) else { return Ok(false) };
    clear(path)?;
    let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = match rustix::fs::openat(CWD, path, flags, mode) {
        Ok(to) => File::from(to),
        Err(errno) => return Err(at("write", path, errno)),
    };
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(true);
    }
    std::io::copy(&mut &from, &mut &to).map_err(|error| at("write", path, error))?;
    Ok(true)
}

/// Makes way: what stands there may have other names that must stay as they are.
fn clear(path: &Path) -> Result<(), ReplayError> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(at("replace", path, errno)),
    }
}
