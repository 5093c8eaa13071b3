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
