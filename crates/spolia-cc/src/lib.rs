//! The compiler cache: one compiler call in, its outputs and its output put back or a compile, and one
//! [`Outcome`] that says which and why. Knows gcc, clang and rustc; reads no environment and prints nothing:
//! both are handed in.
//!
//! ```text
//! argv → Call → Compiler::plan → Invocation → Known (fast key) → Manifest → the set that still matches → replay
//!                     └ NotCacheable                    └ no set matches: compile, see what was read, keep it
//! ```
//!
//! **A cache may cost time; it may never cost a build**: whatever fails here, the real compiler runs.
//! `docs/design/compiler-cache.md` gives the formats and what enters which key.

pub mod c;
pub mod call;
pub mod chain;
pub mod claim;
pub mod detect;
pub mod direct;
pub mod env;
mod names;
pub mod outcome;
pub mod replay;
pub mod room;
pub mod rustc;
pub mod sets;
pub mod setup;
pub mod site;
pub mod story;
pub mod summary;
pub mod tally;
pub mod targets;
mod trail;

pub use call::{Call, Compiler, End, Invocation, Launch, NotKept, Options, Ran, Watch, run};
pub use chain::Chain;
pub use env::Env;
pub use outcome::{Miss, NotCacheable, Outcome, PassThrough};
pub use room::Room;
pub use site::Site;
pub use story::Story;
