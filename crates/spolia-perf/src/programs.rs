//! What git and the toolchain say about themselves, remembered: asking costs more than many a command that is measured.
//!
//! `tools.json` in perf's folder of the store holds the versions that programs gave, each with the `stat` of what
//! decided it; and the commits, which never change. Losing it costs time only.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spolia_core::result::Stream;
use spolia_engine::query::{Query, ask};
use spolia_engine::{Cancel, End};
use spolia_store::StatKey;

use crate::error::PerfError;
use crate::record::Git;

/// The programs that are asked, with what: only those known to answer and do nothing else.
const TOOLS: &[(&str, &[&str])] = &[
    ("cc", &["--version"]),
    ("c++", &["--version"]),
    ("rustc", &["--version"]),
    ("cargo", &["--version"]),
    ("go", &["version"]),
    ("node", &["--version"]),
    ("python3", &["--version"]),
    ("make", &["--version"]),
];
/// Files that let a stand-in choose another version.
const CHOOSERS: &[&str] =
    &["rust-toolchain", "rust-toolchain.toml", ".python-version", "go.mod", ".tool-versions"];
/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);
const MEMO_VERSION: u32 = 1;
const MEMO_MAX: usize = 2000;

#[derive(Default, Serialize, Deserialize)]
struct Memo {
    version: u32,
    /// What decided → what it said; `None` where it failed.
    tools: BTreeMap<String, Option<String>>,
    /// Commit → time and first line.
    commits: BTreeMap<String, (i64, String)>,
}

/// Asks programs.
pub struct Programs<'p> {
    /// Where `tools.json` is; `None` where nothing may be written.
    pub memory: Option<PathBuf>,
    /// `PATH`.
    pub search: &'p std::ffi::OsStr,
    /// Where the command will run.
    pub folder: &'p Path,
    /// What they may read of the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Stops them.
    pub cancel: &'p Cancel,
}

/// What was found.
pub struct Found {
    /// Program → version.
    pub toolchain: BTreeMap<String, String>,
    /// The commit, or why there is none.
    pub git: Result<Git, String>,
}

impl Programs<'_> {
    /// Asks all of them, or remembers.
    pub fn look(&self) -> Found {
        let memo = self.memory.as_ref().and_then(|path| std::fs::read(path).ok());
        let memo = memo.and_then(|raw| serde_json::from_slice::<Memo>(&raw).ok());
        let mut memo = memo.filter(|memo| memo.version == MEMO_VERSION).unwrap_or_default();
        let before = (memo.tools.len(), memo.commits.len());
        let toolchain = TOOLS.iter().filter_map(|(name, args)| {
            let version = self.version(name, args, &mut memo.tools)?;
            Some(((*name).to_owned(), version))
        });
        let toolchain = toolchain.collect();
        let git = self.git(&mut memo.commits);
        if before != (memo.tools.len(), memo.commits.len()) {
            self.keep(memo);
        }
        Found { toolchain, git }
    }

    fn keep(&self, mut memo: Memo) {
        if memo.tools.len() > MEMO_MAX || memo.commits.len() > MEMO_MAX {
            memo = Memo::default();
        }
        memo.version = MEMO_VERSION;
        let Some(path) = &self.memory else { return };
        let Ok(text) = serde_json::to_vec(&memo) else { return };
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        // Losing it costs time only.
        let _lost = std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))
            .and_then(|()| std::fs::write(&temporary, text))
            .and_then(|()| std::fs::rename(&temporary, path));
    }

    fn version(
        &self,
        name: &str,
        args: &[&str],
        memo: &mut BTreeMap<String, Option<String>>,
    ) -> Option<String> {
        let program =
            std::env::split_paths(self.search).map(|folder| folder.join(name)).find(|path| path.is_file())?;
        let mut decided = format!("{name}\0{}\0{:?}", program.display(), stat(&program));
        // A stand-in looks at its settings, and at files in the folders above.
        for (variable, value) in &self.env {
            decided.push_str(&format!("\0{variable:?}={value:?}"));
        }
        let is_stand_in = std::fs::canonicalize(&program).is_ok_and(|real| {
            let text = real.to_string_lossy();
            text.contains("rustup") || text.contains("shims") || text.contains("/.")
        });
        if is_stand_in {
            for folder in self.folder.ancestors() {
                for chooser in CHOOSERS {
                    decided.push_str(&format!("\0{:?}", stat(&folder.join(chooser))));
                }
            }
        }
        let key = spolia_core::Digest::blake3(decided.as_bytes()).to_string();
        memo.entry(key)
            .or_insert_with(|| {
                let said = self.ask(program.into_os_string(), args).ok()?;
                let said =
                    String::from_utf8_lossy(&said).lines().next().map(|line| line.trim().to_owned())?;
                (!said.is_empty()).then_some(said)
            })
            .clone()
    }

    fn ask(&self, program: OsString, args: &[&str]) -> Result<Vec<u8>, String> {
        let args = args.iter().map(OsString::from).collect();
        self.ask_in(self.folder, program, args, Some(PATIENCE))
    }

    fn ask_in(
        &self,
        folder: &Path,
        program: OsString,
        args: Vec<OsString>,
        patience: Option<Duration>,
    ) -> Result<Vec<u8>, String> {
        let query = Query { program, args, env: self.env.clone(), folder: folder.to_owned() };
        let ended = ask(&query, self.cancel, patience).map_err(|error| error.to_string())?;
        match ended.end {
            End::Exited(0) => Ok(ended.log.of(Stream::Stdout)),
            _ => {
                let err = ended.log.of(Stream::Stderr);
                let said = String::from_utf8_lossy(&err).lines().next().unwrap_or_default().trim().to_owned();
                Err(if said.is_empty() { "it failed and said nothing".to_owned() } else { said })
            }
        }
    }

    fn git(&self, commits: &mut BTreeMap<String, (i64, String)>) -> Result<Git, String> {
        // The nearest repository: without one git need not be started.
        if !self.folder.ancestors().any(|folder| folder.join(".git").exists()) {
            return Err("this is no git repository".to_owned());
        }
        let args =
            ["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=normal"];
        let status =
            self.ask("git".into(), &args).map_err(|said| said.trim_start_matches("fatal: ").to_owned())?;
        let mut git = parse_status(&String::from_utf8_lossy(&status));
        if git.commit.is_empty() {
            return Err("the repository has no commit yet".to_owned());
        }
        let known = commits.get(&git.commit).cloned().or_else(|| {
            let shown = self.ask("git".into(), &["log", "-1", "--format=%ct %s", &git.commit]).ok()?;
            let shown = String::from_utf8_lossy(&shown).trim().to_owned();
            let (time, title) = shown.split_once(' ').unwrap_or((&shown, ""));
            Some((time.parse().ok()?, title.to_owned()))
        });
        if let Some((time, title)) = known {
            commits.insert(git.commit.clone(), (time, title.clone()));
            git.time_s = Some(time);
            git.title = Some(title);
        }
        Ok(git)
    }

    /// What git prints for `args`.
    ///
    /// # Errors
    /// Its own words.
    pub fn ask_git(&self, args: &[&str]) -> Result<String, PerfError> {
        git_said(self.ask("git".into(), args))
    }

    /// What git prints for `args` in `folder`, however long it takes.
    ///
    /// # Errors
    /// Its own words.
    pub fn run_git(&self, folder: &Path, args: Vec<OsString>) -> Result<String, PerfError> {
        git_said(self.ask_in(folder, "git".into(), args, None))
    }
}

fn git_said(said: Result<Vec<u8>, String>) -> Result<String, PerfError> {
    let said = said.map_err(|said| PerfError::Git { said: said.trim_start_matches("fatal: ").to_owned() })?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn stat(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = StatKey::of_metadata(&std::fs::metadata(path).ok()?);
    Some((found.ino, found.size, found.mtime_ns, found.ctime_ns))
}

/// `git status --porcelain=v2 --branch`.
fn parse_status(text: &str) -> Git {
    let mut git = Git { dirty: Some(false), ..Git::default() };
    for line in text.lines() {
        if let Some(commit) = line.strip_prefix("# branch.oid ") {
            git.commit = if commit == "(initial)" { String::new() } else { commit.to_owned() };
        } else if let Some(branch) = line.strip_prefix("# branch.head ") {
            git.branch = (branch != "(detached)").then(|| branch.to_owned());
        } else if !line.starts_with('#') {
            git.dirty = Some(true);
        }
    }
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_tells_commit_branch_and_whether_files_differ() {
        let clean = parse_status("# branch.oid abc\n# branch.head main\n# branch.upstream origin/main\n");
        assert_eq!(
            (clean.commit.as_str(), clean.branch.as_deref(), clean.dirty),
            ("abc", Some("main"), Some(false))
        );
        let dirty = parse_status("# branch.oid abc\n# branch.head (detached)\n? new\n");
        assert_eq!((dirty.branch, dirty.dirty), (None, Some(true)));
        assert_eq!(parse_status("# branch.oid (initial)\n").commit, "");
    }
}
