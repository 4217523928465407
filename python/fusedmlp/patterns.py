"""What an MLP inside an nn.Module looks like: its parts by path, and which parts can be fused.

Nothing here imports transformers: classes of other packages are known by their qualified name. The finders
are patterns_trace (a method read by symbolic tracing), patterns_layer (an MLP inside a larger forward) and
patterns_sequential (stretches of nn.Sequential).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modules import MlpForm, MlpTensors

Path = tuple[str, ...]  # names of children, from the owner down

FUSED_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class NotFusable(Exception):
    """Why a module is left alone, in words for the report."""


@dataclass(frozen=True)
class Site:
    """One MLP of one module (the owner): where its parts are and what surrounds them.

    kind "traced": `method` of the owner computes post(mlp(pre(x))).
    kind "layer": a larger forward calls Linear, activation, Linear.
    kind "pair": a larger forward calls two children that are the MLP; the second one's includes post.
    kind "sequential": a stretch of an nn.Sequential.
    """

    kind: str
    method: str
    slot: str  # name of the packed copy on the owner
    form: MlpForm
    up: Path
    down: Path
    gate: Optional[Path] = None  # only with form.gate == "separate"
    activation: Optional[Path] = None  # None: a plain function inside the method
    guarded: tuple[Path, ...] = ()  # children that are passed over: no hooks there, and these exact types
    guard_types: tuple[type, ...] = ()
    dropouts: tuple[Path, ...] = ()  # between the Linears: fused only while they are inactive
    eval_only: bool = False  # a functional dropout, or a forward that differs in training
    parameters: tuple[
        str, ...
    ] = ()  # of the method ("pair": of the second child); the first `required` have no default
    required: int = 1
    x: int = 0  # which parameter is the input
    pre: tuple[Path, ...] = ()  # children called on x before the first Linear
    post: tuple[tuple[str, Any], ...] = ()  # ("call", path) or ("add", parameter index), after the second
    needs_trial: bool = False  # kinds "layer" and "pair": not read to its end, so a trial run has to agree


def child(owner: nn.Module, path: Path) -> nn.Module:
    for name in path:
        owner = owner._modules[name]
    return owner


def dotted(path: Path) -> str:
    return ".".join(path)


def qualified_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# -- activations ---------------------------------------------------------------------------------------------


def _gelu(module: nn.Module) -> Optional[str]:
    return {"none": "gelu", "tanh": "gelu_tanh"}.get(module.approximate)


_ACTIVATION_CLASSES = {
    "torch.nn.modules.activation.GELU": _gelu,
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
    "transformers.activations.GELUActivation": "gelu",
    "transformers.activations.GELUTanh": "gelu_tanh",
    "transformers.activations.NewGELUActivation": "gelu_tanh",
    "transformers.activations.FastGELUActivation": "gelu_tanh",
    "transformers.activations.AccurateGELUActivation": "gelu_tanh",
    "transformers.activations.QuickGELUActivation": "quick_gelu",
    "transformers.activations.SiLUActivation": "silu",
    "transformers.activations.LinearActivation": "identity",
    "transformers.activations.ReLUSquaredActivation": "relu2",
    "transformers.models.bloom.modeling_bloom.BloomGelu": "gelu_tanh",
}

_ACTIVATION_FUNCTIONS = {
    F.relu: "relu",
    torch.relu: "relu",
    F.silu: "silu",
    F.sigmoid: "sigmoid",
    torch.sigmoid: "sigmoid",
}


def module_activation(module: nn.Module) -> Optional[str]:
    """The name of this activation, or None. The exact class counts: a subclass may compute something else."""
    if "forward" in module.__dict__:
        return None
    known = _ACTIVATION_CLASSES.get(qualified_name(type(module)))
    return known(module) if callable(known) else known


def function_activation(function: Any, keywords: Optional[dict] = None) -> Optional[str]:
    """The same for a function, with the keyword arguments it is called with."""
    keywords = dict(keywords or {})
    if isinstance(function, functools.partial):
        if function.args:
            return None
        return function_activation(function.func, {**function.keywords, **keywords})
    if function is F.gelu:
        approximate = keywords.pop("approximate", "none")
        return None if keywords else {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate)
    keywords.pop("inplace", None)
    try:
        return None if keywords else _ACTIVATION_FUNCTIONS.get(function)
    except TypeError:  # not hashable
        return None


def is_dropout(module: nn.Module) -> bool:
    return type(module) is nn.Dropout


def is_identity(module: nn.Module) -> bool:
    """Does nothing in any mode: timm's norm between the Linears, where none is wanted."""
    return type(module) is nn.Identity and "forward" not in module.__dict__


# -- linears -------------------------------------------------------------------------------------------------

# Weight layouts by exact class: True where the weight is [in, out].
_LINEAR_CLASSES = {
    "torch.nn.modules.linear.Linear": False,
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": False,
    "transformers.models.falcon.modeling_falcon.FalconLinear": False,
    "transformers.pytorch_utils.Conv1D": True,
}
_transposed: dict[type, bool] = {}  # filled by linear_layout, so that calls look up a type and not a name


def linear_layout(module: nn.Module) -> Optional[bool]:
    """False: weight [out, in]; True: weight [in, out]; None: not a Linear that is known here."""
    cls = type(module)
    if cls not in _transposed:
        layout = _LINEAR_CLASSES.get(qualified_name(cls))
        if layout is None:
            return None
        _transposed[cls] = layout
    return _transposed[cls]


def is_linear_like(module: nn.Module) -> bool:
    """Linear, Conv1D, or something that stands for one (quantised, LoRA, parametrized ...)."""
    if isinstance(module, nn.Linear):
        return True
    name = type(module).__name__
    return name == "Conv1D" or ("Linear" in name and getattr(module, "weight", None) is not None)


def _weight_and_bias(module: nn.Module) -> tuple[Tensor, Optional[Tensor]]:
    """The weight as a logical [out, in] view, and the bias, past the slow nn.Module.__getattr__ where they are
    ordinary parameters."""
    own = module._parameters
    weight = own["weight"] if "weight" in own else module.weight
    bias = own["bias"] if "bias" in own else module.bias
    return weight.t() if linear_layout(module) else weight, bias


def site_tensors(owner: nn.Module, site: Site) -> MlpTensors:
    """The weights as logical [out, in] views, and the biases, as they are now."""
    w_gate = b_gate = None
    if site.gate is not None:
        w_gate, b_gate = _weight_and_bias(child(owner, site.gate))
    w_up, b_up = _weight_and_bias(child(owner, site.up))
    w_down, b_down = _weight_and_bias(child(owner, site.down))
    return MlpTensors(w_gate, w_up, w_down, b_gate, b_up, b_down)


def site_linears(owner: nn.Module, site: Site) -> list[nn.Module]:
    paths = [site.up, site.down] if site.gate is None else [site.gate, site.up, site.down]
    return [child(owner, path) for path in paths]


# -- what stands in the way ----------------------------------------------------------------------------------


def has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def plain_weight(weight: Any) -> bool:
    """A Parameter or Tensor itself; a subclass may mean anything (DTensor, a quantised tensor)."""
    return type(weight) is nn.Parameter or type(weight) is Tensor


def check_site(owner: nn.Module, site: Site) -> None:
    """Raises NotFusable where the parts of a recognised MLP can not be fused as they are."""
    linears = [site.up, site.down] if site.gate is None else [site.gate, site.up, site.down]
    for path in linears:
        module = child(owner, path)
        if linear_layout(module) is None:
            raise NotFusable(f"{dotted(path)} is {qualified_name(type(module))}, not a plain Linear")
    for path in site.guarded:
        module = child(owner, path)
        if has_hooks(module):
            raise NotFusable(f"{dotted(path)} has hooks, which would not fire")
        if "forward" in module.__dict__:
            raise NotFusable(f"the forward of {dotted(path)} is replaced on the instance")
    for path in linears:
        module = child(owner, path)
        for name in ("weight", "bias"):
            _check_parameter(f"{dotted(path)}.{name}", getattr(module, name))
    _check_together(owner, site, linears)
    _check_shapes(site_tensors(owner, site), site.form)


def _check_parameter(name: str, value: Any) -> None:
    if value is None and name.endswith("bias"):
        return
    if not isinstance(value, Tensor):
        raise NotFusable(f"{name} is {type(value).__name__}, not a tensor")
    if isinstance(value, nn.parameter.UninitializedTensorMixin):
        raise NotFusable(f"{name} is not initialised yet")
    if value.is_meta:
        raise NotFusable(f"{name} is on the meta device: there is nothing to compute with")
    if value.is_quantized or value.layout is not torch.strided:
        raise NotFusable(f"{name} is quantised or sparse")
    if not plain_weight(value):
        raise NotFusable(f"{name} is a tensor subclass, {type(value).__name__}")
    if value.dtype not in FUSED_DTYPES:
        dtype = str(value.dtype).removeprefix("torch.")
        raise NotFusable(f"{name} is {dtype}: kernels take float32, bfloat16 and float16")


def _check_together(owner: nn.Module, site: Site, linears: list[Path]) -> None:
    named = [
        (f"{dotted(path)}.{name}", value)
        for path in linears
        for name in ("weight", "bias")
        if (value := getattr(child(owner, path), name)) is not None
    ]
    first, reference = named[0]
    for name, value in named[1:]:
        for what in ("dtype", "device"):
            ours, theirs = getattr(reference, what), getattr(value, what)
            if ours != theirs:
                text = f"{first} {ours}, {name} {theirs}".replace("torch.", "")
                raise NotFusable(f"weights of mixed {what}: {text}")


def _check_shapes(tensors: MlpTensors, form: MlpForm) -> None:
    for name in ("w_gate", "w_up", "w_down"):
        weight = getattr(tensors, name)
        if weight is not None and weight.dim() != 2:
            raise NotFusable(f"{name} has {weight.dim()} dimensions, 2 are needed")
    rows = tensors.w_up.shape[0]
    packed = form.gate in ("first", "last", "interleaved")
    hidden = tensors.w_down.shape[1]
    if rows != (2 * hidden if packed else hidden):
        raise NotFusable(f"shapes do not fit: the first Linear gives {rows}, the second takes {hidden}")
    if tensors.w_gate is not None and tensors.w_gate.shape != tensors.w_up.shape:
        raise NotFusable(
            f"gate {tuple(tensors.w_gate.shape)} and up {tuple(tensors.w_up.shape)} differ in shape"
        )
    if 0 in tensors.w_up.shape or 0 in tensors.w_down.shape:
        raise NotFusable("a width is 0")


# -- names for the report ------------------------------------------------------------------------------------

_GATED_NAMES = {
    "identity": "bilinear",
    "relu": "reglu",
    "relu2": "relu2glu",
    "gelu": "geglu",
    "gelu_tanh": "geglu_tanh",
    "quick_gelu": "quick_geglu",
    "silu": "swiglu",
    "sigmoid": "glu",
    "swiglu_oai": "swiglu_oai",
}


def spec_text(form: MlpForm, tensors: MlpTensors) -> str:
    """The text form of MlpSpec, with the dtype always written: "geglu:768x3072,bf16"."""
    gated = form.gate != "none"
    d_hidden, d_in, d_out = tensors.w_down.shape[1], tensors.w_up.shape[1], tensors.w_down.shape[0]
    text = f"{_GATED_NAMES[form.activation] if gated else form.activation}:{d_in}x{d_hidden}"
    if d_out != d_in:
        text += f"->{d_out}"
    up = tensors.b_up is not None
    gate = up if form.gate in ("first", "last", "interleaved") else tensors.b_gate is not None
    down = tensors.b_down is not None
    if up and down and (gate or not gated):
        text += "+bias"
    else:
        text += "+bias_gate" * (gate and gated) + "+bias_up" * up + "+bias_down" * down
    text += f",{FUSED_DTYPES[tensors.w_up.dtype]}"
    if form.gate in ("last", "interleaved"):
        text += f",gate={form.gate}"
    return text
