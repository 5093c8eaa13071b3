//! Who may change or use what belongs to a node, among all builds of one tree. Knows no outputs.
//!
//! All of it is locks in one file, `.spolia/lock` ([`LockFile`]): of each node one on its published outputs, shared
//! by each step that runs on them, alone while they are written; and one on the folders in which it runs on
//! the host. Who waits for a lock alone may hold others' attention (a key, a cache mount), so nobody who
//! holds a shared one waits for anything.

use spolia_core::Digest;
use spolia_core::event::StepId;
use spolia_engine::Cancel;
use spolia_store::{Hold, Lock, LockFile, StoreError};

/// What is claimed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Its outputs, to read them with others.
    Use,
    /// Its outputs, to write them alone.
    Change,
    /// The folders in which it runs on the host, alone.
    Workplace,
}

impl Claim {
    fn parts(self) -> (&'static str, Hold) {
        match self {
            Self::Use => ("outputs", Hold::Shared),
            Self::Change => ("outputs", Hold::Alone),
            Self::Workplace => ("workplace", Hold::Alone),
        }
    }
}

/// The build was stopped while it waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was stopped while another build used the same outputs")]
pub(crate) struct Stopped;

/// Claims something of a node. An error in the place of a lock where none is to be had: a project that cannot
/// be written, whose outputs nobody changes either, or a file system without locks. `on_wait` is called before each
/// wait for another build.
pub(crate) fn claim(
    locks: &LockFile,
    id: &StepId,
    claim: Claim,
    cancel: &Cancel,
    on_wait: &dyn Fn(),
) -> Result<Result<Lock, StoreError>, Stopped> {
    let (what, hold) = claim.parts();
    // A zero byte is in no step's name, so no two have the same text.
    let name = Digest::blake3(format!("{what}\0{}\0{}", id.step, id.platform).as_bytes());
    let mut wait = |_| {
        on_wait();
        !cancel.is_cancelled()
    };
    match locks.acquire(&name, hold, &mut wait) {
        Ok(Some(lock)) => Ok(Ok(lock)),
        Ok(None) => Err(Stopped),
        Err(error) => Ok(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::Platform;
    use std::time::Duration;

    #[test]
    fn many_may_use_and_one_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let id = StepId { step: "s".repeat(300), platform: "linux/arm/v7".parse().unwrap() };
        let other = StepId { step: "other".to_owned(), platform: Platform::Any };
        let locks = LockFile::without_holders(folder.path().join("lock"));
        let stopped = Cancel::new().unwrap();
        stopped.cancel();
        let now = |id: &StepId, what| claim(&locks, id, what, &stopped, &|| ()).map(Result::unwrap);
        let one = now(&id, Claim::Use).unwrap();
        let two = now(&id, Claim::Use).unwrap();
        assert!(now(&id, Claim::Change).is_err());
        let work = now(&id, Claim::Workplace).unwrap();
        assert!(now(&id, Claim::Workplace).is_err());
        let apart = now(&other, Claim::Change).unwrap();
        assert!(now(&other, Claim::Use).is_err());
        drop((one, two, apart, work));
        let change = now(&id, Claim::Change).unwrap();
        // Who is not stopped waits.
        let going = Cancel::new().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| claim(&locks, &id, Claim::Use, &going, &|| ()).is_ok());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(change);
            assert!(waiting.join().unwrap());
        });
    }
}
