//! `spolia perf bisect`: the commit that made a command slower, found in clones of its own.
//!
//! Two clones that share the repository's objects lie in perf's folder of the store: one has the good commit, the other
//! whichever is compared with it. The user's tree and repository are never written to. The folder is removed however it
//! ends; what a killed one left, the next one removes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use spolia_core::event::EventKind;
use spolia_engine::Cancel;
use spolia_engine::measure::{self, Closely, Output, Subject, Watch};
use spolia_perf::PerfError;
use spolia_perf::benchmark::{Runs, Stopped, seed_of};
use spolia_perf::bisect::{Kind, Next, ends_apart, next, weigh};
use spolia_perf::check::Cost;
use spolia_perf::history::folder;
use spolia_perf::programs::Programs;
use spolia_perf::record::{Ending, Facts, Git, Sample};
use spolia_perf::verdict::{Verdict, percent};
use spolia_store::RunId;

use super::compare::verdict as show_verdict;
use super::monitor::{Journal, LiveLine, value};
use super::one_cpu::Place;
use super::{Perf, failure, line, words};
use crate::cli::perf::BisectArgs;
use crate::commands::build::cancel_on_signals;
use crate::exit::{Exit, Failure};
use crate::recorder::now_us;
use crate::shell::Tone;

/// A commit that was looked at.
#[derive(serde::Serialize)]
struct Looked {
    commit: String,
    title: String,
    kind: Kind,
    verdict: Option<Verdict>,
    because: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &BisectArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    if !perf.store.is_writable() {
        return Err(Failure::environment("the store cannot be written: there is no place for the clones")
            .hint("--cache-dir or SPOLIA_CACHE_DIR names another folder"));
    }
    let cancel = cancel_on_signals()?;
    let programs = perf.programs(&cancel);
    let ends = Ends::of(args, perf, &programs).map_err(|error| or_stopped(&error, &cancel))?;
    let run = RunId::new(now_us());
    let journal = Journal::new(perf, &run);
    let facts = perf.facts("bisect", line(&args.command), words_of(&args.command), &cancel);
    let mut hunt = Hunt {
        args,
        perf,
        cancel: &cancel,
        programs: &programs,
        clones: Clones::make(perf, &programs, &ends).map_err(|error| or_stopped(&error, &cancel))?,
        ends: &ends,
        journal,
        facts,
        seed: seed_of(run.as_str()),
        series: 0,
        looked: Vec::new(),
        live: LiveLine::new(perf),
    };
    hunt.journal.take(perf.run_started(run.as_str()));
    let done = hunt.go();
    hunt.live.clear();
    let exit = match &done {
        Ok(answer) => answer.exit(),
        Err(failure) => failure.exit,
    };
    let Hunt { journal, looked, clones, .. } = hunt;
    journal.end(exit);
    drop(clones);
    let answer = done?;
    tell(&answer, &looked, &ends, perf);
    Ok(exit)
}

fn words_of(command: &[OsString]) -> Vec<String> {
    command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// An error while git was asked, or that the user had enough.
fn or_stopped(error: &PerfError, cancel: &Cancel) -> Failure {
    if cancel.is_cancelled() { Failure::new(Exit::Interrupted, "stopped") } else { failure(error) }
}

/// What was found.
struct Answer {
    next: Next,
    cost: Cost,
    verdict: Verdict,
}

impl Answer {
    fn exit(&self) -> Exit {
        match self.next {
            Next::Found(_) => Exit::Success,
            _ => Exit::Undecided,
        }
    }
}

/// The repository and its two commits.
struct Ends {
    top: PathBuf,
    /// Where in the repository the command runs.
    below: PathBuf,
    good: String,
    bad: String,
}

impl Ends {
    fn of(args: &BisectArgs, perf: &Perf<'_>, programs: &Programs<'_>) -> Result<Self, PerfError> {
        let git = |words: &[&str]| {
            let words = words.iter().map(OsString::from).collect();
            programs.run_git(&perf.cwd, words).map(|said| said.trim_end_matches('\n').to_owned())
        };
        let no_git = |said: &str| PerfError::Git { said: said.to_owned() };
        if !perf.cwd.ancestors().any(|folder| folder.join(".git").exists()) {
            return Err(no_git("this is no git repository: there are no commits to choose from"));
        }
        let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
        let below = PathBuf::from(git(&["rev-parse", "--show-prefix"])?);
        let commit = |name: &str| {
            let named = format!("{name}^{{commit}}");
            let found = git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &named]);
            found.map_err(|_| no_git(&format!("`{name}` is no commit")))
        };
        let (good, bad) = (commit(&args.good)?, commit(&args.bad)?);
        if good == bad {
            return Err(no_git(&format!("`{}` and `{}` are the same commit", args.good, args.bad)));
        }
        if git(&["merge-base", "--is-ancestor", &good, &bad]).is_err() {
            let message = format!(
                "`{}` is no ancestor of `{}`: no commit between them made it slower",
                args.good, args.bad
            );
            return Err(no_git(&message));
        }
        Ok(Self { top, below, good, bad })
    }
}

/// The folder with both clones; removed when dropped.
struct Clones {
    folder: PathBuf,
    _lock: std::fs::File,
}

impl Drop for Clones {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

impl Clones {
    fn make(perf: &Perf<'_>, programs: &Programs<'_>, ends: &Ends) -> Result<Self, PerfError> {
        let all = folder(&perf.store).join("bisect");
        sweep(&all);
        let folder = all.join(std::process::id().to_string());
        let cannot = |path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| PerfError::Io { verb: "write", path, source }
        };
        std::fs::create_dir_all(&folder).map_err(cannot(&folder))?;
        let path = folder.join("lock");
        let lock = std::fs::File::create(&path).map_err(cannot(&path))?;
        let _alone = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let clones = Self { folder, _lock: lock };
        for tree in [clones.tree(0), clones.tree(1)] {
            // No hook of the user's runs in it, and none of his templates is copied.
            let words = ["-c", "core.hooksPath=/dev/null", "clone", "--quiet", "--shared", "--no-checkout"];
            let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
            words.extend(["--template=".into(), "--".into(), ends.top.clone().into(), tree.into()]);
            programs.run_git(&clones.folder, words)?;
        }
        clones.check_out(0, &ends.good, programs)?;
        Ok(clones)
    }

    fn tree(&self, side: usize) -> PathBuf {
        self.folder.join(["good", "other"][side])
    }

    fn check_out(&self, side: usize, commit: &str, programs: &Programs<'_>) -> Result<(), PerfError> {
        let words = ["-c", "core.hooksPath=/dev/null", "checkout", "--quiet", "--detach", "--force", commit];
        programs.run_git(&self.tree(side), words.iter().map(OsString::from).collect()).map(|_| ())
    }
}

/// Removes what killed ones left: nobody holds their lock.
fn sweep(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let lock = std::fs::File::open(entry.path().join("lock"));
        let is_held =
            lock.as_ref().is_ok_and(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_err());
        if !is_held {
            let _left = std::fs::remove_dir_all(entry.path());
        }
    }
}

struct Hunt<'h> {
    args: &'h BisectArgs,
    perf: &'h Perf<'h>,
    cancel: &'h Arc<Cancel>,
    programs: &'h Programs<'h>,
    clones: Clones,
    ends: &'h Ends,
    journal: Journal,
    facts: Facts,
    seed: u64,
    series: u32,
    looked: Vec<Looked>,
    live: LiveLine<'h>,
}

impl Hunt<'_> {
    fn go(&mut self) -> Result<Answer, Failure> {
        let most = self.args.runs as usize;
        let (good, bad) = (self.ends.good.clone(), self.ends.bad.clone());
        if let Some(why) = self.set_up(0, &good)? {
            return Err(Failure::new(Exit::StepFailed, format!("the good commit: {why}")));
        }
        if let Some(why) = self.prepare(&bad)? {
            return Err(Failure::new(Exit::StepFailed, format!("the bad commit: {why}")));
        }
        let (runs, worse) = self.measured(&bad, |seed, run| ends_apart(most, seed, run))?;
        if let Stopped::Failed(side) = runs.stopped {
            let which = ["good", "bad"][side];
            return Err(Failure::new(Exit::StepFailed, format!("the command failed at the {which} commit"))
                .hint("`--setup` runs after each checkout; `--show-output` shows what it prints"));
        }
        let Some((cost, verdict)) = worse else {
            let message = format!(
                "`{}` is not known to be slower than `{}` in {} runs of each",
                self.args.bad,
                self.args.good,
                runs.samples.iter().map(Vec::len).min().unwrap_or(0)
            );
            return Err(Failure::new(Exit::Undecided, message)
                .hint("`spolia perf benchmark` shows how much they differ; `-n` allows more runs"));
        };
        let effect = verdict.effect.unwrap_or(0.0);
        self.note(&good, Kind::Good, None, None);
        self.note(&bad, Kind::Bad, Some(verdict.clone()), None);
        let (mut goods, mut bad, mut skipped) = (vec![good], bad, Vec::new());
        loop {
            let asked = match next(&self.between(&goods, &bad)?, &bad, &skipped) {
                Next::Ask(commit) => commit,
                done => return Ok(Answer { next: done, cost, verdict }),
            };
            let (kind, verdict, because) = match self.prepare(&asked)? {
                Some(why) => (Kind::Skipped, None, Some(why)),
                None => {
                    let (runs, (verdict, kind)) =
                        self.measured(&asked, |seed, run| weigh(cost, effect, most, seed, run).map(triple))?;
                    let failed = matches!(runs.stopped, Stopped::Failed(_));
                    let because = failed.then(|| "the command failed".to_owned());
                    (kind, Some(verdict), because)
                }
            };
            self.note(&asked, kind, verdict, because);
            match kind {
                Kind::Good => goods.push(asked),
                Kind::Bad => bad = asked,
                Kind::Skipped => skipped.push(asked),
            }
        }
    }

    /// The commits that may be it, the most telling first.
    fn between(&self, goods: &[String], bad: &str) -> Result<String, Failure> {
        let mut words: Vec<OsString> = ["rev-list", "--bisect-all", bad].iter().map(OsString::from).collect();
        words.extend(goods.iter().map(|good| OsString::from(format!("^{good}"))));
        let said = self.programs.run_git(&self.perf.cwd, words);
        said.map_err(|error| or_stopped(&error, self.cancel))
    }

    fn note(&mut self, commit: &str, kind: Kind, verdict: Option<Verdict>, because: Option<String>) {
        let looked = Looked { commit: commit.to_owned(), title: self.title(commit), kind, verdict, because };
        self.live.clear();
        if !self.perf.settings.json && !self.perf.settings.quiet {
            let tone = match kind {
                Kind::Good => Tone::Good,
                Kind::Bad => Tone::Error,
                Kind::Skipped => Tone::Warning,
            };
            let effect = looked.verdict.as_ref().and_then(|verdict| verdict.effect).map(percent);
            let details = [effect, looked.because.clone()].into_iter().flatten().collect::<Vec<_>>();
            let details =
                if details.is_empty() { String::new() } else { format!("  ({})", details.join(", ")) };
            let what = format!("{} {}{details}", short(commit), looked.title);
            self.perf.shell.status(tone, kind.text(), &what);
        }
        self.looked.push(looked);
    }

    fn title(&self, commit: &str) -> String {
        let words = ["log", "-1", "--format=%s", commit].iter().map(OsString::from).collect();
        let said = self.programs.run_git(&self.perf.cwd, words).unwrap_or_default();
        said.trim_end().to_owned()
    }

    /// Checks a commit out beside the good one; `Some` is why it cannot be measured.
    fn prepare(&mut self, commit: &str) -> Result<Option<String>, Failure> {
        self.live.text("checking out", &format!("{} {}", short(commit), self.title(commit)));
        if let Err(error) = self.clones.check_out(1, commit, self.programs) {
            return Err(or_stopped(&error, self.cancel));
        }
        self.set_up(1, commit)
    }

    /// Runs what prepares a checkout; `Some` is why it failed.
    fn set_up(&mut self, side: usize, commit: &str) -> Result<Option<String>, Failure> {
        let folder = self.clones.tree(side).join(&self.ends.below);
        if !folder.is_dir() {
            return Ok(Some(format!("it has no folder `{}`", self.ends.below.display())));
        }
        let Some(setup) = &self.args.setup else { return Ok(None) };
        self.live.text("setting up", &format!("{} {}", short(commit), self.title(commit)));
        let words: Vec<OsString> = vec!["/bin/sh".into(), "-c".into(), setup.into()];
        let sample = self.once(&words, &folder, Closely::default())?;
        match sample.ending {
            Ending::Ok => Ok(None),
            Ending::Cancelled => Err(Failure::new(Exit::Interrupted, "stopped")),
            _ => Ok(Some(format!("`--setup` failed{}", code_of(&sample)))),
        }
    }

    fn once(&self, words: &[OsString], folder: &Path, closely: Closely) -> Result<Sample, Failure> {
        let output = if self.args.show_output { Output::Stderr } else { Output::Null };
        let subject = Subject {
            program: words[0].clone(),
            args: words[1..].to_vec(),
            folder: folder.to_owned(),
            env: Vec::new(),
            output,
        };
        let mut watch = Watch { cancel: self.cancel, timeout: None, closely, on_sample: &mut |_| {} };
        let started = now_us();
        let taken = measure::run(&subject, &mut watch).map_err(|source| {
            failure(&PerfError::Start { program: words[0].to_string_lossy().into_owned(), source })
        })?;
        Ok(Sample::of(&taken, started))
    }

    /// Runs the good commit and the one beside it as `decide` asks, and writes down what was measured.
    fn measured<T>(
        &mut self,
        commit: &str,
        decide: impl FnOnce(
            u64,
            &mut dyn FnMut(usize, Option<u32>) -> Result<Sample, Failure>,
        ) -> Result<(Runs, T), Failure>,
    ) -> Result<(Runs, T), Failure> {
        let title = self.title(commit);
        let series = self.series;
        self.series += 2;
        for (side, commit) in [self.ends.good.as_str(), commit].into_iter().enumerate() {
            let git = Git { commit: commit.to_owned(), dirty: Some(false), ..Git::default() };
            let facts = Facts { git: Some(git), ..self.facts.clone() };
            self.journal.take(EventKind::Measuring { series: series + side as u32, facts: value(&facts) });
        }
        let mut count = 0;
        let seed = self.seed ^ (u64::from(series) << 32);
        let mut place = Place::new(self.args.one_cpu);
        let mut run = |side: usize, turn: Option<u32>| {
            count += 1;
            self.live.text("measuring", &format!("{} {title}, run {count}", short(commit)));
            let folder = self.clones.tree(side).join(&self.ends.below);
            let sample =
                place.run(turn.is_some(), |closely| self.once(&self.args.command, &folder, closely))?;
            let sample = Sample { turn, ..sample };
            if sample.ending == Ending::Cancelled {
                return Err(Failure::new(Exit::Interrupted, "stopped"));
            }
            if turn.is_some() || !sample.is_ok() {
                let event = EventKind::Measured { series: series + side as u32, sample: value(&sample) };
                self.journal.take(event);
            }
            Ok(sample)
        };
        decide(seed, &mut run)
    }
}

/// As [`Hunt::measured`] wants it.
fn triple((runs, verdict, kind): (Runs, Verdict, Kind)) -> (Runs, (Verdict, Kind)) {
    (runs, (verdict, kind))
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn code_of(sample: &Sample) -> String {
    sample.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default()
}

fn tell(answer: &Answer, looked: &[Looked], ends: &Ends, perf: &Perf<'_>) {
    let shell = perf.shell;
    let (found, one_of): (Option<&str>, &[String]) = match &answer.next {
        Next::Found(commit) => (Some(commit), &[]),
        Next::OneOf(commits) => (None, commits),
        Next::Ask(_) => (None, &[]),
    };
    let exit = answer.exit();
    if perf.settings.json {
        shell.json_line(&serde_json::json!({
            "good": ends.good, "bad": ends.bad, "cost": answer.cost, "verdict": answer.verdict,
            "first_slow": found, "one_of": one_of, "commits": looked, "exit_code": exit.code(),
        }));
        return;
    }
    show_verdict(answer.cost.text(), &answer.verdict, shell);
    if let Some(commit) = found {
        let title = looked.iter().find(|one| one.commit == commit).map(|one| one.title.as_str());
        shell.out(&format!("{commit} is the first slow commit: {}\n", title.unwrap_or_default()));
        return;
    }
    shell.out("the first slow commit is one of\n");
    let rows: Vec<Vec<String>> = one_of
        .iter()
        .map(|commit| {
            let known = looked.iter().find(|one| one.commit == *commit);
            let title = known.map(|one| one.title.clone()).unwrap_or_default();
            let because =
                known.and_then(|one| one.because.clone().or_else(|| one.verdict.as_ref()?.because.clone()));
            vec![format!("  {}", short(commit)), title, because.unwrap_or_default()]
        })
        .collect();
    shell.out(&words::table(&rows, &[]));
    shell.warning("commits between could not be measured or told apart", &[]);
}
