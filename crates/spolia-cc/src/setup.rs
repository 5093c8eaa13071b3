//! How build systems are told to compile through the cache: links of the compilers' names, and the lines for their
//! configuration. Runs nothing.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Names that links are made for where a program of that name is in `PATH`.
pub const NAMES: &[&str] = &["cc", "c++", "gcc", "g++", "clang", "clang++"];

/// Makes links of the compilers' names in `folder` that lead to `program`: the names of [`NAMES`], with targets
/// before them and versions after them, that are in `search`. A link that is there is left if it leads to us.
///
/// # Errors
/// What stands in the way, with its path.
pub fn install_links(
    folder: &Path,
    program: &Path,
    search: &std::ffi::OsStr,
) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    std::fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
    let own = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mut links = Vec::new();
    for place in std::env::split_paths(search).filter(|place| place.is_absolute()) {
        if std::fs::canonicalize(&place).is_ok_and(|place| place == own) {
            continue;
        }
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let known = crate::detect::kind_of_name(&name);
            let is_c = matches!(known, Some(crate::detect::Kind::Gcc | crate::detect::Kind::Clang));
            let link = folder.join(&name);
            if !is_c || links.contains(&link) {
                continue;
            }
            match std::os::unix::fs::symlink(program, &link) {
                Ok(()) => links.push(link),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    let leads = std::fs::read_link(&link).map_err(|error| (link.clone(), error))?;
                    if leads != program {
                        return Err((link, error));
                    }
                    links.push(link);
                }
                Err(error) => return Err((link, error)),
            }
        }
    }
    links.sort();
    Ok(links)
}

/// What a build system is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// For which.
    pub system: &'static str,
    /// The file it goes into, or how it is given.
    pub place: &'static str,
    /// What.
    pub text: String,
}

/// The lines for every build system, with Spolia called as `program`.
pub fn lines(program: &str) -> Vec<Lines> {
    vec![
        Lines {
            system: "cargo",
            place: ".cargo/config.toml",
            text: format!("[build]\nrustc-wrapper = \"{program}\"\n"),
        },
        Lines {
            system: "cmake",
            place: "the first `cmake` of a build folder, or a preset",
            text: format!(
                "-DCMAKE_C_COMPILER_LAUNCHER=\"{program};cc\" -DCMAKE_CXX_COMPILER_LAUNCHER=\"{program};cc\"\n"
            ),
        },
        Lines {
            system: "meson",
            place: "a native file, `meson setup --native-file spolia.ini`",
            text: format!("[binaries]\nc = ['{program}', 'cc', 'cc']\ncpp = ['{program}', 'cc', 'c++']\n"),
        },
        Lines {
            system: "autotools",
            place: "the arguments of `configure` or `make`",
            text: format!("CC=\"{program} cc gcc\" CXX=\"{program} cc g++\"\n"),
        },
    ]
}

/// `.cargo/config.toml` with the wrapper in it, or why it is left alone. Everything that was there stays, byte for byte.
///
/// # Errors
/// In a sentence: what is there already says something else, is no TOML, or has no place for a line.
pub fn cargo_config(old: &str, program: &str) -> Result<String, String> {
    match wrapper_in(old)? {
        Some(wrapper) if wrapper == program => return Ok(old.to_owned()),
        Some(wrapper) => return Err(format!("it has `rustc-wrapper = \"{wrapper}\"` already")),
        None => {}
    }
    let line = format!("rustc-wrapper = \"{program}\"\n");
    let mut at = 0;
    let header = old.split_inclusive('\n').find_map(|raw| {
        at += raw.len();
        let text = raw.split('#').next().unwrap_or_default().trim();
        (text == "[build]").then_some(at)
    });
    let new = match header {
        Some(end) if old[..end].ends_with('\n') => [&old[..end], &line, &old[end..]].concat(),
        Some(end) => [&old[..end], "\n", &line].concat(),
        None => {
            let gap = match (old.is_empty(), old.ends_with('\n')) {
                (true, _) => "",
                (false, true) => "\n",
                (false, false) => "\n\n",
            };
            [old, gap, "[build]\n", &line].concat()
        }
    };
    // `build = { … }`, `build.jobs = 1`, a `[build]` within a string.
    match wrapper_in(&new) {
        Ok(Some(wrapper)) if wrapper == program => Ok(new),
        _ => Err(format!(
            "its table `build` is written in a way that no line can be added to; it wants `{}`",
            line.trim_end()
        )),
    }
}

/// The wrapper that a configuration of cargo's names.
fn wrapper_in(text: &str) -> Result<Option<String>, String> {
    let whole = DeTable::parse(text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
    let Some(DeValue::Table(build)) = whole.get_ref().get("build").map(|value| value.get_ref()) else {
        return Ok(None);
    };
    Ok(build.get("rustc-wrapper").map(|value| match value.get_ref() {
        DeValue::String(wrapper) => wrapper.to_string(),
        _ => "something that is no text".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapper_goes_where_cargo_looks_for_it() {
        let with = |old: &str| cargo_config(old, "spolia");
        assert_eq!(with("").unwrap(), "[build]\nrustc-wrapper = \"spolia\"\n");
        assert_eq!(with("[build]\njobs = 2\n").unwrap(), "[build]\nrustc-wrapper = \"spolia\"\njobs = 2\n");
        assert_eq!(
            with("[net]\noffline = true\n").unwrap(),
            "[net]\noffline = true\n\n[build]\nrustc-wrapper = \"spolia\"\n"
        );
        assert_eq!(
            with("[build] # here\r\njobs = 2").unwrap(),
            "[build] # here\r\nrustc-wrapper = \"spolia\"\njobs = 2"
        );
        assert_eq!(with("[build]").unwrap(), "[build]\nrustc-wrapper = \"spolia\"\n");
        for done in ["[build]\nrustc-wrapper = \"spolia\"\n", "build.rustc-wrapper = 'spolia'"] {
            assert_eq!(with(done).unwrap(), done);
        }
        for refused in [
            "[build]\nrustc-wrapper = \"sccache\"\n",
            "build = { rustc-wrapper = 'sccache' }",
            "build = { jobs = 2 }",
            "build.jobs = 2",
            "x = \"\"\"\n[build]\n\"\"\"",
            "[build",
        ] {
            assert!(with(refused).is_err(), "{refused}");
        }
    }
}
