//! A store that fails now and then, the same way for the same seed. Never gives wrong bytes.

use std::io::{Error, Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use spolia_store::store::{Entry, EntryInfo, Properties, Put, Space, Store, StoreError};

use crate::random::Random;

/// Fails, loses entries and finds damage, about once in so many calls.
pub struct FaultyStore<S> {
    inner: S,
    once_in: u64,
    random: Mutex<Random>,
}

impl<S: Store> FaultyStore<S> {
    /// `inner` with a fault in one of `once_in` calls.
    pub fn new(inner: S, seed: u64, once_in: u64) -> Self {
        Self { inner, once_in, random: Mutex::new(Random::new(seed)) }
    }

    /// The store underneath.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn roll(&self) -> Option<u64> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.one_in(self.once_in).then(|| random.number())
    }

    fn fault(&self, verb: &'static str, entry: Entry) -> Result<(), StoreError> {
        let Some(roll) = self.roll() else { return Ok(()) };
        // EIO, ENOSPC, EACCES.
        let code = [5, 28, 13][(roll % 3) as usize];
        let path = PathBuf::from(entry.to_string());
        Err(StoreError::Io { verb, path, source: Error::from_raw_os_error(code) })
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        self.fault("look up", entry)?;
        self.inner.has(entry)
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        if let Some(roll) = self.roll() {
            self.inner.remove(entry)?;
            if roll % 2 == 0 {
                // Some bytes went out before the damage was noticed.
                into.write_all(b"half").map_err(StoreError::Peer)?;
                return Err(StoreError::Corrupt { entry, what: "by order of the test".to_owned() });
            }
        }
        self.fault("read", entry)?;
        self.inner.get(entry, into)
    }

    fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError> {
        self.fault("write", entry)?;
        self.inner.put(entry, from)
    }

    fn remove(&self, entry: Entry) -> Result<bool, StoreError> {
        self.fault("remove", entry)?;
        self.inner.remove(entry)
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        self.inner.list(space, visit)
    }
}
