//! Steps that need each other. Pure; walks without recursion, since a chain may be as long as a file.

use std::collections::HashSet;

use spolia_core::conf::{Problem, Problems, Span};

use super::layers::Plan;
use super::names::Project;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not seen yet.
    New,
    /// On the path that is being walked.
    Open,
    /// All it needs was seen.
    Done,
}

/// A step on one of its platforms.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    step: usize,
    platform: usize,
}

/// A node on the path, the need that is looked at next, and the one taken.
struct Visit {
    node: Node,
    next: usize,
    taken: Span,
}

struct Walk<'c, 'r> {
    plan: &'c Plan<'r>,
    project: &'c Project<'r>,
    states: Vec<Vec<State>>,
    path: Vec<Visit>,
    told: HashSet<Vec<usize>>,
}

/// Tells each cycle once, whole.
pub(crate) fn check_cycles(plan: &Plan<'_>, project: &Project<'_>, problems: &mut Problems) {
    let states = plan.steps.iter().map(|step| vec![State::New; step.platforms.len()]).collect();
    let mut walk = Walk { plan, project, states, path: Vec::new(), told: HashSet::new() };
    for step in 0..plan.steps.len() {
        for platform in 0..plan.steps[step].platforms.len() {
            walk.from(Node { step, platform }, problems);
        }
    }
}

impl Walk<'_, '_> {
    fn from(&mut self, start: Node, problems: &mut Problems) {
        self.open(start);
        while let Some(visit) = self.path.last_mut() {
            let node = visit.node;
            let step = &self.plan.steps[node.step];
            let (platform, group) = &step.platforms[node.platform];
            let Some(need) = step.groups[*group].needs().get(visit.next) else {
                self.states[node.step][node.platform] = State::Done;
                self.path.pop();
                continue;
            };
            visit.next += 1;
            visit.taken = need.span;
            let Some(target) = self.project.by_name.get(need.value.as_str()) else { continue };
            let Some(platform) = self.plan.steps[*target].serving(platform) else { continue };
            let target = Node { step: *target, platform };
            if self.states[target.step][target.platform] == State::Open {
                self.tell(target, problems);
            } else {
                self.open(target);
            }
        }
    }

    fn open(&mut self, node: Node) {
        let state = &mut self.states[node.step][node.platform];
        if *state == State::New {
            *state = State::Open;
            self.path.push(Visit { node, next: 0, taken: Span::default() });
        }
    }

    /// The path from `target` on leads back to it.
    fn tell(&mut self, target: Node, problems: &mut Problems) {
        let Some(from) = self.path.iter().position(|visit| visit.node == target) else { return };
        let mut cycle: Vec<(usize, Span)> =
            self.path[from..].iter().map(|visit| (visit.node.step, visit.taken)).collect();
        // It starts with the step that comes first in the files, wherever it was entered.
        let first = (0..cycle.len()).min_by_key(|at| cycle[*at].0).unwrap_or(0);
        cycle.rotate_left(first);
        if !self.told.insert(cycle.iter().map(|(step, _)| *step).collect()) {
            return;
        }
        problems.push(self.problem(&cycle));
    }

    fn problem(&self, cycle: &[(usize, Span)]) -> Problem {
        let name = |at: usize| self.plan.steps[cycle[at % cycle.len()].0].raw.name.value.as_str();
        let names: Vec<String> = (0..=cycle.len()).map(|at| format!("`{}`", name(at))).collect();
        let message = match cycle.len() {
            1 => format!("step `{}` needs itself", name(0)),
            _ => format!("steps need each other: {}", shorten(&names).join(" → ")),
        };
        let mut problem = Problem::error(cycle[0].1, message);
        if cycle.len() > 1 {
            problem = problem.label(format!("`{}` needs `{}`", name(0), name(1)));
        }
        for (at, (_, span)) in cycle.iter().enumerate().take(SHOWN_MAX).skip(1) {
            problem = problem.also(*span, format!("`{}` needs `{}`", name(at), name(at + 1)));
        }
        problem
    }
}

/// Of a cycle longer than this only the start is shown.
const SHOWN_MAX: usize = 12;

fn shorten(names: &[String]) -> Vec<String> {
    if names.len() <= SHOWN_MAX + 1 {
        return names.to_vec();
    }
    let mut short = names[..SHOWN_MAX].to_vec();
    short.push(format!("… ({} more)", names.len() - SHOWN_MAX - 1));
    short.extend(names.last().cloned());
    short
}
