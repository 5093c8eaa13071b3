#!/usr/bin/env python3
"""What Spolia itself spent on the misses of a build, beside the compilers that it started.

    SPOLIA_CACHE_DIR=STORE make CC="spolia cc gcc"        (or any other build, with a STORE that is not there yet)
    benches/compilers/own.py STORE

Own CPU is that of the process `spolia`, with the thread that watches, as it counted it itself when the call ended. The compilers' is that of the
compiler and all that it waited for, which includes what being observed costs it. The first miss of a store also hashes the
compiler (some 30 MB of C++, 150 MB of Rust) and looks at every system header for the first time: so both are shown, with it and without.
"""

import json, statistics, sys
from pathlib import Path

records = []
for day in sorted((Path(sys.argv[1]) / "v1/cc/tally").glob("*")):
    records += [json.loads(line) for line in day.read_text().splitlines()]
missed = [record for record in records
          if record["outcome"] == "miss" and record.get("own_cpu_us") and record.get("compile_cpu_us")]
missed.sort(key=lambda record: record["at_us"])
print("| language | misses | own CPU ms | a call, median | compilers' CPU ms | own | without the first |")
print("|---|---|---|---|---|---|---|")
for language in sorted({record["language"] for record in missed}):
    those = [record for record in missed if record["language"] == language]
    sums = lambda part: [sum(record[name] for record in part) / 1000 for name in ("own_cpu_us", "compile_cpu_us")]
    (own, compilers), rest = sums(those), sums(those[1:])
    median = statistics.median(record["own_cpu_us"] for record in those) / 1000
    later = f"{100 * rest[0] / rest[1]:.2f}%" if len(those) > 1 else ""
    print(f"| {language} | {len(those)} | {own:.0f} | {median:.1f} | {compilers:.0f} | {100 * own / compilers:.2f}% | {later} |")
