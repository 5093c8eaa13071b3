//! `cargo xtask fuzz [--seconds N] [TARGET…]`: libFuzzer on the parsers of `spolia-fuzz`, each for N seconds. It is
//! coverage-guided and without sanitizers, so that it runs on the stable toolchain. What it finds lies in
//! `target/fuzz/TARGET/`, and so does the corpus: a second run goes on from there.

use std::path::Path;
use std::process::Command;

use crate::packages;
use crate::run::{self, Done};

const CARGO_FUZZ: &str = "0.13.2";
const SECONDS: &str = "60";

pub(crate) fn run(args: &[String]) -> Done {
    let mut args = args.iter();
    let mut seconds = SECONDS.to_owned();
    let mut chosen = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let number = args.next().ok_or("`--seconds` needs a number")?;
                seconds =
                    number.parse::<u32>().map_err(|e| format!("`--seconds {number}`: {e}"))?.to_string();
            }
            flag if flag.starts_with('-') => return Err(format!("`fuzz` has no flag `{flag}`")),
            name => chosen.push(name.to_owned()),
        }
    }
    if !packages::ensure(&["c++"], &["g++"])? {
        return Err("a C++ compiler is needed to build libFuzzer".to_owned());
    }
    let root = run::root()?;
    let tools = root.join("target/tools");
    let fuzz = tools.join("bin/cargo-fuzz");
    if !fuzz.exists() {
        let tools = tools.to_string_lossy();
        run::cargo(&["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root", &tools])?;
    }
    let example = ["run", "--quiet", "--package", "spolia-fuzz", "--example", "seeds", "--"];
    let known = run::output(Command::new(run::cargo_path()).args(example).current_dir(&root))?;
    let known: Vec<&str> = known.lines().collect();
    if let Some(unknown) = chosen.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no target `{unknown}`; there are {}", known.join(", ")));
    }
    let chosen =
        if chosen.is_empty() { known.iter().map(|name| (*name).to_owned()).collect() } else { chosen };
    let mut failed = Vec::new();
    for name in &chosen {
        let folder = root.join("target/fuzz").join(name);
        let corpus = folder.join("corpus");
        let seeds = corpus.to_string_lossy();
        run::cargo(&[example.as_slice(), &[name, &seeds]].concat())?;
        if let Err(error) = one(&root, &fuzz, name, &folder, &seconds) {
            eprintln!("{name}: {error}");
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        println!("{} targets ran {seconds} s each and found nothing", chosen.len());
        return Ok(());
    }
    Err(format!("broken: {}; see target/fuzz/TARGET/artifacts", failed.join(", ")))
}

fn one(root: &Path, fuzz: &Path, name: &str, folder: &Path, seconds: &str) -> Done {
    let artifacts = folder.join("artifacts");
    std::fs::create_dir_all(&artifacts).map_err(|e| format!("{}: {e}", artifacts.display()))?;
    let mut command = Command::new(fuzz);
    command.args([
        "run",
        "--fuzz-dir",
        "crates/spolia-fuzz",
        "--sanitizer",
        "none",
        "--features",
        "libfuzzer",
    ]);
    command.arg("--target-dir").arg(root.join("target/fuzz/build"));
    command.arg("fuzz").arg(folder.join("corpus")).arg("--");
    command.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-timeout=10"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    // Linked again for each target: quickly.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command.env("SPOLIA_FUZZ_TARGET", name).current_dir(root);
    run::checked(&mut command)
}
