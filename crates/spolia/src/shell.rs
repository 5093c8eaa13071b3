//! The only printer. Data goes to stdout, talk to stderr.

use std::io::{IsTerminal, Write};

use spolia_core::diagnostic::{self, Diagnostic};

use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// Prints, for a person or for a program. Each call is written whole, whichever thread it comes from.
#[derive(Clone)]
pub(crate) struct Shell {
    json: bool,
    quiet: bool,
    color: bool,
    /// Takes the talk instead of stderr.
    #[cfg(test)]
    heard: Option<std::sync::Arc<std::sync::Mutex<String>>>,
}

/// A terminal's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// What a line is coloured as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Plain,
    Warning,
    Error,
    Dim,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "\x1b[1;32m",
            Self::Plain => "\x1b[1m",
            Self::Warning => "\x1b[1;33m",
            Self::Error => "\x1b[1;31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

impl Shell {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            json: settings.json,
            quiet: settings.quiet,
            color: settings.color,
            #[cfg(test)]
            heard: None,
        }
    }

    /// One that keeps what it is told to say.
    #[cfg(test)]
    pub(crate) fn for_test(quiet: bool, color: bool) -> Self {
        Self { json: false, quiet, color, heard: Some(std::sync::Arc::default()) }
    }

    /// What was said since the last call.
    #[cfg(test)]
    pub(crate) fn heard(&self) -> String {
        std::mem::take(&mut self.heard.as_ref().expect("made by for_test").lock().expect("no panic"))
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn is_coloured(&self) -> bool {
        self.color
    }

    /// The size of the terminal that is talked to, as it is now; 80 by 24 where that is not known.
    pub(crate) fn size(&self) -> Size {
        let known = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
        let known = known.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        known.map_or(Size { columns: 80, rows: 24 }, |size| Size {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        })
    }

    /// Whether somebody may be reading what is said.
    pub(crate) fn talks_to_a_terminal(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    fn style(&self) -> diagnostic::Style {
        if self.color { diagnostic::Style::Colour } else { diagnostic::Style::Plain }
    }

    /// `text` in a tone, where colour is on.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if self.color { format!("{}{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }

    /// Data, as it is. A closed pipe is the reader's choice, not an error.
    pub(crate) fn out(&self, text: &str) {
        self.out_bytes(text.as_bytes());
    }

    /// Data that need not be text.
    pub(crate) fn out_bytes(&self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        let _closed = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// Data as one line of JSON.
    pub(crate) fn json_line(&self, value: &impl serde::Serialize) {
        if let Ok(mut line) = serde_json::to_string(value) {
            line.push('\n');
            self.out(&line);
        }
    }

    /// As [`Self::json_line`], for a value whose text is large: it is written as it is made.
    pub(crate) fn json_stream(&self, value: &impl serde::Serialize) {
        let mut chunks = Chunks { shell: self, text: Vec::with_capacity(CHUNK_BYTES) };
        // Where a value cannot be written as JSON, what came before is there, and no whole line.
        let _done = serde_json::to_writer(&mut chunks, value);
        let _sent = chunks.flush();
        self.out("\n");
    }

    /// Talk, as it is.
    pub(crate) fn err(&self, text: &str) {
        #[cfg(test)]
        if let Some(heard) = &self.heard {
            heard.lock().expect("no panic").push_str(text);
            return;
        }
        self.err_bytes(text.as_bytes());
    }

    /// Talk that need not be text.
    pub(crate) fn err_bytes(&self, bytes: &[u8]) {
        let _closed = std::io::stderr().lock().write_all(bytes);
    }

    /// One right-aligned verb and what it was done to. Not when quiet.
    pub(crate) fn status(&self, tone: Tone, verb: &str, what: &str) {
        if !self.quiet && !self.json {
            self.err(&format!("{}\n", self.status_line(tone, verb, what)));
        }
    }

    pub(crate) fn status_line(&self, tone: Tone, verb: &str, what: &str) -> String {
        format!("{} {what}", self.paint(tone, &format!("{verb:>10}")))
    }

    /// A warning, with what to do.
    pub(crate) fn warning(&self, message: &str, hints: &[String]) {
        self.err(&self.spoken(Tone::Warning, "warning", message, hints));
    }

    pub(crate) fn spoken(&self, tone: Tone, word: &str, message: &str, hints: &[String]) -> String {
        let mut text = format!("{}: {message}\n", self.paint(tone, word));
        for hint in hints {
            text.push_str(&format!("{}: {hint}\n", self.paint(Tone::Plain, "hint")));
        }
        text
    }

    /// Mistakes in files.
    pub(crate) fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        if self.json {
            for diagnostic in diagnostics {
                self.json_line(diagnostic);
            }
        } else {
            self.err(&diagnostic::render_all(diagnostics, self.style()));
        }
    }

    /// Why the command ends early.
    pub(crate) fn error(&self, failure: &Failure) {
        self.diagnostics(&failure.diagnostics);
        if failure.message.is_empty() {
            return;
        }
        if self.json {
            self.json_line(&serde_json::json!({
                "kind": "error",
                "message": failure.message,
                "hints": failure.hints,
                "exit_code": failure.exit.code(),
            }));
            return;
        }
        self.err(&self.spoken(Tone::Error, "error", &failure.message, &failure.hints));
        if failure.exit == Exit::Internal {
            self.err("hint: this is a bug of spolia's; please report it with the lines above\n");
        }
    }
}

/// What a compiler printed, as it is and unbuffered. A closed pipe is the reader's choice.
pub(crate) fn pass_on(stream: spolia_core::result::Stream, bytes: &[u8]) {
    let _closed = match stream {
        spolia_core::result::Stream::Stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        spolia_core::result::Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

/// One line of talk where there is no shell yet.
pub(crate) fn complain(line: &str) {
    let _closed = std::io::stderr().lock().write_all(format!("spolia: {line}\n").as_bytes());
}

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Hands what is written on in chunks.
struct Chunks<'s> {
    shell: &'s Shell,
    text: Vec<u8>,
}

impl std::io::Write for Chunks<'_> {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + part.len() > CHUNK_BYTES {
            self.flush()?;
        }
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.shell.out_bytes(&self.text);
        self.text.clear();
        Ok(())
    }
}
