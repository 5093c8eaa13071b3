//! The file of a result or an action: a payload under a header that vouches for it. Pure: bytes to bytes.
//!
//! ```text
//! sealed   = "spolia sealed 1\n" codec checksum32 u64le(length) body
//! codec    = 'r' body is the payload  |  'z' body is one zstd frame of it
//! length   = of the payload, bytes
//! checksum = BLAKE3(function digest32 space "\n" payload)    function, digest32: the entry's name
//! space    = "blob" | "result" | "action"                    function = u8: 0 BLAKE3, 1 SHA-256
//! ```
//!
//! The name is part of what is hashed, so a file that was moved to another name is damage, too.

use spolia_core::DigestFunction;

use crate::store::{Entry, Space};

const MAGIC: &[u8; 16] = b"spolia sealed 1\n";
const HEADER_BYTES: usize = 16 + 1 + 32 + 8;

/// The longest payload that is kept, bytes. A result with 100,000 outputs has about 20 MB.
pub const SEALED_BYTES_MAX: u64 = 256 << 20;

fn checksum(entry: Entry, payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[match entry.digest.function() {
        DigestFunction::Blake3 => 0,
        DigestFunction::Sha256 => 1,
    }]);
    hasher.update(entry.digest.as_bytes());
    hasher.update(match entry.space {
        Space::Blob => b"blob\n",
        Space::Result => b"result\n",
        Space::Action => b"action\n",
    });
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

/// The file for `payload`; `packed` is its zstd frame, where that is worth it.
pub(crate) fn seal(entry: Entry, payload: &[u8], packed: Option<&[u8]>) -> Vec<u8> {
    let body = packed.unwrap_or(payload);
    let mut file = Vec::with_capacity(HEADER_BYTES + body.len());
    file.extend_from_slice(MAGIC);
    file.push(if packed.is_some() { b'z' } else { b'r' });
    file.extend_from_slice(&checksum(entry, payload));
    file.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    file.extend_from_slice(body);
    file
}

/// The payload of `file`, checked.
///
/// # Errors
/// In a few words, what is wrong with the file.
pub(crate) fn open(entry: Entry, file: &[u8]) -> Result<Vec<u8>, String> {
    let (header, body) = file.split_at_checked(HEADER_BYTES).ok_or("it is cut short")?;
    if !header.starts_with(MAGIC) {
        return Err("it has no header of this version".to_owned());
    }
    let mut length = [0; 8];
    length.copy_from_slice(&header[49..57]);
    let length = u64::from_le_bytes(length);
    if length > SEALED_BYTES_MAX {
        return Err(format!("it claims {length} bytes"));
    }
    let payload = match header[16] {
        b'r' => body.to_vec(),
        b'z' => zstd::bulk::decompress(body, length as usize).map_err(|error| error.to_string())?,
        other => return Err(format!("its codec is {other}")),
    };
    if payload.len() as u64 != length {
        return Err(format!("it has {} bytes of {length}", payload.len()));
    }
    if checksum(entry, &payload) != header[17..49] {
        return Err("its checksum differs".to_owned());
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::Digest;

    fn name(text: &str) -> Entry {
        Entry { space: Space::Result, digest: Digest::blake3(text.as_bytes()) }
    }

    #[test]
    fn any_flipped_or_lost_byte_is_noticed() {
        let payload = b"{\"outputs\":[]}".repeat(20);
        let packed = zstd::bulk::compress(&payload, 1).unwrap();
        for packed in [None, Some(packed.as_slice())] {
            let file = seal(name("k"), &payload, packed);
            assert_eq!(open(name("k"), &file).unwrap(), payload);
            assert!(open(name("other"), &file).is_err(), "moved to another name");
            for at in 0..file.len() {
                assert!(open(name("k"), &file[..at]).is_err(), "cut at {at}");
                let mut flipped = file.clone();
                flipped[at] ^= 0x10;
                // A flip inside a zstd frame may be one that does not change what it decodes to.
                if let Ok(found) = open(name("k"), &flipped) {
                    assert_eq!(found, payload, "flipped at {at}");
                }
            }
        }
    }

    #[test]
    fn a_claimed_length_past_the_limit_is_refused_before_it_is_allocated() {
        let mut file = seal(name("k"), b"x", None);
        file[49..57].copy_from_slice(&(SEALED_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(open(name("k"), &file).unwrap_err(), format!("it claims {} bytes", SEALED_BYTES_MAX + 1));
    }

    #[test]
    fn version_1_is_read_for_ever() {
        // Bytes of the format's first version, as written down above.
        let mut file = b"spolia sealed 1\nr".to_vec();
        let key = Digest::blake3(b"k");
        let mut hashed = vec![0u8];
        hashed.extend_from_slice(key.as_bytes());
        hashed.extend_from_slice(b"result\nhello");
        file.extend_from_slice(Digest::blake3(&hashed).as_bytes());
        file.extend_from_slice(&5u64.to_le_bytes());
        file.extend_from_slice(b"hello");
        assert_eq!(open(name("k"), &file).unwrap(), b"hello");
    }
}
