//! Go: modules are downloaded once for each `go.sum`, then everything is offline.

use std::collections::BTreeSet;

use super::Found;
use super::text::StepText;
use super::tree::{Site, Tree};

/// Steps for every module or workspace.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["go.work", "go.mod"]) {
        let module = Module::look(tree, &site);
        if found.name.is_none() {
            found.name = module.name.clone();
        }
        if module.requires && !module.has_sums {
            let hint = "`go mod tidy` writes it; commit it, or the modules step fails";
            found.notes.push(format!("Go{}: there is no go.sum; {hint}", site.place()));
        }
        found.steps.extend(module.steps());
    }
    found
}

struct Module<'s> {
    site: &'s Site,
    name: Option<String>,
    requires: bool,
    has_sums: bool,
    /// Folders of `package main`, `""` for the root.
    programs: BTreeSet<String>,
    uses_c: bool,
}

impl<'s> Module<'s> {
    fn look(tree: &mut Tree<'_>, site: &'s Site) -> Self {
        let files: Vec<String> = site.files().map(str::to_owned).collect();
        let mut module = Self {
            site,
            name: None,
            requires: false,
            has_sums: files.iter().any(|path| path.ends_with("go.sum")),
            programs: BTreeSet::new(),
            uses_c: false,
        };
        for path in files {
            if path == "go.mod" || path.ends_with("/go.mod") {
                module.read_mod(&path, &tree.read(site, &path).unwrap_or_default());
            } else if path.ends_with(".go") && !path.ends_with("_test.go") {
                module.read_source(&path, &tree.read(site, &path).unwrap_or_default());
            }
        }
        module
    }

    fn read_mod(&mut self, path: &str, text: &str) {
        self.requires |= text.lines().any(|line| line.trim_start().starts_with("require"));
        if path == "go.mod" {
            let module = text.lines().find_map(|line| line.strip_prefix("module "));
            let name = module.and_then(|module| module.trim().rsplit('/').next());
            let plain =
                |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            self.name = name.filter(|name| !name.is_empty()).filter(plain).map(str::to_owned);
        }
    }

    fn read_source(&mut self, path: &str, text: &str) {
        let is = |wanted: &str| text.lines().any(|line| line.trim_end() == wanted);
        self.uses_c |= is("import \"C\"");
        // A file that is built on request only does not make its folder a program.
        let ignored = text.lines().any(|line| line.starts_with("//go:build ignore"));
        if is("package main") && !ignored {
            self.programs
                .insert(path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned()));
        }
    }

    fn modules_name(&self) -> String {
        self.site.step_name("go-modules")
    }

    fn steps(&self) -> Vec<StepText> {
        let modules = self.requires.then(|| self.modules());
        let build = (!self.programs.is_empty()).then(|| self.build());
        let test = StepText {
            comments: vec!["A check: it has no outputs, its success is the result.".to_owned()],
            ..self.offline("go-test", "go vet ./...\ngo test ./...")
        };
        modules.into_iter().chain(build).chain(std::iter::once(test)).collect()
    }

    fn sums(&self) -> Vec<String> {
        let files = self.site.present(&["go.work", "go.work.sum", "go.mod", "go.sum"]);
        let nested = self.site.files().any(|path| path.ends_with("/go.mod"));
        let nested = nested.then_some(["**/go.mod", "**/go.sum"]).into_iter().flatten();
        files.into_iter().chain(nested.map(str::to_owned)).collect()
    }

    fn modules(&self) -> StepText {
        StepText {
            comments: vec!["The modules that go.sum names.".to_owned()],
            name: self.modules_name(),
            run: self.site.script(["go mod download"]),
            inputs: self.site.inputs(self.sums()),
            // Where the caller gets modules from; go.sum says whether they are the right ones.
            pass_env: vec!["GOPROXY", "GOPRIVATE", "GONOSUMDB", "GOSUMDB"],
            env: vec![
                ("GOMODCACHE", "${out}/mod".to_owned()),
                ("GOFLAGS", "-modcacherw".to_owned()),
                ("GOTOOLCHAIN", "local".to_owned()),
            ],
            tools: vec!["go".to_owned()],
            outputs: vec!["mod".to_owned()],
            network: true,
            any_platform: true,
            ..StepText::default()
        }
    }

    fn offline(&self, name: &str, lines: &str) -> StepText {
        let mut env = vec![
            ("GOCACHE", "${cache}/go-build".to_owned()),
            ("GOPROXY", "off".to_owned()),
            ("GOTOOLCHAIN", "local".to_owned()),
            ("CGO_ENABLED", if self.uses_c { "1" } else { "0" }.to_owned()),
        ];
        if self.requires {
            env.push(("GOMODCACHE", format!("${{step.{}}}/mod", self.modules_name())));
        }
        let compiler = self.uses_c.then(|| "cc".to_owned());
        StepText {
            name: self.site.step_name(name),
            needs: if self.requires { vec![self.modules_name()] } else { Vec::new() },
            run: self.site.script(lines.lines()),
            inputs: self.site.inputs(self.sums().into_iter().chain(std::iter::once("**/*.go".to_owned()))),
            env,
            tools: std::iter::once("go".to_owned()).chain(compiler).collect(),
            mounts: vec!["go-build"],
            ..StepText::default()
        }
    }

    /// The name of the program in `folder`: the folder's, or the module's.
    fn program(&self, folder: &str) -> String {
        let own = folder.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
        own.or_else(|| self.name.clone()).unwrap_or_else(|| "program".to_owned())
    }

    fn build(&self) -> StepText {
        let mut names = BTreeSet::new();
        let mut lines = Vec::new();
        for folder in &self.programs {
            let name = self.program(folder);
            if names.insert(name.clone()) {
                let package = if folder.is_empty() { ".".to_owned() } else { format!("./{folder}") };
                lines.push(format!("go build -trimpath -buildvcs=false -o \"${{out}}/{name}\" {package}"));
            }
        }
        StepText { outputs: names.into_iter().collect(), ..self.offline("go-build", &lines.join("\n")) }
    }
}
