//! A whole target folder put back before cargo looks at it. Knows how cargo lays out what it writes of a unit.
//!
//! cargo forks for each unit, which costs more than to put the unit back: half of a build in which every unit is a hit. It looks at what is
//! up to date after its first questions to the compiler, which it asks where the target folder is empty. So at the first of them
//! every unit of the last such command is looked up as if it were called, and where it is a hit, its outputs and cargo's
//! own notes of it are put in place.
//!
//! | what | who says that it is right |
//! |---|---|
//! | the outputs | the unit's facts, all of which hold now, as for any hit |
//! | cargo's notes (`.fingerprint`, a build script's `output`) | they were written of a unit with the same outputs; cargo compares its own hash of the unit with them |
//! | times | all those of a moment before the facts were looked at: a source that is edited since is newer |
//!
//! What is not put back, cargo calls for as ever. The notes are seen when a unit of the workspace ends, since then those
//! of the units before it are there.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use spolia_core::{Digest, DigestFunction};
use spolia_store::{StatKey, journal};

use super::cargo::{self, Cargo, os};
use super::folders::Folders;
use super::units::{self, BUILD_BYTES_MAX, Called, Found, Made, UNITS_MAX, Unit};
use super::walk::{self, Task};
use crate::call::own_cpu_us;
use crate::sets::{Kept, Raw};
use crate::{Call, Options, Room};

/// How long before the look at the facts the times of what is put back are, ns: longer than a tick of the clock of files.
const BEFORE_NS: i64 = 20_000_000;
/// The longest note of cargo's that is kept, bytes.
const NOTE_BYTES_MAX: u64 = 1 << 20;
/// So often units are looked at that depend on others: each time as long as one more is put back.
const ROUNDS_MAX: usize = 8;
/// Notes are taken down again when the calls since are this part of what is known, where a program was linked, …
const GROWN_LINKED: u64 = 16;
/// … and where a library ended: all of it together stays in proportion to the number of units.
const GROWN: u64 = 4;
/// And in any case after so many seconds.
const PAUSE_S: u64 = 20;
/// Calls that nobody has come back to for so long go, seconds.
const CALLS_AGE_MAX_S: u64 = 24 * 60 * 60;
/// The same for what is kept of a command.
const BUILD_AGE_MAX_S: u64 = 30 * 24 * 60 * 60;

/// What cargo writes when a unit starts.
const INVOKED: &str = "invoked.timestamp";
const FINGERPRINTS: &str = ".fingerprint";
/// What cargo keeps of the run of a build script.
const RUN: &[&str] = &["output", "root-output", "stderr"];
/// How long a call waits for another that writes the list of units.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// As the specification of cache folders wants it.
const TAG: &[u8] =
    b"Signature: 8a477f597d28d172789f06886806bc55\n# A target folder of cargo's, put back by spolia.\n";

/// Writes down a call of cargo's that was a hit or is kept now.
pub(super) fn called(room: &Room, call: &Call<'_>, options: &Options, task: &Task, kept: &Kept) {
    if !options.ahead || task.is_question() || call.env.some("CARGO").is_none() {
        return;
    }
    let Some(base) = cargo::parents_variables() else { return };
    let (set, unset) = units::difference(&base, call.env);
    let raw = |text: &std::ffi::OsStr| Raw(text.as_bytes().to_vec());
    let made = kept.outputs.iter().filter_map(|output| {
        let (path, how) = task.place(&output.name)?;
        let text = match how {
            super::restore::How::Text => Some(*Digest::blake3(&std::fs::read(&path).ok()?).as_bytes()),
            _ => None,
        };
        Some(Made { name: output.name.clone(), kept: output.digest, path: raw(path.as_os_str()), text })
    });
    let called = Called {
        program: raw(call.program.as_os_str()),
        name: raw(&call.name),
        args: call.args.iter().map(|arg| raw(arg)).collect(),
        set,
        unset,
        cwd: raw(call.cwd.as_os_str()),
        script: task.launched.clone(),
        outputs: made.collect(),
    };
    if let (Some(path), Some(frame)) = (calls_path(room), called.frame()) {
        append(&path, &frame);
    }
}

fn calls_path(room: &Room) -> Option<PathBuf> {
    Some(room.beside("builds").join(format!("calls-{}", cargo::parent_id()?.as_raw_nonzero())))
}

/// One `write(2)`, so that calls at the same time do not mix. What cannot be written is called for again.
fn append(path: &Path, frames: &[u8]) {
    let _lost = journal::create(path).and_then(|mut file| file.write_all(frames));
}

/// Takes down what cargo has noted of the units so far, where a unit of the workspace has ended.
pub(super) fn take_down(room: &Room, call: &Call<'_>, options: &Options, task: &Task) {
    let is_one = options.ahead
        && task.launched.is_none()
        && !task.is_question()
        && call.env.some("CARGO_PRIMARY_PACKAGE").is_some()
        && task.script.is_none();
    if !is_one {
        return;
    }
    let Some(cargo) = Cargo::parent() else { return };
    let path = build_path(room, &cargo);
    let Some(calls) = calls_path(room) else { return };
    let part = if task.is_linked() { GROWN_LINKED } else { GROWN };
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let is_young = age_s(&path, options).is_some_and(|age| age < PAUSE_S);
    if is_young && bytes(&calls).saturating_mul(part) < bytes(&path)
        || task.folders.get(b'T') != Some(cargo.target.as_path())
    {
        return;
    }
    // Units that end at the same time would each write a list without the other's. Who does not get it in time leaves its call
    // to the next.
    let alone = room.store.lock(&cargo.key.0, &mut |waiting| waiting.waited < WAIT_MAX);
    let Ok(Some(_alone)) = alone else { return };
    // What is appended from now on stands in a file of its own.
    let taken = calls.with_extension("taken");
    if std::fs::rename(&calls, &taken).is_err() {
        return;
    }
    let Ok(raw) = std::fs::read(&taken) else { return };
    let folders = cargo.folders(options, &call.program);
    let mut all = read(&path);
    let mut later = Vec::new();
    for called in Called::parse(&raw) {
        match seen(room, &cargo, &folders, &called) {
            Seen::Unit(unit) => {
                all.retain(|known| !known.is_same(&unit));
                all.push(*unit);
            }
            Seen::NotYet => later.extend(called.frame().unwrap_or_default()),
            Seen::Never => {}
        }
    }
    let has_notes = |unit: &Unit| notes_folder(&cargo.target, unit).is_dir();
    all.retain(has_notes);
    all.truncate(UNITS_MAX);
    if !later.is_empty() {
        append(&calls, &later);
    }
    if let Some(file) = units::file(&all) {
        room.write_memo(&path, &file);
    }
    let _stays = std::fs::remove_file(&taken);
    tidy(room, options);
}

fn build_path(room: &Room, cargo: &Cargo) -> PathBuf {
    room.beside("builds").join(cargo.key.0.to_hex())
}

fn read(path: &Path) -> Vec<Unit> {
    let is_short = std::fs::metadata(path).is_ok_and(|found| found.len() <= BUILD_BYTES_MAX);
    is_short.then(|| units::parse(&std::fs::read(path).ok()?)).flatten().unwrap_or_default()
}

fn age_s(path: &Path, options: &Options) -> Option<u64> {
    let written = rustix::fs::stat(path).ok()?.st_mtime;
    Some((options.now_us / 1_000_000).abs_diff(u64::try_from(written).unwrap_or(0)))
}

/// Removes what nobody has come back to.
fn tidy(room: &Room, options: &Options) {
    for entry in std::fs::read_dir(room.beside("builds")).into_iter().flatten().flatten() {
        let is_calls = entry.file_name().as_bytes().starts_with(b"calls-");
        let most_s = if is_calls { CALLS_AGE_MAX_S } else { BUILD_AGE_MAX_S };
        if age_s(&entry.path(), options).is_some_and(|age| age > most_s) {
            let _stays = std::fs::remove_file(entry.path());
        }
    }
}

fn notes_folder(target: &Path, unit: &Unit) -> PathBuf {
    target.join(os(&unit.profile.0)).join(FINGERPRINTS).join(os(&unit.folder.0))
}

enum Seen {
    Unit(Box<Unit>),
    /// cargo has not noted yet that it ended.
    NotYet,
    /// Something else has been there since, or it is none of this target folder.
    Never,
}

fn seen(room: &Room, cargo: &Cargo, folders: &Folders, called: &Called) -> Seen {
    let Some((profile, folder)) = place_of(&cargo.target, called) else { return Seen::Never };
    let base = cargo.target.join(os(&profile));
    let Some(files) = notes(&base, &folder, called.script.is_some()) else { return Seen::NotYet };
    if !called.outputs.iter().all(|made| is_as_made(room, made)) {
        return Seen::Never;
    }
    Seen::Unit(Box::new(called.unit(folders, (&profile, &folder), files)))
}

/// The profile's folder in the target folder, and the unit's name among the fingerprints.
fn place_of(target: &Path, called: &Called) -> Option<(Vec<u8>, Vec<u8>)> {
    let inside = match &called.script {
        Some(_) => Path::new(os(called.variable("OUT_DIR")?)),
        None => Path::new(os(&called.outputs.first()?.path.0)),
    };
    let inside = inside.strip_prefix(target).ok()?;
    let is_part = |part: &&Path| {
        part.file_name().is_some_and(|name| ["deps", "build", "examples"].iter().any(|known| name == *known))
    };
    let part = inside.ancestors().skip(1).filter(is_part).last()?;
    let profile = part.parent()?.as_os_str().as_bytes().to_vec();
    let folder = match &called.script {
        Some(_) => inside.parent()?.file_name()?.as_bytes().to_vec(),
        None => [called.variable("CARGO_PKG_NAME")?, b"-", called.extra_filename()?].concat(),
    };
    Some((profile, folder))
}

/// What cargo wrote of a unit that has ended, its hash last; `None` where it has not.
fn notes(base: &Path, folder: &[u8], is_run: bool) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    let mut hash = None;
    let within = Path::new(FINGERPRINTS).join(os(folder));
    for entry in std::fs::read_dir(base.join(&within)).ok()? {
        let name = entry.ok()?.file_name();
        if name == INVOKED {
            continue;
        }
        let path = within.join(&name);
        let content = note(&base.join(&path))?;
        let raw = path.as_os_str().as_bytes().to_vec();
        if is_hash(&content) && !name.as_bytes().starts_with(b"dep-") {
            if hash.replace((raw, content, false)).is_some() {
                return None;
            }
            continue;
        }
        found.push((raw, content, !name.as_bytes().starts_with(b"dep-")));
    }
    if is_run {
        for name in RUN {
            let path = Path::new("build").join(os(folder)).join(name);
            found.push((path.as_os_str().as_bytes().to_vec(), note(&base.join(&path))?, true));
        }
    }
    found.push(hash?);
    Some(found)
}

fn note(path: &Path) -> Option<Vec<u8>> {
    let found = std::fs::symlink_metadata(path).ok()?;
    (found.is_file() && found.len() <= NOTE_BYTES_MAX).then(|| std::fs::read(path).ok()).flatten()
}

/// cargo's hash of a unit that is up to date; it is empty while the unit is not.
fn is_hash(content: &[u8]) -> bool {
    content.len() == 16 && content.iter().all(u8::is_ascii_hexdigit)
}

/// Whether an output is still the one of that call: then what cargo has noted is of it as well.
fn is_as_made(room: &Room, made: &Made) -> bool {
    let path = Path::new(os(&made.path.0));
    if made.name.ends_with('/') {
        return path.is_dir();
    }
    if let Some(text) = made.text {
        return std::fs::read(path).is_ok_and(|now| *Digest::blake3(&now).as_bytes() == text);
    }
    let digest = Digest::new(DigestFunction::Blake3, made.kept);
    let real = super::script::real(path);
    let path = if real.exists() { &real } else { path };
    let key = |path: &Path| rustix::fs::lstat(path).ok().map(|stat| StatKey::of(&stat));
    let Some(now) = key(path) else { return false };
    // The store's own file under another name; what is in it is looked at whenever it is used.
    key(&room.store.plain_path(digest)).is_some_and(|blob| (blob.dev, blob.ino) == (now.dev, now.ino))
        || room.memo.digest(path).is_ok_and(|(_, found)| found == digest)
}

/// What was put back before cargo asked for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PutBack {
    /// How many units.
    pub(super) count: usize,
    /// Our own CPU that was counted for them, µs.
    pub(super) own_cpu_us: u64,
}

/// Puts back what the cargo that asks will want, where its target folder is empty.
pub(super) fn put_back(room: &mut Room, call: &Call<'_>, options: &Options) -> PutBack {
    let nothing = PutBack::default();
    let asks_first = call.args.len() == 1 && call.args[0] == "-vV";
    if !asks_first || !options.ahead || options.force || options.verify || !room.store.is_writable() {
        return nothing;
    }
    let Some(cargo) = Cargo::parent() else { return nothing };
    let units = read(&build_path(room, &cargo));
    if units.is_empty() || cargo.may_be_moved(options) {
        return nothing;
    }
    let Some(_locks) = make_way(&cargo.target, &units) else { return nothing };
    let folders = cargo.folders(options, &call.program);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let at_ns = now.tv_sec.saturating_mul(1_000_000_000) + now.tv_nsec - BEFORE_NS;
    let at = Timespec { tv_sec: at_ns / 1_000_000_000, tv_nsec: at_ns % 1_000_000_000 };
    let stand = Stand { cargo: &cargo, folders: &folders, options, at, own_cpu_us: Cell::new(0) };
    let mut waiting: Vec<&Unit> = units.iter().filter(|unit| unit.is_right_in(&folders)).collect();
    let mut count = 0;
    for _ in 0..ROUNDS_MAX {
        let before = waiting.len();
        waiting.retain(|unit| stand.put(room, unit).is_none());
        count += before - waiting.len();
        if waiting.len() == before || waiting.is_empty() {
            break;
        }
    }
    let _elsewhere = std::env::set_current_dir(&call.cwd);
    PutBack { count, own_cpu_us: stand.own_cpu_us.get() }
}

/// Makes the folders and takes cargo's own locks on them; `None` where there is something already, or somebody else builds there.
fn make_way(target: &Path, units: &[Unit]) -> Option<Vec<File>> {
    let mut profiles: Vec<&Raw> = units.iter().map(|unit| &unit.profile).collect();
    profiles.sort_unstable();
    profiles.dedup();
    let profiles: Vec<PathBuf> = profiles.into_iter().map(|profile| target.join(os(&profile.0))).collect();
    let is_empty =
        |folder: &Path| std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if !profiles.iter().all(|profile| is_empty(&profile.join(FINGERPRINTS))) {
        return None;
    }
    if !target.exists() {
        std::fs::create_dir_all(target).ok()?;
        std::fs::write(target.join("CACHEDIR.TAG"), TAG).ok()?;
    }
    let mut locks = Vec::new();
    for profile in profiles {
        for folder in [FINGERPRINTS, "build", "deps"] {
            std::fs::create_dir_all(profile.join(folder)).ok()?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = rustix::fs::open(profile.join(".cargo-lock"), flags, Mode::from_raw_mode(0o666)).ok()?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        if !is_empty(&profile.join(FINGERPRINTS)) {
            return None;
        }
        locks.push(File::from(lock));
    }
    Some(locks)
}

/// Where units are put back, and with which time.
struct Stand<'s> {
    cargo: &'s Cargo,
    folders: &'s Folders,
    options: &'s Options,
    at: Timespec,
    /// What was counted for units so far, µs.
    own_cpu_us: Cell<u64>,
}

impl Stand<'_> {
    /// `None` where it is no hit, or not yet.
    fn put(&self, room: &mut Room, unit: &Unit) -> Option<()> {
        let began_us = own_cpu_us();
        let show = |raw: &Raw| Some(os(&self.folders.show(&raw.0)?).to_owned());
        let env = unit.env(&self.cargo.env, self.folders)?;
        let call = Call {
            program: show(&unit.program)?.into(),
            name: show(&unit.name)?,
            args: unit.args.iter().map(show).collect::<Option<_>>()?,
            env: &env,
            cwd: show(&unit.cwd)?.into(),
        };
        std::env::set_current_dir(&call.cwd).ok()?;
        room.site.cwd.clone_from(&call.cwd);
        let own = || own_cpu_us().zip(began_us).map(|(now, began)| now - began);
        let made = walk::put_ahead(&call, self.options, room, unit.script.as_deref(), &unit.outputs, &own)?;
        self.own_cpu_us.update(|told| told + made.own_cpu_us.unwrap_or(0));
        for (path, digest) in made.places {
            self.stamp(&path)?;
            if let (Some(digest), Ok(stat)) = (digest, rustix::fs::lstat(&path)) {
                room.memo.vouch(&StatKey::of(&stat), &digest);
            }
        }
        let profile = self.cargo.target.join(os(&unit.profile.0));
        let notes = profile.join(FINGERPRINTS).join(os(&unit.folder.0));
        std::fs::create_dir_all(&notes).ok()?;
        self.write(&notes.join(INVOKED), b"")?;
        if unit.script.is_some() {
            let run = profile.join("build").join(os(&unit.folder.0));
            std::fs::create_dir_all(&run).ok()?;
            self.write(&run.join(INVOKED), b"")?;
        }
        // The hash comes last: without it cargo takes nothing for up to date.
        for file in &unit.files {
            let shown =
                if file.is_text { self.folders.show(&file.content.0)? } else { file.content.0.clone() };
            self.write(&profile.join(os(&file.path.0)), &shown)?;
        }
        Some(())
    }

    fn write(&self, path: &Path, content: &[u8]) -> Option<()> {
        crate::replay::write(path, content, false).ok()?;
        self.stamp(path)
    }

    fn stamp(&self, path: &Path) -> Option<()> {
        let times = Timestamps { last_access: self.at, last_modification: self.at };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}
