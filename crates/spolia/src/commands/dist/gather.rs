//! `chosen tables → steps built → Built`, and the files of the tree that they name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use spolia_build::build::{Ended, Forced};
use spolia_build::index::Index;
use spolia_build::manifest::Manifest;
use spolia_build::{Build, Graph, NodeId, Options};
use spolia_core::event::{EventKind, StepId};
use spolia_core::glob::PatternList;
use spolia_core::{ActionKey, Explanation, Platform, RelPath, Tree};
use spolia_dist::manifest::Pick;
use spolia_dist::{Built, Dist, DistError};

use super::{Chosen, Work, failure};
use crate::commands::build::{how_options, observed};
use crate::exit::{Exit, Failure};

/// Folders and files that steps publish outside `.spolia`.
pub(super) fn published(manifest: &Manifest) -> Vec<RelPath> {
    let Ok(graph) = Graph::new(manifest) else { return Vec::new() };
    let nodes = graph.ids().map(|id| graph.node(id)).filter(|node| !node.place.exact);
    nodes.flat_map(|node| node.body.outputs.iter().map(|output| node.place.at.join(&output.path))).collect()
}

/// The steps whose outputs are packed.
pub(super) fn steps(chosen: &[Chosen<'_>]) -> BTreeSet<String> {
    let bodies = chosen
        .iter()
        .flat_map(|one| one.platforms.iter().filter_map(|platform| one.dist.bodies.get(platform)));
    let rules = bodies.flat_map(|body| &body.files);
    let steps = rules.filter_map(|rule| match &rule.from {
        Pick::Step { step, .. } => Some(step.clone()),
        Pick::Tree(_) => None,
    });
    steps.collect()
}

/// What of the graph is built for it.
pub(super) fn options(work: &Work<'_>, chosen: &[Chosen<'_>]) -> Options {
    let platforms: BTreeSet<&Platform> = chosen.iter().flat_map(|one| &one.platforms).collect();
    let forced = if work.args.no_cache { Forced::Everything } else { Forced::Nothing };
    Options {
        steps: steps(chosen).into_iter().collect(),
        platforms: platforms.into_iter().filter(|one| **one != Platform::Any).cloned().collect(),
        forced,
        ..how_options(&work.args.how, work.settings)
    }
}

/// Builds what is packed.
pub(super) fn build(
    work: &Work<'_>,
    chosen: &[Chosen<'_>],
) -> Result<(Exit, BTreeMap<StepId, Built>), Failure> {
    let options = options(work, chosen);
    if options.steps.is_empty() {
        return Ok((Exit::Success, BTreeMap::new()));
    }
    let built = RefCell::new(BTreeMap::new());
    let manifest = &work.project.manifest;
    let store = Arc::clone(&work.store);
    let observe = |kind: &EventKind| {
        if let EventKind::StepFinished { .. } = kind
            && let Ok(value) = serde_json::to_value(kind)
        {
            work.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        }
    };
    let (settings, shell) = (work.settings, work.shell);
    let exit = observed(work.root(), Some(manifest), store, settings, shell, &observe, |session| {
        let build = Build::new(session, manifest, &options, work.digests)?;
        let ended: Ended = build.run(None)?;
        // What a step is made of is worked out anew: a release does not depend on what a cache still holds.
        let plan = build.plan();
        for id in build.selected() {
            let Some(last) = build.last(*id) else { continue };
            let explanation = build.explain_now(&plan, *id).or_else(|| build.explanation(last.key));
            let one = of_node(work, build.graph(), *id, last.key, last.result.outputs, explanation);
            built.borrow_mut().insert(one.id.clone(), one);
        }
        Ok(ended)
    })?;
    Ok((exit, built.into_inner()))
}

/// What packing needs to know of a node.
pub(super) fn of_node(
    work: &Work<'_>,
    graph: &Graph<'_>,
    id: NodeId,
    key: ActionKey,
    outputs: Tree,
    explanation: Option<Explanation>,
) -> Built {
    let node = graph.node(id);
    let lines = explanation.map(|explanation| explanation.lines).unwrap_or_default();
    let top = |name: &str| {
        lines.iter().find(|line| line.group.is_empty() && line.name == name).map(|line| line.value.clone())
    };
    let tools = lines.iter().filter(|line| line.group == "tools");
    Built {
        key,
        // A source is keyed by its digest, wherever it was fetched.
        guarded: node.body.source.is_some() || top("guard").is_some_and(|guard| guard == "sandbox"),
        place: node.place.at.under(work.root()),
        outputs: Arc::new(outputs),
        needs: node.needs.iter().map(|need| graph.node(*need).id.clone()).collect(),
        tools: tools.map(|line| (line.name.clone(), line.value.clone())).collect(),
        system: top("system").filter(|system| !system.is_empty()),
        source: node.body.source.clone(),
        network: node.body.network,
        id: node.id.clone(),
    }
}

/// The files of the tree that the chosen tables name.
pub(crate) struct TreeFiles<'t> {
    index: Index<'t>,
}

impl<'t> TreeFiles<'t> {
    /// Walks what the patterns can select.
    pub(crate) fn new(work: &Work<'t>, all: &[Dist], chosen: &[Chosen<'_>]) -> Result<Self, Failure> {
        let rules = chosen.iter().flat_map(|one| one.dist.bodies.values()).flat_map(|body| &body.files);
        let lists: Vec<&PatternList> = rules
            .filter_map(|rule| match &rule.from {
                Pick::Tree(list) => Some(list),
                Pick::Step { .. } => None,
            })
            .collect();
        let own = work.own_folders(all).into_iter().collect();
        let index = Index::new(work.root(), &lists, own, work.digests).map_err(|error| {
            failure(&DistError::Io { verb: "read", path: error.path, source: error.source })
        })?;
        Ok(Self { index })
    }

    /// What `list` selects.
    pub(crate) fn find(&self, dist: &Dist, list: &PatternList, text: &str) -> Result<Arc<Tree>, DistError> {
        if let Some(path) = self.index.special(list) {
            let (dist, from) = (dist.name.clone(), text.to_owned());
            return Err(DistError::Special { dist, from, path: path.clone() });
        }
        let selected = self.index.select(list, &[text.to_owned()]).map_err(|error| DistError::Io {
            verb: "read",
            path: error.path,
            source: error.source,
        })?;
        if selected.tree.entries().is_empty() {
            let (dist, from) = (dist.name.clone(), text.to_owned());
            return Err(DistError::Nothing { dist, from, platform: String::new() });
        }
        Ok(selected.tree)
    }
}
