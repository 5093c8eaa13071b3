//! Measuring, benchmarks, comparisons, history and report.

use std::process::Stdio;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use spolia_testing::process::processes_with;
use spolia_testing::{TestEnv, wait_until};

use crate::{TWO_STEPS, count_to, env, perf};

#[test]
fn a_command_is_measured_and_recorded() {
    let env = env();
    let script = format!("{}; (/bin/true; /bin/true); echo said; echo complained >&2", count_to(20_000));
    let said = perf(&env, &["monitor", "-o", "m.json", "--", "sh", "-c", &script]).ends(0);
    assert_eq!(said.out, "said\n", "the command's own output stays as it is");
    assert!(said.err.starts_with("complained\n") && said.err.contains("measured"), "{}", said.err);
    let record: Value = serde_json::from_str(&env.read_text("m.json")).unwrap();
    let sample = &record["samples"][0];
    let number = |field: &str| sample[field].as_u64().unwrap_or_else(|| panic!("{field}: {sample}"));
    assert!(number("wall_us") > 0 && number("user_us") + number("sys_us") > 0);
    assert_eq!((sample["ending"].as_str(), sample["exit_code"].as_i64()), (Some("ok"), Some(0)));
    // Null has its reason.
    assert!(sample["cache_hits"].is_null());
    assert!(sample["not_observed"]["cache_hits"].as_str().unwrap().contains("not a command"));
    let not_observed = sample["not_observed"].as_object().unwrap();
    let reasons = [
        "processes",
        "read_bytes",
        "together_bytes",
        "largest_process_bytes",
        "cgroup_cpu_us",
        "build_size_bytes",
        "dependencies",
    ];
    for field in reasons {
        assert_eq!(sample[field].is_null(), not_observed.contains_key(field), "{field}: {sample}");
    }
    // The fields of other tools, at the top.
    assert_eq!(record["os"], "linux");
    assert_eq!(record["duration_ms"].as_f64().unwrap(), number("wall_us") as f64 / 1000.0);
    assert!(record["start_time"].as_str().unwrap().ends_with('Z'));
    assert!(record["facts"]["host"]["fingerprint"].as_str().is_some_and(|print| print.len() == 16));
    assert_eq!(record["facts"]["not_observed"]["git"], "this is no git repository");
    let history = perf(&env, &["--json", "history"]).ends(0).json();
    assert_eq!(history["measurements"][0]["run"], record["run"]);
    assert_eq!(history["measurements"][0]["good"], 1);
    // Read again, it is the same.
    perf(&env, &["compare", "m.json", "latest"]).ends(0);
}

#[test]
fn runs_are_kept_on_one_processor_and_it_is_said() {
    let env = env();
    let seen = |when: &str, prepare: &str| {
        let count = format!("{}; nproc >> seen", count_to(20_000));
        let mut words = vec!["--json", "benchmark", "-n", "2", "--one-cpu", when];
        words.extend(["--prepare", prepare, "--", "sh", "-c", &count]);
        let said = perf(&env, &words).ends(0).json();
        let samples = said["records"][0]["samples"].as_array().unwrap().clone();
        let seen = env.read_text("seen");
        std::fs::remove_file(env.path("seen")).unwrap();
        let cpus: Vec<u32> = seen.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!((samples.len(), cpus.len()), (2, 3), "two runs and a warm-up");
        for sample in &samples {
            let probes = sample["speed"]["probes"].as_u64().unwrap_or(0);
            assert_eq!(probes > 0, sample["kept_on_cpu"].is_u64(), "looked at where it is kept: {sample}");
        }
        let kept: Vec<Option<u64>> = samples.iter().map(|sample| sample["kept_on_cpu"].as_u64()).collect();
        (cpus, kept)
    };
    let all = std::thread::available_parallelism().unwrap().get() as u32;
    assert_eq!(seen("never", "true"), (vec![all; 3], vec![None; 2]));
    // What prepares a run has all of them.
    let (cpus, kept) = seen("always", "nproc >> prepared");
    assert_eq!((cpus, kept[0].is_some(), kept[0] == kept[1]), (vec![1; 3], true, true));
    assert_eq!(env.read_text("prepared"), format!("{all}\n").repeat(3));
    // Both runs that count are where the warm-up says; on a busy machine it says nothing.
    let (cpus, kept) = seen("auto", "true");
    let told = if kept[0].is_some() { 1 } else { all };
    assert_eq!((cpus, kept[0]), (vec![all, told, told], kept[1]));
    // What uses no processor is not kept on one.
    let said = perf(&env, &["--json", "benchmark", "-n", "1", "--", "sleep", "0.05"]).ends(0).json();
    assert!(said["records"][0]["samples"][0]["kept_on_cpu"].is_null());
}

#[test]
fn a_failed_command_is_recorded_and_never_compared_with() {
    let env = env();
    perf(&env, &["monitor", "--name", "x", "--", "sh", "-c", "exit 7"]).ends(1);
    let history = perf(&env, &["--json", "history"]).ends(0).json();
    let row = &history["measurements"][0];
    assert_eq!((row["good"].as_u64(), row["bad"].as_u64()), (Some(0), Some(1)));
    assert!(row["wall_us"].is_null(), "{row}");
    let run = row["run"].as_str().unwrap().to_owned();
    let said = perf(&env, &["compare", &run, &run]).ends(2);
    assert!(said.err.contains("no cost was observed in a successful run"), "{}", said.err);
    let said = perf(&env, &["monitor", "--", "no-such-program"]).ends(2);
    assert!(said.err.contains("cannot run `no-such-program`"), "{}", said.err);
    let said = perf(&env, &["benchmark", "-n", "3", "--", "false"]).ends(1);
    assert!(said.err.contains("`false` failed with exit code 1"), "{}", said.err);
    perf(&env, &["benchmark", "-n", "0", "--", "true"]).ends(2);
}

#[test]
fn a_build_is_measured_with_its_hits_and_misses() {
    let env = env();
    env.manifest(TWO_STEPS);
    let monitor = |name: &str| perf(&env, &["--json", "monitor", "--engine", "host", name]).ends(0).json();
    let (cold, warm) = (monitor("two"), monitor("two"));
    let figures = |record: &Value| {
        let sample = &record["samples"][0];
        let state = record["facts"]["state"].as_str().unwrap().to_owned();
        (
            state,
            sample["cache_hits"].as_u64(),
            sample["cache_misses"].as_u64(),
            sample["build_size_bytes"].as_u64(),
        )
    };
    assert_eq!(figures(&cold), ("cold".to_owned(), Some(0), Some(2), Some(12)));
    assert_eq!(figures(&warm), ("warm".to_owned(), Some(2), Some(0), Some(12)));
    assert_eq!(cold["build_target"], "two");
    let steps = cold["steps"].as_array().unwrap();
    assert_eq!(steps[1]["needs"], serde_json::json!(["one"]));
    assert!(steps[0]["cpu_us"].as_u64().unwrap() <= cold["samples"][0]["user_us"].as_u64().unwrap() + 50_000);
    // Cold and warm are never compared with each other.
    let said = perf(&env, &["compare", cold["run"].as_str().unwrap(), warm["run"].as_str().unwrap()]).ends(2);
    assert!(said.err.contains("cold and warm"), "{}", said.err);
    env.edit_manifest("cat ${step.one}/a > ${out}/b", "exit 3");
    perf(&env, &["monitor", "--engine", "host"]).ends(1);
}

#[test]
fn a_planted_slowdown_of_a_real_command_is_called() {
    let env = env();
    env.write_program("work", format!("#!/bin/sh\n{}\n", count_to(20_000)));
    let args = |n: &'static str, command: &'static str| -> [&'static str; 7] {
        ["benchmark", "-n", n, "--vs", "./work", "--", command]
    };
    let same = perf(&env, &[&["--json"], &args("12", "./work")[..]].concat()).json();
    assert_eq!(same["records"][0]["samples"].as_array().unwrap().len(), 12);
    assert_eq!(same["comparison"]["cpu"]["runs"], serde_json::json!([12, 12]));
    // Four times the work: no noise of a busy machine hides that.
    env.write_program("slow", format!("#!/bin/sh\n{}\n", count_to(80_000)));
    let said = perf(&env, &args("12", "./slow")).ends(5);
    assert!(said.out.contains("slower"), "{}", said.out);
    env.write_program("fast", format!("#!/bin/sh\n{}\n", count_to(2_000)));
    let exports = [
        "--export-json",
        "b.json",
        "--export-csv",
        "b.csv",
        "--export-markdown",
        "b.md",
        "--export-hyperfine",
        "h.json",
    ];
    let said = perf(&env, &[&args("12", "./fast")[..5], &exports, &["--", "./fast"]].concat()).ends(0);
    assert!(said.out.contains("faster"), "{}", said.out);
    assert_eq!(env.read_text("b.csv").lines().count(), 1 + 24);
    assert!(env.read_text("b.md").contains("**faster**"));
    let hyperfine: Value = serde_json::from_str(&env.read_text("h.json")).unwrap();
    assert_eq!(hyperfine["results"][1]["times"].as_array().unwrap().len(), 12);
    // Files of both kinds can be compared again.
    let again = perf(&env, &["--json", "compare", "b.json", "h.json"]).ends(0).json();
    assert_eq!(again["comparisons"].as_array().unwrap().len(), 2);
    assert_eq!(again["comparisons"][0]["wall"]["effect"], 0.0);
}

#[test]
fn what_cannot_be_read_or_compared_is_said() {
    let env = env();
    env.write("bad.json", "{");
    env.write("empty.json", "{}");
    env.write("other.json", r#"{"build_target":"x","duration_ms":5}"#);
    env.write("mine.json", r#"{"build_target":"y","duration_ms":5}"#);
    env.write("bytes.json", r#"{"build_target":"y","build_size_bytes":5}"#);
    let check = |args: &[&str], expect: &str| {
        let said = perf(&env, &[&["compare"], args].concat()).ends(2);
        assert!(said.err.contains(expect), "{args:?}: {}", said.err);
    };
    check(&["bad.json", "mine.json"], "not valid JSON");
    check(&["empty.json", "mine.json"], "none of the fields");
    check(&["gone.json", "mine.json"], "cannot read");
    check(&["other.json", "mine.json"], "different things");
    check(&["bytes.json", "mine.json"], "no cost was observed");
    check(&["nothing", "mine.json"], "neither a run, nor a file, nor a commit");
    check(&["latest", "mine.json"], "nothing was measured yet");
    perf(&env, &["history"]).ends(2);
}

#[test]
fn history_survives_damage_and_a_killed_run() {
    let env = env();
    for _ in 0..2 {
        perf(&env, &["monitor", "-q", "--name", "x", "--", "true"]).ends(0);
    }
    // Killed in the middle: what had ended is there.
    let mark = format!("81.{}", std::process::id());
    let script = format!("[ -e done ] && exec sleep {mark}; touch done");
    let mut command =
        env.command(["perf", "benchmark", "--warmup", "0", "--name", "killed", "--", "sh", "-c", &script]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the second run sleeps", || !processes_with(&mark).is_empty());
    rustix::process::kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::KILL).unwrap();
    child.wait().unwrap();
    for sleeper in processes_with(&mark) {
        let _gone =
            rustix::process::kill_process(Pid::from_raw(sleeper.cast_signed()).unwrap(), Signal::KILL);
    }
    let subjects = |env: &TestEnv, args: &[&str]| -> Vec<(String, u64)> {
        let history = perf(env, &[&["--json", "history"], args].concat()).ends(0).json();
        let rows = history["measurements"].as_array().unwrap().clone();
        let row = |row: &Value| (row["subject"].as_str().unwrap().to_owned(), row["good"].as_u64().unwrap());
        rows.iter().map(row).collect()
    };
    let expect = [("x".to_owned(), 1), ("x".to_owned(), 1), ("killed".to_owned(), 1)];
    assert_eq!(subjects(&env, &[]), expect);
    // The index is only an index.
    let index = env.store().join("v1/perf/history.sqlite");
    std::fs::write(&index, b"this is no database, and never was one, however long it goes on").unwrap();
    assert_eq!(subjects(&env, &[]), expect);
    let mut bytes = std::fs::read(&index).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    std::fs::write(&index, bytes).unwrap();
    assert_eq!(subjects(&env, &["--rebuild"]), expect);
    std::fs::remove_file(&index).unwrap();
    assert_eq!(subjects(&env, &[]), expect);
    // A line cut short, a foreign line, and a file of another kind in the journal.
    let runs = env.journal();
    let mut text = std::fs::read(&runs[0].path).unwrap();
    text.extend_from_slice(
        b"{\"at_us\":1,\"seq\":9,\"kind\":\"from-the-future\",\"x\":1}\n{\"at_us\":1,\"se",
    );
    std::fs::write(&runs[0].path, text).unwrap();
    std::fs::write(runs[0].path.with_file_name("notes.txt"), "mine").unwrap();
    let said = perf(&env, &["history", "--rebuild"]).ends(0);
    assert!(said.err.contains("2 lines of the journal could not be read"), "{}", said.err);
    assert_eq!(subjects(&env, &[]), expect);
}

#[test]
fn a_build_is_analysed_drawn_traced_and_accepted() {
    let env = env();
    env.manifest(
        r#"
        [steps.long]
        platforms = "any"
        run = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo 1 > ${out}/a"
        outputs = ["a"]
        [steps.after]
        platforms = "any"
        needs = ["long"]
        run = "cat ${step.long}/a > ${out}/b"
        outputs = ["b"]
        "#,
    );
    perf(&env, &["trace"]).ends(2);
    perf(&env, &["analyze"]).ends(2);
    perf(&env, &["-q", "monitor", "--engine", "host"]).ends(0);
    // A command measured since has no steps: the build is what is looked into.
    perf(&env, &["-q", "monitor", "--", "true"]).ends(0);
    perf(&env, &["trace", "latest"]).ends(2);
    assert!(perf(&env, &["analyze", "latest"]).ends(0).out.contains("the run has no steps"));
    let found = perf(&env, &["--json", "analyze"]).ends(0).json();
    let analysis = &found["analyses"][0];
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&analysis["critical"]), ["long", "after"]);
    assert_eq!(analysis["what_if"][0]["name"], "long");
    assert_eq!(analysis["misses"].as_array().unwrap().len(), 2);
    assert!(perf(&env, &["analyze"]).ends(0).out.contains("if `long` were free"));
    perf(&env, &["report"]).ends(0);
    let page = env.read_text("report.html");
    assert!(page.contains("class=\"bar ran critical\"") && !page.contains("http://"));
    perf(&env, &["report", "-o", "r.svg"]).ends(0);
    assert!(env.read_text("r.svg").starts_with("<svg xmlns="));
    perf(&env, &["report", "-o", "r.md"]).ends(0);
    assert!(env.read_text("r.md").contains("| `long` |"));
    perf(&env, &["report", "-o", "r.txt"]).ends(2);
    let trace = perf(&env, &["trace"]).ends(0).json();
    assert!(trace["traceEvents"].as_array().unwrap().iter().any(|event| event["name"] == "after"));
    perf(&env, &["trace", "--format", "otlp", "-o", "t.json"]).ends(0);
    assert!(env.read_text("t.json").contains("resourceSpans"));
    perf(&env, &["accept", "build", "--because", "it does more"]).ends(0);
    let said = perf(&env, &["accept", "nothing"]).ends(2);
    assert!(said.err.contains("it has `true`"), "{}", said.err);
    // ninja's log says nothing of needs: no path is made up.
    env.write(".ninja_log", "# ninja log v5\n0\t100\t1\ta\t1\n100\t300\t1\tb\t2\n");
    let ninja = perf(&env, &["--json", "analyze", "./.ninja_log"]).ends(0).json();
    assert!(ninja["analyses"][0]["critical"].is_null());
    assert_eq!(ninja["analyses"][0]["slowest"][0]["name"], "b");
}
