//! `spolia dist --verify`: the release once more, by another process in another place, and the first difference.
//!
//! | varied | how |
//! |---|---|
//! | path of the checkout | a copy of what is declared, in a folder of another name and depth |
//! | order of files in folders | the copy is in memory, turned around (`second.rs`) |
//! | times, modes | the copy is made now, with modes that only its owner has |
//! | user | another number, in a user namespace |
//! | umask, time zone, locale | 077, Pacific/Chatham, tr_TR.UTF-8 |
//! | threads | one |
//! | the steps themselves | `--verify=rebuild`: an empty store, so that every step runs again |

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use spolia_build::index::Index;
use spolia_core::glob::PatternList;
use spolia_core::{Node, RelPath};
use spolia_dist::facts::Facts;
use spolia_dist::manifest::{Pick, Version};
use spolia_dist::plan::Kind;
use spolia_dist::verify::{binary, compare};
use spolia_dist::{DistError, PlatformPlan};
use spolia_engine::Cancel;

use super::second::{self, Orders, Places};
use super::{Chosen, Dist, Work, failure, status};
use crate::cli::VerifyArg;
use crate::exit::{Exit, Failure};
use crate::shell::Tone;

/// Where steps of a sandbox see the project: what ships should not know.
const SANDBOX: [&str; 3] = ["/spolia/root", "/spolia/out", "/spolia/step"];
/// A larger program is not looked into, bytes.
const PROGRAM_BYTES_MAX: u64 = 2 << 30;

/// A release that was made, and that is made again.
pub(super) struct First<'f> {
    pub(super) one: &'f Chosen<'f>,
    pub(super) facts: &'f Facts,
    pub(super) plans: Vec<PlatformPlan>,
    pub(super) names: Vec<String>,
    /// What all its steps give, bytes.
    pub(super) output_bytes: u64,
}

/// Makes `first` again and compares.
pub(super) fn verify(
    work: &Work<'_>,
    all: &[Dist],
    first: &First<'_>,
    how: VerifyArg,
    cancel: &Cancel,
) -> Result<Exit, Failure> {
    let io = |verb, path: &Path| {
        let path = path.to_owned();
        move |source| failure(&DistError::Io { verb, path, source })
    };
    let parent = work.settings.temp_dir().join(format!("spolia-verify-{}", std::process::id()));
    let place = Scratch(parent.clone());
    let checkout = parent.join("a/second/checkout");
    let copied = parent.join("copy");
    for folder in [&checkout, &copied] {
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
    }
    std::fs::set_permissions(&parent, PermissionsExt::from_mode(0o700)).map_err(io("create", &parent))?;
    let size = copy(work, all, first, &copied)? + first.output_bytes;
    let out = parent.join("out");
    let rebuild = how == VerifyArg::Rebuild;
    let facts = first.facts.clone();
    let orders = Orders { facts, root: work.root().to_owned(), copy: copied, checkout, size };
    let (said, varied) =
        second::start(work, first, &Places { out: out.clone(), parent, rebuild }, &orders, cancel)?;
    let differences = compare(&work.out(first.one), &out, &first.names).map_err(|error| failure(&error))?;
    let mut problems = differences;
    let programs = programs(work, first, &mut problems)?;
    drop(place);
    if work.shell.is_json() {
        work.shell.json_line(&json!({
            "kind": "dist-verify",
            "name": first.one.dist.name,
            "rebuilt": rebuild,
            "compared": first.names.len(),
            "varied": varied,
            "programs": programs,
            "problems": problems,
        }));
    } else {
        for (program, words) in &programs {
            status(work.shell, "Program", &format!("{program}: {words}"));
        }
        status(work.shell, "Varied", &varied.words());
        for same in varied.same() {
            work.shell.warning(&format!("not varied: {same}"), &[]);
        }
        for problem in &problems {
            work.shell.err(&work.shell.spoken(Tone::Error, "error", problem, &[]));
        }
        let again = if rebuild { "every step run again" } else { "steps as they were" };
        let count = first.names.len();
        if problems.is_empty() {
            let what =
                format!("{}: {count} files are the same bytes a second time ({again})", first.one.dist.name);
            status(work.shell, "Verified", &what);
        } else if work.settings.verbose {
            work.shell.err(&said);
        }
    }
    Ok(if problems.is_empty() { Exit::Success } else { Exit::Problems })
}

/// A folder that is removed when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What a step has left there without rights stays; nothing of ours is in it.
        let _unremoved = spolia_engine::sandbox::remove_scratch(&self.0);
    }
}

/// Copies what the steps and the tables declare; how many bytes that are.
fn copy(work: &Work<'_>, all: &[Dist], first: &First<'_>, to: &Path) -> Result<u64, Failure> {
    let manifest = &work.project.manifest;
    let mut lists: Vec<(&PatternList, Vec<String>)> = Vec::new();
    for body in manifest.steps.iter().flat_map(|step| step.bodies.values()) {
        lists.push((&body.inputs, body.input_texts.clone()));
    }
    let rules = first.one.dist.bodies.values().flat_map(|body| &body.files);
    for rule in rules {
        if let Pick::Tree(list) = &rule.from {
            lists.push((list, vec![rule.text.clone()]));
        }
    }
    let broken = |path: PathBuf, source| failure(&DistError::Io { verb: "read", path, source });
    let only: Vec<&PatternList> = lists.iter().map(|(list, _)| *list).collect();
    let own = work.own_folders(all).into_iter().collect();
    let index = Index::new(work.root(), &only, own, work.digests)
        .map_err(|error| broken(error.path, error.source))?;
    let mut wanted: BTreeMap<RelPath, Node> = BTreeMap::new();
    for (list, texts) in &lists {
        let selected = index.select(list, texts).map_err(|error| broken(error.path, error.source))?;
        wanted.extend(selected.tree.entries().iter().cloned());
    }
    let mut plain: Vec<RelPath> =
        work.project.files.iter().filter_map(|path| RelPath::new(path.as_os_str().as_bytes()).ok()).collect();
    if let Some(Version::File(path)) = &first.one.dist.version {
        plain.push(path.clone());
    }
    for package in first.one.dist.sources.iter().flat_map(|sources| sources.rust.values()) {
        let lock = package.manifest.parent().unwrap_or_else(RelPath::root);
        plain.extend([
            package.manifest.clone(),
            lock.join(&RelPath::new("Cargo.lock").unwrap_or_else(|_| RelPath::root())),
        ]);
    }
    let mut targets: BTreeMap<RelPath, Option<(Vec<u8>, bool)>> = BTreeMap::new();
    targets
        .extend(plain.into_iter().filter(|path| path.under(work.root()).is_file()).map(|path| (path, None)));
    for (path, node) in wanted {
        match node {
            Node::Symlink { target } => targets.insert(path, Some((target, true))),
            Node::File { executable, .. } => targets.insert(path, executable.then(|| (Vec::new(), false))),
            Node::Folder => None,
        };
    }
    let mut size = 0;
    for (path, what) in &targets {
        let (from, to) = (path.under(work.root()), path.under(to));
        let made = || -> std::io::Result<u64> {
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            if let Some((target, true)) = what {
                return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &to).map(|()| 0);
            }
            let copied = std::fs::copy(&from, &to)?;
            let mode = if what.is_some() { 0o700 } else { 0o600 };
            std::fs::set_permissions(&to, PermissionsExt::from_mode(mode)).map(|()| copied)
        };
        size +=
            made().map_err(|source| failure(&DistError::Io { verb: "copy", path: from.clone(), source }))?;
    }
    Ok(size)
}

/// What every program in the archives says of itself; what is wrong goes to `problems`.
fn programs(
    work: &Work<'_>,
    first: &First<'_>,
    problems: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut paths: Vec<Vec<u8>> = SANDBOX.iter().map(|path| path.as_bytes().to_vec()).collect();
    paths.push(work.root().as_os_str().as_bytes().to_vec());
    let mut found = BTreeMap::new();
    for plan in &first.plans {
        let wanted = plan.platform.elf_machine().filter(|_| !first.one.dist.any_machine);
        for member in &plan.members {
            let Kind::File { size, at, .. } = &member.kind else { continue };
            let mut head = Vec::new();
            let read = std::fs::File::open(at).and_then(|file| {
                use std::io::Read as _;
                file.take(spolia_core::elf::HEADER_BYTES as u64).read_to_end(&mut head)
            });
            read.map_err(|source| failure(&DistError::Io { verb: "read", path: at.clone(), source }))?;
            if spolia_core::elf::machine(&head).is_none() {
                continue;
            }
            let name = format!("{}: {}", plan.archive, member.path);
            if *size > PROGRAM_BYTES_MAX {
                problems.push(format!("{name}: is too large to be looked into"));
                continue;
            }
            let data = std::fs::read(at)
                .map_err(|source| failure(&DistError::Io { verb: "read", path: at.clone(), source }))?;
            match binary::read(&data) {
                Ok(Some(binary)) => {
                    let wrong = binary::problems(&binary, &data, wanted, &paths);
                    problems.extend(wrong.into_iter().map(|wrong| format!("{name}: it {wrong}")));
                    found.insert(name, binary.to_string());
                }
                Ok(None) => {}
                Err(error) => problems.push(format!("{name}: is no sound program: {error}")),
            }
        }
    }
    Ok(found)
}
