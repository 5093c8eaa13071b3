//! The command line, as data. The doc comment of each command is its help.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use spolia_core::Platform;

/// Makes software builds fast, and proves how fast.
#[derive(Parser, Debug)]
#[command(name = "spolia", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Taken by every command.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Global {
    /// Run as if started in this folder
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// The manifest [default: the nearest spolia.toml, in this folder or above]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// The store [default: $SPOLIA_CACHE_DIR, $XDG_CACHE_HOME/spolia or ~/.cache/spolia]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Print JSON: one line for each event, or one document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only errors and warnings
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Show what steps print, also of those that do not run
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Colour
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub(crate) color: When,
    /// A display that is redrawn while the build runs
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub(crate) progress: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArg {
    /// Only declared inputs are there
    Sandbox,
    /// In your tree, with a clean environment
    Host,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Build(BuildArgs),
}

/// Run the steps that changed, restore the rest
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct BuildArgs {
    /// Steps to build, with all they need [default: every step]
    #[arg(value_name = "STEP")]
    pub(crate) steps: Vec<String>,
    #[command(flatten)]
    pub(crate) how: How,
    /// Run every step, or this one, even where its result is known
    #[arg(long, value_name = "STEP", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) no_cache: Vec<String>,
    /// Keep no result
    #[arg(long)]
    pub(crate) no_store: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Go on with what does not need a failed step
    #[arg(short, long)]
    pub(crate) keep_going: bool,
}

/// Shared by what looks at steps as a build would.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct How {
    /// Platforms to build for [default: all of the manifest's]
    #[arg(short, long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// The most jobs at once, in steps and the makes in them [default: the machine's processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Where steps run that do not say it themselves [default: sandbox]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineArg>,
    /// A `[variant.NAME]` of the manifest
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
}
