//! Measurements against limits. Pure.

use serde::{Deserialize, Serialize};

/// One limit and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Of what: `build` or a step.
    pub name: String,
}
