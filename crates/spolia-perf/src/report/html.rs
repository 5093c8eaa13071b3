//! The page: one file with its style, its drawings and a few lines of script in it.

use std::fmt::Write as _;

use super::chart::{columns, line};
use super::timeline::{outcome, timeline};
use super::{Report, Trend, date, escape, size, time};
use crate::analyze::Analysis;
use crate::record::Record;
use crate::verdict::{Verdict, percent};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Steps in the table behind the timeline.
const STEPS_MAX: usize = 300;

/// The whole page.
pub fn html(report: &Report) -> String {
    let mut page = String::with_capacity(200_000);
    let title = escape(&report.title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}: build report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the figures</a>\n<header class=\"top\">\n<h1>{title}</h1>\n\
         <p class=\"lead\">Build report of {} UTC, from {} measurements.</p>\n",
        date(report.made_us),
        report.measurements
    );
    let sections = sections(report);
    page.push_str("<nav aria-label=\"Sections\"><ul>");
    for (id, name, _) in &sections {
        let _ = write!(page, "<li><a href=\"#{id}\">{name}</a></li>");
    }
    page.push_str("</ul></nav>\n</header>\n<main id=\"main\">\n");
    tiles(&mut page, report);
    for (id, name, body) in &sections {
        let _ = write!(
            page,
            "<section id=\"{id}\" aria-labelledby=\"{id}-h\">\n<h2 id=\"{id}-h\">{name}</h2>\n{body}</section>\n"
        );
    }
    let _ = write!(
        page,
        "</main>\n<footer><p>Made by <code>spolia perf report</code>. Nothing is shown that was not observed; a verdict asks for chance to be \
         ruled out and for a difference known to be above 5%.</p></footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    page
}

fn sections(report: &Report) -> Vec<(&'static str, &'static str, String)> {
    let mut sections = Vec::new();
    if let Some((record, analysis)) = &report.build {
        sections.push(("timeline", "Timeline of a build", build(record, analysis)));
        if analysis.steps > 0 {
            sections.push(("where", "Where the time went", where_to(analysis)));
        }
    }
    if !report.trends.is_empty() {
        sections.push(("trends", "Costs over time", trends(&report.trends)));
    }
    if let Some(drawing) = columns(&report.outcomes, 1040.0) {
        sections.push(("cache", "What the cache answered", cache(report, &drawing)));
    }
    if !report.steps.is_empty() {
        sections.push(("misses", "What ran most", misses(report)));
    }
    if !report.sizes.is_empty() {
        sections.push(("sizes", "Sizes", sizes(report)));
    }
    if !report.notes.is_empty() || sections.is_empty() {
        let mut body = "<ul class=\"plain\">".to_owned();
        for note in &report.notes {
            let _ = write!(body, "<li>{}</li>", escape(note));
        }
        if report.measurements == 0 {
            body.push_str(
                "<li>Nothing was measured yet: <code>spolia perf monitor</code> measures a build.</li>",
            );
        }
        body.push_str("</ul>\n");
        sections.push(("notes", "Notes", body));
    }
    sections
}

fn tile(page: &mut String, name: &str, value: &str, note: &str) {
    let _ = writeln!(
        page,
        "<li><span class=\"name\">{name}</span><span class=\"value\">{value}</span><span class=\"note\">{note}</span></li>"
    );
}

fn tiles(page: &mut String, report: &Report) {
    let Some((record, _)) = &report.build else { return };
    let Some(sample) = record.samples.last() else { return };
    let facts = &record.facts;
    let state = facts.state.map(|state| format!("({})", state.text())).unwrap_or_default();
    let why = |name: &str| sample.not_observed.get(name).map(|why| escape(why)).unwrap_or_default();
    let figure = |value: Option<u64>, word: &dyn Fn(f64) -> String| {
        value.map_or_else(|| "–".to_owned(), |value| word(value as f64))
    };
    let of_this = |trend: &&Trend| trend.subject == facts.subject && trend.state == facts.state;
    let newest = report.trends.iter().find(of_this).and_then(|trend| trend.newest.as_ref());
    let beside = |verdict: Option<&Verdict>| verdict.map(said).unwrap_or_default();
    let _ = write!(
        page,
        "<h2 class=\"soft\" style=\"font-size:14px;font-weight:500;margin:0 0 8px\">{} {state}, {} UTC{}</h2>\n<ul class=\"tiles\">\n",
        escape(&facts.subject),
        sample.started_at_us.map(date).unwrap_or_default(),
        facts.git.as_ref().map(commit).unwrap_or_default(),
    );
    tile(page, "Wall time", &figure(sample.wall_us, &time), &beside(newest.map(|(_, wall)| wall)));
    let cpu_note =
        if sample.cpu_us().is_none() { why("user_us") } else { beside(newest.map(|(cpu, _)| cpu)) };
    tile(page, "CPU time", &figure(sample.cpu_us(), &time), &cpu_note);
    if let Some((hits, misses)) =
        sample.cache_hits.zip(sample.cache_misses).filter(|(hits, misses)| hits + misses > 0)
    {
        let share = format!("{}%", hits * 100 / (hits + misses));
        tile(page, "From the cache", &share, &format!("{hits} of {} steps", hits + misses));
    }
    let together = match sample.together_bytes {
        Some(bytes) => format!("{} together", size(bytes as f64)),
        None => why("largest_process_bytes"),
    };
    tile(page, "Largest process", &figure(sample.largest_process_bytes, &size), &together);
    if sample.build_size_bytes.is_some() {
        let store =
            sample.store_bytes.map(|bytes| format!("store {}", size(bytes as f64))).unwrap_or_default();
        tile(page, "Outputs", &figure(sample.build_size_bytes, &size), &store);
    }
    page.push_str("</ul>\n");
}

fn commit(git: &crate::record::Git) -> String {
    let dirty = if git.dirty == Some(true) { ", with changes" } else { "" };
    let title = git.title.as_ref().map(|title| format!(" “{}”", escape(title))).unwrap_or_default();
    format!(", commit <code>{}</code>{title}{dirty}", escape(git.commit.get(..8).unwrap_or(&git.commit)))
}

/// A verdict in a few words.
fn said(verdict: &Verdict) -> String {
    let word = verdict.word.text();
    let effect = verdict.effect.map(|effect| format!(" {}", percent(effect))).unwrap_or_default();
    let runs = if verdict.runs.0 == 1 { "run" } else { "runs" };
    format!("<span class=\"word {word}\">{word}</span>{effect} beside {} earlier {runs}", verdict.runs.0)
}

fn build(record: &Record, analysis: &Analysis) -> String {
    let mut body = String::new();
    let Some(drawing) = timeline(record, analysis) else {
        let all_there = record.samples.last().is_some_and(|sample| sample.cache_misses == Some(0));
        let why = if all_there {
            "No step had to run: all was in place."
        } else {
            "The steps of this run have no times."
        };
        return format!("<p>{why}</p>\n");
    };
    let span = analysis.span_us.unwrap_or(0) as f64;
    let mut lead = format!("{} steps in {}", analysis.steps, time(span));
    if let Some(parallelism) = analysis.parallelism {
        let _ = write!(lead, ", {parallelism:.1} at once on average");
    }
    if let Some((path, share)) = analysis.critical.as_ref().zip(analysis.critical_share) {
        let _ = write!(
            lead,
            "; the critical path is {} steps long and ran {:.0}% of the time",
            path.len(),
            share * 100.0
        );
    }
    let _ = write!(
        body,
        "<p>{lead}.</p>\n<ul class=\"legend\"><li><i class=\"key-ran\"></i>ran</li><li><i class=\"key-hit\"></i>restored</li>\
         <li><i class=\"key-critical\"></i>critical path</li><li><i class=\"key-failed\"></i>failed</li></ul>\n\
         <figure><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline, scrollable\">{drawing}</div>\
         <figcaption>Go from step to step with the arrow keys, or read the <a href=\"#steps-table\">table</a>.</figcaption></figure>\n\
         <p id=\"detail\" aria-live=\"polite\" class=\"soft\"></p>\n"
    );
    steps_table(&mut body, record, analysis);
    for line in &analysis.not_known {
        let _ = writeln!(body, "<p class=\"soft\">Not known: {}.</p>", escape(line));
    }
    body
}

fn steps_table(body: &mut String, record: &Record, analysis: &Analysis) {
    body.push_str(
        "<details id=\"steps-table\"><summary>All steps as a table</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Steps\"><table>\
         <caption>Steps in the order they began</caption>\
         <thead><tr><th scope=\"col\">Step</th><th scope=\"col\">Outcome</th><th scope=\"col\" class=\"number\">Began</th>\
         <th scope=\"col\" class=\"number\">Took</th><th scope=\"col\" class=\"number\">CPU</th><th scope=\"col\">Critical</th><th scope=\"col\">Why it ran</th></tr></thead><tbody>\n",
    );
    let critical: Vec<usize> = analysis.critical.iter().flatten().map(|link| link.step).collect();
    let mut order: Vec<usize> = (0..record.steps.len()).collect();
    order.sort_by_key(|at| (record.steps[*at].start_us.is_none(), record.steps[*at].start_us, *at));
    for at in order.iter().take(STEPS_MAX) {
        let step = &record.steps[*at];
        let cell = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), |us| time(us as f64));
        let is_critical = match analysis.critical {
            None => "not known",
            Some(_) if critical.contains(at) => "yes",
            Some(_) => "",
        };
        let _ = writeln!(
            body,
            "<tr><td class=\"name\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{is_critical}</td><td>{}</td></tr>",
            escape(&step.name),
            outcome(&step.outcome),
            cell(step.start_us),
            cell(step.wall_us),
            cell(step.cpu_us),
            escape(step.miss.as_deref().unwrap_or("")),
        );
    }
    body.push_str("</tbody></table></div>\n");
    if record.steps.len() > STEPS_MAX {
        let _ = writeln!(
            body,
            "<p class=\"soft\">{} more steps are not listed.</p>",
            record.steps.len() - STEPS_MAX
        );
    }
    body.push_str("</details>\n");
}

fn where_to(analysis: &Analysis) -> String {
    let mut body = String::new();
    if !analysis.next.is_empty() {
        body.push_str("<ul class=\"plain\">");
        for line in &analysis.next {
            let _ = write!(body, "<li>{}</li>", code(line));
        }
        body.push_str("</ul>\n");
    }
    body.push_str("<div class=\"pair\">\n");
    let rows = analysis.slowest.iter().map(|step| {
        let mark = if step.is_critical == Some(true) { " (critical)" } else { "" };
        (format!("{}{mark}", step.name), step.wall_us)
    });
    bars(&mut body, "Slowest steps", "Took", rows.collect());
    if !analysis.what_if.is_empty() {
        let rows = analysis.what_if.iter().map(|what| (what.name.clone(), what.saved_us));
        bars(&mut body, "If a step took no time, the build would be shorter by", "Saved", rows.collect());
    }
    body.push_str("</div>\n");
    if let Some(ratio) = analysis.replay_ratio {
        let _ = writeln!(
            body,
            "<p class=\"soft\">What-if figures come from replaying the build with the same places; the replay of the real build is {:.0}% of its length.</p>",
            ratio * 100.0
        );
    }
    body
}

/// A table with a bar in each line.
fn bars(body: &mut String, caption: &str, column: &str, rows: Vec<(String, u64)>) {
    let most = rows.iter().map(|(_, us)| *us).max().unwrap_or(1).max(1) as f64;
    let _ = writeln!(
        body,
        "<table><caption>{caption}</caption><thead><tr><th scope=\"col\">Step</th><th scope=\"col\" class=\"number\">{column}</th>\
         <th class=\"wide\"><span class=\"skip\">As a bar</span></th></tr></thead><tbody>"
    );
    for (name, us) in rows {
        let _ = writeln!(
            body,
            "<tr><td class=\"name\">{}</td><td class=\"number\">{}</td><td class=\"wide\" aria-hidden=\"true\"><span class=\"meter\" style=\"width:{:.1}%\"></span></td></tr>",
            escape(&name),
            time(us as f64),
            us as f64 / most * 100.0
        );
    }
    body.push_str("</tbody></table>\n");
}

fn trends(trends: &[Trend]) -> String {
    let mut body = "<ul class=\"legend\"><li><i class=\"key-ran\"></i>median</li><li><i class=\"key-interval\"></i>where it lies (95%)</li>\
                    <li><i class=\"key-level\"></i>level between changes</li><li>▲ ▼ change of level</li><li>⚑ new baseline accepted</li></ul>\n"
        .to_owned();
    for trend in trends {
        let state = trend.state.map(|state| format!(", {}", state.text())).unwrap_or_default();
        let _ = write!(
            body,
            "<div class=\"trend\"><h3>{}{state}</h3><p class=\"soft\">{} measurements",
            escape(&trend.subject),
            trend.count
        );
        if let Some((cpu, wall)) = &trend.newest {
            let _ = write!(body, "; the newest: CPU {}, wall {}", said(cpu), said(wall));
        }
        body.push_str(".</p>\n<div class=\"pair\">");
        for (name, series) in [("CPU time", &trend.cpu), ("Wall time", &trend.wall)] {
            let full = format!("{name} of {}", trend.subject);
            match line(&full, series, &time) {
                Some(drawing) => {
                    let _ = write!(body, "<figure><figcaption>{name}</figcaption>{drawing}</figure>");
                }
                None => {
                    let _ = write!(body, "<p class=\"soft\">{name} was not observed.</p>");
                }
            }
        }
        body.push_str("</div></div>\n");
    }
    body
}

fn cache(report: &Report, drawing: &str) -> String {
    let (hits, misses) =
        report.outcomes.iter().fold((0, 0), |all, one| (all.0 + one.hits, all.1 + one.misses));
    let share = (hits * 100).checked_div(hits + misses).unwrap_or(0);
    format!(
        "<p>Of {} steps in the newest {} builds, {hits} were answered from a cache ({share}%) and {misses} ran.</p>\n\
         <ul class=\"legend\"><li><i class=\"key-hit\"></i>answered</li><li><i class=\"key-ran\"></i>ran</li></ul>\n\
         <figure>{drawing}<figcaption>Steps of each build, oldest on the left</figcaption></figure>\n",
        hits + misses,
        report.outcomes.len()
    )
}

fn misses(report: &Report) -> String {
    let mut body = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Steps over all builds\"><table>\
                    <caption>Steps over the newest builds, by the time their runs took</caption>\
                    <thead><tr><th scope=\"col\">Step</th><th scope=\"col\" class=\"number\">Time</th><th scope=\"col\" class=\"number\">Ran</th>\
                    <th scope=\"col\" class=\"number\">Answered</th><th scope=\"col\">Mostly because</th></tr></thead><tbody>\n"
        .to_owned();
    for step in &report.steps {
        let _ = writeln!(
            body,
            "<tr><td class=\"name\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            escape(&step.name),
            time(step.ran_us as f64),
            step.ran,
            step.hit,
            step.reason.as_deref().map(reason).unwrap_or(""),
        );
    }
    body.push_str("</tbody></table></div>\n");
    body
}

/// A kind of miss in words.
pub(super) fn reason(kind: &str) -> &'static str {
    match kind {
        "never-run" => "it had never run",
        "key-changed" => "its key changed",
        "output-gone" => "its result had left the store",
        "corrupt" => "its result was damaged",
        "not-stored" => "its result is not stored",
        "forced" => "it was asked for",
        "remote-silent" => "the remote did not answer",
        _ => "another reason",
    }
}

fn sizes(report: &Report) -> String {
    let mut body = "<div class=\"pair\">".to_owned();
    for (name, points) in &report.sizes {
        let series = super::Series { points: points.clone(), ..super::Series::default() };
        let title = if name == "outputs" { "Outputs" } else { "Store" };
        if let Some(drawing) = line(&format!("Size of the {name}"), &series, &size) {
            let last = points.last().map(|point| size(point.value)).unwrap_or_default();
            let _ = write!(body, "<figure><figcaption>{title}, {last} now</figcaption>{drawing}</figure>");
        }
    }
    body.push_str("</div>\n");
    body
}

/// Text in which `…` between backquotes is code.
fn code(text: &str) -> String {
    let mut parts = String::new();
    for (number, part) in text.split('`').enumerate() {
        if number % 2 == 1 {
            let _ = write!(parts, "<code>{}</code>", escape(part));
        } else {
            parts.push_str(&escape(part));
        }
    }
    parts
}

/// The timeline as a picture of its own.
pub fn svg(report: &Report) -> Option<String> {
    let (record, analysis) = report.build.as_ref()?;
    let drawing = timeline(record, analysis)?;
    let open = "<svg class=\"timeline\"";
    let style = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"timeline\"{}<style>{STYLE} svg {{ background: var(--card); }}</style>",
        drawing.strip_prefix(open)?.split_once('\n')?.0
    );
    let rest = drawing.split_once('\n')?.1;
    Some(format!("{style}\n{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Row;
    use crate::record::{Facts, Sample, State, StepSpan};

    pub(crate) fn example(runs: usize) -> Report {
        let step = |name: &str, start: u64, wall: u64, needs: &[&str]| StepSpan {
            name: name.to_owned(),
            start_us: Some(start),
            wall_us: Some(wall),
            outcome: "ran".to_owned(),
            needs: Some(needs.iter().map(|need| (*need).to_owned()).collect()),
            ..StepSpan::default()
        };
        let steps = vec![step("<lib>", 0, 4_000_000, &[]), step("app", 4_000_000, 9_000_000, &["<lib>"])];
        let facts = Facts { subject: "build".to_owned(), state: Some(State::Cold), ..Facts::default() };
        let sample = Sample {
            wall_us: Some(13_000_000),
            cache_hits: Some(1),
            cache_misses: Some(2),
            ..Sample::default()
        };
        let record = Record { facts, samples: vec![sample], steps, jobs: Some(2), ..Record::default() };
        let row = |at: usize| Row {
            run: format!("r{at}"),
            at_us: 1_700_000_000_000_000 + at as u64 * 3_600_000_000,
            subject: "build".to_owned(),
            state: Some(State::Cold),
            good: 1,
            wall_us: Some(if at < runs / 2 { 13e6 } else { 17e6 } + (at * 7919 % 100) as f64 * 1e4),
            hits: Some(at as u64 % 5),
            misses: Some(2),
            size_bytes: Some(1e6 + at as f64),
            ..Row::default()
        };
        let rows: Vec<Row> = (0..runs).map(row).collect();
        Report::gather("a & b".to_owned(), 1_800_000_000_000_000, Some(record), &rows, &[], Vec::new())
    }

    #[test]
    fn the_page_holds_everything_and_asks_for_nothing() {
        let page = html(&example(100));
        for wanted in [
            "a &amp; b",
            "&lt;lib&gt;",
            "Where the time went",
            "▲ +",
            "class=\"bar ran critical\"",
            "prefers-color-scheme",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        for unwanted in ["http://", "https://", "<lib>", "src=", "@import", "url("] {
            assert!(!page.contains(unwanted), "{unwanted}");
        }
        assert!(page.contains("CPU time was not observed"));
        let empty = Report::gather("x".to_owned(), 1, None, &[], &[], Vec::new());
        assert!(html(&empty).contains("Nothing was measured yet"));
    }

    #[test]
    fn ten_thousand_runs_make_no_large_page() {
        let page = html(&example(10_000));
        assert!(page.len() < 3_000_000, "{}", page.len());
        assert!(page.contains("10000 measurements"));
    }

    #[test]
    fn the_picture_stands_alone() {
        let picture = svg(&example(10)).unwrap();
        assert!(picture.starts_with("<svg xmlns=") && picture.trim_end().ends_with("</svg>"));
    }
}
