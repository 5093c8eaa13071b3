//! One command from start to exit, and what the kernel says it cost. Knows no action and no statistics.
//!
//! Between start and exit this process sleeps, and wakes only to sample: each sample's own CPU time decides how
//! long the next one waits, so that sampling stays below [`SAMPLING_SHARE`]. What was not observed is an error with
//! the reason, never a zero.
//!
//! | figure | from | of whom |
//! |---|---|---|
//! | wall time | the clock, from before the start until the kernel says the command has ended | the command |
//! | CPU time, largest process | `wait4` | it, every descendant that was waited for, and orphans, which come to this process as they end (`PR_SET_CHILD_SUBREAPER`) |
//! | bytes read and written | `/proc/PID/io` of the ended process | it and every descendant that was waited for |
//! | memory of all processes together | the cgroup's peak where one may be made, else samples | the tree |
//! | processes started | the kernel's process events where they may be listened to; else at least those seen in samples | the tree |
//! | the processor's speed | a piece of work of ours, timed while it runs ([`Speed`]) | the processor, where it is kept on one |

mod cgroup;
mod forks;
mod one_cpu;
mod speed;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::executor::End;
use crate::process::{self, GRACE};
use crate::sys;

use cgroup::Group;
use forks::Forks;
pub use one_cpu::OneCpu;
use speed::Prober;
pub use speed::Speed;
use tree::Tree;

/// The share of one processor that samples may use. With the waking and waiting around them, which are not counted in a
/// sample's own cost, it stays below 1%.
pub const SAMPLING_SHARE: f64 = 0.008;
/// Before this a command is left alone: most are over by then, and a sample, which reads all of `/proc`, would be more
/// than a hundredth of what has passed.
const FIRST_SAMPLE: Duration = Duration::from_millis(250);
/// The same where the processor's speed is probed, which takes most of what looking may cost.
const FIRST_SAMPLE_PROBED: Duration = Duration::from_secs(1);
/// The shortest time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// A number that was observed, or why it was not.
pub type Observed<T> = Result<T, String>;

/// Where a command's input and output go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To this process's own stdout and stderr.
    Inherit,
    /// Both to this process's stderr.
    Stderr,
    /// Nowhere.
    Null,
}

/// A command to measure. It gets this process's environment and nothing on its standard input.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The program, by name or by path.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where it is started.
    pub folder: PathBuf,
    /// Variables set or, with `None`, taken away.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// Where its output goes.
    pub output: Output,
}

/// How closely it is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closely {
    /// Listen to the kernel's process events, where that is allowed.
    pub count_processes: bool,
    /// Put it in a cgroup of its own, where that is allowed: some milliseconds before it starts.
    pub own_cgroup: bool,
    /// Time a piece of work of ours while it runs. It says something where this thread and the command are kept on one
    /// processor ([`OneCpu`]).
    pub probe_speed: bool,
}

/// What bounds a run, and who is told while it lasts.
pub struct Watch<'w> {
    /// Stops it.
    pub cancel: &'w Cancel,
    /// Wall time after which it is stopped.
    pub timeout: Option<Duration>,
    /// How closely.
    pub closely: Closely,
    /// Called at each sample.
    pub on_sample: &'w mut dyn FnMut(&Live),
}

/// What is known while it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    /// Since the start.
    pub wall: Duration,
    /// Processes that are running now.
    pub processes: u64,
    /// Their resident memory now, bytes; shared pages are counted in each.
    pub resident_bytes: u64,
    /// CPU time of those that run and of those they waited for, so far.
    pub cpu: Duration,
}

/// Bytes that went through the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    /// Read from storage.
    pub read_bytes: u64,
    /// Written towards storage.
    pub write_bytes: u64,
    /// Asked for by read calls, from whatever source.
    pub read_call_bytes: u64,
    /// Handed to write calls.
    pub write_call_bytes: u64,
}

/// How a peak was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeakFrom {
    /// The kernel's own peak of a cgroup: with file pages that the tree brought in.
    Cgroup,
    /// The largest sum of resident sizes in samples: may miss a short peak; shared pages are counted in each.
    Samples,
}

/// What one run took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// How it ended.
    pub end: End,
    /// From before the start until its end was known.
    pub wall: Duration,
    /// User CPU time of the tree, µs.
    pub user_us: u64,
    /// System CPU time of the tree, µs.
    pub sys_us: u64,
    /// Peak resident memory of its largest process, bytes.
    pub largest_process_bytes: Observed<u64>,
    /// Peak memory of all its processes together, bytes.
    pub together_bytes: Observed<(u64, PeakFrom)>,
    /// Bytes read and written.
    pub io: Observed<Io>,
    /// Processes started, itself included.
    pub processes: Observed<u64>,
    /// Different processes that samples have seen; `None` where no sample was taken.
    pub processes_seen: Option<u64>,
    /// CPU time by the cgroup's account, µs: also of processes that nobody waited for.
    pub cgroup_cpu_us: Observed<u64>,
    /// Processes that it left running.
    pub left_running: u64,
    /// Samples taken.
    pub samples: u64,
    /// How fast the processor was meanwhile.
    pub speed: Observed<Speed>,
    /// CPU time of this process from the start to the end of the run, µs.
    pub own_cpu_us: u64,
}

/// One run at a time: whoever waits for any child would take another run's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `subject` once. Others in this process wait; nothing else here may start processes meanwhile.
///
/// # Errors
/// It could not be started, or the kernel would not let us watch it.
#[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
pub fn run(subject: &Subject, watch: &mut Watch<'_>) -> std::io::Result<Taken> {
    use std::os::unix::process::CommandExt as _;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(&subject.program);
    command.args(&subject.args).current_dir(&subject.folder).stdin(Stdio::null()).process_group(0);
    for (name, value) in &subject.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    match subject.output {
        Output::Inherit => {}
        Output::Stderr => {
            command.stdout(Stdio::from(rustix::io::dup(rustix::stdio::stderr())?));
        }
        Output::Null => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    // Orphans of the command come to us, so that their cost is known. This lasts as long as this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut forks = if watch.closely.count_processes { Forks::listen() } else { not_asked() };
    let group = if watch.closely.own_cgroup { Group::enter() } else { not_asked() };
    let own_peak = own_peak_bytes();
    let own_before = own_cpu();
    let began = Instant::now();
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    let watched = Watcher {
        pid,
        began,
        forks: forks.as_mut().ok(),
        tree: Tree::new(pid),
        prober: watch.closely.probe_speed.then(|| Prober::from(began)),
        adopted: Vec::new(),
    };
    let watched = watched.until_the_end(watch);
    let Watched { stopped, ended_after, tree, speed, mut usage } = match watched {
        Ok(watched) => watched,
        Err(error) => {
            signal(pid, Signal::KILL);
            let _reaped = sys::wait4(pid);
            return Err(error);
        }
    };
    let own_cpu_us = (own_cpu() - own_before).as_micros() as u64;
    let io = io_of(pid);
    let (_, ended, own) = sys::wait4(pid)?;
    usage.add(own);
    for orphan in std::iter::from_fn(|| sys::wait4_any_ended().ok().flatten()) {
        usage.add(orphan);
    }
    let left_running = tree::descendants(rustix::process::getpid().as_raw_nonzero().get()).len() as u64;
    let processes = forks.and_then(|mut forks| {
        forks.drain();
        forks.count()
    });
    let (cgroup_cpu_us, cgroup_peak) = match group {
        Ok(group) => group.close(own_cpu_us),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    let sampled = tree.peak_bytes.ok_or_else(|| "the command was over before the first sample".to_owned());
    let together_bytes = match (cgroup_peak, sampled) {
        (Ok(bytes), _) => Ok((bytes, PeakFrom::Cgroup)),
        (Err(_), Ok(bytes)) => Ok((bytes, PeakFrom::Samples)),
        (Err(cgroup), Err(sampled)) if watch.closely.own_cgroup => {
            Err(format!("{sampled}; no cgroup: {cgroup}"))
        }
        (Err(_), Err(sampled)) => Err(sampled),
    };
    let end = match (stopped, ended) {
        (Some(stopped), _) => stopped,
        (None, sys::Ended::Exited(code)) => End::Exited(code),
        (None, sys::Ended::Signalled(number)) => End::Signalled(number),
    };
    Ok(Taken {
        end,
        wall: ended_after,
        user_us: usage.user_us,
        sys_us: usage.sys_us,
        largest_process_bytes: largest(usage.max_rss_bytes, own_peak),
        together_bytes,
        io,
        processes,
        processes_seen: (tree.samples > 0).then(|| tree.seen()),
        cgroup_cpu_us,
        left_running,
        samples: tree.samples,
        speed,
        own_cpu_us,
    })
}

struct Watcher<'f> {
    pid: i32,
    began: Instant,
    forks: Option<&'f mut Forks>,
    tree: Tree,
    prober: Option<Prober>,
    adopted: Vec<sys::Rusage>,
}

struct Watched {
    stopped: Option<End>,
    ended_after: Duration,
    tree: Tree,
    speed: Observed<Speed>,
    usage: sys::Rusage,
}

impl Watcher<'_> {
    #[expect(clippy::disallowed_methods, reason = "the executor measures what it runs")]
    fn until_the_end(mut self, watch: &mut Watch<'_>) -> std::io::Result<Watched> {
        let handle = Pid::from_raw(self.pid).ok_or_else(|| std::io::Error::other("no process id"))?;
        let pidfd = rustix::process::pidfd_open(handle, PidfdFlags::empty())?;
        let mut stopped = None;
        let mut kill_at: Option<Instant> = None;
        let first = if self.prober.is_some() { FIRST_SAMPLE_PROBED } else { FIRST_SAMPLE };
        let mut sample_at = self.began + first;
        let timeout_at = watch.timeout.map(|limit| self.began + limit);
        loop {
            let timeout = timeout_at.filter(|_| stopped.is_none());
            let probe_at = self.prober.as_ref().map(Prober::next);
            let deadline = [Some(sample_at), probe_at, kill_at, timeout].into_iter().flatten().min();
            let asked = stopped.is_some();
            let (ended, cancelled) = {
                let stop = if asked { PollFlags::empty() } else { PollFlags::IN };
                let mut fds = [
                    PollFd::new(&pidfd, PollFlags::IN),
                    PollFd::from_borrowed_fd(watch.cancel.as_fd(), stop),
                ];
                process::poll(&mut fds, deadline)?;
                (!fds[0].revents().is_empty(), !asked && !fds[1].revents().is_empty())
            };
            let now = Instant::now();
            if ended {
                let mut usage = sys::Rusage::default();
                self.adopted.into_iter().for_each(|one| usage.add(one));
                let ended_after = now - self.began;
                let speed = self.prober.map_or_else(not_asked, |prober| {
                    prober.speed().ok_or_else(|| "it was over before the first look".to_owned())
                });
                return Ok(Watched { stopped, ended_after, tree: self.tree, speed, usage });
            }
            if let Some(prober) = &mut self.prober {
                prober.look(now);
            }
            let too_long = stopped.is_none() && timeout_at.is_some_and(|at| at <= now);
            if cancelled || too_long {
                stopped = Some(if cancelled { End::Cancelled } else { End::TimedOut });
                signal(self.pid, Signal::TERM);
                kill_at = Some(now + GRACE);
            }
            if kill_at.is_some_and(|at| at <= now) {
                signal(self.pid, Signal::KILL);
                kill_at = Some(now + GRACE);
            }
            if sample_at <= now {
                let cost = self.sample(now, watch);
                sample_at = now + SAMPLE_EVERY.max(cost.div_f64(SAMPLING_SHARE));
            }
        }
    }

    /// Looks once; gives the CPU time that took.
    fn sample(&mut self, now: Instant, watch: &mut Watch<'_>) -> Duration {
        let before = thread_cpu();
        if let Some(forks) = &mut self.forks {
            forks.drain();
        }
        // An orphan that has ended would stay in the process table, where its program may be waiting for it to go.
        while let Ok(Some(usage)) = sys::wait4_orphan(self.pid) {
            self.adopted.push(usage);
        }
        let mut live = self.tree.sample();
        live.wall = now - self.began;
        (watch.on_sample)(&live);
        thread_cpu().saturating_sub(before)
    }
}

fn not_asked<T>() -> Observed<T> {
    Err("it was not asked for".to_owned())
}

/// A new process starts as a copy of the one that starts it, and the kernel counts that copy in its peak: what is not
/// larger than we were cannot be told from us.
pub fn largest(peak_bytes: u64, own_peak_bytes: Option<u64>) -> Observed<u64> {
    let own = own_peak_bytes.ok_or("how large this process itself is cannot be read")?;
    if peak_bytes > own + own / 50 {
        return Ok(peak_bytes);
    }
    Err(format!("it was smaller than the {} KiB of the process that started it", own >> 10))
}

/// The most memory this process has had, bytes.
pub fn own_peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// To the whole group; that it is gone already is no error.
fn signal(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _gone = rustix::process::kill_process_group(group, signal);
    }
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// CPU time of this process, all its threads.
pub fn own_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// CPU time and the largest process among the ended descendants of this process that were waited for: user µs,
/// system µs, bytes.
///
/// # Errors
/// The kernel's.
pub fn children_usage() -> std::io::Result<(u64, u64, u64)> {
    sys::children_usage().map(|usage| (usage.user_us, usage.sys_us, usage.max_rss_bytes))
}

/// What a process and those it has waited for have read and written so far.
pub fn io_of(pid: i32) -> Observed<Io> {
    let path = format!("/proc/{pid}/io");
    let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => "the kernel shows it to the process's owner only".to_owned(),
        _ => format!("`{path}` cannot be read: {error}"),
    })?;
    let field = |name: &str| -> Observed<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|number| number.parse().ok()).ok_or_else(|| format!("`{path}` has no `{name}`"))
    };
    Ok(Io {
        read_bytes: field("read_bytes")?,
        write_bytes: field("write_bytes")?,
        read_call_bytes: field("rchar")?,
        write_call_bytes: field("wchar")?,
    })
}

/// Looks at a tree of processes that somebody else runs, from another thread: this process and its descendants.
pub struct Sampler {
    tree: Tree,
    forks: Observed<Forks>,
}

impl Sampler {
    /// From now on.
    pub fn start() -> Self {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        Self { tree: Tree::new(own), forks: Forks::listen() }
    }

    /// Looks once, and says how long to wait before the next look.
    pub fn sample(&mut self) -> (Live, Duration) {
        let before = thread_cpu();
        if let Ok(forks) = &mut self.forks {
            forks.drain();
        }
        let live = self.tree.sample();
        let cost = thread_cpu().saturating_sub(before);
        (live, SAMPLE_EVERY.max(cost.div_f64(SAMPLING_SHARE)))
    }

    /// The peak of all together in samples, the processes started, and those seen.
    pub fn end(mut self) -> (Observed<u64>, Observed<u64>, Option<u64>) {
        let processes = self.forks.and_then(|mut forks| {
            forks.drain();
            forks.count()
        });
        let peak = self.tree.peak_bytes.take().ok_or_else(|| "no sample was taken".to_owned());
        (peak, processes, (self.tree.samples > 0).then(|| self.tree.seen()))
    }
}
