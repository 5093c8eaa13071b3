//! The files of a tree, and where in it projects of a kind begin.

use std::collections::BTreeSet;

use spolia_core::RelPath;

/// Files that are read at most: enough to know a tree, too few to wait for.
const READS_MAX: usize = 2000;
/// Projects of one kind that get steps.
const SITES_MAX: usize = 8;
/// How deep below the root a project may begin.
const DEPTH_MAX: usize = 3;

/// Folders that hold what others wrote, or what builds made.
const FOREIGN: &[&str] = &[
    "node_modules",
    "vendor",
    "third_party",
    "target",
    "build",
    "dist",
    "out",
    "testdata",
    "fixtures",
    "venv",
    "__pycache__",
];

/// The files that belong to the project.
pub(super) struct Tree<'t> {
    files: BTreeSet<String>,
    read: &'t mut dyn FnMut(&RelPath) -> Option<String>,
    reads: usize,
    notes: Vec<String>,
}

/// A folder in which a project begins, and a project's files relative to it.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// `""` or `FOLDER/`.
    prefix: String,
    files: BTreeSet<String>,
}

impl<'t> Tree<'t> {
    pub(super) fn new(files: &[RelPath], read: &'t mut dyn FnMut(&RelPath) -> Option<String>) -> Self {
        let mut notes = Vec::new();
        let mut kept = BTreeSet::new();
        let mut odd = 0;
        for file in files {
            match std::str::from_utf8(file.as_bytes()) {
                Ok(path) if is_plain(path) => {
                    if !is_foreign(path) {
                        kept.insert(path.to_owned());
                    }
                }
                _ => odd += 1,
            }
        }
        if odd > 0 {
            notes.push(format!(
                "{odd} files whose names cannot stand in a manifest as they are were passed over"
            ));
        }
        Self { files: kept, read, reads: 0, notes }
    }

    /// The folders that have a file with one of these names, but not those below another of them.
    pub(super) fn sites(&mut self, names: &[&str]) -> Vec<Site> {
        let marks = self.files.iter().filter(|path| names.contains(&file_name(path)));
        let mut folders: Vec<&str> = marks.map(|path| &path[..path.len() - file_name(path).len()]).collect();
        folders.sort_by_key(|folder| (folder.len(), *folder));
        let mut chosen: Vec<&str> = Vec::new();
        let mut left_out = 0;
        for folder in folders {
            if chosen.iter().any(|above| folder.starts_with(above)) {
                continue;
            }
            if folder.matches('/').count() > DEPTH_MAX || chosen.len() == SITES_MAX {
                left_out += 1;
            } else {
                chosen.push(folder);
            }
        }
        let sites = chosen.iter().map(|prefix| Site::new(prefix, &self.files)).collect();
        if left_out > 0 {
            let name = names.first().copied().unwrap_or_default();
            self.notes.push(format!("{left_out} more folders with a `{name}` were passed over"));
        }
        sites
    }

    /// The text of a file of `site`.
    pub(super) fn read(&mut self, site: &Site, path: &str) -> Option<String> {
        if !site.has(path) || self.reads >= READS_MAX {
            return None;
        }
        self.reads += 1;
        let path = RelPath::new(format!("{}{path}", site.prefix)).ok()?;
        (self.read)(&path)
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }
}

impl Site {
    fn new(prefix: &str, files: &BTreeSet<String>) -> Self {
        let files = files.iter().filter_map(|path| path.strip_prefix(prefix)).map(str::to_owned).collect();
        Self { prefix: prefix.to_owned(), files }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Its files, relative to it.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Those of `paths` that are there.
    pub(super) fn present(&self, paths: &[&str]) -> Vec<String> {
        paths.iter().filter(|path| self.has(path)).map(|path| (*path).to_owned()).collect()
    }

    /// `NAME`, or `NAME-FOLDER` for a folder below the root.
    pub(super) fn step_name(&self, name: &str) -> String {
        let folder: String = self
            .prefix
            .trim_end_matches('/')
            .chars()
            .map(|symbol| if symbol.is_ascii_alphanumeric() || symbol == '_' { symbol } else { '-' })
            .collect();
        if folder.is_empty() { name.to_owned() } else { format!("{name}-{folder}") }
    }

    /// Input patterns relative to the root.
    pub(super) fn inputs<T: AsRef<str>>(&self, patterns: impl IntoIterator<Item = T>) -> Vec<String> {
        let at_root = |pattern: &str| match pattern.strip_prefix('!') {
            Some(rest) => format!("!{}{rest}", self.prefix),
            None => format!("{}{pattern}", self.prefix),
        };
        patterns.into_iter().map(|pattern| at_root(pattern.as_ref())).collect()
    }

    /// Patterns for all of its files, but the manifest and what the steps themselves may leave there.
    pub(super) fn everything(&self) -> Vec<String> {
        let mut patterns = self.inputs(["**"]);
        patterns.extend((self.prefix.is_empty()).then(|| "!spolia.toml".to_owned()));
        for (mark, left) in [("CMakeLists.txt", "!.spolia-build/"), ("meson.build", "!.spolia-build/")] {
            if self.has(mark) && !patterns.iter().any(|pattern| pattern.ends_with(left)) {
                patterns.extend(self.inputs([left]));
            }
        }
        if self.files.iter().any(|path| path.ends_with(".py")) {
            patterns.push("!**/*.pyc".to_owned());
        }
        patterns
    }

    /// Lines of shell that run in its folder.
    pub(super) fn script<T: Into<String>>(&self, lines: impl IntoIterator<Item = T>) -> Vec<String> {
        let enter = (!self.prefix.is_empty()).then(|| format!("cd {}", self.prefix.trim_end_matches('/')));
        enter.into_iter().chain(lines.into_iter().map(Into::into)).collect()
    }

    /// ` in FOLDER`, for people.
    pub(super) fn place(&self) -> String {
        if self.prefix.is_empty() {
            String::new()
        } else {
            format!(" in `{}`", self.prefix.trim_end_matches('/'))
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether it can stand in shell, patterns and TOML without any quoting.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+@,=~%".contains(&byte);
    path.bytes().all(plain) && !path.starts_with(['-', '!', '~', '@'])
}

fn is_foreign(path: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|name| FOREIGN.contains(&name) || (name.starts_with('.') && name != ".cargo"))
}
