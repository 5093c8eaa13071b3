//! Events in, something to look at out. Knows no build.

mod json;
mod plain;
pub(crate) mod words;

use spolia_core::Event;

use crate::settings::Settings;
use crate::shell::Shell;

/// Shows events.
pub(crate) trait Painter: Send {
    /// Shows one.
    fn paint(&mut self, event: &Event);
    /// Leaves the terminal as it was.
    fn close(&mut self) {}
}

/// The painter for these settings.
pub(crate) fn choose<'s>(settings: &Settings, shell: &'s Shell) -> Box<dyn Painter + 's> {
    if settings.json {
        Box::new(json::Json::new(shell))
    } else {
        Box::new(plain::Plain::new(shell, settings))
    }
}
