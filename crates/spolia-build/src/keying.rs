//! `node + what it sees → Action`. Reads nothing by itself: files, tools and variables are handed in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use spolia_core::template::{self, Placeholder};
use spolia_core::{Action, Command, Digest, Guard, Platform, Tree};
use spolia_engine::tools::{Tool, ToolError};

use crate::graph::GraphNode;
use crate::manifest::{EngineKind, Run};

/// What an action is made of besides its node.
pub struct Ingredients<'i> {
    /// The declared files.
    pub inputs: Arc<Tree>,
    /// Outputs of each needed step.
    pub needs: BTreeMap<String, Arc<Tree>>,
    /// `${platform.KEY}`.
    pub platform_vars: &'i BTreeMap<String, String>,
    /// The caller's variables.
    pub caller_env: &'i dyn Fn(&str) -> Option<OsString>,
    /// Each declared tool by the name it is declared by, placeholders expanded.
    pub tools: &'i [(String, Tool)],
    /// Identity of the system's folders.
    pub system: Option<Digest>,
    /// How it runs.
    pub engine: EngineKind,
    /// The project's folder, absolute.
    pub root: &'i Path,
}

/// The action of a node.
pub fn action(node: &GraphNode<'_>, ingredients: Ingredients<'_>) -> Action {
    let body = node.body;
    let folder = body.folder.clone();
    let command = match &body.run {
        Run::Shell(line) => Command::shell(line, folder),
        Run::Argv(words) => {
            Command { argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(), folder }
        }
    };
    let mut env: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in &body.pass_env {
        // A variable that is not set and one that is empty are two things.
        if let Some(value) = (ingredients.caller_env)(name) {
            env.insert(name.clone(), value.as_bytes().to_vec());
        }
    }
    env.extend(body.env.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())));
    let guard = match ingredients.engine {
        EngineKind::Sandbox => Guard::Sandbox,
        EngineKind::Host => Guard::Host { root: ingredients.root.as_os_str().as_bytes().to_vec() },
    };
    Action {
        command,
        env,
        inputs: ingredients.inputs,
        needs: ingredients.needs,
        outputs: body.outputs.clone(),
        platform: node.id.platform.clone(),
        vars: vars_used(node, ingredients.platform_vars),
        tools: ingredients.tools.iter().map(|(name, tool)| (name.clone(), tool.identity)).collect(),
        system: ingredients.system,
        guard,
        network: body.network,
        mounts: body.mounts.clone(),
        source: body.source.as_ref().map(|source| source.sha256),
        salt: body.salt.clone(),
    }
}

/// The `${platform.KEY}` values that the node's command and variables use, and no others.
fn vars_used(node: &GraphNode<'_>, vars: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let body = node.body;
    let words: Vec<&str> = match &body.run {
        Run::Shell(line) => vec![line],
        Run::Argv(words) => words.iter().map(String::as_str).collect(),
    };
    let texts = words.into_iter().chain(body.env.values().map(String::as_str));
    let mut used = BTreeMap::new();
    for template in texts.filter_map(|text| template::placeholders(text).ok()) {
        for key in template.vars_used() {
            if let Some(value) = vars.get(key) {
                used.insert(key.to_owned(), value.clone());
            }
        }
    }
    used
}

/// `text` with `${platform}` and `${platform.KEY}` replaced.
pub fn expand_platform(text: &str, platform: &Platform, vars: &BTreeMap<String, String>) -> String {
    let value = |placeholder: Placeholder<'_>| match placeholder {
        Placeholder::Platform => Some(platform.to_string().into_bytes()),
        Placeholder::PlatformVar(key) => vars.get(key).map(|value| value.clone().into_bytes()),
        _ => None,
    };
    // Only UTF-8 went in.
    String::from_utf8_lossy(&template::expand(text, &value)).into_owned()
}

/// The tools of a node, found.
///
/// # Errors
/// The first that is of no use.
pub fn find_tools(
    node: &GraphNode<'_>,
    vars: &BTreeMap<String, String>,
    find: &dyn Fn(&str) -> Result<Tool, ToolError>,
) -> Result<Vec<(String, Tool)>, ToolError> {
    let name = |text: &String| expand_platform(text, &node.id.platform, vars);
    node.body.tools.iter().map(name).map(|name| find(&name).map(|tool| (name, tool))).collect()
}
