"""Loads the two shared libraries of the package, once."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

LIBRARY_DIR = Path(__file__).resolve().parent / "lib"
OLDEST_TORCH = (2, 11)


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _load() -> ctypes.CDLL:
    if _torch_version() < OLDEST_TORCH:
        raise ImportError(
            f"fusedmlp needs torch >= {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]}, found {torch.__version__}"
        )
    core, operators = LIBRARY_DIR / "libfusedmlp.so.0", LIBRARY_DIR / "libfusedmlp_torch.so"
    for library in (core, operators):
        if not library.exists():
            raise ImportError(
                f"fusedmlp is not built: {library.name} is missing from the package's lib folder; "
                "install the package with pip, which builds it"
            )
    # The core first: the operators find it by its name in the process, whatever their search path is.
    handle = ctypes.CDLL(str(core))
    torch.ops.load_library(str(operators))
    return handle


CORE = _load()
