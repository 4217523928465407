"""What the tests of fuse() share."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class FusedCalls(TorchDispatchMode):
    """Counts calls of fusedmlp's operators that compute an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += str(func).startswith(
            tuple(f"fusedmlp.{name}." for name in ("mlp", "mlp_packed", "mlp_owned"))
        )
        return func(*args, **(kwargs or {}))


def fused_calls(function) -> int:
    """How many MLPs run fused in one call of `function`, without gradients."""
    with torch.no_grad(), FusedCalls() as calls:
        function()
    return calls.count


def relative_error(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value.double() - exact).norm() / exact.norm())


def assert_as_exact(fused: torch.Tensor, original: torch.Tensor, exact: torch.Tensor) -> None:
    """The rule for numerics: error against fp64 at most twice the original's, plus eps of the dtype."""
    assert fused.shape == original.shape and fused.dtype == original.dtype
    eps = torch.finfo(original.dtype).eps
    assert relative_error(fused, exact) <= 2 * relative_error(original, exact) + eps


def double(module: nn.Module) -> nn.Module:
    """A float64 copy: the truth."""
    return copy.deepcopy(module).double()


def leftovers(model: nn.Module) -> list[str]:
    """Anything of fusedmlp that is still on the model."""
    found = []
    for path, module in model.named_modules():
        names = [*module.__dict__, *module._buffers, *module._non_persistent_buffers_set]
        found += [f"{path}.{name}" for name in names if "fusedmlp" in name]
        if "fusedmlp" in type(module).__module__:
            found.append(path)
    return found


class Mlp(nn.Module):
    """A user's own class: recognised by what its forward does."""

    def __init__(self, d_in: int = 24, d_hidden: int = 56, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(d_in, d_hidden)
        self.activation = activation if activation is not None else nn.GELU()
        self.second = nn.Linear(d_hidden, d_in)

    def forward(self, x):
        return self.second(self.activation(self.first(x)))


class Gated(nn.Module):
    """The same, gated."""

    def __init__(self, d_in: int = 24, d_hidden: int = 56) -> None:
        super().__init__()
        self.gate = nn.Linear(d_in, d_hidden, bias=False)
        self.up = nn.Linear(d_in, d_hidden, bias=False)
        self.down = nn.Linear(d_hidden, d_in, bias=False)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))
