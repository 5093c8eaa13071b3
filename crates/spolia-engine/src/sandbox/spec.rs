//! What a sandbox is told and what it tells back: `SandboxSpec → (launcher) → Report`. Knows no system call.
//!
//! Both travel through memory (see [`super::exchange`]). Format: seven magic bytes (`spolsbx` for a spec, `spolrep` for a
//! report), one version byte, then the postcard encoding of the struct with its fields in order. Launcher and
//! caller are the same binary, so a reader accepts its own version only.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize, de};

const SPEC_MAGIC: &[u8; 7] = b"spolsbx";
const REPORT_MAGIC: &[u8; 7] = b"spolrep";
const VERSION: u8 = 2;
/// Magic and version.
pub(super) const HEADER_BYTES: usize = 8;

/// Bytes that name something to the kernel: a path, an argument, a variable. Not always UTF-8.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The same bytes as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Bytes {
    fn from(name: &T) -> Self {
        Self(name.as_ref().as_bytes().to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Everything one sandbox needs to know. "Inside" paths are absolute paths as the command sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// An empty folder of the caller's (absolute host path, mode 0700, on disk), for this run only; afterwards the caller
    /// removes it with [`super::remove_scratch`], or makes it ready for another run with [`super::reset_scratch`].
    pub scratch: Bytes,
    /// The scratch folder is one that [`super::reset_scratch`] has made ready, and not empty.
    pub scratch_used: bool,
    /// The command and its arguments. A name without `/` is looked up in the `PATH` of `env`, inside.
    pub argv: Vec<Bytes>,
    /// The whole environment.
    pub env: Vec<(Bytes, Bytes)>,
    /// Working directory, inside.
    pub cwd: Bytes,
    /// An empty private folder on disk is shown here (inside), for `HOME`. None if empty.
    pub home: Bytes,
    /// The project tree.
    pub root: ProjectRoot,
    /// Further files and folders, shown after everything else, outer ones first whatever their order here.
    pub binds: Vec<Bind>,
    /// Host folders shown read-only at the same path; what does not exist is left out, a symlink stays one.
    pub system: Vec<Bytes>,
    /// Inside folders that are there in every sandbox of this caller, for `root` and `binds` to be shown at.
    pub folders: Vec<Bytes>,
    /// Of those, the ones that what differs from sandbox to sandbox is shown in.
    pub rooms: Vec<Bytes>,
    /// Host folders to cover with an empty one where they lie in a `system` folder (the caller's cache, say).
    /// The scratch folder and the project's host root are always covered.
    pub hidden: Vec<Bytes>,
    /// True: the host's network. False: a network of its own with a loopback interface only.
    pub network: bool,
    /// Note the project files that were looked for and not there.
    pub observe: bool,
    /// The host name the command sees.
    pub hostname: Bytes,
    /// Descriptors above 2 that the command inherits (a jobserver's pipe, say), which were not close-on-exec when the launcher
    /// was started. All others are closed.
    pub keep_fds: Vec<i32>,
}

/// The project as the command sees it: a private copy-on-write tree of the declared inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRoot {
    /// Where it is shown (absolute, no `.` or `..`, no final `/`).
    pub inside: Bytes,
    /// Where it is on the host.
    pub host: Bytes,
    /// Declared regular files and symlinks, relative; copied.
    pub files: Vec<Bytes>,
    /// Folders that shall exist, relative; made empty. Parents of files need not be listed.
    pub dirs: Vec<Bytes>,
    /// Folders of which every file is declared, relative; shown whole through one overlay each.
    pub whole_dirs: Vec<Bytes>,
}

/// One host file or folder shown inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute host path.
    pub host: Bytes,
    /// Absolute inside path; missing parents are made where that is possible.
    pub inside: Bytes,
    /// Writes go through to the host.
    pub writable: bool,
}

/// What became of a run. A missing report means that the launcher was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How the command ended, or why it never began.
    pub end: End,
    /// What the command's whole process tree cost.
    pub cost: Cost,
    /// Whether look-ups were watched.
    pub observe: Observe,
    /// What was looked for in vain.
    pub lookups: Lookups,
    /// How the whole folders were shown.
    pub overlay: Overlay,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The command exited with this code.
    Exited(i32),
    /// The command was ended by this signal.
    Signalled(i32),
    /// The command never ran.
    NotStarted(StartError),
}

/// What a process tree cost, as the kernel counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// From just before the command's start to its exit, microseconds.
    pub wall_us: u64,
    /// CPU time in user mode, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub sys_us: u64,
    /// Largest resident set of any one process, bytes.
    pub max_rss_bytes: u64,
}

/// Whether look-ups were watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observe {
    /// Not asked for, or the command never ran.
    Off,
    /// Every watched call was seen.
    Watched,
    /// The kernel refused a listener (EBUSY: someone else listens already); the command ran unwatched. An errno.
    Refused(i32),
    /// There is no `/proc` of the sandbox's own to resolve relative paths with; the command ran unwatched.
    NoProc,
}

/// Project files that were looked for and were not there: relative to the project root, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookups {
    /// Still not there when the command had ended.
    pub missing: Vec<Bytes>,
    /// Not there when first looked for, but there at the end: the command made them.
    pub made: Vec<Bytes>,
    /// More than [`super::LOOKUPS_MAX`] different paths: the rest was not noted.
    pub truncated: bool,
    /// Calls whose path could not be read from the calling process.
    pub unreadable: u64,
}

/// How whole folders were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlay {
    /// No whole folder was asked for.
    NotNeeded,
    /// One overlay each.
    Mounted,
    /// The kernel refused (an errno) for at least one, which was copied instead.
    Refused(i32),
}

/// Why a command never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{stage}{}: {}", path_words(path), std::io::Error::from_raw_os_error(*errno))]
pub struct StartError {
    /// What was being done.
    pub stage: Stage,
    /// The kernel's answer.
    pub errno: i32,
    /// What it was done to; empty where no path is concerned.
    pub path: Bytes,
}

fn path_words(path: &Bytes) -> String {
    if path.0.is_empty() { String::new() } else { format!(" `{}`", path.as_path().display()) }
}

/// The steps of building a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Making namespaces.
    Namespaces,
    /// Mapping the user into its own user namespace.
    IdMap,
    /// Preparing the scratch folder.
    Scratch,
    /// Mounting the new root.
    Root,
    /// Showing a system folder.
    System,
    /// Making `/dev`.
    Devices,
    /// Mounting `/proc`.
    Proc,
    /// Bringing up the loopback interface.
    Loopback,
    /// Copying a declared input.
    Input,
    /// Showing a whole folder.
    WholeDir,
    /// Showing a bind.
    Bind,
    /// Entering the new root.
    Enter,
    /// Setting the host name.
    Hostname,
    /// Making processes and the pipes between them.
    Process,
    /// Entering the working directory.
    Cwd,
    /// Giving up capabilities.
    Privileges,
    /// Executing the program: it is missing or not executable.
    Exec,
    /// Executing the program: it is there, its interpreter or loader is not.
    Interpreter,
    /// The process that watches over the command died without a word (out of memory, say).
    Supervisor,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "making namespaces",
            Self::IdMap => "mapping the user",
            Self::Scratch => "preparing the scratch folder",
            Self::Root => "mounting the new root",
            Self::System => "showing the system folder",
            Self::Devices => "making `/dev`",
            Self::Proc => "mounting `/proc`",
            Self::Loopback => "bringing up the loopback interface",
            Self::Input => "copying the input",
            Self::WholeDir => "showing the input folder",
            Self::Bind => "showing",
            Self::Enter => "entering the new root",
            Self::Hostname => "setting the host name",
            Self::Process => "making processes",
            Self::Cwd => "entering the working directory",
            Self::Privileges => "giving up capabilities",
            Self::Exec => "executing",
            Self::Interpreter => "finding the interpreter or loader of",
            Self::Supervisor => "watching over the command",
        })
    }
}

/// A spec or report that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Not such a file, or one of another version.
    #[error("not a sandbox file of version {VERSION}")]
    Header,
    /// The body does not decode or encode.
    #[error("sandbox file does not decode")]
    Body(#[from] postcard::Error),
}

impl SandboxSpec {
    /// The bytes of a spec file.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        encode(SPEC_MAGIC, self)
    }

    /// Reads the bytes of a spec file.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(SPEC_MAGIC, bytes)
    }
}

impl Report {
    /// The bytes of a report file.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        encode(REPORT_MAGIC, self)
    }

    /// Reads the bytes of a report file.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(REPORT_MAGIC, bytes)
    }

    /// A report about a command that never ran.
    pub(crate) fn not_started(error: StartError) -> Self {
        Self {
            end: End::NotStarted(error),
            cost: Cost::default(),
            observe: Observe::Off,
            lookups: Lookups::default(),
            overlay: Overlay::NotNeeded,
        }
    }
}

pub(super) fn encode<T: Serialize>(magic: &[u8; 7], value: &T) -> Result<Vec<u8>, FormatError> {
    let mut bytes = magic.to_vec();
    bytes.push(VERSION);
    Ok(postcard::to_extend(value, bytes)?)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(magic: &[u8; 7], bytes: &'a [u8]) -> Result<T, FormatError> {
    let body = bytes.strip_prefix(magic).and_then(|rest| rest.strip_prefix(&[VERSION]));
    Ok(postcard::from_bytes(body.ok_or(FormatError::Header)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_round_trips_and_foreign_bytes_are_refused() {
        let spec = SandboxSpec {
            argv: vec![Bytes(b"a\xff\n".to_vec())],
            keep_fds: vec![3, -1],
            network: true,
            ..SandboxSpec::default()
        };
        let bytes = spec.encode().unwrap();
        assert_eq!(SandboxSpec::decode(&bytes).unwrap(), spec);
        assert!(matches!(Report::decode(&bytes), Err(FormatError::Header)));
        assert!(matches!(SandboxSpec::decode(&bytes[..bytes.len() - 1]), Err(FormatError::Body(_))));
        assert!(matches!(SandboxSpec::decode(b""), Err(FormatError::Header)));
    }

    #[test]
    fn start_error_names_path_and_cause() {
        let error = StartError { stage: Stage::Exec, errno: libc::ENOENT, path: Bytes::from("/no/such") };
        assert_eq!(error.to_string(), "executing `/no/such`: No such file or directory (os error 2)");
    }
}
