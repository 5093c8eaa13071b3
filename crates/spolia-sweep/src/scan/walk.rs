//! One thread of a scan: `Batch… → Scan`. A file is looked at once at most, and so is a folder listed.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rustix::fs::{AtFlags, FileType, Mode};

use super::listing::{At, Batch, Buffer, Names, Open};
use super::verdict::{Judge, Verdict};
use super::{
    FOLDER, Fact, Item, Link, NO_FACT, NOT_LOOKED, Options, Place, STALE, Scan, add, bytes_on_disk,
    changed_us,
};
use crate::fingerprint;
use crate::live::Live;

/// How deep folders are gone into.
const DEPTH_MAX: usize = 100;
/// More files are in no fingerprint's folder that Cargo made.
const FINGERPRINT_FILES_MAX: usize = 64;

pub(super) struct Walker<'l> {
    judge: Judge<'l>,
    options: Options,
    progress: &'l (dyn Fn(u64) -> bool + Sync),
    /// Whether it was told not to go on.
    is_stopped: bool,
    scan: Scan,
    buffer: Buffer,
    /// The names of the folders that are gone through just now, the innermost last.
    names: Names,
    /// The item that is looked at.
    item: At,
    /// Sets of configurations that [`Scan::needs`] has, by where they lie.
    needs: HashMap<(*const u32, usize), u32>,
}

/// Of one item.
#[derive(Default)]
struct Sum {
    bytes: u64,
    /// Of files, and of folders.
    newest_us: u64,
    folder_us: u64,
    inode: u64,
    seen: u64,
    is_elsewhere: bool,
    links: Vec<Link>,
    fact: Option<Fact>,
    /// Whether there are notes of Cargo's in it that were not looked at.
    is_partial: bool,
}

/// How deep below an item its fingerprint's folder is.
#[derive(Clone, Copy)]
enum Fingerprint {
    None,
    Itself,
    Below,
}

impl<'l> Walker<'l> {
    pub(super) fn new(
        live: &'l Live,
        options: Options,
        device: u64,
        confirmed: &'l HashSet<String>,
        progress: &'l (dyn Fn(u64) -> bool + Sync),
    ) -> Self {
        Self {
            judge: Judge { live, confirmed },
            options,
            progress,
            is_stopped: false,
            scan: Scan::empty(device, options),
            buffer: Buffer::new(),
            names: Names::default(),
            item: 0,
            needs: HashMap::new(),
        }
    }

    /// Takes one batch after the other.
    pub(super) fn run(mut self, receiver: &Mutex<mpsc::Receiver<Batch>>) -> Scan {
        loop {
            let batch = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = batch else { break };
            self.batch(batch);
        }
        self.scan
    }

    /// Looks at a folder's names; at no more once it was told so.
    pub(super) fn batch(&mut self, batch: Batch) {
        if self.is_stopped {
            return;
        }
        self.names = batch.names;
        let (mut at, end) = (0, self.names.end());
        while at < end {
            self.entry(&batch.folder, at);
            at = self.names.next(at);
        }
        self.is_stopped = !(self.progress)(self.scan.seen);
    }

    /// Whether a file whose name does not tell is a program that Cargo put in place and no unit has any more: then Cargo's
    /// list of its sources, `app.d`, stands beside `app` and is stale.
    fn is_stale_program(&self, open: &Open, name: &str) -> bool {
        if !matches!(open.folder.place, Place::Final | Place::Example) || name.contains('.') {
            return false;
        }
        let list = format!("{name}.d");
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let is_there = rustix::fs::statat(open.fd.as_fd(), list.as_str(), flags)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_file());
        is_there && matches!(self.judge.verdict(&open.folder, &list, false), Verdict::Stale(_))
    }

    fn entry(&mut self, open: &Open, at: At) {
        let is_folder = self.names.is_folder(at);
        let place = open.folder.place;
        let verdict = match self.names.name(at).to_str() {
            Ok(name) => match self.judge.verdict(&open.folder, name, is_folder) {
                Verdict::Unknown if !is_folder && self.is_stale_program(open, name) => Verdict::Stale(None),
                verdict => verdict,
            },
            Err(_) => Verdict::Unknown,
        };
        if place == Place::Final && is_folder {
            return;
        }
        let is_kept = match verdict {
            Verdict::Stale(_) => true,
            Verdict::Live(..) => self.options.keep_live,
            Verdict::Unknown => false,
        };
        if !is_kept && !self.options.sizes {
            self.scan.seen += 1;
            if let Verdict::Live(_, Some(hash)) = verdict {
                self.scan.live_units.insert((Arc::clone(&open.folder.profile), hash));
            }
            return;
        }
        let fingerprint = match place {
            Place::Fingerprint if is_kept => Fingerprint::Itself,
            Place::Unit if is_kept => Fingerprint::Below,
            _ => Fingerprint::None,
        };
        let mut sum = Sum::default();
        self.item = at;
        self.add(open.fd.as_fd(), at, 0, fingerprint, &mut sum, open);
        self.scan.seen += sum.seen;
        self.scan.measured += sum.seen;
        if sum.seen == 0 {
            return;
        }
        let (needed_by, hash) = match verdict {
            Verdict::Unknown => {
                return add(&mut self.scan.unknown_bytes, sum.bytes);
            }
            Verdict::Live(needed_by, hash) => {
                add(&mut self.scan.live_bytes, sum.bytes);
                // Counted when the parts are put together: another thread may see another name.
                self.scan.live_links.extend(sum.links.iter().map(|link| (link.inode, link.bytes)));
                if let Some(hash) = hash {
                    self.scan.live_units.insert((Arc::clone(&open.folder.profile), hash));
                }
                if !is_kept {
                    return;
                }
                (self.need(needed_by), hash)
            }
            Verdict::Stale(hash) => (STALE, hash),
        };
        if sum.is_elsewhere {
            let why = "another file system is mounted there".to_owned();
            return self.scan.unreadable.push((self.path(open), why));
        }
        self.keep(open.number, at, needed_by, hash, sum);
    }

    fn keep(&mut self, folder: u32, at: At, needed_by: u32, hash: Option<crate::names::UnitHash>, sum: Sum) {
        let scan = &mut self.scan;
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let name = number(scan.text.len());
        scan.text.extend_from_slice(self.names.name(at).to_bytes_with_nul());
        let unknown = if sum.is_partial { NOT_LOOKED } else { NO_FACT };
        let fact = sum.fact.map_or(unknown, |fact| {
            scan.facts.push(fact);
            number(scan.facts.len() - 1)
        });
        let links = (number(scan.links.len()), number(sum.links.len()));
        scan.links.extend(sum.links);
        scan.items.push(Item {
            folder,
            name,
            fact,
            needed_by,
            links,
            hash,
            bytes: sum.bytes,
            newest_us: if sum.newest_us > 0 { sum.newest_us } else { sum.folder_us },
            inode: sum.inode,
        });
    }

    /// The number of a set of configurations.
    fn need(&mut self, needed_by: &'l [u32]) -> u32 {
        let needs = &mut self.scan.needs;
        *self.needs.entry((needed_by.as_ptr(), needed_by.len())).or_insert_with(|| {
            needs.push(needed_by.into());
            u32::try_from(needs.len() - 1).unwrap_or(0)
        })
    }

    /// Of the item that is looked at.
    fn path(&self, open: &Open) -> PathBuf {
        open.folder.path.join(OsStr::from_bytes(self.names.name(self.item).to_bytes()))
    }

    /// Adds a thing with all below it to `sum`; the time of its last change, µs since 1970, where it is a file.
    fn add(
        &mut self,
        folder: BorrowedFd<'_>,
        at: At,
        depth: usize,
        fingerprint: Fingerprint,
        sum: &mut Sum,
        open: &Open,
    ) -> Option<u64> {
        let stat = match rustix::fs::statat(folder, self.names.name(at), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(rustix::io::Errno::NOENT) => return None,
            Err(error) => return self.unread(open, error),
        };
        sum.seen += 1;
        if depth == 0 {
            sum.inode = stat.st_ino;
            sum.is_elsewhere = stat.st_dev != self.scan.device;
        }
        let (bytes, newest_us) = (bytes_on_disk(&stat), changed_us(&stat));
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            sum.newest_us = sum.newest_us.max(newest_us);
            if stat.st_nlink > 1 {
                sum.links.push(Link { inode: stat.st_ino, names: stat.st_nlink, bytes });
            } else {
                sum.bytes += bytes;
            }
            return Some(newest_us);
        }
        sum.bytes += bytes;
        // A folder's own time tells of what came and went in it, also by the hand of a copying tool.
        sum.folder_us = sum.folder_us.max(newest_us);
        if stat.st_dev != self.scan.device || depth >= DEPTH_MAX {
            return None;
        }
        let (is_fingerprint, below) = match fingerprint {
            Fingerprint::Itself => (true, Fingerprint::None),
            Fingerprint::Below if depth == 1 => {
                (self.names.name(at).to_bytes() == b"fingerprint", Fingerprint::None)
            }
            other => (false, other),
        };
        if is_fingerprint && !self.options.notes {
            sum.is_partial = true;
            return None;
        }
        let fd = match rustix::fs::openat(folder, self.names.name(at), FOLDER, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return None,
            Err(error) => return self.unread(open, error),
        };
        let first = self.names.end();
        let names = &mut self.names;
        if let Err(error) = self.buffer.list(&fd, |name, is_folder| names.push(name, is_folder)) {
            self.names.truncate(first);
            return self.unread(open, error);
        }
        let (mut next, end) = (first, self.names.end());
        let mut files: Vec<(At, u64)> = Vec::new();
        while next < end {
            let changed = self.add(fd.as_fd(), next, depth + 1, below, sum, open);
            if is_fingerprint && let Some(changed) = changed {
                files.push((next, changed));
            }
            next = self.names.next(next);
        }
        if is_fingerprint && files.len() <= FINGERPRINT_FILES_MAX {
            sum.fact = Some(self.fact(&fd, &files));
        }
        self.names.truncate(first);
        None
    }

    fn unread(&mut self, open: &Open, error: rustix::io::Errno) -> Option<u64> {
        let path = self.path(open);
        self.scan.unreadable.push((path, error.to_string()));
        None
    }

    /// What the files of a fingerprint tell, each with the time of its last change.
    fn fact(&mut self, fd: &OwnedFd, files: &[(At, u64)]) -> Fact {
        let of = |wanted: &[u8]| {
            let found = files.iter().find(|(at, _)| self.names.name(*at).to_bytes() == wanted);
            found.map(|(_, changed)| *changed)
        };
        let began = of(b"invoked.timestamp");
        let first = u32::try_from(self.scan.text.len()).unwrap_or(u32::MAX);
        let mut fact = Fact { targets: (first, 0), ..Fact::default() };
        for (at, _) in files {
            let name: &CStr = self.names.name(*at);
            let Some(target) = name.to_bytes().strip_suffix(b".json") else { continue };
            // The file with the hash is written when the compiler has ended.
            let took = began.zip(of(target)).map(|(began, ended)| ended.saturating_sub(began));
            fact.rebuild_us = fact.rebuild_us.max(took.filter(|us| *us > 0));
            fact.targets.1 += 1;
            self.scan.text.extend_from_slice(target);
            self.scan.text.push(0);
            if self.options.details {
                fact.details = fingerprint::read(fd, name).map(Box::new).or(fact.details);
            }
        }
        if self.options.details {
            fact.details.get_or_insert_default();
        }
        fact
    }
}
