//! Between a tree as a value and a tree on disk: `folder → Tree` ([`capture()`]) and `Tree → folder`
//! ([`materialise()`]). Knows no steps and no manifest.
//!
//! Neither direction follows a symlink: folders are opened one segment at a time from a root that the
//! caller trusts, and a link that would lead out of the tree is refused in both.

mod capture;
mod folder;
mod links;
mod materialise;
mod right;
mod source;
mod stage;

pub use capture::{CaptureError, Captured, DEPTH_MAX, ENTRIES_MAX, capture, describe};
pub use links::leaves_the_tree;
pub use materialise::{MaterialiseError, MaterialiseOptions, Materialised, materialise};
pub use right::{Place, Wrong, is_right, wrong_entries};
pub use source::FolderSource;
pub use stage::sweep_stages;
