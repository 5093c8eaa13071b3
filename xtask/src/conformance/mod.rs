//! `cargo xtask conformance`: what compiler caches give against what the compiler gives now, as a table.
//!
//! Each row is a call that is made often enough to be cached, a change, and the same call again. Right is what the
//! bare compiler gives after the change: output files, what it printed, its exit code. The same rows are tried on
//! every cache that is installed. Zig, whose package is 90 MB, is tried where it is installed; `--compiler zig` installs it. For Spolia a row must also have been a hit before the change, else it would be
//! right for not caching at all.

mod bench;
mod c;
mod outputs;
pub(crate) mod rust;

use std::path::PathBuf;

use crate::run::{self, Done};
use bench::{Bench, Compiler, Tool, Verdict};

/// What is installed where Zig is asked for and there is none.
const ZIG: &str = "ziglang==0.15.1";

/// One row of the table.
pub(crate) struct Row {
    /// What is changed.
    pub(crate) name: &'static str,
    /// Whether it is tried with this compiler.
    pub(crate) with: fn(&Compiler) -> bool,
    /// Whether a hit is expected before the change.
    pub(crate) cached: bool,
    /// Compiles, changes, compiles, compares.
    pub(crate) run: fn(&mut Bench<'_>) -> Done<Verdict>,
}

/// `--tool spolia` only ours, `--compiler gcc` only that (or `rustc`), `--row WORD` only rows with it; fails where
/// Spolia is wrong.
pub(crate) fn run(args: &[String]) -> Done {
    let wanted = args.iter().position(|arg| arg == "--compiler").and_then(|at| args.get(at + 1));
    match wanted.map(String::as_str) {
        Some("rustc") => rust::run(args),
        Some(_) => for_c(args),
        None => {
            let (c, rust) = (for_c(args), rust::run(args));
            c.and(rust)
        }
    }
}

/// Zig out of its package of PyPI, where that has been installed for an earlier table.
fn own_zig() -> Option<PathBuf> {
    let libraries = run::target().ok()?.join("ziglang/lib");
    let found = std::fs::read_dir(libraries).ok()?.flatten();
    found.map(|python| python.path().join("site-packages/ziglang/zig")).find(|zig| zig.is_file())
}

fn for_c(args: &[String]) -> Done {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let root = run::root()?;
    let spolia = match std::env::var_os("SPOLIA_TEST_BIN") {
        Some(program) => PathBuf::from(program),
        None => {
            run::cargo(&["build", "--quiet", "--package", "spolia"])?;
            root.join("target/debug/spolia")
        }
    };
    let wanted_tool = value("--tool");
    let wanted_compiler = value("--compiler");
    if wanted_compiler.as_deref().is_none_or(|wanted| wanted == "clang") {
        // Without it its rows are left out, and the table says so by not having them.
        crate::packages::ensure(&["clang"], &["clang"])?;
    }
    if wanted_compiler.as_deref() == Some("zig") && !crate::packages::has("zig") {
        crate::packages::python("ziglang", &[ZIG])?;
    }
    let word = value("--row").unwrap_or_default();
    let tools: Vec<Tool> = Tool::installed(&spolia)
        .into_iter()
        .filter(|tool| wanted_tool.as_ref().is_none_or(|wanted| wanted == tool.name))
        .collect();
    let compilers: Vec<Compiler> = Compiler::installed(own_zig())
        .into_iter()
        .filter(|compiler| wanted_compiler.as_ref().is_none_or(|wanted| *wanted == compiler.name))
        .collect();
    if compilers.is_empty() {
        return Err("there is no compiler to try".to_owned());
    }
    let mut wrong = Vec::new();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    println!("| what changes | compiler | {} |", names.join(" | "));
    println!("|---|---|{}", "---|".repeat(tools.len()));
    for row in c::ROWS.iter().chain(outputs::ROWS).filter(|row| row.name.contains(&word)) {
        for compiler in compilers.iter().filter(|compiler| c::is_for(row, compiler)) {
            let mut cells = Vec::new();
            for tool in &tools {
                let verdict = Bench::new(tool, compiler)?.judge(row)?;
                if tool.name == "spolia" && verdict.is_wrong(row.cached) {
                    wrong.push(format!("{} ({}): {}", row.name, compiler.name, verdict.say(row.cached)));
                }
                cells.push(verdict.say(row.cached && tool.name == "spolia"));
            }
            println!("| {} | {} | {} |", row.name, compiler.name, cells.join(" | "));
        }
    }
    for tool in &tools {
        tool.stop();
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("Spolia is wrong:\n{}", wrong.join("\n"))) }
}
