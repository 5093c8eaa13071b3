//! `spolia`: args → settings → one command. The only place where the process ends.

mod cli;
mod commands;
mod compiler;
mod exit;
mod painter;
mod project;
mod recorder;
mod settings;
mod shell;

use clap::Parser;

use crate::exit::Exit;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os();
    let first = args.next();
    // In the place of a compiler, a thousand times in one sweep.
    if spolia_sweep::skeleton::is_asked_for(first.as_deref()) {
        return std::process::ExitCode::from(spolia_sweep::skeleton::main(std::env::args_os()));
    }
    let second = args.next();
    // Before anything else: the launcher forks, and nothing may have been started by then.
    if second.as_deref() == Some(std::ffi::OsStr::new(spolia_engine::sandbox::SUBCOMMAND)) {
        let spec = args.next().unwrap_or_default();
        let code = spolia_engine::sandbox::launch::main(&spec);
        return std::process::ExitCode::from(u8::try_from(code).unwrap_or(70));
    }
    let all: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = compiler::run(&all) {
        return code;
    }
    let args = match cli::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no mistakes.
            let _closed = error.print();
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return code.into();
        }
    };
    let settings = settings::Settings::gather(&args.global);
    let shell = shell::Shell::new(&settings);
    match commands::run(args.command, &settings, &shell) {
        Ok(exit) => exit.into(),
        Err(error) => {
            shell.error(&error);
            error.exit.into()
        }
    }
}
