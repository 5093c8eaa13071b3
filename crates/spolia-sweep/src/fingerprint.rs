//! What Cargo wrote down of one unit: `fingerprint folder → Details`.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use serde::Deserialize;

/// The largest fingerprint that is read, bytes.
const BYTES_MAX: u64 = 4 << 20;
/// About how large they are, bytes.
const BYTES_USUAL: usize = 4 << 10;

/// What of a fingerprint says why a unit is stale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Its compiler, as Cargo numbers them.
    pub rustc: Option<u64>,
    /// Its flags.
    pub rustflags: Vec<String>,
}

#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    rustc: u64,
    #[serde(default)]
    rustflags: Vec<String>,
}

/// Reads the file `name`, which ends in `.json`, in the folder of a fingerprint.
pub(crate) fn read(folder: &OwnedFd, name: &CStr) -> Option<Details> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?);
    let mut text = Vec::with_capacity(BYTES_USUAL);
    file.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    let read: Json = serde_json::from_slice(&text).ok()?;
    Some(Details { rustc: Some(read.rustc), rustflags: read.rustflags })
}

/// All that a fingerprint tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `lib-serde`, …; sorted.
    pub targets: Vec<String>,
    /// From the start of its compiler to the end, by the times of Cargo's own files, µs.
    pub rebuild_us: Option<u64>,
    /// What is in it.
    pub details: Details,
}

/// Reads the fingerprint in the folder `path` below the open folder `root`; what cannot be read says nothing.
pub fn read_below(root: impl AsFd, path: &Path) -> Notes {
    let opened = crate::scan::open_below(root, path);
    let Ok(fd) = opened else { return Notes::default() };
    let Ok(entries) = Dir::read_from(&fd) else { return Notes::default() };
    let changed = |name: &CStr| {
        let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(crate::scan::changed_us(&stat))
    };
    let began = changed(c"invoked.timestamp");
    let mut notes = Notes::default();
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        let Some(target) = name.strip_suffix(b".json").and_then(|name| std::str::from_utf8(name).ok()) else {
            continue;
        };
        notes.targets.push(target.to_owned());
        // The file with the hash is written when the compiler has ended.
        let ended = CString::new(target).ok().and_then(|name| changed(&name));
        let took = began.zip(ended).map(|(began, ended)| ended.saturating_sub(began));
        notes.rebuild_us = notes.rebuild_us.max(took.filter(|us| *us > 0));
        if let Some(read) = read(&fd, entry.file_name()) {
            notes.details = read;
        }
    }
    notes.targets.sort_unstable();
    notes
}
