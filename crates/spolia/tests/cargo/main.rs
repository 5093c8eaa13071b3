//! The real cargo and rustc with the real binary as their wrapper. They lie where only who installed them may look, so these
//! are not run as an ordinary user as well (`xtask/src/test.rs`).

#![allow(clippy::disallowed_methods, reason = "a test starts programs")]

mod ahead;
mod everyday;

use std::process::Command;

use spolia_testing::{Engine, TestEnv};

/// Checkouts, a store, and cargo with the wrapper.
struct Workspace {
    env: TestEnv,
    /// Variables of cargo's beside those of every call.
    more: Vec<(&'static str, String)>,
}

impl Workspace {
    fn empty() -> Self {
        Self { env: TestEnv::new(env!("CARGO_BIN_EXE_spolia"), Engine::Host), more: Vec::new() }
    }

    /// Runs cargo in a checkout; what it says.
    #[track_caller]
    fn cargo(&self, checkout: &str, args: &[&str]) -> String {
        let names = ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME"];
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(self.env.path(checkout)).env_clear().args(args);
        for name in names {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("RUSTC_WRAPPER", env!("CARGO_BIN_EXE_spolia")).env("SPOLIA_CACHE_DIR", self.env.store());
        command.env("CARGO_TERM_COLOR", "never").env("CARGO_NET_OFFLINE", "true");
        command.envs(self.more.iter().map(|(name, value)| (*name, value)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }
}
