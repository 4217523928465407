"""Fits q(a) = log2 s(-a) of f(x) = x s(x), for activation.cpp of src/cuda/narrow and sm90: fit_sigmoid_tail.py

Weighted least squares whose weights follow the largest errors (Lawson), so that max |error of s(-a)| / max(s(-a),
FLOOR) becomes small on 0 <= a <= LIMIT; printed is the largest one on 0 <= a <= 60. The top coefficient must be
negative: then q falls without bound, and the kernels need no clamp.
"""

from math import erfc, sqrt

import numpy as np

TAILS = {
    "gelu": lambda a: np.array([0.5 * erfc(v / sqrt(2)) for v in a]),
    "gelu_tanh": lambda a: np.exp(-np.logaddexp(0, 2 * sqrt(2 / np.pi) * (a + 0.044715 * a**3))),
}


def fit(name: str, degree: int, floor: float, limit: float) -> tuple[float, list[float]]:
    a = np.linspace(0, limit, 6001)
    tail = TAILS[name](a)
    target = np.log2(tail)
    weight = tail * np.log(2) / np.maximum(tail, floor)
    powers = np.vander(a / limit, degree + 1, increasing=True)
    lawson = np.full_like(a, 1 / len(a))
    best, coefficients = np.inf, None
    for _ in range(600):
        scale = np.sqrt(lawson) * weight
        p = np.linalg.lstsq(powers * scale[:, None], target * scale, rcond=None)[0]
        error = np.abs(2 ** (powers @ p) - tail) / np.maximum(tail, floor)
        if error.max() < best:
            best, coefficients = error.max(), p / limit ** np.arange(degree + 1)
        lawson *= error + 1e-12
        lawson /= lawson.sum()
    assert coefficients[-1] < 0
    everywhere = np.linspace(0, 60, 60001)
    tail = TAILS[name](everywhere)
    error = np.abs(2 ** np.polyval(coefficients[::-1], everywhere) - tail) / np.maximum(tail, floor)
    return error.max(), [float(c) for c in coefficients]


# degree, FLOOR, LIMIT
for name, use, *how in (
    ("gelu", "bf16", 3, 2**-14, 4.5),
    ("gelu", "bf16 of sm90", 3, 2**-8, 4),
    ("gelu", "fp16", 5, 2**-14, 6),
    ("gelu_tanh", "bf16", 4, 2**-14, 4),
    ("gelu_tanh", "fp16", 5, 2**-11, 4),
):
    error, q = fit(name, *how)
    print(f"{name}, {use}: error {error:.2e}, q = {q}")
