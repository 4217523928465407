"""Running an MLP whose weights belong to an nn.Module, and FusedMLP, a module of its own.

A packed copy of the weights is kept by the module that owns them, no buffer of it, and made at the first call
without gradients. At every use the operator compares addresses, shapes, strides, dtypes and version
counters of the weights with those the copy was made from; where they differ it computes from the weights
themselves and marks the copy, and the next call makes a new one. PyTorch does not count writes through
`.data`, nor writes to inference tensors: after those, and only those, call `invalidate(module)`. (Optimizers
that write through `.data` are caught by a hook on their step.)
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as nn_module
from torch.optim.optimizer import register_optimizer_step_post_hook

from . import formulas, ops, owned
from .formulas import ACTIVATIONS, GATES

_STALE_OFFSET = 56  # of PackedHeader::stale, csrc/packed_tensor.h
_STORE = "_fusedmlp_packs"  # in the owner's __dict__: slot -> _Pack

# What the eager path calls: an operator without the Python wrapper around it.
_mlp_eager = torch.ops.fusedmlp.mlp.default._op
_mlp_packed_eager = torch.ops.fusedmlp.mlp_packed.default._op
_mlp_prepared_eager = torch.ops.fusedmlp._mlp_prepared.default._op
_prepare = torch.ops.fusedmlp._prepare.default
_release = torch.ops.fusedmlp._release.default
_compiling = torch.compiler.is_compiling
_grad_enabled = torch.is_grad_enabled
_needs_grad = ops.needs_grad
_functorch_active = torch._C._are_functorch_transforms_active
_autocast_active = torch._C._is_any_autocast_enabled
_dispatch_modes = torch._C._len_torch_dispatch_stack
_profiling = torch._C._autograd._profiler_enabled
_tracing_state = torch._C._get_tracing_state


@dataclass(frozen=True)
class MlpForm:
    """What is computed, apart from shapes and dtypes. Raises ValueError for a form that does not exist."""

    activation: str  # a key of formulas.ACTIVATIONS
    gate: str  # "none", "separate", "first", "last" or "interleaved"
    alpha: float = 1.702  # swiglu_oai only
    limit: float = 7.0  # swiglu_oai only

    def __post_init__(self) -> None:
        ops.check_form(self.activation, self.gate, self.alpha, self.limit)
        # The operators' trailing arguments, made once.
        arguments = (ACTIVATIONS[self.activation], GATES[self.gate], float(self.alpha), float(self.limit))
        object.__setattr__(self, "arguments", arguments)


class MlpTensors(NamedTuple):
    """Weights as logical [out, in] tensors (Conv1D weights as `weight.t()`); absent ones are None.

    With MlpForm.gate "first", "last" or "interleaved", w_up is gate_up [2 * d_hidden, d_in], b_up its bias.
    """

    w_gate: Optional[Tensor]
    w_up: Tensor
    w_down: Tensor
    b_gate: Optional[Tensor]
    b_up: Optional[Tensor]
    b_down: Optional[Tensor]


class _Pack:
    """A packed copy and what it was made from.

    `handle` names the two in the C++ library for calls without the weights, 0 where there are no such calls:
    they need these very `tensors`, of these `versions`.
    """

    __slots__ = ("packed", "form", "key", "stale", "aliases", "storages", "tensors", "versions", "handle")

    def __init__(self, packed: Tensor, form: MlpForm, key: tuple, tensors: MlpTensors) -> None:
        self.packed = packed
        self.form = form
        self.key = key
        # The header's mark, where the operator writes it.
        self.stale = ctypes.c_uint64.from_address(packed.data_ptr() + _STALE_OFFSET)
        # Detached aliases keep the memory of the weights alive as long as the copy: no other tensor can come
        # to lie at an address of `key`.
        self.aliases = tuple(t.detach() for t in tensors if t is not None)
        self.storages = {t.untyped_storage().data_ptr() for t in self.aliases}
        self.tensors = tuple(tensors)
        self.versions = tuple(entry and entry[1] for entry in key)
        self.handle = 0
        if -1 not in self.versions:
            self.handle = _prepare(packed, *tensors, *form.arguments)

    def __del__(self, release: Any = _release) -> None:
        if getattr(self, "handle", 0):
            release(self.handle)


class _Packs(dict):
    """slot -> _Pack. Copies and pickles of a module start without packed copies."""

    def __deepcopy__(self, memo: dict) -> _Packs:
        return _Packs()

    def __reduce__(self) -> tuple:
        return _Packs, ()


_lock = threading.Lock()  # packing, and changes to a store
_owners: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # modules that hold packed copies


def _key(tensors: MlpTensors) -> tuple:
    """Data pointer and version of each tensor; version -1 where PyTorch counts none."""
    return tuple(t is not None and (t.data_ptr(), -1 if t.is_inference() else t._version) for t in tensors)


def passed_over_safely(module: nn.Module, cls: type) -> bool:
    """Whether a child is what it was, so that not calling it goes unnoticed. Runs in every fused call."""
    if type(module) is not cls:
        return False
    own = module.__dict__  # any attribute of a module is slow: its class has a __getattr__
    return not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
    )


def hooks_for_all() -> bool:
    """Whether any hook for all modules is registered, which would not fire for children that are passed over."""
    return bool(
        nn_module._global_forward_hooks
        or nn_module._global_forward_pre_hooks
        or nn_module._global_backward_hooks
        or nn_module._global_backward_pre_hooks
    )


def run_prepared(owner: nn.Module, slot: str, form: MlpForm, tensors: tuple, x: Any) -> Optional[Tensor]:
    """run_fused by the copy's handle; None unless the copy stands for these very tensors as they are and nothing is
    at work that needs to see them. Written out, for it is a good part of a small layer's time."""
    if _compiling():
        return None
    packs = owner.__dict__.get(_STORE)
    if packs is None:
        return None
    pack = packs.get(slot)
    if pack is None or pack.handle == 0 or pack.form is not form or pack.stale.value:
        return None
    gate, up, down, b_gate, b_up, b_down = tensors
    own_gate, own_up, own_down, own_b_gate, own_b_up, own_b_down = pack.tensors
    v_gate, v_up, v_down, v_b_gate, v_b_up, v_b_down = pack.versions
    if (
        up is own_up
        and down is own_down
        and gate is own_gate
        and b_gate is own_b_gate
        and b_up is own_b_up
        and b_down is own_b_down
        and up._version == v_up
        and down._version == v_down
        and (gate is None or gate._version == v_gate)
        and (b_gate is None or b_gate._version == v_b_gate)
        and (b_up is None or b_up._version == v_b_up)
        and (b_down is None or b_down._version == v_b_down)
        and type(x) is Tensor
        and not (_grad_enabled() and _needs_grad(tensors, x))
        and not (_functorch_active() or _dispatch_modes() or _profiling() or _autocast_active())
        and forward_ad._current_level < 0
        and _tracing_state() is None
    ):
        try:
            return _mlp_prepared_eager(x, pack.handle)
        except RuntimeError:
            ops.check_tensors(x, *tensors, form.gate)  # see run_unprepared
            raise
    return None


def run_fused(owner: nn.Module, slot: str, form: MlpForm, tensors: tuple, x: Tensor) -> Tensor:
    """The MLP of `tensors`, MlpTensors or a tuple in that order, on x [..., d_in] -> [..., d_out].

    Without gradients on the CPU it uses, and where needed makes, the packed copy that `owner` keeps under `slot`
    (unless the owner has `_fusedmlp_pack = False`). With gradients it runs PyTorch's operations one by one, whose
    backward has the pre-activations: to compute them again costs more than a fused forward saves. Raises what
    `fusedmlp.mlp` raises.
    """
    y = run_prepared(owner, slot, form, tensors, x)
    return run_unprepared(owner, slot, form, tensors, x) if y is None else y


def run_unprepared(owner: nn.Module, slot: str, form: MlpForm, tensors: tuple, x: Tensor) -> Tensor:
    """run_fused with the tensors as the operator's operands."""
    if _compiling():
        return owned.run_traced(owner, slot, form, tensors, x)
    packed = None
    graded = _grad_enabled() and _needs_grad(tensors, x)
    if not (graded or _functorch_active() or forward_ad._current_level >= 0):
        packs = owner.__dict__.get(_STORE)
        pack = None if packs is None else packs.get(slot)
        if pack is None or pack.form is not form or pack.stale.value:
            packed = _repack(owner, slot, form, MlpTensors._make(tensors), x)
        else:
            packed = pack.packed
    try:
        if graded:
            return formulas.forward(x, *tensors, *form.arguments)
        if packed is None:
            return _mlp_eager(x, *tensors, *form.arguments)
        return _mlp_packed_eager(x, packed, *tensors, *form.arguments)
    except RuntimeError:
        # The operators know RuntimeError alone; the same checks in Python say which kind of mistake it was.
        ops.check_tensors(x, *tensors, form.gate)
        raise


owned.implement(run_fused)


def _packable(owner: nn.Module, form: MlpForm, tensors: MlpTensors) -> bool:
    """Whether a packed copy may be made now: plain CPU weights, no transform or tracing mode around us."""
    w_up = tensors.w_up
    if (
        w_up.device.type != "cpu"
        or w_up.dtype not in ops.DTYPES
        or not getattr(owner, "_fusedmlp_pack", True)
    ):
        return False
    if ops.transformed() or torch._C._len_torch_dispatch_stack() > 0:
        return False
    if torch._C._get_tracing_state() is not None:
        return False
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is not w_up.dtype:
        return False  # the weights are cast at every call
    return all(t is None or type(t) in (Tensor, nn.Parameter, nn.Buffer) for t in tensors)


def _repack(
    owner: nn.Module, slot: str, form: MlpForm, tensors: MlpTensors, x: Optional[Tensor]
) -> Optional[Tensor]:
    """The fresh packed copy, made now if need be; None where the plain weights are to be used."""
    if (x is not None and not x.is_cpu) or not _packable(owner, form, tensors):
        return None
    with _lock:
        packs = owner.__dict__.get(_STORE)
        key = _key(tensors)
        pack = None if packs is None else packs.get(slot)
        if pack is not None and pack.form == form and pack.key == key and not pack.stale.value:
            pack.form = form  # equal, or another thread was first
            return pack.packed
        _drop(owner, slot)  # before the new one is made: at no time two of them
        try:
            with torch.inference_mode(False), torch.no_grad():
                packed = ops._pack(*tensors, *form.arguments)
                pack = _Pack(packed, form, key, tensors)
        except RuntimeError:
            return None  # wrong weights are reported by the operator; without memory there is no packed copy
        if packs is None:
            packs = owner.__dict__[_STORE] = _Packs()
        packs[slot] = pack
        _owners.add(owner)
        return packed


def prepack(owner: nn.Module, slot: str, form: MlpForm, tensors: MlpTensors) -> bool:
    """Makes the packed copy now, as the first run without gradients would; False where none is kept."""
    return _repack(owner, slot, form, tensors, None) is not None


def _drop(owner: nn.Module, slot: str) -> None:
    packs = owner.__dict__.get(_STORE)
    if packs is not None:
        packs.pop(slot, None)


def invalidate(module: nn.Module) -> None:
    """Drops the packed copies of `module` and everything below it; the next call makes new ones.

    Needed after weights were written through `.data` (`p.data.add_(1)`) or while being inference tensors;
    every other change is noticed. Raises TypeError for anything but an nn.Module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: must be a torch.nn.Module, got {type(module).__name__}")
    with _lock:
        for owner in module.modules():
            owner.__dict__.get(_STORE, {}).clear()


def strip_packed(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of a module's __dict__ without packed copies and names: for pickles and copies of an owner."""
    return {key: value for key, value in state.items() if key != _STORE and not owned.is_name(key)}


def packed_copies(module: nn.Module) -> list[Tensor]:
    """The packed copies held now by `module` and everything below it."""
    with _lock:
        return [pack.packed for owner in module.modules() for pack in owner.__dict__.get(_STORE, {}).values()]


def packed_bytes(module: nn.Module) -> int:
    """Their bytes."""
    return sum(packed.numel() for packed in packed_copies(module))


def predicted_packed_bytes(form: MlpForm, tensors: MlpTensors) -> int:
    """Bytes the packed copy of these tensors would take; 0 for devices and dtypes that get none."""
    if tensors.w_up.device.type != "cpu" or tensors.w_up.dtype not in ops.DTYPES:
        return 0
    biases = (tensors.b_gate, tensors.b_up, tensors.b_down)
    return ops.packed_size(tensors.w_up, tensors.w_down, biases, *form.arguments[:2])


def _after_optimizer_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Drops the copies of stepped weights: an optimizer may write through `.data`, which is not counted."""
    with _lock:
        owners = list(_owners)
    if not owners:
        return
    stepped = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if type(parameter) in (Tensor, nn.Parameter) and parameter.layout is torch.strided:
                stepped.add(parameter.untyped_storage().data_ptr())
    with _lock:
        for owner in owners:
            packs = owner.__dict__.get(_STORE, {})
            for slot, pack in list(packs.items()):
                if not stepped.isdisjoint(pack.storages):
                    _drop(owner, slot)
            if not packs:
                _owners.discard(owner)


register_optimizer_step_post_hook(_after_optimizer_step)


class FusedMLP(nn.Module):
    """A transformer MLP whose forward is one fused operation; where gradients are needed, PyTorch's operations.

    plain  y = down_proj(act(up_proj(x)))
    gated  y = down_proj(act(gate_proj(x)) * up_proj(x))

    The children gate_proj (gated only), up_proj and down_proj are nn.Linear, initialised as those are, so the
    state_dict is that of an ordinary MLP. A child that was replaced, parametrized or given hooks is called as
    it is, layer by layer; so are all while hooks for all modules are registered.

    Raises ValueError for an unknown activation or a width below 1.
    """

    def __init__(
        self,
        d_in: int,
        d_hidden: int,
        d_out: Optional[int] = None,
        activation: str = "gelu",
        gated: bool = False,
        bias: bool = True,
        dtype: Optional[torch.dtype] = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        d_out = d_in if d_out is None else d_out
        for name, width in (("d_in", d_in), ("d_hidden", d_hidden), ("d_out", d_out)):
            if isinstance(width, bool) or not isinstance(width, int):
                raise TypeError(f"{name}: must be an int, got {type(width).__name__}")
            if width < 1:
                raise ValueError(f"{name}: must be >= 1, got {width}")
        self.form = MlpForm(activation, "separate" if gated else "none")
        if gated:
            self.gate_proj = nn.Linear(d_in, d_hidden, bias=bias, dtype=dtype, device=device)
        self.up_proj = nn.Linear(d_in, d_hidden, bias=bias, dtype=dtype, device=device)
        self.down_proj = nn.Linear(d_hidden, d_out, bias=bias, dtype=dtype, device=device)
        owned.name_owner(self, "mlp", self.form)

    @classmethod
    def from_linears(
        cls, up: nn.Linear, down: nn.Linear, activation: str, gate: Optional[nn.Linear] = None
    ) -> FusedMLP:
        """A FusedMLP around existing layers, shared. Raises TypeError or ValueError where they do not fit."""
        for name, linear in (("up", up), ("down", down), ("gate", gate)):
            if not isinstance(linear, nn.Linear) and not (name == "gate" and linear is None):
                raise TypeError(f"{name}: must be a torch.nn.Linear, got {type(linear).__name__}")
        form = MlpForm(activation, "none" if gate is None else "separate")
        if down.in_features != up.out_features:
            raise ValueError(f"down: in_features must be {up.out_features}, got {down.in_features}")
        if gate is not None and gate.weight.shape != up.weight.shape:
            expected, got = list(up.weight.shape), list(gate.weight.shape)
            raise ValueError(f"gate: weight shape must be that of up, {expected}, got {got}")
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        module.form = form
        if gate is not None:
            module.gate_proj = gate
        module.up_proj, module.down_proj = up, down
        owned.name_owner(module, "mlp", form)
        return module

    def forward(self, x: Tensor) -> Tensor:
        """x [..., d_in] -> [..., d_out], of the weights' dtype."""
        children = self._modules
        gate, up, down = children.get("gate_proj"), children["up_proj"], children["down_proj"]
        if hooks_for_all() or not (
            passed_over_safely(up, nn.Linear)
            and passed_over_safely(down, nn.Linear)
            and (gate is None or passed_over_safely(gate, nn.Linear))
        ):
            return self._layer_by_layer(x)
        up_own, down_own = up._parameters, down._parameters
        if gate is None:
            w_gate = b_gate = None
        else:
            w_gate, b_gate = gate._parameters["weight"], gate._parameters["bias"]
        tensors = (w_gate, up_own["weight"], down_own["weight"], b_gate, up_own["bias"], down_own["bias"])
        y = run_prepared(self, "mlp", self.form, tensors, x)  # run_fused without its call: 2 % of a small layer
        return run_unprepared(self, "mlp", self.form, tensors, x) if y is None else y

    def _layer_by_layer(self, x: Tensor) -> Tensor:
        gate = self._modules.get("gate_proj")
        gate_value = None if gate is None else gate(x)
        activation, _, alpha, limit = self.form.arguments
        return self.down_proj(formulas.hidden(gate_value, self.up_proj(x), activation, alpha, limit))

    def extra_repr(self) -> str:
        return f"activation={self.form.activation!r}, gated={self.form.gate != 'none'}"

    def _apply(self, fn: Any, recurse: bool = True) -> FusedMLP:
        invalidate(self)  # .to(), .half(), .cuda(): the copy would keep the old weights alive
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return strip_packed(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        owned.name_owner(self, "mlp", self.form)
