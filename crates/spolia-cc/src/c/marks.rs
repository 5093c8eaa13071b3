//! Words in a source that make its result depend on more than files: found once for each content. Pure.
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

#[cfg(test)]
mod tests {
    use super::*;

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
