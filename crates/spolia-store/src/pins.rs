//! Results that a collection leaves alone: `v1/pins`, one key in hexadecimal digits on each line.

use std::collections::BTreeSet;
use std::io::Read;

use spolia_core::{ActionKey, Digest, DigestFunction};

use crate::local::LocalStore;
use crate::store::StoreError;

/// The largest list that is read, bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The pinned keys. A line that is none is no pin.
pub fn read(store: &LocalStore) -> BTreeSet<ActionKey> {
    let mut text = String::new();
    let file = std::fs::File::open(store.base().join("pins"));
    if file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)).is_err() {
        return BTreeSet::new();
    }
    let parse = |line: &str| Digest::from_hex(DigestFunction::Blake3, line.trim()).ok().map(ActionKey);
    text.lines().filter_map(parse).collect()
}

/// Replaces the list.
///
/// # Errors
/// It cannot be written.
pub fn write(store: &LocalStore, pins: &BTreeSet<ActionKey>) -> Result<(), StoreError> {
    let text: String = pins.iter().map(|key| format!("{}\n", key.0.to_hex())).collect();
    store.write_loose(&store.base().join("pins"), text.as_bytes())
}
