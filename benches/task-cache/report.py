"""Samples → tables. Knows nothing of how they were taken; also reads the JSON of an earlier run.

    report.py FILE.json
"""

import json
import pathlib
import statistics
import sys

CASE_WORDS = {
    "noop": "nothing changed",
    "restore": "outputs deleted",
    "touch": "one file touched",
    "cold": "cold",
}
PACKAGES = {"100": 100, "1000": 1000, "f20k": 100}


def text(facts: dict) -> str:
    samples = facts["samples"]
    tools = in_order(sample["tool"] for sample in samples)
    rows = in_order((sample["case"], sample["shape"]) for sample in samples)
    rows.sort(key=lambda row: list(CASE_WORDS).index(row[0]))
    parts = [heading(facts), "CPU ms of all processes / wall ms (medians):", matrix(samples, rows, tools)]
    parts += ["Every case, medians with (lowest–highest):", details(samples, rows, tools)]
    return "\n\n".join(part for part in parts if part)


def heading(facts: dict) -> str:
    machine = facts["machine"]
    memory = machine["memory_kb"] / 1024 / 1024
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"{facts['date']}: {machine['cpu']}, {machine['cpus']} CPUs, {memory:.0f} GiB, Linux {machine['kernel']}, "
        f"load {machine['load_at_start']:.1f} at the start, {facts['jobs']} jobs",
        f"CPU counted by: {machine['cpu_counted_by']}",
        f"versions: {versions}",
        *(f"left out: {line}" for line in facts["left_out"]),
    ]
    return "\n".join(lines)


def matrix(samples: list[dict], rows: list[tuple], tools: list[str]) -> str:
    """One row a case, one column a tool, and what each tool adds to a command when nothing is cached."""
    table = [["case", *tools]]
    for case, shape in rows:
        groups = [select(samples, case, shape, tool) for tool in tools]
        table.append([f"{CASE_WORDS[case]}, {shape}", *(cell(group) for group in groups)])
    for case, shape in rows:
        if case == "cold" and select(samples, "cold", shape, "loop"):
            added = [overhead(samples, shape, tool) for tool in tools]
            table.append([f"cold, added CPU per task, {shape}", *("" if a is None else f"{a:.2f}" for a in added)])
    return markdown(table)


def details(samples: list[dict], rows: list[tuple], tools: list[str]) -> str:
    table = [["case", "tool", "CPU ms", "of it outside the run", "wall ms", "largest process MB", "commands run", "runs"]]
    for case, shape in rows:
        for tool in tools:
            group = select(samples, case, shape, tool)
            if not group:
                continue
            outside = [s["cpu_outside_ms"] for s in group if s["cpu_outside_ms"] is not None]
            ran = in_order(s["ran"] for s in group if s["ran"] is not None)
            wrong = [s["wrong"] for s in group if s["wrong"]]
            name = f"{CASE_WORDS[case]}, {shape}"
            if wrong:
                table.append([name, tool, "", "", "", "", "WRONG: " + wrong[0], str(len(group))])
                continue
            table.append(
                [
                    name,
                    tool,
                    spread([s["cpu_ms"] for s in group]),
                    f"{statistics.median(outside):.0f}" if outside and max(outside) >= 1 else "",
                    spread([s["wall_ms"] for s in group]),
                    f"{max(s['rss_kb'] for s in group) / 1024:.0f}",
                    ", ".join(map(str, ran)),
                    str(len(group)),
                ]
            )
    return markdown(table)


def cell(group: list[dict]) -> str:
    if not group:
        return ""
    if any(sample["wrong"] for sample in group):
        return "WRONG"
    cpu = statistics.median(sample["cpu_ms"] for sample in group)
    wall = statistics.median(sample["wall_ms"] for sample in group)
    return f"{number(cpu)} / {number(wall)}"


def overhead(samples: list[dict], shape: str, tool: str) -> float | None:
    """CPU milliseconds a tool adds to each command: its whole tree less the bare commands of the same round."""
    bare = {sample["round"]: sample["cpu_ms"] for sample in select(samples, "cold", shape, "loop")}
    group = [sample for sample in select(samples, "cold", shape, tool) if not sample["wrong"]]
    added = [(sample["cpu_ms"] - bare[sample["round"]]) / PACKAGES[shape] for sample in group]
    return statistics.median(added) if added and tool != "loop" else None


def spread(values: list[float]) -> str:
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def select(samples: list[dict], case: str, shape: str, tool: str) -> list[dict]:
    return [s for s in samples if (s["case"], s["shape"], s["tool"]) == (case, shape, tool)]


def in_order(values) -> list:
    return list(dict.fromkeys(values))


def markdown(table: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in table]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


if __name__ == "__main__":
    print(text(json.loads(pathlib.Path(sys.argv[1]).read_text())))
