//! Runs an action in the user's tree, with a clean environment. Guards nothing.

use std::path::Path;

use spolia_core::result::Stream;

use crate::executor::{Execution, Executor, ExecutorError, Ran, View, base_env};
use crate::process::{self, Limits};

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
        command.stdin(std::process::Stdio::null());
        // The run's own folder is home and place for temporary files at once.
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
