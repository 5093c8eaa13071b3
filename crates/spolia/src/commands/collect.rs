//! When a store is collected by itself, and by which policy. Once a day at most, after a run that stored.

use std::time::Duration;

use spolia_build::manifest::CacheConf;
use spolia_core::event::{EventKind, Summary};
use spolia_store::gc::{self, Policy};
use spolia_store::{LocalStore, size};

use crate::recorder::now_us;

/// The limit where the manifest gives none, bytes.
pub(crate) const MAX_SIZE_BYTES: u64 = 20_000_000_000;

/// What the manifest lets stay.
pub(crate) fn policy(cache: &CacheConf) -> Policy {
    Policy {
        max_bytes: Some(cache.max_size_bytes.unwrap_or(MAX_SIZE_BYTES)),
        max_age: cache.max_age_s.map(Duration::from_secs),
        ..Policy::default()
    }
}

/// Collects if this run stored something, a day has passed, and the store is above its limit, may hold
/// what is too old, or was never counted. A failure is a warning: it costs room, not the build.
pub(crate) fn if_due(
    store: &LocalStore,
    cache: Option<&CacheConf>,
    summary: &mut Summary,
    sink: &dyn Fn(EventKind),
) {
    let now = now_us();
    if summary.stored_bytes == 0 || !gc::due(store, now) {
        return;
    }
    let policy = cache.map_or_else(|| policy(&CacheConf::default()), policy);
    let within = size::read(store).is_some_and(|size| policy.max_bytes.is_none_or(|max| size.bytes() <= max));
    if within && policy.max_age.is_none() {
        return;
    }
    match gc::collect(store, &policy, now, false) {
        Ok(Some(report)) => {
            let left = report.plan.bytes_before.saturating_sub(report.removed_bytes);
            summary.store_bytes = Some(left);
            if report.removed > 0 {
                sink(EventKind::Collected {
                    removed: report.removed,
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
