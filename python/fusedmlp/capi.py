"""The library's C ABI: text in, JSON out (include/fusedmlp/c_api.h)."""

from __future__ import annotations

import ctypes
import json
from typing import Any

from ._library import CORE

_ERRORS: dict[str, type[Exception]] = {
    "invalid_argument": ValueError,
    "unsupported": NotImplementedError,
    "unavailable": RuntimeError,
    "out_of_memory": MemoryError,
    "internal": RuntimeError,
}

CORE.fusedmlp_version.restype = ctypes.c_char_p
CORE.fusedmlp_version.argtypes = []
CORE.fusedmlp_free.restype = None
CORE.fusedmlp_free.argtypes = [ctypes.c_void_p]
CORE.fusedmlp_spec_json.restype = ctypes.c_void_p
CORE.fusedmlp_spec_json.argtypes = [ctypes.c_char_p]
CORE.fusedmlp_info_json.restype = ctypes.c_void_p
CORE.fusedmlp_info_json.argtypes = []
CORE.fusedmlp_explain_json.restype = ctypes.c_void_p
CORE.fusedmlp_explain_json.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_char_p]
for _name, _texts in {
    "fusedmlp_tune_json": 1,
    "fusedmlp_analyze_json": 2,
    "fusedmlp_analysis_text": 2,
    "fusedmlp_analysis_html": 1,
    "fusedmlp_compare_json": 2,
    "fusedmlp_compare_text": 3,
    "fusedmlp_compare_html": 1,
    "fusedmlp_explain_kernel_json": 1,
}.items():
    getattr(CORE, _name).restype = ctypes.c_void_p
    getattr(CORE, _name).argtypes = [ctypes.c_char_p] * _texts


def _call(function: Any, *arguments: Any) -> dict[str, Any]:
    pointer = function(*arguments)
    if not pointer:
        raise MemoryError("fusedmlp: out of memory")
    try:
        answer = json.loads(ctypes.string_at(pointer).decode())
    finally:
        CORE.fusedmlp_free(pointer)
    if answer.pop("ok", False):
        return answer
    where = f"{answer['argument']}: " if answer.get("argument") else ""
    raise _ERRORS.get(answer.get("code", ""), RuntimeError)(where + answer.get("message", "no message"))


def _text(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a str, got {type(value).__name__}")
    return value.encode()


def version() -> str:
    """The library's version, "0.1.0"."""
    return CORE.fusedmlp_version().decode()


class Explanation(dict):
    """What dispatch would do, as the dict of the C ABI; printing it gives one line for each kernel."""

    def __str__(self) -> str:
        lines = [f"{self.get('spec', '?')}, {self.get('tokens', '?')} tokens on {self.get('device', '?')}:"]
        rows = []
        for entry in self.get("entries", []):
            time = entry.get("predicted_us")
            rows.append(
                (
                    "*" if entry.get("chosen") else " ",
                    str(entry.get("name", "?")),
                    "-" if time is None else f"{time:.1f} us",
                    str(entry.get("reason") or entry.get("bound") or ""),
                )
            )
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for mark, name, time, reason in rows:
            lines.append(f"{mark} {name:<{widths[1]}}  {time:>{widths[2]}}  {reason}".rstrip())
        library = self.get("library_us")
        if library is not None:
            outcome = "" if self.get("pays") else ": they run instead"
            lines.append(f"  PyTorch's own operators: predicted {library:.1f} us{outcome}")
        limit = self.get("limit_us")
        if limit is not None:
            lines.append(f"  physical limit {limit:.1f} us")
        return "\n".join(lines)


class Info(dict):
    """The devices usable here; printing it gives one paragraph for each."""

    def __str__(self) -> str:
        lines = [f"fusedmlp {version()}"]
        for device in self.get("devices", []):
            lines.append(f"{device.get('device', '?')}: {device.get('name', '')}".rstrip(": "))
            lines += [f"  {key}: {value}" for key, value in device.items() if key not in ("device", "name")]
        return "\n".join(lines)


def explain(spec: str, tokens: int, device: str = "cpu") -> Explanation:
    """Which kernel an MLP such as "geglu:768x3072,bf16" gets, its predicted time, and why not the others.

    Raises ValueError for a spec, token count or device that is not understood, RuntimeError for a device that
    is not there.
    """
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        raise TypeError(f"tokens: must be an int, got {type(tokens).__name__}")
    if not 0 <= tokens < 2**63:
        raise ValueError(f"tokens: must be in [0, 2^63), got {tokens}")
    return Explanation(
        _call(CORE.fusedmlp_explain_json, _text(spec, "spec"), tokens, _text(device, "device"))
    )


def info() -> Info:
    """The devices usable here and what is known of them."""
    return Info(_call(CORE.fusedmlp_info_json))


def tune(request: dict[str, Any]) -> dict[str, Any]:
    """fusedmlp_tune_json: measures and writes the tuned table; raises as the other functions here do."""
    return _call(CORE.fusedmlp_tune_json, json.dumps(request).encode())


def parse_spec(spec: str) -> dict[str, Any]:
    """The fields of a spec text; raises ValueError where it does not parse."""
    return _call(CORE.fusedmlp_spec_json, _text(spec, "spec"))
