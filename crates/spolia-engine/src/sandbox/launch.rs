//! The launcher and what it starts: request → namespaces → command → report. Knows no caller.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::exchange::SandboxEnd;
use super::network::{Network, Networks};
use super::observe::{self, EndWithPanic, Watcher};
use super::probe;
use super::root::{self, Context as _, Frame};
use super::spec::{Cost, End, Lookups, Observe, Overlay, Report, SandboxSpec, Stage, StartError};
use crate::sys::{self, CStrings, Ended, Fork, Rusage};
use crate::words;

/// The launcher has served its caller to the end.
pub const EXIT_SERVED: i32 = 0;
/// The report is written, whatever it says.
pub const EXIT_REPORTED: i32 = 0;
/// What is asked cannot be understood, so nobody knows where a report would go.
pub const EXIT_BAD_REQUEST: i32 = 65;
/// The report cannot be written.
pub const EXIT_NO_REPORT: i32 = 74;
/// The launcher is gone, and with it the caller.
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

/// Serves the socket on standard input (`-`) or answers a probe (`--probe`): what follows [`super::SUBCOMMAND`] on the
/// command line. To be called first thing in `main`, while the process has one thread; the result is the process's exit
/// code.
pub fn main(argument: &OsStr) -> i32 {
    if argument == probe::ARGUMENT {
        return probe::answer();
    }
    let Ok((mut server, socket)) = Server::new() else { return EXIT_BAD_REQUEST };
    let mut socket = Some(socket);
    while let Some(request) = socket.as_ref().and_then(|socket| Request::receive(socket).transpose()) {
        let started = request.and_then(|request| server.start(request, &mut socket));
        let told = socket.as_ref().map(|socket| words::send_fd(socket, started.as_ref().map(AsFd::as_fd)));
        if !matches!(told, Some(Ok(()))) {
            return EXIT_BAD_REQUEST;
        }
        reap_ended();
    }
    // For their cost to be counted. What has not ended yet ends with us.
    reap_ended();
    EXIT_SERVED
}

/// Takes the ends of all sandboxes that have ended.
fn reap_ended() {
    while let Ok(Some(_)) = sys::wait4_any_ended() {}
}

/// One sandbox that a caller wants: its end of an [`super::Exchange`], its standard output and error.
pub(super) struct Request {
    end: SandboxEnd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Request {
    /// Asks whoever is behind `to`, which answers by [`words::send_fd`].
    pub(super) fn send(to: &OwnedFd, fds: [BorrowedFd<'_>; 3]) -> io::Result<()> {
        words::send(to, b"+", &fds)
    }

    /// None: nobody will ask any more.
    fn receive(from: &OwnedFd) -> io::Result<Option<Self>> {
        let (count, fds) = words::receive(from, &mut [0])?;
        if count == 0 {
            return Ok(None);
        }
        let Ok([memory, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(Errno::INVAL.into());
        };
        Ok(Some(Self { end: SandboxEnd::new(memory), stdout, stderr }))
    }
}

/// How a sandbox is made.
struct Plan {
    network: Network,
    /// In the launcher's frame, not in a root all of its own.
    framed: bool,
    user_namespace: bool,
}

/// Process A.
struct Server {
    /// Whether sandboxes are made in a user namespace of ours, or why they cannot be.
    user_namespace: Result<bool, StartError>,
    networks: Networks,
    /// What all its sandboxes have in common; nothing before the first, or where it cannot be made.
    frame: Option<Option<Frame>>,
    /// Nobody writes to it: it is hung up when A is gone.
    alive: OwnedFd,
    alive_writer: Option<OwnedFd>,
}

impl Server {
    /// Takes over standard input and puts `/dev/null` in its place.
    fn new() -> io::Result<(Self, OwnedFd)> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let (alive, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let user_namespace = enter_user_namespace();
        let networks = Networks::default();
        Ok((Self { user_namespace, networks, frame: None, alive, alive_writer: Some(writer) }, socket))
    }

    /// Starts B; gives its descriptor. B does not come back.
    fn start(&mut self, request: Request, socket: &mut Option<OwnedFd>) -> io::Result<OwnedFd> {
        let user_namespace = match &self.user_namespace {
            Ok(user_namespace) => *user_namespace,
            Err(error) => return Err(io::Error::from_raw_os_error(error.errno)),
        };
        let spec = request.end.spec().ok_or(Errno::INVAL)?;
        let frame = self.frame.get_or_insert_with(|| Frame::make(&spec, user_namespace).ok());
        let framed = frame.as_ref().is_some_and(|frame| frame.fits(&spec));
        let network = if spec.network { Network::Host } else { self.networks.choose() };
        let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if matches!(network, Network::New) {
            namespaces |= libc::CLONE_NEWNET;
        }
        match sys::fork_into(namespaces)? {
            None => {
                let _guard = EndWithPanic;
                // A's ends: with a copy of them, nobody would see that A is gone.
                drop((socket.take(), self.alive_writer.take()));
                sys::exit_now(self.init(request, &spec, &Plan { network, framed, user_namespace }))
            }
            Some((pid, descriptor)) => {
                self.networks.note(network, pid, &descriptor);
                Ok(descriptor)
            }
        }
    }

    /// Process B, pid 1 of the sandbox.
    fn init(&self, Request { end, stdout, stderr }: Request, spec: &SandboxSpec, plan: &Plan) -> i32 {
        // A's ending from here on kills us; had it ended before, nothing would.
        let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
        if !tied || words::is_hung_up(&self.alive) {
            return EXIT_ORPHAN;
        }
        let given = rustix::stdio::dup2_stdout(&stdout).and_then(|()| rustix::stdio::dup2_stderr(&stderr));
        drop((stdout, stderr));
        let done = given
            .at(Stage::Process, "")
            .and_then(|()| self.networks.enter(plan.network))
            .and_then(|()| run(spec, plan));
        let written = end.write_report(&done.unwrap_or_else(Report::not_started));
        if written.is_ok() { EXIT_REPORTED } else { EXIT_NO_REPORT }
    }
}

/// Makes a user namespace the process's own, unless it is a root that may mount. Says which.
pub(super) fn enter_user_namespace() -> Result<bool, StartError> {
    if is_mighty_root() {
        return Ok(false);
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare_namespaces(libc::CLONE_NEWUSER).at(Stage::Namespaces, "")?;
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_string()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ] {
        std::fs::write(path, text).at(Stage::IdMap, path)?;
    }
    Ok(true)
}

fn is_mighty_root() -> bool {
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn run(spec: &SandboxSpec, plan: &Plan) -> Result<Report, StartError> {
    rustix::system::sethostname(&spec.hostname.0).at(Stage::Hostname, spec.hostname.as_path())?;
    let (root, overlay) = root::build(spec, plan.user_namespace, plan.framed)?;
    root::enter(&root)?;
    drop(root);
    let (ours, theirs) = words::pair().at(Stage::Process, "")?;
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
    match fd {
        Some(fd) => words::send(to, &bytes, &[fd.as_fd()]),
        None => words::send(to, &bytes, &[]),
    }
}

/// None: the other side became the command, or ended.
fn receive(from: &OwnedFd) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
    // A path and some words about it.
    let mut bytes = [0; 8192];
    let (count, mut fds) = words::receive(from, &mut bytes)?;
    if count == 0 {
        return Ok(None);
    }
    let word = postcard::from_bytes(&bytes[..count]).map_err(io::Error::other)?;
    Ok(Some((word, fds.pop())))
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
