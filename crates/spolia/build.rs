//! Fixes the program's address. As a position-independent program every start paid some 35,000 relocations and the
//! page faults of what they touch before our first line ran, and a compiler cache starts for every compile. What that
//! gives up is that the program's own code lies at an address nobody can guess. `cargo xtask build` also links the C
//! library in, which cannot be asked for here.

#![allow(clippy::disallowed_methods, reason = "cargo speaks to a build script by its environment")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let says = |name: &str| std::env::var(name).unwrap_or_default();
    if says("CARGO_CFG_TARGET_OS") == "linux" && says("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
