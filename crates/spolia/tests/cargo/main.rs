//! The real cargo and rustc with the real binary as their wrapper. They lie where only who installed them may look, so these
//! are not run as an ordinary user as well (`xtask/src/test.rs`).

#![allow(clippy::disallowed_methods, reason = "a test starts programs")]

mod ahead;
mod everyday;
