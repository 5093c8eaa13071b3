//! `cargo xtask demo`: the example in `examples/tools`, cold, warm, and after bumping one tool, with what was
//! rebuilt, what was restored and how long each took, from Spolia's own events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::packages;
use crate::run::{self, Done};

/// The tool that is bumped: what stands in the manifest, and what it becomes.
const BUMP: [(&str, &str); 2] = [
    ("2.0.13+zstd.1.5.6", "2.1.2+zstd.1.5.7"),
    (
        "38ff0f21cfee8f97d94cef41359e0c89aa6113028ab0291aa8ca0038995a95aa",
        "481ada9c543b2323cbb7bbdbb5249177fbf0188ed959ed2c15e4b22421c84ed3",
    ),
];

/// One compiler and what brings it.
struct Compiler {
    platform: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
}

const COMPILERS: &[Compiler] = &[
    Compiler {
        platform: "linux/arm64",
        programs: &["aarch64-linux-gnu-gcc"],
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
    Compiler {
        platform: "linux/386",
        programs: &["i686-linux-gnu-gcc"],
        packages: &["gcc-i686-linux-gnu", "libc6-dev-i386-cross"],
    },
];

/// Runs it. `--keep` leaves the folder; `--host-only` builds for this machine's platform alone.
pub(crate) fn run(args: &[String]) -> Done {
    let keep = args.iter().any(|arg| arg == "--keep");
    let host_only = args.iter().any(|arg| arg == "--host-only");
    if let Some(odd) = args.iter().find(|arg| *arg != "--keep" && *arg != "--host-only") {
        return Err(format!("`{odd}` is no option of demo (there are --keep and --host-only)"));
    }
    if !packages::ensure(&["cc", "make", "ar"], &["gcc", "libc6-dev", "make"])? {
        return Err("a C compiler and make are needed".to_owned());
    }
    let platforms = platforms(host_only)?;
    crate::build::program("release")?;
    let folder = std::env::temp_dir().join(format!("spolia-demo-{}", std::process::id()));
    let project = folder.join("tools");
    copy(&run::root()?.join("examples/tools"), &project)?;
    let demo = Demo { spolia: binary()?, project, cache: folder.join("cache"), platforms };
    println!("\nthe example is in {}", demo.project.display());
    let done = demo.all();
    if keep {
        println!("kept: {}", folder.display());
    } else {
        std::fs::remove_dir_all(&folder).map_err(|error| format!("cannot remove the demo: {error}"))?;
    }
    done
}

/// The platforms there are compilers for; says what is left out.
fn platforms(host_only: bool) -> Done<Vec<String>> {
    let mut platforms = vec![host_platform()?];
    for compiler in COMPILERS {
        if platforms[0] == compiler.platform {
            continue;
        }
        if host_only {
            println!("left out: {} (--host-only)", compiler.platform);
        } else if packages::ensure(compiler.programs, compiler.packages)? {
            platforms.push(compiler.platform.to_owned());
        } else {
            println!("left out: {} (no {})", compiler.platform, compiler.programs.join(", "));
        }
    }
    Ok(platforms)
}

fn host_platform() -> Done<String> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("linux/amd64".to_owned()),
        "aarch64" => Ok("linux/arm64".to_owned()),
        "x86" => Ok("linux/386".to_owned()),
        other => Err(format!("the example has no platform for {other}")),
    }
}

fn binary() -> Done<PathBuf> {
    run::target().map(|target| target.join("release/spolia"))
}

/// The files that git knows, and whatever else lies there but build output.
fn copy(from: &Path, to: &Path) -> Done {
    let io = |error: std::io::Error| format!("cannot copy the example: {error}");
    std::fs::create_dir_all(to).map_err(io)?;
    for entry in std::fs::read_dir(from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name == ".spolia" || name == "bin" || name == "work" || name == "dist" {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type().map_err(io)?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(io)?;
        }
    }
    Ok(())
}

struct Demo {
    spolia: PathBuf,
    project: PathBuf,
    cache: PathBuf,
    platforms: Vec<String>,
}

/// What one build did.
struct Round {
    name: &'static str,
    wall: std::time::Duration,
    /// Outcome → steps.
    steps: BTreeMap<String, Vec<String>>,
    summary: Value,
}

impl Demo {
    fn all(&self) -> Done {
        let cold = self.build("cold")?;
        self.show(&cold);
        let warm = self.build("warm: nothing changed")?;
        self.show(&warm);
        self.expect_none(&warm, "ran")?;
        std::fs::remove_dir_all(self.project.join("bin")).map_err(|error| error.to_string())?;
        std::fs::remove_dir_all(self.project.join(".spolia")).map_err(|error| error.to_string())?;
        let restored = self.build("outputs deleted: restored from the store")?;
        self.show(&restored);
        self.expect_none(&restored, "ran")?;
        self.bump()?;
        let bumped = self.build("zstd bumped")?;
        self.show(&bumped);
        let spared = ["zlib", "sqlite", "fio", "zlib-src", "sqlite-src", "fio-src"];
        let ran = bumped.steps.get("ran").cloned().unwrap_or_default();
        if let Some(wrong) = ran.iter().find(|step| spared.contains(&step.split(' ').next().unwrap_or(""))) {
            return Err(format!("{wrong} ran again, and nothing it depends on changed"));
        }
        if !ran.iter().any(|step| step.starts_with("zstd ")) {
            return Err("zstd did not run again".to_owned());
        }
        println!("\n{:<44} {:>9} {:>5} {:>9} {:>7}", "build", "wall s", "ran", "restored", "fresh");
        for round in [&cold, &warm, &restored, &bumped] {
            let count = |key: &str| round.summary[key].as_u64().map_or("?".to_owned(), |n| n.to_string());
            println!(
                "{:<44} {:>9.2} {:>5} {:>9} {:>7}",
                round.name,
                round.wall.as_secs_f64(),
                count("ran"),
                count("restored"),
                count("up_to_date")
            );
        }
        self.run_programs()?;
        self.release()
    }

    /// The release of what was built, checked as somebody who got it would.
    fn release(&self) -> Done {
        println!("\n== the release, and the release a second time");
        let platforms = self.platforms.join(",");
        let mut dist = Command::new(&self.spolia);
        dist.args(["dist", "--verify", "--platform", &platforms]);
        run::checked(dist.current_dir(&self.project).env("SPOLIA_CACHE_DIR", &self.cache))?;
        run::checked(Command::new(&self.spolia).args(["dist", "--check"]).arg(self.project.join("dist")))?;
        for list in ["SHA256SUMS", "oss_source.tgz.md5"] {
            let program = if list == "SHA256SUMS" { "sha256sum" } else { "md5sum" };
            run::checked(
                Command::new(program).args(["-c", "--strict", list]).current_dir(self.project.join("dist")),
            )?;
        }
        Ok(())
    }

    fn build(&self, name: &'static str) -> Done<Round> {
        println!("\n== {name}");
        let mut command = Command::new(&self.spolia);
        command.args(["build", "--json", "--platform", &self.platforms.join(",")]);
        command.current_dir(&self.project).env("SPOLIA_CACHE_DIR", &self.cache);
        let began = Instant::now();
        let made = command.output().map_err(|error| format!("cannot run spolia: {error}"))?;
        let wall = began.elapsed();
        let mut round = Round { name, wall, steps: BTreeMap::new(), summary: Value::Null };
        let mut output: BTreeMap<String, String> = BTreeMap::new();
        for line in String::from_utf8_lossy(&made.stdout).lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let step = format!("{} ({})", text("step"), text("platform"));
            match event["kind"].as_str() {
                Some("step-output") => output.entry(step).or_default().push_str(&text("text")),
                Some("step-finished") => {
                    if text("outcome") == "failed" {
                        println!("{}", output.remove(&step).unwrap_or_default());
                        println!("{step} failed: {}", text("error"));
                        println!("{}", event["hints"]);
                    }
                    let outcome = match (text("outcome").as_str(), text("tier").as_str()) {
                        ("hit", "up-to-date") => "fresh".to_owned(),
                        ("hit", _) => "restored".to_owned(),
                        (other, _) => other.to_owned(),
                    };
                    let us = event["cost"]["wall_us"].as_f64();
                    let us = us.filter(|_| outcome == "ran");
                    let time = us.map(|us| format!(" {:.1} s", us / 1e6)).unwrap_or_default();
                    round.steps.entry(outcome).or_default().push(format!("{step}{time}"));
                }
                Some("warning") => println!("warning: {}", text("message")),
                Some("healed") => println!("healed: {}", text("what")),
                Some("run-finished") => round.summary = event["summary"].clone(),
                _ => {}
            }
        }
        if made.status.success() {
            return Ok(round);
        }
        print!("{}", String::from_utf8_lossy(&made.stderr));
        Err(format!("the build `{name}` ended with {}", made.status))
    }

    fn show(&self, round: &Round) {
        for (outcome, steps) in &round.steps {
            println!("{outcome:>9}: {}", steps.join(", "));
        }
        println!("     wall: {:.2} s", round.wall.as_secs_f64());
    }

    fn expect_none(&self, round: &Round, outcome: &str) -> Done {
        match round.steps.get(outcome) {
            Some(steps) => Err(format!("in `{}` these {outcome}: {}", round.name, steps.join(", "))),
            None => Ok(()),
        }
    }

    fn bump(&self) -> Done {
        let path = self.project.join("spolia.toml");
        let mut text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        for (from, to) in BUMP {
            if !text.contains(from) {
                return Err(format!("`{from}` is not in the example's manifest"));
            }
            text = text.replace(from, to);
        }
        std::fs::write(&path, text).map_err(|error| error.to_string())
    }

    /// The programs for this machine really run.
    fn run_programs(&self) -> Done {
        let bin = self.project.join("bin").join(&self.platforms[0]);
        println!();
        run::checked(Command::new(bin.join("weigh")).arg("--self-test"))?;
        run::checked(Command::new(bin.join("fio")).arg("--version"))
    }
}
