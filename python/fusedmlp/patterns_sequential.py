"""Stretches Linear, activation, Linear of an nn.Sequential.

Dropouts may stand between the three. A chain of three or more Linears is paired from the front; a Linear left
over runs as before and is named in the report.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from .modules import MlpForm
from .patterns import (
    NotFusable,
    Site,
    check_site,
    is_dropout,
    is_identity,
    is_linear_like,
    module_activation,
    qualified_name,
)


@dataclass
class Stretches:
    """What was found in one Sequential: sites by key of their first child, and keys left alone."""

    sites: dict[str, Site] = field(default_factory=dict)
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)  # children that each site stands for
    left: list[tuple[str, str]] = field(default_factory=list)


def sequential_sites(owner: nn.Sequential) -> Stretches:
    """Pairs Linears from the front; every Linear that has a partner and is not fused gets a reason."""
    found = Stretches()
    keys = list(owner._modules)
    linears = [key for key in keys if is_linear_like(owner._modules[key])]
    paired: set[str] = set()
    position = 0
    while position < len(linears):
        key = linears[position]
        following = linears[position + 1] if position + 1 < len(linears) else None
        if following is None:
            if paired:
                found.left.append(
                    (key, "a chain is paired from the front, and no second Linear is left for this one")
                )
            break
        try:
            site, used = _stretch(owner, keys, key, following)
            check_site(owner, site)
        except NotFusable as reason:
            found.left.append((key, str(reason)))
            position += 1
            continue
        found.sites[key], found.keys[key] = site, used
        paired.update((key, following))
        position += 2
    return found


def _stretch(owner: nn.Sequential, keys: list[str], first: str, second: str) -> tuple[Site, tuple[str, ...]]:
    start, end = keys.index(first), keys.index(second)
    activation, name, dropouts = None, None, []
    inert = [key for key in keys[start + 1 : end] if is_identity(owner._modules[key])]
    for key in keys[start + 1 : end]:
        module = owner._modules[key]
        if key in inert:
            continue
        if is_dropout(module):
            dropouts.append((key,))
            continue
        known = module_activation(module)
        if known is None:
            raise NotFusable(
                f"{key} ({qualified_name(type(module))}) between Linears {first} and {second} is not known"
            )
        if activation is not None:
            raise NotFusable(f"two activations, {activation} and {key}, between Linears {first} and {second}")
        activation, name = key, known
    if activation is None and inert:
        activation, name = inert[0], "identity"
    if activation is None:
        raise NotFusable(f"no activation between Linears {first} and {second}")
    passed = [(key,) for key in keys[start : end + 1]]
    site = Site(
        kind="sequential",
        method="forward",
        slot=f"stretch_{first}",
        form=MlpForm(activation=name, gate="none"),
        up=(first,),
        down=(second,),
        activation=(activation,),
        guarded=tuple(passed),
        guard_types=tuple(type(owner._modules[path[0]]) for path in passed),
        dropouts=tuple(dropouts),
    )
    return site, tuple(keys[start : end + 1])
