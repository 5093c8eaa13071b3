//! What a program says of itself: machine, interpreter, libraries, and paths of the place where it was built.
//!
//! Source: System V ABI, "Program Loading and Dynamic Linking". The names of interpreters are those of glibc and musl.

use object::elf::{DT_NEEDED, DT_STRTAB, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};
use spolia_core::elf::{self, Machine};
use spolia_core::path::escape;

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// What it is for.
    pub machine: Machine,
    /// The program that starts it; `None` for one that is linked statically, or a library.
    pub interpreter: Option<String>,
    /// The libraries it names, in its order.
    pub needed: Vec<String>,
}

/// Reads an ELF file; `None` where it is none.
///
/// # Errors
/// Why its headers make no sense.
pub fn read(data: &[u8]) -> Result<Option<Binary>, String> {
    let Some(machine) = elf::machine(data) else { return Ok(None) };
    let found = match FileKind::parse(data) {
        Ok(FileKind::Elf32) => headers::<FileHeader32<Endianness>>(data),
        Ok(FileKind::Elf64) => headers::<FileHeader64<Endianness>>(data),
        Ok(_) => return Ok(None),
        Err(error) => Err(error),
    };
    let (interpreter, needed) = found.map_err(|error| error.to_string())?;
    Ok(Some(Binary { machine, interpreter, needed }))
}

type Found = (Option<String>, Vec<String>);

fn headers<E: FileHeader<Endian = Endianness>>(data: &[u8]) -> object::read::Result<Found> {
    let header = E::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut interpreter = None;
    let mut needed = Vec::new();
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data)? {
            interpreter = Some(escape(path));
        }
        let Some(entries) = segment.dynamic(endian, data)? else { continue };
        let value = |entry: &E::Dyn| -> u64 { entry.d_val(endian).into() };
        let table = entries.iter().find(|entry| entry.d_tag(endian) == DT_STRTAB).map(value);
        for entry in entries.iter().filter(|entry| entry.d_tag(endian) == DT_NEEDED) {
            let name =
                table.and_then(|table| text::<E>(segments, endian, data, table.checked_add(value(entry))?));
            needed.push(name.unwrap_or_else(|| "?".to_owned()));
        }
    }
    Ok((interpreter, needed))
}

/// The text that lies at an address once the file is loaded.
fn text<E: FileHeader<Endian = Endianness>>(
    segments: &[E::ProgramHeader],
    endian: Endianness,
    data: &[u8],
    address: u64,
) -> Option<String> {
    for segment in segments {
        let (start, size): (u64, u64) = (segment.p_vaddr(endian).into(), segment.p_filesz(endian).into());
        let Some(inside) = address.checked_sub(start).filter(|inside| *inside < size) else { continue };
        let content = segment.data(endian, data).ok()?;
        let rest = content.get(usize::try_from(inside).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        return Some(escape(&rest[..end]));
    }
    None
}

/// The interpreters that a machine's programs may name.
fn interpreters(machine: Machine) -> &'static [&'static str] {
    match machine {
        Machine::X86_64 => &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"],
        Machine::AARCH64 => &["/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"],
        Machine::X86 => &["/lib/ld-linux.so.2", "/lib/ld-musl-i386.so.1"],
        Machine::ARM => &["/lib/ld-linux-armhf.so.3", "/lib/ld-linux.so.3", "/lib/ld-musl-armhf.so.1"],
        Machine::RISCV => &["/lib/ld-linux-riscv64-lp64d.so.1", "/lib/ld-musl-riscv64.so.1"],
        Machine::PPC64 => &["/lib64/ld64.so.2", "/lib/ld-musl-powerpc64le.so.1"],
        Machine::S390 => &["/lib/ld64.so.1", "/lib/ld-musl-s390x.so.1"],
        _ => &[],
    }
}

/// What is wrong with a program for `wanted`; `paths` are those that nothing that ships may hold.
pub fn problems(binary: &Binary, data: &[u8], wanted: Option<Machine>, paths: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != binary.machine) {
        found.push(format!("is for {}, not for {wanted}", binary.machine));
    }
    let usual = interpreters(binary.machine);
    if let Some(own) = &binary.interpreter
        && !usual.is_empty()
        && !usual.contains(&own.as_str())
    {
        found.push(format!("is started by `{own}`, which other machines do not have"));
    }
    for library in binary.needed.iter().filter(|library| library.contains('/')) {
        found.push(format!("needs `{library}` by its path"));
    }
    found.extend(build_paths(data, paths));
    found
}

/// Which of `paths` are in `data`, where a name ends.
pub fn build_paths(data: &[u8], paths: &[Vec<u8>]) -> Vec<String> {
    let holds = |path: &Vec<u8>| {
        path.len() > 1
            && memchr::memmem::find_iter(data, path).any(|at| {
                let next = data.get(at + path.len());
                next.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"_-.".contains(byte))
            })
    };
    paths
        .iter()
        .filter(|path| holds(path))
        .map(|path| format!("holds the path `{}` of its build", escape(path)))
        .collect()
}

impl std::fmt::Display for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.machine)?;
        match (&self.interpreter, self.needed.is_empty()) {
            (None, true) => write!(f, ", static"),
            (_, true) => write!(f, ", no libraries"),
            _ => write!(f, ", needs {}", self.needed.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_itself_is_read() {
        let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let binary = read(&data).unwrap().unwrap();
        assert!(binary.needed.iter().any(|library| library.starts_with("libc.so")), "{binary:?}");
        let interpreter = binary.interpreter.clone().unwrap();
        assert!(interpreters(binary.machine).contains(&interpreter.as_str()), "{interpreter}");
        assert_eq!(problems(&binary, &data, Some(binary.machine), &[]), Vec::<String>::new());
        // With its end: what the compiler puts behind it is not known.
        static HELD: &[u8] = b"a path that only this test holds\0";
        let path = HELD.strip_suffix(b"\0").unwrap().to_vec();
        let wrong = problems(&binary, &data, Some(Machine(1)), &[path]);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn damaged_headers_are_no_panic() {
        let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(read(b"#!/bin/sh").unwrap(), None);
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize
        };
        let head = &data[..data.len().min(64 << 10)];
        for round in 0..3000 {
            let mut damaged = head[..head.len().min(64 + random() % 4096)].to_vec();
            for _ in 0..1 + round % 8 {
                let at = random() % damaged.len().min(1024);
                damaged[at] = random() as u8;
            }
            let _either = read(&damaged);
        }
    }

    #[test]
    fn a_path_counts_where_it_ends() {
        let paths = [b"/home/u/p".to_vec()];
        assert_eq!(build_paths(b"x/home/u/p/src", &paths).len(), 1);
        assert_eq!(build_paths(b"x/home/u/project", &paths).len(), 0);
        assert_eq!(build_paths(b"/home/u/p", &paths).len(), 1);
    }
}
