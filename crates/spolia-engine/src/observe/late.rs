//! A filter that an observed program installs on itself once its loader is done: by the preloaded library, before anything else in it
//! runs. Knows no notes.
//!
//! A loader looks for each library in up to forty folders below each of `LD_LIBRARY_PATH`, and to stop each of these look-ups was
//! more than half of what it cost to watch a compile of Rust. Who knows that nothing it could find there matters may do without:
//! the libraries that were taken are noted all the same.
//!
//! ```text
//! offer = magic8 parent8 instruction8*        waits at the descriptor OFFER; taken by a child of `parent` only
//! reply = error4, and where it is 0 the listener
//! ```
//!
//! A program that does not load the library never takes the offer: then nothing is known of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::Resource;
use spolia_store::StatKey;

use super::preload;
use crate::sys::{self, BpfInstruction};
use crate::words;

/// Where the offer waits; the same number stands in `preload.c`. Far from those that programs are handed.
const OFFER: i32 = 1009;
const MAGIC: u64 = 0x3172_666f_616f_7073;
const BYTES_MAX: usize = 4096;
const HEAD_BYTES_MAX: u64 = 4096;

/// A program that will install its own filter.
pub(super) struct Late {
    /// As it is started.
    pub(super) program: Vec<u8>,
    /// What `stat` said of it before.
    pub(super) key: StatKey,
}

impl Late {
    /// Whether the program can be left to itself until its loader is done: the library gets into it, and the offer reaches it.
    pub(super) fn of(program: &Path) -> Option<Self> {
        let room = rustix::process::getrlimit(Resource::Nofile).current;
        let is_free = room.is_none_or(|room| room > OFFER as u64) && !sys::is_open(OFFER);
        if !is_free || !program.is_absolute() || !preload::loads_into(program) || !has_loader(program).ok()? {
            return None;
        }
        let key = StatKey::of(&rustix::fs::stat(program).ok()?);
        Some(Self { program: program.as_os_str().as_encoded_bytes().to_vec(), key })
    }
}

/// Puts the offer into one end of the socket, and lets `command` have the other.
pub(super) fn offer(
    command: &mut std::process::Command,
    filter: &[BpfInstruction],
    ours: &OwnedFd,
    theirs: OwnedFd,
) -> io::Result<()> {
    let parent = u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
    let mut message = [MAGIC.to_ne_bytes(), parent.to_ne_bytes()].concat();
    for part in filter {
        message.extend_from_slice(&part.code.to_ne_bytes());
        message.extend_from_slice(&[part.jt, part.jf]);
        message.extend_from_slice(&part.k.to_ne_bytes());
    }
    if message.len() > BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    words::send(ours, &message, &[])?;
    sys::hand_when_started(command, theirs, OFFER);
    Ok(())
}

/// Whether the kernel starts a program by way of a loader: only one of GNU takes what is preloaded before all else.
fn has_loader(program: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(program)?.take(HEAD_BYTES_MAX).read_to_end(&mut head)?;
    Ok(memchr::memmem::find(&head, b"/ld-linux").is_some())
}
