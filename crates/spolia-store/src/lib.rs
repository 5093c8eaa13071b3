//! Where blobs and results are kept. Knows bytes and digests, not what they mean.
//!
//! The contract is the trait [`Store`]; every store passes one suite (`spolia-testing`).

pub mod digests;
mod hash;
pub mod local;
pub mod store;
pub mod tree;

pub use digests::{DigestCache, StatKey};
pub use local::{LocalOptions, LocalStore};
pub use store::{Entry, EntryInfo, Imported, Properties, Put, Space, Store, StoreError};
pub use tree::{Place, capture, is_right, materialise};
