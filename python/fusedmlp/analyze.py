"""Reading a profiler's trace: which MLPs it holds, what each costs and why, and what fusing would save."""

from __future__ import annotations

import html
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional, Sequence, Union

from .capi import CORE, _call
from .profile_ops import write_text

PathLike = Union[str, os.PathLike]
_SAVED = '{"schema":"fusedmlp-'  # how a saved analysis starts, without spaces


class Record(dict):
    """A dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(self)}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if key.isidentifier())]


class Mlp(Record):
    """A row: one MLP over its layers and steps. Keys as in the JSON; None is what the trace does not say."""

    def __repr__(self) -> str:
        widths = "x".join("?" if self.get(key) is None else str(self[key]) for key in ("d_in", "d_hidden"))
        parts = [f"{self.get('kind', '?')} {widths}"]
        if self.get("tokens") is not None:
            parts.append(f"{self['tokens']} tokens")
        if self.get("dtype"):
            parts.append(self["dtype"])
        parts.append(f"{self.get('us_per_instance', math.nan):.1f} us x {self.get('instances', '?')}")
        return f"<Mlp {', '.join(parts)}: {self.get('verdict', '?')}>"


class _Report(Record):
    """What an Analysis and a Comparison share: their layouts."""

    def table(self, width: Optional[int] = None, color: Optional[bool] = None) -> str:
        """The report as text. width: columns, None for those of the terminal; color: None for where stdout is one."""
        tty = sys.stdout is not None and sys.stdout.isatty()
        if width is None:
            width = shutil.get_terminal_size((80, 24)).columns if tty else 80
        if isinstance(width, bool) or not isinstance(width, int):
            raise TypeError(f"width: must be an int or None, got {type(width).__name__}")
        if not 0 < width < 2**31:
            raise ValueError(f"width: got {width}, accepted are columns above 0")
        if color is None:
            color = tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        elif not isinstance(color, bool):
            raise TypeError(f"color: must be a bool or None, got {type(color).__name__}")
        return self._text(json.dumps({"width": width, "color": color}).encode())

    def html(self) -> str:
        """The report as one self-contained page."""
        raise NotImplementedError

    def _text(self, options: bytes) -> str:
        raise NotImplementedError

    def save_html(self, path: PathLike) -> Path:
        """Writes html() to `path`, whole or not at all; returns the path."""
        return _write(path, self.html())

    def save_json(self, path: PathLike) -> Path:
        """Writes the JSON to `path`, whole or not at all; returns the path. analyze() and compare() read it back."""
        return _write(path, json.dumps(self, indent=1, allow_nan=False) + "\n")

    def __str__(self) -> str:
        return self.table(color=False)

    def _repr_html_(self) -> str:  # notebooks; in a frame, so that its style stays its own
        page = html.escape(self.html(), quote=True)
        return f'<iframe title="fusedmlp report" sandbox srcdoc="{page}" width="100%" height="720"></iframe>'


class Analysis(_Report):
    """What a trace holds, as the object of schema "fusedmlp-analysis-1": `trace`, `summary`, `mlps`, `totals`.

    print() it or take table(); keys are attributes too.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({key: _record(value) for key, value in values.items()})
        self["mlps"] = [Mlp(row) for row in self.get("mlps", [])]

    def __repr__(self) -> str:
        return f"<fusedmlp.Analysis of {self.trace.path}: {self.summary.headline}>"

    def _text(self, options: bytes) -> str:
        return _call(CORE.fusedmlp_analysis_text, _bytes(self), options)["text"]

    def html(self) -> str:
        return _call(CORE.fusedmlp_analysis_html, _bytes(self))["html"]

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each MLP; the parts of its time in columns breakdown_*. Needs pandas."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas") from None
        rows = []
        for mlp in self["mlps"]:
            row = {key: value for key, value in mlp.items() if not isinstance(value, (list, dict))}
            row.update({f"breakdown_{key}": value for key, value in (mlp.get("breakdown") or {}).items()})
            row["kernels"] = len(mlp.get("kernels", []))
            rows.append(row)
        return pandas.DataFrame(rows)


class Comparison(_Report):
    """Two traces side by side, as the object of schema "fusedmlp-comparison-1"; `before` and `after` are analyses."""

    def __init__(self, before: Analysis, after: Analysis) -> None:
        values = _call(CORE.fusedmlp_compare_json, _bytes(before), _bytes(after))["comparison"]
        super().__init__({key: _record(value) for key, value in values.items()})
        # Attributes, not keys: the JSON holds what differs.
        object.__setattr__(self, "before", before)
        object.__setattr__(self, "after", after)

    def __repr__(self) -> str:
        return f"<fusedmlp.Comparison: {self.headline}>"

    def _text(self, options: bytes) -> str:
        return _call(CORE.fusedmlp_compare_text, _bytes(self.before), _bytes(self.after), options)["text"]

    def html(self) -> str:
        return page_of([self.before, self.after])


def analyze(
    trace: Any,
    *,
    target: Optional[str] = None,
    peak_flops: Optional[float] = None,
    peak_bandwidth: Optional[float] = None,
    python_functions: bool = False,
) -> Analysis:
    """Which MLPs a trace holds, what each costs and why, and what fusing would save.

    trace: a path to a trace of torch.profiler (.json or .json.gz; of a GPU or a CPU) or to a saved analysis, or a
    finished torch.profiler.profile. target: a GPU to predict for, such as "H100"; None: the trace's own.
    peak_flops (FLOP/s of the MLPs' dtype) and peak_bandwidth (bytes/s): of the device, where they are better known.
    python_functions: keep the trace's python_function events. A saved analysis takes none of these.

    Raises TypeError or ValueError naming the argument that is wrong, ValueError for a file that is no trace. A
    damaged trace gives what could be read, and a warning in `.trace.warnings`.
    """
    options: dict[str, Any] = {"python_functions": _flag(python_functions, "python_functions")}
    if target is not None:
        if not isinstance(target, str):
            raise TypeError(f"target: must be a str or None, got {type(target).__name__}")
        options["target"] = target
    for name, value in (("peak_flops", peak_flops), ("peak_bandwidth", peak_bandwidth)):
        if value is not None:
            options[name] = _positive(value, name)
    if not isinstance(trace, (str, os.PathLike)) and callable(getattr(trace, "export_chrome_trace", None)):
        return _analyze_profiler(trace, options)
    path = _path(trace, "trace")
    if not _is_saved(path):
        return _analyze_file(path, options)
    for name, value in options.items():
        if value is not False:
            raise ValueError(
                f"{name}: {path} is a saved analysis, which keeps the device and the events that it was made with: "
                "analyze the trace again"
            )
    return _load(path)


def compare(a: Any, b: Any) -> Comparison:
    """What changed from `a` to `b`: matched MLPs, launches, bytes, times, kernels that came and went.

    Each is an Analysis, or what analyze() takes.
    """
    before, after = (
        value if isinstance(value, Analysis) else _analyze_as(value, name)
        for value, name in ((a, "a"), (b, "b"))
    )
    return Comparison(before, after)


def explain_kernel(name: str) -> Optional[str]:
    """What the name of a GPU kernel says, in words; None for a name that is not known."""
    if not isinstance(name, str):
        raise TypeError(f"name: must be a str, got {type(name).__name__}")
    return _call(CORE.fusedmlp_explain_kernel_json, name.replace("\0", " ").encode("utf-8", "replace"))[
        "words"
    ]


def page_of(analyses: Sequence[Analysis]) -> str:
    """One page: the first analysis, or (of several) what the others changed about it."""
    if len(analyses) == 1:
        return analyses[0].html()
    return _call(CORE.fusedmlp_compare_html, json.dumps(list(analyses)).encode())["html"]


def _analyze_as(value: Any, name: str) -> Analysis:
    try:
        return analyze(value)
    except (TypeError, ValueError) as error:
        text = str(error)
        raise type(error)(f"{name}: {text.removeprefix('trace: ')}") from None


def _analyze_file(path: Path, options: dict[str, Any]) -> Analysis:
    try:
        answer = _call(CORE.fusedmlp_analyze_json, os.fsencode(path), json.dumps(options).encode())
    except (ValueError, RuntimeError) as error:
        text = str(error)  # the library calls it "path"
        if text.startswith("path: "):
            raise type(error)(f"trace: {text.removeprefix('path: ')}") from None
        raise
    return Analysis(answer["analysis"])


def _analyze_profiler(profiler: Any, options: dict[str, Any]) -> Analysis:
    with tempfile.TemporaryDirectory(prefix="fusedmlp-trace-") as folder:
        path = Path(folder) / "trace.json"
        try:
            profiler.export_chrome_trace(str(path))
        except (AssertionError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"trace: this profiler has nothing to export: {error or 'it did not run'}"
            ) from None
        analysis = _analyze_file(path, options)
    analysis["trace"]["path"] = "torch.profiler"
    return analysis


def _is_saved(path: Path) -> bool:
    try:
        if not path.is_file():
            return False  # a pipe can be read only once
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:
        return False  # analyze says why it cannot be read
    return b"".join(start.split()).startswith(_SAVED.encode())


def _load(path: Path) -> Analysis:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"trace: {path}: {error}") from None
    if values.get("schema") != "fusedmlp-analysis-1" or not {"trace", "summary", "mlps"} <= values.keys():
        raise ValueError(
            f"trace: {path}: has the schema {values.get('schema')!r}, accepted is 'fusedmlp-analysis-1'"
        )
    return Analysis(values)


def _record(value: Any) -> Any:
    if isinstance(value, dict):
        return Record({key: _record(item) for key, item in value.items()})
    return [_record(item) for item in value] if isinstance(value, list) else value


def _bytes(values: dict[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode()


def _path(value: Any, name: str) -> Path:
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        accepted = "a path" if name != "trace" else "a path or a torch.profiler.profile"
        raise TypeError(f"{name}: must be {accepted}, got {type(value).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"{name}: got {text!r}, accepted is the path of a file")
    return Path(text)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: must be a bool, got {type(value).__name__}")
    return value


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: must be a number or None, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: got {value!r}, accepted is a number above 0")
    return float(value)


def _write(path: PathLike, text: str) -> Path:
    target = _path(path, "path")
    write_text(target, text)
    return target
