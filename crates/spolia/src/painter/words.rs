//! Durations, sizes and outcomes in a few words.

use spolia_core::event::{StepOutcome, Summary, Tier};
use spolia_core::result::Cost;

use crate::shell::Tone;

/// `83 ms`, `4.2 s`, `3m 07s`, `2h 05m`.
pub(crate) fn duration(us: u64) -> String {
    let ms = us / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A time that is still growing, without digits too fast to read: `0.8 s`, `12.3 s`, `3m 07s`.
pub(crate) fn elapsed(us: u64) -> String {
    match us / 1000 {
        ms @ 0..1000 => format!("0.{} s", ms / 100),
        _ => duration(us),
    }
}

/// `812 B`, `4.0 KiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

fn wall(cost: &Cost) -> String {
    cost.wall_us.map_or_else(|| "time not observed".to_owned(), duration)
}

/// The verb of an outcome, its tone, and what follows the step's name.
pub(crate) fn outcome(outcome: &StepOutcome) -> (Tone, &'static str, String) {
    match outcome {
        StepOutcome::Hit { tier: Tier::UpToDate, .. } => (Tone::Dim, "fresh", String::new()),
        StepOutcome::Hit { restored_files, restored_bytes, saved, .. } => (
            Tone::Good,
            "hit",
            format!(
                ": {restored_files} file{} restored ({}), saved {}",
                if *restored_files == 1 { "" } else { "s" },
                size(*restored_bytes),
                wall(saved)
            ),
        ),
        StepOutcome::Ran { cost, not_stored, same_outputs, .. } => {
            let same = if *same_outputs == Some(true) { ", same outputs as before" } else { "" };
            let stored = not_stored.as_ref().map(|why| format!("; not stored: {why}")).unwrap_or_default();
            (Tone::Good, "ran", format!(" in {}{same}{stored}", wall(cost)))
        }
        StepOutcome::Failed { error, cost, .. } => {
            let after = cost.wall_us.map(|us| format!(" after {}", duration(us))).unwrap_or_default();
            (Tone::Error, "failed", format!("{after}: {error}"))
        }
        StepOutcome::Skipped { because } => (Tone::Warning, "skipped", format!(": {because}")),
    }
}

/// `3 ran, 1 restored, 8 up to date`; empty where nothing has ended.
pub(crate) fn counts(summary: &Summary) -> String {
    let mut parts = Vec::new();
    let mut part = |count: u64, word: &str| {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    };
    part(summary.ran, "ran");
    part(summary.restored, "restored");
    part(summary.up_to_date, "up to date");
    part(summary.failed, "failed");
    part(summary.skipped, "skipped");
    parts.join(", ")
}

/// The tone and verb of a build's last line.
pub(crate) fn ending(summary: &Summary, exit_code: i32) -> (Tone, &'static str) {
    match exit_code {
        0 => (Tone::Good, "built"),
        130 => (Tone::Warning, "stopped"),
        _ if summary.failed > 0 => (Tone::Error, "failed"),
        _ => (Tone::Error, "ended"),
    }
}

/// The last line of a build.
pub(crate) fn summary(summary: &Summary) -> String {
    let mut text = counts(summary);
    if text.is_empty() {
        text.push_str("nothing to do");
    }
    if let Some(wall) = summary.wall_us {
        text.push_str(&format!(" in {}", duration(wall)));
    }
    if summary.restored_bytes > 0 {
        text.push_str(&format!("; {} restored", size(summary.restored_bytes)));
    }
    // Recorded run times of the steps that did not run, added up: not wall time, which runs in parallel.
    if let Some(saved) = summary.saved_us.filter(|us| *us > 0) {
        text.push_str(&format!("; {} of step time saved", duration(saved)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_chosen_to_be_short() {
        assert_eq!(duration(999_999), "999 ms");
        assert_eq!(duration(4_210_000), "4.2 s");
        assert_eq!(duration(187_000_000), "3m 07s");
        assert_eq!(duration(7_500_000_000), "2h 05m");
        assert_eq!(elapsed(83_000), "0.0 s");
        assert_eq!(elapsed(999_999), "0.9 s");
        assert_eq!(elapsed(12_345_678), "12.3 s");
        assert_eq!(elapsed(187_000_000), "3m 07s");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(4096), "4.0 KiB");
        assert_eq!(size(1_610_612_736), "1.5 GiB");
        assert_eq!(size(u64::MAX), "16383.9 PiB");
    }

    #[test]
    fn a_summary_says_what_was_observed() {
        let mut all = Summary { ran: 1, up_to_date: 3, ..Summary::default() };
        assert_eq!(summary(&all), "1 ran, 3 up to date");
        all.wall_us = Some(2_500_000);
        all.saved_us = Some(187_000_000);
        all.restored_bytes = 4096;
        assert_eq!(
            summary(&all),
            "1 ran, 3 up to date in 2.5 s; 4.0 KiB restored; 3m 07s of step time saved"
        );
        assert_eq!(summary(&Summary::default()), "nothing to do");
    }
}
