"""The benchmark: writes the trees, runs every case over all tools in turn, hands the samples to the report.

Knows how CPU is counted; see ../README.md for why. Start it through run.sh.
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import install
import peers
import report
from generate import OUTPUT_BYTES, SHAPES, Shape, commit, delete_outputs, settle, touch, write_tree
from install import Missing, say

TIMEOUT_S = 3600
# A process that a tool leaves behind (a server) is given this long to come to rest; its CPU is the tool's. It rests when it
# uses less than a tenth of a CPU twice in a row: nx's daemon uses a twentieth while nothing at all happens, and waiting
# longer would charge that to the run.
REST_MS_MAX = 5000
REST_WINDOW_MS = 150
REST_CPU_MS = 15.0
REST_WINDOWS = 2

CASES = {
    "cold": "nothing cached",
    "noop": "nothing changed",
    "touch": "one file touched",
    "restore": "outputs deleted",
}
CASES_OF_SHAPE = {
    "100": ["cold", "noop", "touch"],
    "1000": ["cold", "noop", "restore"],
    "f20k": ["noop"],
}
WARM_UPS = 2


@dataclass(frozen=True)
class Sample:
    """One run of one tool. CPU and wall in milliseconds, memory in KiB; `null` is what was not observed."""

    shape: str
    case: str
    tool: str
    round: int
    cpu_ms: float
    # Of `cpu_ms`: spent by processes the tool left behind, before the run (on noticing changes) and after it.
    cpu_outside_ms: float | None
    wall_ms: float
    # Peak of the largest single process.
    rss_kb: int | None
    exit: int
    # Commands that really ran, from the stamps in the outputs; `null` for tools that make no outputs.
    ran: int | None
    # What is wrong with this run, or null.
    wrong: str | None


# --- CPU ---------------------------------------------------------------------------------------------------------------


class Accounts:
    """Cgroups of our own, one for each tool and shape, so that servers which detach are counted with their tool."""

    def __init__(self, how: str, base: pathlib.Path | None):
        self.how = how
        self.base = base

    @staticmethod
    def open() -> "Accounts":
        """cgroup v1 `cpuacct` (nanoseconds), else v2 `cpu.stat` (microseconds), else only the children that are waited for."""
        name = f"spolia-bench-{os.getpid()}"
        v1 = pathlib.Path("/sys/fs/cgroup/cpuacct")
        for how, parent, probe in (
            ("cgroup v1 cpuacct", v1, "cpuacct.usage"),
            ("cgroup v2 cpu.stat", own_group_v2(), "cpu.stat"),
        ):
            if parent is None:
                continue
            try:
                base = parent / name
                base.mkdir()
            except OSError:
                continue
            if (base / probe).exists() and can_enter(base):
                return Accounts(how, base)
            base.rmdir()
        return Accounts("rusage of waited-for children", None)

    def account(self, name: str) -> "Account":
        if self.base is None:
            return Account(None, "")
        folder = self.base / name
        folder.mkdir(exist_ok=True)
        return Account(folder, "cpuacct.usage" if "v1" in self.how else "cpu.stat")

    def close(self) -> None:
        if self.base is None:
            return
        for folder in [*self.base.iterdir()]:
            if folder.is_dir():
                Account(folder, "").end_processes()
                folder.rmdir()
        self.base.rmdir()


def own_group_v2() -> pathlib.Path | None:
    """The folder of the v2 cgroup this process is in."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                folder = pathlib.Path(root + line[3:].rstrip("/"))
                if (folder / "cgroup.procs").exists():
                    return folder
    return None


def can_enter(folder: pathlib.Path) -> bool:
    probe = subprocess.run(["/bin/sh", "-c", 'echo 0 > "$1"', "sh", folder / "cgroup.procs"], stderr=subprocess.DEVNULL)
    return probe.returncode == 0


@dataclass(frozen=True)
class Account:
    """One tool's cgroup, or none."""

    folder: pathlib.Path | None
    counter: str

    def cpu_ms(self) -> float | None:
        return None if self.folder is None else self.parse((self.folder / self.counter).read_text())

    def parse(self, text: str) -> float:
        first = text.splitlines()[0].split()
        return int(first[-1]) / 1e3 if len(first) == 2 else int(first[0]) / 1e6

    def processes(self) -> list[int]:
        if self.folder is None:
            return []
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def end_processes(self) -> None:
        """Ends what a tool left behind: only processes in our own cgroup."""
        deadline = time.monotonic() + 10
        while (alive := self.processes()) and time.monotonic() < deadline:
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)

    def rest(self) -> None:
        """Waits until the processes left behind are quiet."""
        deadline = time.monotonic() + REST_MS_MAX / 1e3
        quiet = 0
        while quiet < REST_WINDOWS and self.processes() and time.monotonic() < deadline:
            before = self.cpu_ms()
            time.sleep(REST_WINDOW_MS / 1e3)
            quiet = quiet + 1 if self.cpu_ms() - before < REST_CPU_MS else 0

    def peak_kb(self) -> int:
        """The largest memory peak among the processes left behind."""
        peaks = [0]
        for pid in self.processes():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            peaks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
        return max(peaks)


# --- one run -----------------------------------------------------------------------------------------------------------


@dataclass
class Seat:
    """A tool at its tree of one shape."""

    tool: peers.Tool
    shape: Shape
    tree: pathlib.Path
    account: Account
    log: pathlib.Path
    meter: pathlib.Path
    outputs: dict[str, str]

    def makes_outputs(self) -> bool:
        return not isinstance(self.tool, (peers.GitStatus, peers.StatWalk))

    def prepare(self, case: str, mark: str) -> None:
        if case == "cold":
            self.account.end_processes()
            self.tool.forget(self.tree)
        if case in ("cold", "restore"):
            delete_outputs(self.tree, self.shape)
        if case == "touch":
            touch(self.tree, self.shape, mark)

    def sample(self, case: str, round_: int) -> Sample:
        before_cpu = self.account.cpu_ms()
        before = self.outputs
        self.prepare(case, f"round {round_}")
        self.account.rest()
        start_cpu = self.account.cpu_ms()
        reading = self.run()
        end_cpu = None if reading["counter"] is None else self.account.parse(reading["counter"])
        self.account.rest()
        final_cpu = self.account.cpu_ms()
        rss = max(reading["rss_kb"], self.account.peak_kb())
        ran, wrong = None, None
        if reading["exit"]:
            wrong = f"exit {reading['exit']}"
        if self.makes_outputs():
            self.outputs = digests(self.tree, self.shape)
            ran = sum(self.outputs[p] is not None and self.outputs[p] != before.get(p) for p in self.outputs)
            wrong = wrong or fault(case, self.shape, before, self.outputs)
        if wrong:
            self.tell_log(case, wrong)
        if final_cpu is None:
            cpu, outside = reading["rusage_us"] / 1e3, None
        else:
            cpu, outside = final_cpu - before_cpu, (start_cpu - before_cpu) + (final_cpu - end_cpu)
        wall = reading["wall_ns"] / 1e6
        return Sample(self.shape.name, case, self.tool.name, round_, cpu, outside, wall, rss, reading["exit"], ran, wrong)

    def run(self) -> dict:
        """Runs the tool once under the meter; its output goes to the log."""
        home, temporary = self.tool.setting.scratch / "home", self.tool.setting.scratch / "tmp"
        for folder in (home, temporary):
            folder.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "LANG": "C.UTF-8"}
        environment |= self.tool.environment(self.tree)
        group = [] if self.account.folder is None else [self.account.folder / "cgroup.procs"]
        counter = [] if self.account.folder is None else [self.account.folder / self.account.counter]
        words = [self.meter, *(group or ["-"]), *(counter or ["-"]), self.log, *self.tool.command(self.tree, self.shape)]
        done = subprocess.run(
            words, cwd=self.tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TIMEOUT_S
        )
        if done.returncode:
            raise Missing(f"the meter failed for {self.tool.name}: exit {done.returncode}")
        return json.loads(done.stdout)

    def tell_log(self, case: str, wrong: str) -> None:
        say(f"WRONG: {self.tool.name}, {case} {self.shape.name}: {wrong}; the end of its output:")
        for line in self.log.read_text(errors="replace").splitlines()[-12:]:
            say(f"    {line}")


def digests(tree: pathlib.Path, shape: Shape) -> dict[str, str | None]:
    """Digest of each package's output, its stamp included; None where it is missing or of the wrong size."""
    found = {}
    for package in shape.package_names():
        try:
            data = (tree / "packages" / package / "dist" / "out.bin").read_bytes()
        except OSError:
            data = b""
        found[package] = hashlib.blake2b(data).hexdigest() if len(data) == OUTPUT_BYTES else None
    return found


def fault(case: str, shape: Shape, before: dict, after: dict) -> str | None:
    """What a tool did wrong in this case, judged by the outputs alone."""
    missing = [package for package in after if after[package] is None]
    if missing:
        return f"{len(missing)} outputs are missing"
    again = [package for package in after if after[package] != before.get(package)]
    expected = {"cold": shape.package_names(), "touch": shape.package_names()[-1:]}.get(case, [])
    if again != expected:
        return f"ran {len(again)} commands instead of {len(expected)}"
    return None


# --- the whole ---------------------------------------------------------------------------------------------------------


def contenders(options: argparse.Namespace, setting: peers.Setting) -> tuple[list[peers.Tool], dict[str, str], list[str]]:
    """The tools to measure, their versions, and what is left out and why."""
    tools: list[peers.Tool] = []
    versions: dict[str, str] = {}
    absent: list[str] = []

    if options.spolia and options.spolia.is_file():
        program = options.spolia.resolve()
        versions["spolia"] = install.version_of(program, "--version")
        for engine in ("host", "sandbox"):
            tools.append(peers.Spolia(f"spolia-{engine}", setting, program=program, engine=engine))
    else:
        absent.append("spolia: no program; build it (`cargo xtask build`) or give --spolia PATH")
    try:
        node = install.node_peers(options.cache_dir)
        versions["turbo"], versions["nx"] = install.TURBO, install.NX
        versions["node"] = install.version_of(node.node, "--version")
        tools.append(peers.Turbo("turbo", setting, node=node))
        only_cold = {case: "measured for the cold run only" for case in CASES if case != "cold"}
        tools.append(peers.Turbo("turbo-npm", setting, node=node, through_npm=True, cannot=only_cold))
        tools.append(peers.Nx("nx", setting, node=node, daemon=False))
        tools.append(peers.Nx("nx-daemon", setting, node=node, daemon=True))
    except Missing as why:
        absent.append(str(why))
    no_result = {"restore": "keeps no results"}
    try:
        ninja = install.ninja(options.cache_dir)
        versions["ninja"] = install.version_of(ninja, "--version")
        tools.append(peers.Ninja("ninja", setting, program=ninja, cannot=no_result))
    except Missing as why:
        absent.append(str(why))
    looks_only = {case: "builds nothing" for case in CASES if case != "noop"}
    runs_only = {case: "runs everything, always" for case in CASES if case != "cold"}
    versions["git"] = install.version_of("git", "--version")
    tools.append(peers.GitStatus("git-status", setting, cannot=looks_only, tree_name="floor"))
    tools.append(peers.StatWalk("stat-walk", setting, cannot=looks_only, tree_name="floor"))
    tools.append(peers.Loop("loop", setting, cannot=runs_only, tree_name="floor"))
    return tools, versions, absent


def chosen(tools: list[peers.Tool], names: str | None) -> list[peers.Tool]:
    """The tools named, or all but `turbo-npm`, which takes a third of a second a task."""
    if names is None:
        return [tool for tool in tools if tool.name != "turbo-npm"]
    wanted = names.split(",")
    unknown = set(wanted) - {tool.name for tool in tools}
    if unknown:
        raise Missing(f"no tool `{sorted(unknown)[0]}`; there are {', '.join(tool.name for tool in tools)}")
    return [tool for tool in tools if tool.name in wanted]


def seats_for(shape: Shape, tools: list[peers.Tool], folder: pathlib.Path, accounts: Accounts) -> list[Seat]:
    """Writes a tree for each tool; the floors share one."""
    folder.mkdir()
    seats: list[Seat] = []
    trees: dict[str, pathlib.Path] = {}
    for tool in tools:
        name = tool.tree_called()
        if name not in trees:
            trees[name] = folder / name
            write_tree(trees[name], shape, tool.setting.programs.mk)
            tool.configure(trees[name], shape)
            commit(trees[name])
        account = accounts.account(f"{shape.name}-{tool.name}")
        log = folder / f"{tool.name}.log"
        seats.append(Seat(tool, shape, trees[name], account, log, tool.setting.programs.meter, {}))
    settle(list(trees.values()))
    return seats


def run_shape(shape: Shape, seats: list[Seat], cases: list[str], options: argparse.Namespace) -> list[Sample]:
    """All cases of a shape; in each round every tool has its turn, so that a busy minute hits all of them."""
    samples: list[Sample] = []

    def rounds(case: str, count: int) -> list[Sample]:
        taken = []
        for round_ in range(1, count + 1):
            for seat in seats:
                if case in seat.tool.cannot:
                    continue
                taken.append(sample := seat.sample(case, round_))
                say(
                    f"  {case:8} {shape.name:5} {round_}/{count}  {sample.tool:15} {sample.cpu_ms:9.1f} CPU ms"
                    f" {sample.wall_ms:9.1f} wall ms{'  ' + sample.wrong if sample.wrong else ''}"
                )
        return taken

    # Something must be built before anything else can be asked.
    first = rounds("cold", options.cold_runs if "cold" in cases else 1)
    samples += first if "cold" in cases else [sample for sample in first if sample.wrong]
    broken = {sample.tool for sample in first if sample.wrong}
    seats = [seat for seat in seats if seat.tool.name not in broken]
    # The floors look at a tree in which the outputs are there.
    seats.sort(key=lambda seat: seat.tool.name == "loop")
    for case in ("noop", "touch", "restore"):
        if case not in cases:
            continue
        if case == "noop":
            say(f"  warming up: {WARM_UPS} runs each, not counted")
            for seat in seats:
                for _ in range(0 if "noop" in seat.tool.cannot else WARM_UPS):
                    seat.run()
        samples += rounds(case, options.runs)
    return samples


def machine(accounts: Accounts) -> dict:
    model = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": model[0] if model else None,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory_kb": int(open("/proc/meminfo").readline().split()[1]),
        "load_at_start": os.getloadavg()[0],
        "cpu_counted_by": accounts.how,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.sh", description="Spolia beside other task caches: CPU and wall time.")
    root = install.HERE.parent.parent
    parser.add_argument("--quick", action="store_true", help="100 packages only, 3 runs")
    parser.add_argument("--spolia", type=pathlib.Path, help="the program to measure (target/release/spolia)")
    parser.add_argument("--runs", type=int, help="runs of each warm case (7; 3 with --quick)")
    parser.add_argument("--cold-runs", type=int, help="runs of each cold case (3; 2 with --quick)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="commands at once (all CPUs)")
    parser.add_argument("--tools", help="only these, separated by commas; turbo-npm runs only when named here")
    parser.add_argument("--shapes", help="only these: 100, 1000, f20k")
    parser.add_argument("--cases", help="only these: cold, noop, touch, restore; in every shape")
    parser.add_argument("--json", type=pathlib.Path, help="write every sample to this file")
    parser.add_argument("--cache-dir", type=pathlib.Path, default=install.default_cache(), help="where peers and trees go")
    parser.add_argument("--keep", action="store_true", help="do not delete the trees afterwards")
    options = parser.parse_args()
    if options.spolia is None:
        options.spolia = root / "target" / "release" / "spolia"
    elif not options.spolia.is_file():
        parser.error(f"`{options.spolia}` is not a file")
    options.cache_dir = options.cache_dir.absolute()
    options.runs = options.runs or (3 if options.quick else 7)
    options.cold_runs = options.cold_runs or (2 if options.quick else 3)
    names = options.shapes.split(",") if options.shapes else (["100"] if options.quick else list(SHAPES))
    wanted = options.cases.split(",") if options.cases else None
    for known, given in ((SHAPES, names), (CASES, wanted or [])):
        for name in given:
            if name not in known:
                parser.error(f"`{name}` is not one of {', '.join(known)}")
    options.plan = [(SHAPES[name], wanted or CASES_OF_SHAPE[name]) for name in names]
    return options


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up below runs
    scratch = options.cache_dir / f"run-{os.getpid()}"
    accounts = Accounts.open()
    samples: list[Sample] = []
    try:
        scratch.mkdir(parents=True)
        setting = peers.Setting(install.programs(options.cache_dir / "bin"), scratch, options.jobs)
        tools, versions, absent = contenders(options, setting)
        tools = chosen(tools, options.tools)
        if accounts.base is None and any(tool.name == "nx-daemon" for tool in tools):
            tools = [tool for tool in tools if tool.name != "nx-daemon"]
            absent.append("nx-daemon: without a cgroup of our own the CPU of a server cannot be counted")
        for line in absent:
            say(f"left out: {line}")
        facts = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": ["benches/task-cache/run.sh", *sys.argv[1:]],
            "machine": machine(accounts),
            "versions": versions,
            "left_out": absent,
            "jobs": options.jobs,
        }
        say(f"CPU is counted by: {accounts.how}")
        for shape, cases in options.plan:
            say(f"{shape.name}: {shape.packages} packages of {shape.files} files")
            seats = seats_for(shape, tools, scratch / shape.name, accounts)
            samples += run_shape(shape, seats, cases, options)
            for seat in seats:
                seat.account.end_processes()
            if not options.keep:
                shutil.rmtree(scratch / shape.name)
        facts["samples"] = [asdict(sample) for sample in samples]
        if options.json:
            options.json.write_text(json.dumps(facts, indent=1) + "\n")
        print(report.text(facts))
    except Missing as why:
        say(f"error: {why}")
        return 1
    finally:
        accounts.close()
        if options.keep:
            say(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if any(sample.wrong for sample in samples) else 0


if __name__ == "__main__":
    sys.exit(main())
