//! Runs actions: looks them up, performs them on the host or in a sandbox, records what was seen.
//! Knows no manifest, no graph and no network.

#[expect(unsafe_code, reason = "system calls that no crate of ours wraps; each block says why it is sound")]
mod sys;

pub mod cancel;
pub mod check;
pub mod compile;
pub mod executor;
mod filter;
pub mod host;
pub mod jobserver;
pub mod measure;
pub mod mounts;
pub mod observe;
pub mod perform;
pub mod process;
pub mod query;
pub mod sandbox;
pub mod sandboxed;
pub mod stranger;
pub mod tools;
mod words;

pub use cancel::Cancel;
pub use executor::{End, Execution, Executor, ExecutorError, Job, Places, Ran};
pub use host::HostExecutor;
pub use perform::{Engine, Failure, Lookup, Performed, Request};
pub use sandboxed::SandboxExecutor;
