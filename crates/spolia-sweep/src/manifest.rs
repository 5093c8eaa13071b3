//! `text of the root manifest → SweepConf`: the table `[sweep]`. Knows no steps and no disk.

use spolia_core::conf::{Problem, read_table};
use spolia_core::{Diagnostic, RelPath};

use crate::command::CargoCommand;

/// How many runs of the journal count where the manifest does not say.
pub const KEEP_LAST: u32 = 20;
/// How long what was put aside is kept where the manifest does not say, s.
pub const QUARANTINE_AGE_S: u64 = 7 * 24 * 60 * 60;

/// `[sweep]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepConf {
    /// The commands whose artifacts stay; detected where there are none.
    pub commands: Vec<CargoCommand>,
    /// How many of the project's newest runs in the journal count.
    pub keep_last: Option<u32>,
    /// How long what was put aside is kept, s.
    pub quarantine_age_s: Option<u64>,
}

const KEYS: &[&str] = &["commands", "keep-last", "quarantine-age"];

/// Reads `[sweep]` of the root manifest `text`.
///
/// # Errors
/// Every mistake in the table.
pub fn parse(file: RelPath, text: &str) -> Result<SweepConf, Vec<Diagnostic>> {
    read_table(file, text, "sweep", |mut table, problems| {
        let mut conf = SweepConf::default();
        for command in table.take_list("commands", problems).map(|list| list.value).unwrap_or_default() {
            match CargoCommand::parse(&command.value) {
                Ok(read) => conf.commands.push(read),
                Err(error) => problems.push(
                    Problem::error(command.span, error.to_string())
                        .hint("such as `cargo build --release` or `RUSTFLAGS='-C debuginfo=1' cargo test`"),
                ),
            }
        }
        let count = table.take_int("keep-last", 0..=10_000, problems);
        conf.keep_last = count.map(|count| count.value);
        conf.quarantine_age_s =
            table.take_duration_ms("quarantine-age", problems).map(|age| age.value.div_ceil(1000));
        table.finish("`[sweep]`", KEYS, problems);
        conf
    })
}

/// `[sweep]` for editors: a part of the manifest's JSON Schema.
pub fn schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "description": "What may be swept: see `spolia sweep`.",
        "additionalProperties": false,
        "properties": {
            "commands": {
                "type": "array",
                "items": { "type": "string", "minLength": 1 },
                "description": "The Cargo commands whose artifacts stay, as typed; detected if absent.",
            },
            "keep-last": {
                "type": "integer", "minimum": 0, "maximum": 10_000,
                "description": "How many of the project's newest runs in the journal count.",
            },
            "quarantine-age": {
                "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d|w))+$",
                "description": "How long what `--quarantine` put aside is kept.",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SweepConf, Vec<String>> {
        let read = parse(RelPath::new("spolia.toml").unwrap(), text);
        read.map_err(|all| all.into_iter().map(|one| one.message).collect())
    }

    #[test]
    fn the_table_is_read_and_its_mistakes_named() {
        let conf = read(
            "[project]\nname = \"x\"\n[sweep]\ncommands = [\"cargo b --release\", \"A=1 cargo test\"]\n\
             keep-last = 3\nquarantine-age = \"2d\"\n",
        )
        .unwrap();
        assert_eq!(
            conf.commands.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["cargo build --release", "A=1 cargo test"]
        );
        assert_eq!((conf.keep_last, conf.quarantine_age_s), (Some(3), Some(172_800)));
        assert_eq!(read("[project]\n"), Ok(SweepConf::default()));
        let check = |text: &str, count: usize| assert_eq!(read(text).unwrap_err().len(), count, "{text}");
        check("[sweep]\ncommands = [\"make\", \"cargo miri\"]\n", 2);
        check("[sweep]\ncommand = [\"cargo build\"]\n", 1);
        check("[sweep]\nkeep-last = -1\n", 1);
    }
}
