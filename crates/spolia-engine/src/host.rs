//! Runs an action in the user's tree, with a clean environment. Guards nothing.

use std::path::Path;

use spolia_core::result::Stream;

use crate::executor::{Execution, Executor, ExecutorError, Ran, View, base_env};
use crate::process::{self, Limits};

/// How often it is looked again for what a killed build has left.
const LEFT_OVER_ROUNDS_MAX: usize = 100;

/// The `host` engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostExecutor;

impl Executor for HostExecutor {
    fn run(
        &self,
        execution: &Execution<'_>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, ExecutorError> {
        let Execution { action, job, places, cancel, .. } = execution;
        let cache = places.scratch.join("cache");
        link_mounts(&cache, &places.mounts)?;
        let view = View {
            root: &places.root,
            out: &places.out,
            cache: &cache,
            need: &|name| places.needs.get(name).cloned(),
        };
        let mut words = action.command.argv.iter().map(|word| view.expand(word, action));
        let program = words.next().unwrap_or_default();
        #[expect(clippy::disallowed_methods, reason = "this is the executor")]
        let mut command = std::process::Command::new(&program);
        command.args(words).current_dir(action.command.folder.under(&places.root)).env_clear();
        command.stdin(process::nothing());
        // The run's own folder is home and place for temporary files at once. By it, whoever comes after a
        // killed build knows what that has left running.
        let home = &places.scratch;
        command.envs(base_env(&places.tools, home, home)).envs(&job.unkeyed_env);
        for (name, value) in &action.env {
            command.env(name, view.expand(value, action));
        }
        let limits = Limits { cancel, timeout: job.timeout };
        let ended = process::run(command, &limits, on_output).map_err(|source| ExecutorError::Start {
            program: program.to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Ran {
            end: ended.end,
            log: ended.log,
            log_cut: ended.log_cut,
            cost: ended.cost,
            looked_for: Vec::new(),
            unwatched: None,
        })
    }
}

/// Ends what is left of a run on the host whose build was killed: this user's processes whose `TMPDIR` is
/// the run's `scratch`. Nobody was there to do it then, and what they still write would end up in the
/// outputs of the next run. Those that have given themselves another environment are not found.
pub fn end_left_overs(scratch: &Path) {
    let wanted = [b"TMPDIR=", std::os::unix::ffi::OsStrExt::as_bytes(scratch.as_os_str())].concat();
    // They may fork while they are looked for.
    for _ in 0..LEFT_OVER_ROUNDS_MAX {
        let found = with_variable(&wanted);
        for process in &found {
            let _gone = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
        }
        for process in &found {
            let mut ended = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            let _interrupted = rustix::event::poll(&mut ended, Some(&second));
        }
        if found.is_empty() {
            return;
        }
    }
}

/// The processes with this variable, held so that their numbers cannot come to mean others.
fn with_variable(wanted: &[u8]) -> Vec<std::os::fd::OwnedFd> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
        let has = || {
            let variables = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable == wanted)
        };
        if !has() {
            continue;
        }
        if let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            && has()
        {
            found.push(process);
        }
    }
    found
}

/// `${cache}/cc` for a mount at `/cache/cc`: on the host a mount is a link to its folder.
fn link_mounts(cache: &Path, mounts: &[(String, std::path::PathBuf)]) -> Result<(), ExecutorError> {
    for (inside, folder) in mounts {
        let Some(below) = inside.strip_prefix("/cache/") else { continue };
        let link = cache.join(below);
        make_folder(link.parent().unwrap_or(cache))?;
        std::os::unix::fs::symlink(folder, &link)
            .map_err(|source| ExecutorError::Prepare { path: link, source })?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), ExecutorError> {
    std::fs::create_dir_all(path).map_err(|source| ExecutorError::Prepare { path: path.to_owned(), source })
}
