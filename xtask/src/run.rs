//! Starting programs, loudly. Knows no task.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) type Done<T = ()> = Result<T, String>;

/// The project's folder.
pub(crate) fn root() -> Done<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Where this program was built may have moved since.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let folder = here.as_deref().unwrap_or(manifest);
    folder.parent().map(Path::to_owned).ok_or_else(|| "xtask lies nowhere".to_owned())
}

/// Where cargo builds.
pub(crate) fn target() -> Done<PathBuf> {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    own.map_or_else(|| root().map(|root| root.join("target")), Ok)
}

/// Says and runs a command in the project's folder.
pub(crate) fn program<S: AsRef<OsStr>>(name: &str, args: &[S]) -> Done {
    let mut command = Command::new(name);
    command.args(args).current_dir(root()?);
    checked(&mut command)
}

/// The cargo that runs this.
pub(crate) fn cargo(args: &[&str]) -> Done {
    program(&cargo_path(), args)
}

pub(crate) fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Says and runs it; anything but success is an error.
pub(crate) fn checked(command: &mut Command) -> Done {
    println!("+ {}", line(command));
    let status = command.status().map_err(|error| format!("cannot run {}: {error}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", line(command))) }
}

/// Runs it and says nothing where it succeeds.
pub(crate) fn quietly(command: &mut Command) -> Done {
    output(command).map(drop)
}

/// Runs it quietly and gives what it prints.
pub(crate) fn output(command: &mut Command) -> Done<String> {
    let made = command.stderr(Stdio::inherit()).output();
    let made = made.map_err(|error| format!("cannot run {}: {error}", line(command)))?;
    if !made.status.success() {
        return Err(format!("{} ended with {}", line(command), made.status));
    }
    String::from_utf8(made.stdout).map_err(|_| format!("{} printed something odd", line(command)))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether this user is root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
