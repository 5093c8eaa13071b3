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
/// `.incbin` or `.include`: the assembler reads files.
pub(crate) const ASSEMBLER_FILES: u64 = 1 << 3;

/// The marks of one content.
pub(crate) fn of(content: &[u8]) -> u64 {
    let mut marks = LOOKED;
    if find(content, b"__TIME__").is_some() || find(content, b"__DATE__").is_some() {
        marks |= TIME;
    }
    if find(content, b"__TIMESTAMP__").is_some() {
        marks |= TIME | TIMESTAMP;
    }
    if find(content, b"incbin").is_some() || find(content, b".include").is_some() {
        marks |= ASSEMBLER_FILES;
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found() {
        assert_eq!(of(b""), LOOKED);
        assert_eq!(of(b"char *d = __DATE__;"), LOOKED | TIME);
        assert_eq!(of(b"__TIMESTAMP__"), LOOKED | TIME | TIMESTAMP);
        assert_eq!(of(b"asm(\".incbin \\\"x\\\"\")"), LOOKED | ASSEMBLER_FILES);
    }
}
