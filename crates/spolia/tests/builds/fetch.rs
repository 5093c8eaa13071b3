//! Sources with a digest: checked, and never fetched twice.

use spolia_core::Digest;
use spolia_testing::TestEnv;

both!(the_wrong_digest_is_told, the_right_one_never_runs_twice);

fn manifest(env: &TestEnv, run: &str, sha256: &str) {
    env.manifest(&format!(
        r#"
        [steps.src]
        platforms = "any"
        source = {{ name = "fio", version = "3.33", sha256 = "{sha256}", licence = "GPL-2.0" }}
        run = "{run}; echo >> ${{cache}}/traces/fetch"
        outputs = ["fio.tar"]
        {traces}
        [steps.use]
        needs = ["src"]
        platforms = "any"
        run = "cat ${{step.src}}/fio.tar > ${{out}}/use"
        outputs = ["use"]
        "#,
        traces = crate::TRACES
    ));
}

fn the_wrong_digest_is_told(env: &mut TestEnv) {
    let wanted = Digest::sha256(b"what was wanted\n").to_hex();
    let found = Digest::sha256(b"what came\n").to_hex();
    manifest(env, "echo what came > ${out}/fio.tar", &wanted);
    let built = env.build_fails(1, &[]);
    let error = built.error("src");
    assert!(error.contains(&wanted) && error.contains(&found), "{error}");
    assert!(error.contains(&format!("sha256 = \"{found}\"")), "{error}");
    assert_eq!(built.skipped().len(), 1, "{built}");
    assert!(!env.has(".spolia/out/src"), "nothing is published");
    assert!(TestEnv::files_below(&env.store().join("v1/result")).is_empty(), "nothing is stored");
    // It is tried again, not remembered.
    env.build_fails(1, &[]);
    assert_eq!(env.traces("fetch"), 2);
    manifest(env, "echo what came > ${out}/fio.tar", &found);
    env.build(&[]).assert_ran(&["src", "use"]);
    assert_eq!(env.read_text(".spolia/out/use/any/use"), "what came\n");
}

fn the_right_one_never_runs_twice(env: &mut TestEnv) {
    let sha256 = Digest::sha256(b"source\n").to_hex();
    manifest(env, "echo source > ${out}/fio.tar", &sha256);
    env.build(&[]).assert_ran(&["src", "use"]);
    // Another mirror, another client: the same source.
    manifest(env, "printf 'source\\\\n' > ${out}/fio.tar", &sha256);
    env.build(&[]).assert_up_to_date();
    env.remove(".spolia");
    env.set_var("https_proxy", "http://proxy.invalid:1");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.traces("fetch"), 1);
    assert_eq!(env.read_text(".spolia/out/use/any/use"), "source\n");
    // A command that would give something else is not even tried.
    manifest(env, "echo other > ${out}/fio.tar", &sha256);
    env.build(&[]).assert_up_to_date();
}
