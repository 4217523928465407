"""MLPs for the tests of the operators: random weights in every form, and what they must compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

PLAIN = ("identity", "relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "sigmoid")
ACTIVATIONS = (*PLAIN, "swiglu_oai")  # in the order of the operators' index
GATES = ("none", "separate", "first", "last", "interleaved")  # likewise
FORMS = [(a, g) for a in ACTIVATIONS for g in GATES if not (a == "swiglu_oai" and g == "none")]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ALPHA, LIMIT = 1.702, 7.0


def activation(name: str, x: Tensor) -> Tensor:
    functions = {
        "identity": lambda t: t,
        "relu": F.relu,
        "relu2": lambda t: F.relu(t) ** 2,
        "gelu": F.gelu,
        "gelu_tanh": lambda t: F.gelu(t, approximate="tanh"),
        "quick_gelu": lambda t: t * torch.sigmoid(1.702 * t),
        "silu": F.silu,
        "sigmoid": torch.sigmoid,
    }
    return functions[name](x)


@dataclass
class Mlp:
    """The operators' arguments after x (and packed), with names."""

    activation: str
    gate: str
    w_gate: Optional[Tensor]
    w_up: Tensor
    w_down: Tensor
    b_gate: Optional[Tensor]
    b_up: Optional[Tensor]
    b_down: Optional[Tensor]

    @property
    def tensors(self) -> tuple[Optional[Tensor], ...]:
        return self.w_gate, self.w_up, self.w_down, self.b_gate, self.b_up, self.b_down

    @property
    def arguments(self) -> tuple:
        return (*self.tensors, ACTIVATIONS.index(self.activation), GATES.index(self.gate), ALPHA, LIMIT)

    @property
    def keywords(self) -> dict:
        """For fusedmlp.mlp(x, w_up, w_down, **keywords)."""
        order = self.gate if self.gate in ("first", "last", "interleaved") else None
        names = {"w_gate": self.w_gate, "b_gate": self.b_gate, "b_up": self.b_up, "b_down": self.b_down}
        return {**names, "activation": self.activation, "gate_order": order}

    def map(self, function) -> "Mlp":
        made = (None if t is None else function(t) for t in self.tensors)
        return Mlp(self.activation, self.gate, *made)

    def layers(self, x: Tensor) -> Tensor:
        """The MLP as PyTorch computes it, layer by layer in the dtype of x."""
        up = F.linear(x, self.w_up, self.b_up)
        if self.gate == "none":
            return F.linear(activation(self.activation, up), self.w_down, self.b_down)
        if self.gate == "separate":
            gate = F.linear(x, self.w_gate, self.b_gate)
        elif self.gate == "interleaved":
            gate, up = up[..., 0::2], up[..., 1::2]
        else:
            half = up.shape[-1] // 2
            first, second = up[..., :half], up[..., half:]
            gate, up = (first, second) if self.gate == "first" else (second, first)
        if self.activation == "swiglu_oai":
            gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
            hidden = gate * torch.sigmoid(ALPHA * gate) * (up + 1)
        else:
            hidden = activation(self.activation, gate) * up
        return F.linear(hidden, self.w_down, self.b_down)

    def exact(self, x: Tensor) -> Tensor:
        """The MLP in float64, of the values that x and the weights have."""
        return self.map(lambda t: t.double()).layers(x.double())


def make(
    activation: str = "gelu",
    gate: str = "none",
    widths: tuple[int, int, int] = (17, 65, 9),
    dtype: torch.dtype = torch.float32,
    biases: str = "gate up down",
    grad: bool = False,
) -> Mlp:
    """Weights drawn from the global generator. `biases` names those present; packed forms take "up" for both."""
    d_in, d_hidden, d_out = widths
    rows = d_hidden * 2 if gate in ("first", "last", "interleaved") else d_hidden

    def draw(*shape: int) -> Tensor:
        scale = shape[-1] ** -0.5 if len(shape) == 2 else 0.5
        return (torch.randn(*shape, dtype=torch.float64) * scale).to(dtype).requires_grad_(grad)

    present = biases.split()
    return Mlp(
        activation,
        gate,
        draw(d_hidden, d_in) if gate == "separate" else None,
        draw(rows, d_in),
        draw(d_out, d_hidden),
        draw(d_hidden) if gate == "separate" and "gate" in present else None,
        draw(rows) if "up" in present else None,
        draw(d_out) if "down" in present else None,
    )


def assert_close(result: Tensor, mlp: Mlp, x: Tensor) -> None:
    """At most twice the error that the same layers have in the same precision, plus one rounding of the result."""
    truth = mlp.exact(x)
    eager = mlp.layers(x)
    assert result.shape == eager.shape and result.dtype == eager.dtype
    if truth.numel() == 0:
        return
    norm = truth.norm()
    error = (result.double() - truth).norm() / norm
    bound = 2 * (eager.double() - truth).norm() / norm + torch.finfo(result.dtype).eps
    assert error <= bound, f"error {error:.3e} above {bound:.3e}"
