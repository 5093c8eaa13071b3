//! One Cargo command line, as a person types it: `text → CargoCommand`. Pure; nothing is run.
//!
//! ```text
//! [NAME=value]… cargo [+toolchain] build|check|test|bench|doc|clippy|run|… [arguments]
//! ```
//!
//! Quotes and backslashes are those of a shell; anything a shell would expand is a mistake.

use serde::{Deserialize, Serialize};

/// What is built, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CargoCommand {
    /// Variables that are set for it.
    pub env: Vec<(String, String)>,
    /// `nightly` of `cargo +nightly`.
    pub toolchain: Option<String>,
    /// `build`, `check`, `test`, `bench`, `doc`, `clippy`, `rustc`.
    pub verb: String,
    /// What selects packages, targets, features and profile.
    pub args: Vec<String>,
}

/// Why a text is no such command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A quote is not closed, or a shell would expand something.
    #[error("`{text}` is not a plain command line: {why}")]
    Shell {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It does not call Cargo.
    #[error("`{text}` does not begin with `cargo`")]
    NotCargo {
        /// What was given.
        text: String,
    },
    /// Cargo cannot be asked which units it needs.
    #[error(
        "which units `cargo {verb}` needs is not known: use build, check, test, bench, run, doc or clippy"
    )]
    Verb {
        /// The subcommand.
        verb: String,
    },
}

/// Arguments that change no unit: alone, and with a value.
const DROPPED: &[&str] = &[
    "--no-run",
    "-q",
    "--quiet",
    "-v",
    "-vv",
    "--verbose",
    "--locked",
    "--offline",
    "--frozen",
    "--timings",
    "--open",
    "--keep-going",
    "--no-fail-fast",
    "--future-incompat-report",
    "--ignore-rust-version",
];
const DROPPED_WITH_VALUE: &[&str] = &["--target-dir", "--message-format", "-j", "--jobs", "--color"];

impl CargoCommand {
    /// `cargo VERB ARGS…`.
    pub fn new(verb: &str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { verb: verb.to_owned(), args, ..Self::default() }
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// It is none that Cargo can be asked about.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let words = words(text).map_err(|why| CommandError::Shell { text: text.to_owned(), why })?;
        Self::from_words(&words).ok_or_else(|| CommandError::NotCargo { text: text.to_owned() })?
    }

    fn from_words(words: &[String]) -> Option<Result<Self, CommandError>> {
        let mut words = words.iter();
        let mut env = Vec::new();
        let program = loop {
            let word = words.next()?;
            match word.split_once('=') {
                Some((name, value)) if is_name(name) => env.push((name.to_owned(), value.to_owned())),
                _ => break word,
            }
        };
        if program != "cargo" && !program.ends_with("/cargo") {
            return None;
        }
        let mut rest: Vec<&str> = words.map(String::as_str).collect();
        let toolchain = rest.first().and_then(|word| word.strip_prefix('+')).map(str::to_owned);
        if toolchain.is_some() {
            rest.remove(0);
        }
        while rest.first().is_some_and(|word| DROPPED.contains(word)) {
            rest.remove(0);
        }
        let (first, rest) = rest.split_first()?;
        let (verb, mut rest) = match (*first, rest.first()) {
            ("nextest", Some(&("run" | "list"))) => ("test", &rest[1..]),
            (verb, _) => (verb, rest),
        };
        let verb = match verb {
            "build" | "b" | "run" | "r" => "build",
            "check" | "c" => "check",
            "test" | "t" if rest.contains(&"--doc") => "build",
            "test" | "t" => "test",
            "bench" => "bench",
            "doc" | "d" => "doc",
            "clippy" => "clippy",
            "rustc" => "rustc",
            _ => return Some(Err(CommandError::Verb { verb: verb.to_owned() })),
        };
        let after = rest.iter().position(|word| *word == "--");
        if verb != "rustc" {
            rest = &rest[..after.unwrap_or(rest.len())];
        }
        // Only `test` takes a name of what to run beside its options, and it decides nothing.
        let args = kept(rest, matches!(verb, "test" | "bench"));
        Some(Ok(Self { env, toolchain, verb: verb.to_owned(), args }))
    }

    /// The words for Cargo, so that nothing is run, changed or fetched.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.toolchain.iter().map(|name| format!("+{name}")).collect();
        words.push(self.verb.clone());
        words.extend(["--locked", "--offline"].map(str::to_owned));
        if matches!(self.verb.as_str(), "test" | "bench") {
            words.push("--no-run".to_owned());
        }
        words.extend(self.args.iter().cloned());
        words
    }
}

fn kept(words: &[&str], drops_names: bool) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at).copied() {
        at += 1;
        if word == "--" {
            args.extend(words[at - 1..].iter().map(|word| (*word).to_owned()));
            break;
        }
        let takes_value = |names: &[&str]| names.contains(&word);
        if DROPPED.contains(&word) || word == "--doc" {
            continue;
        }
        if takes_value(DROPPED_WITH_VALUE) {
            at += 1;
            continue;
        }
        let has_value = |name: &&str| word.strip_prefix(*name).is_some_and(|rest| rest.starts_with('='));
        let glued = word.len() > 2 && word.starts_with("-j");
        if glued || DROPPED_WITH_VALUE.iter().any(has_value) {
            continue;
        }
        if word.starts_with('-') {
            args.push(word.to_owned());
            if takes_value(&[
                "-p",
                "--package",
                "--exclude",
                "--bin",
                "--example",
                "--test",
                "--bench",
                "-F",
                "--features",
                "--profile",
                "--target",
                "--manifest-path",
                "--config",
                "-Z",
                "--crate-type",
            ]) && let Some(value) = words.get(at).filter(|value| !value.starts_with('-'))
            {
                args.push((*value).to_owned());
                at += 1;
            }
        } else if !drops_names {
            args.push(word.to_owned());
        }
    }
    args
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None::<char>);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (open, letter) {
            (Some(quote), letter) if letter == quote => open = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (_, '$' | '`') => return Err("a shell would expand a part of it"),
            (_, '\\') => word.get_or_insert_default().push(letters.next().ok_or("it ends in a backslash")?),
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                open = Some(letter);
            }
            (None, ';' | '|' | '&' | '<' | '>' | '(' | ')') => return Err("it is more than one command"),
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if open.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

impl std::fmt::Display for CargoCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str("cargo")?;
        if let Some(toolchain) = &self.toolchain {
            write!(f, " +{toolchain}")?;
        }
        write!(f, " {}", self.verb)?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./,:+@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_selects_units_stays() {
        let check = |text: &str, expect: &str| {
            assert_eq!(CargoCommand::parse(text).unwrap().to_string(), expect, "{text}");
        };
        check("cargo build", "cargo build");
        check("cargo b --release -j 4 -p app --locked", "cargo build --release -p app");
        check("cargo run --bin x -- --release", "cargo build --bin x");
        check(
            "RUSTFLAGS='-C debuginfo=1' cargo +nightly check -F a,b",
            "RUSTFLAGS='-C debuginfo=1' cargo +nightly check -F a,b",
        );
        check("cargo test some_name --workspace -- --nocapture", "cargo test --workspace");
        check("cargo test --doc -p app", "cargo build -p app");
        check("cargo nextest run --profile ci", "cargo test --profile ci");
        check("cargo clippy --all-targets -- -D warnings", "cargo clippy --all-targets");
        check("cargo rustc --lib -- -C lto", "cargo rustc --lib -- -C lto");
        check("cargo build --target-dir=/x --message-format json", "cargo build");
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let check = |text: &str| assert!(CargoCommand::parse(text).is_err(), "{text}");
        check("");
        check("make");
        check("cargo");
        check("cargo miri test");
        check("cargo build; rm x");
        check("cargo build $X");
        check("cargo build 'x");
        check("X=1");
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same_and_any_text_is_survived() {
        let letters: Vec<&str> = vec![
            "cargo ", "build ", "'", "\"", "\\", "-p ", "x", "=", "é", " ", "A=b ", "--", "+n ", "$", "\n",
        ];
        let mut random = 7u64;
        for _ in 0..20_000 {
            let mut text = String::from(if random.is_multiple_of(2) { "cargo build " } else { "" });
            for _ in 0..(random >> 20) % 12 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(letters[(random >> 40) as usize % letters.len()]);
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            if let Ok(command) = CargoCommand::parse(&text) {
                assert_eq!(CargoCommand::parse(&command.to_string()).as_ref(), Ok(&command), "{text:?}");
            }
        }
    }
}
