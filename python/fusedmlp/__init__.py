"""fusedmlp: whole transformer MLPs in one kernel. Find it, fuse it, prove it.

import fusedmlp
report = fusedmlp.fuse(model)        # in place; print(report); report.undo()
fusedmlp.profile(model, inputs)      # eager, compiled, fused: one table, three traces, one page
fusedmlp.analyze("trace.json.gz")    # which MLPs a trace holds, what they waste, what fusing would save
layer = fusedmlp.FusedMLP(768, 3072, activation="gelu", gated=True)
"""

from __future__ import annotations

from .capi import explain, info, version
from .modules import FusedMLP, invalidate
from .ops import mlp

# Bound here and now, so that these names are the functions and not the modules of the same name.
from .fuse import fuse
from .profile import profile
from .analyze import Analysis, Comparison, analyze, compare, explain_kernel
from .tune import tune

__version__ = version()

__all__ = [
    "Analysis", "Comparison", "FusedMLP", "analyze", "compare", "explain", "explain_kernel", "fuse", "info",
    "invalidate", "mlp", "profile", "tune", "__version__",
]  # fmt: skip
