//! Other tools' caches: who holds how much, and one budget for all: `surroundings → Vec<Cache> → Vec<Step>`.
//!
//! Each is made smaller in its owner's own way; nothing here deletes a file of another tool's cache, but for sources that
//! Cargo has unpacked and unpacks again without the network: their archive or repository is there. Those go under Cargo's
//! own lock.
//!
//! | cache | measured | made smaller by |
//! |---|---|---|
//! | cargo | `CARGO_HOME/registry/src`, `git/checkouts` | removing what was unpacked longest ago |
//! | cargo-downloads | `CARGO_HOME/registry/cache`, `registry/index`, `git/db` | Cargo itself |
//! | go | `GOCACHE` | `go clean -cache` |
//! | pip | pip's cache folder | `pip cache purge` |
//! | npm | npm's cache folder | `npm cache clean --force` |
//! | ccache | its folder | `ccache --evict-older-than`, `ccache --cleanup` with a smaller limit |
//! | sccache | its folder | its server, by `SCCACHE_CACHE_SIZE` |
//! | docker | `docker system df` | `docker builder prune --filter until=…`, `--keep-storage` |
//! | podman | `podman images --all`, what has no name | `podman image prune --filter until=…`, then all of it |
//! | buildkit | `buildctl du` | `buildctl prune --keep-duration`, `--keep-storage` |
//!
//! Where more than one command stands, the next one runs only if the one before has not made room enough. What Buildah
//! builds is where Podman looks, so it is in Podman's row.

mod containers;
mod steps;
mod unpacked;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spolia_core::result::Stream;
use spolia_engine::query::{self, Query};
use spolia_engine::{Cancel, End};
use spolia_store::disk;

use crate::error::SweepError;

pub use steps::{Done, OLDER_THAN, Step, carry_out, plan};

/// How long a tool may take to say how much it holds.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the name of its tool")]
pub enum Owner {
    Cargo,
    CargoDownloads,
    Pip,
    Npm,
    Go,
    Ccache,
    Sccache,
    Docker,
    Podman,
    Buildkit,
    /// Spolia's own store, which the caller collects.
    Spolia,
}

impl Owner {
    /// As in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::CargoDownloads => "cargo-downloads",
            Self::Pip => "pip",
            Self::Npm => "npm",
            Self::Go => "go",
            Self::Ccache => "ccache",
            Self::Sccache => "sccache",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildkit => "buildkit",
            Self::Spolia => "spolia",
        }
    }

    /// In which order room is made: first what is cheapest to have again.
    const ORDER: [Self; 9] = [
        Self::Cargo,
        Self::Pip,
        Self::Npm,
        Self::Docker,
        Self::Podman,
        Self::Buildkit,
        Self::Ccache,
        Self::Go,
        Self::Spolia,
    ];
}

/// One cache.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cache {
    /// Whose.
    pub owner: Owner,
    /// Where, as far as that is a folder.
    pub folders: Vec<PathBuf>,
    /// Bytes on disk; `None` where that could not be found out, and then [`Cache::why`].
    pub bytes: Option<u64>,
    /// Why it is not known, or why it is not made smaller from here.
    pub why: Option<String>,
    /// Whether it can be made smaller from here.
    pub shrinks: bool,
}

/// What is known of the caller.
pub struct Surroundings<'s> {
    /// The caller's environment.
    pub env: &'s [(OsString, OsString)],
    /// The caller's home.
    pub home: &'s Path,
    /// Stops what runs.
    pub cancel: &'s Cancel,
}

impl Surroundings<'_> {
    fn var(&self, name: &str) -> Option<PathBuf> {
        let found = self.env.iter().find(|(known, _)| known == name).map(|(_, value)| PathBuf::from(value));
        found.filter(|path| path.is_absolute())
    }

    fn cache_home(&self) -> PathBuf {
        self.var("XDG_CACHE_HOME").unwrap_or_else(|| self.home.join(".cache"))
    }

    fn has(&self, program: &str) -> bool {
        let search = self.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let is_there = |folder: PathBuf| folder.join(program).is_file();
        std::env::split_paths(&search.unwrap_or_default()).any(is_there)
    }

    /// The folder that a tool says its cache is in; `None` where it is not installed or says nothing of use.
    fn place(&self, line: &str) -> Result<Option<PathBuf>, SweepError> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if !self.has(&words[0]) {
            return Ok(None);
        }
        match self.run(&words, &[], LOOK_TIMEOUT) {
            Ok(said) => Ok(Some(PathBuf::from(said.trim())).filter(|path| path.is_absolute())),
            Err(SweepError::Stopped) => Err(SweepError::Stopped),
            Err(_) => Ok(None),
        }
    }

    fn run(&self, words: &[String], env: &[(&str, String)], timeout: Duration) -> Result<String, SweepError> {
        let command = words.join(" ");
        let (program, args) = words.split_first().ok_or_else(|| SweepError::Answer {
            command: command.clone(),
            what: "there is no program".to_owned(),
        })?;
        let mut all = self.env.to_vec();
        for (name, value) in env {
            all.retain(|(known, _)| known != name);
            all.push((name.into(), value.into()));
        }
        let query = Query {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            env: all,
            folder: self.home.to_owned(),
        };
        let ended = query::ask(&query, self.cancel, Some(timeout))
            .map_err(|source| SweepError::Start { program: program.clone(), source })?;
        let said = |from| String::from_utf8_lossy(&ended.log.of(from)).into_owned();
        match ended.end {
            End::Exited(0) => Ok(said(Stream::Stdout)),
            End::Cancelled => Err(SweepError::Stopped),
            _ => {
                let text = said(Stream::Stderr);
                let last = text.lines().rfind(|line| !line.trim().is_empty());
                Err(SweepError::Tool { command, said: last.unwrap_or("it said nothing").to_owned() })
            }
        }
    }
}

/// Every cache that is there, without Spolia's own; of one owner alone where `only` names it.
///
/// # Errors
/// It was stopped.
pub fn look(around: &Surroundings<'_>, only: Option<Owner>) -> Result<Vec<Cache>, SweepError> {
    let wanted = |owner: Owner| only.is_none_or(|only| only == owner);
    let cargo = around.var("CARGO_HOME").unwrap_or_else(|| around.home.join(".cargo"));
    let base = around.cache_home();
    // A tool's own files may say where its cache is, so it is asked.
    let said = |owner: Owner, line: &str, usual: PathBuf| -> Result<PathBuf, SweepError> {
        Ok(if wanted(owner) { around.place(line)?.unwrap_or(usual) } else { usual })
    };
    let go = around.var("GOCACHE").unwrap_or_else(|| base.join("go-build"));
    let go = said(Owner::Go, "go env GOCACHE", go)?;
    let pip = around.var("PIP_CACHE_DIR").unwrap_or_else(|| base.join("pip"));
    let pip = said(Owner::Pip, "pip cache dir", pip)?;
    let npm = around.var("npm_config_cache").unwrap_or_else(|| around.home.join(".npm"));
    let npm = said(Owner::Npm, "npm config get cache", npm)?;
    let ccache = around.var("CCACHE_DIR").unwrap_or_else(|| {
        let old = around.home.join(".ccache");
        if old.is_dir() { old } else { base.join("ccache") }
    });
    let ccache = said(Owner::Ccache, "ccache --get-config cache_dir", ccache)?;
    let sccache = around.var("SCCACHE_DIR").unwrap_or_else(|| base.join("sccache"));
    let its_own = |text: &str| Err(text.to_owned());
    let needs = |program: &str| match around.has(program) {
        true => Ok(()),
        false => Err(format!("`{program}` is not installed")),
    };
    let folders: Vec<(Owner, Vec<PathBuf>, Result<(), String>)> = vec![
        (Owner::Cargo, vec![cargo.join("registry/src"), cargo.join("git/checkouts")], Ok(())),
        (
            Owner::CargoDownloads,
            vec![cargo.join("registry/cache"), cargo.join("registry/index"), cargo.join("git/db")],
            its_own("Cargo removes downloads by itself"),
        ),
        (Owner::Pip, vec![pip], needs("pip")),
        (Owner::Npm, vec![npm.join("_cacache")], needs("npm")),
        (Owner::Go, vec![go], needs("go")),
        (Owner::Ccache, vec![ccache], needs("ccache")),
        (Owner::Sccache, vec![sccache], its_own("its server does, by SCCACHE_CACHE_SIZE")),
    ];
    let mut caches = Vec::new();
    for (owner, folders, way) in folders {
        let folders: Vec<PathBuf> = folders.into_iter().filter(|folder| folder.is_dir()).collect();
        if folders.is_empty() || !wanted(owner) {
            continue;
        }
        let bytes = folders.iter().map(|folder| disk::usage(folder).bytes).sum();
        caches.push(Cache { owner, folders, bytes: Some(bytes), shrinks: way.is_ok(), why: way.err() });
        if around.cancel.is_cancelled() {
            return Err(SweepError::Stopped);
        }
    }
    type Read = fn(&str) -> Option<u64>;
    let engines: [(Owner, &[&str], Read); 3] = [
        (Owner::Docker, &["docker", "system", "df", "--format", "{{json .}}"], containers::build_cache_bytes),
        (Owner::Podman, &["podman", "images", "--all", "--format", "json"], containers::unnamed_bytes),
        (Owner::Buildkit, &["buildctl", "du"], containers::total_bytes),
    ];
    for (owner, words, read) in engines {
        if !around.has(words[0]) || !wanted(owner) {
            continue;
        }
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let cache = match around.run(&words, &[], LOOK_TIMEOUT) {
            Ok(said) => {
                let bytes = read(&said);
                let why =
                    bytes.is_none().then(|| format!("what `{}` says is not understood", words.join(" ")));
                Cache { owner, folders: Vec::new(), bytes, shrinks: bytes.is_some(), why }
            }
            Err(SweepError::Stopped) => return Err(SweepError::Stopped),
            Err(error) => Cache {
                owner,
                folders: Vec::new(),
                bytes: None,
                shrinks: false,
                why: Some(error.to_string()),
            },
        };
        caches.push(cache);
    }
    Ok(caches)
}
