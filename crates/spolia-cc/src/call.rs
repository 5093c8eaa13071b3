//! The whole walk of one compiler call, the same for every compiler: `Call → Outcome`, with the outputs in place.
//!
//! | step | where it stops |
//! |---|---|
//! | [`Compiler::plan`] reads the arguments | not cacheable: the compiler runs |
//! | the store is opened | it cannot be: the compiler runs |
//! | [`Invocation::write_key`] gives the fast key | what it needs cannot be read: the compiler runs |
//! | the manifest's sets are looked at | one holds: its outputs are put back, done |
//! | the key is claimed | somebody else compiled it meanwhile: looked at again |
//! | the compiler runs | it failed: its output is shown as it is, nothing is kept |
//! | [`Invocation::seen`] says what was read | something changed meanwhile: nothing is kept |
//! | outputs are kept, then the manifest | the store is full or read-only: nothing is kept |

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use spolia_core::event::Tier;
use spolia_core::key::{ExplainWriter, HashWriter, KeyWriter, Value};
use spolia_core::result::{Log, Stream};
use spolia_core::{ActionKey, Cost};
use spolia_engine::compile::Program;
use spolia_engine::observe;
use spolia_engine::process::Ended;
use spolia_store::Entry;

use crate::direct::{Manifest, Seen};
use crate::outcome::{Miss, NotCacheable, Outcome, PassThrough};
use crate::replay::{self, Place, ReplayError, Share};
use crate::sets::{Kept, KeptOutput, Raw};
use crate::tally::{self, Record};
use crate::trail::Trail;
use crate::{Env, Room, Site, Story, chain, claim};

/// The version of what keys are made of: a change of meaning makes another.
const KEY_VERSION: u64 = 1;
/// A store of this size is looked at by a collection after a miss, bytes: what `cache gc` leaves by itself.
const STORE_BYTES_MAX: u64 = 20_000_000_000;
/// Seconds between two collections that misses start.
const COLLECT_PAUSE_S: u64 = 600;
/// What stands for the root's path in output that is kept.
const ROOT_MARK: &[u8] = b"\0spolia-root\0";

/// One compiler call.
#[derive(Clone, Debug)]
pub struct Call<'c> {
    /// The compiler itself, found.
    pub program: PathBuf,
    /// What it was called.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// All variables.
    pub env: &'c Env,
    /// The current folder, as the shell spells it.
    pub cwd: PathBuf,
}

/// What is asked of the cache, whatever the call.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The store; `None` where there is no place for one.
    pub store: Option<PathBuf>,
    /// The project's root, where the user names it.
    pub root: Option<PathBuf>,
    /// The user's own folder.
    pub home: Option<PathBuf>,
    /// Whether what the compiler says is read by a person on a terminal.
    pub colour: bool,
    /// Whether embedded paths are made independent of the checkout.
    pub remap: bool,
    /// Whether rustc's incremental data is kept and given back.
    pub incremental: bool,
    /// Whether a whole target folder is put back before cargo looks at it.
    pub ahead: bool,
    /// Whether a hit is compiled again and compared.
    pub verify: bool,
    /// Compile even where the result is known.
    pub force: bool,
    /// The file in which what every call does is written down, step by step.
    pub log: Option<PathBuf>,
    /// Whether hard links may stand in for copies, also of what tools rewrite.
    pub hard_links: bool,
    /// This program, which a miss starts as `cache gc` when the store has become too big; never, where `None`.
    pub collector: Option<PathBuf>,
    /// Names the session the call belongs to.
    pub session: String,
    /// The clock when the call began, µs since 1970.
    pub now_us: u64,
}

/// What to start for a compile.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Arguments.
    pub args: Vec<OsString>,
    /// Variables to set or take away.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// Files and folders of ours that go when the call ends.
    pub scratch: Vec<PathBuf>,
    /// Whether and how what it looks at is observed.
    pub watch: Watch,
}

/// How a compile is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// Not.
    #[default]
    No,
    /// Its files.
    Files,
    /// Its files, and its variables by this library ([`observe::install`]).
    Variables(PathBuf),
}

/// A compile that ran and succeeded.
pub struct Ran {
    /// How it ended, what it printed, what it cost.
    pub ended: Ended,
    /// What it looked at, where that was asked for; an error says why that is not known.
    pub observed: Option<std::io::Result<observe::Seen>>,
    /// The files' clock before it began, ns since 1970.
    pub began_ns: i64,
}

/// Reads the arguments of one kind of compiler.
pub trait Compiler {
    /// What the call asks for.
    ///
    /// # Errors
    /// The outcome of a call that the cache does not take; the compiler runs as it was called then.
    fn plan(&self, call: &Call<'_>, options: &Options) -> Result<Box<dyn Invocation>, Outcome>;
}

/// A program that we do not know: it runs as if we were not there, and is counted.
pub struct Unknown;

impl Compiler for Unknown {
    fn plan(&self, _: &Call<'_>, _: &Options) -> Result<Box<dyn Invocation>, Outcome> {
        Err(Outcome::PassThrough(PassThrough::UnknownCompiler))
    }
}

/// One call that the cache takes. Methods are called in the order in which they stand here.
pub trait Invocation {
    /// For statistics.
    fn language(&self) -> &'static str;

    /// The main source, as given.
    fn source(&self) -> &Path;

    /// Hands over all that the result depends on and that is known before the compile: arguments, compiler,
    /// source, variables.
    ///
    /// # Errors
    /// Not cacheable after all, or something could not be read.
    fn write_key(&mut self, room: &Room, call: &Call<'_>, writer: &mut dyn KeyWriter) -> Result<(), Outcome>;

    /// Where each output belongs.
    fn places(&self) -> Vec<Place>;

    /// What to run on a miss.
    fn launch(&mut self, room: &Room, call: &Call<'_>) -> Launch;

    /// What the compile depended on.
    ///
    /// # Errors
    /// Why the result cannot be kept, in a sentence, or that the call is not cacheable after all.
    fn seen(&mut self, room: &Room, call: &Call<'_>, ran: &Ran) -> Result<Seen, NotKept>;

    /// A [`Share::Text`] output in a form that any call may read.
    fn pack(&self, room: &Room, name: &str, text: Vec<u8>) -> Vec<u8>;

    /// What [`Invocation::pack`] made, as this call wants it.
    fn unpack(&self, room: &Room, name: &str, packed: Vec<u8>) -> Vec<u8>;
}

/// Why a compile that succeeded is not kept.
#[derive(Clone, Debug, PartialEq)]
pub enum NotKept {
    /// This time; the next may be.
    Now(String),
    /// Such a call never is.
    Never(NotCacheable, Option<String>),
}

/// How a call ended.
#[derive(Debug)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// The compiler was ended by this signal.
    Signal(i32),
    /// The compiler could not be started.
    NotStarted(std::io::Error),
}

/// Carries out one call. What the compiler prints, now or when it ran, goes to `print`.
pub fn run(
    compiler: &dyn Compiler,
    call: &Call<'_>,
    options: &Options,
    print: &mut dyn FnMut(Stream, &[u8]),
) -> End {
    let story = Story::of(call, options);
    let mut walk = Walk {
        call,
        options,
        print,
        record: Record::default(),
        story,
        key: None,
        trail: None,
        expected: None,
    };
    walk.record.compiler =
        Path::new(&call.name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    walk.record.session.clone_from(&options.session);
    walk.record.folder = spolia_core::codec::escape(call.cwd.as_os_str().as_encoded_bytes());
    match compiler.plan(call, options) {
        Ok(invocation) => walk.cached(invocation),
        Err(outcome) => {
            let room = walk.room(&Site { cwd: call.cwd.clone(), root: None });
            walk.plain(room.ok().as_ref(), &outcome)
        }
    }
}

/// Ends this program and runs the compiler instead, as if we were not there; comes back only with the reason why
/// that is not possible. Under its full path: GCC looks for its parts beside the name it is called by, and that may be our link.
pub fn become_the_compiler(call: &Call<'_>) -> std::io::Error {
    let (path, env) = (&call.program, [chain::told(call.env, &call.program)]);
    Program { path, arg0: path.as_os_str(), args: &call.args, env: &env, folder: None }.become_it()
}

struct Walk<'w> {
    call: &'w Call<'w>,
    options: &'w Options,
    print: &'w mut dyn FnMut(Stream, &[u8]),
    record: Record,
    story: Story,
    key: Option<ActionKey>,
    /// What the next miss of the source will be compared with.
    trail: Option<Trail>,
    /// What a hit would have put back, where it is compiled again and compared.
    expected: Option<Kept>,
}

impl Walk<'_> {
    fn room(&self, site: &Site) -> Result<Room, Outcome> {
        let dir = self.options.store.as_ref();
        let dir = dir.ok_or_else(|| Outcome::Internal("there is no place for the store".to_owned()))?;
        let opened = Room::open(dir, site.clone()).map_err(|error| Outcome::Internal(chain(&error)))?;
        Ok(opened.telling(&self.story))
    }

    /// The compiler as if we were not there.
    fn plain(&mut self, room: Option<&Room>, outcome: &Outcome) -> End {
        self.note(room, outcome);
        End::NotStarted(become_the_compiler(self.call))
    }

    fn note(&mut self, room: Option<&Room>, outcome: &Outcome) {
        self.record.tell(outcome);
        self.record.key = self.key.map(|key| key.0.to_hex());
        self.record.at_us = self.options.now_us;
        self.record.own_cpu_us = own_cpu_us();
        if let Some(room) = room {
            tally::append(&room.store, &self.record);
        }
        self.story.end(&self.record);
    }

    fn cached(&mut self, mut invocation: Box<dyn Invocation>) -> End {
        let (call, options) = (self.call, self.options);
        self.record.language = Some(invocation.language().to_owned());
        self.record.source =
            Some(spolia_core::codec::escape(invocation.source().as_os_str().as_encoded_bytes()));
        let site = Site::find(
            call.cwd.clone(),
            invocation.source(),
            options.root.as_deref(),
            options.home.as_deref(),
        );
        let room = match self.room(&site) {
            Ok(room) => room,
            Err(outcome) => return self.plain(None, &outcome),
        };
        self.story.tell("taken", || {
            let places = invocation.places();
            let outputs: Vec<_> =
                places.iter().map(|p| format!("{} `{}`", p.name, p.path.display())).collect();
            let source = invocation.source().display();
            format!("as {} of `{source}`, which gives {}", invocation.language(), outputs.join(", "))
        });
        self.story.tell("root", || match &room.site.root {
            Some(root) => format!("{}: paths below it are written `~`", root.display()),
            None => "none: no path is shared with another checkout".to_owned(),
        });
        let mut writer = HashWriter::new();
        if let Err(outcome) = write_whole_key(&room, call, invocation.as_mut(), &mut writer) {
            return self.plain(Some(&room), &outcome);
        }
        let key = writer.finish();
        self.key = Some(key);
        self.tell_key(&room, invocation.as_mut(), key);
        let mut manifest = room.kept(key, Manifest::parse);
        let mut miss = match self.hit(&room, invocation.as_ref(), manifest.as_ref()) {
            Ok(code) => return code,
            Err(miss) => miss,
        };
        if !room.store.is_writable() {
            let outcome =
                Outcome::Miss { reason: miss, not_stored: Some("the store is read-only".to_owned()) };
            return self.plain(Some(&room), &outcome);
        }
        let (lock, waited) = claim::take(&room, &key);
        self.record.waited_in_vain = waited && lock.is_none();
        if waited {
            manifest = room.kept(key, Manifest::parse);
            match self.hit(&room, invocation.as_ref(), manifest.as_ref()) {
                Ok(code) => return code,
                Err(again) => miss = again,
            }
        }
        let trail = Trail::of(&room, call, invocation.as_mut());
        if miss == Miss::NeverSeen
            && let Some(changed) = trail.as_ref().and_then(|trail| trail.changed(&room))
        {
            miss = Miss::KeyChanged(changed);
        }
        self.trail = trail;
        let end = self.compile(&room, invocation.as_mut(), key, miss);
        drop(lock);
        end
    }

    /// What the key is made of.
    fn tell_key(&self, room: &Room, invocation: &mut dyn Invocation, key: ActionKey) {
        if !self.story.is_told() {
            return;
        }
        let mut writer = ExplainWriter::default();
        if write_whole_key(room, self.call, invocation, &mut writer).is_ok() {
            for line in writer.into_explanation().lines {
                let name = [line.group, line.name].into_iter().filter(|part| !part.is_empty());
                let name = name.collect::<Vec<_>>().join(" ");
                self.story.tell("keyed", || format!("{name}: {}", line.value));
            }
        }
        self.story.tell("key", || key.to_string());
    }

    fn hit(
        &mut self,
        room: &Room,
        invocation: &dyn Invocation,
        manifest: Option<&Manifest>,
    ) -> Result<End, Miss> {
        if self.options.force {
            return Err(Miss::Forced);
        }
        let manifest = manifest.ok_or_else(|| {
            self.story.tell("set", || "nothing is kept at this key".to_owned());
            Miss::NeverSeen
        })?;
        let kept = manifest.find(room, self.call.env)?;
        if self.options.verify && room.store.is_writable() {
            self.expected = Some(kept.clone());
            return Err(Miss::Forced);
        }
        let mut begun = Vec::new();
        if let Err(error) = self.replay(room, invocation, kept, &mut begun) {
            // What the compiler does not come to write must not stay: it would look newer than its source.
            for path in &begun {
                let _not_there = std::fs::remove_file(path);
            }
            return Err(Miss::OutputGone(match error {
                ReplayError::Gone { name } => format!("output `{name}`"),
                error => chain(&error),
            }));
        }
        self.record.bytes = Some(kept.outputs.iter().map(|output| output.size).sum());
        self.note(Some(room), &Outcome::Hit { tier: Tier::Local, saved: kept.cost });
        Ok(End::Code(0))
    }

    /// `begun`: the files that were perhaps written, also where it fails.
    fn replay(
        &mut self,
        room: &Room,
        invocation: &dyn Invocation,
        kept: &Kept,
        begun: &mut Vec<PathBuf>,
    ) -> Result<(), ReplayError> {
        let places = invocation.places();
        for output in &kept.outputs {
            let gone = || ReplayError::Gone { name: output.name.clone() };
            let place = places.iter().find(|place| place.name == output.name).ok_or_else(gone)?;
            begun.push(place.path.clone());
            if place.share == Share::Text {
                let text = invocation.unpack(room, &place.name, replay::content(room, output)?);
                replay::write(&place.path, &text, output.executable)?;
            } else {
                replay::put(room, output, place)?;
            }
            self.story.put_back(output, &place.path);
        }
        let root =
            room.site.root.as_ref().map(|root| root.as_os_str().as_encoded_bytes()).unwrap_or_default();
        for (stream, bytes) in Log::chunks(&kept.log.0) {
            match crate::site::replace(bytes, ROOT_MARK, root) {
                Some(here) => (self.print)(stream, &here),
                None => (self.print)(stream, bytes),
            }
        }
        Ok(())
    }

    fn compile(&mut self, room: &Room, invocation: &mut dyn Invocation, key: ActionKey, miss: Miss) -> End {
        let mut launch = invocation.launch(room, self.call);
        launch.env.push(chain::told(self.call.env, &self.call.program));
        self.story.tell("miss", || miss.to_string());
        self.story.tell("runs", || crate::story::words(&launch.args));
        let began_ns = files_clock_ns();
        let print = &mut *self.print;
        let program = Program {
            path: &self.call.program,
            arg0: self.call.program.as_os_str(),
            args: &launch.args,
            env: &launch.env,
            folder: None,
        };
        let preload = self.call.env.get("LD_PRELOAD");
        let observed = match &launch.watch {
            Watch::No => program.capture(print).map(|ended| (ended, None)),
            Watch::Files => program.observe(None, preload, print).map(|seen| (seen.ended, Some(seen.seen))),
            Watch::Variables(library) => {
                program.observe(Some(library), preload, print).map(|seen| (seen.ended, Some(seen.seen)))
            }
        };
        let ran = match observed {
            Ok((ended, observed)) => Ran { ended, observed, began_ns },
            Err(error) => {
                let outcome = Outcome::Internal(format!("the compiler could not be watched: {error}"));
                return self.plain(Some(room), &outcome);
            }
        };
        // Before it is asked what the compile left behind.
        for file in &launch.scratch {
            remove(file);
        }
        self.story.ended(&ran.ended.end, &ran.ended.cost);
        self.record.compile_wall_us = ran.ended.cost.wall_us;
        self.record.compile_cpu_us = cpu_us(&ran.ended.cost);
        let (end, outcome) = match ran.ended.end {
            spolia_engine::End::Exited(0) => (End::Code(0), self.keep(room, invocation, key, miss, &ran)),
            spolia_engine::End::Exited(code) => (End::Code(code), failed()),
            spolia_engine::End::Signalled(signal) => (End::Signal(signal), failed()),
            spolia_engine::End::TimedOut | spolia_engine::End::Cancelled => (End::Code(1), failed()),
        };
        self.note(Some(room), &outcome);
        end
    }

    fn keep(
        &mut self,
        room: &Room,
        invocation: &mut dyn Invocation,
        key: ActionKey,
        reason: Miss,
        ran: &Ran,
    ) -> Outcome {
        let not_stored = |why: String| Outcome::Miss { reason: reason.clone(), not_stored: Some(why) };
        if ran.ended.log_cut {
            return not_stored("it printed more than is kept".to_owned());
        }
        let mut seen = match invocation.seen(room, self.call, ran) {
            Ok(seen) => seen,
            Err(NotKept::Now(why)) => return not_stored(why),
            Err(NotKept::Never(reason, argument)) => return Outcome::NotCacheable { reason, argument },
        };
        let outputs = match self.keep_outputs(room, invocation, &mut seen) {
            Ok(outputs) => outputs,
            Err(why) => return not_stored(why),
        };
        self.record.bytes = Some(outputs.iter().map(|output| output.size).sum());
        self.compare(room, invocation, &outputs);
        let Some((log, unsure)) = pack_log(room, &ran.ended.log) else {
            return not_stored("what it printed holds the mark that stands for a folder".to_owned());
        };
        seen.bound |= unsure;
        let kept = Kept { outputs, log: Raw(log), cost: ran.ended.cost };
        for fact in &seen.facts {
            self.story.tell("input", || fact.to_string());
        }
        self.story.kept(&kept);
        // Read again: another call may have added a set since.
        let mut manifest = room.kept(key, Manifest::parse).unwrap_or_default();
        manifest.add(seen, kept, room);
        manifest.keyed = self.trail.as_ref().map(|trail| trail.keyed.clone());
        match room.store.put_bytes(Entry::result(key), &manifest.payload()) {
            Ok(_) => {}
            Err(error) => return not_stored(chain(&error)),
        }
        if let Some(trail) = &self.trail {
            trail.leads_to(room, key);
        }
        // The count is refreshed by the next collection if this is lost.
        let _uncounted = spolia_store::size::add(&room.store, room.store.added_bytes());
        collect_if_big(self.options, room);
        Outcome::Miss { reason, not_stored: None }
    }

    /// Says where a hit that was compiled again would have given something else.
    fn compare(&mut self, room: &Room, invocation: &mut dyn Invocation, found: &[KeptOutput]) {
        let Some(expected) = self.expected.take() else { return };
        let differ = differing(&expected, found);
        // A compiler that differs from itself says nothing of the cache.
        let again = if differ.is_empty() { Vec::new() } else { self.again(room, invocation) };
        let varies = |name: &str| {
            let first = found.iter().find(|output| output.name == name);
            let second = again.iter().find(|(known, _)| known == name);
            first.zip(second).is_some_and(|(first, (_, second))| first.digest != *second)
        };
        let (varying, wrong): (Vec<&str>, Vec<&str>) = differ.into_iter().partition(|name| varies(name));
        let source = self.record.source.clone().unwrap_or_default();
        say_differing(&wrong, &source, self.print);
        for name in &varying {
            let line =
                format!("spolia: verify: output `{name}` of `{source}`: the compiler's own output varies\n");
            (self.print)(Stream::Stderr, line.as_bytes());
        }
        self.record.varies = wrong.is_empty() && !varying.is_empty();
        self.record.verified = (!self.record.varies).then_some(wrong.is_empty());
    }

    /// The digests of what the compiler gives when it runs once more; none where it does not. What stands in the outputs' places stays.
    fn again(&self, room: &Room, invocation: &mut dyn Invocation) -> Vec<(String, [u8; 32])> {
        let places = invocation.places();
        let mut launch = invocation.launch(room, self.call);
        launch.env.push(chain::told(self.call.env, &self.call.program));
        let aside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".spolia-verify-{}", std::process::id()));
            PathBuf::from(name)
        };
        // Not over them: they may be links to what the store holds.
        let moved: Vec<&Place> =
            places.iter().filter(|place| std::fs::rename(&place.path, aside(&place.path)).is_ok()).collect();
        let (path, arg0) = (&self.call.program, self.call.program.as_os_str());
        let program = Program { path, arg0, args: &launch.args, env: &launch.env, folder: None };
        let ended = program.capture(&mut |_, _| {});
        let ran = ended.is_ok_and(|ended| matches!(ended.end, spolia_engine::End::Exited(0)));
        let digest = |place: &Place| {
            let content = std::fs::read(&place.path).ok().filter(|_| ran)?;
            let content = match place.share {
                Share::Text => invocation.pack(room, &place.name, content),
                Share::Copy | Share::HardLink => content,
            };
            Some((place.name.clone(), *spolia_core::Digest::blake3(&content).as_bytes()))
        };
        let digests = places.iter().filter_map(digest).collect();
        for place in moved {
            // What cannot be moved back was the same compile's.
            let _stays = std::fs::rename(aside(&place.path), &place.path);
        }
        for file in &launch.scratch {
            remove(file);
        }
        digests
    }

    fn keep_outputs(
        &self,
        room: &Room,
        invocation: &dyn Invocation,
        seen: &mut Seen,
    ) -> Result<Vec<KeptOutput>, String> {
        let mut outputs = Vec::new();
        for place in invocation.places() {
            let missing = || format!("the compiler did not write `{}`", place.path.display());
            if place.share == Share::Text {
                match std::fs::read(&place.path) {
                    Ok(text) if text.contains(&0) => {
                        return Err(format!("`{}` holds a zero byte", place.path.display()));
                    }
                    Ok(text) => {
                        let packed = invocation.pack(room, &place.name, text);
                        let kept = replay::keep_bytes(room, &place.name, &packed, false);
                        outputs.push(kept.map_err(|error| chain(&error))?);
                    }
                    Err(_) if place.optional => {}
                    Err(_) => return Err(missing()),
                }
                continue;
            }
            match replay::keep_file(room, &place.name, &place.path, place.share)
                .map_err(|error| chain(&error))?
            {
                Some(kept) => outputs.push(kept),
                None if place.optional => {}
                None => return Err(missing()),
            }
        }
        seen.bound |= embeds_folder(room, &invocation.places());
        Ok(outputs)
    }
}

/// All that is in a fast key, in order.
pub(crate) fn write_whole_key(
    room: &Room,
    call: &Call<'_>,
    invocation: &mut dyn Invocation,
    writer: &mut dyn KeyWriter,
) -> Result<(), Outcome> {
    writer.field("cc", Value::Number(KEY_VERSION));
    writer.field("folder", Value::Bytes(&room.site.written_cwd()));
    invocation.write_key(room, call, writer)
}

/// Removes a file or a folder of ours; most were never made.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() == std::io::ErrorKind::IsADirectory
    {
        // What stays is swept by a collection.
        let _stays = std::fs::remove_dir_all(path);
    }
}

fn failed() -> Outcome {
    Outcome::NotCacheable { reason: NotCacheable::Failed, argument: None }
}

/// Whether an output holds the path of the checkout it was made in: then it is right nowhere else.
fn embeds_folder(room: &Room, places: &[Place]) -> bool {
    let Site { cwd, root } = &room.site;
    let root = root.as_ref().unwrap_or(cwd);
    places.iter().filter(|place| place.share != Share::Text).any(|place| {
        let content = std::fs::read(&place.path).unwrap_or_default();
        crate::site::names(&content, root) || (root != cwd && crate::site::names(&content, cwd))
    })
}

/// What was printed, as any checkout may read it, and whether it may name this one all the same; `None` where it could
/// not be read again.
fn pack_log(room: &Room, log: &Log) -> Option<(Vec<u8>, bool)> {
    let (mut packed, mut unsure) = (Log::default(), false);
    for (stream, bytes) in Log::chunks(log.as_bytes()) {
        if crate::site::find(bytes, ROOT_MARK).is_some() {
            return None;
        }
        let hidden = room.site.hide_root(bytes, ROOT_MARK);
        packed.push(stream, &hidden.text);
        unsure |= hidden.unsure;
    }
    Some((packed.as_bytes().to_vec(), unsure))
}

fn cpu_us(cost: &Cost) -> Option<u64> {
    cost.user_us.zip(cost.sys_us).map(|(user, sys)| user + sys)
}

/// CPU time of this process without its children, µs.
pub(crate) fn own_cpu_us() -> Option<u64> {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(spent.tv_sec * 1_000_000 + spent.tv_nsec / 1000).ok()
}

/// The clock that the kernel stamps files with, ns since 1970.
fn files_clock_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    spolia_engine::perform::chain(error)
}

/// Only ever after a miss: a hit does no upkeep. A store whose size is not known is counted by a collection.
pub(crate) fn collect_if_big(options: &Options, room: &Room) {
    let Some(collector) = &options.collector else { return };
    let now_s = i64::try_from(options.now_us / 1_000_000).unwrap_or(i64::MAX);
    let began = rustix::fs::stat(room.store.base().join("gc")).map(|stat| stat.st_mtime);
    let recent = began.is_ok_and(|began| now_s.abs_diff(began) < COLLECT_PAUSE_S);
    let small = spolia_store::size::read(&room.store).is_some_and(|size| size.bytes() < STORE_BYTES_MAX);
    if recent || small {
        return;
    }
    let args = ["cache", "gc", "--quiet"].map(OsString::from);
    let store = room.store.dir().as_os_str().to_owned();
    let env = [("SPOLIA_CACHE_DIR".into(), Some(store))];
    let program =
        Program { path: collector, arg0: collector.as_os_str(), args: &args, env: &env, folder: None };
    // The next miss tries again.
    let _not_started = program.leave_running();
}

/// The outputs that are not what was kept.
pub(crate) fn differing<'e>(expected: &'e Kept, found: &[KeptOutput]) -> Vec<&'e str> {
    let is_other = |output: &&KeptOutput| {
        let again = found.iter().find(|again| again.name == output.name);
        again.is_none_or(|again| again.digest != output.digest)
    };
    expected.outputs.iter().filter(is_other).map(|output| output.name.as_str()).collect()
}

/// Says which outputs are not what was kept.
pub(crate) fn say_differing(names: &[&str], source: &str, print: &mut dyn FnMut(Stream, &[u8])) {
    for name in names {
        let line = format!("spolia: verify: output `{name}` of `{source}` is not what was kept\n");
        print(Stream::Stderr, line.as_bytes());
    }
}
