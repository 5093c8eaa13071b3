//! What the last compile of a source that was kept was keyed by, so that a miss can say what differs. Written and read on misses
//! only; losing it loses words.
//!
//! ```text
//! BLAKE3("spolia trail 2\n" folder 0 source)  →  the fast key         in the table of digests, `StatMemo::remember`
//! keyed = argument* (name, u32)*                                      in the manifest at that key: one for all of its sets
//! u32   = of the first four bytes of BLAKE3 of the value, as little-endian
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};
use spolia_core::key::ExplainWriter;
use spolia_core::{ActionKey, Digest, Explanation};

use crate::Room;
use crate::call::{Call, Invocation, write_whole_key};
use crate::direct::Manifest;

/// What a key was made of, as far as words need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keyed {
    pub(crate) arguments: Vec<String>,
    /// Whatever else, and a short sum of its value.
    pub(crate) others: Vec<(String, u32)>,
}

/// What a source in a folder is keyed by now.
pub(crate) struct Trail {
    name: Digest,
    pub(crate) keyed: Keyed,
}

impl Keyed {
    fn of(explanation: &Explanation) -> Self {
        let mut keyed = Self::default();
        for line in &explanation.lines {
            if line.group == "arguments" {
                keyed.arguments.push(line.value.clone());
            } else {
                let digest = Digest::blake3(line.value.as_bytes());
                let short = digest.as_bytes().first_chunk().copied().unwrap_or_default();
                keyed.others.push((line.name.clone(), u32::from_le_bytes(short)));
            }
        }
        keyed
    }
}

impl Trail {
    /// That of a call; `None` where its key cannot be written.
    pub(crate) fn of(room: &Room, call: &Call<'_>, invocation: &mut dyn Invocation) -> Option<Self> {
        let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
        let place = [bytes(&call.cwd), bytes(invocation.source())].join(&0);
        let name = Digest::blake3(&[b"spolia trail 2\n".as_slice(), &place].concat());
        let mut writer = ExplainWriter::default();
        write_whole_key(room, call, invocation, &mut writer).ok()?;
        Some(Self { name, keyed: Keyed::of(&writer.into_explanation()) })
    }

    /// What differs from the last compile of this source in this folder, in a sentence; `None` where there was none.
    pub(crate) fn changed(&self, room: &Room) -> Option<String> {
        let last = ActionKey(room.memo.recall(&self.name)?);
        describe(&room.kept(last, Manifest::parse)?.keyed?, &self.keyed)
    }

    /// Lets the next miss find what is kept at this key.
    pub(crate) fn leads_to(&self, room: &Room, key: ActionKey) {
        room.memo.remember(&self.name, &key.0);
    }
}

/// The first difference, in words. Arguments have no names: they are compared by their place.
fn describe(then: &Keyed, now: &Keyed) -> Option<String> {
    let (old, new) = (&then.arguments, &now.arguments);
    if old != new {
        let at = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        return Some(match (old.get(at), new.get(at)) {
            (Some(old), Some(new)) => format!("argument `{old}` is now `{new}`"),
            (None, Some(new)) => format!("argument `{new}` is new"),
            (Some(old), None) => format!("argument `{old}` is gone"),
            (None, None) => return None,
        });
    }
    let differs = now.others.iter().zip(&then.others).find(|(now, then)| now != then);
    Some(match differs {
        Some(((name, _), _)) if name == "source" => "the source changed".to_owned(),
        Some(((name, _), _)) if name == "compiler" => "the compiler changed".to_owned(),
        Some(((now, _), (then, _))) if now == then => format!("`{now}` changed"),
        Some(((name, _), _)) => format!("`{name}` is new"),
        None if then.others.len() != now.others.len() => "a variable appeared or went".to_owned(),
        // The same key, and yet no manifest: it was collected.
        None => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use spolia_core::key::Line;
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
            assert_eq!(describe(&Keyed::of(&old), &Keyed::of(&new)).as_deref(), expect);
        };
        check(explanation(&["-O2", "-c"], "a"), Some("argument `-O1` is now `-O2`"));
        check(explanation(&["-O1", "-c", "-g"], "a"), Some("argument `-g` is new"));
        check(explanation(&["-O1"], "a"), Some("argument `-c` is gone"));
        check(explanation(&["-O1", "-c"], "b"), Some("the source changed"));
        check(explanation(&["-O1", "-c"], "a"), None);
        let mut more = explanation(&["-O1", "-c"], "a");
        more.lines.push(Line {
            group: "variables".to_owned(),
            name: "CPATH".to_owned(),
            value: "x".to_owned(),
        });
        check(more, Some("a variable appeared or went"));
    }
}
