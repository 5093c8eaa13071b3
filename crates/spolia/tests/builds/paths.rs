//! Names and numbers of files that are seldom seen.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use spolia_testing::{Built, TestEnv};

both!(
    odd_names,
    a_project_with_an_odd_path,
    ten_thousand_inputs,
    loops_of_links,
    links_are_inputs_themselves,
    deep_folders,
    sockets_and_pipes_are_passed_over,
);

const ODD: &[&[u8]] = &[
    b"a b",
    b" ",
    b"-rf",
    b"new\nline",
    b"\xff\xfe\x80",
    b"quote'\"`$(x)\\",
    b"*?[a]{b}",
    b"!not",
    b"#hash",
    "\u{e9}\u{2014}\u{1f980}".as_bytes(),
    b"~",
    b"x\ty",
    b"tail ",
    b"\x01\x7f",
];

fn odd_names(env: &mut TestEnv) {
    let dir = |name: &[u8]| OsString::from(OsStr::from_bytes(&[b"src/", name, b"/", name].concat()));
    for name in ODD {
        env.write(dir(name), name);
    }
    let long = "n".repeat(255);
    env.write(format!("src/{long}"), "long");
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "cp -R src ${out}/copy; find src -type f -exec cat {} + | wc -c > ${out}/count"
        inputs = ["src/**"]
        outputs = ["copy", "count"]
        [steps.b]
        platforms = "any"
        needs = ["a"]
        run = "mkdir ${out}/again; cp -R ${step.a}/copy/. ${out}/again/"
        outputs = ["again"]
        to = "an odd/place for $it"
        "#,
    );
    env.build(&[]).assert_ran(&["a", "b"]);
    let check = |env: &TestEnv| {
        for name in ODD {
            for above in [&b".spolia/out/a/any/copy/"[..], b"an odd/place for $it/again/"] {
                let path = [above, name, b"/", name].concat();
                assert_eq!(env.read(OsStr::from_bytes(&path)), *name);
            }
        }
    };
    check(env);
    env.build(&[]).assert_up_to_date();
    env.remove(".spolia");
    env.remove("an odd");
    env.build(&[]).assert_ran(&[]);
    check(env);
    for name in ODD {
        env.write(dir(name), [name, b"+".as_slice()].concat());
        let built = env.build(&[]);
        built.assert_ran(&["a", "b"]);
        assert_eq!(built.changes("a").len(), 1, "{built}");
    }
}

fn a_project_with_an_odd_path(env: &mut TestEnv) {
    for name in ODD {
        let root = env.folder().join("home").join(OsStr::from_bytes(name));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("in"), name).unwrap();
        std::fs::write(
            root.join("spolia.toml"),
            "[steps.a]\nplatforms = \"any\"\nrun = [\"cp\", \"in\", \"${out}/a\"]\ninputs = [\"in\"]\noutputs = [\"a\"]\n\
             [steps.b]\nplatforms = \"any\"\nneeds = [\"a\"]\nrun = [\"cp\", \"${step.a}/a\", \"${out}/b\"]\noutputs = [\"b\"]\nto = \"dist\"\n",
        )
        .unwrap();
        let build = || {
            let mut command = env.build_command([] as [&str; 0]);
            Built::of(command.current_dir(&root).output().unwrap()).succeeded()
        };
        build();
        assert_eq!(std::fs::read(root.join("dist/b")).unwrap(), *name);
        build().assert_up_to_date();
    }
}

fn ten_thousand_inputs(env: &mut TestEnv) {
    for number in 0..10_000 {
        env.write(format!("src/{}/{number}.c", number % 50), format!("{number}\n"));
    }
    env.manifest(
        r#"
        [steps.whole]
        platforms = "any"
        run = "find src -name '*.c' | wc -l > ${out}/count; cat src/7/*.c | sort -n | tail -n 1 >> ${out}/count"
        inputs = ["src/**"]
        outputs = ["count"]
        [steps.single]
        platforms = "any"
        run = "find src -name '*.c' | wc -l > ${out}/count"
        inputs = ["src/**/*[0-8].c"]
        outputs = ["count"]
        "#,
    );
    env.build(&[]).assert_ran(&["single", "whole"]);
    let sandbox = env.engine == spolia_testing::Engine::Sandbox;
    let single = if sandbox { "9000\n" } else { "10000\n" };
    assert_eq!(env.read_text(".spolia/out/whole/any/count"), "10000\n9957\n");
    assert_eq!(env.read_text(".spolia/out/single/any/count"), single);
    env.build(&[]).assert_up_to_date();
    env.write("src/49/9999.c", "changed\n");
    let built = env.build(&[]);
    built.assert_ran(&["whole"]).assert_miss("whole", "input `src/49/9999.c` changed");
    env.remove("src/8/8.c");
    let built = env.build(&[]);
    built.assert_ran(&["single", "whole"]).assert_miss("single", "input `src/8/8.c` is gone");
}

fn loops_of_links(env: &mut TestEnv) {
    env.write("src/a.c", "a\n");
    for (target, link) in [
        ("loop", "src/loop"),
        ("..", "src/up"),
        (".", "src/self"),
        ("two", "src/one"),
        ("one", "src/two"),
        ("gone", "src/dangling"),
    ] {
        symlink(target, env.path(link)).unwrap();
    }
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "cat src/a.c src/self/self/a.c > ${out}/a; cat src/loop 2>/dev/null || echo looped >> ${out}/a; readlink src/one >> ${out}/a"
        inputs = ["src/**"]
        outputs = ["a"]
        "#,
    );
    let built = env.build(&[]);
    built.assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "a\na\nlooped\ntwo\n");
    assert_eq!(built.not_stored("a"), None, "{built}");
    env.build(&[]).assert_up_to_date();
}

fn links_are_inputs_themselves(env: &mut TestEnv) {
    env.write("src/a", "a\n");
    env.write("src/b", "b\n");
    symlink("a", env.path("src/current")).unwrap();
    env.manifest(
        r#"
        [steps.a]
        platforms = "any"
        run = "cat src/current > ${out}/a"
        inputs = ["src/**"]
        outputs = ["a"]
        "#,
    );
    env.build(&[]).assert_ran(&["a"]);
    env.remove("src/current");
    symlink("b", env.path("src/current")).unwrap();
    env.build(&[]).assert_miss("a", "input `src/current` changed");
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "b\n");
    // A file in place of the link, with what the link led to.
    env.remove("src/current");
    env.write("src/current", "b\n");
    env.build(&[]).assert_miss("a", "input `src/current` changed");
}

fn deep_folders(env: &mut TestEnv) {
    let deep = "d/".repeat(200);
    env.write(format!("{deep}in"), "deep\n");
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"cp -R d ${out}/d; find d -type f -exec cat {} + > ${out}/a\"\ninputs = [\"d/**\"]\noutputs = [\"a\", \"d\"]\n",
    );
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read_text(format!(".spolia/out/a/any/{deep}in")), "deep\n");
    env.remove(".spolia");
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.read_text(format!(".spolia/out/a/any/{deep}in")), "deep\n");
    // Deeper than the limit is said, not suffered.
    let deeper = "d/".repeat(300);
    env.write(format!("{deeper}in"), "deeper\n");
    let built = env.try_build(&[]);
    assert_eq!(built.code, Some(3), "{built}");
    assert!(built.others[0]["message"].as_str().unwrap().contains("d/d/d"), "{built}");
}

fn sockets_and_pipes_are_passed_over(env: &mut TestEnv) {
    env.write("src/a.c", "a\n");
    let socket = std::os::unix::net::UnixListener::bind(env.path("src/socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        env.path("src/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    env.manifest(
        "[steps.a]\nplatforms = \"any\"\nrun = \"cat src/a.c > ${out}/a\"\ninputs = [\"src/**\"]\noutputs = [\"a\"]\n",
    );
    env.build(&[]).assert_ran(&["a"]);
    env.build(&[]).assert_up_to_date();
    drop(socket);
    // A step that makes one where an output should be is told.
    env.edit_manifest("cat src/a.c > ${out}/a", "mkfifo ${out}/a");
    let error = env.build_fails(1, &[]).error("a");
    assert!(error.contains("`a`") && error.contains("only files, folders and symlinks"), "{error}");
}
