//! The journal, last uses, the size book and collections, on a real store.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use spolia_core::event::{Event, EventKind, Summary};
use spolia_core::{ActionKey, ActionResult, Cost, Digest, Node, RelPath, Tree};
use spolia_store::gc::{self, Policy};
use spolia_store::journal::{self, JournalWriter, RunFilter, RunId};
use spolia_store::verify::verify;
use spolia_store::{Entry, LocalOptions, LocalStore, Put, Space, Store, size, uses};

const NOW_US: u64 = 1_700_000_000_000_000;
const DAY_US: u64 = 86_400_000_000;

struct Fixture {
    _temp: tempfile::TempDir,
    store: LocalStore,
}

fn fixture() -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    let store = LocalStore::open(temp.path(), LocalOptions::default()).unwrap();
    Fixture { _temp: temp, store }
}

fn event(seq: u64, message: &str) -> Event {
    let kind = EventKind::Warning { message: message.to_owned(), hint: None };
    Event { at_us: NOW_US, seq, kind }
}

fn runs(store: &LocalStore, filter: &RunFilter) -> Vec<journal::Run> {
    let mut runs = Vec::new();
    journal::read_runs(store, filter, &mut |run| runs.push(run)).unwrap();
    runs
}

#[test]
fn a_run_is_recorded_and_read_back() {
    let f = fixture();
    let id = RunId::new(NOW_US);
    let mut writer = JournalWriter::new(&f.store, &id);
    writer.flush().unwrap();
    assert!(!writer.path().exists(), "nothing to say, nothing made");
    let events = [
        event(0, "a\nb"),
        Event {
            at_us: 1,
            seq: 1,
            kind: EventKind::RunFinished { summary: Summary::default(), exit_code: 0 },
        },
    ];
    writer.append(&events[0]).unwrap();
    assert!(!writer.path().exists());
    writer.flush().unwrap();
    assert_eq!(fs::read_to_string(writer.path()).unwrap().lines().count(), 1);
    writer.append(&events[1]).unwrap();
    drop(writer);
    let found = runs(&f.store, &RunFilter::default());
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].id, &found[0].events[..], found[0].unreadable_lines), (&id, &events[..], 0));
    assert!(found[0].path.ends_with(format!("v1/journal/20231114/{id}.jsonl")));
}

#[test]
fn a_torn_or_foreign_line_is_counted_and_the_rest_is_read() {
    let f = fixture();
    let id = RunId::new(NOW_US);
    let mut writer = JournalWriter::new(&f.store, &id);
    writer.append(&event(0, "first")).unwrap();
    writer.flush().unwrap();
    let mut file = File::options().append(true).open(writer.path()).unwrap();
    file.write_all(b"{\"kind\":\"from the future\"}\n\xff\xfe\n").unwrap();
    writer.append(&event(1, "second")).unwrap();
    writer.flush().unwrap();
    let whole = fs::read(writer.path()).unwrap();
    for cut in 1..20 {
        fs::write(writer.path(), &whole[..whole.len() - cut]).unwrap();
        let run = runs(&f.store, &RunFilter::default()).remove(0);
        assert_eq!((run.events.len(), run.unreadable_lines), (1, 3), "{cut} bytes cut");
    }
    assert_eq!(verify(&f.store, false, 0).unwrap().damaged.len(), 1);
}

#[test]
fn runs_are_filtered_by_day_and_number() {
    let f = fixture();
    let mut ids = Vec::new();
    for day in 0..5u64 {
        for run in 0..2u64 {
            let id = RunId::new(NOW_US + day * DAY_US + run);
            let mut writer = JournalWriter::new(&f.store, &id);
            writer.append(&event(0, "x")).unwrap();
            ids.push(id);
        }
    }
    fs::write(f.store.base().join("journal/20231114/notes.txt"), "not a run").unwrap();
    let check =
        |from: Option<&str>, to: Option<&str>, newest: Option<usize>, expect: std::ops::Range<usize>| {
            let filter =
                RunFilter { from_day: from.map(str::to_owned), to_day: to.map(str::to_owned), newest };
            let found: Vec<RunId> = runs(&f.store, &filter).into_iter().map(|run| run.id).collect();
            assert_eq!(found, ids[expect], "{filter:?}");
        };
    check(None, None, None, 0..10);
    check(Some("20231116"), None, None, 4..10);
    check(None, Some("20231116"), None, 0..6);
    check(Some("20231116"), Some("20231116"), None, 4..6);
    check(None, None, Some(3), 7..10);
    check(None, Some("20231116"), Some(1), 5..6);
}

#[test]
fn the_size_is_known_from_the_start_or_once_it_was_counted() {
    let f = fixture();
    size::add(&f.store, 7).unwrap();
    let known = size::read(&f.store).unwrap();
    assert_eq!((known.bytes(), known.counted_bytes), (7, 0));
    // Of a store that lost it nothing is known.
    fs::remove_file(f.store.base().join("size")).unwrap();
    size::add(&f.store, 100).unwrap();
    let again = LocalStore::open(f.store.dir(), LocalOptions::default()).unwrap();
    assert_eq!(size::read(&again), None);
    size::set(&f.store, 1000, NOW_US).unwrap();
    size::add(&f.store, 100).unwrap();
    size::add(&f.store, 0).unwrap();
    size::add(&f.store, 11).unwrap();
    let known = size::read(&f.store).unwrap();
    assert_eq!((known.bytes(), known.counted_bytes, known.counted_at_us), (1111, 1000, NOW_US));
    fs::write(f.store.base().join("size"), "spolia size 1\ncounted many\n").unwrap();
    assert_eq!(size::read(&f.store), None);
}

fn key(name: &str) -> ActionKey {
    ActionKey(Digest::blake3(name.as_bytes()))
}

#[test]
fn uses_are_written_once_a_day_for_one_set() {
    let f = fixture();
    let keys = [key("a"), key("b")];
    let run = |n: u64| RunId::new(NOW_US + n);
    let stamp = uses::record(&f.store, &run(0), &keys, NOW_US, None).unwrap().unwrap();
    let again =
        |keys: &[ActionKey], now: u64| uses::record(&f.store, &run(now), keys, now, Some(&stamp)).unwrap();
    assert_eq!(again(&[key("b"), key("a"), key("a")], NOW_US + 5), None, "the same set");
    assert!(again(&[key("a")], NOW_US + 5).is_some(), "another set");
    assert!(again(&keys, NOW_US + DAY_US).is_some(), "a day later");
    assert!(again(&keys, NOW_US - 5).is_some(), "the clock was set back");
    assert_eq!(again(&[], NOW_US), None, "nothing was used");
    let known = uses::load(&f.store).unwrap();
    assert_eq!((known.of(&key("a")), known.of(&key("c"))), (Some(NOW_US + DAY_US), None));
    uses::merge(&f.store, &known, &|kept| *kept == key("a")).unwrap();
    assert_eq!(fs::read_dir(f.store.base().join("uses")).unwrap().count(), 1);
    let merged = uses::load(&f.store).unwrap();
    assert_eq!((merged.of(&key("a")), merged.of(&key("b"))), (Some(NOW_US + DAY_US), None));
}

/// A result named `name` with one output of its own and one that all share.
fn store_result(store: &LocalStore, name: &str) -> ActionKey {
    let own = name.repeat(700).into_bytes();
    let mut nodes = Vec::new();
    for (path, content) in [("own", own.as_slice()), ("shared", b"shared")] {
        let digest = Digest::blake3(content);
        store.put_bytes(Entry::blob(digest), content).unwrap();
        let node = Node::File { digest, size: content.len() as u64, executable: false };
        nodes.push((RelPath::new(path).unwrap(), node));
    }
    let result = ActionResult {
        outputs: Tree::new(nodes).unwrap(),
        log: None,
        cost: Cost::default(),
        missing: Vec::new(),
        finished_at_us: 0,
    };
    let key = key(name);
    store.put_bytes(Entry::action(key), b"{}").unwrap();
    store.put_bytes(Entry::result(key), &serde_json::to_vec(&result).unwrap()).unwrap();
    key
}

/// Makes every entry of the store so many days old.
fn age(store: &LocalStore, days: u64) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_micros(now_us() - days * DAY_US);
    for space in ["blob", "result", "action"] {
        for shard in fs::read_dir(store.base().join(space)).unwrap().flatten() {
            for file in fs::read_dir(shard.path()).unwrap().flatten() {
                set_time(&file.path(), then);
            }
        }
    }
}

fn set_time(path: &Path, then: SystemTime) {
    File::open(path).unwrap().set_modified(then).unwrap();
}

fn now_us() -> u64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec as u64 * 1_000_000
}

#[test]
fn a_collection_keeps_what_was_used_and_leaves_no_torn_result() {
    let f = fixture();
    let names: Vec<String> = (0..10).map(|n| format!("result{n}")).collect();
    let keys: Vec<ActionKey> = names.iter().map(|name| store_result(&f.store, name)).collect();
    age(&f.store, 30);
    uses::record(&f.store, &RunId::new(now_us()), &keys[..3], now_us(), None).unwrap();
    let policy = Policy { max_age: Some(Duration::from_secs(7 * 86_400)), ..Policy::default() };

    let dry = gc::collect(&f.store, &policy, now_us(), true).unwrap().unwrap();
    assert_eq!((dry.removed, dry.plan.removals.len()), (0, 7 * 3), "result, action and own blob of each");
    assert!(keys.iter().all(|key| f.store.has(Entry::result(*key)).unwrap()), "a dry run removes nothing");
    assert!(gc::due(&f.store, now_us()));

    let done = gc::collect(&f.store, &policy, now_us(), false).unwrap().unwrap();
    assert_eq!((done.removed, done.plan), (21, dry.plan));
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(f.store.has(Entry::result(*key)).unwrap(), number < 3, "{number}");
        assert_eq!(f.store.has(Entry::action(*key)).unwrap(), number < 3, "{number}");
    }
    let report = verify(&f.store, false, 0).unwrap();
    assert_eq!((report.damaged, report.results, report.blobs), (Vec::new(), 3, 4));
    assert_eq!(size::read(&f.store).unwrap().bytes(), report.bytes);
    assert!(!gc::due(&f.store, now_us()));
    assert!(gc::due(&f.store, now_us() + DAY_US));
    let again = gc::collect(&f.store, &policy, now_us(), false).unwrap().unwrap();
    assert_eq!(again.removed, 0, "what was used is remembered by the merged file");
}

#[test]
fn a_collection_sees_what_is_being_published_as_new() {
    let f = fixture();
    store_result(&f.store, "old");
    age(&f.store, 30);
    // Another build comes by the same bytes: the blob is there, and its result is not written yet.
    let content = "old".repeat(700).into_bytes();
    let put = f.store.put_bytes(Entry::blob(Digest::blake3(&content)), &content).unwrap();
    assert_eq!(put, Put::Present);
    let policy = Policy { max_bytes: Some(0), ..Policy::default() };
    gc::collect(&f.store, &policy, now_us(), false).unwrap();
    assert!(!f.store.has(Entry::result(key("old"))).unwrap());
    assert!(f.store.has(Entry::blob(Digest::blake3(&content))).unwrap(), "it was put again");
    assert!(!f.store.has(Entry::blob(Digest::blake3(b"shared"))).unwrap());
}

#[test]
fn leftovers_are_swept_and_what_is_in_use_is_not() {
    let f = fixture();
    store_result(&f.store, "x");
    let base = f.store.base().to_owned();
    let old = SystemTime::UNIX_EPOCH + Duration::from_micros(now_us() - 500 * DAY_US);
    for (folder, name, is_old) in [
        ("tmp", "strange", true),
        ("tmp", "0-1-x-2", false),
        ("locks", "old", true),
        ("locks", "new", false),
        ("locks", "keys", true),
        ("digests", "old", true),
        ("digests", "new", false),
        // Of earlier versions.
        ("cc/trail", "abc", false),
        ("", "memo-1", false),
        ("", "memo-2", true),
    ] {
        let path = base.join(folder).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        if is_old {
            set_time(&path, old);
        }
    }
    let held = spolia_store::KeyLock::acquire(&base.join("locks/held"), &mut |_| false).unwrap().unwrap();
    set_time(&base.join("locks/held"), old);
    for run in [RunId::new(now_us() - 500 * DAY_US), RunId::new(now_us())] {
        JournalWriter::new(&f.store, &run).append(&event(0, "x")).unwrap();
    }
    let report = gc::collect(&f.store, &Policy::default(), now_us(), false).unwrap().unwrap();
    assert_eq!(report.swept, 6);
    assert!(!base.join("cc/trail").exists() && !base.join("memo-1").exists());
    assert!(base.join("memo-2").exists());
    let left = |folder: &str| {
        let mut names: Vec<_> =
            fs::read_dir(base.join(folder)).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(left("tmp"), ["0-1-x-2"]);
    assert_eq!(left("locks"), ["held", "keys", "new"]);
    assert_eq!(left("digests"), ["new"]);
    assert_eq!(left("journal").len(), 1);
    drop(held);
}

#[test]
fn one_collection_at_a_time() {
    let f = fixture();
    let lock = f.store.base().join("locks/gc");
    let held = spolia_store::KeyLock::acquire(&lock, &mut |_| false).unwrap().unwrap();
    assert_eq!(gc::collect(&f.store, &Policy::default(), now_us(), false).unwrap(), None);
    drop(held);
    assert!(gc::collect(&f.store, &Policy::default(), now_us(), false).unwrap().is_some());
}

#[test]
fn clearing_all_or_some() {
    let f = fixture();
    let keys = [store_result(&f.store, "a"), store_result(&f.store, "b")];
    assert_eq!(gc::clear(&f.store, Some(&HashSet::from([keys[0]]))).unwrap().0, 2);
    assert!(!f.store.has(Entry::result(keys[0])).unwrap() && f.store.has(Entry::result(keys[1])).unwrap());
    let (removed, bytes) = gc::clear(&f.store, None).unwrap();
    assert!(removed == 5 && bytes > 0);
    for space in [Space::Blob, Space::Result, Space::Action] {
        f.store.list(space, &mut |info| panic!("{} is left", info.entry)).unwrap();
    }
}
