//! `text of the root manifest → Thresholds`: the table `[perf.thresholds]`. Knows the steps' names, no disk.
//!
//! ```toml
//! [perf.thresholds.build]
//! time = "5m"
//! hit-rate = "80%"
//! regression = "5%"
//! cold = { time = "10m" }                                  # instead of `time`, where nothing came from a cache
//! platform."linux/arm64" = { memory = "4GB", warm = { time = "3s" } }
//! ```
//!
//! A limit of a platform stands before one of a state, and that before the one of the subject.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use spolia_core::conf::{
    Entry, Problem, Problems, Spanned, Table, Text, and_list, as_table, read_table_warned,
};
use spolia_core::{Diagnostic, Platform, RelPath};

use crate::record::State;

/// The name that means a build of every step.
pub const WHOLE: &str = "build";

/// What may have a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Wall time, µs, at most.
    Time,
    /// CPU time of the whole process tree, µs, at most.
    Cpu,
    /// Hits among hits and misses, from 0 to 1, at least.
    HitRate,
    /// Bytes of the outputs, at most.
    OutputSize,
    /// Bytes of the store after it, at most.
    StoreSize,
    /// Bytes of all processes together where that was observed, else of the largest, at most.
    Memory,
    /// Bytes written to storage, at most.
    Disk,
    /// The smallest relative growth of a cost that counts as a regression.
    Regression,
}

impl What {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 8] = [
        Self::Time,
        Self::Cpu,
        Self::HitRate,
        Self::OutputSize,
        Self::StoreSize,
        Self::Memory,
        Self::Disk,
        Self::Regression,
    ];

    /// The key.
    pub fn key(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Cpu => "cpu",
            Self::HitRate => "hit-rate",
            Self::OutputSize => "output-size",
            Self::StoreSize => "store-size",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Regression => "regression",
        }
    }

    fn doc(self) -> &'static str {
        match self {
            Self::Time => "The most wall time, such as `5m`.",
            Self::Cpu => "The most CPU time of all its processes, such as `8m`.",
            Self::HitRate => {
                "The fewest hits in a hundred, such as `80%`: of steps, or of compiler calls where a command has no \
                 steps."
            }
            Self::OutputSize => "The most bytes of outputs, such as `20MB`.",
            Self::StoreSize => "The most bytes of the store after it, such as `20GB`.",
            Self::Memory => {
                "The most memory of all its processes at once, such as `2GB`; of the largest one where only that is \
                 known."
            }
            Self::Disk => "The most bytes written to storage, such as `5GB`.",
            Self::Regression => {
                "How much more CPU or wall time counts as a regression, such as `5%`; 5% if absent."
            }
        }
    }

    fn schema(self) -> Json {
        let pattern = match self {
            Self::Time | Self::Cpu => "^([0-9]+(ms|s|m|h|d|w))+$",
            Self::HitRate | Self::Regression => "^[0-9]+(\\.[0-9]+)?%$",
            _ => "^[0-9]+(\\.[0-9])? *(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$",
        };
        json!({ "type": "string", "pattern": pattern, "description": self.doc() })
    }
}

/// One limit that was written down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Of what.
    pub what: What,
    /// In the unit of [`What`].
    pub value: f64,
}

/// Limits that hold on one platform or in one state, or everywhere.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scope {
    platform: Option<Platform>,
    state: Option<State>,
    limits: Vec<Limit>,
}

/// The limits of one subject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// A step, `build`, or the name a command was measured under.
    pub subject: String,
    scopes: Vec<Scope>,
}

impl Thresholds {
    /// The limits of a measurement on `platform` in `state`, in the order of [`What::ALL`].
    pub fn of(&self, platform: Option<&str>, state: Option<State>) -> Vec<Limit> {
        let platform = platform.and_then(|name| name.parse::<Platform>().ok());
        let fits = |scope: &&Scope| {
            (scope.platform.is_none() || scope.platform == platform)
                && (scope.state.is_none() || scope.state == state)
        };
        let mut scopes: Vec<&Scope> = self.scopes.iter().filter(fits).collect();
        scopes.sort_by_key(|scope| (scope.platform.is_some(), scope.state.is_some()));
        let of = |what: What| {
            let limits = scopes.iter().rev().flat_map(|scope| &scope.limits);
            limits.copied().find(|limit| limit.what == what)
        };
        What::ALL.into_iter().filter_map(of).collect()
    }

    /// The states, other than `state`, that have limits of their own.
    pub fn other_states(&self, platform: Option<&str>, state: Option<State>) -> Vec<State> {
        let platform = platform.and_then(|name| name.parse::<Platform>().ok());
        let here = |scope: &&Scope| scope.platform.is_none() || scope.platform == platform;
        let mut states: Vec<State> =
            self.scopes.iter().filter(here).filter_map(|scope| scope.state).collect();
        states.retain(|other| Some(*other) != state);
        states.sort_unstable();
        states.dedup();
        states
    }

    /// Whether anything is said about regressions.
    pub fn has_regression(&self) -> bool {
        self.scopes.iter().flat_map(|scope| &scope.limits).any(|limit| limit.what == What::Regression)
    }

    /// The smallest growth that counts as a regression.
    pub fn regression(&self, platform: Option<&str>, state: Option<State>) -> Option<f64> {
        let limits = self.of(platform, state);
        limits.into_iter().find(|limit| limit.what == What::Regression).map(|limit| limit.value)
    }
}

/// What the table refers to; `None` where the rest of the manifest could not be read.
pub struct Context<'c> {
    /// Every step's name.
    pub steps: Option<Vec<&'c str>>,
    /// The project's platforms.
    pub platforms: Option<&'c [Platform]>,
}

/// The limits, and what is to be said about them.
#[derive(Debug, Default)]
pub struct Conf {
    /// By subject, in the order of the file.
    pub thresholds: Vec<Thresholds>,
    /// No mistakes.
    pub warnings: Vec<Diagnostic>,
}

/// Reads `[perf.thresholds]` of the root manifest `text`. Its syntax is taken as sound: whoever reads the steps says so
/// where it is not.
///
/// # Errors
/// Every mistake in the table.
pub fn parse(file: RelPath, text: &str, context: &Context<'_>) -> Result<Conf, Vec<Diagnostic>> {
    let (thresholds, warnings) = read_table_warned(file, text, "perf", |mut perf, problems| {
        let mut thresholds = Vec::new();
        let table = perf.take_table("thresholds", problems);
        for Entry { key, value } in table.map(Table::into_entries).unwrap_or_default() {
            let what = format!("`[perf.thresholds.{}]`", key.value);
            let Some(inner) = as_table(&what, value, problems) else { continue };
            subject_is_known(&key, context, problems);
            let reader = Reader { what: &what, platforms: context.platforms, problems };
            thresholds.push(reader.subject(&key, inner));
        }
        perf.finish("`[perf]`", &["thresholds"], problems);
        thresholds
    })?;
    Ok(Conf { thresholds, warnings })
}

/// A command may be measured under any name: a name that is no step is only suspicious.
fn subject_is_known(key: &Text<'_>, context: &Context<'_>, problems: &mut Problems) {
    let Some(steps) = &context.steps else { return };
    if key.value == WHOLE || steps.contains(&&*key.value) {
        return;
    }
    let message = format!("`{}` is no step", key.value);
    let problem = Problem::warning(key.span, message).label("holds for a command measured under this name");
    problems.push(problem.near(&key.value, steps.iter().copied().chain([WHOLE])));
}

struct Reader<'r, 'p> {
    what: &'r str,
    platforms: Option<&'r [Platform]>,
    problems: &'p mut Problems,
}

impl Reader<'_, '_> {
    fn subject(mut self, key: &Text<'_>, mut table: Table<'_>) -> Thresholds {
        let mut scopes = Vec::new();
        let platforms = table.take_table("platform", self.problems);
        self.states(None, table, &["platform"], &mut scopes);
        for Entry { key, value } in platforms.map(Table::into_entries).unwrap_or_default() {
            let platform = self.platform(&key);
            let Some(inner) = as_table(format!("`{}`", key.value), value, self.problems) else { continue };
            self.states(platform, inner, &[], &mut scopes);
        }
        if scopes.iter().all(|scope| scope.limits.is_empty()) && self.problems.error_count() == 0 {
            let message = format!("{} limits nothing", self.what);
            let keys = What::ALL.map(What::key);
            self.problems
                .push(Problem::error(key.span, message).hint(format!("its keys are {}", and_list(&keys))));
        }
        Thresholds { subject: key.value.to_string(), scopes }
    }

    fn platform(&mut self, key: &Text<'_>) -> Option<Platform> {
        let platform = match key.value.parse::<Platform>() {
            Ok(platform) => platform,
            Err(error) => {
                self.problems.push(Problem::error(key.span, error.to_string()));
                return None;
            }
        };
        if let Some(known) = self.platforms.filter(|known| !known.contains(&platform)) {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            let problem = Problem::error(key.span, format!("the project is not built for {platform}"));
            let problem = problem.near(&key.value, names.iter().map(String::as_str));
            self.problems.push(match problem.hints.is_empty() {
                true => problem.hint(format!("`[project] platforms` has {}", and_list(&names))),
                false => problem,
            });
        }
        Some(platform)
    }

    /// A table of limits with `cold` and `warm` in it.
    fn states(
        &mut self,
        platform: Option<Platform>,
        mut table: Table<'_>,
        besides: &[&'static str],
        scopes: &mut Vec<Scope>,
    ) {
        for state in [State::Cold, State::Warm] {
            if let Some(mut inner) = table.take_table(state.text(), self.problems) {
                let limits = self.limits(&mut inner);
                let place = format!("`{}` of {}", state.text(), self.what);
                inner.finish(place, &What::ALL.map(What::key), self.problems);
                scopes.push(Scope { platform: platform.clone(), state: Some(state), limits });
            }
        }
        let limits = self.limits(&mut table);
        scopes.push(Scope { platform, state: None, limits });
        let mut keys = What::ALL.map(What::key).to_vec();
        keys.extend([State::Cold.text(), State::Warm.text()]);
        keys.extend(besides);
        table.finish(self.what, &keys, self.problems);
    }

    fn limits(&mut self, table: &mut Table<'_>) -> Vec<Limit> {
        let mut limits = Vec::new();
        for what in What::ALL {
            let key = what.key();
            let value = match what {
                What::Time | What::Cpu => {
                    table.take_duration_ms(key, self.problems).map(|ms| ms.value as f64 * 1000.0)
                }
                What::HitRate => self.share(table, key, 1.0),
                What::Regression => self.share(table, key, 10.0),
                _ => table.take_size_bytes(key, self.problems).map(|bytes| bytes.value as f64),
            };
            limits.extend(value.map(|value| Limit { what, value }));
        }
        limits
    }

    /// `80%` as 0.8, at most `most`.
    fn share(&mut self, table: &mut Table<'_>, key: &str, most: f64) -> Option<f64> {
        let Spanned { value: text, span } = table.take_str(key, self.problems)?;
        let number = text.strip_suffix('%').filter(|number| {
            number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                && number.starts_with(|first: char| first.is_ascii_digit())
        });
        let share = number.and_then(|number| number.parse::<f64>().ok()).map(|percent| percent / 100.0);
        let found = share.filter(|share| *share > 0.0 && *share <= most);
        if found.is_none() {
            let message = format!("`{key}` must be a share, not `{text}`");
            let hint = format!("write it as `5%` or `0.5%`, at most `{}%`", most * 100.0);
            self.problems.push(Problem::error(span, message).hint(hint));
        }
        found
    }
}

/// `[perf]` for editors: a part of the manifest's JSON Schema.
pub fn schema() -> Json {
    let limits = || {
        let rows = What::ALL.into_iter().map(|what| (what.key().to_owned(), what.schema()));
        rows.collect::<serde_json::Map<_, _>>()
    };
    let object = |properties: serde_json::Map<String, Json>, doc: &str| {
        json!({
            "type": "object", "description": doc, "additionalProperties": false, "properties": properties,
        })
    };
    let mut by_state = limits();
    let cold = "Limits of a measurement in which nothing came from a cache, instead of those above.";
    let warm = "Limits of a measurement in which nothing had to run, instead of those above.";
    by_state.insert("cold".to_owned(), object(limits(), cold));
    by_state.insert("warm".to_owned(), object(limits(), warm));
    let mut subject = by_state.clone();
    subject.insert(
        "platform".to_owned(),
        json!({
            "type": "object",
            "description": "Limits on one platform, instead of those above.",
            "additionalProperties": object(by_state, "Limits on this platform."),
        }),
    );
    json!({
        "type": "object",
        "description": "Thresholds of measurements: see `spolia perf check`.",
        "additionalProperties": false,
        "properties": {
            "thresholds": {
                "type": "object",
                "description": "Limits by subject: a step, `build` for all of them, or the name a command is measured \
                                under.",
                "additionalProperties": object(subject, "The limits of one subject."),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [&str; 2] = ["fio", "app"];

    fn read(text: &str) -> Result<Conf, Vec<Diagnostic>> {
        let platforms = ["linux/amd64", "linux/arm64"].map(|name| name.parse::<Platform>().unwrap());
        let context = Context { steps: Some(STEPS.to_vec()), platforms: Some(&platforms) };
        parse(RelPath::new("spolia.toml").unwrap(), text, &context)
    }

    fn of(conf: &Conf, platform: Option<&str>, state: Option<State>) -> Vec<(&'static str, f64)> {
        let limits = conf.thresholds[0].of(platform, state);
        limits.into_iter().map(|limit| (limit.what.key(), limit.value)).collect()
    }

    #[test]
    fn the_narrowest_limit_holds() {
        let conf = read(
            "[perf.thresholds]\n\
             build = { time = \"5m\", hit-rate = \"80%\", memory = \"2GB\", cold = { time = \"10m\" }, \
             platform.\"linux/arm64\" = { time = \"7m\", cold = { time = \"20m\", cpu = \"1h\" } } }\n",
        )
        .unwrap();
        assert_eq!(conf.warnings, []);
        let memory = ("memory", 2e9);
        let rate = ("hit-rate", 0.8);
        assert_eq!(of(&conf, None, Some(State::Warm)), [("time", 300e6), rate, memory]);
        assert_eq!(of(&conf, None, Some(State::Cold)), [("time", 600e6), rate, memory]);
        assert_eq!(of(&conf, Some("linux/arm64"), None), [("time", 420e6), rate, memory]);
        assert_eq!(
            of(&conf, Some("linux/arm64"), Some(State::Cold)),
            [("time", 1_200e6), ("cpu", 3_600e6), rate, memory]
        );
        assert_eq!(conf.thresholds[0].other_states(None, Some(State::Warm)), [State::Cold]);
        let conf = read("[perf.thresholds.fio]\nregression = \"2.5%\"\n").unwrap();
        assert_eq!(conf.thresholds[0].regression(None, None), Some(0.025));
        assert!(read("[project]\nname = \"x\"\n").unwrap().thresholds.is_empty());
        assert!(read("no toml").unwrap().thresholds.is_empty());
    }

    #[test]
    fn every_mistake_is_named_with_what_was_meant() {
        let check = |text: &str, expect: &[&str]| {
            let said = read(text).unwrap_err();
            let all: Vec<String> =
                said.iter().map(|one| format!("{}; {}", one.message, one.hints.join("; "))).collect();
            assert_eq!(all.len(), expect.len(), "{all:?}");
            for (said, expect) in all.iter().zip(expect) {
                assert!(said.contains(expect), "{said}: {expect}");
            }
            assert!(said.iter().all(|one| !one.labels.is_empty()));
        };
        check(
            "[perf.thresholds.fio]\ntme = \"5m\"\ntime = \"5\"\nhit-rate = \"101%\"\nregression = \"-1%\"\nmemory = 3\n",
            &[
                "did you mean `time`?",
                "`time` must be a duration",
                "must be a share",
                "must be a share",
                "a string",
            ],
        );
        check("[perf]\nthreshold = {}\n", &["did you mean `thresholds`?"]);
        check("[perf.thresholds]\nfio = 3\n", &["must be a table"]);
        check("[perf.thresholds]\nfio = {}\n", &["limits nothing"]);
        check("[perf.thresholds.fio.platform.\"linus/amd64\"]\ntime = \"5m\"\n", &["linus"]);
        check("[perf.thresholds.fio.cold]\nwarm = \"5m\"\n", &["is not a key of `cold`"]);
    }

    #[test]
    fn a_name_that_is_no_step_is_warned_of() {
        let conf = read("[perf.thresholds]\nfoi = { time = \"5m\" }\n").unwrap();
        assert_eq!(conf.warnings.len(), 1);
        assert_eq!(conf.warnings[0].hints, ["did you mean `fio`?"]);
        assert_eq!(conf.thresholds[0].subject, "foi");
    }

    #[test]
    fn the_schema_has_every_key() {
        let schema = schema();
        let subject = &schema["properties"]["thresholds"]["additionalProperties"]["properties"];
        for what in What::ALL {
            assert!(subject[what.key()]["description"].is_string(), "{what:?}");
            assert!(subject["cold"]["properties"][what.key()].is_object(), "{what:?}");
        }
    }
}
