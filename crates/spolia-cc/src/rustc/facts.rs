//! What one unit depended on and what came of it, for a few runs: the manifest of one fast key. Knows no arguments.
//!
//! The idea is that of [`crate::direct`]; what differs is that paths lie in several folders, and that a variable may
//! hold one.
//!
//! ```text
//! result entry at the fast key = refs(blobs of all sets, body)             see `spolia_store::refs`
//! body  = "spolia rustc 1\n" postcard(facts, sets)                         oldest set first
//! path  = as `Folders::write` writes it
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spolia_core::Digest;

use super::folders::Folders;
use crate::direct::listing;
use crate::outcome::Miss;
use crate::sets::{Kept, Raw, Sets};
use crate::{Env, Room, detect};

const HEADER: &[u8] = b"spolia rustc 1\n";

/// One thing that a unit depended on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// A variable has this value, or is not set. A name that begins with `-` is an option of the call.
    Variable(Raw, Option<Raw>),
    /// The same, with the folders hidden in the value.
    Hidden(Raw, Option<Raw>),
    /// These variables are set and no others, but for those that [`is_noise`] leaves out: BLAKE3 of the names.
    Names([u8; 32]),
    /// The outputs embed this folder (by its mark): it must be the same.
    Folder(u8, Raw),
    /// The search path leads to this program; an empty path: to none.
    Program(Raw, Raw),
    /// A file with this content, by BLAKE3.
    File(Raw, [u8; 32]),
    /// Nothing is there.
    Absent(Raw),
    /// Something is there; whether a folder.
    There(Raw, bool),
    /// A folder holds exactly these names.
    Listing(Raw, [u8; 32]),
}

/// All sets of one fast key; what a set is bound to is among its facts.
pub type Manifest = Sets<Fact, ()>;

/// Where facts are looked at.
#[derive(Clone, Copy)]
pub struct Here<'h> {
    /// The store and its memo.
    pub room: &'h Room,
    /// All variables.
    pub env: &'h Env,
    /// The folders of the call.
    pub folders: &'h Folders,
    /// Options of the call that are no part of its key, as name and value.
    pub options: &'h [(String, Vec<u8>)],
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

    /// What the newest set gave of which every fact holds now, or what is wrong with the newest set.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(&self, here: Here<'_>) -> Result<&Kept, Miss> {
        self.newest_that_holds(&here.room.story, |()| None, |_, fact| fact.fails(here), |(), _| None)
    }

    /// Adds what a run gave as the newest set. One with the same facts is replaced.
    pub fn add(&mut self, mut facts: Vec<Fact>, kept: Kept) {
        // What costs nothing to look at comes first, so that a set that does not hold is left early.
        facts.sort_by_key(Fact::cost);
        self.add_newest((), facts, kept);
    }
}

impl Fact {
    fn cost(&self) -> u8 {
        match self {
            Self::Variable(..) | Self::Hidden(..) | Self::Names(_) | Self::Folder(..) => 0,
            Self::Program(..) => 1,
            Self::File(..) => 2,
            Self::Absent(_) | Self::There(..) => 3,
            Self::Listing(..) => 4,
        }
    }

    /// Why it does not hold now; `None` where it does.
    fn fails(&self, here: Here<'_>) -> Option<Miss> {
        let text = |raw: &Raw| spolia_core::codec::escape(&raw.0);
        let shown = |path: &Raw| match here.folders.read(&path.0) {
            Some(path) => spolia_core::codec::escape(path.as_os_str().as_bytes()),
            None => text(path),
        };
        match self {
            Self::Variable(name, value) => {
                let same = value_of(here, name) == value.as_ref().map(|value| value.0.as_slice());
                (!same).then(|| Miss::VariableChanged(text(name)))
            }
            Self::Hidden(name, value) => {
                let now = value_of(here, name).map(|now| here.folders.hide(now));
                let same = now.as_deref() == value.as_ref().map(|value| value.0.as_slice());
                (!same).then(|| Miss::VariableChanged(text(name)))
            }
            Self::Names(names) => (names_of(here.env) != *names)
                .then(|| Miss::VariableChanged("the list of variables".to_owned())),
            Self::Folder(mark, folder) => {
                let now = here.folders.get(*mark).map(|now| now.as_os_str().as_bytes());
                (now != Some(folder.0.as_slice())).then(|| Miss::OtherFolder(text(folder)))
            }
            Self::Program(name, path) => {
                let search = here.env.get("PATH").unwrap_or_default();
                let found = detect::find_program(OsStr::from_bytes(&name.0), search, None);
                let wanted = here.folders.read(&path.0);
                match found {
                    Some(found) if path.0.is_empty() => {
                        Some(Miss::Appeared(spolia_core::codec::escape(found.as_os_str().as_bytes())))
                    }
                    found => (found != wanted).then(|| Miss::InputChanged(shown(path))),
                }
            }
            Self::File(path, digest) => {
                let Some(file) = here.folders.read(&path.0) else { return Some(Miss::InputGone(text(path))) };
                match digest_of(here.room, &file) {
                    Some(found) if found.as_bytes() == digest => None,
                    Some(_) => Some(Miss::InputChanged(shown(path))),
                    None => Some(Miss::InputGone(shown(path))),
                }
            }
            Self::Absent(path) => {
                let file = here.folders.read(&path.0)?;
                rustix::fs::stat(&file).is_ok().then(|| Miss::Appeared(shown(path)))
            }
            Self::There(path, folder) => {
                let found = here.folders.read(&path.0).and_then(|path| rustix::fs::stat(&path).ok());
                let is = found.map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
                (is != Some(*folder)).then(|| Miss::InputGone(shown(path)))
            }
            Self::Listing(path, digest) => {
                let found = here.folders.read(&path.0).and_then(|folder| listing(here.room, &folder));
                (found.as_ref() != Some(digest)).then(|| Miss::ListingChanged(shown(path)))
            }
        }
    }
}

/// Variables that say where to work and with how many at once, not what to make.
const ASIDE: &[&str] = &[
    "MAKEFLAGS",
    "CARGO_MAKEFLAGS",
    "MFLAGS",
    "NUM_JOBS",
    "TMPDIR",
    "TEMP",
    "TMP",
    "PATH",
    "RUST_MIN_STACK",
    "MALLOC_CONF",
    "LD_PRELOAD",
];
/// What differs from one terminal to the next.
const NOISE: &[&str] = &[
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "TERM",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "LS_COLORS",
    "WINDOWID",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "GPG_AGENT_INFO",
    "GPG_TTY",
    "PS1",
    "PROMPT_COMMAND",
    "HISTFILE",
    "HISTSIZE",
    "HISTCONTROL",
    "MAIL",
    "TERM_SESSION_ID",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "RUST_RECURSION_COUNT",
];
/// Where cargo builds: whether it is said so is no matter for a build script, whose outputs are searched for that folder.
pub const TARGETS: &[&str] = &["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];
const NOISE_PREFIXES: &[&str] =
    &["XDG_SESSION_", "TERM_PROGRAM", "VTE_", "KONSOLE_", "ITERM_", "SPOLIA_", "LC_TERMINAL"];

/// Whether a variable only says where to work and with how many at once.
pub fn is_aside(name: &[u8]) -> bool {
    ASIDE.iter().any(|known| known.as_bytes() == name)
}

/// Whether a variable differs from one terminal to the next: left out for a program that may look at all of them.
pub fn is_noise(name: &[u8]) -> bool {
    is_aside(name)
        || NOISE.iter().chain(TARGETS).any(|known| known.as_bytes() == name)
        || NOISE_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// The digest of the names of all variables that are not noise.
pub fn names_of(env: &Env) -> [u8; 32] {
    let mut names: Vec<&[u8]> =
        env.iter().map(|(name, _)| name.as_bytes()).filter(|name| !is_noise(name)).collect();
    names.sort_unstable();
    *Digest::blake3(&names.join(&0)).as_bytes()
}

fn value_of<'h>(here: Here<'h>, name: &Raw) -> Option<&'h [u8]> {
    let text = std::str::from_utf8(&name.0).ok()?;
    if text.starts_with('-') {
        return here.options.iter().find(|(known, _)| known == text).map(|(_, value)| value.as_slice());
    }
    here.env.get(text).map(OsStrExt::as_bytes)
}

/// The digest of a regular file, also of one that was put there a moment ago.
pub fn digest_of(room: &Room, path: &Path) -> Option<Digest> {
    room.memo.digest(path).ok().map(|(_, digest)| digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Site;
    use crate::sets::SETS_MAX;

    struct Place {
        _temp: tempfile::TempDir,
        room: Room,
        folders: Folders,
        env: Env,
    }

    impl Place {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let root = temp.path().canonicalize().unwrap();
            let site = Site { cwd: root.clone(), root: None };
            let room = Room::open(&root.join("store"), site).unwrap();
            let mut folders = Folders::default();
            folders.add(b'W', &root);
            let env =
                Env::new(vec![("A".into(), root.join("x").into_os_string()), ("PATH".into(), "/bin".into())]);
            Self { _temp: temp, room, folders, env }
        }

        fn check(&self, fact: Fact, holds: bool) {
            let here = Here { room: &self.room, env: &self.env, folders: &self.folders, options: &[] };
            assert_eq!(fact.fails(here).is_none(), holds, "{fact:?}");
        }
    }

    fn raw(text: &str) -> Raw {
        Raw(text.as_bytes().to_vec())
    }

    #[test]
    fn facts_hold_and_fail() {
        let place = Place::new();
        std::fs::write(place.room.site.cwd.join("f"), "x").unwrap();
        place.check(Fact::File(raw("W/f"), *Digest::blake3(b"x").as_bytes()), true);
        place.check(Fact::File(raw("W/f"), *Digest::blake3(b"y").as_bytes()), false);
        place.check(Fact::File(raw("T/f"), *Digest::blake3(b"x").as_bytes()), false);
        place.check(Fact::Absent(raw("W/g")), true);
        place.check(Fact::Absent(raw("W/f")), false);
        place.check(Fact::There(raw("W/f"), false), true);
        place.check(Fact::There(raw("W/f"), true), false);
        place.check(Fact::Program(raw("sh"), raw("=/bin/sh")), true);
        place.check(Fact::Program(raw("sh"), raw("=/usr/bin/sh")), false);
        place.check(Fact::Program(raw("no-such-program"), raw("")), true);
        place.check(Fact::Program(raw("sh"), raw("")), false);
        place.check(Fact::Variable(raw("B"), None), true);
        place.check(Fact::Variable(raw("B"), Some(raw(""))), false);
        place.check(Fact::Hidden(raw("A"), Some(raw("\0\x1aW/x"))), true);
        place.check(Fact::Hidden(raw("A"), Some(raw("\0\x1aW/y"))), false);
        place.check(Fact::Folder(b'W', raw("/elsewhere")), false);
        let listed = listing(&place.room, &place.room.site.cwd).unwrap();
        place.check(Fact::Listing(raw("W"), listed), true);
        std::fs::write(place.room.site.cwd.join("new"), "").unwrap();
        place.check(Fact::Listing(raw("W"), listed), false);
    }

    #[test]
    fn where_to_work_is_not_among_the_names_of_variables() {
        let names = |more: &[&str]| {
            let pairs = more.iter().chain(&["HOME"]).map(|name| (name.into(), "x".into()));
            names_of(&Env::new(pairs.collect()))
        };
        assert_eq!(names(&["CARGO_TARGET_DIR", "TERM", "TMPDIR"]), names(&[]));
        assert_ne!(names(&["CARGO_PROFILE_DEV_DEBUG"]), names(&[]));
    }

    #[test]
    fn damaged_bytes_are_no_manifest_and_never_a_panic() {
        let mut manifest = Manifest::default();
        for number in 0..SETS_MAX + 3 {
            let facts = vec![Fact::Absent(raw(&format!("W/{number}"))), Fact::Absent(raw("W/all"))];
            manifest.add(facts, Kept::default());
        }
        assert_eq!((manifest.sets(), manifest.facts.len()), (SETS_MAX, SETS_MAX + 1));
        let payload = manifest.payload();
        assert_eq!(Manifest::parse(&payload), Some(manifest));
        for at in 0..payload.len() {
            let _cut = Manifest::parse(&payload[..at]);
            let mut flipped = payload.clone();
            flipped[at] ^= 1 << (at % 8);
            let _parsed = Manifest::parse(&flipped);
        }
    }
}
