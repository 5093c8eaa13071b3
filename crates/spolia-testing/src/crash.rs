//! Stops a local store dead at a chosen step, and then does to its files what a power cut may do.

use std::fs;
use std::io::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use spolia_store::local::{Faults, Step};

use crate::random::Random;

/// Lets so many steps of a store happen and refuses every later one, clean-up included.
pub struct CrashPlan {
    left: AtomicU64,
    crashed: AtomicBool,
    seen: Mutex<Vec<Step>>,
}

impl CrashPlan {
    /// Crashes before step number `steps`, counted from 0.
    pub fn after(steps: u64) -> Self {
        Self { left: AtomicU64::new(steps), crashed: AtomicBool::new(false), seen: Mutex::new(Vec::new()) }
    }

    /// Whether a step was refused.
    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// The steps that happened.
    pub fn seen(&self) -> Vec<Step> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Faults for CrashPlan {
    fn before(&self, step: Step, _path: &Path) -> std::io::Result<()> {
        let happens = |left: u64| left.checked_sub(1);
        let refused = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, happens).is_err();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if refused {
            self.crashed.store(true, Ordering::SeqCst);
            return Err(Error::other("the machine has stopped"));
        }
        seen.push(step);
        Ok(())
    }
}

/// Does to some of the files below `folder` what a power cut does to what was never fsynced: the end is
/// missing, all is missing, a part is zero, a bit is flipped, the file itself is gone.
pub fn lose_writes(folder: &Path, random: &mut Random, one_in: u64) -> Vec<PathBuf> {
    let mut files = Vec::new();
    find(folder, &mut files);
    files.sort();
    files.retain(|_| random.one_in(one_in));
    for path in &files {
        damage(path, random);
    }
    files
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => find(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

fn damage(path: &Path, random: &mut Random) {
    let mut content = fs::read(path).expect("a file that was listed");
    let length = content.len() as u64;
    match random.below(5) {
        0 => content.clear(),
        1 => content.truncate(random.below(length + 1) as usize),
        2 => {
            let from = random.below(length + 1) as usize;
            content[from..].fill(0);
        }
        3 if length > 0 => content[random.below(length) as usize] ^= 1 << random.below(8),
        _ => return fs::remove_file(path).expect("a file that was listed"),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("our own file");
    fs::write(path, content).expect("our own file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("our own file");
}
