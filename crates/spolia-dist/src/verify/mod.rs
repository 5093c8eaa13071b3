//! Two releases that should be the same → the first difference of each file, in words. And what programs in them say of
//! themselves. Knows nothing of how the second one was made.

pub mod binary;
mod members;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::Value;

use crate::archive::Format;
use crate::error::DistError;

/// Compares `names` in two folders; a sentence for each file that differs.
///
/// # Errors
/// A file that cannot be read; one that is missing is a difference.
pub fn compare(first: &Path, second: &Path, names: &[String]) -> Result<Vec<String>, DistError> {
    let mut differences = Vec::new();
    let mut sums = Vec::new();
    for name in names {
        let (a, b) = (first.join(name), second.join(name));
        match (a.is_file(), b.is_file()) {
            (true, true) => {}
            (false, false) => continue,
            (true, false) => {
                differences.push(format!("{name}: the second build did not make it"));
                continue;
            }
            (false, true) => {
                differences.push(format!("{name}: only the second build made it"));
                continue;
            }
        }
        if let Some(at) = first_byte(&a, &b).map_err(|source| DistError::io("compare", &a, source))? {
            let words = format!("{name}: {}", explain(name, &a, &b, at));
            // A sum differs because of what it is a sum of.
            if is_sum(name) { sums.push(words) } else { differences.push(words) }
        }
    }
    match (differences.is_empty(), sums.len()) {
        (true, _) => differences = sums,
        (false, 0) => {}
        (false, count) => differences.push(format!("and {count} files of sums with them")),
    }
    Ok(differences)
}

fn is_sum(name: &str) -> bool {
    let mut endings = crate::manifest::Checksum::ALL.iter().map(|sum| format!(".{}", sum.name()));
    name == crate::record::SUMS || name.ends_with(".md5.txt") || endings.any(|ending| name.ends_with(&ending))
}

/// Where two files differ first.
fn first_byte(a: &Path, b: &Path) -> std::io::Result<Option<u64>> {
    const CHUNK: usize = 64 << 10;
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    let mut at = 0;
    let (mut one, mut two) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (have, got) = (fill(&mut a, &mut one)?, fill(&mut b, &mut two)?);
        let both = have.min(got);
        if let Some(place) = (0..both).find(|place| one[*place] != two[*place]) {
            return Ok(Some(at + place as u64));
        }
        if have != got {
            return Ok(Some(at + both as u64));
        }
        if have == 0 {
            return Ok(None);
        }
        at += have as u64;
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}

fn explain(name: &str, a: &Path, b: &Path, at: u64) -> String {
    let bytes = format!("they differ from byte {at} on");
    if let Some(format) = Format::of_name(name) {
        return match members::first_difference(format, a, b) {
            Ok(Some(words)) => words,
            Ok(None) => format!("every member is the same, and {bytes}"),
            Err(error) => format!("{bytes}; it cannot be taken apart: {error}"),
        };
    }
    let parse = |path: &Path| {
        let text = std::fs::read(path).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    };
    if let (Some(a), Some(b)) = (parse(a), parse(b))
        && let Some(words) = field(&a, &b, "")
    {
        return words;
    }
    bytes
}

/// The first field that differs between two documents.
fn field(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(one), Value::Object(two)) => {
            let keys = one.keys().chain(two.keys().filter(|key| !one.contains_key(*key)));
            keys.filter_map(|key| {
                let null = Value::Null;
                let (a, b) = (one.get(key).unwrap_or(&null), two.get(key).unwrap_or(&null));
                field(a, b, &format!("{path}.{key}"))
            })
            .next()
        }
        (Value::Array(one), Value::Array(two)) => {
            if let Some(at) = (0..one.len().min(two.len())).find(|at| one[*at] != two[*at]) {
                return field(&one[at], &two[at], &format!("{path}[{at}]"));
            }
            (one.len() != two.len()).then(|| format!("`{path}` has {} items, then {}", one.len(), two.len()))
        }
        _ if a == b => None,
        _ => Some(format!("`{}` is {a}, then {b}", path.trim_start_matches('.'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_field_is_named() {
        let a = json!({ "x": [1, { "y": "a" }], "z": 1 });
        assert_eq!(field(&a, &a, ""), None);
        let b = json!({ "x": [1, { "y": "b" }], "z": 2 });
        assert_eq!(field(&a, &b, "").unwrap(), "`x[1].y` is \"a\", then \"b\"");
        assert_eq!(field(&a, &json!({ "x": [1], "z": 1 }), "").unwrap(), "`.x` has 2 items, then 1");
        assert_eq!(field(&a, &json!({ "x": a["x"] }), "").unwrap(), "`z` is 1, then null");
    }
}
