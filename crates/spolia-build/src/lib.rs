//! `manifest → graph → keys → schedule → runs → outputs`. Knows the engine, not the command line.

pub mod manifest;
