//! Every parser of bytes that somebody else wrote, or that a disk may have spoilt, as one function each. What
//! holds for all: no panic, no endless loop, and never an answer that is wrong. Knows no fuzzer.
//!
//! `cargo xtask fuzz` feeds them for as long as one likes; the tests here feed them seeds and a few thousand
//! changed seeds each.

mod compilers;
mod files;
mod measurements;
mod releases;
mod targets;

/// One parser.
pub struct Target {
    /// As on the command line.
    pub name: &'static str,
    /// Inputs that get far into it.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Feeds it; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// How many changed seeds the tests try: fewer where each costs a file.
    pub tries: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    targets::CONF,
    targets::MANIFEST,
    targets::GLOB,
    targets::TEMPLATE,
    targets::ELF,
    targets::RESULT,
    targets::SANDBOX,
    targets::INIT,
    compilers::DEPFILE,
    compilers::RESPONSE,
    compilers::INPUT_SETS,
    compilers::PRINTED,
    compilers::LINE_MARKERS,
    compilers::RUSTC_ARGUMENTS,
    compilers::RUSTC_TEXTS,
    compilers::RUSTC_SETS,
    compilers::IDENTITY,
    compilers::TALLY,
    compilers::CARGO_CONFIG,
    files::JOURNAL,
    files::DIGESTS,
    files::MEMO,
    files::STATE,
    files::FRESH,
    files::BLOB,
    files::SEALED,
    measurements::FOREIGN,
    measurements::THRESHOLDS,
    releases::SUMS,
    releases::ARCHIVE,
    releases::RECORD,
];

/// The one of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_testing::Random;

    const INSERTED: &[u8] = b"\0\xff\"[]{}$=\n./*!\\";

    /// What a fuzzer without feedback would do to `seed`.
    fn change(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
        let mut changed = seed.to_vec();
        for _ in 0..=random.below(3) {
            let length = changed.len() as u64;
            let at = random.below(length + 1) as usize;
            match random.below(6) {
                0 => changed.truncate(at),
                1 if at < changed.len() => changed[at] ^= 1 << random.below(8),
                2 if at < changed.len() => changed[at] = random.number() as u8,
                3 => changed.insert(at, INSERTED[random.below(INSERTED.len() as u64) as usize]),
                4 => {
                    let end = (at + random.below(16) as usize).min(changed.len());
                    changed.drain(at..end);
                }
                _ => {
                    let from = random.below(other.len() as u64 + 1) as usize;
                    let to = (from + random.below(64) as usize).min(other.len());
                    changed.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        changed
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TARGETS.len());
    }

    #[test]
    fn no_parser_breaks_its_promise_on_changed_seeds() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            for seed in &seeds {
                (target.run)(seed);
            }
            let mut random = Random::new(0x5eed);
            for number in 0..target.tries {
                let seed = &seeds[random.below(seeds.len() as u64) as usize];
                let other = &seeds[random.below(seeds.len() as u64) as usize];
                let changed = change(seed, other, &mut random);
                let ran = std::panic::catch_unwind(|| (target.run)(&changed));
                assert!(
                    ran.is_ok(),
                    "{}, try {number}: {:?}",
                    target.name,
                    changed.escape_ascii().to_string()
                );
            }
        }
    }
}
