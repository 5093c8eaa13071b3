#!/usr/bin/env python3
"""Walk and plan: `spolia sweep --dry-run` beside `cargo sweep --dry-run` on the same trees, in turn.

    cargo xtask build
    cargo xtask sweep-proof
    benches/sweep/compare.py --fixture target/sweep-proof/full --files 0,200000,500000 --rounds 5

`--files 0` is the fixture as it is. The others have it with copies of its stale units under other hashes until there are
so many files, as years of lock files leave them. They are made in `--folder` (a tmpfs by default: no disk is measured).

Both tools ask `cargo` and `rustc`, which takes longer than the walk of a small tree and is none of it. Spolia remembers the
answers, so its second sweep asks nobody, and that is what is measured. For cargo-sweep, and for a Spolia that does not remember
(`--also`), they answer at once, with what they said the first time (a shell and a `cat` each time, which count as the tool's).
What the true ones take is the last rows, of Spolia with nothing remembered.

- `--time 7`: what is stale was last read 30 days ago, so cargo-sweep plans what Spolia plans: the same job.
- `--time 1000`: nothing is so old, so it plans nothing and adds nothing up.
- `--sizes`: Spolia adds up what stays as well, and Cargo's notes of what goes.
- `floor`: the least that can add up a tree: every folder listed, every file looked at, one thread (`floor.rs`).

CPU is user and system of the program and what it starts; what is in memory is the kernel's peak of the largest of them.
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
DAY = 24 * 60 * 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--fixture", type=Path, required=True, help="made by `cargo xtask sweep-proof`")
    parser.add_argument("--files", default="0,200000", help="sizes of trees, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spolia", type=Path, default=here / "target/release/spolia")
    parser.add_argument("--peers", type=Path, help="where cargo-sweep is installed; a folder of its own by default")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--also", type=Path, help="another build of Spolia to measure beside")
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


def age(ws, fresh):
    """Makes what is stale last read 30 days ago, by the files that cargo-sweep looks at."""
    then, target = time.time() - 30 * DAY, ws / "target"
    for profile in ("debug", "release"):
        for unit in (target / profile / ".fingerprint").iterdir():
            live = (fresh / profile / ".fingerprint" / unit.name).exists()
            for entry in os.scandir(unit):
                stat = entry.stat()
                os.utime(entry.path, (time.time() if live else then, stat.st_mtime))


def answering(folder, lines, own_env, env):
    """Programs that say what `cargo` and `rustc` say to these command lines; the `PATH` with them."""
    programs = folder / "bin"
    programs.mkdir()
    names = ("cargo", "rustc", "rustup")
    real = {name: shutil.which(name, path=env["PATH"]) for name in names}
    for name in names:
        note = f'printf "%s\\t%s\\n" "$PWD" "$*" >> {programs}/{name}.asked\n'
        script(programs / name, f'{note}exec {real[name]} "$@"\n')
    path = f"{programs}:{env['PATH']}"
    for name, line in lines.items():
        run(line, own_env(name) | {"PATH": path})
    env = env | {"PATH": path}
    for name in names:
        asked = programs / f"{name}.asked"
        cases = []
        for number, one in enumerate(sorted(set(asked.read_text().splitlines()))) if asked.exists() else []:
            cwd, words = one.split("\t")
            said = subprocess.run([real[name], *words.split()], cwd=cwd, env=env, stdout=subprocess.PIPE, check=True)
            (programs / f"{name}.{number}").write_bytes(said.stdout)
            cases.append(f'"{words}") exec cat {programs}/{name}.{number} ;;')
        script(programs / name, f'case "$*" in\n{chr(10).join(cases)}\nesac\nexec {real[name]} "$@"\n')
    return path


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def run(line, env):
    """CPU ms, wall ms, peak KiB, output."""
    began = time.monotonic()
    child = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = (time.monotonic() - began) * 1000
    if status != 0:
        sys.exit(f"{line} ended with {status}")
    return (usage.ru_utime + usage.ru_stime) * 1000, wall, usage.ru_maxrss, said


def main():
    args = arguments()
    peers = args.peers or args.fixture / "peers"
    peer = install(peers)
    floor = peers / "floor"
    source = Path(__file__).with_name("floor.rs")
    subprocess.run(["rustc", "--edition=2024", "-O", "-o", floor, source], check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO", "RUST"))}
    kept |= {name: os.environ[name] for name in ("CARGO_HOME", "RUSTUP_HOME") if name in os.environ}
    print(f"load at the start: {os.getloadavg()[0]:.1f}\n")
    print("| entries | program | CPU ms, median (lowest–highest) | wall ms | peak MB |")
    print("|---|---|---|---|---|", flush=True)
    for files in map(int, args.files.split(",")):
        folder = args.folder / f"spolia-sweep-bench-{os.getpid()}"
        folder.mkdir()
        try:
            measure(args, files, folder, peer, floor, kept)
        finally:
            shutil.rmtree(folder)


def row(entries, name, rows):
    spread = lambda column: f"{statistics.median(column):.0f} ({min(column):.0f}–{max(column):.0f})"
    cpu, wall, peak = list(zip(*(row[:3] for row in rows)))
    print(f"| {entries} | {name} | {spread(cpu)} | {spread(wall)} | {max(peak) / 1000:.0f} |", flush=True)
    return statistics.median(cpu), statistics.median(wall)


def measure(args, files, folder, peer, floor, kept):
    ws, fresh = folder / "ws", args.fixture / "fresh"
    if not fresh.is_dir():
        sys.exit(f"{fresh} is not there: what is live is not known; `cargo xtask sweep-proof [--small]` makes it")
    subprocess.run(["cp", "-a", args.fixture / "ws", ws], check=True)
    if files:
        grow(ws, fresh, files)
    entries = count(ws / "target")
    env = kept | {"SPOLIA_CACHE_DIR": str(folder / "store")}
    spolia = [str(args.spolia), "sweep", "--dry-run", str(ws)]
    lines = {
        "spolia": spolia,
        "cargo-sweep --time 7": [str(peer), "sweep", "--dry-run", "--time", "7", str(ws)],
        "cargo-sweep --time 1000": [str(peer), "sweep", "--dry-run", "--time", "1000", str(ws)],
        "cargo-sweep --installed": [str(peer), "sweep", "--dry-run", "--installed", str(ws)],
        "floor": [str(floor), str(ws / "target")],
    }
    lines["spolia --sizes"] = [*spolia, "--sizes"]
    other = env | {"SPOLIA_CACHE_DIR": str(folder / "other")}
    if args.also:
        lines["spolia, the other"] = [str(args.also), *spolia[1:]]
    first = run(spolia, env)
    # What was written just now is not believed yet.
    time.sleep(3)
    run(spolia, env)
    own_env = lambda name: other if name == "spolia, the other" else env
    for name, line in lines.items():
        run(line, own_env(name))
    asking = {name: line for name, line in lines.items() if name not in ("spolia", "spolia --sizes", "floor")}
    quick = answering(folder, asking, own_env, env)
    samples = {name: [] for name in lines}
    for _ in range(args.rounds):
        for name, line in lines.items():
            if name.endswith("--time 7"):
                age(ws, fresh)
            samples[name].append(run(line, own_env(name) | {"PATH": quick} if name in asking else env))
    medians = {name: row(entries, name, rows) for name, rows in samples.items()}
    row(entries, "spolia, every reason (--json)", [run([spolia[0], "--json", *spolia[1:]], env) for _ in range(2)])
    for name in ("cargo-sweep --time 7", "spolia, the other"):
        if name in lines:
            rows = []
            for _ in range(args.rounds):
                # The same job as above: what is stale was read just now.
                age(ws, fresh)
                rows.append(run(lines[name], own_env(name)))
            row(entries, f"{name}, with the true cargo", rows)
    row(entries, "spolia, nothing remembered", [first])
    for name in lines:
        if name.startswith("cargo-sweep"):
            cpu, wall = (medians["spolia"][at] / medians[name][at] for at in (0, 1))
            print(f"  spolia takes {cpu:.2f} of the CPU and {wall:.2f} of the time of {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
