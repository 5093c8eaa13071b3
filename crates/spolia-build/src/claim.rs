//! Who may change or use the published outputs of a node, among all builds of one tree. Knows no outputs.
//!
//! `.spolia/locks/STEP@PLATFORM`, with `_` for `/`, an empty file that is locked with `flock(2)`: shared by
//! each step that runs on these outputs, exclusive while they are written. Who waits for an exclusive one
//! may hold others' attention (a key, a cache mount), so nobody who holds a shared one waits for anything.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use spolia_core::Digest;
use spolia_core::event::StepId;
use spolia_engine::Cancel;

/// How long the first wait is, ms; each next one is twice as long, up to the second number.
const WAIT_MS: (u64, u64) = (1, 50);
/// Longer names are replaced by their digest.
const NAME_BYTES_MAX: usize = 200;

/// What the outputs are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// To read them, with others.
    Use,
    /// To write them, alone.
    Change,
}

/// Held until it is dropped.
pub(crate) struct Claimed {
    // Closing it is what lets go.
    _file: File,
}

/// The build was stopped while it waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was stopped while another build used the same outputs")]
pub(crate) struct Stopped;

/// Claims the outputs of a node. `Ok(None)` where no lock is to be had: a project that cannot be written,
/// whose outputs nobody changes either, or a file system without locks.
pub(crate) fn claim(
    own: &Path,
    id: &StepId,
    claim: Claim,
    cancel: &Cancel,
) -> Result<Option<Claimed>, Stopped> {
    let path = file_of(own, id);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666));
    let file = match open() {
        Err(Errno::NOENT) => {
            let made = std::fs::create_dir_all(own.join("locks"));
            if made.is_ok() { open() } else { Err(Errno::NOENT) }
        }
        other => other,
    };
    let Ok(file) = file else { return Ok(None) };
    let operation = match claim {
        Claim::Use => FlockOperation::NonBlockingLockShared,
        Claim::Change => FlockOperation::NonBlockingLockExclusive,
    };
    let mut pause_ms = WAIT_MS.0;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(Some(Claimed { _file: File::from(file) })),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if cancel.is_cancelled() => return Err(Stopped),
            Err(Errno::WOULDBLOCK) => {
                std::thread::sleep(Duration::from_millis(pause_ms));
                pause_ms = (pause_ms * 2).min(WAIT_MS.1);
            }
            Err(_) => return Ok(None),
        }
    }
}

fn file_of(own: &Path, id: &StepId) -> PathBuf {
    // `@` is in no step's name, so no two nodes have the same file.
    let name = format!("{}@{}", id.step, id.platform.to_string().replace('/', "_"));
    let name = if name.len() > NAME_BYTES_MAX { Digest::blake3(name.as_bytes()).to_hex() } else { name };
    own.join("locks").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::Platform;

    #[test]
    fn many_may_use_and_one_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let id = StepId { step: "s".repeat(300), platform: "linux/arm/v7".parse().unwrap() };
        let other = StepId { step: "other".to_owned(), platform: Platform::Any };
        let stopped = Cancel::new().unwrap();
        stopped.cancel();
        let now = |id: &StepId, what| claim(folder.path(), id, what, &stopped).map(Option::unwrap);
        let one = now(&id, Claim::Use).unwrap();
        let two = now(&id, Claim::Use).unwrap();
        assert!(now(&id, Claim::Change).is_err());
        let apart = now(&other, Claim::Change).unwrap();
        assert!(now(&other, Claim::Use).is_err());
        drop((one, two, apart));
        let change = now(&id, Claim::Change).unwrap();
        // Who is not stopped waits.
        let going = Cancel::new().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| claim(folder.path(), &id, Claim::Use, &going).is_ok());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(change);
            assert!(waiting.join().unwrap());
        });
    }
}
