//! `${…}` in a manifest's text: which are Spolia's, and what becomes of them. Pure.
//!
//! Spolia expands `${out}`, `${root}`, `${cache}`, `${platform}`, `${platform.KEY}` and `${step.NAME}`.
//! Every other `$` is the shell's and stays as it is, `${HOME}` and `$${out}`'s first `$` included.

/// One placeholder of Spolia's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder<'t> {
    /// `${out}`: where outputs are written.
    Out,
    /// `${root}`: the project's folder.
    Root,
    /// `${cache}`: the folder above the step's cache mounts.
    Cache,
    /// `${platform}`: `linux/amd64`.
    Platform,
    /// `${platform.KEY}`.
    PlatformVar(&'t str),
    /// `${step.NAME}`: the outputs of a needed step.
    Step(&'t str),
}

/// A stretch of text, or a placeholder with the byte offset where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Left as it is.
    Text(&'t str),
    /// To be replaced.
    Placeholder(Placeholder<'t>, usize),
}

/// Takes `text` apart. The pieces put together again are the text.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == text.len() {
            return None;
        }
        let mut search = at;
        while let Some(found) = text[search..].find("${") {
            let start = search + found;
            let end = text[start..].find('}').map(|length| start + length);
            let inner = end.map(|end| &text[start + 2..end]);
            match (inner.and_then(placeholder), end) {
                (Some(placeholder), Some(end)) if start == at => {
                    at = end + 1;
                    return Some(Piece::Placeholder(placeholder, start));
                }
                (Some(_), _) => {
                    let piece = Piece::Text(&text[at..start]);
                    at = start;
                    return Some(piece);
                }
                _ => search = start + 2,
            }
        }
        let piece = Piece::Text(&text[at..]);
        at = text.len();
        Some(piece)
    })
}

fn placeholder(inner: &str) -> Option<Placeholder<'_>> {
    Some(match inner {
        "out" => Placeholder::Out,
        "root" => Placeholder::Root,
        "cache" => Placeholder::Cache,
        "platform" => Placeholder::Platform,
        _ => match inner.split_once('.')? {
            ("platform", key) if !key.is_empty() => Placeholder::PlatformVar(key),
            ("step", name) if !name.is_empty() => Placeholder::Step(name),
            _ => return None,
        },
    })
}

/// The placeholders in `text`.
pub fn placeholders(text: &str) -> impl Iterator<Item = Placeholder<'_>> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Placeholder(placeholder, _) => Some(placeholder),
        Piece::Text(_) => None,
    })
}

/// `text` with every placeholder replaced by what `value` gives; one it does not know stays as written.
pub fn expand(text: &str, value: &dyn Fn(Placeholder<'_>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    for piece in pieces(text) {
        let length = match piece {
            Piece::Text(plain) => {
                bytes.extend_from_slice(plain.as_bytes());
                plain.len()
            }
            Piece::Placeholder(placeholder, _) => {
                let length = rest.find('}').map_or(rest.len(), |end| end + 1);
                match value(placeholder) {
                    Some(value) => bytes.extend(value),
                    None => bytes.extend_from_slice(&rest.as_bytes()[..length]),
                }
                length
            }
        };
        rest = &rest[length..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shout(text: &str) -> String {
        let bytes = expand(text, &|placeholder| match placeholder {
            Placeholder::Out => Some(b"OUT".to_vec()),
            Placeholder::PlatformVar("cc") => Some(b"CC".to_vec()),
            Placeholder::Step(name) => Some(name.to_uppercase().into_bytes()),
            _ => None,
        });
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_ours_are_replaced() {
        let check = |text: &str, expect: &str| assert_eq!(shout(text), expect, "{text}");
        check("cp a ${out}/b", "cp a OUT/b");
        check("${platform.cc} ${step.fio-src}/x", "CC FIO-SRC/x");
        check("${HOME} $out ${out:-x} $(pwd) ${", "${HOME} $out ${out:-x} $(pwd) ${");
        check("${HOME${out}", "${HOMEOUT");
        check("${root}${out}", "${root}OUT");
        check("", "");
    }
}
