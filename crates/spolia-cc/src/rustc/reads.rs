//! What was seen of a run → the facts it depended on. Knows the names of what compilers, linkers and cargo leave aside.
//!
//! | seen | becomes |
//! |---|---|
//! | a file read | a fact of its content, unless the run made it itself |
//! | a program started | a fact of its content, and of what the search path leads to |
//! | a name looked for in vain | a fact that it is not there, but for what can only be an output |
//! | a folder listed | a fact of its names, but for the folders of `-L`, where rustc goes by what is in the files |
//! | a variable asked for | a fact of its value |
//! | a program that does not say what it asks, or that may walk over all variables | a fact of every variable |
//! | a file written that is no output, a connection | not cacheable |

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use spolia_core::Digest;
use spolia_engine::observe::{self, Seen};
use spolia_store::StatKey;

use super::facts::{self, Fact, Here};
use super::folders::{Cleaner, is_within};
use crate::Room;
use crate::c::marks;
use crate::call::NotKept;
use crate::detect;
use crate::direct::listing;
use crate::outcome::NotCacheable;
use crate::sets::Raw;

/// Read by the loader and by libc whatever the program; what they lead to is read as well.
const SYSTEM: &[&str] = &["/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime"];

/// What a run is allowed to write, and what of it needs no fact.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    /// Files that are outputs.
    pub(super) outputs: Vec<PathBuf>,
    /// Folders that it may write into and whose content is its own: incremental data, `OUT_DIR`, the store.
    pub(super) own: Vec<PathBuf>,
    /// Folders that it may write into: temporary ones. What it reads there and did not write is a fact.
    pub(super) scratch: Vec<PathBuf>,
    /// Folders whose listing does not matter.
    pub(super) listings: Vec<PathBuf>,
    /// A folder where names looked for in vain are outputs of others to come.
    pub(super) out_dir: Option<PathBuf>,
    /// Variables whose value may hold folders without the output embedding them.
    pub(super) hidden: Vec<String>,
    /// The library that we preload.
    pub(super) library: Option<PathBuf>,
    /// This very program.
    pub(super) spolia: Option<PathBuf>,
    /// Whether a program that asks for the time of day is refused: build scripts.
    pub(super) clock: bool,
    /// Whether an rlib beside its rmeta is read for the same metadata: where nothing is linked.
    pub(super) metadata_only: bool,
    /// Whether what was only looked at counts.
    pub(super) looks: bool,
}

/// The facts of a run.
///
/// # Errors
/// Why the result cannot be kept.
pub(super) fn facts(here: Here<'_>, seen: &Seen, allowed: &Allowed) -> Result<Vec<Fact>, NotKept> {
    if !seen.is_whole() {
        return Err(NotKept::Never(
            NotCacheable::HiddenInputs,
            Some("not all calls could be seen".to_owned()),
        ));
    }
    if seen.connected {
        return Err(NotKept::Never(NotCacheable::HiddenInputs, Some("it connected a socket".to_owned())));
    }
    let cleaner = Cleaner::default();
    let clean = |folders: &[PathBuf]| folders.iter().map(|folder| cleaner.clean(folder)).collect();
    let (own, scratch) = (clean(&allowed.own), clean(&allowed.scratch));
    let (facts, written) = (BTreeSet::new(), HashSet::new());
    let mut work = Work { here, allowed, cleaner, own, scratch, facts, written };
    work.written(seen)?;
    work.read(seen)?;
    work.executed(seen)?;
    work.missing(seen);
    work.variables(seen)?;
    Ok(work.facts.into_iter().map(|Ordered(fact)| fact).collect())
}

/// Whether a program is what turns C into assembler: that of GCC, or Clang.
fn is_c_compiler(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default();
    matches!(name.as_bytes(), b"cc1" | b"cc1plus" | b"cc1obj" | b"cc1objplus")
        || detect::kind_of_name(name) == Some(detect::Kind::Clang)
}

fn is_c_source(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["c", "cc", "cpp", "cxx", "h", "hh", "hpp", "hxx", "S", "m", "mm"].contains(&ending)
}

/// The first file below `folder` that `is_it`.
fn first_file(folder: &Path, is_it: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths.into_iter().find_map(|path| {
        // Links lead to what was read.
        match path.symlink_metadata().ok()?.file_type() {
            kind if kind.is_dir() => first_file(&path, is_it),
            kind => (kind.is_file() && is_it(&path)).then_some(path),
        }
    })
}

/// Facts in a fixed order, so that two runs that saw the same are the same set.
struct Ordered(Fact);

impl Ordered {
    fn key(&self) -> (u8, &[u8]) {
        match &self.0 {
            Fact::Variable(name, _) => (0, &name.0),
            Fact::Hidden(name, _) => (1, &name.0),
            Fact::Names(_) => (8, &[]),
            Fact::Folder(mark, _) => (2, std::slice::from_ref(mark)),
            Fact::Program(name, _) => (3, &name.0),
            Fact::File(path, _) => (4, &path.0),
            Fact::Absent(path) => (5, &path.0),
            Fact::There(path, _) => (6, &path.0),
            Fact::Listing(path, _) => (7, &path.0),
        }
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

struct Work<'w> {
    here: Here<'w>,
    allowed: &'w Allowed,
    cleaner: Cleaner,
    /// [`Allowed::own`], clean.
    own: Vec<PathBuf>,
    /// [`Allowed::scratch`], clean.
    scratch: Vec<PathBuf>,
    facts: BTreeSet<Ordered>,
    /// Clean. Not paths: to compare those goes part by part.
    written: HashSet<OsString>,
}

impl Work<'_> {
    fn add(&mut self, fact: Fact) {
        self.facts.insert(Ordered(fact));
    }

    fn path(&self, path: &Path) -> Raw {
        Raw(self.here.folders.write(path.as_os_str().as_bytes()))
    }

    fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|folder| is_within(path, folder))
    }

    /// What was written must be an output, or gone again, or in a folder of its own.
    fn written(&mut self, seen: &Seen) -> Result<(), NotKept> {
        for path in &seen.written {
            let path = self.cleaner.clean(path);
            let is_output = self.allowed.outputs.contains(&path);
            let in_scratch = self.scratch.iter().any(|folder| is_within(&path, folder));
            let stays = !is_output && !in_scratch && !self.is_own(&path) && is_file(&path);
            // What is written and was there before, and is none of the outputs, may be read by the next run.
            if stays {
                let shown = path.display().to_string();
                return Err(NotKept::Never(NotCacheable::HiddenInputs, Some(format!("it wrote `{shown}`"))));
            }
            self.written.insert(path.into_os_string());
        }
        Ok(())
    }

    fn read(&mut self, seen: &Seen) -> Result<(), NotKept> {
        for found in &seen.read {
            let path = self.cleaner.clean(&found.path);
            if self.leaves_aside(&path) {
                continue;
            }
            if self.allowed.metadata_only && is_rlib_of_an_rmeta(&path, seen) {
                continue;
            }
            let shown = || path.display().to_string();
            let Some(before) = found.key else {
                return Err(NotKept::Never(NotCacheable::HiddenInputs, Some(shown())));
            };
            let Ok((now, digest)) = self.here.room.memo.digest(&path) else {
                if rustix::fs::stat(&path)
                    .is_ok_and(|stat| !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
                {
                    return Err(NotKept::Never(NotCacheable::HiddenInputs, Some(shown())));
                }
                // A piece of the output that was linked or renamed there and is gone again.
                if self.allowed.out_dir.as_ref().is_some_and(|out_dir| path.starts_with(out_dir)) {
                    continue;
                }
                return Err(NotKept::Now(format!("`{}` is gone", shown())));
            };
            // A hard link made elsewhere moves the times of a read-only file, cargo's own those of what it has made.
            let in_target = self.here.folders.mark_of(path.as_os_str().as_bytes()) == Some(b'T');
            let one_file = (now.dev, now.ino, now.size) == (before.dev, before.ino, before.size);
            let same = now == before
                || one_file && (is_read_only(&path) || self.is_blob(&now, digest))
                || one_file && in_target && now.mtime_ns == before.mtime_ns;
            if !same {
                return Err(NotKept::Now(format!("`{}` changed while it compiled", shown())));
            }
            let fact = Fact::File(self.path(&path), *digest.as_bytes());
            self.add(fact);
        }
        if self.allowed.looks {
            for (path, folder) in &seen.looked {
                let path = self.cleaner.clean(path);
                let is_above = self
                    .here
                    .folders
                    .iter()
                    .any(|(_, folder)| Path::new(OsStr::from_bytes(folder)).starts_with(&path));
                let system = path.starts_with("/usr") || path.starts_with("/lib") || path.starts_with("/etc");
                if !self.leaves_aside(&path) && !is_above && !system {
                    let fact = Fact::There(self.path(&path), *folder);
                    self.add(fact);
                }
            }
        }
        for folder in &seen.listed {
            let folder = self.cleaner.clean(folder);
            let aside = self.allowed.listings.contains(&folder) || self.is_own(&folder);
            let in_toolchain = self.here.folders.mark_of(folder.as_os_str().as_bytes()) == Some(b'S');
            if aside || in_toolchain || !folder.is_dir() {
                continue;
            }
            let Some(names) = listing(self.here.room, &folder) else {
                return Err(NotKept::Never(NotCacheable::HiddenInputs, Some(folder.display().to_string())));
            };
            let fact = Fact::Listing(self.path(&folder), names);
            self.add(fact);
        }
        Ok(())
    }

    /// Whether it is the store's own file under another name.
    fn is_blob(&self, now: &StatKey, digest: Digest) -> bool {
        let blob = rustix::fs::lstat(self.here.room.store.plain_path(digest)).map(|stat| StatKey::of(&stat));
        blob.is_ok_and(|blob| (blob.dev, blob.ino) == (now.dev, now.ino))
    }

    fn leaves_aside(&self, path: &Path) -> bool {
        // What the kernel answers there is about this machine at this moment: how many processors, how big its pages.
        path.starts_with("/sys")
            || SYSTEM.iter().any(|known| path.as_os_str() == *known)
            || self.allowed.library.as_deref() == Some(path)
            || self.is_own(path)
            || self.written.contains(path.as_os_str())
            || self.allowed.outputs.iter().any(|output| output.as_os_str() == path.as_os_str())
    }

    fn executed(&mut self, seen: &Seen) -> Result<(), NotKept> {
        let search = self.here.env.get("PATH").unwrap_or_default();
        for (program, executed) in &seen.executed {
            let program = self.cleaner.clean(program);
            // Made by the run itself, such as a test program of a build script; or ourselves, who stand in for what we start.
            if self.is_own(&program)
                || self.written.contains(program.as_os_str())
                || self.allowed.spolia.as_ref() == Some(&program)
            {
                continue;
            }
            if self.allowed.clock && executed.asks_time && !self.is_timeless(&program) {
                let asks = format!("`{}` asks for the time of day", program.display());
                let tells = if is_c_compiler(&program) { self.time_in_c(seen) } else { Some(asks.clone()) };
                if let Some(tells) = tells {
                    let what = if tells == asks { asks } else { format!("{asks}, and {tells}") };
                    return Err(NotKept::Never(NotCacheable::HiddenInputs, Some(what)));
                }
            }
            let Ok((now, digest)) = self.here.room.memo.digest(&program) else {
                return Err(NotKept::Now(format!("`{}` is gone", program.display())));
            };
            if (now.dev, now.ino, now.size, now.mtime_ns)
                != (executed.key.dev, executed.key.ino, executed.key.size, executed.key.mtime_ns)
            {
                return Err(NotKept::Now(format!("`{}` changed while it ran", program.display())));
            }
            let fact = Fact::File(self.path(&program), *digest.as_bytes());
            self.add(fact);
            if let Some(name) = program.file_name()
                && crate::detect::find_program(name, search, None).as_deref() == Some(&program)
            {
                let fact = Fact::Program(Raw(name.as_bytes().to_vec()), self.path(&program));
                self.add(fact);
            }
        }
        Ok(())
    }

    /// Whether a program asks for the time of day and does not tell it: the toolchain's own, and a few that measure
    /// themselves or draw a random number from it.
    fn is_timeless(&self, program: &Path) -> bool {
        let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
        self.here.folders.mark_of(program.as_os_str().as_bytes()) == Some(b'S')
            || ["git", "sh", "dash", "bash"].contains(&name)
    }

    /// What may hold the time that a C compiler asked for, as GCC always does: a source that names it, or, where a source is gone
    /// again, something like a time in what came out.
    fn time_in_c(&self, seen: &Seen) -> Option<String> {
        let mut gone = None;
        for found in &seen.read {
            if is_object(&found.path) {
                continue;
            }
            match self.here.room.memo.scan(&found.path, &marks::of) {
                Ok((.., marked)) if marked & marks::BINARY == 0 && marked & marks::TIME != 0 => {
                    return Some(format!("`{}` names it", found.path.display()));
                }
                Ok(_) => {}
                Err(_) => gone = gone.or_else(|| is_c_source(&found.path).then_some(&found.path)),
            }
        }
        let (gone, out_dir) = (gone?, self.allowed.out_dir.as_ref()?);
        let told =
            first_file(out_dir, &|path| std::fs::read(path).is_ok_and(|content| marks::holds_time(&content)));
        told.map(|told| format!("`{}` is gone and `{}` may hold it", gone.display(), told.display()))
    }

    /// The folders that a variable lists.
    fn folders_of(&self, variable: &str) -> Vec<PathBuf> {
        let folder = |folder: &[u8]| PathBuf::from(OsStr::from_bytes(folder));
        let listed = self.here.env.get(variable);
        listed.map_or_else(Vec::new, |list| list.as_bytes().split(|byte| *byte == b':').map(folder).collect())
    }

    fn missing(&mut self, seen: &Seen) {
        let libraries = self.folders_of("LD_LIBRARY_PATH");
        let search = self.folders_of("PATH");
        let here_search = self.here.env.get("PATH").unwrap_or_default();
        for path in &seen.missing {
            let path = self.cleaner.clean(path);
            let folder = path.parent().unwrap_or(&path);
            let mark = self.here.folders.mark_of(path.as_os_str().as_bytes());
            let is_output = self.allowed.out_dir.as_deref() == Some(folder);
            let in_target = mark == Some(b'T') && libraries.iter().any(|library| path.starts_with(library));
            // What the search path leads to is a fact of its own.
            let by_search = search.iter().any(|known| known == folder);
            if by_search && mark != Some(b'S') {
                if let Some(name) = path.file_name()
                    && crate::detect::find_program(name, here_search, None).is_none()
                {
                    let fact = Fact::Program(Raw(name.as_bytes().to_vec()), Raw::default());
                    self.add(fact);
                }
                continue;
            }
            // A name in a temporary folder of its own, which is gone again.
            let in_scratch = self.scratch.iter().any(|scratch| is_within(&path, scratch)) && !folder.is_dir();
            if mark == Some(b'S') || in_scratch || is_output || in_target || self.leaves_aside(&path) {
                continue;
            }
            let fact = Fact::Absent(self.path(&path));
            self.add(fact);
        }
    }

    fn variables(&mut self, seen: &Seen) -> Result<(), NotKept> {
        let silent = seen.executed.iter().any(|(program, executed)| {
            !executed.says_variables
                && !self.written.contains(program.as_os_str())
                && self.allowed.spolia.as_ref() != Some(program)
        });
        let walks = silent || self.loaded(seen).iter().any(|path| self.may_read_all_variables(path));
        let mut names: BTreeSet<Vec<u8>> =
            seen.variables.iter().map(|name| name.as_bytes().to_vec()).collect();
        if walks {
            self.add(Fact::Names(facts::names_of(self.here.env)));
            let all = self.here.env.iter().map(|(name, _)| name.as_bytes());
            names.extend(all.filter(|name| !facts::is_noise(name)).map(<[u8]>::to_vec));
            // A macro may do anything with a value, and what comes of it may not be found again.
            let is_script = self.allowed.clock;
            names.extend(facts::TARGETS.iter().filter(|_| !is_script).map(|name| name.as_bytes().to_vec()));
        }
        names.insert(b"LD_LIBRARY_PATH".to_vec());
        for name in names {
            let text = String::from_utf8_lossy(&name).into_owned();
            if facts::is_aside(&name) {
                continue;
            }
            let value = self.here.env.get(&text).map(|value| value.as_bytes().to_vec());
            let hidden = text == "LD_LIBRARY_PATH" || self.allowed.hidden.contains(&text);
            let fact = if hidden {
                Fact::Hidden(Raw(name), value.map(|value| Raw(self.here.folders.hide(&value))))
            } else {
                Fact::Variable(Raw(name), value.map(Raw))
            };
            self.add(fact);
        }
        Ok(())
    }

    /// [`observe::may_read_all_variables`], asked once of each content: a macro is loaded by many units.
    fn may_read_all_variables(&self, path: &Path) -> bool {
        let room = self.here.room;
        let digest = |path: &Path| room.memo.digest(path).ok().map(|(_, digest)| digest);
        let Some(before) = digest(path) else { return observe::may_read_all_variables(path) };
        if let Some(reads) = reads_all_variables(room, &before) {
            return reads;
        }
        let reads = observe::may_read_all_variables(path);
        if digest(path) == Some(before) {
            remember_reads_all_variables(room, &before, reads);
        }
        reads
    }

    /// Programs and libraries that were run or loaded and that the user or cargo made: rustc itself and the system's
    /// tools ask for variables by name. What a linker makes it reads as well, and does not load.
    fn loaded(&self, seen: &Seen) -> Vec<PathBuf> {
        let is_made = |path: &Path| {
            let mark = self.here.folders.mark_of(path.as_os_str().as_bytes());
            let system = ["/usr/", "/lib", "/bin/", "/sbin/", "/etc/"]
                .iter()
                .any(|folder| path.as_os_str().as_bytes().starts_with(folder.as_bytes()));
            mark != Some(b'S') && !system
        };
        let libraries = seen.read.iter().map(|found| self.cleaner.clean(&found.path)).filter(|path| {
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            name.ends_with(b".so") || memchr::memmem::find(name, b".so.").is_some()
        });
        let programs = seen.executed.keys().map(|path| self.cleaner.clean(path));
        libraries
            .chain(programs)
            .filter(|path| {
                is_made(path)
                    && !self.allowed.outputs.contains(path)
                    && ![&self.allowed.library, &self.allowed.spolia].contains(&&Some(path.clone()))
            })
            .collect()
    }
}

/// The name under which it is remembered of a content whether it may read all variables.
fn name_of_answer(content: &Digest) -> Digest {
    Digest::blake3(&[b"reads all variables 1", content.as_bytes().as_slice()].concat())
}

fn answer_of(reads: bool) -> Digest {
    Digest::blake3(&[u8::from(reads)])
}

/// Whether a program of this content may read all variables, where that was found out before.
fn reads_all_variables(room: &Room, content: &Digest) -> Option<bool> {
    let answer = room.memo.recall(&name_of_answer(content))?;
    [false, true].into_iter().find(|reads| answer_of(*reads) == answer)
}

/// Remembers what a [`observe::TableSearch`] of this content found.
pub(super) fn remember_reads_all_variables(room: &Room, content: &Digest, reads: bool) {
    room.memo.remember(&name_of_answer(content), &answer_of(reads));
}

fn is_file(path: &Path) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
}

/// Whether it is a program, a library or an archive of objects, however long: no source is.
fn is_object(path: &Path) -> bool {
    let mut first = [0; 8];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let read =
        rustix::fs::open(path, flags, Mode::empty()).map(|file| File::from(file).read_exact(&mut first));
    read.is_ok_and(|read| read.is_ok()) && (first.starts_with(b"\x7fELF") || &first == b"!<arch>\n")
}

fn is_read_only(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| stat.st_mode & 0o222 == 0)
}

fn is_rlib_of_an_rmeta(path: &Path, seen: &Seen) -> bool {
    if path.extension() != Some(OsStr::new("rlib")) {
        return false;
    }
    seen.has_read(&path.with_extension("rmeta"))
}
