//! Why a release could not be made.

use std::path::PathBuf;

use spolia_core::RelPath;
use spolia_core::event::StepId;

/// Why a release could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DistError {
    /// A placeholder has no value on this platform.
    #[error("`${{{name}}}` in `{text}` has no value for {platform}")]
    Placeholder {
        /// The text it is in.
        text: String,
        /// Its name.
        name: String,
        /// The platform.
        platform: String,
    },
    /// The name of a file of the release is no plain name.
    #[error("`{name}` cannot be the name of a file: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Two files of a release have one name.
    #[error("two files of the release would be called `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A file of the manifest's `files` selects nothing.
    #[error("`{from}` of `[dist.{dist}]` selects nothing{}", platform_words(.platform))]
    Nothing {
        /// The table.
        dist: String,
        /// The value.
        from: String,
        /// The platform.
        platform: String,
    },
    /// Something is selected that is neither file nor link nor folder.
    #[error("`{from}` of `[dist.{dist}]` selects `{path}`, which is a device, a pipe or a socket")]
    Special {
        /// The table.
        dist: String,
        /// The value.
        from: String,
        /// What.
        path: RelPath,
    },
    /// A step that is to be packed has not been built.
    #[error("the outputs of {step} are not known")]
    NotBuilt {
        /// Which.
        step: StepId,
    },
    /// Two sources give one path of an archive.
    #[error("`{path}` is put into `{archive}` twice")]
    Twice {
        /// The path.
        path: RelPath,
        /// The archive.
        archive: String,
    },
    /// Something lies below a file or a link of the archive.
    #[error("`{archive}` cannot be unpacked: {what}")]
    NotATree {
        /// The archive.
        archive: String,
        /// Why.
        what: String,
    },
    /// A link leads out of the archive.
    #[error("`{path}` is a link to `{target}`, which leads out of `{archive}`")]
    LinksOut {
        /// The link.
        path: RelPath,
        /// Where it points, escaped.
        target: String,
        /// The archive.
        archive: String,
    },
    /// A path that this kind of archive cannot hold.
    #[error("`{archive}` cannot hold `{path}`: {why}")]
    Unfit {
        /// The archive.
        archive: String,
        /// The path.
        path: RelPath,
        /// Why.
        why: String,
    },
    /// A program for another machine than the platform's.
    #[error("`{path}` in `{archive}` is for {found}, and the archive is for {platform}")]
    Machine {
        /// The archive.
        archive: String,
        /// The program.
        path: RelPath,
        /// What it is for.
        found: String,
        /// The archive's platform.
        platform: String,
    },
    /// A file is not what it was when the archive was planned.
    #[error("`{path}` changed while it was packed")]
    Changed {
        /// The file on disk.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The tree is not what its commit says.
    #[error("the tree has changes that are in no commit: {}", dirty_words(.paths))]
    Dirty {
        /// What differs, as git shows it.
        paths: Vec<String>,
    },
    /// A program that is needed for facts failed.
    #[error("`{program}` failed: {said}")]
    Asked {
        /// What was run.
        program: String,
        /// What it said.
        said: String,
    },
    /// `SOURCE_DATE_EPOCH` is no time.
    #[error("SOURCE_DATE_EPOCH is `{found}`, not seconds since 1970")]
    Epoch {
        /// What it is.
        found: String,
    },
    /// A source of what ships is not there.
    #[error("the source of `{what}`, which {step} was made from, cannot be bundled: {why}")]
    SourceGone {
        /// Which step.
        step: StepId,
        /// Which source.
        what: String,
        /// Why.
        why: String,
    },
    /// A step that fetches and does not say what.
    #[error("{step} uses the network and declares no source, so what ships is not known to be complete")]
    Undeclared {
        /// Which.
        step: StepId,
    },
    /// Two sources of one name that are not the same bytes.
    #[error("the steps `{steps}` have different sources called `{path}`")]
    TwoSources {
        /// Its path in the bundle.
        path: RelPath,
        /// Which.
        steps: String,
    },
    /// A key or a signature.
    #[error("cannot {verb} `{path}`: {why}")]
    Signature {
        /// What was tried.
        verb: &'static str,
        /// The key or signature.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Stopped from outside.
    #[error("stopped")]
    Cancelled,
}

impl DistError {
    /// An error of the operating system at `path`.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { verb, path: path.into(), source }
    }

    /// What to do about it, where there is something.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Dirty { .. } => "commit them, or pack with --allow-dirty, which the manifest will say",
            Self::Changed { .. } => "build and pack again when nothing writes there",
            Self::Machine { .. } => "`any-machine = true` in `[dist.NAME]` packs it all the same",
            Self::Nothing { .. } => {
                "files that git ignores, and outputs of steps, are selected by their full name or as `step:NAME/PATH`"
            }
            Self::Name { .. } => "`${platform.os}` and `${platform.arch}` are parts of a platform's name",
            Self::SameName { .. } => "`${platform.suffix}` in `archive` tells platforms apart",
            Self::Undeclared { .. } => {
                "give it a `source`, or name it in `fetched`, `rust` or `go` of `sources` in `[dist.NAME]`"
            }
            Self::SourceGone { .. } => {
                "`cargo fetch --locked` or `go mod download` fetch what their lock files name"
            }
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}

fn platform_words(platform: &str) -> String {
    if platform.is_empty() { String::new() } else { format!(" for {platform}") }
}

fn dirty_words(paths: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown = paths.iter().take(SHOWN_MAX).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    match paths.len().checked_sub(SHOWN_MAX) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}
