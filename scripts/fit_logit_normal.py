"""Fits p of gelu(x) = x sigmoid(x p(x^2)), for src/cuda/common/fast_activation.cpp: fit_logit_normal.py

p(x^2) approximates logit(Phi(x)) / x on 0 < x <= 6. Weighted least squares whose weights follow the largest errors
(Lawson), so that max |error of Phi(-x)| / max(Phi(-x), 2^-8) becomes small.
"""

from math import erfc, sqrt

import numpy as np

LIMIT = 6.0
FLOOR = 2.0**-8


def fit(degree: int) -> tuple[float, list[float]]:
    x = np.linspace(1e-3, LIMIT, 4000)
    tail = np.array([0.5 * erfc(v / sqrt(2)) for v in x])
    target = np.log((1 - tail) / tail) / x
    # d tail / tail = -(1 - tail) x dp; below FLOOR the error counts against FLOOR.
    weight = x * (1 - tail) * np.maximum(np.minimum(1, tail / FLOOR), 1e-6)
    powers = np.vander((x / LIMIT) ** 2, degree + 1, increasing=True)
    lawson = np.full_like(x, 1 / len(x))
    for _ in range(400):
        scale = np.sqrt(lawson) * weight
        p = np.linalg.lstsq(powers * scale[:, None], target * scale, rcond=None)[0]
        error = np.abs(weight * (powers @ p - target))
        lawson *= error + 1e-12
        lawson /= lawson.sum()
    return error.max(), (p / LIMIT ** (2 * np.arange(degree + 1))).tolist()


for name, degree in ("bf16", 2), ("fp16", 4):
    error, p = fit(degree)
    print(f"{name}: error {error:.2e}, p = {p}")
