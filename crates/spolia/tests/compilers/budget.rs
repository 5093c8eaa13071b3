//! A hit is on the path of every compile: what it may ask of the system, whatever the machine's speed.

use spolia_testing::cost::{SystemCalls, before_first, page_faults, system_calls};

use super::{TestEnv, outcome};

/// Headers of the source.
const HEADERS: usize = 50;
/// System calls of a hit but for those about headers.
const CALLS_ONCE: usize = 330;
/// Of one header: its `stat`, its record, and what was looked for beside it and not there.
const CALLS_PER_HEADER: usize = 4;
/// Measured 2026-11-21: 473 in a debug build, 140 in a release one.
const PAGE_FAULTS_MAX: u64 = 650;

fn warm() -> TestEnv {
    let env = super::env();
    let mut source = String::new();
    for number in 0..HEADERS {
        env.write(format!("inc/h{number}.h"), format!("int v{number}(void);\n"));
        source.push_str(&format!("#include \"h{number}.h\"\n"));
    }
    env.write("many.c", source);
    std::thread::sleep(std::time::Duration::from_millis(120));
    for _ in 0..3 {
        assert!(env.command(ARGS).status().unwrap().success());
    }
    assert_eq!(outcome(&env), "hit");
    env
}

const ARGS: [&str; 7] = ["cc", "gcc", "-Iinc", "-c", "many.c", "-o", "many.o"];

#[test]
fn a_hit_stays_within_its_budget() {
    let env = warm();
    let SystemCalls { total: calls, table } = system_calls(&env.command(ARGS), &env.path("counts"));
    assert!(calls > HEADERS, "{calls} system calls cannot have looked at every header");
    let most = CALLS_ONCE + HEADERS * CALLS_PER_HEADER;
    assert!(calls <= most, "{calls} system calls of {most}:\n{table}");

    let faults = page_faults(env.command(ARGS));
    assert!(faults > 0 && faults <= PAGE_FAULTS_MAX, "{faults} page faults");
}

/// System calls of a start, until the first that is not the C library's or Rust's own. Measured: 30 where the C library is linked
/// into the program, and in a debug build 70 with those of the loader.
const START_CALLS_MAX: u64 = 90;
/// Page faults until then. Measured: 52, and in a debug build 153.
const START_PAGE_FAULTS_MAX: u64 = 230;

#[test]
fn a_start_stays_within_its_budget() {
    let env = super::env();
    env.write("one.c", "int x;\n");
    // Where it is called is the first it asks for.
    let command = env.command(["cc", "gcc", "-c", "one.c", "-o", "one.o"]);
    let start = before_first(&command, "getcwd", &env.path("trace"));
    assert!(start.calls > 10 && start.calls <= START_CALLS_MAX, "{start:?}");
    assert!(start.page_faults > 10 && start.page_faults <= START_PAGE_FAULTS_MAX, "{start:?}");
    assert!(!env.has("one.o"), "it went on");
}
