//! Outputs that are moved into place instead of copied: only where nobody can see the difference.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use spolia_core::{RelPath, Tree};
use spolia_store::tree::{
    FolderSource, MaterialiseError, MaterialiseOptions, Materialised, describe, sweep_stages,
};
use spolia_store::{DigestCache, Place, is_right, materialise};
use spolia_testing::Random;
use spolia_testing::process::{rerun, role};

fn rel(raw: &str) -> RelPath {
    RelPath::new(raw).unwrap()
}

struct Fixture {
    temp: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["out", "project"] {
            fs::create_dir(temp.path().join(folder)).unwrap();
        }
        Self { temp }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.temp.path().join("out").join(name)
    }

    fn published(&self, name: &str) -> PathBuf {
        self.temp.path().join("project/dist").join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.out(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn describe(&self, declared: &[&str]) -> Tree {
        let declared: Vec<_> = declared.iter().map(|path| rel(path)).collect();
        describe(&self.temp.path().join("out"), &declared, None).unwrap()
    }

    fn publish(&self, tree: &Tree, exact: bool) -> Result<Materialised, MaterialiseError> {
        let fresh = FolderSource::new(&self.temp.path().join("out"), tree).unwrap();
        let root = self.temp.path().join("project");
        let options = MaterialiseOptions { exact, giver: Some(&fresh), ..MaterialiseOptions::default() };
        materialise(tree, &fresh, Place { root: &root, at: &rel("dist") }, options)
    }

    fn is_right(&self, tree: &Tree) -> bool {
        let cache = DigestCache::load(&self.temp.path().join("no-such-cache"));
        let root = self.temp.path().join("project");
        is_right(tree, Place { root: &root, at: &rel("dist") }, &cache, true)
    }

    fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.temp.path().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn files_are_moved_whichever_way_they_are_published() {
    for exact in [true, false] {
        for declared in [&["a"][..], &["a", "deep/b"], &["deep"]] {
            let f = Fixture::new();
            f.write("a", "1");
            f.write("deep/b", "2");
            f.write("deep/same as b", "2");
            let tree = f.describe(declared);
            let before: Vec<_> =
                tree.files().map(|(path, ..)| inode(&f.out(path.to_string().as_str()))).collect();
            let done = f.publish(&tree, exact).unwrap();
            assert_eq!(done.files_written, tree.files().count() as u64);
            assert!(f.is_right(&tree));
            let after: Vec<_> =
                tree.files().map(|(path, ..)| inode(&f.published(path.to_string().as_str()))).collect();
            assert_eq!(before, after, "{declared:?}, exact {exact}: not moved");
            assert_eq!(f.names_in("project"), ["dist"]);
            // What is right already stays the same file, and what is made again is moved alone.
            f.write("a", "changed");
            f.write("deep/b", "2");
            f.write("deep/same as b", "2");
            let again = f.describe(declared);
            let done = f.publish(&again, exact).unwrap();
            assert_eq!(done.files_written, u64::from(declared.contains(&"a")));
            assert!(f.is_right(&again));
        }
    }
}

#[test]
fn files_that_are_not_as_new_ones_would_be_are_copied() {
    for exact in [true, false] {
        for mode in [0o600, 0o444, 0o4755, 0o666, 0o777] {
            let f = Fixture::new();
            let path = f.write("a", "1");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let before = inode(&path);
            let tree = f.describe(&["a"]);
            f.publish(&tree, exact).unwrap();
            assert!(f.is_right(&tree));
            assert_ne!(inode(&f.published("a")), before, "mode {mode:o}");
            assert!(path.exists());
            let published = fs::metadata(f.published("a")).unwrap().mode() & 0o7777;
            assert_eq!(published & !0o111, 0o644, "mode {mode:o} became {published:o}");
        }
        // A link to a source must not become the output: who writes to one would write to the other.
        let f = Fixture::new();
        let source = f.temp.path().join("project/source");
        fs::write(&source, "mine").unwrap();
        fs::hard_link(&source, f.out("a")).unwrap();
        let tree = f.describe(&["a"]);
        f.publish(&tree, exact).unwrap();
        assert_ne!(inode(&f.published("a")), inode(&source));
    }
}

#[test]
fn what_was_changed_since_it_was_described_is_not_published() {
    for exact in [true, false] {
        for changed in ["10", "2", ""] {
            let f = Fixture::new();
            f.write("a", "1");
            f.write("b", "stays");
            let tree = f.describe(&["a", "b"]);
            f.write("a", changed);
            let error = f.publish(&tree, exact).unwrap_err();
            assert!(error.is_miss(), "{error}");
            assert!(!f.published("a").exists() && !f.published("b").exists());
            // What had been staged is where it was, for whoever tries again.
            assert_eq!(fs::read_to_string(f.out("b")).unwrap(), "stays");
            f.write("a", "1");
            f.publish(&tree, exact).unwrap();
            assert!(f.is_right(&tree));
        }
    }
}

#[test]
fn neither_links_nor_folders_in_the_way_are_written_through() {
    let f = Fixture::new();
    fs::write(f.temp.path().join("project/mine"), "mine").unwrap();
    fs::create_dir(f.temp.path().join("project/dist")).unwrap();
    symlink("../mine", f.published("a")).unwrap();
    f.write("a", "1");
    let tree = f.describe(&["a"]);
    f.publish(&tree, false).unwrap();
    assert!(f.is_right(&tree));
    assert_eq!(fs::read_to_string(f.temp.path().join("project/mine")).unwrap(), "mine");

    fs::remove_file(f.published("a")).unwrap();
    fs::create_dir(f.published("a")).unwrap();
    fs::write(f.published("a/mine"), "mine").unwrap();
    f.write("a", "1");
    let error = f.publish(&tree, false).unwrap_err();
    assert!(matches!(error, MaterialiseError::FolderInTheWay { .. }), "{error}");
    assert_eq!(fs::read_to_string(f.out("a")).unwrap(), "1", "it is lost");
    assert_eq!(fs::read_to_string(f.published("a/mine")).unwrap(), "mine");
}

fn write_versions(folder: &Path, version: &str) -> Tree {
    let out = folder.join(format!("out-{version}"));
    fs::create_dir_all(out.join("d")).unwrap();
    for number in 0..12 {
        fs::write(out.join(format!("d/{number}")), format!("{version} {number}").repeat(500)).unwrap();
    }
    describe(&out, &[rel("d")], None).unwrap()
}

fn publish_until_killed(folder: &Path) {
    let mut parent = std::io::stdout();
    parent.write_all(b"\nworking\n").unwrap();
    parent.flush().unwrap();
    loop {
        for version in ["one", "two"] {
            let tree = write_versions(folder, version);
            let fresh = FolderSource::new(&folder.join(format!("out-{version}")), &tree).unwrap();
            let options =
                MaterialiseOptions { exact: true, giver: Some(&fresh), ..MaterialiseOptions::default() };
            materialise(&tree, &fresh, Place { root: folder, at: &rel("dist") }, options).unwrap();
        }
    }
}

#[test]
fn a_kill_while_outputs_are_moved_leaves_one_whole_tree() {
    let name = "a_kill_while_outputs_are_moved_leaves_one_whole_tree";
    if let Some(folder) = role() {
        return publish_until_killed(Path::new(&folder));
    }
    let temp = tempfile::tempdir().unwrap();
    let models = tempfile::tempdir().unwrap();
    let trees = ["one", "two"].map(|version| write_versions(models.path(), version));
    let mut random = Random::new(23);
    for round in 0..15 {
        let mut child = rerun(name, temp.path().to_str().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("working")));
        std::thread::sleep(Duration::from_millis(random.below(40)));
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = DigestCache::load(&temp.path().join("no-such-cache"));
        let place = Place { root: temp.path(), at: &rel("dist") };
        let whole = trees.iter().any(|tree| is_right(tree, place, &cache, true));
        assert!(whole || !temp.path().join("dist").exists(), "round {round} of seed 23: a mixture");
        sweep_stages(temp.path());
        let left = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
        for name in left {
            let name = name.into_string().unwrap();
            assert!(["dist", "out-one", "out-two"].contains(&name.as_str()), "round {round}: {name} is left");
        }
    }
}

#[test]
fn what_is_known_of_an_output_is_known_of_it_where_it_was_moved() {
    let f = Fixture::new();
    let digests = DigestCache::load(&f.temp.path().join("no-such-cache"));
    digests.add_clock(f.temp.path());
    let publish = |tree: &Tree| {
        let fresh = FolderSource::new(&f.temp.path().join("out"), tree).unwrap();
        let root = f.temp.path().join("project");
        let options = MaterialiseOptions {
            giver: Some(&fresh),
            digests: Some(&digests),
            ..MaterialiseOptions::default()
        };
        materialise(tree, &fresh, Place { root: &root, at: &rel("dist") }, options)
    };
    let known = |path: &Path| {
        digests.lookup(&spolia_store::StatKey::of_metadata(&fs::symlink_metadata(path).unwrap()))
    };
    f.write("a", "the same");
    let written = inode(&f.out("a"));
    let tree = describe(&f.temp.path().join("out"), &[rel("a")], Some(&digests)).unwrap();
    // Only where the file system tells changes apart; then the new name is no reason to read it again.
    let at_once = known(&f.out("a"));
    publish(&tree).unwrap();
    assert_eq!(inode(&f.published("a")), written);
    assert_eq!(known(&f.published("a")), at_once);
    // Written again after it was described: what the cache knew is not believed.
    f.write("a", "a change");
    let tree = describe(&f.temp.path().join("out"), &[rel("a")], Some(&digests)).unwrap();
    f.write("a", "another!");
    assert!(publish(&tree).is_err());
    assert_eq!(fs::read(f.published("a")).unwrap(), b"the same");
}

#[test]
fn a_folder_that_holds_just_the_outputs_is_moved_as_it_is() {
    let whole = |f: &Fixture| {
        f.write("a", "1");
        f.write("deep/er/b", "2");
        fs::create_dir_all(f.out("empty/in it")).unwrap();
        f.describe(&["a", "deep", "empty"])
    };
    type Change = fn(&Fixture);
    // What keeps the folder where it is; the outputs are moved one by one then.
    let others: [(&str, Change); 6] = [
        ("nothing", |_| {}),
        ("another file", |f| drop(f.write("deep/er/more", "3"))),
        ("another folder", |f| fs::create_dir(f.out("more")).unwrap()),
        ("a folder of another mode", |f| {
            fs::set_permissions(f.out("deep"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("a mode of its own", |f| {
            fs::set_permissions(f.out(""), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("a folder in the place of another file", |f| {
            fs::remove_dir(f.out("empty/in it")).unwrap();
            f.write("empty/in it", "a file");
        }),
    ];
    for exact in [true, false] {
        for (what, change) in others {
            let f = Fixture::new();
            let tree = whole(&f);
            change(&f);
            let (folder, file) = (inode(&f.out("")), inode(&f.out("deep/er/b")));
            let done = f.publish(&tree, exact).unwrap();
            assert_eq!((done.files_written, done.bytes_written), (2, 2), "{what}");
            assert!(f.is_right(&tree), "{what}");
            let moved = inode(&f.published("")) == folder;
            assert_eq!(moved, what == "nothing", "{what}, exact {exact}");
            assert_eq!(f.out("").exists(), !moved, "{what}");
            assert_eq!(inode(&f.published("deep/er/b")), file, "{what}: it was copied");
            assert_eq!(f.names_in("project"), ["dist"]);
        }
        // A link is made again, and a file of another mode as well.
        let f = Fixture::new();
        f.write("a", "1");
        symlink("a", f.out("link")).unwrap();
        let tree = f.describe(&["a", "link"]);
        f.publish(&tree, exact).unwrap();
        assert!(f.is_right(&tree) && f.out("").exists());
        // Where something stands already, nothing is moved over it.
        let f = Fixture::new();
        let tree = whole(&f);
        fs::create_dir(f.published("")).unwrap();
        f.publish(&tree, exact).unwrap();
        assert!(f.is_right(&tree) && f.out("").exists());
    }
}
