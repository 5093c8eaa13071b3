#!/usr/bin/env python3
"""The C and C++ half of the compiler-cache benchmark: Spolia beside ccache and sccache.

    benches/compilers/c.py --peers DIR [--spolia PROGRAM] [--rounds N] [--tree NAME]... [--cold N]

Trees come through package clients: zstd (C, crate zstd-sys), leveldb as C++17 (crate leveldb-sys), and one C file with
50 and one with 300 headers, generated here. DIR is what `peers.sh DIR` has made. Every round runs
every tool in turn, in another order. CPU is user + system of make and all it waited for, and of sccache's server
(from /proc). `cp` is the same tree with a compiler that only copies a ready object: what make, fork and writing cost.
"""

import argparse, os, random, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")


def fetch(work):
    """The two crates' sources, by cargo."""
    project = work / "fetch"
    (project / "src").mkdir(parents=True, exist_ok=True)
    (project / "src/lib.rs").write_text("")
    (project / "Cargo.toml").write_text(
        '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
        '[dependencies]\nzstd-sys = "2.0.16"\nleveldb-sys = "=2.0.9"\n[workspace]\n')
    subprocess.run(["cargo", "vendor", "--quiet", "vendor"], cwd=project, check=True, stdout=subprocess.DEVNULL)
    return project / "vendor"


class Tree:
    def __init__(self, name, folder, sources, compiler, flags):
        self.name, self.folder, self.sources, self.compiler, self.flags = name, folder, sources, compiler, flags
        rules, objects = [], []
        for number, source in enumerate(sources):
            target = f"out/{number}.o"
            objects.append(target)
            rules.append(f"{target}: {source}\n\t$(WRAP) {compiler} {flags} -MD -c $< -o $@\n")
        text = "all: " + " ".join(objects) + "\n" + "".join(rules)
        (folder / "bench.mk").write_text(text)

    def clean(self):
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir()


def trees(work):
    vendor = fetch(work)
    found = []
    zstd = work / "zstd"
    shutil.copytree(vendor / "zstd-sys/zstd/lib", zstd, dirs_exist_ok=True)
    sources = sorted(str(path.relative_to(zstd)) for part in ["common", "compress", "decompress", "dictBuilder"]
                     for path in (zstd / part).glob("*.c"))
    found.append(Tree("zstd", zstd, sources, "gcc", "-O2 -g -I. -DZSTD_DISABLE_ASM=1"))
    leveldb = work / "leveldb"
    shutil.copytree(vendor / "leveldb-sys/deps/leveldb-1.22", leveldb, dirs_exist_ok=True)
    (leveldb / "include/port").mkdir(parents=True, exist_ok=True)
    template = (leveldb / "port/port_config.h.in").read_text().replace("#cmakedefine01 ", "#define ")
    lines = []
    for line in template.splitlines():
        words = line.split()
        lines.append(f"#define {words[1]} 1" if line.startswith("#define ") and len(words) == 2
                     and words[1] in ("HAVE_FDATASYNC", "HAVE_O_CLOEXEC") else
                     (f"#define {words[1]} 0" if line.startswith("#define ") and len(words) == 2
                      and words[1].startswith("HAVE") else line))
    (leveldb / "include/port/port_config.h").write_text("\n".join(lines) + "\n")
    names = [path for part in ["db", "table", "util"] for path in sorted((leveldb / part).glob("*.cc"))]
    keep = [str(path.relative_to(leveldb)) for path in names
            if not any(word in path.name for word in ["test", "bench", "windows", "leveldbutil"])]
    found.append(Tree("leveldb", leveldb, keep, "g++",
                      "-std=c++17 -O2 -I. -Iinclude -DLEVELDB_PLATFORM_POSIX=1 -DLEVELDB_HAS_PORT_CONFIG_H=1"))
    for count in [50, 300]:
        folder = work / f"headers{count}"
        (folder / "inc").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            body = "".join(f"int f{number}_{i}(int);\n" for i in range(60))
            (folder / f"inc/h{number}.h").write_text(f"#ifndef H{number}\n#define H{number}\n{body}#endif\n")
        (folder / "a.c").write_text("".join(f'#include "h{n}.h"\n' for n in range(count)) + "int a;\n")
        # Twenty calls, so that one is measured well.
        for copy in range(20):
            shutil.copy(folder / "a.c", folder / f"a{copy}.c")
        found.append(Tree(f"{count} headers", folder, [f"a{c}.c" for c in range(20)], "gcc", "-O1 -Iinc"))
    return found


def server_cpu():
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if "sccache" in (entry / "comm").read_text():
                words = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
                total += sum(int(word) for word in words[11:15]) / TICKS
        except OSError:
            pass
    return total


def make(tree, wrap, env, jobs):
    tree.clean()
    before, own = server_cpu(), os.times()
    began = time.monotonic()
    command = ["make", "-s", f"-j{jobs}", "-f", "bench.mk", f"WRAP={wrap}"]
    ran = subprocess.run(command, cwd=tree.folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wall, after = time.monotonic() - began, os.times()
    if ran.returncode != 0:
        sys.exit(f"{tree.name} with `{wrap}` failed:\n{ran.stderr.decode()[-2000:]}")
    children = after.children_user + after.children_system - own.children_user - own.children_system
    return children + max(0.0, server_cpu() - before), wall


def size(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spolia", default=str(ROOT / "target/release/spolia"))
    parser.add_argument("--peers", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=int, default=1)
    parser.add_argument("--tree", action="append")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work")
    args = parser.parse_args()
    work = Path(args.work or tempfile.mkdtemp(prefix="bench-compilers-"))
    work.mkdir(exist_ok=True)
    tools = Path(args.peers).resolve() / "bin"
    base = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}", LC_ALL="C")
    for name in ["SPOLIA_CACHE_DIR", "CCACHE_DIR", "SCCACHE_DIR"]:
        base.pop(name, None)
    base["SCCACHE_SERVER_PORT"] = "43127"
    print("| tree | tool | case | CPU s, median (lowest–highest) | CPU ms a call | of plain | store MB |")
    print("|---|---|---|---|---|---|---|")
    for tree in trees(work):
        if args.tree and tree.name not in args.tree:
            continue
        calls = len(tree.sources)
        env = {}
        stores = {}
        for tool in ["spolia", "ccache", "sccache"]:
            stores[tool] = work / f"store-{tool}"
        env["plain"] = env["cp"] = base
        env["spolia"] = dict(base, SPOLIA_CACHE_DIR=str(stores["spolia"]))
        env["ccache"] = dict(base, CCACHE_DIR=str(stores["ccache"]))
        env["sccache"] = dict(base, SCCACHE_DIR=str(stores["sccache"]))
        wrap = {"plain": "", "spolia": f"{args.spolia} cc", "ccache": "ccache", "sccache": "sccache"}
        found = {}
        for _ in range(args.cold):
            order = list(wrap)
            random.shuffle(order)
            for tool in order:
                if tool in stores:
                    if tool == "sccache":
                        subprocess.run(["sccache", "--stop-server"], env=env[tool], capture_output=True)
                    shutil.rmtree(stores[tool], ignore_errors=True)
                    if tool == "sccache":
                        subprocess.run(["sccache", "--start-server"], env=env[tool], capture_output=True)
                found.setdefault((tool, "cold"), []).append(make(tree, wrap[tool], env[tool], args.jobs))
        # The same tree with a compiler that copies a ready object.
        tree.clean()
        subprocess.run(["make", "-s", "-f", "bench.mk", "WRAP="], cwd=tree.folder, env=base, check=True)
        ready = work / f"ready-{tree.name.replace(' ', '-')}"
        shutil.rmtree(ready, ignore_errors=True)
        shutil.copytree(tree.folder / "out", ready)
        copier = ready / "copy.mk"
        rules = "".join(f"out/{n}.o: {ready}/{n}.o\n\tcp $< $@\n" for n in range(calls))
        copier.write_text("all: " + " ".join(f"out/{n}.o" for n in range(calls)) + "\n" + rules)
        # A second run fills what a first left out (files were too young to be believed).
        for tool in stores:
            make(tree, wrap[tool], env[tool], args.jobs)
        for _ in range(args.rounds):
            order = ["cp", "spolia", "ccache", "sccache"]
            random.shuffle(order)
            for tool in order:
                if tool == "cp":
                    tree.clean()
                    own = os.times()
                    subprocess.run(["make", "-s", f"-j{args.jobs}", "-f", str(copier)], cwd=tree.folder, check=True)
                    after = os.times()
                    cpu = after.children_user + after.children_system - own.children_user - own.children_system
                    found.setdefault(("cp", "warm"), []).append((cpu, 0.0))
                else:
                    found.setdefault((tool, "warm"), []).append(make(tree, wrap[tool], env[tool], args.jobs))
        plain = statistics.median(cpu for cpu, _ in found[("plain", "cold")])
        for (tool, case), runs in found.items():
            cpus = [cpu for cpu, _ in runs]
            median = statistics.median(cpus)
            stored = f"{size(stores[tool]) / 1e6:.1f}" if tool in stores and case == "warm" else ""
            print(f"| {tree.name} | {tool} | {case} | {median:.2f} ({min(cpus):.2f}–{max(cpus):.2f}) "
                  f"| {median * 1000 / calls:.1f} | {median / plain:.3f} | {stored} |", flush=True)
        for tool in stores:
            if tool == "sccache":
                subprocess.run(["sccache", "--stop-server"], env=env[tool], capture_output=True)
            shutil.rmtree(stores[tool], ignore_errors=True)


main()
