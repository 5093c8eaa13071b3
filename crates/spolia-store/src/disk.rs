//! What a folder takes up on the disk: `folder → Usage`. Knows nothing of what is in it.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes in one of the blocks that `stat` counts.
const BLOCK_BYTES: u64 = 512;

/// What lies below a folder. A file with several names counts once, a link is not followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files, links and the like; no folders.
    pub files: usize,
    /// Blocks on the disk, those of folders too, bytes.
    pub bytes: u64,
    /// Files and folders that could not be looked at, without which the other numbers are too small.
    pub unread: usize,
}

/// Looks at everything below `folder`; a folder that is not there has nothing in it.
pub fn usage(folder: &Path) -> Usage {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                usage.unread += usize::from(error.kind() != std::io::ErrorKind::NotFound);
                continue;
            }
        };
        for entry in entries {
            let Ok((found, entry)) = entry.and_then(|entry| Ok((entry.metadata()?, entry))) else {
                usage.unread += 1;
                continue;
            };
            if found.is_dir() {
                usage.bytes += found.blocks() * BLOCK_BYTES;
                open.push(entry.path());
            } else if found.nlink() < 2 || seen.insert((found.dev(), found.ino())) {
                usage.files += 1;
                usage.bytes += found.blocks() * BLOCK_BYTES;
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (inner, outside) = (temp.path().join("a/b"), temp.path().join("outside"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(&outside, vec![1; 100_000]).unwrap();
        std::fs::write(inner.join("one"), vec![1; 20_000]).unwrap();
        let alone = usage(&temp.path().join("a"));
        assert_eq!((alone.files, alone.unread), (1, 0));
        assert!(alone.bytes >= 20_000, "{alone:?}");
        std::fs::hard_link(inner.join("one"), temp.path().join("a/two")).unwrap();
        std::os::unix::fs::symlink(&outside, inner.join("link")).unwrap();
        let more = usage(&temp.path().join("a"));
        assert_eq!(more.files, 2);
        assert!(more.bytes < alone.bytes + 20_000, "{more:?}");
        assert_eq!(usage(&temp.path().join("none")), Usage::default());
    }
}
