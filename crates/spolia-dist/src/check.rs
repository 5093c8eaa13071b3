//! A release as somebody got it → every problem there is: sums, archives against the manifest, statement, signature.
//! Trusts no file: an archive is read as a stream, never unpacked, and no further than its manifest says.

mod archived;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use minisign::PublicKey;
use serde::Serialize;

use crate::archive::Format;
use crate::checksums::{self, Sums};
use crate::error::DistError;
use crate::manifest::Checksum;
use crate::provenance::{PREDICATE, STATEMENT, Statement};
use crate::record::{FORMAT, FORMAT_VERSION, MANIFEST, MANIFEST_BESIDE, RUN, Record, SUMS};
use crate::signature::{self, SIGNATURE};

/// The largest list, manifest or statement that is read, bytes.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was looked at and is right.
    pub good: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
}

impl Report {
    fn good(&mut self, what: impl Into<String>) {
        self.good.push(what.into());
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }
}

/// Checks the release that `path` is a file or the folder of.
///
/// # Errors
/// There is nothing at `path`.
pub fn check(path: &Path, key: Option<&PublicKey>) -> Result<Report, DistError> {
    let found = std::fs::metadata(path).map_err(|source| DistError::io("read", path, source))?;
    let (folder, only) = if found.is_dir() {
        (path.to_owned(), None)
    } else {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        (parent.map_or_else(|| PathBuf::from("."), Path::to_owned), name)
    };
    let mut checker =
        Checker { folder, only, report: Report::default(), named: BTreeSet::new(), sums: BTreeMap::new() };
    checker.list();
    checker.beside();
    checker.manifest();
    checker.statements();
    checker.signature(key);
    Ok(checker.report)
}

struct Checker {
    folder: PathBuf,
    /// The one file that was asked for.
    only: Option<String>,
    report: Report,
    /// What the list of sums names.
    named: BTreeSet<String>,
    /// Sums of the files that were read.
    sums: BTreeMap<String, Option<Sums>>,
}

impl Checker {
    fn text(&mut self, name: &str) -> Option<String> {
        let path = self.folder.join(name);
        let found = std::fs::metadata(&path).ok()?;
        if found.len() > TEXT_BYTES_MAX || !found.is_file() {
            self.report.problem(format!("{name}: larger than any that Spolia writes, or no file"));
            return None;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.report.problem(format!("{name}: {error}"));
                None
            }
        }
    }

    /// The sums of a file; each is read once.
    fn sums(&mut self, name: &str) -> Option<Sums> {
        if let Some(known) = self.sums.get(name) {
            return known.clone();
        }
        let path = self.folder.join(name);
        let is_file = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        let read = || {
            let mut file = File::open(&path)?;
            checksums::of(&mut file, &Checksum::ALL)
        };
        let sums = if is_file { read().ok() } else { None };
        self.sums.insert(name.to_owned(), sums.clone());
        sums
    }

    /// `SHA256SUMS`: every file it names, and every file that it does not.
    fn list(&mut self) {
        let Some(text) = self.text(SUMS) else {
            self.report.problem(format!("{SUMS}: is not there, so nothing says what the files should be"));
            return;
        };
        let list = match checksums::parse(&text) {
            Ok(list) => list,
            Err(line) => {
                self.report.problem(format!("{SUMS}:{line}: is no line of sums"));
                return;
            }
        };
        let mut named: BTreeSet<String> = BTreeSet::new();
        for (name, wanted) in &list {
            if !named.insert(name.clone()) {
                self.report.problem(format!("{SUMS}: `{name}` is in it twice"));
            }
            match self.sums(name) {
                None => self.report.problem(format!("{name}: is in {SUMS} and not here")),
                Some(sums) if sums.sha256.to_hex() == *wanted => {
                    self.report.good(format!("{name}: SHA-256"));
                }
                Some(sums) => {
                    let found = sums.sha256.to_hex();
                    self.report.problem(format!("{name}: its SHA-256 is {found}, and {SUMS} says {wanted}"));
                }
            }
        }
        if let Some(only) = &self.only
            && !named.contains(only)
            && only != SUMS
            && only != SIGNATURE
            && only != RUN
            && only.rsplit_once('.').is_none_or(|(of, _)| !named.contains(of))
            && !named.iter().any(|name| only.starts_with(&format!("{name}.")))
        {
            let what = format!("{only}: {SUMS} does not name it");
            self.report.problem(what);
        }
        self.named = named;
    }

    /// What a release is known by must be in the list: one that names less vouches for less.
    fn must_be_named(&mut self, name: &str) {
        if !self.named.contains(name) {
            self.report.problem(format!("{name}: {SUMS} does not name it"));
        }
    }

    /// Files with one sum of another file.
    fn beside(&mut self) {
        let mut names: Vec<String> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        for name in names {
            let kinds = Checksum::ALL.into_iter().map(|sum| (format!(".{}", sum.name()), sum));
            let known = kinds.chain([(".md5.txt".to_owned(), Checksum::Md5)]);
            let Some((of, sum)) =
                known.filter_map(|(ending, sum)| Some((name.strip_suffix(&ending)?.to_owned(), sum))).next()
            else {
                continue;
            };
            if !self.folder.join(&of).is_file() {
                self.report.problem(format!("{name}: `{of}` is not here"));
                continue;
            }
            let Some(text) = self.text(&name) else { continue };
            let found = self.sums(&of).and_then(|sums| sums.hex.get(&sum).cloned()).unwrap_or_default();
            match checksums::parse(&text).as_deref() {
                Ok([(named, wanted)]) if *named == of && *wanted == found => {
                    self.report.good(format!("{of}: {}", sum.name()));
                }
                Ok([(named, wanted)]) if *named == of => {
                    self.report
                        .problem(format!("{of}: its {} is {found}, and {name} says {wanted}", sum.name()));
                }
                _ => self.report.problem(format!("{name}: is no line with a sum of `{of}`")),
            }
        }
    }

    /// The manifest, and the archives it describes.
    fn manifest(&mut self) {
        let name = if self.folder.join(MANIFEST_BESIDE).is_file() { MANIFEST_BESIDE } else { MANIFEST };
        let Some(text) = self.text(name) else {
            self.report.problem(format!("{name}: is not there"));
            return;
        };
        let record: Record = match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(error) => {
                self.report.problem(format!("{name}: is no manifest of a release: {error}"));
                return;
            }
        };
        if record.format != FORMAT || record.format_version > FORMAT_VERSION {
            let (format, version) = (&record.format, record.format_version);
            self.report.problem(format!("{name}: `{format}` {version} is not known to this version"));
            return;
        }
        self.must_be_named(name);
        for platform in &record.platforms {
            let archive = platform.archive.name.clone();
            self.must_be_named(&archive);
            if crate::plan::check_name(&archive).is_err() {
                self.report.problem(format!("{name}: `{archive}` is no name of a file"));
                continue;
            }
            let Some(sums) = self.sums(&archive) else {
                self.report.problem(format!("{archive}: is in {name} and not here"));
                continue;
            };
            let wrong = platform.archive.sums.iter().find(|(sum, hex)| {
                let kind = Checksum::ALL.into_iter().find(|kind| kind.name() == sum.as_str());
                kind.and_then(|kind| sums.hex.get(&kind)).is_none_or(|found| found != *hex)
            });
            if let Some((sum, _)) = wrong {
                self.report.problem(format!("{archive}: its {sum} is not the one in {name}"));
            }
            if sums.size != platform.archive.size {
                self.report.problem(format!("{archive}: its size is not the one in {name}"));
            }
            if self.only.as_ref().is_some_and(|only| *only != archive && Format::of_name(only).is_some()) {
                continue;
            }
            let problems = archived::check(&self.folder.join(&archive), platform, record.source_date_epoch);
            if problems.is_empty() {
                self.report.good(format!("{archive}: {} members as in {name}", platform.files.len()));
            }
            self.report.problems.extend(problems.into_iter().map(|problem| format!("{archive}: {problem}")));
        }
        let dirty = record.dirty == Some(true);
        if dirty {
            self.report.unchecked.push(format!("{name}: the tree had changes that are in no commit"));
        }
    }

    /// Every in-toto statement.
    fn statements(&mut self) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.ends_with(".intoto.json"));
        names.sort();
        for name in names {
            let Some(text) = self.text(&name) else { continue };
            let statement: Statement = match serde_json::from_str(&text) {
                Ok(statement) => statement,
                Err(error) => {
                    self.report.problem(format!("{name}: is no statement: {error}"));
                    continue;
                }
            };
            if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
                self.report.problem(format!("{name}: is a statement of another kind"));
                continue;
            }
            self.must_be_named(&name);
            let mut right = 0;
            for subject in &statement.subject {
                let found = match crate::plan::check_name(&subject.name) {
                    Ok(()) => self.sums(&subject.name).map(|sums| sums.sha256.to_hex()),
                    Err(_) => None,
                };
                if found.is_some() && found.as_ref() == subject.digest.get("sha256") {
                    right += 1;
                } else {
                    let shown = spolia_core::path::escape(subject.name.as_bytes());
                    self.report.problem(format!("{name}: `{shown}` is not the file that it is about"));
                }
            }
            if right == statement.subject.len() {
                self.report.good(format!("{name}: {right} subjects"));
            }
        }
    }

    fn signature(&mut self, key: Option<&PublicKey>) {
        let is_there = self.folder.join(SIGNATURE).is_file();
        match (key, is_there) {
            (None, false) => {}
            (None, true) => {
                let why = format!("{SIGNATURE}: nobody said whose it should be (--public-key)");
                self.report.unchecked.push(why);
            }
            (Some(_), false) => self.report.problem(format!("{SIGNATURE}: is not there")),
            (Some(key), true) => match signature::verify(&self.folder, key) {
                Ok(()) => self.report.good(format!("{SUMS}: signature")),
                Err(error) => self.report.problem(format!("{SIGNATURE}: {error}")),
            },
        }
    }
}
