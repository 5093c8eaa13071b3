//! How the program is linked. `.cargo/config.toml` asks for the C library to be linked in; this fixes the program's
//! address as well. As a position-independent program on shared libraries every start paid some 35,000 relocations,
//! a hundred page faults and forty system calls before our first line ran, and a compiler cache starts for every
//! compile. What a fixed address gives up is that its own code lies at an address nobody can guess.

#![allow(clippy::disallowed_methods, reason = "cargo speaks to a build script by its environment")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let says = |name: &str| std::env::var(name).unwrap_or_default();
    if says("CARGO_CFG_TARGET_OS") != "linux" || says("CARGO_CFG_TARGET_ENV") != "gnu" {
        return;
    }
    if says("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-static");
    }
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
