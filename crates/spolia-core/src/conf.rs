//! TOML with spans: `text → Table`, and typed fields taken from it. Knows values, not what they mean.
//!
//! Nothing here stops at the first mistake: each is a [`Problem`] in [`Problems`], and the value is left
//! out. What is left in a table when its reader is done is unknown, and said so with a near name.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use toml::de::{DeInteger, DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Severity, Source, nearest};
use crate::path::RelPath;

/// A manifest larger than this is refused: 16 MiB.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// How many problems are kept; more are counted.
const KEPT_MAX: usize = 1000;
/// How many problems are shown.
pub const SHOWN_MAX: usize = 100;

/// Bytes of one file, in the numbering of the [`Problems`] that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The number of the file.
    pub file: u32,
    /// Its first byte.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
}

impl Span {
    fn new(file: u32, range: Range<usize>) -> Self {
        let cut = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file, start: cut(range.start), end: cut(range.end) }
    }

    /// The bytes `part` of a string written here whose content begins at `start`; all of it for `None`.
    pub fn part(self, start: Option<u32>, part: Range<usize>) -> Self {
        let Some(start) = start else { return self };
        let start = start as usize;
        Self::new(self.file, start + part.start..start + part.end)
    }

    /// The bytes.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value` at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span }
    }
}

/// A text, borrowed from the file where it needs no unescaping.
pub type Text<'a> = Spanned<Cow<'a, str>>;

/// Any TOML value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A string.
    String(Cow<'a, str>),
    /// An integer; `None` if it does not fit 64 bits.
    Integer(Option<i64>),
    /// A float, as written.
    Float(Cow<'a, str>),
    /// A boolean.
    Boolean(bool),
    /// A date or time, as text.
    Datetime(String),
    /// An array.
    Array(Vec<Spanned<Value<'a>>>),
    /// A table.
    Table(Table<'a>),
}

impl Value<'_> {
    /// `a string`, `an integer`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// One `key = value`.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The key.
    pub key: Text<'a>,
    /// Its value.
    pub value: Spanned<Value<'a>>,
}

/// A table whose entries are taken out one by one, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Table<'a> {
    entries: Vec<Entry<'a>>,
    /// Its header, its braces, or where the key that made it is.
    pub span: Span,
}

/// One mistake, before its file is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// Where, and a few words about each place. The first is the place to go to.
    pub labels: Vec<(Span, String)>,
    /// What to try.
    pub hints: Vec<String>,
}

impl Problem {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message.into())
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message.into())
    }

    fn new(severity: Severity, span: Span, message: String) -> Self {
        Self { severity, message, labels: vec![(span, String::new())], hints: Vec::new() }
    }

    /// With words beside the last place.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(last) = self.labels.last_mut() {
            last.1 = text.into();
        }
        self
    }

    /// With one more place.
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    /// With one more hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With the name that was probably meant, as `` `NAME` is … ``.
    pub fn near<'n>(self, wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        match nearest(wanted, names) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// The files read so far, and every mistake found in them.
#[derive(Debug, Default)]
pub struct Problems {
    sources: Vec<Rc<Source>>,
    kept: Vec<Problem>,
    left_out: usize,
    errors: usize,
}

impl Problems {
    /// Adds a file and gives it its number.
    pub fn add_source(&mut self, source: Source) -> (u32, Rc<Source>) {
        let number = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let source = Rc::new(source);
        self.sources.push(Rc::clone(&source));
        (number, source)
    }

    /// The files, by number.
    pub fn sources(&self) -> &[Rc<Source>] {
        &self.sources
    }

    /// Adds a mistake. Many are kept, more are counted.
    pub fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        if self.kept.len() < KEPT_MAX { self.kept.push(problem) } else { self.left_out += 1 }
    }

    /// How many errors there are.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// Forgets what was found since `mark` errors and `kept` problems: see [`Self::mark`].
    pub fn rewind(&mut self, mark: Mark) {
        self.kept.truncate(mark.kept);
        self.left_out = mark.left_out;
        self.errors = mark.errors;
    }

    /// This moment, for [`Self::rewind`].
    pub fn mark(&self) -> Mark {
        Mark { kept: self.kept.len(), left_out: self.left_out, errors: self.errors }
    }

    /// Where the content of the string written at `span` begins; `None` where escapes hide it. With it
    /// the place of a part is known: see [`Span::part`].
    pub fn content_start(&self, span: Span, text: &str) -> Option<u32> {
        let raw = self.sources.get(span.file as usize)?.text().get(span.range())?;
        let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| raw.starts_with(quote))?;
        let body = &raw[quote.len()..];
        let line_end = ["\r\n", "\n"].into_iter().find(|end| quote.len() == 3 && body.starts_with(end));
        let skip = line_end.map_or(0, str::len);
        let start = span.start + u32::try_from(quote.len() + skip).ok()?;
        body[skip..].starts_with(text).then_some(start)
    }

    /// All that was found, in the order of files and places, the same thing once: `Problem →
    /// Diagnostic`. When there are more than [`SHOWN_MAX`], the last says how many are left out.
    pub fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        let place = |problem: &Problem| problem.labels.first().map(|(span, _)| *span);
        self.kept.sort_by_key(place);
        self.kept.dedup();
        let more = self.left_out + self.kept.len().saturating_sub(SHOWN_MAX);
        if more > 0 {
            // Errors are what must be seen.
            self.kept.sort_by_key(|problem| problem.severity);
            self.kept.truncate(SHOWN_MAX);
            self.kept.sort_by_key(place);
        }
        let Self { sources, kept, errors, .. } = self;
        let mut shown: Vec<Diagnostic> = kept.into_iter().map(|problem| resolve(problem, &sources)).collect();
        if more > 0 {
            let mut last = Diagnostic::error(format!("{more} more mistakes are not shown"));
            last.severity = if errors > 0 { Severity::Error } else { Severity::Warning };
            shown.push(last);
        }
        shown
    }
}

/// A moment in [`Problems`].
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    kept: usize,
    left_out: usize,
    errors: usize,
}

fn resolve(problem: Problem, sources: &[Rc<Source>]) -> Diagnostic {
    let Problem { severity, message, labels, hints } = problem;
    let label = |(span, text): (Span, String)| {
        sources.get(span.file as usize).map(|source| source.label(span.range(), text))
    };
    Diagnostic { severity, message, labels: labels.into_iter().filter_map(label).collect(), hints }
}

/// Parses a whole file. Every mistake in its syntax is in `problems`; what could be read is returned.
pub fn parse<'a>(file: u32, text: &'a str, problems: &mut Problems) -> Table<'a> {
    let whole = Span::new(file, 0..0);
    if text.len() > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX >> 20;
        problems.push(Problem::error(whole, format!("the file is larger than {limit} MiB")));
        return Table::default();
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = syntax_message(error.message(), span.is_empty());
        problems.push(Problem::error(Span::new(file, span), message));
    }
    Table::new(file, table.into_inner(), whole)
}

/// Reads the table `name` of the root manifest `text` and nothing else of it, for a room that has a table of its own:
/// `read` is called with the table where there is one. The text's syntax is taken as sound: whoever reads the steps
/// says so where it is not.
///
/// # Errors
/// Every mistake that `read` found.
pub fn read_table<T: Default>(
    file: RelPath,
    text: &str,
    name: &str,
    read: impl FnOnce(Table<'_>, &mut Problems) -> T,
) -> Result<T, Vec<Diagnostic>> {
    read_table_warned(file, text, name, read).map(|(value, _)| value)
}

/// As [`read_table`], with what is no mistake and still worth saying.
///
/// # Errors
/// Every mistake that `read` found, with the warnings.
pub fn read_table_warned<T: Default>(
    file: RelPath,
    text: &str,
    name: &str,
    read: impl FnOnce(Table<'_>, &mut Problems) -> T,
) -> Result<(T, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let (number, source) = problems.add_source(Source::new(file, text.to_owned()));
    let mark = problems.mark();
    let mut whole = parse(number, source.text(), &mut problems);
    if problems.error_count() > 0 {
        problems.rewind(mark);
        return Ok((T::default(), Vec::new()));
    }
    let table = whole.take_table(name, &mut problems);
    let value = table.map(|table| read(table, &mut problems)).unwrap_or_default();
    let is_wrong = problems.error_count() > 0;
    let diagnostics = problems.into_diagnostics();
    if is_wrong { Err(diagnostics) } else { Ok((value, diagnostics)) }
}

/// The parser's words in our form. Where nothing at all stands it would speak of quotes.
fn syntax_message(message: &str, nothing_there: bool) -> String {
    let message = match message {
        _ if nothing_there && message.starts_with("string values must be quoted") => "a value is missing",
        _ => message.trim_end_matches('.'),
    };
    format!("not valid TOML: {}", message.replace('\n', "; "))
}

impl<'a> Table<'a> {
    fn new(file: u32, table: DeTable<'a>, span: Span) -> Self {
        let mut entries: Vec<Entry<'a>> = table
            .into_iter()
            .map(|(key, value)| {
                let key_span = Span::new(file, key.span());
                let span = Span::new(file, value.span());
                // A table made by a dotted key has no place of its own.
                let span = if span.start == span.end { key_span } else { span };
                let value = Spanned::new(convert(file, value.into_inner(), span), span);
                Entry { key: Spanned::new(key.into_inner(), key_span), value }
            })
            .collect();
        entries.sort_by_key(|entry| entry.key.span);
        Self { entries, span }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys that are left.
    pub fn keys(&self) -> impl Iterator<Item = &Text<'a>> {
        self.entries.iter().map(|entry| &entry.key)
    }

    /// All that is left, in the order of the file.
    pub fn into_entries(self) -> Vec<Entry<'a>> {
        self.entries
    }

    /// Takes the entry called `key` out.
    pub fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        let at = self.entries.iter().position(|entry| entry.key.value == key)?;
        Some(self.entries.remove(at))
    }

    /// Takes a string.
    pub fn take_str(&mut self, key: &str, problems: &mut Problems) -> Option<Text<'a>> {
        as_str(format_args!("`{key}`"), self.take(key)?.value, problems)
    }

    /// Takes a list of strings.
    pub fn take_list(&mut self, key: &str, problems: &mut Problems) -> Option<Spanned<Vec<Text<'a>>>> {
        let Entry { value, .. } = self.take(key)?;
        let span = value.span;
        let items = as_array(format_args!("`{key}`"), "a list of strings", value, problems)?;
        let item = |value| as_str(format_args!("an item of `{key}`"), value, problems);
        let texts = items.into_iter().filter_map(item).collect();
        Some(Spanned::new(texts, span))
    }

    /// Takes `true` or `false`.
    pub fn take_bool(&mut self, key: &str, problems: &mut Problems) -> Option<Spanned<bool>> {
        let Entry { value, .. } = self.take(key)?;
        match value.value {
            Value::Boolean(flag) => Some(Spanned::new(flag, value.span)),
            _ => expected(format_args!("`{key}`"), "`true` or `false`", &value, problems),
        }
    }

    /// Takes an integer within `range`.
    pub fn take_int(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
        problems: &mut Problems,
    ) -> Option<Spanned<u32>> {
        let Entry { value, .. } = self.take(key)?;
        as_int(format_args!("`{key}`"), value, range, problems)
    }

    /// Takes a table.
    pub fn take_table(&mut self, key: &str, problems: &mut Problems) -> Option<Table<'a>> {
        as_table(format_args!("`{key}`"), self.take(key)?.value, problems)
    }

    /// Takes a duration (see [`parse_duration`]), ms.
    pub fn take_duration_ms(&mut self, key: &str, problems: &mut Problems) -> Option<Spanned<u64>> {
        let text = self.take_str(key, problems)?;
        let parsed = parse_duration(&text.value);
        if parsed.is_none() {
            let message = format!("`{key}` must be a duration, not `{}`", text.value);
            problems
                .push(Problem::error(text.span, message).hint("write it as `500ms`, `30s`, `1h30m` or `7d`"));
        }
        Some(Spanned::new(parsed?, text.span))
    }

    /// Takes a size (see [`parse_size`]), bytes.
    pub fn take_size_bytes(&mut self, key: &str, problems: &mut Problems) -> Option<Spanned<u64>> {
        let text = self.take_str(key, problems)?;
        let parsed = parse_size(&text.value);
        if parsed.is_none() {
            let message = format!("`{key}` must be a size, not `{}`", text.value);
            problems.push(Problem::error(text.span, message).hint("write it as `500MB`, `20GB` or `512MiB`"));
        }
        Some(Spanned::new(parsed?, text.span))
    }

    /// Takes one of `words`, as its index.
    pub fn take_choice(
        &mut self,
        key: &str,
        words: &[&str],
        problems: &mut Problems,
    ) -> Option<Spanned<usize>> {
        let text = self.take_str(key, problems)?;
        let found = words.iter().position(|word| *word == text.value);
        if found.is_none() {
            let message = format!("`{key}` must be {}, not `{}`", or_list(words), text.value);
            problems.push(Problem::error(text.span, message).near(&text.value, words.iter().copied()));
        }
        Some(Spanned::new(found?, text.span))
    }

    /// Says of everything left that it is unknown. `place` is what the table is, as in "`x` is not a
    /// key of PLACE"; `allowed` are the keys it may have.
    pub fn finish(self, place: impl fmt::Display, allowed: &[&str], problems: &mut Problems) {
        for entry in self.entries {
            let key = &entry.key.value;
            let message = format!("`{key}` is not a key of {place}");
            let problem = Problem::error(entry.key.span, message);
            problems.push(match nearest(key, allowed.iter().copied()) {
                Some(name) => problem.label("unknown").hint(format!("did you mean `{name}`?")),
                None => problem.label("unknown").hint(format!("its keys are {}", and_list(allowed))),
            });
        }
    }
}

/// A string, or a problem that names `what`.
pub fn as_str<'a>(
    what: impl fmt::Display,
    value: Spanned<Value<'a>>,
    problems: &mut Problems,
) -> Option<Text<'a>> {
    match value.value {
        Value::String(text) => Some(Spanned::new(text, value.span)),
        _ => expected(what, "a string", &value, problems),
    }
}

/// A list, or a problem.
pub fn as_array<'a>(
    what: impl fmt::Display,
    wanted: &str,
    value: Spanned<Value<'a>>,
    problems: &mut Problems,
) -> Option<Vec<Spanned<Value<'a>>>> {
    match value.value {
        Value::Array(items) => Some(items),
        _ => expected(what, wanted, &value, problems),
    }
}

/// A table, or a problem.
pub fn as_table<'a>(
    what: impl fmt::Display,
    value: Spanned<Value<'a>>,
    problems: &mut Problems,
) -> Option<Table<'a>> {
    match value.value {
        Value::Table(table) => Some(table),
        _ => expected(what, "a table", &value, problems),
    }
}

/// An integer within `range`, or a problem.
pub fn as_int(
    what: impl fmt::Display,
    value: Spanned<Value<'_>>,
    range: std::ops::RangeInclusive<u32>,
    problems: &mut Problems,
) -> Option<Spanned<u32>> {
    let Value::Integer(number) = value.value else {
        return expected(what, "an integer", &value, problems);
    };
    let fits = number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
    if fits.is_none() {
        let message = format!("{what} must be from {} to {}", range.start(), range.end());
        problems.push(Problem::error(value.span, message));
    }
    Some(Spanned::new(fits?, value.span))
}

/// Says that `what` must be `wanted`, and gives nothing.
pub fn expected<T>(
    what: impl fmt::Display,
    wanted: &str,
    found: &Spanned<Value<'_>>,
    problems: &mut Problems,
) -> Option<T> {
    let message = format!("{what} must be {wanted}, not {}", found.value.kind());
    problems.push(Problem::error(found.span, message));
    None
}

/// `` `a`, `b` and `c` ``.
pub fn and_list(words: &[impl AsRef<str>]) -> String {
    join(words, "and")
}

/// `` `a`, `b` or `c` ``.
pub fn or_list(words: &[impl AsRef<str>]) -> String {
    join(words, "or")
}

fn join(words: &[impl AsRef<str>], last: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match quoted.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn convert<'a>(file: u32, value: DeValue<'a>, span: Span) -> Value<'a> {
    match value {
        DeValue::String(text) => Value::String(text),
        DeValue::Integer(number) => Value::Integer(integer(&number)),
        DeValue::Float(number) => Value::Float(Cow::Owned(number.as_str().to_owned())),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(date) => Value::Datetime(date.to_string()),
        DeValue::Array(items) => {
            let item = |item: toml::Spanned<DeValue<'a>>| {
                let span = Span::new(file, item.span());
                Spanned::new(convert(file, item.into_inner(), span), span)
            };
            Value::Array(items.into_iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(Table::new(file, table, span)),
    }
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `500ms`, `30s`, `5m`, `1h30m`, `7d`, `2w`: whole numbers with units, largest first in any order,
/// in ms. `None` for anything else, for zero, and for what does not fit.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let end = after.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(ms)?)?;
        rest = after;
    }
    Some(total).filter(|total| *total > 0)
}

/// `20GB`, `512MiB`, `1.5GB`, `100kB`, `4096B`: decimal and binary units, in bytes. `None` for anything
/// else, for zero, and for what does not fit.
pub fn parse_size(text: &str) -> Option<u64> {
    let (whole, rest) = split_number(text)?;
    let (tenths, rest) = match rest.strip_prefix('.') {
        None => (0, rest),
        // One digit is enough for a size that people write.
        Some(rest) => {
            let digit = rest.bytes().next().filter(u8::is_ascii_digit)?;
            (u64::from(digit - b'0'), &rest[1..])
        }
    };
    let unit: u64 = match rest.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let bytes = whole.checked_mul(unit)?.checked_add(unit.checked_mul(tenths)? / 10)?;
    Some(bytes).filter(|bytes| *bytes > 0)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Style, render_all};

    /// What `read` makes of `text`, and what it found wrong.
    fn check<T>(text: &str, read: impl FnOnce(&mut Table<'_>, &mut Problems) -> T) -> (T, String) {
        let mut problems = Problems::default();
        let (file, source) =
            problems.add_source(Source::new(RelPath::new("x.toml").unwrap(), text.to_owned()));
        let mut table = parse(file, source.text(), &mut problems);
        let value = read(&mut table, &mut problems);
        (value, render_all(&problems.into_diagnostics(), Style::Plain))
    }

    #[test]
    fn takes_typed_fields() {
        let text = "s = 'x'\nl = ['a', \"b\"]\nb = true\nn = 0x1_0\nd = '1h30m'\nz = '1.5KiB'\nt.u.v = 1\n";
        let ((), wrong) = check(text, |table, problems| {
            assert_eq!(table.take_str("s", problems).unwrap().value, "x");
            let list = table.take_list("l", problems).unwrap();
            assert_eq!(list.value.iter().map(|text| &*text.value).collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(list.value[1].span.range(), 18..21);
            assert!(table.take_bool("b", problems).unwrap().value);
            assert_eq!(table.take_int("n", 1..=16, problems).unwrap().value, 16);
            assert_eq!(table.take_duration_ms("d", problems).unwrap().value, 5_400_000);
            assert_eq!(table.take_size_bytes("z", problems).unwrap().value, 1536);
            let mut inner = table.take_table("t", problems).unwrap();
            assert_eq!(inner.take_table("u", problems).unwrap().keys().count(), 1);
            assert!(table.is_empty());
            assert!(table.take_str("s", problems).is_none());
        });
        assert_eq!(wrong, "");
    }

    #[test]
    fn names_every_wrong_type_at_once() {
        let text =
            "s = 1\nl = ['a', 2]\nb = 'yes'\nn = 17\nd = '5'\nz = 'big'\nt = []\nc = 'sandbx'\nrun2 = 1\n";
        let ((), wrong) = check(text, |table, problems| {
            assert!(table.take_str("s", problems).is_none());
            assert_eq!(table.take_list("l", problems).unwrap().value.len(), 1);
            assert!(table.take_bool("b", problems).is_none());
            assert!(table.take_int("n", 1..=16, problems).is_none());
            assert!(table.take_duration_ms("d", problems).is_none());
            assert!(table.take_size_bytes("z", problems).is_none());
            assert!(table.take_table("t", problems).is_none());
            assert!(table.take_choice("c", &["sandbox", "host"], problems).is_none());
            std::mem::take(table).finish("`x`", &["run", "needs"], problems);
        });
        let heads: Vec<&str> =
            wrong.lines().filter(|line| line.contains(": ") && !line.contains('|')).collect();
        assert_eq!(
            heads,
            [
                "error: `s` must be a string, not an integer",
                "error: an item of `l` must be a string, not an integer",
                "error: `b` must be `true` or `false`, not a string",
                "error: `n` must be from 1 to 16",
                "error: `d` must be a duration, not `5`",
                "hint: write it as `500ms`, `30s`, `1h30m` or `7d`",
                "error: `z` must be a size, not `big`",
                "hint: write it as `500MB`, `20GB` or `512MiB`",
                "error: `t` must be a table, not a list",
                "error: `c` must be `sandbox` or `host`, not `sandbx`",
                "hint: did you mean `sandbox`?",
                "error: `run2` is not a key of `x`",
                "hint: did you mean `run`?",
            ]
        );
    }

    #[test]
    fn all_syntax_errors_at_once() {
        let ((), wrong) = check("a = \nb = 'x\nc = 1\nc = 2\n[d\n", |_, _| ());
        let expect = "\
error: not valid TOML: a value is missing
 --> x.toml:1:5
  |
1 | a =
  |     ^

error: not valid TOML: invalid literal string, expected `'`
 --> x.toml:2:7
  |
2 | b = 'x
  |       ^

error: not valid TOML: duplicate key
 --> x.toml:4:1
  |
4 | c = 2
  | ^

error: not valid TOML: unclosed table, expected `]`
 --> x.toml:5:3
  |
5 | [d
  |   ^
";
        assert_eq!(wrong, expect);
    }

    #[test]
    fn durations_and_sizes() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(parse_duration(text), expect, "{text}");
        check("500ms", Some(500));
        check("1h30m", Some(5_400_000));
        check("2w", Some(1_209_600_000));
        for bad in [
            "",
            "5",
            "m",
            "-1s",
            "1.5h",
            "0s",
            "1h 30m",
            "1y",
            "99999999999999999999s",
            "9999999999999999999w",
        ] {
            check(bad, None);
        }
        let check = |text: &str, expect: Option<u64>| assert_eq!(parse_size(text), expect, "{text}");
        check("20GB", Some(20_000_000_000));
        check("512 MiB", Some(512 << 20));
        check("0.5TB", Some(500_000_000_000));
        for bad in ["", "20", "GB", "0GB", "1.GB", "1.55GB", "20gb", "-1GB", "99999999999TB"] {
            check(bad, None);
        }
    }

    #[test]
    fn finds_the_place_inside_a_string() {
        let cases = ["k = 'ab${x}'", "k = \"ab${x}\"", "k = '''\nab${x}'''", "k = \"\"\"\r\nab${x}\"\"\""];
        for text in cases {
            let (span, _) = check(text, |table, problems| {
                let value = table.take_str("k", problems).unwrap();
                value.span.part(problems.content_start(value.span, &value.value), 2..6)
            });
            assert_eq!(&text[span.range()], "${x}", "{text}");
        }
        let (whole, _) = check("k = \"a\\u0062${x}\"", |table, problems| {
            let value = table.take_str("k", problems).unwrap();
            (value.span.part(problems.content_start(value.span, &value.value), 2..6), value.span)
        });
        assert_eq!(whole.0, whole.1);
    }

    #[test]
    fn limits_hold() {
        let many = (0..2000).map(|n| format!("k{n} = 1\n")).collect::<String>();
        let ((), wrong) = check(&many, |table, problems| std::mem::take(table).finish("x", &["a"], problems));
        assert_eq!(wrong.matches("error: `k").count(), SHOWN_MAX);
        assert!(wrong.ends_with("error: 1900 more mistakes are not shown\n"), "{wrong}");
        for deep in [format!("a = {}", "[".repeat(100_000)), format!("{}b = 1", "a.".repeat(100_000))] {
            let ((), wrong) = check(&deep, |_, _| ());
            assert!(wrong.starts_with("error: not valid TOML"), "{wrong}");
        }
        let (table, wrong) = check(&"#".repeat(FILE_BYTES_MAX + 1), |table, _| table.is_empty());
        assert!(table && wrong.starts_with("error: the file is larger than 16 MiB"), "{wrong}");
    }
}
