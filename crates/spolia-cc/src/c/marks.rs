//! Words in a source that make its result depend on more than files: found once for each content; and what an object tells. Pure.
//!
//! A word in a comment counts as well: that costs a hit, never a wrong one.

use crate::site::find;

/// It was looked at.
const LOOKED: u64 = 1;
/// `__DATE__`, `__TIME__` or `__TIMESTAMP__`.
pub(crate) const TIME: u64 = 1 << 1;
/// `__TIMESTAMP__`, which `SOURCE_DATE_EPOCH` does not settle.
pub(crate) const TIMESTAMP: u64 = 1 << 2;

/// A program or library, in which words mean nothing.
pub(crate) const BINARY: u64 = 1 << 3;

/// The marks of one content.
pub(crate) fn of(content: &[u8]) -> u64 {
    let mut marks = LOOKED;
    if content.starts_with(b"\x7fELF") {
        marks |= BINARY;
    }
    if find(content, b"__TIME__").is_some() || find(content, b"__DATE__").is_some() {
        marks |= TIME;
    }
    if find(content, b"__TIMESTAMP__").is_some() {
        marks |= TIME | TIMESTAMP;
    }
    marks
}

/// Whether there is something like `12:34:56` or `Nov 21 2026` in an object.
pub(crate) fn holds_time(object: &[u8]) -> bool {
    let shaped = |at: &[u8], shape: &[u8]| {
        at.len() >= shape.len()
            && at.iter().zip(shape).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'_' => byte.is_ascii_digit() || *byte == b' ',
                b'A' => byte.is_ascii_uppercase(),
                b'a' => byte.is_ascii_lowercase(),
                other => byte == other,
            })
    };
    (0..object.len()).any(|at| shaped(&object[at..], b"00:00:00") || shaped(&object[at..], b"Aaa _0 0000"))
}

/// Whether a path in an object may lie there so that a search for it does not find it: in a section that is packed (`-gz`), in what
/// GCC or Clang keep for the link (`-flto`), whose strings are packed or no whole bytes.
pub(crate) fn may_hide_paths(object: &[u8]) -> bool {
    if object.starts_with(b"BC\xc0\xde")
        || find(object, b".gnu.lto_").is_some()
        || find(object, b".llvmbc").is_some()
    {
        return true;
    }
    packed_section(object) != Some(false)
}

/// Whether a section of an ELF file is packed: `SHF_COMPRESSED`, or a name of before there was such a flag. Of what is
/// no ELF file `false`, and nothing where it is damaged.
fn packed_section(object: &[u8]) -> Option<bool> {
    const COMPRESSED: u64 = 0x800;
    let Some(head) = object.strip_prefix(b"\x7fELF") else { return Some(false) };
    let (wide, big) = (*head.first()? == 2, *head.get(1)? == 2);
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = object.get(at..at.checked_add(size)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    let (table, size, count, word) = if wide { (0x28, 0x3a, 0x3c, 8) } else { (0x20, 0x2e, 0x30, 4) };
    let (table, size) = (usize::try_from(number(table, word)?).ok()?, number(size, 2)? as usize);
    let mut packed = find(object, b".zdebug_").is_some();
    // Where there are too many for the head, the first section says how many.
    let count = match number(count, 2)? {
        0 if table > 0 => number(table.checked_add(if wide { 32 } else { 20 })?, word)?,
        count => count,
    };
    for section in 0..usize::try_from(count).ok()? {
        let at = section.checked_mul(size).and_then(|offset| offset.checked_add(table + 8))?;
        packed |= number(at, word)? & COMPRESSED != 0;
    }
    Some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_sections_are_seen() {
        let elf = |class: u8, order: u8, flags: u64| {
            let (wide, big) = (class == 2, order == 2);
            let mut object = vec![0; 256];
            let mut put = |at: usize, size: usize, value: u64| {
                let bytes = if big {
                    value.to_be_bytes()[8 - size..].to_vec()
                } else {
                    value.to_le_bytes()[..size].to_vec()
                };
                object[at..at + size].copy_from_slice(&bytes);
            };
            let (table, size, count, word) = if wide { (0x28, 0x3a, 0x3c, 8) } else { (0x20, 0x2e, 0x30, 4) };
            put(table, word, 0x80);
            put(size, 2, 0x40);
            put(count, 2, 2);
            put(0x80 + 0x40 + 8, word, flags);
            object[..4].copy_from_slice(b"\x7fELF");
            (object[4], object[5]) = (class, order);
            object
        };
        for class in [1, 2] {
            for order in [1, 2] {
                assert!(may_hide_paths(&elf(class, order, 0x802)));
                assert!(!may_hide_paths(&elf(class, order, 0x2)));
            }
        }
        assert!(may_hide_paths(b"\x7fELF"), "what cannot be told may");
        assert!(may_hide_paths(b"BC\xc0\xde"));
        assert!(!may_hide_paths(b"\t.file \"x.c\""));
        let whole = elf(2, 1, 0);
        for at in 0..whole.len() {
            for value in [0, 1, 255] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _any = (may_hide_paths(&changed), may_hide_paths(&whole[..at]));
            }
        }
    }

    #[test]
    fn times_are_found_in_objects() {
        assert!(holds_time(b"..12:34:56\0"));
        assert!(holds_time(b"x Nov  1 2026"));
        assert!(!holds_time(b"12:34 Nov 2026"));
        assert!(!holds_time(b""));
    }

    #[test]
    fn words_are_found() {
        assert_eq!(of(b""), LOOKED);
        assert_eq!(of(b"char *d = __DATE__;"), LOOKED | TIME);
        assert_eq!(of(b"__TIMESTAMP__"), LOOKED | TIME | TIMESTAMP);
        assert_eq!(of(b"\x7fELF __TIME__"), LOOKED | BINARY | TIME);
    }
}
