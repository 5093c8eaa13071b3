//! Looks at one target directory: `folder × Live → Scan`. Decides by names alone what may go; removes nothing.
//!
//! | where | live if |
//! |---|---|
//! | `P/.fingerprint/NAME-HASH`, `P/build/NAME-HASH`, `P/build/NAME/HASH`, `P/deps/*-HASH.*` | the hash is |
//! | `P/deps/libutil.so`, `P/app`, `P/examples/ex` and what lies beside them | a skeleton has the name |
//! | `P/incremental/CRATE-ID` | a skeleton has the name; where no such name is in the tree: no live unit has another |
//! | `wasm-bindgen/P/NAME*`, `wasm-opt/P/NAME*` | a program `NAME.wasm` is, in a profile folder of that name |
//! | `doc/CRATE` | the crate is documented |
//!
//! What matches no form that Cargo writes is left alone. Nothing is opened but folders, and the fingerprints of
//! what is stale. Links are never followed, other file systems never entered.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::error::{SweepError, io};
use crate::live::{Fingerprint, Live, LiveProfile};
use crate::names::{self, UnitHash};

/// How deep folders are gone into.
const DEPTH_MAX: usize = 100;
/// Names handed to a thread at once.
const BATCH: usize = 512;
/// Folders with what tools made of finished programs, in one folder for each profile.
const TOOLS: &[&str] = &["wasm-bindgen", "wasm-opt"];
/// Bytes in one of the blocks that `stat` counts.
const BLOCK_BYTES: u64 = 512;

/// What part of a target directory something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// What Cargo remembers of a unit.
    Fingerprint,
    /// A unit's folder in the new layout.
    Unit,
    /// A build script, or what it made.
    Build,
    /// What a compiler made.
    Deps,
    /// A compiler's own memory.
    Incremental,
    /// An example.
    Example,
    /// What Cargo puts in place for people.
    Final,
    /// Documentation.
    Doc,
    /// Packed crates.
    Package,
    /// Scratch of tests and tools.
    Scratch,
    /// Reports of build times.
    Timings,
    /// What a tool made of a finished program: `wasm-bindgen`, `wasm-opt`.
    Tool,
    /// What other tools keep here, which stays.
    Other,
}

/// One file or folder that could be removed.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub place: Place,
    /// Its profile folder; empty beside them.
    pub profile: Arc<str>,
    /// Below the target directory.
    pub path: Arc<Path>,
    /// Of which unit.
    pub hash: Option<UnitHash>,
    /// Bytes on disk, of files with one name.
    pub bytes: u64,
    /// Files in it with more names than one.
    pub links: Box<[Link]>,
    /// The newest change of a file in it, µs since 1970.
    pub newest_us: u64,
    /// Device and number, so that another thing under its name is told apart.
    pub id: (u64, u64),
    /// Which configurations need it: empty where it is stale.
    pub needed_by: Box<[u32]>,
}

/// A file with several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Device and number.
    pub id: (u64, u64),
    /// How many names it has on the disk.
    pub names: u64,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// What the fingerprint of a stale unit says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Its package.
    pub package: String,
    /// `lib-serde`, …; sorted.
    pub targets: Vec<String>,
    /// Its compiler.
    pub rustc: Option<u64>,
    /// Its flags.
    pub rustflags: Vec<String>,
    /// From the start of its compiler to the end, by the times of Cargo's own files, µs.
    pub rebuild_us: Option<u64>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// What is not live; what is as well, where [`Options::keep_live`].
    pub items: Vec<Item>,
    /// By profile and hash, of stale units.
    pub details: HashMap<(Arc<str>, UnitHash), Details>,
    /// Live units that are there.
    pub live_units: HashSet<(Arc<str>, UnitHash)>,
    /// Bytes of what is live, files with several names counted once.
    pub live_bytes: u64,
    /// Bytes of what is not Cargo's, or not known.
    pub unknown_bytes: u64,
    /// Files and folders that were looked at.
    pub seen: u64,
    /// What could not be read.
    pub unreadable: Vec<(PathBuf, String)>,
    live_links: HashMap<(u64, u64), u64>,
}

/// How to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Threads; at least one.
    pub threads: usize,
    /// Keep what is live in [`Scan::items`] as well: for policies that go further than what is stale.
    pub keep_live: bool,
}

/// One folder's children for a thread.
struct Batch {
    folder: Arc<Folder>,
    names: Vec<(CString, FileType)>,
}

struct Folder {
    fd: OwnedFd,
    place: Place,
    profile: Arc<str>,
    /// Below the target directory.
    path: PathBuf,
    /// In `build`, of the new layout: the package.
    package: Option<String>,
}

/// Looks at `target`, a target directory of Cargo's. `progress` is told how many entries were seen.
///
/// # Errors
/// The directory itself cannot be opened. What below it cannot be is listed in the scan.
pub fn scan(
    target: &Path,
    live: &Live,
    options: Options,
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Scan, SweepError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(|error| io("open", target, error))?;
    let device = rustix::fs::fstat(&root).map_err(|error| io("look at", target, error))?.st_dev;
    let profiles = crate::find::profiles(target).map_err(|error| io("list", target, error))?;
    let confirmed = confirmed_profiles(target, live);
    let threads = options.threads.max(1);
    let (sender, receiver) = mpsc::sync_channel::<Batch>(threads * 4);
    let receiver = Mutex::new(receiver);
    let work = Worker { live, options, device, receiver: &receiver, progress, confirmed: &confirmed };
    let mut scan = Scan::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work.run())).collect();
        let nested = nested(target);
        let mut lister = Lister { profiles: &profiles, nested, sender: Some(sender), unreadable: Vec::new() };
        for profile in &profiles {
            lister.profile(&root, profile);
        }
        lister.beside(&root);
        scan.unreadable.append(&mut lister.unreadable);
        lister.sender = None;
        for worker in workers {
            if let Ok(part) = worker.join() {
                scan.merge(part);
            }
        }
    });
    scan.items.sort_by(|a, b| a.path.cmp(&b.path));
    if !progress(scan.seen) {
        return Err(SweepError::Stopped);
    }
    Ok(scan)
}

/// Profiles in which the predicted name of an incremental folder was found: there the prediction holds.
fn confirmed_profiles(target: &Path, live: &Live) -> HashSet<String> {
    let holds = |(profile, names): &(&String, &LiveProfile)| {
        let folder = target.join(profile).join("incremental");
        names.incremental.keys().any(|name| std::fs::symlink_metadata(folder.join(name)).is_ok())
    };
    live.profiles.iter().filter(holds).map(|(profile, _)| profile.clone()).collect()
}

/// Folders in a target directory that are such themselves: they are looked at on their own.
fn nested(target: &Path) -> HashSet<PathBuf> {
    let entries = std::fs::read_dir(target).into_iter().flatten().flatten();
    let nested = entries.filter(|entry| crate::find::is_target(&entry.path()));
    nested.map(|entry| PathBuf::from(entry.file_name())).collect()
}

impl Scan {
    fn merge(&mut self, part: Self) {
        self.items.extend(part.items);
        self.details.extend(part.details);
        self.live_units.extend(part.live_units);
        self.live_bytes += part.live_bytes;
        self.unknown_bytes += part.unknown_bytes;
        self.seen += part.seen;
        self.unreadable.extend(part.unreadable);
        for (id, bytes) in part.live_links {
            if self.live_links.insert(id, bytes).is_none() {
                self.live_bytes += bytes;
            }
        }
    }

    /// Whether a live file is the same as this one under another name.
    pub fn is_live_link(&self, link: &Link) -> bool {
        self.live_links.contains_key(&link.id)
    }
}

struct Lister<'l> {
    profiles: &'l [String],
    /// Folders that are target directories of their own.
    nested: HashSet<PathBuf>,
    sender: Option<mpsc::SyncSender<Batch>>,
    unreadable: Vec<(PathBuf, String)>,
}

impl Lister<'_> {
    fn profile(&mut self, root: &OwnedFd, profile: &str) {
        let name: Arc<str> = profile.into();
        let base = PathBuf::from(profile);
        for (below, place) in [
            (".fingerprint", Place::Fingerprint),
            ("build", Place::Build),
            ("deps", Place::Deps),
            ("incremental", Place::Incremental),
            ("examples", Place::Example),
            ("", Place::Final),
        ] {
            let path = if below.is_empty() { base.clone() } else { base.join(below) };
            self.folder(root, path, place, &name, None);
        }
    }

    /// What lies in a target directory beside the profiles.
    fn beside(&mut self, root: &OwnedFd) {
        let none: Arc<str> = "".into();
        for (path, place) in [
            ("doc", Place::Doc),
            ("package", Place::Package),
            ("tmp", Place::Scratch),
            ("cargo-timings", Place::Timings),
        ] {
            self.folder(root, PathBuf::from(path), place, &none, None);
        }
        for (path, kind) in self.listed(root, Path::new("")) {
            let known = ["doc", "package", "tmp", "cargo-timings"];
            let name = path.to_str().unwrap_or_default();
            if kind != FileType::Directory
                || name.starts_with('.')
                || known.contains(&name)
                || self.profiles.iter().any(|profile| profile.split('/').next() == Some(name))
                || self.nested.contains(&path)
            {
                continue;
            }
            if TOOLS.contains(&name) {
                // A folder for each profile.
                for (profile, _) in self.listed(root, &path) {
                    self.folder(root, path.join(profile), Place::Tool, &none, None);
                }
            } else {
                self.folder(root, path, Place::Other, &none, None);
            }
        }
    }

    /// Names in a folder that can be listed.
    fn listed(&self, root: &OwnedFd, path: &Path) -> Vec<(PathBuf, FileType)> {
        let entries = open_below(root, path).and_then(Dir::read_from);
        let is_own = |name: &CStr| !matches!(name.to_bytes(), b"." | b"..");
        let entries = entries.into_iter().flatten().flatten().filter(|entry| is_own(entry.file_name()));
        let path = |name: &CStr| PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()));
        entries.map(|entry| (path(entry.file_name()), entry.file_type())).collect()
    }

    fn folder(
        &mut self,
        root: &OwnedFd,
        path: PathBuf,
        place: Place,
        profile: &Arc<str>,
        package: Option<String>,
    ) {
        let fd = match open_below(root, &path) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return,
            Err(error) => return self.unreadable.push((path, error.to_string())),
        };
        let listed = Dir::read_from(&fd).and_then(|entries| {
            entries
                .filter(|entry| {
                    entry.as_ref().map_or(true, |entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
                })
                .map(|entry| entry.map(|entry| (entry.file_name().to_owned(), entry.file_type())))
                .collect::<Result<Vec<_>, _>>()
        });
        let names = match listed {
            Ok(names) => names,
            Err(error) => return self.unreadable.push((path, error.to_string())),
        };
        let folder =
            Arc::new(Folder { fd, place, profile: Arc::clone(profile), path: path.clone(), package });
        let mut names = names;
        if place == Place::Build && folder.package.is_none() {
            // In the new layout there is a folder for each package, and its units are in it.
            let (packages, units): (Vec<_>, Vec<_>) = names.into_iter().partition(|(name, kind)| {
                let name = name.to_str().unwrap_or_default();
                *kind == FileType::Directory && names::split_unit(name).is_none()
            });
            for (package, _) in packages {
                if let Ok(package) = package.into_string() {
                    self.folder(root, path.join(&package), Place::Unit, profile, Some(package));
                }
            }
            names = units;
        }
        let mut names = names.into_iter().peekable();
        while names.peek().is_some() {
            let batch = Batch { folder: Arc::clone(&folder), names: names.by_ref().take(BATCH).collect() };
            if let Some(sender) = &self.sender {
                // A worker that is gone has panicked, which is seen where it is joined.
                let _gone = sender.send(batch);
            }
        }
    }
}

/// Opens a folder, name by name, none of them a link.
pub(crate) fn open_below(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut fd = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in path.components() {
        let std::path::Component::Normal(name) = part else { return Err(rustix::io::Errno::INVAL) };
        fd = rustix::fs::openat(&fd, name, flags, Mode::empty())?;
    }
    Ok(fd)
}

struct Worker<'a> {
    live: &'a Live,
    options: Options,
    device: u64,
    receiver: &'a Mutex<mpsc::Receiver<Batch>>,
    progress: &'a (dyn Fn(u64) -> bool + Sync),
    confirmed: &'a HashSet<String>,
}

/// What a name says about an entry.
enum Verdict {
    Live(Vec<u32>, Option<UnitHash>),
    Stale(Option<UnitHash>),
    /// Not Cargo's, or not certainly.
    Unknown,
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    links: Vec<Link>,
    /// Of files, and of folders.
    newest_us: u64,
    folder_us: u64,
    id: (u64, u64),
    seen: u64,
}

impl Worker<'_> {
    fn run(&self) -> Scan {
        let mut scan = Scan::default();
        loop {
            let batch = self.receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
            let Ok(batch) = batch else { return scan };
            for (name, kind) in &batch.names {
                self.entry(&batch.folder, name, *kind, &mut scan);
            }
            if !(self.progress)(scan.seen) {
                return scan;
            }
        }
    }

    fn entry(&self, folder: &Folder, name: &CStr, kind: FileType, scan: &mut Scan) {
        let verdict = match name.to_str() {
            Ok(name) => self.verdict(folder, name, kind),
            Err(_) => Verdict::Unknown,
        };
        if folder.place == Place::Final && kind == FileType::Directory {
            return;
        }
        let path = folder.path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let mut sum = Sum::default();
        self.add(&folder.fd, name, &path, 0, &mut sum, &mut scan.unreadable);
        scan.seen += sum.seen;
        let (needed_by, hash) = match verdict {
            Verdict::Unknown => {
                scan.unknown_bytes += sum.bytes;
                return;
            }
            Verdict::Live(needed_by, hash) => {
                scan.live_bytes += sum.bytes;
                // Counted when the parts are put together: another thread may see another name.
                scan.live_links.extend(sum.links.iter().map(|link| (link.id, link.bytes)));
                if let Some(hash) = hash {
                    scan.live_units.insert((Arc::clone(&folder.profile), hash));
                }
                if !self.options.keep_live {
                    return;
                }
                (needed_by, hash)
            }
            Verdict::Stale(hash) => (Vec::new(), hash),
        };
        let fingerprint = match folder.place {
            Place::Fingerprint => Some(CString::default()),
            Place::Unit => Some(c"fingerprint".to_owned()),
            _ => None,
        };
        if let (Some(below), Some(hash)) = (fingerprint, hash) {
            let of = |name: &CStr| {
                name.to_str().ok().and_then(names::split_unit).map(|(package, _)| package.to_owned())
            };
            let package = folder.package.clone().or_else(|| of(name)).unwrap_or_default();
            let details = details(&folder.fd, name, &below, package);
            scan.details.insert((Arc::clone(&folder.profile), hash), details);
        }
        scan.items.push(Item {
            place: folder.place,
            profile: Arc::clone(&folder.profile),
            path: path.into(),
            hash,
            bytes: sum.bytes,
            links: sum.links.into(),
            newest_us: if sum.newest_us > 0 { sum.newest_us } else { sum.folder_us },
            id: sum.id,
            needed_by: needed_by.into(),
        });
    }

    fn verdict(&self, folder: &Folder, name: &str, kind: FileType) -> Verdict {
        let live = self.live.profiles.get(&*folder.profile);
        let unit = |hash: UnitHash| match live.and_then(|live| live.units.get(&hash)) {
            Some((_, needed_by)) => Verdict::Live(needed_by.clone(), Some(hash)),
            None => Verdict::Stale(Some(hash)),
        };
        let is_folder = kind == FileType::Directory;
        match folder.place {
            Place::Fingerprint | Place::Build => match names::split_unit(name) {
                Some((_, hash)) if is_folder => unit(hash),
                _ => Verdict::Unknown,
            },
            Place::Unit => match UnitHash::parse(name) {
                Some(hash) if is_folder => unit(hash),
                _ => Verdict::Unknown,
            },
            Place::Deps | Place::Example => match names::hash_in_file(name) {
                Some(hash) => unit(hash),
                None if names::is_compilers_scratch(name) => Verdict::Stale(None),
                None => self.named(folder, live, name),
            },
            Place::Incremental => self.incremental(folder, live, name, is_folder),
            Place::Final => self.named(folder, live, name),
            Place::Doc if is_folder => self.documented(name),
            Place::Doc => Verdict::Live(Vec::new(), None),
            // What to make of these is the plan's to say.
            Place::Package | Place::Scratch | Place::Timings => Verdict::Stale(None),
            Place::Tool if is_folder => Verdict::Unknown,
            Place::Tool => self.of_tool(folder, name),
            Place::Other => Verdict::Unknown,
        }
    }

    /// A file whose name holds no hash.
    fn named(&self, folder: &Folder, live: Option<&LiveProfile>, name: &str) -> Verdict {
        let prefix = match folder.place {
            Place::Deps => "deps/",
            Place::Example => "examples/",
            _ => "",
        };
        if name.starts_with('.') {
            return Verdict::Unknown;
        }
        let Some(live) = live else { return stale_if_built(name) };
        // `libutil.rmeta` and `util.d` belong to `libutil.so`.
        let stem = crate_of(name);
        let same = |(file, _): &(&String, &Vec<u32>)| {
            file.strip_prefix(prefix).is_some_and(|file| !file.contains('/') && crate_of(file) == stem)
        };
        match live.files.get(&format!("{prefix}{name}")) {
            Some(needed_by) => Verdict::Live(needed_by.clone(), None),
            None => match live.files.iter().find(same) {
                Some((_, needed_by)) => Verdict::Live(needed_by.clone(), None),
                None => stale_if_built(name),
            },
        }
    }

    fn incremental(
        &self,
        folder: &Folder,
        live: Option<&LiveProfile>,
        name: &str,
        is_folder: bool,
    ) -> Verdict {
        let shaped = name.rsplit_once('-').filter(|(_, id)| {
            id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
        });
        let (Some((of, _)), true) = (shaped, is_folder) else { return Verdict::Unknown };
        let Some(live) = live else { return Verdict::Stale(None) };
        if let Some(needed_by) = live.incremental.get(name) {
            return Verdict::Live(needed_by.clone(), None);
        }
        let is_of = |other: &String| other.rsplit_once('-').is_some_and(|(other, _)| other == of);
        if !self.confirmed.contains(&*folder.profile)
            && let Some((_, needed_by)) = live.incremental.iter().find(|(other, _)| is_of(other))
        {
            return Verdict::Live(needed_by.clone(), None);
        }
        Verdict::Stale(None)
    }

    /// `app_bg.wasm`, `app.js`: live as long as a program of that name is.
    fn of_tool(&self, folder: &Folder, name: &str) -> Verdict {
        let stem = name.split('.').next().unwrap_or_default();
        let stem = stem.strip_suffix("_bg").unwrap_or(stem);
        let profile = folder.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of_profile = |of: &&String| {
            of.split_once('/').is_some_and(|(triple, of)| triple.starts_with("wasm") && of == profile)
        };
        let is_of = |file: &str| {
            file.strip_suffix(".wasm").is_some_and(|file| file.replace('-', "_") == stem.replace('-', "_"))
        };
        for known in self.live.profiles.keys().filter(of_profile) {
            let found = self.live.profiles[known].files.iter().find(|(file, _)| is_of(file));
            if let Some((_, needed_by)) = found {
                return Verdict::Live(needed_by.clone(), None);
            }
        }
        Verdict::Stale(None)
    }

    fn documented(&self, name: &str) -> Verdict {
        // Shared by all crates.
        let shared =
            ["src", "static.files", "search.desc", "search.index", "type.impl", "trait.impl", "implementors"];
        if self.live.docs.is_empty() || self.live.docs.contains(name) || shared.contains(&name) {
            return Verdict::Live(Vec::new(), None);
        }
        Verdict::Stale(None)
    }

    fn add(
        &self,
        folder: &OwnedFd,
        name: &CStr,
        path: &Path,
        depth: usize,
        sum: &mut Sum,
        unreadable: &mut Vec<(PathBuf, String)>,
    ) {
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(rustix::io::Errno::NOENT) => return,
            Err(error) => return unreadable.push((path.to_owned(), error.to_string())),
        };
        sum.seen += 1;
        let id = (stat.st_dev, stat.st_ino);
        if depth == 0 {
            sum.id = id;
        }
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES;
        let newest = stat.st_mtime.saturating_mul(1_000_000).saturating_add(stat.st_mtime_nsec as i64 / 1000);
        let newest_us = u64::try_from(newest).unwrap_or(0);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            sum.newest_us = sum.newest_us.max(newest_us);
            if stat.st_nlink > 1 {
                sum.links.push(Link { id, names: stat.st_nlink, bytes });
            } else {
                sum.bytes += bytes;
            }
            return;
        }
        sum.bytes += bytes;
        // A folder's own time tells of what came and went in it, also by the hand of a copying tool.
        sum.folder_us = sum.folder_us.max(newest_us);
        if stat.st_dev != self.device || depth >= DEPTH_MAX {
            return;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(folder, name, flags, Mode::empty());
        let listed = inner.and_then(|fd| Dir::read_from(&fd).map(|entries| (fd, entries)));
        let (fd, entries) = match listed {
            Ok(listed) => listed,
            Err(rustix::io::Errno::NOENT) => return,
            Err(error) => return unreadable.push((path.to_owned(), error.to_string())),
        };
        for entry in entries.flatten() {
            let inner = entry.file_name();
            if !matches!(inner.to_bytes(), b"." | b"..") {
                // The path is only wanted where something goes wrong: it is made there.
                self.add(&fd, inner, path, depth + 1, sum, unreadable);
            }
        }
    }
}

/// `util` for `libutil.so`, `util.d`, `util`.
fn crate_of(name: &str) -> &str {
    let stem = names::file_stem(name);
    if name.contains('.') { stem.strip_prefix("lib").unwrap_or(stem) } else { stem }
}

/// Without a hash only what has an ending that compilers give is taken for theirs.
fn stale_if_built(name: &str) -> Verdict {
    let endings = [".d", ".rlib", ".rmeta", ".so", ".a", ".wasm", ".o", ".dwp", ".pdb"];
    if endings.iter().any(|ending| name.ends_with(ending)) { Verdict::Stale(None) } else { Verdict::Unknown }
}

/// Reads the fingerprint in `folder/name/below`.
fn details(folder: &OwnedFd, name: &CStr, below: &CStr, package: String) -> Details {
    let mut details = Details { package, ..Details::default() };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(folder, name, flags, Mode::empty());
    let open = match below.is_empty() {
        true => open,
        false => open.and_then(|fd| rustix::fs::openat(fd, below, flags, Mode::empty())),
    };
    let Ok(fd) = open else { return details };
    let Ok(entries) = Dir::read_from(&fd) else { return details };
    let mtime_us = |name: &CStr| -> Option<i64> {
        let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(stat.st_mtime.saturating_mul(1_000_000).saturating_add(stat.st_mtime_nsec as i64 / 1000))
    };
    let began = mtime_us(c"invoked.timestamp");
    for entry in entries.flatten() {
        let Some(target) = entry.file_name().to_str().ok().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        details.targets.push(target.to_owned());
        if let Some(read) = read_json(&fd, entry.file_name()) {
            (details.rustc, details.rustflags) = (Some(read.rustc), read.rustflags);
        }
        // The file with the hash is written when the compiler has ended.
        if let (Some(began), Some(ended)) =
            (began, CString::new(target).ok().and_then(|name| mtime_us(&name)))
        {
            details.rebuild_us =
                u64::try_from(ended - began).ok().filter(|us| *us > 0).or(details.rebuild_us);
        }
    }
    details.targets.sort();
    details.targets.shrink_to_fit();
    details
}

fn read_json(fd: &OwnedFd, name: &CStr) -> Option<Fingerprint> {
    use std::io::Read;
    const BYTES_MAX: u64 = 4 << 20;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::openat(fd, name, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
