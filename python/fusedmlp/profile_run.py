"""Runs one model on one input, eager, compiled and fused, and collects what `profile` reports."""

from __future__ import annotations

import copy
import math
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from . import capi
from .agreement import cosines, relative_error, sample_rows, tensors_of
from .fuse import fuse, unfuse
from .fuse_classes import is_fused
from .limits import cores, limit
from .models import Case, fused_mlp
from .modules import packed_bytes
from .profile_bytes import Shape, Traffic, flops, traffic
from .profile_ops import observe
from .profile_parts import Found, Parts, bare_parts, find_parts
from .profile_timing import Timing, measure

# The whole model is run in fp64 only where that is a matter of seconds.
_FP64_EAGER_SECONDS = 3.0
TRACED = ("eager", "compiled", "fused")
_EPS = {"fp32": 2.0**-23, "bf16": 2.0**-7, "fp16": 2.0**-10}  # distance from 1 to the next value
_NO_MLP = "nothing was fused: no MLP of this model is supported"


@dataclass
class Options:
    """How to measure."""

    repeats: Optional[int] = None  # None: as many as fit into `seconds`, 3 to 50
    seconds: float = 20.0  # for each variant and level
    compile: bool = True
    out: Optional[Path] = None  # folder for traces


class Progress:
    """One line on stderr: rewritten in place on a terminal, one line a stage elsewhere."""

    def __init__(self, enabled: bool, prefix: str = "") -> None:
        self.enabled, self.prefix = enabled, prefix
        self.tty = enabled and sys.stderr.isatty()

    def stage(self, text: str) -> None:
        if self.tty:
            print(f"\r\x1b[K{self.prefix}{text}"[:160], end="", file=sys.stderr, flush=True)
        elif self.enabled:
            print(f"{self.prefix}{text}", file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        if self.tty:
            self.stage(text)

    def clear(self) -> None:
        if self.tty:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@dataclass
class Variant:
    """One way of running the model. `calls` has "mlp" (the MLPs alone) and "model", where there is such a level."""

    name: str
    calls: dict[str, Callable[[], Any]] = field(default_factory=dict)
    status: str = "ok"  # or "unavailable" (not possible here), "failed" (it should have worked)
    reason: Optional[str] = None
    compile_seconds: Optional[float] = None
    extra_bytes: int = 0
    fused_module: Optional[nn.Module] = None  # what holds packed copies
    outputs: dict[str, Any] = field(default_factory=dict)  # by level, as calls

    def give_up(self, status: str, reason: str) -> None:
        self.status, self.reason, self.calls = status, reason, {}


def device_of(case: Case) -> str:
    """The one device of the model and its inputs, as torch names it.

    Raises NotImplementedError where there are several, or one that is neither a CPU nor a CUDA GPU.
    """
    tensors = [*case.model.parameters(), *case.model.buffers()]
    tensors += [value for value in (*case.args, *case.kwargs.values()) if isinstance(value, Tensor)]
    found = sorted({str(tensor.device) for tensor in tensors}) or ["cpu"]
    if len(found) > 1 or torch.device(found[0]).type not in ("cpu", "cuda"):
        raise NotImplementedError(f"device: got {', '.join(found)}, accepted is one device, cpu or cuda")
    return found[0]


def run_case(case: Case, options: Options, progress: Progress) -> dict[str, Any]:
    """Measures `case`; the model is left as it was. Returns plain values, as ProfileResult.to_dict() holds them."""
    modes = [(module, module.training) for module in case.model.modules()]
    limits = {"recompile_limit": 64, "fail_on_recompile_limit_hit": True}  # never eager under compile's name
    case.model.eval()
    try:
        with torch.no_grad(), torch._dynamo.config.patch(limits):
            return _Run(case, options, progress).all()
    finally:
        for module, training in modes:
            module.training = training
        progress.clear()


class _Run:
    def __init__(self, case: Case, options: Options, progress: Progress) -> None:
        self.case, self.options, self.progress = case, options, progress
        self.device = device_of(case)
        self.variants: list[Variant] = []
        self.found: Optional[Found] = None
        self.fuse_report: Any = None
        self.files: list[str] = []

    def all(self) -> dict[str, Any]:
        self._build()
        if self.options.out is not None:
            for name in TRACED:  # of an earlier run: one that is not made again would pass for one of this
                (self.options.out / f"{name}.trace.json").unlink(missing_ok=True)
            (self.options.out / "report.html").unlink(missing_ok=True)
        for variant in self.variants:
            self._warm_up(variant)
        self.progress.stage("counting operations and recording traces")
        rows = {variant.name: self._row(variant) for variant in self.variants}
        self._errors(rows)
        timings = self._time()
        self._latency(rows, timings)
        agreement = self._agreement(timings)
        return {
            "model": self.case.name,
            "description": self.case.description,
            "tokens": sum(self.found.tokens) // max(1, len(self.found.tokens)) if self.found else None,
            "mlps": self._mlps(),
            "limit_us": self._limit_us(),
            "device": self.device,
            "limit_cores": cores(),
            "rows": list(rows.values()),
            "agreement": agreement,
            "fuse_report": None if self.fuse_report is None else self.fuse_report.to_dict(),
            "traces": self.files,
        }

    # Building.

    def _levels(self) -> tuple[str, ...]:
        if self.found is None:
            return ("model",)
        return ("mlp",) if self.found.whole else ("mlp", "model")

    def _calls(self, model: Callable, parts: Optional[Callable]) -> dict[str, Callable[[], Any]]:
        args, kwargs = self.case.args, self.case.kwargs
        whole = lambda: model(*args, **kwargs)
        if self.found is None:
            return {"model": whole}
        if self.found.whole:
            return {"mlp": whole}
        inputs = self.found.inputs
        return {"mlp": lambda: parts(inputs), "model": whole}

    def _build(self) -> None:
        case = self.case
        self.progress.stage("finding and fusing the MLPs")
        if any(is_fused(module) for module in case.model.modules()):
            # Already fused: what it was before is the eager one. The caller's model stays fused.
            case = self.case = replace(case, model=copy.deepcopy(case.model))
            unfuse(case.model)
        fused_model = copy.deepcopy(case.model)
        self.fuse_report = fuse(fused_model)
        fused = Variant("fused", fused_module=fused_model)
        if case.spec is not None:
            self.found = bare_parts(case.spec, case.model, fused_model, case.args[0])
        elif self.fuse_report.replaced:
            self.found = find_parts(case.model, fused_model, lambda: case.model(*case.args, **case.kwargs))
        found = self.found
        self.variants.append(Variant("eager", self._calls(case.model, found.eager if found else None)))
        self.variants.append(self._compiled())
        if self.fuse_report.replaced:
            fused.calls = self._calls(fused_model, found.fused if found else None)
        else:
            reasons = {entry.reason for entry in self.fuse_report.skipped}
            fused.give_up("unavailable", _NO_MLP + (f" ({'; '.join(sorted(reasons))})" if reasons else ""))
        self.variants.append(fused)
        if case.spec is not None:
            self._module(fused)

    def _compiled(self) -> Variant:
        variant = Variant("compiled")
        if not self.options.compile:
            variant.give_up("unavailable", "left out, as asked")
            return variant
        # Names the generated kernels in traces; costs a few nanoseconds a kernel when no profiler runs.
        settings = {"cpp.enable_kernel_profile": True}
        make = lambda module: torch.compile(module, dynamic=False, options=settings)
        apart = self.found is not None and not self.found.whole
        variant.calls = self._calls(make(self.case.model), make(self.found.eager) if apart else None)
        return variant

    def _module(self, fused: Variant) -> None:
        """FusedMLP, the module one writes instead of swapping: it shares the Linears of a copy of the model.

        Where fuse() does not know the layer-by-layer code, FusedMLP is what runs as "fused".
        """
        module = fused_mlp(self.case.spec, copy.deepcopy(self.case.model))
        calls = self._calls(module, Parts([module], [0]))
        if fused.calls:
            self.variants.append(Variant("FusedMLP", calls, fused_module=module))
        else:
            fused.calls, fused.status, fused.fused_module = calls, "ok", module
            fused.reason = f"{fused.reason}; this row is a FusedMLP with the same weights"

    def _warm_up(self, variant: Variant) -> None:
        if not variant.calls:
            return
        self.progress.stage(
            "compiling the model" if variant.name == "compiled" else f"first run, {variant.name}"
        )
        start = time.perf_counter()
        try:
            for call in variant.calls.values():
                call()
        except Exception as error:
            if variant.name == "eager":
                raise
            if variant.name == "compiled":
                variant.give_up("unavailable", f"torch.compile does not work here: {_one_line(error)}")
            else:
                variant.give_up("failed", _one_line(error))
            return
        if variant.name == "compiled":
            variant.compile_seconds = time.perf_counter() - start
        if variant.fused_module is not None:
            variant.extra_bytes = packed_bytes(variant.fused_module)

    # Counting and modelling.

    def _row(self, variant: Variant) -> dict[str, Any]:
        row: dict[str, Any] = {
            "variant": variant.name,
            "status": variant.status,
            "reason": variant.reason,
            "compile_seconds": variant.compile_seconds,
            "extra_bytes": variant.extra_bytes if variant.status == "ok" else None,
        }
        for level, call in variant.calls.items():
            top = (
                level == self._levels()[-1]
            )  # the trace is of the whole model, where that is not just the MLP
            label = f"fusedmlp profile: {self.case.name}, {variant.name}"
            ops, variant.outputs[level] = observe(call, label, self._trace_path(variant) if top else None)
            row[level] = {"ops": ops.computing, "dispatched_ops": ops.dispatched, "op_names": list(ops.names)}
        if "mlp" in row:
            bytes_moved = self._traffic(variant.name)
            row["mlp"]["modelled_bytes_read"] = bytes_moved.read
            row["mlp"]["modelled_bytes_written"] = bytes_moved.written
        return row

    def _shapes(self) -> list[tuple[Shape, int]]:
        found = self.found
        return (
            [(Shape.from_spec(capi.parse_spec(s)), n) for s, n in zip(found.specs, found.tokens)]
            if found
            else []
        )

    def _traffic(self, variant: str) -> Traffic:
        model = variant if variant in ("eager", "compiled") else "fused"
        return sum((traffic(shape, tokens, model) for shape, tokens in self._shapes()), Traffic(0, 0))

    def _flops(self) -> int:
        return sum(flops(shape, tokens) for shape, tokens in self._shapes())

    def _limit_us(self) -> Optional[float]:
        if self.found is None:
            return None
        return sum(
            limit(spec, tokens, self.device)[0] for spec, tokens in zip(self.found.specs, self.found.tokens)
        )

    def _mlps(self) -> list[dict[str, Any]]:
        """One entry for each distinct (spec, tokens), with how often it occurs."""
        groups: dict[tuple[str, int], int] = {}
        if self.found is not None:
            for key in zip(self.found.specs, self.found.tokens):
                groups[key] = groups.get(key, 0) + 1
        result = []
        for (spec, tokens), count in groups.items():
            microseconds, kernel = limit(spec, tokens, self.device)
            result.append(
                {"spec": spec, "tokens": tokens, "count": count, "limit_us": microseconds, "kernel": kernel}
            )
        return result

    # Accuracy.

    def _errors(self, rows: dict[str, dict[str, Any]]) -> None:
        """Relative error of the MLPs alone against the same weights and inputs in fp64, on up to 1024 rows each."""
        found = self.found
        if found is None:
            return
        self.progress.stage("computing the MLPs in fp64")
        samples, truths = [], []
        for index, x in enumerate(found.inputs):
            rows_of_x = sample_rows(found.tokens[index])
            part = copy.deepcopy(found.eager.parts[found.eager.calls[index]]).double()
            samples.append(rows_of_x)
            truths.append(part(_rows(x)[rows_of_x].double()))
        for variant in self.variants:
            if "mlp" not in variant.calls:
                continue
            outputs = tensors_of(variant.outputs["mlp"])
            values = [_rows(output)[index] for output, index in zip(outputs, samples)]
            rows[variant.name]["mlp"]["error_fp64"] = relative_error(values, truths)
        self._check_errors(rows)

    def _check_errors(self, rows: dict[str, dict[str, Any]]) -> None:
        """A fused variant may err twice as much as eager, and eps of the dtype more."""
        own = rows["eager"]["mlp"]["error_fp64"]
        eps = max(_EPS[shape.dtype] for shape, _ in self._shapes())
        for variant in self.variants:
            if variant.fused_module is None or "mlp" not in variant.calls:
                continue
            row, bound = rows[variant.name], 2 * own + eps
            error = row["mlp"]["error_fp64"]
            row["mlp"]["error_bound"] = bound
            if math.isfinite(own) and not error <= bound:
                row["status"] = "failed"
                row["reason"] = f"error against fp64 is {error:.2e}, above 2 x eager's + eps = {bound:.2e}"

    def _agreement(self, timings: dict[str, dict[str, Timing]]) -> Optional[dict[str, Any]]:
        """Outputs of the whole model, fused against eager, and both against fp64 where that is affordable."""
        outputs = {
            variant.name: variant.outputs["model"] for variant in self.variants if "model" in variant.outputs
        }
        if "fused" not in outputs:
            return None
        self.progress.stage("comparing the outputs of the whole model")
        result: dict[str, Any] = {
            "fused_to_eager": relative_error(*(tensors_of(outputs[n]) for n in ("fused", "eager")))
        }
        truth = self._fp64_output(timings["model"]["eager"].median)
        if truth is not None:
            result["error_fp64"] = {
                name: relative_error(tensors_of(output), tensors_of(truth))
                for name, output in outputs.items()
            }
        if self.case.embed is not None:
            embed = self.case.embed
            cosine = cosines(embed(outputs["fused"]), embed(outputs["eager"]))
            result["sentences"] = len(cosine)
            result["min_cosine_fused_to_eager"] = float(cosine.min())
            if truth is not None:
                result["min_cosine_to_fp64"] = {
                    name: float(cosines(embed(output), embed(truth)).min())
                    for name, output in outputs.items()
                }
        return result

    def _fp64_output(self, eager_seconds: float) -> Any:
        if eager_seconds > _FP64_EAGER_SECONDS:
            return None
        cast = lambda value: (
            value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        )
        try:
            model = copy.deepcopy(self.case.model).double()
            return model(
                *map(cast, self.case.args), **{key: cast(value) for key, value in self.case.kwargs.items()}
            )
        except (RuntimeError, TypeError, ValueError):
            return None  # models that fix a dtype inside can not be run in fp64; the MLPs were compared above

    # Timing.

    def _time(self) -> dict[str, dict[str, Timing]]:
        timings = {}
        for level in self._levels():
            what = "the MLPs alone" if level == "mlp" else "the whole model"
            self.progress.stage(f"timing {what}")
            timings[level] = measure(
                {variant.name: variant.calls[level] for variant in self.variants if level in variant.calls},
                repeats=self.options.repeats,
                seconds_per_variant=self.options.seconds,
                device=torch.device(self.device).type,
                on_round=lambda done, what=what: self.progress.detail(f"timing {what}: round {done}"),
            )
        return timings

    def _latency(self, rows: dict[str, dict[str, Any]], timings: dict[str, dict[str, Timing]]) -> None:
        work, limit_us = self._flops(), self._limit_us()
        for level, by_variant in timings.items():
            for name, timing in by_variant.items():
                row = rows[name][level]
                row.update(timing.to_dict())
                row["speedup"] = by_variant["eager"].median / timing.median
                if self.found is not None:
                    tokens = sum(self.found.tokens) / len(self.found.tokens)
                    row["tokens_per_s"] = tokens / timing.median
                if level == "mlp":
                    row["gflops"] = work / timing.median / 1e9
                    row["limit_share"] = limit_us / (timing.median * 1e6)
        for row in rows.values():
            if "mlp" in row and "model" in row:
                row["model"]["mlp_share"] = row["mlp"]["median_us"] / row["model"]["median_us"]

    def _trace_path(self, variant: Variant) -> Optional[Path]:
        if self.options.out is None or variant.name not in TRACED:
            return None
        self.files.append(f"{variant.name}.trace.json")
        return self.options.out / self.files[-1]


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
