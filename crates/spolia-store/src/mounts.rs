//! The folders of cache mounts in a store, `v1/mounts/OWNER/ID`: which there are, and taking them for use.
//!
//! ```text
//! v1/mounts/OWNER/ID         the folder itself
//! v1/mounts/OWNER/ID.lock    held while it is in use: by one, or by all who share it
//! v1/mounts/OWNER/ID.used    empty; its time is the last use
//! ```
//!
//! A collection takes the lock for itself first, so one that is in use stays. An `ID` never ends in `.lock` or `.used`.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::local::{LocalStore, names};
use crate::lock::{KeyLock, Waiting, take};
use crate::store::StoreError;

/// One mount's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMount {
    /// Where.
    pub path: PathBuf,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
    /// When it was last used, µs since 1970; by the newest change in it, where that was not written down.
    pub used_at_us: u64,
}

/// Use of a mount that others may use at the same time. Dropping it lets go.
#[derive(Debug)]
pub struct SharedUse {
    _file: File,
}

/// The lock of the mount in `folder`.
pub fn lock_path(folder: &Path) -> PathBuf {
    beside(folder, ".lock")
}

fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Takes the mount in `folder` for use beside others. `None` once `wait` answers `false`: a collection has it.
///
/// # Errors
/// The lock cannot be made.
pub fn share(folder: &Path, wait: &mut dyn FnMut(Waiting) -> bool) -> Result<Option<SharedUse>, StoreError> {
    let file = take(&lock_path(folder), FlockOperation::NonBlockingLockShared, wait)?;
    Ok(file.map(|file| SharedUse { _file: file }))
}

/// Writes down that the mount in `folder` is used now. That it cannot be costs it an early end.
pub fn note_use(folder: &Path) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(beside(folder, ".used"), flags, Mode::from_raw_mode(0o666));
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let _unwritten = file.map(|file| rustix::fs::futimens(file, &times));
}

/// Every mount's folder.
///
/// # Errors
/// Those of listing; what cannot be read in one is not counted.
pub fn list(store: &LocalStore) -> Result<Vec<ListedMount>, StoreError> {
    let mut mounts = Vec::new();
    for (_, owner) in names(&store.base().join("mounts"))? {
        if !owner.is_dir() {
            continue;
        }
        for (name, path) in names(&owner)? {
            if name.ends_with(b".lock") || name.ends_with(b".used") || !is_folder(&path) {
                continue;
            }
            let mut mount = ListedMount { path, bytes: 0, files: 0, used_at_us: 0 };
            let newest_us = mount.count();
            mount.used_at_us = changed_us(&beside(&mount.path, ".used")).unwrap_or(newest_us);
            mounts.push(mount);
        }
    }
    Ok(mounts)
}

fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn changed_us(path: &Path) -> Option<u64> {
    let stat = rustix::fs::lstat(path).ok()?;
    u64::try_from(stat.st_mtime.saturating_mul(1_000_000).saturating_add(stat.st_mtime_nsec as i64 / 1000))
        .ok()
}

impl ListedMount {
    /// Adds up what is in it, without following links; the newest change.
    fn count(&mut self) -> u64 {
        let mut newest = changed_us(&self.path).unwrap_or(0);
        let mut open = vec![self.path.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(found) = entry.metadata() else { continue };
                if found.is_dir() {
                    open.push(entry.path());
                } else {
                    self.files += 1;
                    self.bytes += found.len();
                }
                newest = newest.max(changed_us(&entry.path()).unwrap_or(0));
            }
        }
        newest
    }

    /// Removes it unless it is in use, or was used since it was listed; whether it went.
    pub fn remove(&self) -> bool {
        let lock = KeyLock::acquire(&lock_path(&self.path), &mut |_| false);
        let Ok(Some(_lock)) = lock else { return false };
        let used = beside(&self.path, ".used");
        if changed_us(&used).is_some_and(|at| at > self.used_at_us) {
            return false;
        }
        let gone = std::fs::remove_dir_all(&self.path).is_ok();
        if gone {
            let _unremoved = std::fs::remove_file(used);
        }
        gone
    }
}
