//! The one noun: what to run, on what, and what must come out. Everything in it is in its key.
//!
//! | part | in the key as |
//! |---|---|
//! | command, folder it runs in | as written; `${out}` and the like are still placeholders |
//! | env | each name and value |
//! | inputs | every declared file: path, digest, executable bit |
//! | needs | the outputs used, by the same |
//! | tools, system | identity of the program and of the packages behind it |
//! | outputs | paths and what is asked of them |
//! | platform, vars | name, and each `${platform.KEY}` the command uses |
//! | guard | sandbox, or host with its root |
//! | mounts, network | declared ones; never what a mount holds |
//! | salt | the user's own |
//!
//! A source with a digest is its own identity: nothing but the digest and the output's name is keyed.
//! Options that cannot change the result (timeout, retries, pool, label) are not here at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::Digest;
use crate::key::{KeyWriter, Keyed, Value};
use crate::path::RelPath;
use crate::platform::Platform;
use crate::tree::Tree;

/// A program and its arguments. A shell line is `/bin/sh -euc LINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program first; bytes, since an argument on Linux is any bytes but NUL.
    pub argv: Vec<Vec<u8>>,
    /// Where it starts, relative to the project's root.
    pub folder: RelPath,
}

impl Command {
    /// `/bin/sh -euc line` in `folder`.
    pub fn shell(line: &str, folder: RelPath) -> Self {
        let argv = ["/bin/sh", "-euc", line].map(|word| word.as_bytes().to_vec()).to_vec();
        Self { argv, folder }
    }
}

/// How well the inputs are guarded while the command runs. Results of different guards never mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Only what is declared is there.
    Sandbox,
    /// In the user's tree. The absolute root is part of the key: the outputs may embed it.
    Host {
        /// Absolute path of the project's root.
        root: Vec<u8>,
    },
}

/// One declared output, relative to `${out}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// A file or a folder.
    pub path: RelPath,
    /// Whether an empty file or folder is right.
    pub allow_empty: bool,
    /// Whether ELF files in it may be for another machine than the platform's.
    pub any_machine: bool,
}

/// A persistent folder of a tool's own cache. Its content is never keyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its name in the store.
    pub id: String,
    /// Where the command sees it: absolute.
    pub path: String,
    /// Who may use it at once.
    pub sharing: Sharing,
    /// Whether every platform has its own.
    pub scope: MountScope,
}

/// Who may use a cache mount at once; the words are BuildKit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Any number of writers.
    Shared,
    /// One folder each, reused when free.
    Private,
    /// One writer; others wait.
    Locked,
}

/// What a cache mount belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountScope {
    /// One for all platforms of the project.
    Project,
    /// One for each platform.
    Platform,
    /// One for each step and platform.
    Step,
}

/// What to run, on what, and what must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What runs.
    pub command: Command,
    /// The whole environment it sees, but for what Spolia adds to run it.
    pub env: BTreeMap<String, Vec<u8>>,
    /// The declared files of the project.
    pub inputs: Arc<Tree>,
    /// The outputs of needed steps, by step name.
    pub needs: BTreeMap<String, Arc<Tree>>,
    /// What must come out.
    pub outputs: Vec<Output>,
    /// Where the outputs run.
    pub platform: Platform,
    /// The `${platform.KEY}` values it uses.
    pub vars: BTreeMap<String, String>,
    /// Identity of each declared tool.
    pub tools: BTreeMap<String, Digest>,
    /// Identity of the system's folders.
    pub system: Option<Digest>,
    /// How its inputs are guarded.
    pub guard: Guard,
    /// Whether it may use the network.
    pub network: bool,
    /// Cache folders it sees.
    pub mounts: Vec<Mount>,
    /// For a fetch: the digest its one output must have.
    pub source: Option<Digest>,
    /// The user's own word to tell otherwise equal actions apart.
    pub salt: String,
}

impl Keyed for Action {
    fn write(&self, writer: &mut dyn KeyWriter) {
        let Self {
            command,
            env,
            inputs,
            needs,
            outputs,
            platform,
            vars,
            tools,
            system,
            guard,
            network,
            mounts,
            source,
            salt,
        } = self;
        if let Some(source) = source {
            writer.field("source", Value::Digest(*source));
            writer.field("salt", Value::Bytes(salt.as_bytes()));
            write_outputs(writer, outputs);
            return;
        }
        let Command { argv, folder } = command;
        writer.field("platform", Value::Bytes(platform.to_string().as_bytes()));
        match guard {
            Guard::Sandbox => writer.field("guard", Value::Bytes(b"sandbox")),
            Guard::Host { root } => {
                writer.field("guard", Value::Bytes(b"host"));
                writer.field("root", Value::Bytes(root));
            }
        }
        writer.field("network", Value::Flag(*network));
        writer.field("salt", Value::Bytes(salt.as_bytes()));
        writer.field("folder", Value::Bytes(folder.as_bytes()));
        writer.open("run");
        for (index, word) in argv.iter().enumerate() {
            writer.field(&index.to_string(), Value::Bytes(word));
        }
        writer.close();
        writer.open("env");
        for (name, value) in env {
            writer.field(name, Value::Bytes(value));
        }
        writer.close();
        writer.open("platform");
        for (name, value) in vars {
            writer.field(name, Value::Bytes(value.as_bytes()));
        }
        writer.close();
        writer.open("tools");
        for (name, digest) in tools {
            writer.field(name, Value::Digest(*digest));
        }
        writer.close();
        match system {
            Some(system) => writer.field("system", Value::Digest(*system)),
            None => writer.field("system", Value::Bytes(b"")),
        }
        write_outputs(writer, outputs);
        writer.open("mounts");
        for Mount { id, path, sharing, scope } in mounts {
            writer.field(id, Value::Bytes(format!("{path} {sharing:?} {scope:?}").as_bytes()));
        }
        writer.close();
        writer.open("needs");
        for (name, tree) in needs {
            writer.field(name, Value::Tree(tree));
        }
        writer.close();
        writer.field("inputs", Value::Tree(inputs));
    }
}

fn write_outputs(writer: &mut dyn KeyWriter, outputs: &[Output]) {
    writer.open("outputs");
    for Output { path, allow_empty, any_machine } in outputs {
        let asked = match (allow_empty, any_machine) {
            (false, false) => "",
            (true, false) => "allow-empty",
            (false, true) => "any-machine",
            (true, true) => "allow-empty any-machine",
        };
        // The name of a field is text; a path may be any bytes, so it is part of the value.
        let mut value = path.as_bytes().to_vec();
        value.push(0);
        value.extend_from_slice(asked.as_bytes());
        writer.field(&path.to_string(), Value::Bytes(&value));
    }
    writer.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    fn sample() -> Action {
        let rel = |raw: &str| RelPath::new(raw).unwrap();
        let node = Node::File { digest: Digest::blake3(b"1"), size: 1, executable: false };
        Action {
            command: Command::shell("make", RelPath::root()),
            env: BTreeMap::from([("A".to_owned(), b"1".to_vec())]),
            inputs: Arc::new(Tree::new(vec![(rel("x.c"), node)]).unwrap()),
            needs: BTreeMap::from([("dep".to_owned(), Arc::new(Tree::default()))]),
            outputs: vec![Output { path: rel("x"), allow_empty: false, any_machine: false }],
            platform: Platform::Any,
            vars: BTreeMap::from([("cc".to_owned(), "gcc".to_owned())]),
            tools: BTreeMap::from([("make".to_owned(), Digest::blake3(b"make"))]),
            system: Some(Digest::blake3(b"system")),
            guard: Guard::Sandbox,
            network: false,
            mounts: vec![Mount {
                id: "cc".to_owned(),
                path: "/cache/cc".to_owned(),
                sharing: Sharing::Shared,
                scope: MountScope::Platform,
            }],
            source: None,
            salt: String::new(),
        }
    }

    /// Every field, changed alone, changes the key, and the explanation names exactly that field.
    #[test]
    fn each_field_is_keyed_and_explained() {
        type Edit = fn(&mut Action);
        let edits: [(&str, Edit); 14] = [
            ("`run.2` changed", |a| a.command.argv[2] = b"make all".to_vec()),
            ("`folder` changed", |a| a.command.folder = RelPath::new("sub").unwrap()),
            ("variable `A` changed", |a| a.env.insert("A".into(), b"2".to_vec()).map_or((), drop)),
            ("input `x.c` is gone", |a| a.inputs = Arc::new(Tree::default())),
            ("`y` from step `dep` is new", |a| {
                let entry = (RelPath::new("y").unwrap(), Node::Folder);
                a.needs.insert("dep".into(), Arc::new(Tree::new(vec![entry]).unwrap()));
            }),
            ("`outputs.x` changed", |a| a.outputs[0].allow_empty = true),
            ("`platform` changed", |a| a.platform = "linux/386".parse().unwrap()),
            ("`platform.cc` changed", |a| a.vars.insert("cc".into(), "clang".into()).map_or((), drop)),
            ("tool `make` changed", |a| {
                a.tools.insert("make".into(), Digest::blake3(b"other"));
            }),
            ("`system` changed", |a| a.system = None),
            ("`guard` changed", |a| a.guard = Guard::Host { root: b"/x".to_vec() }),
            ("`network` changed", |a| a.network = true),
            ("`mounts.cc` changed", |a| a.mounts[0].sharing = Sharing::Locked),
            ("`salt` changed", |a| a.salt = "s".into()),
        ];
        let before = sample();
        for (expect, edit) in edits {
            let mut after = before.clone();
            edit(&mut after);
            assert_ne!(before.key(), after.key(), "{expect}");
            let changes = before.explain().changes(&after.explain());
            assert_eq!(changes.first().map(ToString::to_string).as_deref(), Some(expect));
        }
        assert_eq!(before.explain().changes(&before.clone().explain()), []);
    }

    #[test]
    fn a_fetch_is_its_digest() {
        let mut one = sample();
        one.source = Some(Digest::sha256(b"tar"));
        let mut two = one.clone();
        two.command = Command::shell("another mirror", RelPath::root());
        assert_eq!(one.key(), two.key());
        two.source = Some(Digest::sha256(b"other"));
        assert_ne!(one.key(), two.key());
    }

    #[test]
    fn neighbours_do_not_run_together() {
        let mut one = sample();
        one.command.argv = vec![b"ab".to_vec(), b"c".to_vec()];
        let mut two = sample();
        two.command.argv = vec![b"a".to_vec(), b"bc".to_vec()];
        assert_ne!(one.key(), two.key());
    }
}
