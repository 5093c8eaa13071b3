//! What is seen of real programs, as whoever runs this.

#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spolia_core::result::Stream;
use spolia_engine::observe::{self, Observed, Seen};

struct Place {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = observe::install(&folder.path().join("lib")).unwrap();
        Self { folder, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn run(&self, script: &str) -> (Observed, String) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(self.path("")).stdin(Stdio::null());
        command.env("COLOUR", "red");
        let mut output = String::new();
        let observed = observe::run(command, Some(&self.library), None, &mut |stream, bytes| {
            assert!(matches!(stream, Stream::Stdout | Stream::Stderr));
            output.push_str(std::str::from_utf8(bytes).unwrap());
        });
        (observed.unwrap(), output)
    }

    fn see(&self, script: &str) -> Seen {
        let (observed, output) = self.run(script);
        let seen = observed.seen.unwrap_or_else(|error| panic!("not observed: {error}; {output}"));
        assert!(seen.is_whole(), "{seen:?}");
        seen
    }
}

fn has_read(seen: &Seen, path: &Path) -> bool {
    seen.read.iter().any(|found| found.path == path)
}

#[test]
fn files_that_are_read_and_files_that_are_not_there() {
    let place = Place::new();
    place.write("a/in", "x");
    let seen =
        place.see("cat a/in > out; cat a/none 2> /dev/null; cat out > /dev/null; test -e a/maybe || :");
    assert!(has_read(&seen, &place.path("a/in")));
    assert!(seen.missing.contains(&place.path("a/none")));
    assert!(seen.missing.contains(&place.path("a/maybe")));
    assert!(seen.written.contains(&place.path("out")));
    assert!(!seen.missing.contains(&place.path("out")));
    let found = seen.read.iter().find(|found| found.path == place.path("a/in")).unwrap();
    assert_eq!(found.key.unwrap().size, 1);
}

#[test]
fn folders_that_are_listed_and_programs_that_are_started() {
    let place = Place::new();
    place.write("a/in", "x");
    let seen = place.see("ls a > /dev/null");
    assert_eq!(seen.listed, [place.path("a")]);
    assert!(seen.executed.contains_key(Path::new("/bin/sh")));
    let ls = seen.executed.iter().find(|(path, _)| path.ends_with("ls")).unwrap();
    assert!(ls.1.says_variables, "{ls:?}");
    assert!(!seen.connected);
}

#[test]
fn variables_and_the_clock_are_asked_for() {
    let place = Place::new();
    let (observed, output) = place.run("printenv COLOUR; mktemp -u > /dev/null; date > /dev/null");
    assert_eq!(output, "red\n");
    let seen = observed.seen.unwrap();
    let asked = |name: &str| seen.variables.iter().any(|variable| variable == name);
    // `printenv` walks over all variables, which is not seen; `mktemp` asks by name.
    assert!(asked("TMPDIR") && asked("TZ"), "{:?}", seen.variables);
    assert!(!asked("COLOUR"));
    let clock = |name: &str| seen.executed.iter().any(|(path, ran)| path.ends_with(name) && ran.asks_time);
    assert!(clock("date"));
    assert!(!clock("printenv"));
}

#[test]
fn exit_codes_output_and_what_cannot_start() {
    let place = Place::new();
    let (observed, output) = place.run("echo out; echo err >&2; exit 3");
    assert!(matches!(observed.ended.end, spolia_engine::End::Exited(3)));
    assert!(output.contains("out\n") && output.contains("err\n"));
    let command = Command::new(place.path("no-such-program"));
    let failed = observe::run(command, Some(&place.library), None, &mut |_, _| {});
    assert_eq!(failed.err().unwrap().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn who_is_left_behind_is_not_hindered() {
    let place = Place::new();
    let script = "{ sleep 1; cat /etc/passwd > late; } > /dev/null 2>&1 &";
    let (observed, _) = place.run(script);
    assert!(observed.seen.is_ok());
    for _ in 0..100 {
        if std::fs::metadata(place.path("late")).is_ok_and(|late| late.len() > 0) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("the program that was left behind could not open a file");
}

#[test]
fn many_processes_and_threads_are_all_answered() {
    let place = Place::new();
    let seen = place.see("for n in 1 2 3 4 5 6 7 8; do (for m in 1 2 3 4 5; do cat none-$n-$m 2>/dev/null; done) & done; wait; :");
    let none = seen.missing.iter().filter(|path| path.to_string_lossy().contains("/none-")).count();
    assert_eq!(none, 40);
}

#[test]
fn a_program_that_clears_its_environment_is_said_to_be_silent() {
    let place = Place::new();
    let seen = place.see("env -i /bin/ls > /dev/null");
    assert!(!seen.executed[Path::new("/bin/ls")].says_variables);
}

#[test]
fn a_connection_is_noted() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = place.see(&format!("exec 2>/dev/null; bash -c 'echo > /dev/tcp/127.0.0.1/{port}'; :"));
    assert!(seen.connected);
}

#[test]
fn a_program_tells_whether_it_may_walk_over_all_variables() {
    assert!(observe::may_read_all_variables(Path::new("/usr/bin/env")));
    assert!(observe::may_read_all_variables(Path::new("/no/such/file")));
}
