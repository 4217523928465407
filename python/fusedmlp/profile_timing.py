"""Interleaved timing: every variant once a round, so that what the machine does meanwhile hits all alike. On the CPU
by the clock, on a GPU by CUDA events around calls queued without waiting."""

from __future__ import annotations

import gc
import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Sequence

import torch

# A sample shorter than this is made of several calls, so that the clock and a stray interrupt do not decide.
MIN_SAMPLE_SECONDS = 5e-4
MAX_INNER_CALLS = 200
_SHORT_SECONDS = 0.05


@dataclass
class Timing:
    """Latency of one variant; each sample is the mean of `inner` calls in a row."""

    samples: list[float] = field(default_factory=list)  # seconds a call
    inner: int = 1
    first_seconds: float = 0.0  # of the call that chose `inner`

    @property
    def repeats(self) -> int:
        return len(self.samples)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a share of the median; 0 below four samples."""
        if len(self.samples) < 4:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4)
        return (high - low) / 2 / self.median

    def to_dict(self) -> dict:
        return {
            "mean_us": self.mean * 1e6,
            "median_us": self.median * 1e6,
            "min_us": min(self.samples) * 1e6,
            "max_us": max(self.samples) * 1e6,
            "spread": self.spread,
            "repeats": self.repeats,
            "calls_per_sample": self.inner,
        }


def _clock(call: Callable[[], object], inner: int, device: str) -> float:
    if device == "cuda":
        return _events(call, inner)
    start = time.perf_counter()
    for _ in range(inner):
        call()
    return (time.perf_counter() - start) / inner


def _events(call: Callable[[], object], inner: int) -> float:
    """Seconds a call between two events on the current stream: what a caller waits for who queues calls in a row."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(inner):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / inner


def measure(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: Optional[int] = None,
    max_repeats: int = 50,
    min_repeats: int = 3,
    seconds_per_variant: float = 20.0,
    sample_seconds: float = MIN_SAMPLE_SECONDS,
    device: str = "cpu",
    on_round: Optional[Callable[[int], None]] = None,
) -> dict[str, Timing]:
    """Times each of `calls` round robin and returns a Timing each, all with the same number of repeats.

    `repeats` fixes that number. Otherwise rounds go on until `max_repeats`, or until a further round would take
    the slowest variant beyond `seconds_per_variant`, but never fewer than `min_repeats`. A sample is as many calls
    in a row as `sample_seconds` need: where variants hold weights of their own, a longer one finds them where
    repeated calls leave them, a single call where the other variants left them. The order rotates from
    round to round. Garbage collection is off meanwhile. The calls are taken to be warm: each has run before.
    `device` is "cpu" or "cuda". Raises ValueError when repeats is below 1.
    """
    if repeats is not None and repeats < 1:
        raise ValueError(f"repeats: got {repeats}, accepted is 1 or more")
    names: Sequence[str] = list(calls)
    timings = {name: Timing() for name in names}
    spent = {name: 0.0 for name in names}
    for name in names:
        first = _clock(calls[name], 1, device)
        if first < _SHORT_SECONDS:  # one call that was interrupted says little
            first = min(first, *(_clock(calls[name], 1, device) for _ in range(4)))
        timings[name].first_seconds = first
        timings[name].inner = min(MAX_INNER_CALLS, max(1, math.ceil(sample_seconds / max(first, 1e-9))))
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        done = 0
        if names and all(timing.first_seconds >= _SHORT_SECONDS for timing in timings.values()):
            done = 1  # long calls: the look above was a round like any other
            for name, timing in timings.items():
                timing.samples.append(timing.first_seconds)
                spent[name] = timing.first_seconds
        while names and done < (repeats or max_repeats):
            if repeats is None and done >= min_repeats:
                if any(spent[name] * (done + 1) / done > seconds_per_variant for name in names):
                    break
            shift = done % len(names)
            for name in [*names[shift:], *names[:shift]]:
                timing = timings[name]
                seconds = _clock(calls[name], timing.inner, device)
                timing.samples.append(seconds)
                spent[name] += seconds * timing.inner
            done += 1
            if on_round is not None:
                on_round(done)
    finally:
        if collecting:
            gc.enable()
    return timings
