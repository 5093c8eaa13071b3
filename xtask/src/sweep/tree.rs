//! What lies in a target directory, by what Cargo removes or keeps as one: `folder → Tree`. Knows no sweeping.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::run::{self, Done};

/// Units' folders and single files, each with its inodes and their bytes on disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    things: BTreeMap<PathBuf, Vec<(u64, u64)>>,
}

impl Tree {
    /// Looks at `target`; what was put aside in it is left out.
    pub(super) fn of(target: &Path) -> Done<Self> {
        let mut tree = Self::default();
        let mut open = vec![target.to_owned()];
        while let Some(folder) = open.pop() {
            let listed = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            for entry in listed {
                let entry = entry.map_err(|error| error.to_string())?;
                let found = entry.metadata().map_err(|error| error.to_string())?;
                let path = entry.path();
                if entry.file_name() == ".spolia-quarantine" || entry.file_name() == ".spolia-stamp" {
                    continue;
                }
                if found.is_dir() {
                    open.push(path);
                } else {
                    let below = path.strip_prefix(target).map_err(|error| error.to_string())?;
                    let thing = tree.things.entry(whole(below)).or_default();
                    thing.push((found.ino(), found.blocks() * 512));
                }
            }
        }
        tree.things.values_mut().for_each(|inodes| inodes.sort_unstable());
        Ok(tree)
    }

    /// What of it `other` has as well.
    pub(super) fn within(&self, other: &Self) -> BTreeSet<&Path> {
        self.names().filter(|name| other.things.contains_key(*name)).collect()
    }

    /// What of it `other` has not.
    pub(super) fn without(&self, other: &Self) -> BTreeSet<&Path> {
        self.names().filter(|name| !other.things.contains_key(*name)).collect()
    }

    pub(super) fn has(&self, name: &Path) -> bool {
        self.things.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Path> {
        self.things.keys().map(PathBuf::as_path)
    }

    /// Takes in the names of another.
    pub(super) fn join(&mut self, other: Self) {
        self.things.extend(other.things);
    }

    /// Bytes of some of it, a file with several names once.
    pub(super) fn bytes<'n>(&self, names: impl IntoIterator<Item = &'n Path>) -> u64 {
        let mut seen = HashSet::new();
        let all = names.into_iter().filter_map(|name| self.things.get(name)).flatten();
        all.filter(|(inode, _)| seen.insert(*inode)).map(|(_, bytes)| bytes).sum()
    }
}

/// `debug/.fingerprint/serde-89…/invoked.timestamp` → `debug/.fingerprint/serde-89…`.
fn whole(path: &Path) -> PathBuf {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let at = parts.iter().position(|part| matches!(*part, ".fingerprint" | "incremental" | "build"));
    let Some(at) = at.filter(|at| (1..=2).contains(at) && parts.len() > at + 2) else {
        return path.to_owned();
    };
    let has_hash = parts[at + 1].rsplit_once('-').is_some_and(|(_, hash)| hash.len() == 16);
    let more = if parts[at] == "build" && !has_hash { 3 } else { 2 };
    parts.iter().take(at + more).collect()
}

/// Copies a tree with its times.
pub(super) fn copy(from: &Path, to: &Path) -> Done {
    run::quietly(Command::new("cp").arg("-a").arg(from).arg(to))
}

/// Makes everything in a tree so much older.
pub(super) fn age(folder: &Path, by: Duration) -> Done {
    let mut open = vec![folder.to_owned()];
    // A file with several names only once.
    let mut seen = HashSet::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file()
                && seen.insert(entry.metadata().map_err(|error| error.to_string())?.ino())
            {
                older(&entry.path(), by).map_err(|e| format!("{}: {e}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}

fn older(path: &Path, by: Duration) -> std::io::Result<()> {
    let file = std::fs::File::open(path)?;
    let then = file.metadata()?.modified()? - by;
    file.set_times(std::fs::FileTimes::new().set_accessed(then).set_modified(then))
}
