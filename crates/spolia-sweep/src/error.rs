//! What can go wrong, with the path or command it concerns.

use std::path::PathBuf;

/// Why something could not be swept or asked.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file or folder.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Start {
        /// Its name.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Cargo, asked what a command needs, did not say it.
    #[error("cargo does not say what `{command}` needs in `{folder}`: {said}")]
    Cargo {
        /// What was asked.
        command: String,
        /// The workspace.
        folder: PathBuf,
        /// The last of what it said.
        said: String,
    },
    /// An answer is not what Cargo was known to answer.
    #[error("`{command}` answers what is not understood: {what}")]
    Answer {
        /// What was asked.
        command: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// A cache's own tool failed.
    #[error("`{command}` failed: {said}")]
    Tool {
        /// What was run.
        command: String,
        /// The last of what it said.
        said: String,
    },
    /// It was stopped from the keyboard.
    #[error("stopped")]
    Stopped,
    /// Nothing is known under this name.
    #[error("there is no quarantine `{name}` in `{target}`")]
    NoQuarantine {
        /// Its name.
        name: String,
        /// The target directory.
        target: PathBuf,
    },
}

pub(crate) fn io(
    verb: &'static str,
    path: impl Into<PathBuf>,
    source: impl Into<std::io::Error>,
) -> SweepError {
    SweepError::Io { verb, path: path.into(), source: source.into() }
}
