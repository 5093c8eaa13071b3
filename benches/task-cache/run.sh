#!/bin/sh
# Spolia beside turbo, nx, ninja and the floors: one command. `run.sh --help` lists the options, ../README.md explains.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$here/measure.py" "$@"
