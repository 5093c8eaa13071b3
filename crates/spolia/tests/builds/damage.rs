//! Every file of the store and of the outputs, damaged in every way: the next build is right and says what
//! it healed, and a verification finds it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use spolia_store::verify::verify;
use spolia_store::{LocalOptions, LocalStore};
use spolia_testing::process::is_root;
use spolia_testing::{Built, TestEnv};

both!(
    every_file_of_the_store,
    every_output,
    outputs_that_became_something_else,
    the_whole_store_at_once,
    the_memory_of_the_tree,
);

fn project(env: &TestEnv) {
    env.write("in.txt", "some input\n");
    env.manifest(
        r#"
        [steps.big]
        platforms = "any"
        run = "echo told; seq 1 20000 > ${out}/numbers; mkdir -p ${out}/tree/empty; cp in.txt ${out}/tree/in; ln -s in ${out}/tree/link; printf '#!/bin/sh\n' > ${out}/tree/run; chmod +x ${out}/tree/run"
        inputs = ["in.txt"]
        outputs = ["numbers", "tree"]
        [steps.use]
        platforms = "any"
        needs = ["big"]
        run = "cat ${step.big}/tree/in > ${out}/use"
        outputs = ["use"]
        to = "dist"
        "#,
    );
}

const OUTPUTS: &[&str] = &[
    ".spolia/out/big/any/numbers",
    ".spolia/out/big/any/tree/in",
    ".spolia/out/big/any/tree/run",
    "dist/use",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    Delete,
    Empty,
    Truncate,
    FlipFirst,
    FlipLast,
    Append,
    Mode(u32),
}

const HARMS: &[Harm] = &[
    Harm::Delete,
    Harm::Empty,
    Harm::Truncate,
    Harm::FlipFirst,
    Harm::FlipLast,
    Harm::Append,
    Harm::Mode(0o000),
    Harm::Mode(0o755),
    Harm::Mode(0o644),
];

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether anything is different afterwards.
fn harm(path: &Path, harm: Harm) -> bool {
    if harm == Harm::Delete {
        fs::remove_file(path).unwrap();
        return true;
    }
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    if let Harm::Mode(new) = harm {
        set_mode(path, new);
        return mode != new;
    }
    set_mode(path, 0o600);
    let mut content = fs::read(path).unwrap();
    let length = content.len();
    match harm {
        Harm::Empty => content.clear(),
        Harm::Truncate => content.truncate(length / 2),
        Harm::FlipFirst if length > 0 => content[0] ^= 1,
        Harm::FlipLast if length > 0 => content[length - 1] ^= 0x80,
        Harm::Append => content.push(b'x'),
        _ => {}
    }
    let changed = content != fs::read(path).unwrap();
    fs::write(path, content).unwrap();
    set_mode(path, mode);
    changed
}

type Snapshot = BTreeMap<&'static str, (Vec<u8>, bool)>;

fn snapshot(env: &TestEnv) -> Snapshot {
    let look = |path: &&'static str| {
        let mode = fs::metadata(env.path(path)).unwrap().permissions().mode();
        (*path, (env.read(path), mode & 0o111 != 0))
    };
    let all = OUTPUTS.iter().map(look).collect();
    assert_eq!(fs::read_link(env.path(".spolia/out/big/any/tree/link")).unwrap(), Path::new("in"));
    assert!(env.path(".spolia/out/big/any/tree/empty").is_dir());
    all
}

fn told(built: &Built) -> bool {
    !built.healed().is_empty() || !built.ran().is_empty()
}

fn store_files(env: &TestEnv, folder: &str) -> Vec<PathBuf> {
    TestEnv::files_below(&env.store().join("v1").join(folder))
}

fn every_file_of_the_store(env: &mut TestEnv) {
    project(env);
    env.build(&[]).assert_ran(&["big", "use"]);
    let right = snapshot(env);
    let skip = ["locks", "tmp", "mounts"].map(|name| env.store().join("v1").join(name));
    let files: Vec<PathBuf> = TestEnv::files_below(&env.store())
        .into_iter()
        .filter(|path| !skip.iter().any(|folder| path.starts_with(folder)))
        .collect();
    let entries = ["blob", "result", "action"].map(|space| env.store().join("v1").join(space));
    assert!(files.len() >= 12, "{files:?}");
    for file in &files {
        for harm_kind in HARMS {
            if !file.exists() {
                // Runs and notes of use are named anew each time.
                continue;
            }
            let entry = entries.iter().any(|space| file.starts_with(space));
            let changed = harm(file, *harm_kind);
            let what = format!("{harm_kind:?} of {}", file.display());
            if changed && entry && (*harm_kind != Harm::Delete || !file.starts_with(&entries[0])) {
                check_verify(env, file, *harm_kind, &what);
            }
            // All of it has to come from the store.
            env.remove(".spolia");
            env.remove("dist");
            let built = env.try_build(&[]);
            assert_eq!(built.code, Some(0), "{what}\n{built}");
            assert_eq!(snapshot(env), right, "{what}");
            let read = file.starts_with(&entries[0]) || file.starts_with(&entries[1]);
            let content = !matches!(harm_kind, Harm::Mode(_));
            // Deleted results leave no trace to be healed by; the step says that it never ran.
            if changed && read && content && !is_log(&right, file, &entries[0]) {
                assert!(told(&built), "{what}: nothing was said\n{built}");
            }
        }
    }
    // Whatever was left damaged because no build reads it, a verification heals.
    let store = LocalStore::open(&env.store(), LocalOptions::default()).unwrap();
    drop(verify(&store, true, 0).unwrap());
    let report = verify(&store, false, 0).unwrap();
    assert_eq!(report.damaged, [], "after healing");
    env.remove(".spolia");
    env.remove("dist");
    assert_eq!(env.build(&[]).failed().len(), 0);
    assert_eq!(snapshot(env), right);
}

/// Logs are read only when they are shown.
fn is_log(right: &Snapshot, file: &Path, blobs: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    let outputs = right.values().map(|(content, _)| spolia_core::Digest::blake3(content).to_hex());
    file.starts_with(blobs) && !outputs.into_iter().any(|hex| name.starts_with(&hex))
}

fn check_verify(env: &TestEnv, file: &Path, harm: Harm, what: &str) {
    let store = LocalStore::open(&env.store(), LocalOptions::default()).unwrap();
    // Root reads what it likes, and the mode of a file that can be read is no matter of its content.
    if harm == Harm::Mode(0o000) && is_root() {
        return;
    }
    // A result that is gone is found by what is left of its action.
    if harm == Harm::Delete && file.starts_with(env.store().join("v1/action")) {
        return;
    }
    let report = verify(&store, false, 0).unwrap();
    assert!(!report.damaged.is_empty(), "{what}: not found");
}

fn every_output(env: &mut TestEnv) {
    project(env);
    env.build(&[]).assert_ran(&["big", "use"]);
    let right = snapshot(env);
    for path in OUTPUTS {
        for harm_kind in HARMS {
            let executable = right[path].1;
            let file = env.path(path);
            let harmless = match harm_kind {
                Harm::Mode(0o755) => executable,
                Harm::Mode(0o644) => !executable,
                _ => false,
            };
            let changed = harm(&file, *harm_kind);
            let built = env.build(&[]);
            let what = format!("{harm_kind:?} of {path}\n{built}");
            built.assert_ran(&[]);
            assert_eq!(snapshot(env), right, "{what}");
            // Root can read what nobody may.
            let seen = changed && !harmless && !(*harm_kind == Harm::Mode(0) && is_root() && !executable);
            if seen {
                let name = path.rsplit('/').next().unwrap();
                assert!(built.healed().iter().any(|healed| healed.contains(name)), "{what}");
                assert_eq!(built.healed().len(), 1, "{what}");
            } else if harmless {
                built.assert_up_to_date();
            }
            env.build(&[]).assert_up_to_date();
        }
    }
}

fn outputs_that_became_something_else(env: &mut TestEnv) {
    project(env);
    env.build(&[]).assert_ran(&["big", "use"]);
    let right = snapshot(env);
    let out = ".spolia/out/big/any";
    let outside = env.folder().join("home/precious");
    fs::write(&outside, "precious").unwrap();
    let check = |what: &str| {
        let built = env.build(&[]);
        built.assert_ran(&[]);
        assert!(!built.healed().is_empty(), "{what}\n{built}");
        assert_eq!(snapshot(env), right, "{what}");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious", "{what}");
        env.build(&[]).assert_up_to_date();
    };
    // A link out of the tree to a file that must not be written through.
    env.remove(format!("{out}/tree/in"));
    std::os::unix::fs::symlink(&outside, env.path(format!("{out}/tree/in"))).unwrap();
    check("a link in place of a file");
    env.remove("dist/use");
    std::os::unix::fs::symlink(&outside, env.path("dist/use")).unwrap();
    check("a link in place of a published file");
    env.remove(format!("{out}/tree/link"));
    std::os::unix::fs::symlink("run", env.path(format!("{out}/tree/link"))).unwrap();
    check("another link");
    env.remove(format!("{out}/tree"));
    std::os::unix::fs::symlink(env.folder().join("home"), env.path(format!("{out}/tree"))).unwrap();
    check("a link in place of a folder");
    assert_eq!(fs::read_dir(env.folder().join("home")).unwrap().count(), 1, "nothing was written there");
    env.remove(format!("{out}/tree"));
    env.write(format!("{out}/tree"), "a file in place of a folder");
    check("a file in place of a folder");
    env.remove(format!("{out}/numbers"));
    env.write(format!("{out}/numbers/x"), "a folder in place of a file");
    check("a folder in place of a file");
    env.remove(format!("{out}/tree/empty"));
    check("an empty folder gone");
    // What does not belong into a folder of ours goes; what others put into theirs stays.
    env.write(format!("{out}/tree/stranger"), "x");
    env.write("dist/stranger", "x");
    env.remove(format!("{out}/numbers"));
    check("a stranger");
    assert!(!env.has(format!("{out}/tree/stranger")) && env.has("dist/stranger"));
}

fn the_whole_store_at_once(env: &mut TestEnv) {
    project(env);
    env.build(&[]).assert_ran(&["big", "use"]);
    let right = snapshot(env);
    for harm_kind in HARMS {
        for file in ["blob", "result", "action", "digests", "uses"].iter().flat_map(|s| store_files(env, s)) {
            harm(&file, *harm_kind);
        }
        env.remove(".spolia");
        env.remove("dist");
        let built = env.try_build(&[]);
        assert_eq!(built.code, Some(0), "{harm_kind:?}\n{built}");
        assert_eq!(snapshot(env), right, "{harm_kind:?}");
        env.build(&[]).assert_up_to_date();
        env.remove(".spolia");
        env.remove("dist");
        // One run has healed everything that its result names.
        env.build(&[]).assert_ran(&[]);
        assert_eq!(snapshot(env), right, "{harm_kind:?}");
    }
    fs::remove_dir_all(env.store()).unwrap();
    fs::write(env.store(), "a file where the store was").unwrap();
    let built = env.build_fails(3, &[]);
    assert!(built.others[0]["message"].as_str().unwrap().contains("store"), "{built}");
}

fn the_memory_of_the_tree(env: &mut TestEnv) {
    project(env);
    env.build(&[]).assert_ran(&["big", "use"]);
    let right = snapshot(env);
    for harm_kind in HARMS {
        harm(&env.path(".spolia/state"), *harm_kind);
        env.build(&[]).assert_ran(&[]);
        assert_eq!(snapshot(env), right, "{harm_kind:?}");
        env.build(&[]).assert_up_to_date();
        // A damaged memory and a damaged output at once.
        harm(&env.path(".spolia/state"), *harm_kind);
        harm(&env.path("dist/use"), Harm::Truncate);
        env.build(&[]).assert_ran(&[]);
        assert_eq!(snapshot(env), right, "{harm_kind:?}");
    }
}
