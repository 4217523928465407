"""The worker of peers_cpu.py: measures one (shape, dtype) at several token counts; a JSON line on stdout a cell."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable, Optional

MARK = "CELL "  # lines of results; anything else on stdout is noise of the compilers


class _Group:
    def __init__(self, job: dict[str, Any]) -> None:
        import torch
        from fusedmlp import capi
        from fusedmlp.models import DTYPES, fused_mlp, make_mlp

        self.job, self.torch = job, torch
        torch.set_num_threads(job["threads"])
        self.deadline = time.monotonic() + job["group_seconds"]
        self.fields = capi.parse_spec(job["spec"])
        self.explain = capi.explain
        self.dtype = DTYPES[self.fields["dtype"]]
        self.model = make_mlp(job["spec"])
        self.fused = fused_mlp(job["spec"], self.model)
        self.longest_tuning = 0.0

    def cell(self, tokens: int) -> dict[str, Any]:
        from fusedmlp.agreement import relative_error
        from fusedmlp.profile_timing import measure

        torch, job = self.torch, self.job
        torch._dynamo.reset()  # what was compiled for other token counts is in the way of guards and memory
        torch.manual_seed(tokens)
        x = torch.randn(tokens, int(self.fields["d_in"])).to(self.dtype)
        modes: dict[str, dict[str, Any]] = {}
        calls: dict[str, Callable[[], Any]] = {}
        outputs: dict[str, Any] = {}
        for mode in [*job["modes"], "fused"]:
            reason = self._skip(mode, modes)
            if reason is not None:
                modes[mode] = {"skipped": reason}
                continue
            call, modes[mode] = self._make(mode, x)
            if call is None:
                continue
            start = time.perf_counter()
            outputs[mode] = call()
            seconds = time.perf_counter() - start
            if seconds > job["call_limit"]:
                modes[mode].update({"median_us": seconds * 1e6, "mean_us": seconds * 1e6, "repeats": 1})
                continue
            if mode in ("eager", "fused"):
                call()  # the call above packed weights and started threads; compiled modes are warm already
            calls[mode] = call
        timings = measure(
            calls, repeats=job["repeats"], seconds_per_variant=job["seconds"], sample_seconds=job["burst"]
        )
        for mode, timing in timings.items():
            modes[mode].update(timing.to_dict())
        cell = {"tokens": tokens, "modes": modes, "kernel": self.explain(job["spec"], tokens)["chosen"]}
        if "eager" in outputs and "fused" in outputs:
            cell["fused_to_eager"] = relative_error([outputs["fused"]], [outputs["eager"]])
        return cell

    def _skip(self, mode: str, modes: dict[str, dict[str, Any]]) -> Optional[str]:
        """Why `mode` is left out of this cell; tuning runs every candidate several times."""
        if mode != "tuned":
            return None
        eager = modes.get("eager", {})
        if eager.get("repeats") == 1:
            return f"one eager call takes {eager['median_us'] / 1e6:.0f} s"
        if self.longest_tuning > self.job["tune_limit"]:
            return f"at fewer tokens it took {self.longest_tuning:.0f} s to compile"
        if time.monotonic() + self.longest_tuning > self.deadline:
            return "the time for this shape is used up"
        return None

    def _make(self, mode: str, x: Any) -> tuple[Optional[Callable[[], Any]], dict[str, Any]]:
        """(call, {"compile_seconds"}), or (None, {"skipped": reason}) where torch.compile fails."""
        torch = self.torch
        if mode in ("eager", "fused"):
            module = self.model if mode == "eager" else self.fused
            return (lambda: module(x)), {}
        from torch._inductor import config

        settings: dict[str, Any] = {"freezing": mode != "compile"}
        if mode == "tuned":
            settings.update({"max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"})
        # As options, because Dynamo takes code compiled with equal options for the same; and as global settings,
        # because Dynamo reads `freezing` itself.
        compiled = torch.compile(self.model, dynamic=False, options=settings)
        start = time.perf_counter()
        try:
            with config.patch(settings):
                compiled(x)
        except Exception as error:
            lines = str(error).strip().splitlines()
            return None, {
                "skipped": f"torch.compile failed: {type(error).__name__}: {lines[0] if lines else ''}"
            }
        seconds = time.perf_counter() - start
        if mode == "tuned":
            self.longest_tuning = max(self.longest_tuning, seconds)
        return (lambda: compiled(x)), {"compile_seconds": round(seconds, 2)}


def main() -> int:
    job = json.loads(sys.argv[1])
    group = _Group(job)
    with group.torch.no_grad():
        for tokens in job["tokens"]:
            try:
                cell = group.cell(tokens)
            except Exception as error:
                cell = {"tokens": tokens, "error": f"{type(error).__name__}: {error}"}
            print(MARK + json.dumps(cell), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
