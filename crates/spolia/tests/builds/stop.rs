//! Builds that are stopped, steps that take too long: nothing goes on, nothing is half-written.

use rustix::process::{Pid, Signal};
use spolia_core::MissReason;
use spolia_core::event::EventKind;
use spolia_testing::process::processes_with;
use spolia_testing::{Built, TestEnv, wait_until};

both!(
    interrupted,
    terminated,
    a_step_that_ignores_it,
    an_interrupt_while_another_build_has_the_lock,
    an_interrupt_while_another_build_uses_the_folder,
    timeouts,
    what_a_step_leaves_running_is_ended,
);

/// Something to sleep for that no other process here sleeps for.
fn mark(test: u32) -> String {
    format!("{}.{}", 90_000 + test, std::process::id())
}

fn send(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn sleeper(env: &TestEnv, mark: &str, before: &str) {
    env.manifest(&format!(
        r#"
        [steps.quick]
        platforms = "any"
        run = "echo quick > ${{out}}/q"
        outputs = ["q"]
        [steps.slow]
        platforms = "any"
        needs = ["quick"]
        run = "echo half > ${{out}}/a; {before}; sleep {mark} & wait; sleep {mark}; echo half >> ${{out}}/a"
        outputs = ["a"]
        [steps.after]
        platforms = "any"
        needs = ["slow"]
        run = "cp ${{step.slow}}/a ${{out}}/b"
        outputs = ["b"]
        "#
    ));
}

fn stopped(env: &TestEnv, mark: &str, signal: Signal) -> Built {
    let child = env.start(&[]);
    wait_until("the step sleeps", || !processes_with(mark).is_empty());
    send(child.id(), signal);
    let built = TestEnv::finish(child);
    assert_eq!(processes_with(mark), [] as [u32; 0], "{built}");
    assert_eq!(built.code, Some(130), "{built}");
    assert!(!env.has(".spolia/out/slow"), "{built}");
    assert_eq!(built.ran().len(), 1, "{built}");
    assert!(built.skipped().contains("after"), "{built}");
    assert_eq!((built.summary().failed, built.summary().skipped), (0, 2), "{built}");
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new(), "{built}");
    built
}

fn finishes(env: &TestEnv) {
    let text = env.read_text("spolia.toml");
    let quick =
        text.lines().map(|line| if line.contains("half") { "run = \"echo all > ${out}/a\"" } else { line });
    env.manifest(&quick.collect::<Vec<_>>().join("\n"));
    let built = env.build(&[]);
    built.assert_ran(&["slow", "after"]);
    // What had been done is not done again, although the build was stopped.
    assert!(built.up_to_date().contains("quick"), "{built}");
    assert_eq!(env.read_text(".spolia/out/after/any/b"), "all\n");
}

fn interrupted(env: &mut TestEnv) {
    let mark = mark(env.engine as u32);
    sleeper(env, &mark, ":");
    stopped(env, &mark, Signal::INT);
    finishes(env);
}

fn terminated(env: &mut TestEnv) {
    let mark = mark(10 + env.engine as u32);
    sleeper(env, &mark, ":");
    stopped(env, &mark, Signal::TERM);
    finishes(env);
}

fn a_step_that_ignores_it(env: &mut TestEnv) {
    let mark = mark(20 + env.engine as u32);
    sleeper(env, &mark, "trap '' TERM INT HUP");
    stopped(env, &mark, Signal::HUP);
    finishes(env);
}

fn an_interrupt_while_another_build_has_the_lock(env: &mut TestEnv) {
    let mark = mark(30 + env.engine as u32);
    sleeper(env, &mark, ":");
    let first = env.start(&[]);
    wait_until("the step sleeps", || !processes_with(&mark).is_empty());
    let second = env.start(&[]);
    wait_until("the second build has begun", || env.journal().len() == 2);
    send(second.id(), Signal::INT);
    let second = TestEnv::finish(second);
    assert_eq!(second.code, Some(130), "{second}");
    assert!(second.ran().is_empty(), "{second}");
    assert!(!processes_with(&mark).is_empty(), "the first goes on");
    send(first.id(), Signal::INT);
    assert_eq!(TestEnv::finish(first).code, Some(130));
    finishes(env);
}

fn an_interrupt_while_another_build_uses_the_folder(env: &mut TestEnv) {
    let mark = mark(60 + env.engine as u32);
    env.write("in", "1");
    env.manifest(&format!(
        r#"
        [steps.a]
        platforms = "any"
        run = "cp in ${{out}}/a; echo early > ${{out}}/early; sleep {mark}; cat ${{out}}/early >> ${{out}}/a"
        inputs = ["in"]
        outputs = ["a"]
        "#
    ));
    let mut first = env.start(&[]);
    wait_until("the step sleeps", || processes_with(&mark).len() == 1);
    // Another key, but the same step of the same tree.
    env.write("in", "2");
    let second = env.start(&[]);
    wait_until("the second build has begun", || env.journal().len() == 2);
    if env.engine == spolia_testing::Engine::Sandbox {
        wait_until("both sleep", || processes_with(&mark).len() == 2);
    } else {
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(processes_with(&mark).len(), 1, "on the host one at a time");
    }
    send(second.id(), Signal::INT);
    let second = TestEnv::finish(second);
    assert_eq!((second.code, second.summary().failed), (Some(130), 0), "{second}");
    // The first is woken up and finds what it had written.
    for pid in processes_with(&mark) {
        send(pid, Signal::TERM);
    }
    wait_until("the first one ends", || first.try_wait().unwrap().is_some());
    let first = TestEnv::finish(first);
    assert_eq!(first.error("a"), "it ended with exit code 143");
}

fn timeouts(env: &mut TestEnv) {
    let mark = mark(40 + env.engine as u32);
    env.manifest(&format!(
        "[steps.a]\nplatforms = \"any\"\nrun = \"echo begun; echo x > ${{out}}/a; sleep {mark}\"\noutputs = [\"a\"]\ntimeout = \"1s\"\n"
    ));
    let built = env.build_fails(1, &[]);
    assert!(built.error("a").contains("longer than its timeout of 1s"), "{built}");
    assert_eq!(built.output("a"), "begun\n");
    assert_eq!(processes_with(&mark), [] as [u32; 0]);
    assert!(!env.has(".spolia/out/a"));
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
    env.edit_manifest(&format!("; sleep {mark}"), "");
    assert_eq!(env.build(&[]).miss("a"), MissReason::NeverRun);
}

fn what_a_step_leaves_running_is_ended(env: &mut TestEnv) {
    let mark = mark(50 + env.engine as u32);
    env.manifest(&format!(
        "[steps.a]\nplatforms = \"any\"\nrun = \"sleep {mark} & echo x > ${{out}}/a; echo done\"\noutputs = [\"a\"]\n"
    ));
    let built = env.build(&[]);
    assert_eq!(built.output("a"), "done\n");
    assert!(built.events.iter().any(|event| matches!(event.kind, EventKind::RunFinished { .. })));
    assert_eq!(processes_with(&mark), [] as [u32; 0]);
}
