//! Which results were used when, for a collection. Costs a build one small file a day.
//!
//! ```text
//! v1/uses/<run>    = "spolia uses 1\n" u64le(at_us) key32*          what one run used
//! v1/uses/merged   = "spolia used 1\n" checksum32 (key32 u64le(at_us))*     what collections have merged
//! checksum         = BLAKE3 of what follows
//! ```
//!
//! A hit writes nothing. At its end a run writes the keys it used, unless it wrote the same set less
//! than a day ago: what it needs to know for that is a [`Stamp`] that the caller keeps with the project.
//! A file that is damaged is dropped; the results in it then count as used when they were written.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spolia_core::{ActionKey, Digest, DigestFunction};

use crate::journal::RunId;
use crate::local::{LocalStore, names};
use crate::store::StoreError;

const HEADER: &[u8] = b"spolia uses 1\n";
const MERGED_HEADER: &[u8] = b"spolia used 1\n";
const MERGED: &str = "merged";
/// How long a written set is not written again, µs.
const FRESH_US: u64 = 24 * 60 * 60 * 1_000_000;
/// The largest file that is read, bytes: eight million keys.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What was last written for a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Digest of the set of keys.
    pub set: Digest,
    /// When, µs since 1970.
    pub at_us: u64,
}

/// Notes that `keys` were used now. The stamp to keep where something was written.
///
/// # Errors
/// Those of writing the file. Losing it means that results may be collected early.
pub fn record(
    store: &LocalStore,
    run: &RunId,
    keys: &[ActionKey],
    now_us: u64,
    last: Option<&Stamp>,
) -> Result<Option<Stamp>, StoreError> {
    let mut raw: Vec<[u8; 32]> = keys
        .iter()
        .filter(|key| key.0.function() == DigestFunction::Blake3)
        .map(|key| *key.0.as_bytes())
        .collect();
    raw.sort_unstable();
    raw.dedup();
    let set = Digest::blake3(raw.as_flattened());
    let is_fresh = |last: &Stamp| last.set == set && last.at_us <= now_us && now_us - last.at_us < FRESH_US;
    if raw.is_empty() || last.is_some_and(is_fresh) {
        return Ok(None);
    }
    let mut file = Vec::with_capacity(HEADER.len() + 8 + raw.len() * 32);
    file.extend_from_slice(HEADER);
    file.extend_from_slice(&now_us.to_le_bytes());
    file.extend_from_slice(raw.as_flattened());
    store.write_loose(&folder(store).join(run.as_str()), &file)?;
    Ok(Some(Stamp { set, at_us: now_us }))
}

fn folder(store: &LocalStore) -> PathBuf {
    store.base().join("uses")
}

/// When each result was last used, µs since 1970, as far as it was recorded.
#[derive(Clone, Debug, Default)]
pub struct LastUses {
    pub(crate) at_us: HashMap<[u8; 32], u64>,
    /// The files this was read from, which a merge replaces.
    merged_from: Vec<PathBuf>,
}

impl LastUses {
    /// When the result was last used.
    pub fn of(&self, key: &ActionKey) -> Option<u64> {
        self.at_us.get(key.0.as_bytes()).copied()
    }

    fn note(&mut self, key: [u8; 32], at_us: u64) {
        let known = self.at_us.entry(key).or_insert(0);
        *known = (*known).max(at_us);
    }
}

/// Reads what was recorded. Damaged files count as absent.
///
/// # Errors
/// Those of listing the folder.
pub fn load(store: &LocalStore) -> Result<LastUses, StoreError> {
    let mut uses = LastUses::default();
    for (name, path) in names(&folder(store))? {
        let Some(file) = read_file(&path) else { continue };
        if name == MERGED.as_bytes() {
            read_merged(&file, &mut uses);
        } else {
            read_run(&file, &mut uses);
            uses.merged_from.push(path);
        }
    }
    Ok(uses)
}

fn read_file(path: &Path) -> Option<Vec<u8>> {
    let length = std::fs::metadata(path).ok()?.len();
    if length > FILE_BYTES_MAX { None } else { std::fs::read(path).ok() }
}

fn read_run(file: &[u8], uses: &mut LastUses) -> bool {
    let Some(body) = file.strip_prefix(HEADER) else { return false };
    let Some((at, keys)) = body.split_first_chunk::<8>() else { return false };
    let (keys, rest) = keys.as_chunks::<32>();
    for key in keys {
        uses.note(*key, u64::from_le_bytes(*at));
    }
    rest.is_empty()
}

fn read_merged(file: &[u8], uses: &mut LastUses) -> bool {
    let Some(body) = file.strip_prefix(MERGED_HEADER) else { return false };
    let Some((checksum, body)) = body.split_first_chunk::<32>() else { return false };
    if blake3::hash(body) != *checksum {
        return false;
    }
    let (records, rest) = body.as_chunks::<40>();
    for record in records {
        let (mut key, mut at) = ([0; 32], [0; 8]);
        key.copy_from_slice(&record[..32]);
        at.copy_from_slice(&record[32..]);
        uses.note(key, u64::from_le_bytes(at));
    }
    rest.is_empty()
}

/// Whether the file at `path` is whole, as far as its format can tell.
pub(crate) fn is_sound(path: &Path) -> bool {
    let Some(file) = read_file(path) else { return false };
    let mut uses = LastUses::default();
    if path.file_name().is_some_and(|name| name == MERGED) {
        read_merged(&file, &mut uses)
    } else {
        read_run(&file, &mut uses)
    }
}

/// Writes what was loaded as one file, without the keys that `keep` refuses, and removes the others.
///
/// # Errors
/// Those of writing; nothing is removed then.
pub fn merge(
    store: &LocalStore,
    uses: &LastUses,
    keep: &dyn Fn(&ActionKey) -> bool,
) -> Result<(), StoreError> {
    let mut records: Vec<[u8; 40]> = Vec::with_capacity(uses.at_us.len());
    for (key, at_us) in &uses.at_us {
        if keep(&ActionKey(Digest::new(DigestFunction::Blake3, *key))) {
            let mut record = [0; 40];
            record[..32].copy_from_slice(key);
            record[32..].copy_from_slice(&at_us.to_le_bytes());
            records.push(record);
        }
    }
    records.sort_unstable();
    let body = records.as_flattened();
    let mut file = MERGED_HEADER.to_vec();
    file.extend_from_slice(blake3::hash(body).as_bytes());
    file.extend_from_slice(body);
    store.write_loose(&folder(store).join(MERGED), &file)?;
    for path in &uses.merged_from {
        // What stays is merged again next time.
        let _unremoved = std::fs::remove_file(path);
    }
    Ok(())
}
