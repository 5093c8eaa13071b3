//! Builds the file system that a command sees: spec → mounts under `scratch/r`. Knows neither the command nor who
//! waits for it.
//!
//! The scratch folder, while a command runs (each name only if it is needed):
//!
//! ```text
//! .               the new root, a tmpfs, is mounted over the folder in the sandbox's mount namespace
//! tmp/            shown as /tmp and /var/tmp; it, home/ and tree/ may be there from a former run (`scratch.rs`)
//! home/           shown where the spec says
//! tree/           the project root if few inputs are single: their copies, mount points of whole folders
//! stage/          else: copies of large single inputs, the lower layer behind the small ones, which are in memory;
//!                 above both lies the layer tree/, with its work folder treew/
//! Nu/ Nw/         upper and work folder of the overlay on whole folder N
//! ```
//!
//! Making and removing a file on disk costs several times what it costs in memory, so many small inputs are staged in
//! memory and only what the command writes goes to disk.
//!
//! What is the same in all sandboxes of a launcher (system folders, devices, empty folders to show things at) it has put
//! together once, as the *frame*; each sandbox takes a copy of those mounts and adds its own. The frame's folders are
//! read-only and shared, so what would need a folder or file of its own in it gets one in a small tmpfs in one of the spec's
//! rooms, or, where that does not do, a root all of its own.
//!
//! All host paths that come from outside reach the kernel either as a descriptor or as one plain argument, never
//! inside an option string, so that no byte in them has a meaning.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::copy::Copier;
use super::scratch::KEPT;
use super::spec::{Bind, Bytes, Overlay, SandboxSpec, Stage, StartError};
use crate::sys;

/// Says at which stage, and about which path, a system call failed.
pub(super) trait Context<T> {
    fn at(self, stage: Stage, path: impl AsRef<OsStr>) -> Result<T, StartError>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn at(self, stage: Stage, path: impl AsRef<OsStr>) -> Result<T, StartError> {
        self.map_err(|errno| StartError { stage, errno: errno.raw_os_error(), path: path.as_ref().into() })
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn at(self, stage: Stage, path: impl AsRef<OsStr>) -> Result<T, StartError> {
        self.map_err(|error| StartError {
            stage,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            path: path.as_ref().into(),
        })
    }
}

const FOLDER: Mode = Mode::from_raw_mode(0o755);

/// From this many single inputs on an overlay over copies in memory is cheaper than copies on disk.
const STAGE_FILES_MIN: usize = 8;

/// Where a launcher's frame is mounted: a folder that no sandbox shows.
const FRAME: &str = "/sys";

/// What a launcher's frame was made for.
#[derive(PartialEq, Eq)]
pub(super) struct Frame {
    system: Vec<Bytes>,
    folders: Vec<Bytes>,
}

impl Frame {
    /// Puts the frame together, in a mount namespace that this process has to itself from then on. Only for launchers: it
    /// covers a folder of the host.
    pub(super) fn make(spec: &SandboxSpec, user_namespace: bool) -> Result<Self, StartError> {
        sys::unshare_namespaces(libc::CLONE_NEWNS).at(Stage::Namespaces, "")?;
        // What is mounted on the host meanwhile shall be seen, and nothing of ours there.
        rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .at(Stage::Root, "/")?;
        let mask = rustix::process::umask(Mode::empty());
        let made = Self::fill(spec, user_namespace);
        rustix::process::umask(mask);
        made
    }

    fn fill(spec: &SandboxSpec, user_namespace: bool) -> Result<Self, StartError> {
        mount_root(FRAME)?;
        let root =
            rustix::fs::open(FRAME, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, FRAME)?;
        let mut builder = RootBuilder { spec, user_namespace, root, made: HashSet::new(), rooms: Vec::new() };
        builder.show_system(false)?;
        for folder in ["/tmp", "/run", "/proc"] {
            builder.folder(Path::new(folder), Stage::Root)?;
        }
        for folder in &spec.folders {
            builder.folder(folder.as_path(), Stage::Root)?;
        }
        builder.make_devices()?;
        sys::mount_set(&builder.root, sys::MOUNT_RDONLY, false).at(Stage::Root, FRAME)?;
        Ok(Self { system: spec.system.clone(), folders: spec.folders.clone() })
    }

    /// Whether a sandbox of this spec can do with it.
    pub(super) fn fits(&self, spec: &SandboxSpec) -> bool {
        let has = |path: &Bytes| self.folders.contains(path);
        let in_room = |path: &Bytes| spec.rooms.iter().any(|room| has(room) && is_below(path, room));
        let shown = |bind: &Bind| {
            !bind.writable
                && bind.host == bind.inside
                && spec.system.iter().any(|system| is_below(&bind.inside, system))
        };
        self.system == spec.system
            // Their files lie where the host's administrator has put them.
            && !spec.network
            && !spec.system.iter().any(|folder| is_in_private(spec, folder.as_path()))
            && has(&spec.root.inside)
            && (spec.home.0.is_empty() || has(&spec.home))
            && spec.binds.iter().all(|bind| has(&bind.inside) || in_room(&bind.inside) || shown(bind))
    }
}

fn is_below(path: &Bytes, folder: &Bytes) -> bool {
    path != folder && path.as_path().starts_with(folder.as_path())
}

/// Whether one of the private folders will be shown over or above this path.
fn is_in_private(spec: &SandboxSpec, path: &Path) -> bool {
    let home = spec.home.as_path();
    path.starts_with("/tmp")
        || path.starts_with("/var/tmp")
        || (!home.as_os_str().is_empty() && path.starts_with(home))
}

/// The new root under construction.
pub(super) struct RootBuilder<'a> {
    spec: &'a SandboxSpec,
    user_namespace: bool,
    /// The root of the new root, to which no path leads yet.
    root: OwnedFd,
    /// Inside folders known to be there.
    made: HashSet<Vec<u8>>,
    /// Rooms of the frame that have got something of their own to write in.
    rooms: Vec<(&'a Bytes, OwnedFd)>,
}

/// Builds the root of `spec`, in the launcher's frame if that fits; the working directory becomes the scratch folder. For
/// pid 1 of the sandbox, in a mount namespace of its own.
pub(super) fn build(
    spec: &SandboxSpec,
    user_namespace: bool,
    framed: bool,
) -> Result<(OwnedFd, Overlay), StartError> {
    rustix::process::umask(Mode::empty());
    rustix::process::chdir(spec.scratch.as_path()).at(Stage::Scratch, spec.scratch.as_path())?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at(Stage::Root, "/")?;
    // Over the working directory, which stays what is beneath.
    let root = if framed {
        let tree = clone_tree(CWD, Path::new(FRAME), Stage::Root)?;
        let over =
            rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, ".")?;
        attach(&tree, &over).at(Stage::Root, spec.scratch.as_path())?;
        tree
    } else {
        mount_root(".")?;
        rustix::fs::open(spec.scratch.as_path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .at(Stage::Root, spec.scratch.as_path())?
    };
    let mut builder = RootBuilder { spec, user_namespace, root, made: HashSet::new(), rooms: Vec::new() };
    if !framed {
        builder.show_system(false)?;
    }
    builder.show_private()?;
    if !framed {
        builder.show_system(true)?;
    }
    builder.hide_own()?;
    if spec.network {
        builder.show_resolver()?;
    }
    if !framed {
        builder.make_devices()?;
    }
    builder.mount_devices()?;
    builder.show_proc()?;
    let overlay = builder.show_project()?;
    builder.show_binds(framed)?;
    // Nothing that is written beside the private folders stays in memory, because nothing can be.
    let rooms = builder.rooms.iter().map(|(_, room)| room);
    for written in rooms.chain((!framed).then_some(&builder.root)) {
        sys::mount_set(written, sys::MOUNT_RDONLY, false).at(Stage::Root, "/")?;
    }
    Ok((builder.root, overlay))
}

/// An empty root at a folder of the present one.
fn mount_root(at: &str) -> Result<(), StartError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("spolia", at, "tmpfs", flags, c"mode=755,size=4m").at(Stage::Root, at)
}

/// Makes `root` the root of this process and lets go of the host's.
pub(super) fn enter(root: &OwnedFd) -> Result<(), StartError> {
    rustix::process::fchdir(root).at(Stage::Enter, "/")?;
    // Both names at once: the old root ends up on top of the new one, and is taken off again.
    rustix::process::pivot_root(".", ".").at(Stage::Enter, "/")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at(Stage::Enter, "/")?;
    rustix::process::chdir("/").at(Stage::Enter, "/")
}

/// Where a call takes no descriptor: a name for it.
fn name_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl RootBuilder<'_> {
    /// Makes a folder in the scratch folder, which is the working directory; a former run may have left one of the kind.
    fn make_scratch(&self, name: &str, mode: u32) -> Result<(), StartError> {
        match rustix::fs::mkdir(name, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) if self.spec.scratch_used && KEPT.contains(&(name, mode)) => Ok(()),
            made => made.at(Stage::Scratch, name),
        }
    }

    fn show_system(&mut self, of_private: bool) -> Result<(), StartError> {
        let spec = self.spec;
        for folder in spec.system.iter().map(Bytes::as_path) {
            if is_in_private(spec, folder) == of_private {
                self.show_system_folder(folder)?;
            }
        }
        Ok(())
    }

    fn hide_own(&mut self) -> Result<(), StartError> {
        let spec = self.spec;
        let own = [&spec.scratch, &spec.root.host];
        own.into_iter().chain(&spec.hidden).try_for_each(|folder| self.hide(folder.as_path()))
    }

    fn show_system_folder(&mut self, folder: &Path) -> Result<(), StartError> {
        let kind = match rustix::fs::lstat(folder) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error).at(Stage::System, folder),
        };
        if kind == FileType::Symlink {
            let target = rustix::fs::readlink(folder, Vec::new()).at(Stage::System, folder)?;
            let (parent, name) = split(folder);
            let parent = self.folder(parent, Stage::System)?;
            return match rustix::fs::symlinkat(target, &parent, name) {
                Err(Errno::EXIST) => Ok(()),
                other => other.at(Stage::System, folder),
            };
        }
        self.show(folder, folder, kind == FileType::Directory, false, Stage::System)
    }

    /// Covers a host folder that a system folder shows.
    fn hide(&mut self, folder: &Path) -> Result<(), StartError> {
        let shown = self.spec.system.iter().any(|system| folder.starts_with(system.as_path()));
        if !shown {
            return Ok(());
        }
        let Ok(at) = self.look_up(folder, OFlags::DIRECTORY) else { return Ok(()) };
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
        rustix::mount::mount("spolia", name_of(&at), "tmpfs", flags, c"mode=755,size=4k")
            .at(Stage::System, folder)
    }

    /// Where `/etc/resolv.conf` is a link to a place that is not shown, shows that one file.
    fn show_resolver(&mut self) -> Result<(), StartError> {
        let Ok(real) = std::fs::canonicalize("/etc/resolv.conf") else { return Ok(()) };
        if self.spec.system.iter().any(|system| real.starts_with(system.as_path())) {
            return Ok(());
        }
        self.show(&real, &real, false, false, Stage::System)
    }

    fn show_private(&mut self) -> Result<(), StartError> {
        self.make_scratch("tmp", 0o1777)?;
        self.show(Path::new("tmp"), Path::new("/tmp"), true, true, Stage::Scratch)?;
        self.folder(Path::new("/run"), Stage::Root)?;
        if self.spec.system.iter().any(|system| system.0 == b"/var")
            && self.look_up(Path::new("/var/tmp"), OFlags::DIRECTORY).is_ok()
        {
            self.show(Path::new("tmp"), Path::new("/var/tmp"), true, true, Stage::Scratch)?;
        }
        if self.spec.home.0.is_empty() {
            return Ok(());
        }
        self.make_scratch("home", 0o755)?;
        self.show(Path::new("home"), self.spec.home.as_path(), true, true, Stage::Scratch)
    }

    fn make_devices(&mut self) -> Result<(), StartError> {
        let dev = self.folder(Path::new("/dev"), Stage::Devices)?;
        for name in ["null", "zero", "full", "random", "urandom"] {
            let path = Path::new("/dev").join(name);
            self.show(&path, &path, false, true, Stage::Devices)?;
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ];
        for (name, target) in links {
            rustix::fs::symlinkat(target, &dev, name).at(Stage::Devices, name)?;
        }
        // Where no terminals are to be had it leads nowhere.
        rustix::fs::symlinkat("pts/ptmx", &dev, "ptmx").at(Stage::Devices, "ptmx")?;
        for folder in ["/dev/shm", "/dev/pts"] {
            self.folder(Path::new(folder), Stage::Devices)?;
        }
        Ok(())
    }

    /// What may not be another sandbox's, too.
    fn mount_devices(&self) -> Result<(), StartError> {
        let shm = self.look_up(Path::new("/dev/shm"), OFlags::DIRECTORY).at(Stage::Devices, "/dev/shm")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("spolia", name_of(&shm), "tmpfs", flags, c"mode=1777")
            .at(Stage::Devices, "/dev/shm")?;
        let pts = self.look_up(Path::new("/dev/pts"), OFlags::DIRECTORY).at(Stage::Devices, "/dev/pts")?;
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        let options = c"newinstance,ptmxmode=0666,mode=620";
        // A build without terminals is still a build.
        let _terminals = rustix::mount::mount("spolia", name_of(&pts), "devpts", flags, options);
        Ok(())
    }

    fn show_proc(&mut self) -> Result<(), StartError> {
        let proc = self.folder(Path::new("/proc"), Stage::Proc)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match rustix::mount::mount("spolia", name_of(&proc), "proc", flags, None) {
            Ok(()) => {}
            // Where parts of the host's own are covered, as in containers, the kernel refuses a new one.
            Err(Errno::PERM) => {
                return self.show(Path::new("/proc"), Path::new("/proc"), true, true, Stage::Proc);
            }
            Err(error) => return Err(error).at(Stage::Proc, "/proc"),
        }
        if self.user_namespace {
            return Ok(());
        }
        // Root needs no capability to write there, the files' owner is enough.
        for name in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"] {
            let path = Path::new(name);
            match self.look_up(path, OFlags::empty()) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).at(Stage::Proc, path),
                Ok(there) => {
                    let tree = clone_tree(&there, Path::new(""), Stage::Proc)?;
                    sys::mount_set(&tree, sys::MOUNT_RDONLY, true).at(Stage::Proc, path)?;
                    attach(&tree, &there).at(Stage::Proc, path)?;
                }
            }
        }
        Ok(())
    }

    fn show_project(&mut self) -> Result<Overlay, StartError> {
        let project = &self.spec.root;
        let host = rustix::fs::open(
            project.host.as_path(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at(Stage::Input, project.host.as_path())?;
        let mut copier = Copier::new(host);
        let refused = if project.files.len() < STAGE_FILES_MIN {
            self.show_tree(&mut copier)?;
            None
        } else {
            self.show_staged(&mut copier)?
        };
        let overlay = refused.map_or(Overlay::NotNeeded, |errno| Overlay::Refused(errno.raw_os_error()));
        self.show_whole_dirs(overlay, &mut copier)
    }

    /// Shows copies on disk.
    fn show_tree(&mut self, copier: &mut Copier) -> Result<(), StartError> {
        let project = &self.spec.root;
        self.make_scratch("tree", 0o755)?;
        copier.copy_all(project, open_scratch("tree")?, None)?;
        self.show(Path::new("tree"), project.inside.as_path(), true, true, Stage::Scratch)
    }

    /// Shows an overlay over copies in memory; where overlays are refused, copies on disk, and says why.
    fn show_staged(&mut self, copier: &mut Copier) -> Result<Option<Errno>, StartError> {
        let project = &self.spec.root;
        let inside = project.inside.as_path();
        for name in ["stage", "tree", "treew"] {
            self.make_scratch(name, 0o755)?;
        }
        let target = self.folder(inside, Stage::Root)?;
        // Mounted where the overlay will be, which then covers what it is made of.
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("spolia", name_of(&target), "tmpfs", flags, c"mode=755")
            .at(Stage::Root, inside)?;
        let memory = self.look_up(inside, OFlags::DIRECTORY).at(Stage::Root, inside)?;
        copier.copy_all(project, open_scratch("stage")?, Some(&memory))?;
        let name = name_of(&memory);
        let layers = format!("lowerdir={name}:stage,upperdir=tree,workdir=treew");
        let Err(errno) = self.mount_layers(&name, &layers) else { return Ok(None) };
        rustix::mount::unmount(&*name, UnmountFlags::DETACH).at(Stage::Root, inside)?;
        for name in ["tree", "treew"] {
            super::remove_scratch(Path::new(name)).at(Stage::Scratch, name)?;
        }
        self.show_tree(copier)?;
        Ok(Some(errno))
    }

    fn show_whole_dirs(&self, mut overlay: Overlay, copier: &mut Copier) -> Result<Overlay, StartError> {
        let project = &self.spec.root;
        // An outer folder comes before those in it, which by then are there to be mounted on.
        let mut dirs: Vec<&Bytes> = project.whole_dirs.iter().collect();
        dirs.sort_unstable();
        for (number, relative) in dirs.into_iter().enumerate() {
            // A folder in its own upper layer, or copied into itself, has no end.
            if self.spec.scratch.as_path().starts_with(project.host.as_path().join(relative.as_path())) {
                return Err(Errno::INVAL).at(Stage::Scratch, self.spec.scratch.as_path());
            }
            let inside = Bytes([&project.inside.0, &b"/"[..], &relative.0].concat());
            let target =
                self.look_up(inside.as_path(), OFlags::DIRECTORY).at(Stage::Input, inside.as_path())?;
            match self.show_overlay(number, relative, copier.host(), &target) {
                Ok(()) if overlay == Overlay::NotNeeded => overlay = Overlay::Mounted,
                Ok(()) => {}
                Err(error) if error.stage == Stage::WholeDir => {
                    copier.copy_dir(relative, &name_of(&target))?;
                    overlay = Overlay::Refused(error.errno);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(overlay)
    }

    /// `Stage::WholeDir` in the error: the overlay was refused. Any other stage: the folder could not be opened.
    fn show_overlay(
        &self,
        number: usize,
        relative: &Bytes,
        host: &OwnedFd,
        target: &OwnedFd,
    ) -> Result<(), StartError> {
        let path = relative.as_path();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lower = rustix::fs::openat(host, path, flags, Mode::empty()).at(Stage::Input, path)?;
        let stat = rustix::fs::fstat(&lower).at(Stage::Input, path)?;
        let (upper, work) = (format!("{number}u"), format!("{number}w"));
        self.make_scratch(&upper, stat.st_mode & 0o7777 | 0o700)?;
        self.make_scratch(&work, 0o700)?;
        let layers = format!("lowerdir={},upperdir={upper},workdir={work}", name_of(&lower));
        self.mount_layers(&name_of(target), &layers).at(Stage::WholeDir, path)
    }

    fn mount_layers(&self, target: &str, layers: &str) -> Result<(), Errno> {
        // Without `redirect_dir` a rename of a folder from below is refused, and programs then copy; a user
        // namespace has no choice.
        let rights = if self.user_namespace { "userxattr" } else { "redirect_dir=on" };
        // `volatile` (Linux 5.10): else the unmount would wait for the host's whole disk to be synchronised.
        match mount_overlay(target, &format!("{layers},{rights},volatile")) {
            Err(Errno::INVAL) => mount_overlay(target, &format!("{layers},{rights}")),
            other => other,
        }
    }

    fn show_binds(&mut self, framed: bool) -> Result<(), StartError> {
        let mut binds: Vec<&Bind> = self.spec.binds.iter().collect();
        binds.sort_by(|a, b| a.inside.cmp(&b.inside));
        for bind in binds {
            let (host, inside) = (bind.host.as_path(), bind.inside.as_path());
            if !bind.writable && host == inside && self.is_shown_already(inside) {
                continue;
            }
            let stat = rustix::fs::stat(host).at(Stage::Bind, host)?;
            let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if framed {
                self.open_room(&bind.inside)?;
            }
            self.show(host, inside, folder, bind.writable, Stage::Bind)?;
        }
        Ok(())
    }

    /// Makes it possible to make folders in the room of the frame in which `inside` lies, if it lies in one.
    fn open_room(&mut self, inside: &Bytes) -> Result<(), StartError> {
        let Some(room) = self.spec.rooms.iter().find(|room| is_below(inside, room)) else { return Ok(()) };
        if self.rooms.iter().any(|(open, _)| *open == room) {
            return Ok(());
        }
        let path = room.as_path();
        let at = self.look_up(path, OFlags::DIRECTORY).at(Stage::Bind, path)?;
        mount_root(&name_of(&at))?;
        let own = self.look_up(path, OFlags::DIRECTORY).at(Stage::Bind, path)?;
        self.rooms.push((room, own));
        Ok(())
    }

    /// Whether a system folder shows the same thing at the same place, and nothing covers it.
    fn is_shown_already(&self, path: &Path) -> bool {
        let covered = [&self.spec.scratch, &self.spec.root.host];
        let mut covers = covered.into_iter().chain(&self.spec.hidden).map(Bytes::as_path);
        self.spec.system.iter().any(|system| path.starts_with(system.as_path()))
            && !is_in_private(self.spec, path)
            && !covers.any(|cover| path.starts_with(cover))
            && self.look_up(path, OFlags::empty()).is_ok()
    }

    /// Shows `host` and all that is mounted beneath it at `inside`, for which an empty file or folder is made.
    fn show(
        &mut self,
        host: &Path,
        inside: &Path,
        folder: bool,
        writable: bool,
        stage: Stage,
    ) -> Result<(), StartError> {
        let tree = clone_tree(CWD, host, stage)?;
        if !writable {
            sys::mount_set(&tree, sys::MOUNT_RDONLY | sys::MOUNT_NOSUID, true).at(stage, host)?;
        }
        let target = if folder { self.folder(inside, stage)? } else { self.file(inside, stage)? };
        attach(&tree, &target).at(stage, inside)
    }

    /// An inside path as a descriptor; links in it lead where they will lead the command.
    fn look_up(&self, inside: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// An inside folder, made with its parents if it is not there.
    fn folder(&mut self, inside: &Path, stage: Stage) -> Result<OwnedFd, StartError> {
        match self.look_up(inside, OFlags::DIRECTORY) {
            Err(Errno::NOENT) if self.made.insert(inside.as_os_str().as_bytes().to_vec()) => {}
            other => return other.at(stage, inside),
        }
        let (parent, name) = split(inside);
        let parent = self.folder(parent, stage)?;
        rustix::fs::mkdirat(&parent, name, FOLDER).at(stage, inside)?;
        self.look_up(inside, OFlags::DIRECTORY).at(stage, inside)
    }

    /// An inside file to mount on, made if it is not there.
    fn file(&mut self, inside: &Path, stage: Stage) -> Result<OwnedFd, StartError> {
        match self.look_up(inside, OFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.at(stage, inside),
        }
        let (parent, name) = split(inside);
        let parent = self.folder(parent, stage)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).at(stage, inside)?);
        self.look_up(inside, OFlags::empty()).at(stage, inside)
    }
}

/// A mount of `path`, from `folder` on, and of all that is mounted beneath; attached nowhere yet.
fn clone_tree(folder: impl AsFd, path: &Path, stage: Stage) -> Result<OwnedFd, StartError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(folder, path, flags).at(stage, path)
}

fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", both)
}

fn open_scratch(name: &str) -> Result<OwnedFd, StartError> {
    rustix::fs::open(name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Stage::Scratch, name)
}

fn mount_overlay(target: &str, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("spolia", target, "overlay", flags, options.as_c_str())
}

/// Parent and name of an absolute path; the root is its own parent, with an empty name.
fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default())
}

/// Whether an overlay can be mounted with its writable layer in `scratch`, which must be empty. In a mount namespace.
pub(super) fn try_overlay(scratch: impl AsFd, user_namespace: bool) -> Result<(), Errno> {
    rustix::process::fchdir(scratch)?;
    for name in ["lower", "upper", "work", "on"] {
        rustix::fs::mkdirat(CWD, name, Mode::from_raw_mode(0o700))?;
    }
    let rights = if user_namespace { "userxattr" } else { "redirect_dir=on" };
    let options = format!("lowerdir=lower,upperdir=upper,workdir=work,{rights}");
    let mounted = mount_overlay("on", &options);
    if mounted.is_ok() {
        rustix::mount::unmount("on", UnmountFlags::DETACH)?;
    }
    for name in ["lower", "upper", "on"] {
        rustix::fs::unlinkat(CWD, name, AtFlags::REMOVEDIR)?;
    }
    mounted
}
