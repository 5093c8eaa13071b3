//! What a row of the conformance table works with: a folder, a cache, a compiler.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::conformance::Row;
use crate::packages;
use crate::run::Done;

/// How long after it was written a file is old enough for every cache to believe its time.
const SETTLE: Duration = Duration::from_millis(120);

/// A compiler to try.
pub(crate) struct Compiler {
    pub(crate) name: &'static str,
    /// How it is called.
    program: String,
    /// Words before its own arguments.
    pub(crate) lead: &'static [&'static str],
    /// Its C++ driver.
    pub(crate) cpp: &'static str,
    /// Its major version.
    pub(crate) version: u32,
}

impl Compiler {
    /// Those that are there, and `own_zig` where there is no other.
    pub(crate) fn installed(own_zig: Option<PathBuf>) -> Vec<Self> {
        let mut known: Vec<(&str, PathBuf, &[&str], &str)> = vec![
            ("gcc", PathBuf::from("gcc"), &[], "g++"),
            ("clang", PathBuf::from("clang"), &[], "clang++"),
            ("zig", PathBuf::from("zig"), &["cc"], "zig"),
        ];
        known.retain(|(name, ..)| packages::has(name));
        if let Some(zig) = own_zig
            && known.iter().all(|(name, ..)| *name != "zig")
        {
            known.push(("zig", zig, &["cc"], "zig"));
        }
        let compiler =
            |(name, program, lead, cpp): (&'static str, PathBuf, &'static [&str], &'static str)| {
                let said = Command::new(&program).args(lead).arg("-dumpversion").output();
                let text =
                    said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
                let version = text.split('.').next().and_then(|major| major.trim().parse().ok()).unwrap_or(0);
                Self { name, program: program.display().to_string(), lead, cpp, version }
            };
        known.into_iter().map(compiler).collect()
    }

    pub(crate) fn is_zig(&self) -> bool {
        self.name == "zig"
    }

    pub(crate) fn is_gcc(&self) -> bool {
        self.name == "gcc"
    }
}

/// A compiler cache to try.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    program: PathBuf,
}

impl Tool {
    pub(crate) fn installed(spolia: &Path) -> Vec<Self> {
        let mut tools = vec![Self { name: "spolia", program: spolia.to_owned() }];
        for name in ["ccache", "sccache"] {
            if packages::has(name) {
                tools.push(Self { name, program: PathBuf::from(name) });
            }
        }
        tools
    }

    /// Ends what it left running.
    pub(crate) fn stop(&self) {
        if self.name == "sccache" {
            let _not_running = Command::new(&self.program).arg("--stop-server").output();
        }
    }
}

/// What came of a row.
pub(crate) struct Verdict {
    /// What differs from what the bare compiler gives.
    pub(crate) differs: Option<String>,
    /// Hits before the change; `None` where that is not asked of the tool.
    pub(crate) hits: Option<usize>,
    /// The compiler here cannot do it.
    pub(crate) impossible: bool,
}

impl Verdict {
    pub(crate) fn of(differs: Option<String>) -> Self {
        Self { differs, hits: None, impossible: false }
    }

    pub(crate) fn impossible() -> Self {
        Self { differs: None, hits: None, impossible: true }
    }

    pub(crate) fn is_wrong(&self, cached: bool) -> bool {
        self.differs.is_some() || (cached && !self.impossible && self.hits == Some(0))
    }

    pub(crate) fn say(&self, cached: bool) -> String {
        match &self.differs {
            _ if self.impossible => "–".to_owned(),
            Some(what) => format!("**WRONG** ({what})"),
            None if cached && self.hits == Some(0) => "right, but never cached".to_owned(),
            None => "ok".to_owned(),
        }
    }
}

/// What one call gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gave {
    pub(crate) code: Option<i32>,
    pub(crate) printed: Vec<u8>,
    pub(crate) files: BTreeMap<String, Option<Vec<u8>>>,
}

impl Gave {
    /// What differs, in a few words.
    pub(crate) fn differs(&self, right: &Self) -> Option<String> {
        for (name, content) in &right.files {
            let found = self.files.get(name).cloned().flatten();
            if found != *content {
                return Some(match (found, content) {
                    (None, Some(_)) => format!("`{name}` is missing"),
                    (Some(_), None) => format!("`{name}` should not be there"),
                    _ => format!("`{name}` differs"),
                });
            }
        }
        if self.code != right.code {
            return Some(format!("exit code {:?} for {:?}", self.code, right.code));
        }
        (self.printed != right.printed).then(|| "what it prints differs".to_owned())
    }
}

/// A folder, a cache and a compiler for one row.
pub(crate) struct Bench<'b> {
    tool: &'b Tool,
    pub(crate) compiler: &'b Compiler,
    folder: tempfile::TempDir,
    /// Where calls are made, below the folder.
    pub(crate) cwd: PathBuf,
    vars: BTreeMap<String, String>,
    /// The program that is called; the compiler's own name unless a row says otherwise.
    pub(crate) program: String,
}

impl<'b> Bench<'b> {
    pub(crate) fn new(tool: &'b Tool, compiler: &'b Compiler) -> Done<Self> {
        let folder = tempfile::Builder::new().prefix("conformance-").tempdir().map_err(|e| e.to_string())?;
        let cwd = folder.path().join("tree");
        std::fs::create_dir(&cwd).map_err(|e| e.to_string())?;
        let program = compiler.program.clone();
        Ok(Self { tool, compiler, folder, cwd, vars: BTreeMap::new(), program })
    }

    pub(crate) fn judge(mut self, row: &Row) -> Done<Verdict> {
        let mut verdict = (row.run)(&mut self).map_err(|error| format!("{}: {error}", row.name))?;
        if self.tool.name == "spolia" && verdict.hits.is_none() {
            verdict.hits = Some(self.hits());
        }
        self.tool.stop();
        Ok(verdict)
    }

    /// A folder beside the tree.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.vars.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.cwd.join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("our own folder");
        std::fs::write(path, text).expect("our own file");
    }

    pub(crate) fn write_program(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(path, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.cwd.join(path), mode).expect("our own file");
    }

    pub(crate) fn settle(&self) {
        std::thread::sleep(SETTLE);
    }

    /// The same change of content with the old times of the file.
    pub(crate) fn rewrite_keeping_times(&self, path: &str, text: &str) {
        let path = self.cwd.join(path);
        let old = std::fs::metadata(&path).expect("our own file");
        let times = std::fs::FileTimes::new()
            .set_modified(old.modified().expect("it has a time"))
            .set_accessed(old.accessed().expect("it has a time"));
        let file = std::fs::OpenOptions::new().write(true).truncate(true).open(&path).expect("our own file");
        std::io::Write::write_all(&mut &file, text.as_bytes()).expect("our own file");
        file.set_times(times).expect("our own file");
    }

    /// Gives a file another time, seconds since 1970.
    pub(crate) fn set_time(&self, path: &str, seconds: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.cwd.join(path)).expect("our own file");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(time).expect("our own file");
    }

    fn command(&self, cached: bool) -> Command {
        let mut command = if cached {
            let mut command = Command::new(&self.tool.program);
            if self.tool.name == "spolia" {
                command.arg("cc");
            }
            command.arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command.args(self.compiler.lead);
        command.current_dir(&self.cwd).env_clear().stdin(Stdio::null());
        let home = self.folder.path();
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("LC_ALL", "C");
        command.env("SPOLIA_CACHE_DIR", home.join("spolia")).env("SPOLIA_REMAP", "0");
        command.env("CCACHE_DIR", home.join("ccache")).env("SCCACHE_DIR", home.join("sccache"));
        command.env("SCCACHE_SERVER_PORT", "43126");
        command.envs(&self.vars);
        command
    }

    /// One call, whose `outputs` are removed before it.
    pub(crate) fn call(&self, cached: bool, args: &[&str], outputs: &[&str]) -> Done<Gave> {
        for output in outputs {
            let _not_there = std::fs::remove_file(self.cwd.join(output));
        }
        let Output { status, stdout, stderr } =
            self.command(cached).args(args).output().map_err(|e| format!("{}: {e}", self.program))?;
        let read = |name: &&str| ((*name).to_owned(), std::fs::read(self.cwd.join(name)).ok());
        let files = outputs.iter().map(read).collect();
        Ok(Gave { code: status.code(), printed: [stdout, stderr].concat(), files })
    }

    /// Compiles until it is cached.
    pub(crate) fn warm(&self, args: &[&str], outputs: &[&str]) -> Done<Gave> {
        self.settle();
        self.call(true, args, outputs)?;
        self.call(true, args, outputs)?;
        self.call(true, args, outputs)
    }

    /// Compiles through the cache and without, and compares.
    pub(crate) fn compare(&self, args: &[&str], outputs: &[&str]) -> Done<Verdict> {
        self.settle();
        let found = self.call(true, args, outputs)?;
        let right = self.call(false, args, outputs)?;
        Ok(Verdict::of(found.differs(&right)))
    }

    /// Warm, change, compare: the shape of most rows.
    pub(crate) fn after(
        &mut self,
        args: &[&str],
        outputs: &[&str],
        change: impl FnOnce(&mut Self),
    ) -> Done<Verdict> {
        self.warm(args, outputs)?;
        let hits = (self.tool.name == "spolia").then(|| self.hits());
        change(self);
        let mut verdict = self.compare(args, outputs)?;
        verdict.hits = hits;
        Ok(verdict)
    }

    /// Hits that Spolia has counted here.
    pub(crate) fn hits(&self) -> usize {
        let tally = self.folder.path().join("spolia/v1/cc/tally");
        let days = std::fs::read_dir(tally).into_iter().flatten().flatten();
        let text: String = days.filter_map(|day| std::fs::read_to_string(day.path()).ok()).collect();
        text.lines().filter(|line| line.contains("\"outcome\":\"hit\"")).count()
    }

    /// Cuts every object in the tool's store to half its length.
    pub(crate) fn truncate_store(&self) {
        let mut open = vec![self.folder.path().join(self.tool.name)];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if let Ok(content) = std::fs::read(&path)
                    && (path.to_string_lossy().contains("/blob/") || self.tool.name != "spolia")
                {
                    let _not_ours = std::fs::remove_file(&path);
                    let _not_ours = std::fs::write(&path, &content[..content.len() / 2]);
                }
            }
        }
    }
}
