"""Counting what PyTorch dispatches, and writing its traces.

On a GPU one counts kernel launches. On the CPU the nearest thing is an operation that computes: a cpu_op event
of torch.profiler that is neither a view, nor an allocation, nor a composite that only calls others. Code that
torch.compile generated counts one for each C++ kernel, a fused MLP counts one. On a GPU the kernels themselves are
counted, and copies and fills of device memory with them.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Optional

import torch

# Return their input, or memory not yet written; their schemas do not say so.
_NO_WORK = {
    "_unsafe_view", "_reshape_alias", "empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided",
    "resize_", "resolve_conj", "resolve_neg", "lift_fresh", "detach_", "item", "_local_scalar_dense",
    "is_nonzero", "result_type",
}  # fmt: skip


# Kernels that torch.compile makes: "graph_0_cpp_fused_gelu_1", "graph_2_gemm_m64n3072k768_kernel".
_GENERATED = re.compile(r"(graph_\d+_\w|cpp_fused|triton_)")


@dataclass(frozen=True)
class OpCount:
    """Operations of one call."""

    computing: int  # operations that compute, or kernels on a GPU: what the table shows
    dispatched: int  # every cpu_op event, views and composites included; on a GPU the kernels again
    names: tuple[str, ...]  # the computing ones, in order


@lru_cache(maxsize=None)
def _kind(name: str) -> str:
    """ "compute", "nothing" or "descend" (look at the children) for the name of a profiler event."""
    if _GENERATED.match(name):
        return "compute"
    namespace, separator, op = name.partition("::")
    if not separator or " " in namespace:
        return "descend"  # a scope: "Torch-Compiled Region", "## Call CompiledFxGraph ..."
    if namespace != "aten":
        return "compute"
    if op in _NO_WORK:
        return "nothing"
    packet = getattr(torch.ops.aten, op, None)
    if packet is None:
        return "compute"
    composite = False
    for overload in packet.overloads():
        try:
            found = getattr(packet, overload)
            if found.is_view:
                return "nothing"
            composite = composite or torch._C._dispatch_has_kernel_for_dispatch_key(
                found.name(), "CompositeImplicitAutograd"
            )
        except (RuntimeError, AttributeError):
            continue  # overloads that exist only in TorchScript
    return "descend" if composite else "compute"


def _walk(event: Any, names: list[str]) -> None:
    kind = _kind(event.name)
    if kind == "compute":
        names.append(event.name)
    elif kind == "descend":
        for child in event.cpu_children:
            _walk(child, names)


def observe(
    call: Callable[[], Any], label: str = "call", trace: Optional[Path] = None
) -> tuple[OpCount, Any]:
    """Runs `call` once under torch.profiler; returns what it dispatched and what it gave.

    Warm it up first: compilation would be counted too. With `trace`, also writes a Chrome trace (Perfetto,
    chrome://tracing) there, its JSON checked, put in place by a rename: the file is there whole or not at all.
    Raises RuntimeError when the profiler's trace does not parse.
    """
    on_gpu = torch.cuda.is_available()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu:
        torch.cuda.synchronize()
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, record_shapes=trace is not None) as profiler:
        with torch.profiler.record_function(label):
            output = call()
            if on_gpu:
                torch.cuda.synchronize()
    if trace is not None:
        _write_trace(profiler, trace)
    return count_events(profiler.events()), output


def count_events(events: Any) -> OpCount:
    """Counts the events of a finished profile; `events` is an EventList with its tree built. Where a GPU worked, its
    work alone is counted."""
    launched = [
        e for e in events if e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation
    ]
    if launched:
        launched.sort(key=lambda event: event.time_range.start)
        return OpCount(len(launched), len(launched), tuple(event.name for event in launched))
    names: list[str] = []
    dispatched = 0
    for event in events:
        if _GENERATED.match(event.name) or ("::" in event.name and " " not in event.name):
            dispatched += 1
        if event.cpu_parent is None:
            _walk(event, names)
    return OpCount(len(names), dispatched, tuple(names))


def _write_trace(profiler: torch.profiler.profile, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fusedmlp-trace-") as folder:
        raw = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(raw))
        try:
            trace = json.loads(raw.read_text(encoding="utf-8", errors="replace"))
        except json.JSONDecodeError as error:
            raise RuntimeError(f"torch.profiler wrote a trace that is not JSON: {error}") from None
    trace["traceName"] = path.name  # the profiler puts the temporary path here
    write_text(path, json.dumps(trace, separators=(",", ":")))


def write_text(path: Path, text: str) -> None:
    """Writes a file by way of a temporary neighbour and a rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
