//! The steps of one build as bars in lanes, and how many ran at once below them. SVG.

use std::fmt::Write as _;

use super::{escape, time};
use crate::analyze::Analysis;
use crate::record::{Record, StepSpan};
use crate::trace::lanes;

/// The drawing's width.
pub(super) const WIDTH: f64 = 1040.0;
/// Left and right of the bars.
const MARGIN: f64 = 12.0;
const LANE: f64 = 30.0;
const BAR: f64 = 22.0;
const TOP: f64 = 26.0;
const PARALLEL: f64 = 64.0;
/// More lanes are not drawn: the shortest steps are left out first.
const LANES_MAX: usize = 40;
/// More bars make the page heavy and are not to be told apart.
const BARS_MAX: usize = 600;

/// The drawing; `None` where no step has times.
pub(super) fn timeline(record: &Record, analysis: &Analysis) -> Option<String> {
    let span = analysis.span_us.filter(|span| *span > 0)?;
    let steps = drawn(&record.steps);
    let begin = steps.iter().filter_map(|step| step.start_us).min()?;
    let lanes = lanes(&steps);
    let count = lanes.iter().flatten().max()? + 1;
    let scale = (WIDTH - 2.0 * MARGIN) / span as f64;
    let x = |us: u64| MARGIN + us.saturating_sub(begin) as f64 * scale;
    let bars_end = TOP + count as f64 * LANE;
    let height = bars_end + 18.0 + PARALLEL + 24.0;
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"group\" aria-label=\"Timeline of the build: {} \
         steps in {count} lanes, {}\">\n",
        analysis.steps,
        time(span as f64)
    );
    for (at, label) in ticks(span as f64) {
        let x = MARGIN + at * scale;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"16\"{}>{label}</text>",
            bars_end + 18.0 + PARALLEL,
            x.clamp(MARGIN, WIDTH - MARGIN),
            anchor(x),
        );
    }
    let critical: Vec<&str> = analysis.critical.iter().flatten().map(|link| link.name.as_str()).collect();
    links(&mut svg, &steps, &lanes, &critical, &x);
    for (step, lane) in steps.iter().zip(&lanes) {
        let Some(lane) = lane else { continue };
        bar(&mut svg, step, *lane, critical.contains(&step.name.as_str()), &x, scale);
    }
    parallel(&mut svg, &steps, begin, span, bars_end + 18.0, record.jobs, scale);
    svg.push_str("</svg>\n");
    Some(svg)
}

/// The steps to draw: of very many the longest.
fn drawn(steps: &[StepSpan]) -> Vec<StepSpan> {
    let mut timed: Vec<StepSpan> =
        steps.iter().filter(|step| step.start_us.is_some() && step.wall_us.is_some()).cloned().collect();
    let too_many = |steps: &[StepSpan]| {
        steps.len() > BARS_MAX || lanes(steps).iter().flatten().max().is_some_and(|most| *most >= LANES_MAX)
    };
    while too_many(&timed) {
        let mut walls: Vec<u64> = timed.iter().filter_map(|step| step.wall_us).collect();
        walls.sort_unstable();
        let limit = walls[walls.len() / 4];
        let before = timed.len();
        timed.retain(|step| step.wall_us > Some(limit));
        if timed.is_empty() || timed.len() == before {
            break;
        }
    }
    timed
}

fn anchor(x: f64) -> &'static str {
    match x {
        x if x < 40.0 => "",
        x if x > WIDTH - 40.0 => " text-anchor=\"end\"",
        _ => " text-anchor=\"middle\"",
    }
}

/// Round numbers of µs from 0 to `span`, with their words.
fn ticks(span: f64) -> Vec<(f64, String)> {
    let step = super::chart::round_step(span, 7.0);
    let count = (span / step).floor() as usize;
    (0..=count)
        .map(|at| at as f64 * step)
        .map(|at| (at, if at == 0.0 { "0".to_owned() } else { time(at) }))
        .collect()
}

/// Thin lines that join the steps of the critical path.
fn links(
    svg: &mut String,
    steps: &[StepSpan],
    lanes: &[Option<usize>],
    critical: &[&str],
    x: &dyn Fn(u64) -> f64,
) {
    let place = |name: &str| {
        let at = steps.iter().position(|step| step.name == name)?;
        let middle = TOP + lanes[at]? as f64 * LANE + BAR / 2.0;
        Some((x(steps[at].start_us?), x(steps[at].start_us? + steps[at].wall_us?), middle))
    };
    for pair in critical.windows(2) {
        let (Some(one), Some(next)) = (place(pair[0]), place(pair[1])) else { continue };
        let bend = ((one.1 + next.0) / 2.0).max(one.1 + 3.0);
        let _ = writeln!(
            svg,
            "<path class=\"link\" d=\"M{:.1} {:.1} H{bend:.1} V{:.1} H{:.1}\"/>",
            one.1, one.2, next.2, next.0
        );
    }
}

fn bar(svg: &mut String, step: &StepSpan, lane: usize, critical: bool, x: &dyn Fn(u64) -> f64, scale: f64) {
    let (start, wall) = (step.start_us.unwrap_or(0), step.wall_us.unwrap_or(0));
    let (left, top) = (x(start), TOP + lane as f64 * LANE);
    let width = (wall as f64 * scale).max(2.0);
    let mut says = format!("{}: {} in {}", step.name, outcome(&step.outcome), time(wall as f64));
    if let Some(cpu) = step.cpu_us {
        let _ = write!(says, ", {} CPU", time(cpu as f64));
    }
    if let Some(miss) = &step.miss {
        let _ = write!(says, ", because {miss}");
    }
    if let Some(saved) = step.saved_us {
        let _ = write!(says, ", saved {}", time(saved as f64));
    }
    if critical {
        says.push_str(", on the critical path");
    }
    let mark = if critical { " critical" } else { "" };
    let _ = write!(
        svg,
        "<g class=\"bar {}{mark}\" tabindex=\"0\" role=\"img\" aria-label=\"{}\"><title>{1}</title>\
         <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\"/>",
        escape(&step.outcome),
        escape(&says),
    );
    // About 6.6 units a letter of this size; a name that does not fit is in the title.
    let letters = ((width - 10.0) / 6.6) as usize;
    if letters >= 3 {
        let name: String = if step.name.chars().count() <= letters {
            step.name.clone()
        } else {
            step.name.chars().take(letters - 1).chain(['…']).collect()
        };
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", left + 6.0, top + 15.0, escape(&name));
    }
    svg.push_str("</g>\n");
}

pub(super) fn outcome(word: &str) -> &str {
    match word {
        "hit" => "restored",
        "fresh" => "in place",
        other => other,
    }
}

/// Steps at once, as a stepped area.
fn parallel(
    svg: &mut String,
    steps: &[StepSpan],
    begin: u64,
    span: u64,
    top: f64,
    jobs: Option<u64>,
    scale: f64,
) {
    let times = steps.iter().filter_map(|step| step.start_us.zip(step.wall_us));
    let mut moments: Vec<(u64, i64)> =
        times.flat_map(|(start, wall)| [(start - begin, 1), (start - begin + wall, -1)]).collect();
    moments.sort_unstable();
    let mut count = 0;
    let mut most = 0;
    for (_, change) in &moments {
        count += change;
        most = most.max(count);
    }
    let limit = jobs.map_or(most, |jobs| i64::try_from(jobs).unwrap_or(i64::MAX)).max(most).max(1);
    let bottom = top + PARALLEL;
    let y = |count: i64| bottom - count as f64 / limit as f64 * (PARALLEL - 14.0);
    let mut path = format!("M{MARGIN} {bottom:.1}");
    let mut level = 0;
    for (moment, change) in &moments {
        let x = MARGIN + *moment as f64 * scale;
        let _ = write!(path, " L{x:.1} {:.1}", y(level));
        level += change;
        let _ = write!(path, " L{x:.1} {:.1}", y(level));
    }
    let end = MARGIN + span as f64 * scale;
    let _ = writeln!(
        svg,
        "<g role=\"img\" aria-label=\"Steps at once over time: at most {most}{}\"><path class=\"area\" d=\"{path} L{end:.1} {bottom:.1} Z\"/>",
        jobs.map(|jobs| format!(" of {jobs} places")).unwrap_or_default()
    );
    if let Some(jobs) = jobs {
        let at = y(i64::try_from(jobs).unwrap_or(i64::MAX));
        let _ = write!(
            svg,
            "<line class=\"limit\" x1=\"{MARGIN}\" x2=\"{end:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        );
    }
    let places = jobs.map(|jobs| format!(" (line: {jobs} places)")).unwrap_or_default();
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{MARGIN}\" y=\"{:.1}\">steps at once{places}</text></g>",
        bottom + 16.0
    );
}
