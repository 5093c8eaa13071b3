//! The one stream that the painter, `--json`, the journal, the dashboard and traces read.
//!
//! In the journal and under `--json` an event is one line of JSON:
//!
//! ```text
//! {"at_us":1700000000000000,"seq":3,"kind":"step-finished","step":"fio","platform":"linux/arm64",…}
//! ```
//!
//! `at_us` is the machine's clock and may go back; `seq` only grows within a run. A field that was not
//! observed is `null`.

use serde::{Deserialize, Serialize};

use crate::key::ActionKey;
use crate::miss::MissReason;
use crate::platform::Platform;
use crate::result::Cost;

/// The version of the journal's lines: in every `run-started`.
pub const JOURNAL_VERSION: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, µs since 1970.
    pub at_us: u64,
    /// Its place in the run, from 0.
    pub seq: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Names one node of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepId {
    /// The step's name in the manifest.
    pub step: String,
    /// The platform it is for.
    pub platform: Platform,
}

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.platform {
            Platform::Any => f.write_str(&self.step),
            _ => write!(f, "{} ({})", self.step, self.platform),
        }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Nothing had changed since the last build of this tree: the outputs were already in place.
    UpToDate,
    /// The local store.
    Local,
    /// A remote store.
    Remote,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Answered from a cache.
    Hit {
        /// From where.
        tier: Tier,
        /// What the recorded run cost: the time that was saved.
        saved: Cost,
        /// Outputs that had to be written.
        restored_files: u64,
        /// Their bytes.
        restored_bytes: u64,
    },
    /// It ran and succeeded.
    Ran {
        /// Why it had to.
        miss: MissReason,
        /// What it cost.
        cost: Cost,
        /// Bytes of its outputs.
        output_bytes: u64,
        /// Files in its outputs.
        output_files: u64,
        /// Whether the result was stored, and if not, why.
        #[serde(default)]
        not_stored: Option<String>,
        /// Whether the outputs are the same bytes as those of the run before; `None` where not known.
        #[serde(default)]
        same_outputs: Option<bool>,
    },
    /// It ran and failed, or could not be run.
    Failed {
        /// Why it had to run; `None` where it could not even be looked up.
        miss: Option<MissReason>,
        /// In a sentence.
        error: String,
        /// What to do about it.
        #[serde(default)]
        hints: Vec<String>,
        /// What it cost until then.
        cost: Cost,
        /// The exit code, where there was one.
        exit_code: Option<i32>,
    },
    /// It did not run because a step it needs failed, or because the build was stopped.
    Skipped {
        /// In a sentence.
        because: String,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// A command of Spolia's began.
    RunStarted {
        /// [`JOURNAL_VERSION`].
        version: u32,
        /// Names the run: also the name of its file in the journal.
        run: String,
        /// Spolia's own version.
        spolia: String,
        /// What was asked: `build`, `run`, …, with its arguments.
        command: Vec<String>,
        /// The project's folder, for a person.
        root: String,
        /// The project's name, where the manifest gives one.
        project: Option<String>,
        /// The most steps at once.
        jobs: u64,
        /// `host` or `sandbox`.
        engine: String,
        /// Steps that were selected.
        steps: u64,
    },
    /// A step began to run or to be restored.
    StepStarted {
        /// Which.
        #[serde(flatten)]
        id: StepId,
        /// Its key.
        key: ActionKey,
        /// Why it runs; `None` where it is being restored.
        miss: Option<MissReason>,
        /// The steps whose outputs it uses.
        #[serde(default)]
        needs: Vec<StepId>,
    },
    /// A step wrote something. Not in the journal: the log is in the store.
    StepOutput {
        /// Which.
        #[serde(flatten)]
        id: StepId,
        /// On which stream.
        stream: crate::result::Stream,
        /// What, as text for a person.
        text: String,
    },
    /// A step ended.
    StepFinished {
        /// Which.
        #[serde(flatten)]
        id: StepId,
        /// Its key, where it got one.
        key: Option<ActionKey>,
        /// How.
        #[serde(flatten)]
        outcome: StepOutcome,
    },
    /// The store was above its limit, or it was time to look: a collection ended.
    Collected {
        /// Entries that were removed.
        removed: u64,
        /// Their bytes.
        removed_bytes: u64,
        /// Bytes that are left.
        store_bytes: u64,
    },
    /// Something was damaged or gone and has been put right.
    Healed {
        /// In a sentence.
        what: String,
    },
    /// Something the user should know.
    Warning {
        /// In a sentence.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A measurement began. What is in it is `spolia perf`'s own, with its own version.
    Measuring {
        /// Tells the measurements of one run apart, from 0.
        series: u32,
        /// What is measured, and on what machine.
        facts: serde_json::Value,
    },
    /// One run of what is measured ended.
    Measured {
        /// Which measurement.
        series: u32,
        /// What was observed.
        sample: serde_json::Value,
    },
    /// Somebody said that a cost is the new normal.
    Accepted {
        /// Of what, from when on and why: `spolia perf`'s own.
        baseline: serde_json::Value,
    },
    /// The command ended.
    RunFinished {
        /// Counts of what happened.
        summary: Summary,
        /// Spolia's exit code.
        exit_code: i32,
    },
}

/// The counts of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Steps that were already in place.
    pub up_to_date: u64,
    /// Steps restored from a store.
    pub restored: u64,
    /// Steps that ran and succeeded.
    pub ran: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that were not reached.
    pub skipped: u64,
    /// Output files written.
    pub restored_files: u64,
    /// Output bytes written.
    pub restored_bytes: u64,
    /// Wall time of this run, µs.
    pub wall_us: Option<u64>,
    /// CPU time of the steps that ran, µs; `None` where one was not observed.
    pub steps_cpu_us: Option<u64>,
    /// Recorded run time of the steps that were not run, µs: wall, added up.
    pub saved_us: Option<u64>,
    /// Recorded CPU time of the steps that were not run, µs.
    pub saved_cpu_us: Option<u64>,
    /// Bytes added to the store by this run.
    pub stored_bytes: u64,
    /// Size of the store, bytes, as last counted; `None` where it was never counted.
    pub store_bytes: Option<u64>,
    /// Bytes of all outputs of the selected steps.
    pub output_bytes: Option<u64>,
}
