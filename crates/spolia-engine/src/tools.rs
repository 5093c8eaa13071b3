//! Where a declared tool is, what it is, and what a sandbox must show of it.
//!
//! A tool's identity is the digest of the program that really runs, and of the package it belongs to with
//! all that package depends on (name and version, from dpkg's database). A name that leads to a
//! toolchain manager's stand-in (rustup's proxies, pyenv's shims) is resolved to the program behind it;
//! a toolchain outside the system's folders enters with the names and sizes of its files.
//!
//! Finding all this reads much, so it is remembered with the `stat` of everything that was looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use spolia_core::Digest;
use spolia_store::StatKey;

const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const DPKG_INFO: &str = "/var/lib/dpkg/info";
const OS_RELEASE: &str = "/etc/os-release";
/// The most remembered tools.
const MEMO_MAX: usize = 500;
/// The most files of a toolchain that are listed.
const TOOLCHAIN_FILES_MAX: usize = 20_000;
const MEMO_VERSION: u32 = 2;

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The program that runs.
    pub program: PathBuf,
    /// What it is: enters the key.
    pub identity: Digest,
    /// Files and folders outside the system's that a sandbox must show.
    pub shown: Vec<PathBuf>,
    /// What goes first in `PATH`, where the system's folders are not enough.
    pub folder: Option<PathBuf>,
}

/// Why a tool is of no use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ToolError {
    /// No such program in `PATH`.
    #[error("the tool `{name}` is not installed")]
    NotFound {
        /// Its name.
        name: String,
    },
    /// A toolchain manager has no program behind the name.
    #[error("`{manager}` has no `{name}`: {said}")]
    NoToolchain {
        /// Its name.
        name: String,
        /// Who was asked.
        manager: String,
        /// What it said.
        said: String,
    },
    /// It cannot be read.
    #[error("cannot look at the tool `{path}`: {said}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        said: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    path: PathBuf,
    /// dev, ino, size, mtime, ctime; `None`: it was not there.
    stat: Option<(u64, u64, u64, i64, i64)>,
}

impl Seen {
    fn now(path: &Path) -> Self {
        let stat = std::fs::metadata(path).ok().map(|found| {
            let key = StatKey::of_metadata(&found);
            (key.dev, key.ino, key.size, key.mtime_ns, key.ctime_ns)
        });
        Self { path: path.to_owned(), stat }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    tool: Tool,
    seen: Vec<Seen>,
}

#[derive(Default, Serialize, Deserialize)]
struct Memo {
    version: u32,
    tools: BTreeMap<String, Remembered>,
    system: Option<(Digest, Vec<Seen>)>,
    strict: Option<(Digest, Vec<Seen>)>,
}

/// The environment that decides which program a name means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `PATH`.
    pub search: OsString,
    /// The caller's home.
    pub home: PathBuf,
    /// The project's folder: toolchain files in and above it count.
    pub root: PathBuf,
    /// What is passed to toolchain managers: `RUSTUP_HOME`, `RUSTUP_TOOLCHAIN`, `PYENV_ROOT`, ….
    pub env: BTreeMap<String, OsString>,
}

/// Finds tools, and remembers.
pub struct Toolbox {
    surroundings: Surroundings,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    memo: Memo,
    /// What was found in this process, so that it is looked up once.
    found: HashMap<String, Result<Tool, ToolError>>,
    /// The same of the system's folders, `strict` second.
    system: [Option<Digest>; 2],
    /// All that the answers of this process depend on.
    looked_at: BTreeSet<PathBuf>,
    changed: bool,
}

impl Toolbox {
    /// With its memory in the file `path`; a damaged one is forgotten.
    pub fn new(surroundings: Surroundings, path: PathBuf) -> Self {
        let memo = std::fs::read(&path).ok().and_then(|raw| serde_json::from_slice::<Memo>(&raw).ok());
        let memo = memo.filter(|memo| memo.version == MEMO_VERSION).unwrap_or_default();
        let state = State {
            memo,
            found: HashMap::new(),
            system: [None; 2],
            looked_at: BTreeSet::new(),
            changed: false,
        };
        Self { surroundings, path, state: Mutex::new(state) }
    }

    /// The program `name` means here: a name to look up in `PATH`, or an absolute path.
    ///
    /// # Errors
    /// See [`ToolError`].
    pub fn find(&self, name: &str) -> Result<Tool, ToolError> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = state.found.get(name) {
            return found.clone();
        }
        let found = self.find_anew(name, &mut state);
        state.found.insert(name.to_owned(), found.clone());
        found
    }

    fn find_anew(&self, name: &str, state: &mut State) -> Result<Tool, ToolError> {
        let candidate = self.candidate(name)?;
        state.looked_at.extend(self.candidates(name).take_while(|earlier| *earlier != candidate));
        let id = format!("{name}\0{}\0{:?}", candidate.display(), self.surroundings.env);
        let id = Digest::blake3(id.as_bytes()).short() + " " + name;
        if let Some(known) = state.memo.tools.get(&id)
            && known.seen.iter().all(|seen| *seen == Seen::now(&seen.path))
        {
            state.looked_at.extend(known.seen.iter().map(|seen| seen.path.clone()));
            return Ok(known.tool.clone());
        }
        let remembered = self.look(name, &candidate)?;
        state.looked_at.extend(remembered.seen.iter().map(|seen| seen.path.clone()));
        let tool = remembered.tool.clone();
        if state.memo.tools.len() >= MEMO_MAX {
            state.memo.tools.clear();
        }
        state.memo.tools.insert(id, remembered);
        state.changed = true;
        Ok(tool)
    }

    fn candidate(&self, name: &str) -> Result<PathBuf, ToolError> {
        let runs = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
        };
        let not_found = || ToolError::NotFound { name: name.to_owned() };
        if name.contains('/') {
            let path = self.surroundings.root.join(name);
            return if runs(&path) { Ok(path) } else { Err(not_found()) };
        }
        self.candidates(name).find(|path| runs(path)).ok_or_else(not_found)
    }

    fn candidates(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        std::env::split_paths(&self.surroundings.search)
            .filter(|folder| folder.is_absolute())
            .map(move |folder| folder.join(name))
    }

    /// Every file that what was found depends on, links followed.
    pub fn looked_at(&self) -> Vec<PathBuf> {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.looked_at.iter().cloned().collect()
    }

    fn look(&self, name: &str, candidate: &Path) -> Result<Remembered, ToolError> {
        let read = |path: &Path, error: std::io::Error| ToolError::Read {
            path: path.to_owned(),
            said: error.to_string(),
        };
        let mut seen = vec![Seen::now(candidate), Seen::now(Path::new(DPKG_STATUS))];
        let behind = self.behind_a_manager(name, candidate, &mut seen)?;
        let program = behind.as_deref().unwrap_or(candidate).to_owned();
        let real = program.canonicalize().map_err(|error| read(&program, error))?;
        seen.push(Seen::now(&real));
        let content = std::fs::read(&real).map_err(|error| read(&real, error))?;
        let mut hasher = Vec::new();
        hasher.extend_from_slice(b"spolia tool 1\n");
        hasher.extend_from_slice(Digest::blake3(&content).as_bytes());
        let packages = packages_behind(&[&real, &program]);
        hasher.extend(packages.iter().flat_map(|package| format!("{package}\n").into_bytes()));
        let is_packaged = |path: &Path| in_system(path) && !path.starts_with(UNPACKAGED);
        let shown = if is_packaged(&program) && is_packaged(&real) {
            Vec::new()
        } else {
            self.outside(&program, &real, &mut hasher)
        };
        let folder =
            program.parent().filter(|folder| !SEARCH.iter().any(|known| *folder == Path::new(known)));
        let folder = folder.map(Path::to_owned);
        let identity = Digest::blake3(&hasher);
        Ok(Remembered { tool: Tool { program, identity, shown, folder }, seen })
    }

    /// The program behind a stand-in of rustup or pyenv.
    fn behind_a_manager(
        &self,
        name: &str,
        candidate: &Path,
        seen: &mut Vec<Seen>,
    ) -> Result<Option<PathBuf>, ToolError> {
        let folder = candidate.parent().unwrap_or(Path::new("/"));
        let rustup = folder.join("rustup");
        let is_rustup = name != "rustup" && same_file(&rustup, candidate);
        let is_pyenv = folder.file_name() == Some(OsStr::new("shims"));
        let roots = || self.surroundings.root.ancestors();
        if is_rustup {
            let home = self.surroundings.env.get("RUSTUP_HOME").map(PathBuf::from);
            let home = home.unwrap_or_else(|| self.surroundings.home.join(".rustup"));
            seen.push(Seen::now(&home.join("settings.toml")));
            for above in roots() {
                seen.push(Seen::now(&above.join("rust-toolchain")));
                seen.push(Seen::now(&above.join("rust-toolchain.toml")));
            }
            return self.ask(&rustup, &["which", name], name).map(Some);
        }
        if is_pyenv {
            let above = folder.parent().unwrap_or(folder);
            seen.push(Seen::now(&above.join("version")));
            for above in roots() {
                seen.push(Seen::now(&above.join(".python-version")));
            }
            let pyenv = [above.join("bin/pyenv"), above.join("libexec/pyenv")];
            let Some(pyenv) = pyenv.into_iter().find(|path| path.exists()) else { return Ok(None) };
            return self.ask(&pyenv, &["which", name], name).map(Some);
        }
        Ok(None)
    }

    fn ask(&self, manager: &Path, args: &[&str], name: &str) -> Result<PathBuf, ToolError> {
        #[expect(clippy::disallowed_methods, reason = "probing a toolchain manager")]
        let mut command = std::process::Command::new(manager);
        command.args(args).current_dir(&self.surroundings.root).env_clear();
        command.env("PATH", &self.surroundings.search).env("HOME", &self.surroundings.home);
        command.env("RUSTUP_AUTO_INSTALL", "0").envs(&self.surroundings.env);
        let failed = |said: String| ToolError::NoToolchain {
            name: name.to_owned(),
            manager: manager.display().to_string(),
            said,
        };
        let answer = command.output().map_err(|error| failed(error.to_string()))?;
        let said = |raw: &[u8]| String::from_utf8_lossy(raw).trim().to_owned();
        if !answer.status.success() {
            return Err(failed(said(&answer.stderr)));
        }
        let path = PathBuf::from(said(&answer.stdout));
        if path.is_absolute() { Ok(path) } else { Err(failed(path.display().to_string())) }
    }

    /// For a program that no package of the system brought: its toolchain's folder, which is `PREFIX` for `PREFIX/bin/NAME`
    /// unless that would be a whole home, and else the program alone. What lies in it is part of its identity; gives what
    /// of that a sandbox does not show anyway.
    fn outside(&self, program: &Path, real: &Path, hasher: &mut Vec<u8>) -> Vec<PathBuf> {
        let mut shown = BTreeSet::new();
        for path in [program, real] {
            let prefix = self.prefix(path).filter(|_| !in_system(path) || path.starts_with(UNPACKAGED));
            if let Some(prefix) = &prefix {
                list_toolchain(prefix, hasher);
            }
            if !in_system(path) {
                shown.insert(prefix.unwrap_or_else(|| path.to_owned()));
            }
        }
        shown.into_iter().collect()
    }

    fn prefix(&self, program: &Path) -> Option<PathBuf> {
        let bin = program.parent()?;
        let prefix = bin.parent()?;
        let is_toolchain = bin.file_name() == Some(OsStr::new("bin")) && prefix.join("lib").is_dir();
        let too_much = prefix == Path::new("/")
            || self.surroundings.home.starts_with(prefix)
            || self.surroundings.root.starts_with(prefix)
            || prefix == self.surroundings.home.join(".cargo");
        (is_toolchain && !too_much).then(|| prefix.to_owned())
    }

    /// Identity of the system's folders: the release, and for `strict` the whole package database. Looked at once.
    pub fn system(&self, strict: bool) -> Option<Digest> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let state = &mut *state;
        if let Some(digest) = state.system[usize::from(strict)] {
            return Some(digest);
        }
        let digest = state.system_now(strict);
        state.system[usize::from(strict)] = Some(digest);
        Some(digest)
    }

    /// Keeps what was found for the next process. Losing it costs time only.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn save(&self) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !state.changed {
            return Ok(());
        }
        state.changed = false;
        state.memo.version = MEMO_VERSION;
        let raw = serde_json::to_vec(&state.memo)?;
        let staged = self.path.with_extension(format!("{}.tmp", std::process::id()));
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&staged, raw)?;
        std::fs::rename(&staged, &self.path)
    }
}

impl State {
    fn system_now(&mut self, strict: bool) -> Digest {
        self.looked_at.insert(PathBuf::from(OS_RELEASE));
        if strict {
            self.looked_at.insert(PathBuf::from(DPKG_STATUS));
        }
        let known = if strict { &mut self.memo.strict } else { &mut self.memo.system };
        if let Some((digest, seen)) = known
            && seen.iter().all(|seen| *seen == Seen::now(&seen.path))
        {
            return *digest;
        }
        let paths: &[&str] = if strict { &[OS_RELEASE, DPKG_STATUS] } else { &[OS_RELEASE] };
        let seen = paths.iter().map(|path| Seen::now(Path::new(path))).collect();
        let mut content = Vec::new();
        for path in paths {
            let raw = std::fs::read(path).unwrap_or_default();
            content.extend_from_slice(Digest::blake3(&raw).as_bytes());
        }
        let digest = Digest::blake3(&content);
        *known = Some((digest, seen));
        self.changed = true;
        digest
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    id(one).is_some() && id(one) == id(other)
}

/// Where programs are searched for in every step.
pub(crate) const SEARCH: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// A folder of the system's that its packages leave alone: toolchains are put there by hand.
const UNPACKAGED: &str = "/opt";

fn in_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc", "/var"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Names and sizes below `bin` and `lib`, in order, to a depth where compilers and libraries lie.
fn list_toolchain(prefix: &Path, hasher: &mut Vec<u8>) {
    let mut files = Vec::new();
    for folder in ["bin", "lib"] {
        list(&prefix.join(folder), 3, &mut files);
    }
    files.sort();
    for (path, size) in files {
        hasher.extend_from_slice(path.strip_prefix(prefix).unwrap_or(&path).as_os_str().as_bytes());
        hasher.push(0);
        hasher.extend_from_slice(&size.to_le_bytes());
    }
}

fn list(folder: &Path, depth: usize, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if files.len() >= TOOLCHAIN_FILES_MAX {
            return;
        }
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() && depth > 0 {
            list(&entry.path(), depth - 1, files);
        } else if !found.is_dir() {
            files.push((entry.path(), found.len()));
        }
    }
}

/// `name version` of the packages that own one of `paths`, and of all they need, in order. Empty where
/// there is no dpkg or the file belongs to no package.
fn packages_behind(paths: &[&Path]) -> Vec<String> {
    let Ok(status) = std::fs::read_to_string(DPKG_STATUS) else { return Vec::new() };
    let owners = owners(paths);
    if owners.is_empty() {
        return Vec::new();
    }
    let packages = parse_status(&status);
    let mut wanted: Vec<&str> = owners.iter().map(String::as_str).collect();
    let mut taken = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let Some(package) = packages.get(name) else { continue };
        if taken.insert(name) {
            wanted.extend(package.needs.iter().filter(|need| !taken.contains(**need)));
        }
    }
    taken.into_iter().map(|name| format!("{name} {}", packages[name].version)).collect()
}

/// `name version` of the installed package that owns the program at `path`; `None` where none does.
pub fn package_of(path: &Path) -> Option<String> {
    let status = std::fs::read_to_string(DPKG_STATUS).ok()?;
    let real = path.canonicalize().ok()?;
    let name = owners(&[path, &real]).into_iter().next()?;
    let version = parse_status(&status).get(name.as_str())?.version;
    Some(format!("{name} {version}"))
}

/// The packages that list one of `paths`, without architecture.
fn owners(paths: &[&Path]) -> BTreeSet<String> {
    // On a merged system `/usr/bin/x` may be listed as `/bin/x`.
    let mut names: Vec<&[u8]> = Vec::new();
    for path in paths {
        let raw = path.as_os_str().as_bytes();
        names.push(raw);
        if let Some(short) = raw.strip_prefix(b"/usr") {
            names.push(short);
        }
    }
    let mut owners = BTreeSet::new();
    let Ok(lists) = std::fs::read_dir(DPKG_INFO) else { return owners };
    for list in lists.flatten() {
        let file = list.file_name();
        let Some(package) = file.to_str().and_then(|name| name.strip_suffix(".list")) else { continue };
        let Ok(content) = std::fs::read(list.path()) else { continue };
        if content.split(|byte| *byte == b'\n').any(|line| names.contains(&line)) {
            owners.insert(package.split(':').next().unwrap_or(package).to_owned());
        }
    }
    owners
}

struct Package<'s> {
    version: &'s str,
    needs: Vec<&'s str>,
}

/// The installed packages of dpkg's status file: stanzas of `Field: value` lines, empty lines between.
fn parse_status(status: &str) -> HashMap<&str, Package<'_>> {
    let mut packages = HashMap::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
        };
        let installed = field("Status").is_some_and(|status| status.ends_with(" installed"));
        let (Some(name), Some(version), true) = (field("Package"), field("Version"), installed) else {
            continue;
        };
        let lists = ["Depends", "Pre-Depends", "Recommends"].into_iter().filter_map(field);
        let needs = lists
            .flat_map(|list| list.split([',', '|']))
            .filter_map(|need| need.trim().split([' ', ':', '(']).next())
            .filter(|need| !need.is_empty());
        packages.insert(name, Package { version, needs: needs.collect() });
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_parsed_by_field() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1-2\nDepends: b (>= 1), c:any | d\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let packages = parse_status(status);
        assert_eq!(packages.len(), 1);
        assert_eq!(packages["a"].version, "1-2");
        assert_eq!(packages["a"].needs, ["b", "c", "d"]);
    }

    #[test]
    fn a_tool_changes_with_its_bytes_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("tools");
        std::fs::create_dir(&bin).unwrap();
        let tool = bin.join("mytool");
        let write = |content: &str| {
            std::fs::write(&tool, content).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&tool, mode).unwrap();
        };
        write("#!/bin/sh\necho 1\n");
        let surroundings = Surroundings {
            search: bin.clone().into_os_string(),
            home: folder.path().join("home"),
            root: folder.path().to_owned(),
            env: BTreeMap::new(),
        };
        let memo = folder.path().join("memo/tools.json");
        let find = || {
            let toolbox = Toolbox::new(surroundings.clone(), memo.clone());
            let found = toolbox.find("mytool").unwrap();
            toolbox.save().unwrap();
            found
        };
        let first = find();
        assert_eq!(first.shown, std::slice::from_ref(&tool));
        assert_eq!(find(), first);
        write("#!/bin/sh\necho 22\n");
        assert_ne!(find().identity, first.identity);
        let toolbox = Toolbox::new(surroundings, memo);
        assert!(matches!(toolbox.find("no-such-tool"), Err(ToolError::NotFound { .. })));
    }

    #[test]
    fn a_tool_in_a_folder_of_the_systems_where_nobody_searches_is_found_in_steps() {
        // Shown to steps anyway, as `/opt` is.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let bin = folder.path().canonicalize().unwrap().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("mytool"), "#!/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join("mytool"), mode).unwrap();
        let surroundings = Surroundings {
            search: std::env::join_paths([&bin, Path::new("/usr/bin")]).unwrap(),
            home: folder.path().join("home"),
            root: folder.path().to_owned(),
            env: BTreeMap::new(),
        };
        let toolbox = Toolbox::new(surroundings, folder.path().join("tools.json"));
        let found = toolbox.find("mytool").unwrap();
        assert_eq!((found.shown, found.folder), (Vec::new(), Some(bin)));
        assert_eq!(toolbox.find("sh").unwrap().folder, None);
    }
}
