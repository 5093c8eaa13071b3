//! Which compiler a program is, and what it really consists of: the driver, what it starts, the libraries of
//! both. Knows no sources.
//!
//! An identity is the digest of the content of all of these, so that the same compiler in another place is the
//! same, and one that was replaced is another whatever its time and size say. It is looked up by `stat` alone:
//!
//! ```text
//! v1/cc/compilers/<hex>  = BLAKE3 of what follows, 32 bytes; postcard(Memo)
//! <hex>                  = BLAKE3 of the program's path, its toolchain options and the variables it goes by
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};
use spolia_core::{Digest, result::Log, result::Stream};
use spolia_engine::compile::Program;
use spolia_store::StatKey;

use crate::sets::Raw;
use crate::{Env, Room, chain};

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// GCC's driver, for any target.
    Gcc,
    /// Clang's driver.
    Clang,
    /// `zig`, whose first argument is `cc` or `c++`.
    Zig,
    /// The Rust compiler.
    Rustc,
    /// Clippy, which is called like it.
    ClippyDriver,
}

/// What a program of this name is; `None` for one we do not know. The name may have a target before it and a
/// version after it.
pub fn kind_of_name(name: &OsStr) -> Option<Kind> {
    let name = Path::new(name).file_name()?.to_str()?;
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let base = if base.len() < name.len() { base.trim_end_matches('-') } else { base };
    let is = |known: &str| base == known || base.strip_suffix(known).is_some_and(|rest| rest.ends_with('-'));
    if is("clang") || is("clang++") {
        Some(Kind::Clang)
    } else if is("gcc") || is("g++") || is("cc") || is("c++") {
        Some(Kind::Gcc)
    } else {
        match base {
            "zig" => Some(Kind::Zig),
            "rustc" => Some(Kind::Rustc),
            "clippy-driver" => Some(Kind::ClippyDriver),
            _ => None,
        }
    }
}

/// Where `name` is found in `search`, leaving out this very program (`own`: device and inode). A name with a
/// slash is taken as it is.
pub fn find_program(name: &OsStr, search: &OsStr, own: Option<(u64, u64)>) -> Option<PathBuf> {
    find_program_that(name, search, own, |_| true)
}

/// The same, of those in `search` that fit.
pub(crate) fn find_program_that(
    name: &OsStr,
    search: &OsStr,
    own: Option<(u64, u64)>,
    fits: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        let Ok(stat) = rustix::fs::stat(path) else { return false };
        let key = StatKey::of(&stat);
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
            && Some((key.dev, key.ino)) != own
            && rustix::fs::access(path, Access::EXEC_OK).is_ok()
    };
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return is_program(&path).then_some(path);
    }
    search
        .as_bytes()
        .split(|byte| *byte == b':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(OsStr::from_bytes(folder)).join(name))
        .find(|path| is_program(path) && fits(path))
}

/// What a compiler is made of and can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Of the content of all its parts, and what it says of itself.
    pub digest: Digest,
    /// What it is, by what it says of itself.
    pub kind: Kind,
    /// Whether it knows `-ffile-prefix-map`.
    pub maps_prefixes: bool,
    /// The paths of its parts, sorted.
    pub parts: Vec<Raw>,
}

/// An identity and what it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    identity: Identity,
    parts: Vec<(Raw, Stamp)>,
    absent: Vec<Raw>,
}

/// A [`StatKey`] as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64, u64, u64, i64, i64);

impl Stamp {
    fn of(key: &StatKey) -> Self {
        Self(key.dev, key.ino, key.size, key.mtime_ns, key.ctime_ns)
    }
}

/// What may change what a driver starts, beside its own path.
#[derive(Clone, Debug)]
pub struct Question<'q> {
    /// The driver.
    pub program: &'q Path,
    /// Arguments before all others, such as `cc` for zig.
    pub first: &'q [OsString],
    /// The call's options by which it finds its parts: `-B`, `--sysroot`, `--target`, …
    pub options: &'q [OsString],
    /// What the name says.
    pub named: Option<Kind>,
}

/// Variables by which a driver finds its parts.
const VARIABLES: &[&str] = &["PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD"];

/// The identity of a C compiler; asked once and remembered while nothing it was read from changes.
///
/// # Errors
/// What failed, in a sentence.
pub fn identity(room: &Room, env: &Env, question: &Question<'_>) -> Result<Identity, String> {
    let path = memo_path(room, env, question);
    if let Some(memo) = read_memo(&path)
        && memo.still_holds()
    {
        tell(room, &memo.identity, "as remembered");
        return Ok(memo.identity);
    }
    let memo = probe(room, env, question)?;
    tell(room, &memo.identity, "asked just now");
    write_memo(room, &path, &memo);
    Ok(memo.identity)
}

/// Whether the compiler still is what `identity` says: nothing of it was replaced while it ran.
pub fn still_is(room: &Room, env: &Env, question: &Question<'_>, identity: &Identity) -> bool {
    let known = read_memo(&memo_path(room, env, question));
    if known.is_some_and(|memo| memo.identity.digest == identity.digest && memo.still_holds()) {
        return true;
    }
    // Something that was too young to be believed, or a memo that could not be written.
    probe(room, env, question).is_ok_and(|memo| memo.identity.digest == identity.digest)
}

fn tell(room: &Room, identity: &Identity, how: &str) {
    room.story.tell("identity", || {
        let Identity { digest, kind, maps_prefixes, parts } = identity;
        let maps = if *maps_prefixes { "knows" } else { "does not know" };
        format!("{kind:?} of {} parts, {maps} -ffile-prefix-map, {digest}, {how}", parts.len())
    });
}

fn memo_path(room: &Room, env: &Env, question: &Question<'_>) -> PathBuf {
    let mut named = Vec::new();
    let mut add = |bytes: &[u8]| {
        named.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        named.extend_from_slice(bytes);
    };
    add(question.program.as_os_str().as_bytes());
    for option in question.first.iter().chain(question.options) {
        add(option.as_bytes());
    }
    for name in VARIABLES {
        add(name.as_bytes());
        add(env.get(name).map(OsStrExt::as_bytes).unwrap_or_default());
    }
    if question.options.iter().any(|option| !option.as_bytes().contains(&b'/')) {
        add(room.site.cwd.as_os_str().as_bytes());
    }
    room.beside("compilers").join(Digest::blake3(&named).to_hex())
}

fn read_memo(path: &Path) -> Option<Memo> {
    Memo::parse(&std::fs::read(path).ok()?)
}

fn write_memo(room: &Room, path: &Path, memo: &Memo) {
    if let Some(file) = memo.file() {
        room.write_memo(path, &file);
    }
}

impl Memo {
    /// From the file that keeps it; `None` for anything else.
    pub fn parse(file: &[u8]) -> Option<Self> {
        let (sum, body) = file.split_first_chunk::<32>()?;
        (Digest::blake3(body).as_bytes() == sum).then(|| postcard::from_bytes(body).ok())?
    }

    /// The file that keeps it.
    pub fn file(&self) -> Option<Vec<u8>> {
        let body = postcard::to_allocvec(self).ok()?;
        Some([Digest::blake3(&body).as_bytes(), body.as_slice()].concat())
    }

    fn still_holds(&self) -> bool {
        let path = |raw: &Raw| PathBuf::from(OsString::from_vec(raw.0.clone()));
        let same = |(part, stamp): &(Raw, Stamp)| {
            rustix::fs::stat(path(part)).is_ok_and(|stat| Stamp::of(&StatKey::of(&stat)) == *stamp)
        };
        self.parts.iter().all(same) && self.absent.iter().all(|raw| rustix::fs::stat(path(raw)).is_err())
    }
}

/// Collects what an identity is made of.
struct Parts<'r> {
    room: &'r Room,
    seen: Vec<(PathBuf, Stamp, Option<Digest>)>,
    absent: Vec<PathBuf>,
    settled: bool,
}

impl Parts<'_> {
    fn add(&mut self, path: &Path) -> Result<(), String> {
        if self.seen.iter().any(|(known, ..)| known == path) {
            return Ok(());
        }
        let (key, digest) =
            self.room.digest(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        self.settled &= key.is_settled(self.room.memo.clock_ns(&key));
        self.seen.push((path.to_owned(), Stamp::of(&key), Some(digest)));
        Ok(())
    }

    /// A program with the libraries that it loads at its start.
    fn add_program(&mut self, path: &Path) -> Result<(), String> {
        self.add(path)?;
        let env = [(OsString::from("LD_TRACE_LOADED_OBJECTS"), Some(OsString::from("1")))];
        let program = Program { path, arg0: path.as_os_str(), args: &[], env: &env, folder: None };
        let traced = program.ask().map_err(|error| format!("cannot run `{}`: {error}", path.display()))?;
        for line in text_of(&traced.log, Some(Stream::Stdout)).lines() {
            let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
            self.add(Path::new(library))?;
        }
        Ok(())
    }

    /// Something that would change the answer if it changed, whatever it holds.
    fn add_folder(&mut self, path: &Path) {
        match rustix::fs::stat(path) {
            Ok(stat) => self.seen.push((path.to_owned(), Stamp::of(&StatKey::of(&stat)), None)),
            Err(_) => self.absent.push(path.to_owned()),
        }
    }
}

fn text_of(log: &Log, only: Option<Stream>) -> String {
    let chunks = Log::chunks(log.as_bytes()).filter(|(stream, _)| only.is_none_or(|only| only == *stream));
    let bytes: Vec<u8> = chunks.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ask(
    env: &Env,
    question: &Question<'_>,
    args: &[&str],
    only: Option<Stream>,
) -> Result<(bool, String), String> {
    let all: Vec<OsString> = question
        .first
        .iter()
        .chain(question.options)
        .cloned()
        .chain(args.iter().map(OsString::from))
        .collect();
    let path = question.program;
    let env = [(OsString::from("LC_ALL"), Some(OsString::from("C"))), chain::told(env, path)];
    let program = Program { path, arg0: path.as_os_str(), args: &all, env: &env, folder: None };
    let answer = program.ask().map_err(|error| format!("cannot run `{}`: {error}", path.display()))?;
    let good = answer.end == spolia_engine::End::Exited(0);
    Ok((good, text_of(&answer.log, only)))
}

fn probe(room: &Room, env: &Env, question: &Question<'_>) -> Result<Memo, String> {
    let mut parts = Parts { room, seen: Vec::new(), absent: Vec::new(), settled: true };
    parts.add_program(question.program)?;
    let (_, version) = ask(env, question, &["-v"], None)?;
    let kind = match question.named {
        Some(Kind::Zig) => Kind::Zig,
        _ if version.contains("clang version") => Kind::Clang,
        _ if version.contains("gcc version") => Kind::Gcc,
        _ => return Err(format!("`{}` does not say which compiler it is", question.program.display())),
    };
    let search = env.get("PATH").unwrap_or_default();
    if kind == Kind::Gcc {
        let folders = program_folders(&ask(env, question, &["-print-search-dirs"], Some(Stream::Stdout))?.1);
        for name in ["cc1", "cc1plus", "as", "cc1obj", "lto-wrapper"] {
            let (_, answer) =
                ask(env, question, &[&format!("-print-prog-name={name}")], Some(Stream::Stdout))?;
            let answer = answer.trim_end_matches('\n');
            let found = find_program(OsStr::new(answer), search, None);
            // Where it was looked for first and not found.
            let earlier = folders.iter().map(|folder| folder.join(name));
            let by_path = search.as_bytes().split(|byte| *byte == b':').filter(|_| !answer.contains('/'));
            let by_path = by_path.map(|folder| Path::new(OsStr::from_bytes(folder)).join(name));
            for path in earlier.chain(by_path).take_while(|path| Some(path) != found.as_ref()) {
                if rustix::fs::stat(&path).is_err() && !parts.absent.contains(&path) {
                    parts.absent.push(path);
                }
            }
            if let Some(found) = found {
                parts.add_program(&found)?;
            }
        }
        let (_, specs) = ask(env, question, &["-print-file-name=specs"], Some(Stream::Stdout))?;
        let specs = Path::new(specs.trim_end_matches('\n'));
        if specs.is_absolute() {
            parts.add(specs)?;
        }
    } else {
        // Clang takes headers and libraries of the newest GCC that it finds.
        for folder in ["/usr/lib/gcc", "/usr/lib/gcc-cross"] {
            parts.add_folder(Path::new(folder));
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                parts.add_folder(&entry.path());
            }
        }
    }
    let map = ["-ffile-prefix-map=/spolia-a=/spolia-b", "-E", "-x", "c", "/dev/null", "-o", "/dev/null"];
    let (maps_prefixes, _) = ask(env, question, &map, None)?;
    let mut all = version.into_bytes();
    for (_, _, digest) in &parts.seen {
        all.extend_from_slice(digest.map(|digest| *digest.as_bytes()).unwrap_or_default().as_slice());
    }
    let raw = |path: &PathBuf| Raw(path.as_os_str().as_bytes().to_vec());
    let mut paths: Vec<Raw> = parts.seen.iter().map(|(path, ..)| raw(path)).collect();
    paths.sort_unstable();
    let identity = Identity { digest: Digest::blake3(&all), kind, maps_prefixes, parts: paths };
    let mut stamps: Vec<(Raw, Stamp)> =
        parts.seen.iter().map(|(path, stamp, _)| (raw(path), *stamp)).collect();
    if !parts.settled {
        // What may still change without a trace is asked again: a stamp that no file has.
        stamps.push((Raw(b"/".to_vec()), Stamp(u64::MAX, 0, 0, 0, 0)));
    }
    Ok(Memo { identity, parts: stamps, absent: parts.absent.iter().map(raw).collect() })
}

/// The folders in which GCC looks for programs.
fn program_folders(said: &str) -> Vec<PathBuf> {
    let line = said.lines().find_map(|line| line.strip_prefix("programs: =")).unwrap_or_default();
    line.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_kind() {
        let check =
            |name: &str, kind: Option<Kind>| assert_eq!(kind_of_name(OsStr::new(name)), kind, "{name}");
        check("gcc", Some(Kind::Gcc));
        check("/usr/bin/gcc-12", Some(Kind::Gcc));
        check("x86_64-linux-gnu-g++-12.2", Some(Kind::Gcc));
        check("aarch64-linux-gnu-gcc", Some(Kind::Gcc));
        check("cc", Some(Kind::Gcc));
        check("c++", Some(Kind::Gcc));
        check("clang++-19", Some(Kind::Clang));
        check("clang", Some(Kind::Clang));
        check("zig", Some(Kind::Zig));
        check("rustc", Some(Kind::Rustc));
        check("clippy-driver", Some(Kind::ClippyDriver));
        check("gcc-ar", None);
        check("spolia", None);
        check("cpp", None);
        check("acc", None);
        check("clang-format", None);
    }
}
