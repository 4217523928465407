"""Whether two ways of computing the same thing agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Iterable

import torch
from torch import Tensor


def tensors_of(output: Any) -> list[Tensor]:
    """The floating-point tensors of a model's output (tensor, sequence, mapping or dataclass-like), in order."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = output.values()
    elif not isinstance(output, (list, tuple)):
        return []
    return [tensor for value in output for tensor in tensors_of(value)]


def relative_error(values: Iterable[Tensor], truths: Iterable[Tensor]) -> float:
    """||values - truths|| / ||truths|| over all tensors together, computed in fp64.

    NaN when a value is not finite. Raises ValueError when numbers or shapes of tensors differ.
    """
    values, truths = list(values), list(truths)
    if len(values) != len(truths):
        raise ValueError(f"outputs: {len(values)} tensors against {len(truths)}")
    difference = norm = 0.0
    for value, truth in zip(values, truths):
        if value.shape != truth.shape:
            raise ValueError(f"outputs: shape {tuple(value.shape)} against {tuple(truth.shape)}")
        truth = truth.detach().double()
        difference += float((value.detach().double() - truth).square().sum())
        norm += float(truth.square().sum())
    if not math.isfinite(difference):
        return math.nan
    if norm == 0.0:
        return 0.0 if difference == 0.0 else math.inf
    return math.sqrt(difference / norm)


def sample_rows(rows: int, at_most: int = 1024) -> Tensor:
    """Indices of up to `at_most` rows, evenly spread, first and last included."""
    if rows <= at_most:
        return torch.arange(rows)
    return torch.linspace(0, rows - 1, at_most, dtype=torch.float64).round().long()


def sentence_embeddings(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are not padding, then unit length: [batch, seq, d], [batch, seq] -> [batch, d] fp64."""
    weights = mask.unsqueeze(-1).double()
    pooled = (hidden.double() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(pooled, dim=1)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of each row with its counterpart: [n, d], [n, d] -> [n], fp64."""
    return torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=1)
