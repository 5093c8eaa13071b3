//! A Makefile: its default goal, and the files that goal seems to make.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use super::text::StepText;
use super::tree::{Site, Tree};

const NAMES: &[&str] = &["GNUmakefile", "makefile", "Makefile"];

/// A step for every Makefile that is not below another, or beside another tool's project.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    // There a Makefile is a list of shortcuts.
    let others = [
        "Cargo.toml",
        "go.mod",
        "go.work",
        "CMakeLists.txt",
        "meson.build",
        "package.json",
        "pyproject.toml",
    ];
    for site in tree.sites(NAMES) {
        if others.iter().any(|other| site.has(other)) {
            let place = site.place();
            found.notes.push(format!(
                "Make: the Makefile{place} stands beside another tool's project and has no step"
            ));
            continue;
        }
        let name = NAMES.iter().find(|name| site.has(name)).copied().unwrap_or("Makefile");
        let makefile = Makefile::read(&tree.read(&site, name).unwrap_or_default());
        let outputs = makefile.products(&site);
        if outputs.is_empty() {
            found
                .notes
                .push(format!("Make{}: what `make` makes is not known; name it in `outputs`", site.place()));
        }
        found.steps.push(step(&site, &outputs));
    }
    found
}

fn step(site: &Site, outputs: &BTreeSet<String>) -> StepText {
    let mut run = vec!["make".to_owned()];
    let mut comments = Vec::new();
    if outputs.is_empty() {
        comments.push(
            "To keep what it makes: copy it to ${out} after `make`, and name it in `outputs`.".to_owned(),
        );
    } else {
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        run.push(format!("cp {} \"${{out}}\"", names.join(" ")));
    }
    let outputs = outputs.iter().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect();
    StepText {
        comments,
        name: site.step_name("make"),
        run: site.script(run),
        inputs: site.everything(),
        tools: ["make", "cc"].map(str::to_owned).to_vec(),
        outputs,
        ..StepText::default()
    }
}

/// As much of a Makefile as can be read without running it.
#[derive(Default)]
struct Makefile {
    variables: BTreeMap<String, String>,
    phony: BTreeSet<String>,
    /// Target, prerequisites, in order.
    rules: Vec<(String, Vec<String>)>,
}

/// How far a goal is followed to its files.
const DEPTH_MAX: usize = 4;

impl Makefile {
    fn read(text: &str) -> Self {
        let mut makefile = Self::default();
        for line in text.replace("\\\n", " ").lines() {
            if line.starts_with('\t') || line.trim_start().starts_with('#') {
                continue;
            }
            let line = line.split(" #").next().unwrap_or(line);
            let assigns = ["?=", ":=", "="].into_iter().find_map(|sign| line.split_once(sign));
            match (assigns, line.split_once(':')) {
                (Some((name, value)), rule)
                    if rule.is_none_or(|(target, _)| target.len() >= name.trim_end_matches(':').len()) =>
                {
                    makefile
                        .variables
                        .insert(name.trim().trim_end_matches(':').to_owned(), value.trim().to_owned());
                }
                (_, Some((targets, needs))) => makefile.rule(targets, needs),
                _ => {}
            }
        }
        makefile
    }

    fn rule(&mut self, targets: &str, needs: &str) {
        let needs = needs.split(';').next().unwrap_or_default().replace('|', " ");
        let words = |text: &str| self.expand(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (targets, needs) = (words(targets), words(&needs));
        if targets.iter().any(|target| target == ".PHONY") {
            self.phony.extend(needs);
            return;
        }
        self.rules.extend(
            targets
                .into_iter()
                .filter(|target| !target.starts_with('.'))
                .map(|target| (target, needs.clone())),
        );
    }

    /// `$(NAME)` and `${NAME}` put in, for simple variables; what is left keeps its `$`.
    fn expand(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for _ in 0..DEPTH_MAX {
            let Some(start) = text.find("$(").or_else(|| text.find("${")) else { break };
            let Some(length) = text[start..].find([')', '}']) else { break };
            let name = text[start + 2..start + length].to_owned();
            let Some(value) = self.variables.get(&name) else { break };
            text.replace_range(start..=start + length, value);
        }
        text
    }

    /// The files that the default goal makes: targets of rules that are no goals by name alone.
    fn products(&self, site: &Site) -> BTreeSet<String> {
        let mut products = BTreeSet::new();
        if let Some((goal, _)) = self.rules.iter().find(|(target, _)| !target.contains(['%', '$'])) {
            self.follow(goal, site, &mut products, 0);
        }
        let mut names = BTreeSet::new();
        // Two of one name could not lie side by side.
        products.retain(|path: &String| names.insert(path.rsplit('/').next().unwrap_or(path).to_owned()));
        products
    }

    fn follow(&self, goal: &str, site: &Site, products: &mut BTreeSet<String>, depth: usize) {
        let mut rules = self.rules.iter().filter(|(target, _)| target == goal).peekable();
        let named_so = ["all", "default", "build"].contains(&goal) || self.phony.contains(goal);
        if depth > DEPTH_MAX || rules.peek().is_none() {
            return;
        }
        if !named_so {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+".contains(&byte);
            let is_file =
                goal.bytes().all(plain) && !goal.starts_with(['/', '-', '.']) && !goal.contains("..");
            if is_file && !goal.ends_with('/') && !site.has(goal) {
                products.insert(goal.to_owned());
            }
            return;
        }
        for need in rules.flat_map(|(_, needs)| needs) {
            self.follow(need, site, products, depth + 1);
        }
    }
}
