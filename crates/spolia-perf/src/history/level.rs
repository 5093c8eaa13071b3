//! `Row`s → where a cost changed its level and stayed there. Pure.

use std::collections::BTreeMap;

use crate::check::Cost;
use crate::history::Row;
use crate::record::State;
use crate::statistics::change::{Options, changes};

/// Measurements of one thing that are looked at, the newest.
pub const LEVELS_MAX: usize = 200;

/// One change.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LevelChange {
    /// Of what.
    pub subject: String,
    /// On which platform.
    pub platform: Option<String>,
    /// Cold or warm.
    pub state: Option<State>,
    /// Which cost.
    pub cost: Cost,
    /// The first run of the new level.
    pub run: String,
    /// When that was, µs since 1970.
    pub at_us: u64,
    /// The commit that was measured.
    pub commit: Option<String>,
    /// Its first line.
    pub title: Option<String>,
    /// The median before, µs.
    pub before_us: f64,
    /// The median from there on, µs.
    pub after_us: f64,
    /// How often chance gives a change as clear.
    pub p: f64,
}

/// What a series has in common: only measurements of one machine follow each other.
type Key<'r> = (&'r str, Option<&'r str>, Option<State>, Option<&'r str>);

/// The changes of every subject in `rows` (oldest first), oldest first.
pub fn level_changes(rows: &[Row]) -> Vec<LevelChange> {
    let mut groups: BTreeMap<Key<'_>, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.good > 0 && row.purpose != "bisect") {
        let key = (row.subject.as_str(), row.platform.as_deref(), row.state, row.host.as_deref());
        groups.entry(key).or_default().push(row);
    }
    let mut found = Vec::new();
    for rows in groups.values() {
        for cost in [Cost::Cpu, Cost::Wall] {
            let seen: Vec<(&Row, f64)> =
                rows.iter().filter_map(|row| Some((*row, cost.of_row(row).0?))).collect();
            let seen = &seen[seen.len().saturating_sub(LEVELS_MAX)..];
            let values: Vec<f64> = seen.iter().map(|(_, value)| *value).collect();
            for change in changes(&values, &Options::default()) {
                let row = seen[change.at].0;
                found.push(LevelChange {
                    subject: row.subject.clone(),
                    platform: row.platform.clone(),
                    state: row.state,
                    cost,
                    run: row.run.clone(),
                    at_us: row.at_us,
                    commit: row.commit.clone(),
                    title: row.title.clone(),
                    before_us: change.before,
                    after_us: change.after,
                    p: change.p,
                });
            }
        }
    }
    found.sort_by(|one, other| one.at_us.cmp(&other.at_us).then_with(|| one.subject.cmp(&other.subject)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_belongs_to_one_thing_on_one_machine() {
        let row = |at: u64, host: &str, cpu: f64| Row {
            run: format!("r{at}"),
            at_us: at,
            subject: "x".into(),
            host: Some(host.into()),
            good: 1,
            cpu_us: Some(cpu + (at * 37 % 11) as f64),
            ..Row::default()
        };
        let steady: Vec<Row> =
            (0..40).map(|at| if at < 20 { row(at, "a", 1000.0) } else { row(at, "b", 2000.0) }).collect();
        assert_eq!(level_changes(&steady), []);
        let changed: Vec<Row> =
            (0..40).map(|at| row(at, "a", if at < 20 { 1000.0 } else { 1300.0 })).collect();
        let found = level_changes(&changed);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].run.as_str(), found[0].cost), ("r20", Cost::Cpu));
        assert!((found[0].after_us / found[0].before_us - 1.3).abs() < 0.01);
    }
}
