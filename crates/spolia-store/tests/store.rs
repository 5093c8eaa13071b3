//! The suite on every store of this crate, and what only the local one has to stand.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spolia_core::{ActionKey, ActionResult, Cost, Digest, Node, RelPath, Tree};
use spolia_store::decorate::{Checked, ReadOnly, Tier, copy};
use spolia_store::local::{Compression, FORMAT_VERSION};
use spolia_store::verify::{Damage, verify};
use spolia_store::{Entry, LocalOptions, LocalStore, Put, Space, Store, StoreError};
use spolia_testing::process::{is_root, rerun_as_nobody, role, skip};
use spolia_testing::{FaultyStore, MemoryStore, Random, read_only_suite, store_suite};

fn open(folder: &Path) -> LocalStore {
    LocalStore::open(folder, LocalOptions::default()).unwrap()
}

/// A store that lives as long as its folder.
struct Temporary {
    _folder: tempfile::TempDir,
    store: LocalStore,
}

fn temporary(compression: Compression) -> Temporary {
    let folder = tempfile::tempdir().unwrap();
    let options = LocalOptions { compression, ..LocalOptions::default() };
    let store = LocalStore::open(&folder.path().join("deep/store"), options).unwrap();
    Temporary { _folder: folder, store }
}

impl std::ops::Deref for Temporary {
    type Target = LocalStore;
    fn deref(&self) -> &LocalStore {
        &self.store
    }
}

fn file_of(store: &LocalStore, entry: Entry) -> PathBuf {
    let space = match entry.space {
        Space::Blob => "blob",
        Space::Result => "result",
        Space::Action => "action",
    };
    let hex = entry.digest.to_hex();
    let plain = store.base().join(space).join(&hex[..2]).join(&hex);
    if plain.exists() { plain } else { plain.with_extension("zst") }
}

fn get(store: &dyn Store, entry: Entry) -> Result<Option<Vec<u8>>, StoreError> {
    let mut content = Vec::new();
    Ok(store.get(entry, &mut content)?.map(|_| content))
}

fn overwrite(path: &Path, content: &[u8]) {
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

#[test]
fn suite_local() {
    let kept = std::cell::RefCell::new(Vec::new());
    store_suite(|| {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        kept.borrow_mut().push(folder);
        store
    });
}

#[test]
fn suite_local_without_compression() {
    let kept = std::cell::RefCell::new(Vec::new());
    store_suite(|| {
        let folder = tempfile::tempdir().unwrap();
        let options = LocalOptions { compression: Compression::Never, ..LocalOptions::default() };
        let store = LocalStore::open(folder.path(), options).unwrap();
        kept.borrow_mut().push(folder);
        store
    });
}

#[test]
fn suite_memory() {
    store_suite(MemoryStore::new);
}

#[test]
fn suite_decorated() {
    store_suite(|| Checked(MemoryStore::new()));
    store_suite(|| Arc::new(MemoryStore::new()));
    store_suite(|| Tier::new(vec![Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())]));
    // A store without faults behind the one that makes them.
    store_suite(|| FaultyStore::new(MemoryStore::new(), 1, u64::MAX));
}

#[test]
fn suite_tier_over_a_read_only_upper_store() {
    store_suite(|| Tier::new(vec![Arc::new(MemoryStore::new()), Arc::new(ReadOnly(MemoryStore::new()))]));
}

#[test]
fn read_only_decorator() {
    let inner = MemoryStore::new();
    inner.put(Entry::blob(Digest::blake3(b"there")), &mut &b"there"[..]).unwrap();
    read_only_suite(&ReadOnly(&inner), b"there");
}

#[test]
fn a_tier_brings_near_what_is_far_and_outlives_damage() {
    let (near, far) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let tier = Tier::new(vec![near.clone(), far.clone()]);
    let content = Random::new(3).bytes(300_000);
    let blob = Entry::blob(Digest::blake3(&content));
    let result = Entry { space: Space::Result, ..blob };
    far.put(blob, &mut content.as_slice()).unwrap();
    far.put(result, &mut &b"payload"[..]).unwrap();
    assert_eq!(get(&tier, blob).unwrap(), Some(content.clone()));
    assert_eq!(get(&tier, result).unwrap().unwrap(), b"payload");
    assert!(near.has(blob).unwrap() && near.has(result).unwrap());
    near.damage(blob, |bytes| bytes[7] ^= 1);
    assert_eq!(get(&tier, blob).unwrap(), Some(content.clone()), "the far one is right");
    assert_eq!(get(&*near, blob).unwrap(), Some(content), "and the near one is healed");
    far.damage(blob, |bytes| bytes[7] ^= 1);
    near.remove(blob).unwrap();
    assert!(matches!(get(&tier, blob), Err(StoreError::Corrupt { .. })));
    assert!(!near.has(blob).unwrap(), "nothing wrong is brought near");
}

#[test]
fn what_is_put_into_a_tier_reaches_all() {
    let (near, far) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let tier = Tier::new(vec![near.clone(), far.clone()]);
    for space in [Space::Blob, Space::Result] {
        let entry = Entry { space, digest: Digest::blake3(b"x") };
        tier.put(entry, &mut &b"x"[..]).unwrap();
        assert_eq!(get(&*near, entry).unwrap(), get(&*far, entry).unwrap());
    }
    assert_eq!((near.len(), far.len()), (2, 2));
}

#[test]
fn copying_between_stores() {
    let (one, two) = (MemoryStore::new(), temporary(Compression::Auto));
    let content = Random::new(4).bytes(5_000_000);
    let blob = Entry::blob(Digest::blake3(&content));
    assert!(!copy(blob, &one, &*two).unwrap());
    one.put(blob, &mut content.as_slice()).unwrap();
    assert!(copy(blob, &one, &*two).unwrap());
    assert!(copy(blob, &one, &*two).unwrap(), "once more, though the target does not listen");
    assert!(get(&*two, blob).unwrap() == Some(content));
    two.remove(blob).unwrap();
    one.damage(blob, |bytes| bytes.truncate(4_000_000));
    assert!(matches!(copy(blob, &one, &*two), Err(StoreError::Corrupt { .. })));
    assert!(!two.has(blob).unwrap());
}

#[test]
fn a_faulty_store_gives_errors_and_losses_and_never_wrong_bytes() {
    for seed in 0..20 {
        let store = FaultyStore::new(MemoryStore::new(), seed, 4);
        let mut random = Random::new(seed);
        let mut faults = 0;
        for _ in 0..200 {
            let content = Random::new(random.below(10)).bytes(500);
            let blob = Entry::blob(Digest::blake3(&content));
            faults += u64::from(store.put(blob, &mut content.as_slice()).is_err());
            match get(&store, blob) {
                Ok(found) => assert!(found.is_none_or(|found| found == content), "seed {seed}"),
                Err(_) => faults += 1,
            }
        }
        assert!(faults > 20, "seed {seed}: {faults} faults");
    }
}

#[test]
fn what_packs_is_packed_and_what_does_not_is_not() {
    let store = temporary(Compression::Auto);
    // Where bytes can be shared between files nothing is packed, and there is nothing to see here.
    if fs::read_to_string(store.base().join("format")).unwrap().contains("reflink yes") {
        return skip("what_packs_is_packed_and_what_does_not_is_not", "the file system shares bytes");
    }
    let text = b"the same words again and again ".repeat(4000);
    let noise: Vec<u8> = (0..60_000u64).map(|n| Random::new(n).number() as u8).collect();
    let long_text = text.repeat(40);
    let long_noise: Vec<u8> =
        noise.repeat(40).iter().zip(0u64..).map(|(b, n)| b ^ (n / 60_000) as u8).collect();
    for (content, packs) in [(text, true), (noise, false), (long_text, true), (long_noise, false)] {
        let blob = Entry::blob(Digest::blake3(&content));
        let Put::Stored { bytes } = store.put(blob, &mut content.as_slice()).unwrap() else { panic!() };
        let path = file_of(&store, blob);
        assert_eq!(path.extension().is_some(), packs, "{} bytes", content.len());
        assert_eq!(fs::metadata(path).unwrap().len(), bytes);
        assert_eq!(bytes < content.len() as u64 / 2, packs);
        assert!(get(&*store, blob).unwrap() == Some(content));
    }
}

#[test]
fn either_form_of_a_blob_is_read_and_removed() {
    for form in ["plain", "packed", "both"] {
        let store = temporary(Compression::Auto);
        let content = b"some text ".repeat(100);
        let blob = Entry::blob(Digest::blake3(&content));
        store.put(blob, &mut content.as_slice()).unwrap();
        let path = file_of(&store, blob);
        let plain = path.with_extension("");
        fs::remove_file(&path).unwrap();
        if form != "packed" {
            fs::write(&plain, &content).unwrap();
        }
        if form != "plain" {
            // Two frames, as another writer may make them.
            let mut packed = zstd::bulk::compress(&content[..300], 3).unwrap();
            packed.extend(zstd::bulk::compress(&content[300..], 1).unwrap());
            fs::write(plain.with_extension("zst"), packed).unwrap();
        }
        assert!(store.has(blob).unwrap(), "{form}");
        assert_eq!(get(&*store, blob).unwrap().as_deref(), Some(content.as_slice()), "{form}");
        assert!(store.remove(blob).unwrap());
        assert_eq!(get(&*store, blob).unwrap(), None, "{form}");
    }
}

#[test]
fn every_damage_is_noticed_when_it_is_read_and_the_next_put_heals() {
    let text = b"words and words ".repeat(1000);
    let long = Random::new(5).bytes(2_500_000);
    type Change = fn(&Path, &[u8]);
    let changes: [(&str, Change); 9] = [
        ("emptied", |path, _| overwrite(path, b"")),
        ("cut", |path, raw| overwrite(path, &raw[..raw.len() - 1])),
        ("cut in half", |path, raw| overwrite(path, &raw[..raw.len() / 2])),
        ("longer", |path, raw| overwrite(path, &[raw, b"x"].concat())),
        ("first byte", |path, raw| overwrite(path, &flipped(raw, 0))),
        ("middle", |path, raw| overwrite(path, &flipped(raw, raw.len() / 2))),
        ("zeros", |path, raw| overwrite(path, &vec![0; raw.len()])),
        ("a folder", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir_all(path.join("x")).unwrap();
        }),
        ("a symlink", |path, raw| {
            let other = path.with_extension("other");
            fs::write(&other, raw).unwrap();
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(other, path).unwrap();
        }),
    ];
    for content in [&b"short"[..], &text, &long] {
        for space in [Space::Blob, Space::Result, Space::Action] {
            for (what, change) in changes {
                let store = temporary(Compression::Auto);
                let entry = Entry { space, digest: Digest::blake3(content) };
                store.put(entry, &mut &content[..]).unwrap();
                let path = file_of(&store, entry);
                change(&path, &fs::read(&path).unwrap());
                let case = format!("{space:?} of {} bytes, {what}", content.len());
                match get(&*store, entry) {
                    Err(StoreError::Corrupt { entry: named, .. }) => assert_eq!(named, entry, "{case}"),
                    other => panic!("{case}: {:?}", other.map(|found| found.map(|bytes| bytes.len()))),
                }
                assert!(get(&*store, entry).unwrap().is_none(), "{case}: it is out of the way");
                store.put(entry, &mut &content[..]).unwrap();
                assert!(get(&*store, entry).unwrap().as_deref() == Some(content), "{case}: not healed");
            }
        }
    }
}

fn flipped(raw: &[u8], at: usize) -> Vec<u8> {
    let mut raw = raw.to_vec();
    raw[at] ^= 4;
    raw
}

#[test]
fn a_short_or_empty_leftover_is_replaced_by_the_next_put() {
    let store = temporary(Compression::Never);
    let content = b"content that is known".to_vec();
    let blob = Entry::blob(Digest::blake3(&content));
    for left in [&content[..5], b""] {
        store.put(blob, &mut content.as_slice()).unwrap();
        overwrite(&file_of(&store, blob), left);
        assert!(matches!(store.put(blob, &mut content.as_slice()).unwrap(), Put::Stored { .. }));
        assert_eq!(get(&*store, blob).unwrap(), Some(content.clone()));
    }
}

#[test]
fn the_format_file_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let blob = Entry::blob(Digest::blake3(b"x"));
    open(folder.path()).put_bytes(blob, b"x").unwrap();
    let format = folder.path().join("v1/format");
    let text = fs::read_to_string(&format).unwrap();
    assert!(text.starts_with(&format!("spolia store {FORMAT_VERSION}\nreflink ")), "{text}");
    assert!(
        fs::read(folder.path().join("CACHEDIR.TAG")).unwrap().starts_with(b"Signature: 8a477f597d28d172")
    );

    // Every damage of it is healed, and the entries stay.
    for at in 0..text.len() {
        overwrite(&format, &flipped(text.as_bytes(), at));
        assert!(open(folder.path()).has(blob).unwrap(), "flipped at {at}");
        assert_eq!(fs::read_to_string(&format).unwrap(), text, "flipped at {at}");
        overwrite(&format, &text.as_bytes()[..at]);
        assert!(open(folder.path()).has(blob).unwrap(), "cut at {at}");
        assert_eq!(fs::read_to_string(&format).unwrap(), text, "cut at {at}");
    }

    let lines = "spolia store 2\nreflink no\n";
    let sum = &Digest::blake3(lines.as_bytes()).to_hex()[..16];
    overwrite(&format, format!("{lines}sum {sum}\n").as_bytes());
    match LocalStore::open(folder.path(), LocalOptions::default()).map(|_| ()) {
        Err(StoreError::Version { path, found, known }) => {
            assert_eq!((path, found.as_str(), known), (format, "2", FORMAT_VERSION));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_that_is_deleted_under_a_running_build_is_made_again() {
    let store = temporary(Compression::Auto);
    let blob = Entry::blob(Digest::blake3(b"x"));
    store.put_bytes(blob, b"x").unwrap();
    fs::remove_dir_all(store.dir()).unwrap();
    assert!(!store.has(blob).unwrap());
    assert_eq!(get(&*store, blob).unwrap(), None);
    store.put_bytes(blob, b"x").unwrap();
    assert_eq!(get(&*store, blob).unwrap().unwrap(), b"x");
    assert!(open(store.dir()).has(blob).unwrap());
}

#[test]
fn files_are_not_writable_and_folders_are_shared_by_umask() {
    let store = temporary(Compression::Auto);
    let blob = Entry::blob(Digest::blake3(b"x"));
    store.put_bytes(blob, b"x").unwrap();
    assert_eq!(fs::metadata(file_of(&store, blob)).unwrap().mode() & 0o333, 0);
}

#[test]
fn a_file_that_changes_while_it_is_imported_is_stored_under_what_was_stored() {
    let temp = tempfile::tempdir().unwrap();
    let store = temporary(Compression::Auto);
    let path = temp.path().join("file");
    fs::write(&path, Random::new(0).bytes(3_000_000)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut random = Random::new(1);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let bytes = random.bytes(500);
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, random.below(2_999_000)).unwrap();
            }
        });
        for _ in 0..30 {
            let imported = store.import_file(&path).unwrap();
            // `get` compares the bytes with the name.
            let content = get(&*store, Entry::blob(imported.digest)).unwrap().unwrap();
            assert_eq!(content.len() as u64, imported.size);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(verify(&store, false, 0).unwrap().damaged.is_empty());
}

#[test]
fn a_store_without_write_permission_reads_and_refuses() {
    let name = "a_store_without_write_permission_reads_and_refuses";
    if let Some(folder) = role() {
        let folder = Path::new(&folder);
        let store = open(&folder.join("store"));
        read_only_suite(&store, b"there");
        // One that cannot even be made is empty and refuses; the build goes on.
        let nowhere = open(&folder.join("closed/store"));
        assert!(!nowhere.properties().writable);
        assert_eq!(get(&nowhere, Entry::blob(Digest::blake3(b"there"))).unwrap(), None);
        assert!(matches!(
            nowhere.put_bytes(Entry::blob(Digest::blake3(b"x")), b"x"),
            Err(StoreError::ReadOnly { .. })
        ));
        let imported =
            tempfile::tempfile().and_then(|file| store.import(&file).map_err(std::io::Error::other));
        assert!(imported.is_err());
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&temp.path().join("store"));
    store.put_bytes(Entry::blob(Digest::blake3(b"there")), b"there").unwrap();
    fs::create_dir(temp.path().join("closed")).unwrap();
    let mut folders = vec![temp.path().join("store"), temp.path().join("closed")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let output = rerun_as_nobody(name, temp.path().to_str().unwrap(), temp.path()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // So that the folder can be removed by who is not root.
    for folder in ["store/v1/tmp", "store/v1/blob", "store/v1", "store", "closed"] {
        fs::set_permissions(temp.path().join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for shard in fs::read_dir(temp.path().join("store/v1/blob")).unwrap().flatten() {
        fs::set_permissions(shard.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn an_entry_that_may_not_be_read_is_out_of_the_way_and_healed() {
    let name = "an_entry_that_may_not_be_read_is_out_of_the_way_and_healed";
    let temp = tempfile::tempdir().unwrap();
    if is_root() && role().is_none() {
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let folder = temp.path().to_str().unwrap();
        let output = rerun_as_nobody(name, folder, temp.path()).env("TMPDIR", folder).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let store = open(&temp.path().join("store"));
    for space in [Space::Blob, Space::Result] {
        let entry = Entry { space, digest: Digest::blake3(b"x") };
        store.put_bytes(entry, b"x").unwrap();
        fs::set_permissions(file_of(&store, entry), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(matches!(get(&store, entry), Err(StoreError::Corrupt { .. })));
        assert_eq!(get(&store, entry).unwrap(), None);
        store.put_bytes(entry, b"x").unwrap();
        assert_eq!(get(&store, entry).unwrap().unwrap(), b"x");
    }
}

/// A store with a result of two outputs and what it was made of.
fn with_result(store: &LocalStore) -> (ActionKey, Vec<Entry>) {
    let contents = [b"one".to_vec(), b"two ".repeat(5000)];
    let mut nodes = Vec::new();
    let mut blobs = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let digest = Digest::blake3(content);
        store.put_bytes(Entry::blob(digest), content).unwrap();
        blobs.push(Entry::blob(digest));
        let node = Node::File { digest, size: content.len() as u64, executable: false };
        nodes.push((RelPath::new(number.to_string()).unwrap(), node));
    }
    let result = ActionResult {
        outputs: Tree::new(nodes).unwrap(),
        log: None,
        cost: Cost::default(),
        missing: Vec::new(),
        finished_at_us: 0,
    };
    let key = ActionKey(Digest::blake3(b"key"));
    store.put_bytes(Entry::action(key), b"{}").unwrap();
    store.put_bytes(Entry::result(key), &serde_json::to_vec(&result).unwrap()).unwrap();
    (key, blobs)
}

#[test]
fn verification_finds_every_deleted_cut_flipped_or_chmodded_file_and_heals() {
    type Change = fn(&Path, &[u8]);
    let changes: [(&str, Change); 6] = [
        ("deleted", |path, _| fs::remove_file(path).unwrap()),
        ("cut", |path, raw| overwrite(path, &raw[..raw.len() - 1])),
        ("emptied", |path, _| overwrite(path, b"")),
        ("flipped", |path, raw| overwrite(path, &flipped(raw, raw.len() / 2))),
        ("unreadable", |path, _| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap()),
        ("writable", |path, _| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()),
    ];
    for (what, change) in changes {
        for victim in 0..3 {
            let store = temporary(Compression::Auto);
            let (key, blobs) = with_result(&store);
            let clean = verify(&store, false, 7).unwrap();
            assert_eq!((clean.blobs, clean.results, clean.actions), (2, 1, 1));
            assert_eq!(clean.damaged, []);
            let entry = [blobs[0], blobs[1], Entry::result(key)][victim];
            let path = file_of(&store, entry);
            change(&path, &fs::read(&path).unwrap());
            let found = verify(&store, false, 7).unwrap();
            assert!(!found.damaged.is_empty(), "{entry} {what}: not found");
            assert_eq!(verify(&store, false, 7).unwrap(), found, "looking changes nothing");
            if matches!(what, "cut" | "emptied" | "flipped") {
                let hit =
                    |damage: &Damage| matches!(damage, Damage::Content { entry: hit, .. } if *hit == entry);
                assert!(found.damaged.iter().any(hit), "{entry} {what}: {:?}", found.damaged);
            }
            let healed = verify(&store, true, 7).unwrap();
            assert_eq!(healed.healed, healed.damaged.len() as u64, "{:?}", healed.damaged);
            let mut rounds = 0;
            while !verify(&store, true, 7).unwrap().damaged.is_empty() {
                rounds += 1;
                assert!(rounds < 3, "{entry} {what}: never healed");
            }
            with_result(&store);
            assert_eq!(verify(&store, false, 7).unwrap().damaged, []);
        }
    }
}

#[test]
fn verification_finds_strangers_and_moved_results() {
    let store = temporary(Compression::Auto);
    let (key, _) = with_result(&store);
    let stranger = store.base().join("blob/ab/notes.txt");
    fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    fs::write(&stranger, "x").unwrap();
    let other = Entry::result(ActionKey(Digest::blake3(b"other")));
    let (from, to) =
        (file_of(&store, Entry::result(key)), store.base().join("result").join(&other.digest.to_hex()[..2]));
    fs::create_dir_all(&to).unwrap();
    fs::copy(from, to.join(other.digest.to_hex())).unwrap();
    let found = verify(&store, true, 0).unwrap().damaged;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|damage| matches!(damage, Damage::Stranger { path } if *path == stranger)));
    assert!(found.iter().any(|damage| matches!(damage, Damage::Content { entry, .. } if *entry == other)));
    assert!(stranger.exists(), "what is not ours stays");
}

#[test]
fn a_file_that_is_a_users_as_well_keeps_the_users_mode() {
    let temp = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&temp.path().join("store"), LocalOptions::default()).unwrap();
    let program = temp.path().join("program");
    fs::write(&program, "a program").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let digest = Digest::blake3(b"a program");
    assert!(store.adopt(&program, digest).unwrap());
    let mode = || fs::metadata(&program).unwrap().permissions().mode() & 0o7777;
    // No result names it any more: it may have been a compiler's.
    assert_eq!(verify(&store, false, 0).unwrap().damaged, []);
    let payload = spolia_store::refs::seal(&[digest], b"");
    let key = Entry::result(spolia_core::ActionKey(Digest::blake3(b"key")));
    store.put(key, &mut &payload[..]).unwrap();
    for heal in [false, true] {
        assert_eq!(verify(&store, heal, 0).unwrap().damaged, []);
        assert_eq!(mode(), 0o755);
    }
    assert_eq!(spolia_store::verify::sample(&store, 10).unwrap().damaged, []);
    // Not what a compiler makes.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(verify(&store, false, 0).unwrap().damaged.len(), 1);
    assert_eq!(spolia_store::verify::sample(&store, 10).unwrap().damaged.len(), 1);
    assert_eq!(verify(&store, true, 0).unwrap().healed, 1);
    assert_eq!(verify(&store, false, 0).unwrap().damaged, []);
}
