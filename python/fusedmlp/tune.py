"""fusedmlp.tune: measures kernels for the shapes of a model and remembers the fastest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional, Union

import torch
from torch import nn

from . import capi, ops
from .fuse_classes import FusedPlan
from .modules import FusedMLP, MlpTensors
from .patterns import site_tensors, spec_text


class Tuned(dict):
    """What was measured, as the dict of the C ABI; printing it gives one line for each shape."""

    def __str__(self) -> str:
        lines = [f"{self['device_name']} ({self['isa']}), {self['threads']} threads"]
        for result in self["results"]:
            us = result["us"][result["fastest"]]
            lines.append(f"  {result['spec']}, {result['tokens']} tokens: {result['fastest']} {us:.1f} us")
        lines.append("nothing written" if self["written"] is None else f"written to {self['written']}")
        return "\n".join(lines)


def _specs_of(model: nn.Module) -> list[str]:
    """The spec of every fused MLP in a model, each once."""
    specs: dict[str, None] = {}
    for module in model.modules():
        plan = module.__dict__.get("_fusedmlp_plan")
        if isinstance(plan, FusedPlan):
            found = [(site.form, site_tensors(module, site)) for site in plan.sites.values()]
        elif isinstance(module, FusedMLP):
            gate = module.gate_proj if module.form.gate != "none" else None
            up, down = module.up_proj, module.down_proj
            biases = (gate.bias if gate is not None else None, up.bias, down.bias)
            weights = (gate.weight if gate is not None else None, up.weight, down.weight)
            found = [(module.form, MlpTensors(*weights, *biases))]
        else:
            continue
        for form, tensors in found:
            if tensors.w_up.device.type == "cpu" and tensors.w_up.dtype in ops.DTYPES:
                specs[spec_text(form, tensors)] = None
    return list(specs)


def tune(
    what: Union[str, Iterable[str], nn.Module],
    tokens: Optional[Iterable[int]] = None,
    *,
    threads: Optional[int] = None,
    packed: bool = True,
    dry_run: bool = False,
    min_time: float = 0.1,
) -> Tuned:
    """Measures every CPU kernel for MLPs and writes the tuned table, which dispatch prefers to predictions.

    `what` is a spec such as "geglu:768x3072,bf16", several of them, or a model that holds FusedMLPs or MLPs
    that `fuse` swapped. `tokens` are rows a call (default: the powers of two up to 1024); each stands for the
    counts above the power of two below it up to the next. `threads` is torch's number unless given: a
    measurement is used with the same number only. `packed=False` is for calls without a packed copy of the
    weights, as in training. The table is where FUSEDMLP_TUNED says, or in the user's cache directory; with
    `dry_run` nothing is written.

    Raises TypeError or ValueError for wrong arguments, RuntimeError where the table cannot be written.
    """
    if isinstance(what, nn.Module):
        specs = _specs_of(what)
        if not specs:
            raise ValueError(
                f"what: this {type(what).__name__} holds no fused MLP on the CPU; call fusedmlp.fuse(model) first"
            )
    else:
        specs = [what] if isinstance(what, str) else list(what)
        for spec in specs:
            if not isinstance(spec, str):
                raise TypeError(f"what: must be a spec, specs or a module, got {type(spec).__name__}")
    request: dict[str, Any] = {
        "specs": specs,
        "threads": torch.get_num_threads() if threads is None else threads,
        "packed": packed,
        "dry_run": dry_run,
        "min_time": min_time,
    }
    if tokens is not None:
        request["tokens"] = list(tokens)
    return Tuned(capi.tune(request))
