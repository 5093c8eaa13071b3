//! Which system calls are stopped, and how each names its file. Pure.
//!
//! The native ABI, and on x86_64 the 32-bit one too (x32 calls and 32-bit calls on arm64 go by unseen).

use crate::filter::Stopped;
use crate::sys::BpfInstruction;

/// What a watched call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Opens; which argument holds the flags.
    Open(u8),
    /// The same, by way of a `struct open_how` at this argument.
    OpenHow(u8),
    /// `creat`.
    Create,
    /// Starts a program.
    Execute,
    /// Lists an open folder.
    List,
    /// Asks whether a path is there, or what it is.
    Look,
    /// Connects a socket.
    Connect,
}

/// How a watched call names its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    /// Which argument is the folder descriptor; none: the working directory.
    pub(super) folder: Option<u8>,
    /// Which argument points to the path.
    pub(super) path: u8,
    /// Which argument holds flags that make it no look-up by path.
    pass: Option<(u8, u32)>,
}

const fn at(kind: Kind) -> Watched {
    Watched { kind, folder: Some(0), path: 1, pass: None }
}

const fn plain(kind: Kind) -> Watched {
    Watched { kind, folder: None, path: 0, pass: None }
}

const fn looks(flags: Option<u8>) -> Watched {
    let pass = match flags {
        Some(flags) => Some((flags, libc::AT_EMPTY_PATH as u32)),
        None => None,
    };
    Watched { pass, ..at(Kind::Look) }
}

struct Abi {
    arch: u32,
    calls: &'static [(u32, Watched)],
}

#[cfg(target_arch = "x86_64")]
const ABIS: &[Abi] = &[
    Abi {
        arch: 0xc000_003e,
        calls: &[
            (257, at(Kind::Open(2))),
            (262, looks(Some(3))),
            (332, looks(Some(2))),
            (217, plain(Kind::List)),
            (21, plain(Kind::Look)),
            (2, plain(Kind::Open(1))),
            (4, plain(Kind::Look)),
            (6, plain(Kind::Look)),
            (59, plain(Kind::Execute)),
            (269, looks(None)),
            (439, looks(Some(3))),
            (437, at(Kind::OpenHow(2))),
            (322, at(Kind::Execute)),
            (85, plain(Kind::Create)),
            (78, plain(Kind::List)),
            (42, plain(Kind::Connect)),
        ],
    },
    Abi {
        arch: 0x4000_0003,
        calls: &[
            (295, at(Kind::Open(2))),
            (300, looks(Some(3))),
            (383, looks(Some(2))),
            (220, plain(Kind::List)),
            (33, plain(Kind::Look)),
            (5, plain(Kind::Open(1))),
            (195, plain(Kind::Look)),
            (196, plain(Kind::Look)),
            (106, plain(Kind::Look)),
            (107, plain(Kind::Look)),
            (11, plain(Kind::Execute)),
            (307, looks(None)),
            (439, looks(Some(3))),
            (437, at(Kind::OpenHow(2))),
            (358, at(Kind::Execute)),
            (8, plain(Kind::Create)),
            (141, plain(Kind::List)),
            (362, plain(Kind::Connect)),
        ],
    },
];

#[cfg(target_arch = "aarch64")]
const ABIS: &[Abi] = &[Abi {
    arch: 0xc000_00b7,
    calls: &[
        (56, at(Kind::Open(2))),
        (79, looks(Some(3))),
        (291, looks(Some(2))),
        (61, plain(Kind::List)),
        (48, looks(None)),
        (221, plain(Kind::Execute)),
        (439, looks(Some(3))),
        (437, at(Kind::OpenHow(2))),
        (281, at(Kind::Execute)),
        (203, plain(Kind::Connect)),
    ],
}];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ABIS: &[Abi] = &[];

/// Whether this build knows the system call numbers of the machine.
pub(super) const KNOWN_MACHINE: bool = !ABIS.is_empty();

/// How the call of this number names its file; none if it is not watched.
pub(super) fn watched(arch: u32, number: i32) -> Option<Watched> {
    let abi = ABIS.iter().find(|abi| abi.arch == arch)?;
    abi.calls.iter().find(|(known, _)| *known == number as u32).map(|(_, watched)| *watched)
}

/// The filter that stops the watched calls that do not bear `pass`.
pub(super) fn program(pass: Option<u64>) -> Vec<BpfInstruction> {
    let abis = ABIS.iter().map(|abi| {
        let stopped =
            abi.calls.iter().map(|(number, watched)| Stopped { number: *number, pass: watched.pass });
        (abi.arch, stopped.collect())
    });
    crate::filter::program(abis, pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_within_the_reach_of_a_jump() {
        for abi in ABIS {
            let block: usize =
                abi.calls.iter().map(|(_, call)| if call.pass.is_some() { 4 } else { 1 }).sum();
            assert!(block + 8 <= usize::from(u8::MAX));
        }
        assert!(!program(Some(1)).is_empty());
    }

    #[test]
    fn no_number_stands_twice() {
        for abi in ABIS {
            let mut numbers: Vec<u32> = abi.calls.iter().map(|(number, _)| *number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), abi.calls.len());
        }
    }
}
