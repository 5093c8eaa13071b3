//! Entries put together beside their destination, each under a temporary name, before they are seen. What is not
//! given its final name is removed with the stage. Knows blobs and nodes, not where they go in the end.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use spolia_core::{Node, RelPath};

use super::folder;
use super::materialise::MaterialiseError;
use super::source::FolderSource;
use crate::digests::{DigestCache, StatKey};
use crate::store::{Entry, Store, StoreError};

/// What the names of staged entries begin with.
const PREFIX: &str = ".spolia-stage-";

/// The entries being put together. Each is a file, a link or a folder with all that belongs in it.
pub(super) struct Stage<'s> {
    above: BorrowedFd<'s>,
    /// For messages.
    path: PathBuf,
    /// What all names of this stage begin with.
    prefix: String,
    store: &'s dyn Store,
    /// Whose files are moved here, not copied.
    giver: Option<&'s FolderSource>,
    digests: Option<&'s DigestCache>,
    /// Whether sharing bytes with the store's files is still worth a try.
    reflinks: bool,
    tops: Vec<Top>,
    /// Files that were moved here: the number of their top, their path below that, and where they were.
    given: Vec<(usize, Vec<u8>, RelPath)>,
    /// The folder that the last entry went into: the number of its top, and its path below that.
    parent: Option<(usize, Vec<u8>, OwnedFd)>,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// One entry of the stage that gets a name of its own.
struct Top {
    name: CString,
    /// Whether something may stand there.
    made: bool,
}

impl<'s> Stage<'s> {
    /// A stage in the folder `above`, which `path` names for messages. What was left there by processes that
    /// were killed goes.
    pub(super) fn new(
        above: BorrowedFd<'s>,
        path: &Path,
        store: &'s dyn Store,
        giver: Option<&'s FolderSource>,
        digests: Option<&'s DigestCache>,
    ) -> Self {
        sweep(above);
        Self {
            above,
            path: path.to_owned(),
            prefix: format!("{PREFIX}{}", crate::local::temp_name()),
            store,
            giver,
            digests,
            reflinks: true,
            tops: Vec::new(),
            given: Vec::new(),
            parent: None,
            files: 0,
            bytes: 0,
        }
    }

    /// The folder that the staged entries are in.
    pub(super) fn above(&self) -> BorrowedFd<'_> {
        self.above
    }

    /// A name for one more entry; nothing is made yet.
    pub(super) fn begin(&mut self) -> usize {
        let number = self.tops.len();
        // Made of digits and letters: there is no zero byte in it.
        let name = CString::new(format!("{}-{number}", self.prefix)).unwrap_or_default();
        self.tops.push(Top { name, made: false });
        number
    }

    /// The same, and a folder is made there.
    pub(super) fn begin_folder(&mut self) -> Result<usize, MaterialiseError> {
        let top = self.begin();
        self.parent(top, b"")?;
        Ok(top)
    }

    /// The name that entry number `top` has in the stage.
    pub(super) fn name(&self, top: usize) -> &CString {
        &self.tops[top].name
    }

    /// It has been renamed into place.
    pub(super) fn has_gone(&mut self, top: usize) {
        self.tops[top].made = false;
        self.was_exchanged(top);
    }

    /// It has been renamed into place, and what stood there is now here.
    pub(super) fn was_exchanged(&mut self, top: usize) {
        self.given.retain(|(of, _, _)| *of != top);
    }

    fn failed(&self, verb: &'static str, top: usize, below: &[u8], errno: Errno) -> MaterialiseError {
        use std::os::unix::ffi::OsStrExt;
        let name = self.path.join(std::ffi::OsStr::from_bytes(self.tops[top].name.as_bytes()));
        let path = if below.is_empty() { name } else { name.join(std::ffi::OsStr::from_bytes(below)) };
        MaterialiseError::io(verb, &path, errno)
    }

    /// The folder `below` in the folder that entry number `top` is, made with all that is missing.
    fn parent(&mut self, top: usize, below: &[u8]) -> Result<BorrowedFd<'_>, MaterialiseError> {
        if self.parent.as_ref().is_none_or(|(open, path, _)| (*open, path.as_slice()) != (top, below)) {
            self.tops[top].made = true;
            let name = self.tops[top].name.to_bytes();
            let fd = folder::make_below(self.above, &join(name, below)).map_err(|(obstacle, _)| {
                let errno = match obstacle {
                    folder::Obstacle::Failed(errno) => errno,
                    // Another process has removed it since it was made, with the folder that it is in.
                    folder::Obstacle::Absent => Errno::NOENT,
                    folder::Obstacle::Link | folder::Obstacle::Other => Errno::EXIST,
                };
                self.failed("create", top, below, errno)
            })?;
            self.parent = Some((top, below.to_vec(), fd));
        }
        Ok(self.parent.as_ref().map_or(self.above, |(_, _, fd)| fd.as_fd()))
    }

    /// The folder in which the entry at `below` of entry number `top` is made, and its name there.
    fn place<'a>(
        &'a mut self,
        top: usize,
        below: &'a [u8],
    ) -> Result<(BorrowedFd<'a>, std::borrow::Cow<'a, [u8]>), MaterialiseError> {
        if below.is_empty() {
            self.tops[top].made = true;
            return Ok((self.above, self.tops[top].name.to_bytes().into()));
        }
        let (above, name) = folder::split(below);
        Ok((self.parent(top, above)?, name.into()))
    }

    /// Makes `node` at `below` of entry number `top`; `below` is empty for that entry itself. `output` is
    /// its path in the tree.
    pub(super) fn add(
        &mut self,
        top: usize,
        below: &[u8],
        output: &RelPath,
        node: &Node,
    ) -> Result<(), MaterialiseError> {
        match node {
            Node::Folder => self.parent(top, below).map(|_| ()),
            Node::Symlink { target } => {
                let (parent, name) = self.place(top, below)?;
                let made = rustix::fs::symlinkat(target.as_slice(), parent, name.as_ref());
                made.map_err(|errno| self.failed("create", top, below, errno))
            }
            Node::File { digest, size, executable } => {
                let (giver, digests) = (self.giver, self.digests);
                let (parent, name) = self.place(top, below)?;
                if giver.is_some_and(|giver| giver.give(output, node, parent, &name, digests).is_some()) {
                    self.given.push((top, below.to_vec(), output.clone()));
                } else {
                    let mode = super::source::new_file_mode(*executable);
                    let flags =
                        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    let made = rustix::fs::openat(parent, name.as_ref(), flags, mode);
                    let file = File::from(made.map_err(|errno| self.failed("create", top, below, errno))?);
                    self.fill(&file, (top, below), output, Entry::blob(*digest), *size)?;
                }
                self.files += 1;
                self.bytes += size;
                Ok(())
            }
        }
    }

    /// Puts a file that is right already into the stage as another name of the same file; whether that
    /// was possible.
    pub(super) fn adopt(&mut self, top: usize, below: &[u8], from: BorrowedFd<'_>, path: &RelPath) -> bool {
        let Ok((parent, name)) = self.place(top, below) else { return false };
        let none = rustix::fs::AtFlags::empty();
        rustix::fs::linkat(from, path.as_bytes(), parent, name.as_ref(), none).is_ok()
    }

    fn fill(
        &mut self,
        file: &File,
        (top, below): (usize, &[u8]),
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
                let errno = Errno::from_io_error(&source).unwrap_or(Errno::IO);
                Err(self.failed("write", top, below, errno))
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
            rustix::fs::ftruncate(file, 0)
                .map_err(|errno| MaterialiseError::io("write", &self.path, errno))?;
        }
        Ok(right)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // After an exchange another process may still be writing into what is being removed. Best effort:
        // what stays is swept later.
        for (top, below, path) in &self.given {
            if let Some(giver) = self.giver {
                giver.take_back(path, self.above, &join(self.tops[*top].name.as_bytes(), below));
            }
        }
        for top in self.tops.iter().filter(|top| top.made) {
            for _ in 0..3 {
                if folder::remove_all(self.above, &top.name) != Err(Errno::NOTEMPTY) {
                    break;
                }
            }
        }
    }
}

/// `name/below`, or `name` where there is nothing below.
fn join(name: &[u8], below: &[u8]) -> Vec<u8> {
    if below.is_empty() { name.to_vec() } else { [name, b"/", below].concat() }
}

/// Removes what processes that were killed have left in `folder`; how many stages went.
pub fn sweep_stages(folder: &Path) -> u64 {
    folder::open_root(folder).map_or(0, |fd| sweep(fd.as_fd()))
}

pub(super) fn sweep(folder: BorrowedFd<'_>) -> u64 {
    let Ok(names) = folder::list(folder, b".") else { return 0 };
    let now = seconds();
    let mut swept = 0;
    for (name, _) in names {
        if is_abandoned(folder, name.to_bytes(), now) == Some(true)
            && folder::remove_all(folder, &name).is_ok()
        {
            swept += 1;
        }
    }
    swept
}

/// Whether the maker of the staged entry `name` is gone; nothing where it is no staged entry.
fn is_abandoned(folder: BorrowedFd<'_>, name: &[u8], now: i64) -> Option<bool> {
    let made_by = name.strip_prefix(PREFIX.as_bytes())?;
    let stat = folder::look(folder, name).ok()?;
    let age = u64::try_from(now.saturating_sub(stat.st_mtime)).unwrap_or(0);
    Some(crate::local::is_abandoned(made_by, std::time::Duration::from_secs(age)))
}

/// Whether another build is putting `name` in `folder` together right now.
pub(super) fn is_in_use(folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes()) && is_abandoned(folder, name, seconds()) == Some(false)
}

fn seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec
}
