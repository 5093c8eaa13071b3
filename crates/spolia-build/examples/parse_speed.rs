//! How long a manifest of 1000 steps takes to parse and check: `cargo run --release -p spolia-build
//! --example parse_speed [STEPS]`. Prints the bytes and the CPU time of the fastest of 20 rounds.
//!
//! 2026-11-21, two cores shared with other work: 1000 steps, 218 kB: 8.2 CPU-ms, more than half of it in the
//! TOML parser.

use std::io;

use spolia_build::manifest::{Files, Request, parse};
use spolia_core::{Platform, RelPath};

struct One(String);

impl Files for One {
    fn read(&mut self, _path: &RelPath) -> io::Result<String> {
        Ok(self.0.clone())
    }
}

fn manifest(steps: usize) -> String {
    let step = |n: usize| {
        let needs = if n == 0 { String::new() } else { format!("\"pkg-{}\"", (n - 1) / 2) };
        format!(
            "[steps.pkg-{n}]\nneeds = [{needs}]\nrun = \"${{platform.cc}} -O2 -c pkg/{n}/*.c && ar rcs ${{out}}/lib.a *.o\"\n\
             inputs = [\"pkg/{n}/**\", \"!**/*.md\"]\nenv = {{ LEVEL = \"{n}\" }}\ntools = [\"ar\", \"${{platform.cc}}\"]\noutputs = [\"lib.a\"]\n\n"
        )
    };
    let head = "[project]\nname = \"speed\"\nplatforms = [\"linux/amd64\"]\n\n";
    std::iter::once(head.to_owned()).chain((0..steps).map(step)).collect()
}

#[expect(clippy::print_stdout, reason = "it is a measurement to be read")]
fn main() {
    let steps = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let text = manifest(steps);
    let bytes = text.len();
    let mut files = One(text);
    let request = Request { variant: None, host: Platform::host() };
    let mut fastest = f64::INFINITY;
    for _ in 0..20 {
        let before = cpu_ms();
        let parsed = parse(&mut files, "spolia.toml", &request);
        let took = cpu_ms() - before;
        assert!(
            parsed.is_ok_and(|(manifest, warnings)| manifest.steps.len() == steps && warnings.is_empty())
        );
        fastest = fastest.min(took);
    }
    println!("{steps} steps, {bytes} bytes: {fastest:.2} CPU-ms");
}

fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
