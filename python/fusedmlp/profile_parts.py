"""The MLPs of a model, taken out so that they can be timed alone.

fuse() says where they are. A hook on the first Linear of each records the input it gets inside the model; then
each variant runs just the MLPs, one after another, on those inputs: without attention, normalisation, residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

from torch import Tensor, nn

from .fuse_classes import FusedPlan, children_core, run_core
from .patterns import Site, child, site_tensors, spec_text


class Part(nn.Module):
    """One MLP of `owner` by itself: x [..., d_in] -> [..., d_out], by its own children or fused."""

    def __init__(self, owner: nn.Module, site: Site, fused: bool) -> None:
        super().__init__()
        self.owner = owner
        self.site = site
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        return run_core(self.owner, self.site, x) if self.fused else children_core(self.owner, self.site, x)


class Parts(nn.Module):
    """Every MLP of a model, run in the model's order on the inputs it gets there."""

    def __init__(self, parts: list[nn.Module], calls: list[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.calls = calls  # which part each call runs; one module may be called several times

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [self.parts[part](x) for part, x in zip(self.calls, inputs)]


@dataclass
class Found:
    """The MLPs of a model and what they are given."""

    specs: list[str]  # of each call, canonical text with dtype
    inputs: list[Tensor]  # of each call
    eager: nn.Module  # inputs -> list of outputs, layer by layer
    fused: nn.Module  # the same, fused
    whole: bool  # the model is this one MLP and nothing else: timing it alone would time the same twice

    @property
    def tokens(self) -> list[int]:
        return [x.numel() // max(1, x.shape[-1]) for x in self.inputs]


def find_parts(eager: nn.Module, fused: nn.Module, run: Callable[[], Any]) -> Optional[Found]:
    """The MLPs that are fused in `fused`, a fused deepcopy of `eager`; None where there are none, or none runs.

    `run` calls `eager` on its input once.
    """
    owners = {path: module for path, module in eager.named_modules()}
    sites: list[tuple[str, nn.Module, nn.Module, Site]] = []
    for path, module in fused.named_modules():
        plan = module.__dict__.get("_fusedmlp_plan")
        if isinstance(plan, FusedPlan):
            sites += [(path, owners[path], module, site) for site in plan.sites.values()]
    calls: list[tuple[int, Tensor]] = []
    hooks = [
        child(owner, site.up).register_forward_pre_hook(_recorder(index, calls))
        for index, (_, owner, _, site) in enumerate(sites)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        return None
    order = [index for index, _ in calls]
    path, _, _, site = sites[order[0]]
    return Found(
        specs=[
            spec_text(sites[index][3].form, site_tensors(sites[index][1], sites[index][3])) for index in order
        ],
        inputs=[x for _, x in calls],
        eager=Parts([Part(owner, site, fused=False) for _, owner, _, site in sites], order).eval(),
        fused=Parts([Part(module, site, fused=True) for _, _, module, site in sites], order).eval(),
        whole=len(calls) == 1 and path == "" and site.kind == "traced" and not site.pre and not site.post,
    )


def _recorder(index: int, calls: list[tuple[int, Tensor]]) -> Callable:
    def hook(module: nn.Module, args: tuple) -> None:
        calls.append((index, args[0].detach().clone()))  # a copy: the model may write over its own later

    return hook


def bare_parts(spec: str, model: nn.Module, fused: nn.Module, x: Tensor) -> Found:
    """A model that is one MLP of this spec."""
    return Found([spec], [x], Parts([model], [0]).eval(), Parts([fused], [0]).eval(), whole=True)
