//! What to remove from a store that is too big, and removing it. `Listing × Policy → GcPlan` is pure.
//!
//! - The least recently used results go first; a result's own blobs go with it, those that another kept
//!   result needs stay. A blob that no result refers to goes.
//! - Nothing younger than the grace goes, since builds that run now publish blobs before the result that
//!   names them. A blob that is put again counts as new.
//! - Folders of cache mounts are counted and go by the same policy, as wholes; never one that is in use.
//! - What another process removes or renews meanwhile is left alone. A build that loses an entry under
//!   its hands sees a miss.
//! - Left-overs go as well: temporary files of dead processes, locks that nobody holds, old journal days.
//!
//! By itself a collection begins at most once a day ([`due`]); the time of `v1/gc` says when the last one
//! did.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spolia_core::{ActionKey, ActionResult, Digest};

use crate::journal;
use crate::local::{Form, LocalStore, is_abandoned, names};
use crate::lock::{KEYS_FILE, KeyLock};
use crate::mounts::{self, ListedMount};
use crate::refs;
use crate::size;
use crate::store::{Entry, Space, Store, StoreError};
use crate::uses::{self, LastUses};

/// How long after one collection the next one begins by itself.
pub const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Down to this share of the limit, so that the next build does not pass it at once.
pub const LOW_WATER_PERCENT: u64 = 90;
/// A lock that nobody holds goes after this.
const LOCK_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The digest cache of a project that was not built for this long goes.
const DIGESTS_AGE_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// What earlier versions kept beside the entries and nothing reads any more.
const UNREAD: [&str; 2] = ["memo-1", "cc/trail"];

/// What may stay.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The most bytes all entries may take; no limit where `None`.
    pub max_bytes: Option<u64>,
    /// How long a result may go unused; no limit where `None`.
    pub max_age: Option<Duration>,
    /// Bytes that have to become free on the disk.
    pub free_bytes: Option<u64>,
    /// Results that stay whatever their age and size.
    pub pinned: HashSet<ActionKey>,
    /// Nothing written or used within this time goes. At least half an hour is wise.
    pub grace: Duration,
    /// How long runs stay in the journal; for ever where `None`.
    pub journal_age: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_bytes: None,
            max_age: None,
            free_bytes: None,
            pinned: HashSet::new(),
            grace: Duration::from_secs(60 * 60),
            journal_age: Some(Duration::from_secs(400 * 24 * 60 * 60)),
        }
    }
}

/// One file of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Where.
    pub path: PathBuf,
    /// Bytes it takes.
    pub bytes: u64,
    /// Its last change, ns since 1970.
    pub mtime_ns: i64,
}

/// A result and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedResult {
    /// Its key.
    pub key: ActionKey,
    /// Its file.
    pub file: ListedFile,
    /// When it was last used, µs since 1970; when it was written, where nothing else is known.
    pub used_at_us: u64,
    /// The blobs it names; `None` where it cannot be read, so that it is of no use.
    pub blobs: Option<Vec<Digest>>,
}

/// All that is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The results.
    pub results: Vec<ListedResult>,
    /// What actions were made of.
    pub actions: Vec<(ActionKey, ListedFile)>,
    /// The blobs' files; one blob may have two.
    pub blobs: Vec<(Digest, ListedFile)>,
    /// Folders of cache mounts. They go by the same policy, unless one is in use.
    pub mounts: Vec<ListedMount>,
}

impl Listing {
    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        let results = self.results.iter().map(|result| result.file.bytes);
        let actions = self.actions.iter().map(|(_, file)| file.bytes);
        let blobs = self.blobs.iter().map(|(_, file)| file.bytes);
        let mounts = self.mounts.iter().map(|mount| mount.bytes);
        results.chain(actions).chain(blobs).chain(mounts).sum()
    }
}

/// Why an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not used for longer than the policy allows.
    Old,
    /// The least recently used while the store was over its limit.
    Size,
    /// It cannot be read.
    Unreadable,
    /// No result that stays refers to it.
    Unreferenced,
}

/// What goes, in the order it goes: results before what they refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// What, why, and its file.
    pub removals: Vec<(Entry, Why, ListedFile)>,
    /// Cache mounts, and why.
    pub mounts: Vec<(ListedMount, Why)>,
    /// Bytes of all entries before.
    pub bytes_before: u64,
    /// Bytes of what goes.
    pub bytes_freed: u64,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// What was planned; all that was done in a dry run.
    pub plan: GcPlan,
    /// Entries that were removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Cache mounts that were removed; their bytes are in `removed_bytes`.
    pub removed_mounts: u64,
    /// Left-overs that were removed: temporary files, locks, journal days, digest caches.
    pub swept: u64,
}

/// What to remove. Pure; `now_us` is µs since 1970.
pub fn plan(listing: &Listing, policy: &Policy, now_us: u64) -> GcPlan {
    let mut plan = GcPlan { bytes_before: listing.bytes(), ..GcPlan::default() };
    let oldest_kept_us = policy.max_age.map(|age| now_us.saturating_sub(micros(age)));
    let is_young = |at_us: u64| at_us > now_us.saturating_sub(micros(policy.grace));
    let mut results: Vec<&ListedResult> = listing.results.iter().collect();
    results.sort_by_key(|result| (result.used_at_us, result.key));

    let mut evicted: HashMap<ActionKey, Why> = HashMap::new();
    for result in &results {
        let protected = is_young(result.used_at_us.max(file_us(&result.file)));
        if result.blobs.is_none() && !protected {
            evicted.insert(result.key, Why::Unreadable);
        } else if oldest_kept_us.is_some_and(|oldest| result.used_at_us < oldest)
            && !protected
            && !policy.pinned.contains(&result.key)
        {
            evicted.insert(result.key, Why::Old);
        }
    }
    let mut counts = Counts::new(listing, &evicted, &is_young);
    let mut mounts: Vec<&ListedMount> = listing.mounts.iter().filter(|m| !is_young(m.used_at_us)).collect();
    mounts.sort_by(|a, b| (a.used_at_us, &a.path).cmp(&(b.used_at_us, &b.path)));
    counts.kept_bytes += listing.mounts.iter().map(|mount| mount.bytes).sum::<u64>();
    let is_old = |mount: &&ListedMount| oldest_kept_us.is_some_and(|oldest| mount.used_at_us < oldest);
    let (old, mounts): (Vec<&ListedMount>, Vec<&ListedMount>) = mounts.into_iter().partition(is_old);
    for mount in old {
        counts.kept_bytes -= mount.bytes;
        plan.take_mount(mount, Why::Old);
    }
    if let Some(target) = policy.target_bytes(counts.kept_bytes, plan.bytes_before) {
        let mut mounts = mounts.into_iter().peekable();
        for result in &results {
            // Whichever was not used for longer.
            while let Some(mount) = mounts.next_if(|mount| mount.used_at_us <= result.used_at_us) {
                if counts.kept_bytes > target {
                    counts.kept_bytes -= mount.bytes;
                    plan.take_mount(mount, Why::Size);
                }
            }
            if counts.kept_bytes <= target {
                break;
            }
            let protected = is_young(result.used_at_us.max(file_us(&result.file)));
            if !protected && !policy.pinned.contains(&result.key) && !evicted.contains_key(&result.key) {
                evicted.insert(result.key, Why::Size);
                counts.release(result);
            }
        }
        for mount in mounts {
            if counts.kept_bytes > target {
                counts.kept_bytes -= mount.bytes;
                plan.take_mount(mount, Why::Size);
            }
        }
    }
    plan.list(listing, &results, &evicted, &counts, &is_young);
    plan
}

impl Policy {
    /// Down to how many bytes the store has to go; `None` where it is within its limits.
    fn target_bytes(&self, kept: u64, before: u64) -> Option<u64> {
        let low = |max: u64| max / 100 * LOW_WATER_PERCENT + max % 100 * LOW_WATER_PERCENT / 100;
        let by_size = self.max_bytes.filter(|max| kept > *max).map(low);
        let by_room = self.free_bytes.map(|bytes| before.saturating_sub(bytes)).filter(|left| kept > *left);
        by_size.into_iter().chain(by_room).min()
    }
}

impl GcPlan {
    fn take_mount(&mut self, mount: &ListedMount, why: Why) {
        self.bytes_freed += mount.bytes;
        self.mounts.push((mount.clone(), why));
    }

    fn list(
        &mut self,
        listing: &Listing,
        results: &[&ListedResult],
        evicted: &HashMap<ActionKey, Why>,
        counts: &Counts,
        is_young: &dyn Fn(u64) -> bool,
    ) {
        for result in results {
            if let Some(why) = evicted.get(&result.key) {
                self.push(Entry::result(result.key), *why, &result.file);
            }
        }
        let kept: HashSet<ActionKey> = listing.results.iter().map(|result| result.key).collect();
        for (key, file) in &listing.actions {
            // What an action was made of outlives its result only while a build may be writing that.
            let gone = evicted.contains_key(key) || !kept.contains(key);
            if gone && !is_young(file_us(file)) {
                self.push(Entry::action(*key), Why::Unreferenced, file);
            }
        }
        for (digest, file) in &listing.blobs {
            if !counts.is_needed(digest) && !is_young(file_us(file)) {
                self.push(Entry::blob(*digest), Why::Unreferenced, file);
            }
        }
    }

    fn push(&mut self, entry: Entry, why: Why, file: &ListedFile) {
        self.bytes_freed += file.bytes;
        self.removals.push((entry, why, file.clone()));
    }
}

/// How often each blob is needed by results that stay, and the bytes that stay.
struct Counts {
    needed: HashMap<Digest, u32>,
    /// Bytes of each blob that would go if nothing needed it.
    blob_bytes: HashMap<Digest, u64>,
    action_bytes: HashMap<ActionKey, u64>,
    kept_bytes: u64,
}

impl Counts {
    fn new(listing: &Listing, evicted: &HashMap<ActionKey, Why>, is_young: &dyn Fn(u64) -> bool) -> Self {
        let mut counts = Self {
            needed: HashMap::new(),
            blob_bytes: HashMap::new(),
            action_bytes: HashMap::new(),
            kept_bytes: 0,
        };
        let mut kept = HashSet::new();
        for result in listing.results.iter().filter(|result| !evicted.contains_key(&result.key)) {
            kept.insert(result.key);
            counts.kept_bytes += result.file.bytes;
            for digest in result.blobs.iter().flatten() {
                *counts.needed.entry(*digest).or_insert(0) += 1;
            }
        }
        for (key, file) in &listing.actions {
            let young = is_young(file_us(file));
            if young || kept.contains(key) {
                counts.kept_bytes += file.bytes;
            }
            if !young {
                counts.action_bytes.insert(*key, file.bytes);
            }
        }
        for (digest, file) in &listing.blobs {
            let young = is_young(file_us(file));
            if young || counts.needed.contains_key(digest) {
                counts.kept_bytes += file.bytes;
            }
            if !young {
                *counts.blob_bytes.entry(*digest).or_insert(0) += file.bytes;
            }
        }
        counts
    }

    fn is_needed(&self, digest: &Digest) -> bool {
        self.needed.get(digest).is_some_and(|count| *count > 0)
    }

    /// Forgets a result that goes.
    fn release(&mut self, result: &ListedResult) {
        let mut freed = result.file.bytes + self.action_bytes.get(&result.key).copied().unwrap_or(0);
        for digest in result.blobs.iter().flatten() {
            if let Some(count) = self.needed.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    freed += self.blob_bytes.get(digest).copied().unwrap_or(0);
                }
            }
        }
        self.kept_bytes = self.kept_bytes.saturating_sub(freed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn file_us(file: &ListedFile) -> u64 {
    u64::try_from(file.mtime_ns / 1000).unwrap_or(0)
}

/// The blobs that a result's payload names: outputs and log. `None` where it is no result.
pub fn result_blobs(payload: &[u8]) -> Option<Vec<Digest>> {
    if refs::is_one(payload) {
        return refs::open(payload).map(|(blobs, _)| blobs);
    }
    let result: ActionResult = serde_json::from_slice(payload).ok()?;
    result.outputs.check().ok()?;
    let mut blobs: Vec<Digest> = result.outputs.files().map(|(_, digest, _)| digest).collect();
    blobs.extend(result.log.map(|log| log.digest));
    blobs.sort_unstable();
    blobs.dedup();
    Some(blobs)
}

/// Looks at every entry. `blobs_of` reads a result's payload ([`result_blobs`]).
///
/// # Errors
/// Those of listing. A result that cannot be read is listed as that.
pub fn list(
    store: &LocalStore,
    uses: &LastUses,
    blobs_of: &dyn Fn(&[u8]) -> Option<Vec<Digest>>,
) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    for space in [Space::Result, Space::Action, Space::Blob] {
        store.scan(space, &mut |found| {
            let Some((entry, _)) = found.name else { return };
            let file = ListedFile { path: found.path, bytes: found.bytes, mtime_ns: found.mtime_ns };
            let key = ActionKey(entry.digest);
            match space {
                Space::Blob => listing.blobs.push((entry.digest, file)),
                Space::Action => listing.actions.push((key, file)),
                Space::Result => {
                    let used_at_us = uses.of(&key).unwrap_or(0).max(file_us(&file));
                    listing.results.push(ListedResult { key, file, used_at_us, blobs: None });
                }
            }
        })?;
    }
    listing.mounts = mounts::list(store)?;
    let mut payload = Vec::new();
    for result in &mut listing.results {
        payload.clear();
        if let Ok(Some(_)) = store.get(Entry::result(result.key), &mut payload) {
            result.blobs = blobs_of(&payload);
        }
    }
    Ok(listing)
}

/// When the last collection began, µs since 1970; `None` where there was none.
pub fn last_us(store: &LocalStore) -> Option<u64> {
    let stat = rustix::fs::stat(store.base().join("gc")).ok()?;
    Some(u64::try_from(stat.st_mtime).unwrap_or(0).saturating_mul(1_000_000))
}

/// Whether a collection should begin by itself. One system call.
pub fn due(store: &LocalStore, now_us: u64) -> bool {
    let Some(then_us) = last_us(store) else { return store.is_writable() };
    store.is_writable() && now_us.abs_diff(then_us) >= micros(INTERVAL)
}

/// Collects: lists, plans, and unless `dry_run` removes. `None` where another process is collecting.
///
/// # Errors
/// Those of listing; an entry that cannot be removed is left and not counted.
pub fn collect(
    store: &LocalStore,
    policy: &Policy,
    now_us: u64,
    dry_run: bool,
) -> Result<Option<GcReport>, StoreError> {
    let uses = uses::load(store)?;
    if dry_run {
        let listing = list(store, &uses, &result_blobs)?;
        return Ok(Some(GcReport { plan: plan(&listing, policy, now_us), ..GcReport::default() }));
    }
    let Some(_lock) = KeyLock::acquire(&store.base().join("locks/gc"), &mut |_| false)? else {
        return Ok(None);
    };
    store.write_loose(&store.base().join("gc"), format!("{now_us}\n").as_bytes())?;
    let listing = list(store, &uses, &result_blobs)?;
    let plan = plan(&listing, policy, now_us);
    let mut report = GcReport::default();
    let mut gone: HashSet<ActionKey> = HashSet::new();
    for (entry, _, file) in &plan.removals {
        if remove_unchanged(file) {
            report.removed += 1;
            report.removed_bytes += file.bytes;
            if entry.space == Space::Result {
                gone.insert(ActionKey(entry.digest));
            }
        }
    }
    for (mount, _) in &plan.mounts {
        if mount.remove() {
            report.removed_mounts += 1;
            report.removed_bytes += mount.bytes;
        }
    }
    size::set(store, plan.bytes_before.saturating_sub(report.removed_bytes), now_us)?;
    let kept: HashSet<ActionKey> = listing.results.iter().map(|result| result.key).collect();
    uses::merge(store, &uses, &|key| kept.contains(key) && !gone.contains(key))?;
    report.swept = sweep(store, policy, now_us)?;
    report.plan = plan;
    Ok(Some(report))
}

/// Removes the file unless it was renewed since it was listed; whether it went.
fn remove_unchanged(file: &ListedFile) -> bool {
    let Ok(stat) = rustix::fs::lstat(&file.path) else { return false };
    let mtime_ns = crate::digests::nanoseconds(stat.st_mtime, stat.st_mtime_nsec);
    mtime_ns == file.mtime_ns && rustix::fs::unlink(&file.path).is_ok()
}

/// Removes what nothing needs any more beside the entries; how many files.
fn sweep(store: &LocalStore, policy: &Policy, now_us: u64) -> Result<u64, StoreError> {
    let age = |path: &Path| {
        let stat = rustix::fs::lstat(path).ok()?;
        let seconds = i64::try_from(now_us / 1_000_000).ok()?.saturating_sub(stat.st_mtime);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    let mut swept = 0;
    for (name, path) in names(&store.layout.tmp())? {
        if age(&path).is_some_and(|age| is_abandoned(&name, age)) {
            // A folder was some call's scratch.
            let gone = rustix::fs::unlink(&path).is_ok() || std::fs::remove_dir_all(&path).is_ok();
            swept += u64::from(gone);
        }
    }
    for (name, path) in names(&store.base().join("locks"))? {
        let old = age(&path).is_some_and(|age| age > LOCK_AGE_MAX);
        let stays = name == b"gc" || name == KEYS_FILE.as_bytes();
        // Taking it and letting go removes it; a lock that someone holds stays.
        if old && !stays && matches!(KeyLock::acquire(&path, &mut |_| false), Ok(Some(_))) {
            swept += 1;
        }
    }
    for (name, path) in names(&store.base().join("digests"))? {
        let is_old = |age| match name.strip_prefix(b".") {
            Some(made_by) => is_abandoned(made_by, age),
            None => age > DIGESTS_AGE_MAX,
        };
        if age(&path).is_some_and(is_old) {
            swept += u64::from(rustix::fs::unlink(&path).is_ok());
        }
    }
    for name in UNREAD {
        let path = store.base().join(name);
        let gone = rustix::fs::unlink(&path).is_ok() || std::fs::remove_dir_all(&path).is_ok();
        swept += u64::from(gone);
    }
    if let Some(journal_age) = policy.journal_age {
        let first_kept = journal::day_of(now_us.saturating_sub(micros(journal_age)));
        for (day, path) in journal::days(store)? {
            if day < first_kept && std::fs::remove_dir_all(&path).is_ok() {
                swept += 1;
            }
        }
    }
    Ok(swept)
}

/// Removes every entry, and what runs have noted of their use: `cache clear`. How many, and their bytes.
/// With `only`, just these results, with what they were made of; their blobs go with the next collection.
///
/// # Errors
/// Those of listing and removing.
pub fn clear(store: &LocalStore, only: Option<&HashSet<ActionKey>>) -> Result<(u64, u64), StoreError> {
    let (mut removed, mut bytes) = (0, 0);
    for space in [Space::Result, Space::Action, Space::Blob] {
        if only.is_some() && space == Space::Blob {
            continue;
        }
        let mut files = Vec::new();
        store.scan(space, &mut |found| {
            let named: Option<(Entry, Form)> = found.name;
            if named.is_some_and(|(entry, _)| only.is_none_or(|only| only.contains(&ActionKey(entry.digest))))
            {
                files.push((found.path, found.bytes));
            }
        })?;
        for (path, length) in files {
            if rustix::fs::unlink(&path).is_ok() {
                removed += 1;
                bytes += length;
            }
        }
    }
    Ok((removed, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: u64 = 3_600_000_000;
    const NOW_US: u64 = 1_000 * HOUR_US;

    fn digest(name: &str) -> Digest {
        Digest::blake3(name.as_bytes())
    }

    fn file(name: &str, bytes: u64, at_us: u64) -> ListedFile {
        ListedFile { path: PathBuf::from(name), bytes, mtime_ns: at_us as i64 * 1000 }
    }

    /// A result of 1 byte and an action of 1 byte, last used `age` hours ago.
    fn add(listing: &mut Listing, name: &str, age: u64, blobs: &[&str]) {
        let at_us = NOW_US - age * HOUR_US;
        let key = ActionKey(digest(name));
        let blobs = Some(blobs.iter().map(|blob| digest(blob)).collect());
        listing.results.push(ListedResult { key, file: file(name, 1, at_us), used_at_us: at_us, blobs });
        listing.actions.push((key, file(name, 1, at_us)));
    }

    fn blob(listing: &mut Listing, name: &str, bytes: u64, age: u64) {
        listing.blobs.push((digest(name), file(name, bytes, NOW_US - age * HOUR_US)));
    }

    fn removed(listing: &Listing, policy: &Policy) -> Vec<String> {
        let plan = plan(listing, policy, NOW_US);
        let of_mounts: u64 = plan.mounts.iter().map(|(mount, _)| mount.bytes).sum();
        let of_files: u64 = plan.removals.iter().map(|(_, _, file)| file.bytes).sum();
        assert_eq!(plan.bytes_freed, of_files + of_mounts);
        let mut names: Vec<_> =
            plan.removals.iter().map(|(_, _, file)| file.path.display().to_string()).collect();
        names.extend(plan.mounts.iter().map(|(mount, _)| mount.path.display().to_string()));
        names.sort();
        names.dedup();
        names
    }

    fn three() -> Listing {
        let mut listing = Listing::default();
        add(&mut listing, "oldest", 300, &["only-oldest", "shared"]);
        add(&mut listing, "older", 200, &["only-older", "shared"]);
        add(&mut listing, "new", 2, &["only-new", "shared"]);
        for (name, bytes) in [("only-oldest", 100), ("only-older", 100), ("only-new", 100), ("shared", 50)] {
            blob(&mut listing, name, bytes, 300);
        }
        listing
    }

    #[test]
    fn the_least_recently_used_goes_with_its_own_blobs_only() {
        let check = |max_bytes: u64, expect: &[&str]| {
            let policy = Policy { max_bytes: Some(max_bytes), ..Policy::default() };
            assert_eq!(removed(&three(), &policy), expect, "{max_bytes}");
        };
        check(1000, &[]);
        check(356, &[]);
        check(355, &["oldest", "only-oldest"]);
        check(250, &["older", "oldest", "only-older", "only-oldest"]);
        check(0, &["new", "older", "oldest", "only-new", "only-older", "only-oldest", "shared"]);
    }

    fn mount(listing: &mut Listing, name: &str, bytes: u64, age: u64) {
        let used_at_us = NOW_US - age * HOUR_US;
        listing.mounts.push(ListedMount { path: PathBuf::from(name), bytes, files: 1, used_at_us });
    }

    #[test]
    fn mounts_take_their_place_among_the_results() {
        let listing = || {
            let mut listing = three();
            mount(&mut listing, "mount-old", 100, 250);
            mount(&mut listing, "mount-new", 100, 0);
            listing
        };
        assert_eq!(listing().bytes(), three().bytes() + 200);
        let check = |policy: &Policy, expect: &[&str]| assert_eq!(removed(&listing(), policy), expect);
        let size = |max_bytes| Policy { max_bytes: Some(max_bytes), ..Policy::default() };
        check(&size(556), &[]);
        check(&size(555), &["oldest", "only-oldest"]);
        check(&size(450), &["mount-old", "oldest", "only-oldest"]);
        check(
            &size(0),
            &["mount-old", "new", "older", "oldest", "only-new", "only-older", "only-oldest", "shared"],
        );
        let day = Duration::from_secs(24 * 60 * 60);
        check(
            &Policy { max_age: Some(10 * day), ..Policy::default() },
            &["mount-old", "oldest", "only-oldest"],
        );
        check(
            &Policy { free_bytes: Some(150), ..Policy::default() },
            &["mount-old", "oldest", "only-oldest"],
        );
        check(&Policy { free_bytes: Some(0), ..Policy::default() }, &[]);
    }

    #[test]
    fn old_unpinned_results_go_whatever_the_size() {
        let day = Duration::from_secs(24 * 60 * 60);
        let mut policy = Policy { max_age: Some(10 * day), ..Policy::default() };
        assert_eq!(removed(&three(), &policy), ["oldest", "only-oldest"]);
        policy.pinned.insert(ActionKey(digest("oldest")));
        assert!(removed(&three(), &policy).is_empty());
        policy.max_bytes = Some(0);
        assert_eq!(removed(&three(), &policy), ["new", "older", "only-new", "only-older"]);
    }

    #[test]
    fn what_is_young_stays() {
        let mut listing = Listing::default();
        add(&mut listing, "young", 0, &["b"]);
        blob(&mut listing, "b", 10, 5);
        blob(&mut listing, "being-published", 10, 0);
        blob(&mut listing, "orphan", 10, 5);
        let policy = Policy { max_bytes: Some(0), max_age: Some(Duration::ZERO), ..Policy::default() };
        assert_eq!(removed(&listing, &policy), ["orphan"]);
    }

    #[test]
    fn a_result_that_cannot_be_read_goes() {
        let mut listing = three();
        listing.results[2].blobs = None;
        assert_eq!(removed(&listing, &Policy::default()), ["new", "only-new"]);
    }

    #[test]
    fn many_random_stores_keep_the_rules() {
        for seed in 0..300u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let mut listing = Listing::default();
            let names: Vec<String> = (0..30).map(|n| format!("blob{n}")).collect();
            for name in &names {
                blob(&mut listing, name, next(1000), next(100));
            }
            for n in 0..20 {
                let blobs: Vec<&str> = (0..next(5)).map(|_| names[next(30) as usize].as_str()).collect();
                add(&mut listing, &format!("result{n}"), next(100), &blobs);
            }
            let max = next(20_000);
            let policy = Policy { max_bytes: Some(max), ..Policy::default() };
            let plan = plan(&listing, &policy, NOW_US);
            let gone: HashSet<Entry> = plan.removals.iter().map(|(entry, _, _)| *entry).collect();
            let young = |file: &ListedFile| file_us(file) > NOW_US - HOUR_US;
            for (entry, _, file) in &plan.removals {
                assert!(!young(file), "seed {seed}: {entry} is young");
            }
            let mut newest_gone = 0;
            for result in &listing.results {
                let went = gone.contains(&Entry::result(result.key));
                if went {
                    newest_gone = newest_gone.max(result.used_at_us);
                }
                for digest in result.blobs.iter().flatten() {
                    assert!(went || !gone.contains(&Entry::blob(*digest)), "seed {seed}: torn result");
                }
            }
            for result in &listing.results {
                let went = gone.contains(&Entry::result(result.key));
                assert!(
                    went || result.used_at_us >= newest_gone || young(&result.file),
                    "seed {seed}: not LRU"
                );
            }
            let kept = plan.bytes_before - plan.bytes_freed;
            let all_went =
                listing.results.iter().all(|r| young(&r.file) || gone.contains(&Entry::result(r.key)));
            assert!(kept <= max || all_went, "seed {seed}: {kept} of {max}");
        }
    }
}
