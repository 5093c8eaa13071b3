//! Outputs as a step has just written them, as a store to materialise from: nothing has to be unpacked, and it
//! is there also where no other store took them (a full disk, a run that stores nothing). Its files can be
//! given away, which costs no copy.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use spolia_core::{Digest, Node, RelPath, Tree};

use super::folder;
use crate::digests::{DigestCache, StatKey};
use crate::hash::Hasher;
use crate::local::CHUNK_BYTES;
use crate::store::{Entry, EntryInfo, Properties, Put, Space, Store, StoreError};

/// The files of a tree that stand on disk, by their digests. Takes no writes.
pub struct FolderSource {
    path: PathBuf,
    root: OwnedFd,
    files: HashMap<Digest, Vec<(RelPath, u64)>>,
}

impl FolderSource {
    /// `tree` as it stands below `root`. What has changed there since is noticed when it is read.
    ///
    /// # Errors
    /// [`StoreError::Io`] where `root` cannot be opened.
    pub fn new(root: &Path, tree: &Tree) -> Result<Self, StoreError> {
        let fd = open_folder(root).map_err(|errno| crate::local::io("open", root, errno))?;
        let mut files: HashMap<Digest, Vec<(RelPath, u64)>> = HashMap::new();
        for (path, digest, size) in tree.files() {
            files.entry(digest).or_default().push((path.clone(), size));
        }
        Ok(Self { path: root.to_owned(), root: fd, files })
    }

    fn open(&self, entry: Entry) -> Option<(File, &RelPath)> {
        let paths = self.files.get(&entry.digest).filter(|_| entry.space == Space::Blob)?;
        // The first of them may have been given away.
        paths.iter().find_map(|(path, _)| {
            let (above, name) = folder::split(path.as_bytes());
            let parent = folder::open_below(self.root.as_fd(), above).ok()?;
            let file = open_file(parent.as_fd(), name)?;
            file.metadata().ok()?.is_file().then_some((file, path))
        })
    }

    /// Moves the file at `path`, which is `node` in the tree, to `name` in the folder `into`; `None` where
    /// that was not done. It is not where anybody could tell the file from a new one that was written there: it has
    /// another name as well, other rights, another owner or group; nor where it lies on another file
    /// system, or is no longer what the tree says. Then it stays.
    pub(super) fn give(
        &self,
        path: &RelPath,
        node: &Node,
        into: BorrowedFd<'_>,
        name: &[u8],
        digests: Option<&DigestCache>,
    ) -> Option<()> {
        let (above, own_name) = folder::split(path.as_bytes());
        let parent = folder::open_above(self.root.as_fd(), above).ok()?;
        let parent = folder::or_root(&parent, self.root.as_fd());
        let Given { key, digest, was_known } = given(parent, own_name, node, digests)?;
        if !gives_own_group(into)? {
            return None;
        }
        rustix::fs::renameat(parent, own_name, into, name).ok()?;
        // A new name changes the ctime alone: with the same mtime nothing was written meanwhile.
        if let Some(digests) = digests.filter(|_| was_known)
            && let Ok(after) = folder::look(into, name)
        {
            let moved = StatKey::of(&after);
            if (StatKey { ctime_ns: key.ctime_ns, ..moved }) == key {
                digests.note_ended(moved, digest);
            }
        }
        Some(())
    }

    /// Moves the folder itself, which then is `tree`, to `name` in the folder `into`, where nothing stands; `None` where
    /// that was not done. It is not where more than `tree` is in it, or a link, or anything in it that
    /// [`FolderSource::give`] would leave where it is.
    pub(super) fn give_all(
        &self,
        tree: &Tree,
        into: BorrowedFd<'_>,
        name: &[u8],
        digests: Option<&DigestCache>,
    ) -> Option<()> {
        let listed = folder::list_open(&self.root).ok()?;
        let found = entries_of(tree, self.root.as_fd(), listed, &RelPath::root(), digests)?;
        if found != tree.entries().len() || !gives_own_group(into)? {
            return None;
        }
        rustix::fs::renameat_with(CWD, &self.path, into, name, RenameFlags::NOREPLACE).ok()
    }

    /// Undoes [`FolderSource::give`] for a file that is at `name` in the folder `from`.
    pub(super) fn take_back(&self, path: &RelPath, from: BorrowedFd<'_>, name: &[u8]) {
        // Without it the file is read from another store, or lost with the rest of a run that failed.
        let _lost = rustix::fs::renameat(from, name, &self.root, path.as_bytes());
    }

    fn refuse<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::ReadOnly { name: self.properties().name })
    }
}

impl Store for FolderSource {
    fn properties(&self) -> Properties {
        let path = spolia_core::path::escape(self.path.as_os_str().as_encoded_bytes());
        Properties { name: format!("folder {path}"), writable: false, local: true }
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        Ok(self.open(entry).is_some())
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        let Some((mut file, path)) = self.open(entry) else { return Ok(None) };
        let mut hasher = Hasher::new(entry.digest.function());
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut size = 0;
        loop {
            let length = match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(crate::local::io("read", &path.under(&self.path), source)),
            };
            hasher.update(&chunk[..length]);
            into.write_all(&chunk[..length]).map_err(StoreError::Peer)?;
            size += length as u64;
        }
        let found = hasher.finish();
        if found != entry.digest {
            return Err(StoreError::Corrupt { entry, what: format!("`{path}` now holds {found}") });
        }
        Ok(Some(size))
    }

    fn put(&self, _entry: Entry, _from: &mut dyn Read) -> Result<Put, StoreError> {
        self.refuse()
    }

    fn remove(&self, _entry: Entry) -> Result<bool, StoreError> {
        self.refuse()
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        if space == Space::Blob {
            for (digest, paths) in &self.files {
                let bytes = paths.first().map_or(0, |(_, bytes)| *bytes);
                visit(EntryInfo { entry: Entry::blob(*digest), bytes });
            }
        }
        Ok(())
    }

    fn plain_file(&self, entry: Entry) -> Option<File> {
        self.open(entry).map(|(file, _)| file)
    }
}

/// A file that is what the tree says, and that nobody could tell from a new one.
struct Given {
    key: StatKey,
    digest: Digest,
    /// Whether it had not to be read.
    was_known: bool,
}

fn given(folder: BorrowedFd<'_>, name: &[u8], node: &Node, digests: Option<&DigestCache>) -> Option<Given> {
    let Node::File { digest, size, executable } = node else { return None };
    let stat = folder::look(folder, name).ok()?;
    let alone = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
    let mode = new_file_mode(*executable) - umask()?;
    if !alone || !is_ours(&stat, mode) || u64::try_from(stat.st_size) != Ok(*size) {
        return None;
    }
    let key = StatKey::of(&stat);
    let known = digests.and_then(|digests| digests.lookup(&key));
    let there = match known {
        Some(known) => known,
        None => {
            let file = open_file(folder, name)?;
            let is_same = StatKey::of(&rustix::fs::fstat(&file).ok()?) == key;
            crate::hash::file(&file).ok().filter(|_| is_same)?.0
        }
    };
    (there == *digest).then_some(Given { key, digest: there, was_known: known.is_some() })
}

/// How many entries of `tree` stand in `folder`, its part at `at`, in which `listed` was found; `None` where anything else does, or where one of
/// them could not be a new one.
fn entries_of(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    listed: Vec<(CString, FileType)>,
    at: &RelPath,
    digests: Option<&DigestCache>,
) -> Option<usize> {
    if !is_ours(&rustix::fs::fstat(folder).ok()?, Mode::from_raw_mode(0o777) - umask()?) {
        return None;
    }
    let mut children = Vec::new();
    for (name, kind) in listed {
        let path = at.join(&RelPath::new(name.to_bytes()).ok()?);
        // The tree names a folder that is empty, and of others what is in them.
        tree.within(&path).next()?;
        children.push((name, kind, path));
    }
    let mut found = 0;
    for (name, kind, path) in children {
        let node = tree.get(&path);
        found += usize::from(node.is_some());
        match (kind, node) {
            (FileType::RegularFile, Some(node)) => {
                given(folder, name.to_bytes(), node, digests)?;
            }
            (FileType::Directory, None | Some(Node::Folder)) => {
                let below = folder::open_child(folder, name.to_bytes()).ok()?;
                let listed = folder::list(below.as_fd(), b".").ok()?;
                found += entries_of(tree, below.as_fd(), listed, &path, digests)?;
            }
            _ => return None,
        }
    }
    Some(found)
}

/// Whether it is this user's and has just these rights.
fn is_ours(stat: &Stat, mode: Mode) -> bool {
    let (user, group) = ids();
    stat.st_uid == user && stat.st_gid == group && Mode::from_raw_mode(stat.st_mode & 0o7777) == mode
}

/// Whether new files in `folder` get the group of their maker: in some they get the folder's.
fn gives_own_group(folder: BorrowedFd<'_>) -> Option<bool> {
    let stat = rustix::fs::fstat(folder).ok()?;
    Some(stat.st_mode & 0o2000 == 0 || stat.st_gid == ids().1)
}

/// This process's user and group, which it never changes.
fn ids() -> (u32, u32) {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    *IDS.get_or_init(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
}

/// A folder of ours, to look things up in it and to list it.
fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).or_else(|_| folder::open_root(path))
}

fn open_file(folder: BorrowedFd<'_>, name: &[u8]) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::openat(folder, name, flags, Mode::empty()).ok().map(File::from)
}

/// The mode that outputs are created with, to which the umask applies.
pub(super) fn new_file_mode(executable: bool) -> Mode {
    Mode::from_raw_mode(if executable { 0o755 } else { 0o644 })
}

/// This process's umask; `None` where the kernel does not say. It is read, since asking the system call for it
/// would change it under the other threads.
fn umask() -> Option<Mode> {
    static UMASK: OnceLock<Option<Mode>> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let text = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
        u32::from_str_radix(text.trim(), 8).ok().map(Mode::from_raw_mode)
    })
}
