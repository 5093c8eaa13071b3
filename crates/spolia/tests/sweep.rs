//! `spolia sweep` through the binary, with a Cargo made of a few lines of shell: the wiring, hostile trees, and what
//! is said. That nothing live goes is proven with the true Cargo in `crates/spolia-sweep/tests/proof.rs`.

#![expect(clippy::disallowed_methods, reason = "tests start the binary")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use spolia_testing::process::is_root;
use spolia_testing::{Engine, TestEnv};

/// Says which unit is live: `app`, hash 1…; refuses everything once `broken` is there.
const CARGO: &str = r#"#!/bin/sh
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -e "$here/broken" ]; then echo "error: the lock file needs to be updated but --locked was passed" >&2; exit 101; fi
case "$1" in
-V) echo "cargo 1.0.0 (fake)"; exit 0 ;;
metadata)
    root=$(pwd)
    printf '{"packages":[{"name":"app","version":"0.1.0","id":"app","manifest_path":"%s/Cargo.toml","dependencies":[],"features":{}}],' "$root"
    printf '"workspace_members":["app"],"workspace_default_members":["app"],"target_directory":"%s/target","workspace_root":"%s"}' "$root" "$root"
    exit 0 ;;
esac
echo "$*" >> "$here/asked"
unit="$CARGO_TARGET_DIR/debug/.fingerprint/app-1111111111111111"
mkdir -p "$unit" "$CARGO_TARGET_DIR/debug/deps"
echo '{"rustc":5,"features":"[]","rustflags":[],"deps":[]}' > "$unit/bin-app.json"
: > "$CARGO_TARGET_DIR/debug/deps/app-1111111111111111"
: > "$CARGO_TARGET_DIR/debug/app"
"#;

struct Stand {
    env: TestEnv,
}

impl Stand {
    fn new() -> Self {
        let mut env = TestEnv::new(env!("CARGO_BIN_EXE_spolia"), Engine::Host);
        env.write_program("bin/cargo", CARGO);
        env.write_program("bin/rustc", "#!/bin/sh\necho 'rustc 1.0.0 (fake)'\n");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", env.path("bin").display());
        env.set_var("PATH", path);
        let stand = Self { env };
        stand.project("p");
        stand
    }

    /// One that finds no tool of the machine: a test of other tools' caches must never empty the true ones.
    fn alone() -> Self {
        let mut stand = Self::new();
        for name in ["sh", "rm", "touch"] {
            let there = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
            let program = there.iter().find(|path| path.exists()).expect("every machine has it");
            symlink(program, stand.env.path("bin").join(name)).unwrap();
        }
        let path = stand.env.path("bin").display().to_string();
        stand.env.set_var("PATH", path);
        stand
    }

    /// A project with a live and a stale unit.
    fn project(&self, name: &str) {
        let write = |path: &str, text: &str| self.env.write(format!("{name}/{path}"), text);
        write("Cargo.toml", "[package]\n");
        write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n");
        write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# created by cargo.\n");
        write("target/debug/.cargo-lock", "");
        for (package, hash) in [("app", "1111111111111111"), ("old", "2222222222222222")] {
            let print = format!("target/debug/.fingerprint/{package}-{hash}");
            write(
                &format!("{print}/bin-{package}.json"),
                "{\"rustc\":5,\"features\":\"[]\",\"rustflags\":[],\"deps\":[]}",
            );
            write(&format!("{print}/invoked.timestamp"), "x");
            write(&format!("target/debug/deps/{package}-{hash}"), &"x".repeat(10_000));
        }
        write("target/debug/app", "a program");
        write("target/debug/mine.txt", "the user's own");
    }

    fn run(&self, words: &[&str]) -> Output {
        self.env.command(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap() + &said
    }

    fn json(&self, words: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], words].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn has(&self, path: &str) -> bool {
        self.env.has(path)
    }

    fn has_stale(&self) -> bool {
        self.has("p/target/debug/deps/old-2222222222222222")
    }

    fn assert_live(&self) {
        for path in
            ["deps/app-1111111111111111", ".fingerprint/app-1111111111111111/bin-app.json", "app", "mine.txt"]
        {
            assert!(self.has(&format!("p/target/debug/{path}")), "{path}");
        }
    }
}

#[test]
fn a_plan_comes_first_and_what_is_stale_goes() {
    let stand = Stand::new();
    let said = stand.ok(&["sweep", "--dry-run", "p"]);
    assert!(said.contains("old-2222222222222222") && said.contains("nothing needs this package"), "{said}");
    assert!(stand.has_stale());
    // What was not looked at is no number.
    assert!(said.contains("at least ") && !said.contains("beside"), "{said}");
    let whole = stand.ok(&["sweep", "--dry-run", "--sizes", "p"]);
    assert!(!whole.contains("at least ") && whole.contains("live 1 unit ("), "{whole}");
    let sums = |words: &[&str]| {
        let plan = stand.json(words)[0]["plan"].clone();
        (plan["bytes"].as_u64(), plan["is_partial"].as_bool(), plan["live_bytes"].as_u64())
    };
    let (some, all) = (sums(&["sweep", "-d", "p"]), sums(&["sweep", "-d", "--sizes", "p"]));
    assert_eq!((some.0, some.1, some.2), (all.0, Some(false), None));
    assert!(all.2 > Some(10_000), "{all:?}");
    let lines = stand.json(&["sweep", "p"]);
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds, ["sweep-plan", "sweep-applied", "sweep-total"]);
    let entry = &lines[0]["plan"]["entries"][0];
    assert_eq!((entry["why"].as_str(), entry["package"].as_str()), (Some("dependency-gone"), Some("old")));
    assert_eq!(entry["bytes"], lines[2]["freed_bytes"]);
    assert!(!stand.has_stale() && !stand.has("p/target/debug/.fingerprint/old-2222222222222222"));
    stand.assert_live();
    // Everything was remembered.
    let asked = stand.env.read_text("asked").lines().count();
    stand.ok(&["sweep", "p"]);
    assert_eq!(stand.env.read_text("asked").lines().count(), asked);
}

#[test]
fn what_was_put_aside_comes_back() {
    let stand = Stand::new();
    stand.ok(&["sweep", "--quarantine", "p"]);
    assert!(!stand.has_stale());
    stand.ok(&["sweep", "p"]);
    stand.ok(&["sweep", "undo", "p"]);
    assert!(stand.has_stale() && stand.has("p/target/debug/.fingerprint/old-2222222222222222/bin-old.json"));
    assert!(!stand.has("p/target/.spolia-quarantine"));
    let again = stand.run(&["sweep", "undo", "p"]);
    assert_eq!(again.status.code(), Some(2));
    // What has another in its place stays where it is.
    stand.ok(&["sweep", "--quarantine", "p"]);
    stand.env.write("p/target/debug/deps/old-2222222222222222", "new");
    assert_eq!(stand.run(&["sweep", "undo", "p"]).status.code(), Some(4));
    assert_eq!(stand.env.read("p/target/debug/deps/old-2222222222222222"), b"new");
}

#[test]
fn policies_choose_among_what_is_stale() {
    let stand = Stand::new();
    stand.ok(&["sweep", "-t", "1", "p"]);
    assert!(stand.has_stale(), "it was built now");
    stand.ok(&["sweep", "--workspace", "p"]);
    assert!(stand.has_stale(), "it is no package of the workspace's");
    assert_eq!(stand.run(&["sweep", "--file", "p"]).status.code(), Some(2), "there is no stamp");
    stand.ok(&["sweep", "-s", "p"]);
    stand.ok(&["sweep", "-f", "p"]);
    assert!(!stand.has_stale());
    stand.assert_live();
    stand.project("p");
    stand.ok(&["sweep", "--maxsize", "500", "-d", "p"]);
    stand.ok(&["sweep", "-m", "1GB", "p"]);
    assert!(!stand.has_stale());
    stand.assert_live();
    stand.project("p");
    stand.ok(&["sweep", "--min-free", "1MB", "p"]);
    assert!(!stand.has_stale());
    stand.assert_live();
}

#[test]
fn all_goes_only_when_all_is_asked_for() {
    let stand = Stand::new();
    for flags in
        [&["--auto"][..], &["--for-cache-save"], &["--installed"], &["-r", "--hidden"], &["-v", "-v"]]
    {
        stand.project("p");
        stand.ok(&[&["sweep", "p"], flags].concat());
        stand.assert_live();
    }
    stand.ok(&["sweep", "-a", "p"]);
    assert!(!stand.has("p/target/debug/deps/app-1111111111111111"));
    assert!(stand.has("p/target/debug/mine.txt") && stand.has("p/Cargo.toml"));
    let limit = stand.run(&["sweep", "--max-size", "1B", "p"]);
    assert_eq!(limit.status.code(), Some(4), "the limit cannot be kept, and that is said");
}

#[test]
fn nothing_goes_where_cargo_does_not_say_what_is_live() {
    let stand = Stand::new();
    stand.env.write("broken", "");
    let output = stand.run(&["sweep", "p"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lock file"));
    assert!(stand.has_stale());
}

#[test]
fn a_tree_that_lies_loses_nothing_outside() {
    let stand = Stand::new();
    let outside = stand.env.folder().join("outside");
    std::fs::create_dir_all(outside.join("lib-3333333333333333")).unwrap();
    std::fs::write(outside.join("old-2222222222222222"), "kept").unwrap();
    let debug = stand.env.path("p/target/debug");
    // Whole folders of the tree lead elsewhere, and stale things are links.
    symlink(&outside, debug.join("build")).unwrap();
    symlink(&outside, debug.join("incremental")).unwrap();
    symlink(&outside, debug.join(".fingerprint/gone-4444444444444444")).unwrap();
    symlink(outside.join("old-2222222222222222"), debug.join("deps/gone-4444444444444444")).unwrap();
    std::fs::create_dir_all(debug.join(".fingerprint/gone-5555555555555555")).unwrap();
    symlink(&outside, debug.join(".fingerprint/gone-5555555555555555/inner")).unwrap();
    let output = stand.run(&["sweep", "p"]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    assert!(!debug.join("deps/gone-4444444444444444").is_symlink(), "the link itself goes");
    assert!(!debug.join(".fingerprint/gone-5555555555555555").exists());
    assert_eq!(TestEnv::files_below(&outside), [outside.join("old-2222222222222222")]);
    assert!(outside.join("lib-3333333333333333").is_dir());
    stand.assert_live();
    // The target directory itself is a link: it is the project's, and swept where it is.
    std::fs::rename(stand.env.path("p/target"), stand.env.path("elsewhere")).unwrap();
    symlink(stand.env.path("elsewhere"), stand.env.path("p/target")).unwrap();
    stand.run(&["sweep", "p"]);
    stand.assert_live();
}

#[test]
fn a_folder_that_only_looks_like_one_is_never_touched() {
    let stand = Stand::new();
    let fake = |name: &str, tag: &str| {
        for path in ["debug/deps/x-2222222222222222", "debug/.fingerprint/x-2222222222222222/lib-x.json"] {
            stand.env.write(format!("p/{name}/{path}"), "x");
        }
        stand.env.write(format!("p/{name}/CACHEDIR.TAG"), tag);
    };
    fake("target-like", "Signature: 8a477f597d28d172789f06886806bc55\n# made by another\n");
    fake("untagged", "");
    let before: Vec<PathBuf> = ["p/target-like", "p/untagged"]
        .iter()
        .flat_map(|name| TestEnv::files_below(&stand.env.path(name)))
        .collect();
    stand.ok(&["sweep", "-r", "--hidden", "."]);
    assert!(!stand.has_stale());
    assert!(before.iter().all(|path| path.exists()));
    let one = stand.env.path("p/untagged").display().to_string();
    stand.run(&["sweep", "--all", &one]);
    assert!(before.iter().all(|path| path.exists()));
}

#[test]
fn what_may_not_be_removed_is_reported_and_the_rest_goes() {
    let stand = Stand::new();
    let locked = stand.env.path("p/target/debug/.fingerprint/old-2222222222222222");
    std::fs::create_dir(locked.join("inner")).unwrap();
    std::fs::write(locked.join("inner/file"), "x").unwrap();
    std::fs::set_permissions(locked.join("inner"), PermissionsExt::from_mode(0o500)).unwrap();
    let output = stand.run(&["sweep", "p"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if is_root() {
        assert_eq!(output.status.code(), Some(0), "nothing is forbidden to root: {said}");
    } else {
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("stays"), "{said}");
    }
    assert!(!stand.has_stale(), "the rest went");
    stand.assert_live();
    let _gone = std::fs::set_permissions(locked.join("inner"), PermissionsExt::from_mode(0o700));
}

#[test]
fn a_build_that_runs_is_left_alone() {
    let stand = Stand::new();
    let held = std::fs::File::open(stand.env.path("p/target/debug/.cargo-lock")).unwrap();
    held.lock().unwrap();
    let said = stand.ok(&["sweep", "--no-wait", "p"]);
    assert!(said.contains("a build runs in it"), "{said}");
    assert!(stand.has_stale());
    drop(held);
    stand.ok(&["sweep", "--no-wait", "p"]);
    assert!(!stand.has_stale());
}

#[test]
fn the_manifest_declares_what_counts_and_its_mistakes_are_shown() {
    let stand = Stand::new();
    stand.env.manifest("[sweep]\ncommands = [\"cargo build --release -q\"]\n");
    stand.ok(&["sweep", "p"]);
    assert_eq!(stand.env.read_text("asked"), "build --locked --offline --release\n");
    stand.env.manifest("[sweep]\ncommand = [\"cargo build\"]\n");
    let output = stand.run(&["sweep", "p"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("commands"), "a near name is given");
}

#[test]
fn the_schedule_fails_loudly() {
    let stand = Stand::new();
    let text = stand.ok(&["sweep", "--schedule", "--recursive", "--time", "3", "p"]);
    for part in ["[Timer]", "ExecStart=", "\"--recursive\"", "\"--time=3\"", "post-merge", "exit 1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("|| true"));
    // The hook runs, and its failure is its own.
    let hook = text.split("executable\n").nth(1).unwrap();
    stand.env.write_program("hook", hook);
    let run = |broken: bool| {
        if broken {
            stand.env.write("broken", "");
        }
        let mut command = stand.env.command(["--version"]);
        let hook = stand.env.path("hook");
        let mut started = std::process::Command::new(hook);
        started.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let _same = command.current_dir(Path::new("/"));
        started.current_dir(stand.env.path("p")).output().unwrap()
    };
    assert_eq!(run(false).status.code(), Some(0));
    let failed = run(true);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("spolia sweep failed"));
}

#[test]
fn caches_are_one_table_and_each_owner_is_asked() {
    let stand = Stand::alone();
    let home = stand.env.folder().join("home");
    for (path, bytes) in [
        (".cache/pip/x", 50_000),
        (".cache/go-build/y", 90_000),
        (".cargo/registry/src/i/c-1/z", 20_000),
        (".cargo/registry/cache/i/c-1.crate", 1_000),
    ] {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![1; bytes]).unwrap();
    }
    let tool = |name: &str, folder: &str| {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in 'cache dir' | 'env GOCACHE') exit 0 ;; esac\n\
             echo \"{name} $*\" >> \"$HOME/ran\"\nrm -rf \"$HOME/{folder}\"\n"
        );
        stand.env.write_program(format!("bin/{name}"), text);
    };
    tool("pip", ".cache/pip/x");
    tool("go", ".cache/go-build/y");
    stand.env.write_program(
        "bin/docker",
        "#!/bin/sh\necho \"docker $*\" >> \"$HOME/ran\"\n[ \"$1\" = system ] && echo '{\"Type\":\"Build Cache\",\"Size\":\"3MB\"}'\nexit 0\n",
    );
    let lines = stand.json(&["sweep", "--caches"]);
    assert_eq!(lines.len(), 1, "without a budget it is a table: {lines:?}");
    let holds = |owner: &str| {
        let caches = lines[0]["caches"].as_array().unwrap();
        caches.iter().find(|cache| cache["owner"] == owner).and_then(|cache| cache["bytes"].as_u64())
    };
    assert!(holds("pip").unwrap() >= 50_000 && holds("go").unwrap() >= 90_000);
    assert_eq!(holds("docker"), Some(3_000_000));
    assert!(holds("spolia").is_some() && holds("npm").is_none());
    stand.ok(&["sweep", "--caches", "--budget", "3150000B"]);
    assert!(!home.join(".cargo/registry/src/i/c-1").exists(), "the cheapest went first");
    stand.ok(&["sweep", "--caches", "--older-than", "2d"]);
    let ran = std::fs::read_to_string(home.join("ran")).unwrap();
    assert!(ran.contains("docker builder prune --force --filter until=48h"), "{ran}");
    let over = stand.run(&["sweep", "--caches", "--budget", "1B"]);
    assert_eq!(over.status.code(), Some(4), "docker's stays, and that is said: {over:?}");
    let talk = String::from_utf8(over.stderr).unwrap();
    let why = "`docker` holds 2.8 MiB: that is what `docker builder prune --force --keep-storage 0` leaves";
    assert!(talk.contains(why), "{talk}");
    let ran = std::fs::read_to_string(home.join("ran")).unwrap();
    assert!(ran.contains("pip cache purge") && ran.contains("go clean -cache"), "{ran}");
}

#[test]
fn what_one_cache_cannot_free_another_frees_and_the_rest_is_explained() {
    let stand = Stand::alone();
    let home = stand.env.folder().join("home");
    for (path, bytes) in [(".cache/pip/x", 50_000), (".npm/_cacache/y", 60_000), (".cache/sccache/z", 40_000)]
    {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![1; bytes]).unwrap();
    }
    // pip holds what its own command does not remove.
    stand.env.write_program("bin/pip", "#!/bin/sh\nexit 0\n");
    let npm = "#!/bin/sh\n[ \"$2\" = clean ] && rm -f \"$HOME/.npm/_cacache/y\"\nexit 0\n";
    stand.env.write_program("bin/npm", npm);
    let layers =
        "[{\"Id\":\"a\",\"ParentId\":\"\",\"Size\":7000},{\"Id\":\"b\",\"ParentId\":\"a\",\"Size\":9000}]";
    let podman = format!(
        "#!/bin/sh\necho \"podman $*\" >> \"$HOME/ran\"\n\
         [ \"$1 $2\" = 'image prune' ] && [ \"$#\" = 3 ] && touch \"$HOME/gone\"\n\
         [ \"$1\" = images ] && if [ -e \"$HOME/gone\" ]; then echo '[]'; else echo '{layers}'; fi\nexit 0\n"
    );
    stand.env.write_program("bin/podman", podman);
    let lines = stand.json(&["sweep", "--caches", "--budget", "110KB"]);
    let freed: Vec<_> = lines.iter().filter(|line| line["kind"] == "sweep-cache-done").collect();
    assert_eq!((freed.len(), &freed[1]["done"]["owner"]), (2, &"npm".into()), "{lines:?}");
    assert_eq!(freed[0]["done"]["why"], "that is what `pip cache purge` leaves");
    let left = lines.last().unwrap();
    assert_eq!((&left["kind"], &left["kept"]), (&"sweep-caches-left".into(), &true.into()));
    let over = stand.run(&["sweep", "--caches", "--budget", "1B"]);
    assert_eq!(over.status.code(), Some(4));
    let talk = String::from_utf8(over.stderr).unwrap();
    assert!(talk.contains("`pip` holds") && talk.contains("that is what `pip cache purge` leaves"), "{talk}");
    assert!(talk.contains("its server does, by SCCACHE_CACHE_SIZE"), "{talk}");
    let ran = std::fs::read_to_string(home.join("ran")).unwrap();
    let pruned: Vec<_> = ran.lines().filter(|line| line.contains("prune")).collect();
    assert_eq!(pruned, ["podman image prune --force --filter until=168h", "podman image prune --force"]);
    // Nothing can be made smaller here, and the budget is not kept: that is no success.
    std::fs::remove_file(stand.env.path("bin/pip")).unwrap();
    std::fs::remove_dir_all(home.join(".cache/pip")).unwrap();
    let over = stand.run(&["sweep", "--caches", "--budget", "1B"]);
    assert_eq!(over.status.code(), Some(4), "{over:?}");
}
