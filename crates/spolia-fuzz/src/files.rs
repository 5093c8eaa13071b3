//! Parsers of files that Spolia wrote itself and that something has spoilt since. Each run writes the bytes to a
//! file of its thread's own.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use spolia_build::fresh;
use spolia_build::state::State;
use spolia_core::{ActionKey, Digest, Event, EventKind};
use spolia_store::journal::read_run;
use spolia_store::{DigestCache, Entry, JournalWriter, LocalOptions, LocalStore, RunId, StatKey, Store};
use tempfile::TempDir;

use crate::Target;

/// A folder for one kind of file, kept as long as its thread lives.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("spolia-fuzz-").tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, raw: &[u8]) -> PathBuf {
        let path = self.path().join("file");
        std::fs::write(&path, raw).expect("our own file");
        path
    }
}

thread_local! {
    static FOLDER: Folder = Folder::new();
    static STORE: (Folder, LocalStore) = {
        let folder = Folder::new();
        let store = LocalStore::open(&folder.path().join("s"), LocalOptions::default()).expect("a new store");
        (folder, store)
    };
}

/// The table of digests that compiler calls share, as long as a table is at least: it makes up no digest, and takes what it is given.
pub(crate) const MEMO: Target = Target {
    name: "memo",
    seeds: || {
        let folder = Folder::new();
        spolia_store::memo::probe(folder.path(), &[]);
        let whole = std::fs::read(folder.path().join("memo-2")).expect("written");
        vec![whole.clone(), vec![0; 4096], [whole, vec![1; 8192]].concat()]
    },
    run: |raw| {
        FOLDER.with(|folder| spolia_store::memo::probe(folder.path(), raw));
        FOLDER.with(|folder| drop(std::fs::remove_file(folder.path().join("memo-2"))));
    },
    tries: 150,
};

/// One run's lines: each is an event or counted as unreadable.
pub(crate) const JOURNAL: Target = Target {
    name: "journal",
    seeds: || {
        STORE.with(|(_, store)| {
            let run = RunId::new(1_700_000_000_000_000);
            let mut journal = JournalWriter::new(store, &run);
            for seq in 0..3 {
                let kind = EventKind::Healed { what: format!("`a{seq}` was put back") };
                journal.append(&Event { at_us: 1, seq, kind }).expect("room");
            }
            journal.flush().expect("room");
            vec![std::fs::read(journal.path()).expect("written"), b"{}\n\n[".to_vec()]
        })
    },
    run: |raw| {
        FOLDER.with(|folder| {
            let id = RunId::new(1_700_000_000_000_000);
            let run = read_run(&id, &folder.write(raw)).expect("a file that is there");
            let lines = raw.split_inclusive(|byte| *byte == b'\n').count() as u64;
            assert_eq!(run.events.len() as u64 + run.unreadable_lines, lines);
        });
    },
    tries: 2000,
};

fn key(number: u64) -> StatKey {
    StatKey { dev: 1, ino: number, size: number, mtime_ns: 1, ctime_ns: 1 }
}

/// The digest cache: a spoilt file knows nothing; it never knows another digest.
pub(crate) const DIGESTS: Target = Target {
    name: "digests",
    seeds: || {
        let folder = Folder::new();
        let path = folder.path().join("digests");
        let cache = DigestCache::load(&path);
        for number in 0..8 {
            cache.note(key(number), Digest::blake3(&number.to_le_bytes()), 1 << 60);
        }
        assert!(cache.save().expect("our own folder"), "nothing was written");
        vec![std::fs::read(&path).expect("written")]
    },
    run: |raw| {
        FOLDER.with(|folder| {
            let cache = DigestCache::load(&folder.write(raw));
            for number in 0..8 {
                let found = cache.lookup(&key(number));
                assert!(found.is_none_or(|found| found == Digest::blake3(&number.to_le_bytes())));
            }
        });
    },
    tries: 1000,
};

/// What the last build left.
pub(crate) const STATE: Target = Target {
    name: "state",
    seeds: || {
        let folder = Folder::new();
        let path = folder.path().join("state");
        State::default().save(&path).expect("our own folder");
        vec![std::fs::read(&path).expect("written")]
    },
    run: |raw| {
        FOLDER.with(|folder| {
            let state = State::load(&folder.write(raw));
            assert!(state.steps.values().all(|step| step.result.outputs.check().is_ok()));
        });
    },
    tries: 1000,
};

/// What a build in which nothing was to be done left.
pub(crate) const FRESH: Target = Target {
    name: "fresh",
    seeds: || {
        let folder = Folder::new();
        let path = folder.path().join("fresh");
        let noted = fresh::Fresh { noted_at_us: 5, project: Some("p".to_owned()), ..fresh::Fresh::default() };
        fresh::write(&path, &noted).expect("our own folder");
        vec![std::fs::read(&path).expect("written")]
    },
    run: |raw| {
        FOLDER.with(|folder| {
            let found = fresh::check(folder.path(), &folder.write(raw), 6, &|_| None);
            // Its checksum lets nothing through but what was written.
            assert!(
                found.is_none_or(|found| found.steps.is_empty() && found.project.as_deref() == Some("p"))
            );
        });
    },
    tries: 1000,
};

const CONTENT: &[u8] = b"all that is in the blob, and again all that is in the blob, and again";

/// Puts `raw` in the place of the one file of the store whose name ends in `hex` or `hex.zst`.
fn replace(store: &LocalStore, space: &str, digest: Digest, raw: &[u8]) {
    let hex = digest.to_hex();
    let folder = store.base().join(space).join(&hex[..2]);
    for name in [hex.clone(), format!("{hex}.zst")] {
        let path = folder.join(name);
        if path.exists() {
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("our own file");
            std::fs::write(&path, raw).expect("our own file");
        }
    }
}

fn packed() -> Vec<u8> {
    // Long enough to be worth packing.
    CONTENT.repeat(200)
}

/// A blob's file, packed: what comes out is the blob, or nothing.
pub(crate) const BLOB: Target = Target {
    name: "blob",
    seeds: || {
        STORE.with(|(_, store)| {
            let entry = Entry::blob(Digest::blake3(&packed()));
            store.put_bytes(entry, &packed()).expect("room");
            let folder = store.base().join("blob").join(&entry.digest.to_hex()[..2]);
            let files = std::fs::read_dir(folder).expect("written").flatten();
            files.map(|file| std::fs::read(file.path()).expect("written")).collect()
        })
    },
    run: |raw| {
        STORE.with(|(_, store)| {
            let entry = Entry::blob(Digest::blake3(&packed()));
            store.put_bytes(entry, &packed()).expect("room");
            replace(store, "blob", entry.digest, raw);
            let mut got = Vec::new();
            if let Ok(Some(_)) = spolia_store::Checked(store).get(entry, &mut got) {
                assert!(got == packed(), "another content under this name");
            }
            let _gone = store.remove(entry);
        });
    },
    tries: 400,
};

/// A sealed entry: the result that was put, or nothing.
pub(crate) const SEALED: Target = Target {
    name: "sealed",
    seeds: || {
        STORE.with(|(_, store)| {
            let entry = Entry::result(ActionKey(Digest::blake3(b"key")));
            store.put_bytes(entry, CONTENT).expect("room");
            let folder = store.base().join("result").join(&entry.digest.to_hex()[..2]);
            let files = std::fs::read_dir(folder).expect("written").flatten();
            files.map(|file| std::fs::read(file.path()).expect("written")).collect()
        })
    },
    run: |raw| {
        STORE.with(|(_, store)| {
            let entry = Entry::result(ActionKey(Digest::blake3(b"key")));
            store.put_bytes(entry, CONTENT).expect("room");
            replace(store, "result", entry.digest, raw);
            let mut got = Vec::new();
            if let Ok(Some(_)) = store.get(entry, &mut got) {
                assert!(got == CONTENT, "another payload under this key");
            }
            let _gone = store.remove(entry);
        });
    },
    tries: 400,
};
