//! Carries a plan out: `SweepPlan → Applied`. Removes nothing outside of the target directory.
//!
//! - Every folder is opened by name from the one above, none of them a link, starting from the target directory;
//!   a thing is removed only where it still is the file or folder that was planned.
//! - Cargo's own lock on each profile folder is held meanwhile, so that no build runs in it. `still_true` is
//!   asked once the locks are held: a build before that may have made the plan wrong.
//! - A unit loses its fingerprint first. Whatever ends a sweep in the middle leaves units that are whole or
//!   units that Cargo does not know; the next sweep finds those.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{SweepError, io};
use crate::find::LOCK;
use crate::plan::{Part, SweepPlan};
use crate::scan::{bytes_on_disk, open_below};

/// How deep folders are gone into.
const DEPTH_MAX: usize = 200;
/// Between two tries for Cargo's lock.
const PAUSE: Duration = Duration::from_millis(100);

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// Entries of which every part is gone.
    pub entries: u64,
    /// Files and folders that were removed or moved.
    pub parts: u64,
    /// Bytes that became free, each file looked at just before; with the quarantine, those that will by the plan.
    pub bytes: u64,
    /// What stayed, and why.
    pub left: Vec<(PathBuf, String)>,
    /// Whether it was stopped before the end.
    pub stopped: bool,
    /// Whether nothing was done, since the tree or its workspace had changed since the plan.
    pub outdated: bool,
    /// Profile folders that were left, since a build runs in them.
    pub busy: Vec<String>,
    /// Why the rest was not tried: nothing can be put aside on a full or read-only disk.
    pub hindered: Option<String>,
}

/// What is asked while a plan is carried out.
pub struct Guide<'g> {
    /// Whether to go on waiting for Cargo's lock on a profile folder.
    pub wait: &'g mut dyn FnMut(&str) -> bool,
    /// Whether what the plan follows from is as it was.
    pub still_true: &'g mut dyn FnMut() -> bool,
    /// Whether to go on; told what has been freed.
    pub go_on: &'g mut dyn FnMut(u64) -> bool,
}

/// Cargo's locks on profile folders. Dropping it lets go.
pub struct Locks {
    held: Vec<File>,
    /// Profiles that a build runs in.
    pub busy: Vec<String>,
}

/// Takes Cargo's lock on each of the profile folders below `root`.
///
/// # Errors
/// A lock file cannot be opened, or is none.
pub fn lock<'p>(
    root: &OwnedFd,
    profiles: impl IntoIterator<Item = &'p str>,
    wait: &mut dyn FnMut(&str) -> bool,
) -> Result<Locks, SweepError> {
    let mut locks = Locks { held: Vec::new(), busy: Vec::new() };
    for profile in profiles {
        let path = Path::new(profile);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open_below(root, path)
            .and_then(|folder| rustix::fs::openat(folder, LOCK, flags, Mode::from_raw_mode(0o644)))
            .map(File::from)
            .map_err(|error| io("lock", path.join(LOCK), error))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    locks.held.push(file);
                    break;
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    if !wait(profile) {
                        locks.busy.push(profile.to_owned());
                        break;
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(io("lock", path.join(LOCK), error)),
            }
        }
    }
    Ok(locks)
}

/// Opens a target directory; its path is canonical, so none of it is a link.
///
/// # Errors
/// It is not there, or a link has taken its place.
pub fn open_target(target: &Path) -> Result<OwnedFd, SweepError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(target, flags, Mode::empty()).map_err(|error| io("open", target, error))
}

/// Puts one part of an entry elsewhere instead of removing it: the target directory and the part.
pub type PutAside<'a> = dyn FnMut(&OwnedFd, &Part) -> Result<(), std::io::Error> + 'a;

/// Removes what `plan` names from `target`.
///
/// # Errors
/// The target directory or a lock in it cannot be opened. What cannot be removed is reported.
pub fn apply(
    target: &Path,
    plan: &SweepPlan,
    guide: &mut Guide<'_>,
    aside: Option<&mut PutAside<'_>>,
) -> Result<Applied, SweepError> {
    let root = open_target(target)?;
    let device = rustix::fs::fstat(&root).map_err(|error| io("look at", target, error))?.st_dev;
    // What lies beside the profiles is written under their locks too.
    let profiles = crate::find::profiles(target).map_err(|error| io("list", target, error))?;
    let locks = lock(&root, profiles.iter().map(String::as_str), guide.wait)?;
    let mut applied = Applied { busy: locks.busy.clone(), ..Applied::default() };
    if !(guide.still_true)() {
        applied.outdated = true;
        return Ok(applied);
    }
    let busy: BTreeSet<&str> = locks.busy.iter().map(String::as_str).collect();
    let mut aside = aside;
    'entries: for entry in &plan.entries {
        if !(guide.go_on)(applied.bytes) {
            applied.stopped = true;
            break;
        }
        if busy.contains(&*entry.profile) || (entry.profile.is_empty() && !busy.is_empty()) {
            continue;
        }
        let before = applied.left.len();
        for part in plan.parts(entry) {
            let mut freed = 0;
            let done = match &mut aside {
                Some(moved) => check(&root, &part.path, part.id)
                    .and_then(|there| if there { moved(&root, &part) } else { Ok(()) }),
                None => remove(&root, &part.path, part.id, device, &mut freed),
            };
            applied.bytes += freed;
            match done {
                Ok(()) => applied.parts += 1,
                Err(error) if aside.is_some() && is_hindrance(&error) => {
                    applied.hindered = Some(error.to_string());
                    break 'entries;
                }
                Err(error) => applied.left.push((part.path, error.to_string())),
            }
        }
        if applied.left.len() == before {
            applied.entries += 1;
            applied.bytes += if aside.is_some() { entry.bytes } else { 0 };
        }
    }
    drop(locks.held);
    Ok(applied)
}

/// Whether the next thing cannot be put aside either.
fn is_hindrance(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}

fn split(path: &Path) -> Result<(&Path, CString), std::io::Error> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok((path.parent().unwrap_or(Path::new("")), CString::new(name.as_bytes())?))
}

/// Whether the path is still what was planned; an error where something else has its name.
fn check(root: &OwnedFd, path: &Path, id: (u64, u64)) -> Result<bool, std::io::Error> {
    let (above, name) = split(path)?;
    let folder = match open_below(root, above) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(stat) if (stat.st_dev, stat.st_ino) == id => Ok(true),
        Ok(_) => Err(std::io::Error::other("it was replaced since the plan was made")),
    }
}

fn remove(
    root: &OwnedFd,
    path: &Path,
    id: (u64, u64),
    device: u64,
    freed: &mut u64,
) -> Result<(), std::io::Error> {
    if !check(root, path, id)? {
        return Ok(());
    }
    let (above, name) = split(path)?;
    let folder = open_below(root, above)?;
    remove_tree(folder.as_fd(), &name, device, 0, freed)
}

/// Removes a file or a folder with all in it. Enters no link and no other file system. `freed` grows by the bytes on disk
/// of what went under its last name.
///
/// # Errors
/// The first thing that could not be removed; the rest is tried.
pub(crate) fn remove_tree(
    folder: impl AsFd,
    name: &CStr,
    device: u64,
    depth: usize,
    freed: &mut u64,
) -> Result<(), std::io::Error> {
    let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let bytes = bytes_on_disk(&stat);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) => {
                *freed += if stat.st_nlink > 1 { 0 } else { bytes };
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        };
    }
    if stat.st_dev != device {
        return Err(std::io::Error::other("another file system is mounted there"));
    }
    if depth >= DEPTH_MAX {
        return Err(std::io::Error::other("it is too deep"));
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    let mut first = Ok(());
    // The list is read to its end first: what is removed meanwhile would make it skip.
    let entries: Vec<CString> =
        Dir::read_from(&inner)?.flatten().map(|entry| entry.file_name().to_owned()).collect();
    for entry in entries {
        if !matches!(entry.to_bytes(), b"." | b"..") {
            let done = remove_tree(&inner, &entry, device, depth + 1, freed);
            first = first.and(done);
        }
    }
    first?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Ok(()) => {
            *freed += bytes;
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
