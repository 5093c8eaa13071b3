//! SIGKILL at any moment: the next build is right, nothing is half-written, nothing is left behind.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use spolia_testing::process::processes_with;
use spolia_testing::{Random, TestEnv, wait_until};

both!(at_any_moment, what_a_killed_build_started_does_not_go_on);

/// Rounds of each engine.
const ROUNDS: u64 = 30;

fn kill(pid: u32, group: bool) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    // Only what has not been waited for is killed, so the number is still its own.
    if group {
        rustix::process::kill_process_group(pid, Signal::KILL).unwrap();
    } else {
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}

/// The two outputs of a step are the same bytes: half of a result would show.
fn manifest(env: &TestEnv) {
    env.manifest(
        r#"
        [project]
        platforms = ["linux/amd64", "linux/arm64"]
        [steps.a]
        run = "for n in 1 2 3 4 5 6; do sed s/^/$n/ in.txt; done > ${out}/one; cp ${out}/one ${out}/two"
        inputs = ["in.txt"]
        outputs = ["one", "two"]
        [steps.b]
        needs = ["a"]
        run = "mkdir ${out}/d; for n in 1 2 3 4 5 6 7 8 9; do cat ${step.a}/one > ${out}/d/$n; done"
        outputs = ["d"]
        [steps.c]
        needs = ["b"]
        run = "cat ${step.b}/d/9 > ${out}/c"
        outputs = ["c"]
        to = "dist/${platform.arch}"
        "#,
    );
}

fn expected(input: &str) -> String {
    (1..=6).flat_map(|n| input.lines().map(move |line| format!("{n}{line}\n"))).collect()
}

fn check_whole(env: &TestEnv, inputs: &[String]) {
    let right: Vec<Vec<u8>> = inputs.iter().map(|input| expected(input).into_bytes()).collect();
    for platform in ["amd64", "arm64"] {
        let a = format!(".spolia/out/a/linux/{platform}");
        if env.has(&a) {
            assert_eq!(env.read(format!("{a}/one")), env.read(format!("{a}/two")), "half a result");
            assert!(right.contains(&env.read(format!("{a}/one"))));
        }
        let b = format!(".spolia/out/b/linux/{platform}");
        if env.has(&b) {
            let first = env.read(format!("{b}/d/1"));
            assert!(right.contains(&first));
            for number in 2..=9 {
                assert_eq!(env.read(format!("{b}/d/{number}")), first, "half a folder");
            }
        }
        let c = format!("dist/{platform}/c");
        if env.has(&c) {
            assert!(right.contains(&env.read(&c)), "half a file");
        }
    }
}

fn at_any_moment(env: &mut TestEnv) {
    let seed = 0x5e_ed00 + env.engine as u64;
    let mut random = Random::new(seed);
    manifest(env);
    let mut inputs = vec![String::new()];
    let mut unfinished = 0;
    for round in 0..ROUNDS {
        let input: String = (0..200).map(|_| format!("{:x}\n", random.number())).collect();
        env.write("in.txt", &input);
        inputs.push(input);
        if random.one_in(4) && env.has("dist") {
            env.remove("dist");
        }
        let mut command = env.build_command(["--jobs", "2"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().unwrap();
        let pause = random.below(150_000);
        std::thread::sleep(Duration::from_micros(pause));
        kill(child.id(), random.one_in(2));
        unfinished += u32::from(!child.wait().unwrap().success());
        let what = format!("seed {seed:#x}, round {round}, after {pause} µs");
        check_whole(env, &inputs);
        // Half of the time another kill comes before anything is put right.
        if random.one_in(2) && round + 1 < ROUNDS {
            continue;
        }
        let built = env.try_build(&[]);
        assert_eq!(built.code, Some(0), "{what}\n{built}");
        let right = expected(&inputs[inputs.len() - 1]);
        for platform in ["amd64", "arm64"] {
            assert_eq!(env.read_text(format!("dist/{platform}/c")), right, "{what}\n{built}");
            assert_eq!(
                env.read_text(format!(".spolia/out/b/linux/{platform}/d/5")),
                right,
                "{what}\n{built}"
            );
        }
        check_whole(env, &inputs);
        env.build(&[]).assert_up_to_date();
    }
    assert!(unfinished >= 10, "only {unfinished} of {ROUNDS} builds were killed before their end");
    // What was left is swept by a build that has something to do, and by a collection.
    env.write("in.txt", "last\n");
    env.build(&[]);
    let store = spolia_store::LocalStore::open(&env.store(), spolia_store::LocalOptions::default()).unwrap();
    let policy = spolia_store::gc::Policy::default();
    spolia_store::gc::collect(&store, &policy, TestEnv::now_us(), false).unwrap().unwrap();
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
}

fn what_a_killed_build_started_does_not_go_on(env: &mut TestEnv) {
    let mark = format!("99999.{}", std::process::id());
    env.write("in.txt", "first\n");
    env.manifest(&format!(
        r#"
        [steps.a]
        platforms = "any"
        run = "cp in.txt ${{out}}/a; if grep -q first in.txt; then echo sleeping; sleep {mark}; fi; echo end >> ${{out}}/a"
        inputs = ["in.txt"]
        outputs = ["a"]
        "#
    ));
    let mut command = env.build_command([] as [&str; 0]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until("the step sleeps", || !processes_with(&mark).is_empty());
    kill(child.id(), false);
    child.wait().unwrap();
    if env.engine == spolia_testing::Engine::Sandbox {
        wait_until("the sandbox is gone", || processes_with(&mark).is_empty());
    }
    // On the host nobody is there to end it; the next build finds it and does, before it runs the step.
    env.write("in.txt", "second\n");
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "second\nend\n");
    assert_eq!(processes_with(&mark), [] as [u32; 0]);
}
