"""Fits the costs of src/cuda/cluster/cost.cpp to plans that lab/cluster/plans.cpp timed.

Usage: fit.py PLANS      prints the costs and how far predictions are from the measurements (needs NumPy and SciPy)
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from plan_fit import Row, fit  # noqa: E402

PLAN_H = Path(__file__).resolve().parents[2] / "src/cuda/cluster/plan.h"
SMS, BLOCK_K, MOST_SLICES, SHARED = 132, 64, 8, 227 << 10
# Of a second launch without room beside the first: the swept pairs hold few where both are large, and those are
# slower than a fit makes them (GELU 1024x4096 at 61 tokens by clusters of 2 and 6: 11.5 us, before weights were drawn).
CROWD, CROWDED = 0.5, 1.15
MEGABYTES, KILOBYTES = 4.46, 95.0  # a microsecond, from memory and into an SM
TABLE = re.search(r"kForms\[\] = \{(.*?)\};", PLAN_H.read_text(), re.DOTALL).group(1)
FORMS = [
    (*map(int, row[:4]), row[4] == "true")
    for row in re.findall(r"\{(\d+),\s*(\d+),\s*(\d+),\s*(\d+),\s*(true|false)\}", TABLE)
]


# Clusters lie within groups of 14 to 18 SMs, which larger ones do not fill.
HELD = {1: 1.0, 2: 1.0, 3: 0.94, 4: 0.91, 6: 0.82, 8: 0.91}


def share_of_sms(gated: bool, n: int, tokens: int, form: int, slices: int) -> float:
    """That a launch's CTAs take up."""
    rows, most_tokens, _, resident, _ = FORMS[form]
    ctas = -(-n // (rows // 2 if gated else rows)) * -(-tokens // most_tokens) * slices
    return min(1.0, ctas / SMS / resident)


def features(gated: bool, n: int, k: int, tokens: int, form: int, slices: int) -> dict[str, float]:
    """What microseconds() of cost.cpp counts, without the costs."""
    rows, most_tokens, groups, resident, in_slices = FORMS[form]
    token_tiles = -(-tokens // most_tokens)
    ctas = -(-n // (rows // 2 if gated else rows)) * token_tiles * slices
    capacity = int(SMS * HELD[slices] / slices) * slices
    per_sm = ctas / SMS
    waves = ctas / capacity / resident
    full = math.ceil(waves)
    blocks = -(-(-(-k // BLOCK_K)) // slices)
    most = min(math.ceil(per_sm), resident) if full == 1 else per_sm
    count = -(-tokens // token_tiles)
    kb = blocks * (rows + count) * BLOCK_K * 2e-3
    outputs = rows * count / (most_tokens * groups)
    megabytes = 2e-6 * (2 if gated else 1) * n * k
    received = (most_tokens + MOST_SLICES) * rows * 4 if in_slices else 0
    left = (SHARED + 1024) // resident - 1024 - received - rows * 4 - 256
    stages = left // ((rows + most_tokens) * BLOCK_K * 2) // groups * groups
    thin = 512 / (rows * stages) if resident == 2 and per_sm <= 1 else 0
    return {
        "stream": max(megabytes / MEGABYTES, most * kb / KILOBYTES),
        "products": most * blocks * rows * most_tokens / 4096,
        "output": outputs,
        "handed": outputs if slices > 1 else 0,
        "shared": 1 if slices > 1 else 0,
        "sums": math.log2(slices),
        "again": (full - 1) * kb if full < 4 else 0,
        "wave": full - 1,
        "uneven": (full / waves if full > 1 else 1) * megabytes - megabytes,
        "few": max(0, 1 - per_sm),
        "used": share_of_sms(gated, n, tokens, form, slices),
        # Weight rows on their way are few where an SM holds one CTA of a form for two.
        "shallow": thin * megabytes,
        "thin": thin,
    }


def main() -> None:
    rows = []
    for line in Path(sys.argv[1]).read_text().splitlines():
        p = line.split()
        spec = re.match(r"(\w+):(\d+)x(\d+)", p[0])
        gated, d_in, d_hidden, tokens = spec[1].endswith("glu"), int(spec[2]), int(spec[3]), int(p[1])
        up, down = tuple(map(int, p[3:5])), tuple(map(int, p[6:8]))
        row = {"start": 1.0, "megabyte": 2e-6 * d_in * d_hidden * (3 if gated else 2)}
        for side, shape, plan in (("up", (gated, d_hidden, d_in), up), ("down", (False, d_in, d_hidden), down)):
            kind = next(f"to{most}" for most in (16, 32, 64, 256) if tokens <= most)
            for name, value in features(*shape, tokens, *plan).items():
                row[f"{side} {kind} {name}"] = value
        # The part of the second launch that finds no room beside the first one.
        first = share_of_sms(gated, d_hidden, tokens, *up)
        second = share_of_sms(False, d_in, tokens, *down)
        without = min(1.0, max(0.0, first + second - 1) / second)
        known = (CROWD if without > 0 else 0.0) + CROWDED * without
        rows.append(Row((p[0], tokens), float(p[-1]), row, (up, down), known))
    fit("cluster", rows, 2, 40)


if __name__ == "__main__":
    main()
