//! How big the store is, without counting. Knows numbers only.
//!
//! ```text
//! v1/size = "spolia size 1\n" line*
//! line    = "counted " bytes " " at_us "\n"      by a collection or a verification, which see every file,
//!                                               or of nothing by whoever made the store
//!         | "added " bytes "\n"                  by each run since, appended
//! ```
//!
//! A number that nobody has counted is not made up: without a `counted` line the size is unknown.

use std::io::{Read, Write};

use crate::journal;
use crate::local::{LocalStore, io};
use crate::store::StoreError;

const HEADER: &str = "spolia size 1\n";
/// The longest file that is read, bytes: about 50,000 runs between two counts.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The size of the store's entries as far as it is known, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSize {
    /// When it was last counted.
    pub counted_bytes: u64,
    /// That moment, µs since 1970.
    pub counted_at_us: u64,
    /// Bytes that runs have reported since.
    pub added_bytes: u64,
}

impl StoreSize {
    /// Both together.
    pub fn bytes(&self) -> u64 {
        self.counted_bytes.saturating_add(self.added_bytes)
    }
}

/// What is known of the size; `None` where it was never counted, or the file is damaged.
pub fn read(store: &LocalStore) -> Option<StoreSize> {
    let mut text = String::new();
    let file = std::fs::File::open(store.base().join("size")).ok()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<StoreSize> {
    let mut size = None;
    for line in text.strip_prefix(HEADER)?.split_inclusive('\n') {
        // A line that a crash cut short is no line.
        let Some(line) = line.strip_suffix('\n') else { break };
        if let Some(rest) = line.strip_prefix("counted ") {
            let (bytes, at) = rest.split_once(' ')?;
            let (counted_bytes, counted_at_us) = (bytes.parse().ok()?, at.parse().ok()?);
            size = Some(StoreSize { counted_bytes, counted_at_us, added_bytes: 0 });
        } else if let Some(bytes) = line.strip_prefix("added ")
            && let Some(size) = &mut size
        {
            size.added_bytes = size.added_bytes.saturating_add(bytes.parse().ok()?);
        }
    }
    size
}

/// The size of a store that was made just now: nothing, at the moment its folder was made. Where that cannot be
/// written, or somebody else has, the size stays what it is.
pub(crate) fn begin(store: &LocalStore) {
    let made = rustix::fs::stat(store.base()).map(|stat| (stat.st_mtime, stat.st_mtime_nsec));
    let Ok((made_s, made_ns)) = made else { return };
    let made_us = u64::try_from(made_s).unwrap_or(0) * 1_000_000 + made_ns / 1000;
    let new = std::fs::OpenOptions::new().write(true).create_new(true).open(store.base().join("size"));
    let text = format!("{HEADER}counted 0 {made_us}\n");
    // A line that is cut short is no line: then the size is unknown.
    let _unknown = new.and_then(|mut file| file.write_all(text.as_bytes()));
}

/// Adds what a run has written; nothing is done for 0.
///
/// # Errors
/// Those of appending to the file.
pub fn add(store: &LocalStore, bytes: u64) -> Result<(), StoreError> {
    let path = store.base().join("size");
    // Before the first count there is nothing to add to.
    if bytes == 0 || !path.exists() {
        return Ok(());
    }
    journal::create(&path)
        .and_then(|mut file| file.write_all(format!("added {bytes}\n").as_bytes()))
        .map_err(|source| io("write", &path, source))
}

/// Replaces what was known by a count.
///
/// # Errors
/// Those of writing the file.
pub fn set(store: &LocalStore, bytes: u64, now_us: u64) -> Result<(), StoreError> {
    let text = format!("{HEADER}counted {bytes} {now_us}\n");
    store.write_loose(&store.base().join("size"), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_counted_is_known() {
        let check =
            |text: &str, expect: Option<u64>| assert_eq!(parse(text).map(|size| size.bytes()), expect);
        check("", None);
        check("spolia size 1\n", None);
        check("spolia size 1\nadded 5\n", None);
        check("spolia size 1\ncounted 10 3\nadded 5\nadded 7\n", Some(22));
        check("spolia size 1\nadded 5\ncounted 10 3\n", Some(10));
        check("spolia size 1\ncounted 10 3\nadded 5", Some(10));
        check("spolia size 1\ncounted x 3\n", None);
        check("spolia size 9\ncounted 10 3\n", None);
    }
}
