#!/usr/bin/env python3
"""fusedmlp beside every way PyTorch has of running the same MLP on the CPU, timed interleaved in one run.

    eager    the layers as they are
    compile  torch.compile
    freeze   torch.compile with torch._inductor.config.freezing: weights packed for oneDNN or MKL
    tuned    freeze with max_autotune, backends CPP and ATEN: C++ GEMM templates too
    fused    fusedmlp.FusedMLP, sharing the weights

A cell is a shape, a dtype and a number of tokens. Each (shape, dtype) has a process of its own, so that compiled
code of one does not burden another. The result file is written after every cell; cells made before with the same
versions, library, CPU and threads are kept, so an interrupted run goes on where it was.

    python benchmarks/peers_cpu.py --quick
    python benchmarks/peers_cpu.py --only 'geglu.*bf16' --threads 2
    python benchmarks/peers_cpu.py                       # everything: about half an hour on two cores
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, Optional

import peers_worker

SHAPES = ("geglu:768x3072", "gelu:768x3072+bias", "swiglu:2048x5632", "gelu:64x256+bias")
DTYPES = ("fp32", "bf16")
TOKENS = (1, 16, 64, 256, 1024, 8192)
QUICK_SHAPES = ("geglu:768x3072", "gelu:64x256+bias")
QUICK_TOKENS = (1, 64)
TORCH_MODES = ("eager", "compile", "freeze", "tuned")


def main() -> int:
    options = _options()
    cells = [key for key in _all_cells(options.quick) if re.search(options.only, key)]
    if not cells:
        print(
            f"error: --only: '{options.only}' fits no cell such as 'geglu:768x3072,bf16 tokens=64'",
            file=sys.stderr,
        )
        return 2
    made_with = _made_with(options)
    key_of_run = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:12]
    out = options.out or _default_path(made_with["cpu"])
    result = _read(out)
    kept = [key for key in cells if _is_current(result["cells"].get(key), key_of_run) and not options.again]
    todo = [key for key in cells if key not in kept]
    if kept:
        print(
            f"{len(kept)} of {len(cells)} cells are in {out} already; --again measures them anew",
            file=sys.stderr,
        )
    started = time.monotonic()
    failed = 0
    rates = _measured_rates(options.threads) if todo else {}
    groups: dict[str, list[int]] = {}
    for key in todo:
        spec, tokens = key.split(" tokens=")
        groups.setdefault(spec, []).append(int(tokens))
    done = 0
    for spec, tokens in groups.items():
        # What earlier groups left over of the time is this group's too.
        share = options.minutes * 60 * (done + len(tokens)) / len(todo) - (time.monotonic() - started)
        for cell in _measure(spec, tokens, max(share, 1.0), options):
            done += 1
            count = cell.pop("tokens")
            key = f"{spec} tokens={count}"
            if "error" not in cell:
                cell["limit_us"], cell["limit_by"] = _limit(spec, count, rates)
                cell["rates"] = rates
            cell["made_with"] = key_of_run
            failed += "error" in cell
            result["cells"][key] = cell
            result["made_with"][key_of_run] = _provenance(made_with)
            _write(out, result)
            print(f"[{done}/{len(todo)}] {_line(key, cell)}", file=sys.stderr, flush=True)
    print(table(result["cells"], cells))
    print(f"\n{out}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--threads", type=int, default=2, help="threads for PyTorch and fusedmlp (default: 2)")
    add("--quick", action="store_true", help="few cells, few repeats, without 'tuned'")
    add(
        "--only",
        default="",
        metavar="REGEX",
        help="only cells whose name fits, such as 'swiglu.*fp32 tokens=1$'",
    )
    add("--again", action="store_true", help="measure cells anew that the result file has")
    add("--out", type=Path, metavar="FILE", help="default: benchmarks/results/cpu_peers_<cpu>.json")
    add("--minutes", type=float, default=28.0, help="when they are over, 'tuned' is left out (default: 28)")
    add("--seconds", type=float, default=3.0, help="for repeats of each variant in a cell (default: 3)")
    add(
        "--burst",
        type=float,
        default=0.02,
        help="least length of a sample, calls of one variant in a row: weights are then in the cache that repeated "
        "calls leave them in, not where the other variants' own copies pushed them (default: 0.02 s)",
    )
    add("--call-limit", type=float, default=10.0, help="a call longer than this is made once (default: 10 s)")
    add(
        "--tune-limit",
        type=float,
        default=90.0,
        help="longest compilation of 'tuned' that is repeated (default: 90 s)",
    )
    options = parser.parse_args()
    for name in ("threads", "minutes", "seconds", "burst", "call_limit", "tune_limit"):
        if not getattr(options, name) > 0:
            parser.error(
                f"--{name.replace('_', '-')}: got {getattr(options, name)}, accepted is a number above 0"
            )
    try:
        re.compile(options.only)
    except re.error as error:
        parser.error(f"--only: '{options.only}' is not a regular expression: {error}")
    return options


def _all_cells(quick: bool) -> list[str]:
    shapes, tokens = (QUICK_SHAPES, QUICK_TOKENS) if quick else (SHAPES, TOKENS)
    return [f"{shape},{dtype} tokens={count}" for shape in shapes for dtype in DTYPES for count in tokens]


# -- where results come from and go to -----------------------------------------------------------------------


def _made_with(options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for a cell to be kept."""
    import fusedmlp
    from fusedmlp.limits import environment

    env = environment(options.threads)
    library = Path(fusedmlp.__file__).parent / "lib" / "libfusedmlp.so.0"
    keys = ("cpu", "flags", "isa", "torch_isa", "cores", "threads", "fusedmlp", "torch", "python")
    made_with = {key: env[key] for key in keys}
    made_with["library_sha256"] = hashlib.sha256(library.read_bytes()).hexdigest()[:16]
    made_with["quick"] = options.quick
    made_with["burst_seconds"] = options.burst
    return made_with


def _provenance(made_with: dict[str, Any]) -> dict[str, Any]:
    command = " ".join(["python", "benchmarks/peers_cpu.py", *sys.argv[1:]])
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"command": command, "script": "benchmarks/peers_cpu.py", "date": date, **made_with}


def _is_current(cell: Optional[dict[str, Any]], key_of_run: str) -> bool:
    return cell is not None and "error" not in cell and cell.get("made_with") == key_of_run


def _default_path(cpu: str) -> Path:
    name = re.sub(r"[^a-z0-9]+", "_", cpu.lower()).strip("_")
    return Path(__file__).resolve().parent / "results" / f"cpu_peers_{name}.json"


def _read(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"schema": "fusedmlp.cpu_peers/1", "made_with": {}, "cells": {}}
    if not path.exists():
        return empty
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if (
            result["schema"] == empty["schema"]
            and isinstance(result["cells"], dict)
            and "made_with" in result
        ):
            return result
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    sys.exit(
        f"error: --out: {path} exists and is not a result of this script; name another file or remove it"
    )


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


# -- measuring -----------------------------------------------------------------------------------------------


def _measure(
    spec: str, tokens: list[int], seconds: float, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Runs the worker for one (shape, dtype); yields its cells as they come, and one with "error" for each lost."""
    job = {
        "spec": spec,
        "tokens": tokens,
        "threads": options.threads,
        "repeats": 5 if options.quick else None,
        "seconds": options.seconds,
        "burst": options.burst,
        "call_limit": options.call_limit,
        "tune_limit": options.tune_limit,
        "group_seconds": seconds,
        "modes": [mode for mode in TORCH_MODES if not (options.quick and mode == "tuned")],
    }
    missing = list(tokens)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        command = [sys.executable, peers_worker.__file__, json.dumps(job)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as worker:
            try:
                for line in worker.stdout:
                    if line.startswith(peers_worker.MARK):
                        cell = json.loads(line[len(peers_worker.MARK) :])
                        missing.remove(cell["tokens"])
                        yield cell
            except BaseException:
                worker.terminate()
                raise
        if missing:
            log.seek(0)
            lines = [line.strip() for line in log if line.strip()]
            reason = f"the worker ended with {worker.returncode}: {lines[-1] if lines else 'no message'}"
            for count in missing:
                yield {"tokens": count, "error": reason}


# -- limits --------------------------------------------------------------------------------------------------


def _measured_rates(threads: int) -> dict[str, Any]:
    """What this machine reaches now, on as many threads: FLOP/s by dtype, bytes/s by level, sizes of the caches."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("fusedmlp", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if program is None:
        sys.exit(f"error: the command fusedmlp is neither in {beside} nor on PATH: install the wheel")
    command = [program, "info", "--measure", "--json", "-"]
    device = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[
        "devices"
    ][0]
    rates: dict[str, Any] = {"l2_bytes": device["l2_bytes"] * threads, "l3_bytes": device["l3_bytes"]}
    for name, rate in device["measured"].items():
        if isinstance(rate, dict):
            rates[name] = min(rate["all_threads"], rate["one_thread"] * threads)
    return rates


def _limit(spec: str, tokens: int, rates: dict[str, Any]) -> tuple[float, str]:
    """(us, what bounds it): arithmetic at the measured rate, or weights, x and y once at the bandwidth of the level
    that the weights fit into, whichever is longer."""
    from fusedmlp import capi

    fields = capi.parse_spec(spec)
    d_in, d_hidden, d_out = (int(fields[name]) for name in ("d_in", "d_hidden", "d_out"))
    first = d_in * d_hidden * (2 if fields["gated"] else 1)
    flops = 2.0 * tokens * (first + d_hidden * d_out)
    element = 4 if fields["dtype"] == "fp32" else 2
    weights = element * (first + d_hidden * d_out)
    level = "memory"
    for name in ("l3", "l2"):
        if weights <= rates[f"{name}_bytes"]:
            level = name
    # On a machine with AMX its products, of random operands without loads.
    rate = rates.get(f"tile_flops_{fields['dtype']}", rates[f"flops_{fields['dtype']}"])
    times = {
        "arithmetic": flops / rate,
        level: (weights + element * tokens * (d_in + d_out)) / rates[f"{level}_bandwidth"],
    }
    by = max(times, key=times.get)
    return times[by] * 1e6, by


# -- the table -----------------------------------------------------------------------------------------------


def _microseconds(value: Optional[float]) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 1e3 else f"{value:.0f}"


def _best(cell: dict[str, Any]) -> Optional[str]:
    times = {
        mode: cell["modes"][mode]["median_us"]
        for mode in TORCH_MODES
        if "median_us" in cell["modes"].get(mode, {})
    }
    return min(times, key=times.get) if times else None


def _ratio(cell: dict[str, Any], mode: Optional[str]) -> Optional[float]:
    times = [cell["modes"].get(name, {}).get("median_us") for name in (mode, "fused")]
    return times[0] / times[1] if all(times) else None


def _line(key: str, cell: dict[str, Any]) -> str:
    if "error" in cell:
        return f"{key}: {cell['error']}"
    best = _best(cell)
    ratio = _ratio(cell, best)
    fused = cell["modes"].get("fused", {}).get("median_us")
    return (
        f"{key}: fused {_microseconds(fused)} us, best of torch {best}, {ratio:.2f}x"
        if ratio
        else f"{key}: no ratio"
    )


def table(cells: dict[str, dict[str, Any]], keys: list[str]) -> str:
    """Medians in microseconds; one row a cell."""
    header = [
        "cell",
        *TORCH_MODES,
        "fused",
        "best torch",
        "best/fused",
        "eager/fused",
        "limit",
        "by",
        "of limit",
    ]
    rows = [header]
    notes: list[str] = []
    for key in keys:
        cell = cells.get(key)
        if cell is None or "error" in cell:
            notes.append(f"{key}: {'not measured' if cell is None else cell['error']}")
            continue
        modes = cell["modes"]
        times = []
        for mode in (*TORCH_MODES, "fused"):
            entry = modes.get(mode, {})
            once = entry.get("repeats") == 1
            times.append(_microseconds(entry.get("median_us")) + (" (1)" if once else ""))
            if "skipped" in entry:
                notes.append(f"{key}: {mode} skipped: {entry['skipped']}")
        best, fused = _best(cell), modes.get("fused", {}).get("median_us")
        ratios = [_ratio(cell, best), _ratio(cell, "eager")]
        share = f"{cell['limit_us'] / fused * 100:.0f} %" if fused else "-"
        rows.append(
            [key, *times, best or "-", *("-" if r is None else f"{r:.2f}" for r in ratios)]
            + [_microseconds(cell["limit_us"]), cell.get("limit_by", "-"), share]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines.append("")
    lines.append(
        "medians in us, interleaved, caches as repeated calls leave them; (1): one call only, it is that slow"
    )
    return "\n".join(lines + notes)


if __name__ == "__main__":
    sys.exit(main())
