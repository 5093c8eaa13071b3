//! `records → Summary`: what `spolia stats` shows. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::tally::Record;

/// A pause between two calls that is longer than this parts two build sessions, µs.
pub const SESSION_PAUSE_US: u64 = 60 * 1_000_000;

/// Counts of one group of calls. Times are sums of what was observed, and `None` where nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Answered from the store.
    pub hits: u64,
    /// Compiled and kept, or at least tried.
    pub misses: u64,
    /// Not for the cache.
    pub not_cacheable: u64,
    /// No compiles: questions, unknown programs.
    pub pass_through: u64,
    /// Our own failures; the compiler ran.
    pub internal: u64,
    /// CPU time that the compiles of hits cost when they ran, less what the hits cost, µs.
    pub saved_cpu_us: Option<u64>,
    /// The same in wall time, without what the hits cost, µs.
    pub saved_wall_us: Option<u64>,
    /// CPU time of the compiles that ran, µs.
    pub compile_cpu_us: Option<u64>,
    /// CPU time of Spolia itself, µs.
    pub own_cpu_us: Option<u64>,
    /// Bytes that hits put back.
    pub restored_bytes: u64,
    /// Bytes that misses kept, before they were packed.
    pub kept_bytes: u64,
}

fn add(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

impl Counts {
    fn take(&mut self, record: &Record) {
        add(&mut self.own_cpu_us, record.own_cpu_us);
        match record.outcome.as_str() {
            "hit" => {
                self.hits += 1;
                let saved = record.compile_cpu_us.zip(record.own_cpu_us);
                add(&mut self.saved_cpu_us, saved.map(|(compile, own)| compile.saturating_sub(own)));
                add(&mut self.saved_wall_us, record.compile_wall_us);
                self.restored_bytes = self.restored_bytes.saturating_add(record.bytes.unwrap_or(0));
                return;
            }
            "miss" => {
                self.misses += 1;
                let kept = record.bytes.filter(|_| record.not_stored.is_none()).unwrap_or(0);
                self.kept_bytes = self.kept_bytes.saturating_add(kept);
            }
            "not-cacheable" => self.not_cacheable += 1,
            "pass-through" => self.pass_through += 1,
            _ => self.internal += 1,
        }
        add(&mut self.compile_cpu_us, record.compile_cpu_us);
    }

    /// Hits in a hundred calls that the cache takes; `None` where there were none.
    pub fn hit_percent(&self) -> Option<u64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits * 100 / all)
    }
}

/// How often one reason was given, and what it was about most often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// `miss`, `not-cacheable`, `not-stored`, `internal`, `pass-through`.
    pub outcome: String,
    /// The reason's word, or its sentence.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// The file, argument or variable that it was about most often.
    pub mostly: Option<String>,
}

/// How often rustc's incremental data was moved, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Incremental {
    /// How often.
    pub count: u64,
    /// Bytes in all.
    pub bytes: u64,
}

impl Incremental {
    fn take(&mut self, bytes: Option<u64>) {
        self.count += u64::from(bytes.is_some());
        self.bytes = self.bytes.saturating_add(bytes.unwrap_or(0));
    }
}

/// What a set of calls did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// When the first ended, µs since 1970.
    pub first_at_us: Option<u64>,
    /// When the last did.
    pub last_at_us: Option<u64>,
    /// Build sessions.
    pub sessions: u64,
    /// All of them.
    pub all: Counts,
    /// By language.
    pub languages: BTreeMap<String, Counts>,
    /// By compiler, as it was called.
    pub compilers: BTreeMap<String, Counts>,
    /// Why not, most frequent first.
    pub reasons: Vec<Reason>,
    /// Failures of ours while the store or a file was read.
    pub read_errors: u64,
    /// While something was written.
    pub write_errors: u64,
    /// Waits for an identical compile that were too long.
    pub timeouts: u64,
    /// How often rustc's incremental data was given back before it ran, and its bytes.
    pub incremental_given_back: Incremental,
    /// How often it was kept.
    pub incremental_kept: Incremental,
    /// Hits that were compiled again and gave the same.
    pub verified: u64,
    /// And that gave something else.
    pub verify_differs: u64,
    /// And whose compiler gives something else each time it runs: nothing can be said of them.
    pub verify_varies: u64,
    /// Lines of the statistics that could not be read.
    pub unreadable: u64,
}

/// What `records` did.
pub fn summarise(records: &[Record]) -> Summary {
    let mut summary = Summary::default();
    let mut reasons: BTreeMap<(String, String), BTreeMap<Option<String>, u64>> = BTreeMap::new();
    let mut last = None;
    for record in records {
        summary.all.take(record);
        let language = record.language.clone().unwrap_or_else(|| "–".to_owned());
        summary.languages.entry(language).or_default().take(record);
        summary.compilers.entry(record.compiler.clone()).or_default().take(record);
        summary.first_at_us = Some(summary.first_at_us.map_or(record.at_us, |first| first.min(record.at_us)));
        summary.last_at_us = summary.last_at_us.max(Some(record.at_us));
        if last.is_none_or(|last| record.at_us.saturating_sub(last) > SESSION_PAUSE_US) {
            summary.sessions += 1;
        }
        last = last.max(Some(record.at_us));
        summary.timeouts += u64::from(record.waited_in_vain);
        summary.incremental_given_back.take(record.incremental_given_back_bytes);
        summary.incremental_kept.take(record.incremental_kept_bytes);
        match record.verified {
            Some(true) => summary.verified += 1,
            Some(false) => summary.verify_differs += 1,
            None => {}
        }
        summary.verify_varies += u64::from(record.varies);
        let mut count = |outcome: &str, reason: String, detail: Option<String>| {
            *reasons.entry((outcome.to_owned(), reason)).or_default().entry(detail).or_insert(0) += 1;
        };
        if let Some(why) = &record.not_stored {
            if why.starts_with("cannot write")
                || why.starts_with("cannot create")
                || why.starts_with("cannot rename")
            {
                summary.write_errors += 1;
            }
            count("not-stored", why.clone(), record.source.clone());
        }
        match (&record.reason, record.outcome.as_str()) {
            (Some(reason), outcome) => count(outcome, reason.clone(), record.detail.clone()),
            (None, "internal") => {
                let why = record.detail.clone().unwrap_or_default();
                summary.read_errors += u64::from(why.starts_with("cannot read"));
                count("internal", why, None);
            }
            _ => {}
        }
    }
    summary.reasons = reasons
        .into_iter()
        .map(|((outcome, reason), details)| {
            let count = details.values().sum();
            let mostly = details.into_iter().max_by_key(|(_, count)| *count).and_then(|(detail, _)| detail);
            Reason { outcome, reason, count, mostly }
        })
        .collect();
    summary.reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    summary
}

/// The records of the last build session.
pub fn last_session(records: &[Record]) -> &[Record] {
    let parts = |at: &usize| {
        records[*at].at_us.saturating_sub(records[*at - 1].at_us) > SESSION_PAUSE_US
            || records[*at].session != records[*at - 1].session
    };
    let from = (1..records.len()).rev().find(parts).unwrap_or(0);
    &records[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_us: u64, outcome: &str, reason: Option<&str>) -> Record {
        Record {
            at_us,
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
            language: Some("c".to_owned()),
            compiler: "gcc".to_owned(),
            own_cpu_us: Some(1),
            compile_cpu_us: Some(100),
            compile_wall_us: Some(110),
            bytes: Some(10),
            ..Record::default()
        }
    }

    #[test]
    fn calls_are_counted_by_what_they_did() {
        let records = [
            record(1, "miss", Some("never-seen")),
            record(2, "hit", None),
            record(SESSION_PAUSE_US * 2, "hit", None),
            record(SESSION_PAUSE_US * 2 + 1, "not-cacheable", Some("link")),
        ];
        let summary = summarise(&records);
        assert_eq!((summary.all.hits, summary.all.misses, summary.all.not_cacheable), (2, 1, 1));
        assert_eq!(summary.all.hit_percent(), Some(66));
        assert_eq!(summary.all.saved_cpu_us, Some(198));
        assert_eq!(summary.sessions, 2);
        assert_eq!(summary.reasons.len(), 2);
        assert_eq!(last_session(&records).len(), 2);
        assert_eq!(summarise(&[]).all.saved_cpu_us, None, "what was not observed is not 0");
        assert!(last_session(&[]).is_empty());
    }
}
