"""Writes what scipy says of fixed samples: `python3 reference.py AA_RUNS.json > scipy.json`.

Made with scipy 1.x in a virtual environment; `cargo xtask perf-reference` does it anew and compares.
"""
import itertools
import json
import sys

import numpy as np
from scipy import stats

runs = json.load(open(sys.argv[1]))
wall = [run[0] for run in runs]
cpu = [run[1] for run in runs]
SAMPLES = {
    "short": ([1.1, 2.2, 3.3, 0.5], [2.5, 4.0, 1.7]),
    "apart": ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]),
    "ties": ([1, 2, 2, 3, 3, 3, 4], [2, 3, 4, 4, 4, 5]),
    "all_equal": ([2, 2, 2], [2, 2]),
    "cpu_halves": (cpu[:20], cpu[20:40]),
    "wall_halves": (wall[:20], wall[20:40]),
    "cpu_all": (cpu[:30], [value * 1.04 for value in cpu[30:]]),
    "wall_many": (wall + wall[:10], [value * 1.1 for value in wall]),
}
SERIES = {"wall": wall, "cpu": cpu, "grows": list(range(12)), "ties": [1, 1, 2, 2, 3, 1, 4, 4, 2]}


def by_all_choices(first, second):
    """The two-sided permutation p of the rank sum: every choice looked at."""
    ranks = stats.rankdata(first + second)
    n, observed = len(first), ranks[: len(first)].sum()
    sums = [ranks[list(chosen)].sum() for chosen in itertools.combinations(range(len(ranks)), n)]
    below = np.mean([value <= observed + 1e-9 for value in sums])
    above = np.mean([value >= observed - 1e-9 for value in sums])
    return float(min(1, 2 * min(below, above)))


def rank_tests(first, second):
    asymptotic = stats.mannwhitneyu(first, second, method="asymptotic")
    found = {"u": float(asymptotic.statistic), "p_normal": float(asymptotic.pvalue), "p_exact": None}
    if len(first) + len(second) <= 14:
        found["p_exact"] = by_all_choices(first, second)
    elif len(set(first + second)) == len(first + second):
        found["p_exact"] = float(stats.mannwhitneyu(first, second, method="exact").pvalue)
    differences = [other - one for one in first for other in second]
    found["hodges_lehmann"] = float(np.median(differences))
    found["energy_distance_squared"] = float(stats.energy_distance(first, second) ** 2)
    return found


def by_all_signs(differences):
    """The two-sided p of the signed rank sum: every choice of signs looked at."""
    moved = [value for value in differences if value != 0]
    ranks = stats.rankdata(np.abs(moved))
    observed = sum(rank for rank, value in zip(ranks, moved) if value > 0)
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))]
    below = np.mean([value <= observed + 1e-9 for value in sums])
    above = np.mean([value >= observed - 1e-9 for value in sums])
    return float(min(1, 2 * min(below, above)))


def signed(differences):
    moved = [value for value in differences if value != 0]
    means = [(one + other) / 2 for at, one in enumerate(differences) for other in differences[at:]]
    approximate = stats.wilcoxon(moved, method="asymptotic", correction=True)
    # `statistic` is the smaller rank sum: the positive one is counted here.
    ranks = stats.rankdata(np.abs(moved))
    found = {
        "differences": differences,
        "w": float(sum(rank for rank, value in zip(ranks, moved) if value > 0)),
        "p_normal": float(approximate.pvalue),
        "p_exact": None,
        "pseudo_median": float(np.median(means)),
    }
    if len(moved) <= 14:
        found["p_exact"] = by_all_signs(differences)
    elif len(moved) <= 50 and len(set(np.abs(moved))) == len(moved):
        found["p_exact"] = float(stats.wilcoxon(moved, method="exact").pvalue)
    return found


def series(values):
    tau = stats.kendalltau(range(len(values)), values, method="asymptotic")
    return {
        "quantiles": [float(np.quantile(values, at)) for at in (0, 0.1, 0.25, 0.5, 0.9, 1)],
        "deviation": float(np.std(values, ddof=1)),
        "median_deviation": float(stats.median_abs_deviation(values)),
        "tau": float(tau.statistic),
        "tau_p": float(tau.pvalue),
    }


SIGNED = {
    "one": [0.5],
    "above": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    "mixed": [1.5, -0.3, 2.2, 0.8, -1.1, 3.0, 0.4, 2.7],
    "ties_and_zeros": [1, 1, -1, 0, 2, 2, -3, 0, 4, 1],
    "cpu_pairs": [float(np.log(b / a)) for a, b in zip(cpu[0::2], cpu[1::2])],
    "wall_pairs": [float(np.log(b / a)) for a, b in zip(wall[0::2], wall[1::2])],
    "wall_many": [float(np.log(1.05 * b / a)) for a, b in zip(wall + wall[:20], wall[7:] + wall[:27])],
}
bootstrap = stats.bootstrap(
    (wall,), np.median, confidence_level=0.99, method="percentile", n_resamples=20000, rng=np.random.default_rng(1)
).confidence_interval
json.dump(
    {
        "samples": {name: {"first": a, "second": b, **rank_tests(a, b)} for name, (a, b) in SAMPLES.items()},
        "signed": {name: signed(values) for name, values in SIGNED.items()},
        "series": {name: {"values": values, **series(values)} for name, values in SERIES.items()},
        "normal_above": [[z, float(stats.norm.sf(z))] for z in (-3, -1, 0, 0.5, 1, 2, 3, 3.6, 4, 6, 8)],
        "wall_median_interval_99": [float(bootstrap.low), float(bootstrap.high)],
    },
    sys.stdout,
    indent=1,
)
print()
