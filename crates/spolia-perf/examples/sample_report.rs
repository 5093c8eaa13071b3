//! `sample_report RUNS FILE`: writes the page of a history that never was, for looking at it.

#[path = "../tests/sample/mod.rs"]
mod sample;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [runs, file] = args.as_slice() else { return Err("what is needed: RUNS FILE".into()) };
    std::fs::write(file, spolia_perf::report::html(&sample::report(runs.parse()?)))?;
    Ok(())
}
