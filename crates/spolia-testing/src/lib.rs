//! Fakes, faults and conformance suites for tests. Knows no production path.

mod crash;
mod faulty;
mod memory;
pub mod process;
mod random;
mod suite;

pub use crash::{CrashPlan, lose_writes};
pub use faulty::FaultyStore;
pub use memory::MemoryStore;
pub use random::Random;
pub use suite::{read_only_suite, store_suite};
