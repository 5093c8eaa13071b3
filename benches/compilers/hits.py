#!/usr/bin/env python3
"""What one hit costs: a C file with 50 and one with 300 headers, by Spolia, ccache and sccache in turn.

    benches/compilers/hits.py --peers DIR [--spolia PROGRAM] [--calls N] [--rounds N]

DIR is what `peers.sh DIR` has made. CPU is user + system of the calls, with the fork and exec of
this script's own child, which `true` shows alone; of sccache's server as well, from /proc.
"""

import argparse, os, random, resource, statistics, subprocess, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")


def server_cpu():
    total = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if "sccache" in (entry / "comm").read_text():
                    words = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
                    total += sum(int(word) for word in words[11:13]) / TICKS
            except OSError:
                pass
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spolia", default=str(ROOT / "target/release/spolia"))
    parser.add_argument("--peers", required=True)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-hits-"))
    tools = Path(options.peers).resolve() / "bin"
    env = dict(os.environ, SPOLIA_CACHE_DIR=str(work / "s"), CCACHE_DIR=str(work / "c"), SCCACHE_DIR=str(work / "x"),
               SCCACHE_SERVER_PORT="43131", LC_ALL="C")
    wrap = {"spolia": [options.spolia, "cc"], "ccache": [f"{tools}/ccache"], "sccache": [f"{tools}/sccache"], "true": None}
    print("| source | tool | CPU ms a call, median (lowest–highest) |")
    print("|---|---|---|")
    for count in [50, 300]:
        folder = work / f"h{count}"
        (folder / "inc").mkdir(parents=True)
        for number in range(count):
            body = "".join(f"int f{number}_{i}(int);\n" for i in range(60))
            (folder / f"inc/h{number}.h").write_text(f"#ifndef H{number}\n#define H{number}\n{body}#endif\n")
        (folder / "a.c").write_text("".join(f'#include "h{n}.h"\n' for n in range(count)) + "int a;\n")
        time.sleep(1)
        args = ["gcc", "-O1", "-Iinc", "-MD", "-c", "a.c", "-o", "a.o"]
        command = {tool: first + args if first else ["true"] for tool, first in wrap.items()}
        for tool in wrap:
            for _ in range(3):
                subprocess.run(command[tool], cwd=folder, env=env, check=True)
        found = {tool: [] for tool in wrap}
        for _ in range(options.rounds):
            order = list(wrap)
            random.shuffle(order)
            for tool in order:
                server, before = server_cpu(), resource.getrusage(resource.RUSAGE_CHILDREN)
                for _ in range(options.calls):
                    subprocess.run(command[tool], cwd=folder, env=env, check=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                if tool == "sccache":
                    cpu += max(0.0, server_cpu() - server)
                found[tool].append(cpu * 1000 / options.calls)
        for tool, cpus in found.items():
            print(f"| {count} headers | {tool} | {statistics.median(cpus):.1f} ({min(cpus):.1f}–{max(cpus):.1f}) |", flush=True)
    subprocess.run([f"{tools}/sccache", "--stop-server"], env=env, capture_output=True)


main()
