//! Stores made of stores. Knows only the trait.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use crate::hash::Hasher;
use crate::store::{Entry, EntryInfo, Imported, Properties, Put, Space, Store, StoreError};

macro_rules! forward {
    () => {
        fn properties(&self) -> Properties {
            (**self).properties()
        }
        fn has(&self, entry: Entry) -> Result<bool, StoreError> {
            (**self).has(entry)
        }
        fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
            (**self).get(entry, into)
        }
        fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError> {
            (**self).put(entry, from)
        }
        fn import(&self, from: &File) -> Result<Imported, StoreError> {
            (**self).import(from)
        }
        fn remove(&self, entry: Entry) -> Result<bool, StoreError> {
            (**self).remove(entry)
        }
        fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
            (**self).list(space, visit)
        }
        fn plain_file(&self, entry: Entry) -> Option<File> {
            (**self).plain_file(entry)
        }
    };
}

impl<S: Store + ?Sized> Store for &S {
    forward!();
}

impl<S: Store + ?Sized> Store for Arc<S> {
    forward!();
}

impl<S: Store + ?Sized> Store for Box<S> {
    forward!();
}

/// A store that takes no writes.
pub struct ReadOnly<S>(pub S);

impl<S: Store> ReadOnly<S> {
    fn refuse<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::ReadOnly { name: self.0.properties().name })
    }
}

impl<S: Store> Store for ReadOnly<S> {
    fn properties(&self) -> Properties {
        Properties { writable: false, ..self.0.properties() }
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        self.0.has(entry)
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        self.0.get(entry, into)
    }

    fn put(&self, _entry: Entry, _from: &mut dyn Read) -> Result<Put, StoreError> {
        self.refuse()
    }

    fn import(&self, _from: &File) -> Result<Imported, StoreError> {
        self.refuse()
    }

    fn remove(&self, _entry: Entry) -> Result<bool, StoreError> {
        self.refuse()
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        self.0.list(space, visit)
    }

    fn plain_file(&self, entry: Entry) -> Option<File> {
        self.0.plain_file(entry)
    }
}

/// A store that believes nothing another one gives: every blob is hashed on its way out. For stores that
/// do not check by themselves, such as a remote one.
pub struct Checked<S>(pub S);

struct HashingWriter<'w> {
    hasher: Hasher,
    into: &'w mut dyn Write,
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.into.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.into.flush()
    }
}

impl<S: Store> Store for Checked<S> {
    fn properties(&self) -> Properties {
        self.0.properties()
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        self.0.has(entry)
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        if entry.space != Space::Blob {
            return self.0.get(entry, into);
        }
        let mut writer = HashingWriter { hasher: Hasher::new(entry.digest.function()), into };
        let Some(size) = self.0.get(entry, &mut writer)? else { return Ok(None) };
        let found = writer.hasher.finish();
        if found == entry.digest {
            return Ok(Some(size));
        }
        // Where it cannot be removed, the next reader finds the same.
        let _unremoved = self.0.remove(entry);
        Err(StoreError::Corrupt { entry, what: format!("it holds {found}") })
    }

    fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError> {
        self.0.put(entry, from)
    }

    fn import(&self, from: &File) -> Result<Imported, StoreError> {
        self.0.import(from)
    }

    fn remove(&self, entry: Entry) -> Result<bool, StoreError> {
        self.0.remove(entry)
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        self.0.list(space, visit)
    }
}

/// Copies an entry from one store to another; whether `from` had it.
///
/// A blob is streamed and takes no memory: the target hashes it, so nothing wrong can arrive. A sealed
/// payload is read whole first, since nobody but the source can check it.
///
/// # Errors
/// That of the source where it has one, else that of the target.
pub fn copy(entry: Entry, from: &dyn Store, to: &dyn Store) -> Result<bool, StoreError> {
    if entry.space != Space::Blob {
        let mut payload = Vec::new();
        if from.get(entry, &mut payload)?.is_none() {
            return Ok(false);
        }
        return to.put(entry, &mut payload.as_slice()).map(|_| true);
    }
    if !from.has(entry)? {
        return Ok(false);
    }
    let (mut reader, mut writer) = std::io::pipe().map_err(StoreError::Peer)?;
    let (got, put) = std::thread::scope(|scope| {
        let got = scope.spawn(move || from.get(entry, &mut writer));
        let put = to.put(entry, &mut reader);
        // Whoever writes to a pipe that nobody reads any more is told so, and ends.
        drop(reader);
        (got.join(), put)
    });
    match (got, put) {
        // Where the target has it from elsewhere meanwhile, it stops listening.
        (Ok(Ok(Some(_)) | Err(StoreError::Peer(_))), Ok(_)) => Ok(true),
        (Ok(Ok(Some(_)) | Err(StoreError::Peer(_))), Err(error)) => Err(error),
        (Ok(Ok(None)), _) => Ok(false),
        (Ok(Err(error)), _) => Err(error),
        (Err(_), _) => Err(StoreError::Peer(std::io::Error::other("the reading side panicked"))),
    }
}

/// Several stores as one, the nearest first. What a farther one has is brought into the nearest when it
/// is asked for; what is put goes into all that take writes.
pub struct Tier {
    stores: Vec<Arc<dyn Store>>,
}

impl Tier {
    /// The stores in the order they are asked.
    pub fn new(stores: Vec<Arc<dyn Store>>) -> Self {
        Self { stores }
    }

    fn writable(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        self.stores.iter().filter(|store| store.properties().writable)
    }

    fn name(&self) -> String {
        let names: Vec<String> = self.stores.iter().map(|store| store.properties().name).collect();
        names.join(" then ")
    }

    fn first_writable(&self) -> Result<&Arc<dyn Store>, StoreError> {
        self.writable().next().ok_or_else(|| StoreError::ReadOnly { name: self.name() })
    }

    /// Hands what the nearest writable store has to the other ones. That one of them fails is not the
    /// caller's concern: the entry is stored.
    fn spread(&self, entry: Entry, from: &dyn Store) {
        for store in self.writable().skip(1) {
            if !store.has(entry).unwrap_or(true) || entry.space != Space::Blob {
                let _unspread = copy(entry, from, store);
            }
        }
    }
}

impl Store for Tier {
    fn properties(&self) -> Properties {
        Properties {
            name: self.name(),
            writable: self.writable().next().is_some(),
            local: self.stores.iter().all(|store| store.properties().local),
        }
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        let mut failed = None;
        for store in &self.stores {
            match store.has(entry) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(false), Err)
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        let Some((nearest, farther)) = self.stores.split_first() else { return Ok(None) };
        // Damage in the nearest is not final: it has removed the entry, and a farther one may have it.
        // Only what gave no byte yet can be asked again, so the copy is brought near first.
        let mut failed = None;
        let has_near = nearest.has(entry).unwrap_or(false);
        if has_near {
            let mut counted = Counted { into, bytes: 0 };
            match nearest.get(entry, &mut counted) {
                Ok(None) => {}
                Err(error) if counted.bytes == 0 => failed = Some(error),
                done => return done,
            }
        }
        for store in farther {
            let mut holders: Vec<&Arc<dyn Store>> = vec![store];
            if nearest.properties().writable {
                match copy(entry, store, nearest) {
                    Ok(true) => holders.insert(0, nearest),
                    Ok(false) => continue,
                    Err(error) => failed = Some(error),
                }
            }
            for holder in holders {
                let mut counted = Counted { into, bytes: 0 };
                match holder.get(entry, &mut counted) {
                    Ok(None) => {}
                    Err(error) if counted.bytes == 0 => failed = Some(error),
                    done => return done,
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError> {
        let first = self.first_writable()?;
        let put = first.put(entry, from)?;
        self.spread(entry, first);
        Ok(put)
    }

    fn import(&self, from: &File) -> Result<Imported, StoreError> {
        let first = self.first_writable()?;
        let imported = first.import(from)?;
        self.spread(Entry::blob(imported.digest), first);
        Ok(imported)
    }

    fn remove(&self, entry: Entry) -> Result<bool, StoreError> {
        self.first_writable()?;
        let mut removed = false;
        for store in self.writable() {
            removed |= store.remove(entry)?;
        }
        Ok(removed)
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        let mut seen = std::collections::HashSet::new();
        for store in &self.stores {
            store.list(space, &mut |info| {
                if seen.insert(info.entry) {
                    visit(info);
                }
            })?;
        }
        Ok(())
    }

    fn plain_file(&self, entry: Entry) -> Option<File> {
        self.stores.first()?.plain_file(entry)
    }
}

struct Counted<'w> {
    into: &'w mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.into.write(bytes)?;
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.into.flush()
    }
}
