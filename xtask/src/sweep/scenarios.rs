//! The surroundings and the policies. Each scenario has a copy of the fixture of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::tree::{self, Tree};
use super::{Stand, plain};
use crate::run::{self, Done};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of what is stale may be left, in parts of it.
const LEFT_MAX: f64 = 0.01;

/// What a policy has to take of what is stale.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    All,
    Nothing,
}

/// Where the copy lies.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The disk as it is mounted.
    Disk,
    /// A disk on which the time of an access is not written down.
    Noatime,
    /// Out of an archive, as a CI cache comes back.
    Tar,
    /// Under another path.
    Moved,
}

/// The scenarios that are one sweep of one copy: name, place, how many days old, flags, what they take.
const SIMPLE: &[(&str, Place, u32, &[&str], Takes)] = &[
    ("default", Place::Disk, 0, &[], Takes::All),
    ("noatime", Place::Noatime, 0, &[], Takes::All),
    ("tar", Place::Tar, 0, &[], Takes::All),
    ("moved", Place::Moved, 0, &[], Takes::All),
    ("time-young", Place::Disk, 0, &["--time", "7"], Takes::Nothing),
    ("time-aged", Place::Disk, 10, &["--time", "7"], Takes::All),
    ("time-aged-noatime", Place::Noatime, 10, &["--time", "7"], Takes::All),
    ("time-aged-tar", Place::Tar, 10, &["--time", "7"], Takes::All),
    ("auto-aged", Place::Disk, 10, &["--auto"], Takes::All),
    ("min-free", Place::Disk, 0, &["--min-free", "1MB"], Takes::All),
    ("installed", Place::Disk, 0, &["--installed"], Takes::Nothing),
    ("recursive", Place::Disk, 0, &["--recursive", "--hidden"], Takes::All),
    ("for-cache-save", Place::Disk, 0, &["--for-cache-save"], Takes::All),
];

/// Scenarios with a part of their own.
type Own = fn(&mut Stand<'_>) -> Done;
const OWN: &[(&str, Own)] = &[
    ("stamp", stamp),
    ("max-size", max_size),
    ("workspace", workspace),
    ("quarantine", quarantine),
    ("foreign-compiler", foreign_compiler),
    ("two-targets", two_targets),
    ("declared", declared),
    ("outside", outside),
    ("killed", killed),
    ("full-disk", full_disk),
    ("all", everything),
];

/// What runs with every `cargo xtask test`.
const SAMPLE: &[&str] =
    &["noatime", "time-aged-tar", "moved", "stamp", "max-size", "quarantine", "two-targets"];

/// Plays them.
pub(super) fn all(stand: &mut Stand<'_>, is_sample: bool, wanted: &[&str]) -> Done {
    let plays = |name: &str| match wanted {
        [] => !is_sample || SAMPLE.contains(&name),
        some => some.contains(&name),
    };
    for (name, place, days, words, takes) in SIMPLE.iter().filter(|one| plays(one.0)) {
        let copy = stand.copy(*place, *days)?;
        stand.sweep(name, &copy.ws, words)?;
        stand.judge(*takes)?;
    }
    for (_, own) in OWN.iter().filter(|one| plays(one.0)) {
        own(stand)?;
    }
    Ok(())
}

/// The layout that Cargo is going to have.
pub(super) fn new_layout(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    if !copy.ws.join("target/debug/build/fixture-core").is_dir() {
        return Err("this Cargo has no `-Zbuild-dir-new-layout`".to_owned());
    }
    stand.sweep("new-layout", &copy.ws, &[])?;
    stand.judge(Takes::All)
}

/// A copy of the fixture that goes with it.
struct Copy {
    ws: PathBuf,
    mounted: Option<PathBuf>,
    folder: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(mounted) = &self.mounted {
            let _mounted = run::quietly(Command::new("umount").arg(mounted));
        }
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

impl Stand<'_> {
    fn copy(&self, place: Place, days: u32) -> Done<Copy> {
        let from = self.fixture.folder.join("ws");
        let folder = self.work.join("copy");
        let mut copy = Copy { ws: folder.join("ws"), mounted: None, folder: folder.clone() };
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        match place {
            Place::Disk => tree::copy(&from, &copy.ws)?,
            Place::Noatime => {
                run::quietly(
                    Command::new("mount").args(["-t", "tmpfs", "-o", "noatime", "tmpfs"]).arg(&folder),
                )?;
                copy.mounted = Some(folder.clone());
                tree::copy(&from, &copy.ws)?;
            }
            Place::Tar => {
                let archive = folder.join("ws.tar");
                // As the usual CI caches pack.
                let mut pack = Command::new("tar");
                pack.arg("--posix").arg("-cf").arg(&archive).arg("-C").arg(&self.fixture.folder).arg("ws");
                run::quietly(&mut pack)?;
                run::quietly(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder))?;
                std::fs::remove_file(&archive).map_err(|error| error.to_string())?;
            }
            Place::Moved => {
                tree::copy(&from, &copy.ws)?;
                let to = folder.join("far/away/other");
                std::fs::create_dir_all(folder.join("far/away")).map_err(|error| error.to_string())?;
                std::fs::rename(&copy.ws, &to).map_err(|error| error.to_string())?;
                copy.ws = to;
            }
        }
        if days > 0 {
            tree::age(&copy.ws, DAY * days)?;
        }
        Ok(copy)
    }

    /// Whether the last sweep took what it had to.
    fn judge(&self, takes: Takes) -> Done {
        let Some(row) = self.rows.last() else { return Err("nothing was swept".to_owned()) };
        if row.stale == 0 {
            return Err(format!("{}: nothing was stale, so nothing is proven", row.scenario));
        }
        let part = row.left as f64 / row.stale as f64;
        match takes {
            Takes::All if part > LEFT_MAX => {
                Err(format!("{}: {:.1} % of what is stale is left", row.scenario, part * 100.0))
            }
            Takes::Nothing if row.left != row.stale => Err(format!("{}: something went", row.scenario)),
            _ => Ok(()),
        }
    }
}

impl Stand<'_> {
    /// Whether what is left of a tree is what is live.
    fn swept_rest(&self, was: &Tree, is: &Tree) -> Done {
        let fresh = &self.fixture.fresh;
        if let Some(gone) = was.within(fresh).into_iter().find(|name| !is.has(name)) {
            return Err(format!("`{}` was live and is gone", gone.display()));
        }
        let (stale, left) = (was.bytes(was.without(fresh)), is.bytes(is.without(fresh)));
        if left as f64 > LEFT_MAX * stale as f64 {
            return Err(format!("{left} of {stale} stale bytes are left"));
        }
        Ok(())
    }
}

fn stamp(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    stand.spolia(&copy.ws, &["sweep", "--stamp"])?;
    // The builds after it compile nothing: they are run before every sweep here.
    stand.sweep("stamp", &copy.ws, &["--file"])?;
    stand.judge(Takes::All)
}

fn max_size(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let was = Tree::of(&copy.ws.join("target"))?;
    let live = was.bytes(was.within(&stand.fixture.fresh));
    let above = format!("{}B", live + live / 5);
    stand.sweep("max-size", &copy.ws, &["--max-size", &above])?;
    stand.judge(Takes::All)?;
    // Below what is live whole configurations go: those that stay compile nothing. How far below depends on what they share.
    let mut found = None;
    for percent in [98, 95, 90, 80, 65, 50] {
        let below = format!("{}B", live / 100 * percent);
        let said = stand.spolia(&copy.ws, &["sweep", "--dry-run", "--max-size", &below])?;
        let plan = said.iter().find(|line| line["kind"] == "sweep-plan").ok_or("no plan was given")?;
        let (evicted, commands) = given_up(plan);
        if evicted > 0 && !commands.is_empty() {
            found = Some((below, commands));
            break;
        }
    }
    let Some((below, commands)) = found else {
        return Err(
            "max-size: no limit below what is live gives up some configurations and not all".to_owned()
        );
    };
    stand.spolia(&copy.ws, &["sweep", "--max-size", &below])?;
    for command in &commands {
        let line =
            if command.starts_with("cargo test") { format!("{command} --no-run") } else { command.clone() };
        let lost = stand.fixture.compiled(&copy.ws, &line, &[])?;
        if !lost.is_empty() {
            return Err(format!("max-size: `{command}` stayed, and Cargo compiles {lost:?} for it"));
        }
    }
    println!("max-size below what is live: {} still compile nothing", commands.join(", "));
    Ok(())
}

/// How many configurations a plan gives up, and which stay.
fn given_up(plan: &Value) -> (usize, Vec<String>) {
    let evicted = plan["plan"]["evicted"].as_array().cloned().unwrap_or_default();
    let evicted: Vec<u64> = evicted.iter().filter_map(Value::as_u64).collect();
    let all = plan["configurations"].as_array().cloned().unwrap_or_default();
    let stays = (0u64..).zip(&all).filter(|(number, _)| !evicted.contains(number));
    let commands = stays.filter_map(|(_, one)| one["command"].as_str().map(str::to_owned)).collect();
    (evicted.len(), commands)
}

fn workspace(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    stand.sweep("workspace", &copy.ws, &["--workspace"])?;
    let is = Tree::of(&copy.ws.join("target"))?;
    let ours = |name: &&Path| {
        name.to_string_lossy().contains("/fixture-") && name.to_string_lossy().contains(".fingerprint")
    };
    match is.without(&stand.fixture.fresh).iter().copied().find(ours) {
        Some(left) => Err(format!("workspace: `{}` is stale and there", left.display())),
        None => Ok(()),
    }
}

fn quarantine(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let target = copy.ws.join("target");
    let was = Tree::of(&target)?;
    stand.sweep("quarantine", &copy.ws, &["--quarantine"])?;
    stand.judge(Takes::All)?;
    stand.spolia(&copy.ws, &["sweep", "undo"])?;
    let is = Tree::of(&target)?;
    let differs: Vec<&Path> = was.without(&is).into_iter().chain(is.without(&was)).collect();
    if !differs.is_empty() {
        return Err(format!("quarantine: after `undo` the tree is another: {differs:?}"));
    }
    let lost = stand.lost(&copy.ws, &stand.live())?;
    if lost.is_empty() { Ok(()) } else { Err(format!("quarantine: after `undo` Cargo compiles {lost:?}")) }
}

/// A compiler that is not there any more: all that it made goes by `--installed`, and nothing else.
fn foreign_compiler(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let target = copy.ws.join("target");
    let before = Tree::of(&target)?;
    let other = stand.work.join("other-rustc");
    let script = "#!/bin/sh\nif [ \"$*\" = -vV ]; then rustc -vV | sed 's/^release: .*/&-other/'; else exec rustc \"$@\"; fi\n";
    std::fs::write(&other, script).map_err(|error| error.to_string())?;
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o755)).map_err(|error| error.to_string())?;
    let made = stand.fixture.compiled(&copy.ws, "cargo check", &[("RUSTC", other.display().to_string())])?;
    if made.is_empty() {
        return Err("foreign-compiler: Cargo did not see another compiler".to_owned());
    }
    std::fs::remove_file(&other).map_err(|error| error.to_string())?;
    let with = Tree::of(&target)?;
    // An incremental folder does not say whose it is, so `--installed` leaves it; the plain sweep does not.
    let named = |name: &&Path| !name.iter().any(|part| part == "incremental");
    let theirs: Vec<&Path> = with.without(&before).into_iter().filter(named).collect();
    stand.sweep("foreign-compiler", &copy.ws, &["--installed"])?;
    let is = Tree::of(&target)?;
    let left = with.bytes(theirs.iter().copied().filter(|name| is.has(name)));
    if left as f64 > LEFT_MAX * with.bytes(theirs.iter().copied()) as f64 {
        return Err(format!("foreign-compiler: {left} bytes of it are left"));
    }
    match before.names().find(|name| !is.has(name)) {
        Some(gone) => Err(format!("foreign-compiler: `{}` was made by another and is gone", gone.display())),
        None => Ok(()),
    }
}

fn two_targets(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let second = copy.ws.join("target-two");
    tree::copy(&copy.ws.join("target"), &second)?;
    let env = vec![("CARGO_TARGET_DIR", second.display().to_string())];
    let live: Vec<_> = stand.fixture.live.iter().map(|command| (command.clone(), env.clone())).collect();
    stand.sweep("two-targets", &copy.ws, &[])?;
    stand.judge(Takes::All)?;
    let is = Tree::of(&second)?;
    let left = is.without(&stand.fixture.fresh);
    let (left, lost) = (is.bytes(left), stand.lost(&copy.ws, &live)?);
    if !lost.is_empty() || left as f64 > LEFT_MAX * is.bytes(is.names()) as f64 {
        return Err(format!("two-targets: the second has {left} stale bytes, and Cargo compiles {lost:?}"));
    }
    Ok(())
}

/// Several configurations in the manifest, one of them with `RUSTFLAGS`: all stay, and nothing else.
fn declared(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let fresh_too = stand.work.join("fresh-flags");
    let flags = ("RUSTFLAGS", "-C debuginfo=1".to_owned());
    let command = "cargo build --examples";
    stand.fixture.compiled(&copy.ws, command, std::slice::from_ref(&flags))?;
    let there = ("CARGO_TARGET_DIR", fresh_too.display().to_string());
    stand.fixture.compiled(&copy.ws, command, &[flags.clone(), there])?;
    let mut fresh = Tree::of(&fresh_too)?;
    std::fs::remove_dir_all(&fresh_too).map_err(|error| error.to_string())?;
    fresh.join(Tree::of(&stand.fixture.folder.join("fresh"))?);
    let mut lines: Vec<String> = stand.fixture.live.iter().map(|line| format!("{line:?}")).collect();
    lines.push(format!("\"RUSTFLAGS='-C debuginfo=1' {command}\""));
    let text = format!("[project]\nname = \"fixture\"\n[sweep]\ncommands = [{}]\n", lines.join(", "));
    std::fs::write(copy.ws.join("spolia.toml"), text).map_err(|error| error.to_string())?;
    let mut live = stand.live();
    live.push((command.to_owned(), vec![flags]));
    let (row, _) = stand.swept("declared", &copy.ws, &copy.ws.join("target"), &[], &live, &fresh)?;
    stand.rows.push(row);
    stand.judge(Takes::All)
}

/// A dependency on a path that is not in the workspace: its older features are stale, the rest is live.
fn outside(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let write = |path: &str, text: &str| {
        let path = copy.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&copy.folder))
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let manifest = copy.ws.join("core/Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| error.to_string())?;
    write(
        "far/Cargo.toml",
        "[package]\nname = \"far\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\non = []\n[workspace]\n",
    )?;
    write("far/src/lib.rs", "pub fn far() -> u32 {\n    if cfg!(feature = \"on\") { 1 } else { 2 }\n}\n")?;
    for features in ["", ", features = [\"on\"]"] {
        write("ws/core/Cargo.toml", &format!("{text}far = {{ path = \"../../far\"{features} }}\n"))?;
        let mut lock = Command::new("cargo");
        run::quietly(
            plain(&mut lock).args(["update", "--workspace", "--offline", "--quiet"]).current_dir(&copy.ws),
        )?;
        for (command, env) in stand.live() {
            stand.fixture.compiled(&copy.ws, &command, &env)?;
        }
    }
    let fresh_folder = stand.work.join("fresh-outside");
    for (command, _) in stand.live() {
        let there = [("CARGO_TARGET_DIR", fresh_folder.display().to_string())];
        stand.fixture.compiled(&copy.ws, &command, &there)?;
    }
    let fresh = Tree::of(&fresh_folder)?;
    std::fs::remove_dir_all(&fresh_folder).map_err(|error| error.to_string())?;
    let live = stand.live();
    let (row, _) = stand.swept("outside", &copy.ws, &copy.ws.join("target"), &[], &live, &fresh)?;
    stand.rows.push(row);
    stand.judge(Takes::All)
}

/// Ended in the middle, again and again: what is live stays, and what was put aside comes back.
fn killed(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let target = copy.ws.join("target");
    let was = Tree::of(&target)?;
    let mut middles = Middles::default();
    for (number, percent) in [10, 1, 25, 1, 50, 5].into_iter().enumerate() {
        let signal = if number % 2 == 0 { "KILL" } else { "INT" };
        let end = end_in_the_middle(stand, &copy.ws, &["sweep", "--quarantine"], signal, percent)?;
        println!("killed: put aside, {end}");
        middles.count(&end);
        let lost = stand.lost(&copy.ws, &stand.live())?;
        if !lost.is_empty() {
            return Err(format!("killed: {end}, and Cargo compiles {lost:?}"));
        }
        // As long as there is something to put back; 2 says that there is nothing.
        while stand.command(&copy.ws, &["sweep", "undo"]).output().is_ok_and(|made| made.status.success()) {}
        let is = Tree::of(&target)?;
        if is != was {
            let differs: Vec<&Path> = was.without(&is).into_iter().chain(is.without(&was)).collect();
            return Err(format!("killed: {end}, and `undo` leaves {differs:?} different"));
        }
    }
    middles.enough("put aside")?;
    let mut middles = Middles::default();
    for (number, percent) in [1, 10, 1, 10, 1, 10].into_iter().enumerate() {
        let signal = if number % 2 == 0 { "INT" } else { "KILL" };
        let end = end_in_the_middle(stand, &copy.ws, &["sweep"], signal, percent)?;
        println!("killed: removed, {end}");
        middles.count(&end);
        let lost = stand.lost(&copy.ws, &stand.live())?;
        if !lost.is_empty() {
            return Err(format!("killed: {end}, and Cargo compiles {lost:?}"));
        }
    }
    middles.enough("removed")?;
    stand.spolia(&copy.ws, &["sweep"])?;
    stand.swept_rest(&was, &Tree::of(&target)?)
}

/// How a sweep ended that was sent a signal.
struct Middle {
    signal: &'static str,
    status: String,
    /// Files and folders that were planned to go, and those of them that went.
    planned: usize,
    gone: usize,
}

impl std::fmt::Display for Middle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { signal, status, planned, gone } = self;
        write!(f, "SIG{signal} when {gone} of {planned} things were gone ({status})")
    }
}

/// Counts the signals that hit the middle.
#[derive(Default)]
struct Middles {
    killed: usize,
    interrupted: usize,
}

impl Middles {
    fn count(&mut self, end: &Middle) {
        if end.gone > 0 && end.gone < end.planned {
            match end.signal {
                "KILL" => self.killed += 1,
                _ => self.interrupted += 1,
            }
        }
    }

    /// A signal that comes too late proves nothing; some of each have to hit.
    fn enough(&self, what: &str) -> Done {
        match (self.killed, self.interrupted) {
            (0, _) | (_, 0) | (1, 1) => Err(format!(
                "killed: {what}: only {} SIGKILL and {} SIGINT came in the middle",
                self.killed, self.interrupted
            )),
            _ => Ok(()),
        }
    }
}

/// Starts a sweep and sends it a signal once so many hundredths of what is planned are gone.
fn end_in_the_middle(
    stand: &Stand<'_>,
    ws: &Path,
    words: &[&str],
    signal: &'static str,
    percent: usize,
) -> Done<Middle> {
    use std::io::Write;
    use std::process::Stdio;
    let io = |error: std::io::Error| format!("cannot run spolia: {error}");
    let said = stand.spolia(ws, &["sweep", "--dry-run"])?;
    let plan = said.iter().find(|line| line["kind"] == "sweep-plan").ok_or("no plan was given")?;
    let entries = plan["plan"]["entries"].as_array().cloned().unwrap_or_default();
    let parts = entries.iter().flat_map(|entry| entry["parts"].as_array().cloned().unwrap_or_default());
    let paths: Vec<PathBuf> =
        parts.filter_map(|part| Some(ws.join("target").join(part["path"].as_str()?))).collect();
    let watched = paths.get(paths.len() * percent / 100).ok_or("nothing is planned")?;
    let mut child =
        stand.command(ws, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(io)?;
    // It waits for a line, so that no program has to be started once it is time.
    let line = format!("read go && kill -s {signal} {}", child.id());
    let mut sender = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io)?;
    let mut has_ended = false;
    while !has_ended && std::fs::symlink_metadata(watched).is_ok() {
        has_ended = child.try_wait().map_err(io)?.is_some();
    }
    let to = sender.stdin.take();
    if let Some(mut to) = to.filter(|_| !has_ended) {
        to.write_all(b"go\n").map_err(io)?;
    }
    let status = child.wait().map_err(io)?.to_string();
    // The sweep may have ended by itself before.
    let _sent = sender.wait().map_err(io)?;
    let gone = paths.iter().filter(|path| std::fs::symlink_metadata(path).is_err()).count();
    Ok(Middle { signal, status, planned: paths.len(), gone })
}

/// On a full disk nothing can be put aside, which is said; what is stale can be deleted, and makes room.
fn full_disk(stand: &mut Stand<'_>) -> Done {
    let mut copy = stand.copy(Place::Disk, 0)?;
    let disk = copy.folder.join("disk");
    let all = Tree::of(&copy.ws)?;
    let size = format!("size={}k,nr_inodes=1m", all.bytes(all.names()) / 1024 * 5 / 4);
    std::fs::create_dir_all(&disk).map_err(|error| error.to_string())?;
    run::quietly(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk))?;
    copy.mounted = Some(disk.clone());
    tree::copy(&copy.ws, &disk.join("ws"))?;
    let ws = disk.join("ws");
    let filled = std::fs::File::create(disk.join("filler"))
        .and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
    if filled.is_ok() {
        return Err("full-disk: the disk is not full".to_owned());
    }
    let on_it = |words: &[&str]| {
        let mut command = stand.command(&ws, words);
        command.env("TMPDIR", &disk).env("SPOLIA_CACHE_DIR", disk.join("store"));
        command.output().map_err(|error| error.to_string())
    };
    let made = on_it(&["sweep", "--quarantine"])?;
    let said = String::from_utf8_lossy(&made.stderr).into_owned() + &String::from_utf8_lossy(&made.stdout);
    if made.status.success() || !said.contains("No space left") {
        return Err(format!("full-disk: `--quarantine` ended with {} and said {said}", made.status));
    }
    let made = on_it(&["sweep"])?;
    if !made.status.success() {
        return Err(format!("full-disk: {}: {}", made.status, String::from_utf8_lossy(&made.stderr)));
    }
    std::fs::remove_file(disk.join("filler")).map_err(|error| error.to_string())?;
    let was = Tree::of(&copy.ws.join("target"))?;
    let is = Tree::of(&ws.join("target"))?;
    stand.swept_rest(&was, &is)?;
    let lost = stand.lost(&ws, &stand.live())?;
    if lost.is_empty() { Ok(()) } else { Err(format!("full-disk: Cargo compiles {lost:?}")) }
}

/// The aggressive one leaves nothing that Cargo makes.
fn everything(stand: &mut Stand<'_>) -> Done {
    let copy = stand.copy(Place::Disk, 0)?;
    let target = copy.ws.join("target");
    stand.spolia(&copy.ws, &["sweep", "--all"])?;
    let left = Tree::of(&target)?;
    let is_own = |name: &&Path| {
        !name.ends_with("CACHEDIR.TAG")
            && !name.ends_with(".rustc_info.json")
            && !name.ends_with(".cargo-lock")
    };
    match left.names().find(is_own) {
        Some(left) => Err(format!("all: `{}` is left", left.display())),
        None => Ok(()),
    }
}
