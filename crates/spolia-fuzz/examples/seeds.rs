//! `seeds`: prints the names of all targets. `seeds TARGET FOLDER`: writes its seeds there, a file each.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a tool of the developers' own")]

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = args.as_slice() else {
        for target in spolia_fuzz::TARGETS {
            println!("{}", target.name);
        }
        return Ok(());
    };
    let target = spolia_fuzz::target(name).ok_or_else(|| format!("there is no target `{name}`"))?;
    std::fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(Path::new(folder).join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
