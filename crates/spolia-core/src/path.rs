//! A path relative to some root, as bytes. Knows no file system.
//!
//! Inside a [`RelPath`] there is no absolute path, no `.` or `..`, no empty segment and no NUL, so a
//! path that came from a manifest, a cache or a network can be joined to a root without leaving it.
//! Bytes, not text: a file name on Linux is any bytes but `/` and NUL.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A normalised, root-relative path. Cheap to clone. Ordered by bytes with `/` lowest, so that a
/// folder sorts directly before what is in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Arc<[u8]>);

/// Why a path cannot be a [`RelPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelPathError {
    /// It starts with `/`.
    #[error("`{path}` is absolute; paths are relative to the manifest's folder")]
    Absolute {
        /// The path, for a person.
        path: String,
    },
    /// It has a `..` that would leave the root.
    #[error("`{path}` leaves the folder it is relative to")]
    Escapes {
        /// The path, for a person.
        path: String,
    },
    /// It holds a NUL byte.
    #[error("`{path}` holds a NUL byte")]
    Nul {
        /// The path, for a person.
        path: String,
    },
}

impl RelPath {
    /// The root itself: the empty path.
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Normalises `raw`: drops `.` and empty segments, resolves `..` inside the path.
    ///
    /// # Errors
    /// An absolute path, a `..` that leaves the root, a NUL byte.
    pub fn new(raw: impl AsRef<[u8]>) -> Result<Self, RelPathError> {
        let raw = raw.as_ref();
        if raw.first() == Some(&b'/') {
            return Err(RelPathError::Absolute { path: show(raw) });
        }
        if raw.contains(&0) {
            return Err(RelPathError::Nul { path: show(raw) });
        }
        let mut kept: Vec<&[u8]> = Vec::new();
        for segment in raw.split(|byte| *byte == b'/') {
            match segment {
                b"" | b"." => {}
                b".." => {
                    kept.pop().ok_or_else(|| RelPathError::Escapes { path: show(raw) })?;
                }
                name => kept.push(name),
            }
        }
        Ok(Self(kept.join(&b'/').into()))
    }

    /// Accepts `raw` only if it is normal already: what a cache or an archive must hold.
    pub fn strict(raw: &[u8]) -> Result<Self, RelPathError> {
        let path = Self::new(raw)?;
        if path.as_bytes() != raw { Err(RelPathError::Escapes { path: show(raw) }) } else { Ok(path) }
    }

    /// The bytes, without a leading or trailing `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes as a platform path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// `root/self`; `root` itself for the empty path.
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_owned() } else { root.join(self.as_path()) }
    }

    /// `self/other`.
    pub fn join(&self, other: &RelPath) -> RelPath {
        match (self.is_root(), other.is_root()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self([self.as_bytes(), other.as_bytes()].join(&b'/').into()),
        }
    }

    /// `self/name`, where `name` is one directory entry.
    ///
    /// # Errors
    /// A name that is empty, `.`, `..`, or holds `/` or NUL.
    pub fn child(&self, name: &[u8]) -> Result<RelPath, RelPathError> {
        let bad = name.is_empty() || name == b"." || name == b".." || name.contains(&b'/');
        if bad {
            return Err(RelPathError::Escapes { path: show(name) });
        }
        Ok(self.join(&Self::strict(name)?))
    }

    /// The folder it lies in; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].into()))
    }

    /// The last segment; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(b"")
    }

    /// What is left of `self` below `folder`; `None` if it lies elsewhere.
    pub fn strip_prefix(&self, folder: &RelPath) -> Option<RelPath> {
        if folder.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(folder.as_bytes())?;
        match rest.first() {
            None => Some(Self::root()),
            Some(b'/') => Some(Self(rest[1..].into())),
            Some(_) => None,
        }
    }

    /// Whether `self` is `folder` or lies below it.
    pub fn is_within(&self, folder: &RelPath) -> bool {
        self.strip_prefix(folder).is_some()
    }
}

fn show(raw: &[u8]) -> String {
    escape(raw)
}

/// Text for a person: UTF-8 where it is, `\n` and other control bytes and invalid UTF-8 escaped, so
/// that a hostile name cannot draw on a terminal or break a line.
pub fn escape(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for symbol in chunk.valid().chars() {
            if symbol.is_control() {
                text.extend(symbol.escape_default());
            } else {
                text.push(symbol);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
        // Most have a long beginning in common, which a word at a time passes over.
        let (left, right) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let same = left.iter().zip(right).take_while(|(left, right)| left == right).count() * 8;
        self.0[same..].iter().map(rank).cmp(other.0[same..].iter().map(rank))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&escape(&self.0)) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// In JSON the escaped text of [`crate::codec`], in a binary format the bytes.
impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::codec::bytes_to_serde(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let raw = if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            crate::codec::unescape(&text).ok_or_else(|| D::Error::custom("a bad escape in a path"))?
        } else {
            <&[u8]>::deserialize(deserializer)?.to_vec()
        };
        Self::strict(&raw).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(raw: &str) -> RelPath {
        RelPath::new(raw).unwrap()
    }

    /// A folder stands before all that is in it, and that before every name that the folder's own begins.
    #[test]
    fn the_order_is_that_of_segments_wherever_paths_part() {
        let mut paths: Vec<RelPath> = Vec::new();
        for common in 0..20 {
            let before = "packages/p0001/src/x"[..common].trim_end_matches('/').to_owned();
            for end in ["", "!", "/!", "/a", "/a/b", "a", "a!", "a/z", "\u{e9}"] {
                if let Ok(path) = RelPath::new(format!("{before}{end}").trim_start_matches('/').as_bytes()) {
                    paths.push(path);
                }
            }
        }
        let segments = |path: &RelPath| -> Vec<Vec<u8>> {
            path.as_bytes()
                .split(|byte| *byte == b'/')
                .filter(|name| !name.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        assert!(paths.len() > 150);
        for left in &paths {
            for right in &paths {
                assert_eq!(left.cmp(right), segments(left).cmp(&segments(right)), "{left} {right}");
            }
        }
    }

    #[test]
    fn normalises() {
        let check = |raw: &str, expect: &str| assert_eq!(rel(raw).as_bytes(), expect.as_bytes(), "{raw}");
        check("a/./b//c/", "a/b/c");
        check("a/x/../b", "a/b");
        check(".", "");
        check("./", "");
    }

    #[test]
    fn never_leaves_the_root() {
        assert!(matches!(RelPath::new("/etc"), Err(RelPathError::Absolute { .. })));
        assert!(matches!(RelPath::new("a/../../b"), Err(RelPathError::Escapes { .. })));
        assert!(matches!(RelPath::new("a\0b"), Err(RelPathError::Nul { .. })));
        assert!(RelPath::strict(b"a/../b").is_err());
        assert!(RelPath::strict(b"a//b").is_err());
        assert!(rel("a").child(b"..").is_err());
        assert!(rel("a").child(b"b/c").is_err());
    }

    #[test]
    fn a_folder_sorts_directly_before_its_content() {
        let mut paths = vec![rel("a-b"), rel("a/b"), rel("a"), rel("a.c"), rel("a/a")];
        paths.sort();
        assert_eq!(paths, [rel("a"), rel("a/a"), rel("a/b"), rel("a-b"), rel("a.c")]);
    }

    #[test]
    fn parents_and_prefixes() {
        assert_eq!(rel("a/b/c").parent(), Some(rel("a/b")));
        assert_eq!(rel("a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(rel("a/b").strip_prefix(&rel("a")), Some(rel("b")));
        assert_eq!(rel("ab").strip_prefix(&rel("a")), None);
        assert!(rel("a").is_within(&RelPath::root()));
    }

    #[test]
    fn odd_names_show_safely_and_survive_json() {
        let odd = RelPath::new(b"a\nb\xff\\x41 c".as_slice()).unwrap();
        assert_eq!(odd.to_string(), "a\\nb\\xff\\x41 c");
        let json = serde_json::to_string(&odd).unwrap();
        assert_eq!(serde_json::from_str::<RelPath>(&json).unwrap(), odd);
        assert!(serde_json::from_str::<RelPath>("\"../x\"").is_err());
    }
}
