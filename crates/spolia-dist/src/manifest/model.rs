//! What `[dist.NAME]` says, checked.

use std::collections::BTreeMap;

use spolia_core::glob::PatternList;
use spolia_core::{Platform, RelPath};

/// Where files of a release are written when the manifest does not say.
pub const DEFAULT_TO: &str = "dist";

/// One `[dist.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dist {
    /// NAME.
    pub name: String,
    /// The folder its files are written to, relative to the manifest.
    pub to: RelPath,
    /// The platforms it is packed for, in order.
    pub platforms: Vec<Platform>,
    /// What an archive holds, by platform; every platform has one.
    pub bodies: BTreeMap<Platform, Body>,
    /// The version, as written or from a file.
    pub version: Option<Version>,
    /// The compressor's level; its own default where absent.
    pub level: Option<u32>,
    /// Which sums are written beside each file, besides `SHA256SUMS`.
    pub checksums: Vec<Checksum>,
    /// Forms that older consumers expect.
    pub legacy: Legacy,
    /// Whether programs may be for another machine than the platform's.
    pub any_machine: bool,
    /// The bundle of third-party sources, where one is asked for.
    pub sources: Option<SourcesConf>,
    /// Which bills of material are written.
    pub sboms: Vec<Sbom>,
    /// Whether an in-toto statement is written.
    pub provenance: bool,
    /// Images of the same files, where they are asked for.
    pub oci: Option<OciConf>,
}

/// What one archive is made of. Texts may hold `${…}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The archive's name.
    pub archive: String,
    /// The folder in the archive that all is in; empty for none.
    pub root: String,
    /// Destination → what goes there, in the order of the file.
    pub files: Vec<FileRule>,
    /// Folders that are there even where nothing is in them.
    pub folders: Vec<String>,
}

/// One line of `files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRule {
    /// Where it goes; with a final `/` it is a folder to put it in.
    pub to: String,
    /// What goes there.
    pub from: Pick,
    /// As it was written, for messages.
    pub text: String,
    /// The mode of files, where the usual 0644 and 0755 will not do.
    pub mode: Option<u32>,
}

/// What goes somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// `step:NAME` or `step:NAME/PATTERN`.
    Step {
        /// The step.
        step: String,
        /// Which of its outputs, relative to `${out}`; all where absent. May hold `${…}`.
        pattern: Option<String>,
    },
    /// A pattern over the tree.
    Tree(PatternList),
}

/// Where the version comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// As written.
    Text(String),
    /// The first line of a file of the tree.
    File(RelPath),
}

/// A kind of sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checksum {
    /// For those who still ask for it.
    Md5,
    /// The usual one.
    Sha256,
    /// The longer one.
    Sha512,
    /// As inside Spolia.
    Blake3,
}

impl Checksum {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha256, Self::Sha512, Self::Blake3];

    /// As in a manifest, and the ending of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }
}

/// `legacy = {…}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Legacy {
    /// `manifest.json` has four fields, and what it would have had is in `manifest.v1.json`.
    pub manifest: bool,
    /// Ending of a file beside each archive with a line of `md5sum`: `.md5.txt`.
    pub md5: Option<String>,
}

/// `sources = {…}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcesConf {
    /// The archive's name; may hold `${version}` and `${commit}`.
    pub archive: String,
    /// Ending of a file beside it with a line of `md5sum`: `.md5`.
    pub md5: Option<String>,
    /// Steps whose outputs are what they fetched.
    pub fetched: Vec<String>,
    /// Steps that build a Rust package, and which.
    pub rust: BTreeMap<String, RustPackage>,
    /// Steps that build Go programs.
    pub go: Vec<String>,
}

/// A package that a step builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustPackage {
    /// Its Cargo.toml.
    pub manifest: RelPath,
    /// Its name, in a workspace.
    pub package: Option<String>,
    /// Features besides the default ones.
    pub features: Vec<String>,
}

/// A kind of bill of material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sbom {
    /// CycloneDX 1.5, `NAME.cdx.json`.
    CycloneDx,
    /// SPDX 2.3, `NAME.spdx.json`.
    Spdx,
}

impl Sbom {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::CycloneDx, Self::Spdx];

    /// As in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::CycloneDx => "cyclonedx",
            Self::Spdx => "spdx",
        }
    }

    /// The file of a release called `dist`.
    pub fn file(self, dist: &str) -> String {
        match self {
            Self::CycloneDx => format!("{dist}.cdx.json"),
            Self::Spdx => format!("{dist}.spdx.json"),
        }
    }
}

/// `oci = …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciConf {
    /// The layout's archive, a tar; may hold `${version}` and `${commit}`.
    pub archive: String,
    /// What an image runs.
    pub entrypoint: Vec<String>,
}
