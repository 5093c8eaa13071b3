//! How a build is carried out: failures, tries, pools, jobs, cache mounts.

use std::collections::BTreeSet;

use spolia_core::event::StepOutcome;
use spolia_testing::{Built, TestEnv};

both!(
    exit_codes_and_signals,
    a_program_that_is_not_there,
    fail_fast_and_keep_going,
    tried_again,
    pools_hold,
    no_more_than_jobs_at_once,
    make_draws_from_the_same_jobs,
    mounts_outlive_their_steps,
    locked_mounts_have_one_user,
    private_mounts_are_ones_own,
    mounts_are_apart_as_their_scope_says,
    standard_input_is_empty,
    both_streams_are_kept_and_replayed,
    much_output_is_shown,
);

/// A step that says in a shared file when it begins and ends; how many were there at once is then counted.
fn counted(name: &str, more: &str) -> String {
    format!(
        r#"
        [steps.{name}]
        platforms = "any"
        run = "echo b >> ${{cache}}/traces/turns; sleep 0.05; echo e >> ${{cache}}/traces/turns"
        env = {{ NAME = "{name}" }}
        outputs = []
        {traces}
        {more}
        "#,
        traces = crate::TRACES
    )
}

/// The most that were there at once, and how many in all.
fn at_once(env: &TestEnv, name: &str) -> (usize, usize) {
    let files = TestEnv::files_below(&env.store().join("v1/mounts"));
    let file = files.iter().find(|path| path.ends_with(name)).expect("somebody was there");
    let text = std::fs::read_to_string(file).unwrap();
    let (mut now, mut most, mut all) = (0usize, 0, 0);
    for line in text.lines() {
        if line == "b" {
            now += 1;
            all += 1;
            most = most.max(now);
        } else {
            now -= 1;
        }
    }
    (most, all)
}

fn exit_codes_and_signals(env: &mut TestEnv) {
    env.manifest(
        r#"
        [steps.code]
        platforms = "any"
        run = "echo x > ${out}/a; echo why >&2; exit 42"
        outputs = ["a"]
        [steps.signal]
        platforms = "any"
        run = "kill -SEGV $$"
        outputs = []
        [steps.killed]
        platforms = "any"
        run = "kill -9 $$"
        outputs = []
        [steps.unset]
        platforms = "any"
        run = "false; echo not reached > ${out}/a"
        outputs = ["a"]
        [steps.good]
        platforms = "any"
        run = "true"
        outputs = []
        "#,
    );
    let built = env.build_fails(1, &["--keep-going"]);
    assert_eq!(built.error("code"), "it ended with exit code 42");
    assert_eq!(built.output("code"), "why\n");
    let StepOutcome::Failed { exit_code, .. } = built.outcome("code") else { unreachable!() };
    assert_eq!(*exit_code, Some(42));
    assert_eq!(built.error("signal"), "it was ended by signal 11 (SIGSEGV)");
    assert_eq!(built.error("killed"), "it was ended by signal 9 (SIGKILL)");
    assert_eq!(built.error("unset"), "it ended with exit code 1");
    built.ran().contains("good");
    assert!(!env.has(".spolia/out/code"), "what a failed step wrote is not published");
    assert_eq!(TestEnv::files_below(&env.store().join("v1/result")).len(), 1, "only the good one");
}

fn a_program_that_is_not_there(env: &mut TestEnv) {
    env.manifest("[steps.a]\nplatforms = \"any\"\nrun = [\"no-such-program\", \"x\"]\noutputs = []\n");
    let error = env.build_fails(1, &[]).error("a");
    assert!(error.contains("cannot run `no-such-program`"), "{error}");
    assert!(error.contains("declare `no-such-program` in `tools`"), "{error}");
}

fn fail_fast_and_keep_going(env: &mut TestEnv) {
    env.manifest(
        r#"
        [steps.bad]
        platforms = "any"
        run = "exit 1"
        outputs = []
        [steps.after]
        platforms = "any"
        needs = ["bad"]
        run = "true"
        outputs = []
        [steps.after2]
        platforms = "any"
        needs = ["after"]
        run = "true"
        outputs = []
        [steps.x-one]
        platforms = "any"
        run = "echo 1 > ${out}/a"
        outputs = ["a"]
        [steps.x-two]
        platforms = "any"
        needs = ["x-one"]
        run = "echo 2 > ${out}/a"
        outputs = ["a"]
        "#,
    );
    let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
    let built = env.build_fails(1, &["--jobs", "1"]);
    assert_eq!(names(built.failed()), "bad");
    assert!(built.skipped().contains("x-two"), "{built}");
    assert_eq!(built.outcomes().len(), 5, "each has an end\n{built}");
    let built = env.build_fails(1, &["--jobs", "1", "--keep-going"]);
    assert_eq!(names(built.failed()), "bad");
    assert_eq!(names(built.skipped()), "after after2");
    assert_eq!(built.outcomes().len(), 5, "{built}");
    let StepOutcome::Skipped { because } = built.outcome("after2") else { unreachable!() };
    assert_eq!(because, "it needs bad, which failed");
    assert_eq!((built.summary().failed, built.summary().skipped), (1, 2), "{built}");
    // What did go well is kept.
    env.edit_manifest("exit 1", "exit 0");
    env.build(&[]).assert_ran(&["after", "after2", "bad"]);
}

fn tried_again(env: &mut TestEnv) {
    env.manifest(&format!(
        r#"
        [steps.a]
        platforms = "any"
        run = "echo >> ${{cache}}/traces/tries; test ! -e ${{out}}/left || exit 9; echo > ${{out}}/left; test $(wc -l < ${{cache}}/traces/tries) -ge 3; echo right > ${{out}}/a"
        outputs = ["a"]
        retries = 2
        {}
        "#,
        crate::TRACES
    ));
    // Each try begins with an empty folder.
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.traces("tries"), 3);
    env.edit_manifest("-ge 3", "-ge 99");
    let built = env.build_fails(1, &[]);
    assert_eq!(env.traces("tries"), 6, "{built}");
    assert_eq!(built.error("a"), "it ended with exit code 1, as the last of 3 tries");
}

fn pools_hold(env: &mut TestEnv) {
    let steps: String = (0..6).map(|n| counted(&format!("s{n}"), "pool = \"narrow\"")).collect();
    env.manifest(&format!("[pools]\nnarrow = 2\n{steps}"));
    env.build(&["--jobs", "6"]);
    let (most, all) = at_once(env, "turns");
    assert_eq!(all, 6);
    assert!(most <= 2, "{most} at once");
    env.edit_manifest("narrow = 2", "narrow = 1");
    env.build(&["--jobs", "6", "--no-cache"]);
    assert_eq!(at_once(env, "turns").1, 12);
}

fn no_more_than_jobs_at_once(env: &mut TestEnv) {
    let steps: String = (0..8).map(|n| counted(&format!("s{n}"), "")).collect();
    env.manifest(&steps);
    env.build(&["--jobs", "3"]);
    let (most, all) = at_once(env, "turns");
    assert_eq!(all, 8);
    assert!(most <= 3, "{most} at once");
    assert!(most > 1, "nothing ran in parallel");
    env.manifest(&steps.replace("turns", "single"));
    env.build(&["--jobs", "1"]);
    assert_eq!(at_once(env, "single"), (1, 8));
}

/// Two steps, each with a make that would run eight jobs.
fn make_draws_from_the_same_jobs(env: &mut TestEnv) {
    if !std::path::Path::new("/usr/bin/make").exists() {
        spolia_testing::process::skip("make_draws_from_the_same_jobs", "make is not installed");
        return;
    }
    env.write(
        "Makefile",
        "JOBS = 1 2 3 4 5 6 7 8\nall: $(JOBS)\n$(JOBS):\n\t@echo b >> $(TRACES)/turns; sleep 0.05; echo e >> $(TRACES)/turns\n",
    );
    let step = |name: &str| {
        format!(
            r#"
            [steps.{name}]
            platforms = "any"
            run = "make -s TRACES=${{cache}}/traces; case $MAKEFLAGS in *jobserver*) ;; *) exit 3;; esac"
            env = {{ NAME = "{name}" }}
            inputs = ["Makefile"]
            tools = ["make"]
            outputs = []
            {}
            "#,
            crate::TRACES
        )
    };
    env.manifest(&[step("one"), step("two")].concat());
    let built = env.build(&["--jobs", "3"]);
    let (most, all) = at_once(env, "turns");
    assert_eq!(all, 16, "{built}");
    assert!(most <= 3, "{most} at once");
    assert!(most > 1, "make did not see the job server: {}", built.output("one"));
    assert!(!built.output("one").contains("warning"), "{}", built.output("one"));
}

fn mounts_outlive_their_steps(env: &mut TestEnv) {
    env.write("in.txt", "1\n");
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "cat in.txt >> ${cache}/deep/er/log; cp ${cache}/deep/er/log ${out}/a"
        inputs = ["in.txt"]
        outputs = ["a"]
        mounts = [{ id = "log", path = "/cache/deep/er" }]
        "#,
    );
    env.build(&[]);
    env.write("in.txt", "2\n");
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "1\n2\n");
    // What a mount holds is no part of the key.
    env.write("in.txt", "1\n");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "1\n");
}

fn locked_mounts_have_one_user(env: &mut TestEnv) {
    let steps: String = (0..4)
        .map(|n| {
            format!(
                r#"
                [steps.s{n}]
                platforms = "any"
                run = "test ! -e ${{cache}}/l/taken; echo > ${{cache}}/l/taken; sleep 0.05; rm ${{cache}}/l/taken; echo >> ${{cache}}/l/all"
                env = {{ NAME = "{n}" }}
                outputs = []
                mounts = [{{ id = "l", path = "/cache/l", sharing = "locked" }}]
                "#
            )
        })
        .collect();
    env.manifest(&steps);
    // Two builds at once, too.
    let other = env.start(&["--jobs", "4", "--no-cache"]);
    env.build(&["--jobs", "4", "--no-cache"]);
    let other = TestEnv::finish(other);
    assert_eq!(other.code, Some(0), "{other}");
    assert_eq!(env.traces("all"), 8);
}

fn private_mounts_are_ones_own(env: &mut TestEnv) {
    let steps: String = (0..4)
        .map(|n| {
            format!(
                r#"
                [steps.s{n}]
                platforms = "any"
                run = "test ! -e ${{cache}}/p/taken; echo > ${{cache}}/p/taken; sleep 0.05; rm ${{cache}}/p/taken; echo >> ${{cache}}/p/all"
                env = {{ NAME = "{n}" }}
                outputs = []
                mounts = [{{ id = "p", path = "/cache/p", sharing = "private" }}]
                "#
            )
        })
        .collect();
    env.manifest(&steps);
    env.build(&["--jobs", "4"]);
    assert_eq!(env.traces("all"), 4);
    // One that is free is used again.
    env.build(&["--jobs", "1", "--no-cache"]);
    assert_eq!(env.traces("all"), 8);
    let folders = TestEnv::files_below(&env.store().join("v1/mounts"));
    let used = folders.iter().filter(|path| path.ends_with("all")).count();
    assert!((1..=4).contains(&used), "{folders:?}");
}

fn mounts_are_apart_as_their_scope_says(env: &mut TestEnv) {
    let step = |name: &str, scope: &str| {
        format!(
            r#"
            [steps.{name}]
            run = "echo {name} ${{platform}} >> ${{cache}}/{scope}/{scope}"
            outputs = []
            mounts = [{{ id = "m", path = "/cache/{scope}", scope = "{scope}", sharing = "locked" }}]
            "#
        )
    };
    let all = ["step", "platform", "project"]
        .map(|scope| [step(&format!("a-{scope}"), scope), step(&format!("b-{scope}"), scope)].concat());
    env.manifest(&format!(
        "[project]\nname = \"m\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n{}",
        all.concat()
    ));
    env.build(&[]);
    let files = TestEnv::files_below(&env.store().join("v1/mounts"));
    let files = |scope: &str| files.iter().filter(|path| path.ends_with(scope)).count();
    assert_eq!((files("step"), files("platform"), files("project")), (4, 2, 1));
    assert_eq!((env.traces("step"), env.traces("platform"), env.traces("project")), (4, 4, 4));
}

fn standard_input_is_empty(env: &mut TestEnv) {
    env.manifest("[steps.a]\nplatforms = \"any\"\nrun = \"cat; echo end\"\noutputs = []\n");
    assert_eq!(env.build(&[]).output("a"), "end\n");
}

fn both_streams_are_kept_and_replayed(env: &mut TestEnv) {
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"echo out; echo err >&2; printf 'caf\\\\303\\\\251 \\\\377\\\\n'\"\noutputs = []\n",
    );
    let sorted = |built: Built| {
        let mut lines: Vec<String> = built.output("a").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let first = sorted(env.build(&[]));
    assert_eq!(first, ["café \u{fffd}", "err", "out"]);
    assert_eq!(sorted(env.build(&["-v"])), first);
    env.remove(".spolia");
    assert_eq!(sorted(env.build(&["-v"])), first);
    assert_eq!(env.build(&[]).output("a"), "");
}

fn much_output_is_shown(env: &mut TestEnv) {
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"i=0; while [ $i -lt 200 ]; do seq 1 1000; i=$((i+1)); done; echo end >&2\"\noutputs = []\n",
    );
    let built = env.build(&[]);
    assert_eq!(built.output("a").len(), 200 * 3893 + 4);
    env.remove(".spolia");
    assert_eq!(env.build(&["-v"]).output("a").len(), 200 * 3893 + 4);
}
