//! What a person, a log, GitHub Actions and a program see of a build: the binary, also on a terminal.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A project of its own with a store of its own.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        std::fs::create_dir(project.root()).unwrap();
        project.write("spolia.toml", manifest);
        project
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root().join(name), text).unwrap();
    }

    /// Nothing of the caller's environment.
    #[expect(clippy::disallowed_methods, reason = "tests start the binary")]
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.root()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("HOME", self.folder.path()).env("SPOLIA_CACHE_DIR", self.folder.path().join("store"));
        command.env("SHELL", "/bin/sh").env("TERM", "xterm-256color");
        command
    }

    fn spolia(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_spolia"));
        command.args(["build", "--engine", "host"]).args(args);
        command
    }

    /// Runs `spolia build` on a terminal of that size; `watch` sees what was written so far and may type.
    fn on_terminal(
        &self,
        (columns, rows): (usize, usize),
        args: &str,
        env: &[(&str, &str)],
        watch: &mut dyn FnMut(&str) -> Option<&'static str>,
    ) -> Seen {
        let binary = env!("CARGO_BIN_EXE_spolia");
        assert!(!binary.contains('\''));
        let line =
            format!("stty cols {columns} rows {rows}; exec '{binary}' build --engine host --jobs 6 {args}");
        let mut command = self.command("script");
        command.args(["-qec", &line, "/dev/null"]).envs(env.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut keyboard = child.stdin.take().unwrap();
        let mut screen = child.stdout.take().unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = screen.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(typed) = watch(&String::from_utf8_lossy(&bytes)) {
                keyboard.write_all(typed.as_bytes()).unwrap();
                keyboard.flush().unwrap();
            }
        }
        drop(keyboard);
        let code = child.wait().unwrap().code();
        Seen::new(String::from_utf8(bytes).unwrap(), columns, code)
    }
}

/// What was to be seen on a terminal.
struct Seen {
    raw: String,
    /// The screen whenever something was about to be drawn over.
    frames: Vec<Vec<String>>,
    /// The screen at the end, with all that scrolled away.
    last: Vec<String>,
    code: Option<i32>,
}

impl Seen {
    /// Acts as a terminal that knows exactly the controls that are allowed.
    fn new(raw: String, columns: usize, code: Option<i32>) -> Self {
        let mut rows: Vec<Vec<char>> = vec![Vec::new()];
        let (mut row, mut column) = (0, 0);
        let mut frames = Vec::new();
        let show = |rows: &[Vec<char>]| -> Vec<String> {
            rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
        };
        let mut chars = raw.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => column = 0,
                '\n' => {
                    row += 1;
                    if row == rows.len() {
                        rows.push(Vec::new());
                    }
                }
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['), "in {raw:?}");
                    let mut number = String::new();
                    let control = chars.by_ref().find(|c| {
                        number.push(*c);
                        c.is_ascii_alphabetic()
                    });
                    number.pop();
                    match control {
                        Some('A') => {
                            frames.push(show(&rows));
                            row = row.checked_sub(number.parse().unwrap()).expect("not above the start");
                        }
                        Some('K') => rows[row].truncate(column),
                        Some('J') => {
                            rows[row].truncate(column);
                            rows.truncate(row + 1);
                        }
                        Some('m') => {}
                        other => panic!("control {other:?} in {raw:?}"),
                    }
                }
                c => {
                    assert!(!c.is_control(), "{c:?} in {raw:?}");
                    if column == columns {
                        row += 1;
                        column = 0;
                        rows.insert(row, Vec::new());
                    }
                    let line = &mut rows[row];
                    if line.len() <= column {
                        line.resize(column + 1, ' ');
                    }
                    line[column] = c;
                    column += 1;
                }
            }
        }
        assert_eq!(column, 0, "it ends with a whole line: {raw:?}");
        let mut last = show(&rows);
        while last.last().is_some_and(String::is_empty) {
            last.pop();
        }
        Self { raw, frames, last, code }
    }

    fn has_frame(&self, lines: &[&str]) -> bool {
        self.frames
            .iter()
            .any(|frame| lines.iter().all(|start| frame.iter().any(|line| line.starts_with(start))))
    }
}

/// Times, which differ from run to run, as `T`.
fn redact(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let unit = word.trim_end_matches([';', ':', ',', '\n']);
        let number = words.last().is_some_and(|last| last.parse::<f64>().is_ok());
        if number && (unit == "ms" || unit == "s" || unit.starts_with("ms\n") || unit.starts_with("s\n")) {
            words.pop();
            let after = word.strip_prefix("ms").or_else(|| word.strip_prefix('s')).unwrap();
            words.push(format!("T{after}"));
        } else {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

fn stderr(output: &Output) -> String {
    redact(std::str::from_utf8(&output.stderr).unwrap())
}

const PARALLEL: &str = r#"
[project]
platforms = ["linux/amd64"]
[steps.one]
run = "printf 'one begins\\n'; sleep 1; echo one > ${out}/x"
outputs = ["x"]
[steps.two]
run = "printf '\\033[31mtwo\\033[2J begins\\033[0m'; sleep 1; echo two > ${out}/x"
outputs = ["x"]
platforms = "any"
[steps.three]
needs = ["one", "two"]
run = "sleep 0.3; echo three"
outputs = []
"#;

const FAILING: &str = r#"
[project]
platforms = ["linux/amd64"]
[steps.good]
run = "echo fine; echo x > ${out}/x"
outputs = ["x"]
[steps.bad]
needs = ["good"]
run = "echo first 100%; echo '::set-env name=A::b'; echo last >&2; exit 3"
outputs = []
[steps.after]
needs = ["bad"]
run = "true"
outputs = []
"#;

#[test]
fn a_terminal_shows_what_runs_and_keeps_only_what_ended() {
    let project = Project::new(PARALLEL);
    let seen = project.on_terminal((70, 12), "", &[], &mut |_| None);
    assert_eq!(seen.code, Some(0), "{}", seen.raw);
    let lines: Vec<String> = seen.last.iter().map(|line| redact(line)).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines.contains(&"       ran one (linux/amd64) in T".to_owned()), "{lines:?}");
    assert!(lines.contains(&"       ran two in T".to_owned()), "{lines:?}");
    assert_eq!(lines[2], "       ran three (linux/amd64) in T");
    assert_eq!(lines[3], "     built 3 ran in T");
    assert!(
        seen.has_frame(&["   running one (linux/amd64)  ", "   running two  ", "  building 0/3 in "]),
        "{:?}",
        seen.frames
    );
    assert!(seen.has_frame(&["   running three (linux/amd64)  ", "  building 2/3: 2 ran in "]));
    let frames: Vec<&String> = seen.frames.iter().flatten().collect();
    assert!(frames.iter().any(|line| line.ends_with(" s  one begins")), "{frames:?}");
    assert!(frames.iter().any(|line| line.ends_with(" s  two begins")), "{frames:?}");
    assert!(frames.iter().all(|line| line.chars().count() < 70), "{frames:?}");
    assert!(seen.raw.contains("\x1b[1;32m"), "colour is on");
    assert!(!seen.raw.contains("\x1b[?"), "the cursor stays as it is");

    // What is up to date needs no display.
    let again = project.on_terminal((70, 12), "", &[("NO_COLOR", "1")], &mut |_| None);
    assert!(again.frames.is_empty());
    assert_eq!(again.last.len(), 1, "{:?}", again.last);
    assert!(redact(&again.last[0]).starts_with("     built 3 up to date in T; T of step time saved"));
    assert!(!again.raw.contains('\x1b'), "{:?}", again.raw);
}

#[test]
fn a_narrow_and_low_terminal_shows_what_fits() {
    let project = Project::new(PARALLEL);
    let seen = project.on_terminal((20, 3), "", &[], &mut |_| None);
    assert_eq!(seen.code, Some(0));
    assert!(seen.has_frame(&["… and 2 more", "0/3 "]), "{:?}", seen.frames);
    // Lines that stay are not cut: the terminal wraps them.
    let [.., built, time] = &seen.last[..] else { panic!("{:?}", seen.last) };
    assert_eq!(built, "     built 3 ran in");
    assert_eq!(redact(time), "T");
    assert!(!seen.last.concat().contains("more"), "{:?}", seen.last);
}

#[test]
fn a_failure_on_a_terminal_shows_all_the_step_printed() {
    let project = Project::new(FAILING);
    let seen = project.on_terminal((80, 24), "", &[], &mut |_| None);
    assert_eq!(seen.code, Some(1));
    let last = seen.last.join("\n");
    let expect = "       ran good (linux/amd64) in T\n\
        --- output of bad (linux/amd64)\nfirst 100%\n::set-env name=A::b\nlast\n---\n\
        error: bad (linux/amd64) failed after T: it ended with exit code 3\n   \
        skipped after (linux/amd64): it needs bad (linux/amd64), which failed\n    \
        failed 1 ran, 1 failed, 1 skipped in T";
    assert_eq!(redact(&last), expect);
}

#[test]
fn the_first_interrupt_says_that_the_build_stops() {
    let project = Project::new(
        "[project]\nplatforms = [\"linux/amd64\"]\n[steps.slow]\nrun = \"sleep 30\"\noutputs = []\n\
         [steps.after]\nneeds = [\"slow\"]\nrun = \"true\"\noutputs = []\n",
    );
    for args in ["", "--progress never"] {
        let mut typed = false;
        let seen = project.on_terminal((80, 24), args, &[("NO_COLOR", "1")], &mut |so_far| {
            let runs = so_far.contains("running slow") || so_far.contains("miss slow");
            (runs && !std::mem::replace(&mut typed, true)).then_some("\x03")
        });
        assert_eq!(seen.code, Some(130), "{}", seen.raw);
        // Which of the two is said depends on what is noticed first: the key, or that the step has ended.
        let (needed, stopped) = ("it needs slow (linux/amd64), which was stopped", "the build was stopped");
        let lines: Vec<String> = seen.last.iter().map(|line| redact(line).replace(needed, stopped)).collect();
        let lines = &lines[lines.len() - 4..];
        // The terminal may show the key too.
        let stopping = lines[0].trim_start_matches("^C");
        assert_eq!(stopping, "stopping: waiting for slow (linux/amd64) to end; Ctrl-C again ends at once");
        assert_eq!(
            lines[1..],
            [
                "   stopped slow (linux/amd64)",
                "   skipped after (linux/amd64): the build was stopped",
                "   stopped 2 skipped in T"
            ]
        );
    }
}

#[test]
fn a_log_has_a_line_for_each_thing() {
    let project = Project::new(PARALLEL);
    let first = project.spolia(&["two", "one", "--jobs", "1"]).output().unwrap();
    assert_eq!(
        stderr(&first),
        "      miss one (linux/amd64): never run here\n       ran one (linux/amd64) in T\n      \
         miss two: never run here\n       ran two in T\n     built 2 ran in T\n"
    );
    let again = project.spolia(&["two", "one"]).output().unwrap();
    let heard = stderr(&again);
    assert!(heard.starts_with("     built 2 up to date in T; T of step time saved"), "{heard}");
    assert_eq!(heard.lines().count(), 1, "{heard}");
    let verbose = project.spolia(&["two", "one", "-v"]).output().unwrap();
    let heard = stderr(&verbose);
    let mut lines: Vec<&str> = heard.lines().collect();
    assert!(lines.pop().is_some_and(|last| last.starts_with("     built 2 up to date in T")), "{heard}");
    // Which of the two comes first is the schedule's matter.
    let one = ["one (linux/amd64) | one begins", "     fresh one (linux/amd64)"];
    let two = ["two | two begins", "     fresh two"];
    assert!(lines == [one, two].concat() || lines == [two, one].concat(), "{heard}");
    let quiet = project.spolia(&["-q", "--no-cache"]).output().unwrap();
    assert_eq!((stderr(&quiet).as_str(), quiet.status.code()), ("", Some(0)));
    assert!(first.stdout.is_empty() && verbose.stdout.is_empty() && quiet.stdout.is_empty());

    let failing = Project::new(FAILING);
    let quiet = failing.spolia(&["-q"]).output().unwrap();
    assert_eq!(
        stderr(&quiet),
        "--- output of bad (linux/amd64)\nfirst 100%\n::set-env name=A::b\nlast\n---\n\
         error: bad (linux/amd64) failed after T: it ended with exit code 3\n"
    );
}

#[test]
fn github_gets_groups_annotations_and_a_summary() {
    let project = Project::new(FAILING);
    let page = project.folder.path().join("summary.md");
    let github = |args: &[&str]| {
        let mut command = project.spolia(args);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &page);
        command.env("GITHUB_WORKSPACE", project.folder.path());
        command.output().unwrap()
    };
    std::fs::write(&page, "before\n").unwrap();
    let output = github(&[]);
    assert_eq!(output.status.code(), Some(1));
    let heard = stderr(&output);
    let token = heard.split_once("::stop-commands::").unwrap().1.lines().next().unwrap().to_owned();
    assert!(token.len() > 32, "{token}");
    assert_eq!(
        heard.replace(&token, "TOKEN"),
        "      miss good (linux/amd64): never run here\n\
         ::group::good (linux/amd64)\nfine\n::endgroup::\n       \
         ran good (linux/amd64) in T\n      \
         miss bad (linux/amd64): never run here\n\
         ::group::bad (linux/amd64)\n::stop-commands::TOKEN\nfirst 100%\n::set-env name=A::b\nlast\n\
         ::TOKEN::\n::endgroup::\n\
         ::error title=bad (linux/amd64) failed,file=project/spolia.toml,line=7::it ended with exit code 3 \
         after 0 ms%0Afirst 100%25%0A::set-env name=A::b%0Alast\n   \
         skipped after (linux/amd64): it needs bad (linux/amd64), which failed\n    \
         failed 1 ran, 1 failed, 1 skipped in T\n"
            .replace("0 ms", elapsed_in(&heard))
    );
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written.starts_with("before\n### spolia failed\n\n| ran | restored |"), "{written}");
    assert!(written.contains("\n| 1 | 0 | 0 | 1 | 1 | "), "{written}");
    assert!(written.contains("\n| bad (linux/amd64) | it ended with exit code 3 |\n"), "{written}");

    std::fs::write(&page, "").unwrap();
    let json = github(&["--json"]);
    assert!(!String::from_utf8(json.stdout).unwrap().lines().any(|line| line.starts_with("::")));
    assert!(json.stderr.is_empty());
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "");
}

/// The time in an annotation, which ends in an escape and so is not redacted.
fn elapsed_in(heard: &str) -> &str {
    let after = heard.split_once("exit code 3 after ").unwrap().1;
    let time = after.split_once("%0A").unwrap().0;
    assert!(time.ends_with(" ms") || time.ends_with(" s"), "{time}");
    time
}

#[test]
fn json_is_the_journal_with_what_steps_print() {
    let project = Project::new(FAILING);
    for args in [["--json", "-k"], ["--json", "-v"]] {
        let output = project.spolia(&args).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", stderr(&output));
        let printed: Vec<serde_json::Value> =
            output.stdout.split_inclusive(|b| *b == b'\n').map(parse).collect();
        let kind = |event: &serde_json::Value| event["kind"].as_str().unwrap().to_owned();
        assert_eq!(kind(&printed[0]), "run-started");
        assert_eq!(kind(printed.last().unwrap()), "run-finished");
        for (number, event) in printed.iter().enumerate() {
            assert_eq!(event["seq"], number, "each event has the next number");
        }
        assert!(printed.iter().any(|event| kind(event) == "step-output"));
        let kept: Vec<_> = printed.iter().filter(|event| kind(event) != "step-output").cloned().collect();
        let run = printed[0]["run"].as_str().unwrap();
        assert_eq!(journal(&project.folder.path().join("store"), run), kept);
    }
}

fn parse(line: &[u8]) -> serde_json::Value {
    assert!(line.ends_with(b"\n"), "whole lines");
    serde_json::from_slice(line).unwrap()
}

fn journal(store: &Path, run: &str) -> Vec<serde_json::Value> {
    let file = store.join("v1/journal").join(&run[..8]).join(format!("{run}.jsonl"));
    let raw = std::fs::read(&file).unwrap();
    raw.split_inclusive(|b| *b == b'\n').map(parse).collect()
}
