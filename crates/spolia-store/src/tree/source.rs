//! A folder of outputs as a store to materialise from, for where no other store took them: a full disk,
//! a store without write permission, a run that stores nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use spolia_core::{Digest, RelPath, Tree};

use super::folder;
use crate::hash::Hasher;
use crate::local::CHUNK_BYTES;
use crate::store::{Entry, EntryInfo, Properties, Put, Space, Store, StoreError};

/// The files of a tree that stand on disk, by their digests. Takes no writes.
pub struct FolderSource {
    path: PathBuf,
    root: OwnedFd,
    files: HashMap<Digest, (RelPath, u64)>,
}

impl FolderSource {
    /// `tree` as it stands below `root`. What has changed there since is noticed when it is read.
    ///
    /// # Errors
    /// [`StoreError::Io`] where `root` cannot be opened.
    pub fn new(root: &Path, tree: &Tree) -> Result<Self, StoreError> {
        let fd = folder::open_root(root).map_err(|errno| crate::local::io("open", root, errno))?;
        let files = tree.files().map(|(path, digest, size)| (digest, (path.clone(), size))).collect();
        Ok(Self { path: root.to_owned(), root: fd, files })
    }

    fn open(&self, entry: Entry) -> Option<(File, &RelPath)> {
        let (path, _) = self.files.get(&entry.digest).filter(|_| entry.space == Space::Blob)?;
        let (above, name) = folder::split(path.as_bytes());
        let parent = folder::open_below(self.root.as_fd(), above).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?);
        file.metadata().ok()?.is_file().then_some((file, path))
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
            for (digest, (_, bytes)) in &self.files {
                visit(EntryInfo { entry: Entry::blob(*digest), bytes: *bytes });
            }
        }
        Ok(())
    }

    fn plain_file(&self, entry: Entry) -> Option<File> {
        self.open(entry).map(|(file, _)| file)
    }
}
