//! What a name in a target directory says: `name × place × Live → Verdict`. Pure.
//!
//! | where | live if |
//! |---|---|
//! | `P/.fingerprint/NAME-HASH`, `P/build/NAME-HASH`, `P/build/NAME/HASH`, `P/deps/*-HASH.*` | the hash is |
//! | `P/deps/libutil.so`, `P/app`, `P/examples/ex` and what lies beside them | a skeleton has the name |
//! | `P/incremental/CRATE-ID` | a skeleton has the name; where no such name is in the tree: no live unit has another |
//! | `wasm-bindgen/P/NAME*`, `wasm-opt/P/NAME*` | a program `NAME.wasm` is, in a profile folder of that name |
//! | `doc/CRATE` | the crate is documented |

use std::collections::HashSet;

use super::{Folder, Place};
use crate::live::{Live, LiveProfile};
use crate::names::{self, UnitHash};

/// What a name says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'l> {
    /// The configurations that need it.
    Live(&'l [u32], Option<UnitHash>),
    Stale(Option<UnitHash>),
    /// Not Cargo's, or not certainly.
    Unknown,
}

/// Knows what is live.
pub(super) struct Judge<'l> {
    pub(super) live: &'l Live,
    /// Profiles in which predicted names of incremental folders hold.
    pub(super) confirmed: &'l HashSet<String>,
}

impl<'l> Judge<'l> {
    pub(super) fn verdict(&self, folder: &Folder, name: &str, is_folder: bool) -> Verdict<'l> {
        let live = self.live.profiles.get(&*folder.profile);
        let unit = |hash: UnitHash| match live.and_then(|live| live.units.get(&hash)) {
            Some((_, needed_by)) => Verdict::Live(needed_by, Some(hash)),
            None => Verdict::Stale(Some(hash)),
        };
        match folder.place {
            Place::Fingerprint | Place::Build => match names::split_unit(name) {
                Some((_, hash)) if is_folder => unit(hash),
                _ => Verdict::Unknown,
            },
            Place::Unit => match UnitHash::parse(name) {
                Some(hash) if is_folder => unit(hash),
                _ => Verdict::Unknown,
            },
            Place::Deps | Place::Example => match names::hash_in_file(name) {
                Some(hash) => unit(hash),
                None if names::is_compilers_scratch(name) => Verdict::Stale(None),
                None => named(folder, live, name),
            },
            Place::Incremental => self.incremental(folder, live, name, is_folder),
            Place::Final => named(folder, live, name),
            Place::Doc if is_folder => self.documented(name),
            Place::Doc => Verdict::Live(&[], None),
            // What to make of these is the plan's to say.
            Place::Package | Place::Scratch | Place::Timings => Verdict::Stale(None),
            Place::Tool if is_folder => Verdict::Unknown,
            Place::Tool => self.of_tool(folder, name),
            Place::Other => Verdict::Unknown,
        }
    }

    fn incremental(
        &self,
        folder: &Folder,
        live: Option<&'l LiveProfile>,
        name: &str,
        is_folder: bool,
    ) -> Verdict<'l> {
        let shaped = name.rsplit_once('-').filter(|(_, id)| {
            id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
        });
        let (Some((of, _)), true) = (shaped, is_folder) else { return Verdict::Unknown };
        let Some(live) = live else { return Verdict::Stale(None) };
        if let Some(needed_by) = live.incremental.get(name) {
            return Verdict::Live(needed_by, None);
        }
        let is_of = |other: &String| other.rsplit_once('-').is_some_and(|(other, _)| other == of);
        if !self.confirmed.contains(&*folder.profile)
            && let Some((_, needed_by)) = live.incremental.iter().find(|(other, _)| is_of(other))
        {
            return Verdict::Live(needed_by, None);
        }
        Verdict::Stale(None)
    }

    /// `app_bg.wasm`, `app.js`: live as long as a program of that name is.
    fn of_tool(&self, folder: &Folder, name: &str) -> Verdict<'l> {
        let stem = name.split('.').next().unwrap_or_default();
        let stem = stem.strip_suffix("_bg").unwrap_or(stem);
        let profile = folder.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of_profile = |of: &&String| {
            of.split_once('/').is_some_and(|(triple, of)| triple.starts_with("wasm") && of == profile)
        };
        let is_of = |file: &str| {
            file.strip_suffix(".wasm").is_some_and(|file| file.replace('-', "_") == stem.replace('-', "_"))
        };
        for known in self.live.profiles.keys().filter(of_profile) {
            let found = self.live.profiles[known].files.iter().find(|(file, _)| is_of(file));
            if let Some((_, needed_by)) = found {
                return Verdict::Live(needed_by, None);
            }
        }
        Verdict::Stale(None)
    }

    fn documented(&self, name: &str) -> Verdict<'l> {
        // Shared by all crates.
        let shared =
            ["src", "static.files", "search.desc", "search.index", "type.impl", "trait.impl", "implementors"];
        if self.live.docs.is_empty() || self.live.docs.contains(name) || shared.contains(&name) {
            return Verdict::Live(&[], None);
        }
        Verdict::Stale(None)
    }
}

/// A file whose name holds no hash.
fn named<'l>(folder: &Folder, live: Option<&'l LiveProfile>, name: &str) -> Verdict<'l> {
    let prefix = match folder.place {
        Place::Deps => "deps/",
        Place::Example => "examples/",
        _ => "",
    };
    if name.starts_with('.') {
        return Verdict::Unknown;
    }
    let Some(live) = live else { return stale_if_built(name) };
    // `libutil.rmeta` and `util.d` belong to `libutil.so`.
    let stem = crate_of(name);
    let same = |(file, _): &(&String, &Vec<u32>)| {
        file.strip_prefix(prefix).is_some_and(|file| !file.contains('/') && crate_of(file) == stem)
    };
    match live.files.get(&format!("{prefix}{name}")) {
        Some(needed_by) => Verdict::Live(needed_by, None),
        None => match live.files.iter().find(same) {
            Some((_, needed_by)) => Verdict::Live(needed_by, None),
            None => stale_if_built(name),
        },
    }
}

/// `util` for `libutil.so`, `util.d`, `util`.
fn crate_of(name: &str) -> &str {
    let stem = names::file_stem(name);
    if name.contains('.') { stem.strip_prefix("lib").unwrap_or(stem) } else { stem }
}

/// Without a hash only what has an ending that compilers give is taken for theirs.
fn stale_if_built(name: &str) -> Verdict<'static> {
    let endings = [".d", ".rlib", ".rmeta", ".so", ".a", ".wasm", ".o", ".dwp", ".pdb"];
    if endings.iter().any(|ending| name.ends_with(ending)) { Verdict::Stale(None) } else { Verdict::Unknown }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::live::{Configuration, Named, Origin, ProfileNames, UnitName};

    fn live() -> Live {
        let names = |files: &[&str]| ProfileNames {
            units: [(UnitHash(1), UnitName { package: "app".to_owned(), ..UnitName::default() })].into(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            incremental: ["app-3oa5ewyznm19o".to_owned()].into(),
        };
        let named = Named {
            profiles: [
                ("debug".to_owned(), names(&["app", "deps/libmacros.so", "examples/ex"])),
                ("wasm32-unknown-unknown/release".to_owned(), names(&["web-app.wasm"])),
            ]
            .into(),
            docs: ["app".to_owned()].into(),
            packages: BTreeSet::new(),
        };
        let mut live = Live::default();
        let command = crate::CargoCommand::new("build", &[]);
        live.add(Configuration { command, origin: Origin::Usual, used_at_us: None }, &named);
        live
    }

    #[derive(Debug, PartialEq)]
    enum Is {
        Live,
        Stale,
        Unknown,
    }

    fn is(place: Place, path: &str, name: &str, is_folder: bool) -> Is {
        let (live, confirmed) = (live(), HashSet::new());
        let profile = if path.starts_with("debug") { "debug" } else { "" };
        let path = std::path::Path::new(path).into();
        let folder = Folder { place, profile: profile.into(), path, package: None };
        match (Judge { live: &live, confirmed: &confirmed }).verdict(&folder, name, is_folder) {
            Verdict::Live(..) => Is::Live,
            Verdict::Stale(_) => Is::Stale,
            Verdict::Unknown => Is::Unknown,
        }
    }

    #[test]
    fn what_a_tool_made_is_live_as_long_as_its_program() {
        let check = |path: &str, name: &str, expect: Is| {
            assert_eq!(is(Place::Tool, path, name, false), expect, "{path}/{name}");
        };
        for tool in ["wasm-bindgen/release", "wasm-opt/release"] {
            check(tool, "web_app_bg.wasm", Is::Live);
            check(tool, "web_app.js", Is::Live);
            check(tool, "web-app.wasm", Is::Live);
            check(tool, "web_app.d.ts", Is::Live);
            check(tool, "old_bg.wasm", Is::Stale);
            check(tool, "old.js", Is::Stale);
        }
        check("wasm-bindgen/debug", "web_app.js", Is::Stale);
        assert_eq!(is(Place::Tool, "wasm-bindgen/release", "snippets", true), Is::Unknown);
        assert_eq!(is(Place::Other, "criterion", "report", true), Is::Unknown);
        assert_eq!(is(Place::Other, "nextest", "old.js", false), Is::Unknown);
    }

    #[test]
    fn names_say_what_is_live() {
        let one = "0000000000000001";
        let two = "0000000000000002";
        let check = |place: Place, path: &str, name: &str, is_folder: bool, expect: Is| {
            assert_eq!(is(place, path, name, is_folder), expect, "{path}/{name}");
        };
        check(Place::Fingerprint, "debug/.fingerprint", &format!("app-{one}"), true, Is::Live);
        check(Place::Fingerprint, "debug/.fingerprint", &format!("app-{two}"), true, Is::Stale);
        check(Place::Fingerprint, "debug/.fingerprint", "mine", true, Is::Unknown);
        check(Place::Unit, "debug/build/app", one, true, Is::Live);
        check(Place::Unit, "debug/build/app", two, true, Is::Stale);
        check(Place::Deps, "debug/deps", &format!("libapp-{two}.rlib"), false, Is::Stale);
        check(Place::Deps, "debug/deps", "libmacros.so", false, Is::Live);
        check(Place::Deps, "debug/deps", "macros.d", false, Is::Live);
        check(Place::Deps, "debug/deps", "libgone.so", false, Is::Stale);
        check(Place::Deps, "debug/deps", "notes.txt", false, Is::Unknown);
        check(Place::Incremental, "debug/incremental", "app-3oa5ewyznm19o", true, Is::Live);
        check(Place::Incremental, "debug/incremental", "gone-3oa5ewyznm19o", true, Is::Stale);
        check(Place::Doc, "doc", "app", true, Is::Live);
        check(Place::Doc, "doc", "gone", true, Is::Stale);
        check(Place::Doc, "doc", "search.js", false, Is::Live);
        check(Place::Final, "debug", "app", false, Is::Live);
        check(Place::Final, "debug", "gone", false, Is::Unknown);
    }
}
