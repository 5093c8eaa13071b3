//! `spolia build`: the manifest's steps, run or restored.

use std::collections::BTreeSet;
use std::sync::Arc;

use spolia_build::build::{Ended, Forced};
use spolia_build::manifest::{EngineKind, Manifest};
use spolia_build::{Build, BuildError, GraphError, Options, Session};
use spolia_core::event::EventKind;
use spolia_engine::Cancel;
use spolia_engine::tools::Surroundings;
use spolia_store::{DigestCache, JournalWriter, LocalStore, RunId};

use crate::cli::{BuildArgs, EngineArg, How};
use crate::exit::{Exit, Failure};
use crate::painter;
use crate::project::{Project, open_store};
use crate::recorder::{Recorder, now_us};
use crate::settings::Settings;
use crate::shell::Shell;

/// Runs it.
pub(crate) fn run(args: &BuildArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let project = Project::load(settings, shell, args.how.variant.as_deref())?;
    let options = options(args, settings);
    if args.dry_run {
        return super::look::dry_run(&project, &options, settings, shell);
    }
    let store = open_store(settings)?;
    build(&project.root, &project.manifest, &options, store, settings, shell)
}

fn options(args: &BuildArgs, settings: &Settings) -> Options {
    let forced = if args.no_cache.is_empty() {
        Forced::Nothing
    } else if args.no_cache.iter().any(String::is_empty) {
        Forced::Everything
    } else {
        Forced::Steps(args.no_cache.iter().cloned().collect::<BTreeSet<_>>())
    };
    Options {
        steps: args.steps.clone(),
        forced,
        store_results: !args.no_store,
        keep_going: args.keep_going,
        ..how_options(&args.how, settings)
    }
}

/// The options that `--platform`, `--jobs` and `--engine` choose.
pub(crate) fn how_options(how: &How, settings: &Settings) -> Options {
    let engine = match how.engine {
        Some(EngineArg::Host) => EngineKind::Host,
        Some(EngineArg::Sandbox) | None => EngineKind::Sandbox,
    };
    Options {
        steps: Vec::new(),
        platforms: how.platform.clone(),
        jobs: how.jobs.map_or_else(|| settings.processors(), usize::from),
        engine,
        engine_asked: how.engine.is_some(),
        forced: Forced::Nothing,
        store_results: true,
        keep_going: false,
        replay: settings.verbose,
    }
}

/// Builds `manifest` in `root`, shows it and records it.
pub(crate) fn build(
    root: &std::path::Path,
    manifest: &Manifest,
    options: &Options,
    store: Arc<LocalStore>,
    settings: &Settings,
    shell: &Shell,
) -> Result<Exit, Failure> {
    let cancel = cancel_on_signals()?;
    let run = RunId::new(now_us());
    let journal = store.is_writable().then(|| JournalWriter::new(&store, &run));
    let recorder = Recorder::new(painter::choose(settings, shell), journal);
    let sink = |kind| recorder.take(kind);
    let mut ended = with_session(root, Arc::clone(&store), settings, &cancel, run, &sink, |session| {
        let digests = digest_cache(session);
        Build::new(session, manifest, options, &digests)?.run()
    });
    if let Ok(ended) = &mut ended {
        super::collect::if_due(&store, &manifest.cache, &mut ended.summary, &sink);
    }
    let exit = match &ended {
        Ok(ended) => exit_of(ended),
        Err(_) => Exit::Usage,
    };
    if let Ok(Ended { summary, .. }) = &ended {
        recorder.take(EventKind::RunFinished { summary: summary.clone(), exit_code: i32::from(exit.code()) });
    }
    recorder.close();
    ended.map_err(|error| failure(&error))?;
    Ok(exit)
}

fn exit_of(ended: &Ended) -> Exit {
    if ended.cancelled {
        Exit::Interrupted
    } else if ended.summary.failed > 0 {
        Exit::StepFailed
    } else {
        Exit::Success
    }
}

/// Gives `body` a session over the process's own surroundings.
pub(crate) fn with_session<T>(
    root: &std::path::Path,
    store: Arc<LocalStore>,
    settings: &Settings,
    cancel: &Cancel,
    run: RunId,
    sink: &(dyn Fn(EventKind) + Sync),
    body: impl FnOnce(&Session<'_>) -> T,
) -> T {
    let session = Session {
        root: root.to_owned(),
        store,
        cancel,
        sink,
        caller_env: &|name| settings.var(name),
        network_env: settings.network_env(),
        surroundings: Surroundings {
            search: settings.search.clone(),
            home: settings.home.clone(),
            root: root.to_owned(),
            env: settings.toolchain_env(),
        },
        run,
        command: std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
        now_us: &now_us,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uid: rustix::process::geteuid().as_raw(),
    };
    body(&session)
}

/// The digests of the project's files, with the clock of their file system.
pub(crate) fn digest_cache(session: &Session<'_>) -> DigestCache {
    let digests = DigestCache::load(&session.store.digests_file(&session.root));
    digests.add_clock(&session.root);
    digests
}

/// What a build error means for the user.
pub(crate) fn failure(error: &BuildError) -> Failure {
    let exit = match error {
        BuildError::Index(_) | BuildError::NoSandbox { .. } => Exit::Environment,
        BuildError::Graph(_) | BuildError::NoSuchForced { .. } => Exit::Usage,
    };
    let failure = Failure::from_error(exit, error);
    match error {
        BuildError::Graph(GraphError::NoStep { near: Some(near), .. }) => {
            failure.hint(format!("a step named `{near}` exists"))
        }
        BuildError::Graph(GraphError::NoStep { .. }) => failure.hint("`spolia graph` lists the steps"),
        BuildError::Graph(GraphError::NoPlatform { known, .. }) => {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            failure.hint(format!("the manifest has {}", known.join(", ")))
        }
        BuildError::NoSandbox { hint, .. } => {
            failure.hint(hint.clone()).hint("`--engine host` runs steps without a sandbox")
        }
        _ => failure,
    }
}

/// Stops the build on the first SIGINT, SIGTERM or SIGHUP; a second SIGINT ends the process.
pub(crate) fn cancel_on_signals() -> Result<Arc<Cancel>, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let cannot = |error: std::io::Error| Failure::environment(format!("cannot watch for signals: {error}"));
    let cancel = Arc::new(Cancel::new().map_err(cannot)?);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
    let told = Arc::clone(&cancel);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if told.is_cancelled() && signal == SIGINT {
                let _unraised = signal_hook::low_level::emulate_default_handler(signal);
            }
            told.cancel();
        }
    });
    Ok(cancel)
}

