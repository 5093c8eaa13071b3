//! How build systems are told to compile through the cache: links of the compilers' names, and the lines for their
//! configuration. Runs nothing.

use std::path::{Path, PathBuf};

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

/// `.cargo/config.toml` with the wrapper in it, or why it is left alone.
///
/// # Errors
/// In a sentence: what is there already says something else.
pub fn cargo_config(old: &str, program: &str) -> Result<String, String> {
    let line = format!("rustc-wrapper = \"{program}\"");
    let mut in_build = false;
    let mut build_at = None;
    for (at, raw) in old.lines().enumerate() {
        let text = raw.trim();
        if text.starts_with('[') {
            in_build = text == "[build]";
            if in_build {
                build_at = Some(at);
            }
        } else if in_build && text.split('=').next().is_some_and(|name| name.trim() == "rustc-wrapper") {
            if text == line {
                return Ok(old.to_owned());
            }
            return Err(format!("it has `{text}` already"));
        }
    }
    let mut lines: Vec<&str> = old.lines().collect();
    match build_at {
        Some(at) => lines.insert(at + 1, &line),
        None => {
            if !lines.is_empty() {
                lines.push("");
            }
            lines.extend(["[build]", &line]);
        }
    }
    Ok(lines.join("\n") + "\n")
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
        let done = "[build]\nrustc-wrapper = \"spolia\"\n";
        assert_eq!(with(done).unwrap(), done);
        assert!(with("[build]\nrustc-wrapper = \"sccache\"\n").is_err());
    }
}
