//! Whether anything a build would look at has changed since one that found everything in place:
//! `stat`s then → `stat`s now. Knows no manifest, no keys and no digests of files.
//!
//! A build in which nothing had to be done writes down the `stat` of all it looked at: the manifest, every
//! input, every folder it listed, every ignore file, every output, every tool, and what it looked for and did
//! not find. While all of that is as it was, the next build of the same request would find the same, so it
//! need not parse, walk or hash. Trusted like the digest cache, and no further: only what was settled, older
//! than a tick of its file system's clock when it was read, is written down; else nothing is.
//!
//! ```text
//! .spolia/fresh/REQUEST = "spolia fresh 2\n" checksum32 body       checksum = BLAKE3(body)
//! body    = u64le(noted_at_us) text(env) text(project) text(summary) text(steps) u32le(count) record{count}
//! record  = u16le(length) path u8(follow) ('n' | 's' u32le(mode) stat40)      'n': nothing is there
//! stat40  = u64le(dev) u64le(ino) u64le(size) i64le(mtime_ns) i64le(ctime_ns)
//! text    = u32le(length) bytes           paths are relative to the project's folder, or absolute
//! ```
//!
//! `REQUEST` is a digest of what was asked and by whom; another request has a file of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use spolia_core::event::{StepId, Summary};
use spolia_core::{ActionKey, Cost, Digest};
use spolia_store::StatKey;

const MAGIC: &[u8] = b"spolia fresh 2\n";
/// Longer than this it is not believed: last uses are noted by a full build once a day.
const BELIEVED_US: u64 = 20 * 60 * 60 * 1_000_000;
/// How many requests are remembered for one tree.
const REQUESTS_MAX: usize = 16;

/// What stood at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// This, with its mode.
    Stat(u32, StatKey),
}

impl Seen {
    /// What stands there now. `None`: it cannot be told.
    pub fn at(folder: impl rustix::fd::AsFd, path: &Path, follow: bool) -> Option<Self> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match rustix::fs::statat(folder, path, flags) {
            Ok(stat) => Some(Self::of(&stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Some(Self::Nothing),
            Err(_) => None,
        }
    }

    /// From the result of a system call.
    pub fn of(stat: &rustix::fs::Stat) -> Self {
        Self::Stat(stat.st_mode, StatKey::of(stat))
    }
}

/// One step that was in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshStep {
    /// Which.
    pub id: StepId,
    /// Its key.
    pub key: ActionKey,
    /// What its recorded run cost.
    pub saved: Cost,
}

/// What a build found that looked at the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The project's name, where the manifest gives one.
    pub project: Option<String>,
    /// Its counts.
    pub summary: Summary,
    /// Its steps, each in place.
    pub steps: Vec<FreshStep>,
}

/// All that a build looked at, and what it found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fresh {
    /// When it was found so, µs since 1970.
    pub noted_at_us: u64,
    /// The project's name, where the manifest gives one.
    pub project: Option<String>,
    /// The counts of that build.
    pub summary: Summary,
    /// Its steps.
    pub steps: Vec<FreshStep>,
    /// Variables of the caller that were looked at, with the digests of their values.
    pub env: Vec<(String, Option<[u8; 32]>)>,
    /// What stood where, and whether links were followed to it.
    pub seen: BTreeMap<(PathBuf, bool), Seen>,
}

impl Fresh {
    /// Looks at `paths` below `root` and keeps what stands there. False, and of no use any more, if one
    /// of them is not settled: `settled_ns` says since when a file of this file system must be untouched.
    pub fn look(
        &mut self,
        root: &Path,
        paths: impl IntoIterator<Item = PathBuf>,
        follow: bool,
        settled_ns: &dyn Fn(u64) -> i64,
    ) -> bool {
        let Ok(folder) = open(root) else { return false };
        for path in paths {
            let Some(seen) = Seen::at(&folder, &path, follow) else { return false };
            if let Seen::Stat(_, key) = seen
                && !key.is_settled(settled_ns(key.dev))
            {
                return false;
            }
            self.seen.insert((path, follow), seen);
        }
        true
    }
}

/// What a build needs to write down that everything was fresh.
pub struct Request {
    /// Where.
    pub file: PathBuf,
    /// The manifest and what it includes, relative to the project's folder.
    pub manifests: Vec<PathBuf>,
    /// The project's file system.
    pub dev: u64,
    /// The time by its clock before anything was looked at, ns since 1970.
    pub began_ns: i64,
    /// The same for other file systems: by the machine's clock, with a margin for theirs.
    pub elsewhere_ns: i64,
}

impl Request {
    /// Since when a file must be untouched.
    pub fn settled_ns(&self, dev: u64) -> i64 {
        if dev == self.dev { self.began_ns } else { self.elsewhere_ns }
    }
}

fn open(root: &Path) -> Result<rustix::fd::OwnedFd, Errno> {
    rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What a variable's value is remembered by.
pub fn value_digest(value: Option<std::ffi::OsString>) -> Option<[u8; 32]> {
    value.map(|value| *Digest::blake3(value.as_bytes()).as_bytes())
}

/// Where the memory of a request lies.
pub fn path(root: &Path, request: &Digest) -> PathBuf {
    root.join(crate::build::OWN_FOLDER).join("fresh").join(&request.to_hex()[..24])
}

/// What was found by the build that wrote `path`, if all it looked at is as it was.
pub fn check(
    root: &Path,
    path: &Path,
    now_us: u64,
    caller_env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Option<Found> {
    let raw = std::fs::read(path).ok()?;
    let rest = raw.strip_prefix(MAGIC)?;
    let (checksum, body) = rest.split_at_checked(32)?;
    if Digest::blake3(body).as_bytes() != checksum {
        return None;
    }
    let mut reader = Reader(body);
    let noted_at_us = reader.u64()?;
    if noted_at_us > now_us || now_us - noted_at_us > BELIEVED_US {
        return None;
    }
    let env: Vec<(String, Option<[u8; 32]>)> = postcard::from_bytes(reader.text()?).ok()?;
    if env.iter().any(|(name, value)| value_digest(caller_env(name)) != *value) {
        return None;
    }
    let project = reader.text()?;
    let summary = reader.text()?;
    let steps = reader.text()?;
    let count = reader.u32()?;
    let folder = open(root).ok()?;
    for _ in 0..count {
        let (path, follow, seen) = reader.record()?;
        if Seen::at(&folder, path, follow)? != seen {
            return None;
        }
    }
    if !reader.0.is_empty() {
        return None;
    }
    Some(Found {
        project: postcard::from_bytes(project).ok()?,
        summary: postcard::from_bytes(summary).ok()?,
        steps: postcard::from_bytes(steps).ok()?,
    })
}

/// Writes it down, whole or not at all.
///
/// # Errors
/// Those of writing; losing it costs time only.
pub fn write(path: &Path, fresh: &Fresh) -> std::io::Result<()> {
    let mut body = Vec::with_capacity(fresh.seen.len() * 96);
    body.extend_from_slice(&fresh.noted_at_us.to_le_bytes());
    let text = |body: &mut Vec<u8>, bytes: Vec<u8>| {
        body.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        body.extend_from_slice(&bytes);
    };
    text(&mut body, postcard::to_stdvec(&fresh.env).map_err(std::io::Error::other)?);
    text(&mut body, postcard::to_stdvec(&fresh.project).map_err(std::io::Error::other)?);
    text(&mut body, postcard::to_stdvec(&fresh.summary).map_err(std::io::Error::other)?);
    text(&mut body, postcard::to_stdvec(&fresh.steps).map_err(std::io::Error::other)?);
    body.extend_from_slice(&u32::try_from(fresh.seen.len()).unwrap_or(u32::MAX).to_le_bytes());
    for ((path, follow), seen) in &fresh.seen {
        let raw = path.as_os_str().as_bytes();
        let length = u16::try_from(raw.len()).map_err(std::io::Error::other)?;
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(raw);
        body.push(u8::from(*follow));
        match seen {
            Seen::Nothing => body.push(b'n'),
            Seen::Stat(mode, key) => {
                body.push(b's');
                body.extend_from_slice(&mode.to_le_bytes());
                for number in [key.dev, key.ino, key.size] {
                    body.extend_from_slice(&number.to_le_bytes());
                }
                for number in [key.mtime_ns, key.ctime_ns] {
                    body.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
    }
    let mut raw = MAGIC.to_vec();
    raw.extend_from_slice(Digest::blake3(&body).as_bytes());
    raw.extend_from_slice(&body);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    make_room(folder);
    let staged = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::write(&staged, raw).and_then(|()| std::fs::rename(&staged, path));
    if written.is_err() {
        let _gone = std::fs::remove_file(&staged);
    }
    written
}

fn make_room(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if files.len() >= REQUESTS_MAX {
        for file in files {
            let _gone = std::fs::remove_file(file);
        }
    }
}

struct Reader<'r>(&'r [u8]);

impl<'r> Reader<'r> {
    fn take(&mut self, length: usize) -> Option<&'r [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'r [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn record(&mut self) -> Option<(&'r Path, bool, Seen)> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let path = Path::new(OsStr::from_bytes(self.take(length)?));
        let [follow] = self.array()?;
        let seen = match self.array::<1>()? {
            [b'n'] => Seen::Nothing,
            [b's'] => {
                let mode = self.u32()?;
                let (dev, ino, size) = (self.u64()?, self.u64()?, self.u64()?);
                Seen::Stat(mode, StatKey { dev, ino, size, mtime_ns: self.i64()?, ctime_ns: self.i64()? })
            }
            _ => return None,
        };
        Some((path, follow != 0, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_until_anything_differs() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::write(root.join("a"), "1").unwrap();
        std::fs::create_dir(root.join("dir")).unwrap();
        let folder = std::fs::File::open(root).unwrap();
        let names = ["a", "dir", "absent", "a/below"];
        let seen = names.map(|name| {
            let seen = Seen::at(&folder, Path::new(name), false).unwrap();
            ((PathBuf::from(name), false), seen)
        });
        assert_eq!(seen[2].1, Seen::Nothing);
        let fresh = Fresh { noted_at_us: 5, seen: BTreeMap::from(seen), ..Fresh::default() };
        let file = path(root, &Digest::blake3(b"request"));
        write(&file, &fresh).unwrap();
        assert!(check(root, &file, 6, &|_| None).is_some());
        assert!(check(root, &file, 4, &|_| None).is_none(), "the clock went back");
        assert!(check(root, &file, 6 + BELIEVED_US, &|_| None).is_none());
        std::fs::write(root.join("dir/new"), "").unwrap();
        assert!(check(root, &file, 6, &|_| None).is_none(), "a folder changed");
        write(&file, &Fresh { seen: BTreeMap::new(), ..fresh.clone() }).unwrap();
        assert!(check(root, &file, 6, &|_| None).is_some());
        let raw = std::fs::read(&file).unwrap();
        for at in 0..raw.len() {
            let mut flipped = raw.clone();
            flipped[at] ^= 0x40;
            std::fs::write(&file, &flipped).unwrap();
            assert!(check(root, &file, 6, &|_| None).is_none(), "byte {at}");
        }
        write(&file, &fresh).unwrap();
        std::fs::remove_dir_all(root.join("dir")).unwrap();
        std::fs::write(root.join("absent"), "").unwrap();
        assert!(check(root, &file, 6, &|_| None).is_none());
    }
}
