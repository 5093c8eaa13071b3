//! What every store must do. A new one hands over a factory; a failure is a panic that names the rule.

use std::collections::HashSet;
use std::io::{Read, Seek, Write};

use spolia_core::Digest;
use spolia_store::store::{Entry, Put, Space, Store, StoreError};

use crate::random::Random;

/// Lengths around every limit that a store may have inside: none, one, a block, the pieces it works in.
const LENGTHS: [usize; 14] = [
    0,
    1,
    31,
    4095,
    4096,
    4097,
    65_535,
    131_071,
    131_072,
    131_073,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    3_000_000,
];

/// Runs every rule against an empty store of its own.
pub fn store_suite<S: Store>(factory: impl Fn() -> S) {
    content_round_trips(&factory());
    what_is_not_there_is_no_error(&factory());
    spaces_are_apart(&factory());
    wrong_content_is_refused_and_leaves_nothing(&factory());
    a_blob_is_stored_once_and_a_result_is_replaced(&factory());
    an_import_is_named_by_what_is_stored(&factory());
    what_is_removed_is_gone(&factory());
    listing_tells_all_of_one_space(&factory());
    failing_peers_are_told_apart(&factory());
    threads_agree(&factory());
    random_operations_agree_with_a_map(&factory);
}

/// The rules of a store that takes no writes; `store` holds a blob of `content` and nothing else.
pub fn read_only_suite(store: &dyn Store, content: &[u8]) {
    let there = Entry::blob(Digest::blake3(content));
    let other = Entry::blob(Digest::blake3(b"something else"));
    assert!(!store.properties().writable, "it says that it takes writes");
    assert_eq!(get(store, there).as_deref(), Some(content));
    assert!(matches!(store.put(other, &mut &b"something else"[..]), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(store.remove(there), Err(StoreError::ReadOnly { .. })));
    assert!(store.has(there).unwrap() && !store.has(other).unwrap());
}

fn get(store: &dyn Store, entry: Entry) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let size = store.get(entry, &mut content).unwrap_or_else(|error| panic!("get of {entry}: {error}"));
    if let Some(size) = size {
        assert_eq!(size, content.len() as u64, "get says how many bytes it gave");
    }
    size.map(|_| content)
}

fn entries(name: &str) -> [Entry; 3] {
    let digest = Digest::blake3(name.as_bytes());
    [Space::Blob, Space::Result, Space::Action].map(|space| Entry { space, digest })
}

fn content_round_trips(store: &dyn Store) {
    let mut random = Random::new(1);
    for length in LENGTHS {
        let content = random.bytes(length);
        for digest in [Digest::blake3(&content), Digest::sha256(&content)] {
            let blob = Entry::blob(digest);
            let put = store.put(blob, &mut content.as_slice()).unwrap();
            assert!(matches!(put, Put::Stored { .. }), "{length} bytes: {put:?}");
            assert!(store.has(blob).unwrap(), "{length} bytes");
            assert!(get(store, blob) == Some(content.clone()), "{length} bytes of blob");
        }
        let result = Entry { space: Space::Result, digest: Digest::blake3(&[1]) };
        store.put(result, &mut content.as_slice()).unwrap();
        assert!(get(store, result) == Some(content), "{length} bytes of result");
    }
}

fn what_is_not_there_is_no_error(store: &dyn Store) {
    for entry in entries("nothing") {
        assert!(!store.has(entry).unwrap());
        assert_eq!(get(store, entry), None);
        assert!(!store.remove(entry).unwrap());
        assert!(store.plain_file(entry).is_none());
    }
    store.list(Space::Blob, &mut |info| panic!("{} in an empty store", info.entry)).unwrap();
}

fn spaces_are_apart(store: &dyn Store) {
    let content = b"spaces";
    let [blob, result, action] = entries("spaces");
    store.put(blob, &mut &content[..]).unwrap();
    assert!(!store.has(result).unwrap() && !store.has(action).unwrap());
    store.put(result, &mut &b"a result"[..]).unwrap();
    assert!(!store.has(action).unwrap());
    assert_eq!(get(store, blob).unwrap(), content);
    assert_eq!(get(store, result).unwrap(), b"a result");
}

fn wrong_content_is_refused_and_leaves_nothing(store: &dyn Store) {
    for length in LENGTHS {
        let blob = Entry::blob(Digest::blake3(b"the right content"));
        let wrong = Random::new(9).bytes(length);
        let found = Digest::blake3(&wrong);
        match store.put(blob, &mut wrong.as_slice()) {
            Err(StoreError::WrongContent { entry, found: said }) => assert_eq!((entry, said), (blob, found)),
            other => panic!("{length} bytes: {other:?}"),
        }
        assert!(!store.has(blob).unwrap());
        assert!(!store.has(Entry::blob(found)).unwrap());
    }
}

fn a_blob_is_stored_once_and_a_result_is_replaced(store: &dyn Store) {
    let [blob, result, action] = entries("twice");
    assert!(matches!(store.put(blob, &mut &b"twice"[..]).unwrap(), Put::Stored { .. }));
    assert_eq!(store.put(blob, &mut &b"twice"[..]).unwrap(), Put::Present);
    for sealed in [result, action] {
        store.put(sealed, &mut &b"one"[..]).unwrap();
        store.put(sealed, &mut &b"two"[..]).unwrap();
        assert_eq!(get(store, sealed).unwrap(), b"two");
    }
}

fn an_import_is_named_by_what_is_stored(store: &dyn Store) {
    for length in LENGTHS {
        let content = Random::new(length as u64 + 77).bytes(length);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        // The offset is at the end, and stays there.
        let first = store.import(&file).unwrap();
        assert_eq!((first.digest, first.size), (Digest::blake3(&content), length as u64));
        assert!(matches!(first.put, Put::Stored { .. }));
        assert_eq!(store.import(&file).unwrap().put, Put::Present);
        assert_eq!(file.stream_position().unwrap(), length as u64);
        assert!(get(store, Entry::blob(first.digest)) == Some(content), "{length} bytes");
    }
}

fn what_is_removed_is_gone(store: &dyn Store) {
    for entry in entries("gone") {
        store.put(entry, &mut &b"gone"[..]).unwrap();
        assert!(store.remove(entry).unwrap());
        assert!(!store.has(entry).unwrap());
        assert_eq!(get(store, entry), None);
        assert!(!store.remove(entry).unwrap());
        assert!(matches!(store.put(entry, &mut &b"gone"[..]).unwrap(), Put::Stored { .. }));
    }
}

fn listing_tells_all_of_one_space(store: &dyn Store) {
    let mut expected = HashSet::new();
    for number in 0..40u32 {
        let content = number.to_le_bytes();
        let blob = Entry::blob(Digest::blake3(&content));
        store.put(blob, &mut &content[..]).unwrap();
        store.put(Entry { space: Space::Result, ..blob }, &mut &content[..]).unwrap();
        expected.insert(blob);
    }
    let mut found = HashSet::new();
    store
        .list(Space::Blob, &mut |info| {
            assert!(found.insert(info.entry), "{} is listed twice", info.entry);
            assert!(info.bytes > 0);
        })
        .unwrap();
    assert_eq!(found, expected);
}

fn failing_peers_are_told_apart(store: &dyn Store) {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for entry in entries("broken") {
        assert!(matches!(store.put(entry, &mut Broken), Err(StoreError::Peer(_))));
        assert!(!store.has(entry).unwrap());
        store.put(entry, &mut &b"broken"[..]).unwrap();
        assert!(matches!(store.get(entry, &mut Broken), Err(StoreError::Peer(_))));
        // The reader failed, not the store.
        assert_eq!(get(store, entry).unwrap(), b"broken");
    }
}

fn threads_agree(store: &dyn Store) {
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for _ in 0..60 {
                    let content = Random::new(random.below(12)).bytes(20_000);
                    let blob = Entry::blob(Digest::blake3(&content));
                    match random.below(3) {
                        0 => drop(store.remove(blob).unwrap()),
                        1 => drop(store.put(blob, &mut content.as_slice()).unwrap()),
                        _ => assert!(get(store, blob).is_none_or(|found| found == content)),
                    }
                }
            });
        }
    });
}

fn random_operations_agree_with_a_map<S: Store>(factory: &impl Fn() -> S) {
    for seed in 0..20u64 {
        let store = factory();
        let mut model = std::collections::HashMap::new();
        let mut random = Random::new(seed);
        for step in 0..60 {
            let content = Random::new(random.below(8)).bytes(2000);
            let spaces = [Space::Blob, Space::Result, Space::Action];
            let space = spaces[random.below(3) as usize];
            let entry = Entry { space, digest: Digest::blake3(&content) };
            match random.below(4) {
                0 => assert_eq!(
                    store.remove(entry).unwrap(),
                    model.remove(&entry).is_some(),
                    "seed {seed}, step {step}"
                ),
                1 => {
                    store.put(entry, &mut content.as_slice()).unwrap();
                    model.insert(entry, content);
                }
                2 => assert_eq!(
                    store.has(entry).unwrap(),
                    model.contains_key(&entry),
                    "seed {seed}, step {step}"
                ),
                _ => assert!(get(&store, entry).as_ref() == model.get(&entry), "seed {seed}, step {step}"),
            }
        }
    }
}
