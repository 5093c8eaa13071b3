//! Installing what a task needs from the system's package manager: says what, and does it only as root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{self, Done};

/// Whether `program` is in `PATH`.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Installs `packages` where any of `programs` is missing; whether they are all there then.
///
/// # Errors
/// The installation was tried and failed.
pub(crate) fn ensure(programs: &[&str], packages: &[&str]) -> Done<bool> {
    let missing: Vec<&str> = programs.iter().filter(|program| !has(program)).copied().collect();
    if missing.is_empty() {
        return Ok(true);
    }
    if !has("apt-get") || !run::is_root() {
        println!("missing: {}. As root: {}", missing.join(", "), command(packages));
        return Ok(false);
    }
    println!("missing: {}; installing {}", missing.join(", "), packages.join(" "));
    install(packages)?;
    Ok(programs.iter().all(|program| has(program)))
}

fn command(packages: &[&str]) -> String {
    format!("apt-get install --no-install-recommends -y {}", packages.join(" "))
}

/// Installs them.
///
/// # Errors
/// That failed, or only root could.
pub(crate) fn install(packages: &[&str]) -> Done {
    if !has("apt-get") || !run::is_root() {
        return Err(format!("missing: {}. As root: {}", packages.join(", "), command(packages)));
    }
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--no-install-recommends", "-y", "-q"]).args(packages);
        apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        run::checked(&mut apt)
    };
    if install().is_err() {
        // The lists may be old or not there at all.
        run::checked(Command::new("apt-get").args(["update", "-q"]).stdout(Stdio::null()))?;
        install()?;
    }
    Ok(())
}

/// The folder with the programs of a Python virtual environment at `target/NAME` that has `packages`, from PyPI. It is made
/// once; another list makes it anew.
///
/// # Errors
/// Python or a package is not there and could not be installed.
pub(crate) fn python(name: &str, packages: &[&str]) -> Done<PathBuf> {
    let venv = run::target()?.join(name);
    let list = venv.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&list).unwrap_or_default() != wanted {
        python_venv(&venv)?;
        let mut pip = Command::new(venv.join("bin/pip"));
        run::checked(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
        std::fs::write(&list, wanted).map_err(|error| format!("{}: {error}", list.display()))?;
    }
    Ok(venv.join("bin"))
}

/// Makes one at `folder`, anew; `ensurepip`, which Debian ships apart, is installed where it is missing.
fn python_venv(folder: &Path) -> Done {
    let asks = ["-c", "import ensurepip, venv"];
    let whole = Command::new("python3").args(asks).stderr(Stdio::null()).status();
    if !whole.is_ok_and(|status| status.success()) {
        install(&["python3", "python3-venv"])?;
    }
    run::checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))
}
