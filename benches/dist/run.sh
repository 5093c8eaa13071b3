#!/bin/sh
# Packing and gzip of one large tree: Spolia beside tar | pigz. `run.sh --help` lists the options.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
for program in pigz zip git python3; do
    if ! command -v "$program" >/dev/null; then
        [ "$(id -u)" = 0 ] || { echo "$program is missing; as root: apt-get install $program" >&2; exit 1; }
        apt-get install --no-install-recommends -y -q "$program" >/dev/null
    fi
done
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$here/measure.py" "$@"
