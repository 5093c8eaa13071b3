//! Measures builds, remembers what was measured, and says only what that supports. Knows no manifest of steps and
//! no graph: what ran is told to it as events and numbers.

pub mod accept;
pub mod analyze;
pub mod benchmark;
pub mod bisect;
pub mod check;
pub mod compare;
pub mod error;
pub mod foreign;
pub mod history;
pub mod host;
pub mod manifest;
pub mod programs;
pub mod record;
pub mod report;
pub mod statistics;
pub mod trace;
pub mod verdict;

pub use error::PerfError;
pub use verdict::{InTurn, Rule, Verdict, Word, both_in_turn, judge, judge_in_turn};
