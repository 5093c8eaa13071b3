//! `spolia perf report` and `perf trace`: what was measured, drawn and for other programs.

use spolia_perf::history::{Row, RowFilter};
use spolia_perf::record::Record;
use spolia_perf::report::{self, Report};
use spolia_perf::trace::{chrome, otlp};

use super::monitor::write_text;
use super::{Perf, failure, operand};
use crate::cli::perf::{ReportArgs, TraceArgs, TraceFormat};
use crate::exit::{Exit, Failure};
use crate::recorder::now_us;
use crate::shell::Tone;

/// Builds over which steps are added up.
const BUILDS_MAX: usize = 200;
/// Steps in that table.
const STEPS_MAX: usize = 15;

/// Runs `perf report`.
pub(crate) fn run(args: &ReportArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let index = perf.index()?;
    let root = perf.root_text();
    let or_fail = |error| failure(&error);
    let rows =
        index.rows(&RowFilter { root: Some(root.clone()), ..RowFilter::default() }).map_err(or_fail)?;
    let build = match &args.what {
        Some(what) => operand::records(what, perf)?.into_iter().find(|record| !record.steps.is_empty()),
        None => newest_build(perf, &rows)?,
    };
    let name =
        perf.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| root.clone());
    let baselines = index.baselines(Some(&root)).map_err(or_fail)?;
    let steps = index.steps(Some(&root), BUILDS_MAX, STEPS_MAX).map_err(or_fail)?;
    let report = Report::gather(name, now_us(), build, &rows, &baselines, steps);
    let ending = args.output.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let text = match ending {
        "html" | "htm" => report::html(&report),
        "md" | "markdown" => report::markdown(&report),
        "svg" => report::svg(&report).ok_or_else(|| {
            Failure::usage("there is no build with steps that ran: there is nothing to draw")
                .hint("`spolia perf monitor` measures one")
        })?,
        _ => {
            let message = format!("`{}` does not say what is to be written", args.output.display());
            return Err(Failure::usage(message).hint("its name must end with `.html`, `.svg` or `.md`"));
        }
    };
    let path = perf.settings.cwd.join(&args.output);
    write_text(&path, &text)?;
    if perf.settings.json {
        perf.shell
            .json_line(&serde_json::json!({ "file": path, "bytes": text.len(), "measurements": rows.len() }));
    } else {
        let size = crate::painter::words::size(text.len() as u64);
        perf.shell.status(Tone::Good, "wrote", &format!("{} ({size})", args.output.display()));
    }
    Ok(Exit::Success)
}

/// The newest build in which a step ran.
fn newest_build(perf: &Perf<'_>, rows: &[Row]) -> Result<Option<Record>, Failure> {
    let built = rows.iter().rev().filter(|row| row.misses.is_some_and(|misses| misses > 0));
    operand::newest(perf, built, |record| record.steps.iter().any(|step| step.outcome == "ran"))
}

/// Runs `perf trace`.
pub(crate) fn trace(args: &TraceArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let records = operand::records_or_newest_build(args.what.as_deref(), perf)?;
    let Some(record) = records.iter().find(|record| !record.steps.is_empty()) else {
        let what = args
            .what
            .as_ref()
            .map_or_else(|| "no measurement has steps".to_owned(), |what| format!("`{what}` has no steps"));
        return Err(Failure::usage(format!("{what}: there is nothing to trace"))
            .hint("`spolia perf monitor` measures a build"));
    };
    let value = match args.format {
        TraceFormat::Chrome => chrome(record),
        TraceFormat::Otlp => otlp(record),
    };
    let mut text = value.to_string();
    text.push('\n');
    match &args.output {
        None => perf.shell.out(&text),
        Some(path) => write_text(&perf.settings.cwd.join(path), &text)?,
    }
    Ok(Exit::Success)
}
