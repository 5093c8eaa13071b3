//! Puts the library that `preload.c` became where the loader finds it. Knows no observer.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Empty where it could not be made for this machine.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));

/// The folder descriptor of a word; the same number stands in `preload.c`.
pub(super) const TELL: i32 = -0x5350_4f4c;

/// What a preloaded program says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word<'w> {
    /// The library is in the program.
    Loaded,
    /// It asked for this variable.
    Variable(&'w [u8]),
    /// It asked for the time of day.
    Clock,
}

impl<'w> Word<'w> {
    pub(super) fn parse(word: &'w [u8]) -> Option<Self> {
        match word {
            b"+" => Some(Self::Loaded),
            b"@" => Some(Self::Clock),
            _ => word.strip_prefix(b"=").map(Self::Variable),
        }
    }
}

/// Writes the library into `folder`, under a name that says which one it is; only where it is not there yet.
///
/// # Errors
/// Those of writing; [`io::ErrorKind::Unsupported`] where this build has no library for the machine.
pub fn install(folder: &Path) -> io::Result<PathBuf> {
    if LIBRARY.is_empty() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let digest = spolia_core::Digest::blake3(LIBRARY).short();
    let path = folder.join(format!("observe-{digest}.so"));
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == LIBRARY.len() as u64) {
        return Ok(path);
    }
    std::fs::create_dir_all(folder)?;
    let temp = folder.join(format!(".observe-{digest}-{}", std::process::id()));
    std::fs::write(&temp, LIBRARY)?;
    std::fs::rename(&temp, &path)?;
    Ok(path)
}

/// The value of `LD_PRELOAD` with `library` first and whatever the caller preloads after it.
pub(super) fn variable(library: &Path, callers: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(callers) = callers.filter(|callers| !callers.is_empty()) {
        value.push(":");
        value.push(callers);
    }
    value
}

/// Whether a program file may walk over its whole environment without asking for a name: it mentions the table of
/// variables. True also for what cannot be read.
pub fn may_read_all_variables(program: &Path) -> bool {
    let Ok(content) = std::fs::read(program) else { return true };
    // The names lie in a table of strings.
    let mentions = |name: &[u8]| memchr::memmem::find(&content, name).is_some();
    !content.starts_with(b"\x7fELF") || mentions(b"\0environ\0") || mentions(b"\0__environ\0")
}

/// Whether `library` can be named in `LD_PRELOAD` at all: the loader splits at spaces and colons.
pub(super) fn can_be_named(library: &Path) -> bool {
    !library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':' | b'\t' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parsed() {
        assert_eq!(Word::parse(b"+"), Some(Word::Loaded));
        assert_eq!(Word::parse(b"=HOME"), Some(Word::Variable(b"HOME")));
        assert_eq!(Word::parse(b"@"), Some(Word::Clock));
        assert_eq!(Word::parse(b"/etc/passwd"), None);
    }

    #[test]
    fn the_library_is_written_once_and_whole() {
        let temp = tempfile::tempdir().unwrap();
        let path = install(&temp.path().join("a/b")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), LIBRARY);
        assert_eq!(install(&temp.path().join("a/b")).unwrap(), path);
        assert_eq!(std::fs::read_dir(temp.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn the_callers_own_preloads_stay() {
        let check = |callers: Option<&str>, expect: &str| {
            assert_eq!(variable(Path::new("/x.so"), callers.map(OsStr::new)), expect);
        };
        check(None, "/x.so");
        check(Some(""), "/x.so");
        check(Some("/y.so"), "/x.so:/y.so");
    }
}
