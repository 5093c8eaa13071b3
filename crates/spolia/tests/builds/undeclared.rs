//! What a step looks for and does not declare: named if it is there, remembered if it is not.

use std::os::unix::ffi::OsStrExt;

use spolia_testing::TestEnv;

sandboxed!(
    an_undeclared_file_is_named_and_nothing_is_stored,
    a_step_that_fails_for_want_of_a_file_says_so,
    a_pattern_that_selects_nothing_is_named_when_the_step_fails,
    ignored_files_are_nobodys_business,
    a_missing_file_that_appears_is_a_miss,
    other_steps_outputs_are_no_undeclared_files,
    the_line_to_add_is_relative_to_its_file,
    odd_names_are_shown_so_that_they_can_be_read,
    many_are_named_in_part,
    folders_and_listings_are_no_files,
);

fn including(env: &TestEnv) {
    env.write("src/main.c", "main\n");
    env.write("src/hidden.h", "hidden\n");
    env.manifest(
        r#"
        [steps.obj]
        platforms = "any"
        run = "cat src/main.c > ${out}/o; cat src/hidden.h >> ${out}/o 2>/dev/null || true"
        inputs = ["src/*.c"]
        outputs = ["o"]
        [steps.bin]
        needs = ["obj"]
        platforms = "any"
        run = "cp ${step.obj}/o ${out}/bin"
        outputs = ["bin"]
        "#,
    );
}

fn an_undeclared_file_is_named_and_nothing_is_stored(env: &mut TestEnv) {
    including(env);
    let built = env.build(&[]);
    built.assert_ran(&["obj", "bin"]);
    assert_eq!(
        built.warnings(),
        "step `obj` looked for `src/hidden.h`, which it does not declare; its result is not stored\n\
         add to `inputs` of `[steps.obj]` (spolia.toml:2): \"src/hidden.h\"\n"
    );
    assert!(built.not_stored("obj").unwrap().contains("`src/hidden.h`"), "{built}");
    assert_eq!(built.not_stored("bin"), None, "what is made of it is known by its bytes");
    assert_eq!(TestEnv::files_below(&env.store().join("v1/result")).len(), 1);
    assert_eq!(env.read_text(".spolia/out/bin/any/bin"), "main\n");
    // Again, since nobody knows what it was made from.
    let built = env.build(&[]);
    built.assert_ran(&["obj"]).assert_miss("obj", "the result of its last run here was not stored");
    assert!(built.warnings().contains("src/hidden.h"), "{built}");
    env.edit_manifest("inputs = [\"src/*.c\"]", "inputs = [\"src/*.c\", \"src/hidden.h\"]");
    let built = env.build(&[]);
    built.assert_ran(&["obj", "bin"]);
    assert_eq!((built.warnings().as_str(), built.not_stored("obj")), ("", None), "{built}");
    assert_eq!(env.read_text(".spolia/out/bin/any/bin"), "main\nhidden\n");
    env.build(&[]).assert_up_to_date();
}

fn a_step_that_fails_for_want_of_a_file_says_so(env: &mut TestEnv) {
    env.write("config.h", "x");
    env.manifest("[steps.a]\nplatforms = \"any\"\nrun = \"cat config.h > ${out}/a\"\noutputs = [\"a\"]\n");
    let built = env.build_fails(1, &[]);
    assert_eq!(
        built.error("a"),
        "it ended with exit code 1\nadd to `inputs` of `[steps.a]` (spolia.toml:1): \"config.h\""
    );
    assert!(!env.has(".spolia/out/a"));
}

fn a_pattern_that_selects_nothing_is_named_when_the_step_fails(env: &mut TestEnv) {
    env.write("src/a.c", "x");
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"cat src/*.cc\"\ninputs = [\"src/*.c\", \"src/*.cc\", \"!*.o\", \"b\"]\noutputs = []\n",
    );
    let built = env.build_fails(1, &[]);
    assert_eq!(
        built.error("a"),
        "it ended with exit code 1\nno file is selected by \"src/*.cc\", \"b\" of its `inputs`"
    );
    // It may be right, and so is said of no step that succeeds.
    env.edit_manifest("cat src/*.cc", "cat src/*.c");
    assert_eq!(env.build(&[]).warnings(), "");
}

fn ignored_files_are_nobodys_business(env: &mut TestEnv) {
    env.write(".gitignore", "*.log\nbuild/\n");
    env.write("old.log", "x");
    env.write("build/cache", "x");
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"cat old.log build/cache .git/config 2>&1 | wc -l > ${out}/a\"\noutputs = [\"a\"]\n",
    );
    env.write(".git/config", "[core]");
    let built = env.build(&[]);
    assert_eq!((built.warnings().as_str(), built.not_stored("a")), ("", None), "{built}");
    env.build(&[]).assert_up_to_date();
    env.write("old.log", "y");
    env.build(&[]).assert_up_to_date();
}

fn a_missing_file_that_appears_is_a_miss(env: &mut TestEnv) {
    including(env);
    env.remove("src/hidden.h");
    let built = env.build(&[]);
    assert_eq!((built.warnings().as_str(), built.not_stored("obj")), ("", None), "{built}");
    env.build(&[]).assert_up_to_date();
    env.write("src/unrelated.h", "x");
    env.build(&[]).assert_up_to_date();
    env.write("src/hidden.h", "hidden\n");
    let why = "`src/hidden.h`, which was looked for and not there, now exists";
    let built = env.build(&[]);
    built.assert_ran(&["obj"]).assert_miss("obj", why);
    assert!(built.warnings().contains("\"src/hidden.h\""), "{built}");
    // Also where this tree is not remembered, and where the store answers.
    env.remove(".spolia");
    env.build(&[]).assert_miss("obj", why);
    // Gone again: the result of then holds again.
    env.remove("src/hidden.h");
    env.build(&[]).assert_ran(&[]);
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    // A folder on the way counts as little as one that was always there.
    std::fs::create_dir(env.path("src/hidden.h")).unwrap();
    env.build(&[]).assert_ran(&[]);
}

fn other_steps_outputs_are_no_undeclared_files(env: &mut TestEnv) {
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "echo a > ${out}/a"
        outputs = ["a"]
        to = "bin"
        [steps.b]
        needs = ["a"]
        platforms = "any"
        run = "cat bin/a ${step.a}/a > ${out}/b 2>/dev/null || true"
        outputs = ["b"]
        "#,
    );
    let built = env.build(&[]);
    built.assert_ran(&["a", "b"]);
    assert_eq!((built.warnings().as_str(), built.not_stored("b")), ("", None), "{built}");
    assert_eq!(env.read_text("bin/a"), "a\n");
    env.build(&[]).assert_up_to_date();
}

fn the_line_to_add_is_relative_to_its_file(env: &mut TestEnv) {
    env.manifest("include = [\"sub/spolia.toml\"]\n");
    env.write(
        "sub/spolia.toml",
        "\n\n[steps.a]\nplatforms = \"any\"\nrun = \"cat below ../above; echo > ${out}/a\"\noutputs = [\"a\"]\n",
    );
    env.write("sub/below", "x");
    env.write("above", "x");
    let built = env.build_fails(1, &[]);
    let error = built.error("a");
    assert!(
        error.ends_with("add to `inputs` of `[steps.a]` (sub/spolia.toml:3): \"../above\", \"below\""),
        "{error}"
    );
}

fn odd_names_are_shown_so_that_they_can_be_read(env: &mut TestEnv) {
    env.write("a \"b\"\nc", "x");
    env.write(std::ffi::OsStr::from_bytes(b"\xff\xfe"), "x");
    env.write("look.sh", "cat 'a \"b\"\nc'; cat $(printf '\\377\\376'); echo > \"$1\"\n");
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = [\"sh\", \"look.sh\", \"${out}/a\"]\ninputs = [\"look.sh\"]\noutputs = [\"a\"]\n",
    );
    let built = env.build(&[]);
    let warnings = built.warnings();
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
    assert!(warnings.contains("and 1 more"), "{warnings}");
    // What is to be added can be added as it is.
    let line = warnings.lines().nth(1).unwrap();
    let names = line.split_once("(spolia.toml:1): ").unwrap().1;
    let first = names.split_once(", ").map_or(names, |(first, _)| first);
    env.edit_manifest("inputs = [", &format!("inputs = [{first}, "));
    let built = env.build(&[]);
    let warnings = built.warnings();
    assert!(!warnings.contains("and 1 more"), "{warnings}");
}

fn many_are_named_in_part(env: &mut TestEnv) {
    for number in 0..20 {
        env.write(format!("h/{number:02}.h"), "x");
    }
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"for n in 0 1; do for m in 0 1 2 3 4 5 6 7 8 9; do cat h/$n$m.h || true; done; done; echo > ${out}/a\"\noutputs = [\"a\"]\n",
    );
    let built = env.build(&[]);
    let warnings = built.warnings();
    assert!(warnings.contains("looked for `h/00.h` and 19 more"), "{warnings}");
    assert!(warnings.contains("\"h/07.h\" (and 12 more)"), "{warnings}");
}

fn folders_and_listings_are_no_files(env: &mut TestEnv) {
    env.write("src/a.c", "x\n");
    env.write("src/sub/b.c", "x\n");
    env.write("other/c.c", "x\n");
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"ls . src; test ! -e other; test ! -d src/sub; cat src/*.c > ${out}/a\"\ninputs = [\"src/a.c\"]\noutputs = [\"a\"]\n",
    );
    let built = env.build(&[]);
    assert_eq!((built.warnings().as_str(), built.not_stored("a")), ("", None), "{built}");
    env.build(&[]).assert_up_to_date();
}
