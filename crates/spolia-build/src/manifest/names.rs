//! `RawFile… → Project`: all files together, the variant chosen, and every name that refers to another
//! looked up. Knows nothing of what a step is on a platform.

use std::collections::{BTreeMap, HashMap, HashSet};

use spolia_core::Platform;
use spolia_core::conf::{Problem, Problems, Spanned, and_list};

use super::file::{RawFile, RawVariant};
use super::model::CacheConf;
use super::parse::{Request, nowhere};
use super::step::{Fields, Name, Platforms, RawStep};

/// All files together.
pub(crate) struct Project<'r> {
    pub(crate) name: Option<&'r String>,
    pub(crate) host: Platform,
    /// Whether `[project] platforms` is there.
    pub(crate) platforms_given: bool,
    /// The project's platforms before the variant.
    pub(crate) all_platforms: &'r [Platform],
    /// Those that the variant leaves.
    pub(crate) platforms: &'r [Platform],
    pub(crate) platform_vars: BTreeMap<Platform, BTreeMap<String, String>>,
    pub(crate) pools: BTreeMap<String, u32>,
    pub(crate) steps: Vec<&'r RawStep>,
    /// The first step of each name.
    pub(crate) by_name: HashMap<&'r str, usize>,
    pub(crate) variants: Vec<&'r RawVariant>,
    pub(crate) variant: Option<&'r RawVariant>,
    /// The chosen variant's fields, by step.
    pub(crate) variant_steps: HashMap<&'r str, &'r Fields>,
    pub(crate) cache: CacheConf,
    /// The list of `[project] platforms` as it is written.
    listed: &'r [Spanned<Platform>],
    pool_names: Vec<&'r Name>,
    var_tables: Vec<&'r Spanned<Platform>>,
}

/// The variant that was asked for, and the platforms it leaves.
pub(crate) struct Chosen<'r> {
    variant: Option<&'r RawVariant>,
    given: bool,
    listed: &'r [Spanned<Platform>],
    all: Vec<Platform>,
    left: Vec<Platform>,
}

impl<'r> Chosen<'r> {
    /// Looks into the root, the first of `files`.
    pub(crate) fn new(files: &'r [RawFile], request: &Request<'_>, problems: &mut Problems) -> Self {
        let root = files.first();
        let variants = root.map(|root| root.variants.as_slice()).unwrap_or_default();
        let variant = request.variant.and_then(|wanted| choose(variants, wanted, problems));
        let given = root.and_then(|root| root.platforms.as_ref());
        let all: Vec<Platform> = match given {
            Some(given) => given.iter().map(|platform| platform.value.clone()).collect(),
            None => vec![request.host.clone()],
        };
        let left = restrict(&all, given.is_some(), variant);
        let listed = given.map(Vec::as_slice).unwrap_or_default();
        Self { variant, given: given.is_some(), listed, all, left }
    }
}

impl<'r> Project<'r> {
    /// Puts `files` together; the root comes first. What is defined twice is a problem.
    pub(crate) fn new(
        files: &'r [RawFile],
        chosen: &'r Chosen<'r>,
        request: &Request<'_>,
        problems: &mut Problems,
    ) -> Self {
        let root = files.first();
        let variants = root.map(|root| root.variants.iter().collect()).unwrap_or_default();
        let variant = chosen.variant;
        let count = files.iter().map(|file| file.steps.len()).sum();
        let mut project = Self {
            name: root.and_then(|root| root.project_name.as_ref()),
            host: request.host.clone(),
            platforms_given: chosen.given,
            all_platforms: &chosen.all,
            platforms: &chosen.left,
            platform_vars: BTreeMap::new(),
            pools: BTreeMap::new(),
            steps: Vec::with_capacity(count),
            by_name: HashMap::with_capacity(count),
            variant_steps: HashMap::new(),
            variants,
            variant,
            cache: root.map(|root| root.cache.clone()).unwrap_or_default(),
            listed: chosen.listed,
            pool_names: Vec::new(),
            var_tables: Vec::new(),
        };
        for file in files {
            project.add_steps(file, problems);
            project.add_pools(file, problems);
            project.add_vars(file, problems);
        }
        let overrides = variant.map(|variant| variant.steps.as_slice()).unwrap_or_default();
        project.variant_steps =
            overrides.iter().map(|(name, fields)| (name.value.as_str(), fields)).collect();
        project
    }

    fn add_steps(&mut self, file: &'r RawFile, problems: &mut Problems) {
        for step in &file.steps {
            if let Some(first) = self.by_name.get(step.name.value.as_str()) {
                let message = format!("step `{}` is defined twice", step.name.value);
                let first = self.steps[*first].name.span;
                problems.push(Problem::error(step.name.span, message).also(first, "the first"));
            } else {
                self.by_name.insert(&step.name.value, self.steps.len());
                self.steps.push(step);
            }
        }
    }

    fn add_pools(&mut self, file: &'r RawFile, problems: &mut Problems) {
        for (name, size) in &file.pools {
            if self.pools.insert(name.value.clone(), *size).is_some() {
                problems.push(Problem::error(name.span, format!("pool `{}` is defined twice", name.value)));
            }
            self.pool_names.push(name);
        }
    }

    fn add_vars(&mut self, file: &'r RawFile, problems: &mut Problems) {
        for table in &file.platform_vars {
            let vars = self.platform_vars.entry(table.platform.value.clone()).or_default();
            for (key, value) in &table.vars {
                if vars.insert(key.value.clone(), value.clone()).is_some() {
                    let message = format!("`{}` of {} is defined twice", key.value, table.platform.value);
                    problems.push(Problem::error(key.span, message));
                }
            }
            self.var_tables.push(&table.platform);
        }
    }

    /// Every set of fields in all files, chosen variant or not, with the step it belongs to.
    fn all_fields(&self) -> impl Iterator<Item = (&'r str, &'r Fields)> {
        let own = self.steps.iter().flat_map(|step| {
            let name = step.name.value.as_str();
            let overrides = step.overrides.iter().map(move |(_, fields)| (name, fields));
            std::iter::once((name, &step.fields)).chain(overrides)
        });
        let variants = self.variants.iter().flat_map(|variant| &variant.steps);
        own.chain(variants.map(|(name, fields)| (name.value.as_str(), fields)))
    }
}

fn choose<'r>(variants: &'r [RawVariant], wanted: &str, problems: &mut Problems) -> Option<&'r RawVariant> {
    let found = variants.iter().find(|variant| variant.name.value == wanted);
    if found.is_none() {
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.value.as_str()).collect();
        let problem = nowhere(format!("no variant is called `{wanted}`"));
        let near = problem.near(wanted, names.iter().copied());
        problems.push(match (near.hints.is_empty(), names.is_empty()) {
            (true, true) => near.hint("the manifest has none: add a table `[variant.NAME]`"),
            (true, false) => near.hint(format!("there is {}", and_list(&names))),
            _ => near,
        });
    }
    found
}

fn restrict(all: &[Platform], given: bool, variant: Option<&RawVariant>) -> Vec<Platform> {
    let Some(wanted) = variant.and_then(|variant| variant.platforms.as_ref()) else { return all.to_vec() };
    if !given {
        return wanted.iter().map(|platform| platform.value.clone()).collect();
    }
    all.iter().filter(|one| wanted.iter().any(|wanted| wanted.value == **one)).cloned().collect()
}

/// Looks every name up: steps, pools, platforms.
pub(crate) fn check_names(project: &Project<'_>, problems: &mut Problems) {
    check_needs(project, problems);
    check_pools(project, problems);
    check_platforms(project, problems);
    for variant in &project.variants {
        for (name, _) in &variant.steps {
            if !project.by_name.contains_key(name.value.as_str()) {
                let message = format!(
                    "variant `{}` changes step `{}`, which is not defined",
                    variant.name.value, name.value
                );
                problems.push(unknown_step(Problem::error(name.span, message), &name.value, project));
            }
        }
    }
}

fn check_needs(project: &Project<'_>, problems: &mut Problems) {
    for (step, fields) in project.all_fields() {
        for need in fields.needs.iter().flatten() {
            if !project.by_name.contains_key(need.value.as_str()) {
                let message = format!("step `{step}` needs `{}`, which is not defined", need.value);
                problems.push(unknown_step(Problem::error(need.span, message), &need.value, project));
            }
        }
    }
}

/// Adds what a wrong name for a step probably meant.
pub(crate) fn unknown_step(problem: Problem, name: &str, project: &Project<'_>) -> Problem {
    let problem = problem.label("no step has this name");
    match spolia_core::diagnostic::nearest(name, project.steps.iter().map(|step| step.name.value.as_str())) {
        Some(near) => problem.hint(format!("a step named `{near}` exists")),
        None => problem,
    }
}

fn check_pools(project: &Project<'_>, problems: &mut Problems) {
    let mut used: HashSet<&str> = HashSet::new();
    for (step, fields) in project.all_fields() {
        let Some(pool) = &fields.pool else { continue };
        used.insert(&pool.value);
        if !project.pools.contains_key(&pool.value) {
            let message = format!("step `{step}` runs in pool `{}`, which is not defined", pool.value);
            let names = project.pools.keys().map(String::as_str);
            let problem = Problem::error(pool.span, message).near(&pool.value, names);
            let hint = format!("`{} = 1` below `[pools]` runs one at a time", pool.value);
            problems.push(if problem.hints.is_empty() { problem.hint(hint) } else { problem });
        }
    }
    for name in &project.pool_names {
        if !used.contains(name.value.as_str()) {
            problems.push(Problem::warning(name.span, format!("no step runs in pool `{}`", name.value)));
        }
    }
}

/// Platforms in words that nobody uses, most likely by a slip: outputs would be named by them, and nothing about them be
/// checked. A table of its own says that one is meant.
fn check_words(project: &Project<'_>, problems: &mut Problems) {
    let lists = project.steps.iter().filter_map(|step| match &step.platforms {
        // Where the project has a list, those of the steps are held against that.
        Some(Platforms::List(list)) if !project.platforms_given => Some(list.as_slice()),
        _ => None,
    });
    for platform in std::iter::once(project.listed).chain(lists).flatten() {
        let wrong = &platform.value;
        if wrong.is_usual() || project.platform_vars.contains_key(wrong) {
            continue;
        }
        let problem = Problem::error(platform.span, format!("`{wrong}` is no platform that is known"));
        problems.push(match wrong.nearest_usual() {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("if it is meant, add a table `[platform.\"{wrong}\"]`")),
        });
    }
}

/// Platforms that the project does not have.
fn check_platforms(project: &Project<'_>, problems: &mut Problems) {
    check_words(project, problems);
    if !project.platforms_given {
        return;
    }
    let has = |platform: &Platform| project.all_platforms.contains(platform);
    let names: Vec<String> = project.all_platforms.iter().map(ToString::to_string).collect();
    let near = |problem: Problem, wrong: &Platform| {
        let problem = problem.near(&wrong.to_string(), names.iter().map(String::as_str));
        let hint = format!("`[project] platforms` has {}", and_list(&names));
        if problem.hints.is_empty() { problem.hint(hint) } else { problem }
    };
    for step in &project.steps {
        let Some(Platforms::List(list)) = &step.platforms else { continue };
        for platform in list.iter().filter(|platform| !has(&platform.value)) {
            let message = format!("the project is not built for {}", platform.value);
            problems.push(near(Problem::error(platform.span, message), &platform.value));
        }
    }
    for platform in project.variants.iter().filter_map(|variant| variant.platforms.as_ref()).flatten() {
        if !has(&platform.value) {
            let message = format!("the project is not built for {}", platform.value);
            problems.push(near(Problem::error(platform.span, message), &platform.value));
        }
    }
    for platform in &project.var_tables {
        if platform.value != Platform::Any && !has(&platform.value) {
            let message = format!("the project is not built for {}", platform.value);
            problems.push(near(Problem::warning(platform.span, message), &platform.value));
        }
    }
}
