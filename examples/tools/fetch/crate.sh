# Fetches one crate as the registry ships it: sh fetch/crate.sh NAME VERSION FILE
#
# A published crate never changes, so its C sources make a pin that lasts. The cargo client does
# the transfer, so a mirror or proxy that cargo knows from its environment is used; nothing here
# names a host. Cargo's home is private and goes away: the user's own is neither read nor written.
set -eu

if [ $# -ne 3 ]; then
    echo "usage: sh crate.sh NAME VERSION FILE" >&2
    exit 2
fi
name=$1 version=$2 file=$3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/src"
: >"$work/src/lib.rs"

# Cargo ignores what stands behind `+` when it compares versions, and warns about it. The empty
# `[workspace]` keeps cargo from looking for one in the folders above.
cat >"$work/Cargo.toml" <<MANIFEST
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"

[workspace]

[dependencies]
$name = { version = "=${version%%+*}", default-features = false }
MANIFEST

CARGO_HOME=$work/home
export CARGO_HOME
(cd "$work" && cargo fetch --quiet)

set -- "$work"/home/registry/cache/*/"$name-$version.crate"
if [ ! -f "$1" ]; then
    echo "error: cargo fetched no \`$name-$version.crate\`; it holds:" >&2
    ls "$work"/home/registry/cache/*/ >&2
    exit 1
fi
cp "$1" "$file"
