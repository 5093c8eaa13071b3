//! One rustc call from its arguments to its end: `Call → End`. Knows no build scripts but where they lie.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use spolia_core::event::Tier;
use spolia_core::key::{HashWriter, KeyWriter, Value};
use spolia_core::result::{Log, Stream};
use spolia_core::{ActionKey, Cost, Digest, DigestFunction};
use spolia_engine::compile::Program;
use spolia_engine::observe::{Observed, Seen};
use spolia_store::Entry;

use super::args::{self, Args, CrateType, Refused};
use super::facts::{Fact, Here, Manifest};
use super::folders::{self, Folders, Search};
use super::incremental::{self, GivenBack, Sessions};
use super::reads::{self, Allowed};
use super::restore::{self, How};
use super::{ahead, embeds, script};
use crate::call::{End, NotKept, Options, chain, own_cpu_us};
use crate::outcome::{Miss, NotCacheable, Outcome};
use crate::replay::{self, ReplayError};
use crate::sets::{Kept, KeptOutput, Raw};
use crate::tally::{self, Record};
use crate::{Call, Env, Room, Site, Story, claim};

/// The version of what keys are made of: a change of meaning makes another.
const KEY_VERSION: u64 = 2;
/// Options that change how a diagnostic looks and nothing else: no part of the key, but a fact where one was printed.
const LOOKS: &[&str] = &["--diagnostic-width"];

/// What is run and kept, whichever kind of call it is.
pub(super) struct Task {
    /// For statistics.
    pub(super) language: &'static str,
    pub(super) folders: Folders,
    pub(super) key: ActionKey,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) options: Vec<(String, Vec<u8>)>,
    pub(super) outputs: Outputs,
    pub(super) allowed: Allowed,
    /// Its sources, to see how variables are used: for `env!`.
    pub(super) reads_sources: bool,
    /// Whether a build script's launcher takes the place of the program that is made.
    pub(super) script: Option<PathBuf>,
    /// Where rustc's incremental data is, if it is to be kept.
    pub(super) sessions: Option<Sessions>,
    /// For the run of a build script: the script's digest, in hex.
    pub(super) launched: Option<String>,
}

/// The outputs of a task.
pub(super) enum Outputs {
    /// These, each by its name.
    Files(Vec<(String, PathBuf, How)>),
    /// Whatever is in this folder afterwards.
    Tree(PathBuf),
}

/// What a call is of, for a person: a crate, `build script of CRATE`, or what is asked.
fn source_of(call: &Call<'_>, args: &Args) -> String {
    if args.question {
        // cargo asks with a crate of its own, `___`, and many flags.
        let asked = call.args.iter().filter_map(|word| word.to_str());
        return asked
            .filter(|word| word.starts_with("--print") || word.starts_with("-v"))
            .collect::<Vec<_>>()
            .join(" ");
    }
    let package = call.env.some("CARGO_PKG_NAME").map(|name| name.to_string_lossy());
    match (package, &args.crate_name, &args.source) {
        (Some(package), ..) if args.is_build_script() => format!("build script of {package}"),
        (_, Some(name), _) => name.clone(),
        (_, None, Some(source)) => source.to_string_lossy().into_owned(),
        (_, None, None) => String::new(),
    }
}

/// Carries out one rustc call. What it prints, now or when it ran, goes to `print`.
pub fn run(call: &Call<'_>, options: &Options, print: &mut dyn FnMut(Stream, &[u8])) -> End {
    let story = Story::of(call, options);
    let mut walk =
        Walk { call, options, print, record: Record::default(), story, expected: None, counted_us: 0 };
    walk.record.compiler = name_of(&call.name);
    walk.record.session.clone_from(&options.session);
    walk.record.folder = spolia_core::codec::escape(call.cwd.as_os_str().as_encoded_bytes());
    walk.record.language = Some("rust".to_owned());
    let mut room = match walk.room() {
        Ok(room) => room,
        Err(_) => return walk.become_it(),
    };
    let ahead = ahead::put_back(&mut room, call, options);
    walk.counted_us = ahead.own_cpu_us;
    if ahead.count > 0 {
        walk.story
            .tell("ahead", || format!("{} units were put back before cargo asked for them", ahead.count));
    }
    room.site.cwd.clone_from(&call.cwd);
    match plan(call, options, &room, &mut walk.record) {
        Ok(task) => walk.cached(&room, &task),
        Err(outcome) => {
            walk.note(&room, &outcome);
            // What is not taken now may have been put there when it was.
            let args = args::parse(&call.args, &|path| std::fs::read(call.cwd.join(path)).ok());
            if let Ok(outputs) = args.and_then(|args| args.outputs()) {
                outputs.iter().for_each(|(_, path)| restore::make_way(&call.cwd.join(path)));
            }
            walk.become_it()
        }
    }
}

fn name_of(name: &OsStr) -> String {
    Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn refused(Refused(word): Refused) -> Outcome {
    let argument = Some(word.to_string_lossy().into_owned());
    Outcome::NotCacheable { reason: NotCacheable::Argument, argument }
}

/// Reads the arguments and makes a task of them.
fn plan(call: &Call<'_>, options: &Options, room: &Room, record: &mut Record) -> Result<Task, Outcome> {
    // A workspace wrapper is called with the compiler that it wraps before the arguments.
    let lead = usize::from(
        call.args.first().is_some_and(|first| Path::new(first).file_name() == Some(OsStr::new("rustc"))),
    );
    let read = |path: &Path| std::fs::read(call.cwd.join(path)).ok();
    let args = args::parse(&call.args[lead..], &read).map_err(refused)?;
    for log in ["RUSTC_LOG", "RUST_LOG"] {
        // What it prints then has times and addresses in it.
        if call.env.some(log).is_some() {
            let argument = Some(log.to_owned());
            return Err(Outcome::NotCacheable { reason: NotCacheable::Variable, argument });
        }
    }
    record.source = Some(source_of(call, &args)).filter(|source| !source.is_empty());
    let folders = folders_of(call, options, &args);
    if args.question {
        record.language = Some("rust question".to_owned());
        // Without a name given, that of the crate may stand in the source.
        if args.source.as_deref() == Some(Path::new("-")) && args.crate_name.is_none() {
            return Err(Outcome::NotCacheable { reason: NotCacheable::Stdin, argument: None });
        }
    } else if args.source.as_deref() == Some(Path::new("-")) {
        return Err(Outcome::NotCacheable { reason: NotCacheable::Stdin, argument: None });
    } else if args.source.is_none() {
        return Err(Outcome::NotCacheable { reason: NotCacheable::NoSource, argument: None });
    }
    let maps = !args.question && options.remap && !args.remaps;
    let key = key(call, room, &folders, &args, lead, maps)?;
    let outputs = if args.question { Vec::new() } else { outputs_of(call, &args)? };
    let is_script = args.is_build_script();
    let script =
        outputs.iter().find(|(name, ..)| is_script && name == "bin").map(|(_, path, _)| path.clone());
    let looks = args.words.iter().zip(args.words.iter().skip(1).map(Some).chain([None]));
    let looks = looks.filter_map(|(word, next)| look_of(word, next));
    let mut launch: Vec<OsString> = call.args[..lead].to_vec();
    if maps {
        launch.extend(remaps(&folders));
    }
    launch.extend(args.words.iter().cloned());
    if options.colour && !args.styled && !args.question {
        launch.push(OsString::from("--color=always"));
    }
    let sessions = args.incremental.as_ref().filter(|_| options.incremental && !args.question);
    let sessions = sessions.map(|folder| Sessions::new(call.cwd.join(folder), key, &folders));
    Ok(Task {
        language: if args.question { "rust question" } else { "rust" },
        key,
        program: call.program.clone(),
        args: launch,
        options: looks.collect(),
        allowed: allowed(call, room, &folders, &args, &outputs),
        outputs: Outputs::Files(outputs),
        reads_sources: !args.question,
        script,
        sessions,
        launched: None,
        folders,
    })
}

fn folders_of(call: &Call<'_>, options: &Options, args: &Args) -> Folders {
    let mut folders = Folders::default();
    let home = call.env.some("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| options.home.as_ref().map(|home| home.join(".cargo")));
    let out_dir = args.out_dir.as_ref().map(|folder| call.cwd.join(folder));
    if let Some(target) = out_dir.and_then(|folder| folders::target_folder(&folder, args.target.as_deref())) {
        folders.add(b'T', &target);
    }
    if let Some(home) = home {
        folders.add(b'C', &home);
    }
    if let Some(toolchain) = toolchain_of(&call.program) {
        folders.add(b'S', &toolchain);
    }
    if !args.question {
        folders.add(b'W', &call.cwd);
    }
    folders
}

/// The toolchain's folder that a compiler lies in, unless it is the system's.
pub(super) fn toolchain_of(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?.parent()?;
    (folder.join("lib/rustlib").is_dir() && folder != Path::new("/usr")).then(|| folder.to_owned())
}

/// What stands for a folder in what is compiled: debug information and messages name it instead.
fn remaps(folders: &Folders) -> Vec<OsString> {
    let home = folders.get(b'C').map(Path::to_owned);
    let mut maps: Vec<(usize, OsString)> = Vec::new();
    for (mark, folder) in folders.iter() {
        let path = Path::new(OsStr::from_bytes(folder));
        let to = match mark {
            b'W' if home.as_ref().is_some_and(|home| path.starts_with(home)) => continue,
            b'W' => ".",
            b'T' => "/target",
            b'C' => "/cargo",
            _ => continue,
        };
        let mut word = b"--remap-path-prefix=".to_vec();
        word.extend_from_slice(folder);
        word.push(b'=');
        word.extend_from_slice(to.as_bytes());
        maps.push((folder.len(), OsString::from_vec(word)));
    }
    // The last that matches wins: the innermost folder comes last, and the caller's own after it.
    maps.sort_by_key(|(length, _)| *length);
    maps.into_iter().map(|(_, word)| word).collect()
}

fn look_of(word: &OsStr, next: Option<&OsString>) -> Option<(String, Vec<u8>)> {
    let text = word.to_str()?;
    LOOKS.iter().find_map(|look| {
        let value = match text.strip_prefix(look)? {
            "" => next?.as_bytes().to_vec(),
            rest => rest.strip_prefix('=')?.as_bytes().to_vec(),
        };
        Some(((*look).to_owned(), value))
    })
}

fn outputs_of(call: &Call<'_>, args: &Args) -> Result<Vec<(String, PathBuf, How)>, Outcome> {
    let outputs = args.outputs().map_err(refused)?;
    let how = |name: &str| match name {
        "dep-info" => How::Text,
        "rlib" | "metadata" => How::Link,
        _ => How::Copy,
    };
    Ok(outputs
        .into_iter()
        .map(|(name, path)| {
            let how = how(&name);
            (name, folders::clean(&call.cwd.join(path)), how)
        })
        .collect())
}

fn allowed(
    call: &Call<'_>,
    room: &Room,
    folders: &Folders,
    args: &Args,
    outputs: &[(String, PathBuf, How)],
) -> Allowed {
    let out_dir = args.out_dir.as_ref().map(|folder| folders::clean(&call.cwd.join(folder)));
    let mut own: Vec<PathBuf> = args.incremental.iter().map(|folder| call.cwd.join(folder)).collect();
    // rustc goes by the folder's true name.
    own.extend(own.first().and_then(|folder| folder.canonicalize().ok()));
    // Not what lies beside it in the same folder: the target folders that are kept for checkouts.
    own.push(room.store.base().to_owned());
    let mut listings: Vec<PathBuf> =
        args.searches.iter().map(|(_, folder)| folders::clean(&call.cwd.join(folder))).collect();
    listings.extend(out_dir.clone());
    Allowed {
        outputs: outputs.iter().map(|(_, path, _)| path.clone()).collect(),
        own,
        scratch: temporary(call, folders),
        listings,
        out_dir,
        hidden: Vec::new(),
        library: None,
        spolia: None,
        clock: false,
        metadata_only: !args.links() && args.kinds() != [CrateType::Staticlib],
        looks: false,
    }
}

/// Folders of temporary files, but for those that hold a checkout.
pub(super) fn temporary(call: &Call<'_>, folders: &Folders) -> Vec<PathBuf> {
    let named = ["TMPDIR", "TMP", "TEMP"].iter().filter_map(|name| call.env.some(name)).map(PathBuf::from);
    let holds = |folder: &PathBuf| {
        folders.iter().any(|(_, inside)| Path::new(OsStr::from_bytes(inside)).starts_with(folder))
    };
    named
        .filter(|folder| folder.is_absolute())
        .chain([PathBuf::from("/tmp"), PathBuf::from("/var/tmp")])
        .filter(|folder| !holds(folder))
        .collect()
}

fn key(
    call: &Call<'_>,
    room: &Room,
    folders: &Folders,
    args: &Args,
    lead: usize,
    maps: bool,
) -> Result<ActionKey, Outcome> {
    let internal = |error: std::io::Error| {
        Outcome::Internal(format!("cannot read `{}`: {error}", call.program.display()))
    };
    let mut writer = HashWriter::new();
    writer.field("rustc", Value::Number(KEY_VERSION));
    let path = folders.write(call.program.as_os_str().as_bytes());
    writer.field("program", Value::Bytes(&path));
    let (_, digest) = room.memo.digest(&call.program).map_err(internal)?;
    writer.field("compiler", Value::Digest(digest));
    writer.field("lead", Value::Number(lead as u64));
    writer.field("maps", Value::Flag(maps));
    if !args.question {
        writer.field("folder", Value::Bytes(&folders.write(call.cwd.as_os_str().as_bytes())));
    }
    writer.open("args");
    let mut skip = false;
    for word in &args.words {
        let raw = word.as_bytes();
        if std::mem::take(&mut skip) {
            continue;
        }
        if let Some(look) = LOOKS.iter().find(|look| raw.starts_with(look.as_bytes())) {
            skip = raw.len() == look.len();
            continue;
        }
        if raw.starts_with(b"-Cincremental=") || raw.starts_with(b"incremental=") {
            // Whether it is there at all says how many pieces a crate is cut into.
            writer.field("incremental", Value::Flag(true));
            continue;
        }
        writer.field("", Value::Bytes(&folders.hide(raw)));
    }
    writer.close();
    Ok(writer.finish())
}

/// One call on its way.
pub(super) struct Walk<'w> {
    pub(super) call: &'w Call<'w>,
    pub(super) options: &'w Options,
    pub(super) print: &'w mut dyn FnMut(Stream, &[u8]),
    pub(super) record: Record,
    pub(super) story: Story,
    /// What a hit would have put back, where it is compiled again and compared.
    pub(super) expected: Option<Kept>,
    /// Our own CPU that stands in other records, µs.
    pub(super) counted_us: u64,
}

impl Walk<'_> {
    pub(super) fn room(&self) -> Result<Room, Outcome> {
        let dir = self.options.store.as_ref();
        let dir = dir.ok_or_else(|| Outcome::Internal("there is no place for the store".to_owned()))?;
        let site = Site { cwd: self.call.cwd.clone(), root: None };
        let opened = Room::open(dir, site).map_err(|error| Outcome::Internal(chain(&error)))?;
        Ok(opened.telling(&self.story))
    }

    /// The program as if we were not there.
    pub(super) fn become_it(&self) -> End {
        let program = Program {
            path: &self.call.program,
            arg0: &self.call.name,
            args: &self.call.args,
            env: &[],
            folder: None,
        };
        End::NotStarted(program.become_it())
    }

    pub(super) fn note(&mut self, room: &Room, outcome: &Outcome) {
        self.record.tell(outcome);
        self.record.at_us = self.options.now_us;
        self.record.own_cpu_us = own_cpu_us().map(|all| all.saturating_sub(self.counted_us));
        tally::append(&room.store, &self.record);
        self.story.end(&self.record);
    }

    pub(super) fn cached(&mut self, room: &Room, task: &Task) -> End {
        self.record.language = Some(task.language.to_owned());
        self.record.key = Some(task.key.0.to_hex());
        self.story.tell("key", || task.key.to_string());
        let mut miss = match self.hit(room, task) {
            Ok(end) => return end,
            Err(miss) => miss,
        };
        if !room.store.is_writable() {
            let outcome =
                Outcome::Miss { reason: miss, not_stored: Some("the store is read-only".to_owned()) };
            self.note(room, &outcome);
            task.make_way();
            return self.become_it();
        }
        let (lock, waited) = claim::take(room, &task.key);
        if waited {
            match self.hit(room, task) {
                Ok(end) => return end,
                Err(again) => miss = again,
            }
        }
        let end = self.compile(room, task, miss);
        drop(lock);
        end
    }

    fn here<'h>(&'h self, room: &'h Room, task: &'h Task) -> Here<'h> {
        Here { room, env: self.call.env, folders: &task.folders, options: &task.options }
    }

    fn hit(&mut self, room: &Room, task: &Task) -> Result<End, Miss> {
        if self.options.force {
            return Err(Miss::Forced);
        }
        let manifest = room.kept(task.key, Manifest::parse).ok_or_else(|| {
            self.story.tell("set", || "nothing is kept at this key".to_owned());
            Miss::NeverSeen
        })?;
        let kept = manifest.find(self.here(room, task))?;
        if self.options.verify && room.store.is_writable() {
            self.expected = Some(kept.clone());
            return Err(Miss::Forced);
        }
        match self.replay(room, task, kept) {
            Ok(()) => {}
            Err(ReplayError::Gone { name }) => return Err(Miss::OutputGone(format!("output `{name}`"))),
            Err(error) => return Err(Miss::OutputGone(chain(&error))),
        }
        self.record.bytes = Some(kept.outputs.iter().map(|output| output.size).sum());
        ahead::called(room, self.call, self.options, task, kept);
        ahead::take_down(room, self.call, self.options, task);
        self.note(room, &Outcome::Hit { tier: Tier::Local, saved: kept.cost });
        Ok(End::Code(0))
    }

    fn replay(&mut self, room: &Room, task: &Task, kept: &Kept) -> Result<(), ReplayError> {
        let gone = |name: &str| ReplayError::Gone { name: name.to_owned() };
        for output in &kept.outputs {
            let (path, how) = task.place(&output.name).ok_or_else(|| gone(&output.name))?;
            if how == How::Folder {
                std::fs::create_dir_all(&path).map_err(|_| gone(&output.name))?;
            } else if how == How::Text {
                let hidden = replay::content(room, output)?;
                let text = task.folders.show(&hidden).ok_or_else(|| gone(&output.name))?;
                replay::write(&path, &text, false)?;
            } else if task.script.as_ref() == Some(&path) {
                script::plant(room, output, &path)?;
            } else {
                if let (Outputs::Tree(_), Some(folder)) = (&task.outputs, path.parent()) {
                    std::fs::create_dir_all(folder).map_err(|source| ReplayError::Place {
                        verb: "create",
                        path: folder.to_owned(),
                        source,
                    })?;
                }
                restore::put(room, output, &path, how)?;
            }
        }
        for output in &kept.outputs {
            if let Some((path, _)) = task.place(&output.name) {
                self.story.put_back(output, &path);
            }
        }
        for (stream, bytes) in Log::chunks(&kept.log.0) {
            let text = task.folders.show(bytes).ok_or_else(|| gone("what it printed"))?;
            (self.print)(stream, &text);
        }
        Ok(())
    }

    fn compile(&mut self, room: &Room, task: &Task, miss: Miss) -> End {
        let preload = self.call.env.get("LD_PRELOAD").map(OsStr::to_owned);
        let library = room.observer(preload.as_deref());
        // What it starts must be seen as it is: nothing of it is answered from a cache.
        let env = [(OsString::from("SPOLIA_DISABLE"), Some(OsString::from("1")))];
        let program =
            Program { path: &task.program, arg0: &self.call.name, args: &task.args, env: &env, folder: None };
        let tree_was_empty = match &task.outputs {
            Outputs::Tree(folder) => is_empty(folder),
            Outputs::Files(_) => true,
        };
        task.make_way();
        let given = self.give_back(room, task);
        let loader_is_bound = task.loader_is_bound(self.call.env);
        let run = |print: &mut dyn FnMut(Stream, &[u8])| match loader_is_bound {
            true => program.observe_loaded(library.as_deref(), preload.as_deref(), print),
            false => program.observe(library.as_deref(), preload.as_deref(), print),
        };
        let mut observed = run(&mut *self.print);
        if let (Some(given), Some(sessions), Ok(broke)) = (&given, &task.sessions, &observed)
            && broke_down(broke.ended.end)
        {
            // Not over what the user wrote, perhaps over what was given back: without it the compile is as it would be.
            sessions.forget(room, given);
            self.record.incremental_given_back_bytes = None;
            observed = run(&mut *self.print);
        }
        let observed = match observed {
            Ok(observed) => observed,
            Err(error) => {
                self.note(
                    room,
                    &Outcome::Internal(format!("`{}` could not be run: {error}", task.program.display())),
                );
                return self.become_it();
            }
        };
        let Observed { ended, seen } = observed;
        let cost = ended.cost;
        self.record.compile_wall_us = cost.wall_us;
        self.record.compile_cpu_us = cost.user_us.zip(cost.sys_us).map(|(user, sys)| user + sys);
        let failed = Outcome::NotCacheable { reason: NotCacheable::Failed, argument: None };
        let (end, outcome) = match ended.end {
            spolia_engine::End::Exited(0) => {
                let kept = match seen {
                    _ if ended.log_cut => Err(NotKept::Now("it printed more than is kept".to_owned())),
                    _ if !tree_was_empty => {
                        Err(NotKept::Now("its folder was not empty when it began".to_owned()))
                    }
                    Ok(seen) => {
                        let kept = self.keep(room, task, &seen, &ended.log, cost, library);
                        self.keep_session(room, task, &seen);
                        kept
                    }
                    Err(error) => Err(NotKept::Now(format!("it could not be observed: {error}"))),
                };
                let outcome = match kept {
                    Ok(()) => Outcome::Miss { reason: miss, not_stored: None },
                    Err(NotKept::Now(why)) => Outcome::Miss { reason: miss, not_stored: Some(why) },
                    Err(NotKept::Never(reason, argument)) => Outcome::NotCacheable { reason, argument },
                };
                (End::Code(0), outcome)
            }
            spolia_engine::End::Exited(code) => (End::Code(code), failed),
            spolia_engine::End::Signalled(signal) => (End::Signal(signal), failed),
            spolia_engine::End::TimedOut | spolia_engine::End::Cancelled => (End::Code(1), failed),
        };
        // The count is refreshed by the next collection if this is lost.
        let _uncounted = spolia_store::size::add(&room.store, room.store.added_bytes());
        self.note(room, &outcome);
        crate::call::collect_if_big(self.options, room);
        end
    }

    /// Puts back what rustc kept when it last compiled this unit here, where that is gone.
    fn give_back(&mut self, room: &Room, task: &Task) -> Option<GivenBack> {
        // Who compiles to compare, or in spite of what is kept, wants nothing of it.
        if self.options.force || self.expected.is_some() {
            return None;
        }
        let given = task.sessions.as_ref()?.give_back(room, &task.folders)?;
        self.record.incremental_given_back_bytes = Some(given.bytes);
        Some(given)
    }

    /// Keeps what rustc has kept for the next compile of this unit.
    fn keep_session(&mut self, room: &Room, task: &Task, seen: &Seen) {
        let is_dear = self.record.compile_cpu_us.is_some_and(|cpu_us| cpu_us >= incremental::CPU_US_MIN);
        if is_dear && let Some(sessions) = &task.sessions {
            self.record.incremental_kept_bytes = sessions.keep(room, &task.folders, seen);
            self.record.incremental_key = self.record.incremental_kept_bytes.map(|_| sessions.key.0.to_hex());
        }
    }

    /// Says where a hit that was compiled again would have given something else.
    fn compare(&mut self, found: &[KeptOutput]) {
        if let Some(expected) = self.expected.take() {
            let source = self.record.source.clone().unwrap_or_default();
            let differ = crate::call::differing(&expected, found);
            crate::call::say_differing(&differ, &source, self.print);
            self.record.verified = Some(differ.is_empty());
        }
    }

    fn keep(
        &mut self,
        room: &Room,
        task: &Task,
        seen: &Seen,
        log: &Log,
        cost: Cost,
        library: Option<PathBuf>,
    ) -> Result<(), NotKept> {
        let now = |error: ReplayError| NotKept::Now(chain(&error));
        let mut allowed = task.allowed.clone();
        allowed.library = library;
        allowed.spolia = std::fs::read_link("/proc/self/exe").ok();
        if task.reads_sources {
            allowed.hidden = embeds::hidden_variables(seen);
        }
        let mut facts = reads::facts(self.here(room, task), seen, &allowed)?;
        let mut search = Search::new(&task.folders);
        let mut outputs = Vec::new();
        for (name, path, how) in task.files().map_err(|error| NotKept::Now(error.to_string()))? {
            if how == How::Folder {
                outputs.push(KeptOutput {
                    name: format!("{name}/"),
                    digest: [0; 32],
                    size: 0,
                    executable: false,
                    inline: Some(Raw::default()),
                });
                continue;
            }
            if how == How::Text {
                let text = std::fs::read(&path).map_err(|_| missing(&path))?;
                let hidden = task.folders.hide(&text);
                search.push(&hidden);
                search.end();
                let kept = replay::keep_bytes(room, &name, &hidden, false);
                outputs.push(kept.map_err(|error| NotKept::Now(chain(&error)))?);
                continue;
            }
            match restore::keep(room, &name, &path, how, &mut search).map_err(now)? {
                Some(kept) => outputs.push(kept),
                None => return Err(missing(&path)),
            }
        }
        let mut packed = Log::default();
        for (stream, bytes) in Log::chunks(log.as_bytes()) {
            let hidden = task.folders.hide(bytes);
            search.push(&hidden);
            search.end();
            packed.push(stream, &hidden);
        }
        let mut marks = search.found().to_vec();
        marks.sort_unstable();
        for mark in marks {
            if let Some(folder) = task.folders.get(mark) {
                facts.push(Fact::Folder(mark, Raw(folder.as_os_str().as_bytes().to_vec())));
            }
        }
        if memchr::memmem::find(packed.as_bytes(), b"\"rendered\"").is_some() || !task.says_json() {
            for look in LOOKS {
                let value = task.options.iter().find(|(name, _)| name == look);
                let value = value.map(|(_, value)| Raw(value.clone()));
                facts.push(Fact::Variable(Raw(look.as_bytes().to_vec()), value));
            }
        }
        self.record.bytes = Some(outputs.iter().map(|output| output.size).sum());
        self.compare(&outputs);
        if let Some(path) = &task.script {
            let kept = outputs.iter().find(|output| output.name == "bin");
            let kept = kept.ok_or_else(|| missing(path))?;
            script::plant_after_compile(room, kept, path).map_err(now)?;
        }
        let kept = Kept { outputs, log: Raw(packed.as_bytes().to_vec()), cost };
        self.story.kept(&kept);
        // Read again: another call may have added a set since.
        let mut manifest = room.kept(task.key, Manifest::parse).unwrap_or_default();
        manifest.add(facts, kept.clone());
        room.store
            .put_bytes(Entry::result(task.key), &manifest.payload())
            .map_err(|error| NotKept::Now(chain(&error)))?;
        ahead::called(room, self.call, self.options, task, &kept);
        ahead::take_down(room, self.call, self.options, task);
        Ok(())
    }
}

/// A call that was answered before it was made.
pub(super) struct Made {
    /// Where its outputs are, with the digests of those that lie there as they are kept.
    pub(super) places: Vec<(PathBuf, Option<Digest>)>,
    /// Our own CPU that was counted for it, µs.
    pub(super) own_cpu_us: Option<u64>,
}

/// Puts back what a call would that nobody has made yet, if it is a hit that gives `wanted`, each output by its name and digest.
/// Counted as a hit, which took what `own` says at the end.
pub(super) fn put_ahead(
    call: &Call<'_>,
    options: &Options,
    room: &Room,
    script: Option<&str>,
    wanted: &[(String, [u8; 32])],
    own: &dyn Fn() -> Option<u64>,
) -> Option<Made> {
    let mut record = Record {
        compiler: if script.is_some() { "build-script".to_owned() } else { name_of(&call.name) },
        session: options.session.clone(),
        folder: spolia_core::codec::escape(call.cwd.as_os_str().as_encoded_bytes()),
        ..Record::default()
    };
    let task = match script {
        None => plan(call, options, room, &mut record).ok()?,
        Some(hex) => {
            record.source = call.env.some("CARGO_PKG_NAME").map(|name| name.to_string_lossy().into_owned());
            let digest = Digest::from_hex(DigestFunction::Blake3, hex).ok()?;
            script::plan(call, options, room, digest).ok()?
        }
    };
    record.language = Some(task.language.to_owned());
    record.key = Some(task.key.0.to_hex());
    let manifest = room.kept(task.key, Manifest::parse)?;
    let here = Here { room, env: call.env, folders: &task.folders, options: &task.options };
    let kept = manifest.find(here).ok()?;
    let is_wanted = |output: &KeptOutput| {
        wanted.iter().any(|(name, digest)| *name == output.name && *digest == output.digest)
    };
    if kept.outputs.len() != wanted.len() || !kept.outputs.iter().all(is_wanted) {
        return None;
    }
    match &task.outputs {
        Outputs::Tree(folder) => std::fs::create_dir_all(folder).ok()?,
        Outputs::Files(files) => {
            let folders = files.iter().filter_map(|(_, path, _)| path.parent());
            folders.filter(|folder| !folder.is_dir()).try_for_each(std::fs::create_dir_all).ok()?;
        }
    }
    let mut silent = |_: Stream, _: &[u8]| {};
    let story = room.story.clone();
    let mut walk = Walk { call, options, print: &mut silent, record, story, expected: None, counted_us: 0 };
    walk.replay(room, &task, kept).ok()?;
    walk.record.tell(&Outcome::Hit { tier: Tier::Local, saved: kept.cost });
    walk.record.bytes = Some(kept.outputs.iter().map(|output| output.size).sum());
    walk.record.at_us = options.now_us;
    walk.record.own_cpu_us = own();
    tally::append(&room.store, &walk.record);
    let own_cpu_us = walk.record.own_cpu_us;
    let places = kept.outputs.iter().filter_map(|output| {
        let (path, how) = task.place(&output.name)?;
        let is_plain =
            matches!(how, How::Link | How::Copy | How::Apart) && task.script.as_ref() != Some(&path);
        Some((path, is_plain.then(|| Digest::new(DigestFunction::Blake3, output.digest))))
    });
    Some(Made { places: places.collect(), own_cpu_us })
}

/// Whether a compiler ended as one does that has a bug or was given broken data, and not over a mistake in a source.
fn broke_down(end: spolia_engine::End) -> bool {
    let faults = [Signal::ILL, Signal::ABORT, Signal::BUS, Signal::SEGV].map(Signal::as_raw);
    match end {
        spolia_engine::End::Exited(code) => code == 101,
        spolia_engine::End::Signalled(signal) => faults.contains(&signal),
        spolia_engine::End::TimedOut | spolia_engine::End::Cancelled => false,
    }
}

fn missing(path: &Path) -> NotKept {
    NotKept::Now(format!("`{}` was not written", path.display()))
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

impl Task {
    /// Whether it only asks something of the compiler.
    pub(super) fn is_question(&self) -> bool {
        matches!(&self.outputs, Outputs::Files(files) if files.is_empty())
    }

    /// Removes what a hit put there and rustc would refuse to replace.
    fn make_way(&self) {
        if let Outputs::Files(files) = &self.outputs {
            files.iter().for_each(|(_, path, _)| restore::make_way(path));
        }
    }

    /// Whether all that a loader could find in the folders it is told of is either a unit of this build or the toolchain's: then what it
    /// looks for there in vain is no fact (see `reads`), and need not be seen.
    fn loader_is_bound(&self, env: &Env) -> bool {
        let folders = env.get("LD_LIBRARY_PATH").map_or(&[][..], OsStrExt::as_bytes);
        let is_ours = |folder: &[u8]| {
            let folder = folders::clean(Path::new(OsStr::from_bytes(folder)));
            matches!(self.folders.mark_of(folder.as_os_str().as_bytes()), Some(b'T' | b'S'))
        };
        let are_ours = folders.is_empty() || folders.split(|byte| *byte == b':').all(is_ours);
        env.get("LD_AUDIT").is_none() && are_ours
    }

    /// Whether a linker makes something of it.
    pub(super) fn is_linked(&self) -> bool {
        !self.allowed.metadata_only
    }

    pub(super) fn place(&self, name: &str) -> Option<(PathBuf, How)> {
        match &self.outputs {
            Outputs::Files(files) => {
                files.iter().find(|(known, ..)| known == name).map(|(_, path, how)| (path.clone(), *how))
            }
            Outputs::Tree(folder) => {
                let raw = spolia_core::codec::unescape(name)?;
                let path = Path::new(OsStr::from_bytes(&raw));
                let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
                let how = if raw.ends_with(b"/") { How::Folder } else { How::Apart };
                inside.then(|| (folder.join(path), how))
            }
        }
    }

    fn says_json(&self) -> bool {
        self.args.iter().any(|word| word.as_bytes().starts_with(b"--error-format=json"))
    }

    /// The outputs that are to be kept.
    fn files(&self) -> std::io::Result<Vec<(String, PathBuf, How)>> {
        match &self.outputs {
            Outputs::Files(files) => Ok(files.clone()),
            Outputs::Tree(folder) => {
                let mut files = Vec::new();
                let mut open = vec![folder.clone()];
                while let Some(inner) = open.pop() {
                    for entry in std::fs::read_dir(&inner)? {
                        let entry = entry?;
                        let (path, kind) = (entry.path(), entry.file_type()?);
                        if kind.is_dir() {
                            if is_empty(&path) {
                                let name = path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_bytes();
                                files.push((spolia_core::codec::escape(name), path.clone(), How::Folder));
                            }
                            open.push(path);
                        } else if kind.is_file() {
                            let name = path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_bytes();
                            files.push((spolia_core::codec::escape(name), path.clone(), How::Apart));
                        } else {
                            return Err(std::io::Error::other(format!("`{}` is no file", path.display())));
                        }
                    }
                }
                files.sort_by(|(a, ..), (b, ..)| a.cmp(b));
                Ok(files)
            }
        }
    }
}
