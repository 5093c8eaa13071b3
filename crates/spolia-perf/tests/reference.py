"""Writes what scipy says of fixed samples: `python3 reference.py AA_RUNS.json > scipy.json`.

Made with scipy 1.x in a virtual environment; `cargo xtask perf-reference` does it anew and compares.
"""
import itertools
import json
import sys

import numpy as np
from scipy import optimize, stats

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


CLIP, FADE, REACH, PARTS = 0.2, 0.3, 8, 4000


def leans(first, second, second_led, shift=0.0):
    """How far each pair leans to its second side: scores of each run among those near it, clipped."""
    logs, is_second = [], []
    for one, other, led in zip(first, second, second_led):
        both = [(np.log(one), False), (np.log(other) - shift, True)]
        for log, which in reversed(both) if led else both:
            logs.append(log)
            is_second.append(which)
    at = np.arange(len(logs))
    apart = np.abs(at[:, None] - at[None, :])
    weights = np.where((apart > 0) & (apart <= REACH), FADE ** (apart - 1.0), 0.0)
    logs = np.array(logs)
    scores = (weights * np.clip(logs[:, None] - logs[None, :], -CLIP, CLIP)).sum(axis=1)
    signed = np.where(is_second, scores, -scores)
    return signed[0::2] + signed[1::2]


def turns(first, second, second_led):
    found = leans(first, second, second_led)
    z = float(found.sum() / np.sqrt((found**2).sum()))
    parts = np.sign(found) * np.round(np.abs(found) / np.abs(found).sum() * PARTS)
    # All signs looked at, on both sides; scipy doubles the smaller tail as well.
    p_exact = None
    if len(parts) <= 14:
        p_exact = stats.permutation_test(
            (parts,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
        ).pvalue
    width = 2 + max(map(abs, np.log(first + second))) * 2
    middle = optimize.brentq(lambda shift: leans(first, second, second_led, shift).sum(), -width, width, xtol=1e-14)
    return {
        "first": first,
        "second": second,
        "second_led": second_led,
        "leans": [float(lean) for lean in found],
        "z": z,
        "p_exact": None if p_exact is None else float(p_exact),
        "p_normal": float(2 * stats.norm.sf(abs(z))),
        "middle": float(middle),
    }


def series(values):
    tau = stats.kendalltau(range(len(values)), values, method="asymptotic")
    return {
        "quantiles": [float(np.quantile(values, at)) for at in (0, 0.1, 0.25, 0.5, 0.9, 1)],
        "deviation": float(np.std(values, ddof=1)),
        "median_deviation": float(stats.median_abs_deviation(values)),
        "tau": float(tau.statistic),
        "tau_p": float(tau.pvalue),
    }


def coins(count):
    return [at * 7 % 5 in (1, 4) for at in range(count)]


TURNS = {
    "three": ([1.0, 2.0, 3.0], [1.5, 1.9, 3.4], [False, True, True]),
    "apart": ([10 + at % 3 for at in range(10)], [14 + at % 4 for at in range(10)], coins(10)),
    "mixed": (wall[:12], [value * 1.1 for value in wall[12:24]], coins(12)),
    "cpu_pairs": (cpu[0::2], cpu[1::2], coins(30)),
    "cpu_slower": (cpu[:14], [value * 1.08 for value in cpu[14:28]], coins(14)),
    "wall_many": (wall + wall[:20], [1.05 * value for value in wall[7:] + wall[:27]], coins(80)),
}
bootstrap = stats.bootstrap(
    (wall,), np.median, confidence_level=0.99, method="percentile", n_resamples=20000, rng=np.random.default_rng(1)
).confidence_interval
json.dump(
    {
        "samples": {name: {"first": a, "second": b, **rank_tests(a, b)} for name, (a, b) in SAMPLES.items()},
        "turns": {name: turns(*pairs) for name, pairs in TURNS.items()},
        "series": {name: {"values": values, **series(values)} for name, values in SERIES.items()},
        "normal_above": [[z, float(stats.norm.sf(z))] for z in (-3, -1, 0, 0.5, 1, 2, 3, 3.6, 4, 6, 8)],
        "wall_median_interval_99": [float(bootstrap.low), float(bootstrap.high)],
    },
    sys.stdout,
    indent=1,
)
print()
