//! Cache mounts in a collection: counted, collected by use, and never one that is in use. And pins, and builds
//! that run.

use std::path::PathBuf;
use std::time::Duration;

use spolia_core::event::{EventKind, Summary};
use spolia_core::{Digest, Event};
use spolia_store::gc::{self, Policy};
use spolia_store::{JournalWriter, KeyLock, LocalOptions, LocalStore, RunId, journal, mounts, pins};

const NOW_US: u64 = 4_000_000_000_000_000;

fn store(temp: &tempfile::TempDir) -> LocalStore {
    LocalStore::open(&temp.path().join("store"), LocalOptions::default()).unwrap()
}

fn mount(store: &LocalStore, name: &str, bytes: usize) -> PathBuf {
    let folder = store.base().join("mounts/owner").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), vec![0; bytes]).unwrap();
    mounts::note_use(&folder);
    folder
}

fn collect(store: &LocalStore, max_bytes: u64) -> gc::GcReport {
    // Everything that was written now is long ago then.
    let policy = Policy { max_bytes: Some(max_bytes), ..Policy::default() };
    gc::collect(store, &policy, NOW_US, false).unwrap().unwrap()
}

#[test]
fn mounts_are_counted_and_those_in_use_stay() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&temp);
    let (free, shared, alone) =
        (mount(&store, "free", 1000), mount(&store, "shared", 100), mount(&store, "alone", 10));
    let one = mounts::share(&shared, &mut |_| false).unwrap().unwrap();
    let two = mounts::share(&shared, &mut |_| false).unwrap().unwrap();
    let lock = KeyLock::acquire(&mounts::lock_path(&alone), &mut |_| false).unwrap().unwrap();
    let report = collect(&store, 0);
    assert_eq!((report.plan.mounts.len(), report.plan.bytes_before), (3, 1110));
    assert_eq!((report.removed_mounts, report.removed_bytes), (1, 1000));
    assert!(!free.exists() && shared.exists() && alone.exists());
    drop(one);
    assert_eq!(collect(&store, 0).removed_mounts, 0, "another still uses it");
    drop((two, lock));
    assert_eq!(collect(&store, 0).removed_mounts, 2);
    assert!(!shared.exists() && !alone.exists());
}

#[test]
fn a_mount_that_is_used_again_since_it_was_listed_stays() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&temp);
    let folder = mount(&store, "m", 10);
    let mut listed = mounts::list(&store).unwrap();
    let listed = listed.pop().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    mounts::note_use(&folder);
    assert!(!listed.remove());
    assert!(folder.exists());
    assert!(mounts::list(&store).unwrap()[0].remove());
    let left: Vec<_> = std::fs::read_dir(folder.parent().unwrap()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_link_in_the_place_of_a_mount_is_no_mount() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&temp);
    let outside = temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "x").unwrap();
    std::fs::create_dir_all(store.base().join("mounts/owner")).unwrap();
    std::os::unix::fs::symlink(&outside, store.base().join("mounts/owner/link")).unwrap();
    let real = mount(&store, "real", 10);
    std::os::unix::fs::symlink(&outside, real.join("inner")).unwrap();
    collect(&store, 0);
    assert!(outside.join("kept").exists() && !real.exists());
}

#[test]
fn pins_are_written_and_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&temp);
    assert!(pins::read(&store).is_empty());
    let keys = [b"a", b"b"].map(|name| spolia_core::ActionKey(Digest::blake3(name))).into_iter().collect();
    pins::write(&store, &keys).unwrap();
    assert_eq!(pins::read(&store), keys);
    std::fs::write(store.base().join("pins"), "no key\n").unwrap();
    assert!(pins::read(&store).is_empty());
}

#[test]
fn a_run_without_an_end_whose_process_lives_is_running() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&temp);
    let run = |at_us: u64, pid: u32, ended: bool| {
        let made = RunId::new(at_us);
        let text = made.as_str().replace(&format!("-{}-", std::process::id()), &format!("-{pid}-"));
        let run = RunId::parse(&text).unwrap();
        assert_eq!(run.process(), Some(pid));
        let mut writer = JournalWriter::new(&store, &run);
        let event = |kind| Event { at_us, seq: 0, kind };
        writer.append(&event(EventKind::Healed { what: "x".to_owned() })).unwrap();
        if ended {
            let end = EventKind::RunFinished { summary: Summary::default(), exit_code: 0 };
            writer.append(&event(end)).unwrap();
        }
        writer.flush().unwrap();
    };
    run(1_700_000_000_000_000, 7, false);
    run(1_700_000_000_000_001, 8, false);
    run(1_700_000_000_000_002, 7, true);
    run(1_700_000_000_000_003, std::process::id(), false);
    let running = journal::running(&store, &|pid| pid != 8).unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].process(), Some(7));
}
