//! `cargo xtask docs`: the reference pages that are made from the program itself. With `--check` it only says
//! whether they are still true.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::{self, Done};

/// Writes the pages, or with `--check` compares them.
pub(crate) fn run(args: &[String]) -> Done {
    let check = args.iter().any(|arg| arg == "--check");
    run::cargo(&["build", "--quiet", "--package", "spolia"])?;
    let spolia = run::target()?.join("debug/spolia");
    let folder = run::root()?.join("docs/reference");
    page(&folder.join("cli.md"), &cli(&spolia)?, check)?;
    page(&folder.join("manifest.md"), &manifest(&spolia)?, check)
}

fn page(path: &Path, text: &str, check: bool) -> Done {
    if !check {
        return std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    }
    if std::fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    Err(format!("`{}` is not what the program says now; `cargo xtask docs` writes it", path.display()))
}

fn cli(spolia: &Path) -> Done<String> {
    let mut text = "# Command line\n\nMade by `cargo xtask docs` from the program's own help.\n".to_owned();
    describe(spolia, &mut Vec::new(), &mut text)?;
    Ok(text.replace("## spolia \n", "## spolia\n"))
}

/// A command, and all that its help names below it.
fn describe(spolia: &Path, words: &mut Vec<String>, text: &mut String) -> Done {
    let mut command = Command::new(spolia);
    command.args(&*words).arg("--help").env("COLUMNS", "100");
    let help = run::output(&mut command)?;
    // What every command takes is said once.
    let shown = if words.is_empty() { help.clone() } else { without_globals(&help) };
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    text.push_str(&format!(
        "\n## spolia {}\n\n```text\n{}\n```\n",
        words.join(" "),
        lines.join("\n").trim_end()
    ));
    for name in commands_in(&help) {
        words.push(name);
        describe(spolia, words, text)?;
        words.pop();
    }
    Ok(())
}

/// The names that a help lists under `Commands:`, less the one that every list has.
fn commands_in(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let is_one = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = listed.filter(is_one).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The help without the options that `spolia --help` lists.
fn without_globals(help: &str) -> String {
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in help.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            skipping = line == "Options of every command:";
        }
        if !skipping {
            kept.push(line);
        }
    }
    kept.join("\n")
}

fn manifest(spolia: &Path) -> Done<String> {
    let schema = run::output(Command::new(spolia).arg("schema"))?;
    let schema: Value = serde_json::from_str(&schema).map_err(|error| error.to_string())?;
    let mut text = "# spolia.toml\n\nMade by `cargo xtask docs` from `spolia schema`, which is made from the parser's own table \
                    of keys.\nWhat they mean together is in the [guide](../guide/index.md) and in \
                    [ARCHITECTURE.md](../../ARCHITECTURE.md).\n"
        .to_owned();
    section("", &schema, &mut text);
    Ok(text)
}

/// One table for an object's keys, then one for each object below it.
fn section(name: &str, object: &Value, text: &mut String) {
    let mut below = Vec::new();
    let empty = serde_json::Map::new();
    let keys = object["properties"].as_object().unwrap_or(&empty);
    if !keys.is_empty() {
        text.push_str(&format!(
            "\n## {}\n\n| key | is |\n|---|---|\n",
            if name.is_empty() { "Top level" } else { name }
        ));
    }
    for (key, value) in keys {
        let says = value["description"].as_str().unwrap_or_default().replace('|', "\\|").replace('\n', " ");
        text.push_str(&format!("| `{key}` | {says} |\n"));
        let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        below.push((path.clone(), value));
        for kind in ["additionalProperties", "items"] {
            if value[kind].is_object() {
                let shown = if kind == "items" { path.clone() } else { format!("{path}.NAME") };
                below.push((shown, &value[kind]));
            }
        }
    }
    // Overrides repeat the keys of a step.
    below.retain(|(path, value)| value["properties"].is_object() && !path.contains(".platform.NAME"));
    for (path, value) in below {
        if !(path.starts_with("variant.NAME.steps")) {
            section(&path, value, text);
        }
    }
}
