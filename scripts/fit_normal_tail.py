"""Fits the polynomial behind the vector GELU (src/cpu/vector_math-inl.h).

Phi(-a) = exp(-a^2 / 2) t P(t), t = 1 / (1 + c a), a in [0, 14]: the form of Abramowitz and Stegun 7.1.26 with
coefficients of our own, found by iteratively reweighted least squares on Chebyshev nodes (near minimax in
relative error). Needs numpy and mpmath; prints c, the coefficients and the relative error before rounding.
"""

import mpmath as mp
import numpy as np

C, DEGREE, NODES, REACH = 0.26, 8, 400, 14.0


def fit(c: float = C, degree: int = DEGREE) -> tuple[float, np.ndarray]:
    mp.mp.dps = 40
    low = 1 / (1 + c * REACH)
    t = (np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES) + 1) / 2 * (1 - low) + low
    a = [(1 / mp.mpf(v) - 1) / c for v in t]
    target = np.array([float(mp.ncdf(-v) * mp.exp(v * v / 2) / mp.mpf(s)) for v, s in zip(a, t)])
    basis = np.vander(t, degree + 1, increasing=True) / target[:, None]
    weight = np.ones(NODES)
    for _ in range(100):
        coefficients, *_ = np.linalg.lstsq(basis * weight[:, None], weight, rcond=None)
        error = np.abs(basis @ coefficients - 1)
        weight = weight * np.sqrt(error / error.max() + 1e-3)
        weight /= weight.max()
    return float(error.max()), coefficients


if __name__ == "__main__":
    error, coefficients = fit()
    print(f"c = {C}, relative error {error:.2e}")
    for power, value in enumerate(coefficients):
        print(f"t^{power}: {np.float32(value):.9e}f")
