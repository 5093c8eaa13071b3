//! Every mistake a manifest can hold, and exactly what is said of it.

use spolia_core::diagnostic::{Style, render_all};

use super::tests::parse_files;

/// Files, the root first, and all that is said about them.
fn check(files: &[(&str, &str)], variant: Option<&str>, expect: &str) {
    let parsed = parse_files(files, variant);
    let diagnostics = match parsed {
        Ok((_, warnings)) => warnings,
        Err(diagnostics) => diagnostics,
    };
    let text = render_all(&diagnostics, Style::Plain);
    assert_eq!(text, expect.trim_start_matches('\n'), "\n{text}");
}

#[test]
fn unknown_need() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.build_lib]
run = "x"
outputs = []
[steps.test]
run = "x"
needs = ["build-lib"]
outputs = []
"#,
        )],
        None,
        r#"
error: step `test` needs `build-lib`, which is not defined
 --> spolia.toml:6:10
  |
6 | needs = ["build-lib"]
  |          ^^^^^^^^^^^ no step has this name
hint: a step named `build_lib` exists
"#,
    );
}

#[test]
fn unknown_need_without_near() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = []
needs = ["zzzzzz"]
"#,
        )],
        None,
        r#"
error: step `a` needs `zzzzzz`, which is not defined
 --> spolia.toml:4:10
  |
4 | needs = ["zzzzzz"]
  |          ^^^^^^^^ no step has this name
"#,
    );
}

#[test]
fn cycle() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
needs = ["b"]
outputs = []

[steps.b]
run = "x"
needs = ["c"]
outputs = []

[steps.c]
run = "x"
needs = ["a", "c"]
outputs = []
"#,
        )],
        None,
        r#"
error: steps need each other: `a` → `b` → `c` → `a`
  --> spolia.toml:3:10
   |
 3 | needs = ["b"]
   |          ^^^ `a` needs `b`
...
 8 | needs = ["c"]
   |          ^^^ `b` needs `c`
...
13 | needs = ["a", "c"]
   |          ^^^ `c` needs `a`

error: step `c` needs itself
  --> spolia.toml:13:15
   |
13 | needs = ["a", "c"]
   |               ^^^
"#,
    );
}

#[test]
fn unknown_keys() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
output = []
outputs = []
frobnicate = 1
[project]
platform = []
[stesp]
"#,
        )],
        None,
        r#"
error: `output` is not a key of step `a`
 --> spolia.toml:3:1
  |
3 | output = []
  | ^^^^^^ unknown
hint: did you mean `outputs`?

error: `frobnicate` is not a key of step `a`
 --> spolia.toml:5:1
  |
5 | frobnicate = 1
  | ^^^^^^^^^^ unknown
hint: its keys are `run`, `needs`, `inputs`, `env`, `pass-env`, `tools`, `outputs`, `to`, `source`, `network`, `mounts`, `timeout`, `retries`, `pool`, `engine`, `base`, `salt`, `platforms` and `platform`

error: `platform` is not a key of `[project]`
 --> spolia.toml:7:1
  |
7 | platform = []
  | ^^^^^^^^ unknown
hint: did you mean `platforms`?

error: `stesp` is not a key of a manifest
 --> spolia.toml:8:2
  |
8 | [stesp]
  |  ^^^^^ unknown
hint: did you mean `steps`?
"#,
    );
}

#[test]
fn no_run_no_outputs() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
inputs = ["x"]
[steps.b]
run = "x"
[steps.b.platform."linux/amd64"]
network = true
"#,
        )],
        None,
        r#"
error: step `a` has no `run`
 --> spolia.toml:1:8
  |
1 | [steps.a]
  |        ^

error: step `a` does not say its `outputs`
 --> spolia.toml:1:8
  |
1 | [steps.a]
  |        ^
hint: write `outputs = []` for a check

error: step `b` does not say its `outputs`
 --> spolia.toml:3:8
  |
3 | [steps.b]
  |        ^
hint: write `outputs = []` for a check
"#,
    );
}

#[test]
fn empty_runs() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = " "
outputs = []
[steps.b]
run = []
outputs = []
[steps.c]
run = ["x", 1]
outputs = []
[steps.d]
run = 7
outputs = []
"#,
        )],
        None,
        r#"
error: `run` is empty
 --> spolia.toml:2:7
  |
2 | run = " "
  |       ^^^

error: `run` names no program
 --> spolia.toml:5:7
  |
5 | run = []
  |       ^^

error: an item of `run` must be a string, not an integer
 --> spolia.toml:8:13
  |
8 | run = ["x", 1]
  |             ^

error: `run` must be a string or a list of strings, not an integer
  --> spolia.toml:11:7
   |
11 | run = 7
   |       ^
"#,
    );
}

#[test]
fn names() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.".a"]
run = "x"
outputs = []
[steps."b c"]
run = "x"
outputs = []
env = { "1X" = "1", "A-B" = "2" }
pass-env = ["A=B"]
[pools]
"-p" = 1
"#,
        )],
        None,
        r#"
error: `.a` is not a name for a step
 --> spolia.toml:1:8
  |
1 | [steps.".a"]
  |        ^^^^
hint: use letters, digits, `.`, `_` and `-`, with a letter, a digit or `_` first

error: `b c` is not a name for a step
 --> spolia.toml:4:8
  |
4 | [steps."b c"]
  |        ^^^^^
hint: use letters, digits, `.`, `_` and `-`, with a letter, a digit or `_` first

error: `1X` is not a name for a variable
 --> spolia.toml:7:9
  |
7 | env = { "1X" = "1", "A-B" = "2" }
  |         ^^^^
hint: use letters, digits and `_`

error: `A-B` is not a name for a variable
 --> spolia.toml:7:21
  |
7 | env = { "1X" = "1", "A-B" = "2" }
  |                     ^^^^^
hint: use letters, digits and `_`

error: `A=B` is not a name for a variable
 --> spolia.toml:8:13
  |
8 | pass-env = ["A=B"]
  |             ^^^^^
hint: use letters, digits and `_`

error: `-p` is not a name for a pool
  --> spolia.toml:10:1
   |
10 | "-p" = 1
   | ^^^^
hint: use letters, digits, `.`, `_` and `-`, with a letter, a digit or `_` first
"#,
    );
}

#[test]
fn bad_outputs() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-empty = true }, { path = "z", empty = true }]
"#,
        )],
        None,
        r#"
error: output `/abs` is absolute
 --> spolia.toml:3:12
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |            ^^^^^^
hint: outputs are relative to `${out}`

error: output `../up` has a `..` in it
 --> spolia.toml:3:20
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |                    ^^^^^^^

error: output `a/../b` has a `..` in it
 --> spolia.toml:3:29
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |                             ^^^^^^^^

error: `.` is not an output
 --> spolia.toml:3:39
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |                                       ^^^
hint: name the files and folders in `${out}`

error: output `lib/x.so` is inside output `lib`
 --> spolia.toml:3:51
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |                                                   ^^^^^^^^^^
  |                                            ^^^^^ the other

error: output `y` is there twice
 --> spolia.toml:3:68
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |                                                                    ^^^
  |                                                               ^^^ the other

error: `${platform}` has no meaning here
 --> spolia.toml:3:75
  |
3 | outputs = ["/abs", "../up", "a/../b", ".", "lib", "lib/x.so", "y", "y", "x${platform}", 5, { allow-e…
  |                                                                           ^^^^^^^^^^^
hint: inputs and outputs are the same for every run; use an override for one platform

error: an item of `outputs` must be a path or a table with `path`, not an integer
 --> spolia.toml:3:89
  |
3 | …", "y", "x${platform}", 5, { allow-empty = true }, { path = "z", empty = true }]
  |                          ^

error: an output needs `path`
 --> spolia.toml:3:92
  |
3 | …"y", "x${platform}", 5, { allow-empty = true }, { path = "z", empty = true }]
  |                          ^^^^^^^^^^^^^^^^^^^^^^

error: `empty` is not a key of an output
 --> spolia.toml:3:130
  |
3 | …= true }, { path = "z", empty = true }]
  |                          ^^^^^ unknown
hint: its keys are `path`, `allow-empty` and `any-machine`
"#,
    );
}

#[test]
fn bad_source() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = ["x", "y"]
source = { name = "n", version = "1", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
[steps.b]
run = "x"
outputs = ["x"]
source = { name = "", sha256 = "123", licence = "MIT", license = "MIT" }
"#,
        )],
        None,
        r#"
error: step `a` fetches a source, so it must have one output
 --> spolia.toml:3:11
  |
3 | outputs = ["x", "y"]
  |           ^^^^^^^^^^
4 | source = { name = "n", version = "1", sha256 = "0000000000000000000000000000000000000000000000000000…
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the digest of that output

error: a source needs `version`
 --> spolia.toml:8:10
  |
8 | source = { name = "", sha256 = "123", licence = "MIT", license = "MIT" }
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error: `name` is empty
 --> spolia.toml:8:19
  |
8 | source = { name = "", sha256 = "123", licence = "MIT", license = "MIT" }
  |                   ^^

error: `sha256` must be 64 hexadecimal digits
 --> spolia.toml:8:32
  |
8 | source = { name = "", sha256 = "123", licence = "MIT", license = "MIT" }
  |                                ^^^^^
hint: `sha256sum FILE` prints them

error: `licence` and `license` are the same key
 --> spolia.toml:8:66
  |
8 | source = { name = "", sha256 = "123", licence = "MIT", license = "MIT" }
  |                                                                  ^^^^^
"#,
    );
}

#[test]
fn bad_to() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = ["x"]
to = "/abs"
[steps.b]
run = "x"
outputs = ["x"]
to = "../up"
[steps.c]
run = "x"
outputs = ["x"]
to = ".git/hooks"
[steps.d]
run = "x"
outputs = [".spolia/x"]
to = "."
[steps.e]
run = "x"
outputs = ["x"]
to = "${out}/bin"
[steps.f]
run = "x"
outputs = ["x"]
to = "b/${platform.up}"
[platform."linux/amd64"]
up = "../../.."
"#,
        )],
        None,
        r#"
error: `to` must be relative, not `/abs`
 --> spolia.toml:4:6
  |
4 | to = "/abs"
  |      ^^^^^^
hint: `to` is a folder of the project, relative to this file

error: `to` leaves the project: `../up`
 --> spolia.toml:8:6
  |
8 | to = "../up"
  |      ^^^^^^^
hint: `to` is a folder of the project, relative to this file

error: `to` is inside `.git`
  --> spolia.toml:12:6
   |
12 | to = ".git/hooks"
   |      ^^^^^^^^^^^^

error: output `.spolia/x` would be published inside `.spolia`
  --> spolia.toml:15:12
   |
15 | outputs = [".spolia/x"]
   |            ^^^^^^^^^^^

error: `${out}` has no meaning here
  --> spolia.toml:20:7
   |
20 | to = "${out}/bin"
   |       ^^^^^^
hint: `to` takes `${platform}` and `${platform.KEY}`

error: `to` leaves the project
  --> spolia.toml:24:6
   |
24 | to = "b/${platform.up}"
   |      ^^^^^^^^^^^^^^^^^^
hint: it is relative to this file
"#,
    );
}

#[test]
fn same_file_twice() {
    check(
        &[(
            "spolia.toml",
            r#"[project]
platforms = ["linux/amd64", "linux/arm64"]
[steps.a]
run = "x"
outputs = ["x", "y"]
to = "bin"
"#,
        )],
        None,
        r#"
error: `a` (linux/amd64) and `a` (linux/arm64) both publish `bin/x`
 --> spolia.toml:6:6
  |
6 | to = "bin"
  |      ^^^^^
hint: put `${platform}` into `to`
"#,
    );
}

#[test]
fn same_file_from_two_steps() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = ["x"]
to = "bin"
[steps.b]
run = "x"
outputs = ["bin"]
to = "."
"#,
        )],
        None,
        r#"
error: `a` (linux/amd64) and `b` (linux/amd64) both publish `bin` and `bin/x` in it
 --> spolia.toml:8:6
  |
8 | to = "."
  |      ^^^
...
4 | to = "bin"
  |      ^^^^^ the other
"#,
    );
}

#[test]
fn placeholders() {
    check(
        &[(
            "spolia.toml",
            r#"[project]
platforms = ["linux/amd64", "linux/arm64"]
[steps.a]
run = "${platform.cx} ${platform.typooo} ${step.b}"
outputs = []
[steps.b]
run = '''
make DESTDIR=${out
${undefined} ${step.c} "${step.x:-y}" ${platform.}
'''
env = { X = "${step.zzz}" }
tools = ["${platform.cd}"]
inputs = ["${root}/x"]
outputs = []
[steps.c]
run = "${platform.cc} ${platform}"
platforms = "any"
outputs = []
[platform."linux/amd64"]
typooo = "1"
"#,
        )],
        None,
        r#"
error: `${platform.cx}` has no value for `linux/amd64` and `linux/arm64`
 --> spolia.toml:4:8
  |
4 | run = "${platform.cx} ${platform.typooo} ${step.b}"
  |        ^^^^^^^^^^^^^^
hint: did you mean `cc`?

error: `${platform.typooo}` has no value for `linux/arm64`
 --> spolia.toml:4:23
  |
4 | run = "${platform.cx} ${platform.typooo} ${step.b}"
  |                       ^^^^^^^^^^^^^^^^^^
hint: add `typooo = "…"` below `[platform."linux/arm64"]`

error: step `a` uses `${step.b}` but does not need it
 --> spolia.toml:4:42
  |
4 | run = "${platform.cx} ${platform.typooo} ${step.b}"
  |                                          ^^^^^^^^^
hint: add `"b"` to `needs`

error: `${out` has no closing `}`
 --> spolia.toml:8:14
  |
8 | make DESTDIR=${out
  |              ^^^^^

error: `${step.x…}` is a placeholder of Spolia and takes no shell operators
 --> spolia.toml:9:25
  |
9 | ${undefined} ${step.c} "${step.x:-y}" ${platform.}
  |                         ^^^^^^^^

error: `${platform.}` names nothing after the dot
 --> spolia.toml:9:39
  |
9 | ${undefined} ${step.c} "${step.x:-y}" ${platform.}
  |                                       ^^^^^^^^^^^^

error: step `b` uses `${step.zzz}` but does not need it
  --> spolia.toml:11:14
   |
11 | env = { X = "${step.zzz}" }
   |              ^^^^^^^^^^^ no step has this name

error: `${platform.cd}` has no value for `linux/amd64` and `linux/arm64`
  --> spolia.toml:12:11
   |
12 | tools = ["${platform.cd}"]
   |           ^^^^^^^^^^^^^^
hint: did you mean `cc`?

error: `${root}` has no meaning here
  --> spolia.toml:13:12
   |
13 | inputs = ["${root}/x"]
   |            ^^^^^^^
hint: inputs and outputs are the same for every run; use an override for one platform

error: `${platform.cc}` has no value for `any`
  --> spolia.toml:16:8
   |
16 | run = "${platform.cc} ${platform}"
   |        ^^^^^^^^^^^^^^
hint: a step with `platforms = "any"` has no platform to take it from
"#,
    );
}

#[test]
fn platforms() {
    check(
        &[(
            "spolia.toml",
            r#"[project]
platforms = ["linux/amd64", "any", "Linux", "linux/arm46", "linux/amd64"]
[platform."linux/arm64"]
x = "1"
[steps.a]
run = "x"
outputs = []
platforms = []
[steps.b]
run = "x"
outputs = []
platforms = ["linux/arm64", "linux/and64"]
[steps.c]
run = "x"
outputs = []
platforms = "linux/amd64"
[steps.d]
run = "x"
outputs = []
platforms = ["linux/amd64"]
[steps.d.platform."linux/arm64"]
run = "y"
[steps.e]
run = "x"
outputs = []
platforms = 5
"#,
        )],
        None,
        r#"
error: `any` cannot stand in a list of platforms
 --> spolia.toml:2:29
  |
2 | platforms = ["linux/amd64", "any", "Linux", "linux/arm46", "linux/amd64"]
  |                             ^^^^^
hint: a step says `platforms = "any"`

error: `Linux` is not a platform (write it as `linux/amd64`, or `any`)
 --> spolia.toml:2:36
  |
2 | platforms = ["linux/amd64", "any", "Linux", "linux/arm46", "linux/amd64"]
  |                                    ^^^^^^^

error: `linux/arm46` is no platform that is known
 --> spolia.toml:2:45
  |
2 | platforms = ["linux/amd64", "any", "Linux", "linux/arm46", "linux/amd64"]
  |                                             ^^^^^^^^^^^^^
hint: did you mean `linux/arm64`?

warning: `linux/amd64` is there twice
 --> spolia.toml:2:60
  |
2 | platforms = ["linux/amd64", "any", "Linux", "linux/arm46", "linux/amd64"]
  |                                                            ^^^^^^^^^^^^^

warning: the project is not built for linux/arm64
 --> spolia.toml:3:11
  |
3 | [platform."linux/arm64"]
  |           ^^^^^^^^^^^^^
hint: did you mean `linux/arm46`?

error: `platforms` is empty: nothing would be built
 --> spolia.toml:8:13
  |
8 | platforms = []
  |             ^^

error: the project is not built for linux/arm64
  --> spolia.toml:12:14
   |
12 | platforms = ["linux/arm64", "linux/and64"]
   |              ^^^^^^^^^^^^^
hint: did you mean `linux/arm46`?

error: the project is not built for linux/and64
  --> spolia.toml:12:29
   |
12 | platforms = ["linux/arm64", "linux/and64"]
   |                             ^^^^^^^^^^^^^
hint: did you mean `linux/amd64`?

error: `platforms` must be `"any"` or a list, not `linux/amd64`
  --> spolia.toml:16:13
   |
16 | platforms = "linux/amd64"
   |             ^^^^^^^^^^^^^
hint: write `["linux/amd64"]`

warning: step `d` is not built for linux/arm64
  --> spolia.toml:21:19
   |
21 | [steps.d.platform."linux/arm64"]
   |                   ^^^^^^^^^^^^^ has no effect

error: `platforms` must be `"any"` or a list of platforms, not an integer
  --> spolia.toml:26:13
   |
26 | platforms = 5
   |             ^
"#,
    );
}

#[test]
fn needs_across_platforms() {
    check(
        &[(
            "spolia.toml",
            r#"[project]
platforms = ["linux/amd64", "linux/arm64"]
[steps.all]
run = "x"
needs = ["one"]
outputs = []
[steps.one]
run = "x"
platforms = ["linux/amd64"]
outputs = []
[steps.once]
run = "x"
needs = ["all", "once2"]
platforms = "any"
outputs = []
[steps.once2]
run = "x"
platforms = "any"
outputs = []
"#,
        )],
        None,
        r#"
error: step `all` needs `one` for `linux/arm64`, which it is not built for
 --> spolia.toml:5:10
  |
5 | needs = ["one"]
  |          ^^^^^
hint: add the platform to `one`, or take it from `all`

error: step `once` is built once for all platforms but needs `all`, which is built for each
  --> spolia.toml:13:10
   |
13 | needs = ["all", "once2"]
   |          ^^^^^
hint: take `platforms = "any"` from `once`, or give it to `all`
"#,
    );
}

#[test]
fn warnings() {
    check(
        &[(
            "spolia.toml",
            r#"[pools]
link = 2
[steps.a]
run = "x"
needs = ["b", "b"]
inputs = ["x", "y", "x"]
env = { A = "1" }
pass-env = ["A", "B", "B"]
outputs = []
[steps.b]
run = "x"
inputs = ["x", "!x/y", "x"]
outputs = []
"#,
        )],
        None,
        r#"
warning: no step runs in pool `link`
 --> spolia.toml:2:1
  |
2 | link = 2
  | ^^^^

warning: `b` is in `needs` twice
 --> spolia.toml:5:15
  |
5 | needs = ["b", "b"]
  |               ^^^

warning: `x` is in `inputs` twice
 --> spolia.toml:6:21
  |
6 | inputs = ["x", "y", "x"]
  |                     ^^^

warning: `A` is set in `env`, so the caller's is not passed
 --> spolia.toml:8:13
  |
8 | pass-env = ["A", "B", "B"]
  |             ^^^

warning: `B` is in `pass-env` twice
 --> spolia.toml:8:23
  |
8 | pass-env = ["A", "B", "B"]
  |                       ^^^
"#,
    );
}

#[test]
fn pools() {
    check(
        &[(
            "spolia.toml",
            r#"[pools]
link = 2
zero = 0
many = "x"
[steps.a]
run = "x"
pool = "lnik"
outputs = []
[steps.b]
run = "x"
pool = "net"
outputs = []
[steps.c]
run = "x"
pool = "zero"
outputs = []
[steps.d]
run = "x"
pool = "many"
outputs = []
"#,
        )],
        None,
        r#"
warning: no step runs in pool `link`
 --> spolia.toml:2:1
  |
2 | link = 2
  | ^^^^

error: pool `zero` must be from 1 to 10000
 --> spolia.toml:3:8
  |
3 | zero = 0
  |        ^

error: pool `many` must be an integer, not a string
 --> spolia.toml:4:8
  |
4 | many = "x"
  |        ^^^

error: step `a` runs in pool `lnik`, which is not defined
 --> spolia.toml:7:8
  |
7 | pool = "lnik"
  |        ^^^^^^
hint: did you mean `link`?

error: step `b` runs in pool `net`, which is not defined
  --> spolia.toml:11:8
   |
11 | pool = "net"
   |        ^^^^^
hint: `net = 1` below `[pools]` runs one at a time
"#,
    );
}

#[test]
fn mounts() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = []
mounts = [{ id = "c", path = "cache" }, { id = "d", path = "/a/../b" }, { path = "/x" }, { id = "e", path = "/e", sharing = "lock", scope = "all" }, { id = "f", path = "/f" }, { id = "f", path = "/g" }, "h"]
"#,
        )],
        None,
        r#"
error: `cache` is not the absolute path of a folder
 --> spolia.toml:4:30
  |
4 | mounts = [{ id = "c", path = "cache" }, { id = "d", path = "/a/../b" }, { path = "/x" }, { id = "e",…
  |                              ^^^^^^^
hint: write it as `/cache/NAME`

error: `/a/../b` is not the absolute path of a folder
 --> spolia.toml:4:60
  |
4 | mounts = [{ id = "c", path = "cache" }, { id = "d", path = "/a/../b" }, { path = "/x" }, { id = "e",…
  |                                                            ^^^^^^^^^
hint: write it as `/cache/NAME`

error: a mount needs `id`
 --> spolia.toml:4:73
  |
4 | mounts = [{ id = "c", path = "cache" }, { id = "d", path = "/a/../b" }, { path = "/x" }, { id = "e",…
  |                                                                         ^^^^^^^^^^^^^^^

error: `sharing` must be `shared`, `private` or `locked`, not `lock`
 --> spolia.toml:4:125
  |
4 | … path = "/e", sharing = "lock", scope = "all" }, { id = "f", path = "/f" }, { id = "f", path = "/g"…
  |                          ^^^^^^

error: `scope` must be `project`, `platform` or `step`, not `all`
 --> spolia.toml:4:141
  |
4 | …aring = "lock", scope = "all" }, { id = "f", path = "/f" }, { id = "f", path = "/g" }, "h"]
  |                          ^^^^^

error: mount `f` shares its id or its path with one before it
 --> spolia.toml:4:177
  |
4 | …d = "f", path = "/f" }, { id = "f", path = "/g" }, "h"]
  |                          ^^^^^^^^^^^^^^^^^^^^^^^^^

error: an item of `mounts` must be a table, not a string
 --> spolia.toml:4:204
  |
4 | …d = "f", path = "/g" }, "h"]
  |                          ^^^
"#,
    );
}

#[test]
fn values() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = []
timeout = "soon"
retries = 11
engine = "sanbox"
base = "full"
network = "yes"
salt = 1
inputs = "x"
env = { A = 1 }
tools = [""]
needs = [[]]
[cache]
max-size = "20"
max-age = "0s"
"#,
        )],
        None,
        r#"
error: `timeout` must be a duration, not `soon`
 --> spolia.toml:4:11
  |
4 | timeout = "soon"
  |           ^^^^^^
hint: write it as `500ms`, `30s`, `1h30m` or `7d`

error: `retries` must be from 0 to 10
 --> spolia.toml:5:11
  |
5 | retries = 11
  |           ^^

error: `engine` must be `sandbox` or `host`, not `sanbox`
 --> spolia.toml:6:10
  |
6 | engine = "sanbox"
  |          ^^^^^^^^
hint: did you mean `sandbox`?

error: `base` must be `default` or `strict`, not `full`
 --> spolia.toml:7:8
  |
7 | base = "full"
  |        ^^^^^^

error: `network` must be `true` or `false`, not a string
 --> spolia.toml:8:11
  |
8 | network = "yes"
  |           ^^^^^

error: `salt` must be a string, not an integer
 --> spolia.toml:9:8
  |
9 | salt = 1
  |        ^

error: `inputs` must be a list of strings, not a string
  --> spolia.toml:10:10
   |
10 | inputs = "x"
   |          ^^^

error: variable `A` must be a string, not an integer
  --> spolia.toml:11:13
   |
11 | env = { A = 1 }
   |             ^

error: an item of `tools` is empty
  --> spolia.toml:12:10
   |
12 | tools = [""]
   |          ^^

error: an item of `needs` must be a string, not a list
  --> spolia.toml:13:10
   |
13 | needs = [[]]
   |          ^^

error: `max-size` must be a size, not `20`
  --> spolia.toml:15:12
   |
15 | max-size = "20"
   |            ^^^^
hint: write it as `500MB`, `20GB` or `512MiB`

error: `max-age` must be a duration, not `0s`
  --> spolia.toml:16:11
   |
16 | max-age = "0s"
   |           ^^^^
hint: write it as `500ms`, `30s`, `1h30m` or `7d`
"#,
    );
}

#[test]
fn inputs() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = []
inputs = ["", "../x", "/etc/passwd", "a[b", "a{b", "ok/**"]
"#,
        )],
        None,
        r#"
error: an empty pattern selects nothing
 --> spolia.toml:4:11
  |
4 | inputs = ["", "../x", "/etc/passwd", "a[b", "a{b", "ok/**"]
  |           ^^

error: `../x` leaves the folder it is relative to
 --> spolia.toml:4:15
  |
4 | inputs = ["", "../x", "/etc/passwd", "a[b", "a{b", "ok/**"]
  |               ^^^^^^

error: `/etc/passwd` is absolute; paths are relative to the manifest's folder
 --> spolia.toml:4:23
  |
4 | inputs = ["", "../x", "/etc/passwd", "a[b", "a{b", "ok/**"]
  |                       ^^^^^^^^^^^^^

error: `a[b` has a `[` that is not closed
 --> spolia.toml:4:38
  |
4 | inputs = ["", "../x", "/etc/passwd", "a[b", "a{b", "ok/**"]
  |                                      ^^^^^

error: `a{b` has a `{` that is not closed
 --> spolia.toml:4:45
  |
4 | inputs = ["", "../x", "/etc/passwd", "a[b", "a{b", "ok/**"]
  |                                             ^^^^^
"#,
    );
}

#[test]
fn containers() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.image]
dockerfile = "Dockerfile"
contexts = { tools = "step:fio" }
export = "local:dist"
"#,
        )],
        None,
        r#"
error: step `image` is a container step, and those are not in this version
 --> spolia.toml:2:1
  |
2 | dockerfile = "Dockerfile"
  | ^^^^^^^^^^
hint: call the container tool in `run`, with `engine = "host"`
"#,
    );
}

#[test]
fn syntax() {
    check(
        &[(
            "spolia.toml",
            r#"[project
name = "x"
[steps.a]
run = 
outputs = []
needs = ["nothing"]
run = "y"
"#,
        )],
        None,
        r#"
error: not valid TOML: unclosed table, expected `]`
 --> spolia.toml:1:9
  |
1 | [project
  |         ^

error: not valid TOML: a value is missing
 --> spolia.toml:4:7
  |
4 | run =
  |       ^

error: not valid TOML: duplicate key
 --> spolia.toml:7:1
  |
7 | run = "y"
  | ^^^
"#,
    );
}

#[test]
fn unknown_variant() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = []
[variant.dev]
"#,
        )],
        Some("dve"),
        r#"
error: no variant is called `dve`
hint: did you mean `dev`?
"#,
    );
}

#[test]
fn unknown_variant_among_none() {
    check(
        &[(
            "spolia.toml",
            r#"[steps.a]
run = "x"
outputs = []
"#,
        )],
        Some("dev"),
        r#"
error: no variant is called `dev`
hint: the manifest has none: add a table `[variant.NAME]`
"#,
    );
}

#[test]
fn variants() {
    check(
        &[(
            "spolia.toml",
            r#"[project]
platforms = ["linux/amd64"]
[steps.a]
run = "x"
outputs = []
[variant.dev]
env = { "A B" = "1" }
platforms = ["linux/arm64"]
steps.b.run = "y"
steps.a.needs = ["zz"]
steps.a.platforms = "any"
speed = 1
"#,
        )],
        None,
        r#"
error: `A B` is not a name for a variable
 --> spolia.toml:7:9
  |
7 | env = { "A B" = "1" }
  |         ^^^^^
hint: use letters, digits and `_`

error: the project is not built for linux/arm64
 --> spolia.toml:8:14
  |
8 | platforms = ["linux/arm64"]
  |              ^^^^^^^^^^^^^
hint: did you mean `linux/amd64`?

error: variant `dev` changes step `b`, which is not defined
 --> spolia.toml:9:7
  |
9 | steps.b.run = "y"
  |       ^ no step has this name

error: step `a` needs `zz`, which is not defined
  --> spolia.toml:10:18
   |
10 | steps.a.needs = ["zz"]
   |                  ^^^^ no step has this name

error: `platforms` is not a key of step `a` of a variant
  --> spolia.toml:11:9
   |
11 | steps.a.platforms = "any"
   |         ^^^^^^^^^ unknown
hint: its keys are `run`, `needs`, `inputs`, `env`, `pass-env`, `tools`, `outputs`, `to`, `source`, `network`, `mounts`, `timeout`, `retries`, `pool`, `engine`, `base` and `salt`

error: `speed` is not a key of variant `dev`
  --> spolia.toml:12:1
   |
12 | speed = 1
   | ^^^^^ unknown
hint: its keys are `env`, `platforms` and `steps`
"#,
    );
}

#[test]
fn includes() {
    check(
        &[
            (
                "spolia.toml",
                r#"include = ["sub/a.toml", "sub/a.toml", "gone.toml", "../up.toml", "/abs.toml"]
[steps.a]
run = "x"
outputs = []
"#,
            ),
            (
                "sub/a.toml",
                r#"include = ["../spolia.toml", "b.toml"]
[project]
name = "x"
[pools]
p = 1
[oops]
"#,
            ),
            (
                "sub/b.toml",
                r#"[steps.a]
run = "y"
outputs = []
[pools]
p = 2
[platform."linux/amd64"]
x = "1"
"#,
            ),
        ],
        None,
        r#"
error: `sub/a.toml` is included twice
 --> spolia.toml:1:26
  |
1 | include = ["sub/a.toml", "sub/a.toml", "gone.toml", "../up.toml", "/abs.toml"]
  |                          ^^^^^^^^^^^^

error: `gone.toml` cannot be read: no such file
 --> spolia.toml:1:40
  |
1 | include = ["sub/a.toml", "sub/a.toml", "gone.toml", "../up.toml", "/abs.toml"]
  |                                        ^^^^^^^^^^^

error: `../up.toml` is not a file of the project
 --> spolia.toml:1:53
  |
1 | include = ["sub/a.toml", "sub/a.toml", "gone.toml", "../up.toml", "/abs.toml"]
  |                                                     ^^^^^^^^^^^^
hint: write it relative to this file

error: `/abs.toml` is not a file of the project
 --> spolia.toml:1:67
  |
1 | include = ["sub/a.toml", "sub/a.toml", "gone.toml", "../up.toml", "/abs.toml"]
  |                                                                   ^^^^^^^^^^^
hint: write it relative to this file

error: `spolia.toml` includes itself
 --> sub/a.toml:1:12
  |
1 | include = ["../spolia.toml", "b.toml"]
  |            ^^^^^^^^^^^^^^^^

error: `project` belongs in the root file, not in one that is included
 --> sub/a.toml:2:2
  |
2 | [project]
  |  ^^^^^^^
hint: an included file has `include`, `platform`, `pools` and `steps`

error: `oops` is not a key of an included file
 --> sub/a.toml:6:2
  |
6 | [oops]
  |  ^^^^ unknown
hint: its keys are `include`, `platform`, `pools` and `steps`
"#,
    );
}

#[test]
fn mistakes_in_all_files() {
    check(
        &[
            (
                "spolia.toml",
                r#"include = ["b.toml"]
[steps.a]
run = 1
outputs = []
"#,
            ),
            (
                "b.toml",
                r#"[steps.b]
run = 1
outputs = []
"#,
            ),
        ],
        None,
        r#"
error: `run` must be a string or a list of strings, not an integer
 --> spolia.toml:3:7
  |
3 | run = 1
  |       ^

error: `run` must be a string or a list of strings, not an integer
 --> b.toml:2:7
  |
2 | run = 1
  |       ^
"#,
    );
}

#[test]
fn defined_twice() {
    check(
        &[
            (
                "spolia.toml",
                r#"include = ["sub/b.toml"]
[pools]
p = 1
[platform."linux/amd64"]
x = "1"
[steps.a]
run = "x"
pool = "p"
outputs = []
"#,
            ),
            (
                "sub/b.toml",
                r#"[steps.a]
run = "y"
outputs = []
[pools]
p = 2
[platform."linux/amd64"]
x = "1"
y = "2"
"#,
            ),
        ],
        None,
        r#"
error: step `a` is defined twice
 --> sub/b.toml:1:8
  |
1 | [steps.a]
  |        ^
 ::: spolia.toml:6:8
  |
6 | [steps.a]
  |        ^ the first

error: pool `p` is defined twice
 --> sub/b.toml:5:1
  |
5 | p = 2
  | ^

error: `x` of linux/amd64 is defined twice
 --> sub/b.toml:7:1
  |
7 | x = "1"
  | ^
"#,
    );
}

#[test]
fn a_platform_in_unusual_words_has_a_table_or_is_a_slip() {
    check(
        &[(
            "spolia.toml",
            r#"[platform."none/cortexm"]
cc = "arm-none-eabi-gcc"
[steps.a]
run = "x"
outputs = []
platforms = ["linux/amd46", "none/cortexm", "none/avr"]
"#,
        )],
        None,
        r#"
error: `linux/amd46` is no platform that is known
 --> spolia.toml:6:14
  |
6 | platforms = ["linux/amd46", "none/cortexm", "none/avr"]
  |              ^^^^^^^^^^^^^
hint: did you mean `linux/amd64`?

error: `none/avr` is no platform that is known
 --> spolia.toml:6:45
  |
6 | platforms = ["linux/amd46", "none/cortexm", "none/avr"]
  |                                             ^^^^^^^^^^
hint: if it is meant, add a table `[platform."none/avr"]`
"#,
    );
}
