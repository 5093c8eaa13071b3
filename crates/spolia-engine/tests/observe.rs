//! What is seen of real programs, as whoever runs this.

#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spolia_core::result::Stream;
use spolia_engine::observe::{self, Observed, Seen, Since};

struct Place {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = observe::install(&folder.path().join("lib"), None).unwrap();
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
        let observed =
            observe::run(command, Some(&self.library), None, Since::Start, &mut |stream, bytes| {
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
    let failed = observe::run(command, Some(&place.library), None, Since::Start, &mut |_, _| {});
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

/// Opens, looks, and does both again by ways that the library does not know.
const BOTH_WAYS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); exit(1); } } while (0)
static long bare(const char *path)
{
#if defined(__x86_64__)
    long result, flags = O_RDONLY;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_open), "D"(path), "S"(flags) : "rcx", "r11", "memory");
    return result;
#else
    return syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
#endif
}
int main(void)
{
    struct stat found;
    int folder = open("a", O_RDONLY | O_DIRECTORY);
    CHECK(folder >= 0);
    CHECK(open("a/in", O_RDONLY) >= 0);
    CHECK(bare("a/bare") >= 0);
    errno = 0;
    CHECK(open("a/none", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(bare("a/bare-none") < 0);
    CHECK(open("a/in/none", O_RDONLY) == -1 && errno == ENOTDIR);
    CHECK(openat(folder, "at", O_RDONLY) >= 0);
    CHECK(fopen("a/stream", "r") != NULL);
    CHECK(open("made", O_RDWR | O_CREAT, 0640) >= 0);
    CHECK(stat("made", &found) == 0 && (found.st_mode & 07777) == 0640);
    CHECK(stat("a/looked", &found) == 0 && found.st_size == 3);
    CHECK(lstat("a/link", &found) == 0 && S_ISLNK(found.st_mode));
    CHECK(lstat("a/nowhere", &found) == 0 && S_ISLNK(found.st_mode));
    CHECK(access("a/asked", R_OK) == 0);
    CHECK(access("a/not", F_OK) == -1 && errno == ENOENT);
    CHECK(stat("a", &found) == 0 && S_ISDIR(found.st_mode));
    const char *volatile nothing = NULL;
    CHECK(open(nothing, O_RDONLY) == -1 && errno == EFAULT);
    CHECK(stat(nothing, &found) == -1 && errno == EFAULT);
    CHECK(open("", O_RDONLY) == -1 && errno == ENOENT);
    char *to = realpath("a/link", NULL), room[4096];
    CHECK(to && !strcmp(strrchr(to, '/'), "/target") && realpath("a/link", room) && !strcmp(to, room));
    CHECK(!realpath("a/none", room) && errno == ENOENT);
    CHECK(chdir("a") == 0 && open("moved", O_RDONLY) >= 0);
    CHECK(getenv("COLOUR") && !strcmp(getenv("COLOUR"), "red"));
    if (fork() == 0)
        _exit(open("child", O_RDONLY) < 0);
    puts("ok");
    return 0;
}
"#;

fn compile(place: &Place, name: &str, source: &str) {
    place.write(&format!("{name}.c"), source);
    let status = Command::new("cc")
        .args(["-O1", "-pthread", "-o", name, &format!("{name}.c")])
        .current_dir(place.path(""))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn what_the_library_notes_and_what_goes_past_it_are_both_seen() {
    let place = Place::new();
    compile(&place, "both", BOTH_WAYS);
    for name in ["in", "bare", "at", "stream", "looked", "asked", "moved", "child", "target"] {
        place.write(&format!("a/{name}"), "x\ny");
    }
    std::os::unix::fs::symlink("target", place.path("a/link")).unwrap();
    std::os::unix::fs::symlink("to-nothing", place.path("a/nowhere")).unwrap();
    let (observed, output) = place.run("exec ./both");
    assert_eq!(output, "ok\n");
    let seen = observed.seen.unwrap();
    assert!(seen.is_whole(), "{seen:?}");
    for name in ["in", "bare", "at", "stream", "moved", "child"] {
        let path = place.path("a").join(name);
        let found = seen.read.iter().find(|found| found.path == path);
        let found = found.unwrap_or_else(|| panic!("{name} was not seen: {seen:?}"));
        assert_eq!(found.key, Some(spolia_store::StatKey::of_metadata(&path.metadata().unwrap())), "{name}");
    }
    for name in ["a/none", "a/bare-none", "a/in/none", "a/not", "a/nowhere"] {
        assert!(seen.missing.contains(&place.path(name)), "{name}: {:?}", seen.missing);
    }
    for name in ["a/looked", "a/link", "a/asked"] {
        assert!(seen.looked.contains(&(place.path(name), false)), "{name}: {:?}", seen.looked);
    }
    assert!(seen.looked.contains(&(place.path("a"), true)));
    assert_eq!(seen.resolved, [place.path("a/link")], "what is not there leads nowhere");
    assert!(seen.written.contains(&place.path("made")));
    assert!(seen.variables.iter().any(|name| name == "COLOUR"));
}

#[test]
fn a_compile_is_seen_alike_with_the_library_and_without() {
    let place = Place::new();
    place.write("one/a.h", "#include <stdio.h>\n#include \"b.h\"\n");
    place.write("two/b.h", "#if __has_include(\"c.h\")\n#endif\n");
    place.write("a.c", "#include \"a.h\"\nint main(void) { return 0; }\n");
    let see = |library: Option<&Path>| {
        let mut command = Command::new("cc");
        command.args(["-I.", "-Ione", "-Itwo", "-c", "a.c", "-o", "a.o"]).current_dir(place.path(""));
        let _not_there = std::fs::remove_file(place.path("a.o"));
        // Where the tests look for libraries, the loader would.
        command.env_remove("LD_LIBRARY_PATH");
        let observed = observe::run(command, library, None, Since::Start, &mut |_, _| {}).unwrap();
        let seen = observed.seen.unwrap();
        assert!(seen.is_whole());
        seen
    };
    let aside = |path: &Path| {
        path.starts_with(place.path("lib"))
            || path.starts_with(std::env::temp_dir()) && !path.starts_with(place.path(""))
    };
    let strip = |mut seen: Seen| {
        seen.read.retain(|found| !aside(&found.path));
        seen.looked.retain(|(path, _)| !aside(path));
        seen.missing.retain(|path| !aside(path));
        seen.written.retain(|path| !aside(path));
        seen
    };
    let with = see(Some(&place.library));
    let without = see(None);
    assert!(with.stopped * 2 < without.stopped, "{} of {}", with.stopped, without.stopped);
    let (with, without) = (strip(with), strip(without));
    assert_eq!(with.read, without.read);
    assert_eq!(with.looked, without.looked);
    assert_eq!(with.missing, without.missing);
    assert_eq!(with.written, without.written);
    assert_eq!(with.executed.keys().collect::<Vec<_>>(), without.executed.keys().collect::<Vec<_>>());
    assert!(with.missing.contains(&place.path("c.h")) && with.missing.contains(&place.path("one/b.h")));
}

#[test]
fn a_program_that_is_killed_in_the_middle_hides_nothing() {
    let place = Place::new();
    let script = "(for n in 1 2 3 4 5 6 7 8; do cat a/none-$n; done) 2> /dev/null & sleep 0.01; kill -9 $!; wait; cat a/last 2> /dev/null; :";
    for _ in 0..5 {
        let (observed, _) = place.run(script);
        assert!(observed.seen.unwrap().missing.contains(&place.path("a/last")));
    }
}

#[test]
fn the_clock_is_asked_for_by_a_thread_and_by_a_copy_of_a_process() {
    const CLOCK: &str = "#include <pthread.h>\n#include <sys/wait.h>\n#include <time.h>\n#include <unistd.h>\n\
        static void *ask(void *to) { *(time_t *)to = time(0); return 0; }\n\
        int main(int count, char **words) { pthread_t thread; time_t now; (void)words;\n\
        if (count > 1) { if (fork() == 0) _exit(time(0) == 0); wait(0); return 0; }\n\
        return pthread_create(&thread, 0, ask, &now) || pthread_join(thread, 0); }\n";
    let place = Place::new();
    compile(&place, "clock", CLOCK);
    for script in ["./clock; :", "./clock copy; :"] {
        let seen = place.see(script);
        let asked =
            |name: &str| seen.executed.iter().any(|(path, ran)| path.ends_with(name) && ran.asks_time);
        assert!(asked("clock"), "{script}: {:?}", seen.executed);
        assert!(!asked("sh"), "{script}: {:?}", seen.executed);
    }
}

/// A program with a library of its own, which asks for a variable and reads a file before the program's first line.
const LOADED: [(&str, &str); 2] = [
    (
        "library.c",
        "#include <fcntl.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
        __attribute__((constructor)) static void early(void)\n\
        { if (getenv(\"OF_LIBRARY\")) _exit(1); close(open(\"in-library\", O_RDONLY)); }\n\
        int of_library(void) { return 7; }\n",
    ),
    (
        "program.c",
        "#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
        int of_library(void);\n\
        int main(void) { FILE *by_libc = fopen(\"in-libc\", \"r\"); int out = open(\"out\", O_WRONLY | O_CREAT, 0666);\n\
        if (getenv(\"OF_PROGRAM\") || of_library() != 7 || !by_libc || open(\"none\", O_RDONLY) >= 0 || out < 0) return 1;\n\
        printf(\"ran\\n\"); fflush(stdout);\n\
        return system(\"cat in-child\") != 0; }\n",
    ),
];

fn loaded_program(place: &Place) -> PathBuf {
    for (name, content) in LOADED {
        place.write(name, content);
    }
    for name in ["in-library", "in-libc", "in-child"] {
        place.write(name, name);
    }
    place.write("libs/none", "");
    for words in [
        &["-shared", "-fPIC", "library.c", "-o", "libs/libspoliatest.so"][..],
        &["program.c", "-Llibs", "-lspoliatest", "-o", "program"],
        &["-static", "program.c", "library.c", "-o", "static"],
    ] {
        assert!(Command::new("cc").args(words).current_dir(place.path("")).status().unwrap().success());
    }
    place.path("program")
}

fn start(place: &Place, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(place.path("")).stdin(Stdio::null()).env("LD_LIBRARY_PATH", place.path("libs"));
    command
}

#[test]
fn once_it_is_loaded_a_program_is_seen_as_from_its_start() {
    let place = Place::new();
    let program = loaded_program(&place);
    let see = |since: Since<'_>| {
        let mut output = String::new();
        let observed =
            observe::run(start(&place, &program), Some(&place.library), None, since, &mut |_, bytes| {
                output.push_str(std::str::from_utf8(bytes).unwrap());
            });
        let observed = observed.unwrap();
        assert_eq!(
            (observed.ended.end, output.as_str()),
            (spolia_engine::End::Exited(0), "ran\nin-child"),
            "{since:?}"
        );
        let mut seen = observed.seen.unwrap();
        assert!(seen.is_whole(), "{seen:?}");
        // Both are read by every loader, and only one of them is a library.
        seen.read.retain(|found| {
            found.path != Path::new("/etc/ld.so.cache") && !found.path.to_string_lossy().contains("/ld-linux")
        });
        seen
    };
    let (whole, late) = (see(Since::Start), see(Since::Loaded(&program)));
    for name in ["libs/libspoliatest.so", "in-library", "in-libc", "in-child"] {
        assert!(has_read(&late, &place.path(name)), "{name}: {:?}", late.read);
    }
    for name in ["OF_LIBRARY", "OF_PROGRAM"] {
        assert!(late.variables.iter().any(|asked| asked == name), "{name}: {:?}", late.variables);
    }
    assert_eq!(late.read, whole.read);
    assert_eq!(late.variables, whole.variables);
    assert_eq!(late.executed, whole.executed);
    assert_eq!(late.written, whole.written);
    assert!(late.missing.contains(&place.path("none")));
    let unseen: Vec<_> = whole.missing.iter().filter(|path| !late.missing.contains(path)).collect();
    assert!(!unseen.is_empty());
    assert!(
        unseen.iter().all(|path| path.starts_with(place.path("libs")) || path.starts_with("/etc")),
        "{unseen:?}"
    );
    assert!(late.stopped < whole.stopped, "{} of {}", late.stopped, whole.stopped);
}

#[test]
fn a_program_that_cannot_be_left_to_itself_is_seen_from_its_start() {
    let place = Place::new();
    loaded_program(&place);
    let run = |program: &Path, library: Option<&Path>, preload: Option<&str>| {
        let since = Since::Loaded(program);
        let preload = preload.map(std::ffi::OsStr::new);
        let observed = observe::run(start(&place, program), library, preload, since, &mut |_, _| {}).unwrap();
        assert_eq!(observed.ended.end, spolia_engine::End::Exited(0));
        let seen = observed.seen.unwrap();
        assert!(has_read(&seen, &place.path("in-libc")), "{:?}", seen.read);
    };
    run(&place.path("static"), Some(&place.library), None);
    run(&place.path("program"), None, None);
    let words = observe::install(&place.path("lib"), Some("/x.so".as_ref())).unwrap();
    let other = place.path("libs/libspoliatest.so");
    run(&place.path("program"), Some(&words), other.to_str());
    place.write("script", "#!/bin/sh\ncat in-libc\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path("script"), mode).unwrap();
    run(&place.path("script"), Some(&place.library), None);
}

#[test]
fn a_program_that_never_loads_the_library_is_not_known() {
    let place = Place::new();
    let program = loaded_program(&place);
    std::fs::remove_file(&place.library).unwrap();
    let since = Since::Loaded(&program);
    let observed =
        observe::run(start(&place, &program), Some(&place.library), None, since, &mut |_, _| {}).unwrap();
    assert_eq!(observed.ended.end, spolia_engine::End::Exited(0));
    assert!(observed.seen.is_err());
}
