//! A hit is on the path of every unit of a build: what it may ask of the system, whatever the machine's speed.

use spolia_testing::cost::{SystemCalls, page_faults, system_calls};

use super::{Stand, settle};

/// Sources of the crate, each a fact of its own.
const SOURCES: usize = 60;
/// System calls of a hit but for those about sources.
const CALLS_ONCE: usize = 330;
/// Of one source: its `stat` and its record.
const CALLS_PER_SOURCE: usize = 3;
/// Of 4 KiB each.
const PAGE_FAULTS_MAX: u64 = 650;

#[test]
fn a_hit_stays_within_its_budget() {
    let stand = Stand::new();
    let names: Vec<String> = (0..SOURCES).map(|number| format!("m{number}.rs")).collect();
    for name in &names {
        stand.env.write(format!("one/src/{name}"), format!("{name}\n"));
    }
    stand.env.write("one/src/lib.rs", names.join("\n") + "\n");
    settle();
    for _ in 0..3 {
        stand.compile("one", &[]);
    }
    assert_eq!(stand.last()["outcome"], "hit");

    let SystemCalls { total: calls, table } =
        system_calls(&stand.call("one", &[]), &stand.env.path("counts"));
    assert!(calls > SOURCES, "{calls} system calls cannot have looked at every source");
    let most = CALLS_ONCE + SOURCES * CALLS_PER_SOURCE;
    assert!(calls <= most, "{calls} system calls of {most}:\n{table}");

    let faults = page_faults(stand.call("one", &[]));
    assert!(faults > 0 && faults <= PAGE_FAULTS_MAX, "{faults} page faults");
}
