//! A digest that carries its function. Knows nothing of files.
//!
//! BLAKE3 names everything inside Spolia; SHA-256 is used where a protocol or a manifest asks for it.
//! The two never share a namespace: a digest prints, compares and parses with its function.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The hash functions Spolia speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DigestFunction {
    /// BLAKE3, 256 bits: every name inside Spolia.
    Blake3,
    /// SHA-256 (FIPS 180-4): sources in a manifest, REAPI, OCI.
    Sha256,
}

impl DigestFunction {
    /// The name used in text: `blake3` or `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }
}

/// 32 bytes and the function that made them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    function: DigestFunction,
    bytes: [u8; 32],
}

impl Digest {
    /// A digest from its raw bytes.
    pub fn new(function: DigestFunction, bytes: [u8; 32]) -> Self {
        Self { function, bytes }
    }

    /// The BLAKE3 digest of `data`.
    pub fn blake3(data: &[u8]) -> Self {
        Self::new(DigestFunction::Blake3, *blake3::hash(data).as_bytes())
    }

    /// The SHA-256 digest of `data`.
    pub fn sha256(data: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::new(DigestFunction::Sha256, sha2::Sha256::digest(data).into())
    }

    /// The SHA-256 digest of all that `reader` gives.
    ///
    /// # Errors
    /// Those of reading.
    pub fn sha256_of(reader: &mut dyn std::io::Read) -> std::io::Result<Self> {
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self::new(DigestFunction::Sha256, hasher.finalize().into())),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Which function made it.
    pub fn function(&self) -> DigestFunction {
        self.function
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// 64 lower-case hex digits, without the function's name.
    pub fn to_hex(&self) -> String {
        std::str::from_utf8(&self.hex()).unwrap_or_default().to_owned()
    }

    /// The 64 digits, without a place of their own.
    fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        hex
    }

    /// The first 12 hex digits: enough for a person, never used as a name.
    pub fn short(&self) -> String {
        self.to_hex()[..12].to_owned()
    }

    /// Parses 64 hex digits made by `function`.
    pub fn from_hex(function: DigestFunction, hex: &str) -> Result<Self, ParseDigestError> {
        let raw = hex.as_bytes();
        if raw.len() != 64 {
            return Err(ParseDigestError::Length { found: raw.len() });
        }
        let mut bytes = [0u8; 32];
        for (slot, pair) in bytes.iter_mut().zip(raw.chunks_exact(2)) {
            *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self { function, bytes })
    }
}

fn nibble(digit: u8) -> Result<u8, ParseDigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParseDigestError::NotHex { found: digit as char }),
    }
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// Not 64 characters.
    #[error("a digest has 64 hex digits, found {found}")]
    Length {
        /// How many bytes there were.
        found: usize,
    },
    /// A character outside `0-9a-fA-F`.
    #[error("`{found}` is not a hex digit")]
    NotHex {
        /// The first such character.
        found: char,
    },
    /// The text before `:` names no function.
    #[error("`{found}` is not a digest function (known: `blake3`, `sha256`)")]
    Function {
        /// What stood before the colon.
        found: String,
    },
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.name())?;
        f.write_str(":")?;
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.function.name(), self.short())
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("blake3", hex)) => Self::from_hex(DigestFunction::Blake3, hex),
            Some(("sha256", hex)) => Self::from_hex(DigestFunction::Sha256, hex),
            Some((other, _)) => Err(ParseDigestError::Function { found: other.to_owned() }),
            None => Err(ParseDigestError::Function { found: String::new() }),
        }
    }
}

/// In JSON `function:hex`; in a binary format one byte for the function and the 32 bytes.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        (self.function as u8, self.bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        match <(u8, [u8; 32])>::deserialize(deserializer)? {
            (0, bytes) => Ok(Self::new(DigestFunction::Blake3, bytes)),
            (1, bytes) => Ok(Self::new(DigestFunction::Sha256, bytes)),
            (other, _) => Err(D::Error::custom(format!("{other} is no digest function"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        // The empty input, as published for both functions.
        assert_eq!(
            Digest::blake3(b"").to_string(),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(
            Digest::sha256(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn text_round_trips_and_rejects() {
        let digest = Digest::sha256(b"x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(matches!("md5:00".parse::<Digest>(), Err(ParseDigestError::Function { .. })));
        assert!(matches!("sha256:00".parse::<Digest>(), Err(ParseDigestError::Length { found: 2 })));
        let bad = format!("sha256:{}", "g".repeat(64));
        assert!(matches!(bad.parse::<Digest>(), Err(ParseDigestError::NotHex { found: 'g' })));
    }
}
