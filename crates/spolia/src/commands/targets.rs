//! `spolia cc --target-dir`: one kept target folder for each checkout.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::json;
use spolia_cc::targets::{self, Checkout, Managed, TargetError};
use spolia_core::result::Stream;
use spolia_engine::compile::Program;
use spolia_engine::query::{self, Query};
use spolia_store::disk;

use crate::cli::CcArgs;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// Runs it.
pub(crate) fn run(
    args: &CcArgs,
    root: Option<&Path>,
    settings: &Settings,
    shell: &Shell,
) -> Result<Exit, Failure> {
    let root = match root {
        Some(root) => settings.cwd.join(root),
        None => settings.cache_dir()?.join("targets"),
    };
    if args.list {
        return list(&root, shell);
    }
    if args.prune {
        return prune(&root, args.dry_run, shell);
    }
    let checkout = workspace(settings)?;
    let folder = targets::folder_for(&root, &checkout).map_err(failure)?;
    // What cannot be told or removed now is told by `--prune`.
    targets::finish_removals(&root);
    for gone in targets::list(&root).unwrap_or_default() {
        if gone.state == Checkout::Gone && targets::remove(&root, &gone).is_ok() {
            let what = format!("{}: its checkout is gone", gone.checkout.display());
            shell.status(Tone::Plain, "removed", &what);
        }
    }
    if args.command.is_empty() {
        if shell.is_json() {
            let line = json!({ "checkout": checkout.to_string_lossy(), "folder": folder.to_string_lossy() });
            shell.json_line(&line);
        } else if args.setup.is_some() {
            // No line for the project's configuration, which others have as well: the folder is this machine's.
            shell.status(Tone::Plain, "for", "this shell, or its profile");
            shell.out(&format!(
                "export CARGO_TARGET_DIR={}\n",
                super::run::quote(folder.as_os_str().as_bytes())
            ));
        } else {
            shell.out_bytes(folder.as_os_str().as_bytes());
            shell.out("\n");
        }
        return Ok(Exit::Success);
    }
    let name = &args.command[0];
    let program = spolia_cc::detect::find_program(name, &settings.search, None).ok_or_else(|| {
        Failure::usage(format!("there is no program `{}` in PATH", Path::new(name).display()))
    })?;
    let env = [("CARGO_TARGET_DIR".into(), Some(folder.into_os_string()))];
    let program = Program {
        path: &program,
        arg0: name,
        args: &args.command[1..],
        env: &env,
        folder: Some(&settings.cwd),
    };
    let error = program.become_it();
    Err(Failure::environment(format!("cannot start `{}`: {error}", Path::new(name).display())))
}

fn failure(error: TargetError) -> Failure {
    Failure::from_error(Exit::Environment, &error)
        .hint("`--target-dir=ROOT` names another folder for the target folders")
}

/// The root of the Cargo workspace that the current folder is in.
fn workspace(settings: &Settings) -> Result<PathBuf, Failure> {
    let query = Query {
        program: "cargo".into(),
        args: ["locate-project", "--workspace", "--message-format=plain"].map(OsString::from).to_vec(),
        env: settings.whole_env(),
        folder: settings.cwd.clone(),
    };
    let ended = spolia_engine::Cancel::new()
        .and_then(|cancel| query::ask(&query, &cancel, None))
        .map_err(|error| Failure::environment(format!("cannot start `cargo`: {error}")))?;
    let (printed, said) = (ended.log.of(Stream::Stdout), ended.log.of(Stream::Stderr));
    let manifest = printed.strip_suffix(b"\n").filter(|_| ended.end == spolia_engine::End::Exited(0));
    let folder = manifest
        .and_then(|path| PathBuf::from(OsString::from_vec(path.to_vec())).parent().map(Path::to_owned));
    folder.ok_or_else(|| {
        let said = String::from_utf8_lossy(&said);
        let why = said.lines().next().unwrap_or("cargo named no manifest").trim_start_matches("error: ");
        Failure::usage(format!("there is no Cargo workspace here: {why}"))
            .hint("go to the workspace, or use `-C DIR`")
    })
}

/// Bytes on the disk; `None` where something could not be looked at.
fn bytes_below(folder: &Path) -> Option<u64> {
    let usage = disk::usage(folder);
    (usage.unread == 0).then_some(usage.bytes)
}

fn state(managed: &Managed) -> &'static str {
    match managed.state {
        Checkout::There => "there",
        Checkout::Gone => "gone",
        Checkout::Unknown => "gone, with the folder that held it",
    }
}

fn shown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "size unknown".to_owned(), words::size)
}

fn describe(managed: &Managed, bytes: Option<u64>) -> serde_json::Value {
    json!({
        "checkout": managed.checkout.to_string_lossy(),
        "folder": managed.folder.to_string_lossy(),
        "there": managed.state == Checkout::There,
        "bytes": bytes,
    })
}

fn list(root: &Path, shell: &Shell) -> Result<Exit, Failure> {
    for managed in targets::list(root).map_err(failure)? {
        let bytes = bytes_below(&managed.folder);
        if shell.is_json() {
            shell.json_line(&describe(&managed, bytes));
            continue;
        }
        let size = shown(bytes);
        let (checkout, folder) = (managed.checkout.display(), managed.folder.display());
        shell.out(&format!("{size:>10}  {checkout}  ({})\n            {folder}\n", state(&managed)));
    }
    Ok(Exit::Success)
}

fn prune(root: &Path, dry_run: bool, shell: &Shell) -> Result<Exit, Failure> {
    targets::finish_removals(root);
    let mut exit = Exit::Success;
    let gone = targets::list(root).map_err(failure)?;
    for managed in gone.iter().filter(|managed| managed.state != Checkout::There) {
        // Before it goes.
        let bytes = bytes_below(&managed.folder);
        let removed = if dry_run { Ok(()) } else { targets::remove(root, managed) };
        if let Err(error) = removed {
            exit = Exit::Environment;
            shell.error(&failure(error));
            continue;
        }
        if shell.is_json() {
            let mut line = describe(managed, bytes);
            line["removed"] = json!(!dry_run);
            shell.json_line(&line);
        } else {
            let (checkout, size) = (managed.checkout.display(), shown(bytes));
            let what = format!("{checkout} ({size}): its checkout is {}", state(managed));
            shell.status(Tone::Plain, if dry_run { "would remove" } else { "removed" }, &what);
        }
    }
    Ok(exit)
}
