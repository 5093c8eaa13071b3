//! Writing a file of the store so that it appears whole or not at all. Knows no content.
//!
//! Every system call that changes the disk goes through [`LocalStore::step`] first, so that a test can
//! stop the store dead at any of them.

use std::fs::File;
use std::hash::{BuildHasher, Hasher as _};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{CHUNK_BYTES, Form, LocalStore, io};
use crate::hash::At;
use crate::store::{Entry, Put, StoreError};

/// How many names are tried for a temporary file before giving up.
const TEMP_NAMES_MAX: usize = 16;

/// Any temporary file or folder goes when it is older than this.
const TEMP_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// One change of the disk that the store is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A folder is made.
    MakeFolder,
    /// A file is created in `tmp/`.
    CreateTemp,
    /// Bytes are written to it.
    Write,
    /// It gets its name, by a rename or as its first one.
    Rename,
    /// It is removed because it was not wanted after all.
    RemoveTemp,
    /// A published entry is removed.
    Remove,
}

/// Asked before each [`Step`]. An error is what the system call would have given; one that answers with
/// an error for ever after is a crash, since nothing is cleaned up then either.
pub trait Faults: Send + Sync {
    /// Whether the step on `path` may happen.
    fn before(&self, step: Step, path: &Path) -> std::io::Result<()>;
}

/// A file that is not published yet; gone where it never is.
pub(crate) struct Temp<'s> {
    store: &'s LocalStore,
    /// Its name in `tmp/`; that folder where it has none.
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Whether it has that name, and has to be removed.
    named: bool,
}

/// How a file that has no name gets its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Naming {
    /// Not tried yet.
    Unknown,
    /// By its descriptor (Linux 6.10, or with the right to).
    Descriptor,
    /// By way of `/proc`.
    Proc,
    /// Not at all: every file is made with a name.
    Never,
}

/// What was found to work for the files of one store. Where a file system makes files without a name, they save one
/// entry in `tmp/` that is made and removed again, and leave nothing there when their process is killed.
#[derive(Default)]
pub(super) struct Namings(AtomicU8);

impl Namings {
    fn get(&self) -> Naming {
        match self.0.load(Ordering::Relaxed) {
            1 => Naming::Descriptor,
            2 => Naming::Proc,
            3 => Naming::Never,
            _ => Naming::Unknown,
        }
    }

    fn set(&self, naming: Naming) {
        self.0.store(naming as u8, Ordering::Relaxed);
    }
}

impl Temp<'_> {
    /// Appends all of `bytes`.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.step(Step::Write, &self.path)?;
        (&self.file).write_all(bytes).map_err(|source| io("write", &self.path, source))
    }

    /// Its length, bytes.
    pub(crate) fn size(&self) -> Result<u64, StoreError> {
        let metadata = self.file.metadata().map_err(|source| io("look up", &self.path, source))?;
        Ok(metadata.len())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.named && self.store.step(Step::RemoveTemp, &self.path).is_ok() {
            // Best effort: what stays is collected later.
            let _unremoved = rustix::fs::unlink(&self.path);
        }
    }
}

impl LocalStore {
    /// Asks the fault plan, if there is one.
    pub(crate) fn step(&self, step: Step, path: &Path) -> Result<(), StoreError> {
        match &self.faults {
            None => Ok(()),
            Some(faults) => faults.before(step, path).map_err(|source| io(verb(step), path, source)),
        }
    }

    /// A new file on the store's file system, mode 0444 less the umask: nobody has a reason to write to it later.
    pub(crate) fn temp(&self) -> Result<Temp<'_>, StoreError> {
        match self.namings.get() {
            Naming::Never => self.named_temp(0o444),
            _ => self.nameless_temp(),
        }
    }

    fn nameless_temp(&self) -> Result<Temp<'_>, StoreError> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let folder = self.layout.tmp();
        for may_make in [true, false] {
            self.step(Step::CreateTemp, &folder)?;
            match rustix::fs::open(&folder, flags, Mode::from_raw_mode(0o444)) {
                Ok(fd) => return Ok(Temp { store: self, path: folder, file: File::from(fd), named: false }),
                Err(Errno::NOENT | Errno::NOTDIR) if may_make => self.make_folder(&folder)?,
                // Not here, or something else is wrong, which is then said.
                Err(_) => break,
            }
        }
        let temp = self.named_temp(0o444)?;
        self.namings.set(Naming::Never);
        Ok(temp)
    }

    /// A new file with a name in `tmp/`.
    fn named_temp(&self, mode: u32) -> Result<Temp<'_>, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut made_folder = false;
        let mut path = PathBuf::new();
        for _ in 0..TEMP_NAMES_MAX {
            path = self.scratch();
            self.step(Step::CreateTemp, &path)?;
            match rustix::fs::open(&path, flags, Mode::from_raw_mode(mode)) {
                Ok(fd) => return Ok(Temp { store: self, path, file: File::from(fd), named: true }),
                Err(Errno::EXIST | Errno::INTR) => {}
                Err(Errno::NOENT | Errno::NOTDIR) if !made_folder => {
                    made_folder = true;
                    self.make_folder(&self.layout.tmp())?;
                }
                Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => {
                    return Err(StoreError::ReadOnly { name: self.name() });
                }
                Err(errno) => return Err(io("create", &path, errno)),
            }
        }
        Err(io("create", &path, Errno::EXIST))
    }

    /// Gives `temp` the name of `entry`.
    pub(crate) fn publish(
        &self,
        temp: Temp<'_>,
        entry: Entry,
        form: Form,
        bytes: u64,
    ) -> Result<Put, StoreError> {
        self.place(temp, &self.layout.entry(entry, form))?;
        self.added_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Put::Stored { bytes })
    }

    /// Writes a small file whole, replacing an earlier one.
    pub(crate) fn write_file(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let temp = self.named_temp(0o444)?;
        temp.write(content)?;
        self.rename(temp, path)
    }

    /// The same for a file that later runs may append to.
    pub(crate) fn write_loose(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let temp = self.named_temp(0o666)?;
        temp.write(content)?;
        self.rename(temp, path)
    }

    /// Gives `temp` its name, in place of whatever has it.
    pub(crate) fn place(&self, temp: Temp<'_>, target: &Path) -> Result<(), StoreError> {
        if temp.named {
            return self.rename(temp, target);
        }
        for may_make in [true, false] {
            self.step(Step::Rename, target)?;
            match self.link(&temp, target) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT | Errno::NOTDIR) if may_make => {
                    if let Some(folder) = target.parent() {
                        self.make_folder(folder)?;
                    }
                }
                // Only a rename replaces what is there at once.
                Err(Errno::EXIST) => {
                    let temp = self.named(temp)?;
                    return self.rename(temp, target);
                }
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS)) => {
                    return Err(io("rename to", target, errno));
                }
                Err(_) => break,
            }
        }
        // It cannot get a name at all, though it could be made without one.
        let copy = self.named_copy(&temp)?;
        self.rename(copy, target)?;
        self.namings.set(Naming::Never);
        Ok(())
    }

    /// Gives a file that has no name its first one.
    fn link(&self, temp: &Temp<'_>, target: &Path) -> Result<(), Errno> {
        let naming = self.namings.get();
        if naming != Naming::Proc {
            let linked = rustix::fs::linkat(&temp.file, "", CWD, target, AtFlags::EMPTY_PATH);
            if linked.is_ok() {
                self.namings.set(Naming::Descriptor);
            }
            // Where it takes a right that we have not, the kernel says the same as of a folder that is missing.
            if naming == Naming::Descriptor || linked != Err(Errno::NOENT) {
                return linked;
            }
        }
        let path = format!("/proc/self/fd/{}", temp.file.as_raw_fd());
        rustix::fs::linkat(CWD, path, CWD, target, AtFlags::SYMLINK_FOLLOW)?;
        self.namings.set(Naming::Proc);
        Ok(())
    }

    /// `temp` with a name in `tmp/`.
    fn named<'s>(&'s self, mut temp: Temp<'s>) -> Result<Temp<'s>, StoreError> {
        let path = self.scratch();
        self.step(Step::CreateTemp, &path)?;
        if self.link(&temp, &path).is_err() {
            return self.named_copy(&temp);
        }
        (temp.path, temp.named) = (path, true);
        Ok(temp)
    }

    fn named_copy(&self, temp: &Temp<'_>) -> Result<Temp<'_>, StoreError> {
        let copy = self.named_temp(0o444)?;
        let mut from = At { file: &temp.file, at: 0 };
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match std::io::Read::read(&mut from, &mut chunk) {
                Ok(0) => return Ok(copy),
                Ok(length) => copy.write(&chunk[..length])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(io("read", &temp.path, source)),
            }
        }
    }

    fn rename(&self, mut temp: Temp<'_>, target: &Path) -> Result<(), StoreError> {
        let mut last = Errno::NOENT;
        for _ in 0..3 {
            self.step(Step::Rename, target)?;
            match rustix::fs::rename(&temp.path, target) {
                Ok(()) => {
                    temp.named = false;
                    return Ok(());
                }
                Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                    last = errno;
                    if let Some(folder) = target.parent() {
                        self.make_folder(folder)?;
                    }
                }
                Err(errno @ (Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY)) => {
                    last = errno;
                    self.step(Step::Remove, target)?;
                    clear_way(target);
                }
                Err(errno) => return Err(io("rename to", target, errno)),
            }
        }
        Err(io("rename to", target, last))
    }

    /// Makes `folder` and what is missing above it. A file that stands in the way, inside the store, goes.
    pub(crate) fn make_folder(&self, folder: &Path) -> Result<(), StoreError> {
        self.step(Step::MakeFolder, folder)?;
        match rustix::fs::mkdir(folder, Mode::from_raw_mode(0o777)) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) if folder.is_dir() => return Ok(()),
            Err(Errno::EXIST) if folder.starts_with(&self.layout.base) => clear_way(folder),
            Err(Errno::NOENT | Errno::NOTDIR) if folder != Path::new("/") => {
                if let Some(above) = folder.parent() {
                    self.make_folder(above)?;
                }
            }
            Err(errno) => return Err(io("create", folder, errno)),
        }
        self.step(Step::MakeFolder, folder)?;
        match rustix::fs::mkdir(folder, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(io("create", folder, errno)),
        }
    }
}

/// Removes whatever stands at `path`, inside the store, as far as that is possible.
pub(crate) fn clear_way(path: &Path) {
    if rustix::fs::unlink(path) == Err(Errno::ISDIR) {
        // What stays is met again by the caller's next try, which then says why.
        let _unremoved = std::fs::remove_dir_all(path);
    }
}

/// A name that no other process or thread uses, also across process-id namespaces:
/// `NAMESPACE-PID-RANDOM-COUNT`, so that whoever cleans up can see whose it was.
pub(crate) fn temp_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PREFIX: std::sync::OnceLock<(u32, String)> = std::sync::OnceLock::new();
    let pid = std::process::id();
    let new_prefix = || format!("{}-{pid}-{:016x}", pid_namespace(), random());
    let (owner, prefix) = PREFIX.get_or_init(|| (pid, new_prefix()));
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    // A forked copy of this process must not use its names.
    if *owner == pid { format!("{prefix}-{count}") } else { format!("{}-{count}", new_prefix()) }
}

/// Names the process-id namespace of this process; 0 where `/proc` is not there.
fn pid_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| crate::digests::StatKey::of(&stat).ino)
}

/// Whether the maker of a file with this [`temp_name`] is gone. A process of another namespace cannot be
/// seen, so there `age` decides, as it does for a number that is in use again.
pub(crate) fn is_abandoned(name: &[u8], age: std::time::Duration) -> bool {
    if age > TEMP_AGE_MAX {
        return true;
    }
    let mut parts = std::str::from_utf8(name).unwrap_or("").split('-');
    let namespace = parts.next().and_then(|part| part.parse::<u64>().ok());
    let pid = parts.next().and_then(|part| part.parse().ok()).and_then(rustix::process::Pid::from_raw);
    match (namespace, pid) {
        (Some(namespace), Some(pid)) => {
            namespace != 0
                && namespace == pid_namespace()
                && rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
        }
        _ => false,
    }
}

/// A number that differs from process to process: what the standard library seeds its maps with.
pub(crate) fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn verb(step: Step) -> &'static str {
    match step {
        Step::MakeFolder | Step::CreateTemp => "create",
        Step::Write => "write",
        Step::Rename => "rename to",
        Step::RemoveTemp | Step::Remove => "remove",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalOptions, Store};
    use spolia_core::Digest;

    /// What other kernels and file systems do.
    #[test]
    fn a_file_gets_its_name_however_that_is_done() {
        for naming in [Naming::Unknown, Naming::Descriptor, Naming::Proc, Naming::Never] {
            let temp = tempfile::tempdir().unwrap();
            let store = LocalStore::open(temp.path(), LocalOptions::default()).unwrap();
            store.namings.set(naming);
            let result = Entry { space: crate::Space::Result, digest: Digest::blake3(b"r") };
            for content in [&b"one"[..], b"two", b"three"] {
                assert!(matches!(store.put_bytes(result, content), Ok(Put::Stored { .. })), "{naming:?}");
                let mut found = Vec::new();
                store.get(result, &mut found).unwrap();
                assert_eq!(found, content, "{naming:?}: the newest is not the one that is read");
                assert_eq!(std::fs::read_dir(store.layout.tmp()).unwrap().count(), 0, "{naming:?}");
            }
            // Somebody's folder stands in the way.
            let path = store.layout.entry(Entry::blob(Digest::blake3(b"x")), Form::Plain);
            std::fs::create_dir_all(path.join("in")).unwrap();
            store.put_bytes(Entry::blob(Digest::blake3(b"x")), b"x").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"x", "{naming:?}");
            let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
            assert_eq!(mode & 0o222, 0, "{naming:?}: it can be written to");
        }
    }

    /// A file that could be made without a name and cannot get one is copied to one that has it.
    #[test]
    fn a_file_that_can_get_no_name_is_copied() {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalStore::open(temp.path(), LocalOptions::default()).unwrap();
        let content = vec![7; 3 * CHUNK_BYTES / 2];
        let nameless = store.nameless_temp().unwrap();
        assert!(!nameless.named, "this file system makes no files without a name");
        nameless.write(&content).unwrap();
        let copy = store.named_copy(&nameless).unwrap();
        drop(nameless);
        let target = temp.path().join("v1/blob/zz/there");
        store.place(copy, &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content);
        assert_eq!(std::fs::read_dir(store.layout.tmp()).unwrap().count(), 0);
    }
}
