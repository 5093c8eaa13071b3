//! Measures what one sandbox costs beyond its command: `cargo run --release --example sandbox_cost [RUNS]`.
//!
//! Prints one row a case: CPU milliseconds of launcher, pid 1 and emptying of the scratch folder, the command's own cost
//! excluded, mean over the runs; and the wall time from start to empty scratch folder, which as in a build serves all
//! runs. A small file has 4000 bytes.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use spolia_engine::sandbox::{self, Bind, Bytes, End, Launcher, Observe, Overlay, ProjectRoot, SandboxSpec};

struct Case {
    name: &'static str,
    files: usize,
    whole_dirs: usize,
    observe: bool,
    network: bool,
    argv: &'static [&'static str],
}

const TRUE: &[&str] = &["/bin/true"];
const PLAIN: Case =
    Case { name: "nothing", files: 0, whole_dirs: 0, observe: false, network: false, argv: TRUE };

const CASES: &[Case] = &[
    PLAIN,
    Case { name: "nothing, network", network: true, ..PLAIN },
    Case { name: "nothing, observed", observe: true, ..PLAIN },
    Case { name: "10 files", files: 10, ..PLAIN },
    Case { name: "10 files, observed", files: 10, observe: true, ..PLAIN },
    Case { name: "1000 files", files: 1000, ..PLAIN },
    Case { name: "1 whole folder", whole_dirs: 1, ..PLAIN },
    Case { name: "10 whole folders", whole_dirs: 10, ..PLAIN },
    Case { name: "10000 stats", argv: STATS, ..PLAIN },
    Case { name: "10000 stats, observed", observe: true, argv: STATS, ..PLAIN },
];

/// As many look-ups of a system file as a small compilation makes.
const STATS: &[&str] =
    &["/bin/sh", "-c", "i=0; while [ $i -lt 10000 ]; do [ -e /usr/include/x.h ]; i=$((i+1)); done"];

fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|arg| arg == sandbox::SUBCOMMAND) {
        return std::process::ExitCode::from(sandbox::launch::main(&args[1]) as u8);
    }
    let runs = args.first().and_then(|arg| arg.to_str()?.parse().ok()).unwrap_or(100);
    let temp = tempfile::tempdir().expect("a folder for the project");
    let project = temp.path().join("project");
    for folder in 0..10 {
        fs::create_dir_all(project.join(format!("d{folder}"))).expect("the project is writable");
        for file in 0..100 {
            fs::write(project.join(format!("d{folder}/f{file}")), [b'x'; 4000])
                .expect("the project is writable");
        }
    }
    println!("{:24} {:>9} {:>9} {:>9} {:>9}", "case", "setup ms", "empty ms", "own ms", "wall ms");
    let only = std::env::args().nth(2);
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|only| case.name == only)) {
        measure(case, runs, temp.path());
    }
    std::process::ExitCode::SUCCESS
}

fn measure(case: &Case, runs: u32, folder: &Path) {
    let mut spec = spec_of(case, folder);
    let parent = folder.join("parent");
    sandbox::prepare_scratch_parent(&parent).expect("the folder is writable");
    let scratch = parent.join(case.name);
    fs::create_dir(&scratch).expect("the folder is writable");
    spec.scratch = Bytes::from(&scratch);
    fs::create_dir(folder.join("out")).or_else(allow_there).expect("the folder is writable");
    let (mut commands, mut removal, begun) = (0, 0, Instant::now());
    let (launcher, children) = (Launcher::default(), children_cpu_us());
    for run in 0..runs {
        spec.scratch_used = run > 0;
        let running = launcher.start(&spec, std::io::stdout(), std::io::stderr()).expect("we run ourselves");
        let mut end = [PollFd::new(&running.descriptor, PollFlags::IN)];
        rustix::event::poll(&mut end, None).expect("it ends");
        let report = running.exchange.report().expect("it reports");
        assert_eq!(report.end, End::Exited(0));
        assert_eq!(report.observe == Observe::Watched, case.observe);
        assert!(!matches!(report.overlay, Overlay::Refused(_)), "{report:?}");
        commands += report.cost.user_us + report.cost.sys_us;
        let before = own_cpu_us();
        sandbox::reset_scratch(&scratch).expect("it can be emptied");
        removal += own_cpu_us() - before;
    }
    // All that was waited for by the launcher counts once that has ended.
    drop(launcher);
    let setup = (children_cpu_us() - children).saturating_sub(commands);
    let mean = |total_us: u64| total_us as f64 / f64::from(runs) / 1000.0;
    let wall = begun.elapsed().as_micros() as u64;
    println!(
        "{:24} {:9.3} {:9.3} {:9.3} {:9.3}",
        case.name,
        mean(setup),
        mean(removal),
        mean(setup + removal),
        mean(wall)
    );
}

fn allow_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

/// In steps of the kernel's clock tick, 10 ms mostly: of use over many runs.
fn children_cpu_us() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("there is a `/proc`");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[13..15].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    ticks * 1_000_000 / rustix::param::clock_ticks_per_second()
}

fn own_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

fn spec_of(case: &Case, folder: &Path) -> SandboxSpec {
    let file = |number: usize| Bytes::from(&format!("d{}/f{}", number % 10, number / 10));
    SandboxSpec {
        scratch: Bytes::default(),
        scratch_used: false,
        argv: case.argv.iter().map(Bytes::from).collect(),
        env: Vec::new(),
        cwd: Bytes::from("/spolia/root"),
        home: Bytes::from("/spolia/home"),
        root: ProjectRoot {
            inside: Bytes::from("/spolia/root"),
            host: Bytes::from(&folder.join("project")),
            files: (0..case.files).map(file).collect(),
            dirs: Vec::new(),
            whole_dirs: (0..case.whole_dirs).map(|number| Bytes::from(&format!("d{number}"))).collect(),
        },
        binds: vec![Bind {
            host: Bytes::from(&folder.join("out")),
            inside: Bytes::from("/spolia/out"),
            writable: true,
        }],
        system: sandbox::default_system(),
        folders: ["/spolia/root", "/spolia/out", "/spolia/home"].iter().map(Bytes::from).collect(),
        rooms: Vec::new(),
        hidden: Vec::new(),
        network: case.network,
        observe: case.observe,
        hostname: Bytes::from("spolia"),
        keep_fds: Vec::new(),
    }
}
