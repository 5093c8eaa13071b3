//! `[dist.NAME]` + published outputs + files of the tree → release archives that are the same bytes everywhere,
//! and what a release owes beside them. Knows no command line and runs no step.
//!
//! ```text
//! text ─manifest→ Dist ─plan→ Plan ─archive→ files in a stage ─publish→ files under their names
//! ```
//!
//! What decides a byte is in the plan and in its key: members with their digests, modes and paths, the format, the
//! time that is written, the version of the form. No clock, environment, umask, owner or order of a folder is.

pub mod archive;
pub mod check;
pub mod checksums;
pub mod error;
pub mod facts;
pub mod manifest;
pub mod oci;
pub mod pack;
pub mod plan;
pub mod provenance;
pub mod record;
pub mod release;
pub mod sbom;
pub mod signature;
pub mod sources;
pub mod text;
pub mod verify;

pub use error::DistError;
pub use manifest::Dist;
pub use plan::{Built, Member, PlatformPlan};
pub use release::Release;
