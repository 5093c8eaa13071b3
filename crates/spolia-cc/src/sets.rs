//! Sets of facts and what came of each, for one fast key, whatever a fact is: what [`crate::direct`] and
//! [`crate::rustc::facts`] have in common. Knows no compiler.
//!
//! ```text
//! result entry at the fast key = refs(blobs of all sets, body)       see `spolia_store::refs`
//! body = header postcard((facts, sets))                              oldest set first
//! set  = bound fact-number* kept        kept = output* log cost      `bound` is nothing where sets have none
//! ```
//!
//! Bounded by [`SETS_MAX`]: the oldest set goes. What does not parse is no manifest, and so a miss.

use std::collections::HashMap;
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spolia_core::{Cost, Digest, DigestFunction};
use spolia_store::refs;

use crate::Story;
use crate::outcome::Miss;

/// The most sets of one manifest.
pub const SETS_MAX: usize = 12;
/// The longest body that is read, bytes.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// Bytes that postcard copies in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Raw(pub Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|raw| Self(raw.to_vec()))
    }
}

/// One output that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOutput {
    /// Which output of the call this is; its path is the call's.
    pub name: String,
    /// Its content's blob, by BLAKE3; unused where it is `inline`.
    pub digest: [u8; 32],
    /// Its length, bytes.
    pub size: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// Its content where that is short.
    pub inline: Option<Raw>,
}

impl KeptOutput {
    /// The blob with its content; `None` where it needs none.
    pub fn blob(&self) -> Option<Digest> {
        self.inline.is_none().then(|| Digest::new(DigestFunction::Blake3, self.digest))
    }
}

/// What one compile gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its files.
    pub outputs: Vec<KeptOutput>,
    /// What it printed, as an encoded [`spolia_core::result::Log`], written without the root's path.
    pub log: Raw,
    /// What it cost.
    pub cost: Cost,
}

/// The facts of one run and what it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Set<B> {
    pub(crate) bound: B,
    /// Their numbers, each once.
    pub(crate) facts: Vec<u32>,
    pub(crate) kept: Kept,
}

/// All sets of one fast key. A fact that several sets share is there once, and looked at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets<F, B> {
    pub(crate) facts: Vec<F>,
    pub(crate) sets: Vec<Set<B>>,
}

impl<F, B> Default for Sets<F, B> {
    fn default() -> Self {
        Self { facts: Vec::new(), sets: Vec::new() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Holds,
    Fails,
}

impl<F, B> Sets<F, B>
where
    F: Clone + Eq + Hash + Serialize + DeserializeOwned,
    B: PartialEq + Serialize + DeserializeOwned,
{
    /// From a result's payload; `None` where it has another header or is damaged.
    pub(crate) fn open(header: &[u8], payload: &[u8]) -> Option<Self> {
        let (_, body) = refs::open(payload)?;
        let body = body.strip_prefix(header).filter(|body| body.len() <= BODY_BYTES_MAX)?;
        let read: Self = postcard::from_bytes(body).ok()?;
        let count = read.facts.len();
        let sound = |set: &Set<B>| set.facts.iter().all(|fact| (*fact as usize) < count);
        read.sets.iter().all(sound).then_some(read)
    }

    /// As a result's payload.
    pub(crate) fn seal(&self, header: &[u8]) -> Vec<u8> {
        let body = postcard::to_extend(self, header.to_vec()).unwrap_or_default();
        refs::seal(&self.blobs(), &body)
    }
}

impl<F, B> Sets<F, B>
where
    F: Clone + Eq + Hash,
    B: PartialEq,
{
    /// All that the sets need, sorted.
    pub(crate) fn blobs(&self) -> Vec<Digest> {
        let outputs = self.sets.iter().flat_map(|set| &set.kept.outputs);
        let mut blobs: Vec<Digest> = outputs.filter_map(KeptOutput::blob).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    /// What the newest set gave that is not bound `elsewhere`, none of whose facts (by their numbers) `fails` now, and whose facts
    /// together `differ` in nothing from what it is bound to. Each set that is tried is told.
    ///
    /// # Errors
    /// What is wrong with the newest set.
    pub(crate) fn newest_that_holds(
        &self,
        story: &Story,
        elsewhere: impl Fn(&B) -> Option<Miss>,
        fails: impl Fn(usize, &F) -> Option<Miss>,
        differ: impl Fn(&B, &[u32]) -> Option<Miss>,
    ) -> Result<&Kept, Miss> {
        let mut states = vec![State::Unknown; self.facts.len()];
        let mut first = None;
        for (number, set) in self.sets.iter().enumerate().rev() {
            let some_fails = || {
                set.facts.iter().find_map(|number| {
                    let number = *number as usize;
                    match states[number] {
                        State::Holds => return None,
                        State::Fails => return Some(Miss::NeverSeen),
                        State::Unknown => {}
                    }
                    let miss = fails(number, &self.facts[number]);
                    states[number] = if miss.is_some() { State::Fails } else { State::Holds };
                    miss
                })
            };
            let miss = elsewhere(&set.bound).or_else(some_fails).or_else(|| differ(&set.bound, &set.facts));
            story.tell("set", || {
                let all = self.sets.len();
                let newest = if number + 1 == all { ", the newest" } else { "" };
                let holds = match &miss {
                    None => "all are as they were".to_owned(),
                    // Only here: what fails by itself says what failed.
                    Some(Miss::NeverSeen) => "one of them is one that a newer set failed by".to_owned(),
                    Some(miss) => miss.to_string(),
                };
                format!("{} of {all}{newest}, {} inputs: {holds}", number + 1, set.facts.len())
            });
            match miss {
                None => return Ok(&set.kept),
                Some(miss) => {
                    first.get_or_insert(miss);
                }
            }
        }
        Err(first.unwrap_or(Miss::NeverSeen))
    }

    /// Adds a set as the newest. One that is bound alike and has the same facts is replaced.
    pub(crate) fn add_newest(&mut self, bound: B, facts: Vec<F>, kept: Kept) {
        let mut sets: Vec<(B, Vec<F>, Kept)> = Vec::new();
        for set in std::mem::take(&mut self.sets) {
            let facts = set.facts.iter().map(|fact| self.facts[*fact as usize].clone()).collect();
            sets.push((set.bound, facts, set.kept));
        }
        sets.retain(|(known_bound, known, _)| *known_bound != bound || *known != facts);
        sets.push((bound, facts, kept));
        let first = sets.len().saturating_sub(SETS_MAX);
        self.facts.clear();
        let mut numbers: HashMap<F, u32> = HashMap::new();
        for (bound, facts, kept) in sets.into_iter().skip(first) {
            let number = |fact: F| {
                let next = self.facts.len() as u32;
                *numbers.entry(fact).or_insert_with_key(|fact| {
                    self.facts.push(fact.clone());
                    next
                })
            };
            let facts = facts.into_iter().map(number).collect();
            self.sets.push(Set { bound, facts, kept });
        }
    }

    /// How many sets there are.
    pub fn sets(&self) -> usize {
        self.sets.len()
    }
}
