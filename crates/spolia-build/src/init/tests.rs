//! Trees, and what is proposed for them. Every proposal must be a manifest without a warning.

use std::collections::BTreeMap;

use spolia_core::RelPath;
use spolia_core::diagnostic::{Style, render_all};

use super::{Proposal, propose};
use crate::manifest::{Files, Manifest, Request, parse};

struct One(String);

impl Files for One {
    fn read(&mut self, _path: &RelPath) -> std::io::Result<String> {
        Ok(self.0.clone())
    }
}

/// What is proposed for files `(path, text)`, and what it means.
fn proposed(files: &[(&str, &str)]) -> (Proposal, Manifest) {
    let texts: BTreeMap<RelPath, &str> =
        files.iter().map(|(path, text)| (RelPath::new(path).unwrap(), *text)).collect();
    let paths: Vec<RelPath> = texts.keys().cloned().collect();
    let proposal = propose(&paths, &mut |path| texts.get(path).map(|text| (*text).to_owned()));
    let request = Request { variant: None, host: "linux/amd64".parse().unwrap() };
    match parse(&mut One(proposal.text.clone()), "spolia.toml", &request) {
        Ok((manifest, warnings)) if warnings.is_empty() => (proposal, manifest),
        Ok((_, diagnostics)) | Err(diagnostics) => {
            panic!("{}\n{}", proposal.text, render_all(&diagnostics, Style::Plain))
        }
    }
}

/// The names of the steps, each with its outputs.
fn steps(files: &[(&str, &str)]) -> Vec<String> {
    let (_, manifest) = proposed(files);
    let one = |step: &crate::manifest::Step| {
        let body = step.bodies.values().next().unwrap();
        let outputs: Vec<String> = body.outputs.iter().map(|output| output.path.to_string()).collect();
        format!("{}: {}", step.name, outputs.join(" ")).trim_end().to_owned()
    };
    manifest.steps.iter().map(one).collect()
}

const LOCK: &str = "[[package]]\nname = \"x\"\nsource = \"registry+https://example.com/index\"\n";

#[test]
fn cargo_packages_and_workspaces() {
    let package = "[package]\nname = \"tool\"\n";
    let expect = ["cargo-vendor: vendor config.toml", "cargo-build: tool", "cargo-test:"];
    assert_eq!(steps(&[("Cargo.toml", package), ("Cargo.lock", LOCK), ("src/main.rs", "")]), expect);
    let expect = ["cargo-build: tool", "cargo-test:"];
    assert_eq!(steps(&[("Cargo.toml", package), ("Cargo.lock", ""), ("src/main.rs", "")]), expect);
    let library = [("Cargo.toml", package), ("Cargo.lock", ""), ("src/lib.rs", "")];
    assert_eq!(steps(&library), ["cargo-test:"]);
    let workspace = [
        ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\nexclude = [\"crates/odd\"]\n"),
        ("Cargo.lock", ""),
        (
            "crates/a/Cargo.toml",
            "[package]\nname = \"a\"\n[[bin]]\nname = \"renamed\"\npath = \"src/main.rs\"\n",
        ),
        ("crates/a/src/main.rs", ""),
        ("crates/a/src/bin/second.rs", ""),
        (
            "crates/b/Cargo.toml",
            "[package]\nname = \"b\"\n[[bin]]\nname = \"opt\"\nrequired-features = [\"x\"]\npath = \"x.rs\"\n",
        ),
        ("crates/b/src/lib.rs", ""),
        ("crates/odd/Cargo.toml", "[package]\nname = \"odd\"\n"),
        ("crates/odd/src/main.rs", ""),
        ("fuzz/Cargo.toml", "[package]\nname = \"fuzz\"\n[workspace]\n"),
        ("fuzz/src/main.rs", ""),
        ("target/package/x/Cargo.toml", "[package]\nname = \"x\"\n"),
    ];
    assert_eq!(steps(&workspace), ["cargo-build: renamed second", "cargo-test:"]);
}

#[test]
fn cargo_without_a_lock_file_says_so() {
    let (proposal, manifest) =
        proposed(&[("Cargo.toml", "[package]\nname = \"tool\"\n"), ("src/main.rs", "")]);
    assert!(proposal.text.contains("# There is no Cargo.lock"));
    assert!(proposal.notes[0].contains("there is no Cargo.lock"));
    let body = manifest.steps[0].bodies.values().next().unwrap();
    assert_eq!((body.network, body.engine), (true, Some(crate::manifest::EngineKind::Host)));
}

#[test]
fn only_what_fetches_has_the_network() {
    let (_, manifest) = proposed(&[
        ("Cargo.toml", "[package]\nname = \"tool\"\n"),
        ("Cargo.lock", LOCK),
        ("src/main.rs", ""),
        ("go/go.mod", "module example.com/x/server\nrequire example.com/y v1.0.0\n"),
        ("go/go.sum", "example.com/y v1.0.0 h1:x\n"),
        ("go/main.go", "package main\n"),
        (
            "web/package.json",
            "{\"dependencies\":{\"x\":\"1\"},\"scripts\":{\"build\":\"x\"},\"main\":\"dist/x.js\"}",
        ),
        ("web/package-lock.json", "{\"packages\":{\"node_modules/x\":{}}}"),
        ("py/pyproject.toml", "[project]\nname = \"p\"\n[build-system]\nrequires = [\"setuptools>=61\"]\n"),
    ]);
    let network: Vec<(&str, bool)> = manifest
        .steps
        .iter()
        .map(|step| (step.name.as_str(), step.bodies.values().next().unwrap().network))
        .collect();
    let expect = [
        ("cargo-vendor", true),
        ("cargo-build", false),
        ("cargo-test", false),
        ("go-modules-go", true),
        ("go-build-go", false),
        ("go-test-go", false),
        ("python-requires-py", true),
        ("python-wheel-py", false),
        ("node-modules-web", true),
        ("node-build-web", false),
    ];
    assert_eq!(network, expect);
    assert_eq!(manifest.name.as_deref(), Some("tool"));
}

#[test]
fn go_modules() {
    let module = ("go.mod", "module example.com/x/server\n");
    assert_eq!(steps(&[module, ("main.go", "package main\n")]), ["go-build: server", "go-test:"]);
    let two = [
        module,
        ("cmd/a/main.go", "package main\n"),
        ("cmd/b/b.go", "package main\nimport \"C\"\n"),
        ("gen.go", "//go:build ignore\n\npackage main\n"),
        ("lib.go", "package server\n"),
    ];
    assert_eq!(steps(&two), ["go-build: a b", "go-test:"]);
    assert!(proposed(&two).0.text.contains("CGO_ENABLED = \"1\""));
}

#[test]
fn makefiles() {
    let check =
        |text: &str, expect: &str| assert_eq!(steps(&[("Makefile", text), ("a.c", "")]), [expect], "{text}");
    check("all: app lib/libx.a\napp: a.o\n\tcc\nlib/libx.a: x.o\n\tar\n", "make: app libx.a");
    check("BIN = tool\n$(BIN): a.c\n\tcc -o $@ a.c\n", "make: tool");
    check("CC ?= gcc\n.PHONY: all docs\nall: docs tool\ndocs:\n\tx\ntool:\n\tcc\n", "make: tool");
    check("all:\n\techo\n", "make:");
    check("%.o: %.c\n\tcc\n$(OUT)/x: y\n\tcc\n", "make:");
    check("", "make:");
    check("X:=1\nall: ../up /abs a.c $(shell ls)\n../up:\n\tx\n/abs:\n\tx\na.c:\n\tx\n", "make:");
    assert_eq!(steps(&[("Makefile", "x:\n"), ("go.mod", "module x\n")]), ["go-test:"]);
}

#[test]
fn cmake_and_meson() {
    let check = |text: &str, expect: &str| assert_eq!(steps(&[("CMakeLists.txt", text)]), [expect], "{text}");
    check(
        "project(demo C)\nadd_executable(${PROJECT_NAME} a.c) # x\nADD_EXECUTABLE(two b.c)\n",
        "cmake: demo two",
    );
    check("project(demo)\nadd_executable(x a.c)\ninstall(TARGETS x)\n", "cmake: usr");
    check("project(demo)\nadd_executable(x IMPORTED)\nadd_executable(${y} a.c)\n", "cmake:");
    check("", "cmake:");
    let check = |text: &str, expect: &str| assert_eq!(steps(&[("meson.build", text)]), [expect], "{text}");
    check("project('demo', 'c')\nexecutable('x', 'a.c')\n", "meson: x");
    check("project('demo', 'c')\nexecutable('x', 'a.c', install : true)\n", "meson: usr");
    check("", "meson:");
}

#[test]
fn python_and_node() {
    let expect = ["python-requires: wheels", "python-wheel: wheel"];
    assert_eq!(steps(&[("pyproject.toml", "[project]\nname = \"x\"\n"), ("x.py", "")]), expect);
    assert_eq!(steps(&[("pyproject.toml", "[tool.ruff]\n"), ("x.py", "")]), ["python-check:"]);
    let scripts = [("requirements.txt", "x==1\n"), ("x.py", "")];
    assert_eq!(steps(&scripts), ["python-packages: site", "python-check:"]);
    let json = "{\"name\":\"@me/x\",\"scripts\":{\"build\":\"tsc\",\"test\":\"x\"},\"devDependencies\":{\"t\":\"1\"},\"exports\":\"./dist/x.js\"}";
    let expect = ["node-modules: node_modules", "node-build: dist", "node-test:"];
    assert_eq!(steps(&[("package.json", json), ("package-lock.json", "{}")]), expect);
    let (proposal, _) = proposed(&[("package.json", json)]);
    assert!(proposal.notes[0].contains("there is no package-lock.json"));
    let (proposal, _) = proposed(&[("package.json", "{}")]);
    assert!(proposal.notes[0].contains("no dependencies"));
}

#[test]
fn containers_and_nothing() {
    assert_eq!(steps(&[("Dockerfile", "FROM x\n"), ("img/Containerfile", "FROM x\n")]), ["image: image.id"]);
    assert_eq!(
        steps(&[("a/Dockerfile", ""), ("b/Dockerfile", "")]),
        ["image-a: image.id", "image-b: image.id"]
    );
    let (proposal, manifest) = proposed(&[("README.md", "")]);
    assert!(manifest.steps.is_empty() && proposal.text.contains("[steps.hello]"));
}

#[test]
fn odd_names_and_odd_texts_still_make_a_manifest() {
    let odd = "\u{0}'''\"\\${out} \n\t$(x)`id`' [[bin]]";
    let names = [
        "a b/Cargo.toml",
        "it's/go.mod",
        "-x/Makefile",
        "${out}/CMakeLists.txt",
        "\"q\"/package.json",
        "é/x.py",
    ];
    let tree: Vec<(&str, &str)> = names.iter().map(|name| (*name, odd)).collect();
    proposed(&tree);
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "go.mod",
        "Makefile",
        "CMakeLists.txt",
        "meson.build",
        "pyproject.toml",
        "package.json",
    ] {
        proposed(&[(name, odd), ("Cargo.toml", odd), ("main.go", odd)]);
    }
    let nasty = [
        ("Cargo.toml", "[package]\nname = \"a'b\\n\\\"${out}\"\n[[bin]]\nname = \"../x\"\n"),
        ("Cargo.lock", LOCK),
        ("src/main.rs", ""),
        ("w/go.mod", "module x/`id`\n"),
        ("w/main.go", "package main\n"),
        ("m/Makefile", "all: `id` ${out} a;b\n`id`:\n${out}:\n"),
        ("c/CMakeLists.txt", "project(`id`)\nadd_executable($(id) x)\n"),
        (
            "p/pyproject.toml",
            "[project]\nname = \"'x\"\n[build-system]\nrequires = [\"a'b; $(id) ${out} ${step.x}\"]\n",
        ),
        ("n/package.json", "{\"name\":\"'\\u0001\",\"scripts\":{\"build\":\"x\"},\"main\":\"$(id)/x\"}"),
    ];
    let (proposal, _) = proposed(&nasty);
    assert!(!proposal.text.contains("${step.x}"), "{}", proposal.text);
}
