//! CMake: configure, build, and install if there is something to install.

use std::collections::BTreeSet;

use super::Found;
use super::text::StepText;
use super::tree::{Site, Tree};

/// A step for every project.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["CMakeLists.txt"]) {
        let lists: Vec<String> =
            site.files().filter(|path| path.ends_with("CMakeLists.txt")).map(str::to_owned).collect();
        let texts: Vec<String> = lists.iter().filter_map(|path| tree.read(&site, path)).collect();
        let calls: Vec<Call> = texts.iter().flat_map(|text| calls(text)).collect();
        let name = first_of(&calls, "project");
        if found.name.is_none() {
            found.name = name.clone();
        }
        found.steps.push(step(&site, &calls, name.as_deref(), &mut found.notes));
    }
    found
}

/// `name(arguments…)`.
struct Call {
    name: String,
    arguments: Vec<String>,
}

/// The commands of a list file, as far as their words go.
fn calls(text: &str) -> Vec<Call> {
    let bare: String =
        text.lines().map(|line| format!("{}\n", line.split('#').next().unwrap_or_default())).collect();
    let mut calls = Vec::new();
    let mut rest = bare.as_str();
    while let Some((head, tail)) = rest.split_once('(') {
        let name = head.split_whitespace().last().unwrap_or_default().to_ascii_lowercase();
        let (inner, after) = tail.split_once(')').unwrap_or((tail, ""));
        let arguments = inner.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
        calls.push(Call { name, arguments });
        rest = after;
    }
    calls
}

fn first_of(calls: &[Call], name: &str) -> Option<String> {
    let call = calls.iter().find(|call| call.name == name)?;
    call.arguments.first().filter(|word| is_plain(word)).cloned()
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte))
        && !name.starts_with(['.', '-'])
}

fn step(site: &Site, calls: &[Call], project: Option<&str>, notes: &mut Vec<String>) -> StepText {
    let installs = calls.iter().any(|call| call.name == "install");
    let programs = programs(calls, project);
    let configure = "cmake -S . -B .spolia-build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr";
    let places = "-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=\"$PWD/.spolia-build/bin\"";
    let build = "cmake --build .spolia-build".to_owned();
    let (run, outputs) = if installs {
        let install = "DESTDIR=\"${out}\" cmake --install .spolia-build".to_owned();
        (vec![configure.to_owned(), build, install], vec!["usr".to_owned()])
    } else if programs.is_empty() {
        notes.push(format!("CMake{}: what it builds is not known; name it in `outputs`", site.place()));
        (vec![configure.to_owned(), build], Vec::new())
    } else {
        let files: Vec<String> = programs.iter().map(|name| format!(".spolia-build/bin/{name}")).collect();
        let copy = format!("cp {} \"${{out}}\"", files.join(" "));
        (vec![format!("{configure} {places}"), build, copy], programs.into_iter().collect())
    };
    let cxx = calls.iter().any(|call| {
        // Without a list of languages a project has both.
        call.name == "project"
            && (call.arguments.len() == 1 || call.arguments.iter().any(|word| word == "CXX"))
    });
    let tools = ["cmake", "make", "cc"].into_iter().chain(cxx.then_some("c++"));
    StepText {
        name: site.step_name("cmake"),
        run: site.script(run),
        inputs: site.everything(),
        env: vec![("CMAKE_GENERATOR", "Unix Makefiles".to_owned())],
        tools: tools.map(str::to_owned).collect(),
        outputs,
        ..StepText::default()
    }
}

fn programs(calls: &[Call], project: Option<&str>) -> BTreeSet<String> {
    let executables = calls.iter().filter(|call| call.name == "add_executable");
    // An imported or aliased one is not built, one that is not in `all` not by default.
    let built = executables.filter(|call| {
        !call.arguments.iter().any(|word| ["IMPORTED", "ALIAS", "EXCLUDE_FROM_ALL"].contains(&word.as_str()))
    });
    let names = built.filter_map(|call| call.arguments.first());
    let names = names.map(|name| match (name.as_str(), project) {
        ("${PROJECT_NAME}" | "${CMAKE_PROJECT_NAME}", Some(project)) => project.to_owned(),
        _ => name.clone(),
    });
    names.filter(|name| is_plain(name)).collect()
}
