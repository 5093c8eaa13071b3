//! ninja's log: `START END MTIME OUTPUT HASH`, tabs between, ms since the build began. Several builds may follow one
//! another in it; the last is what is looked at. A step with several outputs has a line for each.

use std::collections::HashMap;

use crate::record::{Facts, Record, Sample, StepSpan};

pub(super) fn parse(text: &str) -> Result<Record, String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let version: u32 =
        first.trim_start_matches("# ninja log v").trim().parse().map_err(|_| "its version is no number")?;
    if !(5..=7).contains(&version) {
        return Err(format!("ninja's log is of version {version}; 5 to 7 are known"));
    }
    let mut steps: Vec<StepSpan> = Vec::new();
    let mut at_time: HashMap<(u64, u64, String), usize> = HashMap::new();
    let mut last_end = 0;
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [start, end, _, output, hash] = fields.as_slice() else { continue };
        let (Ok(start), Ok(end)) = (start.parse::<u64>(), end.parse::<u64>()) else { continue };
        let Some(wall) = end.checked_sub(start).filter(|_| end < 1_000_000_000_000) else { continue };
        // Lines are written as steps end: an earlier end is the next build.
        if end < last_end {
            steps.clear();
            at_time.clear();
        }
        last_end = end;
        let key = (start, end, (*hash).to_owned());
        if let Some(known) = at_time.get(&key) {
            steps[*known].name.push_str(&format!(", {output}"));
            continue;
        }
        at_time.insert(key, steps.len());
        steps.push(StepSpan {
            name: (*output).to_owned(),
            start_us: Some(start * 1000),
            wall_us: Some(wall * 1000),
            outcome: "ran".to_owned(),
            needs: None,
            ..StepSpan::default()
        });
    }
    if steps.is_empty() {
        return Err("ninja's log has no steps".to_owned());
    }
    let begin = steps.iter().filter_map(|step| step.start_us).min().unwrap_or(0);
    for step in &mut steps {
        step.start_us = step.start_us.map(|start| start - begin);
    }
    let end = steps.iter().filter_map(|step| Some(step.start_us? + step.wall_us?)).max();
    let why = |name: &str, why: &str| (name.to_owned(), why.to_owned());
    let sample = Sample {
        wall_us: end,
        cache_misses: Some(steps.len() as u64),
        not_observed: [
            why("user_us", "ninja's log has no CPU time"),
            why("cache_hits", "ninja's log has only steps that ran"),
        ]
        .into(),
        ..Sample::default()
    };
    let facts = Facts { subject: "ninja".to_owned(), purpose: "ninja log".to_owned(), ..Facts::default() };
    Ok(Record { facts, samples: vec![sample], steps, ..Record::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_build_of_the_log_is_read() {
        let log = "# ninja log v5\n0\t900\t1\told\tab\n5\t100\t1\ta\t1\n5\t100\t1\ta.d\t1\n100\t300\t1\tb\t2\nbroken\n";
        let record = parse(log).unwrap();
        let names: Vec<&str> = record.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["a, a.d", "b"]);
        assert_eq!(record.samples[0].wall_us, Some(295_000));
        assert_eq!(record.steps[0].needs, None);
        assert!(parse("# ninja log v4\n").is_err());
        assert!(parse("# ninja log v5\n").is_err());
        assert!(parse("# ninja log vx\n").is_err());
    }
}
