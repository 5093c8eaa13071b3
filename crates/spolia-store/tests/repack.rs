//! Packing again: smaller files, the same contents, and nothing that a reader or a collection notices.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use spolia_core::Digest;
use spolia_store::repack::{Repacked, repack};
use spolia_store::verify::verify;
use spolia_store::{Entry, LocalOptions, LocalStore, Put, Store, StoreError, size};
use spolia_testing::Random;

const NOW_US: u64 = 1_700_000_000_000_000;

fn store(folder: &Path) -> LocalStore {
    LocalStore::open(folder, LocalOptions::default()).unwrap()
}

/// Out of a small set of pieces of five bytes: too short for the fastest level to find again, and not for higher ones.
/// Letters alone, so that the fastest level packs it as well.
fn pieces(seed: u64, count: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut letters = || (0..5).map(|_| b'a' + random.below(16) as u8).collect::<Vec<u8>>();
    let set: Vec<Vec<u8>> = (0..300).map(|_| letters()).collect();
    let mut random = Random::new(seed + 1000);
    (0..count).flat_map(|_| set[random.below(300) as usize].clone()).collect()
}

fn put(store: &LocalStore, content: &[u8]) -> Entry {
    let entry = Entry::blob(Digest::blake3(content));
    if content.len() < 4096 {
        assert!(matches!(store.put(entry, &mut &*content).unwrap(), Put::Stored { .. }));
        return entry;
    }
    // By hand, since nothing is packed where the file system shares bytes between files.
    let path = file_of(store.dir(), entry);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, zstd::bulk::compress(content, 1).unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    entry
}

fn read(store: &LocalStore, entry: Entry) -> Result<Vec<u8>, StoreError> {
    let mut content = Vec::new();
    store.get(entry, &mut content).map(|found| {
        assert_eq!(found, Some(content.len() as u64));
        content
    })
}

fn file_of(folder: &Path, entry: Entry) -> PathBuf {
    let hex = entry.digest.to_hex();
    folder.join("v1/blob").join(&hex[..2]).join(format!("{hex}.zst"))
}

fn again(store: &LocalStore, level: i32, dry_run: bool) -> Repacked {
    repack(store, level, dry_run, NOW_US, &mut |_, _| true).unwrap().unwrap()
}

#[test]
fn blobs_become_smaller_and_stay_what_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    // Short enough to be unpacked at once, and too long for that; and one that packs as a stream.
    let contents = [pieces(1, 10_000), pieces(2, 60_000), pieces(3, 900_000)];
    let entries: Vec<Entry> = contents.iter().map(|content| put(&store, content)).collect();
    let plain = put(&store, b"too short to be packed");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for entry in &entries {
        fs::File::open(file_of(temp.path(), *entry)).unwrap().set_modified(old).unwrap();
    }
    let sizes = |entries: &[Entry]| -> Vec<u64> {
        entries.iter().map(|entry| fs::metadata(file_of(temp.path(), *entry)).unwrap().len()).collect()
    };
    let before = sizes(&entries);
    size::set(&store, 10_000_000, NOW_US).unwrap();

    let would = again(&store, 9, true);
    assert_eq!((sizes(&entries), would.smaller, would.blobs), (before.clone(), 3, 3));
    let done = again(&store, 9, false);
    assert_eq!(done, would);
    let after = sizes(&entries);
    assert_eq!((done.bytes_before, done.bytes_after), (before.iter().sum(), after.iter().sum()));
    assert!(before.iter().zip(&after).all(|(before, after)| after < before), "{before:?} {after:?}");
    assert_eq!(size::read(&store).unwrap().bytes(), 10_000_000 - done.saved_bytes());

    for (entry, content) in entries.iter().zip(&contents) {
        assert_eq!(read(&store, *entry).unwrap(), *content);
        assert!(store.has(*entry).unwrap());
        let file = fs::metadata(file_of(temp.path(), *entry)).unwrap();
        assert_eq!(file.modified().unwrap(), old);
        assert_eq!(file.mode() & 0o222, 0, "it became writable");
        // The mark is at the end, and whoever reads zstd reads past it.
        let raw = fs::read(file_of(temp.path(), *entry)).unwrap();
        assert_eq!(raw[raw.len() - 12..], *b"\x5a\x2a\x4d\x18\x04\0\0\0spo\x09");
        assert_eq!(zstd::stream::decode_all(&raw[..]).unwrap(), *content);
    }
    assert_eq!(read(&store, plain).unwrap(), b"too short to be packed");
    assert_eq!(verify(&store, false, NOW_US).unwrap().damaged, []);
    assert_eq!(names_in(&temp.path().join("v1/tmp")), Vec::<String>::new());

    // Once is enough; a higher level is another try.
    let inodes = || entries.iter().map(|entry| fs::metadata(file_of(temp.path(), *entry)).unwrap().ino());
    let kept: Vec<u64> = inodes().collect();
    let done = again(&store, 9, false);
    assert_eq!((done.done_before, done.smaller), (3, 0));
    assert_eq!(again(&store, 5, false).done_before, 3);
    assert_eq!(inodes().collect::<Vec<_>>(), kept);
    let done = again(&store, 15, false);
    assert_eq!(done.done_before, 0);
    for (entry, content) in entries.iter().zip(&contents) {
        assert_eq!(read(&store, *entry).unwrap(), *content);
        assert!(
            fs::metadata(file_of(temp.path(), *entry)).unwrap().len()
                <= before.iter().copied().max().unwrap()
        );
    }
    assert_eq!(again(&store, 15, false).done_before, 3);
}

#[test]
fn what_does_not_get_smaller_is_kept_and_marked() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let content = vec![b'x'; 40_000];
    let entry = put(&store, &content);
    let before = fs::read(file_of(temp.path(), entry)).unwrap();
    let done = again(&store, 9, false);
    assert_eq!((done.smaller, done.damaged), (0, 0));
    let after = fs::read(file_of(temp.path(), entry)).unwrap();
    assert!(after.len() <= before.len() + 12);
    assert_eq!(read(&store, entry).unwrap(), content);
    assert_eq!(again(&store, 9, false).done_before, 1);
}

#[test]
fn damage_is_counted_and_left_for_whoever_reads_it() {
    for damage in ["flip", "cut", "empty", "mark alone", "another content"] {
        let temp = tempfile::tempdir().unwrap();
        let store = store(temp.path());
        let content = pieces(7, 20_000);
        let (entry, sound) = (put(&store, &content), put(&store, &pieces(8, 5_000)));
        let path = file_of(temp.path(), entry);
        let mut raw = fs::read(&path).unwrap();
        match damage {
            "flip" => {
                let middle = raw.len() / 2;
                raw[middle] ^= 4;
            }
            "cut" => raw.truncate(raw.len() / 2),
            "empty" => raw.clear(),
            "mark alone" => raw = b"\x5a\x2a\x4d\x18\x04\0\0\0spo\x01".to_vec(),
            _ => raw = zstd::bulk::compress(b"something else", 1).unwrap(),
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, &raw).unwrap();
        let done = again(&store, 9, false);
        assert_eq!((done.damaged, done.smaller), (1, 1), "{damage}");
        assert_eq!(fs::read(&path).unwrap(), raw, "{damage}: it was changed");
        assert!(!matches!(store.get(entry, &mut std::io::sink()), Ok(Some(_))), "{damage}");
        assert!(read(&store, sound).is_ok());
    }
}

#[test]
fn it_stops_where_it_is_told_to_and_leaves_a_collection_alone() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    for seed in 0..4 {
        put(&store, &pieces(seed, 5_000));
    }
    let done = repack(&store, 9, false, NOW_US, &mut |done, of| {
        assert_eq!(of, 4);
        done < 2
    });
    assert_eq!(done.unwrap().unwrap().smaller, 2);
    let lock = spolia_store::KeyLock::acquire(&temp.path().join("v1/locks/gc"), &mut |_| false).unwrap();
    assert_eq!(repack(&store, 9, false, NOW_US, &mut |_, _| true).unwrap(), None);
    drop(lock);
    assert_eq!(again(&store, 9, false).done_before, 2);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
