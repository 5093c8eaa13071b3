//! Whether a variable that holds a folder can have got into what was compiled, by how the sources use it. Pure but for
//! reading them.
//!
//! `include!(concat!(env!("OUT_DIR"), "/x.rs"))` takes a file from a folder, and the file's content is a fact of its own:
//! the folder's name is not in the result. Any other use of the variable may put it there, also in a form that nobody
//! finds again, so then its value counts as it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use spolia_engine::observe::Seen;

/// Variables of cargo's that hold a folder, and whether a macro that is loaded may have read them as well.
const FOLDERS: &[(&str, bool)] = &[("OUT_DIR", true), ("CARGO_MANIFEST_DIR", false)];
/// Macros that take a file's content and leave its name.
const TAKES: &[&[u8]] = &[b"include!", b"include_str!", b"include_bytes!"];

/// The variables that only say where files are.
pub(super) fn hidden_variables(seen: &Seen) -> Vec<String> {
    let asked = |name: &str| seen.variables.iter().any(|variable| variable == name);
    if !FOLDERS.iter().any(|(name, _)| asked(name)) {
        return Vec::new();
    }
    let read = |path: &Path| path.extension() == Some(OsStr::new("rs"));
    let sources: Vec<Vec<u8>> = seen
        .read
        .iter()
        .filter(|found| read(&found.path))
        .filter_map(|found| std::fs::read(&found.path).ok())
        .collect();
    let macros = seen.read.iter().any(|found| {
        let raw = found.path.as_os_str().as_bytes();
        raw.ends_with(b".so") && memchr::memmem::find(raw, b"/deps/").is_some()
    });
    FOLDERS
        .iter()
        .filter(|(name, with_macros)| asked(name) && (*with_macros || !macros))
        .filter(|(name, _)| only_takes(name, &sources))
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

/// Whether the sources use the variable, and only to take files.
fn only_takes(name: &str, sources: &[Vec<u8>]) -> bool {
    let quoted = format!("\"{name}\"").into_bytes();
    let mut uses = 0;
    for source in sources {
        for at in memchr::memmem::find_iter(source, &quoted) {
            let before = source[..at].trim_ascii_end();
            if before.ends_with(b"var(") || before.ends_with(b"var_os(") {
                // Asked for when the program runs.
                continue;
            }
            let taken = opened(before, b"env!").and_then(|before| opened(before, b"concat!"));
            let taken = taken.is_some_and(|before| TAKES.iter().any(|take| opened(before, take).is_some()));
            if !taken {
                return false;
            }
            uses += 1;
        }
    }
    uses > 0
}

/// What comes before the macro `name` and its opening bracket, at the end of `text`.
fn opened<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let text = text.trim_ascii_end();
    let (bracket, text) = text.split_last()?;
    let text = text.trim_ascii_end().strip_suffix(name)?;
    let whole = text.last().is_none_or(|last| !last.is_ascii_alphanumeric() && *last != b'_');
    (whole && b"([{".contains(bracket)).then(|| text.trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_taken_leave_no_trace() {
        let check = |source: &str, expect: bool| {
            assert_eq!(only_takes("OUT_DIR", &[source.as_bytes().to_vec()]), expect, "{source}");
        };
        check(r#"include!(concat!(env!("OUT_DIR"), "/x.rs"));"#, true);
        check("static A: &[u8] = include_bytes! [ concat!(\n  env!( \"OUT_DIR\" ), \"/x\") ];", true);
        check(r#"const D: &str = env!("OUT_DIR");"#, false);
        check(r#"include!(concat!(env!("OUT_DIR"), "/x.rs")); const D: &str = env!("OUT_DIR");"#, false);
        check(r#"const D: &str = concat!(env!("OUT_DIR"), "/x");"#, false);
        check(r#"include!(concat!(option_env!("OUT_DIR"), "/x"));"#, false);
        check(r#"my_include!(concat!(env!("OUT_DIR"), "/x"));"#, false);
        check(r#"fn f() { std::env::var("OUT_DIR"); }"#, false);
        check(r#"fn f() { std::env::var("OUT_DIR"); } include!(concat!(env!("OUT_DIR"), "/x.rs"));"#, true);
        check("", false);
    }
}
