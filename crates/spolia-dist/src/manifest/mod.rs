//! `text of the root manifest → Vec<Dist>`: the tables `[dist.NAME]`. Knows the steps' names, no disk.

mod keys;
pub mod model;
mod read;

pub use keys::schema;
pub use model::*;
pub use read::{Context, parse};
