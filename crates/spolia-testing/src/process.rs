//! Runs a test of this binary again as another process, in a role. For what only real processes show.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROLE: &str = "SPOLIA_TEST_ROLE";
/// The user and group that owns nothing.
const NOBODY: u32 = 65_534;

/// The role this process was started in; `None` for the test itself.
#[expect(clippy::disallowed_methods, reason = "the parent test has no other way to tell its child")]
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A command that runs only the test `name` of this binary, in `role`.
pub fn rerun(name: &str, role: &str) -> Command {
    command(&std::env::current_exe().expect("this test's own path"), name, role)
}

#[expect(clippy::disallowed_methods, reason = "tests start themselves")]
fn command(program: &Path, name: &str, role: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// The same as a user without rights: another one where this is root, else this one. The binary is copied
/// to `folder`, since its own place may be closed to others.
pub fn rerun_as_nobody(name: &str, role: &str, folder: &Path) -> Command {
    if !is_root() {
        return rerun(name, role);
    }
    let copy: PathBuf = folder.join("test-binary");
    std::fs::copy(std::env::current_exe().expect("this test's own path"), &copy).expect("room for a copy");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    let mut command = command(&copy, name, role);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

/// The same with mounts of its own, so that it can mount a small file system: `None` where this system
/// does not let an ordinary user do that, and then says so.
#[expect(clippy::disallowed_methods, reason = "tests start themselves")]
pub fn rerun_with_own_mounts(name: &str, role: &str) -> Option<Command> {
    let options: &[&str] = if is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let allowed = Command::new("unshare").args(options).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        assert!(!is_root(), "root can have mounts of its own");
        skip(name, "this system gives no mounts to ordinary users");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(options).arg(std::env::current_exe().expect("this test's own path"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    Some(command)
}

/// Mounts an empty file system of so many bytes on `folder`, which only this process sees.
#[expect(clippy::disallowed_methods, reason = "a test in a namespace of its own")]
pub fn mount_small(folder: &Path, bytes: u64) {
    let size = format!("size={bytes}");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
    assert!(mount.status().expect("mount").success(), "cannot mount {}", folder.display());
}

/// Says that a test could not run here.
pub fn skip(name: &str, why: &str) {
    let _unsaid = writeln!(std::io::stderr(), "skipped {name}: {why}");
}

/// Whether this process is root, and so immune to modes.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Processes, this one's own children or not, one of whose arguments is exactly `argument`; none that has
/// ended and waits to be reaped.
pub fn processes_with(argument: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(pid) = pid
            && words.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
        {
            found.push(pid);
        }
    }
    found
}
