//! `Action → Hit | Ran | Failed`: look up, run, record. Knows no manifest and publishes nothing.
//!
//! A failed action is never stored. A result is stored after its blobs, and only if everything it was made
//! from is known: no undeclared file was looked for, no input changed meanwhile, every look-up was seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spolia_core::key::Keyed;
use spolia_core::result::{LogRef, Stream};
use spolia_core::{Action, ActionKey, ActionResult, Change, Cost, Explanation, MissReason, RelPath};
use spolia_store::tree::CaptureError;
use spolia_store::{DigestCache, Entry, LocalStore, Put, Store, StoreError, Waiting};

use crate::cancel::Cancel;
use crate::check;
use crate::executor::{End, Execution, Executor, ExecutorError, Job, Places, Ran};

/// The most absent files a result may depend on.
pub const MISSING_MAX: usize = 20_000;

/// A description that is longer has an entry of its own, so that it is not read with each hit; bytes.
const DESCRIPTION_INSIDE_BYTES_MAX: usize = 8 << 10;

/// What stands at a project path that a command looked for and did not find in its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing, or something that can never be an input unless named (git ignores it, Spolia wrote it).
    Absent,
    /// A file that should have been declared.
    Undeclared,
}

/// Looks up and runs actions over one store.
pub struct Engine {
    /// Where results and blobs are.
    pub store: Arc<dyn Store>,
    /// The same or the nearest one on this machine: locks, mounts, journal.
    pub local: Arc<LocalStore>,
}

/// What the store knows of a key.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A result that holds.
    Hit(ActionResult),
    /// None, and why where that can be told.
    Miss(Option<MissReason>),
}

/// One action to perform.
pub struct Request<'r> {
    /// What.
    pub action: &'r Action,
    /// Its key.
    pub key: ActionKey,
    /// Beside it.
    pub job: &'r Job,
    /// Who runs it.
    pub executor: &'r dyn Executor,
    /// Stops it.
    pub cancel: &'r Cancel,
    /// Descriptors that the command inherits.
    pub keep_fds: &'r [i32],
    /// Run it even where a result is known.
    pub forced: bool,
    /// Something of its result was damaged: what the store has of its outputs is read before it is trusted,
    /// so that one run heals all of it.
    pub distrust: bool,
    /// Keep the result.
    pub store_result: bool,
    /// Makes the places ready, once it is certain that it runs. Called for every try.
    pub prepare: &'r dyn Fn() -> Result<Places, String>,
    /// What stands at a path that is no input.
    pub presence: &'r dyn Fn(&RelPath) -> Presence,
    /// The digests of files that are known; they learn those of the outputs.
    pub digests: Option<&'r DigestCache>,
    /// The inputs that are not any more what the action says.
    pub changed_inputs: &'r dyn Fn() -> Vec<RelPath>,
    /// Called for what the command prints.
    pub on_output: &'r dyn Fn(Stream, &[u8]),
    /// Called once when it really starts to run.
    pub on_start: &'r dyn Fn(),
    /// Called while another process works on the same key.
    pub on_wait: &'r dyn Fn(Waiting),
}

/// What became of it.
#[derive(Debug)]
pub enum Performed {
    /// Somebody else had finished it meanwhile.
    Hit(ActionResult),
    /// It ran and succeeded.
    Ran(Box<Done>),
    /// It did not.
    Failed(Failure),
}

/// A run that succeeded.
#[derive(Debug)]
pub struct Done {
    /// What came out.
    pub result: ActionResult,
    /// Where the outputs are, until the caller removes them.
    pub out: PathBuf,
    /// Why the result is not in the store; `None`: it is.
    pub not_stored: Option<String>,
    /// Project files it looked for that are there and were not declared.
    pub undeclared: Vec<RelPath>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Bytes added to the store.
    pub stored_bytes: u64,
}

/// Why an action did not succeed.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// In a sentence.
    pub error: String,
    /// What to do.
    pub hints: Vec<String>,
    /// Its exit code, where it had one.
    pub exit_code: Option<i32>,
    /// What it cost.
    pub cost: Cost,
    /// Project files it looked for that are there and were not declared: often the reason.
    pub undeclared: Vec<RelPath>,
    /// Whether it was stopped from outside.
    pub cancelled: bool,
    /// Whether the sandbox itself, not the command, failed.
    pub sandbox_refused: bool,
}

impl Engine {
    /// Over one local store.
    pub fn new(local: Arc<LocalStore>) -> Self {
        Self { store: local.clone(), local }
    }

    /// The stored result of `key`, if it holds: readable, and nothing it looked for in vain is there now.
    pub fn lookup(&self, key: ActionKey, presence: &dyn Fn(&RelPath) -> Presence) -> Lookup {
        let mut raw = Vec::new();
        match self.store.get(Entry::result(key), &mut raw) {
            Ok(Some(_)) => {}
            Ok(None) => return Lookup::Miss(None),
            Err(StoreError::Corrupt { .. }) => {
                return Lookup::Miss(Some(MissReason::Corrupt { what: "the result".to_owned() }));
            }
            Err(_) => return Lookup::Miss(Some(MissReason::OutputGone { what: "the result".to_owned() })),
        }
        let Some(result) = decode(&raw) else {
            return Lookup::Miss(Some(MissReason::Corrupt { what: "the result".to_owned() }));
        };
        match appeared(&result, presence) {
            Some(reason) => Lookup::Miss(Some(reason)),
            None => Lookup::Hit(result),
        }
    }

    /// Performs `request`. One process at a time works on a key; losing that lock is harmless.
    pub fn perform(&self, request: &Request<'_>) -> Performed {
        let mut wait = |waiting: Waiting| {
            (request.on_wait)(waiting);
            !request.cancel.is_cancelled()
        };
        // Where locks do not work the action runs without one: at worst twice.
        let lock = self.local.lock(&request.key.0, &mut wait);
        if request.cancel.is_cancelled() {
            return Performed::Failed(Failure::cancelled(Cost::default()));
        }
        if !request.forced
            && let Lookup::Hit(result) = self.lookup(request.key, request.presence)
        {
            return Performed::Hit(result);
        }
        (request.on_start)();
        let mut tried = 0;
        let performed = loop {
            tried += 1;
            match self.attempt(request) {
                Performed::Failed(failure) if failure.cancelled || failure.sandbox_refused => {
                    break Performed::Failed(failure);
                }
                Performed::Failed(_) if tried <= request.job.retries => {}
                Performed::Failed(mut failure) if tried > 1 => {
                    failure.error.push_str(&format!(", as the last of {tried} tries"));
                    break Performed::Failed(failure);
                }
                performed => break performed,
            }
        };
        drop(lock);
        performed
    }

    fn attempt(&self, request: &Request<'_>) -> Performed {
        let places = match (request.prepare)() {
            Ok(places) => places,
            Err(_) if request.cancel.is_cancelled() => {
                return Performed::Failed(Failure::cancelled(Cost::default()));
            }
            Err(error) => return Performed::Failed(Failure { error, ..Failure::default() }),
        };
        let execution = Execution {
            action: request.action,
            job: request.job,
            places: &places,
            cancel: request.cancel,
            keep_fds: request.keep_fds,
        };
        let ran = request.executor.run(&execution, &mut |stream, bytes| (request.on_output)(stream, bytes));
        match ran {
            Ok(ran) => self.settle(request, &places, ran),
            Err(error) => Performed::Failed(Failure {
                sandbox_refused: matches!(error, ExecutorError::Sandbox(_) | ExecutorError::Report(_)),
                hints: start_hints(&error),
                error: error.to_string(),
                ..Failure::default()
            }),
        }
    }

    fn settle(&self, request: &Request<'_>, places: &Places, ran: Ran) -> Performed {
        let (undeclared, missing): (Vec<_>, Vec<_>) =
            ran.looked_for.iter().cloned().partition(|path| (request.presence)(path) == Presence::Undeclared);
        if let Some(failure) = failure_of(request, &ran) {
            return Performed::Failed(Failure { undeclared, ..failure });
        }
        let errors = check::outputs(request.action, &places.out);
        if !errors.is_empty() {
            let error = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let hints = output_hints(&errors);
            return Performed::Failed(Failure {
                error,
                hints,
                cost: ran.cost,
                undeclared,
                exit_code: Some(0),
                ..Failure::default()
            });
        }
        let declared: Vec<RelPath> =
            request.action.outputs.iter().map(|output| output.path.clone()).collect();
        let mut not_stored = reason_not_to_store(request, &ran, &undeclared);
        let mut warnings = Vec::new();
        if ran.log_cut {
            warnings.push("it printed more than is kept; the stored log is cut".to_owned());
        }
        let mut stored_bytes = 0;
        let mut tree = None;
        if not_stored.is_none() {
            if request.distrust {
                self.drop_damaged(&places.out, &declared);
            }
            match spolia_store::capture(&places.out, &declared, &*self.store, request.digests) {
                Ok(captured) => {
                    stored_bytes = captured.stored_bytes;
                    tree = Some(captured.tree);
                }
                Err(CaptureError::Store { source, .. }) => {
                    not_stored = Some(full_or(&source));
                    warnings.push(format!("the result could not be stored: {}", full_or(&source)));
                }
                Err(error) => return Performed::Failed(capture_failure(&error, ran.cost)),
            }
        }
        let tree = match tree {
            Some(tree) => tree,
            // Not stored, but the outputs are still named by their digests.
            None => match spolia_store::tree::describe(&places.out, &declared, None) {
                Ok(tree) => tree,
                Err(error) => return Performed::Failed(capture_failure(&error, ran.cost)),
            },
        };
        let log = (!ran.log.is_empty()).then(|| LogRef {
            digest: spolia_core::Digest::blake3(ran.log.as_bytes()),
            size: ran.log.as_bytes().len() as u64,
        });
        let result = ActionResult { outputs: tree, log, cost: ran.cost, missing, finished_at_us: now_us() };
        if not_stored.is_none() {
            match self.record(request, &result, ran.log.as_bytes()) {
                Ok(bytes) => stored_bytes += bytes,
                Err(error) => {
                    not_stored = Some(full_or(&error));
                    warnings.push(format!("the result could not be stored: {}", full_or(&error)));
                }
            }
        }
        Performed::Ran(Box::new(Done {
            result,
            out: places.out.clone(),
            not_stored,
            undeclared,
            warnings,
            stored_bytes,
        }))
    }

    /// Reads the blobs of these outputs that the store has: a damaged one goes when it is read.
    fn drop_damaged(&self, out: &Path, declared: &[RelPath]) {
        // What is wrong with the outputs, the capture that follows will say.
        let Ok(tree) = spolia_store::tree::describe(out, declared, None) else { return };
        for (_, digest, _) in tree.files() {
            let _damaged_or_gone = self.store.get(Entry::blob(digest), &mut std::io::sink());
        }
    }

    /// Log, then action, then result: a result is never there before what it names. Where what it was made of is
    /// short, that goes into the result's own entry: to make a file costs more than to write it.
    fn record(&self, request: &Request<'_>, result: &ActionResult, log: &[u8]) -> Result<u64, StoreError> {
        let mut bytes = 0;
        let mut put = |entry, content: &[u8]| -> Result<(), StoreError> {
            if let Put::Stored { bytes: stored } = self.store.put(entry, &mut &content[..])? {
                bytes += stored;
            }
            Ok(())
        };
        if let Some(reference) = &result.log {
            put(Entry::blob(reference.digest), log)?;
        }
        let description = Description {
            label: Some(request.job.label.clone()),
            project: Some(request.job.project.clone()),
            explanation: request.action.explain(),
        };
        let description = serde_json::to_vec(&description).unwrap_or_default();
        let mut payload = encode(result);
        if description.len() > DESCRIPTION_INSIDE_BYTES_MAX || !add_description(&mut payload, &description) {
            put(Entry::action(request.key), &description)?;
        }
        put(Entry::result(request.key), &payload)?;
        Ok(bytes)
    }

    /// What an action with this key was made of, where that is still known.
    pub fn explanation(&self, key: ActionKey) -> Option<Explanation> {
        describe(&*self.store, key).map(|description| description.explanation)
    }

    /// A stored log, decoded by [`spolia_core::result::Log::chunks`].
    pub fn log(&self, reference: &LogRef) -> Option<Vec<u8>> {
        let mut raw = Vec::new();
        self.store.get(Entry::blob(reference.digest), &mut raw).ok()??;
        Some(raw)
    }
}

/// What went into a key, and what the action was called: as JSON, the payload of an action entry, or where it
/// is short the field `action` in the payload of the result. The names are for people and not part of the key: one action may be two steps' under two names, and the
/// last one to run it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `fio (linux/arm64)`; `None` where it was not recorded.
    #[serde(default)]
    pub label: Option<String>,
    /// The project's name, or its folder where it has none.
    #[serde(default)]
    pub project: Option<String>,
    /// What the key is made of.
    #[serde(flatten)]
    pub explanation: Explanation,
}

impl Description {
    /// The step's name, without the platform.
    pub fn step(&self) -> Option<&str> {
        let label = self.label.as_deref()?;
        Some(label.split_once(" (").map_or(label, |(step, _)| step))
    }
}

/// What the action with this key was, where that is still known.
pub fn describe(store: &dyn Store, key: ActionKey) -> Option<Description> {
    #[derive(Deserialize)]
    struct Inside {
        action: Option<Description>,
    }
    let mut raw = Vec::new();
    if let Ok(Some(_)) = store.get(Entry::result(key), &mut raw)
        && let Ok(Inside { action: Some(description) }) = serde_json::from_slice(&raw)
    {
        return Some(description);
    }
    raw.clear();
    store.get(Entry::action(key), &mut raw).ok()??;
    serde_json::from_slice(&raw).ok()
}

/// Puts `description` into the payload of a result, as its last field; whether there was a place for it.
fn add_description(payload: &mut Vec<u8>, description: &[u8]) -> bool {
    let has_fields = payload.starts_with(b"{\"") && payload.ends_with(b"}");
    if has_fields && !description.is_empty() {
        payload.pop();
        payload.extend_from_slice(b",\"action\":");
        payload.extend_from_slice(description);
        payload.push(b'}');
    }
    has_fields && !description.is_empty()
}

/// The payload of a result entry: JSON. What the action was may be a further field of it.
pub fn encode(result: &ActionResult) -> Vec<u8> {
    serde_json::to_vec(result).unwrap_or_default()
}

/// The result in a payload; `None` where it is none or not one that may be materialised.
pub fn decode(raw: &[u8]) -> Option<ActionResult> {
    let result: ActionResult = serde_json::from_slice(raw).ok()?;
    result.outputs.check().ok()?;
    Some(result)
}

/// Why `result` does not hold any more: something it looked for in vain is there.
pub fn appeared(result: &ActionResult, presence: &dyn Fn(&RelPath) -> Presence) -> Option<MissReason> {
    let there = result.missing.iter().filter(|path| presence(path) == Presence::Undeclared);
    let changes: Vec<Change> = there.map(Change::appeared).collect();
    (!changes.is_empty()).then_some(MissReason::KeyChanged { changes })
}

fn failure_of(request: &Request<'_>, ran: &Ran) -> Option<Failure> {
    let failure =
        |error: String, exit_code| Some(Failure { error, exit_code, cost: ran.cost, ..Failure::default() });
    match ran.end {
        End::Exited(0) => None,
        End::Exited(code) => failure(format!("it ended with exit code {code}"), Some(code)),
        End::Signalled(number) => failure(format!("it was ended by {}", signal_name(number)), None),
        End::TimedOut => {
            let limit = request.job.timeout.unwrap_or_default();
            failure(format!("it ran longer than its timeout of {limit:?} and was stopped"), None)
        }
        End::Cancelled => Some(Failure::cancelled(ran.cost)),
    }
}

impl Failure {
    fn cancelled(cost: Cost) -> Self {
        Self { error: "it was stopped".to_owned(), cancelled: true, cost, ..Self::default() }
    }
}

fn signal_name(number: i32) -> String {
    let name = match number {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("signal {number}{name}")
}

fn start_hints(error: &ExecutorError) -> Vec<String> {
    match error {
        ExecutorError::Start { program, source } if source.kind() == std::io::ErrorKind::NotFound => {
            vec![format!("declare `{program}` in `tools`, or in `inputs` if it is a file of the project")]
        }
        ExecutorError::Sandbox(_) => vec!["`spolia doctor` says what this machine allows".to_owned()],
        _ => Vec::new(),
    }
}

fn output_hints(errors: &[check::OutputError]) -> Vec<String> {
    let mut hints = Vec::new();
    for error in errors {
        let hint = match error {
            check::OutputError::Missing { path } => {
                format!("the command must write `${{out}}/{path}`, or `outputs` must not name it")
            }
            check::OutputError::Empty { path } => {
                format!("if that is right, write `{{ path = \"{path}\", allow-empty = true }}`")
            }
            check::OutputError::Machine { .. } => {
                "use `${platform.cc}`, or write `any-machine = true` beside the output's path".to_owned()
            }
            check::OutputError::Source { found, .. } => {
                format!("if this is what you want, write `sha256 = \"{}\"`", found.to_hex())
            }
            check::OutputError::Read { .. } | check::OutputError::Replaced => continue,
        };
        hints.push(hint);
    }
    hints.dedup();
    hints
}

fn reason_not_to_store(request: &Request<'_>, ran: &Ran, undeclared: &[RelPath]) -> Option<String> {
    if !request.store_result {
        return Some("asked for with --no-store".to_owned());
    }
    if request.action.source.is_some() {
        // Its digest has been checked: however it came about, it is the right thing.
        return None;
    }
    if let Some(first) = undeclared.first() {
        let more = undeclared.len() - 1;
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Some(format!("it looked for `{first}`{rest}, which it does not declare"));
    }
    let changed = (request.changed_inputs)();
    if let Some(first) = changed.first() {
        return Some(format!("the input `{first}` changed while it ran"));
    }
    if let Some(reason) = &ran.unwatched {
        return Some(format!("not all it looked for was seen: {reason}"));
    }
    if ran.looked_for.len() > MISSING_MAX {
        return Some(format!("it looked for more than {MISSING_MAX} files that are not there"));
    }
    None
}

fn capture_failure(error: &CaptureError, cost: Cost) -> Failure {
    Failure { error: chain(error), cost, exit_code: Some(0), ..Failure::default() }
}

fn full_or(error: &StoreError) -> String {
    if error.is_full() { "the disk of the store is full".to_owned() } else { chain(error) }
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the engine stamps what it stores")]
fn now_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| u64::try_from(now.as_micros()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::{Digest, Tree};
    use spolia_store::LocalOptions;

    fn result() -> ActionResult {
        ActionResult {
            outputs: Tree::default(),
            log: None,
            cost: Cost::default(),
            missing: Vec::new(),
            finished_at_us: 7,
        }
    }

    #[test]
    fn a_description_is_found_inside_its_result_and_beside_it() {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalStore::open(temp.path(), LocalOptions::default()).unwrap();
        let key = ActionKey(Digest::blake3(b"k"));
        let called = |label: &str| Description { label: Some(label.to_owned()), ..Description::default() };
        assert_eq!(describe(&store, key), None);
        // As the first releases wrote it, and as long ones still are.
        let beside = serde_json::to_vec(&called("beside")).unwrap();
        store.put_bytes(Entry::action(key), &beside).unwrap();
        assert_eq!(describe(&store, key), Some(called("beside")));
        store.put_bytes(Entry::result(key), &encode(&result())).unwrap();
        assert_eq!(describe(&store, key), Some(called("beside")));

        let mut payload = encode(&result());
        assert!(add_description(&mut payload, &serde_json::to_vec(&called("inside")).unwrap()));
        assert_eq!(decode(&payload), Some(result()), "who looks for the result alone finds it");
        assert_eq!(spolia_store::gc::result_blobs(&payload), Some(Vec::new()));
        store.put_bytes(Entry::result(key), &payload).unwrap();
        assert_eq!(describe(&store, key), Some(called("inside")));
    }

    #[test]
    fn what_is_no_payload_stays_as_it_is() {
        for payload in [&b""[..], b"{}", b"[1]", b"{\"a\":1"] {
            let mut raw = payload.to_vec();
            assert!(!add_description(&mut raw, b"{}"));
            assert_eq!(raw, payload);
        }
    }
}
