//! The store after crashes: a simulated one at every step of every operation, with lost writes, and real
//! ones of real processes. A failure names its seed.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spolia_core::{Digest, RelPath};
use spolia_store::gc::{self, Policy};
use spolia_store::tree::{MaterialiseOptions, Place, capture, is_right, materialise, sweep_stages};
use spolia_store::verify::verify;
use spolia_store::{DigestCache, Entry, KeyLock, LocalOptions, LocalStore, Put, Space, Store, StoreError};
use spolia_testing::process::{mount_small, rerun, rerun_with_own_mounts, role, skip};
use spolia_testing::{CrashPlan, Random, lose_writes};

/// What each entry may hold: several versions of a result, the one content of a blob.
type Allowed = HashMap<Entry, Vec<Vec<u8>>>;

fn blob(content: &[u8]) -> Entry {
    Entry::blob(Digest::blake3(content))
}

fn result(name: &str) -> Entry {
    Entry { space: Space::Result, digest: Digest::blake3(name.as_bytes()) }
}

/// What was there before the operation that crashes.
fn before() -> Vec<(Entry, Vec<u8>)> {
    let mut random = Random::new(42);
    let small = random.bytes(3_000);
    let large = random.bytes(1_100_000);
    vec![(blob(&small), small), (blob(&large), large), (result("r"), b"version 1".to_vec())]
}

/// Every way to write or remove, after which an entry is whole or not there.
fn operation(number: usize) -> Option<(&'static str, Entry, Vec<u8>)> {
    let mut random = Random::new(number as u64);
    let operation = match number {
        0 => ("put a short blob", blob(b"short"), b"short".to_vec()),
        1 => {
            let content = b"packs well ".repeat(9_000);
            ("put a blob that is packed", blob(&content), content)
        }
        2 => {
            let content = random.bytes(1_200_000);
            ("put a long blob", blob(&content), content)
        }
        3 => {
            let content = b"packs well and long ".repeat(60_000);
            ("put a long blob that is packed", blob(&content), content)
        }
        4 => ("put a result", result("new"), b"{}".repeat(4_000)),
        5 => ("replace a result", result("r"), b"version 2".to_vec()),
        6 => {
            let content = random.bytes(1_100_001);
            ("import a file", blob(&content), content)
        }
        7 => ("remove a result", result("r"), b"version 1".to_vec()),
        8 => ("put what is there", before()[0].0, before()[0].1.clone()),
        _ => return None,
    };
    Some(operation)
}

fn run(store: &LocalStore, number: usize, entry: Entry, content: &[u8]) -> Result<(), StoreError> {
    match number {
        6 => {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, content).unwrap();
            store.import(&file).map(|_| ())
        }
        7 => store.remove(entry).map(|_| ()),
        _ => store.put(entry, &mut &content[..]).map(|_| ()),
    }
}

fn open(folder: &Path, plan: Option<Arc<CrashPlan>>) -> Result<LocalStore, StoreError> {
    let faults = plan.map(|plan| plan as Arc<dyn spolia_store::local::Faults>);
    LocalStore::open(folder, LocalOptions { faults, ..LocalOptions::default() })
}

/// Every entry is one of its allowed contents, absent, or noticed as damaged and gone afterwards.
fn check_readable(store: &LocalStore, allowed: &Allowed, case: &str) -> u64 {
    let mut right = 0;
    for (entry, contents) in allowed {
        let mut found = Vec::new();
        match store.get(*entry, &mut found) {
            Ok(None) => {}
            Ok(Some(_)) => {
                assert!(contents.contains(&found), "{case}: {entry} holds {} wrong bytes", found.len());
                right += 1;
            }
            Err(StoreError::Corrupt { .. }) => {
                let again = store.get(*entry, &mut Vec::new());
                assert!(matches!(again, Ok(None)), "{case}: {entry} is still damaged: {again:?}");
            }
            Err(error) => panic!("{case}: {entry}: {error}: {error:?}"),
        }
    }
    right
}

fn check_heals(store: &LocalStore, allowed: &Allowed, case: &str) {
    for (entry, contents) in allowed {
        for _ in 0..2 {
            store.put(*entry, &mut contents[0].as_slice()).unwrap_or_else(|error| panic!("{case}: {error}"));
            let mut found = Vec::new();
            match store.get(*entry, &mut found) {
                Ok(Some(_)) => {
                    assert!(found == contents[0], "{case}: {entry} was not healed");
                    break;
                }
                // `put` trusted a damaged blob of the right length; reading it removed it.
                Err(StoreError::Corrupt { .. }) => {}
                other => panic!("{case}: {entry}: {other:?}"),
            }
        }
        assert!(store.has(*entry).unwrap(), "{case}: {entry}");
    }
}

#[test]
fn a_crash_at_every_step_with_and_without_lost_writes() {
    let mut crashes = 0;
    let before = before();
    for number in 0.. {
        let Some((what, entry, content)) = operation(number) else { break };
        for at in 0.. {
            let mut crashed = false;
            for seed in 0..4u64 {
                let seed = seed + at * 1000 + number as u64 * 1_000_000;
                let case = format!("seed {seed} ({what}, before step {at})");
                let temp = tempfile::tempdir().unwrap();
                let healthy = open(temp.path(), None).unwrap();
                let mut allowed = Allowed::new();
                for (entry, content) in &before {
                    healthy.put(*entry, &mut content.as_slice()).unwrap();
                    allowed.insert(*entry, vec![content.clone()]);
                }
                allowed.entry(entry).or_default().push(content.clone());
                let plan = Arc::new(CrashPlan::after(at));
                let done = open(temp.path(), Some(plan.clone()))
                    .and_then(|store| run(&store, number, entry, &content));
                crashed = plan.has_crashed();
                assert!(crashed || done.is_ok(), "{case}: {done:?}");
                let mut random = Random::new(seed);
                // The first seed only crashes: then all that was there is still there.
                let lost = if seed.is_multiple_of(4) {
                    Vec::new()
                } else {
                    lose_writes(temp.path(), &mut random, 2)
                };
                let store = open(temp.path(), None).unwrap_or_else(|error| panic!("{case}: {error:?}"));
                if random.one_in(2) || lost.is_empty() {
                    let right = check_readable(&store, &allowed, &case);
                    let removed = u64::from(what == "remove a result");
                    assert!(!lost.is_empty() || right >= before.len() as u64 - removed, "{case}: lost");
                }
                check_heals(&store, &allowed, &case);
                crashes += u64::from(crashed);
            }
            if !crashed {
                assert!(at > 0 || number == 8, "{what} has no steps");
                break;
            }
        }
    }
    assert!(crashes > 120, "only {crashes} crashes were simulated");
}

#[test]
fn a_crash_while_the_store_is_made() {
    for at in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b/store");
        let plan = Arc::new(CrashPlan::after(at));
        let made = open(&folder, Some(plan.clone()));
        assert_eq!(made.is_err(), plan.has_crashed(), "before step {at}");
        lose_writes(temp.path(), &mut Random::new(at), 2);
        let store = open(&folder, None).unwrap_or_else(|error| panic!("before step {at}: {error:?}"));
        store.put_bytes(blob(b"x"), b"x").unwrap();
        assert!(store.is_writable());
        if !plan.has_crashed() {
            assert!(at > 5, "{:?}", plan.seen());
            return;
        }
    }
}

/// Starts this binary's test `name` in `role` and waits until it says that it works.
fn start(name: &str, role: &str) -> Child {
    let mut child = rerun(name, role).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let works = |line: &Result<String, _>| line.as_ref().is_ok_and(|line| line.contains("working"));
    assert!(lines.any(|line| works(&line)), "the child did not start");
    // Its last words need a reader, too.
    std::thread::spawn(move || lines.count());
    child
}

fn say_working() {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    stdout.write_all(b"\nworking\n").unwrap();
    stdout.flush().unwrap();
}

/// The entries that all writers write: blobs of all sizes, and results.
fn shared_entries() -> Vec<(Entry, Vec<u8>)> {
    let mut entries = Vec::new();
    for number in 0..40u64 {
        let length = [10, 5_000, 60_000, 1_200_000][(number % 4) as usize];
        let content = Random::new(number).bytes(length);
        if number % 8 == 0 {
            entries.push((result(&number.to_string()), content));
        } else {
            entries.push((blob(&content), content));
        }
    }
    entries
}

fn write_until_killed(folder: &Path, rounds: u64) {
    let store = open(folder, None).unwrap();
    let entries = shared_entries();
    let mut random = Random::new(u64::from(std::process::id()));
    say_working();
    for _ in 0..rounds {
        let (entry, content) = &entries[random.below(entries.len() as u64) as usize];
        let lock = store.lock(&entry.digest, &mut |_| true).unwrap().unwrap();
        match random.below(3) {
            0 => drop(store.remove(*entry).unwrap()),
            _ => drop(store.put(*entry, &mut content.as_slice()).unwrap()),
        }
        drop(lock);
        let mut found = Vec::new();
        if store.get(*entry, &mut found).unwrap().is_some() {
            assert!(found == *content);
        }
    }
}

#[test]
fn writers_that_are_killed_leave_nothing_wrong() {
    let name = "writers_that_are_killed_leave_nothing_wrong";
    if let Some(folder) = role() {
        return write_until_killed(Path::new(&folder), u64::MAX);
    }
    let temp = tempfile::tempdir().unwrap();
    let mut random = Random::new(11);
    for round in 0..12 {
        let mut children: Vec<Child> = (0..3).map(|_| start(name, temp.path().to_str().unwrap())).collect();
        std::thread::sleep(Duration::from_millis(random.below(60)));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let store = open(temp.path(), None).unwrap();
        let report = verify(&store, false, 0).unwrap();
        let damaged: Vec<_> = report
            .damaged
            .iter()
            // The results of this test are random bytes.
            .filter(|damage| !matches!(damage, spolia_store::verify::Damage::NotAResult { .. }))
            .collect();
        assert!(damaged.is_empty(), "round {round}: {damaged:?}");
        assert!(report.blobs > 0);
        for (entry, _) in shared_entries() {
            assert!(
                store.lock(&entry.digest, &mut |_| false).unwrap().is_some(),
                "a dead process holds a lock"
            );
        }
        // What they were writing is swept at once, since they can be seen to be gone.
        gc::collect(&store, &Policy::default(), now_us(), false).unwrap().unwrap();
        assert_eq!(fs::read_dir(store.base().join("tmp")).unwrap().count(), 0, "round {round}");
    }
}

fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec as u64 * 1_000_000
}

#[test]
fn many_processes_write_and_remove_the_same_keys() {
    let name = "many_processes_write_and_remove_the_same_keys";
    if let Some(folder) = role() {
        return write_until_killed(Path::new(&folder), 150);
    }
    let temp = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..4).map(|_| start(name, temp.path().to_str().unwrap())).collect();
    // Collections and verifications go on meanwhile.
    let store = open(temp.path(), None).unwrap();
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        gc::collect(&store, &Policy::default(), now_us(), false).unwrap();
        for damage in verify(&store, false, 0).unwrap().damaged {
            assert!(matches!(damage, spolia_store::verify::Damage::NotAResult { .. }), "{damage}");
        }
    }
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "a writer failed");
    }
    let locks = fs::read_dir(store.base().join("locks")).unwrap();
    assert_eq!(locks.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["keys"]);
    assert_eq!(fs::read_dir(store.base().join("tmp")).unwrap().count(), 0);
}

fn restore_until_killed(folder: &Path) {
    let store = open(&folder.join("store"), None).unwrap();
    let one = capture(&folder.join("one"), &[RelPath::new("d").unwrap()], &store, None).unwrap().tree;
    let two = capture(&folder.join("two"), &[RelPath::new("d").unwrap()], &store, None).unwrap().tree;
    say_working();
    let at = RelPath::new("out/x").unwrap();
    let exact = MaterialiseOptions { exact: true, ..MaterialiseOptions::default() };
    loop {
        for tree in [&one, &two] {
            materialise(tree, &store, Place { root: folder, at: &at }, exact).unwrap();
        }
    }
}

#[test]
fn a_restore_that_is_killed_leaves_one_whole_tree_and_no_stage() {
    let name = "a_restore_that_is_killed_leaves_one_whole_tree_and_no_stage";
    if let Some(folder) = role() {
        return restore_until_killed(Path::new(&folder));
    }
    let temp = tempfile::tempdir().unwrap();
    let write = |tree: &str, file: u64, content: &str| {
        let path: PathBuf = temp.path().join(tree).join("d").join(format!("{}/{file}", file % 5));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for file in 0..60 {
        write("one", file, &format!("one {}", if file % 3 == 0 { 0 } else { file }));
        write("two", file, &if file % 4 == 0 { format!("two {file}") } else { format!("one {file}") });
    }
    let store = open(&temp.path().join("store"), None).unwrap();
    let d = RelPath::new("d").unwrap();
    let one = capture(&temp.path().join("one"), std::slice::from_ref(&d), &store, None).unwrap().tree;
    let two = capture(&temp.path().join("two"), &[d], &store, None).unwrap().tree;
    let at = RelPath::new("out/x").unwrap();
    let place = Place { root: temp.path(), at: &at };
    let digests = DigestCache::load(&temp.path().join("none"));
    let mut random = Random::new(5);
    for round in 0..15 {
        let mut child = start(name, temp.path().to_str().unwrap());
        std::thread::sleep(Duration::from_millis(random.below(30)));
        child.kill().unwrap();
        child.wait().unwrap();
        let there = temp.path().join("out/x").exists();
        let whole = is_right(&one, place, &digests, true) || is_right(&two, place, &digests, true);
        assert!(whole || !there, "round {round}: half a tree");
        sweep_stages(&temp.path().join("out"));
        let left: Vec<_> = fs::read_dir(temp.path().join("out"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "x")
            .collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}

#[test]
fn two_builds_restore_the_same_place_at_once() {
    let name = "two_builds_restore_the_same_place_at_once";
    if let Some(folder) = role() {
        let folder = Path::new(&folder);
        let store = open(&folder.join("store"), None).unwrap();
        let d = RelPath::new("d").unwrap();
        let tree = capture(&folder.join("one"), &[d], &store, None).unwrap().tree;
        say_working();
        let at = RelPath::new("out/x").unwrap();
        for round in 0..40 {
            let options = MaterialiseOptions { exact: round % 2 == 0, ..MaterialiseOptions::default() };
            materialise(&tree, &store, Place { root: folder, at: &at }, options).unwrap();
            // Deleting an output while another build writes it is what a user may do.
            let _raced = fs::remove_file(folder.join("out/x/d/3"));
        }
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("one/d")).unwrap();
    for file in 0..30 {
        fs::write(temp.path().join(format!("one/d/{file}")), file.to_string()).unwrap();
    }
    let mut children: Vec<Child> = (0..3).map(|_| start(name, temp.path().to_str().unwrap())).collect();
    // So is deleting all of it, in the midst of anything. It is not done for ever: a build ends nowhere while
    // somebody deletes faster than it writes.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(8));
        let _raced = fs::remove_dir_all(temp.path().join("out/x"));
    }
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "a build failed");
    }
    // One may have been written to by another build while it was being removed: the next one sweeps it.
    sweep_stages(&temp.path().join("out"));
    let left: Vec<_> =
        fs::read_dir(temp.path().join("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "x"), "a stage was left: {left:?}");
}

#[test]
fn a_full_disk_is_said_and_leaves_no_rest() {
    let name = "a_full_disk_is_said_and_leaves_no_rest";
    if let Some(folder) = role() {
        let folder = Path::new(&folder);
        mount_small(folder, 1 << 20);
        return fill(folder);
    }
    let temp = tempfile::tempdir().unwrap();
    let Some(mut command) = rerun_with_own_mounts(name, temp.path().to_str().unwrap()) else { return };
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && text.contains("cannot mount") {
        return skip(name, "this system mounts nothing for ordinary users");
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn fill(folder: &Path) {
    let store = open(&folder.join("store"), None).unwrap();
    let mut stored = Vec::new();
    let mut random = Random::new(3);
    let error = loop {
        // Of all lengths, so that it is full in the middle of a short one, a long one and a result.
        let content: Vec<u8> = (0..random.below(90_000)).map(|_| random.number() as u8).collect();
        match store.put(blob(&content), &mut content.as_slice()) {
            Ok(Put::Stored { .. }) => stored.push((blob(&content), content)),
            Ok(Put::Present) => panic!("random content twice"),
            Err(error) => break error,
        }
    };
    assert!(error.is_full(), "{error:?}");
    let long: Vec<u8> = (0..1_200_000).map(|_| random.number() as u8).collect();
    let packs = b"0123456789".repeat(4_000_000);
    for (entry, content) in [(blob(&long), &long), (result("r"), &long), (blob(&packs), &packs)] {
        match store.put(entry, &mut content.as_slice()) {
            Err(error) => assert!(error.is_full(), "{error:?}"),
            // Packed it may still fit.
            Ok(_) => assert!(content.len() == packs.len()),
        }
    }
    assert_eq!(fs::read_dir(store.base().join("tmp")).unwrap().count(), 0, "a rest was left");
    let allowed: Allowed = stored.iter().map(|(entry, content)| (*entry, vec![content.clone()])).collect();
    assert_eq!(check_readable(&store, &allowed, "full disk"), stored.len() as u64);

    // A destination that is full is no fault of the store, and stays as it was.
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("big"), &long).unwrap();
    let elsewhere = open(&source.path().join("store"), None).unwrap();
    let tree = capture(source.path(), &[RelPath::new("big").unwrap()], &elsewhere, None).unwrap().tree;
    for exact in [true, false] {
        let options = MaterialiseOptions { exact, ..MaterialiseOptions::default() };
        let at = RelPath::new("dest").unwrap();
        let error = materialise(&tree, &elsewhere, Place { root: folder, at: &at }, options).unwrap_err();
        assert!(error.is_full() && !error.is_miss(), "{error:?}");
    }
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "store" || name == "dest"), "{left:?}");

    // With room again all goes on.
    for (entry, _) in &stored {
        store.remove(*entry).unwrap();
    }
    store.put(stored[0].0, &mut stored[0].1.as_slice()).unwrap();
    assert_eq!(check_readable(&store, &allowed, "room again"), 1);
}

fn a_lock_in_a_file_of_locks(
    path: &str,
    wait: &mut dyn FnMut(spolia_store::Waiting) -> bool,
) -> Option<spolia_store::Lock> {
    let locks = spolia_store::LockFile::new(Path::new(path).with_extension("many"));
    locks.acquire(&Digest::blake3(b"name"), spolia_store::Hold::Alone, wait).unwrap()
}

#[test]
fn a_lock_ends_with_its_holder() {
    let name = "a_lock_ends_with_its_holder";
    if let Some(path) = role() {
        let _lock = KeyLock::acquire(Path::new(&path), &mut |_| false).unwrap().unwrap();
        let _one = a_lock_in_a_file_of_locks(&path, &mut |_| false).unwrap();
        say_working();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("lock");
    let mut child = start(name, path.to_str().unwrap());
    let mut told = Vec::new();
    let mut tell = |waiting: spolia_store::Waiting| {
        told.push(waiting.holder);
        false
    };
    assert!(KeyLock::acquire(&path, &mut tell).unwrap().is_none());
    assert!(a_lock_in_a_file_of_locks(path.to_str().unwrap(), &mut tell).is_none());
    assert_eq!(told, [Some(child.id()); 2]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(KeyLock::acquire(&path, &mut |_| false).unwrap().is_some());
    assert!(a_lock_in_a_file_of_locks(path.to_str().unwrap(), &mut |_| false).is_some());
}
