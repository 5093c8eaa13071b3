//! `spolia doctor`: looks at what builds stand on, says what is wrong and what to do. With `--fix` it repairs
//! what loses nothing: it heals the store, removes left-overs, makes folders and an ignore file.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Serialize;
use spolia_build::build::OWN_FOLDER;
use spolia_build::keying::expand_platform;
use spolia_build::manifest::{CacheConf, EngineKind, Manifest};
use spolia_core::diagnostic::Severity;
use spolia_core::path::escape;
use spolia_engine::perform::chain;
use spolia_engine::sandbox;
use spolia_engine::tools::{Surroundings, Toolbox, package_of};
use spolia_store::gc::Policy;
use spolia_store::{LocalStore, size, verify};

use super::collect;
use super::why::counted;
use crate::cli::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::project::{self, Project, open_store};
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// How many files of each kind in the store are read and checked.
const SAMPLE: usize = 200;
/// The most entries of a folder tree that are looked at.
const ENTRIES_MAX: usize = 20_000;
/// How deep lock files are looked for.
const LOCK_DEPTH_MAX: usize = 5;
/// Less free room than this is a warning, bytes.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// The most names in one message.
const NAMES_SHOWN: usize = 3;

/// Files that pin what a package manager takes.
const LOCK_FILES: &[&str] = &[
    "Cargo.lock",
    "Gemfile.lock",
    "MODULE.bazel.lock",
    "Pipfile.lock",
    "bun.lock",
    "composer.lock",
    "flake.lock",
    "go.sum",
    "gradle.lockfile",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "pdm.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "yarn.lock",
];
/// Folders that hold what others made.
const SKIPPED: &[&str] = &[".git", OWN_FOLDER, "node_modules", "target", "vendor", ".venv", "venv"];

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It works, less well.
    Warning,
    /// Something fails, or will.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// What was looked at: `tools`, `sandbox`, ….
    check: &'static str,
    level: Level,
    message: String,
    hint: Option<String>,
    /// What `--fix` did about it.
    fixed: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &DoctorArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let mut doctor = Doctor { settings, fix: args.fix, findings: Vec::new() };
    let project = doctor.manifest(shell);
    if let Some(project) = &project {
        doctor.tools(project);
        doctor.fetches(&project.manifest);
    }
    doctor.sandbox(project.as_ref());
    if let Some(root) = project.as_ref().map(|project| project.root.clone()).or_else(|| doctor.found_root()) {
        doctor.tree(&root);
        doctor.git(&root);
    }
    doctor.store(project.as_ref().map(|project| &project.manifest.cache));
    Ok(doctor.tell(shell))
}

struct Doctor<'s> {
    settings: &'s Settings,
    fix: bool,
    findings: Vec<Finding>,
}

impl Doctor<'_> {
    fn add(&mut self, check: &'static str, level: Level, message: impl Into<String>) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding { check, level, message: message.into(), hint: None, fixed: None });
        &mut self.findings[at]
    }

    fn problem(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> &mut Finding {
        let finding = self.add(check, Level::Problem, message);
        finding.hint = Some(hint.into());
        finding
    }

    fn warning(&mut self, check: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        self.add(check, Level::Warning, message).hint = Some(hint.into());
    }

    /// The project's folder, where the manifest is there but wrong.
    fn found_root(&self) -> Option<PathBuf> {
        project::find(self.settings).ok().map(|(root, _)| root)
    }

    fn manifest(&mut self, shell: &Shell) -> Option<Project> {
        let (root, name) = match project::find(self.settings) {
            Ok(found) => found,
            Err(failure) => {
                let finding = self.add("manifest", Level::Note, failure.message);
                finding.hint = failure.hints.into_iter().next();
                return None;
            }
        };
        let path = root.join(&name);
        match Project::inspect(root, &name, None) {
            Ok((project, warnings)) => {
                for warning in &warnings {
                    let finding = self.add("manifest", Level::Warning, warning.message.clone());
                    finding.hint = warning.hints.first().cloned();
                }
                let steps = counted(project.manifest.steps.len(), "step");
                self.add("manifest", Level::Good, format!("`{}` has {steps}", path.display()));
                Some(project)
            }
            Err(failure) => {
                if !shell.is_json() {
                    shell.diagnostics(&failure.diagnostics);
                }
                let errors =
                    failure.diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
                let message = match errors {
                    0 => failure.message,
                    errors => format!("`{}` has {}", path.display(), counted(errors, "mistake")),
                };
                self.problem("manifest", message, "every mistake is shown by `spolia graph`");
                None
            }
        }
    }

    /// Every declared tool, once, with who declares it where it is of no use.
    fn tools(&mut self, project: &Project) {
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for step in &project.manifest.steps {
            for (platform, body) in &step.bodies {
                let vars = project.manifest.vars(platform, &spolia_core::Platform::host());
                for tool in &body.tools {
                    let steps = wanted.entry(expand_platform(tool, platform, &vars)).or_default();
                    if steps.last() != Some(&step.name) {
                        steps.push(step.name.clone());
                    }
                }
            }
        }
        let surroundings = Surroundings {
            search: self.settings.search.clone(),
            home: self.settings.home.clone(),
            root: project.root.clone(),
            env: self.settings.toolchain_env(),
        };
        // Without a memory: what is there now is looked at.
        let toolbox = Toolbox::new(surroundings, PathBuf::new());
        for (name, steps) in wanted {
            match toolbox.find(&name) {
                Ok(tool) => {
                    let package = package_of(&tool.program).map(|package| format!(", from {package}"));
                    let package = package.unwrap_or_else(|| ", from no package".to_owned());
                    let message = format!("`{name}` is `{}`{package}", tool.program.display());
                    self.add("tools", Level::Good, message);
                }
                Err(error) => {
                    let message = format!("{error}; needed by {}", list(&steps));
                    self.problem("tools", message, "install it, or take it out of `tools`");
                }
            }
        }
    }

    fn fetches(&mut self, manifest: &Manifest) {
        for step in &manifest.steps {
            let lonely = step.bodies.values().any(|body| {
                body.source.is_some() && !body.network && body.needs.is_empty() && body.input_texts.is_empty()
            });
            if lonely {
                let message = format!("`{}` fetches a source and has neither network nor inputs", step.name);
                let at = format!("{}:{}", step.defined.file, step.defined.line);
                self.warning(
                    "fetch",
                    message,
                    format!("add `network = true` to `[steps.{}]` ({at})", step.name),
                );
            }
        }
    }

    fn sandbox(&mut self, project: Option<&Project>) {
        let own = project.map(|project| project.root.join(OWN_FOLDER).join("tmp")).filter(|tmp| tmp.is_dir());
        let folder = own.unwrap_or_else(|| PathBuf::from("/tmp"));
        match sandbox::probe(&folder) {
            Ok(support) => {
                let by = if support.user_namespace { "through a user namespace" } else { "as root" };
                self.add("sandbox", Level::Good, format!("sandboxes work, {by}"));
                if let Err(errno) = support.overlay {
                    let error = std::io::Error::from_raw_os_error(errno);
                    let message = format!("no overlay mounts ({error}): whole input folders are copied");
                    self.add("sandbox", Level::Note, message);
                }
                let watched = match support.observe {
                    Ok(()) if support.own_proc => None,
                    Ok(()) => Some("a sandbox gets no `/proc` of its own".to_owned()),
                    Err(errno) => Some(std::io::Error::from_raw_os_error(errno).to_string()),
                };
                if let Some(why) = watched {
                    self.warning(
                        "sandbox",
                        format!("look-ups cannot be watched ({why}): undeclared files are not named"),
                        "a container needs a system call filter that allows `seccomp`",
                    );
                }
            }
            Err(refusal) => {
                let demanded = project.is_some_and(|project| {
                    let bodies = project.manifest.steps.iter().flat_map(|step| step.bodies.values());
                    bodies.into_iter().any(|body| body.engine == Some(EngineKind::Sandbox))
                });
                let message = format!(
                    "no sandbox here ({}): steps run on the host, and their results are kept apart",
                    refusal.error
                );
                let level = if demanded { Level::Problem } else { Level::Warning };
                self.add("sandbox", level, message).hint = Some(refusal.hint.to_string());
            }
        }
    }

    /// The project's folder and what Spolia keeps in it.
    fn tree(&mut self, root: &Path) {
        if !may_write(root) {
            let message = format!("the project's folder `{}` cannot be written", root.display());
            self.problem("tree", message, "outputs are published in it; make it yours");
        }
        let own = root.join(OWN_FOLDER);
        if !own.exists() {
            if self.fix && may_write(root) && std::fs::create_dir_all(own.join("tmp")).is_ok() {
                let ignored = std::fs::write(own.join(".gitignore"), "*\n").is_ok();
                let finding = self.add("tree", Level::Note, "there was no `.spolia` yet");
                finding.fixed = ignored.then(|| "made it, with an ignore file of its own".to_owned());
            }
            return;
        }
        if !may_write(&own) {
            let message = format!("`{}` cannot be written", own.display());
            self.problem(
                "tree",
                message,
                format!("make it yours: `sudo chown -R {} {}`", uid(), own.display()),
            );
        }
        let foreign = foreign(&own);
        if foreign.is_empty() {
            self.add("tree", Level::Good, format!("all of `{}` is yours", own.display()));
        } else {
            let message = format!(
                "{} in `.spolia` of another user: {}",
                counted(foreign.len(), "file"),
                names(&foreign)
            );
            self.problem(
                "tree",
                message,
                format!("make them yours: `sudo chown -R {} {}`", uid(), own.display()),
            );
        }
        self.left_overs(&own);
    }

    /// Folders of builds that were killed.
    fn left_overs(&mut self, own: &Path) {
        let dead = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let pid = name.split('.').find_map(|part| part.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
        };
        let entries = std::fs::read_dir(own.join("tmp")).into_iter().flatten().flatten();
        let dead: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(dead).collect();
        if dead.is_empty() {
            return;
        }
        let removed = self.fix && dead.iter().all(|path| sandbox::remove_scratch(path).is_ok());
        let message = format!("{} of killed builds in `.spolia/tmp`", counted(dead.len(), "left-over"));
        let finding = self.add("tree", Level::Note, message);
        finding.hint = Some("the next build that runs something removes them".to_owned());
        finding.fixed = removed.then(|| "removed them".to_owned());
    }

    fn git(&mut self, root: &Path) {
        let inside = match git(root, &["rev-parse", "--is-inside-work-tree"], &[]) {
            Ok(answer) => answer.starts_with(b"true"),
            Err(GitError::Missing) => {
                self.add("git", Level::Note, "git is not installed: lock files were not looked at");
                return;
            }
            Err(GitError::Refused(said)) if said.contains("not a git repository") => false,
            Err(GitError::Refused(said)) => {
                self.add("git", Level::Note, format!("git could not be asked: {said}"));
                return;
            }
        };
        if !inside {
            self.add("git", Level::Note, "the project is in no git work tree");
            return;
        }
        self.lock_files(root);
        self.ignored(root);
    }

    fn lock_files(&mut self, root: &Path) {
        let mut found = Vec::new();
        find_locks(root, Path::new(""), LOCK_DEPTH_MAX, &mut 0, &mut found);
        if found.is_empty() {
            return;
        }
        let tracked: HashSet<PathBuf> = tracked(root, ".").into_iter().collect();
        let ignored = ignored(root, &found);
        let mut committed = 0;
        for path in &found {
            let name = escape(path.as_os_str().as_bytes());
            if tracked.contains(path) {
                committed += 1;
            } else if ignored.contains(path) {
                self.problem(
                    "lock-files",
                    format!("`{name}` is ignored by git: other machines may build with other versions"),
                    format!("take it out of `.gitignore`, then `git add {name}`"),
                );
            } else {
                self.problem(
                    "lock-files",
                    format!("`{name}` is not committed: other machines may build with other versions"),
                    format!("`git add {name}`"),
                );
            }
        }
        if committed > 0 {
            self.add("lock-files", Level::Good, format!("{} known to git", counted(committed, "lock file")));
        }
    }

    /// `.spolia` must not get into a commit.
    fn ignored(&mut self, root: &Path) {
        let own = PathBuf::from(OWN_FOLDER);
        let tracked = tracked(root, OWN_FOLDER);
        if !tracked.is_empty() {
            let message = format!("{} of `.spolia` in git", counted(tracked.len(), "file"));
            self.problem("git", message, "`git rm -r --cached .spolia` takes them out");
        }
        if !root.join(&own).is_dir() {
            return;
        }
        if ignored(root, &[own.join("state")]).is_empty() {
            let ignore = root.join(&own).join(".gitignore");
            let written = self.fix && std::fs::write(&ignore, "*\n").is_ok();
            let finding =
                self.problem("git", "git does not ignore `.spolia`", "add `.spolia/` to `.gitignore`");
            finding.fixed = written.then(|| format!("wrote `{OWN_FOLDER}/.gitignore`"));
        } else {
            self.add("git", Level::Good, "`.spolia` is ignored by git");
        }
    }

    fn store(&mut self, cache: Option<&CacheConf>) {
        let store = match open_store(self.settings) {
            Ok(store) => store,
            Err(failure) => {
                let hint = failure.hints.first().cloned().unwrap_or_default();
                self.problem("store", failure.message, hint);
                return;
            }
        };
        let dir = store.dir().display().to_string();
        if !store.is_writable() {
            let hint = "make it yours, or name another folder with --cache-dir or SPOLIA_CACHE_DIR";
            self.problem("store", format!("`{dir}` cannot be written: nothing is kept"), hint);
        }
        let foreign = foreign(store.dir());
        if !foreign.is_empty() {
            let message = format!(
                "{} in the store of another user: {}",
                counted(foreign.len(), "file"),
                names(&foreign)
            );
            self.problem("store", message, format!("make them yours: `sudo chown -R {} {dir}`", uid()));
        }
        self.room(&store, cache.cloned().unwrap_or_default());
        self.health(&store);
        if self.fix && store.is_writable() {
            self.sweep(&store);
        }
    }

    fn room(&mut self, store: &LocalStore, cache: CacheConf) {
        let max = collect::policy(&cache, store).max_bytes.unwrap_or(u64::MAX);
        let dir = store.dir().display();
        match size::read(store).map(|size| size.bytes()) {
            Some(bytes) if bytes > max => {
                let message =
                    format!("`{dir}` holds {}, more than its {}", words::size(bytes), words::size(max));
                self.warning("store", message, "`spolia cache gc` makes it smaller");
            }
            Some(bytes) => {
                let message = format!("`{dir}` holds {} of {}", words::size(bytes), words::size(max));
                self.add("store", Level::Good, message);
            }
            None => {
                let message =
                    format!("`{dir}` may hold {}; how much it holds was not counted yet", words::size(max));
                self.add("store", Level::Note, message).hint = Some("`spolia cache size` counts".to_owned());
            }
        }
        if let Ok(disk) = rustix::fs::statvfs(store.dir()) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < FREE_BYTES_MIN {
                let message = format!("only {} are free on the store's disk", words::size(free));
                self.warning("store", message, "`spolia cache gc --max-size SIZE` makes room");
            } else {
                self.add("store", Level::Good, format!("{} are free on its disk", words::size(free)));
            }
        }
    }

    /// A sample; with `--fix` all of it.
    fn health(&mut self, store: &LocalStore) {
        let heal = self.fix && store.is_writable();
        let looked = if heal { verify::verify(store, true, now_us()) } else { verify::sample(store, SAMPLE) };
        let report = match looked {
            Ok(report) => report,
            Err(error) => {
                self.problem("store", chain(&error), "see what is wrong with the store's folder");
                return;
            }
        };
        let files = usize::try_from(report.blobs + report.results + report.actions).unwrap_or(usize::MAX);
        if report.damaged.is_empty() {
            self.add("store", Level::Good, format!("{} read and sound", counted(files, "file")));
            return;
        }
        let shown: Vec<String> = report.damaged.iter().take(NAMES_SHOWN).map(ToString::to_string).collect();
        let more = report.damaged.len().saturating_sub(NAMES_SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!("of {}: {}{more}", counted(files, "file"), shown.join("; "));
        let healed = usize::try_from(report.healed).unwrap_or(usize::MAX);
        let finding = self.problem("store", message, "`spolia doctor --fix` or `spolia cache verify --heal`");
        if heal && healed >= report.damaged.len() {
            finding.fixed = Some("removed what was damaged; builds make it again".to_owned());
        }
    }

    /// What nothing needs any more, whatever the limits.
    fn sweep(&mut self, store: &LocalStore) {
        match collect::now(store, &Policy::default()) {
            Ok(Some(report)) if report.removed + report.swept > 0 => {
                let files = counted(usize::try_from(report.removed + report.swept).unwrap_or(0), "file");
                let finding = self.add("store", Level::Note, format!("{files} that nothing needs any more"));
                finding.fixed = Some(format!("removed them ({})", words::size(report.removed_bytes)));
            }
            Ok(_) => {}
            Err(error) => self.warning("store", chain(&error), "`spolia cache gc` says more"),
        }
    }

    fn tell(&self, shell: &Shell) -> Exit {
        let left = |level: Level| {
            self.findings.iter().filter(|found| found.level == level && found.fixed.is_none()).count()
        };
        let (problems, warnings) = (left(Level::Problem), left(Level::Warning));
        let exit = if problems > 0 { Exit::Problems } else { Exit::Success };
        if shell.is_json() {
            shell.json_line(&serde_json::json!({
                "kind": "doctor",
                "findings": self.findings,
                "problems": problems,
                "warnings": warnings,
                "exit_code": exit.code(),
            }));
            return exit;
        }
        for finding in &self.findings {
            if shell.is_quiet() && matches!(finding.level, Level::Good | Level::Note) {
                continue;
            }
            shell.out(&line(finding, shell));
        }
        let tone = if problems > 0 { Tone::Error } else { Tone::Good };
        let text = format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning"));
        shell.status(tone, "doctor", &text);
        exit
    }
}

fn line(finding: &Finding, shell: &Shell) -> String {
    let (tone, word) = match (finding.level, &finding.fixed) {
        (Level::Problem | Level::Warning, Some(_)) => (Tone::Good, "fixed"),
        (Level::Good, _) => (Tone::Good, "ok"),
        (Level::Note, _) => (Tone::Dim, "note"),
        (Level::Warning, None) => (Tone::Warning, "warning"),
        (Level::Problem, None) => (Tone::Error, "problem"),
    };
    let mut text =
        format!("{} {}: {}\n", shell.paint(tone, &format!("{word:>8}")), finding.check, finding.message);
    match (&finding.fixed, &finding.hint) {
        (Some(fixed), _) => text.push_str(&format!("         {fixed}\n")),
        (None, Some(hint)) => text.push_str(&format!("         hint: {hint}\n")),
        (None, None) => {}
    }
    text
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// What below `folder` is another user's. Root may write to everything, so nothing is in its way.
fn foreign(folder: &Path) -> Vec<PathBuf> {
    let uid = uid();
    let mut foreign = Vec::new();
    let mut open = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(folder) = open.pop().filter(|_| uid != 0) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return foreign;
            }
            let Ok(found) = entry.metadata() else { continue };
            if found.uid() != uid {
                foreign.push(entry.path());
            } else if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    foreign
}

fn find_locks(root: &Path, below: &Path, depth: usize, seen: &mut usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root.join(below)).into_iter().flatten().flatten() {
        *seen += 1;
        if *seen > ENTRIES_MAX {
            return;
        }
        let name = entry.file_name();
        let is = |names: &[&str]| name.to_str().is_some_and(|name| names.contains(&name));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 && !is(SKIPPED) => {
                find_locks(root, &below.join(&name), depth - 1, seen, found);
            }
            Ok(kind) if kind.is_file() && is(LOCK_FILES) => found.push(below.join(&name)),
            _ => {}
        }
    }
    found.sort();
}

enum GitError {
    Missing,
    Refused(String),
}

/// What git prints, given `paths` on its standard input with NUL after each.
#[expect(clippy::disallowed_methods, reason = "whether a file is committed only git can tell")]
fn git(root: &Path, arguments: &[&str], paths: &[PathBuf]) -> Result<Vec<u8>, GitError> {
    let refused = |error: std::io::Error| GitError::Refused(error.to_string());
    let mut command = std::process::Command::new("git");
    command.arg("-C").arg(root).args(arguments).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GitError::Missing,
        _ => refused(error),
    })?;
    let input: Vec<u8> =
        paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
    let stdin = child.stdin.take();
    // From a thread: it may print more than a pipe holds before it has read everything.
    let feeder = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let output = child.wait_with_output().map_err(refused)?;
    let _unread = feeder.join();
    // `check-ignore` ends with 1 where nothing is ignored.
    if output.status.success() || output.status.code() == Some(1) {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(GitError::Refused(said.lines().next().unwrap_or("it failed").to_owned()))
}

/// The paths among `paths` that git ignores; none where it cannot tell.
fn ignored(root: &Path, paths: &[PathBuf]) -> Vec<PathBuf> {
    let answer = git(root, &["check-ignore", "-z", "--stdin"], paths);
    split(&answer.unwrap_or_default())
}

/// All paths that git knows below `folder`; none where it cannot tell.
fn tracked(root: &Path, folder: &str) -> Vec<PathBuf> {
    split(&git(root, &["ls-files", "-z", "--", folder], &[]).unwrap_or_default())
}

fn split(answer: &[u8]) -> Vec<PathBuf> {
    let parts = answer.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(std::ffi::OsString::from_vec(part.to_vec()))).collect()
}

fn names(paths: &[PathBuf]) -> String {
    let shown = paths.iter().take(NAMES_SHOWN).map(|path| escape(path.as_os_str().as_bytes()));
    let names: Vec<String> = shown.collect();
    let more = paths.len().saturating_sub(NAMES_SHOWN);
    list_with(&names, more)
}

fn list(names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMES_SHOWN)];
    list_with(shown, names.len() - shown.len())
}

fn list_with(names: &[String], more: usize) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(list(&names), "`a`, `b`, `c` and 2 more");
        assert_eq!(list(&names[..1]), "`a`");
    }
}
