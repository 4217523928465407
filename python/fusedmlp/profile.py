"""profile(model, inputs): eager, compiled and fused side by side, with proof that the numbers are the same."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch import nn

from .analyze import analyze, page_of
from .limits import environment
from .models import Case, call_arguments
from .profile_ops import write_text
from .profile_run import Options, Progress, device_of, run_case
from .profile_table import legend, notes, table, verdict


@dataclass
class ProfileResult:
    """What was measured. print() it, or take to_dict(); `runs` has one entry for each token count."""

    environment: dict[str, Any]
    runs: list[dict[str, Any]]
    report: Optional[Path] = None  # the page made of the traces

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as profile.json holds them. Times in microseconds, bytes modelled where named so."""
        runs = [{**run, "verdict": verdict(run)} for run in self.runs]
        return _plain({"schema": "fusedmlp.profile/1", "environment": self.environment, "runs": runs})

    @property
    def failed(self) -> bool:
        """Whether a fused variant raised, or erred more than twice as much as eager (and eps of the dtype)."""
        rows = [row for run in self.runs for row in run["rows"]]
        return any(row["status"] == "failed" for row in rows)

    def row(self, variant: str, run: int = 0) -> dict[str, Any]:
        """The row of "eager", "compiled", "fused" or "FusedMLP". Raises KeyError where there is none."""
        for row in self.runs[run]["rows"]:
            if row["variant"] == variant:
                return row
        raise KeyError(variant)

    def __str__(self) -> str:
        env = self.environment
        lines = []
        for run in self.runs:
            head = f"{run['model']}: {run['description']}" if run["description"] else run["model"]
            lines.append(head)
            for mlp in run["mlps"]:
                count = f"{mlp['count']} x " if mlp["count"] > 1 else ""
                lines.append(f"  {count}{mlp['spec']} on {mlp['tokens']} tokens, kernel {mlp['kernel']}")
        if any(run["device"] != "cpu" for run in self.runs):
            lines.append(f"{env['gpu']}, CUDA {env['cuda']}")
        lines.append(
            f"{env['cpu']} ({env['isa']}), {env['threads']} thread(s), fusedmlp {env['fusedmlp']}, torch {env['torch']}"
        )
        lines += ["", table(self.runs), ""]
        for run in self.runs:
            prefix = f"tokens={run['tokens']}: " if len(self.runs) > 1 else ""
            lines += [prefix + line for line in notes(run) + verdict(run)]
        return "\n".join([*lines, "", *legend(self.runs, env)])

    def save(self, folder: Union[str, os.PathLike]) -> list[Path]:
        """Writes profile.json and profile.txt into `folder` (made if needed); returns the paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "profile.json", folder / "profile.txt"]
        write_text(paths[0], json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        write_text(paths[1], f"{self}\n")
        return paths


def _plain(value: Any) -> Any:
    """`value` with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def profile(
    model: nn.Module,
    inputs: Any,
    *,
    repeats: Optional[int] = None,
    seconds: float = 20.0,
    compile: bool = True,
    out: Optional[Union[str, os.PathLike]] = None,
    name: Optional[str] = None,
    progress: bool = False,
) -> ProfileResult:
    """Runs `model` on `inputs` eager, under torch.compile, and fused (a copy; the model itself is not changed).

    inputs: a tensor, a tuple or list of positional arguments, or a mapping of keyword arguments; on the model's
    device, a CPU or a CUDA GPU. There launches are counted from kernels and times are CUDA events'.
    repeats: how often each variant is timed, interleaved. None: as often as fits into `seconds` for the slowest
    variant, 3 to 50 times. compile=False leaves torch.compile out. out: a folder for eager.trace.json,
    compiled.trace.json, fused.trace.json, report.html (those traces analysed and compared), profile.json and
    profile.txt. progress: a line on stderr.

    The model runs in evaluation mode and without gradients; its training flags are put back afterwards. What the
    model raises in eager mode is raised here; a failure of the other variants is a row of the table.

    Raises TypeError if `model` is no nn.Module, ValueError for inputs, repeats or seconds that are not accepted,
    and NotImplementedError if model and inputs are not on one CPU or CUDA device.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: must be an nn.Module, got {type(model).__name__}")
    if repeats is not None and (isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1):
        raise ValueError(f"repeats: got {repeats!r}, accepted are None or an int of 1 or more")
    if not seconds > 0:
        raise ValueError(f"seconds: got {seconds!r}, accepted is a number above 0")
    args, kwargs = call_arguments(inputs)
    name = type(model).__name__ if name is None else name
    case = Case(name, "", model, args, kwargs)
    return profile_cases([case], Options(repeats, seconds, compile, _folder(out)), progress)


def _folder(out: Optional[Union[str, os.PathLike]]) -> Optional[Path]:
    if out is None:
        return None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def profile_cases(cases: list[Case], options: Options, progress: bool = False) -> ProfileResult:
    """profile() for several inputs of one model; writes the files of the last into options.out."""
    runs = []
    for index, case in enumerate(cases):
        device_of(case)  # refused before anything runs
        last = index == len(cases) - 1
        here = Options(options.repeats, options.seconds, options.compile, options.out if last else None)
        count = f" ({index + 1} of {len(cases)})" if len(cases) > 1 else ""
        runs.append(run_case(case, here, Progress(progress, f"{case.name}{count}: ")))
    result = ProfileResult(environment(torch.get_num_threads()), runs)
    if options.out is not None:
        result.save(options.out)
        result.report = write_report(options.out, runs[-1]["traces"])
    return result


def write_report(folder: Path, traces: list[str]) -> Optional[Path]:
    """report.html: the MLPs of the first trace, and what the others changed about them. None where there is none."""
    if not traces:
        return None
    path = folder / "report.html"
    write_text(path, page_of([analyze(folder / name) for name in traces]))
    return path
