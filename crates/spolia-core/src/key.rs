//! What enters a key, and how: one traversal, two writers.
//!
//! [`Keyed::write`] walks a value once and hands every field to a [`KeyWriter`]. [`HashWriter`] turns the
//! walk into an [`ActionKey`]; [`ExplainWriter`] turns the same walk into an [`Explanation`], a list of
//! lines that two runs can be compared by. Since there is one walk, what `spolia why` says cannot drift
//! from what the key is made of.
//!
//! The bytes that are hashed:
//!
//! ```text
//! key    = BLAKE3("spolia key 1\n" item*)
//! item   = 'F' text(name) value  |  '(' text(name)  |  ')'
//! value  = 'b' text(bytes) | 'n' u64le | 'y' u8 | 'd' u8(function) digest32
//! text   = u64le(length) bytes
//! ```
//!
//! A tree enters as the digest of its own encoding ([`crate::tree`]), a list or map as a group with one
//! field for each element, in order. Nothing is left out for being empty.

use serde::{Deserialize, Serialize};

use crate::codec::escape;
use crate::digest::{Digest, DigestFunction};
use crate::miss::Change;
use crate::tree::{Node, Tree};

/// The digest of exactly what an action is. Two actions with one key give one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActionKey(pub Digest);

impl std::fmt::Display for ActionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

/// One field's value, borrowed from what is keyed.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text or any other bytes.
    Bytes(&'a [u8]),
    /// A count or a size.
    Number(u64),
    /// A yes or a no.
    Flag(bool),
    /// A digest that stands for something bigger.
    Digest(Digest),
    /// A whole tree: hashed as its digest, explained entry by entry.
    Tree(&'a Tree),
}

/// Takes the fields of a keyed value in order.
pub trait KeyWriter {
    /// One named field.
    fn field(&mut self, name: &str, value: Value<'_>);
    /// Opens a named group: a struct, a list or a map.
    fn open(&mut self, name: &str);
    /// Closes the innermost group.
    fn close(&mut self);
}

/// What can be a key. Implementations destructure `self`, so that a new field does not compile until
/// it is keyed or left out on purpose.
pub trait Keyed {
    /// Hands every field to `writer`, always in the same order.
    fn write(&self, writer: &mut dyn KeyWriter);

    /// The key.
    fn key(&self) -> ActionKey {
        let mut writer = HashWriter::new();
        self.write(&mut writer);
        writer.finish()
    }

    /// What the key is made of, line by line.
    fn explain(&self) -> Explanation {
        let mut writer = ExplainWriter::default();
        self.write(&mut writer);
        writer.explanation
    }
}

/// Hashes the walk.
pub struct HashWriter {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    depth: usize,
}

impl HashWriter {
    /// A writer at the start of a key.
    #[allow(clippy::new_without_default, reason = "a key always starts with its header")]
    pub fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), buffer: b"spolia key 1\n".to_vec(), depth: 0 }
    }

    /// The key of all that was written.
    pub fn finish(mut self) -> ActionKey {
        assert_eq!(self.depth, 0, "a group was left open");
        self.hasher.update(&self.buffer);
        ActionKey(Digest::new(DigestFunction::Blake3, *self.hasher.finalize().as_bytes()))
    }

    fn text(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.buffer.extend_from_slice(bytes);
    }

    fn digest(&mut self, digest: Digest) {
        self.buffer.push(b'd');
        self.buffer.push(match digest.function() {
            DigestFunction::Blake3 => 0,
            DigestFunction::Sha256 => 1,
        });
        self.buffer.extend_from_slice(digest.as_bytes());
    }

    fn drain(&mut self) {
        if self.buffer.len() > 16 * 1024 {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }
}

impl KeyWriter for HashWriter {
    fn field(&mut self, name: &str, value: Value<'_>) {
        self.buffer.push(b'F');
        self.text(name.as_bytes());
        match value {
            Value::Bytes(bytes) => {
                self.buffer.push(b'b');
                self.text(bytes);
            }
            Value::Number(number) => {
                self.buffer.push(b'n');
                self.buffer.extend_from_slice(&number.to_le_bytes());
            }
            Value::Flag(flag) => self.buffer.extend_from_slice(&[b'y', u8::from(flag)]),
            Value::Digest(digest) => self.digest(digest),
            Value::Tree(tree) => self.digest(tree.digest()),
        }
        self.drain();
    }

    fn open(&mut self, name: &str) {
        self.depth += 1;
        self.buffer.push(b'(');
        self.text(name.as_bytes());
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.buffer.push(b')');
    }
}

/// Lists the walk.
#[derive(Default)]
pub struct ExplainWriter {
    explanation: Explanation,
    /// The names of the groups that are open, with dots between them.
    group: String,
    /// How long that was before each of them.
    starts: Vec<usize>,
}

impl ExplainWriter {
    /// The lines.
    pub fn into_explanation(self) -> Explanation {
        self.explanation
    }

    fn line(&mut self, name: &str, value: String) {
        self.explanation.lines.push(Line { group: self.group.clone(), name: name.to_owned(), value });
    }
}

impl KeyWriter for ExplainWriter {
    fn field(&mut self, name: &str, value: Value<'_>) {
        let text = match value {
            Value::Bytes(bytes) => escape(bytes),
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Digest(digest) => digest.to_string(),
            Value::Tree(tree) => {
                self.open(name);
                for (path, node) in tree.entries() {
                    self.line(&path.to_string(), describe(node));
                }
                self.close();
                return;
            }
        };
        self.line(name, text);
    }

    fn open(&mut self, name: &str) {
        self.starts.push(self.group.len());
        if !self.group.is_empty() {
            self.group.push('.');
        }
        self.group.push_str(name);
    }

    fn close(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.group.truncate(start);
        }
    }
}

fn describe(node: &Node) -> String {
    match node {
        Node::File { digest, executable: false, .. } => digest.to_string(),
        Node::File { digest, executable: true, .. } => format!("{digest} executable"),
        Node::Symlink { target } => format!("-> {}", escape(target)),
        Node::Folder => "folder".to_owned(),
    }
}

/// One thing that entered a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which group it is in: `env`, `inputs`, `tools`, `needs.fio`, or empty.
    pub group: String,
    /// The field, file or variable.
    pub name: String,
    /// Its value, or the digest of it.
    pub value: String,
}

/// All that entered a key, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// In the order of the walk.
    pub lines: Vec<Line>,
}

impl Explanation {
    /// Every line that differs between `self` (then) and `now`, in the order of `now`, what is gone last.
    pub fn changes(&self, now: &Explanation) -> Vec<Change> {
        use std::collections::HashMap;
        let id = |line: &Line| (line.group.clone(), line.name.clone());
        let mut then: HashMap<_, &Line> = self.lines.iter().map(|line| (id(line), line)).collect();
        let mut changes = Vec::new();
        for line in &now.lines {
            let old = then.remove(&id(line)).map(|old| old.value.clone());
            if old.as_ref() != Some(&line.value) {
                changes.push(Change::new(line, old, Some(line.value.clone())));
            }
        }
        let mut gone: Vec<&Line> = then.into_values().collect();
        gone.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
        changes.extend(gone.into_iter().map(|line| Change::new(line, Some(line.value.clone()), None)));
        changes
    }
}
