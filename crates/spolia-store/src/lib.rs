//! Where blobs and results are kept. Knows bytes and digests, not what they mean.
//!
//! The contract is the trait [`Store`]; every store passes one suite (`spolia-testing`).

pub mod decorate;
pub mod digests;
pub mod disk;
pub mod gc;
mod hash;
pub mod journal;
pub mod local;
pub mod lock;
pub mod memo;
pub mod mounts;
pub mod pins;
pub mod refs;
pub mod repack;
pub mod size;
pub mod store;
pub mod tree;
pub mod uses;
pub mod verify;

pub use decorate::{Checked, ReadOnly, Tier};
pub use digests::{DigestCache, StatKey};
pub use hash::file_seen as hash_seen;
pub use journal::{JournalWriter, RunId};
pub use local::{LocalOptions, LocalStore};
pub use lock::{Hold, KeyLock, Lock, LockFile, Waiting};
pub use memo::StatMemo;
pub use store::{Entry, EntryInfo, Imported, Properties, Put, Space, Store, StoreError};
pub use tree::{Place, capture, is_right, materialise};
