//! `bytes of a file → Record`s: our own files and those of other tools. Pure but for [`read`].
//!
//! | file | told by | what it has |
//! |---|---|---|
//! | our own, or any JSON with the plain fields of [`crate::record::Plain`] | an object | everything, or one run |
//! | hyperfine's `--export-json` | `results` | wall time of each run; of CPU time only means |
//! | cargo's `--timings` page | `UNIT_DATA` | units, when they ran, and which let which begin |
//! | ninja's `.ninja_log` | its first line | steps and when they ran, not what they need |

mod cargo;
pub mod hyperfine;
mod ninja;

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::PerfError;
use crate::record::{RECORD_VERSION, Record, Sample};

/// A larger file is refused.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads a file.
///
/// # Errors
/// It cannot be read, is too large, or holds no measurements.
pub fn read(path: &Path) -> Result<Vec<Record>, PerfError> {
    let file = std::fs::File::open(path).map_err(PerfError::io("read", path))?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(PerfError::io("read", path))?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(PerfError::TooLarge { path: path.to_owned(), limit: FILE_BYTES_MAX });
    }
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&bytes, &name).map_err(|why| PerfError::Format { path: path.to_owned(), why })
}

/// The measurements in `bytes`; `name` is the subject where the file does not say one. Never none.
///
/// # Errors
/// Why it holds none, in a sentence.
pub fn parse(bytes: &[u8], name: &str) -> Result<Vec<Record>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.starts_with("# ninja log v") {
        return ninja::parse(text).map(|record| vec![record]);
    }
    if text.contains("UNIT_DATA") && text.trim_start().starts_with('<') {
        return cargo::parse(text).map(|record| vec![record]);
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not valid JSON: {error}"))?;
    if value.get("results").is_some_and(Value::is_array) {
        return hyperfine::parse(&value);
    }
    if let Some(records) = value.get("records").and_then(Value::as_array) {
        let records: Result<Vec<Record>, String> = records.iter().map(|record| own(record, name)).collect();
        return records.and_then(|records| {
            if records.is_empty() { Err("it has no records".into()) } else { Ok(records) }
        });
    }
    own(&value, name).map(|record| vec![record])
}

/// Our own record, or the plain fields of another tool.
fn own(value: &Value, name: &str) -> Result<Record, String> {
    if !value.is_object() {
        return Err("it is no JSON object".to_owned());
    }
    let version = value.get("spolia_perf").and_then(Value::as_u64);
    if version.is_some_and(|version| version > u64::from(RECORD_VERSION)) {
        return Err(format!(
            "it is of version {}, and this program knows {RECORD_VERSION}",
            version.unwrap_or(0)
        ));
    }
    let mut record: Record = serde_json::from_value(value.clone())
        .map_err(|error| format!("a field is not what it should be: {error}"))?;
    let plain = &record.plain;
    if record.samples.is_empty() && record.steps.is_empty() {
        if plain == &Default::default() {
            return Err("it has none of the fields of a measurement".to_owned());
        }
        if plain.duration_ms.is_some_and(|ms| !(0.0..1e12).contains(&ms)) {
            return Err("its `duration_ms` is no time".to_owned());
        }
        let reason = "the file has one run by another tool, which does not say it".to_owned();
        record.samples.push(Sample {
            wall_us: plain.duration_ms.map(|ms| (ms * 1000.0).round() as u64),
            cache_hits: plain.cache_hits,
            cache_misses: plain.cache_misses,
            build_size_bytes: plain.build_size_bytes,
            dependencies: plain.dependencies,
            largest_process_bytes: plain.memory_usage_bytes,
            not_observed: [("user_us".to_owned(), reason)].into(),
            ..Sample::default()
        });
    }
    if record.facts.subject.is_empty() {
        record.facts.subject = plain.build_target.clone().unwrap_or_else(|| name.to_owned());
    }
    let host = &mut record.facts.host;
    if host.fingerprint.is_empty() {
        host.os = plain.os.clone().unwrap_or_default();
        host.arch = plain.arch.clone().unwrap_or_default();
        host.num_cpu = host.num_cpu.or(plain.num_cpu);
    }
    if let Some(version) = &plain.go_version {
        record.facts.toolchain.entry("go".to_owned()).or_insert_with(|| version.clone());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ending;

    #[test]
    fn plain_fields_of_other_tools_are_one_run() {
        let text = r#"{"build_target":"app","duration_ms":1060.5,"cache_hits":85,"cache_misses":15,"go_version":"go1.22",
            "os":"linux","arch":"amd64","num_cpu":4,"memory_usage_bytes":650000,"optimizations":["a"],"unknown":1}"#;
        let records = parse(text.as_bytes(), "x").unwrap();
        let sample = &records[0].samples[0];
        assert_eq!((sample.wall_us, sample.cpu_us(), sample.cache_hits), (Some(1_060_500), None, Some(85)));
        assert_eq!(records[0].facts.subject, "app");
        assert_eq!(records[0].facts.host.num_cpu, Some(4));
        // Every field is optional; one is enough.
        assert_eq!(parse(br#"{"duration_ms": 3}"#, "x").unwrap()[0].facts.subject, "x");
    }

    #[test]
    fn our_own_files_are_read_as_they_were_written() {
        let facts = crate::record::Facts { subject: "app".to_owned(), ..Default::default() };
        let sample = Sample { wall_us: Some(5), user_us: Some(1), sys_us: Some(2), ..Sample::default() };
        let failed = Sample { ending: Ending::Failed, ..sample.clone() };
        let record = Record::new("r".to_owned(), facts, vec![sample, failed], Vec::new());
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(parse(text.as_bytes(), "x").unwrap(), std::slice::from_ref(&record));
        assert_eq!(record.values(Sample::cpu_us), [3.0]);
        let both = format!(r#"{{"records":[{text},{text}]}}"#);
        assert_eq!(parse(both.as_bytes(), "x").unwrap().len(), 2);
    }

    #[test]
    fn what_holds_no_measurements_says_why() {
        let check = |text: &str, expect: &str| {
            let why = parse(text.as_bytes(), "x").unwrap_err();
            assert!(why.contains(expect), "{text}: {why}");
        };
        check("", "empty");
        check("{", "not valid JSON");
        check("[1]", "no JSON object");
        check("{}", "none of the fields");
        check(r#"{"a": 1}"#, "none of the fields");
        check(r#"{"duration_ms": "long"}"#, "a field is not");
        check(r#"{"duration_ms": -1}"#, "no time");
        check(r#"{"spolia_perf": 99, "samples": []}"#, "version 99");
        check(r#"{"results": []}"#, "no results");
        check(r#"{"records": []}"#, "no records");
        assert_eq!(parse(b"\xff\xfe", "x").unwrap_err(), "it is no text");
    }
}
