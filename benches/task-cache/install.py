"""Gets what the benchmark runs: its own C programs, turbo and nx from npm, ninja. Knows no workload.

Nothing is written into the repository: all of it goes to the folder given by --cache-dir.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass

TURBO = "2.11.11"
NX = "24.0.6"
NINJA = "1.13.0"
HERE = pathlib.Path(__file__).resolve().parent


class Missing(Exception):
    """Something this machine lacks, with what to do about it."""


@dataclass(frozen=True)
class Programs:
    mk: pathlib.Path
    meter: pathlib.Path
    floors: pathlib.Path


def default_cache() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "spolia-bench"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def programs(folder: pathlib.Path) -> Programs:
    """Compiles the C programs, statically where the machine has a static C library: the cheapest start there is."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("no C compiler: install `gcc` (Debian: apt-get install gcc libc6-dev)")
    folder.mkdir(parents=True, exist_ok=True)
    built = {}
    for name in ("mk", "meter", "floors"):
        target = folder / name
        common = [compiler, "-O2", "-Wall", "-o", str(target), str(HERE / f"{name}.c")]
        if subprocess.run([*common, "-static"], stderr=subprocess.DEVNULL).returncode:
            subprocess.run(common, check=True)
        built[name] = target
    return Programs(**built)


@dataclass(frozen=True)
class Node:
    """Peers from npm: the native turbo program (not its Node wrapper, which would cost it 40 ms), and nx."""

    node: str
    npm: str
    modules: pathlib.Path
    turbo: pathlib.Path
    nx: pathlib.Path


def node_peers(cache: pathlib.Path) -> Node:
    """turbo and nx at the pinned versions in a private folder; installs them when they are not there yet."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("no `node` and `npm`: turbo and nx are left out")
    folder = cache / f"npm-turbo-{TURBO}-nx-{NX}"
    modules = folder / "node_modules"
    if installed_version(modules / "turbo") != TURBO or installed_version(modules / "nx") != NX:
        say(f"installing turbo {TURBO} and nx {NX} with npm into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]
        subprocess.run([*words, f"turbo@{TURBO}", f"nx@{NX}"], cwd=folder, check=True, stdout=sys.stderr)
    native = sorted((modules / "@turbo").glob("*/bin/turbo"))
    if len(native) != 1:
        raise Missing(f"no native turbo program below `{modules / '@turbo'}`")
    entry = json.loads((modules / "nx" / "package.json").read_text())["bin"]["nx"]
    return Node(node, npm, modules, native[0], pathlib.PurePath("node_modules/nx") / entry)


def installed_version(package: pathlib.Path) -> str | None:
    try:
        return json.loads((package / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        return None


def ninja(cache: pathlib.Path) -> pathlib.Path:
    """`ninja` of the machine, else the pinned one from PyPI in a private environment, else Debian's."""
    found = shutil.which("ninja")
    if found and is_program(pathlib.Path(found)):
        return pathlib.Path(found)
    private = cache / f"ninja-{NINJA}"
    program = private / "bin" / "ninja"
    if is_program(program):
        return program
    say(f"installing ninja {NINJA} with pip into {private}")
    made = subprocess.run([sys.executable, "-m", "venv", private], stdout=sys.stderr)
    pip = [private / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if made.returncode == 0:
        subprocess.run([*pip, f"ninja=={NINJA}"], stdout=sys.stderr)
    if is_program(program):
        return program
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing ninja-build with apt-get")
        subprocess.run(["apt-get", "install", "-y", "-q", "ninja-build"], stdout=sys.stderr)
        if found := shutil.which("ninja"):
            return pathlib.Path(found)
    raise Missing("no `ninja`: install it (Debian: apt-get install ninja-build)")


def is_program(path: pathlib.Path) -> bool:
    """Whether it is the program itself: the wrapper scripts of some packages start Python first."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def version_of(*command: str | pathlib.Path, cwd: pathlib.Path | None = None) -> str:
    """First line of what `command` prints, or why there is none."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[0] if lines else f"exit {done.returncode}"
