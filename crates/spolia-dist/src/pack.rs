//! `PlatformPlan → a file in a stage`. Knows no name under which it will be seen.

use std::fs::OpenOptions;
use std::path::Path;

use spolia_engine::Cancel;

use crate::archive::{self, Options, Written};
use crate::error::DistError;
use crate::manifest::{Checksum, Dist};
use crate::plan::PlatformPlan;

/// How to pack.
pub struct Packing<'p> {
    /// Compressors at once.
    pub threads: usize,
    /// Stops it.
    pub cancel: &'p Cancel,
    /// Told of every so many bytes that were read.
    pub on_bytes: &'p (dyn Fn(u64) + Sync),
}

/// Writes the archive of `plan` into the folder `stage`, under its own name.
///
/// # Errors
/// See [`archive::write`].
pub fn pack(
    dist: &Dist,
    plan: &PlatformPlan,
    epoch: u64,
    sums: &[Checksum],
    stage: &Path,
    how: &Packing<'_>,
) -> Result<Written, DistError> {
    let path = stage.join(&plan.archive);
    let opened = OpenOptions::new().write(true).create_new(true).open(&path);
    let file = opened.map_err(|source| DistError::io("create", &path, source))?;
    let machine = plan.platform.elf_machine().filter(|_| !dist.any_machine);
    let options = Options {
        archive: &plan.archive,
        format: plan.format,
        level: dist.level,
        epoch,
        threads: how.threads,
        machine: machine.map(|machine| (machine, plan.platform.to_string())),
        sums,
        cancel: how.cancel,
        on_bytes: how.on_bytes,
    };
    archive::write(&plan.members, &file, &path, &options)
}
