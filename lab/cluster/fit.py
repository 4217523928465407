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
SMS, BLOCK_K, MOST_SHARED = 132, 64, 32
STAGE_BYTES = {1: 216 << 10, 2: 96 << 10}
TABLE = re.search(r"kForms\[\] = \{(.*?)\};", PLAN_H.read_text(), re.DOTALL).group(1)
FORMS = [tuple(map(int, row)) for row in re.findall(r"\{(\d+),\s*(\d+),\s*(\d+)\}", TABLE)]


# Clusters lie within groups of 14 to 18 SMs, which larger ones do not fill.
HELD = {1: 1.0, 2: 1.0, 3: 0.94, 4: 0.91, 6: 0.82, 8: 0.91}


def features(gated: bool, n: int, k: int, tokens: int, form: int, slices: int) -> dict[str, float]:
    """What microseconds() of cost.cpp counts, without the costs."""
    rows, most_tokens, resident = FORMS[form]
    tiles = -(-n // (rows // 2 if gated else rows))
    capacity = int(SMS * HELD[slices] / slices) * slices
    per_sm = tiles * slices / SMS
    waves = tiles * slices / capacity / resident
    full = math.ceil(waves)
    blocks = -(-(-(-k // BLOCK_K)) // slices)
    most = min(math.ceil(per_sm), resident) if full == 1 else per_sm
    kb = blocks * (rows + tokens) * BLOCK_K * 2e-3
    megabytes = 2e-6 * (2 if gated else 1) * n * k
    alone = slices == 1 and tokens > MOST_SHARED
    stages = STAGE_BYTES[resident] // ((rows + most_tokens) * BLOCK_K * 2)
    thin = 512 / (rows * stages) if resident == 2 and per_sm <= 1 else 0
    return {
        "read": most * kb,
        "products": most * blocks * rows * most_tokens / 4096,
        "output": 0 if alone else rows * tokens / most_tokens,
        "alone": rows * tokens / most_tokens if alone else 0,
        "shared": 0 if alone else 1,
        "sums": math.log2(slices),
        "again": (full - 1) * kb if full < 4 else 0,
        "wave": full - 1,
        "uneven": (full / waves if full > 1 else 1) * megabytes - megabytes,
        "few": max(0, 1 - per_sm),
        "used": min(1, per_sm / resident),
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
            for name, value in features(*shape, tokens, *plan).items():
                row[f"{side} any {name}"] = value
        rows.append(Row((p[0], tokens), float(p[-1]), row, (up, down)))
    fit("cluster", rows, 3)


if __name__ == "__main__":
    main()
