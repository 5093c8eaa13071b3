//! What Cargo has unpacked in its home, removed under Cargo's own lock, as far as Cargo can unpack it again.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use spolia_store::disk;

use super::Surroundings;
use crate::apply::remove_tree;
use crate::error::{SweepError, io};

/// Removes what Cargo unpacked longest ago, until `wanted` bytes are free, under Cargo's own lock.
pub(super) fn remove_unpacked(
    folders: &[&PathBuf],
    wanted: u64,
    before_us: Option<u64>,
    around: &Surroundings<'_>,
) -> Result<(), SweepError> {
    let home = folders.first().and_then(|folder| folder.parent()?.parent()).unwrap_or(around.home);
    let mut locks: Vec<OwnedFd> = Vec::new();
    for name in [".package-cache", ".package-cache-mutate"] {
        let path = home.join(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))
            .map_err(|error| io("lock", &path, error))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io("lock", &path, std::io::Error::other("Cargo is using its cache")))?;
        locks.push(file);
    }
    // `registry/src/INDEX/NAME-VERSION` and `git/checkouts/NAME-HASH/COMMIT`.
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for folder in folders {
        for above in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            for entry in std::fs::read_dir(above.path()).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || !comes_back(home, &entry.path()) {
                    continue;
                }
                let ok = entry.path().join(".cargo-ok");
                let at = std::fs::symlink_metadata(ok)
                    .or_else(|_| entry.metadata())
                    .and_then(|f| f.modified())
                    .ok();
                let at = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
                let at_us = at.and_then(|at| u64::try_from(at.as_micros()).ok()).unwrap_or(0);
                found.push((at_us, entry.path()));
            }
        }
    }
    found.sort();
    let mut freed = 0;
    for (at_us, path) in found {
        if freed >= wanted || before_us.is_some_and(|before| at_us >= before) {
            break;
        }
        if around.cancel.is_cancelled() {
            return Err(SweepError::Stopped);
        }
        let bytes = disk::usage(&path).bytes;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let above = rustix::fs::open(path.parent().unwrap_or(home), flags, Mode::empty())
            .map_err(|error| io("open", &path, error))?;
        let device = rustix::fs::fstat(&above).map_err(|error| io("look at", &path, error))?.st_dev;
        let name = path.file_name().unwrap_or_default();
        let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))
            .map_err(|error| io("remove", &path, std::io::Error::from(error)))?;
        // Without its mark Cargo unpacks it anew, however far the removal came.
        let _absent = std::fs::remove_file(path.join(".cargo-ok"));
        remove_tree(&above, &name, device, 0, &mut 0).map_err(|error| io("remove", &path, error))?;
        freed += bytes;
    }
    drop(locks);
    Ok(())
}

/// Whether Cargo can unpack `unpacked` again from what it has downloaded: `registry/src/INDEX/NAME` from
/// `registry/cache/INDEX/NAME.crate`, `git/checkouts/REPOSITORY/COMMIT` from `git/db/REPOSITORY`. Submodules are fetched
/// anew for each checkout.
fn comes_back(home: &Path, unpacked: &Path) -> bool {
    let (Some(name), Some(above)) = (unpacked.file_name(), unpacked.parent().and_then(Path::file_name))
    else {
        return false;
    };
    if unpacked.starts_with(home.join("git")) {
        return home.join("git/db").join(above).is_dir() && !unpacked.join(".gitmodules").exists();
    }
    let mut archive = name.to_owned();
    archive.push(".crate");
    home.join("registry/cache").join(above).join(archive).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cargo_unpacks_again_goes() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path();
        let make = |path: &str| {
            std::fs::create_dir_all(home.join(path).parent().unwrap()).unwrap();
            std::fs::write(home.join(path), "x").unwrap();
        };
        for path in [
            "registry/src/i/a-1/lib.rs",
            "registry/cache/i/a-1.crate",
            "registry/src/i/b-1/lib.rs",
            "git/checkouts/r-1/c/lib.rs",
            "git/checkouts/r-1/d/.gitmodules",
            "git/db/r-1/HEAD",
            "git/checkouts/s-1/c/lib.rs",
        ] {
            make(path);
        }
        let check =
            |path: &str, expect: bool| assert_eq!(comes_back(home, &home.join(path)), expect, "{path}");
        check("registry/src/i/a-1", true);
        check("registry/src/i/b-1", false);
        check("git/checkouts/r-1/c", true);
        check("git/checkouts/r-1/d", false);
        check("git/checkouts/s-1/c", false);
    }
}
