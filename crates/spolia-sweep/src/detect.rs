//! Which configurations a tree was built with, where nobody has declared them: `tree × live so far → commands`.
//!
//! First what everybody types, for each profile folder that is there ([`usual`]). Then the tree is asked: a unit of
//! a workspace's own package that no configuration explains was built by another one, or with an older lock file:
//! that is so where anything it was compiled with, near or far, is a package that the lock file has not any more
//! ([`Lineage`]). What the fingerprints of the others say
//! of features, flags and compiler makes commands to try, the newest unit first. One that explains a unit of the
//! tree, and of which the tree has every unit of other people's packages, is a configuration. One that lacks some
//! was of an older lock file and is none ([`more`]).
//!
//! That a unit is of an older lock file is remembered by its hash ([`Strangers`]): all that it was compiled with enters
//! that, so it cannot become one of this lock file, and years of such units need not be read again for each sweep.

use std::cell::{LazyCell, OnceCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::cargo::{Asker, Strangers, Workspace};
use crate::command::CargoCommand;
use crate::error::SweepError;
use crate::live::{Fingerprint, Named, Origin};
use crate::names::{self, UnitHash};
use crate::survey::{Progress, Request, Surveyed, ask_all};

/// The most commands that are tried for one target directory.
const TRIES_MAX: usize = 96;
/// The most flag sets and compilers that are tried.
const VARIANTS_MAX: usize = 6;

/// What everybody types for the profile folder `profile`. With these every package that the others below need is
/// known as well.
pub fn usual(workspace: &Workspace, profile: &str) -> Vec<CargoCommand> {
    typed(workspace, profile, &[("build", &[]), ("test", &[]), ("check", &[]), ("check", &["--all-targets"])])
}

/// What many type.
fn frequent(workspace: &Workspace, profile: &str, target: &Path) -> Vec<CargoCommand> {
    let mut shapes: Vec<(&str, &[&str])> =
        vec![("build", &["--all-targets"]), ("clippy", &[]), ("clippy", &["--all-targets"])];
    if target.join("doc").is_dir() {
        shapes.push(("doc", &[]));
    }
    let mut commands = typed(workspace, profile, &shapes);
    if profile.rsplit('/').next() == Some("release") {
        let base = profile_args(profile);
        let args: Vec<&str> = base.iter().map(String::as_str).filter(|arg| *arg != "--release").collect();
        commands.push(CargoCommand::new("bench", &args));
    }
    commands
}

fn typed(workspace: &Workspace, profile: &str, shapes: &[(&str, &[&str])]) -> Vec<CargoCommand> {
    let mut commands = Vec::new();
    let selections: &[&[&str]] = if workspace.has_other_defaults { &[&[], &["--workspace"]] } else { &[&[]] };
    let base = profile_args(profile);
    for selection in selections {
        for (verb, more) in shapes {
            let mut args: Vec<&str> = base.iter().map(String::as_str).collect();
            args.extend(*selection);
            args.extend(*more);
            commands.push(CargoCommand::new(verb, &args));
        }
    }
    commands
}

/// `x86_64-unknown-linux-musl/release` → `--target x86_64-unknown-linux-musl --release`.
fn profile_args(profile: &str) -> Vec<String> {
    let (triple, name) = match profile.split_once('/') {
        Some((triple, name)) => (Some(triple), name),
        None => (None, profile),
    };
    let mut args: Vec<String> = Vec::new();
    if let Some(triple) = triple {
        args.extend(["--target".to_owned(), triple.to_owned()]);
    }
    match name {
        "debug" => {}
        "release" => args.push("--release".to_owned()),
        name => args.extend(["--profile".to_owned(), name.to_owned()]),
    }
    args
}

/// A unit of a workspace's own package that nothing explains.
#[derive(Clone, Debug)]
struct Unexplained {
    profile: String,
    package: String,
    hash: UnitHash,
    is_documentation: bool,
    fingerprint: Fingerprint,
    newest: std::time::SystemTime,
}

/// The units of a tree, by the names of their folders.
struct Tree<'t> {
    target: &'t Path,
    profiles: &'t [String],
    /// Of every profile folder; gone through where that is asked for.
    units: OnceCell<HashMap<String, HashSet<UnitHash>>>,
    /// The workspace's own packages.
    own: HashSet<String>,
    /// Where the fingerprints of their units are.
    own_units: Vec<(String, String, UnitHash, PathBuf)>,
}

impl<'t> Tree<'t> {
    fn of(target: &'t Path, workspace: &Workspace, profiles: &'t [String]) -> Self {
        let own: HashSet<String> = workspace.members.iter().map(|member| member.name.clone()).collect();
        let mut own_units = Vec::new();
        each_unit(target, profiles, |profile, package, hash, path| {
            if own.contains(package) {
                own_units.push((profile.to_owned(), package.to_owned(), hash, path()));
            }
        });
        Self { target, profiles, units: OnceCell::new(), own, own_units }
    }

    fn units(&self) -> &HashMap<String, HashSet<UnitHash>> {
        self.units.get_or_init(|| {
            let mut units: HashMap<String, HashSet<UnitHash>> = HashMap::new();
            each_unit(self.target, self.profiles, |profile, _, hash, _| {
                units.entry(profile.to_owned()).or_default().insert(hash);
            });
            units
        })
    }

    /// Units of the workspace's own packages that no configuration so far explains, the newest first.
    fn unexplained(&self, surveyed: &Surveyed, strangers: &Strangers) -> Vec<Unexplained> {
        let mut all = Vec::new();
        for (profile, package, hash, path) in &self.own_units {
            if strangers.has(*hash) || is_live(surveyed, profile, hash) {
                continue;
            }
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(target) = name.strip_suffix(".json") else { continue };
                if target.starts_with("run-build-script") {
                    continue;
                }
                let read =
                    std::fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
                let newest = entry.metadata().and_then(|found| found.modified());
                if let (Some(fingerprint), Ok(newest)) = (read, newest) {
                    all.push(Unexplained {
                        profile: profile.clone(),
                        package: package.clone(),
                        hash: *hash,
                        is_documentation: target.starts_with("doc-"),
                        fingerprint,
                        newest,
                    });
                }
            }
        }
        all.sort_by_key(|unit| std::cmp::Reverse(unit.newest));
        all
    }

    /// Whether every unit of a package that is not the workspace's own is there.
    fn has_what_others_made(&self, named: &Named) -> bool {
        named.profiles.iter().all(|(profile, names)| {
            let others = names.units.iter().filter(|(_, unit)| !self.own.contains(&unit.package));
            let there = self.units().get(profile);
            others.into_iter().all(|(hash, _)| there.is_some_and(|there| there.contains(hash)))
        })
    }
}

fn is_live(surveyed: &Surveyed, profile: &str, hash: &UnitHash) -> bool {
    surveyed.live.profiles.get(profile).is_some_and(|live| live.units.contains_key(hash))
}

/// Tells `each` the profile, package and hash of every unit that Cargo noted, and where, where that is wanted.
fn each_unit(
    target: &Path,
    profiles: &[String],
    mut each: impl FnMut(&str, &str, UnitHash, &dyn Fn() -> PathBuf),
) {
    for profile in profiles {
        let folder = target.join(profile);
        each_name(&folder.join(".fingerprint"), |name, path| {
            if let Some((package, hash)) = names::split_unit(name) {
                each(profile, package, hash, path);
            }
        });
        each_name(&folder.join("build"), |package, above| {
            // In the old layout these are a unit each.
            if names::split_unit(package).is_some() {
                return;
            }
            each_name(&above(), |name, path| {
                if let Some(hash) = UnitHash::parse(name) {
                    each(profile, package, hash, &|| path().join("fingerprint"));
                }
            });
        });
    }
}

/// Tells `each` the names in a folder, and their paths where they are wanted.
fn each_name(folder: &Path, mut each: impl FnMut(&str, &dyn Fn() -> PathBuf)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str() {
            each(name, &|| entry.path());
        }
    }
}

/// Tries what the tree suggests, and takes in what explains a part of it.
pub(crate) fn more(
    surveyed: &mut Surveyed,
    workspace: &Workspace,
    profiles: &[String],
    request: &Request,
    asker: &Asker<'_>,
    report: &(dyn Fn(Progress<'_>) -> bool + Sync),
) -> Result<(), SweepError> {
    let mut tried: HashSet<CargoCommand> = HashSet::new();
    let lineage = LazyCell::new({
        let (target, profiles) = (surveyed.target.clone(), profiles.to_vec());
        move || Lineage::of(&target, &profiles)
    });
    let is_of = |unit: &Unexplained, packages: &BTreeSet<u64>| {
        // Mostly what it was compiled with itself is gone already; only else the whole tree is read.
        unit.fingerprint.deps.iter().all(|one| packages.contains(&one.0)) && lineage.is_of(unit, packages)
    };
    let (mut everything, mut is_known) = (false, false);
    let mut strangers = asker.strangers(workspace);
    strangers.hold_for(&surveyed.packages);
    let target = surveyed.target.clone();
    let tree = Tree::of(&target, workspace, profiles);
    let mut unexplained = tree.unexplained(surveyed, &strangers);
    for stage in [Stage::Frequent, Stage::Selections, Stage::Variants, Stage::Features] {
        unexplained.retain(|unit| !is_live(surveyed, &unit.profile, &unit.hash));
        if unexplained.is_empty() {
            break;
        }
        if !everything && unexplained.iter().any(|unit| !is_of(unit, &surveyed.packages)) {
            // Packages that only some feature brings are in the lock file too.
            everything = true;
            let all = CargoCommand::new("check", &["--workspace", "--all-targets", "--all-features"]);
            for answer in ask_all(std::slice::from_ref(&all), workspace, asker, 1, report) {
                is_known = answer.is_ok();
                if let Ok((named, asked)) = answer {
                    surveyed.packages.extend(&named.packages);
                    surveyed.asked.push((all.clone(), asked));
                }
            }
        }
        if !strangers.hold_for(&surveyed.packages) {
            unexplained = tree.unexplained(surveyed, &strangers);
        }
        let open: Vec<&Unexplained> =
            unexplained.iter().filter(|unit| is_of(unit, &surveyed.packages)).collect();
        if open.is_empty() {
            break;
        }
        let commands: Vec<CargoCommand> = stage
            .commands(surveyed, workspace, &open, asker)
            .into_iter()
            .filter(|command| tried.insert(command.clone()))
            .take(TRIES_MAX)
            .collect();
        let answers = ask_all(&commands, workspace, asker, request.threads, report);
        let mut missing: HashSet<(String, UnitHash)> =
            open.iter().map(|unit| (unit.profile.clone(), unit.hash)).collect();
        for (command, answer) in commands.into_iter().zip(answers) {
            match answer {
                Ok((named, asked)) => {
                    if tree.has_what_others_made(&named) && explains(&named, &mut missing) {
                        surveyed.take(command, Origin::Detected, &named, asked, request);
                    } else {
                        surveyed.asked.push((command, asked));
                    }
                }
                Err(error @ (SweepError::Stopped | SweepError::Start { .. })) => return Err(error),
                // It was a guess.
                Err(_) => {}
            }
        }
        if !strangers.hold_for(&surveyed.packages) {
            unexplained = tree.unexplained(surveyed, &strangers);
        }
    }
    // Without an answer just now a later one may know more packages.
    if everything && is_known {
        let others = unexplained.iter().filter(|unit| !is_of(unit, strangers.packages()));
        let others: Vec<UnitHash> = others.map(|unit| unit.hash).collect();
        strangers.remember(others.into_iter());
    }
    Ok(())
}

/// Whether one of the units is named; those that are, are explained.
fn explains(named: &Named, missing: &mut HashSet<(String, UnitHash)>) -> bool {
    let before = missing.len();
    missing.retain(|(profile, hash)| {
        named.profiles.get(profile).is_none_or(|names| !names.units.contains_key(hash))
    });
    missing.len() < before
}

/// What every unit of a tree was compiled with, by Cargo's fingerprints.
#[derive(Default)]
struct Lineage {
    /// By a unit's own fingerprint.
    units: HashMap<u64, Vec<(u64, u64)>>,
}

impl Lineage {
    fn of(target: &Path, profiles: &[String]) -> Self {
        let mut lineage = Self::default();
        let folders = |folder: &Path| -> Vec<std::path::PathBuf> {
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        for profile in profiles {
            let folder = target.join(profile);
            let old = folders(&folder.join(".fingerprint"));
            let new = folders(&folder.join("build")).into_iter().flat_map(|package| folders(&package));
            for unit in old.into_iter().chain(new.map(|unit| unit.join("fingerprint"))) {
                lineage.read(&unit);
            }
        }
        lineage
    }

    fn read(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let read: Option<Fingerprint> =
                std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            // Beside it, under the same name without the ending: the unit's own, its bytes from the lowest.
            let own = std::fs::read_to_string(path.with_extension("")).ok();
            let own = own.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).map(u64::swap_bytes);
            if let (Some(read), Some(own)) = (read, own) {
                self.units.insert(own, read.deps.iter().map(|one| (one.0, one.3)).collect());
            }
        }
    }

    /// Whether all that a unit was compiled with, as far as the tree still has it, is of these packages.
    fn is_of(&self, unit: &Unexplained, packages: &BTreeSet<u64>) -> bool {
        let mut seen = HashSet::new();
        let mut open: Vec<(u64, u64)> = unit.fingerprint.deps.iter().map(|one| (one.0, one.3)).collect();
        while let Some((package, fingerprint)) = open.pop() {
            if !packages.contains(&package) {
                return false;
            }
            if seen.insert(fingerprint) {
                open.extend(self.units.get(&fingerprint).into_iter().flatten());
            }
        }
        true
    }
}

#[derive(Clone, Copy)]
enum Stage {
    /// What many type.
    Frequent,
    /// One package, as `-p` selects it.
    Selections,
    /// Flags and compilers.
    Variants,
    /// Features.
    Features,
}

impl Stage {
    fn commands(
        self,
        surveyed: &Surveyed,
        workspace: &Workspace,
        open: &[&Unexplained],
        asker: &Asker<'_>,
    ) -> Vec<CargoCommand> {
        match self {
            Self::Frequent => {
                let profiles: BTreeSet<&str> = open.iter().map(|unit| unit.profile.as_str()).collect();
                profiles.iter().flat_map(|profile| frequent(workspace, profile, &surveyed.target)).collect()
            }
            Self::Selections => selections(workspace, open),
            Self::Variants => variants(surveyed, workspace, open, asker),
            Self::Features => features(open),
        }
    }
}

const SHAPES: &[(&str, &[&str])] = &[
    ("build", &[]),
    ("test", &[]),
    ("check", &["--all-targets"]),
    ("check", &[]),
    ("clippy", &["--all-targets"]),
    ("build", &["--all-targets"]),
];

fn shaped(profile: &str, selection: &[&str], is_documentation: bool) -> Vec<CargoCommand> {
    let base = profile_args(profile);
    let one = |verb: &str, more: &[&str]| {
        let mut args: Vec<&str> = base.iter().map(String::as_str).collect();
        args.extend(selection);
        args.extend(more);
        CargoCommand::new(verb, &args)
    };
    if is_documentation {
        return vec![one("doc", &[])];
    }
    SHAPES.iter().map(|(verb, more)| one(verb, more)).collect()
}

fn selections(workspace: &Workspace, open: &[&Unexplained]) -> Vec<CargoCommand> {
    let mut commands = Vec::new();
    for unit in open {
        if workspace.members.len() > 1 {
            commands.extend(shaped(&unit.profile, &["-p", &unit.package], unit.is_documentation));
        }
        commands.extend(shaped(&unit.profile, &["--all-features"], unit.is_documentation));
    }
    dedup(commands)
}

fn features(open: &[&Unexplained]) -> Vec<CargoCommand> {
    let mut commands = Vec::new();
    for unit in open {
        let names: BTreeSet<String> = unit.fingerprint.feature_names().into_iter().collect();
        let list = names.into_iter().collect::<Vec<_>>().join(",");
        let mut selection = vec!["-p", unit.package.as_str(), "--no-default-features"];
        if !list.is_empty() {
            selection.extend(["--features", list.as_str()]);
        }
        commands.extend(shaped(&unit.profile, &selection, unit.is_documentation));
    }
    dedup(commands)
}

/// What everybody types, with the flags and the compilers that the tree shows.
fn variants(
    surveyed: &Surveyed,
    workspace: &Workspace,
    open: &[&Unexplained],
    asker: &Asker<'_>,
) -> Vec<CargoCommand> {
    let mut commands = Vec::new();
    let mut seen: Vec<(&str, &[String])> = Vec::new();
    for unit in open.iter().filter(|unit| !unit.fingerprint.rustflags.is_empty()) {
        let variant = (unit.profile.as_str(), unit.fingerprint.rustflags.as_slice());
        if seen.len() >= VARIANTS_MAX || seen.contains(&variant) {
            continue;
        }
        seen.push(variant);
        let (name, joint) = match variant.1.iter().any(|flag| flag.contains(char::is_whitespace)) {
            true => ("CARGO_ENCODED_RUSTFLAGS", "\u{1f}"),
            false => ("RUSTFLAGS", " "),
        };
        for mut command in both(workspace, variant.0, &surveyed.target) {
            command.env.push((name.to_owned(), variant.1.join(joint)));
            commands.push(command);
        }
    }
    let live_compilers: HashSet<u64> = surveyed
        .live
        .profiles
        .values()
        .flat_map(|live| live.units.values())
        .filter_map(|(unit, _)| unit.rustc)
        .collect();
    let strangers: BTreeSet<&str> = open
        .iter()
        .filter(|unit| !live_compilers.contains(&unit.fingerprint.rustc))
        .map(|unit| unit.profile.as_str())
        .collect();
    if !strangers.is_empty() {
        for toolchain in asker.installed(&workspace.root).into_iter().take(VARIANTS_MAX) {
            for profile in &strangers {
                for mut command in both(workspace, profile, &surveyed.target) {
                    command.toolchain = Some(toolchain.clone());
                    commands.push(command);
                }
            }
        }
    }
    dedup(commands)
}

fn both(workspace: &Workspace, profile: &str, target: &Path) -> Vec<CargoCommand> {
    let mut commands = usual(workspace, profile);
    commands.extend(frequent(workspace, profile, target));
    commands
}

fn dedup(commands: Vec<CargoCommand>) -> Vec<CargoCommand> {
    let mut seen = HashSet::new();
    commands.into_iter().filter(|command| seen.insert(command.clone())).collect()
}
