//! Folders by file descriptor, one segment at a time, so that no symlink is ever followed. Knows no trees.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// What a segment of a path turned out to be when it had to be a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Absent,
    Link,
    Other,
    Failed(Errno),
}

/// How much of a folder's list is read at a time, bytes. On the stack, since most are short.
const LISTED_BYTES: usize = 4096;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that the caller trusts: symlinks on the way to it are followed.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// `name` in `folder`, which is a folder and no symlink to one.
pub(crate) fn open_child(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Obstacle> {
    match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOENT) => Err(Obstacle::Absent),
        Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => Err(match kind(folder, name) {
            Some(FileType::Symlink) => Obstacle::Link,
            Some(FileType::Directory) => Obstacle::Failed(errno),
            Some(_) => Obstacle::Other,
            None => Obstacle::Absent,
        }),
        Err(errno) => Err(Obstacle::Failed(errno)),
    }
}

/// What stands at `name`, if anything.
pub(crate) fn kind(folder: BorrowedFd<'_>, name: &[u8]) -> Option<FileType> {
    look(folder, name).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// `lstat` below an open folder.
pub(crate) fn look(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The folder at `path` below `root` by one call, where all of it is there and the kernel knows that call.
fn open_at_once(root: BorrowedFd<'_>, path: &[u8]) -> Option<OwnedFd> {
    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if path.is_empty() {
        return None;
    }
    rustix::fs::openat2(root, path, FOLDER, Mode::empty(), strict).ok()
}

/// The folder at `path` below `root`, and how many bytes of `path` the obstacle ends at.
pub(crate) fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, (Obstacle, usize)> {
    if let Some(fd) = open_at_once(root, path) {
        return Ok(fd);
    }
    // Where that is not known, or to find out what is in the way.
    let mut folder: Option<OwnedFd> = None;
    let mut end = 0;
    for segment in segments(path) {
        end += segment.len() + usize::from(end > 0);
        let above = folder.as_ref().map_or(root, |folder| folder.as_fd());
        folder = Some(open_child(above, segment).map_err(|obstacle| (obstacle, end))?);
    }
    match folder {
        Some(folder) => Ok(folder),
        None => rustix::fs::openat(root, c".", FOLDER, Mode::empty())
            .map_err(|errno| (Obstacle::Failed(errno), 0)),
    }
}

/// The same for a folder that may be `root` itself, which is open already: see [`or_root`].
pub(crate) fn open_above(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>, (Obstacle, usize)> {
    if path.is_empty() { Ok(None) } else { open_below(root, path).map(Some) }
}

/// What [`open_above`] has opened.
pub(crate) fn or_root<'f>(opened: &'f Option<OwnedFd>, root: BorrowedFd<'f>) -> BorrowedFd<'f> {
    opened.as_ref().map_or(root, |opened| opened.as_fd())
}

/// The same, making what is missing.
pub(crate) fn make_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, (Obstacle, usize)> {
    // Mostly all of it is there, or all but the last.
    if let Some(folder) = open_at_once(root, path) {
        return Ok(folder);
    }
    let above = split(path).0;
    let (mut folder, mut end, rest) = match open_below(root, above) {
        Ok(folder) => (folder, above.len(), path.get(above.len()..).unwrap_or_default()),
        Err(_) => (open_below(root, b"")?, 0, path),
    };
    for segment in segments(rest) {
        end += segment.len() + usize::from(end > 0);
        folder = match open_child(folder.as_fd(), segment) {
            Ok(below) => below,
            Err(Obstacle::Absent) => make_child(folder.as_fd(), segment).map_err(|why| (why, end))?,
            Err(obstacle) => return Err((obstacle, end)),
        };
    }
    Ok(folder)
}

fn make_child(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Obstacle> {
    match rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => open_child(folder, name),
        Err(errno) => Err(Obstacle::Failed(errno)),
    }
}

/// The segments of a normal relative path; none for the empty one.
pub(crate) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty())
}

/// `a/b/c` as (`a/b`, `c`).
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The names in the folder at `name` below `folder` (`.` for itself) and what they are.
pub(crate) fn list(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<(CString, FileType)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    list_open(&rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

/// The same of a folder that is open for reading.
pub(crate) fn list_open(fd: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); LISTED_BYTES];
    let mut entries = rustix::fs::RawDir::new(fd, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        let mut file_type = entry.file_type();
        if file_type == FileType::Unknown {
            file_type = FileType::from_raw_mode(look(fd.as_fd(), entry.file_name().to_bytes())?.st_mode);
        }
        found.push((entry.file_name().to_owned(), file_type));
    }
    Ok(found)
}

/// Removes what stands at `name`, with all that is in it. A folder whose mode forbids that is given
/// another mode first. What is not there is removed.
pub(crate) fn remove_all(folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // POSIX says EPERM for a folder, Linux EISDIR.
        Err(Errno::ISDIR | Errno::PERM) if kind(folder, name.to_bytes()) == Some(FileType::Directory) => {}
        Err(errno) => return Err(errno),
    }
    let names = match list(folder, name.to_bytes()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            list(folder, name.to_bytes())?
        }
        other => other?,
    };
    let inside = rustix::fs::openat(folder, name, FOLDER, Mode::empty())?;
    for (below, _) in names {
        if remove_all(inside.as_fd(), &below) == Err(Errno::ACCESS) {
            rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            remove_all(inside.as_fd(), &below)?;
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
