//! Python: a wheel from a `pyproject.toml`, or the packages of a `requirements.txt`.

use spolia_core::conf::{Problems, parse};

use super::Found;
use super::text::{StepText, shell_word};
use super::tree::{Site, Tree};

/// What a build needs where `pyproject.toml` does not say.
const DEFAULT_REQUIRES: &[&str] = &["setuptools >= 40.8.0", "wheel"];

/// Steps for every project.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["pyproject.toml", "requirements.txt"]) {
        if let Some(text) = tree.read(&site, "pyproject.toml") {
            let project = Project::read(&text);
            if found.name.is_none() {
                found.name = project.name.clone();
            }
            if project.builds {
                found.steps.extend(project.steps(&site));
                continue;
            }
        }
        found.steps.extend(scripts(&site, &mut found.notes));
    }
    found
}

/// What a `pyproject.toml` says.
struct Project {
    name: Option<String>,
    /// Whether it describes a package, not settings of tools alone.
    builds: bool,
    requires: Vec<String>,
}

impl Project {
    fn read(text: &str) -> Self {
        let mut problems = Problems::default();
        let mut table = parse(0, text, &mut problems);
        let system = table.take_table("build-system", &mut problems);
        let project = table.take_table("project", &mut problems);
        let builds = system.is_some() || project.is_some();
        let name = project.and_then(|mut project| project.take_str("name", &mut problems));
        let list = system.and_then(|mut system| system.take_list("requires", &mut problems));
        let requires = list.map(|list| list.value.into_iter().map(|text| text.value.into_owned()).collect());
        let default = || DEFAULT_REQUIRES.iter().map(|text| (*text).to_owned()).collect();
        Self {
            name: name.map(|name| name.value.into_owned()).filter(|name| !name.is_empty()),
            builds,
            requires: requires.unwrap_or_else(default),
        }
    }

    fn steps(&self, site: &Site) -> Vec<StepText> {
        let requires = site.step_name("python-requires");
        let needs = !self.requires.is_empty();
        let words: Vec<String> = self.requires.iter().map(|text| shell_word(text)).collect();
        let fetch = needs.then(|| StepText {
            comments: vec![
                "What the build of the wheel needs: `build-system.requires` of pyproject.toml, copied here."
                    .to_owned(),
                "Pin the versions (`setuptools==…`) to get the same ones on every machine.".to_owned(),
            ],
            name: requires.clone(),
            run: vec![format!(
                "python3 -m pip wheel --no-cache-dir --wheel-dir \"${{out}}/wheels\" {}",
                words.join(" ")
            )],
            pass_env: INDEX.to_vec(),
            tools: vec!["python3".to_owned()],
            outputs: vec!["wheels".to_owned()],
            network: true,
            any_platform: true,
            ..StepText::default()
        });
        let links =
            if needs { format!("--find-links \"${{step.{requires}}}/wheels\" ") } else { String::new() };
        let build = format!(
            "python3 -m pip wheel --no-cache-dir --no-deps --no-index {links}--wheel-dir \"${{out}}/wheel\" ."
        );
        let wheel = StepText {
            name: site.step_name("python-wheel"),
            needs: if needs { vec![requires] } else { Vec::new() },
            run: site.script([build]),
            inputs: site.everything(),
            // The date that the files in the wheel get: the first that a zip file can hold.
            env: vec![("SOURCE_DATE_EPOCH", "315532800".to_owned())],
            tools: vec!["python3".to_owned()],
            outputs: vec!["wheel".to_owned()],
            any_platform: true,
            ..StepText::default()
        };
        fetch.into_iter().chain(std::iter::once(wheel)).collect()
    }
}

/// Where the caller's pip gets packages from.
const INDEX: [&str; 2] = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"];

/// Scripts without a package: their packages are fetched, and they must at least be Python.
fn scripts(site: &Site, notes: &mut Vec<String>) -> Vec<StepText> {
    let packages = site.has("requirements.txt").then(|| {
        let place = site.place();
        notes.push(format!("Python{place}: pin every package in requirements.txt (`==`), or a later run may fetch others"));
        StepText {
            comments: vec!["The packages that requirements.txt names: put `site` on PYTHONPATH to use them.".to_owned()],
            name: site.step_name("python-packages"),
            run: site.script([
                "python3 -m pip install --no-cache-dir --no-compile --requirement requirements.txt --target \"${out}/site\"",
            ]),
            inputs: site.inputs(["requirements.txt"]),
            pass_env: INDEX.to_vec(),
            tools: vec!["python3".to_owned()],
            outputs: vec!["site".to_owned()],
            network: true,
            ..StepText::default()
        }
    });
    let check = site.files().any(|path| path.ends_with(".py")).then(|| StepText {
        comments: vec!["A check: it has no outputs, its success is the result.".to_owned()],
        name: site.step_name("python-check"),
        run: site.script(["python3 -m compileall -q ."]),
        inputs: site.inputs(["**/*.py"]),
        tools: vec!["python3".to_owned()],
        any_platform: true,
        ..StepText::default()
    });
    packages.into_iter().chain(check).collect()
}
