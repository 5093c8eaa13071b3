//! Parsers of bytes in memory.

use spolia_build::manifest::{self, Files};
use spolia_core::conf::{Problems, parse, parse_duration, parse_size};
use spolia_core::diagnostic::{Source, Style, render_all};
use spolia_core::glob::{Pattern, PatternList};
use spolia_core::template::{expand, placeholders};
use spolia_core::{Platform, RelPath, elf};
use spolia_engine::perform;
use spolia_engine::sandbox::{Report, SandboxSpec};

use crate::Target;

const MANIFEST_SEED: &str = r#"include = ["more.toml"]
[project]
name = "p"
platforms = ["linux/amd64", "linux/arm64"]
[platform."linux/arm64"]
cc = "aarch64-linux-gnu-gcc"
[steps.src]
source = { name = "z", version = "1", sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }
run = "fetch -o ${out}/z"
network = true
platforms = "any"
outputs = ["z"]
[steps.a]
needs = ["src"]
run = "cp ${step.src}/z ${out}/o && ${platform.cc} -v $HOME"
inputs = ["**/*.c", "!x/**"]
env = { V = "1" }
outputs = ["o"]
to = "bin/${platform}"
timeout = "30m"
mounts = [{ id = "m", path = "/c", sharing = "locked", scope = "platform" }]
[steps.a.platform."linux/arm64"]
env = { V = "2" }
[variant.dev.steps.a]
env = { V = "3" }
[cache]
max-size = "20GB"
[pools]
link = 1
"#;

/// TOML with spans, durations and sizes.
pub(crate) const CONF: Target = Target {
    name: "conf",
    seeds: || {
        vec![MANIFEST_SEED.into(), b"a = 1\na = 2\n[b]\nc = \"\\u00e9\xc3\xa9\"".to_vec(), b"1h30m".to_vec()]
    },
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        let mut problems = Problems::default();
        let file = RelPath::new("spolia.toml").expect("a plain name");
        let (number, _) = problems.add_source(Source::new(file, text.to_owned()));
        let _table = parse(number, text, &mut problems);
        let problems = problems.into_diagnostics();
        for style in [Style::Plain, Style::Colour] {
            let _words = render_all(&problems, style);
        }
        let _number = (parse_duration(text), parse_size(text));
    },
    tries: 4000,
};

struct Manifest<'m>(&'m str);

impl Files for Manifest<'_> {
    fn read(&mut self, path: &RelPath) -> std::io::Result<String> {
        match path.as_bytes() {
            b"spolia.toml" => Ok(self.0.to_owned()),
            b"more.toml" => Ok("[steps.more]\nrun = \"true\"\noutputs = []\n".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// The whole manifest: a mistake is told, and what is accepted has no dangling names.
pub(crate) const MANIFEST: Target = Target {
    name: "manifest",
    seeds: || {
        vec![MANIFEST_SEED.into(), MANIFEST_SEED.replace("needs = [\"src\"]", "needs = [\"a\"]").into()]
    },
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        for variant in [None, Some("dev")] {
            let request = manifest::Request { variant, host: Platform::host() };
            match manifest::parse(&mut Manifest(text), "spolia.toml", &request) {
                Ok((manifest, _)) => {
                    for step in &manifest.steps {
                        assert!(manifest.step(&step.name).is_some_and(|found| found.name == step.name));
                    }
                }
                Err(problems) => {
                    assert!(!problems.is_empty(), "refused without a word");
                    assert!(!render_all(&problems, Style::Plain).is_empty());
                }
            }
        }
    },
    tries: 3000,
};

/// A pattern, a newline, a path. What [`spolia_core::glob::pattern_for`] writes matches just its path.
pub(crate) const GLOB: Target = Target {
    name: "glob",
    seeds: || {
        let texts =
            ["**/*.c\nsrc/a.c", "!x/**\nx/y", "a/{b,c}/[d-f]?.rs\na/b/d1.rs", "/src/\nsrc/x", "\\*\n*"];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    },
    run: |raw| {
        let at = raw.iter().position(|byte| *byte == b'\n').unwrap_or(raw.len());
        let (pattern, path) = (&raw[..at], raw.get(at + 1..).unwrap_or_default());
        let base = RelPath::root();
        let Ok(path) = RelPath::new(path) else { return };
        if let Ok(text) = std::str::from_utf8(pattern)
            && let Ok(pattern) = Pattern::parse(text, &base)
        {
            let _matches = pattern.matches(&path, &base);
            let set = PatternList::new(base.clone(), vec![pattern]);
            let _roots = (set.search_roots(), set.selects(&path), set.selects_literally(&path));
        }
        if path.is_root() || std::str::from_utf8(path.as_bytes()).is_err() {
            return;
        }
        let text = spolia_core::glob::pattern_for(&path, &base);
        let pattern = Pattern::parse(&text, &base).expect("our own pattern");
        assert!(pattern.matches(&path, &base), "`{text}` does not match `{path}`");
    },
    tries: 4000,
};

/// `${…}` in commands.
pub(crate) const TEMPLATE: Target = Target {
    name: "template",
    seeds: || {
        let texts =
            ["${out}/a $HOME ${X:-y}", "${step.a}${platform.cc}${platform}", "$${out} ${", "$(echo ${root})"];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    },
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        let same = expand(text, &|_| None);
        if let Ok(template) = placeholders(text) {
            let found = template.placeholders().count();
            assert!(found <= text.matches("${").count());
            if found == 0 {
                assert_eq!(same, text.as_bytes());
            }
        }
    },
    tries: 4000,
};

/// The heads of binaries and archives.
pub(crate) const ELF: Target = Target {
    name: "elf",
    seeds: || {
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        header.resize(64, 0);
        let mut archive = b"!<arch>\n".to_vec();
        archive.extend_from_slice(format!("{:<48}{:<10}`\n", "a.o/", header.len()).as_bytes());
        archive.extend_from_slice(&header);
        vec![header, archive]
    },
    run: |raw| {
        let _machine = elf::machine(raw);
        let _machine = elf::archive_machine(raw);
    },
    tries: 4000,
};

/// A result from a store: what is accepted can be materialised, and comes back when it is written again.
pub(crate) const RESULT: Target = Target {
    name: "result",
    seeds: || {
        let whole = perform::encode(&example());
        let half = whole[..whole.len() / 2].to_vec();
        vec![whole, half]
    },
    run: |raw| {
        if let Some(result) = perform::decode(raw) {
            assert!(result.outputs.check().is_ok());
            assert_eq!(perform::decode(&perform::encode(&result)).as_ref(), Some(&result));
        }
    },
    tries: 4000,
};

fn example() -> spolia_core::ActionResult {
    use spolia_core::{Cost, Digest, Node, Tree};
    let path = |text: &str| RelPath::new(text).expect("a plain name");
    let file = Node::File { digest: Digest::blake3(b""), size: 0, executable: true };
    let link = Node::Symlink { target: b"a".to_vec() };
    spolia_core::ActionResult {
        outputs: Tree::new(vec![(path("a"), file), (path("l"), link), (path("e"), Node::Folder)])
            .expect("sound"),
        log: None,
        cost: Cost::default(),
        missing: vec![path("x/y")],
        finished_at_us: 7,
    }
}

/// What the sandbox's launcher and its parent tell each other.
pub(crate) const SANDBOX: Target = Target {
    name: "sandbox",
    seeds: || vec![SandboxSpec::default().encode().expect("our own spec")],
    run: |raw| {
        if let Ok(spec) = SandboxSpec::decode(raw) {
            assert_eq!(SandboxSpec::decode(&spec.encode().expect("decoded")).ok(), Some(spec));
        }
        let _report = Report::decode(raw);
    },
    tries: 4000,
};

/// `spolia init` on other people's files. What it writes is a manifest.
pub(crate) const INIT: Target = Target {
    name: "init",
    seeds: || {
        let texts = [
            "Cargo.toml\n[package]\nname = \"a\"\nversion = \"1.0.0\"\n[workspace]\nmembers = [\"x/*\"]\n",
            "package.json\n{\"name\":\"a\",\"scripts\":{\"build\":\"tsc\",\"test\":\"vitest\"}}",
            "go.mod\nmodule x\n\ngo 1.22\nrequire a v1.0.0\n",
            "Makefile\nall: a\n\t$(CC) -o a a.c\ninstall:\n\tcp a b\n",
            "CMakeLists.txt\nproject(a C)\nadd_executable(a a.c)\ninstall(TARGETS a)\n",
            "meson.build\nproject('a', 'c')\nexecutable('a', 'a.c', install: true)\n",
            "pyproject.toml\n[project]\nname = \"a\"\n[build-system]\nrequires = [\"hatchling\"]\n",
            "Dockerfile\nFROM debian:12 AS b\nRUN make\nCOPY --from=b /a /a\n",
        ];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    },
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        let (name, content) = text.split_once('\n').unwrap_or((text, ""));
        let Ok(path) = RelPath::new(name) else { return };
        if path.is_root() {
            return;
        }
        let proposal = spolia_build::init::propose(std::slice::from_ref(&path), &mut |asked| {
            (*asked == path).then(|| content.to_owned())
        });
        let request = manifest::Request { variant: None, host: Platform::host() };
        let parsed = manifest::parse(&mut Manifest(&proposal.text), "spolia.toml", &request);
        if let Err(problems) = parsed {
            panic!("{}\n{}", proposal.text, render_all(&problems, Style::Plain));
        }
    },
    tries: 3000,
};
