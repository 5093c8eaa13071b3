//! A build, ready to be planned (`plan.rs`) or run (`main_loop.rs`): what it is made of, and what it asks the machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use spolia_core::event::{EventKind, Summary};
use spolia_core::{ActionKey, ActionResult, Explanation, Platform};
use spolia_engine::jobserver::Jobserver;
use spolia_engine::tools::{Surroundings, Toolbox};
use spolia_engine::{Cancel, Engine, SandboxExecutor};
use spolia_store::{DigestCache, LocalStore, Lock, LockFile, RunId, StoreError};

use crate::claim::{self, Claim, Stopped};
use crate::graph::{Graph, GraphError, NodeId};
use crate::index::{Index, IndexError};
use crate::manifest::{EngineKind, Manifest};
use crate::state::{Remembered, State};

pub use crate::answer::tell_fresh;
pub use crate::plan::{Known, Plan, Planned};

/// The folder of Spolia's own in a project.
pub const OWN_FOLDER: &str = ".spolia";

/// What comes from outside: nothing in this crate asks the system for it.
pub struct Session<'s> {
    /// The project's folder, absolute.
    pub root: PathBuf,
    /// The store on this machine.
    pub store: Arc<LocalStore>,
    /// Stops everything.
    pub cancel: &'s Cancel,
    /// Takes what happens, from any thread.
    pub sink: &'s (dyn Fn(EventKind) + Sync),
    /// The caller's variables.
    pub caller_env: &'s (dyn Fn(&str) -> Option<OsString> + Sync),
    /// Trust stores and proxies, for steps with network; not keyed.
    pub network_env: BTreeMap<String, OsString>,
    /// Where tools are looked for.
    pub surroundings: Surroundings,
    /// The run's name in the journal.
    pub run: RunId,
    /// What was asked, for the journal.
    pub command: Vec<String>,
    /// µs since 1970.
    pub now_us: &'s (dyn Fn() -> u64 + Sync),
    /// Spolia's version.
    pub version: String,
    /// The user's id: what a kernel allows may differ by user.
    pub uid: u32,
}

/// Which results are not taken from a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Forced {
    /// None.
    #[default]
    Nothing,
    /// Every step of the build.
    Everything,
    /// These steps.
    Steps(BTreeSet<String>),
}

impl Forced {
    pub(crate) fn includes(&self, step: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Steps(steps) => steps.contains(step),
        }
    }
}

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps to build; all if empty.
    pub steps: Vec<String>,
    /// Platforms to build for; all if empty.
    pub platforms: Vec<Platform>,
    /// The most steps at once, at least 1.
    pub jobs: usize,
    /// How steps run that do not say it themselves.
    pub engine: EngineKind,
    /// Whether the user named the engine: then a refusal is an error.
    pub engine_asked: bool,
    /// `--no-cache`.
    pub forced: Forced,
    /// Not `--no-store`.
    pub store_results: bool,
    /// Go on with what does not need a failed step.
    pub keep_going: bool,
    /// Show the kept output of steps that do not run.
    pub replay: bool,
}

impl Options {
    /// What decides, besides the tree and the surroundings, whether everything is in place.
    pub fn identity(&self) -> String {
        let Self { steps, platforms, jobs: _, engine, engine_asked, forced, .. } = self;
        format!("{steps:?}\0{platforms:?}\0{engine:?}\0{engine_asked}\0{forced:?}")
    }

    /// Whether a build with these options may be answered, and its answer be written down, by
    /// [`crate::fresh`].
    pub fn may_be_fresh(&self) -> bool {
        self.forced == Forced::Nothing && !self.replay
    }
}

/// Why there was no build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The project's files.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The sandbox was asked for and cannot be had.
    #[error("the sandbox was asked for, and this machine refuses it: {error}")]
    NoSandbox {
        /// What the kernel said.
        error: String,
        /// What may be done.
        hint: String,
    },
    /// `--no-cache=STEP` names no step.
    #[error("`--no-cache` names `{name}`, which is no step")]
    NoSuchForced {
        /// The name.
        name: String,
    },
}

/// A build, ready to be planned or run.
pub struct Build<'b> {
    pub(crate) session: &'b Session<'b>,
    pub(crate) options: &'b Options,
    pub(crate) manifest: &'b Manifest,
    pub(crate) graph: Graph<'b>,
    pub(crate) selected: Vec<NodeId>,
    pub(crate) engine: Engine,
    pub(crate) digests: &'b DigestCache,
    pub(crate) index: Index<'b>,
    pub(crate) jobserver: Option<Jobserver>,
    pub(crate) sandbox: SandboxExecutor,
    /// `.spolia/lock`.
    locks: LockFile,
    pub(crate) scratch_number: AtomicUsize,
    /// The mode of a folder that was just made in `.spolia/work`.
    pub(crate) made_mode: OnceLock<Option<u32>>,
    /// Folders of sandboxes that have ended, ready for others.
    pub(crate) spare_workplaces: Mutex<Vec<PathBuf>>,
    pub(crate) toolbox: Toolbox,
    pub(crate) vars: BTreeMap<Platform, BTreeMap<String, String>>,
    pub(crate) state: Mutex<State>,
    pub(crate) state_changed: AtomicBool,
    pub(crate) keys: Mutex<HashMap<NodeId, ActionKey>>,
    pub(crate) support: OnceLock<Result<(), (String, String)>>,
    own_folders: OnceLock<Result<(), String>>,
    /// Takes what steps print, as it is, in place of events.
    pub(crate) raw_output: Option<RawOutput<'b>>,
    looking: bool,
}

/// Takes the bytes that a step prints, from any thread.
pub type RawOutput<'o> = &'o (dyn Fn(spolia_core::result::Stream, &[u8]) + Sync);

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The counts.
    pub summary: Summary,
    /// Whether it was stopped from outside.
    pub cancelled: bool,
}

impl<'b> Build<'b> {
    /// Reads the graph and the project's files.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn new(
        session: &'b Session<'b>,
        manifest: &'b Manifest,
        options: &'b Options,
        digests: &'b DigestCache,
    ) -> Result<Self, BuildError> {
        let graph = Graph::new(manifest)?;
        let selected = graph.select(&options.steps, &options.platforms)?;
        if let Forced::Steps(names) = &options.forced
            && let Some(name) = names.iter().find(|name| manifest.step(name).is_none())
        {
            return Err(BuildError::NoSuchForced { name: name.clone() });
        }
        let published = graph
            .ids()
            .map(|id| graph.node(id))
            .filter(|node| !node.place.exact)
            .flat_map(|node| node.body.outputs.iter().map(|output| node.place.at.join(&output.path)))
            .collect();
        let lists: Vec<_> = selected.iter().map(|id| &graph.node(*id).body.inputs).collect();
        let index = Index::new(&session.root, &lists, published, digests)?;
        let own = session.root.join(OWN_FOLDER);
        let vars = graph.ids().map(|id| graph.node(id).id.platform.clone()).collect::<BTreeSet<_>>();
        let vars = vars.into_iter().map(|platform| {
            let vars = manifest.vars(&platform, &Platform::host());
            (platform, vars)
        });
        Ok(Self {
            vars: vars.collect(),
            session,
            options,
            manifest,
            selected,
            engine: Engine::new(session.store.clone()),
            digests,
            index,
            jobserver: Jobserver::new(options.jobs).ok(),
            sandbox: SandboxExecutor::default(),
            locks: LockFile::without_holders(own.join("lock")),
            scratch_number: AtomicUsize::new(0),
            made_mode: OnceLock::new(),
            spare_workplaces: Mutex::default(),
            toolbox: Toolbox::new(session.surroundings.clone(), session.store.base().join("tools.json")),
            state: Mutex::new(State::load(&own.join("state"))),
            state_changed: AtomicBool::new(false),
            keys: Mutex::new(HashMap::new()),
            support: OnceLock::new(),
            own_folders: OnceLock::new(),
            raw_output: None,
            looking: false,
            graph,
        })
    }

    /// For a build that is planned and not run: nothing of the project is written, not even `.spolia`.
    #[must_use]
    pub fn only_looking(mut self) -> Self {
        self.looking = true;
        self
    }

    /// What steps print goes to `output` byte for byte and is no event; also that of steps that do not run,
    /// where [`Options::replay`] is set.
    #[must_use]
    pub fn with_raw_output(mut self, output: RawOutput<'b>) -> Self {
        self.raw_output = Some(output);
        self
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        &self.session.root
    }

    /// The store on this machine.
    pub fn store(&self) -> &LocalStore {
        &self.session.store
    }

    /// The kept output of a step, by [`spolia_core::result::Log::chunks`]; `None` where the store has lost it.
    pub fn log(&self, result: &ActionResult) -> Option<Vec<u8>> {
        result.log.as_ref().map_or_else(|| Some(Vec::new()), |log| self.engine.log(log))
    }

    /// The graph.
    pub fn graph(&self) -> &Graph<'b> {
        &self.graph
    }

    /// The nodes of this build, in order.
    pub fn selected(&self) -> &[NodeId] {
        &self.selected
    }

    pub(crate) fn emit(&self, kind: EventKind) {
        (self.session.sink)(kind);
    }

    pub(crate) fn warn(&self, message: String, hint: Option<String>) {
        self.emit(EventKind::Warning { message, hint });
    }

    /// `.spolia`.
    pub(crate) fn own(&self) -> PathBuf {
        self.session.root.join(OWN_FOLDER)
    }

    /// `.spolia/tmp`.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.own().join("tmp")
    }

    /// A path in `.spolia/tmp` that nobody has used.
    pub(crate) fn new_scratch(&self) -> PathBuf {
        let number = self.scratch_number.fetch_add(1, Ordering::Relaxed);
        self.tmp().join(format!("{}.{number}", std::process::id()))
    }

    pub(crate) fn project_name(&self) -> String {
        self.manifest.name.clone().unwrap_or_else(|| self.session.root.display().to_string())
    }

    /// `.spolia` with its own ignore file, and `.spolia/tmp` without what killed builds have left there.
    pub(crate) fn make_own_folders(&self) -> std::io::Result<()> {
        let made = self.own_folders.get_or_init(|| {
            let make = || -> std::io::Result<()> {
                std::fs::create_dir_all(self.tmp())?;
                let ignore = self.own().join(".gitignore");
                if !ignore.exists() {
                    std::fs::write(&ignore, "*\n")?;
                }
                spolia_engine::sandbox::prepare_scratch_parent(&self.tmp())?;
                sweep(&self.tmp());
                Ok(())
            };
            make().map_err(|error| error.to_string())
        });
        made.clone().map_err(std::io::Error::other)
    }

    pub(crate) fn remembered(&self, id: NodeId) -> Option<Remembered> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.steps.get(&self.graph.node(id).id).cloned()
    }

    /// What the last build left for a node: for `why`.
    pub fn last(&self, id: NodeId) -> Option<Remembered> {
        self.remembered(id)
    }

    /// What a key was made of, where that is still known.
    pub fn explanation(&self, key: ActionKey) -> Option<Explanation> {
        self.engine.explanation(key)
    }

    pub(crate) fn key_of(&self, id: NodeId) -> Option<ActionKey> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    pub(crate) fn claim(&self, id: NodeId, what: Claim) -> Result<Result<Lock, StoreError>, Stopped> {
        self.claim_or(id, what, &|| ())
    }

    /// The same; `on_wait` is called before each wait for another build.
    pub(crate) fn claim_or(
        &self,
        id: NodeId,
        what: Claim,
        on_wait: &dyn Fn(),
    ) -> Result<Result<Lock, StoreError>, Stopped> {
        claim::claim(&self.locks, &self.graph.node(id).id, what, self.session.cancel, on_wait)
    }

    /// How a node runs: what it says, else what was chosen; the host where the kernel refuses a sandbox.
    pub(crate) fn engine_for(&self, id: NodeId) -> Result<EngineKind, BuildError> {
        let node = self.graph.node(id);
        let wanted = node.body.engine.unwrap_or(self.options.engine);
        if wanted == EngineKind::Host {
            return Ok(EngineKind::Host);
        }
        let asked = self.options.engine_asked || node.body.engine.is_some();
        match self.support.get_or_init(|| self.probe()) {
            Ok(()) => Ok(EngineKind::Sandbox),
            Err((error, hint)) if asked => {
                Err(BuildError::NoSandbox { error: error.clone(), hint: hint.clone() })
            }
            Err(_) => Ok(EngineKind::Host),
        }
    }

    /// Whether sandboxes work here: remembered until the machine starts again.
    fn probe(&self) -> Result<(), (String, String)> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let memo = self.probe_memo();
        if !boot.is_empty() && std::fs::read_to_string(&memo).is_ok_and(|known| known == boot) {
            return Ok(());
        }
        let unusable = |error: std::io::Error| (error.to_string(), String::new());
        if !self.looking {
            self.make_own_folders().map_err(unusable)?;
        }
        // Who only looks leaves nothing in the project: anywhere else will do for the question.
        let folder = Some(self.tmp()).filter(|tmp| tmp.is_dir()).unwrap_or_else(|| PathBuf::from("/tmp"));
        match spolia_engine::sandbox::probe(&folder) {
            Ok(_) if self.looking => Ok(()),
            Ok(_) => {
                // Only saves the next probe.
                let _unwritten = std::fs::write(&memo, boot);
                Ok(())
            }
            Err(refusal) => {
                let error = refusal.error.to_string();
                if !self.options.engine_asked {
                    self.warn(
                        format!("no sandbox here ({error}); steps run on the host, and their results are kept apart"),
                        Some(refusal.hint.to_string()),
                    );
                }
                Err((error, refusal.hint.to_string()))
            }
        }
    }

    fn probe_memo(&self) -> PathBuf {
        self.session.store.base().join(format!("sandbox-{}", self.session.uid))
    }

    pub(crate) fn forget_probe(&self) {
        let _gone = std::fs::remove_file(self.probe_memo());
    }
}

/// Removes what builds that were killed have left: folders named by a process that is no more, and
/// memories of the tree that were being written.
fn sweep(tmp: &Path) {
    let Ok(entries) = std::fs::read_dir(tmp) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.split('.').find_map(|part| part.parse::<u32>().ok()));
        let alive = pid.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists());
        if !alive {
            let path = entry.path();
            let _unremoved =
                spolia_engine::sandbox::remove_scratch(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }
}
