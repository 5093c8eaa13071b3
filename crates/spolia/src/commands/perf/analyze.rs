//! `spolia perf analyze`: where the time of one build went.

use spolia_perf::analyze::{Analysis, analyze};
use spolia_perf::check::limits_of_measured;

use super::{Perf, check, conf, operand, words};
use crate::cli::perf::AnalyzeArgs;
use crate::exit::{Exit, Failure};
use crate::shell::Shell;

/// Runs it.
pub(crate) fn run(args: &AnalyzeArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let records = operand::records_or_newest_build(args.what.as_deref(), perf)?;
    let found: Vec<Analysis> = records.iter().map(analyze).collect();
    let thresholds = limits_of_measured(&records, &conf::thresholds_or_warn(perf));
    if perf.settings.json {
        perf.shell.json_line(&serde_json::json!({ "analyses": found, "thresholds": thresholds }));
        return Ok(Exit::Success);
    }
    for (analysis, record) in found.iter().zip(&records) {
        let cost = |values: Vec<f64>| {
            let median = spolia_perf::statistics::median(&values);
            median.map_or_else(|| "not observed".to_owned(), words::time)
        };
        let state = record.facts.state.map(|state| format!(" ({})", state.text())).unwrap_or_default();
        perf.shell.out(&format!(
            "{}{state}: {} wall, {} CPU\n",
            analysis.subject,
            cost(record.values(|sample| sample.wall_us)),
            cost(record.values(spolia_perf::record::Sample::cpu_us)),
        ));
        show(analysis, perf.shell);
    }
    if !thresholds.is_empty() {
        perf.shell.out("\nthresholds\n");
        check::show(&thresholds, perf.shell);
    }
    Ok(Exit::Success)
}

fn show(analysis: &Analysis, shell: &Shell) {
    if let Some(span) = analysis.span_us {
        let at_once = analysis.parallelism.map(|at_once| format!(", {at_once:.1} at once on average"));
        let steps = if analysis.steps == 1 { "step" } else { "steps" };
        let span = words::time(span as f64);
        shell.out(&format!("\n{} {steps} in {span}{}\n", analysis.steps, at_once.unwrap_or_default()));
        for (count, us) in analysis.at_once_us.iter().enumerate().filter(|(_, us)| **us > 0) {
            let share = us * 100 / analysis.span_us.unwrap_or(1).max(1);
            shell.out(&format!("  {count} at once  {} ({share}%)\n", words::time(*us as f64)));
        }
    }
    if let Some(path) = &analysis.critical {
        let share = analysis.critical_share.unwrap_or(0.0) * 100.0;
        shell.out(&format!("\ncritical path, {share:.0}% of the time\n"));
        let row = |link: &spolia_perf::analyze::Link| {
            let waited = match link.waited_us {
                0..1000 => String::new(),
                us => format!("after waiting {} for a place", words::time(us as f64)),
            };
            vec![format!("  {}", link.name), words::time(link.wall_us as f64), waited]
        };
        shell.out(&words::table(&path.iter().map(row).collect::<Vec<_>>(), &[1]));
    }
    if !analysis.slowest.is_empty() {
        shell.out("\nslowest steps\n");
        let row = |step: &spolia_perf::analyze::Slow| {
            let cpu = step.cpu_us.map(|us| format!("{} CPU", words::time(us as f64))).unwrap_or_default();
            let mark = if step.is_critical == Some(true) { "critical" } else { "" };
            vec![format!("  {}", step.name), words::time(step.wall_us as f64), cpu, mark.to_owned()]
        };
        shell.out(&words::table(&analysis.slowest.iter().map(row).collect::<Vec<_>>(), &[1, 2]));
    }
    if !analysis.what_if.is_empty() {
        shell.out("\nwhat if\n");
        for what in &analysis.what_if {
            let saved = words::time(what.saved_us as f64);
            shell.out(&format!("  if `{}` were free: −{saved}\n", what.name));
        }
        if let Some(ratio) = analysis.replay_ratio {
            let percent = ratio * 100.0;
            shell.out(&format!("  (from a replay that takes {percent:.0}% of the real time)\n"));
        }
    }
    if !analysis.misses.is_empty() {
        shell.out("\ncache misses\n");
        for miss in &analysis.misses {
            let cost = words::time_or(miss.wall_us);
            let reason = miss.reason.as_deref().unwrap_or("the reason is not known");
            shell.out(&format!("  {}: {cost}, {reason}\n", miss.name));
        }
    }
    if analysis.saved_us > 0 {
        shell.out(&format!("\nsaved by the cache: {} of step time\n", words::time(analysis.saved_us as f64)));
    }
    if !analysis.next.is_empty() {
        shell.out("\nnext\n");
        analysis.next.iter().for_each(|line| shell.out(&format!("  - {line}\n")));
    }
    for line in &analysis.not_known {
        shell.out(&format!("\nnot known: {line}\n"));
    }
}
