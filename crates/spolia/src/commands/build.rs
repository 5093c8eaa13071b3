//! `spolia build`: the manifest's steps, run or restored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use spolia_build::build::{Ended, Forced, tell_fresh};
use spolia_build::manifest::{EngineKind, Manifest};
use spolia_build::{Build, BuildError, GraphError, Options, Session, fresh};
use spolia_core::Digest;
use spolia_core::event::EventKind;
use spolia_engine::Cancel;
use spolia_engine::tools::Surroundings;
use spolia_store::{DigestCache, JournalWriter, LocalStore, RunId, StatKey};

use crate::cli::{BuildArgs, EngineArg, How};
use crate::exit::{Exit, Failure};
use crate::project::{Project, open_store};
use crate::recorder::{Recorder, now_us};
use crate::settings::Settings;
use crate::shell::Shell;
use crate::{painter, project};

/// Runs it.
pub(crate) fn run(args: &BuildArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let began = instant();
    let options = options(args, settings);
    if args.dry_run {
        let project = Project::load(settings, shell, args.how.variant.as_deref())?;
        return super::look::dry_run(&project, &options, settings, shell);
    }
    let (root, name) = project::find(settings)?;
    let store = open_store(settings)?;
    let variant = args.how.variant.as_deref();
    let file = options.may_be_fresh().then(|| fresh_file(&root, &name, variant, &options, &store, settings));
    if let Some(file) = &file
        && let Some(found) = fresh::check(&root, file, now_us(), &|name| settings.var(name))
    {
        return recorded(&root, None, store, settings, shell, |session| {
            Ok(tell_fresh(session, &options, found, began))
        });
    }
    let digests = digest_cache(&store, &root);
    let request = file.and_then(|file| fresh_request(&root, file, &digests));
    let project = Project::read(root, &name, shell, variant)?;
    let request = request.filter(|_| project.is_clean);
    let request = request.map(|request| fresh::Request { manifests: project.files.clone(), ..request });
    recorded(&project.root, Some(&project.manifest), store, settings, shell, |session| {
        Build::new(session, &project.manifest, &options, &digests)?.run(request.as_ref())
    })
}

/// Where the memory of this very request lies: whatever decides the answer and is no file is in its name.
fn fresh_file(
    root: &Path,
    manifest: &str,
    variant: Option<&str>,
    options: &Options,
    store: &LocalStore,
    settings: &Settings,
) -> PathBuf {
    // Another build of this program may find otherwise.
    let program = std::fs::metadata("/proc/self/exe").map(|found| StatKey::of_metadata(&found));
    let request = format!(
        "{manifest}\0{variant:?}\0{}\0{:?}\0{:?}\0{}\0{:?}\0{:?}\0{:?}",
        options.identity(),
        store.dir(),
        program.ok(),
        rustix::process::geteuid().as_raw(),
        settings.search,
        settings.home,
        settings.toolchain_env(),
    );
    fresh::path(root, &Digest::blake3(request.as_bytes()))
}

/// The clocks, read before anything else is.
fn fresh_request(root: &Path, file: PathBuf, digests: &DigestCache) -> Option<fresh::Request> {
    /// How far the clock of another file system may be behind ours.
    const ELSEWHERE_NS: i64 = 60_000_000_000;
    let dev = StatKey::of_metadata(&std::fs::metadata(root).ok()?).dev;
    let machine_ns = i64::try_from(now_us()).ok()?.checked_mul(1000)?;
    Some(fresh::Request {
        file,
        manifests: Vec::new(),
        dev,
        began_ns: digests.clock_ns(dev),
        elsewhere_ns: machine_ns - ELSEWHERE_NS,
    })
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

/// Runs `body`, shows what happens and records it. `manifest` tells where steps are defined.
pub(crate) fn recorded(
    root: &Path,
    manifest: Option<&Manifest>,
    store: Arc<LocalStore>,
    settings: &Settings,
    shell: &Shell,
    body: impl FnOnce(&Session<'_>) -> Result<Ended, BuildError>,
) -> Result<Exit, Failure> {
    observed(root, manifest, store, settings, shell, &|_| {}, body)
}

/// The same, and `observe` is told of everything too.
pub(crate) fn observed(
    root: &Path,
    manifest: Option<&Manifest>,
    store: Arc<LocalStore>,
    settings: &Settings,
    shell: &Shell,
    observe: &(dyn Fn(&EventKind) + Sync),
    body: impl FnOnce(&Session<'_>) -> Result<Ended, BuildError>,
) -> Result<Exit, Failure> {
    let cancel = cancel_on_signals()?;
    let run = RunId::new(now_us());
    let journal = store.is_writable().then(|| JournalWriter::new(&store, &run));
    let mut painter = painter::choose(settings, shell);
    if let Some(manifest) = manifest.filter(|_| settings.github) {
        painter.locate(definitions(root, manifest, settings));
    }
    let recorder = Recorder::new(painter, journal).heed(&cancel);
    let sink = |kind| {
        observe(&kind);
        recorder.take(kind);
    };
    let mut ended = with_session(root, Arc::clone(&store), settings, &cancel, run, &sink, body);
    if let Ok(ended) = &mut ended {
        let conf = manifest.map(|manifest| &manifest.cache);
        super::collect::if_due(&store, conf, &mut ended.summary, &sink);
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

/// Where steps are defined, as seen from the repository.
fn definitions(root: &std::path::Path, manifest: &Manifest, settings: &Settings) -> painter::Definitions {
    let workspace = settings.github_workspace.as_ref().and_then(|path| path.canonicalize().ok());
    let place = |step: &spolia_build::manifest::Step| {
        let file = step.defined.file.under(root);
        let file =
            workspace.as_ref().and_then(|workspace| file.strip_prefix(workspace).ok()).unwrap_or(&file);
        (step.name.clone(), (file.display().to_string(), step.defined.line))
    };
    manifest.steps.iter().map(place).collect()
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
pub(crate) fn digest_cache(store: &LocalStore, root: &Path) -> DigestCache {
    let digests = DigestCache::load(&store.digests_file(root));
    digests.add_clock(root);
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
        BuildError::Graph(GraphError::BuiltElsewhere { name, known, .. }) if known.is_empty() => failure.hint(format!(
            "its `platforms` are none of `[project] platforms`, or of the variant's: look at `[steps.{name}]`"
        )),
        BuildError::Graph(GraphError::BuiltElsewhere { known, .. }) => {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            failure.hint(format!("it is built for {}", known.join(", ")))
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

#[expect(clippy::disallowed_methods, reason = "the edge: a build is measured from here")]
fn instant() -> Instant {
    Instant::now()
}
