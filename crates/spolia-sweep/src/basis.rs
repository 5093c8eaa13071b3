//! What an answer of Cargo follows from: `paths → bytes → Digest`. Everything is read again each time; no `stat` is
//! believed, and what is not there counts as such.
//!
//! The paths are kept beside an answer ([`Source`]), so that it can be said later, without Cargo, whether it still holds.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spolia_core::Digest;
use spolia_core::conf::{self, Problems, Value};

use crate::glance::{self, Glance, Text};

/// Changes with what is digested.
const VERSION: u32 = 4;
/// Files and folders that tell Cargo or rustup what to do, in a folder and in those above it.
const ABOVE: &[&str] = &[".cargo/config.toml", ".cargo/config", "rust-toolchain.toml", "rust-toolchain"];
/// How many folders a pattern of members may lead to.
const FOLDERS_MAX: usize = 10_000;

/// Something that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// The bytes of a file.
    File(PathBuf),
    /// A file of Cargo's configuration, which may name others.
    Configuration(PathBuf),
    /// What in a folder Cargo may take for a target by itself.
    Targets(PathBuf),
    /// Folders with a manifest that a pattern of `members` below a folder may mean.
    Members(PathBuf, String),
}

/// What is digested, part by part, each with its length.
#[derive(Debug, Default)]
pub(crate) struct Basis {
    bytes: Vec<u8>,
    sources: Vec<Source>,
    /// Whether something matters that is not looked at.
    is_partial: bool,
    /// Names of the packages that are described.
    pub(crate) packages: BTreeSet<String>,
}

impl Basis {
    /// That of an answer with these sources, as things are now.
    pub(crate) fn of(sources: &[Source]) -> Self {
        let mut basis = Self::default();
        sources.iter().for_each(|source| basis.look(source.clone()));
        basis
    }

    /// The same, as things were when they were looked at first.
    pub(crate) fn glanced(sources: &[Source], glance: &Glance) -> Self {
        let mut basis = Self::default();
        sources.iter().for_each(|source| basis.look_by(source.clone(), &|path| glance.text(path)));
        basis
    }

    /// Adds something that is not read from a disk.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(part);
        }
    }

    /// Looks at something, and notes that.
    pub(crate) fn look(&mut self, source: Source) {
        self.look_by(source, &glance::text);
    }

    fn look_by(&mut self, source: Source, read: &dyn Fn(&Path) -> Text) {
        match &source {
            Source::File(path) => {
                self.add_file(path, read);
            }
            Source::Configuration(path) => {
                // What it includes is not followed.
                let text = self.add_file(path, read).unwrap_or_default();
                let is_include = |line: &[u8]| {
                    let line = line.trim_ascii_start();
                    line.strip_prefix(b"\"").unwrap_or(line).starts_with(b"include")
                };
                self.is_partial |= text.split(|byte| *byte == b'\n').any(is_include);
            }
            Source::Targets(folder) => self.add_targets(folder),
            Source::Members(folder, pattern) => match members(folder, pattern) {
                Some(folders) => {
                    for folder in folders {
                        self.add("member", folder.as_os_str().as_bytes());
                    }
                }
                None => self.is_partial = true,
            },
        }
        self.sources.push(source);
    }

    /// Files that count for whoever calls Cargo in `folder`. `home` is `CARGO_HOME`.
    pub(crate) fn look_above(&mut self, folder: &Path, home: &Path) {
        for above in folder.ancestors() {
            for name in ABOVE {
                let path = above.join(name);
                self.look(match name.starts_with(".cargo") {
                    true => Source::Configuration(path),
                    false => Source::File(path),
                });
            }
        }
        for name in ["config.toml", "config"] {
            self.look(Source::Configuration(home.join(name)));
        }
    }

    /// The manifest of a workspace, and whatever its patterns of members may mean.
    pub(crate) fn look_at_workspace(&mut self, root: &Path) {
        let manifest = root.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap_or_default();
        self.look(Source::File(manifest));
        let mut problems = Problems::default();
        let mut whole = conf::parse(0, &text, &mut problems);
        let workspace = whole.take_table("workspace", &mut problems);
        let members = workspace.and_then(|mut workspace| workspace.take("members"));
        if let Some(Value::Array(patterns)) = members.map(|members| members.value.value) {
            for pattern in patterns {
                match pattern.value {
                    Value::String(pattern) if is_pattern(&pattern) => {
                        self.look(Source::Members(root.to_owned(), pattern.into_owned()));
                    }
                    Value::String(_) => {}
                    _ => self.is_partial = true,
                }
            }
        }
        self.is_partial |= problems.error_count() > 0;
    }

    /// The file's bytes; one that is not there is told apart from an empty one.
    fn add_file(&mut self, path: &Path, read: &dyn Fn(&Path) -> Text) -> Text {
        let text = read(path)?;
        self.add(&path.to_string_lossy(), &text);
        Some(text)
    }

    fn add_targets(&mut self, folder: &Path) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_target = |entry: &std::fs::DirEntry| {
            entry.file_name().as_bytes().ends_with(b".rs")
                || !entry.file_type().is_ok_and(|kind| kind.is_file())
                    && entry.path().join("main.rs").is_file()
        };
        let mut names: Vec<_> = entries.filter(is_target).map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            self.add(&folder.to_string_lossy(), name.as_bytes());
        }
    }

    /// What was looked at, in order.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Whether nothing else matters, as far as is known.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_partial
    }

    pub(crate) fn digest(&self) -> Digest {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        Digest::blake3(&bytes)
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Folders with a manifest that `pattern` may mean below `root`, and more: a part with a wildcard stands for every folder.
/// `None` where that would be a search without end.
fn members(root: &Path, pattern: &str) -> Option<Vec<PathBuf>> {
    let mut folders = vec![root.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part.contains("**") {
            return None;
        }
        folders = match is_pattern(part) {
            false => folders.into_iter().map(|folder| folder.join(part)).collect(),
            true => folders.iter().flat_map(|folder| children(folder)).collect(),
        };
        if folders.len() > FOLDERS_MAX {
            return None;
        }
    }
    folders.retain(|folder| folder.join("Cargo.toml").is_file());
    folders.sort();
    Some(folders)
}

/// Folders in one; a link may lead to one.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let may_be_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| !kind.is_file());
    entries.filter(may_be_folder).map(|entry| entry.path()).collect()
}

/// Variables that may change what Cargo, rustc or rustup say.
pub(crate) fn is_asked_of(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let has = |part: &[u8]| name.windows(part.len()).any(|found| found == part);
    has(b"CARGO") || has(b"RUST") || [b"HOME".as_slice(), b"PATH"].contains(&name) || name.starts_with(b"LD_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A workspace with one member by a pattern, and what its answers follow from.
    fn workspace(root: &Path) -> Basis {
        write(&root.join("Cargo.toml"), "[workspace]\nmembers = [\"crates/*\", \"plain\"]\n");
        write(&root.join("crates/one/Cargo.toml"), "[package]\nname = \"one\"\n");
        write(&root.join("crates/one/src/lib.rs"), "");
        let mut basis = Basis::default();
        basis.look_at_workspace(root);
        basis.look(Source::File(root.join("crates/one/Cargo.toml")));
        basis.look(Source::Targets(root.join("crates/one/src")));
        basis.look_above(root, &root.join("home"));
        basis
    }

    #[test]
    fn whatever_comes_or_goes_is_seen() {
        let check = |what: &str, changes: bool, change: &dyn Fn(&Path)| {
            let temp = tempfile::tempdir().unwrap();
            let root = temp.path().canonicalize().unwrap();
            let basis = workspace(&root);
            assert!(basis.is_whole(), "{what}");
            assert_eq!(Basis::of(basis.sources()).digest(), basis.digest(), "{what}");
            change(&root);
            let now = Basis::of(basis.sources());
            assert_eq!(now.digest() != basis.digest() || !now.is_whole(), changes, "{what}");
        };
        let writes =
            |path: &'static str, text: &'static str| move |root: &Path| write(&root.join(path), text);
        check("nothing", false, &|_| {});
        check("a new member by the pattern", true, &writes("crates/two/Cargo.toml", "[package]\n"));
        check("a folder without a manifest", false, &writes("crates/two/src/lib.rs", ""));
        check("a new configuration", true, &writes(".cargo/config.toml", "[build]\n"));
        check("an empty configuration", true, &writes(".cargo/config.toml", ""));
        check("configuration in the home", true, &writes("home/config.toml", "[build]\n"));
        check("another toolchain", true, &writes("rust-toolchain.toml", "[toolchain]\n"));
        check("another manifest", true, &writes("crates/one/Cargo.toml", "[package]\nname = \"two\"\n"));
        check("a new target", true, &writes("crates/one/src/main.rs", ""));
        check("no target", false, &writes("crates/one/src/notes.txt", ""));
        check("a member that is gone", true, &|root| {
            std::fs::remove_file(root.join("crates/one/Cargo.toml")).unwrap();
        });
    }

    #[test]
    fn what_cannot_be_followed_is_not_whole() {
        let temp = tempfile::tempdir().unwrap();
        let check = |path: &str, text: &str| {
            let root = temp.path().join(path);
            workspace(&root);
            write(&root.join(path), text);
            let mut basis = Basis::default();
            basis.look_at_workspace(&root);
            basis.look_above(&root, &root.join("home"));
            assert!(!basis.is_whole(), "{path}: {text}");
        };
        check("Cargo.toml", "[workspace]\nmembers = [\"**/x\"]\n");
        check("Cargo.toml", "[workspace\n");
        check(".cargo/config.toml", "[env]\nA = \"-I/usr/include\"\n [x]\n  \"include\" = 1\n");
        check(".cargo/config.toml", "include = [\"other.toml\"]\n");
    }
}
