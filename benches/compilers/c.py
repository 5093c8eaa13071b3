#!/usr/bin/env python3
"""The C and C++ half of the compiler-cache benchmark: Spolia beside ccache and sccache.

    benches/compilers/c.py --peers DIR [--spolia PROGRAM] [--rounds N] [--cold N] [--tree NAME]... [--tools NAME,...]

Trees come through package clients: zstd (C, crate zstd-sys), leveldb as C++17 (crate leveldb-sys), and twenty C files with
50 and with 300 headers each, generated here. DIR is what `peers.sh DIR` has made. Every round runs every tool in turn, in
another order. CPU is that of a control group (needs root): make, the compilers, and servers that a cache leaves running. `cp` is the same
tree with a compiler that only copies a ready object: what make, fork and writing cost. `own` is what Spolia says of itself on
misses, beside the CPU of the compilers that it started. A store is measured after the cold build, as blocks on disk and as bytes, with its folders as `du` counts them and without, and in
files. `--sizes` measures nothing else: one cold build by each cache, and the exit code 1 where Spolia's takes more of the disk than ccache's.
"""

import argparse, json, os, random, shutil, statistics, subprocess, sys, tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from group import Group

ROOT = Path(__file__).resolve().parents[2]


def fetch(work):
    """The two crates' sources, by cargo."""
    project = work / "fetch"
    (project / "src").mkdir(parents=True, exist_ok=True)
    (project / "src/lib.rs").write_text("")
    (project / "Cargo.toml").write_text(
        '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
        '[dependencies]\nzstd-sys = "=2.0.16"\nleveldb-sys = "=2.0.9"\n[workspace]\n')
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
        if line.startswith("#define ") and len(words) == 2 and not words[1].startswith("STORAGE_"):
            line += " 1" if words[1] in ("HAVE_FDATASYNC", "HAVE_O_CLOEXEC") else " 0"
        lines.append(line)
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


def size(folder):
    """Blocks on disk and bytes as `du -s` and `du -s --apparent-size` count them, folders too; the files' alone; how many files."""
    every = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    found = [path.stat() for path in every if path.is_file()]
    both = lambda stats: (sum(stat.st_blocks * 512 for stat in stats), sum(stat.st_size for stat in stats))
    return *both([path.stat() for path in every]), *both(found), len(found)


def records(store):
    for day in sorted((store / "v1/cc/tally").glob("*")):
        for line in day.read_text().splitlines():
            yield json.loads(line)


class Tool:
    def __init__(self, name, tree, work, options):
        self.name, self.tree, self.options = name, tree, options
        self.store = work / f"store-{name}"
        self.group = Group(f"{tree.name.replace(' ', '-')}-{name}")
        self.peers = Path(options.peers).resolve() / "bin"
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith(("SPOLIA_", "CCACHE_", "SCCACHE_"))}
        self.env |= {"LC_ALL": "C", "SCCACHE_SERVER_PORT": "43127", "SCCACHE_IDLE_TIMEOUT": "0"}
        self.env[f"{name.upper()}_CACHE_DIR" if name == "spolia" else f"{name.upper()}_DIR"] = str(self.store)
        self.wrap = {"spolia": f"{options.spolia} cc", "ccache": f"{self.peers}/ccache",
                     "sccache": f"{self.peers}/sccache"}.get(name, "")
        self.runs, self.sizes, self.own = {}, None, None

    def forget(self):
        self.stop()
        shutil.rmtree(self.store, ignore_errors=True)
        if self.name == "sccache":
            # In the group from the start, so that its CPU counts.
            subprocess.run([self.wrap, "--start-server"], env=self.env, capture_output=True, preexec_fn=self.group.join)

    def stop(self):
        if self.name == "sccache":
            subprocess.run([self.wrap, "--stop-server"], env=self.env, capture_output=True)

    def make(self, case, count=True):
        self.tree.clean()
        makefile = self.tree.copier if self.name == "cp" else "bench.mk"
        command = ["make", "-s", f"-j{self.options.jobs}", "-f", str(makefile), f"WRAP={self.wrap}"]
        cpu = self.group.run(command, cwd=self.tree.folder, env=self.env)
        if count:
            self.runs.setdefault(case, []).append(cpu)

    def tell(self, floor):
        calls = len(self.tree.sources)
        for case, cpus in self.runs.items():
            median = statistics.median(cpus)
            cells = [self.tree.name, self.name, case, f"{median:.3f} ({min(cpus):.3f}–{max(cpus):.3f})",
                     f"{median * 1000 / calls:.1f}",
                     f"{(median - floor) * 1000 / calls:+.1f}" if case == "warm" and self.name != "cp" else ""]
            cells.append(self.own if self.own and case == "cold" else "")
            cells.append("{:.2f} / {:.2f} MB; files {:.2f} / {:.2f}, {}".format(*(bytes / 1e6 for bytes in self.sizes[:4]), self.sizes[4])
                         if self.sizes and case == "cold" else "")
            print("| " + " | ".join(cells) + " |", flush=True)


def measure(tree, work, options):
    tools = [Tool(name, tree, work, options) for name in options.tools.split(",")]
    caches = [tool for tool in tools if tool.name not in ("plain", "cp")]
    try:
        # The same tree with a compiler that copies a ready object.
        tree.clean()
        subprocess.run(["make", "-s", f"-j{options.jobs}", "-f", "bench.mk", "WRAP="], cwd=tree.folder, check=True)
        ready = work / f"ready-{tree.name.replace(' ', '-')}"
        shutil.rmtree(ready, ignore_errors=True)
        shutil.copytree(tree.folder / "out", ready)
        tree.copier = ready / "copy.mk"
        rules = "".join(f"out/{n}.o: {ready}/{n}.o\n\tcp $< $@\n" for n in range(len(tree.sources)))
        tree.copier.write_text("all: " + " ".join(f"out/{n}.o" for n in range(len(tree.sources))) + "\n" + rules)
        for _ in range(options.cold):
            for tool in random.sample(tools, len(tools)):
                if tool.name == "cp":
                    continue
                if tool in caches:
                    tool.forget()
                tool.make("cold")
                if tool in caches:
                    tool.sizes = size(tool.store)
        for tool in caches:
            if tool.name == "spolia":
                missed = [record for record in records(tool.store) if record["outcome"] == "miss"]
                own, compile = (sum(record[name] for record in missed) for name in ("own_cpu_us", "compile_cpu_us"))
                tool.own = f"{own / 1000 / len(missed):.1f} ms a call, {100 * own / compile:.1f}%"
            # A second run fills what a first left out (files were too young to be believed).
            tool.make("warm", count=False)
            tool.make("warm", count=False)
        for _ in range(options.rounds):
            for tool in random.sample(tools, len(tools)):
                if tool.name != "plain":
                    tool.make("warm")
        for tool in caches:
            if tool.name == "spolia":
                last = [record["outcome"] for record in records(tool.store)][-options.rounds * len(tree.sources):]
                if set(last) != {"hit"}:
                    sys.exit(f"{tree.name}: not every warm call was a hit: {set(last)}")
        floor = next((statistics.median(tool.runs["warm"]) for tool in tools if tool.name == "cp"), 0.0)
        for tool in tools:
            tool.tell(floor)
    finally:
        for tool in tools:
            tool.stop()
            tool.group.end()
            shutil.rmtree(tool.store, ignore_errors=True)


def sizes(tree, work, options):
    """Whether Spolia's store takes no more of the disk than ccache's."""
    disk = {}
    for name in [name for name in options.tools.split(",") if name not in ("plain", "cp")]:
        tool = Tool(name, tree, work, options)
        try:
            tool.forget()
            tool.make("cold")
            tool.sizes = size(tool.store)
        finally:
            tool.stop()
            tool.group.end()
            shutil.rmtree(tool.store, ignore_errors=True)
        disk[name] = tool.sizes[0]
        print("| {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {} |".format(tree.name, name, *(b / 1e6 for b in tool.sizes[:4]), tool.sizes[4]), flush=True)
    return disk.get("spolia", 0) <= disk.get("ccache", disk.get("spolia", 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spolia", default=str(ROOT / "target/release/spolia"))
    parser.add_argument("--peers", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=int, default=2)
    parser.add_argument("--tree", action="append")
    parser.add_argument("--tools", default="plain,cp,spolia,ccache,sccache")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work")
    parser.add_argument("--sizes", action="store_true")
    options = parser.parse_args()
    options.spolia = str(Path(options.spolia).resolve())
    work = Path(options.work or tempfile.mkdtemp(prefix="bench-compilers-"))
    work.mkdir(exist_ok=True)
    print(f"load {os.getloadavg()[0]:.1f} at the start", flush=True)
    if options.sizes:
        print("| tree | tool | on disk, MB (du -s) | bytes, MB (du -s --apparent-size) | files' blocks, MB | files' bytes, MB | files |")
        print("|---|---|---|---|---|---|---|")
        held = [sizes(tree, work, options) for tree in trees(work) if not options.tree or tree.name in options.tree]
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
        sys.exit(not all(held))
    print("| tree | tool | case | CPU s, median (lowest–highest) | ms a call | more than `cp`, ms a call | own on misses "
          "| store: on disk / bytes; its files alone, how many |")
    print("|---|---|---|---|---|---|---|---|")
    for tree in trees(work):
        if not options.tree or tree.name in options.tree:
            measure(tree, work, options)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    if not options.work:
        shutil.rmtree(work, ignore_errors=True)


main()
