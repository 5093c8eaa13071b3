//! `spolia perf monitor`: one run of a build or a command, measured, shown and written down.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spolia_build::build::{Ended, Forced};
use spolia_build::{Build, Options};
use spolia_cc::tally;
use spolia_core::Event;
use spolia_core::event::EventKind;
use spolia_engine::measure::{self, Closely, Live, Output, PeakFrom, Sampler, Subject, Watch};
use spolia_perf::check::{Outcome, limits_of_measured};
use spolia_perf::history::{Past, of_run, state_of};
use spolia_perf::manifest::What;
use spolia_perf::record::{Ending, Facts, Record, Sample};
use spolia_store::journal::Run;
use spolia_store::{JournalWriter, RunId};

use super::{Perf, check, conf, failure, line, state, words};
use crate::cli::perf::MonitorArgs;
use crate::commands::build::{self, cancel_on_signals, digest_cache, how_options, with_session};
use crate::exit::{Exit, Failure};
use crate::painter::{self, Painter, words as told};
use crate::project::Project;
use crate::recorder::{Recorder, now_us};
use crate::shell::{Shell, Tone};

/// Runs it.
pub(crate) fn run(args: &MonitorArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let (mut record, exit) = if args.command.is_empty() { steps(args, perf)? } else { command(args, perf)? };
    record.thresholds = limits_of_measured(std::slice::from_ref(&record), &conf::thresholds_or_warn(perf));
    if let Some(path) = &args.output {
        write(&perf.settings.cwd.join(path), &record)?;
    }
    if perf.settings.json {
        perf.shell.json_line(&record);
    } else if !perf.settings.quiet {
        summary(&record, perf.shell);
        let above = record.thresholds.iter().filter(|finding| finding.outcome != Outcome::Ok);
        for finding in above {
            let what = finding.what.map_or("thresholds", What::key);
            let says = check::says(finding);
            perf.shell.status(
                check::tone(finding.outcome),
                finding.outcome.text(),
                &format!("{what}: {says}"),
            );
        }
    }
    Ok(exit)
}

/// Writes a record as a file, whole or not at all.
pub(super) fn write(path: &Path, record: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(record)
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot write the record: {error}")))?;
    text.push('\n');
    write_text(path, &text)
}

/// Writes a file beside its place and renames it: what was there stays where the disk is full.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    let cannot =
        |error: std::io::Error| Failure::environment(format!("cannot write `{}`: {error}", path.display()));
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        // A pipe or a device: there is nothing to replace.
        return std::fs::write(path, text).map_err(cannot);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _none = std::fs::remove_file(&temporary);
    }
    written.map_err(cannot)
}

/// A command, as it is.
fn command(args: &MonitorArgs, perf: &Perf<'_>) -> Result<(Record, Exit), Failure> {
    let cancel = cancel_on_signals()?;
    let words: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let subject = args.label.name.clone().unwrap_or_else(|| line(&args.command));
    let facts = Facts { state: state(&args.label), ..perf.facts("monitor", subject, words, &cancel) };
    let run = RunId::new(now_us());
    let calls = Calls::begin(perf, &run);
    let mut journal = Journal::new(perf, &run);
    journal.take(perf.run_started(run.as_str()));
    journal.take(EventKind::Measuring { series: 0, facts: value(&facts) });
    let subject = Subject {
        program: args.command[0].clone(),
        args: args.command[1..].to_vec(),
        folder: perf.cwd.clone(),
        env: calls.env(),
        output: if perf.settings.json { Output::Stderr } else { Output::Inherit },
    };
    let mut live = LiveLine::new(perf);
    let mut watch = Watch {
        cancel: &cancel,
        timeout: None,
        closely: Closely { count_processes: true, own_cgroup: true, probe_speed: false },
        on_sample: &mut |now| live.show(now),
    };
    let started = now_us();
    let taken = measure::run(&subject, &mut watch);
    live.clear();
    let taken = match taken {
        Ok(taken) => taken,
        Err(source) => {
            journal.end(Exit::Usage);
            let program = args.command[0].to_string_lossy().into_owned();
            return Err(failure(&spolia_perf::PerfError::Start { program, source }));
        }
    };
    let mut sample = Sample::of(&taken, started);
    sample.load_after = spolia_perf::host::load();
    calls.end(perf, &mut sample, |record, session| record.session == session);
    journal.take(EventKind::Measured { series: 0, sample: value(&sample) });
    let exit = match sample.ending {
        Ending::Ok => Exit::Success,
        Ending::Cancelled => Exit::Interrupted,
        Ending::Failed | Ending::Timeout => Exit::StepFailed,
    };
    journal.end(exit);
    Ok((Record::new(run.to_string(), facts, vec![sample], Vec::new()), exit))
}

/// Steps of the manifest: perf's recorder around build's runner.
fn steps(args: &MonitorArgs, perf: &Perf<'_>) -> Result<(Record, Exit), Failure> {
    let project = Project::load(perf.settings, perf.shell, args.how.variant.as_deref())?;
    let options = options(args, perf);
    let cancel = cancel_on_signals()?;
    let mut subject = if args.steps.is_empty() { "build".to_owned() } else { args.steps.join(" ") };
    subject = args.label.name.clone().unwrap_or(subject);
    let command = std::iter::once("build".to_owned()).chain(args.steps.iter().cloned()).collect();
    let facts = perf.facts("monitor", subject, command, &cancel);
    let run = RunId::new(now_us());
    let journal = perf.store.is_writable().then(|| JournalWriter::new(&perf.store, &run));
    let seen = Arc::new(Mutex::new(Vec::new()));
    // Under `--json` there is one document, not a line for each event.
    let inner = (!perf.settings.json).then(|| painter::choose(perf.settings, perf.shell));
    let painter = Listening { inner, seen: Arc::clone(&seen) };
    let recorder = Recorder::new(Box::new(painter), journal).heed(&cancel);
    let sink = |kind: EventKind| recorder.take(kind);
    let digests = digest_cache(&perf.store, &project.root);
    let calls = Calls::begin(perf, &run);
    let around = Around::start();
    let started = now_us();
    let id = run.clone();
    let mut ended = with_session(
        &project.root,
        Arc::clone(&perf.store),
        perf.settings,
        &cancel,
        run.clone(),
        &sink,
        |session| Build::new(session, &project.manifest, &options, &digests)?.run(None),
    );
    let mut sample = around.end(started);
    if let Ok(ended) = &mut ended {
        crate::commands::collect::if_due(
            &perf.store,
            Some(&project.manifest.cache),
            &mut ended.summary,
            &sink,
        );
    }
    let ended = ended.map_err(|error| build::failure(&error))?;
    let exit = exit_of(&ended);
    let facts =
        Facts { state: of_ended(&ended).or(state(&args.label)), platform: platform(&options), ..facts };
    fill(&mut sample, &ended, exit);
    // A step does not see our variables: what ran in the tree meanwhile was a step's, unless somebody else compiled there.
    let here = perf.root_text();
    calls.end(perf, &mut sample, |record, _| Path::new(&record.folder).starts_with(&here));
    recorder.take(EventKind::Measuring { series: 0, facts: value(&facts) });
    recorder.take(EventKind::Measured { series: 0, sample: value(&sample) });
    recorder
        .take(EventKind::RunFinished { summary: ended.summary.clone(), exit_code: i32::from(exit.code()) });
    recorder.close();
    let events = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let told = Run { id, path: Default::default(), events, unreadable_lines: 0 };
    let past: Past = of_run(&told).unwrap_or_default();
    let of_past = past.records.into_iter().next().unwrap_or_default();
    let mut record = Record::new(run.to_string(), facts, vec![sample], of_past.steps);
    record.jobs = of_past.jobs;
    Ok((record, exit))
}

fn options(args: &MonitorArgs, perf: &Perf<'_>) -> Options {
    let forced = if args.no_cache.is_empty() {
        Forced::Nothing
    } else if args.no_cache.iter().any(String::is_empty) {
        Forced::Everything
    } else {
        Forced::Steps(args.no_cache.iter().cloned().collect())
    };
    Options { steps: args.steps.clone(), forced, ..how_options(&args.how, perf.settings) }
}

fn platform(options: &Options) -> Option<String> {
    match options.platforms.as_slice() {
        [one] => Some(one.to_string()),
        _ => None,
    }
}

fn exit_of(ended: &Ended) -> Exit {
    match ended {
        Ended { cancelled: true, .. } => Exit::Interrupted,
        Ended { summary, .. } if summary.failed > 0 => Exit::StepFailed,
        _ => Exit::Success,
    }
}

fn of_ended(ended: &Ended) -> Option<spolia_perf::record::State> {
    state_of(ended.summary.ran, ended.summary.up_to_date + ended.summary.restored)
}

/// The compiler cache's calls in one run.
struct Calls {
    session: String,
    /// Whether the command is told it by us.
    is_ours: bool,
    bytes: u64,
    since_us: u64,
}

impl Calls {
    fn begin(perf: &Perf<'_>, run: &RunId) -> Self {
        let named = perf.settings.var("SPOLIA_SESSION").map(|name| name.to_string_lossy().into_owned());
        let is_ours = named.is_none();
        Self {
            session: named.unwrap_or_else(|| run.to_string()),
            is_ours,
            bytes: tally::size_bytes(&perf.store),
            since_us: now_us(),
        }
    }

    /// Tells the command's compiler calls apart from those of others.
    fn env(&self) -> Vec<(OsString, Option<OsString>)> {
        let told = ("SPOLIA_SESSION".into(), Some(self.session.clone().into()));
        if self.is_ours { vec![told] } else { Vec::new() }
    }

    /// Writes down those that `is_it`, by compiler.
    fn end(self, perf: &Perf<'_>, sample: &mut Sample, is_it: impl Fn(&tally::Record, &str) -> bool) {
        if tally::size_bytes(&perf.store) != self.bytes
            && let Ok(all) = tally::read(&perf.store, self.since_us)
        {
            for record in all.records.iter().filter(|record| is_it(record, &self.session)) {
                let (hits, misses) = match record.outcome.as_str() {
                    "hit" => (1, 0),
                    "miss" => (0, 1),
                    _ => continue,
                };
                let name = Path::new(&record.compiler).file_name().unwrap_or_default().to_string_lossy();
                let calls = sample.compilers.entry(name.into_owned()).or_default();
                calls.hits += hits;
                calls.misses += misses;
            }
        }
        if sample.compilers.is_empty() {
            let why = "no cacheable compiler call went through `spolia cc` with this store".to_owned();
            sample.not_observed.insert("compilers".to_owned(), why);
        }
    }
}

/// What the build knows of itself.
fn fill(sample: &mut Sample, ended: &Ended, exit: Exit) {
    let summary = &ended.summary;
    let hits = summary.up_to_date + summary.restored;
    sample.cache_hits = Some(hits);
    sample.cache_misses = Some(summary.ran + summary.failed);
    sample.dependencies = Some(hits + summary.ran + summary.failed + summary.skipped);
    sample.build_size_bytes = summary.output_bytes;
    sample.store_bytes = summary.store_bytes;
    let mut missing = |name: &str, why: &str| {
        sample.not_observed.insert(name.to_owned(), why.to_owned());
    };
    if summary.output_bytes.is_none() {
        missing("build_size_bytes", "not every step has outputs that are known");
    }
    if summary.store_bytes.is_none() {
        missing("store_bytes", "the store was not counted");
    }
    sample.ending = match exit {
        Exit::Success => Ending::Ok,
        Exit::Interrupted => Ending::Cancelled,
        _ => Ending::Failed,
    };
    sample.exit_code = Some(i32::from(exit.code()));
    sample.load_after = spolia_perf::host::load();
}

/// What this process and all it runs cost, from one moment to another.
struct Around {
    began: Instant,
    own: Duration,
    children: std::io::Result<(u64, u64, u64)>,
    io: measure::Observed<measure::Io>,
    sampler: std::thread::JoinHandle<Sampler>,
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Around {
    #[expect(clippy::disallowed_methods, reason = "the edge: a build is measured from here")]
    fn start() -> Self {
        let stop: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let told = Arc::clone(&stop);
        let sampler = std::thread::spawn(move || {
            let mut sampler = Sampler::start();
            let (stopped, changed) = &*told;
            let mut guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            while !*guard {
                let (_, wait) = sampler.sample();
                guard = changed.wait_timeout(guard, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
            sampler
        });
        Self {
            began: Instant::now(),
            own: measure::own_cpu(),
            children: measure::children_usage(),
            io: measure::io_of(std::process::id().cast_signed()),
            sampler,
            stop,
        }
    }

    fn end(self, started_at_us: u64) -> Sample {
        let wall = self.began.elapsed();
        let own = measure::own_cpu().saturating_sub(self.own);
        let children = measure::children_usage();
        let io_after = measure::io_of(std::process::id().cast_signed());
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        let mut sample = Sample {
            started_at_us: Some(started_at_us),
            wall_us: u64::try_from(wall.as_micros()).ok(),
            ..Sample::default()
        };
        let mut missing = |name: &str, why: String| {
            sample.not_observed.insert(name.to_owned(), why);
        };
        match (&self.children, &children) {
            (Ok(before), Ok(after)) => {
                // Our own time is part of the build; user and system of it are not told apart.
                sample.user_us = Some(after.0 - before.0 + own.as_micros() as u64);
                sample.sys_us = Some(after.1 - before.1);
                sample.largest_process_bytes = Some(after.2).filter(|bytes| *bytes > before.2);
                if sample.largest_process_bytes.is_none() {
                    missing(
                        "largest_process_bytes",
                        "no process of the build was the largest so far".to_owned(),
                    );
                }
            }
            (Err(error), _) | (_, Err(error)) => missing("user_us", error.to_string()),
        }
        missing("left_running", "a build ends what its steps leave running".to_owned());
        missing("cgroup_cpu_us", "a build makes no cgroup of its own".to_owned());
        match self.sampler.join().map(Sampler::end) {
            Ok((peak, processes, seen)) => {
                match peak {
                    Ok(bytes) => {
                        sample.together_bytes = Some(bytes);
                        sample.together_from = Some(PeakFrom::Samples);
                    }
                    Err(why) => missing("together_bytes", why),
                }
                match processes {
                    Ok(count) => sample.processes = Some(count),
                    Err(why) => missing("processes", why),
                }
                sample.processes_seen = seen;
            }
            Err(_) => missing("together_bytes", "the sampler failed".to_owned()),
        }
        let minus = |after: u64, before: u64| after.saturating_sub(before);
        let io = match (self.io, io_after) {
            (Ok(before), Ok(after)) => Ok(measure::Io {
                read_bytes: minus(after.read_bytes, before.read_bytes),
                write_bytes: minus(after.write_bytes, before.write_bytes),
                read_call_bytes: minus(after.read_call_bytes, before.read_call_bytes),
                write_call_bytes: minus(after.write_call_bytes, before.write_call_bytes),
            }),
            (Err(why), _) | (_, Err(why)) => Err(why),
        };
        sample.with_io(io)
    }
}

/// Hears every event, and passes it on.
struct Listening {
    inner: Option<Box<dyn Painter>>,
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Painter for Listening {
    fn paint(&mut self, event: &Event) {
        if !matches!(event.kind, EventKind::StepOutput { .. }) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        }
        if let Some(inner) = &mut self.inner {
            inner.paint(event);
        }
    }

    fn pace(&self) -> Option<Duration> {
        self.inner.as_ref().and_then(|inner| inner.pace())
    }

    fn tick(&mut self, now_us: u64) {
        if let Some(inner) = &mut self.inner {
            inner.tick(now_us);
        }
    }

    fn stopping(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.stopping();
        }
    }

    fn close(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.close();
        }
    }
}

/// One line on a terminal while a command runs.
pub(super) struct LiveLine<'p> {
    shell: &'p Shell,
    on: bool,
    shown: bool,
}

impl<'p> LiveLine<'p> {
    pub(super) fn new(perf: &Perf<'p>) -> Self {
        Self { shell: perf.shell, on: perf.settings.fancy, shown: false }
    }

    fn show(&mut self, live: &Live) {
        let what = format!(
            "{}, {} CPU, {} in {} process{}",
            told::elapsed(live.wall.as_micros() as u64),
            told::elapsed(live.cpu.as_micros() as u64),
            told::size(live.resident_bytes),
            live.processes,
            if live.processes == 1 { "" } else { "es" },
        );
        self.text("running", &what);
    }

    /// Any line, shown until the next one.
    pub(super) fn text(&mut self, verb: &str, what: &str) {
        if self.on {
            self.shown = true;
            self.shell.err(&format!("\r\x1b[2K{}\r", self.shell.status_line(Tone::Plain, verb, what)));
        }
    }

    pub(super) fn clear(&mut self) {
        if self.shown {
            self.shell.err("\r\x1b[2K");
            self.shown = false;
        }
    }
}

/// The events of one run of perf's own, without a display.
pub(super) struct Journal {
    writer: Option<JournalWriter>,
    seq: u64,
}

impl Journal {
    pub(super) fn new(perf: &Perf<'_>, run: &RunId) -> Self {
        Self { writer: perf.store.is_writable().then(|| JournalWriter::new(&perf.store, run)), seq: 0 }
    }

    /// Takes an event; what was measured is on its way to the disk before anything else happens.
    pub(super) fn take(&mut self, kind: EventKind) {
        let event = Event { at_us: now_us(), seq: self.seq, kind };
        self.seq += 1;
        if let Some(writer) = &mut self.writer {
            // A journal that cannot be written costs the history, not the measurement.
            let _unwritten = writer.append(&event).and_then(|()| writer.flush());
        }
    }

    pub(super) fn end(mut self, exit: Exit) {
        let summary = spolia_core::event::Summary::default();
        self.take(EventKind::RunFinished { summary, exit_code: i32::from(exit.code()) });
    }
}

/// As it is in an event.
pub(super) fn value(of: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// What was measured, for a person.
fn summary(record: &Record, shell: &Shell) {
    let Some(sample) = record.samples.last() else { return };
    let facts = &record.facts;
    let (tone, verb) = match sample.ending {
        Ending::Ok => (Tone::Good, "measured"),
        Ending::Failed => (Tone::Error, "failed"),
        Ending::Timeout => (Tone::Error, "too long"),
        Ending::Cancelled => (Tone::Warning, "stopped"),
    };
    let code = sample.exit_code.filter(|code| *code != 0).map(|code| format!(", exit code {code}"));
    shell.status(tone, verb, &format!("{}{}", facts.subject, code.unwrap_or_default()));
    let row = |name: &str, what: String| shell.status(Tone::Dim, name, &what);
    row("wall", words::time_or(sample.wall_us));
    let cpu = format!(
        "{} ({} user, {} system)",
        words::time_or(sample.cpu_us()),
        words::time_or(sample.user_us),
        words::time_or(sample.sys_us)
    );
    row("CPU", cpu);
    let together = match (sample.together_bytes, sample.together_from) {
        (Some(bytes), Some(PeakFrom::Cgroup)) => {
            format!("{} together (cgroup, with file pages)", told::size(bytes))
        }
        (Some(bytes), _) => format!("{} together (sampled)", told::size(bytes)),
        (None, _) => format!("together not observed: {}", why(sample, "together_bytes")),
    };
    row(
        "memory",
        format!("{} in the largest process, {together}", words::size_or(sample.largest_process_bytes)),
    );
    let io = match (sample.read_bytes, sample.write_bytes) {
        (Some(read), Some(written)) => format!(
            "{} read and {} written on storage; {} and {} by calls",
            told::size(read),
            told::size(written),
            words::size_or(sample.read_call_bytes),
            words::size_or(sample.write_call_bytes)
        ),
        _ => format!("not observed: {}", why(sample, "read_bytes")),
    };
    row("bytes", io);
    let processes = match (sample.processes, sample.processes_seen) {
        (Some(count), _) => format!("{count} started"),
        (None, Some(seen)) => format!("at least {seen} seen ({})", why(sample, "processes")),
        (None, None) => format!("not observed: {}", why(sample, "processes")),
    };
    row("processes", processes);
    if let (Some(hits), Some(misses)) = (sample.cache_hits, sample.cache_misses) {
        let share = (hits * 100).checked_div(hits + misses).map(|share| format!(" ({share}%)"));
        let share = share.unwrap_or_default();
        let state = facts.state.map(|state| format!(", {}", state.text())).unwrap_or_default();
        row("cache", format!("{hits} hits, {misses} misses{share}{state}"));
    }
    for (compiler, calls) in &sample.compilers {
        let share = (calls.hits * 100).checked_div(calls.hits + calls.misses).unwrap_or(0);
        row("compiler", format!("{compiler}: {} hits, {} misses ({share}%)", calls.hits, calls.misses));
    }
    if let Some(bytes) = sample.build_size_bytes {
        row("outputs", told::size(bytes));
    }
    let git = facts.git.as_ref().map(|git| {
        let dirty = if git.dirty == Some(true) { ", with changes" } else { "" };
        let branch = git.branch.as_ref().map(|branch| format!(" on {branch}")).unwrap_or_default();
        format!("{}{branch}{dirty}", git.commit.get(..10).unwrap_or(&git.commit))
    });
    let none = || facts.not_observed.get("git").cloned().unwrap_or_default();
    row("commit", git.unwrap_or_else(|| format!("none: {}", none())));
    let load = |load: Option<[f64; 3]>| load.map_or_else(|| "?".to_owned(), |load| format!("{:.2}", load[0]));
    row("load", format!("{} before, {} after", load(facts.load_before), load(sample.load_after)));
    if let Some(run) = &record.run {
        row("run", run.clone());
    }
    warn(record, shell);
}

fn why(sample: &Sample, name: &str) -> String {
    sample.not_observed.get(name).cloned().unwrap_or_else(|| "no reason is known".to_owned())
}

/// What makes the figures doubtful.
fn warn(record: &Record, shell: &Shell) {
    let Some(sample) = record.samples.last() else { return };
    if let Some(left) = sample.left_running.filter(|left| *left > 0) {
        let message =
            format!("{left} processes were left running: what they cost from now on is not measured");
        shell.warning(&message, &[]);
    }
    if let (Some(cpu), Some(cgroup)) = (sample.cpu_us(), sample.cgroup_cpu_us)
        && cgroup > cpu + cpu / 20 + 10_000
    {
        let message = format!(
            "processes that nobody waited for used {} of CPU time that is not in the figure above",
            words::time((cgroup - cpu) as f64)
        );
        shell.warning(&message, &[]);
    }
    let busy = record.facts.load_before.zip(record.facts.host.num_cpu);
    if let Some((load, processors)) = busy.filter(|(load, processors)| load[0] > *processors as f64) {
        let message = format!("the machine was busy: load {:.1} on {processors} processors", load[0]);
        shell.warning(&message, &["CPU time is little affected, wall time is".to_owned()]);
    }
}
