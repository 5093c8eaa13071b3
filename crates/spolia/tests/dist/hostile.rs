//! What a release must not do, whatever is in the tree, on the disk or from the keyboard.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Stdio;

use spolia_testing::process::{mount_small, rerun_with_own_mounts, role};
use spolia_testing::{TestEnv, wait_until};

use super::{commit, dist, packed, project, refused, run_in};

fn tree_project(files: &str) -> TestEnv {
    let env = project();
    env.manifest(&format!(
        "[project]\nplatforms = ['linux/amd64']\n[dist.t]\narchive = 't.tgz'\nchecksums = ['sha256']\nfiles = {{ {files} }}\n"
    ));
    env
}

/// What a failed one may not leave.
fn left(env: &TestEnv) -> Vec<PathBuf> {
    TestEnv::files_below(&env.path("dist"))
}

#[test]
fn links_that_lead_out_are_refused() {
    for (target, name) in [("/etc/passwd", "docs/l"), ("../../x", "docs/l"), ("../../../etc", "docs/img/l")] {
        let env = tree_project("'docs' = 'docs/**'");
        std::os::unix::fs::symlink(target, env.path(name)).unwrap();
        commit(&env);
        let said = refused(&env, 2, &[]);
        assert!(said.contains(&format!("is a link to `{target}`, which leads out of `t.tgz`")), "{said}");
        assert_eq!(left(&env), Vec::<PathBuf>::new());
    }
}

#[test]
fn things_that_are_no_files_are_not_packed() {
    for from in ["docs/pipe", "docs/**"] {
        let env = tree_project(&format!("'docs' = '{from}'"));
        run_in(&env.root(), "mkfifo", &["docs/pipe"]);
        commit(&env);
        let said = refused(&env, 2, &[]);
        let expect =
            format!("`{from}` of `[dist.t]` selects `docs/pipe`, which is a device, a pipe or a socket");
        assert!(said.contains(&expect), "{said}");
        assert_eq!(left(&env), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_version_cannot_lead_out() {
    let env = project();
    env.edit_manifest("\"docs/\" = ", "\"${version}/${version}/d/\" = ");
    env.write("version.txt", "..\n");
    commit(&env);
    let said = refused(&env, 2, &[]);
    assert!(said.contains("it is no path inside the archive"), "{said}");
    env.write("version.txt", "1/2\n");
    commit(&env);
    assert!(refused(&env, 3, &[]).contains("its first line is no version"));
}

#[test]
fn names_that_are_no_text() {
    let env = tree_project("'d' = 'odd/**'");
    env.write(OsStr::from_bytes(b"odd/caf\xe9"), "x");
    commit(&env);
    packed(&env, &[]);
    let said = run_in(
        &env.path("dist"),
        "python3",
        &[
            "-c",
            "import tarfile; print([m.name.encode('utf-8', 'surrogateescape') for m in tarfile.open('t.tgz', errors='surrogateescape')])",
        ],
    );
    assert!(said.contains(r"b'd/caf\xe9'"), "{said}");
    assert_eq!(dist(&env, &["--check", "dist"]).status.code(), Some(0));
    env.edit_manifest("t.tgz", "t.zip");
    commit(&env);
    let said = refused(&env, 2, &[]);
    assert!(said.contains("`t.zip` cannot hold") && said.contains("its name is not UTF-8"), "{said}");
}

#[test]
fn two_files_in_one_place() {
    let env = tree_project("'a' = 'LICENSE', './a' = 'version.txt'");
    commit(&env);
    assert!(refused(&env, 2, &[]).contains("`a` is put into `t.tgz` twice"));
    let env = tree_project("'a' = 'LICENSE', 'a/b' = 'version.txt'");
    commit(&env);
    assert!(refused(&env, 2, &[]).contains("`a/b` lies below `a`, which is no folder"));
}

/// A file that packing takes a while for.
fn noise(env: &TestEnv, megabytes: usize) {
    let mut state = 1u64;
    let mut bytes = Vec::with_capacity(megabytes << 20);
    while bytes.len() < megabytes << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&(state >> 20).to_le_bytes());
    }
    env.write("docs/noise", bytes);
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let env = tree_project("'docs' = 'docs/**'");
    if role().is_none() {
        let name = "hostile::a_full_disk_leaves_what_was_there";
        if let Some(mut command) = rerun_with_own_mounts(name, "inside") {
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        return;
    }
    commit(&env);
    std::fs::create_dir(env.path("dist")).unwrap();
    mount_small(&env.path("dist"), 1 << 20);
    packed(&env, &[]);
    let before = env.read("dist/t.tgz");
    let names = left(&env);
    noise(&env, 4);
    let said = refused(&env, 3, &["--allow-dirty"]);
    assert!(said.contains("cannot write") && said.contains("No space left"), "{said}");
    assert_eq!(env.read("dist/t.tgz"), before);
    assert_eq!(left(&env), names, "nothing new, and no stage");
}

#[test]
fn stopped_from_the_keyboard() {
    let env = tree_project("'docs' = 'docs/**'");
    noise(&env, 96);
    commit(&env);
    let mut command = env.command(["dist", "--engine", "host", "-j", "1"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stage = env.path(format!("dist/.spolia-dist-{}", child.id()));
    wait_until("the archive is being written", || {
        std::fs::metadata(stage.join("t.tgz")).is_ok_and(|found| found.len() > 1 << 20)
    });
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(left(&env), Vec::<PathBuf>::new());
    assert!(!stage.exists());
    // Killed outright it leaves a stage, which the next one sweeps.
    let mut command = env.command(["dist", "--engine", "host", "-j", "1"]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let stage = env.path(format!("dist/.spolia-dist-{}", child.id()));
    wait_until("the archive is being written", || stage.join("t.tgz").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stage.exists() && !env.has("dist/t.tgz"));
    std::fs::remove_file(env.path("docs/noise")).unwrap();
    commit(&env);
    packed(&env, &[]);
    assert!(!stage.exists() && env.has("dist/t.tgz"));
}
