//! What was looked at already while remembered answers were checked: `path → stat, bytes`, each once in a run.
//!
//! Answers follow from the same few files (rustup's settings, Cargo's configuration in every folder above). One that
//! changes after it was looked at is one that changes after the run began; what Cargo and rustup themselves may change is
//! looked at anew ([`Glance::forget`]).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use spolia_store::StatKey;

/// Device, number, size, times of its content and of itself.
pub(crate) type Stat = (u64, u64, u64, i64, i64);

/// A file's bytes; `None`: it cannot be read.
pub(crate) type Text = Option<Arc<[u8]>>;

/// What was looked at.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    stats: Mutex<HashMap<PathBuf, Option<Stat>>>,
    texts: Mutex<HashMap<PathBuf, Text>>,
}

impl Glance {
    /// What `stat` says of a path, or said; `None`: it is not there.
    pub(crate) fn stat(&self, path: &Path) -> Option<Stat> {
        once(&self.stats, path, stat)
    }

    /// What is in a file, or was.
    pub(crate) fn text(&self, path: &Path) -> Text {
        once(&self.texts, path, text)
    }

    /// Everything is looked at anew: a program was started that may have changed it.
    pub(crate) fn forget(&self) {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn once<V: Clone>(known: &Mutex<HashMap<PathBuf, V>>, path: &Path, look: fn(&Path) -> V) -> V {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = known.get(path) {
        return value.clone();
    }
    let value = look(path);
    known.insert(path.to_owned(), value.clone());
    value
}

/// What `stat` says of a path now.
pub(crate) fn stat(path: &Path) -> Option<Stat> {
    let found = std::fs::metadata(path).ok()?;
    let key = StatKey::of_metadata(&found);
    Some((key.dev, key.ino, key.size, key.mtime_ns, key.ctime_ns))
}

/// What is in a file now.
pub(crate) fn text(path: &Path) -> Text {
    std::fs::read(path).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_looked_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        let glance = Glance::default();
        assert_eq!((glance.stat(&path), glance.text(&path)), (None, None));
        std::fs::write(&path, "new").unwrap();
        assert_eq!((glance.stat(&path), glance.text(&path)), (None, None));
        glance.forget();
        assert_eq!((glance.stat(&path), glance.text(&path)), (stat(&path), text(&path)));
        assert_eq!(text(&path).as_deref(), Some(b"new".as_slice()));
        assert!(stat(&path).is_some_and(|stat| stat.2 == 3));
    }
}
