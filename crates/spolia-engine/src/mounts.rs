//! Cache mounts: folders that live on between runs, one set for each project. Their content is never keyed.
//!
//! `v1/mounts/OWNER/ID` in the store, where `OWNER` tells projects, platforms and steps apart as the
//! mount's scope asks, and `ID.1`, `ID.2`, … where a private one is in use.

use std::path::{Path, PathBuf};

use spolia_core::action::{Mount, MountScope, Sharing};
use spolia_core::{Digest, Platform};
use spolia_store::mounts::{self, SharedUse};
use spolia_store::{KeyLock, LocalStore, StoreError, Waiting};

/// How many folders of one private mount there may be.
const PRIVATE_MAX: u32 = 1024;

/// A mount that is ready, held until it is dropped.
pub struct Mounted {
    /// Where the command sees it.
    pub inside: String,
    /// Its folder.
    pub folder: PathBuf,
    _use: Use,
}

/// What is held while a mount is in use.
enum Use {
    Alone(#[expect(dead_code, reason = "dropping it lets go")] KeyLock),
    Shared(#[expect(dead_code, reason = "dropping it lets go")] SharedUse),
    /// Nobody else knows the folder.
    Own,
}

impl Mounted {
    /// `mount` in a `folder` that is the run's own, where the store cannot give one.
    pub fn of_its_own(mount: &Mount, folder: PathBuf) -> Self {
        Self { inside: mount.path.clone(), folder, _use: Use::Own }
    }
}

/// Who a mount belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'o> {
    /// The project's name, or its folder.
    pub project: &'o str,
    /// The step's name.
    pub step: &'o str,
    /// The platform.
    pub platform: &'o Platform,
}

impl Owner<'_> {
    fn folder_name(&self, scope: MountScope) -> String {
        let Self { project, step, platform } = self;
        let text = match scope {
            MountScope::Project => format!("{project}\0"),
            MountScope::Platform => format!("{project}\0{platform}"),
            MountScope::Step => format!("{project}\0{platform}\0{step}"),
        };
        Digest::blake3(text.as_bytes()).short()
    }
}

/// Makes `mount` ready; `None` if `wait` gave up on a locked one.
///
/// # Errors
/// Its folder or lock cannot be made.
pub fn take(
    store: &LocalStore,
    mount: &Mount,
    owner: Owner<'_>,
    wait: &mut dyn FnMut(Waiting) -> bool,
) -> Result<Option<Mounted>, StoreError> {
    let above = store.base().join("mounts").join(owner.folder_name(mount.scope));
    make(&above)?;
    let mounted = |folder: PathBuf, held| -> Result<Option<Mounted>, StoreError> {
        make(&folder)?;
        mounts::note_use(&folder);
        Ok(Some(Mounted { inside: mount.path.clone(), folder, _use: held }))
    };
    match mount.sharing {
        Sharing::Shared => match mounts::share(&above.join(&mount.id), wait)? {
            Some(held) => mounted(above.join(&mount.id), Use::Shared(held)),
            None => Ok(None),
        },
        Sharing::Locked => match KeyLock::acquire(&lock_path(&above, &mount.id), wait)? {
            Some(lock) => mounted(above.join(&mount.id), Use::Alone(lock)),
            None => Ok(None),
        },
        Sharing::Private => {
            for number in 0..PRIVATE_MAX {
                let name = if number == 0 { mount.id.clone() } else { format!("{}.{number}", mount.id) };
                if let Some(lock) = KeyLock::acquire(&lock_path(&above, &name), &mut |_| false)? {
                    return mounted(above.join(name), Use::Alone(lock));
                }
            }
            Ok(None)
        }
    }
}

fn lock_path(above: &Path, name: &str) -> PathBuf {
    mounts::lock_path(&above.join(name))
}

fn make(folder: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(folder).map_err(|source| StoreError::Io {
        verb: "create",
        path: folder.to_owned(),
        source,
    })
}
