//! What is special to `zig cc` and `zig c++`: Clang behind a driver that keeps a cache of its own. Knows no sources.
//!
//! An answer out of Zig's cache would hide from us what it was made of. So a compile that we keep starts with an empty
//! one, which goes when it ends; what it then reads it reads before our eyes. Objects that do not go by `-target` are
//! made for the processor of this machine, as with `-march=native`, and with the headers of the system's C library, for which
//! Zig asks the `cc` that it finds in PATH.

use std::os::unix::ffi::OsStrExt;

use spolia_core::key::{KeyWriter, Value};

use super::args::{Parsed, Product};
use crate::call::Launch;
use crate::outcome::{NotCacheable, Outcome};
use crate::site::find;
use crate::{Env, Room};

/// Where Zig keeps its cache.
const CACHES: &[&str] = &["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"];

/// Whether `zig` is called as a compiler of C by this first argument.
pub(super) fn is_compiler(word: &[u8]) -> bool {
    matches!(word, b"cc" | b"c++")
}

/// What a call means to Zig.
///
/// # Errors
/// It asks for files whose names Zig makes of those of its own temporary files.
pub(super) fn adapt(parsed: &mut Parsed) -> Result<(), Outcome> {
    let beside = [
        (parsed.split_dwarf, "-gsplit-dwarf"),
        (parsed.coverage, "--coverage"),
        (parsed.stack_usage, "-fstack-usage"),
        (parsed.product == Product::Header, "a header"),
        (parsed.deps.as_ref().is_some_and(|deps| deps.file.is_none()), "-MD without -MF"),
    ];
    if let Some((_, option)) = beside.iter().find(|(asked, _)| *asked) {
        let argument = Some(format!("{option}, by zig"));
        return Err(Outcome::NotCacheable { reason: NotCacheable::Argument, argument });
    }
    let mut words = parsed.toolchain.iter().map(|word| word.as_bytes());
    let mut target = None;
    while let Some(word) = words.next() {
        match word.strip_prefix(b"--target=") {
            Some(named) => target = Some(named),
            None if word == b"-target" => target = words.next(),
            None => {}
        }
    }
    parsed.native |= target.is_none_or(|target| find(target, b"native").is_some());
    Ok(())
}

/// Variables that Zig goes by: its own, and, where it looks for the system's C library, those by which it does.
pub(super) fn write_variables(env: &Env, native: bool, writer: &mut dyn KeyWriter) {
    let by_system = |name: &str| native && (name == "CC" || name == "PATH");
    let mut named: Vec<(&str, &[u8])> = env
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.as_bytes())))
        .filter(|(name, _)| !CACHES.contains(name))
        .filter(|(name, _)| name.starts_with("ZIG_") || name.starts_with("NIX_") || by_system(name))
        .collect();
    named.sort_unstable();
    for (name, value) in named {
        writer.field(name, Value::Bytes(value));
    }
}

/// Gives a compile a cache of its own that is empty.
pub(super) fn with_own_cache(room: &Room, launch: &mut Launch) {
    let folder = room.scratch();
    for name in CACHES {
        launch.env.push(((*name).into(), Some(folder.clone().into_os_string())));
    }
    launch.scratch.push(folder);
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::c::args;

    #[test]
    fn a_call_without_a_target_is_for_this_processor() {
        let check = |line: &str, native: Option<bool>| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let mut parsed = args::parse(&words, false).unwrap();
            assert_eq!(adapt(&mut parsed).ok().map(|()| parsed.native), native, "{line}");
        };
        check("-c x.c", Some(true));
        check("-target x86_64-linux-gnu -c x.c", Some(false));
        check("--target=aarch64-linux-musl -c x.c", Some(false));
        check("-target native-native-musl -c x.c", Some(true));
        check("-target x86_64-linux-gnu -mcpu=native -c x.c", Some(true));
        check("-MD -MF x.d -c x.c", Some(true));
        check("-MD -c x.c", None);
        check("-g -gsplit-dwarf -c x.c", None);
        check("--coverage -c x.c", None);
    }
}
