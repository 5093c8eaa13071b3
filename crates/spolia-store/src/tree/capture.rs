//! Declared outputs on disk → blobs in a store and a [`Tree`]. Follows no symlink.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use spolia_core::{Node, RelPath, Tree};

use super::folder::{self, Obstacle};
use super::links;
use crate::digests::{DigestCache, StatKey};
use crate::store::{Entry, Imported, Put, Store, StoreError};

/// How deep a folder may lie below an output.
pub const DEPTH_MAX: usize = 256;
/// How many entries one result may have.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Declared outputs, stored.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// What was found. A declared folder is an entry of its own.
    pub tree: Tree,
    /// Bytes the store grew by.
    pub stored_bytes: u64,
    /// Blobs that were not in the store before.
    pub stored_blobs: u64,
}

/// Why outputs could not be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Declared, and not there.
    #[error("`{}` was declared as output and is not there", .paths[0])]
    Absent {
        /// All of these; at least one.
        paths: Vec<RelPath>,
    },
    /// Neither file, folder nor symlink.
    #[error("the output `{path}` is a {kind}; only files, folders and symlinks can be stored")]
    Special {
        /// Which.
        path: RelPath,
        /// What it is.
        kind: &'static str,
    },
    /// A symlink out of the outputs.
    #[error("the output `{path}` is a symlink to `{target}`, which leads out of the outputs")]
    LinksOut {
        /// Which.
        path: RelPath,
        /// Where it points, escaped.
        target: String,
    },
    /// A symlink stands between the root and a declared output.
    #[error("the output `{path}` lies behind the symlink `{link}`, which is not followed")]
    BehindLink {
        /// Which output.
        path: RelPath,
        /// The symlink.
        link: RelPath,
    },
    /// More than fits a result.
    #[error("the output `{path}` goes past the limit of {limit} {what}")]
    TooMuch {
        /// Where it was noticed.
        path: RelPath,
        /// How many are allowed.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// The outputs cannot all exist at once: they changed while they were read.
    #[error("the outputs changed while they were read")]
    Changed(#[source] spolia_core::tree::TreeError),
    /// An output could not be read.
    #[error("cannot read the output `{path}`")]
    Read {
        /// Which.
        path: RelPath,
        /// What the system said.
        source: std::io::Error,
    },
    /// The root could not be opened.
    #[error("cannot open `{path}`")]
    Root {
        /// The root.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store failed.
    #[error("cannot store the output `{path}`")]
    Store {
        /// Which.
        path: RelPath,
        /// What it said.
        source: StoreError,
    },
}

/// What was found at a path before anything is stored.
enum Found {
    File,
    Symlink(Vec<u8>),
    Folder,
}

/// Takes the `declared` outputs below `root` into `store`: files, symlinks, and folders with all that is
/// in them. Everything is looked at before anything is stored. Whoever wrote them has ended: `digests` remembers them.
///
/// # Errors
/// See [`CaptureError`]; blobs that were stored by then stay and are collected later.
pub fn capture(
    root: &Path,
    declared: &[RelPath],
    store: &dyn Store,
    digests: Option<&DigestCache>,
) -> Result<Captured, CaptureError> {
    capture_into(root, declared, Some(store), digests)
}

/// The same without storing anything: what the outputs are, for where no store takes them. See
/// [`super::FolderSource`].
///
/// # Errors
/// See [`CaptureError`].
pub fn describe(
    root: &Path,
    declared: &[RelPath],
    digests: Option<&DigestCache>,
) -> Result<Tree, CaptureError> {
    capture_into(root, declared, None, digests).map(|captured| captured.tree)
}

fn capture_into(
    root: &Path,
    declared: &[RelPath],
    store: Option<&dyn Store>,
    digests: Option<&DigestCache>,
) -> Result<Captured, CaptureError> {
    let root_fd = folder::open_root(root)
        .map_err(|errno| CaptureError::Root { path: root.to_owned(), source: errno.into() })?;
    let found = find(root_fd.as_fd(), declared)?;
    check_links(&found)?;
    let mut captured = Captured::default();
    let mut entries = Vec::with_capacity(found.len());
    let mut parent = Parent { root: root_fd.as_fd(), open: None };
    for (path, what) in found {
        let node = match what {
            Found::Folder => Node::Folder,
            Found::Symlink(target) => Node::Symlink { target },
            Found::File => import(&mut parent, &path, store, digests, &mut captured)?,
        };
        entries.push((path, node));
    }
    captured.tree = Tree::new(entries).map_err(CaptureError::Changed)?;
    Ok(captured)
}

fn find(root: BorrowedFd<'_>, declared: &[RelPath]) -> Result<BTreeMap<RelPath, Found>, CaptureError> {
    let mut found = BTreeMap::new();
    let mut absent = Vec::new();
    for path in declared {
        let (above, name) = folder::split(path.as_bytes());
        let parent = match folder::open_above(root, above) {
            Ok(parent) => parent,
            Err((Obstacle::Absent | Obstacle::Other, _)) => {
                absent.push(path.clone());
                continue;
            }
            Err((Obstacle::Link, end)) => {
                let link = RelPath::new(&above[..end]).unwrap_or_else(|_| path.clone());
                return Err(CaptureError::BehindLink { path: path.clone(), link });
            }
            Err((Obstacle::Failed(errno), _)) => return Err(read(path, errno)),
        };
        if path.is_root() {
            walk(root, path, &mut found)?;
            continue;
        }
        match folder::look(folder::or_root(&parent, root), name) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                let what = classify(folder::or_root(&parent, root), name, path, kind)?;
                if matches!(what, Found::Folder) {
                    walk(root, path, &mut found)?;
                }
                found.insert(path.clone(), what);
            }
            Err(Errno::NOENT) => absent.push(path.clone()),
            Err(errno) => return Err(read(path, errno)),
        }
    }
    if absent.is_empty() { Ok(found) } else { Err(CaptureError::Absent { paths: absent }) }
}

/// Everything below the folder at `top`.
fn walk(
    root: BorrowedFd<'_>,
    top: &RelPath,
    found: &mut BTreeMap<RelPath, Found>,
) -> Result<(), CaptureError> {
    let mut folders = vec![(top.clone(), 0)];
    while let Some((here, depth)) = folders.pop() {
        if depth > DEPTH_MAX {
            return Err(CaptureError::TooMuch { path: here, limit: DEPTH_MAX, what: "folders deep" });
        }
        let fd = folder::open_below(root, here.as_bytes()).map_err(|(obstacle, _)| match obstacle {
            Obstacle::Failed(errno) => read(&here, errno),
            _ => read(&here, Errno::NOENT),
        })?;
        let names = folder::list(fd.as_fd(), b".").map_err(|errno| read(&here, errno))?;
        if names.is_empty() && !here.is_root() {
            found.insert(here.clone(), Found::Folder);
        }
        for (name, kind) in names {
            let path = here.child(name.to_bytes()).map_err(|_| read(&here, Errno::ILSEQ))?;
            if found.len() >= ENTRIES_MAX {
                return Err(CaptureError::TooMuch { path, limit: ENTRIES_MAX, what: "entries" });
            }
            match classify(fd.as_fd(), name.to_bytes(), &path, kind)? {
                Found::Folder => folders.push((path, depth + 1)),
                other => {
                    found.insert(path, other);
                }
            }
        }
    }
    Ok(())
}

fn classify(
    folder: BorrowedFd<'_>,
    name: &[u8],
    path: &RelPath,
    kind: FileType,
) -> Result<Found, CaptureError> {
    match kind {
        FileType::RegularFile => Ok(Found::File),
        FileType::Directory => Ok(Found::Folder),
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(folder, name, Vec::new()).map_err(|errno| read(path, errno))?;
            Ok(Found::Symlink(target.into_bytes()))
        }
        other => Err(CaptureError::Special { path: path.clone(), kind: special(other) }),
    }
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of unknown kind",
    }
}

/// Links are judged against links alone: what else is in the tree does not move them.
fn check_links(found: &BTreeMap<RelPath, Found>) -> Result<(), CaptureError> {
    let links = found.iter().filter_map(|(path, what)| match what {
        Found::Symlink(target) => Some((path.clone(), Node::Symlink { target: target.clone() })),
        _ => None,
    });
    let links = Tree::new(links.collect()).map_err(CaptureError::Changed)?;
    match links::first_out(&links) {
        None => Ok(()),
        Some((path, target)) => {
            Err(CaptureError::LinksOut { path: path.clone(), target: spolia_core::path::escape(target) })
        }
    }
}

/// The folder that the last file lay in, kept open for the next.
struct Parent<'r> {
    root: BorrowedFd<'r>,
    open: Option<(Vec<u8>, OwnedFd)>,
}

impl Parent<'_> {
    fn of(&mut self, path: &RelPath) -> Result<BorrowedFd<'_>, CaptureError> {
        let (above, _) = folder::split(path.as_bytes());
        if above.is_empty() {
            return Ok(self.root);
        }
        if self.open.as_ref().is_none_or(|(open, _)| open != above) {
            let fd = folder::open_below(self.root, above).map_err(|(obstacle, _)| match obstacle {
                Obstacle::Failed(errno) => read(path, errno),
                _ => read(path, Errno::NOENT),
            })?;
            self.open = Some((above.to_vec(), fd));
        }
        match &self.open {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(read(path, Errno::NOENT)),
        }
    }
}

fn import(
    parent: &mut Parent<'_>,
    path: &RelPath,
    store: Option<&dyn Store>,
    digests: Option<&DigestCache>,
    captured: &mut Captured,
) -> Result<Node, CaptureError> {
    let (_, name) = folder::split(path.as_bytes());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::openat(parent.of(path)?, name, flags, Mode::empty())
        .map_err(|errno| read(path, errno))?;
    let file = File::from(file);
    let stat = rustix::fs::fstat(&file).map_err(|errno| read(path, errno))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return Err(CaptureError::Special { path: path.clone(), kind: special(kind) });
    }
    let executable = stat.st_mode & 0o100 != 0;
    let key = StatKey::of(&stat);
    let failed = |source| match source {
        StoreError::Peer(source) => CaptureError::Read { path: path.clone(), source },
        source => CaptureError::Store { path: path.clone(), source },
    };
    let has = |digest| store.map_or(Ok(true), |store| store.has(Entry::blob(digest)));
    if let Some(digest) = digests.and_then(|digests| digests.lookup(&key))
        && has(digest).map_err(failed)?
    {
        return Ok(Node::File { digest, size: key.size, executable });
    }
    let began_ns = digests.map(|digests| digests.file_system_now_ns(&key));
    let imported = match store {
        Some(store) => store.import(&file),
        None => crate::hash::file(&file)
            .map(|(digest, size)| Imported { digest, size, put: Put::Present })
            .map_err(StoreError::Peer),
    };
    let imported = imported.map_err(failed)?;
    if let (Some(digests), Some(began_ns)) = (digests, began_ns)
        && rustix::fs::fstat(&file).is_ok_and(|after| StatKey::of(&after) == key)
        && imported.size == key.size
    {
        digests.note(key, imported.digest, began_ns);
        digests.note_ended(key, imported.digest);
    }
    if let Put::Stored { bytes } = imported.put {
        captured.stored_bytes += bytes;
        captured.stored_blobs += 1;
    }
    Ok(Node::File { digest: imported.digest, size: imported.size, executable })
}

fn read(path: &RelPath, errno: Errno) -> CaptureError {
    CaptureError::Read { path: path.clone(), source: errno.into() }
}
