//! rustc's arguments, read by hand: `argv → Args`. Pure; knows no files but those that arguments name.
//!
//! | argument | what becomes of it |
//! |---|---|
//! | `--crate-name`, `--crate-type`, `--emit`, `--out-dir`, `-o`, `-C extra-filename` | say which outputs there are |
//! | `-L`, `--extern`, `-l` | kept; what they lead to is known from what rustc opens |
//! | `-C incremental=…` | kept on a miss, but no part of the key: it must not change what comes out |
//! | `-C linker=…` and the like | kept; the programs that run are known from observation |
//! | `--print …`, `-vV` | a question: no outputs |
//! | `-C save-temps`, `-C profile-use`, `-Z …` that write files, `--emit` of more than one file a crate | not cacheable, by name |

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a crate becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrateType {
    /// `lib` and `rlib`.
    Rlib,
    /// A program.
    Bin,
    /// A shared library for Rust.
    Dylib,
    /// One for C.
    Cdylib,
    /// An archive for C.
    Staticlib,
    /// A library that the compiler loads.
    ProcMacro,
}

impl CrateType {
    fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"lib" | b"rlib" => Self::Rlib,
            b"bin" => Self::Bin,
            b"dylib" => Self::Dylib,
            b"cdylib" => Self::Cdylib,
            b"staticlib" => Self::Staticlib,
            b"proc-macro" => Self::ProcMacro,
            _ => return None,
        })
    }

    /// Whether a linker makes it.
    pub fn is_linked(self) -> bool {
        !matches!(self, Self::Rlib | Self::Staticlib)
    }
}

/// One kind of output and where it goes, where the call says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// `link`, `metadata`, `dep-info`, …
    pub kind: String,
    /// After the `=`.
    pub path: Option<PathBuf>,
}

/// Why arguments are not taken: the argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub OsString);

/// rustc's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// All of them, argument files put in their place.
    pub words: Vec<OsString>,
    /// The source; `-` for standard input.
    pub source: Option<PathBuf>,
    /// `--crate-name`.
    pub crate_name: Option<String>,
    /// `--crate-type`, in order, each once. Empty: a program, or what the source says.
    pub crate_types: Vec<CrateType>,
    /// `--emit`. Empty: `link`.
    pub emits: Vec<Emit>,
    /// `--out-dir`.
    pub out_dir: Option<PathBuf>,
    /// `-o`.
    pub output: Option<PathBuf>,
    /// `-C extra-filename`.
    pub extra_filename: String,
    /// `--target`.
    pub target: Option<String>,
    /// `--test`.
    pub test: bool,
    /// `-C incremental`.
    pub incremental: Option<PathBuf>,
    /// Whether it is a question about the compiler.
    pub question: bool,
    /// `-L`: kind and folder.
    pub searches: Vec<(String, PathBuf)>,
    /// `--extern` with a path.
    pub externs: Vec<PathBuf>,
    /// Whether diagnostics are JSON.
    pub json: bool,
    /// Whether rustc says which files it wrote.
    pub says_artifacts: bool,
    /// Whether the caller maps paths.
    pub remaps: bool,
    /// `-C split-debuginfo`.
    pub split_debuginfo: Option<String>,
    /// `--color`, `--error-format` or `--json` say how it looks.
    pub styled: bool,
}

/// Options with a value in the next word or after `=`.
const WITH_VALUE: &[&str] = &[
    "--crate-name",
    "--crate-type",
    "--emit",
    "--out-dir",
    "--target",
    "--extern",
    "--edition",
    "--cfg",
    "--check-cfg",
    "--print",
    "--explain",
    "--error-format",
    "--json",
    "--color",
    "--cap-lints",
    "--warn",
    "--allow",
    "--deny",
    "--forbid",
    "--force-warn",
    "--sysroot",
    "--remap-path-prefix",
    "--remap-path-scope",
    "--env-set",
    "--diagnostic-width",
    "--codegen",
    "--unpretty",
    "--pretty",
];
/// Options without one.
const ALONE: &[&str] = &["--test", "--verbose", "--version", "--help", "-g", "-O", "-v", "-V", "-vV", "-h"];

/// What `--print` answers without compiling.
const QUESTIONS: &[&str] = &[
    "all-target-specs-json",
    "calling-conventions",
    "cfg",
    "check-cfg",
    "code-models",
    "crate-name",
    "crate-root-lint-levels",
    "deployment-target",
    "file-names",
    "host-tuple",
    "relocation-models",
    "split-debuginfo",
    "supported-crate-types",
    "sysroot",
    "target-cpus",
    "target-features",
    "target-libdir",
    "target-list",
    "target-spec-json",
    "tls-models",
];

/// Codegen options whose effect goes beyond the outputs we know.
const CODEGEN_REFUSED: &[&str] =
    &["save-temps", "profile-generate", "profile-use", "llvm-args", "remark", "remark-dir", "passes", "ar"];

/// Reads the arguments after the program. `read` gives the content of an argument file.
///
/// # Errors
/// The first argument that makes the call not cacheable.
pub fn parse(args: &[OsString], read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Args, Refused> {
    let mut parsed = Args { words: expand(args, read)?, ..Args::default() };
    let words = parsed.words.clone();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let raw = word.as_bytes();
        let mut value = || rest.next().ok_or_else(|| Refused(word.clone()));
        match raw {
            b"-" => parsed.source = Some(PathBuf::from("-")),
            b"-o" => parsed.output = Some(PathBuf::from(value()?)),
            b"-L" | b"-l" | b"-C" | b"-Z" | b"-A" | b"-W" | b"-D" | b"-F" => {
                let value = value()?;
                parsed.short(raw[1], value.as_bytes(), word)?;
            }
            [b'-', letter @ (b'L' | b'l' | b'C' | b'Z' | b'A' | b'W' | b'D' | b'F'), value @ ..] => {
                parsed.short(*letter, value, word)?;
            }
            [b'-', b'o', path @ ..] => parsed.output = Some(PathBuf::from(OsStr::from_bytes(path))),
            _ if ALONE.iter().any(|known| known.as_bytes() == raw) => parsed.alone(raw),
            [b'-', b'-', ..] => {
                let (name, inline) = match raw.iter().position(|byte| *byte == b'=') {
                    Some(at) => (&raw[..at], Some(&raw[at + 1..])),
                    None => (raw, None),
                };
                if !WITH_VALUE.iter().any(|known| known.as_bytes() == name) {
                    return Err(Refused(word.clone()));
                }
                match inline {
                    Some(value) => parsed.long(name, value, word)?,
                    None => {
                        let value = value()?.clone();
                        parsed.long(name, value.as_bytes(), word)?;
                    }
                }
            }
            [b'-', ..] => return Err(Refused(word.clone())),
            _ if parsed.source.is_some() => return Err(Refused(word.clone())),
            _ => parsed.source = Some(PathBuf::from(word)),
        }
    }
    Ok(parsed)
}

/// `@file` stands for the lines of the file.
fn expand(args: &[OsString], read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Vec<OsString>, Refused> {
    let mut words = Vec::with_capacity(args.len());
    for word in args {
        let Some(path) = word.as_bytes().strip_prefix(b"@") else {
            words.push(word.clone());
            continue;
        };
        let text = read(Path::new(OsStr::from_bytes(path))).ok_or_else(|| Refused(word.clone()))?;
        let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
        words.extend(lines.map(|line| OsString::from_vec(line.to_vec())));
    }
    Ok(words)
}

impl Args {
    fn alone(&mut self, raw: &[u8]) {
        match raw {
            b"--test" => self.test = true,
            b"-g" | b"-O" | b"-v" | b"--verbose" => {}
            _ => self.question = true,
        }
    }

    fn short(&mut self, letter: u8, value: &[u8], word: &OsStr) -> Result<(), Refused> {
        match letter {
            b'L' => {
                let (kind, folder) = match value.iter().position(|byte| *byte == b'=') {
                    Some(at) => (&value[..at], &value[at + 1..]),
                    None => (&b"all"[..], value),
                };
                let folder = PathBuf::from(OsStr::from_bytes(folder));
                self.searches.push((String::from_utf8_lossy(kind).into_owned(), folder));
            }
            b'C' => self.codegen(value, word)?,
            // Unstable options may do anything; those that cargo and common tools give are known.
            b'Z' => {
                let name = value.split(|byte| *byte == b'=').next().unwrap_or_default();
                let known: &[&[u8]] = &[
                    b"unstable-options",
                    b"threads",
                    b"embed-metadata",
                    b"checksum-hash-algorithm",
                    b"next-solver",
                    b"binary-dep-depinfo",
                    b"share-generics",
                    b"location-detail",
                ];
                if !known.contains(&name) {
                    return Err(Refused(word.to_owned()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn codegen(&mut self, value: &[u8], word: &OsStr) -> Result<(), Refused> {
        let text = String::from_utf8_lossy(value);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        let name = name.replace('_', "-");
        match name.as_str() {
            "extra-filename" => self.extra_filename = value.to_owned(),
            "incremental" => self.incremental = Some(PathBuf::from(value)),
            "split-debuginfo" => self.split_debuginfo = Some(value.to_owned()),
            "target-cpu" if value == "native" => return Err(Refused(word.to_owned())),
            name if CODEGEN_REFUSED.contains(&name) => return Err(Refused(word.to_owned())),
            _ => {}
        }
        Ok(())
    }

    fn long(&mut self, name: &[u8], value: &[u8], word: &OsStr) -> Result<(), Refused> {
        let text = || String::from_utf8_lossy(value).into_owned();
        let path = || PathBuf::from(OsStr::from_bytes(value));
        match name {
            b"--crate-name" => self.crate_name = Some(text()),
            b"--crate-type" => {
                for name in value.split(|byte| *byte == b',') {
                    let kind = CrateType::parse(name).ok_or_else(|| Refused(word.to_owned()))?;
                    if !self.crate_types.contains(&kind) {
                        self.crate_types.push(kind);
                    }
                }
            }
            b"--emit" => {
                for part in value.split(|byte| *byte == b',') {
                    let (kind, path) = match part.iter().position(|byte| *byte == b'=') {
                        Some(at) => (&part[..at], Some(PathBuf::from(OsStr::from_bytes(&part[at + 1..])))),
                        None => (part, None),
                    };
                    let kind = String::from_utf8_lossy(kind).into_owned();
                    if !self.emits.iter().any(|emit| emit.kind == kind) {
                        self.emits.push(Emit { kind, path });
                    }
                }
            }
            b"--out-dir" => self.out_dir = Some(path()),
            b"--target" => {
                self.target = Some(text());
            }
            b"--extern" => {
                let file = value.iter().position(|byte| *byte == b'=').map(|at| &value[at + 1..]);
                self.externs.extend(file.map(|file| PathBuf::from(OsStr::from_bytes(file))));
            }
            b"--explain" => self.question = true,
            // Others are answered by compiling, or into a file.
            b"--print" if QUESTIONS.iter().any(|known| known.as_bytes() == value) => self.question = true,
            b"--print" => return Err(Refused(word.to_owned())),
            b"--error-format" => {
                self.json |= value == b"json";
                self.styled = true;
            }
            b"--json" => {
                self.says_artifacts |= value.split(|byte| *byte == b',').any(|part| part == b"artifacts");
                self.styled = true;
            }
            b"--color" => self.styled = true,
            b"--remap-path-prefix" => self.remaps = true,
            b"--codegen" => self.codegen(value, word)?,
            b"--unpretty" | b"--pretty" => return Err(Refused(word.to_owned())),
            _ => {}
        }
        Ok(())
    }

    /// What it makes, where the call says so.
    pub fn kinds(&self) -> Vec<CrateType> {
        if self.test || self.crate_types.is_empty() { vec![CrateType::Bin] } else { self.crate_types.clone() }
    }

    /// Whether an output of this kind is asked for.
    pub fn emits(&self, kind: &str) -> bool {
        if self.emits.is_empty() { kind == "link" } else { self.emits.iter().any(|emit| emit.kind == kind) }
    }

    /// Whether a linker runs.
    pub fn links(&self) -> bool {
        self.emits("link") && self.kinds().iter().any(|kind| kind.is_linked())
    }

    /// Whether this is a build script of cargo's, by the name it gives them.
    pub fn is_build_script(&self) -> bool {
        self.emits("link")
            && self.kinds() == [CrateType::Bin]
            && !self.test
            && self.crate_name.as_deref().is_some_and(|name| name.starts_with("build_script_"))
    }

    /// The outputs: a name for each, and its path.
    ///
    /// # Errors
    /// What kind of output it is that we do not know the name of.
    pub fn outputs(&self) -> Result<Vec<(String, PathBuf)>, Refused> {
        let refuse = |what: &str| Refused(OsString::from(what));
        let name = self.crate_name.clone().ok_or_else(|| refuse("--crate-name"))?;
        if !self.target.as_deref().is_none_or(is_linux) {
            return Err(refuse("--target"));
        }
        let folder = self.out_dir.clone().unwrap_or_default();
        let file =
            |before: &str, after: &str| folder.join(format!("{before}{name}{}{after}", self.extra_filename));
        let default = [Emit { kind: "link".to_owned(), path: None }];
        let emits = if self.emits.is_empty() { &default[..] } else { &self.emits[..] };
        if self.output.is_some() && emits.len() > 1 {
            return Err(refuse("-o"));
        }
        let mut outputs = Vec::new();
        for emit in emits {
            let given = emit.path.clone().or_else(|| self.output.clone());
            if given.as_deref() == Some(Path::new("-")) {
                return Err(refuse("--emit"));
            }
            match emit.kind.as_str() {
                "dep-info" => outputs.push(("dep-info".to_owned(), given.unwrap_or_else(|| file("", ".d")))),
                "metadata" => {
                    outputs.push(("metadata".to_owned(), given.unwrap_or_else(|| file("lib", ".rmeta"))));
                }
                "link" => {
                    let kinds = self.kinds();
                    if given.is_some() && kinds.len() > 1 {
                        return Err(refuse("-o"));
                    }
                    for kind in kinds {
                        let (word, usual) = match kind {
                            CrateType::Rlib => ("rlib", file("lib", ".rlib")),
                            CrateType::Bin => ("bin", file("", "")),
                            CrateType::Dylib => ("dylib", file("lib", ".so")),
                            CrateType::Cdylib => ("cdylib", file("lib", ".so")),
                            CrateType::ProcMacro => ("proc-macro", file("lib", ".so")),
                            CrateType::Staticlib => ("staticlib", file("lib", ".a")),
                        };
                        let path = given.clone().unwrap_or(usual);
                        match self.split_debuginfo.as_deref() {
                            Some("packed") if kind.is_linked() => {
                                let mut package = path.clone().into_os_string();
                                package.push(".dwp");
                                outputs.push((format!("dwp-{word}"), PathBuf::from(package)));
                            }
                            // Files with names of the compiler's own beside the output.
                            Some("unpacked") => return Err(refuse("-Csplit-debuginfo=unpacked")),
                            _ => {}
                        }
                        outputs.push((word.to_owned(), path));
                    }
                }
                // One file where there is one codegen unit, several otherwise.
                other => return Err(Refused(OsString::from(format!("--emit={other}")))),
            }
        }
        // `--emit=link=`, `-o ..`: no names of files.
        if outputs.iter().any(|(_, path)| path.file_name().is_none()) {
            return Err(refuse("--emit"));
        }
        Ok(outputs)
    }
}

/// Whether files of this target are named as on Linux.
fn is_linux(target: &str) -> bool {
    target.contains("-linux-") && !target.ends_with(".json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args, Refused> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words, &|_| Some(b"--cfg\nfeature=\"x y\"\n".to_vec()))
    }

    #[test]
    fn a_library_as_cargo_builds_it() {
        let args = args(
            "--crate-name foo --edition=2021 src/lib.rs --error-format=json \
             --json=diagnostic-rendered-ansi,artifacts,future-incompat --crate-type lib \
             --emit=dep-info,metadata,link -C embed-bitcode=no -C debuginfo=2 -C metadata=ab \
             -C extra-filename=-ab --out-dir /t/debug/deps -L dependency=/t/debug/deps \
             --extern bar=/t/debug/deps/libbar-1.rmeta --cap-lints allow",
        )
        .unwrap();
        assert!(args.json && args.says_artifacts && !args.links() && !args.question);
        assert_eq!(args.externs, [PathBuf::from("/t/debug/deps/libbar-1.rmeta")]);
        let outputs = args.outputs().unwrap();
        let paths: Vec<_> =
            outputs.iter().map(|(name, path)| (name.as_str(), path.to_str().unwrap())).collect();
        assert_eq!(
            paths,
            [
                ("dep-info", "/t/debug/deps/foo-ab.d"),
                ("metadata", "/t/debug/deps/libfoo-ab.rmeta"),
                ("rlib", "/t/debug/deps/libfoo-ab.rlib"),
            ]
        );
    }

    #[test]
    fn outputs_follow_from_the_kinds() {
        let check = |line: &str, expect: &[&str]| {
            let outputs = args(&format!("--crate-name x x.rs {line}")).unwrap().outputs();
            let names: Vec<String> = outputs
                .map(|all| all.into_iter().map(|(_, path)| path.to_string_lossy().into_owned()).collect())
                .unwrap_or_else(|Refused(word)| vec![format!("refused {}", word.to_string_lossy())]);
            assert_eq!(names, expect, "{line}");
        };
        check("", &["x"]);
        check("-o /tmp/y", &["/tmp/y"]);
        check("--crate-type=cdylib,staticlib", &["libx.so", "libx.a"]);
        check("--crate-type proc-macro -Cextra-filename=-1", &["libx-1.so"]);
        check("--crate-type bin -C split-debuginfo=packed", &["x.dwp", "x"]);
        check("-C split-debuginfo=unpacked", &["refused -Csplit-debuginfo=unpacked"]);
        check("--emit=asm", &["refused --emit=asm"]);
        check("--emit metadata=/o/m", &["/o/m"]);
        check("--emit=dep-info=-,link", &["refused --emit"]);
        check("--emit=metadata,link=", &["refused --emit"]);
        check("-o ..", &["refused --emit"]);
        check("--test --crate-type lib", &["x"]);
        check("--target x86_64-pc-windows-gnu", &["refused --target"]);
        check("--target aarch64-unknown-linux-gnu", &["x"]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let check = |line: &str, word: &str| {
            assert_eq!(args(&format!("x.rs {line}")), Err(Refused(OsString::from(word))), "{line}");
        };
        check("--print=native-static-libs", "--print=native-static-libs");
        check("--print cfg=/tmp/x", "--print");
        check("-C save-temps", "-C");
        check("-Csave-temps=yes", "-Csave-temps=yes");
        check("-C target-cpu=native", "-C");
        check("--new-option", "--new-option");
        check("-Zself-profile", "-Zself-profile");
        check("y.rs", "y.rs");
        check("-x", "-x");
        check("--extern", "--extern");
    }

    #[test]
    fn questions_and_argument_files() {
        assert!(args("-vV").unwrap().question);
        assert!(args("- --crate-name ___ --print=file-names --crate-type bin").unwrap().question);
        assert!(!args("-v x.rs").unwrap().question);
        assert_eq!(args("@more x.rs").unwrap().words, ["--cfg", "feature=\"x y\"", "x.rs"]);
        assert!(args("--crate-name build_script_build build.rs --crate-type bin").unwrap().is_build_script());
        assert!(!args("--crate-name build_script_build build.rs --emit=metadata").unwrap().is_build_script());
    }

    #[test]
    fn any_words_are_read_without_a_panic() {
        let pieces = [
            "-",
            "--",
            "-C",
            "=",
            "--emit",
            ",",
            "x",
            "--crate-type",
            "-L",
            "\u{fffd}",
            "@f",
            "-o",
            "--extern=a=",
        ];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let words = [first, second, third].map(OsString::from);
                    if let Ok(args) = parse(&words, &|_| None) {
                        let _either = args.outputs();
                    }
                }
            }
        }
    }
}
