"""The workload: packages of small files, a command to run on each, a tree of dependencies. Knows no tool.

    generate.py FOLDER [--packages N] [--files M] [--mk PROGRAM]

writes one such tree to look at; the benchmark writes one for each tool. A tree is:

    .gitignore   mk                          # `mk` is built from mk.c and committed, as a tool of the project
    packages/p0000/src/f000.txt …            # M files of 1,024 bytes, different everywhere, the same on every run
    packages/p0000/dist/out.bin              # 102,400 bytes, made by `mk`, ignored by git

Package i needs package (i-1)/2: ten levels for a thousand packages. No package needs the last one.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import time
from dataclasses import dataclass

FILE_BYTES = 1024
OUTPUT_BYTES = 102_400
IGNORED = ["dist/", "node_modules", ".turbo/", ".nx/", ".spolia/", ".ninja_log", ".ninja_deps"]


@dataclass(frozen=True)
class Shape:
    """How many packages, and how many files each."""

    name: str
    packages: int
    files: int

    def package_names(self) -> list[str]:
        return [f"p{i:04}" for i in range(self.packages)]

    def parent_of(self, index: int) -> str | None:
        return f"p{(index - 1) // 2:04}" if index else None

    def file_names(self) -> list[str]:
        return [f"f{i:03}.txt" for i in range(self.files)]


SHAPES = {
    "100": Shape("100", 100, 3),
    "1000": Shape("1000", 1000, 3),
    "f20k": Shape("f20k", 100, 200),
}


def write_tree(tree: pathlib.Path, shape: Shape, mk: pathlib.Path) -> None:
    """Writes sources and `mk`; the configuration of a tool and the commit come after."""
    tree.mkdir(parents=True)
    (tree / ".gitignore").write_text("".join(f"{line}\n" for line in IGNORED))
    shutil.copy(mk, tree / "mk")
    for package in shape.package_names():
        source = tree / "packages" / package / "src"
        source.mkdir(parents=True)
        for name in shape.file_names():
            (source / name).write_text(content(f"{package}/{name}"))


def content(seed: str) -> str:
    """1,024 bytes of text that differ for each seed."""
    head = f"{seed}\n"
    text = head + random.Random(seed).randbytes(FILE_BYTES // 2).hex()
    return text[: FILE_BYTES - 1] + "\n"


def commit(tree: pathlib.Path) -> None:
    """Makes the tree a clean git repository: tools ask git what changed."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)

    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "bench")
    git("config", "user.email", "bench@localhost")
    git("config", "gc.auto", "0")
    git("add", ".")
    git("commit", "--quiet", "--message=workload")


def settle(trees: list[pathlib.Path]) -> None:
    """Waits until no file is as young as git's index, then lets git write it anew: with an index of the same tick as the
    files it lists, git (and whoever asks git) reads them again every time."""
    time.sleep(1.1)
    for tree in trees:
        subprocess.run(["git", "status", "--porcelain"], cwd=tree, check=True, stdout=subprocess.DEVNULL)


def touch(tree: pathlib.Path, shape: Shape, mark: str) -> None:
    """Changes the content of one file of the last package, which nothing else needs."""
    last, name = shape.package_names()[-1], shape.file_names()[0]
    (tree / "packages" / last / "src" / name).write_text(content(f"{last}/{name} {mark}"))


def delete_outputs(tree: pathlib.Path, shape: Shape) -> None:
    """Deletes what the commands made, not what the tools keep."""
    for package in shape.package_names():
        shutil.rmtree(tree / "packages" / package / "dist", ignore_errors=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Writes one workload tree.")
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--packages", type=int, default=100)
    arguments.add_argument("--files", type=int, default=3)
    arguments.add_argument("--mk", type=pathlib.Path, help="the program built from mk.c; built here if not given")
    options = arguments.parse_args()
    if options.mk is None:
        import install

        options.mk = install.programs(install.default_cache() / "bin").mk
    shape = Shape("custom", options.packages, options.files)
    write_tree(options.folder, shape, options.mk)
    commit(options.folder)


if __name__ == "__main__":
    main()
