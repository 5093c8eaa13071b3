//! `spolia` called as a compiler: by a link of a compiler's name, as `spolia cc COMPILER …`, or by cargo as its
//! wrapper. On the path of every compile of a build: no clap, no manifest, no threads.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use spolia_cc::detect::{self, Kind};
use spolia_cc::{Call, Compiler, End, c};

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

/// Runs as a compiler if that is what we were called as.
pub(crate) fn run(args: &[OsString]) -> Option<ExitCode> {
    let (name, rest) = wanted(args)?;
    let settings = CompilerSettings::gather();
    let own = std::fs::metadata("/proc/self/exe").ok().map(|found| (found.dev(), found.ino()));
    let search = settings.env.some("PATH").unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let Some(program) = detect::find_program(&name, search, own) else {
        shell::complain(&format!("there is no compiler `{}` in PATH", name.to_string_lossy()));
        return Some(ExitCode::from(NOT_FOUND));
    };
    let call = Call { program, name, args: rest.to_vec(), env: &settings.env, cwd: settings.cwd };
    let compiler: Option<Box<dyn Compiler>> = match detect::kind_of_name(&call.name) {
        _ if settings.disabled => None,
        Some(kind @ (Kind::Gcc | Kind::Clang | Kind::Zig)) => Some(Box::new(c::C { kind })),
        Some(Kind::Rustc | Kind::ClippyDriver) | None => None,
    };
    let end = match compiler {
        Some(compiler) => spolia_cc::run(compiler.as_ref(), &call, &settings.options, &mut shell::pass_on),
        None => End::NotStarted(spolia_cc::call::become_the_compiler(&call)),
    };
    Some(match end {
        End::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        End::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        End::NotStarted(error) => {
            shell::complain(&format!("cannot start `{}`: {error}", call.program.display()));
            ExitCode::from(NOT_FOUND)
        }
    })
}
