//! `the files of a tree → a first spolia.toml`. Pure: the caller lists and reads. Knows the habits of the
//! build tools it looks for, not what is installed.
//!
//! A proposal is meant to work as it is: what fetches is a step of its own, keyed by the tool's lock
//! file, and everything else runs without the network. Where that cannot be, the text says so.

mod cargo;
mod cmake;
mod docker;
mod go;
mod make;
mod meson;
mod node;
mod python;
mod text;
mod tree;

use spolia_core::RelPath;

use text::StepText;
use tree::Tree;

/// What `spolia init` writes, and what it has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// A manifest that parses, with comments.
    pub text: String,
    /// What was found, what could not be known, what to do.
    pub notes: Vec<String>,
}

/// What one build tool's look at the tree gives.
#[derive(Debug, Default)]
struct Found {
    /// The project's name, as the tool has it.
    name: Option<String>,
    steps: Vec<StepText>,
    notes: Vec<String>,
}

type Finder = fn(&mut Tree<'_>) -> Found;

const FINDERS: &[Finder] =
    &[cargo::find, go::find, cmake::find, meson::find, make::find, python::find, node::find, docker::find];

/// Writes a manifest for the files in `tree` (relative to its root, in any order; folders need not be
/// there). `read` gives the text of one of them, `None` if it is no text or cannot be read.
pub fn propose(tree: &[RelPath], read: &mut dyn FnMut(&RelPath) -> Option<String>) -> Proposal {
    let mut tree = Tree::new(tree, read);
    let mut all = Found::default();
    for find in FINDERS {
        let found = find(&mut tree);
        all.name = all.name.or(found.name);
        all.notes.extend(found.notes);
        for step in found.steps {
            // Folders `a/b` and `a-b` give one name.
            if all.steps.iter().any(|other| other.name == step.name) {
                all.notes.push(format!("two steps would be called `{}`; the second is left out", step.name));
            } else {
                all.steps.push(step);
            }
        }
    }
    all.notes.extend(tree.into_notes());
    if all.steps.is_empty() {
        all.notes.push(
            "nothing was found that Spolia knows how to build: write the first step by hand".to_owned(),
        );
        return Proposal { text: EMPTY.to_owned(), notes: all.notes };
    }
    let mut text = HEAD.to_owned();
    if let Some(name) = all.name {
        text.push_str(&format!("\n[project]\nname = {}\n", text::toml_string(&name)));
    }
    for step in &all.steps {
        text.push('\n');
        text.push_str(&step.render());
    }
    Proposal { text, notes: all.notes }
}

const HEAD: &str = "\
# What Spolia builds: `spolia build` runs the steps that changed and restores the rest.
# A step sees its `inputs` and nothing else of the project; a file that is missing is named.
";

const EMPTY: &str = "\
# What Spolia builds: `spolia build` runs the steps that changed and restores the rest.
#
# [steps.hello]
# run = 'cc -o \"${out}/hello\" hello.c'   # /bin/sh -euc, in this folder
# inputs = [\"hello.c\"]                   # all it sees of the project
# tools = [\"cc\"]                         # programs that count for its key
# outputs = [\"hello\"]                    # in ${out}; an empty list for a check
# to = \"bin\"                             # where to put them; .spolia/out/hello/… if absent
";

#[cfg(test)]
mod tests;
