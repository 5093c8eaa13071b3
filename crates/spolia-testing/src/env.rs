//! A project, a home and a store of its own for one test, and the real `spolia` to run in them. Knows
//! nothing of what it builds.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use spolia_store::journal::{Run, RunFilter, read_runs};
use spolia_store::{LocalOptions, LocalStore};

use crate::built::Built;
use crate::process::is_root;

/// Names another binary than the one the test was built with: for tests that were copied elsewhere.
const BINARY: &str = "SPOLIA_TEST_BIN";

/// How steps run in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// In the tree.
    Host,
    /// Where only what is declared is there.
    Sandbox,
}

impl Engine {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Sandbox => "sandbox",
        }
    }
}

/// A folder with `project`, `home`, `tmp` and `store` in it, removed at the end.
pub struct TestEnv {
    folder: tempfile::TempDir,
    program: PathBuf,
    /// Passed as `--engine`, so that a sandbox that is refused is an error and never a silent host run.
    pub engine: Engine,
    vars: Vec<(OsString, OsString)>,
}

impl TestEnv {
    /// For the binary `program`, which is usually `env!("CARGO_BIN_EXE_spolia")`.
    #[expect(clippy::disallowed_methods, reason = "a test that was copied is told where the binary is")]
    pub fn new(program: &str, engine: Engine) -> Self {
        let folder = tempfile::Builder::new().prefix("spolia-test-").tempdir().expect("a temporary folder");
        for name in ["project", "home", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).expect("our own folder");
        }
        let program = std::env::var_os(BINARY).map_or_else(|| PathBuf::from(program), PathBuf::from);
        Self { folder, program, engine, vars: Vec::new() }
    }

    /// All of it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The project's folder.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A file or folder of the project.
    pub fn path(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.root().join(path.as_ref())
    }

    /// Sets a variable for every later command.
    pub fn set_var(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.unset_var(name);
        self.vars.push((name.into(), value.as_ref().to_owned()));
    }

    /// Takes it away again.
    pub fn unset_var(&mut self, name: &str) {
        self.vars.retain(|(known, _)| known != name);
    }

    /// Writes a file of the project, with its folders.
    pub fn write(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("our own folder");
        std::fs::write(path, content).expect("our own file");
    }

    /// Writes a program of the project.
    pub fn write_program(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
        self.write(path.as_ref(), content);
        self.chmod(path, 0o755);
    }

    /// Writes `spolia.toml`.
    pub fn manifest(&self, text: &str) {
        self.write("spolia.toml", text);
    }

    /// Replaces a part of `spolia.toml`, which must be there once.
    pub fn edit_manifest(&self, old: &str, new: &str) {
        let text = self.read_text("spolia.toml");
        assert_eq!(text.matches(old).count(), 1, "`{old}` in the manifest");
        self.manifest(&text.replace(old, new));
    }

    /// Removes a file or folder of the project.
    pub fn remove(&self, path: impl AsRef<OsStr>) {
        let path = self.path(path);
        let folder = std::fs::symlink_metadata(&path).expect("it is there").is_dir();
        let removed = if folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("our own file");
    }

    /// Sets a mode.
    pub fn chmod(&self, path: impl AsRef<OsStr>, mode: u32) {
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode))
            .expect("our own file");
    }

    /// A file of the project.
    pub fn read(&self, path: impl AsRef<OsStr>) -> Vec<u8> {
        let path = self.path(path);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The same as text.
    pub fn read_text(&self, path: impl AsRef<OsStr>) -> String {
        String::from_utf8(self.read(path)).expect("text")
    }

    /// Whether there is something at a path of the project.
    pub fn has(&self, path: impl AsRef<OsStr>) -> bool {
        std::fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// How many lines there are in the files called `name` in cache mounts: the one place where a step
    /// leaves a trace that is no output, whatever its engine.
    pub fn traces(&self, name: &str) -> usize {
        let files = Self::files_below(&self.store().join("v1/mounts"));
        let named = files.into_iter().filter(|path| path.file_name() == Some(OsStr::new(name)));
        let lines = |path: PathBuf| {
            let text = std::fs::read(path).unwrap_or_default();
            text.iter().filter(|byte| **byte == b'\n').count()
        };
        named.map(lines).sum()
    }

    /// `spolia` with the test's surroundings and nothing of ours, in a process group of its own.
    #[expect(clippy::disallowed_methods, reason = "tests start the binary")]
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.root()).env_clear().stdin(Stdio::null()).process_group(0);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TZ", "UTC");
        command.env("HOME", self.folder().join("home")).env("TMPDIR", self.folder().join("tmp"));
        command.env("SPOLIA_CACHE_DIR", self.store());
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `spolia build --json` with the test's engine, not started.
    pub fn build_command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let fixed = ["--json", "build", "--engine", self.engine.name()].map(OsString::from);
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.command(fixed.into_iter().chain(args))
    }

    /// Builds and hands over what was said.
    pub fn try_build(&self, args: &[&str]) -> Built {
        Built::of(self.build_command(args).output().expect("spolia starts"))
    }

    /// Builds, and must succeed.
    pub fn build(&self, args: &[&str]) -> Built {
        self.try_build(args).succeeded()
    }

    /// Builds, and must fail with this exit code.
    pub fn build_fails(&self, code: i32, args: &[&str]) -> Built {
        let built = self.try_build(args);
        assert_eq!(built.code, Some(code), "{built}");
        built
    }

    /// Starts a build whose output can be had with [`finish`](Self::finish).
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.build_command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spolia starts")
    }

    /// Waits for a build that was started.
    pub fn finish(child: Child) -> Built {
        Built::of(child.wait_with_output().expect("our own child"))
    }

    /// The runs in the store's journal, oldest first.
    pub fn journal(&self) -> Vec<Run> {
        let store = LocalStore::open(&self.store(), LocalOptions::default()).expect("the store");
        let mut runs = Vec::new();
        read_runs(&store, &RunFilter::default(), &mut |run| runs.push(run)).expect("the journal");
        runs
    }

    /// The clock, µs since 1970.
    #[expect(clippy::disallowed_methods, reason = "the edge: a test's clock is the machine's")]
    pub fn now_us() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.ok().and_then(|now| u64::try_from(now.as_micros()).ok()).unwrap_or(0)
    }

    /// Every file below a folder, sorted; links are not followed.
    pub fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(at) = open.pop() {
            for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    _ => files.push(entry.path()),
                }
            }
        }
        files.sort();
        files
    }

    /// What killed builds may leave and the next one must sweep.
    pub fn left_overs(&self) -> Vec<PathBuf> {
        let mut found = Self::files_below(&self.store().join("v1/tmp"));
        for entry in std::fs::read_dir(self.path(".spolia/tmp")).into_iter().flatten().flatten() {
            found.push(entry.path());
        }
        let stray = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
            name.ends_with(b".tmp") || name.starts_with(b".spolia-")
        };
        found.extend(Self::files_below(&self.root()).into_iter().filter(stray));
        found
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // So that the folder can be removed whatever a test has mounted there and whatever modes it has set.
        for folder in ["project", "store"].map(|name| self.folder().join(name)) {
            let _not_mounted = rustix::mount::unmount(&folder, rustix::mount::UnmountFlags::DETACH);
            give_back(&folder);
        }
    }
}

fn give_back(folder: &Path) {
    if is_root() {
        return;
    }
    let Ok(found) = std::fs::symlink_metadata(folder) else { return };
    if !found.is_dir() {
        return;
    }
    let _refused = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        give_back(&entry.path());
    }
}

/// Looks again and again until `is_so`; a minute without is a failure.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited a minute in vain until {what}");
}
