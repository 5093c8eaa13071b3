//! `manifest → graph → keys → schedule → runs → outputs`. Knows the engine, not the command line.

mod answer;
pub mod build;
mod claim;
pub mod fresh;
pub mod graph;
pub mod index;
pub mod init;
pub mod keying;
mod main_loop;
pub mod manifest;
mod needs;
mod plan;
pub mod schedule;
pub mod state;
mod worker;
mod workplace;

pub use build::{Build, BuildError, Options, Plan, Planned, RawOutput, Session};
pub use graph::{Graph, GraphError, GraphNode, NodeId, OutputPlace};
