//! Where blobs and results are kept. Knows bytes and digests, not what they mean.
//!
//! The contract is the trait [`Store`]; every store passes one suite (`spolia-testing`).

pub mod store;

pub use store::{Entry, EntryInfo, Properties, Put, Space, Store, StoreError};
