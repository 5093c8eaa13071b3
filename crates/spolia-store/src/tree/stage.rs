//! A folder beside the destination where a tree is put together before it is seen. Removed with all that
//! is left in it. Knows blobs and nodes, not where they go in the end.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use spolia_core::{Node, RelPath};

use super::folder;
use super::materialise::MaterialiseError;
use crate::digests::{DigestCache, StatKey};
use crate::store::{Entry, Store, StoreError};

/// What the names of stages begin with.
const PREFIX: &str = ".spolia-stage-";

/// The folder being filled.
pub(super) struct Stage<'s> {
    above: BorrowedFd<'s>,
    name: CString,
    folder: OwnedFd,
    /// For messages.
    pub(super) path: PathBuf,
    store: &'s dyn Store,
    digests: Option<&'s DigestCache>,
    /// Whether sharing bytes with the store's files is still worth a try.
    reflinks: bool,
    /// The folder below the stage that the last entry went into.
    parent: Option<(Vec<u8>, OwnedFd)>,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl<'s> Stage<'s> {
    /// A new empty stage in `above`, which `path` names for messages. What was left there by processes
    /// that were killed goes.
    pub(super) fn new(
        above: BorrowedFd<'s>,
        path: &Path,
        store: &'s dyn Store,
        digests: Option<&'s DigestCache>,
    ) -> Result<Self, MaterialiseError> {
        sweep(above);
        let text = format!("{PREFIX}{}", crate::local::temp_name());
        let path = path.join(&text);
        let failed = |errno: Errno| MaterialiseError::io("create", &path, errno);
        let name = CString::new(text).map_err(|_| failed(Errno::INVAL))?;
        rustix::fs::mkdirat(above, name.as_c_str(), Mode::from_raw_mode(0o777)).map_err(failed)?;
        let folder = folder::open_child(above, name.to_bytes()).map_err(|_| failed(Errno::NOENT))?;
        Ok(Self {
            above,
            name,
            folder,
            path,
            store,
            digests,
            reflinks: true,
            parent: None,
            files: 0,
            bytes: 0,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(super) fn name(&self) -> &CString {
        &self.name
    }

    fn failed(&self, verb: &'static str, at: &[u8], errno: Errno) -> MaterialiseError {
        use std::os::unix::ffi::OsStrExt;
        MaterialiseError::io(verb, &self.path.join(std::ffi::OsStr::from_bytes(at)), errno)
    }

    /// The folder `above` in the stage, made with all that is missing.
    fn parent(&mut self, above: &[u8]) -> Result<BorrowedFd<'_>, MaterialiseError> {
        if self.parent.as_ref().is_none_or(|(open, _)| open != above) {
            let fd = folder::make_below(self.folder.as_fd(), above).map_err(|(obstacle, _)| {
                let errno = if let folder::Obstacle::Failed(errno) = obstacle { errno } else { Errno::EXIST };
                self.failed("create", above, errno)
            })?;
            self.parent = Some((above.to_vec(), fd));
        }
        Ok(self.parent.as_ref().map_or(self.folder.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Makes `node` at `at` in the stage. `output` is its name in messages.
    pub(super) fn add(&mut self, at: &[u8], output: &RelPath, node: &Node) -> Result<(), MaterialiseError> {
        let (above, name) = folder::split(at);
        match node {
            Node::Folder => self.parent(at).map(|_| ()),
            Node::Symlink { target } => {
                let made = rustix::fs::symlinkat(target.as_slice(), self.parent(above)?, name);
                made.map_err(|errno| self.failed("create", at, errno))
            }
            Node::File { digest, size, executable } => {
                let mode = Mode::from_raw_mode(if *executable { 0o777 } else { 0o666 } & 0o755);
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let made = rustix::fs::openat(self.parent(above)?, name, flags, mode);
                let file = File::from(made.map_err(|errno| self.failed("create", at, errno))?);
                self.fill(&file, at, output, Entry::blob(*digest), *size)?;
                self.files += 1;
                self.bytes += size;
                Ok(())
            }
        }
    }

    /// Puts a file that is right already into the stage as another name of the same file; whether that
    /// was possible.
    pub(super) fn adopt(&mut self, at: &[u8], from: BorrowedFd<'_>, path: &RelPath) -> bool {
        let (above, name) = folder::split(at);
        let Ok(parent) = self.parent(above) else { return false };
        let none = rustix::fs::AtFlags::empty();
        rustix::fs::linkat(from, path.as_bytes(), parent, name, none).is_ok()
    }

    fn fill(
        &mut self,
        file: &File,
        at: &[u8],
        output: &RelPath,
        entry: Entry,
        size: u64,
    ) -> Result<(), MaterialiseError> {
        if self.reflinks && size > 0 && self.share(file, entry)? {
            return Ok(());
        }
        match self.store.get(entry, &mut &*file) {
            Ok(Some(found)) if found == size => Ok(()),
            Ok(Some(found)) => Err(MaterialiseError::Damaged {
                path: output.clone(),
                digest: entry.digest,
                what: format!("it has {found} bytes, and the result says {size}"),
            }),
            Ok(None) => Err(MaterialiseError::Gone { path: output.clone(), digest: entry.digest }),
            Err(StoreError::Corrupt { what, .. }) => {
                Err(MaterialiseError::Damaged { path: output.clone(), digest: entry.digest, what })
            }
            Err(StoreError::Peer(source)) => {
                use std::os::unix::ffi::OsStrExt;
                let path = self.path.join(std::ffi::OsStr::from_bytes(at));
                Err(MaterialiseError::io("write", &path, source))
            }
            Err(source) => Err(MaterialiseError::Store { path: output.clone(), source }),
        }
    }

    /// Shares the bytes of the store's own file; whether `file` now holds the right ones.
    fn share(&mut self, file: &File, entry: Entry) -> Result<bool, MaterialiseError> {
        let Some(plain) = self.store.plain_file(entry) else { return Ok(false) };
        if rustix::fs::ioctl_ficlone(file, &plain).is_err() {
            self.reflinks = false;
            return Ok(false);
        }
        let known = self.digests.and_then(|digests| {
            let stat = rustix::fs::fstat(&plain).ok()?;
            digests.lookup(&StatKey::of(&stat))
        });
        let right = match known {
            Some(digest) => digest == entry.digest,
            // The clone is read, not the original: these are the bytes that will be used.
            None => crate::hash::file(file).is_ok_and(|(digest, _)| digest == entry.digest),
        };
        if !right {
            // `get` meets the same file next, says what is wrong with it and removes it.
            rustix::fs::ftruncate(file, 0).map_err(|errno| self.failed("write", b"", errno))?;
        }
        Ok(right)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // After an exchange another process may still be writing into what is being removed. Best effort:
        // what stays is swept later.
        for _ in 0..3 {
            if folder::remove_all(self.above, &self.name) != Err(Errno::NOTEMPTY) {
                return;
            }
        }
    }
}

/// Removes what processes that were killed have left in `folder`; how many stages went.
pub fn sweep_stages(folder: &Path) -> u64 {
    folder::open_root(folder).map_or(0, |fd| sweep(fd.as_fd()))
}

pub(super) fn sweep(folder: BorrowedFd<'_>) -> u64 {
    let Ok(names) = folder::list(folder, b".") else { return 0 };
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    let mut swept = 0;
    for (name, _) in names {
        let Some(made_by) = name.to_bytes().strip_prefix(PREFIX.as_bytes()) else { continue };
        let Ok(stat) = folder::look(folder, name.to_bytes()) else { continue };
        let age = u64::try_from(now.saturating_sub(stat.st_mtime)).unwrap_or(0);
        let abandoned = crate::local::is_abandoned(made_by, std::time::Duration::from_secs(age));
        if abandoned && folder::remove_all(folder, &name).is_ok() {
            swept += 1;
        }
    }
    swept
}
