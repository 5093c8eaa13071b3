//! Parsers of what came with a release that somebody else made.

use std::path::Path;

use spolia_dist::{check, checksums};
use tempfile::TempDir;

use crate::Target;

/// What `manifest.json` says of every archive below: two members.
const MANIFEST: &str = r#"{ "version": null, "date": "", "time": "", "commit": null, "format": "spolia dist manifest",
"format_version": 1, "name": "a", "commit_id": null, "dirty": null, "source_date_epoch": 0, "time_from": "fixed",
"spolia": "0", "steps": [], "platforms": [{ "platform": "any", "archive": { "name": "NAME", "size": 1 }, "files": [
{ "path": "d", "type": "folder", "mode": "0755" },
{ "path": "d/x", "type": "file", "mode": "0644", "size": 5, "sha256": "" }] }] }"#;
/// One archive of each kind.
const NAMES: [&str; 5] = ["a.tar", "a.tgz", "a.tar.zst", "a.tar.xz", "a.zip"];

thread_local! {
    static FOLDER: TempDir = tempfile::Builder::new().prefix("spolia-fuzz-").tempdir().expect("a temporary folder");
}

/// Lists of sums: a name never leads out of the folder, and what is written again is read as the same.
pub(crate) const SUMS: Target = Target {
    name: "sums",
    seeds: || vec![b"00ff  a.tgz\nAB *b c\n".to_vec(), b"d41d8cd98f00b204e9800998ecf8427e  x\n".to_vec()],
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        let Ok(list) = checksums::parse(text) else { return };
        let again: String = list.iter().map(|(name, hex)| checksums::line(hex, name)).collect();
        assert!(list.iter().all(|(name, _)| !name.contains('/') && name != ".." && !name.is_empty()));
        assert_eq!(checksums::parse(&again).expect("it was read before"), list);
    },
    tries: 3000,
};

fn checked(folder: &Path) {
    let report = check::check(folder, None).expect("the folder is there");
    // Nothing is in the list of sums, so nothing may be found to be right as a whole.
    assert!(!report.problems.is_empty());
}

/// Archives as they are compared with a manifest. The first byte says of which kind.
pub(crate) const ARCHIVE: Target = Target {
    name: "archive",
    seeds: || {
        let mut header = vec![0u8; 512];
        header[..4].copy_from_slice(b"d/x\0");
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(b"00000000005\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar  \0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header.extend(b"hello");
        header.resize(2048, 0);
        let kinds = 0..NAMES.len() as u8;
        kinds.map(|kind| [&[kind], &header[..]].concat()).collect()
    },
    run: |raw| {
        let Some((kind, content)) = raw.split_first() else { return };
        let name = NAMES[usize::from(*kind) % NAMES.len()];
        FOLDER.with(|folder| {
            std::fs::write(folder.path().join(name), content).expect("our own file");
            std::fs::write(folder.path().join("manifest.json"), MANIFEST.replace("NAME", name))
                .expect("our own file");
            std::fs::write(folder.path().join("SHA256SUMS"), "").expect("our own file");
            checked(folder.path());
        });
    },
    tries: 150,
};

/// Manifests of releases.
pub(crate) const RECORD: Target = Target {
    name: "record",
    seeds: || {
        vec![
            MANIFEST.replace("NAME", "a.tar").into_bytes(),
            MANIFEST.replace("NAME", "../a.tar").into_bytes(),
        ]
    },
    run: |raw| {
        FOLDER.with(|folder| {
            std::fs::write(folder.path().join("a.tar"), [0; 1024]).expect("our own file");
            std::fs::write(folder.path().join("manifest.json"), raw).expect("our own file");
            std::fs::write(folder.path().join("SHA256SUMS"), "").expect("our own file");
            checked(folder.path());
        });
    },
    tries: 150,
};
