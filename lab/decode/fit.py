"""Fits the costs of src/cuda/decode/cost.cpp to plans that lab/decode/plans.cpp timed.

Usage: fit.py PLANS      prints the costs and how far predictions are from the measurements (needs NumPy and SciPy)
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from plan_fit import Row, fit  # noqa: E402

PLAN_H = Path(__file__).resolve().parents[2] / "src/cuda/decode/plan.h"
SMS, REGISTERS, THREADS, BLOCKS, SHARED = 132, 65536, 2048, 32, 228 << 10
UNIT_K, LINE = 64, 32


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
    registers += (tiles - 1) * (24 if staged else 40) + (0 if whole else 24 if staged else 16)
    up = lambda value: -(-value // LINE) * LINE
    sums = matrices * rows * (tiles * 16 + 1 if tensor else 1)
    of_split = max(chunks // 2 * tiles * 16 * UNIT_K // 2, up(sums)) if staged else sums
    shared = 4 * (up(matrices * rows) + splits * of_split) + 1024
    blocks = -(-n // rows)
    resident = max(1, min(REGISTERS // (threads * registers), THREADS // threads, SHARED // shared, BLOCKS))
    per_sm = blocks / SMS
    waves = per_sm / resident
    most = min(math.ceil(per_sm), resident)
    full = math.ceil(waves)
    slack = (full / waves if waves > 1 else math.ceil(per_sm) / per_sm) - 1
    return {
        "input": per_sm * 2e-3 * tokens * k * groups,
        "block": 0 if tensor else per_sm,
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
    sets: dict[str, list[Row]] = {"one token": [], "up to 16": [], "up to 32": []}
    for line in Path(sys.argv[1]).read_text().splitlines():
        p = line.split()
        spec = re.match(r"(\w+):(\d+)x(\d+)", p[0])
        gated, d_in, d_hidden, tokens = "glu" in spec[1], int(spec[2]), int(spec[3]), int(p[1])
        up, down = tuple(map(int, p[3:6])), tuple(map(int, p[7:10]))
        row = {"start": 1.0, "megabyte": 2e-6 * d_in * d_hidden * (3 if gated else 2)}
        for side, shape, plan in (("up", (gated, d_hidden, d_in), up), ("down", (False, d_in, d_hidden), down)):
            for name, value in features(*shape, tokens, *plan).items():
                row[f"{side} {kind(plan[0])} {name}"] = value
        sets["one token" if tokens == 1 else "up to 16" if tokens <= 16 else "up to 32"].append(Row((p[0], tokens), float(p[-1]), row, (up, down)))
    for name, rows in sets.items():
        fit(name, rows, rounds=30)


if __name__ == "__main__":
    main()
