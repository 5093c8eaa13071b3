//! `cargo xtask dist-large`: releases that are too large for every run: files beyond the 4 GiB of a zip's and the 8 GiB of a
//! tar's old fields, and 100,000 members; read back by programs that others wrote, with what packing took.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::packages;
use crate::run::{self, Done};

/// Beyond what eleven octal digits hold.
const TAR_BYTES: u64 = (8 << 30) + (5 << 20) + 1;
/// Beyond what 32 bits hold.
const ZIP_BYTES: u64 = (4 << 30) + (3 << 20) + 1;
const MEMBERS: usize = 100_000;

const MANIFEST: &str = r#"
[project]
name = "large"
platforms = ["linux/amd64"]
[dist.gz]
archive = "large.tgz"
to = "gz"
files = { "d/" = "data/tar", "d/small" = "data/small" }
[dist.zst]
archive = "large.tar.zst"
to = "zst"
files = { "d/" = "data/tar", "d/small" = "data/small" }
[dist.zip]
archive = "large.zip"
to = "zip"
files = { "d/" = "data/zip", "d/small" = "data/small" }
[dist.flat]
archive = "flat.zip"
to = "flat"
level = 0
files = { "d/" = "data/zip", "d/zz" = "data/small" }
[dist.many]
archive = "many.tgz"
to = "many"
files = { "m/" = "crowd/**" }
[dist.manyzip]
archive = "many.zip"
to = "manyzip"
files = { "m/" = "crowd/**" }
"#;

/// A file of an archive through one reader, compared with the file it was made from.
const READERS: &[(&str, &str)] = &[
    (
        "gz",
        "tar xzOf gz/large.tgz d/tar | cmp - data/tar && tar xzOf gz/large.tgz d/small | cmp - data/small",
    ),
    ("gz", "bsdtar -xOf gz/large.tgz d/tar | cmp - data/tar"),
    (
        "gz",
        "python3 -c 'import shutil, sys, tarfile; shutil.copyfileobj(tarfile.open(sys.argv[1]).extractfile(sys.argv[2]), \
         sys.stdout.buffer, 1 << 20)' gz/large.tgz d/tar | cmp - data/tar",
    ),
    ("zst", "tar --zstd -xOf zst/large.tar.zst d/tar | cmp - data/tar"),
    (
        "zip",
        "unzip -p zip/large.zip d/zip | cmp - data/zip && unzip -p zip/large.zip d/small | cmp - data/small",
    ),
    ("zip", "bsdtar -xOf zip/large.zip d/zip | cmp - data/zip"),
    (
        "zip",
        "python3 -c 'import shutil, sys, zipfile; shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]), \
         sys.stdout.buffer, 1 << 20)' zip/large.zip d/zip | cmp - data/zip",
    ),
    ("flat", "unzip -p flat/flat.zip d/zz | cmp - data/small && unzip -tq flat/flat.zip"),
    ("flat", "python3 -c 'import zipfile; print(zipfile.ZipFile(\"flat/flat.zip\").read(\"d/zz\"))'"),
    (
        "many",
        "test $(tar tzf many/many.tgz | grep -vc /$) = 100000 && test $(bsdtar -tf many/many.tgz | grep -vc /$) = 100000",
    ),
    ("manyzip", "unzip -tq manyzip/many.zip && test $(bsdtar -tf manyzip/many.zip | grep -vc /$) = 100000"),
    (
        "manyzip",
        "python3 -c 'import zipfile; assert zipfile.ZipFile(\"manyzip/many.zip\").testzip() is None'",
    ),
];

/// Runs it. `--keep` leaves the folder; `--spolia FILE` is used instead of a release build.
pub(crate) fn run(args: &[String]) -> Done {
    let mut keep = false;
    let mut own: Option<PathBuf> = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.as_slice().first()) {
            ("--keep", _) => keep = true,
            ("--spolia", Some(file)) => {
                own = Some(std::path::absolute(file).map_err(|error| error.to_string())?);
                args.next();
            }
            _ => {
                return Err(format!(
                    "`{arg}` is no option of dist-large (there are --keep and --spolia FILE)"
                ));
            }
        }
    }
    for (programs, packages) in [
        (&["bsdtar"][..], &["libarchive-tools"][..]),
        (&["unzip"], &["unzip"]),
        (&["zstd"], &["zstd"]),
        (&["python3"], &["python3"]),
    ] {
        if !packages::ensure(programs, packages)? {
            return Err(format!("{} must be installed", packages.join(" ")));
        }
    }
    let spolia = match own {
        Some(own) => own,
        None => {
            run::cargo(&["build", "--release", "--package", "spolia"])?;
            run::target()?.join("release/spolia")
        }
    };
    let folder = std::env::temp_dir().join(format!("spolia-large-{}", std::process::id()));
    let done = prove(&spolia, &folder);
    if keep {
        println!("kept: {}", folder.display());
    } else {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("cannot remove `{}`: {error}", folder.display()))?;
    }
    println!("\n{}", done?);
    Ok(())
}

fn prove(spolia: &Path, folder: &Path) -> Done<String> {
    let io = |error: std::io::Error| format!("cannot prepare `{}`: {error}", folder.display());
    std::fs::create_dir_all(folder.join("data")).map_err(io)?;
    std::fs::write(folder.join("spolia.toml"), MANIFEST).map_err(io)?;
    std::fs::write(folder.join("data/small"), "small\n").map_err(io)?;
    sparse(&folder.join("data/tar"), TAR_BYTES).map_err(io)?;
    sparse(&folder.join("data/zip"), ZIP_BYTES).map_err(io)?;
    for number in 0..MEMBERS {
        let place = folder.join(format!("crowd/{:03}", number / 1000));
        if number % 1000 == 0 {
            std::fs::create_dir_all(&place).map_err(io)?;
        }
        std::fs::write(place.join(format!("{number:06}")), format!("{number}\n")).map_err(io)?;
    }
    let mut table = String::from("| release | wall s | peak memory MB |\n|---|---|---|\n");
    for name in ["gz", "zst", "zip", "flat", "many", "manyzip"] {
        let (wall, peak) = packed(spolia, folder, name)?;
        writeln!(table, "| {name} | {:.1} | {:.0} |", wall.as_secs_f64(), peak as f64 / 1e6)
            .map_err(|error| error.to_string())?;
        for (_, script) in READERS.iter().filter(|(release, _)| *release == name) {
            let mut shell = Command::new("bash");
            run::checked(shell.args(["-euo", "pipefail", "-c", script]).current_dir(folder))?;
        }
        run::checked(
            Command::new(spolia).args(["dist", "--check", name]).current_dir(folder).stderr(Stdio::null()),
        )?;
        let removed: Result<(), std::io::Error> = std::fs::remove_dir_all(folder.join(name));
        removed.map_err(io)?;
    }
    Ok(table)
}

/// A file with bytes at its start, across every 4 GiB, and at its end, and nothing on the disk between.
fn sparse(path: &Path, length: u64) -> std::io::Result<()> {
    let file = File::create(path)?;
    file.set_len(length)?;
    for at in [0, (4 << 30) - 3, (8 << 30) - 3, length - 7] {
        if at + 7 <= length {
            file.write_all_at(b"spolia!", at)?;
        }
    }
    Ok(())
}

/// Packs it; wall time and the highest memory that was seen.
fn packed(spolia: &Path, folder: &Path, name: &str) -> Done<(Duration, u64)> {
    let began = Instant::now();
    let mut command = Command::new(spolia);
    command.args(["dist", "--engine", "host", name]).current_dir(folder);
    println!("+ spolia dist {name}");
    let spawned = command.env("SPOLIA_CACHE_DIR", folder.join("store")).spawn();
    let mut child = spawned.map_err(|error| format!("cannot run spolia: {error}"))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib =
            line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        if let Some(ended) = child.try_wait().map_err(|error| error.to_string())? {
            return if ended.success() {
                Ok((began.elapsed(), peak))
            } else {
                Err(format!("spolia dist {name}: {ended}"))
            };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
