//! A result of another shape than `ActionResult`, which says up front which blobs it names, so that a
//! collection and a check need not know what else is in it. Pure: bytes to bytes.
//!
//! ```text
//! payload = "spolia refs 1\n" u32le(count) digest32{count} body        digests: BLAKE3, of blobs
//! ```

use spolia_core::{Digest, DigestFunction};

const HEADER: &[u8] = b"spolia refs 1\n";

/// The payload for `body`, which names `blobs`.
pub fn seal(blobs: &[Digest], body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(HEADER.len() + 4 + blobs.len() * 32 + body.len());
    payload.extend_from_slice(HEADER);
    payload.extend_from_slice(&u32::try_from(blobs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for blob in blobs {
        payload.extend_from_slice(blob.as_bytes());
    }
    payload.extend_from_slice(body);
    payload
}

/// Whether the payload is of this shape.
pub fn is_one(payload: &[u8]) -> bool {
    payload.starts_with(HEADER)
}

/// The blobs and the body; `None` where the payload is not of this shape or cut.
pub fn open(payload: &[u8]) -> Option<(Vec<Digest>, &[u8])> {
    let (count, rest) = payload.strip_prefix(HEADER)?.split_first_chunk::<4>()?;
    let bytes = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(32)?;
    let (digests, body) = rest.split_at_checked(bytes)?;
    let digests = digests.as_chunks::<32>().0.iter();
    Some((digests.map(|raw| Digest::new(DigestFunction::Blake3, *raw)).collect(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips_and_a_cut_one_is_none() {
        let blobs = [Digest::blake3(b"a"), Digest::blake3(b"b")];
        let payload = seal(&blobs, b"body");
        assert!(is_one(&payload));
        assert_eq!(open(&payload), Some((blobs.to_vec(), &b"body"[..])));
        for cut in 0..payload.len() - 4 {
            assert_eq!(open(&payload[..cut]), None, "{cut}");
        }
        assert_eq!(open(b"{}"), None);
    }
}
