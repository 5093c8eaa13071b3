//! Why something is stale: `item × Live × fingerprint → Why`. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fingerprint::Details;
use crate::live::{Live, UnitName};
use crate::names::UnitHash;
use crate::plan::Policy;
use crate::scan::{Item, Place, Scan};

/// Scratch of tests that was touched within this time may be in use: no lock says so.
const SCRATCH_GRACE_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Why something goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// No configuration needs any version of the package.
    DependencyGone,
    /// The same package and target are live under another fingerprint.
    Superseded {
        /// Which.
        by: UnitHash,
    },
    /// The package is live, but not this target of it.
    TargetGone,
    /// The compiler that made it is not installed any more.
    ToolchainGone,
    /// The compiler that made it is not the one of any configuration.
    ToolchainNotUsed,
    /// No configuration has these `RUSTFLAGS`.
    FlagsNotDeclared {
        /// They.
        rustflags: Vec<String>,
    },
    /// No configuration builds in this profile folder.
    ProfileNotDeclared,
    /// A file of a unit of which Cargo remembers nothing.
    Orphan,
    /// A compiler that was killed left it.
    CompilerScratch,
    /// Scratch of tests, not touched for a day.
    TestScratch,
    /// Packed from a version that is not the package's, or unpacked to be checked.
    PackageOld,
    /// A report of a build before the last.
    ReportOld,
    /// What a tool made of a program that no configuration builds, not touched for a day.
    ProgramGone,
    /// Documentation of a crate that no configuration documents.
    DocGone,
    /// Of no use in a cache that is saved: a fresh checkout compiles these crates anew.
    NotWorthSaving,
    /// The configuration that was not used for the longest time, to get below a limit.
    LeastRecentlyUsed {
        /// Its number among the plan's configurations.
        configuration: u32,
    },
    /// Everything was asked for.
    All,
}

/// Says why, for one scan.
pub(crate) struct Reasons<'p> {
    scan: &'p Scan,
    live: &'p Live,
    installed: Option<&'p BTreeSet<u64>>,
    members: &'p std::collections::BTreeMap<String, String>,
    /// By profile folder and package: a tree has many stale units of each.
    live_units: HashMap<(&'p str, &'p str), Vec<(UnitHash, &'p UnitName)>>,
    live_compilers: HashSet<u64>,
    newest_report_us: u64,
    now_us: u64,
}

impl<'p> Reasons<'p> {
    pub(crate) fn new(scan: &'p Scan, live: &'p Live, policy: &'p Policy, now_us: u64) -> Self {
        let mut live_units: HashMap<_, Vec<_>> = HashMap::new();
        let mut live_compilers = HashSet::new();
        for (profile, names) in &live.profiles {
            for (hash, (unit, _)) in &names.units {
                live_compilers.extend(unit.rustc);
                live_units.entry((profile.as_str(), unit.package.as_str())).or_default().push((*hash, unit));
            }
        }
        let reports = scan.items.iter().filter(|item| scan.folder(item).place == Place::Timings);
        let newest_report_us = reports.map(|item| item.newest_us).max().unwrap_or(0);
        let (installed, members) = (policy.installed.as_ref(), &policy.members);
        Self { scan, live, installed, members, live_units, live_compilers, newest_report_us, now_us }
    }

    /// Whether something that nothing names is of no use, looked at as a whole.
    pub(crate) fn is_of_no_use(&self, item: &Item) -> bool {
        let folder = self.scan.folder(item);
        match folder.place {
            Place::Package => self.is_old_package(item),
            Place::Timings => item.newest_us < self.newest_report_us,
            // No lock says whether a test or the tool runs.
            Place::Scratch | Place::Tool => self.is_old(item),
            _ => true,
        }
    }

    /// Why a stale thing without a hash is.
    pub(crate) fn of_named(&self, item: &Item) -> Why {
        let folder = self.scan.folder(item);
        let name = self.scan.name(item).to_str().unwrap_or_default();
        match folder.place {
            Place::Doc => Why::DocGone,
            Place::Package if self.is_old_package(item) => Why::PackageOld,
            Place::Timings if item.newest_us < self.newest_report_us => Why::ReportOld,
            Place::Tool => Why::ProgramGone,
            Place::Scratch if self.is_old(item) => Why::TestScratch,
            Place::Package | Place::Timings | Place::Scratch => Why::NotWorthSaving,
            _ if !self.live.profiles.contains_key(&*folder.profile) => Why::ProfileNotDeclared,
            Place::Deps if crate::names::is_compilers_scratch(name) => Why::CompilerScratch,
            Place::Incremental => self.of_incremental(&folder.profile, name),
            _ => Why::Orphan,
        }
    }

    /// Why a stale unit is; `print` is its fingerprint, if there is one, and `targets` and `details` what stands in it.
    /// `None` where that would have to be read first.
    pub(crate) fn of_unit(
        &self,
        profile: &str,
        print: Option<&Item>,
        noted: Option<(&[&str], &Details)>,
    ) -> Option<Why> {
        if !self.live.profiles.contains_key(profile) {
            return Some(Why::ProfileNotDeclared);
        }
        let Some(print) = print else { return Some(Why::Orphan) };
        let (targets, details) = noted?;
        if let Some(rustc) = details.rustc
            && !self.live_compilers.contains(&rustc)
        {
            return Some(match self.installed {
                Some(installed) if !installed.contains(&rustc) => Why::ToolchainGone,
                _ => Why::ToolchainNotUsed,
            });
        }
        let package = self.scan.package(print).unwrap_or_default();
        let Some(others) = self.live_units.get(&(profile, package)) else {
            return Some(Why::DependencyGone);
        };
        if !details.rustflags.is_empty() && !self.has_flags(&details.rustflags) {
            return Some(Why::FlagsNotDeclared { rustflags: details.rustflags.clone() });
        }
        let same = |unit: &UnitName| targets.iter().any(|target| unit.targets.contains(*target));
        let by = others.iter().filter(|(_, unit)| same(unit)).map(|(hash, _)| *hash).min();
        Some(by.map_or(Why::TargetGone, |by| Why::Superseded { by }))
    }

    fn has_flags(&self, rustflags: &[String]) -> bool {
        let text = rustflags.join(" ");
        let sets = |(name, value): &(String, String)| {
            name == "RUSTFLAGS" && value.split_whitespace().collect::<Vec<_>>().join(" ") == text
        };
        self.live.configurations.iter().any(|one| one.command.env.iter().any(sets))
    }

    fn of_incremental(&self, profile: &Arc<str>, file: &str) -> Why {
        let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
        let is_same = |unit: &UnitName| {
            unit.targets
                .iter()
                .any(|target| target.rsplit_once('-').is_some_and(|(_, of)| of.replace('-', "_") == name))
                || unit.package.replace('-', "_") == name
        };
        let successor = self.live.profiles.get(&**profile).and_then(|live| {
            live.units.iter().filter(|(_, (unit, _))| is_same(unit)).map(|(hash, _)| *hash).min()
        });
        successor.map_or(Why::DependencyGone, |by| Why::Superseded { by })
    }

    fn is_old(&self, item: &Item) -> bool {
        item.newest_us.saturating_add(SCRATCH_GRACE_US) < self.now_us
    }

    fn is_old_package(&self, item: &Item) -> bool {
        let name = self.scan.name(item).to_str().unwrap_or_default();
        let packed = name.strip_suffix(".crate");
        let is_current = |(name, version): (&String, &String)| packed == Some(&format!("{name}-{version}"));
        // `cargo package` has no lock of its own here.
        !name.starts_with('.') && !self.members.iter().any(is_current) && self.is_old(item)
    }
}
