//! The command line, as data. The doc comment of each command is its help.

pub(crate) mod perf;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use spolia_core::Platform;
use spolia_core::conf::{parse_duration, parse_size};

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
#[command(next_help_heading = "Options of every command")]
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
    #[arg(short, long, global = true, conflicts_with = "quiet", overrides_with = "verbose")]
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
    Why(WhyArgs),
    Graph(GraphArgs),
    Run(RunArgs),
    Cc(CcArgs),
    Stats(StatsArgs),
    Dist(DistArgs),
    Cache(CacheArgs),
    Sweep(Box<SweepArgs>),
    Doctor(DoctorArgs),
    Init(InitArgs),
    Perf(perf::PerfArgs),
    /// Print the JSON Schema of `spolia.toml`, for editors
    Schema,
    Completions(CompletionsArgs),
}

impl Args {
    /// The whole command line, as clap sees it: for completions and the reference.
    pub(crate) fn command() -> clap::Command {
        <Self as clap::CommandFactory>::command()
    }
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

/// Say what differs from the last time, or where the hit comes from
///
/// For a step that would run now: every field, file, tool and variable of its key that is not what it was
/// the last time it was built in this tree. For one that would not: where its result is, what it cost when
/// it ran, and why it ran then. Nothing is built.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct WhyArgs {
    /// The step
    #[arg(value_name = "STEP", required_unless_present = "last_compile")]
    pub(crate) step: Option<String>,
    /// Say it of the last compiler call, or of the last one whose source ends with this
    #[arg(long, value_name = "SOURCE", num_args = 0..=1, default_missing_value = "", conflicts_with = "step")]
    pub(crate) last_compile: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Show the steps, their platforms and what they need
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct GraphArgs {
    /// Steps to show, with all they need [default: every step]
    #[arg(value_name = "STEP")]
    pub(crate) steps: Vec<String>,
    /// In the language of Graphviz
    #[arg(long, conflicts_with_all = ["svg", "json"])]
    pub(crate) dot: bool,
    /// As a drawing
    #[arg(long, conflicts_with = "json")]
    pub(crate) svg: bool,
    /// Platforms to show [default: all of the manifest's]
    #[arg(short, long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// A `[variant.NAME]` of the manifest
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
}

/// Run one command as a cached action, without a manifest
///
/// The command runs in the current folder, and in its sandbox only the files that `-i` names are there.
/// The files and folders that `-o` names are kept; when the same command is run again with the same
/// inputs, they are put back and what it printed is printed again, byte for byte. Its standard
/// input is empty. Nothing of `${…}` in the command is Spolia's. The exit code is the command's own; 125 means that Spolia could not run it.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct RunArgs {
    /// Files the command reads, as in `inputs` of the manifest; may be given more than once
    #[arg(short, long = "input", value_name = "GLOB")]
    pub(crate) inputs: Vec<String>,
    /// A file or folder the command writes, below the current folder; may be given more than once
    #[arg(short, long = "output", value_name = "PATH")]
    pub(crate) outputs: Vec<PathBuf>,
    /// Pass this variable on; its value is part of the key
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) env: Vec<String>,
    /// A program the command starts, besides its own: its identity is part of the key
    #[arg(long = "tool", value_name = "NAME", value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    /// Let it use the network
    #[arg(long)]
    pub(crate) network: bool,
    /// Where it runs [default: sandbox]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineArg>,
    /// Run it even where its result is known
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Stop it after this time, such as `90s` or `1h30m`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Let outputs be empty
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Compile through the compiler cache: `CC="spolia cc gcc"`, or a link of a compiler's name
///
/// A compile whose arguments, sources, headers and compiler were seen before is answered from the store: outputs,
/// dependency files and everything it printed. Whatever fails in the cache, the compiler runs. Variables:
/// SPOLIA_CACHE_DIR names the store, SPOLIA_ROOT the project's root, SPOLIA_DISABLE=1 turns the cache off,
/// SPOLIA_RECACHE=1 compiles even where the result is known, SPOLIA_REMAP=0 leaves embedded paths as they are,
/// SPOLIA_VERIFY=1 (or a share such as 0.05) compiles hits again and says where they differ, SPOLIA_LOG=FILE writes down
/// what every call does, step by step.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct CcArgs {
    /// Make links of the names of the C and C++ compilers in PATH; put the folder first in PATH to use them
    #[arg(long, value_name = "DIR", conflicts_with = "setup")]
    pub(crate) install_links: Option<PathBuf>,
    /// Write the lines that cargo needs into .cargo/config.toml here, or print those of another build system
    #[arg(long, value_name = "SYSTEM", num_args = 0..=1, default_missing_value = "cargo", require_equals = true)]
    pub(crate) setup: Option<BuildSystem>,
    /// Print the target folder that is kept for this Cargo workspace, or run the command after `--` with
    /// CARGO_TARGET_DIR set to it; ROOT holds those of all checkouts [default: `targets` in the cache's folder]. With
    /// --setup, print the line that sets it for a shell
    #[arg(long, value_name = "ROOT", num_args = 0..=1, require_equals = true)]
    #[arg(conflicts_with = "install_links")]
    pub(crate) target_dir: Option<Option<PathBuf>>,
    /// Instead, list the kept target folders with their checkouts
    #[arg(long, requires = "target_dir", conflicts_with_all = ["prune", "command", "setup"])]
    pub(crate) list: bool,
    /// Instead, remove the kept target folders whose checkout is gone, also where the folder that held it is
    #[arg(long, requires = "target_dir", conflicts_with_all = ["command", "setup"])]
    pub(crate) prune: bool,
    /// Say what --prune would remove
    #[arg(short = 'n', long, requires = "prune")]
    pub(crate) dry_run: bool,
    /// The compiler and its arguments
    #[arg(value_name = "COMPILER", trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(required_unless_present_any = ["install_links", "setup", "target_dir"])]
    pub(crate) command: Vec<OsString>,
}

/// What can be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuildSystem {
    Cargo,
    Cmake,
    Meson,
    Autotools,
}

/// Say what the compiler cache did: hits, misses, why not, bytes and seconds saved
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct StatsArgs {
    /// Only of this time, such as `12h` or `7d` [default: all that is kept]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// Only of the last build session: the calls since the last pause of a minute
    #[arg(long)]
    pub(crate) session: bool,
    /// Forget everything that was counted; the cache itself stays
    #[arg(long, conflicts_with_all = ["since", "session"])]
    pub(crate) zero: bool,
}

/// Pack what steps give and files of the tree into archives that are the same bytes everywhere
///
/// Builds the steps that `[dist.NAME]` of the manifest packs, then writes one archive for each platform, sums and
/// a manifest. The same commit gives the same bytes on every machine, for every user, in every folder. Where
/// nothing changed, nothing is written.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct DistArgs {
    /// Tables `[dist.NAME]` to pack [default: every one]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) how: How,
    /// The folder to write to [default: `to` in `[dist.NAME]`, or `dist`]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Pack a tree that is not what its commit says; the manifest will say so
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// Say what would be packed, and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Run the steps and pack even where nothing changed
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Sign `SHA256SUMS` with this secret key of minisign; its password is in SPOLIA_SIGN_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Make the release a second time in other surroundings and say what differs; exit code 4 if something does
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "pack")]
    pub(crate) verify: Option<VerifyArg>,
    /// The second build of `--verify`: what is true of the first
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) second: Option<PathBuf>,
    /// Check a release instead: sums, archives, manifest, statement, signature; exit code 4 for problems
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "dry_run", "no_cache", "output", "sign_key"])]
    pub(crate) check: Option<PathBuf>,
    /// Whose signature a checked release must have: a public key of minisign, or a file with one
    #[arg(long, value_name = "KEY", requires = "check")]
    pub(crate) public_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyArg {
    /// Steps are taken as they are
    Pack,
    /// Every step runs again
    Rebuild,
}

/// Look at the store, check it, and make it smaller
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// What `cache gc` goes by.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct GcArgs {
    /// The limit, such as `20GB` [default: `max-size` in `[cache]` of the manifest, or 20GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Also remove what was not used for this long, such as `30d` [default: `max-age` in `[cache]`]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// Go on until the store's disk has this much room [default: `min-free` in `[cache]`]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) min_free: Option<u64>,
    /// Fail where a build runs with the store, instead of waiting for its end
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Say what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum CacheCommand {
    /// List the results: whose they are, how old, when last used, how big, how often hit
    Ls {
        /// Only results of this step
        #[arg(value_name = "STEP")]
        step: Option<String>,
    },
    /// Read and check every file of the store; exit code 4 if something is damaged
    Verify {
        /// Remove what is damaged, so that it is built again when it is needed
        #[arg(long)]
        heal: bool,
    },
    /// Remove what was not used for the longest time, until the store is below its limit
    Gc(GcArgs),
    /// Pack what the store has packed already more tightly; builds pack fast, and nothing does this by itself
    ///
    /// Contents, names and times stay as they are, and builds may go on meanwhile. What was tried at a level is not
    /// tried at it again. Files that do not pack, and stores on a file system that shares bytes between files, have
    /// nothing to gain.
    Recompress {
        /// zstd's level: higher ones are smaller and slower to make, and as fast to read
        #[arg(long, value_name = "LEVEL", default_value_t = spolia_store::repack::LEVEL,
            value_parser = clap::value_parser!(i32).range(2..=19))]
        level: i32,
        /// Say what it would give, and write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Keep the results of steps, or single ones by the start of their key, whatever their age and size
    Pin {
        /// Names of steps, or starts of keys [default: list what is pinned]
        #[arg(value_name = "STEP|KEY")]
        names: Vec<String>,
    },
    /// Let them go again
    Unpin {
        /// Names of steps, or starts of keys
        #[arg(value_name = "STEP|KEY", required = true)]
        names: Vec<String>,
    },
    /// Remove everything, or the results of one step; asks first, and without a terminal needs --yes
    Clear {
        /// Only results of this step, in this project where there is a manifest
        #[arg(value_name = "STEP")]
        step: Option<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Print the store's folder
    Dir,
    /// Print how much the store holds, by kind
    Size,
}

/// Remove stale build artifacts from Cargo's target directories; never a live one
///
/// What is live is asked of Cargo: the files that the declared or detected commands would need, for the lock
/// file, features, profiles, flags and compiler as they are now. Everything else that Cargo made is stale.
/// Nothing is compiled for it, and the time of an access decides nothing.
///
/// First comes the plan: what goes, why, and how many bytes that frees. `--dry-run` ends there. What goes is
/// deleted, or kept aside with `--quarantine` until `spolia sweep undo`. Cargo's own locks are held meanwhile.
#[derive(clap::Args, Debug, Clone)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(crate) struct SweepArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SweepCommand>,
    /// Projects or target directories [default: the current folder]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Say what would go and why, and remove nothing
    #[arg(short = 'n', visible_short_alias = 'd', long)]
    pub(crate) dry_run: bool,
    /// All projects below the paths
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// With --recursive: also in folders whose names begin with a dot
    #[arg(long)]
    pub(crate) hidden: bool,
    /// Keep aside what goes, below the target directory, until `spolia sweep undo` or for a week
    #[arg(long, conflicts_with = "all")]
    pub(crate) quarantine: bool,
    /// Also add up what stays, and every byte and second of what goes: looks at every file, which takes longer
    #[arg(long)]
    pub(crate) sizes: bool,
    /// Leave a profile in which a build runs, instead of waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) policy: SweepPolicy,
    /// Show how much every cache of this machine's tools holds, and keep them within `budget` in `[cache]`
    #[arg(long)]
    pub(crate) caches: bool,
    /// With --caches: only what was not used for so long, such as `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "caches")]
    pub(crate) older_than: Option<Duration>,
    /// With --caches: the budget [default: `budget` in `[cache]`; without one, only the table]
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "caches")]
    pub(crate) budget: Option<u64>,
    /// Print a systemd service with a timer, and a git hook, that sweep here and fail loudly
    #[arg(long)]
    pub(crate) schedule: bool,
}

/// Which of what is stale goes.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "What goes")]
pub(crate) struct SweepPolicy {
    /// Of what is stale, only what was last built more than so many days ago
    #[arg(short, long, value_name = "DAYS")]
    pub(crate) time: Option<u64>,
    /// Of what is stale, only what a compiler made that rustup does not have any more
    #[arg(short, long)]
    pub(crate) installed: bool,
    /// Of what is stale, only what other toolchains than these made
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) toolchains: Vec<String>,
    /// Of what is stale, only what belongs to the workspace's own packages
    #[arg(long)]
    pub(crate) workspace: bool,
    /// Write down that everything that is there now may go with --file, and remove nothing
    #[arg(short, long, conflicts_with_all = ["file", "all", "quarantine"])]
    pub(crate) stamp: bool,
    /// Of what is stale, only what was last built before the last --stamp, which is used up
    #[arg(short, long)]
    pub(crate) file: bool,
    /// What is stale, then the configurations that were not used for the longest time, until a target directory is below this; a plain number is MB
    #[arg(short, long, visible_alias = "maxsize", value_name = "SIZE", value_parser = megabytes)]
    pub(crate) max_size: Option<u64>,
    /// The same, until the disk has this much room
    #[arg(long, value_name = "SIZE", value_parser = megabytes)]
    pub(crate) min_free: Option<u64>,
    /// By the room that is left: with more than 20 GB what is stale for a week, else all that is stale
    #[arg(long, conflicts_with_all = ["max_size", "min_free", "time"])]
    pub(crate) auto: bool,
    /// Also what a cache that is saved now has no use for: incremental folders, reports, scratch
    #[arg(long)]
    pub(crate) for_cache_save: bool,
    /// Everything that Cargo can make again, live or not
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum SweepCommand {
    /// Put back what the last `spolia sweep --quarantine` put aside
    Undo {
        /// Projects or target directories [default: the current folder]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
}

/// Say what is installed, what is misconfigured, and what to do; exit code 4 if problems remain
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct DoctorArgs {
    /// Repair what can be repaired safely
    #[arg(long)]
    pub(crate) fix: bool,
}

/// Print a completion script for a shell
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration(text).ok_or("write a number with a unit: `500ms`, `30s`, `5m`, `1h30m`, `7d`")?;
    Ok(Duration::from_millis(ms))
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write a number with a unit: `512MiB`, `20GB`, `1.5TB`".to_owned())
}

/// As [`size`]; a plain number is MB, as `cargo sweep --maxsize` takes it.
fn megabytes(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) => number.checked_mul(1_000_000).ok_or_else(|| "it is too large".to_owned()),
        Err(_) => size(text),
    }
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

/// Look at the tree and write a first spolia.toml
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct InitArgs {
    /// Print the manifest, and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Replace a manifest that is there
    #[arg(long)]
    pub(crate) force: bool,
}
