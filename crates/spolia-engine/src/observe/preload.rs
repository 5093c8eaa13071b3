//! Puts the library that `preload.c` became where the loader finds it. Knows no observer.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Empty where it could not be made for this machine.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));
/// The same without the functions that open and look for files.
const WORDS_ONLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload-words.so"));

/// What the table of all variables is called, as it stands in a table of strings.
const TABLES: &[&[u8]] = &[b"\0environ\0", b"\0__environ\0"];
/// The longest of these, bytes.
const TABLE_BYTES_MAX: usize = 11;
/// How much of a program is read at a time, bytes.
const PIECE_BYTES: usize = 128 << 10;

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

/// Writes the library into `folder`, under a name that says which one it is; only where it is not there yet. What the caller
/// preloads (`callers_preload`) may have functions for files of its own, which have to be those that are called: the library
/// that comes before it has none then.
///
/// # Errors
/// Those of writing; [`io::ErrorKind::Unsupported`] where this build has no library for the machine.
pub fn install(folder: &Path, callers_preload: Option<&OsStr>) -> io::Result<PathBuf> {
    let alone = callers_preload.is_none_or(OsStr::is_empty);
    let content = if alone { LIBRARY } else { WORDS_ONLY };
    if content.is_empty() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let digest = spolia_core::Digest::blake3(content).short();
    let path = folder.join(format!("observe-{digest}.so"));
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == content.len() as u64) {
        return usable(path);
    }
    std::fs::create_dir_all(folder)?;
    let temp = folder.join(format!(".observe-{digest}-{}", std::process::id()));
    std::fs::write(&temp, content)?;
    std::fs::rename(&temp, &path)?;
    usable(path)
}

/// Only what the loader will take, which complains otherwise: somebody else's file that we may not read, or one where no code may lie.
fn usable(path: PathBuf) -> io::Result<PathBuf> {
    rustix::fs::access(&path, rustix::fs::Access::READ_OK)?;
    if rustix::fs::statvfs(&path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(path)
}

/// Whether the library can be loaded into a program: one that the kernel starts by itself, of this very machine. Of others the loader
/// complains where their users read it.
pub fn loads_into(program: &Path) -> bool {
    const CLASS: usize = 4;
    const MACHINE: std::ops::Range<usize> = 18..20;
    let read = |path: &Path| -> io::Result<[u8; 20]> {
        let mut head = [0; 20];
        io::Read::read_exact(&mut std::fs::File::open(path)?, &mut head)?;
        Ok(head)
    };
    let library: &[u8] = LIBRARY;
    read(program).is_ok_and(|head| {
        head.starts_with(b"\x7fELF")
            && library.get(CLASS..CLASS + 2) == head.get(CLASS..CLASS + 2)
            && library.get(MACHINE) == head.get(MACHINE)
    })
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
    let read = || -> io::Result<bool> {
        let mut file = File::open(program)?;
        // Piece by piece: such a file is often many megabytes long.
        let mut piece = vec![0; PIECE_BYTES];
        let mut search = TableSearch::default();
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(search.may_read_all_variables()),
                length => search.push(&piece[..length]),
            }
            if search.may_read_all_variables() {
                return Ok(true);
            }
        }
    };
    read().unwrap_or(true)
}

/// [`may_read_all_variables`] of a program that comes piece by piece.
#[derive(Clone, Debug, Default)]
pub struct TableSearch {
    /// What may begin a name that goes on in the next piece.
    rest: Vec<u8>,
    /// Whether anything has come.
    begun: bool,
    found: bool,
}

impl TableSearch {
    /// The next piece; the first has at least four bytes of a program that has them.
    pub fn push(&mut self, piece: &[u8]) {
        if !std::mem::replace(&mut self.begun, true) {
            self.found = !piece.starts_with(b"\x7fELF");
        }
        if self.found {
            return;
        }
        let mentions =
            |content: &[u8]| TABLES.iter().any(|name| memchr::memmem::find(content, name).is_some());
        let kept = TABLE_BYTES_MAX - 1;
        self.rest.extend_from_slice(&piece[..piece.len().min(kept)]);
        self.found = mentions(&self.rest) || mentions(piece);
        if piece.len() > kept {
            self.rest.clear();
            self.rest.extend_from_slice(&piece[piece.len() - kept..]);
        } else {
            self.rest.drain(..self.rest.len().saturating_sub(kept));
        }
    }

    /// Whether what has come so far may, or is no program.
    pub fn may_read_all_variables(&self) -> bool {
        self.found || !self.begun
    }
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
    fn a_mention_is_found_wherever_it_lies() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("program");
        let check = |content: &[u8], expect: bool| {
            std::fs::write(&path, content).unwrap();
            assert_eq!(may_read_all_variables(&path), expect);
        };
        for name in TABLES {
            assert!(name.len() <= TABLE_BYTES_MAX);
            for at in (PIECE_BYTES - 2 * TABLE_BYTES_MAX..PIECE_BYTES + 2).chain([4, 3 * PIECE_BYTES]) {
                let mut content = b"\x7fELF".to_vec();
                content.resize(at, b'x');
                check(&content, false);
                content.extend_from_slice(name);
                check(&content[..content.len() - 1], false);
                check(&content, true);
            }
        }
        // In pieces of any length.
        let whole = [&b"\x7fELFxx"[..], TABLES[1], b"yy"].concat();
        for length in 4..=whole.len() {
            let found_at = |end: usize| {
                let mut search = TableSearch::default();
                whole[..end].chunks(length).for_each(|piece| search.push(piece));
                search.may_read_all_variables()
            };
            assert_eq!((found_at(whole.len()), found_at(whole.len() - 3)), (true, false), "{length}");
        }
        check(b"#!/bin/sh\n", true);
        check(b"", true);
        assert!(may_read_all_variables(temp.path()));
    }

    #[test]
    fn the_library_is_written_once_and_whole() {
        let temp = tempfile::tempdir().unwrap();
        let path = install(&temp.path().join("a/b"), None).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), LIBRARY);
        assert_eq!(install(&temp.path().join("a/b"), Some(OsStr::new(""))).unwrap(), path);
        assert_eq!(std::fs::read_dir(temp.path().join("a/b")).unwrap().count(), 1);
        let other = install(&temp.path().join("a/b"), Some(OsStr::new("/y.so"))).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), WORDS_ONLY);
    }

    #[test]
    fn a_place_where_no_code_may_lie_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        assert!(usable(path.clone()).is_err());
        std::fs::write(&path, "").unwrap();
        assert!(usable(path).is_ok());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let proc = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/proc"));
        let runs_nothing = proc.is_some_and(|line| line.contains("noexec"));
        assert_eq!(usable("/proc/version".into()).is_err(), runs_nothing);
    }

    #[test]
    fn it_is_loaded_into_programs_of_this_machine_only() {
        let temp = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expect: bool| {
            let program = temp.path().join("program");
            std::fs::write(&program, content).unwrap();
            assert_eq!(loads_into(&program), expect);
        };
        check(LIBRARY, true);
        let mut other = LIBRARY.to_vec();
        other[4] = 1;
        check(&other, false);
        other = LIBRARY.to_vec();
        other[18] ^= 1;
        check(&other, false);
        check(b"#!/bin/sh\n# a script of more than 20 bytes\n", false);
        check(b"", false);
        assert!(!loads_into(temp.path()));
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
