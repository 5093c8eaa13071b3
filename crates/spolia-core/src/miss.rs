//! Why an action had to run: a value first, a sentence second.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::Line;
use crate::path::RelPath;

/// One thing that differs between two keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which part of the action: `env`, `inputs`, `tools`, `needs.NAME`, or empty for its own fields.
    pub group: String,
    /// The field, file or variable.
    pub name: String,
    /// What it was; `None` where it is new.
    pub old: Option<String>,
    /// What it is; `None` where it is gone.
    pub new: Option<String>,
}

impl Change {
    pub(crate) fn new(line: &Line, old: Option<String>, new: Option<String>) -> Self {
        Self { group: line.group.clone(), name: line.name.clone(), old, new }
    }

    /// A change with no values: what happened to `name` is said by which of the two sides is there.
    pub fn appeared(path: &RelPath) -> Self {
        Self {
            group: "looked for".to_owned(),
            name: path.to_string(),
            old: None,
            new: Some("exists".to_owned()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, name, old, new } = self;
        let what = match group.as_str() {
            "" => format!("`{name}`"),
            "inputs" => format!("input `{name}`"),
            "env" => format!("variable `{name}`"),
            "tools" => format!("tool `{name}`"),
            "looked for" => return write!(f, "`{name}`, which was looked for and not there, now exists"),
            group => match group.strip_prefix("needs.") {
                Some(step) => format!("`{name}` from step `{step}`"),
                None => format!("`{group}.{name}`"),
            },
        };
        match (old, new) {
            (None, _) => write!(f, "{what} is new"),
            (_, None) => write!(f, "{what} is gone"),
            _ => write!(f, "{what} changed"),
        }
    }
}

/// Why an action was not answered from a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum MissReason {
    /// Nothing is known of an earlier run here.
    NeverRun,
    /// The key differs from that of the last run here, in these.
    KeyChanged {
        /// What differs; the first is the one to show.
        changes: Vec<Change>,
    },
    /// The result was known, but something it names is not in the store any more.
    OutputGone {
        /// Which output or file.
        what: String,
    },
    /// Something in the store was damaged; it has been removed.
    Corrupt {
        /// Which output or file.
        what: String,
    },
    /// It ran here with this very key, and the result was not stored.
    NotStored,
    /// The user asked for it to run.
    Forced,
    /// A remote that was asked did not answer.
    RemoteSilent,
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRun => f.write_str("never run here"),
            Self::KeyChanged { changes } => match changes.as_slice() {
                [] => f.write_str("its key changed"),
                [one] => write!(f, "{one}"),
                [first, rest @ ..] => write!(f, "{first}, and {} more", rest.len()),
            },
            Self::OutputGone { what } => write!(f, "{what} is gone from the store"),
            Self::Corrupt { what } => write!(f, "{what} was damaged in the store"),
            Self::NotStored => f.write_str("the result of its last run here was not stored"),
            Self::Forced => f.write_str("asked for with --no-cache"),
            Self::RemoteSilent => f.write_str("the remote did not answer"),
        }
    }
}
