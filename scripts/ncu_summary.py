"""What benchmarks/results keeps of a profile: ncu_summary.py NCU.csv NCU.txt OUT.json, of `gpu-bundle/run.sh profile`."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

TENSOR = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"


def number(row: dict[str, str], column: str) -> float:
    return float(row[column].replace(",", ""))


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    text = Path(sys.argv[1]).read_text()
    rows = list(csv.DictReader(io.StringIO(text[text.index('"ID"') :])))[1:]  # the first has the units
    kernels = [
        {
            "kernel": row["Kernel Name"].replace("void ", "")[:110],
            "us": round(number(row, "gpu__time_duration.sum") / 1e3, 2),
            "dram_read_mb": round(number(row, "dram__bytes_read.sum") / 1e6, 2),
            "dram_written_mb": round(number(row, "dram__bytes_write.sum") / 1e6, 2),
            "tensor_pipe_percent": number(row, TENSOR),
            "l2_hit_percent": number(row, "lts__t_sector_hit_rate.pct"),
            "registers": int(number(row, "launch__registers_per_thread")),
            "spilling_requests": number(row, "derived__local_spilling_requests"),
        }
        for row in rows
    ]
    runs = [line.strip() for line in Path(sys.argv[2]).read_text().splitlines() if "tokens" in line]
    document = {
        "made_by": "scripts/ncu_summary.py, of gpu-bundle/run.sh profile: kernels one after another, caches emptied",
        "tensor_metric": TENSOR,
        "runs": runs,
        "kernels": kernels,
    }
    Path(sys.argv[3]).write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
