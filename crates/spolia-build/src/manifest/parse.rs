//! `files → Manifest`: the one way in. Reads through [`Files`], so it knows no disk.
//!
//! Mistakes are gathered in three passes, each over everything: every file on its own (`file`, `step`),
//! then names across files (`names`), then each step on each platform (`layers`, `check`, `cycle`,
//! `publish`). The last two are skipped when a file's syntax is broken: what they would say might
//! follow from that.

use std::collections::HashMap;
use std::io;

use spolia_core::conf::{FILE_BYTES_MAX, Problem, Problems};
use spolia_core::diagnostic::{Severity, Source};
use spolia_core::{Diagnostic, Platform, RelPath};

use super::check::check;
use super::file::{RawFile, Role, read};
use super::layers::{Plan, assemble};
use super::model::Manifest;
use super::names::{Chosen, Project, check_names};
use super::step::Name;

/// Where manifest files are read from.
pub trait Files {
    /// The text of the file at `path`, relative to the project's root.
    ///
    /// # Errors
    /// Whatever keeps it from being read; `InvalidData` if it is not UTF-8.
    fn read(&mut self, path: &RelPath) -> io::Result<String>;
}

/// What a manifest is read for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The variant that was asked for.
    pub variant: Option<&'a str>,
    /// This machine's platform.
    pub host: Platform,
}

/// How many files a manifest may include.
const INCLUDES_MAX: usize = 1000;

/// Reads `root_file` (relative to the root) and what it includes, checks all of it, and applies the
/// variant. `Ok` has the warnings.
///
/// # Errors
/// Every mistake in every file, in the order of files and places, warnings among them.
pub fn parse(
    files: &mut dyn Files,
    root_file: &str,
    request: &Request<'_>,
) -> Result<(Manifest, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let manifest = gather(files, root_file, request, &mut problems);
    let diagnostics = problems.into_diagnostics();
    let failed = diagnostics.iter().any(|one| one.severity == Severity::Error);
    match manifest {
        Some(manifest) if !failed => Ok((manifest, diagnostics)),
        _ => Err(diagnostics),
    }
}

fn gather(
    files: &mut dyn Files,
    root_file: &str,
    request: &Request<'_>,
    problems: &mut Problems,
) -> Option<Manifest> {
    let root = match RelPath::new(root_file) {
        Ok(root) => root,
        Err(error) => {
            problems.push(nowhere(error.to_string()));
            return None;
        }
    };
    let mut loader = Loader { files, problems, loaded: Vec::new(), seen: HashMap::new(), sound: true };
    loader.load_all(root);
    let Loader { loaded, sound, .. } = loader;
    if !sound {
        return None;
    }
    let chosen = Chosen::new(&loaded, request, problems);
    let project = Project::new(&loaded, &chosen, request, problems);
    check_names(&project, problems);
    let plan = Plan::new(&project);
    check(&project, &plan, problems);
    if problems.error_count() > 0 {
        return None;
    }
    let manifest = Manifest {
        name: project.name.cloned(),
        platforms: project.platforms.to_vec(),
        platform_vars: project.platform_vars,
        pools: project.pools,
        cache: project.cache,
        ..Manifest::default()
    };
    // No name is defined twice, so the steps of the files are those of the plan.
    let shapes = plan.into_shapes();
    let steps = assemble(loaded.into_iter().flat_map(|file| file.steps), shapes, problems);
    let by_name = steps.iter().enumerate().map(|(at, step)| (step.name.clone(), at)).collect();
    Some(Manifest { steps, by_name, ..manifest })
}

/// A problem that is in no file.
pub(crate) fn nowhere(message: impl Into<String>) -> Problem {
    Problem { severity: Severity::Error, message: message.into(), labels: Vec::new(), hints: Vec::new() }
}

struct Loader<'f, 'p> {
    files: &'f mut dyn Files,
    problems: &'p mut Problems,
    loaded: Vec<RawFile>,
    /// The number of each file, and the number of the file that includes it.
    seen: HashMap<RelPath, (u32, Option<u32>)>,
    sound: bool,
}

/// A file to read, and who says so.
struct Wanted {
    path: RelPath,
    by: Option<Name>,
}

impl Loader<'_, '_> {
    /// Reads `root`, then the files it includes, each followed by those it includes.
    fn load_all(&mut self, root: RelPath) {
        let mut waiting = vec![Wanted { path: root, by: None }];
        while let Some(wanted) = waiting.pop() {
            if self.loaded.len() > INCLUDES_MAX {
                let message = format!("more than {INCLUDES_MAX} files are included");
                self.problems.push(
                    wanted.by.map_or_else(|| nowhere(&message), |by| Problem::error(by.span, &message)),
                );
                self.sound = false;
                return;
            }
            let Some(file) = self.load(wanted) else { continue };
            let folder = self.folder_of(file);
            let includes = self.loaded[file].includes.clone();
            let mut next: Vec<Wanted> =
                includes.into_iter().filter_map(|name| self.wanted(&folder, name)).collect();
            next.reverse();
            waiting.append(&mut next);
        }
    }

    fn folder_of(&self, file: usize) -> RelPath {
        let path = self.problems.sources().get(file).map(|source| source.file.parent());
        path.flatten().unwrap_or_else(RelPath::root)
    }

    fn wanted(&mut self, folder: &RelPath, name: Name) -> Option<Wanted> {
        let below = [folder.as_bytes(), name.value.as_bytes()].join(&b'/');
        let below = if folder.is_root() { name.value.as_bytes() } else { &below };
        match RelPath::new(below) {
            Ok(path) if !path.is_root() && !name.value.starts_with('/') => {
                Some(Wanted { path, by: Some(name) })
            }
            _ => {
                let message = format!("`{}` is not a file of the project", name.value);
                self.problems.push(Problem::error(name.span, message).hint("write it relative to this file"));
                self.sound = false;
                None
            }
        }
    }

    /// Reads one file; its index in `loaded`, which is its number.
    fn load(&mut self, wanted: Wanted) -> Option<usize> {
        let Wanted { path, by } = wanted;
        if let (Some((number, _)), Some(by)) = (self.seen.get(&path).copied(), &by) {
            self.again(&path, number, by);
            return None;
        }
        let text = match self.files.read(&path) {
            Ok(text) if text.len() <= FILE_BYTES_MAX => text,
            Ok(text) => {
                // A part of it would be read as something else.
                drop(text);
                self.unreadable(&path, by, &format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20));
                return None;
            }
            Err(error) => {
                self.unreadable(&path, by, &error.to_string());
                return None;
            }
        };
        let (number, source) = self.problems.add_source(Source::new(path.clone(), text));
        self.seen.insert(path.clone(), (number, by.as_ref().map(|by| by.span.file)));
        let role = if by.is_none() { Role::Root } else { Role::Included };
        let folder = path.parent().unwrap_or_else(RelPath::root);
        let (file, sound) = read(number, &source, folder, role, self.problems);
        self.sound &= sound;
        self.loaded.push(file);
        Some(self.loaded.len() - 1)
    }

    fn unreadable(&mut self, path: &RelPath, by: Option<Name>, why: &str) {
        let message = format!("`{path}` cannot be read: {why}");
        self.problems.push(match by {
            Some(by) => Problem::error(by.span, message),
            None => nowhere(message),
        });
        self.sound = false;
    }

    /// `path` was read before: by a file that it is included from, or by another.
    fn again(&mut self, path: &RelPath, number: u32, by: &Name) {
        let mut above = Some(by.span.file);
        while let Some(file) = above.filter(|file| *file != number) {
            let including =
                self.problems.sources().get(file as usize).and_then(|source| self.seen.get(&source.file));
            above = including.and_then(|(_, by)| *by);
        }
        let message = match above {
            Some(_) => format!("`{path}` includes itself"),
            None => format!("`{path}` is included twice"),
        };
        self.problems.push(Problem::error(by.span, message));
    }
}
