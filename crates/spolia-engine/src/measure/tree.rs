//! A process and all below it, as `/proc` shows them at one moment.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::time::Duration;

use super::Live;

/// What `/proc/PID/stat` says, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Since the machine started, in ticks: with the pid, names the process for good.
    pub(super) started: u64,
    /// CPU time of it and of those it waited for, in ticks.
    pub(super) ticks: u64,
    pub(super) resident_pages: u64,
}

/// Reads the fields by their number in proc(5); the name in brackets may hold anything.
pub(super) fn parse(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `fields[0]` is the state, the third field of the file.
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    let count = |field: usize| number(field).and_then(|number| u64::try_from(number).ok());
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: i32::try_from(number(4)?).ok()?,
        started: count(22)?,
        ticks: count(14)? + count(15)? + count(16)? + count(17)?,
        resident_pages: count(24)?,
    })
}

fn all() -> Vec<Stat> {
    let mut found = Vec::new();
    let mut text = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        text.clear();
        let read = std::fs::File::open(format!("/proc/{name}/stat"))
            .and_then(|mut file| file.read_to_string(&mut text));
        if read.is_ok() {
            found.extend(parse(&text));
        }
    }
    found
}

/// `root` and everything below it, of `all`.
fn below(root: i32, all: &[Stat]) -> Vec<Stat> {
    let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found: Vec<Stat> = all.iter().filter(|stat| stat.pid == root).copied().collect();
    let mut at = 0;
    let mut known: HashSet<i32> = HashSet::from([root]);
    while at < found.len() {
        for child in children.get(&found[at].pid).into_iter().flatten() {
            if known.insert(child.pid) {
                found.push(**child);
            }
        }
        at += 1;
    }
    found
}

/// The living descendants of `pid`, without itself.
pub(super) fn descendants(pid: i32) -> Vec<i32> {
    let found = below(pid, &all());
    found.iter().map(|stat| stat.pid).filter(|other| *other != pid).collect()
}

/// A tree that is looked at again and again.
pub(super) struct Tree {
    root: i32,
    own: i32,
    seen: HashSet<(i32, u64)>,
    pub(super) samples: u64,
    /// The largest sum of resident memory so far.
    pub(super) peak_bytes: Option<u64>,
}

impl Tree {
    /// Of `root` and all below it. Orphans of it are this process's children and belong to it.
    pub(super) fn new(root: i32) -> Self {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        Self { root, own, seen: HashSet::new(), samples: 0, peak_bytes: None }
    }

    pub(super) fn sample(&mut self) -> Live {
        let all = all();
        let mut found = below(self.own, &all);
        if self.root != self.own {
            found.retain(|stat| stat.pid != self.own);
        }
        let page = rustix::param::page_size() as u64;
        let resident_bytes = found.iter().map(|stat| stat.resident_pages).sum::<u64>() * page;
        let ticks: u64 = found.iter().map(|stat| stat.ticks).sum();
        self.seen.extend(found.iter().map(|stat| (stat.pid, stat.started)));
        if found.is_empty() {
            return Live::default();
        }
        self.samples += 1;
        self.peak_bytes = Some(self.peak_bytes.unwrap_or(0).max(resident_bytes));
        let cpu =
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64);
        Live { wall: Duration::ZERO, processes: found.len() as u64, resident_bytes, cpu }
    }

    /// Different processes that were seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 12345 999 17 0 0";
        let expect = Stat { pid: 42, parent: 7, started: 12345, ticks: 100, resident_pages: 17 };
        assert_eq!(parse(text), Some(expect));
        assert_eq!(parse("42 (x) S 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_tree_is_found_by_parents() {
        let stat = |pid, parent| Stat { pid, parent, started: 0, ticks: 0, resident_pages: 0 };
        let all = [stat(1, 0), stat(5, 1), stat(6, 5), stat(7, 6), stat(8, 1), stat(9, 9)];
        let found: Vec<i32> = below(5, &all).iter().map(|stat| stat.pid).collect();
        assert_eq!(found, [5, 6, 7]);
        assert_eq!(below(9, &all).len(), 1);
    }
}
