//! The environment as a value: the binary reads it once and hands it in.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Names and values, in the order the process got them.
#[derive(Clone, Debug, Default)]
pub struct Env(Vec<(OsString, OsString)>);

impl Env {
    /// From name and value pairs.
    pub fn new(pairs: Vec<(OsString, OsString)>) -> Self {
        Self(pairs)
    }

    /// A variable's value, also an empty one.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let wanted = name.as_bytes();
        self.0.iter().find(|(known, _)| known.as_bytes() == wanted).map(|(_, value)| value.as_os_str())
    }

    /// A variable's value if it is set to something.
    pub fn some(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}
