//! `spolia dist --verify`: the release once more, by another process in another place, and the first difference.
//!
//! | varied | how |
//! |---|---|
//! | path of the checkout | a copy of what is declared, in a folder of another name and depth |
//! | order of folders, times, modes | the copy is made backwards, now, with modes that only its owner has |
//! | umask, time zone, locale | 077, Pacific/Chatham, tr_TR.UTF-8 |
//! | threads | one |
//! | the steps themselves | `--verify=rebuild`: an empty store, so that every step runs again |

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use spolia_build::index::Index;
use spolia_core::glob::PatternList;
use spolia_core::{Node, RelPath};
use spolia_dist::facts::Facts;
use spolia_dist::manifest::{Pick, Version};
use spolia_dist::plan::Kind;
use spolia_dist::verify::{binary, compare};
use spolia_dist::{DistError, PlatformPlan};
use spolia_engine::process::{Limits, run};
use spolia_engine::{Cancel, End};

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
    std::fs::create_dir_all(&checkout).map_err(io("create", &checkout))?;
    std::fs::set_permissions(&parent, PermissionsExt::from_mode(0o700)).map_err(io("create", &parent))?;
    copy(work, all, first, &checkout)?;
    let facts_at = parent.join("facts.json");
    let facts = serde_json::to_vec(first.facts).unwrap_or_default();
    std::fs::write(&facts_at, facts).map_err(io("write", &facts_at))?;
    let out = parent.join("out");
    let rebuild = how == VerifyArg::Rebuild;
    let said = second(
        work,
        first,
        &Places { checkout, facts: facts_at, out: out.clone(), parent, rebuild },
        cancel,
    )?;
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
            "programs": programs,
            "problems": problems,
        }));
    } else {
        for (program, words) in &programs {
            status(work.shell, "Program", &format!("{program}: {words}"));
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

struct Places {
    parent: PathBuf,
    checkout: PathBuf,
    facts: PathBuf,
    out: PathBuf,
    rebuild: bool,
}

/// Copies what the steps and the tables declare, the last path first.
fn copy(work: &Work<'_>, all: &[Dist], first: &First<'_>, to: &Path) -> Result<(), Failure> {
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
    for (path, what) in targets.iter().rev() {
        let (from, to) = (path.under(work.root()), path.under(to));
        let made = || -> std::io::Result<()> {
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            if let Some((target, true)) = what {
                return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &to);
            }
            std::fs::write(&to, std::fs::read(&from)?)?;
            let mode = if what.is_some() { 0o700 } else { 0o600 };
            std::fs::set_permissions(&to, PermissionsExt::from_mode(mode))
        };
        made().map_err(|source| failure(&DistError::Io { verb: "copy", path: from.clone(), source }))?;
    }
    Ok(())
}

/// Runs this program in the copy; what it said.
fn second(work: &Work<'_>, first: &First<'_>, places: &Places, cancel: &Cancel) -> Result<String, Failure> {
    let internal =
        |error: std::io::Error| Failure::environment(format!("cannot start the second build: {error}"));
    let own = std::env::current_exe().map_err(internal)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this program itself, in other surroundings; the engine's runner runs it"
    )]
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(own).stdin(Stdio::null());
    command.args(["--color", "never", "--progress", "never", "-C"]).arg(&places.checkout);
    command.arg("--cache-dir").arg(if places.rebuild {
        places.parent.join("store")
    } else {
        work.settings.cache_dir()?
    });
    command.args(["dist", "--allow-dirty", "--jobs", "1", "-o"]).arg(&places.out);
    command.arg("--second").arg(&places.facts);
    let platforms: Vec<String> = first.one.platforms.iter().map(ToString::to_string).collect();
    command.args(["--platform", &platforms.join(",")]);
    if let Some(variant) = &work.args.how.variant {
        command.args(["--variant", variant]);
    }
    if let Some(engine) = work.args.how.engine {
        let word = match engine {
            crate::cli::EngineArg::Host => "host",
            crate::cli::EngineArg::Sandbox => "sandbox",
        };
        command.args(["--engine", word]);
    }
    command.arg(&first.one.dist.name).current_dir(&places.parent);
    command.env("TZ", "Pacific/Chatham").env("LC_ALL", "tr_TR.UTF-8").env("LANG", "tr_TR.UTF-8");
    command.env_remove("SOURCE_DATE_EPOCH");
    let mut said = Vec::new();
    let limits = Limits { cancel, timeout: None };
    let ended = run(command, &limits, &mut |_, bytes| said.extend_from_slice(bytes)).map_err(internal)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    match ended.end {
        End::Exited(0) => Ok(said),
        End::Cancelled => Err(failure(&DistError::Cancelled)),
        _ => {
            work.shell.err(&said);
            Err(Failure::new(Exit::Problems, "the release could not be made a second time").hint(
                "the second build has only what is declared: a file that a step uses and does not name is not there",
            ))
        }
    }
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
