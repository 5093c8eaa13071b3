//! The folders in which one task runs, and what it holds meanwhile. Knows no outputs.
//!
//! In the sandbox they are below `.spolia/tmp/PID.NUMBER`, emptied after a run and used for other ones of the same
//! build: its processes have all ended, so nobody can still write there. On the host they are the same
//! for each run of a step, since outputs may embed their paths:
//!
//! ```text
//! .spolia/work/NAME.out      ${out}; empty, or gone, after a run
//! .spolia/work/NAME.tmp      HOME and TMPDIR; empty and marked by its sticky bit once the run has ended,
//!                            so unmarked while one is under way or after it was killed
//! NAME = STEP@PLATFORM with `_` for `/`, or the digest of a long one
//! ```
//!
//! Emptied folders stay: where ext4 has no journal, each one removed makes the next ones dear for minutes. And the
//! next step of the same thread gets the `.tmp` of the last one under its own name ([`Hand`]), for a new folder costs twice
//! as much as another name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags};
use spolia_core::Digest;
use spolia_core::event::StepId;
use spolia_engine::Places;
use spolia_engine::mounts::Mounted;
use spolia_engine::perform::chain;
use spolia_engine::sandbox::{is_as_made, is_empty_folder, note_ended, remove_scratch, take_ended};
use spolia_store::{Lock, StatKey};

use crate::build::Build;
use crate::claim::Claim;
use crate::manifest::EngineKind;
use crate::worker::Task;

/// Longer names are replaced by their digest.
const NAME_BYTES_MAX: usize = 200;

/// The scratch folder on the host of the last step that a thread has run, for its next one. The lock on the last step's
/// folders is held with it, for else another build may use them: so whoever is about to wait for anything lets go first.
#[derive(Default)]
pub(crate) struct Hand(RefCell<Option<Carried>>);

struct Carried {
    /// `None` once another step has it.
    scratch: Option<PathBuf>,
    /// Of the step that it was made for.
    _folders: Lock,
}

impl Hand {
    /// What is carried is left where it is, for the next run of its step.
    pub(crate) fn let_go(&self) {
        drop(self.0.take());
    }

    /// Gives what is carried the name `scratch`, where nothing has it; whether that is done.
    fn give(&self, scratch: &Path) -> bool {
        let Some(mut carried) = self.0.take() else { return false };
        let given = carried.scratch.as_ref().is_some_and(|carried| {
            rustix::fs::renameat_with(CWD, carried, CWD, scratch, RenameFlags::NOREPLACE).is_ok()
        });
        if given {
            carried.scratch = None;
        }
        given
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch
            && !note_ended(scratch)
        {
            drop(remove_scratch(scratch));
        }
    }
}

/// The folders of one task, from its start until its outputs are published.
pub(crate) struct Workplace<'b> {
    build: &'b Build<'b>,
    task: &'b Task,
    hand: &'b Hand,
    folders: Folders,
    held: Mutex<Held>,
}

/// Where the run's own folders are.
enum Folders {
    Sandbox { above: PathBuf, ready: AtomicBool },
    Host { above: PathBuf, name: String },
}

#[derive(Default)]
struct Held {
    mounts: Vec<Mounted>,
    /// Folders in place of cache mounts that the store could not give.
    own_mounts: BTreeMap<String, PathBuf>,
    needs: Vec<Option<Lock>>,
    /// On the host.
    folders: Option<Lock>,
    /// The scratch folder on the host as the run got it, where anything that is done to it shows.
    untouched: Option<StatKey>,
    /// Whether the folder of outputs is somewhere else now.
    out_has_gone: bool,
}

impl Folders {
    fn scratch(&self) -> PathBuf {
        match self {
            Self::Sandbox { above, .. } => above.join("scratch"),
            Self::Host { above, name } => above.join(format!("{name}.tmp")),
        }
    }

    fn out(&self) -> PathBuf {
        match self {
            Self::Sandbox { above, .. } => above.join("out"),
            Self::Host { above, name } => above.join(format!("{name}.out")),
        }
    }
}

impl<'b> Workplace<'b> {
    pub(crate) fn new(build: &'b Build<'b>, task: &'b Task, hand: &'b Hand) -> Self {
        let id = &build.graph.node(task.id).id;
        let folders = match task.engine {
            EngineKind::Sandbox => {
                let spare = build.spare_workplaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let ready = AtomicBool::new(spare.is_some());
                let above = spare.unwrap_or_else(|| build.new_scratch());
                Folders::Sandbox { above, ready }
            }
            EngineKind::Host => Folders::Host { above: build.own().join("work"), name: name_of(id) },
        };
        Self { build, task, hand, folders, held: Mutex::default() }
    }

    /// Makes everything the run needs; called again for every try.
    pub(crate) fn prepare(&self) -> Result<Places, String> {
        let build = self.build;
        let node = build.graph.node(self.task.id);
        build.make_own_folders().map_err(|error| cannot(&build.own(), &error))?;
        let (scratch, out) = (self.folders.scratch(), self.folders.out());
        match &self.folders {
            Folders::Sandbox { ready, .. } if ready.swap(false, Ordering::Relaxed) => {}
            Folders::Sandbox { above, .. } => {
                make_empty(above)?;
                make_empty(&scratch)?;
                make_empty(&out)?;
            }
            Folders::Host { .. } => {
                self.make_scratch_alone(&scratch)?;
                make_empty(&out)?;
            }
        }
        // Whoever holds the outputs of another step must not wait for anything: so they come last.
        self.held().needs.clear();
        let mounts = self.mounts()?;
        let mut needs = BTreeMap::new();
        for need in &node.needs {
            let needed = build.graph.node(*need);
            let (folder, claimed) = build.needs_folder(*need, &self.task.action, self.task.engine)?;
            needs.insert(needed.id.step.clone(), folder);
            self.held().needs.push(claimed);
        }
        Ok(Places {
            root: build.session.root.clone(),
            out,
            scratch,
            needs,
            mounts,
            tools: self.task.tools.clone(),
            whole_folders: self.task.whole_folders.to_vec(),
            hidden: vec![build.session.store.dir().to_owned()],
        })
    }

    /// The folder of outputs itself was published.
    pub(crate) fn out_has_gone(&self) {
        self.held().out_has_gone = true;
    }

    /// After the command: lets go of what it needed.
    pub(crate) fn let_go(&self) {
        let mut held = self.held();
        held.needs.clear();
        held.mounts.clear();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the host one run at a time uses the folders of a step.
    fn make_scratch_alone(&self, scratch: &Path) -> Result<(), String> {
        let mut held = self.held();
        if held.folders.is_some() {
            held.untouched = None;
            return make_empty(scratch);
        }
        let lock = self.build.claim_or(self.task.id, Claim::Workplace, &|| self.hand.let_go());
        let lock = lock.map_err(|_| "it was stopped while another build used its folder")?;
        // Without it the folders are someone else's.
        held.folders = Some(lock.map_err(|error| chain(&error))?);
        if self.hand.give(scratch) {
            held.untouched = self.key_of(scratch);
            return Ok(());
        }
        match make(scratch) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if take_ended(scratch) {
                    return Ok(());
                }
                // A build was killed here, and its command may still be writing.
                spolia_engine::host::end_left_overs(scratch);
                make_empty(scratch)
            }
            made => made.map_err(|error| cannot(scratch, &error)),
        }
    }

    /// What `stat` says of a folder; `None` where it may say the same after a change.
    fn key_of(&self, folder: &Path) -> Option<StatKey> {
        let key = StatKey::of(&rustix::fs::lstat(folder).ok()?);
        self.build.digests.tells_changes_apart(key.dev).then_some(key)
    }

    fn mounts(&self) -> Result<Vec<(String, PathBuf)>, String> {
        let build = self.build;
        let id = &build.graph.node(self.task.id).id;
        let mut held = self.held();
        held.mounts.clear();
        let owner = spolia_engine::mounts::Owner {
            project: &build.project_name(),
            step: &id.step,
            platform: &id.platform,
        };
        // In one order everywhere, so that two steps with the same locked mounts cannot wait for each other.
        let mut wanted: Vec<_> = self.task.action.mounts.iter().collect();
        wanted.sort_by_key(|mount| (&mount.id, &mount.path));
        for mount in wanted {
            let cancel = build.session.cancel;
            let mut wait = |_| !cancel.is_cancelled();
            let taken = spolia_engine::mounts::take(&build.session.store, mount, owner, &mut wait);
            let mounted = match taken {
                Ok(Some(mounted)) => mounted,
                Ok(None) => return Err(format!("the cache mount `{}` is in use", mount.id)),
                // It holds nothing that a build needs: only time is lost.
                Err(error) => {
                    let folder = match held.own_mounts.get(&mount.id) {
                        Some(folder) => folder.clone(),
                        None => {
                            let folder = build.new_scratch();
                            make_empty(&folder)?;
                            let why = chain(&error);
                            build.warn(
                                format!("{id}: the cache mount `{}` is empty and not kept: {why}", mount.id),
                                None,
                            );
                            held.own_mounts.insert(mount.id.clone(), folder.clone());
                            folder
                        }
                    };
                    Mounted::of_its_own(mount, folder)
                }
            };
            held.mounts.push(mounted);
        }
        Ok(held.mounts.iter().map(|mount| (mount.inside.clone(), mount.folder.clone())).collect())
    }
}

impl Drop for Workplace<'_> {
    fn drop(&mut self) {
        for folder in std::mem::take(&mut self.held().own_mounts).values() {
            drop(remove_scratch(folder));
        }
        // What stays is swept by the next build, or emptied by the next run.
        match &self.folders {
            Folders::Sandbox { above, .. } => {
                // What a run leaves in the other folder, the executor has emptied, or will before it is used.
                let out = self.folders.out();
                let emptied = is_unused(&out) || make_empty(&out).is_ok();
                if emptied && self.folders.scratch().is_dir() {
                    let spares = &self.build.spare_workplaces;
                    spares.lock().unwrap_or_else(PoisonError::into_inner).push(above.clone());
                } else {
                    drop(remove_scratch(above));
                }
            }
            Folders::Host { above, .. } => {
                let (lock, untouched, out_has_gone) = {
                    let mut held = self.held();
                    (held.folders.take(), held.untouched, held.out_has_gone)
                };
                let Some(lock) = lock else { return };
                let (scratch, out) = (self.folders.scratch(), self.folders.out());
                if !out_has_gone && is_empty_folder(&out) == Some(false) {
                    drop(remove_scratch(&out));
                }
                let mode = self.build.made_mode.get_or_init(|| mode_of(above));
                let carried = Carried { scratch: Some(scratch), _folders: lock };
                // It was given only because it was like new.
                let is_untouched = |scratch: &Path| {
                    untouched.is_some_and(|key| {
                        rustix::fs::lstat(scratch).is_ok_and(|stat| StatKey::of(&stat) == key)
                    })
                };
                let is_like_new = |scratch: &PathBuf| {
                    is_untouched(scratch) || mode.is_some_and(|mode| is_as_made(CWD, scratch, mode))
                };
                if carried.scratch.as_ref().is_some_and(is_like_new) {
                    self.hand.0.replace(Some(carried));
                }
            }
        }
    }
}

fn name_of(id: &StepId) -> String {
    // `@` is in no step's name, so no two nodes have the same folders.
    let name = format!("{}@{}", id.step, id.platform.to_string().replace('/', "_"));
    if name.len() > NAME_BYTES_MAX { Digest::blake3(name.as_bytes()).to_hex() } else { name }
}

/// Whether nobody can see that the folder was used before. The one above it was made as it was.
fn is_unused(path: &Path) -> bool {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let Ok(above) = std::fs::File::open(above) else { return false };
    let mode = above.metadata().map(|found| found.mode() & 0o7777);
    mode.is_ok_and(|mode| is_as_made(&above, name, mode))
}

fn mode_of(path: &Path) -> Option<u32> {
    path.symlink_metadata().ok().map(|found| found.mode() & 0o7777)
}

fn cannot(path: &Path, error: &std::io::Error) -> String {
    format!("cannot prepare `{}`: {error}", path.display())
}

/// Makes the folder `path`, and the one above it where that is missing.
fn make(path: &Path) -> std::io::Result<()> {
    match (std::fs::create_dir(path), path.parent()) {
        (Err(error), Some(above)) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(above)?;
            std::fs::create_dir(path)
        }
        (made, _) => made,
    }
}

/// Makes `path` a new folder, whatever was there.
fn make_empty(path: &Path) -> Result<(), String> {
    match make(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            remove_scratch(path).and_then(|()| std::fs::create_dir(path))
        }
        made => made,
    }
    .map_err(|error| cannot(path, &error))
}
