//! What `cargo`, `rustc` and `rustup` say of themselves: `program × arguments → text`, asked once and then remembered.
//!
//! An answer is remembered with the `stat` of everything that decides which program a name means and what that is:
//!
//! | what | why |
//! |---|---|
//! | the name in each folder of `PATH` up to where it is | another may come before it |
//! | the program itself, and the folder `lib` beside its own | it may be replaced |
//! | of rustup's stand-ins also its settings, `rust-toolchain` files from the folder up, its folder of toolchains | they choose the program |
//!
//! The variables that may change an answer are in its name. Only what is surely a compiler, Cargo or rustup is believed:
//! a program for this machine that bears its own name. A script may say something else tomorrow, so it is asked each time.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spolia_store::StatKey;

use crate::glance::{self, Glance, Stat};

/// How a program for this machine begins.
const ELF: &[u8] = b"\x7fELF";

/// A question to a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'q> {
    /// Its name, or a path.
    pub(crate) program: &'q OsStr,
    /// `+nightly`, `-vV`, …
    pub(crate) words: &'q [OsString],
    /// Where it is asked.
    pub(crate) folder: &'q Path,
    /// The caller's whole environment.
    pub(crate) env: &'q [(OsString, OsString)],
}

/// A path, and what `stat` said of it. `None`: it is not there.
type Seen = (PathBuf, Option<Stat>);

/// An answer, and all that it follows from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// What was said.
    pub(crate) said: String,
    seen: Vec<Seen>,
}

impl Answer {
    /// Whether nothing has changed since.
    pub(crate) fn still_holds(&self, glance: &Glance) -> bool {
        self.seen.iter().all(|(path, stat)| glance.stat(path) == *stat)
    }
}

/// Asks the rustup at a path.
type Which<'w> = dyn FnMut(&Path, &[OsString]) -> Option<Vec<u8>> + 'w;

/// What the answer to a question will follow from.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Vec<Seen>,
}

impl Watch {
    /// Looks at all that decides about a question; `None` where that is not known whole. `which` asks the rustup at
    /// a path where the program of a name is, in the question's folder.
    pub(crate) fn over(question: Question<'_>, which: &mut Which<'_>) -> Option<Self> {
        let mut watch = Self::default();
        let found = watch.find(question)?;
        let real = found.canonicalize().ok()?;
        let name = Path::new(question.program).file_name()?;
        let beside = found.with_file_name("rustup");
        let is_stand_in = real.file_name() == Some(OsStr::new("rustup")) || is_same(&found, &beside);
        if !is_stand_in {
            return watch.program(&real, name).then_some(watch);
        }
        watch.rustup(question)?;
        if !watch.program(&real, real.file_name()?) {
            return None;
        }
        if name != "rustup" {
            let mut words: Vec<OsString> = vec!["which".into()];
            let plus = question.words.first().and_then(|word| word.as_bytes().strip_prefix(b"+"));
            if let Some(toolchain) = plus {
                words.extend(["--toolchain".into(), OsString::from_vec(toolchain.to_vec())]);
            }
            words.push(name.to_owned());
            let rustup = if beside.is_file() { beside } else { real };
            let said = which(&rustup, &words)?;
            let program = PathBuf::from(OsStr::from_bytes(said.trim_ascii_end()));
            watch.note(&program);
            if !watch.program(&program.canonicalize().ok()?, name) {
                return None;
            }
        }
        Some(watch)
    }

    fn note(&mut self, path: &Path) {
        self.seen.push((path.to_owned(), glance::stat(path)));
    }

    /// The program that the name means, as a shell looks for it.
    fn find(&mut self, question: Question<'_>) -> Option<PathBuf> {
        let path = Path::new(question.program);
        if path.is_absolute() {
            self.note(path);
            return Some(path.to_owned());
        }
        if path.components().count() > 1 {
            return None;
        }
        let search = &question.env.iter().find(|(name, _)| name == "PATH")?.1;
        for folder in std::env::split_paths(search) {
            if !folder.is_absolute() {
                return None;
            }
            let path = folder.join(path);
            self.note(&path);
            let is_program =
                |found: std::fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
            if std::fs::metadata(&path).is_ok_and(is_program) {
                return Some(path);
            }
        }
        None
    }

    /// Notes a program and what it brings; whether it is one by its name and its first bytes.
    fn program(&mut self, real: &Path, name: &OsStr) -> bool {
        use std::io::Read;
        self.note(real);
        if let Some(lib) = real.parent().and_then(Path::parent).map(|prefix| prefix.join("lib")) {
            self.note(&lib);
        }
        let mut head = [0; ELF.len()];
        let read = std::fs::File::open(real).and_then(|mut file| file.read_exact(&mut head));
        read.is_ok() && head == ELF && real.file_name() == Some(name)
    }

    /// What rustup chooses a toolchain by.
    fn rustup(&mut self, question: Question<'_>) -> Option<()> {
        let var = |wanted: &str| question.env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let home = match var("RUSTUP_HOME") {
            Some(home) => question.folder.join(home),
            None => Path::new(var("HOME")?).join(".rustup"),
        };
        for name in ["settings.toml", "toolchains"] {
            self.note(&home.join(name));
        }
        self.note(Path::new("/etc/rustup/settings.toml"));
        for above in question.folder.ancestors() {
            self.note(&above.join("rust-toolchain"));
            self.note(&above.join("rust-toolchain.toml"));
        }
        Some(())
    }

    /// The answer with what it follows from; `None` where something was changed so lately that another change might not
    /// show, or while it was asked. `began_ns`: the time before anything was looked at, ns since 1970.
    pub(crate) fn remember(self, said: &str, began_ns: i64) -> Option<Answer> {
        let is_settled = |seen: &Seen| {
            seen.1.is_none_or(|(dev, ino, size, mtime_ns, ctime_ns)| {
                StatKey { dev, ino, size, mtime_ns, ctime_ns }.is_settled(began_ns)
            })
        };
        let answer = Answer { said: said.to_owned(), seen: self.seen };
        (answer.seen.iter().all(is_settled) && answer.still_holds(&Glance::default())).then_some(answer)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    id(one).is_some() && id(one) == id(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER_NS: i64 = i64::MAX / 2;

    struct Stand {
        temp: tempfile::TempDir,
    }

    impl Stand {
        fn new() -> Self {
            let stand = Self { temp: tempfile::tempdir().unwrap() };
            for folder in ["a", "b", "p", "home/.rustup/toolchains"] {
                std::fs::create_dir_all(stand.path(folder)).unwrap();
            }
            stand
        }

        fn path(&self, path: &str) -> PathBuf {
            self.temp.path().canonicalize().unwrap().join(path)
        }

        fn program(&self, path: &str, text: &str) {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }

        /// What is remembered of `rustc -vV`, with this program behind rustup.
        fn ask(&self, behind: Option<&str>) -> Option<Answer> {
            let search = format!("{}:{}", self.path("a").display(), self.path("b").display());
            let env = [("PATH".into(), search.into()), ("HOME".into(), self.path("home").into_os_string())];
            let words = [OsString::from("-vV")];
            let question =
                Question { program: OsStr::new("rustc"), words: &words, folder: &self.path("p"), env: &env };
            let mut which = |_: &Path, words: &[OsString]| {
                assert_eq!(words, ["which", "rustc"]);
                behind.map(|path| format!("{}\n", self.path(path).display()).into_bytes())
            };
            Watch::over(question, &mut which)?.remember("rustc 1", LATER_NS)
        }
    }

    #[test]
    fn whatever_would_answer_otherwise_is_seen() {
        let check = |what: &str, change: &dyn Fn(&Stand)| {
            let stand = Stand::new();
            stand.program("b/rustc", "\x7fELF 1");
            let answer = stand.ask(None).expect(what);
            assert!(answer.still_holds(&Glance::default()), "{what}");
            change(&stand);
            assert!(!answer.still_holds(&Glance::default()), "{what}");
        };
        check("another before it", &|stand| stand.program("a/rustc", "\x7fELF 2"));
        check("it is replaced", &|stand| stand.program("b/rustc", "\x7fELF 10"));
        check("it is gone", &|stand| std::fs::remove_file(stand.path("b/rustc")).unwrap());
        check("a library beside it", &|stand| std::fs::create_dir(stand.path("lib")).unwrap());
    }

    #[test]
    fn what_rustup_goes_by_is_seen() {
        let check = |what: &str, change: &dyn Fn(&Stand)| {
            let stand = Stand::new();
            stand.program("b/rustup", "\x7fELF rustup");
            std::os::unix::fs::symlink("rustup", stand.path("b/rustc")).unwrap();
            let real = "home/.rustup/toolchains/stable/bin/rustc";
            stand.program(real, "\x7fELF 1");
            assert!(stand.ask(None).is_none(), "rustup does not say where it is");
            let answer = stand.ask(Some(real)).expect(what);
            assert!(answer.still_holds(&Glance::default()), "{what}");
            change(&stand);
            assert!(!answer.still_holds(&Glance::default()), "{what}");
        };
        let write = |path: &'static str| move |stand: &Stand| std::fs::write(stand.path(path), "x").unwrap();
        check("the default is another", &write("home/.rustup/settings.toml"));
        check("a file chooses", &write("p/rust-toolchain.toml"));
        check("a file above chooses", &write("rust-toolchain"));
        check("the toolchain is updated", &write("home/.rustup/toolchains/stable/bin/rustc"));
        check("another toolchain", &|stand| {
            std::fs::create_dir(stand.path("home/.rustup/toolchains/nightly")).unwrap();
        });
    }

    #[test]
    fn what_may_say_anything_is_not_believed() {
        let stand = Stand::new();
        assert!(stand.ask(None).is_none(), "there is none");
        stand.program("b/rustc", "#!/bin/sh\n");
        assert!(stand.ask(None).is_none(), "a script");
        stand.program("b/mise", "\x7fELF");
        std::fs::remove_file(stand.path("b/rustc")).unwrap();
        std::os::unix::fs::symlink("mise", stand.path("b/rustc")).unwrap();
        assert!(stand.ask(None).is_none(), "somebody else's stand-in");
        std::fs::remove_file(stand.path("b/rustc")).unwrap();
        stand.program("b/rustc", "\x7fELF");
        let env = [("PATH".into(), stand.path("b").into_os_string())];
        let question =
            Question { program: OsStr::new("rustc"), words: &[], folder: &stand.path("p"), env: &env };
        let watch = Watch::over(question, &mut |_, _| None).unwrap();
        assert!(watch.remember("rustc 1", 0).is_none(), "it was changed just now");
    }
}
