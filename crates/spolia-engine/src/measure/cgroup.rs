//! A cgroup for one command, where this user may make one. Both versions; what a controller that is not there would
//! say is an error with the reason.
//!
//! This thread enters the group and starts the command, so that no process of it is ever outside. It goes back when the
//! command has ended: moving takes the kernel milliseconds, which would be missed while the command runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::Observed;

const MOUNT: &str = "/sys/fs/cgroup";
/// Before the number of the process that made a group.
const NAME: &str = "spolia-perf-";

/// A group of our own below the one we are in.
struct Made {
    home: PathBuf,
    group: PathBuf,
    /// The file that takes who is to move: a thread's number in version 1, a process's in version 2.
    door: &'static str,
}

impl Made {
    fn enter(home: PathBuf, door: &'static str) -> Observed<Self> {
        let group = home.join(format!("{NAME}{}", std::process::id()));
        let cannot = |error: std::io::Error| format!("no cgroup may be made: {error}");
        // One of a process that was killed and had our number.
        let _none = fs::remove_dir(&group);
        fs::create_dir(&group).map_err(cannot)?;
        let made = Self { home, group, door };
        match fs::write(made.group.join(door), "0") {
            Ok(()) => Ok(made),
            Err(error) => {
                made.remove();
                Err(cannot(error))
            }
        }
    }

    fn back(&self) {
        // Where it fails, this process stays in the group and the group stays after it: nothing else is lost.
        let _stays = fs::write(self.home.join(self.door), "0");
    }

    fn number(&self, file: &str) -> Observed<u64> {
        let text = self.text(file)?;
        text.trim().parse().map_err(|_| format!("`{file}` of the cgroup is no number"))
    }

    fn text(&self, file: &str) -> Observed<String> {
        fs::read_to_string(self.group.join(file))
            .map_err(|error| format!("the cgroup has no `{file}`: {error}"))
    }

    /// What the command left running goes where we are.
    fn remove(&self) {
        for process in fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default().lines() {
            let _gone = fs::write(self.home.join("cgroup.procs"), process);
        }
        let _busy = fs::remove_dir(&self.group);
    }
}

/// The groups of one command: in version 1 each controller has its own.
pub(super) struct Group {
    memory: Observed<Made>,
    cpu: Observed<Made>,
    /// Version 2 has both in one.
    unified: Observed<Made>,
}

impl Group {
    /// Makes what may be made and enters it.
    pub(super) fn enter() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| {
            let homes = ["memory", "cpuacct", ""].into_iter().filter_map(|name| home(&own, name).ok());
            homes.for_each(|home| sweep(&home, &|process| Path::new(&format!("/proc/{process}")).exists()));
        });
        let group = Self {
            memory: home(&own, "memory").and_then(|home| Made::enter(home, "tasks")),
            cpu: home(&own, "cpuacct").and_then(|home| Made::enter(home, "tasks")),
            unified: home(&own, "").and_then(|home| Made::enter(home, "cgroup.procs")),
        };
        match (&group.memory, &group.cpu, &group.unified) {
            (Err(_), Err(_), Err(why)) => Err(why.clone()),
            _ => Ok(group),
        }
    }

    fn made(&self) -> impl Iterator<Item = &Made> {
        [&self.memory, &self.cpu, &self.unified].into_iter().flatten()
    }

    /// CPU time in µs and peak memory in bytes of all that ran in it, without the `own_us` of this process; goes back
    /// to where we were and removes it.
    pub(super) fn close(self, own_us: u64) -> (Observed<u64>, Observed<u64>) {
        self.made().for_each(Made::back);
        let cpu = match (&self.cpu, &self.unified) {
            (Ok(group), _) => group.number("cpuacct.usage").map(|ns| ns / 1000),
            (_, Ok(group)) => group.text("cpu.stat").and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                line.and_then(|us| us.parse().ok()).ok_or_else(|| "`cpu.stat` has no `usage_usec`".to_owned())
            }),
            (Err(why), _) => Err(why.clone()),
        };
        let peak = match (&self.memory, &self.unified) {
            (Ok(group), _) => group.number("memory.max_usage_in_bytes"),
            (_, Ok(group)) => group.number("memory.peak"),
            (Err(why), _) => Err(why.clone()),
        };
        self.made().for_each(Made::remove);
        (cpu.map(|us: u64| us.saturating_sub(own_us)), peak)
    }
}

/// Removes groups of processes that were killed: named as ours are, made by a process that is gone, and empty. A group with
/// somebody in it cannot be removed, so another's that only seems gone, from where we are, stays.
fn sweep(home: &Path, is_running: &dyn Fn(u32) -> bool) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(NAME));
        let maker = maker.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if maker.and_then(|digits| digits.parse().ok()).is_some_and(|process| !is_running(process)) {
            let _busy = fs::remove_dir(entry.path());
        }
    }
}

/// The folder of the group we are in: `controller` of version 1, or version 2 for an empty name.
fn home(own: &str, controller: &str) -> Observed<PathBuf> {
    let at = place(own, controller).ok_or_else(|| format!("there is no `{controller}` cgroup here"))?;
    let roots: &[&str] = match controller {
        "" => &["/sys/fs/cgroup/unified", MOUNT],
        "memory" => &["/sys/fs/cgroup/memory"],
        _ => &["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct"],
    };
    let file = if controller.is_empty() { "cgroup.controllers" } else { "tasks" };
    let folders = roots.iter().map(|root| Path::new(root).join(at.trim_start_matches('/')));
    let found = folders.into_iter().find(|folder| folder.join(file).exists());
    found.ok_or_else(|| "the cgroup we are in is not to be seen".to_owned())
}

/// The path in a line `ID:CONTROLLERS:PATH` of `/proc/self/cgroup`.
fn place<'t>(own: &'t str, controller: &str) -> Option<&'t str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_groups_of_processes_that_are_gone_are_removed() {
        let home = tempfile::TempDir::new().unwrap();
        let names =
            ["spolia-perf-7", "spolia-perf-8", "spolia-perf-9", "spolia-perf-", "spolia-perf-7x", "else-7"];
        for name in names {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        fs::create_dir(home.path().join("spolia-perf-9/below")).unwrap();
        sweep(home.path(), &|process| process == 8);
        let is_left = names.map(|name| home.path().join(name).exists());
        assert_eq!(is_left, [false, true, true, true, true, true]);
        sweep(&home.path().join("none"), &|_| false);
    }

    #[test]
    fn our_place_is_found_in_either_version() {
        let own = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/d\n";
        assert_eq!(place(own, "memory"), Some("/a/b"));
        assert_eq!(place(own, "cpuacct"), Some("/c"));
        assert_eq!(place(own, ""), Some("/d"));
        assert_eq!(place(own, "pids"), None);
    }
}
