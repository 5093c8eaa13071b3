//! `spolia cache recompress`: the store's packed blobs, packed again at a higher level.

use serde_json::json;
use spolia_store::repack::{self, Repacked};

use super::cache::{count, unreadable};
use super::sweep::report::Line;
use super::why::counted;
use crate::exit::{Exit, Failure};
use crate::painter::words;
use crate::project::open_store;
use crate::recorder::now_us;
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

pub(super) fn run(level: i32, dry_run: bool, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let store = open_store(settings)?;
    if !dry_run && !store.is_writable() {
        return Err(Failure::environment(format!("`{}` cannot be written", store.dir().display()))
            .hint("`--dry-run` only says what it would give"));
    }
    let cancel = super::build::cancel_on_signals()?;
    let line = Line::new(settings, shell);
    let mut go_on = |done: u64, of: u64| {
        line.draw("packing", &format!("blob {done} of {of}"));
        !cancel.is_cancelled()
    };
    let packed = repack::repack(&store, level, dry_run, now_us(), &mut go_on);
    line.clear();
    let packed = packed.map_err(|error| unreadable(&error))?;
    let packed = packed.ok_or_else(|| {
        Failure::environment("another process is collecting this store").hint("try again when it has ended")
    })?;
    let stopped = cancel.is_cancelled();
    let exit = if stopped { Exit::Interrupted } else { Exit::Success };
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "cache-recompress",
            "level": level,
            "dry_run": dry_run,
            "stopped": stopped,
            "blobs": packed.blobs,
            "done_before": packed.done_before,
            "smaller": packed.smaller,
            "bytes_before": packed.bytes_before,
            "bytes_after": packed.bytes_after,
            "saved_bytes": packed.saved_bytes(),
            "damaged": packed.damaged,
            "exit_code": exit.code(),
        }));
        return Ok(exit);
    }
    tell(&packed, dry_run, stopped, shell);
    Ok(exit)
}

fn tell(packed: &Repacked, dry_run: bool, stopped: bool, shell: &Shell) {
    let before = match packed.done_before {
        0 => String::new(),
        some => format!("; {some} were at this level before"),
    };
    let what = format!(
        "{} of {} smaller: {} to {}, {} saved{before}",
        packed.smaller,
        counted(count(packed.blobs), "packed blob"),
        words::size(packed.bytes_before),
        words::size(packed.bytes_after),
        words::size(packed.saved_bytes()),
    );
    if dry_run {
        shell.status(Tone::Dim, "dry run", &format!("it would make {what}; nothing was written"));
    } else {
        shell.status(Tone::Good, "packed", &what);
    }
    if packed.damaged > 0 {
        shell.warning(
            &format!("{} could not be read and stay as they are", counted(count(packed.damaged), "blob")),
            &["`spolia cache verify --heal` removes what is damaged; builds make it again".to_owned()],
        );
    }
    if stopped {
        shell.status(Tone::Warning, "stopped", "what was packed by then stays");
    }
}
