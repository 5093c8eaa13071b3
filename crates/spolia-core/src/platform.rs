//! Platform algebra: `linux/amd64` and friends, `any`, and what each needs by default. Pure data.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::diagnostic::nearest;
use crate::elf::Machine;

/// Where a step's outputs run. Spelled as container tools spell it: `os/arch[/variant]`, or `any` for
/// what is the same everywhere (a fetched source, a lint).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    /// Built once, for all platforms.
    Any,
    /// One operating system and processor.
    Named {
        /// `linux`, `darwin`, `windows`, …
        os: String,
        /// `amd64`, `arm64`, `386`, …, with a variant (`arm/v7`).
        arch: String,
    },
}

/// Why a text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a platform (write it as `linux/amd64`, or `any`)")]
pub struct ParsePlatformError {
    /// The text.
    pub found: String,
}

/// `platform`, the variables it has by default, and its ELF machine.
struct Known {
    name: &'static str,
    triple: &'static str,
    machine: Machine,
}

/// Debian's names for its compilers: `TRIPLE-gcc`. On the machine's own platform plain `gcc` is used.
const KNOWN: &[Known] = &[
    Known { name: "linux/amd64", triple: "x86_64-linux-gnu", machine: Machine::X86_64 },
    Known { name: "linux/arm64", triple: "aarch64-linux-gnu", machine: Machine::AARCH64 },
    Known { name: "linux/386", triple: "i686-linux-gnu", machine: Machine::X86 },
    Known { name: "linux/arm/v7", triple: "arm-linux-gnueabihf", machine: Machine::ARM },
    Known { name: "linux/riscv64", triple: "riscv64-linux-gnu", machine: Machine::RISCV },
    Known { name: "linux/ppc64le", triple: "powerpc64le-linux-gnu", machine: Machine::PPC64 },
    Known { name: "linux/s390x", triple: "s390x-linux-gnu", machine: Machine::S390 },
];

/// The words of Go and of container tools for systems and processors: what `go tool dist list` prints.
const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];
const PROCESSORS: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];
/// Other tools' words for them.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("aarch64", "arm64"),
    ("armhf", "arm/v7"),
    ("armv7", "arm/v7"),
    ("i386", "386"),
    ("i686", "386"),
    ("macos", "darwin"),
    ("win32", "windows"),
    ("x64", "amd64"),
    ("x86", "386"),
    ("x86_64", "amd64"),
];

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "arm" => "arm/v7",
            "powerpc64" => "ppc64le",
            other => other,
        };
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        Self::Named { os: os.to_owned(), arch: arch.to_owned() }
    }

    /// The names with built-in defaults, for hints.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|known| known.name)
    }

    /// The ELF machine its programs must have; `None` where none is known (`any`, other systems).
    pub fn elf_machine(&self) -> Option<Machine> {
        self.known().map(|known| known.machine)
    }

    /// Whether it is written in the usual words: those of Go and of container tools, a variant like `v7` after the
    /// processor. [`Platform::Any`] is, and so is the machine's own.
    pub fn is_usual(&self) -> bool {
        let Self::Named { os, arch } = self else { return true };
        let (processor, variant) = processor_and_variant(arch);
        let is_variant = |text: &str| {
            text.strip_prefix('v')
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        *self == Self::host()
            || (SYSTEMS.contains(&os.as_str())
                && PROCESSORS.contains(&processor)
                && variant.is_none_or(is_variant))
    }

    /// The platform in usual words that was probably meant by one that is not.
    pub fn nearest_usual(&self) -> Option<Self> {
        let Self::Named { os, arch } = self else { return None };
        let meant = |wanted: &str, words: &[&'static str]| {
            let other = OTHER_WORDS.iter().find(|(other, _)| *other == wanted).map(|(_, usual)| *usual);
            other.or_else(|| nearest(wanted, words.iter().copied()))
        };
        let (processor, variant) = processor_and_variant(arch);
        let mut arch = meant(processor, PROCESSORS)?.to_owned();
        if let Some(variant) = variant.filter(|_| !arch.contains('/')) {
            arch = format!("{arch}/{variant}");
        }
        let found = Self::Named { os: meant(os, SYSTEMS)?.to_owned(), arch };
        (found != *self && found.is_usual()).then_some(found)
    }

    fn known(&self) -> Option<&'static Known> {
        let name = self.to_string();
        KNOWN.iter().find(|known| known.name == name)
    }

    /// The built-in `${platform.KEY}` values: `os`, `arch`, `suffix`, and for known Linux platforms
    /// `triple`, `cc`, `cxx`, `ar`, `ranlib`, `strip`, `ld`, `cross` (the prefix, empty on `host`).
    /// `[platform."…"]` in a manifest overrides and adds.
    pub fn default_vars(&self, host: &Platform) -> BTreeMap<String, String> {
        let mut vars = BTreeMap::new();
        let mut set = |key: &str, value: &str| vars.insert(key.to_owned(), value.to_owned());
        let Self::Named { os, arch } = self else {
            set("suffix", "");
            return vars;
        };
        set("os", os);
        set("arch", arch);
        set("suffix", &format!("-{}-{}", os, arch.replace('/', "-")));
        let Some(known) = self.known() else { return vars };
        let cross = if self == host { String::new() } else { format!("{}-", known.triple) };
        set("triple", known.triple);
        set("cross", &cross);
        let tools = [
            ("cc", "gcc"),
            ("cxx", "g++"),
            ("ar", "ar"),
            ("ranlib", "ranlib"),
            ("strip", "strip"),
            ("ld", "ld"),
        ];
        for (key, tool) in tools {
            set(key, &format!("{cross}{tool}"));
        }
        vars
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let bad = || ParsePlatformError { found: text.to_owned() };
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let (os, arch) = text.split_once('/').ok_or_else(bad)?;
        let parts = arch.split('/').collect::<Vec<_>>();
        if !word(os) || parts.len() > 2 || !parts.iter().all(|part| word(part)) {
            return Err(bad());
        }
        Ok(Self::Named { os: os.to_owned(), arch: arch.to_owned() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Named { os, arch } => write!(f, "{os}/{arch}"),
        }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// `arm/v7` as `arm` and `v7`.
fn processor_and_variant(arch: &str) -> (&str, Option<&str>) {
    arch.split_once('/').map_or((arch, None), |(processor, variant)| (processor, Some(variant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_rejects() {
        for good in ["any", "linux/amd64", "linux/arm/v7", "darwin/arm64"] {
            assert_eq!(good.parse::<Platform>().unwrap().to_string(), good);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "Linux/amd64", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn usual_words_are_told_from_slips() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        for usual in ["any", "linux/amd64", "linux/arm/v6", "darwin/arm64", "windows/386", "js/wasm"] {
            assert!(platform(usual).is_usual(), "{usual}");
        }
        assert!(Platform::known_names().all(|name| platform(name).is_usual()));
        assert!(Platform::host().is_usual());
        let slips = [
            ("linux/amd46", Some("linux/amd64")),
            ("linx/arm/v7", Some("linux/arm/v7")),
            ("linux/x86_64", Some("linux/amd64")),
            ("macos/aarch64", Some("darwin/arm64")),
            ("linux/armhf", Some("linux/arm/v7")),
            ("linux/arm64/seven", None),
            ("none/cortexm", None),
        ];
        for (slip, meant) in slips {
            assert!(!platform(slip).is_usual(), "{slip}");
            assert_eq!(platform(slip).nearest_usual(), meant.map(platform), "{slip}");
        }
    }

    #[test]
    fn compilers_are_crossed_only_for_foreign_platforms() {
        let host: Platform = "linux/amd64".parse().unwrap();
        let arm: Platform = "linux/arm64".parse().unwrap();
        assert_eq!(host.default_vars(&host)["cc"], "gcc");
        assert_eq!(arm.default_vars(&host)["cc"], "aarch64-linux-gnu-gcc");
        assert_eq!(arm.elf_machine(), Some(Machine::AARCH64));
        assert_eq!(Platform::Any.elf_machine(), None);
    }
}
