//! Node with npm: packages are installed once for each lock file, then everything is offline.

use serde_json::Value;

use super::Found;
use super::text::StepText;
use super::tree::{Site, Tree};

/// Steps for every package that is not below another.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["package.json"]) {
        let text = tree.read(&site, "package.json").unwrap_or_default();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let lock = ["package-lock.json", "npm-shrinkwrap.json"].into_iter().find(|lock| site.has(lock));
        let lock_text = lock.and_then(|lock| tree.read(&site, lock)).unwrap_or_default();
        let package = Package {
            site: &site,
            lock,
            installs: lock_text.contains("\"node_modules/") || has_dependencies(&json),
            json,
        };
        if found.name.is_none() {
            found.name = package.json["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        }
        package.propose(&mut found);
    }
    found
}

fn has_dependencies(json: &Value) -> bool {
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .any(|key| json[*key].as_object().is_some_and(|packages| !packages.is_empty()))
}

struct Package<'s> {
    site: &'s Site,
    lock: Option<&'static str>,
    installs: bool,
    json: Value,
}

impl Package<'_> {
    fn modules_name(&self) -> String {
        self.site.step_name("node-modules")
    }

    fn propose(&self, found: &mut Found) {
        let place = self.site.place();
        if self.installs && self.lock.is_none() {
            let other =
                ["yarn.lock", "pnpm-lock.yaml", "bun.lockb"].into_iter().find(|lock| self.site.has(lock));
            found.notes.push(match other {
                Some(lock) => format!("Node{place}: `{lock}` is not npm's; replace `npm install` by its own tool"),
                None => format!(
                    "Node{place}: there is no package-lock.json, so what is installed is not known beforehand; \
                     `npm install --package-lock-only`, commit it, and run `spolia init` again"
                ),
            });
        }
        if self.installs {
            found.steps.push(self.modules());
        }
        for script in ["build", "test"] {
            let line =
                self.json["scripts"][script].as_str().filter(|line| !line.contains("no test specified"));
            if line.is_some() {
                found.steps.push(self.script(script, &mut found.notes));
            }
        }
        if !self.installs && self.json["scripts"]["build"].is_null() && self.json["scripts"]["test"].is_null()
        {
            found
                .notes
                .push(format!("Node{place}: package.json has no dependencies, no `build` and no `test`"));
        }
    }

    fn manifests(&self) -> Vec<String> {
        let own = self.site.present(&["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"]);
        let nested = self.site.files().any(|path| path.ends_with("/package.json"));
        own.into_iter().chain(nested.then(|| "**/package.json".to_owned())).collect()
    }

    fn modules(&self) -> StepText {
        let (install, comments) = match self.lock {
            Some(lock) => ("npm ci --no-audit --no-fund", vec![format!("The packages that {lock} names.")]),
            None => (
                "npm install --no-audit --no-fund",
                vec![
                    "There is no package-lock.json, so npm decides at every run what to install: this step is".to_owned(),
                    "not repeatable, and runs in your tree. Commit one and run `spolia init` again.".to_owned(),
                ],
            ),
        };
        StepText {
            comments,
            name: self.modules_name(),
            run: self.site.script([install, "cp -R node_modules \"${out}/node_modules\""]),
            inputs: self.site.inputs(self.manifests()),
            // Where the caller's npm gets packages from.
            pass_env: vec!["npm_config_registry"],
            env: vec![("npm_config_cache", "${cache}/npm".to_owned())],
            tools: ["npm", "node"].map(str::to_owned).to_vec(),
            outputs: vec!["node_modules".to_owned()],
            any_machine: true,
            mounts: vec!["npm"],
            network: true,
            host: self.lock.is_none(),
            ..StepText::default()
        }
    }

    fn script(&self, script: &str, notes: &mut Vec<String>) -> StepText {
        let mut run = Vec::new();
        if self.installs {
            run.push(format!(
                "[ -e node_modules ] || ln -s \"${{step.{}}}/node_modules\" node_modules",
                self.modules_name()
            ));
        }
        run.push(format!("npm run {script}"));
        let mut step = StepText {
            name: self.site.step_name(&format!("node-{script}")),
            needs: if self.installs { vec![self.modules_name()] } else { Vec::new() },
            inputs: self.site.everything(),
            tools: ["npm", "node"].map(str::to_owned).to_vec(),
            ..StepText::default()
        };
        if script == "test" {
            step.comments.push("A check: it has no outputs, its success is the result.".to_owned());
        } else if let Some(folder) = self.product() {
            run.push(format!("cp -R {folder} \"${{out}}/{folder}\""));
            step.outputs.push(folder);
        } else {
            notes.push(format!(
                "Node{}: what `npm run build` makes is not known; name it in `outputs`",
                self.site.place()
            ));
            step.comments.push(
                "To keep what it makes: `cp -R dist \"${out}/dist\"` after it, and `outputs = [\"dist\"]`."
                    .to_owned(),
            );
        }
        step.run = self.site.script(run);
        step
    }

    /// The folder that the package is used from, if a build makes it.
    fn product(&self) -> Option<String> {
        let exports = &self.json["exports"];
        let uses = [
            &self.json["main"],
            &self.json["module"],
            &self.json["types"],
            exports,
            &exports["."],
            &exports["."]["import"],
        ];
        let bins = self.json["bin"].as_object().into_iter().flat_map(|bins| bins.values());
        let paths =
            uses.into_iter().chain(std::iter::once(&self.json["bin"])).chain(bins).filter_map(Value::as_str);
        let mut folders =
            paths.filter_map(|path| path.trim_start_matches("./").split_once('/')).map(|(folder, _)| folder);
        let made = |folder: &&str| {
            ["dist", "build", "lib", "out", "esm", "cjs"].contains(folder)
                && !self.site.files().any(|path| path.starts_with(&format!("{folder}/")))
        };
        folders.find(made).map(str::to_owned)
    }
}
