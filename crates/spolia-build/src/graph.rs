//! `Manifest → Graph`: one node for each step and platform. Pure.

use std::collections::HashMap;

use spolia_core::event::StepId;
use spolia_core::{Platform, RelPath};

use crate::manifest::{Manifest, Step, StepBody};

/// A node by its place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A step on a platform.
#[derive(Clone, Debug)]
pub struct GraphNode<'m> {
    /// Its names.
    pub id: StepId,
    /// The step.
    pub step: &'m Step,
    /// What it does on this platform.
    pub body: &'m StepBody,
    /// What it needs, by name, in the order written.
    pub needs: Vec<NodeId>,
    /// Who needs it.
    pub dependants: Vec<NodeId>,
    /// Where its outputs are published, relative to the project's folder.
    pub place: OutputPlace,
}

/// Where outputs are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPlace {
    /// The folder.
    pub at: RelPath,
    /// Whether the folder holds nothing else.
    pub exact: bool,
}

/// Why there is no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A name that no step has.
    #[error("no step is named `{name}`")]
    NoStep {
        /// The name.
        name: String,
        /// A name that is like it.
        near: Option<String>,
    },
    /// A step is not built for any of the platforms asked for.
    #[error("no step is built for `{platform}`")]
    NoPlatform {
        /// The platform.
        platform: Platform,
        /// The platforms there are.
        known: Vec<Platform>,
    },
    /// A step that was named is not built for any of the platforms asked for.
    #[error("step `{name}` is not built for {}", .asked.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(" or "))]
    BuiltElsewhere {
        /// The step.
        name: String,
        /// The platforms asked for; those of the project, or of the variant, if none was.
        asked: Vec<Platform>,
        /// The platforms it is built for; none where none of its own is the project's, or the variant's.
        known: Vec<Platform>,
    },
    /// Steps that need each other.
    #[error("these steps need each other: {}", steps.join(" → "))]
    Cycle {
        /// One round, the first name again at the end.
        steps: Vec<String>,
    },
    /// A needed step is not there for the platform.
    #[error("{step} needs `{need}`, which is not built for it")]
    NotBuiltFor {
        /// Who needs it.
        step: StepId,
        /// Which.
        need: String,
    },
    /// Its `to` is no place in the project.
    #[error("{step} cannot be published: {error}")]
    Place {
        /// Which.
        step: StepId,
        /// Why.
        error: spolia_core::path::RelPathError,
    },
}

/// All nodes in an order in which every node comes after what it needs.
#[derive(Clone, Debug)]
pub struct Graph<'m> {
    nodes: Vec<GraphNode<'m>>,
    manifest: &'m Manifest,
}

impl<'m> Graph<'m> {
    /// The whole graph of `manifest`.
    ///
    /// # Errors
    /// See [`GraphError`]; a checked manifest gives none of them.
    pub fn new(manifest: &'m Manifest) -> Result<Self, GraphError> {
        let mut unsorted = Vec::new();
        let mut by_id: HashMap<(&str, &Platform), usize> = HashMap::new();
        for step in &manifest.steps {
            for (platform, body) in &step.bodies {
                by_id.insert((&step.name, platform), unsorted.len());
                unsorted.push((step, platform, body));
            }
        }
        let mut needs: Vec<Vec<usize>> = Vec::with_capacity(unsorted.len());
        for (step, platform, body) in &unsorted {
            let all = body.needs.iter().map(|need| {
                let own = by_id.get(&(need.as_str(), *platform));
                own.or_else(|| by_id.get(&(need.as_str(), &Platform::Any))).copied().ok_or_else(|| {
                    GraphError::NotBuiltFor {
                        step: StepId { step: step.name.clone(), platform: (*platform).clone() },
                        need: need.clone(),
                    }
                })
            });
            needs.push(all.collect::<Result<_, _>>()?);
        }
        let order = order(&needs).map_err(|cycle| GraphError::Cycle {
            steps: cycle.into_iter().map(|at| unsorted[at].0.name.clone()).collect(),
        })?;
        let mut place_of = vec![NodeId(0); order.len()];
        for (place, at) in order.iter().enumerate() {
            place_of[*at] = NodeId(u32::try_from(place).unwrap_or(u32::MAX));
        }
        let mut nodes = Vec::with_capacity(order.len());
        for at in &order {
            let (step, platform, body) = unsorted[*at];
            let id = StepId { step: step.name.clone(), platform: platform.clone() };
            let place = output_place(&id, body, manifest)?;
            let needs = needs[*at].iter().map(|need| place_of[*need]).collect();
            nodes.push(GraphNode { id, step, body, needs, dependants: Vec::new(), place });
        }
        for at in 0..nodes.len() {
            for need in nodes[at].needs.clone() {
                nodes[need.index()].dependants.push(NodeId(u32::try_from(at).unwrap_or(u32::MAX)));
            }
        }
        Ok(Self { nodes, manifest })
    }

    /// Every node, needed ones first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// The node.
    pub fn node(&self, id: NodeId) -> &GraphNode<'m> {
        &self.nodes[id.index()]
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing to build.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes of the named steps (all if none is named) on the given platforms (all if none), and all
    /// that they need; in order. A step for all platforms at once is taken with any of them.
    ///
    /// # Errors
    /// A name or platform that is not there.
    pub fn select(&self, steps: &[String], platforms: &[Platform]) -> Result<Vec<NodeId>, GraphError> {
        for name in steps {
            if self.manifest.steps.iter().all(|step| step.name != *name) {
                let near = self
                    .nodes
                    .iter()
                    .map(|node| &node.id.step)
                    .min_by_key(|known| strsim::damerau_levenshtein(known, name))
                    .filter(|known| strsim::damerau_levenshtein(known, name) <= name.len().div_ceil(3));
                return Err(GraphError::NoStep { name: name.clone(), near: near.cloned() });
            }
        }
        for platform in platforms {
            if !self.nodes.iter().any(|node| node.id.platform == *platform) {
                let mut known: Vec<Platform> =
                    self.nodes.iter().map(|node| node.id.platform.clone()).collect();
                known.sort();
                known.dedup();
                return Err(GraphError::NoPlatform { platform: platform.clone(), known });
            }
        }
        let fits = |platform: &Platform| {
            platforms.is_empty() || *platform == Platform::Any || platforms.contains(platform)
        };
        for name in steps {
            let nodes = || self.nodes.iter().filter(|node| node.id.step == *name);
            if !nodes().any(|node| fits(&node.id.platform)) {
                let asked = if platforms.is_empty() { &self.manifest.platforms } else { platforms };
                let known = nodes().map(|node| node.id.platform.clone()).collect();
                return Err(GraphError::BuiltElsewhere { name: name.clone(), asked: asked.to_vec(), known });
            }
        }
        let mut wanted = vec![false; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            wanted[at] = (steps.is_empty() || steps.contains(&node.id.step)) && fits(&node.id.platform);
        }
        for id in self.ids().rev() {
            if wanted[id.index()] {
                for need in &self.node(id).needs {
                    wanted[need.index()] = true;
                }
            }
        }
        Ok(self.ids().filter(|id| wanted[id.index()]).collect())
    }
}

fn output_place(id: &StepId, body: &StepBody, manifest: &Manifest) -> Result<OutputPlace, GraphError> {
    let bad = |error| GraphError::Place { step: id.clone(), error };
    let Some(to) = &body.to else {
        let raw = format!(".spolia/out/{}/{}", id.step, id.platform);
        return Ok(OutputPlace { at: RelPath::new(raw).map_err(bad)?, exact: true });
    };
    let vars = manifest.vars(&id.platform, &Platform::host());
    let text = crate::keying::expand_platform(to, &id.platform, &vars);
    let at = RelPath::new(text).map_err(bad)?;
    Ok(OutputPlace { at, exact: false })
}

/// Topological order, stable by position; or one cycle.
fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    for start in 0..needs.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // An own stack: a chain of 100,000 steps must not overflow the real one.
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let Some(need) = needs[*at].get(*next).copied() else {
                marks[*at] = Mark::Done;
                order.push(*at);
                path.pop();
                continue;
            };
            *next += 1;
            match marks[need] {
                Mark::Done => {}
                Mark::New => {
                    marks[need] = Mark::Open;
                    path.push((need, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(at, _)| *at == need).unwrap_or(0);
                    let mut cycle: Vec<usize> = path[from..].iter().map(|(at, _)| *at).collect();
                    cycle.push(need);
                    return Err(cycle);
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_ones_come_first_and_cycles_are_shown_whole() {
        assert_eq!(order(&[vec![2], vec![], vec![1]]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[vec![1], vec![2], vec![0]]), Err(vec![0, 1, 2, 0]));
        assert_eq!(order(&[vec![0]]), Err(vec![0, 0]));
        let chain: Vec<Vec<usize>> =
            (0..100_000).map(|at| if at == 0 { vec![] } else { vec![at - 1] }).collect();
        assert_eq!(order(&chain).unwrap().len(), 100_000);
    }
}
