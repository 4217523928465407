"""The operators torch.ops.fusedmlp.{mlp, mlp_packed, pack} and the function `mlp` with full validation.

Schemas and implementations come from the C++ library; here are the rules PyTorch needs around them: shapes without
data, gradients, autocast, vmap, and the torch operators that stand in on a GPU where they are the better choice.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _library  # noqa: F401  (loads the operators)
from . import formulas
from .formulas import ACTIVATIONS, GATES

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_OPTIONAL = Optional[Tensor]

# ---------------------------------------------------------------------------------------------- shapes


def _fake_mlp(x, w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit):
    torch._check(x.dim() >= 1, lambda: "fusedmlp: x: must have at least one dimension")
    torch._check(
        x.shape[-1] == w_up.shape[1],
        lambda: f"fusedmlp: x: shape must be [..., {w_up.shape[1]}], got {tuple(x.shape)}",
    )
    return x.new_empty((*x.shape[:-1], w_down.shape[0]))


def _fake_mlp_packed(x, packed, *operands):
    return _fake_mlp(x, *operands)


def packed_size(
    w_up: Tensor,
    w_down: Tensor,
    biases: tuple[_OPTIONAL, _OPTIONAL, _OPTIONAL],
    activation: int,
    gate_order: int,
) -> int:
    """Bytes of pack()'s result for CPU weights of these shapes, header included."""
    present = sum(bit for bit, bias in zip((1, 2, 4), biases) if bias is not None)
    if gate_order >= 2 and biases[1] is not None:
        present |= 1
    d_hidden = int(w_up.shape[0]) // (2 if gate_order >= 2 else 1)
    return torch.ops.fusedmlp.packed_size(
        int(w_up.shape[1]),
        d_hidden,
        int(w_down.shape[0]),
        activation,
        gate_order,
        present,
        DTYPES.index(w_up.dtype),
    )


def _fake_pack(w_gate, w_up, w_down, b_gate, b_up, b_down, activation, gate_order, alpha, limit):
    size = 0
    if w_up.device.type == "cpu":
        size = packed_size(w_up, w_down, (b_gate, b_up, b_down), activation, gate_order)
    return torch.empty(size, dtype=torch.uint8, device=w_up.device)


torch.library.register_fake("fusedmlp::mlp", _fake_mlp)
torch.library.register_fake("fusedmlp::mlp_packed", _fake_mlp_packed)
torch.library.register_fake("fusedmlp::pack", _fake_pack)

_mlp = torch.ops.fusedmlp.mlp.default
_mlp_packed = torch.ops.fusedmlp.mlp_packed.default
_pack = torch.ops.fusedmlp.pack.default

# ------------------------------------------------------------------------------------------- gradients


_registrations = torch.library.Library("fusedmlp", "IMPL")
_below_autograd = torch._C._AutoDispatchBelowAutograd


class _Mlp(torch.autograd.Function):
    """The operator below autograd, and its gradients. torch.library.register_autograd would do, but for
    torch.func: what it makes refuses to run there."""

    @staticmethod
    def forward(ctx: Any, keys: torch._C.DispatchKeySet, *args: Any) -> Tensor:
        x, w_gate, w_up, w_down, b_gate, b_up, _, *ctx.form = args
        ctx.save_for_backward(x, w_gate, w_up, w_down, b_gate, b_up)
        with _below_autograd():
            return _mlp.redispatch(keys, *args)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        needs = ctx.needs_input_grad[1:8]
        grads = formulas.backward(grad, *ctx.saved_tensors, *ctx.form, needs=needs)
        return (None, *grads, None, None, None, None)


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def needs_grad(tensors: Sequence[_OPTIONAL], x: Tensor) -> bool:
    """Whether any of them takes part in differentiation, where gradients are enabled."""
    if x.requires_grad:
        return True
    for tensor in tensors:
        if tensor is not None and tensor.requires_grad:
            return True
    return False


def trains(tensors: Sequence[_OPTIONAL], x: Tensor) -> bool:
    """Whether a backward pass may follow. None does while exporting: the program is for inference."""
    return torch.is_grad_enabled() and not torch.compiler.is_exporting() and needs_grad(tensors, x)


def _autograd_mlp(keys: torch._C.DispatchKeySet, *args: Any) -> Tensor:
    if transformed() or any(torch._C._functorch.is_gradtrackingtensor(t) for t in args[:7] if t is not None):
        return formulas.forward(*args)  # torch's own operators know every transform
    keys = keys & torch._C._after_autograd_keyset
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in args[:7]):
        return _Mlp.apply(keys, *args)
    with _below_autograd():
        return _mlp.redispatch(keys, *args)


_registrations.impl("mlp", _autograd_mlp, "Autograd", with_keyset=True)
# Called without gradients only: past the kernel that PyTorch puts before operators without rules of their own.
_registrations.impl("_mlp_prepared", torch.library.fallthrough_kernel, "Autograd")

# ------------------------------------------------------------------------------------ autocast and CUDA


def _cast(value: Any, device_type: str, dtype: torch.dtype) -> Any:
    eligible = (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.device.type == device_type
        and value.dtype is not torch.float64
    )
    return value.to(dtype) if eligible else value


def autocast_rule(op: Callable[..., Tensor], device_type: str, key: str) -> Callable[..., Tensor]:
    """As for torch's linear: operands in the region's dtype. `op` takes x and operands, between them perhaps a
    packed copy or the name of its keeper, which serve if the weights have that dtype."""
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def plain(*args: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(device_type)
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return _mlp(*(_cast(arg, device_type, dtype) for arg in args))

    def packed(x: Tensor, copy: Tensor, *operands: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(device_type)
        if operands[1].dtype is not dtype:
            return plain(x, *operands)
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return op(_cast(x, device_type, dtype), copy, *operands)

    return plain if op is _mlp else packed


def _register_autocast(device_type: str, key: str) -> None:
    for name, op in (("mlp", _mlp), ("mlp_packed", _mlp_packed)):
        rule = autocast_rule(op, device_type, key)
        _registrations.impl(name, rule, key)
        op.py_impl(getattr(torch._C.DispatchKey, key))(rule)


_register_autocast("cpu", "AutocastCPU")
_register_autocast("cuda", "AutocastCUDA")


def _cuda_pack(w_gate: _OPTIONAL, w_up: Tensor, *rest: Any) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=w_up.device)


_registrations.impl("mlp_unfused", formulas.forward, "CUDA")  # csrc/cuda_path.cpp calls it
_registrations.impl("pack", _cuda_pack, "CUDA")

# ------------------------------------------------------------------------------------------------ vmap


def _unit_stride(value: Any) -> Any:
    """A slice of a batch as the operators accept it."""
    if not isinstance(value, Tensor) or value.dim() != 2 or 1 in value.stride():
        return value
    return value.contiguous()


def _vmap_rule(
    op: Callable[..., Tensor], unbatched: Callable[..., Tensor]
) -> Callable[..., tuple[Tensor, int]]:
    """A batch of x joins the tokens of one call of `op`; other batches take one `unbatched` call a sample."""

    def rule(info: Any, in_dims: Sequence, *args: Any) -> tuple[Tensor, int]:
        if all(dim is None for dim in in_dims[1:]):
            return op(args[0].movedim(in_dims[0], 0), *args[1:]), 0
        samples = []
        for index in range(info.batch_size):
            picked = (a if d is None else a.select(d, index) for a, d in zip(args, in_dims))
            samples.append(unbatched(*(_unit_stride(value) for value in picked)))
        return torch.stack(samples), 0

    return rule


torch.library.register_vmap("fusedmlp::mlp", _vmap_rule(_mlp, _mlp))
torch.library.register_vmap(
    "fusedmlp::mlp_packed", _vmap_rule(_mlp_packed, lambda x, packed, *operands: _mlp(x, *operands))
)

# ---------------------------------------------------------------------------------------- the function


def _shape(tensor: Tensor) -> list:
    return list(tensor.shape)


def _check_matrix(name: str, tensor: Tensor, expected: Sequence, meaning: str) -> None:
    if tensor.dim() != 2 or any(a != b for a, b in zip(tensor.shape, expected)):
        raise ValueError(f"{name}: shape must be {meaning} = {list(expected)}, got {_shape(tensor)}")


def _check_strides(name: str, tensor: Tensor) -> None:
    rows, cols = tensor.shape
    row, col = tensor.stride()
    if (col == 1 or cols <= 1) and (rows <= 1 or row >= cols):
        return
    if (row == 1 or rows <= 1) and (cols <= 1 or col >= rows):
        return
    raise ValueError(
        f"{name}: one stride must be 1 and the other at least that dimension's size, got strides "
        f"{(row, col)} for shape {_shape(tensor)}; pass a contiguous() copy"
    )


def check_form(activation: str, gate: str, alpha: float, limit: float) -> None:
    """Raises ValueError for names that do not exist and for combinations that mean nothing."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if gate not in GATES:
        raise ValueError(f"gate: must be one of {', '.join(GATES)}, got {gate!r}")
    if activation == "swiglu_oai" and gate == "none":
        raise ValueError("activation: swiglu_oai is a function of gate and up: it needs a gated MLP")
    if not limit > 0:
        raise ValueError(f"limit: must be > 0, got {limit}")
    if not (alpha == alpha and abs(alpha) != float("inf")):
        raise ValueError(f"alpha: must be finite, got {alpha}")


def check_tensors(
    x: _OPTIONAL,
    w_gate: _OPTIONAL,
    w_up: Tensor,
    w_down: Tensor,
    b_gate: _OPTIONAL,
    b_up: _OPTIONAL,
    b_down: _OPTIONAL,
    gate: str,
) -> None:
    """Raises TypeError, ValueError or NotImplementedError: the argument, what came, what is accepted.

    `gate` is a key of GATES. With x None only the weights are looked at.
    """
    named = {"x": x, "w_gate": w_gate, "w_up": w_up, "w_down": w_down}
    named |= {"b_gate": b_gate, "b_up": b_up, "b_down": b_down}
    required = {"w_up", "w_down"} | ({"w_gate"} if gate == "separate" else set())
    for name, tensor in named.items():
        if tensor is None and name in required:
            raise TypeError(f"{name}: must be a torch.Tensor, got None")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: must be a torch.Tensor, got {type(tensor).__name__}")
    if gate != "separate":
        for name in ("w_gate", "b_gate"):
            if named[name] is not None:
                raise ValueError(f"{name}: must be None unless gate and up are separate (gate is {gate!r})")
    tensors = {name: tensor for name, tensor in named.items() if tensor is not None}

    device = w_up.device
    if device.type not in ("cpu", "cuda", "meta"):
        raise NotImplementedError(f"w_up: device must be cpu or cuda, got {device}")
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided:
            raise NotImplementedError(f"{name}: layout must be torch.strided, got {tensor.layout}")
        if tensor.device != device:
            raise ValueError(f"{name}: must be on the device of w_up ({device}), got {tensor.device}")
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        for name, tensor in tensors.items():
            if tensor.dtype not in (*DTYPES, torch.float64):
                raise TypeError(
                    f"{name}: dtype must be float32, bfloat16, float16 or float64, got {tensor.dtype}"
                )
            if tensor.dtype is not w_up.dtype:
                raise TypeError(f"{name}: dtype must be that of w_up ({w_up.dtype}), got {tensor.dtype}")

    packed = gate in ("first", "last", "interleaved")
    for name in ("w_up", "w_down"):
        if tensors[name].dim() != 2 or 0 in tensors[name].shape:
            raise ValueError(
                f"{name}: must be a matrix [out, in] that is not empty, got {_shape(tensors[name])}"
            )
    rows, d_in = w_up.shape
    if packed and rows % 2:
        raise ValueError(
            f"w_up: a packed gate and up has 2 * d_hidden rows, an even number, got {_shape(w_up)}"
        )
    d_hidden, d_out = rows // 2 if packed else rows, w_down.shape[0]
    _check_matrix("w_down", w_down, (d_out, d_hidden), "[d_out, d_hidden]")
    if w_gate is not None:
        _check_matrix("w_gate", w_gate, (d_hidden, d_in), "[d_hidden, d_in]")
    for name in ("w_gate", "w_up", "w_down"):
        # A batch of weights under vmap is copied slice by slice where its strides do not serve.
        if (
            name in tensors
            and device.type == "cpu"
            and not torch._C._functorch.is_batchedtensor(tensors[name])
        ):
            _check_strides(name, tensors[name])
    for name, size in (("b_gate", d_hidden), ("b_up", rows), ("b_down", d_out)):
        bias = tensors.get(name)
        if bias is not None and (bias.dim() != 1 or bias.shape[0] != size):
            raise ValueError(f"{name}: shape must be [{size}], got {_shape(bias)}")
        if bias is not None and device.type == "cpu" and size > 1 and bias.stride(0) < 1:
            raise ValueError(
                f"{name}: stride must be at least 1, got {bias.stride(0)}; pass a contiguous() copy"
            )
    if x is not None and (x.dim() < 1 or x.shape[-1] != d_in):
        raise ValueError(f"x: shape must be [..., d_in] with d_in = {d_in}, got {_shape(x)}")


def mlp(
    x: Tensor,
    w_up: Tensor,
    w_down: Tensor,
    *,
    w_gate: _OPTIONAL = None,
    b_gate: _OPTIONAL = None,
    b_up: _OPTIONAL = None,
    b_down: _OPTIONAL = None,
    activation: str = "gelu",
    gate_order: Optional[str] = None,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> Tensor:
    """act(x w_up^T + b_up) w_down^T + b_down, or gated: (act(gate) * up) w_down^T + b_down.

    x [..., d_in]; w_up [d_hidden, d_in]; w_down [d_out, d_hidden]; biases [d_hidden], [d_hidden], [d_out];
    returns a new contiguous [..., d_out]. Gated: give w_gate [d_hidden, d_in], or one w_up
    [2 * d_hidden, d_in] with gate_order "first" (gate rows, then up rows), "last" or "interleaved". float32,
    bfloat16 and float16 are fused; float64 is computed layer by layer. All tensors share dtype and device.
    Differentiable: the backward pass computes the pre-activations again, which takes no memory and one or two
    more products. `alpha` and `limit` belong to the activation swiglu_oai.

    Raises TypeError, ValueError or NotImplementedError naming the argument, what came and what is accepted.
    """
    orders = ("first", "last", "interleaved")
    if gate_order is not None and gate_order not in orders:
        raise ValueError(f"gate_order: must be None or one of {', '.join(orders)}, got {gate_order!r}")
    gate = gate_order or ("none" if w_gate is None else "separate")
    check_form(activation, gate, alpha, limit)
    if not isinstance(x, Tensor):
        raise TypeError(f"x: must be a torch.Tensor, got {type(x).__name__}")
    check_tensors(x, w_gate, w_up, w_down, b_gate, b_up, b_down, gate)
    return _mlp(
        x, w_gate, w_up, w_down, b_gate, b_up, b_down, ACTIVATIONS[activation], GATES[gate], alpha, limit
    )
