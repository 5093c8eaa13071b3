//! Where each thing lies below a store's folder. Pure: makes paths, opens nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use spolia_core::{Digest, DigestFunction};

use crate::store::{Entry, Space};

/// The version of the layout, which is also the name of its folder.
pub const FORMAT_VERSION: &str = "1";

/// How an entry's bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are; for a result or an action with the header of [`super::sealed`].
    Plain,
    /// One or more zstd frames.
    Zstd,
}

impl Form {
    fn suffix(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Zstd => b".zst",
        }
    }
}

/// The paths of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// `DIR`, absolute.
    pub(crate) dir: PathBuf,
    /// `DIR/v1`.
    pub(crate) base: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: PathBuf) -> Self {
        let base = dir.join("v1");
        Self { dir, base }
    }

    /// `v1/blob/ab/ab…` in the given form.
    pub(crate) fn entry(&self, entry: Entry, form: Form) -> PathBuf {
        let hex = entry.digest.to_hex();
        let base = self.base.as_os_str().as_bytes();
        let mut path = Vec::with_capacity(base.len() + 100);
        path.extend_from_slice(base);
        path.push(b'/');
        path.extend_from_slice(space_folder(entry.space, entry.digest.function()).as_bytes());
        path.push(b'/');
        path.extend_from_slice(&hex.as_bytes()[..2]);
        path.push(b'/');
        path.extend_from_slice(hex.as_bytes());
        path.extend_from_slice(form.suffix());
        PathBuf::from(std::ffi::OsString::from(<OsStr as OsStrExt>::from_bytes(&path)))
    }

    /// `v1/blob` and the like.
    pub(crate) fn space(&self, space: Space, function: DigestFunction) -> PathBuf {
        self.base.join(space_folder(space, function))
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.base.join("format")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.base.join("tmp")
    }
}

/// BLAKE3 is the plain name; another function has a folder of its own, since one digest's text could
/// name two things otherwise.
fn space_folder(space: Space, function: DigestFunction) -> &'static str {
    match (space, function) {
        (Space::Blob, DigestFunction::Blake3) => "blob",
        (Space::Blob, DigestFunction::Sha256) => "blob-sha256",
        (Space::Result, DigestFunction::Blake3) => "result",
        (Space::Result, DigestFunction::Sha256) => "result-sha256",
        (Space::Action, DigestFunction::Blake3) => "action",
        (Space::Action, DigestFunction::Sha256) => "action-sha256",
    }
}

/// What a file in `folder` (a shard such as `ab`) named `name` is; `None` for a name the store never makes.
pub(crate) fn parse_name(function: DigestFunction, shard: &[u8], name: &[u8]) -> Option<(Digest, Form)> {
    let (hex, form) = match name.strip_suffix(b".zst") {
        Some(hex) => (hex, Form::Zstd),
        None => (name, Form::Plain),
    };
    let lower = hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !lower || !hex.starts_with(shard) || shard.len() != 2 {
        return None;
    }
    let digest = Digest::from_hex(function, std::str::from_utf8(hex).ok()?).ok()?;
    Some((digest, form))
}

/// `path` as an absolute path, without touching the disk where it is one already.
pub(crate) fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    if path.is_absolute() { Ok(path.to_owned()) } else { std::path::absolute(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_refused() {
        let layout = Layout::new(PathBuf::from("/s"));
        let digest = Digest::blake3(b"x");
        for form in [Form::Plain, Form::Zstd] {
            let path = layout.entry(Entry::blob(digest), form);
            let name = path.file_name().unwrap().as_bytes();
            let shard = path.parent().unwrap().file_name().unwrap().as_bytes();
            assert_eq!(parse_name(DigestFunction::Blake3, shard, name), Some((digest, form)));
            assert_eq!(parse_name(DigestFunction::Blake3, b"zz", name), None);
        }
        assert_eq!(parse_name(DigestFunction::Blake3, b"ab", b"ab"), None);
        let upper = digest.to_hex().to_uppercase();
        let shard = &upper.as_bytes()[..2];
        assert_eq!(parse_name(DigestFunction::Blake3, shard, upper.as_bytes()), None);
    }
}
