//! Keeps target directories small: finds them, learns from Cargo what is live, plans, removes. Never a live file.
//!
//! `paths → Found → Live → Scan → SweepPlan → Applied`. What is live comes from the build graph, never from the
//! time of an access: [`skeleton`] says how Cargo is asked without compiling anything.

pub mod apply;
mod basis;
pub mod caches;
pub mod cargo;
pub mod command;
pub mod detect;
pub mod error;
pub mod find;
pub mod fingerprint;
mod glance;
pub mod incremental;
pub mod live;
pub mod manifest;
pub mod names;
pub mod plan;
pub mod quarantine;
pub mod scan;
pub mod skeleton;
pub mod survey;
mod toolchain;
pub mod why;

pub use command::CargoCommand;
pub use error::SweepError;
pub use live::{Configuration, Live, Named, Origin};
pub use plan::{Policy, SweepPlan};
pub use why::Why;
