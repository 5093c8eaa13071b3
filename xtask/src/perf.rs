//! Tasks about measuring: the statistics beside scipy, and live comparisons.

pub(crate) mod aa;

use std::process::Command;

use serde_json::Value;

use crate::packages;
use crate::run::{self, Done};

/// How far two values may lie apart: another scipy may round otherwise.
const TOLERANCE: f64 = 1e-6;

/// `cargo xtask perf-reference`: installs scipy in a virtual environment below `target`, lets it say again what the
/// tests of the statistics compare with, and compares that with what is committed.
pub(crate) fn reference() -> Done {
    let root = run::root()?;
    let tests = root.join("crates/spolia-perf/tests");
    let mut script = Command::new(packages::python("perf-reference", &["scipy"])?.join("python"));
    script.arg(tests.join("reference.py")).arg(tests.join("data/aa-runs.json"));
    let now: Value = parse(&run::output(&mut script)?)?;
    let path = tests.join("data/scipy.json");
    let known = parse(&std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?)?;
    let mut numbers = 0;
    same(&known, &now, "", &mut numbers)?;
    println!("{numbers} reference values are what scipy says");
    Ok(())
}

fn parse(text: &str) -> Done<Value> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

fn same(known: &Value, now: &Value, path: &str, numbers: &mut u32) -> Done {
    let differs = || Err(format!("{path}: `{known}` is committed, scipy says `{now}`"));
    match (known, now) {
        (Value::Object(one), Value::Object(other)) if one.len() == other.len() => one
            .iter()
            .try_for_each(|(key, value)| same(value, &now[key.as_str()], &format!("{path}/{key}"), numbers)),
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
            .iter()
            .zip(other)
            .enumerate()
            .try_for_each(|(at, (one, other))| same(one, other, &format!("{path}/{at}"), numbers)),
        (Value::Number(one), Value::Number(other)) => {
            *numbers += 1;
            let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            if (one - other).abs() <= TOLERANCE * one.abs().max(TOLERANCE) { Ok(()) } else { differs() }
        }
        _ if known == now => Ok(()),
        _ => differs(),
    }
}
