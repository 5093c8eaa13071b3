//! The crates that a package links: `cargo metadata` + Cargo.lock → files of the registry's cache.
//!
//! Linked means: reached from the package over normal dependencies for the platform. Build scripts' and tests'
//! dependencies, and macros that run in the compiler with all that only they need, are not in what ships.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use spolia_core::conf::{self, Problems, Value};
use spolia_core::diagnostic::Source;
use spolia_core::{Platform, RelPath};

use super::{Item, Search, SourceKind, gone, path_of, read};
use crate::error::DistError;
use crate::manifest::RustPackage;
use crate::plan::Built;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Option<Resolve>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// Every crate that `package` links in `built`.
pub(super) fn crates(
    search: &Search<'_>,
    built: &Built,
    package: &RustPackage,
) -> Result<Vec<Item>, DistError> {
    let manifest = package.manifest.under(search.root);
    let shown = package.manifest.to_string();
    let mut args = vec!["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"];
    let path = manifest.to_string_lossy().into_owned();
    args.push(&path);
    let triple = triple(&built.id.platform);
    if let Some(triple) = triple {
        args.extend(["--filter-platform", triple]);
    }
    let features = package.features.join(",");
    if !features.is_empty() {
        args.extend(["--features", &features]);
    }
    let folder = manifest.parent().unwrap_or(search.root);
    let raw = search.asker.ask("cargo", &args, folder).map_err(|error| match error {
        DistError::Asked { said, .. } => gone(&built.id, &shown, said),
        other => other,
    })?;
    let metadata: Metadata =
        serde_json::from_slice(&raw).map_err(|error| gone(&built.id, &shown, error.to_string()))?;
    let lock = metadata.workspace_root.join("Cargo.lock");
    let text = std::fs::read_to_string(&lock).map_err(|source| DistError::io("read", &lock, source))?;
    let checksums = checksums(&text);
    let mut items = Vec::new();
    for id in linked(&metadata, package.package.as_deref()).map_err(|why| gone(&built.id, &shown, why))? {
        let Some(found) = metadata.packages.iter().find(|package| package.id == id) else { continue };
        let Some(source) = &found.source else { continue };
        let words = format!("{} {}", found.name, found.version);
        if !source.starts_with("registry+") && !source.starts_with("sparse+") {
            return Err(gone(&built.id, &words, format!("it is from `{source}`, not from a registry")));
        }
        let wanted = checksums.get(&(found.name.clone(), found.version.clone()));
        let wanted = wanted.ok_or_else(|| gone(&built.id, &words, "Cargo.lock has no checksum of it"))?;
        let at =
            archive_of(found).ok_or_else(|| gone(&built.id, &words, "it is not in the registry's folder"))?;
        let (sha256, blake3, size) = read(&built.id, &words, &at)?;
        if sha256 != *wanted {
            return Err(gone(&built.id, &words, format!("`{}` is not what Cargo.lock says", at.display())));
        }
        let file = format!("{}-{}.crate", found.name, found.version);
        items.push(Item {
            name: found.name.clone(),
            version: Some(found.version.clone()),
            licence: found.license.clone(),
            kind: SourceKind::Crate,
            sha256,
            path: path_of(&built.id, &words, &["crates", &file])?,
            steps: BTreeSet::from([built.id.step.clone()]),
            at,
            blake3,
            size,
        });
    }
    Ok(items)
}

/// `REGISTRY/src/INDEX/NAME-VERSION/Cargo.toml` → `REGISTRY/cache/INDEX/NAME-VERSION.crate`.
fn archive_of(package: &Package) -> Option<PathBuf> {
    let unpacked = package.manifest_path.parent()?;
    let index = unpacked.parent()?;
    let registry = index.parent()?.parent()?;
    let file = format!("{}-{}.crate", package.name, package.version);
    Some(Path::new(registry).join("cache").join(index.file_name()?).join(file))
}

/// The ids of all packages that are linked, sorted.
fn linked(metadata: &Metadata, wanted: Option<&str>) -> Result<BTreeSet<String>, String> {
    let resolve = metadata.resolve.as_ref().ok_or("cargo gave no dependencies")?;
    let by_id: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let root = match wanted {
        Some(name) => {
            let own =
                metadata.packages.iter().find(|package| package.name == name && package.source.is_none());
            own.map(|package| package.id.clone()).ok_or(format!("there is no package `{name}`"))?
        }
        None => resolve.root.clone().ok_or("it is a workspace: say which `package`")?,
    };
    let nodes: BTreeMap<&str, &Node> = resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut linked = BTreeSet::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if !linked.insert(id.clone()) {
            continue;
        }
        for dep in nodes.get(id.as_str()).map(|node| node.deps.as_slice()).unwrap_or_default() {
            let is_normal = dep.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let is_macro = by_id.get(dep.pkg.as_str()).is_some_and(|package| {
                package.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
            });
            if is_normal && !is_macro {
                open.push(dep.pkg.clone());
            }
        }
    }
    Ok(linked)
}

/// Name and version → checksum.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut problems = Problems::default();
    let name = RelPath::new("Cargo.lock").unwrap_or_else(|_| RelPath::root());
    let (number, source) = problems.add_source(Source::new(name, lock.to_owned()));
    let mut table = conf::parse(number, source.text(), &mut problems);
    let mut found = BTreeMap::new();
    let Some(Value::Array(packages)) = table.take("package").map(|entry| entry.value.value) else {
        return found;
    };
    for package in packages {
        let Value::Table(mut package) = package.value else { continue };
        let mut text = |key: &str| package.take_str(key, &mut problems).map(|text| text.value.into_owned());
        if let (Some(name), Some(version), Some(checksum)) = (text("name"), text("version"), text("checksum"))
        {
            found.insert((name, version), checksum);
        }
    }
    found
}

/// Rust's name of a platform.
fn triple(platform: &Platform) -> Option<&'static str> {
    Some(match platform.to_string().as_str() {
        "linux/amd64" => "x86_64-unknown-linux-gnu",
        "linux/arm64" => "aarch64-unknown-linux-gnu",
        "linux/386" => "i686-unknown-linux-gnu",
        "linux/arm/v7" => "armv7-unknown-linux-gnueabihf",
        "linux/riscv64" => "riscv64gc-unknown-linux-gnu",
        "linux/ppc64le" => "powerpc64le-unknown-linux-gnu",
        "linux/s390x" => "s390x-unknown-linux-gnu",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_counts() {
        let package = |name: &str, kind: &str, source: Option<&str>| {
            serde_json::json!({ "id": name, "name": name, "version": "1.0.0", "license": null, "source": source,
                "manifest_path": format!("/r/src/i/{name}-1.0.0/Cargo.toml"), "targets": [{ "kind": [kind] }] })
        };
        let registry = Some("registry+x");
        let dep = |name: &str, kind: Option<&str>| serde_json::json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = serde_json::json!({
            "workspace_root": "/w",
            "packages": [package("app", "bin", None), package("own", "lib", None), package("a", "lib", registry),
                package("m", "proc-macro", registry), package("only-macro", "lib", registry),
                package("b", "lib", registry), package("t", "lib", registry)],
            "resolve": { "root": "app", "nodes": [
                { "id": "app", "deps": [dep("own", None), dep("m", None), dep("b", Some("build")), dep("t", Some("dev"))] },
                { "id": "own", "deps": [dep("a", None)] },
                { "id": "m", "deps": [dep("only-macro", None)] },
            ] },
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let found: Vec<String> = linked(&metadata, None).unwrap().into_iter().collect();
        assert_eq!(found, ["a", "app", "own"]);
        assert!(linked(&metadata, Some("a")).is_err());
        assert_eq!(archive_of(&metadata.packages[2]).unwrap(), Path::new("/r/cache/i/a-1.0.0.crate"));
    }

    #[test]
    fn lock_files_are_read() {
        let lock = "version = 4\n[[package]]\nname = 'a'\nversion = '1'\n[[package]]\nname = 'b'\nversion = '2'\nchecksum = 'ff'\n";
        let found = checksums(lock);
        assert_eq!(found.get(&("b".to_owned(), "2".to_owned())).unwrap(), "ff");
        assert_eq!(found.len(), 1);
        assert!(checksums("[[package").is_empty());
    }
}
