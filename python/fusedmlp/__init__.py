"""fusedmlp: whole transformer MLPs in one kernel. Find it, fuse it, prove it.

import fusedmlp
report = fusedmlp.fuse(model)        # in place; print(report); report.undo()
fusedmlp.profile(model, inputs)      # eager, compiled, fused: one table, three traces
layer = fusedmlp.FusedMLP(768, 3072, activation="gelu", gated=True)
"""

from __future__ import annotations

from .capi import explain, info, version
from .modules import FusedMLP, invalidate
from .ops import mlp

# Bound here and now, so that these names are the functions and not the modules of the same name.
from .fuse import fuse
from .profile import profile
from .tune import tune

__version__ = version()

__all__ = ["FusedMLP", "mlp", "fuse", "profile", "tune", "explain", "info", "invalidate", "__version__"]
