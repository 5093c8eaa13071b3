//! A [`Tree`] and its blobs → files on disk, seen whole or not at all. Follows no symlink.
//!
//! What is right already is left alone. The rest is put together in a stage beside the destination and
//! renamed into place once every blob has been read and checked, so a blob that is gone or damaged
//! leaves the destination as it was. Files that a step has just written can be moved instead of copied
//! ([`MaterialiseOptions::giver`]). Two ways:
//!
//! - **exact**: the folder holds the tree and nothing else. It changes as a whole: a second folder is
//!   made, with hard links to the files that are right, and the two are exchanged. One single wrong file
//!   is renamed into place alone.
//! - **among others**: the folder is shared with files from elsewhere. A folder that is missing appears
//!   whole; where it is there, each wrong entry is renamed into place.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;
use spolia_core::{Digest, Node, RelPath, Tree};

use super::folder::{self, Obstacle};
use super::right::{self, Place, Wrong};
use super::source::FolderSource;
use super::stage::Stage;
use super::{links, right::check};
use crate::digests::DigestCache;
use crate::store::{Store, StoreError};

/// How often it starts again when another process changes the destination under it.
const TRIES_MAX: u32 = 20;

/// The longest that it waits before it does: what empties the folder comes to an end meanwhile.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_millis(50);

/// How a tree is materialised.
#[derive(Clone, Copy, Default)]
pub struct MaterialiseOptions<'o> {
    /// The folder is the tree's alone: whatever else is in it is removed. Not for the root itself.
    pub exact: bool,
    /// Knows what is right without reading it.
    pub digests: Option<&'o DigestCache>,
    /// What was put there last time: what of that is no longer in the tree, and still as it was put, is
    /// removed. Not looked at for `exact`.
    pub previous: Option<&'o Tree>,
    /// The tree as a step has just written it: its files are moved, not copied, where nobody can see the
    /// difference.
    pub giver: Option<&'o FolderSource>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Materialised {
    /// Files written.
    pub files_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Entries that were right already.
    pub already_right: u64,
    /// What was wrong or missing in a folder that was there, in path order.
    pub healed: Vec<(RelPath, Wrong)>,
    /// What did not belong there and was removed.
    pub removed: Vec<RelPath>,
    /// Whether the giver's folder itself was moved there.
    pub took_folder: bool,
}

/// Why a tree could not be materialised.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// A blob is not in the store.
    #[error("the content of `{path}` ({digest:?}) is no longer in the store")]
    Gone {
        /// Which output.
        path: RelPath,
        /// Its blob.
        digest: Digest,
    },
    /// A blob is damaged, or not what the result says.
    #[error("the content of `{path}` ({digest:?}) is damaged in the store: {what}")]
    Damaged {
        /// Which output.
        path: RelPath,
        /// Its blob.
        digest: Digest,
        /// What was found.
        what: String,
    },
    /// The store failed.
    #[error("cannot read the content of `{path}` from the store")]
    Store {
        /// Which output.
        path: RelPath,
        /// What it said.
        source: StoreError,
    },
    /// The tree holds a symlink that leads out of it.
    #[error("`{path}` is a symlink to `{target}`, which leads out of the outputs")]
    LinksOut {
        /// Which.
        path: RelPath,
        /// Where it points, escaped.
        target: String,
    },
    /// The tree cannot stand on a disk.
    #[error("the result is not a tree of files: {what}")]
    NotATree {
        /// Why.
        what: String,
    },
    /// A symlink stands where a folder of the destination has to be.
    #[error("`{path}` is a symlink, which is not followed to write outputs")]
    LinkInTheWay {
        /// The symlink.
        path: PathBuf,
    },
    /// A folder that is not empty stands where a file has to go, and what is in it is not ours.
    #[error("`{path}` is a folder with files from elsewhere, and an output has to go there")]
    FolderInTheWay {
        /// The folder.
        path: PathBuf,
    },
    /// Another process keeps changing the destination.
    #[error("`{path}` keeps changing while outputs are written there")]
    Raced {
        /// The destination.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl MaterialiseError {
    pub(super) fn io(verb: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { verb, path: path.to_owned(), source: source.into() }
    }

    /// Whether the stored result is of no use, so that the action has to run: a miss, not a failure.
    pub fn is_miss(&self) -> bool {
        match self {
            Self::Gone { .. } | Self::Damaged { .. } | Self::Store { .. } => true,
            Self::LinksOut { .. } | Self::NotATree { .. } => true,
            Self::LinkInTheWay { .. } | Self::FolderInTheWay { .. } => false,
            Self::Raced { .. } | Self::Io { .. } => false,
        }
    }

    /// Whether another process may have changed the destination meanwhile: a folder that was opened is gone
    /// when something is made in it, or one that was emptied is not empty when it is removed.
    fn is_race(&self) -> bool {
        use std::io::ErrorKind;
        matches!(self, Self::Raced { .. })
            || matches!(self, Self::Io { source, .. }
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty))
    }

    /// Whether there was no room left at the destination.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }
}

/// Makes what stands at `place` be `tree`.
///
/// # Errors
/// See [`MaterialiseError`]. The destination is then as it was, but for entries that had been renamed
/// into place already where the last step failed.
pub fn materialise(
    tree: &Tree,
    store: &dyn Store,
    place: Place<'_>,
    options: MaterialiseOptions<'_>,
) -> Result<Materialised, MaterialiseError> {
    check_tree(tree)?;
    if options.exact && place.at.is_root() {
        // The stage needs a place beside it that is as trusted.
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is the root itself");
        return Err(MaterialiseError::io("replace", place.root, source));
    }
    let path = place.at.under(place.root);
    let root = open_root(place.root)?;
    let work = Work { tree, store, path, root, at: place.at, options };
    for tries in 1..=TRIES_MAX {
        let done = if options.exact { work.exact() } else { work.among_others() };
        match done {
            Err(error) if tries < TRIES_MAX && error.is_race() => std::thread::sleep(pause(tries)),
            done => return done,
        }
    }
    Err(MaterialiseError::Raced { path: work.path })
}

/// How long to wait after so many tries: nothing at first, then longer and longer, and not as long as another
/// process that waits for the same.
fn pause(tries: u32) -> std::time::Duration {
    let longest = WAIT_MAX.min(std::time::Duration::from_micros(50) * 2_u32.saturating_pow(tries));
    longest.mul_f64(f64::from(crate::local::random() as u32) / f64::from(u32::MAX))
}

/// The tree may come from a store that others write to.
fn check_tree(tree: &Tree) -> Result<(), MaterialiseError> {
    tree.check().map_err(|error| MaterialiseError::NotATree { what: error.to_string() })?;
    for (path, node) in tree.entries() {
        let unusable = match node {
            Node::Symlink { target } => target.is_empty() || target.contains(&0),
            Node::File { .. } | Node::Folder => false,
        };
        if unusable || path.is_root() {
            return Err(MaterialiseError::NotATree { what: format!("`{path}` cannot be made") });
        }
    }
    match links::first_out(tree) {
        None => Ok(()),
        Some((path, target)) => {
            Err(MaterialiseError::LinksOut { path: path.clone(), target: spolia_core::path::escape(target) })
        }
    }
}

fn open_root(path: &Path) -> Result<OwnedFd, MaterialiseError> {
    match folder::open_root(path) {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(path).map_err(|source| MaterialiseError::io("create", path, source))?;
            folder::open_root(path)
        }
        other => other,
    }
    .map_err(|errno| MaterialiseError::io("open", path, errno))
}

struct Work<'w> {
    tree: &'w Tree,
    store: &'w dyn Store,
    /// The destination, for messages.
    path: PathBuf,
    root: OwnedFd,
    at: &'w RelPath,
    options: MaterialiseOptions<'w>,
}

impl Work<'_> {
    fn raced(&self) -> MaterialiseError {
        MaterialiseError::Raced { path: self.path.clone() }
    }

    fn failed(&self, verb: &'static str, path: &RelPath, errno: Errno) -> MaterialiseError {
        MaterialiseError::io(verb, &path.under(&self.path), errno)
    }

    fn obstacle(&self, path: PathBuf, obstacle: Obstacle) -> MaterialiseError {
        match obstacle {
            Obstacle::Link => MaterialiseError::LinkInTheWay { path },
            Obstacle::Other => MaterialiseError::io("create", &path, Errno::NOTDIR),
            Obstacle::Absent => self.raced(),
            Obstacle::Failed(errno) => MaterialiseError::io("create", &path, errno),
        }
    }

    /// The folder that the destination lies in, made where it is missing, and the destination's name.
    fn above(&self) -> Result<(OwnedFd, CString), MaterialiseError> {
        let (above, name) = folder::split(self.at.as_bytes());
        let fd = folder::make_below(self.root.as_fd(), above).map_err(|(obstacle, _)| {
            self.obstacle(self.path.parent().unwrap_or(&self.path).to_owned(), obstacle)
        })?;
        let name =
            CString::new(name).map_err(|_| MaterialiseError::io("create", &self.path, Errno::INVAL))?;
        Ok((fd, name))
    }

    fn stage<'s>(&'s self, above: BorrowedFd<'s>, path: &Path) -> Stage<'s> {
        Stage::new(above, path, self.store, self.options.giver, self.options.digests)
    }

    // Exact.

    fn exact(&self) -> Result<Materialised, MaterialiseError> {
        let (above, name) = self.above()?;
        match folder::open_child(above.as_fd(), name.to_bytes()) {
            Ok(dest) => self.exact_again(above.as_fd(), &name, dest.as_fd()),
            Err(Obstacle::Failed(errno)) if errno != Errno::ACCESS => {
                Err(MaterialiseError::io("open", &self.path, errno))
            }
            Err(_) => self.exact_anew(above.as_fd(), &name),
        }
    }

    /// Nothing of use is there.
    fn exact_anew(&self, above: BorrowedFd<'_>, name: &CString) -> Result<Materialised, MaterialiseError> {
        if let Some(done) = self.give_all(above, name.to_bytes()) {
            return Ok(done);
        }
        let mut stage = self.stage(above, self.path.parent().unwrap_or(&self.path));
        let top = stage.begin_folder()?;
        for (path, node) in self.tree.entries() {
            stage.add(top, path.as_bytes(), path, node)?;
        }
        self.swap(&mut stage, top, name)?;
        Ok(Materialised { files_written: stage.files, bytes_written: stage.bytes, ..Materialised::default() })
    }

    /// Moves the whole folder in which the tree was written to a destination that is missing.
    fn give_all(&self, above: BorrowedFd<'_>, name: &[u8]) -> Option<Materialised> {
        self.options.giver?.give_all(self.tree, above, name, self.options.digests)?;
        let (files_written, bytes_written) = (self.tree.files().count() as u64, self.tree.size_bytes());
        Some(Materialised { files_written, bytes_written, took_folder: true, ..Materialised::default() })
    }

    /// Gives what is staged the destination's name; what stood there is then in its place.
    fn swap(&self, stage: &mut Stage<'_>, top: usize, name: &CString) -> Result<(), MaterialiseError> {
        let above = stage.above();
        let staged = stage.name(top).as_c_str();
        let name = name.as_c_str();
        let failed = |errno| MaterialiseError::io("rename to", &self.path, errno);
        match rustix::fs::renameat(above, staged, above, name) {
            Ok(()) => {
                stage.has_gone(top);
                return Ok(());
            }
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match rustix::fs::renameat_with(above, staged, above, name, RenameFlags::EXCHANGE) {
            Ok(()) => {
                stage.was_exchanged(top);
                return Ok(());
            }
            Err(Errno::NOENT) => return Err(self.raced()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(failed(errno)),
        }
        // A file system that cannot exchange: for a moment nothing is there.
        folder::remove_all(above, name).map_err(failed)?;
        match rustix::fs::renameat(above, staged, above, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => return Err(self.raced()),
            done => done.map_err(failed)?,
        }
        stage.has_gone(top);
        Ok(())
    }

    fn exact_again(
        &self,
        above: BorrowedFd<'_>,
        name: &CString,
        dest: BorrowedFd<'_>,
    ) -> Result<Materialised, MaterialiseError> {
        let healed = right::wrong_below(self.tree, dest, self.options.digests);
        let removed = match right::extras(self.tree, dest) {
            Ok(extra) => extra,
            // A folder that cannot be listed is replaced.
            Err(Errno::ACCESS) => return self.exact_anew(above, name),
            Err(errno) => return Err(MaterialiseError::io("list", &self.path, errno)),
        };
        let already_right = (self.tree.entries().len() - healed.len()) as u64;
        let mut done = Materialised { already_right, ..Materialised::default() };
        match healed.as_slice() {
            [] => self.remove_extras(dest, &removed)?,
            [(path, Wrong::Missing | Wrong::Content | Wrong::Mode)]
                if removed.is_empty() && self.has_parent(dest, path) =>
            {
                let (files, bytes) = self.replace_one(above, dest, path)?;
                (done.files_written, done.bytes_written) = (files, bytes);
            }
            wrong => {
                let (files, bytes) = self.rebuild(above, name, dest, wrong, &removed)?;
                (done.files_written, done.bytes_written) = (files, bytes);
            }
        }
        Ok(Materialised { healed, removed, ..done })
    }

    fn remove_extras(&self, dest: BorrowedFd<'_>, extra: &[RelPath]) -> Result<(), MaterialiseError> {
        for path in extra {
            let name =
                CString::new(path.as_bytes()).map_err(|_| self.failed("remove", path, Errno::INVAL))?;
            folder::remove_all(dest, &name).map_err(|errno| self.failed("remove", path, errno))?;
        }
        Ok(())
    }

    fn has_parent(&self, dest: BorrowedFd<'_>, path: &RelPath) -> bool {
        folder::open_below(dest, folder::split(path.as_bytes()).0).is_ok()
    }

    fn node(&self, path: &RelPath) -> Result<&Node, MaterialiseError> {
        self.tree.get(path).ok_or_else(|| self.raced())
    }

    fn replace_one(
        &self,
        above: BorrowedFd<'_>,
        dest: BorrowedFd<'_>,
        path: &RelPath,
    ) -> Result<(u64, u64), MaterialiseError> {
        if let Some(bytes) = self.give_one(dest, path) {
            return Ok((1, bytes));
        }
        let mut stage = self.stage(above, self.path.parent().unwrap_or(&self.path));
        let top = stage.begin();
        stage.add(top, b"", path, self.node(path)?)?;
        self.rename_in(&mut stage, top, dest, path, false)?;
        Ok((stage.files, stage.bytes))
    }

    /// Moves the one file that is missing from where it was written straight into place; its bytes.
    fn give_one(&self, dest: BorrowedFd<'_>, path: &RelPath) -> Option<u64> {
        let giver = self.options.giver?;
        let node @ Node::File { size, .. } = self.tree.get(path)? else { return None };
        let (above, name) = folder::split(path.as_bytes());
        let parent = folder::open_above(dest, above).ok()?;
        let parent = folder::or_root(&parent, dest);
        giver.give(path, node, parent, name, self.options.digests).map(|()| *size)
    }

    /// Makes the whole folder again out of what is right and what is fetched, and exchanges the two.
    fn rebuild(
        &self,
        above: BorrowedFd<'_>,
        name: &CString,
        dest: BorrowedFd<'_>,
        wrong: &[(RelPath, Wrong)],
        extra: &[RelPath],
    ) -> Result<(u64, u64), MaterialiseError> {
        let mut stage = self.stage(above, self.path.parent().unwrap_or(&self.path));
        let top = stage.begin_folder()?;
        let mut wrong = wrong.iter().map(|(path, _)| path).peekable();
        for (path, node) in self.tree.entries() {
            let is_wrong = wrong.next_if(|next| *next == path).is_some();
            // Below an extra nothing is taken over: it may be a link to elsewhere.
            let usable = !is_wrong && !extra.iter().any(|extra| path.is_within(extra));
            let adopted =
                usable && matches!(node, Node::File { .. }) && stage.adopt(top, path.as_bytes(), dest, path);
            if !adopted {
                stage.add(top, path.as_bytes(), path, node)?;
            }
        }
        self.swap(&mut stage, top, name)?;
        Ok((stage.files, stage.bytes))
    }

    // Among others.

    fn among_others(&self) -> Result<Materialised, MaterialiseError> {
        let (above, name) = folder::split(self.at.as_bytes());
        if self.options.giver.is_some()
            && !name.is_empty()
            && let Ok(above) = folder::make_below(self.root.as_fd(), above)
            && folder::kind(above.as_fd(), name).is_none()
            && let Some(done) = self.give_all(above.as_fd(), name)
        {
            let healed = self.tree.entries().iter().map(|(path, _)| (path.clone(), Wrong::Missing)).collect();
            return Ok(Materialised { healed, ..done });
        }
        let dest = folder::make_below(self.root.as_fd(), self.at.as_bytes()).map_err(|(obstacle, end)| {
            let met = RelPath::new(&self.at.as_bytes()[..end]).unwrap_or_else(|_| self.at.clone());
            let root_bytes = self.at.as_path().components().count();
            let root: PathBuf = self.path.ancestors().nth(root_bytes).unwrap_or(&self.path).to_owned();
            self.obstacle(met.under(&root), obstacle)
        })?;
        let dest = dest.as_fd();
        let mut done = Materialised { removed: self.remove_stale(dest), ..Materialised::default() };
        let wrong = right::wrong_below(self.tree, dest, self.options.digests);
        done.already_right = (self.tree.entries().len() - wrong.len()) as u64;
        if wrong.is_empty() {
            return Ok(done);
        }
        let groups = self.groups(dest, &wrong)?;
        if let [Group { top, paths, .. }] = groups.as_slice()
            && *paths == [top.clone()]
            && let Some(bytes) = self.give_one(dest, top)
        {
            return Ok(Materialised { files_written: 1, bytes_written: bytes, healed: wrong, ..done });
        }
        let mut stage = self.stage(dest, &self.path);
        for group in &groups {
            let top = stage.begin();
            for path in &group.paths {
                let below = path.strip_prefix(&group.top).unwrap_or_else(RelPath::root);
                stage.add(top, below.as_bytes(), path, self.node(path)?)?;
            }
        }
        for (top, group) in groups.iter().enumerate() {
            self.rename_in(&mut stage, top, dest, &group.top, group.clears)?;
        }
        (done.files_written, done.bytes_written) = (stage.files, stage.bytes);
        done.healed = wrong;
        Ok(done)
    }

    /// Removes what the previous tree put there, if it is still that, and its folders, if they are empty.
    fn remove_stale(&self, dest: BorrowedFd<'_>) -> Vec<RelPath> {
        let Some(previous) = self.options.previous else { return Vec::new() };
        let mut removed = Vec::new();
        for (path, node) in previous.entries().iter().rev() {
            if self.tree.get(path).is_some() {
                continue;
            }
            match check(dest, path.as_bytes(), node, self.options.digests) {
                None => {
                    let (above, name) = folder::split(path.as_bytes());
                    let Ok(parent) = folder::open_below(dest, above) else { continue };
                    let is_folder = matches!(node, Node::Folder);
                    let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                    if rustix::fs::unlinkat(&parent, name, flags).is_ok() {
                        removed.push(path.clone());
                        self.remove_empty_above(dest, path);
                    }
                }
                // By a build that was killed before it had removed the folders, too.
                Some(Wrong::Missing) => self.remove_empty_above(dest, path),
                Some(_) => {}
            }
        }
        removed.reverse();
        removed
    }

    fn remove_empty_above(&self, dest: BorrowedFd<'_>, path: &RelPath) {
        let mut next = path.parent();
        while let Some(here) = next.filter(|here| !here.is_root()) {
            let (above, name) = folder::split(here.as_bytes());
            if self.tree.within(&here).next().is_some() {
                return;
            }
            match folder::open_below(dest, above) {
                Ok(parent) => match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(_) => return,
                },
                Err((Obstacle::Absent, _)) => {}
                Err(_) => return,
            }
            next = here.parent();
        }
    }

    /// What can be renamed at once: a folder that is missing with all that belongs in it, or one entry.
    fn groups(
        &self,
        dest: BorrowedFd<'_>,
        wrong: &[(RelPath, Wrong)],
    ) -> Result<Vec<Group>, MaterialiseError> {
        let mut groups: Vec<Group> = Vec::new();
        for (path, _) in wrong {
            if let Some(group) = groups.last_mut()
                && path.is_within(&group.top)
            {
                group.paths.push(path.clone());
                continue;
            }
            let (top, clears) = self.topmost_missing(dest, path)?;
            groups.push(Group { top, clears, paths: vec![path.clone()] });
        }
        Ok(groups)
    }

    /// The first segment of `path` that is no folder yet, and whether something stands there that has to
    /// go. A symlink is followed for nobody: a folder behind one is not ours.
    fn topmost_missing(
        &self,
        dest: BorrowedFd<'_>,
        path: &RelPath,
    ) -> Result<(RelPath, bool), MaterialiseError> {
        let above = folder::split(path.as_bytes()).0;
        match folder::open_below(dest, above) {
            Ok(_) => Ok((path.clone(), folder::kind(dest, path.as_bytes()).is_some())),
            Err((obstacle, end)) => {
                let met = RelPath::new(&above[..end]).unwrap_or_else(|_| path.clone());
                match obstacle {
                    Obstacle::Absent => Ok((met, false)),
                    Obstacle::Other => Ok((met, true)),
                    obstacle => Err(self.obstacle(met.under(&self.path), obstacle)),
                }
            }
        }
    }

    /// Renames entry number `top` of the stage to its place; `clears` says that something may stand there.
    fn rename_in(
        &self,
        stage: &mut Stage<'_>,
        top: usize,
        dest: BorrowedFd<'_>,
        target: &RelPath,
        clears: bool,
    ) -> Result<(), MaterialiseError> {
        let (above, name) = folder::split(target.as_bytes());
        let parent = folder::open_below(dest, above).map_err(|(obstacle, _)| match obstacle {
            Obstacle::Failed(errno) => self.failed("open", target, errno),
            _ => self.raced(),
        })?;
        let (from, staged) = (stage.above(), stage.name(top).clone());
        let rename = || rustix::fs::renameat(from, staged.as_c_str(), parent.as_fd(), name);
        let met = match rename() {
            Ok(()) => {
                stage.has_gone(top);
                return Ok(());
            }
            Err(errno) => errno,
        };
        let there = folder::kind(parent.as_fd(), name);
        match (met, there) {
            (Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY, Some(FileType::Directory)) => {
                // A folder stands where a file or link goes: gone only if it is empty.
                let staged_is_folder = folder::kind(from, staged.to_bytes()) == Some(FileType::Directory);
                if staged_is_folder {
                    return Err(self.raced());
                }
                match rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR) {
                    Ok(()) => {}
                    Err(Errno::NOTEMPTY | Errno::EXIST) => {
                        return Err(MaterialiseError::FolderInTheWay { path: target.under(&self.path) });
                    }
                    Err(errno) => return Err(self.failed("remove", target, errno)),
                }
            }
            (Errno::NOTDIR, Some(FileType::Symlink)) if clears => {
                return Err(MaterialiseError::LinkInTheWay { path: target.under(&self.path) });
            }
            (Errno::NOTDIR, Some(_)) if clears => {
                // A file stands where a folder goes.
                rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty())
                    .map_err(|errno| self.failed("remove", target, errno))?;
            }
            (Errno::NOTDIR | Errno::NOENT, _) => return Err(self.raced()),
            (errno, _) => return Err(self.failed("write", target, errno)),
        }
        rename().map_err(|errno| match errno {
            Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::NOENT => self.raced(),
            errno => self.failed("write", target, errno),
        })?;
        stage.has_gone(top);
        Ok(())
    }
}

/// Entries that are renamed into place at once.
struct Group {
    /// What is renamed: a missing folder, or the one entry itself.
    top: RelPath,
    /// Whether something stands there.
    clears: bool,
    /// The entries, in path order.
    paths: Vec<RelPath>,
}
