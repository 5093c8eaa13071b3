//! A signature over `SHA256SUMS`, which names every other file: minisign's form, so that `minisign -Vm SHA256SUMS` verifies
//! it. Signing takes random bytes, so two signatures of one list differ: they are no part of the release's identity.

use std::fs::File;
use std::path::Path;

pub use minisign::{PublicKey, SecretKey};
use minisign::{PublicKeyBox, SecretKeyBox, SignatureBox};

use crate::error::DistError;
use crate::record::SUMS;

/// The name of the signature.
pub const SIGNATURE: &str = "SHA256SUMS.minisig";
/// A larger key or signature is none, bytes.
const BYTES_MAX: u64 = 4096;

fn failed(verb: &'static str, path: &Path, error: impl std::fmt::Display) -> DistError {
    DistError::Signature { verb, path: path.to_owned(), why: error.to_string() }
}

fn read(verb: &'static str, path: &Path) -> Result<String, DistError> {
    let found = std::fs::metadata(path).map_err(|source| DistError::io("read", path, source))?;
    if found.len() > BYTES_MAX {
        return Err(failed(verb, path, "it is too large"));
    }
    std::fs::read_to_string(path).map_err(|source| DistError::io("read", path, source))
}

/// Reads a secret key of minisign; `password` where it has one.
///
/// # Errors
/// No key, or another password.
pub fn secret_key(path: &Path, password: Option<String>) -> Result<SecretKey, DistError> {
    let verb = "use the key";
    let text = read(verb, path)?;
    let parse = || SecretKeyBox::from_string(&text).map_err(|error| failed(verb, path, error));
    if let Some(key) = without_password(&text) {
        return Ok(key);
    }
    let Some(password) = password else {
        return Err(failed(verb, path, "it has a password, and SPOLIA_SIGN_PASSWORD is not set"));
    };
    parse()?.into_secret_key(Some(password)).map_err(|error| failed(verb, path, error))
}

/// A key that has no password: its second field, the way to the password, is zero. The C program writes no checksum
/// into such a key, which the crate's own reader asks for; signing verifies what it has signed, so that a damaged key
/// is found there.
fn without_password(text: &str) -> Option<SecretKey> {
    let raw = base64(text.lines().nth(1)?.trim())?;
    let is_plain = raw.get(2..4)? == [0, 0];
    if is_plain { SecretKey::from_bytes(&raw).ok() } else { None }
}

/// RFC 4648 §4, with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            raw.push((bits >> count) as u8);
        }
    }
    Some(raw)
}

/// A public key: a file of minisign's, or the line in it.
///
/// # Errors
/// Neither.
pub fn public_key(text: &str) -> Result<PublicKey, DistError> {
    let path = Path::new(text);
    let verb = "use the key";
    if !path.is_file() {
        return PublicKey::from_base64(text).map_err(|error| failed(verb, path, error));
    }
    let file = read(verb, path)?;
    let parsed = PublicKeyBox::from_string(&file).and_then(PublicKeyBox::into_public_key);
    parsed.map_err(|error| failed(verb, path, error))
}

/// Signs the list of sums in `out`; nothing is written where a signature of this key is there that holds.
///
/// # Errors
/// The disk's.
pub fn sign(out: &Path, key: &SecretKey, epoch: u64) -> Result<bool, DistError> {
    let path = out.join(SIGNATURE);
    let public = PublicKey::from_secret_key(key).map_err(|error| failed("sign with", &path, error))?;
    if verify(out, &public).is_ok() {
        return Ok(false);
    }
    let sums = out.join(SUMS);
    let file = File::open(&sums).map_err(|source| DistError::io("read", &sums, source))?;
    let comment = format!("timestamp:{epoch}\tfile:{SUMS}\thashed");
    let signed = minisign::sign(Some(&public), key, file, Some(&comment), Some("signature made by spolia"))
        .map_err(|error| failed("write", &path, error))?;
    let staged = out.join(format!(".{SIGNATURE}.{}", std::process::id()));
    let written =
        std::fs::write(&staged, signed.into_string()).and_then(|()| std::fs::rename(&staged, &path));
    if written.is_err() {
        let _gone = std::fs::remove_file(&staged);
    }
    written.map_err(|source| DistError::io("write", path, source))?;
    Ok(true)
}

/// Whether the signature in `folder` is this key's and holds.
///
/// # Errors
/// Why not.
pub fn verify(folder: &Path, key: &PublicKey) -> Result<(), DistError> {
    let path = folder.join(SIGNATURE);
    let verb = "verify";
    let text = read(verb, &path)?;
    let signature = SignatureBox::from_string(&text).map_err(|error| failed(verb, &path, error))?;
    let sums = folder.join(SUMS);
    let file = File::open(&sums).map_err(|source| DistError::io("read", &sums, source))?;
    minisign::verify(key, &signature, file, true, false, false).map_err(|error| failed(verb, &path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_c_program_have_no_checksum() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let text = pair.sk.to_box(None).unwrap().into_string();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(secret_key(&path, None).unwrap(), pair.sk);
        // The last 32 bytes are the checksum, and 158 bytes end in the middle of a group.
        let raw = base64(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(raw.len(), 158);
        assert_eq!(SecretKey::from_bytes(&raw).unwrap(), pair.sk);
        std::fs::write(folder.path().join(SUMS), "").unwrap();
        assert!(sign(folder.path(), &pair.sk, 0).unwrap());
        verify(folder.path(), &pair.pk).unwrap();
        let mut damaged = raw;
        damaged[100] ^= 1;
        std::fs::remove_file(folder.path().join(SIGNATURE)).unwrap();
        assert!(sign(folder.path(), &SecretKey::from_bytes(&damaged).unwrap(), 0).is_err());
        std::fs::write(&path, "untrusted comment: x\nnot base 64!\n").unwrap();
        assert!(secret_key(&path, Some("x".to_owned())).is_err());
    }
}
