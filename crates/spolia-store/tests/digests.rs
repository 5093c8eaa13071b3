//! The digest cache: what it believes, and what it does not.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use spolia_core::Digest;
use spolia_store::digests::{IDLE_SAVES_MAX, MARGIN_COARSE_NS, MARGIN_NS};
use spolia_store::{DigestCache, StatKey};

struct Fixture {
    temp: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn cache_path(&self) -> PathBuf {
        self.path("cache/digests")
    }

    fn load(&self) -> DigestCache {
        let cache = DigestCache::load(&self.cache_path());
        cache.add_clock(self.temp.path());
        cache
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Waits until what was written is old.
    fn settle(&self) {
        std::thread::sleep(Duration::from_nanos(MARGIN_NS as u64 + 30_000_000));
    }
}

fn key(path: &Path) -> StatKey {
    StatKey::of_metadata(&fs::symlink_metadata(path).unwrap())
}

#[test]
fn an_old_file_is_read_once() {
    let f = Fixture::new();
    let path = f.write("a", "content");
    f.settle();
    let cache = f.load();
    let hashed = cache.hash_path(&path).unwrap();
    assert_eq!((hashed.digest, hashed.known), (Digest::blake3(b"content"), false));
    assert!(cache.hash_path(&path).unwrap().known);
    assert!(cache.save().unwrap());
    let cache = f.load();
    assert_eq!(cache.lookup(&key(&path)), Some(Digest::blake3(b"content")));
    assert!(!cache.save().unwrap(), "nothing new, nothing written");
}

#[test]
fn a_racy_file_is_never_believed() {
    let f = Fixture::new();
    // As fast as it goes: same size, perhaps the same clock tick.
    for round in 0..300u32 {
        let cache = f.load();
        let path = f.write("a", &format!("{round:05}"));
        let first = cache.hash_path(&path).unwrap();
        fs::write(&path, format!("{:05}", round + 1000)).unwrap();
        let second = cache.hash_path(&path).unwrap();
        assert_eq!(first.digest, Digest::blake3(format!("{round:05}").as_bytes()));
        assert_eq!(second.digest, Digest::blake3(format!("{:05}", round + 1000).as_bytes()), "round {round}");
        assert!(!cache.save().unwrap(), "a file just written was kept");
    }
}

#[test]
fn the_same_stat_with_other_content_right_after_hashing_is_noticed() {
    let f = Fixture::new();
    let path = f.write("a", "one");
    let cache = f.load();
    let began = cache.file_system_now_ns(&key(&path));
    // Were the stat to stay the same, as with a coarse clock, only the age could tell.
    cache.note(key(&path), Digest::blake3(b"one"), began);
    assert_eq!(cache.lookup(&key(&path)), None);
    let old_enough = key(&path).ctime_ns + MARGIN_NS;
    cache.note(key(&path), Digest::blake3(b"one"), old_enough);
    assert_eq!(cache.lookup(&key(&path)), Some(Digest::blake3(b"one")));
}

#[test]
fn times_in_the_future_and_whole_seconds_take_longer() {
    let f = Fixture::new();
    let path = f.write("a", "one");
    let file = File::options().write(true).open(&path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "files have the machine's time")]
    let future = SystemTime::now() + Duration::from_secs(3600);
    file.set_modified(future).unwrap();
    f.settle();
    let cache = f.load();
    assert!(!cache.hash_path(&path).unwrap().known);
    assert!(!cache.hash_path(&path).unwrap().known, "a time in the future is never old");

    let whole = StatKey { dev: 1, ino: 1, size: 1, mtime_ns: 5_000_000_000, ctime_ns: 7_000_000_000 };
    cache.note(whole, Digest::blake3(b"x"), whole.ctime_ns + MARGIN_COARSE_NS - 1);
    assert_eq!(cache.lookup(&whole), None);
    cache.note(whole, Digest::blake3(b"x"), whole.ctime_ns + MARGIN_COARSE_NS);
    assert_eq!(cache.lookup(&whole), Some(Digest::blake3(b"x")));
}

#[test]
fn after_the_clock_was_set_back_records_from_the_future_are_not_believed() {
    let f = Fixture::new();
    let cache = f.load();
    let ahead = 4_000_000_000_000_000_000;
    let future = StatKey { dev: 1, ino: 2, size: 3, mtime_ns: ahead, ctime_ns: ahead };
    // As a run before the clock was set back would have done.
    cache.note(future, Digest::blake3(b"x"), ahead + MARGIN_COARSE_NS);
    assert!(cache.save().unwrap());
    assert_eq!(f.load().len(), 1);
    assert_eq!(f.load().lookup(&future), None);
}

#[test]
fn every_change_that_stat_shows_is_noticed() {
    let f = Fixture::new();
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("content", |path| fs::write(path, "CONTENT").unwrap()),
        ("size", |path| fs::write(path, "longer content").unwrap()),
        ("mode", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap()),
        ("replaced", |path| {
            fs::write(path.with_extension("new"), "CONTENT").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("content with its time put back", |path| {
            let then = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "CONTENT").unwrap();
            File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        }),
    ];
    for (what, change) in changes {
        let path = f.write("a", "content");
        f.settle();
        let cache = f.load();
        cache.hash_path(&path).unwrap();
        assert!(cache.hash_path(&path).unwrap().known);
        change(&path);
        let now = cache.hash_path(&path).unwrap();
        assert!(!now.known, "{what} went unnoticed");
        assert_eq!(now.digest, Digest::blake3(&fs::read(&path).unwrap()), "{what}");
    }
}

#[test]
fn any_damage_makes_it_empty_and_never_wrong() {
    let f = Fixture::new();
    for name in ["a", "b", "c"] {
        f.write(name, name);
    }
    f.settle();
    let cache = f.load();
    for name in ["a", "b", "c"] {
        cache.hash_path(&f.path(name)).unwrap();
    }
    cache.save().unwrap();
    let good = fs::read(f.cache_path()).unwrap();
    assert_eq!(f.load().len(), 3);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(f.cache_path(), &bad).unwrap();
        let cache = f.load();
        // Some bytes of the header are reserved.
        assert!(cache.is_empty() || at < 64, "flipped at {at}");
        for name in ["a", "b", "c"] {
            let found = cache.lookup(&key(&f.path(name)));
            assert!(found.is_none_or(|found| found == Digest::blake3(name.as_bytes())), "flipped at {at}");
        }
        fs::write(f.cache_path(), &good[..at]).unwrap();
        assert!(f.load().is_empty(), "cut at {at}");
    }
    fs::write(f.cache_path(), [&good[..], b"x"].concat()).unwrap();
    assert!(f.load().is_empty());
}

#[test]
fn what_is_not_used_any_more_goes() {
    let f = Fixture::new();
    let (used, unused) = (f.write("used", "u"), f.write("unused", "n"));
    f.settle();
    let cache = f.load();
    cache.hash_path(&used).unwrap();
    cache.hash_path(&unused).unwrap();
    cache.save().unwrap();
    let settled = |number: u64| StatKey { dev: 0, ino: number, size: 1, mtime_ns: 1, ctime_ns: 1 };
    for save in 0..=IDLE_SAVES_MAX {
        let cache = f.load();
        assert!(cache.lookup(&key(&used)).is_some());
        assert_eq!(cache.len() as u64, 2 + save);
        cache.note(settled(save), Digest::blake3(b"x"), i64::MAX);
        assert!(cache.save().unwrap());
    }
    let cache = f.load();
    assert!(cache.lookup(&key(&used)).is_some());
    assert!(cache.lookup(&key(&unused)).is_none());
}

#[test]
fn links_folders_and_pipes_are_not_hashed() {
    let f = Fixture::new();
    let path = f.write("a", "x");
    symlink(&path, f.path("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, f.path("pipe"), rustix::fs::Mode::RWXU).unwrap();
    let cache = f.load();
    for name in ["link", "pipe", "", "nothing"] {
        assert!(cache.hash_path(&f.path(name)).is_err(), "{name}");
    }
}

#[test]
fn many_records_are_found_in_any_order() {
    let f = Fixture::new();
    let keyed = |number: u64| StatKey {
        dev: number % 3,
        ino: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        size: number,
        mtime_ns: number as i64,
        ctime_ns: number as i64,
    };
    let cache = f.load();
    for number in 0..20_000u64 {
        cache.note(keyed(number), Digest::blake3(&number.to_le_bytes()), i64::MAX);
    }
    cache.save().unwrap();
    let cache = f.load();
    assert_eq!(cache.len(), 20_000);
    for number in (0..20_000u64).chain((0..20_000).rev()) {
        assert_eq!(cache.lookup(&keyed(number)), Some(Digest::blake3(&number.to_le_bytes())));
    }
    assert_eq!(cache.lookup(&keyed(20_000)), None);
}

#[test]
fn two_caches_of_one_project_do_not_hurt_each_other() {
    let f = Fixture::new();
    let (a, b) = (f.write("a", "1"), f.write("b", "2"));
    f.settle();
    let (one, two) = (f.load(), f.load());
    one.hash_path(&a).unwrap();
    two.hash_path(&b).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| one.save().unwrap());
        scope.spawn(|| two.save().unwrap());
    });
    assert_eq!(f.load().len(), 1, "the last one wins, whole");
    assert_eq!(fs::read_dir(f.path("cache")).unwrap().count(), 1);
    assert_eq!(fs::metadata(f.cache_path()).unwrap().size(), 64 + 80);
}

/// Whether this kernel gives each change a time of its own on the file system of `folder`, by what its release notes say.
fn tells_changes_apart(folder: &Path) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let kind = rustix::fs::statfs(folder).unwrap().f_type;
    version >= (6, 13) && [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994].contains(&kind)
}

#[test]
fn what_nobody_writes_any_more_is_known_however_young() {
    let f = Fixture::new();
    let cache = f.load();
    let path = f.write("a", "content");
    let (young, digest) = (key(&path), Digest::blake3(b"content"));
    cache.note_ended(young, digest);
    let expect = tells_changes_apart(f.temp.path()).then_some(digest);
    assert_eq!(cache.lookup(&young), expect);
    // It is written again at once, just as long, and again: no content is taken for another.
    for number in 0..2000 {
        let content = format!("c{number:06}");
        fs::write(&path, &content).unwrap();
        let (now, digest) = (key(&path), Digest::blake3(content.as_bytes()));
        assert_eq!(cache.lookup(&now), None, "{number}");
        cache.note_ended(now, digest);
        assert_eq!(cache.lookup(&now).is_some(), expect.is_some(), "{number}");
    }
}

#[test]
fn a_file_system_without_a_clock_is_not_believed() {
    let f = Fixture::new();
    let cache = DigestCache::load(&f.cache_path());
    let path = f.write("a", "content");
    cache.note_ended(key(&path), Digest::blake3(b"content"));
    assert_eq!(cache.lookup(&key(&path)), None);
}
