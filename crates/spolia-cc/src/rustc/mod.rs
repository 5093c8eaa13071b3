//! rustc and clippy as cargo calls them, cargo's questions about them, and build scripts.
//!
//! ```text
//! argv → Args → Task (fast key) → Manifest → the set of facts that still holds → outputs put back
//!                                     └ none: observed run → facts, outputs → one set more
//! ```
//!
//! A hit starts no rustc. What a unit depended on was seen when it ran: every file that rustc, its macros and its linker
//! opened, every name they looked for in vain, every folder they listed, every variable they asked for.
//!
//! | enters the key | is a fact of a set | neither |
//! |---|---|---|
//! | rustc's own file, arguments without the folders, where it runs in relation to them | sources, crates, libraries, linker, macros and what they read, variables | jobserver, temporary folders, where the incremental data is |

mod ahead;
pub mod args;
mod cargo;
mod embeds;
pub mod facts;
pub mod folders;
mod incremental;
mod reads;
mod restore;
pub mod script;
mod units;
mod walk;

pub use walk::run;
