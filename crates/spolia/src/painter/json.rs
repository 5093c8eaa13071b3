//! One line of JSON for each event, as in the journal, with what steps print.

use spolia_core::Event;

use super::Painter;
use crate::shell::Shell;

pub(crate) struct Json<'s> {
    shell: &'s Shell,
}

impl<'s> Json<'s> {
    pub(crate) fn new(shell: &'s Shell) -> Self {
        Self { shell }
    }
}

impl Painter for Json<'_> {
    fn paint(&mut self, event: &Event) {
        self.shell.json_line(event);
    }
}
