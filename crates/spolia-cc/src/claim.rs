//! Two identical compiles at once run one: the second waits a bounded time for the first, then looks again.

use std::time::Duration;

use spolia_core::ActionKey;
use spolia_store::Lock;

use crate::Room;

/// How long one compile waits for an identical one. After that it just compiles.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The right to compile what `key` names, and whether somebody else had it meanwhile. No right where the wait
/// was too long or locks do not work there: then two run, which is harmless.
pub fn take(room: &Room, key: &ActionKey) -> (Option<Lock>, bool) {
    let mut waited = false;
    let lock = room.store.lock(&key.0, &mut |waiting| {
        waited = true;
        waiting.waited < WAIT_MAX
    });
    (lock.ok().flatten(), waited)
}
