//! What the compiler was observed to look at, as facts: `observe::Seen → Seen`.
//!
//! | observed | becomes |
//! |---|---|
//! | a file read | its content; none where it was written by the compile itself, or is a part of the compiler |
//! | a name looked for and not there | that it is not there |
//! | a name looked for and there | that it is there |
//! | a folder listed | its names |
//! | a program started that is no part of the compiler | its content |
//! | a file written that still is there and is no output we know | not kept: we would not put it back |
//! | a network connection, more than could be noted | not kept |
//!
//! What lies below `/proc`, `/sys` and `/dev` is no fact: it differs at each run and is no source.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use spolia_engine::observe;

use super::marks;
use crate::Room;
use crate::call::{Call, NotKept, Ran};
use crate::direct::{Fact, Seen, listing};
use crate::outcome::NotCacheable;
use crate::replay::Place;
use crate::sets::Raw;

/// Folders whose files are of the running system.
const SYSTEM: &[&str] = &["/proc/", "/sys/", "/dev/"];
/// Read by every program that is started, and of no meaning to what a compiler gives.
const BY_EVERY_PROGRAM: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/usr/lib/locale/",
    "/usr/share/locale",
    "/usr/share/zoneinfo/",
];

/// What is known when a compile has ended.
pub(super) struct Reader<'r> {
    pub(super) room: &'r Room,
    pub(super) call: &'r Call<'r>,
    pub(super) ran: &'r Ran,
    pub(super) source: &'r Path,
    /// Paths of the compiler's parts, sorted.
    pub(super) parts: &'r [Raw],
}

impl Reader<'_> {
    pub(super) fn seen(&self, observed: &observe::Seen, places: &[Place]) -> Result<Seen, NotKept> {
        if !observed.is_whole() {
            return Err(NotKept::Now("not all that the compiler looked at could be observed".to_owned()));
        }
        if observed.connected {
            return Err(NotKept::Never(NotCacheable::HiddenInputs, Some("a network connection".to_owned())));
        }
        let mut seen = Seen::default();
        let written = self.check_written(observed, places)?;
        let is_written = |path: &Path| written.binary_search_by(|known| known.as_path().cmp(path)).is_ok();
        for found in &observed.read {
            if self.matters(&found.path) && !is_written(&found.path) {
                self.file(found, &mut seen)?;
            }
        }
        // GCC's compiled headers do not tell whether a macro in them asks for the time.
        let compiled = |found: &observe::Found| found.path.extension().is_some_and(|ending| ending == "gch");
        if observed.read.iter().any(|found| compiled(found) && !is_written(&found.path))
            && self.call.env.some("SOURCE_DATE_EPOCH").is_none()
            && places
                .iter()
                .any(|place| std::fs::read(&place.path).is_ok_and(|object| marks::holds_time(&object)))
        {
            let argument = Some("a compiled header, and something like a time in the result".to_owned());
            return Err(NotKept::Never(NotCacheable::TimeMacro, argument));
        }
        for path in observed.executed.keys() {
            if self.matters(path) {
                let digest = self.room.digest(path).map_err(|_| unreadable(path))?.1;
                seen.facts.push(Fact::File(self.write(path), *digest.as_bytes()));
            }
        }
        for path in &observed.missing {
            if self.matters(path) && !is_written(path) {
                seen.facts.push(Fact::Absent(self.write(path)));
            }
        }
        for (path, is_folder) in &observed.looked {
            if !is_folder && self.matters(path) && !is_written(path) {
                seen.facts.push(Fact::Present(self.write(path)));
            }
        }
        for path in &observed.listed {
            if self.matters(path) {
                let names = listing(self.room, path).ok_or_else(|| unreadable(path))?;
                seen.facts.push(Fact::Listing(self.write(path), names));
            }
        }
        Ok(seen)
    }

    fn write(&self, path: &Path) -> Raw {
        Raw(self.room.site.write(path.as_os_str().as_bytes()))
    }

    fn matters(&self, path: &Path) -> bool {
        let raw = path.as_os_str().as_bytes();
        let below = |folders: &[&str]| folders.iter().any(|folder| raw.starts_with(folder.as_bytes()));
        !below(SYSTEM)
            && !below(BY_EVERY_PROGRAM)
            && self.parts.binary_search_by(|part| part.0.as_slice().cmp(raw)).is_err()
    }

    fn file(&self, found: &observe::Found, seen: &mut Seen) -> Result<(), NotKept> {
        let path = &found.path;
        let (key, digest, marked) = self.room.memo.scan(path, &marks::of).map_err(|_| unreadable(path))?;
        let changed = found.key.is_some_and(|then| then != key);
        if changed || key.mtime_ns.max(key.ctime_ns) >= self.ran.began_ns {
            return Err(NotKept::Now(format!("`{}` changed while the compiler ran", path.display())));
        }
        let settled_clock = self.call.env.some("SOURCE_DATE_EPOCH").is_some();
        let compiled_header = path.extension().is_some_and(|ending| ending == "gch");
        if !compiled_header
            && marked & marks::BINARY == 0
            && (marked & marks::TIMESTAMP != 0 || (marked & marks::TIME != 0 && !settled_clock))
        {
            return Err(NotKept::Never(NotCacheable::TimeMacro, Some(path.display().to_string())));
        }
        // The source is in the fast key.
        if *path != self.room.site.cwd.join(self.source) {
            seen.facts.push(Fact::File(self.write(path), *digest.as_bytes()));
        }
        Ok(())
    }

    /// All that was written, sorted, if it is either gone again or an output that we keep.
    fn check_written(&self, observed: &observe::Seen, places: &[Place]) -> Result<Vec<PathBuf>, NotKept> {
        let known: Vec<PathBuf> = places.iter().map(|place| self.room.site.cwd.join(&place.path)).collect();
        let identity = |path: &Path| rustix::fs::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
        for path in &observed.written {
            let system =
                SYSTEM.iter().any(|folder| path.as_os_str().as_bytes().starts_with(folder.as_bytes()));
            if system || known.contains(path) {
                continue;
            }
            // Perhaps another spelling of an output.
            let found = identity(path);
            if found.is_some() && !known.iter().any(|known| identity(known) == found) {
                let argument = Some(format!("it also writes `{}`", path.display()));
                return Err(NotKept::Never(NotCacheable::Argument, argument));
            }
        }
        let mut written = observed.written.clone();
        written.sort_unstable();
        Ok(written)
    }
}

fn unreadable(path: &Path) -> NotKept {
    NotKept::Now(format!("`{}` cannot be read", OsStr::from_bytes(path.as_os_str().as_bytes()).display()))
}
