//! How one compiler call went: a value first, a sentence second.

use spolia_core::Cost;
use spolia_core::event::Tier;

/// How one compiler call went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its outputs were put back.
    Hit {
        /// From where.
        tier: Tier,
        /// What the compile cost when it ran.
        saved: Cost,
    },
    /// It could have been in the cache and was not; the compiler ran.
    Miss {
        /// Why.
        reason: Miss,
        /// Why the result was not kept; `None` where it was.
        not_stored: Option<String>,
    },
    /// The cache does not take such a call; the compiler ran.
    NotCacheable {
        /// Why.
        reason: NotCacheable,
        /// The argument, variable or file that it was about.
        argument: Option<String>,
    },
    /// No compile at all; the program ran as if Spolia were not there.
    PassThrough(PassThrough),
    /// Spolia failed; the compiler ran.
    Internal(String),
}

/// Why nothing was found. In the order of what to say first where several apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// This source was never compiled with these arguments by this compiler.
    NeverSeen,
    /// The source was compiled here before, with something else: the first thing that differs.
    KeyChanged(String),
    /// A file that was read has other content.
    InputChanged(String),
    /// A file that was read is gone.
    InputGone(String),
    /// A file that was looked for and not there now is.
    Appeared(String),
    /// A link on the way to what was read leads to another place.
    LinkChanged(String),
    /// A folder that was listed holds other names.
    ListingChanged(String),
    /// A variable that was read has another value.
    VariableChanged(String),
    /// The result embeds the folder it was made in, and this is another.
    OtherFolder(String),
    /// What was kept is not whole any more.
    OutputGone(String),
    /// It was asked for.
    Forced,
}

impl Miss {
    /// One word for statistics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NeverSeen => "never-seen",
            Self::KeyChanged(_) => "key-changed",
            Self::InputChanged(_) => "input-changed",
            Self::InputGone(_) => "input-gone",
            Self::Appeared(_) => "appeared",
            Self::LinkChanged(_) => "link-changed",
            Self::ListingChanged(_) => "listing-changed",
            Self::VariableChanged(_) => "variable-changed",
            Self::OtherFolder(_) => "other-folder",
            Self::OutputGone(_) => "output-gone",
            Self::Forced => "forced",
        }
    }

    /// What it is about, where it is about one thing.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::NeverSeen | Self::Forced => None,
            Self::KeyChanged(what)
            | Self::InputChanged(what)
            | Self::InputGone(what)
            | Self::Appeared(what)
            | Self::LinkChanged(what)
            | Self::ListingChanged(what)
            | Self::VariableChanged(what)
            | Self::OtherFolder(what)
            | Self::OutputGone(what) => Some(what),
        }
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeverSeen => f.write_str("this source with these arguments was never compiled"),
            Self::KeyChanged(what) => f.write_str(what),
            Self::InputChanged(what) => write!(f, "`{what}` changed"),
            Self::InputGone(what) => write!(f, "`{what}` is gone"),
            Self::Appeared(what) => write!(f, "`{what}`, which was looked for and not there, now exists"),
            Self::LinkChanged(what) => write!(f, "the link `{what}` leads elsewhere"),
            Self::ListingChanged(what) => write!(f, "the folder `{what}` holds other names"),
            Self::VariableChanged(what) => write!(f, "variable `{what}` changed"),
            Self::OtherFolder(what) => write!(f, "the result embeds the folder `{what}`"),
            Self::OutputGone(what) => write!(f, "{what} is gone from the store"),
            Self::Forced => f.write_str("asked for"),
        }
    }
}

/// Why the cache does not take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotCacheable {
    /// It links.
    Link,
    /// It only preprocesses, or writes dependencies only.
    Preprocess,
    /// Its source comes through a pipe.
    Stdin,
    /// It has more than one source.
    SeveralSources,
    /// It has no source.
    NoSource,
    /// What comes out goes to the terminal or a device.
    NoOutputFile,
    /// An argument whose effect is not known well enough.
    Argument,
    /// A variable whose effect is not known well enough.
    Variable,
    /// The language is not one we know.
    Language,
    /// C++ or Clang modules.
    Modules,
    /// The source has the time of day compiled in.
    TimeMacro,
    /// It reads files that cannot be known.
    HiddenInputs,
    /// The compile failed: nothing is kept of it.
    Failed,
}

impl NotCacheable {
    /// One word for statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Preprocess => "preprocess",
            Self::Stdin => "stdin",
            Self::SeveralSources => "several-sources",
            Self::NoSource => "no-source",
            Self::NoOutputFile => "no-output-file",
            Self::Argument => "argument",
            Self::Variable => "variable",
            Self::Language => "language",
            Self::Modules => "modules",
            Self::TimeMacro => "time-macro",
            Self::HiddenInputs => "hidden-inputs",
            Self::Failed => "compile-failed",
        }
    }
}

impl std::fmt::Display for NotCacheable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link => "it links",
            Self::Preprocess => "it only preprocesses",
            Self::Stdin => "its source comes through a pipe",
            Self::SeveralSources => "it has more than one source",
            Self::NoSource => "it has no source",
            Self::NoOutputFile => "its output is no file",
            Self::Argument => "an argument is not one the cache knows to be safe",
            Self::Variable => "a variable is not one the cache knows to be safe",
            Self::Language => "its language is not one the cache knows",
            Self::Modules => "it uses modules",
            Self::TimeMacro => "the time of the compile is part of the result",
            Self::HiddenInputs => "it reads files that could not be observed",
            Self::Failed => "the compile failed",
        })
    }
}

/// Why a call is no compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassThrough {
    /// The program is no compiler we know.
    UnknownCompiler,
    /// A question about the compiler.
    Question,
    /// Caching is turned off.
    Disabled,
}

impl PassThrough {
    /// One word for statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownCompiler => "unknown-compiler",
            Self::Question => "question",
            Self::Disabled => "disabled",
        }
    }
}
