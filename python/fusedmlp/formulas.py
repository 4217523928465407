"""The MLP and its gradients from torch operators: gradients everywhere, the forward pass on CUDA tensors.

Arguments are those of torch.ops.fusedmlp.mlp: `activation` and `gate_order` are indices.
"""

from __future__ import annotations

from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Name -> index, in the order of the C++ enum Activation.
ACTIVATIONS = {
    name: index
    for index, name in enumerate(
        ("identity", "relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "sigmoid", "swiglu_oai")
    )
}
# How gate and up come -> the operators' gate_order.
GATES = {"none": 0, "separate": 1, "first": 2, "last": 3, "interleaved": 4}

_IDENTITY, _RELU, _RELU2, _GELU, _GELU_TANH, _QUICK_GELU, _SILU, _SIGMOID, _SWIGLU_OAI = range(9)
_QUICK_GELU_SLOPE = 1.702
# Those that are one operator of PyTorch, which computes in float32 inside and rounds once.
_ONE_OPERATOR = frozenset((_IDENTITY, _RELU, _GELU, _GELU_TANH, _SILU, _SIGMOID))
_aten = torch.ops.aten


def activate(activation: int, x: Tensor) -> Tensor:
    """f(x), element by element."""
    if activation == _IDENTITY:
        return x
    if activation == _RELU:
        return F.relu(x)
    if activation == _RELU2:
        return F.relu(x).square()
    if activation == _GELU:
        return F.gelu(x)
    if activation == _GELU_TANH:
        return F.gelu(x, approximate="tanh")
    if activation == _QUICK_GELU:
        return x * torch.sigmoid(_QUICK_GELU_SLOPE * x)
    if activation == _SILU:
        return F.silu(x)
    return torch.sigmoid(x)


def activate_backward(activation: int, grad: Tensor, x: Tensor) -> Tensor:
    """grad * f'(x)."""
    if activation == _IDENTITY:
        return grad
    if activation == _RELU:
        return _aten.threshold_backward(grad, x, 0)
    if activation == _RELU2:
        return grad * (2 * F.relu(x))
    if activation == _GELU:
        return _aten.gelu_backward(grad, x)
    if activation == _GELU_TANH:
        return _aten.gelu_backward(grad, x, approximate="tanh")
    if activation == _QUICK_GELU:
        p = torch.sigmoid(_QUICK_GELU_SLOPE * x)
        return grad * (p + _QUICK_GELU_SLOPE * x * p * (1 - p))
    if activation == _SILU:
        if torch.is_grad_enabled():  # a gradient of this gradient will be asked for; silu_backward has none
            p = torch.sigmoid(x)
            return grad * (p + x * p * (1 - p))
        return _aten.silu_backward(grad, x)
    return _aten.sigmoid_backward(grad, torch.sigmoid(x))


def _split(both: Tensor, gate_order: int) -> tuple[Tensor, Tensor]:
    """Gate and up out of the packed pre-activations [..., 2 * d_hidden]."""
    if gate_order == 4:
        return both[..., 0::2], both[..., 1::2]
    first, second = both.chunk(2, dim=-1)
    return (first, second) if gate_order == 2 else (second, first)


def _join(gate: Tensor, up: Tensor, gate_order: int) -> Tensor:
    if gate_order == 4:
        return torch.stack((gate, up), dim=-1).flatten(-2)
    return torch.cat((gate, up) if gate_order == 2 else (up, gate), dim=-1)


def hidden(gate: Optional[Tensor], up: Tensor, activation: int, alpha: float, limit: float) -> Tensor:
    """The value between the two products; `gate` is None for a plain MLP."""
    if gate is None:
        return activate(activation, up)
    if activation == _SWIGLU_OAI:
        g, u = gate.clamp(max=limit), up.clamp(-limit, limit)
        return g * torch.sigmoid(alpha * g) * (u + 1)
    return activate(activation, gate) * up


def _hidden_backward(
    grad: Tensor, gate: Optional[Tensor], up: Tensor, activation: int, alpha: float, limit: float
) -> tuple[Optional[Tensor], Tensor]:
    """Gradients of gate and up from the gradient of the hidden."""
    if gate is None:
        return None, activate_backward(activation, grad, up)
    if activation == _SWIGLU_OAI:
        g, u = gate.clamp(max=limit), up.clamp(-limit, limit)
        p = torch.sigmoid(alpha * g)
        grad_gate = grad * (u + 1) * p * (1 + alpha * g * (1 - p)) * (gate <= limit)
        return grad_gate, grad * g * p * (up.abs() <= limit)
    return activate_backward(activation, grad * up, gate), grad * activate(activation, gate)


def _pre_activations(
    x: Tensor,
    w_gate: Optional[Tensor],
    w_up: Tensor,
    b_gate: Optional[Tensor],
    b_up: Optional[Tensor],
    gate_order: int,
) -> tuple[Optional[Tensor], Tensor]:
    """Gate (None for a plain MLP) and up."""
    up = F.linear(x, w_up, b_up)
    if gate_order == 0:
        return None, up
    if gate_order == 1:
        return F.linear(x, w_gate, b_gate), up
    return _split(up, gate_order)


def _widened(gate: Optional[Tensor], up: Tensor) -> tuple[Optional[Tensor], Tensor]:
    """The same in float32 for 16-bit operands."""
    if up.dtype not in (torch.bfloat16, torch.float16):
        return gate, up
    return None if gate is None else gate.float(), up.float()


def forward(
    x: Tensor,
    w_gate: Optional[Tensor],
    w_up: Tensor,
    w_down: Tensor,
    b_gate: Optional[Tensor],
    b_up: Optional[Tensor],
    b_down: Optional[Tensor],
    activation: int,
    gate_order: int,
    alpha: float,
    limit: float,
) -> Tensor:
    """The MLP layer by layer; x [..., d_in] -> [..., d_out]."""
    gate, up = _pre_activations(x, w_gate, w_up, b_gate, b_up, gate_order)
    if activation not in _ONE_OPERATOR:
        gate, up = _widened(gate, up)
    h = hidden(gate, up, activation, alpha, limit).to(x.dtype)
    return F.linear(h, w_down, b_down).contiguous()


def backward(
    grad: Tensor,
    x: Tensor,
    w_gate: Optional[Tensor],
    w_up: Tensor,
    w_down: Tensor,
    b_gate: Optional[Tensor],
    b_up: Optional[Tensor],
    activation: int,
    gate_order: int,
    alpha: float,
    limit: float,
    *,
    needs: Sequence[bool],
) -> tuple[Optional[Tensor], ...]:
    """Gradients of (x, w_gate, w_up, w_down, b_gate, b_up, b_down), None where `needs` says so.

    Pre-activations are computed again from x. Element-wise work and bias sums are done in float32 for 16-bit
    operands. Differentiable itself.
    """
    need_x, need_w_gate, need_w_up, need_w_down, need_b_gate, need_b_up, need_b_down = needs
    dtype = x.dtype
    rows = x.reshape(-1, x.shape[-1])
    grad_rows = grad.reshape(-1, grad.shape[-1])
    d_x = d_w_gate = d_w_up = d_w_down = d_b_gate = d_b_up = d_b_down = None

    need_up = need_x or need_w_up or need_b_up or need_w_gate or need_b_gate
    if need_b_down:
        wide = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
        d_b_down = grad_rows.sum(0, dtype=wide).to(dtype)
    if need_w_down or need_up:
        gate, up = _widened(*_pre_activations(rows, w_gate, w_up, b_gate, b_up, gate_order))
    if need_w_down:
        d_w_down = grad_rows.t() @ hidden(gate, up, activation, alpha, limit).to(dtype)
    if need_up:
        grad_hidden = (grad_rows @ w_down).to(up.dtype)
        grad_gate, grad_up = _hidden_backward(grad_hidden, gate, up, activation, alpha, limit)
        if gate_order >= 2:
            grad_up = _join(grad_gate, grad_up, gate_order)
        if need_b_up:
            d_b_up = grad_up.sum(0).to(dtype)
        if need_b_gate:
            d_b_gate = grad_gate.sum(0).to(dtype)
        grad_up = grad_up.to(dtype)
        if need_w_up:
            d_w_up = grad_up.t() @ rows
        if need_x:
            d_x = grad_up @ w_up
        if gate_order == 1 and (need_w_gate or need_x):
            grad_gate = grad_gate.to(dtype)
            if need_w_gate:
                d_w_gate = grad_gate.t() @ rows
            if need_x:
                d_x = d_x + grad_gate @ w_gate
        if need_x:
            d_x = d_x.reshape(x.shape)
    return d_x, d_w_gate, d_w_up, d_w_down, d_b_gate, d_b_up, d_b_down
