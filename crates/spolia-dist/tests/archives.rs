//! Archives written from members made by hand: odd names, odd files, files that change, and readers of others.

#![expect(clippy::disallowed_methods, reason = "tests start the readers of archives")]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use spolia_core::elf::Machine;
use spolia_core::{Digest, Platform, RelPath};
use spolia_dist::archive::{self, Format, Options, Written};
use spolia_dist::plan::{Kind, Member, Origin, PLAIN, PROGRAM};
use spolia_dist::{DistError, PlatformPlan};
use spolia_engine::Cancel;

/// A time in 2024.
const EPOCH: u64 = 1_705_314_896;

struct Folder {
    temp: tempfile::TempDir,
    count: Cell<usize>,
}

impl Folder {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap(), count: Cell::new(0) }
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }

    /// A member with this content, which is on disk under another name.
    fn file(&self, path: &[u8], content: &[u8]) -> Member {
        self.count.set(self.count.get() + 1);
        let at = self.path().join(format!("content-{}", self.count.get()));
        std::fs::write(&at, content).unwrap();
        of(path, Kind::File { digest: Digest::blake3(content), size: content.len() as u64, at }, PLAIN)
    }

    fn write(&self, name: &str, members: &[Member], threads: usize) -> Result<(PathBuf, Written), DistError> {
        self.write_with(name, members, threads, None, &|_| {})
    }

    fn write_with(
        &self,
        name: &str,
        members: &[Member],
        threads: usize,
        machine: Option<(Machine, String)>,
        on_bytes: &(dyn Fn(u64) + Sync),
    ) -> Result<(PathBuf, Written), DistError> {
        let path = self.path().join(name);
        let file = File::create(&path).unwrap();
        let cancel = Cancel::new().unwrap();
        let options = Options {
            archive: name,
            format: Format::of_name(name).unwrap(),
            level: None,
            epoch: EPOCH,
            threads,
            machine,
            sums: &[],
            cancel: &cancel,
            on_bytes,
        };
        archive::write(members, &file, &path, &options).map(|written| (path, written))
    }
}

fn of(path: &[u8], kind: Kind, mode: u32) -> Member {
    Member { path: RelPath::new(path).unwrap(), mode, kind, origin: Origin::Made }
}

fn folder(path: &[u8]) -> Member {
    of(path, Kind::Folder, PROGRAM)
}

fn link(path: &[u8], target: &[u8]) -> Member {
    of(path, Kind::Symlink { target: target.to_vec() }, 0o777)
}

fn reads(program: &str, args: &[&str], folder: &Path) -> String {
    // Readers that turn names into the locale's text have one that holds them all.
    let output = Command::new(program).args(args).current_dir(folder).env("LC_ALL", "C.UTF-8").output();
    let output = output.unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What lies below a folder: path, mode, content or target.
fn tree(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let shown = format!("{:?}", path.strip_prefix(folder).unwrap());
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let mode = stat.permissions().mode() & 0o777;
            if stat.is_symlink() {
                found.push(format!("{shown} -> {:?}", std::fs::read_link(&path).unwrap()));
            } else if stat.is_dir() {
                found.push(format!("{shown}/ {mode:o}"));
                open.push(path);
            } else {
                found.push(format!(
                    "{shown} {mode:o} {}",
                    Digest::sha256(&std::fs::read(&path).unwrap()).short()
                ));
            }
        }
    }
    found.sort();
    found
}

/// Long names, long links, large and empty files, sizes of whole blocks, in every format; UTF-8 throughout.
fn members(folder_: &Folder) -> Vec<Member> {
    let long = format!("d/{}", "long-name-".repeat(20));
    let mut program = folder_.file(b"d/program", b"#!/bin/sh\n");
    program.mode = PROGRAM;
    let mut members = vec![
        folder(b"d"),
        folder_.file(b"d/ space and 'quote'", b"x"),
        folder_.file("d/\u{e9}\u{1f600}".as_bytes(), b"unicode"),
        folder_.file(b"d/empty", b""),
        folder_.file(b"d/c:drive", b"no drive"),
        folder_.file(b"d/whole", &[b'x'; 512 << 10]),
        folder_.file(b"d/large", &b"0123456789abcdef".repeat(100_000)),
        folder_.file(long.as_bytes(), b"long"),
        program,
        folder(b"d/sub"),
        link(b"d/sub/link", b".././empty"),
        link(b"d/sub/long", format!("../{}", "long-name-".repeat(20)).as_bytes()),
    ];
    members.sort_by(|a, b| a.path.cmp(&b.path));
    members
}

#[test]
fn others_unpack_every_format_to_the_same_tree() {
    let folder = Folder::new();
    let members = members(&folder);
    let mut first: Option<Vec<String>> = None;
    let python = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])";
    let names = ["a.tar", "a.tar.gz", "a.tgz", "a.tar.zst", "a.tar.xz", "a.zip"];
    for name in names {
        let (path, written) = folder.write(name, &members, 3).unwrap();
        let (again, _) = folder.write(&format!("b-{name}"), &members, 1).unwrap();
        assert!(std::fs::read(&path).unwrap() == std::fs::read(again).unwrap(), "{name}");
        assert_eq!(written.sums.sha256, Digest::sha256(&std::fs::read(&path).unwrap()));
        let archive = path.to_str().unwrap();
        let mut readers: Vec<(&str, Vec<&str>)> = vec![("bsdtar", vec!["-xpf", archive])];
        match name {
            "a.zip" => readers.push(("unzip", vec!["-q", archive])),
            "a.tar.zst" => readers.push(("tar", vec!["--zstd", "-xpf", archive])),
            _ => {
                readers.push(("tar", vec!["-xpf", archive]));
                readers.push(("python3", vec!["-c", python, archive, "."]));
            }
        }
        for (program, args) in readers {
            let to = folder.path().join(format!("out-{program}-{name}"));
            std::fs::create_dir(&to).unwrap();
            reads(program, &args, &to);
            let found = tree(&to);
            assert_eq!(found.len(), members.len(), "{program} {name}: {found:#?}");
            let first = first.get_or_insert_with(|| found.clone());
            assert_eq!(*first, found, "{program} {name}");
        }
    }
}

#[test]
fn names_that_are_no_text_are_kept_by_tar_and_refused_by_zip() {
    let folder = Folder::new();
    let member = folder.file(b"caf\xe9", b"x");
    let (path, _) = folder.write("a.tgz", std::slice::from_ref(&member), 2).unwrap();
    reads("tar", &["xzf", path.to_str().unwrap()], folder.path());
    assert!(folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")).is_file());
    assert_eq!(Format::Zip.fits(&member), Err("its name is not UTF-8".to_owned()));
    assert!(Format::Zip.fits(&folder.file(b"a\\b", b"")).is_err());
    assert_eq!(Format::Zip.fits(&folder.file(b"c:a", b"")), Ok(()));
    assert!(Format::Zip.fits(&folder.file("c:\u{e9}".as_bytes(), b"")).is_err());
    assert!(Format::TarGz.fits(&of(&[b'x'; 5000], Kind::Folder, PROGRAM)).is_err());
    assert!(Format::TarGz.fits(&link(b"l", b"a\0b")).is_err());
}

#[test]
fn a_hundred_thousand_members() {
    let folder = Folder::new();
    let Kind::File { digest, size, at } = folder.file(b"x", b"content").kind else { panic!() };
    let all: Vec<Member> = (0..100_000)
        .map(|n| of(format!("{n:06}").as_bytes(), Kind::File { digest, size, at: at.clone() }, PLAIN))
        .collect();
    let (path, written) = folder.write("many.tgz", &all, 2).unwrap();
    assert_eq!(written.members.len(), 100_000);
    let listed = reads("tar", &["tzf", path.to_str().unwrap()], folder.path());
    assert_eq!(listed.lines().count(), 100_000);
    // More than the old count of a zip can say.
    let (path, _) = folder.write("many.zip", &all[..66_000], 2).unwrap();
    let script =
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(len(z.namelist()), z.read('065999'))";
    assert_eq!(
        reads("python3", &["-c", script, path.to_str().unwrap()], folder.path()),
        "66000 b'content'\n"
    );
    reads("unzip", &["-tqq", path.to_str().unwrap(), "000000", "065535", "065999"], folder.path());
}

fn changed(found: Result<(PathBuf, Written), DistError>) -> bool {
    matches!(found, Err(DistError::Changed { .. }))
}

#[test]
fn a_file_that_is_not_what_was_planned_is_an_error() {
    let folder = Folder::new();
    for name in ["a.tgz", "a.zip"] {
        let content = vec![7; 3 << 20];
        let member = folder.file(b"x", &content);
        let Kind::File { at, .. } = &member.kind else { panic!() };
        let members = std::slice::from_ref(&member);
        std::fs::write(at, vec![8; 3 << 20]).unwrap();
        assert!(changed(folder.write(name, members, 2)), "other bytes, {name}");
        std::fs::write(at, &content[..100]).unwrap();
        assert!(changed(folder.write(name, members, 2)), "shorter, {name}");
        std::fs::remove_file(at).unwrap();
        assert!(changed(folder.write(name, members, 2)), "gone, {name}");
        std::os::unix::fs::symlink("/etc/passwd", at).unwrap();
        assert!(changed(folder.write(name, members, 2)), "a link, {name}");
        std::fs::remove_file(at).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        assert!(changed(folder.write(name, members, 2)), "a pipe, {name}");
        std::fs::remove_file(at).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at).unwrap();
        assert!(changed(folder.write(name, members, 2)), "a device, {name}");
        std::fs::remove_file(at).unwrap();
        // While it is read: it becomes longer, or shorter.
        for length in [4 << 20, 1 << 20] {
            std::fs::write(at, &content).unwrap();
            let once = AtomicBool::new(false);
            let change = |_: u64| {
                if !once.swap(true, Ordering::Relaxed) {
                    File::options().write(true).open(at).unwrap().set_len(length).unwrap();
                }
            };
            assert!(changed(folder.write_with(name, members, 2, None, &change)), "{length}, {name}");
        }
    }
}

#[test]
fn a_program_for_another_machine_is_an_error() {
    let folder = Folder::new();
    let mut header = b"\x7fELF\x02\x01".to_vec();
    header.resize(18, 0);
    header.extend([183, 0, 1, 0, 0, 0]);
    let member = folder.file(b"x", &header);
    let members = std::slice::from_ref(&member);
    let wanted = |machine| Some((machine, "linux/amd64".to_owned()));
    for name in ["a.tgz", "a.zip"] {
        folder.write_with(name, members, 1, wanted(Machine::AARCH64), &|_| {}).unwrap();
        let error = folder.write_with(name, members, 1, wanted(Machine::X86_64), &|_| {}).unwrap_err();
        let expect = format!("`x` in `{name}` is for AArch64, and the archive is for linux/amd64");
        assert_eq!(error.to_string(), expect);
    }
}

#[test]
fn sources_are_a_tar_with_an_index() {
    let folder = Folder::new();
    let items = [];
    let index = spolia_dist::sources::index(&items);
    let at = folder.path().join("index");
    std::fs::write(&at, &index).unwrap();
    let plan: PlatformPlan = spolia_dist::sources::plan("s.tgz", &items, &index, at).unwrap();
    assert_eq!(plan.platform, Platform::Any);
    folder.write("s.tgz", &plan.members, 1).unwrap();
    let text = reads("tar", &["xzOf", "s.tgz", "sources/INDEX.json"], folder.path());
    assert!(text.contains("spolia source index"));
}
