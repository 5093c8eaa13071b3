//! What can go wrong, with the path, run or name it concerns.

use std::path::PathBuf;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// A file cannot be read or written.
    #[error("cannot {verb} `{path}`: {source}")]
    Io {
        /// `read` or `write`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than what is read.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file is not what it should be.
    #[error("`{path}` holds no measurements: {why}")]
    Format {
        /// Which.
        path: PathBuf,
        /// In a sentence.
        why: String,
    },
    /// A name means no run.
    #[error("`{name}` is neither a run, nor a file, nor a commit with measurements")]
    NoSuchRun {
        /// The name.
        name: String,
    },
    /// The start of a run's name fits several.
    #[error("`{name}` is the start of several runs: {}", .runs.join(", "))]
    Ambiguous {
        /// What was written.
        name: String,
        /// The first of those it fits.
        runs: Vec<String>,
    },
    /// There is nothing to look at.
    #[error("nothing was measured yet: {what}")]
    NothingMeasured {
        /// What was looked for.
        what: String,
    },
    /// Two measurements of different things.
    #[error("these cannot be compared: {why}")]
    Incomparable {
        /// In a sentence.
        why: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] spolia_store::StoreError),
    /// The index, also after it was made anew.
    #[error("the index of the history `{path}`: {source}")]
    Index {
        /// Its file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The command could not be started.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// Which.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Git was needed and did not answer.
    #[error("git: {said}")]
    Git {
        /// What it said.
        said: String,
    },
}

impl PerfError {
    /// For `map_err`.
    pub(crate) fn io(verb: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}
