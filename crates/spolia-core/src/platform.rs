//! Platform algebra: `linux/amd64` and friends, `any`, and what each needs by default. Pure data.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    fn compilers_are_crossed_only_for_foreign_platforms() {
        let host: Platform = "linux/amd64".parse().unwrap();
        let arm: Platform = "linux/arm64".parse().unwrap();
        assert_eq!(host.default_vars(&host)["cc"], "gcc");
        assert_eq!(arm.default_vars(&host)["cc"], "aarch64-linux-gnu-gcc");
        assert_eq!(arm.elf_machine(), Some(Machine::AARCH64));
        assert_eq!(Platform::Any.elf_machine(), None);
    }
}
