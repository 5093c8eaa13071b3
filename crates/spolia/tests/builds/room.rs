//! Disks that are full, and folders that may not be written.

use std::path::Path;
use std::process::Command;

use spolia_testing::process::{is_root, mount_small, rerun_with_own_mounts, role, skip};
use spolia_testing::{Engine, TestEnv};

both!(
    no_room_in_the_store,
    no_room_in_the_project,
    a_store_that_cannot_be_written,
    a_cache_mount_of_a_store_that_cannot_be_written,
    a_project_that_cannot_be_written,
    no_home,
);

/// Runs this test again where it may mount what only it sees; whether this process is that one.
fn with_own_mounts(name: &str, env: &TestEnv) -> bool {
    if role().is_some() {
        return true;
    }
    let name = format!("room::{name}::{}", env.engine.name());
    if let Some(mut command) = rerun_with_own_mounts(&name, "inside") {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    false
}

/// `mount -o remount,ro` of what was mounted there.
#[expect(clippy::disallowed_methods, reason = "a test in a namespace of its own")]
fn remount(folder: &Path, option: &str) {
    let mut mount = Command::new("mount");
    let status = mount.args(["-o", &format!("remount,{option}")]).arg(folder).status().unwrap();
    assert!(status.success(), "cannot remount {}", folder.display());
}

fn step(env: &TestEnv, kilobytes: u32) {
    env.manifest(&format!(
        r#"
        [steps.big]
        platforms = "any"
        run = "head -c {kilobytes}k /dev/urandom > ${{out}}/big; echo said"
        outputs = ["big"]
        [steps.use]
        platforms = "any"
        needs = ["big"]
        run = "wc -c < ${{step.big}}/big > ${{out}}/size"
        outputs = ["size"]
        "#
    ));
}

fn no_room_in_the_store(env: &mut TestEnv) {
    if !with_own_mounts("no_room_in_the_store", env) {
        return;
    }
    std::fs::create_dir(env.store()).unwrap();
    mount_small(&env.store(), 512 << 10);
    step(env, 2048);
    let built = env.build(&[]);
    built.assert_ran(&["big", "use"]);
    assert!(
        built.warnings().contains("big: the result could not be stored: the disk of the store is full"),
        "{built}"
    );
    assert_eq!(built.not_stored("big").as_deref(), Some("the disk of the store is full"));
    assert_eq!(built.not_stored("use"), None, "what fits is stored");
    assert_eq!(env.read_text(".spolia/out/use/any/size"), format!("{}\n", 2048 << 10));
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
    // Not one byte left.
    std::fs::write(env.store().join("fill"), vec![1; 1 << 20]).unwrap_err();
    env.edit_manifest("2048k", "2049k");
    let built = env.build(&[]);
    built.assert_ran(&["big", "use"]);
    assert!(built.not_stored("big").is_some(), "{built}");
    let built = env.build(&[]);
    built.assert_miss("big", "the result of its last run here was not stored");
    // With room again all is as it should be.
    std::fs::remove_file(env.store().join("fill")).unwrap();
    env.edit_manifest("2049k", "16k");
    env.build(&[]).assert_ran(&["big", "use"]);
    env.build(&[]).assert_up_to_date();
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
}

fn no_room_in_the_project(env: &mut TestEnv) {
    if !with_own_mounts("no_room_in_the_project", env) {
        return;
    }
    mount_small(&env.root(), 2 << 20);
    env.write("filler", vec![1; 900 << 10]);
    // It fits once, and it need not fit twice to be published.
    step(env, 700);
    env.build(&[]).assert_ran(&["big", "use"]);
    // Restoring fails where it does not fit any more.
    env.remove(".spolia/out/big");
    env.write("more filler", vec![1; 600 << 10]);
    let built = env.build_fails(1, &[]);
    let error = built.error("big");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains(".spolia/out/big/"), "where: {error}");
    assert!(!env.has(".spolia/out/big/any/big"), "nothing half-written");
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
    // Not even once.
    env.edit_manifest("700k", "3000k");
    let built = env.build_fails(1, &[]);
    assert!(built.output("big").contains("No space left on device"), "{built}");
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
    // What did run is not run again once there is room.
    env.remove("filler");
    env.remove("more filler");
    env.edit_manifest("3000k", "700k");
    let built = env.build(&[]);
    assert!(built.restored().contains("big"), "{built}");
    assert_eq!(env.read_text(".spolia/out/use/any/size"), format!("{}\n", 700 << 10));
    env.build(&[]).assert_up_to_date();
}

/// Calls `test` with `folder` closed to writers: by its modes, or for root as a file system.
fn closed(env: &TestEnv, folder: &Path, test: impl FnOnce()) {
    if role().is_some() {
        remount(folder, "ro");
        test();
        remount(folder, "rw");
        return;
    }
    let modes = |add: u32, remove: u32| {
        use std::os::unix::fs::PermissionsExt;
        let mut all = TestEnv::files_below(folder);
        all.extend(folders_below(folder));
        for path in all.iter().filter(|path| !path.is_symlink()) {
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let mode = (mode | add) & !remove;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    assert!(!is_root() && folder.starts_with(env.folder()));
    modes(0, 0o222);
    test();
    modes(0o200, 0);
}

fn folders_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut at = 0;
    while at < folders.len() {
        for entry in std::fs::read_dir(&folders[at]).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
        at += 1;
    }
    folders
}

/// An ordinary user closes a folder by its modes; root, whom modes do not stop, needs a mount.
fn can_close(name: &str, env: &TestEnv) -> bool {
    !is_root() || with_own_mounts(name, env)
}

fn a_store_that_cannot_be_written(env: &mut TestEnv) {
    if !can_close("a_store_that_cannot_be_written", env) {
        return;
    }
    std::fs::create_dir(env.store()).unwrap();
    if role().is_some() {
        mount_small(&env.store(), 8 << 20);
    }
    step(env, 16);
    env.build(&[]).assert_ran(&["big", "use"]);
    let big = env.read(".spolia/out/big/any/big");
    closed(env, &env.store(), || {
        env.build(&[]).assert_up_to_date();
        // It still answers,
        env.remove(".spolia");
        let built = env.build(&[]);
        assert_eq!((built.ran().len(), built.restored().len()), (0, 2), "{built}");
        assert_eq!(env.read(".spolia/out/big/any/big"), big);
        // and what is not in it runs.
        env.edit_manifest("16k", "17k");
        let built = env.build(&[]);
        built.assert_ran(&["big", "use"]);
        assert!(built.not_stored("big").is_some(), "{built}");
        assert!(built.warnings().contains("store"), "said once at least\n{built}");
        assert_eq!(env.read_text(".spolia/out/use/any/size"), format!("{}\n", 17 << 10));
    });
    env.build(&[]);
    env.build(&[]).assert_up_to_date();
}

/// A cache mount saves time at most: without it a step runs with an empty one.
fn a_cache_mount_of_a_store_that_cannot_be_written(env: &mut TestEnv) {
    if !can_close("a_cache_mount_of_a_store_that_cannot_be_written", env) {
        return;
    }
    std::fs::create_dir(env.store()).unwrap();
    if role().is_some() {
        mount_small(&env.store(), 8 << 20);
    }
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "cat in.txt >> ${cache}/m/n; test $(wc -l < ${cache}/m/n) = 2; cp ${cache}/m/n ${out}/a"
        retries = 1
        inputs = ["in.txt"]
        outputs = ["a"]
        mounts = [{ id = "m", path = "/cache/m", sharing = "locked" }]
        "#,
    );
    env.write("in.txt", "1\n");
    env.build(&[]).assert_ran(&["a"]);
    env.write("in.txt", "2\n");
    closed(env, &env.store(), || {
        // The second try finds what the first has left.
        let built = env.build(&[]);
        built.assert_ran(&["a"]);
        assert_eq!(env.read_text(".spolia/out/a/any/a"), "2\n2\n");
        assert!(built.warnings().contains("the cache mount `m` is empty and not kept"), "{built}");
    });
    assert_eq!(env.left_overs(), Vec::<std::path::PathBuf>::new());
}

fn a_project_that_cannot_be_written(env: &mut TestEnv) {
    if !can_close("a_project_that_cannot_be_written", env) {
        return;
    }
    if role().is_some() {
        mount_small(&env.root(), 8 << 20);
    }
    step(env, 16);
    env.build(&[]).assert_ran(&["big", "use"]);
    closed(env, &env.root(), || {
        env.build(&[]).assert_up_to_date();
        let built = env.build_fails(1, &["--no-cache"]);
        let error = built.error("big");
        assert!(error.contains(".spolia"), "which folder: {error}");
        assert!(error.contains("Permission denied") || error.contains("Read-only file system"), "{error}");
    });
    env.build(&["--no-cache"]).assert_ran(&["big", "use"]);
}

fn no_home(env: &mut TestEnv) {
    if env.engine == Engine::Host && role().is_some() {
        skip("no_home", "nothing to mount");
    }
    step(env, 1);
    let mut command = env.build_command([] as [&str; 0]);
    command.env_remove("HOME").env_remove("SPOLIA_CACHE_DIR");
    let built = spolia_testing::Built::of(command.output().unwrap());
    assert_eq!(built.code, Some(3), "{built}");
    assert_eq!(built.others[0]["message"], "there is no place for the store: HOME is not set", "{built}");
}
