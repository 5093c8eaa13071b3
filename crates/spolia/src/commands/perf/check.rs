//! `spolia perf check`: what a run measured beside the thresholds and the history.

use spolia_perf::check::{self, Finding, LOOKED_BACK_MAX, Outcome, Past};
use spolia_perf::history::RowFilter;
use spolia_perf::manifest::{Thresholds, What};
use spolia_perf::record::Record;
use spolia_perf::verdict::percent;

use super::{Perf, conf, failure, operand, words};
use crate::cli::perf::CheckArgs;
use crate::exit::{Exit, Failure};
use crate::shell::{Shell, Tone};

/// Runs it.
pub(crate) fn run(args: &CheckArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let found = conf::thresholds(perf)?;
    if let Some(found) = found.as_ref().filter(|_| !perf.shell.is_quiet()) {
        perf.shell.diagnostics(&found.warnings);
    }
    let mut thresholds = found.map(|found| found.conf.thresholds).unwrap_or_default();
    let has_thresholds = !thresholds.is_empty();
    let mut records = operand::records(&args.what, perf)?;
    let run = records.first().and_then(|record| record.run.clone());
    if !args.subject.is_empty() {
        only(&args.subject, &mut thresholds, &mut records)?;
    }
    let mut findings = check::limits(&records, &thresholds);
    if !args.no_history {
        findings.extend(regressions(&records, &thresholds, perf)?);
    }
    findings.sort_by_key(|finding| finding.outcome);
    let exit = exit_of(&findings, args);
    if perf.settings.json {
        perf.shell.json_line(&serde_json::json!({
            "run": run, "has_thresholds": has_thresholds, "findings": findings, "exit_code": exit.code(),
        }));
        return Ok(exit);
    }
    show(&findings, perf.shell);
    if !has_thresholds && !perf.shell.is_quiet() {
        let hint = "`[perf.thresholds] build = { time = \"5m\" }` limits the time of a build";
        perf.shell.warning("there are no thresholds: only the history was looked at", &[hint.to_owned()]);
    }
    if !perf.shell.is_quiet() {
        tell(&findings, exit, perf.shell);
    }
    Ok(exit)
}

/// Leaves only what has one of these names.
fn only(
    names: &[String],
    thresholds: &mut Vec<Thresholds>,
    records: &mut Vec<Record>,
) -> Result<(), Failure> {
    for name in names {
        let is_known = thresholds.iter().any(|one| one.subject == *name)
            || records.iter().any(|record| record.facts.subject == *name);
        if !is_known {
            let message = format!("`{name}` has no thresholds, and the run did not measure it");
            return Err(Failure::usage(message));
        }
    }
    thresholds.retain(|one| names.contains(&one.subject));
    // A record of a build stays for the sake of its steps.
    let of_step = |record: &Record| {
        thresholds.iter().any(|one| {
            let is_it = |step: &spolia_perf::record::StepSpan| {
                step.name == one.subject || step.name.starts_with(&format!("{} (", one.subject))
            };
            record.steps.iter().any(is_it)
        })
    };
    records.retain(|record| names.contains(&record.facts.subject) || of_step(record));
    Ok(())
}

fn regressions(
    records: &[Record],
    thresholds: &[Thresholds],
    perf: &Perf<'_>,
) -> Result<Vec<Finding>, Failure> {
    let index = perf.index()?;
    let root = perf.root_text();
    let or_fail = |error| failure(&error);
    let mut rows = Vec::new();
    let mut subjects: Vec<&str> = records.iter().map(|record| record.facts.subject.as_str()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    for subject in subjects {
        let filter = RowFilter {
            root: Some(root.clone()),
            subject: Some(subject.to_owned()),
            // Of other states and machines there may be as many between.
            newest: Some(20 * LOOKED_BACK_MAX),
        };
        rows.extend(index.rows(&filter).map_err(or_fail)?);
    }
    let mut steps = Vec::new();
    for step in check::steps_asked(thresholds) {
        steps.extend(index.step_rows(Some(&root), step, 20 * LOOKED_BACK_MAX).map_err(or_fail)?);
    }
    let baselines = index.baselines(Some(&root)).map_err(or_fail)?;
    let past = Past { rows: &rows, baselines: &baselines, steps: &steps };
    Ok(check::regressions(records, thresholds, &past))
}

fn exit_of(findings: &[Finding], args: &CheckArgs) -> Exit {
    let has = |outcome: Outcome| findings.iter().any(|finding| finding.outcome == outcome);
    if has(Outcome::Over) {
        return Exit::Exceeded;
    }
    let unseen = has(Outcome::NotObserved) && !args.allow_unobserved;
    let nothing = !has(Outcome::Ok) && !has(Outcome::Undecided) && !args.allow_unobserved;
    if unseen || nothing || args.strict && has(Outcome::Undecided) { Exit::Undecided } else { Exit::Success }
}

pub(super) fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Over => Tone::Error,
        Outcome::NotObserved => Tone::Warning,
        Outcome::Undecided | Outcome::DoesNotApply => Tone::Dim,
        Outcome::Ok => Tone::Good,
    }
}

/// `over  build (cold)  time  5m 12s of at most 5m 00s`, a line for each.
pub(super) fn show(findings: &[Finding], shell: &Shell) {
    let cells: Vec<Vec<String>> = findings.iter().map(cells).collect();
    for (finding, line) in findings.iter().zip(words::table(&cells, &[]).lines()) {
        let outcome = shell.paint(tone(finding.outcome), &format!("{:<14}", finding.outcome.text()));
        shell.out(&format!("{outcome}  {line}\n"));
    }
}

fn cells(finding: &Finding) -> Vec<String> {
    let platform = finding.platform.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let state = finding.state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
    let what = match (finding.what, finding.cost) {
        (Some(What::Regression), Some(cost)) => format!("{} over time", cost.text()),
        (what, _) => what.map_or("", What::key).to_owned(),
    };
    vec![
        format!("{}{platform}{state}", finding.subject.chars().take(60).collect::<String>()),
        what,
        says(finding),
    ]
}

/// The figure beside its limit, and what it rests on.
pub(super) fn says(finding: &Finding) -> String {
    let value = |what: What, value: f64| match what {
        What::Time | What::Cpu => words::time(value),
        // Tenths only where there are some: a limit of 0.5% is not one of 0%.
        What::HitRate => format!("{}%", (value * 1000.0).round() / 10.0),
        What::Regression => percent(value),
        _ => crate::painter::words::size(value as u64),
    };
    let figure = match (finding.what, finding.found, finding.limit) {
        (Some(What::Regression), found, _) => found.map(percent),
        (Some(what @ What::HitRate), Some(found), Some(limit)) => {
            Some(format!("{} of at least {}", value(what, found), value(what, limit)))
        }
        (Some(what), Some(found), Some(limit)) => {
            Some(format!("{} of at most {}", value(what, found), value(what, limit)))
        }
        _ => None,
    };
    let because = finding.because.clone().filter(|because| !because.is_empty());
    figure.into_iter().chain(because).collect::<Vec<_>>().join(": ")
}

fn tell(findings: &[Finding], exit: Exit, shell: &Shell) {
    let count = |outcome: Outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    match exit {
        Exit::Exceeded => {
            shell.status(
                Tone::Error,
                "over",
                &format!("{} of {} checks", count(Outcome::Over), findings.len()),
            );
            let regressed = |finding: &Finding| {
                finding.outcome == Outcome::Over && finding.what == Some(What::Regression)
            };
            if let Some(one) = findings.iter().find(|finding| regressed(finding)) {
                let subject = super::line(&[one.subject.clone().into()]);
                let hint = format!("where it is meant: `spolia perf accept {subject} --because '…'`");
                shell.warning("a cost has regressed", &[hint]);
            }
        }
        Exit::Undecided => {
            let message = match count(Outcome::NotObserved) {
                0 => "nothing was decided: this is no pass".to_owned(),
                unseen => format!("{unseen} of {} checks were not observed: this is no pass", findings.len()),
            };
            shell.warning(&message, &[]);
        }
        _ => shell.status(Tone::Good, "ok", &format!("{} of {} checks", count(Outcome::Ok), findings.len())),
    }
}
