//! Compiles the library that is preloaded into observed programs; `src/observe/preload.rs` carries it in the binary.

#![allow(clippy::disallowed_methods, reason = "cargo speaks to a build script by its environment")]

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/observe/preload.c");
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    for (name, define) in [("preload.so", "-DFILES"), ("preload-words.so", "-DWORDS_ONLY")] {
        let out = folder.join(name);
        // Elsewhere the source has no way to call the kernel; then variables go by unseen, and callers are told.
        if !matches!(target.as_str(), "x86_64" | "aarch64") {
            std::fs::write(out, "").expect("OUT_DIR can be written");
            continue;
        }
        let compiler = cc::Build::new().opt_level(2).debug(false).warnings(true).get_compiler();
        let status = compiler
            .to_command()
            .args(["-shared", "-fPIC", "-nostdlib", "-fvisibility=hidden", "-fno-stack-protector", "-s"])
            // A program may ask for a path that is NULL, whatever the headers promise.
            .args(["-fno-builtin", "-fno-delete-null-pointer-checks", define])
            .args(["-Wl,-z,now", "-Wl,-z,initfirst", "-Wl,--build-id=none", "src/observe/preload.c", "-o"])
            .arg(&out)
            .status()
            .expect("the C compiler starts");
        assert!(status.success(), "src/observe/preload.c does not compile");
    }
}
