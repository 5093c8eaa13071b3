//! A mistake in a text file, told with the place it is at: `Problem + Source → Diagnostic → text | JSON`.
//! Knows no terminal: colour is a parameter and nothing depends on it.
//!
//! A [`Diagnostic`] carries the lines it shows, so it can be printed, sent or stored without the file.
//!
//! ```text
//! error: step `test` needs `build-lib`, which is not defined
//!   --> spolia.toml:14:10
//!    |
//! 14 | needs = ["build-lib"]
//!    |          ^^^^^^^^^^^ no step has this name
//! hint: a step named `build_lib` exists
//! ```

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::path::RelPath;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is done before it is mended.
    Error,
    /// Work goes on.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake, with all that is needed to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence: lower case, no final period.
    pub message: String,
    /// Where; the first is the place to go to. Empty when it concerns no file.
    pub labels: Vec<Label>,
    /// What to try.
    pub hints: Vec<String>,
}

/// One place in a file, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The file, relative to the project's root.
    pub file: RelPath,
    /// The bytes of it.
    pub span: Range<usize>,
    /// Where the span starts.
    pub start: Position,
    /// Where it ends: the position after its last character.
    pub end: Position,
    /// A few words; may be empty.
    pub text: String,
    /// The line it starts on, without its end.
    pub first_line: String,
    /// The line it ends on, if that is another one.
    pub last_line: Option<String>,
}

/// A place in a text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A text and where its lines start.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its file, relative to the project's root.
    pub file: RelPath,
    text: String,
    /// Found when a place is first asked for: most texts have no mistake in them.
    starts: OnceCell<Vec<usize>>,
}

impl Source {
    /// `text` as the content of `file`.
    pub fn new(file: RelPath, text: String) -> Self {
        Self { file, text, starts: OnceCell::new() }
    }

    fn starts(&self) -> &[usize] {
        self.starts.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The position of the character at or around byte `at`; the end of the text for any `at` beyond.
    pub fn position(&self, at: usize) -> Position {
        let at = self.floor(at);
        let line = self.line_at(at);
        let column = self.text[self.starts()[line]..at].chars().count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        Position { line: count(line), column: count(column) }
    }

    /// The label for `span` of this text.
    pub fn label(&self, span: Range<usize>, text: impl Into<String>) -> Label {
        let start = self.floor(span.start);
        let end = self.floor(span.end.max(start));
        let (first, last) = (self.line_at(start), self.line_at(end.max(start + 1) - 1));
        Label {
            file: self.file.clone(),
            span: start..end,
            start: self.position(start),
            end: self.position(end),
            text: text.into(),
            first_line: self.line_text(first).to_owned(),
            last_line: (last > first).then(|| self.line_text(last).to_owned()),
        }
    }

    fn line_at(&self, at: usize) -> usize {
        self.starts().partition_point(|start| *start <= at).saturating_sub(1)
    }

    fn line_text(&self, index: usize) -> &str {
        let end = self.starts().get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[self.starts()[index]..end];
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn floor(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// Whether to paint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    #[default]
    Plain,
    /// With terminal colours (SGR sequences).
    Colour,
}

#[derive(Clone, Copy)]
enum Paint {
    Error,
    Warning,
    Frame,
    Hint,
    Strong,
}

impl Style {
    fn paint(self, paint: Paint, text: &str) -> String {
        let code = match (self, paint) {
            (Self::Plain, _) => return text.to_owned(),
            (_, Paint::Error) => "1;31",
            (_, Paint::Warning) => "1;33",
            (_, Paint::Frame) => "34",
            (_, Paint::Hint) => "36",
            (_, Paint::Strong) => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Diagnostic {
    /// An error that concerns no place in a file.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), labels: Vec::new(), hints: Vec::new() }
    }

    /// The same with one more hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The text for a person, ending with a newline.
    pub fn render(&self, style: Style) -> String {
        let paint = match self.severity {
            Severity::Error => Paint::Error,
            Severity::Warning => Paint::Warning,
        };
        let mut text = String::new();
        let head = style.paint(paint, &format!("{}:", self.severity.word()));
        line(&mut text, format_args!("{head} {}", style.paint(Paint::Strong, &safe(&self.message))));
        let gutter = self.labels.iter().map(Label::last_row).max().unwrap_or(0).to_string().len();
        let frame = Frame { style, paint, gutter };
        let mut before: Option<&Label> = None;
        for label in &self.labels {
            frame.label(&mut text, label, before);
            before = Some(label);
        }
        for hint in &self.hints {
            line(&mut text, format_args!("{} {}", style.paint(Paint::Hint, "hint:"), safe(hint)));
        }
        text
    }
}

/// Several diagnostics one after another, an empty line between them.
pub fn render_all(diagnostics: &[Diagnostic], style: Style) -> String {
    diagnostics.iter().map(|one| one.render(style)).collect::<Vec<_>>().join("\n")
}

impl Label {
    /// Where it starts in its first line, in characters.
    fn start_index(&self) -> usize {
        self.start.column.saturating_sub(1) as usize
    }

    fn last_row(&self) -> u32 {
        if self.last_line.is_some() { self.end.line.max(self.start.line) } else { self.start.line }
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(content);
    text.push('\n');
}

struct Frame {
    style: Style,
    paint: Paint,
    gutter: usize,
}

impl Frame {
    /// `label` below `before`: in the same file only its lines, else with the file's name.
    fn label(&self, text: &mut String, label: &Label, before: Option<&Label>) {
        let Some(before) = before.filter(|before| before.file == label.file) else {
            self.head(text, label, before.is_none());
            self.excerpt(text, label, false);
            return;
        };
        let away = before.last_row().abs_diff(label.start.line);
        if away > 1 {
            line(text, format_args!("{}", self.style.paint(Paint::Frame, "...")));
        }
        // A second mark below a line that is there already, if the same part of it is.
        let shown =
            |label: &Label| Shown::new(&label.first_line, label.start_index()..label.start_index()).text;
        let again = away == 0 && before.last_line.is_none() && shown(before) == shown(label);
        self.excerpt(text, label, again);
    }

    fn head(&self, text: &mut String, label: &Label, first: bool) {
        let arrow = self.style.paint(Paint::Frame, if first { "-->" } else { ":::" });
        let pad = " ".repeat(self.gutter);
        let Position { line: row, column } = label.start;
        line(text, format_args!("{pad}{arrow} {}:{row}:{column}", label.file));
        line(text, format_args!("{}", self.bar(None)));
    }

    fn excerpt(&self, text: &mut String, label: &Label, again: bool) {
        let start = label.start_index();
        let Some(last) = &label.last_line else {
            let same_line = label.end.line == label.start.line;
            let end = if same_line { (label.end.column - 1) as usize } else { usize::MAX };
            let shown = Shown::new(&label.first_line, start..end);
            if !again {
                self.source(text, label.start.line, &shown);
            }
            self.carets(text, &shown, &label.text);
            return;
        };
        // A span over several lines shows its first and its last.
        let shown = Shown::new(&label.first_line, start..usize::MAX);
        self.source(text, label.start.line, &shown);
        self.carets(text, &shown, "");
        let last_row = label.end.line.max(label.start.line + 1);
        if last_row > label.start.line + 1 {
            line(text, format_args!("{}", self.style.paint(Paint::Frame, "...")));
        }
        let indent = last.chars().take_while(|symbol| symbol.is_whitespace()).count();
        let end = (label.end.column - 1) as usize;
        let end = if end == 0 { last.chars().count() } else { end };
        let shown = Shown::new(last, indent.min(end)..end);
        self.source(text, last_row, &shown);
        self.carets(text, &shown, &label.text);
    }

    fn source(&self, text: &mut String, number: u32, shown: &Shown) {
        line(text, format_args!("{} {}", self.bar(Some(number)), shown.text));
    }

    fn carets(&self, text: &mut String, shown: &Shown, say: &str) {
        let carets = self.style.paint(self.paint, &"^".repeat(shown.carets));
        let pad = " ".repeat(shown.before);
        let gap = if say.is_empty() { "" } else { " " };
        let say = self.style.paint(self.paint, &safe(say));
        line(text, format_args!("{} {pad}{carets}{gap}{say}", self.bar(None)));
    }

    fn bar(&self, number: Option<u32>) -> String {
        let number = number.map(|number| number.to_string()).unwrap_or_default();
        self.style.paint(Paint::Frame, &format!("{number:>width$} |", width = self.gutter))
    }
}

/// Columns of a source line that are shown at most.
const WIDTH_MAX: usize = 100;
/// Columns kept before a span when its line is cut.
const LEAD: usize = 24;

/// A source line made safe and short, and where its carets go, all in terminal columns.
struct Shown {
    text: String,
    before: usize,
    carets: usize,
}

impl Shown {
    fn new(source: &str, columns: Range<usize>) -> Self {
        // Only characters that can be shown are looked at: a line may be megabytes long.
        let from = if columns.start + LEAD > WIDTH_MAX { columns.start - LEAD } else { 0 };
        let mut shown = Self { text: String::new(), before: 0, carets: 0 };
        if from > 0 {
            shown.text.push('…');
            shown.before = 1;
        }
        let mut width = shown.before;
        let mut cut = false;
        for (index, symbol) in source.chars().enumerate().skip(from) {
            let (cell, cells) = cell(symbol);
            if width + cells > WIDTH_MAX {
                cut = true;
                break;
            }
            width += cells;
            match cell {
                Some(text) => shown.text.push_str(text),
                None => shown.text.push(symbol),
            }
            if index < columns.start {
                shown.before += cells;
            } else if index < columns.end {
                shown.carets += cells;
            }
        }
        if cut {
            shown.text.push('…');
        }
        shown.text.truncate(shown.text.trim_end().len());
        shown.carets = shown.carets.max(1);
        shown
    }
}

/// What stands for `symbol` on a terminal (itself where `None`), and how many columns it takes.
fn cell(symbol: char) -> (Option<&'static str>, usize) {
    match symbol {
        '\t' => (Some("    "), 4),
        _ if is_unsafe(symbol) => (Some("\u{fffd}"), 1),
        _ => (None, width(symbol)),
    }
}

/// Control characters, and those that turn the direction of the text around.
fn is_unsafe(symbol: char) -> bool {
    symbol.is_control()
        || matches!(symbol, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Columns a terminal gives `symbol`: the large blocks of wide and of combining characters. A rare
/// character may be off by one, which moves a caret and nothing else.
fn width(symbol: char) -> usize {
    match u32::from(symbol) {
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Text of ours with a user's words in it, in which nothing can draw on a terminal or break a line.
fn safe(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for symbol in text.chars() {
        if is_unsafe(symbol) { kept.extend(symbol.escape_default()) } else { kept.push(symbol) }
    }
    kept
}

/// `{ severity, message, file, line, column, end_line, end_column, hints, labels }`. The place fields
/// are the first label's, `null` without one; `labels` has all of them with their texts.
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Place<'a> {
            file: Option<String>,
            line: Option<u32>,
            column: Option<u32>,
            end_line: Option<u32>,
            end_column: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<&'a str>,
        }
        impl<'a> Place<'a> {
            fn of(label: Option<&'a Label>, with_text: bool) -> Self {
                Self {
                    file: label.map(|label| label.file.to_string()),
                    line: label.map(|label| label.start.line),
                    column: label.map(|label| label.start.column),
                    end_line: label.map(|label| label.end.line),
                    end_column: label.map(|label| label.end.column),
                    text: label.filter(|_| with_text).map(|label| label.text.as_str()),
                }
            }
        }
        #[derive(Serialize)]
        struct Json<'a> {
            severity: Severity,
            message: &'a str,
            #[serde(flatten)]
            place: Place<'a>,
            hints: &'a [String],
            labels: Vec<Place<'a>>,
        }
        let labels = self.labels.iter().map(|label| Place::of(Some(label), true)).collect();
        let place = Place::of(self.labels.first(), false);
        Json { severity: self.severity, message: &self.message, place, hints: &self.hints, labels }
            .serialize(serializer)
    }
}

/// Names longer than this are not compared: the distance takes the product of both lengths.
const NEAR_LENGTH_MAX: usize = 64;

/// The candidate that was probably meant by `wanted`: the same but for case, `-` and `_`, or at most a
/// third of its characters away (Damerau-Levenshtein, adjacent swaps count once).
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = wanted.chars().count();
    if length == 0 || length > NEAR_LENGTH_MAX {
        return None;
    }
    let folded = fold(wanted);
    let limit = (length / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(wanted.len()) > 4 * limit || candidate.len() > 4 * NEAR_LENGTH_MAX {
            continue;
        }
        let other = fold(candidate);
        let distance = if other == folded { 0 } else { strsim::damerau_levenshtein(&folded, &other).max(1) };
        if distance <= limit && distance < length && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, name)| name)
}

fn fold(name: &str) -> String {
    name.chars().map(|symbol| if symbol == '_' { '-' } else { symbol.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(RelPath::new("spolia.toml").unwrap(), text.to_owned())
    }

    fn error(labels: Vec<Label>, hints: &[&str]) -> Diagnostic {
        let hints = hints.iter().map(|hint| (*hint).to_owned()).collect();
        Diagnostic { severity: Severity::Error, message: "it is wrong".to_owned(), labels, hints }
    }

    fn find(source: &Source, part: &str, text: &str) -> Label {
        let at = source.text().find(part).unwrap();
        source.label(at..at + part.len(), text)
    }

    #[test]
    fn shows_the_line_and_marks_it() {
        let source = source(&format!("{}needs = [\"build-lib\"]\r\nx\n", "\n".repeat(13)));
        let label = find(&source, "\"build-lib\"", "no step has this name");
        let text = error(vec![label], &["a step named `build_lib` exists"]).render(Style::Plain);
        let expect = "\
error: it is wrong
  --> spolia.toml:14:10
   |
14 | needs = [\"build-lib\"]
   |          ^^^^^^^^^^^ no step has this name
hint: a step named `build_lib` exists
";
        assert_eq!(text, expect);
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let source = source("a = 1\n");
        let one = error(vec![find(&source, "1", "here")], &["try"]);
        let coloured = one.render(Style::Colour);
        let mut bare = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            bare.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        bare.push_str(rest);
        assert_ne!(coloured, bare);
        assert_eq!(bare, one.render(Style::Plain));
    }

    #[test]
    fn spans_over_several_lines_show_both_ends() {
        let source = source("a = [\n  1,\n  2,\n  3\n]\n");
        let label = find(&source, "[\n  1,\n  2,\n  3\n]", "too long");
        let expect = "\
error: it is wrong
 --> spolia.toml:1:5
  |
1 | a = [
  |     ^
...
5 | ]
  | ^ too long
";
        assert_eq!(error(vec![label], &[]).render(Style::Plain), expect);
    }

    #[test]
    fn places_in_one_file_and_in_another() {
        let source = source("a\nb\nc\nd\ne\n");
        let other = Source::new(RelPath::new("sub/x.toml").unwrap(), "here\n".to_owned());
        let labels = vec![
            find(&source, "a", "1"),
            find(&source, "b", "2"),
            find(&source, "e", "3"),
            find(&other, "here", "4"),
        ];
        let expect = "\
error: it is wrong
 --> spolia.toml:1:1
  |
1 | a
  | ^ 1
2 | b
  | ^ 2
...
5 | e
  | ^ 3
 ::: sub/x.toml:1:1
  |
1 | here
  | ^^^^ 4
";
        assert_eq!(error(labels, &[]).render(Style::Plain), expect);
    }

    #[test]
    fn odd_characters_stay_in_line() {
        let check = |line: &str, part: &str, expect: &str| {
            let source = source(line);
            let text = error(vec![find(&source, part, "")], &[]).render(Style::Plain);
            assert_eq!(text.split_once("  |\n").unwrap().1, expect, "{line:?}");
        };
        check("\ta\tb = 1", "b", "1 |     a    b = 1\n  |          ^\n");
        check("é = \"\u{1b}[31m\" # x", "x", "1 | é = \"\u{fffd}[31m\" # x\n  |               ^\n");
        check("名前 = 1", "1", "1 | 名前 = 1\n  |        ^\n");
        check("e\u{301} = 1", "1", "1 | e\u{301} = 1\n  |     ^\n");
        check("a = \u{202e}b", "b", "1 | a = \u{fffd}b\n  |      ^\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_span() {
        let source = source(&format!("a = \"{}HERE{}\"", "x".repeat(100_000), "y".repeat(100_000)));
        let text = error(vec![find(&source, "HERE", "")], &[]).render(Style::Plain);
        assert!(text.lines().all(|line| line.chars().count() < WIDTH_MAX + 8), "{text}");
        let rows = text.lines().collect::<Vec<_>>();
        assert_eq!(rows[3].find("HERE").map(|at| rows[3][..at].chars().count()), rows[4].find("^^^^"));
        assert!(rows[1].ends_with(":1:100006"));
    }

    #[test]
    fn places_at_and_beyond_the_end_are_held() {
        let backwards = Range { start: 99, end: 3 };
        for span in [0..0, 4..4, 3..99, backwards, 2..2] {
            let text = error(vec![source("a=é").label(span.clone(), "")], &[]).render(Style::Plain);
            assert!(text.contains('^'), "{span:?} {text}");
        }
        assert_eq!(source("").position(7), Position { line: 1, column: 1 });
        assert_eq!(source("é\nb").position(4), Position { line: 2, column: 2 });
    }

    #[test]
    fn the_json_form() {
        let source = source("a\nbc = 1\n");
        let one = error(vec![find(&source, "bc", "no")], &["try"]);
        let expect = serde_json::json!({
            "severity": "error", "message": "it is wrong", "file": "spolia.toml",
            "line": 2, "column": 1, "end_line": 2, "end_column": 3, "hints": ["try"],
            "labels": [{ "file": "spolia.toml", "line": 2, "column": 1, "end_line": 2, "end_column": 3, "text": "no" }],
        });
        assert_eq!(serde_json::to_value(&one).unwrap(), expect);
        let json = serde_json::to_value(Diagnostic::error("x")).unwrap();
        assert_eq!(json["file"], serde_json::Value::Null);
    }

    #[test]
    fn near_names() {
        let names = ["build_lib", "test", "tset", "fio", "zlib"];
        let check =
            |wanted: &str, expect: Option<&str>| assert_eq!(nearest(wanted, names), expect, "{wanted}");
        check("build-lib", Some("build_lib"));
        check("Test", Some("test"));
        check("tets", Some("test"));
        check("zlb", Some("zlib"));
        check("qqq", None);
        check("a", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }
}
