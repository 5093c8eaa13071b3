//! Memory that an observed program and its children share with us, on which `preload.c` notes what they look at:
//! bytes → [`Note`]s. Knows no store.
//!
//! ```text
//! board = magic8 pass8 used8 size8 note*                       of the machine's own byte order; `used` counts on beyond the end
//! note  = size4 kind1 state1 folder2 path2 zero2 mode4 dev8 ino8 length8 mtime8 fraction8 ctime8 fraction8 text
//! kind  = 1 opened to read | 2 looked for | 3 a variable asked for | 4 the end: the board is full | 5 asked for without its links
//! state = 1 begun | 2 found | 3 not there | 4 refused
//! text  = the folder that the path is relative to (`folder` bytes), the path as it was spelled (`path` bytes), up to a multiple of 8
//! ```
//!
//! A note is begun before the call that it is of, and finished with what came of the call. One that was not finished, or a place
//! that was taken and not written, is of a program that was killed: then not everything is known. Whoever finds no place makes a call that is
//! stopped and seen in the other way.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;
use spolia_store::StatKey;

const MAGIC: u64 = 0x3164_726f_616f_7073;
const HEAD_BYTES: usize = 32;
const NOTE_BYTES: usize = 72;
const SIZE_BYTES: u64 = 8 << 20;

/// What one call was about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note<'b> {
    /// A path was opened for reading.
    Opened(Vec<u8>, Came),
    /// A path was looked for.
    Looked(Vec<u8>, Came),
    /// It was asked where a path leads.
    Resolved(Vec<u8>, Came),
    /// A variable was asked for.
    Named(&'b [u8]),
    /// What cannot be told any more.
    Lost,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It is there; whether it is a folder.
    Found(StatKey, bool),
    /// It is not there.
    Missing,
    /// It may be there.
    Refused,
}

/// The memory.
pub(super) struct Board {
    file: File,
    pass: u64,
}

impl Board {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("spolia-board", MemfdFlags::CLOEXEC)?);
        file.set_len(SIZE_BYTES)?;
        // Nobody is kept out by it; it only must not stand in a register by chance.
        let pass = RandomState::new().build_hasher().finish();
        let mut head = Vec::with_capacity(HEAD_BYTES);
        for field in [MAGIC, pass, HEAD_BYTES as u64, SIZE_BYTES] {
            head.extend_from_slice(&field.to_ne_bytes());
        }
        file.write_all_at(&head, 0)?;
        Ok(Self { file, pass })
    }

    /// What a call bears that is noted here.
    pub(super) fn pass(&self) -> u64 {
        self.pass
    }

    /// What is handed to programs.
    pub(super) fn file(&self) -> impl AsFd {
        &self.file
    }

    /// All that was written so far.
    pub(super) fn content(&self) -> io::Result<Vec<u8>> {
        let mut used = [0; 8];
        self.file.read_exact_at(&mut used, 16)?;
        let used = u64::from_ne_bytes(used).clamp(HEAD_BYTES as u64, SIZE_BYTES);
        let mut content = vec![0; usize::try_from(used).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }
}

/// The notes of a board, in the order in which their calls began.
pub(super) fn notes(content: &[u8]) -> impl Iterator<Item = Note<'_>> {
    let mut rest = content.get(HEAD_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        // Less than the shortest is left where somebody found no place.
        if rest.len() < 8 {
            return None;
        }
        let size = field4(rest, 0) as usize;
        if rest[4] == 4 && size == 8 {
            rest = &[];
            return None;
        }
        let Some((note, after)) = rest.split_at_checked(size).filter(|(note, _)| note.len() >= NOTE_BYTES)
        else {
            rest = &[];
            return Some(Note::Lost);
        };
        rest = after;
        Some(parse(note).unwrap_or(Note::Lost))
    })
}

fn parse(note: &[u8]) -> Option<Note<'_>> {
    let (folder, path) = (usize::from(field2(note, 6)), usize::from(field2(note, 8)));
    let folder = note.get(NOTE_BYTES..NOTE_BYTES + folder)?;
    let path = note.get(NOTE_BYTES + folder.len()..NOTE_BYTES + folder.len() + path)?;
    let came = match note[5] {
        2 => {
            let seconds = |at: usize| {
                field8(note, at)
                    .cast_signed()
                    .saturating_mul(1_000_000_000)
                    .saturating_add(field8(note, at + 8).cast_signed())
            };
            let key = StatKey {
                dev: field8(note, 16),
                ino: field8(note, 24),
                size: field8(note, 32),
                mtime_ns: seconds(40),
                ctime_ns: seconds(56),
            };
            Came::Found(key, field4(note, 12) & libc::S_IFMT == libc::S_IFDIR)
        }
        3 => Came::Missing,
        4 => Came::Refused,
        _ => return None,
    };
    match note[4] {
        1 => Some(Note::Opened(super::watch::join(folder, path), came)),
        2 => Some(Note::Looked(super::watch::join(folder, path), came)),
        3 => Some(Note::Named(path)),
        5 => Some(Note::Resolved(super::watch::join(folder, path), came)),
        _ => None,
    }
}

fn field2(note: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([note[at], note[at + 1]])
}

fn field4(note: &[u8], at: usize) -> u32 {
    note[at..at + 4].try_into().map_or(0, u32::from_ne_bytes)
}

fn field8(note: &[u8], at: usize) -> u64 {
    note[at..at + 8].try_into().map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: u8, state: u8, folder: &[u8], path: &[u8]) -> Vec<u8> {
        let size = (NOTE_BYTES + folder.len() + path.len()).next_multiple_of(8);
        let mut note = u32::try_from(size).unwrap().to_ne_bytes().to_vec();
        note.extend([kind, state]);
        for length in [folder.len(), path.len(), 0] {
            note.extend(u16::try_from(length).unwrap().to_ne_bytes());
        }
        note.extend(libc::S_IFREG.to_ne_bytes());
        for field in [1_u64, 2, 3, 4, 5, 6, 7] {
            note.extend(field.to_ne_bytes());
        }
        note.extend(folder);
        note.extend(path);
        note.resize(size, 0);
        note
    }

    fn read(parts: &[Vec<u8>]) -> Vec<String> {
        let content = [vec![0; HEAD_BYTES], parts.concat()].concat();
        notes(&content).map(|note| format!("{note:?}")).collect()
    }

    #[test]
    fn notes_are_read_in_order() {
        let content = [
            vec![0; HEAD_BYTES],
            note(1, 2, b"/a", b"./b"),
            note(2, 3, b"", b"/c"),
            note(3, 2, b"", b"HOME"),
            note(5, 3, b"/a", b"d"),
        ];
        let content = content.concat();
        let found: Vec<Note<'_>> = notes(&content).collect();
        let key = StatKey { dev: 1, ino: 2, size: 3, mtime_ns: 4_000_000_005, ctime_ns: 6_000_000_007 };
        let expect = [
            Note::Opened(b"/a/b".to_vec(), Came::Found(key, false)),
            Note::Looked(b"/c".to_vec(), Came::Missing),
            Note::Named(b"HOME"),
            Note::Resolved(b"/a/d".to_vec(), Came::Missing),
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn what_was_not_finished_is_lost_and_a_full_board_is_not() {
        assert_eq!(read(&[note(1, 1, b"", b"/a")]), ["Lost"]);
        // The place was taken, and its owner killed before it wrote the length.
        assert_eq!(read(&[vec![0; 96], note(1, 4, b"", b"/a")]), ["Lost"]);
        let end = [&8_u32.to_ne_bytes()[..], &[4, 0, 0, 0], &[0; 40]].concat();
        assert_eq!(read(&[note(1, 4, b"", b"/a"), end]).len(), 1);
        assert_eq!(read(&[note(1, 4, b"", b"/a"), vec![0; 4]]).len(), 1);
    }

    #[test]
    fn any_bytes_are_read_to_their_end() {
        let whole = [note(1, 2, b"/a", b"b"), note(2, 3, b"", b"/c")].concat();
        for at in 0..whole.len() {
            drop(read(&[whole[..at].to_vec()]));
            for value in [0, 1, 8, 72, 255] {
                let mut changed = whole.clone();
                changed[at] = value;
                drop(read(&[changed]));
            }
        }
    }
}
