//! What is recorded of every run, and what is left of the record of one that was killed.

use std::process::Stdio;

use rustix::process::{Pid, Signal};
use spolia_core::event::{EventKind, StepOutcome};
use spolia_testing::process::processes_with;
use spolia_testing::{TestEnv, wait_until};

both!(every_run_is_recorded, a_killed_run_is_recorded_as_far_as_it_went, json_is_the_journal);

fn manifest(env: &TestEnv, run: &str) {
    env.manifest(&format!(
        r#"
        [project]
        name = "recorded"
        [steps.one]
        platforms = "any"
        run = "echo 12345 > ${{out}}/a; echo said"
        outputs = ["a"]
        [steps.two]
        platforms = "any"
        needs = ["one"]
        run = "{run}"
        outputs = []
        "#
    ));
}

fn every_run_is_recorded(env: &mut TestEnv) {
    manifest(env, "true");
    env.build(&[]);
    env.build(&[]);
    env.remove(".spolia/out");
    env.build(&["--jobs", "1"]);
    manifest(env, "exit 3");
    env.build_fails(1, &[]);
    let runs = env.journal();
    assert_eq!(runs.len(), 4);
    let mut sizes = Vec::new();
    for run in &runs {
        assert_eq!(run.unreadable_lines, 0);
        assert!(run.events.is_sorted_by(|one, next| one.seq < next.seq), "{:?}", run.events);
        for event in &run.events {
            assert!(!matches!(event.kind, EventKind::StepOutput { .. }), "what steps print is in the store");
        }
        let EventKind::RunStarted { command, root, project, engine, steps, run: id, .. } =
            &run.events[0].kind
        else {
            panic!("{:?}", run.events[0]);
        };
        assert_eq!(command[..2], ["--json", "build"]);
        assert_eq!((root.as_str(), project.as_deref()), (env.root().to_str().unwrap(), Some("recorded")));
        assert_eq!((engine.as_str(), *steps, id.as_str()), (env.engine.name(), 2, run.id.as_str()));
        let Some(EventKind::RunFinished { summary, exit_code }) = run.events.last().map(|event| &event.kind)
        else {
            panic!("{:?}", run.events);
        };
        assert!(summary.wall_us.is_some());
        sizes.push((*exit_code, summary.ran, summary.up_to_date, summary.restored, summary.failed));
        assert_eq!(summary.output_bytes, Some(6), "{summary:?}");
    }
    assert_eq!(sizes, [(0, 2, 0, 0, 0), (0, 0, 2, 0, 0), (0, 0, 1, 1, 0), (1, 0, 1, 0, 1)]);
    // What the steps cost was observed, and what the store grew by.
    let summary = |run: usize| match &runs[run].events.last().unwrap().kind {
        EventKind::RunFinished { summary, .. } => summary.clone(),
        _ => unreachable!(),
    };
    assert!(summary(0).stored_bytes > 0 && summary(1).stored_bytes == 0);
    assert!(summary(0).steps_cpu_us.is_some() && summary(1).steps_cpu_us.is_none());
    assert!(summary(1).saved_us.is_some_and(|us| us > 0));
    // The size of the store is known from its first build on, and right.
    let counted: u64 = ["blob", "result", "action"]
        .iter()
        .flat_map(|space| TestEnv::files_below(&env.store().join("v1").join(space)))
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert_eq!(summary(3).store_bytes, Some(counted));
    assert_eq!(summary(0).store_bytes, Some(summary(0).stored_bytes));
}

fn a_killed_run_is_recorded_as_far_as_it_went(env: &mut TestEnv) {
    let mark = format!("{}.{}", 80_000 + env.engine as u32, std::process::id());
    manifest(env, &format!("sleep {mark}"));
    let mut command = env.build_command([] as [&str; 0]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the second step runs", || !processes_with(&mark).is_empty());
    rustix::process::kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::KILL).unwrap();
    child.wait().unwrap();
    let runs = env.journal();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].unreadable_lines, 0);
    let kinds = &runs[0].events;
    assert!(matches!(kinds[0].kind, EventKind::RunStarted { .. }), "{kinds:?}");
    let ran = kinds.iter().any(|event| {
        matches!(&event.kind, EventKind::StepFinished { id, outcome: StepOutcome::Ran { .. }, .. } if id.step == "one")
    });
    assert!(ran, "{kinds:?}");
    assert!(!kinds.iter().any(|event| matches!(event.kind, EventKind::RunFinished { .. })), "{kinds:?}");
    manifest(env, "true");
    env.build(&[]).assert_ran(&["two"]);
    assert_eq!(env.journal().len(), 2);
    assert_eq!(processes_with(&mark), [] as [u32; 0]);
}

fn json_is_the_journal(env: &mut TestEnv) {
    manifest(env, "true");
    let mut built = env.build(&[]);
    built.events.retain(|event| !matches!(event.kind, EventKind::StepOutput { .. }));
    assert_eq!(env.journal()[0].events, built.events);
}
