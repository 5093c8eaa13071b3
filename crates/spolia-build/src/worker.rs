//! What a worker thread does with one node: restore it, or run it and publish what came out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use spolia_core::event::{EventKind, StepOutcome, Tier};
use spolia_core::result::{Log, Stream};
use spolia_core::{Action, ActionKey, ActionResult, MissReason, RelPath, Tree, glob};
use spolia_engine::perform::{Presence, chain};
use spolia_engine::{Executor, HostExecutor, Job, Performed, Request};
use spolia_store::tree::{FolderSource, MaterialiseError, MaterialiseOptions, Materialised};
use spolia_store::{Place, Store, materialise};

use crate::build::Build;
use crate::claim::{Claim, Stopped};
use crate::graph::NodeId;
use crate::index;
use crate::manifest::EngineKind;
use crate::workplace::{Hand, Workplace};

/// Work for one node, ready to be done.
pub(crate) struct Task {
    pub(crate) id: NodeId,
    pub(crate) action: Action,
    pub(crate) key: ActionKey,
    pub(crate) whole_folders: Arc<Vec<RelPath>>,
    pub(crate) tools: Vec<spolia_engine::tools::Tool>,
    pub(crate) engine: EngineKind,
    pub(crate) what: What,
}

/// What is to be done.
pub(crate) enum What {
    /// Put the outputs of a known result in place.
    Restore { result: ActionResult, tier: Tier },
    /// Run it.
    Run { miss: MissReason, forced: bool },
}

/// How it went.
pub(crate) struct Finished {
    pub(crate) id: NodeId,
    pub(crate) key: ActionKey,
    pub(crate) outcome: StepOutcome,
    /// Where it succeeded.
    pub(crate) result: Option<ActionResult>,
    pub(crate) stored: bool,
    pub(crate) stored_bytes: u64,
    pub(crate) cancelled: bool,
    pub(crate) took_token: bool,
}

impl Finished {
    /// Nothing was done, and nothing has to be stored.
    pub(crate) fn nothing(id: NodeId, key: ActionKey) -> Self {
        Self {
            id,
            key,
            outcome: StepOutcome::Skipped { because: String::new() },
            result: None,
            stored: true,
            stored_bytes: 0,
            cancelled: false,
            took_token: false,
        }
    }
}

impl Build<'_> {
    /// Does `task` to its end. `hand` is the thread's own.
    pub(crate) fn work(&self, mut task: Task, took_token: bool, hand: &Hand) -> Finished {
        let finished = |task: &Task, outcome, result| Finished {
            outcome,
            result,
            took_token,
            ..Finished::nothing(task.id, task.key)
        };
        if let What::Restore { result, tier } = &task.what {
            hand.let_go();
            self.emit(EventKind::StepStarted {
                id: self.graph.node(task.id).id.clone(),
                key: task.key,
                miss: None,
                needs: self.needs_of(task.id),
            });
            match self.publish(task.id, &result.outputs, &*self.engine.store) {
                Ok(done) => {
                    self.tell_healed(task.id, &done);
                    self.replay(task.id, result);
                    let outcome = hit(*tier, result, &done);
                    let result = result.clone();
                    return finished(&task, outcome, Some(result));
                }
                Err(error) => match error.miss() {
                    Some(miss) => task.what = self.run_after_all(task.id, miss),
                    None => {
                        let outcome = failed(None, chain(&error), Vec::new());
                        let cancelled = error.is_stop();
                        return Finished { cancelled, ..finished(&task, outcome, None) };
                    }
                },
            }
        }
        loop {
            let What::Run { miss, forced } = &task.what else { unreachable!("only runs are left") };
            match self.run_task(&task, miss, *forced, took_token, hand) {
                Ok(finished) => return finished,
                // A result that somebody else had just stored, and of which something is gone already.
                Err(miss) => task.what = self.run_after_all(task.id, miss),
            }
        }
    }

    fn needs_of(&self, id: NodeId) -> Vec<spolia_core::event::StepId> {
        self.graph.node(id).needs.iter().map(|need| self.graph.node(*need).id.clone()).collect()
    }

    fn run_after_all(&self, id: NodeId, miss: MissReason) -> What {
        self.emit(EventKind::Healed { what: format!("{}: {miss}; it runs again", self.graph.node(id).id) });
        What::Run { miss, forced: true }
    }

    /// Runs it, unless somebody else has meanwhile; then, if that result is of no use, says why.
    fn run_task(
        &self,
        task: &Task,
        miss: &MissReason,
        forced: bool,
        took_token: bool,
        hand: &Hand,
    ) -> Result<Finished, MissReason> {
        let node = self.graph.node(task.id);
        let job = self.job(task);
        let executor: &dyn Executor = match task.engine {
            EngineKind::Sandbox => {
                hand.let_go();
                &self.sandbox
            }
            EngineKind::Host => &HostExecutor,
        };
        let workplace = Workplace::new(self, task, hand);
        let keep_fds = self.jobserver.as_ref().map(|server| server.descriptors()).unwrap_or_default();
        let waited = std::sync::atomic::AtomicBool::new(false);
        let request = Request {
            action: &task.action,
            key: task.key,
            job: &job,
            executor,
            cancel: self.session.cancel,
            keep_fds: &keep_fds,
            forced,
            distrust: matches!(miss, MissReason::Corrupt { .. } | MissReason::OutputGone { .. }),
            store_result: self.options.store_results,
            prepare: &|| workplace.prepare(),
            presence: &|path| self.presence_for(task, path),
            digests: Some(self.digests),
            changed_inputs: &|| index::changed_since(&self.session.root, &task.action.inputs, self.digests),
            on_output: &|stream, bytes| self.output(task.id, stream, bytes),
            on_start: &|| {
                self.emit(EventKind::StepStarted {
                    id: node.id.clone(),
                    key: task.key,
                    miss: Some(miss.clone()),
                    needs: self.needs_of(task.id),
                });
            },
            on_wait: &|waiting| {
                hand.let_go();
                if waiting.waited.as_millis() > 300 && !waited.swap(true, Ordering::Relaxed) {
                    let holder = waiting.holder.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                    self.emit(EventKind::Warning {
                        message: format!("{} is being built by another process{holder}; waiting", node.id),
                        hint: None,
                    });
                }
            },
        };
        let performed = self.engine.perform(&request);
        // The command has ended; and whoever publishes may have to wait, which must not keep others waiting.
        workplace.let_go();
        hand.let_go();
        let mut finished = Finished { took_token, ..Finished::nothing(task.id, task.key) };
        match performed {
            Performed::Hit(result) => match self.publish(task.id, &result.outputs, &*self.engine.store) {
                Ok(done) => {
                    finished.outcome = hit(Tier::Local, &result, &done);
                    finished.result = Some(result);
                }
                Err(error) => {
                    if let Some(miss) = error.miss() {
                        return Err(miss);
                    }
                    finished.cancelled = error.is_stop();
                    finished.outcome = failed(Some(miss), chain(&error), Vec::new());
                }
            },
            Performed::Ran(done) => {
                for message in &done.warnings {
                    self.warn(format!("{}: {message}", node.id), None);
                }
                if !done.undeclared.is_empty() {
                    self.tell_undeclared(task.id, &done.undeclared);
                }
                match self.publish_fresh(task.id, &done.result.outputs, &done.out) {
                    Ok(published) => {
                        if published.took_folder {
                            workplace.out_has_gone();
                        }
                        finished.outcome = StepOutcome::Ran {
                            miss: miss.clone(),
                            cost: done.result.cost,
                            output_bytes: done.result.outputs.size_bytes(),
                            output_files: done.result.outputs.files().count() as u64,
                            same_outputs: self.same_outputs(task.id, &done.result.outputs),
                            not_stored: done.not_stored.clone(),
                        };
                        finished.stored = done.not_stored.is_none();
                        finished.stored_bytes = done.stored_bytes;
                        finished.result = Some(done.result);
                    }
                    Err(error) => {
                        finished.cancelled = error.is_stop();
                        finished.outcome = failed(Some(miss), chain(&error), Vec::new());
                    }
                }
            }
            Performed::Failed(failure) => {
                let mut hints = failure.hints;
                hints.extend(self.undeclared_hints(task.id, &failure.undeclared));
                hints.extend(self.unmatched_hint(task.id).filter(|_| !failure.cancelled));
                if failure.sandbox_refused {
                    hints.push("`--engine host` runs steps without a sandbox".to_owned());
                    self.forget_probe();
                }
                finished.cancelled = failure.cancelled;
                finished.outcome = StepOutcome::Failed {
                    miss: Some(miss.clone()),
                    error: failure.error,
                    hints,
                    cost: failure.cost,
                    exit_code: failure.exit_code,
                };
            }
        }
        drop(workplace);
        Ok(finished)
    }

    fn job(&self, task: &Task) -> Job {
        let node = self.graph.node(task.id);
        let mut unkeyed_env = BTreeMap::new();
        if let Some(server) = &self.jobserver {
            unkeyed_env.extend(server.variables());
        }
        if node.body.network {
            unkeyed_env.extend(self.session.network_env.clone());
        }
        Job {
            label: node.id.to_string(),
            project: self.project_name(),
            timeout: node.body.timeout_ms.map(std::time::Duration::from_millis),
            retries: node.body.retries,
            unkeyed_env,
        }
    }

    fn output(&self, id: NodeId, stream: Stream, bytes: &[u8]) {
        if let Some(raw) = self.raw_output {
            raw(stream, bytes);
            return;
        }
        self.emit(EventKind::StepOutput {
            id: self.graph.node(id).id.clone(),
            stream,
            text: String::from_utf8_lossy(bytes).into_owned(),
        });
    }

    /// Shows the kept output of a step that does not run.
    pub(crate) fn replay(&self, id: NodeId, result: &ActionResult) {
        if !self.options.replay {
            return;
        }
        let Some(log) = result.log.as_ref().and_then(|log| self.engine.log(log)) else { return };
        for (stream, bytes) in Log::chunks(&log) {
            self.output(id, stream, bytes);
        }
    }

    /// Inputs are there; what another step publishes, or lies outside, is nobody's undeclared file.
    fn presence_for(&self, task: &Task, path: &RelPath) -> Presence {
        if task.action.inputs.get(path).is_some() {
            return Presence::Absent;
        }
        self.index.presence(path)
    }

    /// What has just been made: neither the real store nor unpacking is needed for it.
    fn publish_fresh(
        &self,
        id: NodeId,
        tree: &Tree,
        out: &std::path::Path,
    ) -> Result<Materialised, PublishError> {
        let fresh = FolderSource::new(out, tree)?;
        match self.publish_from(id, tree, &fresh, Some(&fresh)) {
            // Something that the command left running has changed it since it was stored.
            Err(PublishError::Materialise(error)) if error.is_miss() => {
                self.publish(id, tree, &*self.engine.store)
            }
            published => published,
        }
    }

    fn publish(&self, id: NodeId, tree: &Tree, blobs: &dyn Store) -> Result<Materialised, PublishError> {
        self.publish_from(id, tree, blobs, None)
    }

    fn publish_from(
        &self,
        id: NodeId,
        tree: &Tree,
        blobs: &dyn Store,
        giver: Option<&FolderSource>,
    ) -> Result<Materialised, PublishError> {
        let node = self.graph.node(id);
        if node.body.outputs.is_empty() {
            return Ok(Materialised::default());
        }
        let _alone = self.claim(id, Claim::Change)?.ok();
        let previous = self.remembered(id).filter(|old| old.published == node.place.at);
        let previous = previous.map(|old| old.result.outputs);
        let place = Place { root: &self.session.root, at: &node.place.at };
        let options = MaterialiseOptions {
            exact: node.place.exact,
            digests: Some(self.digests),
            previous: previous.as_ref().filter(|_| !node.place.exact),
            giver,
        };
        Ok(materialise(tree, blobs, place, options)?)
    }

    fn tell_healed(&self, id: NodeId, done: &Materialised) {
        let node = self.graph.node(id);
        // Only what had been there by our own account was damaged; a new key writes new files.
        let known = self.remembered(id).is_some_and(|old| self.key_of(id) == Some(old.key));
        if !known {
            return;
        }
        for (path, wrong) in done.healed.iter().take(5) {
            let path = node.place.at.join(path);
            self.emit(EventKind::Healed { what: format!("`{path}` {} and was put back", wrong.words()) });
        }
        if done.healed.len() > 5 {
            let more = done.healed.len() - 5;
            self.emit(EventKind::Healed {
                what: format!("{more} more outputs of {} were put back", node.id),
            });
        }
    }

    fn tell_undeclared(&self, id: NodeId, paths: &[RelPath]) {
        let node = self.graph.node(id);
        let first = paths.first().map(ToString::to_string).unwrap_or_default();
        let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
        self.warn(
            format!(
                "step `{}` looked for `{first}`{more}, which it does not declare; its result is not stored",
                node.id
            ),
            self.undeclared_hints(id, paths).into_iter().next(),
        );
    }

    /// The line to add to the manifest.
    fn undeclared_hints(&self, id: NodeId, paths: &[RelPath]) -> Vec<String> {
        const SHOWN: usize = 8;
        if paths.is_empty() {
            return Vec::new();
        }
        let node = self.graph.node(id);
        let texts = paths.iter().take(SHOWN).map(|path| glob::pattern_for(path, &node.body.folder));
        let names = texts.map(|text| toml_string(&text));
        let names = names.collect::<Vec<_>>().join(", ");
        let rest =
            if paths.len() > SHOWN { format!(" (and {} more)", paths.len() - SHOWN) } else { String::new() };
        let defined = &node.step.defined;
        if defined.line == 0 {
            // No file defines it: the step is a command line.
            return vec![format!("name with `-i`: {names}{rest}")];
        }
        vec![format!(
            "add to `inputs` of `[steps.{}]` ({}:{}): {names}{rest}",
            node.id.step, defined.file, defined.line
        )]
    }

    /// Patterns that are of no use, which may be why a step has failed.
    fn unmatched_hint(&self, id: NodeId) -> Option<String> {
        const SHOWN: usize = 8;
        let node = self.graph.node(id);
        let texts = self.index.unmatched(&node.body.inputs, &node.body.input_texts);
        let names: Vec<String> = texts.iter().take(SHOWN).map(|text| toml_string(text)).collect();
        let more = texts.len().saturating_sub(SHOWN);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let place = if node.step.defined.line == 0 { "`-i`" } else { "its `inputs`" };
        (!names.is_empty()).then(|| format!("no file is selected by {}{rest} of {place}", names.join(", ")))
    }

    fn same_outputs(&self, id: NodeId, now: &Tree) -> Option<bool> {
        self.remembered(id).map(|old| old.result.outputs.digest() == now.digest())
    }
}

/// `text` as it is written in a manifest.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            _ if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Why outputs are not where they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Materialise(#[from] MaterialiseError),
    #[error(transparent)]
    Fresh(#[from] spolia_store::StoreError),
}

impl PublishError {
    fn is_stop(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }

    /// Where the stored result is of no use: why it has to run.
    fn miss(&self) -> Option<MissReason> {
        let Self::Materialise(error) = self else { return None };
        if !error.is_miss() {
            return None;
        }
        Some(match error {
            MaterialiseError::Gone { path, .. } => {
                MissReason::OutputGone { what: format!("the output `{path}`") }
            }
            MaterialiseError::Damaged { path, .. } => {
                MissReason::Corrupt { what: format!("the output `{path}`") }
            }
            other => MissReason::OutputGone { what: other.to_string() },
        })
    }
}

fn hit(tier: Tier, result: &ActionResult, done: &Materialised) -> StepOutcome {
    StepOutcome::Hit {
        tier,
        saved: result.cost,
        restored_files: done.files_written,
        restored_bytes: done.bytes_written,
    }
}

fn failed(miss: Option<&MissReason>, error: String, hints: Vec<String>) -> StepOutcome {
    StepOutcome::Failed {
        miss: miss.cloned(),
        error,
        hints,
        cost: spolia_core::Cost::default(),
        exit_code: None,
    }
}
