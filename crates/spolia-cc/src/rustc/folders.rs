//! The folders that differ from checkout to checkout, and texts and paths without them. Pure.
//!
//! | mark | folder |
//! |---|---|
//! | `W` | where the call runs: cargo's workspace, or a package's own folder |
//! | `T` | cargo's target folder |
//! | `C` | cargo's home |
//! | `S` | the toolchain |
//!
//! A path is written as the mark of the longest folder it lies in and the rest; any other as `=` and the path. In a text
//! each mention of a folder is written as [`HIDDEN`] and its mark. A folder whose name needs quoting somewhere is not used:
//! then paths in it are simply not shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// Stands before a mark in a text; no text of a compiler holds it.
const HIDDEN: &[u8] = b"\0\x1a";
/// A path that lies in no folder.
const PLAIN: u8 = b'=';

/// The folders of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// Longest first.
    list: Vec<(u8, Vec<u8>)>,
}

impl Folders {
    /// Adds a folder; one that cannot stand for itself in every text is left out.
    pub fn add(&mut self, mark: u8, folder: &Path) {
        let raw = folder.as_os_str().as_bytes();
        let raw = raw.strip_suffix(b"/").unwrap_or(raw);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || b"/._-+@~".contains(byte);
        let deep = raw.iter().filter(|byte| **byte == b'/').count() > 0 && raw.len() > 1;
        let known = self.list.iter().any(|(_, known)| known == raw);
        if raw.starts_with(b"/") && deep && raw.iter().all(plain) && is_clean(raw) && !known {
            self.list.push((mark, raw.to_vec()));
            self.list.sort_by_key(|(_, folder)| std::cmp::Reverse(folder.len()));
        }
    }

    /// The folder behind a mark.
    pub fn get(&self, mark: u8) -> Option<&Path> {
        let found = self.list.iter().find(|(known, _)| *known == mark)?;
        Some(Path::new(OsStr::from_bytes(&found.1)))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.list.iter().map(|(mark, folder)| (*mark, folder.as_slice()))
    }

    /// The mark of the innermost folder that an absolute path lies in.
    pub fn mark_of(&self, path: &[u8]) -> Option<u8> {
        let within =
            |folder: &[u8]| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        self.list.iter().find(|(_, folder)| within(folder)).map(|(mark, _)| *mark)
    }

    /// A path in a form that any checkout may read.
    pub fn write(&self, path: &[u8]) -> Vec<u8> {
        match self.list.iter().find(|(_, folder)| {
            path.strip_prefix(folder.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        }) {
            Some((mark, folder)) => [&[*mark], &path[folder.len()..]].concat(),
            None => [&[PLAIN], path].concat(),
        }
    }

    /// What [`Folders::write`] wrote, here; `None` where there is no such folder.
    pub fn read(&self, written: &[u8]) -> Option<PathBuf> {
        let (mark, rest) = written.split_first()?;
        if *mark == PLAIN {
            return Some(PathBuf::from(OsStr::from_bytes(rest)));
        }
        let (_, folder) = self.list.iter().find(|(known, _)| known == mark)?;
        Some(PathBuf::from(OsString::from_vec([folder, rest].concat())))
    }

    /// A text without the folders.
    pub fn hide(&self, text: &[u8]) -> Vec<u8> {
        let mut hidden = Vec::with_capacity(text.len());
        let mut from = 0;
        for at in memchr::memchr_iter(b'/', text) {
            if at < from || !begins_a_path(text, at) {
                continue;
            }
            let ends = |folder: &[u8]| {
                text[at..]
                    .strip_prefix(folder)
                    .is_some_and(|rest| rest.first().is_none_or(|next| !goes_on(*next)))
            };
            if let Some((mark, folder)) = self.list.iter().find(|(_, folder)| ends(folder)) {
                hidden.extend_from_slice(&text[from..at]);
                hidden.extend_from_slice(HIDDEN);
                hidden.push(*mark);
                from = at + folder.len();
            }
        }
        hidden.extend_from_slice(&text[from..]);
        hidden
    }

    /// What [`Folders::hide`] made, here; `None` where there is no such folder.
    pub fn show(&self, hidden: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(hidden.len() + 64);
        let mut rest = hidden;
        while let Some(at) = memchr::memmem::find(rest, HIDDEN) {
            text.extend_from_slice(&rest[..at]);
            let mark = rest.get(at + HIDDEN.len())?;
            let (_, folder) = self.list.iter().find(|(known, _)| known == mark)?;
            text.extend_from_slice(folder);
            rest = &rest[at + HIDDEN.len() + 1..];
        }
        text.extend_from_slice(rest);
        Some(text)
    }
}

/// Looks for the folders' paths in contents that come piece by piece: which stand anywhere. Each place counts for the
/// longest folder.
pub struct Search<'f> {
    folders: &'f Folders,
    /// What may begin a path that goes on in the next piece.
    rest: Vec<u8>,
    longest: usize,
    found: Vec<u8>,
}

impl<'f> Search<'f> {
    /// Nothing found yet.
    pub fn new(folders: &'f Folders) -> Self {
        let longest = folders.list.first().map_or(0, |(_, folder)| folder.len());
        Self { folders, rest: Vec::new(), longest, found: Vec::new() }
    }

    /// The next piece of a content.
    pub fn push(&mut self, piece: &[u8]) {
        let mut text = std::mem::take(&mut self.rest);
        // What lies in one piece is looked at where it is.
        text.extend_from_slice(&piece[..piece.len().min(self.longest)]);
        let told = text.len().saturating_sub(self.longest);
        self.look(&text, told);
        text.drain(..told);
        if piece.len() > self.longest {
            let told = piece.len() - self.longest;
            self.look(piece, told);
            text.clear();
            text.extend_from_slice(&piece[told..]);
        }
        self.rest = text;
    }

    /// There are no more pieces of this content.
    pub fn end(&mut self) {
        let text = std::mem::take(&mut self.rest);
        self.look(&text, text.len());
    }

    /// The marks of the folders that were found.
    pub fn found(&self) -> &[u8] {
        &self.found
    }

    /// Looks at the places before `told`.
    fn look(&mut self, text: &[u8], told: usize) {
        let list = &self.folders.list;
        if self.found.len() == list.len() {
            return;
        }
        for at in memchr::memchr_iter(b'/', &text[..told]) {
            if let Some((mark, _)) = list.iter().find(|(_, folder)| text[at..].starts_with(folder))
                && !self.found.contains(mark)
            {
                self.found.push(*mark);
            }
        }
    }
}

/// Whether a `/` is where an absolute path begins, and not in the middle of another.
fn begins_a_path(text: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|at| text[at]) else { return true };
    if text[..at].ends_with(b"-L") || text[..at].ends_with(b"-I") {
        return true;
    }
    !before.is_ascii_alphanumeric() && !b"/._-+@~".contains(&before) && before < 0x80
}

/// Whether a name goes on with this byte.
fn goes_on(next: u8) -> bool {
    next.is_ascii_alphanumeric() || b"._-+@~".contains(&next) || next >= 0x80
}

fn is_clean(raw: &[u8]) -> bool {
    raw.get(1..)
        .unwrap_or_default()
        .split(|byte| *byte == b'/')
        .all(|part| !part.is_empty() && part != b"." && part != b"..")
}

/// Whether a clean path lies in a clean folder, or is it.
pub fn is_within(path: &Path, folder: &Path) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(folder.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || folder.as_os_str() == "/")
}

/// A path without `.` and doubled slashes, and without `..`: what it leads up to goes by its true name, what comes after by how it is
/// spelled.
pub fn clean(path: &Path) -> PathBuf {
    Cleaner::default().clean(path)
}

/// [`clean`] for many paths at one moment: what leads up is looked at once.
#[derive(Debug, Default)]
pub struct Cleaner {
    /// Paths that end with `..`, and their true names.
    known: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
}

impl Cleaner {
    /// As [`clean`].
    pub fn clean(&self, path: &Path) -> PathBuf {
        let raw = path.as_os_str().as_bytes();
        if is_clean(raw) {
            return path.to_owned();
        }
        let end = memchr::memmem::rfind_iter(raw, b"..").find_map(|at| {
            let (before, after) = (&raw[..at], &raw[at + 2..]);
            let whole = before.last().is_none_or(|last| *last == b'/')
                && after.first().is_none_or(|next| *next == b'/');
            whole.then_some(at + 2)
        });
        let Some(end) = end else { return path.components().collect() };
        let up = Path::new(OsStr::from_bytes(&raw[..end]));
        let rest = Path::new(OsStr::from_bytes(&raw[end..]));
        let mut known = self.known.borrow_mut();
        let real = match known.get(up) {
            Some(real) => real,
            None => known.entry(up.to_owned()).or_insert_with(|| up.canonicalize().ok()),
        };
        // What is not there has no true name; then it is taken as it is spelled.
        let Some(real) = real else { return path.components().collect() };
        let mut whole = real.clone();
        whole.extend(rest.components().filter(|part| matches!(part, Component::Normal(_))));
        whole
    }
}

/// The target folder that cargo's `out_dir` lies in, by how cargo lays it out.
pub fn target_folder(out_dir: &Path, target: Option<&str>) -> Option<PathBuf> {
    let profile = out_dir.ancestors().skip(1).take(3).find_map(|folder| {
        let below = out_dir.strip_prefix(folder).ok()?.components().next()?;
        let below = below.as_os_str();
        (below == "deps" || below == "build" || below == "examples").then_some(folder)
    })?;
    let above = profile.parent()?;
    let by_triple = target.is_some_and(|target| above.file_name().is_some_and(|name| name == target));
    let folder = if by_triple { above.parent()? } else { above };
    (folder.parent().is_some() && folder.is_absolute()).then(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(list: &[(u8, &str)]) -> Folders {
        let mut folders = Folders::default();
        for (mark, folder) in list {
            folders.add(*mark, Path::new(folder));
        }
        folders
    }

    #[test]
    fn paths_and_texts_are_written_here_and_read_there() {
        let here = folders(&[(b'W', "/a/p"), (b'T', "/a/p/target"), (b'C', "/h/.cargo")]);
        let there = folders(&[(b'W', "/b"), (b'T', "/t"), (b'C', "/u/.cargo")]);
        let check = |path: &str, written: &str, read: &str| {
            assert_eq!(here.write(path.as_bytes()), written.as_bytes());
            assert_eq!(there.read(written.as_bytes()), Some(PathBuf::from(read)));
        };
        check("/a/p/src/x.rs", "W/src/x.rs", "/b/src/x.rs");
        check("/a/p/target/debug/x", "T/debug/x", "/t/debug/x");
        check("/a/pp/x", "=/a/pp/x", "/a/pp/x");
        check("src/x", "=src/x", "src/x");
        let check = |text: &str, read: &str| {
            let hidden = here.hide(text.as_bytes());
            assert_eq!(
                there.show(&hidden).map(|text| String::from_utf8(text).unwrap()).as_deref(),
                Some(read)
            );
        };
        check("{\"artifact\":\"/a/p/target/d/x.rmeta\"}", "{\"artifact\":\"/t/d/x.rmeta\"}");
        check("dependency=/a/p/target/deps -L/a/p/l", "dependency=/t/deps -L/b/l");
        check("/a/p: /a/p/x /a/pp /x/a/p", "/b: /b/x /a/pp /x/a/p");
        check("", "");
        assert_eq!(folders(&[]).show(b"\0\x1aW/x"), None);
        assert_eq!(folders(&[]).show(b"\0\x1a"), None);
    }

    #[test]
    fn odd_folders_are_not_used() {
        let odd = folders(&[(b'W', "/a b"), (b'T', "/"), (b'C', "rel"), (b'S', "/a/../b"), (b'X', "/a\"b")]);
        assert_eq!(odd, Folders::default());
    }

    #[test]
    fn each_mention_counts_for_the_longest_folder() {
        let here = folders(&[(b'W', "/a/p"), (b'T', "/a/p/target")]);
        let check = |content: &[u8], expect: &[u8]| {
            for length in 1..=content.len() {
                let mut search = Search::new(&here);
                content.chunks(length).for_each(|piece| search.push(piece));
                search.end();
                let mut found = search.found().to_vec();
                found.sort_unstable();
                assert_eq!(found, expect, "in pieces of {length}");
            }
        };
        check(b"x/a/p/target/y", b"T");
        check(b"x/a/py/a/p/targetz", b"TW");
        check(b"/a/p", b"W");
        check(b"/a/p/targe", b"W");
        check(b"nothing", b"");
        check(&[&[b'x'; 40][..], b"/a/p/target", &[b'y'; 40], b"/a/p", &[b'z'; 40]].concat(), b"TW");
        let mut search = Search::new(&here);
        for piece in ["/a", "/p"] {
            search.push(piece.as_bytes());
            search.end();
        }
        assert_eq!(search.found(), b"", "two contents are not one");
    }

    #[test]
    fn what_leads_up_goes_by_its_true_name() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/inner")).unwrap();
        std::os::unix::fs::symlink("real/inner", root.join("link")).unwrap();
        let cleaner = Cleaner::default();
        for (path, expect) in [
            ("link/../x", "real/x"),
            ("link/../x/./y//z", "real/x/y/z"),
            ("link/..", "real"),
            ("link/../ x", "real/ x"),
            ("real/inner/../../link/x", "link/x"),
            ("gone/../x", "gone/../x"),
            ("a..b/...//..c", "a..b/.../..c"),
            ("x/./y/", "x/y"),
        ] {
            assert_eq!(clean(&root.join(path)), root.join(expect), "{path}");
            assert_eq!(cleaner.clean(&root.join(path)), root.join(expect), "{path}");
        }
        assert_eq!(clean(Path::new("")), Path::new(""));
    }

    #[test]
    fn a_folder_holds_what_goes_on_after_its_name() {
        let check = |path: &str, folder: &str, expect: bool| {
            assert_eq!(is_within(Path::new(path), Path::new(folder)), expect, "{path} {folder}");
        };
        check("/a/b", "/a", true);
        check("/a", "/a", true);
        check("/ab", "/a", false);
        check("/a", "/", true);
        check("/a", "/a/b", false);
    }

    #[test]
    fn the_target_folder_follows_from_cargos_layout() {
        let check = |out_dir: &str, target: Option<&str>, expect: Option<&str>| {
            assert_eq!(target_folder(Path::new(out_dir), target), expect.map(PathBuf::from), "{out_dir}");
        };
        check("/w/target/debug/deps", None, Some("/w/target"));
        check("/w/target/debug/build/x-1", None, Some("/w/target"));
        check("/w/target/x86_64-y/release/deps", Some("x86_64-y"), Some("/w/target"));
        check("/w/target/debug/deps", Some("x86_64-y"), Some("/w/target"));
        check("/w/out", None, None);
        check("/deps", None, None);
    }

    #[test]
    fn any_text_survives() {
        let here = folders(&[(b'W', "/a/p"), (b'T', "/a/p/target")]);
        for text in [&b"/a/p"[..], b"//a/p//", b"\xff/a/p/\xff", b"/a/p/target", b"\0/a/p\0"] {
            assert_eq!(here.show(&here.hide(text)).as_deref(), Some(text));
        }
    }
}
