//! `Board + time + size → the lines of one frame`. Pure.
//!
//! ```text
//!    running fio (linux/arm64)     12.3 s  CC fio.o
//!  restoring zstd (linux/amd64)     0.2 s
//!          … and 5 more
//!   building 12/40: 3 ran, 1 restored, 8 up to date in 14.2 s; 4.0 MiB restored
//! ```
//!
//! Where that does not fit: names and times only.

use super::board::{Board, Running};
use super::{text, words};
use crate::shell::{Size, Tone};

/// The most steps that are shown, whatever the terminal's height.
const STEPS_MAX: usize = 20;
/// From so many columns on there are verbs and output.
const WIDE_COLUMNS: usize = 50;
/// Cells of a verb, as in the lines that stay.
const VERB_CELLS: usize = 10;

/// One line of the display: no controls, never wider than the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tone: Tone,
    /// Right-aligned, coloured; may be empty.
    pub(crate) verb: String,
    pub(crate) rest: String,
}

impl Line {
    /// In at most `cells`.
    fn new(tone: Tone, verb: &str, rest: &str, cells: usize) -> Self {
        if verb.is_empty() {
            return Self { tone, verb: String::new(), rest: text::cut(rest, cells) };
        }
        let rest = text::cut(rest, cells.saturating_sub(VERB_CELLS + 1));
        Self { tone, verb: format!("{verb:>VERB_CELLS$}"), rest: format!(" {rest}") }
    }

    /// Cells it takes.
    pub(crate) fn width(&self) -> usize {
        text::width(&self.verb) + text::width(&self.rest)
    }
}

/// What is to be seen now.
pub(crate) fn lines(board: &Board, now_us: u64, size: Size) -> Vec<Line> {
    // The last column stays free: a terminal is of two minds about a line that ends in it.
    let cells = size.columns.saturating_sub(1);
    let wide = size.columns >= WIDE_COLUMNS;
    // A row for the counts, one for the cursor.
    let rows = size.rows.saturating_sub(2).min(STEPS_MAX);
    let all = &board.running;
    let shown = if all.len() <= rows { all.len() } else { rows.saturating_sub(1) };
    let (steps, hidden) = all.split_at(shown);
    let names: Vec<String> = steps.iter().map(|step| step.id.to_string()).collect();
    let longest = names.iter().map(|name| text::width(name)).max().unwrap_or(0);
    let mut lines: Vec<Line> = steps
        .iter()
        .zip(&names)
        .map(|(step, name)| {
            let elapsed = words::elapsed(now_us.saturating_sub(step.since_us));
            if wide { wide_line(step, name, longest, &elapsed, cells) } else { narrow(name, &elapsed, cells) }
        })
        .collect();
    if !hidden.is_empty() && rows > 0 {
        let more = format!("and {} more", hidden.len());
        lines.push(if wide {
            Line::new(Tone::Dim, "…", &more, cells)
        } else {
            Line::new(Tone::Dim, "", &format!("… {more}"), cells)
        });
    }
    lines.push(counts(board, now_us, wide, cells));
    lines
}

fn wide_line(step: &Running, name: &str, longest: usize, elapsed: &str, cells: usize) -> Line {
    let verb = if step.why.is_some() { "running" } else { "restoring" };
    let name = text::fill(name, longest.min(cells * 2 / 5));
    let printed = text::tame(step.output.last_line(), false);
    let doing = if printed.is_empty() { step.why.as_deref().unwrap_or("") } else { &printed };
    let rest = format!("{name}  {elapsed:>7}  {}", doing.trim());
    Line::new(Tone::Plain, verb, rest.trim_end(), cells)
}

fn narrow(name: &str, elapsed: &str, cells: usize) -> Line {
    let room = cells.saturating_sub(elapsed.len() + 1);
    let rest = if room < 4 { name.to_owned() } else { format!("{} {elapsed}", text::fill(name, room)) };
    Line::new(Tone::Plain, "", &rest, cells)
}

fn counts(board: &Board, now_us: u64, wide: bool, cells: usize) -> Line {
    let (tone, verb) = if board.stopping {
        (Tone::Warning, "stopping")
    } else if board.counts.failed > 0 {
        (Tone::Error, "building")
    } else {
        (Tone::Good, "building")
    };
    let elapsed = words::elapsed(now_us.saturating_sub(board.began_us));
    let so_far = format!("{}/{}", board.done(), board.total);
    if !wide {
        return Line::new(tone, "", &format!("{so_far} {elapsed}"), cells);
    }
    let counts = words::counts(&board.counts);
    let counts = if counts.is_empty() { String::new() } else { format!(": {counts}") };
    let restored = match board.counts.restored_bytes {
        0 => String::new(),
        bytes => format!("; {} restored", words::size(bytes)),
    };
    Line::new(tone, verb, &format!("{so_far}{counts} in {elapsed}{restored}"), cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::event::{EventKind, StepId, StepOutcome, Tier};
    use spolia_core::result::Stream;
    use spolia_core::{ActionKey, Cost, Digest, MissReason, Platform};

    fn id(step: &str) -> StepId {
        StepId { step: step.to_owned(), platform: Platform::Any }
    }

    fn board(running: usize) -> Board {
        let mut board = Board::default();
        board.total = 40;
        board.began_us = 1_000_000;
        let tier = Tier::Local;
        let saved = Cost::default();
        let outcome = StepOutcome::Hit { tier, saved, restored_files: 1, restored_bytes: 4 << 20 };
        board.see(2_000_000, &EventKind::StepFinished { id: id("done"), key: None, outcome });
        for number in 0..running {
            let step = id(&format!("step-{number}"));
            let key = ActionKey(Digest::blake3(b""));
            let miss = (number != 1).then_some(MissReason::NeverRun);
            let at_us = 3_000_000 + number as u64 * 100_000;
            board.see(at_us, &EventKind::StepStarted { id: step.clone(), key, miss, needs: Vec::new() });
            if number == 2 {
                let text = "CC one.o\n\x1b[31mCC \ttwo.o\x07\n\n".to_owned();
                let stream = Stream::Stdout;
                board.see(at_us, &EventKind::StepOutput { id: step, stream, text });
            }
        }
        board
    }

    fn drawn(board: &Board, columns: usize, rows: usize) -> String {
        let lines = lines(board, 70_000_000, Size { columns, rows });
        for line in &lines {
            assert!(line.width() < columns.max(1), "{line:?} in {columns}");
        }
        assert!(lines.len() < rows.max(2), "{} lines in {rows}", lines.len());
        lines.iter().map(|line| format!("{}{}\n", line.verb, line.rest)).collect()
    }

    #[test]
    fn a_wide_terminal_shows_all_and_a_low_one_says_how_many_more() {
        assert_eq!(
            drawn(&board(3), 80, 24),
            "   running step-0   1m 07s  never run here\n \
             restoring step-1   1m 06s\n   \
             running step-2   1m 06s  CC  two.o^G\n  \
             building 1/40: 1 restored in 1m 09s; 4.0 MiB restored\n"
        );
        assert_eq!(
            drawn(&board(9), 80, 5),
            "   running step-0   1m 07s  never run here\n \
             restoring step-1   1m 06s\n         \
             … and 7 more\n  \
             building 1/40: 1 restored in 1m 09s; 4.0 MiB restored\n"
        );
        assert_eq!(drawn(&board(1000), 80, 100).lines().count(), STEPS_MAX + 1);
    }

    #[test]
    fn a_narrow_terminal_shows_names_and_times() {
        assert_eq!(
            drawn(&board(9), 20, 5),
            "step-0       1m 07s\nstep-1       1m 06s\n… and 7 more\n1/40 1m 09s\n"
        );
        assert_eq!(drawn(&board(1), 8, 5), "step-0\n1/40 1…\n");
        for columns in 1..60 {
            for rows in 1..8 {
                drawn(&board(3), columns, rows);
            }
        }
    }
}
