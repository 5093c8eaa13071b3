//! Removes what a command left in its scratch folder, whatever modes and depths it made, and makes the folder ready for
//! another one. Knows no namespace.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Folders deeper than this are first moved up, so that neither stack nor descriptors run out.
const DEPTH_MAX: usize = 64;

/// Makes the folder in which scratch folders are made and removed (one level of it, if it is not there), and tells the
/// file system that what is made in it does not belong together.
///
/// Where ext4 has no journal, an inode is not given out again for minutes after its file was removed, and looking for one
/// that may be costs up to a millisecond if thousands in the block group are waiting so (seen on 6.18: 0.8 ms a file). With
/// this hint each scratch folder starts in a block group of its own. Other file systems do not know it, which is fine.
pub fn prepare_scratch_parent(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = open(CWD, path)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&folder)
        && !flags.contains(IFlags::TOPDIR)
    {
        // Refused is as good as unknown.
        let _refused = rustix::fs::ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
    Ok(())
}

/// Removes the folder `path` and all in it. Folders that their owner may not read (overlay's work folder has mode 000,
/// and a command makes what it likes) are made readable first; links are removed, not followed. A folder that is not
/// there is no error. For the owner of the scratch folder, after the launcher has ended.
pub fn remove_scratch(path: &Path) -> io::Result<()> {
    let top = match open(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        // On the host a command can put anything in its place.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(rustix::fs::unlink(path)?),
        Err(error) => return Err(error.into()),
    };
    let mut remover = Remover { top, moved: 0 };
    // Each round flattens what was too deep; it moves folders only if it has removed whole levels above them.
    loop {
        let moved_before = remover.moved;
        let top = open(CWD, path)?;
        remover.empty(top, 0)?;
        if remover.moved == moved_before {
            break;
        }
    }
    Ok(rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// The folders that most sandboxes make in their scratch folder, and their modes.
pub(super) const KEPT: [(&str, u32); 5] =
    [("tmp", 0o1777), ("home", 0o755), ("tree", 0o755), ("treew", 0o755), ("stage", 0o755)];

/// Makes the scratch folder of a run that has ended ready for another: all in it goes, but for the folders that every run
/// needs, where they are as they were made. To make and to remove them costs more than to look. For its owner, after
/// the launcher has ended; an error leaves it fit for removal only.
pub fn reset_scratch(path: &Path) -> io::Result<()> {
    let mut remover = Remover { top: open(CWD, path)?, moved: 0 };
    loop {
        let moved_before = remover.moved;
        remover.empty_but_kept(open(CWD, path)?)?;
        if remover.moved == moved_before {
            return Ok(());
        }
    }
}

/// Whether `name` in `parent` is an empty folder of ours with this mode and no attributes: nobody can see that it was
/// used before.
pub fn is_as_made(parent: impl AsFd, name: impl rustix::path::Arg, mode: u32) -> bool {
    let Ok(folder) = open(parent, name) else { return false };
    let plain = rustix::fs::fstat(&folder).is_ok_and(|stat| {
        stat.st_mode & 0o7777 == mode
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_gid == rustix::process::getegid().as_raw()
    });
    let mut attributes = [0_u8; 1];
    // One that is there does not fit.
    let bare = match rustix::fs::flistxattr(&folder, &mut attributes[..]) {
        Ok(length) => length == 0,
        Err(error) => error == Errno::OPNOTSUPP,
    };
    plain && bare && is_empty(folder)
}

/// The bit that says of a scratch folder on the host that its run has ended, and with it all that ran there: who makes
/// the folder does not set it.
const ENDED: u32 = 0o1000;

/// Marks the scratch folder of a run that has ended, so that another may use it; whether it is one that is empty.
/// A mark costs a tenth of another name or of a new folder.
pub fn note_ended(path: &Path) -> bool {
    let mark = || -> Result<bool, Errno> {
        let folder = open(CWD, path)?;
        let mode = rustix::fs::fstat(&folder)?.st_mode & 0o7777;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode | ENDED))?;
        Ok(is_empty(folder))
    };
    mark().unwrap_or(false)
}

/// Takes a scratch folder that [`note_ended`] has marked, as it was made; whether there was such a one. The folder above
/// was made in the same way.
pub fn take_ended(path: &Path) -> bool {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let take = || -> Result<bool, Errno> {
        let above = open(CWD, above)?;
        let mode = rustix::fs::fstat(&above)?.st_mode & 0o7777;
        let made = is_as_made(&above, name, mode | ENDED);
        if made {
            rustix::fs::fchmod(&open(&above, name)?, Mode::from_raw_mode(mode))?;
        }
        Ok(made)
    };
    take().unwrap_or(false)
}

/// Whether `path` is a folder, not a link to one, with nothing in it; `None` where nothing stands.
pub fn is_empty_folder(path: &Path) -> Option<bool> {
    match open(CWD, path) {
        Err(Errno::NOENT) => None,
        folder => Some(folder.is_ok_and(is_empty)),
    }
}

fn is_empty(folder: OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut entries = RawDir::new(folder, &mut buffer);
    loop {
        match entries.next() {
            None => return true,
            Some(Ok(entry)) if entry.file_name() == c"." || entry.file_name() == c".." => {}
            Some(_) => return false,
        }
    }
}

struct Remover {
    top: OwnedFd,
    moved: usize,
}

impl Remover {
    /// Empties the scratch folder `top`; a folder that is kept goes only where it is not as it was made.
    fn empty_but_kept(&mut self, top: OwnedFd) -> Result<(), Errno> {
        let mut names: Vec<CString> = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(&top, &mut buffer);
        while let Some(entry) = entries.next() {
            let name = entry?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        for name in names {
            let kept = KEPT.iter().find(|(kept, _)| kept.as_bytes() == name.to_bytes());
            let is_right = || kept.is_some_and(|(_, mode)| is_as_made(&top, name.as_c_str(), *mode));
            if is_right() {
                continue;
            }
            match rustix::fs::unlinkat(&top, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
            if kept.is_some() {
                self.empty(open_any(&top, &name)?, 0)?;
            }
            if !is_right() {
                self.remove_folder(&top, &name, 0)?;
            }
        }
        Ok(())
    }

    fn empty(&mut self, folder: OwnedFd, depth: usize) -> Result<(), Errno> {
        let mut entries = Dir::new(folder)?;
        let mut folders: Vec<CString> = Vec::new();
        let mut names: Vec<CString> = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // Unknown types find out by trying.
            let list = if entry.file_type() == FileType::Directory { &mut folders } else { &mut names };
            list.push(name.to_owned());
        }
        let folder = entries.fd()?;
        for name in names {
            match rustix::fs::unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => folders.push(name),
                Err(error) => return Err(error),
            }
        }
        for name in folders {
            self.remove_folder(folder, &name, depth)?;
        }
        Ok(())
    }

    fn remove_folder(&mut self, parent: impl AsFd, name: &CString, depth: usize) -> Result<(), Errno> {
        // Most are empty or will be; asking costs less than looking.
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
        let folder = open_any(&parent, name)?;
        if depth >= DEPTH_MAX {
            self.moved += 1;
            return rustix::fs::renameat(&parent, name, &self.top, format!(".deep{}", self.moved));
        }
        self.empty(folder, depth + 1)?;
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
    }
}

fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Opens a folder so that its entries can be removed, giving its owner the right to if need be.
fn open_any(parent: impl AsFd, name: &CString) -> Result<OwnedFd, Errno> {
    let all = Mode::from_raw_mode(0o700);
    match open(&parent, name) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&parent, name, all, AtFlags::empty())?;
            open(&parent, name)
        }
        Ok(folder) => {
            let stat = rustix::fs::fstat(&folder)?;
            if stat.st_mode & 0o700 != 0o700 {
                rustix::fs::fchmod(&folder, all)?;
            }
            Ok(folder)
        }
        other => other,
    }
}
