//! A build that is looked at and not run, for `why` and `build --dry-run`. Writes nothing.

use spolia_build::{Build, NodeId, Options, Plan, Planned};
use spolia_core::event::EventKind;
use spolia_engine::Cancel;
use spolia_store::RunId;

use super::build::{digest_cache, failure, with_session};
use crate::exit::{Exit, Failure};
use crate::project::{Project, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::Shell;

/// Plans a build of `project` and hands it to `body`. Warnings of the plan go to the shell.
pub(crate) fn look<T>(
    project: &Project,
    options: &Options,
    settings: &Settings,
    shell: &Shell,
    body: impl FnOnce(&Build<'_>, &Plan) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = open_store(settings)?;
    let cancel =
        Cancel::new().map_err(|error| Failure::environment(format!("cannot watch for signals: {error}")))?;
    let sink = |kind: EventKind| match kind {
        EventKind::Warning { message, hint } if !settings.json => shell.warning(&message, hint.as_slice()),
        EventKind::Healed { what } if !settings.json => shell.warning(&what, &[]),
        _ => {}
    };
    let run = RunId::new(now_us());
    let digests = digest_cache(&store, &project.root);
    with_session(&project.root, store, settings, &cancel, run, &sink, |session| {
        let build =
            Build::new(session, &project.manifest, options, &digests).map_err(|error| failure(&error))?;
        let build = build.only_looking();
        let plan = build.plan();
        body(&build, &plan)
    })
}

/// The node's part of a plan.
pub(crate) fn planned(plan: &Plan, id: NodeId) -> Option<&Planned> {
    plan.nodes.iter().find(|(node, _)| *node == id).map(|(_, planned)| planned)
}

/// `fresh`, `restore`, `run`, `depends` or `fail`.
pub(crate) fn word(planned: &Planned) -> &'static str {
    match planned {
        Planned::UpToDate(_) => "fresh",
        Planned::Restore(..) => "restore",
        Planned::Run(..) => "run",
        Planned::Depends(_) => "depends",
        Planned::Broken(_) => "fail",
    }
}

/// `build --dry-run`: one line for each step.
pub(crate) fn dry_run(
    project: &Project,
    options: &Options,
    settings: &Settings,
    shell: &Shell,
) -> Result<Exit, Failure> {
    look(project, options, settings, shell, |build, plan| {
        for (id, planned) in &plan.nodes {
            let node = build.graph().node(*id);
            if shell.is_json() {
                shell.json_line(&json(build, *id, planned));
            } else {
                let name = &node.id;
                let line = match planned {
                    Planned::UpToDate(_) => format!("fresh    {name}"),
                    Planned::Restore(known, _) => {
                        format!("restore  {name}: {}", super::why::files(&known.result.outputs))
                    }
                    Planned::Run(_, reason) => format!("run      {name}: {reason}"),
                    Planned::Depends(needs) => format!("depends  {name}: on {}", names(build, needs)),
                    Planned::Broken(error) => format!("fail     {name}: {error}"),
                };
                shell.out(&format!("{line}\n"));
            }
        }
        Ok(Exit::Success)
    })
}

fn json(build: &Build<'_>, id: NodeId, planned: &Planned) -> serde_json::Value {
    let node = build.graph().node(id);
    let (mut key, mut reason, mut depends_on, mut error) = (None, None, Vec::new(), None);
    match planned {
        Planned::UpToDate(known) | Planned::Restore(known, _) => key = Some(known.key),
        Planned::Run(of, why) => (key, reason) = (Some(*of), Some(why)),
        Planned::Depends(needs) => depends_on = needs.iter().map(|id| &build.graph().node(*id).id).collect(),
        Planned::Broken(why) => error = Some(why),
    }
    serde_json::json!({
        "kind": "planned",
        "step": node.id.step,
        "platform": node.id.platform,
        "plan": word(planned),
        "key": key,
        "reason": reason,
        "depends_on": depends_on,
        "error": error,
    })
}

/// `a, b (linux/arm64)`.
pub(crate) fn names(build: &Build<'_>, ids: &[NodeId]) -> String {
    let names: Vec<String> = ids.iter().map(|id| build.graph().node(*id).id.to_string()).collect();
    names.join(", ")
}
