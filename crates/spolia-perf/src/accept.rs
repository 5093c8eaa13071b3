//! A cost that somebody has called the new normal: what came before it is not compared with any more.

use serde::{Deserialize, Serialize};

use crate::record::{RECORD_VERSION, State};

/// One decision, as it is in the journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Baseline {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Of which subject.
    pub subject: String,
    /// Of which platform; `None` for all.
    pub platform: Option<String>,
    /// Cold or warm; `None` for both.
    pub state: Option<State>,
    /// The first run that counts.
    pub run: String,
    /// When that run was, µs since 1970.
    pub from_us: u64,
    /// Why, in the user's words.
    pub because: Option<String>,
    /// When it was decided, µs since 1970.
    pub at_us: u64,
}

impl Baseline {
    /// A decision of now.
    pub fn new(subject: String, state: Option<State>, run: String, from_us: u64, at_us: u64) -> Self {
        Self { version: RECORD_VERSION, subject, platform: None, state, run, from_us, because: None, at_us }
    }

    /// Whether it is about such measurements.
    pub fn concerns(&self, subject: &str, platform: Option<&str>, state: Option<State>) -> bool {
        self.subject == subject
            && (self.platform.is_none() || self.platform.as_deref() == platform)
            && (self.state.is_none() || self.state == state)
    }
}
