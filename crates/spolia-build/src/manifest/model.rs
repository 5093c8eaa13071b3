//! The manifest after parsing and checking: plain data, every reference resolved to a name that exists.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use spolia_core::action::{Mount, Output};
use spolia_core::glob::PatternList;
use spolia_core::{Digest, Platform, RelPath};

/// A whole project: the manifest, what it includes, and the chosen variant, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// `[project] name`, for people.
    pub name: Option<String>,
    /// `[project] platforms`, in order; the host's where none are given.
    pub platforms: Vec<Platform>,
    /// `[platform."…"]`: added to and overriding [`Platform::default_vars`].
    pub platform_vars: BTreeMap<Platform, BTreeMap<String, String>>,
    /// `[pools]`: how many steps of a pool run at once, at least 1.
    pub pools: BTreeMap<String, u32>,
    /// The steps in the order of the file, included files after the file that includes them.
    pub steps: Vec<Step>,
    /// `[cache]`.
    pub cache: CacheConf,
    /// Where in `steps` a name is. A manifest made by hand may leave it empty.
    pub(crate) by_name: HashMap<String, usize>,
}

/// `[cache]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheConf {
    /// Where a shared cache is. Kept for later floors: this version reports it as not used.
    pub remote: Option<String>,
    /// Bytes above which the store evicts.
    pub max_size_bytes: Option<u64>,
    /// Seconds after whose last use a result is evicted.
    pub max_age_s: Option<u64>,
    /// Bytes of room that the store's disk should have.
    pub min_free_bytes: Option<u64>,
    /// Bytes for the store and the caches Spolia looks after together.
    pub budget_bytes: Option<u64>,
}

/// How a step is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Only declared inputs are there.
    Sandbox,
    /// In the user's tree.
    Host,
}

/// One `[steps.NAME]`, with one [`StepBody`] for each platform it is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Which file defines it, and where: byte offset, for messages that come later than parsing.
    pub defined: Defined,
    /// What to do on each platform: `Platform::Any` alone for `platforms = "any"`. Platforms without
    /// overrides share one body. Empty when the variant leaves none of its platforms.
    pub bodies: BTreeMap<Platform, Arc<StepBody>>,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// The manifest file, relative to the root.
    pub file: RelPath,
    /// 1-based line of the step's header.
    pub line: u32,
}

/// A step on one platform, overrides applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBody {
    /// The folder of the file that defines it: `run` starts here, `inputs` are relative to it.
    pub folder: RelPath,
    /// What to run. `${…}` placeholders are still in it.
    pub run: Run,
    /// Steps whose outputs it uses, in order, without repeats.
    pub needs: Vec<String>,
    /// Which project files it sees.
    pub inputs: PatternList,
    /// The patterns as written, for messages.
    pub input_texts: Vec<String>,
    /// Variables set here; values may hold placeholders.
    pub env: BTreeMap<String, String>,
    /// Variables of the caller that are passed on and keyed.
    pub pass_env: Vec<String>,
    /// Programs whose identity enters the key; may hold placeholders.
    pub tools: Vec<String>,
    /// What must come out.
    pub outputs: Vec<Output>,
    /// Where the outputs are published, relative to the root; may hold `${platform…}`. `None`:
    /// `.spolia/out/STEP/PLATFORM`.
    pub to: Option<String>,
    /// `source = {…}`.
    pub source: Option<Source>,
    /// `network = true`.
    pub network: bool,
    /// Cache folders.
    pub mounts: Vec<Mount>,
    /// Wall time after which it is stopped, ms.
    pub timeout_ms: Option<u64>,
    /// How often a failed run is tried again.
    pub retries: u32,
    /// The pool it runs in.
    pub pool: Option<String>,
    /// `engine = "host"`: overrides the command line's choice.
    pub engine: Option<EngineKind>,
    /// `base = "strict"`: the whole package database enters the key.
    pub strict_base: bool,
    /// The user's own word in the key.
    pub salt: String,
}

/// `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// A string: `/bin/sh -euc`.
    Shell(String),
    /// A list: no shell.
    Argv(Vec<String>),
}

/// `source = { name, version, sha256, licence }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The project's own name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its one output must hash to (SHA-256).
    pub sha256: Digest,
    /// SPDX expression, where given.
    pub licence: Option<String>,
}

impl Manifest {
    /// The step called `name`.
    pub fn step(&self, name: &str) -> Option<&Step> {
        let indexed = self.by_name.get(name).and_then(|at| self.steps.get(*at));
        match indexed.filter(|step| step.name == name) {
            Some(step) => Some(step),
            None => self.steps.iter().find(|step| step.name == name),
        }
    }

    /// Every `${platform.KEY}` of `platform` on `host`: the built-in ones, and `[platform."…"]` over them.
    pub fn vars(&self, platform: &Platform, host: &Platform) -> BTreeMap<String, String> {
        let mut vars = platform.default_vars(host);
        if let Some(own) = self.platform_vars.get(platform) {
            vars.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        vars
    }
}
