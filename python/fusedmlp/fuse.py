"""fuse(model): finds every MLP that can run fused and swaps it, in place."""

from __future__ import annotations

from typing import Any, Iterator, Optional

import torch
from torch import nn

from .fuse_check import CheckErrors, check_numerics, check_recognition
from .fuse_classes import FusedPlan, is_fused, restore, swap
from .modules import packed_bytes, predicted_packed_bytes, prepack
from .patterns import (
    NotFusable,
    Path,
    Site,
    check_site,
    is_linear_like,
    linear_layout,
    qualified_name,
    site_linears,
    site_tensors,
    spec_text,
)
from .patterns_layer import holds_one_linear, layer_site
from .patterns_sequential import sequential_sites
from .patterns_trace import trace_site
from .report import FuseReport, Replaced, Skipped

# Methods besides forward in which the MLP of a layer is kept (transformers, torch.nn.Transformer*Layer).
_METHODS = (
    "feed_forward_chunk",
    "feed_forward_chunk_query",
    "layout_feed_forward_chunk",
    "ff_chunk",
    "_ff_block",
)


def fuse(model: nn.Module, *, max_extra_bytes: Optional[int] = None, check: bool = True) -> FuseReport:
    """Swaps every supported MLP of `model` for its fused form, in place.

    Parameters, their names, state_dict, hooks and isinstance stay as they are. Each call decides anew whether
    it runs fused: where gradients are needed, with active dropout between the Linears, an unsupported dtype, new
    hooks on a child that would be passed over and the like, the module's own code runs. So training is what it
    was; evaluate under torch.no_grad() or torch.inference_mode(). The forward of each module is read once,
    now: after changing what it does (not its weights), call fuse() again.

    max_extra_bytes: bound for the sum of all packed copies of weights. MLPs over it run fused without a copy.
    check: compare each MLP with its original and with fp64 on six random tokens before keeping the swap.

    Returns a FuseReport: print it, or call its undo(). A module that can not be fused is left alone, with a
    reason in the report. Raises TypeError if `model` is no nn.Module, `max_extra_bytes` no int or `check` no
    bool, and ValueError if `max_extra_bytes` is negative. Not safe while another thread runs the model.
    """
    _check_arguments(model, max_extra_bytes, check)
    run = _Fuse(model, max_extra_bytes, check)
    run.all()
    return run.report


def unfuse(model: nn.Module) -> int:
    """Undoes every fuse() below `model`, for copies without a report. Returns how many modules changed."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: must be an nn.Module, got {type(model).__name__}")
    fused = [module for module in model.modules() if is_fused(module)]
    for module in fused:
        restore(module)
    return len(fused)


def _check_arguments(model: Any, max_extra_bytes: Any, check: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: must be an nn.Module, got {type(model).__name__}")
    if max_extra_bytes is not None:
        if isinstance(max_extra_bytes, bool) or not isinstance(max_extra_bytes, int):
            raise TypeError(f"max_extra_bytes: must be None or an int, got {type(max_extra_bytes).__name__}")
        if max_extra_bytes < 0:
            raise ValueError(f"max_extra_bytes: must be >= 0, got {max_extra_bytes}")
    if not isinstance(check, bool):
        raise TypeError(f"check: must be a bool, got {type(check).__name__}")


class _Fuse:
    """One run of fuse() over one model."""

    def __init__(self, model: nn.Module, max_extra_bytes: Optional[int], check: bool) -> None:
        self.model, self.check = model, check
        self.report = FuseReport(max_extra_bytes=max_extra_bytes)
        self.swapped: list[nn.Module] = []
        self.done: set[int] = set()  # ids of Linears that are fused, or named in the report with a reason
        self.fused_linears: set[int] = set()
        self.paths: dict[int, list[str]] = {}

    def all(self) -> None:
        for path, module in self.model.named_modules(remove_duplicate=False):
            self.paths.setdefault(id(module), []).append(path)
        modules = list(self.model.named_modules())
        for path, module in modules:
            if is_fused(module):
                self._already(path, module)
        roots = [module for _, module in modules if isinstance(module, torch.jit.ScriptModule)]
        scripted = {id(below) for root in roots for below in root.modules() if below is not root}
        # Children first: the smallest module that holds a whole MLP is the one to swap.
        for path, module in reversed(modules):
            if (
                is_fused(module)
                or isinstance(module, (nn.ModuleList, nn.ModuleDict))
                or id(module) in scripted
            ):
                continue
            if isinstance(module, torch.jit.ScriptModule):
                self._skip(path, module, "it is a TorchScript module, whose forward is compiled", [])
                continue
            try:
                self._module(path, module)
            except Exception as error:  # nothing that a model contains may stop fuse()
                if is_fused(module):
                    restore(module)
                self._skip(path, module, f"it could not be examined ({type(error).__name__}: {error})")
        self.report.replaced.reverse()
        self.report.skipped.reverse()
        linears = [module for _, module in modules if is_linear_like(module)]
        self.report.counts.update(
            modules=len(modules),
            linears=len(linears),
            linears_fused=sum(id(module) in self.fused_linears for module in linears),
        )
        swapped = self.swapped
        self.report._undo = lambda: [restore(module) for module in swapped if is_fused(module)] and None

    # Finding.

    def _module(self, path: str, module: nn.Module) -> None:
        if _stacked_experts(module):
            self._skip(path, module, "stacked expert weights, chosen per token: not an MLP over all tokens")
            return
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            self._sequential(path, module)
            return
        for method in _METHODS:
            if callable(getattr(type(module), method, None)) and len(self._near(module, 3)) >= 2:
                self._one(path, module, method)
                return
        linears = self._near(module, 2)
        direct = [p for p, _ in linears if len(p) == 1]
        if len({_branch(module, p) for p, _ in linears}) < 2 or _is_attention(module):
            return
        if len(linears) <= 3 and len(self._near(module, None)) == len(linears):
            self._one(path, module, "forward")
        elif len(direct) == 2:
            self._layer(path, module, None)
        elif not direct:
            self._pair(path, module)

    def _near(self, module: nn.Module, depth: Optional[int]) -> list[tuple[Path, nn.Module]]:
        """Linears below that are not dealt with yet, down to `depth`."""
        return [(p, m) for p, m in _linears(module, depth) if id(m) not in self.done]

    def _one(self, path: str, module: nn.Module, method: str) -> None:
        """A module whose `method` is the MLP; if that can not be read, perhaps a layer that contains one."""
        linears = self._near(module, 2)
        try:
            _check_owner(module)
            methods = [method] if method == "forward" else [m for m in _METHODS if hasattr(type(module), m)]
            sites = {m: trace_site(module, m) for m in methods}
            for site in sites.values():
                check_site(module, site)
        except NotFusable as reason:
            direct = [p for p, _ in linears if len(p) == 1]
            if method == "forward" and len(direct) == 2:
                self._layer(path, module, str(reason))
            elif method != "forward" or _fits(linears):
                self._skip(path, module, str(reason), linears)
            return
        self._swap(path, module, "traced", FusedPlan(sites))

    def _layer(self, path: str, module: nn.Module, reason: Optional[str]) -> None:
        linears = [(p, m) for p, m in self._near(module, 1)]
        try:
            _check_owner(module)
            site = layer_site(module)
            reason = None
            check_site(module, site)
        except NotFusable as why:
            if _fits(linears):
                self._skip(path, module, reason or str(why), linears)
            return
        self._swap(path, module, site.kind, FusedPlan({"forward": site}))

    def _pair(self, path: str, module: nn.Module) -> None:
        # Most modules come here and are no MLP at all, so a failure to read one is not worth a line.
        if sum(m is not None and holds_one_linear(m) for m in module._modules.values()) < 2:
            return
        try:
            _check_owner(module)
            site = layer_site(module)
        except NotFusable:
            return
        try:
            check_site(module, site)
        except NotFusable as reason:
            self._skip(path, module, str(reason), [((), linear) for linear in site_linears(module, site)])
            return
        self._swap(path, module, site.kind, FusedPlan({"forward": site}))

    def _sequential(self, path: str, module: nn.Sequential) -> None:
        if sum(is_linear_like(m) for m in module._modules.values() if m is not None) < 2:
            return
        try:
            _check_owner(module)
        except NotFusable as reason:
            self._skip(path, module, str(reason))
            return
        found = sequential_sites(module)
        for key, reason in reversed(found.left):
            self._skip(
                f"{path}.{key}" if path else key,
                module._modules[key],
                reason,
                [((key,), module._modules[key])],
            )
        if found.sites:
            self._swap(path, module, "sequential", FusedPlan(found.sites, tuple(module._modules), found.keys))

    # Swapping.

    def _swap(self, path: str, module: nn.Module, kind: str, plan: FusedPlan) -> None:
        sites = list(plan.sites.values())
        linears = [linear for site in sites for linear in site_linears(module, site)]
        name = _class_name(module)
        errors: dict[str, Optional[CheckErrors]] = {}
        sizes = {s.slot: predicted_packed_bytes(s.form, site_tensors(module, s)) for s in sites}
        bound = self.report.max_extra_bytes
        packed = bound is None or self.report.extra_bytes + sum(sizes.values()) <= bound
        try:
            for site in sites:
                if kind != "sequential" and (self.check or site.needs_trial):
                    check_recognition(module, site)
            swap(module, kind, plan)
            if not packed:
                module.__dict__["_fusedmlp_pack"] = False
            for site in sites:
                if self.check:
                    errors[site.slot] = check_numerics(module, site)
                elif packed:
                    prepack(module, site.slot, site.form, site_tensors(module, site))
        except Exception as error:
            if is_fused(module):
                restore(module)
            text = str(error) if isinstance(error, NotFusable) else f"the fused call failed: {error}"
            self._skip(path, module, text, [((), linear) for linear in linears])
            return
        self.swapped.append(module)
        self.done.update(map(id, linears))
        self.fused_linears.update(map(id, linears))
        own = packed_bytes(module) - sum(packed_bytes(m) for m in _fused_below(module))
        for site in reversed(sites):
            self.report.replaced.append(
                Replaced(
                    path=_stretch_path(path, plan, site),
                    cls=name,
                    spec=spec_text(site.form, site_tensors(module, site)),
                    extra_bytes=own if len(sites) == 1 else sizes[site.slot] if packed else 0,
                    packed=packed,
                    error_fused=errors[site.slot].fused if self.check else None,
                    error_original=errors[site.slot].original if self.check else None,
                    note=_note(module, site),
                    also=tuple(self.paths[id(module)][1:]),
                )
            )

    def _skip(self, path: str, module: nn.Module, reason: str, linears: Optional[list] = None) -> None:
        self.report.skipped.append(Skipped(path, _class_name(module), reason))
        self.done.update(
            id(linear) for _, linear in (linears if linears is not None else _linears(module, None))
        )

    def _already(self, path: str, module: nn.Module) -> None:
        linears = [m for site in module._fusedmlp_plan.sites.values() for m in site_linears(module, site)]
        self.report.skipped.insert(0, Skipped(path, _class_name(module), "already fused"))
        self.done.update(map(id, linears))
        self.fused_linears.update(map(id, linears))


def _note(module: nn.Module, site: Site) -> str:
    if isinstance(module, nn.TransformerEncoderLayer):
        return "PyTorch's own fast path, taken in evaluation without gradients, comes before it"
    return "fused in evaluation only: its forward differs in training" if site.eval_only else ""


def _linears(module: nn.Module, depth: Optional[int], prefix: Path = ()) -> Iterator[tuple[Path, nn.Module]]:
    """Linears below with their paths; containers that only hold children add no depth."""
    for name, below in module._modules.items():
        if below is None:
            continue
        if is_linear_like(below):
            yield (*prefix, name), below
        elif isinstance(below, (nn.ModuleList, nn.ModuleDict)):
            yield from _linears(below, depth, (*prefix, name))
        elif depth is None or depth > 1:
            yield from _linears(below, None if depth is None else depth - 1, (*prefix, name))


def _branch(module: nn.Module, path: Path) -> Path:
    """The child of `module` through which `path` goes; a child of a ModuleList counts as the module's own."""
    for i, name in enumerate(path):
        module = module._modules[name]
        if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            return path[: i + 1]
    return path


def _fused_below(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost fused modules below this one."""
    for below in module.children():
        if is_fused(below):
            yield below
        else:
            yield from _fused_below(below)


def _check_owner(module: nn.Module) -> None:
    if "forward" in module.__dict__:
        raise NotFusable("its forward is replaced on the instance")
    if isinstance(module, torch.fx.GraphModule):
        raise NotFusable("it is an fx.GraphModule, whose forward is generated")


def _is_attention(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "attention" in name or name.endswith("attn")


def _stacked_experts(module: nn.Module) -> bool:
    weights = [module._parameters.get(name) for name in ("gate_up_proj", "down_proj")]
    return all(weight is not None and weight.dim() == 3 for weight in weights)


def _fits(linears: list[tuple[Path, nn.Module]]) -> bool:
    """Whether any Linear takes what another gives (or half of it): what makes a module look like an MLP."""
    shapes = [_in_out(linear) for _, linear in linears]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return True
    return any(a[1] in (b[0], 2 * b[0]) for a in known for b in known if a is not b)


def _in_out(linear: nn.Module) -> Optional[tuple[int, int]]:
    if linear_layout(linear) is None:
        return None
    weight = linear.weight
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2:
        return None
    rows, columns = weight.shape
    return (rows, columns) if linear_layout(linear) else (columns, rows)


def _class_name(module: nn.Module) -> str:
    cls = getattr(type(module), "_fusedmlp_original", type(module))
    return cls.__name__ if cls.__module__.startswith(("torch.", "transformers.")) else qualified_name(cls)


def _stretch_path(path: str, plan: FusedPlan, site: Site) -> str:
    if plan.stretches is None:
        return (
            path
            if site.method in ("forward", *_METHODS[:1]) or len(plan.sites) == 1
            else f"{path}.{site.method}"
        )
    keys = plan.stretches[site.up[0]]
    return f"{path}[{keys[0]}..{keys[-1]}]"
