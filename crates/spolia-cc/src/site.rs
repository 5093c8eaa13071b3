//! Where a call happens, and how its paths are written so that another checkout writes the same. Pure but for
//! the looks for a project's root and for what lies beside it.
//!
//! A path below the project's root is written `~` and the rest, any other `=` and as it was spelled. A call in
//! `/a/project/build` of `/a/project/x.c` and one in `/b/project/build` of `/b/project/x.c` are then one call.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What marks the root of a project, the likeliest first.
const MARKS: &[&str] = &[".git", "spolia.toml", ".jj", ".hg"];

/// Where a call happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The current folder, as the shell spells it.
    pub cwd: PathBuf,
    /// The project's root, above or at `cwd`; `None` where there is none that could be told.
    pub root: Option<PathBuf>,
}

impl Site {
    /// The site of a call in `cwd` whose main source is `source`. The root is `given`, else the nearest folder at
    /// or above `cwd` with a mark of a project in it, else the folder that `cwd` and `source` share.
    pub fn find(cwd: PathBuf, source: &Path, given: Option<&Path>, home: Option<&Path>) -> Self {
        let root = given
            .filter(|root| root.is_absolute() && cwd.starts_with(root))
            .map(Path::to_owned)
            .or_else(|| marked(&cwd))
            .or_else(|| shared(&cwd, source, home));
        Self { cwd, root }
    }

    /// `path` in a form that does not name this checkout.
    pub fn write(&self, path: &[u8]) -> Vec<u8> {
        if let Some(rest) = self.below_root(path) {
            return [b"~", rest].concat();
        }
        [b"=", path].concat()
    }

    /// What [`Site::write`] wrote, here.
    pub fn read(&self, written: &[u8]) -> Option<PathBuf> {
        let (kind, rest) = written.split_first()?;
        match kind {
            b'~' => {
                let mut path = self.root.as_ref()?.as_os_str().as_bytes().to_vec();
                path.extend_from_slice(rest);
                Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
            }
            b'=' => Some(PathBuf::from(OsStr::from_bytes(rest))),
            _ => None,
        }
    }

    /// What comes after the root in `path`, with its `/`.
    fn below_root<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.root.as_ref()?.as_os_str().as_bytes())?;
        (rest.is_empty() || rest[0] == b'/').then_some(rest)
    }

    /// The current folder in the form of [`Site::write`].
    pub fn written_cwd(&self) -> Vec<u8> {
        self.write(self.cwd.as_os_str().as_bytes())
    }

    /// `text` with `mark` wherever the root's path stands.
    pub fn hide_root(&self, text: &[u8], mark: &[u8]) -> Hidden {
        match &self.root {
            Some(root) => hide(text, root.as_os_str().as_bytes(), mark),
            None => Hidden { text: text.to_vec(), unsure: false },
        }
    }
}

/// A text without the path of the checkout it was written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The text.
    pub text: Vec<u8>,
    /// Whether the path stood somewhere in the middle of another word: perhaps it was meant.
    pub unsure: bool,
}

/// `text` with `mark` in place of `folder`, where that stands for itself or for the beginning of a path. `/a/p` is not meant
/// in `/a/pp/x.h`, which lies beside it, and not in `/x/a/p`.
pub fn hide(text: &[u8], folder: &[u8], mark: &[u8]) -> Hidden {
    let mut hidden = Vec::with_capacity(text.len());
    let mut unsure = false;
    let mut from = 0;
    if folder.is_empty() {
        return Hidden { text: text.to_vec(), unsure };
    }
    for at in memchr::memmem::find_iter(text, folder) {
        let end = at + folder.len();
        if text.get(end).copied().is_some_and(is_of_a_name) {
            continue;
        }
        if !begins_a_path(&text[..at]) {
            unsure = true;
            continue;
        }
        hidden.extend_from_slice(&text[from..at]);
        hidden.extend_from_slice(mark);
        from = end;
    }
    hidden.extend_from_slice(&text[from..]);
    Hidden { text: hidden, unsure }
}

/// What lies beside `root` with a name that begins with its name: `p-deps` beside `p`.
pub fn named_alike(root: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (root.parent(), root.file_name()) else { return Vec::new() };
    let beside = std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| {
        let other = entry.file_name();
        other != name && other.as_bytes().starts_with(name.as_bytes())
    });
    let mut beside: Vec<PathBuf> = beside.map(|entry| entry.path()).collect();
    // One of them may begin with another's name.
    beside.sort_unstable();
    beside
}

/// Whether `content` names `folder`, or something in it. A folder beside it whose name begins with its name is another.
pub fn names(content: &[u8], folder: &Path) -> bool {
    let raw = folder.as_os_str().as_bytes();
    let mut alike = None;
    let is_another = |at: usize| {
        let alike = alike.get_or_insert_with(|| named_alike(folder));
        alike.iter().any(|other| content[at..].starts_with(other.as_os_str().as_bytes()))
    };
    !memchr::memmem::find_iter(content, raw).all(is_another)
}

/// Whether a name goes on with this byte.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-+@~".contains(&byte) || byte >= 0x80
}

/// Whether what follows `before` is the beginning of a path: no letter stands before it but those of a terminal's
/// escape sequence.
fn begins_a_path(before: &[u8]) -> bool {
    let Some((last, rest)) = before.split_last() else { return true };
    if !is_of_a_name(*last) && *last != b'/' {
        return true;
    }
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    last.is_ascii_alphabetic() && rest[..rest.len() - digits].ends_with(b"\x1b[")
}

/// `bytes` with `from` replaced by `to` wherever it stands; `None` where it is not there.
pub fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let mut replaced: Option<Vec<u8>> = None;
    while let Some(at) = find(rest, from) {
        let into = replaced.get_or_insert_default();
        into.extend_from_slice(&rest[..at]);
        into.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    if let Some(into) = &mut replaced {
        into.extend_from_slice(rest);
    }
    replaced
}

/// Where `needle` begins in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(hay, needle)
}

fn marked(cwd: &Path) -> Option<PathBuf> {
    let above = cwd.ancestors().take_while(|folder| folder.parent().is_some());
    let has_mark = |folder: &&Path| MARKS.iter().any(|mark| rustix::fs::lstat(folder.join(mark)).is_ok());
    above.take(32).find(has_mark).map(Path::to_owned)
}

/// The folder that holds both; none that everybody has.
fn shared(cwd: &Path, source: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let source = cwd.join(source);
    let folder = source.parent()?;
    let up = |path: &Path| path.components().any(|part| part == std::path::Component::ParentDir);
    if up(folder) {
        return Some(cwd.to_owned()).filter(|_| deep(cwd, home));
    }
    let common: PathBuf =
        cwd.components().zip(folder.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    if deep(&common, home) { Some(common) } else { Some(cwd.to_owned()).filter(|_| deep(cwd, home)) }
}

/// Whether a folder can be a project: not `/`, not `/tmp`, not somebody's home.
fn deep(folder: &Path, home: Option<&Path>) -> bool {
    folder.components().count() > 2 && home != Some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(cwd: &str, root: Option<&str>) -> Site {
        Site { cwd: PathBuf::from(cwd), root: root.map(PathBuf::from) }
    }

    #[test]
    fn paths_below_the_root_are_written_without_it_and_read_elsewhere() {
        let (here, there) = (site("/a/p/b", Some("/a/p")), site("/x/b", Some("/x")));
        let check = |path: &str, written: &str, read: &str| {
            assert_eq!(here.write(path.as_bytes()), written.as_bytes());
            assert_eq!(there.read(written.as_bytes()), Some(PathBuf::from(read)));
        };
        check("/a/p/x.c", "~/x.c", "/x/x.c");
        check("/a/p", "~", "/x");
        check("/a/pp/x.c", "=/a/pp/x.c", "/a/pp/x.c");
        check("../x.c", "=../x.c", "../x.c");
        assert_eq!(site("/a", None).read(b"~/x"), None);
        assert_eq!(site("/a", None).read(b""), None);
    }

    #[test]
    fn without_a_mark_the_shared_folder_is_the_root() {
        let check = |cwd: &str, source: &str, expect: Option<&str>| {
            let home = Path::new("/home/u/dev");
            assert_eq!(shared(Path::new(cwd), Path::new(source), Some(home)), expect.map(PathBuf::from));
        };
        check("/t/p/build", "/t/p/src/x.c", Some("/t/p"));
        check("/t/p", "src/x.c", Some("/t/p"));
        check("/t/p/build", "../src/x.c", Some("/t/p/build"));
        check("/tmp", "x.c", None);
        check("/tmp/build", "/home/x.c", Some("/tmp/build"));
        check("/home/u/dev", "x.c", None);
    }

    #[test]
    fn every_mention_of_the_root_is_replaced() {
        let check = |text: &str, expect: &str, unsure: bool| {
            let hidden = site("/a/p", Some("/a/p")).hide_root(text.as_bytes(), b"~");
            assert_eq!((String::from_utf8_lossy(&hidden.text).as_ref(), hidden.unsure), (expect, unsure));
        };
        check("x /a/p/y /a/p", "x ~/y ~", false);
        check("nothing", "nothing", false);
        check("/a/p: in `/a/p/x.c'", "~: in `~/x.c'", false);
        check("\x1b[01m\x1b[K/a/p/x.c:1\x1b[m\x1b[K", "\x1b[01m\x1b[K~/x.c:1\x1b[m\x1b[K", false);
        // Beside it.
        check("/a/pp/x.h /a/p-deps/x.h /a/p.h", "/a/pp/x.h /a/p-deps/x.h /a/p.h", false);
        check("/x/a/p/y -I/a/p", "/x/a/p/y -I/a/p", true);
    }
}
