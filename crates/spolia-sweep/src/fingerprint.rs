//! What Cargo wrote down of one unit: `fingerprint folder → Details`.

use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
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

/// Reads the fingerprint in the folder `path` below the open folder `root`; what cannot be read says nothing.
pub fn read_below(root: impl AsFd, path: &Path) -> Details {
    let opened = crate::scan::open_below(root, path);
    let Ok(fd) = opened else { return Details::default() };
    let Ok(entries) = Dir::read_from(&fd) else { return Details::default() };
    let mut details = Details::default();
    for entry in entries.flatten() {
        if entry.file_type() == rustix::fs::FileType::RegularFile
            && entry.file_name().to_bytes().ends_with(b".json")
            && let Some(read) = read(&fd, entry.file_name())
        {
            details = read;
        }
    }
    details
}
