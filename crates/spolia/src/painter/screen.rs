//! Redraws the last lines of a terminal. Knows no builds.
//!
//! Every frame is one write: up to where the last one began, each line over the old one, the rest cleared,
//! so that nothing is blank in between. Between frames the cursor is at the start of the row below, seen and
//! in its usual shape; a process that is killed leaves a terminal that needs no repair.
//!
//! Lines are counted with the width of now, not of when they were drawn: a terminal that was made narrower
//! has wrapped them. `indicatif` was tried and leaves parts of old frames behind then; it also fills the
//! lines that stay with spaces up to the width.

use super::frame::Line;
use crate::shell::Shell;

pub(crate) struct Screen {
    shell: Shell,
    /// Widths of the lines that are there, in cells.
    drawn: Vec<usize>,
    /// What they look like.
    last: String,
}

impl Screen {
    pub(crate) fn new(shell: &Shell) -> Self {
        Self { shell: shell.clone(), drawn: Vec::new(), last: String::new() }
    }

    /// Writes lines that stay, and below them `frame` instead of what was there.
    pub(crate) fn draw(&mut self, above: &str, frame: &[Line]) {
        let mut body = String::new();
        for line in frame {
            if !line.verb.is_empty() {
                body.push_str(&self.shell.paint(line.tone, &line.verb));
            }
            body.push_str(&line.rest);
            body.push_str("\x1b[K\n");
        }
        let columns = self.shell.size().columns;
        let wrapped = self.drawn.iter().any(|width| *width >= columns);
        if above.is_empty() && body == self.last && !wrapped {
            return;
        }
        let mut bytes = self.back(columns);
        if !bytes.is_empty() && (!above.is_empty() || frame.is_empty()) {
            bytes.push_str("\x1b[J");
        }
        bytes.push_str(above);
        bytes.push_str(&body);
        if wrapped || frame.len() < self.drawn.len() && !frame.is_empty() {
            bytes.push_str("\x1b[J");
        }
        self.shell.err(&bytes);
        self.drawn = frame.iter().map(Line::width).collect();
        self.last = body;
    }

    /// Writes lines that stay; what was drawn is kept below them.
    pub(crate) fn above(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut bytes = self.back(self.shell.size().columns);
        if !bytes.is_empty() {
            bytes.push_str("\x1b[J");
        }
        bytes.push_str(text);
        bytes.push_str(&self.last);
        self.shell.err(&bytes);
    }

    /// To the start of what is drawn.
    fn back(&self, columns: usize) -> String {
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r") }
    }
}
