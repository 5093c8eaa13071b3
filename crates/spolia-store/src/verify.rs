//! Looks at every file of a store and says which are damaged. Changes nothing unless it heals.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use spolia_core::{ActionKey, Digest};

use crate::digests;
use crate::gc::result_blobs;
use crate::journal::{self, RunFilter};
use crate::local::content::ReadError;
use crate::local::{Found, LocalStore, clear_way, names};
use crate::refs;
use crate::size;
use crate::store::{Entry, Space, Store, StoreError};
use crate::uses;

/// What is wrong with one file, or with an entry that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A blob whose content is not what its name says, or a sealed file whose checksum differs.
    Content {
        /// Which entry.
        entry: Entry,
        /// Its file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// It cannot be read, be it for its mode or for the disk.
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What the system said, or what the mode is.
        what: String,
    },
    /// Its mode is not one that the store gives: somebody could write to it, or not read it.
    Mode {
        /// What it is.
        entry: Entry,
        /// Its file.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// A name that the store never makes, or no regular file.
    Stranger {
        /// Where.
        path: PathBuf,
    },
    /// A result that is sound by its checksum and yet no result.
    NotAResult {
        /// Its key.
        key: ActionKey,
        /// Its file.
        path: PathBuf,
    },
    /// A result whose blobs are not all there.
    BlobsGone {
        /// Its key.
        key: ActionKey,
        /// The blobs that are gone or damaged.
        blobs: Vec<Digest>,
    },
    /// What an action was made of is there and its result is not: it was removed, or a build was stopped
    /// between the two.
    ResultGone {
        /// Its key.
        key: ActionKey,
    },
    /// A file beside the entries: the format, the size, a digest cache, what runs used, a journal.
    Beside {
        /// Its path.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content { entry, what, .. } => write!(f, "{entry} is damaged: {what}"),
            Self::Unreadable { path, what } => write!(f, "`{}` cannot be read: {what}", show(path)),
            Self::Mode { path, mode, .. } => write!(f, "`{}` has the mode {mode:04o}", show(path)),
            Self::Stranger { path } => write!(f, "`{}` is no file of the store's", show(path)),
            Self::NotAResult { key, .. } => write!(f, "result {key} holds no result"),
            Self::BlobsGone { key, blobs } => {
                write!(f, "result {key} names {} blobs that are gone or damaged", blobs.len())
            }
            Self::ResultGone { key } => write!(f, "result {key} is gone; what it was made of is there"),
            Self::Beside { path, what } => write!(f, "`{}` is damaged: {what}", show(path)),
        }
    }
}

fn show(path: &Path) -> String {
    spolia_core::path::escape(path.as_os_str().as_encoded_bytes())
}

/// What was looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files of blobs.
    pub blobs: u64,
    /// Files of results.
    pub results: u64,
    /// Files that say what actions were made of.
    pub actions: u64,
    /// Bytes of all of these on disk.
    pub bytes: u64,
    /// All that is wrong.
    pub damaged: Vec<Damage>,
    /// How many of these were removed or put right.
    pub healed: u64,
}

/// The permission bits that the store gives, less the umask.
const MODE: u32 = 0o444;
/// Those that a file may have which is a user's under its other name ([`LocalStore::adopt`]), as compilers make them.
const MODE_OF_OTHERS: u32 = 0o777;

/// Reads and checks everything. With `heal`, what is damaged is removed, so that builds see a miss; a
/// wrong mode is put right. Builds may run meanwhile: what they remove or add is not damage.
///
/// # Errors
/// Those of listing.
pub fn verify(store: &LocalStore, heal: bool, now_us: u64) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    let mut blobs = HashSet::new();
    for found in scan(store, Space::Blob)? {
        report.blobs += 1;
        report.bytes += found.bytes;
        if let Some(entry) = check_file(store, &found, &mut report) {
            blobs.insert(entry.digest);
        }
    }
    let mut results = HashSet::new();
    // Of builds, and of compilers.
    let (mut ours, mut others) = (HashSet::new(), HashSet::new());
    for found in scan(store, Space::Result)? {
        report.results += 1;
        report.bytes += found.bytes;
        if let Some(entry) = check_file(store, &found, &mut report) {
            let key = ActionKey(entry.digest);
            results.insert(key);
            let named = check_result(store, key, &found.path, &blobs, &mut report);
            if named.is_compilers { others.extend(named.blobs) } else { ours.extend(named.blobs) }
        }
    }
    report.damaged.retain(|damage| match damage {
        // One that no result names any more may have been a compiler's.
        Damage::Mode { entry: Entry { space: Space::Blob, digest }, mode, .. } => {
            mode & !MODE_OF_OTHERS != 0 || ours.contains(digest) && !others.contains(digest)
        }
        _ => true,
    });
    for found in scan(store, Space::Action)? {
        report.actions += 1;
        report.bytes += found.bytes;
        if let Some(entry) = check_file(store, &found, &mut report) {
            let key = ActionKey(entry.digest);
            // Looked for again: a build may have written it since.
            if !results.contains(&key) && !store.has(Entry::result(key))? {
                report.damaged.push(Damage::ResultGone { key });
            }
        }
    }
    check_beside(store, &mut report)?;
    if heal {
        report.healed = report.damaged.iter().filter(|damage| mend(store, damage)).count() as u64;
        // What an action was made of goes with its result, else it would be the next thing that is wrong.
        for key in report.damaged.iter().filter_map(lost_result) {
            if !store.has(Entry::result(key))? {
                store.remove(Entry::action(key))?;
            }
        }
        size::set(store, report.bytes, now_us)?;
    }
    Ok(report)
}

/// Like [`verify`] without `heal`, for at most `files_max` files of each kind, taken evenly from all, and
/// nothing beside the entries. What is missing is not looked for.
///
/// # Errors
/// Those of listing.
pub fn sample(store: &LocalStore, files_max: usize) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    for space in [Space::Blob, Space::Result, Space::Action] {
        let found = scan(store, space)?;
        let step = found.len().div_ceil(files_max.max(1)).max(1);
        for found in found.iter().step_by(step) {
            match space {
                Space::Blob => report.blobs += 1,
                Space::Result => report.results += 1,
                Space::Action => report.actions += 1,
            }
            report.bytes += found.bytes;
            check_file(store, found, &mut report);
        }
    }
    // Whose file a blob is besides is known only where all results are read.
    report
        .damaged
        .retain(|damage| !matches!(damage, Damage::Mode { mode, .. } if mode & !MODE_OF_OTHERS == 0));
    Ok(report)
}

fn scan(store: &LocalStore, space: Space) -> Result<Vec<Found>, StoreError> {
    let mut all = Vec::new();
    store.scan(space, &mut |found| all.push(found))?;
    Ok(all)
}

/// Checks one file; the entry, if it is sound.
fn check_file(store: &LocalStore, found: &Found, report: &mut VerifyReport) -> Option<Entry> {
    let path = found.path.clone();
    let (Some((entry, form)), true) = (found.name, found.regular) else {
        report.damaged.push(Damage::Stranger { path });
        return None;
    };
    let mode = match std::fs::symlink_metadata(&found.path) {
        Ok(metadata) => metadata.mode() & 0o7777,
        // Collected meanwhile.
        Err(_) => return None,
    };
    if mode & 0o400 == 0 {
        report.damaged.push(Damage::Unreadable { path, what: format!("its mode is {mode:04o}") });
        return None;
    }
    let read = File::open(&found.path).map_err(ReadError::Disk);
    match read.and_then(|file| store.check_content(entry, form, &file)) {
        Ok(()) => {}
        Err(ReadError::Damaged(what)) => {
            report.damaged.push(Damage::Content { entry, path, what });
            return None;
        }
        Err(ReadError::Disk(error)) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(ReadError::Disk(error) | ReadError::Peer(error)) => {
            report.damaged.push(Damage::Unreadable { path, what: error.to_string() });
            return None;
        }
    }
    if mode & !MODE != 0 {
        report.damaged.push(Damage::Mode { entry, path, mode });
    }
    Some(entry)
}

/// What a result names.
#[derive(Default)]
struct Named {
    blobs: Vec<Digest>,
    /// They may be a user's files as well.
    is_compilers: bool,
}

fn check_result(
    store: &LocalStore,
    key: ActionKey,
    path: &Path,
    sound: &HashSet<Digest>,
    report: &mut VerifyReport,
) -> Named {
    let mut payload = Vec::new();
    if !matches!(store.get(Entry::result(key), &mut payload), Ok(Some(_))) {
        return Named::default();
    }
    let Some(named) = result_blobs(&payload) else {
        report.damaged.push(Damage::NotAResult { key, path: path.to_owned() });
        return Named::default();
    };
    let is_compilers = refs::is_one(&payload);
    // One that was not there when the blobs were read, and is now, was checked when it was written.
    let is_there = |digest: &Digest| {
        let entry = Entry::blob(*digest);
        sound.contains(digest) || (!is_damaged(report, entry) && store.has(entry).unwrap_or(false))
    };
    let blobs: Vec<Digest> = named.iter().copied().filter(|digest| !is_there(digest)).collect();
    if !blobs.is_empty() {
        report.damaged.push(Damage::BlobsGone { key, blobs });
    }
    Named { blobs: named, is_compilers }
}

fn is_damaged(report: &VerifyReport, wanted: Entry) -> bool {
    report.damaged.iter().any(|damage| match damage {
        Damage::Content { entry, .. } => *entry == wanted,
        Damage::Unreadable { path, .. } => path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(wanted.digest.to_hex().as_bytes())),
        _ => false,
    })
}

fn check_beside(store: &LocalStore, report: &mut VerifyReport) -> Result<(), StoreError> {
    let mut beside = |path: PathBuf, what: &str| {
        report.damaged.push(Damage::Beside { path, what: what.to_owned() });
    };
    if !store.has_sound_format() {
        beside(store.base().join("format"), "it does not name this format");
    }
    let size_file = store.base().join("size");
    if size_file.exists() && size::read(store).is_none() {
        beside(size_file, "it holds no count");
    }
    type IsSound = fn(&Path) -> bool;
    for (folder, is_sound) in [("digests", digests::is_sound as IsSound), ("uses", uses::is_sound)] {
        for (name, path) in names(&store.base().join(folder))? {
            // One that is being written, or was when its process was killed; a collection removes it then.
            if name.starts_with(b".") {
                continue;
            }
            let readable = |metadata: std::fs::Metadata| metadata.mode() & 0o400 != 0;
            match std::fs::symlink_metadata(&path).map(readable) {
                Ok(true) if !is_sound(&path) => beside(path, "it is cut short or its checksum differs"),
                Ok(false) => beside(path, "its mode forbids reading it"),
                // Sound, or replaced meanwhile.
                _ => {}
            }
        }
    }
    for (id, path) in journal::list_runs(store, &RunFilter::default())? {
        match journal::read_run(&id, &path) {
            Ok(run) if run.unreadable_lines == 0 => {}
            Ok(run) => beside(path, &format!("{} lines are no events", run.unreadable_lines)),
            Err(error) => beside(path, &error.to_string()),
        }
    }
    Ok(())
}

/// The result that goes when the damage is mended.
fn lost_result(damage: &Damage) -> Option<ActionKey> {
    match damage {
        Damage::Content { entry, .. } if entry.space == Space::Result => Some(ActionKey(entry.digest)),
        Damage::NotAResult { key, .. } | Damage::BlobsGone { key, .. } => Some(*key),
        _ => None,
    }
}

/// Puts one thing right; whether that was possible.
fn mend(store: &LocalStore, damage: &Damage) -> bool {
    match damage {
        Damage::Content { path, .. } | Damage::Unreadable { path, .. } | Damage::NotAResult { path, .. } => {
            clear_way(path);
            !path.exists()
        }
        Damage::Mode { path, mode, .. } => {
            let mode = std::fs::Permissions::from_mode(mode & MODE | 0o400);
            std::fs::set_permissions(path, mode).is_ok()
        }
        // Somebody else's: not ours to remove.
        Damage::Stranger { .. } => false,
        Damage::BlobsGone { key, .. } => store.remove(Entry::result(*key)).is_ok(),
        Damage::ResultGone { key } => store.remove(Entry::action(*key)).is_ok(),
        Damage::Beside { path, .. } => mend_beside(store, path),
    }
}

fn mend_beside(store: &LocalStore, path: &Path) -> bool {
    if *path == store.base().join("format") {
        return store.write_format().is_ok();
    }
    // What is left of a journal stays: its other lines are sound.
    !path.starts_with(store.base().join("journal")) && std::fs::remove_file(path).is_ok()
}
