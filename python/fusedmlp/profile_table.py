"""The table that `profile` prints, and the sentences under it."""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence

# Medians closer than this are called equal: repeated runs differ by as much.
_TIE = 0.02
# Half the distance between the quartiles, as a share of the median, above which the reader is told.
_NOISY = 0.15


def seconds_text(microseconds: Optional[float]) -> str:
    if microseconds is None:
        return "-"
    if microseconds < 1e3:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def bytes_text(count: Optional[float]) -> str:
    if count is None:
        return "-"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B" if count else "0"


def rate_text(rate: Optional[float]) -> str:
    if rate is None:
        return "-"
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if rate >= size:
            return f"{rate / size:.1f} {unit}"
    return f"{rate:.0f}"


_COLUMNS = (
    "variant", "ops", "read*", "written*", "mean", "median", "tokens/s", "GFLOP/s", "speed-up", "of limit",
    "extra mem", "error fp64", "eager's",
)  # fmt: skip
_LEVELS = (("mlp", "the MLPs alone"), ("model", "the whole model"))


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{value * 100:.0f} %"


def _times(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _cosine(value: float) -> str:
    """Rounded down, so that what is printed was reached."""
    return f"{math.floor(value * 1e9) / 1e9:.9f}"


def _error(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.1e}"


def _cells(row: dict[str, Any], level: str, errors: dict[str, float]) -> list[str]:
    values = row.get(level, {})
    error = errors.get(row["variant"])
    return [
        row["variant"],
        str(values.get("ops", "-")),
        bytes_text(values.get("modelled_bytes_read")),
        bytes_text(values.get("modelled_bytes_written")),
        seconds_text(values.get("mean_us")),
        seconds_text(values.get("median_us")),
        rate_text(values.get("tokens_per_s")),
        "-" if values.get("gflops") is None else f"{values['gflops']:.1f}",
        _times(values.get("speedup")),
        _percent(values.get("limit_share")),
        bytes_text(row.get("extra_bytes")),
        _error(error),
        "-" if error is None else _error(errors.get("eager")),
    ]


def _errors(run: dict[str, Any], level: str) -> dict[str, float]:
    if level == "model":
        return (run.get("agreement") or {}).get("error_fp64", {})
    return {row["variant"]: row["mlp"]["error_fp64"] for row in run["rows"] if "mlp" in row}


def _tokens(run: dict[str, Any]) -> str:
    return "1 token" if run["tokens"] == 1 else f"{run['tokens']} tokens"


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each variant; a block for the MLPs alone, one for the whole model, for each token count."""
    blocks: list[tuple[str, list[list[str]]]] = []
    for run in runs:
        for level, what in _LEVELS:
            if not any(level in row for row in run["rows"]):
                continue
            errors = _errors(run, level)
            title = f"{what}, {_tokens(run)}" if len(runs) > 1 and run["tokens"] else what
            blocks.append((title, [_cells(row, level, errors) for row in run["rows"]]))
    rows = [list(_COLUMNS)] + [row for _, block in blocks for row in block]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]

    def line(row: list[str]) -> str:
        return "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])])

    rule = "-" * len(line(rows[0]))
    lines = [line(rows[0])]
    for title, block in blocks:
        lines += [f"-- {title} {rule[len(title) + 4:]}" if len(blocks) > 1 else rule, *map(line, block)]
    return "\n".join(lines)


def _row(run: dict[str, Any], variant: str) -> dict[str, Any]:
    return next((row for row in run["rows"] if row["variant"] == variant), {})


def verdict(run: dict[str, Any]) -> list[str]:
    """Whether fusing paid, in words, for the MLPs alone and for the whole model."""
    fused = _row(run, "fused")
    if fused.get("status") == "failed":
        return [f"fusing failed: {fused['reason']}"]
    if fused.get("status") != "ok":
        return [f"fusing did not pay here: {fused.get('reason')}"]
    lines = []
    for level, what in _LEVELS:
        if level not in fused or "median_us" not in fused[level]:
            continue
        ours = fused[level]["median_us"]
        others = {
            row["variant"]: row[level]["median_us"]
            for row in run["rows"]
            if row["variant"] in ("eager", "compiled") and "median_us" in row.get(level, {})
        }
        best = min(others, key=others.get)
        comparison = f"{seconds_text(ours)} fused against {seconds_text(others[best])} {best}"
        ratio = others[best] / ours
        if ratio >= 1 + _TIE:
            lines.append(f"fusing paid for {what}: {comparison}, {ratio:.2f}x the best of the others")
        elif ratio > 1 - _TIE:
            lines.append(f"fusing did not pay here for {what}: {comparison}, a tie within what this can tell")
        else:
            than_eager = others["eager"] / ours
            rest = f"; it is {than_eager:.2f}x eager" if best != "eager" else ""
            lines.append(f"fusing did not pay here for {what}: {comparison}, {1 / ratio:.2f}x slower{rest}")
    return lines


def notes(run: dict[str, Any]) -> list[str]:
    """What a reader needs to know to believe the table."""
    lines = []
    for row in run["rows"]:
        if row["reason"]:
            lines.append(f"{row['variant']}: {row['reason']}")
        elif row.get("compile_seconds"):
            lines.append(
                f"compiled: compiling and the first run took {row['compile_seconds']:.1f} s, not counted above"
            )
    for level, what in _LEVELS:
        timing = run["rows"][0].get(level)
        if timing is not None:
            lines.append(
                f"{what}: {timing['repeats']} interleaved repeats, caches as repeated calls leave them"
            )
            rows = [row for row in run["rows"] if row.get(level, {}).get("spread", 0) > _NOISY]
            if rows:
                scatter = ", ".join(f"{row['variant']} +-{row[level]['spread'] * 100:.0f} %" for row in rows)
                lines.append(f"{what}: repeats scatter ({scatter}); is something else using the machine?")
    lines += _shares(run)
    agreement = run.get("agreement") or {}
    if "fused_to_eager" in agreement:
        lines.append(
            f"outputs of the whole model: fused differs from eager by {agreement['fused_to_eager']:.1e}"
        )
    if "min_cosine_fused_to_eager" in agreement:
        text = (
            f"sentence embeddings: cosine of fused with eager >= {_cosine(agreement['min_cosine_fused_to_eager'])} "
            f"over {agreement['sentences']} sentences"
        )
        if "min_cosine_to_fp64" in agreement:
            against = ", ".join(f"{k} {_cosine(v)}" for k, v in agreement["min_cosine_to_fp64"].items())
            text += f"; with fp64: {against}"
        lines.append(text)
    return lines


def _shares(run: dict[str, Any]) -> list[str]:
    """A ratio of two timings that were not interleaved: what the machine did meanwhile is all in it."""
    rows = [row for row in run["rows"] if "mlp_share" in row.get("model", {})]
    if not rows:
        return []
    what = "share of the MLPs in the model's time: "
    if any(row[level].get("spread", 0) > _NOISY for row in rows for level in ("mlp", "model")):
        return [f"{what}left out, the two are timed one after the other and repeats scatter"]
    if any(row["model"]["mlp_share"] > 1 for row in rows):
        return [
            f"{what}left out, the two are timed one after the other and the part came out longer than the whole"
        ]
    shares = (f"{row['variant']} {row['model']['mlp_share'] * 100:.0f} %" for row in rows)
    return [what + ", ".join(shares)]


def legend(runs: Sequence[dict[str, Any]], environment: dict[str, Any]) -> list[str]:
    """What the columns mean; only those that the table fills."""
    lines = [
        "ops: kernels, copies and fills on the GPU; times are between CUDA events around calls queued in a row",
    ]
    if runs[0]["device"] == "cpu":
        lines = [
            "ops: operations dispatched that compute, the CPU's kernel launches (cpu_op events of torch.profiler without",
            "  views, allocations and composites; a kernel made by torch.compile or fusedmlp counts one)",
        ]
    if any(run["mlps"] for run in runs):
        used, present = environment["threads"], runs[0]["limit_cores"]
        on_cpu = runs[0]["device"] == "cpu"
        extra = f"; of all {present} cores, {used} used" if on_cpu and used != present else ""
        lines += [
            "read*, written*: bytes, modelled from shapes",
            f"of limit: against the larger of peak arithmetic and reading weights and x and writing y once{extra}",
            "extra mem: packed copies of weights",
            "error fp64: ||y - y64|| / ||y64|| with the same weights and input in fp64 (of each MLP, up to 1024 rows);",
            "  eager's own error beside it",
        ]
        if any("model" in row and "mlp" in row for run in runs for row in run["rows"]):
            lines += [
                "the MLPs alone: the products and the activation of each MLP, one MLP after another, on the input that",
                "  it gets inside the model; no attention, normalisation or residual",
            ]
    return lines
