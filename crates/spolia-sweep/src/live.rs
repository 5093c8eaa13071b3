//! What is live: `skeletons of the configurations → Live`. Reads skeletons, never a true target directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::command::CargoCommand;
use crate::incremental;
use crate::names::{self, UnitHash};

/// Everything one command needs, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// By profile folder: `debug`, `x86_64-unknown-linux-musl/release`.
    pub profiles: BTreeMap<String, ProfileNames>,
    /// Crates that are documented.
    pub docs: BTreeSet<String>,
    /// Packages that something depends on, as Cargo numbers them.
    #[serde(default)]
    pub packages: BTreeSet<u64>,
}

/// What is named in one profile folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileNames {
    /// Units.
    pub units: BTreeMap<UnitHash, UnitName>,
    /// Files whose names hold no hash, relative to the profile's folder: `app`, `deps/libutil.so`.
    pub files: BTreeSet<String>,
    /// Incremental folders.
    pub incremental: BTreeSet<String>,
}

/// One crate, compiled one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitName {
    /// Its package.
    pub package: String,
    /// What Cargo's fingerprint calls it: `lib-serde`, `test-bin-app`.
    pub targets: BTreeSet<String>,
    /// What Cargo calls the compiler: a number that only tells compilers apart.
    pub rustc: Option<u64>,
}

/// Reads the skeleton in `folder`, a target directory made by [`crate::skeleton`]. `calls` is the text of its
/// calls, `release` the compiler's own ([`incremental::folder`]).
pub fn read_skeleton(folder: &Path, calls: &str, release: &str) -> std::io::Result<Named> {
    let mut named = Named::default();
    for profile in crate::find::profiles(folder)? {
        let names = read_profile(&folder.join(&profile), &mut named.packages)?;
        named.profiles.insert(profile, names);
    }
    for line in calls.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["doc", name] => {
                named.docs.insert(name.to_owned());
            }
            ["incremental", kind, name, metadata, out_dir] => {
                let metadata: Vec<&str> = metadata.split(' ').collect();
                let name = incremental::folder(name, &metadata, kind == "exe", release);
                let out_dir = Path::new(out_dir);
                let of = |profile: &&String| out_dir.starts_with(folder.join(profile));
                if let Some(profile) = named.profiles.keys().find(of).cloned()
                    && let Some(names) = named.profiles.get_mut(&profile)
                {
                    names.incremental.insert(name);
                }
            }
            _ => {}
        }
    }
    Ok(named)
}

fn read_profile(folder: &Path, packages: &mut BTreeSet<u64>) -> std::io::Result<ProfileNames> {
    let mut names = ProfileNames::default();
    for (name, path) in listed(&folder.join(".fingerprint"))? {
        if let Some((package, hash)) = names::split_unit(&name) {
            read_fingerprint(&path, package, names.units.entry(hash).or_default(), packages)?;
        }
    }
    for (package, path) in listed(&folder.join("build"))? {
        if let Some((package, hash)) = names::split_unit(&package) {
            package.clone_into(&mut names.units.entry(hash).or_default().package);
            continue;
        }
        for (hash, path) in listed(&path)? {
            if let Some(hash) = UnitHash::parse(&hash) {
                let unit = names.units.entry(hash).or_default();
                read_fingerprint(&path.join("fingerprint"), &package, unit, packages)?;
                for (name, _) in listed(&path.join("out"))? {
                    if names::hash_in_file(&name).is_none() {
                        names.files.insert(format!("deps/{name}"));
                    }
                }
            }
        }
    }
    for (below, prefix) in [("", ""), ("deps", "deps/"), ("examples", "examples/")] {
        for (name, path) in listed(&folder.join(below))? {
            if names::hash_in_file(&name).is_none() && !path.is_dir() {
                names.files.insert(format!("{prefix}{name}"));
            }
        }
    }
    Ok(names)
}

fn read_fingerprint(
    folder: &Path,
    package: &str,
    unit: &mut UnitName,
    packages: &mut BTreeSet<u64>,
) -> std::io::Result<()> {
    package.clone_into(&mut unit.package);
    for (name, path) in listed(folder)? {
        if let Some(target) = name.strip_suffix(".json") {
            unit.targets.insert(target.to_owned());
            let read: Option<Fingerprint> =
                std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(read) = read {
                packages.extend(read.deps.iter().map(|dependency| dependency.0));
                unit.rustc = unit.rustc.or(Some(read.rustc));
            }
        }
    }
    Ok(())
}

/// What is of use in the JSON of a fingerprint; Cargo keeps it for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Fingerprint {
    /// Tells compilers apart.
    #[serde(default)]
    pub rustc: u64,
    /// The features, as Rust prints a list of strings.
    #[serde(default)]
    pub features: String,
    /// `RUSTFLAGS`.
    #[serde(default)]
    pub rustflags: Vec<String>,
    /// What it was compiled with: the package's number, the crate's name, whether it is public, and the
    /// dependency's own fingerprint.
    #[serde(default)]
    pub deps: Vec<(u64, String, bool, u64)>,
}

impl Fingerprint {
    /// The features' names.
    pub fn feature_names(&self) -> Vec<String> {
        serde_json::from_str(&self.features).unwrap_or_default()
    }
}

/// Names and paths in a folder; none where it is not there. Names that are not text are not Cargo's.
fn listed(folder: &Path) -> std::io::Result<Vec<(String, std::path::PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            all.push((name, entry.path()));
        }
    }
    Ok(all)
}

/// How a configuration came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The manifest names it.
    Declared,
    /// The journal has a build with it.
    Journal,
    /// The tree shows that it was built.
    Detected,
    /// What everybody types, in a profile that is there.
    Usual,
}

/// A command whose artifacts stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// The command.
    pub command: CargoCommand,
    /// Why it counts.
    pub origin: Origin,
    /// When it last ran by the journal, µs since 1970; `None` where no run of it is recorded.
    pub used_at_us: Option<u64>,
}

/// The union of all configurations.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The configurations, by number.
    pub configurations: Vec<Configuration>,
    /// What they need in each profile folder.
    pub profiles: HashMap<String, LiveProfile>,
    /// Documented crates.
    pub docs: BTreeSet<String>,
}

/// What stays in one profile folder.
#[derive(Clone, Debug, Default)]
pub struct LiveProfile {
    /// Units, with the configurations that need them.
    pub units: HashMap<UnitHash, (UnitName, Vec<u32>)>,
    /// Files without a hash in their names.
    pub files: HashMap<String, Vec<u32>>,
    /// Incremental folders.
    pub incremental: HashMap<String, Vec<u32>>,
}

impl Live {
    /// Takes in what one configuration needs.
    pub fn add(&mut self, configuration: Configuration, named: &Named) {
        let number = u32::try_from(self.configurations.len()).unwrap_or(u32::MAX);
        self.configurations.push(configuration);
        for (profile, names) in &named.profiles {
            let live = self.profiles.entry(profile.clone()).or_default();
            for (hash, unit) in &names.units {
                let known = live.units.entry(*hash).or_insert_with(|| (unit.clone(), Vec::new()));
                known.1.push(number);
            }
            for file in &names.files {
                live.files.entry(file.clone()).or_default().push(number);
            }
            for folder in &names.incremental {
                live.incremental.entry(folder.clone()).or_default().push(number);
            }
        }
        self.docs.extend(named.docs.iter().cloned());
    }

    /// Units in all profiles.
    pub fn unit_count(&self) -> usize {
        self.profiles.values().map(|profile| profile.units.len()).sum()
    }
}
