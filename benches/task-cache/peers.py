"""The tools side by side: how each is configured, called, and made to forget. Knows nothing of measuring.

Each gets the same packages, the same edges, the same command and the same declared inputs (the package's `src` and the
program `mk`) and outputs, the same number of jobs, its cache inside its own folder, and no telemetry.
"""

import json
import os
import pathlib
import shutil
from dataclasses import dataclass, field

from generate import Shape
from install import Node, Programs

COMMAND_IN_PACKAGE = "../../mk src dist/out.bin"


@dataclass(frozen=True)
class Setting:
    """What every tool is told: where things are, and how many commands may run at once."""

    programs: Programs
    scratch: pathlib.Path
    jobs: int


@dataclass(frozen=True)
class Tool:
    """A contender. It does every case; those it cannot do are named in `cannot` with the reason."""

    name: str
    setting: Setting
    cannot: dict[str, str] = field(default_factory=dict, kw_only=True)
    tree_name: str = field(default="", kw_only=True)

    def tree_called(self) -> str:
        """Tools that change nothing share a tree."""
        return self.tree_name or self.name

    def configure(self, tree: pathlib.Path, shape: Shape) -> None:
        """Writes the tool's own files into a tree, before the commit."""

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        raise NotImplementedError

    def environment(self, tree: pathlib.Path) -> dict[str, str]:
        return {}

    def forget(self, tree: pathlib.Path) -> None:
        """Deletes all the tool remembers of this tree."""


def remove(*paths: pathlib.Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# --- Spolia ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spolia(Tool):
    program: pathlib.Path = field(kw_only=True)
    engine: str = field(kw_only=True)

    def configure(self, tree: pathlib.Path, shape: Shape) -> None:
        lines = ["[project]", 'name = "task-cache"', ""]
        for index, package in enumerate(shape.package_names()):
            parent = shape.parent_of(index)
            lines += [f"[steps.{package}]"]
            lines += [f'needs = ["{parent}"]'] if parent else []
            lines += [
                f'run = ["./mk", "packages/{package}/src", "${{out}}/out.bin"]',
                f'inputs = ["mk", "packages/{package}/src/**"]',
                'outputs = ["out.bin"]',
                f'to = "packages/{package}/dist"',
                "",
            ]
        (tree / "spolia.toml").write_text("\n".join(lines))

    def store_of(self, tree: pathlib.Path) -> pathlib.Path:
        return tree.with_name(f"{tree.name}.store")

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        return [str(self.program), "build", "--engine", self.engine, "--jobs", str(self.setting.jobs)]

    def environment(self, tree: pathlib.Path) -> dict[str, str]:
        return {"SPOLIA_CACHE_DIR": str(self.store_of(tree))}

    def forget(self, tree: pathlib.Path) -> None:
        remove(self.store_of(tree), tree / ".spolia")


# --- from npm ----------------------------------------------------------------------------------------------------------


def write_npm_workspace(tree: pathlib.Path, shape: Shape, extra: dict) -> None:
    """An npm workspace with its lock file; `extra` is added to every package.json."""
    root = {"name": "task-cache", "private": True, "packageManager": "npm@10.8.2", "workspaces": ["packages/*"]}
    (tree / "package.json").write_text(json.dumps(root, indent=2) + "\n")
    locked: dict[str, dict] = {"": {"name": "task-cache", "workspaces": ["packages/*"]}}
    for index, package in enumerate(shape.package_names()):
        parent = shape.parent_of(index)
        needs = {"dependencies": {parent: "*"}} if parent else {}
        manifest = {"name": package, "version": "1.0.0", "private": True, **needs, **extra}
        (tree / "packages" / package / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")
        locked[f"packages/{package}"] = {"version": "1.0.0", **needs}
        locked[f"node_modules/{package}"] = {"resolved": f"packages/{package}", "link": True}
    lock = {"name": "task-cache", "lockfileVersion": 3, "requires": True, "packages": locked}
    (tree / "package-lock.json").write_text(json.dumps(lock, indent=2) + "\n")


@dataclass(frozen=True)
class Turbo(Tool):
    """turbo starts each task as `npm run build`. npm costs hundreds of milliseconds a task, which are npm's, not turbo's; so here `npm` is a
    two-line shell script that runs the same command, as `sh -c` does for nx and ninja. `through_npm` uses the real one.

    `--skip-infer`: it need not look for another turbo in the workspace first. It has no daemon: since 2.x its flags for
    one are accepted and do nothing for `turbo run`."""

    node: Node = field(kw_only=True)
    through_npm: bool = field(default=False, kw_only=True)

    def configure(self, tree: pathlib.Path, shape: Shape) -> None:
        write_npm_workspace(tree, shape, {"scripts": {"build": COMMAND_IN_PACKAGE}})
        task = {"dependsOn": ["^build"], "inputs": ["src/**"], "outputs": ["dist/**"]}
        config = {"globalDependencies": ["mk"], "tasks": {"build": task}}
        (tree / "turbo.json").write_text(json.dumps(config, indent=2) + "\n")

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        return [str(self.node.turbo), "--skip-infer", "run", "build", f"--concurrency={self.setting.jobs}"]

    def environment(self, tree: pathlib.Path) -> dict[str, str]:
        quiet = {
            "TURBO_TELEMETRY_DISABLED": "1",
            "TURBO_NO_UPDATE_NOTIFIER": "1",
            "TURBO_CACHE_DIR": str(tree / ".turbo" / "cache"),
        }
        return quiet if self.through_npm else {**quiet, "PATH": f"{self.thin_npm()}:{os.environ['PATH']}"}

    def thin_npm(self) -> pathlib.Path:
        folder = self.setting.scratch / "thin-npm"
        program = folder / "npm"
        if not program.exists():
            folder.mkdir(parents=True)
            program.write_text(f'#!/bin/sh\n[ "$1 $2" = "run build" ] && exec {COMMAND_IN_PACKAGE}\nexit 64\n')
            program.chmod(0o755)
        return folder

    def forget(self, tree: pathlib.Path) -> None:
        remove(tree / ".turbo", *(tree / "packages").glob("*/.turbo"))


@dataclass(frozen=True)
class Nx(Tool):
    """With and without its daemon. The daemon is started by the first call and ends with the benchmark."""

    node: Node = field(kw_only=True)
    daemon: bool = field(kw_only=True)

    def configure(self, tree: pathlib.Path, shape: Shape) -> None:
        targets = {}
        write_npm_workspace(tree, shape, {})
        for package in shape.package_names():
            options = {"command": COMMAND_IN_PACKAGE, "cwd": f"packages/{package}"}
            targets = {"build": {"executor": "nx:run-commands", "options": options}}
            path = tree / "packages" / package / "package.json"
            manifest = json.loads(path.read_text())
            path.write_text(json.dumps({**manifest, "nx": {"targets": targets}}, indent=2) + "\n")
        build = {
            "cache": True,
            "dependsOn": ["^build"],
            "inputs": ["sources", "^sources"],
            "outputs": ["{projectRoot}/dist"],
        }
        config = {
            "analytics": False,
            "neverConnectToCloud": True,
            "namedInputs": {"sources": ["{projectRoot}/src/**/*", "{workspaceRoot}/mk"]},
            "targetDefaults": {"build": build},
        }
        (tree / "nx.json").write_text(json.dumps(config, indent=2) + "\n")
        (tree / "node_modules").symlink_to(self.node.modules)

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        words = ["run-many", "-t", "build", f"--parallel={self.setting.jobs}"]
        return [self.node.node, str(tree / self.node.nx), *words]

    def environment(self, tree: pathlib.Path) -> dict[str, str]:
        return {
            "NX_DAEMON": "true" if self.daemon else "false",
            "NX_NO_CLOUD": "true",
            # Otherwise the daemon downloads the newest nx in the background to look for AI agents.
            "NX_USE_LOCAL": "true",
            "DO_NOT_TRACK": "1",
            "NX_CACHE_DIRECTORY": str(tree / ".nx" / "cache"),
            "NX_WORKSPACE_DATA_DIRECTORY": str(tree / ".nx" / "workspace-data"),
            "NX_NATIVE_FILE_CACHE_DIRECTORY": str(self.setting.scratch / "nx-native"),
            # The path of a Unix socket has 108 bytes at most, and two trees must not meet in one daemon.
            "NX_SOCKET_DIR": str(self.setting.scratch / f"s{tree.parent.name}{'d' if self.daemon else ''}"),
        }

    def forget(self, tree: pathlib.Path) -> None:
        remove(tree / ".nx")


# --- ninja, and what cannot be done for less ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ninja(Tool):
    """Compares modification times and keeps no results: it is the floor of a build that restores nothing."""

    program: pathlib.Path = field(kw_only=True)

    def configure(self, tree: pathlib.Path, shape: Shape) -> None:
        lines = ["rule mk", "  command = ./mk $source $out", ""]
        for index, package in enumerate(shape.package_names()):
            source = f"packages/{package}/src"
            inputs = " ".join(f"{source}/{name}" for name in shape.file_names())
            parent = shape.parent_of(index)
            implicit = f"mk packages/{parent}/dist/out.bin" if parent else "mk"
            lines += [f"build packages/{package}/dist/out.bin: mk {inputs} | {implicit}", f"  source = {source}"]
        (tree / "build.ninja").write_text("\n".join(lines) + "\n")

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        return [str(self.program), f"-j{self.setting.jobs}"]

    def forget(self, tree: pathlib.Path) -> None:
        remove(tree / ".ninja_log", tree / ".ninja_deps")


@dataclass(frozen=True)
class GitStatus(Tool):
    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        return ["git", "status", "--porcelain"]


@dataclass(frozen=True)
class StatWalk(Tool):
    """One system call for each file and folder below `packages`, outputs included."""

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        return [str(self.setting.programs.floors), "walk", "packages"]


@dataclass(frozen=True)
class Loop(Tool):
    """The commands alone, one after the other: what is subtracted from a cold run to see what a tool adds."""

    def command(self, tree: pathlib.Path, shape: Shape) -> list[str]:
        return [str(self.setting.programs.floors), "loop", *shape.package_names()]
