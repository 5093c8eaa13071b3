//! `cargo xtask test`: what CI runs, in the order in which it fails fastest. Nothing is skipped silently.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{self, Done};
use crate::{build, conformance, dist, docs, packages, perf, report, sweep, tidy};

/// The user that tests run as a second time: `nobody` on every Linux.
const ORDINARY_USER: &str = "65534";
/// Crates whose tests are run a second time as an ordinary user: what they do depends on rights.
const RIGHTS_MATTER: &[&str] = &["spolia-store", "spolia-engine", "spolia-build", "spolia"];
/// Test programs of theirs that are not: they start the toolchain, which may lie in root's home.
const NEED_TOOLCHAIN: &[&str] = &["cargo"];

/// Everything, or one part of it: `lint`, `tests`, `report`, `dist`, `ordinary` or `static`.
pub(crate) fn run(args: &[String]) -> Done {
    install()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            lint()?;
            tests()?;
            report()?;
            dist::proofs()?;
            ordinary()?;
            build::check()
        }
        ["lint"] => lint(),
        ["tests"] => tests(),
        ["report"] => report(),
        ["dist"] => dist::proofs(),
        ["ordinary"] => ordinary(),
        ["static"] => build::check(),
        other => Err(format!(
            "`test` takes `lint`, `tests`, `report`, `dist`, `ordinary`, `static` or nothing, not `{}`",
            other.join(" ")
        )),
    }
}

fn lint() -> Done {
    run::cargo(&["fmt", "--all", "--check"])?;
    tidy::check()?;
    run::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    documents()?;
    docs::run(&["--check".to_owned()])
}

fn tests() -> Done {
    run::cargo(&["test", "--workspace", "--no-fail-fast"])?;
    // The rows of one compiler: `cargo xtask conformance` has all of them, beside the peers.
    conformance::run(&["--tool", "spolia", "--compiler", "gcc"].map(str::to_owned))?;
    conformance::rust::run(&["--tool", "spolia", "--sample"].map(str::to_owned))?;
    sweep::proof(&["--small".to_owned(), "--sample".to_owned()])?;
    perf::reference()
}

/// The page in a browser, and a few live comparisons: that they are made and judged, not how fast.
fn report() -> Done {
    report::proofs(false)?;
    perf::aa::run(&["--sample".to_owned()])
}

fn ordinary() -> Done {
    if run::is_root() {
        return as_ordinary_user();
    }
    println!("not root: the tests ran as an ordinary user; root's half was not run");
    Ok(())
}

/// What the tests need that a fresh machine may lack.
fn install() -> Done {
    let needed: &[(&[&str], &[&str])] = &[
        (&["cc", "make"], &["gcc", "libc6-dev", "make"]),
        (&["c++"], &["g++"]),
        (&["git"], &["git"]),
        (&["setpriv", "unshare"], &["util-linux"]),
        (&["script"], &["bsdutils"]),
        (&["strace"], &["strace"]),
        (&["python3"], &["python3"]),
        (&["bsdtar"], &["libarchive-tools"]),
        (&["unzip"], &["unzip"]),
        (&["xz", "zstd"], &["xz-utils", "zstd"]),
    ];
    for (programs, packages) in needed {
        if !packages::ensure(programs, packages)? {
            return Err(format!("{} must be installed for the tests", packages.join(" ")));
        }
    }
    Ok(())
}

fn documents() -> Done {
    let mut cargo = Command::new(run::cargo_path());
    cargo.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    cargo.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links").current_dir(run::root()?);
    run::checked(&mut cargo)
}

/// The built test binaries again, copied to a folder that everyone can read, as a user without rights.
fn as_ordinary_user() -> Done {
    let folder = std::env::temp_dir().join(format!("spolia-tests-{}", std::process::id()));
    let made = run_copies(&folder);
    let removed = std::fs::remove_dir_all(&folder);
    made?;
    removed.map_err(|error| format!("cannot remove `{}`: {error}", folder.display()))
}

fn run_copies(folder: &Path) -> Done {
    let io = |error: std::io::Error| format!("cannot copy the tests to `{}`: {error}", folder.display());
    let home = folder.join("home");
    std::fs::create_dir_all(&home).map_err(io)?;
    run::checked(Command::new("chmod").arg("755").arg(folder))?;
    run::checked(Command::new("chown").arg(format!("{ORDINARY_USER}:{ORDINARY_USER}")).arg(&home))?;
    let binaries = test_binaries()?;
    let spolia = folder.join("spolia");
    let built = binaries.iter().find(|binary| binary.kind == "bin").ok_or("no `spolia` was built")?;
    std::fs::copy(&built.path, &spolia).map_err(io)?;
    let mut count = 0;
    for binary in binaries.iter().filter(|binary| binary.kind != "bin") {
        let copy = folder.join(binary.path.file_name().ok_or("a test without a name")?);
        std::fs::copy(&binary.path, &copy).map_err(io)?;
        let mut command = Command::new("setpriv");
        let user = format!("--reuid={ORDINARY_USER}");
        let group = format!("--regid={ORDINARY_USER}");
        command.args([user.as_str(), group.as_str(), "--clear-groups"]).arg(&copy);
        command.env("HOME", &home).env("TMPDIR", &home).env("SPOLIA_TEST_BIN", &spolia);
        command.env("CARGO_MANIFEST_DIR", &home).current_dir(&home);
        run::checked(&mut command)?;
        std::fs::remove_file(&copy).map_err(io)?;
        count += 1;
    }
    println!("{count} test programs passed as an ordinary user as well");
    Ok(())
}

struct Built {
    path: PathBuf,
    kind: String,
}

/// The test programs of the crates where rights matter, and the `spolia` binary.
fn test_binaries() -> Done<Vec<Built>> {
    let mut cargo = Command::new(run::cargo_path());
    cargo.args(["test", "--workspace", "--no-run", "--message-format=json", "--quiet"]);
    let messages = run::output(cargo.current_dir(run::root()?))?;
    let mut binaries = Vec::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(path) = message["executable"].as_str() else { continue };
        let package = message["package_id"].as_str().unwrap_or_default();
        let ours = RIGHTS_MATTER
            .iter()
            .any(|name| package.contains(&format!("/{name}#")) || package.contains(&format!("#{name}@")));
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let kind = match (is_test, name) {
            (true, name) if NEED_TOOLCHAIN.contains(&name) => continue,
            (true, _) => "test",
            (false, "spolia") => "bin",
            (false, _) => continue,
        };
        if ours {
            binaries.push(Built { path: PathBuf::from(path), kind: kind.to_owned() });
        }
    }
    Ok(binaries)
}
