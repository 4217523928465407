#!/usr/bin/env python3
"""How fast a profiler trace is read, and in how much memory, beside what else reads it.

    fusedmlp           the library's reader, as many threads as it takes by itself
    fusedmlp 1 thread  the same on one
    rapidjson          RapidJSON's SAX parser with a handler that keeps nothing: the floor of a reader built on it
    zlib               inflating alone (compressed files)
    python json        json.load: what a script does
    HTA                HolisticTraceAnalysis's loading of a trace into a table, where --peers names a Python that has it

Each is a process of its own, so that peak memory is its own; rounds go over all in turn. The files are made of a real
trace, repeated with later times and new ids. Python's readers get a smaller file (--peer-size): the rates compare, and they
need many bytes of memory for each byte of the file. (AMD's TraceLens is not on PyPI; `tracelens` there is another
project.)

    cmake --preset release -DFUSEDMLP_BUILD_BENCHMARKS=ON && cmake --build --preset release
    python benchmarks/trace_reading.py --peers PYTHON_OF_A_VENV_WITH_HTA
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import trace_files

Task = tuple[str, list[str], Path, int]  # name, command, file, most rounds
ROOT = Path(__file__).resolve().parent.parent

# Imports, which are not timed, and a statement on `path`.
JSON_LOAD = ("import gzip, json", "json.load((gzip.open if path.endswith('.gz') else open)(path, 'rt'))")
PEERS = {
    "HTA": (
        "from hta.common.trace_parser import parse_trace_dataframe; "
        "from hta.configs.parser_config import ParserConfig",
        "parse_trace_dataframe(path, ParserConfig.get_default_cfg())",
    ),
}
# Runs a statement on `path` and prints what trace_reading.cpp prints.
WRAPPER = """
import contextlib, io, logging, sys, time
logging.disable(logging.CRITICAL)
path = sys.argv[1]
with contextlib.redirect_stdout(io.StringIO()):
    exec(sys.argv[2])
    start = time.perf_counter()
    exec(sys.argv[3])
    seconds = time.perf_counter() - start
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print('{"seconds": %.3f, "peak_mib": %.1f}' % (seconds, peak / 1024))
"""


def main() -> int:
    options = _options()
    if not options.binary.exists():
        print(f"error: --binary: {options.binary} is not there; build it as --help says", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        plain = folder / f"plain_{options.size}.json"
        packed = folder / f"packed_{options.packed_size}.json.gz"
        small = folder / f"plain_{options.peer_size}.json"
        for path, size in ((plain, options.size), (packed, options.packed_size), (small, options.peer_size)):
            if not path.exists():
                write = trace_files.write_gzip if path == packed else trace_files.write_plain
                write(options.trace, path, size << 20)
        if options.only_files:
            return 0
        tasks = _tasks(options, plain, packed, small)
        samples, failed = _measure(tasks, options.rounds)
        sizes = {path.name: path.stat().st_size for path in (plain, packed, small)}
        text = {**sizes, packed.name: _text_size(options, packed)}
    rows = {
        name: _row(samples[name], path.name, sizes[path.name], text[path.name])
        for name, _, path, _ in tasks
        if samples[name]
    }
    result = {
        "schema": "fusedmlp.trace_reading/1",
        "made_with": _made_with(options),
        "rows": rows,
        "failed": failed,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'':34} {'seconds':>8} {'GB/s':>6} {'peak MiB':>9}")
    for name, row in rows.items():
        print(f"{name:34} {row['median_s']:8.2f} {row['gb_per_s']:6.2f} {row['peak_mib']:9.0f}")
    for name, error in failed.items():
        print(f"{name:34} failed: {error}")
    print(options.out)
    return 0


def _measure(tasks: list[Task], rounds: int) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """What each run of each task printed, and why a task failed."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _, _ in tasks}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, command, _, most in tasks:
            if name in failed or len(samples[name]) >= most:
                continue
            sample, error = _run(command)
            if sample is None:
                failed[name] = error
            else:
                samples[name].append(sample)
    return samples, failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, default=ROOT / "tests/data/traces/llama_2layer_shapes.json.gz")
    parser.add_argument(
        "--binary", type=Path, default=ROOT / "build/release/benchmarks/fusedmlp_bench_trace_reading"
    )
    parser.add_argument("--peers", type=Path, help="a Python that has HolisticTraceAnalysis")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the plain file (1024)")
    parser.add_argument("--packed-size", type=int, default=100, help="MiB of the .gz file (100)")
    parser.add_argument("--peer-size", type=int, default=128, help="MiB of the file that Python reads (128)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--files", type=Path, help="folder to keep the files in (1.3 GiB) and to find them in again"
    )
    parser.add_argument("--only-files", action="store_true", help="make the files and stop")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/trace_reading.json")
    return parser.parse_args()


def _tasks(options: argparse.Namespace, plain: Path, packed: Path, small: Path) -> list[Task]:
    binary = str(options.binary)
    many = options.rounds
    tasks = [
        ("fusedmlp, plain", [binary, "read", str(plain)], plain, many),
        ("fusedmlp 1 thread, plain", [binary, "read", str(plain), "1"], plain, many),
        ("rapidjson, plain", [binary, "rapidjson", str(plain)], plain, many),
        ("fusedmlp, gz", [binary, "read", str(packed)], packed, 2),
        ("zlib, gz", [binary, "inflate", str(packed)], packed, 2),
        ("fusedmlp, peers' file", [binary, "read", str(small)], small, many),
        ("python json, peers' file", [sys.executable, "-c", WRAPPER, str(small), *JSON_LOAD], small, 2),
    ]
    if options.peers:
        for name, code in PEERS.items():
            command = [str(options.peers), "-c", WRAPPER, str(small), *code]
            tasks.append((f"{name}, peers' file", command, small, 1))
    return tasks


def _run(command: list[str]) -> tuple[Optional[dict[str, Any]], str]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def _row(samples: list[dict[str, Any]], file: str, size: int, text: int) -> dict[str, Any]:
    seconds = [sample["seconds"] for sample in samples]
    median = statistics.median(seconds)
    return {
        "file": file,
        "file_bytes": size,
        "text_bytes": text,
        "events": samples[0].get("count"),
        "seconds": seconds,
        "median_s": median,
        "gb_per_s": round(text / median / 1e9, 3),
        "peak_mib": max(sample["peak_mib"] for sample in samples),
    }


def _text_size(options: argparse.Namespace, packed: Path) -> int:
    done = subprocess.run(
        [str(options.binary), "inflate", str(packed)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["count"]


def _made_with(options: argparse.Namespace) -> dict[str, Any]:
    versions = {}
    if options.peers:
        code = (
            "import importlib.metadata as m, json; "
            "print(json.dumps({n: m.version(n) for n in ('HolisticTraceAnalysis', 'pandas')}))"
        )
        versions = json.loads(
            subprocess.run([options.peers, "-c", code], capture_output=True, check=True).stdout
        )
    cpu = next(
        (x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), "unknown"
    )
    return {
        "script": "benchmarks/trace_reading.py",
        # Without paths: they are of this machine.
        "command": " ".join(
            ["python benchmarks/trace_reading.py", *(a for a in sys.argv[1:] if "/" not in a)]
        ),
        "load_average": round(os.getloadavg()[0], 1),
        "sizes_mib": {"plain": options.size, "packed": options.packed_size, "peers": options.peer_size},
        "trace": options.trace.name,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "caches": "page cache warm",
        **versions,
    }


if __name__ == "__main__":
    sys.exit(main())
