//! A store in memory. Knows no disk.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use spolia_core::{Digest, DigestFunction};
use spolia_store::store::{Entry, EntryInfo, Properties, Put, Space, Store, StoreError};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    entries: Mutex<HashMap<Entry, Vec<u8>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Entry, Vec<u8>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is stored behind the store's back; whether there was something.
    pub fn damage(&self, entry: Entry, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.entries().get_mut(&entry).map(change).is_some()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }
}

fn digest(function: DigestFunction, content: &[u8]) -> Digest {
    match function {
        DigestFunction::Blake3 => Digest::blake3(content),
        DigestFunction::Sha256 => Digest::sha256(content),
    }
}

impl Store for MemoryStore {
    fn properties(&self) -> Properties {
        Properties { name: "memory".to_owned(), writable: true, local: true }
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        Ok(self.entries().contains_key(&entry))
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        let Some(content) = self.entries().get(&entry).cloned() else { return Ok(None) };
        if entry.space == Space::Blob && digest(entry.digest.function(), &content) != entry.digest {
            self.entries().remove(&entry);
            return Err(StoreError::Corrupt { entry, what: "it holds something else".to_owned() });
        }
        into.write_all(&content).map_err(StoreError::Peer)?;
        Ok(Some(content.len() as u64))
    }

    fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError> {
        if entry.space == Space::Blob && self.has(entry)? {
            return Ok(Put::Present);
        }
        let mut content = Vec::new();
        from.read_to_end(&mut content).map_err(StoreError::Peer)?;
        if entry.space == Space::Blob {
            let found = digest(entry.digest.function(), &content);
            if found != entry.digest {
                return Err(StoreError::WrongContent { entry, found });
            }
        }
        let bytes = content.len() as u64;
        self.entries().insert(entry, content);
        Ok(Put::Stored { bytes })
    }

    fn remove(&self, entry: Entry) -> Result<bool, StoreError> {
        Ok(self.entries().remove(&entry).is_some())
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        let listed: Vec<EntryInfo> = self
            .entries()
            .iter()
            .filter(|(entry, _)| entry.space == space)
            .map(|(entry, content)| EntryInfo { entry: *entry, bytes: content.len() as u64 })
            .collect();
        listed.into_iter().for_each(visit);
        Ok(())
    }
}
