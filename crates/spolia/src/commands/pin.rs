//! `spolia cache pin` and `unpin`: results that no collection removes.

use std::collections::BTreeSet;

use serde_json::json;
use spolia_core::ActionKey;
use spolia_engine::perform;
use spolia_store::{LocalStore, pins};

use super::labels::Labels;
use super::why::counted;
use crate::exit::{Exit, Failure};
use crate::project::open_store;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// The shortest start of a key that names it.
const KEY_CHARS_MIN: usize = 6;

/// Pins the results of `names`, or lists what is pinned.
pub(crate) fn pin(names: &[String], settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    let mut pinned = pins::read(&store);
    if names.is_empty() {
        list(&store, &pinned, shell);
        return Ok(Exit::Success);
    }
    let found = find(&store, names)?;
    let before = pinned.len();
    pinned.extend(&found);
    save(&store, &pinned)?;
    said("pinned", pinned.len() - before, &found, shell);
    Ok(Exit::Success)
}

/// Takes the pins of `names` away.
pub(crate) fn unpin(names: &[String], settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    let mut pinned = pins::read(&store);
    let mut found = BTreeSet::new();
    for name in names {
        let of: Vec<ActionKey> = pinned.iter().filter(|key| is_named(&store, **key, name)).copied().collect();
        if of.is_empty() {
            return Err(Failure::usage(format!("nothing that is pinned is called `{name}`"))
                .hint("`spolia cache pin` lists what is pinned"));
        }
        found.extend(of);
    }
    let before = pinned.len();
    pinned.retain(|key| !found.contains(key));
    save(&store, &pinned)?;
    said("unpinned", before - pinned.len(), &found, shell);
    Ok(Exit::Success)
}

fn save(store: &LocalStore, pinned: &BTreeSet<ActionKey>) -> Result<(), Failure> {
    pins::write(store, pinned).map_err(|error| Failure::from_error(Exit::Environment, &error))
}

fn is_named(store: &LocalStore, key: ActionKey, name: &str) -> bool {
    if name.len() >= KEY_CHARS_MIN && key.0.to_hex().starts_with(name) {
        return true;
    }
    perform::describe(store, key)
        .is_some_and(|found| found.step() == Some(name) || found.label.as_deref() == Some(name))
}

fn find(store: &LocalStore, names: &[String]) -> Result<BTreeSet<ActionKey>, Failure> {
    let keys: Vec<ActionKey> =
        super::cache::listing(store)?.results.iter().map(|result| result.key).collect();
    let mut pinned = BTreeSet::new();
    for name in names {
        let of: Vec<ActionKey> = keys.iter().filter(|key| is_named(store, **key, name)).copied().collect();
        if of.is_empty() {
            return Err(Failure::usage(format!("the store holds no result of `{name}`"))
                .hint("`spolia cache ls` lists steps and keys"));
        }
        pinned.extend(of);
    }
    Ok(pinned)
}

fn said(verb: &str, changed: usize, keys: &BTreeSet<ActionKey>, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(&json!({ "kind": format!("cache-{verb}"), "changed": changed, "keys": keys }));
    } else {
        shell.status(Tone::Good, verb, &counted(changed, "result"));
    }
}

fn list(store: &LocalStore, pinned: &BTreeSet<ActionKey>, shell: &Shell) {
    if shell.is_json() {
        shell.json_line(&json!({ "kind": "cache-pins", "keys": pinned }));
        return;
    }
    let labels = Labels::of(store);
    for key in pinned {
        shell.out(&format!("{}  {}\n", key.0.short(), labels.shown(*key)));
    }
    if pinned.is_empty() {
        shell.err("nothing is pinned\n");
    }
}
