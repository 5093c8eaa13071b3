//! Depfiles: the dependency rules that compilers write for make. Pure.
//!
//! ```text
//! depfile = rule*        rule = target (" " target)* ":" (" " path)* "\n"
//! ```
//!
//! A `\` before a newline joins lines; `\ ` is a space, `\#` a `#`, `$$` a `$`; a `\` before anything else is itself.

/// The longest depfile that is read, bytes.
pub const BYTES_MAX: usize = 16 << 20;

/// The paths that the first rule names; `None` where there is none.
pub fn parse(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let start = target_end(text)? + 1;
    let mut paths = Vec::new();
    let mut path = Vec::new();
    let mut at = start;
    while at < text.len() {
        let (byte, next) = (text[at], text.get(at + 1).copied());
        match (byte, next) {
            (b'\\', Some(b'\n')) => {
                flush(&mut path, &mut paths);
                at += 1;
            }
            (b'\\', Some(escaped @ (b' ' | b'#'))) => {
                path.push(escaped);
                at += 1;
            }
            (b'$', Some(b'$')) => {
                path.push(b'$');
                at += 1;
            }
            (b' ' | b'\t' | b'\r', _) => flush(&mut path, &mut paths),
            (b'\n', _) => break,
            _ => path.push(byte),
        }
        at += 1;
    }
    flush(&mut path, &mut paths);
    Some(paths)
}

fn flush(path: &mut Vec<u8>, paths: &mut Vec<Vec<u8>>) {
    if !path.is_empty() {
        paths.push(std::mem::take(path));
    }
}

/// Where the colon after the targets stands: the first with a blank, or the end, after it.
pub fn target_end(text: &[u8]) -> Option<usize> {
    (0..text.len()).find(|at| {
        text[*at] == b':'
            && text.get(at + 1).is_none_or(|after| matches!(after, b' ' | b'\n' | b'\t' | b'\\'))
    })
}

/// A path as make wants it in a rule.
pub fn quote(path: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(path.len());
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b' ' | b'\t' => {
                // A run of backslashes before a blank is doubled.
                let run = path[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                quoted.extend(std::iter::repeat_n(b'\\', run + 1));
            }
            b'$' => quoted.push(b'$'),
            b'#' => quoted.push(b'\\'),
            _ => {}
        }
        quoted.push(*byte);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_gcc_and_clang_are_read() {
        let check = |text: &str, expect: &[&str]| {
            let paths = parse(text.as_bytes()).unwrap();
            let paths: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
            assert_eq!(paths, expect, "{text}");
        };
        check("a.o: a.c /usr/include/stdio.h \\\n b.h\n", &["a.c", "/usr/include/stdio.h", "b.h"]);
        check("a.o: a\\ b.c x$$y.h z\\#.h\n\nb.h:\n", &["a b.c", "x$y.h", "z#.h"]);
        check("a.o b.o: \\\n  a.c \\\n  c\\d.h\n", &["a.c", "c\\d.h"]);
        check("c:/x.o: a.c", &["a.c"]);
        check("x.o:", &[]);
        assert_eq!(parse(b"no rule"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn quoting_round_trips() {
        for path in ["a b", "a$b", "#x", "plain", "a:b"] {
            let text = [b"t: ".as_slice(), &quote(path.as_bytes()), b"\n"].concat();
            assert_eq!(parse(&text), Some(vec![path.as_bytes().to_vec()]), "{path}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..2000 {
            let mut text = b"a.o: b.c \\\n $$ \\# c.h\n".to_vec();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % text.len();
                text[at] = (state >> 32) as u8;
            }
            let _parsed = parse(&text);
        }
    }
}
