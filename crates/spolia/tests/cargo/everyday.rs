//! What somebody does all day in a workspace that has everything in it: edit, build, test, check, go back, clean, turn the
//! wrapper off and on again, in two checkouts. Nothing may fail for our sake, and nothing may be of yesterday.

use super::Workspace;

const MACRO: &str = "use proc_macro::TokenStream;\n\
    #[proc_macro]\npub fn seven(_: TokenStream) -> TokenStream { \"7u32\".parse().unwrap() }\n";
const SCRIPT: &str = "fn main() {\n\
    println!(\"cargo:rerun-if-changed=value\");\n\
    let value = std::fs::read_to_string(\"value\").unwrap();\n\
    let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n\
    std::fs::write(out.join(\"value.rs\"), format!(\"pub const VALUE: u32 = {};\", value.trim())).unwrap();\n}\n";
const PROGRAM: &str = "include!(concat!(env!(\"OUT_DIR\"), \"/value.rs\"));\n\
    fn main() { println!(\"{}\", part::part() + tools::seven!() + VALUE); }\n";

/// Writes the workspace into `checkout`: a library, a proc-macro, and a program with a build script and a test.
fn sources(work: &Workspace, checkout: &str) {
    let write = |path: &str, text: &str| work.env.write(format!("{checkout}/{path}"), text);
    write("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"part\", \"tools\", \"app\"]\n");
    for (name, rest) in [
        ("part", ""),
        ("tools", "[lib]\nproc-macro = true\n"),
        ("app", "[dependencies]\npart = { path = \"../part\" }\ntools = { path = \"../tools\" }\n"),
    ] {
        let head = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        write(&format!("{name}/Cargo.toml"), &(head + rest));
    }
    write("tools/src/lib.rs", MACRO);
    write("app/build.rs", SCRIPT);
    write("app/value", "5\n");
    write("app/src/main.rs", PROGRAM);
    write("app/tests/part.rs", "#[test]\nfn part() { assert!(part::part() > 0); }\n");
    part(work, checkout, 1);
}

fn part(work: &Workspace, checkout: &str, number: u32) {
    let text = format!(
        "pub fn part() -> u32 {{ {number} }}\n#[cfg(test)]\nmod tests {{ #[test] fn it() {{ assert_eq!(super::part(), {number}); }} }}\n"
    );
    work.env.write(format!("{checkout}/part/src/lib.rs"), &text);
}

/// The library becomes `number`; the program says that and the other two parts.
#[track_caller]
fn edit(work: &Workspace, checkout: &str, number: u32, others: u32) {
    part(work, checkout, number);
    says(work, checkout, number + others);
}

#[track_caller]
fn says(work: &Workspace, checkout: &str, sum: u32) {
    work.cargo(checkout, &["build"]);
    let ran = std::process::Command::new(work.env.path(checkout).join("target/debug/app")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), sum.to_string());
}

#[test]
fn a_day_with_the_wrapper() {
    let mut work = Workspace::empty();
    sources(&work, "one");
    says(&work, "one", 13);
    edit(&work, "one", 2, 12);
    edit(&work, "one", 3, 12);
    edit(&work, "one", 1, 12);
    work.env.write("one/app/value", "6\n");
    says(&work, "one", 14);
    work.env.write("one/tools/src/lib.rs", MACRO.replace('7', "8"));
    says(&work, "one", 15);

    for number in [4, 5] {
        part(&work, "one", number);
        work.cargo("one", &["test"]);
        work.cargo("one", &["check", "--all-targets"]);
        work.cargo("one", &["build", "--release"]);
    }
    work.cargo("one", &["doc", "--no-deps"]);
    says(&work, "one", 19);
    work.env.remove("one/target");
    says(&work, "one", 19);
    edit(&work, "one", 6, 14);

    // Off, in what it has compiled and in what it has put back, and on again.
    work.more = vec![("RUSTC_WRAPPER", String::new())];
    edit(&work, "one", 7, 14);
    edit(&work, "one", 8, 14);
    work.more.clear();
    work.env.remove("one/target");
    part(&work, "one", 6);
    says(&work, "one", 20);
    work.more = vec![("RUSTC_WRAPPER", String::new())];
    edit(&work, "one", 9, 14);
    work.cargo("one", &["check"]);
    work.more.clear();
    edit(&work, "one", 10, 14);

    // Another checkout shares files with the first one, and neither changes the other's.
    sources(&work, "two");
    says(&work, "two", 13);
    edit(&work, "two", 10, 12);
    edit(&work, "two", 11, 12);
    says(&work, "one", 24);
    edit(&work, "one", 12, 14);
    says(&work, "two", 23);

    let verified = work.env.command(["cache", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
    for checkout in ["one", "two"] {
        work.env.remove(format!("{checkout}/target"));
    }
    says(&work, "one", 26);
    says(&work, "two", 23);
}
