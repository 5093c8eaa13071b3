//! Finds the manifest and reads it, with everything it includes: `folder → Project`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spolia_build::manifest::{self, Manifest};
use spolia_core::{Diagnostic, Platform, RelPath};
use spolia_store::{LocalOptions, LocalStore};

use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::shell::Shell;

/// The manifest's name.
pub(crate) const MANIFEST: &str = "spolia.toml";
/// The largest manifest that is read, bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A project that was found.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) manifest: Manifest,
    /// The files that were read for it, relative to the root.
    pub(crate) files: Vec<PathBuf>,
    /// Whether nothing was to be said about it.
    pub(crate) is_clean: bool,
}

/// The folder and name of the manifest.
pub(crate) fn find(settings: &Settings) -> Result<(PathBuf, String), Failure> {
    let cannot = |path: &Path, error: std::io::Error| {
        Failure::usage(format!("cannot read the manifest `{}`: {error}", path.display()))
    };
    if let Some(path) = &settings.manifest {
        let path = path.canonicalize().map_err(|error| cannot(path, error))?;
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let (Some(folder), Some(name)) = (path.parent(), name) else {
            return Err(Failure::usage(format!("`{}` is no manifest", path.display())));
        };
        return Ok((folder.to_owned(), name));
    }
    let cwd = settings
        .cwd
        .canonicalize()
        .map_err(|error| Failure::usage(format!("cannot enter `{}`: {error}", settings.cwd.display())))?;
    for folder in cwd.ancestors() {
        if folder.join(MANIFEST).is_file() {
            return Ok((folder.to_owned(), MANIFEST.to_owned()));
        }
    }
    Err(Failure::usage(format!("there is no `{MANIFEST}` in `{}` or above", cwd.display()))
        .hint("`spolia init` writes a first one"))
}

struct Disk<'d> {
    root: &'d Path,
    files: Vec<PathBuf>,
}

impl manifest::Files for Disk<'_> {
    fn read(&mut self, path: &RelPath) -> std::io::Result<String> {
        self.files.push(path.as_path().to_owned());
        let file = std::fs::File::open(path.under(self.root))?;
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut text = String::new();
        let read = file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > MANIFEST_BYTES_MAX {
            return Err(std::io::Error::other(format!("it is larger than {MANIFEST_BYTES_MAX} bytes")));
        }
        Ok(text)
    }
}

impl Project {
    /// Reads the nearest manifest; its warnings are shown, its mistakes are the failure.
    pub(crate) fn load(settings: &Settings, shell: &Shell, variant: Option<&str>) -> Result<Self, Failure> {
        let (root, name) = find(settings)?;
        Self::read(root, &name, shell, variant)
    }

    /// Reads the manifest `name` in `root`; its warnings are shown.
    pub(crate) fn read(
        root: PathBuf,
        name: &str,
        shell: &Shell,
        variant: Option<&str>,
    ) -> Result<Self, Failure> {
        let (project, warnings) = Self::inspect(root, name, variant)?;
        if !shell.is_quiet() {
            shell.diagnostics(&warnings);
        }
        Ok(project)
    }

    /// Reads the manifest `name` in `root` and shows nothing: the warnings are the caller's.
    pub(crate) fn inspect(
        root: PathBuf,
        name: &str,
        variant: Option<&str>,
    ) -> Result<(Self, Vec<Diagnostic>), Failure> {
        let request = manifest::Request { variant, host: Platform::host() };
        let mut disk = Disk { root: &root, files: Vec::new() };
        match manifest::parse(&mut disk, name, &request) {
            Ok((manifest, warnings)) => {
                let files = disk.files;
                Ok((Self { root, manifest, files, is_clean: warnings.is_empty() }, warnings))
            }
            Err(diagnostics) => {
                Err(Failure { exit: Exit::Usage, message: String::new(), hints: Vec::new(), diagnostics })
            }
        }
    }
}

/// Opens the store.
pub(crate) fn open_store(settings: &Settings) -> Result<Arc<LocalStore>, Failure> {
    let dir = settings.cache_dir()?;
    LocalStore::open(&dir, LocalOptions::default()).map(Arc::new).map_err(|error| {
        Failure::from_error(Exit::Environment, &error)
            .hint("--cache-dir or SPOLIA_CACHE_DIR names another folder")
    })
}
