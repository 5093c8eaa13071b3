//! The manifest here → its `[perf.thresholds]`, with the mistakes of the whole manifest.

use spolia_core::{Diagnostic, RelPath};
use spolia_perf::manifest::{Conf, Context, Thresholds, parse};

use super::Perf;
use crate::exit::{Exit, Failure};
use crate::project::{self, Project};

/// The thresholds, and what is to be said about the manifest; `None` where there is none.
pub(super) struct Found {
    pub(super) conf: Conf,
    pub(super) warnings: Vec<Diagnostic>,
}

/// The thresholds for a command that is about something else: mistakes are only mentioned.
pub(super) fn thresholds_or_warn(perf: &Perf<'_>) -> Vec<Thresholds> {
    match thresholds(perf) {
        Ok(found) => found.map(|found| found.conf.thresholds).unwrap_or_default(),
        Err(_) => {
            if !perf.shell.is_quiet() {
                let hint = "`spolia perf check` says which".to_owned();
                perf.shell.warning("the thresholds are left out: the manifest has mistakes", &[hint]);
            }
            Vec::new()
        }
    }
}

/// Reads them.
///
/// # Errors
/// Every mistake in the manifest.
pub(super) fn thresholds(perf: &Perf<'_>) -> Result<Option<Found>, Failure> {
    let (root, name) = match project::find(perf.settings) {
        Ok(found) => found,
        Err(failure) if perf.settings.manifest.is_some() => return Err(failure),
        Err(_) => return Ok(None),
    };
    let text = std::fs::read_to_string(root.join(&name)).unwrap_or_default();
    let file = RelPath::new(&name).unwrap_or_else(|_| RelPath::root());
    let project = Project::inspect(root, &name, None);
    let manifest = project.as_ref().ok().map(|(project, _)| &project.manifest);
    let context = Context {
        steps: manifest.map(|all| all.steps.iter().map(|step| step.name.as_str()).collect()),
        platforms: manifest.map(|all| all.platforms.as_slice()),
    };
    match (parse(file, &text, &context), project) {
        (Ok(mut conf), Ok((_, mut warnings))) => {
            warnings.append(&mut conf.warnings);
            Ok(Some(Found { conf, warnings }))
        }
        (Ok(_), Err(failure)) => Err(failure),
        (Err(more), Ok((_, mut diagnostics))) => {
            diagnostics.extend(more);
            diagnostics.sort_by_key(|one| one.severity == spolia_core::diagnostic::Severity::Error);
            Err(Failure { exit: Exit::Usage, message: String::new(), hints: Vec::new(), diagnostics })
        }
        (Err(more), Err(mut failure)) => {
            failure.diagnostics.extend(more);
            Err(failure)
        }
    }
}
