"""The numeric self-check at swap time: is the recognised MLP what the module computes, and is fused as exact?

1. The module's own method and the recognised parts, called one after the other, give the same bits.
2. Against fp64, the norm of the fused error is at most twice the module's own, plus eps(dtype).
3. Each element of both lies within the rounding bound of a layer-by-layer evaluation (`_reference`). This
   is what fails if an activation or a gate order was taken for another.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Iterator, NamedTuple, Optional

import torch
from torch import Tensor, nn

from .fuse_classes import children_core, finish, run_core, view_class
from .patterns import NotFusable, Site, child, has_hooks, site_tensors

_SHAPE = (2, 3)  # six tokens; [batch, sequence, width] is what every method accepts
_HIDDEN_CHUNK = 2048  # rows of the hidden that exist in fp64 at once


class CheckErrors(NamedTuple):
    """Relative errors of one site against fp64, in the 2-norm."""

    fused: float
    original: float


@contextlib.contextmanager
def _quiet(owner: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, no grad, no autocast, and every random generator as it was."""
    flags = [(module, module.training) for module in owner.modules()]
    devices = [device] if device.type == "cuda" else []
    try:
        for module, _ in flags:
            module.training = False
        with torch.random.fork_rng(devices), torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, flag in flags:
            module.training = flag


def _random(width: int, like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*_SHAPE, width, generator=generator).to(like.device, like.dtype)


def check_recognition(owner: nn.Module, site: Site) -> None:
    """Point 1, before the swap. Raises NotFusable where the bits differ."""
    if any(has_hooks(module) for module in owner.modules() if module is not owner):
        if site.needs_trial:
            raise NotFusable("its children have hooks, which a trial run would call")
        return  # a user's hooks are not called with made-up inputs
    tensors = site_tensors(owner, site)
    x = _random(tensors.w_up.shape[1], tensors.w_up, seed=1)
    original = getattr(type(owner), site.method)
    with _quiet(owner, x.device):
        if site.kind in ("layer", "pair"):
            results = _layer_trial(owner, site, original, x)
            if results is None:
                return
            expected, actual = results
        else:
            inputs = _inputs(site, x, tensors.w_down)
            expected = original(owner, *inputs)
            y = inputs[site.x]
            for path in site.pre:
                y = child(owner, path)(y)
            actual = finish(owner, site, children_core(owner, site, y), inputs)
    expected, actual = _first_tensor(expected), _first_tensor(actual)
    if expected.shape != actual.shape or not torch.equal(
        torch.nan_to_num(expected), torch.nan_to_num(actual)
    ):
        raise NotFusable(
            "self-check: its parts, called one after the other, give something else than its forward"
        )


def _layer_trial(owner: nn.Module, site: Site, original: Any, x: Tensor) -> Optional[tuple]:
    """The layer's forward as it is, and on a view with the same parts in the MLP; None if it can not run."""
    arguments = _only_first(original, x)
    try:
        expected = original(owner, *arguments)
    except Exception as error:  # it needs more than a hidden state
        if site.needs_trial:
            raise NotFusable(
                f"its forward was not read to its end, and a trial run fails ({error})"
            ) from None
        return None
    calls = []

    def core(*args: Any) -> Tensor:
        calls.append(1)
        return children_core(*args)

    actual = original(view_class(type(owner))(owner, site, core), *arguments)
    if len(calls) != 1:
        raise NotFusable(f"self-check: its forward runs the MLP {len(calls)} times")
    return expected, actual


def _only_first(original: Any, x: Tensor) -> tuple:
    parameters = list(inspect.signature(original).parameters.values())[1:]
    required = [
        p
        for p in parameters
        if p.default is inspect.Parameter.empty and p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    return (x, *[None] * (len(required) - 1))


def _inputs(site: Site, x: Tensor, w_down: Tensor) -> tuple:
    """x for the input, and a tensor as wide as the output for every other parameter (a residual)."""
    return tuple(x if i == site.x else _random(w_down.shape[0], x, seed=2 + i) for i in range(site.required))


def _first_tensor(value: Any) -> Tensor:
    return value[0] if isinstance(value, (tuple, list)) else value


def check_numerics(owner: nn.Module, site: Site) -> CheckErrors:
    """Points 2 and 3, on the swapped module; packs the weights on the way. Raises NotFusable on a failure."""
    tensors = site_tensors(owner, site)
    x = _random(tensors.w_up.shape[1], tensors.w_up, seed=1)
    with _quiet(owner, x.device):
        original = _without_hooks(owner, site, x)
        fused = run_core(owner, site, x)
        exact, bound = _reference(site, tensors, x)
    if fused.shape != original.shape or fused.dtype != original.dtype:
        got, want = (f"{tuple(t.shape)} {t.dtype}" for t in (fused, original))
        raise NotFusable(f"self-check: fused gives {got}, the module gives {want}")
    finite = torch.isfinite(original)
    if not torch.equal(finite, torch.isfinite(fused)):
        raise NotFusable("self-check: fused and original differ in where they are NaN or infinite")
    finite &= torch.isfinite(exact)
    errors = []
    for name, value in (("fused", fused), ("original", original)):
        difference = torch.where(finite, (value.double() - exact).abs(), 0.0)
        if bool((difference > torch.where(finite, bound, 0.0)).any()):
            raise NotFusable(f"self-check: the {name} result is further from fp64 than rounding can explain")
        norm = torch.where(finite, exact, 0.0).norm()
        errors.append(float(difference.norm() / norm) if norm > 0 else 0.0)
    result = CheckErrors(*errors)
    if result.fused > 2 * result.original + torch.finfo(x.dtype).eps:
        raise NotFusable(f"self-check: error {result.fused:.2e} fused, {result.original:.2e} originally")
    return result


def _without_hooks(owner: nn.Module, site: Site, x: Tensor) -> Tensor:
    # check_site has refused hooks on these children, so calling them calls nothing else.
    return children_core(owner, site, x)


# Each takes z; all but relu2 have slopes of at most 1.13 (gelu's is 1.129).
_SLOPE = 1.13
_FUNCTIONS = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "relu2": lambda z: torch.relu(z).square(),
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda z: nn.functional.gelu(z, approximate="tanh"),
    "quick_gelu": lambda z: z * torch.sigmoid(1.702 * z),
    "silu": lambda z: z * torch.sigmoid(z),
    "sigmoid": torch.sigmoid,
}


def _reference(site: Site, tensors: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The MLP in fp64, and a bound of |y - y64| for any layer-by-layer evaluation in x's dtype.

    A product over K terms errs by (eps + K 2^-24) sum |w||x| (storage rounding, fp32 accumulation); an
    activation passes that on times its slope and adds 8 eps max(|z|, |f(z)|) of its own (eight roundings, as
    many as the composed gelu_tanh has); both carry on through the second product. Twice the whole, for the
    terms in eps^2.
    """
    eps, unit = torch.finfo(x.dtype).eps, 2.0**-24
    x64 = x.double()
    hidden = tensors.w_down.shape[1]
    first = eps + x.shape[-1] * unit
    second = eps + hidden * unit
    exact = torch.zeros(*_SHAPE, tensors.w_down.shape[0], dtype=torch.float64, device=x.device)
    bound = torch.zeros_like(exact)

    def project(weight: Tensor, bias: Any, rows: slice) -> tuple[Tensor, Tensor]:
        w = weight[rows].double()
        b = 0.0 if bias is None else bias[rows].double()
        return x64 @ w.t() + b, first * (x64.abs() @ w.t().abs() + (0.0 if bias is None else b.abs()))

    for start in range(0, hidden, _HIDDEN_CHUNK):
        rows = slice(start, min(start + _HIDDEN_CHUNK, hidden))
        gate, up = _rows(site, tensors, rows, hidden)
        z, dz = project(*gate)
        value = _FUNCTIONS[site.form.activation](z)
        slope = 2 * (z.abs() + dz) if site.form.activation == "relu2" else _SLOPE
        error = slope * dz + 8 * eps * torch.maximum(z.abs(), value.abs())
        if up is not None:
            u, du = project(*up)
            error = error * (u.abs() + du) + value.abs() * du + eps * (value * u).abs()
            value = value * u
        down = tensors.w_down[:, rows].double()
        exact += value @ down.t()
        bound += (error + second * value.abs()) @ down.t().abs()
    if tensors.b_down is not None:
        exact += tensors.b_down.double()
        bound += second * tensors.b_down.double().abs()
    return exact, 2 * (bound + eps * exact.abs())


def _rows(site: Site, tensors: Any, rows: slice, hidden: int) -> tuple[tuple, Any]:
    """((weight, bias, rows) that the activation sees, the same for the other factor or None)."""
    up = (tensors.w_up, tensors.b_up)
    if site.form.gate == "none":
        return (*up, rows), None
    if site.form.gate == "separate":
        return (tensors.w_gate, tensors.b_gate, rows), (*up, rows)
    other = slice(rows.start + hidden, rows.stop + hidden)
    gate, value = (rows, other) if site.form.gate == "first" else (other, rows)
    return (*up, gate), (*up, value)
