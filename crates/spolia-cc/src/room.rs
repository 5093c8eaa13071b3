//! What one call works with: the store, the memo of digests, its scratch names. Knows no compiler.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use spolia_core::{ActionKey, Digest};
use spolia_engine::observe;
use spolia_store::{Entry, LocalOptions, LocalStore, StatKey, StatMemo, Store, StoreError};

use crate::{Site, Story};

/// What one call works with.
pub struct Room {
    /// Where results are.
    pub store: LocalStore,
    /// What is known of files.
    pub memo: StatMemo,
    /// Where the call happens.
    pub site: Site,
    /// Who listens to what is done.
    pub story: Story,
}

impl Room {
    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// Those of [`LocalStore::open`].
    pub fn open(dir: &Path, site: Site) -> Result<Self, StoreError> {
        let store = LocalStore::open(dir, LocalOptions::default())?;
        let memo = StatMemo::new(&store);
        Ok(Self { store, memo, site, story: Story::default() })
    }

    /// The same, and what is done is told in `story`.
    pub fn telling(self, story: &Story) -> Self {
        Self { story: story.clone(), ..self }
    }

    /// The digest of the file at `path`, which may be relative to the call's folder.
    ///
    /// # Errors
    /// Those of [`StatMemo::digest`].
    pub fn digest(&self, path: &Path) -> std::io::Result<(StatKey, Digest)> {
        self.memo.digest(path)
    }

    /// Whether a file is known to hold `digest`, without reading it.
    pub fn memo_vouches(&self, file: &std::fs::File, digest: &Digest) -> bool {
        let stat = rustix::fs::fstat(file);
        stat.is_ok_and(|stat| self.memo.lookup(&StatKey::of(&stat)).as_ref() == Some(digest))
    }

    /// What is kept at a fast key, as `parse` reads it; a damaged one has been removed by the store: a miss.
    pub fn kept<T>(&self, key: ActionKey, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut payload = Vec::new();
        self.store.get(Entry::result(key), &mut payload).ok().flatten()?;
        parse(&payload)
    }

    /// A folder for files that are not entries: `cc/NAME` in the store.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.store.base().join("cc").join(name)
    }

    /// The library by which an observed compiler says what it asks for; `preload` is what the caller preloads. `None` where it cannot
    /// be had.
    pub(crate) fn observer(&self, preload: Option<&OsStr>) -> Option<PathBuf> {
        observe::install(&self.store.base().join("observe"), preload).ok()
    }

    /// Puts `content` at `path`, which is in the store, whole and at once. A memo that cannot be written costs time.
    pub(crate) fn write_memo(&self, path: &Path, content: &[u8]) {
        let temp = self.scratch();
        let made =
            path.parent().is_some_and(|folder| folder.is_dir() || std::fs::create_dir_all(folder).is_ok());
        if made && std::fs::write(&temp, content).is_ok() && std::fs::rename(&temp, path).is_err() {
            let _unremoved = std::fs::remove_file(&temp);
        }
    }

    /// A name for a file that only this call uses; swept by collections if it stays.
    pub fn scratch(&self) -> PathBuf {
        self.store.scratch()
    }
}
