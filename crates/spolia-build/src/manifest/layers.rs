//! `Project → Plan → Manifest`: each step on each platform, with the variant and the platform's
//! overrides laid over it. Pure.
//!
//! | layer, later over earlier | `env` | every other field |
//! |---|---|---|
//! | the step | merged | replaced |
//! | the variant's `env` | merged | |
//! | the variant's override of the step | merged | replaced |
//! | the platform's override of the step | merged | replaced |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use spolia_core::Platform;
use spolia_core::action::Output;
use spolia_core::conf::{Problems, Spanned};
use spolia_core::glob::PatternList;

use super::model::{Defined, Manifest, Run, Source, Step, StepBody};
use super::names::Project;
use super::step::{Fields, Name, Platforms, RawStep, Use};

/// All steps on their platforms, in the order of [`Project::steps`].
pub(crate) struct Plan<'r> {
    pub(crate) steps: Vec<PlannedStep<'r>>,
}

/// One step on its platforms.
pub(crate) struct PlannedStep<'r> {
    pub(crate) raw: &'r RawStep,
    /// The platforms it is built for, each with the index of its group.
    pub(crate) platforms: Vec<(Platform, usize)>,
    /// Platforms with the same layers.
    pub(crate) groups: Vec<Group<'r>>,
}

/// A step with its layers.
pub(crate) struct Group<'r> {
    layers: Vec<&'r Fields>,
}

impl<'r> Plan<'r> {
    /// Lays the layers.
    pub(crate) fn new(project: &Project<'r>) -> Self {
        let plan = |step: &&'r RawStep| PlannedStep::new(step, project);
        Self { steps: project.steps.iter().map(plan).collect() }
    }

    /// What was checked, as plain data.
    pub(crate) fn into_manifest(self, project: &Project<'_>, problems: &Problems) -> Manifest {
        let steps: Vec<Step> = self.steps.iter().map(|step| step.to_step(problems)).collect();
        let by_name: HashMap<String, usize> =
            steps.iter().enumerate().map(|(at, step)| (step.name.clone(), at)).collect();
        Manifest {
            name: project.name.cloned(),
            platforms: project.platforms.clone(),
            platform_vars: project.platform_vars.clone(),
            pools: project.pools.clone(),
            steps,
            cache: project.cache.clone(),
            by_name,
        }
    }
}

impl<'r> PlannedStep<'r> {
    fn new(raw: &'r RawStep, project: &Project<'r>) -> Self {
        let mut base = vec![&raw.fields];
        base.extend(project.variant.map(|variant| &variant.env));
        base.extend(project.variant_steps.get(raw.name.value.as_str()));
        let mut groups: Vec<Group<'r>> = Vec::with_capacity(1);
        let mut plain: Option<usize> = None;
        let mut platforms = Vec::new();
        for platform in platforms_of(raw, project) {
            let own = raw.overrides.iter().find(|(one, _)| one.value == platform).map(|(_, fields)| fields);
            let group = match (own, plain) {
                (None, Some(group)) => group,
                (None, None) => {
                    groups.push(Group { layers: base.clone() });
                    *plain.insert(groups.len() - 1)
                }
                (Some(own), _) => {
                    let layers = base.iter().copied().chain(std::iter::once(own)).collect();
                    groups.push(Group { layers });
                    groups.len() - 1
                }
            };
            platforms.push((platform, group));
        }
        Self { raw, platforms, groups }
    }

    /// The platforms of group `at`.
    pub(crate) fn platforms_of(&self, at: usize) -> impl Iterator<Item = &Platform> {
        self.platforms.iter().filter(move |(_, group)| *group == at).map(|(platform, _)| platform)
    }

    /// The platform on which it serves a step on `platform`: that one, or `any`.
    pub(crate) fn serving(&self, platform: &Platform) -> Option<usize> {
        let at = |wanted: &Platform| self.platforms.iter().position(|(one, _)| one == wanted);
        at(platform).or_else(|| at(&Platform::Any))
    }

    fn to_step(&self, problems: &Problems) -> Step {
        let bodies: Vec<Option<Arc<StepBody>>> =
            self.groups.iter().map(|group| group.body(self.raw).map(Arc::new)).collect();
        let body = |(platform, group): &(Platform, usize)| Some((platform.clone(), bodies[*group].clone()?));
        let (file, line) = Project::place(self.raw, problems);
        Step {
            name: self.raw.name.value.clone(),
            defined: Defined { file, line },
            bodies: self.platforms.iter().filter_map(body).collect(),
        }
    }
}

fn platforms_of(raw: &RawStep, project: &Project<'_>) -> Vec<Platform> {
    match &raw.platforms {
        Some(Platforms::Any) => vec![Platform::Any],
        None => project.platforms.clone(),
        Some(Platforms::List(list)) => {
            let wanted = list.iter().map(|platform| &platform.value);
            wanted.filter(|platform| project.platforms.contains(platform)).cloned().collect()
        }
    }
}

impl<'r> Group<'r> {
    /// The last layer that has a field.
    fn last<T: ?Sized>(&self, field: impl Fn(&'r Fields) -> Option<&'r T>) -> Option<&'r T> {
        self.layers.iter().rev().find_map(|layer| field(layer))
    }

    pub(crate) fn run(&self) -> Option<&'r Spanned<Run>> {
        self.last(|layer| layer.run.as_ref())
    }

    pub(crate) fn needs(&self) -> &'r [Name] {
        self.last(|layer| layer.needs.as_deref()).unwrap_or_default()
    }

    pub(crate) fn outputs(&self) -> Option<&'r Spanned<Vec<Spanned<Output>>>> {
        self.last(|layer| layer.outputs.as_ref())
    }

    pub(crate) fn pass_env(&self) -> &'r [Name] {
        self.last(|layer| layer.pass_env.as_deref()).unwrap_or_default()
    }

    pub(crate) fn to(&self) -> Option<&'r Name> {
        self.last(|layer| layer.to.as_ref())
    }

    pub(crate) fn source(&self) -> Option<&'r Spanned<Source>> {
        self.last(|layer| layer.source.as_ref())
    }

    /// Each variable that is set, with its value and the layer it comes from.
    pub(crate) fn env(&self) -> BTreeMap<&'r str, (&'r str, usize)> {
        let mut env = BTreeMap::new();
        for (at, layer) in self.layers.iter().enumerate() {
            for (name, value) in &layer.env {
                env.insert(name.value.as_str(), (value.as_str(), at));
            }
        }
        env
    }

    /// The placeholders of all fields that count.
    pub(crate) fn uses(&self) -> Vec<&'r Use> {
        let mut uses: Vec<&Use> = Vec::new();
        let with = |has: fn(&Fields) -> bool| self.layers.iter().rev().find(move |layer| has(layer));
        uses.extend(with(|layer| layer.run.is_some()).iter().flat_map(|layer| &layer.uses.run));
        uses.extend(with(|layer| layer.tools.is_some()).iter().flat_map(|layer| &layer.uses.tools));
        uses.extend(with(|layer| layer.to.is_some()).iter().flat_map(|layer| &layer.uses.to));
        if self.layers.iter().any(|layer| !layer.uses.env.is_empty()) {
            let env = self.env();
            for (at, layer) in self.layers.iter().enumerate() {
                let counts = |name: &str| env.get(name).is_some_and(|(_, from)| *from == at);
                uses.extend(layer.uses.env.iter().filter(|(name, _)| counts(name)).map(|(_, one)| one));
            }
        }
        uses
    }

    /// The body; `None` only for a step whose lack of `run` was reported.
    fn body(&self, raw: &RawStep) -> Option<StepBody> {
        let inputs = self.last(|layer| layer.inputs.as_ref());
        let own = |names: &[Name]| names.iter().map(|name| name.value.clone()).collect();
        Some(StepBody {
            folder: raw.folder.clone(),
            run: self.run()?.value.clone(),
            needs: own(self.needs()),
            inputs: inputs.map_or_else(
                || PatternList::new(raw.folder.clone(), Vec::new()),
                |inputs| inputs.patterns.clone(),
            ),
            input_texts: inputs.map(|inputs| inputs.texts.clone()).unwrap_or_default(),
            env: self
                .env()
                .into_iter()
                .map(|(name, (value, _))| (name.to_owned(), value.to_owned()))
                .collect(),
            pass_env: own(self.pass_env()),
            tools: self.last(|layer| layer.tools.as_ref()).cloned().unwrap_or_default(),
            outputs: self.outputs()?.value.iter().map(|output| output.value.clone()).collect(),
            to: self.to().map(|to| to.value.clone()),
            source: self.source().map(|source| source.value.clone()),
            network: self.last(|layer| layer.network.as_ref()).copied().unwrap_or(false),
            mounts: self.last(|layer| layer.mounts.as_ref()).cloned().unwrap_or_default(),
            timeout_ms: self.last(|layer| layer.timeout_ms.as_ref()).copied(),
            retries: self.last(|layer| layer.retries.as_ref()).copied().unwrap_or(0),
            pool: self.last(|layer| layer.pool.as_ref()).map(|pool| pool.value.clone()),
            engine: self.last(|layer| layer.engine.as_ref()).copied(),
            strict_base: self.last(|layer| layer.strict_base.as_ref()).copied().unwrap_or(false),
            salt: self.last(|layer| layer.salt.as_ref()).cloned().unwrap_or_default(),
        })
    }
}
