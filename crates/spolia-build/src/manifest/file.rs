//! `text → RawFile`: the top-level tables of one manifest file, each read on its own.

use spolia_core::conf::{
    Entry, Problem, Problems, Span, Spanned, Table, Text, and_list, as_int, as_table, parse,
};
use spolia_core::diagnostic::Source;
use spolia_core::{Platform, RelPath};

use super::fields::{self, POOL_MAX};
use super::model::CacheConf;
use super::step::{Fields, Name, RawStep, Reader, Use, check_name, platform, platform_list, text_map};

/// One file as written.
#[derive(Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) includes: Vec<Name>,
    pub(crate) project_name: Option<String>,
    /// `[project] platforms`.
    pub(crate) platforms: Option<Vec<Spanned<Platform>>>,
    pub(crate) platform_vars: Vec<PlatformVars>,
    pub(crate) pools: Vec<(Name, u32)>,
    pub(crate) steps: Vec<RawStep>,
    pub(crate) variants: Vec<RawVariant>,
    pub(crate) cache: CacheConf,
}

/// One `[platform."…"]`.
#[derive(Debug)]
pub(crate) struct PlatformVars {
    pub(crate) platform: Spanned<Platform>,
    pub(crate) vars: Vec<(Name, String)>,
}

/// One `[variant.NAME]`.
#[derive(Debug)]
pub(crate) struct RawVariant {
    pub(crate) name: Name,
    /// Its `env`, as fields that every step takes on.
    pub(crate) env: Fields,
    pub(crate) platforms: Option<Vec<Spanned<Platform>>>,
    pub(crate) steps: Vec<(Name, Fields)>,
}

/// Which file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that was asked for.
    Root,
    /// One that another includes.
    Included,
}

/// Reads a file. When its syntax is broken, what could be read is there, and nothing but the syntax is
/// reported: the rest might follow from it.
pub(crate) fn read(
    number: u32,
    source: &Source,
    folder: RelPath,
    role: Role,
    problems: &mut Problems,
) -> (RawFile, bool) {
    let before = problems.error_count();
    let table = parse(number, source.text(), problems);
    let sound = problems.error_count() == before;
    let mark = problems.mark();
    let file = FileReader { source, reader: Reader { folder, problems }, counted: (0, 1) }.file(table, role);
    if !sound {
        problems.rewind(mark);
    }
    (file, sound)
}

struct FileReader<'s, 'p> {
    source: &'s Source,
    reader: Reader<'p>,
    /// A byte of the text, and the line it is on.
    counted: (usize, u32),
}

impl FileReader<'_, '_> {
    fn file(&mut self, mut table: Table<'_>, role: Role) -> RawFile {
        let mut file = RawFile {
            includes: self.includes(&mut table),
            platform_vars: self.platform_vars(&mut table),
            pools: self.pools(&mut table),
            steps: self.steps(&mut table),
            ..RawFile::default()
        };
        match role {
            Role::Root => {
                self.project(&mut table, &mut file);
                file.variants = self.variants(&mut table);
                file.cache = self.cache(&mut table);
                for field in fields::ROOT.fields.iter().filter(|f| matches!(f.kind, fields::Kind::Elsewhere))
                {
                    table.take_table(field.key, self.reader.problems);
                }
                table.finish("a manifest", &fields::ROOT.keys(), self.reader.problems);
            }
            Role::Included => self.finish_included(table),
        }
        file
    }

    fn finish_included(&mut self, mut table: Table<'_>) {
        let known = fields::INCLUDED.keys();
        for key in fields::ROOT.keys() {
            let Some(entry) = table.take(key) else { continue };
            let message = format!("`{key}` belongs in the root file, not in one that is included");
            let problem = Problem::error(entry.key.span, message);
            let hint = format!("an included file has {}", and_list(&known));
            self.reader.problems.push(problem.hint(hint));
        }
        table.finish("an included file", &known, self.reader.problems);
    }

    fn includes(&mut self, table: &mut Table<'_>) -> Vec<Name> {
        let list = table.take_list("include", self.reader.problems);
        let texts = list.map(|list| list.value).unwrap_or_default();
        texts.into_iter().map(|text| text.map(|text| text.into_owned())).collect()
    }

    fn project(&mut self, table: &mut Table<'_>, file: &mut RawFile) {
        let problems = &mut *self.reader.problems;
        let Some(mut table) = table.take_table("project", problems) else { return };
        file.project_name = table.take_str("name", problems).map(|name| name.value.into_owned());
        file.platforms =
            table.take_list("platforms", problems).map(|list| platform_list("platforms", list, problems));
        table.finish("`[project]`", &fields::PROJECT.keys(), problems);
    }

    fn cache(&mut self, table: &mut Table<'_>) -> CacheConf {
        let problems = &mut *self.reader.problems;
        let Some(mut table) = table.take_table("cache", problems) else { return CacheConf::default() };
        let conf = CacheConf {
            remote: table.take_str("remote", problems).map(|text| text.value.into_owned()),
            max_size_bytes: table.take_size_bytes("max-size", problems).map(|size| size.value),
            max_age_s: table.take_duration_ms("max-age", problems).map(|age| age.value.div_ceil(1000)),
            min_free_bytes: table.take_size_bytes("min-free", problems).map(|size| size.value),
            budget_bytes: table.take_size_bytes("budget", problems).map(|size| size.value),
        };
        table.finish("`[cache]`", &fields::CACHE.keys(), problems);
        conf
    }

    fn platform_vars(&mut self, table: &mut Table<'_>) -> Vec<PlatformVars> {
        let problems = &mut *self.reader.problems;
        let Some(table) = table.take_table("platform", problems) else { return Vec::new() };
        let mut all = Vec::new();
        for Entry { key, value } in table.into_entries() {
            let found = platform(&key, problems);
            let what = format!("`[platform.\"{}\"]`", key.value);
            let Some(inner) = as_table(&what, value, problems) else { continue };
            let mut vars = Vec::new();
            for (key, value) in text_map("platform variable", inner, problems) {
                if check_name("a platform variable", &key, problems) {
                    vars.push((key.map(|key| key.into_owned()), value.value.into_owned()));
                }
            }
            all.extend(found.map(|platform| PlatformVars { platform, vars }));
        }
        all
    }

    fn pools(&mut self, table: &mut Table<'_>) -> Vec<(Name, u32)> {
        let problems = &mut *self.reader.problems;
        let Some(table) = table.take_table("pools", problems) else { return Vec::new() };
        let mut pools = Vec::new();
        for Entry { key, value } in table.into_entries() {
            let good = check_name("a pool", &key, problems);
            let count = as_int(format_args!("pool `{}`", key.value), value, 1..=POOL_MAX, problems);
            if good {
                // With a wrong size it still has a name: steps in it are not wrong too.
                pools.push((key.map(|key| key.into_owned()), count.map_or(1, |count| count.value)));
            }
        }
        pools
    }

    fn steps(&mut self, table: &mut Table<'_>) -> Vec<RawStep> {
        let Some(table) = table.take_table("steps", self.reader.problems) else { return Vec::new() };
        let entries = table.into_entries();
        let mut steps = Vec::with_capacity(entries.len());
        for Entry { key, value } in entries {
            let inner = as_table(format_args!("step `{}`", key.value), value, self.reader.problems);
            let Some(inner) = inner else { continue };
            let line = self.line(key.span);
            steps.push(self.reader.step(key, line, inner));
        }
        steps
    }

    /// The line `span` starts on. Asked in the order of the file, so each byte is looked at once.
    fn line(&mut self, span: Span) -> u32 {
        let at = span.range().start.max(self.counted.0);
        let between = self.source.text().as_bytes().get(self.counted.0..at).unwrap_or_default();
        let lines = between.iter().filter(|byte| **byte == b'\n').count();
        self.counted = (at, self.counted.1.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX)));
        self.counted.1
    }

    fn variants(&mut self, table: &mut Table<'_>) -> Vec<RawVariant> {
        let Some(table) = table.take_table("variant", self.reader.problems) else { return Vec::new() };
        let mut variants = Vec::new();
        for Entry { key, value } in table.into_entries() {
            check_name("a variant", &key, self.reader.problems);
            let what = format!("variant `{}`", key.value);
            let Some(inner) = as_table(&what, value, self.reader.problems) else { continue };
            variants.push(self.variant(key, inner));
        }
        variants
    }

    fn variant(&mut self, name: Text<'_>, mut table: Table<'_>) -> RawVariant {
        let mut env = Fields::default();
        if let Some(table) = table.take_table("env", self.reader.problems) {
            let mut uses: Vec<(String, Use)> = Vec::new();
            env.env = self.reader.env_table(table, &mut uses);
            env.uses.env = uses;
        }
        let problems = &mut *self.reader.problems;
        let platforms = table.take_list("platforms", problems);
        let platforms = platforms.map(|list| platform_list("platforms", list, problems));
        let steps = table.take_table("steps", problems);
        let steps = steps.map(|steps| self.variant_steps(steps)).unwrap_or_default();
        let place = format!("variant `{}`", name.value);
        table.finish(&place, &fields::VARIANT.keys(), self.reader.problems);
        RawVariant { name: name.map(|name| name.into_owned()), env, platforms, steps }
    }

    fn variant_steps(&mut self, table: Table<'_>) -> Vec<(Name, Fields)> {
        let mut steps = Vec::new();
        for Entry { key, value } in table.into_entries() {
            let what = format!("step `{}` of a variant", key.value);
            let Some(inner) = as_table(&what, value, self.reader.problems) else { continue };
            let fields = self.reader.override_fields(&what, inner);
            steps.push((key.map(|key| key.into_owned()), fields));
        }
        steps
    }
}
