//! Writing a file of the store so that it appears whole or not at all. Knows no content.
//!
//! Every system call that changes the disk goes through [`LocalStore::step`] first, so that a test can
//! stop the store dead at any of them.

use std::fs::File;
use std::hash::{BuildHasher, Hasher as _};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Form, LocalStore, io};
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
    /// It gets its name.
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

/// A file that has no name yet; removed where it never gets one.
pub(crate) struct Temp<'s> {
    store: &'s LocalStore,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    published: bool,
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
        if !self.published && self.store.step(Step::RemoveTemp, &self.path).is_ok() {
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

    /// A new file in `tmp/`, mode 0444 less the umask: nobody has a reason to write to it later.
    pub(crate) fn temp(&self) -> Result<Temp<'_>, StoreError> {
        self.temp_of_mode(0o444)
    }

    fn temp_of_mode(&self, mode: u32) -> Result<Temp<'_>, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut made_folder = false;
        let mut path = PathBuf::new();
        for _ in 0..TEMP_NAMES_MAX {
            path = self.layout.tmp().join(temp_name());
            self.step(Step::CreateTemp, &path)?;
            match rustix::fs::open(&path, flags, Mode::from_raw_mode(mode)) {
                Ok(fd) => return Ok(Temp { store: self, path, file: File::from(fd), published: false }),
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
        let target = self.layout.entry(entry, form);
        self.rename(temp, &target)?;
        self.added_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Put::Stored { bytes })
    }

    /// Writes a small file whole, replacing an earlier one.
    pub(crate) fn write_file(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let temp = self.temp()?;
        temp.write(content)?;
        self.rename(temp, path)
    }

    /// The same for a file that later runs may append to.
    pub(crate) fn write_loose(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let temp = self.temp_of_mode(0o666)?;
        temp.write(content)?;
        self.rename(temp, path)
    }

    pub(crate) fn rename(&self, mut temp: Temp<'_>, target: &Path) -> Result<(), StoreError> {
        let mut last = Errno::NOENT;
        for _ in 0..3 {
            self.step(Step::Rename, target)?;
            match rustix::fs::rename(&temp.path, target) {
                Ok(()) => {
                    temp.published = true;
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
