//! What one call did, step by step, for a person who asks: `SPOLIA_LOG=FILE`. Costs nothing where nobody does.
//!
//! ```text
//! log   = call*                                        calls of several processes do not mix
//! call  = "call " run-id "\n" line* "\n"               run-id as in the journal: time in UTC, process, random
//! line  = milliseconds since the call began, two blanks, what, two blanks, text "\n"
//!
//! call 20261121T213305.120394-4711-9f3c21aa
//!     0.3  compiler  `gcc` is /usr/bin/gcc
//!     0.8  key       3f1c…
//!     1.0  set       2 of 2, the newest, 41 inputs: `v.h` changed
//! ```
//!
//! A call's lines are kept until it ends, or until the compiler takes its place, and appended with one `write(2)`. What
//! cannot be written is lost without a word: what compilers print is read by programs.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use spolia_core::Cost;
use spolia_core::codec::escape;
use spolia_store::RunId;

use crate::sets::{Kept, KeptOutput};
use crate::tally::Record;
use crate::{Call, Options};

/// A call's lines are cut at this length, bytes.
const BYTES_MAX: usize = 4 << 20;

/// The story of one call, as far as it went; shared by all who tell a part of it.
#[derive(Clone, Default)]
pub struct Story(Option<Rc<RefCell<Told>>>);

struct Told {
    file: PathBuf,
    began_ns: i64,
    text: Vec<u8>,
}

impl Story {
    /// The story of a call that begins now, `now_us` by the clock; nobody listens where there is no `file`.
    pub fn begin(file: Option<&Path>, now_us: u64) -> Self {
        Self(file.map(|file| {
            let text = format!("call {}\n", RunId::new(now_us)).into_bytes();
            Rc::new(RefCell::new(Told { file: file.to_owned(), began_ns: monotonic_ns(), text }))
        }))
    }

    /// The story of a call, with who was called and how.
    pub fn of(call: &Call<'_>, options: &Options) -> Self {
        let story = Self::begin(options.log.as_deref(), options.now_us);
        story.tell("called", || [quoted(&call.name), words(&call.args)].join(" "));
        story.tell("in", || shown(&call.cwd));
        story.tell("compiler", || format!("`{}` is {}", quoted(&call.name), shown(&call.program)));
        story
    }

    /// Whether somebody listens.
    pub fn is_told(&self) -> bool {
        self.0.is_some()
    }

    /// One line: `what` is a word, `text` is asked for only where somebody listens. What is no letter is escaped.
    pub fn tell(&self, what: &str, text: impl FnOnce() -> String) {
        let Some(told) = &self.0 else { return };
        let mut escaped = String::new();
        for letter in text().chars() {
            match letter.is_control() {
                true => escaped.extend(letter.escape_default()),
                false => escaped.push(letter),
            }
        }
        let mut told = told.borrow_mut();
        let passed_us = (monotonic_ns() - told.began_ns) / 1000;
        if told.text.len() + escaped.len() < BYTES_MAX {
            let line = format!("{:>7}.{}  {what:<9}  {escaped}\n", passed_us / 1000, passed_us / 100 % 10);
            told.text.extend_from_slice(line.as_bytes());
        }
    }

    /// An output that was put at `path`.
    pub fn put_back(&self, output: &KeptOutput, path: &Path) {
        self.tell("put back", || format!("{} at `{}`", described(output), shown(path)));
    }

    /// What a run gave, where it is kept.
    pub fn kept(&self, kept: &Kept) {
        for output in &kept.outputs {
            self.tell("kept", || described(output));
        }
        self.tell("kept", || format!("what it printed, {} bytes", kept.log.0.len()));
    }

    /// What the compiler that ran cost.
    pub fn ended(&self, how: &dyn std::fmt::Debug, cost: &Cost) {
        let ms =
            |us: Option<u64>| us.map_or("a time not observed".to_owned(), |us| format!("{} ms", us / 1000));
        self.tell("ended", || {
            let cpu = cost.user_us.zip(cost.sys_us).map(|(user, sys)| user + sys);
            format!("{how:?} after {}, CPU {}", ms(cost.wall_us), ms(cpu))
        });
    }

    /// The end of a call that is none of the cache's business.
    pub fn passed_through(&self, why: &str) {
        self.tell("outcome", || format!("pass-through: {why}"));
        self.write();
    }

    /// How it went, and the end of the story.
    pub fn end(&self, record: &Record) {
        self.tell("outcome", || {
            let mut text = record.outcome.clone();
            for part in [&record.reason, &record.detail].into_iter().flatten() {
                text.push_str(": ");
                text.push_str(part);
            }
            match (&record.not_stored, record.outcome.as_str()) {
                (Some(why), _) => text.push_str(&format!("; the result was not kept: {why}")),
                (None, "miss") => text.push_str("; the result was kept"),
                _ => {}
            }
            match record.own_cpu_us {
                Some(us) => text + &format!("; own CPU {}.{} ms", us / 1000, us / 100 % 10),
                None => text,
            }
        });
        self.write();
    }

    /// Writes down what was told. What is told afterwards is another part of the same call.
    pub fn write(&self) {
        let Some(told) = &self.0 else { return };
        let mut told = told.borrow_mut();
        if told.text.is_empty() {
            return;
        }
        let mut text = std::mem::take(&mut told.text);
        text.push(b'\n');
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
        if let Ok(file) = rustix::fs::open(&told.file, flags, Mode::from_raw_mode(0o666)) {
            let _lost = std::fs::File::from(file).write_all(&text);
        }
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// A command line as a shell would want it.
pub(crate) fn words(args: &[OsString]) -> String {
    args.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell would want it.
fn quoted(word: &OsStr) -> String {
    let text = escape(word.as_encoded_bytes());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+=:,./@%^".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// `o, 1234 bytes, blob ab12…`.
fn described(output: &KeptOutput) -> String {
    let place = match output.blob() {
        Some(blob) => format!("blob {}", blob.to_hex()),
        None => "in the manifest itself".to_owned(),
    };
    format!("{}, {} bytes, {place}", output.name, output.size)
}

fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_appended_whole_and_nothing_where_nobody_listens() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("log");
        for number in 0..2 {
            let story = Story::begin(Some(&file), 1_700_000_000_000_000);
            story.tell("set", || format!("{number}\nof \0002"));
            assert!(number == 1 || !file.exists(), "nothing is written before the call ends");
            story.write();
            story.write();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let calls: Vec<&str> = text.split("\n\n").filter(|call| !call.is_empty()).collect();
        assert_eq!(calls.len(), 2, "{text}");
        for (number, call) in calls.iter().enumerate() {
            let (head, line) = call.split_once('\n').unwrap();
            assert!(head.starts_with("call 20231114T221320.000000-"), "{head}");
            assert!(line.ends_with(&format!("  set        {number}\\nof \\u{{0}}002")), "{line}");
        }
        let nobody = Story::begin(None, 0);
        nobody.tell("set", || panic!("it was asked for"));
        nobody.write();
        let nowhere = Story::begin(Some(&temp.path().join("no/folder")), 0);
        nowhere.tell("set", String::new);
        nowhere.write();
    }
}
