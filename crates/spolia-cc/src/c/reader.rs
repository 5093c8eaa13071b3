//! What the compiler was observed to look at, as facts: `observe::Seen → Seen`.
//!
//! | observed | becomes |
//! |---|---|
//! | a file read | its content; none where it was written by the compile itself, or is a part of the compiler |
//! | a name looked for and not there | that it is not there; outside of the project, that the first folder on the way is not |
//! | a name looked for and there | that it is there |
//! | a link on the way to a header whose name without links was asked for | where it leads (`links.rs`) |
//! | a folder listed | its names |
//! | a program started that is no part of the compiler | its content |
//! | a file written that still is there and is no output we know | not kept: we would not put it back |
//! | a network connection, more than could be noted | not kept |
//!
//! What lies below `/proc`, `/sys` and `/dev` is no fact: it differs at each run and is no source.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use spolia_engine::observe;

use super::{links, marks};
use crate::call::{Call, NotKept, Ran};
use crate::direct::{Fact, Seen, listing};
use crate::outcome::NotCacheable;
use crate::replay::Place;
use crate::sets::Raw;
use crate::{Room, Site, chain};

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
        let called = std::iter::once(&self.call.program).chain(observed.executed.keys());
        if let Some(cache) = called.into_iter().find(|path| chain::leads_to_cache(path)) {
            let argument = Some(format!("`{}`, a cache, may have answered", cache.display()));
            return Err(NotKept::Never(NotCacheable::HiddenInputs, argument));
        }
        let mut seen = Seen::default();
        self.check_written(observed, places)?;
        let is_written = |path: &Path| observed.has_written(path);
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
        let missing = observed.missing.iter().filter(|path| self.matters(path) && !is_written(path));
        seen.facts.extend(self.absent(missing).into_iter().map(|path| Fact::Absent(self.write(path))));
        for (path, is_folder) in &observed.looked {
            if !is_folder && self.matters(path) && !is_written(path) {
                seen.facts.push(Fact::Present(self.write(path)));
            }
        }
        let source = self.room.site.cwd.join(self.source);
        for (link, to) in links::that_matter(observed, &source, |path| self.matters(path)) {
            // What lies behind a link to the checkout is named without its path, so that nobody else's is found in it.
            seen.bound |= self.room.site.root.as_ref().is_some_and(|root| root.starts_with(&link));
            seen.facts.push(Fact::Link(self.write(&link), self.write(&to)));
        }
        for path in &observed.listed {
            if self.matters(path) {
                let names = listing(self.room, path).ok_or_else(|| unreadable(path))?;
                seen.facts.push(Fact::Listing(self.write(path), names));
            }
        }
        Ok(seen)
    }

    /// What was looked for in vain, each once. Of the system's folders many are asked for names in folders that they do
    /// not have: one fact for each of these is enough. In the project such a folder is often made by the build.
    fn absent<'p>(&self, missing: impl Iterator<Item = &'p PathBuf>) -> BTreeSet<&'p Path> {
        let Site { cwd, root } = &self.room.site;
        let is_ours =
            |path: &Path| path.starts_with(cwd) || root.as_ref().is_some_and(|root| path.starts_with(root));
        let mut there = HashMap::new();
        missing
            .map(|path| if is_ours(path) { path.as_path() } else { first_missing(path, &mut there) })
            .collect()
    }

    fn write(&self, path: &Path) -> Raw {
        Raw(self.room.site.write(path.as_os_str().as_bytes()))
    }

    fn matters(&self, path: &Path) -> bool {
        let raw = path.as_os_str().as_bytes();
        let below = |folders: &[&str]| folders.iter().any(|folder| raw.starts_with(folder.as_bytes()));
        // A compile's own scratch is in the store.
        !path.starts_with(self.room.store.base())
            && !below(SYSTEM)
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

    /// Whether all that was written is either gone again or an output that we keep.
    fn check_written(&self, observed: &observe::Seen, places: &[Place]) -> Result<(), NotKept> {
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
        Ok(())
    }
}

/// The first folder on the way to `path` that is not there, else `path`. `there`: what is known of folders.
fn first_missing<'p>(path: &'p Path, there: &mut HashMap<&'p Path, bool>) -> &'p Path {
    let mut first = path;
    for folder in path.ancestors().skip(1) {
        if *there.entry(folder).or_insert_with(|| rustix::fs::stat(folder).is_ok()) {
            break;
        }
        first = folder;
    }
    first
}

fn unreadable(path: &Path) -> NotKept {
    NotKept::Now(format!("`{}` cannot be read", OsStr::from_bytes(path.as_os_str().as_bytes()).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_folder_that_is_not_there_stands_for_all_in_it() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("a")).unwrap();
        std::fs::write(temp.path().join("file"), "").unwrap();
        let check = |path: &str, expect: &str| {
            let path = temp.path().join(path);
            assert_eq!(
                first_missing(&path, &mut HashMap::new()),
                temp.path().join(expect),
                "{}",
                path.display()
            );
        };
        check("a/x.h", "a/x.h");
        check("b/x.h", "b");
        check("b/c/x.h", "b");
        check("a/c/d/../x.h", "a/c");
        check("file/x.h", "file/x.h");
    }
}
