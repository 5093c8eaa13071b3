//! `cargo xtask build`: the program as it is meant to be used, linked with the C library in it. Knows the linker's
//! options.
//!
//! The flags go to the last crate alone: given to every crate they reach the macros too, which cannot be linked so.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{self, Done};

/// What Rust's library looks for before it starts programs by `posix_spawn`. A static link leaves out what is only
/// asked about, and every start would copy the whole process instead.
const ASKED_FOR: &str = "-Clink-arg=-Wl,-u,gnu_get_libc_version,-u,posix_spawn_file_actions_addchdir_np";

/// Runs it.
pub(crate) fn run(args: &[String]) -> Done {
    let [] = args else { return Err(format!("`build` takes nothing, not `{}`", args.join(" "))) };
    let program = program("release")?;
    println!("{}", program.display());
    Ok(())
}

/// Builds it with a profile; where it is.
pub(crate) fn program(profile: &str) -> Done<PathBuf> {
    let mut words = vec!["rustc", "--package", "spolia", "--bin", "spolia", "--profile", profile];
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        words.extend(["--", "-Ctarget-feature=+crt-static", "-Crelocation-model=static", ASKED_FOR]);
    }
    run::cargo(&words).map_err(|error| {
        format!("{error}\n`cargo build --release` links with the system's shared C library, if the static one is missing")
    })?;
    let folder = if profile == "dev" { "debug" } else { profile };
    run::target().map(|target| target.join(folder).join("spolia"))
}

/// Builds it quickly and looks whether it is what it is meant to be: no loader, and it starts other programs.
pub(crate) fn check() -> Done {
    let program = program("dev")?;
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Ok(());
    }
    let headers = run::output(Command::new("readelf").arg("-lW").arg(&program))?;
    if headers.contains("INTERP") || !headers.contains("Elf file type is EXEC") {
        return Err(format!("`{}` needs a loader", program.display()));
    }
    let folder = std::env::temp_dir().join(format!("spolia-static-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let tried = tried(&program, &folder);
    let _left = std::fs::remove_dir_all(&folder);
    tried
}

fn tried(program: &Path, folder: &Path) -> Done {
    std::fs::write(folder.join("x.c"), "int x;\n").map_err(|error| error.to_string())?;
    let spolia = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).env("SPOLIA_CACHE_DIR", folder.join("store"));
        run::output(&mut command)
    };
    for _ in 0..2 {
        spolia(&["cc", "gcc", "-c", "x.c", "-o", "x.o"])?;
    }
    let last = spolia(&["--json", "why", "--last-compile"])?;
    if !last.contains("\"outcome\":\"hit\"") {
        return Err(format!("a compile seen before was no hit: {last}"));
    }
    spolia(&["run", "-i", "x.c", "-o", "y", "--", "cp", "x.c", "y"]).map(drop)
}
