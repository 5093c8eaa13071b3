"""Packs one tree with Spolia and with tar | pigz, in turn, and prints one table.

CPU is user and system time of the processes and all they waited for; memory is the peak of the largest one.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MANIFEST = """[project]
platforms = ["linux/amd64"]
[dist.big]
archive = "{archive}"
any-machine = true
files = {{ "data" = "data/**" }}
"""


def fill(folder, size):
    """Copies real files of this machine's system, programs and texts in turn, until there are `size` bytes."""
    total = 0
    sources = [pathlib.Path(p) for p in ("/usr/lib", "/usr/bin", "/usr/share", "/usr/include")]
    walks = [iter(sorted(p for p in s.rglob("*") if p.is_file() and not p.is_symlink())) for s in sources]
    number = 0
    while total < size and walks:
        for walk in list(walks):
            path = next(walk, None)
            if path is None:
                walks.remove(walk)
                continue
            try:
                length = path.stat().st_size
                if length > size // 4:
                    continue
                to = folder / f"{number % 64:02}" / f"{number:06}-{path.name}"
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)
            except OSError:
                continue
            total += length
            number += 1
            if total >= size:
                break


def measured(command, cwd, env):
    """CPU s, wall s, peak KiB."""
    began = time.monotonic()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{command} failed: {said.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss


def shown(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--spolia", default=root / "target/release/spolia", type=pathlib.Path)
    parser.add_argument("--size", default=1_000_000_000, type=int, help="bytes of the tree [1 GB]")
    parser.add_argument("--runs", default=5, type=int)
    parser.add_argument("--threads", default=len(os.sched_getaffinity(0)), type=int)
    parser.add_argument("--tree", type=pathlib.Path, help="the project with the tree; made there where it is missing")
    parser.add_argument("--only-tree", action="store_true", help="make the tree and measure nothing")
    parser.add_argument("--format", default="tgz", choices=["tgz", "zip"], help="what is packed [tgz]")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="spolia-bench-dist-"))
    project = args.tree or folder / "project"
    if not (project / "data").exists():
        project.mkdir(exist_ok=True)
        fill(project / "data", args.size)
    found = [path.stat().st_size for path in (project / "data").rglob("*") if path.is_file()]
    size, files = sum(found), len(found)
    if args.only_tree:
        print(f"{size} bytes in {files} files")
        shutil.rmtree(folder)
        return
    archive = f"big.{args.format}"
    (project / "spolia.toml").write_text(MANIFEST.format(archive=archive))
    env = dict(os.environ, SPOLIA_CACHE_DIR=str(folder / "store"), LC_ALL="C", SOURCE_DATE_EPOCH="1700000000")
    threads = str(args.threads)
    spolia = [str(args.spolia), "dist", "--jobs", threads, "-o", str(folder / "out")]
    tar = "tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1700000000 -cf - data"
    tools = {"spolia dist": spolia + ["--no-cache"]}
    if args.format == "tgz":
        tools["tar | pigz"] = ["sh", "-c", f"{tar} | pigz -n -6 -p {threads} > {folder}/peer"]
    else:
        tools["zip"] = ["sh", "-c", f"rm -f {folder}/peer; zip -q -r -6 -X {folder}/peer.zip data && mv {folder}/peer.zip {folder}/peer"]
    results = {name: [] for name in tools}
    for command in tools.values():
        measured(command, project, env)
    for _ in range(args.runs):
        for name, command in tools.items():
            results[name].append(measured(command, project, env))
    results["spolia dist, nothing changed"] = [measured(spolia, project, env) for _ in range(args.runs)]
    sizes = {name: folder / "peer" for name in tools} | {"spolia dist": folder / "out" / archive}
    print(f"{size} bytes in {files} files, {threads} threads\n")
    print("| tool | CPU s, median (lowest–highest) | wall s, median (lowest–highest) | peak memory MB | archive bytes | runs |")
    print("|---|---|---|---|---|---|")
    for name, runs in results.items():
        cpu, wall, peak = ([run[at] for run in runs] for at in range(3))
        archive = sizes.get(name)
        length = archive.stat().st_size if archive else "—"
        peak = f"{max(peak) * 1024 / 1e6:.0f}"
        print(f"| {name} | {shown(cpu, 2)} | {shown(wall, 2)} | {peak} | {length} | {len(runs)} |")
    if args.keep:
        print(f"\nkept: {folder}")
    else:
        shutil.rmtree(folder)


main()
