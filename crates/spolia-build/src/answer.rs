//! A build that found everything in place: written down, so that the next one is answered at once, and told of then
//! as if it had been made. What is written is in `fresh.rs`.

use std::collections::BTreeMap;
use std::time::Instant;

use spolia_core::event::{EventKind, StepOutcome, Summary, Tier};

use crate::build::{Build, Ended, Options, Session};
use crate::fresh::{Found, Fresh, FreshStep};
use crate::main_loop::started;

impl Build<'_> {
    /// After a build that found everything in place: what it looked at, for [`crate::fresh::check`].
    pub(crate) fn note_fresh(&self, request: &crate::fresh::Request, ended: &Ended, steps: Vec<FreshStep>) {
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
            project: self.manifest.name.clone(),
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
}

/// Tells of a build that [`crate::fresh::check`] has answered, as if it had been made.
pub fn tell_fresh(session: &Session<'_>, options: &Options, found: Found, began: Instant) -> Ended {
    let Found { project, summary, steps } = found;
    (session.sink)(started(session, options, project, steps.len()));
    for FreshStep { id, key, saved } in steps {
        let outcome = StepOutcome::Hit { tier: Tier::UpToDate, saved, restored_files: 0, restored_bytes: 0 };
        (session.sink)(EventKind::StepFinished { id, key: Some(key), outcome });
    }
    let wall_us = u64::try_from(began.elapsed().as_micros()).ok();
    Ended { summary: Summary { wall_us, ..summary }, cancelled: false }
}
