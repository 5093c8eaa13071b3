//! What goes and why: `Scan × Live × Policy → SweepPlan`. Pure.
//!
//! Every policy but [`Policy::all`] and the two limits chooses among what is stale. The limits take what is stale
//! first and then whole configurations, those first whose last run by the journal is longest ago: what another
//! configuration needs as well stays, so that no build is left with half of its units.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::live::{Live, UnitName};
use crate::names::UnitHash;
use crate::scan::{Details, Item, Place, Scan};

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

/// What may go.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Only what was last built before this, µs since 1970.
    pub built_before_us: Option<u64>,
    /// Only what other compilers than these made, as Cargo numbers them.
    pub keep_compilers: Option<BTreeSet<u64>>,
    /// Only what belongs to these packages.
    pub only_packages: Option<BTreeSet<String>>,
    /// The most bytes that may stay.
    pub max_bytes: Option<u64>,
    /// Bytes that have to become free.
    pub free_bytes: Option<u64>,
    /// Everything that Cargo can make again.
    pub all: bool,
    /// Also what a fresh checkout has no use for.
    pub for_cache_save: bool,
    /// What is known of compilers that are installed, as Cargo numbers them; `None` where that was not asked.
    pub installed: Option<BTreeSet<u64>>,
    /// Packages of the workspaces, with their versions.
    pub members: BTreeMap<String, String>,
    /// Profile folders of which nothing is known: what is in them stays.
    pub unknown_profiles: BTreeSet<String>,
}

/// One unit, or one thing beside the units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Why it goes.
    #[serde(flatten)]
    pub why: Why,
    /// Its profile folder; empty beside them.
    pub profile: String,
    /// Its package, where that is known.
    pub package: Option<String>,
    /// What Cargo's fingerprint calls it.
    pub targets: Vec<String>,
    /// Its hash, where it has one.
    pub hash: Option<UnitHash>,
    /// Bytes on disk that become free, those of a file with several names once and only where all go.
    pub bytes: u64,
    /// How long its compiler took last; `None` where Cargo's files do not tell.
    pub rebuild_us: Option<u64>,
    /// The newest change in it, µs since 1970.
    pub newest_us: u64,
    /// What is removed, in this order.
    pub parts: Vec<Part>,
}

/// One file or folder of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Below the target directory.
    #[serde(serialize_with = "as_text")]
    pub path: Arc<Path>,
    /// What it is.
    pub place: Place,
    /// Device and number.
    #[serde(skip)]
    pub id: (u64, u64),
}

fn as_text<S: serde::Serializer>(path: &Arc<Path>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// What goes from one target directory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SweepPlan {
    /// The entries, the largest first.
    pub entries: Vec<Entry>,
    /// Bytes that become free.
    pub bytes: u64,
    /// Bytes of all that is stale, also where the policy leaves it.
    pub stale_bytes: u64,
    /// Bytes of what is live.
    pub live_bytes: u64,
    /// Bytes of what is not Cargo's or not known, which stays.
    pub unknown_bytes: u64,
    /// Live units that are there.
    pub live_units: usize,
    /// Units that are stale.
    pub stale_units: usize,
    /// Configurations that were given up to get below a limit, by their numbers, the first first.
    pub evicted: Vec<u32>,
    /// Whether the limits could not be kept, since nothing more may go.
    pub above_limit: bool,
}

type Group = (Arc<str>, Option<UnitHash>, Option<Arc<Path>>);

/// What to remove. `now_us` is µs since 1970.
pub fn plan(scan: &Scan, live: &Live, policy: &Policy, now_us: u64) -> SweepPlan {
    let mut planner = Planner::new(scan, live, policy, now_us);
    let is_known = |item: &&Item| !policy.unknown_profiles.contains(&*item.profile);
    let (mut stale, mut rest) = (Vec::new(), Vec::new());
    for item in scan.items.iter().filter(is_known) {
        match item.needed_by.is_empty() {
            true => stale.push(item),
            false => rest.push(item),
        }
    }
    if !policy.all {
        let scratch = [Place::Scratch, Place::Package, Place::Timings];
        let goes = |item: &Item| policy.for_cache_save && scratch.contains(&item.place);
        stale.retain(|item| goes(item) || planner.is_of_no_use(item));
    }
    let mut result = SweepPlan {
        stale_bytes: freed(&stale),
        live_bytes: scan.live_bytes,
        unknown_bytes: scan.unknown_bytes,
        live_units: scan.live_units.len(),
        stale_units: stale
            .iter()
            .filter_map(|i| i.hash.map(|h| (&i.profile, h)))
            .collect::<HashSet<_>>()
            .len(),
        ..SweepPlan::default()
    };
    let young_groups: HashSet<Group> =
        stale.iter().filter(|item| !planner.may_go(item)).map(|item| group(item)).collect();
    let mut gone: Vec<&Item> =
        stale.iter().filter(|item| policy.all || !young_groups.contains(&group(item))).copied().collect();
    for item in &gone {
        let why = if policy.all { Some(Why::All) } else { None };
        planner.take(item, why);
    }
    if policy.all {
        for item in rest {
            planner.take(item, Some(Why::All));
            gone.push(item);
        }
    } else {
        if policy.for_cache_save {
            let of_no_use = |item: &&&Item| item.place == Place::Incremental;
            for item in rest.iter().filter(of_no_use) {
                planner.take(item, Some(Why::NotWorthSaving));
                gone.push(item);
            }
            rest.retain(|item| item.place != Place::Incremental);
        }
        (result.evicted, result.above_limit) = planner.limits(&mut gone, &rest, &result);
    }
    result.bytes = freed(&gone);
    result.entries = planner.finish();
    result
}

fn group(item: &Item) -> Group {
    let path = item.hash.is_none().then(|| Arc::clone(&item.path));
    (Arc::clone(&item.profile), item.hash, path)
}

/// Bytes that go with these items.
fn freed<'i>(items: impl IntoIterator<Item = &'i &'i Item>) -> u64 {
    let (mut bytes, mut names) = (0, HashMap::new());
    for item in items {
        bytes += item.bytes;
        for link in &item.links {
            let count = names.entry(link.id).or_insert(0u64);
            *count += 1;
            if *count == link.names {
                bytes += link.bytes;
            }
        }
    }
    bytes
}

struct Planner<'p> {
    scan: &'p Scan,
    live: &'p Live,
    policy: &'p Policy,
    now_us: u64,
    entries: BTreeMap<Group, (Why, Vec<&'p Item>)>,
    /// By profile folder and package: a tree has many stale units of each.
    live_units: HashMap<(&'p str, &'p str), Vec<(UnitHash, &'p UnitName)>>,
    live_compilers: HashSet<u64>,
    newest_report_us: u64,
}

impl<'p> Planner<'p> {
    fn new(scan: &'p Scan, live: &'p Live, policy: &'p Policy, now_us: u64) -> Self {
        let mut live_units: HashMap<_, Vec<_>> = HashMap::new();
        let mut live_compilers = HashSet::new();
        for (profile, names) in &live.profiles {
            for (hash, (unit, _)) in &names.units {
                live_compilers.extend(unit.rustc);
                live_units.entry((profile.as_str(), unit.package.as_str())).or_default().push((*hash, unit));
            }
        }
        let reports = scan.items.iter().filter(|item| item.place == Place::Timings);
        let newest_report_us = reports.map(|item| item.newest_us).max().unwrap_or(0);
        let entries = BTreeMap::new();
        Self { scan, live, policy, now_us, entries, live_units, live_compilers, newest_report_us }
    }

    fn details(&self, item: &Item) -> Option<&'p Details> {
        self.scan.details.get(&(Arc::clone(&item.profile), item.hash?))
    }

    /// Whether a stale item is, looked at as a whole.
    fn is_of_no_use(&self, item: &Item) -> bool {
        let asks = [Place::Package, Place::Timings, Place::Scratch, Place::Tool];
        !asks.contains(&item.place) || self.why(item).is_some()
    }

    /// Why a stale item is stale; `None` where it is not, looked at as a whole.
    fn why(&self, item: &Item) -> Option<Why> {
        let file = item.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match item.place {
            Place::Doc => return Some(Why::DocGone),
            Place::Package => return self.package_why(item, file),
            Place::Timings => return self.timing_why(item),
            Place::Tool => {
                // No lock says whether the tool runs.
                let old = item.newest_us.saturating_add(SCRATCH_GRACE_US) < self.now_us;
                return old.then_some(Why::ProgramGone);
            }
            Place::Scratch => {
                let old = item.newest_us.saturating_add(SCRATCH_GRACE_US) < self.now_us;
                return old.then_some(Why::TestScratch);
            }
            _ => {}
        }
        if !self.live.profiles.contains_key(&*item.profile) {
            return Some(Why::ProfileNotDeclared);
        }
        if item.hash.is_none() {
            return Some(match item.place {
                Place::Deps if crate::names::is_compilers_scratch(file) => Why::CompilerScratch,
                Place::Incremental => self.incremental_why(&item.profile, file),
                _ => Why::Orphan,
            });
        }
        let Some(details) = self.details(item) else { return Some(Why::Orphan) };
        Some(self.unit_why(&item.profile, details))
    }

    fn unit_why(&self, profile: &str, details: &Details) -> Why {
        if let Some(rustc) = details.rustc
            && !self.live_compilers.contains(&rustc)
        {
            return match &self.policy.installed {
                Some(installed) if !installed.contains(&rustc) => Why::ToolchainGone,
                _ => Why::ToolchainNotUsed,
            };
        }
        let Some(others) = self.live_units.get(&(profile, details.package.as_str())) else {
            return Why::DependencyGone;
        };
        if !details.rustflags.is_empty() && !self.has_flags(&details.rustflags) {
            return Why::FlagsNotDeclared { rustflags: details.rustflags.clone() };
        }
        let same = |unit: &UnitName| details.targets.iter().any(|target| unit.targets.contains(target));
        match others.iter().filter(|(_, unit)| same(unit)).map(|(hash, _)| *hash).min() {
            Some(by) => Why::Superseded { by },
            None => Why::TargetGone,
        }
    }

    fn has_flags(&self, rustflags: &[String]) -> bool {
        let text = rustflags.join(" ");
        let sets = |(name, value): &(String, String)| {
            name == "RUSTFLAGS" && value.split_whitespace().collect::<Vec<_>>().join(" ") == text
        };
        self.live.configurations.iter().any(|one| one.command.env.iter().any(sets))
    }

    fn incremental_why(&self, profile: &str, file: &str) -> Why {
        let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
        let is_same = |unit: &UnitName| {
            unit.targets
                .iter()
                .any(|target| target.rsplit_once('-').is_some_and(|(_, of)| of.replace('-', "_") == name))
                || unit.package.replace('-', "_") == name
        };
        let successor = self.live.profiles.get(profile).and_then(|live| {
            live.units.iter().filter(|(_, (unit, _))| is_same(unit)).map(|(hash, _)| *hash).min()
        });
        successor.map_or(Why::DependencyGone, |by| Why::Superseded { by })
    }

    fn package_why(&self, item: &Item, file: &str) -> Option<Why> {
        let packed = file.strip_suffix(".crate");
        let is_current = |(name, version): (&String, &String)| packed == Some(&format!("{name}-{version}"));
        if file.starts_with('.') || self.policy.members.iter().any(is_current) {
            return None;
        }
        // `cargo package` has no lock of its own here.
        let old = item.newest_us.saturating_add(SCRATCH_GRACE_US) < self.now_us;
        old.then_some(Why::PackageOld)
    }

    fn timing_why(&self, item: &Item) -> Option<Why> {
        (item.newest_us < self.newest_report_us).then_some(Why::ReportOld)
    }

    /// Whether the policy lets a stale item go.
    fn may_go(&self, item: &Item) -> bool {
        let policy = self.policy;
        let details = self.details(item);
        if policy.built_before_us.is_some_and(|before| item.newest_us >= before) {
            return false;
        }
        if let Some(kept) = &policy.keep_compilers {
            // Where the compiler is not known, it may be one of those.
            let rustc = details.and_then(|details| details.rustc);
            if rustc.is_none_or(|rustc| kept.contains(&rustc)) {
                return false;
            }
        }
        if let Some(only) = &policy.only_packages {
            return details.is_some_and(|details| only.contains(&details.package));
        }
        true
    }

    /// Puts an item into its entry; the reason of an entry is that of its first.
    fn take(&mut self, item: &'p Item, why: Option<Why>) {
        let group = group(item);
        if let Some(entry) = self.entries.get_mut(&group) {
            return entry.1.push(item);
        }
        let why = why.or_else(|| self.why(item)).unwrap_or(Why::NotWorthSaving);
        self.entries.insert(group, (why, vec![item]));
    }

    /// Takes whole configurations until the limits are kept: which, and whether that is not enough.
    fn limits(
        &mut self,
        gone: &mut Vec<&'p Item>,
        rest: &[&'p Item],
        result: &SweepPlan,
    ) -> (Vec<u32>, bool) {
        let policy = self.policy;
        let all = result.live_bytes + result.unknown_bytes + result.stale_bytes;
        let needed = |freed: u64| {
            let over = policy.max_bytes.is_some_and(|max| all.saturating_sub(freed) > max);
            over || policy.free_bytes.is_some_and(|bytes| freed < bytes)
        };
        let mut order: Vec<(Option<u64>, u64, u32)> = (0..self.live.configurations.len())
            .filter_map(|number| u32::try_from(number).ok())
            .map(|number| {
                let of = rest.iter().filter(|item| item.needed_by.contains(&number));
                let built = of.map(|item| item.newest_us).max().unwrap_or(0);
                (self.live.configurations[number as usize].used_at_us, built, number)
            })
            .collect();
        // Without a run in the journal, when it was last built is all that is known.
        order.sort_by_key(|(used, built, number)| (used.unwrap_or(*built), *number));
        let mut evicted: Vec<u32> = Vec::new();
        for (_, _, number) in order {
            if !needed(freed(&*gone)) {
                return (evicted, false);
            }
            evicted.push(number);
            for item in rest {
                let last = item.needed_by.contains(&number);
                if last && item.needed_by.iter().all(|other| evicted.contains(other)) {
                    self.take(item, Some(Why::LeastRecentlyUsed { configuration: number }));
                    gone.push(item);
                }
            }
        }
        let is_above = needed(freed(&*gone));
        (evicted, is_above)
    }

    fn finish(self) -> Vec<Entry> {
        let mut names: HashMap<(u64, u64), u64> = HashMap::new();
        let scan = self.scan;
        let mut entries: Vec<Entry> = Vec::new();
        for ((profile, hash, _), (why, mut items)) in self.entries {
            // What Cargo remembers goes first: without it, what is left is an orphan and no build.
            items.sort_by(|a, b| (a.place, &a.path).cmp(&(b.place, &b.path)));
            let mut bytes = 0;
            for item in &items {
                bytes += item.bytes;
                for link in &item.links {
                    let count = names.entry(link.id).or_insert(0);
                    *count += 1;
                    if *count == link.names {
                        bytes += link.bytes;
                    }
                }
            }
            let details = hash.and_then(|hash| scan.details.get(&(Arc::clone(&profile), hash)));
            let part = |item: &&Item| Part { path: Arc::clone(&item.path), place: item.place, id: item.id };
            entries.push(Entry {
                why,
                profile: profile.to_string(),
                package: details.map(|details| details.package.clone()),
                targets: details.map(|details| details.targets.clone()).unwrap_or_default(),
                hash,
                bytes,
                rebuild_us: details.and_then(|details| details.rebuild_us),
                newest_us: items.iter().map(|item| item.newest_us).max().unwrap_or(0),
                parts: items.iter().map(part).collect(),
            });
        }
        entries.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.parts[0].path.cmp(&b.parts[0].path)));
        entries
    }
}
