//! What comes out of a step: what is asked of it, what is kept of it, and that it never lands elsewhere.

use std::os::unix::fs::{PermissionsExt, symlink};

use spolia_testing::TestEnv;

// What is done with outputs is the same for both engines, and so many files take their time.
sandboxed!(folders_of_thousands_of_files);

both!(
    empty_folders_links_and_bits_are_kept,
    missing_and_empty_ones_are_refused,
    what_is_not_declared_is_left_out,
    links_out_are_refused,
    links_within_are_kept,
    outputs_behind_links_are_refused,
    a_link_on_the_way_to_is_not_followed,
    a_file_in_the_way_is_told,
    the_wrong_machine_is_refused,
    files_of_others_are_left_alone,
    outputs_that_are_no_more_are_removed,
    two_steps_in_one_folder,
    odd_modes_can_be_captured,
    hard_links_and_holes,
    the_tree_of_a_step_with_its_own_output_as_input,
);

/// One step called `a`.
fn step(env: &TestEnv, run: &str, more: &str) {
    env.manifest(&format!("[steps.a]\nplatforms = \"any\"\nrun = '''{run}'''\n{more}\n"));
}

fn folders_of_thousands_of_files(env: &mut TestEnv) {
    step(
        env,
        "mkdir ${out}/d; i=0; while [ $i -lt 50 ]; do mkdir ${out}/d/$i; j=0; while [ $j -lt 100 ]; do echo $i $j > ${out}/d/$i/$j; j=$((j+1)); done; i=$((i+1)); done",
        "outputs = [\"d\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    let folder = env.path(".spolia/out/a/any/d");
    let check = || {
        let files = TestEnv::files_below(&folder);
        assert_eq!(files.len(), 5000);
        assert_eq!(std::fs::read_to_string(folder.join("49/99")).unwrap(), "49 99\n");
    };
    check();
    env.build(&[]).assert_up_to_date();
    // A hundred of them gone, one changed, one too many.
    std::fs::remove_dir_all(folder.join("7")).unwrap();
    std::fs::write(folder.join("8/8"), "x").unwrap();
    std::fs::write(folder.join("9/new"), "x").unwrap();
    let built = env.build(&[]);
    built.assert_ran(&[]);
    assert!(built.healed().len() <= 6, "not a line for each file\n{built}");
    check();
    env.remove(".spolia");
    let built = env.build(&[]);
    assert_eq!(built.summary().restored_files, 5000, "{built}");
    check();
    env.build(&[]).assert_up_to_date();
}

fn empty_folders_links_and_bits_are_kept(env: &mut TestEnv) {
    step(
        env,
        "mkdir -p ${out}/d/empty/er; echo x > ${out}/d/x; chmod 755 ${out}/d/x; echo y > ${out}/d/y; ln -s ../d/x ${out}/d/l; ln -s gone ${out}/d/dangling; ln -s d/y ${out}/l",
        "outputs = [\"d\", \"l\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    let out = env.path(".spolia/out/a/any");
    let check = || {
        assert!(out.join("d/empty/er").is_dir());
        let mode = |name: &str| out.join(name).metadata().unwrap().permissions().mode() & 0o111;
        assert_eq!((mode("d/x") != 0, mode("d/y")), (true, 0));
        let link = |name: &str| std::fs::read_link(out.join(name)).unwrap();
        assert_eq!(link("d/l").to_str(), Some("../d/x"));
        assert_eq!(link("d/dangling").to_str(), Some("gone"));
        assert_eq!(std::fs::read_to_string(out.join("l")).unwrap(), "y\n");
    };
    check();
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    check();
}

fn missing_and_empty_ones_are_refused(env: &mut TestEnv) {
    step(env, "true", "outputs = [\"x\", \"y/z\"]");
    let built = env.build_fails(1, &[]);
    let error = built.error("a");
    assert!(
        error.starts_with("the output `x` was not written to `${out}`; the output `y/z` was not"),
        "{error}"
    );
    step(env, ": > ${out}/x; mkdir -p ${out}/d/e", "outputs = [\"x\", \"d\"]");
    let error = env.build_fails(1, &[]).error("a");
    assert!(error.contains("the output `x` is empty; the output `d` is empty"), "{error}");
    assert!(error.contains("write `{ path = \"x\", allow-empty = true }`"), "{error}");
    assert!(!env.has(".spolia/out/a"));
    step(
        env,
        ": > ${out}/x; mkdir -p ${out}/d/e",
        "outputs = [{ path = \"x\", allow-empty = true }, { path = \"d\", allow-empty = true }]",
    );
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read(".spolia/out/a/any/x"), b"");
    assert!(env.path(".spolia/out/a/any/d/e").is_dir());
    // A step that worked before and now leaves its output empty does not take the old one away.
    step(env, "echo good > ${out}/x", "outputs = [\"x\"]");
    env.build(&[]).assert_ran(&["a"]);
    step(env, ": > ${out}/x", "outputs = [\"x\"]");
    env.build_fails(1, &[]);
    assert_eq!(env.read_text(".spolia/out/a/any/x"), "good\n");
}

fn what_is_not_declared_is_left_out(env: &mut TestEnv) {
    step(
        env,
        "echo a > ${out}/a; echo extra > ${out}/extra; mkdir ${out}/d; echo b > ${out}/d/b; echo extra > ${out}/d/extra",
        "outputs = [\"a\", \"d/b\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    let files = |env: &TestEnv| TestEnv::files_below(&env.path(".spolia/out/a")).len();
    assert_eq!(files(env), 2);
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(files(env), 2);
}

fn links_out_are_refused(env: &mut TestEnv) {
    for target in ["/etc/passwd", "../../x", "d/../../../x", ".."] {
        step(
            env,
            &format!("mkdir ${{out}}/d; ln -s {target} ${{out}}/d/l; echo > ${{out}}/d/x"),
            "outputs = [\"d\"]",
        );
        let out = matches!(target, "/etc/passwd" | "../../x" | "d/../../../x");
        let built = env.try_build(&[]);
        if out {
            let error = built.error("a");
            assert!(
                error.contains("`d/l`") && error.contains("leads out of the outputs"),
                "{target}: {error}"
            );
            assert!(!env.has(".spolia/out/a"));
        } else {
            built.succeeded();
            env.remove(".spolia/out/a");
        }
    }
    assert_eq!(TestEnv::files_below(&env.store().join("v1/result")).len(), 1);
}

fn links_within_are_kept(env: &mut TestEnv) {
    step(
        env,
        "mkdir -p ${out}/d/e ${out}/f; ln -s ../../f/x ${out}/d/e/l; echo x > ${out}/f/x; ln -s . ${out}/d/self; ln -s loop ${out}/d/loop",
        "outputs = [\"d\", \"f\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/d/e/l"), "x\n");
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/d/self/e/l"), "x\n");
}

fn outputs_behind_links_are_refused(env: &mut TestEnv) {
    step(env, "ln -s / ${out}/d", "outputs = [\"d/etc/hostname\"]");
    let error = env.build_fails(1, &[]).error("a");
    assert!(error.contains("`d/etc/hostname`"), "{error}");
    assert!(error.contains("symlink `d`"), "{error}");
    // The folder itself replaced by a link. (In the sandbox it is a mount, which cannot be.)
    let outside = env.folder().join("home/outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x"), "not an output").unwrap();
    step(env, &format!("rmdir ${{out}}; ln -s {} ${{out}}", outside.display()), "outputs = [\"x\"]");
    env.build_fails(1, &[]);
    assert!(!env.has(".spolia/out/a"));
    assert!(outside.join("x").exists());
    step(env, "echo fine > ${out}/x", "outputs = [\"x\"]");
    env.build(&[]).assert_ran(&["a"]);
    assert!(outside.join("x").exists(), "nothing is removed through the link");
}

fn a_link_on_the_way_to_is_not_followed(env: &mut TestEnv) {
    let outside = env.folder().join("home/outside");
    std::fs::create_dir(&outside).unwrap();
    let nothing_outside = || assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // On the way to `to`, `to` itself, below `to`.
    for (link, to) in [("bin", "bin/x"), ("bin", "bin"), ("bin/d", "bin")] {
        let link = env.path(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&outside, &link).unwrap();
        step(env, "mkdir -p ${out}/d; echo x > ${out}/d/x", &format!("outputs = [\"d/x\"]\nto = \"{to}\""));
        let built = env.build_fails(1, &[]);
        let error = built.error("a");
        assert!(error.contains("is a symlink, which is not followed"), "{to}: {error}");
        nothing_outside();
        std::fs::remove_file(&link).unwrap();
        env.build(&[]);
        assert_eq!(env.read_text(format!("{to}/d/x")), "x\n");
        env.remove("bin");
        // The same for a restore.
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&outside, &link).unwrap();
        env.build_fails(1, &[]);
        nothing_outside();
        std::fs::remove_file(&link).unwrap();
        if env.has("bin") {
            env.remove("bin");
        }
    }
    // And for Spolia's own folder.
    assert!(!env.has(".spolia/out"), "all was published elsewhere");
    symlink(&outside, env.path(".spolia/out")).unwrap();
    step(env, "echo y > ${out}/y", "outputs = [\"y\"]");
    env.build_fails(1, &[]);
    nothing_outside();
}

fn a_file_in_the_way_is_told(env: &mut TestEnv) {
    env.write("bin", "a file of the user's");
    step(env, "echo x > ${out}/x", "outputs = [\"x\"]\nto = \"bin\"");
    let error = env.build_fails(1, &[]).error("a");
    assert!(error.contains("bin"), "{error}");
    assert_eq!(env.read_text("bin"), "a file of the user's");
    env.remove("bin");
    env.write("bin/x/precious", "a folder of the user's");
    let error = env.build_fails(1, &[]).error("a");
    assert!(error.contains("files from elsewhere"), "{error}");
    assert_eq!(env.read_text("bin/x/precious"), "a folder of the user's");
}

fn the_wrong_machine_is_refused(env: &mut TestEnv) {
    // The first 64 bytes of an ELF file for s390x.
    let mut elf = b"\x7fELF\x02\x02\x01".to_vec();
    elf.resize(16, 0);
    elf.extend_from_slice(&[0, 2, 0, 22]);
    elf.resize(64, 0);
    env.write("s390x.elf", &elf);
    let write = |more: &str| {
        env.manifest(&format!(
            r#"
            [project]
            platforms = ["linux/amd64", "linux/s390x"]
            [steps.a]
            run = "mkdir -p ${{out}}/bin; cp s390x.elf ${{out}}/bin/x"
            inputs = ["s390x.elf"]
            outputs = [{more}]
            "#
        ));
    };
    write("\"bin\"");
    let built = env.build_fails(1, &["--keep-going"]);
    let error = built.error("a (linux/amd64)");
    assert!(error.contains("`bin/x` is for") && error.contains("linux/amd64"), "{error}");
    assert!(built.ran().contains("a (linux/s390x)"), "{built}");
    write("{ path = \"bin\", any-machine = true }");
    assert_eq!(env.build(&[]).ran().len(), 2);
}

fn files_of_others_are_left_alone(env: &mut TestEnv) {
    env.write("bin/theirs", "theirs");
    env.write("bin/sub/theirs", "theirs");
    step(
        env,
        "mkdir ${out}/sub; echo x > ${out}/sub/ours; echo y > ${out}/ours",
        "outputs = [\"sub\", \"ours\"]\nto = \"bin\"",
    );
    env.build(&[]).assert_ran(&["a"]);
    let check = |env: &TestEnv| {
        assert_eq!(
            (env.read_text("bin/theirs"), env.read_text("bin/sub/theirs")),
            ("theirs".into(), "theirs".into())
        );
        assert_eq!((env.read_text("bin/ours"), env.read_text("bin/sub/ours")), ("y\n".into(), "x\n".into()));
    };
    check(env);
    env.build(&[]).assert_up_to_date();
    env.remove("bin/ours");
    env.build(&[]).assert_ran(&[]);
    check(env);
}

fn outputs_that_are_no_more_are_removed(env: &mut TestEnv) {
    env.write("bin/theirs", "theirs");
    step(
        env,
        "echo 1 > ${out}/one; echo 2 > ${out}/two; echo 3 > ${out}/three",
        "outputs = [\"one\", \"two\", \"three\"]\nto = \"bin\"",
    );
    env.build(&[]);
    // Somebody has made one of them their own.
    env.write("bin/three", "edited");
    step(env, "echo 1 > ${out}/one", "outputs = [\"one\"]\nto = \"bin\"");
    env.build(&[]).assert_ran(&["a"]);
    assert!(env.has("bin/one") && !env.has("bin/two") && env.has("bin/theirs"));
    assert_eq!(env.read_text("bin/three"), "edited");
    // In Spolia's own folder nothing else stays.
    step(env, "echo 1 > ${out}/one; echo 2 > ${out}/two", "outputs = [\"one\", \"two\"]");
    env.build(&[]);
    step(env, "echo 1 > ${out}/one", "outputs = [\"one\"]");
    env.build(&[]);
    assert_eq!(TestEnv::files_below(&env.path(".spolia/out/a")).len(), 1);
}

fn two_steps_in_one_folder(env: &mut TestEnv) {
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "echo a > ${out}/a"
        outputs = ["a"]
        to = "dist"
        [steps.b]
        platforms = "any"
        needs = ["a"]
        run = "ls ${step.a} > ${out}/b"
        outputs = ["b"]
        to = "dist"
        "#,
    );
    env.write("dist/c", "theirs");
    env.build(&[]).assert_ran(&["a", "b"]);
    // A dependant sees the outputs of what it needs, and nothing else that lies there.
    assert_eq!(env.read_text("dist/b"), "a\n");
    env.build(&[]).assert_up_to_date();
    env.remove("dist");
    env.build(&["--jobs", "8"]).assert_ran(&[]);
    assert_eq!((env.read_text("dist/a"), env.read_text("dist/b")), ("a\n".into(), "a\n".into()));
}

fn odd_modes_can_be_captured(env: &mut TestEnv) {
    step(
        env,
        "mkdir ${out}/d; echo x > ${out}/d/x; chmod 444 ${out}/d/x; echo y > ${out}/d/y; chmod 600 ${out}/d/y; echo s > ${out}/d/s; chmod 4755 ${out}/d/s; chmod 555 ${out}/d",
        "outputs = [\"d\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    let mode = |env: &TestEnv, name: &str| {
        env.path(format!(".spolia/out/a/any/d/{name}")).metadata().unwrap().permissions().mode() & 0o7777
    };
    // The executable bit is what is kept of a mode.
    assert_eq!(mode(env, "s") & 0o7111, 0o111);
    env.build(&[]).assert_up_to_date();
    env.build(&["--no-cache"]).assert_ran(&["a"]);
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    assert_eq!((mode(env, "x") & 0o111, mode(env, "s") & 0o7111), (0, 0o111));
}

fn hard_links_and_holes(env: &mut TestEnv) {
    step(
        env,
        "echo x > ${out}/one; ln ${out}/one ${out}/two; truncate -s 64M ${out}/hole; echo end >> ${out}/hole",
        "outputs = [\"one\", \"two\", \"hole\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    let stored: u64 = TestEnv::files_below(&env.store().join("v1/blob"))
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(stored < 1 << 20, "64 MiB of nothing take {stored} bytes");
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    let hole = env.read(".spolia/out/a/any/hole");
    assert_eq!((hole.len(), &hole[hole.len() - 5..]), ((64 << 20) + 4, b"\0end\n".as_slice()));
    // What was linked is now apart: a change of one is no change of the other, and is healed.
    env.write(".spolia/out/a/any/one", "z");
    assert_eq!(env.read_text(".spolia/out/a/any/two"), "x\n");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/one"), "x\n");
}

/// Published outputs are never inputs, however wide a glob is.
fn the_tree_of_a_step_with_its_own_output_as_input(env: &mut TestEnv) {
    env.write("src.txt", "x\n");
    step(
        env,
        "find . -name '*.txt' -not -path './.spolia/*' | sort > ${out}/list.txt",
        "inputs = [\"**\"]\noutputs = [\"list.txt\"]\nto = \"gen\"",
    );
    env.build(&[]).assert_ran(&["a"]);
    env.build(&[]).assert_up_to_date();
    env.write("src2.txt", "x\n");
    env.build(&[]).assert_miss("a", "input `src2.txt` is new");
    env.build(&[]).assert_up_to_date();
}
