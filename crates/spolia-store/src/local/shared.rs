//! Blobs and files of the user's that are one file under two names: hard links in and out. Knows no compiler.
//!
//! The store cannot keep others from writing through the other name, so what is linked is believed only as long as its
//! `stat` is the one it was hashed with, and hashed again otherwise (by the caller, with [`crate::StatMemo`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use spolia_core::Digest;

use super::{Form, LocalStore, Step, io, temp_name};
use crate::store::{Entry, StoreError};

impl LocalStore {
    /// Gives the file at `path`, whose content the caller has hashed to `digest`, a second name in the store. `false`
    /// where the file system cannot do that.
    ///
    /// # Errors
    /// Those of writing to the store.
    pub fn adopt(&self, path: &Path, digest: Digest) -> Result<bool, StoreError> {
        self.require_writable()?;
        let target = self.layout.entry(Entry::blob(digest), Form::Plain);
        // By way of a name of its own, so that one that is there is replaced: it may be damaged, this one is not.
        let temp = self.layout.tmp().join(temp_name());
        self.step(Step::CreateTemp, &temp)?;
        match rustix::fs::linkat(CWD, path, CWD, &temp, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => return Ok(false),
            Err(errno) => return Err(io("link", &temp, errno)),
        }
        let is_new = rustix::fs::lstat(&target).is_err();
        let mut tried = self.step(Step::Rename, &target).map(|()| rustix::fs::rename(&temp, &target));
        if let Ok(Err(Errno::NOENT | Errno::NOTDIR)) = tried {
            let made = target.parent().map_or(Ok(()), |folder| self.make_folder(folder));
            tried = made.map(|()| rustix::fs::rename(&temp, &target));
        }
        // A rename onto another name of the same file does nothing and leaves both.
        let _gone = rustix::fs::unlink(&temp);
        tried?.map_err(|errno| io("rename to", &target, errno))?;
        if is_new && let Ok(stat) = rustix::fs::lstat(&target) {
            self.added_bytes.fetch_add(u64::try_from(stat.st_size).unwrap_or(0), Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Where the blob lies as it is, whether or not it is there.
    pub fn plain_path(&self, digest: Digest) -> PathBuf {
        self.layout.entry(Entry::blob(digest), Form::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalOptions, Store};

    #[test]
    fn a_file_gets_a_second_name_and_is_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&temp.path().join("store"), LocalOptions::default()).unwrap();
        let path = temp.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let digest = Digest::blake3(b"content");
        for _ in 0..2 {
            assert!(store.adopt(&path, digest).unwrap());
            assert_eq!(store.added_bytes(), 7, "counted once");
            let mut read = Vec::new();
            assert_eq!(store.get(Entry::blob(digest), &mut read).unwrap(), Some(7));
            assert_eq!(read, b"content");
        }
        assert_eq!(std::fs::read_dir(store.layout.tmp()).unwrap().count(), 0);
        // Somebody writes through the other name: the next reader sees that it is not the blob any more.
        std::fs::write(&path, "CONTENT").unwrap();
        assert!(store.get(Entry::blob(digest), &mut Vec::new()).is_err());
    }
}
