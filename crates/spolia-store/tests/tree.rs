//! Capture and materialise on a real disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use spolia_core::{Digest, Node, RelPath, Tree};
use spolia_store::tree::{
    CaptureError, Captured, FolderSource, MaterialiseError, MaterialiseOptions, Materialised, Place, Wrong,
    capture, describe, is_right, materialise,
};
use spolia_store::{DigestCache, Entry, LocalOptions, LocalStore, Store};

struct Fixture {
    temp: tempfile::TempDir,
    store: LocalStore,
}

fn rel(raw: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(raw).unwrap()
}

const EXACT: MaterialiseOptions<'static> =
    MaterialiseOptions { exact: true, digests: None, previous: None, giver: None };
const AMONG: MaterialiseOptions<'static> =
    MaterialiseOptions { exact: false, digests: None, previous: None, giver: None };

impl Fixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&temp.path().join("store"), LocalOptions::default()).unwrap();
        Self { temp, store }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn capture(&self, declared: &[&str]) -> Result<Captured, CaptureError> {
        let declared: Vec<_> = declared.iter().map(rel).collect();
        capture(&self.path("out"), &declared, &self.store, None)
    }

    fn restore(
        &self,
        tree: &Tree,
        at: &str,
        options: MaterialiseOptions<'_>,
    ) -> Result<Materialised, MaterialiseError> {
        let at = rel(at);
        materialise(tree, &self.store, Place { root: self.temp.path(), at: &at }, options)
    }

    fn right(&self, tree: &Tree, at: &str, nothing_else: bool) -> bool {
        let cache = DigestCache::load(&self.path("no-such-cache"));
        is_right(tree, Place { root: self.temp.path(), at: &rel(at) }, &cache, nothing_else)
    }

    /// No stage is left anywhere.
    fn check_clean(&self) {
        let mut folders = vec![self.temp.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name();
                assert!(!name.to_string_lossy().starts_with(".spolia-stage"), "{:?}", entry.path());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        assert_eq!(fs::read_dir(self.store.base().join("tmp")).unwrap().count(), 0);
    }
}

fn everything(f: &Fixture) -> Tree {
    f.write("out/bin/tool", "#!/bin/sh\n");
    fs::set_permissions(f.path("out/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    f.write("out/lib/a b\nc", &"long ".repeat(10_000));
    fs::write(f.path("out/lib").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    fs::create_dir_all(f.path("out/lib/empty/deeper")).unwrap();
    f.write("out/zero", "");
    symlink("../bin/tool", f.path("out/lib/link")).unwrap();
    symlink("loop", f.path("out/lib/loop")).unwrap();
    f.capture(&["bin/tool", "lib", "zero"]).unwrap().tree
}

#[test]
fn everything_round_trips() {
    let f = Fixture::new();
    let tree = everything(&f);
    for (at, options) in [("exact", EXACT), ("deep/among", AMONG)] {
        let done = f.restore(&tree, at, options).unwrap();
        assert_eq!(done.files_written, 4);
        assert!(f.right(&tree, at, true), "{at}");
        let tool = fs::metadata(f.path(at).join("bin/tool")).unwrap();
        assert_eq!(tool.mode() & 0o111, 0o111);
        assert_eq!(fs::read(f.path(at).join("lib").join(OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"x");
        assert!(f.path(at).join("lib/empty/deeper").is_dir());
        assert_eq!(fs::read_link(f.path(at).join("lib/link")).unwrap(), Path::new("../bin/tool"));
        let again = f.restore(&tree, at, options).unwrap();
        assert_eq!((again.files_written, again.already_right), (0, tree.entries().len() as u64));
        let back = capture(&f.path(at), &[rel("bin/tool"), rel("lib"), rel("zero")], &f.store, None).unwrap();
        assert_eq!(back.tree, tree);
        assert_eq!(back.stored_bytes, 0);
    }
    f.check_clean();
}

#[test]
fn undeclared_files_are_not_captured() {
    let f = Fixture::new();
    f.write("out/a", "1");
    f.write("out/b", "2");
    let tree = f.capture(&["a"]).unwrap().tree;
    assert_eq!(tree.entries().len(), 1);
    let all = capture(&f.path("out"), &[RelPath::root()], &f.store, None).unwrap().tree;
    assert_eq!(all.entries().len(), 2);
}

#[test]
fn all_absent_outputs_are_named_at_once() {
    let f = Fixture::new();
    f.write("out/a", "1");
    match f.capture(&["a", "b", "c/d", "a/x"]).unwrap_err() {
        CaptureError::Absent { paths } => assert_eq!(paths, [rel("b"), rel("c/d"), rel("a/x")]),
        other => panic!("{other}"),
    }
}

#[test]
fn links_out_and_special_files_are_refused_by_name() {
    let f = Fixture::new();
    f.write("secret", "s");
    f.write("out/d/a", "1");
    let check = |name: &str, target: &str| {
        let path = f.path("out").join(name);
        symlink(target, &path).unwrap();
        let error = f.capture(&["d"]).unwrap_err();
        assert!(matches!(&error, CaptureError::LinksOut { path, .. } if *path == rel(name)), "{error}");
        fs::remove_file(path).unwrap();
    };
    check("d/absolute", "/etc/passwd");
    check("d/up", "../../secret");
    // A declared output behind a link is not looked for there.
    symlink("d", f.path("out/e")).unwrap();
    let error = f.capture(&["e/a"]).unwrap_err();
    assert!(matches!(&error, CaptureError::BehindLink { link, .. } if *link == rel("e")), "{error}");
    rustix::fs::mkfifoat(rustix::fs::CWD, f.path("out/d/pipe"), rustix::fs::Mode::RWXU).unwrap();
    let error = f.capture(&["d"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the output `d/pipe` is a named pipe; only files, folders and symlinks can be stored"
    );
    let listener = std::os::unix::net::UnixListener::bind(f.path("out/sock")).unwrap();
    assert!(f.capture(&["sock"]).unwrap_err().to_string().contains("is a socket"));
    drop(listener);
}

#[test]
fn exact_removes_what_else_is_there_and_among_others_does_not() {
    let f = Fixture::new();
    f.write("out/d/a", "1");
    f.write("out/d/b", "2");
    let tree = f.capture(&["d"]).unwrap().tree;
    for (at, options, left) in [("exact", EXACT, false), ("among", AMONG, true)] {
        f.restore(&tree, at, options).unwrap();
        let foreign = f.write(&format!("{at}/d/foreign"), "mine");
        f.write(&format!("{at}/else/where"), "mine");
        assert!(f.right(&tree, at, false) && !f.right(&tree, at, true));
        fs::remove_file(f.path(at).join("d/a")).unwrap();
        let done = f.restore(&tree, at, options).unwrap();
        assert_eq!(done.healed, [(rel("d/a"), Wrong::Missing)]);
        assert_eq!(foreign.exists(), left);
        assert_eq!(f.path(at).join("else").exists(), left);
        assert_eq!(f.right(&tree, at, true), !left);
    }
    f.check_clean();
}

#[test]
fn every_kind_of_damage_is_put_right() {
    let f = Fixture::new();
    let tree = everything(&f);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 10] = [
        ("deleted", |at| fs::remove_file(at.join("bin/tool")).unwrap()),
        ("flipped", |at| fs::write(at.join("bin/tool"), "#!/bin/xx\n").unwrap()),
        ("truncated", |at| fs::write(at.join("bin/tool"), "").unwrap()),
        ("not executable", |at| chmod(&at.join("bin/tool"), 0o644)),
        ("executable", |at| chmod(&at.join("zero"), 0o755)),
        ("unreadable", |at| chmod(&at.join("zero"), 0)),
        ("link changed", |at| {
            fs::remove_file(at.join("lib/link")).unwrap();
            symlink("/etc/passwd", at.join("lib/link")).unwrap();
        }),
        ("empty folder in place of a file", |at| {
            fs::remove_file(at.join("zero")).unwrap();
            fs::create_dir(at.join("zero")).unwrap();
        }),
        ("file in place of a folder", |at| {
            fs::remove_dir_all(at.join("lib")).unwrap();
            fs::write(at.join("lib"), "x").unwrap();
        }),
        ("all gone", |at| fs::remove_dir_all(at).unwrap()),
    ];
    for (at, options) in [("exact", EXACT), ("among", AMONG)] {
        f.restore(&tree, at, options).unwrap();
        for (what, damage) in damages {
            damage(&f.path(at));
            assert!(!f.right(&tree, at, false), "{at}: {what} goes unnoticed");
            f.restore(&tree, at, options).unwrap_or_else(|error| panic!("{at}: {what}: {error}"));
            assert!(f.right(&tree, at, true), "{at}: {what} was not put right");
        }
    }
    f.check_clean();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_with_foreign_files_is_not_replaced_by_an_output() {
    let f = Fixture::new();
    f.write("out/a", "1");
    let tree = f.capture(&["a"]).unwrap().tree;
    let foreign = f.write("among/a/mine", "mine");
    let error = f.restore(&tree, "among", AMONG).unwrap_err();
    assert!(matches!(error, MaterialiseError::FolderInTheWay { .. }), "{error}");
    assert!(foreign.exists());
    f.write("exact/a/mine", "mine");
    f.restore(&tree, "exact", EXACT).unwrap();
    assert!(f.right(&tree, "exact", true));
    f.check_clean();
}

#[test]
fn no_symlink_leads_the_writing_out_of_the_root() {
    let f = Fixture::new();
    f.write("out/d/a", "1");
    f.write("out/d/b", "1");
    let tree = f.capture(&["d"]).unwrap().tree;
    fs::create_dir_all(f.path("victim/d")).unwrap();
    // On the way to the destination, as the destination, and inside it.
    for (link, at) in [("way", "way/in"), ("dest", "dest"), ("inside/d", "inside")] {
        fs::create_dir_all(f.path(link).parent().unwrap()).unwrap();
        symlink(f.path("victim"), f.path(link)).unwrap();
        let error = f.restore(&tree, at, AMONG).unwrap_err();
        assert!(matches!(error, MaterialiseError::LinkInTheWay { .. }), "{at}: {error}");
    }
    let error = f.restore(&tree, "way/in", EXACT).unwrap_err();
    assert!(matches!(error, MaterialiseError::LinkInTheWay { .. }), "{error}");
    // Inside a folder that is ours alone, the link is replaced and not followed.
    for at in ["dest", "inside"] {
        f.restore(&tree, at, EXACT).unwrap();
        assert!(f.right(&tree, at, true));
        assert!(fs::symlink_metadata(f.path(at).join("d")).unwrap().is_dir());
    }
    let left: Vec<_> = fs::read_dir(f.path("victim")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["d"]);
    assert_eq!(fs::read_dir(f.path("victim/d")).unwrap().count(), 0);
}

#[test]
fn a_tree_with_a_link_out_is_refused_and_is_a_miss() {
    let f = Fixture::new();
    let tree = Tree::new(vec![(rel("a"), Node::Symlink { target: b"../../etc".to_vec() })]).unwrap();
    let error = f.restore(&tree, "x", EXACT).unwrap_err();
    assert!(matches!(error, MaterialiseError::LinksOut { .. }) && error.is_miss());
    assert!(!f.path("x").exists());
}

#[test]
fn a_lost_or_damaged_blob_leaves_the_destination_alone_and_is_a_miss() {
    let f = Fixture::new();
    f.write("out/d/a", "one");
    f.write("out/d/b", "two");
    let old = f.capture(&["d"]).unwrap().tree;
    f.write("out/d/a", "three");
    f.write("out/d/b", "four");
    let new = f.capture(&["d"]).unwrap().tree;
    let blob = Entry::blob(Digest::blake3(b"four"));
    let hex = blob.digest.to_hex();
    let file = f.store.base().join("blob").join(&hex[..2]).join(&hex);
    for (at, options) in [("exact", EXACT), ("among", AMONG)] {
        f.store.put_bytes(blob, b"four").unwrap();
        f.restore(&old, at, options).unwrap();
        chmod(&file, 0o644);
        fs::write(&file, "f0ur").unwrap();
        let error = f.restore(&new, at, options).unwrap_err();
        assert!(matches!(&error, MaterialiseError::Damaged { path, .. } if *path == rel("d/b")), "{error}");
        assert!(error.is_miss());
        assert!(!f.store.has(blob).unwrap(), "the damaged blob is out of the way");
        let error = f.restore(&new, at, options).unwrap_err();
        assert!(matches!(&error, MaterialiseError::Gone { path, .. } if *path == rel("d/b")), "{error}");
        assert!(f.right(&old, at, true), "{at} was touched");
    }
    f.check_clean();
}

#[test]
fn what_the_last_result_left_behind_goes_unless_someone_changed_it() {
    let f = Fixture::new();
    f.write("out/d/old", "1");
    f.write("out/d/changed", "1");
    f.write("out/gone/x", "1");
    let old = f.capture(&["d", "gone"]).unwrap().tree;
    fs::remove_dir_all(f.path("out")).unwrap();
    f.write("out/d/new", "2");
    let new = f.capture(&["d"]).unwrap().tree;
    f.restore(&old, "to", AMONG).unwrap();
    f.write("to/d/changed", "by hand");
    f.write("to/mine", "mine");
    let done = f.restore(&new, "to", MaterialiseOptions { previous: Some(&old), ..AMONG }).unwrap();
    assert_eq!(done.removed, [rel("d/old"), rel("gone/x")]);
    assert!(f.path("to/d/changed").exists() && f.path("to/mine").exists() && f.path("to/d/new").exists());
    assert!(!f.path("to/d/old").exists() && !f.path("to/gone").exists());
}

#[test]
fn a_folder_of_5000_files_round_trips_and_one_lost_file_touches_no_other() {
    let f = Fixture::new();
    for n in 0..5000 {
        f.write(&format!("out/d/{}/{n}", n % 50), &n.to_string());
    }
    let tree = f.capture(&["d"]).unwrap().tree;
    assert_eq!(f.restore(&tree, "exact", EXACT).unwrap().files_written, 5000);
    let ctime = |path: &str| fs::metadata(f.path(path)).unwrap().ctime_nsec();
    let before = ctime("exact/d/7/7");
    fs::remove_file(f.path("exact/d/8/8")).unwrap();
    assert_eq!(f.restore(&tree, "exact", EXACT).unwrap().files_written, 1);
    assert_eq!(ctime("exact/d/7/7"), before);
    assert!(f.right(&tree, "exact", true));
}

#[test]
fn outputs_that_no_store_took_are_published_from_where_they_stand() {
    let f = Fixture::new();
    let stored = everything(&f);
    let declared = [rel("bin/tool"), rel("lib"), rel("zero")];
    let tree = describe(&f.path("out"), &declared, None).unwrap();
    assert_eq!(tree, stored);
    let source = FolderSource::new(&f.path("out"), &tree).unwrap();
    let at = rel("published");
    let place = Place { root: f.temp.path(), at: &at };
    materialise(&tree, &source, place, EXACT).unwrap();
    assert!(f.right(&tree, "published", true));

    fs::write(f.path("out/bin/tool"), "#!/bin/xx\n").unwrap();
    fs::remove_dir_all(f.path("published")).unwrap();
    let error = materialise(&tree, &source, place, EXACT).unwrap_err();
    assert!(matches!(&error, MaterialiseError::Damaged { path, .. } if *path == rel("bin/tool")), "{error}");
    assert!(!f.path("published").exists());
    spolia_testing::read_only_suite(&source, b"x");
}

#[test]
fn what_is_no_tree_is_a_miss_and_writes_nothing() {
    let f = Fixture::new();
    let digest = Digest::blake3(b"x");
    f.store.put_bytes(Entry::blob(digest), b"x").unwrap();
    let entry = |path: &str, node: &str| format!("[\"{path}\",{node}]");
    let file = format!("{{\"file\":{{\"digest\":\"{digest}\",\"size\":1}}}}");
    let link = |target: &str| format!("{{\"symlink\":{{\"target\":\"{target}\"}}}}");
    for entries in [
        // Through a link that it brings along.
        [entry("a", &link("b")), entry("a/x", &file)].join(","),
        [entry("a", &file), entry("a/x", &file)].join(","),
        [entry("a", &file), entry("a", &file)].join(","),
        entry("a", &link("")),
        entry("a", &link("x\\x00y")).replace("\\x00", "\\\\x00"),
        entry("", &file),
    ] {
        let Ok(tree) = serde_json::from_str::<Tree>(&format!("{{\"entries\":[{entries}]}}")) else {
            panic!("{entries} is no JSON of a tree");
        };
        for options in [EXACT, AMONG] {
            let error = f.restore(&tree, "x", options).unwrap_err();
            assert!(
                matches!(error, MaterialiseError::NotATree { .. }) && error.is_miss(),
                "{entries}: {error}"
            );
        }
    }
    assert!(!f.path("x").exists());
    let empty = Tree::default();
    let root = Place { root: f.temp.path(), at: &RelPath::root() };
    assert!(materialise(&empty, &f.store, root, EXACT).is_err(), "the root is nobody's alone");
    assert!(f.path("store").exists());
}
