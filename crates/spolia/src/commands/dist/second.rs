//! The second build of `--verify`: how it is started, and how it comes to be somebody else somewhere else before it does
//! anything.
//!
//! ```text
//! first build ─orders.json→ second build ─varied.json→ first build
//! ```
//!
//! The order in which a disk lists a folder is often the same for the same names, whoever made them and when. So the second
//! build works in memory, where that is not too much, and says in how many folders the order really was another.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use spolia_dist::DistError;
use spolia_dist::facts::Facts;
use spolia_engine::process::{Limits, run};
use spolia_engine::stranger::Stranger;
use spolia_engine::{Cancel, End};

use super::verify::First;
use super::{Work, failure};
use crate::exit::{Exit, Failure};

/// The user of the second build; the next one, where the first build's is this.
const STRANGER: u32 = 12_345;
/// As much is worked on in memory, bytes.
const MEMORY_MAX: u64 = 256 << 20;

/// What the second build is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Orders {
    /// What is true of the release.
    pub(super) facts: Facts,
    /// The first build's project.
    pub(super) root: PathBuf,
    /// A copy of what is declared.
    pub(super) copy: PathBuf,
    /// The empty folder in which to build.
    pub(super) checkout: PathBuf,
    /// What there will be in it, bytes.
    pub(super) size: u64,
}

/// In what the second build's surroundings were others, as it saw them itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Varied {
    /// Its user, where it is not the first build's.
    user: Option<u32>,
    /// Why it is.
    why_same_user: Option<String>,
    /// Folders with two entries or more.
    folders: usize,
    /// Those of them that are listed in another order.
    turned: usize,
    /// Why none of them is made to be.
    why_same_order: Option<String>,
}

impl Varied {
    /// What was another, in words.
    pub(super) fn words(&self) -> String {
        let mut words = vec![
            "path".to_owned(),
            "modes and times of files".to_owned(),
            "umask, time zone, locale, threads".to_owned(),
        ];
        if let Some(user) = self.user {
            words.push(format!("user {} became {user}", rustix::process::geteuid().as_raw()));
        }
        if self.turned > 0 {
            words.push(format!("order of files in {} of {} folders", self.turned, self.folders));
        }
        words.join("; ")
    }

    /// What was the same, and why.
    pub(super) fn same(&self) -> Vec<String> {
        let mut same = Vec::new();
        if let Some(why) = &self.why_same_user {
            same.push(format!("the user: {why}"));
        }
        match &self.why_same_order {
            Some(why) => same.push(format!("the order of files in folders: {why}")),
            None if self.turned == 0 && self.folders > 0 => {
                same.push("the order of files in folders: it came out as it was".to_owned());
            }
            None => {}
        }
        same
    }
}

/// Where the second build finds everything.
pub(super) struct Places {
    pub(super) parent: PathBuf,
    pub(super) out: PathBuf,
    pub(super) rebuild: bool,
}

fn orders_at(parent: &Path) -> PathBuf {
    parent.join("orders.json")
}

fn varied_at(orders: &Path) -> PathBuf {
    orders.with_file_name("varied.json")
}

/// Runs this program once more; what it said, and what was another.
pub(super) fn start(
    work: &Work<'_>,
    first: &First<'_>,
    places: &Places,
    orders: &Orders,
    cancel: &Cancel,
) -> Result<(String, Varied), Failure> {
    let internal = |error: io::Error| Failure::environment(format!("cannot start the second build: {error}"));
    let at = orders_at(&places.parent);
    std::fs::write(&at, serde_json::to_vec(orders).unwrap_or_default()).map_err(internal)?;
    let own = std::env::current_exe().map_err(internal)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this program itself, in other surroundings; the engine's runner runs it"
    )]
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(own).stdin(Stdio::null());
    command.args(["--color", "never", "--progress", "never", "-C"]).arg(&orders.checkout);
    command.arg("--cache-dir").arg(if places.rebuild {
        places.parent.join("store")
    } else {
        work.settings.cache_dir()?
    });
    command.args(["dist", "--allow-dirty", "--jobs", "1", "-o"]).arg(&places.out);
    command.arg("--second").arg(&at);
    let platforms: Vec<String> = first.one.platforms.iter().map(ToString::to_string).collect();
    command.args(["--platform", &platforms.join(",")]);
    if let Some(variant) = &work.args.how.variant {
        command.args(["--variant", variant]);
    }
    if let Some(engine) = work.args.how.engine {
        let word = match engine {
            crate::cli::EngineArg::Host => "host",
            crate::cli::EngineArg::Sandbox => "sandbox",
        };
        command.args(["--engine", word]);
    }
    command.arg(&first.one.dist.name).current_dir(&places.parent);
    command.env("TZ", "Pacific/Chatham").env("LC_ALL", "tr_TR.UTF-8").env("LANG", "tr_TR.UTF-8");
    command.env_remove("SOURCE_DATE_EPOCH");
    let mut said = Vec::new();
    let limits = Limits { cancel, timeout: None };
    let ended = run(command, &limits, &mut |_, bytes| said.extend_from_slice(bytes)).map_err(internal)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    match ended.end {
        End::Exited(0) => {
            let raw = std::fs::read(varied_at(&at)).map_err(internal)?;
            let varied = serde_json::from_slice(&raw).map_err(|error| internal(error.into()))?;
            Ok((said, varied))
        }
        End::Cancelled => Err(failure(&DistError::Cancelled)),
        _ => {
            work.shell.err(&said);
            Err(Failure::new(Exit::Problems, "the release could not be made a second time").hint(
                "the second build has only what is declared: a file that a step uses and does not name is not there",
            ))
        }
    }
}

/// The orders that lie at `path`.
pub(super) fn orders(path: &Path) -> Result<Orders, Failure> {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).map_err(|error| Failure::usage(format!("`{}`: {error}", path.display())))
}

/// In the second build, while it has one thread: becomes somebody else, and puts the checkout where it will be.
pub(super) fn settle(path: &Path) -> Result<(), Failure> {
    let orders = orders(path)?;
    let internal = |error: io::Error| Failure::environment(format!("cannot settle as another user: {error}"));
    let own = rustix::process::geteuid().as_raw();
    let wanted = if own == STRANGER { STRANGER + 1 } else { STRANGER };
    let refused = |error: io::Error| format!("the kernel refuses a user namespace ({error})");
    let (user, order) = match Stranger::new(wanted).map_err(refused) {
        Ok(stranger) => {
            let order = in_memory(&stranger, &orders);
            stranger.settle().map_err(internal)?;
            (Ok(wanted), order)
        }
        Err(why) => (Err(why.clone()), Err(why)),
    };
    let settled = match &order {
        Ok(()) => {
            backwards(&orders.checkout).and_then(|backwards| copy(&orders.copy, &orders.checkout, backwards))
        }
        Err(_) => std::fs::remove_dir(&orders.checkout)
            .and_then(|()| std::fs::rename(&orders.copy, &orders.checkout)),
    };
    settled.map_err(internal)?;
    let (mut folders, mut turned) = (0, 0);
    compare(&orders.root, &orders.checkout, &mut folders, &mut turned).map_err(internal)?;
    let varied = Varied {
        user: user.as_ref().ok().copied(),
        why_same_user: user.err(),
        folders,
        turned,
        why_same_order: order.err(),
    };
    let raw = serde_json::to_vec(&varied).unwrap_or_default();
    std::fs::write(varied_at(path), raw).map_err(internal)
}

fn in_memory(stranger: &Stranger, orders: &Orders) -> Result<(), String> {
    if orders.size > MEMORY_MAX {
        return Err("it is too much to be held in memory".to_owned());
    }
    stranger.in_memory(&orders.checkout).map_err(|error| format!("no folder in memory ({error})"))
}

/// The names in a folder, as the system lists them.
fn listed(folder: &Path) -> io::Result<Vec<OsString>> {
    std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// Whether what was made last in a folder of this file system is listed first; differs with the kernel.
fn backwards(folder: &Path) -> io::Result<bool> {
    let (first, second) = (folder.join("first"), folder.join("second"));
    std::fs::write(&first, "")?;
    std::fs::write(&second, "")?;
    let newest_first = listed(folder)?.first().is_some_and(|name| name == "second");
    std::fs::remove_file(first)?;
    std::fs::remove_file(second)?;
    Ok(newest_first)
}

/// Copies all that is in `from`, so that it is listed against the order in which it is listed there.
fn copy(from: &Path, to: &Path, backwards: bool) -> io::Result<()> {
    let mut names = listed(from)?;
    if !backwards {
        names.reverse();
    }
    for name in names {
        let (from, to) = (from.join(&name), to.join(&name));
        let kind = std::fs::symlink_metadata(&from)?;
        if kind.is_symlink() {
            symlink(std::fs::read_link(&from)?, &to)?;
        } else if kind.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&from, &to, backwards)?;
        } else {
            std::fs::copy(&from, &to).map(drop)?;
        }
    }
    Ok(())
}

/// Counts the folders of `second` in which there is an order, and those in which `first` has another.
fn compare(first: &Path, second: &Path, folders: &mut usize, turned: &mut usize) -> io::Result<()> {
    let there = listed(second)?;
    let names: BTreeSet<&OsString> = there.iter().collect();
    let known: Vec<OsString> = listed(first)?.into_iter().filter(|name| names.contains(name)).collect();
    if there.len() > 1 {
        *folders += 1;
        *turned += usize::from(known != there);
    }
    for name in &there {
        let (first, second) = (first.join(name), second.join(name));
        if std::fs::symlink_metadata(&second)?.is_dir() {
            compare(&first, &second, folders, turned)?;
        }
    }
    Ok(())
}
