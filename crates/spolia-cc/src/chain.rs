//! Programs between us and the compiler that may call us again: scripts named like a compiler, and other compiler caches by
//! their links. Each would find our link in `PATH`, and we theirs, without end.
//!
//! What we start as a compiler is told so in [`CALLED`], and a call that is told so passes these programs over. The outer of two calls
//! is the one that is cached: what the inner one put back, the outer one would not see being read.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::Env;
use crate::detect::{self, Kind};

/// The variable in which a compiler is told what we started: paths with `:` between them, the outermost first.
pub const CALLED: &str = "SPOLIA_CALLED";

/// Other compiler caches. Behind us they would hide from us what a compile reads.
const CACHES: &[&str] = &["ccache", "sccache"];

/// What was started by us above this call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(Vec<PathBuf>);

impl Chain {
    /// As the environment says it.
    pub fn of(env: &Env) -> Self {
        let said = env.some(CALLED).unwrap_or_default().as_bytes();
        let paths = said.split(|byte| *byte == b':').filter(|path| !path.is_empty());
        Self(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
    }

    /// Whether one of them is a C compiler: this call is then a part of that one.
    pub fn has_compiler(&self) -> bool {
        let is_c = |path: &PathBuf| {
            matches!(detect::kind_of_name(path.as_os_str()), Some(Kind::Gcc | Kind::Clang | Kind::Zig))
        };
        self.0.iter().any(is_c)
    }

    /// Where the compiler `name` is found in `search`, passing over what is in the chain, this very program (`own`: device and inode) and
    /// links to other caches. Where such a one is named with a slash, its name is looked for; it is taken itself if there is nothing else.
    pub fn find(&self, name: &OsStr, search: &OsStr, own: Option<(u64, u64)>) -> Option<PathBuf> {
        let identity = |path: &Path| rustix::fs::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let above: Vec<_> = self.0.iter().filter_map(|path| identity(path)).collect();
        let is_above =
            |path: &Path| !above.is_empty() && identity(path).is_some_and(|id| above.contains(&id));
        let fits = |path: &Path| !is_above(path) && !leads_to_cache(path);
        if !name.as_bytes().contains(&b'/') {
            return detect::find_program_that(name, search, own, fits);
        }
        let given = detect::find_program(name, search, own)?;
        if fits(&given) {
            return Some(given);
        }
        let other = detect::find_program_that(given.file_name()?, search, own, fits);
        other.or_else(|| (!is_above(&given)).then_some(given))
    }
}

/// What a program that we start as a compiler is told: what was started above it, and itself.
pub fn told(env: &Env, program: &Path) -> (OsString, Option<OsString>) {
    let mut called = env.some(CALLED).unwrap_or_default().as_bytes().to_vec();
    if !called.is_empty() {
        called.push(b':');
    }
    called.extend_from_slice(program.as_os_str().as_bytes());
    (OsString::from(CALLED), Some(OsString::from_vec(called)))
}

/// Whether a program is another compiler cache, or a link of a compiler's name to one.
pub fn leads_to_cache(path: &Path) -> bool {
    let is_cache =
        |path: &Path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| CACHES.contains(&name));
    let link = || rustix::fs::readlink(path, Vec::new()).ok();
    is_cache(path) || link().is_some_and(|target| is_cache(Path::new(OsStr::from_bytes(target.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_called_above_and_other_caches_are_passed_over() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        let program = |path: &str| {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), "").unwrap();
            std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("script/gcc");
        program("bin/ccache");
        program("bin/gcc");
        std::fs::create_dir(at("cache")).unwrap();
        symlink("../bin/ccache", at("cache/gcc")).unwrap();
        symlink("../bin/ccache", at("cache/clang")).unwrap();
        let search = std::env::join_paths(["cache", "script", "bin"].map(at)).unwrap();
        let find = |chain: &Chain, name: &OsStr| chain.find(name, &search, None);
        let above = Chain::of(&Env::new(vec![
            told(&Env::default(), &at("script/gcc")).1.map(|value| (OsString::from(CALLED), value)).unwrap(),
        ]));
        assert!(above.has_compiler() && !Chain::default().has_compiler());
        assert_eq!(find(&Chain::default(), OsStr::new("gcc")), Some(at("script/gcc")));
        assert_eq!(find(&above, OsStr::new("gcc")), Some(at("bin/gcc")));
        assert_eq!(find(&above, at("script/gcc").as_os_str()), Some(at("bin/gcc")));
        assert_eq!(find(&above, at("cache/gcc").as_os_str()), Some(at("bin/gcc")));
        // There is no other of this name.
        assert_eq!(find(&above, OsStr::new("clang")), None);
        assert_eq!(find(&above, at("cache/clang").as_os_str()), Some(at("cache/clang")));
    }
}
