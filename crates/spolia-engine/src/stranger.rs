//! This process as somebody else in its own eyes: another number for its user, and a folder that is in memory. Knows no
//! build.
//!
//! The kernel goes on taking it for its caller (`user_namespaces(7)`), so that it may read and write what the caller may, and
//! no right is needed for it that an ordinary user lacks.

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::sys;

/// Whoever becomes user and group `id` here. Only a process with one thread can.
pub struct Stranger(());

impl Stranger {
    /// Becomes it, in namespaces of its own for users and mounts.
    ///
    /// # Errors
    /// The kernel, or a container's rules, refuse it; nothing has changed then.
    pub fn new(id: u32) -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let rights = rustix::thread::capabilities(None)?.effective;
        if uid == 0 && !rights.contains(CapabilitySet::SETFCAP) {
            // Since Linux 5.12 such a root may not give its number away, and would find out too late.
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        sys::unshare_namespaces(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
        for (path, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{id} {uid} 1")),
            ("/proc/self/gid_map", format!("{id} {gid} 1")),
        ] {
            std::fs::write(path, text)?;
        }
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(Self(()))
    }

    /// Puts an empty file system in memory at `folder`, which this process and its children alone see.
    ///
    /// # Errors
    /// Those of mounting.
    pub fn in_memory(&self, folder: &Path) -> io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        Ok(rustix::mount::mount("spolia", folder, "tmpfs", flags, c"mode=700")?)
    }

    /// Shows the folder `from` at `to` as well.
    ///
    /// # Errors
    /// Those of mounting.
    pub fn show(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::mount::mount_bind(from, to)?)
    }

    /// Gives up the rights that made this possible: an ordinary user is left.
    ///
    /// # Errors
    /// The kernel's.
    pub fn settle(self) -> io::Result<()> {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }
}
