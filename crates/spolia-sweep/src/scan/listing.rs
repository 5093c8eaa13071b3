//! Which folders of a target directory are gone through, and their names in portions: `directory → Batch…`.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use rustix::fs::{AtFlags, FileType, RawDir};

use super::walk::Walker;
use super::{Folder, Place, open_below};
use crate::names;

/// About so many bytes of names are handed to a thread at once.
const BATCH_BYTES: usize = 16 << 10;
/// What the kernel is asked for at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Folders with what tools made of finished programs, in one folder for each profile.
const TOOLS: &[&str] = &["wasm-bindgen", "wasm-opt"];
/// Folders beside the profiles that are Cargo's.
const BESIDE: &[(&str, Place)] = &[
    ("doc", Place::Doc),
    ("package", Place::Package),
    ("tmp", Place::Scratch),
    ("cargo-timings", Place::Timings),
];

/// Names in a folder, each a byte that says whether it is a folder, its bytes and a NUL.
#[derive(Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
}

/// Where a name begins in [`Names`].
pub(super) type At = usize;

impl Names {
    pub(super) fn push(&mut self, name: &CStr, is_folder: bool) {
        self.bytes.push(u8::from(is_folder));
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    pub(super) fn end(&self) -> At {
        self.bytes.len()
    }

    pub(super) fn name(&self, at: At) -> &CStr {
        let rest = self.bytes.get(at + 1..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).unwrap_or_default()
    }

    pub(super) fn is_folder(&self, at: At) -> bool {
        self.bytes.get(at).is_some_and(|byte| *byte == 1)
    }

    /// The name after this one.
    pub(super) fn next(&self, at: At) -> At {
        at + self.name(at).to_bytes_with_nul().len() + 1
    }

    pub(super) fn truncate(&mut self, end: At) {
        self.bytes.truncate(end);
    }
}

/// What the kernel writes names into.
pub(super) struct Buffer(Vec<MaybeUninit<u8>>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(vec![MaybeUninit::uninit(); BUFFER_BYTES])
    }

    /// Tells `each` the names in a folder that was not read yet.
    pub(super) fn list(&mut self, fd: &OwnedFd, mut each: impl FnMut(&CStr, bool)) -> rustix::io::Result<()> {
        let mut entries = RawDir::new(fd, &mut self.0);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Not every file system says it here.
                FileType::Unknown => rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                kind => kind,
            };
            each(name, kind == FileType::Directory);
        }
        Ok(())
    }
}

/// Some of a folder's children, for a thread.
pub(super) struct Batch {
    pub(super) folder: Arc<Open>,
    pub(super) names: Names,
}

/// A folder that is gone through.
pub(super) struct Open {
    pub(super) fd: OwnedFd,
    /// Its place in [`super::Scan::folders`].
    pub(super) number: u32,
    pub(super) folder: Folder,
}

pub(super) struct Lister<'l> {
    profiles: &'l [String],
    /// Folders that are target directories of their own.
    nested: HashSet<PathBuf>,
    /// Looks at what the other threads cannot take at once.
    own: Walker<'l>,
    /// To the other threads, where there are any.
    sender: Option<mpsc::SyncSender<Batch>>,
    buffer: Buffer,
    folders: Vec<Folder>,
    unreadable: Vec<(PathBuf, String)>,
}

impl<'l> Lister<'l> {
    pub(super) fn new(
        profiles: &'l [String],
        nested: HashSet<PathBuf>,
        own: Walker<'l>,
        sender: Option<mpsc::SyncSender<Batch>>,
    ) -> Self {
        let (folders, unreadable) = (Vec::new(), Vec::new());
        Self { profiles, nested, own, sender, buffer: Buffer::new(), folders, unreadable }
    }

    /// The folders, what could not be read, and who looked at what nobody else took. Lets the threads end.
    pub(super) fn finish(self) -> (Vec<Folder>, Vec<(PathBuf, String)>, Walker<'l>) {
        (self.folders, self.unreadable, self.own)
    }

    /// Goes through the target directory `root`.
    pub(super) fn all(&mut self, root: &OwnedFd) {
        for profile in self.profiles {
            let name: Arc<str> = profile.as_str().into();
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
        self.beside(root);
    }

    /// What lies in a target directory beside the profiles.
    fn beside(&mut self, root: &OwnedFd) {
        let none: Arc<str> = "".into();
        for (path, place) in BESIDE {
            self.folder(root, PathBuf::from(path), *place, &none, None);
        }
        for path in self.folders_in(root, Path::new("")) {
            let name = path.to_str().unwrap_or_default();
            if name.starts_with('.')
                || BESIDE.iter().any(|(known, _)| *known == name)
                || self.profiles.iter().any(|profile| profile.split('/').next() == Some(name))
                || self.nested.contains(&path)
            {
                continue;
            }
            if TOOLS.contains(&name) {
                // A folder for each profile.
                for profile in self.folders_in(root, &path) {
                    self.folder(root, path.join(profile), Place::Tool, &none, None);
                }
            } else {
                self.folder(root, path, Place::Other, &none, None);
            }
        }
    }

    /// Folders in one that can be listed.
    fn folders_in(&mut self, root: &OwnedFd, path: &Path) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let Ok(fd) = open_below(root, path) else { return folders };
        let _unlisted = self.buffer.list(&fd, |name, is_folder| {
            if is_folder {
                folders.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
            }
        });
        folders
    }

    fn folder(
        &mut self,
        root: &OwnedFd,
        path: PathBuf,
        place: Place,
        profile: &Arc<str>,
        package: Option<Box<str>>,
    ) {
        let fd = match open_below(root, &path) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return,
            Err(error) => return self.unreadable.push((path, error.to_string())),
        };
        let folder = Folder { place, profile: Arc::clone(profile), path: path.as_path().into(), package };
        let number = u32::try_from(self.folders.len()).unwrap_or(u32::MAX);
        self.folders.push(folder.clone());
        // In the new layout there is a folder for each package, and its units are in it.
        let has_packages = place == Place::Build;
        let mut packages = Vec::new();
        let fd_of_list = match rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 0) {
            Ok(fd) => fd,
            Err(error) => return self.unreadable.push((path, error.to_string())),
        };
        let folder = Arc::new(Open { fd, number, folder });
        let mut names = Names::default();
        let (sender, own) = (&self.sender, &mut self.own);
        let mut send = |names: &mut Names| {
            let batch = Batch { folder: Arc::clone(&folder), names: std::mem::take(names) };
            let back = match sender {
                Some(sender) => sender.try_send(batch),
                None => Err(mpsc::TrySendError::Full(batch)),
            };
            // A worker that is gone has panicked, which is seen where it is joined.
            if let Err(mpsc::TrySendError::Full(batch)) = back {
                own.batch(batch);
            }
        };
        let listed = self.buffer.list(&fd_of_list, |name, is_folder| {
            let text = name.to_str().ok();
            if has_packages
                && is_folder
                && let Some(text) = text
                && names::split_unit(text).is_none()
            {
                return packages.push(text.to_owned());
            }
            names.push(name, is_folder);
            if names.end() >= BATCH_BYTES {
                send(&mut names);
            }
        });
        if names.end() > 0 {
            send(&mut names);
        }
        if let Err(error) = listed {
            self.unreadable.push((path.clone(), error.to_string()));
        }
        for package in packages {
            self.folder(root, path.join(&package), Place::Unit, profile, Some(package.as_str().into()));
        }
    }
}
