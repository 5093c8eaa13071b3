//! `text → Manifest`: what `spolia.toml` means. Knows TOML and the floor plan's words, no disk.
//!
//! ```text
//! files ─parse→ RawFile, RawStep ─names→ Project ─layers→ Plan ─check→ Manifest
//!         file, step                                check, cycle, publish
//! ```

mod check;
mod cycle;
mod fields;
mod file;
mod layers;
#[cfg(test)]
mod mistakes;
pub mod model;
mod names;
pub mod parse;
mod publish;
mod schema;
mod step;
#[cfg(test)]
mod tests;

pub use model::*;
pub use parse::{Files, Request, parse};
pub use schema::schema;
