//! `spolia` called as a compiler: by a link of a compiler's name, as `spolia cc COMPILER …`, or by cargo as its
//! wrapper. On the path of every compile of a build: no clap, no manifest, no threads.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use spolia_cc::call::Unknown;
use spolia_cc::detect::{self, Kind};
use spolia_cc::{Call, Chain, Compiler, End, Story, c, rustc};

use crate::settings::CompilerSettings;
use crate::shell;

/// The program could not be found or started, as in a shell.
const NOT_FOUND: u8 = 127;

/// What the command line asks for, if it is a compiler call: the compiler as it was named, and its arguments.
fn wanted(args: &[OsString]) -> Option<(OsString, &[OsString])> {
    let own = args.first()?;
    if detect::kind_of_name(own).is_some() {
        let name = Path::new(own).file_name()?.to_owned();
        return Some((name, &args[1..]));
    }
    let second = args.get(1)?;
    if second == "cc" {
        let compiler = args.get(2).filter(|compiler| !compiler.as_bytes().starts_with(b"-"))?;
        return Some((compiler.clone(), &args[3..]));
    }
    // RUSTC_WRAPPER: cargo puts the compiler it would have called first.
    match detect::kind_of_name(second)? {
        Kind::Rustc | Kind::ClippyDriver => Some((second.clone(), &args[2..])),
        _ => None,
    }
}

/// What a build script's launcher says: `__build-script DIGEST PROGRAM NAME ARGS…`.
fn launched(args: &[OsString]) -> Option<rustc::script::Launched<'_>> {
    if args.get(1)? != rustc::script::SUBCOMMAND {
        return None;
    }
    let (digest, real, name) = (args.get(2)?, args.get(3)?.into(), args.get(4)?.clone());
    Some(rustc::script::Launched { digest, real, name, args: args[5..].to_vec() })
}

/// Runs as a compiler if that is what we were called as.
pub(crate) fn run(args: &[OsString]) -> Option<ExitCode> {
    if let Some(launched) = launched(args) {
        let settings = CompilerSettings::gather();
        let program = launched.real.clone();
        let CompilerSettings { env, options, cwd, disabled } = &settings;
        let end = if *disabled {
            rustc::script::just_run(launched, env, cwd.clone())
        } else {
            rustc::script::run(launched, env, cwd.clone(), options, &mut shell::pass_on)
        };
        return Some(code(end, &program));
    }
    let (name, rest) = wanted(args)?;
    let settings = CompilerSettings::gather();
    let own = std::fs::metadata("/proc/self/exe").ok().map(|found| (found.dev(), found.ino()));
    let search = settings.env.some("PATH").unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let chain = Chain::of(&settings.env);
    let Some(program) = chain.find(&name, search, own) else {
        shell::complain(&format!("there is no compiler `{}` in PATH", name.to_string_lossy()));
        return Some(ExitCode::from(NOT_FOUND));
    };
    let call = Call { program, name, args: rest.to_vec(), env: &settings.env, cwd: settings.cwd };
    let known = if settings.disabled { None } else { detect::kind_of_name(&call.name) };
    let end = match known {
        Some(Kind::Gcc | Kind::Clang | Kind::Zig) if chain.has_compiler() => {
            Story::of(&call, &settings.options).passed_through("a compiler that Spolia started called it");
            End::NotStarted(spolia_cc::call::become_the_compiler(&call))
        }
        Some(kind @ (Kind::Gcc | Kind::Clang | Kind::Zig)) => {
            let compiler: &dyn Compiler = &c::C { kind };
            spolia_cc::run(compiler, &call, &settings.options, &mut shell::pass_on)
        }
        Some(Kind::Rustc | Kind::ClippyDriver) => rustc::run(&call, &settings.options, &mut shell::pass_on),
        None if settings.disabled => {
            Story::of(&call, &settings.options).passed_through("SPOLIA_DISABLE is set");
            End::NotStarted(spolia_cc::call::become_the_compiler(&call))
        }
        None => spolia_cc::run(&Unknown, &call, &settings.options, &mut shell::pass_on),
    };
    Some(code(end, &call.program))
}

fn code(end: End, program: &Path) -> ExitCode {
    match end {
        End::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        End::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        End::NotStarted(error) => {
            shell::complain(&format!("cannot start `{}`: {error}", program.display()));
            ExitCode::from(NOT_FOUND)
        }
    }
}
