//! Where the compiler cannot be observed: the key holds the preprocessed text instead. Slower, and right for what a
//! compile reads by way of the preprocessor; what it reads by other ways is not cached then.
//!
//! The kernel may refuse to let us observe (an old one, a container's filter, somebody observing already). A compile
//! that met that leaves `v1/cc/unobserved`, and for [`BELIEVED`] calls start here.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use spolia_core::Digest;
use spolia_engine::End;
use spolia_engine::compile::Program;

use super::args::{Language, Parsed, Product};
use super::marks;
use crate::Room;
use crate::call::{Call, NotKept};
use crate::chain;
use crate::direct::Seen;
use crate::outcome::{NotCacheable, Outcome};
use crate::site::find;

/// How long after it was noticed it is believed that nothing can be observed.
const BELIEVED: Duration = Duration::from_secs(600);

/// Whether a call a short while ago could not be observed.
pub(super) fn is_needed(room: &Room) -> bool {
    let noticed = std::fs::metadata(room.beside("unobserved")).and_then(|found| found.modified());
    noticed.is_ok_and(|noticed| noticed.elapsed().is_ok_and(|age| age < BELIEVED))
}

/// Notes that a call could not be observed.
pub(super) fn note_needed(room: &Room) {
    // What is not noted is noticed again.
    let _unnoted = std::fs::write(room.beside("unobserved"), b"");
}

/// What the preprocessor made of a source.
pub(super) struct Preprocessed {
    /// Of the text, written without the root's path.
    pub(super) digest: Digest,
    files: Vec<PathBuf>,
    began_ns: i64,
}

fn hidden(argument: &str) -> Outcome {
    let argument = format!("{argument}, and the compiler cannot be observed here");
    Outcome::NotCacheable { reason: NotCacheable::HiddenInputs, argument: Some(argument) }
}

/// Preprocesses the source of a call.
///
/// # Errors
/// The call reads files by other ways, or could not be preprocessed.
pub(super) fn preprocess(room: &Room, call: &Call<'_>, parsed: &Parsed) -> Result<Preprocessed, Outcome> {
    let by_specs = parsed.toolchain.iter().any(|option| find(option.as_bytes(), b"specs=").is_some());
    if parsed.profile_use || by_specs {
        return Err(hidden("a file is named that only the compiler reads"));
    }
    if parsed.language == Language::PlainAssembler || parsed.product == Product::Header {
        return Err(hidden("its source is not preprocessed text"));
    }
    let began_ns = room.memo.clock_ns_now();
    let text_file = room.scratch();
    let mut args = without_outputs(&call.args).ok_or_else(|| hidden("a response file is used"))?;
    args.extend([OsString::from("-E"), "-o".into(), text_file.clone().into()]);
    let path = &call.program;
    let env = [chain::told(call.env, path)];
    let program = Program { path, arg0: path.as_os_str(), args: &args, env: &env, folder: None };
    let ran = program.ask();
    let text = std::fs::read(&text_file);
    // It may never have been made.
    let _not_there = std::fs::remove_file(text_file);
    let text = match (ran, text) {
        (Ok(ran), Ok(text)) if ran.end == End::Exited(0) => text,
        // The compile says it better.
        _ => return Err(Outcome::NotCacheable { reason: NotCacheable::Failed, argument: None }),
    };
    if find(&text, b"incbin").is_some() || find(&text, b".include").is_some() {
        return Err(hidden("the assembler reads files"));
    }
    let files = files_of(&text);
    for file in &files {
        let mut compiled = file.clone().into_os_string();
        compiled.push(".gch");
        if rustix::fs::stat(PathBuf::from(compiled)).is_ok() {
            return Err(hidden("a compiled header"));
        }
    }
    let written = room.site.hide_root(&text, b"\0root").text;
    Ok(Preprocessed { digest: Digest::blake3(&written), files, began_ns })
}

/// The arguments without those that name outputs or ask for dependencies; `None` where they may be in a file.
fn without_outputs(args: &[OsString]) -> Option<Vec<OsString>> {
    let mut kept = Vec::with_capacity(args.len());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let raw = arg.as_bytes();
        if raw.starts_with(b"@") {
            return None;
        }
        let takes_next: &[&[u8]] = &[b"-o", b"-MF", b"-MT", b"-MQ"];
        if takes_next.contains(&raw) {
            args.next();
        } else if !raw.starts_with(b"-o") && !raw.starts_with(b"-M") && !raw.starts_with(b"-Wp,-M") {
            kept.push(arg.clone());
        }
    }
    Some(kept)
}

/// The files that line markers name: `# 12 "path" 1 3`.
pub fn files_of(text: &[u8]) -> Vec<PathBuf> {
    let mut files = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"# ")) {
        let mut parts = line.split(|byte| *byte == b'"');
        if let (Some(_), Some(path)) = (parts.next(), parts.next())
            && !path.is_empty()
            && !path.starts_with(b"<")
            && !path.ends_with(b"/")
        {
            files.insert(PathBuf::from(OsStr::from_bytes(path)));
        }
    }
    files.into_iter().collect()
}

impl Preprocessed {
    /// What the compile depended on beside the text: nothing, if no file changed since it was made.
    pub(super) fn seen(&self, room: &Room) -> Result<Seen, NotKept> {
        for file in &self.files {
            let Ok((key, _, marked)) = room.memo.scan(file, &marks::of) else { continue };
            if key.mtime_ns.max(key.ctime_ns) >= self.began_ns {
                return Err(NotKept::Now(format!("`{}` changed while the compiler ran", file.display())));
            }
            if marked & marks::TIME != 0 {
                return Err(NotKept::Never(NotCacheable::TimeMacro, Some(file.display().to_string())));
            }
        }
        Ok(Seen::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_left_out() {
        let words = |text: &str| -> Vec<OsString> { text.split(' ').map(OsString::from).collect() };
        let left = without_outputs(&words("-O2 -o x.o -MMD -MF d -Wp,-MD,x -c x.c -ox -MTt")).unwrap();
        assert_eq!(left, words("-O2 -c x.c"));
        assert_eq!(without_outputs(&words("-c @rsp")), None);
    }

    #[test]
    fn line_markers_name_files() {
        let text = b"# 0 \"x.c\"\n# 0 \"<built-in>\"\n# 1 \"/usr/include/stdio.h\" 1 3 4\n# 1 \"/tmp/a//\"\n# 1 \"\" 2\nint a;\n";
        assert_eq!(files_of(text), [PathBuf::from("/usr/include/stdio.h"), PathBuf::from("x.c")]);
    }
}
