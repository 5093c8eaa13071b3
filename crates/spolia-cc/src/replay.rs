//! Outputs into the store and back to where a call wants them. Knows no compiler.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use spolia_core::Digest;
use spolia_store::{Entry, Store, StoreError};

use crate::Room;
use crate::sets::{KeptOutput, Raw};

/// Texts up to this size lie in the manifest itself, bytes: a depfile packs well, and a file of its own would take a block.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Files shorter than this as well, bytes: one of its own would take a block and not be packed.
const INLINE_FILE_BYTES_END: u64 = 4096;

/// How an output gets to its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Its bytes are shared where the file system can, else copied.
    #[default]
    Copy,
    /// A hard link to the store's file, whose content is checked at each use: a tool that writes through a link
    /// costs a miss, not a wrong result.
    HardLink,
    /// Its text depends on the call: it goes through the invocation's own hands.
    Text,
}

/// One output of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which it is, whatever its path: `o`, `d`, `dwo`.
    pub name: String,
    /// Where the call wants it.
    pub path: PathBuf,
    /// How it gets there.
    pub share: Share,
    /// Whether a compile that succeeded may leave it out.
    pub optional: bool,
    /// Whether a symlink that stands there is replaced; else its target is written.
    pub replaces_link: bool,
}

impl Place {
    /// An output that is always there.
    pub fn new(name: &str, path: PathBuf, share: Share) -> Self {
        Self { name: name.to_owned(), path, share, optional: false, replaces_link: false }
    }
}

/// Why an output could not be kept or put back.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The store has it no more, or not whole.
    #[error("output `{name}`")]
    Gone {
        /// Which.
        name: String,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output's place could not be read or written.
    #[error("cannot {verb} `{path}`: {source}")]
    Place {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn at(verb: &'static str, path: &Path, source: impl Into<std::io::Error>) -> ReplayError {
    ReplayError::Place { verb, path: path.to_owned(), source: source.into() }
}

/// Keeps `content` as the output `name`.
///
/// # Errors
/// Those of the store.
pub fn keep_bytes(
    room: &Room,
    name: &str,
    content: &[u8],
    executable: bool,
) -> Result<KeptOutput, StoreError> {
    let digest = Digest::blake3(content);
    let short = content.len() <= INLINE_BYTES_MAX;
    if !short {
        room.store.put_bytes(Entry::blob(digest), content)?;
    }
    Ok(KeptOutput {
        name: name.to_owned(),
        digest: *digest.as_bytes(),
        size: content.len() as u64,
        executable,
        inline: short.then(|| Raw(content.to_vec())),
    })
}

/// Keeps the file at `path` as the output `name`; `None` where it is not there.
///
/// # Errors
/// It is no regular file, or cannot be read; those of the store.
pub fn keep_file(
    room: &Room,
    name: &str,
    path: &Path,
    share: Share,
) -> Result<Option<KeptOutput>, ReplayError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(at("read", path, errno)),
    };
    let metadata = file.metadata().map_err(|error| at("read", path, error))?;
    if !metadata.is_file() {
        return Err(at("read", path, std::io::Error::other("it is no regular file")));
    }
    let executable = metadata.mode() & 0o100 != 0;
    if share == Share::HardLink {
        let (key, digest) = room.digest(path).map_err(|error| at("read", path, error))?;
        if room.store.adopt(path, digest)? {
            let (name, digest) = (name.to_owned(), *digest.as_bytes());
            return Ok(Some(KeptOutput { name, digest, size: key.size, executable, inline: None }));
        }
    }
    // Who wants hard links wants something to link to.
    if share != Share::HardLink && metadata.len() < INLINE_FILE_BYTES_END {
        let mut content = Vec::with_capacity(INLINE_FILE_BYTES_END as usize);
        let limited = (&file).take(INLINE_FILE_BYTES_END).read_to_end(&mut content);
        let length = limited.map_err(|error| at("read", path, error))?;
        if (length as u64) < INLINE_FILE_BYTES_END {
            return Ok(Some(keep_bytes(room, name, &content, executable)?));
        }
    }
    let imported = room.store.import(&file)?;
    Ok(Some(KeptOutput {
        name: name.to_owned(),
        digest: *imported.digest.as_bytes(),
        size: imported.size,
        executable,
        inline: None,
    }))
}

/// The content of a kept output.
///
/// # Errors
/// It is gone; those of the store.
pub fn content(room: &Room, kept: &KeptOutput) -> Result<Vec<u8>, ReplayError> {
    if let Some(Raw(inline)) = &kept.inline {
        return Ok(inline.clone());
    }
    let gone = || ReplayError::Gone { name: kept.name.clone() };
    let blob = kept.blob().ok_or_else(gone)?;
    let mut content = Vec::with_capacity(usize::try_from(kept.size).unwrap_or(0).min(64 << 20));
    match room.store.get(Entry::blob(blob), &mut content) {
        Ok(Some(_)) => Ok(content),
        Ok(None) | Err(StoreError::Corrupt { .. }) => Err(gone()),
        Err(error) => Err(error.into()),
    }
}

/// Gives the store's own file a name at `path` as well, if it is there and still holds what it should; whether that
/// was done. Its time becomes that of now: make goes by that.
fn link(room: &Room, kept: &KeptOutput, path: &Path) -> bool {
    let Some(blob) = kept.blob() else { return false };
    let stored = room.store.plain_path(blob);
    if rustix::fs::stat(&stored).is_err() {
        return false;
    }
    // Somebody may have written through another name of it.
    if room.digest(&stored).map(|(_, found)| found).ok() != Some(blob) {
        let _unremoved = std::fs::remove_file(&stored);
        return false;
    }
    let _not_there = rustix::fs::unlink(path);
    if std::fs::hard_link(&stored, path).is_err() {
        return false;
    }
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Puts a kept output in its place.
///
/// # Errors
/// It is gone from the store; the place cannot be written.
pub fn put(room: &Room, kept: &KeptOutput, place: &Place) -> Result<(), ReplayError> {
    let Place { path, share, .. } = place;
    let create = |path, executable| create(path, executable, place.replaces_link);
    if *share == Share::HardLink && link(room, kept, path) {
        return Ok(());
    }
    if let Some(Raw(inline)) = &kept.inline {
        let mut file = create(path, kept.executable).map_err(|error| at("write", path, error))?;
        return file.write_all(inline).map_err(|error| at("write", path, error));
    }
    let gone = || ReplayError::Gone { name: kept.name.clone() };
    let blob = kept.blob().ok_or_else(gone)?;
    let mut file = create(path, kept.executable).map_err(|error| at("write", path, error))?;
    if let Some(shared) = room.store.plain_file(Entry::blob(blob))
        && room.memo_vouches(&shared, &blob)
        && rustix::fs::ioctl_ficlone(&file, &shared).is_ok()
    {
        return Ok(());
    }
    match room.store.get(Entry::blob(blob), &mut file) {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(StoreError::Corrupt { .. }) => Err(gone()),
        Err(StoreError::Peer(error)) => Err(at("write", path, error)),
        Err(error) => Err(error.into()),
    }
}

/// Writes `content` to `path`.
///
/// # Errors
/// The place cannot be written.
pub fn write(path: &Path, content: &[u8], executable: bool) -> Result<(), ReplayError> {
    let mut file = create(path, executable, false).map_err(|error| at("write", path, error))?;
    file.write_all(content).map_err(|error| at("write", path, error))
}

/// An empty file at `path`, as a compiler would make it. One with several names loses this one first, so that
/// what the others name stays; so does a symlink where it is to be replaced.
fn create(path: &Path, executable: bool, replaces_link: bool) -> std::io::Result<File> {
    let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, new, mode) {
        Ok(file) => return Ok(File::from(file)),
        Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stat = rustix::fs::lstat(path)?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found == FileType::RegularFile || (replaces_link && found == FileType::Symlink) {
        rustix::fs::unlink(path)?;
        return Ok(File::from(rustix::fs::openat(CWD, path, new, mode)?));
    }
    let over = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(CWD, path, over, mode)?))
}
