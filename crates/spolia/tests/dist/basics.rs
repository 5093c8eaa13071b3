//! One release from start to end.

use serde_json::Value;

use spolia_testing::Engine;

use super::{packed, project, refused, run_in};

#[test]
fn packs_what_the_manifest_says_and_nothing_twice() {
    let env = project();
    let said = packed(&env, &[]);
    assert!(said.contains("Packed") && said.contains("kit-linux-arm64.tgz"), "{said}");
    let out = env.path("dist");
    let listed = run_in(&out, "tar", &["tzvf", "kit.tgz", "--numeric-owner", "--full-time", "--utc"]);
    let lines: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(&words[3..5], ["2024-01-15", "10:34:56"], "{line}");
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "drwxr-xr-x 0/0 kit/",
            "-rw-r--r-- 0/0 kit/LICENSE",
            "drwxr-xr-x 0/0 kit/bin/",
            "-rwxr-xr-x 0/0 kit/bin/app",
            "drwxr-xr-x 0/0 kit/docs/",
            "-rw-r--r-- 0/0 kit/docs/a.md",
            "drwxr-xr-x 0/0 kit/docs/img/",
            "-rw-r--r-- 0/0 kit/docs/img/b.png",
            "drwxr-xr-x 0/0 kit/lib/",
            "-rw-r--r-- 0/0 kit/lib/x",
            "lrwxrwxrwx 0/0 kit/lib/y -> x",
            "drwxr-xr-x 0/0 kit/tools/",
            "drwxr-xr-x 0/0 kit/tools/aarch64/",
            "drwxr-xr-x 0/0 kit/tools/x86_64/",
        ]
    );
    run_in(&out, "sha256sum", &["-c", "--strict", "SHA256SUMS"]);
    run_in(&out, "sha256sum", &["-c", "--strict", "kit.tgz.sha256"]);
    assert_eq!(run_in(&out, "md5sum", &["kit.tgz"]), env.read_text("dist/kit.tgz.md5.txt"));
    let manifest: Value = serde_json::from_slice(&env.read("dist/manifest.json")).unwrap();
    assert_eq!(manifest["version"], "1.2.3");
    // The commit's own day and time of day.
    assert_eq!((&manifest["date"], &manifest["time"]), (&"2024-01-15".into(), &"12:34:56".into()));
    assert_eq!(manifest["dirty"], false);
    assert_eq!(manifest["platforms"].as_array().unwrap().len(), 2);
    let before = std::fs::metadata(out.join("kit.tgz")).unwrap().modified().unwrap();
    assert!(packed(&env, &[]).contains("Fresh"));
    assert_eq!(std::fs::metadata(out.join("kit.tgz")).unwrap().modified().unwrap(), before);
    let archive = env.read("dist/kit.tgz");
    env.remove("dist");
    assert!(packed(&env, &[]).contains("Restored"));
    assert_eq!(env.read("dist/kit.tgz"), archive);
    assert!(packed(&env, &["--no-cache"]).contains("Packed"));
    assert_eq!(env.read("dist/kit.tgz"), archive);
}

#[test]
fn the_old_form_of_the_manifest_is_four_fields() {
    let env = project();
    env.edit_manifest("md5 = \".md5.txt\"", "manifest = true");
    super::commit(&env);
    packed(&env, &["--platform", "linux/amd64"]);
    let commit = run_in(&env.root(), "git", &["rev-parse", "--short=8", "HEAD"]);
    let expect = format!(
        "{{\n  \"version\": \"1.2.3\",\n  \"date\": \"2024-01-15\",\n  \"time\": \"12:34:56\",\n  \"commit\": \"{}\"\n}}\n",
        commit.trim()
    );
    assert_eq!(env.read_text("dist/manifest.json"), expect);
    let full: Value = serde_json::from_slice(&env.read("dist/manifest.v1.json")).unwrap();
    assert_eq!(full["format"], "spolia dist manifest");
    assert!(!env.has("dist/kit-linux-arm64.tgz"));
}

#[test]
fn a_dirty_tree_is_refused_or_marked() {
    let env = project();
    env.write("LICENSE", "other\n");
    env.write("new.txt", "new\n");
    let said = refused(&env, 2, &[]);
    assert!(said.contains("`LICENSE`, `new.txt`") && said.contains("--allow-dirty"), "{said}");
    assert!(!env.has("dist"));
    packed(&env, &["--allow-dirty"]);
    let manifest: Value = serde_json::from_slice(&env.read("dist/manifest.json")).unwrap();
    assert_eq!(manifest["dirty"], true);
    assert_eq!(manifest["dirty_paths"], serde_json::json!(["LICENSE", "new.txt"]));
}

#[test]
fn every_mistake_in_the_tables_is_shown_at_once() {
    let env = project();
    env.manifest(
        "[steps.app]\nrun = 'true'\noutputs = ['a']\n[dist.a]\narchive = 'x${platform.sufix}.tgz'\nlevel = 12\nfiles = { \
         '../x' = 'step:ap/a', y = 3, z = { from = '/etc/passwd', mode = '9' } }\nchecksum = ['md5']\n\
         [dist.b]\narchive = 'b.rar'\nfolders = ['x']\n",
    );
    let said = refused(&env, 2, &[]);
    for expect in [
        "`${platform.sufix}` has no value",
        "did you mean `platform.suffix`?",
        "`level` of `.tar.gz` is at most 9",
        "the name is no path in the archive",
        "`[dist.a]` packs step `ap`, which is not defined",
        "a step named `app` exists",
        "`y` must be a string or a table with `from`, not an integer",
        "`mode` must be four octal digits",
        "`/etc/passwd` selects no file of the tree",
        "`checksum` is not a key of `[dist.a]`",
        "did you mean `checksums`?",
        "the ending of `b.rar` is no kind of archive",
        "--> spolia.toml:5:",
    ] {
        assert!(said.contains(expect), "{expect}\n{said}");
    }
}

#[test]
fn what_the_manifest_says_of_steps_does_not_depend_on_what_the_store_still_holds() {
    let mut env = project();
    env.engine = Engine::Sandbox;
    packed(&env, &[]);
    let manifest = env.read("dist/manifest.json");
    let said: Value = serde_json::from_slice(&manifest).unwrap();
    assert!(said["steps"][0]["action"].is_string(), "{said:#}");
    env.remove("dist");
    std::fs::remove_dir_all(env.store().join("v1")).unwrap();
    packed(&env, &[]);
    assert_eq!(String::from_utf8_lossy(&env.read("dist/manifest.json")), String::from_utf8_lossy(&manifest));
}
