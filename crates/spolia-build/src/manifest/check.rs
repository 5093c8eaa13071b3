//! What each step must be on each platform: complete, and using only what is there. Pure.

use std::collections::{BTreeMap, HashSet};

use spolia_core::Platform;
use spolia_core::conf::{Problem, Problems, and_list};

use super::cycle::check_cycles;
use super::layers::{Group, Plan, PlannedStep};
use super::names::{Project, unknown_step};
use super::publish::check_publishing;
use super::step::{Name, Use};

/// `${platform.KEY}` of every platform.
pub(crate) struct Vars(Vec<(Platform, BTreeMap<String, String>)>);

impl Vars {
    /// Those of `platform`; there are few platforms, so looking through them is quickest.
    pub(crate) fn of(&self, platform: &Platform) -> Option<&BTreeMap<String, String>> {
        self.0.iter().find(|(one, _)| one == platform).map(|(_, vars)| vars)
    }
}

/// Says everything that is wrong with the steps.
pub(crate) fn check(project: &Project<'_>, plan: &Plan<'_>, problems: &mut Problems) {
    let vars = all_vars(project);
    for step in &plan.steps {
        check_overrides(step, project, problems);
        for (at, group) in step.groups.iter().enumerate() {
            let one = OnePlatform { project, plan, step, group, at };
            one.check(&vars, problems);
        }
    }
    check_cycles(plan, project, problems);
    check_publishing(plan, &vars, problems);
}

fn all_vars(project: &Project<'_>) -> Vars {
    let all = project.platforms.iter().chain(std::iter::once(&Platform::Any));
    let vars = all.map(|platform| {
        let mut vars = platform.default_vars(&project.host);
        if let Some(own) = project.platform_vars.get(platform) {
            vars.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        (platform.clone(), vars)
    });
    Vars(vars.collect())
}

/// An override for a platform that the step is never built for has no effect.
fn check_overrides(step: &PlannedStep<'_>, project: &Project<'_>, problems: &mut Problems) {
    use super::step::Platforms;
    for (platform, _) in &step.raw.overrides {
        let built = match &step.raw.platforms {
            Some(Platforms::Any) => platform.value == Platform::Any,
            Some(Platforms::List(list)) => list.iter().any(|one| one.value == platform.value),
            None => !project.platforms_given || project.all_platforms.contains(&platform.value),
        };
        if !built && !step.raw.broken {
            let message = format!("step `{}` is not built for {}", step.raw.name.value, platform.value);
            problems.push(Problem::warning(platform.span, message).label("has no effect"));
        }
    }
}

/// A step on the platforms of one group.
struct OnePlatform<'c, 'r> {
    project: &'c Project<'r>,
    plan: &'c Plan<'r>,
    step: &'c PlannedStep<'r>,
    group: &'c Group<'r>,
    at: usize,
}

impl OnePlatform<'_, '_> {
    fn check(&self, vars: &Vars, problems: &mut Problems) {
        if !self.step.raw.broken {
            self.complete(problems);
        }
        self.source(problems);
        self.env(problems);
        self.uses(vars, problems);
        for need in self.group.needs() {
            self.need(need, problems);
        }
    }

    fn name(&self) -> &str {
        &self.step.raw.name.value
    }

    /// ` on linux/arm64` where that is not the whole truth.
    fn on(&self) -> String {
        if self.step.groups.len() == 1 {
            return String::new();
        }
        let names: Vec<String> = self.step.platforms_of(self.at).map(ToString::to_string).collect();
        format!(" on {}", names.join(", "))
    }

    fn complete(&self, problems: &mut Problems) {
        let span = self.step.raw.name.span;
        if self.group.run().is_none() {
            let message = format!("step `{}` has no `run`{}", self.name(), self.on());
            problems.push(Problem::error(span, message));
        }
        if self.group.outputs().is_none() {
            let message = format!("step `{}` does not say its `outputs`{}", self.name(), self.on());
            problems.push(Problem::error(span, message).hint("write `outputs = []` for a check"));
        }
    }

    fn source(&self, problems: &mut Problems) {
        let (Some(source), Some(outputs)) = (self.group.source(), self.group.outputs()) else { return };
        if outputs.value.len() != 1 {
            let message = format!("step `{}` fetches a source, so it must have one output", self.name());
            problems
                .push(Problem::error(outputs.span, message).also(source.span, "the digest of that output"));
        }
    }

    fn env(&self, problems: &mut Problems) {
        if self.group.pass_env().is_empty() {
            return;
        }
        let env = self.group.env();
        for name in self.group.pass_env().iter().filter(|name| env.contains_key(name.value.as_str())) {
            let message = format!("`{}` is set in `env`, so the caller's is not passed", name.value);
            problems.push(Problem::warning(name.span, message));
        }
    }

    /// What is wrong with a name is said where it is used first.
    fn uses(&self, vars: &Vars, problems: &mut Problems) {
        let mut told: HashSet<(bool, &str)> = HashSet::new();
        for one in self.group.uses() {
            let (is_var, name) = match one {
                Use::Var(key) => (true, key),
                Use::Step(name) => (false, name),
            };
            if !told.is_empty() && told.contains(&(is_var, name.value.as_str())) {
                continue;
            }
            let before = problems.error_count();
            if is_var {
                self.var(name, vars, problems)
            } else {
                self.step_used(name, problems)
            }
            if problems.error_count() > before {
                told.insert((is_var, &name.value));
            }
        }
    }

    fn var(&self, key: &Name, vars: &Vars, problems: &mut Problems) {
        let of = |platform: &Platform| vars.of(platform);
        let lacking: Vec<&Platform> = self
            .step
            .platforms_of(self.at)
            .filter(|platform| of(platform).is_none_or(|vars| !vars.contains_key(&key.value)))
            .collect();
        let Some(first) = lacking.first() else { return };
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        let message = format!("`${{platform.{}}}` has no value for {}", key.value, and_list(&names));
        let problem = Problem::error(key.span, message);
        if **first == Platform::Any {
            problems.push(problem.hint("a step with `platforms = \"any\"` has no platform to take it from"));
            return;
        }
        let known = of(first).into_iter().flat_map(|vars| vars.keys().map(String::as_str));
        let problem = problem.near(&key.value, known);
        let hint = format!("add `{} = \"…\"` below `[platform.\"{first}\"]`", key.value);
        problems.push(if problem.hints.is_empty() { problem.hint(hint) } else { problem });
    }

    fn step_used(&self, name: &Name, problems: &mut Problems) {
        if self.group.needs().iter().any(|need| need.value == name.value) {
            return;
        }
        let message = format!("step `{}` uses `${{step.{}}}` but does not need it", self.name(), name.value);
        let problem = Problem::error(name.span, message);
        if self.project.by_name.contains_key(name.value.as_str()) {
            problems.push(problem.hint(format!("add `\"{}\"` to `needs`", name.value)));
        } else {
            problems.push(unknown_step(problem, &name.value, self.project));
        }
    }

    /// A needed step must be there on each platform of this one, or be `any`.
    fn need(&self, need: &Name, problems: &mut Problems) {
        let Some(at) = self.project.by_name.get(need.value.as_str()) else { return };
        let needed = &self.plan.steps[*at];
        let lacking: Vec<String> = self
            .step
            .platforms_of(self.at)
            .filter(|platform| needed.serving(platform).is_none())
            .map(ToString::to_string)
            .collect();
        if lacking.is_empty() || needed.raw.broken {
            return;
        }
        let (name, other) = (self.name(), &need.value);
        if lacking == ["any"] {
            let message = format!(
                "step `{name}` is built once for all platforms but needs `{other}`, which is built for each"
            );
            let hint = format!("take `platforms = \"any\"` from `{name}`, or give it to `{other}`");
            problems.push(Problem::error(need.span, message).hint(hint));
        } else {
            let message = format!(
                "step `{name}` needs `{other}` for {}, which it is not built for",
                and_list(&lacking)
            );
            let hint = format!("add the platform to `{other}`, or take it from `{name}`");
            problems.push(Problem::error(need.span, message).hint(hint));
        }
    }
}
