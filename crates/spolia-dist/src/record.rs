//! `manifest.json`: what a release is made of. The same release gives the same bytes everywhere; what differs from
//! run to run is in `run.json` beside it.
//!
//! ```text
//! manifest = { version, date, time, commit,                       the four fields of old, commit in 8 digits
//!              format: "spolia dist manifest", format_version: 1,
//!              name, commit_id, dirty, dirty_paths, source_date_epoch, time_from, spolia,
//!              platforms: [ { platform, archive: file, root files: [ member … ] } … ],
//!              steps: [ { step, platform, action, action_why, tools, system, needs } … ] }
//! file     = { name, size, sha256, … }                             every sum that was asked for, in hex
//! member   = { path, type, mode, size, sha256, blake3, link, step, platform, tree }
//! ```
//!
//! Old form, on request: the four fields alone, as `jq .` writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spolia_core::codec::escape;
use spolia_core::{Platform, RelPath};

use crate::archive::Written;
use crate::facts::{EpochFrom, Facts};
use crate::manifest::Checksum;
use crate::plan::{Built, Kind, Member, Origin, PlatformPlan};

/// The name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Its name where the old form has the other.
pub const MANIFEST_BESIDE: &str = "manifest.v1.json";
/// What varies from run to run.
pub const RUN: &str = "run.json";
/// The list of sums.
pub const SUMS: &str = "SHA256SUMS";
/// Names the form.
pub const FORMAT: &str = "spolia dist manifest";
/// Its version.
pub const FORMAT_VERSION: u32 = 1;

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named in the module's grammar")]
pub struct Record {
    pub version: Option<String>,
    pub date: String,
    pub time: String,
    pub commit: Option<String>,
    pub format: String,
    pub format_version: u32,
    pub name: String,
    pub commit_id: Option<String>,
    pub dirty: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirty_paths: Vec<String>,
    pub source_date_epoch: u64,
    pub time_from: EpochFrom,
    pub spolia: String,
    pub platforms: Vec<PlatformRecord>,
    pub steps: Vec<StepRecord>,
}

/// One platform's archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named in the module's grammar")]
pub struct PlatformRecord {
    pub platform: Platform,
    pub archive: FileRecord,
    pub files: Vec<MemberRecord>,
}

/// One file of the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named in the module's grammar")]
pub struct FileRecord {
    pub name: String,
    pub size: u64,
    #[serde(flatten)]
    pub sums: BTreeMap<String, String>,
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named in the module's grammar")]
pub struct MemberRecord {
    pub path: RelPath,
    #[serde(rename = "type")]
    pub kind: String,
    pub mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<RelPath>,
}

/// A step that something in the release was made by or from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named in the module's grammar")]
pub struct StepRecord {
    pub step: String,
    pub platform: Platform,
    pub action: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_why: Option<String>,
    pub tools: BTreeMap<String, String>,
    pub system: Option<String>,
    pub needs: Vec<String>,
}

impl MemberRecord {
    /// Of a member whose SHA-256 is `sha256`, where it is a file.
    pub fn new(member: &Member, sha256: Option<spolia_core::Digest>) -> Self {
        let mut record = Self {
            path: member.path.clone(),
            kind: String::new(),
            mode: format!("{:04o}", member.mode),
            size: None,
            sha256: sha256.map(|digest| digest.to_hex()),
            blake3: None,
            link: None,
            step: None,
            platform: None,
            tree: None,
        };
        match &member.kind {
            Kind::File { digest, size, .. } => {
                record.kind = "file".to_owned();
                record.size = Some(*size);
                record.blake3 = Some(digest.to_hex());
            }
            Kind::Symlink { target } => {
                record.kind = "link".to_owned();
                record.link = Some(escape(target));
            }
            Kind::Folder => record.kind = "folder".to_owned(),
        }
        match &member.origin {
            Origin::Step(id) => {
                (record.step, record.platform) = (Some(id.step.clone()), Some(id.platform.clone()))
            }
            Origin::Tree(path) => record.tree = Some(path.clone()),
            Origin::Made => {}
        }
        record
    }
}

impl StepRecord {
    /// Of a step that was built.
    pub fn new(built: &Built) -> Self {
        let why = "it ran outside the sandbox: its key names a folder of that machine";
        Self {
            step: built.id.step.clone(),
            platform: built.id.platform.clone(),
            action: built.guarded.then(|| built.key.to_string()),
            action_why: (!built.guarded).then(|| why.to_owned()),
            tools: built.tools.clone(),
            system: built.system.clone(),
            needs: built.needs.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The manifest of archives that were written.
pub fn record(
    name: &str,
    facts: &Facts,
    spolia: &str,
    archives: &[(&PlatformPlan, &Written)],
    steps: &[&Built],
) -> Record {
    let platforms = archives.iter().map(|(plan, written)| {
        let members = plan.members.iter().zip(&written.members);
        PlatformRecord {
            platform: plan.platform.clone(),
            archive: file(&plan.archive, &written.sums),
            files: members.map(|(member, sha256)| MemberRecord::new(member, *sha256)).collect(),
        }
    });
    Record {
        version: facts.version.clone(),
        date: facts.date(),
        time: facts.time(),
        commit: facts.commit.as_ref().map(|_| facts.short_commit()),
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        name: name.to_owned(),
        commit_id: facts.commit.clone(),
        dirty: facts.is_dirty(),
        dirty_paths: facts.dirty.clone().unwrap_or_default(),
        source_date_epoch: facts.epoch,
        time_from: facts.epoch_from,
        spolia: spolia.to_owned(),
        platforms: platforms.collect(),
        steps: steps.iter().map(|built| StepRecord::new(built)).collect(),
    }
}

/// One file with its sums.
pub fn file(name: &str, sums: &crate::checksums::Sums) -> FileRecord {
    let hex = |(sum, hex): (&Checksum, &String)| (sum.name().to_owned(), hex.clone());
    FileRecord { name: name.to_owned(), size: sums.size, sums: sums.hex.iter().map(hex).collect() }
}

/// JSON as every file of a release has it: two spaces, a line feed at the end.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The four fields of old, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named in the module's grammar")]
pub struct OldForm {
    pub version: String,
    pub date: String,
    pub time: String,
    pub commit: String,
}

impl OldForm {
    /// Of a release; what is not known is empty.
    pub fn new(facts: &Facts) -> Self {
        Self {
            version: facts.version.clone().unwrap_or_default(),
            date: facts.date(),
            time: facts.time(),
            commit: facts.short_commit(),
        }
    }
}
