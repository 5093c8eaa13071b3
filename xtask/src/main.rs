//! `cargo xtask TASK`: everything the project does to itself. Knows cargo and the shell's tools, no Spolia crate.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the developers' own: it talks as it goes"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "it starts programs and reads the environment, that is its work"
)]

mod autotools;
mod browser;
mod build;
mod conformance;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod large;
mod packages;
mod perf;
mod report;
mod run;
mod sweep;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  test         format, lints, docs, tidy, and all tests; as root also as an ordinary user;
               or a part of that: lint, tests, report, dist, ordinary, static
  build        the program for use, with the C library linked in: target/release/spolia
  demo         build the example in examples/tools cold, warm, and after bumping one tool
  tidy         the floor plan and the other rules a compiler does not check
  docs         write the reference pages that are made from the program; --check compares
  crash        a build killed at every one of its calls that change the disk, and what the next build makes of it (long)
  conformance  what compiler caches give against what the compiler gives now: [--tool T] [--compiler C]
               [--row WORD]; fails where Spolia is wrong
  autotools    a published package's `./configure && make` through the compiler cache, against the same without:
               [--spolia FILE] (a minute or two)
  fuzz         libFuzzer on every parser of foreign bytes: [--seconds N] [TARGET…] (long)
  perf-reference  what scipy says of the statistics' reference values, against what is committed
  perf-aa      live comparisons of a command of 10 ms (or --cost-ms N) with itself, with +20% and with +3% planted, and how often each
               word is said: [--comparisons N] [--planted N] [--spolia FILE] (long)
  report-outline  write what the page of `perf report` tells a program that reads it aloud
  dist-large   releases with files beyond 8 GiB and 100,000 members, read back by others:
               [--keep] [--spolia FILE] (long)
  sweep-proof  what Cargo compiles after `spolia sweep`, in every surrounding and with every policy, on a workspace of
               published crates: [--small] [--sample] [--spolia=PROGRAM] [SCENARIO…] (long without `--small`)
  bench        the task-cache benchmark beside its peers (long)
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    let done = match task.as_deref() {
        Some("test") => test::run(&rest),
        Some("build") => build::run(&rest),
        Some("demo") => demo::run(&rest),
        Some("tidy") => tidy::check(),
        Some("docs") => docs::run(&rest),
        Some("crash") => run::cargo(&[
            "test",
            "--package",
            "spolia",
            "--test",
            "builds",
            "--",
            "--ignored",
            "at_every_step",
        ]),
        Some("autotools") => autotools::run(&rest),
        Some("conformance") => conformance::run(&rest),
        Some("dist-large") => large::run(&rest),
        Some("fuzz") => fuzz::run(&rest),
        Some("perf-reference") => perf::reference(),
        Some("perf-aa") => perf::aa::run(&rest),
        Some("report-outline") => report::write_outline(),
        Some("sweep-proof") => sweep::proof(&rest),
        Some("bench") => run::root().and_then(|root| {
            build::program("release")?;
            run::program(&root.join("benches/task-cache/run.sh").to_string_lossy(), &rest)
        }),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("there is no task `{other}`\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
