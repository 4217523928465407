"""fusedmlp::mlp_owned, what a compiled graph calls: the operator with the packed copy that a module keeps.

A graph can not make packed copies, nor hold one: it outlives them. So it names the module that keeps the copy, and
the operator finds, makes or renews it when it runs, as an eager call does. The name is a tensor with a number in
it, an input of the graph like the weights: layers that are alike share one graph.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from . import formulas, ops

_NAME = "_fusedmlp_name_"  # + slot; in the owner's __dict__, where no buffer lives

_library = torch.library.Library("fusedmlp", "FRAGMENT")
_library.define(
    "mlp_owned(Tensor x, Tensor owner, Tensor? w_gate, Tensor w_up, Tensor w_down, Tensor? b_gate, "
    "Tensor? b_up, Tensor? b_down, int activation, int gate_order, float alpha, float limit) -> Tensor"
)
_mlp = torch.ops.fusedmlp.mlp.default
_mlp_owned = torch.ops.fusedmlp.mlp_owned.default

_numbers = itertools.count(1)
_owners: dict[int, tuple[weakref.ref, str, Any]] = {}  # number -> owner, slot, form


def name_owner(owner: nn.Module, slot: str, form: Any) -> None:
    """Gives the MLP `slot` of `owner` a name, if it has none. Such an owner must forget it when it is copied."""
    if _NAME + slot in owner.__dict__ or torch._C._len_torch_dispatch_stack() > 0:
        return
    number = next(_numbers)
    with torch.inference_mode(False):
        owner.__dict__[_NAME + slot] = torch.tensor(number, device="cpu")
    _owners[number] = (weakref.ref(owner, lambda _: _owners.pop(number, None)), slot, form)


def is_name(attribute: str) -> bool:
    return attribute.startswith(_NAME)


def run_traced(owner: nn.Module, slot: str, form: Any, tensors: tuple, x: Tensor) -> Tensor:
    """What torch.compile is to record. An exported program lives in another process, where no owner is."""
    if ops.trains(tensors, x):
        return formulas.forward(x, *tensors, *form.arguments)
    name: Optional[Tensor] = getattr(owner, _NAME + slot, None)
    if (
        name is None
        or not getattr(owner, "_fusedmlp_pack", True)
        or x.device.type != "cpu"
        or torch.compiler.is_exporting()
        or ops.transformed()
    ):
        return _mlp(x, *tensors, *form.arguments)
    return _mlp_owned(x, name, *tensors, *form.arguments)


def implement(run: Callable[..., Tensor]) -> None:
    """Registers the operator; `run` is modules.run_fused."""

    def mlp_owned(x: Tensor, name: Tensor, *operands: Any) -> Tensor:
        reference, slot, form = _owners.get(int(name), (None, None, None))
        owner = None if reference is None else reference()
        if owner is None or form.arguments != operands[6:]:
            return _mlp(x, *operands)
        return run(owner, slot, form, operands[:6], x)

    def fake(x: Tensor, name: Tensor, *operands: Any) -> Tensor:
        return ops._fake_mlp(x, *operands)

    _library.impl("mlp_owned", mlp_owned, "CompositeExplicitAutograd")
    _library.impl("mlp_owned", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake("fusedmlp::mlp_owned", fake)
    for device_type, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        rule = ops.autocast_rule(_mlp_owned, device_type, key)
        _library.impl("mlp_owned", rule, key)
        _mlp_owned.py_impl(getattr(torch._C.DispatchKey, key))(rule)
