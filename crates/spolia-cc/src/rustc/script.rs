//! Build scripts: a launcher takes the place of the program that cargo starts, and what the program writes is kept.
//!
//! ```text
//! build/foo-1/build_script_build-1        the launcher: a few lines for /bin/sh, which cargo links to `build-script-build`
//! build/foo-1/build_script_build-1.real   the program: a hard link to the store's
//! build/foo-1/out/                        OUT_DIR, which is kept and put back with what the program printed
//! ```
//!
//! cargo goes by the launcher's time, never by its content. Where Spolia is not there any more, the launcher runs the program.
//! A run is kept where all that it read is known: files, folders, names looked for, variables, programs with theirs. It is not
//! where the script asks for the time of day, connects a socket, writes elsewhere, or finds its folder not empty.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use spolia_core::key::{HashWriter, KeyWriter, Value};
use spolia_core::result::Stream;
use spolia_core::{Digest, DigestFunction};

use super::folders::{self, Folders};
use super::reads::Allowed;
use super::restore::{self, How};
use super::walk::{self, Outputs, Task, Walk};
use crate::call::{End, Options};
use crate::outcome::Outcome;
use crate::replay::{self, ReplayError};
use crate::sets::KeptOutput;
use crate::tally::Record;
use crate::{Call, Room, Story};

/// The word by which a launcher calls Spolia.
pub const SUBCOMMAND: &str = "__build-script";
const KEY_VERSION: u64 = 2;

/// Where the program lies whose place the launcher takes.
pub(super) fn real(launcher: &Path) -> PathBuf {
    let mut name = launcher.as_os_str().to_owned();
    name.push(".real");
    PathBuf::from(name)
}

/// The launcher's text; `None` where a path cannot be written in it.
fn launcher(spolia: &Path, digest: &[u8; 32], name: &OsStr) -> Option<Vec<u8>> {
    let hex = Digest::new(DigestFunction::Blake3, *digest).to_hex();
    let (spolia, name) = (spolia.to_str()?, name.to_str()?);
    if [spolia, name].iter().any(|text| text.contains(['\'', '\n', '"', '$', '`', '\\'])) {
        return None;
    }
    Some(
        format!(
            "#!/bin/sh\n\
             # Spolia keeps what this build script writes. The script itself is beside this file.\n\
             r=\"${{0%/*}}/{name}\"\n\
             [ -x '{spolia}' ] && exec '{spolia}' {SUBCOMMAND} {hex} \"$r\" \"$0\" \"$@\"\n\
             exec \"$r\" \"$@\"\n"
        )
        .into_bytes(),
    )
}

fn failed(verb: &'static str, path: &Path, source: std::io::Error) -> ReplayError {
    ReplayError::Place { verb, path: path.to_owned(), source }
}

/// Puts a kept build script in place, with its launcher.
///
/// # Errors
/// It is gone from the store; the place cannot be written.
pub(super) fn plant(room: &Room, kept: &KeptOutput, path: &Path) -> Result<(), ReplayError> {
    let real = real(path);
    let Some(text) = text_for(kept, &real) else { return restore::put(room, kept, path, How::Copy) };
    let _none_there = std::fs::remove_file(&real);
    let blob = kept.blob().map(|digest| room.store.plain_path(digest));
    // It is looked at again before it runs, and mostly does not.
    if blob.is_none_or(|blob| std::fs::hard_link(blob, &real).is_err()) {
        restore::put(room, kept, &real, How::Copy)?;
    }
    replay::write(path, &text, true)
}

/// The same where the program has just been made at `path`.
///
/// # Errors
/// The place cannot be written; then the program is where it was.
pub(super) fn plant_after_compile(room: &Room, kept: &KeptOutput, path: &Path) -> Result<(), ReplayError> {
    let real = real(path);
    let Some(text) = text_for(kept, &real) else { return Ok(()) };
    let vouched = kept.blob().filter(|digest| restore::is_vouched(room, path, digest));
    std::fs::rename(path, &real).map_err(|error| failed("rename", path, error))?;
    if let Some(digest) = vouched {
        // Its new name is a new time of change, and it runs in a moment.
        restore::vouch(room, &real, &digest);
    }
    replay::write(path, &text, true).inspect_err(|_| {
        let _stays = std::fs::rename(&real, path);
    })
}

fn text_for(kept: &KeptOutput, real: &Path) -> Option<Vec<u8>> {
    let spolia = std::fs::read_link("/proc/self/exe").ok()?;
    launcher(&spolia, &kept.digest, real.file_name()?)
}

/// What a launcher says: the script's digest, the program, what it was called, its arguments.
pub struct Launched<'l> {
    /// BLAKE3 of the program, in hex.
    pub digest: &'l OsStr,
    /// The program.
    pub real: PathBuf,
    /// What cargo called it.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Becomes the build script.
pub fn just_run(launched: Launched<'_>, env: &crate::Env, cwd: PathBuf) -> End {
    let call = Call { program: launched.real, name: launched.name, args: launched.args, env, cwd };
    End::NotStarted(crate::call::become_the_compiler(&call))
}

/// Runs a build script, or puts back what it wrote.
pub fn run(
    launched: Launched<'_>,
    env: &crate::Env,
    cwd: PathBuf,
    options: &Options,
    print: &mut dyn FnMut(Stream, &[u8]),
) -> End {
    let digest = launched.digest.to_str().and_then(|hex| Digest::from_hex(DigestFunction::Blake3, hex).ok());
    let call = Call { program: launched.real, name: launched.name, args: launched.args, env, cwd };
    let story = Story::of(&call, options);
    let mut walk =
        Walk { call: &call, options, print, record: Record::default(), story, expected: None, counted_us: 0 };
    walk.record.compiler = "build-script".to_owned();
    walk.record.session.clone_from(&options.session);
    walk.record.folder = spolia_core::codec::escape(call.cwd.as_os_str().as_encoded_bytes());
    walk.record.source = env.some("CARGO_PKG_NAME").map(|name| name.to_string_lossy().into_owned());
    let Ok(room) = walk.room() else { return walk.become_it() };
    match digest
        .ok_or_else(|| Outcome::Internal("the launcher is damaged".to_owned()))
        .and_then(|digest| plan(&call, options, &room, digest))
    {
        Ok(task) => walk.cached(&room, &task),
        Err(outcome) => {
            walk.note(&room, &outcome);
            walk.become_it()
        }
    }
}

pub(super) fn plan(call: &Call<'_>, options: &Options, room: &Room, digest: Digest) -> Result<Task, Outcome> {
    let env = call.env;
    let path = |name: &str| env.some(name).map(PathBuf::from);
    let internal = |what: &str| Outcome::Internal(what.to_owned());
    let out_dir = path("OUT_DIR")
        .filter(|folder| folder.is_absolute())
        .ok_or_else(|| internal("OUT_DIR is not set"))?;
    let out_dir = folders::clean(&out_dir);
    let mut folders = Folders::default();
    if let Some(target) = folders::target_folder(&out_dir, env.some("TARGET").and_then(OsStr::to_str)) {
        folders.add(b'T', &target);
    }
    if let Some(home) = path("CARGO_HOME").or_else(|| options.home.as_ref().map(|home| home.join(".cargo"))) {
        folders.add(b'C', &home);
    }
    let rustc = path("RUSTC").filter(|rustc| rustc.is_absolute());
    if let Some(toolchain) = rustc.as_deref().and_then(walk::toolchain_of) {
        folders.add(b'S', &toolchain);
    }
    folders.add(b'W', &call.cwd);
    let mut writer = HashWriter::new();
    writer.field("build-script", Value::Number(KEY_VERSION));
    writer.field("program", Value::Digest(digest));
    writer.field("folder", Value::Bytes(&folders.write(call.cwd.as_os_str().as_bytes())));
    writer.field("out", Value::Bytes(&folders.write(out_dir.as_os_str().as_bytes())));
    // Scripts ask it, perhaps by way of a wrapper that answers from memory.
    if let Some(rustc) = &rustc
        && let Ok((_, digest)) = room.memo.digest(rustc)
    {
        writer.field("rustc", Value::Digest(digest));
    }
    for word in &call.args {
        writer.field("", Value::Bytes(word.as_bytes()));
    }
    // Beside what is the store's own lie the target folders that are kept for checkouts.
    let own = vec![out_dir.clone(), room.store.base().to_owned()];
    let hidden = env.iter().filter_map(|(name, _)| name.to_str().map(str::to_owned)).collect();
    Ok(Task {
        language: "build script",
        key: writer.finish(),
        program: call.program.clone(),
        args: call.args.clone(),
        options: Vec::new(),
        outputs: Outputs::Tree(out_dir.clone()),
        allowed: Allowed {
            outputs: Vec::new(),
            own,
            scratch: walk::temporary(call, &folders),
            listings: Vec::new(),
            out_dir: Some(out_dir),
            hidden,
            library: None,
            spolia: None,
            clock: true,
            metadata_only: false,
            looks: true,
        },
        reads_sources: false,
        script: None,
        sessions: None,
        launched: Some(digest.to_hex()),
        folders,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_runs_the_program_where_spolia_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("build_script_build-1");
        std::fs::write(real(&path), "#!/bin/sh\necho ran \"$@\"\n").unwrap();
        let text =
            launcher(Path::new("/no/such/spolia"), &[7; 32], real(&path).file_name().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        for file in [path.clone(), real(&path)] {
            std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let program = spolia_engine::compile::Program {
            path: &path,
            arg0: path.as_os_str(),
            args: &["a b".into()],
            env: &[],
            folder: None,
        };
        let said = program.ask().unwrap();
        let said: Vec<_> =
            spolia_core::result::Log::chunks(said.log.as_bytes()).map(|(_, bytes)| bytes.to_vec()).collect();
        assert_eq!(said, [b"ran a b\n"]);
    }

    #[test]
    fn odd_names_get_no_launcher() {
        assert!(launcher(Path::new("/a'b"), &[7; 32], OsStr::new("x")).is_none());
        assert!(launcher(Path::new("/a"), &[7; 32], OsStr::new("$(x)")).is_none());
    }
}
