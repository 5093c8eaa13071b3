//! What was put aside instead of removed: `TARGET/.spolia-quarantine/ID/`, until it is put back or too old.
//!
//! ```text
//! .spolia-quarantine/20261121T150102.000001/moved     one JSON line for each: {"number":0,"path":"debug/deps/…"}
//! .spolia-quarantine/20261121T150102.000001/0         the thing itself
//! ```
//!
//! A line is written before its thing is moved; one whose thing is not there says nothing. `path` is escaped as in
//! reports where it is not text, and such things are deleted instead of kept.

use std::collections::HashSet;
use std::ffi::CString;
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::apply::{self, remove_tree};
use crate::error::{SweepError, io};
use crate::plan::Part;
use crate::scan::open_below;

/// The folder in a target directory.
pub const FOLDER: &str = ".spolia-quarantine";
const MOVED: &str = "moved";
/// The most lines that are read of one list.
const LINES_MAX: usize = 10_000_000;

#[derive(Serialize, Deserialize)]
struct Moved {
    number: u64,
    path: String,
}

/// An open quarantine that things are put into.
pub struct Quarantine {
    /// Its name: when it was made.
    pub name: String,
    folder: OwnedFd,
    list: std::fs::File,
    /// Bytes of the list that are whole lines.
    whole: u64,
    next: u64,
}

impl Quarantine {
    /// Makes one in `target`, named after `now_us`, µs since 1970.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(target: &Path, now_us: u64) -> Result<Self, SweepError> {
        let root = apply::open_target(target)?;
        let name = format!("{}-{:06}", spolia_store::journal::day_of(now_us), now_us / 1_000_000 % 86_400);
        let name = format!("{name}.{:06}", now_us % 1_000_000);
        let at = |error| io("make a quarantine in", target, error);
        make(&root, FOLDER).map_err(at)?;
        let above = open_below(&root, Path::new(FOLDER)).map_err(at)?;
        make(&above, &name).map_err(at)?;
        let folder = open_below(&above, Path::new(&name)).map_err(at)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let list = rustix::fs::openat(&folder, MOVED, flags, Mode::from_raw_mode(0o644)).map_err(at)?;
        Ok(Self { name, folder, list: list.into(), whole: 0, next: 0 })
    }

    /// Puts a part of a plan in it.
    ///
    /// # Errors
    /// It cannot be moved; then it is where it was.
    pub fn put(&mut self, root: &OwnedFd, part: &Part) -> std::io::Result<()> {
        let name = part.path.file_name().ok_or(Errno::INVAL)?;
        let from = open_below(root, part.path.parent().unwrap_or(Path::new("")))?;
        let path = part.path.to_str().ok_or_else(|| std::io::Error::other("its name is not text"))?;
        let moved = Moved { number: self.next, path: path.to_owned() };
        self.next += 1;
        let mut line = serde_json::to_vec(&moved)?;
        line.push(b'\n');
        if let Err(error) = self.list.write_all(&line) {
            // On a full disk a part of the line may be there; the next one would be unreadable with it.
            self.list.set_len(self.whole)?;
            self.list.seek(SeekFrom::Start(self.whole))?;
            return Err(error);
        }
        self.whole += line.len() as u64;
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(&from, name, &self.folder, moved.number.to_string(), flags).map_err(
            |error| match error {
                Errno::XDEV => std::io::Error::other("it lies on another file system than the quarantine"),
                error => error.into(),
            },
        )
    }
}

fn make(above: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The quarantines in `target`, the oldest first.
pub fn names(target: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(target.join(FOLDER)).into_iter().flatten().flatten();
    let shaped = |name: &String| name.len() > 9 && name.bytes().take(8).all(|byte| byte.is_ascii_digit());
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(shaped).collect();
    names.sort();
    names
}

/// What became of a quarantine that was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Which.
    pub name: String,
    /// Things that are where they were.
    pub parts: u64,
    /// Things that stay in quarantine, and why.
    pub left: Vec<(PathBuf, String)>,
}

/// Puts back what is in the quarantine `name`, under Cargo's locks. What has another thing in its place stays where it
/// is. `wait` says whether to go on waiting for a build in a profile folder.
///
/// # Errors
/// There is no such quarantine, or it cannot be read.
pub fn restore(
    target: &Path,
    name: &str,
    wait: &mut dyn FnMut(&str) -> bool,
) -> Result<Restored, SweepError> {
    let root = apply::open_target(target)?;
    let below = Path::new(FOLDER).join(name);
    let folder = open_below(&root, &below)
        .map_err(|_| SweepError::NoQuarantine { name: name.to_owned(), target: target.to_owned() })?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let list = rustix::fs::openat(&folder, MOVED, flags, Mode::empty())
        .map_err(|error| io("read", target.join(&below).join(MOVED), error))?;
    let mut restored = Restored { name: name.to_owned(), ..Restored::default() };
    let profiles = crate::find::profiles(target).map_err(|error| io("list", target, error))?;
    let locks = apply::lock(&root, profiles.iter().map(String::as_str), wait)?;
    if let Some(profile) = locks.busy.first() {
        restored.left.push((below, format!("a build runs in `{profile}`")));
        return Ok(restored);
    }
    let mut moved: Vec<Moved> = Vec::new();
    for line in std::io::BufReader::new(std::fs::File::from(list)).split(b'\n').take(LINES_MAX) {
        let Ok(line) = line else { break };
        // A line that a crash cut short has moved nothing.
        moved.extend(serde_json::from_slice::<Moved>(&line).ok());
    }
    // The fingerprints last: until then Cargo knows nothing of what is put back.
    for one in moved.iter().rev() {
        let path = Path::new(&one.path);
        match put_back(&root, &folder, one.number, path) {
            Ok(true) => restored.parts += 1,
            Ok(false) => {}
            Err(error) => restored.left.push((path.to_owned(), error.to_string())),
        }
    }
    // What no line of a damaged list names is still the user's.
    let known: HashSet<String> = moved.iter().map(|one| one.number.to_string()).collect();
    for entry in rustix::fs::Dir::read_from(&folder).into_iter().flatten().flatten() {
        let entry = entry.file_name().to_string_lossy().into_owned();
        if !matches!(entry.as_str(), "." | ".." | MOVED) && !known.contains(&entry) {
            restored.left.push((below.join(entry), "no line of the list says where it was".to_owned()));
        }
    }
    if restored.left.is_empty() {
        drop_one(target, name)?;
    }
    Ok(restored)
}

fn put_back(root: &OwnedFd, folder: &OwnedFd, number: u64, path: &Path) -> std::io::Result<bool> {
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(std::io::Error::other("it is no path below the target directory"));
    }
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let from = number.to_string();
    match rustix::fs::statat(folder, &from, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    let mut above = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        let step = Path::new(part.as_os_str());
        above = match open_below(&above, step) {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&above, step, Mode::from_raw_mode(0o755))?;
                open_below(&above, step)?
            }
            other => other?,
        };
    }
    rustix::fs::renameat_with(folder, &from, &above, name, RenameFlags::NOREPLACE)?;
    Ok(true)
}

/// Removes the quarantine `name` for good.
///
/// # Errors
/// Something in it cannot be removed.
pub fn drop_one(target: &Path, name: &str) -> Result<(), SweepError> {
    let root = apply::open_target(target)?;
    let at = |error: std::io::Error| io("remove", target.join(FOLDER).join(name), error);
    let device = rustix::fs::fstat(&root).map_err(|error| at(error.into()))?.st_dev;
    let above = match open_below(&root, Path::new(FOLDER)) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(|error| at(error.into()))?,
    };
    let c_name = CString::new(std::ffi::OsStr::new(name).as_bytes()).map_err(|error| at(error.into()))?;
    remove_tree(&above, &c_name, device, 0, &mut 0).map_err(at)?;
    // The folder above goes with the last.
    let _others = rustix::fs::unlinkat(&root, FOLDER, rustix::fs::AtFlags::REMOVEDIR);
    Ok(())
}

/// Removes the quarantines that were made before `before_us`, µs since 1970; how many.
///
/// # Errors
/// One cannot be removed.
pub fn drop_older(target: &Path, before_us: u64) -> Result<u64, SweepError> {
    let mut dropped = 0;
    for name in names(target) {
        let made = std::fs::symlink_metadata(target.join(FOLDER).join(&name).join(MOVED));
        let made = made.and_then(|found| found.modified()).ok();
        let made_us = made
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| u64::try_from(since.as_micros()).ok());
        if made_us.is_some_and(|made| made < before_us) {
            drop_one(target, &name)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}
