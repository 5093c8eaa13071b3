//! The few bytes of an ELF header that say which machine a file is for. Pure: takes bytes.
//!
//! Source: System V ABI, "Object Files", `e_ident` and `e_machine`; machine numbers from its registry.

use std::fmt;

/// A processor family by its `e_machine` number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Machine(pub u16);

#[allow(missing_docs, reason = "the names are the registry's own")]
impl Machine {
    pub const X86: Self = Self(3);
    pub const PPC64: Self = Self(21);
    pub const S390: Self = Self(22);
    pub const ARM: Self = Self(40);
    pub const X86_64: Self = Self(62);
    pub const AARCH64: Self = Self(183);
    pub const RISCV: Self = Self(243);
}

/// How many leading bytes [`machine`] looks at.
pub const HEADER_BYTES: usize = 20;

/// The machine of an ELF file from its first [`HEADER_BYTES`] bytes; `None` if it is not ELF.
pub fn machine(header: &[u8]) -> Option<Machine> {
    if header.len() < HEADER_BYTES || !header.starts_with(b"\x7fELF") {
        return None;
    }
    let pair = [header[18], header[19]];
    // EI_DATA: 1 is little-endian, 2 big-endian.
    match header[5] {
        1 => Some(Machine(u16::from_le_bytes(pair))),
        2 => Some(Machine(u16::from_be_bytes(pair))),
        _ => None,
    }
}

/// The machine of the objects in a `!<arch>` archive, from its first member that is ELF; `None` if
/// `data` is no such archive or none of the members that `data` shows is ELF.
///
/// Layout (System V / GNU): an 8-byte magic, then members of a 60-byte header (size in decimal at
/// offset 48, ten bytes) and data padded to two bytes.
pub fn archive_machine(data: &[u8]) -> Option<Machine> {
    let mut rest = data.strip_prefix(b"!<arch>\n")?;
    while rest.len() >= 60 {
        let size = std::str::from_utf8(&rest[48..58]).ok()?.trim().parse::<usize>().ok()?;
        let body = &rest[60..];
        if let Some(found) = machine(body) {
            return Some(found);
        }
        rest = body.get(size.checked_add(size & 1)?..)?;
    }
    None
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::X86 => f.write_str("x86 (32-bit)"),
            Self::PPC64 => f.write_str("PowerPC 64"),
            Self::S390 => f.write_str("s390"),
            Self::ARM => f.write_str("ARM (32-bit)"),
            Self::X86_64 => f.write_str("x86-64"),
            Self::AARCH64 => f.write_str("AArch64"),
            Self::RISCV => f.write_str("RISC-V"),
            Self(other) => write!(f, "machine {other}"),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(data: u8, pair: [u8; 2]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02".to_vec();
        bytes.push(data);
        bytes.resize(18, 0);
        bytes.extend(pair);
        bytes
    }

    #[test]
    fn reads_both_byte_orders() {
        assert_eq!(machine(&header(1, [183, 0])), Some(Machine::AARCH64));
        assert_eq!(machine(&header(2, [0, 22])), Some(Machine::S390));
        assert_eq!(machine(&header(3, [0, 22])), None);
        assert_eq!(machine(b"#!/bin/sh\nexec something longer"), None);
        assert_eq!(machine(b"\x7fELF"), None);
    }

    #[test]
    fn looks_into_archives_and_survives_bad_ones() {
        let mut archive = b"!<arch>\n".to_vec();
        let mut member = |name: &str, body: &[u8]| {
            archive.extend(format!("{name:<48}{:<10}`\n", body.len()).bytes());
            archive.extend(body);
            if body.len() % 2 == 1 {
                archive.push(b'\n');
            }
        };
        member("/", b"sym");
        member("x.o/", &header(1, [62, 0]));
        assert_eq!(archive_machine(&archive), Some(Machine::X86_64));
        assert_eq!(archive_machine(&archive[..100]), None);
        assert_eq!(archive_machine(b"!<arch>\n"), None);
        let huge = format!("!<arch>\n{:<48}{:<10}`\nx", "a", "9999999999");
        assert_eq!(archive_machine(huge.as_bytes()), None);
    }
}
