//! `spolia cc` where it is not called as a compiler: links and lines for build systems.

use serde_json::json;
use spolia_cc::setup;

use crate::cli::{BuildSystem, CcArgs};
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::shell::{Shell, Tone};

/// Runs it.
pub(crate) fn run(args: &CcArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    if let Some(root) = &args.target_dir {
        match args.setup {
            None => {}
            Some(BuildSystem::Cargo) => drop(write_cargo(settings, shell)?),
            Some(_) => {
                return Err(Failure::usage(
                    "only cargo has a target folder: `--setup` goes with `--target-dir` for it alone",
                ));
            }
        }
        return super::targets::run(args, root.as_deref(), settings, shell);
    }
    match (&args.install_links, args.setup) {
        (Some(folder), _) => install_links(&settings.cwd.join(folder), settings, shell),
        (None, Some(BuildSystem::Cargo)) => write_cargo(settings, shell),
        (None, Some(system)) => {
            print_lines(system, shell);
            Ok(Exit::Success)
        }
        // With a compiler, `main` has taken the call before the command line was parsed.
        (None, None) => {
            let name =
                args.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Err(Failure::usage(format!("`{name}` is no compiler"))
                .hint("write `spolia cc gcc ARGS…`; `spolia cc --help` says more"))
        }
    }
}

fn install_links(folder: &std::path::Path, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot tell where spolia itself is: {error}")))?;
    let links = setup::install_links(folder, &program, &settings.search).map_err(|(path, error)| {
        Failure::environment(format!("cannot make the link `{}`: {error}", path.display()))
            .hint("give a folder that holds nothing else")
    })?;
    if links.is_empty() {
        return Err(Failure::environment("there is no C or C++ compiler in PATH"));
    }
    if shell.is_json() {
        let links: Vec<String> = links.iter().map(|link| link.display().to_string()).collect();
        shell.json_line(&json!({ "folder": folder.display().to_string(), "links": links }));
        return Ok(Exit::Success);
    }
    shell.status(Tone::Good, "linked", &format!("{} compilers in {}", links.len(), folder.display()));
    shell.out(&format!("export PATH=\"{}:$PATH\"\n", folder.display()));
    Ok(Exit::Success)
}

fn write_cargo(settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let path = settings.cwd.join(".cargo/config.toml");
    let refuse = |verb: &str, error: &dyn std::fmt::Display| {
        Failure::environment(format!("cannot {verb} `{}`: {error}", path.display()))
    };
    let old = match std::fs::read_to_string(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(refuse("read", &error)),
    };
    let new = setup::cargo_config(&old, "spolia").map_err(|why| {
        Failure::usage(format!("`{}` is left as it is: {why}", path.display()))
            .hint("remove that line, or set RUSTC_WRAPPER=spolia, which goes before it")
    })?;
    let changed = new != old;
    if changed {
        std::fs::create_dir_all(settings.cwd.join(".cargo"))
            .map_err(|error| refuse("make the folder of", &error))?;
        std::fs::write(&path, &new).map_err(|error| refuse("write", &error))?;
    }
    if shell.is_json() {
        shell.json_line(&json!({ "file": path.display().to_string(), "changed": changed }));
    } else if changed {
        shell.status(Tone::Good, "wrote", &format!("`rustc-wrapper = \"spolia\"` to {}", path.display()));
    } else {
        shell.status(Tone::Plain, "unchanged", &path.display().to_string());
    }
    Ok(Exit::Success)
}

fn print_lines(system: BuildSystem, shell: &Shell) {
    let wanted = match system {
        BuildSystem::Cargo => "cargo",
        BuildSystem::Cmake => "cmake",
        BuildSystem::Meson => "meson",
        BuildSystem::Autotools => "autotools",
    };
    for lines in setup::lines("spolia").into_iter().filter(|lines| lines.system == wanted) {
        if shell.is_json() {
            shell.json_line(&json!({ "system": lines.system, "place": lines.place, "text": lines.text }));
        } else {
            shell.status(Tone::Plain, "for", lines.place);
            shell.out(&lines.text);
        }
    }
}
