//! Rust with Cargo: dependencies are vendored once for each lock file, then everything is offline.

use std::collections::BTreeSet;

use spolia_core::RelPath;
use spolia_core::conf::{Problems, Table, Value, parse};
use spolia_core::glob::PatternList;

use super::Found;
use super::text::{StepText, shell_word};
use super::tree::{Site, Tree};

/// Steps for every workspace.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["Cargo.toml"]) {
        Workspace::look(tree, &site).propose(&mut found);
    }
    found
}

/// What is known of a workspace or a lone package.
struct Workspace<'s> {
    site: &'s Site,
    name: Option<String>,
    /// The names of its programs.
    programs: BTreeSet<String>,
    /// Files that Cargo wants to see before it reads the manifests as such.
    entries: BTreeSet<String>,
    locked: bool,
    /// Whether the lock file has packages from elsewhere.
    fetches: bool,
    inputs: Vec<String>,
}

/// What one `Cargo.toml` says.
#[derive(Default)]
struct Package {
    name: Option<String>,
    /// `[[bin]]`: name, path.
    bins: Vec<(String, Option<String>)>,
    /// Every `path` of a target, and the kinds of targets that are listed.
    paths: Vec<String>,
    kinds: Vec<&'static str>,
    members: Option<Vec<String>>,
    excluded: Vec<String>,
}

const KINDS: &[(&str, &str)] =
    &[("bin", "src/bin/"), ("example", "examples/"), ("test", "tests/"), ("bench", "benches/")];

impl Package {
    fn read(text: &str) -> Self {
        let mut problems = Problems::default();
        let mut table = parse(0, text, &mut problems);
        let mut package = Self::default();
        if let Some(mut inner) = table.take_table("package", &mut problems) {
            package.name = inner.take_str("name", &mut problems).map(|name| name.value.into_owned());
            package.paths.extend(inner.take_str("build", &mut problems).map(|path| path.value.into_owned()));
        }
        if let Some(mut inner) = table.take_table("workspace", &mut problems) {
            let mut list = |key: &str| -> Vec<String> {
                let list = inner.take_list(key, &mut problems).map(|list| list.value).unwrap_or_default();
                list.into_iter().map(|text| text.value.into_owned()).collect()
            };
            package.excluded = list("exclude");
            package.members = Some(list("members"));
        }
        if let Some(mut inner) = table.take_table("lib", &mut problems) {
            package.paths.extend(inner.take_str("path", &mut problems).map(|path| path.value.into_owned()));
        }
        for (kind, _) in KINDS {
            let Some(entry) = table.take(kind) else { continue };
            let Value::Array(items) = entry.value.value else { continue };
            package.kinds.push(kind);
            for item in items {
                let Value::Table(inner) = item.value else { continue };
                package.target(kind, inner, &mut problems);
            }
        }
        package
    }

    fn target(&mut self, kind: &str, mut table: Table<'_>, problems: &mut Problems) {
        let name = table.take_str("name", problems).map(|name| name.value.into_owned());
        let path = table.take_str("path", problems).map(|path| path.value.into_owned());
        let optional = table.take("required-features").is_some();
        self.paths.extend(path.clone());
        if kind == "bin" && !optional {
            self.bins.extend(name.map(|name| (name, path)));
        }
    }

    /// The programs that `cargo build` makes of the package in `folder` (`""` or `FOLDER/`).
    fn programs(&self, site: &Site, folder: &str) -> Vec<String> {
        let mut programs: Vec<String> = self.bins.iter().map(|(name, _)| name.clone()).collect();
        let listed = |path: &str| self.bins.iter().any(|(_, own)| own.as_deref() == Some(path));
        if site.has(&format!("{folder}src/main.rs")) && !listed("src/main.rs") {
            programs.extend(self.name.clone());
        }
        let bin = format!("{folder}src/bin/");
        for path in site.files().filter_map(|path| path.strip_prefix(&bin)) {
            let name = path.strip_suffix("/main.rs").or_else(|| path.strip_suffix(".rs"));
            let name = name.filter(|name| !name.contains('/') && !listed(&format!("src/bin/{path}")));
            programs.extend(name.map(str::to_owned));
        }
        programs
    }

    /// Files of the package without which Cargo refuses its manifest, but for the usual ones.
    fn entries(&self, site: &Site, folder: &str) -> Vec<String> {
        let listed = KINDS.iter().filter(|(kind, _)| self.kinds.contains(kind)).map(|(_, below)| *below);
        let below = listed.chain(std::iter::once("src/bin/"));
        let inside = below.flat_map(|below| {
            let start = format!("{folder}{below}");
            let files = site.files().filter(move |path| path.starts_with(&start) && path.ends_with(".rs"));
            files.map(str::to_owned).collect::<Vec<_>>()
        });
        let named = self.paths.iter().map(|path| format!("{folder}{path}"));
        // These two are put there for every package.
        let usual = |path: &String| ["src/lib.rs", "src/main.rs"].contains(&&path[folder.len()..]);
        named
            .filter(|path| path.contains('/') && site.has(path))
            .chain(inside)
            .filter(|path| !usual(path))
            .collect()
    }
}

impl<'s> Workspace<'s> {
    fn look(tree: &mut Tree<'_>, site: &'s Site) -> Self {
        let root = tree.read(site, "Cargo.toml").map(|text| Package::read(&text)).unwrap_or_default();
        let lock = tree.read(site, "Cargo.lock");
        let fetches =
            lock.as_deref().is_some_and(|lock| lock.lines().any(|line| line.starts_with("source = ")));
        let extra = ["rust-toolchain.toml", "rust-toolchain", ".cargo/config.toml", ".cargo/config"];
        let mut workspace = Self {
            site,
            name: root.name.clone(),
            programs: root.programs(site, "").into_iter().collect(),
            entries: root.entries(site, "").into_iter().collect(),
            locked: site.has("Cargo.lock"),
            fetches,
            inputs: site.present(&extra),
        };
        let manifests: Vec<String> = site
            .files()
            .filter(|path| path.ends_with("/Cargo.toml"))
            .map(|path| path.trim_end_matches("Cargo.toml").to_owned())
            .collect();
        for folder in manifests {
            let Some(text) = tree.read(site, &format!("{folder}Cargo.toml")) else { continue };
            let package = Package::read(&text);
            workspace.entries.extend(package.entries(site, &folder));
            if root.has_member(&folder) && package.members.is_none() {
                workspace.programs.extend(package.programs(site, &folder));
            }
        }
        workspace.programs.retain(|name| is_plain(name));
        workspace
    }

    fn propose(self, found: &mut Found) {
        if found.name.is_none() {
            found.name = self.name.clone();
        }
        if !self.locked {
            found.notes.push(format!(
                "Cargo{}: there is no Cargo.lock, so what is fetched is not known beforehand; \
                 `cargo generate-lockfile`, commit it, and run `spolia init` again",
                self.site.place()
            ));
            found.steps.push(self.unlocked());
            return;
        }
        if self.fetches {
            found.steps.push(self.vendor());
        }
        found.steps.extend(self.build());
        found.steps.push(self.test());
    }

    fn vendor_name(&self) -> String {
        self.site.step_name("cargo-vendor")
    }

    /// Fetches what the lock file names: in a copy of the manifests, so that the sources are not looked at.
    fn vendor(&self) -> StepText {
        let mut run: Vec<String> = vec![
            "work=$(mktemp -d)".to_owned(),
            "find . -name Cargo.toml -not -path './target/*' -exec cp --parents -t \"$work\" {} +".to_owned(),
            format!(
                "cp --parents -t \"$work\" {}",
                std::iter::once("Cargo.lock".to_owned())
                    .chain(self.inputs.clone())
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
            "cd \"$work\"".to_owned(),
            "find . -name Cargo.toml | while read -r manifest; do".to_owned(),
            "    mkdir -p \"${manifest%/*}/src\"".to_owned(),
            "    touch \"${manifest%/*}/src/lib.rs\" \"${manifest%/*}/src/main.rs\"".to_owned(),
            "done".to_owned(),
        ];
        let entries: Vec<String> = self.entries.iter().map(|path| shell_word(path)).collect();
        if !entries.is_empty() {
            let words = entries.join(" ");
            run.push(format!("for file in {words}; do"));
            run.push("    mkdir -p \"${file%/*}\" && touch \"$file\"".to_owned());
            run.push("done".to_owned());
        }
        run.push(
            "cargo vendor --locked --versioned-dirs \"${out}/vendor\" >\"${out}/config.toml\"".to_owned(),
        );
        run.push("sed -i 's|^directory = .*|directory = \"@vendor@\"|' \"${out}/config.toml\"".to_owned());
        let manifests = ["Cargo.lock", "Cargo.toml", "**/Cargo.toml"].map(str::to_owned);
        StepText {
            comments: vec![
                "The crates that Cargo.lock names. Cargo wants to see that the sources of the workspace"
                    .to_owned(),
                "are there, not what is in them: empty files do, and no change of theirs fetches again."
                    .to_owned(),
            ],
            name: self.vendor_name(),
            run: self.site.script(run),
            inputs: self.site.inputs(manifests.into_iter().chain(self.inputs.clone())),
            tools: ["cargo", "rustc"].map(str::to_owned).to_vec(),
            outputs: ["vendor", "config.toml"].map(str::to_owned).to_vec(),
            network: true,
            any_platform: true,
            ..StepText::default()
        }
    }

    /// Lines before a call of Cargo, and its name with what it always takes.
    fn before(&self) -> (Vec<String>, &'static str) {
        let mut lines: Vec<String> = Vec::new();
        // Cargo compares dates; here the same cache may meet sources that are older and different.
        lines.push(
            "find \"$CARGO_TARGET_DIR/\" -name 'dep-*' -path '*/.fingerprint/*' -exec touch -d @0 {} +"
                .to_owned(),
        );
        if !self.fetches {
            return (lines, "cargo");
        }
        let vendor = format!("${{step.{}}}", self.vendor_name());
        lines.push("config=$(mktemp -d)/config.toml".to_owned());
        lines.push(format!("sed \"s|@vendor@|{vendor}/vendor|\" \"{vendor}/config.toml\" >\"$config\""));
        (lines, "cargo --config \"$config\"")
    }

    fn offline(&self, name: &str, command: &str) -> StepText {
        let (mut run, cargo) = self.before();
        run.push(format!("{cargo} {command} --locked --offline --workspace"));
        let inputs = ["Cargo.lock", "Cargo.toml", "**/Cargo.toml", "**/*.rs"].map(str::to_owned);
        StepText {
            name: self.site.step_name(name),
            needs: if self.fetches { vec![self.vendor_name()] } else { Vec::new() },
            run: self.site.script(run),
            inputs: self.site.inputs(inputs.into_iter().chain(self.inputs.clone())),
            env: vec![("CARGO_TARGET_DIR", "${cache}/cargo-target".to_owned())],
            tools: ["cargo", "rustc", "cc"].map(str::to_owned).to_vec(),
            mounts: vec!["cargo-target"],
            ..StepText::default()
        }
    }

    fn build(&self) -> Option<StepText> {
        if self.programs.is_empty() {
            return None;
        }
        let mut step = self.offline("cargo-build", "build --release");
        let files: Vec<String> =
            self.programs.iter().map(|name| format!("\"$CARGO_TARGET_DIR/release/{name}\"")).collect();
        step.run.push(format!("install -t \"${{out}}\" {}", files.join(" ")));
        step.outputs = self.programs.iter().cloned().collect();
        step.comments = vec![
            "The compiled dependencies stay in a cache mount. What is in this workspace is compiled again"
                .to_owned(),
            "whenever this step runs: Cargo goes by dates, and dates do not tell two branches apart."
                .to_owned(),
        ];
        Some(step)
    }

    fn test(&self) -> StepText {
        let mut step = self.offline("cargo-test", "test");
        step.comments = vec!["A check: it has no outputs, its success is the result.".to_owned()];
        step
    }

    /// Without a lock file: as Cargo would by itself.
    fn unlocked(&self) -> StepText {
        let mut run = vec!["cargo build --release --workspace".to_owned()];
        if !self.programs.is_empty() {
            let files: Vec<String> =
                self.programs.iter().map(|name| format!("\"$CARGO_TARGET_DIR/release/{name}\"")).collect();
            run.push(format!("install -t \"${{out}}\" {}", files.join(" ")));
        }
        StepText {
            comments: vec![
                "There is no Cargo.lock, so Cargo decides at every run what to fetch: this step is not"
                    .to_owned(),
                "repeatable, and runs in your tree. Commit a Cargo.lock and run `spolia init` again."
                    .to_owned(),
            ],
            name: self.site.step_name("cargo-build"),
            run: self.site.script(run),
            inputs: self.site.inputs(
                ["Cargo.toml", "**/Cargo.toml", "**/*.rs"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(self.inputs.clone()),
            ),
            env: vec![("CARGO_TARGET_DIR", "${cache}/cargo-target".to_owned())],
            tools: ["cargo", "rustc", "cc"].map(str::to_owned).to_vec(),
            outputs: self.programs.iter().cloned().collect(),
            mounts: vec!["cargo-target"],
            network: true,
            host: true,
            ..StepText::default()
        }
    }
}

impl Package {
    /// Whether the package in `folder` (`FOLDER/`) is built with this workspace.
    fn has_member(&self, folder: &str) -> bool {
        let Ok(path) = RelPath::new(folder) else { return false };
        let selects = |texts: &[String]| {
            PatternList::parse(RelPath::root(), texts).is_ok_and(|patterns| patterns.selects(&path))
        };
        self.members.as_ref().is_some_and(|members| selects(members)) && !selects(&self.excluded)
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
