//! A running build: `Schedule → StepOutcomes`, told as events.
//!
//! Its threads are all alike, and the caller's is the first of them: each keys the next node whose needs are known,
//! answers it where everything is in place, and else lets go of the common state and does it. So nothing is handed
//! from one thread to another, and a build in which nothing changed starts no thread and opens no file of the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use spolia_core::event::{EventKind, JOURNAL_VERSION, StepOutcome, Summary, Tier};
use spolia_core::{ActionKey, ActionResult, MissReason, Tree};

use crate::build::{Build, BuildError, Ended, Options, Session};
use crate::fresh::FreshStep;
use crate::graph::NodeId;
use crate::manifest::EngineKind;
use crate::plan::{Keyable, Planned};
use crate::schedule::Schedule;
use crate::state::{Ran, Remembered};
use crate::worker::{Finished, Task, What};
use crate::workplace::Hand;

/// How often a build that waits for a job token looks again.
const TOKEN_PAUSE: Duration = Duration::from_millis(20);

impl Build<'_> {
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
        let floor = Floor { main: Mutex::new(Main::new(self, schedule)), changed: Condvar::new() };
        std::thread::scope(|scope| floor.work(scope));
        let main = floor.main.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut ended, steps) = main.finish();
        for spare in self.spare_workplaces.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What stays is swept by the next build.
            let _unremoved = spolia_engine::sandbox::remove_scratch(&spare);
        }
        ended.summary.wall_us = u64::try_from(began.elapsed().as_micros()).ok();
        self.keep(&mut ended);
        if let Some(request) = request.filter(|_| self.options.may_be_fresh()) {
            self.note_fresh(request, &ended, steps);
        }
        Ok(ended)
    }

    /// Writes what the next build profits from. None of it can fail the build.
    fn keep(&self, ended: &mut Ended) {
        if self.state_changed.load(std::sync::atomic::Ordering::Relaxed) && self.make_own_folders().is_ok() {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let ours: HashSet<_> = self.graph.ids().map(|id| &self.graph.node(id).id).collect();
            state.forget_oldest(|id| ours.contains(id));
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

pub(crate) fn started(
    session: &Session<'_>,
    options: &Options,
    project: Option<String>,
    steps: usize,
) -> EventKind {
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

/// What the threads of a running build share.
struct Floor<'a, 'b> {
    main: Mutex<Main<'a, 'b>>,
    /// There may be something to do, or nothing is left.
    changed: Condvar,
}

/// What is known of a running build, and what comes next.
struct Main<'a, 'b> {
    build: &'a Build<'b>,
    schedule: Schedule,
    outputs: HashMap<NodeId, Arc<Tree>>,
    /// The next node to begin, keyed and waiting for a job token.
    ready: Option<(NodeId, Task)>,
    /// All threads, and those of them that have nothing to do.
    threads: usize,
    idle: usize,
    summary: Summary,
    fresh: Vec<FreshStep>,
    failed: bool,
    stopped: bool,
    /// A thread has panicked, and what it was at will not end.
    broken: bool,
}

/// What a thread does next.
enum Next {
    /// This, which has begun; with a job token or without.
    Work(Box<Task>, bool),
    /// Nothing, until somebody else has finished something; or so long, where others than this build may.
    Wait(Option<Duration>),
    /// Nothing is left.
    Leave,
}

impl<'a, 'b> Floor<'a, 'b> {
    /// One thread, until nothing is left to begin. It starts others where there is more to do than it can.
    fn work<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) {
        // Else the others would wait for what this thread was at, should it panic.
        let _watch = Watch(self);
        let mut main = self.lock();
        let build = main.build;
        let hand = Hand::default();
        loop {
            match main.next() {
                Next::Work(task, token) => {
                    if main.has_place_for_more() {
                        if main.idle > 0 {
                            self.changed.notify_one();
                        } else if main.threads < build.options.jobs {
                            main.threads += 1;
                            scope.spawn(move || self.work(scope));
                        }
                    }
                    drop(main);
                    let finished = build.work(*task, token, &hand);
                    main = self.lock();
                    main.settle(finished);
                }
                Next::Wait(limit) => {
                    hand.let_go();
                    main.idle += 1;
                    main = match limit {
                        Some(limit) => {
                            let waited = self.changed.wait_timeout(main, limit);
                            waited.unwrap_or_else(PoisonError::into_inner).0
                        }
                        None => self.changed.wait(main).unwrap_or_else(PoisonError::into_inner),
                    };
                    main.idle -= 1;
                }
                Next::Leave => {
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Main<'a, 'b>> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets all threads leave when one of them panics.
struct Watch<'f, 'a, 'b>(&'f Floor<'a, 'b>);

impl Drop for Watch<'_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().broken = true;
            self.0.changed.notify_all();
        }
    }
}

impl<'a, 'b> Main<'a, 'b> {
    fn new(build: &'a Build<'b>, schedule: Schedule) -> Self {
        Self {
            build,
            schedule,
            outputs: HashMap::new(),
            ready: None,
            threads: 1,
            idle: 0,
            summary: Summary::default(),
            fresh: Vec::new(),
            failed: false,
            stopped: false,
            broken: false,
        }
    }

    /// Answers what needs no work, and begins the next node that does, if there is one and a job token for it.
    fn next(&mut self) -> Next {
        loop {
            if self.build.session.cancel.is_cancelled() || (self.failed && !self.build.options.keep_going) {
                self.stop();
            }
            if self.broken || self.schedule.is_done() {
                return Next::Leave;
            }
            if self.stopped {
                return Next::Wait(None);
            }
            let (id, task) = match self.ready.take() {
                Some(ready) => ready,
                None => match self.schedule.next_ready() {
                    Some(id) => match self.prepare(id) {
                        Some(task) => (id, task),
                        None => continue,
                    },
                    None if self.schedule.running() == 0 => {
                        // Cannot be: whatever waits, waits for something that runs.
                        self.stop();
                        return Next::Leave;
                    }
                    None => return Next::Wait(None),
                },
            };
            let token = matches!(task.what, What::Run { .. });
            if token && !self.take_token() {
                self.ready = Some((id, task));
                return Next::Wait(Some(TOKEN_PAUSE));
            }
            self.schedule.begin(id);
            return Next::Work(Box::new(task), token);
        }
    }

    /// Whether another thread would find something to do.
    fn has_place_for_more(&self) -> bool {
        self.schedule.running() < self.build.options.jobs && self.schedule.next_ready().is_some()
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
                let no_key = ActionKey(spolia_core::Digest::blake3(b""));
                self.settle(Finished {
                    outcome: StepOutcome::Failed {
                        miss: None,
                        error,
                        hints: Vec::new(),
                        cost: spolia_core::Cost::default(),
                        exit_code: None,
                    },
                    stored: false,
                    ..Finished::nothing(id, no_key)
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
                    outcome: StepOutcome::Hit {
                        tier: Tier::UpToDate,
                        saved: known.result.cost,
                        restored_files: 0,
                        restored_bytes: 0,
                    },
                    result: Some(known.result),
                    ..Finished::nothing(id, known.key)
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

#[expect(clippy::disallowed_methods, reason = "the build measures itself")]
fn instant() -> Instant {
    Instant::now()
}
