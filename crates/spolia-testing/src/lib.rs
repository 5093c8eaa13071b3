//! Fakes, faults and conformance suites for tests. Knows no production path.

mod built;
pub mod cost;
mod crash;
mod env;
mod faulty;
mod memory;
pub mod process;
mod random;
mod suite;

pub use built::Built;
pub use crash::{CrashPlan, lose_writes};
pub use env::{Engine, TestEnv, wait_until};
pub use faulty::FaultyStore;
pub use memory::MemoryStore;
pub use random::Random;
pub use suite::{read_only_suite, store_suite};
