//! Numbers of measurements in a few words.

use crate::painter::words;

/// `83.4 ms`, `4.21 s`, `3m 07s`: with more digits than a build's own lines, as figures are compared.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 999_500.0 => format!("{} ms", three(us / 1000.0)),
        us if us < 60_000_000.0 => format!("{} s", three(us / 1_000_000.0)),
        us => words::duration(us as u64),
    }
}

/// Three digits that count.
fn three(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// [`time`] of what may not have been observed.
pub(crate) fn time_or(us: Option<u64>) -> String {
    us.map_or_else(|| "not observed".to_owned(), |us| time(us as f64))
}

/// A size that may not have been observed.
pub(crate) fn size_or(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "not observed".to_owned(), words::size)
}

/// `2026-11-21 14:44`.
pub(crate) fn date(us: u64) -> String {
    spolia_perf::record::rfc3339(us)[..16].replace('T', " ")
}

/// Columns with two spaces between; those in `right` are right-aligned. Widths are those of the screen.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    use unicode_width::UnicodeWidthStr as _;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column].saturating_sub(cell.width()));
            let gap = if column == 0 { "" } else { "  " };
            if right.contains(&column) {
                line.push_str(&format!("{gap}{space}{cell}"));
            } else {
                line.push_str(&format!("{gap}{cell}{space}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_that_count() {
        let check = |us: f64, expect: &str| assert_eq!(time(us), expect);
        check(83.0, "83 µs");
        check(1234.0, "1.23 ms");
        check(83_400.0, "83.4 ms");
        check(999_400.0, "999 ms");
        check(999_600.0, "1.00 s");
        check(4_210_000.0, "4.21 s");
        check(187_000_000.0, "3m 07s");
    }

    #[test]
    fn tables_are_aligned_by_width() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["µµµ".to_owned(), "22".to_owned()]];
        assert_eq!(table(&rows, &[1]), "a     1\nµµµ  22\n");
    }
}
