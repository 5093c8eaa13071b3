//! `Table → Fields`: one `[steps.NAME]`, or an override of one, read and checked on its own. Knows no
//! other step.

use std::collections::HashSet;

use spolia_core::action::{Mount, MountScope, Output, Sharing};
use spolia_core::conf::{
    Entry, Problem, Problems, Span, Spanned, Table, Text, Value, and_list, as_array, as_str, as_table,
    expected,
};
use spolia_core::digest::DigestFunction;
use spolia_core::glob::{Pattern, PatternList};
use spolia_core::{Digest, Platform, RelPath};

use super::fields::{
    self, BASES, CONTAINER_KEYS, ENGINES, MOUNT, OUTPUT, RETRIES_MAX, SCOPES, SHARINGS, SOURCE,
};
use super::model::{EngineKind, Run, Source};
use spolia_core::template::{Placeholder, placeholders};

/// Where tables are read: the file's folder, and what was found wrong.
pub(crate) struct Reader<'p> {
    /// The folder of the file.
    pub(crate) folder: RelPath,
    /// What was found.
    pub(crate) problems: &'p mut Problems,
}

/// A text of our own.
pub(crate) type Name = Spanned<String>;

/// A step as written.
#[derive(Debug)]
pub(crate) struct RawStep {
    pub(crate) name: Name,
    pub(crate) folder: RelPath,
    pub(crate) line: u32,
    pub(crate) fields: Fields,
    pub(crate) platforms: Option<Platforms>,
    pub(crate) overrides: Vec<(Spanned<Platform>, Fields)>,
    /// Something in it could not be read: what is missing may be there.
    pub(crate) broken: bool,
}

/// `platforms` of a step.
#[derive(Debug)]
pub(crate) enum Platforms {
    Any,
    List(Vec<Spanned<Platform>>),
}

/// The fields that an override may have too; `None` where not written.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) run: Option<Spanned<Run>>,
    pub(crate) needs: Option<Vec<Name>>,
    pub(crate) inputs: Option<Inputs>,
    pub(crate) env: Vec<(Name, String)>,
    pub(crate) pass_env: Option<Vec<Name>>,
    pub(crate) tools: Option<Vec<String>>,
    pub(crate) outputs: Option<Spanned<Vec<Spanned<Output>>>>,
    pub(crate) to: Option<Name>,
    pub(crate) source: Option<Spanned<Source>>,
    pub(crate) network: Option<bool>,
    pub(crate) mounts: Option<Vec<Mount>>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) retries: Option<u32>,
    pub(crate) pool: Option<Name>,
    pub(crate) engine: Option<EngineKind>,
    pub(crate) strict_base: Option<bool>,
    pub(crate) salt: Option<String>,
    /// The placeholders in `run`, `tools`, `to`, by field.
    pub(crate) uses: Uses,
}

/// What placeholders a field has. Each field's apart, since an override replaces it.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) run: Vec<Use>,
    pub(crate) tools: Vec<Use>,
    pub(crate) to: Vec<Use>,
    /// With the variable's name.
    pub(crate) env: Vec<(String, Use)>,
}

/// A placeholder that names something.
#[derive(Clone, Debug)]
pub(crate) enum Use {
    Var(Name),
    Step(Name),
}

/// `inputs`.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) patterns: PatternList,
    pub(crate) texts: Vec<String>,
}

/// Where a text with placeholders stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All are allowed.
    Command,
    /// Only the platform's.
    Folder,
    /// None.
    Path,
}

fn own(text: Text<'_>) -> Name {
    text.map(|text| text.into_owned())
}

/// Whether `name` can name a step, a pool, a variant or a mount.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Says what is wrong with `name`, a `what`.
pub(crate) fn check_name(what: &str, name: &Text<'_>, problems: &mut Problems) -> bool {
    let good = is_name(&name.value);
    if !good {
        let message = format!("`{}` is not a name for {what}", name.value);
        let hint = "use letters, digits, `.`, `_` and `-`, with a letter, a digit or `_` first";
        problems.push(Problem::error(name.span, message).hint(hint));
    }
    good
}

/// Says what is wrong with `name` as the name of a variable.
pub(crate) fn check_var_name(name: &Text<'_>, problems: &mut Problems) -> bool {
    let first = name.value.bytes().next();
    let good = first.is_some_and(|byte| !byte.is_ascii_digit())
        && name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !good {
        let message = format!("`{}` is not a name for a variable", name.value);
        problems.push(Problem::error(name.span, message).hint("use letters, digits and `_`"));
    }
    good
}

/// A platform, or a problem.
pub(crate) fn platform(text: &Text<'_>, problems: &mut Problems) -> Option<Spanned<Platform>> {
    match text.value.parse::<Platform>() {
        Ok(platform) => Some(Spanned::new(platform, text.span)),
        Err(error) => {
            let problem = Problem::error(text.span, error.to_string());
            problems.push(problem.near(&text.value, Platform::known_names()));
            None
        }
    }
}

/// A list of platforms, without `any`, not empty.
pub(crate) fn platform_list(
    key: &str,
    list: Spanned<Vec<Text<'_>>>,
    problems: &mut Problems,
) -> Vec<Spanned<Platform>> {
    if list.value.is_empty() {
        problems.push(Problem::error(list.span, format!("`{key}` is empty: nothing would be built")));
    }
    let mut platforms: Vec<Spanned<Platform>> = Vec::new();
    for text in &list.value {
        let Some(found) = platform(text, problems) else { continue };
        if found.value == Platform::Any {
            let problem = Problem::error(text.span, "`any` cannot stand in a list of platforms");
            problems.push(problem.hint("a step says `platforms = \"any\"`"));
        } else if platforms.iter().any(|one| one.value == found.value) {
            problems.push(Problem::warning(text.span, format!("`{}` is there twice", text.value)));
        } else {
            platforms.push(found);
        }
    }
    if platforms.len() > PLATFORMS_MAX {
        let message = format!("`{key}` has more than {PLATFORMS_MAX} platforms");
        problems.push(Problem::error(list.span, message));
        platforms.truncate(PLATFORMS_MAX);
    }
    platforms
}

/// A list up to this long is looked through item by item.
const SHORT_LIST: usize = 16;
/// How many platforms a list may have.
const PLATFORMS_MAX: usize = 64;

/// A table of strings with free keys.
pub(crate) fn text_map<'a>(
    what: &str,
    table: Table<'a>,
    problems: &mut Problems,
) -> Vec<(Text<'a>, Text<'a>)> {
    let mut pairs = Vec::new();
    for Entry { key, value } in table.into_entries() {
        let value = as_str(format_args!("{what} `{}`", key.value), value, problems);
        if let Some(value) = value {
            pairs.push((key, value));
        }
    }
    pairs
}

impl Reader<'_> {
    /// Reads `[steps.NAME]`.
    pub(crate) fn step(&mut self, name: Text<'_>, line: u32, mut table: Table<'_>) -> RawStep {
        let before = self.problems.error_count();
        check_name("a step", &name, self.problems);
        let container = self.container(&mut table, &name);
        let fields = self.fields(&mut table);
        let platforms = self.platforms(&mut table);
        let overrides = self.overrides(&mut table);
        fields::STEP.finish(format_args!("step `{}`", name.value), table, self.problems);
        let broken = container || self.problems.error_count() > before;
        let folder = self.folder.clone();
        RawStep { name: own(name), folder, line, fields, platforms, overrides, broken }
    }

    /// Reads an override of a step.
    pub(crate) fn override_fields(&mut self, place: &str, mut table: Table<'_>) -> Fields {
        let fields = self.fields(&mut table);
        fields::OVERRIDE.finish(place, table, self.problems);
        fields
    }

    fn container(&mut self, table: &mut Table<'_>, name: &Text<'_>) -> bool {
        let found: Vec<Entry<'_>> = CONTAINER_KEYS.iter().filter_map(|key| table.take(key)).collect();
        let Some(first) = found.first() else { return false };
        let message = format!("step `{}` is a container step, and those are not in this version", name.value);
        let hint = "call the container tool in `run`, with `engine = \"host\"`";
        self.problems.push(Problem::error(first.key.span, message).hint(hint));
        true
    }

    fn platforms(&mut self, table: &mut Table<'_>) -> Option<Platforms> {
        let Entry { value, .. } = table.take("platforms")?;
        let span = value.span;
        match value.value {
            Value::String(text) if text == "any" => Some(Platforms::Any),
            Value::String(text) => {
                let message = format!("`platforms` must be `\"any\"` or a list, not `{text}`");
                self.problems.push(Problem::error(span, message).hint(format!("write `[\"{text}\"]`")));
                None
            }
            Value::Array(items) => {
                let item = "an item of `platforms`";
                let texts =
                    items.into_iter().filter_map(|value| as_str(item, value, self.problems)).collect();
                Some(Platforms::List(platform_list("platforms", Spanned::new(texts, span), self.problems)))
            }
            other => {
                let found = Spanned::new(other, span);
                expected("`platforms`", "`\"any\"` or a list of platforms", &found, self.problems)
            }
        }
    }

    fn overrides(&mut self, table: &mut Table<'_>) -> Vec<(Spanned<Platform>, Fields)> {
        let Some(table) = table.take_table("platform", self.problems) else { return Vec::new() };
        let mut overrides = Vec::new();
        for Entry { key, value } in table.into_entries() {
            let what = format!("`platform.\"{}\"`", key.value);
            let found = platform(&key, self.problems);
            let Some(inner) = as_table(&what, value, self.problems) else { continue };
            let fields = self.override_fields(&what, inner);
            overrides.extend(found.map(|found| (found, fields)));
        }
        overrides
    }

    fn fields(&mut self, table: &mut Table<'_>) -> Fields {
        let mut uses = Uses::default();
        let run = self.run(table, &mut uses.run);
        let needs = self.needs(table);
        let inputs = self.inputs(table);
        let env = self.env(table, &mut uses.env);
        let pass_env = self.pass_env(table);
        let tools = self.tools(table, &mut uses.tools);
        let outputs = self.outputs(table);
        let to = self.to(table, &mut uses.to);
        let source = self.source(table);
        let network = table.take_bool("network", self.problems).map(|flag| flag.value);
        let mounts = self.mounts(table);
        let timeout_ms = table.take_duration_ms("timeout", self.problems).map(|time| time.value);
        let retries = table.take_int("retries", 0..=RETRIES_MAX, self.problems).map(|count| count.value);
        let pool = table.take_str("pool", self.problems).map(own);
        let engine = table.take_choice("engine", ENGINES, self.problems);
        let engine = engine.map(|at| if at.value == 0 { EngineKind::Sandbox } else { EngineKind::Host });
        let strict_base = table.take_choice("base", BASES, self.problems).map(|at| at.value == 1);
        let salt = table.take_str("salt", self.problems).map(|text| text.value.into_owned());
        Fields {
            run,
            needs,
            inputs,
            env,
            pass_env,
            tools,
            outputs,
            to,
            source,
            network,
            mounts,
            timeout_ms,
            retries,
            pool,
            engine,
            strict_base,
            salt,
            uses,
        }
    }

    fn run(&mut self, table: &mut Table<'_>, uses: &mut Vec<Use>) -> Option<Spanned<Run>> {
        let Entry { value, .. } = table.take("run")?;
        let span = value.span;
        match value.value {
            Value::String(text) => {
                self.template(&text, span, Place::Command, uses);
                if text.trim().is_empty() {
                    self.problems.push(Problem::error(span, "`run` is empty"));
                }
                Some(Spanned::new(Run::Shell(self.no_nul("run", text.into_owned(), span)), span))
            }
            Value::Array(items) => {
                let mut argv = Vec::with_capacity(items.len());
                for item in items {
                    let Some(word) = as_str("an item of `run`", item, self.problems) else { continue };
                    self.template(&word.value, word.span, Place::Command, uses);
                    argv.push(self.no_nul("run", word.value.into_owned(), word.span));
                }
                if argv.first().is_none_or(String::is_empty) {
                    self.problems.push(Problem::error(span, "`run` names no program"));
                }
                Some(Spanned::new(Run::Argv(argv), span))
            }
            other => {
                let found = Spanned::new(other, span);
                expected("`run`", "a string or a list of strings", &found, self.problems)
            }
        }
    }

    fn no_nul(&mut self, key: &str, text: String, span: Span) -> String {
        if text.contains('\0') {
            self.problems.push(Problem::error(span, format!("`{key}` holds a NUL character")));
        }
        text
    }

    fn needs(&mut self, table: &mut Table<'_>) -> Option<Vec<Name>> {
        let list = table.take_list("needs", self.problems)?;
        Some(self.without_repeats("needs", list.value))
    }

    /// Each once; a repeat is a warning.
    fn without_repeats(&mut self, key: &str, texts: Vec<Text<'_>>) -> Vec<Name> {
        let mut kept: Vec<Name> = Vec::with_capacity(texts.len());
        let mut long: HashSet<String> = HashSet::new();
        for text in texts.into_iter().map(own) {
            // Most lists are short, and looking through them is quicker than hashing.
            let again = if kept.len() < SHORT_LIST {
                kept.iter().any(|one| one.value == text.value)
            } else {
                if long.is_empty() {
                    long.extend(kept.iter().map(|one| one.value.clone()));
                }
                !long.insert(text.value.clone())
            };
            if again {
                self.problems
                    .push(Problem::warning(text.span, format!("`{}` is in `{key}` twice", text.value)));
            } else {
                kept.push(text);
            }
        }
        kept
    }

    fn inputs(&mut self, table: &mut Table<'_>) -> Option<Inputs> {
        let list = table.take_list("inputs", self.problems)?;
        let texts = self.without_repeats_kept("inputs", list.value);
        let mut patterns = Vec::with_capacity(texts.len());
        for text in &texts {
            self.template(&text.value, text.span, Place::Path, &mut Vec::new());
            match Pattern::parse(&text.value, &self.folder) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.problems.push(Problem::error(text.span, error.to_string())),
            }
        }
        let texts = texts.into_iter().map(|text| text.value).collect();
        Some(Inputs { patterns: PatternList::new(self.folder.clone(), patterns), texts })
    }

    /// Each, in order. A repeat is a warning, but not after a `!`: the last pattern decides.
    fn without_repeats_kept(&mut self, key: &str, texts: Vec<Text<'_>>) -> Vec<Name> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut start = 0;
        for (at, text) in texts.iter().enumerate() {
            if text.value.starts_with('!') {
                seen.clear();
                start = at;
            }
            let again = if at - start < SHORT_LIST {
                texts[start..at].iter().any(|one| one.value == text.value)
            } else {
                if seen.is_empty() {
                    seen.extend(texts[start..at].iter().map(|one| &*one.value));
                }
                !seen.insert(&text.value)
            };
            if again {
                self.problems
                    .push(Problem::warning(text.span, format!("`{}` is in `{key}` twice", text.value)));
            }
        }
        texts.into_iter().map(own).collect()
    }

    fn env(&mut self, table: &mut Table<'_>, uses: &mut Vec<(String, Use)>) -> Vec<(Name, String)> {
        let Some(table) = table.take_table("env", self.problems) else { return Vec::new() };
        self.env_table(table, uses)
    }

    /// Reads variables that are set.
    pub(crate) fn env_table(
        &mut self,
        table: Table<'_>,
        uses: &mut Vec<(String, Use)>,
    ) -> Vec<(Name, String)> {
        let mut env = Vec::new();
        for (name, value) in text_map("variable", table, self.problems) {
            if !check_var_name(&name, self.problems) {
                continue;
            }
            let mut own_uses = Vec::new();
            self.template(&value.value, value.span, Place::Command, &mut own_uses);
            uses.extend(own_uses.into_iter().map(|one| (name.value.to_string(), one)));
            let value = self.no_nul("env", value.value.into_owned(), value.span);
            env.push((own(name), value));
        }
        env
    }

    fn pass_env(&mut self, table: &mut Table<'_>) -> Option<Vec<Name>> {
        let list = table.take_list("pass-env", self.problems)?;
        let names = list.value.into_iter().filter(|name| check_var_name(name, self.problems)).collect();
        Some(self.without_repeats("pass-env", names))
    }

    fn tools(&mut self, table: &mut Table<'_>, uses: &mut Vec<Use>) -> Option<Vec<String>> {
        let list = table.take_list("tools", self.problems)?;
        let tools = self.without_repeats("tools", list.value);
        for tool in &tools {
            self.template(&tool.value, tool.span, Place::Command, uses);
            if tool.value.trim().is_empty() {
                self.problems.push(Problem::error(tool.span, "an item of `tools` is empty"));
            } else if tool.value.contains(char::is_control) {
                self.problems.push(Problem::error(tool.span, format!("`{}` is not a program", tool.value)));
            }
        }
        Some(tools.into_iter().map(|tool| tool.value).collect())
    }

    fn outputs(&mut self, table: &mut Table<'_>) -> Option<Spanned<Vec<Spanned<Output>>>> {
        let Entry { value, .. } = table.take("outputs")?;
        let span = value.span;
        let items = as_array("`outputs`", "a list", value, self.problems)?;
        let mut outputs: Vec<Spanned<Output>> = Vec::with_capacity(items.len());
        for item in items {
            outputs.extend(self.output(item));
        }
        self.check_nesting(&outputs);
        Some(Spanned::new(outputs, span))
    }

    fn output(&mut self, item: Spanned<Value<'_>>) -> Option<Spanned<Output>> {
        let span = item.span;
        let (text, allow_empty, any_machine) = match item.value {
            Value::String(text) => (Spanned::new(text, span), false, false),
            Value::Table(mut table) => {
                let path = self.required_str(&mut table, "path", "an output", span);
                let allow_empty = table.take_bool("allow-empty", self.problems);
                let any_machine = table.take_bool("any-machine", self.problems);
                OUTPUT.finish("an output", table, self.problems);
                (
                    path?,
                    allow_empty.is_some_and(|flag| flag.value),
                    any_machine.is_some_and(|flag| flag.value),
                )
            }
            other => {
                let found = Spanned::new(other, span);
                return expected(
                    "an item of `outputs`",
                    "a path or a table with `path`",
                    &found,
                    self.problems,
                );
            }
        };
        self.template(&text.value, text.span, Place::Path, &mut Vec::new());
        let path = self.output_path(&text)?;
        Some(Spanned::new(Output { path, allow_empty, any_machine }, text.span))
    }

    fn output_path(&mut self, text: &Text<'_>) -> Option<RelPath> {
        let wrong = |message: String| Problem::error(text.span, message);
        if text.value.starts_with('/') {
            let problem = wrong(format!("output `{}` is absolute", text.value));
            self.problems.push(problem.hint("outputs are relative to `${out}`"));
            return None;
        }
        if text.value.split('/').any(|part| part == "..") {
            self.problems.push(wrong(format!("output `{}` has a `..` in it", text.value)));
            return None;
        }
        match RelPath::new(text.value.as_bytes()) {
            Ok(path) if path.is_root() => {
                let problem = wrong(format!("`{}` is not an output", text.value));
                self.problems.push(problem.hint("name the files and folders in `${out}`"));
                None
            }
            Ok(path) => Some(path),
            Err(error) => {
                self.problems.push(wrong(error.to_string()));
                None
            }
        }
    }

    fn check_nesting(&mut self, outputs: &[Spanned<Output>]) {
        let mut sorted: Vec<&Spanned<Output>> = outputs.iter().collect();
        sorted.sort_by(|one, two| (&one.value.path, one.span).cmp(&(&two.value.path, two.span)));
        let mut folder: Option<&Spanned<Output>> = None;
        for output in sorted {
            match folder.filter(|folder| output.value.path.is_within(&folder.value.path)) {
                None => folder = Some(output),
                Some(folder) => {
                    let (inner, outer) = (&output.value.path, &folder.value.path);
                    let message = if inner == outer {
                        format!("output `{inner}` is there twice")
                    } else {
                        format!("output `{inner}` is inside output `{outer}`")
                    };
                    self.problems.push(Problem::error(output.span, message).also(folder.span, "the other"));
                }
            }
        }
    }

    /// `to` relative to the root, placeholders still in it.
    fn to(&mut self, table: &mut Table<'_>, uses: &mut Vec<Use>) -> Option<Name> {
        let text = table.take_str("to", self.problems)?;
        self.template(&text.value, text.span, Place::Folder, uses);
        match self.folder_relative(&text.value) {
            Ok(to) => Some(Spanned::new(to, text.span)),
            Err(message) => {
                let hint = "`to` is a folder of the project, relative to this file";
                self.problems.push(Problem::error(text.span, message).hint(hint));
                None
            }
        }
    }

    fn folder_relative(&self, text: &str) -> Result<String, String> {
        if text.starts_with('/') {
            return Err(format!("`to` must be relative, not `{text}`"));
        }
        let below = [self.folder.as_bytes(), text.as_bytes()].join(&b'/');
        let below = below.strip_prefix(b"/").unwrap_or(&below);
        let path = RelPath::new(below).map_err(|_| format!("`to` leaves the project: `{text}`"))?;
        String::from_utf8(path.as_bytes().to_vec())
            .map_err(|_| "`to` is below a folder that is no text".to_owned())
    }

    fn source(&mut self, table: &mut Table<'_>) -> Option<Spanned<Source>> {
        let mut table = table.take_table("source", self.problems)?;
        let span = table.span;
        let name = self.required_str(&mut table, "name", "a source", span);
        let version = self.required_str(&mut table, "version", "a source", span);
        let sha256 = self.required_str(&mut table, "sha256", "a source", span);
        let licence = table.take_str("licence", self.problems);
        let license = table.take_str("license", self.problems);
        if let (Some(_), Some(again)) = (&licence, &license) {
            self.problems.push(Problem::error(again.span, "`licence` and `license` are the same key"));
        }
        SOURCE.finish("a source", table, self.problems);
        let sha256 = sha256.and_then(|text| self.sha256(&text));
        let licence = licence.or(license).map(|text| text.value.into_owned());
        let (name, version) = (name?.value.into_owned(), version?.value.into_owned());
        Some(Spanned::new(Source { name, version, sha256: sha256?, licence }, span))
    }

    fn sha256(&mut self, text: &Text<'_>) -> Option<Digest> {
        let digest = Digest::from_hex(DigestFunction::Sha256, &text.value).ok();
        if digest.is_none() {
            let message = "`sha256` must be 64 hexadecimal digits";
            let problem = Problem::error(text.span, message);
            self.problems.push(problem.hint("`sha256sum FILE` prints them"));
        }
        digest
    }

    fn mounts(&mut self, table: &mut Table<'_>) -> Option<Vec<Mount>> {
        let Entry { value, .. } = table.take("mounts")?;
        let items = as_array("`mounts`", "a list of tables", value, self.problems)?;
        let mut mounts: Vec<Mount> = Vec::with_capacity(items.len());
        for item in items {
            let span = item.span;
            let Some(table) = as_table("an item of `mounts`", item, self.problems) else { continue };
            let Some(mount) = self.mount(table, span) else { continue };
            if mounts.iter().any(|one| one.id == mount.id || one.path == mount.path) {
                let message = format!("mount `{}` shares its id or its path with one before it", mount.id);
                self.problems.push(Problem::error(span, message));
            }
            mounts.push(mount);
        }
        Some(mounts)
    }

    fn mount(&mut self, mut table: Table<'_>, span: Span) -> Option<Mount> {
        let id = self.required_str(&mut table, "id", "a mount", span);
        let path = self.required_str(&mut table, "path", "a mount", span);
        let sharing = table.take_choice("sharing", SHARINGS, self.problems);
        let scope = table.take_choice("scope", SCOPES, self.problems);
        MOUNT.finish("a mount", table, self.problems);
        let id = id.filter(|id| check_name("a mount", id, self.problems))?;
        let path = path?;
        let parts = || path.value.split('/').skip(1);
        let clean = path.value.starts_with('/')
            && !path.value.contains('\0')
            && parts().all(|part| !matches!(part, "" | "." | ".."));
        if !clean {
            let message = format!("`{}` is not the absolute path of a folder", path.value);
            self.problems.push(Problem::error(path.span, message).hint("write it as `/cache/NAME`"));
            return None;
        }
        let sharing = match sharing.map(|at| at.value) {
            Some(1) => Sharing::Private,
            Some(2) => Sharing::Locked,
            _ => Sharing::Shared,
        };
        let scope = match scope.map(|at| at.value) {
            Some(0) => MountScope::Project,
            Some(2) => MountScope::Step,
            _ => MountScope::Platform,
        };
        Some(Mount { id: id.value.into_owned(), path: path.value.into_owned(), sharing, scope })
    }

    /// A string that must be there, and not be empty.
    fn required_str<'a>(
        &mut self,
        table: &mut Table<'a>,
        key: &str,
        place: &str,
        span: Span,
    ) -> Option<Text<'a>> {
        let before = self.problems.error_count();
        let found = table.take_str(key, self.problems);
        match &found {
            None if self.problems.error_count() == before => {
                self.problems.push(Problem::error(span, format!("{place} needs `{key}`")));
            }
            Some(text) if text.value.is_empty() => {
                self.problems.push(Problem::error(text.span, format!("`{key}` is empty")));
                return None;
            }
            _ => {}
        }
        found
    }

    /// Checks the placeholders of `text` and notes those that name something.
    fn template(&mut self, text: &str, span: Span, place: Place, uses: &mut Vec<Use>) {
        if !text.contains("${") {
            return;
        }
        let start = self.problems.content_start(span, text);
        match placeholders(text) {
            Err(bad) => {
                for one in bad {
                    let at = span.part(start, one.range());
                    self.problems.push(Problem::error(at, one.to_string()));
                }
            }
            Ok(template) => {
                for (placeholder, range) in template.placeholders() {
                    let at = span.part(start, range);
                    self.placed(placeholder, at, place);
                    match placeholder {
                        Placeholder::PlatformVar(key) => {
                            uses.push(Use::Var(Spanned::new(key.to_owned(), at)))
                        }
                        Placeholder::Step(name) => uses.push(Use::Step(Spanned::new(name.to_owned(), at))),
                        _ => {}
                    }
                }
            }
        }
    }

    fn placed(&mut self, placeholder: Placeholder<'_>, span: Span, place: Place) {
        let allowed: &[&str] = match (place, placeholder) {
            (Place::Command, _) | (Place::Folder, Placeholder::Platform | Placeholder::PlatformVar(_)) => {
                return;
            }
            (Place::Folder, _) => &["${platform}", "${platform.KEY}"],
            (Place::Path, _) => &[],
        };
        let problem = Problem::error(span, format!("`{placeholder}` has no meaning here"));
        self.problems.push(match allowed {
            [] => problem
                .hint("inputs and outputs are the same for every run; use an override for one platform"),
            _ => problem.hint(format!("`to` takes {}", and_list(allowed))),
        });
    }
}
