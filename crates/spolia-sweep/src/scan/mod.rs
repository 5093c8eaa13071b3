//! Looks at one target directory: `folder × Live → Scan`. Decides by names alone what may go; removes nothing.
//!
//! [`listing`] says which folders are gone through, [`verdict`] what a name means, [`walk`] adds up what lies below
//! it. A tree has hundreds of thousands of names, so a folder is listed once and a file is looked at once at most:
//!
//! | what | its name | its size and time | what lies in it |
//! |---|---|---|---|
//! | what goes | always | always | always |
//! | the same, Cargo's notes of a unit (its fingerprint) | always | of the folder | where [`Options::notes`] |
//! | what stays | always | where [`Options::sizes`] | where [`Options::sizes`] |
//!
//! What was not looked at is in no sum, and the sums say so. What goes is 64 bytes and its name.
//!
//! What matches no form that Cargo writes is left alone. Nothing is opened but folders, and the fingerprints of
//! what is stale where [`Options::details`]. Links are never followed, other file systems never entered.

mod listing;
mod verdict;
mod walk;

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use rustix::fs::{Mode, OFlags, Stat};

use crate::error::{SweepError, io};
use crate::fingerprint::Details;
use crate::live::{Live, LiveProfile};
use crate::names::{self, UnitHash};

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

/// A folder whose children are items.
#[derive(Clone, Debug)]
pub struct Folder {
    /// What its children are.
    pub place: Place,
    /// Its profile folder; empty beside them.
    pub profile: Arc<str>,
    /// Below the target directory.
    pub path: Box<Path>,
    /// In `build`, of the new layout: the package.
    pub package: Option<Box<str>>,
}

/// One file or folder that could be removed. What it is called and the rest of it is in the [`Scan`].
#[derive(Clone, Debug)]
pub struct Item {
    folder: u32,
    /// Where its name begins in [`Scan::text`]; it ends with a NUL.
    name: u32,
    fact: u32,
    needed_by: u32,
    links: (u32, u32),
    /// Of which unit.
    pub hash: Option<UnitHash>,
    /// Bytes on disk, of files with one name.
    pub bytes: u64,
    /// The newest change of a file in it, µs since 1970.
    pub newest_us: u64,
    /// Its number on the [`Scan::device`], so that another thing under its name is told apart.
    pub inode: u64,
}

/// No fact is known of an item.
const NO_FACT: u32 = u32::MAX;
/// Cargo's notes are in an item, and were not looked at.
const NOT_LOOKED: u32 = u32::MAX - 1;

/// A file with several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number on the device.
    pub inode: u64,
    /// How many names it has on the disk.
    pub names: u64,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// What the folder of a fingerprint tells without being read, and [`Details`] where it was.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// Where the names of its targets begin in [`Scan::text`], and how many they are.
    targets: (u32, u32),
    /// From the start of its compiler to the end, by the times of Cargo's own files, µs.
    pub rebuild_us: Option<u64>,
    /// What is in it; `None` where it was not read.
    pub details: Option<Box<Details>>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// What is not live; what is as well, where [`Options::keep_live`].
    pub items: Vec<Item>,
    /// Live units that are there.
    pub live_units: HashSet<(Arc<str>, UnitHash)>,
    /// Bytes of what is live, files with several names counted once; `None` where it was not looked at.
    pub live_bytes: Option<u64>,
    /// Bytes of what is not Cargo's, or not known; `None` where it was not looked at.
    pub unknown_bytes: Option<u64>,
    /// Files and folders that were seen.
    pub seen: u64,
    /// Files and folders of which the size was asked.
    pub measured: u64,
    /// What could not be read.
    pub unreadable: Vec<(PathBuf, String)>,
    /// The device that the target directory lies on.
    pub device: u64,
    folders: Vec<Folder>,
    text: Vec<u8>,
    facts: Vec<Fact>,
    links: Vec<Link>,
    /// Sets of configurations; what is stale has none of them.
    needs: Vec<Box<[u32]>>,
    live_links: HashMap<u64, u64>,
}

/// Bytes in one of the blocks that `stat` counts.
const BLOCK_BYTES: u64 = 512;
/// An item that nothing needs.
const STALE: u32 = u32::MAX;

/// How to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Threads; at least one.
    pub threads: usize,
    /// Keep what is live in [`Scan::items`] as well: for policies that go further than what is stale. Implies `sizes`.
    pub keep_live: bool,
    /// Add up what stays as well. Implies `notes`.
    pub sizes: bool,
    /// Look at what Cargo noted of everything that goes: bytes, times, targets.
    pub notes: bool,
    /// Read the fingerprint of everything that is kept. Implies `notes`.
    pub details: bool,
}

/// Looks at `target`, a target directory of Cargo's with these `profiles` ([`crate::find::profiles`]). `progress` is told
/// how many entries were seen.
///
/// # Errors
/// The directory itself cannot be opened. What below it cannot be is listed in the scan.
pub fn scan(
    target: &Path,
    profiles: &[String],
    live: &Live,
    options: Options,
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Scan, SweepError> {
    let root = rustix::fs::open(target, FOLDER, Mode::empty()).map_err(|error| io("open", target, error))?;
    let device = rustix::fs::fstat(&root).map_err(|error| io("look at", target, error))?.st_dev;
    let confirmed = confirmed_profiles(target, live);
    let sizes = options.sizes || options.keep_live;
    let options = Options { sizes, notes: sizes || options.notes || options.details, ..options };
    // This thread lists, and looks where the others cannot keep up.
    let workers = options.threads.max(1) - 1;
    let (sender, receiver) = mpsc::sync_channel::<listing::Batch>(workers * 4);
    let receiver = Mutex::new(receiver);
    let mut scan = Scan::empty(device, options);
    std::thread::scope(|scope| {
        let (confirmed, receiver) = (&confirmed, &receiver);
        let walker = move || walk::Walker::new(live, options, device, confirmed, progress);
        let start = move || walker().run(receiver);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(start)).collect();
        let sender = (!workers.is_empty()).then_some(sender);
        let mut lister = listing::Lister::new(profiles, nested(target), walker(), sender);
        lister.all(&root);
        let (folders, unreadable, own) = lister.finish();
        (scan.folders, scan.unreadable) = (folders, unreadable);
        scan.merge(own.run(receiver));
        for worker in workers {
            if let Ok(part) = worker.join() {
                scan.merge(part);
            }
        }
    });
    if !progress(scan.seen) {
        return Err(SweepError::Stopped);
    }
    Ok(scan)
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

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
    /// Of which nothing has been seen yet.
    fn empty(device: u64, options: Options) -> Self {
        let none = options.sizes.then_some(0);
        Self { device, live_bytes: none, unknown_bytes: none, ..Self::default() }
    }

    /// Takes in what one thread saw, whose numbers begin at 0.
    fn merge(&mut self, part: Self) {
        let begin = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (text, facts) = (begin(self.text.len()), begin(self.facts.len()));
        let (links, needs) = (begin(self.links.len()), begin(self.needs.len()));
        if text.checked_add(begin(part.text.len())).is_none() {
            self.unreadable.push((PathBuf::new(), "there are too many names".to_owned()));
            return;
        }
        self.items.reserve_exact(part.items.len());
        self.items.extend(part.items.into_iter().map(|mut item| {
            item.name += text;
            item.links.0 += links;
            item.fact = if item.fact >= NOT_LOOKED { item.fact } else { item.fact + facts };
            item.needed_by = if item.needed_by == STALE { STALE } else { item.needed_by + needs };
            item
        }));
        self.facts.extend(part.facts.into_iter().map(|mut fact| {
            fact.targets.0 += text;
            fact
        }));
        self.text.extend_from_slice(&part.text);
        self.links.extend(part.links);
        self.needs.extend(part.needs);
        self.live_units.extend(part.live_units);
        add(&mut self.live_bytes, part.live_bytes.unwrap_or(0));
        add(&mut self.unknown_bytes, part.unknown_bytes.unwrap_or(0));
        self.seen += part.seen;
        self.measured += part.measured;
        self.unreadable.extend(part.unreadable);
        for (inode, bytes) in part.live_links {
            if self.live_links.insert(inode, bytes).is_none() {
                add(&mut self.live_bytes, bytes);
            }
        }
    }

    /// Whether Cargo's notes of a unit are in an item, as far as was looked.
    pub fn has_notes(&self, item: &Item) -> bool {
        item.fact != NO_FACT
    }

    /// Whether they were not looked at: their bytes are in no sum.
    pub fn is_partial(&self, item: &Item) -> bool {
        item.fact == NOT_LOOKED
    }

    /// The text that begins at a place.
    fn text(&self, at: u32) -> &[u8] {
        let rest = self.text.get(at as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).map_or(&[], CStr::to_bytes)
    }

    /// What an item is called.
    pub fn name(&self, item: &Item) -> &OsStr {
        OsStr::from_bytes(self.text(item.name))
    }

    /// Where it lies.
    pub fn folder(&self, item: &Item) -> &Folder {
        &self.folders[item.folder as usize]
    }

    /// Its path below the target directory.
    pub fn path(&self, item: &Item) -> PathBuf {
        self.folder(item).path.join(self.name(item))
    }

    /// Files in it with more names than one.
    pub fn links(&self, item: &Item) -> &[Link] {
        let first = item.links.0 as usize;
        self.links.get(first..first + item.links.1 as usize).unwrap_or_default()
    }

    /// Which configurations need it: none where it is stale.
    pub fn needed_by(&self, item: &Item) -> &[u32] {
        self.needs.get(item.needed_by as usize).map_or(&[], |needs| needs)
    }

    /// Whether no configuration needs it.
    pub fn is_stale(&self, item: &Item) -> bool {
        item.needed_by == STALE
    }

    /// What its fingerprint tells, where it is one.
    pub fn fact(&self, item: &Item) -> Option<&Fact> {
        self.facts.get(item.fact as usize)
    }

    /// `lib-serde`, …; sorted.
    pub fn targets(&self, fact: &Fact) -> Vec<&str> {
        let mut at = fact.targets.0;
        let mut targets = Vec::new();
        for _ in 0..fact.targets.1 {
            let text = self.text(at);
            targets.extend(std::str::from_utf8(text).ok());
            at += u32::try_from(text.len() + 1).unwrap_or(u32::MAX);
        }
        targets.sort_unstable();
        targets
    }

    /// The package of an item that is a fingerprint, or the whole of a unit.
    pub fn package(&self, item: &Item) -> Option<&str> {
        let of_folder = self.folder(item).package.as_deref();
        of_folder.or_else(|| names::split_unit(self.name(item).to_str()?).map(|(package, _)| package))
    }
}

/// Adds to a sum, where there is one.
fn add(sum: &mut Option<u64>, bytes: u64) {
    if let Some(sum) = sum {
        *sum += bytes;
    }
}

/// What a file or folder takes up.
pub(crate) fn bytes_on_disk(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES
}

/// When a file or folder was last changed, µs since 1970.
pub(crate) fn changed_us(stat: &Stat) -> u64 {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let us = stat.st_mtime.saturating_mul(1_000_000).saturating_add(nanos / 1000);
    u64::try_from(us).unwrap_or(0)
}

/// Opens a folder, name by name, none of them a link.
pub(crate) fn open_below(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut fd = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in path.components() {
        let std::path::Component::Normal(name) = part else { return Err(rustix::io::Errno::INVAL) };
        fd = rustix::fs::openat(&fd, name, FOLDER, Mode::empty())?;
    }
    Ok(fd)
}
