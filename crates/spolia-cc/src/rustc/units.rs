//! The units of one cargo command, with all that is needed to find them again before cargo asks for them: `Called → Unit`.
//! Pure. Knows no files.
//!
//! ```text
//! v1/cc/builds/<hex>         = BLAKE3 of what follows, 32 bytes; "spolia build 1\n" postcard(units)   hex: `Cargo::key`
//! v1/cc/builds/calls-<pid>   = frame*                  the calls of one cargo, as they ended
//! frame                      = u32le(length) check8 postcard(Called)      check: the first 8 bytes of its BLAKE3
//! ```
//!
//! What a unit says names no folder but by its mark (see [`super::folders`]), unless it is bound to where it was seen. Nothing here
//! is believed: whether a result still holds is looked up as for any call, and whether a unit is up to date cargo decides.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Serialize};
use spolia_core::Digest;

use super::folders::{Folders, Search};
use crate::Env;
use crate::sets::Raw;

const HEADER: &[u8] = b"spolia build 1\n";
/// The most units that are kept of one command.
pub(super) const UNITS_MAX: usize = 5000;
/// The longest frame, bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// The longest file of a build that is read, bytes.
pub(super) const BUILD_BYTES_MAX: u64 = 64 << 20;
/// Says which pipe to take jobs from: another in each run.
const JOBS: &[u8] = b"CARGO_MAKEFLAGS";

/// One call that was answered or kept, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Called {
    pub(super) program: Raw,
    pub(super) name: Raw,
    pub(super) args: Vec<Raw>,
    /// What cargo set beside its own variables: those are the user's, and none of them is written down.
    pub(super) set: Vec<(Raw, Raw)>,
    /// What it took away.
    pub(super) unset: Vec<Raw>,
    pub(super) cwd: Raw,
    /// For the run of a build script: the script's digest, in hex.
    pub(super) script: Option<String>,
    pub(super) outputs: Vec<Made>,
}

/// One output of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) name: String,
    /// As it is kept.
    pub(super) kept: [u8; 32],
    /// Where it was put.
    pub(super) path: Raw,
    /// The content there, where that is another than what is kept: a text names folders.
    pub(super) text: Option<[u8; 32]>,
}

/// One unit, in a form that any checkout may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    pub(super) program: Raw,
    pub(super) name: Raw,
    pub(super) args: Vec<Raw>,
    /// What cargo set beside its own variables.
    pub(super) set: Vec<(Raw, Raw)>,
    /// What it took away.
    pub(super) unset: Vec<Raw>,
    pub(super) cwd: Raw,
    pub(super) script: Option<String>,
    /// Names and digests of its outputs.
    pub(super) outputs: Vec<(String, [u8; 32])>,
    /// The profile's folder in the target folder.
    pub(super) profile: Raw,
    /// The unit's own name among cargo's fingerprints.
    pub(super) folder: Raw,
    /// What cargo wrote of it.
    pub(super) files: Vec<Written>,
    /// Folders that stand in those as they are: it is right only where they are the same.
    pub(super) bound: Vec<(u8, Raw)>,
}

/// One small file that cargo wrote, in the profile's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) path: Raw,
    pub(super) content: Raw,
    /// Whether folders are hidden in it.
    pub(super) is_text: bool,
}

/// Variables that differ between a call and the cargo that made it, whose own are `base`: set, and taken away.
pub(super) fn difference(base: &Env, env: &Env) -> (Vec<(Raw, Raw)>, Vec<Raw>) {
    let raw = |text: &OsStr| Raw(text.as_bytes().to_vec());
    let value = |env: &Env, name: &OsStr| {
        env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes().to_vec())
    };
    let is_new = |name: &OsStr, now: &OsStr| value(base, name).is_none_or(|known| known != now.as_bytes());
    let set = env.iter().filter(|(name, now)| name.as_bytes() != JOBS && is_new(name, now));
    let unset = base.iter().filter(|(name, _)| value(env, name).is_none());
    (set.map(|(name, now)| (raw(name), raw(now))).collect(), unset.map(|(name, _)| raw(name)).collect())
}

/// What cargo wrote of a unit: path in the profile's folder, content, whether it is a text.
pub(super) type Found = (Vec<u8>, Vec<u8>, bool);

impl Called {
    /// As it is appended; `None` where it is too long.
    pub(super) fn frame(&self) -> Option<Vec<u8>> {
        let body = postcard::to_allocvec(self).ok().filter(|body| body.len() <= FRAME_BYTES_MAX)?;
        let mut frame = u32::try_from(body.len()).ok()?.to_le_bytes().to_vec();
        frame.extend_from_slice(&Digest::blake3(&body).as_bytes()[..8]);
        frame.extend_from_slice(&body);
        Some(frame)
    }

    /// All that are whole; what follows one that is not is not read.
    pub(super) fn parse(mut raw: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        while let Some((length, rest)) = raw.split_first_chunk::<4>() {
            let Some((check, rest)) = rest.split_first_chunk::<8>() else { break };
            let length = u32::from_le_bytes(*length) as usize;
            let Some((body, rest)) = rest.split_at_checked(length) else { break };
            if Digest::blake3(body).as_bytes()[..8] != *check {
                break;
            }
            let Ok(called) = postcard::from_bytes(body) else { break };
            all.push(called);
            raw = rest;
        }
        all
    }

    /// A variable that cargo set for it.
    pub(super) fn variable(&self, name: &str) -> Option<&[u8]> {
        let found = self.set.iter().find(|(known, _)| known.0 == name.as_bytes())?;
        Some(&found.1.0)
    }

    /// `-C extra-filename` without its dash.
    pub(super) fn extra_filename(&self) -> Option<&[u8]> {
        let value = |arg: &Raw| {
            let arg = arg.0.strip_prefix(b"-C").unwrap_or(&arg.0).to_vec();
            arg.strip_prefix(b"extra-filename=-").map(<[u8]>::len)
        };
        let arg = self.args.iter().find(|arg| value(arg).is_some_and(|length| length > 0))?;
        Some(&arg.0[arg.0.len() - value(arg)?..])
    }

    /// As a unit; `folders` are those of the build, `files` what cargo wrote of it.
    pub(super) fn unit(
        &self,
        folders: &Folders,
        (profile, folder): (&[u8], &[u8]),
        files: Vec<Found>,
    ) -> Unit {
        let hide = |raw: &Raw| Raw(folders.hide(&raw.0));
        let mut search = Search::new(folders);
        let files = files.into_iter().map(|(path, content, is_text)| {
            let content = if is_text { folders.hide(&content) } else { content };
            search.push(&content);
            search.end();
            Written { path: Raw(path), content: Raw(content), is_text }
        });
        let files = files.collect();
        let folder_of = |mark: &u8| Some((*mark, Raw(folders.get(*mark)?.as_os_str().as_bytes().to_vec())));
        Unit {
            program: hide(&self.program),
            name: hide(&self.name),
            args: self.args.iter().map(hide).collect(),
            set: self.set.iter().map(|(name, value)| (name.clone(), hide(value))).collect(),
            unset: self.unset.clone(),
            cwd: hide(&self.cwd),
            script: self.script.clone(),
            outputs: self.outputs.iter().map(|made| (made.name.clone(), made.kept)).collect(),
            profile: Raw(profile.to_vec()),
            folder: Raw(folder.to_vec()),
            files,
            bound: search.found().iter().filter_map(folder_of).collect(),
        }
    }
}

impl Unit {
    /// Whether it is the same place of the target folder.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.profile, &self.folder) == (&other.profile, &other.folder)
    }

    /// Whether it is right where the folders are these.
    pub(super) fn is_right_in(&self, folders: &Folders) -> bool {
        self.bound.iter().all(|(mark, folder)| {
            folders.get(*mark).is_some_and(|now| now.as_os_str().as_bytes() == folder.0)
        })
    }

    /// The variables of its call where cargo's own are `base`.
    pub(super) fn env(&self, base: &Env, folders: &Folders) -> Option<Env> {
        let is_own = |name: &[u8]| self.set.iter().any(|(known, _)| known.0 == name);
        let is_gone = |name: &[u8]| self.unset.iter().any(|known| known.0 == name);
        let kept = base.iter().filter(|(name, _)| !is_own(name.as_bytes()) && !is_gone(name.as_bytes()));
        let mut pairs: Vec<_> = kept.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for (name, value) in &self.set {
            pairs.push((OsString::from_vec(name.0.clone()), OsString::from_vec(folders.show(&value.0)?)));
        }
        Some(Env::new(pairs))
    }
}

/// From the file that keeps them; `None` for anything else.
pub(super) fn parse(file: &[u8]) -> Option<Vec<Unit>> {
    let (sum, body) = file.split_first_chunk::<32>()?;
    let units: Vec<Unit> = (Digest::blake3(body).as_bytes() == sum)
        .then(|| postcard::from_bytes(body.strip_prefix(HEADER)?).ok())
        .flatten()?;
    let stays_inside = |raw: &Raw| {
        let path = std::path::Path::new(super::cargo::os(&raw.0));
        path.components().all(|part| matches!(part, std::path::Component::Normal(_))) && !raw.0.contains(&0)
    };
    let is_sound = |unit: &Unit| {
        stays_inside(&unit.profile)
            && stays_inside(&unit.folder)
            && unit.files.iter().all(|file| stays_inside(&file.path))
    };
    (units.len() <= UNITS_MAX && units.iter().all(is_sound)).then_some(units)
}

/// As a file.
pub(super) fn file(units: &[Unit]) -> Option<Vec<u8>> {
    let body = postcard::to_extend(units, HEADER.to_vec()).ok()?;
    Some([Digest::blake3(&body).as_bytes(), body.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn raw(text: &str) -> Raw {
        Raw(text.as_bytes().to_vec())
    }

    fn called() -> Called {
        Called {
            program: raw("/s/bin/rustc"),
            name: raw("/s/bin/rustc"),
            args: ["--crate-name", "a", "-C", "extra-filename=-12ab", "--out-dir", "/p/target/debug/deps"]
                .map(raw)
                .to_vec(),
            set: vec![(raw("OWN"), raw("/p/a"))],
            unset: vec![raw("GONE")],
            cwd: raw("/p"),
            script: None,
            outputs: vec![Made { name: "rlib".to_owned(), kept: [7; 32], path: raw("/x"), text: None }],
        }
    }

    fn folders(root: &str) -> Folders {
        let mut folders = Folders::default();
        folders.add(b'W', Path::new(root));
        folders.add(b'T', &Path::new(root).join("target"));
        folders
    }

    fn unit() -> Unit {
        let files = vec![
            (b"dep-a".to_vec(), b"bound to nothing".to_vec(), false),
            (b"root".to_vec(), b"/p/target/debug".to_vec(), true),
        ];
        called().unit(&folders("/p"), (b"debug", b"a-12ab"), files)
    }

    #[test]
    fn a_unit_is_the_same_call_in_another_checkout() {
        let (unit, there) = (unit(), folders("/q"));
        assert_eq!(called().extra_filename(), Some(&b"12ab"[..]));
        assert_eq!(unit.set, [(raw("OWN"), raw("\0\x1aW/a"))]);
        assert_eq!(there.show(&unit.args[5].0).unwrap(), b"/q/target/debug/deps");
        assert_eq!(there.show(&unit.files[1].content.0).unwrap(), b"/q/target/debug");
        let base = Env::new(vec![("A".into(), "2".into()), ("GONE".into(), "1".into())]);
        let env = unit.env(&base, &there).unwrap();
        let value = |name: &str| env.get(name).and_then(|value| value.to_str());
        assert_eq!((value("A"), value("OWN"), value("GONE")), (Some("2"), Some("/q/a"), None));
        assert!(unit.is_right_in(&there));
        // What is no text and names a folder is right only there.
        let files = vec![(b"dep-a".to_vec(), b"\0/p/a.rs".to_vec(), false)];
        let bound = called().unit(&folders("/p"), (b"debug", b"a"), files);
        assert!(bound.is_right_in(&folders("/p")) && !bound.is_right_in(&there));
    }

    #[test]
    fn what_the_user_has_set_is_not_written_down() {
        let env = |pairs: &[(&str, &str)]| {
            Env::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
        };
        let base = env(&[("TOKEN", "secret"), ("GONE", "1"), ("PATH", "/a")]);
        let call = env(&[("TOKEN", "secret"), ("OWN", "/p/a"), ("PATH", "/b"), ("CARGO_MAKEFLAGS", "-j")]);
        let set = vec![(raw("OWN"), raw("/p/a")), (raw("PATH"), raw("/b"))];
        assert_eq!(difference(&base, &call), (set, vec![raw("GONE")]));
    }

    #[test]
    fn damaged_bytes_are_no_units_and_never_a_panic() {
        let whole = file(&[unit()]).unwrap();
        assert_eq!(parse(&whole), Some(vec![unit()]));
        for at in 0..whole.len() {
            assert_eq!(parse(&whole[..at]), None);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(parse(&flipped), None, "{at}");
        }
        for odd in ["..", "/a", "a/../../b", "a\0"] {
            let outside = Unit { folder: raw(odd), ..unit() };
            assert_eq!(parse(&file(&[outside]).unwrap()), None, "{odd:?}");
        }
    }

    #[test]
    fn calls_are_read_as_far_as_they_are_whole() {
        let frame = called().frame().unwrap();
        let two = [frame.clone(), frame.clone()].concat();
        assert_eq!(Called::parse(&two), [called(), called()]);
        for at in 0..frame.len() {
            assert_eq!(Called::parse(&two[..frame.len() + at]), [called()]);
            let mut flipped = two.clone();
            flipped[frame.len() + at] ^= 1 << (at % 8);
            assert_eq!(Called::parse(&flipped), [called()], "{at}");
        }
    }
}
