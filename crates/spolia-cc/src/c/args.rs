//! `argv → Parsed`: what a call of a C compiler asks for. By hand, since it is on the path of every hit. Pure but
//! for response files.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::outcome::{NotCacheable, Outcome, PassThrough};

/// How deep response files may name others.
const RESPONSE_DEPTH_MAX: usize = 8;
/// The longest response file that is read, bytes.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

/// What is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cpp,
    /// Objective-C.
    ObjC,
    /// Objective-C++.
    ObjCpp,
    /// Assembler that is preprocessed.
    Assembler,
    /// Assembler as it is.
    PlainAssembler,
}

impl Language {
    /// For statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Cpp => "c++",
            Self::ObjC => "objective-c",
            Self::ObjCpp => "objective-c++",
            Self::Assembler | Self::PlainAssembler => "assembler",
        }
    }
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// `-c`.
    Object,
    /// `-S`.
    Assembly,
    /// A header that is compiled ahead.
    Header,
}

/// One argument of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyArg {
    /// As it is.
    Plain(Vec<u8>),
    /// An option and a path that is written without the checkout's own folder.
    Path(Vec<u8>, Vec<u8>),
    /// An option, and what takes the place of what where a path begins with that.
    Map(Vec<u8>, Vec<u8>, Vec<u8>),
}

/// What is asked about dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deps {
    /// `-MD`, or `-MMD` which leaves system headers out.
    pub system: bool,
    /// `-MF`, as given.
    pub file: Option<OsString>,
}

/// What a call asks for.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Of the source.
    pub language: Language,
    /// What comes out.
    pub product: Product,
    /// As given.
    pub source: PathBuf,
    /// As given by `-o`.
    pub output: Option<OsString>,
    /// What is asked about dependencies; `None` for nothing.
    pub deps: Option<Deps>,
    /// What the result depends on, in order.
    pub key: Vec<KeyArg>,
    /// Options by which the driver finds its parts.
    pub toolchain: Vec<OsString>,
    /// Whether debug information goes to a file of its own.
    pub split_dwarf: bool,
    /// Whether notes for coverage are written.
    pub coverage: bool,
    /// Whether stack usage is written.
    pub stack_usage: bool,
    /// Whether the processor of this machine matters.
    pub native: bool,
    /// Whether the user says how paths are to be embedded, or wants the command line recorded.
    pub own_paths: bool,
    /// Whether colour was decided by the user.
    pub own_colour: bool,
    /// Whether a profile is read that is found by name.
    pub profile_use: bool,
    /// Whether the program is made to write a profile.
    pub profile_generate: bool,
    /// Whether assembler options are given, and so perhaps files.
    pub assembler: bool,
}

/// Options whose value is the next argument and is part of the key as it is.
const SEPARATE: &[&str] = &[
    "-D",
    "-U",
    "-A",
    "-arch",
    "-target",
    "-mllvm",
    "--param",
    "-G",
    "-z",
    "-u",
    "-T",
    "-Xlinker",
    "-Xassembler",
    "-l",
    "-e",
    "-current_version",
    "-framework",
    "-aux-info-none",
];
/// Options whose value, next or joined, is a path to read below.
const PATHS: &[&str] = &[
    "-isystem",
    "-iquote",
    "-idirafter",
    "-include",
    "-imacros",
    "-isysroot",
    "-iprefix",
    "-iwithprefix",
    "-iwithprefixbefore",
    "-imultilib",
    "-cxx-isystem",
    "-stdlib++-isystem",
    "-include-pch",
    "-ivfsoverlay",
    "-I",
    "-L",
    "-B",
    "-F",
    "-iframework",
    "-isystem-after",
];
/// Options with `=` and a path.
const PATHS_EQUAL: &[&str] = &[
    "--sysroot=",
    "-specs=",
    "--specs=",
    "-fprofile-use=",
    "-fprofile-instr-use=",
    "-fprofile-sample-use=",
    "-fauto-profile=",
    "-fsanitize-blacklist=",
    "-fsanitize-ignorelist=",
    "-fprofile-list=",
    "-resource-dir=",
    "--gcc-toolchain=",
    "-fprofile-dir=",
    "--include=",
    "-fdebug-compilation-dir=",
    "-ffile-compilation-dir=",
    "-fcoverage-compilation-dir=",
    "-fxray-always-instrument=",
];
/// What we do not take, by its beginning: it writes files we would not keep, or runs or reads what we cannot know.
const REFUSED: &[&str] = &[
    "-save-temps",
    "--save-temps",
    "-fdump-",
    "-fplugin",
    "-fpass-plugin",
    "-wrapper",
    "-fcallgraph-info",
    "-ftime-trace",
    "-ftime-report",
    "-fmem-report",
    "-fsave-optimization-record",
    "-foptimization-record",
    "-serialize-diagnostics",
    "--serialize-diagnostics",
    "-fopt-info",
    "-fcompare-debug",
    "-fprofile-note",
    "-dumpdir",
    "-dumpbase",
    "-index-store-path",
    "-gen-",
    "-emit-ast",
    "-emit-pth",
    "--analyze",
    "-analyze",
    "-fcrash-diagnostics-dir",
    "-MJ",
    "-fdiagnostics-add-output",
    "-fdiagnostics-set-output",
    "-fauto-profile",
    "--config",
    "-cc1",
    "-da",
    "-fproc-stat-report",
    "-aux-info",
    "-fembed-offload",
    "-fopenmp-targets",
    "--offload",
    "-fsyntax-only",
    "--precompile",
    "-fdirectives-only",
    "-ftest-coverage=",
    "-working-directory",
    "-fmerge-debug-strings",
    "-fada-spec",
    "-fcanon",
    "--mj",
    "-ivfsstatcache",
    "-fprofile-partial",
    "-via-file-asm",
    "-rewrite",
    "-fthinlto-index",
    "-fembed-bitcode-marker",
    "-fsanitize-stats",
];
/// What `-Xclang` may say to the compiler proper.
const PASSED_ON: &[&[u8]] = &[NO_PCH_TIMES, b"-fcolor-diagnostics", b"-disable-llvm-passes", b"-emit-pch"];
/// Keeps the times of headers out of Clang's compiled ones.
const NO_PCH_TIMES: &[u8] = b"-fno-pch-timestamp";
const MODULES: &[&str] =
    &["-fmodules", "-fmodule", "-fprebuilt-module", "-fimplicit-module", "-fcxx-modules"];
const QUESTIONS: &[&str] = &[
    "-v",
    "-V",
    "-###",
    "--version",
    "-dumpversion",
    "-dumpfullversion",
    "-dumpmachine",
    "-dumpspecs",
    "--help",
    "-Q",
    "-qversion",
    "--target-help",
];

/// What the arguments ask for, or why the cache does not take them. `driver_is_cpp`: the program's name says C++.
///
/// # Errors
/// The outcome of a call that the cache does not take.
pub fn parse(args: &[OsString], driver_is_cpp: bool) -> Result<Parsed, Outcome> {
    let mut flat = Vec::with_capacity(args.len());
    expand(args, &mut flat, 0)?;
    Walk::new(driver_is_cpp).walk(&flat)
}

fn refuse(reason: NotCacheable, argument: &[u8]) -> Outcome {
    let shown = spolia_core::codec::escape(&argument[..argument.len().min(200)]);
    Outcome::NotCacheable { reason, argument: Some(shown) }
}

fn expand(args: &[OsString], into: &mut Vec<Vec<u8>>, depth: usize) -> Result<(), Outcome> {
    for arg in args {
        let raw = arg.as_bytes();
        let Some(path) = raw.strip_prefix(b"@") else {
            into.push(raw.to_vec());
            continue;
        };
        let path = Path::new(OsStr::from_bytes(path));
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= RESPONSE_BYTES_MAX => {}
            // The compilers take the word as it is then.
            Err(_) => {
                into.push(raw.to_vec());
                continue;
            }
            Ok(_) => return Err(refuse(NotCacheable::Argument, raw)),
        }
        if depth == RESPONSE_DEPTH_MAX {
            return Err(refuse(NotCacheable::Argument, raw));
        }
        let text = std::fs::read(path).map_err(|_| refuse(NotCacheable::Argument, raw))?;
        let words: Vec<OsString> = words(&text).into_iter().map(OsString::from_vec).collect();
        expand(&words, into, depth + 1)?;
    }
    Ok(())
}

/// The words of a response file, as GCC and Clang on Linux split it: blanks part, quotes and `\` keep.
pub fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (_, b'\\') => word.get_or_insert_default().extend(bytes.next()),
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, _) if byte.is_ascii_whitespace() || byte == 0x0b => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

struct Walk {
    driver_is_cpp: bool,
    forced: Option<Vec<u8>>,
    source: Option<(PathBuf, Option<Vec<u8>>)>,
    /// A second source.
    several: Option<Vec<u8>>,
    compile: bool,
    assembly: bool,
    out: Parsed,
}

impl Walk {
    fn new(driver_is_cpp: bool) -> Self {
        let out = Parsed {
            language: Language::C,
            product: Product::Object,
            source: PathBuf::new(),
            output: None,
            deps: None,
            key: Vec::new(),
            toolchain: Vec::new(),
            split_dwarf: false,
            coverage: false,
            stack_usage: false,
            native: false,
            own_paths: false,
            own_colour: false,
            profile_use: false,
            profile_generate: false,
            assembler: false,
        };
        Self {
            driver_is_cpp,
            forced: None,
            source: None,
            several: None,
            compile: false,
            assembly: false,
            out,
        }
    }

    fn plain(&mut self, arg: &[u8]) {
        self.out.key.push(KeyArg::Plain(arg.to_vec()));
    }

    fn walk(mut self, args: &[Vec<u8>]) -> Result<Parsed, Outcome> {
        let mut at = 0;
        // Questions and calls that only preprocess are told from others before anything is refused.
        for arg in args {
            match arg.as_slice() {
                b"-E" | b"-M" | b"-MM" => return Err(refuse(NotCacheable::Preprocess, arg)),
                _ => {}
            }
        }
        while at < args.len() {
            let arg = args[at].as_slice();
            let mut value = || {
                at += 1;
                args.get(at).cloned().ok_or_else(|| refuse(NotCacheable::Argument, arg))
            };
            if !arg.starts_with(b"-") || arg == b"-" {
                self.input(arg)?;
            } else if arg == b"-o" {
                let path = value()?;
                self.out.output = Some(OsString::from_vec(path));
            } else if arg == b"-x" {
                let language = value()?;
                self.language(&language);
            } else if arg.starts_with(b"-M") {
                self.dependencies(arg, &mut value)?;
            } else if let Some(option) = PATHS.iter().find(|option| arg == option.as_bytes()) {
                let path = value()?;
                self.path(option.as_bytes(), &path);
            } else if SEPARATE.iter().any(|option| arg == option.as_bytes()) {
                let word = value()?;
                self.plain(arg);
                if arg == b"-target" || arg == b"-arch" {
                    self.out.toolchain.extend([arg, &word].map(|word| OsString::from_vec(word.to_vec())));
                }
                self.plain(&word);
            } else if matches!(arg, b"-Xclang" | b"-Xpreprocessor") {
                // What the next word does to the compiler proper is known for a few only.
                let word = value()?;
                if arg == b"-Xclang" && matches!(word.as_slice(), b"-include" | b"-include-pch") {
                    // As CMake names compiled headers: the path is the word after another `-Xclang`.
                    if value()? != b"-Xclang" {
                        return Err(refuse(NotCacheable::Argument, &word));
                    }
                    let path = value()?;
                    self.path(&[arg, &word].concat(), &path);
                } else if PASSED_ON.contains(&word.as_slice()) {
                    self.plain(arg);
                    self.plain(&word);
                } else {
                    return Err(refuse(NotCacheable::Argument, &word));
                }
            } else {
                self.option(arg)?;
            }
            at += 1;
        }
        self.finish()
    }

    fn language(&mut self, language: &[u8]) {
        self.forced = (language != b"none").then(|| language.to_vec());
        self.out.key.push(KeyArg::Plain([b"-x", language].concat()));
    }

    fn input(&mut self, arg: &[u8]) -> Result<(), Outcome> {
        if arg == b"-" {
            return Err(refuse(NotCacheable::Stdin, arg));
        }
        if self.source.is_some() {
            self.several.get_or_insert_with(|| arg.to_vec());
            return Ok(());
        }
        self.source = Some((PathBuf::from(OsStr::from_bytes(arg)), self.forced.clone()));
        // Its place in the order is that of the source.
        self.plain(b"\0source");
        Ok(())
    }

    fn path(&mut self, option: &[u8], path: &[u8]) {
        if matches!(
            option,
            b"-B" | b"--sysroot=" | b"-specs=" | b"--specs=" | b"--gcc-toolchain=" | b"-isysroot"
        ) {
            let mut word = option.to_vec();
            if option == b"-isysroot" {
                self.out.toolchain.push(OsString::from_vec(std::mem::take(&mut word)));
            }
            word.extend_from_slice(path);
            self.out.toolchain.push(OsString::from_vec(word));
        }
        self.out.key.push(KeyArg::Path(option.to_vec(), path.to_vec()));
    }

    fn dependencies(
        &mut self,
        arg: &[u8],
        value: &mut dyn FnMut() -> Result<Vec<u8>, Outcome>,
    ) -> Result<(), Outcome> {
        match arg {
            b"-MD" | b"-MMD" => {
                let deps = self.out.deps.get_or_insert_default();
                // The last of the two counts, as in the compilers.
                deps.system = arg == b"-MD";
                self.plain(arg);
            }
            b"-MP" => self.plain(arg),
            b"-MF" => self.out.deps_file(OsString::from_vec(value()?)),
            b"-MT" | b"-MQ" => {
                let target = value()?;
                self.plain(arg);
                self.plain(&[b"\0target", target.as_slice()].concat());
            }
            _ if arg.starts_with(b"-MF") => self.out.deps_file(OsString::from_vec(arg[3..].to_vec())),
            _ if arg.starts_with(b"-MT") || arg.starts_with(b"-MQ") => {
                self.plain(&arg[..3]);
                self.plain(&[b"\0target", &arg[3..]].concat());
            }
            _ => return Err(refuse(NotCacheable::Argument, arg)),
        }
        Ok(())
    }

    fn option(&mut self, arg: &[u8]) -> Result<(), Outcome> {
        let starts = |list: &[&str]| list.iter().any(|begin| arg.starts_with(begin.as_bytes()));
        if QUESTIONS.iter().any(|question| arg == question.as_bytes())
            || arg.starts_with(b"-print-")
            || arg.starts_with(b"--print-")
            || arg.starts_with(b"--help=")
        {
            return Err(Outcome::PassThrough(PassThrough::Question));
        }
        if starts(MODULES) {
            return Err(refuse(NotCacheable::Modules, arg));
        }
        if starts(REFUSED) || (arg.starts_with(b"-d") && !arg.starts_with(b"-dD") && arg.len() == 3) {
            return Err(refuse(NotCacheable::Argument, arg));
        }
        for option in PATHS_EQUAL {
            if let Some(path) = arg.strip_prefix(option.as_bytes()) {
                self.out.profile_use |= option.contains("profile");
                self.path(option.as_bytes(), path);
                return Ok(());
            }
        }
        for option in ["-I", "-L", "-B", "-F", "-isystem", "-iquote", "-idirafter", "-include", "-imacros"] {
            if let Some(path) = arg.strip_prefix(option.as_bytes()) {
                self.path(option.as_bytes(), path);
                return Ok(());
            }
        }
        self.flag(arg)
    }

    fn flag(&mut self, arg: &[u8]) -> Result<(), Outcome> {
        let out = &mut self.out;
        match arg {
            b"-c" => self.compile = true,
            b"-S" => self.assembly = true,
            b"-pipe" => return Ok(()),
            b"-gsplit-dwarf" => out.split_dwarf = true,
            b"-gno-split-dwarf" => out.split_dwarf = false,
            b"--coverage" | b"-coverage" | b"-ftest-coverage" | b"-fprofile-arcs" => out.coverage = true,
            b"-fstack-usage" => out.stack_usage = true,
            b"-march=native" | b"-mtune=native" | b"-mcpu=native" => out.native = true,
            b"-fprofile-use" | b"-fbranch-probabilities" => out.profile_use = true,
            b"-frecord-gcc-switches" | b"-frecord-command-line" | b"-grecord-command-line" => {
                out.own_paths = true
            }
            _ if arg.starts_with(b"-fprofile-generate") => out.profile_generate = true,
            b"-fcolor-diagnostics" | b"-fno-color-diagnostics" => out.own_colour = true,
            _ if arg.starts_with(b"-gsplit-dwarf=") => out.split_dwarf = true,
            _ if arg.starts_with(b"-fdiagnostics-color") => out.own_colour = true,
            _ if arg.starts_with(b"-o") => {
                out.output = Some(OsString::from_vec(arg[2..].to_vec()));
                return Ok(());
            }
            _ if arg.starts_with(b"-x") => {
                let language = arg[2..].to_vec();
                self.language(&language);
                return Ok(());
            }
            _ if arg.starts_with(b"-Wp,") => return self.preprocessor(arg),
            _ if arg.starts_with(b"-Wa,") => self.out.assembler_options(arg)?,
            _ if arg.starts_with(b"--target=") || arg.starts_with(b"-m") || arg.starts_with(b"-fuse-") => {
                out.toolchain.push(OsString::from_vec(arg.to_vec()));
            }
            _ if [
                &b"-ffile-prefix-map="[..],
                b"-fdebug-prefix-map=",
                b"-fmacro-prefix-map=",
                b"-fcoverage-prefix-map=",
                b"-fprofile-prefix-map=",
            ]
            .iter()
            .any(|map| arg.starts_with(map)) =>
            {
                let words: Vec<&[u8]> = arg.split(|byte| *byte == b'=').collect();
                // With one more the compilers do not agree where to cut.
                if let [option, from, to] = words.as_slice() {
                    out.key.push(KeyArg::Map(option.to_vec(), from.to_vec(), to.to_vec()));
                    return Ok(());
                }
            }
            _ => {}
        }
        self.plain(arg);
        Ok(())
    }

    fn preprocessor(&mut self, arg: &[u8]) -> Result<(), Outcome> {
        let words: Vec<&[u8]> = arg[4..].split(|byte| *byte == b',').collect();
        match words.as_slice() {
            [kind @ (b"-MD" | b"-MMD"), file] => {
                let deps = self.out.deps.get_or_insert_default();
                deps.system = *kind == b"-MD";
                deps.file = Some(OsString::from_vec(file.to_vec()));
                self.plain(&[b"-Wp,", *kind].concat());
                Ok(())
            }
            _ if words.iter().all(|word| word.starts_with(b"-D") || word.starts_with(b"-U")) => {
                self.plain(arg);
                Ok(())
            }
            _ => Err(refuse(NotCacheable::Argument, arg)),
        }
    }

    fn finish(mut self) -> Result<Parsed, Outcome> {
        let nothing = |reason| Outcome::NotCacheable { reason, argument: None };
        let Some((source, forced)) = self.source.take() else {
            return Err(nothing(if self.compile { NotCacheable::NoSource } else { NotCacheable::Link }));
        };
        if let Some(second) = &self.several {
            // Objects, mostly.
            return Err(match self.compile || self.assembly {
                true => refuse(NotCacheable::SeveralSources, second),
                false => nothing(NotCacheable::Link),
            });
        }
        let (language, header) = match forced.as_deref() {
            Some(name) => named(name),
            None => by_ending(&source, self.driver_is_cpp),
        }
        .ok_or_else(|| match self.compile || self.assembly {
            true => refuse(NotCacheable::Language, source.as_os_str().as_bytes()),
            false => nothing(NotCacheable::Link),
        })?;
        self.out.product = match (self.assembly, self.compile, header) {
            (true, _, _) => Product::Assembly,
            (_, _, true) => Product::Header,
            (_, true, _) => Product::Object,
            _ => return Err(nothing(NotCacheable::Link)),
        };
        self.out.language = language;
        self.out.source = source;
        Ok(self.out)
    }
}

impl Parsed {
    fn deps_file(&mut self, file: OsString) {
        // `-MF` alone asks for nothing; `-MD` may come after it.
        self.deps.get_or_insert(Deps { system: true, file: None }).file = Some(file);
    }

    fn assembler_options(&mut self, arg: &[u8]) -> Result<(), Outcome> {
        self.assembler = true;
        for word in arg[4..].split(|byte| *byte == b',') {
            let refused = [&b"-a"[..], b"-o", b"@", b"--MD"].iter().any(|begin| word.starts_with(begin));
            if refused {
                return Err(refuse(NotCacheable::Argument, arg));
            }
        }
        Ok(())
    }

    /// The path of the main output, as the compiler names it.
    pub fn output_path(&self) -> PathBuf {
        if let Some(output) = &self.output {
            return PathBuf::from(output);
        }
        let name = PathBuf::from(self.source.file_name().unwrap_or_default());
        match self.product {
            Product::Object => name.with_extension("o"),
            Product::Assembly => name.with_extension("s"),
            Product::Header => {
                let mut path = self.source.clone().into_os_string();
                path.push(".gch");
                PathBuf::from(path)
            }
        }
    }

    /// Whether Clang is told to keep times out of a compiled header.
    pub fn leaves_times_out(&self) -> bool {
        self.key.iter().any(|arg| matches!(arg, KeyArg::Plain(word) if word == NO_PCH_TIMES))
    }

    /// The path of the depfile, where one is asked for.
    pub fn depfile(&self) -> Option<PathBuf> {
        let deps = self.deps.as_ref()?;
        if let Some(file) = &deps.file {
            return Some(PathBuf::from(file));
        }
        let base = match &self.output {
            Some(output) => PathBuf::from(output),
            None => PathBuf::from(self.source.file_name().unwrap_or_default()),
        };
        Some(base.with_extension("d"))
    }
}

fn named(name: &[u8]) -> Option<(Language, bool)> {
    Some(match name {
        b"c" | b"cpp-output" => (Language::C, false),
        b"c++" | b"c++-cpp-output" => (Language::Cpp, false),
        b"objective-c" => (Language::ObjC, false),
        b"objective-c++" => (Language::ObjCpp, false),
        b"assembler" => (Language::PlainAssembler, false),
        b"assembler-with-cpp" => (Language::Assembler, false),
        b"c-header" => (Language::C, true),
        b"c++-header" => (Language::Cpp, true),
        _ => return None,
    })
}

fn by_ending(source: &Path, driver_is_cpp: bool) -> Option<(Language, bool)> {
    let c = if driver_is_cpp { Language::Cpp } else { Language::C };
    Some(match source.extension()?.to_str()? {
        "c" => (c, false),
        "i" => (Language::C, false),
        "cc" | "cp" | "cxx" | "cpp" | "CPP" | "c++" | "C" | "ii" => (Language::Cpp, false),
        "m" => (Language::ObjC, false),
        "mm" | "M" => (Language::ObjCpp, false),
        "s" => (Language::PlainAssembler, false),
        "S" | "sx" => (Language::Assembler, false),
        "h" => (c, true),
        "hh" | "hp" | "hxx" | "hpp" | "HPP" | "h++" | "H" | "tcc" => (Language::Cpp, true),
        _ => return None,
    })
}
