#!/usr/bin/env python3
"""Walk and plan: `spolia sweep --dry-run` beside `cargo sweep --dry-run` on the same trees, in turn.

    cargo xtask build
    benches/sweep/fixture.sh /tmp/fixture
    benches/sweep/compare.py --fixture /tmp/fixture --files 0,200000,500000 --rounds 5

`--files 0` is the fixture as it is. The others have it with copies of its stale units under other hashes until there are
so many files, as years of lock files leave them. They are made in `--folder` (a tmpfs by default: no disk is measured).

CPU is the program's own, user and system, without that of the `cargo` and `rustc` that it starts; those are the column
`cargo's`. Spolia remembers Cargo's answers: `asked` is the first run, with nothing remembered. What is in memory is the
kernel's peak of the program itself.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEER = "0.8.0"
TICKS = os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--fixture", type=Path, required=True, help="made by fixture.sh")
    parser.add_argument("--files", default="0,200000", help="sizes of trees, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spolia", type=Path, default=here / "target/release/spolia")
    parser.add_argument("--peers", type=Path, help="where cargo-sweep is installed; a folder of its own by default")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    return parser.parse_args()


def install(peers):
    program = peers / "bin/cargo-sweep"
    if not program.exists():
        print(f"installing cargo-sweep {PEER} into {peers}", file=sys.stderr)
        line = ["cargo", "install", "--quiet", "--locked", "--root", str(peers), "--version", PEER, "cargo-sweep"]
        subprocess.run(line, check=True)
    return program


def count(folder):
    return sum(len(files) + len(folders) for _, folders, files in os.walk(folder))


def grow(ws, fresh, wanted, seed=1):
    """Copies stale units of `ws/target` under new hashes until it has `wanted` entries."""
    rng = random.Random(seed)
    target = ws / "target"
    units = {}
    for profile in ("debug", "release"):
        for place in (".fingerprint", "build", "deps", "examples", "incremental"):
            folder = target / profile / place
            for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
                stem = entry.name.split(".")[0]
                if "-" in stem and len(stem.rsplit("-", 1)[1]) == 16 and not (fresh / profile / place / entry.name).exists():
                    units.setdefault((profile, stem.rsplit("-", 1)[1]), []).append(entry)
    if not units:
        sys.exit("the fixture has no stale unit")
    there = count(target)
    while there < wanted:
        for (_, old), entries in units.items():
            new = f"{rng.getrandbits(64):016x}"
            for entry in entries:
                to = entry.with_name(entry.name.replace(old, new))
                if entry.is_dir():
                    os.mkdir(to)
                    there += 1
                    for folder, folders, files in os.walk(entry):
                        below = to / os.path.relpath(folder, entry)
                        for name in folders:
                            os.mkdir(below / name)
                        for name in files:
                            small(Path(folder) / name, below / name)
                        there += len(folders) + len(files)
                else:
                    small(entry, to)
                    there += 1
            if there >= wanted:
                break
    return there


def small(source, to):
    """Fingerprints whole, the rest as one byte: only names, times and kinds are looked at."""
    stat = os.stat(source)
    data = source.read_bytes() if ".fingerprint" in source.parts else b"x"
    to.write_bytes(data)
    os.utime(to, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def run(line, env):
    """Own CPU ms, children's CPU ms, wall ms, peak KiB, output."""
    began = time.monotonic()
    child = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complaint = child.stdout.read(), child.stderr.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    wall = (time.monotonic() - began) * 1000
    # The name may hold spaces: what counts is after the last bracket.
    fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
    own, theirs = (sum(map(int, fields[at : at + 2])) * 1000 / TICKS for at in (11, 13))
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{line} ended with {status}: {complaint.decode(errors='replace')}")
    return own, theirs, wall, usage.ru_maxrss, said


def main():
    args = arguments()
    peers = args.peers or args.fixture / "peers"
    peer = install(peers)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO", "RUST"))}
    kept |= {name: os.environ[name] for name in ("CARGO_HOME", "RUSTUP_HOME") if name in os.environ}
    print(f"load at the start: {os.getloadavg()[0]:.1f}\n")
    print("| entries | program | own CPU ms, median (lowest–highest) | cargo's CPU ms | wall ms | peak MB |")
    print("|---|---|---|---|---|---|")
    for files in map(int, args.files.split(",")):
        folder = args.folder / f"spolia-sweep-bench-{os.getpid()}"
        folder.mkdir()
        try:
            measure(args, files, folder, peer, kept)
        finally:
            shutil.rmtree(folder)


def measure(args, files, folder, peer, kept):
    ws = folder / "ws"
    subprocess.run(["cp", "-a", args.fixture / "ws", ws], check=True)
    if files:
        grow(ws, args.fixture / "fresh", files)
    entries = count(ws / "target")
    env = kept | {"SPOLIA_CACHE_DIR": str(folder / "store")}
    spolia = [str(args.spolia), "sweep", "--dry-run", str(ws)]
    lines = {
        "spolia": spolia,
        "cargo-sweep --time": [str(peer), "sweep", "--dry-run", "--time", "1000", str(ws)],
        "cargo-sweep --installed": [str(peer), "sweep", "--dry-run", "--installed", str(ws)],
    }
    asked = run(spolia, env)
    samples = {name: [] for name in lines}
    for _ in range(args.rounds):
        for name, line in lines.items():
            samples[name].append(run(line, env))
    samples["spolia, asked"] = [asked]
    for name, rows in samples.items():
        columns = list(zip(*(row[:4] for row in rows)))
        spread = lambda column: f"{statistics.median(column):.0f} ({min(column):.0f}–{max(column):.0f})"
        own, theirs, wall, peak = columns
        print(f"| {entries} | {name} | {spread(own)} | {statistics.median(theirs):.0f} | {spread(wall)} | {max(peak) / 1000:.0f} |", flush=True)
    whole = run([str(args.spolia), "--json", *spolia[1:]], env)
    print(f"  with --json: {whole[0]:.0f} ms, {whole[3] / 1000:.0f} MB", file=sys.stderr)
    for line in whole[4].decode().splitlines():
        line = json.loads(line)
        if line["kind"] == "sweep-plan":
            print(f"  walked {line['scanned']} entries in {line['scan_us'] / 1000:.0f} ms of wall time; {line['questions']} questions, "
                  f"{line['questions_remembered']} remembered; {len(line['plan']['entries'])} things planned", file=sys.stderr)
    base = min(statistics.median(row[0] for row in samples[name]) for name in lines if name != "spolia")
    own = statistics.median(row[0] for row in samples["spolia"])
    print(f"  own CPU of spolia is {own / max(base, 1):.2f} of the cheaper cargo-sweep's", file=sys.stderr)


if __name__ == "__main__":
    main()
