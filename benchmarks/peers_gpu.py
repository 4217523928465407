"""fusedmlp beside PyTorch on a GPU: eager, torch.compile, max-autotune, cuBLASLt's GELU epilogue, cuBLAS alone, and
Liger's activation kernels where liger_kernel can be imported.

    python benchmarks/peers_gpu.py --out FILE.json [--only REGEX] [--quick] [--no-autotune] [--sustained SECONDS]
    python benchmarks/peers_gpu.py --table FILE.json      README's table of that file; needs no GPU

Every figure is microseconds a forward pass: replay of a CUDA graph of 32 MLPs (fewer where they take longer than
5 ms), weights rotated past 200 MB so that they are cold in L2, random data, medians of interleaved repeats. Variants
share weights and input. "cublas" is the GEMMs alone, gate and up packed, without activation: a mark, not a peer.

Samples of many tokens are bursts of 5 ms after a pause: where a variant takes longer for all copies of the weights,
several graphs have a part of them each, and each sample replays the next one. Longer bursts lower the SM clock, also
of what is measured next. "sustained_us" is the mean of half a second after SECONDS of the same work,
when the card is at its power limit. "portable" is fusedmlp without its kernels for Hopper.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Callable, Optional

import torch
import torch.nn.functional as F

import fusedmlp
from fusedmlp.limits import environment, limit

COLD_BYTES = 200e6
SAMPLE_SECONDS = 5e-3
SAMPLES = 15
LAYERS = 32  # MLPs of a graph, as many as a model has
MANY_TOKENS = 256
MARKS = ("fusedmlp", "portable", "cublas")  # what is no peer
PEERS = ("eager", "compile", "max-autotune", "liger", "cublaslt")
PAUSE_SECONDS = 0.03

# name, form, d_in, d_hidden, bias, tokens
SHAPES = [
    ("GeGLU 768x3072", "geglu_tanh", 768, 3072, False, (1, 16, 64, 256, 1024, 8192)),
    ("GELU+bias 768x3072", "gelu", 768, 3072, True, (1, 1024, 8192)),
    ("GELU+bias 1024x4096", "gelu", 1024, 4096, True, (1, 64, 256, 8192)),
    ("GELU+bias 4096x4096", "gelu", 4096, 4096, True, (1, 64, 1024)),
    ("SwiGLU 4096x14336", "swiglu", 4096, 14336, False, (1, 16, 64, 256, 1024, 8192)),
    ("GeGLU 2048x16384", "geglu_tanh", 2048, 16384, False, (1, 256, 8192)),
    ("SwiGLU 2048x768", "swiglu", 2048, 768, False, (1, 64, 8192)),
    ("SwiGLU 8192x28672", "swiglu", 8192, 28672, False, (1,)),
    ("GELU+bias 128x512", "gelu", 128, 512, True, (65536, 262144)),
    ("GELU+bias 256x1024", "gelu", 256, 1024, True, (65536, 262144)),
]
QUICK = {1024, 8192}


try:
    from importlib.metadata import version

    from liger_kernel.ops.geglu import LigerGELUMulFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    LIGER = {"geglu_tanh": LigerGELUMulFunction.apply, "swiglu": LigerSiLUMulFunction.apply}
    LIGER_VERSION = version("liger_kernel")
except ImportError:
    LIGER, LIGER_VERSION = {}, None


def activation(form: str) -> Callable:
    return {
        "geglu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "gelu": F.gelu,
        "swiglu": F.silu,
    }[form]


class Weights:
    """One copy of the weights of a shape."""

    def __init__(self, form: str, d_in: int, d_hidden: int, bias: bool) -> None:
        make = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
        self.up = make(d_hidden, d_in) / d_in**0.5
        self.gate = make(d_hidden, d_in) / d_in**0.5 if form != "gelu" else None
        self.down = make(d_in, d_hidden) / d_hidden**0.5
        self.b_up = make(d_hidden) if bias else None
        self.b_down = make(d_in) if bias else None


def variants(form: str, autotune: bool) -> dict[str, Callable]:
    """name -> f(x, weights)."""
    act = activation(form)

    def eager(x, w):
        if w.gate is None:
            return F.linear(act(F.linear(x, w.up, w.b_up)), w.down, w.b_down)
        return F.linear(act(F.linear(x, w.gate)) * F.linear(x, w.up), w.down)

    def flat(x, up, gate, down, b_up, b_down):
        if gate is None:
            return F.linear(act(F.linear(x, up, b_up)), down, b_down)
        return F.linear(act(F.linear(x, gate)) * F.linear(x, up), down)

    compiled = torch.compile(flat, dynamic=False)
    kernel = {"geglu_tanh": "gelu_tanh", "gelu": "gelu", "swiglu": "silu"}[form]

    def fused(x, w):
        return fusedmlp.ops.mlp(
            x, w.up, w.down, w_gate=w.gate, b_up=w.b_up, b_down=w.b_down, activation=kernel
        )

    def portable(x, w):
        os.environ["FUSEDMLP_KERNEL"] = "cuda.portable"  # read when the call is queued
        try:
            return fused(x, w)
        finally:
            del os.environ["FUSEDMLP_KERNEL"]

    result = {
        "fusedmlp": fused,
        "portable": portable,
        "eager": eager,
        "compile": lambda x, w: compiled(x, w.up, w.gate, w.down, w.b_up, w.b_down),
    }
    if autotune:
        tuned = torch.compile(
            flat, dynamic=False, options={"max_autotune": True, "coordinate_descent_tuning": True}
        )
        result["max-autotune"] = lambda x, w: tuned(x, w.up, w.gate, w.down, w.b_up, w.b_down)
    if form in LIGER:
        result["liger"] = lambda x, w: F.linear(LIGER[form](F.linear(x, w.gate), F.linear(x, w.up)), w.down)
    if form == "gelu":  # its epilogue is the tanh form: less work than erf
        result["cublaslt"] = lambda x, w: F.linear(
            torch._addmm_activation(w.b_up, x, w.up.t(), use_gelu=True), w.down, w.b_down
        )
    return result


class Replay:
    """Graphs of as many MLPs each, which follow one another."""

    def __init__(self, graphs: list[torch.cuda.CUDAGraph], mlps: int) -> None:
        self.graphs, self.mlps, self.next = graphs, mlps, 0

    def seconds(self, replays: int) -> float:
        """Of an MLP."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(replays):
            self.graphs[self.next].replay()
            self.next = (self.next + 1) % len(self.graphs)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / replays / self.mlps


def capture(call: Callable, x: torch.Tensor, copies: list[Weights], passes: int, pool=None) -> Replay:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            for weights in copies:
                call(x, weights)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        for weights in copies * passes:
            call(x, weights)
    return Replay([graph], len(copies) * passes)


def capture_bursts(call: Callable, x: torch.Tensor, copies: list[Weights], passes: int) -> Replay:
    """Graphs of SAMPLE_SECONDS at most, or of one MLP, over copies of the weights by turns."""
    probe = capture(call, x, copies[:2], 1)
    probe.seconds(1)
    mlps = max(1, int(SAMPLE_SECONDS / probe.seconds(2)))
    if mlps >= len(copies):
        return capture(call, x, copies, min(passes, mlps // len(copies)))
    pool = torch.cuda.graph_pool_handle()  # one, for they never run together
    starts = range(0, len(copies) - mlps + 1, mlps)[:SAMPLES]
    return Replay([capture(call, x, copies[i : i + mlps], 1, pool).graphs[0] for i in starts], mlps)


def sustained(replay: Replay, before: float) -> float:
    """Seconds an MLP in the half second after `before` seconds of replays."""
    once = replay.seconds(2) * replay.mlps
    replay.seconds(max(1, round(before / once)))
    return replay.seconds(max(1, round(0.5 / once)))


def measure(
    form: str,
    d_in: int,
    d_hidden: int,
    bias: bool,
    tokens: int,
    limit_us: float,
    autotune: bool,
    sustained_after: float,
) -> dict:
    torch.manual_seed(0)
    torch._dynamo.reset()
    bytes_of_one = 2 * d_in * d_hidden * (2 if form == "gelu" else 3)
    count = max(2, math.ceil(COLD_BYTES / bytes_of_one) + 1)
    copies = [Weights(form, d_in, d_hidden, bias) for _ in range(count)]
    passes = max(1, min(math.ceil(LAYERS / count), int(SAMPLE_SECONDS * 1e6 / limit_us / count)))
    x = torch.randn(tokens, d_in, device="cuda", dtype=torch.bfloat16)
    calls = variants(form, autotune)
    packed = [torch.cat([w.gate, w.up]) if w.gate is not None else w.up for w in copies]
    hidden = torch.randn(tokens, d_hidden, device="cuda", dtype=torch.bfloat16)
    order = {id(w): i for i, w in enumerate(copies)}
    calls["cublas"] = lambda x, w: (F.linear(x, packed[order[id(w)]]), F.linear(hidden, w.down))

    truth = calls["eager"](x, copies[0]).double()
    result: dict = {"error": {}, "us": {}}
    graphs, replays, samples = {}, {}, {}
    for name, call in calls.items():
        try:
            take = capture_bursts if tokens >= MANY_TOKENS else capture
            graphs[name] = take(call, x, copies, passes)
        except Exception as error:  # a peer that does not run is a row without a figure
            result.setdefault("failed", {})[name] = str(error).splitlines()[0][:200]
            continue
        if name != "cublas":
            difference = call(x, copies[0]).double() - truth
            result["error"][name] = float(difference.norm() / truth.norm())
        once = graphs[name].seconds(2) * graphs[name].mlps
        replays[name] = min(50, max(1, round(SAMPLE_SECONDS / once)))
        samples[name] = []
    for _ in range(SAMPLES):
        for name, graph in graphs.items():
            if tokens >= MANY_TOKENS:
                time.sleep(PAUSE_SECONDS)
            samples[name].append(graph.seconds(replays[name]) * 1e6)
    if sustained_after > 0 and tokens >= MANY_TOKENS:
        result["sustained_us"] = {
            name: round(sustained(graph, sustained_after) * 1e6, 2) for name, graph in graphs.items()
        }
    result["us"] = {name: round(statistics.median(values), 2) for name, values in samples.items()}
    result["spread"] = {
        name: round((max(values) - min(values)) / statistics.median(values), 3)
        for name, values in samples.items()
    }
    peers = [value for name, value in result["us"].items() if name not in MARKS]
    result["best_peer"] = min(peers)
    result["speedup"] = round(min(peers) / result["us"]["fusedmlp"], 3)
    result["to_cublas"] = round(result["us"]["fusedmlp"] / result["us"]["cublas"], 3)
    return result


def table(rows: list[dict]) -> str:
    """Microseconds; peer/own is the best peer's time over fusedmlp's, `sustained` the same at the power limit."""
    peers = [name for name in PEERS if any(name in row["us"] for row in rows)]
    lines = [["MLP", "tokens", "kernel", *peers, "fusedmlp", "peer/own", "sustained", "limit"]]
    for row in rows:
        late = row.get("sustained_us")
        ratio = min(late[name] for name in peers if name in late) / late["fusedmlp"] if late else None
        lines.append(
            [row["name"], str(row["tokens"]), row["kernel"]]
            + [f"{row['us'][name]:.1f}" if name in row["us"] else "-" for name in (*peers, "fusedmlp")]
            + [f"{row['speedup']:.2f}", f"{ratio:.2f}" if ratio else "-", f"{row['limit_us']:.1f}"]
        )
    widths = [21, 6, 16, *(max(7, len(title)) for title in lines[0][3:])]
    text = [
        "  ".join(
            cell.ljust(w) if i in (0, 2) else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))
        )
        for line in lines
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path)
    what.add_argument(
        "--table", type=Path, metavar="FILE", help="print README's table of this result and stop"
    )
    parser.add_argument("--only", default="", help="regular expression on 'NAME M=TOKENS'")
    parser.add_argument("--quick", action="store_true", help="M = 1024 and 8192 only")
    parser.add_argument(
        "--sustained", type=float, default=0, help="seconds before the sustained figure; 0: none"
    )
    parser.add_argument("--no-autotune", action="store_true", help="leave max-autotune out")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())["rows"]))
        return 0
    if not torch.cuda.is_available():
        print("peers_gpu.py: PyTorch sees no GPU here", file=sys.stderr)
        return 2
    rows: list[dict] = []
    for name, form, d_in, d_hidden, bias, token_counts in SHAPES:
        spec = f"{form}:{d_in}x{d_hidden}{'+bias' if bias else ''},bf16"
        for tokens in token_counts:
            if not re.search(options.only, f"{name} M={tokens}") or options.quick and tokens not in QUICK:
                continue
            limit_us, kernel = limit(spec, tokens, "cuda")
            row = {"name": name, "spec": spec, "tokens": tokens, "kernel": kernel, "limit_us": round(limit_us, 2)}
            with torch.no_grad():
                row |= measure(
                    form,
                    d_in,
                    d_hidden,
                    bias,
                    tokens,
                    limit_us,
                    not options.no_autotune,
                    options.sustained,
                )
            rows.append(row)
            figures = "  ".join(f"{key} {value:.1f}" for key, value in row["us"].items())
            print(
                f"{name} M={tokens} [{row['kernel']}]: {figures}  best peer / fusedmlp {row['speedup']}",
                flush=True,
            )
            document = {"schema": "fusedmlp.peers_gpu/1", "environment": environment(torch.get_num_threads())}
            document["liger_kernel"] = LIGER_VERSION
            document["rows"] = rows
            options.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
