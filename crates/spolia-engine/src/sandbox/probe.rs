//! Finds out whether sandboxes work here, by making one: nothing → `Support` or `Refusal`. Knows no spec.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};

use super::launch::{self, EXIT_REPORTED};
use super::observe::{self, EndWithPanic};
use super::root::{self, Context as _};
use super::spec::{self, Bytes, Stage, StartError};
use crate::sys;

/// What the launcher is given in place of a spec file. It finds the scratch folder as its working directory.
pub(super) const ARGUMENT: &str = "--probe";

const MAGIC: &[u8; 7] = b"spolprb";

/// What works here, for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// Sandboxes go through a user namespace (false for a root that may mount).
    pub user_namespace: bool,
    /// Whole folders as overlays; an errno if refused: they are copied then.
    pub overlay: Result<(), i32>,
    /// Watching look-ups; an errno if refused.
    pub observe: Result<(), i32>,
    /// A `/proc` of the sandbox's own; without it look-ups are not watched.
    pub own_proc: bool,
}

/// Why sandboxes do not work here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sandbox here")]
pub struct Refusal {
    /// What the kernel refused.
    #[source]
    pub error: StartError,
    /// What may be done about it.
    pub hint: Hint,
}

/// What may be done about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// `kernel.unprivileged_userns_clone` is 0.
    UsernsClone,
    /// `user.max_user_namespaces` is 0.
    MaxUserNamespaces,
    /// AppArmor lets only named programs use user namespaces.
    AppArmor,
    /// No sysctl is in the way: a container's system call filter, most likely.
    Container,
    /// The kernel lacks the call.
    OldKernel,
    /// The scratch folder is not usable.
    Scratch,
    /// Nothing known.
    Unknown,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UsernsClone => "`sysctl kernel.unprivileged_userns_clone=1` allows user namespaces",
            Self::MaxUserNamespaces => "`sysctl user.max_user_namespaces=10000` allows user namespaces",
            Self::AppArmor => {
                "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile for this \
                 program, allows user namespaces"
            }
            Self::Container => {
                "a container forbids namespaces, it seems; it must be started with fewer restrictions"
            }
            Self::OldKernel => "the sandbox needs Linux 5.12 or newer",
            Self::Scratch => "the folder for scratch files must exist and be writable",
            Self::Unknown => "no known remedy",
        })
    }
}

/// Tries whether sandboxes work here with their scratch folders in `folder`, which must exist. Starts one short-lived
/// process; a caller that asks more than once keeps the answer.
pub fn probe(folder: &Path) -> Result<Support, Refusal> {
    let scratch = folder.join(format!("probe.{}", std::process::id()));
    let answer = make(&scratch).and_then(|()| ask(&scratch));
    let removed = super::remove_scratch(&scratch).at(Stage::Scratch, &scratch);
    answer
        .and_then(|support| removed.map(|()| support))
        .map_err(|error| Refusal { hint: hint(&error), error })
}

fn make(scratch: &Path) -> Result<(), StartError> {
    // What a killed process with our number left behind.
    super::remove_scratch(scratch).at(Stage::Scratch, scratch)?;
    rustix::fs::mkdir(scratch, Mode::from_raw_mode(0o700)).at(Stage::Scratch, scratch)
}

fn ask(scratch: &Path) -> Result<Support, StartError> {
    let output = super::ourselves(ARGUMENT.as_ref())
        .current_dir(scratch)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .output()
        .at(Stage::Process, "")?;
    let silent = || StartError { stage: Stage::Supervisor, errno: libc::ECHILD, path: Bytes::default() };
    spec::decode::<Result<Support, StartError>>(MAGIC, &output.stdout).unwrap_or_else(|_| Err(silent()))
}

/// The probing process.
pub(super) fn answer() -> i32 {
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;
    let forked = launch::enter_user_namespace()
        .and_then(|user| Ok((user, sys::fork_into(namespaces).at(Stage::Namespaces, "")?)));
    let result = match forked {
        Ok((user_namespace, None)) => {
            let _guard = EndWithPanic;
            sys::exit_now(say(&try_all(user_namespace)))
        }
        Ok((_, Some((pid, _)))) => sys::wait4(pid).map(|_| ()).at(Stage::Process, ""),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => EXIT_REPORTED,
        Err(error) => say(&Err(error)),
    }
}

fn say(result: &Result<Support, StartError>) -> i32 {
    let Ok(bytes) = spec::encode(MAGIC, result) else { return launch::EXIT_NO_REPORT };
    match std::io::stdout().write_all(&bytes).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => EXIT_REPORTED,
        Err(_) => launch::EXIT_NO_REPORT,
    }
}

/// What a sandbox does, in short. As pid 1 in new namespaces.
fn try_all(user_namespace: bool) -> Result<Support, StartError> {
    sys::loopback_up().at(Stage::Loopback, "lo")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at(Stage::Root, "/")?;
    let scratch =
        rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Scratch, ".")?;
    let overlay = root::try_overlay(&scratch, user_namespace).map_err(|errno| errno.raw_os_error());
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::fs::mkdir("r", Mode::from_raw_mode(0o700)).at(Stage::Scratch, "r")?;
    rustix::mount::mount("spolia", "r", "tmpfs", flags, c"mode=755,size=64k").at(Stage::Root, "r")?;
    let root = rustix::fs::open("r", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, "r")?;
    sys::mount_set(&root, sys::MOUNT_RDONLY, false).at(Stage::System, ".")?;
    let own_proc = rustix::mount::mount("spolia", "/proc", "proc", flags, None).is_ok();
    Ok(Support { user_namespace, overlay, observe: try_observe(), own_proc })
}

fn try_observe() -> Result<(), i32> {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    if !observe::KNOWN_MACHINE {
        return Err(libc::ENOSYS);
    }
    rustix::thread::set_no_new_privs(true).map_err(|error| error.raw_os_error())?;
    // Nothing this process still does is watched before the listener is closed: only `write` and `exit`.
    sys::seccomp_listener(&observe::filter()).map(drop).map_err(errno)
}

fn hint(error: &StartError) -> Hint {
    let sysctl = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
    let is = |name: &str, value: &str| sysctl(name).is_some_and(|text| text.trim() == value);
    match (error.stage, error.errno) {
        (_, libc::ENOSYS) => Hint::OldKernel,
        (Stage::Scratch, _) => Hint::Scratch,
        (_, libc::ENOSPC | libc::EPERM | libc::EACCES) => {
            if is("kernel/unprivileged_userns_clone", "0") {
                Hint::UsernsClone
            } else if is("user/max_user_namespaces", "0") {
                Hint::MaxUserNamespaces
            } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
                Hint::AppArmor
            } else {
                Hint::Container
            }
        }
        _ => Hint::Unknown,
    }
}
