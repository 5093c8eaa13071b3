//! `steps that went into what ships → the third-party sources they declare`, as one archive with an index.
//!
//! | a step in the release, or that something in it needs | gives |
//! |---|---|
//! | with `source` | its one output: name, version, digest and licence as declared |
//! | in `fetched` | every one of its outputs, as it was fetched |
//! | in `rust` | the crates its package links, as the registry has them; digests are those of Cargo.lock |
//! | in `go` | the modules that the shipped programs say they were linked from |
//! | with `network = true` and none of these | an error: what it fetched is not known |
//!
//! ```text
//! sources/INDEX.json = { format: "spolia source index", format_version: 1, sources: [ item … ] }
//! item               = { name, version, licence, kind, sha256, path, steps }
//! ```

mod golang;
mod rust;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spolia_core::event::StepId;
use spolia_core::{Digest, Node, Platform, RelPath};

use crate::archive::Format;
use crate::checksums;
use crate::error::DistError;
use crate::facts::Asker;
use crate::manifest::{Checksum, SourcesConf};
use crate::plan::{Built, Kind, Member, Origin, PLAIN, PlatformPlan, with_parents};

/// The folder in the archive.
pub const FOLDER: &str = "sources";
/// The index in it.
pub const INDEX: &str = "INDEX.json";

/// Where a source comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A step with `source`.
    Declared,
    /// An output of a step that fetches.
    Fetched,
    /// A crate.
    Crate,
    /// A Go module.
    GoModule,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its project's name.
    pub name: String,
    /// Its version, where one is known.
    pub version: Option<String>,
    /// SPDX expression, where one is known.
    pub licence: Option<String>,
    /// Where it comes from.
    pub kind: SourceKind,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its path in the archive.
    pub path: RelPath,
    /// The steps that use it.
    pub steps: BTreeSet<String>,
    /// Where its bytes are.
    #[serde(skip)]
    pub at: PathBuf,
    /// BLAKE3 of them.
    #[serde(skip)]
    pub blake3: Digest,
    /// How many there are.
    #[serde(skip)]
    pub size: u64,
}

/// What is asked for sources.
pub struct Search<'s> {
    /// The table.
    pub conf: &'s SourcesConf,
    /// The project's folder.
    pub root: &'s Path,
    /// Runs cargo and go.
    pub asker: &'s Asker<'s>,
}

impl Search<'_> {
    /// Every source of what ships, by path in the archive.
    ///
    /// # Errors
    /// A step that fetches and declares nothing; a source whose bytes are gone or are others.
    pub fn collect(&self, steps: &[&Built], plans: &[PlatformPlan]) -> Result<Vec<Item>, DistError> {
        let mut items: BTreeMap<RelPath, Item> = BTreeMap::new();
        for built in steps {
            for item in self.of_step(built, plans)? {
                put(&mut items, item)?;
            }
        }
        Ok(items.into_values().collect())
    }

    fn of_step(&self, built: &Built, plans: &[PlatformPlan]) -> Result<Vec<Item>, DistError> {
        let step = &built.id.step;
        if built.source.is_some() {
            return declared(built).map(|item| vec![item]);
        }
        let mut items = Vec::new();
        let mut known = false;
        if self.conf.fetched.contains(step) {
            known = true;
            items.extend(fetched(built)?);
        }
        if let Some(package) = self.conf.rust.get(step) {
            known = true;
            items.extend(rust::crates(self, built, package)?);
        }
        if self.conf.go.contains(step) {
            known = true;
            items.extend(golang::modules(self, built, plans)?);
        }
        if built.network && !known {
            return Err(DistError::Undeclared { step: built.id.clone() });
        }
        Ok(items)
    }
}

fn put(items: &mut BTreeMap<RelPath, Item>, item: Item) -> Result<(), DistError> {
    match items.get_mut(&item.path) {
        Some(there) if there.sha256 == item.sha256 => {
            there.steps.extend(item.steps);
            Ok(())
        }
        Some(there) => Err(DistError::TwoSources {
            path: item.path,
            steps: there.steps.iter().chain(&item.steps).cloned().collect::<Vec<_>>().join("`, `"),
        }),
        None => {
            items.insert(item.path.clone(), item);
            Ok(())
        }
    }
}

/// A source that a step needs and that is not there.
pub(crate) fn gone(step: &StepId, source: &str, why: impl Into<String>) -> DistError {
    DistError::SourceGone { step: step.clone(), what: source.to_owned(), why: why.into() }
}

/// A path in the archive, made of names that came from outside.
pub(crate) fn path_of(step: &StepId, source: &str, parts: &[&str]) -> Result<RelPath, DistError> {
    let clean: Vec<String> = parts.iter().map(|part| part.replace(['/', '\0'], "_")).collect();
    let bad = || gone(step, source, "its name cannot be a path");
    if clean.iter().any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(bad());
    }
    RelPath::new(format!("{FOLDER}/{}", clean.join("/"))).map_err(|_| bad())
}

/// Sums and length of the file of a source.
pub(crate) fn read(step: &StepId, source: &str, at: &Path) -> Result<(String, Digest, u64), DistError> {
    let failed = |error: std::io::Error| gone(step, source, format!("`{}`: {error}", at.display()));
    let mut file = std::fs::File::open(at).map_err(failed)?;
    let sums = checksums::of(&mut file, &[Checksum::Blake3]).map_err(failed)?;
    let hex = sums.hex.get(&Checksum::Blake3).cloned().unwrap_or_default();
    let blake3 = Digest::from_hex(spolia_core::DigestFunction::Blake3, &hex)
        .map_err(|error| gone(step, source, error.to_string()))?;
    Ok((sums.sha256.to_hex(), blake3, sums.size))
}

fn declared(built: &Built) -> Result<Item, DistError> {
    let Some(source) = &built.source else { return Err(gone(&built.id, "?", "it declares none")) };
    let words = format!("{} {}", source.name, source.version);
    let mut files = built.outputs.entries().iter().filter_map(|(path, node)| match node {
        Node::File { digest, size, .. } => Some((path, *digest, *size)),
        _ => None,
    });
    let Some((path, blake3, size)) = files.next() else {
        return Err(gone(&built.id, &words, "the step gave no file"));
    };
    let at = path.under(&built.place);
    if !at.is_file() {
        return Err(gone(&built.id, &words, format!("`{}` is not there", at.display())));
    }
    let folder = format!("{}-{}", source.name, source.version);
    let file = String::from_utf8_lossy(path.file_name()).into_owned();
    Ok(Item {
        name: source.name.clone(),
        version: Some(source.version.clone()),
        licence: source.licence.clone(),
        kind: SourceKind::Declared,
        sha256: source.sha256.to_hex(),
        path: path_of(&built.id, &words, &[&folder, &file])?,
        steps: BTreeSet::from([built.id.step.clone()]),
        at,
        blake3,
        size,
    })
}

fn fetched(built: &Built) -> Result<Vec<Item>, DistError> {
    let mut items = Vec::new();
    for (path, node) in built.outputs.entries() {
        let Node::File { digest, size, .. } = node else { continue };
        let shown = path.to_string();
        let at = path.under(&built.place);
        let (sha256, blake3, _) = read(&built.id, &shown, &at)?;
        if blake3 != *digest {
            return Err(gone(&built.id, &shown, "it is not what the step gave"));
        }
        let step = &built.id.step;
        // What is fetched for each platform may differ.
        let top = match &built.id.platform {
            Platform::Any => path_of(&built.id, &shown, &[step])?,
            own => path_of(&built.id, &shown, &[step, &own.to_string()])?,
        };
        items.push(Item {
            name: String::from_utf8_lossy(path.file_name()).into_owned(),
            version: None,
            licence: None,
            kind: SourceKind::Fetched,
            sha256,
            path: top.join(path),
            steps: BTreeSet::from([built.id.step.clone()]),
            at,
            blake3,
            size: *size,
        });
    }
    if items.is_empty() {
        return Err(gone(&built.id, "what it fetches", "the step gave no file"));
    }
    Ok(items)
}

fn folder() -> RelPath {
    RelPath::new(FOLDER).unwrap_or_else(|_| RelPath::root())
}

#[derive(Serialize)]
struct Index<'i> {
    format: &'static str,
    format_version: u32,
    sources: &'i [Item],
}

/// The index of `items`.
pub fn index(items: &[Item]) -> Vec<u8> {
    crate::record::to_json(&Index { format: "spolia source index", format_version: 1, sources: items })
}

/// The archive of `items`; its index lies at `index_at`, and these are its bytes.
///
/// # Errors
/// A name whose ending is no kind of archive.
pub fn plan(
    archive: &str,
    items: &[Item],
    index: &[u8],
    index_at: PathBuf,
) -> Result<PlatformPlan, DistError> {
    crate::plan::check_name(archive)?;
    let unfit = DistError::Name { name: archive.to_owned(), why: "its ending is no kind of archive" };
    let format = Format::of_name(archive).ok_or(unfit)?;
    let mut members: BTreeMap<RelPath, Member> = BTreeMap::new();
    let mut add = |path: RelPath, digest: Digest, size: u64, at: PathBuf| {
        let kind = Kind::File { digest, size, at };
        members.insert(path.clone(), Member { path, mode: PLAIN, kind, origin: Origin::Made });
    };
    let index_path = folder().join(&RelPath::new(INDEX).unwrap_or_else(|_| RelPath::root()));
    add(index_path, Digest::blake3(index), index.len() as u64, index_at);
    for item in items {
        add(item.path.clone(), item.blake3, item.size, item.at.clone());
    }
    let members: Vec<Member> = with_parents(members).into_values().collect();
    for member in &members {
        format.fits(member).map_err(|why| DistError::Unfit {
            archive: archive.to_owned(),
            path: member.path.clone(),
            why,
        })?;
    }
    Ok(PlatformPlan { platform: Platform::Any, archive: archive.to_owned(), format, members })
}

/// Says of the first file whose SHA-256 is not the declared one.
///
/// # Errors
/// [`DistError::SourceGone`].
pub fn check(items: &[Item], plan: &PlatformPlan, written: &[Option<Digest>]) -> Result<(), DistError> {
    let by_path: BTreeMap<&RelPath, &Item> = items.iter().map(|item| (&item.path, item)).collect();
    for (member, sha256) in plan.members.iter().zip(written) {
        let Some(item) = by_path.get(&member.path) else { continue };
        if sha256.is_none_or(|found| found.to_hex() != item.sha256) {
            let step = item.steps.iter().next().cloned().unwrap_or_default();
            let step = StepId { step, platform: Platform::Any };
            let source = format!("{} {}", item.name, item.version.as_deref().unwrap_or_default());
            return Err(gone(&step, source.trim(), "its SHA-256 is not the one that is declared"));
        }
    }
    Ok(())
}
