"""How a module runs fused: its class is swapped for a generated subclass that overrides one method.

The instance stays the same object, so its children, parameters, state_dict, hooks and isinstance are
untouched. A generated class keeps the name of the class it derives from (device maps and wrapping policies go
by it), shows as "Fused..." when the model is printed, and asks before every call whether fusing is right just
now; if not, the original method runs.
"""

from __future__ import annotations

import copyreg
import functools
from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from . import owned
from .modules import (
    MlpTensors,
    hooks_for_all,
    invalidate,
    passed_over_safely,
    run_fused,
    run_prepared,
    run_unprepared,
    strip_packed,
)
from .ops import trains
from .patterns import FUSED_DTYPES, Site, child, plain_weight, site_tensors

_tracing_state = torch._C._get_tracing_state  # torch.jit.is_tracing without its Python


@dataclass(frozen=True)
class FusedPlan:
    """What fuse() found in one module, kept on the instance as `_fusedmlp_plan`."""

    sites: dict[str, Site]  # by method; of a Sequential: by key of the first child
    keys: tuple[str, ...] = ()  # Sequential: all children, as they were
    stretches: Optional[dict[str, tuple[str, ...]]] = None  # Sequential: children each site stands for


# -- is fusing right just now? -------------------------------------------------------------------------------
# This runs in every call, so it looks at few things and at each once.


def may_pass_over(owner: nn.Module, site: Site) -> bool:
    """Whether the children that a fused call passes over are what they were: no new child, LoRA or hook.

    False too while a dropout between the Linears is active, and under torch.jit.trace, which is to record the
    module's own operators.
    """
    for path, cls in zip(site.guarded, site.guard_types):
        if not passed_over_safely(child(owner, path), cls):
            return False
    for path in site.dropouts:
        dropout = child(owner, path)
        if dropout.training and dropout.p > 0:
            return False
    if site.eval_only and (owner.training or any(child(owner, path).training for path in site.guarded)):
        return False
    if hooks_for_all():
        return False
    return _tracing_state() is None


def fitting_tensors(
    owner: nn.Module, site: Site, x: Any, tensors: Optional[MlpTensors] = None
) -> Optional[MlpTensors]:
    """The weights, if they and x can go to the operator: one supported dtype, plain tensors, the right width.

    A wrong width or device is left to the original method, whose message the caller expects; and so is training,
    whose backward has what the original method saved.
    """
    if not isinstance(x, Tensor) or x.dim() < 1:
        return None
    tensors = tensors or site_tensors(owner, site)
    if trains(tensors, x):
        return None
    w_up = tensors.w_up
    dtype = w_up.dtype
    if dtype not in FUSED_DTYPES or x.shape[-1] != w_up.shape[1] or x.device != w_up.device:
        return None
    compiling = torch.compiler.is_compiling()
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != dtype or not (compiling or _computable(tensor))):
            return None
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        return None
    return tensors


def _computable(tensor: Tensor) -> bool:
    return plain_weight(tensor) or type(tensor).__name__ in ("FakeTensor", "FunctionalTensor")


def run_core(owner: nn.Module, site: Site, x: Tensor) -> Tensor:
    """The MLP alone: x [..., d_in] -> [..., d_out]."""
    return run_fused(owner, site.slot, site.form, site_tensors(owner, site), x)


def run_site(owner: nn.Module, site: Site, x: Any) -> Optional[Tensor]:
    """The MLP alone; None where its weights and x can not go to the operator."""
    tensors = None
    if type(x) is Tensor:
        tensors = site_tensors(owner, site)
        try:  # weights with a copy have been looked at before
            y = run_prepared(owner, site.slot, site.form, tensors, x)
        except (RuntimeError, TypeError, ValueError):  # the caller expects the original method's words
            y = None
        if y is not None:
            return y
    tensors = fitting_tensors(owner, site, x, tensors)
    return None if tensors is None else run_unprepared(owner, site.slot, site.form, tensors, x)


# -- methods of generated classes ----------------------------------------------------------------------------


def finish(owner: nn.Module, site: Site, y: Tensor, inputs: Any) -> Tensor:
    """What the method does after its second Linear: dropout, residual, normalisation."""
    for what, value in site.post:
        y = child(owner, value)(y) if what == "call" else y + inputs[value]
    return y


def _bind(site: Site, args: tuple, kwargs: dict) -> Optional[tuple]:
    """Values of the required parameters in order; None where others are given or something is missing."""
    if not kwargs:
        return args if len(args) == site.required else None
    if len(args) + len(kwargs) != site.required:
        return None
    values = list(args)
    for name in site.parameters[len(args) : site.required]:
        if name not in kwargs:
            return None
        values.append(kwargs[name])
    return tuple(values)


def _traced_method(original: Callable, name: str) -> Callable:
    @functools.wraps(original)
    def method(self, *args, **kwargs):
        plan = self.__dict__.get("_fusedmlp_plan")
        if plan is None:
            return original(self, *args, **kwargs)
        site = plan.sites[name]
        inputs = _bind(site, args, kwargs)
        if inputs is None:
            return original(self, *args, **kwargs)
        x = inputs[site.x]
        if not may_pass_over(self, site):
            return original(self, *args, **kwargs)
        if site.pre and isinstance(x, Tensor) and trains(site_tensors(self, site), x):
            return original(self, *args, **kwargs)
        for path in site.pre:
            x = child(self, path)(x)
        y = run_site(self, site, x)
        if y is None:
            if not site.pre:
                return original(self, *args, **kwargs)
            y = children_core(self, site, x)
        return finish(self, site, y, inputs)

    return method


def children_core(owner: nn.Module, site: Site, x: Tensor) -> Tensor:
    """The MLP by its own children, one after the other, as the original method computes it."""
    up, down = child(owner, site.up), child(owner, site.down)
    if site.form.gate == "separate":
        hidden = _activate(owner, site, child(owner, site.gate)(x)) * up(x)
    elif site.form.gate == "none":
        hidden = _activate(owner, site, up(x))
    else:
        first, second = up(x).chunk(2, dim=-1)
        gate, value = (first, second) if site.form.gate == "first" else (second, first)
        hidden = _activate(owner, site, gate) * value
    for path in site.dropouts:
        hidden = child(owner, path)(hidden)
    return down(hidden)


_FUNCTIONS = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "relu2": lambda x: torch.relu(x).square(),
    "gelu": nn.functional.gelu,
    "gelu_tanh": functools.partial(nn.functional.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
}


def _activate(owner: nn.Module, site: Site, x: Tensor) -> Tensor:
    if site.activation is None:
        return _FUNCTIONS[site.form.activation](x)
    name = site.activation[-1]
    if len(site.activation) == 1 and name not in owner._modules:
        return getattr(owner, name)(x)
    return child(owner, site.activation)(x)


class _LayerView:
    """Stands for a layer while its own forward runs; the parts of its MLP are replaced."""

    def __init__(self, layer: nn.Module, site: Site, core: Callable) -> None:
        # Mangled names: the layer's own attributes must stay visible.
        self.__layer, self.__site, self.__core, self.__fused = layer, site, core, False
        setattr(self, site.up[0], self.__first)
        if site.kind == "layer":
            setattr(self, site.activation[0], self.__between)
            setattr(self, site.down[0], self.__second)
        else:
            setattr(self, site.down[0], self.__second_half)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__layer, name)

    def __first(self, x: Tensor) -> Tensor:
        self.__fused = fitting_tensors(self.__layer, self.__site, x) is not None
        return x if self.__fused else self.__layer._modules[self.__site.up[0]](x)

    def __between(self, x: Tensor) -> Tensor:
        return x if self.__fused else _activate(self.__layer, self.__site, x)

    def __second(self, x: Tensor) -> Tensor:
        if self.__fused:
            return self.__core(self.__layer, self.__site, x)
        return self.__layer._modules[self.__site.down[0]](x)

    def __second_half(self, *args: Any, **kwargs: Any) -> Tensor:
        layer, site = self.__layer, self.__site
        if not self.__fused:
            return layer._modules[site.down[0]](*args, **kwargs)
        inputs = _bind(site, args, kwargs)
        if inputs is None:  # called in a way that was not read: the two halves as they are
            hidden = layer._modules[site.up[0]](args[0])
            return layer._modules[site.down[0]](hidden, *args[1:], **kwargs)
        return finish(layer, site, self.__core(layer, site, inputs[0]), inputs)


def view_class(layer_class: type) -> type:
    """Views carry the forward of the class they stand for, which wrappers look up as type(self).forward."""
    return type(f"_ViewOf{layer_class.__name__}", (_LayerView,), {"forward": layer_class.forward})


def _layer_method(original: Callable) -> Callable:
    @functools.wraps(original)
    def forward(self, *args, **kwargs):
        plan = self.__dict__.get("_fusedmlp_plan")
        site = plan and plan.sites["forward"]
        if site is None or not may_pass_over(self, site):
            return original(self, *args, **kwargs)
        return original(self._fusedmlp_view(self, site, run_core), *args, **kwargs)

    return forward


def _sequential_method(original: Callable) -> Callable:
    @functools.wraps(original)
    def forward(self, input):
        plan = self.__dict__.get("_fusedmlp_plan")
        if plan is None or tuple(self._modules) != plan.keys:
            return original(self, input)
        skip = 0
        for key in plan.keys:
            if skip:
                skip -= 1
                continue
            site = plan.sites.get(key)
            fused = site is not None and may_pass_over(self, site)
            y = run_site(self, site, input) if fused else None
            if y is None:
                input = self._modules[key](input)
            else:
                input = y
                skip = len(plan.stretches[key]) - 1
        return input

    return forward


# -- the classes ---------------------------------------------------------------------------------------------


class FusedMixin:
    """What every generated class adds, apart from the overridden methods."""

    _fusedmlp_original: type

    def __new__(cls, *args, **kwargs):
        """type(module)(...) makes a plain module: a slice of a fused Sequential is not fused."""
        return cls._fusedmlp_original(*args, **kwargs)

    def _get_name(self) -> str:
        return f"Fused{self._fusedmlp_original.__name__}"

    def _apply(self, fn, *args, **kwargs):
        result = super()._apply(fn, *args, **kwargs)
        invalidate(self)
        return result

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        invalidate(self)

    def __setstate__(self, state):
        super().__setstate__(state)
        if is_fused(self):
            _name_sites(self)

    def __reduce_ex__(self, protocol):
        """Generated classes have no importable name: copies and files are rebuilt from the original class."""
        function, args, *rest = super().__reduce_ex__(protocol)
        generated = "_fusedmlp_original" in type(self).__dict__
        if generated and function is copyreg.__newobj__ and args and args[0] is type(self):
            methods = tuple(self._fusedmlp_plan.sites)
            function, args = _rebuild, (self._fusedmlp_original, self._fusedmlp_kind, methods, *args[1:])
        if rest and isinstance(rest[0], dict):
            rest[0] = strip_packed(rest[0])
        return (function, args, *rest)


def _rebuild(original: type, kind: str, methods: tuple[str, ...], *args: Any) -> nn.Module:
    instance = original.__new__(original, *args)
    instance.__class__ = fused_class(original, kind, methods)
    return instance


_classes: dict[tuple, type] = {}


def fused_class(original: type, kind: str, methods: tuple[str, ...]) -> type:
    """The subclass of `original` whose `methods` run fused; one for each combination."""
    if kind != "traced":
        methods = ("forward",)
    key = (original, kind, methods)
    if key not in _classes:
        make = {"layer": _layer_method, "pair": _layer_method, "sequential": _sequential_method}
        body: dict[str, Any] = {
            name: (
                _traced_method(getattr(original, name), name)
                if kind == "traced"
                else make[kind](original.forward)
            )
            for name in methods
        }
        body.update(_fusedmlp_original=original, _fusedmlp_kind=kind, __doc__=original.__doc__)
        body.update(__module__=__name__, __qualname__=f"Fused{original.__name__}")
        cls = type(original.__name__, (FusedMixin, original), body)
        if kind in ("layer", "pair"):
            cls._fusedmlp_view = view_class(cls)
        _classes[key] = cls
    return _classes[key]


def is_fused(module: nn.Module) -> bool:
    return isinstance(module, FusedMixin) and "_fusedmlp_plan" in module.__dict__


def swap(module: nn.Module, kind: str, plan: FusedPlan) -> None:
    """Makes `module` run fused. Raises TypeError where Python can not change the class of this instance."""
    module.__class__ = fused_class(type(module), kind, tuple(plan.sites))
    module.__dict__["_fusedmlp_plan"] = plan
    _name_sites(module)


def _name_sites(module: nn.Module) -> None:
    for site in module._fusedmlp_plan.sites.values():
        owned.name_owner(module, site.slot, site.form)


def restore(module: nn.Module) -> None:
    """Undoes swap(), leaving the module as it was.

    Where somebody derived a class from the generated one since (FSDP does), that class stays; it runs as
    before.
    """
    invalidate(module)
    if "_fusedmlp_original" in type(module).__dict__:
        module.__class__ = module._fusedmlp_original
    for name in [name for name in module.__dict__ if name.startswith("_fusedmlp")]:
        del module.__dict__[name]
