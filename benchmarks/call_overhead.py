#!/usr/bin/env python3
"""What an eager call of a small layer costs through PyTorch and Python: GELU with biases, 64x256, one token.

    python benchmarks/call_overhead.py [--also DIR] [--rounds 6]

In microseconds, without gradients, on one thread: torch.relu, for scale; the operator alone; a FusedMLP's forward; a
call of it; a call of a fused nn.Sequential. Smallest and tenth percentile of many short batches, for a shared machine
has slow spells. --also gives a second copy of the package (a folder that holds `fusedmlp/`): processes of both take
turns, and a ratio follows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

BATCH, BATCHES = 200, 100


def times(call):
    """Microseconds a call, of each batch."""
    found = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        for _ in range(BATCH):
            call()
        found.append((time.perf_counter() - start) / BATCH * 1e6)
    return found


def measure():
    import torch
    from torch import nn

    import fusedmlp

    torch.set_num_threads(1)
    result = {}
    with torch.no_grad():
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            x = torch.randn(1, 64).to(dtype)
            own = fusedmlp.FusedMLP(64, 256, dtype=dtype)
            model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)).to(dtype)
            fusedmlp.fuse(model)
            own(x), model(x)
            operator = torch.ops.fusedmlp._mlp_prepared.default._op
            handle = own.__dict__["_fusedmlp_packs"]["mlp"].handle
            result[f"{name} torch.relu"] = times(lambda: torch.relu(x))
            result[f"{name} operator"] = times(lambda: operator(x, handle))
            result[f"{name} forward"] = times(lambda: own.forward(x))
            result[f"{name} FusedMLP"] = times(lambda: own(x))
            result[f"{name} Sequential"] = times(lambda: model(x))
    print(json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--also", metavar="DIR", help="a second copy of the package")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure()
    copies = [None] if options.also is None else [None, os.path.abspath(options.also)]
    found = [{} for _ in copies]
    for _ in range(options.rounds):
        for copy, cells in zip(copies, found):
            environment = dict(os.environ) if copy is None else {**os.environ, "PYTHONPATH": copy}
            command = [sys.executable, os.path.abspath(__file__), "--measure"]
            output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            for cell, values in json.loads(output).items():
                cells.setdefault(cell, []).extend(values)
    header = f"{'us a call':20}" + "   least    10 %" * len(found)
    print(header + ("  ratio of least" if len(found) == 2 else ""))
    for cell in found[0]:
        pairs = [(min(cells[cell]), sorted(cells[cell])[len(cells[cell]) // 10]) for cells in found]
        line = f"{cell:20}" + "".join(f"{least:8.2f}{tenth:8.2f}" for least, tenth in pairs)
        print(line + (f"{pairs[0][0] / pairs[1][0]:7.3f}" if len(pairs) == 2 else ""))


if __name__ == "__main__":
    main()
