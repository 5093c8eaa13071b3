//! What a step in the sandbox can and cannot do.

use std::os::unix::fs::MetadataExt;

use spolia_testing::{Engine, TestEnv};

sandboxed!(
    it_is_really_used,
    only_what_is_declared_is_there,
    nothing_reaches_the_tree,
    there_is_no_network_unless_asked_for,
    home_and_tmp_are_private,
    the_store_and_other_steps_are_out_of_reach,
    results_of_host_and_sandbox_are_apart,
    another_checkout_hits,
    tools_under_home_are_shown_read_only,
    whole_folders_and_single_files_are_the_same,
);

/// The one step of most tests here.
fn step(env: &TestEnv, run: &str, more: &str) {
    env.manifest(&format!("[steps.a]\nplatforms = \"any\"\nrun = '''{run}'''\n{more}\n"));
}

fn it_is_really_used(env: &mut TestEnv) {
    step(env, "pwd; echo $PPID; readlink /proc/self/ns/pid", "outputs = []");
    let built = env.build(&[]);
    let output = built.output("a");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["/spolia/root", "1"], "{built}");
    let ours = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_ne!(lines[2], ours.to_str().unwrap());
    assert!(built.warnings().is_empty(), "{built}");
}

fn only_what_is_declared_is_there(env: &mut TestEnv) {
    env.write("src/a.c", "x");
    env.write("src/b.c", "x");
    env.write("src/sub/c.c", "x");
    env.write("secret", "x");
    step(env, "find . -type f | sort > ${out}/a", "inputs = [\"src/*.c\", \"!src/b.c\"]\noutputs = [\"a\"]");
    env.build(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "./src/a.c\n");
}

fn nothing_reaches_the_tree(env: &mut TestEnv) {
    for number in 0..40 {
        env.write(format!("src/{number}.c"), "before\n");
    }
    env.write("one.c", "before\n");
    let before = TestEnv::files_below(&env.root());
    step(
        env,
        "echo x > new; echo x > src/new.o; echo x > one.c; echo x > src/3.c; rm src/4.c; mv src/5.c src/5.d; chmod 600 src/6.c; rm -rf src/7.c; mkdir d; ln -s / l; cat one.c src/3.c > ${out}/a",
        "inputs = [\"src/**\", \"one.c\"]\noutputs = [\"a\"]",
    );
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "x\nx\n");
    let after: Vec<_> = TestEnv::files_below(&env.root())
        .into_iter()
        .filter(|path| !path.starts_with(env.path(".spolia")) && !path.ends_with("spolia.toml"))
        .collect();
    assert_eq!(after, before);
    assert_eq!((env.read_text("one.c"), env.read_text("src/3.c")), ("before\n".into(), "before\n".into()));
    assert_eq!(std::fs::metadata(env.path("src/6.c")).unwrap().mode() & 0o777, 0o644);
    env.build(&[]).assert_up_to_date();
}

fn there_is_no_network_unless_asked_for(env: &mut TestEnv) {
    let run = "cat /proc/net/route | tail -n +2 | wc -l; ls /sys/class/net 2>/dev/null | tr '\\n' ' ' || true; cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | sort | tr '\\n' ' '";
    let interfaces =
        |built: &spolia_testing::Built| built.output("a").lines().last().unwrap_or("").to_owned();
    step(env, run, "outputs = []");
    let built = env.build(&[]);
    assert_eq!(interfaces(&built).split_whitespace().last(), Some("lo"), "{built}");
    assert_eq!(built.output("a").lines().next(), Some("0"), "a route\n{built}");
    // A server on this machine's loopback is not the sandbox's.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let connect = format!(
        "if (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; then echo reached; else echo refused; fi"
    );
    let argv = |more: &str| {
        env.manifest(&format!(
            "[steps.a]\nplatforms = \"any\"\nrun = [\"bash\", \"-c\", {connect:?}]\noutputs = []\n{more}"
        ));
    };
    argv("");
    assert_eq!(env.build(&[]).output("a"), "refused\n");
    argv("network = true");
    let built = env.build(&[]);
    assert_eq!(built.output("a"), "reached\n");
    assert_eq!(built.changes("a"), ["network"]);
}

fn home_and_tmp_are_private(env: &mut TestEnv) {
    std::fs::write(env.folder().join("home/.netrc"), "secret").unwrap();
    std::fs::write(env.folder().join("tmp/other"), "secret").unwrap();
    let home = env.folder().join("home").display().to_string();
    step(
        env,
        &format!(
            "ls -A $HOME $TMPDIR /tmp {home} 2>&1 || true; echo mine > $HOME/x; echo mine > /tmp/x; echo $HOME $TMPDIR"
        ),
        "outputs = []",
    );
    let built = env.build(&[]);
    let output = built.output("a");
    assert!(!output.contains("netrc") && !output.contains("other"), "{output}");
    assert!(output.ends_with("/spolia/home /tmp\n"), "{output}");
    assert!(!env.folder().join("home/x").exists() && !env.folder().join("tmp/x").exists());
    // And nothing of it is there the next time.
    env.build(&["--no-cache"]);
    let again = env.build(&["--no-cache"]).output("a");
    assert_eq!(again, output);
}

fn the_store_and_other_steps_are_out_of_reach(env: &mut TestEnv) {
    let store = env.store().display().to_string();
    env.manifest(&format!(
        r#"
        [steps.dep]
        platforms = "any"
        run = "echo dep > ${{out}}/d"
        outputs = ["d"]
        [steps.other]
        platforms = "any"
        run = "echo other > ${{out}}/d"
        outputs = ["d"]
        [steps.a]
        platforms = "any"
        needs = ["dep", "other"]
        run = "ls {store} && exit 5; (echo x >> ${{step.dep}}/d) 2>/dev/null && exit 6; (rm ${{step.dep}}/d) 2>/dev/null && exit 7; (echo x > /usr/x) 2>/dev/null && exit 8; ls /spolia/step /spolia > ${{out}}/a; cat ${{step.dep}}/d"
        outputs = ["a"]
        "#
    ));
    let built = env.build(&[]);
    assert!(built.output("a").ends_with("dep\n"), "{built}");
    assert_eq!(env.read_text(".spolia/out/dep/any/d"), "dep\n");
    env.edit_manifest("needs = [\"dep\", \"other\"]", "needs = [\"dep\"]");
    env.build(&[]);
    assert!(!env.read_text(".spolia/out/a/any/a").contains("other"));
}

fn results_of_host_and_sandbox_are_apart(env: &mut TestEnv) {
    step(env, "pwd > ${out}/a", "outputs = [\"a\"]");
    env.build(&[]).assert_ran(&["a"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "/spolia/root\n");
    env.engine = Engine::Host;
    let built = env.build(&[]);
    assert_eq!(built.changes("a"), ["guard", "root"]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), format!("{}\n", env.root().display()));
    env.engine = Engine::Sandbox;
    env.build(&[]).assert_ran(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), "/spolia/root\n");
    // What the manifest says goes before the command line.
    env.edit_manifest("outputs", "engine = \"host\"\noutputs");
    env.build(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), format!("{}\n", env.root().display()));
}

fn another_checkout_hits(env: &mut TestEnv) {
    env.write("in", "x\n");
    step(env, "cat in > ${out}/a", "inputs = [\"in\"]\noutputs = [\"a\"]");
    env.build(&[]).assert_ran(&["a"]);
    let other = env.folder().join("tmp/else where");
    std::fs::create_dir(&other).unwrap();
    for name in ["in", "spolia.toml"] {
        std::fs::copy(env.path(name), other.join(name)).unwrap();
    }
    let mut command = env.build_command(["-C", other.to_str().unwrap()]);
    let built = spolia_testing::Built::of(command.output().unwrap()).succeeded();
    assert_eq!((built.ran().len(), built.restored().len()), (0, 1), "{built}");
    assert_eq!(std::fs::read_to_string(other.join(".spolia/out/a/any/a")).unwrap(), "x\n");
}

fn tools_under_home_are_shown_read_only(env: &mut TestEnv) {
    let bin = env.folder().join("home/kit/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(bin.join("../lib")).unwrap();
    std::fs::write(bin.join("hello"), "#!/bin/sh\ncat \"$(dirname \"$0\")/../lib/share\"\n").unwrap();
    std::fs::write(env.folder().join("home/kit/lib/share"), "shared\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bin.join("hello"), std::fs::Permissions::from_mode(0o755)).unwrap();
    env.set_var("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    step(
        env,
        "hello; (echo x >> $(command -v hello)) 2>/dev/null && exit 9; true",
        "tools = [\"hello\"]\noutputs = []",
    );
    assert_eq!(env.build(&[]).output("a"), "shared\n");
    // Not declared, it is not there.
    step(env, "hello", "outputs = []");
    let built = env.build_fails(1, &[]);
    assert_eq!(built.error("a").lines().next(), Some("it ended with exit code 127"), "{built}");
}

/// How a folder is shown depends on whether all of it is declared: that must not be seen.
fn whole_folders_and_single_files_are_the_same(env: &mut TestEnv) {
    for number in 0..30 {
        env.write(format!("src/sub/{number}.c"), format!("{number}\n"));
    }
    env.chmod("src/sub/7.c", 0o755);
    std::os::unix::fs::symlink("7.c", env.path("src/sub/link")).unwrap();
    let look = "cd src && find . -printf '%p %y %m %l %s\\n' | grep -v ' d ' | sort > ${out}/a; cat sub/* | md5sum >> ${out}/a; echo > sub/new; rm sub/1.c; ls sub | wc -l >> ${out}/a";
    step(env, look, "inputs = [\"src/**\"]\noutputs = [\"a\"]");
    env.build(&[]);
    let whole = env.read_text(".spolia/out/a/any/a");
    step(env, look, "inputs = [\"src/sub/*.c\", \"src/sub/link\", \"**/nothing\"]\noutputs = [\"a\"]");
    env.build(&[]);
    assert_eq!(env.read_text(".spolia/out/a/any/a"), whole);
    assert!(whole.contains("./sub/7.c f 755"), "{whole}");
}
