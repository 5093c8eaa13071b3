//! `cargo xtask autotools`: a published package's `./configure && make` through the compiler cache, against the same without.
//!
//! Whether the cache answers as the compiler does is asked nowhere as often as by a `configure`: whole programs that must
//! compile, or must not. Five checkouts of GNU hello beside each other: without the cache, with `CC="spolia cc gcc"` and an empty store,
//! with that store, and by masquerading links with an empty store of their own and with that. Every file must be the same, but for the checkout's own path and what names the
//! compiler; in `config.log` every answer. That the links lead to the cache and the cache to the compiler is asked of
//! `spolia stats`: every compile is counted, under the name by which the links were called, and none was an error of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::packages;
use crate::run::{self, Done};

/// The package's source, as Debian publishes it unchanged.
const TARBALL: &str = "hello_2.10.orig.tar.gz";
/// Its SHA-256.
const SHA256: &str = "31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b";
/// These name the compiler as it was called.
const NAME_THE_COMPILER: &[&str] = &["config.status", "Makefile"];
/// The path in place of a checkout's own.
const HERE: &[u8] = b"/checkout";
/// Downloads sources with the distribution's own client and lists of its own, since few machines list sources.
const FETCH: &str = "
mkdir -p parts lists/partial cache
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ ! -f \"$list\" ] || sed -n 's/^deb /deb-src /p' \"$list\" >> parts/from.list
done
for list in /etc/apt/sources.list.d/*.sources; do
  [ ! -f \"$list\" ] || sed 's/^Types:.*/Types: deb-src/' \"$list\" > \"parts/${list##*/}\"
done
set -- -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=\"$PWD/parts\" \\
  -o Dir::State::lists=\"$PWD/lists\" -o Dir::Cache=\"$PWD/cache\" -o APT::Sandbox::User=root
apt-get \"$@\" update
apt-get \"$@\" source --download-only hello
";

/// How a checkout is built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Named,
    Links,
}

/// `--spolia FILE` takes another program than that of `target/debug`.
///
/// # Errors
/// The package could not be fetched or built, or something differs.
pub(crate) fn run(args: &[String]) -> Done {
    let given = args.iter().position(|arg| arg == "--spolia").and_then(|at| args.get(at + 1));
    let spolia = match given {
        Some(program) => PathBuf::from(program),
        None => {
            run::cargo(&["build", "--quiet", "--package", "spolia"])?;
            run::target()?.join("debug/spolia")
        }
    };
    packages::ensure(&["gcc", "make"], &["gcc", "make", "libc6-dev"])?;
    let tarball = fetch()?;
    let folder = tempfile::Builder::new().prefix("autotools-").tempdir().map_err(|e| e.to_string())?;
    let bench = Bench { folder: folder.path(), spolia: &spolia, tarball: &tarball };
    let plain = bench.build("plain", Way::Plain)?;
    let mut wrong = Vec::new();
    let mut cold: Option<Calls> = None;
    for (name, way, is_warm) in [
        ("cold", Way::Named, false),
        ("warm", Way::Named, true),
        ("linked", Way::Links, false),
        ("linked-warm", Way::Links, true),
    ] {
        let found = bench.build(name, way)?;
        let calls = bench.calls(way)?;
        let differs = differing(&plain, &found);
        println!("{name}: {} files, {} differ, {calls:?}", found.len(), differs.len());
        wrong.extend(differs.iter().map(|path| format!("{name}: `{path}`")));
        let objects = found.keys().filter(|path| path.ends_with(".o")).count() as u64;
        wrong.extend(
            calls.wrong(objects, cold.as_ref().filter(|_| is_warm)).map(|why| format!("{name}: {why}")),
        );
        if !is_warm {
            cold = Some(calls);
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("other than without the cache:\n{}", wrong.join("\n")))
    }
}

/// What `spolia stats` counted of one checkout's compilers.
#[derive(Debug)]
struct Calls {
    hits: u64,
    misses: u64,
    /// Calls that are no compile, or a compile that fails as it should.
    others: u64,
    errors: u64,
    /// Calls of other names than `gcc`.
    elsewhere: u64,
}

impl Calls {
    /// What cannot be of a build of so many `objects`; `cold`: of the same build with an empty store.
    fn wrong(&self, objects: u64, cold: Option<&Self>) -> impl Iterator<Item = String> {
        let Self { hits, misses, others, errors, elsewhere } = self;
        let mut wrong = Vec::new();
        if *errors > 0 || *elsewhere > 0 {
            wrong.push(format!("{errors} errors, {elsewhere} calls of other names"));
        }
        match cold {
            // A `configure` asks some questions twice.
            None if *misses < objects => wrong.push(format!("{misses} misses for {objects} objects")),
            Some(cold) if *misses > 0 || *hits != cold.hits + cold.misses || *others != cold.others => {
                wrong.push(format!("{self:?} after {cold:?}"));
            }
            None | Some(_) => {}
        }
        wrong.into_iter()
    }
}

fn fetch() -> Done<PathBuf> {
    let folder = run::target()?.join("autotools");
    let tarball = folder.join(TARBALL);
    let is_right = || {
        let mut sum = Command::new("sha256sum");
        let said = sum.arg(&tarball).stderr(Stdio::null()).output();
        said.is_ok_and(|said| said.stdout.starts_with(SHA256.as_bytes()))
    };
    if !is_right() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        run::checked(Command::new("sh").args(["-euc", FETCH]).current_dir(&folder).stdout(Stdio::null()))?;
    }
    if is_right() { Ok(tarball) } else { Err(format!("`{}` is not what it was", tarball.display())) }
}

struct Bench<'b> {
    folder: &'b Path,
    spolia: &'b Path,
    tarball: &'b Path,
}

impl Bench<'_> {
    /// A program with a plain environment and our store.
    fn command(&self, program: &Path, first_in_path: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("HOME", self.folder);
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", first_in_path.display()));
        // Without debug information no path has to be another.
        command.env("CFLAGS", "-O2").stdin(Stdio::null());
        command
    }

    /// Unpacks, configures and makes; gives every file that came of it.
    fn build(&self, name: &str, way: Way) -> Done<BTreeMap<String, Vec<u8>>> {
        let checkout = self.folder.join(name);
        std::fs::create_dir(&checkout).map_err(|error| error.to_string())?;
        let mut tar = Command::new("tar");
        run::quietly(tar.arg("xf").arg(self.tarball).args(["--strip-components=1", "-C"]).arg(&checkout))?;
        let links = self.folder.join("links");
        if way == Way::Links && !links.exists() {
            let mut install = self.command(self.spolia, &links);
            run::quietly(install.args(["cc", "--install-links"]).arg(&links))?;
        }
        let cc = match way {
            Way::Named => format!("CC={} cc gcc", self.spolia.display()),
            Way::Plain | Way::Links => "CC=gcc".to_owned(),
        };
        for (program, args) in [("./configure", vec![cc.as_str(), "--quiet"]), ("make", vec!["-j2"])] {
            let mut step = self.command(Path::new(program), &links);
            self.use_store(&mut step, way);
            let output =
                step.args(args).current_dir(&checkout).output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!("{name}: {program} ended with {}:\n{said}", output.status));
            }
        }
        let mut files = BTreeMap::new();
        read(&checkout, &checkout, &mut files)?;
        Ok(files)
    }

    /// Calls since this was asked last.
    fn calls(&self, way: Way) -> Done<Calls> {
        let stats = |words: &[&str]| {
            let mut command = self.command(self.spolia, self.folder);
            self.use_store(&mut command, way);
            run::output(command.arg("stats").args(words))
        };
        let said: serde_json::Value =
            serde_json::from_str(&stats(&["--json"])?).map_err(|error| error.to_string())?;
        stats(&["--zero", "--quiet"])?;
        let number = |counts: &serde_json::Value, name: &str| {
            counts[name].as_u64().ok_or_else(|| format!("`spolia stats` names no {name}"))
        };
        let (all, gcc) = (&said["all"], &said["compilers"]["gcc"]);
        let of = |counts| -> Done<u64> {
            Ok(number(counts, "hits")? + number(counts, "misses")? + number(counts, "not_cacheable")?)
        };
        Ok(Calls {
            hits: number(gcc, "hits")?,
            misses: number(gcc, "misses")?,
            others: number(gcc, "not_cacheable")?,
            errors: number(all, "internal")?,
            elsewhere: of(all)? - of(gcc)?,
        })
    }

    /// Each way has a store of its own.
    fn use_store(&self, command: &mut Command, way: Way) {
        let store = if way == Way::Links { "store-of-links" } else { "store" };
        command.env("SPOLIA_CACHE_DIR", self.folder.join(store));
    }
}

/// Every file below `folder`, with the checkout's own path written as [`HERE`]; of `config.log` the answers.
fn read(checkout: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) -> Done {
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(checkout, &path, into)?;
            continue;
        }
        let name = path.strip_prefix(checkout).unwrap_or(&path).display().to_string();
        let content = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let own = checkout.display().to_string();
        let content = replace(&content, own.as_bytes());
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file == "config.log" {
            into.insert(name, answers(&content));
        } else if !NAME_THE_COMPILER.contains(&file.as_str()) {
            into.insert(name, content);
        }
    }
    Ok(())
}

/// `content` with [`HERE`] wherever `own` stands.
fn replace(content: &[u8], own: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(own) {
            replaced.extend_from_slice(HERE);
            rest = after;
        } else {
            replaced.push(*first);
            rest = &rest[1..];
        }
    }
    replaced
}

/// The lines `ac_cv_…=`, but for those that hold the compiler's name.
fn answers(log: &[u8]) -> Vec<u8> {
    let is_answer = |line: &&[u8]| {
        let names_it =
            [&b"ac_cv_env_CC_"[..], b"ac_cv_prog_CC=", b"ac_cv_prog_ac_ct_CC=", b"ac_cv_prog_CPP="];
        line.starts_with(b"ac_cv_") && !names_it.iter().any(|name| line.starts_with(name))
    };
    log.split(|byte| *byte == b'\n').filter(is_answer).collect::<Vec<_>>().join(&b'\n')
}

fn differing(right: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut names: Vec<&String> = right.keys().chain(found.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter(|name| right.get(*name) != found.get(*name)).cloned().collect()
}
