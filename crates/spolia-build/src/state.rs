//! What the last build of this tree left: for each step its key, its result, what was published.
//!
//! ```text
//! .spolia/state = "spolia state 1\n" checksum32 body       checksum = BLAKE3(body)
//! body          = postcard of the struct State
//! ```
//!
//! It only saves time: without it every step is looked up in the store, and outputs are hashed again.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spolia_core::event::StepId;
use spolia_core::{ActionKey, ActionResult, MissReason, RelPath};

const MAGIC: &[u8] = b"spolia state 1\n";

/// How many steps are remembered that the build at hand does not know: steps of other variants, steps that
/// were renamed, commands of `spolia run`.
const OTHERS_MAX: usize = 256;

/// The memory of one tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// By step and platform.
    pub steps: BTreeMap<StepId, Remembered>,
    /// What was last noted as used, and when.
    pub uses: Option<(spolia_core::Digest, u64)>,
}

/// One step as it was last built here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its key.
    pub key: ActionKey,
    /// Its result.
    pub result: ActionResult,
    /// Where its outputs were published.
    pub published: RelPath,
    /// The run in which it got there.
    pub run: String,
    /// Whether it ran then, and why; `None`: it came from a store.
    pub ran: Option<Ran>,
    /// The key before that, where there was one.
    pub previous: Option<ActionKey>,
    /// Whether the result is in the store.
    pub stored: bool,
}

/// A run of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// JSON of the [`MissReason`]: its serde form needs a format that describes itself.
    reason: String,
}

impl Ran {
    /// Because of `reason`.
    pub fn because(reason: &MissReason) -> Self {
        Self { reason: serde_json::to_string(reason).unwrap_or_default() }
    }

    /// Why.
    pub fn reason(&self) -> Option<MissReason> {
        serde_json::from_str(&self.reason).ok()
    }
}

impl State {
    /// Reads it; an empty one where it is not there, damaged, or of another version.
    pub fn load(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|raw| Self::decode(&raw)).unwrap_or_default()
    }

    fn decode(raw: &[u8]) -> Option<Self> {
        let rest = raw.strip_prefix(MAGIC)?;
        let (checksum, body) = rest.split_at_checked(32)?;
        if spolia_core::Digest::blake3(body).as_bytes() != checksum {
            return None;
        }
        let state: Self = postcard::from_bytes(body).ok()?;
        state.steps.values().all(|step| step.result.outputs.check().is_ok()).then_some(state)
    }

    /// Of the steps that are not `ours`, forgets those that ran longest ago, beyond 256.
    pub fn forget_oldest(&mut self, ours: impl Fn(&StepId) -> bool) {
        let others = self.steps.iter().filter(|(id, _)| !ours(id));
        let mut others: Vec<_> = others.map(|(id, last)| (last.result.finished_at_us, id.clone())).collect();
        let Some(beyond) = others.len().checked_sub(OTHERS_MAX).filter(|beyond| *beyond > 0) else { return };
        others.sort();
        for (_, id) in &others[..beyond] {
            self.steps.remove(id);
        }
    }

    /// Writes it, whole or not at all. It is put together in the folder `tmp` beside `path`, where what a
    /// killed process leaves is swept.
    ///
    /// # Errors
    /// Those of writing.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(std::io::Error::other)?;
        let mut raw = MAGIC.to_vec();
        raw.extend_from_slice(spolia_core::Digest::blake3(&body).as_bytes());
        raw.extend_from_slice(&body);
        let tmp = path.with_file_name("tmp");
        std::fs::create_dir_all(&tmp)?;
        let staged = tmp.join(format!("{}.state", std::process::id()));
        let written = std::fs::write(&staged, raw).and_then(|()| std::fs::rename(&staged, path));
        if written.is_err() {
            let _gone = std::fs::remove_file(&staged);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::{Cost, Digest, Platform, Tree};

    fn remembered(finished_at_us: u64) -> Remembered {
        let result = ActionResult {
            outputs: Tree::default(),
            log: None,
            cost: Cost::default(),
            missing: vec![RelPath::new(b"a\xff".as_slice()).unwrap()],
            finished_at_us,
        };
        Remembered {
            key: ActionKey(Digest::blake3(b"k")),
            result,
            published: RelPath::root(),
            run: "r".to_owned(),
            ran: Some(Ran::because(&MissReason::Forced)),
            previous: None,
            stored: true,
        }
    }

    #[test]
    fn what_the_build_does_not_know_is_forgotten_oldest_first() {
        let id = |number: u64| StepId { step: format!("s{number}"), platform: Platform::Any };
        // The oldest of all is ours.
        let mut state = State::default();
        let count = OTHERS_MAX as u64 + 3;
        state.steps = (0..count).map(|number| (id(number), remembered(number))).collect();
        state.forget_oldest(|step| step.step == "s0");
        assert_eq!(state.steps.len(), OTHERS_MAX + 1);
        let gone: Vec<u64> = (0..count).filter(|number| !state.steps.contains_key(&id(*number))).collect();
        assert_eq!(gone, [1, 2]);
        let before = state.clone();
        state.forget_oldest(|step| step.step == "s0");
        assert_eq!(state, before);
    }

    #[test]
    fn comes_back_and_a_damaged_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let remembered = remembered(7);
        let id = StepId { step: "a".to_owned(), platform: Platform::Any };
        let state = State { steps: BTreeMap::from([(id.clone(), remembered)]), uses: None };
        state.save(&path).unwrap();
        assert_eq!(State::load(&path), state);
        assert_eq!(state.steps[&id].ran.as_ref().unwrap().reason(), Some(MissReason::Forced));
        let raw = std::fs::read(&path).unwrap();
        for at in 0..raw.len() {
            let mut flipped = raw.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(State::load(&path), State::default(), "byte {at}");
            std::fs::write(&path, &raw[..at]).unwrap();
            assert_eq!(State::load(&path), State::default(), "cut at {at}");
        }
    }
}
