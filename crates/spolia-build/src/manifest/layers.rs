//! `Project → Plan → Step`: each step on each platform, with the variant and the platform's
//! overrides laid over it. Pure.
//!
//! | layer, later over earlier | `env` | every other field |
//! |---|---|---|
//! | the step | merged | replaced |
//! | the variant's `env` | merged | |
//! | the variant's override of the step | merged | replaced |
//! | the platform's override of the step | merged | replaced |

use std::collections::BTreeMap;
use std::sync::Arc;

use spolia_core::action::Output;
use spolia_core::conf::{Problems, Spanned};
use spolia_core::glob::PatternList;
use spolia_core::{Platform, RelPath};

use super::model::{Defined, Run, Source, Step, StepBody};
use super::names::Project;
use super::step::{Fields, Inputs, Name, Platforms, RawStep, Use, Uses};

/// All steps on their platforms, in the order of [`Project::steps`].
pub(crate) struct Plan<'r> {
    pub(crate) steps: Vec<PlannedStep<'r>>,
}

/// One step on its platforms.
pub(crate) struct PlannedStep<'r> {
    pub(crate) raw: &'r RawStep,
    /// The platforms it is built for, each with the index of its group.
    pub(crate) platforms: Vec<(&'r Platform, usize)>,
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

    /// What is left when the files are taken apart.
    pub(crate) fn into_shapes(self) -> Vec<Shape> {
        self.steps.into_iter().map(PlannedStep::into_shape).collect()
    }
}

/// A step's platforms, each with its group, and the fields of each group: `None` for those of the step
/// as it was written.
pub(crate) struct Shape {
    platforms: Vec<(Platform, usize)>,
    groups: Vec<Option<Fields>>,
}

/// The checked steps as plain data; `shapes` in the same order.
pub(crate) fn assemble(
    steps: impl Iterator<Item = RawStep>,
    shapes: Vec<Shape>,
    problems: &Problems,
) -> Vec<Step> {
    steps.zip(shapes).map(|(step, shape)| shape.into_step(step, problems)).collect()
}

impl Shape {
    fn into_step(self, raw: RawStep, problems: &Problems) -> Step {
        let RawStep { name, folder, line, fields, .. } = raw;
        let mut written = Some(fields);
        let mut body = |group: Option<Fields>| {
            let fields = group.or_else(|| written.take());
            fields.and_then(|fields| fields.into_body(&folder)).map(Arc::new)
        };
        let bodies: Vec<Option<Arc<StepBody>>> = self.groups.into_iter().map(&mut body).collect();
        let on = |(platform, group): (Platform, usize)| Some((platform, bodies[group].clone()?));
        let source = problems.sources().get(name.span.file as usize);
        let file = source.map_or_else(RelPath::root, |source| source.file.clone());
        Step {
            name: name.value,
            defined: Defined { file, line },
            bodies: self.platforms.into_iter().filter_map(on).collect(),
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
            let own = raw.overrides.iter().find(|(one, _)| one.value == *platform).map(|(_, fields)| fields);
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
        self.platforms.iter().filter(move |(_, group)| *group == at).map(|(platform, _)| *platform)
    }

    /// The platform on which it serves a step on `platform`: that one, or `any`.
    pub(crate) fn serving(&self, platform: &Platform) -> Option<usize> {
        let at = |wanted: &Platform| self.platforms.iter().position(|(one, _)| *one == wanted);
        at(platform).or_else(|| at(&Platform::Any))
    }

    fn into_shape(self) -> Shape {
        let mut plain = true;
        let fields = |group: Group<'_>| {
            // Only one group is without a layer of its own: the first of them takes the fields as they are.
            let as_written = group.layers.len() == 1 && std::mem::take(&mut plain);
            (!as_written).then(|| group.merged())
        };
        Shape {
            groups: self.groups.into_iter().map(fields).collect(),
            platforms: self
                .platforms
                .into_iter()
                .map(|(platform, group)| (platform.clone(), group))
                .collect(),
        }
    }
}

static ANY: Platform = Platform::Any;

fn platforms_of<'r>(raw: &'r RawStep, project: &Project<'r>) -> Vec<&'r Platform> {
    match &raw.platforms {
        Some(Platforms::Any) => vec![&ANY],
        None => project.platforms.iter().collect(),
        Some(Platforms::List(list)) => {
            let wanted = list.iter().map(|platform| &platform.value);
            wanted.filter(|platform| project.platforms.contains(platform)).collect()
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

    /// All layers as one.
    fn merged(&self) -> Fields {
        let names =
            |name: &str| self.layers.iter().flat_map(|layer| &layer.env).rfind(|(one, _)| one.value == name);
        let env = self.env().into_keys().filter_map(names).cloned().collect();
        Fields {
            run: self.run().cloned(),
            needs: self.last(|layer| layer.needs.as_ref()).cloned(),
            inputs: self.last(|layer| layer.inputs.as_ref()).cloned(),
            env,
            pass_env: self.last(|layer| layer.pass_env.as_ref()).cloned(),
            tools: self.last(|layer| layer.tools.as_ref()).cloned(),
            outputs: self.outputs().cloned(),
            to: self.to().cloned(),
            source: self.source().cloned(),
            network: self.last(|layer| layer.network.as_ref()).copied(),
            mounts: self.last(|layer| layer.mounts.as_ref()).cloned(),
            timeout_ms: self.last(|layer| layer.timeout_ms.as_ref()).copied(),
            retries: self.last(|layer| layer.retries.as_ref()).copied(),
            pool: self.last(|layer| layer.pool.as_ref()).cloned(),
            engine: self.last(|layer| layer.engine.as_ref()).copied(),
            strict_base: self.last(|layer| layer.strict_base.as_ref()).copied(),
            salt: self.last(|layer| layer.salt.as_ref()).cloned(),
            // They were checked where they stand.
            uses: Uses::default(),
        }
    }
}

impl Fields {
    /// The body of a step in `folder`; `None` only where a lack of `run` or `outputs` was reported.
    fn into_body(self, folder: &RelPath) -> Option<StepBody> {
        let own = |names: Option<Vec<Name>>| names.into_iter().flatten().map(|name| name.value).collect();
        let (inputs, input_texts) = match self.inputs {
            Some(Inputs { patterns, texts }) => (patterns, texts),
            None => (PatternList::new(folder.clone(), Vec::new()), Vec::new()),
        };
        Some(StepBody {
            folder: folder.clone(),
            run: self.run?.value,
            needs: own(self.needs),
            inputs,
            input_texts,
            env: self.env.into_iter().map(|(name, value)| (name.value, value)).collect(),
            pass_env: own(self.pass_env),
            tools: self.tools.unwrap_or_default(),
            outputs: self.outputs?.value.into_iter().map(|output| output.value).collect(),
            to: self.to.map(|to| to.value),
            source: self.source.map(|source| source.value),
            network: self.network.unwrap_or(false),
            mounts: self.mounts.unwrap_or_default(),
            timeout_ms: self.timeout_ms,
            retries: self.retries.unwrap_or(0),
            pool: self.pool.map(|pool| pool.value),
            engine: self.engine,
            strict_base: self.strict_base.unwrap_or(false),
            salt: self.salt.unwrap_or_default(),
        })
    }
}
