//! `args + environment → Settings`. The only reader of the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::{Global, When};
use crate::exit::Failure;

/// Variables passed to steps with network: how to reach it and whom to trust. Never keyed.
const NETWORK: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
];
/// Variables that toolchain managers go by.
const TOOLCHAINS: &[&str] = &[
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CARGO_HOME",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "GOROOT",
    "GOTOOLCHAIN",
];

/// Everything that comes from outside the command's own arguments.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) cwd: PathBuf,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) color: bool,
    pub(crate) fancy: bool,
    pub(crate) github: bool,
    /// Where GitHub Actions checks the repository out: annotations name files from there.
    pub(crate) github_workspace: Option<PathBuf>,
    /// A file whose Markdown GitHub Actions shows on the run's page.
    pub(crate) github_summary: Option<PathBuf>,
    pub(crate) home: PathBuf,
    pub(crate) search: OsString,
    cache_dir: Option<PathBuf>,
    env: BTreeMap<OsString, OsString>,
}

impl Settings {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
    pub(crate) fn gather(global: &Global) -> Self {
        let env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let var = |name: &str| env.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty());
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let cwd = global.directory.as_ref().map_or_else(|| here.clone(), |dir| here.join(dir));
        let home = var("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/"));
        let absolute = |path: &OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
        let cache_dir = global.cache_dir.as_ref().map(|dir| here.join(dir)).or_else(|| {
            var("SPOLIA_CACHE_DIR")
                .map(|dir| here.join(dir))
                .or_else(|| var("XDG_CACHE_HOME").and_then(absolute).map(|dir| dir.join("spolia")))
                .or_else(|| (home.as_os_str() != "/").then(|| home.join(".cache/spolia")))
        });
        let terminal = std::io::stderr().is_terminal();
        let dumb = var("TERM").is_some_and(|term| term == "dumb");
        let color = match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !dumb && var("NO_COLOR").is_none(),
        };
        let github = var("GITHUB_ACTIONS").is_some_and(|value| value == "true");
        let fancy = match global.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !dumb && !github && var("CI").is_none(),
        };
        Self {
            manifest: global.manifest.as_ref().map(|path| here.join(path)),
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            color,
            fancy: fancy && !global.json && !global.quiet,
            github,
            github_workspace: var("GITHUB_WORKSPACE").map(PathBuf::from),
            github_summary: var("GITHUB_STEP_SUMMARY").map(PathBuf::from),
            search: var("PATH").cloned().unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin")),
            home,
            cwd,
            cache_dir,
            env,
        }
    }

    /// A variable of the caller's.
    pub(crate) fn var(&self, name: &str) -> Option<OsString> {
        self.env.get(std::ffi::OsStr::new(name)).cloned()
    }

    /// All of the caller's variables, for tools that are asked about the caller's own builds.
    pub(crate) fn whole_env(&self) -> Vec<(OsString, OsString)> {
        self.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn some(&self, names: &[&str]) -> BTreeMap<String, OsString> {
        names.iter().filter_map(|name| Some(((*name).to_owned(), self.var(name)?))).collect()
    }

    /// What steps with network get.
    pub(crate) fn network_env(&self) -> BTreeMap<String, OsString> {
        self.some(NETWORK)
    }

    /// Where files go that nobody keeps.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        let named = self.var("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
        named.unwrap_or_else(|| PathBuf::from("/tmp"))
    }

    /// What toolchain managers go by.
    pub(crate) fn toolchain_env(&self) -> BTreeMap<String, OsString> {
        self.some(TOOLCHAINS)
    }

    /// Where the store is.
    ///
    /// # Errors
    /// There is no home to put it in.
    pub(crate) fn cache_dir(&self) -> Result<PathBuf, Failure> {
        self.cache_dir.clone().ok_or_else(|| {
            Failure::environment("there is no place for the store: HOME is not set")
                .hint("set SPOLIA_CACHE_DIR, or use --cache-dir")
        })
    }

    /// Processors that this process may use.
    pub(crate) fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    }
}

/// What a call as a compiler goes by. Gathered without the command line: there is none of ours in it.
#[derive(Debug)]
pub(crate) struct CompilerSettings {
    pub(crate) env: spolia_cc::Env,
    pub(crate) options: spolia_cc::Options,
    pub(crate) cwd: PathBuf,
    /// `SPOLIA_DISABLE`: compilers run as if Spolia were not there.
    pub(crate) disabled: bool,
}

impl CompilerSettings {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the environment, and the edge's clock")]
    pub(crate) fn gather() -> Self {
        let env = spolia_cc::Env::new(std::env::vars_os().collect());
        let here = std::env::current_dir().unwrap_or_default();
        // The compilers spell the folder as the shell does, where that is the same folder.
        let same = |path: &PathBuf| {
            use std::os::unix::fs::MetadataExt;
            let id =
                |path: &std::path::Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
            path.is_absolute() && *path != here && id(path).is_some() && id(path) == id(&here)
        };
        let cwd = env.some("PWD").map(PathBuf::from).filter(same).unwrap_or_else(|| here.clone());
        let path = |name: &str| env.some(name).map(|path| here.join(path));
        let home = env.some("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let store = path("SPOLIA_CACHE_DIR")
            .or_else(|| path("XDG_CACHE_HOME").map(|dir| dir.join("spolia")))
            .or_else(|| {
                home.as_ref().filter(|home| home.as_os_str() != "/").map(|home| home.join(".cache/spolia"))
            });
        let is = |name: &str| env.some(name).is_some_and(|value| value != "0" && value != "no");
        let not = |name: &str| env.some(name).is_some_and(|value| value == "0" || value == "no");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let terminal = std::io::stderr().is_terminal() && env.some("TERM").is_some_and(|term| term != "dumb");
        let options = spolia_cc::Options {
            store,
            root: path("SPOLIA_ROOT"),
            home,
            colour: terminal && env.get("NO_COLOR").is_none(),
            remap: !not("SPOLIA_REMAP"),
            incremental: !not("SPOLIA_INCREMENTAL"),
            ahead: !not("SPOLIA_AHEAD"),
            verify: sampled(env.some("SPOLIA_VERIFY"), now.subsec_nanos()),
            force: is("SPOLIA_RECACHE"),
            log: path("SPOLIA_LOG"),
            hard_links: is("SPOLIA_HARD_LINKS"),
            collector: Some(PathBuf::from("/proc/self/exe")),
            session: env.some("SPOLIA_SESSION").unwrap_or_default().to_string_lossy().into_owned(),
            now_us: u64::try_from(now.as_micros()).unwrap_or(0),
        };
        let disabled = is("SPOLIA_DISABLE");
        Self { env, options, cwd, disabled }
    }
}

/// Whether this call is one of those that are verified. `share`: nothing, `1` for all, or a number below it.
fn sampled(share: Option<&std::ffi::OsStr>, nanoseconds: u32) -> bool {
    let share = share.and_then(|share| share.to_str()).and_then(|share| share.parse::<f64>().ok());
    // The last digits of the clock are as good as random here.
    share.is_some_and(|share| f64::from(nanoseconds / 1000 % 10_000) < share * 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::sampled;

    #[test]
    fn a_share_of_the_calls_is_verified() {
        let count = |share: &str| {
            let clock = |n: u64| u32::try_from(n * 7_919_000 % 999_999_999).unwrap_or(0);
            (0..1000).filter(|n| sampled(Some(std::ffi::OsStr::new(share)), clock(*n))).count()
        };
        assert_eq!(count("0"), 0);
        assert_eq!(count("1"), 1000);
        assert_eq!(count("no"), 0);
        assert!((1..400).contains(&count("0.1")), "{}", count("0.1"));
        assert!(!sampled(None, 0));
    }
}
