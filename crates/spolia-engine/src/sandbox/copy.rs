//! Copies declared inputs into the private tree: host folder → scratch folder. Knows no namespace.
//!
//! Each file is a reflink where the file system can, else a copy; never a hard link, which would change the user's
//! file (its ctime) and show the command's writes through. Mode and mtime are kept, the owner is the sandbox's user.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::root::Context as _;
use super::spec::{Bytes, ProjectRoot, Stage, StartError};

/// Files up to this size go through one buffer; larger ones are copied inside the kernel.
const BUFFER_BYTES: usize = 128 * 1024;

/// Deeper folders than this are refused instead of overflowing the stack.
const DEPTH_MAX: usize = 512;

/// Files up to this size may be staged in memory, up to this much of them together.
const MEMORY_FILE_BYTES_MAX: u64 = 256 * 1024;
const MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Copies from the host's project folder.
pub(super) struct Copier {
    host: OwnedFd,
    buffer: Vec<u8>,
    reflink: bool,
}

/// Where copies go.
struct Places<'a> {
    disk: OwnedFd,
    memory: Option<&'a OwnedFd>,
    memory_left: u64,
    /// Folders in the first place: in memory, if there is any.
    made: HashSet<Vec<u8>>,
    made_on_disk: HashSet<Vec<u8>>,
}

/// Where one copy goes.
enum Place<'a> {
    Disk(&'a OwnedFd),
    Memory(&'a OwnedFd),
}

impl Copier {
    pub(super) fn new(host: OwnedFd) -> Self {
        Self { host, buffer: Vec::new(), reflink: true }
    }

    pub(super) fn host(&self) -> &OwnedFd {
        &self.host
    }

    /// Copies single files and makes folders, those for whole folders too: into `disk`, or with `memory` small ones there
    /// and large ones into `disk`.
    pub(super) fn copy_all(
        &mut self,
        project: &ProjectRoot,
        disk: OwnedFd,
        memory: Option<&OwnedFd>,
    ) -> Result<(), StartError> {
        let (made, made_on_disk) = (HashSet::new(), HashSet::new());
        let mut places = Places { disk, memory, memory_left: MEMORY_BYTES_MAX, made, made_on_disk };
        for path in project.dirs.iter().chain(&project.whole_dirs) {
            places.make_dir(&path.0)?;
        }
        for path in &project.files {
            parent(&path.0).map_or(Ok(()), |parent| places.make_dir(parent))?;
        }
        // Links last: a link that took the place of a folder would lead what follows out of the tree.
        let mut links = Vec::new();
        for path in &project.files {
            if !self.copy_file(path.as_path(), &mut places)? {
                links.push(path);
            }
        }
        for path in links {
            copy_link(&self.host, places.first(), path.as_path()).at(Stage::Input, path.as_path())?;
        }
        Ok(())
    }

    /// False: it is a link, and nothing was done.
    fn copy_file(&mut self, path: &Path, places: &mut Places<'_>) -> Result<bool, StartError> {
        check_relative(path.as_os_str().as_bytes())?;
        let source = match open_source(&self.host, path) {
            Err(Errno::LOOP) => return Ok(false),
            other => other.at(Stage::Input, path)?,
        };
        let mut no_reflink = false;
        let (to, reflink) = match places.choose(path, source.1.st_size)? {
            Place::Disk(to) => (to, &mut self.reflink),
            Place::Memory(to) => (to, &mut no_reflink),
        };
        copy_regular(&source, to, path, &mut self.buffer, reflink).at(Stage::Input, path)?;
        Ok(true)
    }

    /// Copies a whole folder over the one that `to` names. What is neither file, folder nor link is left out.
    pub(super) fn copy_dir(&mut self, relative: &Bytes, to: &str) -> Result<(), StartError> {
        let path = relative.as_path();
        let from = open_dir(&self.host, path).at(Stage::Input, path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let to = rustix::fs::open(to, flags, Mode::empty()).at(Stage::Input, path)?;
        self.copy_entries(from, to, path, 0)
    }

    fn copy_entries(
        &mut self,
        from: OwnedFd,
        to: OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), StartError> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG).at(Stage::Input, path);
        }
        let entries = Dir::read_from(&from).at(Stage::Input, path)?;
        for entry in entries {
            let entry = entry.at(Stage::Input, path)?;
            let name = Path::new(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()));
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let full = path.join(name);
            let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW).at(Stage::Input, &full)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let source = open_source(&from, name).at(Stage::Input, &full)?;
                    let copied = copy_regular(&source, &to, name, &mut self.buffer, &mut self.reflink);
                    unless_there(copied).at(Stage::Input, &full)?;
                }
                FileType::Symlink => unless_there(copy_link(&from, &to, name)).at(Stage::Input, &full)?,
                FileType::Directory => {
                    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700);
                    unless_there(rustix::fs::mkdirat(&to, name, mode)).at(Stage::Input, &full)?;
                    let inner_from = open_dir(&from, name).at(Stage::Input, &full)?;
                    let inner_to = open_dir(&to, name).at(Stage::Input, &full)?;
                    self.copy_entries(inner_from, inner_to, &full, depth + 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Places<'_> {
    fn first(&self) -> &OwnedFd {
        self.memory.unwrap_or(&self.disk)
    }

    fn make_dir(&mut self, path: &[u8]) -> Result<(), StartError> {
        make_dir(self.memory.unwrap_or(&self.disk), &mut self.made, path)
    }

    /// The folder a file of this size goes to.
    fn choose(&mut self, path: &Path, size: i64) -> Result<Place<'_>, StartError> {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let Some(memory) = self.memory else { return Ok(Place::Disk(&self.disk)) };
        if size <= MEMORY_FILE_BYTES_MAX && size <= self.memory_left {
            self.memory_left -= size;
            return Ok(Place::Memory(memory));
        }
        if let Some(parent) = parent(path.as_os_str().as_bytes()) {
            make_dir(&self.disk, &mut self.made_on_disk, parent)?;
        }
        Ok(Place::Disk(&self.disk))
    }
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').map(|slash| &path[..slash])
}

/// Makes a folder and its parents, unless they were made before.
fn make_dir(tree: &OwnedFd, made: &mut HashSet<Vec<u8>>, path: &[u8]) -> Result<(), StartError> {
    if made.contains(path) {
        return Ok(());
    }
    check_relative(path)?;
    if let Some(parent) = parent(path) {
        make_dir(tree, made, parent)?;
    }
    let name = Path::new(std::ffi::OsStr::from_bytes(path));
    rustix::fs::mkdirat(tree, name, Mode::from_raw_mode(0o755)).at(Stage::Input, name)?;
    made.insert(path.to_vec());
    Ok(())
}

/// What was declared singly as well is there already.
fn unless_there(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}

/// A path of the spec may not leave the tree.
fn check_relative(path: &[u8]) -> Result<(), StartError> {
    let bad =
        path.is_empty() || path.split(|byte| *byte == b'/').any(|name| matches!(name, b"" | b"." | b".."));
    if bad { Err(Errno::INVAL).at(Stage::Input, std::ffi::OsStr::from_bytes(path)) } else { Ok(()) }
}

fn open_dir(at: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// A regular file and what it is; `ELOOP` if it is a link.
fn open_source(from: &OwnedFd, path: &Path) -> Result<(OwnedFd, Stat), Errno> {
    // NONBLOCK: a fifo in a file's place must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((source, stat)),
        _ => Err(Errno::INVAL),
    }
}

fn copy_regular(
    (source, stat): &(OwnedFd, Stat),
    to: &OwnedFd,
    path: &Path,
    buffer: &mut Vec<u8>,
    reflink: &mut bool,
) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // No set-id bits: the copy belongs to someone else.
    let target = rustix::fs::openat(to, path, flags, Mode::from_raw_mode(stat.st_mode & 0o777))?;
    copy_content(source, &target, stat, buffer, reflink)?;
    let mtime = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(&target, &Timestamps { last_access: mtime, last_modification: mtime })
}

fn copy_content(
    source: &OwnedFd,
    target: &OwnedFd,
    stat: &Stat,
    buffer: &mut Vec<u8>,
    reflink: &mut bool,
) -> Result<(), Errno> {
    let size = usize::try_from(stat.st_size).map_err(|_| Errno::FBIG)?;
    if size == 0 {
        return Ok(());
    }
    if *reflink {
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => return Ok(()),
            // This file system or pair of file systems cannot; no need to ask for each file.
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => *reflink = false,
            Err(_) => {}
        }
    }
    if size > BUFFER_BYTES && copy_in_kernel(source, target)? {
        return Ok(());
    }
    copy_through(source, target, size, buffer)
}

fn copy_through(source: &OwnedFd, target: &OwnedFd, size: usize, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    // One more than is expected, so that a read that fills it says that there is more.
    buffer.clear();
    buffer.reserve(size.min(BUFFER_BYTES) + 1);
    let mut copied = 0;
    loop {
        buffer.clear();
        let count = rustix::io::read(source, rustix::buffer::spare_capacity(buffer))?;
        write_all(target, buffer)?;
        copied += count;
        // Short and all of it: spares the read that would say so.
        if count == 0 || (count < buffer.capacity() && copied >= size) {
            return Ok(());
        }
    }
}

fn write_all(target: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::write(target, bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// False: this kernel cannot, between these two file systems, and nothing was copied.
fn copy_in_kernel(source: &OwnedFd, target: &OwnedFd) -> Result<bool, Errno> {
    let mut copied = false;
    loop {
        match rustix::fs::copy_file_range(source, None, target, None, 1 << 30) {
            Ok(0) => return Ok(copied),
            Ok(_) => copied = true,
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !copied => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn copy_link(from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let target = rustix::fs::readlinkat(from, path, Vec::with_capacity(256))?;
    rustix::fs::symlinkat(target, to, path)
}
