//! hyperfine's `--export-json`: seconds, whatever `--time-unit` shows. Also written, for programs that read it.

use serde_json::{Value, json};

use crate::record::{Ending, Facts, Record, Sample};
use crate::statistics::{deviation, mean, median};

/// One record for each command.
pub(super) fn parse(value: &Value) -> Result<Vec<Record>, String> {
    let results = value["results"].as_array().filter(|results| !results.is_empty());
    let results = results.ok_or("it has no results")?;
    results.iter().map(one).collect()
}

fn one(result: &Value) -> Result<Record, String> {
    let command = result["command"].as_str().unwrap_or("?").to_owned();
    let times = result["times"].as_array().ok_or("a result has no `times`")?;
    let codes = result["exit_codes"].as_array();
    let mean_only =
        ["user_us", "sys_us"].map(|name| (name.to_owned(), "hyperfine tells means only".to_owned()));
    let sample = |(at, seconds): (usize, &Value)| {
        let seconds = seconds.as_f64().filter(|seconds| (0.0..1e9).contains(seconds));
        let code = codes.and_then(|codes| codes.get(at)).and_then(Value::as_i64);
        let failed = code.is_some_and(|code| code != 0);
        Some(Sample {
            wall_us: Some((seconds? * 1e6).round() as u64),
            ending: if failed { Ending::Failed } else { Ending::Ok },
            exit_code: code.and_then(|code| i32::try_from(code).ok()),
            not_observed: mean_only.clone().into(),
            ..Sample::default()
        })
    };
    let samples: Option<Vec<Sample>> = times.iter().enumerate().map(sample).collect();
    let samples = samples.ok_or_else(|| format!("a time of `{command}` is no number of seconds"))?;
    if samples.is_empty() {
        return Err(format!("`{command}` was not run"));
    }
    let facts = Facts {
        subject: command.clone(),
        command: vec![command],
        purpose: "hyperfine".to_owned(),
        ..Facts::default()
    };
    Ok(Record { facts, samples, ..Record::default() })
}

/// The same shape from our own records. A number that was not observed is null.
pub fn write(records: &[Record]) -> Value {
    let seconds = |values: Vec<f64>| -> Vec<f64> { values.iter().map(|us| us / 1e6).collect() };
    let result = |record: &Record| {
        let times = seconds(record.values(|sample| sample.wall_us));
        let users = seconds(record.values(|sample| sample.user_us));
        let systems = seconds(record.values(|sample| sample.sys_us));
        let least = times.iter().copied().min_by(f64::total_cmp);
        let most = times.iter().copied().max_by(f64::total_cmp);
        json!({
            "command": record.facts.subject,
            "mean": mean(&times),
            "stddev": deviation(&times),
            "median": median(&times),
            "user": mean(&users),
            "system": mean(&systems),
            "min": least,
            "max": most,
            "times": times,
            "memory_usage_byte": record.good().map(|sample| sample.largest_process_bytes).collect::<Vec<_>>(),
            "exit_codes": record.good().map(|sample| sample.exit_code).collect::<Vec<_>>(),
        })
    };
    json!({ "results": records.iter().map(result).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_a_record_and_failed_runs_are_marked() {
        let value = json!({"results": [
            {"command": "a", "mean": 0.1, "times": [0.1, 0.2], "exit_codes": [0, 1]},
            {"command": "b", "times": [1]},
        ]});
        let records = parse(&value).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].values(|sample| sample.wall_us), [100_000.0]);
        let again = parse(&write(&records)).unwrap();
        assert_eq!(again[0].values(|sample| sample.wall_us), [100_000.0]);
        assert!(parse(&json!({"results": [{"command": "a", "times": ["x"]}]})).is_err());
        assert!(parse(&json!({"results": [{"command": "a"}]})).is_err());
        assert!(parse(&json!({"results": [{"command": "a", "times": []}]})).is_err());
    }
}
