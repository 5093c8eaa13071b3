//! The rules that a compiler does not check, each with its reason in its message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{self, Done};

/// Each crate's floor; a crate imports lower floors only.
const FLOORS: &[(&str, u32)] = &[
    ("spolia-core", 0),
    ("spolia-store", 1),
    ("spolia-engine", 2),
    ("spolia-build", 3),
    ("spolia-sweep", 3),
    ("spolia-cc", 3),
    ("spolia-perf", 3),
    ("spolia-dist", 4),
    ("spolia", 5),
];
/// Only for tests, from any floor; may see the floors its fakes are of.
const TESTING: &str = "spolia-testing";
/// Beside the house: looks into every floor, nobody looks into it.
const FUZZ: &str = "spolia-fuzz";
/// Crates that would bring I/O, a clock, threads or a runtime into the pure floor.
const NOT_IN_CORE: &[&str] =
    &["rustix", "libc", "tokio", "rayon", "tempfile", "ignore", "zstd", "signal-hook"];
/// Words that core's code must not hold: it is pure.
const NOT_IN_CORE_CODE: &[&str] =
    &["std::fs", "std::process", "std::net", "std::thread", "Instant::now", "SystemTime", "env::var"];
/// A longer file is two ideas, unless it repeats one shape.
const LINES_MAX: usize = 1200;
/// Files that repeat one shape: a table of mistakes and what is said of each.
const MAY_BE_LONG: &[&str] = &["crates/spolia-build/src/manifest/mistakes.rs"];

/// Where a path into somebody's own folders or checkout begins.
const ONE_MACHINE: &[&str] = &["/root/.", "/work/"];

/// Checks everything; all mistakes at once.
pub(crate) fn check() -> Done {
    let root = run::root()?;
    let mut mistakes = floor_plan()?;
    let files = sources(&root)?;
    for file in &files {
        source(&root, file, &mut mistakes)?;
    }
    texts(&root, &mut mistakes)?;
    if mistakes.is_empty() {
        println!("tidy: {} source files and the floor plan are in order", files.len());
        return Ok(());
    }
    for mistake in &mistakes {
        eprintln!("tidy: {mistake}");
    }
    Err(format!("{} rules are broken", mistakes.len()))
}

/// Edges between our crates, from `cargo metadata`.
fn floor_plan() -> Done<Vec<String>> {
    let mut cargo = Command::new(run::cargo_path());
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(run::root()?);
    let metadata: Value = serde_json::from_str(&run::output(&mut cargo)?).map_err(|e| e.to_string())?;
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut mistakes = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let folder = Path::new(package["manifest_path"].as_str().unwrap_or_default()).parent();
        let folder_name = folder.and_then(Path::file_name).and_then(|name| name.to_str());
        if folder_name != Some(name) {
            mistakes.push(format!("crate `{name}` lies in a folder of another name"));
        }
        if name == "xtask" || name == TESTING || name == FUZZ {
            continue;
        }
        let Some(floor) = floors.get(name) else {
            mistakes.push(format!("crate `{name}` has no floor in xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let needs = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"].as_str() == Some("dev");
            if name == "spolia-core" && !is_dev && NOT_IN_CORE.contains(&needs) {
                mistakes.push(format!("`spolia-core` is pure and must not depend on `{needs}`"));
            }
            if needs == FUZZ || needs == TESTING && !is_dev {
                mistakes.push(format!("`{name}` depends on `{TESTING}` outside of tests"));
            }
            if let Some(needed) = floors.get(needs)
                && needed >= floor
            {
                mistakes.push(format!(
                    "`{name}` (floor {floor}) imports `{needs}` (floor {needed}): only lower floors"
                ));
            }
        }
    }
    Ok(mistakes)
}

fn sources(root: &Path) -> Done<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn source(root: &Path, file: &Path, mistakes: &mut Vec<String>) -> Done {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
    let first = text.lines().next().unwrap_or_default();
    if !first.starts_with("//!") {
        mistakes.push(format!("{name}: the first line says what the file is (`//! …`)"));
    }
    let in_tests = name.contains("/tests/") || name.ends_with("/tests.rs");
    if text.lines().count() > LINES_MAX && !in_tests && !MAY_BE_LONG.contains(&name.as_str()) {
        mistakes.push(format!("{name}: more than {LINES_MAX} lines"));
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if name.starts_with("crates/spolia-core/") {
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: String = lines.collect::<Vec<_>>().join("\n");
        for word in NOT_IN_CORE_CODE.iter().filter(|word| code.contains(**word)) {
            mistakes.push(format!("{name}: `{word}` in the pure floor"));
        }
    }
    let reads = ["env::var(", "env::var_os(", "env::vars("].iter().any(|word| code.contains(word));
    let may_read = name == "crates/spolia/src/settings.rs"
        || name.starts_with("xtask/")
        || name.starts_with("crates/spolia-testing/")
        || in_tests
        || name.ends_with("/build.rs") && !name.contains("/src/")
        || name.contains("/examples/");
    if reads && !may_read {
        mistakes.push(format!("{name}: reads the environment; only settings.rs does"));
    }
    // `rustix::stdio` hands out descriptors, to children mostly; it prints nothing.
    let code = code.replace("stdio::", "");
    let prints = ["println!(", "eprintln!(", "io::stdout()", "io::stderr()"];
    let may_print = may_read || name == "crates/spolia/src/shell.rs" || name.contains("/sandbox/probe.rs");
    if prints.iter().any(|word| code.contains(word)) && !may_print && name != "crates/spolia/src/settings.rs"
    {
        mistakes.push(format!("{name}: prints; only shell.rs does"));
    }
    Ok(())
}

/// What no text of the project may hold: paths of one machine.
fn texts(root: &Path, mistakes: &mut Vec<String>) -> Done {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z"]).current_dir(root);
    let files = run::output(&mut git)?;
    let kinds: BTreeSet<&str> = ["rs", "md", "toml", "sh", "py", "c", "h", "txt"].into();
    for name in files.split('\0').filter(|name| !name.is_empty() && *name != "xtask/src/tidy.rs") {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !kinds.contains(ending) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(root.join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if ONE_MACHINE.iter().any(|folder| begins_a_path(line, folder)) {
                mistakes.push(format!("{name}:{}: a path of one machine", number + 1));
            }
            if line.ends_with(' ') || line.ends_with('\t') {
                let is_snapshot = name.ends_with(".rs") || name.ends_with(".md");
                if !is_snapshot {
                    mistakes.push(format!("{name}:{}: space at the end of the line", number + 1));
                }
            }
        }
    }
    Ok(())
}

/// Whether `folder` stands in `line` where an absolute path begins, not in the middle of another.
fn begins_a_path(line: &str, folder: &str) -> bool {
    let inside = |letter: char| letter.is_alphanumeric() || "/._-})*".contains(letter);
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(inside))
}
