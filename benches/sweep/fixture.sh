#!/usr/bin/env bash
# Makes a workspace of published crates and builds it as a year of work would: three lock files, each in dev,
# release, test and check, the second with RUSTFLAGS. What is live in the end are the third's four commands.
#
#   fixture.sh DIR          makes DIR/ws (with target/), DIR/locks and DIR/commands
#
# FIXTURE_SMALL=1 takes crates that compile in a second. FIXTURE_FLAGS are flags for Cargo itself, such as
# `-Zbuild-dir-new-layout`. Set CARGO_BUILD_JOBS to be kind to a shared machine.
set -euo pipefail
dir=${1:?usage: fixture.sh DIR}
mkdir -p "$dir/ws" "$dir/locks"
cd "$dir/ws"
unset RUSTFLAGS CARGO_TARGET_DIR CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER
mkdir -p app/src app/examples app/tests core/src
cat > Cargo.toml <<'T'
[workspace]
members = ["app", "core"]
resolver = "3"
T
small=${FIXTURE_SMALL:-}
if [ -n "$small" ]; then
    core_needs='anyhow = "1"
either = "1"'
    app_needs='itoa = "1"'
else
    core_needs='serde = { version = "1", features = ["derive"] }
regex = "1"
rayon = "1"
chrono = "0.4"'
    app_needs='clap = { version = "4", features = ["derive"] }
tokio = { version = "1", features = ["rt-multi-thread", "macros", "time"] }'
fi
cat > core/Cargo.toml <<T
[package]
name = "fixture-core"
version = "0.1.0"
edition = "2021"

[dependencies]
$core_needs
T
[ -n "$small" ] || cat > core/src/lib.rs <<'T'
pub fn years(text: &str) -> usize {
    let year = regex::Regex::new(r"\d{4}").unwrap();
    let _now = chrono::DateTime::<chrono::Utc>::from_timestamp(0, 0);
    year.find_iter(text).count()
}

#[test]
fn one() {
    assert_eq!(years("in 1999"), 1);
}
T
[ -z "$small" ] || cat > core/src/lib.rs <<'T'
pub fn years(text: &str) -> usize {
    let found: anyhow::Result<usize> = Ok(text.matches("19").count());
    let found: either::Either<usize, ()> = either::Left(found.unwrap_or(0));
    found.left().unwrap_or(0)
}

#[test]
fn one() {
    assert_eq!(years("in 1999"), 1);
}
T
cat > app/Cargo.toml <<T
[package]
name = "fixture-app"
version = "0.1.0"
edition = "2021"

[dependencies]
fixture-core = { path = "../core" }
$app_needs
T
[ -z "$small" ] || cat > app/src/main.rs <<'T'
fn main() {
    println!("{}", itoa::Buffer::new().format(fixture_core::years("1999")));
}
T
[ -n "$small" ] || cat > app/src/main.rs <<'T'
#[derive(clap::Parser)]
struct Args {
    text: String,
}

#[tokio::main]
async fn main() {
    let args = <Args as clap::Parser>::parse();
    println!("{}", fixture_core::years(&args.text));
}
T
echo 'fn main() { println!("{}", fixture_core::years("1")); }' > app/examples/small.rs
printf '#[test]\nfn it() {\n    assert_eq!(fixture_core::years(""), 0);\n}\n' > app/tests/it.rs

if [ ! -f "$dir/locks/3.lock" ]; then
    cargo generate-lockfile
    cp Cargo.lock "$dir/locks/3.lock"
    # The newest of a crate that an older lock may hold; one that does not resolve is left as it is.
    pin() { cargo update --quiet --package "$1" --precise "$2" 2>/dev/null || echo "fixture: $1 $2 does not resolve"; }
    if [ -n "$small" ]; then
        pin anyhow 1.0.87; pin itoa 1.0.11; pin either 1.12.0
        cp Cargo.lock "$dir/locks/2.lock"
        pin anyhow 1.0.80; pin itoa 1.0.9; pin either 1.10.0
    else
        pin regex 1.11.1; pin tokio 1.44.0; pin clap 4.5.30; pin chrono 0.4.40; pin rayon 1.10.0
        pin serde 1.0.218
        cp Cargo.lock "$dir/locks/2.lock"
        pin regex 1.10.6; pin tokio 1.40.0; pin clap 4.5.20; pin chrono 0.4.38; pin serde 1.0.210
        pin memchr 2.7.1; pin libc 0.2.160
    fi
    cp Cargo.lock "$dir/locks/1.lock"
fi
printf '%s\n' 'cargo build' 'cargo build --release' 'cargo test --no-run' 'cargo check' > "$dir/commands"
for lock in 1 2 3; do
    cp "$dir/locks/$lock.lock" Cargo.lock
    flags=
    [ "$lock" != 2 ] || flags='-C debuginfo=1'
    while read -r command; do
        echo "fixture: lock $lock${flags:+, RUSTFLAGS=$flags}: $command"
        if [ -n "$flags" ]; then export RUSTFLAGS="$flags"; else unset RUSTFLAGS; fi
        cargo ${FIXTURE_FLAGS:-} ${command#cargo } --quiet --locked
    done < "$dir/commands"
done
unset RUSTFLAGS
du -sh target
