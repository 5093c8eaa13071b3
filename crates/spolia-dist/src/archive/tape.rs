//! `members → tar`: GNU's form, whose long names and large sizes GNU tar, bsdtar, busybox and Python read. A name
//! is bytes as it is; no PAX header is ever written.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use spolia_core::{Digest, RelPath};
use tar::{Builder, EntryType, Header};

use super::Options;
use super::source::{Source, check_machine};
use crate::plan::{Kind, Member};

/// How much of a target a header holds; a longer one gets an entry of its own before it.
const LINK_BYTES_MAX: usize = 100;
/// What other programs take as a path.
const PATH_BYTES_MAX: usize = 4096;

/// Whether tar can hold it.
pub(super) fn fits(member: &Member) -> Result<(), String> {
    if member.path.as_bytes().len() > PATH_BYTES_MAX {
        return Err(format!("its path is longer than {PATH_BYTES_MAX} bytes"));
    }
    match &member.kind {
        Kind::Symlink { target } if target.contains(&0) => Err("its target holds a NUL byte".to_owned()),
        Kind::Symlink { target } if target.is_empty() => Err("its target is empty".to_owned()),
        _ => Ok(()),
    }
}

/// Writes them all, and the end of the tar; SHA-256 of each file.
pub(super) fn write(
    members: &[Member],
    into: &mut dyn Write,
    options: &Options<'_>,
) -> io::Result<Vec<Option<Digest>>> {
    let mut builder = Builder::new(into);
    let mut digests = Vec::with_capacity(members.len());
    for member in members {
        let mut header = header(member, options.epoch);
        let digest = match &member.kind {
            Kind::File { digest, size, at } => {
                header.set_entry_type(EntryType::Regular);
                let mut source = Source::open(at, *digest, *size, options)?;
                builder.append_data(&mut header, member.path.as_path(), &mut source)?;
                check_machine(&source, member, options)?;
                Some(source.finish()?)
            }
            Kind::Symlink { target } => {
                header.set_entry_type(EntryType::Symlink);
                append_link(&mut builder, &mut header, &member.path, target)?;
                None
            }
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                let mut path = member.path.as_bytes().to_vec();
                path.push(b'/');
                builder.append_data(&mut header, Path::new(OsStr::from_bytes(&path)), io::empty())?;
                None
            }
        };
        digests.push(digest);
    }
    builder.into_inner()?;
    Ok(digests)
}

/// What is the same for every kind of member.
fn header(member: &Member, epoch: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(member.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    header.set_size(member.size_bytes());
    header
}

fn append_link<W: Write>(
    builder: &mut Builder<W>,
    header: &mut Header,
    path: &RelPath,
    target: &[u8],
) -> io::Result<()> {
    if target.len() > LINK_BYTES_MAX {
        return builder.append_link(header, path.as_path(), Path::new(OsStr::from_bytes(target)));
    }
    // As it is: the other way takes `./` and `//` out.
    header.set_link_name_literal(target)?;
    builder.append_data(header, path.as_path(), io::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Origin, PLAIN};

    /// `cargo xtask dist-large` packs such files; here only their headers are read, by somebody else.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests start the readers of archives")]
    fn sizes_that_octal_digits_cannot_hold_are_read_by_python() {
        for size in [0, (1 << 33) - 1, 1 << 33, (1 << 40) + 5] {
            let kind = Kind::File { digest: Digest::blake3(b""), size, at: "x".into() };
            let path = RelPath::new("x").unwrap();
            let mut header = header(&Member { path, mode: PLAIN, kind, origin: Origin::Made }, 1 << 34);
            header.set_path("x").unwrap();
            header.set_cksum();
            let script = "import sys, tarfile; i = tarfile.TarInfo.frombuf(bytes.fromhex(sys.argv[1]), 'utf-8', 'strict'); print(i.size, i.mtime)";
            let hex: String = header.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            let said = std::process::Command::new("python3").args(["-c", script, &hex]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), format!("{size} {}", 1u64 << 34));
        }
    }
}
