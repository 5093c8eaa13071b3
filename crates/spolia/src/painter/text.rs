//! What steps print, made fit to be shown among our own lines. Knows no steps.
//!
//! A step may print anything. Shown raw, an escape sequence could move the cursor out of a display that is
//! being redrawn, clear the screen or set the window's title. Colours are harmless and stay where colour
//! is on; everything else that is no text is taken out or shown as `^G`. The exact bytes are in the log
//! that the store keeps, and under `--json`.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a character is no text: a control, or one that turns the direction of what follows.
fn is_wild(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line of a step's output without its newline, tame: what a terminal would show of it.
pub(crate) fn tame(line: &str, colour: bool) -> Cow<'_, str> {
    if !line.chars().any(is_wild) {
        return Cow::Borrowed(line);
    }
    // A carriage return begins the line anew: the last of a progress counter is what is seen.
    let seen = line.rsplit('\r').find(|piece| !piece.is_empty()).unwrap_or("");
    let mut tamed = String::with_capacity(seen.len());
    let mut rest = seen.chars();
    let mut coloured = false;
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                let (sequence, after) = escape_sequence(rest.as_str());
                rest = after.chars();
                if colour && is_colour(sequence) {
                    coloured = true;
                    tamed.push('\x1b');
                    tamed.push_str(sequence);
                }
            }
            c if !is_wild(c) => tamed.push(c),
            c if c < ' ' => tamed.extend(['^', char::from(c as u8 + b'@')]),
            '\x7f' => tamed.push_str("^?"),
            _ => tamed.push(char::REPLACEMENT_CHARACTER),
        }
    }
    if coloured {
        tamed.push_str("\x1b[0m");
    }
    Cow::Owned(tamed)
}

/// Several lines, each tame, each with its newline.
pub(crate) fn tame_lines(text: &str, colour: bool) -> String {
    let mut tamed = String::with_capacity(text.len() + 1);
    for line in text.lines() {
        tamed.push_str(&tame(line, colour));
        tamed.push('\n');
    }
    tamed
}

/// The sequence that an escape character begins, and what follows it. Source: ECMA-48, 5.4 and 5.6.
fn escape_sequence(after_escape: &str) -> (&str, &str) {
    let mut chars = after_escape.char_indices();
    let end = match chars.next() {
        Some((_, '[')) => chars.find(|(_, c)| ('\x40'..='\x7e').contains(c)).map(|(at, c)| at + c.len_utf8()),
        // Strings for the terminal itself, up to BEL or ESC \.
        Some((_, ']' | 'P' | 'X' | '^' | '_')) => {
            let bell = after_escape.find('\x07').map(|at| at + 1);
            let terminator = after_escape.find("\x1b\\").map(|at| at + 2);
            bell.into_iter().chain(terminator).min()
        }
        Some((_, c @ ' '..='/')) => chars
            .find(|(_, c)| !(' '..='/').contains(c))
            .map(|(at, last)| at + last.len_utf8())
            .or(Some(c.len_utf8())),
        Some((_, c)) => Some(c.len_utf8()),
        None => None,
    };
    // One that does not end takes the rest of the line with it, as it would on a terminal.
    after_escape.split_at(end.unwrap_or(after_escape.len()))
}

fn is_colour(sequence: &str) -> bool {
    let parameters = sequence.strip_prefix('[').and_then(|rest| rest.strip_suffix('m'));
    parameters.is_some_and(|all| all.bytes().all(|b| b.is_ascii_digit() || matches!(b, b';' | b':')))
}

/// Cells that a text takes on a terminal, for text without controls.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The start of a text that fits in so many cells, with an ellipsis where something is missing. Tabs
/// become one space.
pub(crate) fn cut(text: &str, cells: usize) -> String {
    let mut fits = String::new();
    let mut used = 0;
    // Where the ellipsis would go: the last place that leaves a cell for it.
    let mut ellipsis_at = 0;
    for c in text.chars() {
        let c = if c == '\t' { ' ' } else { c };
        let wide = c.width().unwrap_or(0);
        if used + wide > cells {
            fits.truncate(ellipsis_at);
            if cells > 0 {
                fits.push('…');
            }
            return fits;
        }
        used += wide;
        fits.push(c);
        if used < cells {
            ellipsis_at = fits.len();
        }
    }
    fits
}

/// `text` in exactly so many cells: cut, or followed by spaces.
pub(crate) fn fill(text: &str, cells: usize) -> String {
    let mut filled = cut(text, cells);
    filled.extend(std::iter::repeat_n(' ', cells.saturating_sub(width(&filled))));
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wild_output_is_tamed() {
        let check = |line: &str, plain: &str, coloured: &str| {
            assert_eq!(tame(line, false), plain, "{line:?} without colour");
            assert_eq!(tame(line, true), coloured, "{line:?} with colour");
        };
        check("as it is\tö 漢", "as it is\tö 漢", "as it is\tö 漢");
        check("\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m\x1b[0m");
        check("\x1b[38:5:1mred", "red", "\x1b[38:5:1mred\x1b[0m");
        check("a\x1b[2Jb\x1b[10;10Hc\x1b[?25ld", "abcd", "abcd");
        check("a\x1b]0;title\x07b\x1b]8;;x:\x1b\\c", "abc", "abc");
        check("a\x1b(Bb\x1bcc", "abc", "abc");
        check("cut \x1b[31", "cut ", "cut ");
        check("a\x1b", "a", "a");
        check("\x1b ", "", "");
        check("10%\r20%\r", "20%", "20%");
        check("\r", "", "");
        check("\x07\x00\x7f\u{9b}2J", "^G^@^?\u{fffd}2J", "^G^@^?\u{fffd}2J");
        check("\u{202e}abc", "\u{fffd}abc", "\u{fffd}abc");
        check("\x1b漢", "", "");
        assert_eq!(tame_lines("a\r\n\x1b[Ab", false), "a\nb\n");
    }

    #[test]
    fn what_is_cut_fits() {
        let check = |text: &str, cells: usize, expect: &str| {
            let is = cut(text, cells);
            assert_eq!(is, expect, "{text:?} in {cells}");
            assert!(width(&is) <= cells);
        };
        check("abc", 3, "abc");
        check("abcd", 3, "ab…");
        check("abcd", 1, "…");
        check("abcd", 0, "");
        check("漢字", 4, "漢字");
        check("漢字", 3, "漢…");
        check("漢字", 2, "…");
        check("a\tb", 3, "a b");
        check("", 0, "");
        assert_eq!(fill("漢字", 3), "漢…");
        assert_eq!(fill("漢字", 2), "… ");
        assert_eq!(fill("a", 3), "a  ");
    }
}
