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
//! [`crate::sets`] reads, looks through and bounds it.

use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};
use spolia_core::{Digest, DigestFunction};
use spolia_store::StatKey;

use crate::outcome::Miss;
use crate::sets::{Kept, Raw, Sets};
use crate::{Env, Room};

const HEADER: &[u8] = b"spolia cc 1\n";

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

/// All sets of one fast key. A set may be bound to the folder that its outputs embed: it holds nowhere else.
pub type Manifest = Sets<Fact, Option<Raw>>;

/// What a compile depended on, before it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In any order, each once.
    pub facts: Vec<Fact>,
    /// Whether the outputs embed the folder they were made in.
    pub bound: bool,
}

impl Manifest {
    /// From a result's payload; `None` where it is no manifest of this version.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        Self::open(HEADER, payload)
    }

    /// As a result's payload.
    pub fn payload(&self) -> Vec<u8> {
        self.seal(HEADER)
    }

    /// What the newest set gave of which every fact holds now, or why there is none: what is wrong with the
    /// newest set.
    pub fn find(&self, room: &Room, env: &Env) -> Result<&Kept, Miss> {
        let here = bound_of(room);
        let elsewhere = |bound: &Option<Raw>| {
            let other = bound.as_ref().filter(|bound| **bound != here)?;
            Some(Miss::OtherFolder(spolia_core::codec::escape(&other.0)))
        };
        self.newest_that_holds(&room.story, elsewhere, |fact| fact.fails(room, env))
    }

    /// Adds what a compile gave as the newest set. One with the same facts is replaced.
    pub fn add(&mut self, seen: Seen, kept: Kept, room: &Room) {
        let bound = seen.bound.then(|| bound_of(room));
        self.add_newest(bound, seen.facts, kept);
    }
}

/// What a bound set is bound to: the call's folder, as it is spelled.
fn bound_of(room: &Room) -> Raw {
    Raw(room.site.cwd.as_os_str().as_bytes().to_vec())
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |raw: &Raw| spolia_core::codec::escape(&raw.0);
        let short =
            |digest: &[u8; 32]| Digest::new(DigestFunction::Blake3, *digest).to_hex()[..12].to_owned();
        match self {
            Self::File(path, digest) => write!(f, "file {} {}", text(path), short(digest)),
            Self::Absent(path) => write!(f, "not there {}", text(path)),
            Self::Present(path) => write!(f, "there {}", text(path)),
            Self::Listing(path, digest) => write!(f, "names in {} {}", text(path), short(digest)),
            Self::Variable(name, Some(value)) => write!(f, "variable {} `{}`", text(name), text(value)),
            Self::Variable(name, None) => write!(f, "variable {} not set", text(name)),
        }
    }
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
    use crate::sets::SETS_MAX;
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
