//! The name rustc gives to a unit's incremental folder: `crate, -C metadata, kind, rustc → name`. Pure.
//!
//! It is the crate's name and its stable crate id in base 36. Source: rustc, `StableCrateId::new` in
//! `rustc_span/src/def_id.rs` and `generate_session_dir_path` in `rustc_incremental/src/persist/fs.rs`. This is
//! not a promise of rustc's: whoever uses the name believes it only where the tree confirms it.

use std::hash::{Hash, Hasher};

use rustc_stable_hash::{FromStableHash, StableSipHasher128, hashers::SipHasher128Hash};

/// Digits of a 64-bit number in base 36.
const DIGITS: usize = 13;

struct Low(u64);

impl FromStableHash for Low {
    type Hash = SipHasher128Hash;

    fn from(SipHasher128Hash([low, _]): SipHasher128Hash) -> Self {
        Self(low)
    }
}

/// The folder of a unit; `release` is what `rustc -vV` says after `rustc ` in its first line.
pub fn folder(crate_name: &str, metadata: &[&str], is_program: bool, release: &str) -> String {
    let mut metadata = metadata.to_vec();
    metadata.sort_unstable();
    metadata.dedup();
    let mut hasher = StableSipHasher128::new();
    crate_name.hash(&mut hasher);
    hasher.write(b"metadata");
    for text in metadata {
        hasher.write_usize(text.len());
        hasher.write(text.as_bytes());
    }
    hasher.write(if is_program { b"exe" } else { b"lib" });
    hasher.write(release.as_bytes());
    let Low(mut id) = hasher.finish();
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(id % 36) as usize];
        id /= 36;
    }
    format!("{crate_name}-{}", String::from_utf8_lossy(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_rustc_was_seen_to_make() {
        let release = "1.95.0 (59807616e 2026-04-14)";
        let check =
            |metadata: &str, expect: &str| assert_eq!(folder("app", &[metadata], true, release), expect);
        check("a781647c34388780", "app-3oa5ewyznm19o");
        check("70bdda09a2e0046f", "app-0mxy96u4j0s2l");
    }
}
