//! `spolia perf`: what is measured where, handed to `spolia-perf`; what it answers, shown.

mod accept;
mod analyze;
mod benchmark;
mod bisect;
mod check;
mod compare;
mod conf;
mod history;
mod monitor;
mod one_cpu;
mod operand;
mod report;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use spolia_core::event::{EventKind, JOURNAL_VERSION};
use spolia_engine::Cancel;
use spolia_perf::PerfError;
use spolia_perf::history::{Index, folder};
use spolia_perf::programs::Programs;
use spolia_perf::record::{Facts, RECORD_VERSION, State};
use spolia_store::LocalStore;

use crate::cli::perf::{Label, PerfArgs, PerfCommand};
use crate::commands::cache::count;
use crate::commands::why::counted;
use crate::exit::{Exit, Failure};
use crate::project::{self, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::Shell;

/// Runs one of them.
pub(crate) fn run(args: &PerfArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let perf = Perf::new(settings, shell)?;
    match &args.command {
        PerfCommand::Monitor(args) => monitor::run(args, &perf),
        PerfCommand::Accept(args) => accept::run(args, &perf),
        PerfCommand::Analyze(args) => analyze::run(args, &perf),
        PerfCommand::Report(args) => report::run(args, &perf),
        PerfCommand::Trace(args) => report::trace(args, &perf),
        PerfCommand::Benchmark(args) => benchmark::run(args, &perf),
        PerfCommand::Check(args) => check::run(args, &perf),
        PerfCommand::Bisect(args) => bisect::run(args, &perf),
        PerfCommand::Compare(args) => compare::run(args, &perf),
        PerfCommand::History(args) => history::run(args, &perf),
    }
}

/// What all of them stand on.
pub(crate) struct Perf<'p> {
    settings: &'p Settings,
    shell: &'p Shell,
    store: Arc<LocalStore>,
    /// The project's folder: the manifest's, else the repository's, else this one.
    root: PathBuf,
    /// Where commands run.
    cwd: PathBuf,
}

impl<'p> Perf<'p> {
    fn new(settings: &'p Settings, shell: &'p Shell) -> Result<Self, Failure> {
        let cwd = settings
            .cwd
            .canonicalize()
            .map_err(|error| Failure::usage(format!("cannot enter `{}`: {error}", settings.cwd.display())))?;
        let root = match project::find(settings) {
            Ok((root, _)) => root,
            // A manifest that was named must be there.
            Err(failure) if settings.manifest.is_some() => return Err(failure),
            Err(_) => {
                let repository = cwd.ancestors().find(|folder| folder.join(".git").exists());
                repository.unwrap_or(&cwd).to_owned()
            }
        };
        Ok(Self { settings, shell, store: open_store(settings)?, root, cwd })
    }

    /// The project's folder, as the journal has it.
    fn root_text(&self) -> String {
        self.root.to_string_lossy().into_owned()
    }

    fn index(&self) -> Result<Index, Failure> {
        let index = Index::open(&self.store, now_us()).map_err(|error| failure(&error))?;
        self.tell(&index);
        Ok(index)
    }

    /// What is odd about the history as a whole.
    fn tell(&self, index: &Index) {
        let told = index.told();
        let mut odd = Vec::new();
        if told.unreadable_lines > 0 {
            odd.push(format!(
                "{} lines of the journal could not be read and are left out",
                told.unreadable_lines
            ));
        }
        if told.unreadable_files > 0 {
            odd.push(format!(
                "{} files of the journal could not be read and are left out",
                told.unreadable_files
            ));
        }
        if told.from_the_future > 0 {
            let runs = counted(count(told.from_the_future), "run");
            let are = if told.from_the_future == 1 { "is" } else { "are" };
            odd.push(format!(
                "{runs} {are} dated more than a day after now: a clock was set, and the place in the history is wrong"
            ));
        }
        if !self.settings.json && !self.settings.quiet {
            odd.iter().for_each(|odd| self.shell.warning(odd, &[]));
        }
    }

    fn programs<'a>(&'a self, cancel: &'a Cancel) -> Programs<'a> {
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), self.settings.search.clone()),
            ("HOME".into(), self.settings.home.clone().into_os_string()),
            ("LC_ALL".into(), "C".into()),
            ("GIT_TERMINAL_PROMPT".into(), "0".into()),
        ];
        let toolchains = self.settings.toolchain_env();
        env.extend(toolchains.into_iter().map(|(name, value)| (name.into(), value)));
        Programs {
            memory: self.store.is_writable().then(|| folder(&self.store).join("tools.json")),
            search: &self.settings.search,
            folder: &self.cwd,
            env,
            cancel,
        }
    }

    /// What a measurement of `subject` is about and where it is made.
    fn facts(&self, purpose: &str, subject: String, command: Vec<String>, cancel: &Cancel) -> Facts {
        let found = self.programs(cancel).look();
        let mut not_observed = BTreeMap::new();
        let git = found.git.map_err(|why| not_observed.insert("git".to_owned(), why)).ok();
        let load_before = spolia_perf::host::load();
        if load_before.is_none() {
            not_observed.insert("load_before".to_owned(), "`/proc/loadavg` cannot be read".to_owned());
        }
        Facts {
            version: RECORD_VERSION,
            purpose: purpose.to_owned(),
            subject,
            command,
            git,
            toolchain: found.toolchain,
            host: spolia_perf::host::host(self.settings.processors()),
            load_before,
            not_observed,
            ..Facts::default()
        }
    }

    /// The first event of a run that is no build.
    fn run_started(&self, run: &str) -> EventKind {
        EventKind::RunStarted {
            version: JOURNAL_VERSION,
            run: run.to_owned(),
            spolia: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
            root: self.root_text(),
            project: None,
            jobs: 1,
            engine: "host".to_owned(),
            steps: 0,
        }
    }
}

/// What an error of perf's means for the user.
fn failure(error: &PerfError) -> Failure {
    let exit = match error {
        PerfError::Index { .. } | PerfError::Store(_) => Exit::Environment,
        PerfError::Io { verb, .. } if *verb == "write" => Exit::Environment,
        _ => Exit::Usage,
    };
    let failure = Failure::from_error(exit, error);
    match error {
        PerfError::NoSuchRun { .. } => failure.hint("`spolia perf history` lists the runs"),
        PerfError::NothingMeasured { .. } => failure.hint("`spolia perf monitor` measures one"),
        PerfError::Ambiguous { .. } => failure.hint("write more of its name, or its last eight letters"),
        _ => failure,
    }
}

/// `--cold` or `--warm`.
fn state(label: &Label) -> Option<State> {
    match (label.cold, label.warm) {
        (true, _) => Some(State::Cold),
        (_, true) => Some(State::Warm),
        _ => None,
    }
}

/// The command as one line, for people.
fn line(words: &[OsString]) -> String {
    let quote = |word: &OsString| {
        let word = word.to_string_lossy();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
