//! The single room with `unsafe`: thin wrappers over system calls that no crate of ours offers. Knows no sandbox.

use std::ffi::{CString, c_char, c_int, c_long, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use crate::words;

/// Which side of a fork this is.
pub(crate) enum Fork {
    Child,
    Parent(i32),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Signalled(i32),
}

/// What a process and the children it waited for cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rusage {
    pub(crate) user_us: u64,
    pub(crate) sys_us: u64,
    pub(crate) max_rss_bytes: u64,
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `EBUSY` while more than one thread runs.
fn refuse_threads() -> io::Result<()> {
    // The link count of a folder in proc is two and one more for each folder in it.
    if rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink > 3) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    Ok(())
}

/// Makes a copy of this process. Refused (`EBUSY`) while more than one thread runs: the copy would inherit locks
/// held by threads that it does not have.
pub(crate) fn fork() -> io::Result<Fork> {
    refuse_threads()?;
    // SAFETY: there is one thread, so every lock and allocator state is consistent in the child.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Makes a copy of this process in new namespaces (`CLONE_NEW*`): its number and a descriptor of it; nothing in the
/// copy, which is the first process of a new pid namespace if that is among them. Refused as [`fork`] is.
pub(crate) fn fork_into(namespaces: c_int) -> io::Result<Option<(i32, OwnedFd)>> {
    refuse_threads()?;
    let flags = c_long::from(namespaces & NAMESPACES) | c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    let mut pidfd: c_int = -1;
    // SAFETY: memory is not shared, so this is a fork, and the copy goes on on its own copy of the stack. There is one
    // thread, so every lock and allocator state is consistent in it. What the C library remembers of the thread's
    // number is that of the original; nothing here asks it. The kernel writes one descriptor to `pidfd`.
    let pid = check_long(unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize)
    })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// Ends this process at once, without destructors or exit handlers: for a forked copy.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Waits for the child `pid`, or for any child if it is -1; gives back who ended, how, and what it cost.
pub(crate) fn wait4(pid: i32) -> io::Result<(i32, Ended, Rusage)> {
    loop {
        let mut status = 0;
        // SAFETY: `rusage` is plain integers, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live locals of the right type.
        match check(unsafe { libc::wait4(pid, &mut status, 0, &mut usage) }) {
            Ok(pid) => {
                let ended = if libc::WIFSIGNALED(status) {
                    Ended::Signalled(libc::WTERMSIG(status))
                } else {
                    Ended::Exited(libc::WEXITSTATUS(status))
                };
                return Ok((pid, ended, Rusage::from_kernel(&usage)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the end of a child other than `leader` that has ended; `None` where there is none, or where the leader is
/// the next to be told of.
pub(crate) fn wait4_orphan(leader: i32) -> io::Result<Option<Rusage>> {
    // SAFETY: `siginfo_t` is plain data, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a live local of the right type.
    match check(unsafe { libc::waitid(libc::P_ALL, 0, &mut info, flags) }) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Err(error) => return Err(error),
    }
    // SAFETY: after `waitid` this field is set; it is zero where no child has ended.
    let pid = unsafe { info.si_pid() };
    if pid == 0 || pid == leader {
        return Ok(None);
    }
    wait4(pid).map(|(_, _, usage)| Some(usage))
}

/// Takes the end of any child that has ended; `None` where there is none.
pub(crate) fn wait4_any_ended() -> io::Result<Option<Rusage>> {
    wait4_orphan(0)
}

/// What all children that were waited for have cost.
pub(crate) fn children_usage() -> io::Result<Rusage> {
    // SAFETY: `rusage` is plain integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local of the right type.
    check(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) })?;
    Ok(Rusage::from_kernel(&usage))
}

impl Rusage {
    /// Takes in another tree: times add up, the larger process counts.
    pub(crate) fn add(&mut self, other: Self) {
        self.user_us += other.user_us;
        self.sys_us += other.sys_us;
        self.max_rss_bytes = self.max_rss_bytes.max(other.max_rss_bytes);
    }

    fn from_kernel(usage: &libc::rusage) -> Self {
        let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        Self {
            user_us: micros(usage.ru_utime),
            sys_us: micros(usage.ru_stime),
            // Linux counts in kibibytes.
            max_rss_bytes: usage.ru_maxrss as u64 * 1024,
        }
    }
}

/// Sends `SIGKILL` to every process this one may signal, itself and pid 1 excepted. Only for pid 1 of a pid
/// namespace, where that is everything in the namespace; anyone else gets `EPERM`.
pub(crate) fn kill_all_others() -> io::Result<()> {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: `kill` touches no memory.
    check(unsafe { libc::kill(-1, libc::SIGKILL) }).map(drop)
}

const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;

/// Leaves the namespaces in `flags` (`CLONE_NEW*`) for new ones.
pub(crate) fn unshare_namespaces(flags: c_int) -> io::Result<()> {
    // SAFETY: of the flags only namespaces are let through; those share no memory or descriptors.
    check(unsafe { libc::unshare(flags & NAMESPACES) }).map(drop)
}

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

pub(crate) const MOUNT_RDONLY: u64 = 1;
pub(crate) const MOUNT_NOSUID: u64 = 2;

/// Sets mount attributes (`MOUNT_*`) on the mount that `mount` is the root of, and on all beneath it if asked.
pub(crate) fn mount_set(mount: impl AsFd, attributes: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr { set: attributes, clear: 0, propagation: 0, userns_fd: 0 };
    let recurse = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, the struct has the size that is passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recurse,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check_long(result).map(drop)
}

/// Brings up the interface `lo` of this network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: `socket` touches no memory; the result is checked before it is owned.
    let socket = unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: `ifreq` is plain integers and a union of such.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}

/// Takes every capability that is not in the mask `keep` out of the bounding set.
pub(crate) fn drop_bounding_except(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: this prctl takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as c_ulong, 0, 0, 0) };
        match check(result) {
            Ok(_) => {}
            // The first number past the kernel's last capability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Every signal to its default action, none blocked: what a new program may expect.
pub(crate) fn default_signals() {
    /// The kernel's `struct sigaction`, larger than any architecture's; all zero it says "default, no flags, no mask".
    const DEFAULT: [u64; 8] = [0; 8];
    /// Size of the kernel's signal set.
    const SET_BYTES: usize = 8;
    for signal in 1..=64 {
        // Not by way of libc, which keeps two signals for itself and refuses to reset them when a caller ignored them.
        // SAFETY: the kernel reads one `sigaction`; a default action runs no code of ours. `SIGKILL` and `SIGSTOP`
        // are refused, which is no loss.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), SET_BYTES)
        };
    }
    let none = [0_u64; 1];
    // SAFETY: the kernel reads one set of the size passed.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null_mut::<u64>(),
            SET_BYTES,
        )
    };
}

/// Marks all descriptors from 3 on close-on-exec and those in `keep` not so.
pub(crate) fn close_on_exec_except(keep: &[i32]) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_int = 4;
    // SAFETY: changes descriptor flags only; nothing is closed.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOSE_RANGE_CLOEXEC) })?;
    for &fd in keep.iter().filter(|fd| **fd > 2) {
        // SAFETY: as above; a descriptor that is not open gives EBADF.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

/// A null-terminated array of C strings, as `execve` wants it.
pub(crate) struct CStrings {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl CStrings {
    /// `EINVAL` if one holds a zero byte.
    pub(crate) fn new(strings: impl Iterator<Item = Vec<u8>>) -> io::Result<Self> {
        let strings: Vec<CString> =
            strings.map(CString::new).collect::<Result<_, _>>().map_err(|_| invalid())?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { pointers, _strings: strings })
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// Becomes the program at `path`; comes back only with the reason why not.
pub(crate) fn exec(path: &Path, argv: &CStrings, env: &CStrings) -> io::Error {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return invalid();
    };
    // SAFETY: all three point to C strings that live in `path`, `argv` and `env`; both arrays end with null.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// One instruction of a classic BPF program.
pub(crate) type BpfInstruction = libc::sock_filter;

/// Installs a seccomp filter on this thread and gives the descriptor on which its notifications arrive. Needs
/// `no_new_privs`.
pub(crate) fn seccomp_listener(program: &[BpfInstruction]) -> io::Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(|_| invalid())?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // Once a call is being looked at, a signal does not restart it; kernels before 5.19 do not know the flag.
    let first = seccomp_set(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &filter);
    let fd = match first {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => seccomp_set(flags, &filter)?,
        other => other?,
    };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seccomp_set(flags: c_ulong, filter: &libc::sock_fprog) -> io::Result<c_int> {
    // SAFETY: `filter` points to a program of the length it states; the kernel only reads it.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(filter))
    };
    check_long(result).map(|fd| fd as c_int)
}

/// Lets `command` install `program` on itself before it becomes what it runs, and send the listener's descriptor `to` the
/// other end of that socket, or the error that kept it from being installed (see [`words::send_fd`]). It is also
/// killed when the thread that starts it ends.
pub(crate) fn observe_when_started(
    command: &mut std::process::Command,
    program: Vec<BpfInstruction>,
    to: OwnedFd,
) {
    when_started(command, move || {
        let tried = match seccomp_listener(&program) {
            // Only who may do everything anyway may do it without a promise.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES)) => {
                rustix::thread::set_no_new_privs(true)?;
                seccomp_listener(&program)
            }
            other => other,
        };
        match tried {
            Ok(listener) => words::send_fd(&to, Ok(listener.as_fd())),
            Err(error) => words::send_fd(&to, Err(&error)),
        }
    });
}

/// Lets `command` have `what` under the number `fd`, and be killed when the thread that starts it ends.
pub(crate) fn hand_when_started(command: &mut std::process::Command, what: OwnedFd, fd: c_int) {
    when_started(command, move || {
        // SAFETY: the copy that becomes the program has nothing under that number.
        let result = unsafe { libc::dup2(what.as_raw_fd(), fd) };
        check_long(result.into()).map(drop)
    });
}

/// Lets `command` do `last` before it becomes what it runs: system calls only, no locks and no memory. It is also killed when
/// the thread that starts it ends.
fn when_started(
    command: &mut std::process::Command,
    mut last: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    use std::os::unix::process::CommandExt as _;
    let parent = rustix::process::getpid();
    let started = move || {
        let _not_tied = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        last()
    };
    // SAFETY: the closure makes system calls only; it takes no locks and no memory.
    unsafe { command.pre_exec(started) };
}

/// Whether this process has anything under this number.
pub(crate) fn is_open(fd: c_int) -> bool {
    // SAFETY: the call only asks.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Closes every descriptor but this one: for a forked copy that must keep nobody's pipe open.
pub(crate) fn close_all_but(kept: &OwnedFd) {
    let fd = kept.as_raw_fd().unsigned_abs();
    for (first, last) in [(0, fd.checked_sub(1)), (fd + 1, Some(u32::MAX))] {
        if let Some(last) = last {
            // SAFETY: a forked copy that only answers owns nothing else; `kept` is left out.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// One system call that waits for an answer.
pub(crate) use libc::seccomp_notif as Notification;

/// The kernel's notification structs may be larger than ours on a newer kernel; these are large enough.
#[repr(C, align(8))]
pub(crate) struct NotificationBuffer([u64; 64]);

impl NotificationBuffer {
    pub(crate) fn new() -> io::Result<Self> {
        let mut sizes =
            libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        // SAFETY: the kernel writes one `seccomp_notif_sizes`.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
        check_long(result)?;
        let fits = |size: u16| usize::from(size) <= size_of::<Self>();
        if !fits(sizes.seccomp_notif) || !fits(sizes.seccomp_notif_resp) {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        Ok(Self([0; 64]))
    }

    /// Waits for the next call.
    pub(crate) fn receive(&mut self, listener: &OwnedFd) -> io::Result<Notification> {
        // The kernel insists on zeroes.
        self.0 = [0; 64];
        // SAFETY: the buffer holds what `new` found the kernel to write.
        let result =
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, self.0.as_mut_ptr()) };
        check(result)?;
        // SAFETY: aligned, large enough, and any bytes are a valid `seccomp_notif` (integers only).
        Ok(unsafe { self.0.as_ptr().cast::<Notification>().read() })
    }

    /// Lets the call with this id go on as if it had not been stopped.
    pub(crate) fn let_go_on(&mut self, listener: &OwnedFd, id: u64) -> io::Result<()> {
        self.0 = [0; 64];
        let answer = libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        // SAFETY: aligned and large enough for our struct; the kernel reads no more than `new` found.
        let result = unsafe {
            self.0.as_mut_ptr().cast::<libc::seccomp_notif_resp>().write(answer);
            libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, self.0.as_mut_ptr())
        };
        check(result).map(drop)
    }
}

/// Whether the call with this id still waits, so that what was read of its process was that process's.
pub(crate) fn notification_is_valid(listener: &OwnedFd, id: u64) -> bool {
    // SAFETY: the kernel reads one u64.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    result == 0
}

/// Answers the call with this id by a copy of `file`, which closes by itself when its process becomes another program. Kernels
/// before 5.14 refuse; the call still waits then.
pub(crate) fn notification_give(listener: &OwnedFd, id: u64, file: impl AsFd) -> io::Result<()> {
    const ANSWER_WITH_IT: u32 = 2;
    let given = libc::seccomp_notif_addfd {
        id,
        flags: ANSWER_WITH_IT,
        srcfd: file.as_fd().as_raw_fd().unsigned_abs(),
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC.unsigned_abs(),
    };
    // SAFETY: the kernel reads one `seccomp_notif_addfd`.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const given) };
    check(result).map(drop)
}

/// Asks the kernel to switch straight between caller and listener. Kernels before 6.6 refuse; that costs time only.
pub(crate) fn notification_sync_wake_up(listener: &OwnedFd) {
    const SYNC_WAKE_UP: c_ulong = 1;
    // SAFETY: takes an integer.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

/// Copies memory of another process from `address` on; fewer bytes than asked for if a page is not there.
pub(crate) fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let Ok(address) = usize::try_from(address) else {
        return Err(io::Error::from_raw_os_error(libc::EFAULT));
    };
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: buffer.len() };
    // SAFETY: the kernel writes into `buffer` only, at most its length; the remote address is checked by the kernel.
    let result = unsafe { libc::process_vm_readv(pid as i32, &local, 1, &remote, 1, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}
