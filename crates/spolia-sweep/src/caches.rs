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
//! | podman | `podman system df` | `podman image prune --filter until=…` |
//! | buildkit | `buildctl du` | `buildctl prune --keep-duration`, `--keep-storage` |

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use spolia_core::result::Stream;
use spolia_engine::query::{self, Query};
use spolia_engine::{Cancel, End};
use spolia_store::disk;

use crate::apply::remove_tree;
use crate::error::{SweepError, io};

/// How long a tool may take to make its cache smaller.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// How long a tool may take to say how much it holds.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// What is kept where a budget asks for room and nobody says what is old.
pub const OLDER_THAN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
    let containers: [(Owner, &[&str], Read); 3] = [
        (Owner::Docker, &["docker", "system", "df", "--format", "{{json .}}"], build_cache_bytes),
        (Owner::Podman, &["podman", "system", "df", "--format", "{{json .}}"], images_bytes),
        (Owner::Buildkit, &["buildctl", "du"], total_bytes),
    ];
    for (owner, words, read) in containers {
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

/// `1.5GB`, `512kB`, `0B`, as Docker, Podman and BuildKit write it.
fn container_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    let unit: f64 = match text[at..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = number * unit;
    (bytes.is_finite() && (0.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

fn row_bytes(said: &str, kind: &str) -> Option<u64> {
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        let row: serde_json::Value = serde_json::from_str(line).ok()?;
        if row["Type"].as_str() == Some(kind) {
            return container_size(row["Size"].as_str()?);
        }
    }
    None
}

fn build_cache_bytes(said: &str) -> Option<u64> {
    row_bytes(said, "Build Cache")
}

fn images_bytes(said: &str) -> Option<u64> {
    row_bytes(said, "Images")
}

fn total_bytes(said: &str) -> Option<u64> {
    let line = said.lines().rfind(|line| line.starts_with("Total:"))?;
    container_size(line.trim_start_matches("Total:"))
}

/// One thing to do, to make one cache smaller.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Whose cache.
    pub owner: Owner,
    /// Bytes that it should free; the owner may free less.
    pub wanted_bytes: u64,
    /// The owner's commands, one after the other; none where it is done here.
    pub commands: Vec<Vec<String>>,
    /// Variables for them.
    pub env: Vec<(String, String)>,
}

/// What to do so that all caches together hold no more than `budget`. Pure. With `older_than`, only what was not used
/// for so long, from owners that can tell; without a budget all of that.
pub fn plan(caches: &[Cache], budget: Option<u64>, older_than: Option<Duration>) -> Vec<Step> {
    let total: u64 = caches.iter().filter_map(|cache| cache.bytes).sum();
    let mut over = match (budget, older_than) {
        (Some(budget), _) => total.saturating_sub(budget),
        (None, Some(_)) => u64::MAX,
        (None, None) => 0,
    };
    let mut steps = Vec::new();
    for owner in Owner::ORDER {
        let found = caches.iter().find(|cache| cache.owner == owner && cache.shrinks);
        let Some(bytes) = found.and_then(|cache| cache.bytes).filter(|bytes| *bytes > 0) else { continue };
        if over == 0 {
            break;
        }
        let wanted = over.min(bytes);
        let Some((commands, env)) = way(owner, bytes - wanted, older_than) else { continue };
        over -= wanted;
        steps.push(Step { owner, wanted_bytes: wanted, commands, env });
    }
    steps
}

/// How an owner comes down to `kept` bytes; `None` where it cannot tell what is old and only that is to go.
type Way = (Vec<Vec<String>>, Vec<(String, String)>);

fn way(owner: Owner, kept: u64, older_than: Option<Duration>) -> Option<Way> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let age_s = older_than.unwrap_or(OLDER_THAN).as_secs();
    let hours = age_s.div_ceil(3600);
    let only_old = older_than.is_some();
    let mut env = Vec::new();
    let commands = match owner {
        Owner::Cargo | Owner::Spolia => Vec::new(),
        Owner::Pip if !only_old => vec![words("pip cache purge")],
        Owner::Npm if !only_old => vec![words("npm cache clean --force")],
        Owner::Go if !only_old => vec![words("go clean -cache")],
        Owner::Pip | Owner::Npm | Owner::Go | Owner::CargoDownloads | Owner::Sccache => return None,
        Owner::Ccache => {
            let mut commands = vec![words(&format!("ccache --evict-older-than {age_s}s"))];
            if !only_old {
                // 0 would mean no limit.
                env.push(("CCACHE_MAXSIZE".to_owned(), format!("{}k", (kept / 1000).max(1))));
                commands.push(words("ccache --cleanup"));
            }
            commands
        }
        Owner::Docker if only_old => {
            vec![words(&format!("docker builder prune --force --filter until={hours}h"))]
        }
        Owner::Docker => vec![words(&format!("docker builder prune --force --keep-storage {kept}"))],
        Owner::Podman => vec![words(&format!("podman image prune --force --filter until={hours}h"))],
        Owner::Buildkit if only_old => vec![words(&format!("buildctl prune --keep-duration {hours}h"))],
        Owner::Buildkit => vec![words(&format!("buildctl prune --keep-storage {}", kept / 1_000_000))],
    };
    Some((commands, env))
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Whose cache.
    pub owner: Owner,
    /// Bytes before and after, as measured; `None` where that was not possible.
    pub before_bytes: Option<u64>,
    /// After.
    pub after_bytes: Option<u64>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Does a step, but for Spolia's own.
///
/// # Errors
/// A tool failed, Cargo runs, or it was stopped.
pub fn carry_out(
    step: &Step,
    caches: &[Cache],
    older_than: Option<Duration>,
    around: &Surroundings<'_>,
    now_us: u64,
) -> Result<(), SweepError> {
    if step.owner == Owner::Cargo {
        let folders =
            caches.iter().filter(|cache| cache.owner == Owner::Cargo).flat_map(|cache| &cache.folders);
        let before_us =
            older_than.map(|age| now_us.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)));
        let folders: Vec<&PathBuf> = folders.collect();
        return remove_unpacked(&folders, step.wanted_bytes, before_us, around);
    }
    let env: Vec<(&str, String)> =
        step.env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    for command in &step.commands {
        around.run(command, &env, TIMEOUT)?;
    }
    Ok(())
}

/// Removes what Cargo unpacked longest ago, until `wanted` bytes are free, under Cargo's own lock.
fn remove_unpacked(
    folders: &[&PathBuf],
    wanted: u64,
    before_us: Option<u64>,
    around: &Surroundings<'_>,
) -> Result<(), SweepError> {
    let home = folders.first().and_then(|folder| folder.parent()?.parent()).unwrap_or(around.home);
    let mut locks: Vec<OwnedFd> = Vec::new();
    for name in [".package-cache", ".package-cache-mutate"] {
        let path = home.join(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))
            .map_err(|error| io("lock", &path, error))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io("lock", &path, std::io::Error::other("Cargo is using its cache")))?;
        locks.push(file);
    }
    // `registry/src/INDEX/NAME-VERSION` and `git/checkouts/NAME-HASH/COMMIT`.
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for folder in folders {
        for above in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            for entry in std::fs::read_dir(above.path()).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || !comes_back(home, &entry.path()) {
                    continue;
                }
                let ok = entry.path().join(".cargo-ok");
                let at = std::fs::symlink_metadata(ok)
                    .or_else(|_| entry.metadata())
                    .and_then(|f| f.modified())
                    .ok();
                let at = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
                let at_us = at.and_then(|at| u64::try_from(at.as_micros()).ok()).unwrap_or(0);
                found.push((at_us, entry.path()));
            }
        }
    }
    found.sort();
    let mut freed = 0;
    for (at_us, path) in found {
        if freed >= wanted || before_us.is_some_and(|before| at_us >= before) {
            break;
        }
        if around.cancel.is_cancelled() {
            return Err(SweepError::Stopped);
        }
        let bytes = disk::usage(&path).bytes;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let above = rustix::fs::open(path.parent().unwrap_or(home), flags, Mode::empty())
            .map_err(|error| io("open", &path, error))?;
        let device = rustix::fs::fstat(&above).map_err(|error| io("look at", &path, error))?.st_dev;
        let name = path.file_name().unwrap_or_default();
        let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))
            .map_err(|error| io("remove", &path, std::io::Error::from(error)))?;
        // Without its mark Cargo unpacks it anew, however far the removal came.
        let _absent = std::fs::remove_file(path.join(".cargo-ok"));
        remove_tree(&above, &name, device, 0, &mut 0).map_err(|error| io("remove", &path, error))?;
        freed += bytes;
    }
    drop(locks);
    Ok(())
}

/// Whether Cargo can unpack `unpacked` again from what it has downloaded: `registry/src/INDEX/NAME` from
/// `registry/cache/INDEX/NAME.crate`, `git/checkouts/REPOSITORY/COMMIT` from `git/db/REPOSITORY`. Submodules are fetched
/// anew for each checkout.
fn comes_back(home: &Path, unpacked: &Path) -> bool {
    let (Some(name), Some(above)) = (unpacked.file_name(), unpacked.parent().and_then(Path::file_name))
    else {
        return false;
    };
    if unpacked.starts_with(home.join("git")) {
        return home.join("git/db").join(above).is_dir() && !unpacked.join(".gitmodules").exists();
    }
    let mut archive = name.to_owned();
    archive.push(".crate");
    home.join("registry/cache").join(above).join(archive).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(owner: Owner, bytes: u64) -> Cache {
        Cache { owner, folders: Vec::new(), bytes: Some(bytes), why: None, shrinks: true }
    }

    #[test]
    fn sizes_of_containers_are_read() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(container_size(text), expect, "{text}");
        check("0B", Some(0));
        check("1.5GB", Some(1_500_000_000));
        check("512kB", Some(512_000));
        check("2 MiB", Some(2_097_152));
        check("", None);
        check("x", None);
        check("1e999GB", None);
        check("12 parsecs", None);
        let said = "{\"Type\":\"Images\",\"Size\":\"1GB\"}\n{\"Type\":\"Build Cache\",\"Size\":\"3MB\"}\n";
        assert_eq!((build_cache_bytes(said), images_bytes(said)), (Some(3_000_000), Some(1_000_000_000)));
        assert_eq!(build_cache_bytes("no"), None);
        assert_eq!(total_bytes("ID x\nReclaimable:\t1GB\nTotal:\t2GB\n"), Some(2_000_000_000));
    }

    #[test]
    fn the_cheapest_goes_first_and_only_as_far_as_needed() {
        let caches = [
            cache(Owner::Spolia, 500),
            cache(Owner::Go, 300),
            cache(Owner::Cargo, 100),
            Cache { shrinks: false, ..cache(Owner::Sccache, 1000) },
        ];
        let check = |budget: u64, expect: &[(Owner, u64)]| {
            let steps = plan(&caches, Some(budget), None);
            let found: Vec<_> = steps.iter().map(|step| (step.owner, step.wanted_bytes)).collect();
            assert_eq!(found, expect, "{budget}");
        };
        check(1900, &[]);
        check(1850, &[(Owner::Cargo, 50)]);
        check(1700, &[(Owner::Cargo, 100), (Owner::Go, 100)]);
        check(0, &[(Owner::Cargo, 100), (Owner::Go, 300), (Owner::Spolia, 500)]);
        assert!(plan(&caches, None, None).is_empty());
    }

    #[test]
    fn only_what_cargo_unpacks_again_goes() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path();
        let make = |path: &str| {
            std::fs::create_dir_all(home.join(path).parent().unwrap()).unwrap();
            std::fs::write(home.join(path), "x").unwrap();
        };
        for path in [
            "registry/src/i/a-1/lib.rs",
            "registry/cache/i/a-1.crate",
            "registry/src/i/b-1/lib.rs",
            "git/checkouts/r-1/c/lib.rs",
            "git/checkouts/r-1/d/.gitmodules",
            "git/db/r-1/HEAD",
            "git/checkouts/s-1/c/lib.rs",
        ] {
            make(path);
        }
        let check =
            |path: &str, expect: bool| assert_eq!(comes_back(home, &home.join(path)), expect, "{path}");
        check("registry/src/i/a-1", true);
        check("registry/src/i/b-1", false);
        check("git/checkouts/r-1/c", true);
        check("git/checkouts/r-1/d", false);
        check("git/checkouts/s-1/c", false);
    }

    #[test]
    fn an_age_is_passed_on_and_whoever_cannot_tell_it_is_left() {
        let caches = [cache(Owner::Docker, 10), cache(Owner::Ccache, 10), cache(Owner::Pip, 10)];
        let steps = plan(&caches, None, Some(Duration::from_secs(48 * 3600)));
        let lines: Vec<String> =
            steps.iter().flat_map(|step| &step.commands).map(|words| words.join(" ")).collect();
        assert_eq!(
            lines,
            ["docker builder prune --force --filter until=48h", "ccache --evict-older-than 172800s"]
        );
        let steps = plan(&[cache(Owner::Ccache, 5000)], Some(2000), None);
        assert_eq!(steps[0].env, [("CCACHE_MAXSIZE".to_owned(), "2k".to_owned())]);
    }
}
