//! A compiler that compiles nothing: `one call of rustc or rustdoc → the empty files it would have written`.
//!
//! Cargo alone knows which units a command needs and how their files are named. So its own command is run in
//! an empty target directory with this in the compiler's place: Cargo goes through the whole graph, names
//! everything, and no code is compiled or run. What is then in the directory is the skeleton of a fresh tree.
//! The true target directory is neither read nor written, and the names do not depend on where it is.
//!
//! - Questions that only ask (`-vV`, `--print`) go to the true compiler.
//! - A program, so a build script too, becomes a shell script that does nothing. What a build script would
//!   have said enters no unit's name.
//! - One line for each call goes to [`CALLS`] beside the program, since the name of an incremental folder
//!   stands in no path that Cargo makes.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use spolia_engine::compile::Program;

/// By this name the program is a rustc that only names: Cargo's `RUSTC_WRAPPER`.
pub const RUSTC: &str = "spolia-names-rustc";
/// By this name it is such a rustdoc: Cargo's `RUSTDOC`.
pub const RUSTDOC: &str = "spolia-names-rustdoc";
/// The file, beside the program's link, that every call adds a line to.
pub const CALLS: &str = "calls";
/// Everything that is written in a program's place.
const NO_PROGRAM: &[u8] = b"#!/bin/sh\nexit 0\n";

/// Whether the process was started under one of the two names.
pub fn is_asked_for(program: Option<&OsStr>) -> bool {
    matches!(role(program), Some(Role::Rustc | Role::Rustdoc))
}

enum Role {
    Rustc,
    Rustdoc,
}

fn role(program: Option<&OsStr>) -> Option<Role> {
    match Path::new(program?).file_name()?.to_str()? {
        RUSTC => Some(Role::Rustc),
        RUSTDOC => Some(Role::Rustdoc),
        _ => None,
    }
}

/// Does what the call asks for; the exit code. `args` begins with the name of the program.
pub fn main(mut args: impl Iterator<Item = OsString>) -> u8 {
    let program = args.next().unwrap_or_default();
    let words: Vec<OsString> = args.collect();
    let done = match role(Some(&program)) {
        Some(Role::Rustdoc) => document(Path::new(&program), &words),
        _ => compile(Path::new(&program), &words),
    };
    // Cargo shows what a compiler says and stops; a code that no compiler has tells who it was.
    if done.is_ok() { 0 } else { 97 }
}

/// What one call of rustc asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    crate_name: String,
    crate_types: Vec<String>,
    out_dir: PathBuf,
    extra_filename: String,
    metadata: Vec<String>,
    incremental: bool,
    emit_link: bool,
    emit_metadata: bool,
    is_test: bool,
}

/// `None` where the call compiles nothing that Cargo keeps.
fn read(words: &[OsString]) -> Option<Call> {
    let mut call = Call { emit_link: true, ..Call::default() };
    let (mut at, mut named) = (0, false);
    while let Some(word) = words.get(at) {
        let Some(word) = word.to_str() else {
            at += 1;
            continue;
        };
        let next = || words.get(at + 1).and_then(|next| next.to_str()).unwrap_or_default();
        let (flag, value, used) = match word {
            "--crate-name" | "--crate-type" | "--out-dir" | "--emit" | "-C" => (word, next(), 2),
            "--test" => ("--test", "", 1),
            _ => match word.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag, value, 1),
                _ => (word.strip_prefix("-C").map_or("", |_| "-C"), word.get(2..).unwrap_or_default(), 1),
            },
        };
        match flag {
            "--crate-name" => value.clone_into(&mut call.crate_name),
            "--crate-type" => call.crate_types.extend(value.split(',').map(str::to_owned)),
            "--out-dir" => {
                named = true;
                // The path itself need not be text.
                call.out_dir = match used {
                    2 => words.get(at + 1).map(PathBuf::from).unwrap_or_default(),
                    _ => PathBuf::from(value),
                };
            }
            "--emit" => {
                let kinds: Vec<&str> = value.split(',').collect();
                let has = |kind: &str| kinds.iter().any(|one| one.split('=').next() == Some(kind));
                (call.emit_link, call.emit_metadata) = (has("link"), has("metadata"));
            }
            "--test" => call.is_test = true,
            "-C" => match value.split_once('=') {
                Some(("extra-filename", value)) => value.clone_into(&mut call.extra_filename),
                Some(("metadata", value)) => call.metadata.extend(value.split(' ').map(str::to_owned)),
                Some(("incremental", _)) => call.incremental = true,
                _ => {}
            },
            _ => {}
        }
        at += used;
    }
    (named && !call.crate_name.is_empty()).then_some(call)
}

fn compile(program: &Path, words: &[OsString]) -> std::io::Result<()> {
    let Some(call) = read(words) else {
        let (real, rest) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let real = Program { path: Path::new(real), arg0: real, args: rest, env: &[], folder: None };
        return Err(real.become_it());
    };
    let is_program = call.is_test || call.crate_types.iter().any(|kind| kind == "bin");
    for (name, program) in outputs(&call) {
        write(&call.out_dir.join(name), if program { NO_PROGRAM } else { b"" }, program)?;
    }
    let depfile = format!("{}{}.d", call.crate_name, call.extra_filename);
    write(&call.out_dir.join(&depfile), format!("{depfile}:\n").as_bytes(), false)?;
    if call.incremental {
        let line = format!(
            "incremental\t{}\t{}\t{}\t{}\n",
            if is_program { "exe" } else { "lib" },
            call.crate_name,
            call.metadata.join(" "),
            call.out_dir.display(),
        );
        note(program, &line)?;
    }
    Ok(())
}

/// The files that rustc would write, and whether each is a program.
fn outputs(call: &Call) -> Vec<(String, bool)> {
    let name = format!("{}{}", call.crate_name, call.extra_filename);
    let mut files = Vec::new();
    let types: &[String] = if call.is_test { &[] } else { &call.crate_types };
    if call.emit_link {
        if call.is_test || types.iter().any(|kind| kind == "bin") {
            files.push((name.clone(), true));
        }
        for kind in types {
            match kind.as_str() {
                "lib" | "rlib" => files.push((format!("lib{name}.rlib"), false)),
                "dylib" | "cdylib" | "proc-macro" => files.push((format!("lib{name}.so"), false)),
                "staticlib" => files.push((format!("lib{name}.a"), false)),
                _ => {}
            }
        }
    }
    if call.emit_metadata || call.emit_link {
        files.push((format!("lib{name}.rmeta"), false));
    }
    files
}

fn document(program: &Path, words: &[OsString]) -> std::io::Result<()> {
    let (mut name, mut folder) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--crate-name" => name = words.next().and_then(|name| name.to_str()),
            b"-o" | b"--out-dir" | b"--output" => folder = words.next().map(PathBuf::from),
            _ => {}
        }
    }
    let (Some(name), Some(folder)) = (name, folder) else { return Ok(()) };
    let of_crate = folder.join(name);
    std::fs::create_dir_all(&of_crate)?;
    write(&of_crate.join("index.html"), b"", false)?;
    note(program, &format!("doc\t{name}\n"))
}

fn write(path: &Path, content: &[u8], is_program: bool) -> std::io::Result<()> {
    let mode = if is_program { 0o755 } else { 0o644 };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)
}

/// One whole line, also where several calls write at once.
fn note(program: &Path, line: &str) -> std::io::Result<()> {
    let file = program.parent().unwrap_or(Path::new(".")).join(CALLS);
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_call_is_read_as_rustc_would() {
        let call = read(&words(
            "rustc --crate-name a_b --edition=2021 src/lib.rs --error-format=json --crate-type lib \
             --crate-type cdylib --emit=dep-info,metadata,link -C embed-bitcode=no -C metadata=0a \
             -Cextra-filename=-0b --out-dir /t/debug/deps -C incremental=/t/debug/incremental",
        ))
        .unwrap();
        assert_eq!(call.crate_name, "a_b");
        assert_eq!(call.extra_filename, "-0b");
        assert_eq!(call.metadata, ["0a"]);
        assert!(call.incremental && call.emit_link && !call.is_test);
        let names: Vec<String> = outputs(&call).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["liba_b-0b.rlib", "liba_b-0b.so", "liba_b-0b.rmeta"]);
    }

    #[test]
    fn what_only_asks_is_passed_on() {
        let check = |line: &str| assert_eq!(read(&words(line)), None, "{line}");
        check("rustc -vV");
        check("rustc - --crate-name ___ --print=file-names --crate-type bin");
        check("");
    }

    #[test]
    fn a_check_links_nothing() {
        let call =
            read(&words("rustc --crate-name a --crate-type bin --emit=dep-info,metadata --out-dir /t"));
        assert_eq!(outputs(&call.unwrap()), [("liba.rmeta".to_owned(), false)]);
        let call = read(&words(
            "rustc --crate-name a --test --emit=dep-info,link -C extra-filename=-1 --out-dir /t",
        ));
        assert_eq!(outputs(&call.unwrap())[0], ("a-1".to_owned(), true));
    }
}
