//! Measures builds, remembers what was measured, and says only what that supports. Knows no manifest of steps and
//! no graph: what ran is told to it as events and numbers.

pub mod statistics;
pub mod verdict;

pub use verdict::{Rule, Verdict, Word, judge};
