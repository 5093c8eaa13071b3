//! One target folder for each checkout, all under one root: checkout → folder, and back. Runs nothing.
//!
//! ```text
//! ROOT/CACHEDIR.TAG
//! ROOT/NAME-HASH/                  NAME: the checkout's last name, HASH: 16 digits of BLAKE3 of its path
//! ROOT/NAME-HASH/spolia-checkout   "spolia checkout 1\n" path "\n"       escaped as keys are
//! ROOT/.gone-PID-HASH              one that is being removed
//! ```
//!
//! A folder counts as managed only while its name is the one that the path it records gives: whatever else lies in the
//! root is nobody's to remove.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use spolia_core::Digest;
use spolia_core::codec::{escape, unescape};

const RECORD: &str = "spolia-checkout";
const HEADER: &str = "spolia checkout 1\n";
const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n# Target folders kept by spolia.\n";
/// The longest record that is read, bytes.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// Whether the checkout of a folder is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkout {
    /// It is.
    There,
    /// The folder that held it is there, and it is not.
    Gone,
    /// Neither is: a disk that is not mounted perhaps.
    Unknown,
}

/// A managed target folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The target folder.
    pub folder: PathBuf,
    /// The folder of the workspace it belongs to.
    pub checkout: PathBuf,
    /// Whether that is there.
    pub state: Checkout,
}

/// Why there is no target folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{}`", path.display())]
pub struct TargetError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    move |source| TargetError { what, path: path.to_owned(), source }
}

/// The name of the folder of a checkout.
fn name_of(checkout: &Path) -> String {
    let last = checkout.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let name: String = last.chars().take(60).map(|letter| if plain(letter) { letter } else { '_' }).collect();
    format!("{name}-{}", &Digest::blake3(checkout.as_os_str().as_bytes()).to_hex()[..16])
}

/// The target folder of the workspace in `checkout` under `root`; made where it is not there.
///
/// # Errors
/// What cannot be made or read.
pub fn folder_for(root: &Path, checkout: &Path) -> Result<PathBuf, TargetError> {
    let checkout = checkout.canonicalize().map_err(at("find", checkout))?;
    let folder = root.join(name_of(&checkout));
    let record = folder.join(RECORD);
    if read(&record).is_some_and(|known| known == checkout) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder).map_err(at("make", &folder))?;
    let tag = root.join("CACHEDIR.TAG");
    if !tag.exists() {
        std::fs::write(&tag, TAG).map_err(at("write", &tag))?;
    }
    let text = format!("{HEADER}{}\n", escape(checkout.as_os_str().as_bytes()));
    let whole = folder.join(format!("{RECORD}-{}", std::process::id()));
    std::fs::write(&whole, text).map_err(at("write", &whole))?;
    std::fs::rename(&whole, &record).map_err(at("write", &record))?;
    Ok(folder)
}

fn read(record: &Path) -> Option<PathBuf> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(record).ok()?.take(RECORD_BYTES_MAX).read_to_string(&mut text).ok()?;
    let path = text.strip_prefix(HEADER)?.strip_suffix('\n')?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(unescape(path)?)))
}

/// The managed folders under `root`, by their checkouts. What else lies there is left out.
///
/// # Errors
/// The root cannot be listed; one that is not there has no folders.
pub fn list(root: &Path) -> Result<Vec<Managed>, TargetError> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("list", root)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at("list", root))?;
        let folder = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Some(checkout) = read(&folder.join(RECORD)) else { continue };
        if entry.file_name() != *name_of(&checkout) {
            continue;
        }
        let state = match (checkout.is_dir(), checkout.parent().is_some_and(Path::is_dir)) {
            (true, _) => Checkout::There,
            (false, true) => Checkout::Gone,
            (false, false) => Checkout::Unknown,
        };
        found.push(Managed { folder, checkout, state });
    }
    found.sort_by(|one, other| one.checkout.cmp(&other.checkout));
    Ok(found)
}

/// Removes a managed folder: out of its place first, so that one half removed is never used.
///
/// # Errors
/// What cannot be removed.
pub fn remove(root: &Path, managed: &Managed) -> Result<(), TargetError> {
    let away = root.join(format!(".gone-{}-{}", std::process::id(), name_of(&managed.checkout)));
    std::fs::rename(&managed.folder, &away).map_err(at("remove", &managed.folder))?;
    std::fs::remove_dir_all(&away).map_err(at("remove", &away))
}

/// Removes what removals that were broken off have left.
pub fn finish_removals(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let is_left = entry.file_name().as_bytes().starts_with(b".gone-")
            && entry.path().join(RECORD).is_file()
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_left {
            // The next call tries again.
            let _left = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_checkout_has_a_folder_of_its_own_and_finds_it_again() {
        let temp = tempfile::tempdir().unwrap();
        let temp = temp.path().canonicalize().unwrap();
        let root = temp.join("targets");
        let odd = std::ffi::OsString::from_vec(b"a b\n\xff".to_vec());
        let checkouts = [temp.join("one/app"), temp.join("two/app"), temp.join(odd)];
        for checkout in &checkouts {
            std::fs::create_dir_all(checkout).unwrap();
        }
        let folders: Vec<PathBuf> =
            checkouts.iter().map(|checkout| folder_for(&root, checkout).unwrap()).collect();
        assert!(folders[0] != folders[1] && folders.iter().all(|folder| folder.is_dir()));
        std::os::unix::fs::symlink(&checkouts[0], temp.join("link")).unwrap();
        assert_eq!(folder_for(&root, &temp.join("link")).unwrap(), folders[0]);
        let mut known: Vec<PathBuf> = list(&root).unwrap().into_iter().map(|known| known.checkout).collect();
        known.sort();
        let mut expected = checkouts.to_vec();
        expected.sort();
        assert_eq!(known, expected);
    }

    #[test]
    fn only_what_is_managed_and_gone_is_called_gone() {
        let temp = tempfile::tempdir().unwrap();
        let temp = temp.path().canonicalize().unwrap();
        let root = temp.join("targets");
        let (gone, far) = (temp.join("gone"), temp.join("disk/far"));
        for checkout in [&gone, &far] {
            std::fs::create_dir_all(checkout).unwrap();
            folder_for(&root, checkout).unwrap();
        }
        // A folder of another's, and one whose record names another checkout.
        std::fs::create_dir_all(root.join("mine")).unwrap();
        std::fs::create_dir_all(root.join("lies-0123456789abcdef")).unwrap();
        let lie = format!("{HEADER}{}\n", escape(gone.as_os_str().as_bytes()));
        std::fs::write(root.join("lies-0123456789abcdef").join(RECORD), lie).unwrap();
        std::fs::remove_dir_all(&gone).unwrap();
        std::fs::remove_dir_all(temp.join("disk")).unwrap();
        let found = list(&root).unwrap();
        let states: Vec<_> = found.iter().map(|known| (known.checkout.clone(), known.state)).collect();
        assert_eq!(states, [(far, Checkout::Unknown), (gone, Checkout::Gone)]);
        remove(&root, &found[1]).unwrap();
        assert_eq!(list(&root).unwrap().len(), 1);
        assert!(root.join("mine").is_dir() && root.join("lies-0123456789abcdef").is_dir());
    }
}
