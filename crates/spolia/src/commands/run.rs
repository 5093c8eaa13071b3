//! `spolia run -- CMD`: one command as a cached action. `args → Manifest of one step → build`.
//!
//! The step is a shell script that runs the command and then copies what `-o` names to `${out}`, from where
//! it is stored and published in the current folder. The command is quoted byte by byte, so that it may
//! hold anything: no `${…}` in it is a placeholder, and no byte has to be text.
//!
//! What the command prints is passed through as it is; Spolia itself is silent but for warnings and errors.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use spolia_build::build::{Ended, Forced};
use spolia_build::manifest::{Defined, EngineKind, Manifest, Run, Step, StepBody};
use spolia_build::{Build, Options, Planned, Session};
use spolia_core::action::Output;
use spolia_core::event::{EventKind, StepOutcome, Tier};
use spolia_core::glob::PatternList;
use spolia_core::result::Stream;
use spolia_core::{Digest, Event, Platform, RelPath};
use spolia_engine::Cancel;
use spolia_store::{JournalWriter, RunId};

use super::build::{cancel_on_signals, digest_cache, failure, with_session};
use crate::cli::{EngineArg, RunArgs};
use crate::exit::{Exit, Failure};
use crate::painter::{self, Painter, words};
use crate::project::open_store;
use crate::recorder::{Recorder, now_us};
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// What the step's name begins with. No step of a manifest can have such a name.
pub(super) const NAME: &str = "run@";

/// Runs it.
pub(crate) fn run(args: &RunArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let root = settings
        .cwd
        .canonicalize()
        .map_err(|error| Failure::usage(format!("cannot enter `{}`: {error}", settings.cwd.display())))?;
    let manifest = manifest(args, settings)?;
    let store = open_store(settings)?;
    let cancel = cancel_on_signals()?;
    let run = RunId::new(now_us());
    let journal = store.is_writable().then(|| JournalWriter::new(&store, &run));
    let end: Arc<Mutex<Option<StepOutcome>>> = Arc::default();
    let painter = ForRun {
        inner: painter::choose(settings, shell),
        verbose: settings.verbose,
        shell: shell.clone(),
        cancel: Arc::clone(&cancel),
        name: manifest.steps.first().map(|step| step.name.clone()).unwrap_or_default(),
        end: Arc::clone(&end),
    };
    let recorder = Recorder::new(Box::new(painter), journal);
    let sink = |kind| recorder.take(kind);
    let options = options(args, settings);
    let mut ended = with_session(&root, Arc::clone(&store), settings, &cancel, run, &sink, |session| {
        perform(session, &manifest, options, shell)
    });
    if let Ok(ended) = &mut ended {
        super::collect::if_due(&store, Some(&manifest.cache), &mut ended.summary, &sink);
    }
    let outcome = end.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let exit = match &ended {
        Ok(ended) => exit_of(ended, outcome.as_ref()),
        Err(_) => Exit::NotRun,
    };
    if let Ok(Ended { summary, .. }) = &ended {
        recorder.take(EventKind::RunFinished { summary: summary.clone(), exit_code: i32::from(exit.code()) });
    }
    recorder.close();
    ended?;
    Ok(exit)
}

fn perform(
    session: &Session<'_>,
    manifest: &Manifest,
    mut options: Options,
    shell: &Shell,
) -> Result<Ended, Failure> {
    let digests = digest_cache(&session.store, &session.root);
    let raw = |stream: Stream, bytes: &[u8]| match stream {
        Stream::Stdout => shell.out_bytes(bytes),
        Stream::Stderr => shell.err_bytes(bytes),
    };
    if options.forced == Forced::Nothing && log_is_lost(session, manifest, &options, &digests)? {
        // A hit that cannot print what the command printed is none.
        options.forced = Forced::Everything;
    }
    let build = Build::new(session, manifest, &options, &digests).map_err(|error| failure(&error))?;
    let build = if shell.is_json() { build } else { build.with_raw_output(&raw) };
    build.run(None).map_err(|error| failure(&error))
}

/// Whether there is a result, and what the command printed is not in the store any more.
fn log_is_lost(
    session: &Session<'_>,
    manifest: &Manifest,
    options: &Options,
    digests: &spolia_store::DigestCache,
) -> Result<bool, Failure> {
    let build =
        Build::new(session, manifest, options, digests).map_err(|error| failure(&error))?.only_looking();
    Ok(build.plan().nodes.iter().any(|(_, planned)| match planned {
        Planned::UpToDate(known) | Planned::Restore(known, _) => build.log(&known.result).is_none(),
        _ => false,
    }))
}

fn options(args: &RunArgs, settings: &Settings) -> Options {
    Options {
        steps: Vec::new(),
        platforms: Vec::new(),
        jobs: settings.processors(),
        engine: if args.engine == Some(EngineArg::Host) { EngineKind::Host } else { EngineKind::Sandbox },
        engine_asked: args.engine.is_some(),
        forced: if args.no_cache { Forced::Everything } else { Forced::Nothing },
        store_results: true,
        keep_going: false,
        replay: true,
    }
}

/// The manifest with its one step.
fn manifest(args: &RunArgs, settings: &Settings) -> Result<Manifest, Failure> {
    let mut outputs = Vec::new();
    for path in &args.outputs {
        let bad = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("`-o {}` cannot be kept: {why}", path.display()))
                .hint("name a file or folder below the current folder, relative to it")
        };
        let rel = RelPath::new(path.as_os_str().as_bytes()).map_err(|error| bad(&error))?;
        if rel.is_root() {
            return Err(bad(&"it is the current folder itself"));
        }
        outputs.push(Output { path: rel, allow_empty: args.allow_empty, any_machine: true });
    }
    outputs.sort_by(|a, b| a.path.cmp(&b.path));
    outputs.dedup_by(|later, earlier| later.path.is_within(&earlier.path));
    let inputs = PatternList::parse(RelPath::root(), &args.inputs)
        .map_err(|error| Failure::usage(format!("`-i`: {error}")))?;
    let words: Vec<&[u8]> = args.command.iter().map(|word| word.as_bytes()).collect();
    let body = StepBody {
        folder: RelPath::root(),
        run: Run::Shell(script(&words, &outputs)),
        needs: Vec::new(),
        inputs,
        input_texts: args.inputs.clone(),
        env: BTreeMap::new(),
        pass_env: args.env.clone(),
        tools: tools(args, settings),
        outputs,
        to: Some(".".to_owned()),
        source: None,
        network: args.network,
        mounts: Vec::new(),
        timeout_ms: args.timeout.and_then(|limit| u64::try_from(limit.as_millis()).ok()),
        retries: 0,
        pool: None,
        engine: None,
        strict_base: false,
        salt: String::new(),
    };
    let step = Step {
        name: name(&words, &body.outputs),
        defined: Defined { file: RelPath::root(), line: 0 },
        bodies: BTreeMap::from([(Platform::Any, Arc::new(body))]),
    };
    let mut manifest = Manifest::default();
    manifest.platforms.push(Platform::host());
    manifest.steps.push(step);
    Ok(manifest)
}

/// One name for each command and set of outputs, so that commands in one folder have a memory each.
fn name(words: &[&[u8]], outputs: &[Output]) -> String {
    let mut all = words.join(&0);
    for output in outputs {
        all.extend_from_slice(b"\0\0");
        all.extend_from_slice(output.path.as_bytes());
    }
    format!("{NAME}{}", Digest::blake3(&all).short())
}

/// The command's own program, where it is one, and those that were named.
fn tools(args: &RunArgs, settings: &Settings) -> Vec<String> {
    let mut tools = args.tools.clone();
    let program = args.command.first().and_then(|word| word.to_str()).unwrap_or_default();
    // What is not found is the shell's to refuse, with the exit code that everyone knows.
    let is_name = !program.is_empty() && !program.contains('/') && !program.contains("${");
    let is_there = || std::env::split_paths(&settings.search).any(|folder| folder.join(program).is_file());
    if (is_name && is_there()) || Path::new(program).is_absolute() && Path::new(program).is_file() {
        tools.push(program.to_owned());
    }
    tools.sort();
    tools.dedup();
    tools
}

/// The shell script of the step.
fn script(words: &[&[u8]], outputs: &[Output]) -> String {
    let mut script = String::new();
    for folder in outputs.iter().filter_map(|output| output.path.parent()).filter(|path| !path.is_root()) {
        // So that what it writes has a place, as it has when outputs are put back.
        script.push_str(&format!("mkdir -p -- {} || exit 125\n", here(&folder)));
    }
    // In the condition of an `if` nothing ends the script, and `$?` is the command's own.
    let command: Vec<String> = words.iter().map(|word| quote(word)).collect();
    script.push_str(&format!("if {}; then :; else exit $?; fi\n", command.join(" ")));
    for output in outputs {
        let from = here(&output.path);
        let parent = output.path.parent().filter(|path| !path.is_root());
        let to = parent.map(|path| format!("/{}", quote(path.as_bytes()))).unwrap_or_default();
        // What is missing is found and said after the script.
        script.push_str(&format!(
            "if [ -e {from} ] || [ -L {from} ]; then mkdir -p -- \"${{out}}\"{to} && \
             cp -RPp -- {from} \"${{out}}\"/{} || exit 125; fi\n",
            quote(output.path.as_bytes()),
        ));
    }
    script
}

/// A path that no program takes for an option.
fn here(path: &RelPath) -> String {
    format!("./{}", quote(path.as_bytes()))
}

/// `word` for the shell, such that it holds no `${` and is text.
pub(super) fn quote(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(byte);
    // An `=` or a reserved word at the start would mean something to the shell.
    if !word.is_empty() && word.iter().all(plain) && word.contains(&b'/') && !word.contains(&b'=') {
        return String::from_utf8_lossy(word).into_owned();
    }
    let mut quoted = String::from("'");
    for chunk in word.utf8_chunks() {
        for symbol in chunk.valid().chars() {
            match symbol {
                '\'' => quoted.push_str("'\\''"),
                // A quote between the dollar and the brace: Spolia's placeholders are not looked for.
                '$' => quoted.push_str("$''"),
                symbol => quoted.push(symbol),
            }
        }
        for byte in chunk.invalid() {
            // One byte, and no newline: nothing is lost at the end of the substitution.
            quoted.push_str(&format!("'\"$(printf '\\{byte:03o}')\"'"));
        }
    }
    quoted.push('\'');
    quoted
}

/// The command in a step's script, for a person; `None` where it is not one of ours.
pub(crate) fn command_in(script: &str) -> Option<&str> {
    let (_, rest) = script.split_once("if ")?;
    rest.split_once("; then :; else exit $?; fi").map(|(command, _)| command)
}

fn exit_of(ended: &Ended, outcome: Option<&StepOutcome>) -> Exit {
    if ended.cancelled {
        return Exit::Interrupted;
    }
    match outcome {
        Some(StepOutcome::Failed { exit_code: Some(code), .. }) if *code != 0 => {
            u8::try_from(*code).map_or(Exit::NotRun, Exit::Command)
        }
        Some(StepOutcome::Hit { .. } | StepOutcome::Ran { .. }) => Exit::Success,
        _ => Exit::NotRun,
    }
}

/// Leaves the command's output alone: only what the user must know is said.
struct ForRun {
    inner: Box<dyn Painter>,
    verbose: bool,
    shell: Shell,
    cancel: Arc<Cancel>,
    /// The step's, which the user never gave.
    name: String,
    end: Arc<Mutex<Option<StepOutcome>>>,
}

impl ForRun {
    fn finished(&self, outcome: &StepOutcome) {
        let (tone, verb, rest) = words::outcome(outcome);
        match outcome {
            // Who stopped it knows.
            StepOutcome::Failed { .. } if self.cancel.is_cancelled() => {}
            // It has said so itself.
            StepOutcome::Failed { exit_code: Some(code), hints, .. } if *code != 0 => {
                if self.verbose {
                    self.shell.status(tone, verb, rest.trim_start_matches(": "));
                }
                for hint in hints {
                    self.shell.err(&format!("hint: {hint}\n"));
                }
            }
            StepOutcome::Failed { error, hints, .. } => {
                let error = error.replace(" to `${out}`", "");
                let hints: Vec<String> = hints
                    .iter()
                    .map(|hint| match hint.starts_with("the command must write") {
                        true => "the command must write it, or `-o` must not name it".to_owned(),
                        false if hint.contains("allow-empty") => {
                            "`--allow-empty` lets outputs be empty".to_owned()
                        }
                        false => hint.clone(),
                    })
                    .collect();
                self.shell.err(&self.shell.spoken(tone, "error", &error, &hints));
            }
            // What it does not declare was said before.
            StepOutcome::Ran { not_stored: Some(why), .. } if !why.contains("does not declare") => {
                self.shell.warning(&format!("the result is not kept: {why}"), &[]);
            }
            StepOutcome::Hit { tier: Tier::UpToDate, saved, .. } if self.verbose => {
                let saved = saved.wall_us.map(|us| format!("saved {}", words::duration(us)));
                self.shell.status(tone, "fresh", &saved.unwrap_or_default());
            }
            _ if self.verbose => self.shell.status(tone, verb, rest.trim_start_matches(": ").trim()),
            _ => {}
        }
    }
}

impl Painter for ForRun {
    fn paint(&mut self, event: &Event) {
        if let EventKind::StepFinished { outcome, .. } = &event.kind {
            *self.end.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(outcome.clone());
        }
        if self.shell.is_json() {
            self.inner.paint(event);
            return;
        }
        match &event.kind {
            EventKind::StepStarted { miss: Some(miss), .. } if self.verbose => {
                self.shell.status(Tone::Plain, "miss", &miss.to_string());
            }
            EventKind::StepFinished { outcome, .. } => self.finished(outcome),
            EventKind::Warning { message, hint } => {
                let message = message.replace(&format!("step `{}`", self.name), "the command");
                let message = message.replace(&self.name, "the command");
                self.shell.warning(&message, hint.as_slice());
            }
            EventKind::Healed { what } if self.verbose => {
                self.shell.status(Tone::Warning, "healed", what);
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a real shell makes of the quoted words.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test asks a shell")]
    fn quoting_survives_a_shell_and_hides_placeholders() {
        let words: [&[u8]; 9] = [
            b"",
            b"a b",
            b"it's",
            b"${out} $HOME ${root}",
            b"\xff\xfe\n",
            b"\n\n",
            b"-n",
            b"a=b",
            "ä€".as_bytes(),
        ];
        for word in words {
            let quoted = quote(word);
            assert!(!quoted.contains("${"), "{quoted}");
            let line = format!("printf %s {quoted}; printf .");
            let output = std::process::Command::new("/bin/sh").args(["-euc", &line]).output().unwrap();
            assert_eq!(output.stdout.strip_suffix(b".").unwrap(), word, "{quoted}");
        }
        assert_eq!(quote(b"/usr/bin/gcc"), "/usr/bin/gcc");
        assert_eq!(quote(b"if"), "'if'");
    }

    #[test]
    fn each_command_has_a_name_of_its_own() {
        let output =
            |path: &str| Output { path: RelPath::new(path).unwrap(), allow_empty: false, any_machine: true };
        let base = name(&[b"a", b"b"], &[output("x")]);
        assert_ne!(base, name(&[b"a"], &[output("x")]));
        assert_ne!(base, name(&[b"a", b"b"], &[output("y")]));
        assert_eq!(base, name(&[b"a", b"b"], &[output("x")]));
    }
}
