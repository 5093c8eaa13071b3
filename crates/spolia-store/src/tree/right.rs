//! Whether what stands on disk is what a tree says. Reads only what has changed since it was last hashed.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use spolia_core::{Node, RelPath, Tree};

use super::{folder, stage};
use crate::digests::{DigestCache, StatKey};

/// Up to so many entries are looked at by their whole path: that is cheaper than opening the folder.
const FEW: usize = 3;

/// Where a tree belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// A folder that the caller trusts; links on the way to it are followed.
    pub root: &'p Path,
    /// The tree's own folder below that; no link on the way is followed. May be the root itself.
    pub at: &'p RelPath,
}

/// How an entry differs from what the tree says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing is there.
    Missing,
    /// Something of another kind is there.
    Kind,
    /// The file's bytes differ, or the link's target.
    Content,
    /// The file's mode differs: executable or not, or its owner cannot read it.
    Mode,
    /// It cannot be looked at.
    Unreadable,
}

impl Wrong {
    /// For a person, after the path.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missing => "was gone",
            Self::Kind => "was something else",
            Self::Content => "had other content",
            Self::Mode => "had another mode",
            Self::Unreadable => "could not be read",
        }
    }
}

/// Whether every entry of `tree` stands at `place`: one `lstat` each, and no reading where the digest
/// cache knows the file. With `nothing_else` the folder must hold no other entries, which lists it.
pub fn is_right(tree: &Tree, place: Place<'_>, digests: &DigestCache, nothing_else: bool) -> bool {
    let path = place.at.under(place.root);
    if tree.entries().len() <= FEW && !nothing_else {
        return tree.entries().iter().all(|(below, node)| {
            check(CWD, below.under(&path).as_os_str().as_bytes(), node, Some(digests)).is_none()
        });
    }
    let Ok(dest) = folder::open_root(&path) else { return tree.entries().is_empty() && !nothing_else };
    let dest = dest.as_fd();
    let all =
        tree.entries().iter().all(|(path, node)| check(dest, path.as_bytes(), node, Some(digests)).is_none());
    all && (!nothing_else || extras(tree, dest).is_ok_and(|extra| extra.is_empty()))
}

/// Every entry that is not right, in path order.
pub fn wrong_entries(tree: &Tree, place: Place<'_>, digests: Option<&DigestCache>) -> Vec<(RelPath, Wrong)> {
    let all_missing = || tree.entries().iter().map(|(path, _)| (path.clone(), Wrong::Missing)).collect();
    let Ok(dest) = folder::open_root(&place.at.under(place.root)) else { return all_missing() };
    wrong_below(tree, dest.as_fd(), digests)
}

pub(super) fn wrong_below(
    tree: &Tree,
    dest: BorrowedFd<'_>,
    digests: Option<&DigestCache>,
) -> Vec<(RelPath, Wrong)> {
    let wrong =
        |(path, node): &(RelPath, Node)| Some((path.clone(), check(dest, path.as_bytes(), node, digests)?));
    tree.entries().iter().filter_map(wrong).collect()
}

/// How the entry at `path` below `dest` differs, if it does.
pub(super) fn check(
    dest: BorrowedFd<'_>,
    path: &[u8],
    node: &Node,
    digests: Option<&DigestCache>,
) -> Option<Wrong> {
    let stat = match folder::look(dest, path) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Some(Wrong::Missing),
        Err(_) => return Some(Wrong::Unreadable),
    };
    let found = FileType::from_raw_mode(stat.st_mode);
    match node {
        Node::File { digest, size, executable } => {
            if found != FileType::RegularFile {
                return Some(Wrong::Kind);
            }
            let key = StatKey::of(&stat);
            if key.size != *size {
                return Some(Wrong::Content);
            }
            if (stat.st_mode & 0o100 != 0) != *executable || stat.st_mode & 0o400 == 0 {
                return Some(Wrong::Mode);
            }
            let there = match digests {
                Some(digests) => digests.digest_at(dest, path, &key),
                None => hash_below(dest, path),
            };
            match there {
                Ok(there) if there == *digest => None,
                Ok(_) => Some(Wrong::Content),
                Err(_) => Some(Wrong::Unreadable),
            }
        }
        Node::Symlink { target } => {
            if found != FileType::Symlink {
                return Some(Wrong::Kind);
            }
            let there = rustix::fs::readlinkat(dest, path, Vec::new());
            (!there.is_ok_and(|there| there.as_bytes() == target)).then_some(Wrong::Content)
        }
        Node::Folder => (found != FileType::Directory).then_some(Wrong::Kind),
    }
}

fn hash_below(dest: BorrowedFd<'_>, path: &[u8]) -> std::io::Result<spolia_core::Digest> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::openat(dest, path, flags, Mode::empty())?;
    Ok(crate::hash::file(&file.into())?.0)
}

/// What stands below `dest` that the tree does not name: the topmost path of each. What another build is
/// putting together there does not count: it goes by itself.
pub(super) fn extras(tree: &Tree, dest: BorrowedFd<'_>) -> Result<Vec<RelPath>, Errno> {
    let mut extra = Vec::new();
    let mut folders = vec![RelPath::root()];
    while let Some(here) = folders.pop() {
        let name: &[u8] = if here.is_root() { b"." } else { here.as_bytes() };
        for (name, file_type) in folder::list(dest, name)? {
            let Ok(path) = here.child(name.to_bytes()) else { continue };
            // `None`: not the tree's. Otherwise whether the tree has a folder there.
            let first = tree.within(&path).next();
            let is_folder = first.map(|(first, node)| *first != path || matches!(node, Node::Folder));
            match (is_folder, file_type) {
                (Some(true), FileType::Directory) => folders.push(path),
                (None, _) if here.is_root() && stage::is_in_use(dest, path.as_bytes()) => {}
                // A link or file where the tree has a folder, or nothing.
                (Some(true) | None, _) => extra.push(path),
                // What a file or link should be was looked at by itself.
                (Some(false), _) => {}
            }
        }
    }
    extra.sort();
    Ok(extra)
}
