//! `text → Template → bytes`: Spolia's own placeholders in a text that is mostly the shell's. Pure.
//!
//! | written | is |
//! |---|---|
//! | `${out}`, `${root}`, `${cache}` | a folder |
//! | `${platform}`, `${platform.KEY}` | the platform's name, a variable of it |
//! | `${step.NAME}` | the folder with the outputs of a needed step |
//! | every other `$`, also `$$`, `\$`, `${out:-x}` | left as it is |
//!
//! Expansion is of text: it happens before the shell sees the line, in quotes of any kind too, and what
//! is put in is not looked at again.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placeholder<'t> {
    /// `${out}`: the folder for the outputs.
    Out,
    /// `${root}`: the project's root.
    Root,
    /// `${cache}`: the folder of the cache mounts.
    Cache,
    /// `${platform}`.
    Platform,
    /// `${platform.KEY}`.
    PlatformVar(&'t str),
    /// `${step.NAME}`.
    Step(&'t str),
}

impl fmt::Display for Placeholder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Out => f.write_str("${out}"),
            Self::Root => f.write_str("${root}"),
            Self::Cache => f.write_str("${cache}"),
            Self::Platform => f.write_str("${platform}"),
            Self::PlatformVar(key) => write!(f, "${{platform.{key}}}"),
            Self::Step(name) => write!(f, "${{step.{name}}}"),
        }
    }
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// As it is.
    Text(&'t str),
    /// To be replaced; the bytes of the whole text it takes.
    Placeholder(Placeholder<'t>, Range<usize>),
}

/// A text taken apart. Borrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template<'t> {
    /// In order; joined they are the text.
    pub pieces: Vec<Piece<'t>>,
}

/// What starts like a placeholder and is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlaceholder {
    /// `${out` without its brace.
    #[error("`${{{name}` has no closing `}}`")]
    Unclosed {
        /// The bytes of the text.
        range: Range<usize>,
        /// What follows the brace.
        name: String,
    },
    /// `${platform.}`.
    #[error("`${{{name}}}` names nothing after the dot")]
    Nameless {
        /// The bytes of the text.
        range: Range<usize>,
        /// What is between the braces.
        name: String,
    },
    /// `${step.x:-y}`.
    #[error("`${{{name}…}}` is a placeholder of Spolia and takes no shell operators")]
    Operator {
        /// The bytes of the text.
        range: Range<usize>,
        /// What precedes the operator.
        name: String,
    },
}

impl BadPlaceholder {
    /// The bytes of the text.
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Unclosed { range, .. } | Self::Nameless { range, .. } | Self::Operator { range, .. } => {
                range.clone()
            }
        }
    }
}

/// What `${…` at the start of a text is.
enum Found<'t> {
    Ours(Placeholder<'t>, usize),
    Shell(usize),
    Bad(BadPlaceholder),
}

/// Takes `text` apart.
///
/// # Errors
/// Everything that starts like a placeholder and is none.
pub fn placeholders(text: &str) -> Result<Template<'_>, Vec<BadPlaceholder>> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut bad = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(step) = bytes[at..].iter().position(|byte| matches!(byte, b'$' | b'\\')) {
        at += step;
        if bytes[at] == b'\\' || bytes[at..].starts_with(b"$$") {
            at = (at + 2).min(bytes.len());
            continue;
        }
        if !bytes[at..].starts_with(b"${") {
            at += 1;
            continue;
        }
        match look(text, at) {
            Found::Ours(placeholder, end) => {
                if start < at {
                    pieces.push(Piece::Text(&text[start..at]));
                }
                pieces.push(Piece::Placeholder(placeholder, at..end));
                (start, at) = (end, end);
            }
            Found::Shell(end) => at = end,
            Found::Bad(one) => {
                at = one.range().end;
                bad.push(one);
            }
        }
    }
    if start < text.len() {
        pieces.push(Piece::Text(&text[start..]));
    }
    if bad.is_empty() { Ok(Template { pieces }) } else { Err(bad) }
}

/// Looks at the `${` at byte `at`.
fn look(text: &str, at: usize) -> Found<'_> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let from = at + 2;
    let length = text.as_bytes()[from..].iter().position(|byte| !is_name(*byte));
    let to = length.map_or(text.len(), |length| from + length);
    let name = &text[from..to];
    let placeholder = match name {
        "out" => Placeholder::Out,
        "root" => Placeholder::Root,
        "cache" => Placeholder::Cache,
        "platform" => Placeholder::Platform,
        _ => match name.split_once('.') {
            Some(("platform", key)) => Placeholder::PlatformVar(key),
            Some(("step", key)) => Placeholder::Step(key),
            _ => return Found::Shell(to),
        },
    };
    let dotted = matches!(placeholder, Placeholder::PlatformVar(_) | Placeholder::Step(_));
    let name = name.to_owned();
    match text.as_bytes().get(to) {
        Some(b'}') if name.ends_with('.') => Found::Bad(BadPlaceholder::Nameless { range: at..to + 1, name }),
        Some(b'}') => Found::Ours(placeholder, to + 1),
        // The user may have a shell variable called `out`; none can be called `step.x`.
        Some(b':' | b'=' | b'+' | b'?' | b'#' | b'%' | b'^' | b',' | b'@' | b'[' | b'/' | b'!') => {
            if dotted {
                Found::Bad(BadPlaceholder::Operator { range: at..to, name })
            } else {
                Found::Shell(to)
            }
        }
        _ => Found::Bad(BadPlaceholder::Unclosed { range: at..to, name }),
    }
}

impl<'t> Template<'t> {
    /// The placeholders in order, with the bytes of the text they take.
    pub fn placeholders(&self) -> impl Iterator<Item = (Placeholder<'t>, Range<usize>)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Placeholder(placeholder, range) => Some((*placeholder, range.clone())),
        })
    }

    /// The keys of `${platform.KEY}`, in order, with repeats.
    pub fn vars_used(&self) -> impl Iterator<Item = &'t str> {
        self.placeholders().filter_map(|(placeholder, _)| match placeholder {
            Placeholder::PlatformVar(key) => Some(key),
            _ => None,
        })
    }

    /// Whether it uses `${platform}` itself.
    pub fn uses_platform(&self) -> bool {
        self.placeholders().any(|(placeholder, _)| placeholder == Placeholder::Platform)
    }

    /// The names of `${step.NAME}`, in order, with repeats.
    pub fn steps_used(&self) -> impl Iterator<Item = &'t str> {
        self.placeholders().filter_map(|(placeholder, _)| match placeholder {
            Placeholder::Step(name) => Some(name),
            _ => None,
        })
    }

    /// The text with each placeholder replaced. Bytes: a folder's name may be any.
    ///
    /// # Errors
    /// The first placeholder that `lookup` does not know.
    pub fn expand<'v>(
        &self,
        mut lookup: impl FnMut(Placeholder<'t>) -> Option<Cow<'v, [u8]>>,
    ) -> Result<Vec<u8>, Placeholder<'t>> {
        let mut expanded = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => expanded.extend_from_slice(text.as_bytes()),
                Piece::Placeholder(placeholder, _) => {
                    expanded.extend_from_slice(&lookup(*placeholder).ok_or(*placeholder)?);
                }
            }
        }
        Ok(expanded)
    }
}

/// `text` with every placeholder replaced by what `value` gives. What it does not know, and what is no
/// placeholder, stays as written: the manifest has been checked by then.
pub fn expand(text: &str, value: &dyn Fn(Placeholder<'_>) -> Option<Vec<u8>>) -> Vec<u8> {
    let Ok(template) = placeholders(text) else { return text.as_bytes().to_vec() };
    let known = |placeholder: Placeholder<'_>| {
        let value = value(placeholder).unwrap_or_else(|| placeholder.to_string().into_bytes());
        Some(Cow::Owned(value))
    };
    template.expand(known).unwrap_or_else(|_| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> String {
        let template = placeholders(text).unwrap();
        let known = template.expand(|placeholder| {
            Some(match placeholder {
                Placeholder::Out => Cow::Borrowed(&b"/o"[..]),
                Placeholder::Root => Cow::Borrowed(b"/r"),
                Placeholder::Cache => Cow::Borrowed(b"/c"),
                Placeholder::Platform => Cow::Borrowed(b"linux/arm64"),
                Placeholder::PlatformVar(key) => Cow::Owned(format!("<{key}>").into_bytes()),
                Placeholder::Step(name) => Cow::Owned(format!("/s/{name}").into_bytes()),
            })
        });
        String::from_utf8(known.unwrap()).unwrap()
    }

    #[test]
    fn only_what_is_ours_is_expanded() {
        let check = |text: &str, expect: &str| assert_eq!(expand(text), expect, "{text}");
        check("", "");
        check("make DESTDIR=${out} '${root}' \"${cache}/x\"", "make DESTDIR=/o '/r' \"/c/x\"");
        check("${platform}${platform.cc}", "linux/arm64<cc>");
        check("${step.a-b_c.d}/x", "/s/a-b_c.d/x");
        for left in [
            "$HOME ${HOME} $$ $? $(ls) ${x:-y} ${#a[@]} ${out:-x} ${out%.c} ${out-x} ${outer} ${obj.prop}",
            "$${out}",
            "\\${out}",
            "${",
            "$",
            "a\\",
            "${1}",
            "${ü}",
            "${rootless",
        ] {
            check(left, left);
        }
        check("\\\\${out}", "\\\\/o");
        check("$$${out}", "$$/o");
    }

    #[test]
    fn what_starts_like_ours_and_is_not_is_named() {
        let check = |text: &str, expect: &str, part: &str| {
            let bad = placeholders(text).unwrap_err();
            assert_eq!((bad[0].to_string().as_str(), &text[bad[0].range()]), (expect, part), "{text}");
        };
        check("a ${out", "`${out` has no closing `}`", "${out");
        check("\"${out\"", "`${out` has no closing `}`", "${out");
        check("${platform.cc x", "`${platform.cc` has no closing `}`", "${platform.cc");
        check("${platform.}", "`${platform.}` names nothing after the dot", "${platform.}");
        check("${step.}", "`${step.}` names nothing after the dot", "${step.}");
        check(
            "${step.x:-y}",
            "`${step.x…}` is a placeholder of Spolia and takes no shell operators",
            "${step.x",
        );
        assert_eq!(placeholders("${out ${root ${step.}").unwrap_err().len(), 3);
    }

    #[test]
    fn says_what_it_uses() {
        let template = placeholders("${platform.cc} ${step.a} ${platform} ${platform.ar}").unwrap();
        assert_eq!(template.vars_used().collect::<Vec<_>>(), ["cc", "ar"]);
        assert_eq!(template.steps_used().collect::<Vec<_>>(), ["a"]);
        assert!(template.uses_platform());
        assert_eq!(template.expand(|_| None), Err(Placeholder::PlatformVar("cc")));
    }
}
