//! `text → Manifest`: what `spolia.toml` means. Knows TOML and the floor plan's words, no disk.

pub mod model;

pub use model::*;
