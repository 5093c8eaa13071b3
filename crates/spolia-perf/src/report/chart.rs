//! Lines and columns over time. SVG; knows no builds.

use std::fmt::Write as _;

use super::{Outcome, Point, Series, date, escape};

pub(super) const WIDTH: f64 = 510.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 26.0;

/// 1, 2 or 5 times a power of ten, such that about `parts` of it make `span`.
pub(super) fn round_step(span: f64, parts: f64) -> f64 {
    let rough = (span / parts).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= rough).unwrap_or(10.0);
    digit * power
}

/// One series as a line with intervals, changes and accepted baselines marked; `None` where there is nothing to draw.
pub(super) fn line(title: &str, series: &Series, word: &dyn Fn(f64) -> String) -> Option<String> {
    let points = &series.points;
    let (first, last) = (points.first()?, points.last()?);
    let highs =
        points.iter().map(|point| point.interval.map_or(point.value, |all| all.high.max(point.value)));
    // A single wild measurement shall not flatten all others.
    let mut highest: Vec<f64> = highs.collect();
    highest.sort_by(f64::total_cmp);
    let usual = super::of_sorted(&highest, 0.98).unwrap_or(1.0) * 1.15;
    let most = highest.last().copied().unwrap_or(1.0).min(usual).max(f64::MIN_POSITIVE);
    // Room above the line for what is written at a change.
    let room = if series.changes.is_empty() { most } else { most * 1.14 };
    let y = |value: f64| HEIGHT - BOTTOM - (value / room).clamp(0.0, 1.04) * (HEIGHT - TOP - BOTTOM);
    let x = |at: usize| LEFT + (at as f64 + 0.5) / points.len() as f64 * (WIDTH - LEFT - RIGHT);
    let says = format!(
        "{title}: {} points from {} to {}, from {} to {}{}",
        points.len(),
        date(first.at_us),
        date(last.at_us),
        word(first.value),
        word(last.value),
        match series.changes.len() {
            0 => ", no change of level".to_owned(),
            1 => ", one change of level".to_owned(),
            count => format!(", {count} changes of level"),
        }
    );
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"group\" aria-label=\"{}\">\n",
        escape(&says)
    );
    grid(&mut svg, most, &y, word);
    band(&mut svg, points, &x, &y);
    let mut path = String::new();
    for (at, point) in points.iter().enumerate() {
        let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { "M" } else { " L" }, x(at), y(point.value));
    }
    let _ = writeln!(svg, "<path class=\"line\" d=\"{path}\"/>");
    levels(&mut svg, series, &x, &y);
    for at in &series.accepted {
        let x = x(*at);
        let _ = writeln!(
            svg,
            "<g class=\"accepted\" role=\"img\" aria-label=\"new baseline accepted\"><title>new baseline accepted</title>\
             <line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{x:.1}\" y=\"10\" text-anchor=\"middle\">⚑</text></g>",
            HEIGHT - BOTTOM
        );
    }
    dots(&mut svg, points, &x, &y, word);
    ends(&mut svg, first.at_us, last.at_us);
    svg.push_str("</svg>\n");
    Some(svg)
}

fn grid(svg: &mut String, most: f64, y: &dyn Fn(f64) -> f64, word: &dyn Fn(f64) -> String) {
    let step = round_step(most, 3.0);
    let mut value = 0.0;
    while value <= most * 1.001 {
        let at = y(value);
        let label = if value == 0.0 { "0".to_owned() } else { word(value) };
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
        value += step;
    }
}

/// Where medians lie.
fn band(svg: &mut String, points: &[Point], x: &dyn Fn(usize) -> f64, y: &dyn Fn(f64) -> f64) {
    for (at, point) in points.iter().enumerate() {
        let Some(all) = point.interval else { continue };
        let x = x(at);
        let _ = write!(
            svg,
            "<line class=\"interval\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            y(all.high),
            y(all.low)
        );
    }
    svg.push('\n');
}

/// The level between two changes, and the changes.
fn levels(svg: &mut String, series: &Series, x: &dyn Fn(usize) -> f64, y: &dyn Fn(f64) -> f64) {
    let count = series.points.len();
    for (number, change) in series.changes.iter().enumerate() {
        let from = number.checked_sub(1).map_or(0, |before| series.changes[before].at);
        let to = series.changes.get(number + 1).map_or(count, |next| next.at);
        let at = (x(change.at - 1) + x(change.at)) / 2.0;
        let percent = if change.before > 0.0 { (change.after / change.before - 1.0) * 100.0 } else { 0.0 };
        let worse = if percent > 0.0 { "worse" } else { "better" };
        let arrow = if percent > 0.0 { "▲" } else { "▼" };
        let day = &date(series.points[change.at].at_us)[..10];
        let commit = series.points[change.at].commit.as_ref().map(|commit| format!(" at {commit}"));
        let says = format!("the level changed by {percent:+.1}% on {day}{}", commit.unwrap_or_default());
        let _ = writeln!(
            svg,
            "<line class=\"level\" x1=\"{:.1}\" x2=\"{at:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <line class=\"level\" x1=\"{at:.1}\" x2=\"{2:.1}\" y1=\"{3:.1}\" y2=\"{3:.1}\"/>\
             <g class=\"change {worse}\" tabindex=\"0\" role=\"img\" aria-label=\"{4}\"><title>{4}</title>\
             <line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{5:.1}\"/>\
             <text x=\"{6:.1}\" y=\"{7:.1}\"{8}>{arrow} {percent:+.0}%</text></g>",
            x(from),
            y(change.before),
            x(to - 1),
            y(change.after),
            escape(&says),
            HEIGHT - BOTTOM,
            if at > WIDTH - 80.0 { at - 4.0 } else { at + 4.0 },
            TOP + 9.0,
            if at > WIDTH - 80.0 { " text-anchor=\"end\"" } else { "" },
        );
    }
}

fn dots(
    svg: &mut String,
    points: &[Point],
    x: &dyn Fn(usize) -> f64,
    y: &dyn Fn(f64) -> f64,
    word: &dyn Fn(f64) -> String,
) {
    // Dots that touch say nothing; the last one always does.
    let each = if points.len() <= 60 { 1 } else { points.len() };
    for (at, point) in points.iter().enumerate() {
        if at % each != 0 && at + 1 != points.len() {
            continue;
        }
        let commit = point.commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
        let of = if point.count > 1 { format!(", median of {}", point.count) } else { String::new() };
        let says = format!("{}{commit}: {}{of}", date(point.at_us), word(point.value));
        let last = if at + 1 == points.len() { " last" } else { "" };
        let _ = writeln!(
            svg,
            "<circle class=\"dot{last}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{}\"><title>{}</title></circle>",
            x(at),
            y(point.value),
            if last.is_empty() { 2.5 } else { 4.0 },
            escape(&says)
        );
    }
}

fn ends(svg: &mut String, first_us: u64, last_us: u64) {
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{LEFT}\" y=\"{0:.1}\">{1}</text><text class=\"tick\" x=\"{2:.1}\" y=\"{0:.1}\" text-anchor=\"end\">{3}</text>",
        HEIGHT - 8.0,
        &date(first_us)[..10],
        WIDTH - RIGHT,
        &date(last_us)[..10],
    );
}

/// Hits and misses of each build, one column each.
pub(super) fn columns(outcomes: &[Outcome], width: f64) -> Option<String> {
    let (first, last) = (outcomes.first()?, outcomes.last()?);
    let most = outcomes.iter().map(|one| one.hits + one.misses).max()?.max(1) as f64;
    let (hits, misses): (u64, u64) =
        outcomes.iter().fold((0, 0), |all, one| (all.0 + one.hits, all.1 + one.misses));
    let room = width - LEFT - RIGHT;
    let pitch = room / outcomes.len() as f64;
    let bar = (pitch * 0.78).min(26.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg class=\"chart columns\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"group\" aria-label=\"Cache outcomes of {} builds: \
         {hits} steps answered from a cache, {misses} run\">\n",
        outcomes.len()
    );
    let step = round_step(most, 3.0).max(1.0);
    let mut value = 0.0;
    while value <= most * 1.001 {
        let at = y(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            width - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
        value += step;
    }
    for (at, one) in outcomes.iter().enumerate() {
        let left = LEFT + at as f64 * pitch + (pitch - bar) / 2.0;
        let (hit_top, top) = (y(one.hits as f64), y((one.hits + one.misses) as f64));
        let commit = one.commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
        let says =
            format!("{} {}{commit}: {} answered, {} run", date(one.at_us), one.subject, one.hits, one.misses);
        let _ = writeln!(
            svg,
            "<g class=\"column\"><title>{}</title><rect class=\"hit\" x=\"{left:.1}\" y=\"{hit_top:.1}\" width=\"{bar:.1}\" height=\"{:.1}\"/>\
             <rect class=\"ran\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{bar:.1}\" height=\"{:.1}\"/></g>",
            escape(&says),
            HEIGHT - BOTTOM - hit_top,
            hit_top - top,
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{LEFT}\" y=\"{0:.1}\">{1}</text><text class=\"tick\" x=\"{2:.1}\" y=\"{0:.1}\" text-anchor=\"end\">{3}</text></svg>",
        HEIGHT - 8.0,
        date(first.at_us),
        width - RIGHT,
        date(last.at_us),
    );
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(round_step(100.0, 4.0), 50.0);
        assert_eq!(round_step(7.0, 7.0), 1.0);
        assert!(round_step(0.0, 3.0) > 0.0);
    }
}
