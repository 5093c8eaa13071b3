//! One line of JSON for each event, as in the journal, with what steps print.

use spolia_core::Event;

use super::Painter;
use crate::shell::Shell;

pub(crate) struct Json {
    shell: Shell,
}

impl Json {
    pub(crate) fn new(shell: &Shell) -> Self {
        Self { shell: shell.clone() }
    }
}

impl Painter for Json {
    fn paint(&mut self, event: &Event) {
        self.shell.json_line(event);
    }
}
