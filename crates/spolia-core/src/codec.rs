//! Bytes that are mostly text, in text: reversible escapes shared by every noun that is written as
//! JSON. Binary formats get the bytes as they are.

use serde::Serializer;

/// UTF-8 as it is, `\` as `\x5c`, every byte that is not UTF-8 as `\xNN`.
pub fn escape(raw: &[u8]) -> String {
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
    fn every_byte_round_trips() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)), Some(all));
        assert_eq!(unescape("\\x4"), None);
        assert_eq!(unescape("\\n"), None);
        assert_eq!(unescape("\\xzz"), None);
    }
}
