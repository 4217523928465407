"""Fits the costs of a kernel's plans to measured ones: each plan is a sum of features times costs, none negative."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls


class Row(NamedTuple):
    group: tuple[str, int]  # MLP and tokens, within which plans compete
    us: float
    features: dict[str, float]  # keys "SIDE KIND NAME" of a launch, single words of both
    plan: tuple
    known: float = 0.0  # microseconds that are not fitted


def fit(title: str, rows: list[Row], power: int = 4) -> None:
    """Prints the costs, how far predictions are off, and what choosing by them would lose."""
    names = sorted({key for row in rows for key in row.features})
    table = np.array([[row.features.get(key, 0.0) for key in names] for row in rows])
    us = np.array([row.us for row in rows])
    best: dict = collections.defaultdict(lambda: 1e9)
    for row in rows:
        best[row.group] = min(best[row.group], row.us)
    count = collections.Counter(row.group for row in rows)
    # The faster a plan is among its own, the more it matters: by this power.
    weight = np.array([(best[row.group] / row.us) ** power / count[row.group] ** 0.5 for row in rows])
    known = np.array([row.known for row in rows])
    costs, _ = nnls(table / us[:, None] * weight[:, None], (us - known) / us * weight)
    found = {key: f"{cost:.3g}" for key, cost in zip(names, costs) if cost > 1e-6}
    print(title, {key: cost for key, cost in found.items() if len(key.split()) < 3})
    launches: dict = collections.defaultdict(list)
    for key, cost in found.items():
        side, _, name = key.rpartition(" ")
        if side.count(" "):
            launches[side].append(f".{name} = {cost}")
    for side, own in launches.items():
        print(f"  {side} {{" + ", ".join(own) + "}")
    predicted = table @ costs + known
    error = np.abs(predicted / us - 1)
    print(f"{title}: {len(rows)} plans, error {error.mean():.3f} in the mean, {np.quantile(error, 0.9):.3f} in nine of ten")
    groups = collections.defaultdict(list)
    for row, p in zip(rows, predicted):
        groups[row.group].append((p, row.us, row.plan))
    for (text, tokens), plans in groups.items():
        chosen, fastest = min(plans), min(plans, key=lambda one: one[1])
        lost = chosen[1] / fastest[1]
        print(f"  {text} {tokens}: {chosen[1]:.2f} us chosen {chosen[2]}, {fastest[1]:.2f} best {fastest[2]}, x{lost:.3f}")
