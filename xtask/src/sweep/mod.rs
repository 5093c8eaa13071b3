//! `cargo xtask sweep-proof`: `spolia sweep` on a workspace of published crates that was built with three lock files, in every
//! surrounding and with every policy, and Cargo's own word for what is live afterwards.
//!
//! - *Live* is what the fixture's four commands need with its last lock file. What that is in files is read off a target
//!   directory that only these commands were run in; all else is *stale*.
//! - After a sweep each command is run again with `--message-format=json`: an artifact that is not `fresh` was compiled.
//! - The proof runs in a mount namespace of its own, where it mounts what it needs. Nothing is left when it is killed.

mod scenarios;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::tree::Tree;
use crate::run::{self, Done};

/// Set in the namespace.
const INSIDE: &str = "SPOLIA_SWEEP_PROOF";

/// `[--small] [--sample] [--spolia=PROGRAM] [SCENARIO…]`.
pub(crate) fn proof(args: &[String]) -> Done {
    let mut spolia = None;
    let (mut is_small, mut is_sample, mut wanted) = (false, false, Vec::new());
    for arg in args {
        match arg.as_str() {
            "--small" => is_small = true,
            "--sample" => is_sample = true,
            other => match other.strip_prefix("--spolia=") {
                Some(path) => spolia = Some(PathBuf::from(path)),
                None if other.starts_with('-') => {
                    return Err(format!(
                        "`sweep-proof` takes `--small`, `--sample`, `--spolia=PROGRAM` and names of scenarios, not `{other}`"
                    ));
                }
                None => wanted.push(other),
            },
        }
    }
    if std::env::var_os(INSIDE).is_none() {
        let mode: &[&str] = if is_small {
            &["build", "--package", "spolia"]
        } else {
            &["build", "--release", "--package", "spolia"]
        };
        if spolia.is_none() {
            run::cargo(mode)?;
        }
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount");
        if !run::is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        return run::checked(unshare.arg(own).arg("sweep-proof").args(args).env(INSIDE, "1"));
    }
    let base = target()?.join("sweep-proof");
    let fixture = Fixture::make(&base, if is_small { "small" } else { "full" }, is_small, "")?;
    let work =
        tempfile::Builder::new().prefix("run-").tempdir_in(&base).map_err(|error| error.to_string())?;
    let usual = target()?.join(if is_small { "debug/spolia" } else { "release/spolia" });
    let spolia = spolia.unwrap_or(usual).canonicalize().map_err(|error| format!("spolia: {error}"))?;
    let mut stand = Stand { spolia, work: work.path().to_owned(), fixture: &fixture, rows: Vec::new() };
    let done = scenarios::all(&mut stand, is_sample, &wanted);
    stand.table();
    done?;
    if !is_sample && (wanted.is_empty() || wanted.contains(&"new-layout")) {
        let fixture = Fixture::make(&base, "new-layout", true, "-Zbuild-dir-new-layout")?;
        let mut stand = Stand { fixture: &fixture, rows: Vec::new(), ..stand };
        let done = scenarios::new_layout(&mut stand);
        stand.table();
        done?;
    }
    println!("after every sweep the live commands compiled nothing");
    Ok(())
}

fn target() -> Done<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.map_or_else(|| run::root().map(|root| root.join("target")), Ok)
}

/// The workspace after its year, and what a fresh one has.
struct Fixture {
    folder: PathBuf,
    /// For Cargo itself.
    flags: Vec<String>,
    /// What was live in the end.
    live: Vec<String>,
    fresh: Tree,
}

impl Fixture {
    /// Makes it, or takes the one that the same script and compiler have made.
    fn make(base: &Path, name: &str, is_small: bool, flags: &str) -> Done<Self> {
        let folder = base.join(name);
        let script = run::root()?.join("benches/sweep/fixture.sh");
        let said = run::output(plain(&mut Command::new("rustc")).arg("-vV"))?;
        let text = std::fs::read_to_string(&script).map_err(|error| error.to_string())?;
        let made_by = format!("{said}{text}");
        let done = folder.join("done");
        let mut fixture = Self {
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            live: Vec::new(),
            fresh: Tree::default(),
            folder,
        };
        if std::fs::read_to_string(&done).is_ok_and(|text| text == made_by) {
            println!("the fixture in {} is taken as it is", fixture.folder.display());
        } else {
            let _absent = std::fs::remove_dir_all(&fixture.folder);
            let mut build = Command::new("bash");
            plain(&mut build).arg(&script).arg(&fixture.folder).env("FIXTURE_FLAGS", flags);
            if is_small {
                build.env("FIXTURE_SMALL", "1");
            }
            run::checked(fixture.bootstrap(&mut build))?;
        }
        let list = fixture.folder.join("commands");
        let list = std::fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
        fixture.live = list.lines().map(str::to_owned).collect();
        let fresh = fixture.folder.join("fresh");
        let env = [("CARGO_TARGET_DIR", fresh.display().to_string())];
        for command in &fixture.live {
            fixture.compiled(&fixture.folder.join("ws"), command, &env)?;
        }
        fixture.fresh = Tree::of(&fresh)?;
        std::fs::write(&done, made_by).map_err(|error| error.to_string())?;
        Ok(fixture)
    }

    /// Options that are not stable yet.
    fn bootstrap<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        if !self.flags.is_empty() {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// The crates that `line`, a command of Cargo's, compiles in `ws` now.
    fn compiled(&self, ws: &Path, line: &str, env: &[(&str, String)]) -> Done<Vec<String>> {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let mut cargo = Command::new("cargo");
        plain(&mut cargo).args(&self.flags).args(words);
        cargo.args(["--locked", "--offline", "--quiet", "--message-format=json"]).current_dir(ws);
        self.bootstrap(&mut cargo).envs(env.iter().map(|(name, value)| (*name, value)));
        let said = run::output(&mut cargo)?;
        let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let stale = messages.filter(|one| one["reason"] == "compiler-artifact" && one["fresh"] == false);
        Ok(stale.map(|one| one["target"]["name"].as_str().unwrap_or("?").to_owned()).collect())
    }
}

/// Without what `cargo xtask` has set for this process.
fn plain(command: &mut Command) -> &mut Command {
    let kept = ["CARGO_HOME", "CARGO_BUILD_JOBS"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        let ours = text.starts_with("CARGO") && !kept.contains(&text.as_str());
        if ours || text.starts_with("RUSTFLAGS") || text == "RUSTC_WRAPPER" || text == "RUSTC" {
            command.env_remove(&name);
        }
    }
    command
}

/// One sweep and what came of it.
struct Row {
    scenario: String,
    /// Bytes that were stale, and those of them that are left.
    stale: u64,
    left: u64,
    /// Crates that the live commands compiled afterwards.
    lost: Vec<String>,
    wall: Duration,
}

/// Where scenarios are played.
struct Stand<'f> {
    spolia: PathBuf,
    work: PathBuf,
    fixture: &'f Fixture,
    rows: Vec<Row>,
}

impl Stand<'_> {
    fn command(&self, folder: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.spolia);
        plain(&mut command).arg("--json").args(words).current_dir(folder);
        command.env("SPOLIA_CACHE_DIR", self.work.join("store"));
        self.fixture.bootstrap(&mut command);
        command
    }

    /// Runs `spolia --json WORDS` in `folder`; its lines.
    fn spolia(&self, folder: &Path, words: &[&str]) -> Done<Vec<Value>> {
        let made = self.command(folder, words).output();
        let made = made.map_err(|error| format!("cannot run spolia: {error}"))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            let found = without_plans(&String::from_utf8_lossy(&made.stdout));
            return Err(format!("`spolia {}` ended with {}: {said}{found}", words.join(" "), made.status));
        }
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        text.lines().map(|line| serde_json::from_str(line).map_err(|e| format!("`{line}`: {e}"))).collect()
    }

    /// What all live commands compile.
    fn lost(&self, ws: &Path, live: &[(String, Vec<(&str, String)>)]) -> Done<Vec<String>> {
        let mut lost = Vec::new();
        for (command, env) in live {
            lost.extend(self.fixture.compiled(ws, command, env)?);
        }
        Ok(lost)
    }

    fn live(&self) -> Vec<(String, Vec<(&'static str, String)>)> {
        self.fixture.live.iter().map(|command| (command.clone(), Vec::new())).collect()
    }

    /// Sweeps `ws` and looks: nothing live may be gone; what of the stale is left is in the row.
    fn sweep(&mut self, scenario: &str, ws: &Path, words: &[&str]) -> Done<Vec<Value>> {
        let live = self.live();
        let fresh = &self.fixture.fresh;
        let (row, said) = self.swept(scenario, ws, &ws.join("target"), words, &live, fresh)?;
        self.rows.push(row);
        Ok(said)
    }

    fn swept(
        &self,
        scenario: &str,
        ws: &Path,
        target: &Path,
        words: &[&str],
        live: &[(String, Vec<(&str, String)>)],
        fresh: &Tree,
    ) -> Done<(Row, Vec<Value>)> {
        let before = self.lost(ws, live)?;
        if !before.is_empty() {
            return Err(format!("{scenario}: Cargo compiles {before:?} before anything was swept"));
        }
        let was = Tree::of(target)?;
        let words: Vec<&str> = [&["sweep"], words].concat();
        let began = Instant::now();
        let said = self.spolia(ws, &words)?;
        let wall = began.elapsed();
        let is = Tree::of(target)?;
        let live_things = was.within(fresh);
        let gone: Vec<_> = live_things.iter().filter(|name| !is.has(name)).collect();
        let incremental = words.contains(&"--for-cache-save");
        if let Some(gone) =
            gone.iter().find(|name| !incremental || !name.iter().any(|part| part == "incremental"))
        {
            return Err(format!("{scenario}: `{}` was live and is gone", gone.display()));
        }
        let stale = was.without(fresh);
        let left: Vec<&Path> = stale.iter().copied().filter(|name| is.has(name)).collect();
        let row = Row {
            scenario: scenario.to_owned(),
            stale: was.bytes(stale.iter().copied()),
            left: was.bytes(left.iter().copied()),
            lost: self.lost(ws, live)?,
            wall,
        };
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{scenario}: {:.1} MB of {:.1} MB stale are left, {} units compiled, {:.2} s",
            mb(row.left),
            mb(row.stale),
            row.lost.len(),
            wall.as_secs_f64()
        );
        for name in left.iter().take(5) {
            println!("    left: {}", name.display());
        }
        if !row.lost.is_empty() {
            return Err(format!("{scenario}: after the sweep Cargo compiles {:?}", row.lost));
        }
        Ok((row, said))
    }

    fn table(&self) {
        println!(
            "\n| scenario | stale MB | left MB | left % | units compiled afterwards | sweep s |\n|---|---|---|---|---|---|"
        );
        for row in &self.rows {
            let percent = if row.stale == 0 { 0.0 } else { row.left as f64 * 100.0 / row.stale as f64 };
            println!(
                "| {} | {:.1} | {:.1} | {percent:.2} | {} | {:.2} |",
                row.scenario,
                row.stale as f64 / 1e6,
                row.left as f64 / 1e6,
                row.lost.len(),
                row.wall.as_secs_f64()
            );
        }
        println!();
    }
}

/// What a sweep says of itself, without the lists of what goes.
fn without_plans(said: &str) -> String {
    let short = |line: &str| {
        let mut value: Value = serde_json::from_str(line).ok()?;
        value.as_object_mut()?.remove("plan");
        Some(value.to_string())
    };
    said.lines().map(|line| short(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}
