//! Prints what a command looks at: `cargo run --example observe -- CMD…`.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "an example")]

fn main() {
    let mut words = std::env::args_os().skip(1);
    let mut command = std::process::Command::new(words.next().expect("a command"));
    command.args(words);
    let library =
        spolia_engine::observe::install(&std::env::temp_dir(), None).expect("the library is written");
    let began = std::time::Instant::now();
    let observed = spolia_engine::observe::run(
        command,
        Some(&library),
        None,
        spolia_engine::observe::Since::Start,
        &mut |_, bytes| {
            eprint!("{}", String::from_utf8_lossy(bytes));
        },
    );
    let observed = observed.expect("it starts");
    println!("{:?} in {:?}", observed.ended.end, began.elapsed());
    match observed.seen {
        Ok(seen) => println!("{seen:#?}"),
        Err(error) => println!("not observed: {error}"),
    }
}
