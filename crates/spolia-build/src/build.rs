//! One build from start to end: `Graph + Schedule → StepOutcomes`, told as events.
//!
//! The main thread keys every node as soon as what it needs is known, answers what is in place, and hands
//! the rest to workers. A build in which nothing changed starts no thread and opens no file of the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use spolia_core::event::{EventKind, JOURNAL_VERSION, StepOutcome, Summary, Tier};
use spolia_core::key::Keyed;
use spolia_core::{Action, ActionKey, ActionResult, Explanation, MissReason, Platform, RelPath, Tree};
use spolia_engine::jobserver::Jobserver;
use spolia_engine::perform::{Lookup, Presence, appeared, chain};
use spolia_engine::tools::{Surroundings, Tool, Toolbox};
use spolia_engine::{Cancel, Engine};
use spolia_store::{DigestCache, LocalStore, Lock, Place, RunId, StoreError};

use crate::claim::{self, Claim, Stopped};
use crate::fresh::{Fresh, FreshStep};
use crate::graph::{Graph, GraphError, NodeId};
use crate::index::{Index, IndexError};
use crate::keying::{self, Ingredients};
use crate::manifest::{EngineKind, Manifest};
use crate::schedule::Schedule;
use crate::state::{Ran, Remembered, State};
use crate::worker::{Finished, Task, What};

/// The folder of Spolia's own in a project.
pub const OWN_FOLDER: &str = ".spolia";
/// How often a build that waits for a job token looks again.
const TOKEN_PAUSE: Duration = Duration::from_millis(20);

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
    fn includes(&self, step: &str) -> bool {
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
    pub(crate) scratch_number: AtomicUsize,
    toolbox: Toolbox,
    vars: BTreeMap<Platform, BTreeMap<String, String>>,
    state: Mutex<State>,
    state_changed: AtomicBool,
    keys: Mutex<HashMap<NodeId, ActionKey>>,
    support: OnceLock<Result<(), (String, String)>>,
    own_folders: OnceLock<Result<(), String>>,
    /// Takes what steps print, as it is, in place of events.
    pub(crate) raw_output: Option<RawOutput<'b>>,
    looking: bool,
}

/// Takes the bytes that a step prints, from any thread.
pub type RawOutput<'o> = &'o (dyn Fn(spolia_core::result::Stream, &[u8]) + Sync);

/// What a build would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order.
    pub nodes: Vec<(NodeId, Planned)>,
}

/// What would be done for one node.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Its outputs are in place.
    UpToDate(Box<Known>),
    /// Its outputs would be restored.
    Restore(Box<Known>, Tier),
    /// It would run.
    Run(ActionKey, MissReason),
    /// That depends on what these steps will give, which would run.
    Depends(Vec<NodeId>),
    /// It cannot even be keyed.
    Broken(String),
}

/// A result that holds.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its key.
    pub key: ActionKey,
    /// The result.
    pub result: ActionResult,
}

/// A node that has its key.
struct Keyable {
    action: Action,
    key: ActionKey,
    whole_folders: Arc<Vec<RelPath>>,
    tools: Vec<Tool>,
    engine: EngineKind,
}

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
            scratch_number: AtomicUsize::new(0),
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
        claim::claim(&self.own(), &self.graph.node(id).id, what, self.session.cancel)
    }

    /// How a node runs: what it says, else what was chosen; the host where the kernel refuses a sandbox.
    fn engine_for(&self, id: NodeId) -> Result<EngineKind, BuildError> {
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

    /// The action and key of a node whose needs are known.
    fn key(&self, id: NodeId, outputs: &HashMap<NodeId, Arc<Tree>>) -> Result<Keyable, String> {
        let node = self.graph.node(id);
        let engine = self.engine_for(id).map_err(|error| error.to_string())?;
        let selected =
            self.index.select(&node.body.inputs, &node.body.input_texts).map_err(|error| chain(&error))?;
        let vars = &self.vars[&node.id.platform];
        let tools = keying::find_tools(node, vars, &|name| self.toolbox.find(name))
            .map_err(|error| error.to_string())?;
        let needs = node.needs.iter().map(|need| {
            let tree = outputs.get(need).cloned().unwrap_or_default();
            (self.graph.node(*need).id.step.clone(), tree)
        });
        let ingredients = Ingredients {
            inputs: selected.tree,
            needs: needs.collect(),
            platform_vars: vars,
            caller_env: self.session.caller_env,
            tools: &tools,
            system: self.toolbox.system(node.body.strict_base),
            engine,
            root: &self.session.root,
        };
        let action = keying::action(node, ingredients);
        let key = action.key();
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(id, key);
        let tools = tools.into_iter().map(|(_, tool)| tool).collect();
        Ok(Keyable { action, key, whole_folders: selected.whole_folders, tools, engine })
    }

    /// What is known of a key: the memory of this tree first, the store second.
    fn look_up(&self, id: NodeId, keyable: &Keyable) -> Planned {
        let node = self.graph.node(id);
        let presence = |path: &RelPath| {
            if keyable.action.inputs.get(path).is_some() {
                Presence::Absent
            } else {
                self.index.presence(path)
            }
        };
        let remembered = self.remembered(id);
        if self.options.forced.includes(&node.id.step) {
            return Planned::Run(keyable.key, MissReason::Forced);
        }
        let mut reason = None;
        if let Some(last) = remembered.as_ref().filter(|last| last.key == keyable.key) {
            match appeared(&last.result, &presence) {
                // A result that was not stored is no answer: it was not known what it was made from.
                None if last.stored => {
                    let known = Known { key: last.key, result: last.result.clone() };
                    return if self.is_in_place(id, &last.result.outputs) {
                        Planned::UpToDate(Box::new(known))
                    } else {
                        Planned::Restore(Box::new(known), Tier::Local)
                    };
                }
                None => {}
                appeared => reason = appeared,
            }
        }
        match self.engine.lookup(keyable.key, &presence) {
            Lookup::Hit(result) => {
                let known = Box::new(Known { key: keyable.key, result });
                Planned::Restore(known, Tier::Local)
            }
            Lookup::Miss(found) => {
                let corrupt = matches!(found, Some(MissReason::Corrupt { .. }));
                if corrupt {
                    self.emit(EventKind::Healed {
                        what: format!("{}: the stored result was damaged; it runs again", node.id),
                    });
                }
                let reason = found.or(reason).unwrap_or_else(|| self.miss_reason(remembered, keyable));
                Planned::Run(keyable.key, reason)
            }
        }
    }

    fn miss_reason(&self, remembered: Option<Remembered>, keyable: &Keyable) -> MissReason {
        let Some(last) = remembered else { return MissReason::NeverRun };
        if last.key == keyable.key {
            return if last.stored {
                MissReason::OutputGone { what: "the result".to_owned() }
            } else {
                MissReason::NotStored
            };
        }
        let changes = match self.engine.explanation(last.key) {
            Some(then) => then.changes(&keyable.action.explain()),
            None => Vec::new(),
        };
        MissReason::KeyChanged { changes }
    }

    fn is_in_place(&self, id: NodeId, outputs: &Tree) -> bool {
        let node = self.graph.node(id);
        if node.body.outputs.is_empty() {
            return true;
        }
        let place = Place { root: &self.session.root, at: &node.place.at };
        spolia_store::is_right(outputs, place, self.digests, false)
    }

    /// What a build would do now. Changes nothing.
    pub fn plan(&self) -> Plan {
        let mut outputs: HashMap<NodeId, Arc<Tree>> = HashMap::new();
        let mut nodes = Vec::new();
        for id in &self.selected {
            let open: Vec<NodeId> = self
                .graph
                .node(*id)
                .needs
                .iter()
                .filter(|need| !outputs.contains_key(need))
                .copied()
                .collect();
            let planned = if open.is_empty() {
                match self.key(*id, &outputs) {
                    Ok(keyable) => self.look_up(*id, &keyable),
                    Err(error) => Planned::Broken(error),
                }
            } else {
                Planned::Depends(open)
            };
            if let Planned::UpToDate(known) | Planned::Restore(known, _) = &planned {
                outputs.insert(*id, Arc::new(known.result.outputs.clone()));
            }
            nodes.push((*id, planned));
        }
        Plan { nodes }
    }

    /// The explanation of a node's key as it is now, where all it needs is known.
    pub fn explain_now(&self, plan: &Plan, id: NodeId) -> Option<Explanation> {
        self.explain(id, &known_outputs(plan))
    }

    /// The explanation of a node's key as it will be if every step that runs before it gives again what it
    /// gave the last time; `None` where one of them never ran here.
    pub fn explain_as_before(&self, plan: &Plan, id: NodeId) -> Option<Explanation> {
        let mut outputs = known_outputs(plan);
        for need in &self.graph.node(id).needs {
            if !outputs.contains_key(need) {
                outputs.insert(*need, Arc::new(self.remembered(*need)?.result.outputs));
            }
        }
        self.explain(id, &outputs)
    }

    fn explain(&self, id: NodeId, outputs: &HashMap<NodeId, Arc<Tree>>) -> Option<Explanation> {
        if self.graph.node(id).needs.iter().any(|need| !outputs.contains_key(need)) {
            return None;
        }
        self.key(id, outputs).ok().map(|keyable| keyable.action.explain())
    }

    /// After a build that found everything in place: what it looked at, for [`crate::fresh::check`].
    fn note_fresh(&self, request: &crate::fresh::Request, ended: &Ended, steps: Vec<FreshStep>) {
        let summary = &ended.summary;
        let all = summary.up_to_date == self.selected.len() as u64;
        if !all || ended.cancelled || self.support.get().is_some_and(Result::is_err) {
            return;
        }
        let nodes = || self.selected.iter().map(|id| (self.graph.node(*id), *id));
        let mut inside = self.index.looked_at();
        inside.extend(request.manifests.iter().cloned());
        for (node, id) in nodes() {
            let Some(known) = self.remembered(id) else { return };
            let outputs = known.result.outputs.entries().iter();
            inside.extend(outputs.map(|(path, _)| node.place.at.join(path).as_path().to_owned()));
            inside.extend(known.result.missing.iter().map(|path| path.as_path().to_owned()));
        }
        let mut env: Vec<String> = nodes().flat_map(|(node, _)| node.body.pass_env.clone()).collect();
        env.sort();
        env.dedup();
        let value = |name: String| {
            let digest = crate::fresh::value_digest((self.session.caller_env)(&name));
            (name, digest)
        };
        let mut fresh = Fresh {
            noted_at_us: (self.session.now_us)(),
            summary: summary.clone(),
            steps,
            env: env.into_iter().map(value).collect(),
            seen: BTreeMap::new(),
        };
        let settled = |dev| request.settled_ns(dev);
        if fresh.look(&self.session.root, inside, false, &settled)
            && fresh.look(&self.session.root, self.toolbox.looked_at(), true, &settled)
        {
            // Losing it costs time only.
            let _unwritten = crate::fresh::write(&request.file, &fresh);
        }
    }

    /// Builds. With `request`, a build that finds everything in place is written down there.
    ///
    /// # Errors
    /// The sandbox was asked for and cannot be had. Everything else is a step's own failure.
    pub fn run(&self, request: Option<&crate::fresh::Request>) -> Result<Ended, BuildError> {
        for id in &self.selected {
            self.engine_for(*id)?;
        }
        let began = instant();
        self.emit(started(self.session, self.options, self.manifest.name.clone(), self.selected.len()));
        let cost = |id| self.remembered(id).and_then(|last| last.result.cost.wall_us).unwrap_or(0);
        let schedule = Schedule::new(&self.graph, &self.selected, &cost, &self.manifest.pools);
        let (results, finished) = mpsc::channel();
        let (tasks, queue) = mpsc::channel::<(Task, bool)>();
        let queue = Mutex::new(queue);
        let (mut ended, steps) = std::thread::scope(|scope| {
            let spawn = || {
                let results = results.clone();
                let queue = &queue;
                scope.spawn(move || self.serve(queue, &results));
            };
            let mut main = Main {
                build: self,
                schedule,
                outputs: HashMap::new(),
                ready: None,
                workers: 0,
                tasks,
                finished,
                summary: Summary::default(),
                fresh: Vec::new(),
                failed: false,
                stopped: false,
            };
            main.go(&spawn);
            // Ends the workers: their queue closes.
            main.finish()
        });
        ended.summary.wall_us = u64::try_from(began.elapsed().as_micros()).ok();
        self.keep(&mut ended);
        if let Some(request) = request.filter(|_| self.options.may_be_fresh()) {
            self.note_fresh(request, &ended, steps);
        }
        Ok(ended)
    }

    fn serve(&self, queue: &Mutex<Receiver<(Task, bool)>>, results: &Sender<Finished>) {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((task, token)) = next else { return };
            let finished = self.work(task, token);
            if results.send(finished).is_err() {
                return;
            }
        }
    }

    /// Writes what the next build profits from. None of it can fail the build.
    fn keep(&self, ended: &mut Ended) {
        if self.state_changed.load(std::sync::atomic::Ordering::Relaxed) && self.make_own_folders().is_ok() {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = state.save(&self.own().join("state")) {
                self.warn(format!("cannot write `.spolia/state`: {error}"), None);
            }
        }
        if self.session.store.is_writable() {
            let _unwritten = self.digests.save();
            let _unwritten = self.toolbox.save();
            let stored = ended.summary.stored_bytes;
            if stored > 0 {
                let _unwritten = spolia_store::size::add(&self.session.store, stored);
            }
        }
        ended.summary.store_bytes = spolia_store::size::read(&self.session.store).map(|size| size.bytes());
    }

    fn note_uses(&self, used: &[ActionKey]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.uses.map(|(set, at_us)| spolia_store::uses::Stamp { set, at_us });
        let now = (self.session.now_us)();
        let noted =
            spolia_store::uses::record(&self.session.store, &self.session.run, used, now, last.as_ref());
        if let Ok(Some(stamp)) = noted {
            state.uses = Some((stamp.set, stamp.at_us));
            self.state_changed.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn remember(&self, finished: &Finished, result: &ActionResult) {
        let node = self.graph.node(finished.id);
        let ran = match &finished.outcome {
            StepOutcome::Ran { miss, .. } => Some(Ran::because(miss)),
            _ => None,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.steps.get(&node.id);
        // A restore of the very result that ran here keeps the memory of why it ran.
        if let Some(last) = last.filter(|last| last.key == finished.key && ran.is_none())
            && last.published == node.place.at
            && last.result == *result
        {
            return;
        }
        let previous = last.map(|last| if last.key == finished.key { last.previous } else { Some(last.key) });
        let remembered = Remembered {
            key: finished.key,
            result: result.clone(),
            published: node.place.at.clone(),
            run: self.session.run.as_str().to_owned(),
            ran,
            previous: previous.flatten(),
            stored: finished.stored,
        };
        state.steps.insert(node.id.clone(), remembered);
        self.state_changed.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn started(session: &Session<'_>, options: &Options, project: Option<String>, steps: usize) -> EventKind {
    EventKind::RunStarted {
        version: JOURNAL_VERSION,
        run: session.run.as_str().to_owned(),
        spolia: session.version.clone(),
        command: session.command.clone(),
        root: session.root.display().to_string(),
        project,
        jobs: options.jobs as u64,
        engine: match options.engine {
            EngineKind::Host => "host".to_owned(),
            EngineKind::Sandbox => "sandbox".to_owned(),
        },
        steps: steps as u64,
    }
}

/// Tells of a build that [`crate::fresh::check`] has answered, as if it had been made.
pub fn tell_fresh(
    session: &Session<'_>,
    options: &Options,
    summary: Summary,
    steps: Vec<FreshStep>,
    began: Instant,
) -> Ended {
    (session.sink)(started(session, options, None, steps.len()));
    for FreshStep { id, key, saved } in steps {
        let outcome = StepOutcome::Hit { tier: Tier::UpToDate, saved, restored_files: 0, restored_bytes: 0 };
        (session.sink)(EventKind::StepFinished { id, key: Some(key), outcome });
    }
    let wall_us = u64::try_from(began.elapsed().as_micros()).ok();
    Ended { summary: Summary { wall_us, ..summary }, cancelled: false }
}

/// The main thread's part of a running build.
struct Main<'a, 'b> {
    build: &'a Build<'b>,
    schedule: Schedule,
    outputs: HashMap<NodeId, Arc<Tree>>,
    /// The next node to begin, keyed and waiting for a place.
    ready: Option<(NodeId, Task)>,
    workers: usize,
    tasks: Sender<(Task, bool)>,
    finished: Receiver<Finished>,
    summary: Summary,
    fresh: Vec<FreshStep>,
    failed: bool,
    stopped: bool,
}

/// Whether anything more can begin now.
enum Begun {
    Something,
    NothingReady,
    NoPlace,
}

impl Main<'_, '_> {
    fn go(&mut self, spawn: &dyn Fn()) {
        loop {
            if self.build.session.cancel.is_cancelled() || (self.failed && !self.build.options.keep_going) {
                self.stop();
            }
            let begun = if self.stopped { Begun::NothingReady } else { self.begin(spawn) };
            if self.schedule.is_done() {
                return;
            }
            match begun {
                Begun::Something => {}
                Begun::NothingReady if self.schedule.running() == 0 => {
                    // Cannot be: whatever waits, waits for something that runs.
                    self.stop();
                    return;
                }
                Begun::NothingReady => self.wait(None),
                Begun::NoPlace => self.wait(Some(TOKEN_PAUSE)),
            }
        }
    }

    fn stop(&mut self) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        self.ready = None;
        let because = if self.build.session.cancel.is_cancelled() {
            "the build was stopped"
        } else {
            "another step failed"
        };
        for id in self.schedule.stop() {
            self.skip(id, because.to_owned());
        }
    }

    fn skip(&mut self, id: NodeId, because: String) {
        self.summary.skipped += 1;
        self.build.emit(EventKind::StepFinished {
            id: self.build.graph.node(id).id.clone(),
            key: None,
            outcome: StepOutcome::Skipped { because },
        });
    }

    /// Begins the next node, if there is one and a place for it.
    fn begin(&mut self, spawn: &dyn Fn()) -> Begun {
        let (id, task) = match self.ready.take() {
            Some(ready) => ready,
            None => {
                let Some(id) = self.schedule.next_ready() else { return Begun::NothingReady };
                match self.prepare(id) {
                    Some(task) => (id, task),
                    None => return Begun::Something,
                }
            }
        };
        let is_run = matches!(task.what, What::Run { .. });
        let full = self.schedule.running() >= self.build.options.jobs;
        let token = !full && is_run && self.take_token();
        if full || (is_run && !token) {
            self.ready = Some((id, task));
            if full {
                self.wait(None);
                return Begun::Something;
            }
            return Begun::NoPlace;
        }
        self.schedule.begin(id);
        if self.workers < self.schedule.running() {
            self.workers += 1;
            spawn();
        }
        // The queue lives as long as the workers do.
        let _closed = self.tasks.send((task, token));
        Begun::Something
    }

    fn take_token(&self) -> bool {
        let Some(server) = &self.build.jobserver else { return true };
        if server.try_take() {
            return true;
        }
        if self.schedule.running() > 0 {
            return false;
        }
        // Nobody runs, so whoever had the tokens has died with them.
        server.reset();
        server.try_take();
        true
    }

    /// Keys a ready node and answers it where nothing has to be done; else the task.
    fn prepare(&mut self, id: NodeId) -> Option<Task> {
        let keyable = match self.build.key(id, &self.outputs) {
            Ok(keyable) => keyable,
            Err(error) => {
                self.schedule.begin(id);
                self.settle(Finished {
                    id,
                    key: ActionKey(spolia_core::Digest::blake3(b"")),
                    outcome: StepOutcome::Failed {
                        miss: None,
                        error,
                        hints: Vec::new(),
                        cost: spolia_core::Cost::default(),
                        exit_code: None,
                    },
                    result: None,
                    stored: false,
                    stored_bytes: 0,
                    cancelled: false,
                    took_token: false,
                });
                return None;
            }
        };
        let forced = self.build.options.forced.includes(&self.build.graph.node(id).id.step);
        let what = match self.build.look_up(id, &keyable) {
            Planned::UpToDate(known) => {
                self.schedule.begin(id);
                self.build.replay(id, &known.result);
                self.settle(Finished {
                    id,
                    key: known.key,
                    outcome: StepOutcome::Hit {
                        tier: Tier::UpToDate,
                        saved: known.result.cost,
                        restored_files: 0,
                        restored_bytes: 0,
                    },
                    result: Some(known.result),
                    stored: true,
                    stored_bytes: 0,
                    cancelled: false,
                    took_token: false,
                });
                return None;
            }
            Planned::Restore(known, tier) => What::Restore { result: known.result, tier },
            Planned::Run(_, miss) => What::Run { miss, forced },
            Planned::Depends(_) | Planned::Broken(_) => What::Run { miss: MissReason::NeverRun, forced },
        };
        let Keyable { action, key, whole_folders, tools, engine } = keyable;
        Some(Task { id, action, key, whole_folders, tools, engine, what })
    }

    /// Waits for a worker to finish something.
    fn wait(&mut self, limit: Option<Duration>) {
        let finished = match limit {
            Some(limit) => match self.finished.recv_timeout(limit) {
                Ok(finished) => finished,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            },
            None => match self.finished.recv() {
                Ok(finished) => finished,
                Err(_) => return,
            },
        };
        self.settle(finished);
    }

    /// The one place where an ended node is counted, remembered and told of.
    fn settle(&mut self, finished: Finished) {
        let build = self.build;
        if finished.took_token
            && let Some(server) = &build.jobserver
        {
            server.put();
        }
        self.summary.stored_bytes += finished.stored_bytes;
        self.count(&finished);
        let id = finished.id;
        if let Some(result) = &finished.result {
            build.remember(&finished, result);
            self.outputs.insert(id, Arc::new(result.outputs.clone()));
            let saved = result.cost;
            self.fresh.push(FreshStep { id: build.graph.node(id).id.clone(), key: finished.key, saved });
            let bytes = self.summary.output_bytes.get_or_insert(0);
            *bytes += result.outputs.size_bytes();
        }
        let has_key = !matches!(finished.outcome, StepOutcome::Failed { miss: None, .. });
        build.emit(EventKind::StepFinished {
            id: build.graph.node(id).id.clone(),
            key: has_key.then_some(finished.key),
            outcome: finished.outcome,
        });
        if finished.result.is_some() {
            self.schedule.succeed(&build.graph, id);
            return;
        }
        let name = build.graph.node(id).id.to_string();
        let skipped = if finished.cancelled {
            self.schedule.abandon(&build.graph, id)
        } else {
            self.failed = true;
            self.schedule.fail(&build.graph, id)
        };
        let ended = if finished.cancelled { "was stopped" } else { "failed" };
        for skipped in skipped {
            self.skip(skipped, format!("it needs {name}, which {ended}"));
        }
    }

    fn count(&mut self, finished: &Finished) {
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0) + more);
            }
        };
        let cpu = |cost: &spolia_core::Cost| Some(cost.user_us? + cost.sys_us?);
        match &finished.outcome {
            StepOutcome::Hit { tier, saved, restored_files, restored_bytes } => {
                match tier {
                    Tier::UpToDate => self.summary.up_to_date += 1,
                    Tier::Local | Tier::Remote => self.summary.restored += 1,
                }
                self.summary.restored_files += restored_files;
                self.summary.restored_bytes += restored_bytes;
                add(&mut self.summary.saved_us, saved.wall_us);
                add(&mut self.summary.saved_cpu_us, cpu(saved));
            }
            StepOutcome::Ran { cost, .. } => {
                self.summary.ran += 1;
                add(&mut self.summary.steps_cpu_us, cpu(cost));
            }
            StepOutcome::Failed { cost, .. } => {
                if finished.cancelled {
                    self.summary.skipped += 1;
                } else {
                    self.summary.failed += 1;
                }
                add(&mut self.summary.steps_cpu_us, cpu(cost));
            }
            StepOutcome::Skipped { .. } => self.summary.skipped += 1,
        }
    }

    fn finish(self) -> (Ended, Vec<FreshStep>) {
        let used: Vec<ActionKey> = self.fresh.iter().map(|step| step.key).collect();
        self.build.note_uses(&used);
        let ended = Ended { summary: self.summary, cancelled: self.build.session.cancel.is_cancelled() };
        (ended, self.fresh)
    }
}

/// What a plan knows of outputs.
fn known_outputs(plan: &Plan) -> HashMap<NodeId, Arc<Tree>> {
    let outputs = plan.nodes.iter().filter_map(|(id, planned)| match planned {
        Planned::UpToDate(known) | Planned::Restore(known, _) => {
            Some((*id, Arc::new(known.result.outputs.clone())))
        }
        _ => None,
    });
    outputs.collect()
}

#[expect(clippy::disallowed_methods, reason = "the build measures itself")]
fn instant() -> Instant {
    Instant::now()
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
