//! What is observed of real commands. Knows no statistics.

#![allow(clippy::print_stderr, reason = "a test says what was not to be had")]

use std::time::Duration;

use spolia_engine::measure::{Closely, Output, Subject, Taken, Watch, run};
use spolia_engine::{Cancel, End};

fn shell(script: &str) -> Subject {
    Subject {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        folder: "/".into(),
        env: Vec::new(),
        output: Output::Null,
    }
}

fn measured(subject: &Subject, closely: Closely, timeout: Option<Duration>) -> Taken {
    let cancel = Cancel::new().unwrap();
    let mut watch = Watch { cancel: &cancel, timeout, closely, on_sample: &mut |_| {} };
    run(subject, &mut watch).unwrap()
}

/// About so many ms of CPU time, by counting.
const BURN: &str = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done";

#[test]
fn cpu_of_children_and_of_orphans_is_seen() {
    let cpu = |taken: &Taken| taken.user_us + taken.sys_us;
    let idle = measured(&shell("sleep 0.3"), Closely::default(), None);
    let direct = measured(&shell(BURN), Closely::default(), None);
    let child = measured(&shell(&format!("({BURN}); true")), Closely::default(), None);
    // The middle process ends at once; its child is nobody's, and ends before the command does.
    let orphan = measured(&shell(&format!("(({BURN}) & ) ; sleep 2")), Closely::default(), None);
    assert!(cpu(&idle) < cpu(&direct) / 2, "{idle:?} {direct:?}");
    assert!(cpu(&child) > cpu(&direct) / 2, "{child:?}");
    assert!(cpu(&orphan) > cpu(&direct) / 2, "{orphan:?} {direct:?}");
    assert_eq!((idle.end, idle.left_running), (End::Exited(0), 0));
    assert!(idle.wall >= Duration::from_millis(300));
    assert!(idle.samples > 0 && idle.processes_seen.is_some_and(|seen| seen >= 1));
    assert!(idle.own_cpu_us < 100_000, "{idle:?}");
}

#[test]
fn memory_and_bytes_are_those_of_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("big");
    let script = format!("head -c 8000000 /dev/zero > {}; cat {0} > /dev/null", file.display());
    let taken = measured(&shell(&script), Closely::default(), None);
    match taken.io {
        Ok(io) => assert!(io.write_call_bytes >= 8_000_000 && io.read_call_bytes >= 8_000_000, "{io:?}"),
        // Some kernels show an ended process's counts to root only, its owner or not.
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root() && why.contains("owner only"), "{why}");
        }
    }
    // Forty MB in a variable of each of two shells at once.
    let hold = "x=$(head -c 40000000 /dev/zero | tr '\\0' 'a'); sleep 1; : $x";
    let taken = measured(&shell(&format!("({hold}) & ({hold}); wait")), Closely::default(), None);
    // The kernel counts the copy of us that each process starts as.
    match &taken.largest_process_bytes {
        Ok(bytes) => assert!(*bytes > 40_000_000, "{taken:?}"),
        Err(why) => panic!("{why}"),
    }
    let small = measured(&shell("exit 0"), Closely::default(), None);
    let why = small.largest_process_bytes.unwrap_err();
    assert!(why.contains("the process that started it"), "{why}");
    let (together, _) = taken.together_bytes.clone().expect("it ran long enough for samples");
    assert!(together > 80_000_000, "{taken:?}");
}

#[test]
fn a_short_command_has_no_samples_and_says_so() {
    let taken = measured(&shell("exit 3"), Closely::default(), None);
    assert_eq!(taken.end, End::Exited(3));
    if taken.samples == 0 {
        let why = taken.together_bytes.unwrap_err();
        assert!(why.contains("before the first sample"), "{why}");
        assert_eq!(taken.processes_seen, None);
    }
    assert!(taken.processes.unwrap_err().contains("not asked"));
}

#[test]
fn what_may_be_looked_at_closely_is() {
    let closely = Closely { count_processes: true, own_cgroup: true, ..Closely::default() };
    let taken = measured(
        &shell("for i in 1 2 3 4 5; do /bin/true; done; (/bin/true; true); sleep 0.6"),
        closely,
        None,
    );
    match &taken.processes {
        // The shell, five times true, the subshell and true in it, and sleep; a shell may spare a fork or two.
        Ok(count) => assert!((7..=9).contains(count), "{taken:?}"),
        Err(why) => eprintln!("processes were not counted: {why}"),
    }
    match &taken.cgroup_cpu_us {
        Ok(us) => assert!(*us > 0 && *us < 10_000_000, "{taken:?}"),
        Err(why) => eprintln!("there was no cgroup: {why}"),
    }
    assert!(taken.together_bytes.is_ok_and(|(bytes, _)| bytes > 100_000));
}

#[test]
fn the_processor_s_speed_is_looked_at_while_it_runs() {
    let closely = Closely { probe_speed: true, ..Closely::default() };
    let long = measured(&shell(BURN), closely, None);
    let speed = long.speed.clone().unwrap();
    assert!(speed.probes >= 2 && speed.work_ns > 0.0, "{long:?}");
    assert!(u128::from(speed.probes) <= long.wall.as_micros() / 3000 + 1, "{long:?}");
    assert!(measured(&shell(BURN), Closely::default(), None).speed.unwrap_err().contains("not asked"));
}

#[test]
fn it_ends_when_it_is_told_to_and_at_its_limit() {
    let taken = measured(&shell("sleep 60"), Closely::default(), Some(Duration::from_millis(100)));
    assert_eq!(taken.end, End::TimedOut);
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let mut watch =
        Watch { cancel: &cancel, timeout: None, closely: Closely::default(), on_sample: &mut |_| {} };
    assert_eq!(run(&shell("sleep 60"), &mut watch).unwrap().end, End::Cancelled);
    let nothing = Subject { program: "/nonexistent".into(), ..shell("") };
    assert!(run(&nothing, &mut watch).is_err());
}

#[test]
fn what_it_leaves_running_is_counted_and_left_alone() {
    let taken = measured(&shell("sleep 3 & exit 0"), Closely::default(), None);
    assert_eq!((taken.end, taken.left_running), (End::Exited(0), 1));
}
