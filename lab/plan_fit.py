"""Fits the costs of a kernel's plans to measured ones: each plan is a sum of features times costs, none negative."""

from __future__ import annotations

import collections
import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls


class Row(NamedTuple):
    group: tuple[str, int]  # MLP and tokens, within which plans compete
    us: float
    features: dict[str, float]  # keys "SIDE KIND NAME" of a launch, single words of both
    plan: tuple
    known: float = 0.0  # microseconds that are not fitted


ERROR_WEIGHT = 0.25  # of the mean error beside what choosing loses
SAME = 1.01
MOST_LOST = 0.035  # what one choice loses beyond this weighs as much as a mean loss


def fit(title: str, rows: list[Row], power: int = 4, rounds: int = 1) -> None:
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
    system, target = table / us[:, None], (us - known) / us
    groups: dict = collections.defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.group].append(i)

    # Choosing well matters more than predicting well: plans of a wrong choice weigh more the next time.
    least = math.inf
    for _ in range(rounds):
        tried, _ = nnls(system * weight[:, None], target * weight)
        predicted = table @ tried + known
        loss, most = ERROR_WEIGHT * np.abs(predicted / us - 1).mean(), 0.0
        for own in groups.values():
            chosen, fastest = min(own, key=lambda i: predicted[i]), min(own, key=lambda i: us[i])
            loss += (us[chosen] / us[fastest] - 1) / len(groups)
            most = max(most, us[chosen] / us[fastest] - 1)
            if us[chosen] > SAME * us[fastest]:
                weight[[chosen, fastest]] *= 1.1
        loss += max(0.0, most - MOST_LOST)
        if loss < least:
            least, costs = loss, tried
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
    for (text, tokens), own in groups.items():
        plans = [(predicted[i], rows[i].us, rows[i].plan) for i in own]
        chosen, fastest = min(plans, key=lambda one: one[0]), min(plans, key=lambda one: one[1])
        lost = chosen[1] / fastest[1]
        print(f"  {text} {tokens}: {chosen[1]:.2f} us chosen {chosen[2]}, {fastest[1]:.2f} best {fastest[2]}, x{lost:.3f}")
