//! `spolia why STEP`: a plan, compared with the memory of the tree, in words.

use serde_json::json;
use spolia_build::state::Remembered;
use spolia_build::{Build, NodeId, Plan, Planned};
use spolia_core::event::{EventKind, StepOutcome, Tier};
use spolia_core::{ActionKey, Change, Cost, MissReason, Tree};
use spolia_store::journal::{self, RunFilter};

use super::build::how_options;
use super::look::{self, look};
use crate::cli::WhyArgs;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::project::Project;
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// In how many of the newest runs a result's own run is looked for.
const RUNS_SEARCHED: usize = 200;
/// The longest value that is shown whole, characters; `--json` has all of it.
const VALUE_CHARS_MAX: usize = 60;
/// How many digits of a digest are shown.
const DIGEST_DIGITS: usize = 12;

/// Runs it.
pub(crate) fn run(args: &WhyArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    if let Some(source) = &args.last_compile {
        return super::stats::last_compile(source, settings, shell);
    }
    let step = args.step.clone().unwrap_or_default();
    let project = Project::load(settings, shell, args.how.variant.as_deref())?;
    let options = spolia_build::Options { steps: vec![step.clone()], ..how_options(&args.how, settings) };
    look(&project, &options, settings, shell, |build, plan| {
        for (id, planned) in &plan.nodes {
            if build.graph().node(*id).id.step != step {
                continue;
            }
            let answer = Answer::new(build, plan, *id, planned);
            if shell.is_json() {
                shell.json_line(&answer.json());
            } else {
                shell.out(&answer.text(shell));
            }
        }
        Ok(Exit::Success)
    })
}

/// Why one node would do what it would do.
struct Answer<'a> {
    build: &'a Build<'a>,
    id: NodeId,
    planned: &'a Planned,
    last: Option<Remembered>,
    /// What differs from the last time, for one that would run; what is known of that already, for one that
    /// depends on others.
    changes: Vec<Change>,
    /// Whether what the last key was made of is still known.
    last_is_explained: bool,
    /// What would run before it, with its reason.
    first: Vec<(NodeId, &'a Planned)>,
    then: Then,
    /// Where nothing of it is remembered, though it ran here by the journal: its result was cleared or collected.
    before: Option<Before>,
}

/// A run of the step in this tree of which no result is left.
struct Before {
    run: String,
    at_us: u64,
    key: ActionKey,
    cost: Cost,
}

/// The last time that it ran, as far as that is known.
#[derive(Default)]
struct Then {
    run: Option<String>,
    reason: Option<MissReason>,
    changes: Vec<Change>,
}

impl<'a> Answer<'a> {
    fn new(build: &'a Build<'a>, plan: &'a Plan, id: NodeId, planned: &'a Planned) -> Self {
        let last = build.last(id);
        let then_explained = last.as_ref().and_then(|last| build.explanation(last.key));
        let changes = match (planned, &then_explained, build.explain_now(plan, id)) {
            (Planned::Run(_, MissReason::KeyChanged { changes }), None, _) => changes.clone(),
            (Planned::Run(_, reason), Some(then), Some(now)) => {
                let mut changes = then.changes(&now);
                // What appeared is in no key: it was looked for in vain.
                if let (true, MissReason::KeyChanged { changes: found }) = (changes.is_empty(), reason) {
                    changes.clone_from(found);
                }
                changes
            }
            (Planned::Depends(_), Some(then), _) => {
                build.explain_as_before(plan, id).map(|now| then.changes(&now)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let mut answer = Self {
            build,
            id,
            planned,
            changes,
            last_is_explained: then_explained.is_some(),
            first: Vec::new(),
            then: Then::default(),
            before: None,
            last,
        };
        if let Planned::Depends(needs) = planned {
            answer.gather(plan, needs);
        }
        answer.then = answer.find_then();
        if matches!(planned, Planned::Run(_, MissReason::NeverRun)) {
            answer.before = answer.ran_before();
        }
        answer
    }

    /// What would run first, the nearest last.
    fn gather(&mut self, plan: &'a Plan, needs: &[NodeId]) {
        for need in needs {
            if self.first.iter().any(|(id, _)| id == need) {
                continue;
            }
            let Some(planned) = look::planned(plan, *need) else { continue };
            if let Planned::Depends(more) = planned {
                self.gather(plan, more);
            }
            self.first.push((*need, planned));
        }
    }

    fn find_then(&self) -> Then {
        let known = match self.planned {
            Planned::UpToDate(known) | Planned::Restore(known, _) => Some(known.key),
            _ => None,
        };
        let Some(last) = &self.last else {
            return known.map(|key| self.recorded(key)).unwrap_or_default();
        };
        let of_last = known.is_none_or(|key| key == last.key);
        let Some(reason) = last.ran.as_ref().filter(|_| of_last).map(|ran| ran.reason()) else {
            return self.recorded(known.unwrap_or(last.key));
        };
        let changes = last.previous.and_then(|previous| {
            Some(self.build.explanation(previous)?.changes(&self.build.explanation(last.key)?))
        });
        Then { run: Some(last.run.clone()), reason, changes: changes.unwrap_or_default() }
    }

    /// The run in which the result of `key` came to be, by the journal.
    fn recorded(&self, key: ActionKey) -> Then {
        let filter = RunFilter { newest: Some(RUNS_SEARCHED), ..RunFilter::default() };
        let mut then = Then::default();
        let visited = journal::read_runs(self.build.store(), &filter, &mut |run| {
            for event in run.events {
                if let EventKind::StepFinished {
                    key: Some(found),
                    outcome: StepOutcome::Ran { miss, .. },
                    ..
                } = event.kind
                    && found == key
                {
                    let changes = match &miss {
                        MissReason::KeyChanged { changes } => changes.clone(),
                        _ => Vec::new(),
                    };
                    then = Then { run: Some(run.id.to_string()), reason: Some(miss), changes };
                }
            }
        });
        // A journal that cannot be read tells nothing.
        if visited.is_ok() { then } else { Then::default() }
    }

    /// The newest run in which the step ran in this tree, by the journal.
    fn ran_before(&self) -> Option<Before> {
        let filter = RunFilter { newest: Some(RUNS_SEARCHED), ..RunFilter::default() };
        let (root, step) = (self.build.root().display().to_string(), &self.build.graph().node(self.id).id);
        let mut before = None;
        let visited = journal::read_runs(self.build.store(), &filter, &mut |run| {
            let mut is_here = false;
            for event in run.events {
                match event.kind {
                    EventKind::RunStarted { root: found, .. } => is_here = found == root,
                    EventKind::StepFinished {
                        id,
                        key: Some(key),
                        outcome: StepOutcome::Ran { cost, .. },
                    } if is_here && id == *step => {
                        before = Some(Before { run: run.id.to_string(), at_us: event.at_us, key, cost });
                    }
                    _ => {}
                }
            }
        });
        before.filter(|_| visited.is_ok())
    }

    fn text(&self, shell: &Shell) -> String {
        let name = shell.paint(Tone::Plain, &self.build.graph().node(self.id).id.to_string());
        let mut text = String::new();
        match self.planned {
            Planned::UpToDate(known) => {
                text.push_str(&format!(
                    "{name} is fresh: its outputs are in place from the last build of this tree\n"
                ));
                self.hit(&mut text, known.key, &known.result);
            }
            Planned::Restore(known, tier) => {
                let from = match tier {
                    Tier::UpToDate | Tier::Local => "the local store",
                    Tier::Remote => "a remote store",
                };
                text.push_str(&format!(
                    "{name} would be restored from {from}: {}\n",
                    files(&known.result.outputs)
                ));
                self.hit(&mut text, known.key, &known.result);
            }
            Planned::Run(key, reason) => {
                let reason_text = match &self.before {
                    Some(_) => {
                        "its result is not known here any more (cleared, or removed to make room)".to_owned()
                    }
                    None => reason.to_string(),
                };
                text.push_str(&format!("{name} would run: {reason_text}\n"));
                if let Some(Before { run, at_us, key: then, cost: took }) = &self.before {
                    text.push_str(&format!(
                        "  the last time it ran {}, in run {run}, and took {}\n",
                        ago(*at_us),
                        cost(took)
                    ));
                    text.push_str(if then == key {
                        "  it had this very key then: nothing that it depends on has changed\n"
                    } else {
                        "  it had another key then; what that was made of is not known any more\n"
                    });
                }
                for change in &self.changes {
                    text.push_str(&change_line(change));
                }
                if matches!(reason, MissReason::KeyChanged { .. }) && !self.last_is_explained {
                    text.push_str("  what the last key was made of is not in the store any more, so the difference is not known\n");
                }
                text.push_str(&format!("  key {}\n", short(&key.0)));
                self.last_time(&mut text);
            }
            Planned::Depends(_) => {
                text.push_str(&match (&self.last, self.changes.first()) {
                    (None, _) => {
                        format!("{name} was never built here; steps that it needs would run first\n")
                    }
                    (Some(_), Some(change)) => {
                        format!("{name} would run, after steps that it needs: {change}\n")
                    }
                    (Some(_), None) => format!(
                        "{name} would run only if the steps before it give other bytes than the last time\n"
                    ),
                });
                for change in &self.changes {
                    text.push_str(&change_line(change));
                }
                for (id, planned) in &self.first {
                    let first = &self.build.graph().node(*id).id;
                    text.push_str(&match planned {
                        Planned::Run(_, reason) => format!("  first: {first} would run: {reason}\n"),
                        Planned::Broken(error) => format!("  first: {first} cannot run: {error}\n"),
                        Planned::Depends(needs) => {
                            format!("  then: {first}, which depends on {}\n", look::names(self.build, needs))
                        }
                        Planned::UpToDate(_) | Planned::Restore(..) => continue,
                    });
                }
                self.last_time(&mut text);
            }
            Planned::Broken(error) => text.push_str(&format!("{name} cannot run: {error}\n")),
        }
        text
    }

    /// The details of a result that holds.
    fn hit(&self, text: &mut String, key: ActionKey, result: &spolia_core::ActionResult) {
        let node = self.build.graph().node(self.id);
        let run = self.then.run.as_ref().map(|run| format!(", in run {run}")).unwrap_or_default();
        text.push_str(&format!("  ran {}{run}\n", ago(result.finished_at_us)));
        text.push_str(&format!("  took {}\n", cost(&result.cost)));
        self.reason_then(text);
        if !node.body.outputs.is_empty() {
            text.push_str(&format!("  gave {} in {}\n", files(&result.outputs), place(&node.place.at)));
        }
        if !result.missing.is_empty() {
            text.push_str(&format!(
                "  looked for {} that are not there; it runs again when one appears\n",
                counted(result.missing.len(), "project file")
            ));
        }
        text.push_str(&format!("  key {}\n", short(&key.0)));
    }

    /// When the last result came here, for one that has another key now.
    fn last_time(&self, text: &mut String) {
        let Some(last) = &self.last else { return };
        let run = self.then.run.as_ref().map(|run| format!(", in run {run}")).unwrap_or_default();
        text.push_str(&format!(
            "  the last time it ran {}{run}, and took {}\n",
            ago(last.result.finished_at_us),
            cost(&last.result.cost)
        ));
        self.reason_then(text);
    }

    fn reason_then(&self, text: &mut String) {
        let Some(reason) = &self.then.reason else { return };
        text.push_str(&format!("  it ran then because: {reason}\n"));
        for change in &self.then.changes {
            text.push_str(&format!("  {}", change_line(change)));
        }
    }

    fn json(&self) -> serde_json::Value {
        let node = self.build.graph().node(self.id);
        let (mut key, mut reason, mut error, mut result) = (None, None, None, None);
        let mut source = None;
        match self.planned {
            Planned::UpToDate(known) => {
                (key, result, source) = (Some(known.key), Some(&known.result), Some("tree"));
            }
            Planned::Restore(known, tier) => {
                (key, result) = (Some(known.key), Some(&known.result));
                source = Some(if *tier == Tier::Remote { "remote-store" } else { "local-store" });
            }
            Planned::Run(of, why) => (key, reason) = (Some(*of), Some(why)),
            Planned::Depends(_) => {}
            Planned::Broken(why) => error = Some(why),
        }
        let first = self.first.iter().map(|(id, planned)| {
            let id = &self.build.graph().node(*id).id;
            let reason = match planned {
                Planned::Run(_, reason) => Some(reason),
                _ => None,
            };
            json!({ "step": id.step, "platform": id.platform, "plan": look::word(planned), "reason": reason })
        });
        let first: Vec<_> = first.collect();
        let result = result.or(self.last.as_ref().map(|last| &last.result));
        json!({
            "kind": "why",
            "step": node.id.step,
            "platform": node.id.platform,
            "plan": look::word(self.planned),
            "key": key,
            "reason": reason,
            "changes": self.changes,
            "changes_known": self.last_is_explained || !self.changes.is_empty(),
            "depends_on": first,
            "error": error,
            "source": source,
            "ran_before": self.before.as_ref().map(|before| json!({
                "run": before.run,
                "key": before.key,
                "finished_at_us": before.at_us,
                "cost": before.cost,
            })),
            "published": node.place.at.to_string(),
            "last": result.map(|result| json!({
                "key": match self.planned {
                    Planned::UpToDate(known) | Planned::Restore(known, _) => Some(known.key),
                    _ => self.last.as_ref().map(|last| last.key),
                },
                "run": self.then.run,
                "ran_because": self.then.reason,
                "ran_because_changes": self.then.changes,
                "finished_at_us": result.finished_at_us,
                "cost": result.cost,
                "output_files": result.outputs.files().count(),
                "output_bytes": result.outputs.size_bytes(),
                "missing": result.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })),
        })
    }
}

/// `  input `a.c`   1a2b… → 3c4d…`.
fn change_line(change: &Change) -> String {
    let Change { group, name, old, new } = change;
    let what = match group.as_str() {
        "" => format!("`{name}`"),
        "inputs" => format!("input `{name}`"),
        "env" => format!("variable `{name}`"),
        "tools" => format!("tool `{name}`"),
        "looked for" => return format!("  `{name}`, which was looked for and not there, now exists\n"),
        group => match group.strip_prefix("needs.") {
            Some(step) => format!("`{name}` from step `{step}`"),
            None => format!("`{group}.{name}`"),
        },
    };
    let side = |value: &Option<String>, nothing: &str| match value {
        Some(value) => show(value),
        None => nothing.to_owned(),
    };
    format!("  {what}: {} → {}\n", side(old, "not there"), side(new, "gone"))
}

/// A value of an explanation: digests cut short, long texts cut.
fn show(value: &str) -> String {
    if let Some((function, rest)) = value.split_once(':')
        && matches!(function, "blake3" | "sha256")
    {
        let (hex, rest) = rest.split_at_checked(64).unwrap_or((rest, ""));
        return format!("{}{rest}", hex.get(..DIGEST_DIGITS).unwrap_or(hex));
    }
    if value.chars().count() <= VALUE_CHARS_MAX {
        return format!("`{value}`");
    }
    let cut: String = value.chars().take(VALUE_CHARS_MAX).collect();
    format!("`{cut}…`")
}

fn short(digest: &spolia_core::Digest) -> String {
    digest.to_hex()[..DIGEST_DIGITS].to_owned()
}

fn place(at: &spolia_core::RelPath) -> String {
    if at.is_root() { "the project's folder".to_owned() } else { format!("`{at}`") }
}

/// `12 files (3.4 MiB)`.
pub(crate) fn files(tree: &Tree) -> String {
    format!("{} ({})", counted(tree.files().count(), "file"), words::size(tree.size_bytes()))
}

/// `1 file`, `2 files`.
pub(crate) fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// `3m 07s ago`, by the machine's clock.
pub(crate) fn ago(at_us: u64) -> String {
    const DAY_US: u64 = 86_400_000_000;
    match now_us().checked_sub(at_us) {
        None => "at a time that is still to come".to_owned(),
        Some(us) if us >= 2 * DAY_US => format!("{} days ago", us / DAY_US),
        Some(us) => format!("{} ago", words::duration(us)),
    }
}

fn cost(cost: &Cost) -> String {
    let wall = cost.wall_us.map_or_else(|| "a time that was not observed".to_owned(), words::duration);
    match (cost.user_us, cost.sys_us) {
        (Some(user), Some(sys)) => format!("{wall} ({} of CPU)", words::duration(user + sys)),
        _ => wall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_digests_cut() {
        let digest = spolia_core::Digest::blake3(b"x");
        let hex = digest.to_hex();
        assert_eq!(show(&format!("{digest} executable")), format!("{} executable", &hex[..12]));
        assert_eq!(show(&digest.to_string()), hex[..12]);
        assert_eq!(show("1"), "`1`");
        assert_eq!(show(&"ä".repeat(100)).chars().count(), VALUE_CHARS_MAX + 3);
        assert_eq!(show("blake3:ä"), "ä");
    }
}
