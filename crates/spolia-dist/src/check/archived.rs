//! What is in an archive against what its manifest says. Reads a stream; writes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use spolia_core::RelPath;
use spolia_core::codec::escape;
use tar::EntryType;

use crate::archive::{Format, reader};
use crate::checksums;
use crate::record::{MemberRecord, PlatformRecord};

/// As many problems as are told of one archive.
const TOLD_MAX: usize = 20;
/// What a tar may have beyond the content of its members, bytes for each: headers, padding, a long name.
const OVERHEAD_BYTES: u64 = 16 << 10;

/// One member as it was found.
struct Found {
    path: Vec<u8>,
    kind: &'static str,
    mode: u32,
    link: Option<String>,
    sha256: Option<String>,
    size: u64,
}

/// Every way in which the archive at `path` is not what `record` says.
pub(super) fn check(path: &Path, record: &PlatformRecord, epoch: u64) -> Vec<String> {
    let mut checker = Members {
        wanted: record.files.iter().map(|file| (file.path.as_bytes().to_vec(), file)).collect(),
        problems: Vec::new(),
        more: 0,
    };
    let read = match Format::of_name(&record.archive.name) {
        Some(Format::Zip) => zip(path, &mut checker),
        Some(format) => tar(path, format, record, epoch, &mut checker),
        None => Err(io::Error::other("its ending is no kind of archive")),
    };
    if let Err(error) = read {
        checker.tell(format!("cannot be read: {error}"));
    }
    let missing: Vec<String> = checker.wanted.values().map(|file| file.path.to_string()).collect();
    for path in missing {
        checker.tell(format!("`{path}` is in the manifest and not in the archive"));
    }
    if checker.more > 0 {
        let more = checker.more;
        checker.problems.push(format!("and {more} more"));
    }
    checker.problems
}

struct Members<'m> {
    wanted: BTreeMap<Vec<u8>, &'m MemberRecord>,
    problems: Vec<String>,
    more: usize,
}

impl Members<'_> {
    fn tell(&mut self, problem: String) {
        if self.problems.len() < TOLD_MAX { self.problems.push(problem) } else { self.more += 1 }
    }

    fn take(&mut self, found: &Found) {
        let shown = escape(&found.path);
        let trimmed = found.path.strip_suffix(b"/").unwrap_or(&found.path);
        if RelPath::strict(trimmed).is_err() || trimmed.is_empty() {
            self.tell(format!("`{shown}` would leave the folder it is unpacked in"));
            return;
        }
        let Some(wanted) = self.wanted.remove(trimmed) else {
            self.tell(format!("`{shown}` is in it and not in the manifest, or in it twice"));
            return;
        };
        if found.kind != wanted.kind {
            self.tell(format!("`{shown}` is a {}, and the manifest says {}", found.kind, wanted.kind));
        }
        if format!("{:04o}", found.mode) != wanted.mode {
            self.tell(format!(
                "the mode of `{shown}` is {:04o}, and the manifest says {}",
                found.mode, wanted.mode
            ));
        }
        if found.sha256 != wanted.sha256 || found.size != wanted.size.unwrap_or(0) {
            self.tell(format!("the content of `{shown}` is not the one in the manifest"));
        }
        if found.link != wanted.link {
            self.tell(format!("`{shown}` points to another place than the manifest says"));
        }
    }
}

/// Ends with an error where more comes than may.
struct Limited<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other("there is more in it than its manifest says"))?;
        Ok(length)
    }
}

fn tar(
    path: &Path,
    format: Format,
    record: &PlatformRecord,
    epoch: u64,
    members: &mut Members<'_>,
) -> io::Result<()> {
    let file = BufReader::new(File::open(path)?);
    let from = reader(format, file)?;
    let sizes: u64 = record.files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add);
    let left = sizes.saturating_add((record.files.len() as u64 + 4).saturating_mul(OVERHEAD_BYTES));
    let mut archive = tar::Archive::new(Limited { from, left });
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let path = entry.path_bytes().into_owned();
        let shown = escape(&path);
        let (owner, group, time) = (header.uid()?, header.gid()?, header.mtime()?);
        if (owner, group) != (0, 0) {
            members.tell(format!("`{shown}` belongs to {owner}:{group}"));
        }
        if time != epoch {
            members.tell(format!("the time of `{shown}` is {time}, and the manifest says {epoch}"));
        }
        let kind = match header.entry_type() {
            EntryType::Regular => "file",
            EntryType::Symlink => "link",
            EntryType::Directory => "folder",
            _ => "thing of another kind",
        };
        let mode = header.mode()?;
        let link = if kind == "link" { entry.link_name_bytes().map(|link| escape(&link)) } else { None };
        let (sha256, size) = if kind == "file" {
            let sums = checksums::of(&mut entry, &[])?;
            (Some(sums.sha256.to_hex()), sums.size)
        } else {
            (None, 0)
        };
        members.take(&Found { path, kind, mode, link, sha256, size });
    }
    Ok(())
}

fn zip(path: &Path, members: &mut Members<'_>) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(BufReader::new(File::open(path)?)).map_err(io::Error::from)?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(io::Error::from)?;
        let mode = entry.unix_mode().unwrap_or_default();
        let kind = match mode & 0o170_000 {
            0o120_000 => "link",
            0o040_000 => "folder",
            0o100_000 => "file",
            _ => "thing of another kind",
        };
        let path = entry.name_raw().to_vec();
        let wanted = members.wanted.get(path.strip_suffix(b"/").unwrap_or(&path));
        let most = wanted.and_then(|wanted| wanted.size).unwrap_or(4096);
        let mut link = None;
        let (mut sha256, mut size) = (None, 0);
        // One byte more than there may be shows that there is more.
        let mut content = (&mut entry).take(most.saturating_add(1));
        match kind {
            "link" => {
                let mut target = Vec::new();
                content.read_to_end(&mut target)?;
                link = Some(escape(&target));
            }
            "file" => {
                let sums = checksums::of(&mut content, &[])?;
                (sha256, size) = (Some(sums.sha256.to_hex()), sums.size);
            }
            _ => {}
        }
        members.take(&Found { path, kind, mode: mode & 0o7777, link, sha256, size });
    }
    Ok(())
}
