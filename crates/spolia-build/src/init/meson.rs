//! Meson: set up, compile, and install if there is something to install.

use std::collections::BTreeSet;

use super::Found;
use super::text::StepText;
use super::tree::{Site, Tree};

/// A step for every project.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["meson.build"]) {
        let files: Vec<String> =
            site.files().filter(|path| path.ends_with("meson.build")).map(str::to_owned).collect();
        let texts: Vec<(String, String)> =
            files.into_iter().filter_map(|path| tree.read(&site, &path).map(|text| (path, text))).collect();
        let root = texts.iter().find(|(path, _)| path == "meson.build").map(|(_, text)| text.as_str());
        if found.name.is_none() {
            found.name = root.and_then(|text| first_strings(text, "project(").into_iter().next());
        }
        found.steps.push(step(&site, &texts, root.unwrap_or_default(), &mut found.notes));
    }
    found
}

/// The first string of each call that starts with `call`.
fn first_strings(text: &str, call: &str) -> Vec<String> {
    let inner = text.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('\''));
    inner.filter_map(|rest| rest.split_once('\'')).map(|(name, _)| name.to_owned()).collect()
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte))
        && !name.starts_with(['.', '-'])
}

fn step(site: &Site, texts: &[(String, String)], root: &str, notes: &mut Vec<String>) -> StepText {
    let installs = texts.iter().any(|(_, text)| {
        let text: String = text.split_whitespace().collect();
        text.contains("install:true") || text.contains("install_data(") || text.contains("install_headers(")
    });
    let setup = "meson setup .spolia-build --prefix=/usr --buildtype=release".to_owned();
    let compile = "meson compile -C .spolia-build".to_owned();
    // A program lies where its folder's file lies.
    let programs: BTreeSet<(String, String)> = texts
        .iter()
        .flat_map(|(path, text)| {
            let folder = path.trim_end_matches("meson.build");
            first_strings(text, "executable(").into_iter().map(move |name| (name, folder.to_owned()))
        })
        .filter(|(name, _)| is_plain(name))
        .collect();
    let (run, outputs) = if installs {
        let install = "DESTDIR=\"${out}\" meson install -C .spolia-build --no-rebuild".to_owned();
        (vec![setup, compile, install], vec!["usr".to_owned()])
    } else if programs.is_empty() {
        notes.push(format!("Meson{}: what it builds is not known; name it in `outputs`", site.place()));
        (vec![setup, compile], Vec::new())
    } else {
        let mut names = BTreeSet::new();
        let own: Vec<&(String, String)> =
            programs.iter().filter(|(name, _)| names.insert(name.clone())).collect();
        let files: Vec<String> =
            own.iter().map(|(name, folder)| format!(".spolia-build/{folder}{name}")).collect();
        (vec![setup, compile, format!("cp {} \"${{out}}\"", files.join(" "))], names.into_iter().collect())
    };
    let cxx = root.contains("'cpp'").then_some("c++");
    StepText {
        name: site.step_name("meson"),
        run: site.script(run),
        inputs: site.everything(),
        tools: ["meson", "ninja", "cc"].into_iter().chain(cxx).map(str::to_owned).collect(),
        outputs,
        ..StepText::default()
    }
}
