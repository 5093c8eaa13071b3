//! Two archives, member by member: the first that differs, and in which field.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use spolia_core::codec::escape;

use crate::archive::{Format, reader};
use crate::checksums;

/// What is compared of a member, in the order in which it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    path: String,
    fields: Vec<(&'static str, String)>,
}

/// The first difference; `None` where all members are the same.
pub(super) fn first_difference(format: Format, a: &Path, b: &Path) -> io::Result<Option<String>> {
    let (one, two) = (list(format, a)?, list(format, b)?);
    for (a, b) in one.iter().zip(&two) {
        if a.path != b.path {
            return Ok(Some(format!("where the first build has `{}`, the second has `{}`", a.path, b.path)));
        }
        let differs = a.fields.iter().zip(&b.fields).find(|(a, b)| a != b);
        if let Some(((field, a_value), (_, b_value))) = differs {
            return Ok(Some(format!("the {field} of `{}` is {a_value}, then {b_value}", a.path)));
        }
    }
    let longer = if one.len() > two.len() { one.get(two.len()) } else { two.get(one.len()) };
    Ok(longer.map(|member| format!("only one of the builds has `{}`", member.path)))
}

fn list(format: Format, path: &Path) -> io::Result<Vec<Facts>> {
    let file = BufReader::new(File::open(path)?);
    if format == Format::Zip {
        return zip(file);
    }
    let mut archive = tar::Archive::new(reader(format, file)?);
    let mut found = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header().clone();
        let path = escape(&entry.path_bytes());
        let link = entry.link_name_bytes().map(|link| escape(&link)).unwrap_or_default();
        let sums = checksums::of(&mut entry, &[])?;
        let fields = vec![
            ("kind", format!("{:?}", header.entry_type())),
            ("mode", format!("{:04o}", header.mode()?)),
            ("owner", format!("{}:{}", header.uid()?, header.gid()?)),
            ("time", header.mtime()?.to_string()),
            ("size", sums.size.to_string()),
            ("target", link),
            ("content", format!("sha256 {}", sums.sha256.to_hex())),
        ];
        found.push(Facts { path, fields });
    }
    Ok(found)
}

fn zip(file: BufReader<File>) -> io::Result<Vec<Facts>> {
    let mut archive = zip::ZipArchive::new(file).map_err(io::Error::from)?;
    let mut found = Vec::new();
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(io::Error::from)?;
        let mut fields = vec![
            ("mode", format!("{:o}", entry.unix_mode().unwrap_or_default())),
            ("time", entry.last_modified().map(|time| time.to_string()).unwrap_or_default()),
            ("size", entry.size().to_string()),
        ];
        let path = escape(entry.name_raw());
        let most = entry.size();
        let sums = checksums::of(&mut (&mut entry).take(most), &[])?;
        fields.push(("content", format!("sha256 {}", sums.sha256.to_hex())));
        found.push(Facts { path, fields });
    }
    Ok(found)
}
