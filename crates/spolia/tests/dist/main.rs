//! `spolia dist` through the binary: what is packed, what is the same, what is refused.

#![expect(clippy::disallowed_methods, reason = "tests start the binary, git and the readers of archives")]

mod basics;
mod hostile;
mod release;
mod verify;

use std::path::Path;
use std::process::{Command, Output};

use spolia_testing::{Engine, TestEnv};

/// The binary.
const SPOLIA: &str = env!("CARGO_BIN_EXE_spolia");
/// The time of the test's commit, which is in January 2024 everywhere.
const COMMIT_TIME: &str = "2024-01-15T12:34:56+02:00";

/// A table that packs two platforms of a step, a folder of the tree and a licence.
const MANIFEST: &str = r#"
[project]
name = "kit"
platforms = ["linux/amd64", "linux/arm64"]

[platform."linux/amd64"]
suffix = ""

[steps.app]
run = '''
mkdir -p ${out}/lib
printf '#!/bin/sh\necho ${platform}\n' >${out}/app
chmod 755 ${out}/app
echo library >${out}/lib/x
ln -s x ${out}/lib/y
'''
outputs = ["app", "lib"]

[dist.kit]
archive = "kit${platform.suffix}.tgz"
root = "kit"
version-file = "version.txt"
files = { "bin/app" = "step:app/app", "lib" = "step:app/lib", "docs/" = "docs/**" }
licences = ["LICENSE"]
folders = ["tools/x86_64", "tools/aarch64"]
checksums = ["sha256"]
legacy = { md5 = ".md5.txt" }
"#;

/// A project in a repository with one commit.
fn project() -> TestEnv {
    let env = TestEnv::new(SPOLIA, Engine::Host);
    env.manifest(MANIFEST);
    env.write("version.txt", "1.2.3\n");
    env.write("LICENSE", "do as you like\n");
    env.write("docs/a.md", "a\n");
    env.write("docs/img/b.png", "b\n");
    commit(&env);
    env
}

/// Commits all that is there, at a fixed time.
fn commit(env: &TestEnv) {
    let root = env.root();
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "--allow-empty", "-m", "all"]] {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(args).current_dir(&root);
        git.env("GIT_AUTHOR_DATE", COMMIT_TIME).env("GIT_COMMITTER_DATE", COMMIT_TIME);
        git.env("HOME", env.folder().join("home")).env("GIT_CONFIG_NOSYSTEM", "1");
        assert!(git.status().expect("git is installed").success(), "git {args:?}");
    }
}

/// `spolia dist` with the test's engine.
fn dist(env: &TestEnv, args: &[&str]) -> Output {
    let fixed = ["dist", "--engine", env.engine.name()];
    env.command(fixed.iter().chain(args)).output().expect("spolia starts")
}

/// The same; it must succeed.
fn packed(env: &TestEnv, args: &[&str]) -> String {
    let output = dist(env, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The same; it must end with this code. What it said.
fn refused(env: &TestEnv, code: i32, args: &[&str]) -> String {
    let output = dist(env, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Runs a program in a folder and gives what it prints.
fn run_in(folder: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(folder).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
