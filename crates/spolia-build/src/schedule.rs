//! Which node may run next. Pure: `Graph → Schedule`, told of what happened, asked what to do.

use std::collections::{BTreeSet, HashMap};

use crate::graph::{Graph, NodeId};

/// What is true of a node. See [`Schedule::set`] for the ways between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not part of this build.
    Unwanted,
    /// Something it needs has not succeeded yet.
    Waiting,
    /// All it needs has succeeded; nobody has begun it.
    Ready,
    /// Somebody is at it, and it takes a place in its pool.
    Running,
    /// Its outputs are there.
    Succeeded,
    /// It failed.
    Failed,
    /// It will not run: something it needs failed, or the build was stopped.
    Skipped,
}

/// The states of all nodes, and an order among the ready ones.
pub struct Schedule {
    states: Vec<State>,
    open_needs: Vec<u32>,
    /// By weight, heaviest first, then in graph order.
    ready: BTreeSet<(std::cmp::Reverse<u64>, NodeId)>,
    weights: Vec<u64>,
    pools: Vec<Option<usize>>,
    free: Vec<u32>,
    running: usize,
    left: usize,
}

impl Schedule {
    /// For the `selected` nodes. `cost_us` is how long a node took last time, 0 where that is not known:
    /// the longest way to the end goes first. `pools` says how many of a pool run at once.
    pub fn new(
        graph: &Graph<'_>,
        selected: &[NodeId],
        cost_us: &dyn Fn(NodeId) -> u64,
        pools: &std::collections::BTreeMap<String, u32>,
    ) -> Self {
        let names: HashMap<&String, usize> = pools.keys().enumerate().map(|(at, name)| (name, at)).collect();
        let pool = |id| graph.node(id).body.pool.as_ref().and_then(|pool| names.get(pool).copied());
        let mut schedule = Self {
            states: vec![State::Unwanted; graph.len()],
            open_needs: vec![0; graph.len()],
            ready: BTreeSet::new(),
            weights: vec![0; graph.len()],
            pools: graph.ids().map(pool).collect(),
            free: pools.values().copied().collect(),
            running: 0,
            left: selected.len(),
        };
        for id in selected {
            schedule.states[id.0 as usize] = State::Waiting;
        }
        for id in selected.iter().rev() {
            let node = graph.node(*id);
            let after = node.dependants.iter().map(|next| schedule.weights[next.0 as usize]).max();
            schedule.weights[id.0 as usize] =
                cost_us(*id).saturating_add(after.unwrap_or(0)).saturating_add(1);
            schedule.open_needs[id.0 as usize] = u32::try_from(node.needs.len()).unwrap_or(u32::MAX);
        }
        for id in selected {
            if schedule.open_needs[id.0 as usize] == 0 {
                schedule.set(*id, State::Ready);
            }
        }
        schedule
    }

    /// The one place where states change.
    fn set(&mut self, id: NodeId, state: State) {
        let at = id.0 as usize;
        let old = std::mem::replace(&mut self.states[at], state);
        debug_assert!(
            matches!(
                (old, state),
                (State::Waiting, State::Ready | State::Skipped)
                    | (State::Ready, State::Running | State::Skipped)
                    | (State::Running, State::Succeeded | State::Failed | State::Skipped)
            ),
            "{old:?} → {state:?}"
        );
        let place = (std::cmp::Reverse(self.weights[at]), id);
        match old {
            State::Ready => drop(self.ready.remove(&place)),
            State::Running => {
                self.running -= 1;
                if let Some(pool) = self.pools[at] {
                    self.free[pool] += 1;
                }
            }
            _ => {}
        }
        match state {
            State::Ready => drop(self.ready.insert(place)),
            State::Running => {
                self.running += 1;
                if let Some(pool) = self.pools[at] {
                    self.free[pool] -= 1;
                }
            }
            State::Succeeded | State::Failed | State::Skipped => self.left -= 1,
            State::Waiting | State::Unwanted => {}
        }
    }

    /// The ready node to begin next: the one with the longest way to the end whose pool has room.
    pub fn next_ready(&self) -> Option<NodeId> {
        self.ready
            .iter()
            .map(|(_, id)| *id)
            .find(|id| self.pools[id.0 as usize].is_none_or(|pool| self.free[pool] > 0))
    }

    /// Somebody begins it.
    pub fn begin(&mut self, id: NodeId) {
        self.set(id, State::Running);
    }

    /// It succeeded: what waited only for it is ready.
    pub fn succeed(&mut self, graph: &Graph<'_>, id: NodeId) {
        self.set(id, State::Succeeded);
        for next in &graph.node(id).dependants {
            let at = next.0 as usize;
            if self.states[at] == State::Waiting {
                self.open_needs[at] -= 1;
                if self.open_needs[at] == 0 {
                    self.set(*next, State::Ready);
                }
            }
        }
    }

    /// It failed: nothing that needs it will run. Gives those, in graph order.
    pub fn fail(&mut self, graph: &Graph<'_>, id: NodeId) -> Vec<NodeId> {
        self.set(id, State::Failed);
        self.skip_dependants(graph, id)
    }

    /// It was stopped half-way, by no fault of its own.
    pub fn abandon(&mut self, graph: &Graph<'_>, id: NodeId) -> Vec<NodeId> {
        self.set(id, State::Skipped);
        self.skip_dependants(graph, id)
    }

    fn skip_dependants(&mut self, graph: &Graph<'_>, id: NodeId) -> Vec<NodeId> {
        let mut skipped = BTreeSet::new();
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            for next in &graph.node(at).dependants {
                if self.states[next.0 as usize] == State::Waiting {
                    self.set(*next, State::Skipped);
                    skipped.insert(*next);
                    open.push(*next);
                }
            }
        }
        skipped.into_iter().collect()
    }

    /// Nothing new begins. Gives what will not run, in graph order.
    pub fn stop(&mut self) -> Vec<NodeId> {
        let waiting = |at: &usize| matches!(self.states[*at], State::Waiting | State::Ready);
        let all: Vec<usize> = (0..self.states.len()).filter(waiting).collect();
        let ids: Vec<NodeId> =
            all.into_iter().map(|at| NodeId(u32::try_from(at).unwrap_or(u32::MAX))).collect();
        for id in &ids {
            self.set(*id, State::Skipped);
        }
        ids
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether every selected node has ended.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The state of a node.
    pub fn state(&self, id: NodeId) -> State {
        self.states[id.0 as usize]
    }
}
