//! What the name of a thing inside a target directory says. Pure.
//!
//! Cargo names what belongs to one unit (one crate, compiled one way) by 16 hexadecimal digits. They are the
//! same in both of its layouts:
//!
//! ```text
//! debug/.fingerprint/serde-89551aa7d792549c/     debug/build/serde/89551aa7d792549c/fingerprint/
//! debug/deps/libserde-89551aa7d792549c.rlib      debug/build/serde/89551aa7d792549c/out/libserde-….rlib
//! ```

use serde::{Deserialize, Serialize};

/// What Cargo tells units apart by: 64 bits, written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct UnitHash(pub u64);

impl UnitHash {
    /// Exactly 16 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let shaped = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        shaped.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl std::fmt::Display for UnitHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<UnitHash> for String {
    fn from(hash: UnitHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for UnitHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no unit's hash"))
    }
}

/// `serde-89551aa7d792549c` → `serde` and the hash.
pub fn split_unit(name: &str) -> Option<(&str, UnitHash)> {
    let (package, hash) = name.rsplit_once('-')?;
    let hash = UnitHash::parse(hash)?;
    (!package.is_empty()).then_some((package, hash))
}

/// The hash in a file of `deps` or `examples`: `libserde-89551aa7d792549c.rlib`, `app-….1abc.rcgu.o`.
pub fn hash_in_file(name: &str) -> Option<UnitHash> {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    split_unit(stem).map(|(_, hash)| hash)
}

/// What a file of `deps` is named after, without hash and endings: `libserde` for `libserde-….rlib`.
pub fn file_stem(name: &str) -> &str {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    split_unit(stem).map_or(stem, |(stem, _)| stem)
}

/// Left by a compiler that was killed: `rmetaAbC123`, `rustcAbC123`, `libx-….rlib.tmp-archive.rcgu.o`.
pub fn is_compilers_scratch(name: &str) -> bool {
    let random = |rest: &str| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    ["rmeta", "rustc"].iter().any(|head| name.strip_prefix(head).is_some_and(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_files_are_told_apart() {
        let check = |name: &str, expect: Option<(&str, u64)>| {
            assert_eq!(split_unit(name), expect.map(|(package, hash)| (package, UnitHash(hash))), "{name}");
        };
        check("serde-89551aa7d792549c", Some(("serde", 0x8955_1aa7_d792_549c)));
        check("proc-macro2-00000000000000ff", Some(("proc-macro2", 0xff)));
        check("serde-89551AA7d792549c", None);
        check("serde-89551aa7d792549", None);
        check("-89551aa7d792549c", None);
        check("serde", None);
        let check =
            |name: &str, expect: Option<u64>| assert_eq!(hash_in_file(name), expect.map(UnitHash), "{name}");
        check("libserde-00000000000000ff.rlib", Some(0xff));
        check("app-00000000000000ff", Some(0xff));
        check("app-00000000000000ff.1abc.rcgu.o", Some(0xff));
        check("libutil.so", None);
        check("", None);
        assert_eq!(file_stem("libutil.so"), "libutil");
        assert_eq!(file_stem("libserde-00000000000000ff.rlib"), "libserde");
        assert!(is_compilers_scratch("rmetaAbC123") && is_compilers_scratch("rustcAbC123"));
        assert!(!is_compilers_scratch("rustc_hash") && !is_compilers_scratch("rmeta"));
        assert_eq!(UnitHash::parse("00000000000000ff").unwrap().to_string(), "00000000000000ff");
    }

    #[test]
    fn any_text_is_survived() {
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let letters: Vec<char> = "-.abcdef0123456789é/ZlibX".chars().collect();
            let length = (random >> 33) % 30;
            let mut seed = random;
            let name: String = (0..length)
                .map(|_| {
                    seed = seed.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    letters[(seed >> 40) as usize % letters.len()]
                })
                .collect();
            let _any =
                (split_unit(&name), hash_in_file(&name), file_stem(&name), is_compilers_scratch(&name));
        }
    }
}
