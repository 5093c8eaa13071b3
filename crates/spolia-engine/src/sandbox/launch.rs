//! The launcher and its two children: spec → namespaces → command → report. Knows no caller.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::exchange::LauncherEnd;
use super::observe::{self, EndWithPanic, Watcher};
use super::probe;
use super::root::{self, Context as _};
use super::spec::{Bytes, Cost, End, Lookups, Observe, Overlay, Report, SandboxSpec, Stage, StartError};
use crate::sys::{self, CStrings, Ended, Fork, Rusage};

/// The report is written, whatever it says.
pub const EXIT_REPORTED: i32 = 0;
/// The spec cannot be read, so nobody knows where a report would go.
pub const EXIT_BAD_SPEC: i32 = 65;
/// The report cannot be written.
pub const EXIT_NO_REPORT: i32 = 74;
/// The caller is gone.
pub const EXIT_ORPHAN: i32 = 75;
/// A bug in the sandbox.
pub const EXIT_BUG: i32 = 70;

/// What root keeps in a sandbox: owning files as root does (`tar` and `install` restore owners, `setcap` marks files,
/// package tools drop to other users), and nothing that reaches beyond the files shown: no mounts, devices, network,
/// modules or handles. Without `SETFCAP` the kernel would not let it make a user namespace for a sandbox in here.
const ROOT_KEEPS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETFCAP);

/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Runs the spec on standard input (`-`) or a probe (`--probe`): what follows [`super::SUBCOMMAND`] on the command line.
/// To be called first thing in `main`, while the process has one thread; the result is the process's exit code.
pub fn main(argument: &OsStr) -> i32 {
    if argument == probe::ARGUMENT {
        return probe::answer();
    }
    let end = LauncherEnd::take().ok();
    let Some((end, spec)) = end.and_then(|end| end.spec().map(|spec| (end, spec))) else {
        return EXIT_BAD_SPEC;
    };
    launch(&spec, &end).unwrap_or_else(|error| report(&end, &Report::not_started(error)))
}

fn report(end: &LauncherEnd, report: &Report) -> i32 {
    if end.write_report(report).is_ok() { EXIT_REPORTED } else { EXIT_NO_REPORT }
}

/// Process A.
fn launch(spec: &SandboxSpec, end: &LauncherEnd) -> Result<i32, StartError> {
    let Some(caller) = watch_caller(spec.caller_pid)? else { return Ok(EXIT_ORPHAN) };
    let user_namespace = make_namespaces(spec.network)?;
    let (alive_reader, alive_writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(Stage::Process, "")?;
    match sys::fork().at(Stage::Process, "")? {
        Fork::Child => {
            let _guard = EndWithPanic;
            drop(alive_writer);
            sys::exit_now(init(spec, end, user_namespace, &alive_reader))
        }
        Fork::Parent(pid) => {
            drop(alive_reader);
            let code = await_init(pid, caller.as_ref())?;
            drop(alive_writer);
            match code {
                EXIT_REPORTED | EXIT_NO_REPORT | EXIT_ORPHAN => Ok(code),
                _ => {
                    Err(StartError { stage: Stage::Supervisor, errno: libc::ECHILD, path: Bytes::default() })
                }
            }
        }
    }
}

/// A descriptor that becomes readable when the caller ends. The outer none: it has ended. A death signal would not do:
/// it comes when the *thread* that started us ends.
fn watch_caller(pid: u32) -> Result<Option<Option<OwnedFd>>, StartError> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(Some(None)) };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        // The number may be another's by now; the parent's cannot, once we hold the descriptor.
        Ok(fd) => Ok((rustix::process::getppid() == Some(pid)).then_some(Some(fd))),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error).at(Stage::Process, ""),
    }
}

/// Leaves the host's namespaces, through a user namespace unless we are a root that may mount. Says which.
pub(super) fn make_namespaces(network: bool) -> Result<bool, StartError> {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if !network {
        flags |= libc::CLONE_NEWNET;
    }
    let user_namespace = !is_mighty_root();
    if user_namespace {
        flags |= libc::CLONE_NEWUSER;
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare_namespaces(flags).at(Stage::Namespaces, "")?;
    if user_namespace {
        for (path, text) in [
            ("/proc/self/setgroups", "deny".to_string()),
            ("/proc/self/uid_map", format!("{uid} {uid} 1")),
            ("/proc/self/gid_map", format!("{gid} {gid} 1")),
        ] {
            std::fs::write(path, text).at(Stage::IdMap, path)?;
        }
    }
    Ok(user_namespace)
}

fn is_mighty_root() -> bool {
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Waits for B, but not longer than the caller lives. When we end, B is killed.
fn await_init(pid: i32, caller: Option<&OwnedFd>) -> Result<i32, StartError> {
    if let (Some(caller), Some(child)) = (caller, Pid::from_raw(pid)) {
        let child = rustix::process::pidfd_open(child, PidfdFlags::empty()).at(Stage::Process, "")?;
        let mut fds = [PollFd::new(&child, PollFlags::IN), PollFd::new(caller, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut fds, None) {}
        if fds[0].revents().is_empty() {
            return Ok(EXIT_ORPHAN);
        }
    }
    match sys::wait4(pid).at(Stage::Process, "")? {
        (_, Ended::Exited(code), _) => Ok(code),
        (_, Ended::Signalled(_), _) => Ok(EXIT_BUG),
    }
}

/// Process B, pid 1 of the sandbox. `alive` reads end-of-file when A is gone.
fn init(spec: &SandboxSpec, end: &LauncherEnd, user_namespace: bool, alive: &OwnedFd) -> i32 {
    // A's ending from here on kills us; had it ended before, nothing would.
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    if !tied || is_hung_up(alive) {
        return EXIT_ORPHAN;
    }
    report(end, &run(spec, user_namespace).unwrap_or_else(Report::not_started))
}

fn is_hung_up(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_err() || fds[0].revents().contains(PollFlags::HUP)
}

fn run(spec: &SandboxSpec, user_namespace: bool) -> Result<Report, StartError> {
    if !spec.network {
        sys::loopback_up().at(Stage::Loopback, "lo")?;
    }
    rustix::system::sethostname(&spec.hostname.0).at(Stage::Hostname, spec.hostname.as_path())?;
    let (root, overlay) = root::build(spec, user_namespace)?;
    root::enter(&root)?;
    drop(root);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .at(Stage::Process, "")?;
    let started_us = now_us();
    match sys::fork().at(Stage::Process, "")? {
        Fork::Child => {
            let _guard = EndWithPanic;
            drop(ours);
            let error = become_command(spec, &theirs);
            // If even this fails, B reads end-of-file and takes it for a start; our exit code then says otherwise.
            drop(send(&theirs, &Word::Failed(error), None));
            sys::exit_now(EXIT_BUG)
        }
        Fork::Parent(command) => {
            drop(theirs);
            supervise(spec, command, &ours, started_us, overlay)
        }
    }
}

fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// What C says to B before it becomes the command. End-of-file: it has.
#[derive(Serialize, Deserialize)]
enum Word {
    /// The listener's descriptor comes with this.
    Watch,
    Unwatched(Observe),
    Failed(StartError),
}

/// B's part once C is there.
fn supervise(
    spec: &SandboxSpec,
    command: i32,
    words: &OwnedFd,
    started_us: u64,
    overlay: Overlay,
) -> Result<Report, StartError> {
    let mut observe = Observe::Off;
    let mut watcher = None;
    while let Some((word, listener)) = receive(words).at(Stage::Process, "")? {
        match (word, listener) {
            (Word::Watch, Some(listener)) => {
                let started = Watcher::start(listener, &spec.root.inside.0);
                watcher = Some(started.at(Stage::Process, "")?);
                observe = Observe::Watched;
            }
            (Word::Watch, None) => return Err(Errno::BADF).at(Stage::Process, ""),
            (Word::Unwatched(why), _) => observe = why,
            (Word::Failed(error), _) => return Err(error),
        }
    }
    let (ended, total) = reap(command).at(Stage::Process, "")?;
    let lookups = watcher.map_or_else(Lookups::default, Watcher::finish);
    let (wall_us, usage) = (total.ended_us.saturating_sub(started_us), total.usage);
    let cost =
        Cost { wall_us, user_us: usage.user_us, sys_us: usage.sys_us, max_rss_bytes: usage.max_rss_bytes };
    let end = match ended {
        Ended::Exited(code) => End::Exited(code),
        Ended::Signalled(signal) => End::Signalled(signal),
    };
    Ok(Report { end, cost, observe, lookups, overlay })
}

struct Total {
    usage: Rusage,
    ended_us: u64,
}

/// Waits for the command, then ends what it left behind.
fn reap(command: i32) -> io::Result<(Ended, Total)> {
    let mut total = Total { usage: Rusage::default(), ended_us: 0 };
    let mut how = None;
    loop {
        match sys::wait4(-1) {
            Ok((pid, ended, usage)) => {
                total.usage.add(usage);
                if pid == command {
                    how = Some(ended);
                    total.ended_us = now_us();
                    // ESRCH: nothing was left behind.
                    drop(sys::kill_all_others());
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                return how.map(|how| (how, total)).ok_or(error);
            }
            Err(error) => return Err(error),
        }
    }
}

fn send(to: &OwnedFd, word: &Word, fd: Option<&OwnedFd>) -> io::Result<()> {
    let bytes = postcard::to_stdvec(word).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(to, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// None: the other side became the command, or ended.
fn receive(from: &OwnedFd) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
    // A path and some words about it.
    let mut bytes = [0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(&mut bytes)];
    let count = loop {
        match rustix::net::recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    if count == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let word = postcard::from_bytes(&bytes[..count]).map_err(io::Error::other)?;
    Ok(Some((word, fd)))
}

/// Process C: gives up what the command must not have and becomes it. Comes back only with the reason why not.
fn become_command(spec: &SandboxSpec, words: &OwnedFd) -> StartError {
    let Err(error) = prepare(spec, words).and_then(|()| exec(spec).map(|never| match never {}));
    error
}

fn prepare(spec: &SandboxSpec, words: &OwnedFd) -> Result<(), StartError> {
    // A session of its own: `kill 0` in a script must not reach the launcher.
    rustix::process::setsid().at(Stage::Process, "")?;
    sys::default_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let cwd = spec.cwd.as_path();
    rustix::process::chdir(cwd).at(Stage::Cwd, cwd)?;
    give_up_privileges()?;
    sys::close_on_exec_except(&spec.keep_fds).at(Stage::Process, "")?;
    if spec.observe { watch(words) } else { Ok(()) }
}

fn give_up_privileges() -> Result<(), StartError> {
    let keep = if rustix::process::geteuid().is_root() { ROOT_KEEPS } else { CapabilitySet::empty() };
    sys::drop_bounding_except(keep.bits()).at(Stage::Privileges, "")?;
    match rustix::thread::clear_ambient_capability_set() {
        // A kernel without them has none to clear.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error).at(Stage::Privileges, ""),
    }
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at(Stage::Privileges, "")?;
    rustix::thread::set_no_new_privs(true).at(Stage::Privileges, "")
}

fn watch(words: &OwnedFd) -> Result<(), StartError> {
    let unwatched = |why| send(words, &Word::Unwatched(why), None).at(Stage::Process, "");
    if !observe::KNOWN_MACHINE {
        return unwatched(Observe::Refused(libc::ENOSYS));
    }
    if !observe::proc_is_ours() {
        return unwatched(Observe::NoProc);
    }
    match sys::seccomp_listener(&observe::filter()) {
        Ok(listener) => send(words, &Word::Watch, Some(&listener)).at(Stage::Process, ""),
        Err(error) => unwatched(Observe::Refused(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

enum Never {}

fn exec(spec: &SandboxSpec) -> Result<Never, StartError> {
    let name = spec.argv.first().map_or(&b""[..], |name| &name.0);
    let shown = OsStr::from_bytes(name);
    let argv = CStrings::new(spec.argv.iter().map(|word| word.0.clone())).at(Stage::Exec, shown)?;
    let variables = spec.env.iter().map(|(name, value)| [&name.0[..], b"=", &value.0].concat());
    let env = CStrings::new(variables).at(Stage::Exec, shown)?;
    if name.contains(&b'/') || name.is_empty() {
        let error = sys::exec(Path::new(shown), &argv, &env);
        return Err(blame(error, Path::new(shown)));
    }
    let mut found = None;
    for folder in search_path(spec).split(|byte| *byte == b':').filter(|folder| !folder.is_empty()) {
        let path: PathBuf = Path::new(OsStr::from_bytes(folder)).join(shown);
        let error = sys::exec(&path, &argv, &env);
        match error.raw_os_error() {
            Some(libc::ENOENT) if rustix::fs::stat(&path).is_err() => {}
            Some(libc::ENOTDIR) => {}
            Some(libc::EACCES) => found = found.or(Some(blame(error, &path))),
            _ => return Err(blame(error, &path)),
        }
    }
    let missing = || StartError { stage: Stage::Exec, errno: libc::ENOENT, path: shown.into() };
    Err(found.unwrap_or_else(missing))
}

fn search_path(spec: &SandboxSpec) -> &[u8] {
    spec.env.iter().find(|(name, _)| name.0 == b"PATH").map_or(DEFAULT_PATH, |(_, path)| &path.0)
}

/// "No such file" about a file that is there means its interpreter.
fn blame(error: io::Error, path: &Path) -> StartError {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let there = errno == libc::ENOENT && rustix::fs::stat(path).is_ok();
    StartError { stage: if there { Stage::Interpreter } else { Stage::Exec }, errno, path: path.into() }
}
