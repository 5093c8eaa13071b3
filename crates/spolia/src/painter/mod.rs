//! Events in, something to look at out. Knows no build.
//!
//! | painter | when | where |
//! |---|---|---|
//! | `fancy` | a terminal | stderr, redrawn |
//! | `github` | under GitHub Actions | stderr, with workflow commands |
//! | `plain` | anything else | stderr |
//! | `json` | `--json` | stdout |

mod board;
mod fancy;
mod frame;
mod github;
mod json;
mod plain;
mod report;
mod screen;
mod text;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use spolia_core::Event;

use crate::settings::Settings;
use crate::shell::Shell;

/// Where each step is defined: file and line, by the step's name.
pub(crate) type Definitions = BTreeMap<String, (String, u32)>;

/// Shows events.
pub(crate) trait Painter: Send {
    /// Shows one.
    fn paint(&mut self, event: &Event);
    /// How long after an event or a tick it wants the next tick; `None` while nothing changes by itself.
    fn pace(&self) -> Option<Duration> {
        None
    }
    /// Shows that time has passed; `now_us` is by the clock of the events.
    fn tick(&mut self, _now_us: u64) {}
    /// Shows that the user asked for the end. Called at most once.
    fn stopping(&mut self) {}
    /// Learns where steps are defined.
    fn locate(&mut self, _definitions: Definitions) {}
    /// Leaves the terminal as it was.
    fn close(&mut self) {}
}

/// The painter for these settings.
pub(crate) fn choose(settings: &Settings, shell: &Shell) -> Box<dyn Painter> {
    if settings.json {
        Box::new(json::Json::new(shell))
    } else if settings.fancy {
        Box::new(fancy::Fancy::new(shell, settings.verbose))
    } else if settings.github {
        Box::new(github::Github::new(shell, settings))
    } else {
        Box::new(plain::Plain::new(shell, settings.verbose))
    }
}
