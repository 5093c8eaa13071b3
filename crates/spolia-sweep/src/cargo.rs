//! Questions to Cargo: `workspace × command → Named`. Nothing is compiled, fetched or changed.
//!
//! What a command needs is read off a skeleton ([`crate::skeleton`]). An answer is remembered under the digest of
//! all that it follows from:
//!
//! | what | why |
//! |---|---|
//! | Spolia's memo version, the command | how it was asked |
//! | `rustc -vV`, `cargo -V` ([`crate::toolchain`]) | they make the names |
//! | `CARGO*` and `RUST*` variables | profiles, flags and features may be set there |
//! | Cargo's configuration files from the workspace up, and in `CARGO_HOME` | the same |
//! | `Cargo.lock` | the dependencies |
//! | `cargo metadata --no-deps` and the manifests of the workspace and of path dependencies outside it | members, targets, features, profiles |
//!
//! `cargo metadata` itself is remembered with the paths of all of these ([`crate::basis`]), of configuration and manifests above
//! the folder it was asked in, and of folders that a pattern of members may mean. They are read again each time, so a
//! second sweep starts no process and still sees a file that was not there before.
//!
//! Where a dependency on a path is not found that way, nothing is remembered.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spolia_core::Digest;
use spolia_core::result::Stream;
use spolia_engine::query::{self, Query};
use spolia_engine::{Cancel, End};

use crate::basis::{self, Basis, Source};
use crate::command::CargoCommand;
use crate::error::{SweepError, io};
use crate::glance::Glance;
use crate::live::{self, Named};
use crate::names::UnitHash;
use crate::skeleton;
use crate::toolchain::{Answer, Question, Watch};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// An answer that was of use is marked so once in so long.
const MEMO_TOUCHED: Duration = Duration::from_secs(24 * 60 * 60);
/// The most units that are remembered as of older lock files.
const STRANGERS_MAX: usize = 1_000_000;
/// The largest remembered answer that is read, bytes.
const MEMO_BYTES_MAX: u64 = 64 << 20;
/// Variables that would lead Cargo to the true target directory or to another compiler.
const OURS: &[&str] = &[
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "RUSTDOC",
    "CARGO_BUILD_RUSTDOC",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
];

/// Asks Cargo.
pub struct Asker<'a> {
    /// The caller's whole environment.
    pub env: &'a [(OsString, OsString)],
    /// Spolia's own program, which stands in for the compiler.
    pub program: &'a Path,
    /// Where skeletons are made.
    pub scratch: &'a Path,
    /// Where answers are remembered.
    pub memo: Option<PathBuf>,
    /// Stops a question.
    pub cancel: &'a Cancel,
    toolchains: Mutex<BTreeMap<(PathBuf, Option<String>), Toolchain>>,
    glance: Glance,
    started: AtomicU64,
    waited_us: AtomicU64,
}

/// Units that were compiled with another package than some, by their hashes: so also with another one than fewer of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Strangers {
    packages: BTreeSet<u64>,
    units: HashSet<UnitHash>,
    #[serde(skip)]
    place: Option<PathBuf>,
}

impl Strangers {
    /// Whether this unit is one.
    pub(crate) fn has(&self, hash: UnitHash) -> bool {
        self.units.contains(&hash)
    }

    /// Keeps to what is true of these packages as well; whether that is all that was known.
    pub(crate) fn hold_for(&mut self, packages: &BTreeSet<u64>) -> bool {
        if packages.is_subset(&self.packages) {
            return true;
        }
        self.units.clear();
        self.packages.clone_from(packages);
        false
    }

    /// The packages that they are judged by.
    pub(crate) fn packages(&self) -> &BTreeSet<u64> {
        &self.packages
    }

    /// Takes in some more that are judged by [`Strangers::packages`], and writes all down.
    pub(crate) fn remember(&mut self, units: impl Iterator<Item = UnitHash>) {
        let known = self.units.len();
        self.units.extend(units);
        if let Some(place) = &self.place
            && (known + 1..=STRANGERS_MAX).contains(&self.units.len())
        {
            // Forgetting costs the next sweep some reading.
            let _unwritten = remember(place, self);
        }
    }
}

/// What the processes that were started have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many there were.
    pub processes: u64,
    /// From their starts to their ends, added up.
    pub wall: Duration,
}

/// The compiler that a workspace is built with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// `1.95.0 (59807616e 2026-04-14)`.
    pub release: String,
    /// What `rustc -vV` and `cargo -V` say.
    pub said: String,
    /// Whether both are programs that say the same tomorrow.
    pub is_certain: bool,
}

/// A Cargo workspace, as Cargo describes it without looking at dependencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Where it is built, by its configuration and the environment.
    pub target_dir: PathBuf,
    /// Where what is in between lies; mostly the same.
    pub build_dir: PathBuf,
    /// Its packages.
    pub members: Vec<Member>,
    /// Packages outside of it that it depends on by their paths.
    pub outside: BTreeSet<PathBuf>,
    /// Whether building without `-p` builds less than all members.
    pub has_other_defaults: bool,
    /// What answers follow from; `None` where that is not known whole.
    pub basis: Option<Digest>,
}

/// A workspace that is remembered.
#[derive(Serialize, Deserialize)]
struct Described {
    workspace: Workspace,
    /// What its [`Workspace::basis`] is of.
    basis: Vec<Source>,
    /// What else the answer follows from, and its digest.
    also: (Vec<Source>, Digest),
}

/// A package of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The features it has.
    pub features: BTreeSet<String>,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Wall time.
    pub wall: Duration,
    /// Whether it was remembered.
    pub remembered: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    #[serde(default)]
    workspace_default_members: Option<Vec<String>>,
    target_directory: PathBuf,
    #[serde(default)]
    build_directory: Option<PathBuf>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    id: String,
    #[serde(default)]
    source: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    #[serde(default)]
    path: Option<PathBuf>,
}

impl<'a> Asker<'a> {
    /// One that has asked nothing yet.
    pub fn new(
        env: &'a [(OsString, OsString)],
        program: &'a Path,
        scratch: &'a Path,
        memo: Option<PathBuf>,
        cancel: &'a Cancel,
    ) -> Self {
        let (toolchains, glance, started, waited_us) = Default::default();
        Self { env, program, scratch, memo, cancel, toolchains, glance, started, waited_us }
    }

    /// What all questions so far have cost.
    pub fn spent(&self) -> Spent {
        let wall = Duration::from_micros(self.waited_us.load(Ordering::Relaxed));
        Spent { processes: self.started.load(Ordering::Relaxed), wall }
    }

    fn var(&self, name: &str) -> Option<&OsString> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Where the answer to a question is remembered; the variables that may change it are a part of the question.
    fn place(&self, kind: &str, parts: &[&[u8]]) -> Option<PathBuf> {
        let folder = self.memo.as_ref()?;
        let mut key = Basis::default();
        key.add("kind", kind.as_bytes());
        parts.iter().for_each(|part| key.add("part", part));
        for (name, value) in self.env.iter().filter(|(name, _)| basis::is_asked_of(name)) {
            key.add(&name.to_string_lossy(), value.as_bytes());
        }
        Some(folder.join(key.digest().to_hex()))
    }

    fn ask(
        &self,
        program: &OsStr,
        args: Vec<OsString>,
        folder: &Path,
        env: Vec<(OsString, OsString)>,
    ) -> Result<Vec<u8>, SweepError> {
        #[expect(clippy::disallowed_methods, reason = "what questions cost is told apart")]
        let began = Instant::now();
        let answer = self.start(program, args, folder, env);
        self.started.fetch_add(1, Ordering::Relaxed);
        self.glance.forget();
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(took, Ordering::Relaxed);
        answer
    }

    fn start(
        &self,
        program: &OsStr,
        args: Vec<OsString>,
        folder: &Path,
        env: Vec<(OsString, OsString)>,
    ) -> Result<Vec<u8>, SweepError> {
        let name = program.to_string_lossy().into_owned();
        let shown =
            || args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let command = format!("{name} {}", shown());
        let query = Query { program: program.into(), args, env, folder: folder.to_owned() };
        let ended = query::ask(&query, self.cancel, Some(TIMEOUT))
            .map_err(|source| SweepError::Start { program: name, source })?;
        match ended.end {
            End::Exited(0) => Ok(ended.log.of(Stream::Stdout)),
            End::Cancelled => Err(SweepError::Stopped),
            _ => Err(SweepError::Cargo {
                command,
                folder: folder.to_owned(),
                said: complaint(&String::from_utf8_lossy(&ended.log.of(Stream::Stderr))),
            }),
        }
    }

    /// The variables of a question: the caller's, without ours, with the command's.
    fn env_for(&self, command: &CargoCommand) -> Vec<(OsString, OsString)> {
        let is_set = |name: &OsStr| command.env.iter().any(|(other, _)| other.as_str() == name);
        let kept = |name: &OsStr| !OURS.iter().any(|other| *other == name) && !is_set(name);
        let mut env: Vec<_> = self.env.iter().filter(|(name, _)| kept(name)).cloned().collect();
        let allowed = |(name, _): &&(String, String)| !OURS.contains(&name.as_str());
        env.extend(command.env.iter().filter(allowed).map(|(name, value)| (name.into(), value.into())));
        env
    }

    /// The workspace of the `Cargo.toml` in `folder`.
    ///
    /// # Errors
    /// Cargo is not there, or does not accept the manifest.
    pub fn workspace(&self, folder: &Path) -> Result<Workspace, SweepError> {
        // What may say something else tomorrow may do so of a workspace as well.
        let toolchain = self.toolchain(folder, &CargoCommand::default()).ok().filter(|one| one.is_certain);
        let place = toolchain.and_then(|toolchain| {
            self.place("workspace", &[folder.as_os_str().as_bytes(), toolchain.said.as_bytes()])
        });
        if let Some(known) = place.as_deref().and_then(recall::<Described>) {
            let basis = Basis::glanced(&known.basis, &self.glance);
            let also = Basis::glanced(&known.also.0, &self.glance);
            let is_whole = basis.is_whole() && also.is_whole();
            if is_whole && known.workspace.basis == Some(basis.digest()) && known.also.1 == also.digest() {
                return Ok(known.workspace);
            }
        }
        let mut also = Basis::default();
        also.look_above(folder, &self.home());
        for above in folder.ancestors() {
            also.look(Source::File(above.join("Cargo.toml")));
        }
        let (workspace, basis) = self.described(folder)?;
        if let Some(place) = place.filter(|_| workspace.basis.is_some() && also.is_whole()) {
            let (sources, digest) = (also.sources().to_vec(), also.digest());
            // What changed while it was asked may be in the answer or not.
            if Basis::of(&sources).digest() == digest {
                let basis = basis.sources().to_vec();
                let known = Described { workspace: workspace.clone(), basis, also: (sources, digest) };
                // Forgetting costs the next sweep a question.
                let _unwritten = remember(&place, &known);
            }
        }
        Ok(workspace)
    }

    /// `CARGO_HOME`.
    fn home(&self) -> PathBuf {
        let home = self.var("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| self.var("HOME").map(|home| Path::new(home).join(".cargo")));
        home.unwrap_or_default()
    }

    fn described(&self, folder: &Path) -> Result<(Workspace, Basis), SweepError> {
        let metadata = self.metadata(folder)?;
        let mut basis = Basis::default();
        let mut paths = BTreeSet::new();
        describe(&metadata, &mut basis, &mut paths);
        // Path dependencies outside of the workspace, with theirs.
        let mut open: Vec<PathBuf> = paths.iter().cloned().collect();
        while let Some(outside) = open.pop() {
            let known = paths.clone();
            match self.metadata(&outside) {
                Ok(metadata) => describe(&metadata, &mut basis, &mut paths),
                Err(error @ (SweepError::Stopped | SweepError::Start { .. })) => return Err(error),
                // Where it lies under a workspace that does not list it, Cargo describes it only as a dependency.
                // Where it does not do that either, the basis is not whole, and nothing is remembered.
                Err(_) => match self.with_dependencies(folder) {
                    Ok(all) => {
                        describe(&all, &mut basis, &mut paths);
                        // These are all that there are.
                        break;
                    }
                    Err(error @ (SweepError::Stopped | SweepError::Start { .. })) => return Err(error),
                    Err(_) => {}
                },
            }
            open.extend(paths.difference(&known).cloned());
        }
        let root = metadata.workspace_root.clone();
        let lock = root.join("Cargo.lock");
        let text = std::fs::read(&lock).unwrap_or_default();
        basis.look(Source::File(lock));
        basis.look_above(&root, &self.home());
        let names = local_packages(&text);
        let is_whole = basis.is_whole() && names.is_some_and(|names| names.is_subset(&basis.packages));
        let members = metadata.packages.iter().filter(|package| {
            metadata.workspace_members.contains(&package.id) && package.manifest_path.parent().is_some()
        });
        let members: Vec<Member> = members
            .map(|package| Member {
                name: package.name.clone(),
                version: package.version.clone(),
                folder: package.manifest_path.parent().unwrap_or(&root).to_owned(),
                features: package.features.keys().cloned().collect(),
            })
            .collect();
        let has_other_defaults =
            metadata.workspace_default_members.is_none_or(|defaults| defaults.len() != members.len());
        let workspace = Workspace {
            build_dir: metadata.build_directory.unwrap_or_else(|| metadata.target_directory.clone()),
            target_dir: metadata.target_directory,
            members,
            outside: paths,
            has_other_defaults,
            basis: is_whole.then(|| basis.digest()),
            root,
        };
        Ok((workspace, basis))
    }

    fn metadata(&self, folder: &Path) -> Result<Metadata, SweepError> {
        self.describe_with(folder, &["metadata", "--no-deps", "--offline", "--format-version", "1"])
    }

    /// The workspace with every package that it depends on by a path, near or far.
    fn with_dependencies(&self, folder: &Path) -> Result<Metadata, SweepError> {
        let args = ["metadata", "--offline", "--locked", "--format-version", "1"];
        let mut all = self.describe_with(folder, &args)?;
        all.packages.retain(|package| package.source.is_none());
        Ok(all)
    }

    fn describe_with(&self, folder: &Path, args: &[&str]) -> Result<Metadata, SweepError> {
        let env = self.env.to_vec();
        let answer = self.ask("cargo".as_ref(), args.iter().map(OsString::from).collect(), folder, env)?;
        serde_json::from_slice(&answer).map_err(|error| SweepError::Answer {
            command: "cargo metadata".to_owned(),
            what: error.to_string(),
        })
    }

    /// The compiler that `command` would use in a workspace.
    ///
    /// # Errors
    /// It is not installed.
    pub fn toolchain(&self, root: &Path, command: &CargoCommand) -> Result<Toolchain, SweepError> {
        let known = (root.to_owned(), command.toolchain.clone());
        let mut toolchains = self.toolchains.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(toolchain) = toolchains.get(&known) {
            return Ok(toolchain.clone());
        }
        let plus = command.toolchain.iter().map(|name| OsString::from(format!("+{name}")));
        let words = |last: &str| plus.clone().chain([OsString::from(last)]).collect::<Vec<_>>();
        let rustc = self.var("RUSTC");
        let rustc_words = if rustc.is_some() { vec![OsString::from("-vV")] } else { words("-vV") };
        let rustc = rustc.map_or(OsStr::new("rustc"), OsString::as_os_str);
        let (mut said, is_same) = self.says(rustc, rustc_words, root)?;
        let release = said.lines().next().unwrap_or_default();
        let release = release.strip_prefix("rustc ").unwrap_or(release).to_owned();
        let (of_cargo, is_same_cargo) = self.says("cargo".as_ref(), words("-V"), root)?;
        said.push_str(&of_cargo);
        let toolchain = Toolchain { release, said, is_certain: is_same && is_same_cargo };
        toolchains.insert(known, toolchain.clone());
        Ok(toolchain)
    }

    /// What a program says of itself in a folder, and whether it is one that says the same tomorrow.
    fn says(
        &self,
        program: &OsStr,
        words: Vec<OsString>,
        folder: &Path,
    ) -> Result<(String, bool), SweepError> {
        let mut parts = vec![program.as_bytes(), folder.as_os_str().as_bytes()];
        parts.extend(words.iter().map(|word| word.as_bytes()));
        let place = self.place("program", &parts);
        if let Some(known) = place.as_deref().and_then(recall::<Answer>)
            && known.still_holds(&self.glance)
        {
            return Ok((known.said, true));
        }
        #[expect(clippy::disallowed_methods, reason = "what was changed just now is not believed")]
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let began_ns = i64::try_from(began.as_nanos()).unwrap_or(0);
        let question = Question { program, words: &words, folder, env: self.env };
        let watch = place.as_ref().and_then(|_| {
            Watch::over(question, &mut |rustup, words| {
                self.ask(rustup.as_os_str(), words.to_vec(), folder, self.env.to_vec()).ok()
            })
        });
        let said = self.ask(program, words, folder, self.env.to_vec())?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let is_certain = watch.is_some();
        if let Some((answer, place)) = watch.and_then(|watch| watch.remember(&said, began_ns)).zip(place) {
            // Forgetting costs the next sweep a question.
            let _unwritten = remember(&place, &answer);
        }
        Ok((said, is_certain))
    }

    /// The toolchains that rustup has, by name; none where there is no rustup.
    pub fn installed(&self, root: &Path) -> Vec<String> {
        let words = ["toolchain", "list"].iter().map(OsString::from).collect();
        let (text, _) = self.says("rustup".as_ref(), words, root).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "no").map(str::to_owned).collect()
    }

    /// What Cargo calls the compiler of a toolchain, or of the caller's own where none is named. Read off the
    /// skeleton of an empty crate, once for each compiler and Cargo.
    ///
    /// # Errors
    /// There is no such toolchain.
    pub fn compiler(&self, toolchain: Option<&str>) -> Result<u64, SweepError> {
        let mut command = CargoCommand::new("build", &[]);
        command.toolchain = toolchain.map(str::to_owned);
        let found = self.toolchain(self.scratch, &command)?;
        let place = self.memo.as_ref().map(|folder| {
            let mut key = Basis::default();
            key.add("compiler", found.said.as_bytes());
            folder.join(key.digest().to_hex())
        });
        let named = match place.as_deref().and_then(recall) {
            Some(named) => named,
            None => self.empty_crate(&command, &found)?,
        };
        let units = named.profiles.values().flat_map(|profile| profile.units.values());
        let rustc = units.filter_map(|unit| unit.rustc).next().ok_or_else(|| SweepError::Answer {
            command: command.to_string(),
            what: "no fingerprint names a compiler".to_owned(),
        })?;
        if let Some(place) = place.filter(|place| !place.exists()) {
            // Forgetting costs the next sweep a question.
            let _unwritten = remember(&place, &named);
        }
        Ok(rustc)
    }

    /// What `command` needs for a crate with nothing in it.
    fn empty_crate(&self, command: &CargoCommand, toolchain: &Toolchain) -> Result<Named, SweepError> {
        let folder = tempfile::Builder::new()
            .prefix("spolia-names-")
            .tempdir_in(self.scratch)
            .map_err(|source| io("make a folder in", self.scratch, source))?;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map_err(|source| io("write", path, source))
        };
        write(
            "Cargo.toml",
            "[package]\nname = \"empty\"\nversion = \"0.0.0\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n",
        )?;
        write("Cargo.lock", "version = 3\n\n[[package]]\nname = \"empty\"\nversion = \"0.0.0\"\n")?;
        write("lib.rs", "")?;
        self.skeleton(folder.path(), command, toolchain)
    }

    /// Everything that `command` needs in `workspace`, by name. Cargo is asked, whatever is remembered.
    ///
    /// # Errors
    /// Cargo refuses the command, or its lock file would have to change, or sources are not there.
    pub fn names(&self, workspace: &Workspace, command: &CargoCommand) -> Result<(Named, Asked), SweepError> {
        #[expect(clippy::disallowed_methods, reason = "what questions cost is told apart")]
        let began = Instant::now();
        let (toolchain, place) = self.names_place(workspace, command)?;
        let named = self.skeleton(&workspace.root, command, &toolchain)?;
        if let Some(place) = &place {
            // Forgetting costs the next sweep a question.
            let _unwritten = remember(place, &named);
        }
        Ok((named, Asked { wall: began.elapsed(), remembered: false }))
    }

    /// What [`Asker::names`] answers where it is remembered.
    pub(crate) fn remembered_names(
        &self,
        workspace: &Workspace,
        command: &CargoCommand,
    ) -> Option<(Named, Asked)> {
        #[expect(clippy::disallowed_methods, reason = "what questions cost is told apart")]
        let began = Instant::now();
        let (_, place) = self.names_place(workspace, command).ok()?;
        let named = recall(&place?)?;
        Some((named, Asked { wall: began.elapsed(), remembered: true }))
    }

    /// The toolchain of a command, and where the answer about it is remembered.
    fn names_place(
        &self,
        workspace: &Workspace,
        command: &CargoCommand,
    ) -> Result<(Toolchain, Option<PathBuf>), SweepError> {
        let toolchain = self.toolchain(&workspace.root, command)?;
        let place = self.memo.as_ref().zip(workspace.basis).map(|(folder, basis)| {
            let mut key = Basis::default();
            key.add("basis", basis.to_string().as_bytes());
            key.add("toolchain", toolchain.said.as_bytes());
            key.add("command", command.to_string().as_bytes());
            for (name, value) in self.env_for(command) {
                let text = name.as_bytes();
                if text.starts_with(b"CARGO") || text.starts_with(b"RUST") {
                    key.add(&name.to_string_lossy(), value.as_bytes());
                }
            }
            folder.join(key.digest().to_hex())
        });
        Ok((toolchain, place))
    }

    /// The units that are known to be of other lock files than the workspace's.
    pub(crate) fn strangers(&self, workspace: &Workspace) -> Strangers {
        let place = workspace.basis.and_then(|basis| {
            let toolchain = self.toolchain(&workspace.root, &CargoCommand::default()).ok()?;
            self.place("strangers", &[basis.to_string().as_bytes(), toolchain.said.as_bytes()])
        });
        let known: Strangers = place.as_deref().and_then(recall).unwrap_or_default();
        Strangers { place, ..known }
    }

    fn skeleton(
        &self,
        root: &Path,
        command: &CargoCommand,
        toolchain: &Toolchain,
    ) -> Result<Named, SweepError> {
        let scratch = tempfile::Builder::new()
            .prefix("spolia-names-")
            .tempdir_in(self.scratch)
            .map_err(|source| io("make a folder in", self.scratch, source))?;
        let programs = scratch.path().join("bin");
        let target = scratch.path().join("target");
        for folder in [&programs, &target] {
            std::fs::create_dir(folder).map_err(|source| io("create", folder, source))?;
        }
        for name in [skeleton::RUSTC, skeleton::RUSTDOC] {
            std::os::unix::fs::symlink(self.program, programs.join(name))
                .map_err(|source| io("link", programs.join(name), source))?;
        }
        let mut env = self.env_for(command);
        let mut set = |name: &str, value: &OsStr| env.push((name.into(), value.to_owned()));
        set("CARGO_TARGET_DIR", target.as_os_str());
        set("CARGO_BUILD_BUILD_DIR", target.as_os_str());
        set("RUSTC_WRAPPER", programs.join(skeleton::RUSTC).as_os_str());
        set("RUSTDOC", programs.join(skeleton::RUSTDOC).as_os_str());
        set("CARGO_TERM_COLOR", OsStr::new("never"));
        let words = command.words().into_iter().map(OsString::from).collect();
        self.ask("cargo".as_ref(), words, root, env)?;
        let calls = std::fs::read(programs.join(skeleton::CALLS)).unwrap_or_default();
        live::read_skeleton(&target, &String::from_utf8_lossy(&calls), &toolchain.release)
            .map_err(|source| io("read", target, source))
    }
}

/// Adds a workspace to what answers follow from, and its path dependencies elsewhere to `outside`.
fn describe(metadata: &Metadata, basis: &mut Basis, outside: &mut BTreeSet<PathBuf>) {
    basis.look_at_workspace(&metadata.workspace_root);
    let own: BTreeSet<&Path> =
        metadata.packages.iter().filter_map(|package| package.manifest_path.parent()).collect();
    for package in &metadata.packages {
        basis.packages.insert(package.name.clone());
        basis.look(Source::File(package.manifest_path.clone()));
        // Targets that Cargo finds by itself.
        if let Some(folder) = package.manifest_path.parent() {
            for below in ["", "src", "src/bin", "examples", "tests", "benches"] {
                basis.look(Source::Targets(folder.join(below)));
            }
        }
        for path in package.dependencies.iter().filter_map(|dependency| dependency.path.as_ref()) {
            if !own.contains(path.as_path()) && path.join("Cargo.toml").is_file() {
                outside.insert(path.clone());
            }
        }
    }
}

/// Names of the packages in a lock file that come from no registry and no repository. `None` where it is
/// no lock file.
fn local_packages(lock: &[u8]) -> Option<BTreeSet<String>> {
    let text = std::str::from_utf8(lock).ok()?;
    let mut names = BTreeSet::new();
    for block in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
            line.map(|value| value.trim().trim_matches('"').to_owned())
        };
        if value("source").is_none() {
            names.insert(value("name")?);
        }
    }
    Some(names)
}

/// The error in what Cargo said, with its cause.
fn complaint(text: &str) -> String {
    const CHARS_MAX: usize = 600;
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let first =
        lines.iter().position(|line| line.starts_with("error")).unwrap_or(lines.len().saturating_sub(3));
    let told = lines[first..].iter().take(6).map(|line| line.trim()).collect::<Vec<_>>().join("; ");
    let told = told.trim_start_matches("error: ");
    if told.is_empty() { "nothing was said".to_owned() } else { told.chars().take(CHARS_MAX).collect() }
}

fn recall<T: DeserializeOwned>(place: &Path) -> Option<T> {
    use std::io::Read;
    let file = std::fs::File::open(place).ok()?;
    let found = file.metadata().ok()?;
    let mut text = Vec::with_capacity(usize::try_from(found.len().min(MEMO_BYTES_MAX)).unwrap_or(0) + 1);
    file.take(MEMO_BYTES_MAX).read_to_end(&mut text).ok()?;
    let known = serde_json::from_slice(&text).ok()?;
    // Its time says on what day it was last of use.
    let is_of_today = found.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < MEMO_TOUCHED));
    if !is_of_today {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        let _untouched = rustix::fs::utimensat(rustix::fs::CWD, place, &times, rustix::fs::AtFlags::empty());
    }
    Some(known)
}

fn remember<T: Serialize>(place: &Path, known: &T) -> std::io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut text = std::io::BufWriter::new(&mut file);
    serde_json::to_writer(&mut text, known)?;
    std::io::Write::flush(&mut text)?;
    drop(text);
    file.persist(place).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_paths_are_those_without_a_source() {
        let lock = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"libc\",\n]\n\n\
                    [[package]]\nname = \"libc\"\nversion = \"0.2.1\"\nsource = \"registry+x\"\n";
        assert_eq!(local_packages(lock.as_bytes()), Some(["app".to_owned()].into()));
        assert_eq!(local_packages(b"\xff"), None);
        assert_eq!(local_packages(b""), Some(BTreeSet::new()));
    }

    #[test]
    fn a_complaint_is_one_line() {
        let check = |text: &str, expect: &str| assert_eq!(complaint(text), expect);
        check(
            "  Compiling x\nerror: no such profile\n\nCaused by:\n  it is not there\n",
            "no such profile; Caused by:; it is not there",
        );
        check("", "nothing was said");
    }
}
