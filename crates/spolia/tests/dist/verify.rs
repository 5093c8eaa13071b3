//! `spolia dist --verify`: the release a second time, and what is said where it differs.

use super::{commit, packed, project, refused};

#[test]
fn a_release_is_the_same_a_second_time() {
    let env = project();
    let said = packed(&env, &["--verify"]);
    assert!(
        said.contains("Verified kit: 9 files are the same bytes a second time (steps as they were)"),
        "{said}"
    );
    assert!(said.contains("Varied path; ") && said.contains(" became 12345; order of files in "), "{said}");
    assert!(!said.contains("not varied"), "{said}");
    let said = packed(&env, &["--verify=rebuild"]);
    assert!(said.contains("Fresh") && said.contains("(every step run again)"), "{said}");
    let left: Vec<_> = std::fs::read_dir(env.folder().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_first_difference_is_explained() {
    let env = project();
    env.edit_manifest("echo library", "date +%N");
    commit(&env);
    // On the host the second build runs its steps again: their results are bound to the folder.
    let said = refused(&env, 4, &["--verify"]);
    assert!(said.contains("error: kit.tgz: the content of `kit/lib/x` is sha256 "), "{said}");
    assert!(said.contains("error: manifest.json: `platforms[0].archive.md5` is "), "{said}");
    assert!(said.contains("error: and 6 files of sums with them"), "{said}");
}

/// Each of these differs between the two builds, and nothing else does.
#[test]
fn what_surrounds_a_step_is_another_the_second_time() {
    for script in ["id -u", "umask", "ls -U docs", "stat -c %a docs/a.md", "pwd", "env"] {
        let env = project();
        env.edit_manifest("echo library", script);
        env.edit_manifest("outputs = [\"app\", \"lib\"]", "inputs = ['docs/**']\noutputs = ['app', 'lib']");
        for name in ["c", "d", "e"] {
            env.write(format!("docs/{name}.md"), name);
        }
        commit(&env);
        let said = refused(&env, 4, &["--verify"]);
        assert!(
            said.contains("error: kit.tgz: the ") && said.contains(" of `kit/lib/x` is "),
            "{script}: {said}"
        );
    }
}

#[test]
fn a_file_that_is_not_declared_is_not_there_a_second_time() {
    let env = project();
    env.edit_manifest("echo library", "cat version.txt");
    commit(&env);
    packed(&env, &[]);
    env.edit_manifest("cat version.txt", "cat docs/a.md LICENSE notes.txt");
    env.write("notes.txt", "notes\n");
    commit(&env);
    let said = refused(&env, 4, &["--verify"]);
    assert!(said.contains("the release could not be made a second time"), "{said}");
    assert!(said.contains("notes.txt: No such file"), "{said}");
}

/// A program that needs a library by a path of its build, and one for another machine.
#[test]
fn programs_are_looked_into() {
    let env = project();
    env.edit_manifest("printf '#!/bin/sh\\necho ${platform}\\n' >${out}/app", "cp program ${out}/app");
    let root = env.root().display().to_string();
    let mut program = std::fs::read("/bin/true").unwrap();
    program.extend_from_slice(format!("\0{root}/src/main.c\0").as_bytes());
    env.write("program", &program);
    env.edit_manifest(
        "outputs = [\"app\", \"lib\"]",
        "inputs = [\"program\"]\noutputs = [{ path = \"app\", any-machine = true }, \"lib\"]",
    );
    commit(&env);
    let host = if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" };
    let said = refused(&env, 4, &["--verify", "--platform", host]);
    assert!(said.contains(&format!("bin/app: it holds the path `{root}` of its build")), "{said}");
    assert!(said.contains("needs libc.so.6"), "{said}");
    let other = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    let said = refused(&env, 1, &["--platform", other]);
    assert!(said.contains("`kit/bin/app` in `kit") && said.contains("and the archive is for"), "{said}");
}
