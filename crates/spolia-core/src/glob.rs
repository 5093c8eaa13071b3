//! Which paths a list of gitignore-style patterns selects. Pure: matches bytes against bytes.
//!
//! | pattern | selects |
//! |---|---|
//! | `go.mod`, `src/lib` | that path below the folder the list belongs to, a folder with all in it |
//! | `*.c` | every such name at any depth |
//! | `src/*.c`, `**/*.go`, `src/**` | such paths; `*` and `?` stop at `/`, `**` does not |
//! | `build*/` | such folders, with all in them |
//! | `/x*` | anchored: only at the top |
//! | `!*.md` | takes out what an earlier pattern selected; the last pattern that matches decides |
//! | `\!x`, `\*` | the character itself |
//!
//! A pattern without `*`, `?`, `[` or `{` names one path *literally*: it is found even where git ignores
//! it. That is one difference from gitignore, where `go.mod` would match at any depth; the other is
//! `{a,b}`, which gitignore lacks.

use crate::path::{RelPath, RelPathError};

/// One pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    negated: bool,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// One path, and all below it.
    Literal(RelPath),
    /// `PREFIX/**`: all below a folder.
    Below(RelPath),
    /// A glob over whole paths.
    Path { glob: Vec<u8>, folders_only: bool },
    /// A glob over one name, at any depth.
    Name { glob: Vec<u8>, folders_only: bool },
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing in it.
    #[error("an empty pattern selects nothing")]
    Empty,
    /// It leaves the folder.
    #[error(transparent)]
    Path(#[from] RelPathError),
    /// `[` or `{` without its end.
    #[error("`{pattern}` has a `{open}` that is not closed")]
    Unclosed {
        /// The pattern.
        pattern: String,
        /// The bracket.
        open: char,
    },
}

const WILD: &[u8] = b"*?[{";

impl Pattern {
    /// Takes `text` apart; `base` is the folder it is relative to.
    ///
    /// # Errors
    /// An empty pattern, one that leaves the root, an unclosed bracket.
    pub fn parse(text: &str, base: &RelPath) -> Result<Self, PatternError> {
        let (negated, body) = match text.strip_prefix('!') {
            Some(body) => (true, body),
            None => (false, text.strip_prefix("\\!").map_or(text, |_| &text[1..])),
        };
        if body.is_empty() {
            return Err(PatternError::Empty);
        }
        check_brackets(body)?;
        let folders_only = body.ends_with('/');
        let trimmed = body.trim_end_matches('/');
        let anchored = trimmed.starts_with('/') && trimmed.bytes().any(|b| WILD.contains(&b));
        let trimmed = if anchored { trimmed.trim_start_matches('/') } else { trimmed };
        Ok(Self { negated, kind: Kind::parse(trimmed, base, folders_only, anchored)? })
    }

    /// Whether it takes out instead of selecting.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// The one path it names, if it names one literally.
    pub fn literal(&self) -> Option<&RelPath> {
        match &self.kind {
            Kind::Literal(path) => Some(path),
            _ => None,
        }
    }

    /// The folder below which everything it can select lies.
    pub fn search_root(&self, base: &RelPath) -> RelPath {
        match &self.kind {
            Kind::Literal(path) | Kind::Below(path) => path.clone(),
            Kind::Path { glob, .. } => {
                let first_wild = glob.iter().position(|b| WILD.contains(b) || *b == b'\\').unwrap_or(0);
                let cut = glob[..first_wild].iter().rposition(|b| *b == b'/').unwrap_or(0);
                RelPath::new(&glob[..cut]).unwrap_or_else(|_| base.clone())
            }
            Kind::Name { .. } => base.clone(),
        }
    }

    /// The folder all of whose content it selects, if it is of that simple form.
    pub fn whole_folder(&self) -> Option<&RelPath> {
        match &self.kind {
            Kind::Below(path) => Some(path),
            _ => None,
        }
    }

    /// Whether the file at `path` (relative to the root) is selected.
    pub fn matches(&self, path: &RelPath, base: &RelPath) -> bool {
        match &self.kind {
            Kind::Literal(literal) => path.is_within(literal),
            Kind::Below(folder) => path.is_within(folder) && path != folder,
            Kind::Path { glob, folders_only } => {
                (!folders_only && fast_glob::glob_match(glob, path.as_bytes()))
                    || ancestors(path).any(|folder| fast_glob::glob_match(glob, folder))
            }
            Kind::Name { glob, folders_only } => path.strip_prefix(base).is_some_and(|path| {
                (!folders_only && fast_glob::glob_match(glob, path.file_name()))
                    || ancestors(&path).any(|folder| {
                        let name = folder.rsplit(|b| *b == b'/').next().unwrap_or(folder);
                        fast_glob::glob_match(glob, name)
                    })
            }),
        }
    }
}

/// Takes the `./` and `../` that `text` starts with off, and goes up from `base` with them.
fn climb<'t>(mut text: &'t str, base: &RelPath) -> Result<(&'t str, RelPath), RelPathError> {
    let whole = text;
    let mut base = base.clone();
    loop {
        if let Some(rest) = text.strip_prefix("./") {
            text = rest;
        } else if let Some(rest) = text.strip_prefix("../") {
            base = base.parent().ok_or_else(|| RelPathError::Escapes { path: whole.to_owned() })?;
            text = rest;
        } else {
            return Ok((text, base));
        }
    }
}

impl Kind {
    fn parse(text: &str, base: &RelPath, folders_only: bool, anchored: bool) -> Result<Self, PatternError> {
        let (rest, above) = climb(text, base)?;
        let anchored = anchored || rest.len() != text.len();
        let (text, base) = (rest, &above);
        let wild = text.bytes().any(|b| WILD.contains(&b) || b == b'\\');
        if !wild {
            return Ok(Self::Literal(base.join(&RelPath::new(text)?)));
        }
        if let Some(folder) = text.strip_suffix("/**").filter(|f| !f.bytes().any(|b| WILD.contains(&b))) {
            return Ok(Self::Below(base.join(&RelPath::new(folder)?)));
        }
        if text == "**" {
            return Ok(Self::Below(base.clone()));
        }
        if !anchored && !text.contains('/') {
            return Ok(Self::Name { glob: text.as_bytes().to_vec(), folders_only });
        }
        // `..` and `.` inside a glob are resolved like those of a path.
        let path = base.join(&RelPath::new(text)?);
        let mut glob = escape_glob(base.as_bytes());
        let own = path.strip_prefix(base).unwrap_or(path);
        if !glob.is_empty() {
            glob.push(b'/');
        }
        glob.extend_from_slice(own.as_bytes());
        Ok(Self::Path { glob, folders_only })
    }
}

/// A pattern, relative to `base`, that selects the file at `path`: what to add to a list that lacks it.
/// Bytes that are no text become `*`, since a pattern is text.
pub fn pattern_for(path: &RelPath, base: &RelPath) -> String {
    let below = path.strip_prefix(base);
    let up = base.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
    let prefix = if below.is_some() { String::new() } else { "../".repeat(up) };
    let mut text = String::new();
    for chunk in below.as_ref().unwrap_or(path).as_bytes().utf8_chunks() {
        text.push_str(&String::from_utf8_lossy(&escape_glob(chunk.valid().as_bytes())));
        if !chunk.invalid().is_empty() && !text.ends_with('*') {
            text.push('*');
        }
    }
    let text = prefix + &text;
    let wild = text.bytes().any(|byte| WILD.contains(&byte) || byte == b'\\');
    match (wild && !text.contains('/'), text.starts_with('!')) {
        // A bare glob would select the name at any depth.
        (true, _) => format!("./{text}"),
        (false, true) => format!("\\{text}"),
        (false, false) => text,
    }
}

fn escape_glob(raw: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(raw.len());
    for byte in raw {
        if WILD.contains(byte) || *byte == b'\\' || *byte == b'}' || *byte == b']' {
            glob.push(b'\\');
        }
        glob.push(*byte);
    }
    glob
}

fn check_brackets(text: &str) -> Result<(), PatternError> {
    let mut depth = 0usize;
    let mut class = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'[' if !class => class = true,
            b']' => class = false,
            b'{' if !class => depth += 1,
            b'}' if !class => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let open = if class {
        '['
    } else if depth > 0 {
        '{'
    } else {
        return Ok(());
    };
    Err(PatternError::Unclosed { pattern: text.to_owned(), open })
}

fn ancestors(path: &RelPath) -> impl Iterator<Item = &[u8]> {
    let raw = path.as_bytes();
    raw.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(move |(at, _)| &raw[..at])
}

/// An ordered list of patterns and the folder they are relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternList {
    base: RelPath,
    patterns: Vec<Pattern>,
}

impl PatternList {
    /// A list over `base`.
    pub fn new(base: RelPath, patterns: Vec<Pattern>) -> Self {
        Self { base, patterns }
    }

    /// Parses every text; the first bad one is the error.
    pub fn parse(base: RelPath, texts: &[impl AsRef<str>]) -> Result<Self, PatternError> {
        let patterns =
            texts.iter().map(|text| Pattern::parse(text.as_ref(), &base)).collect::<Result<_, _>>()?;
        Ok(Self { base, patterns })
    }

    /// The folder the patterns are relative to.
    pub fn base(&self) -> &RelPath {
        &self.base
    }

    /// The patterns in order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether the file at `path` is selected: the last pattern that matches decides.
    pub fn selects(&self, path: &RelPath) -> bool {
        self.patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches(path, &self.base))
            .is_some_and(|pattern| !pattern.negated)
    }

    /// Whether `path` is selected by naming it, or a folder it is in, literally.
    pub fn selects_literally(&self, path: &RelPath) -> bool {
        self.selects(path)
            && self.patterns.iter().any(|p| {
                !p.negated && p.literal().is_some_and(|literal| !literal.is_root() && path.is_within(literal))
            })
    }

    /// The folders (or single paths) below which everything selected lies, none inside another.
    pub fn search_roots(&self) -> Vec<RelPath> {
        let mut roots: Vec<RelPath> =
            self.patterns.iter().filter(|p| !p.negated).map(|p| p.search_root(&self.base)).collect();
        roots.sort();
        roots.dedup_by(|later, earlier| later.is_within(earlier));
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(raw: &str) -> RelPath {
        RelPath::new(raw).unwrap()
    }

    fn list(base: &str, patterns: &[&str]) -> PatternList {
        PatternList::parse(rel(base), patterns).unwrap()
    }

    #[test]
    fn a_pattern_is_made_for_every_path() {
        let names: [(&[u8], &str); 8] = [
            (b"src/a.h", "src/a.h"),
            (b"!a", "\\!a"),
            (b"a*b[c]{d}?", "./a\\*b\\[c\\]\\{d\\}\\?"),
            (b"a\\b", "./a\\\\b"),
            (b"a \"b\"\nc", "a \"b\"\nc"),
            (b"\xff\xfe", "./*"),
            (b"d/a\xff.h", "d/a*.h"),
            ("\u{e9}".as_bytes(), "\u{e9}"),
        ];
        for (raw, expect) in names {
            let path = RelPath::new(raw).unwrap();
            assert_eq!(pattern_for(&path, &RelPath::root()), expect);
            for base in ["", "d", "x/y"] {
                let base = RelPath::new(base).unwrap();
                let text = pattern_for(&path, &base);
                let list =
                    PatternList::parse(base, &[&text]).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert!(list.selects(&path), "{text:?} for {path}");
            }
        }
    }

    #[test]
    fn parents_are_reached_but_nothing_above_the_root() {
        let check = |text: &str, path: &str, expect: bool| {
            assert_eq!(list("tools/fio", &[text]).selects(&rel(path)), expect, "{text} {path}");
        };
        check("../common.mk", "tools/common.mk", true);
        check("../../LICENSE", "LICENSE", true);
        check("../*.mk", "tools/a.mk", true);
        check("../*.mk", "tools/fio/a.mk", false);
        check("../../src/**", "src/a/b.c", true);
        check("a/../b", "tools/fio/b", true);
        check("./*.c", "tools/fio/x.c", true);
        check("./*.c", "tools/fio/sub/x.c", false);
        for text in ["../../../x", "../../../*.c", "../../../x/**", "a/../../../../x"] {
            let base = rel("tools/fio");
            assert!(Pattern::parse(text, &base).is_err(), "{text}");
        }
    }

    #[test]
    fn selects_like_the_table_says() {
        let check = |patterns: &[&str], path: &str, expect: bool| {
            assert_eq!(list("", patterns).selects(&rel(path)), expect, "{patterns:?} {path}");
        };
        check(&["go.mod"], "go.mod", true);
        check(&["go.mod"], "sub/go.mod", false);
        check(&["src/lib"], "src/lib/deep/x", true);
        check(&["*.c"], "deep/down/x.c", true);
        check(&["src/*.c"], "src/x.c", true);
        check(&["src/*.c"], "src/y/x.c", false);
        check(&["**/*.go"], "x.go", true);
        check(&["**/*.go"], "a/b/x.go", true);
        check(&["src/**"], "src/a/b", true);
        check(&["src/**"], "srcs/a", false);
        check(&["src/**", "!**/*.md"], "src/a.md", false);
        check(&["src/**", "!**/*.md", "src/keep.md"], "src/keep.md", true);
        check(&["build*/"], "x/build1/f", true);
        check(&["build*/"], "x/build1", false);
        check(&["/x*"], "xy", true);
        check(&["/x*"], "a/xy", false);
        check(&["src/*/gen"], "src/a/gen/deep/f", true);
        check(&["\\!x"], "!x", true);
        check(&["a[bc].{h,c}"], "q/ab.h", true);
        check(&["**"], "anything/at all", true);
        check(&["./src/**"], "src/x", true);
        check(&["./*.c"], "x.c", true);
        check(&["./*.c"], "a/x.c", false);
    }

    #[test]
    fn a_list_is_relative_to_its_folder() {
        let tools = list("tools", &["fio/**", "*.sh", "sub/*.c"]);
        assert!(tools.selects(&rel("tools/fio/x")));
        assert!(tools.selects(&rel("tools/a/b.sh")));
        assert!(tools.selects(&rel("tools/sub/b.c")));
        assert!(!tools.selects(&rel("b.sh")));
        assert_eq!(tools.search_roots(), [rel("tools")]);
        let odd = list("a[1]", &["x/*.c"]);
        assert!(odd.selects(&rel("a[1]/x/y.c")));
        assert!(!odd.selects(&rel("a1/x/y.c")));
    }

    #[test]
    fn a_list_may_go_up_from_its_folder_but_not_out_of_the_root() {
        let tools = list("a/tools", &["../*.c", "../../common.mk", "../lib/**", "./x/*.h"]);
        assert!(tools.selects(&rel("a/b.c")));
        assert!(!tools.selects(&rel("a/deep/b.c")));
        assert!(!tools.selects(&rel("a/tools/b.c")));
        assert!(tools.selects(&rel("common.mk")));
        assert!(tools.selects(&rel("a/lib/deep/x")));
        assert!(tools.selects(&rel("a/tools/x/y.h")));
        assert_eq!(tools.search_roots(), [rel("a"), rel("common.mk")]);
        assert!(Pattern::parse("../../../x", &rel("a/tools")).is_err());
        assert!(Pattern::parse("../../../*.c", &rel("a/tools")).is_err());
    }

    #[test]
    fn search_roots_are_as_deep_as_they_can_be() {
        let roots = list("", &["pkg/a/src/**", "pkg/b/*.c", "pkg/b/lib/x.c", "Makefile", "!**/*.md"]);
        assert_eq!(roots.search_roots(), [rel("Makefile"), rel("pkg/a/src"), rel("pkg/b")]);
        assert_eq!(list("", &["*.c"]).search_roots(), [RelPath::root()]);
    }

    #[test]
    fn bad_patterns_are_named() {
        let bad = |text: &str| Pattern::parse(text, &RelPath::root()).unwrap_err();
        assert_eq!(bad(""), PatternError::Empty);
        assert_eq!(bad("!"), PatternError::Empty);
        assert!(matches!(bad("../x"), PatternError::Path(RelPathError::Escapes { .. })));
        assert!(matches!(bad("/etc/passwd"), PatternError::Path(RelPathError::Absolute { .. })));
        assert!(matches!(bad("a[b"), PatternError::Unclosed { open: '[', .. }));
        assert!(matches!(bad("a{b"), PatternError::Unclosed { open: '{', .. }));
    }
}
