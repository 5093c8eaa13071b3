//! The real cargo and rustc around the real binary: a target folder that is put back before cargo looks at it, and that cargo is right
//! to take for up to date.

use std::path::PathBuf;
use std::process::Command;

use spolia_testing::TestEnv;

use super::Workspace;

impl Workspace {
    fn new() -> Self {
        let this = Self::empty();
        this.sources("one");
        this
    }

    fn sources(&self, checkout: &str) {
        let write = |path: &str, text: &str| self.env.write(format!("{checkout}/{path}"), text);
        write("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"leaf\", \"middle\", \"app\"]\n");
        for (name, needs) in [("leaf", ""), ("middle", "leaf"), ("app", "middle")] {
            let mut text = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
            if !needs.is_empty() {
                text.push_str(&format!("[dependencies]\n{needs} = {{ path = \"../{needs}\" }}\n"));
            }
            write(&format!("{name}/Cargo.toml"), &text);
        }
        write(
            "leaf/build.rs",
            "fn main() {\n\
             let flavour = std::env::var(\"FLAVOUR\").unwrap_or_default();\n\
             let text = std::fs::read_to_string(\"input\").unwrap();\n\
             println!(\"cargo:rerun-if-changed=input\");\n\
             println!(\"cargo:rustc-env=SAID={}{}\", text.trim(), flavour);\n}\n",
        );
        write("leaf/input", "script\n");
        write("leaf/src/lib.rs", "pub fn leaf() -> String { format!(\"{} leaf\", env!(\"SAID\")) }\n");
        write("middle/src/lib.rs", "pub fn middle() -> String { format!(\"{} middle\", leaf::leaf()) }\n");
        write("app/src/main.rs", "fn main() { println!(\"{} app\", middle::middle()); }\n");
        settle();
    }

    /// Builds; what the program says then, and how many packages cargo took for up to date.
    fn build(&self, checkout: &str) -> (String, usize) {
        let said = self.cargo(checkout, &["build", "-v"]);
        let fresh = said.lines().filter(|line| line.trim_start().starts_with("Fresh ")).count();
        let target = self.more.iter().find(|(name, _)| *name == "CARGO_TARGET_DIR");
        let target =
            target.map_or_else(|| self.env.path(checkout).join("target"), |(_, at)| PathBuf::from(at));
        let ran = Command::new(target.join("debug/app")).output().unwrap();
        (String::from_utf8_lossy(&ran.stdout).trim().to_owned(), fresh)
    }

    /// What is written down of every call.
    fn records(&self) -> Vec<serde_json::Value> {
        let folder = std::fs::read_dir(self.env.store().join("v1/cc/tally")).unwrap();
        let days = folder.map(|day| std::fs::read_to_string(day.unwrap().path()).unwrap());
        days.flat_map(|day| day.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
            .collect()
    }

    /// The same where the target folder is gone.
    fn build_anew(&self, checkout: &str) -> (String, usize) {
        self.env.remove(format!("{checkout}/target"));
        self.build(checkout)
    }
}

/// Until files are old enough to be believed.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(120));
}

const SAID: &str = "script leaf middle app";

#[test]
fn cargo_finds_what_was_built_and_only_what_is_right() {
    let mut work = Workspace::new();
    assert_eq!(work.build("one"), (SAID.to_owned(), 0));
    // The program's own notes were not there yet when it ended.
    assert_eq!(work.build_anew("one"), (SAID.to_owned(), 2));
    let stats = work.env.command(["--json", "stats"]).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    // What was put back before cargo asked is counted with what it took and saved.
    let hits: Vec<_> = work.records().into_iter().filter(|record| record["outcome"] == "hit").collect();
    assert!(hits.len() >= 4, "{hits:?}");
    for hit in &hits {
        assert!(hit["own_cpu_us"].is_u64() && hit["compile_cpu_us"].is_u64(), "{hit}");
    }
    let saved = |hit: &serde_json::Value| {
        let us = |name: &str| hit[name].as_u64().unwrap();
        us("compile_cpu_us").saturating_sub(us("own_cpu_us"))
    };
    assert_eq!(stats["all"]["saved_cpu_us"], hits.iter().map(saved).sum::<u64>(), "{stats}");
    // Nothing to do after that.
    assert_eq!(work.build("one"), (SAID.to_owned(), 3));

    // A source changed, and its time is of long ago: cargo alone would not see it.
    work.env.write("one/leaf/src/lib.rs", "pub fn leaf() -> String { \"old\".to_owned() }\n");
    let lib = std::fs::File::options().append(true).open(work.env.path("one/leaf/src/lib.rs")).unwrap();
    lib.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    drop(lib);
    assert_eq!(work.build_anew("one"), ("old middle app".to_owned(), 0));
    assert_eq!(work.build_anew("one").0, "old middle app");

    // What a build script reads changed, and a variable that it asks for without telling cargo.
    work.sources("one");
    assert_eq!(work.build_anew("one").0, SAID);
    work.env.write("one/leaf/input", "changed\n");
    settle();
    assert_eq!(work.build_anew("one").0, "changed leaf middle app");
    work.more = vec![("FLAVOUR", "+".to_owned())];
    assert_eq!(work.build_anew("one").0, "changed+ leaf middle app");
    assert_eq!(work.build_anew("one"), ("changed+ leaf middle app".to_owned(), 2));

    // A source that is edited after it was put back is newer.
    work.env.write("one/middle/src/lib.rs", "pub fn middle() -> String { \"edited\".to_owned() }\n");
    assert_eq!(work.build("one").0, "edited app");
    // Without Spolia, in what it has put there.
    work.env.write("one/leaf/src/lib.rs", "pub fn leaf() {}\n");
    work.env
        .write("one/middle/src/lib.rs", "pub fn middle() -> String { leaf::leaf(); \"plain\".to_owned() }\n");
    work.more = vec![("RUSTC_WRAPPER", String::new())];
    assert_eq!(work.build("one").0, "plain app");
}

#[test]
fn a_library_that_was_kept_or_put_back_compiles_again_in_its_place() {
    let mut work = Workspace::new();
    work.more = vec![("SPOLIA_AHEAD", "0".to_owned())];
    for (number, more) in [("1", None), ("2", None), ("3", Some(("SPOLIA_DISABLE", "1".to_owned())))] {
        assert_eq!(work.build("one").0, work.build_anew("one").0, "put back");
        let text = format!("pub fn leaf() -> String {{ \"number {number}\".to_owned() }}\n");
        work.env.write("one/leaf/src/lib.rs", text);
        work.more.extend(more);
        assert_eq!(work.build("one").0, format!("number {number} middle app"));
    }
}

#[test]
fn another_checkout_and_another_target_folder_are_put_back_too() {
    let mut work = Workspace::new();
    assert_eq!(work.build("one").0, SAID);
    work.sources("two");
    work.env.write("two/Cargo.lock", work.env.read("one/Cargo.lock"));
    settle();
    assert_eq!(work.build("two"), (SAID.to_owned(), 2));
    let elsewhere = work.env.path("elsewhere");
    work.more = vec![("CARGO_TARGET_DIR", elsewhere.display().to_string())];
    assert_eq!(work.build("one"), (SAID.to_owned(), 2));
    // Another command builds other things, and what is there is left alone.
    work.more.clear();
    work.env.remove("one/target");
    work.cargo("one", &["check"]);
    assert!(!work.env.has("one/target/debug/app"));
    work.env.remove("one/target/.rustc_info.json");
    assert_eq!(work.build("one").0, SAID);
}

#[test]
fn turned_off_or_damaged_cargo_calls_for_every_unit() {
    let mut work = Workspace::new();
    assert_eq!(work.build("one").0, SAID);
    let builds = work.env.store().join("v1/cc/builds");
    for path in TestEnv::files_below(&builds) {
        std::fs::write(&path, "damaged").unwrap();
    }
    assert_eq!(work.build_anew("one"), (SAID.to_owned(), 0));
    assert_eq!(work.build_anew("one"), (SAID.to_owned(), 2), "seen again");
    work.more = vec![("SPOLIA_AHEAD", "0".to_owned())];
    assert_eq!(work.build_anew("one"), (SAID.to_owned(), 0));
    work.more = vec![("SPOLIA_VERIFY", "1".to_owned())];
    assert_eq!(work.build_anew("one"), (SAID.to_owned(), 0), "each hit is compiled again");
    // Blobs that are gone: what is put back without them is not taken for up to date.
    work.more.clear();
    for path in TestEnv::files_below(&work.env.store().join("v1/blob")) {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(work.build_anew("one"), (SAID.to_owned(), 0));
}
