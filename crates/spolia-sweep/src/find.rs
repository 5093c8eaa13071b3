//! Finds target directories and Cargo projects: `paths → Found`. Follows no link and reads no build.
//!
//! A target directory is one by what Cargo itself writes, not by its name: the tag of a cache made by Cargo or
//! its memo of the compiler, and a profile folder in one of its two layouts.

use std::io::Read;
use std::path::{Path, PathBuf};

const TAG: &str = "CACHEDIR.TAG";
/// Source: the Cache Directory Tagging Specification.
const TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
const TAG_BYTES_MAX: u64 = 4096;
const RUSTC_INFO: &str = ".rustc_info.json";
const RUSTC_INFO_BYTES_MAX: u64 = 1 << 20;
/// As much as most of them hold.
const HEAD_BYTES: usize = 4096;
/// What Cargo locks in a profile folder.
pub const LOCK: &str = ".cargo-lock";
/// How deep folders are gone into.
const DEPTH_MAX: usize = 64;

/// How to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct FindOptions {
    /// Below every path.
    pub recursive: bool,
    /// Also in folders whose names begin with a dot.
    pub hidden: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Target directories, canonical, sorted.
    pub targets: Vec<PathBuf>,
    /// Folders with a `Cargo.toml`, canonical, parents before children.
    pub projects: Vec<PathBuf>,
    /// Folders that could not be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Looks at `paths`. Without `recursive`: each itself, and the folders directly in it.
pub fn find(paths: &[PathBuf], options: FindOptions) -> Found {
    let mut found = Found::default();
    for path in paths {
        match path.canonicalize() {
            Ok(path) => look(&path, options, 0, &mut found),
            Err(error) => found.unreadable.push((path.clone(), error.to_string())),
        }
    }
    for all in [&mut found.targets, &mut found.projects] {
        all.sort();
        all.dedup();
    }
    found
}

fn look(folder: &Path, options: FindOptions, depth: usize, found: &mut Found) {
    if is_target(folder) {
        return look_in_target(folder, found);
    }
    if folder.join("Cargo.toml").is_file() {
        found.projects.push(folder.to_owned());
    }
    if depth >= DEPTH_MAX || (!options.recursive && depth >= 1) {
        return;
    }
    children(folder, found, &mut |child, found| {
        let name = child.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_hidden = name.starts_with('.') && !options.hidden;
        if options.recursive {
            if !is_hidden && name != ".git" {
                look(child, options, depth + 1, found);
            }
        } else if is_target(child) {
            look_in_target(child, found);
        }
    });
}

fn look_in_target(folder: &Path, found: &mut Found) {
    found.targets.push(folder.to_owned());
    // Tools keep target directories of their own in there.
    children(folder, found, &mut |child, found| {
        if is_target(child) {
            found.targets.push(child.to_owned());
        }
    });
}

fn children(folder: &Path, found: &mut Found, visit: &mut dyn FnMut(&Path, &mut Found)) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return found.unreadable.push((folder.to_owned(), error.to_string())),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), found);
        }
    }
}

/// Whether Cargo made `folder` as a target directory or as its build directory.
pub fn is_target(folder: &Path) -> bool {
    let is_folder = std::fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    is_folder
        && (has_rustc_info(folder) || (has_tag(folder) && !is_of_a_triple(folder)))
        && profiles(folder).is_ok_and(|profiles| !profiles.is_empty())
}

/// Whether a folder with a tag is that of a triple, `target/wasm32-unknown-unknown`. Cargo tags each folder that it makes
/// in the place of a target directory, so the tag does not tell; its memo of the compiler is only beside the outermost.
fn is_of_a_triple(folder: &Path) -> bool {
    folder.parent().is_some_and(|above| has_tag(above) || has_rustc_info(above))
}

fn head(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    if !std::fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = Vec::with_capacity(HEAD_BYTES);
    std::fs::File::open(path).ok()?.take(bytes_max).read_to_end(&mut text).ok()?;
    Some(text)
}

fn has_tag(folder: &Path) -> bool {
    let text = head(&folder.join(TAG), TAG_BYTES_MAX).unwrap_or_default();
    text.starts_with(TAG_SIGNATURE) && text.windows(16).any(|part| part == b"created by cargo")
}

fn has_rustc_info(folder: &Path) -> bool {
    let text = head(&folder.join(RUSTC_INFO), RUSTC_INFO_BYTES_MAX).unwrap_or_default();
    let read: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    read.is_some_and(|info| info.get("rustc_fingerprint").is_some())
}

/// The profile folders in a target directory: `debug`, `x86_64-unknown-linux-musl/release`; sorted.
///
/// # Errors
/// It cannot be listed.
pub fn profiles(target: &Path) -> std::io::Result<Vec<String>> {
    let mut profiles = Vec::new();
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else { continue };
        if !kind.is_dir() || name.starts_with('.') {
            continue;
        }
        if is_profile(&entry.path()) {
            profiles.push(name);
            continue;
        }
        // A target triple, which Cargo tags as well, unless it is another tool's target directory.
        if entry.path().join(RUSTC_INFO).exists() {
            continue;
        }
        for inner in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if inner.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(inner_name) = inner.file_name().into_string()
                && is_profile(&inner.path())
            {
                profiles.push(format!("{name}/{inner_name}"));
            }
        }
    }
    profiles.sort();
    Ok(profiles)
}

fn is_profile(folder: &Path) -> bool {
    let is_folder =
        |name: &str| std::fs::symlink_metadata(folder.join(name)).is_ok_and(|found| found.is_dir());
    let is_file =
        |name: &str| std::fs::symlink_metadata(folder.join(name)).is_ok_and(|found| found.is_file());
    let old = is_folder(".fingerprint") && is_folder("deps");
    let new = is_file(LOCK) && is_folder("build");
    // Where the build directory is elsewhere, only what is for people is here.
    let finals = is_file(LOCK) && is_folder("examples");
    old || new || finals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            if file.ends_with('/') {
                std::fs::create_dir_all(path).unwrap();
            } else {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
        }
    }

    #[test]
    fn a_target_directory_is_known_by_what_cargo_writes() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# created by cargo.\n";
        let check = |name: &str, files: &[&str], tag: &str, expect: bool| {
            make(&root.join(name), files);
            std::fs::write(root.join(name).join(TAG), tag).unwrap();
            assert_eq!(is_target(&root.join(name)), expect, "{name}");
        };
        let old = ["debug/.fingerprint/", "debug/deps/"];
        check("old", &old, tag, true);
        check("new", &["debug/.cargo-lock", "debug/build/"], tag, true);
        check("triple", &["t/release/.fingerprint/", "t/release/deps/"], tag, true);
        check("tag of another", &old, "Signature: 8a477f597d28d172789f06886806bc55\n# by ccache\n", false);
        check("no profile", &["debug/x"], tag, false);
        make(&root.join("none"), &old);
        assert!(!is_target(&root.join("none")));
        std::fs::write(root.join("none").join(RUSTC_INFO), "{\"rustc_fingerprint\":1}").unwrap();
        assert!(is_target(&root.join("none")));
        std::os::unix::fs::symlink(root.join("old"), root.join("link")).unwrap();
        assert!(!is_target(&root.join("link")));
        let all = find(std::slice::from_ref(&root), FindOptions { recursive: true, hidden: false });
        assert_eq!(all.targets.len(), 4);
    }

    #[test]
    fn the_folder_of_a_triple_is_no_target_directory_though_it_is_tagged() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# created by cargo.\n";
        // As Cargo 1.95 leaves them: the memo of the compiler is with the build directory, where that is elsewhere.
        for (target, memo) in [("target", true), ("finals", false)] {
            let target = root.join(target);
            let tool = target.join("llvm-cov-target");
            make(
                &target,
                &["debug/.fingerprint/", "debug/deps/", "t-u-v/debug/.fingerprint/", "t-u-v/debug/deps/"],
            );
            make(&tool, &["debug/.fingerprint/", "debug/deps/"]);
            for folder in [&target, &target.join("t-u-v"), &tool] {
                std::fs::write(folder.join(TAG), tag).unwrap();
            }
            let memos = [Some(&tool), memo.then_some(&target)];
            for folder in memos.into_iter().flatten() {
                std::fs::write(folder.join(RUSTC_INFO), "{\"rustc_fingerprint\":1}").unwrap();
            }
            assert_eq!(profiles(&target).unwrap(), ["debug", "t-u-v/debug"]);
            assert!(is_target(&target) && is_target(&tool) && !is_target(&target.join("t-u-v")));
            let found = find(std::slice::from_ref(&target), FindOptions::default());
            assert_eq!(found.targets, [target, tool]);
        }
    }

    #[test]
    fn hidden_folders_and_depth_are_a_choice() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        make(&root, &[".h/p/Cargo.toml", "a/b/Cargo.toml", "Cargo.toml"]);
        let count = |recursive, hidden| {
            find(std::slice::from_ref(&root), FindOptions { recursive, hidden }).projects.len()
        };
        assert_eq!((count(false, false), count(true, false), count(true, true)), (1, 2, 3));
    }
}
