//! The modules that shipped Go programs were linked from: `go version -m PROGRAM` → files of the module cache.
//!
//! ```text
//! PROGRAM: go1.22.1
//! <tab>dep<tab>MODULE<tab>VERSION<tab>h1:SUM
//! <tab>=><tab>MODULE<tab>VERSION<tab>h1:SUM        what the line before was replaced by
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Item, Search, SourceKind, gone, path_of, read};
use crate::error::DistError;
use crate::plan::{Built, Kind, Origin, PlatformPlan};

/// Every module of the programs that `built` gives to `plans`.
pub(super) fn modules(
    search: &Search<'_>,
    built: &Built,
    plans: &[PlatformPlan],
) -> Result<Vec<Item>, DistError> {
    let members = plans.iter().flat_map(|plan| &plan.members);
    let programs: BTreeSet<&PathBuf> = members
        .filter(|member| member.origin == Origin::Step(built.id.clone()))
        .filter_map(|member| match &member.kind {
            Kind::File { at, .. } if member.mode & 0o100 != 0 => Some(at),
            _ => None,
        })
        .collect();
    let mut found: BTreeSet<Module> = BTreeSet::new();
    for program in programs {
        let path = program.to_string_lossy();
        let raw =
            search.asker.ask("go", &["version", "-m", &path], search.root).map_err(|error| match error {
                DistError::Asked { said, .. } => gone(&built.id, &path, said),
                other => other,
            })?;
        found.extend(parse(&String::from_utf8_lossy(&raw)));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let raw = search.asker.ask("go", &["env", "GOMODCACHE"], search.root)?;
    let cache = PathBuf::from(String::from_utf8_lossy(&raw).trim());
    found.iter().map(|module| item(&cache, built, module)).collect()
}

fn item(cache: &Path, built: &Built, module: &Module) -> Result<Item, DistError> {
    let words = format!("{} {}", module.path, module.version);
    let folder = cache.join("cache/download").join(escaped(&module.path)).join("@v");
    let at = folder.join(format!("{}.zip", escaped(&module.version)));
    let sum = std::fs::read_to_string(at.with_extension("ziphash")).unwrap_or_default();
    let (sha256, blake3, size) = read(&built.id, &words, &at)?;
    if module.sum.as_ref().is_some_and(|wanted| *wanted != sum.trim()) {
        return Err(gone(
            &built.id,
            &words,
            format!("`{}` is not what the program was linked from", at.display()),
        ));
    }
    let file = format!("{}@{}.zip", module.path.replace('/', "_"), module.version);
    Ok(Item {
        name: module.path.clone(),
        version: Some(module.version.clone()),
        licence: None,
        kind: SourceKind::GoModule,
        sha256,
        path: path_of(&built.id, &words, &["go", &file])?,
        steps: BTreeSet::from([built.id.step.clone()]),
        at,
        blake3,
        size,
    })
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Module {
    path: String,
    version: String,
    sum: Option<String>,
}

fn parse(text: &str) -> Vec<Module> {
    let mut found: Vec<Module> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let module = |words: &[&str]| {
            let path = words.first()?.to_string();
            let version = words.get(1)?.to_string();
            Some(Module {
                path,
                version,
                sum: words.get(2).map(|sum| (*sum).to_owned()).filter(|sum| !sum.is_empty()),
            })
        };
        match words.as_slice() {
            ["", "dep", rest @ ..] => found.extend(module(rest)),
            ["", "=>", rest @ ..] => {
                // A replacement by a folder is the project's own.
                found.pop();
                found.extend(module(rest).filter(|module| !module.path.starts_with(['.', '/'])));
            }
            _ => {}
        }
    }
    found
}

/// As paths of the cache are written: `!x` for `X` (golang.org/x/mod, `module.EscapePath`).
fn escaped(path: &str) -> String {
    path.chars().fold(String::new(), |mut escaped, letter| {
        if letter.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(letter.to_ascii_lowercase());
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_prints() {
        let text = "/x/app: go1.22.1\n\tpath\tx\n\tmod\tx\t(devel)\t\n\tdep\tgithub.com/Foo/bar\tv1.2.3\th1:abc=\n\tdep\ta.b/c\tv0.1.0\n\t=>\td.e/f\tv2.0.0\th1:x\n\tdep\tg\tv1.0.0\n\t=>\t./own\t\n\tbuild\t-trimpath=true\n";
        let found: Vec<String> =
            parse(text).iter().map(|module| format!("{} {}", module.path, module.version)).collect();
        assert_eq!(found, ["github.com/Foo/bar v1.2.3", "d.e/f v2.0.0"]);
        assert_eq!(escaped("github.com/Foo/bar"), "github.com/!foo/bar");
    }
}
