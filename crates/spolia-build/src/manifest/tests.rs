//! Tables: a manifest's text, and exactly what is said about it.

use std::collections::BTreeMap;
use std::io;

use spolia_core::diagnostic::{Style, render_all};
use spolia_core::{Diagnostic, Platform, RelPath};

use super::model::{EngineKind, Manifest, Run};
use super::parse::{Files, Request, parse};

/// Files in memory.
pub(crate) struct Memory(pub(crate) BTreeMap<RelPath, String>);

impl Files for Memory {
    fn read(&mut self, path: &RelPath) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

pub(crate) type Parsed = Result<(Manifest, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Parses files `(path, text)`, the root first, on linux/amd64.
pub(crate) fn parse_files(files: &[(&str, &str)], variant: Option<&str>) -> Parsed {
    let memory = files.iter().map(|(path, text)| (RelPath::new(path).unwrap(), (*text).to_owned())).collect();
    let request = Request { variant, host: "linux/amd64".parse().unwrap() };
    parse(&mut Memory(memory), files[0].0, &request)
}

fn good(text: &str) -> Manifest {
    good_variant(text, None)
}

fn good_variant(text: &str, variant: Option<&str>) -> Manifest {
    match parse_files(&[("spolia.toml", text)], variant) {
        Ok((manifest, warnings)) => {
            assert_eq!(render_all(&warnings, Style::Plain), "");
            manifest
        }
        Err(diagnostics) => panic!("{}", render_all(&diagnostics, Style::Plain)),
    }
}

fn platform(name: &str) -> Platform {
    name.parse().unwrap()
}

/// The design's own example, with digests that are digests.
pub(crate) const DESIGN: &str = r#"
[project]
name = "perfspect"
platforms = ["linux/amd64", "linux/arm64"]

[platform."linux/arm64"]               # defaults are built in; override here
cc = "aarch64-linux-gnu-gcc"
suffix = "-aarch64"

[steps.fio-src]                        # a fetch: its key is the digest, so it never runs twice
source = { name = "fio", version = "3.33", sha256 = "d2410e13e0f379d061d077cc5ae325835bb7c6186aa7bafc1df954cbc9b014fc", licence = "GPL-2.0" }
run = "fetch with a package client -o ${out}/fio.tar.gz"
network = true
platforms = "any"                      # once, for all
outputs = ["fio.tar.gz"]

[steps.fio]
needs = ["fio-src"]
run = "tar xzf ${step.fio-src}/fio.tar.gz && make -C fio-3.33 CC=${platform.cc} DESTDIR=${out} install"
inputs = ["tools/fio/**", "!**/*.md"]  # relative to this file
pass-env = ["CFLAGS"]                  # named variables of the caller; the rest is not there
env = { V = "1" }                      # set here
tools = ["make", "${platform.cc}"]     # their identity enters the key
outputs = ["usr/local/bin/fio"]        # relative to ${out}; exist, non-empty, right ELF machine
mounts = [{ id = "ccache", path = "/cache/cc", sharing = "shared", scope = "platform" }]
timeout = "30m"

[steps.app]
needs = ["fio"]
run = "cp ${step.fio}/usr/local/bin/fio . && go build -trimpath -o ${out}/perfspect ."
inputs = ["**/*.go", "go.mod", "go.sum"]
outputs = ["perfspect"]
to = "bin/${platform}"                 # published here instead of .spolia/out/app/PLATFORM
[steps.app.platform."linux/arm64"]
env = { GOARCH = "arm64", LTO = "no" }

[steps.lint]                           # a check: no outputs, its success is the result
run = ["go", "vet", "./..."]           # a list runs without a shell
inputs = ["**/*.go"]
outputs = []

[dist.perfspect]
archive = "perfspect${platform.suffix}.tgz"
files = { "perfspect" = "step:app/perfspect", "LICENSE" = "LICENSE" }
checksums = ["md5", "sha256"]

[cache]
remote = "https://cache.example/team"  # read-only unless credentials allow writing
max-size = "20GB"

[perf.thresholds]
build = { time = "5m", cpu = "8m", hit-rate = "80%", memory = "2GB", regression = "5%" }
"#;

#[test]
fn the_design_s_example() {
    let manifest = good(DESIGN);
    let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
    assert_eq!(manifest.name.as_deref(), Some("perfspect"));
    assert_eq!(manifest.platforms, [amd64.clone(), arm64.clone()]);
    assert_eq!(manifest.platform_vars[&arm64]["suffix"], "-aarch64");
    assert_eq!(manifest.vars(&arm64, &amd64)["ar"], "aarch64-linux-gnu-ar");
    assert_eq!(manifest.cache.max_size_bytes, Some(20_000_000_000));
    let names: Vec<&str> = manifest.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["fio-src", "fio", "app", "lint"]);

    let source = manifest.step("fio-src").unwrap();
    assert_eq!(source.defined.line, 10);
    assert_eq!(source.bodies.keys().collect::<Vec<_>>(), [&Platform::Any]);
    let body = &source.bodies[&Platform::Any];
    assert!(body.network && body.source.as_ref().unwrap().licence.as_deref() == Some("GPL-2.0"));

    let fio = &manifest.step("fio").unwrap().bodies[&arm64];
    assert_eq!(fio.needs, ["fio-src"]);
    assert_eq!(fio.timeout_ms, Some(1_800_000));
    assert_eq!(fio.tools, ["make", "${platform.cc}"]);
    assert!(fio.inputs.selects(&RelPath::new("tools/fio/x.c").unwrap()));
    assert_eq!(fio.mounts[0].path, "/cache/cc");

    let app = manifest.step("app").unwrap();
    assert_eq!(app.bodies[&amd64].env, BTreeMap::new());
    assert_eq!(app.bodies[&arm64].env["LTO"], "no");
    assert_eq!(app.bodies[&arm64].to.as_deref(), Some("bin/${platform}"));
    let lint = &manifest.step("lint").unwrap().bodies[&amd64];
    assert_eq!(lint.run, Run::Argv(["go", "vet", "./..."].map(str::to_owned).to_vec()));
    assert!(lint.outputs.is_empty() && !lint.network && lint.engine != Some(EngineKind::Host));
    assert!(manifest.step("nothing").is_none());
}

#[test]
fn the_committed_example() {
    let text = include_str!("../../../../examples/tools/spolia.toml");
    let manifest = good(text);
    assert_eq!(manifest.platforms.len(), 3);
    let app = manifest.step("app").unwrap();
    assert_eq!(app.bodies[&platform("linux/arm64")].env["LTO"], "no");
    assert_eq!(app.bodies[&platform("linux/386")].env["LTO"], "yes");
}

const VARIANTS: &str = r#"
[project]
platforms = ["linux/amd64", "linux/arm64"]
[steps.a]
run = "make ${platform.cc}"
outputs = ["a"]
env = { LEVEL = "2", A = "step" }
inputs = ["a.c"]
[steps.a.platform."linux/arm64"]
env = { A = "platform" }
timeout = "1h"
[steps.b]
needs = ["a"]
run = "x"
outputs = []
platforms = ["linux/arm64"]
[variant.dev]
env = { LEVEL = "0", A = "variant", B = "${platform.cc}" }
platforms = ["linux/amd64"]
[variant.slow]
[variant.slow.steps.a]
run = ["sleep", "1"]
timeout = "2h"
env = { A = "variant" }
needs = []
"#;

#[test]
fn variants_lie_between_the_step_and_its_platforms() {
    let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
    let env = |manifest: &Manifest, on: &Platform| manifest.step("a").unwrap().bodies[on].env.clone();
    let set = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let plain = good(VARIANTS);
    assert_eq!(env(&plain, &amd64), set(&[("A", "step"), ("LEVEL", "2")]));
    assert_eq!(env(&plain, &arm64), set(&[("A", "platform"), ("LEVEL", "2")]));

    let dev = good_variant(VARIANTS, Some("dev"));
    assert_eq!(dev.platforms, std::slice::from_ref(&amd64));
    assert_eq!(env(&dev, &amd64), set(&[("A", "variant"), ("B", "${platform.cc}"), ("LEVEL", "0")]));
    assert!(dev.step("b").unwrap().bodies.is_empty());

    let slow = good_variant(VARIANTS, Some("slow"));
    let body = |on: &Platform| slow.step("a").unwrap().bodies[on].clone();
    assert_eq!(body(&amd64).run, Run::Argv(vec!["sleep".to_owned(), "1".to_owned()]));
    assert_eq!((body(&amd64).timeout_ms, body(&arm64).timeout_ms), (Some(7_200_000), Some(3_600_000)));
    assert_eq!(env(&slow, &arm64), set(&[("A", "platform"), ("LEVEL", "2")]));
}

#[test]
fn platforms_without_overrides_share_a_body() {
    let text = VARIANTS.replace("[steps.a.platform.\"linux/arm64\"]", "[steps.a.platform.\"linux/386\"]");
    let (manifest, warnings) = parse_files(&[("spolia.toml", &text)], None).unwrap();
    assert_eq!(warnings.len(), 1);
    let bodies: Vec<_> = manifest.step("a").unwrap().bodies.values().collect();
    assert!(std::sync::Arc::ptr_eq(bodies[0], bodies[1]));
}

#[test]
fn an_included_file_is_relative_to_itself() {
    let root = "include = ['tools/spolia.toml']\n[steps.a]\nrun = 'x'\nneeds = ['t', 'deep']\noutputs = []\n";
    let tools = "include = ['deep/x.toml']\n[platform.'linux/amd64']\nfoo = '1'\n[steps.t]\nrun = 'x'\ninputs = ['*.c', '../up.c']\noutputs = ['t']\nto = 'bin/${platform.foo}'\n";
    let deep = "[steps.deep]\nrun = 'x ${step.t}'\nneeds = ['t']\noutputs = ['d']\nto = '../../bin'\n";
    let files = [("spolia.toml", root), ("tools/spolia.toml", tools), ("tools/deep/x.toml", deep)];
    let (manifest, warnings) = parse_files(&files, None).unwrap();
    assert_eq!(render_all(&warnings, Style::Plain), "");
    let names: Vec<&str> = manifest.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["a", "t", "deep"]);
    assert_eq!(manifest.platforms, [platform("linux/amd64")]);
    let t = manifest.step("t").unwrap();
    assert_eq!((t.defined.file.to_string().as_str(), t.defined.line), ("tools/spolia.toml", 4));
    let body = &t.bodies[&platform("linux/amd64")];
    assert_eq!(body.folder, RelPath::new("tools").unwrap());
    assert!(body.inputs.selects(&RelPath::new("tools/a.c").unwrap()));
    assert!(body.inputs.selects(&RelPath::new("up.c").unwrap()));
    assert_eq!(body.to.as_deref(), Some("tools/bin/${platform.foo}"));
    assert_eq!(manifest.step("deep").unwrap().bodies[&platform("linux/amd64")].to.as_deref(), Some("bin"));
}

#[test]
fn without_platforms_a_step_may_name_any_and_is_built_for_the_host_s() {
    let text = "[steps.a]\nrun = 'x'\noutputs = []\nplatforms = ['linux/arm64', 'linux/amd64']\n[steps.b]\nrun = 'x'\noutputs = []\nplatforms = ['linux/arm64']\n";
    let manifest = good(text);
    assert_eq!(manifest.platforms, [platform("linux/amd64")]);
    assert_eq!(manifest.step("a").unwrap().bodies.len(), 1);
    assert!(manifest.step("b").unwrap().bodies.is_empty());
}

#[test]
fn other_rooms_tables_are_left_to_them() {
    let text = "[dist.x]\nanything = 1\n[perf]\n[ci]\na.b.c = [1]\n[sweep]\n[cc]\n";
    assert!(good(text).steps.is_empty());
    assert!(good("").steps.is_empty());
    let bad = parse_files(&[("spolia.toml", "dist = 1\n")], None).unwrap_err();
    assert_eq!(bad[0].message, "`dist` must be a table, not an integer");
}

#[test]
fn every_field_arrives() {
    let text = r#"
[pools]
link = 2
[steps.a]
run = "x"
outputs = [{ path = "e", allow-empty = true }, { path = "m", any-machine = true }, "n"]
mounts = [{ id = "c", path = "/c", sharing = "locked", scope = "project" }, { id = "d", path = "/d" }]
retries = 3
pool = "link"
engine = "host"
base = "strict"
salt = "s"
network = true
[cache]
max-age = "30d"
budget = "100GB"
"#;
    let manifest = good(text);
    let body = &manifest.step("a").unwrap().bodies[&platform("linux/amd64")];
    let flags: Vec<(bool, bool)> =
        body.outputs.iter().map(|one| (one.allow_empty, one.any_machine)).collect();
    assert_eq!(flags, [(true, false), (false, true), (false, false)]);
    use spolia_core::action::{MountScope, Sharing};
    assert_eq!((body.mounts[0].sharing, body.mounts[0].scope), (Sharing::Locked, MountScope::Project));
    assert_eq!((body.mounts[1].sharing, body.mounts[1].scope), (Sharing::Shared, MountScope::Platform));
    assert_eq!((body.retries, body.pool.as_deref(), body.engine), (3, Some("link"), Some(EngineKind::Host)));
    assert!(body.strict_base && body.network && body.salt == "s");
    assert_eq!(
        (manifest.cache.max_age_s, manifest.cache.budget_bytes),
        (Some(2_592_000), Some(100_000_000_000))
    );
    assert_eq!(manifest.pools["link"], 2);
}

/// A small generator, so that a failure can be repeated (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

/// Deletes, doubles or changes a few bytes or lines.
fn mutate(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, bytes[at]),
            2 => bytes[at] = b"\"'[]{}=.,#$\\\n \0x"[random.below(16)],
            3 => bytes[at] ^= 1 << random.below(8),
            kind => {
                let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
                let line = random.below(lines.len());
                if kind == 4 {
                    lines.remove(line);
                } else {
                    lines.insert(random.below(lines.len()), lines[line]);
                }
                bytes = lines.join(&b'\n');
            }
        }
        if bytes.is_empty() {
            bytes.push(b'\n');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn any_text_is_a_manifest_or_says_why_not() {
    const SEED: u64 = 0x5b01_1a00_cafe_f00d;
    let variant = VARIANTS.split_once("[variant.dev]").unwrap().1.replace("steps.a", "steps.app");
    // A step for all platforms has no compiler of its platform.
    let variant = variant.replace("${platform.cc}", "${root}");
    let whole = format!("{DESIGN}\n[variant.dev]{variant}");
    assert!(parse_files(&[("spolia.toml", &whole)], Some("dev")).is_ok());
    let mut random = Random(SEED);
    let (mut fine, mut wrong) = (0, 0);
    for round in 0..2_000 {
        let text = mutate(&whole, &mut random);
        match parse_files(&[("spolia.toml", &text)], None) {
            Ok(_) => fine += 1,
            Err(diagnostics) => {
                assert!(
                    diagnostics.iter().any(|one| one.severity == spolia_core::diagnostic::Severity::Error)
                );
                // Showing them must not fail either.
                assert!(
                    render_all(&diagnostics, Style::Plain).starts_with(['e', 'w']),
                    "seed {SEED:x} {round}"
                );
                wrong += 1;
            }
        }
    }
    assert!(fine > 100 && wrong > 1000, "{fine} {wrong}");
}

#[test]
fn long_chains_deep_tables_and_huge_strings() {
    let chain: String = (0..20_000)
        .map(|n| format!("[steps.s{n}]\nrun = 'x'\noutputs = []\nneeds = ['s{}']\n", (n + 1) % 20_000))
        .collect();
    let cycle = parse_files(&[("spolia.toml", &chain)], None).unwrap_err();
    assert_eq!(cycle.len(), 1);
    assert!(cycle[0].message.contains("(19988 more)"), "{}", cycle[0].message);

    let deep = format!("[steps.a]\nrun = {}'x'{}\n", "[".repeat(5000), "]".repeat(5000));
    assert!(parse_files(&[("spolia.toml", &deep)], None).is_err());
    let dotted = format!("{} = 1\n", vec!["a"; 5000].join("."));
    assert!(parse_files(&[("spolia.toml", &dotted)], None).is_err());

    let huge = format!("[steps.a]\nrun = '{}'\noutputs = []\n", "${out} $".repeat(500_000));
    assert!(parse_files(&[("spolia.toml", &huge)], None).is_ok());
    let wrong = format!("[steps.a]\nrun = '{}'\noutputs = []\n", "${platform.no}".repeat(300_000));
    let wrong = parse_files(&[("spolia.toml", &wrong)], None).unwrap_err();
    assert_eq!(wrong.len(), 1);
    assert!(render_all(&wrong, Style::Plain).len() < 100_000);
}

#[test]
fn many_includes_are_refused() {
    let mut files: Vec<(String, String)> =
        (0..1100).map(|n| (format!("f{n}.toml"), format!("include = ['f{}.toml']\n", n + 1))).collect();
    files.push(("f1100.toml".to_owned(), String::new()));
    let borrowed: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let wrong = parse_files(&borrowed, None).unwrap_err();
    assert_eq!(wrong[0].message, "more than 1000 files are included");

    let request = Request { variant: None, host: platform("linux/amd64") };
    let outside = parse(&mut Memory(BTreeMap::new()), "../x.toml", &request).unwrap_err();
    assert_eq!(outside[0].message, "`../x.toml` leaves the folder it is relative to");
    let missing = parse(&mut Memory(BTreeMap::new()), "x.toml", &request).unwrap_err();
    assert_eq!(missing[0].message, "`x.toml` cannot be read: no such file");
}

/// The guide's examples are manifests; a part of one may need a step that stands in another part.
#[test]
fn the_guide_s_examples() {
    let pages = [
        include_str!("../../../../docs/guide/from-a-shell-tools-cache.md"),
        include_str!("../../../../docs/guide/from-a-makefile.md"),
        include_str!("../../../../docs/guide/from-a-container-build.md"),
    ];
    let mut seen = 0;
    for block in pages.iter().flat_map(|page| page.split("```toml\n").skip(1)) {
        let text = block
            .split("```")
            .next()
            .unwrap()
            .replace("sha256 = \"…\"", &format!("sha256 = \"{}\"", "0".repeat(64)));
        let diagnostics = match parse_files(&[("spolia.toml", &text)], None) {
            Ok((_, warnings)) => warnings,
            Err(diagnostics) => diagnostics,
        };
        let elsewhere = |one: &&Diagnostic| !one.message.ends_with(", which is not defined");
        let wrong: Vec<Diagnostic> = diagnostics.iter().filter(elsewhere).cloned().collect();
        assert!(wrong.is_empty(), "{text}\n{}", render_all(&wrong, Style::Plain));
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}
