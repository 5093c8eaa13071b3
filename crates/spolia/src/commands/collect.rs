//! When a store is collected by itself, and by which policy. Once a day at most, after a run that stored, and not
//! while another build runs with it.

use std::time::Duration;

use spolia_build::manifest::CacheConf;
use spolia_core::event::{EventKind, Summary};
use spolia_store::gc::{self, GcPlan, GcReport, Policy};
use spolia_store::{LocalStore, StoreError, journal, pins, size, uses};

use crate::recorder::now_us;

/// The limit where the manifest gives none, bytes.
pub(crate) const MAX_SIZE_BYTES: u64 = 20_000_000_000;

/// What the manifest and the pins let stay.
pub(crate) fn policy(cache: &CacheConf, store: &LocalStore) -> Policy {
    Policy {
        pinned: pins::read(store).into_iter().collect(),
        free_bytes: cache.min_free_bytes.and_then(|wanted| missing_room(store, wanted)),
        max_bytes: Some(cache.max_size_bytes.unwrap_or(MAX_SIZE_BYTES)),
        max_age: cache.max_age_s.map(Duration::from_secs),
        ..Policy::default()
    }
}

/// Bytes that have to go so that the store's disk has `wanted` bytes of room; `None` where it has.
pub(crate) fn missing_room(store: &LocalStore, wanted: u64) -> Option<u64> {
    let disk = rustix::fs::statvfs(store.dir()).ok()?;
    wanted.checked_sub(disk.f_bavail.saturating_mul(disk.f_frsize)).filter(|missing| *missing > 0)
}

/// Whether a process of this number is alive.
pub(crate) fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Notes what compiler calls have used since the store was last collected: a hit of theirs leaves only a line.
fn note_compiler_uses(store: &LocalStore) {
    const MARGIN_US: u64 = 24 * 60 * 60 * 1_000_000;
    let since_us = gc::last_us(store).unwrap_or(0).saturating_sub(MARGIN_US);
    if store.is_writable() {
        // Without it those results count as used when they were made: they may have to be compiled again.
        let _unnoted = spolia_cc::tally::note_uses(store, since_us);
    }
}

/// What would go, and nothing goes.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn plan(store: &LocalStore, policy: &Policy) -> Result<GcPlan, StoreError> {
    note_compiler_uses(store);
    let listing = gc::list(store, &uses::load(store)?, &gc::result_blobs)?;
    Ok(gc::plan(&listing, policy, now_us()))
}

/// Collects now: every collection in this program comes through here, so that none forgets what compiler calls have
/// used. `None`: another process does it.
///
/// # Errors
/// The store cannot be read or made smaller.
pub(crate) fn now(store: &LocalStore, policy: &Policy) -> Result<Option<GcReport>, StoreError> {
    note_compiler_uses(store);
    gc::collect(store, policy, now_us(), false)
}

/// Collects if this run stored something, a day has passed, and the store is above its limit, may hold
/// what is too old, or was never counted. A failure is a warning: it costs room, not the build.
pub(crate) fn if_due(
    store: &LocalStore,
    cache: Option<&CacheConf>,
    summary: &mut Summary,
    sink: &dyn Fn(EventKind),
) {
    if summary.stored_bytes == 0 || !gc::due(store, now_us()) {
        return;
    }
    // It would slow that build down, and what that has read is not noted yet: another day, or its own end.
    if journal::running(store, &is_alive).is_ok_and(|running| !running.is_empty()) {
        return;
    }
    let policy = policy(cache.unwrap_or(&CacheConf::default()), store);
    let within = size::read(store).is_some_and(|size| policy.max_bytes.is_none_or(|max| size.bytes() <= max));
    // What mounts have grown by is only known once they are counted.
    let has_mounts = store.base().join("mounts").exists();
    if within && !has_mounts && policy.max_age.is_none() && policy.free_bytes.is_none() {
        return;
    }
    match now(store, &policy) {
        Ok(Some(report)) => {
            let left = report.plan.bytes_before.saturating_sub(report.removed_bytes);
            summary.store_bytes = Some(left);
            if report.removed + report.removed_mounts > 0 {
                sink(EventKind::Collected {
                    removed: report.removed + report.removed_mounts,
                    removed_bytes: report.removed_bytes,
                    store_bytes: left,
                });
            }
        }
        // Another process does it.
        Ok(None) => {}
        Err(error) => sink(EventKind::Warning {
            message: format!("the store could not be collected: {}", spolia_engine::perform::chain(&error)),
            hint: Some("`spolia doctor` looks at the store".to_owned()),
        }),
    }
}
