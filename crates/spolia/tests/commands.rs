//! The commands beside `build`, through the binary. Every test has a home, a store and a project of its own.

#![expect(clippy::disallowed_methods, reason = "tests start the binary and look for git")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A hermetic place to run in.
struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { temp: tempfile::tempdir().unwrap() };
        for folder in ["home", "tmp", "project"] {
            std::fs::create_dir(place.temp.path().join(folder)).unwrap();
        }
        place
    }

    /// With a manifest of two steps and a check.
    fn with_project() -> Self {
        let place = Self::new();
        place.write("spolia.toml", MANIFEST);
        place.write("a.txt", "a\n");
        place.write("b.txt", "b\n");
        place
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("project")
    }

    fn store(&self) -> PathBuf {
        self.temp.path().join("store")
    }

    fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        std::fs::write(self.root().join(name), content).unwrap();
    }

    fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        std::fs::read(self.root().join(name)).unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.temp.path().join("home"));
        command.env("TMPDIR", self.temp.path().join("tmp"));
        command.env("SPOLIA_CACHE_DIR", self.store());
        command
    }

    fn spolia<W: AsRef<OsStr>>(&self, words: &[W]) -> Ended {
        let output = self.command(env!("CARGO_BIN_EXE_spolia")).args(words).output().unwrap();
        Ended {
            output,
            words: words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect(),
        }
    }

    /// The one document that a command prints under `--json`.
    fn json(&self, words: &[&str]) -> Value {
        let ended = self.spolia(&[&["--json"], words].concat());
        serde_json::from_slice(&ended.output.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    fn git(&self, words: &[&str]) {
        let output = self.command("git").args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

const MANIFEST: &str = r#"
[project]
name = "demo"
platforms = ["linux/amd64"]

[steps.gen]
run = "cat a.txt > ${out}/g.txt; echo made"
inputs = ["a.txt"]
outputs = ["g.txt"]
platforms = "any"

[steps.app]
needs = ["gen"]
run = "cat ${step.gen}/g.txt b.txt > ${out}/app; echo $V"
inputs = ["b.txt"]
env = { V = "1" }
outputs = ["app"]
to = "bin/${platform}"

[steps.lint]
run = "test -f a.txt"
inputs = ["a.txt"]
outputs = []
platforms = "any"
"#;

struct Ended {
    output: Output,
    words: Vec<String>,
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "spolia {:?}: {:?}\n--- stdout\n{}--- stderr\n{}",
            self.words,
            self.output.status,
            self.out(),
            self.err()
        )
    }
}

impl Ended {
    #[track_caller]
    fn code(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{self:?}");
        self
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.out().contains(text) || self.err().contains(text), "no `{text}` in {self:?}");
        self
    }

    #[track_caller]
    fn does_not_say(self, text: &str) -> Self {
        assert!(!self.out().contains(text) && !self.err().contains(text), "`{text}` in {self:?}");
        self
    }
}

/// The files below a folder with their content, to see that nothing changed.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                files.push((entry.path(), std::fs::read(entry.path()).unwrap_or_default()));
            }
        }
    }
    files.sort();
    files
}

/// A file of the store's `space`.
fn some_entry(place: &Place, space: &str) -> PathBuf {
    let mut files = snapshot(&place.store().join("v1").join(space));
    files.retain(|(_, content)| !content.is_empty());
    files.swap_remove(0).0
}

#[test]
fn a_dry_run_and_why_change_nothing() {
    let place = Place::with_project();
    place
        .spolia(&["build", "-n"])
        .code(0)
        .says("run      gen: never run here\n")
        .says("depends  app (linux/amd64): on gen\n");
    place
        .spolia(&["why", "app"])
        .code(0)
        .says("was never built here")
        .says("first: gen would run: never run here");
    assert!(!place.root().join(".spolia").exists());

    place.spolia(&["build"]).code(0);
    let before = (snapshot(&place.root()), snapshot(&place.store()));
    place.spolia(&["build", "-n"]).code(0).says("fresh    gen\n").says("fresh    app (linux/amd64)\n");
    place.spolia(&["build", "-n", "--no-cache=gen"]).code(0).says("run      gen: asked for with --no-cache");
    place.spolia(&["why", "app"]).code(0).says("is fresh").says("it ran then because: never run here");
    assert_eq!((snapshot(&place.root()), snapshot(&place.store())), before);
}

#[test]
fn why_names_every_field_that_differs() {
    let place = Place::with_project();
    place.spolia(&["build"]).code(0);
    place.write("spolia.toml", MANIFEST.replace("V = \"1\"", "V = \"2\""));
    place.write("b.txt", "other\n");
    let ended = place.spolia(&["why", "app"]).code(0);
    ended.says("app (linux/amd64) would run").says("variable `V`: `1` → `2`\n").says("input `b.txt`: ");

    let why = place.json(&["why", "app"]);
    assert_eq!(why["plan"], "run");
    let changes = why["changes"].as_array().unwrap();
    let names: Vec<_> = changes.iter().map(|change| change["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["V", "b.txt"]);
    assert_eq!((&changes[0]["old"], &changes[0]["new"]), (&Value::from("1"), &Value::from("2")));
    assert_eq!(changes[1]["new"].as_str().unwrap().len(), "blake3:".len() + 64);

    // What waits for another step says so, and what it knows already.
    place.write("a.txt", "aa\n");
    let ended = place.spolia(&["why", "app"]).code(0);
    ended
        .says("would run, after steps that it needs")
        .says("variable `V`")
        .says("first: gen would run: input `a.txt` changed");

    // After the build the reason of that run is told, with its differences.
    place.spolia(&["build"]).code(0);
    let ended = place.spolia(&["why", "app"]).code(0);
    ended.says("is fresh").says("it ran then because: ").says("    variable `V`: `1` → `2`\n");
}

#[test]
fn why_says_where_a_hit_comes_from() {
    let place = Place::with_project();
    place.spolia(&["build"]).code(0);
    std::fs::remove_dir_all(place.root().join("bin")).unwrap();
    let ended =
        place.spolia(&["why", "app"]).code(0).says("would be restored from the local store: 1 file (4 B)");
    ended.says("ran ").says(", in run ");
    // Another tree knows it from the store and its journal only.
    let run = place.json(&["why", "app"])["last"]["run"].clone();
    std::fs::remove_dir_all(place.root().join(".spolia")).unwrap();
    let why = place.json(&["why", "app"]);
    assert_eq!((&why["plan"], &why["source"]), (&Value::from("restore"), &Value::from("local-store")));
    assert_eq!(why["last"]["run"], run);
    assert_eq!(why["last"]["ran_because"]["reason"], "never-run");
    place.spolia(&["why", "ap"]).code(2).says("a step named `app` exists");
}

#[test]
fn a_step_that_is_not_built_for_what_was_asked_is_no_success() {
    let place = Place::new();
    let manifest = r#"
        [project]
        platforms = ["linux/amd64", "linux/arm64"]
        [steps.one]
        platforms = ["linux/arm64"]
        run = "true"
        outputs = []
        [steps.all]
        run = "true"
        outputs = []
        [variant.dev]
        platforms = ["linux/amd64"]
    "#;
    place.write("spolia.toml", manifest);
    let amd64 = ["-p", "linux/amd64"];
    place
        .spolia(&[&["build", "one"][..], &amd64].concat())
        .code(2)
        .says("step `one` is not built for `linux/amd64`")
        .says("hint: it is built for linux/arm64");
    place.spolia(&[&["why", "one"][..], &amd64].concat()).code(2);
    place
        .spolia(&["build", "all", "one", "--variant", "dev"])
        .code(2)
        .says("step `one` is not built for `linux/amd64`")
        .says("look at `[steps.one]`");
    place.spolia(&[&["build", "-n", "all"][..], &amd64].concat()).code(0);
    place.spolia(&["build", "-n", "--variant", "dev"]).code(0);
    place.spolia(&["build", "oone"]).code(2).says("a step named `one` exists");
}

#[test]
fn the_graph_has_four_forms() {
    let place = Place::with_project();
    let text = place.spolia(&["graph"]).code(0).out();
    assert_eq!(text, "app (linux/amd64) → bin/${platform}\n└── gen → .spolia/out/gen/any\nlint [check]\n");
    place
        .spolia(&["graph", "--dot", "app"])
        .code(0)
        .says("\"gen\" -> \"app (linux/amd64)\";")
        .does_not_say("lint");
    let svg = place.spolia(&["graph", "--svg"]).code(0).out();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(svg.contains("prefers-color-scheme: dark") && svg.contains(">app</text>"), "{svg}");
    let graph = place.json(&["graph", "-p", "linux/amd64"]);
    let app = graph["nodes"].as_array().unwrap().iter().find(|node| node["step"] == "app").unwrap();
    assert_eq!(app["needs"], serde_json::json!([{ "step": "gen", "platform": "any" }]));
    assert_eq!(app["published"], "bin/linux/amd64");
    place.spolia(&["graph", "nothing"]).code(2).says("no step is named `nothing`");
    place.spolia(&["graph", "--dot", "--svg"]).code(2);
}

/// What a command prints, on both streams, byte for byte, live and from the store.
#[test]
fn run_passes_output_through_and_replays_it() {
    let place = Place::new();
    place.write("in.txt", "in\n");
    let script = "cat in.txt in.txt > \"sub/o ut\nx\"; printf 'raw\\377\\000'; echo err >&2; echo '${out}' $HOME | cut -c1-6";
    let words = ["run", "-i", "in.txt", "-o", "sub/o ut\nx", "--", "sh", "-c", script];
    for time in 0..3 {
        let ended = place.spolia(&words).code(0);
        assert_eq!(ended.output.stdout, b"raw\xff\x00${out}\n", "{time}: {ended:?}");
        assert_eq!(ended.output.stderr, b"err\n", "{time}: {ended:?}");
        assert_eq!(place.read("sub/o ut\nx"), b"in\nin\n");
        if time == 1 {
            std::fs::remove_dir_all(place.root().join("sub")).unwrap();
        }
    }
    let verbose = |expect: &str| {
        place.spolia(&[&["-v"], words.as_slice()].concat()).code(0).says(expect);
    };
    verbose("fresh");
    place.write("in.txt", "other\n");
    verbose("miss input `in.txt` changed");
    assert_eq!(place.read("sub/o ut\nx"), b"other\nother\n");
    // Two commands in one folder have a memory each.
    place.spolia(&["run", "-i", "in.txt", "--", "cat", "in.txt"]).code(0).says("other\n");
    verbose("fresh");
}

#[test]
fn run_replays_even_where_the_log_was_lost() {
    let place = Place::new();
    let words = ["run", "--", "sh", "-c", "echo once; date +%N"];
    let first = place.spolia(&words).code(0).out();
    assert_eq!(place.spolia(&words).code(0).out(), first);
    std::fs::remove_dir_all(place.store().join("v1/blob")).unwrap();
    let again = place.spolia(&words).code(0).out();
    assert!(again.starts_with("once\n") && again != first, "{again} {first}");
}

#[test]
fn run_ends_as_the_command_does() {
    let place = Place::new();
    place.write("in.txt", "in\n");
    let check = |words: &[&str], code: i32, says: &str| {
        place.spolia(&[&["run"], words].concat()).code(code).says(says);
    };
    check(&["--", "sh", "-c", "exit 7"], 7, "");
    check(&["--", "no-such-program-anywhere"], 127, "not found");
    check(&["--", "sh", "-c", "kill -9 $$"], 137, "");
    check(&["--timeout", "100ms", "--", "sleep", "10"], 125, "timeout of 100ms");
    check(&["-o", "x", "--", "true"], 125, "the output `x` was not written\n");
    check(&["-o", "x", "--", "touch", "x"], 125, "`--allow-empty` lets outputs be empty");
    check(&["-o", "x", "--allow-empty", "--", "touch", "x"], 0, "");
    check(&["-o", "../x", "--", "true"], 125, "below the current folder");
    check(&["-i", "[", "--", "true"], 125, "not closed");
    check(&["--", "cat", "in.txt"], 1, "hint: name with `-i`: \"in.txt\"");
    check(&["-i", "in.txt", "--engine", "host", "-o", "h", "--", "cp", "in.txt", "h"], 0, "");
    assert_eq!(place.read("h"), b"in\n");
    place.spolia(&["run"]).code(2);
    // Any bytes are an argument.
    let words = [&b"run"[..], b"--", b"printf", b"%s", b"a\xff'\n"].map(OsStr::from_bytes);
    assert_eq!(place.spolia(&words).code(0).output.stdout, b"a\xff'\n");
    let failed = place.spolia(&["run", "--", "sh", "-c", "echo $X; exit 1"]).code(1);
    assert!(failed.out().is_empty() || failed.out() == "\n", "{failed:?}");
}

#[test]
fn run_keys_what_it_passes_on() {
    let place = Place::new();
    let run = |value: &str| {
        let mut command = place.command(env!("CARGO_BIN_EXE_spolia"));
        command.env("X", value).args(["-v", "run", "--env", "X", "--", "sh", "-c", "echo $X"]);
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("1").0, "1\n");
    let (out, err) = run("2");
    assert_eq!(out, "2\n");
    assert!(err.contains("variable `X` changed"), "{err}");
    assert!(run("1").1.contains("hit"));
}

#[test]
fn the_cache_is_listed() {
    let place = Place::with_project();
    place.spolia(&["cache", "ls"]).code(0).says("the store holds no results");
    place.spolia(&["build"]).code(0);
    place.spolia(&["build"]).code(0);
    place.spolia(&["cache", "ls"]).code(0).says("app (linux/amd64)  [demo]").says("lint").says("gen");
    place.spolia(&["cache", "ls", "app"]).code(0).says("app").does_not_say("lint");
    let list = place.json(&["cache", "ls", "gen"]);
    let result = &list["results"][0];
    assert_eq!((&result["step"], &result["project"]), (&Value::from("gen"), &Value::from("demo")));
    assert_eq!((&result["hits"], &result["whole"]), (&Value::from(1), &Value::from(true)));
    assert_eq!(list["hits_counted_in_runs"], 2);
    let dir = place.spolia(&["cache", "dir"]).code(0).out();
    assert_eq!(Path::new(dir.trim_end()), place.store());
    let size = place.json(&["cache", "size"]);
    assert_eq!(size["entries"]["results"]["files"], 3);
    assert_eq!(size["bytes"], list["store_bytes"]);
}

#[test]
fn damage_is_found_and_healed() {
    let place = Place::with_project();
    place.spolia(&["build"]).code(0);
    place.spolia(&["cache", "verify"]).code(0).says("sound");
    let blob = some_entry(&place, "blob");
    std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&blob, "damaged").unwrap();
    place.spolia(&["cache", "verify"]).code(4).says("is damaged").says("--heal");
    let report = place.json(&["cache", "verify"]);
    assert_eq!((&report["exit_code"], &report["healed"]), (&Value::from(4), &Value::from(0)));
    assert_eq!(report["damaged"][0]["damage"], "content");
    place.spolia(&["doctor"]).code(4).says("spolia doctor --fix").says("problem");
    place.spolia(&["cache", "verify", "--heal"]).code(4).says("healed all of it");
    place.spolia(&["cache", "verify"]).code(0);
    place.spolia(&["build"]).code(0);
}

#[test]
fn a_collection_shows_its_plan_and_keeps_what_is_young() {
    let place = Place::with_project();
    place.spolia(&["build"]).code(0);
    let plan = place.json(&["cache", "gc", "--max-size", "1B", "-n"]);
    // Nothing of the last hour goes.
    assert_eq!((&plan["bytes_planned"], &plan["dry_run"]), (&Value::from(0), &Value::from(true)));
    age(&place.store().join("v1"), 3 * 3600);
    let before = snapshot(&place.store());
    let ended = place.spolia(&["cache", "gc", "--max-size", "1B", "--dry-run"]).code(0);
    ended.says("3 files").says("least recently used").says("app (linux/amd64)").says("nothing was removed");
    assert_eq!(snapshot(&place.store()), before);
    place.spolia(&["cache", "gc", "--max-size", "1B"]).code(0).says("removed");
    assert_eq!(place.json(&["cache", "size"])["bytes"], 0);
    place.spolia(&["cache", "gc", "--max-size", "lots"]).code(2).says("write a number with a unit");
    place.spolia(&["build", "--no-cache"]).code(0);
}

#[test]
fn what_is_packed_is_packed_again_when_that_is_asked_for() {
    let place = Place::with_project();
    // Pieces of five letters: the fastest level does not find them again. Not where the file system shares bytes.
    let script = "awk 'BEGIN { srand(1); for (i = 0; i < 300; i++) for (j = 0; j < 5; j++) \
        p[i] = p[i] sprintf(\"%c\", 97 + int(rand() * 16)); for (i = 0; i < 20000; i++) printf \"%s\", p[int(rand() * 300)] }' > ${out}/o";
    place.write(
        "spolia.toml",
        format!("[steps.s]\nplatforms = \"any\"\nrun = {script:?}\noutputs = [\"o\"]\n"),
    );
    place.spolia(&["build"]).code(0);
    let packed = place.json(&["cache", "recompress", "-n"])["blobs"].as_u64().unwrap();
    let before = snapshot(&place.store());
    place.spolia(&["cache", "recompress", "--dry-run"]).code(0).says("nothing was written");
    assert_eq!(snapshot(&place.store()), before);
    let size = |place: &Place| place.json(&["cache", "size"])["bytes"].as_u64().unwrap();
    let size_before = size(&place);
    let done = place.json(&["cache", "recompress", "--level", "12"]);
    assert_eq!((&done["smaller"], &done["level"], &done["damaged"]), (&packed.into(), &12.into(), &0.into()));
    let saved = done["saved_bytes"].as_u64().unwrap();
    assert_eq!((saved > 0, size(&place)), (packed > 0, size_before - saved));
    if packed > 0 {
        place.spolia(&["cache", "recompress"]).code(0).says("1 were at this level before");
    }
    place.spolia(&["cache", "verify"]).code(0);
    std::fs::remove_dir_all(place.root().join(".spolia")).unwrap();
    place.spolia(&["build"]).code(0).says("restored");
    place.spolia(&["cache", "recompress", "--level", "1"]).code(2);
}

/// The manifest's limit is kept without being asked, once a day.
#[test]
fn a_build_collects_when_it_is_due() {
    let place = Place::with_project();
    place.write("spolia.toml", format!("{MANIFEST}\n[cache]\nmax-size = \"2kB\"\n"));
    place.spolia(&["build"]).code(0);
    let base = place.store().join("v1");
    assert!(base.join("gc").exists(), "the first build counts");
    age(&base, 3 * 3600);
    place.write("a.txt", "2\n");
    place.spolia(&["build"]).code(0).does_not_say("collected");
    age(&base, 25 * 3600);
    place.write("a.txt", "3\n");
    place.spolia(&["build"]).code(0).says("collected");
    let left = place.json(&["cache", "ls"]);
    assert!(left["results"].as_array().unwrap().len() <= 5, "{left}");
    place.spolia(&["build"]).code(0).says("3 up to date");
}

/// Makes every file below `folder` older, and forgets what runs have noted.
fn age(folder: &Path, seconds: u64) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    for (path, content) in snapshot(folder) {
        if path.parent().unwrap().ends_with("uses") {
            std::fs::remove_file(path).unwrap();
            continue;
        }
        // The files are read-only: written anew with their mode.
        let mode = std::fs::metadata(&path).unwrap().permissions();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
        std::fs::set_permissions(&path, mode).unwrap();
    }
}

#[test]
fn clearing_needs_a_yes_and_may_take_one_step() {
    let place = Place::with_project();
    place.spolia(&["build"]).code(0);
    let before = snapshot(&place.store());
    // Nobody is there to say yes, and what was asked is not done.
    place.spolia(&["cache", "clear"]).code(2).says("all 3 results").says("nothing was removed").says("--yes");
    assert_eq!(place.json(&["cache", "clear"])["dry_run"], true);
    assert_eq!(snapshot(&place.store()), before);
    place.spolia(&["cache", "clear", "gen", "--yes"]).code(0).says("1 result of step `gen`");
    place.spolia(&["cache", "ls"]).code(0).says("app").does_not_say("gen");
    place.spolia(&["cache", "verify"]).code(0);
    // It is gone, but it ran: the journal knows.
    place.spolia(&["why", "gen"]).code(0).says("its result is not known here any more").says("this very key");
    assert_eq!(place.json(&["why", "gen"])["ran_before"]["key"], place.json(&["why", "gen"])["key"]);
    place.spolia(&["build"]).code(0).says("ran gen").says("2 up to date");
    assert!(place.json(&["why", "gen"])["ran_before"].is_null());
    place.spolia(&["cache", "clear", "-y"]).code(0);
    assert_eq!(place.json(&["cache", "size"])["bytes"], 0);
    place.spolia(&["build"]).code(0).says("3 ran");
}

#[test]
fn the_doctor_names_what_is_wrong() {
    let place = Place::with_project();
    place.spolia(&["doctor"]).code(0).says("has 3 steps");
    place.write(
        "spolia.toml",
        MANIFEST.replace("run = \"test", "tools = [\"no-such-tool\", \"cat\"]\nrun = \"test"),
    );
    let ended =
        place.spolia(&["doctor"]).code(4).says("the tool `no-such-tool` is not installed; needed by `lint`");
    ended.says("`cat` is `");
    place.write("spolia.toml", "[steps.a]\nruns = 1\n");
    place.spolia(&["doctor"]).code(4).says("manifest").says("mistake");
    let report = place.json(&["doctor"]);
    assert_eq!(report["exit_code"], 4);
    assert!(
        report["findings"].as_array().unwrap().iter().any(|found| found["check"] == "sandbox"),
        "{report}"
    );
    // Without a project there is still a machine to look at.
    place
        .spolia(&["-C", place.temp.path().to_str().unwrap(), "doctor"])
        .code(0)
        .says("there is no `spolia.toml`");
}

#[test]
fn the_doctor_asks_git() {
    let place = Place::with_project();
    if place.command("git").arg("--version").output().is_err() {
        // Said so by the doctor too, which the other tests see.
        return;
    }
    place.git(&["init", "-q"]);
    place.write("Cargo.lock", "x");
    place.write("go.sum", "x");
    place.write(".gitignore", "Cargo.lock\n");
    place.git(&["add", "go.sum"]);
    place.spolia(&["build"]).code(0);
    std::fs::remove_file(place.root().join(".spolia/.gitignore")).unwrap();
    let ended = place.spolia(&["doctor"]).code(4);
    let ended = ended.says("`Cargo.lock` is ignored by git").says("git does not ignore `.spolia`");
    ended.says("1 lock file known to git").does_not_say("`go.sum`");
    place.write(".gitignore", "");
    place
        .spolia(&["doctor", "--fix"])
        .code(4)
        .says("`Cargo.lock` is not committed")
        .says("wrote `.spolia/.gitignore`");
    place.git(&["add", "Cargo.lock"]);
    place.spolia(&["doctor"]).code(0).says("`.spolia` is ignored by git");
}

#[test]
fn the_doctor_heals_and_sweeps() {
    let place = Place::with_project();
    place.spolia(&["build"]).code(0);
    let result = some_entry(&place, "result");
    std::fs::set_permissions(&result, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&result, "damaged").unwrap();
    std::fs::create_dir_all(place.root().join(".spolia/tmp/4999999.0")).unwrap();
    place.spolia(&["doctor"]).code(4).says("1 left-over of killed builds");
    assert!(result.exists(), "without --fix nothing is removed");
    place.spolia(&["doctor", "--fix"]).code(0).says("removed what was damaged").says("removed them");
    assert!(!place.root().join(".spolia/tmp/4999999.0").exists());
    place.spolia(&["cache", "verify"]).code(0);
}

#[test]
fn completions_and_the_schema_are_printed() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        place.spolia(&["completions", shell]).code(0).says("doctor");
    }
    place.spolia(&["completions", "cmd"]).code(2);
    let schema = place.spolia(&["schema"]).code(0).out();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema, place.json(&["schema"]));
    assert!(schema["properties"]["steps"].is_object());
}

#[test]
fn what_cannot_be_read_has_its_exit_code() {
    let place = Place::with_project();
    place.spolia(&["--cache-dir", "a.txt", "cache", "ls"]).code(3).says("SPOLIA_CACHE_DIR");
    place.spolia(&["--manifest", "none.toml", "graph"]).code(2);
    place.spolia(&["--cache-dir", "a.txt", "run", "--", "true"]).code(125);
    let error = place.json(&["--cache-dir", "a.txt", "cache", "ls"]);
    assert_eq!((&error["kind"], &error["exit_code"]), (&Value::from("error"), &Value::from(3)));
}
