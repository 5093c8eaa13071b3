//! `bytes → sums → lines that md5sum -c and its kin read`. Knows no release.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use md5::Md5;
use sha2::digest::Digest as _;
use sha2::{Sha256, Sha512};
use spolia_core::{Digest, DigestFunction};

use crate::manifest::Checksum;

/// Sums of one file: SHA-256 always, others where wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The file's length in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
    /// Every kind that was wanted, in hex.
    pub hex: BTreeMap<Checksum, String>,
}

/// Sums what passes through it.
pub struct Summing<W> {
    into: W,
    size: u64,
    sha256: Sha256,
    md5: Option<Md5>,
    sha512: Option<Sha512>,
    blake3: Option<blake3::Hasher>,
}

impl<W> Summing<W> {
    /// Passes on to `into`.
    pub fn new(into: W, wanted: &[Checksum]) -> Self {
        let has = |sum| wanted.contains(&sum);
        Self {
            into,
            size: 0,
            sha256: Sha256::new(),
            md5: has(Checksum::Md5).then(Md5::new),
            sha512: has(Checksum::Sha512).then(Sha512::new),
            blake3: has(Checksum::Blake3).then(blake3::Hasher::new),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(bytes);
        }
    }

    /// Where it all went, and the sums of it.
    pub fn finish(self) -> (W, Sums) {
        let sha256 = Digest::new(DigestFunction::Sha256, self.sha256.finalize().into());
        let mut hex = BTreeMap::from([(Checksum::Sha256, sha256.to_hex())]);
        if let Some(md5) = self.md5 {
            hex.insert(Checksum::Md5, to_hex(&md5.finalize()));
        }
        if let Some(sha512) = self.sha512 {
            hex.insert(Checksum::Sha512, to_hex(&sha512.finalize()));
        }
        if let Some(blake3) = self.blake3 {
            hex.insert(Checksum::Blake3, blake3.finalize().to_hex().to_string());
        }
        (self.into, Sums { size: self.size, sha256, hex })
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.into.flush()
    }
}

/// The sums of all that `from` gives.
///
/// # Errors
/// Those of reading.
pub fn of(from: &mut dyn Read, wanted: &[Checksum]) -> std::io::Result<Sums> {
    let mut summing = Summing::new(std::io::sink(), wanted);
    std::io::copy(from, &mut summing)?;
    Ok(summing.finish().1)
}

/// The sums of bytes in memory.
pub fn of_bytes(bytes: &[u8], wanted: &[Checksum]) -> Sums {
    let mut summing = Summing::new((), wanted);
    summing.update(bytes);
    summing.finish().1
}

fn to_hex(raw: &[u8]) -> String {
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line as `md5sum` and its kin write it for a file that is read as it is: sum, two spaces, name. `name` must
/// have passed [`crate::plan::check_name`].
pub fn line(hex: &str, name: &str) -> String {
    format!("{hex}  {name}\n")
}

/// A list of sums, taken apart: names and sums in order.
///
/// # Errors
/// The number of the first line that is none, from 1.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut list = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let parts = line.split_once("  ").or_else(|| line.split_once(" *"));
        let (hex, name) = parts.ok_or(at + 1)?;
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(at + 1);
        }
        crate::plan::check_name(name).map_err(|_| at + 1)?;
        list.push((name.to_owned(), hex.to_ascii_lowercase()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        let sums = of(&mut &b"abc"[..], &Checksum::ALL).unwrap();
        assert_eq!(sums, of_bytes(b"abc", &Checksum::ALL));
        assert_eq!(sums.size, 3);
        // RFC 1321 A.5, FIPS 180-4 examples, the BLAKE3 test vectors' method over "abc".
        assert_eq!(sums.hex[&Checksum::Md5], "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            sums.hex[&Checksum::Sha256],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sums.hex[&Checksum::Sha512].starts_with("ddaf35a193617abacc417349ae204131"));
        assert!(sums.hex[&Checksum::Blake3].starts_with("6437b3ac38465133ffb63b75273a8db5"));
    }

    #[test]
    fn lists_are_read_as_they_are_written() {
        let text = line("00ff", "a b.tgz") + "AB *c\n";
        let expect = [("a b.tgz".to_owned(), "00ff".to_owned()), ("c".to_owned(), "ab".to_owned())];
        assert_eq!(parse(&text).unwrap(), expect);
        for bad in ["x", "00", "00  ../x", "zz  a", "00  a/b", "00  \\n", "  a"] {
            assert_eq!(parse(&format!("00  ok\n{bad}\n")), Err(2), "{bad}");
        }
    }
}
