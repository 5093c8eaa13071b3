//! A file tree as a value: sorted paths, each a file, a symlink or a folder. Knows no disk.
//!
//! A [`Tree`] is flat, so that a folder of 5,000 files is one list, and its digest is the digest of one
//! canonical encoding:
//!
//! ```text
//! tree  = "spolia tree 1\n" entry*            entries in path order, folders before what is in them
//! entry = u32le(len) path kind
//! kind  = 'f' digest32 u64le(size)  |  'x' digest32 u64le(size)  |  'l' u32le(len) target  |  'd'
//! ```
//!
//! `f` is a plain file, `x` an executable one; no other part of the mode, no owner and no time is in it.
//! A folder is listed only where it is empty or was asked for: a file's parents are implied.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestFunction};
use crate::path::RelPath;

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// A regular file.
    File {
        /// BLAKE3 of its content.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Whether its owner may execute it.
        #[serde(default)]
        executable: bool,
    },
    /// A symbolic link, and the bytes it holds.
    Symlink {
        /// Where it points, as written.
        #[serde(with = "raw_bytes")]
        target: Vec<u8>,
    },
    /// A folder that is empty, or named for itself.
    Folder,
}

/// A sorted set of paths with what stands there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tree {
    entries: Vec<(RelPath, Node)>,
    #[serde(skip)]
    digest: OnceLock<Digest>,
}

/// Why a list of entries is not a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// One path twice.
    #[error("`{path}` is in the tree twice")]
    Twice {
        /// The path.
        path: RelPath,
    },
    /// Something lies below a file or a symlink.
    #[error("`{path}` lies below `{above}`, which is no folder")]
    BelowFile {
        /// The lower path.
        path: RelPath,
        /// The file or symlink above it.
        above: RelPath,
    },
}

impl Tree {
    /// Sorts `entries` and checks that they can all exist at once.
    ///
    /// # Errors
    /// A path twice; a path below a file or a symlink (materialising it would write through a link).
    pub fn new(mut entries: Vec<(RelPath, Node)>) -> Result<Self, TreeError> {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let tree = Self { entries, digest: OnceLock::new() };
        tree.check()?;
        Ok(tree)
    }

    /// What [`Tree::new`] promises, for a tree that was read from somewhere.
    pub fn check(&self) -> Result<(), TreeError> {
        // In path order everything below a file follows it directly.
        let mut blocker: Option<&RelPath> = None;
        let mut last: Option<&RelPath> = None;
        for (path, node) in &self.entries {
            if last.is_some_and(|last| last >= path) {
                return Err(TreeError::Twice { path: path.clone() });
            }
            if let Some(above) = blocker.filter(|above| path.is_within(above)) {
                return Err(TreeError::BelowFile { path: path.clone(), above: above.clone() });
            }
            if !matches!(node, Node::Folder) {
                blocker = Some(path);
            }
            last = Some(path);
        }
        Ok(())
    }

    /// The entries in path order.
    pub fn entries(&self) -> &[(RelPath, Node)] {
        &self.entries
    }

    /// What stands at `path`, if it is listed.
    pub fn get(&self, path: &RelPath) -> Option<&Node> {
        let at = self.entries.binary_search_by(|(candidate, _)| candidate.cmp(path)).ok()?;
        Some(&self.entries[at].1)
    }

    /// The entries at or below `folder`.
    pub fn within<'a>(&'a self, folder: &'a RelPath) -> impl Iterator<Item = &'a (RelPath, Node)> + 'a {
        let from = self.entries.partition_point(|(path, _)| path < folder);
        self.entries[from..].iter().take_while(move |(path, _)| path.is_within(folder))
    }

    /// The bytes of all files together.
    pub fn size_bytes(&self) -> u64 {
        self.files().map(|(_, _, size)| size).sum()
    }

    /// Every file: path, digest, size in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&RelPath, Digest, u64)> {
        self.entries.iter().filter_map(|(path, node)| match node {
            Node::File { digest, size, .. } => Some((path, *digest, *size)),
            _ => None,
        })
    }

    /// BLAKE3 of the canonical encoding; computed once.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            let mut buffer = Vec::with_capacity(64 * 1024);
            buffer.extend_from_slice(b"spolia tree 1\n");
            for (path, node) in &self.entries {
                encode_entry(&mut buffer, path, node);
                if buffer.len() > 60 * 1024 {
                    hasher.update(&buffer);
                    buffer.clear();
                }
            }
            hasher.update(&buffer);
            Digest::new(DigestFunction::Blake3, *hasher.finalize().as_bytes())
        })
    }
}

fn encode_entry(buffer: &mut Vec<u8>, path: &RelPath, node: &Node) {
    let sized = |buffer: &mut Vec<u8>, bytes: &[u8]| {
        buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        buffer.extend_from_slice(bytes);
    };
    sized(buffer, path.as_bytes());
    match node {
        Node::File { digest, size, executable } => {
            buffer.push(if *executable { b'x' } else { b'f' });
            buffer.extend_from_slice(digest.as_bytes());
            buffer.extend_from_slice(&size.to_le_bytes());
        }
        Node::Symlink { target } => {
            buffer.push(b'l');
            sized(buffer, target);
        }
        Node::Folder => buffer.push(b'd'),
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Tree {}

/// Bytes that are mostly text: the same reversible escapes as a [`RelPath`], without its rules.
mod raw_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(raw: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        crate::codec::bytes_to_serde(raw, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            crate::codec::unescape(&text).ok_or_else(|| serde::de::Error::custom("a bad escape"))
        } else {
            <Vec<u8>>::deserialize(deserializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(raw: &str) -> RelPath {
        RelPath::new(raw).unwrap()
    }

    fn file(content: &str) -> Node {
        Node::File {
            digest: Digest::blake3(content.as_bytes()),
            size: content.len() as u64,
            executable: false,
        }
    }

    #[test]
    fn order_of_entries_does_not_matter_but_content_does() {
        let one = Tree::new(vec![(rel("b"), file("1")), (rel("a/x"), file("2"))]).unwrap();
        let two = Tree::new(vec![(rel("a/x"), file("2")), (rel("b"), file("1"))]).unwrap();
        let three = Tree::new(vec![(rel("a/x"), file("2")), (rel("b"), file("3"))]).unwrap();
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), three.digest());
    }

    #[test]
    fn what_would_write_through_a_link_is_no_tree() {
        let link = Node::Symlink { target: b"/etc".to_vec() };
        let found = Tree::new(vec![(rel("a"), link), (rel("a/passwd"), file("x"))]);
        assert_eq!(found.unwrap_err(), TreeError::BelowFile { path: rel("a/passwd"), above: rel("a") });
        let found = Tree::new(vec![(rel("a"), file("")), (rel("a"), file(""))]);
        assert_eq!(found.unwrap_err(), TreeError::Twice { path: rel("a") });
    }

    #[test]
    fn survives_json_with_odd_bytes() {
        let tree = Tree::new(vec![
            (RelPath::new(b"a\xff\n".as_slice()).unwrap(), file("x")),
            (rel("l"), Node::Symlink { target: b"..\\\xfe".to_vec() }),
            (rel("z"), Node::Folder),
        ])
        .unwrap();
        let back: Tree = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
        assert_eq!(back, tree);
        assert_eq!(back.digest(), tree.digest());
    }
}
