//! What a build said: `--json` lines → events, and questions about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use spolia_core::Event;
use spolia_core::event::{EventKind, StepOutcome, Summary, Tier};
use spolia_core::miss::{Change, MissReason};

/// A build that has ended.
pub struct Built {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// Its events in order.
    pub events: Vec<Event>,
    /// Lines of JSON that are no event: errors and diagnostics.
    pub others: Vec<serde_json::Value>,
    /// What it said beside.
    pub stderr: String,
}

impl Built {
    /// Reads the output of `spolia --json build`.
    pub fn of(output: Output) -> Self {
        let mut events = Vec::new();
        let mut others = Vec::new();
        for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => events.push(event),
                Err(_) => others.push(serde_json::from_slice(line).unwrap_or_else(|error| {
                    panic!("no JSON: {error}: {}", String::from_utf8_lossy(line));
                })),
            }
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), signal: output.status.signal(), events, others, stderr }
    }

    /// It must have succeeded.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// How each step ended, by `step` or `step (platform)`.
    pub fn outcomes(&self) -> BTreeMap<String, &StepOutcome> {
        let mut outcomes = BTreeMap::new();
        for event in &self.events {
            if let EventKind::StepFinished { id, outcome, .. } = &event.kind {
                let twice = outcomes.insert(id.to_string(), outcome);
                assert!(twice.is_none(), "{id} ended twice\n{self}");
            }
        }
        outcomes
    }

    /// How one step ended.
    pub fn outcome(&self, step: &str) -> &StepOutcome {
        self.outcomes().get(step).copied().unwrap_or_else(|| panic!("`{step}` did not end\n{self}"))
    }

    fn named(&self, is_so: impl Fn(&StepOutcome) -> bool) -> BTreeSet<String> {
        self.outcomes().into_iter().filter(|(_, outcome)| is_so(outcome)).map(|(name, _)| name).collect()
    }

    /// Steps that ran and succeeded.
    pub fn ran(&self) -> BTreeSet<String> {
        self.named(|outcome| matches!(outcome, StepOutcome::Ran { .. }))
    }

    /// Steps that were in place.
    pub fn up_to_date(&self) -> BTreeSet<String> {
        self.named(|outcome| matches!(outcome, StepOutcome::Hit { tier: Tier::UpToDate, .. }))
    }

    /// Steps that were restored.
    pub fn restored(&self) -> BTreeSet<String> {
        self.named(|outcome| matches!(outcome, StepOutcome::Hit { tier: Tier::Local, .. }))
    }

    /// Steps that failed.
    pub fn failed(&self) -> BTreeSet<String> {
        self.named(|outcome| matches!(outcome, StepOutcome::Failed { .. }))
    }

    /// Steps that were skipped.
    pub fn skipped(&self) -> BTreeSet<String> {
        self.named(|outcome| matches!(outcome, StepOutcome::Skipped { .. }))
    }

    /// Exactly these steps ran, and nothing failed or was skipped.
    #[track_caller]
    pub fn assert_ran(&self, steps: &[&str]) -> &Self {
        let wanted: BTreeSet<String> = steps.iter().map(|step| (*step).to_owned()).collect();
        assert_eq!(self.ran(), wanted, "{self}");
        assert!(self.failed().is_empty() && self.skipped().is_empty(), "{self}");
        self
    }

    /// Every step was in place.
    #[track_caller]
    pub fn assert_up_to_date(&self) -> &Self {
        assert_eq!(self.up_to_date().len(), self.outcomes().len(), "{self}");
        assert!(self.events.len() > 1, "{self}");
        self
    }

    /// Why a step ran.
    pub fn miss(&self, step: &str) -> MissReason {
        match self.outcome(step) {
            StepOutcome::Ran { miss, .. } | StepOutcome::Failed { miss: Some(miss), .. } => miss.clone(),
            other => panic!("`{step}` did not run: {other:?}"),
        }
    }

    /// What changed in the key of a step that ran: `group name`, sorted.
    pub fn changes(&self, step: &str) -> Vec<String> {
        let MissReason::KeyChanged { changes } = self.miss(step) else {
            panic!("`{step}` ran, but not because its key changed\n{self}");
        };
        let text = |change: &Change| format!("{} {}", change.group, change.name).trim_start().to_owned();
        let mut changes: Vec<String> = changes.iter().map(text).collect();
        changes.sort();
        changes
    }

    /// A step ran for exactly one reason, in the words shown to the user.
    #[track_caller]
    pub fn assert_miss(&self, step: &str, words: &str) -> &Self {
        assert_eq!(self.miss(step).to_string(), words, "{self}");
        self
    }

    /// Why a step's result was not stored; `None`: it was.
    pub fn not_stored(&self, step: &str) -> Option<String> {
        match self.outcome(step) {
            StepOutcome::Ran { not_stored, .. } => not_stored.clone(),
            other => panic!("`{step}` did not run: {other:?}"),
        }
    }

    /// What was said about a step that failed: the error, then the hints.
    pub fn error(&self, step: &str) -> String {
        match self.outcome(step) {
            StepOutcome::Failed { error, hints, .. } => {
                hints.iter().fold(error.clone(), |text, hint| format!("{text}\n{hint}"))
            }
            other => panic!("`{step}` did not fail: {other:?}"),
        }
    }

    /// Warnings with their hints, one a line or two.
    pub fn warnings(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            if let EventKind::Warning { message, hint } = &event.kind {
                text.push_str(message);
                text.push('\n');
                text.push_str(hint.as_deref().unwrap_or_default());
                text.push('\n');
            }
        }
        text
    }

    /// What was put right.
    pub fn healed(&self) -> Vec<String> {
        let healed = |event: &Event| match &event.kind {
            EventKind::Healed { what } => Some(what.clone()),
            _ => None,
        };
        self.events.iter().filter_map(healed).collect()
    }

    /// What a step printed.
    pub fn output(&self, step: &str) -> String {
        let mut output = String::new();
        for event in &self.events {
            if let EventKind::StepOutput { id, text, .. } = &event.kind
                && id.to_string() == step
            {
                output.push_str(text);
            }
        }
        output
    }

    /// The counts.
    pub fn summary(&self) -> &Summary {
        let found = self.events.iter().find_map(|event| match &event.kind {
            EventKind::RunFinished { summary, .. } => Some(summary),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("the build has no end\n{self}"))
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit code {:?}, signal {:?}", self.code, self.signal)?;
        for event in self.events.iter().filter(|event| !matches!(event.kind, EventKind::RunStarted { .. })) {
            writeln!(f, "  {:?}", event.kind)?;
        }
        for other in &self.others {
            writeln!(f, "  {other}")?;
        }
        f.write_str(&self.stderr)
    }
}
