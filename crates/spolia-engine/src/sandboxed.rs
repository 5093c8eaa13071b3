//! Runs an action where only what it declared is there: `Execution → SandboxSpec → Report → Ran`.
//!
//! | inside | is |
//! |---|---|
//! | `/spolia/root` | the declared inputs, a private copy-on-write tree |
//! | `/spolia/out` | `${out}` |
//! | `/spolia/step/NAME` | the outputs of a needed step, read-only |
//! | `/cache` | above the cache mounts |
//! | `/spolia/home`, `/tmp` | empty, private |
//!
//! The paths are fixed, so that what embeds them is the same on every machine.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use spolia_core::RelPath;
use spolia_core::result::Stream;
use spolia_core::tree::Node;

use crate::executor::{End, Execution, Executor, ExecutorError, Ran, View, base_env};
use crate::process::{self, Limits};
use crate::sandbox::{self, Bind, Bytes, LaunchError, Launcher, ProjectRoot, Report, SandboxSpec, Stage};

const ROOT: &str = "/spolia/root";
const OUT: &str = "/spolia/out";
const STEP: &str = "/spolia/step";
const HOME: &str = "/spolia/home";
const CACHE: &str = "/cache";

/// The `sandbox` engine.
#[derive(Debug, Default)]
pub struct SandboxExecutor {
    launcher: Launcher,
}

impl Executor for SandboxExecutor {
    fn run(
        &self,
        execution: &Execution<'_>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, ExecutorError> {
        let places = execution.places;
        let scratch = places.scratch.join("sandbox");
        let prepare = |path: &Path, source| ExecutorError::Prepare { path: path.to_owned(), source };
        let used = match make_private(&scratch) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                sandbox::reset_scratch(&scratch).map(|()| true)
            }
            made => made.map(|()| false),
        };
        let used = used.map_err(|source| prepare(&scratch, source))?;
        let not_started = |source| ExecutorError::Start { program: "the sandbox".to_owned(), source };
        let (out, out_writer) = std::io::pipe().map_err(not_started)?;
        let (err, err_writer) = std::io::pipe().map_err(not_started)?;
        let running = self.launcher.start(&spec(execution, &scratch, used), &out_writer, &err_writer)?;
        let limits = Limits { cancel: execution.cancel, timeout: execution.job.timeout };
        let (readers, writers) = ((out.into(), err.into()), (out_writer.into(), err_writer.into()));
        let (watched, wall) =
            process::await_namespace(&running.descriptor, readers, writers, &limits, on_output)
                .map_err(not_started)?;
        let report = running.exchange.report();
        // Now and not by who uses it next: what a run has left may be large.
        let reset = sandbox::reset_scratch(&scratch);
        if let Some(end) = watched.stopped {
            let wall_us = u64::try_from(wall.as_micros()).ok();
            return Ok(Ran {
                end,
                log: watched.log,
                log_cut: watched.log_cut,
                cost: spolia_core::Cost { wall_us, ..spolia_core::Cost::default() },
                looked_for: Vec::new(),
                unwatched: None,
            });
        }
        let report = report?;
        reset.map_err(|source| prepare(&scratch, source))?;
        finish(report, watched)
    }
}

impl From<LaunchError> for ExecutorError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::NoLauncher(source) => Self::Start { program: "the sandbox".to_owned(), source },
            LaunchError::Exchange(error) => Self::Report(error),
            LaunchError::Refused(error) => Self::Sandbox(error),
        }
    }
}

fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

fn finish(report: Report, watched: process::Watched) -> Result<Ran, ExecutorError> {
    let end = match &report.end {
        sandbox::End::Exited(code) => End::Exited(*code),
        sandbox::End::Signalled(number) => End::Signalled(*number),
        sandbox::End::NotStarted(error) if matches!(error.stage, Stage::Exec | Stage::Interpreter) => {
            return Err(ExecutorError::Start {
                program: error.path.as_path().to_string_lossy().into_owned(),
                source: std::io::Error::from_raw_os_error(error.errno),
            });
        }
        sandbox::End::NotStarted(error) => return Err(ExecutorError::Sandbox(error.clone())),
    };
    let unwatched = match report.observe {
        sandbox::Observe::Watched if report.lookups.truncated => {
            Some(format!("it looked for more than {} different files", sandbox::LOOKUPS_MAX))
        }
        sandbox::Observe::Watched if report.lookups.unreadable > 0 => {
            Some(format!("{} of its calls could not be read", report.lookups.unreadable))
        }
        sandbox::Observe::Watched | sandbox::Observe::Off => None,
        sandbox::Observe::Refused(errno) => {
            Some(format!("the kernel refused: {}", std::io::Error::from_raw_os_error(errno)))
        }
        sandbox::Observe::NoProc => Some("there is no `/proc` of its own".to_owned()),
    };
    let lookups = report.lookups;
    let mut looked_for: Vec<RelPath> =
        lookups.missing.iter().chain(&lookups.made).filter_map(|raw| RelPath::new(&raw.0).ok()).collect();
    looked_for.sort();
    looked_for.dedup();
    Ok(Ran {
        end,
        log: watched.log,
        log_cut: watched.log_cut,
        cost: spolia_core::Cost {
            wall_us: Some(report.cost.wall_us),
            user_us: Some(report.cost.user_us),
            sys_us: Some(report.cost.sys_us),
            max_rss_bytes: Some(report.cost.max_rss_bytes),
        },
        looked_for,
        unwatched,
    })
}

fn spec(execution: &Execution<'_>, scratch: &Path, scratch_used: bool) -> SandboxSpec {
    let Execution { action, job, places, keep_fds, .. } = execution;
    let view = View {
        root: Path::new(ROOT),
        out: Path::new(OUT),
        cache: Path::new(CACHE),
        need: &|name| places.needs.contains_key(name).then(|| Path::new(STEP).join(name)),
    };
    let mut env = base_env(&places.tools, Path::new(HOME), Path::new("/tmp"));
    env.extend(job.unkeyed_env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env.extend(action.env.iter().map(|(name, value)| (name.clone(), view.expand(value, action))));
    let bytes = |text: &OsString| Bytes(text.as_bytes().to_vec());
    let (files, dirs) = single_inputs(execution);
    SandboxSpec {
        scratch: Bytes::from(scratch),
        scratch_used,
        argv: action.command.argv.iter().map(|word| bytes(&view.expand(word, action))).collect(),
        env: env.iter().map(|(name, value)| (Bytes::from(name), bytes(value))).collect(),
        cwd: Bytes::from(&action.command.folder.under(Path::new(ROOT))),
        home: Bytes::from(HOME),
        root: ProjectRoot {
            inside: Bytes::from(ROOT),
            host: Bytes::from(&places.root),
            files,
            dirs,
            whole_dirs: places.whole_folders.iter().map(|path| Bytes(path.as_bytes().to_vec())).collect(),
        },
        binds: binds(execution),
        system: sandbox::default_system(),
        folders: [ROOT, OUT, STEP, HOME].iter().map(Bytes::from).collect(),
        rooms: vec![Bytes::from(STEP)],
        hidden: places.hidden.iter().map(Bytes::from).collect(),
        network: action.network,
        observe: true,
        hostname: Bytes::from("spolia"),
        keep_fds: keep_fds.to_vec(),
    }
}

/// Inputs that do not lie in a wholly declared folder, and folders that have to be there.
fn single_inputs(execution: &Execution<'_>) -> (Vec<Bytes>, Vec<Bytes>) {
    let whole = &execution.places.whole_folders;
    let mut files = Vec::new();
    let mut dirs = vec![Bytes(execution.action.command.folder.as_bytes().to_vec())];
    dirs.retain(|path| !path.0.is_empty());
    let mut whole_at = 0;
    for (path, node) in execution.action.inputs.entries() {
        // Both lists are in path order.
        while whole.get(whole_at).is_some_and(|folder| folder < path && !path.is_within(folder)) {
            whole_at += 1;
        }
        if whole.get(whole_at).is_some_and(|folder| path.is_within(folder)) {
            continue;
        }
        let raw = Bytes(path.as_bytes().to_vec());
        if *node == Node::Folder { dirs.push(raw) } else { files.push(raw) }
    }
    (files, dirs)
}

fn binds(execution: &Execution<'_>) -> Vec<Bind> {
    let places = execution.places;
    let bind = |host: &Path, inside: &Path, writable| Bind {
        host: Bytes::from(host),
        inside: Bytes::from(inside),
        writable,
    };
    let mut binds = vec![bind(&places.out, Path::new(OUT), true)];
    binds.extend(places.needs.iter().map(|(name, host)| bind(host, &Path::new(STEP).join(name), false)));
    binds.extend(places.mounts.iter().map(|(inside, host)| bind(host, Path::new(inside), true)));
    let mut shown: Vec<&PathBuf> = places.tools.iter().flat_map(|tool| &tool.shown).collect();
    shown.sort();
    shown.dedup();
    binds.extend(shown.into_iter().map(|path| bind(path, path, false)));
    binds
}
