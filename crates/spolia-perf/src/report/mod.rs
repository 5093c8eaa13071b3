//! What is known → one page: HTML, SVG or Markdown. Pure: what is shown is handed over, and the time too.
//!
//! The page needs nothing else: no network, no file beside it. Long histories are thinned to [`POINTS_MAX`] points before
//! anything is drawn, so that ten thousand runs make no larger page than some hundreds.

mod chart;
mod html;
mod markdown;
mod timeline;

pub use html::{html, svg};
pub use markdown::markdown;

use crate::accept::Baseline;
use crate::analyze::Analysis;
use crate::history::{Row, StepTotal};
use crate::record::{Record, State};
use crate::statistics::bootstrap::median_interval;
use crate::statistics::change::{Change, Options, changes};
use crate::statistics::shift::Interval;
use crate::statistics::{median, of_sorted};
use crate::verdict::{Rule, Verdict, judge};

/// At most so many points in a chart.
pub const POINTS_MAX: usize = 160;
/// At most so many subjects have a trend.
pub const TRENDS_MAX: usize = 8;
/// Runs in the chart of cache outcomes and of sizes.
const BARS_MAX: usize = 60;
/// Measurements that the newest is compared with.
const COMPARED_MAX: usize = 60;

/// All that goes into a report.
pub struct Report {
    /// The project's name or folder.
    pub title: String,
    /// When it is made, µs since 1970.
    pub made_us: u64,
    /// The build that is drawn, and what was found in it.
    pub build: Option<(Record, Analysis)>,
    /// Costs over time, by subject.
    pub trends: Vec<Trend>,
    /// Cache outcomes of the newest builds, oldest first.
    pub outcomes: Vec<Outcome>,
    /// Output and store sizes over time.
    pub sizes: Vec<(String, Vec<Point>)>,
    /// Steps by what they cost over all builds.
    pub steps: Vec<StepTotal>,
    /// Measurements in the history.
    pub measurements: usize,
    /// What is to be said about the data.
    pub notes: Vec<String>,
}

/// One place on a chart: one measurement, or several that were thinned to one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// When, µs since 1970.
    pub at_us: u64,
    /// The median.
    pub value: f64,
    /// Where the median lies, or where the middle half of several measurements does.
    pub interval: Option<Interval>,
    /// The commit, shortened.
    pub commit: Option<String>,
    /// How many measurements it stands for.
    pub count: usize,
}

/// One cost of one subject over time.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    /// Of what.
    pub subject: String,
    /// Cold or warm.
    pub state: Option<State>,
    /// CPU time, µs.
    pub cpu: Series,
    /// Wall time, µs.
    pub wall: Series,
    /// Measurements.
    pub count: usize,
    /// The newest beside those before it.
    pub newest: Option<(Verdict, Verdict)>,
}

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Oldest first.
    pub points: Vec<Point>,
    /// Where its level changed, by place in `points`.
    pub changes: Vec<Change>,
    /// Where a new baseline was accepted, by place in `points`.
    pub accepted: Vec<usize>,
}

/// What caches answered in one build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// When.
    pub at_us: u64,
    /// Of what.
    pub subject: String,
    /// Steps answered.
    pub hits: u64,
    /// Steps that ran.
    pub misses: u64,
    /// The commit, shortened.
    pub commit: Option<String>,
}

impl Report {
    /// Gathers: `rows` oldest first.
    pub fn gather(
        title: String,
        made_us: u64,
        build: Option<Record>,
        rows: &[Row],
        baselines: &[Baseline],
        steps: Vec<StepTotal>,
    ) -> Self {
        let build = build.map(|record| {
            let analysis = crate::analyze::analyze(&record);
            (record, analysis)
        });
        let outcomes = rows.iter().filter_map(outcome).collect::<Vec<_>>();
        let newest = outcomes.len().saturating_sub(BARS_MAX);
        let mut notes = Vec::new();
        let failed: u64 = rows.iter().map(|row| row.bad).sum();
        if failed > 0 {
            notes.push(format!("{failed} failed runs are in the history and in none of the figures."));
        }
        let hosts: std::collections::BTreeSet<_> = rows.iter().filter_map(|row| row.host.as_ref()).collect();
        if hosts.len() > 1 {
            notes.push(format!(
                "The measurements come from {} different machines: a step in a trend may be a change of machine.",
                hosts.len()
            ));
        }
        Self {
            title,
            made_us,
            build,
            trends: trends(rows, baselines),
            outcomes: outcomes[newest..].to_vec(),
            sizes: sizes(rows),
            steps,
            measurements: rows.len(),
            notes,
        }
    }
}

fn short(commit: &Option<String>) -> Option<String> {
    commit.as_ref().map(|commit| commit.get(..8).unwrap_or(commit).to_owned())
}

fn outcome(row: &Row) -> Option<Outcome> {
    let (hits, misses) = row.hits.zip(row.misses).filter(|(hits, misses)| hits + misses > 0)?;
    Some(Outcome { at_us: row.at_us, subject: row.subject.clone(), hits, misses, commit: short(&row.commit) })
}

/// Takes one figure out of a row.
type Figure = fn(&Row) -> Option<f64>;

fn sizes(rows: &[Row]) -> Vec<(String, Vec<Point>)> {
    let figures: [(&str, Figure); 2] = [("outputs", |row| row.size_bytes), ("store", |row| row.store_bytes)];
    let series = |(name, figure): (&str, Figure)| {
        // Of the whole build where there is one: steps alone have smaller outputs.
        let whole = rows.iter().any(|row| row.subject == "build" && figure(row).is_some());
        let of = rows.iter().filter(|row| !whole || row.subject == "build");
        let point = |row: &Row| {
            let value = figure(row)?;
            Some(Point { at_us: row.at_us, value, interval: None, commit: short(&row.commit), count: 1 })
        };
        (name.to_owned(), thin(of.filter_map(point).collect()))
    };
    figures.map(series).into_iter().filter(|(_, points)| !points.is_empty()).collect()
}

/// Subject, state and platform.
type Key<'r> = (&'r str, Option<State>, Option<&'r str>);

fn trends(rows: &[Row], baselines: &[Baseline]) -> Vec<Trend> {
    let mut groups: Vec<(Key<'_>, Vec<&Row>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for row in rows.iter().filter(|row| row.good > 0) {
        let key = (row.subject.as_str(), row.state, row.platform.as_deref());
        let place = *places.entry(key).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(row);
    }
    groups.retain(|(_, rows)| rows.len() > 1);
    groups.sort_by_key(|((subject, ..), rows)| (std::cmp::Reverse(rows.len()), subject.to_owned()));
    groups.truncate(TRENDS_MAX);
    let trend = |((subject, state, platform), rows): &(Key<'_>, Vec<&Row>)| {
        let of = |baseline: &&Baseline| baseline.concerns(subject, *platform, *state);
        let from: Vec<u64> = baselines.iter().filter(of).map(|baseline| baseline.from_us).collect();
        let name = match platform {
            Some(platform) => format!("{subject} ({platform})"),
            None => (*subject).to_owned(),
        };
        Trend {
            subject: name,
            state: *state,
            cpu: series(rows, &from, |row| (row.cpu_us, &row.cpus_us)),
            wall: series(rows, &from, |row| (row.wall_us, &row.walls_us)),
            count: rows.len(),
            newest: newest(rows, from.last().copied().unwrap_or(0)),
        }
    };
    groups.iter().map(trend).collect()
}

/// The newest measurement's runs beside those of the measurements before it, since the last accepted baseline.
fn newest(rows: &[&Row], from_us: u64) -> Option<(Verdict, Verdict)> {
    let (last, before) = rows.split_last()?;
    let before: Vec<&&Row> = before.iter().filter(|row| row.at_us >= from_us).collect();
    let before = &before[before.len().saturating_sub(COMPARED_MAX)..];
    if before.is_empty() {
        return None;
    }
    let rule = Rule { draws: 400, ..Rule::default() };
    let all = |figure: fn(&Row) -> &[f64]| -> Vec<f64> {
        let mut values: Vec<f64> = before.iter().flat_map(|row| figure(row).iter().copied()).collect();
        values.drain(..values.len().saturating_sub(COMPARED_MAX));
        values
    };
    Some((
        judge(&all(|row| &row.cpus_us), &last.cpus_us, &rule),
        judge(&all(|row| &row.walls_us), &last.walls_us, &rule),
    ))
}

fn series(rows: &[&Row], accepted_us: &[u64], figure: impl Fn(&Row) -> (Option<f64>, &Vec<f64>)) -> Series {
    let few = rows.len() <= POINTS_MAX;
    let point = |row: &&Row| {
        let (value, all) = figure(row);
        let interval = (few && all.len() > 2).then(|| median_interval(all, 0.95, 200, 1)).flatten();
        Some(Point { at_us: row.at_us, value: value?, interval, commit: short(&row.commit), count: 1 })
    };
    let points = thin(rows.iter().filter_map(point).collect());
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let accepted = accepted_us.iter().filter_map(|from| points.iter().position(|point| point.at_us >= *from));
    Series { changes: changes(&values, &Options::default()), accepted: accepted.collect(), points }
}

/// At most [`POINTS_MAX`]: neighbours become one, with the middle half of them as its interval.
fn thin(points: Vec<Point>) -> Vec<Point> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let bucket = |number: usize| {
        let (from, to) = (number * points.len() / POINTS_MAX, (number + 1) * points.len() / POINTS_MAX);
        let of = &points[from..to];
        let mut values: Vec<f64> = of.iter().map(|point| point.value).collect();
        values.sort_by(f64::total_cmp);
        let interval = of_sorted(&values, 0.25).zip(of_sorted(&values, 0.75));
        Point {
            at_us: of[0].at_us,
            value: median(&values).unwrap_or_default(),
            interval: interval.map(|(low, high)| Interval { low, high }),
            commit: of[0].commit.clone(),
            count: of.len(),
        }
    };
    (0..POINTS_MAX).map(bucket).collect()
}

/// Text for HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in XML, and no picture of anything.
            letter if letter.is_control() && letter != '\n' && letter != '\t' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// `83 ms`, `4.2 s`, `3m 07s`.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 9_995.0 => format!("{:.2} ms", us / 1e3),
        us if us < 99_950.0 => format!("{:.1} ms", us / 1e3),
        us if us < 999_500.0 => format!("{:.0} ms", us / 1e3),
        us if us < 9_995_000.0 => format!("{:.2} s", us / 1e6),
        us if us < 59_950_000.0 => format!("{:.1} s", us / 1e6),
        us => {
            let seconds = (us / 1e6).round() as u64;
            match seconds {
                0..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
                _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
            }
        }
    }
}

/// `4.0 KiB`.
pub(crate) fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `2026-11-21 14:44`.
pub(crate) fn date(us: u64) -> String {
    crate::record::rfc3339(us)[..16].replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_series_are_thinned_to_medians_with_their_middle_half() {
        let point = |at: u64| Point { at_us: at, value: (at % 10) as f64, count: 1, ..Point::default() };
        let thinned = thin((0..16_000).map(point).collect());
        assert_eq!(thinned.len(), POINTS_MAX);
        assert_eq!(thinned.iter().map(|point| point.count).sum::<usize>(), 16_000);
        assert_eq!(thinned[0].value, 4.5);
        assert_eq!(thinned[0].interval, Some(Interval { low: 2.0, high: 7.0 }));
        assert_eq!(thin(vec![point(1)]).len(), 1);
    }

    #[test]
    fn text_of_others_is_no_markup() {
        assert_eq!(escape("<a href='x'>&\"\u{1}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}");
    }
}
