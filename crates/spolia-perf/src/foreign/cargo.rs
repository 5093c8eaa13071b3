//! The page that `cargo build --timings` writes: `const UNIT_DATA = [{…}, …];` with times in seconds. A unit names
//! those that could begin when it ended, or when its metadata was there; others they waited for are not in it.

use serde_json::Value;

use crate::record::{Facts, Record, Sample, StepSpan};

pub(super) fn parse(text: &str) -> Result<Record, String> {
    let at = text.find("UNIT_DATA = ").ok_or("it is no page of cargo's: there is no `UNIT_DATA = `")?;
    let rest = &text[at + "UNIT_DATA = ".len()..];
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let units =
        values.next().transpose().map_err(|error| format!("its `UNIT_DATA` is not valid JSON: {error}"))?;
    let units = units.as_ref().and_then(Value::as_array).ok_or("its `UNIT_DATA` is no list")?;
    if units.is_empty() {
        return Err("nothing was compiled: its `UNIT_DATA` is empty".to_owned());
    }
    let us = |value: &Value| {
        let seconds = value.as_f64().filter(|seconds| (0.0..1e9).contains(seconds))?;
        Some((seconds * 1e6).round() as u64)
    };
    let mut steps = Vec::new();
    for unit in units {
        let text = |key: &str| unit[key].as_str().unwrap_or_default().trim().to_owned();
        let (start, duration) = (us(&unit["start"]), us(&unit["duration"]));
        let (Some(start), Some(duration)) = (start, duration) else {
            return Err(format!("unit `{}` has no `start` or `duration`", text("name")));
        };
        let target = text("target");
        let target = if target.is_empty() { String::new() } else { format!(" {target}") };
        steps.push(StepSpan {
            name: format!("{} {}{target}", text("name"), text("version")),
            start_us: Some(start),
            wall_us: Some(duration),
            outcome: "ran".to_owned(),
            needs: Some(Vec::new()),
            ..StepSpan::default()
        });
    }
    unique(&mut steps);
    // Cargo numbers the units; those that were fresh have a number and no entry.
    let place = |number: &Value| {
        let number = number.as_u64()?;
        units.iter().position(|unit| unit["i"].as_u64() == Some(number))
    };
    for (at, unit) in units.iter().enumerate() {
        let lists = ["unlocked_units", "unlocked_rmeta_units", "unblocked_units", "unblocked_rmeta_units"];
        let let_begin = lists.iter().filter_map(|key| unit[*key].as_array()).flatten().filter_map(place);
        for other in let_begin.collect::<Vec<_>>() {
            let name = steps[at].name.clone();
            if let Some(needs) = &mut steps[other].needs
                && other != at
            {
                needs.push(name);
            }
        }
    }
    let end = steps.iter().filter_map(|step| Some(step.start_us? + step.wall_us?)).max();
    let sample = Sample {
        wall_us: end,
        cache_misses: Some(steps.len() as u64),
        not_observed: [("user_us".to_owned(), "cargo's page has no CPU time of its units".to_owned())].into(),
        ..Sample::default()
    };
    let facts = Facts {
        subject: "cargo build".to_owned(),
        purpose: "cargo --timings".to_owned(),
        ..Facts::default()
    };
    Ok(Record { facts, samples: vec![sample], steps, ..Record::default() })
}

/// The same package may be compiled twice, for the host and for the target.
fn unique(steps: &mut [StepSpan]) {
    let mut seen = std::collections::HashMap::new();
    for step in steps {
        let count = seen.entry(step.name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            step.name = format!("{} #{count}", step.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_what_let_them_begin_are_read() {
        let text = r#"<html> const UNIT_DATA = [
            {"i": 3, "name": "a", "version": "1.0", "target": "", "start": 0.0, "duration": 2.5, "unlocked_units": [7]},
            {"i": 7, "name": "b", "version": "2.0", "target": " b \"bin\"", "start": 2.5, "duration": 1.5,
             "unblocked_units": [], "unblocked_rmeta_units": [99]}
        ]; const X = 1;"#;
        let record = parse(text).unwrap();
        assert_eq!(record.samples[0].wall_us, Some(4_000_000));
        assert_eq!(record.steps[1].name, "b 2.0 b \"bin\"");
        assert_eq!(record.steps[1].needs.as_deref(), Some(&["a 1.0".to_owned()][..]));
        assert!(parse("<html> UNIT_DATA = []").is_err());
        assert!(parse("<html> UNIT_DATA = [{]").is_err());
        assert!(parse("<html> UNIT_DATA = [{\"name\": 1}]").is_err());
    }
}
