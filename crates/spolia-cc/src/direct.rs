//! The manifest of one fast key: the sets of things that earlier compiles read, and what came out of each.
//! Knows no compiler and no arguments.
//!
//! A **fact** is one thing that a compile depended on: a file's content, that a file was not there, the names in
//! a folder, a variable. A **set** is the facts of one compile and what it gave. The newest set of which every
//! fact holds now is the hit. A fact that several sets share is looked at once.
//!
//! ```text
//! result entry at the fast key = refs(blobs of all sets, body)           see `spolia_store::refs`
//! body  = "spolia cc 1\n" postcard((facts, sets))                        oldest set first
//! fact  = File(path, digest32) | Absent(path) | Present(path) | Listing(path, digest32) | Variable(name, value?)
//! set   = bound? fact-number* kept         kept = output* log cost
//! path  = as `Site::write` writes it
//! ```
//!
//! Bounded by [`SETS_MAX`]: the oldest set goes. What does not parse is no manifest, and so a miss.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};
use spolia_core::{Cost, Digest, DigestFunction};
use spolia_store::{StatKey, refs};

use crate::outcome::Miss;
use crate::{Env, Room};

/// The most sets of one manifest.
pub const SETS_MAX: usize = 12;
/// The longest body that is read, bytes.
pub const BODY_BYTES_MAX: usize = 32 << 20;
const HEADER: &[u8] = b"spolia cc 1\n";

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

/// One thing that a compile depended on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// A file with this content, by BLAKE3.
    File(Raw, [u8; 32]),
    /// Nothing is there, or nothing that can be read.
    Absent(Raw),
    /// Something is there, whatever it holds.
    Present(Raw),
    /// A folder holds exactly these names: BLAKE3 of them, sorted, each with a NUL after it.
    Listing(Raw, [u8; 32]),
    /// A variable has this value, or is not set.
    Variable(Raw, Option<Raw>),
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

/// The facts of one compile and what it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Set {
    /// The folder that the outputs embed: it holds nowhere else.
    bound: Option<Raw>,
    facts: Vec<u32>,
    kept: Kept,
}

/// All sets of one fast key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    facts: Vec<Fact>,
    sets: Vec<Set>,
}

/// What a compile depended on, before it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In any order, each once.
    pub facts: Vec<Fact>,
    /// Whether the outputs embed the folder they were made in.
    pub bound: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Holds,
    Fails,
}

impl Manifest {
    /// From a result's payload; `None` where it is no manifest of this version.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (_, body) = refs::open(payload)?;
        let body = body.strip_prefix(HEADER).filter(|body| body.len() <= BODY_BYTES_MAX)?;
        let manifest: Self = postcard::from_bytes(body).ok()?;
        let count = manifest.facts.len();
        let sound = |set: &Set| set.facts.iter().all(|fact| (*fact as usize) < count);
        manifest.sets.iter().all(sound).then_some(manifest)
    }

    /// As a result's payload.
    pub fn payload(&self) -> Vec<u8> {
        let outputs = self.sets.iter().flat_map(|set| &set.kept.outputs);
        let mut blobs: Vec<Digest> = outputs.filter_map(KeptOutput::blob).collect();
        blobs.sort_unstable();
        blobs.dedup();
        let body = postcard::to_extend(self, HEADER.to_vec()).unwrap_or_default();
        refs::seal(&blobs, &body)
    }

    /// What the newest set gave of which every fact holds now, or why there is none: what is wrong with the
    /// newest set.
    pub fn find(&self, room: &Room, env: &Env) -> Result<&Kept, Miss> {
        let mut states = vec![State::Unknown; self.facts.len()];
        let mut first = None;
        let here = bound_of(room);
        for set in self.sets.iter().rev() {
            let fails = match &set.bound {
                Some(bound) if *bound != here => {
                    Some(Miss::OtherFolder(spolia_core::codec::escape(&bound.0)))
                }
                _ => set.facts.iter().find_map(|number| {
                    let number = *number as usize;
                    match states[number] {
                        State::Holds => return None,
                        State::Fails => return Some(Miss::NeverSeen),
                        State::Unknown => {}
                    }
                    let miss = self.facts[number].fails(room, env);
                    states[number] = if miss.is_some() { State::Fails } else { State::Holds };
                    miss
                }),
            };
            match fails {
                None => return Ok(&set.kept),
                Some(miss) => {
                    first.get_or_insert(miss);
                }
            }
        }
        Err(first.unwrap_or(Miss::NeverSeen))
    }

    /// Adds what a compile gave as the newest set. One with the same facts is replaced.
    pub fn add(&mut self, seen: Seen, kept: Kept, room: &Room) {
        let bound = seen.bound.then(|| bound_of(room));
        let mut sets: Vec<(Option<Raw>, Vec<Fact>, Kept)> = Vec::new();
        for set in std::mem::take(&mut self.sets) {
            let facts = set.facts.iter().map(|fact| self.facts[*fact as usize].clone()).collect();
            sets.push((set.bound, facts, set.kept));
        }
        sets.retain(|(known, facts, _)| *known != bound || *facts != seen.facts);
        sets.push((bound, seen.facts, kept));
        let first = sets.len().saturating_sub(SETS_MAX);
        self.facts.clear();
        let mut numbers: HashMap<Fact, u32> = HashMap::new();
        for (bound, facts, kept) in sets.into_iter().skip(first) {
            let number = |fact: Fact| {
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

/// What a bound set is bound to: the call's folder, as it is spelled.
fn bound_of(room: &Room) -> Raw {
    Raw(room.site.cwd.as_os_str().as_bytes().to_vec())
}

impl Fact {
    /// Why it does not hold now; `None` where it does.
    fn fails(&self, room: &Room, env: &Env) -> Option<Miss> {
        let name = |path: &Raw| spolia_core::codec::escape(path.0.get(1..).unwrap_or_default());
        let here = |path: &Raw| room.site.read(&path.0);
        match self {
            Self::File(path, digest) => {
                let Some(file) = here(path) else { return Some(Miss::InputGone(name(path))) };
                match room.digest(&file) {
                    Ok((_, found)) if found.as_bytes() == digest => None,
                    Ok(_) => Some(Miss::InputChanged(name(path))),
                    Err(_) => Some(Miss::InputGone(name(path))),
                }
            }
            Self::Absent(path) => {
                let file = here(path)?;
                rustix::fs::stat(&file).is_ok().then(|| Miss::Appeared(name(path)))
            }
            Self::Present(path) => {
                let there = here(path).is_some_and(|file| rustix::fs::stat(&file).is_ok());
                (!there).then(|| Miss::InputGone(name(path)))
            }
            Self::Listing(path, digest) => {
                let found = here(path).and_then(|folder| listing(room, &folder));
                (found.as_ref() != Some(digest)).then(|| Miss::ListingChanged(name(path)))
            }
            Self::Variable(variable, value) => {
                let text = String::from_utf8_lossy(&variable.0);
                let now = env.get(&text).map(OsStrExt::as_bytes);
                let same = now == value.as_ref().map(|value| value.0.as_slice());
                (!same).then(|| Miss::VariableChanged(text.into_owned()))
            }
        }
    }
}

/// The digest of the names in a folder; `None` where it cannot be listed. Remembered as a file's content is: a
/// folder's times change with its names.
pub fn listing(room: &Room, folder: &std::path::Path) -> Option<[u8; 32]> {
    let key = || rustix::fs::stat(folder).ok().map(|stat| StatKey::of(&stat));
    let before = key()?;
    if let Some(digest) = room.memo.lookup(&before) {
        return Some(*digest.as_bytes());
    }
    let began_ns = room.memo.clock_ns(&before);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(folder).ok()? {
        names.push(entry.ok()?.file_name().as_bytes().to_vec());
    }
    names.sort_unstable();
    let mut all = Vec::new();
    for name in names {
        all.extend_from_slice(&name);
        all.push(0);
    }
    let digest = Digest::blake3(&all);
    if key()? == before {
        room.memo.note(&before, &digest, 0, began_ns);
    }
    Some(*digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Site;
    use std::path::Path;

    fn room(folder: &Path) -> Room {
        let site = Site { cwd: folder.to_owned(), root: Some(folder.to_owned()) };
        Room::open(&folder.join("store"), site).unwrap()
    }

    fn file(room: &Room, name: &str) -> Fact {
        let path = room.site.cwd.join(name);
        let digest = *Digest::blake3(&std::fs::read(&path).unwrap()).as_bytes();
        Fact::File(Raw(room.site.write(path.as_os_str().as_bytes())), digest)
    }

    fn kept(name: &str) -> Kept {
        Kept { log: Raw(name.as_bytes().to_vec()), ..Kept::default() }
    }

    #[test]
    fn the_newest_set_that_holds_is_found_and_a_miss_names_what_differs() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        let env = Env::new(vec![("A".into(), "1".into())]);
        std::fs::write(temp.path().join("h"), "one").unwrap();
        let absent = Fact::Absent(Raw(b"~/gone".to_vec()));
        let variable = Fact::Variable(Raw(b"A".to_vec()), Some(Raw(b"1".to_vec())));
        let mut manifest = Manifest::default();
        let facts = vec![file(&room, "h"), absent, variable];
        manifest.add(Seen { facts: facts.clone(), bound: false }, kept("one"), &room);
        std::fs::write(temp.path().join("h"), "two").unwrap();
        let two = vec![file(&room, "h"), facts[1].clone(), facts[2].clone()];
        manifest.add(Seen { facts: two, bound: true }, kept("two"), &room);
        let manifest = Manifest::parse(&manifest.payload()).unwrap();
        assert_eq!(manifest.find(&room, &env), Ok(&kept("two")));
        std::fs::write(temp.path().join("h"), "one").unwrap();
        assert_eq!(manifest.find(&room, &env), Ok(&kept("one")));
        std::fs::write(temp.path().join("h"), "three").unwrap();
        assert_eq!(manifest.find(&room, &env), Err(Miss::InputChanged("/h".to_owned())));
        std::fs::write(temp.path().join("h"), "two").unwrap();
        std::fs::write(temp.path().join("gone"), "").unwrap();
        assert_eq!(manifest.find(&room, &env), Err(Miss::Appeared("/gone".to_owned())));
        std::fs::remove_file(temp.path().join("gone")).unwrap();
        let other = Env::default();
        assert_eq!(manifest.find(&room, &other), Err(Miss::VariableChanged("A".to_owned())));
    }

    #[test]
    fn sets_are_bounded_and_facts_are_shared() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        let mut manifest = Manifest::default();
        for number in 0..SETS_MAX + 5 {
            let own = Fact::Absent(Raw(format!("~/{number}").into_bytes()));
            let all = Fact::Absent(Raw(b"~/all".to_vec()));
            manifest.add(Seen { facts: vec![own, all], bound: false }, kept("x"), &room);
        }
        assert_eq!(manifest.sets(), SETS_MAX);
        assert_eq!(manifest.facts.len(), SETS_MAX + 1);
    }

    #[test]
    fn damaged_bytes_are_no_manifest_and_never_a_panic() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        let mut manifest = Manifest::default();
        let facts = vec![Fact::Absent(Raw(b"~/x".to_vec())), Fact::File(Raw(b"=y".to_vec()), [7; 32])];
        manifest.add(Seen { facts, bound: false }, kept("log"), &room);
        let payload = manifest.payload();
        for at in 0..payload.len() {
            assert_ne!(Manifest::parse(&payload[..at]), Some(manifest.clone()), "{at}");
            for bit in 0..8 {
                let mut flipped = payload.clone();
                flipped[at] ^= 1 << bit;
                // Whatever it is, it must not be believed to be in range where it is not.
                let _parsed = Manifest::parse(&flipped);
            }
        }
    }
}
