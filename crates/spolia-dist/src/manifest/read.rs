//! `text → Vec<Dist>` with every mistake at once. The rest of the manifest is another's to read.

use std::collections::BTreeMap;

use spolia_build::manifest::Manifest;
use spolia_core::conf::{
    Entry, Problem, Problems, Span, Spanned, Table, Text, Value, and_list, as_table, expected, read_table,
};
use spolia_core::glob::{PatternError, PatternList};
use spolia_core::{Diagnostic, Platform, RelPath};

use super::keys::{self, names};
use super::model::{
    Body, Checksum, DEFAULT_TO, Dist, FileRule, Legacy, OciConf, Pick, RustPackage, Sbom, SourcesConf,
    Version,
};
use crate::archive::Format;
use crate::text;

/// What the tables refer to.
pub struct Context<'c> {
    /// The rest of the manifest; `None` where it could not be read: then names of steps are not looked up.
    pub manifest: Option<&'c Manifest>,
    /// This machine's platform.
    pub host: Platform,
}

/// The most tables there may be.
const DISTS_MAX: usize = 1000;

/// Reads every `[dist.NAME]` of the root manifest `text`. Its syntax is taken as sound: whoever reads the
/// steps says so where it is not.
///
/// # Errors
/// Every mistake in every table.
pub fn parse(file: RelPath, text: &str, context: &Context<'_>) -> Result<Vec<Dist>, Vec<Diagnostic>> {
    read_table(file, text, "dist", |table, problems| {
        let mut dists = Vec::new();
        let mut spans = Vec::new();
        for Entry { key, value } in table.into_entries() {
            let what = format!("`[dist.{}]`", key.value);
            let Some(inner) = as_table(&what, value, problems) else { continue };
            let mut reader = Reader { context, problems, name: key.value.to_string() };
            if let Some(dist) = reader.dist(&key, inner) {
                dists.push(dist);
                spans.push(key.span);
            }
        }
        same_folder(&dists, &spans, problems);
        if dists.len() > DISTS_MAX {
            let message = format!("more than {DISTS_MAX} tables in `[dist]`");
            problems.push(Problem::error(spans[DISTS_MAX], message));
        }
        dists
    })
}

/// Two releases in one folder would each replace the other's sums.
fn same_folder(dists: &[Dist], spans: &[Span], problems: &mut Problems) {
    for (at, dist) in dists.iter().enumerate() {
        if let Some(first) = dists[..at].iter().position(|other| other.to == dist.to) {
            let message = format!(
                "`[dist.{}]` is written to `{}`, as `[dist.{}]` is",
                dist.name, dist.to, dists[first].name
            );
            let problem = Problem::error(spans[at], message).also(spans[first], "the other");
            problems
                .push(problem.hint(format!("`to = \"dist/{}\"` gives it a folder of its own", dist.name)));
        }
    }
}

struct Reader<'c, 'p> {
    context: &'c Context<'c>,
    problems: &'p mut Problems,
    name: String,
}

/// `archive`, `root`, `files`, `folders` as written.
#[derive(Default)]
struct Layer {
    archive: Option<Spanned<String>>,
    root: Option<String>,
    files: Vec<FileRule>,
    folders: Option<Vec<String>>,
}

impl Reader<'_, '_> {
    fn wrong(&mut self, span: Span, message: String) {
        self.problems.push(Problem::error(span, message));
    }

    fn dist(&mut self, key: &Text<'_>, mut table: Table<'_>) -> Option<Dist> {
        if !is_name(&key.value) {
            self.wrong(key.span, format!("`{}` is no name: letters, digits, `.`, `_` and `-`", key.value));
        }
        let before = self.problems.error_count();
        let platforms = self.platforms(&mut table);
        let mut layer = self.layer(&mut table);
        let licences = self.licences(&mut table);
        let mut layers: BTreeMap<Platform, Layer> = BTreeMap::new();
        if let Some(overrides) = table.take_table("platform", self.problems) {
            self.overrides(overrides, &platforms, &mut layers);
        }
        let to = self.to(&mut table);
        let version = self.version(&mut table);
        let level = table.take_int("level", 0..=22, self.problems);
        let checksums = self.checksums(&mut table);
        let legacy = self.legacy(&mut table);
        let sources = self.sources(&mut table);
        let sboms = self.sboms(&mut table);
        let provenance = table.take_bool("provenance", self.problems).is_some_and(|flag| flag.value);
        let oci = self.oci(&mut table);
        let any_machine = table.take_bool("any-machine", self.problems).is_some_and(|flag| flag.value);
        table.finish(format!("`[dist.{}]`", self.name), &names(keys::DIST), self.problems);
        layer.files.extend(licences);
        let bodies = self.bodies(key.span, &platforms, &layer, &layers, version.is_some(), level.as_ref())?;
        (self.problems.error_count() == before).then(|| Dist {
            name: self.name.clone(),
            to,
            platforms,
            bodies,
            version,
            level: level.map(|level| level.value),
            checksums,
            legacy,
            any_machine,
            sources,
            sboms,
            provenance,
            oci,
        })
    }

    fn platforms(&mut self, table: &mut Table<'_>) -> Vec<Platform> {
        let known = self.context.manifest.map(|manifest| manifest.platforms.clone());
        let Some(list) = table.take_list("platforms", self.problems) else {
            return known.unwrap_or_else(|| vec![self.context.host.clone()]);
        };
        if list.value.is_empty() {
            self.wrong(list.span, "`platforms` must name at least one platform".to_owned());
        }
        let mut platforms: Vec<Platform> = Vec::new();
        for text in list.value {
            let Some(platform) = self.platform(&text) else { continue };
            if platforms.contains(&platform) {
                self.wrong(text.span, format!("{platform} is given twice"));
            } else {
                platforms.push(platform);
            }
        }
        platforms
    }

    fn platform(&mut self, text: &Text<'_>) -> Option<Platform> {
        let platform = match text.value.parse::<Platform>() {
            Ok(platform) => platform,
            Err(error) => {
                self.wrong(text.span, error.to_string());
                return None;
            }
        };
        let known = self.context.manifest.map(|manifest| &manifest.platforms);
        if let Some(known) = known
            && platform != Platform::Any
            && !known.contains(&platform)
        {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            let problem = Problem::error(text.span, format!("the project is not built for {platform}"));
            let problem = problem.near(&text.value, names.iter().map(String::as_str));
            self.problems.push(match problem.hints.is_empty() {
                true => problem.hint(format!("`[project] platforms` has {}", and_list(&names))),
                false => problem,
            });
        }
        Some(platform)
    }

    fn layer(&mut self, table: &mut Table<'_>) -> Layer {
        let archive = table.take_str("archive", self.problems).map(|text| text.map(|text| text.into_owned()));
        let root = table.take_str("root", self.problems);
        if let Some(root) = &root {
            self.inside(root, "`root`");
        }
        let files =
            table.take_table("files", self.problems).map(|files| self.files(files)).unwrap_or_default();
        let folders = table.take_list("folders", self.problems).map(|list| list.value);
        for folder in folders.iter().flatten() {
            self.inside(folder, "a folder");
        }
        let folders = folders.map(|list| list.into_iter().map(|text| text.value.into_owned()).collect());
        Layer { archive, root: root.map(|root| root.value.into_owned()), files, folders }
    }

    /// Says of a path in the archive that it leads out of it.
    fn inside(&mut self, text: &Text<'_>, what: &str) {
        if let Err(error) = RelPath::new(text.value.as_bytes()) {
            self.wrong(text.span, format!("{what} is no path in the archive: {error}"));
        }
    }

    fn files(&mut self, table: Table<'_>) -> Vec<FileRule> {
        let mut rules = Vec::new();
        for Entry { key, value } in table.into_entries() {
            self.inside(&key, "the name");
            let (from, mode) = match value.value {
                Value::Table(inner) => self.file_table(&key, inner),
                _ => {
                    let what = format!("`{}`", key.value);
                    let wanted = "a string or a table with `from`";
                    match value.value {
                        Value::String(text) => (Some(Spanned::new(text, value.span)), None),
                        _ => (expected(what, wanted, &value, self.problems), None),
                    }
                }
            };
            let Some(from) = from else { continue };
            let Some(parsed) = self.from(&from) else { continue };
            rules.push(FileRule {
                to: key.value.into_owned(),
                from: parsed,
                text: from.value.into_owned(),
                mode,
            });
        }
        rules
    }

    fn file_table<'a>(&mut self, key: &Text<'_>, mut inner: Table<'a>) -> (Option<Text<'a>>, Option<u32>) {
        let from = inner.take_str("from", self.problems);
        if from.is_none() {
            self.wrong(key.span, format!("`{}` does not say what it is `from`", key.value));
        }
        let mode = inner.take_str("mode", self.problems);
        let mode = mode.and_then(|text| {
            let digits = text.value.len() == 4 && text.value.starts_with('0');
            let mode = digits.then(|| u32::from_str_radix(&text.value, 8).ok()).flatten();
            if mode.is_none() {
                let message =
                    format!("`mode` must be four octal digits such as `0755`, not `{}`", text.value);
                self.wrong(text.span, message);
            }
            mode
        });
        inner.finish(format!("`{}`", key.value), &names(keys::FILE), self.problems);
        (from, mode)
    }

    fn from(&mut self, text: &Text<'_>) -> Option<Pick> {
        let Some(rest) = text.value.strip_prefix("step:") else {
            return match PatternList::parse(RelPath::root(), &[&*text.value]) {
                Ok(list) if list.patterns().iter().any(|pattern| pattern.is_negated()) => {
                    self.wrong(
                        text.span,
                        "a pattern that takes out has nothing to take it out of".to_owned(),
                    );
                    None
                }
                Ok(list) => Some(Pick::Tree(list)),
                Err(error) => {
                    let what = match error {
                        PatternError::Empty => "it is empty".to_owned(),
                        other => other.to_string(),
                    };
                    self.wrong(text.span, format!("`{}` selects no file of the tree: {what}", text.value));
                    None
                }
            };
        };
        let (step, pattern) = match rest.split_once('/') {
            Some((step, "")) => (step, None),
            Some((step, pattern)) => (step, Some(pattern.to_owned())),
            None => (rest, None),
        };
        if let Some(manifest) = self.context.manifest {
            match manifest.step(step) {
                None => {
                    let message = format!("`[dist.{}]` packs step `{step}`, which is not defined", self.name);
                    let problem = Problem::error(text.span, message).label("no step has this name");
                    let names = manifest.steps.iter().map(|step| step.name.as_str());
                    self.problems.push(match spolia_core::diagnostic::nearest(step, names) {
                        Some(near) => problem.hint(format!("a step named `{near}` exists")),
                        None => problem,
                    });
                    return None;
                }
                Some(found) if found.bodies.values().all(|body| body.outputs.is_empty()) => {
                    self.wrong(text.span, format!("step `{step}` has no outputs to pack"));
                    return None;
                }
                Some(_) => {}
            }
        }
        if let Some(pattern) = &pattern
            && let Err(error) = PatternList::parse(RelPath::root(), &[pattern])
        {
            self.wrong(text.span, format!("`{pattern}` selects no output: {error}"));
            return None;
        }
        Some(Pick::Step { step: step.to_owned(), pattern })
    }

    /// Files that lie beside the others under their own names.
    fn licences(&mut self, table: &mut Table<'_>) -> Vec<FileRule> {
        let mut rules = Vec::new();
        for key in ["licences", "licenses"] {
            for text in table.take_list(key, self.problems).map(|list| list.value).unwrap_or_default() {
                if let Some(from) = self.from(&text) {
                    rules.push(FileRule {
                        to: "/".to_owned(),
                        from,
                        text: text.value.into_owned(),
                        mode: None,
                    });
                }
            }
        }
        rules
    }

    fn overrides(
        &mut self,
        table: Table<'_>,
        platforms: &[Platform],
        layers: &mut BTreeMap<Platform, Layer>,
    ) {
        for Entry { key, value } in table.into_entries() {
            let what = format!("`[dist.{}.platform.\"{}\"]`", self.name, key.value);
            let Some(mut inner) = as_table(&what, value, self.problems) else { continue };
            let layer = self.layer(&mut inner);
            inner.finish(&what, &names(keys::OVERRIDE), self.problems);
            let Some(platform) = self.platform(&key) else { continue };
            if !platforms.contains(&platform) {
                self.wrong(key.span, format!("`[dist.{}]` is not packed for {platform}", self.name));
            }
            layers.insert(platform, layer);
        }
    }

    fn to(&mut self, table: &mut Table<'_>) -> RelPath {
        let fallback = RelPath::new(DEFAULT_TO).unwrap_or_else(|_| RelPath::root());
        let Some(text) = table.take_str("to", self.problems) else { return fallback };
        match RelPath::new(text.value.as_bytes()) {
            Ok(path) if path.is_root() => {
                self.wrong(text.span, "a release needs a folder of its own".to_owned());
                fallback
            }
            Ok(path) => path,
            Err(error) => {
                self.wrong(text.span, error.to_string());
                fallback
            }
        }
    }

    fn version(&mut self, table: &mut Table<'_>) -> Option<Version> {
        let text = table.take_str("version", self.problems);
        let file = table.take_str("version-file", self.problems);
        if let (Some(text), Some(file)) = (&text, &file) {
            let problem = Problem::error(file.span, "`version` and `version-file` are both there");
            self.problems.push(problem.also(text.span, "the other"));
        }
        if let Some(file) = file {
            return match RelPath::new(file.value.as_bytes()) {
                Ok(path) => Some(Version::File(path)),
                Err(error) => {
                    self.wrong(file.span, error.to_string());
                    None
                }
            };
        }
        let text = text?;
        if text.value.chars().any(|letter| letter.is_control() || letter == '/') || text.value.is_empty() {
            self.wrong(text.span, "`version` must be a word that a file name may hold".to_owned());
        }
        Some(Version::Text(text.value.into_owned()))
    }

    fn checksums(&mut self, table: &mut Table<'_>) -> Vec<Checksum> {
        let mut sums = Vec::new();
        for text in table.take_list("checksums", self.problems).map(|list| list.value).unwrap_or_default() {
            match Checksum::ALL.into_iter().find(|sum| sum.name() == text.value) {
                Some(sum) if sums.contains(&sum) => {
                    self.wrong(text.span, format!("`{}` is given twice", text.value));
                }
                Some(sum) => sums.push(sum),
                None => {
                    let names: Vec<&str> = Checksum::ALL.iter().map(|sum| sum.name()).collect();
                    let message = format!("`{}` is no checksum that Spolia knows", text.value);
                    let problem = Problem::error(text.span, message).near(&text.value, names.iter().copied());
                    self.problems.push(match problem.hints.is_empty() {
                        true => problem.hint(format!("there is {}", and_list(&names))),
                        false => problem,
                    });
                }
            }
        }
        sums.sort();
        sums
    }

    fn legacy(&mut self, table: &mut Table<'_>) -> Legacy {
        let Some(mut inner) = table.take_table("legacy", self.problems) else { return Legacy::default() };
        let manifest = inner.take_bool("manifest", self.problems).is_some_and(|flag| flag.value);
        let md5 = inner.take_str("md5", self.problems);
        if let Some(md5) = &md5
            && (!md5.value.starts_with('.') || md5.value.contains('/'))
        {
            self.wrong(md5.span, format!("`md5` must be an ending such as `.md5.txt`, not `{}`", md5.value));
        }
        inner.finish("`legacy`", &names(keys::LEGACY), self.problems);
        Legacy { manifest, md5: md5.map(|md5| md5.value.into_owned()) }
    }

    fn sources(&mut self, table: &mut Table<'_>) -> Option<SourcesConf> {
        let mut inner = table.take_table("sources", self.problems)?;
        let span = inner.span;
        let archive = inner.take_str("archive", self.problems);
        if archive.is_none() {
            self.wrong(span, "`sources` does not say what its `archive` is called".to_owned());
        }
        if let Some(archive) = &archive
            && Format::of_name(&archive.value).is_none()
        {
            self.wrong(archive.span, format!("the ending of `{}` is no kind of archive", archive.value));
        }
        let md5 = inner.take_str("md5", self.problems);
        let fetched = self.step_list(&mut inner, "fetched");
        let go = self.step_list(&mut inner, "go");
        let mut rust = BTreeMap::new();
        if let Some(packages) = inner.take_table("rust", self.problems) {
            for Entry { key, value } in packages.into_entries() {
                self.known_step(&key);
                if let Some(package) = self.rust(&key, value) {
                    rust.insert(key.value.into_owned(), package);
                }
            }
        }
        inner.finish("`sources`", &names(keys::SOURCES), self.problems);
        let archive = archive?.value.into_owned();
        Some(SourcesConf { archive, md5: md5.map(|md5| md5.value.into_owned()), fetched, rust, go })
    }

    fn sboms(&mut self, table: &mut Table<'_>) -> Vec<Sbom> {
        let mut sboms = Vec::new();
        for text in table.take_list("sbom", self.problems).map(|list| list.value).unwrap_or_default() {
            match Sbom::ALL.into_iter().find(|sbom| sbom.name() == text.value) {
                Some(sbom) => sboms.push(sbom),
                None => {
                    let names: Vec<&str> = Sbom::ALL.iter().map(|sbom| sbom.name()).collect();
                    let message = format!("`{}` is no bill of material that Spolia writes", text.value);
                    let problem = Problem::error(text.span, message).near(&text.value, names.iter().copied());
                    self.problems.push(match problem.hints.is_empty() {
                        true => problem.hint(format!("there is {}", and_list(&names))),
                        false => problem,
                    });
                }
            }
        }
        sboms.sort();
        sboms.dedup();
        sboms
    }

    fn oci(&mut self, table: &mut Table<'_>) -> Option<OciConf> {
        let Entry { key, value } = table.take("oci")?;
        let (archive, entrypoint) = match value.value {
            Value::String(text) => (Spanned::new(text, value.span), Vec::new()),
            Value::Table(mut inner) => {
                let archive = inner.take_str("archive", self.problems);
                let entrypoint = inner.take_list("entrypoint", self.problems);
                inner.finish("`oci`", &names(keys::OCI), self.problems);
                let Some(archive) = archive else {
                    self.wrong(key.span, "`oci` does not say what its `archive` is called".to_owned());
                    return None;
                };
                (archive, entrypoint.map(|list| list.value).unwrap_or_default())
            }
            _ => return expected("`oci`", "a string or a table", &value, self.problems),
        };
        if Format::of_name(&archive.value) != Some(Format::Tar) {
            self.wrong(archive.span, format!("an image layout is a `.tar`, not `{}`", archive.value));
        }
        let entrypoint = entrypoint.into_iter().map(|text| text.value.into_owned()).collect();
        Some(OciConf { archive: archive.value.into_owned(), entrypoint })
    }

    fn step_list(&mut self, table: &mut Table<'_>, key: &str) -> Vec<String> {
        let list = table.take_list(key, self.problems).map(|list| list.value).unwrap_or_default();
        list.iter().for_each(|text| self.known_step(text));
        list.into_iter().map(|text| text.value.into_owned()).collect()
    }

    /// Says of a name that no step has it.
    fn known_step(&mut self, text: &Text<'_>) {
        let Some(manifest) = self.context.manifest else { return };
        if manifest.step(&text.value).is_none() {
            let problem = Problem::error(text.span, format!("step `{}` is not defined", text.value));
            let names = manifest.steps.iter().map(|step| step.name.as_str());
            self.problems.push(problem.near(&text.value, names));
        }
    }

    fn rust(&mut self, key: &Text<'_>, value: Spanned<Value<'_>>) -> Option<RustPackage> {
        let (manifest, package, features) = match value.value {
            Value::String(text) => (Spanned::new(text, value.span), None, Vec::new()),
            Value::Table(mut inner) => {
                let manifest = inner.take_str("manifest", self.problems);
                let package = inner.take_str("package", self.problems);
                let features = inner.take_list("features", self.problems);
                inner.finish(format!("`{}`", key.value), &names(keys::RUST), self.problems);
                let Some(manifest) = manifest else {
                    self.wrong(key.span, format!("`{}` does not say which `manifest` it builds", key.value));
                    return None;
                };
                (manifest, package, features.map(|list| list.value).unwrap_or_default())
            }
            _ => return expected(format!("`{}`", key.value), "a string or a table", &value, self.problems),
        };
        match RelPath::new(manifest.value.as_bytes()) {
            Ok(path) => Some(RustPackage {
                manifest: path,
                package: package.map(|text| text.value.into_owned()),
                features: features.into_iter().map(|text| text.value.into_owned()).collect(),
            }),
            Err(error) => {
                self.wrong(manifest.span, error.to_string());
                None
            }
        }
    }

    fn bodies(
        &mut self,
        span: Span,
        platforms: &[Platform],
        common: &Layer,
        layers: &BTreeMap<Platform, Layer>,
        has_version: bool,
        level: Option<&Spanned<u32>>,
    ) -> Option<BTreeMap<Platform, Body>> {
        let mut bodies = BTreeMap::new();
        let mut told = Vec::new();
        for platform in platforms {
            let own = layers.get(platform);
            let Some(archive) = own.and_then(|own| own.archive.as_ref()).or(common.archive.as_ref()) else {
                self.wrong(span, format!("`[dist.{}]` does not say what its `archive` is called", self.name));
                return None;
            };
            if !told.contains(&archive.span) {
                told.push(archive.span);
                self.check_archive(archive, platform, has_version, level);
            }
            let mut files = common.files.clone();
            for rule in own.map(|own| own.files.as_slice()).unwrap_or_default() {
                files.retain(|common| common.to != rule.to || common.to == "/");
                files.push(rule.clone());
            }
            let folders = own.and_then(|own| own.folders.clone()).or_else(|| common.folders.clone());
            let root = own.and_then(|own| own.root.clone()).or_else(|| common.root.clone());
            if files.is_empty() && folders.as_ref().is_none_or(Vec::is_empty) {
                self.wrong(span, format!("`[dist.{}]` has no files to pack", self.name));
                return None;
            }
            let body = Body {
                archive: archive.value.clone(),
                root: root.unwrap_or_default(),
                files,
                folders: folders.unwrap_or_default(),
            };
            bodies.insert(platform.clone(), body);
        }
        Some(bodies)
    }

    /// The ending and the placeholders of an archive's name.
    fn check_archive(
        &mut self,
        archive: &Spanned<String>,
        platform: &Platform,
        has_version: bool,
        level: Option<&Spanned<u32>>,
    ) {
        match Format::of_name(&archive.value) {
            Some(format) => {
                if let Some(level) = level
                    && level.value > format.level_max()
                {
                    let most = format.level_max();
                    self.wrong(level.span, format!("`level` of `{}` is at most {most}", format.ending()));
                }
            }
            None => {
                let message = format!("the ending of `{}` is no kind of archive", archive.value);
                let endings = Format::ENDINGS.iter().map(|(ending, _)| *ending).collect::<Vec<_>>();
                self.problems.push(
                    Problem::error(archive.span, message).hint(format!("there is {}", and_list(&endings))),
                );
            }
        }
        let mut vars = match self.context.manifest {
            Some(manifest) => crate::plan::name_vars(platform, &manifest.vars(platform, &self.context.host)),
            None => return,
        };
        for name in ["name", "commit"] {
            vars.insert(name.to_owned(), String::new());
        }
        if has_version {
            vars.insert("version".to_owned(), String::new());
        }
        let Err(unknown) = text::expand(&archive.value, &vars) else { return };
        let start = self.problems.content_start(archive.span, &archive.value);
        for one in unknown {
            let span = archive.span.part(start, one.range.clone());
            let message = match (one.unclosed, one.name.as_str()) {
                (true, _) => "`${` has no closing `}`".to_owned(),
                (false, "version") => "`${version}` needs `version` or `version-file`".to_owned(),
                (false, name) => format!("`${{{name}}}` has no value for {platform}"),
            };
            let problem = Problem::error(span, message).near(&one.name, vars.keys().map(String::as_str));
            self.problems.push(problem);
        }
    }
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.bytes().all(good) && !name.starts_with(['.', '-'])
}
