//! What rustc keeps for the next compile of a unit (a *session*), kept in the store and given back where the target folder
//! is gone: a change then costs what it costs with the folder in place. Knows no arguments and no outputs.
//!
//! ```text
//! target/debug/incremental/foo-1x2y/s-TIME-RANDOM-HASH/    a finished session: object files, tables; nothing else uses it
//!                                  /s-TIME-RANDOM.lock     without it rustc throws the session away
//!
//! result entry at the session's key = refs(blobs of its files, body)       see `spolia_store::refs`
//! body = "spolia rustc session 1\n" postcard(Session)
//! ```
//!
//! | step | when |
//! |---|---|
//! | [`Sessions::keep`] | a compile with `-C incremental` succeeded and took [`CPU_US_MIN`]; the session is the one that it wrote |
//! | [`Sessions::give_back`] | a miss for which rustc would find no finished session, and every file is what it was |
//!
//! The key is the unit's fast key with the folders themselves: the same crate, options and compiler in the same place.
//! Sources are no part of it. They need not be: rustc compares them, and everything else that a session depends on, with what it
//! finds, as it does with any session of its own. There is one session for a unit, the newest; the blobs of older ones go with the
//! next collection.
//!
//! Files are hard links where the file system allows, with the mode that rustc gave them, since it refuses objects that are
//! read-only. It removes a file of a session before it writes another, and makes the
//! links of its next session in the same way. Whoever writes through one all the same costs a compile, since each is hashed
//! before it is given back.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType};
use serde::{Deserialize, Serialize};
use spolia_core::key::{HashWriter, KeyWriter, Value};
use spolia_core::{ActionKey, Digest, DigestFunction};
use spolia_engine::observe::Seen;
use spolia_store::local::Compression;
use spolia_store::{Entry, LocalOptions, LocalStore, Store, refs};

use super::folders::{Folders, clean};
use super::restore::{self, How};
use crate::Room;
use crate::sets::{KeptOutput, Raw};

/// The version of what a session's key is made of.
const KEY_VERSION: u64 = 1;
const HEADER: &[u8] = b"spolia rustc session 1\n";
/// Compiles that are cheaper than this are not worth a session, µs of CPU.
pub(super) const CPU_US_MIN: u64 = 200_000;
/// The most that one session may hold, bytes.
const BYTES_MAX: u64 = 1 << 30;
/// And files.
const FILES_MAX: usize = 8192;
/// What a session's name begins with, and how one ends that rustc still works on.
const SESSION: &[u8] = b"s-";
const UNFINISHED: &[u8] = b"-working";
/// What the folder is called in which a session is put together: rustc leaves alone what is not called as its own.
const OURS: &[u8] = b"spolia-";

/// The sessions of one unit: where rustc looks for them, and under which key the newest is kept.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    /// `-C incremental`.
    folder: PathBuf,
    pub(super) key: ActionKey,
}

/// One that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// The unit's folder in that of `-C incremental`.
    unit: Raw,
    /// Its own in that.
    name: Raw,
    /// The libraries that the compiler loaded, with their digests: its own file is in the key.
    compiler: Vec<(Raw, [u8; 32])>,
    files: Vec<SessionFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SessionFile {
    name: Raw,
    digest: [u8; 32],
    size: u64,
}

impl SessionFile {
    fn blob(&self) -> Digest {
        Digest::new(DigestFunction::Blake3, self.digest)
    }
}

impl Session {
    fn parse(payload: &[u8]) -> Option<Self> {
        let (_, body) = refs::open(payload)?;
        let session: Self = postcard::from_bytes(body.strip_prefix(HEADER)?).ok()?;
        let names =
            [&session.unit, &session.name].into_iter().chain(session.files.iter().map(|file| &file.name));
        let is_sound = names.into_iter().all(is_name)
            && is_finished(&session.name.0)
            && lock_of(&session.name.0).is_some()
            && session.files.len() <= FILES_MAX;
        is_sound.then_some(session)
    }

    fn payload(&self) -> Vec<u8> {
        let mut blobs: Vec<Digest> = self.files.iter().map(SessionFile::blob).collect();
        blobs.sort_unstable();
        blobs.dedup();
        refs::seal(&blobs, &postcard::to_extend(self, HEADER.to_vec()).unwrap_or_default())
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Whether it is the name of something in a folder, and of nothing outside it.
fn is_name(raw: &Raw) -> bool {
    let mut parts = Path::new(OsStr::from_bytes(&raw.0)).components();
    let is_one = matches!(parts.next(), Some(Component::Normal(name)) if name.as_bytes() == raw.0);
    is_one && parts.next().is_none() && !raw.0.contains(&0)
}

fn is_finished(name: &[u8]) -> bool {
    name.starts_with(SESSION) && !name.ends_with(UNFINISHED)
}

/// The name of a finished session's lock: all before its hash.
fn lock_of(name: &[u8]) -> Option<OsString> {
    let at = memchr::memrchr(b'-', name).filter(|at| *at > SESSION.len())?;
    Some(OsString::from_vec([&name[..at], b".lock"].concat()))
}

/// A session that was given back.
pub(super) struct GivenBack {
    /// Its length, bytes.
    pub(super) bytes: u64,
    folder: PathBuf,
}

impl Sessions {
    /// Those of the unit with the fast key `key`, for which the call names `folder`.
    pub(super) fn new(folder: PathBuf, key: ActionKey, folders: &Folders) -> Self {
        let mut writer = HashWriter::new();
        writer.field("rustc session", Value::Number(KEY_VERSION));
        writer.field("unit", Value::Digest(key.0));
        for (mark, folder) in folders.iter() {
            writer.field("mark", Value::Number(u64::from(mark)));
            writer.field("folder", Value::Bytes(folder));
        }
        writer.field("sessions", Value::Bytes(folder.as_os_str().as_bytes()));
        Self { folder, key: writer.finish() }
    }

    /// Keeps the session that a compile wrote; its length in bytes. `None` where there is none, or it cannot be kept: that
    /// costs time one day.
    pub(super) fn keep(&self, room: &Room, folders: &Folders, seen: &Seen) -> Option<u64> {
        let (unit, folder) = self.written(seen)?;
        let before = room.kept(self.key, Session::parse);
        let mut keeper = Keeper { room, before: before.as_ref(), plain: None };
        let mut files = Vec::new();
        let mut bytes = 0;
        for entry in std::fs::read_dir(&folder).ok()? {
            let file = keeper.file(&entry.ok()?.path())?;
            bytes += file.size;
            if bytes > BYTES_MAX || files.len() == FILES_MAX {
                return None;
            }
            files.push(file);
        }
        files.sort_unstable_by(|a, b| a.name.0.cmp(&b.name.0));
        let added = keeper.plain.map_or(0, |store| store.added_bytes());
        let session = Session {
            unit: Raw(unit.as_bytes().to_vec()),
            name: Raw(folder.file_name()?.as_bytes().to_vec()),
            compiler: libraries(room, folders, seen)?,
            files,
        };
        let payload = session.payload();
        // What could not be read back is not written.
        Session::parse(&payload)?;
        room.store.put_bytes(Entry::result(self.key), &payload).ok()?;
        let _uncounted = spolia_store::size::add(&room.store, added);
        Some(bytes)
    }

    /// The unit's folder by its name, and the finished session that the run wrote.
    fn written(&self, seen: &Seen) -> Option<(OsString, PathBuf)> {
        let real = self.folder.canonicalize().ok()?;
        let working = |path: &Path| {
            path.ancestors().find_map(|folder| {
                let name = folder.file_name()?.as_bytes();
                let name = name.strip_suffix(UNFINISHED).filter(|name| name.starts_with(SESSION))?;
                Some((folder.parent()?.to_owned(), name.to_vec()))
            })
        };
        let (unit, began) = seen.written.iter().find_map(|path| working(&clean(path)))?;
        if unit.parent() != Some(&real) && unit.parent() != Some(&self.folder) {
            return None;
        }
        let finished = std::fs::read_dir(&unit).ok()?.flatten().find(|entry| {
            let name = entry.file_name();
            let hash = name.as_bytes().strip_prefix(&began[..]).and_then(|rest| rest.strip_prefix(b"-"));
            hash.is_some()
                && is_finished(name.as_bytes())
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
        })?;
        Some((unit.file_name()?.to_owned(), finished.path()))
    }

    /// Puts the kept session where rustc looks for one, unless there is one. `None` where nothing was put there.
    pub(super) fn give_back(&self, room: &Room, folders: &Folders) -> Option<GivenBack> {
        let session = room.kept(self.key, Session::parse)?;
        let unit = self.folder.join(OsStr::from_bytes(&session.unit.0));
        if has_session(&unit) {
            return None;
        }
        let same = |(path, digest): &(Raw, [u8; 32])| {
            let path = folders.read(&path.0);
            path.and_then(|path| room.memo.digest(&path).ok())
                .is_some_and(|(_, now)| now.as_bytes() == digest)
        };
        if !session.compiler.iter().all(same) {
            return None;
        }
        std::fs::create_dir_all(&unit).ok()?;
        let mut temp = OsString::from_vec(OURS.to_vec());
        temp.push(room.scratch().file_name()?);
        let temp = unit.join(temp);
        let folder = unit.join(OsStr::from_bytes(&session.name.0));
        let lock = unit.join(lock_of(&session.name.0)?);
        let put = fill(room, &session, &temp).is_some()
            && File::create(&lock).is_ok()
            && std::fs::rename(&temp, &folder).is_ok();
        if !put {
            let _unremoved = std::fs::remove_dir_all(&temp);
            return None;
        }
        Some(GivenBack { bytes: session.bytes(), folder })
    }

    /// Takes back what was given, for good: the compiler broke over it.
    pub(super) fn forget(&self, room: &Room, given: &GivenBack) {
        let _stays = room.store.remove(Entry::result(self.key));
        let _stays = std::fs::remove_dir_all(&given.folder);
    }
}

/// Whether rustc would find a session in the unit's folder. What a killed call of ours left there goes.
fn has_session(unit: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(unit) else { return false };
    let mut found = false;
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && entry.file_name().as_bytes().starts_with(OURS) {
            let _stays = std::fs::remove_dir_all(entry.path());
        }
        found |= is_folder && is_finished(entry.file_name().as_bytes());
    }
    found
}

/// The session's files in a new folder; `None` where one of them is not what it was.
fn fill(room: &Room, session: &Session, folder: &Path) -> Option<()> {
    std::fs::create_dir(folder).ok()?;
    for file in &session.files {
        let blob = room.store.plain_path(file.blob());
        let path = folder.join(OsStr::from_bytes(&file.name.0));
        let output = KeptOutput {
            name: String::new(),
            digest: file.digest,
            size: file.size,
            executable: false,
            inline: None,
        };
        let is_linked = restore::is_sound(room, &blob, &file.blob(), &output).ok()?
            && rustix::fs::lstat(&blob).is_ok_and(|stat| !is_read_only(&stat))
            && rustix::fs::linkat(CWD, &blob, CWD, &path, AtFlags::empty()).is_ok();
        if !is_linked {
            restore::put(room, &output, &path, How::Copy).ok()?;
        }
    }
    Some(())
}

/// rustc refuses to link objects that are.
fn is_read_only(stat: &rustix::fs::Stat) -> bool {
    stat.st_mode & 0o222 == 0
}

/// The libraries that the compiler loaded, wherever they are but in what is being built.
fn libraries(room: &Room, folders: &Folders, seen: &Seen) -> Option<Vec<(Raw, [u8; 32])>> {
    let is_one = |path: &Path| {
        let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        let mark = folders.mark_of(path.as_os_str().as_bytes());
        (name.ends_with(b".so") || memchr::memmem::find(name, b".so.").is_some())
            && !matches!(mark, Some(b'T' | b'W'))
            && !path.starts_with("/etc")
            && !path.starts_with(room.store.base())
    };
    let paths = seen.read.iter().map(|found| clean(&found.path)).filter(|path| is_one(path));
    let with_digest = |path: PathBuf| {
        let (_, digest) = room.memo.digest(&path).ok()?;
        Some((Raw(folders.write(path.as_os_str().as_bytes())), *digest.as_bytes()))
    };
    paths.map(with_digest).collect()
}

/// Takes files of a session into the store.
struct Keeper<'k> {
    room: &'k Room,
    before: Option<&'k Session>,
    /// The store without compression, opened where files have to be copied: packing them costs more than it is worth.
    plain: Option<LocalStore>,
}

impl Keeper<'_> {
    /// `None` where it is no file, or cannot be kept.
    fn file(&mut self, path: &Path) -> Option<SessionFile> {
        let name = Raw(path.file_name()?.as_bytes().to_vec());
        let stat = rustix::fs::lstat(path).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        if let Some(known) = self.unchanged(&name, &stat) {
            return Some(known);
        }
        let file = File::open(path).ok()?;
        let (digest, size) = spolia_store::hash_seen(&file, &mut |_| {}).ok()?;
        let kept = SessionFile { name, digest: *digest.as_bytes(), size };
        let blob = rustix::fs::lstat(self.room.store.plain_path(digest));
        if blob.is_ok_and(|blob| is_read_only(&blob) && u64::try_from(blob.st_size) == Ok(size)) {
            // An output of that content: it stays the read-only file that it is.
            return Some(kept);
        }
        if self.room.store.adopt(path, digest).ok()? {
            return Some(kept);
        }
        let store = match &mut self.plain {
            Some(store) => store,
            none => {
                let options = LocalOptions { compression: Compression::Never, ..LocalOptions::default() };
                none.insert(LocalStore::open(self.room.store.dir(), options).ok()?)
            }
        };
        let imported = store.import(&file).ok()?;
        (imported.digest == digest).then_some(kept)
    }

    /// A file that is the store's own under another name: rustc links what it does not compile again from session to session.
    fn unchanged(&self, name: &Raw, stat: &rustix::fs::Stat) -> Option<SessionFile> {
        let files = &self.before?.files;
        let at = files.binary_search_by(|file| file.name.0.cmp(&name.0)).ok()?;
        let blob = rustix::fs::lstat(self.room.store.plain_path(files[at].blob())).ok()?;
        let is_one = (blob.st_dev, blob.st_ino) == (stat.st_dev, stat.st_ino);
        is_one.then(|| files[at].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let raw = |text: &str| Raw(text.as_bytes().to_vec());
        let file = |name: &str| SessionFile {
            name: raw(name),
            digest: *Digest::blake3(name.as_bytes()).as_bytes(),
            size: name.len() as u64,
        };
        Session {
            unit: raw("x-1a2b"),
            name: raw("s-h1-0c-3d"),
            compiler: vec![(raw("S/lib/librustc_driver-1.so"), [7; 32])],
            files: vec![file("a.o"), file("dep-graph.bin")],
        }
    }

    #[test]
    fn names_of_sessions_are_those_of_rustc() {
        let check = |name: &str, finished: bool, lock: Option<&str>| {
            assert_eq!(is_finished(name.as_bytes()), finished, "{name}");
            assert_eq!(lock_of(name.as_bytes()), lock.map(OsString::from), "{name}");
        };
        check("s-h1abc-0xyz-4svh", true, Some("s-h1abc-0xyz.lock"));
        check("s-h1abc-0xyz-working", false, Some("s-h1abc-0xyz.lock"));
        check("spolia-1-2-3", false, Some("spolia-1-2.lock"));
        check("s-1", true, None);
        check("", false, None);
    }

    #[test]
    fn a_record_reads_back_and_a_damaged_one_leads_nowhere() {
        let session = session();
        let payload = session.payload();
        assert_eq!(Session::parse(&payload), Some(session.clone()));
        for at in 0..payload.len() {
            assert_eq!(Session::parse(&payload[..at]), None, "{at}");
            for bit in 0..8 {
                let mut flipped = payload.clone();
                flipped[at] ^= 1 << bit;
                // Whatever it is, its names stay in their folder.
                let read = Session::parse(&flipped);
                assert!(read.is_none_or(|read| is_name(&read.unit) && read.files.iter().all(|f| is_name(&f.name))));
            }
        }
        for odd in ["..", ".", "", "a/b", "/a", "a\0b", "a/"] {
            let mut wrong = session.clone();
            wrong.files[0].name = Raw(odd.as_bytes().to_vec());
            assert_eq!(Session::parse(&wrong.payload()), None, "{odd:?}");
            wrong = Session { unit: Raw(odd.as_bytes().to_vec()), ..session.clone() };
            assert_eq!(Session::parse(&wrong.payload()), None, "{odd:?}");
        }
        let many = vec![session.files[0].clone(); FILES_MAX + 1];
        assert_eq!(Session::parse(&Session { files: many, ..session }.payload()), None);
    }
}
