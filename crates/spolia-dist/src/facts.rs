//! What is true of the whole release: commit, its time, whether the tree is what the commit says, the version.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use spolia_core::RelPath;
use spolia_core::calendar::civil;
use spolia_engine::process::{Limits, run};
use spolia_engine::{Cancel, End};

use crate::error::DistError;
use crate::manifest::Version;

/// The time that is written where there is neither a commit nor SOURCE_DATE_EPOCH: 1980-01-01, the first that a
/// zip can hold.
pub const FIXED_EPOCH: u64 = 315_532_800;
/// The longest first line of a version file, bytes.
const VERSION_BYTES_MAX: usize = 128;

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpochFrom {
    /// `SOURCE_DATE_EPOCH`.
    Environment,
    /// The commit.
    Commit,
    /// Neither was there.
    Fixed,
}

/// What is true of the whole release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version, where the manifest gives one.
    pub version: Option<String>,
    /// The commit, 40 or 64 hex digits; `None` where there is no repository.
    pub commit: Option<String>,
    /// The commit's date in its own time zone, `2026-01-31`.
    pub commit_date: Option<String>,
    /// Its time of day in its own time zone, `23:59:59`.
    pub commit_time: Option<String>,
    /// What of the tree is in no commit, as git shows it; `None` where there is no repository.
    pub dirty: Option<Vec<String>>,
    /// The time that is written, seconds since 1970.
    pub epoch: u64,
    /// Where that is from.
    pub epoch_from: EpochFrom,
}

/// How programs are asked.
pub struct Asker<'a> {
    /// Where they are looked for.
    pub search: &'a OsString,
    /// The user's home.
    pub home: &'a Path,
    /// What else they are told.
    pub env: &'a BTreeMap<String, OsString>,
    /// Stops them.
    pub cancel: &'a Cancel,
}

impl Asker<'_> {
    /// What `program` prints on its standard output.
    ///
    /// # Errors
    /// [`DistError::Asked`] where it fails or is not there.
    pub fn ask(&self, program: &str, args: &[&str], folder: &Path) -> Result<Vec<u8>, DistError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "facts come from git, cargo and go; the engine's runner runs them"
        )]
        let mut command = Command::new(program);
        command.args(args).current_dir(folder).env_clear().stdin(Stdio::null());
        command.env("PATH", self.search).env("HOME", self.home).env("LC_ALL", "C");
        // Looking must not write the index of somebody else's repository.
        command.env("GIT_OPTIONAL_LOCKS", "0").envs(self.env);
        let failed =
            |said: String| DistError::Asked { program: format!("{program} {}", args.join(" ")), said };
        let limits = Limits { cancel: self.cancel, timeout: None };
        let mut out = Vec::new();
        let mut err = Vec::new();
        let ended = run(command, &limits, &mut |stream, bytes| match stream {
            spolia_core::result::Stream::Stdout => out.extend_from_slice(bytes),
            spolia_core::result::Stream::Stderr => err.extend_from_slice(bytes),
        })
        .map_err(|error| failed(error.to_string()))?;
        match ended.end {
            End::Exited(0) => Ok(out),
            End::Cancelled => Err(DistError::Cancelled),
            End::Exited(_) | End::Signalled(_) | End::TimedOut => {
                Err(failed(String::from_utf8_lossy(&err).trim().to_owned()))
            }
        }
    }

    fn line(&self, args: &[&str], folder: &Path) -> Result<String, DistError> {
        self.ask("git", args, folder).map(|raw| String::from_utf8_lossy(&raw).trim().to_owned())
    }
}

/// Gathers them. `outputs` are folders of the project that are written by Spolia: what is new there is not what
/// makes a tree dirty.
///
/// # Errors
/// A repository that git refuses to read; a `SOURCE_DATE_EPOCH` that is no number; a version file that is none.
pub fn gather(
    root: &Path,
    version: Option<&Version>,
    source_date_epoch: Option<&str>,
    outputs: &[RelPath],
    asker: &Asker<'_>,
) -> Result<Facts, DistError> {
    let version = version.map(|version| read_version(root, version)).transpose()?;
    let asked = source_date_epoch
        .map(|text| text.parse::<u64>().map_err(|_| DistError::Epoch { found: text.to_owned() }))
        .transpose()?;
    let mut facts = Facts {
        version,
        commit: None,
        commit_date: None,
        commit_time: None,
        dirty: None,
        epoch: FIXED_EPOCH,
        epoch_from: EpochFrom::Fixed,
    };
    if is_in_repository(root) {
        // A repository without a commit has none of these.
        if let Ok(commit) = asker.line(&["rev-parse", "--verify", "-q", "HEAD"], root) {
            let shown = asker.line(
                &["show", "-s", "--format=%ct%n%cd", "--date=format:%Y-%m-%d%n%H:%M:%S", "HEAD"],
                root,
            )?;
            let mut lines = shown.lines().map(str::to_owned);
            if let Some(epoch) = lines.next().and_then(|line| line.parse().ok()) {
                (facts.epoch, facts.epoch_from) = (epoch, EpochFrom::Commit);
            }
            (facts.commit_date, facts.commit_time) = (lines.next(), lines.next());
            facts.commit = Some(commit);
        }
        facts.dirty = Some(dirty(root, outputs, asker)?);
    }
    if let Some(epoch) = asked {
        (facts.epoch, facts.epoch_from) = (epoch, EpochFrom::Environment);
    }
    Ok(facts)
}

/// Whether some folder at or above `root` is a repository: git itself would say it in words.
fn is_in_repository(root: &Path) -> bool {
    root.ancestors().any(|folder| folder.join(".git").exists())
}

fn dirty(root: &Path, outputs: &[RelPath], asker: &Asker<'_>) -> Result<Vec<String>, DistError> {
    let mut args = vec!["status".to_owned(), "--porcelain=v1".to_owned(), "-z".to_owned()];
    args.extend(["--untracked-files=normal", "--no-renames", "--", "."].map(str::to_owned));
    for output in outputs {
        let folder = String::from_utf8_lossy(output.as_bytes());
        args.push(format!(":(exclude,literal){folder}"));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let shown = asker.ask("git", &args, root)?;
    let entries = shown.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
    let mut paths: Vec<String> = entries.map(|entry| spolia_core::path::escape(&entry[3..])).collect();
    paths.sort();
    Ok(paths)
}

fn read_version(root: &Path, version: &Version) -> Result<String, DistError> {
    let path = match version {
        Version::Text(text) => return Ok(text.clone()),
        Version::File(path) => path.under(root),
    };
    let text = std::fs::read_to_string(&path).map_err(|source| DistError::io("read", &path, source))?;
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    let good = !line.is_empty()
        && line.len() <= VERSION_BYTES_MAX
        && !line.chars().any(|letter| letter.is_control() || letter == '/' || letter == '\\');
    if good {
        return Ok(line);
    }
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "its first line is no version");
    Err(DistError::io("take the version from", path, error))
}

impl Facts {
    /// The first eight digits of the commit; empty where there is none.
    pub fn short_commit(&self) -> String {
        self.commit.as_deref().unwrap_or_default().chars().take(8).collect()
    }

    /// Whether the tree is not what its commit says; `None` where there is no repository.
    pub fn is_dirty(&self) -> Option<bool> {
        self.dirty.as_ref().map(|paths| !paths.is_empty())
    }

    /// The day that is written, `2026-01-31`: the commit's own, unless another time was asked for.
    pub fn date(&self) -> String {
        match (&self.commit_date, self.epoch_from) {
            (Some(date), EpochFrom::Commit) => date.clone(),
            _ => civil(self.epoch).date(),
        }
    }

    /// The time of that day, `23:59:59`.
    pub fn time(&self) -> String {
        match (&self.commit_time, self.epoch_from) {
            (Some(time), EpochFrom::Commit) => time.clone(),
            _ => civil(self.epoch).time(),
        }
    }

    /// The time that is written as RFC 3339 in UTC.
    pub fn rfc3339(&self) -> String {
        civil(self.epoch).rfc3339()
    }
}
