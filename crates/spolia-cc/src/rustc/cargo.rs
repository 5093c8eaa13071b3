//! The cargo that started a call: its arguments, its variables, the workspace and the target folder it will use. Knows no units.
//!
//! A wrapper is told nothing of this when cargo asks its first question, so it is read off the process itself. Where anything
//! could lead elsewhere (an option or a setting that moves folders), there is no answer.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use spolia_core::key::{HashWriter, KeyWriter, Value};
use spolia_core::{ActionKey, Digest};

use super::folders::{self, Folders};
use crate::{Env, Options};

/// The version of what names of builds are made of.
const KEY_VERSION: u64 = 1;
/// Options that move folders, or say more of them in a way of their own.
const MOVING: &[&str] = &[
    "--config",
    "--manifest-path",
    "--target-dir",
    "--lockfile-path",
    "--artifact-dir",
    "--out-dir",
    "-C",
    "-Z",
];
/// Settings that do, wherever they stand in a file.
const MOVING_SETTINGS: &[&[u8]] = &[b"target-dir", b"build-dir"];
/// Variables that name the target folder, the stronger first.
const TARGETS: &[&str] = &["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];

/// The cargo that started this process.
pub(super) struct Cargo {
    /// Its variables.
    pub(super) env: Env,
    /// The workspace's folder: the nearest with a lock file.
    pub(super) root: PathBuf,
    /// The target folder.
    pub(super) target: PathBuf,
    /// Names what it builds, in whichever checkout: its arguments, where in the workspace it was called, the lock file.
    pub(super) key: ActionKey,
    cwd: PathBuf,
}

/// Whatever started this process.
pub(super) fn parent_id() -> Option<Pid> {
    rustix::process::getppid()
}

/// The variables that the process was started with that started this one.
pub(super) fn parents_variables() -> Option<Env> {
    let raw = std::fs::read(format!("/proc/{}/environ", parent_id()?.as_raw_nonzero())).ok()?;
    let pairs = zero_ended(&raw).into_iter().filter_map(|line| {
        let at = memchr::memchr(b'=', &line)?;
        Some((OsString::from_vec(line[..at].to_vec()), OsString::from_vec(line[at + 1..].to_vec())))
    });
    Some(Env::new(pairs.collect()))
}

impl Cargo {
    /// `None` where this process was not started by a cargo whose folders are certain.
    pub(super) fn parent() -> Option<Self> {
        let process = PathBuf::from(format!("/proc/{}", parent_id()?.as_raw_nonzero()));
        if std::fs::read_link(process.join("exe")).ok()?.file_name()? != "cargo" {
            return None;
        }
        let words = zero_ended(&std::fs::read(process.join("cmdline")).ok()?);
        let cwd = std::fs::read_link(process.join("cwd")).ok()?;
        Self::new(words.get(1..)?, parents_variables()?, cwd)
    }

    fn new(args: &[Vec<u8>], env: Env, cwd: PathBuf) -> Option<Self> {
        let moves = |arg: &Vec<u8>| MOVING.iter().any(|option| arg.starts_with(option.as_bytes()));
        if args.iter().any(moves) || env.some("CARGO_BUILD_BUILD_DIR").is_some() {
            return None;
        }
        let root = cwd.ancestors().find(|folder| folder.join("Cargo.lock").is_file())?.to_owned();
        let named = TARGETS.iter().find_map(|name| env.some(name));
        let target = named.map_or_else(|| root.join("target"), |named| cwd.join(named));
        let lock = std::fs::read(root.join("Cargo.lock")).ok()?;
        let mut writer = HashWriter::new();
        writer.field("cargo build", Value::Number(KEY_VERSION));
        writer.field("lock", Value::Digest(Digest::blake3(&lock)));
        writer.field("folder", Value::Bytes(cwd.strip_prefix(&root).ok()?.as_os_str().as_bytes()));
        writer.open("args");
        for arg in args {
            writer.field("", Value::Bytes(arg));
        }
        writer.close();
        Some(Self { env, target: folders::clean(&target), key: writer.finish(), cwd, root })
    }

    /// The folders of the whole build; `program` is the compiler.
    pub(super) fn folders(&self, options: &Options, program: &Path) -> Folders {
        let mut folders = Folders::default();
        folders.add(b'T', &self.target);
        let home = self.env.some("CARGO_HOME").map(PathBuf::from);
        if let Some(home) = home.or_else(|| options.home.as_ref().map(|home| home.join(".cargo"))) {
            folders.add(b'C', &home);
        }
        if let Some(toolchain) = super::walk::toolchain_of(program) {
            folders.add(b'S', &toolchain);
        }
        folders.add(b'W', &self.root);
        folders
    }

    /// Whether a file of settings may move the target folder.
    pub(super) fn may_be_moved(&self, options: &Options) -> bool {
        let home = self.env.some("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| options.home.as_ref().map(|home| home.join(".cargo")));
        let above = self.cwd.ancestors().map(|folder| folder.join(".cargo"));
        above.chain(home).any(|folder| {
            ["config.toml", "config"].iter().any(|name| {
                let text = std::fs::read(folder.join(name)).unwrap_or_default();
                MOVING_SETTINGS.iter().any(|setting| memchr::memmem::find(&text, setting).is_some())
                    || memchr::memmem::find(&text, b"include").is_some()
            })
        })
    }
}

fn zero_ended(raw: &[u8]) -> Vec<Vec<u8>> {
    raw.split_inclusive(|byte| *byte == 0)
        .map(|word| word.strip_suffix(b"\0").unwrap_or(word).to_vec())
        .collect()
}

/// `bytes` as the system's own kind of text.
pub(super) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_known_or_there_is_no_answer() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/src")).unwrap();
        std::fs::write(root.join("Cargo.lock"), "one").unwrap();
        let new = |args: &[&str], env: &[(&str, &str)], folder: &str| {
            let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            Cargo::new(&args, Env::new(env), root.join(folder))
        };
        let plain = new(&["build"], &[], "a/src").unwrap();
        assert_eq!((&plain.root, &plain.target), (&root, &root.join("target")));
        let moved = new(&["build"], &[("CARGO_TARGET_DIR", "t")], "a/src").unwrap();
        assert_eq!(moved.target, root.join("a/src/t"));
        assert_eq!(moved.key, plain.key, "the same build, wherever it goes");
        assert_ne!(new(&["test"], &[], "a/src").unwrap().key, plain.key);
        assert_ne!(new(&["build"], &[], "a").unwrap().key, plain.key);
        for odd in [&["build", "--target-dir", "x"][..], &["build", "--config=x"], &["-Zx", "build"]] {
            assert!(new(odd, &[], "a").is_none(), "{odd:?}");
        }
        assert!(new(&["build"], &[("CARGO_BUILD_BUILD_DIR", "x")], "a").is_none());
        let options = Options::default();
        assert!(!plain.may_be_moved(&options));
        std::fs::create_dir(root.join(".cargo")).unwrap();
        std::fs::write(root.join(".cargo/config.toml"), "[build]\ntarget-dir = \"x\"\n").unwrap();
        assert!(plain.may_be_moved(&options));
        std::fs::write(root.join("Cargo.lock"), "two").unwrap();
        assert_ne!(new(&["build"], &[], "a/src").unwrap().key, plain.key);
    }
}
