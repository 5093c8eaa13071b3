//! What is asked of outputs: that they are there, not empty, and for the right machine. Reads files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use spolia_core::action::Output;
use spolia_core::digest::DigestFunction;
use spolia_core::elf::{self, Machine};
use spolia_core::{Action, Digest, RelPath};

/// How much of a file is read to find its machine: an archive's symbol index stands before its objects.
const HEAD_BYTES: u64 = 1 << 20;

/// What is wrong with an output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It is not there.
    #[error("the output `{path}` was not written to `${{out}}`")]
    Missing {
        /// Which.
        path: RelPath,
    },
    /// It has no bytes, or no files.
    #[error("the output `{path}` is empty")]
    Empty {
        /// Which.
        path: RelPath,
    },
    /// It is for another machine.
    #[error("`{path}` is for {found}, but {platform} is {wanted}")]
    Machine {
        /// Which file.
        path: RelPath,
        /// What it is for.
        found: Machine,
        /// What was wanted.
        wanted: Machine,
        /// The platform's name.
        platform: String,
    },
    /// It is not the source that the manifest names.
    #[error("`{path}` has {found}, but the manifest says {wanted}")]
    Source {
        /// Which file.
        path: RelPath,
        /// What it hashes to.
        found: Digest,
        /// What the manifest says.
        wanted: Digest,
    },
    /// The command has replaced `${out}` itself.
    #[error("`${{out}}` itself was replaced by something that is no folder")]
    Replaced,
    /// It cannot be read.
    #[error("cannot read the output `{path}`: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Every mistake in the outputs of `action` below `out`, in the order they were declared.
pub fn outputs(action: &Action, out: &Path) -> Vec<OutputError> {
    // Everything below is looked for through it, so it must be the folder that we have made.
    if !std::fs::symlink_metadata(out).is_ok_and(|found| found.is_dir()) {
        return if action.outputs.is_empty() { Vec::new() } else { vec![OutputError::Replaced] };
    }
    let mut errors = Vec::new();
    for output in &action.outputs {
        if let Err(error) = one(action, output, out) {
            errors.push(error);
        }
    }
    errors
}

fn one(action: &Action, output: &Output, out: &Path) -> Result<(), OutputError> {
    let path = output.path.under(out);
    let read = |source| OutputError::Read { path: path.clone(), source };
    let found = match std::fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Err(OutputError::Missing { path: output.path.clone() });
        }
        Err(error) => return Err(read(error)),
    };
    if found.is_file() && found.len() == 0 && !output.allow_empty {
        return Err(OutputError::Empty { path: output.path.clone() });
    }
    if found.is_dir() {
        let empty = folder(action, output, &output.path, &path)?;
        return if empty && !output.allow_empty {
            Err(OutputError::Empty { path: output.path.clone() })
        } else {
            Ok(())
        };
    }
    if found.is_file() {
        machine(action, output, &output.path, &path)?;
        source(action, &output.path, &path)?;
    }
    Ok(())
}

/// Whether the folder has no file in it.
fn folder(action: &Action, output: &Output, at: &RelPath, path: &Path) -> Result<bool, OutputError> {
    let read = |source| OutputError::Read { path: path.to_owned(), source };
    let mut empty = true;
    for entry in std::fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        let kind = entry.file_type().map_err(read)?;
        let name = std::os::unix::ffi::OsStrExt::as_bytes(entry.file_name().as_os_str()).to_vec();
        let Ok(below) = at.child(&name) else { continue };
        if kind.is_dir() {
            empty &= folder(action, output, &below, &entry.path())?;
        } else {
            empty = false;
            if kind.is_file() {
                machine(action, output, &below, &entry.path())?;
            }
        }
    }
    Ok(empty)
}

fn machine(action: &Action, output: &Output, at: &RelPath, path: &Path) -> Result<(), OutputError> {
    let Some(wanted) = action.platform.elf_machine().filter(|_| !output.any_machine) else { return Ok(()) };
    let read = |source| OutputError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let mut header = [0; elf::HEADER_BYTES];
    let length = read_full(&file, &mut header).map_err(read)?;
    let header = &header[..length];
    let found = if header.starts_with(b"!<arch>\n") {
        let mut head = header.to_vec();
        (&file).take(HEAD_BYTES).read_to_end(&mut head).map_err(read)?;
        elf::archive_machine(&head)
    } else {
        elf::machine(header)
    };
    match found {
        Some(found) if found != wanted => Err(OutputError::Machine {
            path: at.clone(),
            found,
            wanted,
            platform: action.platform.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Fills `into` as far as the file goes; how far. For so few bytes one call.
fn read_full(mut file: &File, into: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < into.len() {
        match file.read(&mut into[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn source(action: &Action, at: &RelPath, path: &Path) -> Result<(), OutputError> {
    let Some(wanted) = action.source else { return Ok(()) };
    let read = |source| OutputError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let found = match wanted.function() {
        DigestFunction::Sha256 => Digest::sha256_of(&mut file).map_err(read)?,
        DigestFunction::Blake3 => {
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(read)?;
            Digest::blake3(&content)
        }
    };
    if found == wanted { Ok(()) } else { Err(OutputError::Source { path: at.clone(), found, wanted }) }
}
