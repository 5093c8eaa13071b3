//! The table of exit codes, and the one error type of the binary.

use std::process::ExitCode;

/// How `spolia` ends. `docs/reference/exit-codes.md` is this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: what was asked was done.
    Success,
    /// 1: a step or command of the user's failed.
    StepFailed,
    /// 2: the command line or the manifest is wrong; nothing was run.
    Usage,
    /// 3: the machine is in the way: a folder that cannot be written, a sandbox that is refused.
    Environment,
    /// 4: a check found problems: `cache verify`, `doctor`.
    Problems,
    /// 5: something costs more than what it is compared with: `perf`.
    Regression,
    /// 6: `perf check`: a threshold is exceeded, or a cost has regressed.
    Exceeded,
    /// 7: what was asked cannot be told: not observed, or the runs do not decide.
    Undecided,
    /// 70: our bug.
    Internal,
    /// 125: `spolia run` could not run the command, or not keep what it gave. Below, its own code is used.
    NotRun,
    /// 130: stopped from the keyboard, or by a signal.
    Interrupted,
    /// `spolia run`: the command's own exit code; 128 + N where signal N ended it.
    Command(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::StepFailed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Problems => 4,
            Self::Regression => 5,
            Self::Exceeded => 6,
            Self::Undecided => 7,
            Self::Internal => 70,
            Self::NotRun => 125,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What went wrong, what it means for the exit code, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Already in the form it is shown, one or more lines; empty where all has been said.
    pub(crate) message: String,
    pub(crate) hints: Vec<String>,
    /// What `--json` gives beside the message.
    pub(crate) diagnostics: Vec<spolia_core::diagnostic::Diagnostic>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new(), diagnostics: Vec::new() }
    }

    /// The user's mistake.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The machine's.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Exit::Environment, message)
    }

    /// From an error with its causes.
    pub(crate) fn from_error(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self::new(exit, spolia_engine::perform::chain(error))
    }

    /// The same as `exit`.
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
