"""The physical limit, from the library's cost model, and what the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from typing import Any

import torch

from . import capi

# The instruction sets that decide how fast an MLP can be, as /proc/cpuinfo spells them.
_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
)


def limit(spec: str, tokens: int, device: str = "cpu") -> tuple[float, str]:
    """(microseconds no implementation can beat on this device, the kernel that would run).

    The limit is the larger of the arithmetic at peak rate and of reading weights and x and writing y once.
    Raises ValueError for a spec or token count the library refuses.
    """
    explanation = capi.explain(spec, tokens, device)
    kernel = str(explanation["chosen"]) if explanation.get("pays", True) else "torch's own"
    return float(explanation["limit_us"]), kernel


def cpu_name() -> str:
    """The CPU's own name, e.g. "AMD EPYC"; the architecture where the system does not tell."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def cpu_flags() -> list[str]:
    for line in _cpuinfo():
        if line.startswith("flags"):
            present = set(line.split(":", 1)[1].split())
            return [flag for flag in _FLAGS if flag in present]
    return []


def cores() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_line() -> str:
    """How this process was started, without the folders of the interpreter and the script."""
    script = os.path.basename(sys.argv[0])
    start = "python -m fusedmlp" if script == "__main__.py" else f"python {script}".strip()
    return " ".join([start, *sys.argv[1:]])


def environment(threads: int) -> dict[str, Any]:
    """Provenance of a measurement: CPU, instruction sets, threads, versions, date and command."""
    devices = capi.info().get("devices", [{}])
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command_line(),
        "cpu": cpu_name(),
        "flags": cpu_flags(),
        "isa": devices[0].get("isa"),
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "threads": threads,
        "fusedmlp": capi.version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    if torch.cuda.is_available():
        result["gpu"] = torch.cuda.get_device_name()
        result["cuda"] = torch.version.cuda
    if "transformers" in sys.modules:
        result["transformers"] = sys.modules["transformers"].__version__
    forced = {name: os.environ[name] for name in ("FUSEDMLP_KERNEL", "FUSEDMLP_ISA") if os.environ.get(name)}
    if forced:
        result["forced"] = forced
    return result
