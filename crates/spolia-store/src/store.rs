//! The contract of a store. Knows no disk and no network.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spolia_core::Digest;

/// How often [`Store::import`] starts again on a file that changes under it.
const IMPORT_TRIES_MAX: usize = 3;

/// What kind of thing an entry is. The same digest in two spaces names two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Content named by its own digest: can be checked by anyone at any time.
    Blob,
    /// A result named by an action's key. Its payload carries its own checksum.
    Result,
    /// What an action was made of (for `why` and `ls`), named by the action's key. Losing it loses words.
    Action,
}

/// Names one thing in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Its space.
    pub space: Space,
    /// Its name there.
    pub digest: Digest,
}

impl Entry {
    /// A blob by the digest of its content.
    pub fn blob(digest: Digest) -> Self {
        Self { space: Space::Blob, digest }
    }

    /// A result by its action's key.
    pub fn result(key: spolia_core::ActionKey) -> Self {
        Self { space: Space::Result, digest: key.0 }
    }

    /// An action by its key.
    pub fn action(key: spolia_core::ActionKey) -> Self {
        Self { space: Space::Action, digest: key.0 }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let space = match self.space {
            Space::Blob => "blob",
            Space::Result => "result",
            Space::Action => "action",
        };
        write!(f, "{space} {}", self.digest.to_hex())
    }
}

/// What a store is like, so that a caller asks for nothing it cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// For a person: `local /home/u/.cache/spolia`.
    pub name: String,
    /// Whether `put` and `remove` can succeed.
    pub writable: bool,
    /// Whether entries lie on this machine, so that asking is cheap.
    pub local: bool,
}

/// What [`Store::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Written: this many bytes on disk.
    Stored {
        /// Bytes it takes, after compression.
        bytes: u64,
    },
    /// It was there.
    Present,
}

/// What [`Store::import`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The blob's name: BLAKE3 of the bytes that are in the store now.
    pub digest: Digest,
    /// Its length in bytes, unpacked.
    pub size: u64,
    /// Whether it had to be written.
    pub put: Put,
}

/// What [`Store::list`] tells of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// Which.
    pub entry: Entry,
    /// Bytes it takes in the store.
    pub bytes: u64,
}

/// Why a store could not do what was asked. Not being there is no error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system said no.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried: `read`, `write`, `create`, …
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// What lies there is not what its name or checksum says. It has been moved out of the way where
    /// the store could be written.
    #[error("{entry} in the store is damaged: {what}")]
    Corrupt {
        /// Which.
        entry: Entry,
        /// What was found.
        what: String,
    },
    /// What was given to `put` is not what its name says.
    #[error("{entry} was given other content, {found}")]
    WrongContent {
        /// Which.
        entry: Entry,
        /// The digest of what was given.
        found: Digest,
    },
    /// The store takes no writes.
    #[error("`{name}` is read-only")]
    ReadOnly {
        /// Which store.
        name: String,
    },
    /// The store was written by another version.
    #[error("`{path}` is of format {found}; this version reads {known}")]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program knows.
        known: &'static str,
    },
    /// The reader or writer that the caller gave failed.
    #[error("the other side of the copy failed")]
    Peer(#[source] std::io::Error),
}

impl StoreError {
    /// Whether there was no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }
}

/// Keeps entries. Object-safe, synchronous, shared between threads and, for one on disk, processes.
///
/// - An entry appears whole or not at all.
/// - A blob that is read is the blob that was named: `get` checks it while it copies, and on a
///   difference removes the entry and says [`StoreError::Corrupt`] (bytes may have gone to `into` by
///   then; the caller throws them away).
/// - Losing an entry at any time is allowed; giving a wrong one never is.
pub trait Store: Send + Sync {
    /// What the store is like.
    fn properties(&self) -> Properties;

    /// Whether the entry is there now. It may be gone or prove damaged when it is read.
    fn has(&self, entry: Entry) -> Result<bool, StoreError>;

    /// Copies the entry's content into `into`; the number of bytes, or `None` if it is not there.
    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError>;

    /// Stores the content of `from` under `entry`. A blob's content is hashed on the way in. A result or
    /// action replaces an earlier one.
    fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError>;

    /// Takes the content of a file into the store as a blob, from its start whatever its offset. Where
    /// the file changes meanwhile, the digest is that of the bytes that were stored.
    fn import(&self, from: &File) -> Result<Imported, StoreError> {
        let mut changed = None;
        for _ in 0..IMPORT_TRIES_MAX {
            let (digest, size) = crate::hash::file(from).map_err(StoreError::Peer)?;
            match self.put(Entry::blob(digest), &mut crate::hash::At { file: from, at: 0 }) {
                Ok(put) => return Ok(Imported { digest, size, put }),
                Err(error @ StoreError::WrongContent { .. }) => changed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(changed.unwrap_or(StoreError::Peer(std::io::ErrorKind::Interrupted.into())))
    }

    /// Removes the entry; whether it was there.
    fn remove(&self, entry: Entry) -> Result<bool, StoreError>;

    /// Calls `visit` for every entry of `space`, in no order.
    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError>;

    /// The file whose bytes are exactly the entry's, for a reflink; `None` where there is no such file.
    /// Its content has not been checked.
    fn plain_file(&self, entry: Entry) -> Option<File> {
        let _none_for = entry;
        None
    }
}
