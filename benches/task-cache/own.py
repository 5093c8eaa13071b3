"""Spolia's own CPU, its steps excluded, for one or more builds of it in turn.

    own.py CASE PACKAGES ROUNDS PROGRAM… [--engine host|sandbox] [--folder FOLDER]

CASE is cold, noop or restore. The programs run in turn, each in a tree and store of its own. Own CPU is what the kernel says of
the ended process before it is reaped (`utime` and `stime` in `/proc/PID/stat`: all its threads, no child); the steps' is what
it says of the children it waited for. What a case needs gone is moved aside and removed at the end: where ext4 has no
journal, removing thousands of files makes new ones dear for minutes, and that is no tool's cost.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import install
import peers
from generate import Shape, commit, settle, write_tree

FILES = 3
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def run(program: pathlib.Path, engine: str, tree: pathlib.Path, store: pathlib.Path) -> tuple[float, float, float]:
    """Own CPU, the children's CPU, wall; milliseconds."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(store.parent), "SPOLIA_CACHE_DIR": str(store)}
    words = [program, "build", "--engine", engine, "--jobs", str(len(os.sched_getaffinity(0)))]
    began = time.monotonic()
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(words, cwd=tree, env=environment, **quiet)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    wall = (time.monotonic() - began) * 1000
    # After the name in brackets, from the third field on.
    fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    user, system, children_user, children_system = (int(field) * TICK_MS for field in fields[11:15])
    if child.wait():
        raise SystemExit(f"{program}: exit {child.returncode}")
    return user + system, children_user + children_system, wall


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=["cold", "noop", "restore"])
    parser.add_argument("packages", type=int)
    parser.add_argument("rounds", type=int)
    parser.add_argument("programs", type=pathlib.Path, nargs="+")
    parser.add_argument("--engine", default="host")
    parser.add_argument("--folder", type=pathlib.Path, help="where the trees go (a temporary folder)")
    options = parser.parse_args()
    shape = Shape("own", options.packages, FILES)
    mk = install.programs(install.default_cache() / "bin").mk
    base = pathlib.Path(tempfile.mkdtemp(dir=options.folder))
    aside = base / "aside"
    aside.mkdir()

    def put_aside(path: pathlib.Path) -> None:
        if path.exists():
            path.rename(aside / str(len(os.listdir(aside))))

    programs = [program.resolve() for program in options.programs]
    trees = [base / f"tree{number}" for number in range(len(programs))]
    for program, tree in zip(programs, trees):
        write_tree(tree, shape, mk)
        peers.Spolia("spolia", None, program=program, engine=options.engine).configure(tree, shape)
        commit(tree)
    settle(trees)
    taken: list[list[tuple[float, float, float]]] = [[] for _ in programs]
    for round_ in range(-3 if options.case != "cold" else 0, options.rounds):
        for number, (program, tree) in enumerate(zip(programs, trees)):
            store = base / f"store{number}"
            if options.case == "cold":
                put_aside(store)
                put_aside(tree / ".spolia")
            if options.case == "cold" or (options.case == "restore" and round_ >= 0):
                for package in shape.package_names():
                    put_aside(tree / "packages" / package / "dist")
            sample = run(program, options.engine, tree, store)
            if round_ >= 0:
                taken[number].append(sample)
            else:
                time.sleep(0.3)
    for program, samples in zip(options.programs, taken):
        columns = [f"{statistics.median(column):.0f} ({min(column):.0f}–{max(column):.0f})" for column in zip(*samples)]
        print(f"{program}: own {columns[0]} ms CPU, steps {columns[1]} ms CPU, {columns[2]} ms wall; load {os.getloadavg()[0]:.0f}")
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
