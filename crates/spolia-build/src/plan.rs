//! What a build would do: `Graph → keys → Plan`. Keys nodes and looks them up; changes nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use spolia_core::event::{EventKind, Tier};
use spolia_core::key::Keyed;
use spolia_core::{Action, ActionKey, ActionResult, Explanation, MissReason, RelPath, Tree};
use spolia_engine::perform::{Lookup, Presence, appeared, chain};
use spolia_engine::tools::Tool;
use spolia_store::Place;

use crate::build::Build;
use crate::graph::NodeId;
use crate::keying::{self, Ingredients};
use crate::manifest::EngineKind;
use crate::state::Remembered;

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
pub(crate) struct Keyable {
    pub(crate) action: Action,
    pub(crate) key: ActionKey,
    pub(crate) whole_folders: Arc<Vec<RelPath>>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) engine: EngineKind,
}

impl Build<'_> {
    /// The action and key of a node whose needs are known.
    pub(crate) fn key(&self, id: NodeId, outputs: &HashMap<NodeId, Arc<Tree>>) -> Result<Keyable, String> {
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
    pub(crate) fn look_up(&self, id: NodeId, keyable: &Keyable) -> Planned {
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
