//! `plans → every file of a release, published together`. Known by a key: the same release is not made twice.
//!
//! | part | in the key as |
//! |---|---|
//! | form of what is written | a number of ours: it changes when the same plan gives other bytes |
//! | table | name, level, sums, old forms, folder's own name |
//! | facts | version, commit, its time, dirty paths, the time that is written |
//! | archives | name, format, platform, and of each member path, mode, digest or target, origin |
//! | steps | action keys, tools, system: they are in the manifest |
//! | Spolia's version | as it is in the manifest |

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use spolia_core::event::StepId;
use spolia_core::key::{KeyWriter, Keyed, Value};
use spolia_core::{ActionResult, Cost, Digest, RelPath, Tree};
use spolia_engine::perform;
use spolia_store::tree::{MaterialiseOptions, capture};
use spolia_store::{DigestCache, Entry, LocalStore, Place, Store};

use crate::archive::Written;
use crate::checksums;
use crate::error::DistError;
use crate::facts::Facts;
use crate::manifest::{Checksum, Dist, Sbom};
use crate::oci::Layout;
use crate::pack::{Packing, pack};
use crate::plan::{Built, PlatformPlan, check_name};
use crate::provenance;
use crate::record::{self, MANIFEST, MANIFEST_BESIDE, RUN, SUMS};
use crate::sbom::Bill;
use crate::sources::{self, Item};

/// Changes when the same plan gives other bytes.
const FORM: u64 = 4;
/// How the folder that files are put together in begins its name.
const STAGE: &str = ".spolia-dist-";

/// The name of the statement of a release called `dist`.
pub fn provenance_name(dist: &str) -> String {
    format!("{dist}.intoto.json")
}

/// All that decides a release.
pub struct Release<'r> {
    /// The table.
    pub dist: &'r Dist,
    /// Commit and time.
    pub facts: &'r Facts,
    /// One archive for each platform.
    pub plans: &'r [PlatformPlan],
    /// Every step that was built for it.
    pub built: &'r BTreeMap<StepId, Built>,
    /// Spolia's version.
    pub spolia: &'r str,
    /// The third-party sources of all that ships, where they are asked for.
    pub sources: &'r [Item],
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// A digest of it: SHA-256 where it was made now, BLAKE3 where it comes from the store.
    pub digest: Digest,
}

impl Keyed for Release<'_> {
    fn write(&self, writer: &mut dyn KeyWriter) {
        let Self { dist, facts, plans, built: _, spolia, sources: items } = self;
        let Dist {
            name,
            to: _,
            platforms: _,
            bodies: _,
            version: _,
            level,
            checksums,
            legacy,
            any_machine,
            sources,
            sboms,
            provenance,
            oci,
        } = dist;
        writer.open("dist");
        writer.field("form", Value::Number(FORM));
        writer.field("name", Value::Bytes(name.as_bytes()));
        writer.field("spolia", Value::Bytes(spolia.as_bytes()));
        writer.field("level", Value::Number(level.map_or(u64::MAX, u64::from)));
        writer.field("any-machine", Value::Flag(*any_machine));
        for sum in checksums {
            writer.field("sum", Value::Bytes(sum.name().as_bytes()));
        }
        writer.field("legacy-manifest", Value::Flag(legacy.manifest));
        writer.field("legacy-md5", Value::Bytes(legacy.md5.as_deref().unwrap_or_default().as_bytes()));
        if let Some(sources) = sources {
            writer.field("sources", Value::Bytes(self.text(&sources.archive).as_bytes()));
            writer.field("sources-md5", Value::Bytes(sources.md5.as_deref().unwrap_or_default().as_bytes()));
        }
        writer.field("source-items", Value::Bytes(&sources::index(items)));
        for sbom in sboms {
            writer.field("sbom", Value::Bytes(sbom.name().as_bytes()));
        }
        writer.field("provenance", Value::Flag(*provenance));
        if let Some(oci) = oci {
            writer.field("oci", Value::Bytes(self.text(&oci.archive).as_bytes()));
            for word in &oci.entrypoint {
                writer.field("entrypoint", Value::Bytes(word.as_bytes()));
            }
        }
        writer.field("facts", Value::Bytes(&record::to_json(facts)));
        writer.open("archives");
        for plan in *plans {
            plan.write_key(writer);
        }
        writer.close();
        writer.open("steps");
        for built in self.steps() {
            writer.field(
                &built.id.to_string(),
                Value::Bytes(&record::to_json(&record::StepRecord::new(built))),
            );
        }
        writer.close();
        writer.close();
    }
}

impl<'r> Release<'r> {
    /// Every step that something in the release was made by, or from.
    pub fn steps(&self) -> Vec<&'r Built> {
        let mut open: Vec<&StepId> = self.plans.iter().flat_map(PlatformPlan::steps).collect();
        let mut seen: BTreeSet<&StepId> = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some((_, built)) = self.built.get_key_value(id) {
                open.extend(built.needs.iter());
            }
        }
        seen.into_iter().filter_map(|id| self.built.get(id)).collect()
    }

    /// A name of a file of the whole release: without a platform.
    fn text(&self, text: &str) -> String {
        let mut vars = BTreeMap::from([
            ("name".to_owned(), self.dist.name.clone()),
            ("commit".to_owned(), self.facts.short_commit()),
        ]);
        vars.extend(self.facts.version.clone().map(|version| ("version".to_owned(), version)));
        // What has no value stays, and is then no name.
        crate::text::expand(text, &vars).unwrap_or_else(|_| text.to_owned())
    }

    /// The names of all files but [`RUN`], in the order in which they are made.
    ///
    /// # Errors
    /// Two of one name, or one that cannot be a name.
    pub fn names(&self) -> Result<Vec<String>, DistError> {
        let Dist { name: dist, legacy, sources, sboms, provenance, oci, checksums, .. } = self.dist;
        let mut names: Vec<String> = self.plans.iter().map(|plan| plan.archive.clone()).collect();
        names.extend(sources.as_ref().map(|sources| self.text(&sources.archive)));
        names.extend(oci.as_ref().map(|oci| self.text(&oci.archive)));
        names.extend(legacy.manifest.then(|| MANIFEST_BESIDE.to_owned()));
        names.push(MANIFEST.to_owned());
        names.extend(sboms.iter().map(|sbom| sbom.file(dist)));
        names.extend(provenance.then(|| provenance_name(dist)));
        let main = names.clone();
        for name in &main {
            names.extend(checksums.iter().map(|sum| format!("{name}.{}", sum.name())));
        }
        names.extend(self.old_sums().into_iter().map(|(_, name)| name));
        names.push(SUMS.to_owned());
        let mut seen = BTreeSet::from([RUN.to_owned(), crate::signature::SIGNATURE.to_owned()]);
        for name in &names {
            check_name(name)?;
            if name.contains("${") {
                let why = "a placeholder in it has no value";
                return Err(DistError::Name { name: name.clone(), why });
            }
            if !seen.insert(name.clone()) {
                return Err(DistError::SameName { name: name.clone() });
            }
        }
        Ok(names)
    }

    /// File → the file with its md5 under an old name.
    fn old_sums(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        if let Some(ending) = &self.dist.legacy.md5 {
            let pair = |plan: &PlatformPlan| (plan.archive.clone(), format!("{}{ending}", plan.archive));
            pairs.extend(self.plans.iter().map(pair));
        }
        if let Some(sources) = &self.dist.sources
            && let Some(ending) = &sources.md5
        {
            let archive = self.text(&sources.archive);
            let own = format!("{archive}{ending}");
            // `checksums` writes the very same file.
            if ending != ".md5" || !self.dist.checksums.contains(&Checksum::Md5) {
                pairs.push((archive, own));
            }
        }
        pairs
    }

    /// Writes every file into the folder `stage`.
    ///
    /// # Errors
    /// See [`DistError`].
    pub fn make(&self, stage: &Path, how: &Packing<'_>) -> Result<Vec<Made>, DistError> {
        self.names()?;
        let Dist { name: dist, legacy, sboms, .. } = self.dist;
        let wanted = self.sums();
        let mut archives: Vec<Written> = Vec::new();
        for plan in self.plans {
            archives.push(pack(self.dist, plan, self.facts.epoch, &wanted, stage, how)?);
        }
        let mut desk = Desk { stage, wanted: &wanted, files: Vec::new() };
        for (plan, written) in self.plans.iter().zip(&archives) {
            desk.files.push((plan.archive.clone(), written.sums.clone()));
        }
        let pairs: Vec<_> = self.plans.iter().zip(&archives).collect();
        self.bundle(&mut desk, how)?;
        if let Some(conf) = &self.dist.oci {
            let layout = Layout { dist: self.dist, conf, facts: self.facts, stage };
            let plan = layout.plan(&self.text(&conf.archive), &pairs, how)?;
            let written = pack(self.dist, &plan, self.facts.epoch, &wanted, stage, how)?;
            desk.files.push((plan.archive, written.sums));
        }
        let full = record::record(dist, self.facts, self.spolia, &pairs, &self.steps());
        if legacy.manifest {
            desk.write(MANIFEST_BESIDE, &record::to_json(&full))?;
            desk.write(MANIFEST, &record::to_json(&record::OldForm::new(self.facts)))?;
        } else {
            desk.write(MANIFEST, &record::to_json(&full))?;
        }
        let bill = Bill { record: &full, sources: self.sources, facts: self.facts, key: self.key().0 };
        for sbom in sboms {
            let value = match sbom {
                Sbom::CycloneDx => bill.cyclonedx(),
                Sbom::Spdx => bill.spdx(),
            };
            desk.write(&sbom.file(dist), &record::to_json(&value))?;
        }
        if self.dist.provenance {
            let subjects: Vec<(String, String)> =
                desk.files.iter().map(|(name, sums)| (name.clone(), sums.sha256.to_hex())).collect();
            let statement = provenance::statement(&full, self.sources, &subjects);
            desk.write(&provenance_name(dist), &record::to_json(&statement))?;
        }
        let main = desk.files.clone();
        for (name, sums) in &main {
            for sum in &self.dist.checksums {
                desk.write_sum(name, &format!("{name}.{}", sum.name()), sums, *sum)?;
            }
        }
        for (of, name) in self.old_sums() {
            if let Some((_, sums)) = main.iter().find(|(name, _)| *name == of) {
                desk.write_sum(&of, &name, sums, Checksum::Md5)?;
            }
        }
        desk.write_list(&main)?;
        let made =
            |(name, sums): (String, checksums::Sums)| Made { name, size: sums.size, digest: sums.sha256 };
        Ok(desk.files.into_iter().map(made).collect())
    }

    /// The archive of sources.
    fn bundle(&self, desk: &mut Desk<'_>, how: &Packing<'_>) -> Result<(), DistError> {
        let Some(conf) = &self.dist.sources else { return Ok(()) };
        let index = sources::index(self.sources);
        let index_at = desk.stage.join(".index");
        std::fs::write(&index_at, &index).map_err(|source| DistError::io("write", &index_at, source))?;
        let plan = sources::plan(&self.text(&conf.archive), self.sources, &index, index_at)?;
        let written = pack(self.dist, &plan, self.facts.epoch, desk.wanted, desk.stage, how)?;
        sources::check(self.sources, &plan, &written.members)?;
        desk.files.push((plan.archive, written.sums));
        Ok(())
    }

    /// Every sum that is written somewhere.
    fn sums(&self) -> Vec<Checksum> {
        let mut wanted = self.dist.checksums.clone();
        wanted.push(Checksum::Sha256);
        if !self.old_sums().is_empty() {
            wanted.push(Checksum::Md5);
        }
        wanted.sort();
        wanted.dedup();
        wanted
    }
}

/// Where files are put together.
struct Desk<'d> {
    stage: &'d Path,
    wanted: &'d [Checksum],
    files: Vec<(String, checksums::Sums)>,
}

impl Desk<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), DistError> {
        let path = self.stage.join(name);
        std::fs::write(&path, bytes).map_err(|source| DistError::io("write", &path, source))?;
        self.files.push((name.to_owned(), checksums::of_bytes(bytes, self.wanted)));
        Ok(())
    }

    fn write_sum(
        &mut self,
        of: &str,
        name: &str,
        sums: &checksums::Sums,
        sum: Checksum,
    ) -> Result<(), DistError> {
        let line = checksums::line(sums.hex.get(&sum).map_or("", String::as_str), of);
        self.write(name, line.as_bytes())
    }

    /// The list of sums, of all but files that are sums themselves.
    fn write_list(&mut self, main: &[(String, checksums::Sums)]) -> Result<(), DistError> {
        let mut lines: Vec<(String, String)> =
            main.iter().map(|(name, sums)| (name.clone(), sums.sha256.to_hex())).collect();
        lines.sort();
        let text: String = lines.iter().map(|(name, hex)| checksums::line(hex, name)).collect();
        self.write(SUMS, text.as_bytes())
    }
}

/// A folder in which files of a release are put together; gone when it is dropped.
pub struct Stage {
    path: PathBuf,
}

impl Stage {
    /// A new one in the folder `out`, which is made where it is not there. What processes that are no more have
    /// left there is removed.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(out: &Path) -> Result<Self, DistError> {
        std::fs::create_dir_all(out).map_err(|source| DistError::io("create", out, source))?;
        sweep(out);
        let path = out.join(format!("{STAGE}{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|source| DistError::io("create", &path, source))?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives `names` their places in `out`, the list of sums last, each whole.
    ///
    /// # Errors
    /// The disk's; files that were given their places by then stay there.
    pub fn publish(&self, out: &Path, names: &[String]) -> Result<(), DistError> {
        for name in names {
            let to = out.join(name);
            let moved = std::fs::rename(self.path.join(name), &to);
            moved.map_err(|source| DistError::io("write", to, source))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next one.
        let _unremoved = std::fs::remove_dir_all(&self.path);
    }
}

fn sweep(out: &Path) {
    for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(STAGE)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| {
            pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists()
        }) {
            let _unremoved = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What is known of a release that was made before.
pub enum Found {
    /// Its files are where they belong.
    InPlace(Tree),
    /// They were put there again.
    Restored(Tree),
    /// It has to be made.
    Nothing,
}

/// Looks for a release with this key, and puts its files in place where they are not.
pub fn look_up(
    key: spolia_core::ActionKey,
    store: &LocalStore,
    out: &Path,
    names: &[String],
    digests: &DigestCache,
) -> Found {
    let mut raw = Vec::new();
    let result = match store.get(Entry::result(key), &mut raw) {
        Ok(Some(_)) => perform::decode(&raw),
        _ => None,
    };
    let Some(tree) = result.map(|result| result.outputs) else { return Found::Nothing };
    let expected: BTreeSet<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let there: BTreeSet<&[u8]> = tree.entries().iter().map(|(path, _)| path.as_bytes()).collect();
    if there != expected {
        return Found::Nothing;
    }
    let root = RelPath::root();
    let place = Place { root: out, at: &root };
    if spolia_store::is_right(&tree, place, digests, false) {
        return Found::InPlace(tree);
    }
    let options = MaterialiseOptions { exact: false, digests: Some(digests), ..Default::default() };
    if std::fs::create_dir_all(out).is_ok() && spolia_store::materialise(&tree, store, place, options).is_ok()
    {
        return Found::Restored(tree);
    }
    Found::Nothing
}

/// Keeps a release that was made, so that the next one with its key is none.
///
/// # Errors
/// What kept it from being stored, in words: that costs time only.
pub fn keep(
    release: &Release<'_>,
    store: &LocalStore,
    out: &Path,
    names: &[String],
    cost: Cost,
    now_us: u64,
    digests: &DigestCache,
) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| perform::chain(error);
    let paths: Result<Vec<RelPath>, _> = names.iter().map(RelPath::new).collect();
    let paths = paths.map_err(|error| words(&error))?;
    let captured = capture(out, &paths, store, Some(digests)).map_err(|error| words(&error))?;
    let result =
        ActionResult { outputs: captured.tree, log: None, cost, missing: Vec::new(), finished_at_us: now_us };
    let key = release.key();
    let description = perform::Description {
        label: Some(format!("dist {}", release.dist.name)),
        project: None,
        explanation: release.explain(),
    };
    let description = serde_json::to_vec(&description).map_err(|error| words(&error))?;
    store.put(Entry::action(key), &mut description.as_slice()).map_err(|error| words(&error))?;
    store
        .put(Entry::result(key), &mut perform::encode(&result).as_slice())
        .map(drop)
        .map_err(|error| words(&error))
}
