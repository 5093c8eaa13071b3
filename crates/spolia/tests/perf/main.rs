//! What must hold of `spolia perf`, proved with the real binary.

mod bisect;
mod check;
mod measure;

use std::process::Output;

use serde_json::Value;
use spolia_testing::{Engine, TestEnv};

/// A step, and one that needs it.
const TWO_STEPS: &str = r#"
[steps.one]
platforms = "any"
run = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo 12345 > ${out}/a"
outputs = ["a"]
[steps.two]
platforms = "any"
needs = ["one"]
run = "cat ${step.one}/a > ${out}/b"
outputs = ["b"]
"#;

fn env() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_spolia"), Engine::Host)
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn perf(env: &TestEnv, args: &[&str]) -> Said {
    let Output { status, stdout, stderr } = env.command(["perf"].iter().chain(args)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Counts to a number in the shell: CPU time that can be planted.
fn count_to(number: u32) -> String {
    format!("i=0; while [ $i -lt {number} ]; do i=$((i+1)); done")
}
