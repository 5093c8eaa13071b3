//! The project's files as far as any step may see them: one walk, then only look-ups.
//!
//! Left out, unless a pattern names them literally: `.git`, `.spolia`, what git ignores (`.gitignore` in
//! each folder and above the project up to the repository's root, `.git/info/exclude`; not the user's own
//! global list, which would make keys differ between people), and what steps publish.

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use spolia_core::glob::PatternList;
use spolia_core::{Node, RelPath, Tree};
use spolia_engine::perform::Presence;
use spolia_store::{DigestCache, StatKey};

/// How deep folders may lie in each other.
const DEPTH_MAX: usize = 256;
/// How much of a folder's list is read at a time, bytes. Most are shorter.
const LISTED_BYTES: usize = 4096;
/// From how many files on a wholly declared folder is shown as a whole.
const WHOLE_MIN: usize = 16;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the project's files could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`")]
pub struct IndexError {
    /// Which file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

struct Entry {
    path: RelPath,
    kind: Kind,
    /// Found only because someone named it literally.
    hidden: bool,
    node: OnceLock<Node>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File { executable: bool, key: StatKey },
    Symlink,
}

/// The files, sorted by path.
pub struct Index<'i> {
    root: PathBuf,
    digests: &'i DigestCache,
    entries: Vec<Entry>,
    /// Sockets, pipes and devices, and whether they were found only because someone named them literally.
    specials: Vec<(RelPath, bool)>,
    /// Folders below which something is left out or empty: they cannot be shown as a whole.
    partial: BTreeSet<RelPath>,
    /// Folders that were listed, and those above what was searched.
    folders: BTreeSet<RelPath>,
    ignores: Mutex<Ignores>,
    published: BTreeSet<RelPath>,
    trees: Mutex<HashMap<String, Selected>>,
    presences: Mutex<HashMap<RelPath, Presence>>,
}

/// The files one step sees.
#[derive(Clone)]
pub struct Selected {
    /// All of them.
    pub tree: Arc<Tree>,
    /// Folders of which every file is among them.
    pub whole_folders: Arc<Vec<RelPath>>,
}

impl<'i> Index<'i> {
    /// Walks everything that `lists` can select below `root`. `published` are the outputs of steps.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn new(
        root: &Path,
        lists: &[&PatternList],
        published: BTreeSet<RelPath>,
        digests: &'i DigestCache,
    ) -> Result<Self, IndexError> {
        let mut index = Self {
            root: root.to_owned(),
            digests,
            entries: Vec::new(),
            specials: Vec::new(),
            partial: BTreeSet::new(),
            folders: BTreeSet::new(),
            ignores: Mutex::new(Ignores::new(root)),
            published,
            trees: Mutex::new(HashMap::new()),
            presences: Mutex::new(HashMap::new()),
        };
        let mut roots: Vec<RelPath> = lists.iter().flat_map(|list| list.search_roots()).collect();
        roots.sort();
        roots.dedup_by(|later, earlier| later.is_within(earlier));
        let mut literals: Vec<RelPath> = lists
            .iter()
            .flat_map(|list| list.patterns().iter().filter(|p| !p.is_negated()).filter_map(|p| p.literal()))
            .filter(|path| !path.is_root())
            .cloned()
            .collect();
        literals.sort();
        literals.dedup();
        for path in &roots {
            index.search(path, literals.binary_search(path).is_ok())?;
        }
        // What is left out of a walk is looked for again where it is named.
        let by_path = |a: &Entry, b: &Entry| a.path.cmp(&b.path);
        index.entries.sort_by(by_path);
        let unseen: Vec<&RelPath> = literals.iter().filter(|path| index.range(path).is_empty()).collect();
        for path in unseen {
            index.search(path, true)?;
        }
        index.entries.sort_by(by_path);
        index.entries.dedup_by(|later, earlier| {
            let same = later.path == earlier.path;
            earlier.hidden &= !same || later.hidden;
            same
        });
        Ok(index)
    }

    fn is_left_out(&self, path: &RelPath, is_folder: bool) -> bool {
        self.is_special(path) || lock(&self.ignores).ignores(path, is_folder)
    }

    /// `.git`, `.spolia` and published outputs.
    fn is_special(&self, path: &RelPath) -> bool {
        let mut segments = path.as_bytes().split(|byte| *byte == b'/');
        segments.any(|name| name == b".git" || name == b".spolia") || self.is_published(path)
    }

    fn is_published(&self, path: &RelPath) -> bool {
        if self.published.is_empty() {
            return false;
        }
        let mut at = Some(path.clone());
        while let Some(current) = at {
            if self.published.contains(&current) {
                return true;
            }
            at = current.parent();
        }
        false
    }

    fn search(&mut self, path: &RelPath, literal: bool) -> Result<(), IndexError> {
        let error = |source: Errno| IndexError { path: path.under(&self.root), source: source.into() };
        let full = path.under(&self.root);
        let stat = match rustix::fs::statat(CWD, &full, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(error(errno)),
        };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let hidden = !path.is_root() && self.is_left_out(path, is_folder);
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| !self.folders.contains(folder)) {
            above = folder.parent();
            self.folders.insert(folder);
        }
        if hidden && !literal {
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let folder = open_folder(CWD, &full).map_err(error)?;
                self.walk(&folder, path, hidden, 0).map(|_| ())
            }
            kind => {
                self.add(path.clone(), kind, &stat, hidden);
                Ok(())
            }
        }
    }

    fn add(&mut self, path: RelPath, kind: FileType, stat: &rustix::fs::Stat, hidden: bool) -> bool {
        let kind = match kind {
            FileType::RegularFile => {
                Kind::File { executable: stat.st_mode & 0o100 != 0, key: StatKey::of(stat) }
            }
            FileType::Symlink => Kind::Symlink,
            // Sockets, pipes and devices are nobody's input.
            _ => {
                self.specials.push((path, hidden));
                return false;
            }
        };
        self.entries.push(Entry { path, kind, hidden, node: OnceLock::new() });
        true
    }

    /// Whether everything in the folder was taken. `hidden` folders are taken whole, but for `.git`.
    fn walk(
        &mut self,
        folder: &rustix::fd::OwnedFd,
        at: &RelPath,
        hidden: bool,
        depth: usize,
    ) -> Result<bool, IndexError> {
        let root = self.root.clone();
        let error =
            |path: &RelPath, source: Errno| IndexError { path: path.under(&root), source: source.into() };
        if depth > DEPTH_MAX {
            return Err(error(at, Errno::NAMETOOLONG));
        }
        let names = list(folder).map_err(|errno| error(at, errno))?;
        self.folders.insert(at.clone());
        let mut whole = !names.is_empty();
        let rules = names.iter().any(|(name, _)| name == b".gitignore");
        lock(&self.ignores).enter(at, rules);
        for (name, kind) in names {
            let Ok(path) = at.child(&name) else { continue };
            let stat = match kind {
                FileType::Directory => None,
                _ => match rustix::fs::statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => Some(stat),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(error(&path, errno)),
                },
            };
            let kind = stat.as_ref().map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode));
            let is_folder = kind == FileType::Directory;
            let special = name == b".git" || name == b".spolia" || self.published.contains(&path);
            let ignored = special || (!hidden && lock(&self.ignores).ignores_entry(&path, is_folder));
            if ignored {
                whole = false;
                continue;
            }
            if is_folder {
                let below = match open_folder(folder, name.as_slice()) {
                    Ok(below) => below,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    Err(errno) => return Err(error(&path, errno)),
                };
                whole &= self.walk(&below, &path, hidden, depth + 1)?;
            } else if let Some(stat) = stat {
                whole &= self.add(path, kind, &stat, hidden);
            }
        }
        if !whole {
            self.partial.insert(at.clone());
        }
        Ok(whole)
    }

    fn range(&self, folder: &RelPath) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.path < *folder);
        let to = from + self.entries[from..].partition_point(|entry| entry.path.is_within(folder));
        &self.entries[from..to]
    }

    /// The files that `list`, written as `texts`, selects.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn select(&self, list: &PatternList, texts: &[String]) -> Result<Selected, IndexError> {
        let id = format!("{}\0{}", list.base(), texts.join("\0"));
        if let Some(known) = lock(&self.trees).get(&id) {
            return Ok(known.clone());
        }
        let mut entries = Vec::new();
        for root in list.search_roots() {
            for entry in self.range(&root) {
                let wanted = if entry.hidden {
                    list.selects_literally(&entry.path)
                } else {
                    list.selects(&entry.path)
                };
                if wanted {
                    entries.push((entry.path.clone(), self.node(entry)?));
                }
            }
        }
        let tree = Tree::new(entries).unwrap_or_default();
        let selected =
            Selected { whole_folders: Arc::new(self.whole_folders(list, &tree)), tree: Arc::new(tree) };
        lock(&self.trees).insert(id, selected.clone());
        Ok(selected)
    }

    /// The first socket, pipe or device that `list` would select if it were a file.
    pub fn special(&self, list: &PatternList) -> Option<&RelPath> {
        let selects = |(path, hidden): &&(RelPath, bool)| {
            if *hidden { list.selects_literally(path) } else { list.selects(path) }
        };
        self.specials.iter().filter(selects).map(|(path, _)| path).min()
    }

    /// Those of `texts`, of which `list` is made, that select nothing.
    pub fn unmatched(&self, list: &PatternList, texts: &[String]) -> Vec<String> {
        // A file that cannot be read has been told of by who wanted it.
        let Ok(selected) = self.select(list, texts) else { return Vec::new() };
        let entries = selected.tree.entries();
        let matched = |pattern: &spolia_core::glob::Pattern| {
            let base = pattern.search_root(list.base());
            let from = entries.partition_point(|(path, _)| *path < base);
            entries[from..]
                .iter()
                .take_while(|(path, _)| path.is_within(&base))
                .any(|(path, _)| pattern.matches(path, list.base()))
        };
        let all = list.patterns().iter().zip(texts);
        all.filter(|(pattern, _)| !pattern.is_negated() && !matched(pattern))
            .map(|(_, text)| text.clone())
            .collect()
    }

    fn node(&self, entry: &Entry) -> Result<Node, IndexError> {
        if let Some(node) = entry.node.get() {
            return Ok(node.clone());
        }
        let full = entry.path.under(&self.root);
        let error = |source| IndexError { path: full.clone(), source };
        let node = match &entry.kind {
            Kind::File { executable, key } => {
                let digest = self.digests.digest_at(CWD, full.as_path(), key).map_err(error)?;
                Node::File { digest, size: key.size, executable: *executable }
            }
            Kind::Symlink => {
                let target = std::fs::read_link(&full).map_err(error)?;
                Node::Symlink { target: target.as_os_str().as_bytes().to_vec() }
            }
        };
        Ok(entry.node.get_or_init(|| node).clone())
    }

    fn whole_folders(&self, list: &PatternList, tree: &Tree) -> Vec<RelPath> {
        let mut whole: Vec<RelPath> = Vec::new();
        let candidates = list
            .patterns()
            .iter()
            .filter(|p| !p.is_negated())
            .filter_map(|p| p.whole_folder().or_else(|| p.literal()));
        for folder in candidates.filter(|folder| !folder.is_root()) {
            let partial = self.partial.range(folder.clone()..).next().is_some_and(|p| p.is_within(folder));
            let all = self.range(folder);
            if !partial
                && all.len() >= WHOLE_MIN
                && all.len() == tree.within(folder).count()
                && !all.iter().any(|entry| entry.path == *folder)
            {
                whole.push(folder.clone());
            }
        }
        whole.sort();
        whole.dedup_by(|later, earlier| later.is_within(earlier));
        whole
    }

    /// Every file and symlink that was found, in path order.
    pub fn files(&self) -> impl Iterator<Item = &RelPath> {
        self.entries.iter().map(|entry| &entry.path)
    }

    /// Every path that what the index says depends on: files, folders, ignore files, relative or absolute.
    pub fn looked_at(&self) -> Vec<PathBuf> {
        let dot = |path: &RelPath| {
            if path.is_root() { PathBuf::from(".") } else { path.as_path().to_owned() }
        };
        let mut paths: Vec<PathBuf> = self.entries.iter().map(|entry| dot(&entry.path)).collect();
        paths.extend(self.folders.iter().map(dot));
        let ignores = lock(&self.ignores);
        paths.extend(ignores.folders.keys().map(|folder| dot(folder).join(".gitignore")));
        paths.extend(ignores.looked_above.iter().cloned());
        paths
    }

    /// What stands now at a path that is no input of the step that looked for it.
    pub fn presence(&self, path: &RelPath) -> Presence {
        if let Some(known) = lock(&self.presences).get(path) {
            return *known;
        }
        let found = match std::fs::symlink_metadata(path.under(&self.root)) {
            Ok(found) if !found.is_dir() => {
                let left_out = self.is_special(path) || lock(&self.ignores).ignores(path, false);
                if left_out { Presence::Absent } else { Presence::Undeclared }
            }
            // A folder has no content of its own; what is in it is looked for by name.
            _ => Presence::Absent,
        };
        lock(&self.presences).insert(path.clone(), found);
        found
    }
}

/// The entries of `tree` that are not any more what it says, below `root`.
pub fn changed_since(root: &Path, tree: &Tree, digests: &DigestCache) -> Vec<RelPath> {
    let place = spolia_store::Place { root, at: &RelPath::root() };
    spolia_store::tree::wrong_entries(tree, place, Some(digests)).into_iter().map(|(path, _)| path).collect()
}

/// The names in a folder that has just been opened, sorted, and what they are where that is known.
fn list(folder: &rustix::fd::OwnedFd) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); LISTED_BYTES];
    let mut listing = RawDir::new(folder, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn open_folder(
    at: impl rustix::fd::AsFd,
    path: impl rustix::path::Arg,
) -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// The ignore rules of every folder that was entered, and of those above the project.
struct Ignores {
    root: PathBuf,
    above: Vec<Gitignore>,
    /// What was looked for above the project.
    looked_above: Vec<PathBuf>,
    folders: HashMap<RelPath, Option<Arc<Gitignore>>>,
    /// Whether any rule is known: most folders of most projects have none.
    any: bool,
}

impl Ignores {
    fn new(root: &Path) -> Self {
        let mut above = Vec::new();
        let mut looked_above = Vec::new();
        for folder in root.ancestors() {
            looked_above.push(folder.join(".gitignore"));
            looked_above.push(folder.join(".git/info/exclude"));
            // The folder itself changes with every git command; that it is there is what counts.
            let git = folder.join(".git");
            looked_above.push(if git.is_dir() { git.join("HEAD") } else { git });
            if folder != root
                && let Some(rules) = read_rules(folder, &folder.join(".gitignore"))
            {
                above.push(rules);
            }
            if folder.join(".git").exists() {
                above.extend(read_rules(folder, &folder.join(".git/info/exclude")));
                break;
            }
        }
        // Outside a repository nothing above the project counts.
        if !root.ancestors().any(|folder| folder.join(".git").exists()) {
            above.clear();
        }
        let any = !above.is_empty();
        Self { root: root.to_owned(), above, looked_above, folders: HashMap::new(), any }
    }

    fn enter(&mut self, folder: &RelPath, has_rules: bool) {
        if self.folders.contains_key(folder) {
            return;
        }
        let path = folder.under(&self.root);
        let rules = if has_rules { read_rules(&path, &path.join(".gitignore")) } else { None };
        self.any |= rules.is_some();
        if rules.is_some() {
            self.folders.insert(folder.clone(), rules.map(Arc::new));
        }
    }

    fn rules_of(&mut self, folder: &RelPath) -> Option<Arc<Gitignore>> {
        if !self.folders.contains_key(folder) {
            let path = folder.under(&self.root);
            let rules = read_rules(&path, &path.join(".gitignore"));
            self.any |= rules.is_some();
            self.folders.insert(folder.clone(), rules.map(Arc::new));
        }
        self.folders.get(folder).cloned().flatten()
    }

    /// One entry of a folder that was entered, none of whose parents is ignored.
    fn ignores_entry(&self, path: &RelPath, is_folder: bool) -> bool {
        self.any && self.decide(path, is_folder, &|folder| self.folders.get(folder).cloned().flatten())
    }

    /// Any path, with its parents.
    fn ignores(&mut self, path: &RelPath, is_folder: bool) -> bool {
        let mut chain = Vec::new();
        let mut at = Some(path.clone());
        while let Some(current) = at.filter(|path| !path.is_root()) {
            at = current.parent();
            if let Some(folder) = &at {
                drop(self.rules_of(folder));
            }
            chain.push(current);
        }
        if !self.any {
            return false;
        }
        for (position, current) in chain.iter().rev().enumerate() {
            let last = position + 1 == chain.len();
            let mut parents = HashMap::new();
            let mut above = current.parent();
            while let Some(folder) = above {
                parents.insert(folder.clone(), self.rules_of(&folder));
                above = folder.parent();
            }
            if self.decide(current, !last || is_folder, &|folder| parents.get(folder).cloned().flatten()) {
                return true;
            }
        }
        false
    }

    /// The nearest folder's rules first, as git does.
    fn decide(
        &self,
        path: &RelPath,
        is_folder: bool,
        rules_of: &dyn Fn(&RelPath) -> Option<Arc<Gitignore>>,
    ) -> bool {
        let full = path.under(&self.root);
        let mut folder = path.parent();
        while let Some(current) = folder {
            if let Some(rules) = rules_of(&current) {
                let verdict = rules.matched(&full, is_folder);
                if !verdict.is_none() {
                    return verdict.is_ignore();
                }
            }
            folder = current.parent();
        }
        for rules in &self.above {
            let verdict = rules.matched(&full, is_folder);
            if !verdict.is_none() {
                return verdict.is_ignore();
            }
        }
        false
    }
}

fn read_rules(folder: &Path, file: &Path) -> Option<Gitignore> {
    let content = std::fs::read(file).ok()?;
    let mut builder = GitignoreBuilder::new(folder);
    for line in String::from_utf8_lossy(&content).lines() {
        // A line git would not understand is one it would pass over.
        let _unread = builder.add_line(Some(file.to_owned()), line);
    }
    let rules = builder.build().ok()?;
    (!rules.is_empty()).then_some(rules)
}
