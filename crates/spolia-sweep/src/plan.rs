//! What goes and why: `Scan × Live × Policy → SweepPlan`. Pure.
//!
//! Every policy but [`Policy::all`] and the two limits chooses among what is stale. The limits take what is stale
//! first and then whole configurations, those first whose last run by the journal is longest ago: what another
//! configuration needs as well stays, so that no build is left with half of its units.
//!
//! To choose, names are enough. Why a unit is stale and how long its compiler took stands in its fingerprint, so that is
//! read for what is shown ([`SweepPlan::explain`]), and for all only where all is asked for. Where a scan did not look at
//! the fingerprints, their bytes are in no sum here, and [`SweepPlan::is_partial`] says so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeSeq;

use crate::fingerprint::{Details, Notes};
use crate::live::Live;
use crate::names::UnitHash;
use crate::scan::{Item, Place, Scan};
use crate::why::{Reasons, Why};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Why it goes; `None` where its fingerprint would have to be read to tell ([`SweepPlan::explain`]).
    pub why: Option<Why>,
    /// Its profile folder; empty beside them.
    pub profile: Arc<str>,
    /// Its package, where that is known.
    pub package: Option<Arc<str>>,
    /// Its hash, where it has one.
    pub hash: Option<UnitHash>,
    /// Bytes on disk that become free, those of a file with several names once and only where all go.
    pub bytes: u64,
    /// How long its compiler took last; `None` where Cargo's files do not tell, or were not looked at.
    pub rebuild_us: Option<u64>,
    /// The newest change in it, µs since 1970.
    pub newest_us: u64,
    /// What is removed, in this order, in [`SweepPlan::parts`].
    parts: (u32, u32),
    /// Its fingerprint, where it was read after the scan.
    notes: Option<Box<Notes>>,
}

/// One file or folder of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Below the target directory.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// What it is.
    pub place: Place,
    /// Device and number.
    #[serde(skip)]
    pub id: (u64, u64),
}

fn as_text<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// What goes from one target directory.
#[derive(Clone, Debug, Default)]
pub struct SweepPlan {
    /// The entries, the largest first.
    pub entries: Vec<Entry>,
    /// Bytes that become free; at least so many where it [`SweepPlan::is_partial`].
    pub bytes: u64,
    /// Bytes of all that is stale, also where the policy leaves it; the same holds.
    pub stale_bytes: u64,
    /// Whether something that is stale was not looked at, so that it is in no sum.
    pub is_partial: bool,
    /// Bytes of what is live; `None` where it was not looked at.
    pub live_bytes: Option<u64>,
    /// Bytes of what is not Cargo's or not known, which stays; `None` where it was not looked at.
    pub unknown_bytes: Option<u64>,
    /// Live units that are there.
    pub live_units: usize,
    /// Units that are stale.
    pub stale_units: usize,
    /// Configurations that were given up to get below a limit, by their numbers, the first first.
    pub evicted: Vec<u32>,
    /// Whether the limits could not be kept, since nothing more may go.
    pub above_limit: bool,
    scan: Arc<Scan>,
    /// Items of the scan; an entry's lie together.
    order: Vec<u32>,
}

impl SweepPlan {
    fn items(&self, entry: &Entry) -> impl Iterator<Item = &Item> {
        let (first, last) = (entry.parts.0 as usize, entry.parts.1 as usize);
        let numbers = self.order.get(first..last).unwrap_or_default();
        numbers.iter().filter_map(|number| self.scan.items.get(*number as usize))
    }

    /// What is removed with an entry, in this order.
    pub fn parts(&self, entry: &Entry) -> impl Iterator<Item = Part> {
        self.items(entry).map(|item| Part {
            path: self.scan.path(item),
            place: self.scan.folder(item).place,
            id: (self.scan.device, item.inode),
        })
    }

    /// What Cargo's fingerprint calls what is in an entry: `lib-serde`, …
    pub fn targets<'p>(&'p self, entry: &'p Entry) -> Vec<&'p str> {
        if let Some(notes) = &entry.notes {
            return notes.targets.iter().map(String::as_str).collect();
        }
        let fact = self.items(entry).find_map(|item| self.scan.fact(item));
        fact.map(|fact| self.scan.targets(fact)).unwrap_or_default()
    }

    /// Finds out why the first `count` entries go and how long they took, as far as that is not known yet. `read` reads
    /// the fingerprint in a folder below the target directory.
    pub fn explain(
        &mut self,
        count: usize,
        live: &Live,
        policy: &Policy,
        read: &mut dyn FnMut(&Path) -> Notes,
    ) {
        let scan = Arc::clone(&self.scan);
        // Nothing that needs the time of day is left to be explained.
        let reasons = Reasons::new(&scan, live, policy, 0);
        for at in 0..count.min(self.entries.len()) {
            let entry = &self.entries[at];
            let print = self.items(entry).find(|item| scan.has_notes(item));
            if entry.why.is_some() && !print.is_some_and(|print| scan.is_partial(print)) {
                continue;
            }
            let notes = print.map(|print| read(&fingerprint_of(&scan, print)));
            let noted = notes.unwrap_or_default();
            let targets: Vec<&str> = noted.targets.iter().map(String::as_str).collect();
            // A folder with nothing in it tells of no unit.
            let print = print.filter(|_| !targets.is_empty());
            let why = reasons.of_unit(&entry.profile, print, Some((&targets, &noted.details)));
            let entry = &mut self.entries[at];
            if entry.why.is_none() {
                entry.why = why;
            }
            entry.rebuild_us = entry.rebuild_us.or(noted.rebuild_us);
            entry.notes = Some(Box::new(noted));
        }
    }
}

fn fingerprint_of(scan: &Scan, print: &Item) -> PathBuf {
    match scan.folder(print).place {
        Place::Unit => scan.path(print).join("fingerprint"),
        _ => scan.path(print),
    }
}

impl Serialize for SweepPlan {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'p> {
            #[serde(flatten)]
            why: Option<&'p Why>,
            profile: &'p str,
            package: Option<&'p str>,
            targets: Vec<&'p str>,
            hash: Option<UnitHash>,
            bytes: u64,
            rebuild_us: Option<u64>,
            newest_us: u64,
            parts: Vec<Part>,
        }
        struct Entries<'p>(&'p SweepPlan);
        impl Serialize for Entries<'_> {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let plan = self.0;
                let mut list = to.serialize_seq(Some(plan.entries.len()))?;
                for entry in &plan.entries {
                    list.serialize_element(&Line {
                        why: entry.why.as_ref(),
                        profile: &entry.profile,
                        package: entry.package.as_deref(),
                        targets: plan.targets(entry),
                        hash: entry.hash,
                        bytes: entry.bytes,
                        rebuild_us: entry.rebuild_us,
                        newest_us: entry.newest_us,
                        parts: plan.parts(entry).collect(),
                    })?;
                }
                list.end()
            }
        }
        #[derive(Serialize)]
        struct Whole<'p> {
            entries: Entries<'p>,
            bytes: u64,
            stale_bytes: u64,
            is_partial: bool,
            live_bytes: Option<u64>,
            unknown_bytes: Option<u64>,
            live_units: usize,
            stale_units: usize,
            evicted: &'p [u32],
            above_limit: bool,
        }
        let whole = Whole {
            entries: Entries(self),
            bytes: self.bytes,
            stale_bytes: self.stale_bytes,
            is_partial: self.is_partial,
            live_bytes: self.live_bytes,
            unknown_bytes: self.unknown_bytes,
            live_units: self.live_units,
            stale_units: self.stale_units,
            evicted: &self.evicted,
            above_limit: self.above_limit,
        };
        whole.serialize(to)
    }
}

/// What to remove. `now_us` is µs since 1970.
pub fn plan(scan: &Arc<Scan>, live: &Live, policy: &Policy, now_us: u64) -> SweepPlan {
    let order = order(scan);
    let planner =
        Planner { scan, live, policy, reasons: Reasons::new(scan, live, policy, now_us), order: &order };
    let mut result = SweepPlan {
        live_bytes: scan.live_bytes,
        unknown_bytes: scan.unknown_bytes,
        live_units: scan.live_units.len(),
        ..SweepPlan::default()
    };
    let (mut stale, mut gone) = (Freed::default(), Freed::default());
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut rest: Vec<Range<usize>> = Vec::new();
    for group in groups(scan, &order) {
        let first = planner.item(group.start);
        if policy.unknown_profiles.contains(&*scan.folder(first).profile) {
            continue;
        }
        if !scan.is_stale(first) {
            rest.push(group);
            continue;
        }
        if !policy.all && !planner.is_of_no_use(first) {
            continue;
        }
        for item in planner.items(&group) {
            stale.add(scan, item);
            result.is_partial |= scan.is_partial(item);
        }
        result.stale_units += usize::from(first.hash.is_some());
        if policy.all || planner.may_go(&group) {
            for item in planner.items(&group) {
                gone.add(scan, item);
            }
            chosen.push(Chosen { group, why: policy.all.then_some(Why::All) });
        }
    }
    result.stale_bytes = stale.bytes;
    let mut take = |gone: &mut Freed, group: &Range<usize>, why: Why| {
        for item in planner.items(group) {
            gone.add(scan, item);
        }
        chosen.push(Chosen { group: group.clone(), why: Some(why) });
    };
    if policy.all {
        rest.iter().for_each(|group| take(&mut gone, group, Why::All));
    } else {
        if policy.for_cache_save {
            let is_of_no_use =
                |group: &Range<usize>| scan.folder(planner.item(group.start)).place == Place::Incremental;
            for group in rest.extract_if(.., |group| is_of_no_use(group)) {
                take(&mut gone, &group, Why::NotWorthSaving);
            }
        }
        (result.evicted, result.above_limit) = planner.limits(&mut gone, &rest, &result, &mut take);
    }
    result.bytes = gone.bytes;
    result.entries = planner.entries(chosen);
    result.scan = Arc::clone(scan);
    result.order = order;
    result
}

/// The items, those of one unit together: what Cargo remembers of it first, for without that what is left is an
/// orphan and no build.
fn order(scan: &Scan) -> Vec<u32> {
    let mut profiles: Vec<&str> = scan.items.iter().map(|item| &*scan.folder(item).profile).collect();
    profiles.sort_unstable();
    profiles.dedup();
    let ranks: HashMap<&str, u32> = profiles.into_iter().zip(0..).collect();
    let mut keys: Vec<(bool, u32, u64, Place, u32)> = Vec::with_capacity(scan.items.len());
    for (item, number) in scan.items.iter().zip(0u32..) {
        let folder = scan.folder(item);
        let rank = ranks.get(&*folder.profile).copied().unwrap_or_default();
        let hash = item.hash.map_or(0, |hash| hash.0);
        keys.push((item.hash.is_none(), rank, hash, folder.place, number));
    }
    let path = |number: u32| {
        let item = &scan.items[number as usize];
        (&scan.folder(item).path, scan.name(item))
    };
    keys.sort_unstable_by(|a, b| {
        (a.0, a.1, a.2, a.3).cmp(&(b.0, b.1, b.2, b.3)).then_with(|| path(a.4).cmp(&path(b.4)))
    });
    keys.into_iter().map(|key| key.4).collect()
}

/// What belongs together: the items of one unit, each other item alone.
fn groups<'o>(scan: &'o Scan, order: &'o [u32]) -> impl Iterator<Item = Range<usize>> {
    let unit = |at: usize| {
        let item = &scan.items[order[at] as usize];
        item.hash.map(|hash| (hash, &*scan.folder(item).profile))
    };
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next;
        let of = (first < order.len()).then(|| unit(first))?;
        next += 1;
        while of.is_some() && next < order.len() && unit(next) == of {
            next += 1;
        }
        Some(first..next)
    })
}

/// Bytes that go with some items.
#[derive(Default)]
struct Freed {
    bytes: u64,
    /// How many names of a file go.
    names: HashMap<u64, u64>,
}

impl Freed {
    /// The bytes that go with this one, after those before it.
    fn add(&mut self, scan: &Scan, item: &Item) -> u64 {
        let mut bytes = item.bytes;
        for link in scan.links(item) {
            let count = self.names.entry(link.inode).or_insert(0);
            *count += 1;
            if *count == link.names {
                bytes += link.bytes;
            }
        }
        self.bytes += bytes;
        bytes
    }
}

/// A group that goes.
struct Chosen {
    group: Range<usize>,
    /// Why, where that is not that it is stale.
    why: Option<Why>,
}

type Take<'t> = dyn FnMut(&mut Freed, &Range<usize>, Why) + 't;

struct Planner<'p> {
    scan: &'p Scan,
    live: &'p Live,
    policy: &'p Policy,
    reasons: Reasons<'p>,
    order: &'p [u32],
}

impl<'p> Planner<'p> {
    fn item(&self, at: usize) -> &'p Item {
        &self.scan.items[self.order[at] as usize]
    }

    fn items(&self, group: &Range<usize>) -> impl Iterator<Item = &'p Item> {
        group.clone().map(|at| self.item(at))
    }

    /// What is known of a group's fingerprint.
    fn print(&self, group: &Range<usize>) -> Option<&'p Item> {
        self.items(group).find(|item| self.scan.has_notes(item))
    }

    fn details(&self, group: &Range<usize>) -> Option<&'p Details> {
        self.scan.fact(self.print(group)?)?.details.as_deref()
    }

    fn why(&self, group: &Range<usize>, print: Option<&Item>) -> Option<Why> {
        let first = self.item(group.start);
        if first.hash.is_none() {
            return Some(self.reasons.of_named(first));
        }
        let fact = print.and_then(|print| self.scan.fact(print));
        let targets = fact.map(|fact| self.scan.targets(fact)).unwrap_or_default();
        let noted = self.details(group).map(|details| (targets.as_slice(), details));
        // A folder with nothing in it tells of no unit.
        let print = print.filter(|_| fact.is_none() || !targets.is_empty());
        self.reasons.of_unit(&self.scan.folder(first).profile, print, noted)
    }

    /// Whether what is stale is, looked at as a whole.
    fn is_of_no_use(&self, item: &Item) -> bool {
        let scratch = [Place::Scratch, Place::Package, Place::Timings];
        let is_scratch = scratch.contains(&self.scan.folder(item).place);
        (self.policy.for_cache_save && is_scratch) || self.reasons.is_of_no_use(item)
    }

    /// Whether the policy lets a stale group go.
    fn may_go(&self, group: &Range<usize>) -> bool {
        let policy = self.policy;
        let is_young = |before: u64| self.items(group).any(|item| item.newest_us >= before);
        if policy.built_before_us.is_some_and(is_young) {
            return false;
        }
        if let Some(kept) = &policy.keep_compilers {
            // Where the compiler is not known, it may be one of those.
            let rustc = self.details(group).and_then(|details| details.rustc);
            if rustc.is_none_or(|rustc| kept.contains(&rustc)) {
                return false;
            }
        }
        if let Some(only) = &policy.only_packages {
            let package = self.print(group).and_then(|print| self.scan.package(print));
            return package.is_some_and(|package| only.contains(package));
        }
        true
    }

    /// Takes whole configurations until the limits are kept: which, and whether that is not enough.
    fn limits(
        &self,
        gone: &mut Freed,
        rest: &[Range<usize>],
        result: &SweepPlan,
        take: &mut Take<'_>,
    ) -> (Vec<u32>, bool) {
        let policy = self.policy;
        let stays = result.live_bytes.unwrap_or(0) + result.unknown_bytes.unwrap_or(0);
        let all = stays + result.stale_bytes;
        let needed = |freed: u64| {
            let over = policy.max_bytes.is_some_and(|max| all.saturating_sub(freed) > max);
            over || policy.free_bytes.is_some_and(|bytes| freed < bytes)
        };
        let needed_by = |group: &Range<usize>| self.scan.needed_by(self.item(group.start));
        let mut order: Vec<(Option<u64>, u64, u32)> = (0..self.live.configurations.len())
            .filter_map(|number| u32::try_from(number).ok())
            .map(|number| {
                let of = rest.iter().filter(|group| needed_by(group).contains(&number));
                let built = of.flat_map(|group| self.items(group)).map(|item| item.newest_us).max();
                (self.live.configurations[number as usize].used_at_us, built.unwrap_or(0), number)
            })
            .collect();
        // Without a run in the journal, when it was last built is all that is known.
        order.sort_by_key(|(used, built, number)| (used.unwrap_or(*built), *number));
        let mut evicted: Vec<u32> = Vec::new();
        for (_, _, number) in order {
            if !needed(gone.bytes) {
                return (evicted, false);
            }
            evicted.push(number);
            for group in rest {
                let needed_by = needed_by(group);
                if needed_by.contains(&number) && needed_by.iter().all(|other| evicted.contains(other)) {
                    take(gone, group, Why::LeastRecentlyUsed { configuration: number });
                }
            }
        }
        let is_above = needed(gone.bytes);
        (evicted, is_above)
    }

    /// The entries, the largest first.
    fn entries(&self, mut chosen: Vec<Chosen>) -> Vec<Entry> {
        chosen.sort_by_key(|chosen| chosen.group.start);
        let mut freed = Freed::default();
        let mut packages: HashSet<Arc<str>> = HashSet::new();
        let mut entries = Vec::with_capacity(chosen.len());
        for Chosen { group, why } in chosen {
            let first = self.item(group.start);
            let print = self.print(&group);
            let profile = &self.scan.folder(first).profile;
            let package = print.and_then(|print| self.scan.package(print)).map(|name| {
                packages.get(name).cloned().unwrap_or_else(|| {
                    let name: Arc<str> = name.into();
                    packages.insert(Arc::clone(&name));
                    name
                })
            });
            let why = why.or_else(|| self.why(&group, print));
            let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            entries.push(Entry {
                why,
                profile: Arc::clone(profile),
                package,
                hash: first.hash,
                bytes: self.items(&group).map(|item| freed.add(self.scan, item)).sum(),
                rebuild_us: print.and_then(|print| self.scan.fact(print)?.rebuild_us),
                newest_us: self.items(&group).map(|item| item.newest_us).max().unwrap_or(0),
                parts: (number(group.start), number(group.end)),
                notes: None,
            });
        }
        // Stable: what is as large stays in the order of the items.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
        entries
    }
}
