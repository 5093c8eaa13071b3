//! `spolia sweep --schedule`: a systemd service with its timer, and a git hook. Prints; installs nothing.
//!
//! Nothing in them hides a failure: no `|| true`, no output thrown away. The service fails where sweep does, and
//! systemd says so; the hook says so and leaves the checkout as git made it.

use serde_json::json;

use super::absolute;
use crate::cli::SweepArgs;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::shell::Shell;

/// Prints them for the paths and the policy of `args`.
pub(super) fn print(args: &SweepArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot find spolia's own program: {error}")))?;
    let mut words = vec![program.display().to_string(), "sweep".to_owned(), "--no-wait".to_owned()];
    words.extend(policy_words(args));
    let mut folders = Vec::new();
    for path in absolute(&args.paths, settings) {
        let path = path
            .canonicalize()
            .map_err(|error| Failure::usage(format!("cannot enter `{}`: {error}", path.display())))?;
        folders.push(path.display().to_string());
    }
    let path = settings.search.to_string_lossy().into_owned();
    let service = service(&words, &folders, &path);
    let hook = hook(&words);
    if shell.is_json() {
        shell.json_line(&json!({
            "kind": "sweep-schedule", "service": service, "timer": TIMER, "hook": hook,
        }));
        return Ok(Exit::Success);
    }
    shell.out(&format!(
        "# ~/.config/systemd/user/spolia-sweep.service\n{service}\n# ~/.config/systemd/user/spolia-sweep.timer\n{TIMER}\n\
         # Then: systemctl --user daemon-reload && systemctl --user enable --now spolia-sweep.timer\n\
         # A run that failed is in: systemctl --user --failed\n\n\
         # .git/hooks/post-merge, executable\n{hook}"
    ));
    Ok(Exit::Success)
}

const TIMER: &str = "[Unit]\nDescription=Sweep stale build artifacts once a day\n\n[Timer]\nOnCalendar=daily\n\
                     RandomizedDelaySec=1h\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n";

fn policy_words(args: &SweepArgs) -> Vec<String> {
    let policy = &args.policy;
    let mut words: Vec<String> = Vec::new();
    let mut flag = |is_set: bool, word: &str| {
        if is_set {
            words.push(word.to_owned());
        }
    };
    flag(args.recursive, "--recursive");
    flag(args.hidden, "--hidden");
    flag(args.quarantine, "--quarantine");
    flag(policy.installed, "--installed");
    flag(policy.workspace, "--workspace");
    flag(policy.auto, "--auto");
    flag(policy.all, "--all");
    flag(policy.for_cache_save, "--for-cache-save");
    let mut value = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("{name}={value}")));
    };
    value("--time", policy.time.map(|days| days.to_string()));
    value("--max-size", policy.max_size.map(|bytes| format!("{bytes}B")));
    value("--min-free", policy.min_free.map(|bytes| format!("{bytes}B")));
    let toolchains = (!policy.toolchains.is_empty()).then(|| policy.toolchains.join(","));
    value("--toolchains", toolchains);
    words
}

/// systemd splits at spaces and takes `%` and `$` for its own.
fn for_systemd(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{word}\"")
}

fn service(words: &[String], folders: &[String], path: &str) -> String {
    let line: Vec<String> = words.iter().chain(folders).map(|word| for_systemd(word)).collect();
    let path = format!("PATH={path}").replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!(
        "[Unit]\nDescription=Sweep stale build artifacts\n\n[Service]\nType=oneshot\nNice=10\nIOSchedulingClass=idle\n\
         Environment=\"{path}\"\nExecStart={}\n",
        line.join(" ")
    )
}

fn hook(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    format!(
        "#!/bin/sh\n# After a merge old dependencies are stale. What git did is done; a failure here only says so.\n\
         if ! {}; then\n    echo \"post-merge: spolia sweep failed; what it said is above\" >&2\n    exit 1\nfi\n",
        quoted.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_hides_no_failure_and_quotes_its_words() {
        let words = ["/a b/spolia".to_owned(), "sweep".to_owned()];
        let text = service(&words, &["/x/%y$z".to_owned()], "/bin:/usr/bin");
        assert!(text.contains("ExecStart=\"/a b/spolia\" \"sweep\" \"/x/%%y$$z\"\n"), "{text}");
        let hook = hook(&["it's".to_owned()]);
        assert!(hook.contains("if ! 'it'\\''s'; then"), "{hook}");
        for text in [&text, &hook] {
            assert!(!text.contains("|| true") && !text.contains("/dev/null"), "{text}");
        }
    }
}
