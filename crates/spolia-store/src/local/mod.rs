//! A store in a folder of this machine, shared by threads and processes. Knows nothing of projects.
//!
//! ```text
//! DIR/
//! ├── CACHEDIR.TAG               tells backup programs to leave it out
//! └── v1/                        one folder for each version of the layout
//!     ├── format                 which layout this is, and what its disk can do
//!     ├── blob/ab/<hex>          content, as it is …
//!     ├── blob/ab/<hex>.zst      … or as zstd frames
//!     ├── result/ab/<hex>        a result under a header with a checksum (see `sealed`)
//!     ├── action/ab/<hex>        what an action was made of, likewise
//!     ├── tmp/                   what is being written; never read
//!     ├── locks/  uses/  journal/  digests/  mounts/   see the modules of these names
//!     ├── size                   how many bytes there were when last counted, and what came since
//!     └── gc                     when the last collection began
//!
//! format = "spolia store " version "\n" "reflink " ("yes" | "no") "\n" "sum " hex16 "\n"
//! hex16  = the first 16 hex digits of BLAKE3 of the lines before
//! <hex>  = the 64 lower-case digits of the digest; `ab` are its first two
//! ```
//!
//! The rules, which `docs/design/store-format.md` gives with an example:
//!
//! - An entry is written before it has its name: without one, or under a temporary one in `tmp/`. A reader sees all or
//!   nothing.
//! - Nothing is fsynced. After a power cut a file may be short or hold other bytes, so **every read is
//!   checked**: a blob against its name, a sealed file against its checksum. What fails is removed, and
//!   the caller sees a miss.
//! - A blob may lie there in both forms. A file with another kind of name is not the store's.
//! - Blobs are compressed where a sample says that it pays, and only on a file system that cannot share
//!   bytes between files (reflink): there a plain blob costs nothing to materialise.

pub(crate) mod content;
pub(crate) mod layout;
mod publish;
mod sealed;
mod shared;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use spolia_core::{Digest, DigestFunction};

use crate::hash::{self, Hasher};
use crate::lock::LockFile;
use crate::store::{Entry, EntryInfo, Imported, Properties, Put, Space, Store, StoreError};
pub use layout::FORMAT_VERSION;
pub(crate) use layout::{Form, Layout};
pub use publish::{Faults, Step};
pub(crate) use publish::{Temp, clear_way, is_abandoned, random, temp_name};
pub use sealed::SEALED_BYTES_MAX;

use content::Scratch;

/// Content up to this size is handled in memory in one piece, bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 1 << 20;
/// How much is read, hashed and written at a time beyond that, bytes.
pub(crate) const CHUNK_BYTES: usize = 128 << 10;
/// A blob that is put again is given a new time of change if it is older than this, seconds. Well below
/// the grace of a collection.
const KEPT_YOUNG_SECONDS: i64 = 15 * 60;
/// How many work areas are kept for the next caller.
const SCRATCH_MAX: usize = 16;

/// Whether blobs are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Where it pays.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// How to open a store.
#[derive(Clone, Default)]
pub struct LocalOptions {
    /// Whether blobs are compressed.
    pub compression: Compression,
    /// Asked before every step that changes the disk; for crash simulations.
    pub faults: Option<Arc<dyn Faults>>,
}

/// A store in a folder.
pub struct LocalStore {
    pub(crate) layout: Layout,
    writable: bool,
    reflink: bool,
    compress: bool,
    faults: Option<Arc<dyn Faults>>,
    scratch: Mutex<Vec<Scratch>>,
    pub(crate) locks: OnceLock<LockFile>,
    namings: publish::Namings,
    added_bytes: AtomicU64,
}

impl LocalStore {
    /// Opens the store in `dir`, which is created where it is not there. Nothing is scanned: two system
    /// calls for a store that exists. A folder that takes no writes gives a store that is not writable.
    ///
    /// # Errors
    /// [`StoreError::Version`] for a layout of another version; [`StoreError::Io`] where `dir` is no
    /// folder or cannot be read, or there is no room to create it.
    pub fn open(dir: &Path, options: LocalOptions) -> Result<Self, StoreError> {
        let dir = layout::absolute(dir).map_err(|source| io("open", dir, source))?;
        let layout = Layout::new(dir);
        let mut store = Self {
            layout,
            writable: true,
            reflink: false,
            compress: options.compression == Compression::Auto,
            faults: options.faults,
            scratch: Mutex::new(Vec::new()),
            locks: OnceLock::new(),
            namings: publish::Namings::default(),
            added_bytes: AtomicU64::new(0),
        };
        match store.read_format()? {
            Some(reflink) => {
                store.reflink = reflink;
                // A folder that is missing is made when something is written.
                let access = rustix::fs::access(store.layout.tmp(), Access::WRITE_OK);
                store.writable = matches!(access, Ok(()) | Err(Errno::NOENT));
            }
            None => match store.create() {
                Ok(reflink) => store.reflink = reflink,
                Err(error) if is_refusal(&error) => store.writable = false,
                Err(error) => return Err(error),
            },
        }
        store.compress &= !store.reflink;
        Ok(store)
    }

    /// Whether the file system can share bytes, by the format file; `None` where that has to be written.
    fn read_format(&self) -> Result<Option<bool>, StoreError> {
        let path = self.layout.format();
        let mut text = [0u8; 256];
        let opened = File::open(&path).or_else(|error| {
            // Somebody took our own right to read it away: put it back. If it is not ours, that fails.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            let is_refused = error.kind() == std::io::ErrorKind::PermissionDenied;
            if !is_refused || std::fs::set_permissions(&path, mode).is_err() {
                return Err(error);
            }
            File::open(&path)
        });
        let length = match opened.and_then(|mut file| file.read(&mut text)) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io("read", &path, source)),
        };
        // A file that a crash left short or garbled is written anew; one that plainly names another
        // version is not ours to touch.
        let text = String::from_utf8_lossy(&text[..length]);
        let Some((lines, sum)) = text.split_once("sum ") else { return Ok(None) };
        if sum.strip_suffix('\n') != Some(&Digest::blake3(lines.as_bytes()).to_hex()[..16]) {
            return Ok(None);
        }
        let mut lines = lines.lines();
        match lines.next().and_then(|line| line.strip_prefix("spolia store ")) {
            Some(FORMAT_VERSION) => {}
            found => {
                let found = found.unwrap_or("an unknown kind").to_owned();
                return Err(StoreError::Version { path, found, known: FORMAT_VERSION });
            }
        }
        Ok(match lines.next() {
            Some("reflink yes") => Some(true),
            Some("reflink no") => Some(false),
            _ => None,
        })
    }

    /// Makes the folders and the format file; whether the file system can share bytes.
    fn create(&self) -> Result<bool, StoreError> {
        let is_new = !self.layout.base.exists();
        self.make_folder(&self.layout.tmp())?;
        if is_new {
            crate::size::begin(self);
        }
        let tag = self.layout.dir.join("CACHEDIR.TAG");
        if !tag.exists() {
            let text = b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache made by spolia.\n";
            self.write_file(&tag, text)?;
        }
        self.write_format()
    }

    /// Writes the format file; whether the file system can share bytes.
    pub(crate) fn write_format(&self) -> Result<bool, StoreError> {
        let reflink = self.probe_reflink()?;
        let word = if reflink { "yes" } else { "no" };
        let lines = format!("spolia store {FORMAT_VERSION}\nreflink {word}\n");
        let sum = &Digest::blake3(lines.as_bytes()).to_hex()[..16];
        self.write_file(&self.layout.format(), format!("{lines}sum {sum}\n").as_bytes())?;
        Ok(reflink)
    }

    /// Whether the format file is there and says what this store is.
    pub(crate) fn has_sound_format(&self) -> bool {
        matches!(self.read_format(), Ok(Some(_)))
    }

    fn probe_reflink(&self) -> Result<bool, StoreError> {
        let from = self.temp()?;
        from.write(&[0u8; 4096])?;
        let to = self.temp()?;
        Ok(rustix::fs::ioctl_ficlone(&to.file, &from.file).is_ok())
    }

    /// The folder of the store, absolute.
    pub fn dir(&self) -> &Path {
        &self.layout.dir
    }

    /// The folder of this layout's version: where the modules beside this one keep their files.
    pub fn base(&self) -> &Path {
        &self.layout.base
    }

    /// Where the digest cache of the project at `root` belongs.
    pub fn digests_file(&self, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let name = Digest::blake3(root.as_os_str().as_bytes()).to_hex();
        self.layout.base.join("digests").join(name)
    }

    /// A path in the store's folder of temporary files that nobody else uses. What is left there by a dead
    /// process goes with a collection.
    pub fn scratch(&self) -> PathBuf {
        self.layout.tmp().join(temp_name())
    }

    /// Whether the store takes writes, as far as is known.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Bytes written into the store through this handle, less those removed through it.
    pub fn added_bytes(&self) -> u64 {
        self.added_bytes.load(Ordering::Relaxed)
    }

    fn name(&self) -> String {
        format!("local {}", spolia_core::path::escape(self.layout.dir.as_os_str().as_encoded_bytes()))
    }

    fn require_writable(&self) -> Result<(), StoreError> {
        if self.writable { Ok(()) } else { Err(StoreError::ReadOnly { name: self.name() }) }
    }

    fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let pooled = self.scratch.lock().ok().and_then(|mut pool| pool.pop());
        let mut scratch = pooled.unwrap_or_default();
        let result = work(&mut scratch);
        scratch.trim();
        if let Ok(mut pool) = self.scratch.lock()
            && pool.len() < SCRATCH_MAX
        {
            pool.push(scratch);
        }
        result
    }

    /// Where the entry lies. `size` is that of its content, where known: a plain file of another size,
    /// like an empty file, is left over from a crash and counts as absent.
    fn find(&self, entry: Entry, size: Option<u64>) -> Result<Option<(Form, PathBuf, u64)>, StoreError> {
        for form in self.forms(entry.space) {
            if let Some((path, bytes)) = self.find_as(entry, *form, size)? {
                return Ok(Some((*form, path, bytes)));
            }
        }
        Ok(None)
    }

    /// The same in one form.
    fn find_as(
        &self,
        entry: Entry,
        form: Form,
        size: Option<u64>,
    ) -> Result<Option<(PathBuf, u64)>, StoreError> {
        let path = self.layout.entry(entry, form);
        let stat = match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(io("look up", &path, errno)),
        };
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let sound = match (form, size) {
            (Form::Plain, Some(size)) if entry.space == Space::Blob => bytes == size,
            (Form::Plain, _) => bytes > 0 || hash::digest(entry.digest.function(), b"") == entry.digest,
            (Form::Zstd, _) => bytes > 0,
        };
        if !regular || !sound {
            return Ok(None);
        }
        if size.is_some() {
            self.keep_young(&path, stat.st_mtime);
        }
        Ok(Some((path, bytes)))
    }

    /// Someone is about to refer to a blob that was there already: a collection that runs meanwhile must
    /// see it as new. Best effort, since a blob that is lost is a miss.
    fn keep_young(&self, path: &Path, mtime_s: i64) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let age = now.tv_sec.saturating_sub(mtime_s);
        if self.writable && !(0..KEPT_YOUNG_SECONDS).contains(&age) {
            let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
            let _untouched = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    /// The forms an entry of `space` can have, the likelier first.
    fn forms(&self, space: Space) -> &'static [Form] {
        match (space, self.compress) {
            (Space::Blob, true) => &[Form::Zstd, Form::Plain],
            (Space::Blob, false) => &[Form::Plain, Form::Zstd],
            (Space::Result | Space::Action, _) => &[Form::Plain],
        }
    }

    /// Stores `content` under `entry`: [`Store::put`] for what is in memory.
    ///
    /// # Errors
    /// Those of [`Store::put`].
    pub fn put_bytes(&self, entry: Entry, content: &[u8]) -> Result<Put, StoreError> {
        self.require_writable()?;
        if entry.space != Space::Blob {
            return self.with_scratch(|scratch| self.put_sealed(entry, content, scratch));
        }
        if self.find(entry, Some(content.len() as u64))?.is_some() {
            return Ok(Put::Present);
        }
        let found = hash::digest(entry.digest.function(), content);
        if found != entry.digest {
            return Err(StoreError::WrongContent { entry, found });
        }
        self.with_scratch(|scratch| self.store_checked(entry, content, &mut scratch.pack))
    }

    /// Writes content whose digest has just been computed.
    fn store_checked(
        &self,
        entry: Entry,
        content: &[u8],
        pack: &mut content::Packer,
    ) -> Result<Put, StoreError> {
        let packed = if self.compress { pack.pack_if_worth(content) } else { None };
        let (form, bytes) = match packed {
            Some(packed) => (Form::Zstd, packed),
            None => (Form::Plain, content),
        };
        self.write_blob(entry, form, bytes)
    }

    fn write_blob(&self, entry: Entry, form: Form, bytes: &[u8]) -> Result<Put, StoreError> {
        let temp = self.temp()?;
        temp.write(bytes)?;
        self.publish(temp, entry, form, bytes.len() as u64)
    }

    fn put_sealed(&self, entry: Entry, payload: &[u8], scratch: &mut Scratch) -> Result<Put, StoreError> {
        if payload.len() as u64 > SEALED_BYTES_MAX {
            let what = format!("{} bytes are more than {SEALED_BYTES_MAX}", payload.len());
            return Err(StoreError::Peer(std::io::Error::new(std::io::ErrorKind::InvalidInput, what)));
        }
        let file = sealed::seal(entry, payload, scratch.pack.pack_if_worth(payload));
        let temp = self.temp()?;
        temp.write(&file)?;
        self.publish(temp, entry, Form::Plain, file.len() as u64)
    }

    /// Hashes, packs and writes a long content; nothing is published yet.
    fn pour(
        &self,
        function: DigestFunction,
        head: &[u8],
        rest: &mut dyn Read,
    ) -> Result<(publish::Temp<'_>, Digest, Form, u64), StoreError> {
        let temp = self.temp()?;
        let mut hasher = Hasher::new(function);
        let packs = self.compress && content::sample_packs(head);
        let form = if packs { Form::Zstd } else { Form::Plain };
        let mut size = 0u64;
        let mut sink = content::Sink::new(&temp, packs)?;
        let mut take = |bytes: &[u8]| {
            hasher.update(bytes);
            size += bytes.len() as u64;
            sink.write(bytes)
        };
        take(head)?;
        let mut chunk = vec![0u8; CHUNK_BYTES];
        loop {
            match rest.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => take(&chunk[..length])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::Peer(error)),
            }
        }
        sink.finish()?;
        Ok((temp, hasher.finish(), form, size))
    }

    /// Takes the file at `path` into the store as a blob, following no symlink.
    ///
    /// # Errors
    /// Those of [`Store::import`]; [`StoreError::Peer`] where the file cannot be opened.
    pub fn import_file(&self, path: &Path) -> Result<Imported, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| StoreError::Peer(errno.into()))?;
        self.import(&File::from(file))
    }

    fn import_large(&self, from: &File) -> Result<Imported, StoreError> {
        let (digest, size) = hash::file(from).map_err(StoreError::Peer)?;
        if self.find(Entry::blob(digest), Some(size))?.is_some() {
            return Ok(Imported { digest, size, put: Put::Present });
        }
        if self.reflink
            && let Some(imported) = self.import_clone(from)?
        {
            return Ok(imported);
        }
        // The file may have changed since it was hashed: what is stored is named by what is stored.
        let mut head = vec![0u8; CHUNK_BYTES];
        let mut at = hash::At { file: from, at: 0 };
        let length = at.read(&mut head).map_err(StoreError::Peer)?;
        let (temp, digest, form, size) = self.pour(DigestFunction::Blake3, &head[..length], &mut at)?;
        let bytes = temp.size()?;
        let put = self.publish(temp, Entry::blob(digest), form, bytes)?;
        Ok(Imported { digest, size, put })
    }

    /// Shares the file's bytes; `None` where the file lies on another file system.
    fn import_clone(&self, from: &File) -> Result<Option<Imported>, StoreError> {
        let temp = self.temp()?;
        if rustix::fs::ioctl_ficlone(&temp.file, from).is_err() {
            return Ok(None);
        }
        let (digest, size) = hash::file(&temp.file).map_err(|source| io("read", &temp.path, source))?;
        let put = self.publish(temp, Entry::blob(digest), Form::Plain, size)?;
        Ok(Some(Imported { digest, size, put }))
    }

    /// Opens an entry's file; `None` where it is not there.
    fn open_entry(&self, entry: Entry, form: Form) -> Result<Option<(File, PathBuf)>, StoreError> {
        let path = self.layout.entry(entry, form);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some((File::from(fd), path))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::ACCESS) => Err(self.damaged(entry, &path, None, "its mode forbids reading it")),
            Err(Errno::LOOP) => Err(self.damaged(entry, &path, None, "it is a symlink")),
            Err(errno) => Err(io("read", &path, errno)),
        }
    }

    /// Removes a damaged entry where that is possible, and says so. Where another process has put a good
    /// file there meanwhile (`seen` is no longer the one), that stays.
    fn damaged(&self, entry: Entry, path: &Path, seen: Option<&File>, what: &str) -> StoreError {
        let replaced = seen.is_some_and(|file| {
            let now = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
            let then = rustix::fs::fstat(file);
            matches!((now, then), (Ok(now), Ok(then)) if now.st_ino != then.st_ino)
        });
        if self.writable && !replaced && self.step(Step::Remove, path).is_ok() {
            publish::clear_way(path);
        }
        StoreError::Corrupt { entry, what: what.to_owned() }
    }

    fn get_sealed(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        let Some((mut file, path)) = self.open_entry(entry, Form::Plain)? else { return Ok(None) };
        let mut raw = Vec::new();
        if let Err(source) = (&mut file).take(SEALED_BYTES_MAX + 4096).read_to_end(&mut raw) {
            return Err(self.unreadable(entry, &path, &file, source));
        }
        match sealed::open(entry, &raw) {
            Ok(payload) => {
                into.write_all(&payload).map_err(StoreError::Peer)?;
                Ok(Some(payload.len() as u64))
            }
            Err(what) => Err(self.damaged(entry, &path, Some(&file), &what)),
        }
    }

    /// Checks what an open file of the entry holds; nothing is changed on a difference.
    pub(crate) fn check_content(
        &self,
        entry: Entry,
        form: Form,
        file: &File,
    ) -> Result<(), content::ReadError> {
        if entry.space == Space::Blob {
            let mut nowhere = std::io::sink();
            return self
                .with_scratch(|scratch| scratch.copy_out(file, form, entry.digest, &mut nowhere))
                .map(|_| ());
        }
        let mut raw = Vec::new();
        let mut limited = file.take(SEALED_BYTES_MAX + 4096);
        limited.read_to_end(&mut raw).map_err(content::ReadError::Disk)?;
        sealed::open(entry, &raw).map(|_| ()).map_err(content::ReadError::Damaged)
    }

    fn unreadable(&self, entry: Entry, path: &Path, file: &File, source: std::io::Error) -> StoreError {
        match source.kind() {
            std::io::ErrorKind::IsADirectory => self.damaged(entry, path, Some(file), "it is a folder"),
            _ => io("read", path, source),
        }
    }

    fn get_blob(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        for form in self.forms(Space::Blob) {
            if let Some((file, path)) = self.open_entry(entry, *form)? {
                let copied = self.with_scratch(|scratch| scratch.copy_out(&file, *form, entry.digest, into));
                return match copied {
                    Ok(size) => Ok(Some(size)),
                    Err(content::ReadError::Damaged(what)) => {
                        Err(self.damaged(entry, &path, Some(&file), &what))
                    }
                    Err(content::ReadError::Disk(source)) => {
                        Err(self.unreadable(entry, &path, &file, source))
                    }
                    Err(content::ReadError::Peer(source)) => Err(StoreError::Peer(source)),
                };
            }
        }
        Ok(None)
    }
}

impl Store for LocalStore {
    fn properties(&self) -> Properties {
        Properties { name: self.name(), writable: self.writable, local: true }
    }

    fn has(&self, entry: Entry) -> Result<bool, StoreError> {
        Ok(self.find(entry, None)?.is_some())
    }

    fn get(&self, entry: Entry, into: &mut dyn Write) -> Result<Option<u64>, StoreError> {
        match entry.space {
            Space::Blob => self.get_blob(entry, into),
            Space::Result | Space::Action => self.get_sealed(entry, into),
        }
    }

    fn put(&self, entry: Entry, from: &mut dyn Read) -> Result<Put, StoreError> {
        self.require_writable()?;
        self.with_scratch(|scratch| {
            let limit = if entry.space == Space::Blob { SMALL_BYTES_MAX } else { SEALED_BYTES_MAX as usize };
            let Scratch { plain, pack, .. } = scratch;
            plain.clear();
            (&mut *from).take(limit as u64 + 1).read_to_end(plain).map_err(StoreError::Peer)?;
            if entry.space != Space::Blob {
                let payload = std::mem::take(plain);
                return self.put_sealed(entry, &payload, scratch);
            }
            if plain.len() <= limit {
                if self.find(entry, Some(plain.len() as u64))?.is_some() {
                    return Ok(Put::Present);
                }
                let found = hash::digest(entry.digest.function(), plain);
                if found != entry.digest {
                    return Err(StoreError::WrongContent { entry, found });
                }
                return self.store_checked(entry, plain, pack);
            }
            if self.find(entry, None)?.is_some() {
                return Ok(Put::Present);
            }
            let (temp, found, form, _) = self.pour(entry.digest.function(), plain, from)?;
            if found != entry.digest {
                return Err(StoreError::WrongContent { entry, found });
            }
            let bytes = temp.size()?;
            self.publish(temp, entry, form, bytes)
        })
    }

    fn import(&self, from: &File) -> Result<Imported, StoreError> {
        self.require_writable()?;
        self.with_scratch(|scratch| {
            if !content::read_small(from, &mut scratch.plain).map_err(StoreError::Peer)? {
                return self.import_large(from);
            }
            let content = &scratch.plain;
            let (digest, size) = (Digest::blake3(content), content.len() as u64);
            let entry = Entry::blob(digest);
            let is_there = |form| self.find_as(entry, form, Some(size)).map(|found| found.is_some());
            // What packs lies there packed, or at times both ways: the other name is looked at only where it does not.
            let may_pack = self.compress && content.len() >= content::PACK_BYTES_MIN;
            let put = if may_pack && is_there(Form::Zstd)? {
                Put::Present
            } else {
                let packed = if may_pack { scratch.pack.pack_if_worth(content) } else { None };
                match packed {
                    Some(packed) => self.write_blob(entry, Form::Zstd, packed)?,
                    None if is_there(Form::Plain)? || (!may_pack && is_there(Form::Zstd)?) => Put::Present,
                    None => self.write_blob(entry, Form::Plain, content)?,
                }
            };
            Ok(Imported { digest, size, put })
        })
    }

    fn remove(&self, entry: Entry) -> Result<bool, StoreError> {
        self.require_writable()?;
        let mut found = false;
        for form in self.forms(entry.space) {
            let path = self.layout.entry(entry, *form);
            self.step(Step::Remove, &path)?;
            match rustix::fs::unlink(&path) {
                Ok(()) => found = true,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(io("remove", &path, errno)),
            }
        }
        Ok(found)
    }

    fn list(&self, space: Space, visit: &mut dyn FnMut(EntryInfo)) -> Result<(), StoreError> {
        self.scan(space, &mut |found| {
            if let Some((entry, _)) = found.name {
                visit(EntryInfo { entry, bytes: found.bytes });
            }
        })
    }

    fn plain_file(&self, entry: Entry) -> Option<File> {
        if !self.reflink || entry.space != Space::Blob {
            return None;
        }
        self.open_entry(entry, Form::Plain).ok().flatten().map(|(file, _)| file)
    }
}

/// A file found in one of the spaces.
pub(crate) struct Found {
    /// What it is by its name; `None` for a file that is not the store's.
    pub(crate) name: Option<(Entry, Form)>,
    pub(crate) path: PathBuf,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its last change of content, ns since 1970.
    pub(crate) mtime_ns: i64,
    /// Whether it is a regular file.
    pub(crate) regular: bool,
}

impl LocalStore {
    /// Looks at every file of `space`. What vanishes meanwhile is left out.
    pub(crate) fn scan(&self, space: Space, visit: &mut dyn FnMut(Found)) -> Result<(), StoreError> {
        for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
            let folder = self.layout.space(space, function);
            for (shard_name, shard) in names(&folder)? {
                self.scan_shard(space, function, &shard_name, &shard, visit)?;
            }
        }
        Ok(())
    }

    fn scan_shard(
        &self,
        space: Space,
        function: DigestFunction,
        shard_name: &[u8],
        shard: &Path,
        visit: &mut dyn FnMut(Found),
    ) -> Result<(), StoreError> {
        for (name, path) in names(shard)? {
            let Ok(stat) = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let named = layout::parse_name(function, shard_name, &name)
                .map(|(digest, form)| (Entry { space, digest }, form))
                .filter(|(_, form)| space == Space::Blob || *form == Form::Plain);
            visit(Found {
                name: named,
                path,
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                mtime_ns: crate::digests::nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
                regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            });
        }
        Ok(())
    }
}

/// The names in a folder with their paths; none for what is no folder or not there.
pub(crate) fn names(folder: &Path) -> Result<Vec<(Vec<u8>, PathBuf)>, StoreError> {
    use std::os::unix::ffi::OsStringExt;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => return Err(io("list", folder, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io("list", folder, source))?;
        names.push((entry.file_name().into_vec(), entry.path()));
    }
    Ok(names)
}

/// An [`StoreError::Io`].
pub(crate) fn io(verb: &'static str, path: &Path, source: impl Into<std::io::Error>) -> StoreError {
    StoreError::Io { verb, path: path.to_owned(), source: source.into() }
}

/// Whether the system refuses writes for good, as opposed to a full disk.
fn is_refusal(error: &StoreError) -> bool {
    match error {
        StoreError::ReadOnly { .. } => true,
        StoreError::Io { source, .. } => matches!(
            source.kind(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
        ),
        _ => false,
    }
}
