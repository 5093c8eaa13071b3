//! The machine, from `/proc`. Knows no commands.

use spolia_core::Digest;

use crate::record::Host;

/// This machine, of which a process may use `processors`.
pub fn host(processors: usize) -> Host {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let platform = spolia_core::Platform::host().to_string();
    let (os, arch) = platform.split_once('/').unwrap_or((&platform, ""));
    let mut host = Host {
        fingerprint: String::new(),
        os: os.to_owned(),
        arch: arch.to_owned(),
        cpu: read("/proc/cpuinfo").as_deref().and_then(cpu_name),
        num_cpu: u64::try_from(processors).ok(),
        memory_gib: read("/proc/meminfo").as_deref().and_then(memory_gib),
        kernel: read("/proc/sys/kernel/osrelease").map(|release| release.trim().to_owned()),
    };
    host.fingerprint = fingerprint(&host);
    host
}

/// The digest of the other fields, 16 hexadecimal digits.
fn fingerprint(host: &Host) -> String {
    let Host { fingerprint: _, os, arch, cpu, num_cpu, memory_gib, kernel } = host;
    let text = format!("{os}\0{arch}\0{cpu:?}\0{num_cpu:?}\0{memory_gib:?}\0{kernel:?}");
    let digest = Digest::blake3(text.as_bytes()).to_string();
    digest.rsplit(':').next().unwrap_or(&digest).chars().take(16).collect()
}

fn cpu_name(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn memory_gib(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kib / f64::from(1 << 20)).round() as u64)
}

/// Load over 1, 5 and 15 minutes.
pub fn load() -> Option<[f64; 3]> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let mut fields = text.split_whitespace().map(str::parse);
    let mut next = || fields.next()?.ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_differ_have_other_fingerprints_and_say_how() {
        let one = host(2);
        assert_eq!(one, host(2));
        assert_eq!(one.fingerprint.len(), 16);
        let other = host(4);
        assert_ne!(one.fingerprint, other.fingerprint);
        assert_eq!(one.differences(&other), ["processors: 2 → 4"]);
        assert_eq!(memory_gib("MemTotal:       24625316 kB\n"), Some(23));
        assert_eq!(cpu_name("model name\t: A  B\n").as_deref(), Some("A B"));
        assert_eq!(cpu_name(""), None);
    }
}
