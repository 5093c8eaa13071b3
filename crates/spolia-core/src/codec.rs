//! Bytes that are mostly text, in text: reversible escapes shared by every noun that is written as
//! JSON. Binary formats get the bytes as they are.

use serde::Serializer;

/// UTF-8 as it is, `\` as `\x5c`, every byte that is not UTF-8 as `\xNN`.
pub fn escape(raw: &[u8]) -> String {
    // Nearly all there is.
    if !raw.contains(&b'\\')
        && let Ok(text) = std::str::from_utf8(raw)
    {
        return text.to_owned();
    }
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\x5c"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The bytes behind [`escape`]d text; `None` on an escape it does not make.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            raw.push(byte);
            rest = after;
            continue;
        }
        let hex = std::str::from_utf8(after.strip_prefix(b"x")?.get(..2)?).ok()?;
        raw.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &after[3..];
    }
    Some(raw)
}

/// How many bytes at the end of `raw` begin a UTF-8 character that is not there whole, 0 to 3. For bytes that
/// arrive in pieces: what is held back until the next piece.
pub fn unfinished_utf8(raw: &[u8]) -> usize {
    let longest = raw.len().min(3);
    for length in 1..=longest {
        let end = &raw[raw.len() - length..];
        // A byte that continues a character is not where it begins.
        if end[0] & 0xc0 != 0x80 {
            let cut = std::str::from_utf8(end).is_err_and(|error| error.error_len().is_none());
            return if cut { length } else { 0 };
        }
    }
    0
}

/// Escaped text for a person's format, plain bytes for a binary one.
pub(crate) fn bytes_to_serde<S: Serializer>(raw: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&escape(raw))
    } else {
        serializer.serialize_bytes(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_anywhere_is_held_back() {
        for whole in ["a", "é", "€", "🏛"] {
            let raw = format!("x{whole}").into_bytes();
            for cut in 1..raw.len() {
                assert_eq!(unfinished_utf8(&raw[..cut]), cut - 1, "{whole} cut at {cut}");
            }
            assert_eq!(unfinished_utf8(&raw), 0, "{whole}");
        }
        // What can no more become a character is not waited for.
        for broken in [b"x\xff".as_slice(), b"\xc3\x28", b"\x80\x80\x80\x80", b"\xed\xa0", b""] {
            assert_eq!(unfinished_utf8(broken), 0, "{broken:x?}");
        }
    }

    #[test]
    fn every_byte_round_trips() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)), Some(all));
        assert_eq!(unescape("\\x4"), None);
        assert_eq!(unescape("\\n"), None);
        assert_eq!(unescape("\\xzz"), None);
    }
}
