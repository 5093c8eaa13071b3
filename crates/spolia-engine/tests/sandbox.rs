//! The sandbox against the real kernel, as whoever runs this; if that is root, then once more as an ordinary user.
//!
//! The test binary is its own launcher (`__sandbox`), so it has a `main` of its own. It may be copied elsewhere and
//! run from there: `setpriv --reuid=65534 --regid=65534 --clear-groups ./sandbox [NAME…]`.

#![expect(clippy::print_stdout, reason = "a test harness prints")]
#![expect(clippy::disallowed_methods, reason = "the edge: tests look at the clock and start programs")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use spolia_engine::sandbox::{
    self, Bind, Bytes, End, ExchangeError, Launcher, Observe, Overlay, ProjectRoot, Report, Running,
    SandboxSpec, Stage, StartError,
};

const TESTS: &[(&str, fn())] = &[
    ("only_declared_inputs_are_there", only_declared_inputs_are_there),
    ("copies_keep_mode_time_and_content", copies_keep_mode_time_and_content),
    ("odd_names_work_everywhere", odd_names_work_everywhere),
    ("writes_do_not_reach_the_host", writes_do_not_reach_the_host),
    ("folders_from_below_can_be_renamed_and_removed", folders_from_below_can_be_renamed_and_removed),
    ("nested_whole_folders_and_files_in_them", nested_whole_folders_and_files_in_them),
    ("whole_folders_are_copied_without_overlay", whole_folders_are_copied_without_overlay),
    ("paths_that_leave_the_tree_are_refused", paths_that_leave_the_tree_are_refused),
    ("links_do_not_lead_copies_out_of_the_tree", links_do_not_lead_copies_out_of_the_tree),
    ("no_network_but_loopback", no_network_but_loopback),
    ("network_when_asked", network_when_asked),
    ("system_is_read_only", system_is_read_only),
    ("private_folders_are_private", private_folders_are_private),
    ("project_in_a_system_folder_is_covered", project_in_a_system_folder_is_covered),
    ("devices_work", devices_work),
    ("rights_are_given_up", rights_are_given_up),
    ("root_still_owns_files", root_still_owns_files),
    ("outputs_are_written_through", outputs_are_written_through),
    ("toolchain_under_home", toolchain_under_home),
    ("environment_is_complete", environment_is_complete),
    ("descriptors_are_closed_but_kept_ones", descriptors_are_closed_but_kept_ones),
    ("missing_program", missing_program),
    ("missing_interpreter", missing_interpreter),
    ("program_that_may_not_run", program_that_may_not_run),
    ("missing_working_directory", missing_working_directory),
    ("missing_bind", missing_bind),
    ("missing_input", missing_input),
    ("codes_and_signals", codes_and_signals),
    ("kill_zero_reaches_the_command_only", kill_zero_reaches_the_command_only),
    ("what_is_left_behind_is_killed", what_is_left_behind_is_killed),
    ("cost_counts_orphans", cost_counts_orphans),
    ("killed_launcher_takes_all_with_it", killed_launcher_takes_all_with_it),
    ("killed_sandbox_is_all_that_ends", killed_sandbox_is_all_that_ends),
    ("a_dropped_launcher_ends_what_it_started", a_dropped_launcher_ends_what_it_started),
    (
        "networks_are_used_again_when_nothing_is_left_in_them",
        networks_are_used_again_when_nothing_is_left_in_them,
    ),
    ("sandboxes_at_once_have_different_networks", sandboxes_at_once_have_different_networks),
    ("the_frame_is_like_a_root_of_its_own", the_frame_is_like_a_root_of_its_own),
    ("sandboxes_of_one_launcher_do_not_see_each_other", sandboxes_of_one_launcher_do_not_see_each_other),
    ("dead_caller_takes_all_with_it", dead_caller_takes_all_with_it),
    ("bad_requests_have_no_report", bad_requests_have_no_report),
    ("missing_scratch", missing_scratch),
    ("many_files_are_staged", many_files_are_staged),
    ("scratch_with_odd_modes_is_removed", scratch_with_odd_modes_is_removed),
    (
        "a_scratch_folder_is_used_again_only_as_it_was_made",
        a_scratch_folder_is_used_again_only_as_it_was_made,
    ),
    ("observe_finds_missing_files", observe_finds_missing_files),
    ("observe_follows_links_and_folders", observe_follows_links_and_folders),
    ("observe_tells_made_files", observe_tells_made_files),
    ("observe_odd_names", observe_odd_names),
    ("observe_many_processes", observe_many_processes),
    ("observe_many_threads_and_kills", observe_many_threads_and_kills),
    ("observe_has_a_limit", observe_has_a_limit),
    ("observe_nested_is_refused_but_runs", observe_nested_is_refused_but_runs),
    ("probe_says_what_works", probe_says_what_works),
];

const INSIDE: &str = "/spolia/root";
const AS_USER: &str = "--as-user";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().map(|arg| arg.as_bytes()) {
        Some(b"__sandbox") => {
            let argument = args.get(1).map_or(OsStr::new(""), |arg| arg);
            return ExitCode::from(sandbox::launch::main(argument) as u8);
        }
        Some(b"__run") => return run_alone(Path::new(&args[1])),
        Some(b"__look") => return look(&args[1..]),
        Some(b"__caller") => return caller(Path::new(&args[1])),
        _ => {}
    }
    let mut ok = run_all(&args);
    if rustix::process::geteuid().is_root() && !args.iter().any(|arg| arg == AS_USER) {
        ok &= run_as_user(&args);
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(args: &[std::ffi::OsString]) -> bool {
    let names: Vec<_> =
        args.iter().filter_map(|arg| arg.to_str()).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let uid = rustix::process::geteuid().as_raw();
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} (uid {uid}) ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    println!("uid {uid}: {failed} failed");
    failed == 0
}

/// The same again, from a world-readable folder, as nobody.
fn run_as_user(args: &[std::ffi::OsString]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("sandbox-test");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let temp = folder.path().join("tmp");
    fs::create_dir(&temp).unwrap();
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o1777)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(args).arg(AS_USER);
    let status = command.env("TMPDIR", &temp).env("HOME", &temp).current_dir("/").status();
    status.expect("setpriv (of util-linux) runs").success()
}

// ---- the stage ----

/// A project, an output folder and a scratch folder on disk.
struct Stand {
    temp: tempfile::TempDir,
    spec: SandboxSpec,
}

struct Ran {
    report: Report,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.report.end, End::Exited(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn not_started(self) -> StartError {
        match self.report.end {
            End::NotStarted(error) => error,
            other => panic!("{other:?}: {}", self.stderr),
        }
    }

    fn missing(&self) -> Vec<&str> {
        self.report.lookups.missing.iter().map(|path| path.as_path().to_str().unwrap()).collect()
    }
}

impl Stand {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().canonicalize().unwrap();
        for name in ["project", "out", "scratch"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let spec = SandboxSpec {
            scratch: Bytes::from(&path.join("scratch")),
            env: vec![("PATH".as_bytes().to_vec(), "/usr/local/bin:/usr/bin:/bin".as_bytes().to_vec())]
                .into_iter()
                .map(|(name, value)| (Bytes(name), Bytes(value)))
                .collect(),
            cwd: Bytes::from(INSIDE),
            home: Bytes::from("/spolia/home"),
            root: ProjectRoot {
                inside: Bytes::from(INSIDE),
                host: Bytes::from(&path.join("project")),
                ..ProjectRoot::default()
            },
            binds: vec![Bind {
                host: Bytes::from(&path.join("out")),
                inside: Bytes::from("/spolia/out"),
                writable: true,
            }],
            system: sandbox::default_system(),
            folders: [INSIDE, "/spolia/out", "/spolia/step", "/spolia/home"]
                .iter()
                .map(Bytes::from)
                .collect(),
            rooms: vec![Bytes::from("/spolia/step")],
            hostname: Bytes::from("spolia"),
            ..SandboxSpec::default()
        };
        Self { temp, spec }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().canonicalize().unwrap().join(name)
    }

    /// Writes a project file, which the sandbox does not see unless declared.
    fn file(&self, name: impl AsRef<OsStr>, content: &str) -> PathBuf {
        let path = self.path("project").join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn declared(mut self, files: &[&str], whole_dirs: &[&str]) -> Self {
        self.spec.root.files.extend(files.iter().map(Bytes::from));
        self.spec.root.whole_dirs.extend(whole_dirs.iter().map(Bytes::from));
        self
    }

    fn observed(mut self) -> Self {
        self.spec.observe = true;
        self
    }

    fn start(&self, argv: &[&str]) -> Started {
        let mut spec = self.spec.clone();
        spec.argv = argv.iter().map(Bytes::from).collect();
        start(&spec)
    }

    fn run(&self, argv: &[&str]) -> Ran {
        let scratch = self.path("scratch");
        sandbox::remove_scratch(&scratch).unwrap();
        fs::create_dir(&scratch).unwrap();
        let (report, stdout, stderr) = self.start(argv).output();
        let report = report.unwrap_or_else(|error| panic!("{error}: {stdout} {stderr}"));
        Ran { report, stdout, stderr }
    }

    fn sh(&self, script: &str) -> Ran {
        self.run(&["/bin/sh", "-euc", script])
    }
}

/// A sandbox with a launcher of its own.
struct Started {
    launcher: Launcher,
    running: Running,
    stdout: std::io::PipeReader,
    stderr: std::io::PipeReader,
}

fn start(spec: &SandboxSpec) -> Started {
    let launcher = Launcher::default();
    let (stdout, out) = std::io::pipe().unwrap();
    let (stderr, err) = std::io::pipe().unwrap();
    let running = launcher.start(spec, &out, &err).unwrap();
    Started { launcher, running, stdout, stderr }
}

impl Started {
    /// What it printed, when it has ended.
    fn output(self) -> (Result<Report, ExchangeError>, String, String) {
        let read = |mut from: std::io::PipeReader| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut from, &mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (self.stdout, self.stderr);
        let printed = std::thread::spawn(move || read(stdout));
        let stderr = read(stderr);
        let stdout = printed.join().unwrap();
        wait(&self.running);
        (self.running.exchange.report(), stdout, stderr)
    }

    fn report(self) -> Result<Report, ExchangeError> {
        self.output().0
    }
}

fn wait(running: &Running) {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(&running.descriptor, PollFlags::IN)], None).unwrap();
}

/// As `__run SPEC`: runs it and writes the report in its place.
fn run_alone(path: &Path) -> ExitCode {
    let spec = SandboxSpec::decode(&fs::read(path).unwrap()).unwrap();
    let launcher = Launcher::default();
    let running = launcher.start(&spec, std::io::stdout(), std::io::stderr()).unwrap();
    wait(&running);
    fs::write(path, running.exchange.report().unwrap().encode().unwrap()).unwrap();
    ExitCode::SUCCESS
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Every test's scratch must be removable by who made it.
        let removed = sandbox::remove_scratch(&self.path("scratch"));
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

// ---- the project tree ----

fn only_declared_inputs_are_there() {
    let stand = Stand::new().declared(&["a.txt", "deep/er/b.txt", "link"], &["src"]);
    for name in ["a.txt", "deep/er/b.txt", "deep/er/secret", "secret", "src/m.c", "src/sub/n.c"] {
        stand.file(name, name);
    }
    symlink("a.txt", stand.path("project/link")).unwrap();
    let ran = stand.sh("pwd; find . | sort; cat link src/sub/n.c").ok();
    let expect = "/spolia/root\n.\n./a.txt\n./deep\n./deep/er\n./deep/er/b.txt\n./link\n./src\n./src/m.c\n\
                  ./src/sub\n./src/sub/n.c\na.txtsrc/sub/n.c";
    assert_eq!(ran.stdout, expect);
    assert_eq!(ran.report.overlay, Overlay::Mounted);
    // Nothing else of the host's, nor of ours.
    let ran = stand.sh("ls -A /; ls -A /spolia/home").ok();
    for name in ["home", "root", "sys", "work", "mnt", "srv"] {
        assert!(!ran.stdout.lines().any(|line| line == name), "{}", ran.stdout);
    }
    let hidden = stand.path("project/secret");
    assert_eq!(stand.sh(&format!("! test -e {}", hidden.display())).ok().stdout, "");
}

fn copies_keep_mode_time_and_content() {
    let stand = Stand::new().declared(&["run.sh", "big", "empty", "exact"], &[]);
    let script = stand.file("run.sh", "#!/bin/sh\necho ran\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let file = fs::File::options().write(true).open(&script).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789)).unwrap();
    let before = fs::metadata(&script).unwrap();
    // More than one buffer, and one buffer to the byte.
    stand.file("big", &"0123456789abcdef".repeat(200_000));
    stand.file("exact", &"x".repeat(128 * 1024));
    stand.file("empty", "");
    let ran = stand
        .sh("./run.sh; stat -c '%a %.9Y' run.sh; wc -c < big; wc -c < exact; wc -c < empty; md5sum < big");
    let ran = ran.ok();
    assert_eq!(
        ran.stdout,
        "ran\n755 1000000000.123456789\n3200000\n131072\n0\n4aba14a3846efbcabb4942274fa5639c  -\n"
    );
    let after = fs::metadata(&script).unwrap();
    assert_eq!((after.ctime(), after.ctime_nsec()), (before.ctime(), before.ctime_nsec()));
    assert_eq!(after.nlink(), 1);
}

/// Names with every byte that means something to a mount option, a shell or a text file.
fn odd_names() -> Vec<Vec<u8>> {
    let names: [&[u8]; 9] =
        [b"a:b", b"a,b", b"a\\b", b" space ", b"new\nline", b"\xff\xfe", b"tab\t", b"-dash", b"\\040=:,\"'"];
    names.iter().map(|name| name.to_vec()).collect()
}

fn odd_names_work_everywhere() {
    let mut stand = Stand::new();
    for name in odd_names() {
        let folder = Path::new(OsStr::from_bytes(b"dir")).join(OsStr::from_bytes(&name));
        stand.file(folder.join("inner"), "x");
        stand.file([b"file".as_slice(), &name].concat().as_os(), "x");
        symlink(
            OsStr::from_bytes(&name),
            stand.path("project").join([b"ln".as_slice(), &name].concat().as_os()),
        )
        .unwrap();
        stand.spec.root.whole_dirs.push(Bytes::from(&folder));
        stand.spec.root.files.push(Bytes([b"file".as_slice(), &name].concat()));
        stand.spec.root.files.push(Bytes([b"ln".as_slice(), &name].concat()));
        let out = stand.path("out").join(OsStr::from_bytes(&name));
        fs::create_dir(&out).unwrap();
        let inside = Bytes([b"/bind/".as_slice(), &name].concat());
        stand.spec.binds.push(Bind { host: Bytes::from(&out), inside, writable: true });
    }
    let ran = stand.sh("for d in dir/*; do cat \"$d/inner\"; echo y > \"$d/new\"; done
         for f in file*; do cat \"$f\"; done
         for l in ln*; do test -h \"$l\"; echo; done
         for b in /bind/*; do echo z > \"$b/made\"; done");
    let ran = ran.ok();
    assert_eq!(ran.report.overlay, Overlay::Mounted);
    assert_eq!(ran.stdout, format!("{}{}", "x".repeat(18), "\n".repeat(9)));
    for name in odd_names() {
        let made = stand.path("out").join(OsStr::from_bytes(&name)).join("made");
        assert_eq!(fs::read(made).unwrap(), b"z\n");
    }
    // The scratch folder and the project themselves may be called anything, too.
    let mut stand = Stand::new();
    stand.file("dir/f", "x");
    for name in odd_names() {
        let (project, scratch) = (stand.path(name.as_os()), stand.path([b"s", &name[..]].concat().as_os()));
        fs::rename(stand.spec.root.host.as_path(), &project).unwrap();
        fs::create_dir(&scratch).unwrap();
        stand.spec.root.host = Bytes::from(&project);
        stand.spec.scratch = Bytes::from(&scratch);
        stand.spec.root.whole_dirs = vec![Bytes::from("dir")];
        let report = stand.start(&["/bin/sh", "-euc", "cat dir/f > dir/g"]).report().unwrap();
        assert_eq!((report.end, report.overlay), (End::Exited(0), Overlay::Mounted), "{project:?}");
        sandbox::remove_scratch(&scratch).unwrap();
    }
}

trait AsOs {
    fn as_os(&self) -> &OsStr;
}

impl AsOs for Vec<u8> {
    fn as_os(&self) -> &OsStr {
        OsStr::from_bytes(self)
    }
}

fn writes_do_not_reach_the_host() {
    let stand = Stand::new().declared(&["a.txt", "d/b.txt"], &["src"]);
    for name in ["a.txt", "d/b.txt", "src/m.c", "src/n.c", "src/sub/o.c"] {
        stand.file(name, "old");
    }
    let before = snapshot(&stand.path("project"));
    stand
        .sh("echo new > a.txt; rm d/b.txt; rmdir d; echo x > made; mkdir made.d
             echo new >> src/m.c; rm src/n.c; chmod 700 src/sub/o.c; ln src/m.c src/hard; touch src/sub/fresh
             mv src/sub/o.c .; test \"$(cat src/m.c)\" = 'oldnew'; test ! -e src/n.c; cat o.c")
        .ok();
    assert_eq!(snapshot(&stand.path("project")), before);
}

/// Every path with its inode, mode, size, mtime and ctime: what a write would change.
fn snapshot(folder: &Path) -> Vec<(PathBuf, u64, u32, u64, i64, i64, i64)> {
    let mut all = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push((
            path,
            stat.ino(),
            stat.mode(),
            stat.size(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
        ));
    }
    all.sort();
    all
}

fn folders_from_below_can_be_renamed_and_removed() {
    let stand = Stand::new().declared(&[], &["src"]);
    for name in ["src/one/a", "src/two/b", "src/two/c/d"] {
        stand.file(name, name);
    }
    let before = snapshot(&stand.path("project"));
    let ran =
        stand.sh("mv src/one src/uno; rm -r src/two; mkdir src/two; ls src/two src/uno; cat src/uno/a").ok();
    assert_eq!(ran.stdout, "src/two:\n\nsrc/uno:\na\nsrc/one/a");
    assert_eq!(snapshot(&stand.path("project")), before);
}

fn nested_whole_folders_and_files_in_them() {
    let stand = Stand::new().declared(&["src/a", "src/in/b"], &["src/in", "src", "src/in/ner"]);
    for name in ["src/a", "src/in/b", "src/in/ner/c"] {
        stand.file(name, name);
    }
    let ran = stand.sh("cat src/a src/in/b src/in/ner/c; echo x > src/in/ner/c; cat src/in/ner/c").ok();
    assert_eq!(ran.stdout, "src/asrc/in/bsrc/in/ner/cx\n");
}

/// The writable layer of an overlay may not lie on an overlay: a sandbox in a sandbox, its scratch folder in the outer
/// one's tree, is refused.
fn whole_folders_are_copied_without_overlay() {
    let mut stand = Stand::new();
    stand.file("src/a b", "x");
    stand.file("src/sub/\u{e9}", "y");
    symlink("sub", stand.path("project/src/link")).unwrap();
    fs::set_permissions(stand.path("project/src/a b"), fs::Permissions::from_mode(0o750)).unwrap();
    stand.file("work/x", "x");
    stand.spec.root.whole_dirs = vec![Bytes::from("src"), Bytes::from("work")];
    let exe = Bytes::from(&std::env::current_exe().unwrap());
    let inner = Stand::new();
    let mut spec = inner.spec.clone();
    spec.argv =
        ["/bin/sh", "-euc", "find src | sort; cat src/link/*; stat -c %a 'src/a b'; echo z > src/sub/w"]
            .iter()
            .map(Bytes::from)
            .collect();
    spec.scratch = Bytes::from("/spolia/root/work/scratch");
    spec.root.host = Bytes::from(INSIDE);
    spec.root.inside = Bytes::from("/inner/root");
    spec.cwd = Bytes::from("/inner/root");
    spec.root.whole_dirs = vec![Bytes::from("src")];
    spec.binds.clear();
    fs::write(stand.path("out/spec"), spec.encode().unwrap()).unwrap();
    stand.spec.binds.push(Bind { host: exe, inside: Bytes::from("/spolia/exe"), writable: false });
    let ran = stand.sh("mkdir work/scratch; /spolia/exe __run /spolia/out/spec");
    let ran = ran.ok();
    let report = Report::decode(&fs::read(stand.path("out/spec")).unwrap()).unwrap();
    assert_eq!(report.end, End::Exited(0), "{}", ran.stderr);
    assert!(matches!(report.overlay, Overlay::Refused(_)), "{report:?}");
    assert!(ran.stdout.contains("src/a b\n") && ran.stdout.ends_with("y750\n"), "{}", ran.stdout);
}

fn paths_that_leave_the_tree_are_refused() {
    for name in ["../x", "/etc/passwd", "a/../../x", "", "a//b", "./a"] {
        let stand = Stand::new().declared(&[name], &[]);
        stand.file("a", "x");
        let error = stand.sh("true").not_started();
        assert_eq!((error.stage, error.errno), (Stage::Input, libc::EINVAL), "{name}");
        let stand = Stand::new().declared(&[], &[name]);
        if !matches!(name, "") {
            assert_eq!(stand.sh("true").not_started().stage, Stage::Input, "{name}");
        }
    }
}

fn links_do_not_lead_copies_out_of_the_tree() {
    let stand = Stand::new().declared(&["evil", "evil/planted"], &[]);
    let target = stand.path("out");
    symlink(&target, stand.path("project/evil")).unwrap();
    fs::write(target.join("planted"), "x").unwrap();
    let before = snapshot(&target);
    let error = stand.sh("true").not_started();
    assert_eq!((error.stage, error.errno), (Stage::Input, libc::EEXIST));
    assert_eq!(snapshot(&target), before);
}

// ---- the rest of the file system ----

fn no_network_but_loopback() {
    let ran = Stand::new().sh("cat /proc/net/dev /proc/net/route").ok();
    let devices: Vec<&str> =
        ran.stdout.lines().filter_map(|line| line.split_once(':')).map(|(d, _)| d.trim()).collect();
    assert_eq!(devices, ["lo"], "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().filter(|line| line.starts_with("Iface")).count(), 1);
    assert_eq!(ran.stdout.lines().last().unwrap().split_whitespace().next(), Some("Iface"), "no route");
    // Up: a listener can be reached.
    let stand = with_look();
    assert_eq!(stand.run(&["/spolia/look", "__look", "tcp"]).ok().stdout, "reached");
    let ran = stand.run(&["/spolia/look", "__look", "host"]);
    assert_eq!(ran.ok().stdout, "spolia");
}

fn network_when_asked() {
    let mut stand = with_look();
    stand.spec.network = true;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_eq!(stand.run(&["/spolia/look", "__look", "port", &port]).ok().stdout, "reached");
    let inside = stand.sh("cat /proc/net/dev").ok().stdout.lines().count();
    assert_eq!(inside, fs::read_to_string("/proc/net/dev").unwrap().lines().count());
    assert_eq!(
        stand.sh("cat /etc/resolv.conf 2>/dev/null || true").ok().stdout,
        fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    );
    stand.spec.network = false;
    assert_eq!(
        stand.run(&["/spolia/look", "__look", "port", &port]).ok().stdout,
        "Connection refused (os error 111)"
    );
}

fn system_is_read_only() {
    let ran = Stand::new().sh("for d in / /usr /usr/bin /etc /opt /var /dev /run /spolia; do
             if [ -d $d ] && touch $d/spolia-test 2>/dev/null; then echo wrote $d; fi
         done
         ! mount -o remount,rw /usr 2>/dev/null
         ! mount -t tmpfs x /tmp 2>/dev/null
         ! umount /usr 2>/dev/null
         ! umount /etc 2>/dev/null
         if echo 1 > /proc/sys/kernel/panic_print; then echo wrote sysctl; fi 2>/dev/null
         test -x /usr/bin/env; test -r /etc/passwd; test -x /bin/sh
         ls -ld /bin");
    let ran = ran.ok();
    let bin = fs::read_link("/bin");
    assert!(!ran.stdout.contains("wrote"), "{}", ran.stdout);
    assert_eq!(ran.stdout.contains("/bin -> "), bin.is_ok(), "{}", ran.stdout);
    assert!(!Path::new("/usr/spolia-test").exists());
}

fn private_folders_are_private() {
    let stand = Stand::new();
    let marker = format!("spolia-private-{}", std::process::id());
    let ran = stand.sh(&format!(
        "for d in /tmp /var/tmp /spolia/home; do test -z \"$(ls -A $d)\"; done
         for d in /tmp /var/tmp /spolia/home; do echo x > $d/{marker}; done
         stat -c %a /tmp /var/tmp; stat -f -c %T /tmp"
    ));
    let ran = ran.ok();
    assert!(ran.stdout.starts_with("1777\n1777\n"), "{}", ran.stdout);
    let on_disk = Command::new("stat").args(["-f", "-c", "%T"]).arg(stand.path("scratch")).output().unwrap();
    assert_eq!(ran.stdout.lines().last().unwrap().as_bytes(), on_disk.stdout.trim_ascii_end());
    assert!(!Path::new("/tmp").join(&marker).exists());
    assert!(stand.path("scratch/tmp").join(&marker).exists());
}

fn project_in_a_system_folder_is_covered() {
    let mut stand = Stand::new().declared(&["a"], &[]);
    stand.file("a", "x");
    stand.file("secret", "x");
    fs::create_dir(stand.path("hidden")).unwrap();
    fs::write(stand.path("hidden/key"), "x").unwrap();
    fs::write(stand.path("shown"), "x").unwrap();
    // The folder all this is in becomes a system folder.
    let here = stand.temp.path().canonicalize().unwrap();
    stand.spec.system.push(Bytes::from(&here));
    stand.spec.hidden.push(Bytes::from(&stand.path("hidden")));
    let ran = stand.sh(&format!(
        "cd {}; ls -A; cat shown; ls -A project scratch hidden; cat /spolia/root/a",
        here.display()
    ));
    let ran = ran.ok();
    assert_eq!(ran.stdout, "hidden\nout\nproject\nscratch\nshown\nxhidden:\n\nproject:\n\nscratch:\nx");
}

fn devices_work() {
    let ran = Stand::new().sh(
        "echo x > /dev/null; test ! -s /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
         head -c 1 /dev/random | wc -c; ! echo x > /dev/full; echo y > /dev/stdout; echo z > /dev/fd/1
         echo s > /dev/shm/x; stat -c %a /dev/shm; test ! -e /dev/tty; ls /dev/pts /dev/ptmx; cat /dev/stdin",
    );
    let ran = ran.ok();
    assert!(ran.stdout.starts_with("3\n3\n1\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("1777\n"), "{}", ran.stdout);
}

fn rights_are_given_up() {
    let ran = Stand::new().sh("cat /proc/self/status; id -u; id -g; ls /proc | grep '^[0-9]*$' | head -1; cat /proc/1/environ || true");
    let ran = ran.ok();
    let field = |name: &str| {
        let line = ran.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_string()
    };
    // chown, dac_override, fowner, fsetid, setgid, setuid, setfcap.
    let expect = if is_root() { "00000000800000db" } else { "0000000000000000" };
    assert_eq!(field("CapEff"), expect);
    assert_eq!(field("CapBnd"), expect);
    assert_eq!(field("CapAmb"), "0000000000000000");
    assert_eq!(field("NoNewPrivs"), "1");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert!(ran.stdout.contains(&format!("\n{uid}\n{gid}\n1\n")), "{}", ran.stdout);
    assert!(ran.stderr.contains("Permission denied"), "pid 1 cannot be looked into: {}", ran.stderr);
    // Only what `sh` itself needs: no signal is ignored or blocked.
    let ran = Stand::new().run(&["/bin/cat", "/proc/self/status"]).ok();
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        assert!(ran.stdout.contains(&format!("{name}:\t0000000000000000\n")), "{}", ran.stdout);
    }
}

fn root_still_owns_files() {
    if !is_root() {
        return;
    }
    let stand = Stand::new().declared(&[], &["src"]);
    let file = stand.file("src/theirs", "x");
    std::os::unix::fs::chown(&file, Some(1234), Some(1234)).unwrap();
    std::os::unix::fs::chown(stand.path("project/src"), Some(1234), Some(1234)).unwrap();
    stand
        .sh("echo y >> src/theirs; echo z > src/mine; touch a; chown 7:8 a; test $(stat -c %u:%g a) = 7:8")
        .ok();
}

fn outputs_are_written_through() {
    let stand = Stand::new();
    let ran =
        stand.sh("umask; echo built > /spolia/out/bin; mkdir /spolia/out/d; echo 1 > /spolia/out/d/e").ok();
    assert_eq!(ran.stdout, "0022\n");
    let stat = fs::metadata(stand.path("out/bin")).unwrap();
    assert_eq!(stat.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(stat.gid(), rustix::process::getegid().as_raw());
    assert_eq!(stat.mode() & 0o777, 0o644);
    assert_eq!(fs::read_to_string(stand.path("out/d/e")).unwrap(), "1\n");
}

fn toolchain_under_home() {
    let mut stand = Stand::new();
    let home = stand.path("home/someone");
    let bin = home.join("tools/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(home.join("private"), "x").unwrap();
    fs::write(bin.join("tool"), "#!/bin/sh\necho tool of $HOME\n").unwrap();
    fs::set_permissions(bin.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    stand.spec.home = Bytes::from(&home);
    stand.spec.env.push((Bytes::from("HOME"), Bytes::from(&home)));
    let tools = Bytes::from(&home.join("tools"));
    stand.spec.binds.push(Bind { host: tools.clone(), inside: tools, writable: false });
    let ran = stand.sh("ls -A $HOME; $HOME/tools/bin/tool; ! touch $HOME/tools/x; touch $HOME/y").ok();
    assert_eq!(ran.stdout, format!("tools\ntool of {}\n", home.display()));
    // What a system folder shows already needs no second mount, and a single file can be shown.
    let inside = Bytes::from("/spolia/one");
    stand.spec.binds.push(Bind { host: Bytes::from(&bin.join("tool")), inside, writable: false });
    let usr = Bytes::from("/usr/bin");
    stand.spec.binds.push(Bind { host: usr.clone(), inside: usr, writable: false });
    assert!(
        stand.sh("/spolia/one; grep -c ' /usr/bin ' /proc/mounts || true").ok().stdout.ends_with("\n0\n")
    );
}

fn environment_is_complete() {
    let mut stand = Stand::new();
    stand.spec.env = vec![(Bytes::from("A"), Bytes(b"x\xff y\n".to_vec()))];
    let ran = stand.run(&["/usr/bin/env"]).ok();
    assert_eq!(ran.stdout, String::from_utf8_lossy(b"A=x\xff y\n\n"));
    stand.spec.env.clear();
    assert_eq!(stand.run(&["env"]).ok().stdout, "", "a PATH of our own finds it");
}

fn descriptors_are_closed_but_kept_ones() {
    let mut stand = Stand::new();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&writer, b"token").unwrap();
    use std::os::fd::AsRawFd as _;
    let script = "ls /proc/self/fd | grep -v '^[012]$' | tr '\\n' ' '";
    // `ls` itself has one open.
    let count = |stand: &Stand| stand.sh(script).ok().stdout.split_whitespace().count();
    assert_eq!(count(&stand), 1);
    stand.spec.keep_fds = vec![reader.as_raw_fd()];
    assert_eq!(count(&stand), 2);
    let ran = stand.sh(&format!("head -c 5 <&{}", reader.as_raw_fd())).ok();
    assert_eq!(ran.stdout, "token");
}

// ---- beginnings and ends ----

fn missing_program() {
    let stand = Stand::new();
    let error = stand.run(&["/no/such/program"]).not_started();
    let expect =
        StartError { stage: Stage::Exec, errno: libc::ENOENT, path: Bytes::from("/no/such/program") };
    assert_eq!(error, expect);
    let error = stand.run(&["no-such-program"]).not_started();
    assert_eq!(
        (error.stage, error.errno, error.path),
        (Stage::Exec, libc::ENOENT, Bytes::from("no-such-program"))
    );
    // With a watcher in between as well.
    let error = Stand::new().observed().run(&["no-such-program"]).not_started();
    assert_eq!((error.stage, error.errno), (Stage::Exec, libc::ENOENT));
    // 127 by the command itself is something else.
    assert_eq!(stand.sh("no-such-program").report.end, End::Exited(127));
    assert_eq!(stand.run(&[]).not_started().stage, Stage::Exec);
}

fn missing_interpreter() {
    let stand = Stand::new().declared(&["run"], &[]);
    let path = stand.file("run", "#!/no/such/interpreter\n");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = stand.run(&["./run"]).not_started();
    assert_eq!(
        (error.stage, error.errno, error.path),
        (Stage::Interpreter, libc::ENOENT, Bytes::from("./run"))
    );
}

fn program_that_may_not_run() {
    let mut stand = Stand::new().declared(&["run"], &[]);
    stand.file("run", "x");
    let error = stand.run(&["./run"]).not_started();
    assert_eq!((error.stage, error.errno), (Stage::Exec, libc::EACCES));
    stand.spec.env = vec![(Bytes::from("PATH"), Bytes::from("/usr/bin:/spolia/root"))];
    let error = stand.run(&["run"]).not_started();
    assert_eq!(
        (error.stage, error.errno, error.path),
        (Stage::Exec, libc::EACCES, Bytes::from("/spolia/root/run"))
    );
}

fn missing_working_directory() {
    let mut stand = Stand::new();
    stand.spec.cwd = Bytes::from("/spolia/root/sub");
    assert_eq!(stand.sh("true").not_started().stage, Stage::Cwd);
    stand.spec.root.dirs.push(Bytes::from("sub"));
    assert_eq!(stand.sh("pwd").ok().stdout, "/spolia/root/sub\n");
}

fn missing_bind() {
    let mut stand = Stand::new();
    let bind = |host: &str, inside: &str| Bind {
        host: Bytes::from(host),
        inside: Bytes::from(inside),
        writable: false,
    };
    stand.spec.binds.push(bind("/no/such", "/x"));
    let error = stand.sh("true").not_started();
    assert_eq!((error.stage, error.errno, error.path), (Stage::Bind, libc::ENOENT, Bytes::from("/no/such")));
    stand.spec.binds[1] = bind("/usr", "/etc/no/such/place");
    let error = stand.sh("true").not_started();
    assert_eq!((error.stage, error.errno), (Stage::Bind, libc::EROFS));
}

fn missing_input() {
    for (files, dirs) in [(&["gone"][..], &[][..]), (&[][..], &["gone"][..])] {
        let error = Stand::new().declared(files, dirs).sh("true").not_started();
        assert_eq!((error.stage, error.errno, error.path), (Stage::Input, libc::ENOENT, Bytes::from("gone")));
    }
    // A folder, a fifo and a link where a file was declared.
    let stand = Stand::new().declared(&["dir"], &[]);
    fs::create_dir(stand.path("project/dir")).unwrap();
    assert_eq!(stand.sh("true").not_started().errno, libc::EINVAL);
    let stand = Stand::new().declared(&["fifo"], &[]);
    assert!(Command::new("mkfifo").arg(stand.path("project/fifo")).status().unwrap().success());
    assert_eq!(stand.sh("true").not_started().errno, libc::EINVAL);
}

fn codes_and_signals() {
    let stand = Stand::new();
    for code in [0, 1, 127, 255] {
        assert_eq!(stand.sh(&format!("exit {code}")).report.end, End::Exited(code));
    }
    for signal in [9, 15, 6, 11] {
        assert_eq!(stand.sh(&format!("kill -{signal} $$; sleep 10")).report.end, End::Signalled(signal));
    }
    let ran = stand
        .sh("head -c 60000000 /dev/zero > /dev/shm/x; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    let cost = ran.ok().report.cost;
    assert!(cost.user_us > 1000 && cost.wall_us > 1000 && cost.max_rss_bytes > 500_000, "{cost:?}");
    assert!(cost.wall_us < 60_000_000, "{cost:?}");
}

fn kill_zero_reaches_the_command_only() {
    let ran = Stand::new().sh("trap 'echo caught; exit 3' TERM; kill 0; sleep 10");
    assert_eq!((ran.report.end, ran.stdout.as_str()), (End::Exited(3), "caught\n"));
}

fn what_is_left_behind_is_killed() {
    let stand = Stand::new();
    let begun = Instant::now();
    // It holds stdout: as long as it lives our reader waits.
    let ran = stand.sh("(trap '' TERM HUP; sleep 100; echo late) & setsid sleep 100 & echo done").ok();
    assert_eq!(ran.stdout, "done\n");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

fn cost_counts_orphans() {
    let ran = Stand::new()
        .sh("(setsid sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo x > /tmp/done' &) &
         while ! [ -e /tmp/done ]; do sleep 0.01; done");
    let cost = ran.ok().report.cost;
    assert!(cost.user_us + cost.sys_us > 20_000, "{cost:?}");
}

/// Starts a sandbox whose command shows signs of life in the output folder.
fn start_living(stand: &Stand) -> Started {
    let started =
        stand.start(&["/bin/sh", "-c", "while :; do date +%s%N > /spolia/out/beat; sleep 0.01; done"]);
    wait_for(|| fs::read(stand.path("out/beat")).is_ok_and(|beat| !beat.is_empty()));
    started
}

fn wait_for(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn assert_no_beat(stand: &Stand) {
    // The kernel ends the namespace soon, not at once.
    wait_for(|| {
        let beat = fs::read(stand.path("out/beat")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        fs::read(stand.path("out/beat")).unwrap() == beat
    });
}

fn killed_launcher_takes_all_with_it() {
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        let stand = Stand::new().observed();
        let started = start_living(&stand);
        let pid = i32::try_from(started.launcher.pids()[0]).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
        wait(&started.running);
        assert_no_beat(&stand);
        let report = started.running.exchange.report();
        assert!(matches!(report, Err(ExchangeError::NoReport)), "{report:?}");
        // The next run gets a new one.
        let other = Stand::new();
        let mut spec = other.spec.clone();
        spec.argv = ["/bin/true"].iter().map(Bytes::from).collect();
        let running = started.launcher.start(&spec, std::io::stdout(), std::io::stderr()).unwrap();
        wait(&running);
        assert_eq!(running.exchange.report().unwrap().end, End::Exited(0));
    }
}

fn killed_sandbox_is_all_that_ends() {
    let (stand, other) = (Stand::new(), Stand::new());
    let started = start_living(&stand);
    let mut spec = other.spec.clone();
    spec.argv = ["/bin/sh", "-c", "while ! [ -e /spolia/out/go ]; do sleep 0.01; done; echo done"]
        .iter()
        .map(Bytes::from)
        .collect();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let running = started.launcher.start(&spec, &writer, &writer).unwrap();
    drop(writer);
    started.running.kill();
    wait(&started.running);
    assert_no_beat(&stand);
    fs::write(other.path("out/go"), "").unwrap();
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut reader, &mut printed).unwrap();
    assert_eq!(printed, "done\n");
    wait(&running);
    assert_eq!(running.exchange.report().unwrap().end, End::Exited(0));
    assert_eq!(started.launcher.pids().len(), 1);
}

/// As `__caller STAND`: starts the sandbox of the spec there from a thread that ends, and waits.
fn caller(stand: &Path) -> ExitCode {
    let spec = SandboxSpec::decode(&fs::read(stand.join("spec")).unwrap()).unwrap();
    let started = std::thread::spawn(move || start(&spec)).join().unwrap();
    wait(&started.running);
    ExitCode::SUCCESS
}

fn dead_caller_takes_all_with_it() {
    let stand = Stand::new();
    let mut spec = stand.spec.clone();
    let script = "while :; do date +%s%N > /spolia/out/beat; sleep 0.01; done";
    spec.argv = ["/bin/sh", "-c", script].iter().map(Bytes::from).collect();
    fs::write(stand.path("spec"), spec.encode().unwrap()).unwrap();
    let exe = std::env::current_exe().unwrap();
    let mut child = Command::new(exe).arg("__caller").arg(stand.path("")).spawn().unwrap();
    wait_for(|| fs::read(stand.path("out/beat")).is_ok_and(|beat| !beat.is_empty()));
    // The thread that started the launcher has ended; the process has not.
    let beat = fs::read(stand.path("out/beat")).unwrap();
    wait_for(|| fs::read(stand.path("out/beat")).is_ok_and(|now| !now.is_empty() && now != beat));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_no_beat(&stand);
}

fn a_dropped_launcher_ends_what_it_started() {
    let stand = Stand::new();
    let Started { launcher, running, .. } = start_living(&stand);
    drop(launcher);
    wait(&running);
    assert_no_beat(&stand);
}

/// Each sandbox has a network of its own, and in a kept one nothing of the last user is left.
fn networks_are_used_again_when_nothing_is_left_in_them() {
    let stand = Stand::new();
    let launcher = Launcher::default();
    let run = |script: &str| {
        sandbox::remove_scratch(&stand.path("scratch")).unwrap();
        fs::create_dir(stand.path("scratch")).unwrap();
        let mut spec = stand.spec.clone();
        spec.argv = ["/usr/bin/perl", "-e", script].iter().map(Bytes::from).collect();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let running = launcher.start(&spec, &writer, &writer).unwrap();
        drop(writer);
        let mut printed = String::new();
        std::io::Read::read_to_string(&mut reader, &mut printed).unwrap();
        wait(&running);
        assert_eq!(running.exchange.report().unwrap().end, End::Exited(0), "{printed}");
        printed
    };
    let name = "print readlink('/proc/self/ns/net');";
    let first = run(name);
    assert!(first.starts_with("net:["), "{first}");
    assert_eq!(run(name), first, "it was made again");
    // The side that closes first keeps the port for a minute.
    let busy = "use IO::Socket::INET; my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1:7007', Listen => 1) or die $!;
        my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1:7007') or die $!; my $s = $l->accept;
        close $s; my $rest = <$c>; close $c; close $l;";
    run(busy);
    let other = run(&format!("{busy} {name}"));
    assert_ne!(other, first);
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(other != host.to_str().unwrap() && first != host.to_str().unwrap());
}

/// As many sandboxes as are there at once are apart.
fn sandboxes_at_once_have_different_networks() {
    let launcher = Launcher::default();
    let stands: Vec<Stand> = (0..3).map(|_| Stand::new()).collect();
    let script =
        "readlink /proc/self/ns/net > /spolia/out/net; while ! [ -e /spolia/out/go ]; do sleep 0.01; done";
    let all: Vec<Running> = stands
        .iter()
        .map(|stand| {
            let mut spec = stand.spec.clone();
            spec.argv = ["/bin/sh", "-euc", script].iter().map(Bytes::from).collect();
            launcher.start(&spec, std::io::stdout(), std::io::stderr()).unwrap()
        })
        .collect();
    let net = |stand: &Stand| fs::read_to_string(stand.path("out/net")).unwrap_or_default();
    wait_for(|| stands.iter().all(|stand| net(stand).ends_with('\n')));
    let names: std::collections::HashSet<String> = stands.iter().map(net).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for (stand, running) in stands.iter().zip(&all) {
        fs::write(stand.path("out/go"), "").unwrap();
        wait(running);
        assert_eq!(running.exchange.report().unwrap().end, End::Exited(0));
    }
}

/// A root in the launcher's frame and one all of its own look the same.
fn the_frame_is_like_a_root_of_its_own() {
    let script = "cut -d' ' -f5,6 /proc/self/mountinfo | sort; cd /; ls -A; ls -A /dev /run /spolia /spolia/step
        stat -c '%n %a %U %F' / /tmp /run /dev /dev/* /spolia /spolia/* /proc
        for place in / /dev /spolia /spolia/step /spolia/step/need /usr /etc; do ! touch $place/x 2> /dev/null; done";
    let run = |elsewhere: bool| {
        let mut stand = Stand::new().declared(&[], &["src"]);
        stand.file("src/a", "a");
        fs::create_dir_all(stand.path("need")).unwrap();
        let mut bind = |name: &str, inside: &str| {
            stand.spec.binds.push(Bind {
                host: Bytes::from(&stand.temp.path().join(name)),
                inside: Bytes::from(inside),
                writable: false,
            });
        };
        bind("need", "/spolia/step/need");
        if elsewhere {
            bind("need", "/elsewhere");
        }
        let printed = stand.sh(script).ok().stdout;
        printed.lines().filter(|line| !line.contains("elsewhere")).map(String::from).collect::<Vec<_>>()
    };
    let (framed, own) = (run(false), run(true));
    // The room is a place of its own in the frame.
    let room: Vec<_> = framed.iter().filter(|line| !own.contains(line)).collect();
    assert_eq!(room, ["/spolia/step ro,nosuid,nodev,relatime"], "{own:#?}");
    let missing: Vec<_> = own.iter().filter(|line| !framed.contains(line)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// What is shown to one is not there for another of the same launcher.
fn sandboxes_of_one_launcher_do_not_see_each_other() {
    let launcher = Launcher::default();
    let stands = [Stand::new(), Stand::new()];
    let script = "echo x > /tmp/x; echo x > /spolia/home/x; echo x > /dev/shm/x; echo x > /spolia/root/x
        ls -A /spolia/step /tmp /spolia/home /dev/shm /dev/pts /spolia/root > /spolia/out/seen
        while ! [ -e /spolia/out/go ]; do sleep 0.01; done";
    let start = |stand: &Stand, need: &str| {
        fs::create_dir(stand.path(need)).unwrap();
        let mut spec = stand.spec.clone();
        spec.argv = ["/bin/sh", "-euc", script].iter().map(Bytes::from).collect();
        spec.binds.push(Bind {
            host: Bytes::from(&stand.path(need)),
            inside: Bytes::from(&format!("/spolia/step/{need}")),
            writable: false,
        });
        let running = launcher.start(&spec, std::io::stdout(), std::io::stderr()).unwrap();
        wait_for(|| fs::read(stand.path("out/seen")).is_ok_and(|seen| seen.ends_with(b"/tmp:\nx\n")));
        running
    };
    let running = [start(&stands[0], "one"), start(&stands[1], "two")];
    for (number, stand) in stands.iter().enumerate() {
        let seen = fs::read_to_string(stand.path("out/seen")).unwrap();
        let need = ["one", "two"][number];
        let expect = format!(
            "/dev/pts:\nptmx\n\n/dev/shm:\nx\n\n/spolia/home:\nx\n\n/spolia/root:\nx\n\n/spolia/step:\n{need}\n\n/tmp:\nx\n"
        );
        assert_eq!(seen, expect);
        fs::write(stand.path("out/go"), "").unwrap();
        wait(&running[number]);
        assert_eq!(running[number].exchange.report().unwrap().end, End::Exited(0));
    }
}

/// What cannot be understood is refused, by the launcher too.
fn bad_requests_have_no_report() {
    for content in [&b""[..], b"spolsbx\x01", b"spolsbx\x03", b"spolsbx\x02\xff\xff\xff"] {
        assert!(SandboxSpec::decode(content).is_err(), "{content:?}");
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new(exe).args(["__sandbox", "-"]).stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(sandbox::launch::EXIT_BAD_REQUEST));
}

fn missing_scratch() {
    let mut stand = Stand::new();
    stand.spec.scratch = Bytes::from("/no/such/scratch");
    let error = stand.sh("true").not_started();
    let expect =
        StartError { stage: Stage::Scratch, errno: libc::ENOENT, path: Bytes::from("/no/such/scratch") };
    assert_eq!(error, expect);
    // Not empty: someone else's, perhaps.
    let stand = Stand::new();
    fs::create_dir(stand.path("scratch/tmp")).unwrap();
    let End::NotStarted(error) = stand.start(&["/bin/true"]).report().unwrap().end else { panic!() };
    assert_eq!((error.stage, error.errno), (Stage::Scratch, libc::EEXIST));
    // Where it would be in itself.
    let stand = Stand::new().declared(&[], &["src"]);
    let mut spec = stand.spec.clone();
    spec.scratch = Bytes::from(&stand.path("project/src/scratch"));
    fs::create_dir_all(spec.scratch.as_path()).unwrap();
    let End::NotStarted(error) = start(&spec).report().unwrap().end else { panic!() };
    assert_eq!((error.stage, error.errno), (Stage::Scratch, libc::EINVAL));
    sandbox::remove_scratch(spec.scratch.as_path()).unwrap();
}

/// Enough single files to be staged in memory: some large, a link, an odd name, in folders.
fn many_files_are_staged() {
    let mut stand = Stand::new().declared(&["link", "large", "deep/large"], &["whole"]);
    for number in 0..100 {
        let name = format!("d{}/f{number}", number % 7);
        stand.file(&name, &format!("{number}\n"));
        stand.spec.root.files.push(Bytes::from(&name));
    }
    stand.file("large", &"l".repeat(300_000));
    stand.file("deep/large", &"m".repeat(400_000));
    stand.file("whole/w", "w");
    symlink("d1/f1", stand.path("project/link")).unwrap();
    let before = snapshot(&stand.path("project"));
    let ran = stand.sh(
        "find . -type f | wc -l; cat link d2/f2 whole/w; wc -c < large; wc -c < deep/large
         cat d*/f* | md5sum; stat -c %a d1/f1
         echo new > d1/f1; rm d2/f2; echo x > d2/made; echo x >> large; mv d3 e3; rm -r d4; mkdir d4; echo x > deep/x
         ls d2 d4 e3 deep; cat link; head -c 30000000 /dev/zero > big; rm big",
    );
    let ran = ran.ok();
    assert!(ran.stdout.starts_with("103\n1\n2\nw300000\n400000\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nd4:\n\ndeep:\nlarge\nx\n\ne3:\nf10\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\nnew\n"), "{}", ran.stdout);
    assert_eq!(snapshot(&stand.path("project")), before);
    // What was written is on disk, not in memory.
    assert_eq!(fs::read(stand.path("scratch/tree/d2/made")).unwrap(), b"x\n");
    // Missing inputs and links out of the tree are as with few files.
    let error = stand.declared(&["d1/gone"], &[]).sh("true").not_started();
    assert_eq!((error.stage, error.errno, error.path), (Stage::Input, libc::ENOENT, Bytes::from("d1/gone")));
}

fn scratch_with_odd_modes_is_removed() {
    let stand = Stand::new().declared(&[], &["src"]);
    stand.file("src/sub/a", "x");
    let ran = stand.sh(
        "mkdir -p /tmp/a/b/c; touch /tmp/a/b/f; chmod 000 /tmp/a/b/c; chmod 555 /tmp/a/b; chmod 000 /tmp/a
         ln -s /usr /tmp/usr; ln -s /nowhere /tmp/dangling; chmod 000 src/sub; mkfifo /tmp/fifo
         cd /tmp; i=0; while [ $i -lt 1500 ]; do mkdir deep-folder-name; cd -P deep-folder-name; i=$((i+1)); done
         touch leaf",
    );
    ran.ok();
    let scratch = stand.path("scratch");
    assert!(scratch.join("tmp/deep-folder-name").is_dir());
    sandbox::remove_scratch(&scratch).unwrap();
    assert!(!scratch.exists());
    assert!(Path::new("/usr/bin").exists());
    sandbox::remove_scratch(&scratch).unwrap();
}

fn a_scratch_folder_is_used_again_only_as_it_was_made() {
    let stand = Stand::new();
    let scratch = stand.path("scratch");
    let inodes = || ["tmp", "home", "tree"].map(|name| fs::metadata(scratch.join(name)).unwrap().ino());
    let run = |script: &str, used: bool| {
        let mut spec = stand.spec.clone();
        spec.scratch_used = used;
        spec.argv = ["/bin/sh", "-euc", script].iter().map(Bytes::from).collect();
        let (report, _, stderr) = start(&spec).output();
        assert_eq!(report.unwrap().end, End::Exited(0), "{stderr}");
        sandbox::reset_scratch(&scratch).unwrap();
    };
    run("true", false);
    let first = inodes();
    run("touch /tmp/a made; rm /tmp/a made", true);
    assert_eq!(inodes(), first, "they were made again");
    for dirt in
        ["touch /tmp/a", "mkdir -p made/below; chmod 0 made", "chmod 700 /tmp", "chmod 000 /spolia/root"]
    {
        run(dirt, true);
        let left = names_in(&scratch).into_iter().all(|name| names_in(&scratch.join(name)).is_empty());
        assert!(left, "after `{dirt}`");
        run(
            "test -z \"$(ls -A /tmp /spolia/root | grep -v :)\"; touch made /tmp/made; rm made /tmp/made
             test \"$(stat -c %a /tmp) $(stat -c %a /spolia/root)\" = '1777 755'",
            true,
        );
    }
    // An attribute would be seen by the next run, and an access list would apply to its files.
    let tmp = scratch.join("tmp");
    let name = c"user.spolia";
    if rustix::fs::setxattr(&tmp, name, b"x", rustix::fs::XattrFlags::empty()).is_ok() {
        sandbox::reset_scratch(&scratch).unwrap();
        assert!(!tmp.exists());
    }
    // Nor is a link followed.
    sandbox::remove_scratch(&scratch).unwrap();
    fs::create_dir(&scratch).unwrap();
    symlink("/", scratch.join("tmp")).unwrap();
    sandbox::reset_scratch(&scratch).unwrap();
    assert!(names_in(&scratch).is_empty() && Path::new("/usr/bin").exists());
}

// ---- observe ----

/// A stand where this binary is shown as `/spolia/look`, to make system calls by name.
fn with_look() -> Stand {
    let mut stand = Stand::new();
    let host = Bytes::from(&std::env::current_exe().unwrap());
    stand.spec.binds.push(Bind { host, inside: Bytes::from("/spolia/look"), writable: false });
    stand
}

/// As `__look WHAT…`: what a command in a sandbox may do.
fn look(args: &[std::ffi::OsString]) -> ExitCode {
    use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
    use std::net::{TcpListener, TcpStream};
    let text: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let at = AtFlags::empty();
    match text[..] {
        ["tcp"] => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            print!("reached");
        }
        ["port", port] => match TcpStream::connect(("127.0.0.1", port.parse().unwrap())) {
            Ok(_) => print!("reached"),
            Err(error) => print!("{error}"),
        },
        ["host"] => print!("{}", rustix::system::uname().nodename().to_str().unwrap()),
        // Each kind of call with a name of its own.
        ["calls"] => {
            let open = |name: &str, flags| rustix::fs::openat(CWD, name, flags, Mode::from_raw_mode(0o644));
            assert!(open("m-openat", OFlags::RDONLY).is_err());
            assert!(open("made-by-open", OFlags::CREATE | OFlags::WRONLY).is_ok());
            assert!(open("no-dir/made-by-open", OFlags::CREATE | OFlags::WRONLY).is_err());
            assert!(open("made-by-open", OFlags::RDONLY).is_ok());
            let resolve = ResolveFlags::empty();
            assert!(rustix::fs::openat2(CWD, "m-openat2", OFlags::RDONLY, Mode::empty(), resolve).is_err());
            let flags = OFlags::CREATE | OFlags::WRONLY;
            assert!(
                rustix::fs::openat2(CWD, "made-by-openat2", flags, Mode::from_raw_mode(0o644), resolve)
                    .is_ok()
            );
            assert!(rustix::fs::statx(CWD, "m-statx", at, StatxFlags::ALL).is_err());
            assert!(rustix::fs::statat(CWD, "m-fstatat", at).is_err());
            assert!(rustix::fs::access("m-access", Access::EXISTS).is_err());
            assert!(rustix::fs::accessat(CWD, "m-faccessat", Access::READ_OK, at).is_err());
            assert!(rustix::fs::accessat(CWD, "m-faccessat2", Access::READ_OK, AtFlags::EACCESS).is_err());
            assert!(rustix::fs::readlink("not-watched", Vec::new()).is_err());
            assert!(rustix::fs::mkdir("dir", Mode::from_raw_mode(0o755)).is_ok());
            assert!(Command::new("./m-execve").spawn().is_err());
            let dir = open("dir", OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
            assert!(rustix::fs::openat(&dir, "m-dirfd", OFlags::RDONLY, Mode::empty()).is_err());
            assert!(rustix::fs::openat(&dir, "../m-dirfd-up", OFlags::RDONLY, Mode::empty()).is_err());
            assert!(fs::metadata("/spolia/root/m-absolute").is_err());
            assert!(fs::metadata("/spolia//root/./dir/../m-absolute-odd").is_err());
            std::env::set_current_dir("/usr").unwrap();
            assert!(fs::metadata("not-in-root").is_err());
            assert!(fs::metadata("../spolia/root/m-climbed").is_err());
            std::env::set_current_dir("/spolia/root/dir").unwrap();
            assert!(fs::metadata("m-chdir").is_err());
        }
        ["many", prefix, count] => {
            for number in 0..count.parse().unwrap() {
                assert!(fs::metadata(format!("{prefix}{number}")).is_err());
            }
        }
        ["threads"] => {
            let each = |thread: u32| {
                move || {
                    for number in 0..100 {
                        assert!(fs::metadata(format!("t{thread}-{number}")).is_err());
                    }
                }
            };
            let threads: Vec<_> = (0..16).map(|thread| std::thread::spawn(each(thread))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        _ => panic!("{args:?}"),
    }
    ExitCode::SUCCESS
}

fn observe_finds_missing_files() {
    let stand = with_look().observed();
    let ran = stand.run(&["/spolia/look", "__look", "calls"]).ok();
    assert_eq!(ran.report.observe, Observe::Watched);
    assert_eq!(
        ran.missing(),
        [
            "dir/m-chdir",
            "dir/m-dirfd",
            "m-absolute",
            "m-absolute-odd",
            "m-access",
            "m-climbed",
            "m-dirfd-up",
            "m-execve",
            "m-faccessat",
            "m-faccessat2",
            "m-fstatat",
            "m-openat",
            "m-openat2",
            "m-statx",
        ]
    );
    assert!(ran.report.lookups.made.is_empty(), "{:?}", ran.report.lookups.made);
    assert!(!ran.report.lookups.truncated);
    // By way of programs that others wrote.
    let stand = Stand::new().observed().declared(&["there"], &[]);
    stand.file("there", "x");
    let ran = stand.sh("test -e a; :; cat b c/d || true; test -f there; ls e || true; . ./there.d/f || true
         cd /tmp; test -e /spolia/root/g || ./h || true; test -e g2 || true");
    assert_eq!(ran.missing(), ["a"], "sh ends at the first failure");
    let ran = stand.sh("cat b c/d || cat there; ls e || [ -e f ] || cd /tmp; [ -e /spolia/root/g ] || [ -e nothing ] || echo").ok();
    assert_eq!(ran.missing(), ["b", "c/d", "e", "f", "g"]);
    // Unwatched: nothing is noted.
    let mut stand = stand;
    stand.spec.observe = false;
    let ran = stand.sh("cat b || true").ok();
    assert_eq!((ran.report.observe, ran.missing().len()), (Observe::Off, 0));
}

fn observe_follows_links_and_folders() {
    let stand = Stand::new().observed().declared(&["to-gone", "to-sub", "f", "away"], &["sub"]);
    stand.file("sub/x", "x");
    stand.file("f", "x");
    symlink("gone", stand.path("project/to-gone")).unwrap();
    symlink("sub", stand.path("project/to-sub")).unwrap();
    symlink("/elsewhere", stand.path("project/away")).unwrap();
    let ran = stand
        .sh("cat to-gone || cat to-sub/y || cat f/under || cat away || cat away/z || cat to-sub/../up || :
         [ -h to-gone ]; ls -d to-gone > /tmp/list; cat to-sub/x sub/x");
    let ran = ran.ok();
    assert_eq!(ran.missing(), ["f/under", "gone", "sub/y", "up"]);
}

fn observe_tells_made_files() {
    let stand = Stand::new().observed();
    let ran = stand.sh("[ -e obj.o ] || echo x > obj.o; cat obj.o; mkdir d; echo y > d/f; cat d/f; [ -e t ] || echo > t; rm t");
    let ran = ran.ok();
    assert_eq!(ran.report.lookups.made, [Bytes::from("obj.o")]);
    assert_eq!(ran.missing(), ["t"]);
}

fn observe_odd_names() {
    let mut stand = Stand::new().observed();
    let long = vec![b'l'; 255];
    let deep = [&long[..]; 10].join(&b'/');
    let mut names: Vec<Vec<u8>> = odd_names();
    names.push(long);
    names.push(deep);
    for name in &names {
        let argv = [b"/usr/bin/test".to_vec(), b"-e".to_vec(), [b"./", &name[..]].concat()];
        stand.spec.argv = argv.into_iter().map(Bytes).collect();
        let scratch = stand.path("scratch");
        sandbox::remove_scratch(&scratch).unwrap();
        fs::create_dir(&scratch).unwrap();
        let report = start(&stand.spec).report().unwrap();
        assert_eq!(report.lookups.missing, [Bytes(name.clone())]);
    }
}

fn observe_many_processes() {
    let stand = with_look().observed();
    let ran = stand.sh("for p in a b c d e f g h; do /spolia/look __look many $p 2000 & done; wait").ok();
    assert_eq!(ran.missing().len(), 16_000);
    assert_eq!(ran.report.lookups.unreadable, 0);
    assert!(!ran.report.lookups.truncated);
}

fn observe_many_threads_and_kills() {
    let stand = with_look().observed();
    let ran = stand.run(&["/spolia/look", "__look", "threads"]).ok();
    assert_eq!(ran.missing().len(), 1600);
    // Callers that die in the middle of a call, and ones that outlive the command.
    let ran = stand.sh("i=0; while [ $i -lt 20 ]; do
             /spolia/look __look many k$i- 100000 & p=$!
             /spolia/look __look many b$i- 100000 &
             kill -9 $p; i=$((i+1))
         done; exit 7");
    assert_eq!(ran.report.end, End::Exited(7));
}

fn observe_has_a_limit() {
    let stand = with_look().observed();
    let count = (sandbox::LOOKUPS_MAX + 1).to_string();
    let ran = stand.run(&["/spolia/look", "__look", "many", "m", &count]).ok();
    assert_eq!(ran.missing().len(), sandbox::LOOKUPS_MAX);
    assert!(ran.report.lookups.truncated);
}

fn observe_nested_is_refused_but_runs() {
    let stand = with_look().observed();
    let inner = Stand::new();
    let mut spec = inner.spec.clone();
    spec.argv = ["/bin/sh", "-c", "echo inner; cat /spolia/root/gone"].iter().map(Bytes::from).collect();
    spec.observe = true;
    spec.scratch = Bytes::from("/spolia/out/scratch");
    spec.root.host = Bytes::from("/spolia/out/project");
    spec.binds.clear();
    for name in ["scratch", "project"] {
        fs::create_dir(stand.path("out").join(name)).unwrap();
    }
    fs::write(stand.path("out/spec"), spec.encode().unwrap()).unwrap();
    let ran = stand.sh("/spolia/look __run /spolia/out/spec").ok();
    assert_eq!(ran.stdout, "inner\n", "{}", ran.stderr);
    let report = Report::decode(&fs::read(stand.path("out/spec")).unwrap()).unwrap();
    assert_eq!(report.end, End::Exited(1), "{report:?}");
    assert!(matches!(report.observe, Observe::Refused(libc::EBUSY) | Observe::NoProc), "{report:?}");
    sandbox::remove_scratch(&stand.path("out/scratch")).unwrap();
}

fn probe_says_what_works() {
    let stand = Stand::new();
    let support = sandbox::probe(&stand.path("out")).unwrap();
    assert_eq!(support.user_namespace, !is_root());
    assert_eq!((support.overlay, support.observe, support.own_proc), (Ok(()), Ok(()), true));
    assert_eq!(names_in(&stand.path("out")), Vec::<String>::new());
    let refusal = sandbox::probe(Path::new("/no/such/folder")).unwrap_err();
    assert_eq!((refusal.error.stage, refusal.hint), (Stage::Scratch, sandbox::Hint::Scratch));
}
