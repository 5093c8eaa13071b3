//! What the last compile of a source was keyed by, so that a miss can say what differs. Written on misses only;
//! losing it loses words.
//!
//! ```text
//! v1/cc/trail/<3 hex>  = JSON of a Trail         the first digits of BLAKE3 of the folder and the source's path
//! ```
//!
//! There are at most 4096 of them: sources that share one overwrite each other's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spolia_core::key::ExplainWriter;
use spolia_core::{Digest, Explanation};

use crate::Room;
use crate::call::{Call, Invocation, write_whole_key};

/// The longest file that is read, bytes.
const BYTES_MAX: u64 = 1 << 20;

/// What one compile was keyed by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trail {
    folder: String,
    source: String,
    explanation: Explanation,
}

impl Trail {
    /// That of a call; `None` where its key cannot be written.
    pub(crate) fn of(room: &Room, call: &Call<'_>, invocation: &mut dyn Invocation) -> Option<Self> {
        let escape = |path: &std::path::Path| spolia_core::codec::escape(path.as_os_str().as_encoded_bytes());
        let source = escape(invocation.source());
        let mut writer = ExplainWriter::default();
        write_whole_key(room, call, invocation, &mut writer).ok()?;
        Some(Self { folder: escape(&call.cwd), source, explanation: writer.into_explanation() })
    }

    fn path(&self, room: &Room) -> PathBuf {
        let name = Digest::blake3(format!("{}\0{}", self.folder, self.source).as_bytes()).to_hex();
        room.beside("trail").join(&name[..3])
    }

    /// What differs from the last compile of this source in this folder, in a sentence; `None` where there was none.
    pub(crate) fn changed(&self, room: &Room) -> Option<String> {
        let path = self.path(room);
        if std::fs::metadata(&path).ok()?.len() > BYTES_MAX {
            return None;
        }
        let last: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        if (&last.folder, &last.source) != (&self.folder, &self.source) {
            return None;
        }
        describe(&last.explanation, &self.explanation)
    }

    /// Keeps it for the next miss.
    pub(crate) fn write(&self, room: &Room) {
        let Ok(text) = serde_json::to_vec(self) else { return };
        room.write_memo(&self.path(room), &text);
    }
}

/// The first difference, in words. Arguments have no names: they are compared by their place.
fn describe(then: &Explanation, now: &Explanation) -> Option<String> {
    let arguments = |explanation: &Explanation| -> Vec<String> {
        let lines = explanation.lines.iter().filter(|line| line.group == "arguments");
        lines.map(|line| line.value.clone()).collect()
    };
    let (old, new) = (arguments(then), arguments(now));
    if old != new {
        let at = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        return Some(match (old.get(at), new.get(at)) {
            (Some(old), Some(new)) => format!("argument `{old}` is now `{new}`"),
            (None, Some(new)) => format!("argument `{new}` is new"),
            (Some(old), None) => format!("argument `{old}` is gone"),
            (None, None) => return None,
        });
    }
    let differs = now.lines.iter().zip(&then.lines).find(|(now, then)| now != then);
    Some(match differs {
        Some((now, _)) if now.name == "source" => "the source changed".to_owned(),
        Some((now, _)) if now.name == "compiler" => "the compiler changed".to_owned(),
        Some((now, then)) if now.name == then.name => format!("`{}` changed", now.name),
        Some((now, _)) => format!("`{}` is new", now.name),
        None if then.lines.len() != now.lines.len() => "a variable appeared or went".to_owned(),
        // The same key, and yet no manifest: it was collected.
        None => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::key::{KeyWriter, Value};

    fn explanation(arguments: &[&str], source: &str) -> Explanation {
        let mut writer = ExplainWriter::default();
        writer.open("arguments");
        for argument in arguments {
            writer.field("", Value::Bytes(argument.as_bytes()));
        }
        writer.close();
        writer.field("source", Value::Bytes(source.as_bytes()));
        writer.into_explanation()
    }

    #[test]
    fn the_first_difference_is_named() {
        let check = |new: Explanation, expect: Option<&str>| {
            let old = explanation(&["-O1", "-c"], "a");
            assert_eq!(describe(&old, &new).as_deref(), expect);
        };
        check(explanation(&["-O2", "-c"], "a"), Some("argument `-O1` is now `-O2`"));
        check(explanation(&["-O1", "-c", "-g"], "a"), Some("argument `-g` is new"));
        check(explanation(&["-O1"], "a"), Some("argument `-c` is gone"));
        check(explanation(&["-O1", "-c"], "b"), Some("the source changed"));
        check(explanation(&["-O1", "-c"], "a"), None);
    }
}
