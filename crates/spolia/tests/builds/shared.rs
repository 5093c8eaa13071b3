//! Several builds at once, and clocks that cannot be trusted.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use spolia_testing::{Built, Engine, TestEnv};

both!(
    two_builds_of_one_tree,
    five_builds_of_one_tree,
    builds_of_two_states_of_one_tree,
    five_trees_with_one_store,
    a_build_waits_for_the_one_that_runs,
    files_from_the_future_and_the_past,
    an_edit_that_hides,
    an_input_that_changes_while_its_step_runs,
);

fn manifest(env: &TestEnv) {
    env.write("in", "in\n");
    env.manifest(&format!(
        r#"
        [project]
        name = "shared"
        platforms = ["linux/amd64", "linux/arm64"]
        [steps.a]
        platforms = "any"
        run = "echo a >> ${{cache}}/traces/runs; sleep 0.2; cat in > ${{out}}/a"
        inputs = ["in"]
        outputs = ["a"]
        {traces}
        [steps.b]
        needs = ["a"]
        run = "echo b >> ${{cache}}/traces/runs; mkdir ${{out}}/d; for n in 1 2 3 4 5 6 7 8; do cat ${{step.a}}/a > ${{out}}/d/$n; done; echo ${{platform}} > ${{out}}/d/p"
        outputs = ["d"]
        {traces}
        [steps.c]
        needs = ["b"]
        run = "echo c >> ${{cache}}/traces/runs; cat ${{step.b}}/d/* > ${{out}}/c"
        outputs = ["c"]
        to = "bin/${{platform.arch}}"
        {traces}
        "#,
        traces = crate::TRACES
    ));
}

const STEPS: usize = 5;

fn at_once(env: &TestEnv, builds: usize) {
    manifest(env);
    for round in 1..=3 {
        env.write("in", format!("in {round}\n"));
        let children: Vec<_> = (0..builds).map(|_| env.start(&["--jobs", "2"])).collect();
        let all: Vec<Built> = children.into_iter().map(|child| TestEnv::finish(child).succeeded()).collect();
        for built in &all {
            assert_eq!(built.outcomes().len(), STEPS, "{built}");
            assert_eq!(
                built.warnings().lines().filter(|line| !line.contains("waiting") && !line.is_empty()).count(),
                0,
                "{built}"
            );
        }
        assert_eq!(all.iter().map(|built| built.ran().len()).sum::<usize>(), STEPS);
        assert_eq!(env.traces("runs"), STEPS * round, "each step ran once in all");
        for arch in ["amd64", "arm64"] {
            let right = format!("in {round}\n").repeat(8) + &format!("linux/{arch}\n");
            assert_eq!(env.read_text(format!("bin/{arch}/c")), right);
        }
        env.build(&[]).assert_up_to_date();
        assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
    }
    // At once they restore what was lost.
    env.remove("bin");
    env.remove(".spolia/out");
    let children: Vec<_> = (0..builds).map(|_| env.start(&[])).collect();
    for child in children {
        TestEnv::finish(child).succeeded().assert_ran(&[]);
    }
    env.build(&[]).assert_up_to_date();
    assert_eq!(env.traces("runs"), STEPS * 3);
}

fn two_builds_of_one_tree(env: &mut TestEnv) {
    at_once(env, 2);
}

fn five_builds_of_one_tree(env: &mut TestEnv) {
    at_once(env, 5);
}

/// Each builds what it saw when it began, whatever the others put in place meanwhile, and nothing wrong is
/// ever stored: a second look at each state gives its own bytes.
fn builds_of_two_states_of_one_tree(env: &mut TestEnv) {
    manifest(env);
    env.edit_manifest("sleep 0.2;", "");
    env.edit_manifest("mkdir ${out}/d;", "mkdir ${out}/d; sleep 0.1;");
    for round in 0..4 {
        let mut children = Vec::new();
        for state in 0..3 {
            let input = format!("state {round} {state}\n");
            env.write("in", &input);
            children.push(env.start(&["--jobs", "2"]));
            // Until its first step is done; the others are under way when the next build begins.
            spolia_testing::wait_until("it has read its input", || {
                std::fs::read_to_string(env.path(".spolia/out/a/any/a")).is_ok_and(|text| text == input)
            });
        }
        for child in children {
            TestEnv::finish(child).succeeded();
        }
        for state in 0..3 {
            let input = format!("state {round} {state}\n");
            env.write("in", &input);
            let built = env.build(&[]);
            // All of it was stored, and under the right names.
            built.assert_ran(&[]);
            for arch in ["amd64", "arm64"] {
                let right = input.repeat(8) + &format!("linux/{arch}\n");
                assert_eq!(env.read_text(format!("bin/{arch}/c")), right, "{built}");
            }
        }
    }
}

fn five_trees_with_one_store(env: &mut TestEnv) {
    manifest(env);
    let trees: Vec<_> = (0..5).map(|number| env.folder().join(format!("home/tree{number}"))).collect();
    for tree in &trees {
        fs::create_dir(tree).unwrap();
        for name in ["in", "spolia.toml"] {
            fs::copy(env.path(name), tree.join(name)).unwrap();
        }
    }
    let start = |tree: &std::path::PathBuf| {
        let mut command = env.build_command([Path::new("-C"), tree]);
        let piped = || std::process::Stdio::piped();
        command.stdout(piped()).stderr(piped()).spawn().unwrap()
    };
    let children: Vec<_> = trees.iter().map(start).collect();
    for child in children {
        TestEnv::finish(child).succeeded();
    }
    // On the host a result belongs to its tree, whose path it may hold.
    let runs = if env.engine == Engine::Sandbox { STEPS } else { STEPS * 5 };
    assert_eq!(env.traces("runs"), runs);
    for tree in &trees {
        let right = "in\n".repeat(8) + "linux/amd64\n";
        assert_eq!(fs::read_to_string(tree.join("bin/amd64/c")).unwrap(), right);
    }
}

fn a_build_waits_for_the_one_that_runs(env: &mut TestEnv) {
    env.manifest(&format!(
        "[steps.a]\nplatforms = \"any\"\nrun = \"echo >> ${{cache}}/traces/runs; sleep 1; echo x > ${{out}}/a\"\noutputs = [\"a\"]\n{}",
        crate::TRACES
    ));
    let first = env.start(&[]);
    spolia_testing::wait_until("the step runs", || env.traces("runs") == 1);
    let second = env.build(&[]);
    assert_eq!((second.ran().len(), second.restored().len()), (0, 1), "{second}");
    assert!(second.warnings().contains("is being built by another process"), "{second}");
    TestEnv::finish(first).succeeded().assert_ran(&["a"]);
    assert_eq!(env.traces("runs"), 1);
}

fn set_time(path: &Path, time: SystemTime) {
    let file = fs::File::open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(TestEnv::now_us())
}

/// What a clock that was set back leaves behind: files that are newer than now, or older than all.
fn files_from_the_future_and_the_past(env: &mut TestEnv) {
    manifest(env);
    env.build(&[]);
    let day = Duration::from_secs(86_400);
    let times = [now() + 3650 * day, now() + day, SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + day];
    for (round, time) in times.into_iter().enumerate() {
        let all = [env.root(), env.store()];
        for file in all.iter().flat_map(|folder| TestEnv::files_below(folder)) {
            set_time(&file, time);
        }
        env.build(&[]).assert_ran(&[]);
        env.build(&[]).assert_up_to_date();
        // Edits still count, also those that keep time and size.
        env.write("in", format!("i{round}\n"));
        set_time(&env.path("in"), time);
        let built = env.build(&[]);
        assert_eq!(built.ran().len(), STEPS, "{built}");
        assert!(env.read_text("bin/amd64/c").starts_with(&format!("i{round}\n")));
        // As well as damage that does.
        env.write("bin/amd64/c", "x");
        set_time(&env.path("bin/amd64/c"), time);
        let built = env.build(&[]);
        assert_eq!(built.restored().len(), 1, "{built}");
        assert!(env.read_text("bin/amd64/c").starts_with(&format!("i{round}\n")));
    }
}

/// The same size, the same time, at once after a build: as racy as an edit can be.
fn an_edit_that_hides(env: &mut TestEnv) {
    manifest(env);
    env.write("in", "00000000\n");
    env.build(&[]);
    let time = fs::metadata(env.path("in")).unwrap().modified().unwrap();
    for round in 1..=10 {
        let content = format!("{round:08}\n");
        env.write("in", &content);
        set_time(&env.path("in"), time);
        let built = env.build(&["a"]);
        built.assert_ran(&["a"]);
        assert_eq!(env.read_text(".spolia/out/a/any/a"), content);
    }
}

fn an_input_that_changes_while_its_step_runs(env: &mut TestEnv) {
    manifest(env);
    env.write("in", "before\n");
    let child = env.start(&["a"]);
    spolia_testing::wait_until("the step runs", || env.traces("runs") == 1);
    env.write("in", "after\n");
    let built = TestEnv::finish(child).succeeded();
    let not_stored = built.not_stored("a");
    assert_eq!(not_stored.as_deref(), Some("the input `in` changed while it ran"), "{built}");
    assert!(TestEnv::files_below(&env.store().join("v1/result")).is_empty());
    env.build(&["a"]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "after\n");
    // Back at what it was: that was never stored.
    env.write("in", "before\n");
    env.build(&["a"]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "before\n");
}
