"""Fits the costs of src/cuda/decode/cost.cpp to plans that lab/decode/plans.cpp timed.

Usage: fit.py PLANS      prints the costs and how far predictions are from the measurements (needs NumPy and SciPy)
"""

from __future__ import annotations

import collections
import math
import re
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

PLAN_H = Path(__file__).resolve().parents[2] / "src/cuda/decode/plan.h"
PREFETCHED_MEGABYTES = 12
SMS, REGISTERS, THREADS, BLOCKS = 132, 65536, 2048, 32
# Of a launch, in the order of struct Costs.
FEATURES = "input busy products step rest once output uneven wave alone idle group load footprint".split()


def forms() -> list[tuple[bool, bool, int, int, int, bool]]:
    table = re.search(r"kForms\[\] = \{(.*?)\n\};", PLAN_H.read_text(), re.DOTALL).group(1)
    rows = re.findall(r"\{(true|false), (true|false), (\d+), (\d+), (\d+)(, true)?\}", table)
    return [(t == "true", g == "true", int(c), int(j), int(r), bool(s)) for t, g, c, j, r, s in rows]


FORMS = forms()


def kind(form: int) -> str:
    tensor, _, _, _, _, staged = FORMS[form]
    return "staged" if staged else "tensor" if tensor else "lanes"


def features(gated: bool, n: int, k: int, tokens: int, form: int, splits: int, groups: int) -> dict[str, float]:
    """What microseconds() of cost.cpp counts, without the costs."""
    tensor, _, chunks, jobs, registers, staged = FORMS[form]
    piece, matrices = (32 if tensor else 256), (2 if gated else 1)
    tiles = -(-tokens // 16) if tensor else 1
    rows, threads = groups * jobs * (8 if tensor else 1), splits * groups * 32
    steps = -(-(-(-k // piece)) // (splits * chunks))
    whole = splits * chunks * piece == k
    registers += (tiles - 1) * (16 if staged else 40) + (0 if whole else 8 if staged else 16)
    blocks = -(-n // rows)
    resident = max(1, min(REGISTERS // (threads * registers), THREADS // threads, BLOCKS))
    per_sm = blocks / SMS
    waves = per_sm / resident
    most = min(math.ceil(per_sm), resident)
    full = math.ceil(waves)
    slack = (full / waves if waves > 1 else math.ceil(per_sm) / per_sm) - 1
    return {
        "input": per_sm * 2e-3 * tokens * k * groups,
        "busy": most * 2e-3 * matrices * rows * k,
        "products": per_sm * splits * groups * steps * chunks * jobs * matrices * tiles,
        "step": steps,
        "rest": 0 if whole else 1,
        "once": 2e-6 * matrices * n * k / resident if whole and waves > 1 else 0,
        "output": rows * tokens / threads,
        "uneven": slack * 2e-6 * matrices * n * k,
        "wave": min(full - 1, 3),
        "alone": full - 1 if resident == 1 else 0,
        "idle": max(0, 1 - per_sm),
        "group": groups - 1,
        "load": chunks * jobs * matrices,
        "footprint": most * threads * registers / REGISTERS,
    }


def main() -> None:
    sets: dict[str, list] = {"lanes": [], "tensor": []}
    for line in Path(sys.argv[1]).read_text().splitlines():
        p = line.split()
        spec = re.match(r"(\w+):(\d+)x(\d+)", p[0])
        gated, d_in, d_hidden, tokens = spec[1].endswith("glu"), int(spec[2]), int(spec[3]), int(p[1])
        up, down = tuple(map(int, p[3:6])), tuple(map(int, p[7:10]))
        # cost.cpp draws small weights into L2 early; plans timed without that are that much slower.
        small = 2e-6 * d_in * d_hidden * (2 if gated else 1) <= PREFETCHED_MEGABYTES
        row = {"not drawn": float(small and p[11] == "0"), "start": 1.0, "megabyte": 2e-6 * d_in * d_hidden * (3 if gated else 2)}
        for side, shape, plan in (("up", (gated, d_hidden, d_in), up), ("down", (False, d_in, d_hidden), down)):
            for name, value in features(*shape, tokens, *plan).items():
                row[f"{side} {kind(plan[0])} {name}"] = value
        sets["tensor" if tokens > 1 else "lanes"].append(((p[0], tokens), float(p[-1]), row, (up, down)))
    for name, rows in sets.items():
        names = sorted({key for _, _, row, _ in rows for key in row})
        table = np.array([[row.get(key, 0.0) for key in names] for _, _, row, _ in rows])
        seconds = np.array([us for _, us, _, _ in rows])
        # The faster a plan is among its own, the more it matters.
        best: dict = collections.defaultdict(lambda: 1e9)
        for key, us, _, _ in rows:
            best[key] = min(best[key], us)
        count = collections.Counter(key for key, *_ in rows)
        weight = np.array([(best[key] / us) ** 4 / count[key] ** 0.5 for key, us, _, _ in rows])
        costs, _ = nnls(table / seconds[:, None] * weight[:, None], weight)
        found = {key: f"{c:.3g}" for key, c in zip(names, costs) if c > 1e-6}
        print(name, {key: found.pop(key, "0") for key in ("start", "megabyte", "not drawn")})
        for side, of in (("up", "lanes"), ("up", "tensor"), ("up", "staged"), ("down", "lanes"), ("down", "tensor"), ("down", "staged")):
            own = {key.split()[-1]: c for key, c in found.items() if key.startswith(f"{side} {of} ")}
            if own:
                print(f"  {side} {of} {{" + ", ".join(f".{f} = {own[f]}" for f in FEATURES if f in own) + "}")
        predicted = table @ costs
        error = np.abs(predicted / seconds - 1)
        print(f"{name}: {len(rows)} plans, error {error.mean():.3f} in the mean, {np.quantile(error, 0.9):.3f} at most of nine in ten")
        groups = collections.defaultdict(list)
        for (key, us, _, plan), p in zip(rows, predicted):
            groups[key].append((p, us, plan))
        for key, all_ in groups.items():
            chosen, fastest = min(all_), min(all_, key=lambda one: one[1])
            print(f"  {key[0]} {key[1]}: {chosen[1]:.2f} us chosen, {fastest[1]:.2f} best, x{chosen[1] / fastest[1]:.3f}, predicted {chosen[0]:.2f}", chosen[2], fastest[2])


if __name__ == "__main__":
    main()
