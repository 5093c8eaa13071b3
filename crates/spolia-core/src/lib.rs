//! The nouns of Spolia and the pure functions over them: no files, no clock, no environment, no
//! processes, no threads.
//!
//! `Action → ActionKey → ActionResult` is the one idea everything else moves. A pipeline step on a
//! platform, a compiler call and a container stage are all written down as an [`Action`]; its
//! [`ActionKey`] is the digest of exactly that; its [`ActionResult`] names what came out.

pub mod action;
pub mod calendar;
pub mod codec;
pub mod conf;
pub mod diagnostic;
pub mod digest;
pub mod elf;
pub mod event;
pub mod glob;
pub mod key;
pub mod miss;
pub mod path;
pub mod platform;
pub mod result;
pub mod template;
pub mod tree;

pub use action::{Action, Command, Guard};
pub use diagnostic::Diagnostic;
pub use digest::{Digest, DigestFunction};
pub use event::{Event, EventKind};
pub use key::{ActionKey, Explanation, Keyed};
pub use miss::{Change, MissReason};
pub use path::RelPath;
pub use platform::Platform;
pub use result::{ActionResult, Cost};
pub use tree::{Node, Tree};
