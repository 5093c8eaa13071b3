#!/usr/bin/env python3
"""Spolia beside kache, mbx and sccache on Rust: CPU seconds of whole builds, daemons included.

    rust.py --spolia target/release/spolia --peers DIR [--rounds 3] [--tools spolia,kache,...] [--tree ripgrep|big] [--release]

DIR is what `peers.sh DIR` has made. Each
build runs in a control group of its own (cpuacct of version 1, or version 2), which also counts servers that a cache
leaves running; on a quiet machine /proc/stat would say the same. Tools take turns within each round. The source is
fetched by cargo. Needs root, for the control groups.

    plain      cargo build, empty target folder
    cold       the same through the cache, nothing kept yet
    warm       target folder removed, built again in the same place
    checkout   a copy of the tree in another folder
    target     another CARGO_TARGET_DIR
    middle     one crate in the middle of the graph (of ripgrep: its own) changed, target folder removed
    nothing    nothing changed and nothing removed: what cargo itself takes

What a tool keeps is measured after the cold build, as blocks on disk, as bytes and in files, without the target folders that mbx keeps there.
"""
import argparse, os, shutil, statistics, subprocess
from pathlib import Path

from group import Group

TREES = {
    "ripgrep": dict(package="ripgrep", version="14.1.1", middle="crates/core/main.rs", args=[]),
    "big": dict(package=None, middle="middle/src/lib.rs", args=[]),
}
# Enough to make a workspace of more than 200 crates out of what cargo fetches.
BIG = """
axum = "0.8"
tokio = { version = "1", features = ["full"] }
reqwest = { version = "0.12", default-features = false, features = ["json"] }
clap = { version = "4", features = ["derive"] }
serde_json = "1"
regex = "1"
tracing-subscriber = { version = "0.3", features = ["env-filter", "json"] }
chrono = { version = "0.4", features = ["serde"] }
rayon = "1"
nom = "8"
toml = "0.9"
handlebars = "6"
anyhow = "1"
thiserror = "2"
uuid = { version = "1", features = ["v4"] }
itertools = "0.14"
indexmap = "2"
rand = "0.9"
sha2 = "0.10"
crossbeam = "0.8"
dashmap = "6"
globset = "0.4"
tempfile = "3"
semver = "1"
petgraph = "0.8"
csv = "1"
humantime = "2"
textwrap = "0.16"
tower-http = { version = "0.6", features = ["trace", "fs"] }
"""


def fetch(tree, work):
    """The tree's source, by way of cargo."""
    to = work / "source"
    if tree["package"] is None:
        for name, dependencies in [("leaf", ""), ("middle", 'leaf = { path = "../leaf" }\nserde_json = "1"\n'),
                                   ("top", 'middle = { path = "../middle" }\n' + BIG)]:
            (to / name / "src").mkdir(parents=True)
            (to / name / "Cargo.toml").write_text(
                f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n{dependencies}')
        (to / "Cargo.toml").write_text('[workspace]\nresolver = "2"\nmembers = ["leaf", "middle", "top"]\n')
        (to / "leaf/src/lib.rs").write_text("pub fn leaf() -> u32 { 1 }\n")
        (to / "middle/src/lib.rs").write_text("pub fn middle() -> u32 { leaf::leaf() + 1 }\n")
        (to / "top/src/main.rs").write_text('fn main() { println!("{}", middle::middle()); }\n')
        subprocess.run(["cargo", "fetch", "--quiet"], cwd=to, check=True)
        return to
    stub = work / "fetch"
    (stub / "src").mkdir(parents=True)
    (stub / "src/lib.rs").write_text("")
    (stub / "Cargo.toml").write_text(
        f'[package]\nname="fetch"\nversion="0.0.0"\nedition="2021"\n[dependencies]\n{tree["package"]}="={tree["version"]}"\n')
    subprocess.run(["cargo", "fetch", "--quiet"], cwd=stub, check=True, stderr=subprocess.DEVNULL)
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = next((home / "registry/src").glob(f'*/{tree["package"]}-{tree["version"]}'))
    shutil.copytree(found, to)
    subprocess.run(["cargo", "fetch", "--quiet"], cwd=to, check=True)
    return to


def size(folders):
    """Blocks on disk and bytes, both in MB, and files; a file with several names once."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and folder / "targets" not in path.parents:
                stat = path.stat()
                found[stat.st_dev, stat.st_ino] = stat
    return "{:.1f} / {:.1f} MB, {}".format(sum(stat.st_blocks * 512 for stat in found.values()) / 1e6,
                                           sum(stat.st_size for stat in found.values()) / 1e6, len(found))


class Tool:
    def __init__(self, name, options, work):
        self.name, self.work = name, work / name
        self.profile = ["--release"] if options.release else []
        self.work.mkdir()
        self.group = Group(name)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("RUSTC_", "CARGO_TARGET", "SPOLIA_"))}
        self.env["CARGO_TERM_COLOR"] = "never"
        peers = Path(options.peers).resolve()
        self.cargo = ["cargo"]
        if name == "spolia":
            self.env |= {"RUSTC_WRAPPER": str(Path(options.spolia).resolve()), "SPOLIA_CACHE_DIR": str(self.work / "store")}
        elif name == "kache":
            self.env |= {"RUSTC_WRAPPER": str(peers / "bin/kache"), "KACHE_CACHE_DIR": str(self.work / "store"),
                         "XDG_CACHE_HOME": str(self.work / "xdg"), "XDG_CONFIG_HOME": str(self.work / "xdgc")}
        elif name == "mbx":
            self.cargo = [str(peers / "bin/mbx")]
            self.env |= {"XDG_CACHE_HOME": str(self.work / "xdg"), "XDG_DATA_HOME": str(self.work / "xdgd"),
                         "MBX_HOME": str(self.work / "home"), "MBX_CACHE_DIR": str(self.work / "store")}
        elif name == "sccache":
            self.env |= {"RUSTC_WRAPPER": options.sccache, "SCCACHE_DIR": str(self.work / "store"), "CARGO_INCREMENTAL": "0",
                         "SCCACHE_SERVER_PORT": "4399"}

    def build(self, folder, **env):
        command = self.cargo + ["build", "--offline", "--quiet"] + self.profile
        return self.group.run(command, cwd=folder, env=self.env | env)

    def clear(self, folder):
        target = folder / "target"
        if target.is_symlink():
            # mbx keeps target folders elsewhere and leaves a link; a user who starts from nothing has neither.
            shutil.rmtree(target.resolve(), ignore_errors=True)
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        if self.name == "mbx":
            shutil.rmtree(self.work / "store/targets", ignore_errors=True)


def measure(tool, source, tree, rounds):
    cells = {}
    here, there = tool.work / "here", tool.work / "there"
    shutil.copytree(source, here)
    shutil.copytree(source, there)
    cells["plain" if tool.name == "plain" else "cold"] = [tool.build(here)]
    cells["nothing"] = [tool.build(here)]
    if tool.name == "plain":
        return cells, here, there
    return cells, here, there


def warm(tool, cells, here, there, tree, number):
    def add(what, seconds):
        cells.setdefault(what, []).append(seconds)
    tool.clear(here)
    add("warm", tool.build(here))
    tool.clear(there)
    add("checkout", tool.build(there))
    tool.clear(here)
    other = tool.work / f"other-{number}"
    add("target", tool.build(here, CARGO_TARGET_DIR=str(other)))
    shutil.rmtree(other, ignore_errors=True)
    tool.clear(here)
    changed = here / tree["middle"]
    text = changed.read_text()
    changed.write_text(text + f"\n/// Changed.\npub fn changed_{number}() {{}}\n")
    add("middle", tool.build(here))
    changed.write_text(text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spolia", required=True)
    parser.add_argument("--peers", default="/nonexistent")
    parser.add_argument("--sccache", help="another sccache than that of DIR")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", default="plain,spolia,kache,mbx,sccache")
    parser.add_argument("--tree", default="ripgrep")
    parser.add_argument("--release", action="store_true", help="the release profile")
    parser.add_argument("--work", default="/tmp/spolia-bench-rust")
    options = parser.parse_args()
    options.sccache = options.sccache or str(Path(options.peers).resolve() / "bin/sccache")
    work = Path(options.work)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tree = TREES[options.tree]
    source = fetch(tree, work)
    built = subprocess.run(["cargo", "tree", "--offline", "--prefix", "none", "--no-dedupe", "-e", "normal,build"], cwd=source,
                           check=True, stdout=subprocess.PIPE, text=True).stdout
    print(f"{options.tree}: {len({' '.join(line.split()[:2]) for line in built.splitlines() if line})} crates; "
          f"load {os.getloadavg()[0]:.1f}", flush=True)
    tools, state = [], {}
    for name in options.tools.split(","):
        tool = Tool(name, options, work)
        tools.append(tool)
        state[name] = measure(tool, source, tree, options.rounds)
        kept = f"keeps {size([tool.work / part for part in ['store', 'xdg', 'xdgd', 'home']])}" if name != "plain" else ""
        print(name, {k: round(v[0], 2) for k, v in state[name][0].items()}, kept, flush=True)
    for number in range(options.rounds):
        for tool in tools:
            if tool.name != "plain":
                cells, here, there = state[tool.name]
                warm(tool, cells, here, there, tree, number)
                print(tool.name, number, {k: round(v[-1], 2) for k, v in cells.items()}, f"load {os.getloadavg()[0]:.1f}",
                      flush=True)
    columns = ["plain", "cold", "nothing", "warm", "checkout", "target", "middle"]
    print("| CPU-s, median (least–most) | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for tool in tools:
        cells = state[tool.name][0]
        row = []
        for column in columns:
            values = cells.get(column)
            row.append("–" if not values else f"{values[0]:.2f}" if len(values) == 1 else
                       f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})")
        print(f"| {tool.name} | " + " | ".join(row) + " |")
        tool.group.end()


main()
