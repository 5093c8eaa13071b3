//! Links on the way to what a compiler read: `paths → links, and where they lead`.
//!
//! GCC, and Clang since 17, name a header of a system folder by what its path is without links, where that is shorter: in
//! dependencies, in debug information, in `__FILE__`. A link that leads to another folder with the same headers then
//! changes what comes out, and no file's content. What is no link and becomes one is not noted: its name goes on to lead there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use spolia_engine::observe;

use crate::direct::leads_to;

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// What was found out about paths.
#[derive(Default)]
struct Ways {
    known: HashMap<PathBuf, PathBuf>,
    /// Each link that was met, under what its path is without links, and where it leads.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Ways {
    /// An absolute path without links; what is not there is taken as it is.
    fn resolve(&mut self, path: &Path, depth: usize) -> PathBuf {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let (Some(parent), Some(last)) = (path.parent(), path.components().next_back()) else {
            return path.to_owned();
        };
        let folder = self.resolve(parent, depth);
        let resolved = match last {
            Component::ParentDir => folder.parent().unwrap_or(&folder).to_owned(),
            _ => {
                let here = folder.join(last);
                match leads_to(&here).filter(|_| depth < LINKS_MAX) {
                    Some(to) => {
                        let resolved = self.resolve(&to, depth + 1);
                        self.links.insert(here, to);
                        resolved
                    }
                    None => here,
                }
            }
        };
        self.known.insert(path.to_owned(), resolved.clone());
        resolved
    }
}

/// The links on the way to headers whose names without links may be part of what came out, in path order. `source` is absolute:
/// its own name stays as it was given.
pub(super) fn that_matter(
    observed: &observe::Seen,
    source: &Path,
    matters: impl Fn(&Path) -> bool,
) -> BTreeMap<PathBuf, PathBuf> {
    // A program without our library does not say what it asked.
    let says = observed.executed.values().all(|executed| executed.says_variables);
    let read = observed.read.iter().map(|found| &found.path).filter(|_| !says);
    let folders = observed.looked.iter().filter(|(_, is_folder)| *is_folder && !says).map(|(path, _)| path);
    let (mut all, mut used) = (Ways::default(), Ways::default());
    for path in observed.resolved.iter().chain(read) {
        if path == source || !matters(path) {
            continue;
        }
        let resolved = all.resolve(path, 0);
        if resolved != *path && (observed.has_read(path) || observed.has_read(&resolved)) {
            used.resolve(path, 0);
        }
    }
    for path in folders.filter(|path| matters(path)) {
        used.resolve(path, 0);
    }
    used.links
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_on_the_way_is_found_under_its_own_place() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("real/sub")).unwrap();
        std::fs::write(base.join("real/sub/h.h"), "").unwrap();
        symlink("real", base.join("one")).unwrap();
        symlink(base.join("one/./sub"), base.join("two")).unwrap();
        symlink("../real/sub/h.h", base.join("real/other.h")).unwrap();
        symlink("round", base.join("round")).unwrap();
        let check = |path: &str, expect: &str, links: &[(&str, &str)]| {
            let mut ways = Ways::default();
            assert_eq!(ways.resolve(&base.join(path), 0), base.join(expect), "{path}");
            let links = links.iter().map(|(link, to)| (base.join(link), base.join(to))).collect();
            assert_eq!(ways.links, links, "{path}");
        };
        check("real/sub/h.h", "real/sub/h.h", &[]);
        check("one/sub/h.h", "real/sub/h.h", &[("one", "real")]);
        check("two/h.h", "real/sub/h.h", &[("two", "one/sub"), ("one", "real")]);
        check("two/../sub/h.h", "real/sub/h.h", &[("two", "one/sub"), ("one", "real")]);
        check("real/other.h", "real/sub/h.h", &[("real/other.h", "real/sub/h.h")]);
        check("none/h.h", "none/h.h", &[]);
        check("round/h.h", "round/h.h", &[("round", "round")]);
    }
}
