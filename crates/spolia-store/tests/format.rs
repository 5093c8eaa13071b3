//! Version 1 of the layout, written by hand as `docs/design/store-format.md` says, and read.

use std::fs;
use std::path::Path;

use spolia_core::Digest;
use spolia_store::{Entry, LocalOptions, LocalStore, Space, Store};

fn write(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_store_that_was_written_by_hand_is_read() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "v1/format", b"spolia store 1\nreflink no\nsum ede2c223dd6be5f9\n");
    fs::create_dir_all(temp.path().join("v1/tmp")).unwrap();
    // BLAKE3 of nothing, as published.
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    write(temp.path(), &format!("v1/blob/af/{empty}"), b"");
    let text = b"hello ".repeat(1000);
    let hex = Digest::blake3(&text).to_hex();
    write(
        temp.path(),
        &format!("v1/blob/{}/{hex}.zst", &hex[..2]),
        &zstd::bulk::compress(&text, 19).unwrap(),
    );
    // SHA-256 of "abc", from FIPS 180-4.
    let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    write(temp.path(), &format!("v1/blob-sha256/ba/{sha}"), b"abc");

    let store = LocalStore::open(temp.path(), LocalOptions::default()).unwrap();
    let get = |entry: Entry| {
        let mut content = Vec::new();
        store.get(entry, &mut content).unwrap().map(|_| content)
    };
    assert_eq!(get(Entry::blob(Digest::blake3(b""))).unwrap(), b"");
    assert_eq!(get(Entry::blob(Digest::blake3(&text))).unwrap(), text);
    assert_eq!(get(Entry::blob(Digest::sha256(b"abc"))).unwrap(), b"abc");
    assert_eq!(get(Entry { space: Space::Result, digest: Digest::blake3(b"") }), None);
    let format = fs::read(temp.path().join("v1/format")).unwrap();
    assert_eq!(format, b"spolia store 1\nreflink no\nsum ede2c223dd6be5f9\n", "it was not written anew");
    assert!(!temp.path().join("CACHEDIR.TAG").exists(), "opening writes nothing");
}
