//! `spolia perf benchmark`: many runs of one command or of two in turn, judged and written down.

use std::ffi::OsString;

use spolia_core::event::EventKind;
use spolia_engine::Cancel;
use spolia_engine::measure::{self, Closely, Output, Subject, Watch};
use spolia_perf::benchmark::{Runs, Stopped, Until, doubts, run as run_all, seed_of};
use spolia_perf::compare::{Comparison, compare_in_turn};
use spolia_perf::record::{Ending, Facts, Record, Sample, State};
use spolia_perf::statistics::bootstrap::median_interval;
use spolia_perf::statistics::{deviation, mean, median};
use spolia_perf::{PerfError, Rule, foreign};
use spolia_store::RunId;

use super::compare::{markdown, show_verdicts};
use super::monitor::{Journal, LiveLine, value, write, write_text};
use super::one_cpu::Place;
use super::{Perf, failure, line, words};
use crate::cli::EngineArg;
use crate::cli::perf::{BenchmarkArgs, OneCpuArg};
use crate::commands::build::cancel_on_signals;
use crate::exit::{Exit, Failure};
use crate::project::Project;
use crate::recorder::now_us;

/// One of the commands.
struct Side {
    words: Vec<OsString>,
    name: String,
}

/// Runs it.
pub(crate) fn run(args: &BenchmarkArgs, perf: &Perf<'_>) -> Result<Exit, Failure> {
    let sides = sides(args, perf)?;
    let is_build = args.command.is_empty();
    let state = match super::state(&args.label) {
        None if is_build => Some(State::Cold),
        Some(State::Cold) if !is_build && args.prepare.is_none() => {
            return Err(Failure::usage("what makes a command cold is not known")
                .hint("`--prepare CMD` empties its caches before every run"));
        }
        state => state,
    };
    let cancel = cancel_on_signals()?;
    let run = RunId::new(now_us());
    let facts: Vec<Facts> = sides
        .iter()
        .map(|side| {
            let words = side.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            Facts { state, ..perf.facts("benchmark", side.name.clone(), words, &cancel) }
        })
        .collect();
    let mut journal = Journal::new(perf, &run);
    journal.take(perf.run_started(run.as_str()));
    for (series, facts) in facts.iter().enumerate() {
        journal.take(EventKind::Measuring { series: series as u32, facts: value(facts) });
    }
    let warm_ups = args.warmup.unwrap_or(if state == Some(State::Cold) { 0 } else { 1 }) as usize;
    let until = if args.until_decided { Until::Decided } else { Until::Runs(args.runs as usize) };
    let rule = Rule::default();
    let mut live = LiveLine::new(perf);
    let mut done = 0;
    // A build asks how many processors there are.
    let asked = if is_build && args.one_cpu == OneCpuArg::Auto { OneCpuArg::Never } else { args.one_cpu };
    let mut place = Place::new(asked);
    let ran = run_all(sides.len(), warm_ups, until, &rule, seed_of(run.as_str()), &mut |side, turn| {
        let counts = turn.is_some();
        let what = if counts { "run" } else { "warm-up" };
        live.text("measuring", &format!("{what} {} of `{}`", done / sides.len() + 1, sides[side].name));
        let turn = turn.filter(|_| sides.len() > 1);
        let sample = Sample { turn, ..one(&sides[side], args, perf, &cancel, (&mut place, counts))? };
        done += usize::from(counts);
        if counts || !sample.is_ok() {
            journal.take(EventKind::Measured { series: side as u32, sample: value(&sample) });
        }
        Ok::<_, Failure>(sample)
    });
    live.clear();
    let runs = match ran {
        Ok(runs) => runs,
        Err(failure) => {
            journal.end(failure.exit);
            return Err(failure);
        }
    };
    let load_after = spolia_perf::host::load();
    let records: Vec<Record> = facts
        .into_iter()
        .zip(&runs.samples)
        .map(|(facts, samples)| {
            let mut samples = samples.clone();
            if let Some(last) = samples.last_mut() {
                last.load_after = load_after;
            }
            Record::new(run.to_string(), facts, samples, Vec::new())
        })
        .collect();
    let found = judged(&records, &runs, &rule, args.vs.is_some());
    let exit = exit_of(&runs, found.as_ref());
    journal.end(exit);
    export(args, perf, &records, found.as_ref())?;
    tell(args, perf, &sides, &records, &runs, found.as_ref(), exit)?;
    Ok(exit)
}

fn sides(args: &BenchmarkArgs, perf: &Perf<'_>) -> Result<Vec<Side>, Failure> {
    let mut own = if args.command.is_empty() { build_words(args, perf)? } else { args.command.clone() };
    let name = args.label.name.clone();
    let of_steps = || if args.steps.is_empty() { "build".to_owned() } else { args.steps.join(" ") };
    let name = name.unwrap_or_else(|| if args.command.is_empty() { of_steps() } else { line(&args.command) });
    let own = Side { words: std::mem::take(&mut own), name };
    let Some(vs) = &args.vs else { return Ok(vec![own]) };
    let words = split(vs).map_err(|why| Failure::usage(format!("the command of `--vs` {why}")))?;
    if words.is_empty() {
        return Err(Failure::usage("the command of `--vs` is empty"));
    }
    // What it is compared with comes first.
    Ok(vec![Side { name: line(&words), words }, own])
}

/// `spolia build` of the steps, as a user would type it.
fn build_words(args: &BenchmarkArgs, perf: &Perf<'_>) -> Result<Vec<OsString>, Failure> {
    let project = Project::load(perf.settings, perf.shell, args.how.variant.as_deref())?;
    for step in &args.steps {
        if project.manifest.step(step).is_none() {
            let names = project.manifest.steps.iter().map(|step| step.name.as_str());
            let near = spolia_core::diagnostic::nearest(step, names)
                .map(|near| format!("a step named `{near}` exists"));
            let failure = Failure::usage(format!("there is no step `{step}`"));
            return Err(failure.hint(near.unwrap_or_else(|| "`spolia graph` lists the steps".to_owned())));
        }
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::environment(format!("where this program is cannot be told: {error}")))?;
    let mut words: Vec<OsString> =
        vec![program.into(), "--quiet".into(), "--progress".into(), "never".into()];
    words.extend(["--cache-dir".into(), perf.store.dir().to_owned().into()]);
    if let Some(manifest) = &perf.settings.manifest {
        words.extend(["--manifest".into(), manifest.clone().into()]);
    }
    words.push("build".into());
    words.extend(args.steps.iter().map(OsString::from));
    let how = &args.how;
    words.extend(how.platform.iter().flat_map(|platform| ["--platform".into(), platform.to_string().into()]));
    words.extend(how.jobs.iter().flat_map(|jobs| ["--jobs".into(), jobs.to_string().into()]));
    words.extend(how.variant.iter().flat_map(|variant| ["--variant".into(), variant.into()]));
    if let Some(engine) = how.engine {
        let name = if engine == EngineArg::Host { "host" } else { "sandbox" };
        words.extend(["--engine".into(), name.into()]);
    }
    if !args.label.warm {
        words.push("--no-cache".into());
    }
    Ok(words)
}

/// Words as a shell would split them, without anything else that a shell does.
fn split(text: &str) -> Result<Vec<OsString>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or("has a quote that is not closed")? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or("has a quote that is not closed")? {
                        '"' => break,
                        '\\' => match letters.next().ok_or("has a quote that is not closed")? {
                            letter @ ('"' | '\\' | '$' | '`') => word.push(letter),
                            letter => word.extend(['\\', letter]),
                        },
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next().ok_or("ends with a backslash")?),
            letter if letter.is_whitespace() => words.extend(word.take().map(OsString::from)),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word.map(OsString::from));
    Ok(words)
}

/// One run of one side, after what prepares it.
fn one(
    side: &Side,
    args: &BenchmarkArgs,
    perf: &Perf<'_>,
    cancel: &Cancel,
    (place, counts): (&mut Place, bool),
) -> Result<Sample, Failure> {
    let output = match (args.show_output, perf.settings.json) {
        (true, true) => Output::Stderr,
        (true, false) => Output::Inherit,
        (false, _) => Output::Null,
    };
    let mut watch = Watch { cancel, timeout: None, closely: Closely::default(), on_sample: &mut |_| {} };
    if let Some(prepare) = &args.prepare {
        let shell = Subject {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), prepare.into()],
            folder: perf.cwd.clone(),
            env: Vec::new(),
            output,
        };
        let taken = measure::run(&shell, &mut watch)
            .map_err(|source| failure(&PerfError::Start { program: "/bin/sh".to_owned(), source }))?;
        let prepared = Sample::of(&taken, now_us());
        match prepared.ending {
            Ending::Ok => {}
            Ending::Cancelled => return Ok(prepared),
            _ => {
                let code =
                    prepared.exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"));
                return Err(Failure::new(Exit::StepFailed, format!("`--prepare` failed{code}")));
            }
        }
    }
    let subject = Subject {
        program: side.words[0].clone(),
        args: side.words[1..].to_vec(),
        folder: perf.cwd.clone(),
        env: Vec::new(),
        output,
    };
    place.run(counts, |closely| {
        watch.closely = closely;
        let started = now_us();
        let taken = measure::run(&subject, &mut watch).map_err(|source| {
            failure(&PerfError::Start { program: side.words[0].to_string_lossy().into_owned(), source })
        })?;
        Ok(Sample::of(&taken, started))
    })
}

fn judged(records: &[Record], runs: &Runs, rule: &Rule, two: bool) -> Option<Comparison> {
    let [before, after] = records else { return None };
    if !two {
        return None;
    }
    let rule = if runs.looks > 1 { rule.for_looks(runs.looks) } else { *rule };
    compare_in_turn(before, after, &rule).ok()
}

fn exit_of(runs: &Runs, found: Option<&Comparison>) -> Exit {
    match runs.stopped {
        Stopped::Cancelled => Exit::Interrupted,
        Stopped::Failed(_) => Exit::StepFailed,
        Stopped::Done if found.is_some_and(Comparison::is_worse) => Exit::Regression,
        Stopped::Done => Exit::Success,
    }
}

fn export(
    args: &BenchmarkArgs,
    perf: &Perf<'_>,
    records: &[Record],
    found: Option<&Comparison>,
) -> Result<(), Failure> {
    let at = |path: &std::path::Path| perf.settings.cwd.join(path);
    if let Some(path) = &args.export_json {
        write(&at(path), &serde_json::json!({ "records": records, "comparison": found }))?;
    }
    if let Some(path) = &args.export_hyperfine {
        write(&at(path), &foreign::hyperfine::write(records))?;
    }
    if let Some(path) = &args.export_csv {
        write_text(&at(path), &csv(records))?;
    }
    if let Some(path) = &args.export_markdown {
        let text = match found {
            Some(found) => markdown(std::slice::from_ref(found)),
            None => described(records),
        };
        write_text(&at(path), &text)?;
    }
    Ok(())
}

/// One line for each run; what was not observed is an empty field.
fn csv(records: &[Record]) -> String {
    let mut text =
        "subject,run,started_at_us,wall_us,user_us,sys_us,largest_process_bytes,read_bytes,write_bytes,\
                    ending,exit_code\n"
            .to_owned();
    for record in records {
        for (number, sample) in record.samples.iter().enumerate() {
            let field = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
            let code = sample.exit_code.map(|code| code.to_string()).unwrap_or_default();
            let ending = format!("{:?}", sample.ending).to_lowercase();
            let row = [
                format!("\"{}\"", record.facts.subject.replace('"', "\"\"")),
                (number + 1).to_string(),
                field(sample.started_at_us),
                field(sample.wall_us),
                field(sample.user_us),
                field(sample.sys_us),
                field(sample.largest_process_bytes),
                field(sample.read_bytes),
                field(sample.write_bytes),
                ending,
                code,
            ];
            text.push_str(&row.join(","));
            text.push('\n');
        }
    }
    text
}

/// A table of one command.
fn described(records: &[Record]) -> String {
    let mut text =
        "| command | cost | median | 99% interval | mean ± deviation | runs |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for record in records {
        for (name, values) in figures(record) {
            let cells = description(&values);
            text.push_str(&format!(
                "| `{}` | {name} | {} | {} | {} | {} |\n",
                record.facts.subject.replace('|', "\\|"),
                cells.0,
                cells.1,
                cells.2,
                values.len()
            ));
        }
    }
    text
}

fn figures(record: &Record) -> [(&'static str, Vec<f64>); 2] {
    [("CPU", record.values(Sample::cpu_us)), ("wall", record.values(|sample| sample.wall_us))]
}

/// Median, its interval, mean and deviation.
fn description(values: &[f64]) -> (String, String, String) {
    let none = || "not observed".to_owned();
    let rule = Rule::default();
    let interval =
        median_interval(values, rule.confidence, rule.draws, rule.seed).filter(|_| values.len() > 1);
    let interval = interval.map(|all| format!("{} to {}", words::time(all.low), words::time(all.high)));
    let spread = match (mean(values), deviation(values)) {
        (Some(mean), Some(deviation)) => format!("{} ± {}", words::time(mean), words::time(deviation)),
        (Some(mean), None) => words::time(mean),
        _ => none(),
    };
    (median(values).map_or_else(none, words::time), interval.unwrap_or_else(|| "-".to_owned()), spread)
}

fn tell(
    args: &BenchmarkArgs,
    perf: &Perf<'_>,
    sides: &[Side],
    records: &[Record],
    runs: &Runs,
    found: Option<&Comparison>,
    exit: Exit,
) -> Result<(), Failure> {
    let shell = perf.shell;
    let mut all_doubts: Vec<String> = Vec::new();
    for (record, side) in records.iter().zip(sides) {
        let name = if sides.len() > 1 { format!("`{}`", side.name) } else { "the command".to_owned() };
        all_doubts.extend(doubts(&record.samples, &name));
    }
    if perf.settings.json {
        shell.json_line(&serde_json::json!({
            "records": records, "comparison": found, "warnings": all_doubts, "exit_code": exit.code(),
        }));
    } else {
        for record in records {
            let kept = record.samples.iter().find_map(|sample| sample.kept_on_cpu);
            let kept = kept.map_or_else(String::new, |cpu| format!("  (kept on CPU {cpu})"));
            shell.out(&format!("{}{kept}\n", record.facts.subject));
            for (name, values) in figures(record) {
                let (median, interval, spread) = description(&values);
                shell.out(&format!(
                    "  {name:>6}  {median}  (99%: {interval})  mean {spread}, {} runs\n",
                    values.len()
                ));
            }
        }
        if let Some(found) = found {
            shell.out(&format!("`{}` beside `{}`:\n", sides[1].name, sides[0].name));
            show_verdicts(found, shell);
        }
        if !perf.settings.quiet {
            all_doubts.iter().for_each(|doubt| shell.warning(doubt, &[]));
        }
        if args.until_decided
            && found.is_some_and(|found| !found.cpu.is_decided() || !found.wall.is_decided())
        {
            shell.warning("the most runs there may be did not decide everything", &[]);
        }
    }
    match runs.stopped {
        Stopped::Failed(side) => {
            let code = runs.samples[side].last().and_then(|sample| sample.exit_code);
            let code = code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
            Err(Failure::new(
                Exit::StepFailed,
                format!("`{}` failed{code}: it was not measured further", sides[side].name),
            )
            .hint("`--show-output` shows what it prints"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        let check = |text: &str, expect: &[&str]| {
            let words: Vec<String> =
                split(text).unwrap().into_iter().map(|word| word.into_string().unwrap()).collect();
            assert_eq!(words, expect, "{text}");
        };
        check("a  b\tc", &["a", "b", "c"]);
        check("sh -c 'x; y \"z\"'", &["sh", "-c", "x; y \"z\""]);
        check(r#"a "b \" \n" c\ d ''"#, &["a", "b \" \\n", "c d", ""]);
        check("", &[]);
        assert!(split("a 'b").is_err() && split("a \\").is_err() && split("\"").is_err());
    }
}
