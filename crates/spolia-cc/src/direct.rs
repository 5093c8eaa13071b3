//! The manifest of one fast key: the sets of things that earlier compiles read, and what came out of each.
//! Knows no compiler and no arguments.
//!
//! A **fact** is one thing that a compile depended on: a file's content, that a file was not there, the names in
//! a folder, a variable. A **set** is the facts of one compile and what it gave. The newest set of which every
//! fact holds now is the hit. A fact that several sets share is looked at once.
//!
//! ```text
//! result entry at the fast key = refs(blobs of all sets, body)           see `spolia_store::refs`
//! body  = "spolia cc 2\n" postcard(kinds, names, marks, values, sets, keyed?)          oldest set first
//! kinds = one byte for each fact: 0 file, 1 not there, 2 there, 3 names in a folder, 4 variable, 5 variable that is not set, 6 link
//! names = the facts' paths and variables, as `names.rs` packs them       path: as `Site::write` writes it
//! values = of each variable that is set, and where each link leads, as `Site::write` writes it
//! marks = the first two bytes of the digest of each file's content and each folder's names
//! set   = folder? sum32 (first, count)* kept        numbers of facts     kept = output* log cost
//! sum   = BLAKE3("spolia cc set\n" digest32*)        of the set's files and folders, in the set's order
//! keyed = see `trail.rs`
//! ```
//!
//! **A set holds by its sum**, which is as good as all of its digests. The marks only say which of the inputs changed, and say
//! so before all of them were looked at: where the changed one has the same mark by chance, the miss names none.
//! The digests themselves would be most of the manifest, as nothing packs them.
//!
//! Version 1 had them, and is read: body = "spolia cc 1\n" postcard((facts, sets)), fact = [`Fact`], set = folder? fact-number* kept.
//!
//! [`crate::sets`] looks through the sets and bounds them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use spolia_core::{Digest, DigestFunction};
use spolia_store::{StatKey, refs};

use crate::outcome::Miss;
use crate::sets::{BODY_BYTES_MAX, Kept, Raw, Set, Sets};
use crate::trail::Keyed;
use crate::{Env, Room, names};

const HEADER: &[u8] = b"spolia cc 2\n";
const HEADER_1: &[u8] = b"spolia cc 1\n";
/// The longest names of all facts together, bytes.
const NAMES_BYTES_MAX: usize = 64 << 20;

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
    /// A link leads to this path; both as `Site::write` writes them.
    Link(Raw, Raw),
    /// A variable has this value, or is not set.
    Variable(Raw, Option<Raw>),
}

/// The first bytes of a digest.
type Mark = [u8; 2];

/// A [`Fact`] as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Noted {
    File(Raw, Mark),
    Absent(Raw),
    Present(Raw),
    Listing(Raw, Mark),
    Link(Raw, Raw),
    Variable(Raw, Option<Raw>),
}

/// What a set goes by beside its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    /// The folder that its outputs embed: it holds nowhere else.
    folder: Option<Raw>,
    /// Of all its digests.
    sum: [u8; 32],
}

/// All sets of one fast key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    sets: Sets<Noted, Bound>,
    /// What the key was made of, for words.
    pub(crate) keyed: Option<Keyed>,
}

/// What a compile depended on, before it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In any order, each once.
    pub facts: Vec<Fact>,
    /// Whether the outputs embed the folder they were made in.
    pub bound: bool,
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct Body {
    kinds: Raw,
    names: Raw,
    marks: Raw,
    values: Vec<Raw>,
    sets: Vec<BodySet>,
    keyed: Option<Keyed>,
}

#[derive(Serialize, Deserialize)]
struct BodySet {
    folder: Option<Raw>,
    sum: [u8; 32],
    runs: Vec<(u32, u32)>,
    kept: Kept,
}

impl Manifest {
    /// From a result's payload; `None` where it is no manifest of this version or the one before.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (_, body) = refs::open(payload)?;
        if body.starts_with(HEADER_1) {
            return Sets::open(HEADER_1, payload).and_then(Self::of_version_1);
        }
        let body = body.strip_prefix(HEADER).filter(|body| body.len() <= BODY_BYTES_MAX)?;
        postcard::from_bytes::<Body>(body).ok()?.open()
    }

    /// As a result's payload.
    pub fn payload(&self) -> Vec<u8> {
        let facts = &self.sets.facts;
        let mut body = Body {
            kinds: Raw::default(),
            names: Raw::default(),
            marks: Raw::default(),
            values: Vec::new(),
            sets: Vec::new(),
            keyed: self.keyed.clone(),
        };
        for fact in facts {
            let kind = match fact {
                Noted::File(..) => 0,
                Noted::Absent(_) => 1,
                Noted::Present(_) => 2,
                Noted::Listing(..) => 3,
                Noted::Variable(_, Some(_)) => 4,
                Noted::Variable(_, None) => 5,
                Noted::Link(..) => 6,
            };
            body.kinds.0.push(kind);
            match fact {
                Noted::File(_, mark) | Noted::Listing(_, mark) => body.marks.0.extend_from_slice(mark),
                Noted::Variable(_, Some(value)) | Noted::Link(_, value) => body.values.push(value.clone()),
                Noted::Absent(_) | Noted::Present(_) | Noted::Variable(_, None) => {}
            }
        }
        body.names = Raw(names::pack(facts.iter().map(|fact| fact.name().0.as_slice())));
        body.sets.extend(self.sets.sets.iter().map(|set| BodySet {
            folder: set.bound.folder.clone(),
            sum: set.bound.sum,
            runs: runs(&set.facts),
            kept: set.kept.clone(),
        }));
        let bytes = postcard::to_extend(&body, HEADER.to_vec()).unwrap_or_default();
        refs::seal(&self.sets.blobs(), &bytes)
    }

    /// What the newest set gave of which every fact holds now, or why there is none: what is wrong with the
    /// newest set.
    pub fn find(&self, room: &Room, env: &Env) -> Result<&Kept, Miss> {
        let here = bound_of(room);
        let elsewhere = |bound: &Bound| {
            let other = bound.folder.as_ref().filter(|folder| **folder != here)?;
            Some(Miss::OtherFolder(spolia_core::codec::escape(&other.0)))
        };
        // The digests of now, of those facts that were looked at.
        let found = RefCell::new(vec![None; self.sets.facts.len()]);
        let fails = |number: usize, fact: &Noted| {
            let mut digest = None;
            let miss = fact.fails(room, env, &mut digest);
            if let Some(known) = found.borrow_mut().get_mut(number) {
                *known = digest;
            }
            miss
        };
        let differ = |bound: &Bound, facts: &[u32]| {
            let found = found.borrow();
            let digests = facts.iter().filter_map(|number| found.get(*number as usize)?.as_ref());
            let differ = sum(digests) != bound.sum;
            differ.then(|| Miss::InputChanged(format!("one of {} inputs", facts.len())))
        };
        self.sets.newest_that_holds(&room.story, elsewhere, fails, differ)
    }

    /// Adds what a compile gave as the newest set. One with the same facts is replaced.
    pub fn add(&mut self, seen: Seen, kept: Kept, room: &Room) {
        self.add_bound(seen.bound.then(|| bound_of(room)), seen.facts, kept);
    }

    fn add_bound(&mut self, folder: Option<Raw>, mut facts: Vec<Fact>, kept: Kept) {
        let mut known = HashSet::new();
        let mut first: Vec<bool> = facts.iter().map(|fact| known.insert(fact)).collect();
        let mut first = first.drain(..);
        facts.retain(|_| first.next() == Some(true));
        let digests = facts.iter().filter_map(|fact| match fact {
            Fact::File(_, digest) | Fact::Listing(_, digest) => Some(digest),
            Fact::Absent(_) | Fact::Present(_) | Fact::Link(..) | Fact::Variable(..) => None,
        });
        let bound = Bound { folder, sum: sum(digests) };
        self.sets.add_newest(bound, facts.into_iter().map(Noted::of).collect(), kept);
    }

    fn of_version_1(earlier: Sets<Fact, Option<Raw>>) -> Option<Self> {
        // Nothing was ever called that, and it could not be written down.
        if earlier.facts.iter().any(|fact| Noted::of(fact.clone()).name().0.contains(&0)) {
            return None;
        }
        let mut manifest = Self::default();
        for set in earlier.sets {
            // Their numbers were checked when they were read.
            let facts = set.facts.iter().filter_map(|number| earlier.facts.get(*number as usize).cloned());
            manifest.add_bound(set.bound, facts.collect(), set.kept);
        }
        Some(manifest)
    }

    /// How many sets there are.
    pub fn sets(&self) -> usize {
        self.sets.sets()
    }
}

impl Body {
    /// What it says, if that fits together.
    fn open(self) -> Option<Manifest> {
        let count = self.kinds.0.len();
        let names = names::unpack(&self.names.0, count, NAMES_BYTES_MAX)?;
        let (marks, half) = self.marks.0.as_chunks::<2>();
        let (mut marks, mut values) = (marks.iter().copied(), self.values.into_iter());
        let mut facts = Vec::with_capacity(count);
        for (kind, name) in self.kinds.0.iter().zip(names.into_iter().map(Raw)) {
            facts.push(match kind {
                0 => Noted::File(name, marks.next()?),
                1 => Noted::Absent(name),
                2 => Noted::Present(name),
                3 => Noted::Listing(name, marks.next()?),
                4 => Noted::Variable(name, Some(values.next()?)),
                5 => Noted::Variable(name, None),
                6 => Noted::Link(name, values.next()?),
                _ => return None,
            });
        }
        if !half.is_empty() || marks.next().is_some() || values.next().is_some() {
            return None;
        }
        let mut sets = Vec::with_capacity(self.sets.len());
        for set in self.sets {
            let bound = Bound { folder: set.folder, sum: set.sum };
            sets.push(Set { bound, facts: numbers(&set.runs, count)?, kept: set.kept });
        }
        Some(Manifest { sets: Sets { facts, sets }, keyed: self.keyed })
    }
}

/// Numbers that follow each other, as the first and how many.
fn runs(numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(*number) => *count += 1,
            _ => runs.push((*number, 1)),
        }
    }
    runs
}

/// What [`runs`] made; `None` where a number is not below `count`, or there are more of them.
fn numbers(runs: &[(u32, u32)], count: usize) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for (first, length) in runs {
        let end = first.checked_add(*length).filter(|end| *end as usize <= count)?;
        if numbers.len() + *length as usize > count {
            return None;
        }
        numbers.extend(*first..end);
    }
    Some(numbers)
}

/// What a set with these digests goes by.
fn sum<'d>(digests: impl Iterator<Item = &'d [u8; 32]>) -> [u8; 32] {
    let mut all = b"spolia cc set\n".to_vec();
    for digest in digests {
        all.extend_from_slice(digest);
    }
    *Digest::blake3(&all).as_bytes()
}

fn mark(digest: &[u8; 32]) -> Mark {
    [digest[0], digest[1]]
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
            Self::Link(path, to) => write!(f, "link {} to {}", text(path), text(to)),
            Self::Variable(name, Some(value)) => write!(f, "variable {} `{}`", text(name), text(value)),
            Self::Variable(name, None) => write!(f, "variable {} not set", text(name)),
        }
    }
}

impl Noted {
    fn of(fact: Fact) -> Self {
        match fact {
            Fact::File(path, digest) => Self::File(path, mark(&digest)),
            Fact::Absent(path) => Self::Absent(path),
            Fact::Present(path) => Self::Present(path),
            Fact::Listing(path, digest) => Self::Listing(path, mark(&digest)),
            Fact::Link(path, to) => Self::Link(path, to),
            Fact::Variable(name, value) => Self::Variable(name, value),
        }
    }

    fn name(&self) -> &Raw {
        match self {
            Self::File(name, _)
            | Self::Absent(name)
            | Self::Present(name)
            | Self::Listing(name, _)
            | Self::Link(name, _)
            | Self::Variable(name, _) => name,
        }
    }

    /// Why it does not hold now; `None` where it does, as far as the mark tells. `now` becomes the digest of now.
    fn fails(&self, room: &Room, env: &Env, now: &mut Option<[u8; 32]>) -> Option<Miss> {
        let name = |path: &Raw| spolia_core::codec::escape(path.0.get(1..).unwrap_or_default());
        let here = |path: &Raw| room.site.read(&path.0);
        match self {
            Self::File(path, marked) => {
                let Some(file) = here(path) else { return Some(Miss::InputGone(name(path))) };
                match room.digest(&file) {
                    Ok((_, found)) => {
                        let found = now.insert(*found.as_bytes());
                        (mark(found) != *marked).then(|| Miss::InputChanged(name(path)))
                    }
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
            Self::Listing(path, marked) => {
                *now = here(path).and_then(|folder| listing(room, &folder));
                (now.as_ref().map(mark) != Some(*marked)).then(|| Miss::ListingChanged(name(path)))
            }
            Self::Link(path, to) => {
                let now = here(path).and_then(|link| leads_to(&link));
                let same = now.is_some_and(|now| room.site.write(now.as_os_str().as_bytes()) == to.0);
                (!same).then(|| Miss::LinkChanged(name(path)))
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
pub fn listing(room: &Room, folder: &Path) -> Option<[u8; 32]> {
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

/// Where a link leads, without `..`; `None` where none is there. What is before its name must be no link.
pub fn leads_to(link: &Path) -> Option<PathBuf> {
    let target = rustix::fs::readlink(link, Vec::new()).ok()?;
    let mut path = PathBuf::new();
    for part in link.parent()?.join(OsStr::from_bytes(target.as_bytes())).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Site;
    use crate::sets::SETS_MAX;

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
        assert_eq!(manifest.sets.facts.len(), SETS_MAX + 1);
    }

    #[test]
    fn all_of_it_comes_back_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        let keyed = Keyed { arguments: vec!["-O2".to_owned()], others: vec![("source".to_owned(), 7)] };
        let mut manifest = Manifest { keyed: Some(keyed), ..Manifest::default() };
        for number in 0..4u8 {
            let path = |name: &str| Raw(format!("~/include/{name}{}", number % 2).into_bytes());
            let facts = vec![
                Fact::File(path("a"), [number; 32]),
                Fact::File(Raw(b"=/usr/include/b.h".to_vec()), [9; 32]),
                Fact::Absent(path("c")),
                Fact::Present(path("d")),
                Fact::Listing(path("e"), [number; 32]),
                Fact::Link(path("l"), path("to")),
                Fact::Variable(Raw(b"A".to_vec()), Some(Raw(vec![0, number]))),
                Fact::Variable(Raw(b"B".to_vec()), None),
                Fact::File(path("a"), [number; 32]),
            ];
            manifest.add(Seen { facts, bound: number == 2 }, kept("x"), &room);
        }
        assert_eq!(manifest.sets(), 4);
        assert_eq!(Manifest::parse(&manifest.payload()), Some(manifest));
    }

    /// What the marks do not tell apart the sum does.
    #[test]
    fn a_digest_with_the_same_mark_is_another_digest() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        let env = Env::default();
        std::fs::write(temp.path().join("h"), "now").unwrap();
        let now = *Digest::blake3(b"now").as_bytes();
        let path = Raw(b"~/h".to_vec());
        for byte in 2..32 {
            let mut other = now;
            other[byte] ^= 1;
            let mut manifest = Manifest::default();
            for digest in [now, other] {
                let facts = vec![Fact::File(path.clone(), digest)];
                manifest.add(
                    Seen { facts, bound: false },
                    kept(if digest == now { "now" } else { "other" }),
                    &room,
                );
            }
            assert_eq!((manifest.sets(), manifest.sets.facts.len()), (2, 1), "they share a fact");
            let manifest = Manifest::parse(&manifest.payload()).unwrap();
            assert_eq!(manifest.find(&room, &env), Ok(&kept("now")), "{byte}");
        }
        let mut manifest = Manifest::default();
        let mut other = now;
        other[31] ^= 1;
        manifest.add(Seen { facts: vec![Fact::File(path, other)], bound: false }, kept("other"), &room);
        assert_eq!(manifest.find(&room, &env), Err(Miss::InputChanged("one of 1 inputs".to_owned())));
    }

    /// Two files that have changed places.
    #[test]
    fn which_file_has_which_digest_is_in_the_sum() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        for (name, content) in [("a", "one"), ("b", "two")] {
            std::fs::write(temp.path().join(name), content).unwrap();
        }
        let (a, b) = (file(&room, "a"), file(&room, "b"));
        let (Fact::File(path_a, digest_a), Fact::File(path_b, digest_b)) = (a, b) else { panic!() };
        assert_ne!(sum([&digest_a, &digest_b].into_iter()), sum([&digest_b, &digest_a].into_iter()));
        let mut manifest = Manifest::default();
        let facts = vec![Fact::File(path_a, digest_b), Fact::File(path_b, digest_a)];
        manifest.add(Seen { facts, bound: false }, kept("x"), &room);
        assert_eq!(manifest.find(&room, &Env::default()), Err(Miss::InputChanged("/a".to_owned())));
    }

    #[test]
    fn version_1_is_read_and_written_as_this_one() {
        let temp = tempfile::tempdir().unwrap();
        let room = room(temp.path());
        for name in ["a", "b"] {
            std::fs::write(temp.path().join(name), name).unwrap();
        }
        let digest = |content: &[u8]| *Digest::blake3(content).as_bytes();
        // Bytes as the first version wrote them: three facts, and two sets of them.
        let mut body = b"spolia cc 1\n".to_vec();
        body.push(3);
        body.extend([&[0, 3][..], b"~/a", &digest(b"a")].concat());
        body.extend([&[0, 3][..], b"~/b", &digest(b"b")].concat());
        body.extend([&[1, 3][..], b"~/c"].concat());
        body.push(2);
        let log_and_cost = |body: &mut Vec<u8>, log: &[u8]| {
            // No outputs.
            body.push(0);
            body.push(log.len() as u8);
            body.extend_from_slice(log);
            body.extend(postcard::to_stdvec(&spolia_core::Cost::default()).unwrap());
        };
        body.extend([0, 2, 0, 2]);
        log_and_cost(&mut body, b"old");
        let here = bound_of(&room).0;
        body.extend([&[1, here.len() as u8], here.as_slice(), &[3, 0, 1, 2]].concat());
        log_and_cost(&mut body, b"new");
        let payload = refs::seal(&[], &body);
        let manifest = Manifest::parse(&payload).unwrap();
        assert_eq!(manifest.find(&room, &Env::default()), Ok(&kept("new")));
        let written = manifest.payload();
        assert!(refs::open(&written).unwrap().1.starts_with(HEADER));
        assert_eq!(Manifest::parse(&written), Some(manifest));
        std::fs::write(temp.path().join("b"), "changed").unwrap();
        assert_eq!(Manifest::parse(&written).unwrap().find(&room, &Env::default()), Ok(&kept("old")));
        for cut in 0..payload.len() {
            let _cut = Manifest::parse(&payload[..cut]);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let all: Vec<u32> = vec![0, 1, 2, 7, 8, 3, 9];
        assert_eq!(runs(&all), [(0, 3), (7, 2), (3, 1), (9, 1)]);
        assert_eq!(numbers(&runs(&all), 10), Some(all));
        assert_eq!(numbers(&[(0, 10), (0, 1)], 10), None, "more than there are");
        assert_eq!(numbers(&[(5, 6)], 10), None);
        assert_eq!(numbers(&[(u32::MAX, 2)], 10), None);
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
