"""What an MLP moves and computes, modelled from shapes alone.

Eager PyTorch runs one operation after another and each reads its inputs and writes its output once.
torch.compile fuses the element-wise operations into one, the products stay apart. A fused MLP reads x and the
weights and writes y. Caches are not modelled: these are the bytes the operations ask for, not bus traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
VARIANTS = ("eager", "compiled", "fused")

# Element-wise passes over [tokens, d_hidden] that eager runs for an activation: (tensors read, tensors written).
_EAGER_PASSES = {
    "identity": (0, 0),
    "relu": (1, 1),
    "relu2": (2, 2),  # relu, square
    "gelu": (1, 1),
    "gelu_tanh": (1, 1),
    "quick_gelu": (4, 3),  # 1.702 x, sigmoid, x * that
    "silu": (1, 1),
    "sigmoid": (1, 1),
    # min, clamp, alpha g, sigmoid, g * that, u + 1, product; the product with up is part of it
    "swiglu_oai": (9, 7),
}


@dataclass(frozen=True)
class Shape:
    """The part of an MlpSpec that the model needs; widths in elements, `dtype` fp32, bf16 or fp16."""

    d_in: int
    d_hidden: int
    d_out: int
    activation: str
    gated: bool
    bias_gate: bool
    bias_up: bool
    bias_down: bool
    dtype: str

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Shape":
        """From the JSON object of a spec, as the library's C ABI returns it."""
        return cls(
            d_in=int(spec["d_in"]),
            d_hidden=int(spec["d_hidden"]),
            d_out=int(spec["d_out"]),
            activation=str(spec["activation"]),
            gated=bool(spec["gated"]),
            bias_gate=bool(spec["bias_gate"]),
            bias_up=bool(spec["bias_up"]),
            bias_down=bool(spec["bias_down"]),
            dtype=str(spec["dtype"]),
        )


@dataclass(frozen=True)
class Traffic:
    """Bytes read and bytes written."""

    read: int
    written: int

    @property
    def total(self) -> int:
        return self.read + self.written

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.read + other.read, self.written + other.written)


def flops(shape: Shape, tokens: int) -> int:
    """Arithmetic of the products, 2 a multiply-add; activations and biases are not counted."""
    first = shape.d_in * shape.d_hidden * (2 if shape.gated else 1)
    return 2 * tokens * (first + shape.d_hidden * shape.d_out)


def traffic(shape: Shape, tokens: int, variant: str) -> Traffic:
    """Bytes that `variant` ("eager", "compiled" or "fused") reads and writes for one pass over `tokens` rows.

    Raises ValueError for another variant, an unknown dtype or an unknown activation.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: got {variant!r}, accepted are {', '.join(VARIANTS)}")
    if shape.dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype: got {shape.dtype!r}, accepted are {', '.join(DTYPE_BYTES)}")
    if shape.activation not in _EAGER_PASSES:
        raise ValueError(f"activation: got {shape.activation!r}, accepted are {', '.join(_EAGER_PASSES)}")
    x = tokens * shape.d_in
    hidden = tokens * shape.d_hidden
    y = tokens * shape.d_out
    gate = shape.d_in * shape.d_hidden + (shape.d_hidden if shape.bias_gate else 0) if shape.gated else 0
    up = shape.d_in * shape.d_hidden + (shape.d_hidden if shape.bias_up else 0)
    down = shape.d_hidden * shape.d_out + (shape.d_out if shape.bias_down else 0)

    if variant == "fused":
        read, written = x + gate + up + down, y
    else:
        # The first products, each reading x; then the element-wise part; then the second product.
        sides = 2 if shape.gated else 1
        read, written = sides * x + gate + up, sides * hidden
        pointwise_read, pointwise_written = _pointwise(shape, variant)
        read += pointwise_read * hidden + hidden + down
        written += pointwise_written * hidden + y
    element = DTYPE_BYTES[shape.dtype]
    return Traffic(read * element, written * element)


def _pointwise(shape: Shape, variant: str) -> tuple[int, int]:
    """Hidden-sized tensors read and written between the products."""
    if variant == "compiled":
        if shape.gated:
            return 2, 1
        return (0, 0) if shape.activation == "identity" else (1, 1)
    read, written = _EAGER_PASSES[shape.activation]
    if shape.gated and shape.activation != "swiglu_oai":
        read, written = read + 2, written + 1
    return read, written
