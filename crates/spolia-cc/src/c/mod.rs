//! GCC and Clang: what a call asks for, what it read, what came out.

pub mod args;
pub mod deps;
mod links;
pub(crate) mod marks;
pub mod preprocess;
mod reader;
mod zig;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use spolia_core::key::{KeyWriter, Value};

use spolia_engine::observe;

use crate::Room;
use crate::call::{Call, Compiler, Invocation, Launch, NotKept, Options, Ran, Watch};
use crate::detect::{self, Identity, Kind, Question};
use crate::direct::Seen;
use crate::outcome::{NotCacheable, Outcome, PassThrough};
use crate::replay::{Place, Share};
use args::{KeyArg, Language, Parsed, Product};
use reader::Reader;

/// Variables that change what a C compiler does.
const VARIABLES: &[&str] = &[
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "OBJCPLUS_INCLUDE_PATH",
    "SOURCE_DATE_EPOCH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LANGUAGE",
    "GCC_COLORS",
    "COLUMNS",
    "GCC_EXTRA_DIAGNOSTIC_OUTPUT",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "CCC_ADD_ARGS",
    "SDKROOT",
    "MACOSX_DEPLOYMENT_TARGET",
    "GCC_URLS",
    "TERM_URLS",
];
/// Variables that make a compiler write or read what we would not see.
const REFUSED_VARIABLES: &[&str] =
    &["DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "GCC_COMPARE_DEBUG", "CLANG_CONFIG_PATH"];

/// GCC, Clang, and `zig cc`, which is Clang.
pub struct C {
    /// What its name says.
    pub kind: Kind,
}

impl Compiler for C {
    fn plan(&self, call: &Call<'_>, options: &Options) -> Result<Box<dyn Invocation>, Outcome> {
        for name in REFUSED_VARIABLES {
            if call.env.some(name).is_some() {
                let argument = Some((*name).to_owned());
                return Err(Outcome::NotCacheable { reason: NotCacheable::Variable, argument });
            }
        }
        let first = usize::from(self.kind == Kind::Zig);
        let name = match self.kind {
            Kind::Zig => call.args.first().map(|word| word.as_bytes()).unwrap_or_default(),
            _ => call.name.as_bytes(),
        };
        if self.kind == Kind::Zig && !zig::is_compiler(name) {
            return Err(Outcome::PassThrough(PassThrough::UnknownCompiler));
        }
        let mut parsed = args::parse(call.args.get(first..).unwrap_or_default(), is_cpp_driver(name))?;
        if self.kind == Kind::Zig {
            zig::adapt(&mut parsed)?;
        }
        Ok(Box::new(Compile {
            named: self.kind,
            parsed,
            identity: None,
            first,
            colour: options.colour,
            remap: options.remap,
            hard_links: options.hard_links,
            preprocessed: None,
        }))
    }
}

fn is_cpp_driver(name: &[u8]) -> bool {
    crate::site::find(name, b"++").is_some()
}

/// One compile of one source.
struct Compile {
    named: Kind,
    parsed: Parsed,
    identity: Option<Identity>,
    /// How many arguments come before the compiler's own: 1 for `zig cc`.
    first: usize,
    colour: bool,
    remap: bool,
    hard_links: bool,
    /// The text, where the compiler cannot be observed.
    preprocessed: Option<preprocess::Preprocessed>,
}

impl Compile {
    fn adds_colour(&self) -> bool {
        self.colour && !self.parsed.own_colour
    }

    /// Which compiler it is; asked once in a call.
    fn identify(&mut self, room: &Room, call: &Call<'_>) -> Result<Identity, Outcome> {
        if let Some(known) = &self.identity {
            return Ok(known.clone());
        }
        let identity = detect::identity(room, call.env, &self.question(call)).map_err(Outcome::Internal)?;
        self.identity = Some(identity.clone());
        Ok(identity)
    }

    fn question<'q>(&'q self, call: &'q Call<'_>) -> Question<'q> {
        Question {
            program: &call.program,
            first: &call.args[..self.first],
            options: &self.parsed.toolchain,
            named: Some(self.named),
        }
    }

    /// With the library, which makes it far cheaper, but for what would not load it, would say so, or has been given another.
    fn watch(&self, room: &Room, call: &Call<'_>) -> Watch {
        let fits = self.named != Kind::Zig
            && call.env.some("LD_PRELOAD").is_none()
            && observe::loads_into(&call.program);
        let library = if fits { room.observer(None) } else { None };
        library.map_or(Watch::Files, Watch::Variables)
    }

    fn maps_root(&self, room: &Room) -> bool {
        let known = self.identity.as_ref().is_some_and(|identity| identity.maps_prefixes);
        let compiles =
            self.parsed.language != Language::PlainAssembler && self.parsed.product != Product::Header;
        self.remap && known && compiles && !self.parsed.own_paths && room.site.root.is_some()
    }
}

impl Invocation for Compile {
    fn language(&self) -> &'static str {
        self.parsed.language.name()
    }

    fn source(&self) -> &Path {
        &self.parsed.source
    }

    fn write_key(&mut self, room: &Room, call: &Call<'_>, writer: &mut dyn KeyWriter) -> Result<(), Outcome> {
        let identity = self.identify(room, call)?;
        let p = &self.parsed;
        let is_file = |path: &Path| {
            path.as_os_str() != "-" && std::fs::metadata(path).map_or(true, |found| found.is_file())
        };
        let output = p.output_path();
        if !is_file(&output) {
            return Err(Outcome::NotCacheable { reason: NotCacheable::NoOutputFile, argument: None });
        }
        // What went to a pipe cannot be read again, and what went to `/dev/null` is not what a file would hold.
        if let Some(depfile) = p.depfile().filter(|depfile| !is_file(depfile)) {
            let argument = Some(depfile.display().to_string());
            return Err(Outcome::NotCacheable { reason: NotCacheable::NoOutputFile, argument });
        }
        if p.product == Product::Header && identity.kind != Kind::Gcc && !p.leaves_times_out() {
            // It asks for the headers again when one has another time, whatever they hold.
            let argument = Some("the times of its headers".to_owned());
            return Err(Outcome::NotCacheable { reason: NotCacheable::HiddenInputs, argument });
        }
        writer.field("compiler", Value::Digest(identity.digest));
        writer.field("language", Value::Bytes(p.language.name().as_bytes()));
        let driver = match call.args[..self.first].last() {
            Some(word) => word.as_os_str(),
            None => Path::new(&call.name).file_name().unwrap_or_default(),
        };
        writer.field("driver", Value::Flag(is_cpp_driver(driver.as_bytes())));
        let output_raw = output.as_os_str().as_bytes();
        writer.open("arguments");
        for arg in &p.key {
            match arg {
                KeyArg::Plain(word) if word.starts_with(b"\0target") && &word[7..] == output_raw => {
                    writer.field("", Value::Bytes(b"\0target of the output"));
                }
                KeyArg::Plain(word) => writer.field("", Value::Bytes(word)),
                KeyArg::Path(option, path) => {
                    writer.field("", Value::Bytes(option));
                    writer.field("", Value::Bytes(&room.site.write(path)));
                }
                KeyArg::Map(option, from, to) => {
                    writer.field("", Value::Bytes(option));
                    writer.field("", Value::Bytes(&written_map(room, from)));
                    writer.field("", Value::Bytes(to));
                }
            }
        }
        writer.close();
        writer.field("colour", Value::Flag(self.adds_colour()));
        writer.field("maps", Value::Flag(self.maps_root(room)));
        // GCC names a profile's data after the output; in a folder that is named, by the whole path with `#` for `/`.
        let names_profile = identity.kind == Kind::Gcc && (p.profile_use || p.profile_generate);
        if p.split_dwarf || p.coverage || names_profile {
            // These embed the output's own path.
            writer.field("output", Value::Bytes(output_raw));
        }
        if p.coverage || names_profile || p.own_paths || p.product == Product::Header {
            writer.field("here", Value::Bytes(room.site.cwd.as_os_str().as_bytes()));
        }
        if p.native {
            writer.field("processor", Value::Bytes(&processor()));
        }
        writer.open("variables");
        for name in VARIABLES {
            if let Some(value) = call.env.get(name) {
                writer.field(name, Value::Bytes(value.as_bytes()));
            }
        }
        if self.named == Kind::Zig {
            zig::write_variables(call.env, p.native, writer);
        }
        writer.close();
        writer.field("source path", Value::Bytes(&room.site.write(p.source.as_os_str().as_bytes())));
        // The compiler says what is wrong with a source that is not there.
        let (_, digest) = room.digest(&p.source).map_err(|_| {
            let argument = Some(p.source.display().to_string());
            Outcome::NotCacheable { reason: NotCacheable::NoSource, argument }
        })?;
        writer.field("source", Value::Digest(digest));
        if preprocess::is_needed(room) {
            if self.preprocessed.is_none() {
                self.preprocessed = Some(preprocess::preprocess(room, call, &self.parsed)?);
            }
            if let Some(text) = &self.preprocessed {
                writer.field("preprocessed", Value::Digest(text.digest));
            }
        }
        Ok(())
    }

    fn places(&self) -> Vec<Place> {
        let p = &self.parsed;
        let output = p.output_path();
        let share = if self.hard_links { Share::HardLink } else { Share::Copy };
        // Assemblers, and Clang for all that it writes, put a new file in the place of a link; GCC writes through it.
        let by_gcc = self.identity.as_ref().is_some_and(|identity| identity.kind == Kind::Gcc);
        let replaces_link = p.product == Product::Object || !by_gcc;
        let mut places = vec![Place { replaces_link, ..Place::new("o", output.clone(), share) }];
        if let Some(depfile) = p.depfile() {
            places.push(Place::new("d", depfile, Share::Text));
        }
        let mut beside = |ending: &str| {
            let place = Place::new(ending, output.with_extension(ending), Share::Copy);
            places.push(Place { optional: true, ..place });
        };
        if p.split_dwarf {
            beside("dwo");
        }
        if p.coverage {
            beside("gcno");
        }
        if p.stack_usage {
            beside("su");
        }
        places
    }

    fn launch(&mut self, room: &Room, call: &Call<'_>) -> Launch {
        let mut launch = Launch::default();
        let (first, rest) = call.args.split_at(self.first);
        launch.args.extend_from_slice(first);
        // Before the user's own, which so have the last word.
        if self.adds_colour() {
            launch.args.push("-fdiagnostics-color=always".into());
        }
        if self.maps_root(room)
            && let Some(root) = &room.site.root
        {
            launch.args.push(map(root.as_os_str(), OsStr::new(".")));
            // The compilers take a path's beginning for it, not whole names; the last that fits counts.
            launch.args.extend(
                crate::site::named_alike(root)
                    .iter()
                    .map(|beside| map(beside.as_os_str(), beside.as_os_str())),
            );
        }
        launch.args.extend_from_slice(rest);
        if self.named == Kind::Zig {
            zig::with_own_cache(room, &mut launch);
        }
        launch.watch = if self.preprocessed.is_some() { Watch::No } else { self.watch(room, call) };
        launch
    }

    fn seen(&mut self, room: &Room, call: &Call<'_>, ran: &Ran) -> Result<Seen, NotKept> {
        let never = |argument: String| NotKept::Never(NotCacheable::HiddenInputs, Some(argument));
        let observed = match &ran.observed {
            Some(Ok(observed)) => observed,
            Some(Err(error)) => {
                preprocess::note_needed(room);
                return Err(never(format!("the compiler could not be observed: {error}")));
            }
            None if self.preprocessed.is_some() => {
                return self.preprocessed.as_ref().map_or(Ok(Seen::default()), |text| text.seen(room));
            }
            None => return Err(never("the compiler was not observed".to_owned())),
        };
        let known = |identity: &&Identity| detect::still_is(room, call.env, &self.question(call), identity);
        let Some(identity) = self.identity.as_ref().filter(known) else {
            return Err(NotKept::Now("the compiler was replaced while it ran".to_owned()));
        };
        let identity = identity.parts.as_slice();
        let reader = Reader { room, call, ran, source: &self.parsed.source, parts: identity };
        let places = self.places();
        let mut seen = reader.seen(observed, &places)?;
        let hides = |place: &Place| {
            place.share != Share::Text
                && std::fs::read(&place.path).is_ok_and(|content| marks::may_hide_paths(&content))
        };
        seen.bound |= !self.maps_root(room) && places.iter().any(hides);
        Ok(seen)
    }

    fn pack(&self, room: &Room, _name: &str, text: Vec<u8>) -> Vec<u8> {
        deps::pack(&text, self.parsed.output_path().as_os_str().as_bytes(), room.site.root.as_deref())
    }

    fn unpack(&self, room: &Room, _name: &str, packed: Vec<u8>) -> Vec<u8> {
        deps::unpack(&packed, self.parsed.output_path().as_os_str().as_bytes(), room.site.root.as_deref())
    }
}

/// The beginning of paths that is to be replaced. The compilers take it for a beginning, not for whole names: beside a
/// checkout there may be what it means too.
fn written_map(room: &Room, from: &[u8]) -> Vec<u8> {
    let is_root = room.site.root.as_ref().is_some_and(|root| root.as_os_str().as_bytes() == from);
    match &room.site.root {
        Some(root) if is_root && !crate::site::named_alike(root).is_empty() => [b"=", from].concat(),
        _ => room.site.write(from),
    }
}

fn map(from: &OsStr, to: &OsStr) -> OsString {
    let mut map = OsString::from("-ffile-prefix-map=");
    map.push(from);
    map.push("=");
    map.push(to);
    map
}

/// What `-march=native` looks at: the first processor, as the kernel describes it.
fn processor() -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    // What cannot be read is the same everywhere; the compiler then cannot read it either.
    let _unread = std::fs::File::open("/proc/cpuinfo").map(|file| file.take(16 << 10).read_to_end(&mut text));
    let first = text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let stable = first.filter(|line| !line.starts_with(b"cpu MHz") && !line.starts_with(b"bogomips"));
    stable.collect::<Vec<_>>().join(&b'\n')
}
