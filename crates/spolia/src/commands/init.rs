//! `spolia init`: `the tree → a first manifest`, written where none is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};

use spolia_build::index::Index;
use spolia_build::init::{Proposal, propose};
use spolia_core::RelPath;
use spolia_core::glob::PatternList;
use spolia_store::DigestCache;

use crate::cli::InitArgs;
use crate::exit::{Exit, Failure};
use crate::project::MANIFEST;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// The most of a file that is read to see what it is, bytes.
const LOOK_BYTES_MAX: u64 = 1 << 20;

/// Runs it.
pub(crate) fn run(args: &InitArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let root = settings
        .cwd
        .canonicalize()
        .map_err(|error| Failure::usage(format!("cannot enter `{}`: {error}", settings.cwd.display())))?;
    let path = root.join(MANIFEST);
    if path.symlink_metadata().is_ok() && !args.force && !args.dry_run {
        return Err(Failure::usage(format!("`{}` is there already", path.display()))
            .hint("`--dry-run` prints what would be written; `--force` replaces it"));
    }
    let Proposal { text, notes } = look(&root)?;
    if args.dry_run && !shell.is_json() {
        shell.out(&text);
    }
    if !args.dry_run {
        write(&path, &text, args.force)?;
    }
    if shell.is_json() {
        shell.json_line(&serde_json::json!({
            "path": path.display().to_string(),
            "written": !args.dry_run,
            "text": text,
            "notes": notes,
        }));
        return Ok(Exit::Success);
    }
    if !args.dry_run {
        shell.status(Tone::Good, "wrote", &path.display().to_string());
    }
    for note in &notes {
        shell.status(Tone::Plain, "note", note);
    }
    if !args.dry_run {
        shell.err("hint: `spolia build` runs it; `spolia doctor` looks for what it needs\n");
    }
    Ok(Exit::Success)
}

/// What git does not ignore, looked at.
fn look(root: &std::path::Path) -> Result<Proposal, Failure> {
    let all =
        PatternList::parse(RelPath::root(), &["**"]).map_err(|error| Failure::usage(error.to_string()))?;
    let digests = DigestCache::load(std::path::Path::new("/nonexistent"));
    let index = Index::new(root, &[&all], BTreeSet::new(), &digests)
        .map_err(|error| Failure::from_error(Exit::Environment, &error))?;
    let files: Vec<RelPath> = index.files().cloned().collect();
    let mut read = |path: &RelPath| {
        let mut text = String::new();
        let file = File::open(path.under(root)).ok()?;
        file.take(LOOK_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    };
    Ok(propose(&files, &mut read))
}

/// Whole or not at all, and never over a file that somebody else has just written.
fn write(path: &std::path::Path, text: &str, replace: bool) -> Result<(), Failure> {
    let staged = path.with_extension(format!("toml.{}.tmp", std::process::id()));
    let written = File::create_new(&staged).and_then(|mut file| file.write_all(text.as_bytes()));
    let placed = written.and_then(|()| {
        if replace { std::fs::rename(&staged, path) } else { std::fs::hard_link(&staged, path) }
    });
    let _gone = std::fs::remove_file(&staged);
    placed.map_err(|error| Failure::environment(format!("cannot write `{}`: {error}", path.display())))
}
