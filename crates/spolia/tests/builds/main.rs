//! What must hold of `spolia build`, proved with the real binary, on the host and in the sandbox.
//!
//! The binary and this test may be copied to a world-readable folder and run there as another user:
//! `SPOLIA_TEST_BIN=./spolia setpriv --reuid=65534 --regid=65534 --clear-groups ./builds`.

/// Every test named runs once on each engine.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn host() {
                super::$name(&mut crate::env(spolia_testing::Engine::Host));
            }

            #[test]
            fn sandbox() {
                super::$name(&mut crate::env(spolia_testing::Engine::Sandbox));
            }
        })*
    };
}

/// Every test named runs in the sandbox only: it is about what only a sandbox sees.
macro_rules! sandboxed {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn sandbox() {
                super::$name(&mut crate::env(spolia_testing::Engine::Sandbox));
            }
        })*
    };
}

mod control;
mod crash;
mod damage;
mod fetch;
mod hits;
mod journal;
mod killed;
mod outputs;
mod paths;
mod room;
mod sandbox;
mod shared;
mod stop;
mod undeclared;

use spolia_testing::{Engine, TestEnv};

fn env(engine: Engine) -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_spolia"), engine)
}

/// A cache mount in which a step counts how often it ran: `echo >> ${cache}/traces/NAME`.
const TRACES: &str = r#"mounts = [{ id = "traces", path = "/cache/traces", scope = "project" }]"#;
