//! Depfiles: the dependency rules that compilers write for make. Pure.
//!
//! ```text
//! depfile = rule*        rule = target (" " target)* ":" (" " path)* "\n"
//! packed  = ["\0target" where the target is the output] the rest, with "\0root" for the root's path
//! ```
//!
//! A `\` before a newline joins lines; `\ ` is a space, `\#` a `#`, `$$` a `$`; a `\` before anything else is itself.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::site::{hide, replace};

/// Stands for the output's name; no path holds a zero.
const TARGET: &[u8] = b"\0target";
/// Stands for the root's path.
const ROOT: &[u8] = b"\0root";
/// Where the colon after the targets stands: the first with a blank, or the end, after it.
pub fn target_end(text: &[u8]) -> Option<usize> {
    (0..text.len()).find(|at| {
        text[*at] == b':'
            && text.get(at + 1).is_none_or(|after| matches!(after, b' ' | b'\n' | b'\t' | b'\\'))
    })
}

/// A depfile as any checkout may read it: without the output's name where that is the target, and without the root's
/// path.
pub fn pack(text: &[u8], output: &[u8], root: Option<&Path>) -> Vec<u8> {
    let rest = target_end(text).filter(|end| text[..*end] == *quote(output)).map(|end| &text[end..]);
    let (mark, rest) = match rest {
        Some(rest) => (TARGET, rest),
        None => (&b""[..], text),
    };
    let root = root.map(|root| root.as_os_str().as_bytes()).unwrap_or_default();
    // Where it stands in the middle of a word it is not the root's: targets may be anything.
    [mark, &hide(rest, root, ROOT).text].concat()
}

/// What [`pack`] made, for this output and this root.
pub fn unpack(packed: &[u8], output: &[u8], root: Option<&Path>) -> Vec<u8> {
    let (target, rest) = match packed.strip_prefix(TARGET) {
        Some(rest) => (quote(output), rest),
        None => (Vec::new(), packed),
    };
    let root = root.map(|root| root.as_os_str().as_bytes()).unwrap_or_default();
    let rest = replace(rest, ROOT, root).unwrap_or_else(|| rest.to_vec());
    [target, rest].concat()
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
    fn names_are_quoted_as_the_compilers_do() {
        let check = |name: &str, expect: &str| {
            assert_eq!(String::from_utf8_lossy(&quote(name.as_bytes())), expect, "{name}");
        };
        check("a b$c#d", "a\\ b$$c\\#d");
        check("a\\ b", "a\\\\\\ b");
        check("plain/a:b", "plain/a:b");
    }

    #[test]
    fn a_rule_names_the_checkout_and_the_output_that_it_is_unpacked_for() {
        let (here, there) = (Some(Path::new("/a/p")), Some(Path::new("/b/q")));
        let check = |text: &str, expect: &str| {
            let packed = pack(text.as_bytes(), b"x y.o", here);
            assert_eq!(unpack(&packed, b"x y.o", here), text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&unpack(&packed, b"z.o", there)), expect);
        };
        check("x\\ y.o: /a/p/x.c \\\n /a/p/h.h\n", "z.o: /b/q/x.c \\\n /b/q/h.h\n");
        check("other: /a/p/x.c\n", "other: /b/q/x.c\n");
        // What lies beside the checkout and begins with its name.
        check("x\\ y.o: /a/p/x.c /a/p-deps/h.h /x/a/p/h.h\n", "z.o: /b/q/x.c /a/p-deps/h.h /x/a/p/h.h\n");
    }

    #[test]
    fn any_text_is_unpacked_as_it_was_packed() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..2000 {
            let mut text = b"x.o: b.c \\\n $$ /a/p/y /a/p \\# c.h\n".to_vec();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % text.len();
                text[at] = ((state >> 32) as u8).max(1);
            }
            let root = Some(Path::new("/a/p"));
            assert_eq!(unpack(&pack(&text, b"x.o", root), b"x.o", root), text);
        }
    }
}
