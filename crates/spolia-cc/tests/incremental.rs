//! The real rustc with sessions that were given back: what it takes of them, and that what it makes is right.

#![allow(clippy::disallowed_methods, reason = "a test starts programs and reads where they are")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use spolia_cc::tally::{self, Record};
use spolia_cc::{Call, End, Env, Options, rustc};
use spolia_store::{LocalOptions, LocalStore};

/// Functions of the module that never changes: enough to be worth keeping.
const FUNCTIONS: usize = 100;

struct Unit {
    _temp: tempfile::TempDir,
    root: PathBuf,
    env: Env,
}

impl Unit {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let names = ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME"];
        let known = |name: &&str| Some((OsString::from(*name), std::env::var_os(name)?));
        let env = Env::new(names.iter().filter_map(known).collect());
        let unit = Self { _temp: temp, root, env };
        let mut same = String::new();
        for number in 0..FUNCTIONS {
            same.push_str(&format!(
                "pub fn f{number}(v: &[u64]) -> String {{ let mut w: Vec<_> = v.iter().map(|n| n + {number}).collect(); \
                 w.sort_by_key(|n| n % 7); format!(\"{{w:?}} {{}}\", w.len()) }}\n"
            ));
        }
        let calls: String = (0..FUNCTIONS).map(|number| format!("s += f{number}(v).len();")).collect();
        same.push_str(&format!("pub fn all(v: &[u64]) -> usize {{ let mut s = 0; {calls} s }}\n"));
        unit.write("same.rs", &same);
        unit.write(
            "main.rs",
            "mod part; mod same; fn main() { println!(\"{} {}\", part::part(), same::all(&[3, 1, 2])); }",
        );
        unit.part("one");
        unit
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root.join(name), text).unwrap();
    }

    fn part(&self, text: &str) {
        self.write("part.rs", &format!("pub fn part() -> &'static str {{ {text:?} }}"));
        std::thread::sleep(std::time::Duration::from_millis(120));
    }

    fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    fn clean(&self) {
        std::fs::remove_dir_all(self.target()).unwrap();
    }

    /// Compiles, runs what came of it, and gives what that says and the record.
    fn build(&self, more: &[&str]) -> (String, Record) {
        let cargo = PathBuf::from(std::env::var_os("CARGO").expect("cargo runs the tests"));
        let out = self.target().join("debug/deps");
        let path = |path: PathBuf| path.display().to_string();
        let incremental = format!("incremental={}", path(self.target().join("debug/incremental")));
        let (source, out_dir) = (path(self.root.join("main.rs")), path(out.clone()));
        let mut args = vec!["--crate-name", "app", &source, "--edition=2021", "--crate-type", "bin"];
        args.extend(["--emit=dep-info,link", "-C", "metadata=1", "-C", "extra-filename=-1"]);
        args.extend(["--out-dir", &out_dir, "-C", &incremental]);
        args.extend(more);
        std::fs::create_dir_all(&out).unwrap();
        let call = Call {
            program: cargo.with_file_name("rustc").canonicalize().unwrap(),
            name: "rustc".into(),
            args: args.iter().map(OsString::from).collect(),
            env: &self.env,
            cwd: std::env::current_dir().unwrap(),
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let options = Options {
            store: Some(self.store()),
            incremental: true,
            remap: true,
            now_us: u64::try_from(now.as_micros()).unwrap(),
            ..Options::default()
        };
        let mut said = Vec::new();
        let end = rustc::run(&call, &options, &mut |_, bytes| said.extend_from_slice(bytes));
        assert!(matches!(end, End::Code(0)), "{end:?}: {}", String::from_utf8_lossy(&said));
        let ran = Command::new(out.join("app-1")).output().unwrap();
        let store = LocalStore::open(&self.store(), LocalOptions::default()).unwrap();
        let record = tally::read(&store, 0).unwrap().records.pop().unwrap();
        (String::from_utf8(ran.stdout).unwrap(), record)
    }

    fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The object files of the finished session, by inode.
    fn objects(&self) -> BTreeSet<u64> {
        inodes(&self.target().join("debug/incremental"), ".o")
    }

    fn blobs(&self) -> BTreeSet<u64> {
        inodes(&self.store().join("v1/blob"), "")
    }
}

fn inodes(folder: &Path, ending: &str) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(inodes(&entry.path(), ending));
        } else if entry.file_name().to_string_lossy().ends_with(ending) {
            found.insert(entry.metadata().unwrap().ino());
        }
    }
    found
}

#[test]
fn rustc_takes_what_did_not_change_from_a_session_that_was_given_back() {
    let unit = Unit::new();
    let (first, record) = unit.build(&[]);
    assert!(record.incremental_kept_bytes.is_some_and(|bytes| bytes > 100_000), "{record:?}");
    assert!(first.starts_with("one "), "{first}");
    unit.clean();
    assert_eq!((unit.build(&[]).0, unit.objects().len()), (first.clone(), 0), "a hit leaves no session");
    unit.clean();
    unit.part("two");
    let kept = unit.blobs();
    let (second, record) = unit.build(&[]);
    assert_eq!(second, first.replace("one", "two"));
    assert!(record.incremental_given_back_bytes.is_some(), "{record:?}");
    // An object that rustc made anew is another file.
    let (taken, all) = (unit.objects().intersection(&kept).count(), unit.objects().len());
    assert!(taken > 0 && taken < all, "{taken} of {all} objects were taken over");
    // What was kept of the second is as good.
    unit.clean();
    unit.part("three");
    let kept = unit.blobs();
    assert_eq!(unit.build(&[]).0, first.replace("one", "three"));
    assert!(unit.objects().intersection(&kept).count() > 0);
    // With the folder in place it is rustc's own.
    unit.part("four");
    let (fourth, record) = unit.build(&[]);
    assert_eq!((fourth, record.incremental_given_back_bytes), (first.replace("one", "four"), None));
}

#[test]
fn rustc_never_writes_through_a_link_to_the_store() {
    let unit = Unit::new();
    unit.build(&[]);
    for text in ["two", "three"] {
        unit.clean();
        unit.part(text);
        assert!(unit.build(&[]).1.incremental_given_back_bytes.is_some());
        // Once more upon the session that has links of the store's.
        unit.part(&format!("{text} again"));
        unit.build(&[]);
    }
    let store = LocalStore::open(&unit.store(), LocalOptions::default()).unwrap();
    let mut blobs = Vec::new();
    spolia_store::Store::list(&store, spolia_store::Space::Blob, &mut |info| blobs.push(info.entry)).unwrap();
    assert!(blobs.len() > 10);
    for blob in blobs {
        assert!(spolia_store::Store::get(&store, blob, &mut Vec::new()).unwrap().is_some(), "{blob}");
    }
}
