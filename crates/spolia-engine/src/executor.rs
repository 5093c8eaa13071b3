//! The contract between an action and what carries it out.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spolia_core::result::{Log, Stream};
use spolia_core::template::{self, Placeholder};
use spolia_core::{Action, Cost, RelPath};

use crate::cancel::Cancel;
use crate::tools::Tool;

/// Options that cannot change a result: beside the action, outside its key by construction.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// For messages: `fio (linux/arm64)`.
    pub label: String,
    /// The project's name, or its folder where it has none: for `cache ls`.
    pub project: String,
    /// Wall time after which it is stopped.
    pub timeout: Option<Duration>,
    /// How often a failed run is tried again.
    pub retries: u32,
    /// Variables the command gets that are not keyed: a jobserver, trust stores and proxies of a step
    /// with network.
    pub unkeyed_env: BTreeMap<String, OsString>,
}

/// Where things are on this machine for one run.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The project's folder.
    pub root: PathBuf,
    /// An empty folder that becomes `${out}`.
    pub out: PathBuf,
    /// A private folder for the run, empty or as a former run of the same executor has left it; removed by the
    /// caller.
    pub scratch: PathBuf,
    /// Folders holding exactly the outputs of each needed step.
    pub needs: BTreeMap<String, PathBuf>,
    /// Cache mounts: path the command sees, folder on this machine.
    pub mounts: Vec<(String, PathBuf)>,
    /// The declared tools, found.
    pub tools: Vec<Tool>,
    /// Input folders of which every file is declared; none inside another.
    pub whole_folders: Vec<RelPath>,
    /// What a sandbox must not show although it lies in a system folder: the store.
    pub hidden: Vec<PathBuf>,
}

/// One run to carry out.
pub struct Execution<'e> {
    /// What.
    pub action: &'e Action,
    /// Beside it.
    pub job: &'e Job,
    /// Where.
    pub places: &'e Places,
    /// Stops it.
    pub cancel: &'e Cancel,
    /// Descriptors that the command inherits.
    pub keep_fds: &'e [i32],
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It ran longer than its limit and was stopped.
    TimedOut,
    /// The build was stopped.
    Cancelled,
}

/// What a run left.
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub log: Log,
    /// Whether it printed more than is kept.
    pub log_cut: bool,
    /// What it cost.
    pub cost: Cost,
    /// Project paths it looked for that were not there, where that was watched.
    pub looked_for: Vec<RelPath>,
    /// Why its look-ups were not all seen; `None` where they were, or nobody was asked to watch.
    pub unwatched: Option<String>,
}

/// Why a command did not run at all.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The program could not be started.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// Which.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The sandbox could not be made.
    #[error("cannot make the sandbox: {0}")]
    Sandbox(crate::sandbox::StartError),
    /// The sandbox ended without a report.
    #[error(transparent)]
    Report(#[from] crate::sandbox::ExchangeError),
    /// A file or folder of ours could not be made.
    #[error("cannot prepare `{path}`: {source}")]
    Prepare {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Carries out one action. The environment, the paths it sees and the guard are the executor's.
pub trait Executor: Send + Sync {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It did not run at all. A command that ran and failed is no error.
    fn run(
        &self,
        execution: &Execution<'_>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, ExecutorError>;
}

/// The paths that a command sees.
pub(crate) struct View<'v> {
    pub(crate) root: &'v Path,
    pub(crate) out: &'v Path,
    pub(crate) cache: &'v Path,
    pub(crate) need: &'v dyn Fn(&str) -> Option<PathBuf>,
}

impl View<'_> {
    /// `text` with every placeholder replaced.
    pub(crate) fn expand(&self, text: &[u8], action: &Action) -> OsString {
        let Ok(text) = std::str::from_utf8(text) else { return OsStr::from_bytes(text).to_owned() };
        let path = |path: &Path| Some(path.as_os_str().as_bytes().to_vec());
        let value = |placeholder: Placeholder<'_>| match placeholder {
            Placeholder::Out => path(self.out),
            Placeholder::Root => path(self.root),
            Placeholder::Cache => path(self.cache),
            Placeholder::Platform => Some(action.platform.to_string().into_bytes()),
            Placeholder::PlatformVar(key) => action.vars.get(key).map(|value| value.clone().into_bytes()),
            Placeholder::Step(name) => (self.need)(name).as_deref().and_then(path),
        };
        OsString::from_vec(template::expand(text, &value))
    }
}

/// The fixed part of every environment, and `PATH` with the declared tools' own folders first.
pub(crate) fn base_env(tools: &[Tool], home: &Path, tmp: &Path) -> BTreeMap<String, OsString> {
    let mut search: Vec<&Path> = tools.iter().filter_map(|tool| tool.folder.as_deref()).collect();
    search.dedup();
    search.extend(crate::tools::SEARCH.iter().map(Path::new));
    let search: Vec<&OsStr> = search.iter().map(|path| path.as_os_str()).collect();
    BTreeMap::from([
        ("PATH".to_owned(), search.join(OsStr::new(":"))),
        ("HOME".to_owned(), home.as_os_str().to_owned()),
        ("TMPDIR".to_owned(), tmp.as_os_str().to_owned()),
        ("LANG".to_owned(), OsString::from("C.UTF-8")),
        ("TZ".to_owned(), OsString::from("UTC")),
    ])
}
