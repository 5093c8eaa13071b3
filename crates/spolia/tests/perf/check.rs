//! `spolia perf check` and the thresholds of a manifest, as a user has them.

use serde_json::Value;
use spolia_testing::TestEnv;

use crate::{Said, TWO_STEPS, env, perf};

impl Said {
    #[track_caller]
    fn findings(&self) -> Vec<(String, String, String)> {
        let value = self.json();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let one = |one: &Value| (word(&one["subject"]), word(&one["what"]), word(&one["outcome"]));
        value["findings"].as_array().unwrap().iter().map(one).collect()
    }
}

fn with(env: &TestEnv, thresholds: &str) {
    env.manifest(&format!("{TWO_STEPS}\n[perf.thresholds]\n{thresholds}\n"));
}

#[test]
fn a_run_is_held_against_the_thresholds() {
    let env = env();
    with(&env, "build = { time = '1h', cpu = '1h', hit-rate = '0.5%', output-size = '1GB', memory = '1TB' }");
    let said = perf(&env, &["monitor", "--engine", "host"]).ends(0);
    assert!(said.err.contains("over hit-rate: 0% of at least 0.5%: 0 of 2 steps"), "{}", said.err);
    let said = perf(&env, &["--json", "check", "--no-history"]).ends(6);
    let mut found = said.findings();
    found.sort();
    let of = |what: &str, outcome: &str| ("build".to_owned(), what.to_owned(), outcome.to_owned());
    let expect = [
        of("cpu", "ok"),
        of("hit-rate", "over"),
        of("memory", "ok"),
        of("output-size", "ok"),
        of("time", "ok"),
    ];
    assert_eq!(found, expect);
    // Warm now: the same limits hold. Memory is left out, since a build of two milliseconds may end before it is looked at.
    with(&env, "build = { time = '1h', cpu = '1h', hit-rate = '0.5%', output-size = '1GB' }");
    perf(&env, &["-q", "monitor", "--engine", "host"]).ends(0);
    let said = perf(&env, &["check"]).ends(0);
    assert!(said.out.contains("100% of at least"), "{}", said.out);
    // With its state apart, and of a step.
    with(
        &env,
        "build = { time = '1h', warm = { time = '1ms' } }\none = { time = '1h', cold = { cpu = '1s' } }",
    );
    let said = perf(&env, &["--json", "check", "--no-history"]).ends(6);
    assert!(said.findings().contains(&of("time", "over")), "{}", said.out);
    let said = perf(&env, &["check", "--no-history", "--subject", "one"]).ends(7);
    assert!(
        said.out.contains("answered from a cache") && said.err.contains("this is no pass"),
        "{}",
        said.out
    );
    perf(&env, &["-q", "monitor", "--engine", "host", "--no-cache"]).ends(0);
    perf(&env, &["check", "--no-history", "--subject", "one"]).ends(0);
    let said = perf(&env, &["analyze"]).ends(0);
    assert!(said.out.contains("thresholds") && said.out.contains("does not apply"), "{}", said.out);
    // Not in the run: no pass.
    with(&env, "two = { disk = '1GB' }\nlint = { time = '1h' }");
    let said = perf(&env, &["check", "--no-history"]).ends(7);
    assert!(said.err.contains("`lint` is no step") && said.err.contains("this is no pass"), "{}", said.err);
    assert!(said.out.contains("this run did not measure it"), "{}", said.out);
    perf(&env, &["check", "--no-history", "--allow-unobserved", "--subject", "lint"]).ends(0);
    perf(&env, &["check", "--subject", "nobody"]).ends(2);
}

#[test]
fn a_run_is_held_against_what_was_before() {
    let env = env();
    env.write("work", "n=$(cat much); i=0; while [ $i -lt $n ]; do i=$((i+1)); done");
    let measure = |much: &str| {
        env.write("much", much);
        perf(&env, &["-q", "benchmark", "--name", "work", "-n", "12", "--", "sh", "work"]).ends(0);
    };
    perf(&env, &["check"]).ends(2);
    measure("10000");
    let said = perf(&env, &["check"]).ends(0);
    assert!(said.out.contains("nothing was measured before"), "{}", said.out);
    perf(&env, &["check", "--strict"]).ends(7);
    // Six times the work: no noise hides it.
    measure("60000");
    let said = perf(&env, &["check", "--subject", "work"]).ends(6);
    assert!(said.err.contains("spolia perf accept work"), "{}", said.err);
    let history = perf(&env, &["--json", "history"]).ends(0);
    assert!(history.out.contains("\"good\":12"), "{}", history.out);
    perf(&env, &["accept", "work", "--because", "it does more"]).ends(0);
    measure("60000");
    let said = perf(&env, &["--json", "check"]);
    assert!(said.code == Some(0) || said.findings().iter().any(|one| one.2 != "over"), "{}", said.out);
    // A failed run is no pass.
    env.write("work", "exit 3");
    perf(&env, &["-q", "monitor", "--name", "work", "--", "sh", "work"]).ends(1);
    let said = perf(&env, &["check"]).ends(7);
    assert!(said.out.contains("the run failed"), "{}", said.out);
}

#[test]
fn mistakes_in_the_table_are_shown_with_those_of_the_steps() {
    let env = env();
    env.manifest("[steps.one]\nrun = \"true\"\nouputs = []\n[perf.thresholds.one]\ntme = \"5m\"\n");
    let said = perf(&env, &["check"]).ends(2);
    for expect in ["did you mean `outputs`?", "did you mean `time`?", "spolia.toml:5:1"] {
        assert!(said.err.contains(expect), "{expect}: {}", said.err);
    }
    // What is about something else goes on without them.
    perf(&env, &["-q", "monitor", "--", "true"]).ends(0);
    let said = perf(&env, &["analyze"]).ends(0);
    assert!(said.err.contains("the thresholds are left out"), "{}", said.err);
}
