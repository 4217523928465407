"""Grad mode, inference mode and autocast while a method is read: fx records no contexts, so they are noted here.

A context shows where it changes what is set around the method, so a method is read under each of SURROUNDINGS:
autocast(enabled=False) changes nothing outside of an autocast region, no_grad() nothing where gradients are off.
"""

from __future__ import annotations

import contextlib
from typing import Callable, Iterable, Iterator, Optional

import torch
from torch import fx

_DEVICE_TYPES = ("cpu", "cuda")  # where there are kernels
_NAMES = ("grad mode", "inference mode", *("autocast" for _ in _DEVICE_TYPES))
_KEY = "fusedmlp_modes"  # in Node.meta


def current() -> tuple:
    """The modes of this thread, in the order of _NAMES."""
    autocast = (
        torch.is_autocast_enabled(device) and (True, torch.get_autocast_dtype(device))
        for device in _DEVICE_TYPES
    )
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast)


class Tracer(fx.proxy.GraphAppendingTracer):
    """Notes at every node the modes that its operation runs under."""

    def create_node(self, *args, **kwargs) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta[_KEY] = current()
        return node


def changed(modes: Iterable[tuple]) -> Optional[str]:
    """The name of a mode in which these differ, or None."""
    for name, values in zip(_NAMES, zip(*modes)):
        if len(set(values)) > 1:
            return name
    return None


def changed_between(nodes: Iterable[fx.Node]) -> Optional[str]:
    return changed(node.meta[_KEY] for node in nodes if _KEY in node.meta)


@contextlib.contextmanager
def _autocast(enabled: bool) -> Iterator[None]:
    # Not torch.autocast, which warns about a device that is not there.
    before = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICE_TYPES]
    try:
        for device in _DEVICE_TYPES:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, torch.bfloat16)
        yield
    finally:
        for device, was_enabled, dtype in before:
            torch.set_autocast_enabled(device, was_enabled)
            torch.set_autocast_dtype(device, dtype)


@contextlib.contextmanager
def _training() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad(), _autocast(False):
        yield


@contextlib.contextmanager
def _inference() -> Iterator[None]:
    with torch.inference_mode(), _autocast(True):  # without gradients too
        yield


# Every mode is once on and once off.
SURROUNDINGS: tuple[Callable[[], contextlib.AbstractContextManager], ...] = (_training, _inference)
